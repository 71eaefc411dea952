//! The reference's worked cases ([`cases.txt`], which the planner's test reads too) on a whole node: the real agent and EC2's model, set
//! up as the row says, then left alone. What EC2 has afterwards, and how often it was asked for what, is the row's.
//!
//! ```text
//!   E0 9/8; E1 9/0   ENIs and positions are there from the start; the daemon may not change them while pods take every address and
//!                    those that are too many go again; then it gets the row's settings
//!   5 pods           an empty node with the row's settings, and five pods at once
//! ```
//!
//! [`cases.txt`]: ../../../core/ipam/tests/cases.txt
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "tables/row.rs"]
mod row;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use common::{NODE, Scene, healthy, quiet, sound, story, until_running};
use lab_cloud::{ExtraEniSpec, id_for};
use lab_sim::World;
use row::{Eni, Outcome, Row, Settings, State, Verdict, follow};
use vpc_agent::{CloudUse, ClusterNews, EniConfig, EniConfigKeys, Input, NodeView};
use vpc_aws::ec2::shapes::AssignPrivateIpAddresses;
use vpc_ipam::Unit;
use vpc_model::{CardIndex, DeviceIndex, EniId, Millis};

const CASES: &str = include_str!("../../../core/ipam/tests/cases.txt");
/// A row about something that passes (a rest, a young ENI) is compared after this.
const SOON: Millis = Millis::seconds(20);
/// All others when everything that can be wanted has been done.
const LATER: Millis = Millis::seconds(400);
const CALLS: [&str; 4] =
    ["AssignPrivateIpAddresses", "CreateNetworkInterface", "UnassignPrivateIpAddresses", "DeleteNetworkInterface"];

fn rows() -> impl Iterator<Item = Row<'static>> {
    CASES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(Row::read)
}

/// Why a row says nothing about a whole node.
fn beside_the_node(row: &Row<'_>) -> Option<String> {
    match row.verdict {
        Verdict::Elsewhere(why) => Some(why.to_owned()),
        _ if row.settings.released_ago => {
            Some("what was given back a moment ago is part of the state: the planner's test has it".to_owned())
        }
        _ => None,
    }
}

#[test]
fn every_worked_case_on_a_whole_node() {
    let (mut equal, mut different, mut beside, mut wrong) = (0, Vec::new(), Vec::new(), Vec::new());
    for row in rows() {
        if let Some(why) = beside_the_node(&row) {
            beside.push((row.id, why));
            continue;
        }
        match row.verdict {
            Verdict::Different(why) => different.push((row.id, why)),
            _ => equal += 1,
        }
        let found = match &row.state {
            State::Pods(pods) => at_rest(&row, *pods),
            State::Enis(enis) => replayed(&row, enis, false),
        };
        wrong.extend(found);
        // The reference's cases of custom networking: the primary ENI takes no pods.
        if let (State::Enis(enis), "40" | "41" | "42") = (&row.state, row.id) {
            wrong.extend(replayed(&row, enis, true));
        }
    }
    let (differ, elsewhere) = (different.len(), beside.len());
    println!("{equal} equal, {differ} different on purpose, {elsewhere} say nothing about a whole node");
    different.iter().for_each(|(id, why)| println!("  {id:<4} different: {why}"));
    beside.iter().for_each(|(id, why)| println!("  {id:<4} not replayed: {why}"));
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(equal > 80 && differ > 8 && elsewhere < 25, "rows went missing");
}

/// From an empty node to rest with so many pods; says what is wrong.
fn at_rest(row: &Row<'_>, pods: u32) -> Option<String> {
    let settings = row.settings.clone();
    let mut world = Scene::new(&settings.kind).with(move |config| settings.apply(config)).started();
    world.add_pods(NODE, "p", pods);
    until_running(&mut world, NODE, pods as usize, Millis::seconds(120));
    quiet(&mut world);
    sound(&mut world);
    let positions = positions(&world, None, row.settings.unit());
    let list: Vec<String> = positions.iter().map(|(_, count)| count.to_string()).collect();
    let addresses: usize = positions.iter().map(|(_, count)| count).sum::<usize>() * size(row.settings.unit());
    let free = match row.settings.unit() {
        Unit::Address => String::new(),
        Unit::Prefix => format!(" free {}", free_prefixes(&world)),
    };
    let found = format!("{} unused {}{free}", list.join(","), addresses - pods as usize);
    (!row.ways.contains(&found.as_str()))
        .then(|| format!("{}: `{found}`, expected {:?}\n{}", row.id, row.ways, story(&world)))
}

/// From a state of the node to what becomes of it; says what is wrong.
fn replayed(row: &Row<'_>, enis: &[Eni], custom: bool) -> Option<String> {
    let foreign = row.settings.foreign.then(|| enis.iter().map(|eni| eni.device).max().unwrap() + 1);
    let mut world = staged(&row.settings, enis, foreign, custom);
    let since = world.now();
    let passes = enis.iter().any(|eni| eni.young || eni.rest > 0);
    world.run_for(if passes { SOON } else { LATER });
    let calls = CALLS.map(|name| common::asked(&world, NODE, since, name));
    let found = Outcome { positions: positions(&world, foreign, row.settings.unit()), calls };
    let expected: Vec<Outcome> = row.ways.iter().map(|way| follow(enis, foreign, way)).collect();
    healthy(&mut world);
    let settled = if passes { Vec::new() } else { world.settled_faults(NODE) };
    let right = expected.contains(&found) && settled.is_empty();
    (!right).then(|| format!("{}: {found:?}, expected {expected:?}; {settled:?}\n{}", row.id, story(&world)))
}

/// A node in the state of a row, whose daemon has just been given its settings.
fn staged(settings: &Settings, enis: &[Eni], foreign: Option<u8>, custom: bool) -> World {
    let mut scene = Scene::new(&settings.kind);
    let excluded = !custom && enis.iter().any(|eni| eni.retired);
    let beyond = if excluded || custom { "pods-a" } else { "private-a" };
    if excluded {
        for (name, value) in [("private-a", "0"), ("pods-a", "1")] {
            let subnet = scene.spec.subnets.iter_mut().find(|subnet| subnet.id == id_for(name)).unwrap();
            subnet.tags.insert("kubernetes.io/role/cni".into(), value.into());
        }
    }
    let instance = &mut scene.spec.instances[0];
    let owner = instance.id.to_string();
    let mut extra = |device: u8, positions: usize, (key, value): (&str, &str)| {
        let (singles, prefixes) = if settings.prefixes { (0, positions) } else { (positions, 0) };
        instance.extra_enis.push(ExtraEniSpec {
            subnet: id_for(beyond),
            device: DeviceIndex(device),
            card: CardIndex(0),
            secondary_ips: singles as u32,
            prefixes: prefixes as u32,
            interface_type: "interface".into(),
            security_groups: vec![],
            tags: [(format!("node.k8s.amazonaws.com/{key}"), value.to_owned())].into(),
        });
    };
    enis.iter().filter(|eni| eni.device > 0).for_each(|eni| extra(eni.device, eni.pods.len(), ("instance_id", &owner)));
    foreign.into_iter().for_each(|device| extra(device, 0, ("no_manage", "true")));

    // What is there is looked at and not changed; subnets' tags are not looked at while pods come
    // that have to be on an ENI that takes none.
    let blind = enis.iter().any(|eni| eni.retired && eni.pods.iter().any(|pods| *pods > 0));
    let before = settings.clone();
    let keys = || EniConfigKeys { annotation: "eni-config".into(), label: "eni-config".into() };
    let mut world = scene
        .with(move |config| {
            before.apply(config);
            config.cloud = CloudUse::ReadOnly;
            config.placing.discovery = !blind;
            config.placing.custom = custom.then(keys);
        })
        .world();
    if let Some(first) = enis.iter().find(|eni| eni.device == 0) {
        fill_primary(&mut world, settings, first.pods.len());
    }
    world.start(NODE);
    world.run_for(Millis::seconds(20));
    tell(&mut world, settings, custom);
    let resting = place_pods(&mut world, enis, settings.unit());
    world.run_for(Millis::seconds(90));
    if enis.iter().any(|eni| eni.young) {
        world.restart(NODE, Millis(100));
        world.run_for(Millis::seconds(15));
        tell(&mut world, settings, custom);
    }
    resting.iter().for_each(|pod| world.delete_pod(NODE, pod));
    world.run_for(Millis(500));
    world.add_pods(NODE, "w", settings.waiting);
    world.set(NODE, |config| (config.cloud, config.placing.discovery) = (CloudUse::Full, true));
    world
}

/// Positions of the primary ENI, which the model lets nobody have from the start.
fn fill_primary(world: &mut World, settings: &Settings, count: usize) {
    if count == 0 {
        return;
    }
    let assign =
        if settings.prefixes { AssignPrivateIpAddresses::prefixes } else { AssignPrivateIpAddresses::addresses };
    let request = assign(primary(world), count as u32);
    world.as_account(request.into()).unwrap().unwrap();
    // IMDS lags behind.
    world.run_for(Millis::seconds(30));
}

fn primary(world: &World) -> EniId {
    world.node(NODE).unwrap().guest_enis().find(|eni| eni.device.0 == 0).unwrap().id.clone()
}

fn tell(world: &mut World, settings: &Settings, custom: bool) {
    let view = NodeView { unschedulable: settings.idle, ..NodeView::default() };
    if custom {
        let pods = EniConfig {
            name: "default".into(),
            subnet: id_for::<vpc_model::SubnetId>("pods-a").to_string(),
            ..EniConfig::default()
        };
        world.tell(NODE, Input::Cluster(ClusterNews::EniConfigs(vec![pods])));
    }
    if custom || settings.idle {
        world.tell(NODE, Input::Cluster(ClusterNews::Node(view)));
    }
}

/// Pods take every address; those that are not the row's go again, but for those that are to rest later, which are told.
fn place_pods(world: &mut World, enis: &[Eni], unit: Unit) -> Vec<String> {
    let all: usize = enis.iter().map(|eni| eni.pods.len() * size(unit)).sum();
    if enis.iter().all(|eni| eni.rest == 0 && eni.pods.iter().all(|pods| *pods == 0)) {
        return Vec::new();
    }
    world.add_pods(NODE, "p", all as u32);
    until_running(world, NODE, all, Millis::seconds(120));
    let node = world.node(NODE).unwrap();
    let mut names: BTreeMap<Ipv4Addr, String> =
        node.running().map(|(name, pod)| (pod.reply().unwrap().allocation.address, name.to_owned())).collect();
    let mut resting = Vec::new();
    for eni in enis {
        let own = node.guest_enis().find(|own| own.device.0 == eni.device).unwrap();
        let positions: Vec<Vec<Ipv4Addr>> = match unit {
            Unit::Address => own.addresses.secondary.iter().map(|address| vec![*address]).collect(),
            Unit::Prefix => own.addresses.prefixes.iter().map(|block| block.addresses().collect()).collect(),
        };
        for (addresses, pods) in positions.iter().zip(&eni.pods) {
            addresses.iter().take(*pods as usize).for_each(|address| drop(names.remove(address)));
        }
        let free = positions.iter().flatten().rev().filter(|address| names.contains_key(address)).copied();
        let rests: Vec<Ipv4Addr> = free.take(eni.rest as usize).collect();
        resting.extend(rests.iter().filter_map(|address| names.remove(address)));
    }
    names.values().for_each(|pod| world.delete_pod(NODE, pod));
    resting
}

fn size(unit: Unit) -> usize {
    match unit {
        Unit::Address => 1,
        Unit::Prefix => 16,
    }
}

/// Positions of each ENI by place, but of the one that is not ours: EC2's word, not the books'.
fn positions(world: &World, foreign: Option<u8>, unit: Unit) -> Vec<(u8, usize)> {
    let own = world.node(NODE).unwrap().guest_enis().filter(|eni| Some(eni.device.0) != foreign);
    let mut positions: Vec<(u8, usize)> = own
        .map(|eni| {
            let (singles, prefixes) = (eni.addresses.secondary.len(), eni.addresses.prefixes.len());
            let (count, others) = if unit == Unit::Address { (singles, prefixes) } else { (prefixes, singles) };
            assert_eq!(others, 0, "positions of the other unit");
            (eni.device.0, count)
        })
        .collect();
    positions.sort_unstable();
    positions
}

fn free_prefixes(world: &World) -> usize {
    let given = common::given(world, NODE);
    let node = world.node(NODE).unwrap();
    let blocks = node.guest_enis().flat_map(|eni| &eni.addresses.prefixes);
    blocks.filter(|block| block.addresses().all(|address| !given.contains(&address))).count()
}

/// A node that is not as a row says is noticed: the same machinery with a wrong row.
#[test]
fn a_wrong_row_is_found() {
    let wrong = [
        "x | m5.large WARM_ENI=1 | E0 9/1 | - | = | equal",
        "x | m5.large WARM_IP=5 | E0 5/2 | E0 +3 | = | equal",
        "x | t3.small PD WARM_PREFIX=1 | E0 [1,0,0] | E0 -2 | = | equal",
    ];
    for line in wrong {
        let row = Row::read(line);
        let State::Enis(enis) = &row.state else { panic!("{line}") };
        assert!(replayed(&row, enis, false).is_some(), "{line}");
    }
    let row = Row::read("x | t3.small WARM_ENI=1 max_pods=500 | 5 pods | 3,3 unused 1 | = | equal");
    assert!(at_rest(&row, 5).is_some());
}
