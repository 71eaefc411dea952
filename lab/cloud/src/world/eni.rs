//! ENIs: what they have, and how addresses come to them and go.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vpc_aws::ec2::shapes::ConnectionTrackingConfiguration;
use vpc_model::{
    AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Mac, Prefix28, SecurityGroupId, Slot, SubnetId, Time,
};

use super::World;
use crate::dice::Dice;
use crate::error::ApiError;
use crate::event::{AttachedEni, EniAddresses};
use crate::ids::checked;
use crate::pool::{AddressPool, Holder, Shortage};
use crate::spec::Tags;

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
    /// Whether the primary address gets a public one of the pool each time its instance starts, and loses it with the power.
    pub(crate) automatic_public: bool,
    /// The service of the provider that made it for itself: attached to the service, and nobody's to change.
    pub(crate) service: Option<Service>,
}

/// What an ENI is of that a service of the provider made for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// An interface endpoint (`vpce-…`).
    Endpoint(String),
    /// A NAT gateway (`nat-…`).
    NatGateway(String),
}

impl Service {
    /// Id of the endpoint or gateway.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Endpoint(id) | Self::NatGateway(id) => id,
        }
    }

    /// EC2's word for the kind of its ENIs.
    pub(crate) fn interface_type(&self) -> &'static str {
        match self {
            Self::Endpoint(_) => "vpc_endpoint",
            Self::NatGateway(_) => "nat_gateway",
        }
    }

    fn description(&self) -> String {
        match self {
            Self::Endpoint(id) => format!("VPC Endpoint Interface {id}"),
            Self::NatGateway(id) => format!("Interface for NAT Gateway {id}"),
        }
    }
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
            None if self.service.is_some() => "in-use",
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
    /// Makes an ENI with all its addresses, or nothing at all.
    pub(crate) fn create_eni(&mut self, new: NewEni, dice: &mut Dice) -> Result<EniId, ApiError> {
        let subnet = self.subnets.get_mut(&new.subnet).ok_or_else(|| ApiError::no_subnet(&new.subnet))?;
        let id: EniId = checked(&dice.id(EniId::PREFIX));
        let primary = match new.primary {
            Some(address) => claim(&subnet.pool, address)?,
            None => one(subnet.pool.pick_addresses(1, dice))?,
        };
        subnet.pool.take(primary, Holder::Eni(id.clone()));
        let (secondary, prefixes) = match take_slots(&mut subnet.pool, &id, &new.slots, dice) {
            Ok(taken) => taken,
            Err(error) => {
                subnet.pool.release(Slot::Address(primary));
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
            automatic_public: false,
            service: None,
        };
        self.enis.insert(eni);
        Ok(id)
    }

    /// Makes the ENI of an endpoint or a gateway.
    pub(crate) fn create_service_eni(
        &mut self,
        service: Service,
        subnet: &SubnetId,
        address: Option<Ipv4Addr>,
        groups: Vec<SecurityGroupId>,
        dice: &mut Dice,
    ) -> Result<&mut Eni, ApiError> {
        let new = NewEni {
            subnet: subnet.clone(),
            primary: address,
            slots: Want::default(),
            description: service.description(),
            interface_type: service.interface_type().to_owned(),
            groups,
            tags: Tags::new(),
        };
        let id = self.create_eni(new, dice)?;
        let eni = self.enis.get_mut(&id).ok_or_else(|| ApiError::no_eni(&id))?;
        eni.service = Some(service);
        Ok(eni)
    }

    fn fresh_mac(&self, dice: &mut Dice) -> Mac {
        loop {
            let mac = dice.mac();
            if !self.enis.has_mac(mac) {
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
        let (addresses, prefixes) = take_slots(&mut subnet.pool, id, want, dice)?;
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

/// Takes what is wanted out of a pool: all of it or nothing.
fn take_slots(
    pool: &mut AddressPool,
    id: &EniId,
    want: &Want,
    dice: &mut Dice,
) -> Result<(Vec<Ipv4Addr>, Vec<Prefix28>), ApiError> {
    let (mut addresses, mut prefixes) = (Vec::new(), Vec::new());
    let taken = take_each(pool, id, want, dice, (&mut addresses, &mut prefixes));
    if let Err(error) = taken {
        addresses.into_iter().for_each(|address| pool.release(Slot::Address(address)));
        prefixes.into_iter().for_each(|prefix| pool.release(Slot::Prefix(prefix)));
        return Err(error);
    }
    Ok((addresses, prefixes))
}

/// Takes what is wanted one by one; on an error what was taken so far is in the lists.
fn take_each(
    pool: &mut AddressPool,
    id: &EniId,
    want: &Want,
    dice: &mut Dice,
    (addresses, prefixes): (&mut Vec<Ipv4Addr>, &mut Vec<Prefix28>),
) -> Result<(), ApiError> {
    for address in &want.these_addresses {
        addresses.push(claim(pool, *address)?);
        pool.take(*address, Holder::Eni(id.clone()));
    }
    for address in pool.pick_addresses(want.addresses, dice).map_err(|_| ApiError::too_few_addresses())? {
        addresses.push(address);
        pool.take(address, Holder::Eni(id.clone()));
    }
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
    Ok(())
}
