//! The books: which ENIs the node has, which addresses are on them, whose each address is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_model::{AttachmentId, DeviceIndex, EniId, Millis, PodRef, Prefix28, RouteTable, SandboxKey, Slot, Time};

use crate::count::{Book, Tally, bit};
use crate::stats::number;
use crate::{Allocation, Count, EniRole, EniUse, Held, PoolEni, Released, SlotState, Taken, Unit, Use, Violation, bug};

/// A change the books refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The ENI is there already.
    #[error("ENI {0} is in the pool already")]
    DuplicateEni(EniId),
    /// No such ENI.
    #[error("ENI {0} is not in the pool")]
    UnknownEni(EniId),
    /// The slot is on another ENI.
    #[error("{slot} is on {eni} already")]
    SlotTaken {
        /// The slot.
        slot: Slot,
        /// Where it is.
        eni: EniId,
    },
    /// A pod or a resting address is on it.
    #[error("{eni} still has {held} pods and {cooling} resting addresses")]
    InUse {
        /// Which ENI.
        eni: EniId,
        /// Addresses that belong to pods.
        held: u32,
        /// Addresses that rest.
        cooling: u32,
    },
    /// Two sandboxes claim one address.
    #[error("{address} belongs to {owner}; {claimant} can not have it too")]
    TwoOwners {
        /// The address.
        address: Ipv4Addr,
        /// Who has it.
        owner: Box<SandboxKey>,
        /// Who claims it.
        claimant: Box<SandboxKey>,
    },
    /// A sandbox claims a second address.
    #[error("{key} holds {address} already")]
    TwoAddresses {
        /// Who.
        key: Box<SandboxKey>,
        /// What it has.
        address: Ipv4Addr,
    },
}

/// One position of an ENI, with what is on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which.
    pub slot: Slot,
    /// What is known of it.
    pub state: SlotState,
    /// Its addresses that belong to pods.
    pub held: u32,
    /// Its addresses that rest.
    pub cooling: u32,
}

impl Position {
    /// Whether no pod and no resting address is on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        if bug!(GivenBackWhileResting) {
            return self.held == 0;
        }
        let prefix = matches!(self.slot, Slot::Prefix(_));
        self.held + self.cooling <= u32::from(prefix && bug!(PrefixGivenBackWithOnePod))
    }
}

/// The pool of one node. Taking, releasing and counting cost the logarithm of the addresses (and a look at each ENI).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    enis: BTreeMap<EniId, PoolEni>,
    /// One for each ENI.
    tallies: BTreeMap<EniId, Tally>,
    /// One for each position of an ENI.
    books: BTreeMap<Slot, Book>,
    /// Addresses that belong to sandboxes or rest, on an ENI or not.
    uses: BTreeMap<Ipv4Addr, Use>,
    owners: BTreeMap<SandboxKey, Ipv4Addr>,
    /// Resting addresses by the end of their rest.
    rests: BTreeSet<(Time, Ipv4Addr)>,
    changes: Changes,
    /// What sandboxes had that are gone, for [`crate::bugs::Bug::DoubleDelFreesAnothers`].
    #[cfg(feature = "deliberate-bugs")]
    former: BTreeMap<SandboxKey, Ipv4Addr>,
}

/// What became different since it was last asked: what a record of the pool has to say anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// An ENI or a position came, went, or is used otherwise. So it also is when a pod comes to or leaves a position that is not
    /// simply there: whether such a one is worth recording depends on its pods.
    pub enis: bool,
    /// Addresses that were given, taken back, or have rested.
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// Reading.
impl Pool {
    /// The ENIs by id.
    pub fn enis(&self) -> impl ExactSizeIterator<Item = &PoolEni> {
        self.enis.values()
    }

    /// One ENI.
    #[must_use]
    pub fn eni(&self, id: &EniId) -> Option<&PoolEni> {
        self.enis.get(id)
    }

    /// The ENI and the position an address is on.
    #[must_use]
    pub fn locate(&self, address: Ipv4Addr) -> Option<(&PoolEni, Slot)> {
        slots_of(address).into_iter().find_map(|slot| Some((self.enis.get(&self.books.get(&slot)?.eni)?, slot)))
    }

    /// The positions of an ENI, lowest first (single addresses before prefixes).
    pub fn positions(&self, id: &EniId) -> impl Iterator<Item = Position> {
        let slots = self.enis.get(id).into_iter().flat_map(PoolEni::positions);
        slots.filter_map(|slot| self.position(slot))
    }

    /// One position.
    #[must_use]
    pub fn position(&self, slot: Slot) -> Option<Position> {
        let book = self.books.get(&slot)?;
        let (held, cooling) = (book.held.count_ones(), book.cooling.count_ones());
        Some(Position { slot, state: book.state, held, cooling })
    }

    /// The positions of one unit and state of an ENI, summed. Nothing for an ENI that is not there.
    #[must_use]
    pub fn count(&self, id: &EniId, unit: Unit, state: SlotState) -> Count {
        self.tallies.get(id).map(|tally| tally.count(unit, state)).unwrap_or_default()
    }

    /// Every address that belongs to a sandbox.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.uses.values().filter_map(|usage| match usage {
            Use::Held(held) => Some(held),
            Use::Cooling { .. } => None,
        })
    }

    /// Every resting address, the one whose rest ends first before the others: (address, released at, rests until).
    pub fn cooling(&self) -> impl Iterator<Item = (Ipv4Addr, Time, Time)> {
        self.rests.iter().filter_map(|(_, address)| match self.uses.get(address)? {
            Use::Held(_) => None,
            Use::Cooling { since, until } => Some((*address, *since, *until)),
        })
    }

    /// What becomes of an address; `None` if it was never used, or its rest is over.
    #[must_use]
    pub fn use_of(&self, address: Ipv4Addr) -> Option<&Use> {
        self.uses.get(&address)
    }

    /// What a sandbox holds.
    #[must_use]
    pub fn of(&self, key: &SandboxKey) -> Option<&Held> {
        match self.uses.get(self.owners.get(key)?)? {
            Use::Held(held) => Some(held),
            Use::Cooling { .. } => None,
        }
    }

    /// How many addresses of a position belong to pods, and how many rest; also for a position that is on no ENI.
    #[must_use]
    pub fn on_slot(&self, slot: Slot) -> (u32, u32) {
        if let Some(position) = self.position(slot) {
            return (position.held, position.cooling);
        }
        let (held, cooling) = self.masks(slot);
        (held.count_ones(), cooling.count_ones())
    }

    /// How many addresses of an ENI belong to pods, and how many rest.
    #[must_use]
    pub fn on(&self, id: &EniId) -> Option<(u32, u32)> {
        let sum = self.tallies.get(id)?.sum();
        Some((sum.held, sum.cooling))
    }

    /// Ends the rest of one address, if its time has come; says whether it did.
    pub fn end_rest(&mut self, address: Ipv4Addr, now: Time) -> bool {
        let over = matches!(self.uses.get(&address), Some(Use::Cooling { until, .. }) if *until <= now);
        if over {
            self.note(address, None);
        }
        over
    }

    /// When the next rest ends.
    #[must_use]
    pub fn next_rest_end(&self) -> Option<Time> {
        self.rests.first().map(|(until, _)| *until)
    }
}

/// ENIs and their positions.
impl Pool {
    /// What became different since this was last called.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Takes an ENI into the pool with what is on it (its own address is none of its positions, and is left out).
    ///
    /// # Errors
    /// It is there already, or one of its slots is on another ENI.
    pub fn adopt(&mut self, mut eni: PoolEni) -> Result<(), PoolError> {
        let id = eni.facts.id.clone();
        if self.enis.contains_key(&id) {
            return Err(PoolError::DuplicateEni(id));
        }
        eni.slots.remove(&Slot::Address(eni.facts.primary));
        for slot in eni.slots.keys() {
            self.refuse_taken(*slot, &id)?;
        }
        self.changes.enis = true;
        self.tallies.insert(id.clone(), Tally::default());
        let slots = std::mem::take(&mut eni.slots);
        self.enis.insert(id.clone(), eni);
        for (slot, state) in slots {
            self.enter(&id, slot, state);
        }
        Ok(())
    }

    /// Adds slots that EC2 put on an ENI. Slots that are there already are confirmed, unless they are being given back: EC2 may
    /// still list those.
    ///
    /// # Errors
    /// No such ENI, or a slot is on another ENI.
    pub fn admit(&mut self, id: &EniId, slots: impl IntoIterator<Item = Slot>) -> Result<(), PoolError> {
        let slots: Vec<Slot> = slots.into_iter().collect();
        for slot in &slots {
            self.refuse_taken(*slot, id)?;
        }
        let eni = self.enis.get(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        let primary = Slot::Address(eni.facts.primary);
        for slot in slots.into_iter().filter(|slot| *slot != primary) {
            match self.books.get(&slot).map(|book| book.state) {
                None => self.enter(id, slot, SlotState::Held),
                Some(SlotState::Leaving) => {}
                Some(SlotState::Held | SlotState::Unconfirmed | SlotState::Missing) => {
                    self.set_slot(id, slot, SlotState::Held)?;
                }
            }
        }
        Ok(())
    }

    /// EC2 says that these positions are on an ENI now, or that it has the address of one as its own: what other positions in the books
    /// have of the same addresses has left. Takes those out, all of them if that is `sure`, else those that are missing already, or are
    /// on an ENI that is; pods keep their addresses. Says what it took out, and which of the positions can not be entered because others
    /// stay.
    pub fn make_way(&mut self, to: &EniId, slots: &[Slot], sure: bool) -> (Vec<(EniId, Slot)>, Vec<Slot>) {
        let (mut gone, mut blocked) = (Vec::new(), Vec::new());
        for slot in slots {
            let mut others = overlapping(*slot);
            others.retain(|other| self.books.get(other).is_some_and(|book| *other != *slot || book.eni != *to));
            for other in &others {
                let Some(book) = self.books.get(other) else { continue };
                let doubtful = self.enis.get(&book.eni).is_some_and(|eni| eni.usage == EniUse::Doubtful);
                if !(sure || doubtful || book.state == SlotState::Missing) {
                    continue;
                }
                let from = book.eni.clone();
                if let Some(eni) = self.enis.get_mut(&from) {
                    eni.slots.remove(other);
                }
                self.strike(*other);
                gone.push((from, *other));
            }
            if others.iter().any(|other| self.books.contains_key(other)) {
                blocked.push(*slot);
            }
        }
        (gone, blocked)
    }

    /// Says whether pods may be put on an ENI.
    ///
    /// # Errors
    /// No such ENI.
    pub fn set_use(&mut self, id: &EniId, usage: EniUse) -> Result<(), PoolError> {
        self.eni_mut(id)?.usage = usage;
        Ok(())
    }

    /// Says what an ENI is for, and whether it is kept whatever happens.
    ///
    /// # Errors
    /// No such ENI.
    pub fn set_role(&mut self, id: &EniId, role: EniRole, keep: bool) -> Result<(), PoolError> {
        let eni = self.eni_mut(id)?;
        (eni.role, eni.keep) = (role, keep);
        Ok(())
    }

    /// Says what is known of a position. A position the ENI does not have is left alone.
    ///
    /// # Errors
    /// No such ENI.
    pub fn set_slot(&mut self, id: &EniId, slot: Slot, state: SlotState) -> Result<(), PoolError> {
        if let Some(known) = self.eni_mut(id)?.slots.get_mut(&slot) {
            *known = state;
            self.revise(slot, |book| book.state = state);
        }
        Ok(())
    }

    /// Says the same of several positions of an ENI. Positions it does not have are left alone.
    ///
    /// # Errors
    /// No such ENI.
    pub fn set_slots(
        &mut self,
        id: &EniId,
        slots: impl IntoIterator<Item = Slot>,
        state: SlotState,
    ) -> Result<(), PoolError> {
        slots.into_iter().try_for_each(|slot| self.set_slot(id, slot, state))
    }

    /// Takes a position that no pod and no resting address is on out of the books.
    ///
    /// # Errors
    /// No such ENI, or something is on it.
    pub fn forget_slot(&mut self, id: &EniId, slot: Slot) -> Result<(), PoolError> {
        let eni = self.enis.get_mut(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        let Some(book) = self.books.get(&slot).filter(|book| book.eni == *id) else { return Ok(()) };
        let (held, cooling) = (book.held.count_ones(), book.cooling.count_ones());
        if held + cooling > 0 {
            return Err(PoolError::InUse { eni: id.clone(), held, cooling });
        }
        eni.slots.remove(&slot);
        self.strike(slot);
        Ok(())
    }

    /// Counts an ENI's age from now.
    pub fn renew(&mut self, id: &EniId, now: Time) {
        if let Some(eni) = self.enis.get_mut(id) {
            eni.since = now;
        }
    }

    /// Notes how EC2 names the ENI's attachment.
    ///
    /// # Errors
    /// No such ENI.
    pub fn set_attachment(&mut self, id: &EniId, attachment: AttachmentId) -> Result<(), PoolError> {
        self.eni_mut(id)?.attachment = Some(attachment);
        Ok(())
    }

    /// Takes an ENI that no pod and no resting address is on out of the pool.
    ///
    /// # Errors
    /// No such ENI, or something is on it.
    pub fn remove(&mut self, id: &EniId) -> Result<PoolEni, PoolError> {
        let (held, cooling) = self.on(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        if held + cooling > 0 {
            return Err(PoolError::InUse { eni: id.clone(), held, cooling });
        }
        let eni = self.enis.remove(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        for slot in eni.slots.keys() {
            self.books.remove(slot);
        }
        self.tallies.remove(id);
        self.changes.enis = true;
        Ok(eni)
    }
}

/// Addresses.
impl Pool {
    /// Gives a sandbox an address: its own if it has one, else a free one of a position of `unit`, and of the other unit only if
    /// there is nothing else. None of `barred` is given, and no ENI's own address.
    ///
    /// Pods are packed, so that other prefixes and ENIs empty and can be given back: the prefix with most pods, of equal ones that
    /// with most resting addresses (it can not be given back anyway), then that on the ENI with most pods, then that in the lowest
    /// place; on it the lowest free address.
    pub fn take(
        &mut self,
        key: &SandboxKey,
        pod: &PodRef,
        now: Time,
        unit: Unit,
        barred: &BTreeSet<Ipv4Addr>,
    ) -> Taken {
        if let Some(held) = self.of(key) {
            return Taken::Already(held.allocation);
        }
        let Some(allocation) = self.pick(unit, barred).or_else(|| self.pick(unit.other(), barred)) else {
            return Taken::None;
        };
        let held = Held { key: key.clone(), pod: pod.clone(), allocation, since: now };
        self.owners.insert(key.clone(), allocation.address);
        self.note(allocation.address, Some(Use::Held(held)));
        Taken::Fresh(allocation)
    }

    /// Puts an earlier assignment back (from the checkpoint). The address need not be on any ENI that is known: a live pod's
    /// address is never forgotten, whatever EC2 or the metadata say.
    ///
    /// # Errors
    /// The address or the sandbox is taken.
    pub fn restore(&mut self, held: Held) -> Result<(), PoolError> {
        if let Some(Use::Held(other)) = self.uses.get(&held.allocation.address) {
            return Err(PoolError::TwoOwners {
                address: held.allocation.address,
                owner: Box::new(other.key.clone()),
                claimant: Box::new(held.key),
            });
        }
        if let Some(address) = self.owners.get(&held.key) {
            return Err(PoolError::TwoAddresses { key: Box::new(held.key), address: *address });
        }
        self.owners.insert(held.key.clone(), held.allocation.address);
        self.note(held.allocation.address, Some(Use::Held(held)));
        Ok(())
    }

    /// Puts a rest back (from the checkpoint). An address that a pod holds stays held.
    pub fn restore_cooling(&mut self, address: Ipv4Addr, since: Time, until: Time) {
        if !self.uses.contains_key(&address) {
            self.note(address, Some(Use::Cooling { since, until }));
        }
    }

    /// Takes a sandbox's address back; it rests for `rest` before anyone gets it again.
    pub fn release(&mut self, key: &SandboxKey, now: Time, rest: Millis) -> Option<Released> {
        #[cfg(feature = "deliberate-bugs")]
        if let Some(other) = self.heir_of(key) {
            return self.release(&other, now, rest);
        }
        let address = self.owners.remove(key)?;
        #[cfg(feature = "deliberate-bugs")]
        self.former.insert(key.clone(), address);
        let until = now + rest;
        match self.note(address, Some(Use::Cooling { since: now, until })) {
            Some(Use::Held(held)) => Some(Released { held, until }),
            Some(Use::Cooling { .. }) | None => None,
        }
    }

    /// Ends the rest of addresses whose time has come; says whether any ended.
    pub fn end_rests(&mut self, now: Time) -> bool {
        let mut ended = false;
        while let Some((_, address)) = self.rests.first().copied().filter(|(until, _)| *until <= now) {
            self.note(address, None);
            ended = true;
        }
        ended
    }

    fn pick(&self, unit: Unit, barred: &BTreeSet<Ipv4Addr>) -> Option<Allocation> {
        let ready = self.tallies().filter(|(eni, _)| eni.takes_pods());
        // Somebody may have taken an address off an ENI, and EC2 made it another's own, before the books have heard of it. One in doubt
        // bars nothing: its own address stays its own as long as it is, and on another ENI it proves that it is not any more.
        let own = |eni: &PoolEni, address| eni.facts.primary == address && eni.usage != EniUse::Doubtful;
        let barred = |address| barred.contains(&address) || self.enis().any(|eni| own(eni, address));
        let first_choices = ready.filter_map(|(eni, tally)| {
            let free = |slot: Slot| self.books.get(&slot)?.lowest_free(slot, barred);
            let (fullness, address) =
                tally.open(unit).find_map(|(held, cooling, slot)| Some(((*held, *cooling), free(*slot)?)))?;
            Some(((fullness, Reverse(tally.sum().held), eni.facts.card, eni.facts.device), eni, address))
        });
        let (_, eni, address) = first_choices.min_by_key(|(rank, ..)| *rank)?;
        Some(Allocation { address, device: eni.facts.device, table: eni.facts.table() })
    }
}

/// The indexes.
impl Pool {
    pub(crate) fn tallies(&self) -> impl Iterator<Item = (&PoolEni, &Tally)> {
        // Both maps have the same keys.
        self.enis.values().zip(self.tallies.values())
    }

    pub(crate) fn pods(&self) -> u32 {
        number(self.owners.len())
    }

    pub(crate) fn rests(&self) -> u32 {
        number(self.rests.len())
    }

    fn eni_mut(&mut self, id: &EniId) -> Result<&mut PoolEni, PoolError> {
        self.changes.enis = true;
        self.enis.get_mut(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))
    }

    fn refuse_taken(&self, slot: Slot, by: &EniId) -> Result<(), PoolError> {
        match self.books.get(&slot) {
            Some(book) if book.eni != *by => Err(PoolError::SlotTaken { slot, eni: book.eni.clone() }),
            Some(_) | None => Ok(()),
        }
    }

    /// Writes down what becomes of an address, in every index; `None` = nothing any more. Answers what it was.
    fn note(&mut self, address: Ipv4Addr, becomes: Option<Use>) -> Option<Use> {
        let held = matches!(becomes, Some(Use::Held(_)));
        let until = match &becomes {
            Some(Use::Cooling { until, .. }) => Some(*until),
            Some(Use::Held(_)) | None => None,
        };
        let was = match becomes {
            Some(becomes) => self.uses.insert(address, becomes),
            None => self.uses.remove(&address),
        };
        if let Some(Use::Cooling { until, .. }) = &was {
            self.rests.remove(&(*until, address));
        }
        if let Some(until) = until {
            self.rests.insert((until, address));
        }
        self.changes.addresses.insert(address);
        let usual = |(eni, slot): (&PoolEni, Slot)| {
            eni.usage != EniUse::Leaving && eni.slots.get(&slot) == Some(&SlotState::Held)
        };
        self.changes.enis |= !self.locate(address).is_none_or(usual);
        for slot in slots_of(address) {
            let bit = bit(slot, address);
            self.revise(slot, |book| {
                book.held = if held { book.held | bit } else { book.held & !bit };
                book.cooling = if until.is_some() { book.cooling | bit } else { book.cooling & !bit };
            });
        }
        was
    }

    fn enter(&mut self, id: &EniId, slot: Slot, state: SlotState) {
        self.changes.enis = true;
        let (held, cooling) = self.masks(slot);
        let book = Book { eni: id.clone(), state, held, cooling };
        if let Some(tally) = self.tallies.get_mut(id) {
            tally.add(slot, &book);
        }
        let place = self.enis.get_mut(id).map(|eni| {
            eni.slots.insert(slot, state);
            (eni.facts.device, eni.facts.table())
        });
        self.books.insert(slot, book);
        if held != 0
            && let Some(place) = place
        {
            self.follow(slot, place);
        }
    }

    /// Pods whose address has come to another ENI use that one's route table from now on.
    fn follow(&mut self, slot: Slot, (device, table): (DeviceIndex, RouteTable)) {
        let net = slot.net();
        for (address, usage) in self.uses.range_mut(net.network()..=net.broadcast()) {
            if let Use::Held(held) = usage
                && (held.allocation.device, held.allocation.table) != (device, table)
            {
                (held.allocation.device, held.allocation.table) = (device, table);
                self.changes.addresses.insert(*address);
            }
        }
    }

    fn strike(&mut self, slot: Slot) {
        self.changes.enis = true;
        if let Some(book) = self.books.remove(&slot)
            && let Some(tally) = self.tallies.get_mut(&book.eni)
        {
            tally.remove(slot, &book);
        }
    }

    fn revise(&mut self, slot: Slot, change: impl FnOnce(&mut Book)) {
        if let Some(book) = self.books.get_mut(&slot)
            && let Some(tally) = self.tallies.get_mut(&book.eni)
        {
            tally.remove(slot, book);
            change(book);
            tally.add(slot, book);
        }
    }

    /// Which addresses of a position belong to pods, and which rest, from the addresses themselves.
    fn masks(&self, slot: Slot) -> (u16, u16) {
        let net = slot.net();
        self.uses.range(net.network()..=net.broadcast()).fold((0, 0), |(held, cooling), (address, usage)| match usage {
            Use::Held(_) => (held | bit(slot, *address), cooling),
            Use::Cooling { .. } => (held, cooling | bit(slot, *address)),
        })
    }
}

#[cfg(feature = "deliberate-bugs")]
impl Pool {
    /// Whoever has the address now that a sandbox had which is gone.
    fn heir_of(&self, key: &SandboxKey) -> Option<SandboxKey> {
        let address =
            self.former.get(key).filter(|_| bug!(DoubleDelFreesAnothers) && !self.owners.contains_key(key))?;
        match self.uses.get(address)? {
            Use::Held(held) => Some(held.key.clone()),
            Use::Cooling { .. } => None,
        }
    }
}

/// What [`Pool::audit`] asks of the indexes.
impl Pool {
    pub(crate) fn wrong_owners(&self) -> impl Iterator<Item = Violation> {
        let unowned = self.owners.iter().filter(|(key, address)| {
            !matches!(self.uses.get(address), Some(Use::Held(held)) if held.key == **key && held.allocation.address == **address)
        });
        let unowned = unowned.map(|(key, address)| Violation::Owner { key: key.clone(), address: *address });
        let unheld = self.held().filter(|held| self.owners.get(&held.key) != Some(&held.allocation.address));
        unowned.chain(unheld.map(|held| Violation::Owner { key: held.key.clone(), address: held.allocation.address }))
    }

    pub(crate) fn counts_right(&self, eni: &PoolEni) -> bool {
        let mut recount = Tally::default();
        let books = eni.slots.iter().map(|(slot, state)| {
            let (held, cooling) = self.masks(*slot);
            (*slot, Book { eni: eni.facts.id.clone(), state: *state, held, cooling })
        });
        let same = books.fold(true, |same, (slot, book)| {
            recount.add(slot, &book);
            same && self.books.get(&slot) == Some(&book)
        });
        let mine = self.books.values().filter(|book| book.eni == eni.facts.id).count();
        same && mine == eni.slots.len() && self.tallies.get(&eni.facts.id) == Some(&recount)
    }

    pub(crate) fn rests_right(&self) -> bool {
        let resting = self.uses.iter().filter_map(|(address, usage)| match usage {
            Use::Held(_) => None,
            Use::Cooling { until, .. } => Some((*until, *address)),
        });
        resting.collect::<BTreeSet<_>>() == self.rests
    }
}

/// Positions that have an address of this one.
fn overlapping(slot: Slot) -> Vec<Slot> {
    match slot {
        Slot::Address(address) => slots_of(address).to_vec(),
        Slot::Prefix(prefix) => std::iter::once(slot).chain(prefix.addresses().map(Slot::Address)).collect(),
    }
}

/// The positions an address can be on: itself, and the prefix it lies in.
fn slots_of(address: Ipv4Addr) -> [Slot; 2] {
    [Slot::Address(address), Slot::Prefix(Prefix28::containing(address))]
}
