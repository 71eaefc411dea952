//! When a node comes again after EC2 said that the account asks too much: many nodes share a bucket, and no node sees the others.
//!
//! ```text
//!   throttled once:   within a 16th of a lap       (a lone node beside a busy neighbour: soon); where nobody waits 30 s too
//!   throttled twice:  within half of a lap
//!   and again:        within what is left of the lap since the rush began, then in small steps behind it
//!   got through late: the rush is real; its place in the queue holds for the buckets it comes to next
//! ```
//!
//! A lap is what a bucket needs for one call of every node: (nodes - burst) / rate. Nodes that come at any moment of what is left of it
//! keep the bucket at work and hardly ever meet an empty one. That is why the number of nodes matters: without it the steps are
//! those of a thousand nodes. See docs/decisions/0032.

use vpc_model::{Millis, Time};

use crate::cloud::FailureClass;
use crate::pacer::{Bucket, Weight};
use crate::places::pause_after;

/// How many nodes are supposed while nobody has counted them.
const SUPPOSED: u32 = 1000;
/// A rush is over when nobody was to come for so long.
const CALM: Millis = Millis::seconds(60);
/// No call comes again sooner.
const LEAST: Millis = Millis(500);
/// From so many throttle answers in a row on, the rush is not a neighbour's hiccup.
const REAL: u32 = 2;

/// Parts of a lap: the first wait, the second, and the steps behind the lap.
const FIRST: u64 = 16;
const SECOND: u64 = 2;
const BEHIND: u64 = 32;
/// Where nobody waits the first wait is a larger part of the laps, as long as it is no longer than this: in a cluster of some hundred
/// nodes a 16th is too little to spread them, and one of thousands does not need more.
const FIRST_AHEAD: u64 = 4;
const FIRST_AHEAD_MOST: Millis = Millis::seconds(30);

/// Knows how many nodes there are, and since when they come all at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    nodes: Option<u32>,
    rush: Option<Rush>,
}

/// Many nodes want the same at the same time.
#[derive(Clone, Copy, Debug)]
struct Rush {
    since: Time,
    until: Time,
}

/// Before these moments no call of the weight is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gates {
    /// For what a pod, or the whole node, waits for.
    pub(crate) pod: Time,
    /// For what the pool grows by ahead of demand.
    pub(crate) growth: Time,
    /// For everything else.
    pub(crate) rest: Time,
}

impl Gates {
    /// Open since a moment.
    pub(crate) fn open(at: Time) -> Self {
        Self { pod: at, growth: at, rest: at }
    }

    pub(crate) fn of(&self, weight: Weight) -> Time {
        match weight {
            Weight::PodBlocking => self.pod,
            Weight::Grow => self.growth,
            Weight::Shrink | Weight::Background => self.rest,
        }
    }
}

impl Turns {
    pub(crate) fn nodes_are(&mut self, count: u32) {
        self.nodes = Some(count);
    }

    /// What a bucket needs for one call of every node, once its burst is gone.
    pub(crate) fn lap(&self, bucket: Bucket) -> Millis {
        let behind = u64::from(self.nodes.unwrap_or(SUPPOSED).saturating_sub(bucket.burst));
        Millis(behind * 1000 / u64::from(bucket.per_second.max(1)))
    }

    /// When to come again after so many throttle answers in a row; `chance` lies below 2^16.
    pub(crate) fn again(&mut self, now: Time, bucket: Bucket, streak: u32, chance: u64) -> Gates {
        let rush = self.rush.filter(|rush| rush.until >= now).unwrap_or(Rush { since: now, until: now });
        let lap = self.lap(bucket);
        // What nobody waits for takes two laps or three: it leaves most of the bucket to the others.
        let into = now.since(rush.since);
        let at = |patience: u64| now + LEAST + Millis((width(into, lap, streak, patience).0 * chance) >> 16);
        let gates = Gates { pod: at(1), growth: at(2), rest: at(3) };
        self.expect(rush, gates.rest);
        gates
    }

    /// A call got through after throttle answers: how many calls of the rush were there before it, if the bucket was never idle.
    pub(crate) fn rank(&self, now: Time, bucket: Bucket) -> Option<u64> {
        let rush = self.rush.filter(|rush| rush.until >= now)?;
        Some(u64::from(bucket.burst) + now.since(rush.since).0 * u64::from(bucket.per_second) / 1000)
    }

    /// When another bucket will have served so many. After a single throttle answer that is a guess, and holds up only what nobody
    /// waits for.
    pub(crate) fn behind(&mut self, now: Time, bucket: Bucket, rank: u64, streak: u32) -> Option<Gates> {
        let rush = self.rush?;
        let wait = rank.saturating_sub(u64::from(bucket.burst)) * 1000 / u64::from(bucket.per_second.max(1));
        let turn = rush.since + Millis(wait.min(self.lap(bucket).0));
        self.expect(rush, turn);
        let pod = if streak >= REAL { turn } else { now };
        (turn > now).then_some(Gates { pod, growth: turn, rest: turn })
    }

    fn expect(&mut self, rush: Rush, until: Time) {
        self.rush = Some(Rush { until: rush.until.max(until + CALM), ..rush });
    }
}

/// Over how much a node that was throttled so often spreads its next attempt, so far into the rush. `patience`: laps it may take.
fn width(into: Millis, lap: Millis, streak: u32, patience: u64) -> Millis {
    let least = Millis(pause_after(FailureClass::Throttled, streak).0 * patience * patience).min(FailureClass::LONGEST);
    let laps = lap.0 * patience;
    let left = laps.saturating_sub(into.0);
    let wanted = match streak {
        0 | 1 if patience > 1 => (laps / FIRST).max((laps / FIRST_AHEAD).min(FIRST_AHEAD_MOST.0)),
        0 | 1 => laps / FIRST,
        2 => (laps / SECOND).min(left.max(laps / FIRST)),
        _ if left > laps / BEHIND => return Millis(left),
        _ => laps / BEHIND,
    };
    least.max(Millis(wanted))
}
