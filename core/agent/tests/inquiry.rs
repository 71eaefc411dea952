//! STATUS, CHECK and GC: when the node is ready, which lease a sandbox has, which leases a GC ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::BTreeSet;

use vpc_agent::{CloudUse, Collect, FailureClass, Input, Outcome, Readiness, Refusal, Ticket};
use vpc_model::{Millis, PodRef, SandboxKey, Time};
use world::{Fault, World, config, key};

const SECOND: Millis = Millis::seconds(1);

fn node(max_enis: u32, pods: usize) -> World {
    let mut world = World::settled(config(1, max_enis));
    (0..pods).for_each(|pod| drop(world.start_pod(&format!("p{pod}"))));
    world.run_for(Millis::seconds(120));
    world
}

fn readiness(world: &mut World) -> Readiness {
    let ticket = Ticket(900_000 + world.answers.len() as u64);
    world.tell(Input::Status { ticket });
    match &world.answers[&ticket].1 {
        Outcome::Status(readiness) => (**readiness).clone(),
        other => panic!("{other:?}"),
    }
}

fn collect(world: &mut World, network: &str, valid: &[&str], came: Time) -> Vec<String> {
    let ticket = Ticket(800_000 + world.answers.len() as u64);
    let valid: BTreeSet<_> = valid.iter().map(|pod| (key(pod).container, key(pod).interface)).collect();
    world.tell(Input::Collect { ticket, request: Collect { network: network.into(), valid, came } });
    world.run_for(SECOND);
    match &world.answers[&ticket].1 {
        Outcome::Collected(ended) => ended.iter().map(|held| held.pod.name.clone()).collect(),
        other => panic!("{other:?}"),
    }
}

fn found(world: &mut World, key: SandboxKey) -> Option<std::net::Ipv4Addr> {
    let ticket = Ticket(700_000 + world.answers.len() as u64);
    world.tell(Input::Find { ticket, key });
    match &world.answers[&ticket].1 {
        Outcome::Found(allocation) => allocation.map(|allocation| allocation.address),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_with_a_free_address_a_full_one_and_one_whose_addresses_rest_are_ready() {
    let mut world = node(2, 3);
    assert_eq!(readiness(&mut world), Readiness::Ready, "addresses are free");
    for pod in 3..18 {
        world.start_pod(&format!("p{pod}"));
    }
    assert_eq!(world.agent.pool().stats().ready, 0);
    assert_eq!(readiness(&mut world), Readiness::Ready, "full: the next pod is Kubernetes' mistake");
    world.stop_pod("p3");
    assert_eq!(world.agent.pool().stats().ready, 0, "it rests");
    assert_eq!(readiness(&mut world), Readiness::Ready, "an address comes by itself");
}

#[test]
fn a_node_whose_next_address_is_on_its_way_is_ready() {
    let mut world = node(3, 8);
    world.call_takes = Millis::seconds(30);
    for pod in 8..18 {
        world.add(&format!("p{pod}"));
    }
    world.run_for(SECOND);
    assert_eq!(world.agent.pool().stats().ready, 0);
    assert_eq!(readiness(&mut world), Readiness::Ready);
}

/// Each of these keeps addresses from coming although the instance has room for them; but asking for patience passes by itself.
#[test]
fn what_keeps_addresses_from_coming_makes_the_node_not_available() {
    for (class, code) in [
        (FailureClass::SubnetExhausted, "InsufficientFreeAddressesInSubnet"),
        (FailureClass::Unauthorized, "UnauthorizedOperation"),
        (FailureClass::Throttled, "RequestLimitExceeded"),
    ] {
        let passes = class == FailureClass::Throttled;
        let mut world = World::settled(config(0, 2));
        for _ in 0..200 {
            for call in ["Create", "Assign"] {
                world.faults.push_back((call, Fault::Refuse(class, code)));
            }
        }
        for pod in 0..10 {
            let ticket = world.add(&format!("p{pod}"));
            world.run_for(Millis::seconds(20));
            if let Some((_, Outcome::Added(reply))) = world.answers.get(&ticket).cloned() {
                world.wire(&format!("p{pod}"), &reply);
            }
        }
        match readiness(&mut world) {
            Readiness::Ready if passes => {}
            Readiness::NotAvailable(why) if !passes => {
                let text = why.to_string();
                assert!(text.starts_with("no address: "), "{text}");
                assert_eq!(why.waited(), Some(Millis(0)));
                let fits = match class {
                    FailureClass::SubnetExhausted => matches!(why, Refusal::SubnetExhausted { .. }),
                    _ => matches!(why, Refusal::Denied { .. }),
                };
                assert!(fits, "{code}: {why:?}");
            }
            other => panic!("{code}: {other:?}, {:?}", world.agent.pool().stats()),
        }
    }
}

/// EC2 refuses, and it does not matter: there is no room for what it refuses.
#[test]
fn a_full_node_is_ready_whatever_ec2_says() {
    let mut world = node(2, 10);
    for _ in 0..200 {
        for call in ["Create", "Assign"] {
            world
                .faults
                .push_back((call, Fault::Refuse(FailureClass::SubnetExhausted, "InsufficientFreeAddressesInSubnet")));
        }
    }
    for pod in 10..18 {
        world.start_pod(&format!("p{pod}"));
    }
    assert_eq!(readiness(&mut world), Readiness::Ready, "{:?}", world.agent.pool().stats());
}

#[test]
fn as_many_pods_as_kubernetes_allows_are_a_full_node() {
    let mut config = config(0, 3);
    config.target.max_pods = Some(9);
    config.cloud = CloudUse::Full;
    let mut world = World::settled(config);
    (0..9).for_each(|pod| drop(world.start_pod(&format!("p{pod}"))));
    for _ in 0..200 {
        world.faults.push_back(("Create", Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation")));
    }
    world.run_for(Millis::seconds(60));
    assert_eq!(readiness(&mut world), Readiness::Ready);
}

#[test]
fn a_sick_host_means_limited_connectivity_a_sick_disk_and_an_ending_daemon_do_not() {
    let mut world = node(2, 3);
    world.host_broken = true;
    world.tell(Input::HostChanged);
    world.run_for(Millis::seconds(30));
    assert!(matches!(readiness(&mut world), Readiness::Limited(Refusal::Host { error }) if error == "EPERM"));
    world.host_broken = false;
    world.run_for(Millis::seconds(90));
    assert_eq!(readiness(&mut world), Readiness::Ready);

    world.disk_broken = true;
    world.add("late");
    world.run_for(SECOND);
    let readiness_now = readiness(&mut world);
    let Readiness::NotAvailable(Refusal::Checkpoint { error }) = readiness_now else { panic!("{readiness_now:?}") };
    assert!(error.contains("no space"), "{error}");
    world.disk_broken = false;
    world.run_for(Millis::seconds(5));
    assert_eq!(readiness(&mut world), Readiness::Ready);

    world.tell(Input::Terminate);
    assert_eq!(readiness(&mut world), Readiness::NotAvailable(Refusal::ShuttingDown));
}

#[test]
fn a_lease_is_found_by_its_sandbox_and_only_once_it_is_promised() {
    let mut world = node(2, 2);
    let own = world.agent.pool().of(&key("p1")).unwrap().allocation.address;
    assert_eq!(found(&mut world, key("p1")), Some(own));
    assert_eq!(found(&mut world, key("nobody")), None);
    assert_eq!(found(&mut world, SandboxKey { interface: "net1".into(), ..key("p1") }), None);
    assert_eq!(found(&mut world, SandboxKey { network: "other".into(), ..key("p1") }), None);
    let ticket = world.add("p2");
    assert_eq!(found(&mut world, key("p2")), None, "not on disk yet");
    world.run_for(SECOND);
    assert_eq!(found(&mut world, key("p2")), Some(world.added(ticket).allocation.address));
}

#[test]
fn a_gc_ends_exactly_the_leases_that_are_not_listed_and_a_second_one_nothing() {
    let mut world = node(2, 6);
    let came = world.now;
    let ended = collect(&mut world, "aws-cni", &["p1", "p4"], came);
    assert_eq!(
        ended.iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([&"p0".into(), &"p2".into(), &"p3".into(), &"p5".into()])
    );
    let held: Vec<String> = world.agent.pool().held().map(|held| held.pod.name.clone()).collect();
    assert_eq!(held.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&"p1".into(), &"p4".into()]));
    assert_eq!(world.disk.as_ref().unwrap().leases.len(), 2, "it was answered when it was on disk");
    let came = world.now;
    assert_eq!(collect(&mut world, "aws-cni", &["p1", "p4"], came), [""; 0]);
    // Their addresses rest as after a DEL; then others have them.
    assert_eq!(world.agent.pool().stats().cooling, 4);
    // The rules of what has ended are taken off by the host pass, should the plugin not come to it.
    world.run_for(Millis::seconds(60));
    let rules = world.host.observe().rules.iter().filter(|rule| rule.priority == 512).count();
    assert_eq!(rules, 2);
}

#[test]
fn a_gc_of_another_network_or_of_nothing_leaves_what_it_does_not_name() {
    let mut world = node(2, 3);
    let came = world.now;
    assert_eq!(collect(&mut world, "other", &[], came), [""; 0]);
    assert_eq!(world.agent.pool().stats().pods, 3);
    let came = world.now;
    assert_eq!(collect(&mut world, "aws-cni", &[], came).len(), 3, "an empty list: nothing is valid");
    assert_eq!(world.agent.pool().stats().pods, 0);
}

/// The runtime made its list before it called.
#[test]
fn a_gc_spares_what_was_promised_after_it_came() {
    let mut world = node(2, 2);
    let came = world.now;
    world.run_for(SECOND);
    world.start_pod("young");
    // One that is asked for again has a plugin at work on it.
    let again = world.add("p1");
    world.run_for(SECOND);
    world.added(again);
    let waiting = world.add("on-its-way");
    assert_eq!(collect(&mut world, "aws-cni", &[], came), ["p0"]);
    world.run_for(SECOND);
    world.added(waiting);
    let names: BTreeSet<String> = world.agent.pool().held().map(|held| held.pod.name.clone()).collect();
    assert_eq!(names, BTreeSet::from(["p1".into(), "young".into(), "on-its-way".into()]));
    // An assignment that is not on disk was promised to nobody before the call.
    let unwritten = world.add("unwritten");
    let now = world.now;
    let ended = collect(&mut world, "aws-cni", &[], now + SECOND);
    assert!(!ended.contains(&"unwritten".to_owned()), "{ended:?}");
    world.run_for(SECOND);
    world.added(unwritten);
    let _: &PodRef = &world.agent.pool().of(&key("unwritten")).unwrap().pod;
}

/// The plugin of an ADD that the daemon before answered may still be at work: nobody knows.
#[test]
fn a_gc_spares_for_a_minute_what_an_earlier_life_promised() {
    let mut world = node(2, 1);
    let ticket = world.add("young");
    world.run_for(SECOND);
    let reply = world.added(ticket);
    world.wire("young", &reply);
    world.restart(SECOND);
    world.run_for(SECOND);
    let came = world.now;
    assert_eq!(collect(&mut world, "aws-cni", &[], came), ["p0"], "what is older is not");
    world.run_for(Millis::seconds(60));
    let came = world.now;
    assert_eq!(collect(&mut world, "aws-cni", &[], came), ["young"]);
}
