//! Running counts, so that nothing has to walk over all addresses to know how many are free.
//!
//! Every position has a [`Book`]: two bit masks, which of its addresses belong to pods and which rest. An ENI's [`Tally`] is the sum
//! over its positions, and is only ever changed by taking a position's part out, changing the book, and adding the part again: it
//! can not drift. [`Pool::audit`](crate::Pool::audit) recounts it.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use vpc_model::{EniId, Slot};

use crate::{SlotState, Unit};

/// A sum over positions of one unit in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Count {
    /// Positions.
    pub positions: u32,
    /// Of those, positions that no pod and no resting address is on.
    pub empty: u32,
    /// Addresses in them, whatever is on them.
    pub addresses: u32,
    /// Addresses that belong to pods.
    pub held: u32,
    /// Addresses that rest.
    pub cooling: u32,
}

impl Count {
    /// Addresses nobody has.
    #[must_use]
    pub fn free(self) -> u32 {
        self.addresses.saturating_sub(self.held).saturating_sub(self.cooling)
    }

    fn of(slot: Slot, book: &Book) -> Self {
        let (held, cooling) = (book.held.count_ones(), book.cooling.count_ones());
        Self { positions: 1, empty: u32::from(held + cooling == 0), addresses: slot.size(), held, cooling }
    }

    fn less(self, other: Self) -> Self {
        Self {
            positions: self.positions - other.positions,
            empty: self.empty - other.empty,
            addresses: self.addresses - other.addresses,
            held: self.held - other.held,
            cooling: self.cooling - other.cooling,
        }
    }
}

impl std::ops::Add for Count {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            positions: self.positions + other.positions,
            empty: self.empty + other.empty,
            addresses: self.addresses + other.addresses,
            held: self.held + other.held,
            cooling: self.cooling + other.cooling,
        }
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| sum + count)
    }
}

/// What is known of one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) eni: EniId,
    pub(crate) state: SlotState,
    /// Bit *i* is the *i*-th address of the position; a single address uses bit 0.
    pub(crate) held: u16,
    pub(crate) cooling: u16,
}

impl Book {
    /// The lowest address of the position that nobody has and nothing bars.
    pub(crate) fn lowest_free(&self, slot: Slot, barred: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let used = self.held | self.cooling;
        let free = slot.addresses().enumerate().filter(|(bit, _)| used & (1 << bit) == 0);
        free.map(|(_, address)| address).find(|address| !barred(*address))
    }

    fn is_open(&self, slot: Slot) -> bool {
        self.state == SlotState::Held && (self.held | self.cooling).count_ones() < slot.size()
    }
}

/// The bit of an address in a position's masks.
pub(crate) fn bit(slot: Slot, address: Ipv4Addr) -> u16 {
    1 << (address.to_bits() - slot.net().network().to_bits())
}

/// A position that can be taken from, in the order in which positions are used: most pods first, then most resting addresses (it
/// can not be given back anyway), then the lowest.
pub(crate) type Open = (Reverse<u32>, Reverse<u32>, Slot);

/// The sum over an ENI's positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    counts: [[Count; 2]; 4],
    open: [BTreeSet<Open>; 2],
}

impl Tally {
    pub(crate) fn add(&mut self, slot: Slot, book: &Book) {
        let count = self.cell(slot, book);
        *count = *count + Count::of(slot, book);
        if book.is_open(slot) {
            self.open[column(Unit::of(slot))].insert(open(slot, book));
        }
    }

    pub(crate) fn remove(&mut self, slot: Slot, book: &Book) {
        let count = self.cell(slot, book);
        *count = count.less(Count::of(slot, book));
        self.open[column(Unit::of(slot))].remove(&open(slot, book));
    }

    pub(crate) fn count(&self, unit: Unit, state: SlotState) -> Count {
        self.counts[row(state)][column(unit)]
    }

    /// Over all positions of the ENI.
    pub(crate) fn sum(&self) -> Count {
        self.counts.iter().flatten().copied().sum()
    }

    /// Positions that can be taken from, first choice first.
    pub(crate) fn open(&self, unit: Unit) -> impl Iterator<Item = &Open> {
        self.open[column(unit)].iter()
    }

    fn cell(&mut self, slot: Slot, book: &Book) -> &mut Count {
        &mut self.counts[row(book.state)][column(Unit::of(slot))]
    }
}

fn open(slot: Slot, book: &Book) -> Open {
    (Reverse(book.held.count_ones()), Reverse(book.cooling.count_ones()), slot)
}

fn row(state: SlotState) -> usize {
    match state {
        SlotState::Held => 0,
        SlotState::Unconfirmed => 1,
        SlotState::Missing => 2,
        SlotState::Leaving => 3,
    }
}

fn column(unit: Unit) -> usize {
    match unit {
        Unit::Address => 0,
        Unit::Prefix => 1,
    }
}
