//! What a fleet did, beside what it is held to.

use std::collections::BTreeMap;
use std::fmt;

use lab_cloud::Bucket;
use vpc_model::Millis;

use super::Fleet;

/// Nodes that were started together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// When, since the case began.
    pub at: Millis,
    /// How many.
    pub nodes: u32,
    /// Nodes of the cluster then, these included.
    pub there: u32,
    /// Longest (N - burst) / rate of the calls a node needs, N being all the nodes that were there.
    pub at_best: Millis,
    /// How long each of them was not ready, sorted. Shorter than `nodes`: some never were.
    pub unready: Vec<Millis>,
}

impl Wave {
    /// How long it took until the last of them was ready.
    #[must_use]
    pub fn last(&self) -> Millis {
        self.unready.last().copied().unwrap_or_default()
    }

    /// By then it is to be ready: [`FleetReport::RATIO`] times what the buckets allow at best, and what a node takes that none of them
    /// holds up ([`FleetReport::ALONE`]).
    #[must_use]
    pub fn bound(&self) -> Millis {
        Millis((self.at_best.0 as f64 * FleetReport::RATIO) as u64 + FleetReport::ALONE.0)
    }

    /// How long that is beside its bound; above 1 it is missed.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.last().0 as f64 / self.bound().0 as f64
    }
}

/// What one action's bucket allows at best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// EC2's action.
    pub action: &'static str,
    /// Calls of it that a node makes until it is ready, if it is alone.
    pub per_node: u32,
    /// Its bucket.
    pub bucket: Bucket,
    /// (N x calls - burst) / rate.
    pub at_best: Millis,
}

/// Calls of one action over time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// All that were sent.
    pub sent: u32,
    /// Those of them that were refused for want of a token.
    pub throttled: u32,
    /// In each [`FleetReport::WINDOW`]: sent, and throttled.
    pub over_time: Vec<(u32, u32)>,
}

/// What a fleet did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetReport {
    /// Which.
    pub fleet: Fleet,
    /// The nodes that were started, as they were started together.
    pub waves: Vec<Wave>,
    /// When each of these was ready since the case began, sorted.
    pub ready: Vec<Millis>,
    /// Calls by action.
    pub calls: BTreeMap<&'static str, Calls>,
    /// Calls a second that the bucket of each of these actions gives.
    pub rates: BTreeMap<&'static str, u32>,
    /// What bounds the start, the slowest first.
    pub limits: Vec<Limit>,
    /// What the buckets allow at best for what was started when it was: the end of the longest queue.
    pub queue: Millis,
    /// Until when it was simulated.
    pub end: Millis,
    /// Pods that were asked for, and that run at the end.
    pub pods: (u32, u32),
    /// ADDs that were refused, and those of them before their deadline.
    pub refused: (u32, u32),
    /// Daemons that ended by themselves.
    pub exits: u32,
    /// What is wrong or left over at the end, once all is quiet.
    pub faults: Vec<String>,
}

impl FleetReport {
    /// Length of a window of [`Calls::over_time`].
    pub const WINDOW: Millis = Millis::seconds(5);
    /// The last node is ready within so many times what the buckets allow at best.
    pub const RATIO: f64 = 1.1;
    /// A node that nothing holds up is ready within this: an ENI is made, attached and set up.
    pub const ALONE: Millis = Millis::seconds(2);
    /// Throttled calls a node, on average.
    pub const EXTRA: f64 = 3.0;

    /// Nodes that were started.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.waves.iter().map(|wave| wave.nodes).sum()
    }

    /// When the last node was ready.
    #[must_use]
    pub fn last_ready(&self) -> Millis {
        self.ready.last().copied().unwrap_or_default()
    }

    /// The wave whose last node took longest, measured by its bound.
    #[must_use]
    pub fn worst(&self) -> Option<&Wave> {
        self.waves.iter().max_by(|a, b| a.ratio().total_cmp(&b.ratio()))
    }

    /// How long that took beside its bound; above 1 it is missed.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.worst().map_or(0.0, Wave::ratio)
    }

    /// Throttled calls.
    #[must_use]
    pub fn throttled(&self) -> u32 {
        self.calls.values().map(|calls| calls.throttled).sum()
    }

    /// Throttled calls a node of the whole fleet.
    #[must_use]
    pub fn extra(&self) -> f64 {
        f64::from(self.throttled()) / f64::from(self.fleet.nodes.max(1))
    }

    /// Whether everything the fleet is held to is so.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.missed().is_empty()
    }

    /// What it is held to and is not so.
    #[must_use]
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        let mut hold = |holds: bool, what: String| {
            if !holds {
                missed.push(what)
            }
        };
        let ready = u32::try_from(self.ready.len()).unwrap_or(u32::MAX);
        hold(ready == self.nodes(), format!("{ready} of {} nodes are ready", self.nodes()));
        hold(self.ratio() <= 1.0, format!("the last node was ready after {:.3} of the bound", self.ratio()));
        hold(self.extra() <= Self::EXTRA, format!("{:.2} throttled calls a node", self.extra()));
        hold(self.refused.1 == 0, format!("{} ADDs were given up before their deadline", self.refused.1));
        hold(self.pods.0 == self.pods.1, format!("{} of {} pods run", self.pods.1, self.pods.0));
        hold(self.exits == 0, format!("{} daemons ended by themselves", self.exits));
        missed.extend(self.faults.iter().cloned());
        missed
    }
}

/// A share of sorted spans, by the nearest rank.
fn rank(sorted: &[Millis], percent: usize) -> Millis {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

fn seconds(span: Millis) -> f64 {
    span.0 as f64 / 1000.0
}

impl fmt::Display for FleetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fleet { nodes, case, seed, counted } = self.fleet;
        let told = if counted { "" } else { ", not counted" };
        writeln!(f, "fleet {}: {nodes} nodes, seed {seed}{told}", case.name())?;
        writeln!(f, "{:<34}{:>10}  {:>10}  {:>8}", "", "figure", "bound", "ratio")?;
        let line = |f: &mut fmt::Formatter<'_>, what: &str, figure: f64, bound: f64, unit: &str| {
            let ratio = if bound > 0.0 { format!("{:>8.3}", figure / bound) } else { format!("{:>8}", "-") };
            writeln!(f, "{what:<34}{figure:>10.2}  {bound:>10.2}  {ratio}  {unit}")
        };
        let (last, bound) = self.worst().map_or((Millis(0), Millis(0)), |wave| (wave.last(), wave.bound()));
        line(f, "last node ready", seconds(last), seconds(bound), "s, the worst wave from its start on")?;
        line(f, "throttled calls a node", self.extra(), Self::EXTRA, "")?;
        line(f, "ADDs given up before the deadline", f64::from(self.refused.1), 0.0, "")?;
        let limit = |limit: &Limit| {
            let Limit { action, per_node, bucket, at_best } = limit;
            let Bucket { capacity, refill_per_second } = bucket;
            format!("{action} ({nodes} x {per_node} - {capacity}) / {refill_per_second} = {:.0} s", seconds(*at_best))
        };
        let limits: Vec<String> = self.limits.iter().map(limit).collect();
        let alone = seconds(Self::ALONE);
        writeln!(f, "bounds x {} + {alone} s: {}", Self::RATIO, limits.join(", "))?;
        let (last, queue) = (seconds(self.last_ready()), seconds(self.queue));
        writeln!(f, "all were ready after {last:.0} s; one queue that all of them saw would have needed {queue:.0} s")?;
        for Wave { at, nodes, there, unready, .. } in &self.waves {
            let [half, most, all] = [50, 99, 100].map(|percent| seconds(rank(unready, percent)));
            let (at, ready) = (seconds(*at), unready.len());
            writeln!(
                f,
                "  at {at:>6.0} s {nodes:>5} of {there:>5} nodes: {ready} ready, after {half:.1} s (median), {most:.1} s (99 %), {all:.1} s (last)"
            )?;
        }
        writeln!(
            f,
            "pods: {} of {} run; {} ADDs refused at their deadline",
            self.pods.1,
            self.pods.0,
            self.refused.0 - self.refused.1
        )?;
        for (action, calls) in &self.calls {
            writeln!(f, "  {action:<34}{:>8} sent {:>8} throttled", calls.sent, calls.throttled)?;
        }
        for missed in self.missed().iter().take(20) {
            writeln!(f, "MISSED: {missed}")?;
        }
        Ok(())
    }
}
