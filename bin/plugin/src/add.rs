//! ADD: take an address, wire the pod, say so. Whatever fails after the address was given, everything is undone.
//!
//! ```text
//!   open the pod's namespace -> AddNetwork -> wiring(..) -> wire_pod -> EnforceNpToPod (if a mode is set) -> result
//!                                   |            any failure from here on: unwire, DelNetwork(SetupNSFailed)
//! ```

use std::io::Write as _;

use vpc_hostnet::{HostLayout, PodWiring, wiring};
use vpc_model::Mac;
use vpc_wire::cni::{CniError, CniResult, ErrorCode, Version, Wired, check_output};

use crate::call::Call;
use crate::daemon::{self, Daemon, Given};
use crate::failpoint::Point;
use crate::host::{Host, PodNetns};
use crate::policy;

pub(crate) fn add(call: &Call) -> Result<(), CniError> {
    // First what needs no undoing: a namespace that is gone must not cost an address.
    check_output()?;
    let earlier = earlier(call)?;
    let netns = PodNetns::open(call)?;
    let mut host = Host::open()?;
    Point::AddBeforeConnect.pass();
    let daemon = Daemon::connect().map_err(|error| daemon::no_address(call, &error))?;
    Point::AddBeforeAsk.pass();
    let reply = daemon.add(call).map_err(|error| daemon::no_address(call, &error))?;
    Point::AddAfterAsk.pass();
    if !reply.success {
        return Err(daemon::unexplained(call));
    }
    let done = daemon::the_one_address(call, &reply).and_then(|given| {
        call.log.info(&format!(
            "address {} of device {}, table {}, after {:?}",
            given.address,
            given.device,
            given.table,
            call.elapsed()
        ));
        wire(call, &mut host, &netns, given, &result(call, given, earlier)?, |call| {
            policy::enforce(call, &daemon, &reply.network_policy_mode)
        })
    });
    if done.is_err() {
        Point::UndoBeforeRelease.pass();
        daemon.release(call);
        Point::UndoAfterRelease.pass();
    }
    done
}

/// What plugins before this one did: the runtime is to hear of it. Before 0.3.0 nothing was passed from one plugin to the next.
fn earlier(call: &Call) -> Result<Option<&CniResult>, CniError> {
    match call.conf.prev_result.as_ref().filter(|_| call.conf.version >= Version::V0_3_0) {
        None => Ok(None),
        Some(Ok(earlier)) => Ok(Some(earlier)),
        Some(Err(why)) => Err(CniError::new(ErrorCode::Decode, format!("{} can not be wired: {why}", call.whom()))),
    }
}

fn wire(
    call: &Call,
    host: &mut Host,
    netns: &PodNetns,
    given: Given,
    result: &str,
    enforce_policies: impl FnOnce(&Call) -> Result<(), CniError>,
) -> Result<(), CniError> {
    let [host_mac, pod_mac] = random_macs()?;
    let steps = wiring(&PodWiring {
        address: given.address,
        table: given.table,
        host_link: call.host_link.clone(),
        pod_link: call.pod_link.clone(),
        host_mac,
        pod_mac,
        mtu: call.conf.mtu,
        alias: call.alias().to_string(),
        layout: HostLayout::Classic,
    });
    host.wire(call, netns, &steps)?;
    Point::WireDone.pass();
    let told = enforce_policies(call).and_then(|()| tell(result));
    if told.is_err() {
        Point::UndoBeforeUnwire.pass();
        host.take_back(call, given);
    }
    told
}

/// The result's text, made before anything is wired: a version that can not say it must not cost a rollback.
fn result(call: &Call, given: Given, earlier: Option<&CniResult>) -> Result<String, CniError> {
    let wired = Wired {
        pod: call.pod.clone(),
        netns: call.netns.clone().unwrap_or_default(),
        address: given.address.into(),
        table: given.table,
        device: given.device,
        host_link: call.host_link.clone(),
        pod_link: call.pod_link.clone(),
    };
    let own = wired.to_result();
    let whole = if let Some(earlier) = earlier { own.with_earlier(earlier) } else { own };
    Ok(whole.to_json(call.conf.version)?)
}

/// A result nobody received is a pod nobody knows of.
fn tell(result: &str) -> Result<(), CniError> {
    let mut out = std::io::stdout();
    let told =
        Point::AddBeforeResult.reach().and_then(|()| out.write_all(result.as_bytes())).and_then(|()| out.flush());
    Point::AddAfterResult.pass();
    told.map_err(|error| {
        CniError::new(ErrorCode::Io, format!("the result can not be written to standard output: {error}"))
    })
}

/// Hardware addresses for both ends of the pair: locally administered, unicast, 46 random bits each. They are seen by no one but the two
/// ends, so no list of those in use is asked for.
fn random_macs() -> Result<[Mac; 2], CniError> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes)
        .map_err(|error| CniError::new(ErrorCode::Internal, format!("the kernel gives no random bytes: {error}")))?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
    Ok([local_unicast([a, b, c, d, e, f]), local_unicast([g, h, i, j, k, l])])
}

fn local_unicast(mut bytes: [u8; 6]) -> Mac {
    bytes[0] = (bytes[0] | 0x02) & 0xfe;
    Mac(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_local_unicast_and_never_the_same() {
        let all: Vec<_> = (0..100).flat_map(|_| random_macs().unwrap()).collect();
        for mac in &all {
            assert_eq!(mac.0[0] & 0b11, 0b10, "{mac}");
        }
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(local_unicast([0xff; 6]).to_string(), "fe:ff:ff:ff:ff:ff");
        assert_eq!(local_unicast([0; 6]).to_string(), "02:00:00:00:00:00");
    }
}
