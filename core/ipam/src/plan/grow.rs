//! What to ask for.

use vpc_model::EniId;

use crate::{Action, PoolEni, SlotState, Unit};

use super::level::Level;
use super::{Planner, positive};

/// What one ENI does to find out whether its subnet gives something again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// It asks for one.
    Asks,
    /// All places there are taken: it gives one single address back, to ask then.
    Clears,
    /// Another one does, or the answer is awaited.
    Waits,
}

impl Planner<'_> {
    /// Fills the ENIs there are, then adds ENIs. `level` becomes what it is when all that is asked for has come.
    pub(super) fn grow(&self, level: &mut Level, actions: &mut Vec<Action>) {
        // Runs ahead of `level` by what can follow on an ENI once its present call is answered or its leftovers are gone: no new
        // ENI is made for that.
        let mut hoped = *level;
        for eni in self.growing() {
            self.fill(eni, level, &mut hoped, actions);
        }
        self.add_enis(level, &mut hoped, actions);
    }

    /// ENIs by place; first those that can take prefixes, so that single addresses are the last resort, and whose subnet gives something.
    fn growing(&self) -> Vec<&PoolEni> {
        let mut enis: Vec<&PoolEni> =
            self.usable().filter(|eni| !self.pending.refused.contains(&eni.facts.id)).collect();
        enis.sort_by_key(|eni| {
            let unit = self.unit_for(&eni.facts.id);
            (unit != self.target.unit, self.is_doubtful(&eni.facts.id, unit), eni.facts.card, eni.facts.device)
        });
        enis
    }

    /// In what an ENI can grow now.
    fn unit_for(&self, id: &EniId) -> Unit {
        if self.only_singles(id) { Unit::Address } else { self.target.unit }
    }

    fn is_doubtful(&self, id: &EniId, unit: Unit) -> bool {
        self.pending.doubtful.iter().any(|(eni, of)| eni == id && *of == unit)
    }

    fn fill(&self, eni: &PoolEni, level: &mut Level, hoped: &mut Level, actions: &mut Vec<Action>) {
        let id = &eni.facts.id;
        let unit = self.unit_for(id);
        // Pods that wait do not wait for a call to be answered if another ENI has room.
        let urgent = level.urgent(self.target, unit);
        let wanted = match unit {
            // A new ENI can bring prefixes: single addresses only for pods, not to keep some ready.
            Unit::Address if self.only_singles(id) && self.can_add_prefixes() => urgent,
            Unit::Address | Unit::Prefix => hoped.wanted(self.target, unit).max(urgent),
        };
        if wanted == 0 {
            return;
        }
        let room = self.room(eni);
        let probe = self.is_doubtful(id, unit).then(|| self.probe(eni, unit));
        let at_most = match probe {
            Some(probe) => u32::from(probe == Probe::Asks),
            None => self.at_most(),
        };
        let now = if self.assigning(id) > 0 { 0 } else { wanted.min(room).min(at_most) };
        if now > 0 {
            actions.push(Action::Assign { eni: id.clone(), unit, count: now });
            level.add(unit, now);
            hoped.add(unit, now);
        }
        if unit == self.target.unit || !self.can_add_prefixes() {
            hoped.add(unit, hoped.wanted(self.target, unit).min(room - now));
        }
        let at_most = match probe {
            Some(probe) if unit == Unit::Prefix => u32::from(probe == Probe::Clears),
            // Prefixes that are given back bring single addresses to the subnet.
            Some(_) | None => u32::MAX,
        };
        self.make_room(eni, unit, at_most, hoped, actions);
    }

    /// What an ENI does about a subnet that had no such unit when it was last asked.
    fn probe(&self, eni: &PoolEni, unit: Unit) -> Probe {
        let there = |other: &&PoolEni| other.facts.subnet_id == eni.facts.subnet_id;
        let enis: Vec<&PoolEni> = self.growing().into_iter().filter(there).collect();
        let asked =
            |other: &PoolEni| self.pending.assigning.iter().any(|(id, of, _)| *of == unit && *id == other.facts.id);
        if enis.iter().any(|other| asked(other)) {
            return Probe::Waits;
        }
        let singles = |other: &PoolEni, state| self.pool.count(&other.facts.id, Unit::Address, state);
        let open = |other: &&&PoolEni| self.assigning(&other.facts.id) == 0 && self.room(other) > 0;
        let clearing = || enis.iter().any(|other| singles(other, SlotState::Leaving).positions > 0);
        let (first, probe) = match enis.iter().find(open) {
            Some(first) => (Some(first), Probe::Asks),
            None if clearing() || self.pending.crowded.contains(&eni.facts.id) => (None, Probe::Waits),
            None => (enis.iter().find(|other| singles(other, SlotState::Held).empty > 0), Probe::Clears),
        };
        if first.is_some_and(|first| first.facts.id == eni.facts.id) { probe } else { Probe::Waits }
    }

    /// Gives free leftovers back whose positions are needed, and no more than are needed; `at_most` so many at once.
    fn make_room(&self, eni: &PoolEni, unit: Unit, at_most: u32, hoped: &mut Level, actions: &mut Vec<Action>) {
        let id = &eni.facts.id;
        let needed = hoped.needed(self.target, unit);
        // Where only single addresses can be had, those are no leftovers, and prefixes are what is wanted.
        if needed == 0 || unit != self.target.unit {
            return;
        }
        let clearing = self.pool.count(id, unit.other(), SlotState::Leaving).positions.min(needed);
        hoped.add(unit, clearing);
        if self.pending.no_release || at_most == 0 {
            return;
        }
        let mut slots = self.idle_slots(id, unit.other());
        slots.truncate((needed - clearing) as usize);
        hoped.add(unit, crate::stats::number(slots.len()));
        slots.truncate(at_most as usize);
        if !slots.is_empty() {
            actions.push(Action::Release { eni: id.clone(), slots });
        }
    }

    fn add_enis(&self, level: &mut Level, hoped: &mut Level, actions: &mut Vec<Action>) {
        let Some(possible) = self.pending.new_eni else { return };
        // A pool of single addresses never takes prefixes.
        let unit = if possible == Unit::Address { Unit::Address } else { self.target.unit };
        // What fits on an ENI that is on its way follows when it is there: pods that come one after the other in a burst must not
        // get an ENI each.
        for (_, count) in &self.pending.new_enis {
            let room = self.target.slots_per_eni.saturating_sub(*count);
            hoped.add(unit, hoped.wanted(self.target, unit).min(room));
        }
        for _ in self.attached()..self.target.max_enis {
            let count = hoped.wanted(self.target, unit).min(self.target.slots_per_eni).min(self.at_most());
            if count == 0 {
                return;
            }
            actions.push(Action::NewEni { unit, count });
            level.add(unit, count);
            hoped.add(unit, count);
        }
    }

    /// Whether the pool can get prefixes with a new ENI.
    fn can_add_prefixes(&self) -> bool {
        self.pending.new_eni == Some(Unit::Prefix) && self.attached() < self.target.max_enis
    }

    /// Positions that can be added to an ENI. One that EC2 does not list any more takes none.
    fn room(&self, eni: &PoolEni) -> u32 {
        let missing = [Unit::Address, Unit::Prefix]
            .map(|unit| self.pool.count(&eni.facts.id, unit, SlotState::Missing).positions)
            .iter()
            .sum::<u32>();
        let listed = crate::stats::number(eni.slots.len()) - missing;
        let used = i64::from(listed) + i64::from(self.assigning(&eni.facts.id));
        positive(i64::from(self.target.slots_per_eni) - used)
    }

    fn at_most(&self) -> u32 {
        self.pending.at_most.unwrap_or(u32::MAX)
    }
}
