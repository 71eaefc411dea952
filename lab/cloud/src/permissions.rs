//! Rules of security groups as the API writes them: permissions, each with several peers.

use vpc_aws::ec2::shapes::{IpPermission, IpRange, RevokedSecurityGroupRule, UserIdGroupPair};
use vpc_model::SecurityGroupId;

use crate::error::ApiError;
use crate::spec::{GroupRule, RulePeer, Traffic};
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

/// The rules that a permission stands for.
///
/// # Errors
/// What is wrong with its protocol, ports or peers.
pub(crate) fn read_permission(permission: &IpPermission) -> Result<Vec<GroupRule>, ApiError> {
    let traffic = read_traffic(permission)?;
    if let Some(range) = permission.ipv6_ranges.first() {
        return Err(ApiError::unsupported(format!("This cloud has no IPv6: {}", range.cidr_ipv6)));
    }
    if let Some(list) = permission.prefix_list_ids.first() {
        let text = format!("The prefix list ID '{}' does not exist", list.prefix_list_id);
        return Err(ApiError::client("InvalidPrefixListID.NotFound", text));
    }
    let networks = permission.ip_ranges.iter().map(|range| GroupRule {
        traffic,
        peer: RulePeer::Cidr(range.cidr_ip.trunc()),
        description: range.description.clone(),
    });
    let groups = permission.groups.iter().map(|pair| GroupRule {
        traffic,
        peer: RulePeer::Group(pair.group_id.clone()),
        description: pair.description.clone(),
    });
    let rules: Vec<_> = networks.chain(groups).collect();
    if rules.is_empty() { Err(ApiError::missing("ipRanges or groups")) } else { Ok(rules) }
}

fn read_traffic(permission: &IpPermission) -> Result<Traffic, ApiError> {
    let protocol = permission.ip_protocol.to_ascii_lowercase();
    let ports = || {
        let both = permission.from_port.zip(permission.to_port);
        let (from, to) = both.ok_or_else(|| {
            ApiError::value("Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
        })?;
        match (u16::try_from(from), u16::try_from(to)) {
            (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
            _ => {
                Err(ApiError::value(format!("Invalid value '{from}-{to}' for portRange. Expected 0 to 65535, rising.")))
            }
        }
    };
    match protocol.as_str() {
        "-1" | "all" => Ok(Traffic::All),
        "tcp" | "6" => ports().map(|(from, to)| Traffic::Tcp(from, to)),
        "udp" | "17" => ports().map(|(from, to)| Traffic::Udp(from, to)),
        "icmp" | "1" => read_icmp(permission.from_port, permission.to_port),
        "icmpv6" => Ok(Traffic::Protocol(58)),
        other => other.parse().map(Traffic::Protocol).map_err(|_| {
            ApiError::value(format!("Invalid value '{}' for IP protocol. Unknown protocol.", permission.ip_protocol))
        }),
    }
}

fn read_icmp(kind: Option<i32>, code: Option<i32>) -> Result<Traffic, ApiError> {
    let number = |what: &str, given: Option<i32>| match given {
        None | Some(-1) => Ok(None),
        Some(given) => match u8::try_from(given) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(ApiError::value(format!("ICMP {what} ({given}) out of range: -1 or 0 to 255"))),
        },
    };
    match (number("type", kind)?, number("code", code)?) {
        (None, Some(code)) => Err(ApiError::value(format!("ICMP code ({code}) needs an ICMP type"))),
        (kind, code) => Ok(Traffic::Icmp(kind, code)),
    }
}

/// A rule as EC2's refusals spell it.
pub(crate) fn words_of(rule: &GroupRule) -> String {
    let peer = match &rule.peer {
        RulePeer::Cidr(cidr) => cidr.to_string(),
        RulePeer::Group(group) => group.to_string(),
    };
    match words(rule.traffic) {
        (_, None) if rule.traffic == Traffic::All => format!("peer: {peer}, ALL, ALLOW"),
        (protocol, None) => format!("peer: {peer}, {protocol}, ALLOW"),
        (protocol, Some((from, to))) => {
            let protocol = protocol.to_ascii_uppercase();
            format!("peer: {peer}, {protocol}, from port: {from}, to port: {to}, ALLOW")
        }
    }
}

/// A rule that is gone. Where a permission leaves ports out, it has -1.
pub(crate) fn show_revoked(own: &Rule, group: &SecurityGroupId, is_egress: bool) -> RevokedSecurityGroupRule {
    let (protocol, ports) = words(own.rule.traffic);
    let (from, to) = ports.unwrap_or((-1, -1));
    let (cidr, referenced) = match &own.rule.peer {
        RulePeer::Cidr(cidr) => (Some(*cidr), None),
        RulePeer::Group(group) => (None, Some(group.clone())),
    };
    RevokedSecurityGroupRule {
        security_group_rule_id: own.id.clone(),
        group_id: group.clone(),
        is_egress,
        ip_protocol: protocol,
        from_port: Some(from),
        to_port: Some(to),
        cidr_ipv4: cidr,
        cidr_ipv6: None,
        prefix_list_id: None,
        referenced_group_id: referenced,
        description: own.rule.description.clone(),
    }
}
