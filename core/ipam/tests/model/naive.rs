//! The pool once more, as slow and plain as it can be: two lists of positions and addresses, looked through for every answer. Written
//! from what the pool promises; nothing of the pool's own arithmetic is used, only its words (ids, states, answers).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use vpc_ipam::{
    Allocation, Count, EniRole, EniUse, Held, PoolEni, Released, SlotState, Stats, Target, Unit, Use, WarmTarget,
};
use vpc_model::{EniId, Millis, PodRef, SandboxKey, Slot, Time};

/// One address that was used and has not rested. All others are free.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) address: Ipv4Addr,
    pub(crate) usage: Use,
}

/// One position of an ENI.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) eni: EniId,
    pub(crate) slot: Slot,
    pub(crate) state: SlotState,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Naive {
    /// Without their positions.
    pub(crate) enis: Vec<PoolEni>,
    pub(crate) places: Vec<Place>,
    pub(crate) lines: Vec<Line>,
    /// Addresses that were given, taken back or have rested since that was last asked.
    pub(crate) touched: BTreeSet<Ipv4Addr>,
}

/// Why something is refused. Where two reasons hold, either may be named.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum No {
    DuplicateEni,
    UnknownEni,
    SlotTaken(Slot, EniId),
    InUse(u32, u32),
    TwoOwners(SandboxKey),
    TwoAddresses(Ipv4Addr),
}

/// What may be the answer to [`Naive::take`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    Already(Allocation),
    /// One of these.
    Fresh(Vec<Allocation>),
    None,
}

pub(crate) fn unit_of(slot: Slot) -> Unit {
    match slot {
        Slot::Address(_) => Unit::Address,
        Slot::Prefix(_) => Unit::Prefix,
    }
}

/// The addresses of a position, by hand.
pub(crate) fn addresses_of(slot: Slot) -> Vec<Ipv4Addr> {
    match slot {
        Slot::Address(address) => vec![address],
        Slot::Prefix(prefix) => (0..16).map(|n| Ipv4Addr::from_bits(prefix.first().to_bits() + n)).collect(),
    }
}

/// ENIs.
impl Naive {
    pub(crate) fn eni(&self, id: &EniId) -> Option<&PoolEni> {
        self.enis.iter().find(|eni| eni.facts.id == *id)
    }

    pub(crate) fn eni_mut(&mut self, id: &EniId) -> Option<&mut PoolEni> {
        self.enis.iter_mut().find(|eni| eni.facts.id == *id)
    }

    /// The ENI with its positions, as the pool shows it.
    pub(crate) fn shown(&self, id: &EniId) -> Option<PoolEni> {
        let mut eni = self.eni(id)?.clone();
        eni.slots = self.places_of(id).map(|place| (place.slot, place.state)).collect();
        Some(eni)
    }

    pub(crate) fn places_of(&self, id: &EniId) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(move |place| place.eni == *id)
    }

    pub(crate) fn place(&self, slot: Slot) -> Option<&Place> {
        self.places.iter().find(|place| place.slot == slot)
    }

    fn taken_elsewhere(&self, slots: &[Slot], by: &EniId) -> Vec<No> {
        let others = self.places.iter().filter(|place| slots.contains(&place.slot) && place.eni != *by);
        others.map(|place| No::SlotTaken(place.slot, place.eni.clone())).collect()
    }

    /// What may be said against it; nothing: it is in.
    pub(crate) fn adopt(&mut self, mut eni: PoolEni) -> Vec<No> {
        let id = eni.facts.id.clone();
        let slots = std::mem::take(&mut eni.slots);
        let own = Slot::Address(eni.facts.primary);
        let slots: Vec<(Slot, SlotState)> = slots.into_iter().filter(|(slot, _)| *slot != own).collect();
        let mut no = self.taken_elsewhere(&slots.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), &id);
        if self.eni(&id).is_some() {
            no.push(No::DuplicateEni);
        }
        if no.is_empty() {
            self.enis.push(eni);
            for (slot, state) in slots {
                self.enter(Place { eni: id.clone(), slot, state });
            }
        }
        no
    }

    /// Pods that have an address of it use its ENI's route table from now on.
    fn enter(&mut self, place: Place) {
        let facts = self.eni(&place.eni).map(|eni| (eni.facts.device, eni.facts.table()));
        let inside = addresses_of(place.slot);
        for line in self.lines.iter_mut().filter(|line| inside.contains(&line.address)) {
            if let (Use::Held(held), Some((device, table))) = (&mut line.usage, facts)
                && (held.allocation.device, held.allocation.table) != (device, table)
            {
                (held.allocation.device, held.allocation.table) = (device, table);
                self.touched.insert(line.address);
            }
        }
        self.places.push(place);
    }

    pub(crate) fn admit(&mut self, id: &EniId, slots: &[Slot]) -> Vec<No> {
        let mut no = self.taken_elsewhere(slots, id);
        let Some(own) = self.eni(id).map(|eni| Slot::Address(eni.facts.primary)) else {
            no.push(No::UnknownEni);
            return no;
        };
        if no.is_empty() {
            for slot in slots.iter().filter(|slot| **slot != own) {
                match self.places.iter_mut().find(|place| place.slot == *slot) {
                    Some(place) if place.state == SlotState::Leaving => {}
                    Some(place) => place.state = SlotState::Held,
                    None => self.enter(Place { eni: id.clone(), slot: *slot, state: SlotState::Held }),
                }
            }
        }
        no
    }

    pub(crate) fn mark(&mut self, id: &EniId, slot: Slot, state: SlotState) -> Vec<No> {
        if self.eni(id).is_none() {
            return vec![No::UnknownEni];
        }
        for place in self.places.iter_mut().filter(|place| place.eni == *id && place.slot == slot) {
            place.state = state;
        }
        vec![]
    }

    pub(crate) fn forget(&mut self, id: &EniId, slot: Slot) -> Vec<No> {
        if self.eni(id).is_none() {
            return vec![No::UnknownEni];
        }
        let (held, cooling) = self.on_slot(slot);
        if self.places_of(id).any(|place| place.slot == slot) && held + cooling > 0 {
            return vec![No::InUse(held, cooling)];
        }
        self.places.retain(|place| place.eni != *id || place.slot != slot);
        vec![]
    }

    /// What has an address of one of these positions anywhere else goes, if that is sure, or EC2 did not list it, or its ENI. Answers what
    /// has gone, and which of the positions still have no place.
    pub(crate) fn make_way(&mut self, to: &EniId, slots: &[Slot], sure: bool) -> (Vec<(EniId, Slot)>, Vec<Slot>) {
        let (mut gone, mut blocked) = (Vec::new(), Vec::new());
        for slot in slots {
            let wanted = addresses_of(*slot);
            let stands_in_the_way = |place: &Place| {
                let same = place.eni == *to && place.slot == *slot;
                !same && addresses_of(place.slot).iter().any(|address| wanted.contains(address))
            };
            let doubtful: Vec<EniId> =
                self.enis.iter().filter(|eni| eni.usage == EniUse::Doubtful).map(|eni| eni.facts.id.clone()).collect();
            let goes = |place: &Place| {
                stands_in_the_way(place) && (sure || place.state == SlotState::Missing || doubtful.contains(&place.eni))
            };
            gone.extend(self.places.iter().filter(|place| goes(place)).map(|place| (place.eni.clone(), place.slot)));
            self.places.retain(|place| !goes(place));
            if self.places.iter().any(stands_in_the_way) {
                blocked.push(*slot);
            }
        }
        (gone, blocked)
    }

    pub(crate) fn remove(&mut self, id: &EniId) -> Result<PoolEni, No> {
        let eni = self.shown(id).ok_or(No::UnknownEni)?;
        let (held, cooling) = self.on(id);
        if held + cooling > 0 {
            return Err(No::InUse(held, cooling));
        }
        self.enis.retain(|eni| eni.facts.id != *id);
        self.places.retain(|place| place.eni != *id);
        Ok(eni)
    }
}

/// Addresses.
impl Naive {
    pub(crate) fn use_of(&self, address: Ipv4Addr) -> Option<&Use> {
        self.lines.iter().find(|line| line.address == address).map(|line| &line.usage)
    }

    pub(crate) fn held(&self) -> Vec<&Held> {
        let held = self.lines.iter().filter_map(|line| match &line.usage {
            Use::Held(held) => Some(held),
            Use::Cooling { .. } => None,
        });
        held.collect()
    }

    pub(crate) fn of(&self, key: &SandboxKey) -> Option<&Held> {
        self.held().into_iter().find(|held| held.key == *key)
    }

    /// (Address, released, rests until), the first to end first.
    pub(crate) fn cooling(&self) -> Vec<(Ipv4Addr, Time, Time)> {
        let resting = self.lines.iter().filter_map(|line| match line.usage {
            Use::Cooling { since, until } => Some((line.address, since, until)),
            Use::Held(_) => None,
        });
        let mut resting: Vec<_> = resting.collect();
        resting.sort_by_key(|(address, _, until)| (*until, *address));
        resting
    }

    fn write(&mut self, address: Ipv4Addr, usage: Option<Use>) {
        self.lines.retain(|line| line.address != address);
        self.lines.extend(usage.map(|usage| Line { address, usage }));
        self.touched.insert(address);
    }

    /// What may be given next: of the unit asked for if there is any, else of the other one. The position with most pods, of equal ones
    /// that with most resting addresses, then that of the ENI with most pods, then of that in the lowest place; on it the lowest free
    /// address. Which of several positions that are equal in all this, is free.
    pub(crate) fn take(&self, key: &SandboxKey, unit: Unit, barred: &BTreeSet<Ipv4Addr>) -> Next {
        if let Some(held) = self.of(key) {
            return Next::Already(held.allocation);
        }
        for unit in [unit, if unit == Unit::Address { Unit::Prefix } else { Unit::Address }] {
            let mut open = Vec::new();
            for place in self.places.iter().filter(|place| unit_of(place.slot) == unit) {
                let Some(eni) = self.eni(&place.eni) else { continue };
                let takes_pods = eni.usage == EniUse::Ready && eni.role == EniRole::Pods;
                if !takes_pods || place.state != SlotState::Held {
                    continue;
                }
                let own_of = |eni: &PoolEni, address| eni.facts.primary == address && eni.usage != EniUse::Doubtful;
                let own = |address: &Ipv4Addr| self.enis.iter().any(|eni| own_of(eni, *address));
                let nobodys =
                    |address: &Ipv4Addr| self.use_of(*address).is_none() && !barred.contains(address) && !own(address);
                if let Some(lowest) = addresses_of(place.slot).into_iter().find(nobodys) {
                    let (held, cooling) = self.on_slot(place.slot);
                    let lowest_place = (-i64::from(eni.facts.card.0), -i64::from(eni.facts.device.0));
                    open.push(((held, cooling, self.on(&place.eni).0, lowest_place), lowest, eni));
                }
            }
            if let Some(best) = open.iter().map(|(rank, ..)| *rank).max() {
                let best = open.into_iter().filter(|(rank, ..)| *rank == best);
                let fresh = best.map(|(_, address, eni)| Allocation {
                    address,
                    device: eni.facts.device,
                    table: eni.facts.table(),
                });
                return Next::Fresh(fresh.collect());
            }
        }
        Next::None
    }

    pub(crate) fn given(&mut self, key: &SandboxKey, pod: &PodRef, allocation: Allocation, since: Time) {
        let held = Held { key: key.clone(), pod: pod.clone(), allocation, since };
        self.write(allocation.address, Some(Use::Held(held)));
    }

    pub(crate) fn restore(&mut self, held: Held) -> Vec<No> {
        let mut no = Vec::new();
        if let Some(Use::Held(owner)) = self.use_of(held.allocation.address) {
            no.push(No::TwoOwners(owner.key.clone()));
        }
        if let Some(other) = self.of(&held.key) {
            no.push(No::TwoAddresses(other.allocation.address));
        }
        if no.is_empty() {
            self.write(held.allocation.address, Some(Use::Held(held)));
        }
        no
    }

    pub(crate) fn restore_cooling(&mut self, address: Ipv4Addr, since: Time, until: Time) {
        if self.use_of(address).is_none() {
            self.write(address, Some(Use::Cooling { since, until }));
        }
    }

    pub(crate) fn release(&mut self, key: &SandboxKey, now: Time, rest: Millis) -> Option<Released> {
        let held = self.of(key)?.clone();
        let until = Time(now.0 + rest.0);
        self.write(held.allocation.address, Some(Use::Cooling { since: now, until }));
        Some(Released { held, until })
    }

    /// Ends the rest of one address, or of all; says whether any ended.
    pub(crate) fn end_rests(&mut self, only: Option<Ipv4Addr>, now: Time) -> bool {
        let over = |(address, _, until): &(Ipv4Addr, Time, Time)| *until <= now && only.is_none_or(|it| it == *address);
        let over: Vec<Ipv4Addr> = self.cooling().into_iter().filter(over).map(|(address, ..)| address).collect();
        over.iter().for_each(|address| self.write(*address, None));
        !over.is_empty()
    }
}

/// Counting.
impl Naive {
    /// Addresses of a position that belong to pods, and that rest.
    pub(crate) fn on_slot(&self, slot: Slot) -> (u32, u32) {
        let (mut held, mut cooling) = (0, 0);
        for address in addresses_of(slot) {
            match self.use_of(address) {
                Some(Use::Held(_)) => held += 1,
                Some(Use::Cooling { .. }) => cooling += 1,
                None => {}
            }
        }
        (held, cooling)
    }

    pub(crate) fn on(&self, id: &EniId) -> (u32, u32) {
        let each = self.places_of(id).map(|place| self.on_slot(place.slot));
        each.fold((0, 0), |sum, (held, cooling)| (sum.0 + held, sum.1 + cooling))
    }

    /// The position an address is on; a single address before the prefix around it.
    pub(crate) fn locate(&self, address: Ipv4Addr) -> Option<&Place> {
        let on = |unit: Unit| {
            self.places.iter().find(|at| unit_of(at.slot) == unit && addresses_of(at.slot).contains(&address))
        };
        on(Unit::Address).or_else(|| on(Unit::Prefix))
    }

    pub(crate) fn count(&self, which: impl Fn(&Place, &PoolEni) -> bool) -> Count {
        let mut count = Count::default();
        for place in &self.places {
            if self.eni(&place.eni).is_some_and(|eni| which(place, eni)) {
                let (held, cooling) = self.on_slot(place.slot);
                count.positions += 1;
                count.empty += u32::from(held == 0 && cooling == 0);
                count.addresses += addresses_of(place.slot).len() as u32;
                count.held += held;
                count.cooling += cooling;
            }
        }
        count
    }

    pub(crate) fn stats(&self) -> Stats {
        let usable =
            |eni: &PoolEni| eni.role == EniRole::Pods && (eni.usage == EniUse::Ready || eni.usage == EniUse::SettingUp);
        let of = |unit: Unit, state: SlotState| {
            self.count(|at, eni| usable(eni) && unit_of(at.slot) == unit && at.state == state)
        };
        let free_on = |usage: EniUse| {
            let there = self.count(|at, eni| usable(eni) && eni.usage == usage && at.state == SlotState::Held);
            there.addresses - there.held - there.cooling
        };
        let all = self.count(|at, eni| usable(eni) && at.state == SlotState::Held);
        let retired = |eni: &PoolEni| eni.role != EniRole::Pods;
        Stats {
            enis: self.enis.len() as u32,
            retired_enis: self.enis.iter().filter(|eni| retired(eni)).count() as u32,
            leaving_enis: self.enis.iter().filter(|eni| eni.usage == EniUse::Leaving).count() as u32,
            total: all.addresses,
            held: all.held,
            cooling: all.cooling,
            ready: free_on(EniUse::Ready),
            setting_up: free_on(EniUse::SettingUp),
            singles: of(Unit::Address, SlotState::Held),
            prefixes: of(Unit::Prefix, SlotState::Held),
            unconfirmed: self.count(|at, eni| usable(eni) && at.state == SlotState::Unconfirmed),
            missing: self.count(|at, _| at.state == SlotState::Missing),
            retired: self.count(|_, eni| retired(eni)),
            pods: self.held().len() as u32,
            resting: self.cooling().len() as u32,
        }
    }
}

/// What may be given back.
impl Naive {
    /// Whether nothing is on it and it is simply there.
    pub(crate) fn is_idle(&self, slot: Slot) -> bool {
        self.place(slot).is_some_and(|place| place.state == SlotState::Held) && self.on_slot(slot) == (0, 0)
    }

    /// Whether an ENI may be given back: not the primary one nor one that is kept, with nobody's address on it, old enough, not doubtful,
    /// with nothing on it that is on its way out.
    pub(crate) fn may_leave(&self, id: &EniId, target: &Target, now: Time) -> bool {
        let Some(eni) = self.eni(id) else { return false };
        let primary = eni.facts.card.0 == 0 && eni.facts.device.0 == 0;
        let steady = eni.usage == EniUse::Ready || (eni.role != EniRole::Pods && eni.usage == EniUse::SettingUp);
        let going = self.places_of(id).any(|place| place.state == SlotState::Leaving);
        let aged = now.0 >= eni.since.0 + target.min_eni_age.0;
        !primary && !eni.keep && steady && !going && aged && self.on(id) == (0, 0)
    }

    /// Addresses of the unit the pool grows in that pods can have, or will as soon as a link is up: (free, all).
    pub(crate) fn level(&self, unit: Unit) -> (u32, u32) {
        let usable =
            |eni: &PoolEni| eni.role == EniRole::Pods && (eni.usage == EniUse::Ready || eni.usage == EniUse::SettingUp);
        let count = self.count(|at, eni| usable(eni) && unit_of(at.slot) == unit && at.state == SlotState::Held);
        (count.addresses - count.held - count.cooling, count.addresses)
    }

    /// Whether so many free addresses of so many are what the target asks for.
    pub(crate) fn is_enough(target: &Target, (free, all): (u32, u32)) -> bool {
        let size = if target.unit == Unit::Prefix { 16 } else { 1 };
        match target.warm {
            WarmTarget::Enis(0) | WarmTarget::Prefixes(0) => free >= 1,
            WarmTarget::Enis(enis) => free >= enis * target.slots_per_eni * size,
            WarmTarget::Prefixes(prefixes) => free >= prefixes * 16,
            WarmTarget::Addresses { warm, minimum } => free >= warm && all >= minimum,
        }
    }
}
