//! The addresses of one subnet: which are taken, and how EC2 picks new ones.
//!
//! Single addresses are picked at a random place, so that a subnet fragments as it does on EC2; prefixes are aligned blocks
//! of sixteen without a single taken address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use imbl::OrdMap;
use ipnet::Ipv4Net;
use vpc_model::{EniId, Prefix28, Slot, Subnet};

use crate::dice::Dice;
use crate::spec::ReservationKind;

/// Addresses at the beginning of a subnet that EC2 keeps: network, router, resolver, future use.
const RESERVED_LOW: u32 = 4;
/// All addresses of a subnet that EC2 keeps: those and the last one.
const RESERVED: u32 = RESERVED_LOW + 1;

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// An ENI.
    Eni(EniId),
    /// Somebody outside of this world, who gives it back under the same number.
    Outside(u64),
}

/// Why no address was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Not enough free addresses.
    Addresses,
    /// Enough addresses, but not in free aligned blocks.
    Blocks,
}

/// The addresses of one subnet. Copies share what is the same in both.
#[derive(Clone, Debug)]
pub(crate) struct AddressPool {
    net: Subnet,
    /// Parts kept for a purpose, by network. They do not overlap.
    reserved: Vec<(Ipv4Net, ReservationKind)>,
    taken: OrdMap<Ipv4Addr, Holder>,
    prefixes: OrdMap<Prefix28, EniId>,
}

impl AddressPool {
    pub(crate) fn new(net: Subnet) -> Self {
        Self { net, reserved: Vec::new(), taken: OrdMap::new(), prefixes: OrdMap::new() }
    }

    /// Sets what is kept for a purpose. What is in use there stays in use.
    pub(crate) fn reserve(&mut self, mut reserved: Vec<(Ipv4Net, ReservationKind)>) {
        reserved.sort();
        self.reserved = reserved;
    }

    /// Addresses an empty subnet could give out.
    pub(crate) fn usable(&self) -> u32 {
        self.size() - RESERVED
    }

    /// Whether somebody has an address of the subnet.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.taken.is_empty() || !self.prefixes.is_empty()
    }

    /// Addresses it still can give out by itself (`availableIpAddressCount`): reservations do not count.
    pub(crate) fn free(&self) -> u32 {
        if self.reserved.is_empty() {
            let used = self.taken.len() + self.prefixes.len() * Prefix28::SIZE as usize;
            return self.usable().saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        }
        let outside = |address: &Ipv4Addr| self.reservation(*address).is_none();
        let blocks = self.prefixes.keys().flat_map(|block| block.addresses());
        let used = self.taken.keys().copied().chain(blocks).filter(outside).count();
        let kept: u32 = self.reserved.iter().map(|(net, _)| self.usable_in(*net)).sum();
        self.usable().saturating_sub(kept).saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// What an address is kept for.
    pub(crate) fn reservation(&self, address: Ipv4Addr) -> Option<ReservationKind> {
        self.reserved.iter().find(|(net, _)| net.contains(&address)).map(|(_, kind)| *kind)
    }

    /// Whether the address lies in the subnet, is not EC2's own and nobody's.
    pub(crate) fn is_free(&self, address: Ipv4Addr) -> bool {
        self.gives_out(address)
            && !self.taken.contains_key(&address)
            && !self.prefixes.contains_key(&Prefix28::containing(address))
    }

    /// Whether the address is one the subnet may give to somebody.
    pub(crate) fn gives_out(&self, address: Ipv4Addr) -> bool {
        self.net.net().contains(&address) && !self.net.reserves(address)
    }

    /// Whether the block lies in the subnet, keeps clear of EC2's own addresses and is nobody's.
    pub(crate) fn is_block_free(&self, block: Prefix28) -> bool {
        let last = last_of(block);
        self.gives_out(block.first())
            && self.gives_out(last)
            && !self.prefixes.contains_key(&block)
            && self.taken.range(block.first()..=last).next().is_none()
    }

    /// Whole blocks it still could give out as prefixes: what is kept for something else does not count.
    pub(crate) fn free_blocks(&self) -> u32 {
        let kept_otherwise = |block: Prefix28| {
            self.reserved.iter().any(|(net, kind)| *kind != ReservationKind::Prefix && overlap(*net, block))
        };
        let first = self.net.net().network().to_bits();
        let blocks = (0..self.size() / Prefix28::SIZE)
            .map(|n| Prefix28::containing(Ipv4Addr::from_bits(first + n * Prefix28::SIZE)));
        let free = blocks.filter(|block| self.is_block_free(*block) && !kept_otherwise(*block)).count();
        u32::try_from(free).unwrap_or(u32::MAX)
    }

    /// Picks free addresses outside of all reservations, without taking them.
    pub(crate) fn pick_addresses(&self, count: u32, dice: &mut Dice) -> Result<Vec<Ipv4Addr>, Shortage> {
        if count > self.free() {
            return Err(Shortage::Addresses);
        }
        let mut picked = BTreeSet::new();
        let mut in_order = Vec::new();
        for _ in 0..count {
            let start = u32::try_from(dice.below(u64::from(self.usable()))).unwrap_or(0);
            let found = (0..self.usable())
                .map(|step| self.nth((start + step) % self.usable()))
                .find(|address| {
                    self.is_free(*address) && self.reservation(*address).is_none() && !picked.contains(address)
                })
                .ok_or(Shortage::Addresses)?;
            picked.insert(found);
            in_order.push(found);
        }
        Ok(in_order)
    }

    /// Picks free blocks without taking them: first those that are reserved for prefixes, then others.
    pub(crate) fn pick_prefixes(&self, count: u32, dice: &mut Dice) -> Result<Vec<Prefix28>, Shortage> {
        let kept = self.reserved.iter().filter(|(_, kind)| *kind == ReservationKind::Prefix);
        let free_in_kept: usize = kept.clone().map(|(net, _)| self.free_in(*net)).sum();
        let free = u64::from(self.free()).saturating_add(free_in_kept as u64);
        if u64::from(count) * u64::from(Prefix28::SIZE) > free {
            return Err(Shortage::Addresses);
        }
        let mut blocks = Vec::new();
        for (net, _) in kept {
            let lacking = (count as usize).saturating_sub(blocks.len());
            blocks.extend(self.turned(*net, dice).filter(|block| self.is_block_free(*block)).take(lacking));
        }
        let unreserved = |block: &Prefix28| !self.reserved.iter().any(|(net, _)| overlap(*net, *block));
        let others = self.turned(self.net.net(), dice).filter(|block| self.is_block_free(*block) && unreserved(block));
        blocks.extend(others.take((count as usize).saturating_sub(blocks.len())));
        if blocks.len() == count as usize { Ok(blocks) } else { Err(Shortage::Blocks) }
    }

    /// Free addresses in a part of the subnet.
    fn free_in(&self, net: Ipv4Net) -> usize {
        let all = net.network().to_bits()..=net.broadcast().to_bits();
        all.filter(|bits| self.is_free(Ipv4Addr::from_bits(*bits))).count()
    }

    /// All aligned blocks of a network, beginning at a random one.
    fn turned(&self, net: Ipv4Net, dice: &mut Dice) -> impl Iterator<Item = Prefix28> + use<> {
        let blocks = (1_u32 << (32 - u32::from(net.prefix_len()))) / Prefix28::SIZE;
        let start = u32::try_from(dice.below(u64::from(blocks))).unwrap_or(0);
        let first = net.network().to_bits();
        (0..blocks).map(move |step| {
            Prefix28::containing(Ipv4Addr::from_bits(first + (start + step) % blocks * Prefix28::SIZE))
        })
    }

    // -- somebody outside ----------------------------------------------------------------------------------------------

    /// Gives somebody outside every free address, reserved ones too, but for `leave` that stay free.
    pub(crate) fn exhaust(&mut self, holder: u64, leave: u32) {
        let free: Vec<_> = (0..self.usable()).map(|n| self.nth(n)).filter(|address| self.is_free(*address)).collect();
        let (kept, open): (Vec<_>, Vec<_>) = free.into_iter().partition(|address| self.reservation(*address).is_some());
        for address in kept.into_iter().chain(open.into_iter().skip(leave as usize)) {
            self.take(address, Holder::Outside(holder));
        }
    }

    /// Gives somebody outside one address of every free aligned block but for `leave` blocks that stay whole.
    pub(crate) fn fragment(&mut self, holder: u64, leave: u32) {
        let blocks = self.size() / Prefix28::SIZE;
        let first = self.net.net().network().to_bits();
        let free: Vec<_> = (0..blocks)
            .map(|n| Prefix28::containing(Ipv4Addr::from_bits(first + n * Prefix28::SIZE)))
            .filter(|block| self.is_block_free(*block))
            .skip(leave as usize)
            .collect();
        for block in free {
            self.take(Ipv4Addr::from_bits(block.first().to_bits() + Prefix28::SIZE / 2), Holder::Outside(holder));
        }
    }

    /// Takes back everything that somebody outside holds under this number.
    pub(crate) fn give_back(&mut self, holder: u64) {
        let own = self.taken.iter().filter(|(_, own)| **own == Holder::Outside(holder)).map(|(address, _)| *address);
        own.collect::<Vec<_>>().iter().for_each(|address| _ = self.taken.remove(address));
    }

    // -- taking and giving ---------------------------------------------------------------------------------------------

    /// Gives an address to somebody. The caller has picked it or asked whether it is free.
    pub(crate) fn take(&mut self, address: Ipv4Addr, holder: Holder) {
        self.taken.insert(address, holder);
    }

    /// Gives a block to an ENI.
    pub(crate) fn take_prefix(&mut self, block: Prefix28, eni: EniId) {
        self.prefixes.insert(block, eni);
    }

    /// Takes back what an ENI held.
    pub(crate) fn release(&mut self, slot: Slot) {
        match slot {
            Slot::Address(address) => _ = self.taken.remove(&address),
            Slot::Prefix(block) => _ = self.prefixes.remove(&block),
        }
    }

    /// Who has an address, alone or as part of a prefix.
    pub(crate) fn holder(&self, address: Ipv4Addr) -> Option<Holder> {
        let block = || self.prefixes.get(&Prefix28::containing(address)).cloned().map(Holder::Eni);
        self.taken.get(&address).cloned().or_else(block)
    }

    /// Addresses of a part of the subnet that somebody could have.
    fn usable_in(&self, net: Ipv4Net) -> u32 {
        let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
        let (low, high) = (self.nth(0).to_bits(), self.nth(self.usable() - 1).to_bits());
        (last.min(high) + 1).saturating_sub(first.max(low))
    }

    fn size(&self) -> u32 {
        1 << (32 - u32::from(self.net.net().prefix_len()))
    }

    /// The n-th address that is not reserved.
    fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.net.net().network().to_bits() + RESERVED_LOW + n)
    }
}

fn last_of(block: Prefix28) -> Ipv4Addr {
    Ipv4Addr::from_bits(block.first().to_bits() + (Prefix28::SIZE - 1))
}

/// Whether a network and a block share addresses: one of them holds the other's first.
fn overlap(net: Ipv4Net, block: Prefix28) -> bool {
    net.contains(&block.first()) || Prefix28::containing(net.network()) == block
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pool(net: &str) -> AddressPool {
        AddressPool::new(Subnet::try_from(net.parse::<ipnet::Ipv4Net>().unwrap()).unwrap())
    }

    fn eni() -> EniId {
        "eni-1".parse().unwrap()
    }

    #[test]
    fn the_smallest_subnet_gives_eleven_addresses_and_no_prefix() {
        let (mut pool, mut dice) = (pool("10.0.0.0/28"), Dice::new(1));
        let all = pool.pick_addresses(11, &mut dice).unwrap();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!((distinct.len(), pool.free()), (11, 11));
        assert_eq!(pool.pick_addresses(12, &mut dice), Err(Shortage::Addresses));
        assert_eq!(pool.pick_prefixes(1, &mut dice), Err(Shortage::Addresses));
        for address in all {
            pool.take(address, Holder::Eni(eni()));
        }
        assert_eq!((pool.free(), pool.pick_addresses(1, &mut dice)), (0, Err(Shortage::Addresses)));
        assert!(!pool.is_free("10.0.0.3".parse().unwrap()) && !pool.is_free("10.0.0.15".parse().unwrap()));
    }

    #[test]
    fn the_first_and_the_last_block_can_never_be_a_prefix() {
        let (mut pool, mut dice) = (pool("10.0.0.0/24"), Dice::new(1));
        let blocks = pool.pick_prefixes(14, &mut dice).unwrap();
        assert_eq!(pool.pick_prefixes(15, &mut dice), Err(Shortage::Blocks));
        blocks.iter().for_each(|block| pool.take_prefix(*block, eni()));
        assert_eq!(pool.free(), 251 - 14 * 16);
        assert!(!blocks.iter().any(|b| b.to_string() == "10.0.0.0/28" || b.to_string() == "10.0.0.240/28"));
    }

    #[test]
    fn one_taken_address_spoils_its_block() {
        let (mut pool, mut dice) = (pool("10.0.0.0/26"), Dice::new(1));
        pool.take("10.0.0.20".parse().unwrap(), Holder::Eni(eni()));
        assert_eq!(pool.pick_prefixes(1, &mut dice).unwrap()[0].to_string(), "10.0.0.32/28");
        pool.take("10.0.0.40".parse().unwrap(), Holder::Eni(eni()));
        assert_eq!(pool.pick_prefixes(1, &mut dice), Err(Shortage::Blocks));
        assert_eq!(pool.pick_prefixes(4, &mut dice), Err(Shortage::Addresses));
    }

    #[test]
    fn somebody_outside_leaves_as_many_addresses_as_told_and_gives_them_back() {
        let (mut pool, mut dice) = (pool("10.0.0.0/26"), Dice::new(1));
        pool.take("10.0.0.20".parse().unwrap(), Holder::Eni(eni()));
        let before = pool.free();
        pool.exhaust(7, 3);
        assert_eq!(pool.free(), 3);
        assert_eq!(pool.pick_addresses(4, &mut dice), Err(Shortage::Addresses));
        assert_eq!(pool.pick_addresses(3, &mut dice).unwrap().len(), 3);
        assert_eq!(pool.pick_prefixes(1, &mut dice), Err(Shortage::Addresses));
        pool.give_back(8);
        assert_eq!(pool.free(), 3, "another holder has nothing to give");
        pool.give_back(7);
        assert_eq!((pool.free(), pool.is_free("10.0.0.20".parse().unwrap())), (before, false));
    }

    #[test]
    fn somebody_outside_breaks_all_blocks_but_those_left() {
        let (mut pool, mut dice) = (pool("10.0.0.0/24"), Dice::new(1));
        pool.fragment(7, 2);
        assert_eq!(pool.pick_prefixes(2, &mut dice).unwrap().len(), 2);
        assert_eq!(pool.pick_prefixes(3, &mut dice), Err(Shortage::Blocks));
        assert_eq!(pool.free(), 251 - 12, "one address of each block");
        pool.exhaust(8, 0);
        pool.give_back(7);
        assert_eq!(pool.free(), 12, "each fault gives back what is its own");
    }

    #[test]
    fn reservations_are_left_aside_and_give_prefixes_first() {
        let (mut pool, mut dice) = (pool("10.0.0.0/25"), Dice::new(1));
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        pool.reserve(vec![
            (net("10.0.0.64/27"), ReservationKind::Prefix),
            (net("10.0.0.16/30"), ReservationKind::Explicit),
            // Its first four addresses are EC2's own and count once.
            (net("10.0.0.0/29"), ReservationKind::Explicit),
        ]);
        assert_eq!(pool.free(), 123 - 32 - 4 - 4);
        for address in pool.pick_addresses(pool.free(), &mut dice).unwrap() {
            assert_eq!(pool.reservation(address), None, "{address}");
        }
        let blocks = pool.pick_prefixes(3, &mut dice).unwrap();
        let kept: Vec<_> = blocks.iter().map(|block| net("10.0.0.64/27").contains(&block.first())).collect();
        assert_eq!(kept, [true, true, false]);
        assert!(!pool.pick_prefixes(5, &mut dice).unwrap().iter().any(|block| block.to_string() == "10.0.0.16/28"));
        pool.take("10.0.0.65".parse().unwrap(), Holder::Eni(eni()));
        assert_eq!(pool.free(), 123 - 32 - 4 - 4, "what is taken in a reservation was not free before");
    }
}
