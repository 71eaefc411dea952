//! A node on paper: the real agent, a cloud made of maps, a host made of maps, a disk that is a variable, and made-up time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

mod cloud;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use vpc_agent::{
    AddReply, AddRequest, Agent, Checkpoint, CloudCall, CloudUse, Config, DelReply, Effect, EniKind, EniTruth, Input,
    Metadata, NodeFacts, Notice, Outcome, Placing, Refusal, SeenEni, Ticket,
};
use vpc_hostnet::{HostSettings, LinkAlias, PaperEnd, PaperHost, PaperPath, PaperTurn, PodWiring, unwiring, wiring};
use vpc_ipam::{EniFacts, Target, Unit, WarmTarget};
use vpc_model::{
    CardIndex, DeviceIndex, EniId, Mac, Millis, PodRef, RouteTable, SandboxKey, SecurityGroupId, Slot, SubnetId, Time,
    VethPrefix, WallTime, host_veth,
};

#[allow(unused_imports)]
pub use cloud::{CREATED_AT_TAG, CloudEni, Fault, INSTANCE_TAG, PaperSubnet, kind_of, wall};

pub const T0: Time = Time(1_700_000_000_000);

pub struct World {
    pub now: Time,
    pub agent: Agent,
    pub host: PaperHost,
    pub enis: BTreeMap<EniId, CloudEni>,
    pub subnets: BTreeMap<SubnetId, PaperSubnet>,
    /// ENIs the instance may have, and positions of each, whatever the settings say.
    pub eni_limit: usize,
    pub slot_limit: usize,
    /// What EC2 says of the instance type; `None` = it may not be asked.
    pub limits: Option<(u32, u32, bool)>,
    /// Pods that are wired and were not asked to end, with their addresses.
    pub living: BTreeMap<String, Ipv4Addr>,
    /// The daemon dies at the effect of this number (counted from 1): before it is carried out, or right after.
    pub dies_at: Option<(usize, bool)>,
    /// Calls, changes of the host and checkpoints so far.
    pub effects: usize,
    pub dead: bool,
    /// When ENIs were made, as their tags say.
    pub created: BTreeMap<EniId, WallTime>,
    pub disk: Option<Checkpoint>,
    pub disk_broken: bool,
    pub config: Config,
    pub calls: Vec<CloudCall>,
    pub notices: Vec<Notice>,
    pub ready_at: Option<Time>,
    pub answers: BTreeMap<Ticket, (Time, Outcome)>,
    pub faults: VecDeque<(&'static str, Fault)>,
    pub call_takes: Millis,
    pub link_takes: Millis,
    pub write_takes: Millis,
    pub look_takes: Millis,
    pub restarts: u32,
    /// What the kernel was told to forget, and when.
    pub flushes: Vec<(Time, Vec<Ipv4Addr>)>,
    /// The kernel does not forget.
    pub flush_fails: bool,
    /// `None`: it never answers.
    pub flush_takes: Option<Millis>,
    /// Groups of links that were removed, and when.
    pub removed_links: Vec<(Time, Vec<vpc_model::LinkName>)>,
    /// How long the kernel takes for a group.
    pub unlink_takes: Millis,
    /// It says that it could not remove them.
    pub links_stay: bool,
    /// The host can not be looked at.
    pub host_broken: bool,
    /// How far the calendar is off the true time, in milliseconds.
    pub calendar_off: i64,
    /// Security groups of the primary ENI, as the metadata show them.
    pub groups: Vec<SecurityGroupId>,
    /// What the metadata do not show.
    pub unshown: BTreeSet<Slot>,
    /// What the metadata show on the primary ENI although it is not there.
    pub ghosts: BTreeSet<Slot>,
    /// ENIs that the metadata show although they are not here.
    pub ghost_enis: Vec<SeenEni>,
    /// ENIs that the metadata do not show although they are here.
    pub hidden_enis: BTreeSet<EniId>,
    /// Links that will appear on the host.
    links_due: Vec<(Time, Mac, DeviceIndex)>,
    queue: Vec<(Time, u64, Input)>,
    seq: u64,
    next_ticket: u64,
    /// ENIs made so far.
    made: u16,
}

pub fn config(warm: u32, max_enis: u32) -> Config {
    Config {
        target: Target {
            unit: Unit::Address,
            warm: WarmTarget::Enis(warm),
            max_enis,
            slots_per_eni: 9,
            max_pods: None,
            cool_down: Millis::seconds(30),
            min_eni_age: Millis::seconds(60),
            release_every: Millis::seconds(30),
        },
        limits_known: true,
        without_prefixes: None,
        host: HostSettings::default(),
        add_wait: Millis::seconds(15),
        nonce: 7,
        audit_every: Millis::seconds(60),
        orphan_age: Millis::seconds(65),
        strays_after: Millis::seconds(60),
        cloud: CloudUse::Full,
        placing: Placing { custom: None, discovery: false, cluster: None },
        manage_untagged: true,
        tags: BTreeMap::new(),
        leaked_cleanup: false,
        manage_non_schedulable: false,
        look_ahead: false,
    }
}

pub fn key(pod: &str) -> SandboxKey {
    SandboxKey { network: "aws-cni".into(), container: format!("c-{pod}"), interface: "eth0".into() }
}

pub fn pod(name: &str) -> PodRef {
    PodRef { namespace: "default".into(), name: name.into() }
}

fn primary() -> EniTruth {
    EniTruth {
        id: "eni-primary".parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, 0]),
        primary: "10.20.11.162".parse().unwrap(),
        slots: vec![],
        attachment: Some(("eni-attach-0".parse().unwrap(), CardIndex(0), DeviceIndex(0))),
        available: false,
        kind: EniKind::Ordinary,
        subnet: "subnet-1".parse().unwrap(),
        groups: vec![],
        tags: BTreeMap::new(),
        delete_on_termination: Some(true),
    }
}

impl World {
    pub fn new(config: Config) -> Self {
        Self::with(config, 1000)
    }

    pub fn with(config: Config, free_addresses: u32) -> Self {
        Self::in_cloud(config, vec![PaperSubnet::home(free_addresses)], |_| {})
    }

    /// A node whose VPC has these subnets; home is among them.
    pub fn among(config: Config, subnets: Vec<PaperSubnet>) -> Self {
        Self::in_cloud(config, subnets, |_| {})
    }

    /// The same, in a cloud that is so from its first call on.
    pub fn in_cloud(config: Config, subnets: Vec<PaperSubnet>, so: impl FnOnce(&mut Self)) -> Self {
        let subnets = subnets.into_iter().map(|subnet| (subnet.truth.id.clone(), subnet)).collect();
        let first = primary();
        let eth0 = "eth0".parse().unwrap();
        let gateway = "10.20.8.1".parse().unwrap();
        let host = PaperHost::booted(&eth0, first.mac, "10.20.11.162/22".parse().unwrap(), gateway).unwrap();
        let id = first.id.clone();
        let primary = CloudEni { truth: first, token: None, delete_on_termination: true };
        let (agent, effects) =
            Agent::start(T0, config.clone(), facts(&subnets, std::iter::once(&primary), T0), &Checkpoint::default());
        let mut world = Self {
            now: T0,
            agent,
            host,
            enis: BTreeMap::from([(id, primary)]),
            subnets,
            eni_limit: 100,
            slot_limit: config.target.slots_per_eni as usize,
            limits: None,
            living: BTreeMap::new(),
            dies_at: None,
            effects: 0,
            dead: false,
            created: BTreeMap::new(),
            disk: None,
            disk_broken: false,
            config,
            calls: vec![],
            notices: vec![],
            ready_at: None,
            answers: BTreeMap::new(),
            faults: VecDeque::new(),
            call_takes: Millis(400),
            link_takes: Millis(900),
            write_takes: Millis(1),
            look_takes: Millis(1),
            restarts: 0,
            flushes: vec![],
            flush_fails: false,
            flush_takes: Some(Millis(1)),
            removed_links: Vec::new(),
            unlink_takes: Millis(20),
            links_stay: false,
            host_broken: false,
            calendar_off: 0,
            groups: vec![],
            unshown: BTreeSet::new(),
            ghosts: BTreeSet::new(),
            ghost_enis: Vec::new(),
            hidden_enis: BTreeSet::new(),
            links_due: vec![],
            queue: vec![],
            seq: 0,
            next_ticket: 0,
            made: 0,
        };
        so(&mut world);
        world.carry_out(effects);
        world
    }

    /// A node that has been up for a while and is at its target.
    pub fn settled(config: Config) -> Self {
        let mut world = Self::new(config);
        world.run_for(Millis::seconds(10));
        world
    }

    /// kill -9: whatever was not on disk is gone; then a new start, possibly later.
    pub fn restart(&mut self, after: Millis) {
        self.now = self.now + after;
        self.restarts += 1;
        self.queue.clear();
        (self.dead, self.dies_at) = (false, None);
        let mut facts = facts(&self.subnets, self.enis.values(), self.now);
        facts.metadata = self.metadata();
        facts.wall.0 += self.calendar_off * 1_000_000;
        let disk = self.disk.clone().unwrap_or_default();
        self.config.nonce += 1;
        let config = self.config.clone();
        let (agent, effects) = Agent::start(self.now, config, facts, &disk);
        self.agent = agent;
        self.ready_at = None;
        self.carry_out(effects);
    }

    pub fn add(&mut self, name: &str) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tell(Input::Add { ticket, request: AddRequest { key: key(name), pod: pod(name) } });
        ticket
    }

    pub fn del(&mut self, name: &str) -> Ticket {
        // From here on the pod has no claim to its address.
        self.living.remove(name);
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tell(Input::Del { ticket, key: key(name) });
        ticket
    }

    /// ADD as a plugin does it: asks, then wires.
    pub fn start_pod(&mut self, name: &str) -> AddReply {
        let ticket = self.add(name);
        self.run_for(Millis(self.config.add_wait.0 + 1));
        let reply = self.added(ticket);
        self.wire(name, &reply);
        reply
    }

    pub fn wire(&mut self, name: &str, reply: &AddReply) {
        self.wire_as(&key(name), name, reply.allocation.address, reply.allocation.table);
    }

    /// What a plugin does for a sandbox of a pod.
    pub fn wire_as(&mut self, sandbox: &SandboxKey, name: &str, address: Ipv4Addr, table: RouteTable) {
        let wired = wiring(&PodWiring {
            address,
            table,
            host_link: host_veth(&VethPrefix::default(), &pod(name)),
            pod_link: "eth0".parse().unwrap(),
            host_mac: Mac([0x0a, 1, 2, 3, 4, 5]),
            pod_mac: Mac([0x0a, 1, 2, 3, 4, 6]),
            mtu: 9001,
            alias: LinkAlias::of(sandbox, &pod(name)).to_string(),
            layout: self.config.host.layout,
        });
        // As the kernel has it: sandboxes by container, whatever the pod's name.
        let behind = if *sandbox == key(name) { name } else { &sandbox.container };
        self.host.wire(behind, &wired).unwrap();
        self.living.insert(behind.to_owned(), address);
    }

    /// DEL as a plugin does it, and the end of the sandbox.
    pub fn stop_pod(&mut self, name: &str) {
        let ticket = self.del(name);
        self.run_for(Millis::seconds(1));
        if let Outcome::Deleted(DelReply::Released(a)) = self.answers[&ticket].1.clone() {
            for op in unwiring(self.config.host.layout, a.address, a.table) {
                self.host.apply(&op).unwrap();
            }
        }
        self.sandbox_ends(name);
    }

    pub fn sandbox_ends(&mut self, name: &str) {
        self.host.remove_sandbox(name);
        self.living.remove(name);
    }

    /// By which link a packet of a pod leaves.
    pub fn leaves_by(&self, name: &str, to: &str) -> String {
        match self.host.egress(name, to.parse().unwrap(), PaperTurn::Opens) {
            Ok(PaperPath { end: PaperEnd::Out { link, .. }, .. }) => link.to_string(),
            other => format!("{other:?}"),
        }
    }

    /// Whether a packet from elsewhere in the VPC, arriving by `link`, reaches the pod.
    pub fn reaches(&self, link: &str, name: &str, to: Ipv4Addr) -> bool {
        let path = self.host.routed(&link.parse().unwrap(), "10.20.30.40".parse().unwrap(), to);
        matches!(path, Ok(PaperPath { end: PaperEnd::Pod { sandbox, .. }, .. }) if sandbox == name)
    }

    pub fn added(&self, ticket: Ticket) -> AddReply {
        match self.answers.get(&ticket) {
            Some((_, Outcome::Added(reply))) => reply.clone(),
            other => panic!("ADD {ticket:?} was answered {other:?}; notices: {:#?}", self.notices),
        }
    }

    pub fn refused(&self, ticket: Ticket) -> Refusal {
        match self.answers.get(&ticket) {
            Some((_, Outcome::Refused(refusal))) => refusal.clone(),
            other => panic!("ADD {ticket:?} was answered {other:?}"),
        }
    }

    pub fn waited(&self, ticket: Ticket, since: Time) -> Millis {
        self.answers[&ticket].0.since(since)
    }

    pub fn calls_of(&self, kind: &str) -> usize {
        self.calls.iter().filter(|call| kind_of(call) == kind).count()
    }

    pub fn tell(&mut self, input: Input) {
        if self.dead {
            return;
        }
        let effects = self.agent.handle(self.now, input);
        self.carry_out(effects);
        assert_eq!(self.agent.audit(self.now), vec![], "at {:?}", self.now);
    }

    /// Lets time pass: everything due happens, in order.
    pub fn run_for(&mut self, span: Millis) {
        let end = self.now + span;
        for step in 0.. {
            assert!(step < 100_000, "the world does not come to rest: next {:?}", self.agent.next_deadline());
            let input =
                self.queue.iter().enumerate().min_by_key(|(_, (at, seq, _))| (*at, *seq)).map(|(i, e)| (i, e.0));
            let link = self.links_due.iter().map(|(at, ..)| *at).min();
            let deadline = self.agent.next_deadline().map(|(at, _)| at.max(self.now));
            let next = [input.map(|(_, at)| at), link, deadline].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if self.dead {
                break;
            }
            if link == Some(next) {
                let at = self.links_due.iter().position(|(at, ..)| *at == next).unwrap();
                let (_, mac, device) = self.links_due.remove(at);
                self.host.attach(&format!("eth{}", device.0).parse().unwrap(), mac, 1500).unwrap();
                self.tell(Input::HostChanged);
            } else if let Some((i, at)) = input
                && at == next
            {
                let (_, _, input) = self.queue.remove(i);
                self.tell(input);
            } else {
                self.tell(Input::Tick);
            }
        }
        self.now = end;
    }

    /// The link of an ENI that the test has attached appears.
    pub fn plug(&mut self, device: u8) {
        let mac = self
            .enis
            .values()
            .map(|eni| &eni.truth)
            .find(|truth| truth.attachment.as_ref().is_some_and(|(_, _, position)| position.0 == device));
        let mac = mac.unwrap().mac;
        self.host.attach(&format!("eth{device}").parse().unwrap(), mac, 1500).unwrap();
    }

    /// The metadata as they are now.
    pub fn metadata(&self) -> Metadata {
        let mut metadata = facts(&self.subnets, self.enis.values(), self.now).metadata;
        metadata.groups.clone_from(&self.groups);
        for eni in &mut metadata.enis {
            eni.slots.retain(|slot| !self.unshown.contains(slot));
        }
        metadata.enis[0].slots.extend(&self.ghosts);
        metadata.enis.retain(|eni| !self.hidden_enis.contains(&eni.facts.id));
        metadata.enis.extend(self.ghost_enis.iter().cloned());
        metadata
    }

    fn later(&mut self, span: Millis, input: Input) {
        self.seq += 1;
        self.queue.push((self.now + span, self.seq, input));
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let counts =
                matches!(effect, Effect::Cloud { .. } | Effect::ApplyHost { .. } | Effect::WriteCheckpoint { .. });
            self.effects += usize::from(counts);
            let last = self.dies_at.filter(|(at, _)| counts && *at == self.effects);
            if self.dead || last.is_some_and(|(_, after)| !after) {
                self.dead = true;
                return;
            }
            self.dead = last.is_some();
            match effect {
                Effect::Reply { ticket, outcome } => {
                    if let Outcome::Added(reply) = &outcome {
                        let on_disk = self.disk.iter().flat_map(|disk| &disk.leases);
                        let recorded = on_disk.into_iter().any(|lease| lease.address == reply.allocation.address);
                        assert!(recorded, "{} was promised before it was on disk", reply.allocation.address);
                    }
                    let before = self.answers.insert(ticket, (self.now, outcome));
                    assert!(before.is_none(), "{ticket:?} was answered twice");
                }
                Effect::Cloud { op, call } => {
                    self.calls.push(call.clone());
                    let result = self.cloud(&call);
                    self.later(self.call_takes, Input::CloudDone { op, result });
                }
                Effect::ReadMetadata { op } => {
                    let metadata = self.metadata();
                    self.later(Millis(10), Input::MetadataRead { op, result: Ok(metadata) });
                }
                Effect::FlushFlows { op, addresses } => {
                    let result = if self.flush_fails { Err("EPERM".to_owned()) } else { Ok(()) };
                    self.flushes.push((self.now, addresses));
                    if let Some(span) = self.flush_takes {
                        self.later(span, Input::FlowsFlushed { op, result });
                    }
                }
                Effect::RemoveLinks { op, links } => {
                    for doomed in links.iter().filter(|_| !self.links_stay) {
                        self.host.remove_link_of(&doomed.link, &doomed.owner.to_string());
                    }
                    self.removed_links.push((self.now, links.into_iter().map(|doomed| doomed.link).collect()));
                    let result = if self.links_stay { Err("EBUSY".to_owned()) } else { Ok(()) };
                    self.later(self.unlink_takes, Input::LinksRemoved { op, result });
                }
                Effect::ObserveHost { op } => {
                    let state = if self.host_broken { Err("EPERM".to_owned()) } else { Ok(self.host.observe()) };
                    self.later(self.look_takes, Input::HostObserved { op, result: state });
                }
                Effect::ApplyHost { op, ops } => {
                    let result = ops.iter().try_for_each(|op| self.host.apply(op)).map_err(|e| e.to_string());
                    self.later(Millis(1), Input::HostApplied { op, result });
                }
                Effect::WriteCheckpoint { generation, update } => {
                    let result = if self.disk_broken {
                        Err("no space left on device".to_owned())
                    } else {
                        let disk = self.disk.get_or_insert_default();
                        disk.update(update);
                        assert_eq!(*disk, self.agent.checkpoint(), "what was written step by step is not the whole");
                        Ok(())
                    };
                    self.later(self.write_takes, Input::CheckpointWritten { generation, result });
                }
                Effect::Ready => {
                    assert!(self.ready_at.replace(self.now).is_none(), "ready twice");
                }
                Effect::Say(notice) => self.notices.push(notice),
            }
        }
    }
}

fn facts<'a>(
    subnets: &BTreeMap<SubnetId, PaperSubnet>,
    enis: impl Iterator<Item = &'a CloudEni>,
    now: Time,
) -> NodeFacts {
    let observed = enis.filter_map(|eni| {
        let (_, card, device) = eni.truth.attachment.clone()?;
        let facts = EniFacts {
            id: eni.truth.id.clone(),
            mac: eni.truth.mac,
            card,
            device,
            subnet: subnets[&eni.truth.subnet].truth.net,
            subnet_id: Some(eni.truth.subnet.clone()),
            primary: eni.truth.primary,
        };
        Some(SeenEni { facts, slots: eni.truth.slots.clone(), usable: true })
    });
    let mut enis: Vec<SeenEni> = observed.collect();
    enis.sort_by_key(|eni| eni.facts.device);
    NodeFacts {
        instance: "i-1".parse().unwrap(),
        vpc: "vpc-1".parse().unwrap(),
        zone: "us-west-2a".into(),
        subnet: "subnet-1".parse().unwrap(),
        metadata: Metadata { enis, unreadable: vec![], groups: vec![] },
        vpc_cidrs: vec!["10.20.0.0/16".parse().unwrap(), "100.64.0.0/16".parse().unwrap()],
        wall: wall(now),
    }
}
