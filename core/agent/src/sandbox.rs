//! ADD and DEL: the pod's path.
//!
//! An ADD takes a warm address, or waits, bounded, for the one it causes to be fetched. A DEL never waits for the cloud.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use vpc_ipam::{Allocation, Held, Taken, bug};
use vpc_model::{Millis, SandboxKey, Time};

use crate::agent::Agent;
use crate::message::{AddReply, AddRequest, DelReply, Generation, Notice, Outcome, Ticket, Wake};
use crate::refusal::Refusal;

/// An ADD that waits for an address.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) request: AddRequest,
    pub(crate) since: Time,
    pub(crate) deadline: Time,
}

impl Agent {
    /// How long a checkpoint that could not be written is left alone.
    pub(crate) const DISK_PAUSE: Millis = Millis::seconds(1);

    pub(crate) fn add(&mut self, now: Time, ticket: Ticket, request: AddRequest) {
        if self.terminating {
            return self.refuse(ticket, &request, Refusal::ShuttingDown);
        }
        // A second ADD for a sandbox that waits already takes the first one's place: its caller has given up.
        if let Some(at) = self.waiters.iter().position(|waiter| waiter.request.key == request.key)
            && let Some(old) = self.waiters.remove(at)
        {
            self.refuse(old.ticket, &old.request, Refusal::Cancelled);
        }
        if bug!(SecondAddSecondAddress) {
            self.pool.release(&request.key, now, self.config.target.cool_down);
        }
        if let Some(held) = self.pool.of(&request.key) {
            let allocation = held.allocation;
            self.orphans.asked_again(&request.key, now);
            self.given_once.remove(&request.key);
            return self.promise(ticket, &request.key, allocation);
        }
        self.expect_successor(now, &request.key, &request.pod);
        let deadline = now + self.config.add_wait;
        self.waiters.push_back(Waiter { ticket, request, since: now, deadline });
    }

    pub(crate) fn abandon(&mut self, now: Time, ticket: Ticket) {
        self.waiters.retain(|waiter| waiter.ticket != ticket);
        // Assigned but not answered: nobody will use it, and nobody will delete it.
        let at = self.disk.replies.iter().position(|(_, other, _)| *other == ticket);
        if let Some(at) = at
            && let (_, _, Outcome::Added(reply)) = self.disk.replies.remove(at)
        {
            // Asked for twice, and only one of the two has gone.
            let same = |other: &Outcome| matches!(other, Outcome::Added(a) if a.allocation == reply.allocation);
            if !self.disk.replies.iter().any(|(_, _, other)| same(other)) {
                self.take_back(now, reply.allocation);
            }
        }
    }

    pub(crate) fn del(&mut self, now: Time, ticket: Ticket, key: &SandboxKey) {
        if let Some(at) = self.waiters.iter().position(|waiter| waiter.request.key == *key)
            && let Some(waiter) = self.waiters.remove(at)
        {
            self.refuse(waiter.ticket, &waiter.request, Refusal::Cancelled);
        }
        match self.end_sandbox(now, key) {
            Some(held) => {
                let generation = self.touch_disk();
                self.disk.replies.push((generation, ticket, Outcome::Deleted(DelReply::Released(held.allocation))));
            }
            None => self.reply(ticket, Outcome::Deleted(DelReply::UnknownPod)),
        }
    }

    /// An ADD that was given an address has failed. Another one may have been given it too, in this life or in an earlier one, and its pod
    /// lives: then the lease stays to the sandbox's DEL, which follows every ADD that failed.
    pub(crate) fn undo(&mut self, now: Time, ticket: Ticket, key: &SandboxKey) {
        match self.pool.of(key).filter(|_| !self.given_once.contains(key)) {
            Some(held) => {
                let kept = DelReply::Kept(held.allocation);
                self.reply(ticket, Outcome::Deleted(kept));
            }
            None => self.del(now, ticket, key),
        }
    }

    /// A sandbox has ended: its address rests from now on. `None`: it had none. The answer must wait for the disk.
    pub(crate) fn end_sandbox(&mut self, now: Time, key: &SandboxKey) -> Option<Held> {
        self.suspects.remove(key);
        self.given_once.remove(key);
        self.by_link.remove(key);
        self.orphans.was_deleted(key);
        self.disk.unrecorded.remove(key);
        let held = self.pool.release(key, now, self.config.target.cool_down)?.held;
        self.podless.insert(held.allocation.address);
        self.cancel_promises(held.allocation);
        self.doom_link(&held);
        Some(held)
    }

    /// ADDs that were about to be told an address that has just been released: their sandbox is gone.
    fn cancel_promises(&mut self, allocation: Allocation) {
        let of_it = |outcome: &Outcome| matches!(outcome, Outcome::Added(reply) if reply.allocation == allocation);
        let (gone, kept) = std::mem::take(&mut self.disk.replies).into_iter().partition(|(_, _, out)| of_it(out));
        self.disk.replies = kept;
        let gone: Vec<(Generation, Ticket, Outcome)> = gone;
        for (_, ticket, _) in gone {
            self.reply(ticket, Outcome::Refused(Refusal::Cancelled));
        }
    }

    /// Gives free addresses to those who wait, first come first served.
    pub(crate) fn serve_waiters(&mut self, now: Time) {
        if self.terminating {
            for waiter in std::mem::take(&mut self.waiters) {
                self.refuse(waiter.ticket, &waiter.request, Refusal::ShuttingDown);
            }
        }
        self.serve_the_living(now);
        let mut barred = self.host.removing().cloned().unwrap_or_default();
        barred.extend(self.orphans.routed());
        barred.extend(self.links.addresses());
        // A sandbox that is made anew under the same name waits for its old link to go.
        let (held_up, waiters): (VecDeque<Waiter>, VecDeque<Waiter>) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| self.links.has(&waiter.request.key));
        self.waiters = waiters;
        self.serve_in_turn(now, &barred);
        self.waiters.extend(held_up);
    }

    fn serve_in_turn(&mut self, now: Time, barred: &BTreeSet<Ipv4Addr>) {
        while let Some(waiter) = self.waiters.pop_front() {
            match self.pool.take(&waiter.request.key, &waiter.request.pod, now, self.config.target.unit, barred) {
                Taken::Already(allocation) => {
                    self.given_once.remove(&waiter.request.key);
                    self.promise(waiter.ticket, &waiter.request.key, allocation);
                }
                Taken::Fresh(allocation) => {
                    self.given_once.insert(waiter.request.key.clone());
                    self.give(&waiter, allocation);
                }
                Taken::None => return self.waiters.push_front(waiter),
            }
        }
    }

    /// Sandboxes that live and whose leases are lost ask again: they have what the host shows, however little there is for others.
    fn serve_the_living(&mut self, now: Time) {
        if !self.orphans.has_living() {
            return;
        }
        for waiter in std::mem::take(&mut self.waiters) {
            match self.has_already(now, &waiter.request.key, &waiter.request.pod) {
                Some(allocation) => self.give(&waiter, allocation),
                None => self.waiters.push_back(waiter),
            }
        }
    }

    fn give(&mut self, waiter: &Waiter, allocation: Allocation) {
        self.podless.remove(&allocation.address);
        self.pod_has_address(&waiter.request.pod);
        let generation = self.touch_disk();
        self.disk.unrecorded.insert(waiter.request.key.clone(), generation);
        self.promise(waiter.ticket, &waiter.request.key, allocation);
    }

    pub(crate) fn expire_waiters(&mut self, now: Time) {
        let over: Vec<Waiter> = self.waiters.iter().filter(|waiter| waiter.deadline <= now).cloned().collect();
        if over.is_empty() {
            return;
        }
        let waiting = u32::try_from(self.waiters.len()).unwrap_or(u32::MAX);
        self.waiters.retain(|waiter| waiter.deadline > now);
        if bug!(WaiterForgottenOnTimeout) {
            return;
        }
        for waiter in over {
            let refusal = self.why_none(now, waiting, now.since(waiter.since));
            self.turn_away(now, &waiter.request.pod);
            self.refuse(waiter.ticket, &waiter.request, refusal);
        }
    }

    /// A promise that could not be put on disk is taken back; a release that could not holds all the same (after a restart the
    /// lease would be found without a sandbox, and end then).
    pub(crate) fn unpromise(&mut self, now: Time, ticket: Ticket, outcome: Outcome, error: &str) {
        match outcome {
            Outcome::Added(reply) => {
                let request = self.take_back(now, reply.allocation);
                let refusal = Refusal::Checkpoint { error: error.to_owned() };
                match request {
                    Some(request) => self.refuse(ticket, &request, refusal),
                    None => self.reply(ticket, Outcome::Refused(refusal)),
                }
            }
            Outcome::Deleted(_)
            | Outcome::Refused(_)
            | Outcome::Status(_)
            | Outcome::Found(_)
            | Outcome::Collected(_) => self.reply(ticket, outcome),
        }
    }

    pub(crate) fn suspect_deadlines(&self) -> impl Iterator<Item = (Time, Wake)> + '_ {
        let since = self.suspects.iter().filter_map(|key| self.pool.of(key)).map(|held| held.since);
        since
            .map(|since| (since + self.config.orphan_age, Wake::JudgeLease))
            .filter(|(at, _)| *at > self.host.looked_at)
    }

    /// Releases what an ADD was about to be given, if that was never on disk: a lease recorded earlier is a running pod's, whoever
    /// asks for it again.
    fn take_back(&mut self, now: Time, allocation: Allocation) -> Option<AddRequest> {
        let held = self.pool.held().find(|held| held.allocation == allocation)?;
        let request = AddRequest { key: held.key.clone(), pod: held.pod.clone() };
        self.disk.unrecorded.remove(&request.key)?;
        self.given_once.remove(&request.key);
        self.pool.release(&request.key, now, self.config.target.cool_down);
        self.touch_disk();
        Some(request)
    }

    /// Answers an ADD as soon as its assignment is on disk.
    fn promise(&mut self, ticket: Ticket, key: &SandboxKey, allocation: Allocation) {
        let mut vpc_cidrs = self.vpc_cidrs.clone();
        let external_snat = self.config.host.external_snat;
        if !external_snat {
            vpc_cidrs.extend(&self.config.host.exclude_snat);
        }
        let outcome = Outcome::Added(AddReply { allocation, external_snat, vpc_cidrs });
        // An assignment that was recorded long ago needs no new write; one that is on its way waits for it.
        match self.disk.unrecorded.get(key).copied() {
            Some(generation) if !bug!(AnswerBeforeCheckpoint) => self.disk.replies.push((generation, ticket, outcome)),
            Some(_) | None => self.reply(ticket, outcome),
        }
    }

    fn refuse(&mut self, ticket: Ticket, request: &AddRequest, refusal: Refusal) {
        let (key, pod) = (request.key.clone(), request.pod.clone());
        self.say(Notice::Refused { key, pod, refusal: refusal.clone() });
        self.reply(ticket, Outcome::Refused(refusal));
    }
}
