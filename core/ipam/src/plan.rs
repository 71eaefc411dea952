//! From what the node holds to what it should hold.

use vpc_model::{EniId, Time};

use crate::{EniUse, Pool, Target};

/// One change to ask of the cloud. Complete: who carries it out has nothing left to decide about the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put more secondary addresses on an ENI.
    Assign {
        /// Which.
        eni: EniId,
        /// How many.
        count: u32,
    },
    /// Create and attach another ENI, with its addresses at once.
    NewEni {
        /// Secondary addresses it comes with.
        count: u32,
    },
    /// Give an idle ENI back.
    ReleaseEni {
        /// Which.
        eni: EniId,
    },
}

/// Pods that wait for an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// How many.
    pub waiting: u32,
}

/// What has been asked of the cloud and not been answered: planning again must not ask twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Addresses on their way to ENIs of the pool, by ENI.
    pub assigning: Vec<(EniId, u32)>,
    /// Secondary addresses of ENIs that are being created or attached, one number for each ENI.
    pub new_enis: Vec<u32>,
    /// Positions on the instance taken by ENIs that are not ours.
    pub foreign_enis: u32,
    /// ENIs to which nothing may be added now (EC2 has just refused), by id.
    pub refused: Vec<EniId>,
    /// No new ENI may be created now.
    pub no_new_eni: bool,
    /// Ask for at most so many addresses at once: the subnet has just refused more.
    pub at_most: Option<u32>,
}

/// Decides what to ask of the cloud. Pure; an empty answer means the node is as it should be, or can not get there now.
///
/// Growth (amazon-vpc-cni-k8s v1.23 with `WARM_ENI_TARGET`): too low when fewer addresses are free than the target's ENIs have;
/// fill the ENIs there are, then add ENIs. Ours differs on purpose: resting addresses do not count as free; waiting pods count as
/// taken already; as many requests leave at once as the shortage needs; an ENI is given back only if the pool would not be too
/// low without it.
#[must_use]
pub fn plan(target: &Target, pool: &Pool, pending: &Pending, demand: Demand, now: Time) -> Vec<Action> {
    let stats = pool.stats();
    let assigning: u32 = pending.assigning.iter().map(|(_, count)| count).sum();
    let coming: u32 = assigning + pending.new_enis.iter().sum::<u32>() + stats.setting_up;
    let free = i64::from(stats.ready) + i64::from(coming) - i64::from(demand.waiting);
    let floor = i64::from(target.floor());
    if free < floor {
        grow(target, pool, pending, Shortage { free, total: stats.total + coming - stats.setting_up })
    } else if demand.waiting == 0 && pending.assigning.is_empty() && pending.new_enis.is_empty() {
        // One ENI at a time, and never while something is still on its way.
        release(target, pool, free, now).into_iter().collect()
    } else {
        Vec::new()
    }
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
    let chunk = target.chunk().min(pending.at_most.unwrap_or(u32::MAX));
    let mut enis: Vec<_> = pool.enis().filter(|eni| matches!(eni.usage, EniUse::Ready | EniUse::SettingUp)).collect();
    enis.sort_by_key(|eni| (eni.facts.card, eni.facts.device));
    for eni in enis {
        let id = &eni.facts.id;
        let busy = pending.assigning.iter().any(|(other, _)| other == id) || pending.refused.contains(id);
        let used = u32::try_from(eni.slots.len()).unwrap_or(u32::MAX);
        let count = target.slots_per_eni.saturating_sub(used).min(chunk);
        if !busy && count > 0 && short.lasts(target) {
            actions.push(Action::Assign { eni: id.clone(), count });
            short = short.after(count);
        }
    }
    let attached = u32::try_from(pool.enis().count() + pending.new_enis.len()).unwrap_or(u32::MAX);
    let mut room = target.max_enis.saturating_sub(attached).saturating_sub(pending.foreign_enis);
    while room > 0 && !pending.no_new_eni && target.slots_per_eni > 0 && short.lasts(target) {
        actions.push(Action::NewEni { count: chunk });
        short = short.after(chunk);
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
    let addresses: u32 = eni.slots.iter().map(|slot| slot.size()).sum();
    let enough = free - i64::from(addresses) >= i64::from(target.floor());
    enough.then(|| Action::ReleaseEni { eni: eni.facts.id.clone() })
}
