//! A fleet on one account's token buckets (R24), on real agents and the cloud's model with made-up time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Scene, healthy};
use lab_cloud::{SubnetSpec, Throttle, id_for};
use lab_sim::fleet::{Case, Fleet, FleetError, FleetReport, svg, text};
use lab_sim::{NodeAt, Watch, World};
use vpc_model::{Ipv4Net, Millis, Subnet};

#[test]
fn every_case_holds_its_bounds_with_some_hundred_nodes() {
    for case in Case::ALL {
        let report = Fleet { nodes: 300, case, seed: 1, counted: true }.run().unwrap();
        assert!(report.holds(), "{report}\n{}", text(&report));
        let picture = svg(&report);
        assert!(
            picture.ends_with("</svg>\n") && picture.matches("<text").count() == picture.matches("</text>").count()
        );
        for action in report.calls.keys() {
            assert!(picture.contains(action) && text(&report).contains(action), "{action}");
        }
    }
}

#[test]
fn one_seed_has_one_history() {
    let fleet = Fleet { nodes: 130, case: Case::Start, seed: 3, counted: true };
    assert_eq!(fleet.run(), fleet.run());
    assert_ne!(fleet.run().unwrap().ready, Fleet { seed: 4, ..fleet }.run().unwrap().ready);
    for nodes in [0, Fleet::MOST + 1] {
        assert_eq!(Fleet { nodes, ..fleet }.run(), Err(FleetError::Nodes { nodes }));
    }
}

#[test]
fn a_missed_bound_is_told() {
    let report = Fleet { nodes: 1, case: Case::Start, seed: 1, counted: true }.run().unwrap();
    assert_eq!(report.missed(), Vec::<String>::new());
    let change = |change: fn(&mut FleetReport)| {
        let mut other = report.clone();
        change(&mut other);
        assert_eq!(other.missed().len(), 1, "{:?}", other.missed());
        assert!(!other.holds() && other.to_string().contains("MISSED"));
    };
    change(|report| report.waves[0].unready[0].0 += 2 * FleetReport::ALONE.0);
    change(|report| _ = report.ready.pop());
    change(|report| report.calls.values_mut().for_each(|calls| calls.throttled = 4));
    change(|report| report.refused = (1, 1));
    change(|report| report.pods.1 -= 1);
    change(|report| report.exits = 1);
    change(|report| report.faults.push("left over".to_owned()));
}

#[test]
fn r24_throttled_describe_at_a_fleet_restart() {
    restart_all_at_once(Some(500));
}

#[test]
fn r24_where_nobody_can_count_the_nodes() {
    restart_all_at_once(None);
}

fn restart_all_at_once(node_count: Option<u32>) {
    const NODES: usize = 500;
    let names: Vec<String> = (0..NODES).map(|n| format!("node-{n}")).collect();
    let nodes: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "t3.small")).collect();
    let mut scene = Scene::of(&nodes);
    let wide = Subnet::try_from("10.20.128.0/18".parse::<Ipv4Net>().unwrap()).unwrap();
    scene.spec.subnets.push(SubnetSpec::new("wide", wide, "us-west-2a"));
    scene.spec.instances.iter_mut().for_each(|instance| instance.subnet = id_for("wide"));
    scene.setup.throttle = Throttle::aws();
    let mut world = scene.world();
    world.watch = Watch::Never;
    world.node_count = node_count;
    // The fleet comes up over some minutes.
    for index in 0..NODES {
        world.start(NodeAt(index));
        world.run_for(Millis(600));
    }
    world.run_for(Millis::seconds(300));
    for index in 0..NODES {
        world.add_pod(NodeAt(index), "old");
    }
    world.run_for(Millis::seconds(300));
    let served = |world: &World| world.nodes().iter().map(|node| node.running().count()).sum::<usize>();
    assert_eq!(served(&world), NODES);

    let since = world.now();
    (0..NODES).for_each(|index| world.restart(NodeAt(index), Millis::seconds(1)));
    world.run_for(Millis::seconds(2));
    (0..NODES).for_each(|index| world.add_pod(NodeAt(index), "new"));
    let end = since + Millis::seconds(180);
    world.run_until(end, |_| false);
    let exits: u32 = world.nodes().iter().map(|node| node.exits).sum();
    let ready = world.nodes().iter().filter(|node| node.ready_at.is_some()).count();
    assert_eq!((exits, ready, served(&world)), (0, NODES, 2 * NODES));
    let calls: Vec<usize> = (0..NODES).map(|index| world.requests(NodeAt(index), since, false).len()).collect();
    let total: usize = calls.iter().sum();
    let mut kinds = std::collections::BTreeMap::new();
    for sent in world.sent.iter().filter(|sent| sent.at >= since) {
        *kinds.entry((sent.action, (sent.at.0 - since.0) / 20_000)).or_insert(0) += 1;
    }
    println!("{kinds:?}");
    println!("R24: {:.2} calls a node in 180 s, at most {:?}", total as f64 / NODES as f64, calls.iter().max());
    assert!(total <= 4 * NODES, "{} calls a node\n{:?}", total as f64 / NODES as f64, calls);
    healthy(&mut world);
}
