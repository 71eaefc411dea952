//! What the metadata show: at the start, and from time to time.
//!
//! ```text
//!   at the start: with what the checkpoint recorded --> the node as it was, until EC2 is heard
//!   later: held against the books --------------------> a difference is EC2's to judge
//!   EC2 may not be asked -----------------------------> what they show holds, but for what was given back and is still shown
//! ```

use std::collections::BTreeSet;

use vpc_ipam::{EniRole, EniUse, PoolEni, SlotState, bug};
use vpc_model::{EniId, Millis, Slot, Time};

use crate::agent::{Agent, Other};
use crate::checkpoint::{Checkpoint, CheckpointEni};
use crate::cloud::OpId;
use crate::config::{Metadata, SeenEni};
use crate::message::{Effect, Notice};

/// Differences between metadata and books that EC2 has been asked about.
#[derive(Clone, Debug)]
pub(super) struct Doubts {
    odd: BTreeSet<Odd>,
    ask_again: Time,
    times: u32,
}

/// One difference between the metadata and the books.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Odd {
    UnknownEni(EniId),
    EniNotShown(EniId),
    UnknownSlot(EniId, Slot),
    SlotNotShown(EniId, Slot),
    EniInDoubt(EniId),
}

impl Agent {
    /// The node as the metadata show it at start. Without EC2's word only the primary ENI and those that were ours before are ours:
    /// one that somebody keeps for himself must not get pods because EC2 is away.
    /// One that carries pods of the checkpoint was ours, also where the checkpoint lists no ENIs (the reference's).
    pub(crate) fn take_in_metadata(&mut self, now: Time, seen: Vec<SeenEni>, checkpoint: &Checkpoint) {
        let known = &checkpoint.enis;
        // An address that the checkpoint has on another ENI shows nothing: metadata that lag show it where it was.
        let elsewhere = |address, eni: &EniId| {
            let others = known.iter().filter(|other| other.facts.id != *eni);
            others.flat_map(|other| &other.slots).any(|slot| slot.contains(address))
        };
        let has_pods = |eni: &SeenEni| {
            let of_a_pod = |slot: &Slot| {
                let mut leases = checkpoint.leases.iter().filter(|lease| slot.contains(lease.address));
                leases.any(|lease| !elsewhere(lease.address, &eni.facts.id))
            };
            eni.slots.iter().any(of_a_pod)
        };
        self.recon.shown = seen.iter().map(|eni| (eni.facts.id.clone(), eni.slots.clone())).collect();
        let believed = !self.config.cloud.may_ask() || bug!(MetadataBelievedAtStart);
        for eni in known {
            self.cloud.back.recall_gone(now, &eni.facts.id, &eni.gone);
        }
        for mut eni in seen {
            // What an earlier life gave back is not there, whoever still shows it.
            eni.slots.retain(|slot| !self.was_released(&eni.facts.id, *slot));
            let recorded = known.iter().find(|other| other.facts.id == eni.facts.id);
            if eni.facts.is_primary() || (eni.usable && (believed || recorded.is_some() || has_pods(&eni))) {
                let recorded: &[Slot] = recorded.map_or(&[], |eni| &eni.slots);
                let state = |slot: &Slot| {
                    if believed || recorded.contains(slot) { SlotState::Held } else { SlotState::Unconfirmed }
                };
                let slots = eni.slots.iter().map(|slot| (*slot, state(slot))).collect();
                self.adopt_seen(now, eni, slots);
            } else {
                let device = eni.facts.device;
                let seen = Some(eni.clone());
                let other = Other { device, foreign: false, shown: true, told: None, left: false, since: now, seen };
                self.others.insert(eni.facts.id, other);
            }
        }
    }

    /// ENIs the checkpoint knows and the metadata did not show are kept, without new pods, until EC2 has been asked.
    pub(crate) fn recall_enis(&mut self, now: Time, enis: &[CheckpointEni]) {
        for eni in enis {
            let id = &eni.facts.id;
            let displaced = || self.others.values().any(|other| other.device == eni.facts.device);
            let stays = self.pool.eni(id).is_some() || !displaced();
            // Metadata that lag show positions where they were. Nothing recorded is on two ENIs, so it is only they that give way, and
            // not where they are all there is to go by.
            let recorded: &[Slot] = if stays && self.config.cloud.may_ask() { &eni.slots } else { &[] };
            for (from, slot) in self.pool.make_way(id, recorded, true).0 {
                let what = format!(
                    "the metadata show {slot} on {from}, the checkpoint an address of it on {id}; EC2 is asked"
                );
                self.say(Notice::Disagreement { what });
            }
            match self.pool.eni(id) {
                Some(known) => {
                    let lacking = |slot: &Slot| !known.slots.contains_key(slot);
                    let lacking: Vec<Slot> = eni.slots.iter().copied().filter(lacking).collect();
                    if !lacking.is_empty() {
                        // The metadata lag: what the checkpoint recorded stays, without new pods until EC2 has been asked.
                        let count = lacking.len();
                        if let Err(error) = self.pool.admit(id, lacking.iter().copied()) {
                            self.say(Notice::Disagreement { what: error.to_string() });
                        }
                        for slot in lacking {
                            self.set_slot(id, slot, SlotState::Unconfirmed);
                            self.recon.remembered.insert((id.clone(), slot));
                        }
                        self.say(Notice::Disagreement {
                            what: format!("the checkpoint has {count} positions of {id} that the metadata do not list; EC2 is asked"),
                        });
                    }
                }
                None if self.others.values().any(|other| other.device == eni.facts.device) => {}
                None => {
                    let doubtful = PoolEni {
                        facts: eni.facts.clone(),
                        attachment: eni.attachment.clone(),
                        since: now,
                        usage: EniUse::Doubtful,
                        role: EniRole::Pods,
                        keep: false,
                        slots: eni.slots.iter().map(|slot| (*slot, SlotState::Unconfirmed)).collect(),
                    };
                    let what =
                        format!("{id} is in the checkpoint but not in the metadata; its pods stay, EC2 is asked");
                    if self.pool.adopt(doubtful).is_ok() {
                        self.recon.remembered.extend(eni.slots.iter().map(|slot| (id.clone(), *slot)));
                        self.say(Notice::Disagreement { what });
                    }
                }
            }
        }
    }

    /// What has been said at the start need not be said again when the metadata still show the same.
    pub(crate) fn start_doubts(&mut self, now: Time) {
        let shown = |id: &EniId| self.pool.eni(id).is_some_and(|eni| eni.usage != EniUse::Doubtful);
        let lacking = self.recon.remembered.iter().filter(|(id, _)| shown(id));
        let odd: BTreeSet<Odd> = lacking.map(|(id, slot)| Odd::SlotNotShown(id.clone(), *slot)).collect();
        if !odd.is_empty() {
            self.recon.doubts = Some(Doubts { odd, ask_again: now + self.config.audit_every, times: 1 });
        }
    }

    /// Asks for the metadata when their time has come.
    pub(crate) fn read_metadata(&mut self, now: Time) {
        let due = self.recon.next_reading.is_none_or(|at| at <= now);
        if due && self.recon.reading.is_none() && !self.terminating {
            let op = self.cloud.next_op();
            self.recon.reading = Some(op);
            self.out.push(Effect::ReadMetadata { op });
        }
    }

    /// Something has changed that the metadata may explain (a link came or went).
    pub(crate) fn read_metadata_soon(&mut self, now: Time) {
        let soon = now + Self::SOON;
        self.recon.next_reading = Some(self.recon.next_reading.map_or(soon, |at| at.min(soon)));
    }

    /// The first reading is the one the agent was started with.
    pub(crate) fn metadata_were_read(&mut self, now: Time) {
        self.recon.next_reading = Some(now + self.config.audit_every);
    }

    pub(crate) fn metadata_read(&mut self, now: Time, op: OpId, result: Result<Metadata, String>) {
        if self.recon.reading != Some(op) {
            return;
        }
        self.recon.reading = None;
        self.metadata_were_read(now);
        match result {
            // Half a picture is compared like a whole one: what it lacks only makes EC2 be asked.
            Ok(metadata) => self.compare(now, metadata),
            Err(error) => self.say(Notice::MetadataUnread { error }),
        }
    }

    fn compare(&mut self, now: Time, metadata: Metadata) {
        if !metadata.groups.is_empty() && metadata.groups != self.groups {
            self.groups.clone_from(&metadata.groups);
            self.places.groups(metadata.groups.clone());
            self.follow_groups();
        }
        if self.cloud.back.has_ghosts() && self.shows_all_held(&metadata) {
            let positions =
                |seen: &SeenEni| seen.slots.iter().map(|slot| (seen.facts.id.clone(), *slot)).collect::<Vec<_>>();
            self.cloud.back.ghosts_are_among(&metadata.enis.iter().flat_map(positions).collect());
            self.disk.is_outdated();
        }
        self.recon.shown = metadata.enis.iter().map(|eni| (eni.facts.id.clone(), eni.slots.clone())).collect();
        self.recon.ghosts.retain(|id| metadata.enis.iter().any(|seen| seen.facts.id == *id));
        self.recon.fresh.retain(|_, since| now.since(*since) < Self::FRESH);
        if !self.config.cloud.may_ask() {
            return self.believe(now, metadata);
        }
        #[cfg(feature = "deliberate-bugs")]
        self.end_leases_not_shown(now, &metadata);
        self.others.values_mut().for_each(|other| other.shown = false);
        for seen in &metadata.enis {
            if let Some(other) = self.others.get_mut(&seen.facts.id) {
                (other.seen, other.shown) = (Some(seen.clone()), true);
            }
        }
        self.forget_others(now);
        let odd = self.differences(now, &metadata);
        if odd.is_empty() {
            self.recon.doubts = None;
            return;
        }
        let known = self.recon.doubts.as_ref().filter(|doubts| doubts.odd == odd);
        let (due, times) = known.map_or((true, 0), |doubts| (doubts.ask_again <= now, doubts.times));
        if due {
            // The same difference again: EC2 has been heard on it. It is asked ever more rarely.
            let pause = self.config.audit_every.0.saturating_mul(1 << times.min(5));
            if times == 0 {
                self.say(Notice::Disagreement { what: in_words(&odd) });
            }
            self.recon.doubts = Some(Doubts { odd, ask_again: now + Millis(pause), times: times + 1 });
            self.ask_about_node();
        }
    }

    /// Whether a reading lists every position the books hold. One that does not is half a picture or an old one: that it lacks what was
    /// given back as well proves nothing.
    fn shows_all_held(&self, metadata: &Metadata) -> bool {
        let shown = |id: &EniId, slot: &Slot| {
            metadata.enis.iter().any(|seen| seen.facts.id == *id && seen.slots.contains(slot))
        };
        self.pool.enis().all(|eni| {
            let held = eni.slots.iter().filter(|(_, state)| **state == SlotState::Held);
            held.into_iter().all(|(slot, _)| shown(&eni.facts.id, slot))
        })
    }

    fn differences(&self, now: Time, metadata: &Metadata) -> BTreeSet<Odd> {
        let mut odd = BTreeSet::new();
        for seen in &metadata.enis {
            let id = &seen.facts.id;
            let Some(known) = self.pool.eni(id) else {
                let undecided = self.others.get(id).is_none_or(|other| !other.foreign);
                let underway = self.is_building(id) && self.idle_build(id).is_none();
                if seen.usable && undecided && !underway {
                    odd.insert(Odd::UnknownEni(id.clone()));
                }
                continue;
            };
            match known.usage {
                EniUse::Leaving => continue,
                // The metadata show it again, and EC2 has not said so yet.
                EniUse::Doubtful => drop(odd.insert(Odd::EniInDoubt(id.clone()))),
                EniUse::SettingUp | EniUse::Ready => {}
            }
            let shown: BTreeSet<Slot> = seen.slots.iter().copied().collect();
            for slot in shown.iter().filter(|slot| !known.slots.contains_key(slot) && !self.was_released(id, **slot)) {
                odd.insert(Odd::UnknownSlot(id.clone(), *slot));
            }
            for (slot, state) in &known.slots {
                let settled = *state != SlotState::Leaving && !self.recon.is_fresh(id, *slot);
                if settled && (*state != SlotState::Held || !shown.contains(slot)) {
                    odd.insert(Odd::SlotNotShown(id.clone(), *slot));
                }
            }
        }
        let shown = |id: &EniId| metadata.enis.iter().any(|seen| seen.facts.id == *id);
        let settled =
            self.pool.enis().filter(|eni| eni.usage != EniUse::Leaving && now.since(eni.since) >= Self::FRESH);
        odd.extend(settled.map(|eni| eni.facts.id.clone()).filter(|id| !shown(id)).map(Odd::EniNotShown));
        // What is somebody else's takes a place as well, as long as it is here.
        let others = self.others.iter().filter(|(_, other)| !other.left && now.since(other.since) >= Self::FRESH);
        odd.extend(others.map(|(id, _)| id).filter(|id| !shown(id)).cloned().map(Odd::EniNotShown));
        odd
    }

    /// The metadata are all there is (EC2 may not be asked): what they show is there. What they do not show gets no new pods, and
    /// leaves the books when they have not shown it for a while and no pod uses it.
    fn believe(&mut self, now: Time, metadata: Metadata) {
        self.recon.fresh.retain(|_, since| now.since(*since) < Self::FRESH);
        for (id, other) in &mut self.others {
            other.shown = metadata.enis.iter().any(|seen| seen.facts.id == *id);
        }
        self.forget_others(now);
        let shown = |id: &EniId| metadata.enis.iter().any(|seen| seen.facts.id == *id);
        let absent: Vec<EniId> = self.pool.enis().map(|eni| eni.facts.id.clone()).filter(|id| !shown(id)).collect();
        for id in absent {
            self.refreshed(now, &id, None);
        }
        self.exits_by_metadata(now, &metadata.enis.iter().map(|seen| seen.facts.id.clone()).collect());
        for seen in metadata.enis {
            let id = seen.facts.id.clone();
            match self.pool.eni(&id) {
                Some(known) => {
                    let positions: Vec<Slot> = known.positions().collect();
                    if known.usage == EniUse::Doubtful {
                        self.recon.absent.remove(&id);
                        self.set_use(&id, EniUse::SettingUp);
                        self.host.is_dirty();
                    }
                    let is_there = |slot: &Slot| !self.cloud.back.is_ghost(&id, *slot);
                    let shown: Vec<Slot> = seen.slots.iter().copied().filter(is_there).collect();
                    self.admit(now, &id, &shown);
                    self.weigh(now, &id, &positions, &shown);
                }
                // What EC2 said is not ours, or not here, stays so while nobody can be asked; what has left is not back before the
                // metadata have once not shown it.
                None if seen.usable && !self.is_known_not_ours(&id) => {
                    let slots = seen.slots.iter().map(|slot| (*slot, SlotState::Held)).collect();
                    self.adopt_seen(now, seen, slots);
                }
                None => {}
            }
        }
    }

    fn is_known_not_ours(&self, id: &EniId) -> bool {
        let denied = |other: &Other| other.foreign || other.told == Some(false);
        self.recon.ghosts.contains(id) || self.others.get(id).is_some_and(denied)
    }

    /// Reading ahead of time: links come in groups.
    const SOON: Millis = Millis::seconds(5);
}

fn in_words(odd: &BTreeSet<Odd>) -> String {
    let mut words: Vec<String> = odd
        .iter()
        .take(4)
        .map(|odd| match odd {
            Odd::UnknownEni(eni) => format!("they show {eni}, which is not in the books"),
            Odd::EniNotShown(eni) => format!("they do not show {eni}"),
            Odd::UnknownSlot(eni, slot) => format!("they show {slot} on {eni}"),
            Odd::SlotNotShown(eni, slot) => format!("they do not show {slot} on {eni}"),
            Odd::EniInDoubt(eni) => format!("they show {eni}, which EC2 did not"),
        })
        .collect();
    if odd.len() > words.len() {
        words.push(format!("and {} more", odd.len() - words.len()));
    }
    format!("the metadata and the books differ: {}; EC2 is asked", words.join(", "))
}
