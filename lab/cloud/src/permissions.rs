//! Rules of security groups as the API writes them: permissions, each with several peers.

use vpc_aws::ec2::shapes::{IpPermission, IpRange, UserIdGroupPair};

use crate::spec::{RulePeer, Traffic};
use crate::world::Rule;

/// Rules as EC2 lists them: those for the same traffic together.
pub(crate) fn permissions(rules: &[Rule], account: &str) -> Vec<IpPermission> {
    let mut shown: Vec<(Traffic, IpPermission)> = Vec::new();
    for rule in rules.iter().map(|own| &own.rule) {
        let at = shown.iter().position(|(traffic, _)| *traffic == rule.traffic).unwrap_or_else(|| {
            shown.push((rule.traffic, permission(rule.traffic)));
            shown.len() - 1
        });
        let Some((_, permission)) = shown.get_mut(at) else { continue };
        match &rule.peer {
            RulePeer::Cidr(cidr) => {
                permission.ip_ranges.push(IpRange { cidr_ip: *cidr, description: rule.description.clone() });
            }
            RulePeer::Group(group) => permission.groups.push(UserIdGroupPair {
                user_id: Some(account.to_owned()),
                description: rule.description.clone(),
                ..UserIdGroupPair::new(group.clone())
            }),
        }
    }
    shown.into_iter().map(|(_, permission)| permission).collect()
}

/// A permission for some traffic, with nobody in it yet.
fn permission(traffic: Traffic) -> IpPermission {
    let (protocol, ports) = words(traffic);
    IpPermission {
        ip_protocol: protocol,
        from_port: ports.map(|(from, _)| from),
        to_port: ports.map(|(_, to)| to),
        ..IpPermission::default()
    }
}

/// Protocol and port range of some traffic in EC2's words.
pub(crate) fn words(traffic: Traffic) -> (String, Option<(i32, i32)>) {
    let any = |number: Option<u8>| number.map_or(-1, i32::from);
    match traffic {
        Traffic::All => ("-1".to_owned(), None),
        Traffic::Tcp(from, to) => ("tcp".to_owned(), Some((from.into(), to.into()))),
        Traffic::Udp(from, to) => ("udp".to_owned(), Some((from.into(), to.into()))),
        Traffic::Icmp(kind, code) => ("icmp".to_owned(), Some((any(kind), any(code)))),
        Traffic::Protocol(number) => (number.to_string(), None),
    }
}
