//! From what the node holds to what it should hold.
//!
//! ```text
//!   level.rs   what is free, what is short, what is too much         (arithmetic only)
//!   grow.rs    Assign on the ENIs there are, then NewEni; Release of leftovers whose positions prefixes need
//!   shrink.rs  ReleaseEni for what is idle, Release for surplus and leftovers
//! ```
//!
//! The arithmetic is that of amazon-vpc-cni-k8s v1.23 on card 0. Ours differs on purpose:
//!
//! - Resting addresses are not free: they neither count as warm nor against the pods the node may run.
//! - Pods that wait or are expected have taken their addresses already; what is on its way is there already. A waiting pod is
//!   served whatever the targets and `max_pods` say.
//! - As many requests leave at once as the shortage needs: one for each ENI, and several new ENIs.
//! - Nothing is given back that would make the pool too low, so planning again after a plan was carried out gives nothing.
//! - Order is fixed. What is given back comes from ENIs that can leave, with the fewest pods, in the highest place; an ENI that can
//!   go as a whole goes as a whole.
//! - Where the subnet has no free /28, a pool that grows in prefixes grows in single addresses for a while (see
//!   [`SINGLES_AHEAD`]). The single addresses that stand in stay while prefixes are tried again, but for one where all places are
//!   taken: what is given back may not be had again.
//! - Whether a subnet gives something again is tried with one position on one ENI.

mod grow;
mod level;
mod shrink;

use std::collections::BTreeSet;

use vpc_model::{EniId, Slot, Time};

use crate::stats::number;
use crate::{EniUse, Pool, PoolEni, SlotState, Stats, Target, Unit};

use level::Level;
pub use level::SINGLES_AHEAD;

/// One change to ask of the cloud. Complete: who carries it out has nothing left to decide about the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put more on an ENI.
    Assign {
        /// Which.
        eni: EniId,
        /// What.
        unit: Unit,
        /// How many positions.
        count: u32,
    },
    /// Create and attach another ENI, with what it carries at once.
    NewEni {
        /// What.
        unit: Unit,
        /// How many positions it comes with.
        count: u32,
    },
    /// Give positions back to the subnet, and keep the ENI.
    Release {
        /// From which.
        eni: EniId,
        /// What. No pod and no resting address is on any of them.
        slots: Vec<Slot>,
    },
    /// Give an idle ENI back.
    ReleaseEni {
        /// Which.
        eni: EniId,
    },
}

/// Pods that will want an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Pods whose ADD waits.
    pub waiting: u32,
    /// Pods whose ADD was refused for want of an address, and that come again: they run here, whatever the node may run.
    pub returning: u32,
    /// Pods bound to this node whose ADD has not come yet (`VPC_CNI_LOOKAHEAD`).
    pub expected: u32,
}

impl Demand {
    /// All of them.
    #[must_use]
    pub fn pods(self) -> u32 {
        self.waiting.saturating_add(self.returning).saturating_add(self.expected)
    }
}

/// What has been asked of the cloud and not been answered (planning again must not ask twice), and what can not be asked now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Positions on their way to ENIs of the pool.
    pub assigning: Vec<(EniId, Unit, u32)>,
    /// Positions of ENIs that are being created or attached, one entry for each ENI.
    pub new_enis: Vec<(Unit, u32)>,
    /// Positions on the instance taken by ENIs that are not ours.
    pub foreign_enis: u32,
    /// ENIs of the pool that take no position on the instance any more (EC2 has detached them, or somebody took them and their pods live).
    pub left: BTreeSet<EniId>,
    /// ENIs to which nothing may be added now (EC2 has just refused, or is being asked what is on them).
    pub refused: BTreeSet<EniId>,
    /// ENIs whose subnet has no free /28 at the moment: only single addresses can be added to them.
    pub single_only: BTreeSet<EniId>,
    /// ENIs whose subnet refused such units the last time, and may have some again: one, asked for on one of its ENIs, shows it.
    pub doubtful: BTreeSet<(EniId, Unit)>,
    /// Those of them whose subnet is known to be too full for a prefix, also with one address more: none is given back to ask for one.
    pub crowded: BTreeSet<EniId>,
    /// What a new ENI could come with now; `None` = none can be created.
    pub new_eni: Option<Unit>,
    /// Ask for at most so many positions at once: EC2 has just refused more.
    pub at_most: Option<u32>,
    /// Nothing may be added (the node is not schedulable, the daemon is ending, EC2 may not be called).
    pub no_growth: bool,
    /// Nothing may be given back (`VPC_CNI_EC2=no-release`, not schedulable …).
    pub no_release: bool,
    /// When surplus was last given back.
    pub last_release: Option<Time>,
}

/// What [`plan`] decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to ask of the cloud now.
    pub actions: Vec<Action>,
    /// Addresses still missing to the target, after these actions and what is under way.
    pub short: u32,
    /// Of those, addresses for pods that wait.
    pub waiting_short: u32,
    /// When planning again may give something although nothing has changed (surplus or an idle ENI comes of age).
    pub again_at: Option<Time>,
}

/// Decides what to ask of the cloud. Pure; an empty answer means the node is as it should be, or can not get there now.
#[must_use]
pub fn plan(target: &Target, pool: &Pool, pending: &Pending, demand: Demand, now: Time) -> Plan {
    let planner = Planner::new(target, pool, pending, demand, now);
    let mut actions = Vec::new();
    let mut level = planner.level_with_coming();
    if !pending.no_growth {
        planner.grow(&mut level, &mut actions);
    }
    let mut again_at = None;
    if !pending.no_release {
        planner.give_back(&mut actions, &mut again_at);
    }
    Plan {
        actions,
        short: positive(level.short(target)),
        waiting_short: positive(-level.free - planner.expected).min(demand.waiting),
        again_at,
    }
}

/// The question, with what is counted once for all of the answer.
struct Planner<'a> {
    target: &'a Target,
    pool: &'a Pool,
    pending: &'a Pending,
    now: Time,
    stats: Stats,
    waiting: i64,
    /// Those that come again, and of those that come first only so many as the node may still run.
    expected: i64,
}

impl<'a> Planner<'a> {
    fn new(target: &'a Target, pool: &'a Pool, pending: &'a Pending, demand: Demand, now: Time) -> Self {
        let stats = pool.stats();
        let here = stats.pods.saturating_add(demand.waiting).saturating_add(demand.returning);
        let still_allowed = target.max_pods.map_or(u32::MAX, |max| max.saturating_sub(here));
        let expected = i64::from(demand.returning) + i64::from(demand.expected.min(still_allowed));
        Self { target, pool, pending, now, stats, waiting: i64::from(demand.waiting), expected }
    }

    /// What the pool has now. Demand has its addresses already.
    fn level(&self) -> Level {
        let mut level = Level::of_pods(self.stats.pods);
        for eni in self.usable() {
            level = level + self.carried(eni, SlotState::Held);
        }
        level.demand(self.waiting + self.expected)
    }

    /// The same with what is on its way: asked for and not answered, or listed by the metadata and not yet confirmed.
    fn level_with_coming(&self) -> Level {
        let mut level = self.level();
        for eni in self.usable() {
            level = level + self.carried(eni, SlotState::Unconfirmed);
        }
        let asked = self.pending.assigning.iter().map(|(_, unit, count)| (*unit, *count));
        for (unit, count) in asked.chain(self.pending.new_enis.iter().copied()) {
            if unit == self.target.unit || unit == Unit::Address {
                level.add(unit, count);
            }
        }
        level
    }

    /// What an ENI's positions of one state count for. Positions of the other unit count only where no prefix can be had.
    fn carried(&self, eni: &PoolEni, state: SlotState) -> Level {
        let id = &eni.facts.id;
        let mut level = Level::of(self.target.unit, self.pool.count(id, self.target.unit, state));
        if self.only_singles(id) {
            level = level + Level::of(Unit::Address, self.pool.count(id, Unit::Address, state));
        }
        level
    }

    /// Whether a pool of prefixes can only add single addresses to an ENI now.
    fn only_singles(&self, id: &EniId) -> bool {
        self.target.unit == Unit::Prefix && self.pending.single_only.contains(id)
    }

    fn usable(&self) -> impl Iterator<Item = &'a PoolEni> {
        self.pool.enis().filter(|eni| eni.is_usable())
    }

    /// ENIs on the instance, ours and others', those on their way too.
    fn attached(&self) -> u32 {
        let ours = self.here().count();
        number(ours + self.pending.new_enis.len()).saturating_add(self.pending.foreign_enis)
    }

    /// ENIs of the pool that are on the instance.
    fn here(&self) -> impl Iterator<Item = &'a PoolEni> {
        self.pool.enis().filter(|eni| !self.pending.left.contains(&eni.facts.id))
    }

    fn leaving(&self) -> u32 {
        number(self.pool.enis().filter(|eni| eni.usage == EniUse::Leaving).count())
    }

    /// Positions that an answer is awaited for.
    fn assigning(&self, id: &EniId) -> u32 {
        self.pending.assigning.iter().filter(|(eni, ..)| eni == id).map(|(.., count)| count).sum()
    }

    /// Positions of an ENI that nothing is on, highest first.
    fn idle_slots(&self, id: &EniId, unit: Unit) -> Vec<Slot> {
        if self.pool.count(id, unit, SlotState::Held).empty == 0 {
            return Vec::new();
        }
        let idle = self.pool.positions(id).filter(|at| at.state == SlotState::Held && at.is_empty());
        let mut slots: Vec<Slot> = idle.map(|at| at.slot).filter(|slot| Unit::of(*slot) == unit).collect();
        slots.reverse();
        slots
    }
}

fn positive(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}
