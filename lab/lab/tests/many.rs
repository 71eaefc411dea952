//! Labs side by side, many nodes, many pods, and what starting costs (printed, not judged).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::time::Instant;

use common::nobody::{real_programs, skip};
use common::{options, start, with_toys};
use vpc_lab::control::Place;
use vpc_lab::tools::PingOptions;
use vpc_lab::topology::{CommandFile, Ready, TopologyFile};
use vpc_lab::{Lab, StartOptions};

/// Ten nodes, without daemons.
fn ten_nodes() -> TopologyFile {
    let mut file = TopologyFile::parse(Ready::named("ten-nodes").unwrap().text).unwrap();
    file.node_defaults.daemon = Some(CommandFile { command: Vec::new(), cwd: None });
    file
}

/// Every node reaches every other one.
fn all_reach_all(lab: &Lab) {
    let nodes = lab.status().unwrap().nodes;
    assert_eq!(nodes.len(), 10);
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.name != from.name) {
            let place = Place::Node(from.name.clone());
            let ping = lab.ping(&place, to.enis[0].primary, &PingOptions::count(1)).unwrap();
            assert!(ping.all_answered(), "{} -> {}: {ping:?}", from.name, to.name);
        }
    }
}

#[test]
fn two_labs_with_ten_nodes_each_do_not_see_each_other() {
    let topology = ten_nodes().resolve().unwrap();
    let begun = Instant::now();
    let labs = std::thread::scope(|scope| {
        [scope.spawn(|| start(&topology)), scope.spawn(|| start(&topology))].map(|lab| lab.join().unwrap())
    });
    println!("two labs with ten nodes each: up in {} ms", begun.elapsed().as_millis());
    // The same addresses in both, and each answers in its own.
    labs.iter().for_each(all_reach_all);
    let [one, other] = labs;
    let name = one.status().unwrap().nodes[0].name.clone();
    one.power(&name, false).unwrap();
    assert!(other.status().unwrap().nodes.iter().all(|node| node.on));
    one.down().unwrap();
    all_reach_all(&other);
}

#[test]
fn three_hundred_pods_in_one_lab() {
    let lab = start(&with_toys());
    let begun = Instant::now();
    for (node, count) in [("a", 100), ("a2", 100), ("b", 100)] {
        let report = lab.pod_scale(node, count, 3).unwrap();
        assert_eq!((report.added.len(), report.failed.len()), (100, 0), "{:?}", report.failed.first());
    }
    println!("300 pods with toys for plugins: {} ms", begun.elapsed().as_millis());
    let pods: Vec<_> = lab.status().unwrap().nodes.into_iter().flat_map(|node| node.pods).collect();
    let sandboxes: BTreeSet<_> = pods.iter().map(|pod| pod.sandbox.clone().unwrap().netns).collect();
    assert_eq!((pods.len(), sandboxes.len()), (300, 300));
    for node in ["a", "a2", "b"] {
        assert_eq!(lab.pod_scale(node, 0, 3).unwrap().deleted.len(), 100);
    }
    let left: Vec<_> = lab.status().unwrap().nodes.into_iter().flat_map(|node| node.pods).collect();
    assert_eq!(left, []);
}

#[test]
fn three_nodes_start_with_our_daemon() {
    let programs = match real_programs() {
        Ok(programs) => programs,
        Err(reason) => return skip("three_nodes_start_with_our_daemon", &reason),
    };
    let topology = TopologyFile::built_in().unwrap().resolve().unwrap();
    let options = StartOptions { programs: Some(programs), ..options() };
    let begun = Instant::now();
    let (lab, warnings) = Lab::start(&topology, &options).unwrap();
    println!("three nodes with aws-k8s-agent: ready in {} ms", begun.elapsed().as_millis());
    assert_eq!(warnings, Vec::<String>::new());
    let ready = |node: &vpc_lab::control::NodeStatus| node.daemon.as_ref().is_some_and(|daemon| daemon.ready);
    assert!(lab.status().unwrap().nodes.iter().filter(|node| ready(node)).count() == 3);
}
