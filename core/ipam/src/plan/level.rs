//! The arithmetic: how much is free, how much is missing, how much is too much.

use vpc_model::Prefix28;

use crate::{Count, Target, Unit, WarmTarget, bug};

/// Free single addresses that a pool of prefixes with `WARM_PREFIX_TARGET` keeps ready where the subnet has no free /28 (or fewer,
/// if the target asks for fewer). More would fill positions that each could hold sixteen pods as soon as there are prefixes again;
/// a burst beyond waits for one call. With `WARM_IP_TARGET` and `MINIMUM_IP_TARGET` as many are kept as those say.
pub const SINGLES_AHEAD: u32 = 4;

const PREFIX: i64 = Prefix28::SIZE as i64;

/// Addresses that count for the target. Signed: pods may want more than there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// Free, less what demand will take; negative = pods wait for addresses that are nowhere.
    pub(super) free: i64,
    /// All of them.
    pub(super) total: i64,
    /// Pods that have an address, wherever it is, and free addresses. Resting ones serve nobody.
    serves: i64,
    /// Prefixes nothing is on.
    empty: i64,
    /// Free addresses of other positions.
    partial: i64,
    demand: i64,
}

impl Level {
    /// Nothing but pods that have their address.
    pub(super) fn of_pods(pods: u32) -> Self {
        Self { serves: i64::from(pods), ..Self::default() }
    }

    /// So many free single addresses.
    pub(super) fn of_singles(count: u32) -> Self {
        let count = i64::from(count);
        Self { free: count, total: count, serves: count, partial: count, ..Self::default() }
    }

    pub(super) fn of(unit: Unit, count: Count) -> Self {
        let empty = if unit == Unit::Prefix { i64::from(count.empty) } else { 0 };
        let free = i64::from(count.free() + if bug!(CoolingCountsAsWarm) { count.cooling } else { 0 });
        Self { free, total: i64::from(count.addresses), serves: free, empty, partial: free - PREFIX * empty, demand: 0 }
    }

    pub(super) fn demand(self, pods: i64) -> Self {
        Self { free: self.free - pods, demand: self.demand + pods, ..self }
    }

    /// So many fresh positions more.
    pub(super) fn add(&mut self, unit: Unit, count: u32) {
        let addresses = count * unit.size();
        let empty = if unit == Unit::Prefix { count } else { 0 };
        *self = *self + Self::of(unit, Count { positions: count, empty, addresses, held: 0, cooling: 0 });
    }

    pub(super) fn without(self, part: Self) -> Self {
        Self {
            free: self.free - part.free,
            total: self.total - part.total,
            serves: self.serves - part.serves,
            empty: self.empty - part.empty,
            partial: self.partial - part.partial,
            demand: self.demand,
        }
    }

    /// Addresses missing to the target. Ahead of demand nothing is missing once all pods that the node may run can be served.
    pub(super) fn short(&self, target: &Target) -> i64 {
        let ahead = match target.warm {
            WarmTarget::Addresses { warm, minimum } => {
                (i64::from(warm) - self.free).max(i64::from(minimum) - self.total)
            }
            WarmTarget::Enis(_) | WarmTarget::Prefixes(_) => i64::from(target.floor()) - self.free,
        };
        if self.serves_all(target) { (-self.free).max(0) } else { ahead.max(-self.free).max(0) }
    }

    /// Positions of `unit` to ask for, if there is room.
    pub(super) fn wanted(&self, target: &Target, unit: Unit) -> u32 {
        let short = self.short(target);
        let wanted = match (target.unit, unit, target.warm) {
            _ if short == 0 => 0,
            // Full ENIs, whatever is missing.
            (Unit::Address, _, WarmTarget::Enis(_)) => i64::from(target.slots_per_eni),
            (Unit::Address, _, _) => short,
            (Unit::Prefix, Unit::Prefix, WarmTarget::Prefixes(warm)) if !self.serves_all(target) => {
                (i64::from(warm) - self.spare_prefixes()).max(1)
            }
            (Unit::Prefix, Unit::Prefix, _) => prefixes(short),
            (Unit::Prefix, Unit::Address, WarmTarget::Addresses { .. }) => short,
            (Unit::Prefix, Unit::Address, _) => {
                let reserve = if self.serves_all(target) { 0 } else { target.floor().min(SINGLES_AHEAD) };
                (i64::from(reserve) - self.free).max(0)
            }
        };
        super::positive(wanted)
    }

    /// Positions of `unit` to ask for, were it only for pods that wait or are expected.
    pub(super) fn urgent(&self, target: &Target, unit: Unit) -> u32 {
        let lacking = super::positive(-self.free);
        match unit {
            _ if lacking == 0 => 0,
            Unit::Prefix => lacking.div_ceil(Prefix28::SIZE),
            Unit::Address => match (target.unit, target.warm) {
                (Unit::Address, WarmTarget::Enis(_)) => target.slots_per_eni,
                _ => lacking,
            },
        }
    }

    /// Positions of `unit` that would just do.
    pub(super) fn needed(&self, target: &Target, unit: Unit) -> u32 {
        match unit {
            Unit::Address => super::positive(self.short(target)).min(self.wanted(target, unit)),
            Unit::Prefix if target.unit == Unit::Prefix => self.wanted(target, unit),
            Unit::Prefix => 0,
        }
    }

    /// Whether the pool is well: at its target or above, whatever the node may run.
    pub(super) fn is_enough(&self, target: &Target) -> bool {
        match target.warm {
            WarmTarget::Addresses { warm, minimum } => self.free >= i64::from(warm) && self.total >= i64::from(minimum),
            WarmTarget::Enis(_) | WarmTarget::Prefixes(_) => self.free >= i64::from(target.floor()),
        }
    }

    /// Whether the pool stays well without a part of it.
    pub(super) fn can_spare(&self, target: &Target, part: Self) -> bool {
        let rest = self.without(part);
        let prefixes_kept = match (target.unit, target.warm) {
            (Unit::Prefix, WarmTarget::Prefixes(warm)) => {
                rest.spare_prefixes() >= i64::from(warm).min(self.spare_prefixes())
            }
            _ => true,
        };
        rest.is_enough(target) && prefixes_kept
    }

    /// Single addresses that are too much.
    pub(super) fn surplus(&self, target: &Target) -> u32 {
        super::positive(match target.warm {
            // The reference never takes addresses off an ENI for this target; it gives whole ENIs back.
            WarmTarget::Enis(_) => 0,
            WarmTarget::Prefixes(_) => self.free - i64::from(target.floor()),
            WarmTarget::Addresses { warm, minimum } => {
                (self.free - i64::from(warm)).min(self.total - i64::from(minimum))
            }
        })
    }

    /// Prefixes that are too much.
    pub(super) fn surplus_prefixes(&self, target: &Target) -> u32 {
        let by_addresses = self.surplus(target) / Prefix28::SIZE;
        match target.warm {
            WarmTarget::Prefixes(warm) => by_addresses.min(super::positive(self.spare_prefixes() - i64::from(warm))),
            WarmTarget::Enis(_) | WarmTarget::Addresses { .. } => by_addresses.min(super::positive(self.empty)),
        }
    }

    /// Prefixes nothing is on once demand has been packed as [`Pool::take`](crate::Pool::take) packs it; negative = prefixes
    /// that demand lacks.
    fn spare_prefixes(&self) -> i64 {
        self.empty - prefixes((self.demand - self.partial).max(0))
    }

    fn serves_all(&self, target: &Target) -> bool {
        target.max_pods.is_some_and(|max| self.serves >= i64::from(max))
    }
}

impl std::ops::Add for Level {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            free: self.free + other.free,
            total: self.total + other.total,
            serves: self.serves + other.serves,
            empty: self.empty + other.empty,
            partial: self.partial + other.partial,
            demand: self.demand + other.demand,
        }
    }
}

/// Whole prefixes for so many addresses, which are not negative.
fn prefixes(addresses: i64) -> i64 {
    (addresses + PREFIX - 1) / PREFIX
}
