//! How fast EC2 is called: a token bucket for each action, with weights.
//!
//! All nodes of all clusters of an account share EC2's buckets. The pacer keeps one node from emptying them: it holds a bucket of
//! the published size for each action, refills it slower for a while after EC2 said that the account asks too much, and leaves the
//! last tokens to calls a pod waits for.
//!
//! ```text
//!   admit: a token there (beyond those kept for weightier calls)? --> go  |  the moment at which there will be one
//!   throttled: tokens gone, bucket and rate halved, a wait among all the nodes of the cluster (turns.rs)
//!   answered, or a second without such an answer: both grow again, step by step
//! ```
//!
//! Nothing waits for ever: bucket and rate never fall below a sixteenth of the published ones, what is kept for weightier calls is at
//! most three quarters of the bucket as it is now, and a wait is no longer than EC2 needs for one call of every node (three of them where
//! nobody waits), or two minutes.

use std::collections::BTreeMap;

use vpc_model::{Millis, Time};

use crate::cloud::CloudCall;
use crate::turns::{Gates, Turns};

/// An EC2 action that has a bucket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ec2Action {
    /// `CreateNetworkInterface`.
    Create,
    /// `DeleteNetworkInterface`.
    Delete,
    /// `AttachNetworkInterface`.
    Attach,
    /// `DetachNetworkInterface`.
    Detach,
    /// `ModifyNetworkInterfaceAttribute`.
    Modify,
    /// `AssignPrivateIpAddresses`.
    Assign,
    /// `UnassignPrivateIpAddresses`.
    Unassign,
    /// `CreateTags`.
    Tag,
    /// `DescribeNetworkInterfaces`.
    DescribeEnis,
    /// `DescribeSubnets`.
    DescribeSubnets,
    /// `DescribeInstanceTypes`.
    DescribeTypes,
}

impl Ec2Action {
    /// The action a call needs.
    #[must_use]
    pub fn of(call: &CloudCall) -> Self {
        match call {
            CloudCall::CreateEni { .. } => Self::Create,
            CloudCall::Delete { .. } => Self::Delete,
            CloudCall::AttachEni { .. } => Self::Attach,
            CloudCall::Detach { .. } => Self::Detach,
            CloudCall::DeleteOnTermination { .. } | CloudCall::SetGroups { .. } => Self::Modify,
            CloudCall::Assign { .. } => Self::Assign,
            CloudCall::Unassign { .. } => Self::Unassign,
            CloudCall::Tag { .. } => Self::Tag,
            CloudCall::Describe { .. } | CloudCall::DescribeNode | CloudCall::FindStrays | CloudCall::FindLeaked => {
                Self::DescribeEnis
            }
            CloudCall::Subnets { .. } => Self::DescribeSubnets,
            CloudCall::Limits => Self::DescribeTypes,
        }
    }
}

/// Size of a bucket and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Whose.
    pub action: Ec2Action,
    /// Calls it holds when it is full.
    pub burst: u32,
    /// Calls a second.
    pub per_second: u32,
}

const fn bucket(action: Ec2Action, burst: u32, per_second: u32) -> Bucket {
    Bucket { action, burst, per_second }
}

/// What AWS grants an account in a Region ("Request throttling for the Amazon EC2 API": non-mutating actions that are filtered or
/// paged 100 and 20/s, mutating ones 50 and 5/s, and the network interface actions listed there by name with sizes of their own).
pub const BUCKETS: [Bucket; 11] = [
    bucket(Ec2Action::Create, 100, 5),
    bucket(Ec2Action::Delete, 100, 5),
    bucket(Ec2Action::Attach, 50, 5),
    bucket(Ec2Action::Detach, 50, 5),
    bucket(Ec2Action::Modify, 50, 5),
    bucket(Ec2Action::Assign, 100, 5),
    bucket(Ec2Action::Unassign, 100, 5),
    bucket(Ec2Action::Tag, 100, 10),
    bucket(Ec2Action::DescribeEnis, 100, 20),
    bucket(Ec2Action::DescribeSubnets, 100, 20),
    bucket(Ec2Action::DescribeTypes, 100, 20),
];

/// How much a call matters. A lower weight leaves tokens for higher ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Nobody waits: tags, clean-up, comparisons.
    Background,
    /// Something is given back.
    Shrink,
    /// The pool grows ahead of demand.
    Grow,
    /// A pod waits for it.
    PodBlocking,
}

impl Weight {
    /// Quarters of a bucket that are kept for weightier calls.
    fn quarters_kept(self) -> u64 {
        match self {
            Self::PodBlocking => 0,
            Self::Grow => 1,
            Self::Shrink => 2,
            Self::Background => 3,
        }
    }
}

/// Paces the calls of one node.
#[derive(Clone, Debug)]
pub struct Pacer {
    levels: BTreeMap<Ec2Action, Level>,
    turns: Turns,
    dice: Dice,
}

/// One bucket.
#[derive(Clone, Copy, Debug)]
struct Level {
    bucket: Bucket,
    /// In units of which [`TOKEN`] make one token: a millisecond brings a whole number of them.
    tokens: u64,
    /// When `tokens` was right.
    at: Time,
    /// The part of burst and rate that is used, in 1/[`WHOLE`].
    part: u64,
    /// Until when the part's rise is counted.
    risen: Time,
    /// Throttle answers in a row.
    streak: u32,
    /// Nothing is sent before.
    gates: Gates,
    /// The action whose throttle answers set the gates, where it was not this one.
    behind: Option<Ec2Action>,
}

const WHOLE: u64 = 64;
/// The least part.
const LEAST: u64 = 4;
const TOKEN: u64 = 1000 * WHOLE;
const JITTER_BITS: u32 = 16;

impl Pacer {
    /// How often a bucket that was made smaller grows by a 64th.
    const RISE: Millis = Millis::seconds(1);
    /// By how many 64ths it grows with each answer.
    const STEP: u64 = 4;

    /// Begins with full buckets. The seed decides the jitter.
    #[must_use]
    pub fn new(now: Time, seed: u64) -> Self {
        let level = |bucket: &Bucket| {
            let tokens = u64::from(bucket.burst) * TOKEN;
            let gates = Gates::open(now);
            let level =
                Level { bucket: *bucket, tokens, at: now, part: WHOLE, risen: now, streak: 0, gates, behind: None };
            (bucket.action, level)
        };
        Self { levels: BUCKETS.iter().map(level).collect(), turns: Turns::default(), dice: Dice(seed) }
    }

    /// How many nodes share the buckets.
    pub fn nodes_are(&mut self, count: u32) {
        self.turns.nodes_are(count);
    }

    /// Takes a token for a call that leaves now.
    ///
    /// # Errors
    /// When to ask again. For [`Weight::PodBlocking`] there is a token then, if nobody else took it; what is kept from the others may
    /// have grown meanwhile.
    pub fn admit(&mut self, now: Time, action: Ec2Action, weight: Weight) -> Result<(), Time> {
        match self.levels.get_mut(&action) {
            Some(level) => level.take(now, weight),
            None => Ok(()),
        }
    }

    /// EC2 said that the account asks too much.
    pub fn throttled(&mut self, now: Time, action: Ec2Action) {
        let chance = self.dice.below(1 << JITTER_BITS);
        let Some(level) = self.levels.get_mut(&action) else { return };
        // Otherwise it is the answer to a call that had left before: the same word once more.
        if level.gates.pod <= now {
            level.throttled(now);
            level.gates = self.turns.again(now, level.bucket, level.streak, chance);
            level.behind = None;
        }
    }

    /// EC2 answered, whatever it said, but that.
    pub fn answered(&mut self, now: Time, action: Ec2Action) {
        let Some(level) = self.levels.get_mut(&action) else { return };
        let streak = level.streak;
        let rank = self.turns.rank(now, level.bucket).filter(|_| streak > 0);
        level.answered(now);
        // Nodes come out of this bucket in an order. They keep it where they go next, instead of meeting there again.
        if let Some(rank) = rank {
            for other in self.levels.values_mut().filter(|other| other.streak == 0) {
                if let Some(gates) = self.turns.behind(now, other.bucket, rank, streak) {
                    (other.gates, other.behind) = (gates, Some(action));
                }
            }
        }
    }

    /// When a call of such a weight may be made at the earliest, as far as throttle answers hold it up.
    #[must_use]
    pub fn turn(&self, action: Ec2Action, weight: Weight) -> Option<Time> {
        self.levels.get(&action).map(|level| level.gates.of(weight))
    }

    /// The action whose throttle answers hold a call up now; `None` = none do.
    #[must_use]
    pub fn held_up_by(&self, now: Time, action: Ec2Action, weight: Weight) -> Option<Ec2Action> {
        let level = self.levels.get(&action)?;
        match level.behind {
            Some(other) if level.gates.of(weight) > now => Some(other),
            _ => (level.streak > 0).then_some(action),
        }
    }

    /// What the bucket of an action needs for one call of every node, once its burst is gone.
    #[must_use]
    pub fn lap(&self, action: Ec2Action) -> Millis {
        self.levels.get(&action).map_or(Millis(0), |level| self.turns.lap(level.bucket))
    }

    /// A span below `most`, from the seed: spreads what many nodes would do at the same moment.
    pub fn jitter(&mut self, most: Millis) -> Millis {
        Millis(self.dice.below(most.0.max(1)))
    }

    /// Throttle answers of an action in a row.
    #[must_use]
    pub fn streak(&self, action: Ec2Action) -> u32 {
        self.levels.get(&action).map_or(0, |level| level.streak)
    }
}

impl Level {
    /// What it holds now at most.
    fn size(&self) -> u64 {
        u64::from(self.bucket.burst) * TOKEN / WHOLE * self.part
    }

    /// What a millisecond brings now.
    fn per_milli(&self) -> u64 {
        u64::from(self.bucket.per_second) * self.part
    }

    fn fill(&mut self, now: Time) {
        let gained = now.since(self.at).0.saturating_mul(self.per_milli());
        self.tokens = self.tokens.saturating_add(gained).min(self.size());
        self.at = self.at.max(now);
        // It rises by itself too: a node that asks seldom has recovered after a minute.
        let steps = now.since(self.risen).0 / Pacer::RISE.0;
        self.risen = self.risen + Millis(steps * Pacer::RISE.0);
        self.part = (self.part + steps).min(WHOLE);
    }

    fn take(&mut self, now: Time, weight: Weight) -> Result<(), Time> {
        self.fill(now);
        let needed = (self.size() - TOKEN) / 4 * weight.quarters_kept() + TOKEN;
        let gate = self.gates.of(weight);
        if gate <= now && self.tokens >= needed {
            self.tokens -= TOKEN;
            return Ok(());
        }
        let lacking = needed.saturating_sub(self.tokens).div_ceil(self.per_milli());
        Err(gate.max(now + Millis(lacking.max(1))))
    }

    fn throttled(&mut self, now: Time) {
        self.fill(now);
        self.streak = self.streak.saturating_add(1);
        self.part = (self.part / 2).max(LEAST);
        self.tokens = 0;
        self.risen = now;
    }

    fn answered(&mut self, now: Time) {
        self.fill(now);
        if self.gates.pod <= now {
            self.streak = 0;
            self.part = (self.part + Pacer::STEP).min(WHOLE);
        }
    }
}

/// splitmix64: small, good enough to spread calls, and the same everywhere.
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}
