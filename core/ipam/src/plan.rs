//! From what the node holds to what it should hold.

use std::collections::BTreeSet;

use vpc_model::{EniId, Slot, Time};

use crate::{EniUse, Pool, Target, Unit};

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
    /// Pods bound to this node whose ADD has not come yet (`VPC_CNI_LOOKAHEAD`).
    pub expected: u32,
}

impl Demand {
    /// All of them.
    #[must_use]
    pub fn pods(self) -> u32 {
        self.waiting.saturating_add(self.expected)
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
    /// ENIs to which nothing may be added now (EC2 has just refused, or is being asked what is on them).
    pub refused: BTreeSet<EniId>,
    /// ENIs whose subnet has no free /28 at the moment: only single addresses can be added to them.
    pub single_only: BTreeSet<EniId>,
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
///
/// Growth (amazon-vpc-cni-k8s v1.23 with `WARM_ENI_TARGET`): too low when fewer addresses are free than the target's ENIs have;
/// fill the ENIs there are, then add ENIs. Ours differs on purpose: resting addresses do not count as free; waiting pods count as
/// taken already; as many requests leave at once as the shortage needs; an ENI is given back only if the pool would not be too
/// low without it.
#[must_use]
pub fn plan(target: &Target, pool: &Pool, pending: &Pending, demand: Demand, now: Time) -> Plan {
    let stats = pool.stats();
    let assigning: u32 = pending.assigning.iter().map(|(_, unit, count)| count * unit.size()).sum();
    let creating: u32 = pending.new_enis.iter().map(|(unit, count)| count * unit.size()).sum();
    let coming: u32 = assigning + creating + stats.setting_up;
    let free = i64::from(stats.ready) + i64::from(coming) - i64::from(demand.pods());
    let floor = i64::from(target.floor());
    let actions = if free < floor {
        grow(target, pool, pending, Shortage { free, total: stats.total + coming - stats.setting_up })
    } else if demand.waiting == 0 && pending.assigning.is_empty() && pending.new_enis.is_empty() {
        // One ENI at a time, and never while something is still on its way.
        release(target, pool, free, now).into_iter().collect()
    } else {
        Vec::new()
    };
    Plan { actions, short: 0, waiting_short: 0, again_at: None }
}

/// Free addresses (negative: pods wait) and all addresses, both with what is on its way.
#[derive(Clone, Copy)]
struct Shortage {
    free: i64,
    total: u32,
}

impl Shortage {
    /// Whether to ask for more: for pods that wait always; ahead of demand only below the number of pods the node may run.
    fn lasts(self, target: &Target) -> bool {
        let room_for_more = target.max_pods.is_none_or(|max| self.total < max);
        self.free < 0 || (self.free < i64::from(target.floor()) && room_for_more)
    }

    fn after(self, count: u32) -> Self {
        Self { free: self.free + i64::from(count), total: self.total + count }
    }
}

fn grow(target: &Target, pool: &Pool, pending: &Pending, mut short: Shortage) -> Vec<Action> {
    let mut actions = Vec::new();
    let chunk = target.slots_per_eni.min(pending.at_most.unwrap_or(u32::MAX));
    let mut enis: Vec<_> = pool.enis().filter(|eni| matches!(eni.usage, EniUse::Ready | EniUse::SettingUp)).collect();
    enis.sort_by_key(|eni| (eni.facts.card, eni.facts.device));
    for eni in enis {
        let id = &eni.facts.id;
        let busy = pending.assigning.iter().any(|(other, ..)| other == id) || pending.refused.contains(id);
        let used = u32::try_from(eni.slots.len()).unwrap_or(u32::MAX);
        let count = target.slots_per_eni.saturating_sub(used).min(chunk);
        if !busy && count > 0 && short.lasts(target) {
            actions.push(Action::Assign { eni: id.clone(), unit: target.unit, count });
            short = short.after(count * target.unit.size());
        }
    }
    let attached = u32::try_from(pool.enis().count() + pending.new_enis.len()).unwrap_or(u32::MAX);
    let mut room = target.max_enis.saturating_sub(attached).saturating_sub(pending.foreign_enis);
    while room > 0 && pending.new_eni.is_some() && target.slots_per_eni > 0 && short.lasts(target) {
        actions.push(Action::NewEni { unit: target.unit, count: chunk });
        short = short.after(chunk * target.unit.size());
        room -= 1;
    }
    actions
}

/// The idle ENI in the highest position, if the pool is not too low without it.
fn release(target: &Target, pool: &Pool, free: i64, now: Time) -> Option<Action> {
    let mut idle: Vec<_> = pool
        .enis()
        .filter(|eni| eni.usage == EniUse::Ready && !eni.facts.is_primary())
        .filter(|eni| now.since(eni.since) >= target.min_eni_age)
        .filter(|eni| pool.on(&eni.facts.id) == Some((0, 0)))
        .collect();
    idle.sort_by_key(|eni| (eni.facts.card, eni.facts.device));
    let eni = idle.pop()?;
    let addresses: u32 = eni.slots.keys().map(|slot| slot.size()).sum();
    let enough = free - i64::from(addresses) >= i64::from(target.floor());
    enough.then(|| Action::ReleaseEni { eni: eni.facts.id.clone() })
}
