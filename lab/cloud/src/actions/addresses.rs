//! Addresses and prefixes that come to ENIs and go.

use std::net::Ipv4Addr;

use vpc_aws::ec2::shapes::{
    AssignPrivateIpAddresses, AssignPrivateIpAddressesResponse, AssignedPrivateIpAddress, CreateNetworkInterface, Done,
    Ipv4PrefixEntry, Ipv4PrefixSpecification, PrivateIpAddressSpecification, UnassignPrivateIpAddresses,
};
use vpc_model::{EniId, InstanceLimits, Prefix28, Slot, all_instance_limits};

use super::one_kind;
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::event::FabricEvent;
use crate::world::Want;

impl Cloud {
    pub(super) fn assign(
        &mut self,
        request: &AssignPrivateIpAddresses,
    ) -> Result<AssignPrivateIpAddressesResponse, ApiError> {
        let id = &request.network_interface_id;
        let eni = self.own_eni(id)?;
        let want = Want {
            addresses: request.secondary_private_ip_address_count.unwrap_or(0),
            prefixes: request.ipv4_prefix_count.unwrap_or(0),
            these_addresses: request.private_ip_addresses.clone(),
            these_prefixes: request.ipv4_prefixes.clone(),
        };
        one_kind(
            &[
                ("SecondaryPrivateIpAddressCount", request.secondary_private_ip_address_count.is_some()),
                ("PrivateIpAddress", !request.private_ip_addresses.is_empty()),
                ("Ipv4PrefixCount", request.ipv4_prefix_count.is_some()),
                ("Ipv4Prefix", !request.ipv4_prefixes.is_empty()),
            ],
            true,
        )?;
        if want.slots() == 0 {
            return Err(ApiError::value("Value (0) for a count of addresses or prefixes is invalid: at least 1."));
        }
        if want.prefixes > 0 || !want.these_prefixes.is_empty() {
            self.instance_of(eni).map_or(Ok(()), |instance| check_takes_prefixes(instance.limits))?;
        }
        let limit = self.instance_of(eni).map_or_else(most_addresses, |instance| instance.limits.ipv4_per_eni);
        if eni.slots().saturating_add(want.slots()) > limit {
            return Err(ApiError::too_many_addresses());
        }
        let losers = if request.allow_reassignment == Some(true) { self.holders_of(&want, id) } else { Vec::new() };
        let (addresses, prefixes) = self.move_or_assign(id, &want, &losers)?;
        for (loser, _) in &losers {
            self.end_mappings(loser);
            self.eni_changed(loser);
        }
        self.eni_changed(id);
        Ok(AssignPrivateIpAddressesResponse {
            network_interface_id: id.clone(),
            assigned_private_ip_addresses: addresses
                .into_iter()
                .map(|private_ip_address| AssignedPrivateIpAddress { private_ip_address })
                .collect(),
            assigned_ipv4_prefixes: prefixes.into_iter().map(|ipv4_prefix| Ipv4PrefixEntry { ipv4_prefix }).collect(),
        })
    }

    /// Gives an ENI what it wants, some of it taken from others: all or nothing.
    fn move_or_assign(
        &mut self,
        id: &EniId,
        want: &Want,
        losers: &[(EniId, Slot)],
    ) -> Result<(Vec<Ipv4Addr>, Vec<Prefix28>), ApiError> {
        if losers.is_empty() {
            return self.world.assign(id, want, &mut self.dice);
        }
        let before = self.world.clone();
        for (loser, slot) in losers {
            self.world.unassign(loser, &[*slot]);
        }
        self.world.assign(id, want, &mut self.dice).inspect_err(|_| self.world = before)
    }

    /// Who else holds, beside a primary address, what is wanted by name.
    fn holders_of(&self, want: &Want, id: &EniId) -> Vec<(EniId, Slot)> {
        let addresses = want.these_addresses.iter().map(|address| Slot::Address(*address));
        let slots = addresses.chain(want.these_prefixes.iter().map(|prefix| Slot::Prefix(*prefix)));
        let holder = |slot: Slot| self.world.enis.keys().find(|other| *other != id && self.holds(other, slot));
        slots.filter_map(|slot| Some((holder(slot)?.clone(), slot))).collect()
    }

    pub(super) fn unassign(&mut self, request: &UnassignPrivateIpAddresses) -> Result<Done, ApiError> {
        let id = &request.network_interface_id;
        let primary = self.own_eni(id)?.primary;
        one_kind(
            &[
                ("PrivateIpAddress", !request.private_ip_addresses.is_empty()),
                ("Ipv4Prefix", !request.ipv4_prefixes.is_empty()),
            ],
            true,
        )?;
        if request.private_ip_addresses.contains(&primary) {
            return Err(ApiError::value(format!("The primary address {primary} of {id} cannot be unassigned.")));
        }
        let addresses = request.private_ip_addresses.iter().map(|address| Slot::Address(*address));
        let slots: Vec<_> = addresses.chain(request.ipv4_prefixes.iter().map(|prefix| Slot::Prefix(*prefix))).collect();
        if let Some(stranger) = slots.iter().find(|slot| !self.holds(id, **slot)) {
            return Err(ApiError::value(format!("[{stranger}] is not assigned to the network interface '{id}'.")));
        }
        self.world.unassign(id, &slots);
        self.end_mappings(id);
        self.eni_changed(id);
        Ok(Done::default())
    }

    /// Ends the public mappings of addresses the ENI no longer has.
    pub(crate) fn end_mappings(&mut self, id: &EniId) {
        let Some(eni) = self.world.enis.get_mut(id) else { return };
        let addresses = eni.addresses();
        let lost: Vec<_> = eni.public.keys().copied().filter(|private| !addresses.holds(*private)).collect();
        for private in lost {
            if let Some(public) = self.world.enis.get_mut(id).and_then(|eni| eni.public.remove(&private)) {
                self.world.public.remove(&public);
                self.emit(FabricEvent::PublicMappingChanged { private, public: None });
            }
        }
    }
}

/// The largest number of addresses an ENI of any type may have: what an ENI that is attached to nothing is held to.
pub(super) fn most_addresses() -> u32 {
    all_instance_limits().iter().map(|limits| limits.ipv4_per_eni).max().unwrap_or(50)
}

pub(super) fn check_takes_prefixes(limits: &InstanceLimits) -> Result<(), ApiError> {
    if limits.takes_prefixes() {
        return Ok(());
    }
    Err(ApiError::unsupported(format!("The instance type {} does not support prefixes.", limits.instance_type)))
}

/// The primary address and the slots of a creation.
pub(super) fn addresses_of(request: &CreateNetworkInterface) -> Result<(Option<Ipv4Addr>, Want), ApiError> {
    AskedSlots {
        primary: request.private_ip_address,
        addresses: &request.private_ip_addresses,
        address_count: request.secondary_private_ip_address_count,
        prefixes: &request.ipv4_prefixes,
        prefix_count: request.ipv4_prefix_count,
    }
    .read()
}

/// What a creation asks for.
pub(super) struct AskedSlots<'a> {
    pub(super) primary: Option<Ipv4Addr>,
    pub(super) addresses: &'a [PrivateIpAddressSpecification],
    pub(super) address_count: Option<u32>,
    pub(super) prefixes: &'a [Ipv4PrefixSpecification],
    pub(super) prefix_count: Option<u32>,
}

impl AskedSlots<'_> {
    /// The primary address, if a certain one is wanted, and what is wanted beside it.
    pub(super) fn read(&self) -> Result<(Option<Ipv4Addr>, Want), ApiError> {
        let kinds = [
            ("SecondaryPrivateIpAddressCount", self.address_count.unwrap_or(0) > 0),
            ("PrivateIpAddresses", !self.addresses.is_empty()),
            ("Ipv4PrefixCount", self.prefix_count.unwrap_or(0) > 0),
            ("Ipv4Prefix", !self.prefixes.is_empty()),
        ];
        if kinds.iter().any(|(_, given)| *given) {
            one_kind(&kinds, true)?;
        }
        let (primaries, others): (Vec<&PrivateIpAddressSpecification>, Vec<_>) =
            self.addresses.iter().partition(|address| address.primary == Some(true));
        if primaries.len() + usize::from(self.primary.is_some()) > 1 {
            return Err(ApiError::combination("Only one private address may be the primary one."));
        }
        let slots = Want {
            addresses: self.address_count.unwrap_or(0),
            prefixes: self.prefix_count.unwrap_or(0),
            these_addresses: others.iter().map(|address| address.private_ip_address).collect(),
            these_prefixes: self.prefixes.iter().map(|prefix| prefix.ipv4_prefix).collect(),
        };
        Ok((self.primary.or_else(|| primaries.first().map(|address| address.private_ip_address)), slots))
    }
}
