//! The queue of calls to EC2: what is to be asked, what is under way, what is asked again and when.
//!
//! ```text
//!   start_job --> queue --(due, by weight, as the pacer admits)--> Effect::Cloud --> answer --> fetch, giveback, reconcile
//!                   ^                                                 |
//!                   +------------- a growing pause <------ failure ---+
//! ```
//!
//! Every call is followed by its answer, a repetition after a growing pause, or a notice that says why not. A lost answer is never
//! taken for a failure: the call is repeated under the same token, or EC2 is asked what is true. A call nobody answers ends too:
//! after [`CALL_LIMIT`] its answer counts as lost. Nothing is in the queue twice, and what is in it is bounded by what the node has:
//! its ENIs, the ones it is making, and one each of the questions about all of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use vpc_ipam::{EniUse, Unit};
use vpc_model::{AttachmentId, CardIndex, EniId, Millis, SecurityGroupId, Slot, SubnetId, Time};

use crate::agent::Agent;
use crate::cloud::{CloudAnswer, CloudCall, CloudFailure, FailureClass, OpId};
use crate::fetch::Fetch;
use crate::giveback::GiveBack;
use crate::leaked::CREATED_AT_TAG;
use crate::message::{Effect, Notice, Wake};
use crate::pacer::{Ec2Action, Pacer, Weight};
use crate::places::pause_after;
use crate::strays::Strays;

/// A call that takes longer counts as lost: no client waits as long.
pub(crate) const CALL_LIMIT: Millis = Millis::seconds(120);

/// Background work beyond so many entries of the queue is dropped, and found again by the next look.
const QUEUE_MOST: usize = 256;

/// A call to make, under way, or to be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
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
    /// Does EC2 agree that the ENI has the positions that are to be given back?
    CheckSlots(EniId),
    Unassign {
        eni: EniId,
        slots: Vec<Slot>,
    },
    /// An unassign whose answer was lost: what is still there?
    SeeUnassigned(EniId),
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
    Subnets {
        also: Vec<SubnetId>,
    },
    /// What are the instance's ENIs?
    DescribeNode,
    /// What did an earlier life leave behind?
    FindStrays,
    /// What did lost nodes of this cluster leave behind?
    FindLeaked,
    /// Is an ENI that a lost node left still unused?
    LookAtLeaked(EniId),
    DeleteLeaked(EniId),
    /// Gives ENIs that do not say when they were made a time.
    DateLeaked {
        enis: Vec<EniId>,
        created: String,
    },
    /// What may an instance of this type hold?
    Limits,
}

/// A job that waits for its time or for the pacer.
#[derive(Clone, Debug)]
struct Queued {
    due: Time,
    /// Earlier ones go first.
    seq: u64,
    job: Job,
    /// Failures so far.
    tries: u32,
}

/// A job whose call is under way.
#[derive(Clone, Debug)]
struct Call {
    job: Job,
    tries: u32,
    asked: Time,
}

/// What is under way between the node and the cloud.
#[derive(Clone, Debug)]
pub(crate) struct Cloud {
    calls: BTreeMap<OpId, Call>,
    queue: Vec<Queued>,
    pub(crate) pacer: Pacer,
    /// When the pacer lets the next queued call through.
    admits_at: Option<Time>,
    /// The first of those that bring addresses which throttle answers hold up: until when, and of which action the answers were.
    held_up: Option<(Time, Ec2Action)>,
    /// What EC2 said when it last asked for fewer calls of an action.
    throttled: BTreeMap<Ec2Action, CloudFailure>,
    last_refusal: Option<CloudFailure>,
    pub(crate) fetch: Fetch,
    pub(crate) back: GiveBack,
    pub(crate) strays: Strays,
    next_op: u64,
    next_seq: u64,
    /// When the pool was last compared with its target, and when that may give something else though nothing has changed.
    pub(crate) planned_at: Time,
    pub(crate) plan_again: Option<Time>,
}

impl Cloud {
    /// Nothing under way; the seed decides the jitter.
    pub(crate) fn new(now: Time, seed: u64) -> Self {
        Self {
            calls: BTreeMap::new(),
            queue: Vec::new(),
            pacer: Pacer::new(now, seed),
            admits_at: None,
            held_up: None,
            throttled: BTreeMap::new(),
            last_refusal: None,
            fetch: Fetch::default(),
            back: GiveBack::default(),
            strays: Strays::default(),
            next_op: 0,
            next_seq: 0,
            planned_at: now,
            plan_again: None,
        }
    }

    /// When the pacer lets a call through that brings addresses, if it holds one up because EC2 asked for fewer.
    pub(crate) fn held_up(&self) -> Option<(Time, &CloudFailure)> {
        let (at, action) = self.held_up.filter(|_| self.queue.iter().any(|queued| fetches(&queued.job)))?;
        Some((at, self.throttled.get(&action)?))
    }

    pub(crate) fn next_op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op)
    }

    /// The job of a call that is under way.
    pub(crate) fn job(&self, op: OpId) -> Option<&Job> {
        self.calls.get(&op).map(|call| &call.job)
    }

    /// Every job, under way or queued.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.calls.values().map(|call| &call.job).chain(self.queue.iter().map(|queued| &queued.job))
    }

    /// Whether a call of this kind is under way.
    pub(crate) fn is_asking(&self, of_kind: impl Fn(&Job) -> bool) -> bool {
        self.calls.values().any(|call| of_kind(&call.job))
    }

    /// Whether a job of this kind waits for its time, its turn or other settings.
    pub(crate) fn is_queued(&self, of_kind: impl Fn(&Job) -> bool) -> bool {
        self.queue.iter().any(|queued| of_kind(&queued.job))
    }

    /// Whether a job of this kind has failed and is to be repeated, or is being repeated.
    pub(crate) fn is_repeating(&self, of_kind: impl Fn(&Job) -> bool) -> bool {
        self.calls.values().any(|call| call.tries > 0 && of_kind(&call.job))
            || self.queue.iter().any(|queued| queued.tries > 0 && of_kind(&queued.job))
    }

    /// The last failure of any call.
    pub(crate) fn last_refusal(&self) -> Option<&CloudFailure> {
        self.last_refusal.as_ref()
    }

    /// Whether EC2 was asked what the node's ENIs are, and could not say. That it asks to be asked later is not that.
    pub(crate) fn describing_failed(&self) -> bool {
        self.pacer.streak(Ec2Action::DescribeEnis) == 0 && self.is_repeating(|job| *job == Job::DescribeNode)
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Time, Wake)> + '_ {
        let due = self.queue.iter().map(|queued| queued.due).filter(|at| *at > self.planned_at);
        // What waits for the pacer wakes with it.
        let times = due.chain(self.fetch.deadlines()).chain(self.back.deadlines()).chain(self.strays.deadlines());
        times
            .filter(|at| *at > self.planned_at)
            .map(|at| (at, Wake::RetryDue))
            .chain(self.admits_at.map(|at| (at, Wake::PacerAdmits)))
            .chain(self.plan_again.filter(|at| *at > self.planned_at).map(|at| (at, Wake::SurplusDue)))
            .chain(self.calls.values().map(|call| (call.asked + CALL_LIMIT, Wake::CallOverdue)))
    }
}

/// Whether a job brings addresses, or has to be done before others can.
fn fetches(job: &Job) -> bool {
    matches!(
        job,
        Job::Create(_)
            | Job::Attach(_)
            | Job::FindAttachment(_)
            | Job::Assign { .. }
            | Job::Refresh(_)
            | Job::Subnets { .. }
            | Job::DescribeNode
    )
}

/// Whether a job ends what was begun.
fn finishes(job: &Job) -> bool {
    matches!(
        job,
        Job::Attach(_)
            | Job::FindAttachment(_)
            | Job::DeleteOnTermination { .. }
            | Job::Refresh(_)
            | Job::SeeUnassigned(_)
            | Job::AwaitDetached(_)
            | Job::Delete(_)
            | Job::Discard(_)
    )
}

impl Agent {
    /// Has a job done as soon as its turn comes. One that is there already is not done twice.
    pub(crate) fn start_job(&mut self, job: Job, tries: u32) {
        self.queue_job(Time(0), job, tries);
    }

    /// Has a job done not before a moment.
    pub(crate) fn queue_job(&mut self, due: Time, job: Job, tries: u32) {
        if self.cloud.jobs().any(|other| *other == job) {
            return;
        }
        let weight = self.weight_of(&job);
        if weight == Weight::Background && self.cloud.queue.len() >= QUEUE_MOST {
            return self.say(Notice::Disagreement {
                what: format!("too much to ask of EC2 at once; {job:?} is left for later"),
            });
        }
        self.cloud.next_seq += 1;
        let seq = self.cloud.next_seq;
        self.cloud.queue.push(Queued { due, seq, job, tries });
    }

    /// Takes jobs that have not been sent out of the queue.
    pub(crate) fn drop_queued(&mut self, which: impl Fn(&Job) -> bool) {
        self.cloud.queue.retain(|queued| !which(&queued.job));
    }

    /// Sends what is due and admitted, pods that wait first.
    pub(crate) fn send_calls(&mut self, now: Time) {
        (self.cloud.admits_at, self.cloud.held_up) = (None, None);
        let (mut due, later): (Vec<Queued>, Vec<Queued>) =
            std::mem::take(&mut self.cloud.queue).into_iter().partition(|queued| queued.due <= now);
        self.cloud.queue = later;
        due.sort_by_key(|queued| (Reverse(self.weight_of(&queued.job)), queued.seq));
        for queued in due {
            // A job whose subject has gone meanwhile has nothing to ask.
            let Some(call) = self.call_of(&queued.job) else { continue };
            if !self.may_call(&queued.job) || (self.terminating && !finishes(&queued.job)) {
                // The settings may allow it again; what an ending daemon does not begin, the next one does.
                self.cloud.queue.push(queued);
                continue;
            }
            let (action, weight) = (Ec2Action::of(&call), self.weight_of(&queued.job));
            match self.cloud.pacer.admit(now, action, weight) {
                Ok(()) => self.send_call(now, queued.job, queued.tries, call),
                Err(at) => {
                    self.cloud.admits_at = Some(self.cloud.admits_at.map_or(at, |other| other.min(at)));
                    if fetches(&queued.job)
                        && let Some(by) = self.cloud.pacer.held_up_by(now, action, weight)
                        && self.cloud.held_up.is_none_or(|(other, _)| at < other)
                    {
                        self.cloud.held_up = Some((at, by));
                    }
                    self.cloud.queue.push(queued);
                }
            }
        }
    }

    /// How far the settings let EC2 be used.
    fn may_call(&self, job: &Job) -> bool {
        let allowed = self.config.cloud;
        match job {
            Job::Create(_)
            | Job::Attach(_)
            | Job::DeleteOnTermination { .. }
            | Job::Assign { .. }
            | Job::SetGroups { .. }
            | Job::Tag { .. }
            // One of ours that is attached to nothing: it would cost its addresses for nothing.
            | Job::Discard(_) => allowed.may_change(),
            Job::Unassign { .. } | Job::Detach { .. } | Job::Delete(_) | Job::DeleteLeaked(_) | Job::DateLeaked { .. } => {
                allowed.may_release()
            }
            Job::FindAttachment(_)
            | Job::Refresh(_)
            | Job::CheckSlots(_)
            | Job::SeeUnassigned(_)
            | Job::Verify(_)
            | Job::AwaitDetached(_)
            | Job::Subnets { .. }
            | Job::DescribeNode
            | Job::FindStrays
            | Job::FindLeaked
            | Job::LookAtLeaked(_)
            | Job::Limits => allowed.may_ask(),
        }
    }

    fn send_call(&mut self, now: Time, job: Job, tries: u32, call: CloudCall) {
        let op = self.cloud.next_op();
        self.cloud.calls.insert(op, Call { job, tries, asked: now });
        self.out.push(Effect::Cloud { op, call });
    }

    pub(crate) fn cloud_done(&mut self, now: Time, op: OpId, result: Result<CloudAnswer, CloudFailure>) {
        // An answer to a call nobody made (of an earlier life), or that is long taken for lost, says nothing.
        let Some(Call { job, tries, .. }) = self.cloud.calls.remove(&op) else { return };
        let action = self.call_of(&job).map(|call| Ec2Action::of(&call));
        let throttled = matches!(&result, Err(failure) if failure.class == FailureClass::Throttled);
        match action {
            Some(action) if throttled => self.cloud.pacer.throttled(now, action),
            Some(action) => self.cloud.pacer.answered(now, action),
            None => {}
        }
        match result {
            Ok(answer) => self.answered(now, job, answer),
            Err(failure) => self.failed(now, job, tries + 1, failure),
        }
    }

    /// Ends calls that nobody answers.
    pub(crate) fn end_overdue_calls(&mut self, now: Time) {
        let overdue = |call: &Call| call.asked + CALL_LIMIT <= now;
        let over: Vec<OpId> = self.cloud.calls.iter().filter(|(_, call)| overdue(call)).map(|(op, _)| *op).collect();
        for op in over {
            let failure = CloudFailure {
                class: FailureClass::Lost,
                action: "EC2".to_owned(),
                code: "NoAnswer".to_owned(),
                message: format!("no answer within {CALL_LIMIT}"),
                lost_before: false,
            };
            self.cloud_done(now, op, Err(failure));
        }
    }

    /// How much a job matters now: what a pod waits for goes first.
    fn weight_of(&self, job: &Job) -> Weight {
        // No pod is sent to a node that is not ready: all that could run there wait.
        let ahead = self.waiters.is_empty() && self.said_ready;
        let fetching = if ahead { Weight::Grow } else { Weight::PodBlocking };
        match job {
            Job::Create(_)
            | Job::Attach(_)
            | Job::FindAttachment(_)
            | Job::Assign { .. }
            | Job::Refresh(_)
            | Job::Subnets { .. }
            // At the start, nothing can be promised before it is answered.
            | Job::DescribeNode => fetching,
            // Until it is done, an ENI would outlive its instance.
            Job::DeleteOnTermination { .. } => Weight::Grow,
            Job::CheckSlots(_)
            | Job::Unassign { .. }
            | Job::SeeUnassigned(_)
            | Job::Verify(_)
            | Job::Detach { .. }
            | Job::AwaitDetached(_)
            | Job::Delete(_) => Weight::Shrink,
            Job::Limits if !self.waiters.is_empty() => Weight::Grow,
            Job::Discard(_)
            | Job::SetGroups { .. }
            | Job::Tag { .. }
            | Job::FindStrays
            | Job::FindLeaked
            | Job::LookAtLeaked(_)
            | Job::DeleteLeaked(_)
            | Job::DateLeaked { .. }
            | Job::Limits => Weight::Background,
        }
    }

    fn call_of(&self, job: &Job) -> Option<CloudCall> {
        let built = |number: &u64| self.cloud.fetch.build(*number)?.eni();
        Some(match job {
            Job::Create(number) => self.cloud.fetch.build(*number)?.create_call(),
            Job::Attach(number) => {
                let device = self.cloud.fetch.build(*number)?.device;
                CloudCall::AttachEni { eni: built(number)?, card: CardIndex(0), device }
            }
            Job::FindAttachment(number) => CloudCall::Describe { eni: built(number)? },
            Job::DeleteOnTermination { eni, attachment } => {
                CloudCall::DeleteOnTermination { eni: eni.clone(), attachment: attachment.clone() }
            }
            Job::Assign { eni, unit, count } => CloudCall::Assign { eni: eni.clone(), unit: *unit, count: *count },
            Job::Refresh(eni)
            | Job::CheckSlots(eni)
            | Job::SeeUnassigned(eni)
            | Job::Verify(eni)
            | Job::AwaitDetached(eni)
            | Job::LookAtLeaked(eni) => CloudCall::Describe { eni: eni.clone() },
            Job::Unassign { eni, slots } => CloudCall::Unassign { eni: eni.clone(), slots: slots.clone() },
            Job::Detach { eni, attachment } => CloudCall::Detach { eni: eni.clone(), attachment: attachment.clone() },
            // It was attached after all, and is in use.
            Job::Discard(eni) if self.pool.eni(eni).is_some() => return None,
            Job::Delete(eni) | Job::Discard(eni) | Job::DeleteLeaked(eni) => CloudCall::Delete { eni: eni.clone() },
            Job::DateLeaked { enis, created } => {
                let tags = BTreeMap::from([(CREATED_AT_TAG.to_owned(), created.clone())]);
                CloudCall::Tag { enis: enis.clone(), tags }
            }
            Job::SetGroups { eni, groups } => CloudCall::SetGroups { eni: eni.clone(), groups: groups.clone() },
            Job::Tag { enis, tags } => CloudCall::Tag { enis: enis.clone(), tags: tags.clone() },
            Job::Subnets { also } => CloudCall::Subnets { also: also.clone() },
            Job::DescribeNode => CloudCall::DescribeNode,
            Job::FindStrays => CloudCall::FindStrays,
            Job::FindLeaked => CloudCall::FindLeaked,
            Job::Limits => CloudCall::Limits,
        })
    }

    fn answered(&mut self, now: Time, job: Job, answer: CloudAnswer) {
        match (job, answer) {
            (Job::Create(number), CloudAnswer::Created(truth)) => self.created(now, number, truth),
            (Job::Attach(number), CloudAnswer::Attached(attachment)) => self.attached(now, number, attachment),
            (Job::FindAttachment(number), CloudAnswer::Described(truth)) => self.attachment_found(now, number, truth),
            (Job::Assign { eni, unit, .. }, CloudAnswer::Assigned(slots)) => self.assigned(now, &eni, unit, &slots),
            (Job::Refresh(eni), CloudAnswer::Described(truth)) => {
                self.refreshed(now, &eni, truth.clone());
                self.learn_room(now, &eni, truth.as_ref());
            }
            (Job::CheckSlots(eni), CloudAnswer::Described(truth)) => self.slots_checked(now, &eni, truth),
            (Job::Unassign { eni, slots }, CloudAnswer::Done) => self.unassigned(now, &eni, &slots),
            (Job::SeeUnassigned(eni), CloudAnswer::Described(truth)) => self.unassign_seen(now, &eni, truth),
            (Job::DescribeNode, CloudAnswer::Node(truths)) => self.node_described(now, truths),
            (Job::Verify(eni), CloudAnswer::Described(truth)) => self.verified(now, &eni, truth),
            (Job::AwaitDetached(eni), CloudAnswer::Described(truth)) => self.detach_seen(now, eni, truth),
            (Job::Detach { eni, .. }, CloudAnswer::Done) => self.start_job(Job::AwaitDetached(eni), 0),
            (Job::Delete(eni), CloudAnswer::Done) => self.gone(&eni),
            (Job::FindStrays, CloudAnswer::Strays(enis)) => self.discard_strays(now, enis),
            (Job::Subnets { .. }, CloudAnswer::Subnets(subnets)) => {
                self.places.listed(now, subnets);
                self.follow_places();
            }
            (Job::FindLeaked, CloudAnswer::Leaked(enis)) => self.leaked_listed(now, enis),
            (Job::LookAtLeaked(eni), CloudAnswer::Described(truth)) => self.leaked_seen(eni, truth.as_ref()),
            (Job::DeleteLeaked(eni), CloudAnswer::Done) => self.say(Notice::LeakedDeleted { eni }),
            (Job::Limits, CloudAnswer::Limits { max_enis, slots_per_eni, prefixes }) => {
                self.limits_learned(max_enis, slots_per_eni, prefixes);
            }
            (
                Job::Discard(_)
                | Job::DeleteOnTermination { .. }
                | Job::SetGroups { .. }
                | Job::Tag { .. }
                | Job::DateLeaked { .. },
                CloudAnswer::Done,
            ) => {}
            (job, answer) => {
                // The edge answers each call in kind; anything else is its mistake.
                let what = format!("an answer that does not fit its call: {answer:?} to {job:?}");
                self.say(Notice::Disagreement { what });
            }
        }
    }

    fn failed(&mut self, now: Time, job: Job, tries: u32, failure: CloudFailure) {
        self.cloud.last_refusal = Some(failure.clone());
        let call = self.call_of(&job);
        if failure.class == FailureClass::Throttled
            && let Some(call) = &call
        {
            self.cloud.throttled.insert(Ec2Action::of(call), failure.clone());
        }
        if self.leaked_failed(&job, &failure) {
            return;
        }
        let what = call.as_ref().map(ToString::to_string).unwrap_or_default();
        let again = Self::again_at(now, failure.class, tries);
        let turn = call.and_then(|call| self.cloud.pacer.turn(Ec2Action::of(&call), self.weight_of(&job)));
        let retry_in = turn.unwrap_or(again).max(again).since(now);
        self.say(Notice::CloudFailed { what, failure: failure.clone(), retry_in: Some(retry_in.0) });
        match (job, failure.class) {
            (Job::Assign { eni, unit, count }, _) => self.assign_failed(now, eni, unit, count, failure),
            (Job::Create(number), _) => self.create_failed(now, number, tries, failure),
            (Job::Attach(number), _) => self.attach_failed(now, number, tries, failure),
            (Job::Subnets { .. }, _) => {
                self.places.list_failed(now, &failure);
                self.follow_places();
            }
            (Job::CheckSlots(eni), _) => {
                self.disagreed(now);
                self.keep_slots(now, &eni, "EC2 could not be asked about them");
            }
            (Job::Unassign { eni, slots }, class) => self.unassign_failed(now, eni, slots, tries, class),
            (Job::Verify(eni), _) => {
                self.disagreed(now);
                self.keep(now, &eni, "EC2 could not be asked about it");
            }
            (Job::Detach { eni, attachment }, _) => self.detach_failed(now, eni, attachment, tries, &failure),
            (Job::Delete(eni), FailureClass::NotFound) => self.gone(&eni),
            (Job::Delete(eni), FailureClass::WrongState) => self.queue_job(again, Job::AwaitDetached(eni), tries),
            // In use: an attach that was answered as a failure was carried out. What is attached here is taken in.
            (job @ Job::Discard(_), FailureClass::WrongState) => {
                self.ask_about_node();
                self.queue_job(again, job, tries);
            }
            // EC2 does not find what it has just made: as long as the ENI is here it is to go with the instance. If it is not, that is
            // seen to when EC2 shows it again.
            (job @ Job::DeleteOnTermination { .. }, FailureClass::NotFound) if self.has_subject(&job) => {
                self.queue_job(again, job, tries);
            }
            (Job::DeleteOnTermination { eni, .. }, FailureClass::NotFound) => self.recon.untie(&eni),
            // It may have been made a moment ago: whether it is really gone is seen when EC2 must show it.
            (Job::Discard(_), FailureClass::NotFound) => self.look_for_strays_at(now + Self::FRESH),
            (Job::SetGroups { .. } | Job::Tag { .. }, FailureClass::NotFound) => {}
            // These go on, at most every two minutes: a question that matters stays asked, and an ENI half gone, or one that would
            // outlive its instance, is never forgotten.
            (job, _) => self.queue_job(again, job, tries),
        }
    }

    /// Whether the ENI that is to be tied to the instance is still on the node, as far as EC2 has said.
    fn has_subject(&self, job: &Job) -> bool {
        let Job::DeleteOnTermination { eni, .. } = job else { return false };
        let here = self.pool.eni(eni).is_some_and(|eni| eni.usage != EniUse::Doubtful);
        here || self.others.contains_key(eni)
    }

    /// Throttled calls are the pacer's to hold up, so that one a pod begins to wait for can go sooner.
    pub(crate) fn again_at(now: Time, class: FailureClass, tries: u32) -> Time {
        if class == FailureClass::Throttled { now } else { now + pause_after(class, tries) }
    }
}
