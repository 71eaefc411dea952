//! What to give back.

use std::cmp::Reverse;

use vpc_model::{EniId, Slot, Time};

use crate::stats::number;
use crate::{Action, EniRole, EniUse, PoolEni, Position, Retired, SlotState, Unit, WarmTarget};

use super::Planner;
use super::level::Level;

impl Planner<'_> {
    /// Gives back what the pool is well without. `again_at`: when more may be given back although nothing has changed.
    pub(super) fn give_back(&self, actions: &mut Vec<Action>, again_at: &mut Option<Time>) {
        let under_way = !self.pending.assigning.is_empty() || !self.pending.new_enis.is_empty();
        let calm = self.waiting == 0 && !under_way && actions.is_empty();
        let level = self.level();
        let (level, going) = self.idle_enis(level, calm);
        self.release_eni(&going, actions, again_at);
        if !calm {
            return;
        }
        let going: Vec<&EniId> = going.iter().map(|eni| &eni.facts.id).collect();
        let surplus = self.surplus(level, &going);
        let next_round = self.pending.last_release.map(|at| at + self.target.release_every);
        match next_round.filter(|at| *at > self.now) {
            Some(at) if !surplus.is_empty() => sooner(again_at, at),
            Some(_) => {}
            None => actions.extend(surplus),
        }
    }

    /// ENIs that can go, first to go first (of age or not), and what is left without them.
    fn idle_enis(&self, mut level: Level, calm: bool) -> (Level, Vec<&PoolEni>) {
        let retired = |eni: &PoolEni| matches!(eni.role, EniRole::Retired(_));
        let mut idle: Vec<&PoolEni> = self.pool.enis().filter(|eni| self.is_idle(eni)).collect();
        idle.sort_by_key(|eni| {
            let facts = &eni.facts;
            (!retired(eni), self.of_age(eni) > self.now, Reverse((facts.card, facts.device)))
        });
        let going = number(self.here().filter(|eni| eni.usage == EniUse::Leaving).count());
        let mut over_limit = self.attached().saturating_sub(going).saturating_sub(self.target.max_enis);
        idle.retain(|eni| {
            if retired(eni) {
                over_limit = over_limit.saturating_sub(1);
                return true;
            }
            let carried = self.carried(eni, SlotState::Held);
            let spared = calm && (over_limit > 0 || level.can_spare(self.target, carried));
            if spared {
                over_limit = over_limit.saturating_sub(1);
                level = level.without(carried);
            }
            spared
        });
        (level, idle)
    }

    /// One ENI at a time: each shows whether the pool is well without it.
    fn release_eni(&self, going: &[&PoolEni], actions: &mut Vec<Action>, again_at: &mut Option<Time>) {
        if self.leaving() > 0 {
            return;
        }
        match going.iter().find(|eni| self.of_age(eni) <= self.now) {
            Some(eni) => actions.push(Action::ReleaseEni { eni: eni.facts.id.clone() }),
            None => going.iter().for_each(|eni| sooner(again_at, self.of_age(eni))),
        }
    }

    fn of_age(&self, eni: &PoolEni) -> Time {
        eni.since + self.target.min_eni_age
    }

    fn is_idle(&self, eni: &PoolEni) -> bool {
        let id = &eni.facts.id;
        let usage = match eni.role {
            EniRole::Pods => eni.usage == EniUse::Ready,
            EniRole::Retired(Retired::NotOurs) => false,
            EniRole::Retired(_) => matches!(eni.usage, EniUse::Ready | EniUse::SettingUp),
        };
        if eni.facts.is_primary() || eni.keep || !usage || self.pool.on(id) != Some((0, 0)) {
            return false;
        }
        let changing = || {
            self.assigning(id) > 0
                || [Unit::Address, Unit::Prefix]
                    .iter()
                    .any(|u| self.pool.count(id, *u, SlotState::Leaving).positions > 0)
        };
        !changing() && !self.serves_unlisted_pod(eni)
    }

    /// Whether a pod lives behind the ENI on an address that none of its positions has: neither EC2 nor the metadata list it, the
    /// pod is there all the same.
    fn serves_unlisted_pod(&self, eni: &PoolEni) -> bool {
        let unlisted = |address| self.pool.locate(address).is_none();
        let behind = |table| table == eni.facts.table();
        self.stats.pods_elsewhere() > 0
            && self.pool.held().any(|held| behind(held.allocation.table) && unlisted(held.allocation.address))
    }

    /// Positions to give back from ENIs that stay, one action for each ENI and unit.
    fn surplus(&self, mut level: Level, going: &[&EniId]) -> Vec<Action> {
        let leftovers = self.stats.leftovers(self.target.unit).empty + self.stats.retired.empty;
        if level.surplus(self.target) == 0 && leftovers == 0 {
            return Vec::new();
        }
        let mut chosen = Vec::new();
        let mut staying: Vec<&PoolEni> = self.usable().filter(|eni| !going.contains(&&eni.facts.id)).collect();
        staying.sort_by_key(|eni| {
            let pods = self.pool.on(&eni.facts.id).map_or(0, |(held, _)| held);
            (eni.facts.is_primary() || eni.keep, pods, Reverse((eni.facts.card, eni.facts.device)))
        });
        let (single_only, normal): (Vec<&PoolEni>, Vec<&PoolEni>) =
            staying.iter().copied().partition(|eni| self.only_singles(&eni.facts.id));
        let unit = self.target.unit;
        // Single addresses that stand in for prefixes go first: each keeps a position from holding sixteen pods.
        let singles = self.pick(&single_only, Unit::Address, level.surplus(self.target), &mut chosen);
        level = level.without(Level::of_singles(singles));
        let most = if unit == Unit::Prefix { level.surplus_prefixes(self.target) } else { level.surplus(self.target) };
        self.pick_evenly_kept(&staying, unit, most, &mut chosen);
        if level.short(self.target) == 0 {
            self.pick(&normal, unit.other(), u32::MAX, &mut chosen);
            for unit in [Unit::Address, Unit::Prefix] {
                self.pick(&self.retired_with_pods(going), unit, u32::MAX, &mut chosen);
            }
        }
        chosen
    }

    /// ENIs of ours that get no new pods and can not leave yet: their free addresses serve nobody.
    fn retired_with_pods(&self, going: &[&EniId]) -> Vec<&PoolEni> {
        let ours = |eni: &&PoolEni| match eni.role {
            EniRole::Retired(why) => why != Retired::NotOurs && !eni.keep,
            EniRole::Pods => false,
        };
        let steady = |eni: &&PoolEni| matches!(eni.usage, EniUse::Ready | EniUse::SettingUp);
        let has_pods = |eni: &PoolEni| self.pool.on(&eni.facts.id).is_some_and(|(held, _)| held > 0);
        let stays = |eni: &&PoolEni| eni.facts.is_primary() || has_pods(eni);
        let enis = self.pool.enis().filter(ours).filter(steady).filter(stays);
        enis.filter(|eni| !going.contains(&&eni.facts.id)).collect()
    }

    /// Takes up to `most` idle positions of `unit` from ENIs in their order, but from each only what lies beyond its part of what is
    /// kept in the end. The last ENIs keep first, with what rests on the others in mind: else the ENI that should carry the pool at
    /// rest gives its positions back because the others' are still resting, and none of those can ever leave.
    fn pick_evenly_kept(&self, enis: &[&PoolEni], unit: Unit, most: u32, chosen: &mut Vec<Action>) {
        let idle = |eni: &PoolEni| crate::stats::number(self.idle_slots(&eni.facts.id, unit).len());
        let all: u32 = enis.iter().map(|eni| idle(eni)).sum();
        let mut kept = all.saturating_sub(most).max(self.kept_at_rest(unit));
        let mut spare: Vec<u32> = Vec::with_capacity(enis.len());
        for eni in enis.iter().rev() {
            let (idle, resting) = (idle(eni), self.resting_slots(&eni.facts.id, unit));
            let own = kept.min(idle + resting);
            kept -= own;
            spare.push((idle + resting - own).min(idle));
        }
        let mut left = most;
        for (eni, spare) in enis.iter().zip(spare.into_iter().rev()) {
            left -= self.pick(&[*eni], unit, left.min(spare), chosen);
        }
    }

    /// Free single addresses that the pool holds when nothing rests any more and no pod comes or goes. What of that is on prefixes with
    /// pods is not known here: those are taken as the level says.
    fn kept_at_rest(&self, unit: Unit) -> u32 {
        match (unit, self.target.warm) {
            (Unit::Address, WarmTarget::Addresses { warm, minimum }) => {
                warm.max(minimum.saturating_sub(self.stats.pods))
            }
            _ => 0,
        }
    }

    /// Positions of an ENI that no pod is on, and on which addresses rest.
    fn resting_slots(&self, id: &EniId, unit: Unit) -> u32 {
        let resting = |at: &Position| at.state == SlotState::Held && at.held == 0 && at.cooling > 0;
        crate::stats::number(self.pool.positions(id).filter(|at| resting(at) && Unit::of(at.slot) == unit).count())
    }

    /// Takes up to `most` idle positions of `unit` from ENIs in their order; says how many.
    fn pick(&self, enis: &[&PoolEni], unit: Unit, most: u32, chosen: &mut Vec<Action>) -> u32 {
        let mut left = most;
        for eni in enis {
            if left == 0 {
                break;
            }
            let mut slots: Vec<Slot> = self.idle_slots(&eni.facts.id, unit);
            slots.truncate(left as usize);
            if !slots.is_empty() {
                left -= crate::stats::number(slots.len());
                chosen.push(Action::Release { eni: eni.facts.id.clone(), slots });
            }
        }
        most - left
    }
}

fn sooner(at: &mut Option<Time>, other: Time) {
    *at = Some(at.map_or(other, |at| at.min(other)));
}
