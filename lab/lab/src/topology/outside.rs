//! What lies around the VPC: peered VPCs, an on-premises network, services of the provider, names of the world.
//!
//! ```text
//!   [[peerings]]     -> another VPC's hosts, reached by routes `via` the peering's name
//!   [on_premises]    -> hosts behind the virtual private gateway, reached by routes `via = "on-premises"`
//!   [[services]]     -> hosts of the internet, named <service>.<region>.amazonaws.com
//!   [[endpoints]]    -> the same services, at addresses of the VPC
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use vpc_model::Subnet;

use super::check::{Result, TopologyError, free_in, odd, overlap, unique, unknown, value};
use super::{Cidr, SubnetSpec, Target, TopologyFile};

/// What routes call the virtual private gateway, and commands the network behind it.
pub const ON_PREMISES: &str = "on-premises";
/// The service that is the lab's own API, at an address of its own.
const OWN_SERVICE: &str = "ec2";
/// Where services get their public addresses from unless one is written: a range of the provider's.
const SERVICE_RANGE: Ipv4Addr = Ipv4Addr::new(52, 94, 0, 10);
/// Which host of a network is there unless some are written.
const FIRST_HOST: u32 = 10;

/// `[[peerings]]`: another VPC, tied to this one. Route tables lead there by its name.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeeringFile {
    /// Name, unique among peerings and NAT gateways: what routes say in `via`.
    pub name: String,
    /// The other VPC's CIDRs: each /16 to /28, overlapping nothing else of the lab.
    pub cidrs: Vec<Cidr>,
    /// Its hosts; each answers HTTP on port 80 with the source it saw, and ICMP. Default: the tenth address of the first CIDR.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Ipv4Addr>,
}

/// `[on_premises]`: a network behind a virtual private gateway. Route tables lead there `via = "on-premises"`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnPremisesFile {
    /// Its CIDRs, overlapping nothing else of the lab.
    pub cidrs: Vec<Cidr>,
    /// Its hosts; each answers HTTP on port 80 with the source it saw, and ICMP. Default: the tenth address of the first CIDR.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Ipv4Addr>,
}

/// `[[services]]`: a service of the provider, which answers HTTP on port 80 in the internet.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceFile {
    /// Name, unique (`sts`): it is known as `sts.<region>.amazonaws.com`. Not `ec2`, which is the lab's own API.
    pub name: String,
    /// Its public address. Default: one of 52.94.0.10 and following.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
}

/// `[[endpoints]]`: an interface endpoint. In the VPC, the service's name then means the endpoint's addresses.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointFile {
    /// Name of a service.
    pub service: String,
    /// Names of the subnets it has an ENI in, at least one.
    pub subnets: Vec<String>,
    /// Address of its ENI; only with a single subnet. Default: the cloud picks one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip: Option<Ipv4Addr>,
    /// Names of its ENIs' security groups. Default: the VPC's default group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
}

/// Addresses behind a name: `"52.78.83.169"`, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Addresses(pub Vec<Ipv4Addr>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> serde::de::Visitor<'de> for OneOrMany {
            type Value = Addresses;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an IPv4 address such as \"52.78.83.169\", or a list of them")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Addresses, E> {
                let one = text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
                Ok(Addresses(vec![one]))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Addresses, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(Addresses(all))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Another VPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peering {
    /// Name, unique.
    pub name: String,
    /// Its CIDRs.
    pub cidrs: Vec<Ipv4Net>,
    /// Its hosts, in its CIDRs.
    pub hosts: Vec<Ipv4Addr>,
}

/// A network behind the virtual private gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnPremises {
    /// Its CIDRs.
    pub cidrs: Vec<Ipv4Net>,
    /// Its hosts, in its CIDRs.
    pub hosts: Vec<Ipv4Addr>,
}

/// A service of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Name, unique (`sts`).
    pub name: String,
    /// Its public address.
    pub address: Ipv4Addr,
}

/// One ENI of an interface endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of its service.
    pub service: String,
    /// Name of its subnet.
    pub subnet: String,
    /// Its address; `None`: the cloud picks one.
    pub private_ip: Option<Ipv4Addr>,
    /// Names of its security groups; empty: the VPC's default group.
    pub security_groups: Vec<String>,
}

/// Everything of this file, checked.
pub(super) struct Outside {
    pub(super) peerings: Vec<Peering>,
    pub(super) on_premises: Option<OnPremises>,
    pub(super) services: Vec<Service>,
    pub(super) names: BTreeMap<String, Vec<Ipv4Addr>>,
}

impl Outside {
    /// What a route's `via` means, if it leads out here.
    pub(super) fn target(&self, via: &str) -> Option<Target> {
        if via == ON_PREMISES {
            return self.on_premises.as_ref().map(|_| Target::VirtualGateway);
        }
        self.peerings.iter().find(|peering| peering.name == via).map(|peering| Target::Peering(peering.name.clone()))
    }

    /// What a `via` may say of it.
    pub(super) fn targets(&self) -> impl Iterator<Item = &str> {
        let on_premises = self.on_premises.as_ref().map(|_| ON_PREMISES);
        on_premises.into_iter().chain(self.peerings.iter().map(|peering| peering.name.as_str()))
    }
}

impl TopologyFile {
    /// Checks what lies around a VPC of these CIDRs.
    pub(super) fn outside(&self, vpc: &[Ipv4Net]) -> Result<Outside> {
        unique("peerings", self.peerings.iter().map(|peering| peering.name.as_str()))?;
        unique("services", self.services.iter().map(|service| service.name.as_str()))?;
        let mut taken: Vec<(String, Ipv4Net)> = vpc.iter().map(|cidr| ("vpc.cidrs".to_owned(), *cidr)).collect();
        taken.push(("public_pool".to_owned(), self.public_pool.0));
        let peerings: Vec<_> =
            self.peerings.iter().map(|peering| self.peering(peering, &mut taken)).collect::<Result<_>>()?;
        let on_premises = self.on_premises.as_ref().map(|own| on_premises(own, &mut taken)).transpose()?;
        let services = self.checked_services(&taken)?;
        self.hosts_stay_outside(&taken)?;
        Ok(Outside { peerings, on_premises, services, names: self.checked_names()? })
    }

    fn peering(&self, peering: &PeeringFile, taken: &mut Vec<(String, Ipv4Net)>) -> Result<Peering> {
        let field = |key: &str| format!("peerings.{}.{key}", peering.name);
        let name = &peering.name;
        if [ON_PREMISES, "internet-gateway", "blackhole"].contains(&name.as_str()) || name.contains(['/', ':']) {
            return value(field("name"), "this means something else in routes or commands; choose another one");
        }
        if self.nat_gateways.iter().any(|gateway| gateway.name == *name) {
            return value(field("name"), "a NAT gateway has this name; routes could not tell them apart");
        }
        if let Some(cidr) = peering.cidrs.iter().find(|cidr| Subnet::try_from(cidr.0).is_err()) {
            return value(field("cidrs"), format!("{cidr} can not be a VPC's: expected a length between /16 and /28"));
        }
        let cidrs = own_cidrs(&field("cidrs"), &peering.cidrs, taken)?;
        let hosts = own_hosts(&field("hosts"), &peering.hosts, &cidrs)?;
        Ok(Peering { name: name.clone(), cidrs, hosts })
    }

    fn checked_services(&self, taken: &[(String, Ipv4Net)]) -> Result<Vec<Service>> {
        let mut done: Vec<Service> = Vec::new();
        for (service, number) in self.services.iter().zip(0..) {
            let field = |key: &str| format!("services.{}.{key}", service.name);
            if service.name == OWN_SERVICE {
                return value(field("name"), "`ec2` is the lab's own API, and always there; choose another one");
            }
            if !is_label(&service.name) {
                return value(field("name"), "expected lower-case letters, digits and dashes, such as `sts`");
            }
            let address = service.address.unwrap_or(Ipv4Addr::from_bits(SERVICE_RANGE.to_bits() + number));
            let known = self.public_hosts.contains(&address) || done.iter().any(|other| other.address == address);
            if known {
                return value(field("address"), format!("{address} is that of another host of the internet already"));
            }
            if odd(address) || taken.iter().any(|(_, cidr)| cidr.contains(&address)) {
                let expected = "expected an address of the internet, outside the VPC, its neighbours and `public_pool`";
                return value(field("address"), format!("{address} is not possible: {expected}"));
            }
            done.push(Service { name: service.name.clone(), address });
        }
        Ok(done)
    }

    /// The VPC and the public pool are looked at elsewhere.
    fn hosts_stay_outside(&self, taken: &[(String, Ipv4Net)]) -> Result<()> {
        for (field, cidr) in taken {
            if let Some(host) = self.public_hosts.iter().find(|host| cidr.contains(*host)) {
                return value("public_hosts", format!("{host} is inside {cidr} of {field}"));
            }
        }
        Ok(())
    }

    /// Names in small letters. Each public host has one unless the file gives names.
    fn checked_names(&self) -> Result<BTreeMap<String, Vec<Ipv4Addr>>> {
        let Some(written) = &self.names else {
            let hosts = self.public_hosts.iter().zip(1..);
            let mut names: BTreeMap<_, _> =
                hosts.map(|(host, number)| (format!("host-{number}.example.com"), vec![*host])).collect();
            names.extend(self.public_hosts.first().map(|host| ("example.com".to_owned(), vec![*host])));
            return Ok(names);
        };
        let mut names = BTreeMap::new();
        for (name, addresses) in written {
            let field = format!("names.{name}");
            let own = name.trim_end_matches('.').to_ascii_lowercase();
            if own.len() > 253 || !own.split('.').all(is_label) {
                return value(
                    field,
                    "expected a DNS name: labels of up to 63 letters, digits and dashes, with dots between",
                );
            }
            if own.ends_with("compute.internal") || own.ends_with("ec2.internal") {
                return value(field, "names of this zone are those of the VPC's own addresses; choose another one");
            }
            if addresses.0.is_empty() {
                return value(field, "expected at least one address");
            }
            if names.insert(own, addresses.0.clone()).is_some() {
                return value(field, "this name is there twice; capital letters make no difference");
            }
        }
        Ok(names)
    }

    /// One endpoint for each subnet of each entry.
    pub(super) fn endpoints(&self, services: &[Service], subnets: &[SubnetSpec]) -> Result<Vec<Endpoint>> {
        let mut done: Vec<Endpoint> = Vec::new();
        for endpoint in &self.endpoints {
            let field = |key: &str| format!("endpoints.{}.{key}", endpoint.service);
            if !services.iter().any(|service| service.name == endpoint.service) {
                let known = services.iter().map(|service| service.name.as_str());
                return unknown("endpoints.service".to_owned(), "service", &endpoint.service, known);
            }
            if endpoint.subnets.is_empty() {
                return value(field("subnets"), "an endpoint stands in at least one subnet");
            }
            if endpoint.private_ip.is_some() && endpoint.subnets.len() > 1 {
                return value(field("private_ip"), "only an endpoint in a single subnet can be given an address");
            }
            for name in &endpoint.subnets {
                let Some(subnet) = subnets.iter().find(|subnet| subnet.name == *name) else {
                    return unknown(field("subnets"), "subnet", name, subnets.iter().map(|s| s.name.as_str()));
                };
                if let Some(address) = endpoint.private_ip {
                    free_in(&field("private_ip"), subnet, address)?;
                }
                if done.iter().any(|other| other.service == endpoint.service && other.subnet == *name) {
                    return value(field("subnets"), format!("{} has an endpoint in {name} already", endpoint.service));
                }
                done.push(Endpoint {
                    service: endpoint.service.clone(),
                    subnet: name.clone(),
                    private_ip: endpoint.private_ip,
                    security_groups: self.groups_of(field("security_groups"), &endpoint.security_groups)?,
                });
            }
        }
        Ok(done)
    }
}

fn on_premises(own: &OnPremisesFile, taken: &mut Vec<(String, Ipv4Net)>) -> Result<OnPremises> {
    let cidrs = own_cidrs("on_premises.cidrs", &own.cidrs, taken)?;
    let hosts = own_hosts("on_premises.hosts", &own.hosts, &cidrs)?;
    Ok(OnPremises { cidrs, hosts })
}

/// CIDRs that nobody else has; from now on they are taken.
fn own_cidrs(field: &str, cidrs: &[Cidr], taken: &mut Vec<(String, Ipv4Net)>) -> Result<Vec<Ipv4Net>> {
    if cidrs.is_empty() {
        return value(field, "expected at least one network, such as `10.30.0.0/16`");
    }
    for Cidr(cidr) in cidrs {
        if odd(cidr.network()) || cidr.prefix_len() == 0 {
            return value(field, format!("{cidr} can not be reached: expected a network such as `10.30.0.0/16`"));
        }
        if let Some((other, other_cidr)) = taken.iter().find(|(_, other)| overlap(other, cidr)) {
            let (field, other, other_cidr) = (field.to_owned(), other.clone(), *other_cidr);
            return Err(TopologyError::Overlap { field, cidr: *cidr, other, other_cidr });
        }
        taken.push((field.to_owned(), *cidr));
    }
    Ok(cidrs.iter().map(|cidr| cidr.0).collect())
}

/// Hosts inside CIDRs, or the first one's tenth address.
fn own_hosts(field: &str, hosts: &[Ipv4Addr], cidrs: &[Ipv4Net]) -> Result<Vec<Ipv4Addr>> {
    if let Some(host) = hosts.iter().find(|host| !cidrs.iter().any(|cidr| cidr.contains(*host))) {
        let known = cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return value(field, format!("{host} is outside: expected an address inside one of {known}"));
    }
    let first = cidrs.first().map(|cidr| Ipv4Addr::from_bits(cidr.network().to_bits() + FIRST_HOST));
    match first.filter(|first| cidrs.iter().any(|cidr| cidr.contains(first))) {
        Some(first) if hosts.is_empty() => Ok(vec![first]),
        _ if hosts.is_empty() => value(field, "expected at least one address"),
        _ => Ok(hosts.to_vec()),
    }
}

/// A part of a DNS name, in small letters.
fn is_label(text: &str) -> bool {
    let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    letters && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
}
