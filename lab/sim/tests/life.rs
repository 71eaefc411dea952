//! The life of a node in the simulator: start, pods, kill, reboot, quiet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{NODE, Scene, quiet};
use lab_cloud::OutsideEvent;
use lab_sim::{Fault, World};
use vpc_hostnet::HostOp;
use vpc_model::{Millis, Slot};

#[test]
fn a_node_starts_serves_and_comes_to_rest() {
    let mut world = Scene::new("m5.large").started();
    world.add_pods(NODE, "p", 20);
    world.run_for(Millis::seconds(60));
    let node = world.node(NODE).unwrap();
    assert_eq!(node.running().count(), 20, "{:#?}", node.pods);
    for n in 0..20 {
        world.delete_pod(NODE, &format!("p{n}"));
    }
    quiet(&mut world);
    let steady = world.now();
    world.run_for(Millis::seconds(3600));
    assert_eq!(world.requests(NODE, steady, true), Vec::<&str>::new(), "a node at rest changes something");
    common::sound(&mut world);
}

#[test]
fn a_killed_daemon_and_a_rebooted_machine_come_back() {
    let mut world = Scene::new("m5.large").started();
    world.add_pods(NODE, "p", 12);
    world.run_for(Millis::seconds(20));
    world.restart(NODE, Millis::seconds(3));
    world.run_for(Millis::seconds(60));
    assert_eq!(world.node(NODE).unwrap().running().count(), 12);
    world.look();
    world.reboot(NODE);
    world.run_for(Millis::seconds(200));
    assert_eq!(world.node(NODE).unwrap().running().count(), 12);
    quiet(&mut world);
    common::sound(&mut world);
}

/// Everything that makes a history, in words.
fn history(world: &World) -> String {
    format!("{:?} {:?}", world.sent, world.nodes().iter().map(|node| &node.notices).collect::<Vec<_>>())
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let play = |seed| {
        let mut world = Scene::new("m5.large").seeded(seed).started();
        world.add_pods(NODE, "p", 15);
        world.run_for(Millis::seconds(30));
        world.restart(NODE, Millis::seconds(1));
        world.run_for(Millis::seconds(300));
        history(&world)
    };
    assert_eq!(play(7), play(7));
    assert_ne!(play(7), play(8));
}

/// An auditor that finds nothing wrong proves nothing unless it finds what is.
#[test]
fn the_auditor_sees_what_is_wrong() {
    let mut world = Scene::new("m5.large").started();
    world.add_pods(NODE, "p", 3);
    world.run_for(Millis::seconds(30));
    quiet(&mut world);
    common::sound(&mut world);
    let address = world.node(NODE).unwrap().running().next().unwrap().1.reply().unwrap().allocation.address;

    let mut flushed = world.clone();
    let host = &mut flushed.node_mut(NODE).unwrap().host;
    for rule in host.observe().rules.into_iter().filter(|rule| rule.priority == 512) {
        host.apply(&HostOp::RemoveRule(rule)).unwrap();
    }
    host.apply(&HostOp::RemoveRoute(
        host.observe().routes.into_iter().find(|route| route.to.addr() == address).unwrap(),
    ))
    .unwrap();
    flushed.look();
    assert!(matches!(flushed.faults[..], [Fault::CutOff { .. }]), "{:?}", flushed.faults);

    let mut robbed = world.clone();
    let now = robbed.now();
    robbed.cloud.outside(now, OutsideEvent::AddressRemoved { address: Slot::Address(address) }).unwrap();
    robbed.run_for(Millis(1));
    assert!(matches!(robbed.faults[..], [Fault::Taken { .. }]), "{:?}", robbed.faults);

    let mut forgotten = world.clone();
    forgotten.kill(NODE);
    forgotten.node_mut(NODE).unwrap().disk = None;
    // A daemon without a memory, on a host that does not show the pods either, gives what others have.
    let host = &mut forgotten.node_mut(NODE).unwrap().host;
    for rule in host.observe().rules.into_iter().filter(|rule| matches!(rule.priority, 512 | 1536)) {
        host.apply(&HostOp::RemoveRule(rule)).unwrap();
    }
    (0..3).for_each(|n| host.remove_sandbox(&format!("p{n}-1")));
    forgotten.start(NODE);
    forgotten.add_pods(NODE, "q", 6);
    forgotten.run_for(Millis::seconds(30));
    let twice = |fault: &Fault| matches!(fault, Fault::TwoOwners { .. });
    assert!(forgotten.faults.iter().any(twice), "{:?}", forgotten.faults);

    let mut early = world.clone();
    early.set(NODE, |config| config.target.cool_down = Millis(0));
    early.node_mut(NODE).unwrap().config.target.cool_down = Millis::seconds(30);
    (0..3).for_each(|n| early.delete_pod(NODE, &format!("p{n}")));
    early.run_for(Millis::seconds(1));
    early.add_pods(NODE, "q", 9);
    early.run_for(Millis::seconds(5));
    assert!(early.faults.iter().any(|fault| matches!(fault, Fault::NotRested { .. })), "{:?}", early.faults);

    let mut leaky = world;
    let all: Vec<_> = leaky.node(NODE).unwrap().pods.keys().cloned().collect();
    for name in all {
        leaky.node_mut(NODE).unwrap().pods.remove(&name);
    }
    let words: Vec<String> = leaky.leaks().iter().map(ToString::to_string).collect();
    assert!(words.iter().any(|word| word.contains("which is gone")), "{words:?}");
    assert!(words.iter().any(|word| word.contains("a rule of priority 512")), "{words:?}");
    assert!(words.iter().any(|word| word.contains("is on disk")), "{words:?}");
}
