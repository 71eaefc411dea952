//! How a pod's result is laid out, so that a later DEL, also one of the reference, finds in it what ADD did.
//!
//! ```text
//!   interfaces[0]  host end          name
//!   interfaces[1]  pod end           name, sandbox, mac = decimal route table of the address's ENI
//!   interfaces[2]  dummy<suffix>     sandbox = decimal device index of the ENI, mac = "0" (a VLAN id for a branch ENI's pod)
//!   ips[0]         address /32       interface = 1
//! ```
//!
//! The numbers in `mac` and `sandbox` are the reference's way of carrying state from ADD to DEL when its daemon is down; both makes of
//! plugin write and read them, so that either may delete what the other added.

use std::net::IpAddr;

use ipnet::IpNet;
use vpc_model::{LinkName, PodRef, RouteTable, dummy_name};

use super::{CniResult, Interface, IpConfig};

/// How the name of the dummy entry begins. No kernel link is ever called so: the whole name has 16 bytes.
const DUMMY: &str = "dummy";
/// How the names of a pod's further links begin: `mNicIf1`, `mNicIf2` …
const FURTHER: &str = "mNicIf";

/// One pod as ADD wired it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wired {
    /// The pod.
    pub pod: PodRef,
    /// `CNI_NETNS`.
    pub netns: String,
    /// The pod's address.
    pub address: IpAddr,
    /// Route table of the address's ENI.
    pub table: RouteTable,
    /// Device index of the address's ENI.
    pub device: i32,
    /// Host end of the pair.
    pub host_link: LinkName,
    /// Pod end of the pair.
    pub pod_link: LinkName,
}

impl Wired {
    /// The result that tells it.
    #[must_use]
    pub fn to_result(&self) -> CniResult {
        let host = Interface { name: self.host_link.to_string(), ..Interface::default() };
        let pod = Interface {
            name: self.pod_link.to_string(),
            mac: self.table.0.to_string(),
            sandbox: self.netns.clone(),
            ..Interface::default()
        };
        let dummy = Interface {
            name: dummy_name(&self.pod),
            mac: "0".to_owned(),
            sandbox: self.device.to_string(),
            ..Interface::default()
        };
        CniResult {
            interfaces: vec![host, pod, dummy],
            ips: vec![IpConfig { interface: Some(1), address: IpNet::from(self.address), gateway: None }],
            ..CniResult::default()
        }
    }
}

/// What a previous result tells about a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// VLAN of the pod's branch ENI, if it has one.
    pub vlan: Option<u16>,
    /// Its addresses, that of `CNI_IFNAME` first.
    pub list: Vec<Attachment>,
}

/// One address that a previous result tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The address.
    pub address: IpAddr,
    /// Route table of its ENI; `None` if the result does not say.
    pub table: Option<RouteTable>,
    /// Host end of its pair, if the entry before the pod's end can be one.
    pub host_link: Option<LinkName>,
}

impl Attachments {
    /// Finds the pod's links by their names and takes each with its own table, so that entries of plugins chained behind ours, or
    /// hardware addresses another plugin wrote over ours, neither shift nor stop anything.
    #[must_use]
    pub fn found_in(result: &CniResult, interface: &LinkName) -> Self {
        let dummy = result.interfaces.iter().find(|entry| is_dummy(&entry.name));
        let vlan = dummy.and_then(|dummy| dummy.mac.parse().ok()).filter(|vlan| *vlan != 0);
        let by_device = dummy.and_then(|dummy| dummy.sandbox.parse().ok()).map(table_of_device);
        let names = std::iter::once(interface.to_string()).chain((1..).map(|i| format!("{FURTHER}{i}")));
        let list = names.map_while(|name| position(result, &name)).enumerate().flat_map(|(nic, at)| {
            let table = result.interfaces[at].mac.parse().ok().map(table).or(by_device.filter(|_| nic == 0));
            let host_link = at.checked_sub(1).and_then(|at| host_end(&result.interfaces[at]));
            let ips = result.ips.iter().filter(move |ip| ip.interface == Some(at));
            ips.map(move |ip| Attachment { address: ip.address.addr(), table, host_link: host_link.clone() })
        });
        Self { vlan, list: list.collect() }
    }
}

fn is_dummy(name: &str) -> bool {
    name.strip_prefix(DUMMY).is_some_and(|suffix| suffix.len() == 11 && suffix.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn position(result: &CniResult, name: &str) -> Option<usize> {
    result.interfaces.iter().position(|entry| entry.name == name && !entry.sandbox.is_empty())
}

fn host_end(entry: &Interface) -> Option<LinkName> {
    if entry.sandbox.is_empty() { entry.name.parse().ok() } else { None }
}

/// The reference's numbers for the table: 0 (a branch ENI) and 1 mean main.
fn table(number: u32) -> RouteTable {
    if number > 1 { RouteTable(number) } else { RouteTable::MAIN }
}

fn table_of_device(device: u32) -> RouteTable {
    if device == 0 { RouteTable::MAIN } else { RouteTable(device.saturating_add(1)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cni::Version;

    fn wired() -> Wired {
        Wired {
            pod: PodRef { namespace: "default".into(), name: "web-1".into() },
            netns: "/var/run/netns/cni-1".into(),
            address: "10.20.10.201".parse().unwrap(),
            table: RouteTable(2),
            device: 1,
            host_link: "eni0761ccbeace".parse().unwrap(),
            pod_link: "eth0".parse().unwrap(),
        }
    }

    fn found(json: &str) -> Attachments {
        let result = CniResult::from_value(&serde_json::from_str(json).unwrap(), Version::V0_4_0).unwrap();
        Attachments::found_in(&result, &"eth0".parse().unwrap())
    }

    fn attachment(address: &str, table: Option<u32>, host: Option<&str>) -> Attachment {
        Attachment {
            address: address.parse().unwrap(),
            table: table.map(RouteTable),
            host_link: host.map(|name| name.parse().unwrap()),
        }
    }

    #[test]
    fn the_result_is_the_reference_s() {
        let json: serde_json::Value =
            serde_json::from_str(&wired().to_result().to_json(Version::V0_4_0).unwrap()).unwrap();
        let reference: serde_json::Value = serde_json::from_str(
            r#"{"cniVersion":"0.4.0",
                "interfaces":[{"name":"eni0761ccbeace"},
                              {"name":"eth0","mac":"2","sandbox":"/var/run/netns/cni-1"},
                              {"name":"dummy0761ccbeace","mac":"0","sandbox":"1"}],
                "ips":[{"version":"4","interface":1,"address":"10.20.10.201/32"}],
                "dns":{}}"#,
        )
        .unwrap();
        assert_eq!(json, reference);
    }

    #[test]
    fn what_add_wrote_del_finds_in_every_version_that_has_previous_results() {
        for version in [Version::V0_4_0, Version::V1_0_0, Version::V1_1_0] {
            let json = wired().to_result().to_json(version).unwrap();
            let result = CniResult::from_value(&serde_json::from_str(&json).unwrap(), version).unwrap();
            let found = Attachments::found_in(&result, &"eth0".parse().unwrap());
            assert_eq!(found.vlan, None);
            assert_eq!(found.list, [attachment("10.20.10.201", Some(2), Some("eni0761ccbeace"))]);
        }
    }

    #[test]
    fn entries_of_chained_plugins_change_nothing() {
        let found = found(
            r#"{"interfaces":[{"name":"eni0761ccbeace"},{"name":"eth0","mac":"2","sandbox":"/n"},
                  {"name":"dummy0761ccbeace","mac":"0","sandbox":"1"},
                  {"name":"veth12345678","mac":"0a:00:00:00:00:01"},{"name":"v6if0","mac":"0a:00:00:00:00:02","sandbox":"/n"}],
                "ips":[{"version":"4","interface":1,"address":"10.20.10.201/32"},{"version":"6","interface":4,"address":"fd00::5/118"}]}"#,
        );
        assert_eq!(found.list, [attachment("10.20.10.201", Some(2), Some("eni0761ccbeace"))]);
    }

    #[test]
    fn a_hardware_address_in_place_of_the_table_falls_back_to_the_device() {
        let with = |device: &str| {
            found(&format!(
                r#"{{"interfaces":[{{"name":"eni0761ccbeace"}},{{"name":"eth0","mac":"0a:00:00:00:00:01","sandbox":"/n"}},
                      {{"name":"dummy0761ccbeace","mac":"0","sandbox":"{device}"}}],
                    "ips":[{{"interface":1,"address":"10.0.0.9/32"}}]}}"#
            ))
            .list
        };
        assert_eq!(with("0"), [attachment("10.0.0.9", Some(254), Some("eni0761ccbeace"))]);
        assert_eq!(with("3"), [attachment("10.0.0.9", Some(4), Some("eni0761ccbeace"))]);
        assert_eq!(with("x"), [attachment("10.0.0.9", None, Some("eni0761ccbeace"))]);
    }

    #[test]
    fn pods_on_several_cards_keep_a_table_each() {
        let found = found(
            r#"{"interfaces":[{"name":"eniffd96169f77"},{"name":"eth0","mac":"2","sandbox":"/n"},
                  {"name":"enif0b05dbe69f"},{"name":"mNicIf1","mac":"10101","sandbox":"/n"},
                  {"name":"dummyffd96169f77","mac":"0","sandbox":"1"}],
                "ips":[{"interface":1,"address":"10.0.0.9/32"},{"interface":3,"address":"10.0.1.9/32"}]}"#,
        );
        assert_eq!(
            found.list,
            [
                attachment("10.0.0.9", Some(2), Some("eniffd96169f77")),
                attachment("10.0.1.9", Some(10101), Some("enif0b05dbe69f")),
            ]
        );
    }

    #[test]
    fn a_branch_eni_s_pod_is_told_by_its_vlan() {
        let found = found(
            r#"{"interfaces":[{"name":"vlan9e018d76bb3"},{"name":"eth0","mac":"0","sandbox":"/n"},{"name":"dummy9e018d76bb3","mac":"5"}],
                "ips":[{"interface":1,"address":"10.20.11.77/32","gateway":"10.20.8.1"}]}"#,
        );
        assert_eq!(found.vlan, Some(5));
        assert_eq!(found.list, [attachment("10.20.11.77", Some(254), Some("vlan9e018d76bb3"))]);
    }

    #[test]
    fn results_of_others_tell_nothing() {
        assert_eq!(found("{}"), Attachments::default());
        assert_eq!(found(r#"{"ips":[{"address":"10.0.0.9/32"}]}"#).list, []);
        let old =
            found(r#"{"interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.0.0.9/32"}]}"#);
        assert_eq!(old.list, [attachment("10.0.0.9", None, None)]);
    }
}
