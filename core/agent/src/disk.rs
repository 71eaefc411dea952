//! The checkpoint: what has to be on disk, what of it changed, and who waits for it.
//!
//! ```text
//!   touch_disk() --> generation --write_checkpoint--> Effect::WriteCheckpoint { update: Changed, or Whole }
//!                                      ^                                |
//!                     the pool says what changed                        v
//!   replies of that generation <--checkpoint_written-- Input::CheckpointWritten
//! ```
//!
//! One write is under way at a time, and what changes meanwhile goes into the next one: many pods at once cost two writes. What an
//! ADD or DEL changes is one address, so that is all it hands out; a change of an ENI, which is rare, hands out the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_ipam::{EniUse, Held, PoolEni, SlotState, Use, bug};
use vpc_model::{SandboxKey, Slot, Time};

use crate::agent::Agent;
use crate::checkpoint::{Checkpoint, CheckpointEni, Lease, Rest, Update};
use crate::message::{Effect, Generation, Notice, Outcome, Ticket};

/// What has to be on disk, and who waits for it.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// Newest state of the books.
    current: Generation,
    /// Newest state on disk.
    written: Generation,
    /// The write under way.
    writing: Option<Generation>,
    /// Not to be tried before.
    pub(crate) paused_until: Option<Time>,
    /// Why the last write failed, if it did.
    pub(crate) failure: Option<String>,
    /// The next write says everything: it is the first, or the one before it failed.
    whole: bool,
    /// Answers that hold once their generation is on disk.
    pub(crate) replies: Vec<(Generation, Ticket, Outcome)>,
    /// Assignments that were never on disk, by sandbox: only these may be taken back when a write fails or a caller goes away.
    pub(crate) unrecorded: BTreeMap<SandboxKey, Generation>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self {
            current: Generation::default(),
            written: Generation::default(),
            writing: None,
            paused_until: None,
            failure: None,
            whole: true,
            replies: Vec::new(),
            unrecorded: BTreeMap::new(),
        }
    }

    /// What is on disk.
    pub(crate) fn written(&self) -> Generation {
        self.written
    }

    /// The file says more of ENIs than is true by now. That does no harm until the next write, which is of all of it.
    pub(crate) fn is_outdated(&mut self) {
        self.whole = true;
    }
}

impl Agent {
    /// The books have changed: what follows is promised only when this is on disk.
    pub(crate) fn touch_disk(&mut self) -> Generation {
        // A generation that is being written has left already; the change belongs to the next.
        if self.disk.writing == Some(self.disk.current) || self.disk.written == self.disk.current {
            self.disk.current.0 += 1;
        }
        self.disk.current
    }

    /// Everything that must survive a restart, as of now; leases and rests in the order of their addresses.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let eni = |eni: &PoolEni| CheckpointEni {
            facts: eni.facts.clone(),
            attachment: eni.attachment.clone(),
            slots: self.recorded(eni),
            leaving: self.going_back(eni),
            gone: self.cloud.back.gone_from(&eni.facts.id),
            going: eni.usage == EniUse::Leaving,
        };
        let rest = |(address, since, _)| Rest { address, released: self.calendar(since) };
        let mut rests: Vec<Rest> = self.pool.cooling().map(rest).collect();
        rests.sort_by_key(|rest| rest.address);
        Checkpoint {
            leases: self.pool.held().map(|held| self.lease(held)).collect(),
            rests,
            enis: self.pool.enis().map(eni).collect(),
        }
    }

    pub(crate) fn write_checkpoint(&mut self, now: Time) {
        let paused = self.disk.paused_until.is_some_and(|until| until > now);
        if self.disk.writing.is_none() && self.disk.written < self.disk.current && !paused {
            self.disk.paused_until = None;
            self.disk.writing = Some(self.disk.current);
            let changes = self.pool.take_changes();
            let whole = std::mem::replace(&mut self.disk.whole, false) || changes.enis;
            let update = if whole { Update::Whole(self.checkpoint()) } else { self.change_of(&changes.addresses) };
            self.out.push(Effect::WriteCheckpoint { generation: self.disk.current, update });
        }
    }

    pub(crate) fn checkpoint_written(&mut self, now: Time, generation: Generation, result: Result<(), String>) {
        if self.disk.writing != Some(generation) {
            return;
        }
        self.disk.writing = None;
        let due = |entry: &(Generation, Ticket, Outcome)| entry.0 <= generation;
        let (held, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.disk.replies).into_iter().partition(due);
        self.disk.replies = later;
        self.disk.failure = result.as_ref().err().cloned();
        match result {
            Ok(()) => {
                self.disk.written = generation;
                self.disk.unrecorded.retain(|_, since| *since > generation);
                for (_, ticket, mut outcome) in held {
                    self.bring_up_to_date(&mut outcome);
                    self.was_told(now, &outcome);
                    self.reply(ticket, outcome);
                }
            }
            Err(error) => {
                self.disk.paused_until = Some(now + Self::DISK_PAUSE);
                self.say(Notice::CheckpointFailed { error: error.clone() });
                for (_, ticket, outcome) in held {
                    self.unpromise(now, ticket, outcome, &error);
                }
                self.disk.whole = !bug!(FailedWriteForgotten);
                self.touch_disk();
            }
        }
    }

    /// While an answer waited for the disk, its address may have come to another ENI.
    fn bring_up_to_date(&self, outcome: &mut Outcome) {
        if let Outcome::Added(reply) = outcome
            && let Some(Use::Held(held)) = self.pool.use_of(reply.allocation.address)
        {
            reply.allocation = held.allocation;
        }
    }

    fn change_of(&self, addresses: &BTreeSet<Ipv4Addr>) -> Update {
        let (mut leases, mut rests, mut free) = (Vec::new(), Vec::new(), Vec::new());
        for address in addresses {
            match self.pool.use_of(*address) {
                Some(Use::Held(held)) => leases.push(self.lease(held)),
                Some(Use::Cooling { since, .. }) => {
                    rests.push(Rest { address: *address, released: self.calendar(*since) });
                }
                None => free.push(*address),
            }
        }
        Update::Changed { leases, rests, free }
    }

    fn lease(&self, held: &Held) -> Lease {
        Lease {
            key: held.key.clone(),
            pod: held.pod.clone(),
            address: held.allocation.address,
            allocation: Some(held.allocation),
            since: self.calendar(held.since),
            link: self.by_link.get(&held.key).cloned(),
        }
    }

    /// Positions that are promised again after a restart without asking anybody: what EC2 put there or a pod is on, and not what is
    /// being given back.
    fn recorded(&self, eni: &PoolEni) -> Vec<Slot> {
        let counts = |slot: Slot, state: SlotState| match state {
            SlotState::Held if eni.usage != EniUse::Leaving => true,
            // The metadata lag at the start, and EC2 has not been heard: what was recorded stays recorded.
            SlotState::Unconfirmed if self.recon.remembers(&eni.facts.id, slot) => true,
            SlotState::Held | SlotState::Unconfirmed | SlotState::Missing | SlotState::Leaving => {
                self.pool.on_slot(slot).0 > 0
            }
        };
        eni.slots.iter().filter(|(slot, state)| counts(**slot, **state)).map(|(slot, _)| *slot).collect()
    }

    /// Positions that are being given back, and that nobody has.
    fn going_back(&self, eni: &PoolEni) -> Vec<Slot> {
        let leaving = eni.slots.iter().filter(|(_, state)| **state == SlotState::Leaving);
        leaving.map(|(slot, _)| *slot).filter(|slot| self.pool.on_slot(*slot).0 == 0).collect()
    }
}
