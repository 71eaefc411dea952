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

use std::collections::{BTreeMap, BTreeSet};

use vpc_ipam::{EniRole, EniUse, SlotState, Unit, bug};
use vpc_model::{AttachmentId, EniId, Millis, SecurityGroupId, Slot, Time};

use crate::agent::Agent;
use crate::cloud::{CloudFailure, EniTruth, FailureClass};
use crate::jobs::{CALL_LIMIT, Job};
use crate::message::{Generation, Notice};
use crate::pacer::Ec2Action;
use crate::places::pause_after;

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
    /// EC2 is asked whether it agrees.
    Asking,
    /// The host is looked at.
    Looking,
    /// EC2 takes them away.
    Taking,
}

/// An ENI on its way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    step: ExitStep,
    recorded: Generation,
    /// As of [`Release::in_flight`].
    in_flight: Option<Time>,
    /// How often EC2 has shown it attached since it was asked to detach it.
    polls: u32,
}

impl Exit {
    fn new(step: ExitStep, recorded: Generation) -> Self {
        Self { step, recorded, in_flight: None, polls: 0 }
    }

    fn may_be_taken(&self, now: Time) -> bool {
        self.in_flight.is_some_and(|until| until > now)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitStep {
    /// EC2 is asked whether it agrees.
    Verifying,
    /// Its routes and rules are being taken off the host.
    Clearing,
    /// EC2 takes it away.
    Going,
}

/// What is being given back.
#[derive(Clone, Debug, Default)]
pub(crate) struct GiveBack {
    pub(crate) leaving: BTreeMap<EniId, Exit>,
    releases: BTreeMap<(EniId, Unit), Release>,
    /// Positions given back lately: metadata and even EC2 may still show them.
    pub(crate) gone: BTreeMap<(EniId, Slot), Time>,
    /// Those of them that the metadata have never failed to show since: where nobody else may be asked, they are believed only after that.
    ghosts: BTreeSet<(EniId, Slot)>,
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

    /// The metadata were read.
    pub(crate) fn ghosts_are_among(&mut self, shown: &BTreeSet<(EniId, Slot)>) {
        self.ghosts.retain(|ghost| shown.contains(ghost));
    }

    pub(crate) fn has_ghosts(&self) -> bool {
        !self.ghosts.is_empty()
    }

    /// Whether a position was given back, and the metadata have shown it ever since.
    pub(crate) fn is_ghost(&self, eni: &EniId, slot: Slot) -> bool {
        self.ghosts.contains(&(eni.clone(), slot))
    }

    /// Positions EC2 has given (again).
    pub(crate) fn given_again(&mut self, eni: &EniId, slots: &[Slot]) {
        for slot in slots {
            self.gone.remove(&(eni.clone(), *slot));
            self.ghosts.remove(&(eni.clone(), *slot));
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
    /// How long metadata and EC2's reads may still show what was given back.
    const GONE: Millis = Millis::seconds(60);
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
        self.cloud.back.gone.retain(|_, since| now.since(*since) < Self::GONE);
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
            release.step = Step::Asking;
            self.host.is_dirty();
            self.start_job(Job::CheckSlots(entry.0.clone()), 0);
        }
        let Some(release) = self.cloud.back.releases.get(&entry) else { return };
        if release.step == Step::Looking && self.host.looked_at > release.marked && self.host.error().is_none() {
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
        let asking = |release: &Release| release.step == Step::Asking;
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
        for release in self.cloud.back.of(eni).filter(|release| release.step == Step::Asking) {
            release.step = Step::Looking;
        }
    }

    pub(crate) fn unassigned(&mut self, now: Time, eni: &EniId, slots: &[Slot]) {
        self.cloud.back.failures = 0;
        let mut gone = Vec::new();
        for slot in slots {
            match self.pool.forget_slot(eni, *slot) {
                Ok(()) => gone.push(*slot),
                Err(error) => self.say(Notice::Disagreement { what: error.to_string() }),
            }
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

    /// EC2 does not agree, or can not say: asked again only after a growing while, however short the settings' times are.
    pub(crate) fn disagreed(&mut self, now: Time) {
        self.cloud.back.pause(now, FailureClass::WrongState);
    }

    /// Positions of an ENI that were to leave stay, for now. Those that EC2 may be taking away are none of them: it is asked on.
    pub(crate) fn keep_slots(&mut self, now: Time, eni: &EniId, why: &str) {
        let unsent = |(id, _): &&(EniId, Unit), release: &Release| id == eni && !release.may_be_taken(now);
        let entries: Vec<(EniId, Unit)> = self
            .cloud
            .back
            .releases
            .iter()
            .filter(|(entry, r)| unsent(entry, r))
            .map(|(entry, _)| entry.clone())
            .collect();
        self.drop_queued(|job| matches!(job, Job::CheckSlots(id) if id == eni));
        for entry in entries {
            if let Some(release) = self.cloud.back.releases.remove(&entry) {
                // Whether a call has taken them is EC2's to say.
                let unsure = release.in_flight.is_some();
                self.mark(eni, &release.slots, if unsure { SlotState::Unconfirmed } else { SlotState::Held });
                if unsure {
                    self.ask_about_node();
                }
                self.touch_disk();
                self.cloud.back.last = Some(now);
                let count = release.slots.len();
                self.say(Notice::SlotsKept { eni: eni.clone(), count, why: why.to_owned() });
            }
        }
        if self.cloud.back.of(eni).any(|release| release.step == Step::Asking) {
            self.queue_job(now + Self::AGAIN, Job::CheckSlots(eni.clone()), 1);
        }
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
            .filter(|(id, exit)| exit.step != ExitStep::Going && !exit.may_be_taken(now) && useful(id))
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

/// ENIs.
impl Agent {
    /// How often a detach is looked at until it is done (the reference waits 2 s blindly).
    const DETACH_POLL: Millis = Millis::seconds(1);
    /// After so many looks at an ENI that is still attached it is asked to detach again.
    const POLLS: u32 = 30;
    /// When ENIs that nobody knows are looked for again, if one is just being made.
    const MAKING: Millis = Millis::seconds(30);
    /// Pause before a call that may have been carried out is made again.
    const AGAIN: Millis = Millis::seconds(5);

    /// Begins to give an ENI back. One after the other: each shows whether the pool is well without it.
    pub(crate) fn start_exit(&mut self, eni: EniId) {
        if self.cloud.back.leaving.is_empty() {
            self.set_use(&eni, EniUse::Leaving);
            let recorded = self.touch_disk();
            self.cloud.back.leaving.insert(eni.clone(), Exit::new(ExitStep::Verifying, recorded));
            self.start_job(Job::Verify(eni), 0);
        }
    }

    /// An ENI that an earlier life was giving back leaves from now on, unless EC2 says otherwise after `in_flight`.
    pub(crate) fn resume_exit(&mut self, eni: EniId, in_flight: Time) {
        let recorded = self.touch_disk();
        let exit = Exit { in_flight: Some(in_flight), ..Exit::new(ExitStep::Verifying, recorded) };
        self.cloud.back.leaving.insert(eni.clone(), exit);
        self.start_job(Job::Verify(eni), 0);
    }

    pub(crate) fn verified(&mut self, now: Time, eni: &EniId, truth: Option<EniTruth>) {
        let Some(known) = self.pool.eni(eni) else { return };
        let in_flight = self.cloud.back.leaving.get(eni).is_some_and(|exit| exit.in_flight.is_some());
        let Some(truth) = truth else {
            if in_flight && !self.busy(eni) {
                return self.gone(eni);
            }
            self.disagreed(now);
            return self.keep(now, eni, "EC2 does not know it");
        };
        let stranger = truth.slots.iter().any(|slot| !known.slots.contains_key(slot) && !self.was_released(eni, *slot));
        if self.busy(eni) || stranger {
            self.admit(now, eni, &truth.slots);
            self.disagreed(now);
            return self.keep(now, eni, "EC2 shows addresses on it that the pool did not know, or a pod uses it");
        }
        if known.keep || !self.is_ours(&truth) {
            self.disagreed(now);
            return self.keep(now, eni, "EC2 says that it is somebody else's, or one that is kept");
        }
        // Not known after a restart that went by the metadata alone.
        if let Some((attachment, _, _)) = truth.attachment
            && let Err(error) = self.pool.set_attachment(eni, attachment)
        {
            self.say(Notice::Disagreement { what: error.to_string() });
        }
        let Some(exit) = self.cloud.back.leaving.get_mut(eni) else { return };
        if in_flight && truth.available {
            exit.step = ExitStep::Going;
            return self.start_job(Job::Delete(eni.clone()), 0);
        }
        exit.step = ExitStep::Clearing;
        self.host.clear(eni);
    }

    /// Detaches ENIs whose routes and rules are off the host.
    fn exit_steps(&mut self, now: Time) {
        self.end_forbidden_exits(now);
        let written = self.disk.written();
        let ready = |exit: &Exit| exit.step == ExitStep::Clearing && exit.recorded <= written;
        let clear: Vec<EniId> =
            self.cloud.back.leaving.iter().filter(|(_, exit)| ready(exit)).map(|(id, _)| id.clone()).collect();
        if !self.config.cloud.may_release() {
            for id in &clear {
                self.keep(now, id, "the settings do not allow to give anything back");
            }
            return;
        }
        for id in clear.into_iter().filter(|id| self.host.is_clear_of(id)).collect::<Vec<_>>() {
            if self.busy(&id) || self.host_uses(&id) {
                self.keep(now, &id, "a pod uses one of its addresses");
                continue;
            }
            let Some(attachment) = self.pool.eni(&id).and_then(|eni| eni.attachment.clone()) else {
                self.keep(now, &id, "its attachment is not known");
                continue;
            };
            if let Some(exit) = self.cloud.back.leaving.get_mut(&id) {
                exit.step = ExitStep::Going;
            }
            self.start_job(Job::Detach { eni: id, attachment }, 0);
        }
    }

    /// The settings do not allow giving back any more: an ENI whose detach waits stays. One that is detached is of no use here; it is
    /// deleted like one that could not be attached.
    fn end_forbidden_exits(&mut self, now: Time) {
        if self.config.cloud.may_release() {
            return;
        }
        let exits: Vec<EniId> = self.cloud.back.leaving.keys().cloned().collect();
        for eni in exits {
            let detach = |job: &Job| matches!(job, Job::Detach { eni: id, .. } if *id == eni);
            let delete = |job: &Job| matches!(job, Job::Delete(id) if *id == eni);
            if self.cloud.is_queued(detach) {
                self.drop_queued(detach);
                self.keep(now, &eni, "the settings do not allow to give anything back");
            } else if self.cloud.is_queued(delete) {
                self.drop_queued(delete);
                self.gone(&eni);
                self.start_job(Job::Discard(eni), 0);
            }
        }
    }

    pub(crate) fn detach_failed(
        &mut self,
        now: Time,
        eni: EniId,
        attachment: AttachmentId,
        tries: u32,
        failure: &CloudFailure,
    ) {
        let class = failure.class;
        let again = now + pause_after(class, tries);
        if failure.may_be_done()
            && let Some(exit) = self.cloud.back.leaving.get_mut(&eni)
        {
            exit.in_flight = Some(now + CALL_LIMIT);
        }
        match class {
            _ if failure.may_be_done() => self.queue_job(again, Job::AwaitDetached(eni), 0),
            FailureClass::NotFound | FailureClass::WrongState => {
                self.queue_job(again, Job::AwaitDetached(eni), 0);
            }
            FailureClass::Unauthorized | FailureClass::Other if tries == 1 => {
                self.cloud.back.pause(now, class);
                self.keep(now, &eni, "EC2 refused to detach it");
            }
            _ => self.queue_job(again, Job::Detach { eni, attachment }, tries),
        }
    }

    pub(crate) fn detach_seen(&mut self, now: Time, eni: EniId, truth: Option<EniTruth>) {
        match truth {
            None => self.gone(&eni),
            Some(truth) if truth.available => self.start_job(Job::Delete(eni), 0),
            Some(truth) => {
                let polls = self.cloud.back.leaving.get_mut(&eni).map_or(0, |exit| {
                    exit.polls += 1;
                    exit.polls
                });
                match truth.attachment {
                    // The call whose answer was lost may never have come to EC2. Asked twice it does no harm.
                    Some((attachment, ..)) if polls.is_multiple_of(Self::POLLS) => {
                        self.start_job(Job::Detach { eni, attachment }, 0);
                    }
                    _ => self.queue_job(now + Self::DETACH_POLL, Job::AwaitDetached(eni), 0),
                }
            }
        }
    }

    /// Takes up the end of an ENI that is detached, or being detached, already.
    pub(crate) fn leave(&mut self, eni: &EniId, next: Job) {
        self.set_use(eni, EniUse::Leaving);
        let recorded = self.touch_disk();
        self.cloud.back.leaving.insert(eni.clone(), Exit::new(ExitStep::Going, recorded));
        self.start_job(next, 0);
    }

    pub(crate) fn gone(&mut self, eni: &EniId) {
        self.cloud.back.failures = 0;
        self.cloud.back.leaving.remove(eni);
        self.cloud.back.releases.retain(|(id, _), _| id != eni);
        match self.pool.remove(eni) {
            Ok(_) => {
                self.recon.forget(eni);
                self.touch_disk();
                self.say(Notice::EniReleased { eni: eni.clone() });
            }
            Err(error) => self.say(Notice::Disagreement { what: error.to_string() }),
        }
    }

    /// An ENI that was to leave stays, for now. Not one that EC2 may be taking away: it is asked on.
    pub(crate) fn keep(&mut self, now: Time, eni: &EniId, why: &str) {
        let Some(exit) = self.cloud.back.leaving.get_mut(eni) else { return };
        if exit.may_be_taken(now) {
            exit.step = ExitStep::Verifying;
            return self.queue_job(now + Self::AGAIN, Job::Verify(eni.clone()), 1);
        }
        if exit.in_flight.is_some() {
            self.ask_about_node();
        }
        self.cloud.back.leaving.remove(eni);
        self.drop_queued(|job| matches!(job, Job::Verify(id) if id == eni));
        self.set_use(eni, EniUse::SettingUp);
        self.pool.renew(eni, now);
        self.touch_disk();
        self.host.unclear(eni);
        self.say(Notice::EniKept { eni: eni.clone(), why: why.to_owned() });
    }

    pub(crate) fn set_use(&mut self, eni: &EniId, usage: EniUse) {
        if let Err(error) = self.pool.set_use(eni, usage) {
            self.say(Notice::Disagreement { what: error.to_string() });
        }
    }

    /// Has an ENI that was made and never attached, because the daemon was killed in between, looked for: once, when a call that an
    /// earlier life sent off has surely ended.
    pub(crate) fn look_for_strays(&mut self, now: Time) {
        if self.config.cloud.may_release() {
            // Nodes that start together must not ask together, and not while others still want to know what they have.
            let (after, lap) = (self.config.strays_after, self.cloud.pacer.lap(Ec2Action::DescribeEnis));
            let most = Millis(after.0.max(lap.0).saturating_mul(3));
            let spread = self.cloud.pacer.jitter(most);
            self.drop_queued(|job| *job == Job::FindStrays);
            self.queue_job(now + after + lap + spread, Job::FindStrays, 0);
        }
    }

    pub(crate) fn discard_strays(&mut self, now: Time, enis: Vec<EniId>) {
        let unknown = |id: &EniId| !self.is_building(id) && self.pool.eni(id).is_none();
        let strays: Vec<EniId> = enis.into_iter().filter(unknown).collect();
        // One that is just being created may be in the list without being known yet.
        if !strays.is_empty() && self.cloud.fetch.builds().any(|build| build.eni().is_none()) {
            return self.queue_job(now + Self::MAKING, Job::FindStrays, 0);
        }
        for eni in strays {
            self.say(Notice::StrayFound { eni: eni.clone() });
            self.start_job(Job::Discard(eni), 0);
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
