//! What a node holds once all is quiet, worked out a second time: from the rules of the settings, without the pool's planner.
//!
//! ```text
//!   Rules (settings, limits) + Load (what EC2 has on the node, whose pods are on it) --expected--> Expected (ranges)
//!   World::settled_faults: the node's Rules and Load, and what of them is out of its range
//! ```
//!
//! The rules, for single addresses and for prefixes:
//!
//! - *Enough*: `WARM_ENI_TARGET` and `WARM_PREFIX_TARGET` ask for as many free addresses as so many full ENIs or prefixes have (0: one),
//!   `WARM_IP_TARGET` for so many free, `MINIMUM_IP_TARGET` for so many in all. Less is right only where nothing more can be had: all
//!   places of all ENIs are full, the subnets are, the node may run no more pods, takes none, or may not ask EC2.
//! - *Not too much*: what could go without the node having less than enough is gone: addresses and prefixes one by one, but with
//!   `WARM_ENI_TARGET` only whole ENIs; an ENI that nothing is on; with `WARM_PREFIX_TARGET` free prefixes beyond that number.
//! - What serves nobody is gone: idle ENIs that take no pods, free positions of the unit that the node does not grow in.
//!
//! Quiet means: no pod comes or goes, nothing rests, every ENI is of age, every pause after a refusal is over. A range says nothing
//! about how the pool came there, only whether it may stay there.

mod node;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use vpc_ipam::{Unit, WarmTarget};
use vpc_model::SubnetId;

pub use node::Survey;
pub(crate) use node::Told;

/// Addresses of a prefix.
const PREFIX: u32 = 16;
/// No upper end.
const ANY: u32 = u32::MAX;

/// What a node was told and may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// In what it grows.
    pub unit: Unit,
    /// What it keeps ready.
    pub warm: WarmTarget,
    /// ENIs it may have, all of them.
    pub max_enis: u32,
    /// Secondary positions an ENI may have.
    pub slots_per_eni: u32,
    /// Pods it may run; nothing is fetched ahead for more.
    pub max_pods: Option<u32>,
    /// Whether something may be fetched.
    pub may_fetch: bool,
    /// Whether something may be fetched that no pod waits for.
    pub may_fetch_ahead: bool,
    /// Whether something may be given back.
    pub may_give_back: bool,
    /// The subnet a new ENI is made in.
    pub new_eni_in: SubnetId,
    /// What that still has; nothing if no ENI can be made.
    pub new_eni: Room,
}

/// What can still be had of a subnet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Single addresses.
    pub addresses: u32,
    /// Whole /28 blocks.
    pub prefixes: u32,
}

impl Room {
    /// More than any node takes.
    pub const PLENTY: Self = Self { addresses: 1 << 16, prefixes: 1 << 12 };

    fn positions(self, unit: Unit) -> u32 {
        match unit {
            Unit::Address => self.addresses,
            Unit::Prefix => self.prefixes,
        }
    }

    /// What is left when so many positions have been taken. Single addresses come from anywhere.
    fn without(self, unit: Unit, positions: u32) -> Self {
        let prefixes = self.prefixes.saturating_sub(positions);
        Self { addresses: self.addresses.saturating_sub(positions * size(unit)), prefixes }
    }

    /// Positions on so many new ENIs. Each takes an address for itself, from a block that was whole at worst.
    fn on_new_enis(self, unit: Unit, enis: u32, slots_per_eni: u32) -> u32 {
        self.positions(unit).saturating_sub(enis).min(enis.saturating_mul(slots_per_eni))
    }
}

/// What an ENI of the node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// New pods go there.
    Pods,
    /// Its pods stay, it gets no new ones.
    Retired,
    /// Not ours: it has a place on the node, and pods may live there from before.
    Foreign,
}

/// What EC2 has on an ENI of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniLoad {
    /// It can never be given back: the primary one, an EFA.
    pub stays: bool,
    /// What it is for.
    pub standing: Standing,
    /// Its secondary positions, with the pods on each.
    pub positions: Vec<(Unit, u32)>,
    /// Pods that live with an address that somebody else took off it.
    pub robbed: u32,
    /// Its subnet.
    pub subnet: SubnetId,
    /// What that still has.
    pub room: Room,
}

/// What a node has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Its ENIs on the first network card.
    pub enis: Vec<EniLoad>,
    /// Pods whose address is on none of them.
    pub pods_elsewhere: u32,
    /// ENIs that somebody else took away from pods that live: they keep their places as long as those pods do.
    pub lost_enis: u32,
    /// Pods that want an address and have none.
    pub waiting: u32,
    /// Pods that Kubernetes has bound to the node and whose ADD has not come.
    pub bound: u32,
}

/// Between what a quiet node's holdings lie. An end that is not right for it is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Addresses that nobody has, in positions of the unit the node grows in, on ENIs that take pods.
    pub free: RangeInclusive<u32>,
    /// ENIs, those of others too.
    pub enis: RangeInclusive<u32>,
    /// Positions that serve nobody: without a pod, and of the other unit or on ENIs that take no pods.
    pub leftovers: RangeInclusive<u32>,
    /// Pods that wait.
    pub waiting: RangeInclusive<u32>,
}

/// A quiet node that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// The pool is too low or too high.
    #[error("{found} addresses are free, {} expected", range(.expected))]
    Free {
        /// What is there.
        found: u32,
        /// What should be.
        expected: RangeInclusive<u32>,
    },
    /// An idle ENI was not given back.
    #[error("{found} ENIs are attached, {} expected", range(.expected))]
    Enis {
        /// What is there.
        found: u32,
        /// What should be.
        expected: RangeInclusive<u32>,
    },
    /// Positions that serve nobody were not given back.
    #[error("{found} positions serve nobody, {} expected", range(.expected))]
    Leftovers {
        /// What is there.
        found: u32,
        /// What should be.
        expected: RangeInclusive<u32>,
    },
    /// Pods wait although the node can serve them.
    #[error("{found} pods wait, {} expected", range(.expected))]
    Waiting {
        /// What is there.
        found: u32,
        /// What should be.
        expected: RangeInclusive<u32>,
    },
}

/// Between what the holdings of a quiet node lie that has this load.
#[must_use]
pub fn expected(rules: &Rules, load: &Load) -> Expected {
    let all = count(load.enis.len());
    Expected {
        free: least_free(rules, load)..=most_free(rules, load),
        enis: 0..=if load.enis.iter().any(|eni| could_go(rules, load, eni)) { all - 1 } else { all },
        leftovers: 0..=most_leftovers(rules, load),
        waiting: 0..=if could_serve(rules, load) { 0 } else { ANY },
    }
}

/// What of a load is not as it should be once all is quiet.
#[must_use]
pub fn unsettled(rules: &Rules, load: &Load) -> Vec<Unsettled> {
    let is = expected(rules, load);
    let mut found = Vec::new();
    let free = free(load, rules.unit);
    if !is.free.contains(&free) {
        found.push(Unsettled::Free { found: free, expected: is.free });
    }
    let enis = count(load.enis.len());
    if !is.enis.contains(&enis) {
        found.push(Unsettled::Enis { found: enis, expected: is.enis });
    }
    let left = leftovers(rules, load);
    if !is.leftovers.contains(&left) {
        found.push(Unsettled::Leftovers { found: left, expected: is.leftovers });
    }
    if !is.waiting.contains(&load.waiting) {
        found.push(Unsettled::Waiting { found: load.waiting, expected: is.waiting });
    }
    found
}

// -- enough ----------------------------------------------------------------------------------------------------------------

fn least_free(rules: &Rules, load: &Load) -> u32 {
    // Single addresses stand in where a subnet has no /28: how many is not said here.
    if !rules.may_fetch_ahead || lacks_prefixes(rules, load) {
        return 0;
    }
    let wanted = wanted_free(rules, load);
    let serveable = rules.max_pods.map_or(ANY, |max| max.saturating_sub(pods(load)));
    let had = free(load, rules.unit) + fetchable(rules, load, rules.unit) * size(rules.unit);
    wanted.min(serveable).min(had)
}

/// Free addresses that the settings ask for.
fn wanted_free(rules: &Rules, load: &Load) -> u32 {
    match rules.warm {
        WarmTarget::Enis(0) | WarmTarget::Prefixes(0) => 1,
        WarmTarget::Enis(enis) => enis.saturating_mul(rules.slots_per_eni * size(rules.unit)),
        WarmTarget::Prefixes(prefixes) => prefixes.saturating_mul(PREFIX),
        WarmTarget::Addresses { warm, minimum } => warm.max(minimum.saturating_sub(held(load, rules.unit))),
    }
}

/// Positions of a unit that can surely still be had.
fn fetchable(rules: &Rules, load: &Load, unit: Unit) -> u32 {
    // What the ENIs of a subnet have place for, as far as it has so many.
    let mut subnets: BTreeMap<&SubnetId, (Room, u32)> = BTreeMap::new();
    for eni in usable(load) {
        subnets.entry(&eni.subnet).or_insert((eni.room, 0)).1 += vacant(rules, eni);
    }
    let taken = |(room, vacant): &(Room, u32)| room.positions(unit).min(*vacant);
    let on_enis: u32 = subnets.values().map(taken).sum();
    let leaves = |eni: &&EniLoad| could_go(rules, load, eni) && eni.standing == Standing::Retired;
    let places = (rules.max_enis + count(load.enis.iter().filter(leaves).count()))
        .saturating_sub(count(load.enis.len()) + load.lost_enis);
    let left = rules.new_eni.without(unit, subnets.get(&rules.new_eni_in).map_or(0, taken));
    on_enis + (0..=places).map(|enis| left.on_new_enis(unit, enis, rules.slots_per_eni)).max().unwrap_or_default()
}

/// Places of an ENI for positions of the unit: what the other one has there and can give back makes place, what somebody took from
/// a pod that lives does not.
fn vacant(rules: &Rules, eni: &EniLoad) -> u32 {
    let stays = |(unit, pods): &&(Unit, u32)| *unit == rules.unit || *pods > 0 || !rules.may_give_back;
    rules.slots_per_eni.saturating_sub(count(eni.positions.iter().filter(stays).count()) + eni.robbed)
}

/// Whether a pod that waits could be served: with what is free, or with what can be had.
fn could_serve(rules: &Rules, load: &Load) -> bool {
    let units = [Unit::Address, Unit::Prefix];
    let there = units.iter().any(|unit| free(load, *unit) > 0);
    let single = rules.unit == Unit::Prefix && fetchable(rules, load, Unit::Address) > 0;
    there || (rules.may_fetch && (fetchable(rules, load, rules.unit) > 0 || single))
}

fn lacks_prefixes(rules: &Rules, load: &Load) -> bool {
    let none = usable(load).any(|eni| eni.room.prefixes == 0);
    rules.unit == Unit::Prefix && (none || rules.new_eni.prefixes == 0)
}

// -- not too much ----------------------------------------------------------------------------------------------------------

/// Where pods wait, and where prefixes can not be had now, nothing is given back for being too much.
fn may_shrink(rules: &Rules, load: &Load) -> bool {
    rules.may_give_back && load.waiting == 0 && !lacks_prefixes(rules, load)
}

fn most_free(rules: &Rules, load: &Load) -> u32 {
    if !may_shrink(rules, load) {
        return ANY;
    }
    // Pods on their way may have been given their addresses already.
    let wanted = wanted_free(rules, load).saturating_add(load.bound);
    match (rules.unit, rules.warm) {
        // Whole ENIs only.
        (_, WarmTarget::Enis(_)) => ANY,
        (Unit::Address, _) => wanted,
        (Unit::Prefix, warm) => {
            let started: u32 = prefixes(load).filter(|pods| *pods > 0).map(|pods| PREFIX - pods).sum();
            let spare = match warm {
                WarmTarget::Prefixes(count) => count + load.bound.div_ceil(PREFIX),
                _ => 0,
            };
            // One prefix more, as long as the one before it could not be given back.
            let mut idle = 0;
            while idle < spare || started + idle * PREFIX < wanted.min(1 << 24) {
                idle += 1;
            }
            started + idle * PREFIX
        }
    }
}

/// Whether an ENI could be given back and is not.
fn could_go(rules: &Rules, load: &Load, eni: &EniLoad) -> bool {
    if eni.stays || !is_idle(eni) || !rules.may_give_back {
        return false;
    }
    match eni.standing {
        Standing::Foreign => false,
        Standing::Retired => true,
        Standing::Pods if !may_shrink(rules, load) => false,
        Standing::Pods => count(load.enis.len()) > rules.max_enis || enough_without(rules, load, eni),
    }
}

fn enough_without(rules: &Rules, load: &Load, eni: &EniLoad) -> bool {
    let lost = count(eni.positions.iter().filter(|(unit, _)| *unit == rules.unit).count());
    let free = free(load, rules.unit) - lost * size(rules.unit);
    let idle = count(prefixes(load).filter(|pods| *pods == 0).count());
    let prefixes_kept = match (rules.unit, rules.warm) {
        (Unit::Prefix, WarmTarget::Prefixes(warm)) => idle - lost >= (warm + load.bound.div_ceil(PREFIX)).min(idle),
        _ => true,
    };
    prefixes_kept && free >= wanted_free(rules, load).saturating_add(load.bound)
}

fn most_leftovers(rules: &Rules, load: &Load) -> u32 {
    let serveable = rules.max_pods.map_or(ANY, |max| max.saturating_sub(pods(load)));
    let enough = free(load, rules.unit) >= wanted_free(rules, load).saturating_add(load.bound).min(serveable);
    if may_shrink(rules, load) && enough { 0 } else { ANY }
}

fn leftovers(rules: &Rules, load: &Load) -> u32 {
    let here = |eni: &EniLoad| {
        let idle = eni.positions.iter().filter(|(_, pods)| *pods == 0);
        let serves_nobody = |unit: Unit| match eni.standing {
            Standing::Pods => unit != rules.unit,
            // It goes as a whole, and one that is kept is left as it is.
            Standing::Retired => !is_idle(eni) || eni.stays,
            Standing::Foreign => false,
        };
        count(idle.filter(|(unit, _)| serves_nobody(*unit)).count())
    };
    load.enis.iter().map(here).sum()
}

// -- counting --------------------------------------------------------------------------------------------------------------

fn usable(load: &Load) -> impl Iterator<Item = &EniLoad> {
    load.enis.iter().filter(|eni| eni.standing == Standing::Pods)
}

fn is_idle(eni: &EniLoad) -> bool {
    eni.robbed == 0 && eni.positions.iter().all(|(_, pods)| *pods == 0)
}

/// Addresses that nobody has, in positions of a unit on ENIs that take pods.
fn free(load: &Load, unit: Unit) -> u32 {
    let positions = usable(load).flat_map(|eni| &eni.positions).filter(|(of, _)| *of == unit);
    positions.map(|(_, pods)| size(unit) - pods).sum()
}

/// Pods in such positions.
fn held(load: &Load, unit: Unit) -> u32 {
    usable(load).flat_map(|eni| &eni.positions).filter(|(of, _)| *of == unit).map(|(_, pods)| pods).sum()
}

/// Pods of each prefix on ENIs that take pods.
fn prefixes(load: &Load) -> impl Iterator<Item = u32> {
    usable(load).flat_map(|eni| &eni.positions).filter(|(unit, _)| *unit == Unit::Prefix).map(|(_, pods)| *pods)
}

/// All pods that have an address.
fn pods(load: &Load) -> u32 {
    load.pods_elsewhere + load.enis.iter().flat_map(|eni| &eni.positions).map(|(_, pods)| pods).sum::<u32>()
}

fn size(unit: Unit) -> u32 {
    match unit {
        Unit::Address => 1,
        Unit::Prefix => PREFIX,
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(ANY)
}

fn range(range: &RangeInclusive<u32>) -> String {
    match (*range.start(), *range.end()) {
        (least, ANY) => format!("{least} or more"),
        (least, most) if least == most => most.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}
