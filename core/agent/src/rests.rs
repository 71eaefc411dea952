//! The rest of an address between two pods.
//!
//! ```text
//!   DEL --> rests (cool-down) --over--> the kernel forgets its connections --> free
//!                                 \-- can not: said, tried again; after a while free all the same, said
//! ```
//!
//! A connection that led to the former pod and was never answered is still tracked, translated to the old address, when the next pod
//! has it (a SYN that a client repeats for minutes). So nobody gets an address before the kernel has forgotten what it knew of it, be
//! the cool-down zero. Addresses whose rest ends within a moment of each other are forgotten together, one flush at a time.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vpc_ipam::{Pool, bug};
use vpc_model::{Millis, Time};

use crate::agent::Agent;
use crate::checkpoint::Rest;
use crate::cloud::OpId;
use crate::message::{Effect, Notice, Wake};

/// Longest time an address that has rested is kept back because its connections can not be forgotten. Less than an ADD waits.
const GIVE_UP: Millis = Millis::seconds(10);
/// First pause after a failed flush; doubled up to four seconds.
const RETRY: Millis = Millis(500);
/// With a long cool-down, how long ends are gathered into one flush where no pod waits: a flush walks the kernel's whole table.
const GATHER: Millis = Millis(500);
/// A cool-down that is long compared with [`GATHER`].
const LONG: Millis = Millis::seconds(10);
/// Addresses of one flush.
const AT_ONCE: usize = 256;

/// Addresses between their rest and the next pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rests {
    /// Their rest is over, since when; they are not free yet.
    over: BTreeMap<Ipv4Addr, Time>,
    flush: Option<Flush>,
    /// No flush before.
    not_before: Option<Time>,
    failures: u32,
}

#[derive(Clone, Debug)]
struct Flush {
    op: OpId,
    addresses: Vec<Ipv4Addr>,
    since: Time,
}

impl Rests {
    /// When the next rest ends, or something has to be done about one that has ended.
    pub(crate) fn deadlines<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = (Time, Wake)> + 'a {
        let resting = pool.cooling().find(|(address, ..)| !self.over.contains_key(address));
        let ends = resting.map(|(_, _, until)| (until, Wake::RestEnds)).into_iter();
        let given_up = self.over.values().map(|since| (*since + GIVE_UP, Wake::RestEnds));
        let next = self.not_before.filter(|_| self.flush.is_none() && !self.over.is_empty());
        ends.chain(given_up).chain(next.map(|at| (at, Wake::RetryDue)))
    }
}

impl Agent {
    /// Rests of an earlier life go on. Those that have ended meanwhile too: nobody has made the kernel forget yet.
    pub(crate) fn recall_rests(&mut self, now: Time, rests: &[Rest]) {
        if bug!(CoolDownForgottenAtRestart) {
            return;
        }
        for rest in rests {
            let since = self.moment(now, rest.released);
            self.pool.restore_cooling(rest.address, since, since + self.config.target.cool_down);
        }
    }

    /// Brings addresses whose rest is over nearer to the next pod.
    pub(crate) fn end_rests(&mut self, now: Time) {
        self.note_ended(now);
        let given_up: Vec<Ipv4Addr> =
            self.rests.over.iter().filter(|(_, since)| **since + GIVE_UP <= now).map(|(address, _)| *address).collect();
        if !given_up.is_empty() {
            self.free(now, &given_up);
            self.say(Notice::FlowsRemain { addresses: given_up, after: GIVE_UP });
        }
        // A pod that waits ends the gathering, not the pause after a failure.
        let may_hold = self.rests.failures > 0 || self.waiters.is_empty();
        let hold = may_hold && self.rests.not_before.is_some_and(|at| at > now);
        if self.rests.flush.is_none() && !hold {
            self.flush(now);
        }
    }

    /// The kernel has forgotten, or could not.
    pub(crate) fn flows_flushed(&mut self, now: Time, op: OpId, result: Result<(), String>) {
        let Some(flush) = self.rests.flush.take_if(|flush| flush.op == op) else { return };
        match result {
            Ok(()) => {
                (self.rests.failures, self.rests.not_before) = (0, None);
                // One that was given up, used and released again meanwhile has its own flush to come.
                let meant = |address: &Ipv4Addr| self.rests.over.get(address).is_some_and(|at| *at <= flush.since);
                let free: Vec<Ipv4Addr> = flush.addresses.into_iter().filter(meant).collect();
                self.free(now, &free);
            }
            Err(error) => {
                let pause = Millis(RETRY.0 << self.rests.failures.min(3));
                self.rests.failures += 1;
                self.rests.not_before = Some(now + pause);
                self.say(Notice::FlowsKept { addresses: flush.addresses.len(), error, retry_in: pause });
            }
        }
    }

    fn note_ended(&mut self, now: Time) {
        let before = std::mem::take(&mut self.rests.over);
        let ended = self.pool.cooling().take_while(|(_, _, until)| *until <= now);
        self.rests.over = ended.map(|(address, ..)| (address, before.get(&address).copied().unwrap_or(now))).collect();
        let first = before.is_empty() && !self.rests.over.is_empty();
        if first && self.rests.failures == 0 {
            let gather = if self.config.target.cool_down >= LONG { GATHER } else { Millis(0) };
            self.rests.not_before = Some(now + gather);
        }
    }

    fn flush(&mut self, now: Time) {
        let addresses: Vec<Ipv4Addr> = self.rests.over.keys().copied().take(AT_ONCE).collect();
        if addresses.is_empty() {
            return;
        }
        let op = self.cloud.next_op();
        self.rests.not_before = None;
        self.rests.flush = Some(Flush { op, addresses: addresses.clone(), since: now });
        self.out.push(Effect::FlushFlows { op, addresses });
    }

    fn free(&mut self, now: Time, addresses: &[Ipv4Addr]) {
        for address in addresses {
            self.rests.over.remove(address);
            self.pool.end_rest(*address, now);
        }
    }
}
