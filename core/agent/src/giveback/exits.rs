//! Giving whole ENIs back.
//!
//! ```text
//!   Verifying: EC2 shows it idle, ours --> Clearing: on disk, the host cleared of it --> Going: Detach --> Detached: Delete
//! ```

use std::collections::BTreeSet;

use vpc_ipam::EniUse;
use vpc_model::{AttachmentId, EniId, Millis, Time};

use crate::agent::Agent;
use crate::cloud::{CloudFailure, EniTruth, FailureClass};
use crate::jobs::{CALL_LIMIT, Job};
use crate::message::{Generation, Notice};
use crate::places::pause_after;

/// An ENI on its way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exit {
    step: ExitStep,
    recorded: Generation,
    /// As of a position's release: a call without an answer; until then EC2 may carry it out.
    in_flight: Option<Time>,
    /// How often EC2 has shown it attached since it was asked to detach it.
    polls: u32,
    /// Since when the metadata do not show it, where nobody else may be asked.
    unseen: Option<Time>,
}

impl Exit {
    fn new(step: ExitStep, recorded: Generation) -> Self {
        Self { step, recorded, in_flight: None, polls: 0, unseen: None }
    }

    pub(super) fn may_be_taken(&self, now: Time) -> bool {
        self.in_flight.is_some_and(|until| until > now)
    }

    /// Whether it can still be taken back.
    pub(super) fn may_stay(&self) -> bool {
        matches!(self.step, ExitStep::Verifying | ExitStep::Clearing)
    }

    /// Whether EC2 has taken it off the instance.
    pub(super) fn is_detached(&self) -> bool {
        self.step == ExitStep::Detached
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
    /// EC2 has taken it off the instance: it is still to be deleted.
    Detached,
}

impl Agent {
    /// How often a detach is looked at until it is done (the reference waits 2 s blindly).
    const DETACH_POLL: Millis = Millis::seconds(1);
    /// After so many looks at an ENI that is still attached it is asked to detach again.
    const POLLS: u32 = 30;

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
            let since = known.since;
            self.disagreed(now);
            self.keep(now, eni, "EC2 does not know it");
            // It was here long enough to be listed, and is no newer for what was tried: so it is in doubt at once.
            self.pool.renew(eni, since);
            return self.not_here(now, eni, None);
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
            exit.step = ExitStep::Detached;
            return self.start_job(Job::Delete(eni.clone()), 0);
        }
        exit.step = ExitStep::Clearing;
        self.host.clear(eni);
    }

    /// Detaches ENIs whose routes and rules are off the host.
    pub(super) fn exit_steps(&mut self, now: Time) {
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

    /// EC2 may not be asked how far the ENIs have come that it was to take away: the metadata show it in the end. What has left is
    /// deleted when the settings allow that again.
    pub(crate) fn exits_by_metadata(&mut self, now: Time, shown: &BTreeSet<EniId>) {
        let clearing = |exit: &Exit| exit.step == ExitStep::Clearing;
        let exits: Vec<EniId> =
            self.cloud.back.leaving.iter().filter(|(_, exit)| !clearing(exit)).map(|(id, _)| id.clone()).collect();
        for eni in exits.iter().filter(|eni| !self.cloud.is_asking(|job| is_exit_of(job, eni))).collect::<Vec<_>>() {
            let Some(exit) = self.cloud.back.leaving.get_mut(eni) else { continue };
            if shown.contains(eni) {
                exit.unseen = None;
                // What EC2 has said yes to goes; of a call that was lost this is the answer.
                let undecided = exit.step == ExitStep::Verifying || exit.in_flight.is_some();
                if undecided && !exit.may_be_taken(now) {
                    self.keep(now, eni, "EC2 may not be asked about it, and the metadata show it");
                }
            } else if now.since(*exit.unseen.get_or_insert(now)) >= Self::SETTLED {
                self.drop_queued(|job| is_exit_of(job, eni));
                self.gone(eni);
                self.look_for_strays_at(now);
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
        let Some(exit) = self.cloud.back.leaving.get_mut(&eni) else { return };
        match truth {
            None => self.gone(&eni),
            Some(truth) if truth.available => {
                exit.step = ExitStep::Detached;
                self.start_job(Job::Delete(eni), 0);
            }
            Some(truth) => {
                exit.polls += 1;
                let again = exit.polls.is_multiple_of(Self::POLLS);
                match truth.attachment {
                    // The call whose answer was lost may never have come to EC2. Asked twice it does no harm.
                    Some((attachment, ..)) if again => {
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
        let step = if matches!(next, Job::Delete(_)) { ExitStep::Detached } else { ExitStep::Going };
        self.cloud.back.leaving.insert(eni.clone(), Exit::new(step, recorded));
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
        self.drop_queued(|job| is_exit_of(job, eni));
        self.set_use(eni, EniUse::SettingUp);
        self.pool.renew(eni, now);
        self.touch_disk();
        self.host.unclear(eni);
        self.say(Notice::EniKept { eni: eni.clone(), why: why.to_owned() });
    }
}

/// Whether a job takes an ENI away, or asks how far that has come.
fn is_exit_of(job: &Job, eni: &EniId) -> bool {
    match job {
        Job::Verify(id) | Job::Detach { eni: id, .. } | Job::AwaitDetached(id) | Job::Delete(id) => id == eni,
        _ => false,
    }
}
