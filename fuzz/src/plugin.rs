//! What a container runtime hands to a plugin.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde_json::Value;
use vpc_model::{LinkName, PodRef, RouteTable};
use vpc_wire::cni::{
    Attachments, CniError, CniResult, EgressConf, Environment, NetConf, PodArgs, ValidAttachment, Version, Wired,
    is_identifier,
};

use crate::choice;

/// Longest value `CNI_ARGS` may hold, in bytes (RFC 1123: a DNS subdomain).
const LONGEST_ARG: usize = 253;
/// Longest error a plugin prints whatever it was given: what it quotes is cut.
const LONGEST_ERROR: usize = 4096;

/// Standard input of any verb, of both plugins.
pub fn cni_stdin(data: &[u8]) {
    match NetConf::parse(data) {
        Ok(conf) => {
            assert!(is_identifier(&conf.name), "name {:?}", conf.name);
            assert!(NetConf::MTUS.contains(&conf.mtu), "mtu {}", conf.mtu);
            if let Some(Ok(result)) = conf.prev_result {
                survives(&result, conf.version);
            }
        }
        Err(error) => is_told(&error),
    }
    if let Err(error) = EgressConf::parse(data) {
        is_told(&error);
    }
    match ValidAttachment::parse_list(data) {
        Ok(list) => assert!(list.iter().all(|one| !one.container.is_empty() && !one.interface.is_empty())),
        Err(error) => is_told(&error),
    }
}

/// The environment: `CNI_ARGS` as it is, and all variables, one behind the other with a zero byte between two.
pub fn cni_args(data: &[u8]) {
    const NAMES: [&str; 7] =
        ["CNI_ARGS", "CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_NETNS_OVERRIDE"];
    let values: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let read = Environment::read(|name| {
        let at = NAMES.iter().position(|known| *known == name)?;
        values.get(at).map(|value| OsString::from_vec(value.to_vec()))
    });
    match read {
        Ok(Environment::Called(call)) => {
            if call.command.names_a_container() {
                assert!(is_identifier(&call.container), "container {:?}", call.container);
                assert!(call.interface.is_some());
            }
            args(&call.args);
        }
        Ok(Environment::NotCalledByARuntime) => {}
        Err(error) => is_told(&error),
    }
    args(&String::from_utf8_lossy(data));
}

fn args(text: &str) {
    match PodArgs::parse(text) {
        Ok(args) => {
            for value in [&args.pod.name, &args.pod.namespace, &args.infra_container, &args.uid] {
                assert!(value.len() <= LONGEST_ARG && !value.contains(char::is_control), "value {value:?}");
            }
        }
        Err(error) => is_told(&error),
    }
}

/// A result of the plugins before this one, or of an earlier ADD of this one; the first byte chooses the version.
pub fn prev_result(data: &[u8]) {
    let (version, text) = choice(data);
    let version = Version::ALL[version % Version::ALL.len()];
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return };
    let earlier = match CniResult::from_value(&value, version) {
        Ok(earlier) => earlier,
        Err(error) => return is_told(&error.into()),
    };
    survives(&earlier, version);

    let link: LinkName = "eth0".parse().expect("a link name");
    let _ = Attachments::found_in(&earlier, &link);
    // Whatever stands before us in a chain, our own part is found again: DEL goes by it.
    let own = Wired {
        pod: PodRef { namespace: "default".into(), name: "web-1".into() },
        netns: "/var/run/netns/cni-1".into(),
        address: "10.20.10.201".parse().expect("an address"),
        table: RouteTable(2),
        device: 1,
        host_link: "eni0761ccbeace".parse().expect("a link name"),
        pod_link: link.clone(),
    };
    let own = own.to_result();
    let alone = Attachments::found_in(&own, &link);
    let merged = own.with_earlier(&earlier);
    let found = Attachments::found_in(&merged, &link);
    assert_eq!(found.vlan, alone.vlan);
    assert_eq!(found.list.first(), alone.list.first());
    survives(&merged, version);
}

/// What was read can be printed and read again, and is the same.
fn survives(result: &CniResult, version: Version) {
    let text = match result.to_json(version) {
        Ok(text) => text,
        Err(error) => return is_told(&error.into()),
    };
    let value = serde_json::from_str(&text).expect("a result is printed as JSON");
    let again = CniResult::from_value(&value, version).expect("what was printed can be read");
    // Before 0.3.0 a route belongs to an address of its family: one without is not printed.
    if version >= Version::V0_3_0 {
        // Fields newer than the version are not printed.
        assert_eq!(again.to_json(version).expect("what was printed can be printed"), text);
        assert_eq!(again.ips, result.ips);
    }
}

/// A refusal is one object of a bounded size, with code and message.
fn is_told(error: &CniError) {
    for version in Version::ALL {
        let text = error.to_json(version);
        assert!(text.len() <= LONGEST_ERROR, "{} bytes: {text}", text.len());
        let value: Value = serde_json::from_str(&text).expect("an error is printed as JSON");
        assert_eq!(value["cniVersion"], version.as_str());
        assert!(value["code"].as_u64().is_some_and(|code| code > 0));
        assert!(value["msg"].as_str().is_some_and(|msg| !msg.is_empty()));
    }
}
