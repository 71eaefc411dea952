//! What the histories share.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use lab_cloud::{CloudFault, FaultId, Setup, WorldSpec};
use lab_sim::{NodeAt, World, scene};
use vpc_agent::Config;
use vpc_ipam::{Unit, WarmTarget};
use vpc_model::{Millis, Time};

/// The only node of most histories.
pub const NODE: NodeAt = NodeAt(0);

/// A world to be begun.
pub struct Scene {
    pub spec: WorldSpec,
    pub setup: Setup,
    change: Box<dyn Fn(&mut Config)>,
}

impl Scene {
    /// One node of a type, called `node-1`.
    pub fn new(kind: &str) -> Self {
        Self::of(&[("node-1", kind)])
    }

    pub fn of(nodes: &[(&str, &str)]) -> Self {
        let (spec, setup) = scene(1, nodes);
        Self { spec, setup, change: Box::new(|_| ()) }
    }

    pub fn seeded(mut self, seed: u64) -> Self {
        self.setup.seed = seed;
        self
    }

    pub fn with(mut self, change: impl Fn(&mut Config) + 'static) -> Self {
        self.change = Box::new(change);
        self
    }

    /// The world with no daemon running.
    pub fn world(self) -> World {
        let count = self.spec.instances.len();
        let mut world = World::new(self.spec, self.setup).unwrap();
        for index in 0..count {
            (self.change)(&mut world.node_mut(NodeAt(index)).unwrap().config);
        }
        world
    }

    /// The world with every daemon up for two minutes.
    pub fn started(self) -> World {
        let mut world = self.world();
        (0..world.nodes().len()).for_each(|index| world.start(NodeAt(index)));
        world.run_for(Millis::seconds(120));
        for node in world.nodes() {
            assert!(node.ready_at.is_some(), "not ready: {:#?}", node.notices);
        }
        world
    }
}

/// Lets everything rest, be given back and be forgotten.
pub fn quiet(world: &mut World) {
    world.run_for(Millis::seconds(900));
}

/// No fault so far, every pod reached, nothing left over.
pub fn sound(world: &mut World) {
    healthy(world);
    let leaks: Vec<String> = world.leaks().iter().map(ToString::to_string).collect();
    assert!(leaks.is_empty(), "{leaks:#?}\n{}", story(world));
    settled(world);
}

/// Every node has what its settings ask for, and no more.
pub fn settled(world: &mut World) {
    let faults: Vec<_> = (0..world.nodes().len()).flat_map(|node| world.settled_faults(NodeAt(node))).collect();
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:#?}\n{}", story(world));
}

/// No fault so far, every pod reached.
pub fn healthy(world: &mut World) {
    world.look();
    let faults: Vec<String> = world.faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:#?}\n{}", story(world));
}

/// The end of what the nodes said and asked for.
pub fn story(world: &World) -> String {
    let mut lines: Vec<_> = world
        .nodes()
        .iter()
        .flat_map(|node| node.notices.iter().map(|(at, notice)| (*at, notice.to_string())))
        .chain(world.sent.iter().map(|sent| (sent.at, format!("-> {}", sent.action))))
        .collect();
    lines.sort_by_key(|(at, _)| *at);
    let from = lines.len().saturating_sub(60);
    lines[from..].iter().map(|(at, line)| format!("{:>9} {line}\n", at.0)).collect()
}

pub fn inject(world: &mut World, fault: CloudFault) -> FaultId {
    let now = world.now();
    world.cloud.inject(now, fault).unwrap()
}

pub fn lift(world: &mut World, id: FaultId) {
    let now = world.now();
    world.cloud.lift(now, id).unwrap();
}

pub fn running(world: &World, node: NodeAt) -> usize {
    world.node(node).unwrap().running().count()
}

/// Prefix mode with so many free prefixes ahead.
pub fn prefixes(config: &mut Config, warm: u32) {
    config.target.unit = Unit::Prefix;
    config.target.warm = WarmTarget::Prefixes(warm);
    config.target.max_pods = Some(110);
}

/// `WARM_IP_TARGET` and `MINIMUM_IP_TARGET`.
pub fn addresses(config: &mut Config, warm: u32, minimum: u32) {
    config.target.warm = WarmTarget::Addresses { warm, minimum };
}

/// What IMDS shows at a field of the ENI at a position, and its path.
pub fn shown(world: &mut World, node: NodeAt, device: u8, field: &str) -> (String, Vec<String>) {
    let own = world.node(node).unwrap();
    let instance = own.instance.clone();
    let mac = own.guest_enis().find(|eni| eni.device.0 == device).unwrap().mac;
    let path = format!("network/interfaces/macs/{mac}/{field}");
    let now = world.now();
    let value = world.cloud.metadata(now, &instance, &format!("meta-data/{path}")).unwrap_or_default();
    (path, value.split_whitespace().map(str::to_owned).collect())
}

/// Has IMDS show this there, until [`show_truth`].
pub fn show(world: &mut World, node: NodeAt, path: &str, values: &[String]) {
    world.node_mut(node).unwrap().shown.insert(path.to_owned(), Some(values.join("\n")));
}

pub fn show_truth(world: &mut World, node: NodeAt) {
    world.node_mut(node).unwrap().shown.clear();
}

/// Addresses that pods have.
pub fn given(world: &World, node: NodeAt) -> BTreeSet<Ipv4Addr> {
    world.node(node).unwrap().running().map(|(_, pod)| pod.reply().unwrap().allocation.address).collect()
}

/// Runs until so many pods of the node run.
pub fn until_running(world: &mut World, node: NodeAt, count: usize, within: Millis) {
    let end = world.now() + within;
    let served = world.run_until(end, |world| running(world, node) == count);
    assert!(served, "{} of {count} pods run after {within}\n{}", running(world, node), story(world));
}

/// How often an action was asked for by a node since a moment.
pub fn asked(world: &World, node: NodeAt, since: Time, action: &str) -> usize {
    world.requests(node, since, false).iter().filter(|name| **name == action).count()
}
