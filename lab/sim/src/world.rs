//! The world: what happens next, and what follows from it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use lab_cloud::{ApiError, AttachedEni, CallId, Caller, Cloud, FabricEvent, Output, Setup, WorldError, WorldSpec};
use vpc_agent::{Agent, ClusterNews, Config, DoomedLink, Effect, Generation, Input, NodeFacts, OpId, Ticket, Update};
use vpc_aws::ec2::shapes::{AnyRequest, AnyResponse};
use vpc_aws::hand::{Hand, Place};
use vpc_aws::imds::NodeMetadata;
use vpc_hostnet::{HostOp, PaperHost};
use vpc_model::{InstanceId, Ipv4Net, Millis, Time, WallTime};

use crate::audit::{Changed, Ended, Fault, Owner, Record, Touched, WHOLE_EVERY, Waits};
use crate::carrier::{Flight, Moment, Sent, Trap};
use crate::coverage::{Coverage, Kind};
use crate::dice::Dice;
use crate::history::{Blind, Kill};
use crate::imds::Round;
use crate::kubelet::{Errand, PodStep};
use crate::node::{DEVICE_MTU, Death, HOST_FAILS, Kube, Node, link_of};
use crate::scene::config_for;
use crate::settled::Told;
use crate::story::{Story, Thing, Weight};
use crate::trouble::Stolen;
use crate::verbs::Attachments;

/// A node of the world, by number in the order of the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct NodeAt(pub usize);

/// Least time between two ticks, as the daemon keeps it.
pub(crate) const TICK_PAUSE: Millis = Millis(5);
/// How often the VPC's CIDRs are looked up, as the daemon does.
const CIDR_PERIOD: Millis = Millis::seconds(30);
/// What Kubernetes takes to answer.
const API_TAKES: Millis = Millis(50);
/// How long a machine takes to start again.
const BOOT: Millis = Millis::seconds(20);
/// Nanoseconds in a millisecond.
const NANOS_PER_MILLI: i64 = 1_000_000;
/// Steps without time passing after which the world counts as stuck.
const MOST_STEPS_AT_ONCE: u32 = 100_000;

/// Nodes, their cloud, and what is under way between them.
#[derive(Clone, Debug)]
pub struct World {
    /// EC2 and IMDS. Faults are injected here.
    pub cloud: Cloud,
    /// All chance of the world besides the cloud's own.
    pub dice: Dice,
    /// Every request to EC2, in order.
    pub sent: Vec<Sent>,
    /// Those of them that EC2 refused for want of a token, at the time of the answer.
    pub throttled: Vec<Sent>,
    /// What the daemons are told of the number of nodes soon after their start; `None`: Kubernetes can not be asked.
    pub node_count: Option<u32>,
    /// What was found wrong so far. A sound world has none.
    pub faults: Vec<Fault>,
    /// How often every agent's books are audited by themselves.
    pub watch: Watch,
    /// How many of the newest requests and notices (of each node) are kept at least; older ones may be dropped.
    pub keep: usize,
    /// How long a checkpoint takes to be on disk.
    pub write_takes: Millis,
    /// How long a look at or a change of the host takes.
    pub host_takes: Millis,
    /// Inputs that agents got so far, besides bare ticks.
    pub steps: u64,
    /// Which inputs came in which situations of agents.
    pub coverage: Coverage,
    /// The trouble is over: pods that are refused again and again ask less often.
    pub(crate) is_calm: bool,
    pub(crate) nodes: Vec<Node>,
    by_instance: BTreeMap<InstanceId, NodeAt>,
    pub(crate) now: Time,
    pub(crate) flights: BTreeMap<CallId, Flight>,
    pub(crate) trap: Option<Trap>,
    /// Answers to the account's own calls.
    pub(crate) account: BTreeMap<CallId, Option<Result<AnyResponse, ApiError>>>,
    /// Who was promised which address and has not given it back.
    pub(crate) owners: BTreeMap<Ipv4Addr, Owner>,
    /// When an address last lost its owner, and how long it was to rest then.
    pub(crate) ended: BTreeMap<Ipv4Addr, Ended>,
    /// Callers that wait for an answer, by the time at which they must have it.
    pub(crate) waits: Waits,
    /// Steps at which everything is looked at next.
    pub(crate) look_at: u64,
    pub(crate) tickets: u64,
    /// Addresses that somebody else took off a node's ENIs, and when: what follows is not the daemon's fault.
    pub(crate) stolen: BTreeMap<(NodeAt, Ipv4Addr), Stolen>,
    /// When the calendar last jumped ahead.
    pub(crate) jumped: Option<Time>,
    /// The calendar at `Time(0)`.
    wall: WallTime,
    /// What has happened, in words, if anybody wants to know.
    pub(crate) story: Option<Box<Story>>,
    /// By how much the nodes' calendars have jumped since, in milliseconds.
    skew: i64,
    queue: BTreeMap<(Time, u64), Event>,
    wakes: BTreeSet<(Time, usize)>,
    sequence: u64,
}

/// How often the agents' books are audited as a world goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Not by itself: [`World::look`] does it.
    Never,
    /// What can be told without walking over the pool after every step; all of an agent's books when so many steps of the world
    /// have passed (1: after every step).
    Every(u32),
}

/// Something that happens by itself.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The daemon is started.
    Start {
        node: NodeAt,
    },
    /// Metadata that were asked for have come.
    Round {
        node: NodeAt,
        life: u32,
        round: Box<Round>,
    },
    Tell {
        node: NodeAt,
        life: u32,
        input: Box<Input>,
    },
    Observe {
        node: NodeAt,
        life: u32,
        op: OpId,
    },
    Apply {
        node: NodeAt,
        life: u32,
        op: OpId,
        ops: Vec<HostOp>,
    },
    RemoveLinks {
        node: NodeAt,
        life: u32,
        op: OpId,
        links: Vec<DoomedLink>,
    },
    Write {
        node: NodeAt,
        life: u32,
        generation: Generation,
        update: Box<Update>,
    },
    /// The VPC's CIDRs are looked up.
    Cidrs {
        node: NodeAt,
        life: u32,
    },
    Send(Box<Flight>),
    /// An attempt has had its time.
    GiveUp(CallId),
    Pod {
        node: NodeAt,
        name: String,
        step: PodStep,
    },
    /// The plugin of a GC speaks to the daemon.
    Collect {
        node: NodeAt,
        valid: Attachments,
        came: Time,
    },
    /// The machine is up again.
    Booted {
        node: NodeAt,
    },
}

impl Event {
    /// Whether it is something that the daemon of that life handed to the kernel.
    fn is_deed_of(&self, owner: NodeAt, dead: u32) -> bool {
        match self {
            Self::Write { node, life, .. } | Self::Apply { node, life, .. } | Self::RemoveLinks { node, life, .. } => {
                *node == owner && *life == dead
            }
            _ => false,
        }
    }
}

impl World {
    /// A world at `Time(0)` in which no daemon runs. Its first devices are there.
    ///
    /// # Errors
    /// What EC2 would not take in the description.
    pub fn new(spec: WorldSpec, setup: Setup) -> Result<Self, WorldError> {
        let (seed, wall) = (setup.seed, setup.wall);
        let nodes = spec.instances.iter().map(|instance| Node {
            instance: instance.id.clone(),
            config: config_for(&instance.instance_type),
            instance_type: instance.instance_type.clone(),
            cluster: None,
            host: PaperHost::new(),
            disk: None,
            anchor: None,
            disk_full: false,
            host_fails: None,
            kube: Kube::default(),
            death: None,
            notices: Vec::new(),
            ready_at: None,
            conflist: false,
            exits: 0,
            shown: BTreeMap::new(),
            pods: BTreeMap::new(),
            agent: None,
            hand: None,
            told: Told::default(),
            life: 0,
            enis: BTreeMap::new(),
            errands: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            gone: VecDeque::new(),
            wirings_fail: 0,
            wake: None,
            last_tick: Time(0),
            powered: true,
            audit: Record::default(),
        });
        let nodes: Vec<Node> = nodes.collect();
        let mut world = Self {
            cloud: Cloud::new(spec, setup)?,
            // Another course than the cloud's own.
            dice: Dice::new(seed ^ 0x5157_u64.rotate_left(32)),
            sent: Vec::new(),
            throttled: Vec::new(),
            node_count: None,
            faults: Vec::new(),
            watch: Watch::Every(1),
            keep: usize::MAX,
            write_takes: Millis(1),
            host_takes: Millis(2),
            steps: 0,
            coverage: Coverage::default(),
            is_calm: false,
            by_instance: nodes.iter().enumerate().map(|(at, own)| (own.instance.clone(), NodeAt(at))).collect(),
            nodes,
            now: Time(0),
            flights: BTreeMap::new(),
            trap: None,
            account: BTreeMap::new(),
            owners: BTreeMap::new(),
            ended: BTreeMap::new(),
            waits: Waits::new(),
            look_at: u64::from(WHOLE_EVERY),
            stolen: BTreeMap::new(),
            jumped: None,
            tickets: 0,
            wall,
            story: None,
            skew: 0,
            queue: BTreeMap::new(),
            wakes: BTreeSet::new(),
            sequence: 0,
        };
        world.hear_cloud();
        Ok(world)
    }

    /// Now, since the world began.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// A node.
    #[must_use]
    pub fn node(&self, node: NodeAt) -> Option<&Node> {
        self.nodes.get(node.0)
    }

    /// A node, to change its settings for the next start, its disk or its host.
    pub fn node_mut(&mut self, node: NodeAt) -> Option<&mut Node> {
        self.nodes.get_mut(node.0)
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The calendar, as the nodes have it.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        let WallTime(nanos) = self.wall + self.now.since(Time(0));
        WallTime(nanos.saturating_add(self.skew.saturating_mul(NANOS_PER_MILLI)))
    }

    /// The nodes' calendars jump, ahead or (negative) back. Time goes on as it did.
    pub fn jump(&mut self, by_ms: i64) {
        self.skew = self.skew.saturating_add(by_ms);
        if by_ms > 0 {
            self.jumped = Some(self.now);
        }
    }

    /// A moment as the daemons count: their origin is 1970, as it is in production.
    pub(crate) fn agent_time(&self, at: Time) -> Time {
        Time(at.0 + self.epoch())
    }

    fn epoch(&self) -> u64 {
        u64::try_from(self.wall.0 / 1_000_000).unwrap_or_default()
    }

    // -- the daemon's life ---------------------------------------------------------------------------------------------

    /// Starts the daemon now.
    pub fn start(&mut self, node: NodeAt) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        // A machine that boots starts its daemon when it is up.
        if own.agent.is_some() || !own.powered {
            return;
        }
        own.life += 1;
        own.ready_at = None;
        let life = own.life;
        self.read_metadata(node, life, Round::boot(self.now));
    }

    /// kill -9: what was not on disk is gone, what was sent to EC2 goes on there, callers see their connections break.
    pub fn kill(&mut self, node: NodeAt) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let life = own.life;
        let runs = own.agent.is_some();
        own.life += 1;
        own.agent = None;
        own.hand = None;
        own.told = Told::default();
        own.ready_at = None;
        own.death = None;
        if let Some(at) = own.wake.take() {
            self.wakes.remove(&(at, node.0));
        }
        if runs {
            self.note(Some(node), Weight::Turn, || (Vec::new(), "the daemon is killed".to_owned()));
        }
        self.leave_half_done(node, life);
        self.flights.retain(|_, flight| flight.node != node);
        self.break_connections(node);
    }

    /// What the daemon had handed to the kernel when it died may have been done or not: a checkpoint is renamed into place whole or not
    /// at all, of changes of the host a part has been made.
    fn leave_half_done(&mut self, node: NodeAt, dead: u32) {
        let under_way: Vec<(Time, u64)> =
            self.queue.iter().filter(|(_, event)| event.is_deed_of(node, dead)).map(|(at, _)| *at).collect();
        for at in under_way {
            let Some(event) = self.queue.remove(&at) else { continue };
            let Some(own) = self.nodes.get_mut(node.0) else { return };
            match event {
                Event::Write { update, .. } if self.dice.chance(50) => {
                    let changed = Changed::by(&update);
                    drop(own.write(*update));
                    self.check_written(node, &changed);
                    let words = "the checkpoint that was being written is on disk all the same";
                    self.note(Some(node), Weight::Event, || (Vec::new(), words.to_owned()));
                }
                Event::Apply { ops, .. } => {
                    let done = usize::try_from(self.dice.roll(ops.len() as u64 + 1)).unwrap_or_default();
                    drop(own.apply(&ops[..done]));
                    self.check_touched(node, &Touched::by(&ops[..done]));
                }
                Event::RemoveLinks { links, .. } if self.dice.chance(50) => own.remove_links(&links),
                _ => {}
            }
        }
    }

    /// Ends the daemon of a node at its `after`th effect from now on (counted from 0), on that side of it; it is started again after
    /// `away`.
    pub fn doom(&mut self, node: NodeAt, after: u32, when: Kill, away: Millis) {
        if let Some(own) = self.nodes.get_mut(node.0).filter(|own| own.agent.is_some()) {
            own.death = Some(Death { left: after.saturating_add(1), when, away });
        }
    }

    /// Whether the daemon dies at this side of the effect at hand; it is dead then.
    pub(crate) fn dies(&mut self, node: NodeAt, when: Kill) -> bool {
        let Some(death) = self.nodes.get(node.0).and_then(|own| own.death) else { return false };
        if death.left > 0 || death.when != when {
            return false;
        }
        self.restart(node, death.away);
        true
    }

    pub(crate) fn effect_begins(&mut self, node: NodeAt) {
        if let Some(death) = self.nodes.get_mut(node.0).and_then(|own| own.death.as_mut()) {
            death.left = death.left.saturating_sub(1);
        }
    }

    /// [`World::kill`], and a new start after `away`.
    pub fn restart(&mut self, node: NodeAt, away: Millis) {
        self.kill(node);
        self.later(away, Event::Start { node });
    }

    /// The machine starts anew: no daemon, no sandbox, devices unconfigured. The disk keeps the checkpoint. The daemon is started when
    /// the machine is up again.
    pub fn reboot(&mut self, node: NodeAt) {
        // A machine that is about to come up does so once.
        if self.nodes.get(node.0).is_none_or(|own| !own.powered) {
            return;
        }
        self.kill(node);
        self.end_sandboxes(node);
        if let Some(own) = self.nodes.get_mut(node.0) {
            own.host = PaperHost::new();
            own.powered = false;
            own.anchor = None;
            own.audit.rebooted = Some(self.now);
        }
        self.later(BOOT, Event::Booted { node });
    }

    /// Tells a running agent something: news of Kubernetes, other settings, that it is to end.
    pub fn tell(&mut self, node: NodeAt, input: Input) {
        if let Input::Cluster(news) = &input
            && let Some(own) = self.nodes.get_mut(node.0).filter(|own| own.agent.is_some())
        {
            own.told.hear(news);
        }
        self.think(node, input);
    }

    /// Kubernetes' news of a node change: told now if its daemon hears the API server, and at every start.
    pub fn news(&mut self, node: NodeAt, change: impl FnOnce(&mut Kube)) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let before = own.kube.clone();
        change(&mut own.kube);
        for news in own.kube.clone().since(&before) {
            self.tell(node, Input::Cluster(news));
        }
    }

    /// What a daemon hears when it begins.
    fn tell_news(&mut self, node: NodeAt) {
        let Some(kube) = self.nodes.get(node.0).map(|own| own.kube.clone()) else { return };
        for news in kube.all() {
            self.tell(node, Input::Cluster(news));
        }
    }

    /// Changes the settings, now (if the daemon runs) and for later starts.
    pub fn set(&mut self, node: NodeAt, change: impl FnOnce(&mut Config)) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        change(&mut own.config);
        let config = own.config.clone();
        self.rests_are_set(node);
        self.think(node, Input::Settings(Box::new(config)));
    }

    /// The metadata are read: the agent begins.
    pub(crate) fn begin(&mut self, node: NodeAt, metadata: NodeMetadata, facts: NodeFacts) {
        let (now, wall) = (self.agent_time(self.now), self.wall());
        let life_nonce = u64::try_from(wall.0).unwrap_or_default();
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        own.config.nonce = life_nonce ^ u64::from(own.life);
        own.config.tags = vpc_aws::hand::tags(&own.instance, own.cluster.as_deref(), &BTreeMap::new());
        own.hand = Some(Hand::new(Place {
            instance: metadata.instance_id,
            mac: metadata.mac,
            vpc: metadata.vpc_id,
            zone: metadata.availability_zone,
            instance_type: metadata.instance_type,
            cluster: own.cluster.clone(),
            tags: own.config.tags.clone(),
        }));
        if own.audit.disk_lost {
            own.disk = None;
        }
        own.audit.begin(self.now, own.disk.is_none() && own.life > 1);
        own.follow_calendar(self.skew);
        self.rests_begin_anew(node);
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let disk = own.disk.clone().unwrap_or_default();
        let (leases, enis) = (disk.leases.len(), disk.enis.len());
        let (agent, effects) = Agent::start(now, own.config.clone(), facts, &disk);
        own.agent = Some(agent);
        let life = own.life;
        let notes: Vec<_> = std::mem::take(&mut own.tombstones).into_iter().collect();
        self.note(Some(node), Weight::Turn, || {
            (Vec::new(), format!("the daemon begins; its checkpoint has {leases} leases and {enis} ENIs"))
        });
        self.carry_out(node, life, effects);
        self.set_wake(node);
        self.tell_news(node);
        for key in notes {
            // A note goes only when its DEL has been answered.
            let ticket = self.ticket();
            self.note_errand(node, ticket, Errand::Idle { key: key.clone(), has: None });
            self.think(node, Input::Del { ticket, key });
        }
        self.later(CIDR_PERIOD, Event::Cidrs { node, life });
        if let Some(count) = self.node_count {
            let input = Box::new(Input::Cluster(ClusterNews::Nodes(count)));
            self.later(API_TAKES, Event::Tell { node, life, input });
        }
    }

    // -- time ----------------------------------------------------------------------------------------------------------

    /// When something will next happen; `None`: never.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let own = self.queue.keys().next().map(|(at, _)| *at);
        let wake = self.wakes.first().map(|(at, _)| *at);
        [own, wake, self.cloud.next_due()].into_iter().flatten().min().map(|at| at.max(self.now))
    }

    /// Lets the next thing happen; false if there is none, or none until `end`.
    pub fn step(&mut self, end: Time) -> bool {
        let Some(at) = self.next_due().filter(|at| *at <= end) else { return false };
        self.now = at;
        self.check_waits();
        if self.cloud.next_due().is_some_and(|due| due <= at) {
            self.hear_cloud();
        } else if let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= at) {
            let event = entry.remove();
            self.happen(event);
        } else if let Some((_, node)) = self.wakes.pop_first() {
            let node = NodeAt(node);
            if let Some(own) = self.nodes.get_mut(node.0) {
                own.wake = None;
                own.last_tick = at;
            }
            self.think(node, Input::Tick);
        }
        self.look_in_time();
        true
    }

    /// Lets time pass: everything due happens, in order.
    pub fn run_for(&mut self, span: Millis) {
        let end = self.now + span;
        self.run_until(end, |_| false);
        self.now = self.now.max(end);
    }

    /// Lets time pass until `done`, at most until `end`. Says whether it came to be.
    pub fn run_until(&mut self, end: Time, done: impl Fn(&Self) -> bool) -> bool {
        let (mut at, mut steps) = (self.now, 0);
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return false;
            }
            steps = if self.now == at { steps + 1 } else { 0 };
            at = self.now;
            if steps > MOST_STEPS_AT_ONCE {
                self.faults.push(Fault::Stuck { at });
                return false;
            }
        }
    }

    pub(crate) fn later(&mut self, span: Millis, event: Event) {
        self.queue.insert((self.now + span, self.sequence), event);
        self.sequence += 1;
    }

    pub(crate) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    // -- what follows --------------------------------------------------------------------------------------------------

    fn happen(&mut self, event: Event) {
        let lives = |world: &Self, node: NodeAt, life: u32| world.nodes.get(node.0).is_some_and(|own| own.life == life);
        match event {
            Event::Start { node } => self.start(node),
            Event::Round { node, life, round } if lives(self, node, life) => self.round_done(node, life, *round),
            Event::Tell { node, life, input } if lives(self, node, life) => self.think(node, *input),
            Event::Observe { node, life, op } if lives(self, node, life) => {
                let Some(own) = self.nodes.get(node.0) else { return };
                let unseen = own.host_fails == Some(Blind::Whole);
                let result = if unseen { Err(HOST_FAILS.to_owned()) } else { Ok(own.host.observe()) };
                if !self.dies(node, Kill::Done) {
                    self.think(node, Input::HostObserved { op, result });
                }
            }
            Event::Apply { node, life, op, ops } if lives(self, node, life) => {
                let Some(own) = self.nodes.get_mut(node.0) else { return };
                let result = own.apply(&ops);
                self.check_touched(node, &Touched::by(&ops));
                if !self.dies(node, Kill::Done) {
                    self.think(node, Input::HostApplied { op, result });
                }
            }
            Event::RemoveLinks { node, life, op, links } if lives(self, node, life) => {
                let Some(own) = self.nodes.get_mut(node.0) else { return };
                own.remove_links(&links);
                if !self.dies(node, Kill::Done) {
                    self.think(node, Input::LinksRemoved { op, result: Ok(()) });
                }
            }
            Event::Write { node, life, generation, update } if lives(self, node, life) => {
                let Some(own) = self.nodes.get_mut(node.0) else { return };
                let changed = Changed::by(&update);
                let result = own.write(*update);
                self.check_written(node, &changed);
                if !self.dies(node, Kill::Done) {
                    self.think(node, Input::CheckpointWritten { generation, result });
                }
            }
            Event::Cidrs { node, life } if lives(self, node, life) => {
                self.read_metadata(node, life, Round::cidrs(self.now));
                self.later(CIDR_PERIOD, Event::Cidrs { node, life });
            }
            Event::Send(flight) if lives(self, flight.node, flight.life) => self.send(*flight),
            Event::GiveUp(call) => self.give_up(call),
            Event::Pod { node, name, step } => self.pod_step(node, &name, step),
            Event::Collect { node, valid, came } => self.gc_arrives(node, valid, came),
            Event::Booted { node } => {
                if let Some(own) = self.nodes.get_mut(node.0) {
                    own.powered = true;
                }
                self.boot_host(node);
                self.start(node);
            }
            Event::Round { .. }
            | Event::Tell { .. }
            | Event::Observe { .. }
            | Event::Apply { .. }
            | Event::RemoveLinks { .. }
            | Event::Write { .. }
            | Event::Cidrs { .. }
            | Event::Send(_) => {}
        }
    }

    /// The agent takes in one fact, and everything it then wants is begun.
    pub(crate) fn think(&mut self, node: NodeAt, input: Input) {
        self.take_note(node, &input);
        self.note_input(node, &input);
        let now = self.agent_time(self.now);
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let life = own.life;
        let Some(agent) = &mut own.agent else { return };
        self.steps += u64::from(!matches!(input, Input::Tick));
        self.coverage.hit(agent.situation(now), Kind::of(&input, agent));
        let effects = agent.handle(now, input);
        let found = match self.watch {
            Watch::Never => Vec::new(),
            Watch::Every(steps) if self.steps.is_multiple_of(u64::from(steps.max(1))) => agent.audit(now),
            Watch::Every(_) => agent.audit_promises(now),
        };
        self.faults.extend(found.into_iter().map(|fault| Fault::Agent { node, fault }));
        self.carry_out(node, life, effects);
        self.set_wake(node);
    }

    fn set_wake(&mut self, node: NodeAt) {
        let epoch = self.epoch();
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let deadline = own.agent.as_ref().and_then(Agent::next_deadline);
        let wake = deadline.map(|(at, _)| Time(at.0.saturating_sub(epoch)).max(own.last_tick + TICK_PAUSE));
        if wake != own.wake {
            if let Some(old) = std::mem::replace(&mut own.wake, wake) {
                self.wakes.remove(&(old, node.0));
            }
            self.wakes.extend(wake.map(|at| (at, node.0)));
        }
    }

    fn carry_out(&mut self, node: NodeAt, life: u32, effects: Vec<Effect>) {
        let tell = |input| Event::Tell { node, life, input: Box::new(input) };
        for effect in effects {
            // A trap may have ended the daemon in the middle of its wishes.
            if self.nodes.get(node.0).is_none_or(|own| own.life != life) {
                return;
            }
            self.effect_begins(node);
            if self.dies(node, Kill::Before) {
                return;
            }
            self.note_effect(node, &effect);
            match effect {
                Effect::Reply { ticket, outcome } => self.replied(node, ticket, outcome),
                Effect::Cloud { op, call } => self.begin_call(node, life, op, call),
                Effect::ReadMetadata { op } => self.read_metadata(node, life, Round::enis(self.now, op)),
                Effect::FlushFlows { op, .. } => {
                    self.later(self.host_takes, tell(Input::FlowsFlushed { op, result: Ok(()) }));
                }
                Effect::RemoveLinks { op, links } => {
                    self.later(self.host_takes, Event::RemoveLinks { node, life, op, links });
                }
                Effect::ObserveHost { op } => self.later(self.host_takes, Event::Observe { node, life, op }),
                Effect::ApplyHost { op, ops } => self.later(self.host_takes, Event::Apply { node, life, op, ops }),
                Effect::WriteCheckpoint { generation, update } => {
                    let update = Box::new(update);
                    self.later(self.write_takes, Event::Write { node, life, generation, update });
                }
                Effect::Ready => {
                    let now = self.now;
                    if let Some(own) = self.nodes.get_mut(node.0) {
                        own.conflist = true;
                        if own.ready_at.replace(now).is_some() {
                            self.faults.push(Fault::ReadyTwice { node });
                        }
                    }
                }
                Effect::Say(notice) => {
                    let now = self.now;
                    if let Some(own) = self.nodes.get_mut(node.0) {
                        own.audit.hear(now, &notice);
                        own.notices.push((now, notice));
                        keep_newest(&mut own.notices, self.keep);
                    }
                }
            }
            if self.dies(node, Kill::Begun) {
                return;
            }
        }
    }

    /// Answers of EC2, and what the guests see of the fabric.
    pub(crate) fn hear_cloud(&mut self) {
        for output in self.cloud.advance(self.now) {
            match output {
                Output::Answer { call, result, .. } => self.answered(call, Some(result)),
                Output::Lost { call, .. } => self.answered(call, None),
                Output::Fabric(event) => self.fabric(event),
            }
        }
    }

    fn fabric(&mut self, event: FabricEvent) {
        match event {
            FabricEvent::InstanceStarted { instance, enis } => {
                let Some(node) = self.node_of(&instance) else { return };
                if let Some(own) = self.nodes.get_mut(node.0) {
                    own.enis = enis.into_iter().map(|eni| (eni.id.clone(), eni)).collect();
                }
                self.boot_host(node);
            }
            FabricEvent::EniAttached { instance, eni } => {
                let Some(node) = self.node_of(&instance) else { return };
                self.device_appears(node, &eni);
                self.note_moved(node);
                let attached =
                    || (vec![Thing::Eni(eni.id.clone())], format!("{} is attached at {}", eni.id, eni.device));
                self.note(Some(node), Weight::Event, attached);
                drop(self.take_in(node, eni));
                self.think(node, Input::HostChanged);
            }
            FabricEvent::EniChanged { instance, eni } => {
                let Some(node) = self.node_of(&instance) else { return };
                self.note_changed(node, &eni);
                let before = self.take_in(node, eni);
                self.check_backing(node, before.as_ref());
            }
            FabricEvent::EniDetached { instance, eni, .. } => {
                let Some(node) = self.node_of(&instance) else { return };
                self.note(Some(node), Weight::Event, || (vec![Thing::Eni(eni.clone())], format!("{eni} is detached")));
                let Some(own) = self.nodes.get_mut(node.0) else { return };
                own.audit.moved = Some(self.now);
                let before = own.enis.remove(&eni);
                if let Some(link) = before.as_ref().and_then(link_of) {
                    own.host.detach(&link);
                }
                self.check_backing(node, before.as_ref());
                self.think(node, Input::HostChanged);
            }
            FabricEvent::InstanceStopped { .. }
            | FabricEvent::InstanceTerminated { .. }
            | FabricEvent::Network(_)
            | FabricEvent::InstanceLaunched(_)
            | FabricEvent::PublicMappingChanged { .. } => {}
        }
    }

    fn device_appears(&mut self, node: NodeAt, eni: &AttachedEni) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let Some(link) = link_of(eni) else { return };
        if let Err(refusal) = own.host.attach(&link, eni.mac, DEVICE_MTU) {
            self.faults.push(Fault::Host { node, refusal });
        }
    }

    /// The guest has the ENI so from now on; says how it had it before.
    fn take_in(&mut self, node: NodeAt, eni: AttachedEni) -> Option<AttachedEni> {
        // What somebody took and EC2 gave again is as good as any other; where it comes to another ENI, the daemon has to notice that.
        let back = |address: &Ipv4Addr, stolen: &Stolen| eni.addresses.holds(*address) && stolen.off == eni.id;
        self.stolen.retain(|(from, address), stolen| *from != node || !back(address, stolen));
        self.nodes.get_mut(node.0)?.enis.insert(eni.id.clone(), eni)
    }

    fn boot_host(&mut self, node: NodeAt) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let primary = own.enis.values().find(|eni| eni.device.0 == 0 && eni.card.0 == 0);
        let subnet = primary.and_then(|eni| self.cloud.spec().subnet(&eni.subnet));
        let network: Option<Ipv4Net> = subnet.map(|subnet| subnet.cidr.net());
        if let Err(refusal) = own.boot_host(network) {
            self.faults.push(Fault::Host { node, refusal });
        }
    }

    fn node_of(&self, instance: &InstanceId) -> Option<NodeAt> {
        self.by_instance.get(instance).copied()
    }

    /// Somebody with the account's own key asks EC2; time passes until the answer. `None`: it is not answered.
    pub fn as_account(&mut self, request: AnyRequest) -> Option<Result<AnyResponse, ApiError>> {
        let call = self.cloud.submit(self.now, &Caller::Account, request);
        self.account.insert(call, None);
        self.run_until(Time(u64::MAX), |world| world.account.get(&call).is_none_or(Option::is_some));
        self.account.remove(&call).flatten()
    }

    /// Ends the daemon of `node` at the `nth` request to EC2 from now on (counted from 0).
    pub fn arm(&mut self, node: NodeAt, nth: usize, moment: Moment) {
        self.trap = Some(Trap { node, left: nth, moment });
    }

    /// Whether the trap has closed.
    #[must_use]
    pub fn trap_closed(&self) -> bool {
        self.trap.is_none()
    }

    pub(crate) fn caller(&self, node: NodeAt) -> Caller {
        self.nodes.get(node.0).map_or(Caller::Account, |own| Caller::Instance(own.instance.clone()))
    }
}

/// Drops the older half of a list that has grown to twice what is to be kept: seldom, so that it costs little.
pub(crate) fn keep_newest<T>(list: &mut Vec<T>, keep: usize) {
    if list.len() / 2 > keep {
        list.drain(..list.len() - keep);
    }
}
