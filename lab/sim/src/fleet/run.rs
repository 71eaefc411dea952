//! Runs a fleet.
//!
//! Nodes that are there before the case begins are brought up without token buckets, which EC2 has from the case's beginning on, full.

use std::collections::{BTreeMap, BTreeSet};

use lab_cloud::{InstanceSpec, Setup, SubnetSpec, Throttle, WorldError, WorldSpec, id_for};
use vpc_agent::{Notice, Refusal};
use vpc_model::{Ipv4Net, Millis, Subnet, Time};

use super::report::{Calls, FleetReport, Limit, Wave};
use super::{Case, Fleet};
use crate::scene::scene;
use crate::world::{NodeAt, Watch, World};

/// Type of all nodes: three ENIs of four addresses, so that pods soon need another one.
const TYPE: &str = "t3.small";
/// How often the fleet is looked at.
const LOOK: Millis = Millis::seconds(1);
/// Nodes brought up each second before the case begins.
const UP_EACH_SECOND: usize = 100;
/// Calm between that and the beginning of the case: what was begun has ended, addresses have rested.
const CALM: Millis = Millis::seconds(400);
/// Without a call for so long, and none waiting, everything is done.
const QUIET: Millis = Millis::seconds(200);
/// A case that is not quiet by then ends.
const LONGEST: Millis = Millis::seconds(12_000);
/// Pods of a node's own (of daemon sets), once it is ready.
const OWN_PODS: u32 = 2;
/// Pods of a node at most: all its secondary addresses.
const MOST_PODS: u32 = 9;
/// Batches of a rolling restart, and the least time between two of them.
const BATCHES: usize = 10;
const BATCH_EVERY: Millis = Millis::seconds(10);
/// Waves of new nodes, each an eighth of the fleet, and the least time between two of them.
const WAVES: usize = 4;
const WAVE_EVERY: Millis = Millis::seconds(30);
/// How much longer it is for each node of the fleet.
const WAVE_PER_NODE: Millis = Millis(30);
/// A refusal may come this much before the deadline (moments are rounded).
const SLACK: Millis = Millis(50);

/// Why a fleet can not be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FleetError {
    /// A number of nodes that is not possible.
    #[error("{nodes} nodes: expected 1 to {}", Fleet::MOST)]
    Nodes {
        /// Which.
        nodes: u32,
    },
    /// EC2 would not take the description.
    #[error(transparent)]
    World(#[from] WorldError),
}

pub(super) fn run(fleet: Fleet) -> Result<FleetReport, FleetError> {
    if !(1..=Fleet::MOST).contains(&fleet.nodes) {
        return Err(FleetError::Nodes { nodes: fleet.nodes });
    }
    let alone = Run::play(Fleet { nodes: 1, ..fleet })?;
    let needs = alone.calls_of_first();
    Ok(Run::play(fleet)?.report(&needs))
}

/// A fleet on its way.
struct Run {
    fleet: Fleet,
    world: World,
    /// When the case began.
    since: Time,
    /// When which nodes were started, and how many there were then.
    started: Vec<(Time, Vec<NodeAt>, u32)>,
    /// Those of them that are not ready yet.
    unready: BTreeMap<NodeAt, Time>,
    /// When which node was ready, and after how long.
    ready: Vec<(NodeAt, Time, Millis)>,
    pods: u32,
    /// Nodes of the cluster so far.
    there: u32,
}

impl Run {
    fn play(fleet: Fleet) -> Result<Self, FleetError> {
        let mut world = World::new(topology(&fleet), setup(&fleet))?;
        world.watch = Watch::Never;
        let (started, ready) = (Vec::new(), Vec::new());
        let mut run =
            Self { fleet, world, since: Time(0), started, unready: BTreeMap::new(), ready, pods: 0, there: 0 };
        match fleet.case {
            Case::Start => run.start_all(),
            Case::Rolling => run.rolling(),
            Case::Scaling => run.scaling(),
        }
        run.finish();
        Ok(run)
    }

    fn start_all(&mut self) {
        self.begin(0);
        self.start((0..self.count()).map(NodeAt).collect());
    }

    /// Batch by batch, as soon as the one before is ready.
    fn rolling(&mut self) {
        self.begin(self.count());
        let nodes: Vec<NodeAt> = (0..self.count()).map(NodeAt).collect();
        for batch in nodes.chunks(self.count().div_ceil(BATCHES)) {
            for node in batch {
                self.world.restart(*node, Millis::seconds(1));
            }
            self.awaits(batch);
            self.pass(BATCH_EVERY);
            while !self.unready.is_empty() && self.world.now() < self.since + LONGEST {
                self.pass(LOOK);
            }
        }
    }

    fn scaling(&mut self) {
        let wave = self.count().div_ceil(2 * WAVES);
        let old = self.count().saturating_sub(wave * WAVES);
        self.begin(old);
        let new: Vec<NodeAt> = (old..self.count()).map(NodeAt).collect();
        let pause = Millis(WAVE_EVERY.0.max(WAVE_PER_NODE.0 * self.count() as u64));
        let mut there = old;
        for (number, wave) in new.chunks(wave).enumerate() {
            self.pods_arrive(there, number);
            there += wave.len();
            self.tell_count(there);
            self.start(wave.to_vec());
            self.pass(pause);
        }
    }

    /// On each fourth node another pod; on each fiftieth so many that its pool is too small, and they wait.
    fn pods_arrive(&mut self, nodes: usize, wave: usize) {
        for index in 0..nodes {
            let count = match self.world.dice.roll(100) {
                0..25 => 1,
                25..27 if wave == 0 => 6,
                _ => 0,
            };
            // Kubernetes sends no node more than it can take.
            let there = self.world.node(NodeAt(index)).map_or(0, |own| own.pods.len());
            let room = MOST_PODS.saturating_sub(u32::try_from(there).unwrap_or(u32::MAX));
            self.add_pods(NodeAt(index), &format!("wave{wave}-"), count.min(room));
        }
    }

    fn add_pods(&mut self, node: NodeAt, prefix: &str, count: u32) {
        self.world.add_pods(node, prefix, count);
        self.pods += count;
    }

    /// The case begins, with so many nodes that are up and have their pods.
    fn begin(&mut self, up: usize) {
        self.tell_count(if up == 0 { self.count() } else { up });
        if up > 0 {
            self.world.cloud.set_throttle(Throttle::off());
            for index in 0..up {
                self.world.start(NodeAt(index));
                self.unready.insert(NodeAt(index), self.world.now());
                if index % UP_EACH_SECOND == UP_EACH_SECOND - 1 {
                    self.pass(LOOK);
                }
            }
            self.pass(CALM);
            self.ready.clear();
        }
        self.world.sent.clear();
        self.world.throttled.clear();
        self.world.cloud.set_throttle(Throttle::aws());
        self.since = self.world.now();
    }

    fn tell_count(&mut self, nodes: usize) {
        self.there = u32::try_from(nodes).unwrap_or(u32::MAX);
        self.world.node_count = Some(self.there).filter(|_| self.fleet.counted);
    }

    fn start(&mut self, nodes: Vec<NodeAt>) {
        nodes.iter().for_each(|node| self.world.start(*node));
        self.awaits(&nodes);
    }

    fn awaits(&mut self, nodes: &[NodeAt]) {
        let now = self.world.now();
        self.unready.extend(nodes.iter().map(|node| (*node, now)));
        self.started.push((now, nodes.to_vec(), self.there));
    }

    /// Lets time pass; nodes that have become ready get their pods.
    fn pass(&mut self, span: Millis) {
        let end = self.world.now() + span;
        while self.world.now() < end {
            self.world.run_for(Millis(LOOK.0.min(end.since(self.world.now()).0)));
            let ready = |node: &NodeAt| self.world.node(*node).and_then(|own| own.ready_at);
            let now_ready: Vec<(NodeAt, Time, Time)> =
                self.unready.iter().filter_map(|(node, since)| Some((*node, *since, ready(node)?))).collect();
            for (node, since, at) in now_ready {
                self.unready.remove(&node);
                self.ready.push((node, at, at.since(since)));
                self.own_pods(node);
            }
        }
    }

    /// A node has become ready: its first pods, and after a restart another one.
    fn own_pods(&mut self, node: NodeAt) {
        let there = self.world.node(node).map_or(0, |own| own.pods.len());
        self.add_pods(node, &format!("own{there}-"), if there == 0 { OWN_PODS } else { 1 });
    }

    /// Until nothing is asked for any more, nor waits to be: a node whose call was throttled has its next turn after all others.
    fn finish(&mut self) {
        while self.world.now() < self.since + LONGEST {
            let before = self.world.sent.len();
            self.pass(QUIET);
            let nodes = (0..self.count()).filter_map(|index| self.world.node(NodeAt(index)));
            let pending = nodes.filter_map(|node| node.agent()).any(|agent| agent.calls_pending() > 0);
            if self.unready.is_empty() && self.world.sent.len() == before && !pending {
                return;
            }
        }
    }

    fn count(&self) -> usize {
        self.fleet.nodes as usize
    }

    /// What the first node that was started asked for until it was ready; after a restart (ready with what it knows) what it asked
    /// for right away.
    fn calls_of_first(&self) -> BTreeMap<&'static str, u32> {
        let Some((at, first, _)) = self.started.first() else { return BTreeMap::new() };
        let until = match self.fleet.case {
            Case::Rolling => *at + Millis::seconds(30),
            Case::Start | Case::Scaling => self.ready.first().map_or(Time(0), |(_, at, _)| *at),
        };
        let own = |at: Time, node: NodeAt| at < until && first.contains(&node);
        let mut calls = BTreeMap::new();
        for sent in self.world.sent.iter().filter(|sent| own(sent.at, sent.node)) {
            *calls.entry(sent.action).or_default() += 1;
        }
        calls
    }

    fn report(mut self, needs: &BTreeMap<&'static str, u32>) -> FleetReport {
        let faults = self.wrong();
        let since = |at: Time| at.since(self.since);
        let wave = |(at, nodes, there): &(Time, Vec<NodeAt>, u32)| self.wave(*at, nodes, *there, needs);
        let waves: Vec<Wave> = self.started.iter().map(wave).collect();
        let mut ready: Vec<Millis> = self.ready.iter().map(|(_, at, _)| since(*at)).collect();
        ready.sort_unstable();
        let limits = limits(self.fleet.nodes, needs);
        FleetReport {
            fleet: self.fleet,
            queue: limits.iter().map(|limit| queue(limit, &waves)).max().unwrap_or_default(),
            waves,
            ready,
            rates: self.calls().keys().filter_map(|action| rate(action)).collect(),
            calls: self.calls(),
            limits,
            end: since(self.world.now()),
            pods: (self.pods, self.running()),
            refused: self.refused(),
            exits: self.world.nodes().iter().map(|node| node.exits).sum(),
            faults,
        }
    }

    fn wave(&self, at: Time, nodes: &[NodeAt], there: u32, needs: &BTreeMap<&'static str, u32>) -> Wave {
        let nodes: BTreeSet<NodeAt> = nodes.iter().copied().collect();
        let own = self.ready.iter().filter(|(node, ..)| nodes.contains(node));
        let mut unready: Vec<Millis> = own.map(|(_, _, span)| *span).collect();
        unready.sort_unstable();
        Wave {
            at: at.since(self.since),
            nodes: u32::try_from(nodes.len()).unwrap_or(u32::MAX),
            there,
            at_best: limits(there, needs).first().map_or(Millis(0), |limit| limit.at_best),
            unready,
        }
    }

    fn calls(&self) -> BTreeMap<&'static str, Calls> {
        let windows = usize::try_from(self.world.now().since(self.since).0 / FleetReport::WINDOW.0).unwrap_or(0) + 1;
        let mut calls: BTreeMap<&'static str, Calls> = BTreeMap::new();
        let window = |at: Time| usize::try_from(at.since(self.since).0 / FleetReport::WINDOW.0).unwrap_or(0);
        for sent in &self.world.sent {
            let calls = calls.entry(sent.action).or_default();
            calls.over_time.resize(windows, (0, 0));
            calls.sent += 1;
            calls.over_time[window(sent.at)].0 += 1;
        }
        for refused in &self.world.throttled {
            let calls = calls.entry(refused.action).or_default();
            calls.throttled += 1;
            if let Some(window) = calls.over_time.get_mut(window(refused.at)) {
                window.1 += 1;
            }
        }
        calls
    }

    fn running(&self) -> u32 {
        u32::try_from(self.world.nodes().iter().map(|node| node.running().count()).sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// ADDs that were refused, and those before their deadline.
    fn refused(&self) -> (u32, u32) {
        let (mut refused, mut early) = (0, 0);
        for node in self.world.nodes() {
            let wait = node.config.add_wait;
            for (_, notice) in node.notices.iter().filter(|(at, _)| *at >= self.since) {
                let Notice::Refused { refusal, .. } = notice else { continue };
                // Whoever asked has gone.
                if matches!(refusal, Refusal::Cancelled | Refusal::ShuttingDown) {
                    continue;
                }
                refused += 1;
                early += u32::from(refusal.waited().is_none_or(|waited| waited.0 + SLACK.0 < wait.0));
            }
        }
        (refused, early)
    }

    fn wrong(&mut self) -> Vec<String> {
        self.world.look();
        let leaks = self.world.leaks();
        self.world.faults.iter().chain(&leaks).map(ToString::to_string).collect()
    }
}

fn rate(action: &'static str) -> Option<(&'static str, u32)> {
    Some((action, Throttle::aws().of(action)?.refill_per_second))
}

/// What each action allows at best, the slowest first.
fn limits(nodes: u32, needs: &BTreeMap<&'static str, u32>) -> Vec<Limit> {
    let throttle = Throttle::aws();
    let limit = |(action, per_node): (&&'static str, &u32)| {
        let bucket = throttle.of(action)?;
        let calls = (u64::from(nodes) * u64::from(*per_node)).saturating_sub(u64::from(bucket.capacity));
        let at_best = Millis(calls * 1000 / u64::from(bucket.refill_per_second.max(1)));
        Some(Limit { action, per_node: *per_node, bucket, at_best })
    };
    let mut limits: Vec<Limit> = needs.iter().filter_map(limit).collect();
    limits.sort_by_key(|limit| std::cmp::Reverse(limit.at_best));
    limits
}

/// When a bucket would have served all that came when it came, were each call made as soon as there is a token.
fn queue(limit: &Limit, waves: &[Wave]) -> Millis {
    let rate = u64::from(limit.bucket.refill_per_second.max(1));
    let full = u64::from(limit.bucket.capacity) * 1000;
    // Thousandths of tokens that are there at `at`, calls that wait.
    let (mut there, mut waiting, mut at) = (full, 0_u64, Millis(0));
    let mut done = Millis(0);
    for Wave { at: comes, nodes, .. } in waves {
        there += (comes.0 - at.0) * rate;
        let served = there.min(waiting);
        (there, waiting) = ((there - served).min(full), waiting - served);
        waiting += u64::from(*nodes) * u64::from(limit.per_node) * 1000;
        let at_once = there.min(waiting);
        (there, waiting) = (there - at_once, waiting - at_once);
        at = *comes;
        done = Millis(at.0 + waiting.div_ceil(rate));
    }
    done
}

/// Five CIDRs of the VPC in subnets of four to a CIDR; the nodes are spread over them.
fn topology(fleet: &Fleet) -> WorldSpec {
    let (mut spec, _) = scene(fleet.seed, &[]);
    let quarters = (100_u8..105).flat_map(|second| [0_u8, 64, 128, 192].map(|third| (second, third)));
    let cidrs: BTreeSet<u8> = quarters.clone().map(|(second, _)| second).collect();
    let net = |second: u8, third: u8, length: u8| Ipv4Net::new([10, second, third, 0].into(), length).ok();
    spec.vpc.cidrs.extend(cidrs.into_iter().filter_map(|second| net(second, 0, 16)));
    let subnets = quarters.zip(0..).filter_map(|((second, third), number)| {
        let zone = ["us-west-2a", "us-west-2b", "us-west-2c"][number % 3];
        let cidr = Subnet::try_from(net(second, third, 18)?).ok()?;
        Some(SubnetSpec::new(&format!("fleet-{number}"), cidr, zone))
    });
    let subnets: Vec<SubnetSpec> = subnets.collect();
    let of = |index: u32| id_for(&format!("fleet-{}", index as usize % subnets.len()));
    spec.instances =
        (0..fleet.nodes).map(|index| InstanceSpec::new(&format!("node-{index}"), TYPE, of(index))).collect();
    spec.subnets.extend(subnets);
    spec
}

/// As AWS is, but for the quota of ENIs, which an account of that size has had raised.
fn setup(fleet: &Fleet) -> Setup {
    Setup { max_enis: 10 * Fleet::MOST, ..scene(fleet.seed, &[]).1 }
}
