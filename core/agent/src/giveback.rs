//! Giving back: positions of ENIs, and whole ENIs. Nothing leaves without proof.
//!
//! ```text
//!   positions: marked leaving -> on disk -> EC2 shows them here, ours -> the host uses none -> Unassign -> out of the books
//!   an ENI:    marked leaving -> on disk -> EC2 shows it idle, ours   -> host cleared of it -> Detach -> available -> Delete
//! ```
//!
//! What is marked leaving is given to nobody, and after a restart what was leaving goes on leaving ([`crate::resume`]): so an address
//! is given back or given to a pod, never both. Any disagreement ends it: it stays, and people are told. So does a pod that waits
//! meanwhile. Only a call that EC2 may be carrying out can not be taken back: until it surely has ended, what it takes is nobody's.

mod exits;

use std::collections::{BTreeMap, BTreeSet};

use vpc_ipam::{EniRole, EniUse, SlotState, Unit, bug};
use vpc_model::{AttachmentId, EniId, Millis, SecurityGroupId, Slot, Time};

use crate::agent::Agent;
use crate::cloud::{EniTruth, FailureClass};
use crate::host::Look;
use crate::jobs::{CALL_LIMIT, Job};
use crate::message::{Generation, Notice};
use crate::places::pause_after;

pub(crate) use exits::Exit;

/// Positions on their way out: of one ENI, of one kind.
#[derive(Clone, Debug)]
struct Release {
    slots: Vec<Slot>,
    step: Step,
    marked: Time,
    /// The state of the books that says so.
    recorded: Generation,
    /// A call without an answer, or of an earlier life: until then EC2 may carry it out.
    in_flight: Option<Time>,
}

impl Release {
    fn may_be_taken(&self, now: Time) -> bool {
        self.in_flight.is_some_and(|until| until > now)
    }

    /// When it is given up, if it is not under way by then.
    fn limit(&self) -> Time {
        let limit = self.marked + Agent::RELEASE_LIMIT;
        self.in_flight.map_or(limit, |until| until.max(limit))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The books are being written.
    Recording,
    /// EC2 is asked whether it agrees; the host is looked at meanwhile.
    Asking { look: Look },
    /// EC2 agrees; the host may not have been looked at.
    Looking { look: Look },
    /// EC2 takes them away.
    Taking,
}

/// What is being given back.
#[derive(Clone, Debug, Default)]
pub(crate) struct GiveBack {
    pub(crate) leaving: BTreeMap<EniId, Exit>,
    releases: BTreeMap<(EniId, Unit), Release>,
    /// Positions given back lately: metadata and even EC2 may still show them.
    pub(crate) gone: BTreeMap<(EniId, Slot), Time>,
    /// Those of them that no whole reading of the metadata has failed to show since: where nobody else may be asked, they are believed
    /// only after that.
    ghosts: BTreeSet<(EniId, Slot)>,
    /// Positions EC2 did not list and the metadata have shown ever since: the same goes for them. Not recorded: EC2 is asked at every start.
    denied: BTreeSet<(EniId, Slot)>,
    /// When positions were last given back.
    pub(crate) last: Option<Time>,
    /// EC2 has refused: nothing is given back before.
    paused_until: Option<Time>,
    failures: u32,
}

impl GiveBack {
    /// Whether anything is being given back.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.releases.is_empty() || !self.leaving.is_empty()
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Time> + '_ {
        let waiting = self.releases.values().filter(|release| release.step != Step::Taking);
        let in_flight = self.releases.values().filter_map(|release| release.in_flight);
        waiting.map(Release::limit).chain(in_flight).chain(self.paused_until)
    }

    pub(crate) fn is_paused(&self, now: Time) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Whether something is on its way out, in whose place something else can come.
    pub(crate) fn makes_room(&self) -> bool {
        !self.releases.is_empty() || self.leaving.values().any(|exit| !exit.is_detached())
    }

    /// Whether an ENI is not on the instance any more and is still to be deleted.
    pub(crate) fn is_detached(&self, eni: &EniId) -> bool {
        self.leaving.get(eni).is_some_and(|exit| exit.is_detached())
    }

    /// The metadata were read, and list all that is held.
    pub(crate) fn ghosts_are_among(&mut self, shown: &BTreeSet<(EniId, Slot)>) {
        self.ghosts.retain(|ghost| shown.contains(ghost));
        self.denied.retain(|ghost| shown.contains(ghost));
    }

    /// What was given back from an ENI, and may still be shown on it.
    pub(crate) fn gone_from(&self, eni: &EniId) -> Vec<Slot> {
        let gone: BTreeSet<Slot> =
            self.gone.keys().chain(&self.ghosts).filter(|(id, _)| id == eni).map(|(_, slot)| *slot).collect();
        gone.into_iter().collect()
    }

    /// When a position of an ENI was last given back that may still be shown.
    pub(crate) fn last_gone_from(&self, eni: &EniId) -> Option<Time> {
        self.gone.iter().filter(|((id, _), _)| id == eni).map(|(_, at)| *at).max()
    }

    /// An earlier life gave these back: nobody knows when, so it counts as now.
    pub(crate) fn recall_gone(&mut self, now: Time, eni: &EniId, slots: &[Slot]) {
        self.gone.extend(slots.iter().map(|slot| ((eni.clone(), *slot), now)));
        self.ghosts.extend(slots.iter().map(|slot| (eni.clone(), *slot)));
    }

    pub(crate) fn has_ghosts(&self) -> bool {
        !self.ghosts.is_empty() || !self.denied.is_empty()
    }

    /// EC2 does not list these positions of an ENI, and the metadata show them all the same.
    pub(crate) fn ec2_denies(&mut self, eni: &EniId, denied: impl IntoIterator<Item = Slot>) {
        self.denied.retain(|(of, _)| of != eni);
        self.denied.extend(denied.into_iter().map(|slot| (eni.clone(), slot)));
    }

    /// Whether a position was given back, or EC2 did not list it, and the metadata have shown it ever since.
    pub(crate) fn is_ghost(&self, eni: &EniId, slot: Slot) -> bool {
        let entry = (eni.clone(), slot);
        self.ghosts.contains(&entry) || self.denied.contains(&entry)
    }

    /// Positions EC2 has given (again).
    pub(crate) fn given_again(&mut self, eni: &EniId, slots: &[Slot]) {
        for slot in slots {
            self.gone.remove(&(eni.clone(), *slot));
            self.ghosts.remove(&(eni.clone(), *slot));
            self.denied.remove(&(eni.clone(), *slot));
        }
    }

    fn of(&mut self, eni: &EniId) -> impl Iterator<Item = &mut Release> {
        let range = (eni.clone(), Unit::Address)..=(eni.clone(), Unit::Prefix);
        self.releases.range_mut(range).map(|(_, release)| release)
    }

    fn pause(&mut self, now: Time, class: FailureClass) {
        self.failures += 1;
        let pause = if class == FailureClass::Unauthorized { Agent::DENIED } else { pause_after(class, self.failures) };
        self.paused_until = Some(now + pause);
    }
}

/// Positions.
impl Agent {
    /// A release that is not under way after so long is given up: the host or the disk can not be had.
    const RELEASE_LIMIT: Millis = Millis::seconds(60);
    /// Pause before a call that may have been carried out is made again.
    const AGAIN: Millis = Millis::seconds(5);
    /// How long metadata and EC2's reads may still show what was given back.
    pub(crate) const GONE: Millis = Millis::seconds(60);
    /// How long nothing is given back after EC2 denied it.
    const DENIED: Millis = Millis::seconds(600);

    /// Begins to give positions back.
    pub(crate) fn start_release(&mut self, now: Time, eni: &EniId, slots: Vec<Slot>) {
        if !self.waiters.is_empty() && self.serves(eni) {
            return;
        }
        for unit in [Unit::Prefix, Unit::Address] {
            let entry = (eni.clone(), unit);
            let free: Vec<Slot> =
                slots.iter().copied().filter(|s| Unit::of(*s) == unit && self.is_free(eni, *s)).collect();
            if free.is_empty() || self.cloud.back.releases.contains_key(&entry) {
                continue;
            }
            self.mark(eni, &free, SlotState::Leaving);
            self.cloud.back.last = Some(now);
            self.take_up_release(now, eni, unit, free, None);
        }
    }

    /// Positions that are marked as leaving are on their way out from now on; until `in_flight` an earlier call may take them.
    pub(crate) fn take_up_release(
        &mut self,
        now: Time,
        eni: &EniId,
        unit: Unit,
        slots: Vec<Slot>,
        in_flight: Option<Time>,
    ) {
        let recorded = self.touch_disk();
        let release = Release { slots, step: Step::Recording, marked: now, recorded, in_flight };
        self.cloud.back.releases.insert((eni.clone(), unit), release);
    }

    /// Whether pods may be put on an ENI, now or when its link is set up.
    fn serves(&self, eni: &EniId) -> bool {
        self.pool.eni(eni).is_some_and(|eni| eni.role == EniRole::Pods)
    }

    fn is_free(&self, eni: &EniId, slot: Slot) -> bool {
        let held = self.pool.eni(eni).is_some_and(|eni| eni.slots.get(&slot) == Some(&SlotState::Held));
        held && self.pool.position(slot).is_some_and(|position| position.is_empty())
    }

    pub(crate) fn mark(&mut self, eni: &EniId, slots: &[Slot], state: SlotState) {
        for slot in slots {
            if let Err(error) = self.pool.set_slot(eni, *slot, state) {
                self.say(Notice::Disagreement { what: error.to_string() });
            }
        }
    }

    /// Takes every release as far as it gets without an answer of EC2.
    pub(crate) fn release_steps(&mut self, now: Time) {
        let known = self.cloud.back.gone.len();
        self.cloud.back.gone.retain(|_, since| now.since(*since) < Self::GONE);
        if self.cloud.back.gone.len() < known {
            self.disk.is_outdated();
        }
        self.stop_for_pods(now);
        let entries: Vec<(EniId, Unit)> = self.cloud.back.releases.keys().cloned().collect();
        for entry in entries {
            self.release_step(now, entry);
        }
        self.exit_steps(now);
    }

    fn release_step(&mut self, now: Time, entry: (EniId, Unit)) {
        let Some(release) = self.cloud.back.releases.get_mut(&entry) else { return };
        if release.step != Step::Taking && release.limit() <= now {
            return self.keep_slots(now, &entry.0, "the host or the disk did not answer in time");
        }
        if release.step == Step::Taking && !self.config.cloud.may_release() && !release.may_be_taken(now) {
            return self.end_forbidden(now, &entry.0);
        }
        if release.step == Step::Recording && self.disk.written() >= release.recorded {
            release.step = Step::Asking { look: self.host.look_again() };
            self.start_job(Job::CheckSlots(entry.0.clone()), 0);
        }
        let Some(release) = self.cloud.back.releases.get(&entry) else { return };
        let seen = matches!(release.step, Step::Looking { look } if self.host.has_shown(look));
        if seen && self.host.error().is_none() {
            let slots = release.slots.clone();
            if self.host.uses_any_of(&slots) && !bug!(PrefixGivenBackWithOnePod) {
                return self.keep_slots(now, &entry.0, "the host still routes an address of them");
            }
            if let Some(release) = self.cloud.back.releases.get_mut(&entry) {
                release.step = Step::Taking;
            }
            self.start_job(Job::Unassign { eni: entry.0, slots }, 0);
        }
    }

    /// The settings do not allow giving back any more, and no call is under way: what has not left stays.
    fn end_forbidden(&mut self, now: Time, eni: &EniId) {
        let of_eni = |job: &Job| matches!(job, Job::Unassign { eni: id, .. } | Job::SeeUnassigned(id) if id == eni);
        if !self.cloud.is_asking(of_eni) {
            self.drop_queued(of_eni);
            self.keep_slots(now, eni, "the settings do not allow to give anything back");
        }
    }

    /// EC2 has said what is on an ENI of which positions are to be given back.
    pub(crate) fn slots_checked(&mut self, now: Time, eni: &EniId, truth: Option<EniTruth>) {
        // The primary ENI is ours whatever its tags say.
        let primary = self.pool.eni(eni).is_some_and(|eni| eni.facts.is_primary());
        let Some(truth) = truth.filter(|truth| truth.attachment.is_some() && (primary || self.is_ours(truth))) else {
            self.disagreed(now);
            return self.keep_slots(now, eni, "EC2 does not say that the ENI is attached here and ours");
        };
        let shown: BTreeSet<Slot> = truth.slots.iter().copied().collect();
        let asking = |release: &Release| matches!(release.step, Step::Asking { .. });
        let in_flight = self.cloud.back.of(eni).filter(|r| asking(r) && r.may_be_taken(now));
        let taken: Vec<Slot> = in_flight.flat_map(|r| r.slots.clone()).filter(|slot| !shown.contains(slot)).collect();
        if !taken.is_empty() {
            self.unassigned(now, eni, &taken);
        }
        let lacks = self.cloud.back.of(eni).any(|r| asking(r) && !r.slots.iter().all(|slot| shown.contains(slot)));
        if lacks {
            self.disagreed(now);
            self.keep_slots(now, eni, "EC2 does not list all of them");
            return self.refreshed(now, eni, Some(truth));
        }
        for release in self.cloud.back.of(eni) {
            if let Step::Asking { look } = release.step {
                release.step = Step::Looking { look };
            }
        }
    }

    pub(crate) fn unassigned(&mut self, now: Time, eni: &EniId, slots: &[Slot]) {
        self.cloud.back.failures = 0;
        let mut gone = Vec::new();
        for slot in slots {
            match self.pool.forget_slot(eni, *slot) {
                Ok(()) => gone.push(*slot),
                Err(error) => {
                    // EC2 has it no more, whatever is on it: it leaves the books when that has gone.
                    self.say(Notice::Disagreement { what: error.to_string() });
                    self.mark(eni, &[*slot], SlotState::Missing);
                    self.ask_about_node();
                }
            }
        }
        if let Some(subnet) = self.subnet_of(eni) {
            self.places.got_back(&subnet, gone.iter().map(|slot| Unit::of(*slot).size()).sum());
        }
        self.cloud.back.gone.extend(gone.iter().map(|slot| ((eni.clone(), *slot), now)));
        self.cloud.back.ghosts.extend(gone.iter().map(|slot| (eni.clone(), *slot)));
        self.touch_disk();
        self.say(Notice::SlotsReleased { eni: eni.clone(), slots: gone });
        for release in self.cloud.back.of(eni) {
            release.slots.retain(|slot| !slots.contains(slot));
        }
        self.cloud.back.releases.retain(|_, release| !release.slots.is_empty());
    }

    pub(crate) fn unassign_failed(&mut self, now: Time, eni: EniId, slots: Vec<Slot>, tries: u32, class: FailureClass) {
        let may_have = matches!(class, FailureClass::Lost);
        let unsure = matches!(class, FailureClass::NotFound | FailureClass::WrongState | FailureClass::Other);
        let mut in_flight = false;
        for release in self.cloud.back.of(&eni).filter(|release| release.step == Step::Taking) {
            if may_have {
                release.in_flight = Some(now + CALL_LIMIT);
            }
            in_flight |= release.may_be_taken(now);
        }
        let again = now + pause_after(class, tries);
        if may_have || unsure {
            self.queue_job(again, Job::SeeUnassigned(eni), tries);
        } else if in_flight {
            // An earlier call may still be carried out: nobody may get one of them.
            self.queue_job(again, Job::Unassign { eni, slots }, tries);
        } else {
            self.cloud.back.pause(now, class);
            self.keep_slots(now, &eni, "EC2 refused to take them");
        }
    }

    /// After an unassign that may or may not have been carried out.
    pub(crate) fn unassign_seen(&mut self, now: Time, eni: &EniId, truth: Option<EniTruth>) {
        let shown: BTreeSet<Slot> = truth.into_iter().flat_map(|truth| truth.slots).collect();
        let taking: Vec<(Vec<Slot>, bool)> = self
            .cloud
            .back
            .of(eni)
            .filter(|release| release.step == Step::Taking)
            .map(|release| (release.slots.clone(), release.may_be_taken(now)))
            .collect();
        for (slots, in_flight) in taking {
            let (there, gone): (Vec<Slot>, Vec<Slot>) = slots.iter().partition(|slot| shown.contains(slot));
            if !gone.is_empty() {
                self.unassigned(now, eni, &gone);
            }
            if there.is_empty() {
                continue;
            }
            if in_flight {
                // It may be carried out even now, and EC2's yes ends this soonest.
                self.queue_job(now + Self::AGAIN, Job::Unassign { eni: eni.clone(), slots: there }, 1);
            } else {
                self.cloud.back.pause(now, FailureClass::Other);
                self.keep_slots(now, eni, "EC2 refused to take them");
            }
        }
    }

    /// EC2 does not agree, or can not say: asked again only after a growing while, however short the settings' times are. What it said
    /// concerns more than what was to be given back: the ENI may be somebody else's by now.
    pub(crate) fn disagreed(&mut self, now: Time) {
        self.cloud.back.pause(now, FailureClass::WrongState);
        self.ask_about_node();
    }

    /// Positions of an ENI that were to leave stay, for now. Those that EC2 may be taking away are none of them: it is asked on.
    pub(crate) fn keep_slots(&mut self, now: Time, eni: &EniId, why: &str) {
        let unsent = |(id, unit): &(EniId, Unit), release: &Release| {
            let taken = release.may_be_taken(now) || (release.step == Step::Taking && self.is_being_taken(eni, *unit));
            id == eni && !taken
        };
        let entries = self.cloud.back.releases.iter().filter(|(entry, release)| unsent(entry, release));
        let entries: Vec<(EniId, Unit)> = entries.map(|(entry, _)| entry.clone()).collect();
        self.drop_queued(|job| matches!(job, Job::CheckSlots(id) if id == eni));
        for entry in entries {
            if let Some(release) = self.cloud.back.releases.remove(&entry) {
                // Whether a call has taken them is EC2's to say.
                let unsure = release.in_flight.is_some();
                self.mark(eni, &release.slots, if unsure { SlotState::Unconfirmed } else { SlotState::Held });
                if unsure {
                    self.ask_about_node();
                }
                self.rest_unknown_of(now, &release.slots);
                self.touch_disk();
                self.cloud.back.last = Some(now);
                let count = release.slots.len();
                self.say(Notice::SlotsKept { eni: eni.clone(), count, why: why.to_owned() });
            }
        }
        if self.cloud.back.of(eni).any(|release| matches!(release.step, Step::Asking { .. })) {
            self.queue_job(now + Self::AGAIN, Job::CheckSlots(eni.clone()), 1);
        }
    }

    /// Whether EC2 is about to take positions of this kind off an ENI, or is being asked whether it did. Of the other kind something else
    /// may be true: what keeps that does not keep these.
    fn is_being_taken(&self, eni: &EniId, unit: Unit) -> bool {
        self.cloud.jobs().any(|job| match job {
            Job::Unassign { eni: id, slots } => id == eni && slots.iter().any(|slot| Unit::of(*slot) == unit),
            Job::SeeUnassigned(id) => id == eni,
            _ => false,
        })
    }

    /// Whether a position was given back lately: what still shows it is behind the times.
    pub(crate) fn was_released(&self, eni: &EniId, slot: Slot) -> bool {
        self.cloud.back.gone.contains_key(&(eni.clone(), slot))
    }

    /// A pod that waits is worth more than a position given back: what has not been asked of EC2 yet stays.
    fn stop_for_pods(&mut self, now: Time) {
        if self.waiters.is_empty() {
            return;
        }
        let unsent: BTreeSet<EniId> = self
            .cloud
            .back
            .releases
            .iter()
            .filter(|((eni, _), release)| {
                release.step != Step::Taking && !release.may_be_taken(now) && self.serves(eni)
            })
            .map(|((eni, _), _)| eni.clone())
            .collect();
        for eni in &unsent {
            self.keep_slots(now, eni, "pods wait for an address");
        }
        let useful = |id: &EniId| self.serves(id) && self.pool.eni(id).is_some_and(|eni| !eni.slots.is_empty());
        let going: Vec<EniId> = self
            .cloud
            .back
            .leaving
            .iter()
            .filter(|(id, exit)| exit.may_stay() && !exit.may_be_taken(now) && useful(id))
            .map(|(id, _)| id.clone())
            .collect();
        for eni in &going {
            self.keep(now, eni, "pods wait for an address");
        }
        if !unsent.is_empty() {
            self.serve_waiters(now);
        }
    }
}

/// What else is said of an ENI: in the books, to EC2.
impl Agent {
    pub(crate) fn set_use(&mut self, eni: &EniId, usage: EniUse) {
        if let Err(error) = self.pool.set_use(eni, usage) {
            self.say(Notice::Disagreement { what: error.to_string() });
        }
    }

    pub(crate) fn tag_enis(&mut self, enis: Vec<EniId>, tags: BTreeMap<String, String>) {
        self.start_job(Job::Tag { enis, tags }, 0);
    }

    pub(crate) fn set_termination(&mut self, eni: EniId, attachment: AttachmentId) {
        self.start_job(Job::DeleteOnTermination { eni, attachment }, 0);
    }

    pub(crate) fn set_groups(&mut self, eni: EniId, groups: Vec<SecurityGroupId>) {
        // A newer word on the same ENI replaces an older one that has not been sent.
        self.drop_queued(|job| matches!(job, Job::SetGroups { eni: other, .. } if *other == eni));
        self.start_job(Job::SetGroups { eni, groups }, 0);
    }
}
