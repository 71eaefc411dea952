//! The node's path: fetching addresses and ENIs, and giving idle ENIs back.
//!
//! ```text
//!   Assign ----------------------------------------------------> addresses join the pool
//!   Create -> Attach -> (ENI joins the pool, its link is set up) + DeleteOnTermination
//!   Leaving -> Verify (EC2) -> host cleared -> Detach -> Describe until available -> Delete -> gone
//! ```
//!
//! Every call is followed by its answer, a retry after a growing pause, or a notice that says why not. A lost answer is never
//! taken for a failure: the call is repeated under the same token, or EC2 is asked what is true.

use std::collections::{BTreeMap, BTreeSet};

use vpc_ipam::{Action, Demand, EniFacts, EniRole, EniUse, Pending, PoolEni, SlotState, Unit, plan};
use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, Millis, SecurityGroupId, Slot, Time};

use crate::agent::Agent;
use crate::cloud::{CloudAnswer, CloudCall, CloudFailure, EniTruth, FailureClass, OpId, Place};
use crate::message::{Effect, Notice, Wake};

/// A call under way or to be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Job {
    Create(u64),
    Attach(u64),
    /// An attach whose answer was lost: what is true?
    FindAttachment(u64),
    DeleteOnTermination {
        eni: EniId,
        attachment: AttachmentId,
    },
    Assign {
        eni: EniId,
        unit: Unit,
        count: u32,
    },
    /// What is on the ENI?
    Refresh(EniId),
    /// Does EC2 agree that the ENI is idle?
    Verify(EniId),
    Detach {
        eni: EniId,
        attachment: AttachmentId,
    },
    /// Has the detach finished?
    AwaitDetached(EniId),
    Delete(EniId),
    /// An ENI that could not be attached is deleted again.
    Discard(EniId),
    SetGroups {
        eni: EniId,
        groups: Vec<SecurityGroupId>,
    },
    Tag {
        enis: Vec<EniId>,
        tags: BTreeMap<String, String>,
    },
    /// What are the instance's ENIs?
    DescribeNode,
    /// What did an earlier life leave behind?
    FindStrays,
}

/// An ENI on its way to the node.
#[derive(Clone, Debug)]
struct Build {
    token: String,
    unit: Unit,
    count: u32,
    device: DeviceIndex,
    /// Set once it exists.
    truth: Option<EniTruth>,
}

/// An ENI on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// EC2 is asked whether it agrees.
    Verifying,
    /// Its routes and rules are being taken off the host.
    Clearing,
    /// EC2 takes it away.
    Going,
}

/// Why nothing is asked for now.
#[derive(Clone, Debug)]
struct Pause {
    until: Time,
    failure: CloudFailure,
    streak: u32,
}

/// What is under way between the node and the cloud.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cloud {
    calls: BTreeMap<OpId, (Job, u32)>,
    /// To be sent again: (due, job, failures so far).
    retries: Vec<(Time, Job, u32)>,
    builds: BTreeMap<u64, Build>,
    pub(crate) leaving: BTreeMap<EniId, Leaving>,
    assign_pause: Option<Pause>,
    create_pause: Option<Pause>,
    /// ENIs to which EC2 adds nothing more, until then.
    refused: BTreeMap<EniId, Time>,
    /// The subnet refused more than so many at once.
    at_most: Option<u32>,
    next_op: u64,
    next_build: u64,
    /// When the pool was last compared with its target.
    pub(crate) planned_at: Time,
}

impl Cloud {
    /// Addresses asked for and not yet in the pool.
    pub(crate) fn coming(&self) -> u32 {
        let assigning: u32 = self.assigning().map(|(_, unit, count)| unit.size() * count).sum();
        assigning + self.builds.values().map(|build| build.unit.size() * build.count).sum::<u32>()
    }

    /// Whether anything that brings addresses is under way.
    pub(crate) fn is_fetching(&self) -> bool {
        self.coming() > 0
    }

    /// Why nothing is asked for now, and until when.
    pub(crate) fn failure(&self, now: Time) -> Option<(&CloudFailure, Time)> {
        let pauses = [&self.create_pause, &self.assign_pause].into_iter().flatten();
        let retried = pauses.filter(|pause| pause.until > now).max_by_key(|pause| pause.until);
        retried.map(|pause| (&pause.failure, pause.until))
    }

    /// Whether EC2 was asked what the node's ENIs are, and could not say.
    pub(crate) fn describing_failed(&self) -> bool {
        let waiting = self.retries.iter().map(|(_, job, tries)| (job, *tries));
        let mut asked = self.calls.values().map(|(job, tries)| (job, *tries)).chain(waiting);
        asked.any(|(job, tries)| *job == Job::DescribeNode && tries > 0)
    }

    pub(crate) fn next_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Time, Wake)> + '_ {
        let pauses = [&self.create_pause, &self.assign_pause].into_iter().flatten().map(|pause| pause.until);
        let retries = self.retries.iter().map(|(due, _, _)| *due);
        let times = pauses.chain(retries).chain(self.refused.values().copied());
        times.filter(|at| *at > self.planned_at).map(|at| (at, Wake::RetryDue))
    }

    fn assigning(&self) -> impl Iterator<Item = (&EniId, Unit, u32)> {
        self.calls.values().filter_map(|(job, _)| match job {
            Job::Assign { eni, unit, count } => Some((eni, *unit, *count)),
            _ => None,
        })
    }

    fn pending(&self, now: Time, foreign: usize, unit: Unit) -> Pending {
        let paused = |pause: &Option<Pause>| pause.as_ref().is_some_and(|pause| pause.until > now);
        let mut refused: BTreeSet<EniId> =
            self.refused.iter().filter(|(_, until)| **until > now).map(|(id, _)| id.clone()).collect();
        // What is on the ENI is about to be learned; asking for more before would ask twice.
        let asked = self.calls.values().map(|(job, _)| job).chain(self.retries.iter().map(|(_, job, _)| job));
        refused.extend(asked.filter_map(|job| if let Job::Refresh(eni) = job { Some(eni.clone()) } else { None }));
        // An answer was lost a moment ago, and EC2 is being asked what it did: first hear that. Only once: new ENIs do not wait for
        // a question that keeps failing.
        let hearing = self.calls.values().any(|(job, tries)| matches!(job, Job::Refresh(_)) && *tries == 0);
        Pending {
            assigning: self.assigning().map(|(eni, unit, count)| (eni.clone(), unit, count)).collect(),
            new_enis: self.builds.values().map(|build| (build.unit, build.count)).collect(),
            foreign_enis: u32::try_from(foreign).unwrap_or(u32::MAX),
            refused,
            new_eni: (!hearing && !paused(&self.create_pause)).then_some(unit),
            at_most: self.at_most,
            ..Pending::default()
        }
    }
}

impl Agent {
    /// Compares the pool with its target and asks for what is missing, or gives back what is too much.
    pub(crate) fn plan_pool(&mut self, now: Time) {
        self.cloud.planned_at = now;
        if self.terminating || self.must_hear_first() {
            return;
        }
        let mut pending = self.cloud.pending(now, self.others.len(), self.config.target.unit);
        if self.cloud.assign_pause.as_ref().is_some_and(|pause| pause.until > now) {
            pending.refused = self.pool.enis().map(|eni| eni.facts.id.clone()).collect();
        }
        let waiting = u32::try_from(self.waiters.len()).unwrap_or(u32::MAX);
        let demand = Demand { waiting, expected: 0 };
        for action in plan(&self.target(), &self.pool, &pending, demand, now).actions {
            match action {
                Action::Assign { eni, unit, count } => self.start_job(Job::Assign { eni, unit, count }, 0),
                Action::NewEni { unit, count } => self.start_build(unit, count),
                Action::Release { .. } => {}
                // One after the other: each shows whether the pool is well without it.
                Action::ReleaseEni { eni } if self.cloud.leaving.is_empty() => {
                    self.set_use(&eni, EniUse::Leaving);
                    self.cloud.leaving.insert(eni.clone(), Leaving::Verifying);
                    self.start_job(Job::Verify(eni), 0);
                }
                Action::ReleaseEni { .. } => {}
            }
        }
    }

    /// Sends again what is due.
    pub(crate) fn cloud_retries(&mut self, now: Time) {
        self.cloud.refused.retain(|_, until| *until > now);
        let (due, later) = std::mem::take(&mut self.cloud.retries).into_iter().partition(|(at, _, _)| *at <= now);
        self.cloud.retries = later;
        let due: Vec<(Time, Job, u32)> = due;
        for (_, job, tries) in due {
            self.start_job(job, tries);
        }
    }

    /// Asks EC2 what the node's ENIs are, and what is on them.
    pub(crate) fn ask_about_node(&mut self) {
        let waiting = self.cloud.retries.iter().map(|(_, job, _)| job);
        let asked = self.cloud.calls.values().map(|(job, _)| job).chain(waiting).any(|job| *job == Job::DescribeNode);
        if self.config.cloud.may_ask() && !asked {
            self.start_job(Job::DescribeNode, 0);
        }
    }

    /// Detaches ENIs whose routes and rules are off the host.
    pub(crate) fn release_steps(&mut self, now: Time) {
        let clearing = self.cloud.leaving.iter().filter(|(_, step)| **step == Leaving::Clearing);
        let clear: Vec<EniId> = clearing.map(|(id, _)| id.clone()).filter(|id| self.host.is_clear_of(id)).collect();
        for id in clear {
            if self.busy(&id) || self.host_uses(&id) {
                self.keep(now, &id, "a pod uses one of its addresses");
                continue;
            }
            let Some(attachment) = self.pool.eni(&id).and_then(|eni| eni.attachment.clone()) else {
                self.keep(now, &id, "its attachment is not known");
                continue;
            };
            self.cloud.leaving.insert(id.clone(), Leaving::Going);
            self.start_job(Job::Detach { eni: id, attachment }, 0);
        }
    }

    pub(crate) fn cloud_done(&mut self, now: Time, op: OpId, result: Result<CloudAnswer, CloudFailure>) {
        // An answer to a call nobody made (of an earlier life) says nothing.
        let Some((job, tries)) = self.cloud.calls.remove(&op) else { return };
        match result {
            Ok(answer) => self.succeeded(now, job, answer),
            Err(failure) => self.failed(now, job, tries + 1, failure),
        }
    }

    /// Has an ENI that was made and never attached, because the daemon was killed in between, looked for: once, when a call that an
    /// earlier life sent off has surely ended.
    pub(crate) fn look_for_strays(&mut self, now: Time) {
        self.cloud.retries.push((now + Self::STRAYS_AFTER, Job::FindStrays, 0));
    }

    fn discard_strays(&mut self, enis: Vec<EniId>) {
        let building = |id: &EniId| self.cloud.builds.values().any(|b| b.truth.as_ref().is_some_and(|t| t.id == *id));
        let making = self.cloud.builds.values().any(|build| build.truth.is_none());
        // One that is just being created may be in the list without being known yet: it is looked for again at the next start.
        let strays: Vec<EniId> =
            enis.into_iter().filter(|id| !making && !building(id) && self.pool.eni(id).is_none()).collect();
        for eni in strays {
            self.say(Notice::StrayFound { eni: eni.clone() });
            self.start_job(Job::Discard(eni), 0);
        }
    }

    fn start_job(&mut self, job: Job, tries: u32) {
        let Some(call) = self.call_of(&job) else { return };
        if let Job::Assign { .. } = &job {
            self.say(Notice::Growing { what: call.to_string(), waiting: self.waiters.len() });
        }
        let op = self.cloud.next_op();
        self.cloud.calls.insert(op, (job, tries));
        self.out.push(Effect::Cloud { op, call });
    }

    fn call_of(&self, job: &Job) -> Option<CloudCall> {
        let build = |number: &u64| self.cloud.builds.get(number);
        let built = |number: &u64| build(number)?.truth.as_ref().map(|truth| truth.id.clone());
        Some(match job {
            Job::Create(number) => {
                let build = build(number)?;
                let place = Place { subnet: self.home.clone(), groups: self.groups.clone() };
                CloudCall::CreateEni { token: build.token.clone(), place, unit: build.unit, count: build.count }
            }
            Job::Attach(number) => {
                CloudCall::AttachEni { eni: built(number)?, card: CardIndex(0), device: build(number)?.device }
            }
            Job::FindAttachment(number) => CloudCall::Describe { eni: built(number)? },
            Job::DeleteOnTermination { eni, attachment } => {
                CloudCall::DeleteOnTermination { eni: eni.clone(), attachment: attachment.clone() }
            }
            Job::Assign { eni, unit, count } => CloudCall::Assign { eni: eni.clone(), unit: *unit, count: *count },
            Job::Refresh(eni) | Job::Verify(eni) | Job::AwaitDetached(eni) => CloudCall::Describe { eni: eni.clone() },
            Job::Detach { eni, attachment } => CloudCall::Detach { eni: eni.clone(), attachment: attachment.clone() },
            Job::Delete(eni) | Job::Discard(eni) => CloudCall::Delete { eni: eni.clone() },
            Job::DescribeNode => CloudCall::DescribeNode,
            Job::SetGroups { eni, groups } => CloudCall::SetGroups { eni: eni.clone(), groups: groups.clone() },
            Job::Tag { enis, tags } => CloudCall::Tag { enis: enis.clone(), tags: tags.clone() },
            Job::FindStrays => CloudCall::FindStrays,
        })
    }

    fn start_build(&mut self, unit: Unit, count: u32) {
        let Some(device) = self.free_device() else { return };
        self.cloud.next_build += 1;
        let number = self.cloud.next_build;
        let token = format!("{}-{:016x}-{number}", self.instance.as_str(), self.config.nonce);
        self.say(Notice::Growing {
            what: format!("creating an ENI with {count} positions filled for position {device}"),
            waiting: self.waiters.len(),
        });
        self.cloud.builds.insert(number, Build { token, unit, count, device, truth: None });
        self.start_job(Job::Create(number), 0);
    }

    fn free_device(&self) -> Option<DeviceIndex> {
        let taken = |device: &DeviceIndex| {
            self.pool.enis().any(|eni| eni.facts.card.0 == 0 && eni.facts.device == *device)
                || self.others.values().any(|other| other.device == *device)
                || self.cloud.builds.values().any(|build| build.device == *device)
        };
        (1..=u8::MAX).map(DeviceIndex).find(|device| !taken(device))
    }

    fn succeeded(&mut self, now: Time, job: Job, answer: CloudAnswer) {
        match (job, answer) {
            (Job::Create(number), CloudAnswer::Created(truth)) => {
                self.cloud.create_pause = None;
                if let Some(build) = self.cloud.builds.get_mut(&number) {
                    build.truth = Some(truth);
                    self.start_job(Job::Attach(number), 0);
                }
            }
            (Job::Attach(number), CloudAnswer::Attached(attachment)) => self.attached(now, number, attachment),
            (Job::FindAttachment(number), CloudAnswer::Described(truth)) => self.attachment_found(now, number, truth),
            (Job::Assign { eni, .. }, CloudAnswer::Assigned(slots)) => {
                self.cloud.assign_pause = None;
                self.cloud.at_most = None;
                self.admit(now, &eni, &slots);
            }
            (Job::Refresh(eni), CloudAnswer::Described(truth)) => self.refreshed(now, &eni, truth),
            (Job::DescribeNode, CloudAnswer::Node(truths)) => self.node_described(now, truths),
            (Job::Verify(eni), CloudAnswer::Described(truth)) => self.verified(now, &eni, truth),
            (Job::AwaitDetached(eni), CloudAnswer::Described(truth)) => self.detach_seen(now, eni, truth),
            (Job::Detach { eni, .. }, _) => self.start_job(Job::AwaitDetached(eni), 0),
            (Job::Delete(eni), _) => self.gone(&eni),
            (Job::FindStrays, CloudAnswer::Strays(enis)) => self.discard_strays(enis),
            (Job::Discard(_) | Job::DeleteOnTermination { .. } | Job::SetGroups { .. } | Job::Tag { .. }, _) => {}
            (job, answer) => {
                // The edge answers each call in kind; anything else is its mistake, and EC2 is asked what is true.
                let what = format!("an answer that does not fit its call: {answer:?} to {job:?}");
                self.say(Notice::Disagreement { what });
            }
        }
    }

    fn attached(&mut self, now: Time, number: u64, attachment: AttachmentId) {
        let Some(Build { device, truth: Some(truth), .. }) = self.cloud.builds.remove(&number) else { return };
        let Some(subnet) = self.pool.enis().find(|eni| eni.facts.is_primary()).map(|eni| eni.facts.subnet) else {
            return self.say(Notice::Disagreement { what: "the primary ENI is not known".to_owned() });
        };
        self.made(now, &truth);
        let id = truth.id.clone();
        let facts = EniFacts {
            id: truth.id,
            mac: truth.mac,
            card: CardIndex(0),
            device,
            subnet,
            subnet_id: Some(truth.subnet),
            primary: truth.primary,
        };
        let slots: Vec<Slot> = truth.slots;
        let count = slots.len();
        let eni = PoolEni {
            facts,
            attachment: Some(attachment.clone()),
            since: now,
            usage: EniUse::SettingUp,
            role: EniRole::Pods,
            keep: false,
            slots: slots.into_iter().map(|slot| (slot, SlotState::Held)).collect(),
        };
        match self.pool.adopt(eni) {
            Ok(()) => {
                self.touch_disk();
                self.host.is_dirty();
                self.say(Notice::Grown { eni: id.clone(), count });
                self.start_job(Job::DeleteOnTermination { eni: id, attachment }, 0);
            }
            Err(error) => self.say(Notice::Disagreement { what: format!("attached {id}: {error}") }),
        }
    }

    fn attachment_found(&mut self, now: Time, number: u64, truth: Option<EniTruth>) {
        match truth.and_then(|truth| truth.attachment) {
            Some((attachment, _, device)) => {
                if let Some(build) = self.cloud.builds.get_mut(&number) {
                    build.device = device;
                }
                self.attached(now, number, attachment);
            }
            None => self.start_job(Job::Attach(number), 1),
        }
    }

    /// Whether an ENI is on its way to the node.
    pub(crate) fn is_building(&self, id: &EniId) -> bool {
        self.cloud.builds.values().any(|build| build.truth.as_ref().is_some_and(|truth| truth.id == *id))
    }

    /// Whether a position was given back lately: what still shows it is behind the times.
    pub(crate) fn was_released(&self, _eni: &EniId, _slot: Slot) -> bool {
        false
    }

    /// What an ENI is for.
    pub(crate) fn role_of(&self, _eni: &EniId) -> EniRole {
        EniRole::Pods
    }

    pub(crate) fn tag_enis(&mut self, enis: Vec<EniId>, tags: BTreeMap<String, String>) {
        self.start_job(Job::Tag { enis, tags }, 0);
    }

    pub(crate) fn set_groups(&mut self, eni: EniId, groups: Vec<SecurityGroupId>) {
        self.start_job(Job::SetGroups { eni, groups }, 0);
    }

    pub(crate) fn delete_detached(&mut self, eni: &EniId) {
        self.set_use(eni, EniUse::Leaving);
        self.cloud.leaving.insert(eni.clone(), Leaving::Going);
        self.start_job(Job::Delete(eni.clone()), 0);
    }

    fn verified(&mut self, now: Time, eni: &EniId, truth: Option<EniTruth>) {
        let Some(known) = self.pool.eni(eni) else { return };
        let stranger = |truth: &EniTruth| truth.slots.iter().find(|slot| !known.slots.contains_key(slot)).copied();
        match truth {
            Some(truth) if self.busy(eni) || stranger(&truth).is_some() => {
                self.admit(now, eni, &truth.slots);
                self.keep(now, eni, "EC2 shows addresses on it that the pool did not know, or a pod uses it");
            }
            Some(truth) => {
                // Not known after a restart that went by the metadata alone.
                if let Some((attachment, _, _)) = truth.attachment
                    && let Err(error) = self.pool.set_attachment(eni, attachment)
                {
                    self.say(Notice::Disagreement { what: error.to_string() });
                }
                self.cloud.leaving.insert(eni.clone(), Leaving::Clearing);
                self.host.clear(eni);
            }
            None => self.keep(now, eni, "EC2 does not know it"),
        }
    }

    /// An ENI that was to leave stays, for now.
    fn keep(&mut self, now: Time, eni: &EniId, why: &str) {
        self.cloud.leaving.remove(eni);
        self.set_use(eni, EniUse::SettingUp);
        self.pool.renew(eni, now);
        self.host.is_dirty();
        self.say(Notice::EniKept { eni: eni.clone(), why: why.to_owned() });
    }

    fn detach_seen(&mut self, now: Time, eni: EniId, truth: Option<EniTruth>) {
        match truth {
            None => self.gone(&eni),
            Some(truth) if truth.available => self.start_job(Job::Delete(eni), 0),
            Some(_) => self.cloud.retries.push((now + Self::DETACH_POLL, Job::AwaitDetached(eni), 0)),
        }
    }

    pub(crate) fn gone(&mut self, eni: &EniId) {
        self.cloud.leaving.remove(eni);
        match self.pool.remove(eni) {
            Ok(_) => {
                self.recon.forget(eni);
                self.touch_disk();
                self.say(Notice::EniReleased { eni: eni.clone() });
            }
            Err(error) => self.say(Notice::Disagreement { what: error.to_string() }),
        }
    }

    pub(crate) fn set_use(&mut self, eni: &EniId, usage: EniUse) {
        if let Err(error) = self.pool.set_use(eni, usage) {
            self.say(Notice::Disagreement { what: error.to_string() });
        }
    }

    /// How often a detach is looked at until it is done (the reference waits 2 s blindly).
    const DETACH_POLL: Millis = Millis::seconds(1);
    /// When ENIs of an earlier life are looked for: later than any call of it can still be under way.
    const STRAYS_AFTER: Millis = Millis::seconds(60);
    /// How long nothing is added to an ENI after EC2 said it is full.
    const REFUSED: Millis = Millis::seconds(60);

    fn failed(&mut self, now: Time, job: Job, tries: u32, failure: CloudFailure) {
        let what = self.call_of(&job).map(|call| call.to_string()).unwrap_or_default();
        let pause = pause_after(failure.class, tries);
        let retry_in = Some(pause.0);
        self.say(Notice::CloudFailed { what, failure: failure.clone(), retry_in });
        let retry_at = now + pause;
        match (job, failure.class) {
            (Job::Assign { eni, count, .. }, class) => self.assign_failed(now, eni, count, class, failure),
            (Job::Create(number), FailureClass::Lost | FailureClass::Unreachable | FailureClass::Throttled) => {
                // The same token can not make a second ENI.
                self.pause_create(now, failure, tries);
                self.cloud.retries.push((retry_at, Job::Create(number), tries));
            }
            (Job::Create(number), class) => {
                let asked = self.cloud.builds.remove(&number).map_or(0, |build| build.count);
                if class == FailureClass::SubnetExhausted && asked > 1 {
                    self.cloud.at_most = Some(asked / 2);
                } else {
                    self.cloud.at_most = None;
                    self.pause_create(now, failure, tries);
                }
            }
            (Job::Attach(number), FailureClass::Lost | FailureClass::WrongState) => {
                self.cloud.retries.push((retry_at, Job::FindAttachment(number), tries));
            }
            (Job::Attach(number), FailureClass::Unreachable | FailureClass::Throttled) => {
                self.cloud.retries.push((retry_at, Job::Attach(number), tries));
            }
            (Job::Attach(number), _) => {
                self.pause_create(now, failure, tries);
                if let Some(truth) = self.cloud.builds.remove(&number).and_then(|build| build.truth) {
                    self.start_job(Job::Discard(truth.id), 0);
                }
            }
            (Job::Detach { eni, .. }, FailureClass::NotFound | FailureClass::WrongState | FailureClass::Lost) => {
                self.cloud.retries.push((retry_at, Job::AwaitDetached(eni), 0));
            }
            (Job::Delete(eni), FailureClass::NotFound) => self.gone(&eni),
            (Job::Delete(eni), FailureClass::WrongState) => {
                self.cloud.retries.push((retry_at, Job::AwaitDetached(eni), tries));
            }
            (Job::Verify(eni), _) => self.keep(now, &eni, "EC2 could not be asked about it"),
            (
                Job::Discard(_) | Job::DeleteOnTermination { .. } | Job::SetGroups { .. } | Job::Tag { .. },
                FailureClass::NotFound,
            ) => {}
            // These go on, at most every two minutes: an ENI half gone, or one that would outlive its instance, is never forgotten.
            (job, _) => self.cloud.retries.push((retry_at, job, tries)),
        }
    }

    fn assign_failed(&mut self, now: Time, eni: EniId, count: u32, class: FailureClass, failure: CloudFailure) {
        match class {
            FailureClass::SubnetExhausted if count > 1 => self.cloud.at_most = Some(count / 2),
            // EC2 says the ENI is full, or may have done what was asked: learn what is on it.
            FailureClass::AddressLimit | FailureClass::Lost => {
                if class == FailureClass::AddressLimit {
                    self.cloud.refused.insert(eni.clone(), now + Self::REFUSED);
                }
                self.start_job(Job::Refresh(eni), 0);
            }
            _ => {
                self.cloud.at_most = None;
                let streak = self.cloud.assign_pause.as_ref().map_or(0, |pause| pause.streak) + 1;
                let until = now + pause_after(class, streak);
                self.cloud.assign_pause = Some(Pause { until, failure: failure.clone(), streak });
                if class == FailureClass::SubnetExhausted {
                    // New ENIs would come from the same subnet.
                    self.cloud.create_pause = Some(Pause { until, failure, streak });
                }
            }
        }
    }

    fn pause_create(&mut self, now: Time, failure: CloudFailure, tries: u32) {
        let streak = self.cloud.create_pause.as_ref().map_or(0, |pause| pause.streak).max(tries.saturating_sub(1)) + 1;
        let until = now + pause_after(failure.class, streak);
        self.cloud.create_pause = Some(Pause { until, failure, streak });
    }
}

/// The class's pause, doubled for every failure in a row, at most [`FailureClass::LONGEST`].
fn pause_after(class: FailureClass, failures: u32) -> Millis {
    let doubled = class.pause().0.saturating_mul(1 << failures.saturating_sub(1).min(16));
    Millis(doubled.min(FailureClass::LONGEST.0))
}
