//! The state of the world, and the few ways in which it may change: every address that comes or goes passes through here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_aws::ec2::shapes::ConnectionTrackingConfiguration;
use vpc_model::{
    AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, InstanceLimits, Mac, Prefix28, SecurityGroupId, Slot,
    SubnetId, Time, instance_limits,
};

use crate::dice::Dice;
use crate::error::{ApiError, WorldError};
use crate::event::{AttachedEni, EniAddresses};
use crate::ids::checked;
use crate::plan::{GroupRules, NetworkPlan, PlannedSubnet};
use crate::pool::{AddressPool, Holder, Shortage};
use crate::spec::{InstanceSpec, SecurityGroupSpec, SubnetSpec, Tags, WorldSpec};

/// Everything there is, but no time and no chance.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// What does not change: VPC, zones, route tables, gateways, groups.
    pub(crate) spec: WorldSpec,
    pub(crate) subnets: BTreeMap<SubnetId, SubnetState>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) enis: BTreeMap<EniId, Eni>,
    /// Public addresses in use, the NAT gateways' included.
    pub(crate) public: BTreeSet<Ipv4Addr>,
    /// Tags of objects the description knows but that have no state here (VPC, groups, route tables).
    pub(crate) other_tags: BTreeMap<String, Tags>,
}

#[derive(Clone, Debug)]
pub(crate) struct SubnetState {
    pub(crate) spec: SubnetSpec,
    pub(crate) pool: AddressPool,
    pub(crate) tags: Tags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    Running,
    Stopped,
    Terminated,
}

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) spec: InstanceSpec,
    pub(crate) limits: &'static InstanceLimits,
    pub(crate) power: Power,
    pub(crate) primary: EniId,
    pub(crate) private_ip: Ipv4Addr,
    pub(crate) private_dns_name: String,
    pub(crate) zone: String,
    pub(crate) launched: Time,
    pub(crate) tags: Tags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tie {
    Attaching,
    Attached,
    Detaching,
}

impl Tie {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    pub(crate) id: AttachmentId,
    pub(crate) instance: InstanceId,
    pub(crate) device: DeviceIndex,
    pub(crate) card: CardIndex,
    pub(crate) tie: Tie,
    pub(crate) delete_on_termination: bool,
    pub(crate) since: Time,
    /// Whether the guest has the device: only then does the fabric hear of changes.
    pub(crate) seen: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Eni {
    pub(crate) id: EniId,
    pub(crate) mac: Mac,
    pub(crate) subnet: SubnetId,
    pub(crate) description: String,
    pub(crate) interface_type: String,
    pub(crate) groups: Vec<SecurityGroupId>,
    pub(crate) tags: Tags,
    pub(crate) primary: Ipv4Addr,
    /// In the order in which they came, as IMDS lists them.
    pub(crate) secondary: Vec<Ipv4Addr>,
    pub(crate) prefixes: Vec<Prefix28>,
    pub(crate) public: BTreeMap<Ipv4Addr, Ipv4Addr>,
    pub(crate) source_dest_check: bool,
    pub(crate) connection_tracking: Option<ConnectionTrackingConfiguration>,
    pub(crate) attachment: Option<Attachment>,
}

impl Eni {
    pub(crate) fn addresses(&self) -> EniAddresses {
        EniAddresses {
            primary: self.primary,
            secondary: self.secondary.iter().copied().collect(),
            prefixes: self.prefixes.iter().copied().collect(),
            public: self.public.clone(),
        }
    }

    /// Positions in use: the primary address, secondary addresses and prefixes count one each.
    pub(crate) fn slots(&self) -> u32 {
        1 + u32::try_from(self.secondary.len() + self.prefixes.len()).unwrap_or(u32::MAX - 1)
    }

    pub(crate) fn status(&self) -> &'static str {
        match self.attachment.as_ref().map(|attachment| attachment.tie) {
            None => "available",
            Some(Tie::Detaching) => "detaching",
            Some(Tie::Attaching | Tie::Attached) => "in-use",
        }
    }

    /// The ENI as the guest has it; `None` while it is attached to nothing.
    pub(crate) fn attached(&self) -> Option<AttachedEni> {
        let attachment = self.attachment.as_ref()?;
        Some(AttachedEni {
            id: self.id.clone(),
            mac: self.mac,
            subnet: self.subnet.clone(),
            device: attachment.device,
            card: attachment.card,
            addresses: self.addresses(),
            groups: self.groups.clone(),
            source_dest_check: self.source_dest_check,
            interface_type: self.interface_type.clone(),
        })
    }

    /// Whose device it is, if the guest has it.
    pub(crate) fn seen_by(&self) -> Option<&InstanceId> {
        self.attachment.as_ref().filter(|attachment| attachment.seen).map(|attachment| &attachment.instance)
    }
}

/// What a new ENI is to have.
#[derive(Clone, Debug)]
pub(crate) struct NewEni {
    pub(crate) subnet: SubnetId,
    pub(crate) primary: Option<Ipv4Addr>,
    pub(crate) slots: Want,
    pub(crate) description: String,
    pub(crate) interface_type: String,
    pub(crate) groups: Vec<SecurityGroupId>,
    pub(crate) tags: Tags,
}

/// Secondary addresses or prefixes asked for: by number or by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) addresses: u32,
    pub(crate) prefixes: u32,
    pub(crate) these_addresses: Vec<Ipv4Addr>,
    pub(crate) these_prefixes: Vec<Prefix28>,
}

impl Want {
    pub(crate) fn slots(&self) -> u32 {
        let named = self.these_addresses.len() + self.these_prefixes.len();
        u32::try_from(named).unwrap_or(u32::MAX).saturating_add(self.addresses).saturating_add(self.prefixes)
    }
}

impl World {
    /// The world as described; its instances have power.
    pub(crate) fn new(spec: WorldSpec, dice: &mut Dice) -> Result<Self, WorldError> {
        spec.check()?;
        let mut world = Self {
            subnets: spec.subnets.iter().map(|subnet| (subnet.id.clone(), SubnetState::new(subnet))).collect(),
            instances: BTreeMap::new(),
            enis: BTreeMap::new(),
            public: spec.nat_gateways.iter().map(|gateway| gateway.public_ip).collect(),
            other_tags: BTreeMap::from([(spec.vpc.id.to_string(), spec.vpc.tags.clone())]),
            spec,
        };
        for group in world.spec.security_groups.clone() {
            world.other_tags.insert(group.id.to_string(), group.tags);
        }
        for gateway in world.spec.nat_gateways.clone() {
            if let Some(subnet) = world.subnets.get_mut(&gateway.subnet) {
                subnet.pool.take(gateway.private_ip, Holder::Gateway(gateway.id));
            }
        }
        // Addresses asked for by name first, so that none of them is picked for somebody else.
        let mut instances = world.spec.instances.clone();
        instances.sort_by_key(|instance| instance.private_ip.is_none());
        world.public.extend(instances.iter().filter_map(|instance| instance.public_ip));
        for instance in instances {
            world.launch(instance, dice)?;
        }
        Ok(world)
    }

    fn launch(&mut self, spec: InstanceSpec, dice: &mut Dice) -> Result<(), WorldError> {
        let Some(limits) = instance_limits(&spec.instance_type) else {
            unreachable!("the type of an instance has been checked: {}", spec.instance_type)
        };
        let full = |subnet: &SubnetId, what: &str| WorldError::Full {
            subnet: subnet.to_string(),
            what: format!("{what} of instance {}", spec.name),
        };
        let primary = NewEni {
            subnet: spec.subnet.clone(),
            primary: spec.private_ip,
            slots: Want::default(),
            description: String::new(),
            interface_type: "interface".to_owned(),
            groups: self.groups_or_default(&spec.security_groups),
            tags: spec.eni_tags.clone(),
        };
        let mut enis = vec![(
            self.create_eni(primary, dice).map_err(|_| full(&spec.subnet, "the primary ENI"))?,
            DeviceIndex(0),
            limits.default_card,
        )];
        for extra in &spec.extra_enis {
            let new = NewEni {
                subnet: extra.subnet.clone(),
                primary: None,
                slots: Want { addresses: extra.secondary_ips, prefixes: extra.prefixes, ..Want::default() },
                description: String::new(),
                interface_type: extra.interface_type.clone(),
                groups: self.groups_or_default(&extra.security_groups),
                tags: extra.tags.clone(),
            };
            let id = self.create_eni(new, dice).map_err(|_| full(&extra.subnet, "an extra ENI"))?;
            enis.push((id, extra.device, extra.card));
        }
        for (id, device, card) in &enis {
            let attachment = Attachment {
                id: checked(&dice.id(AttachmentId::PREFIX)),
                instance: spec.id.clone(),
                device: *device,
                card: *card,
                tie: Tie::Attached,
                delete_on_termination: true,
                since: Time(0),
                seen: true,
            };
            if let Some(eni) = self.enis.get_mut(id) {
                eni.attachment = Some(attachment);
            }
        }
        let Some((primary, ..)) = enis.into_iter().next() else { return Ok(()) };
        let private_ip = self.enis.get(&primary).map_or(Ipv4Addr::UNSPECIFIED, |eni| eni.primary);
        let maps = self.subnets.get(&spec.subnet).is_some_and(|subnet| subnet.spec.map_public_ip);
        if let Some(public) = spec.public_ip.or_else(|| if maps { self.pick_public() } else { None }) {
            self.public.insert(public);
            if let Some(eni) = self.enis.get_mut(&primary) {
                eni.public.insert(private_ip, public);
            }
        }
        let private_dns_name = spec.private_dns_name.clone().unwrap_or_else(|| self.private_dns_name(private_ip));
        let instance = Instance {
            limits,
            power: Power::Running,
            primary,
            private_ip,
            private_dns_name,
            zone: self.subnets.get(&spec.subnet).map(|subnet| subnet.spec.zone.clone()).unwrap_or_default(),
            launched: Time(0),
            tags: named(&spec.tags, &spec.name),
            spec,
        };
        self.instances.insert(instance.spec.id.clone(), instance);
        Ok(())
    }

    /// The network around the ENIs.
    pub(crate) fn plan(&self) -> NetworkPlan {
        let spec = &self.spec;
        let subnets = self.subnets.iter().map(|(id, subnet)| {
            let route_table = spec.route_table_of(id).map(|table| table.id.clone()).unwrap_or_default();
            (id.clone(), PlannedSubnet { cidr: subnet.spec.cidr, route_table })
        });
        let rules =
            |group: &SecurityGroupSpec| GroupRules { ingress: group.ingress.clone(), egress: group.egress.clone() };
        NetworkPlan {
            cidrs: spec.vpc.cidrs.clone(),
            subnets: subnets.collect(),
            route_tables: spec.route_tables.iter().map(|table| (table.id.clone(), table.routes.clone())).collect(),
            groups: spec.security_groups.iter().map(|group| (group.id.clone(), rules(group))).collect(),
            nat_gateways: spec.nat_gateways.clone(),
            peerings: spec.peerings.clone(),
            virtual_gateway: spec.virtual_gateway.clone(),
            endpoints: Vec::new(),
        }
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
        if !groups.is_empty() {
            return groups.to_vec();
        }
        self.spec.security_groups.iter().take(1).map(|group| group.id.clone()).collect()
    }

    /// A public address that nobody has.
    pub(crate) fn pick_public(&self) -> Option<Ipv4Addr> {
        self.spec.public_pool.hosts().find(|address| !self.public.contains(address))
    }

    /// Makes an ENI with all its addresses, or nothing at all.
    pub(crate) fn create_eni(&mut self, new: NewEni, dice: &mut Dice) -> Result<EniId, ApiError> {
        let subnet = self.subnets.get_mut(&new.subnet).ok_or_else(|| ApiError::no_subnet(&new.subnet))?;
        let before = subnet.pool.clone();
        let id: EniId = checked(&dice.id(EniId::PREFIX));
        let primary = match new.primary {
            Some(address) => claim(&subnet.pool, address)?,
            None => one(subnet.pool.pick_addresses(1, dice))?,
        };
        subnet.pool.take(primary, Holder::Eni(id.clone()));
        let (secondary, prefixes) = match take_slots(&mut subnet.pool, &id, &new.slots, dice) {
            Ok(taken) => taken,
            Err(error) => {
                subnet.pool = before;
                return Err(error);
            }
        };
        let eni = Eni {
            mac: self.fresh_mac(dice),
            id: id.clone(),
            subnet: new.subnet,
            description: new.description,
            interface_type: new.interface_type,
            groups: new.groups,
            tags: new.tags,
            primary,
            secondary,
            prefixes,
            public: BTreeMap::new(),
            source_dest_check: true,
            connection_tracking: None,
            attachment: None,
        };
        self.enis.insert(id.clone(), eni);
        Ok(id)
    }

    fn fresh_mac(&self, dice: &mut Dice) -> Mac {
        loop {
            let mac = dice.mac();
            if !self.enis.values().any(|eni| eni.mac == mac) {
                return mac;
            }
        }
    }

    /// Gives an ENI more addresses or prefixes: all of them or none.
    pub(crate) fn assign(
        &mut self,
        id: &EniId,
        want: &Want,
        dice: &mut Dice,
    ) -> Result<(Vec<Ipv4Addr>, Vec<Prefix28>), ApiError> {
        let eni = self.enis.get_mut(id).ok_or_else(|| ApiError::no_eni(id))?;
        let subnet = self.subnets.get_mut(&eni.subnet).ok_or_else(|| ApiError::no_subnet(&eni.subnet))?;
        let before = subnet.pool.clone();
        let (addresses, prefixes) =
            take_slots(&mut subnet.pool, id, want, dice).inspect_err(|_| subnet.pool = before)?;
        eni.secondary.extend(&addresses);
        eni.prefixes.extend(&prefixes);
        Ok((addresses, prefixes))
    }

    /// Takes secondary addresses and prefixes from an ENI. The caller has checked that it holds them.
    pub(crate) fn unassign(&mut self, id: &EniId, slots: &[Slot]) {
        let Some(eni) = self.enis.get_mut(id) else { return };
        let Some(subnet) = self.subnets.get_mut(&eni.subnet) else { return };
        for slot in slots {
            match slot {
                Slot::Address(address) => eni.secondary.retain(|own| own != address),
                Slot::Prefix(prefix) => eni.prefixes.retain(|own| own != prefix),
            }
            subnet.pool.release(*slot);
        }
    }

    /// Removes an ENI and gives back all its addresses. Returns it as it was.
    pub(crate) fn delete_eni(&mut self, id: &EniId) -> Option<Eni> {
        let eni = self.enis.remove(id)?;
        if let Some(subnet) = self.subnets.get_mut(&eni.subnet) {
            let addresses = eni.secondary.iter().chain([&eni.primary]).map(|address| Slot::Address(*address));
            addresses
                .chain(eni.prefixes.iter().map(|prefix| Slot::Prefix(*prefix)))
                .for_each(|s| subnet.pool.release(s));
        }
        for public in eni.public.values() {
            self.public.remove(public);
        }
        Some(eni)
    }

    /// The ENIs of an instance, by card and device.
    pub(crate) fn enis_of(&self, instance: &InstanceId) -> Vec<&Eni> {
        let mut enis: Vec<_> = self
            .enis
            .values()
            .filter_map(|eni| {
                eni.attachment.as_ref().filter(|a| a.instance == *instance).map(|a| (a.card, a.device, eni))
            })
            .collect();
        enis.sort_by_key(|(card, device, _)| (*card, *device));
        enis.into_iter().map(|(_, _, eni)| eni).collect()
    }

    /// The ENI with that attachment.
    pub(crate) fn attached_as(&self, id: &AttachmentId) -> Option<&Eni> {
        self.enis.values().find(|eni| eni.attachment.as_ref().is_some_and(|attachment| attachment.id == *id))
    }

    /// The ENI that holds a private address, alone or in a prefix.
    pub(crate) fn owner_of(&self, address: Ipv4Addr) -> Option<&Eni> {
        let subnet = self.subnets.values().find(|subnet| subnet.spec.cidr.net().contains(&address))?;
        match subnet.pool.holder(address)? {
            Holder::Eni(id) => self.enis.get(&id),
            Holder::Gateway(_) => None,
        }
    }
}

impl SubnetState {
    fn new(spec: &SubnetSpec) -> Self {
        Self { spec: spec.clone(), pool: AddressPool::new(spec.cidr), tags: named(&spec.tags, &spec.name) }
    }
}

/// Tags with a `Name`.
fn named(tags: &Tags, name: &str) -> Tags {
    let mut tags = tags.clone();
    tags.entry("Name".to_owned()).or_insert_with(|| name.to_owned());
    tags
}

fn claim(pool: &AddressPool, address: Ipv4Addr) -> Result<Ipv4Addr, ApiError> {
    if !pool.gives_out(address) {
        return Err(ApiError::value(format!(
            "Address {address} does not fall within the subnet's address range or is reserved"
        )));
    }
    if pool.is_free(address) {
        return Ok(address);
    }
    Err(ApiError::client("InvalidIPAddress.InUse", format!("Address {address} is in use.")))
}

fn one(picked: Result<Vec<Ipv4Addr>, Shortage>) -> Result<Ipv4Addr, ApiError> {
    picked.ok().and_then(|addresses| addresses.first().copied()).ok_or_else(ApiError::too_few_addresses)
}

/// Takes what is wanted out of a pool. On an error the pool may be half changed: the caller puts the old one back.
fn take_slots(
    pool: &mut AddressPool,
    id: &EniId,
    want: &Want,
    dice: &mut Dice,
) -> Result<(Vec<Ipv4Addr>, Vec<Prefix28>), ApiError> {
    let mut addresses = Vec::new();
    for address in &want.these_addresses {
        addresses.push(claim(pool, *address)?);
        pool.take(*address, Holder::Eni(id.clone()));
    }
    for address in pool.pick_addresses(want.addresses, dice).map_err(|_| ApiError::too_few_addresses())? {
        addresses.push(address);
        pool.take(address, Holder::Eni(id.clone()));
    }
    let mut prefixes = Vec::new();
    for prefix in &want.these_prefixes {
        if !pool.is_block_free(*prefix) {
            return Err(ApiError::value(format!("The prefix {prefix} is not available in the subnet")));
        }
        prefixes.push(*prefix);
        pool.take_prefix(*prefix, id.clone());
    }
    let picked = pool.pick_prefixes(want.prefixes, dice).map_err(|shortage| match shortage {
        Shortage::Addresses => ApiError::too_few_for_prefixes(),
        Shortage::Blocks => ApiError::too_few_blocks(),
    })?;
    for prefix in picked {
        prefixes.push(prefix);
        pool.take_prefix(prefix, id.clone());
    }
    Ok((addresses, prefixes))
}
