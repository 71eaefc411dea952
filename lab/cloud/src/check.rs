//! What EC2 would refuse in a world's description.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{CardIndex, DeviceIndex, InstanceLimits, SubnetId, instance_limits};

use crate::error::WorldError;
use crate::spec::{InstanceSpec, ReservationKind, RouteTarget, RulePeer, SubnetSpec, Traffic, WorldSpec};

impl WorldSpec {
    /// Checks that EC2 would take the world as described.
    ///
    /// # Errors
    /// The first fault found, with the name of its object and what is accepted.
    pub fn check(&self) -> Result<(), WorldError> {
        self.check_names()?;
        self.check_networks()?;
        self.check_routes()?;
        let mut taken = BTreeSet::new();
        for gateway in &self.nat_gateways {
            let what = format!("nat gateway {}, subnet", gateway.id);
            let subnet = self.known_subnet(&what, &gateway.subnet)?;
            self.check_address(
                &format!("nat gateway {}, private_ip", gateway.id),
                gateway.private_ip,
                subnet,
                &mut taken,
            )?;
        }
        for instance in &self.instances {
            self.check_instance(instance, &mut taken)?;
        }
        for endpoint in &self.endpoints {
            let field = |name: &str| format!("endpoint {}, {name}", endpoint.id);
            let subnet = self.known_subnet(&field("subnet"), &endpoint.subnet)?;
            if let Some(address) = endpoint.private_ip {
                self.check_address(&field("private_ip"), address, subnet, &mut taken)?;
            }
            self.known_groups(&field("security_groups"), endpoint.security_groups.iter())?;
        }
        self.check_groups()?;
        self.check_neighbours()
    }

    fn check_groups(&self) -> Result<(), WorldError> {
        for group in &self.security_groups {
            for (way, rules) in [("ingress", &group.ingress), ("egress", &group.egress)] {
                let what = format!("security group {}, {way}", group.name);
                for rule in rules {
                    match rule.traffic {
                        Traffic::Tcp(from, to) | Traffic::Udp(from, to) if from > to => {
                            return Err(value(what, format!("{from}-{to}"), "ports in rising order"));
                        }
                        Traffic::Icmp(None, Some(code)) => {
                            return Err(value(what, format!("code {code}"), "an ICMP type with the code"));
                        }
                        _ => {}
                    }
                    if let RulePeer::Group(peer) = &rule.peer {
                        self.known_groups(&what, [peer].into_iter())?;
                    }
                }
                unique("rule", rules.iter().map(|rule| format!("{:?} {:?} of {what}", rule.traffic, rule.peer)))?;
            }
        }
        Ok(())
    }

    /// Networks beyond the VPC, which may share addresses neither with it nor with each other.
    fn check_neighbours(&self) -> Result<(), WorldError> {
        unique("peering", self.peerings.iter().map(|peering| &peering.id))?;
        unique("peering", self.peerings.iter().map(|peering| &peering.name))?;
        unique("endpoint", self.endpoints.iter().map(|endpoint| &endpoint.id))?;
        unique("role", self.roles.iter().map(|role| &role.name))?;
        self.roles.iter().try_for_each(|role| role.policy().map(|_| ()))?;
        let own = self.vpc.cidrs.iter().map(|cidr| (format!("VPC CIDR {cidr}"), *cidr));
        let peers = self.peerings.iter().flat_map(|peering| {
            peering.cidrs.iter().map(|cidr| (format!("CIDR {cidr} of peering {}", peering.name), *cidr))
        });
        let beyond = self.virtual_gateway.iter().flat_map(|gateway| {
            gateway.cidrs.iter().map(|cidr| (format!("CIDR {cidr} behind gateway {}", gateway.id), *cidr))
        });
        disjoint(own.chain(peers).chain(beyond))
    }

    fn check_reservations(&self, subnet: &SubnetSpec) -> Result<(), WorldError> {
        let what = format!("subnet {}, reservations", subnet.name);
        for reservation in &subnet.reservations {
            let cidr = reservation.cidr;
            let longest = if reservation.kind == ReservationKind::Prefix { 28 } else { 32 };
            if cidr.addr() != cidr.network() || !subnet.cidr.net().contains(&cidr) || cidr.prefix_len() > longest {
                let expected = format!("a part of {}, /{longest} or larger, with no host bits set", subnet.cidr);
                return Err(value(what, cidr, expected));
            }
        }
        disjoint(subnet.reservations.iter().map(|own| (format!("{} of {what}", own.cidr), own.cidr)))
    }

    fn check_names(&self) -> Result<(), WorldError> {
        if self.account_id.len() != 12 || !self.account_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(value("account_id", &self.account_id, "twelve digits"));
        }
        if self.region.is_empty() {
            return Err(value("region", &self.region, "the name of a region, such as us-west-2"));
        }
        if self.security_groups.is_empty() {
            return Err(value("security_groups", "(none)", "at least one group; the first is the VPC's default"));
        }
        unique("zone", self.zones.iter().map(|zone| &zone.name))?;
        unique("subnet", self.subnets.iter().map(|subnet| &subnet.name))?;
        unique("subnet", self.subnets.iter().map(|subnet| &subnet.id))?;
        unique("route table", self.route_tables.iter().map(|table| &table.id))?;
        unique("nat gateway", self.nat_gateways.iter().map(|gateway| &gateway.id))?;
        unique("security group", self.security_groups.iter().map(|group| &group.id))?;
        unique("security group", self.security_groups.iter().map(|group| &group.name))?;
        unique("instance", self.instances.iter().map(|instance| &instance.name))?;
        unique("instance", self.instances.iter().map(|instance| &instance.id))
    }

    fn check_networks(&self) -> Result<(), WorldError> {
        if self.vpc.cidrs.is_empty() {
            return Err(value("vpc.cidrs", "(none)", "at least one network between /16 and /28"));
        }
        for cidr in &self.vpc.cidrs {
            if !(16..=28).contains(&cidr.prefix_len()) || cidr.addr() != cidr.network() {
                return Err(value("vpc.cidrs", cidr, "a network between /16 and /28 with no host bits set"));
            }
        }
        disjoint(self.vpc.cidrs.iter().map(|cidr| (format!("VPC CIDR {cidr}"), *cidr)))?;
        disjoint(self.subnets.iter().map(|s| (format!("subnet {} ({})", s.name, s.cidr), s.cidr.net())))?;
        for subnet in &self.subnets {
            if !self.vpc.cidrs.iter().any(|cidr| cidr.contains(&subnet.cidr.net())) {
                let cidrs = list(self.vpc.cidrs.iter());
                return Err(value(
                    format!("subnet {}, cidr", subnet.name),
                    subnet.cidr,
                    format!("a network inside one of the VPC's: {cidrs}"),
                ));
            }
            if !self.zones.iter().any(|zone| zone.name == subnet.zone) {
                return Err(WorldError::Unknown {
                    what: format!("subnet {}, zone", subnet.name),
                    kind: "zone",
                    name: subnet.zone.clone(),
                    known: list(self.zones.iter().map(|zone| &zone.name)),
                });
            }
            self.check_reservations(subnet)?;
        }
        Ok(())
    }

    fn check_routes(&self) -> Result<(), WorldError> {
        let mains = self.route_tables.iter().filter(|table| table.main).count();
        if mains != 1 {
            return Err(value("route_tables", format!("{mains} main tables"), "exactly one with `main`"));
        }
        let ties: Vec<_> = self.route_tables.iter().flat_map(|table| &table.subnets).collect();
        unique("route table association", ties.iter())?;
        for table in &self.route_tables {
            for subnet in &table.subnets {
                self.known_subnet(&format!("route table {}, subnets", table.id), subnet)?;
            }
            unique("route", table.routes.iter().map(|route| format!("{} in {}", route.destination, table.id)))?;
            for route in &table.routes {
                let what = format!("route table {}, route to {}", table.id, route.destination);
                self.check_target(what, &route.target)?;
            }
        }
        Ok(())
    }

    fn check_target(&self, what: String, target: &RouteTarget) -> Result<(), WorldError> {
        let known = |kind, id: &String, all: Vec<&String>| match all.contains(&id) {
            true => Ok(()),
            false => Err(WorldError::Unknown { what: what.clone(), kind, name: id.clone(), known: list(all) }),
        };
        match target {
            RouteTarget::NatGateway(id) => {
                known("nat gateway", id, self.nat_gateways.iter().map(|gateway| &gateway.id).collect())
            }
            RouteTarget::Peering(id) => known("peering", id, self.peerings.iter().map(|peering| &peering.id).collect()),
            RouteTarget::VirtualGateway(id) => {
                known("virtual gateway", id, self.virtual_gateway.iter().map(|gateway| &gateway.id).collect())
            }
            RouteTarget::InternetGateway if self.internet_gateway.is_none() => {
                Err(value(what, "internet-gateway", "another target: this VPC has no internet gateway"))
            }
            // ENIs have no ids before time begins.
            RouteTarget::NetworkInterface(id) => {
                Err(value(what, id, "another target: routes to ENIs can be made with CreateRoute, once there are ENIs"))
            }
            RouteTarget::InternetGateway | RouteTarget::Local | RouteTarget::Blackhole => Ok(()),
        }
    }

    fn check_instance(&self, instance: &InstanceSpec, taken: &mut BTreeSet<Ipv4Addr>) -> Result<(), WorldError> {
        let field = |name: &str| format!("instance {}, {name}", instance.name);
        let subnet = self.known_subnet(&field("subnet"), &instance.subnet)?;
        let limits = instance_limits(&instance.instance_type).ok_or_else(|| {
            value(field("instance_type"), &instance.instance_type, "a type of the built-in table, such as m5.large")
        })?;
        if !(1..=64).contains(&instance.hop_limit) {
            return Err(value(field("hop_limit"), instance.hop_limit, "a number from 1 to 64"));
        }
        if let Some(address) = instance.private_ip {
            self.check_address(&field("private_ip"), address, subnet, taken)?;
        }
        self.known_groups(&field("security_groups"), instance.security_groups.iter())?;
        self.check_extra_enis(instance, subnet, limits)
    }

    fn check_extra_enis(
        &self,
        instance: &InstanceSpec,
        home: &SubnetSpec,
        limits: &InstanceLimits,
    ) -> Result<(), WorldError> {
        let field = |name: &str| format!("instance {}, extra ENI, {name}", instance.name);
        let over = |what: String, limit| WorldError::Limit {
            instance: instance.name.clone(),
            what,
            limit,
            instance_type: instance.instance_type.clone(),
        };
        let mut places = BTreeSet::from([(limits.default_card, DeviceIndex(0))]);
        for eni in &instance.extra_enis {
            let subnet = self.known_subnet(&field("subnet"), &eni.subnet)?;
            if subnet.zone != home.zone {
                return Err(value(
                    field("subnet"),
                    &subnet.name,
                    format!("a subnet in the instance's zone {}", home.zone),
                ));
            }
            if !limits.cards.iter().any(|card| card.card == eni.card) {
                return Err(value(field("card"), eni.card, list(limits.cards.iter().map(|card| card.card))));
            }
            if !places.insert((eni.card, eni.device)) {
                return Err(value(field("device"), eni.device, "a position that is not in use on that card"));
            }
            if !crate::spec::INTERFACE_TYPES.contains(&eni.interface_type.as_str()) {
                return Err(value(field("interface_type"), &eni.interface_type, list(crate::spec::INTERFACE_TYPES)));
            }
            if 1 + eni.secondary_ips + eni.prefixes > limits.ipv4_per_eni {
                let what =
                    format!("the {} addresses and prefixes of an extra ENI", 1 + eni.secondary_ips + eni.prefixes);
                return Err(over(what, limits.ipv4_per_eni));
            }
            if eni.prefixes > 0 && !limits.takes_prefixes() {
                return Err(value(field("prefixes"), eni.prefixes, "0: prefixes need a Nitro type"));
            }
            self.known_groups(&field("security_groups"), eni.security_groups.iter())?;
        }
        for card in &limits.cards {
            let on_card = places.iter().filter(|(at, _): &&(CardIndex, _)| *at == card.card).count();
            if on_card > card.max_enis as usize {
                return Err(over(format!("{on_card} ENIs on card {}", card.card), card.max_enis));
            }
        }
        Ok(())
    }

    fn known_subnet(&self, what: &str, id: &SubnetId) -> Result<&SubnetSpec, WorldError> {
        self.subnet(id).ok_or_else(|| WorldError::Unknown {
            what: what.to_owned(),
            kind: "subnet",
            name: id.to_string(),
            known: list(self.subnets.iter().map(|subnet| &subnet.id)),
        })
    }

    fn known_groups<'a>(
        &self,
        what: &str,
        groups: impl Iterator<Item = &'a vpc_model::SecurityGroupId>,
    ) -> Result<(), WorldError> {
        for id in groups {
            if !self.security_groups.iter().any(|group| group.id == *id) {
                return Err(WorldError::Unknown {
                    what: what.to_owned(),
                    kind: "security group",
                    name: id.to_string(),
                    known: list(self.security_groups.iter().map(|group| &group.id)),
                });
            }
        }
        Ok(())
    }

    fn check_address(
        &self,
        what: &str,
        address: Ipv4Addr,
        subnet: &SubnetSpec,
        taken: &mut BTreeSet<Ipv4Addr>,
    ) -> Result<(), WorldError> {
        if !subnet.cidr.net().contains(&address) || subnet.cidr.reserves(address) {
            let expected = format!("an address of {} other than its first four and its last", subnet.cidr);
            return Err(value(what, address, expected));
        }
        if taken.insert(address) { Ok(()) } else { Err(value(what, address, "an address nobody else has")) }
    }
}

fn value(what: impl Display, given: impl Display, expected: impl Display) -> WorldError {
    WorldError::Value { what: what.to_string(), value: given.to_string(), expected: expected.to_string() }
}

fn unique(kind: &'static str, names: impl Iterator<Item = impl Display>) -> Result<(), WorldError> {
    let mut seen = BTreeSet::new();
    for name in names.map(|name| name.to_string()) {
        if !seen.insert(name.clone()) {
            return Err(WorldError::Twice { kind, name });
        }
    }
    Ok(())
}

fn disjoint(nets: impl Iterator<Item = (String, Ipv4Net)>) -> Result<(), WorldError> {
    let mut nets: Vec<_> = nets.collect();
    nets.sort_by_key(|(_, net)| (net.network(), net.prefix_len()));
    for pair in nets.windows(2) {
        if let [(first, a), (second, b)] = pair
            && b.network() <= a.broadcast()
        {
            return Err(WorldError::Overlap { first: first.clone(), second: second.clone() });
        }
    }
    Ok(())
}

fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "(there are none)".to_owned() } else { items.join(", ") }
}
