//! Subnets that run out or fragment, on a node on paper: each for itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::net::Ipv4Addr;

use vpc_agent::{CloudCall, Config, Notice, PlaceNews, Placing};
use vpc_ipam::Unit;
use vpc_model::{Millis, Slot, Time};
use world::{PaperSubnet, World, config, key};

const ROLE: &str = "kubernetes.io/role/cni";

fn discovering(warm: u32, max_enis: u32) -> Config {
    Config { placing: Placing { custom: None, discovery: true, cluster: None }, ..config(warm, max_enis) }
}

fn prefixes(warm: u32, max_enis: u32) -> Config {
    let mut config = discovering(warm, max_enis);
    config.target.unit = Unit::Prefix;
    config
}

fn other(name: &str, third: u8, free: u32) -> PaperSubnet {
    PaperSubnet::new(name, &format!("10.20.{third}.0/22"), free).tagged(ROLE, "1")
}

/// Which subnet an address is of, by its third byte.
fn third(address: Ipv4Addr) -> u8 {
    address.octets()[2] / 4 * 4
}

fn tried_in(world: &World, subnet: &str) -> usize {
    let here =
        |call: &&CloudCall| matches!(call, CloudCall::CreateEni { place, .. } if place.subnet.as_str() == subnet);
    world.calls.iter().filter(here).count()
}

#[test]
fn new_enis_are_made_where_most_addresses_are_free() {
    // The last has more than all, and is not for pods.
    let untagged = PaperSubnet::new("d", "10.20.48.0/22", 1000);
    let subnets = vec![PaperSubnet::home(500), other("b", 16, 900), other("c", 32, 700), untagged];
    let mut world = World::among(discovering(1, 4), subnets);
    world.run_for(Millis::seconds(10));
    for i in 0..12 {
        world.start_pod(&format!("p{i}"));
    }
    let made: Vec<_> = world.enis.values().filter(|eni| eni.token.is_some()).collect();
    assert!(!made.is_empty() && made.iter().all(|eni| eni.truth.subnet.as_str() == "subnet-b"));
    let away = world.agent.pool().held().find(|held| held.allocation.device.0 > 0).unwrap();
    assert_eq!(third(away.allocation.address), 16);
    let name = away.pod.name.clone();
    assert!(world.reaches("eth1", &name, away.allocation.address));
    assert_eq!(world.leaves_by(&name, "10.20.30.40"), "eth1");
}

#[test]
fn an_exhausted_subnet_spills_over_and_is_asked_again_later() {
    // Home looks largest when it is listed, and has nothing left when an ENI is made: somebody else was faster.
    let mut world = World::among(discovering(0, 4), vec![PaperSubnet::home(800), other("b", 16, 500)]);
    // A node that needs nothing looks at the subnets within two minutes.
    world.run_for(Millis::seconds(130));
    world.subnet("1").truth.free = 0;
    for i in 0..9 {
        world.start_pod(&format!("p{i}"));
    }
    let asked = world.now;
    let ticket = world.add("p9");
    world.run_for(Millis::seconds(15));
    let reply = world.added(ticket);
    assert_eq!(third(reply.allocation.address), 16, "spilled over");
    world.wire("p9", &reply);
    assert!(world.waited(ticket, asked) <= Millis::seconds(6), "waited {}", world.waited(ticket, asked));
    let exhausted = |world: &World| {
        world.notices.iter().filter(|notice| matches!(notice, Notice::Place(PlaceNews::Exhausted { .. }))).count()
    };
    assert_eq!(exhausted(&world), 1, "said, with the subnet's name");
    // Meanwhile the other one is used without asking home each time.
    let before = tried_in(&world, "subnet-1");
    for i in 10..18 {
        world.start_pod(&format!("p{i}"));
    }
    assert!(tried_in(&world, "subnet-1") <= before + 1, "home is left alone for a growing while");
    assert_eq!(world.agent.pool().held().count(), 18);
}

#[test]
fn exhaustion_of_one_subnet_does_not_stop_enis_of_another() {
    // Home has room for the primary ENI's first few addresses only.
    let mut world = World::among(discovering(0, 4), vec![PaperSubnet::home(3), other("b", 16, 900)]);
    world.run_for(Millis::seconds(30));
    let start = world.now;
    let tickets: Vec<_> = (0..20).map(|i| world.add(&format!("p{i}"))).collect();
    world.run_for(Millis::seconds(15));
    let addresses: Vec<Ipv4Addr> = tickets.iter().map(|ticket| world.added(*ticket).allocation.address).collect();
    assert_eq!(addresses.iter().filter(|address| third(**address) == 16).count(), 17, "{addresses:?}");
    for (i, ticket) in tickets.iter().enumerate() {
        let reply = world.added(*ticket);
        world.wire(&format!("p{i}"), &reply);
    }
    let slowest = tickets.iter().map(|ticket| world.waited(*ticket, start)).max().unwrap();
    assert!(slowest <= Millis::seconds(8), "waited {slowest}");
    // Addresses come free at home: they are found again.
    world.subnet("1").truth.free = 500;
    world.run_for(Millis::seconds(300));
    for i in 20..33 {
        world.start_pod(&format!("p{i}"));
    }
    assert_eq!(world.agent.pool().held().count(), 33);
}

#[test]
fn with_nothing_left_anywhere_the_refusal_names_every_subnet_and_the_calls_are_few() {
    let mut world = World::among(discovering(0, 4), vec![PaperSubnet::home(9), other("b", 16, 0)]);
    world.run_for(Millis::seconds(10));
    for i in 0..9 {
        world.start_pod(&format!("p{i}"));
    }
    let calls = world.calls.len();
    let ticket = world.add("one too many");
    world.run_for(Millis::seconds(16));
    let refusal = world.refused(ticket).to_string();
    assert!(refusal.contains("subnet-1") && refusal.contains("subnet-b"), "{refusal}");
    world.run_for(Millis::seconds(3600 - 16));
    let calls = world.calls.len() - calls;
    assert!(calls < 150, "{calls} calls in an hour without an address");
    // And then there are some.
    world.subnet("b").truth.free = 100;
    world.run_for(Millis::seconds(125));
    assert_eq!(third(world.start_pod("again").allocation.address), 16);
}

fn units(world: &World) -> (usize, usize) {
    let slots: Vec<Slot> = world.agent.pool().enis().flat_map(|eni| eni.positions().collect::<Vec<_>>()).collect();
    let prefixes = slots.iter().filter(|slot| Unit::of(**slot) == Unit::Prefix).count();
    (prefixes, slots.len() - prefixes)
}

#[test]
fn in_a_fragmented_subnet_pods_get_single_addresses_and_prefixes_come_again_later() {
    let mut config = prefixes(0, 2);
    config.target.warm = vpc_ipam::WarmTarget::Addresses { warm: 1, minimum: 2 };
    let mut world = World::among(config, vec![PaperSubnet::home(900).fragmented()]);
    let pods: Vec<(String, Ipv4Addr)> = (0..6)
        .map(|i| {
            let name = format!("p{i}");
            let address = world.start_pod(&name).allocation.address;
            (name, address)
        })
        .collect();
    let (before, singles) = units(&world);
    assert!(before == 0 && singles >= 6, "{before} prefixes, {singles} addresses");
    let fragmented = |notice: &&Notice| matches!(notice, Notice::Place(PlaceNews::Fragmented { .. }));
    assert!(world.notices.iter().any(|notice| fragmented(&notice)), "said, with the way out");
    // Somebody made room.
    world.subnet("1").fragmented = false;
    world.run_for(Millis::seconds(300));
    for i in 6..20 {
        world.start_pod(&format!("p{i}"));
    }
    assert!(units(&world).0 >= 1, "prefixes again: {:?}", units(&world));
    for (name, address) in &pods {
        assert_eq!(world.agent.pool().of(&key(name)).unwrap().allocation.address, *address, "no pod was touched");
    }
}

/// Too few addresses for a prefix is what EC2 says of a subnet with fifteen free ones, too.
#[test]
fn where_no_prefix_fits_any_more_pods_get_the_single_addresses_that_are_left() {
    let mut config = prefixes(1, 3);
    config.placing.discovery = false;
    let mut world = World::among(config, vec![PaperSubnet::home(10)]);
    for pod in 0..6 {
        let address = world.start_pod(&format!("p{pod}")).allocation.address;
        assert_eq!(third(address), 8);
    }
    assert_eq!(units(&world).0, 0, "no prefix");
}

#[test]
fn prefixes_are_taken_from_another_subnet_before_single_addresses() {
    let subnets = vec![PaperSubnet::home(900).fragmented(), other("b", 16, 500)];
    let mut world = World::among(prefixes(0, 4), subnets);
    world.run_for(Millis::seconds(20));
    let start: Time = world.now;
    let ticket = world.add("a");
    world.run_for(Millis::seconds(15));
    world.added(ticket);
    assert!(world.waited(ticket, start) <= Millis::seconds(6));
    for i in 0..20 {
        world.start_pod(&format!("p{i}"));
    }
    let of_b = world.enis.values().filter(|eni| eni.truth.subnet.as_str() == "subnet-b");
    let slots: Vec<Slot> = of_b.flat_map(|eni| eni.truth.slots.clone()).collect();
    assert!(slots.iter().any(|slot| Unit::of(*slot) == Unit::Prefix), "{slots:?}");
}
