//! The addresses of one subnet: which are taken, and how EC2 picks new ones.
//!
//! Single addresses are picked at a random place, so that a subnet fragments as it does on EC2; prefixes are aligned blocks
//! of sixteen without a single taken address.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vpc_model::{EniId, Prefix28, Slot, Subnet};

use crate::dice::Dice;

/// Addresses at the beginning of a subnet that EC2 keeps: network, router, resolver, future use.
const RESERVED_LOW: u32 = 4;
/// All addresses of a subnet that EC2 keeps: those and the last one.
const RESERVED: u32 = RESERVED_LOW + 1;

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// An ENI.
    Eni(EniId),
    /// Something of the VPC itself (a NAT gateway), by id.
    Gateway(String),
}

/// Why no address was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Not enough free addresses.
    Addresses,
    /// Enough addresses, but not in free aligned blocks.
    Blocks,
}

/// The addresses of one subnet.
#[derive(Clone, Debug)]
pub(crate) struct AddressPool {
    net: Subnet,
    taken: BTreeMap<Ipv4Addr, Holder>,
    prefixes: BTreeMap<Prefix28, EniId>,
}

impl AddressPool {
    pub(crate) fn new(net: Subnet) -> Self {
        Self { net, taken: BTreeMap::new(), prefixes: BTreeMap::new() }
    }

    /// Addresses an empty subnet could give out.
    pub(crate) fn usable(&self) -> u32 {
        self.size() - RESERVED
    }

    /// Addresses it still can give out (`availableIpAddressCount`).
    pub(crate) fn free(&self) -> u32 {
        let singles = u32::try_from(self.taken.len()).unwrap_or(u32::MAX);
        let blocks = u32::try_from(self.prefixes.len()).unwrap_or(u32::MAX).saturating_mul(Prefix28::SIZE);
        self.usable().saturating_sub(singles).saturating_sub(blocks)
    }

    /// Whether the address lies in the subnet, is not reserved and nobody's.
    pub(crate) fn is_free(&self, address: Ipv4Addr) -> bool {
        self.gives_out(address)
            && !self.taken.contains_key(&address)
            && !self.prefixes.contains_key(&Prefix28::containing(address))
    }

    /// Whether the address is one the subnet may give to somebody.
    pub(crate) fn gives_out(&self, address: Ipv4Addr) -> bool {
        self.net.net().contains(&address) && !self.net.reserves(address)
    }

    /// Whether the block lies in the subnet, keeps clear of reserved addresses and is nobody's.
    pub(crate) fn is_block_free(&self, block: Prefix28) -> bool {
        let last = Ipv4Addr::from_bits(block.first().to_bits() + (Prefix28::SIZE - 1));
        self.gives_out(block.first())
            && self.gives_out(last)
            && !self.prefixes.contains_key(&block)
            && self.taken.range(block.first()..=last).next().is_none()
    }

    /// Free addresses, lowest first.
    pub(crate) fn free_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        (0..self.usable()).map(|n| self.nth(n)).filter(|address| self.is_free(*address))
    }

    /// Free blocks, lowest first.
    pub(crate) fn free_blocks(&self) -> impl Iterator<Item = Prefix28> {
        let first = self.net.net().network().to_bits();
        (0..self.size() / Prefix28::SIZE)
            .map(move |n| Prefix28::containing(Ipv4Addr::from_bits(first + n * Prefix28::SIZE)))
            .filter(|block| self.is_block_free(*block))
    }

    /// Picks free addresses without taking them.
    pub(crate) fn pick_addresses(&self, count: u32, dice: &mut Dice) -> Result<Vec<Ipv4Addr>, Shortage> {
        if count > self.free() {
            return Err(Shortage::Addresses);
        }
        let mut picked = Vec::new();
        for _ in 0..count {
            let start = u32::try_from(dice.below(u64::from(self.usable()))).unwrap_or(0);
            let found = (0..self.usable())
                .map(|step| self.nth((start + step) % self.usable()))
                .find(|address| self.is_free(*address) && !picked.contains(address));
            picked.push(found.ok_or(Shortage::Addresses)?);
        }
        Ok(picked)
    }

    /// Picks free blocks without taking them.
    pub(crate) fn pick_prefixes(&self, count: u32, dice: &mut Dice) -> Result<Vec<Prefix28>, Shortage> {
        if u64::from(count) * u64::from(Prefix28::SIZE) > u64::from(self.free()) {
            return Err(Shortage::Addresses);
        }
        let blocks = self.size() / Prefix28::SIZE;
        let start = u32::try_from(dice.below(u64::from(blocks))).unwrap_or(0);
        let first = self.net.net().network().to_bits();
        let picked: Vec<_> = (0..blocks)
            .map(|step| Prefix28::containing(Ipv4Addr::from_bits(first + (start + step) % blocks * Prefix28::SIZE)))
            .filter(|block| self.is_block_free(*block))
            .take(count as usize)
            .collect();
        if picked.len() == count as usize { Ok(picked) } else { Err(Shortage::Blocks) }
    }

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

    fn size(&self) -> u32 {
        1 << (32 - u32::from(self.net.net().prefix_len()))
    }

    /// The n-th address that is not reserved.
    fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.net.net().network().to_bits() + RESERVED_LOW + n)
    }
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
}
