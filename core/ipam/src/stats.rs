//! The pool in numbers.

use crate::{Count, EniRole, EniUse, Pool, SlotState, Unit};

/// Numbers of the whole pool. *Usable* ENIs are those pods may be put on now or as soon as their link is set up
/// ([`EniRole::Pods`], and [`EniUse::Ready`] or [`EniUse::SettingUp`]); usable positions are those of them in [`SlotState::Held`].
/// `total = held + cooling + ready + setting_up`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// ENIs in the pool, whatever their state.
    pub enis: u32,
    /// Of those, ENIs that take no new pods for good.
    pub retired_enis: u32,
    /// Of those, ENIs that are being given back.
    pub leaving_enis: u32,
    /// Addresses of usable positions.
    pub total: u32,
    /// Of those, addresses pods have.
    pub held: u32,
    /// Of those, addresses that rest.
    pub cooling: u32,
    /// Of those, free addresses on ENIs that are ready: what [`Pool::take`] can give now.
    pub ready: u32,
    /// Of those, free addresses on ENIs that are being set up.
    pub setting_up: u32,
    /// Usable positions that are single addresses.
    pub singles: Count,
    /// Usable positions that are prefixes.
    pub prefixes: Count,
    /// Positions that only the metadata list, on usable ENIs.
    pub unconfirmed: Count,
    /// Positions that EC2 does not list any more, on any ENI.
    pub missing: Count,
    /// Positions on ENIs that take no new pods for good.
    pub retired: Count,
    /// Addresses that belong to sandboxes, wherever they are: also on ENIs or positions that are not usable, or that nobody knows.
    pub pods: u32,
    /// Addresses that rest, wherever they are.
    pub resting: u32,
}

impl Stats {
    /// Pods whose address is not in a usable position.
    #[must_use]
    pub fn pods_elsewhere(&self) -> u32 {
        self.pods.saturating_sub(self.held)
    }

    /// Usable positions of the other unit than the pool grows in: left from another mode, or from a time without free prefixes.
    #[must_use]
    pub fn leftovers(&self, unit: Unit) -> Count {
        match unit {
            Unit::Address => self.prefixes,
            Unit::Prefix => self.singles,
        }
    }
}

impl Pool {
    /// The numbers, from running counts: the cost is that of the ENIs, not of the addresses.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats =
            Stats { enis: number(self.enis().len()), pods: self.pods(), resting: self.rests(), ..Stats::default() };
        for (eni, tally) in self.tallies() {
            stats.missing = stats.missing + tally.count(Unit::Address, SlotState::Missing);
            stats.missing = stats.missing + tally.count(Unit::Prefix, SlotState::Missing);
            stats.leaving_enis += u32::from(eni.usage == EniUse::Leaving);
            if let EniRole::Retired(_) = eni.role {
                stats.retired_enis += 1;
                stats.retired = stats.retired + tally.sum();
            }
            if !eni.is_usable() {
                continue;
            }
            let singles = tally.count(Unit::Address, SlotState::Held);
            let prefixes = tally.count(Unit::Prefix, SlotState::Held);
            match eni.usage {
                EniUse::Ready => stats.ready += (singles + prefixes).free(),
                EniUse::SettingUp | EniUse::Doubtful | EniUse::Leaving => {
                    stats.setting_up += (singles + prefixes).free();
                }
            }
            stats.singles = stats.singles + singles;
            stats.prefixes = stats.prefixes + prefixes;
            for unit in [Unit::Address, Unit::Prefix] {
                stats.unconfirmed = stats.unconfirmed + tally.count(unit, SlotState::Unconfirmed);
            }
        }
        let usable = stats.singles + stats.prefixes;
        (stats.total, stats.held, stats.cooling) = (usable.addresses, usable.held, usable.cooling);
        stats
    }
}

/// A length as the books count: nothing here comes near the limit.
pub(crate) fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
