//! What names mean in the VPC.
//!
//! | Name | Meaning |
//! |---|---|
//! | `ip-10-20-8-7.<region>.compute.internal` | a private address of an ENI, and back |
//! | `i-0123….<region>.compute.internal` | the instance's primary address |
//! | `ec2-203-0-113-5.<region>.compute.amazonaws.com` | the private address behind a public one |
//! | `instance-data.<region>.compute.internal` | the metadata service |
//! | `ec2.<region>.amazonaws.com` | the lab's EC2 |
//! | `sts.<region>.amazonaws.com` | a service: its endpoints' addresses where there are any, else its public one |
//! | names of the topology | hosts of the world |
//!
//! In us-east-1 the first ones end in `ec2.internal` and `compute-1.amazonaws.com`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use lab_cloud::{NetworkPlan, Snapshot};

use crate::fabric::{EC2_ADDRESS, IMDS_ADDRESS, host_of};
use crate::topology::Topology;

/// The region whose names are older than the others.
const OLDEST_REGION: &str = "us-east-1";
/// Where addresses have their names.
const REVERSE: &str = ".in-addr.arpa";

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// These addresses.
    Addresses(Vec<Ipv4Addr>),
    /// That name: it is the name of an address.
    Pointer(String),
    /// Nothing by itself, but there are names below it.
    Empty,
    /// There is no such name.
    Nothing,
}

/// The cloud at the moment of a question.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) snapshot: Snapshot,
    pub(super) network: NetworkPlan,
}

/// What does not change as long as the lab lives.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The zone of private names.
    private: String,
    /// The zone of public ones.
    public: String,
    /// Names by themselves, in small letters.
    fixed: BTreeMap<String, Vec<Ipv4Addr>>,
}

/// The zone in which a region's instances have their private names; what a node searches in.
#[must_use]
pub fn private_zone(region: &str) -> String {
    if region == OLDEST_REGION { "ec2.internal".to_owned() } else { format!("{region}.compute.internal") }
}

/// The private name of an address, without its zone: `ip-10-20-8-7`.
#[must_use]
pub fn short_name(address: Ipv4Addr) -> String {
    format!("ip-{}", dashed(address))
}

fn dashed(address: Ipv4Addr) -> String {
    address.to_string().replace('.', "-")
}

/// The address of a label such as `ip-10-20-8-7`, written as EC2 writes it.
fn address_in(label: &str, prefix: &str) -> Option<Ipv4Addr> {
    let rest = label.strip_prefix(prefix)?;
    let address: Ipv4Addr = rest.replace('-', ".").parse().ok()?;
    (dashed(address) == rest).then_some(address)
}

/// The address that a name of the reverse tree stands for.
fn reversed(name: &str) -> Option<Ipv4Addr> {
    let [d, c, b, a] = <[&str; 4]>::try_from(name.strip_suffix(REVERSE)?.split('.').collect::<Vec<_>>()).ok()?;
    format!("{a}.{b}.{c}.{d}").parse().ok()
}

impl Facts {
    /// Every private address that somebody has by name.
    fn private(&self) -> impl Iterator<Item = Ipv4Addr> {
        let enis = self.snapshot.enis.iter();
        let enis = enis.flat_map(|eni| std::iter::once(eni.addresses.primary).chain(eni.addresses.secondary.clone()));
        let endpoints = self.network.endpoints.iter().map(|endpoint| endpoint.address);
        enis.chain(endpoints).chain(self.network.nat_gateways.iter().map(|gateway| gateway.private_ip))
    }

    /// Every public address with the private one behind it.
    fn public(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
        let enis = self.snapshot.enis.iter().flat_map(|eni| &eni.addresses.public);
        let gateways = self.network.nat_gateways.iter().map(|gateway| (gateway.public_ip, gateway.private_ip));
        enis.map(|(private, public)| (*public, *private)).chain(gateways)
    }

    /// Addresses of the service's endpoints.
    fn endpoints(&self, host: &str) -> Vec<Ipv4Addr> {
        let own = self.network.endpoints.iter().filter(|e| host_of(&e.service).is_some_and(|own| own == host));
        own.map(|endpoint| endpoint.address).collect()
    }
}

impl Names {
    pub(super) fn of(topology: &Topology) -> Self {
        let region = &topology.region;
        let private = private_zone(region);
        let public = if region == OLDEST_REGION {
            "compute-1.amazonaws.com".to_owned()
        } else {
            format!("{region}.compute.amazonaws.com")
        };
        let services = topology.services.iter().map(|s| (topology.service_host(&s.name), vec![s.address]));
        let own = [
            (format!("instance-data.{private}"), vec![IMDS_ADDRESS]),
            (topology.service_host("ec2"), vec![EC2_ADDRESS]),
        ];
        let fixed = topology.names.clone().into_iter().chain(services).chain(own).collect();
        Self { private, public, fixed }
    }

    /// What a name (in small letters, without the last dot) means now.
    pub(super) fn meaning(&self, name: &str, facts: &Facts) -> Meaning {
        if let Some(fixed) = self.fixed.get(name) {
            let endpoints = facts.endpoints(name);
            return Meaning::Addresses(if endpoints.is_empty() { fixed.clone() } else { endpoints });
        }
        let found = match reversed(name) {
            Some(address) => self.name_of(address, facts).map(Meaning::Pointer),
            None => self.address_of(name, facts).map(|address| Meaning::Addresses(vec![address])),
        };
        found.unwrap_or_else(|| if self.has_names_below(name) { Meaning::Empty } else { Meaning::Nothing })
    }

    fn address_of(&self, name: &str, facts: &Facts) -> Option<Ipv4Addr> {
        let (label, zone) = name.split_once('.')?;
        if zone == self.public {
            let public = address_in(label, "ec2-")?;
            return facts.public().find(|(own, _)| *own == public).map(|(_, private)| private);
        }
        let mut instances = facts.snapshot.instances.iter().filter(|instance| instance.state != "terminated");
        let named = |own: &lab_cloud::InstanceSnapshot| {
            own.private_dns_name.eq_ignore_ascii_case(name) || (zone == self.private && own.id.as_str() == label)
        };
        if let Some(instance) = instances.find(|instance| named(instance)) {
            return Some(instance.private_ip);
        }
        let address = address_in(label, "ip-").filter(|_| zone == self.private)?;
        facts.private().find(|own| *own == address)
    }

    fn name_of(&self, address: Ipv4Addr, facts: &Facts) -> Option<String> {
        let mut instances = facts.snapshot.instances.iter().filter(|instance| instance.state != "terminated");
        if let Some(instance) = instances.find(|instance| instance.private_ip == address) {
            return Some(instance.private_dns_name.clone());
        }
        if facts.private().any(|own| own == address) {
            return Some(format!("{}.{}", short_name(address), self.private));
        }
        if facts.public().any(|(own, _)| own == address) {
            return Some(format!("ec2-{}.{}", dashed(address), self.public));
        }
        self.fixed.iter().find(|(_, addresses)| addresses.contains(&address)).map(|(name, _)| name.clone())
    }

    fn has_names_below(&self, name: &str) -> bool {
        let below = |full: &str| full == name || full.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        name.is_empty() || below(&self.private) || below(&self.public) || self.fixed.keys().any(|own| below(own))
    }

    /// The zone that says that there is no such name, or nothing of that kind: one of the VPC's own, or the root.
    pub(super) fn zone(&self, name: &str, facts: &Facts) -> String {
        if name == self.private || name.strip_suffix(&self.private).is_some_and(|rest| rest.ends_with('.')) {
            return self.private.clone();
        }
        match reversed(name) {
            Some(address) if facts.network.cidrs.iter().any(|cidr| cidr.contains(&address)) => {
                let [a, b, ..] = address.octets();
                format!("{b}.{a}{REVERSE}")
            }
            _ => String::new(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_names_as_they_are_written_into_them() {
        let address = Ipv4Addr::new(10, 20, 8, 7);
        assert_eq!(short_name(address), "ip-10-20-8-7");
        assert_eq!(address_in("ip-10-20-8-7", "ip-"), Some(address));
        for odd in ["ip-10-20-8", "ip-10-20-8-07", "ip-10-20-8-7-1", "ip-10.20-8-7", "ec2-10-20-8-7", "ip-"] {
            assert_eq!(address_in(odd, "ip-"), None, "{odd}");
        }
        assert_eq!(reversed("7.8.20.10.in-addr.arpa"), Some(address));
        for odd in ["8.20.10.in-addr.arpa", "7.8.20.10", "x.8.20.10.in-addr.arpa", "1.7.8.20.10.in-addr.arpa"] {
            assert_eq!(reversed(odd), None, "{odd}");
        }
    }

    #[test]
    fn one_region_has_names_of_its_own() {
        assert_eq!(private_zone("us-east-1"), "ec2.internal");
        assert_eq!(private_zone("ap-northeast-2"), "ap-northeast-2.compute.internal");
    }
}
