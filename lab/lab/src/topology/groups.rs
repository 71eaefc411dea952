//! Security groups: what they let through, and who is in which.
//!
//! ```text
//!   [[security_groups]]  name, ingress = [{ protocol, ports, from }], egress = [{ protocol, ports, to }]
//!   nodes, node_defaults, endpoints:  security_groups = [names]       none named: the group `default`
//! ```
//!
//! The group `default` is always there. Unless it is written it is AWS's: everything from its own members, everything out.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_cloud::{GroupRule, RulePeer, SecurityGroupSpec, Traffic, id_for};
use serde::{Deserialize, Serialize};

use super::check::{Result, unique, unknown, value};
use super::{Cidr, TopologyFile};

/// The group of who names none.
pub const DEFAULT_GROUP: &str = "default";
/// How many groups an ENI may be in: EC2's quota unless one asks for more.
const MOST_GROUPS: usize = 5;
/// Protocols that have a name here; others go by number.
const PROTOCOLS: &str = "`all`, `tcp`, `udp`, `icmp` or a protocol number from 0 to 255";

/// `[[security_groups]]`: what its members may receive and send. Answers to what was let through pass by themselves.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupFile {
    /// Name, unique. A group called `default` takes the place of the VPC's own default group.
    pub name: String,
    /// What may come to its members. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressFile>,
    /// What may go from its members. Default: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressFile>>,
}

/// A rule for what comes: `{ protocol = "tcp", ports = "80", from = "10.0.0.0/8" }`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressFile {
    /// `all` (default), `tcp`, `udp`, `icmp`, or a protocol number such as `"47"`.
    #[serde(default = "all")]
    pub protocol: String,
    /// One port (`"80"`) or a range (`"8000-8080"`), of TCP or UDP. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// From whom: a network (`"10.0.0.0/8"`), or the name of a group: all its members.
    pub from: String,
}

/// A rule for what goes: `{ protocol = "udp", ports = "53", to = "0.0.0.0/0" }`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressFile {
    /// `all` (default), `tcp`, `udp`, `icmp`, or a protocol number such as `"47"`.
    #[serde(default = "all")]
    pub protocol: String,
    /// One port (`"80"`) or a range (`"8000-8080"`), of TCP or UDP. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// To whom: a network (`"0.0.0.0/0"`), or the name of a group: all its members.
    pub to: String,
}

fn all() -> String {
    "all".to_owned()
}

/// A security group, complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Name, unique.
    pub name: String,
    /// What may come to its members.
    pub ingress: Vec<GroupRule>,
    /// What may go from its members.
    pub egress: Vec<GroupRule>,
}

impl SecurityGroup {
    /// The group as EC2 knows it.
    #[must_use]
    pub fn cloud(&self) -> SecurityGroupSpec {
        let plain = match self.name.as_str() {
            DEFAULT_GROUP => SecurityGroupSpec::default_group(DEFAULT_GROUP),
            name => SecurityGroupSpec::new(name),
        };
        SecurityGroupSpec { ingress: self.ingress.clone(), egress: self.egress.clone(), ..plain }
    }
}

impl TopologyFile {
    /// All groups, the default one first.
    pub(super) fn groups(&self) -> Result<Vec<SecurityGroup>> {
        unique("security_groups", self.security_groups.iter().map(|group| group.name.as_str()))?;
        let own = SecurityGroupSpec::default_group(DEFAULT_GROUP);
        let own = SecurityGroup { name: own.name, ingress: own.ingress, egress: own.egress };
        let written = self.security_groups.iter().map(|group| self.group(group)).collect::<Result<Vec<_>>>()?;
        let (default, others): (Vec<_>, Vec<_>) = written.into_iter().partition(|group| group.name == DEFAULT_GROUP);
        Ok(default.into_iter().chain([own]).take(1).chain(others).collect())
    }

    fn group(&self, group: &SecurityGroupFile) -> Result<SecurityGroup> {
        let field = |key: &str| format!("security_groups.{}.{key}", group.name);
        let ingress = group.ingress.iter().map(|rule| {
            let traffic = traffic(&field("ingress"), &rule.protocol, rule.ports.as_deref())?;
            Ok(GroupRule { traffic, peer: self.peer(field("ingress.from"), &rule.from)?, description: None })
        });
        let everything = [EgressFile { protocol: all(), ports: None, to: "0.0.0.0/0".to_owned() }];
        let egress = group.egress.as_deref().unwrap_or(&everything).iter().map(|rule| {
            let traffic = traffic(&field("egress"), &rule.protocol, rule.ports.as_deref())?;
            Ok(GroupRule { traffic, peer: self.peer(field("egress.to"), &rule.to)?, description: None })
        });
        Ok(SecurityGroup {
            name: group.name.clone(),
            ingress: ingress.collect::<Result<_>>()?,
            egress: egress.collect::<Result<_>>()?,
        })
    }

    /// A network, or a group by name.
    fn peer(&self, field: String, text: &str) -> Result<RulePeer> {
        if text.contains('/') {
            return match text.parse::<Cidr>() {
                Ok(cidr) => Ok(RulePeer::Cidr(cidr.0)),
                Err(problem) => value(field, problem),
            };
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return value(field, format!("`{text}` is a single address: write `{}`", Ipv4Net::from(address)));
        }
        if self.group_names().any(|name| name == text) {
            return Ok(RulePeer::Group(id_for(text)));
        }
        unknown(field, "security group (and it is not a network like 10.0.0.0/8)", text, self.group_names())
    }

    /// Groups somebody is to be in, as written or by default.
    pub(super) fn groups_of(&self, field: String, names: &[String]) -> Result<Vec<String>> {
        for (at, name) in names.iter().enumerate() {
            if !self.group_names().any(|known| known == name) {
                return unknown(field, "security group", name, self.group_names());
            }
            if names.iter().take(at).any(|before| before == name) {
                return value(field, format!("`{name}` is there twice"));
            }
        }
        if names.len() > MOST_GROUPS {
            return value(field, format!("{} groups: EC2 lets an ENI be in {MOST_GROUPS} at most", names.len()));
        }
        Ok(names.to_vec())
    }

    pub(super) fn group_names(&self) -> impl Iterator<Item = &str> {
        let written = self.security_groups.iter().map(|group| group.name.as_str());
        std::iter::once(DEFAULT_GROUP).chain(written.filter(|name| *name != DEFAULT_GROUP))
    }
}

fn traffic(field: &str, protocol: &str, ports: Option<&str>) -> Result<Traffic> {
    let range = ports.map(|text| port_range(&format!("{field}.ports"), text)).transpose()?;
    let (from, to) = range.unwrap_or((0, u16::MAX));
    let traffic = match protocol {
        "tcp" | "6" => return Ok(Traffic::Tcp(from, to)),
        "udp" | "17" => return Ok(Traffic::Udp(from, to)),
        "all" => Traffic::All,
        "icmp" | "1" => Traffic::Icmp(None, None),
        number => match number.parse() {
            Ok(number) => Traffic::Protocol(number),
            Err(_) => return value(format!("{field}.protocol"), format!("`{protocol}` is none: expected {PROTOCOLS}")),
        },
    };
    match ports {
        Some(_) => value(format!("{field}.ports"), format!("`{protocol}` has no ports: only tcp and udp have")),
        None => Ok(traffic),
    }
}

fn port_range(field: &str, text: &str) -> Result<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.trim().parse(), to.trim().parse()) {
        (Ok(from), Ok(to)) if from <= to => Ok((from, to)),
        _ => value(
            field,
            format!("`{text}` are no ports: expected one like `80` or a range like `8000-8080`, 0 to 65535"),
        ),
    }
}
