//! The state of the world, and the few ways in which it may change: every address that comes or goes passes through here.
//!
//! `eni`: the ENIs and their addresses, `enis`: all of them. `instance`: the instances and how they come to be. `network`: what lies around
//! them, which the fabric is told as a plan.

mod eni;
mod enis;
mod instance;
mod network;
mod shelf;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use vpc_aws::ec2::shapes::ResourceType;
use vpc_model::{AttachmentId, InstanceId, SecurityGroupId, Slot, SubnetId};

pub(crate) use eni::{Attachment, Eni, NewEni, Service, Tie, Want};
pub(crate) use instance::{Birth, Instance, Power, PublicAddress, Seat, SeatEni};
pub(crate) use network::{CidrBlock, CidrState, Group, Reservation, RouteTable, Rule, SubnetState, TableTie};
pub(crate) use shelf::Shelf;

use enis::Enis;

use crate::dice::Dice;
use crate::error::WorldError;
use crate::pool::Holder;
use crate::spec::{EndpointSpec, NatGatewaySpec, Tags, WorldSpec};

/// Everything there is, but no time and no chance. Copies share what is the same in both: there is one for every change.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The description. What it says of CIDRs, subnets, route tables, groups and instances is how they were at the
    /// beginning; the fields below say how they are.
    pub(crate) spec: Arc<WorldSpec>,
    /// CIDRs of the VPC, the primary one first.
    pub(crate) cidrs: Vec<CidrBlock>,
    pub(crate) subnets: Shelf<SubnetId, SubnetState>,
    pub(crate) route_tables: Arc<BTreeMap<String, RouteTable>>,
    pub(crate) groups: Arc<BTreeMap<SecurityGroupId, Group>>,
    /// The VPC's default group, which cannot be deleted.
    pub(crate) default_group: SecurityGroupId,
    pub(crate) instances: Shelf<InstanceId, Instance>,
    pub(crate) enis: Enis,
    /// Public addresses in use, the NAT gateways' included.
    pub(crate) public: BTreeSet<Ipv4Addr>,
    pub(crate) vpc_tags: Tags,
}

impl World {
    /// The world as described; its instances have power.
    pub(crate) fn new(spec: WorldSpec, dice: &mut Dice) -> Result<Self, WorldError> {
        spec.check()?;
        let Some(default_group) = spec.security_groups.first().map(|group| group.id.clone()) else {
            return Err(WorldError::Value {
                what: "security_groups".to_owned(),
                value: "(none)".to_owned(),
                expected: "at least one group; the first is the VPC's default".to_owned(),
            });
        };
        let mut world = Self {
            cidrs: spec.vpc.cidrs.iter().map(|cidr| CidrBlock::of_spec(*cidr)).collect(),
            subnets: spec.subnets.iter().map(|subnet| (subnet.id.clone(), SubnetState::new(subnet))).collect(),
            route_tables: Arc::new(
                spec.route_tables.iter().map(|table| (table.id.clone(), RouteTable::of_spec(table))).collect(),
            ),
            groups: Arc::new(
                spec.security_groups.iter().map(|group| (group.id.clone(), Group::of_spec(group))).collect(),
            ),
            default_group,
            instances: Shelf::default(),
            enis: Enis::default(),
            public: spec.nat_gateways.iter().map(|gateway| gateway.public_ip).collect(),
            vpc_tags: spec.vpc.tags.clone(),
            spec: Arc::new(spec),
        };
        for gateway in world.spec.nat_gateways.clone() {
            world.add_nat_gateway(&gateway, dice)?;
        }
        world.place(dice)?;
        Ok(world)
    }

    /// Gives the endpoints and instances of the description their ENIs. Addresses asked for by name are kept for those who
    /// asked, so that none of them is picked for somebody else.
    fn place(&mut self, dice: &mut Dice) -> Result<(), WorldError> {
        let (instances, endpoints) = (self.spec.instances.clone(), self.spec.endpoints.clone());
        let of_instances = instances.iter().map(|instance| (&instance.subnet, instance.private_ip));
        let of_endpoints = endpoints.iter().map(|endpoint| (&endpoint.subnet, endpoint.private_ip));
        for (subnet, address) in of_instances.chain(of_endpoints) {
            if let Some((subnet, address)) = self.subnets.get_mut(subnet).zip(address) {
                subnet.pool.take(address, Holder::Outside(0));
            }
        }
        self.public.extend(instances.iter().filter_map(|instance| instance.public_ip));
        for instance in instances {
            self.give_kept(&instance.subnet, instance.private_ip);
            self.launch_described(instance, dice)?;
        }
        for endpoint in &endpoints {
            self.give_kept(&endpoint.subnet, endpoint.private_ip);
            self.add_endpoint(endpoint, dice)?;
        }
        Ok(())
    }

    fn give_kept(&mut self, subnet: &SubnetId, address: Option<Ipv4Addr>) {
        if let Some((subnet, address)) = self.subnets.get_mut(subnet).zip(address) {
            subnet.pool.release(Slot::Address(address));
        }
    }

    fn add_endpoint(&mut self, spec: &EndpointSpec, dice: &mut Dice) -> Result<(), WorldError> {
        let groups = self.groups_or_default(&spec.security_groups);
        let service = Service::Endpoint(spec.id.clone());
        let made = self.create_service_eni(service, &spec.subnet, spec.private_ip, groups, dice);
        made.map(|_| ()).map_err(|_| WorldError::Full {
            subnet: spec.subnet.to_string(),
            what: format!("the ENI of endpoint {}", spec.id),
        })
    }

    /// Gateways have no groups, and pass on what is not for them.
    fn add_nat_gateway(&mut self, spec: &NatGatewaySpec, dice: &mut Dice) -> Result<(), WorldError> {
        let (service, address) = (Service::NatGateway(spec.id.clone()), Some(spec.private_ip));
        let made = self.create_service_eni(service, &spec.subnet, address, Vec::new(), dice);
        let eni = made.map_err(|_| WorldError::Full {
            subnet: spec.subnet.to_string(),
            what: format!("the ENI of nat gateway {}", spec.id),
        })?;
        eni.source_dest_check = false;
        eni.public.insert(spec.private_ip, spec.public_ip);
        Ok(())
    }

    /// The name EC2 gives a private address.
    pub(crate) fn private_dns_name(&self, address: Ipv4Addr) -> String {
        let dashed = address.to_string().replace('.', "-");
        match self.spec.region.as_str() {
            "us-east-1" => format!("ip-{dashed}.ec2.internal"),
            region => format!("ip-{dashed}.{region}.compute.internal"),
        }
    }

    /// The name EC2 gives a public address.
    pub(crate) fn public_dns_name(&self, address: Ipv4Addr) -> String {
        let dashed = address.to_string().replace('.', "-");
        match self.spec.region.as_str() {
            "us-east-1" => format!("ec2-{dashed}.compute-1.amazonaws.com"),
            region => format!("ec2-{dashed}.{region}.compute.amazonaws.com"),
        }
    }

    pub(crate) fn groups_or_default(&self, groups: &[SecurityGroupId]) -> Vec<SecurityGroupId> {
        if groups.is_empty() { vec![self.default_group.clone()] } else { groups.to_vec() }
    }

    /// A public address that nobody has.
    pub(crate) fn pick_public(&self) -> Option<Ipv4Addr> {
        self.spec.public_pool.hosts().find(|address| !self.public.contains(address))
    }

    /// The ENIs of an instance, by card and device.
    pub(crate) fn enis_of(&self, instance: &InstanceId) -> Vec<&Eni> {
        let mut enis: Vec<_> =
            self.enis.of(instance).filter_map(|eni| eni.attachment.as_ref().map(|a| (a.card, a.device, eni))).collect();
        enis.sort_by_key(|(card, device, _)| (*card, *device));
        enis.into_iter().map(|(_, _, eni)| eni).collect()
    }

    /// Changes every attachment of an instance.
    pub(crate) fn change_ties(&mut self, instance: &InstanceId, change: impl Fn(&mut Attachment)) {
        for id in self.enis.ids_of(instance) {
            if let Some(attachment) = self.enis.get_mut(&id).and_then(|eni| eni.attachment.as_mut()) {
                change(attachment);
            }
        }
    }

    /// The ENI with that attachment.
    pub(crate) fn attached_as(&self, id: &AttachmentId) -> Option<&Eni> {
        self.enis.attached_as(id)
    }

    /// The ENI that holds a private address, alone or in a prefix.
    pub(crate) fn owner_of(&self, address: Ipv4Addr) -> Option<&Eni> {
        let subnet = self.subnets.values().find(|subnet| subnet.spec.cidr.net().contains(&address))?;
        match subnet.pool.holder(address)? {
            Holder::Eni(id) => self.enis.get(&id),
            Holder::Outside(_) => None,
        }
    }

    /// All tags there are: id and kind of the object, then its tags.
    pub(crate) fn all_tags(&self) -> Vec<(String, ResourceType, &Tags)> {
        let enis = self.enis.values().map(|eni| (eni.id.to_string(), ResourceType::NetworkInterface, &eni.tags));
        let instances = self.instances.iter().map(|(id, own)| (id.to_string(), ResourceType::Instance, &own.tags));
        let subnets = self.subnets.iter().map(|(id, own)| (id.to_string(), ResourceType::Subnet, &own.tags));
        let groups = self.groups.iter().map(|(id, own)| (id.to_string(), ResourceType::SecurityGroup, &own.tags));
        let tables = self.route_tables.iter().map(|(id, own)| (id.clone(), ResourceType::RouteTable, &own.tags));
        let rules = self.groups.values().flat_map(|group| group.ingress.iter().chain(&group.egress));
        let rules = rules.map(|own| (own.id.clone(), ResourceType::SecurityGroupRule, &own.tags));
        let reservations = self.subnets.values().flat_map(|subnet| &subnet.reservations);
        let reservations = reservations.map(|(id, own)| (id.clone(), ResourceType::SubnetCidrReservation, &own.tags));
        let vpc = [(self.spec.vpc.id.to_string(), ResourceType::Vpc, &self.vpc_tags)];
        let placed = enis.chain(instances).chain(subnets).chain(reservations);
        placed.chain(groups).chain(rules).chain(tables).chain(vpc).collect()
    }
}

/// Tags with a `Name`.
fn named(tags: &Tags, name: &str) -> Tags {
    let mut tags = tags.clone();
    tags.entry("Name".to_owned()).or_insert_with(|| name.to_owned());
    tags
}
