//! The books: which ENIs the node has, which addresses are on them, whose each address is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_model::{
    AttachmentId, CardIndex, DeviceIndex, EniId, Mac, Millis, PodRef, RouteTable, SandboxKey, Slot, Subnet, SubnetId,
    Time,
};

/// What does not change about an ENI while the node has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EniFacts {
    /// Its id.
    pub id: EniId,
    /// Its hardware address: the only name EC2 and the kernel share.
    pub mac: Mac,
    /// Network card it sits on.
    pub card: CardIndex,
    /// Position on the card.
    pub device: DeviceIndex,
    /// Network of the subnet it lives in.
    pub subnet: Subnet,
    /// That subnet's id; `None` if only a checkpoint that does not say it knows the ENI.
    pub subnet_id: Option<SubnetId>,
    /// Its own address, never given to a pod.
    pub primary: Ipv4Addr,
}

impl EniFacts {
    /// Whether it is the instance's primary ENI, which can never be detached.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.card.0 == 0 && self.device.0 == 0
    }

    /// The route table its pods use.
    #[must_use]
    pub fn table(&self) -> RouteTable {
        RouteTable::of_eni(self.card, self.device)
    }
}

/// Whether pods may be put on an ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EniUse {
    /// Its link is not configured yet: addresses on it exist but carry no packets.
    SettingUp,
    /// Pods may use it.
    Ready,
    /// Only the checkpoint knows it (metadata did not list it): its pods stay as they are, it gets no new ones.
    Doubtful,
    /// It is being given back: no new pods.
    Leaving,
}

/// What an ENI is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EniRole {
    /// New pods go here.
    Pods,
    /// Pods it has stay; it gets no new ones, counts for nothing, and is given back when it is empty (the primary one stays).
    Retired(Retired),
}

/// Why an ENI gets no new pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retired {
    /// Custom networking is on and it is the primary one.
    PrimaryOfCustomNetworking,
    /// Custom networking is on, and it is in another subnet than the node's ENIConfig names.
    OutsideEniConfig,
    /// A tag on its subnet keeps pods out (`kubernetes.io/role/cni=0`, or other clusters' tags only).
    SubnetExcluded,
    /// Somebody keeps it for himself now (`no_manage`), or it turned out to be of a kind that carries no pods.
    NotOurs,
}

/// What is known of a secondary position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// EC2 put it there or confirmed it, or the checkpoint recorded it as held: its addresses may be given.
    Held,
    /// Only the metadata list it: nobody gets an address of it before EC2 has confirmed it.
    Unconfirmed,
    /// EC2 does not list it any more. Pods on it stay; nobody new gets an address of it.
    Missing,
    /// It is being given back: nobody new gets an address of it.
    Leaving,
}

/// An ENI of the pool.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PoolEni {
    /// What it is.
    pub facts: EniFacts,
    /// How EC2 names its tie to the instance, where known.
    pub attachment: Option<AttachmentId>,
    /// When it came into the pool.
    #[serde(skip)]
    pub since: Time,
    /// Whether pods may be put on it.
    pub usage: EniUse,
    /// What it is for.
    pub role: EniRole,
    /// It is never given back, however idle (an EFA, which can not be attached to a running instance again).
    pub keep: bool,
    /// Its secondary positions.
    pub slots: BTreeMap<Slot, SlotState>,
}

impl PoolEni {
    /// Whether new pods may be put on it now.
    #[must_use]
    pub fn takes_pods(&self) -> bool {
        self.usage == EniUse::Ready && self.role == EniRole::Pods
    }

    /// Its secondary positions, whatever is known of them.
    pub fn positions(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots.keys().copied()
    }
}

/// Where an address was handed to: what DEL needs even if its ENI is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Allocation {
    /// The address.
    pub address: Ipv4Addr,
    /// Position of its ENI.
    pub device: DeviceIndex,
    /// Route table of its ENI.
    pub table: RouteTable,
}

/// An address that belongs to a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose.
    pub key: SandboxKey,
    /// Its pod.
    pub pod: PodRef,
    /// Where it is.
    pub allocation: Allocation,
    /// Since when.
    pub since: Time,
}

/// What is known of an address that was ever used. One that was not has no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Belongs to a sandbox.
    Held(Held),
    /// Rests after its pod has gone; nobody gets it before `until`.
    Cooling {
        /// When it was released.
        since: Time,
        /// When it may be used again.
        until: Time,
    },
}

/// Outcome of [`Pool::take`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The sandbox already had this address.
    Already(Allocation),
    /// A free address became the sandbox's.
    Fresh(Allocation),
    /// None is free now.
    None,
}

/// Outcome of [`Pool::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// What the sandbox had.
    pub held: Held,
    /// When the address may be used again.
    pub until: Time,
}

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

/// Counts over ENIs that are not leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// ENIs in the pool, leaving ones too.
    pub enis: u32,
    /// Addresses pods could have.
    pub total: u32,
    /// Addresses pods have.
    pub held: u32,
    /// Addresses that rest.
    pub cooling: u32,
    /// Free addresses on ENIs that are ready.
    pub ready: u32,
    /// Free addresses on ENIs that are being set up.
    pub setting_up: u32,
}

/// A broken invariant, found by [`Pool::audit`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The two indexes disagree.
    #[error("{key} is said to hold {address}, but the address says otherwise")]
    Owner {
        /// Sandbox.
        key: SandboxKey,
        /// Address.
        address: Ipv4Addr,
    },
    /// A slot stands on two ENIs.
    #[error("{slot} is on {first} and on {second}")]
    SlotTwice {
        /// Slot.
        slot: Slot,
        /// One ENI.
        first: EniId,
        /// The other.
        second: EniId,
    },
    /// A primary address is given out.
    #[error("{address} is the primary address of {eni} and in use by a pod")]
    PrimaryGiven {
        /// Address.
        address: Ipv4Addr,
        /// ENI.
        eni: EniId,
    },
}

/// The pool of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    enis: BTreeMap<EniId, PoolEni>,
    uses: BTreeMap<Ipv4Addr, Use>,
    owners: BTreeMap<SandboxKey, Ipv4Addr>,
}

impl Pool {
    /// The ENIs by id.
    pub fn enis(&self) -> impl Iterator<Item = &PoolEni> {
        self.enis.values()
    }

    /// One ENI.
    #[must_use]
    pub fn eni(&self, id: &EniId) -> Option<&PoolEni> {
        self.enis.get(id)
    }

    /// Every address that belongs to a sandbox.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.uses.values().filter_map(|usage| match usage {
            Use::Held(held) => Some(held),
            Use::Cooling { .. } => None,
        })
    }

    /// Every resting address: (address, released at, rests until).
    pub fn cooling(&self) -> impl Iterator<Item = (Ipv4Addr, Time, Time)> {
        self.uses.iter().filter_map(|(address, usage)| match usage {
            Use::Held(_) => None,
            Use::Cooling { since, until } => Some((*address, *since, *until)),
        })
    }

    /// What a sandbox holds.
    #[must_use]
    pub fn of(&self, key: &SandboxKey) -> Option<&Held> {
        match self.uses.get(self.owners.get(key)?)? {
            Use::Held(held) => Some(held),
            Use::Cooling { .. } => None,
        }
    }

    /// Takes an ENI into the pool with what is on it.
    ///
    /// # Errors
    /// It is there already, or one of its slots is on another ENI.
    pub fn adopt(&mut self, eni: PoolEni) -> Result<(), PoolError> {
        if self.enis.contains_key(&eni.facts.id) {
            return Err(PoolError::DuplicateEni(eni.facts.id));
        }
        for slot in eni.slots.keys() {
            self.refuse_taken(*slot, &eni.facts.id)?;
        }
        self.enis.insert(eni.facts.id.clone(), eni);
        Ok(())
    }

    /// Adds slots that EC2 put on an ENI. Slots that are there already are fine.
    ///
    /// # Errors
    /// No such ENI, or a slot is on another ENI.
    pub fn admit(&mut self, id: &EniId, slots: impl IntoIterator<Item = Slot>) -> Result<(), PoolError> {
        let slots: Vec<Slot> = slots.into_iter().collect();
        for slot in &slots {
            self.refuse_taken(*slot, id)?;
        }
        let eni = self.enis.get_mut(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        let primary = eni.facts.primary;
        let secondary = slots.into_iter().filter(|slot| *slot != Slot::Address(primary));
        eni.slots.extend(secondary.map(|slot| (slot, SlotState::Held)));
        Ok(())
    }

    /// Says whether pods may be put on an ENI.
    ///
    /// # Errors
    /// No such ENI.
    pub fn set_use(&mut self, id: &EniId, usage: EniUse) -> Result<(), PoolError> {
        let eni = self.enis.get_mut(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        eni.usage = usage;
        Ok(())
    }

    /// Says what an ENI is for, and whether it is kept whatever happens.
    ///
    /// # Errors
    /// No such ENI.
    pub fn set_role(&mut self, id: &EniId, role: EniRole, keep: bool) -> Result<(), PoolError> {
        let eni = self.enis.get_mut(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        (eni.role, eni.keep) = (role, keep);
        Ok(())
    }

    /// Says what is known of a position. A position the ENI does not have is left alone.
    ///
    /// # Errors
    /// No such ENI.
    pub fn set_slot(&mut self, id: &EniId, slot: Slot, state: SlotState) -> Result<(), PoolError> {
        let eni = self.enis.get_mut(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        if let Some(known) = eni.slots.get_mut(&slot) {
            *known = state;
        }
        Ok(())
    }

    /// Takes a position that no pod and no resting address is on out of the books.
    ///
    /// # Errors
    /// No such ENI, or something is on it.
    pub fn forget_slot(&mut self, id: &EniId, slot: Slot) -> Result<(), PoolError> {
        let (held, cooling) = self.on_slot(slot);
        if held + cooling > 0 {
            return Err(PoolError::InUse { eni: id.clone(), held, cooling });
        }
        let eni = self.enis.get_mut(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        eni.slots.remove(&slot);
        Ok(())
    }

    /// How many addresses of a position belong to pods, and how many rest.
    #[must_use]
    pub fn on_slot(&self, slot: Slot) -> (u32, u32) {
        let count = |f: fn(&Use) -> bool| {
            u32::try_from(self.uses_in(slot).filter(|(_, usage)| f(usage)).count()).unwrap_or(u32::MAX)
        };
        (count(|usage| matches!(usage, Use::Held(_))), count(|usage| matches!(usage, Use::Cooling { .. })))
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
        let eni = self.enis.get_mut(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))?;
        eni.attachment = Some(attachment);
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
        self.enis.remove(id).ok_or_else(|| PoolError::UnknownEni(id.clone()))
    }

    /// How many addresses of an ENI belong to pods, and how many rest.
    #[must_use]
    pub fn on(&self, id: &EniId) -> Option<(u32, u32)> {
        let eni = self.enis.get(id)?;
        let count = |f: fn(&Use) -> bool| {
            let uses = eni.slots.keys().flat_map(|slot| self.uses_in(*slot));
            u32::try_from(uses.filter(|(_, usage)| f(usage)).count()).unwrap_or(u32::MAX)
        };
        Some((count(|usage| matches!(usage, Use::Held(_))), count(|usage| matches!(usage, Use::Cooling { .. }))))
    }

    /// Gives a sandbox an address: its own if it has one, else a free one of the fullest ready ENI (ties: lowest position), so
    /// that other ENIs empty and can be given back; on it the lowest free address. None of `barred` is given.
    pub fn take(&mut self, key: &SandboxKey, pod: &PodRef, now: Time, barred: &BTreeSet<Ipv4Addr>) -> Taken {
        if let Some(held) = self.of(key) {
            return Taken::Already(held.allocation);
        }
        let Some(allocation) = self.pick(barred) else { return Taken::None };
        let held = Held { key: key.clone(), pod: pod.clone(), allocation, since: now };
        self.uses.insert(allocation.address, Use::Held(held));
        self.owners.insert(key.clone(), allocation.address);
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
        self.uses.insert(held.allocation.address, Use::Held(held));
        Ok(())
    }

    /// Puts a rest back (from the checkpoint). An address that a pod holds stays held.
    pub fn restore_cooling(&mut self, address: Ipv4Addr, since: Time, until: Time) {
        self.uses.entry(address).or_insert(Use::Cooling { since, until });
    }

    /// Takes a sandbox's address back; it rests for `rest` before anyone gets it again.
    pub fn release(&mut self, key: &SandboxKey, now: Time, rest: Millis) -> Option<Released> {
        let address = self.owners.remove(key)?;
        let until = now + rest;
        match self.uses.insert(address, Use::Cooling { since: now, until }) {
            Some(Use::Held(held)) => Some(Released { held, until }),
            Some(Use::Cooling { .. }) | None => None,
        }
    }

    /// Ends the rest of addresses whose time has come; says whether any ended.
    pub fn end_rests(&mut self, now: Time) -> bool {
        let before = self.uses.len();
        self.uses.retain(|_, usage| !matches!(usage, Use::Cooling { until, .. } if *until <= now));
        self.uses.len() != before
    }

    /// When the next rest ends.
    #[must_use]
    pub fn next_rest_end(&self) -> Option<Time> {
        self.cooling().map(|(_, _, until)| until).min()
    }

    /// The counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { enis: u32::try_from(self.enis.len()).unwrap_or(u32::MAX), ..Stats::default() };
        for eni in self.enis.values().filter(|eni| eni.usage != EniUse::Leaving && eni.role == EniRole::Pods) {
            let total: u32 = eni.slots.keys().map(|slot| slot.size()).sum();
            let (held, cooling) = self.on(&eni.facts.id).unwrap_or_default();
            let free = total - held - cooling;
            stats.total += total;
            stats.held += held;
            stats.cooling += cooling;
            match eni.usage {
                EniUse::Ready => stats.ready += free,
                EniUse::SettingUp => stats.setting_up += free,
                EniUse::Doubtful | EniUse::Leaving => {}
            }
        }
        stats
    }

    /// Checks the whole of the books.
    #[must_use]
    pub fn audit(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for (key, address) in &self.owners {
            if !matches!(self.uses.get(address), Some(Use::Held(held)) if held.key == *key && held.allocation.address == *address)
            {
                found.push(Violation::Owner { key: key.clone(), address: *address });
            }
        }
        for held in self.held() {
            if self.owners.get(&held.key) != Some(&held.allocation.address) {
                found.push(Violation::Owner { key: held.key.clone(), address: held.allocation.address });
            }
        }
        let mut seen: BTreeMap<Slot, &EniId> = BTreeMap::new();
        for eni in self.enis.values() {
            if let Some(Use::Held(_)) = self.uses.get(&eni.facts.primary) {
                found.push(Violation::PrimaryGiven { address: eni.facts.primary, eni: eni.facts.id.clone() });
            }
            for slot in eni.slots.keys() {
                if let Some(first) = seen.insert(*slot, &eni.facts.id) {
                    found.push(Violation::SlotTwice {
                        slot: *slot,
                        first: first.clone(),
                        second: eni.facts.id.clone(),
                    });
                }
            }
        }
        found
    }

    fn refuse_taken(&self, slot: Slot, by: &EniId) -> Result<(), PoolError> {
        match self.enis.values().find(|eni| eni.facts.id != *by && eni.slots.contains_key(&slot)) {
            Some(other) => Err(PoolError::SlotTaken { slot, eni: other.facts.id.clone() }),
            None => Ok(()),
        }
    }

    fn uses_in(&self, slot: Slot) -> impl Iterator<Item = (&Ipv4Addr, &Use)> {
        let first = slot.net().network();
        let last = slot.net().broadcast();
        self.uses.range(first..=last)
    }

    fn pick(&self, barred: &BTreeSet<Ipv4Addr>) -> Option<Allocation> {
        let free_on = |eni: &PoolEni| {
            let held = eni.slots.iter().filter(|(_, state)| **state == SlotState::Held);
            let mut addresses = held.flat_map(|(slot, _)| slot.addresses());
            addresses.find(|address| !self.uses.contains_key(address) && !barred.contains(address))
        };
        let ready = self.enis.values().filter(|eni| eni.takes_pods());
        let mut by_fullness: Vec<(u32, &PoolEni)> =
            ready.map(|eni| (self.on(&eni.facts.id).unwrap_or_default().0, eni)).collect();
        by_fullness.sort_by_key(|(held, eni)| (std::cmp::Reverse(*held), eni.facts.card, eni.facts.device));
        by_fullness.into_iter().find_map(|(_, eni)| {
            let address = free_on(eni)?;
            Some(Allocation { address, device: eni.facts.device, table: eni.facts.table() })
        })
    }
}
