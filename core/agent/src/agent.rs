//! The agent: its state, the door, and what follows from every input.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use vpc_ipam::{Held, Pool, Target, Use, bug};
use vpc_model::{
    DeviceIndex, EniId, InstanceId, Ipv4Net, LinkName, Millis, PodRef, SandboxKey, SecurityGroupId, Time, WallTime,
};

use crate::checkpoint::{Checkpoint, Lease};
use crate::cluster::{ClusterNews, NodeView};
use crate::config::{Config, NodeFacts, SeenEni};
use crate::disk::Disk;
use crate::host::Host;
use crate::jobs::Cloud;
use crate::leaked::Sweep;
use crate::links::Links;
use crate::message::{Effect, Input, Notice, Outcome, Ticket, Wake};
use crate::orphans::Orphans;
use crate::pacer::Ec2Action;
use crate::places::{Home, Places};
use crate::reconcile::Recon;
use crate::rests::Rests;
use crate::sandbox::Waiter;

/// The state machine of one node.
#[derive(Clone, Debug)]
pub struct Agent {
    pub(crate) config: Config,
    pub(crate) instance: InstanceId,
    /// The primary ENI's security groups.
    pub(crate) groups: Vec<SecurityGroupId>,
    pub(crate) pool: Pool,
    pub(crate) vpc_cidrs: Vec<Ipv4Net>,
    /// Other ENIs of the instance: ones that are not ours, and ones of which that is not known yet. They take positions.
    pub(crate) others: BTreeMap<EniId, Other>,
    pub(crate) cloud: Cloud,
    pub(crate) places: Places,
    pub(crate) recon: Recon,
    /// Our node object, as far as Kubernetes has shown it.
    pub(crate) node: Option<NodeView>,
    /// Pods bound to this node that want an address.
    pub(crate) bound: BTreeSet<PodRef>,
    /// Those of them that never had one.
    pub(crate) coming: BTreeSet<PodRef>,
    /// Pods that were refused for want of an address, and when: kubelet asks for them again.
    pub(crate) turned_away: BTreeMap<PodRef, Time>,
    /// The API server answers.
    pub(crate) api: bool,
    pub(crate) host: Host,
    pub(crate) disk: Disk,
    pub(crate) waiters: VecDeque<Waiter>,
    /// Restored leases whose sandbox has not been seen yet.
    pub(crate) suspects: BTreeSet<SandboxKey>,
    /// Leases that are known by their host link alone, and end with it.
    pub(crate) by_link: BTreeMap<SandboxKey, LinkName>,
    /// Sandboxes whose address one ADD was given, in this life, and no other since.
    pub(crate) given_once: BTreeSet<SandboxKey>,
    /// When this life began.
    pub(crate) begun: Time,
    /// Addresses known to belong to no pod, whose rules and routes the host pass may remove.
    pub(crate) podless: BTreeSet<Ipv4Addr>,
    /// Addresses between their rest and the next pod.
    pub(crate) rests: Rests,
    /// Links of sandboxes that have ended.
    pub(crate) links: Links,
    /// What the host has and nobody owns.
    pub(crate) orphans: Orphans,
    /// ENIs of lost nodes.
    pub(crate) sweep: Sweep,
    pub(crate) terminating: bool,
    pub(crate) said_ready: bool,
    /// The calendar at `origin`.
    wall: WallTime,
    origin: Time,
    pub(crate) out: Vec<Effect>,
}

/// An ENI of the instance that the pool does not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Other {
    pub(crate) device: DeviceIndex,
    /// As the metadata show it; `None` if only EC2 knows it.
    pub(crate) seen: Option<SeenEni>,
    /// EC2 has said that it is not ours.
    pub(crate) foreign: bool,
    /// The metadata show it.
    pub(crate) shown: bool,
    /// EC2's last word on the node's ENIs had it among them; `None` before there was any.
    pub(crate) told: Option<bool>,
    /// EC2 has said, when it could have been shown it, that it is not here: it takes no position, whatever the metadata still show.
    pub(crate) left: bool,
    /// Since when it is known.
    pub(crate) since: Time,
}

impl Other {
    /// Whether it has gone: EC2, which could have shown it by now, does not; where EC2 may not be asked, the metadata do not.
    pub(crate) fn has_gone(&self, now: Time, may_ask: bool) -> bool {
        let settled = now.since(self.since) >= Agent::FRESH;
        settled && if may_ask { self.told == Some(false) } else { !self.shown }
    }
}

impl Agent {
    /// Begins with what settings, metadata, EC2 and the checkpoint say; hands out the first effects.
    #[must_use]
    pub fn start(now: Time, config: Config, facts: NodeFacts, checkpoint: &Checkpoint) -> (Self, Vec<Effect>) {
        let primary = facts.metadata.enis.iter().find(|eni| eni.facts.is_primary());
        let home = Home {
            subnet: facts.subnet,
            net: primary.map(|eni| eni.facts.subnet),
            vpc: facts.vpc,
            zone: facts.zone,
            groups: facts.metadata.groups.clone(),
        };
        let mut agent = Self {
            pool: Pool::default(),
            vpc_cidrs: facts.vpc_cidrs,
            others: BTreeMap::new(),
            cloud: Cloud::new(now, config.nonce ^ seed_of(&facts.instance)),
            places: Places::new(config.placing.clone(), home),
            recon: Recon::default(),
            node: None,
            bound: BTreeSet::new(),
            coming: BTreeSet::new(),
            turned_away: BTreeMap::new(),
            api: false,
            host: Host::new(),
            disk: Disk::new(),
            waiters: VecDeque::new(),
            suspects: BTreeSet::new(),
            by_link: BTreeMap::new(),
            given_once: BTreeSet::new(),
            begun: now,
            podless: BTreeSet::new(),
            rests: Rests::default(),
            links: Links::default(),
            orphans: Orphans::default(),
            sweep: Sweep::new(&facts.instance, config.nonce),
            terminating: false,
            said_ready: false,
            wall: facts.wall,
            origin: now,
            out: Vec::new(),
            instance: facts.instance,
            groups: facts.metadata.groups,
            config,
        };
        agent.say_what_is_lacking();
        agent.take_in_metadata(now, facts.metadata.enis, checkpoint);
        agent.recall_enis(now, &checkpoint.enis);
        agent.recall_leases(now, &checkpoint.leases);
        agent.recall_rests(now, &checkpoint.rests);
        agent.resume_giving_back(now, &checkpoint.enis);
        agent.metadata_were_read(now);
        agent.start_doubts(now);
        agent.ask_about_node();
        agent.ask_for_limits();
        agent.look_around_later(now);
        agent.touch_disk();
        agent.settle(now);
        let effects = std::mem::take(&mut agent.out);
        (agent, effects)
    }

    /// Takes in one fact; hands out what should now happen.
    #[must_use]
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Effect> {
        let written = matches!(input, Input::CheckpointWritten { result: Ok(()), .. });
        match input {
            Input::Add { ticket, request } => self.add(now, ticket, request),
            Input::AddAbandoned { ticket } => self.abandon(now, ticket),
            Input::Del { ticket, key } => self.del(now, ticket, &key),
            Input::Undo { ticket, key } => self.undo(now, ticket, &key),
            Input::Status { ticket } => self.reply(ticket, Outcome::Status(Box::new(self.readiness(now)))),
            Input::Find { ticket, key } => self.find(ticket, &key),
            Input::Reported { key, pod, report } => self.say(Notice::Reported { key, pod, report }),
            Input::Collect { ticket, request } => self.collect(now, ticket, &request),
            Input::CloudDone { op, result } => self.cloud_done(now, op, result),
            Input::HostObserved { op, result } => self.host_observed(now, op, result),
            Input::HostApplied { op, result } => self.host_applied(now, op, result),
            Input::LinksRemoved { op, result } => self.links_removed(op, result),
            Input::HostChanged => {
                self.host_changed(now);
                self.read_metadata_soon(now);
            }
            Input::CheckpointWritten { generation, result } => self.checkpoint_written(now, generation, result),
            Input::VpcCidrs(cidrs) => self.vpc_cidrs_are(cidrs),
            Input::MetadataRead { op, result } => self.metadata_read(now, op, result),
            Input::Cluster(news) => self.hear_cluster(now, news),
            Input::Settings(config) => self.take_settings(*config),
            Input::FlowsFlushed { op, result } => self.flows_flushed(now, op, result),
            Input::Terminate => self.terminating = true,
            Input::Tick => {}
        }
        // That the disk has what the books say changes nothing but for those who waited for it; and whose time is over has an answer.
        let over = self.waiters.iter().any(|waiter| waiter.deadline <= now);
        if written && !over && !self.cloud.back.is_under_way() {
            self.write_checkpoint(now);
        } else {
            self.settle(now);
        }
        std::mem::take(&mut self.out)
    }

    /// Over how much the nodes of a fleet that start together spread their first look at the subnets, where nothing waits for it.
    const FIRST_LOOK_SPREAD: Millis = Millis::seconds(120);

    /// When to call [`Self::handle`] with [`Input::Tick`] if nothing happens before, and what for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(Time, Wake)> {
        let adds = self.waiters.iter().map(|waiter| (waiter.deadline, Wake::AddDeadline));
        let disk = self.disk.paused_until.map(|at| (at, Wake::RetryDue));
        let places = self.places.deadlines(self.cloud.planned_at).map(|at| (at, Wake::RetryDue));
        adds.chain(self.rests.deadlines(&self.pool))
            .chain(disk)
            .chain(places)
            .chain(self.turned_away_deadline().map(|at| (at, Wake::SurplusDue)))
            .chain(self.cloud.deadlines())
            .chain(self.recon.deadlines().filter(|_| !self.terminating))
            .chain(self.sweep.deadline().map(|at| (at, Wake::LeakSweep)))
            .chain(self.host.deadlines())
            .chain(self.suspect_deadlines().chain(self.orphans.deadlines()).filter(|_| self.host.is_ready()))
            .min()
    }

    /// The pool, for those who look.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The instance the agent works for.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        &self.instance
    }

    /// Pods that wait for an address.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Calls to EC2 that are under way or wait for their turn, which may be long in coming where many nodes share EC2's buckets.
    #[must_use]
    pub fn calls_pending(&self) -> usize {
        self.cloud.jobs().count()
    }

    /// What the node should hold, by the settings, by what EC2 has taught of the instance's limits, and by the node object.
    pub(crate) fn target(&self) -> Target {
        let mut target = self.cloud.fetch.learned.applied_to(self.config.target);
        target.max_pods = self.node.as_ref().and_then(|node| node.max_pods).or(target.max_pods);
        target
    }

    fn hear_cluster(&mut self, now: Time, news: ClusterNews) {
        match news {
            ClusterNews::Node(view) => {
                self.places.node(view.clone());
                self.node = Some(view);
                self.follow_places();
            }
            ClusterNews::Pods(pods) => self.pods_are(pods),
            ClusterNews::Nodes(count) => self.nodes_are(now, count),
            ClusterNews::Reachable(yes) => self.api = yes,
            ClusterNews::EniConfigs(configs) => {
                self.places.eni_configs(configs);
                self.follow_places();
            }
        }
    }

    /// The more nodes there are, the longer what all of them ask for takes in turn.
    fn nodes_are(&mut self, now: Time, count: u32) {
        self.cloud.pacer.nodes_are(count);
        self.look_around_later(now);
    }

    /// What a node asks once after its start and nobody waits for: spread over twice what EC2 needs for all nodes, so that half of
    /// what it gives is left for others.
    fn look_around_later(&mut self, now: Time) {
        self.look_for_strays_later(now);
        let spread = self.cloud.pacer.lap(Ec2Action::DescribeSubnets);
        let spread = Millis(spread.0 * 2);
        self.places.lap_is(spread);
        let look = now + self.cloud.pacer.jitter(spread.max(Self::FIRST_LOOK_SPREAD));
        self.places.first_look_at(look);
    }

    /// New settings hold from now on; the pool and the host move there step by step. Rests under way keep the end they were given.
    fn take_settings(&mut self, config: Config) {
        let nonce = self.config.nonce;
        let before = std::mem::replace(&mut self.config, Config { nonce, ..config });
        if before.without_prefixes != self.config.without_prefixes {
            self.say_what_is_lacking();
        }
        if self.config.manage_untagged && !before.manage_untagged {
            self.take_untagged();
        }
        self.places.settings(self.config.placing.clone());
        self.follow_places();
        self.ask_for_limits();
        self.host.is_dirty();
        self.follow_groups();
        self.ask_about_node();
    }

    fn say_what_is_lacking(&mut self) {
        if let Some(why) = self.config.without_prefixes.clone() {
            self.say(Notice::WithoutPrefixes { why });
        }
    }

    pub(crate) fn say(&mut self, notice: Notice) {
        self.out.push(Effect::Say(notice));
    }

    pub(crate) fn reply(&mut self, ticket: Ticket, outcome: Outcome) {
        self.out.push(Effect::Reply { ticket, outcome });
    }

    /// What follows from the new state, in the order that helps pods first.
    fn settle(&mut self, now: Time) {
        self.remove_links();
        self.end_rests(now);
        self.serve_waiters(now);
        self.end_overdue_calls(now);
        // First the plan: what a pod that may not wait lacks is fetched all the same, for its next sandbox.
        self.plan_pool(now);
        self.expire_waiters(now);
        self.release_steps(now);
        self.host_pass(now);
        self.look_for_strays(now);
        self.sweep_leaked(now);
        self.look_again(now);
        self.send_calls(now);
        self.read_metadata(now);
        self.write_checkpoint(now);
        self.say_ready();
    }

    fn say_ready(&mut self) {
        if self.said_ready {
            return;
        }
        let something_to_serve = self.pool.stats().ready > 0 || self.pool.held().next().is_some();
        // With custom networking a node without a single address is a node whose ENIConfig is wrong: pods should go elsewhere. Where
        // nothing is fetched before a pod asks, no pod could ask before the node is ready.
        let custom = self.config.placing.custom.is_some() && self.takes_pods();
        let heard = self.recon.heard_ec2() || !self.config.cloud.may_ask() || self.cloud.describing_failed();
        // What is half made stays so as long as the settings forbid the rest.
        let fetching = self.cloud.is_fetching() && self.config.cloud.may_change();
        let nothing_to_wait_for = heard && !fetching && !custom;
        if self.host.is_set() && (something_to_serve || nothing_to_wait_for) {
            self.said_ready = true;
            self.out.push(Effect::Ready);
        }
    }

    fn vpc_cidrs_are(&mut self, cidrs: Vec<Ipv4Net>) {
        // An empty answer is an odd answer: a VPC has at least one CIDR. Keep what is known.
        if !cidrs.is_empty() && cidrs != self.vpc_cidrs {
            self.vpc_cidrs = cidrs;
            self.host.is_dirty();
        }
    }

    fn recall_leases(&mut self, now: Time, leases: &[Lease]) {
        for lease in leases {
            let place = self.pool.locate(lease.address).map(|(eni, _)| vpc_ipam::Allocation {
                address: lease.address,
                device: eni.facts.device,
                table: eni.facts.table(),
            });
            let main = vpc_ipam::Allocation {
                address: lease.address,
                device: DeviceIndex(0),
                table: vpc_model::RouteTable::MAIN,
            };
            let held = Held {
                key: lease.key.clone(),
                pod: lease.pod.clone(),
                allocation: place.or(lease.allocation).unwrap_or(main),
                since: self.moment(now, lease.since),
            };
            match self.pool.restore(held) {
                Ok(()) => {
                    match &lease.link {
                        Some(link) => drop(self.by_link.insert(lease.key.clone(), link.clone())),
                        None => drop(self.suspects.insert(lease.key.clone())),
                    }
                    if place.is_none() {
                        self.say(Notice::Unbacked { key: lease.key.clone(), address: lease.address });
                    }
                }
                Err(error) => self.say(Notice::Disagreement { what: format!("checkpoint: {error}") }),
            }
        }
    }

    /// A calendar time as a moment. One in the future (a clock was set back) counts as now: everything rests its full time.
    pub(crate) fn moment(&self, now: Time, wall: WallTime) -> Time {
        let future = if bug!(ClockSetBackEndsRests) { Time(0) } else { now };
        self.wall.since(wall).map_or(future, |age| now - age)
    }

    pub(crate) fn calendar(&self, at: Time) -> WallTime {
        if at >= self.origin {
            self.wall + at.since(self.origin)
        } else {
            let before = i64::try_from(self.origin.since(at).0).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            WallTime(self.wall.0.saturating_sub(before))
        }
    }

    /// Whether an address belongs to a pod now.
    pub(crate) fn holds(&self, address: Ipv4Addr) -> bool {
        matches!(self.pool.use_of(address), Some(Use::Held(_)))
    }

    /// Whether an address of an ENI is in use or rests.
    pub(crate) fn busy(&self, eni: &EniId) -> bool {
        self.pool.on(eni).is_some_and(|(held, cooling)| held + cooling > 0)
    }
}

/// Different for every node: daemons that start together do not come together to EC2.
fn seed_of(instance: &InstanceId) -> u64 {
    // FNV-1a: small, and the same everywhere.
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    instance.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}
