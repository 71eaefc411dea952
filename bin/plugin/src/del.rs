//! DEL: take the pod's rules and route away, give its address back. The link dies with the pod's namespace.
//!
//! ```text
//!   prevResult -----> addresses still ours --unwire--+
//!                                                    v
//!                     DelNetwork --> addresses not yet unwired --unwire--> DeletePodNp (if a mode is set)
//!                        \--no answer: the rules are gone already; the daemon takes the address back when it is up again
//! ```
//!
//! The rules go first: with a short cool-down the daemon may give the address to the next pod in the very moment it has it back, and
//! that pod's rules look just like these. And what a previous result tells may be long out of date (DELs are repeated, for weeks if
//! need be), so an address whose route leads to someone else's link is left alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use vpc_model::{LinkName, RouteTable, WallTime};
use vpc_wire::cni::{Attachments, CniError, ErrorCode};
use vpc_wire::rpc::client::CallError;
use vpc_wire::rpc::pb::DelNetworkReply;
use vpc_wire::tombstone;

use crate::call::Call;
use crate::daemon::{self, Daemon};
use crate::failpoint::Point;
use crate::host::{self, Host};
use crate::policy;

/// An address to be untied from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tie {
    pub(crate) address: Ipv4Addr,
    /// Table of its ENI; `None`: not known, any.
    pub(crate) table: Option<RouteTable>,
    pub(crate) host_link: LinkName,
}

pub(crate) fn del(call: &Call) -> Result<(), CniError> {
    let own = host::check_not_own(call);
    // DEL does nothing in the pod's namespace. One that is named by a process (`/proc/PID/ns/net`) may have become the host's when its
    // number was given again: the address must be free all the same. The reference says it afterwards, too.
    release(call)?;
    own
}

fn release(call: &Call) -> Result<(), CniError> {
    let mut host = Host::open()?;
    let remembered = remembered(call);
    if let Some(vlan) = remembered.vlan {
        return branch(call, &mut host, vlan, &remembered);
    }
    // What fails here may succeed with what the daemon tells, and the daemon must hear of the DEL in any case.
    let (mut done, mut trouble) = (BTreeSet::new(), Ok(()));
    for tie in ties(call, &remembered) {
        Point::DelBeforeUntie.pass();
        match host.untie(call, &tie) {
            Ok(()) => drop(done.insert(tie.address)),
            Err(error) => trouble = Err(error),
        }
        Point::DelAfterUntie.pass();
    }
    Point::DelBeforeAsk.pass();
    let reply = match Daemon::connect().and_then(|daemon| daemon.del(call)) {
        Ok(reply) => reply,
        Err(error) if error.is_unknown_pod() => {
            call.log.info("the daemon holds no address for the sandbox");
            return trouble.and(host.remove_own_link(call));
        }
        Err(error) => {
            without_daemon(call, &error, done.is_empty());
            return trouble;
        }
    };
    Point::DelAfterAsk.pass();
    if !reply.success {
        return Err(CniError::new(
            ErrorCode::Internal,
            format!(
                "the node daemon did not take back the address of {} and does not say why; its log does",
                call.whom()
            ),
        ));
    }
    if let (Ok(vlan @ 1..), Some(_)) = (u16::try_from(reply.pod_vlan_id), &call.netns) {
        host.untie_branch(call, vlan, told(call, &reply).first())?;
    }
    for tie in told(call, &reply).iter().filter(|tie| !done.contains(&tie.address)) {
        Point::DelBeforeUntieTold.pass();
        host.untie(call, tie)?;
        trouble = Ok(());
    }
    trouble?;
    Point::DelBeforeEnd.pass();
    policy::forget(call, &reply.network_policy_mode);
    Ok(())
}

/// What the previous result tells. An unusable one must not keep a pod from being deleted: the daemon knows the address too.
fn remembered(call: &Call) -> Attachments {
    match &call.conf.prev_result {
        None => Attachments::default(),
        Some(Ok(result)) => Attachments::found_in(result, &call.pod_link),
        Some(Err(why)) => {
            call.log.error(why);
            Attachments::default()
        }
    }
}

fn ties(call: &Call, remembered: &Attachments) -> Vec<Tie> {
    let tie = |attachment: &vpc_wire::cni::Attachment| match attachment.address {
        IpAddr::V4(address) => Some(Tie {
            address,
            table: attachment.table,
            host_link: attachment.host_link.clone().unwrap_or_else(|| call.host_link.clone()),
        }),
        IpAddr::V6(address) => {
            call.log.warn(&format!("{address} is left to the kernel: this plugin unwires IPv4 only"));
            None
        }
    };
    remembered.list.iter().filter_map(tie).collect()
}

/// What the daemon tells.
fn told(call: &Call, reply: &DelNetworkReply) -> Vec<Tie> {
    let tie = |entry: &vpc_wire::rpc::pb::IpAllocationMetadata| match daemon::address_of(entry) {
        Some(IpAddr::V4(address)) => Some(Tie {
            address,
            table: Some(daemon::table_of(entry.route_table_id)),
            host_link: call.host_link.clone(),
        }),
        _ => {
            call.log.warn(&format!("the daemon tells the addresses `{}` and `{}`: left alone", entry.ipv4, entry.ipv6));
            None
        }
    };
    reply.allocations.iter().filter_map(tie).collect()
}

/// DEL succeeds without a daemon. A note tells it, when it is up again, to take the address back.
fn without_daemon(call: &Call, error: &CallError, nothing_done: bool) {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = WallTime(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX));
    if let Err(why) = tombstone::leave_in_steps(Path::new(tombstone::TOMBSTONES), &call.sandbox, now, |step| {
        Point::from(step).reach()
    }) {
        call.log.error(&format!("no note for the daemon in {}: {why}", tombstone::TOMBSTONES));
    }
    match error {
        error if nothing_done => call.log.error(&format!(
            "{error}; there is no previous result to go by: the daemon removes the pod's rules when it is up again"
        )),
        error => call.log.error(&format!("{error}; the pod's rules were removed by the previous result")),
    }
}

/// A pod with a branch ENI, wired by the reference's plugin: its daemon keeps no book of such pods, so the previous result is all there
/// is. Without a namespace an earlier DEL has been here.
fn branch(call: &Call, host: &mut Host, vlan: u16, remembered: &Attachments) -> Result<(), CniError> {
    if call.netns.is_none() {
        call.log.info("a pod with a branch ENI and no namespace: an earlier DEL has unwired it");
        return Ok(());
    }
    host.untie_branch(call, vlan, ties(call, remembered).first())
}
