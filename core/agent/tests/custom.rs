//! Custom networking on a node on paper: on a fresh node, turned on over pods, and with an ENIConfig that goes away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vpc_agent::{
    CloudCall, ClusterNews, Config, EniConfig, EniConfigKeys, FailureClass, Input, NoPlace, NodeView, Notice,
    PlaceNews, Placing,
};
use vpc_ipam::{EniRole, Retired, Unit};
use vpc_model::{EniId, Millis};
use world::{Fault, PaperSubnet, World, config, key};

const SECOND: Millis = Millis::seconds(1);
const ZONE_KEY: &str = "topology.kubernetes.io/zone";
/// Long enough for an address to rest, an ENI to come of age, and EC2 to take it away.
const LONG: Millis = Millis::seconds(400);

fn custom(warm: u32, max_enis: u32) -> Config {
    let keys = EniConfigKeys { annotation: "k8s.amazonaws.com/eniConfig".into(), label: ZONE_KEY.into() };
    let placing = Placing { custom: Some(keys), discovery: true, cluster: None };
    Config { placing, ..config(warm, max_enis) }
}

fn pods_subnet() -> PaperSubnet {
    PaperSubnet::new("pods", "100.64.0.0/19", 4000)
}

fn eni_config(subnet: &str) -> EniConfig {
    EniConfig { name: "us-west-2a".into(), subnet: subnet.into(), security_groups: vec!["sg-pods".into()] }
}

fn hear_node(world: &mut World) {
    let labels = BTreeMap::from([(ZONE_KEY.to_owned(), "us-west-2a".to_owned())]);
    world.tell(Input::Cluster(ClusterNews::Node(NodeView { labels, ..NodeView::default() })));
}

fn hear_configs(world: &mut World, configs: &[EniConfig]) {
    world.tell(Input::Cluster(ClusterNews::EniConfigs(configs.to_vec())));
}

/// Kubernetes shows the node and its ENIConfig.
fn hear_all(world: &mut World) {
    hear_node(world);
    hear_configs(world, &[eni_config("subnet-pods")]);
}

fn is_pods(address: Ipv4Addr) -> bool {
    address.octets()[0] == 100
}

/// Assigns to an ENI, by its id.
fn assigns_to(world: &World, id: &str) -> usize {
    world.calls.iter().filter(|call| matches!(call, CloudCall::Assign { eni, .. } if eni.as_str() == id)).count()
}

/// Subnets in which ENIs were made.
fn made_in(world: &World) -> Vec<&str> {
    let made = world.calls.iter().filter_map(|call| match call {
        CloudCall::CreateEni { place, .. } => Some(place.subnet.as_str()),
        _ => None,
    });
    made.collect()
}

fn place_news(world: &World) -> Vec<&PlaceNews> {
    world.notices.iter().filter_map(|notice| if let Notice::Place(news) = notice { Some(news) } else { None }).collect()
}

#[test]
fn a_fresh_node_serves_pods_from_the_eni_configs_subnet_alone() {
    for unit in [Unit::Address, Unit::Prefix] {
        let mut config = custom(1, 3);
        config.target.unit = unit;
        let mut world = World::new(config);
        world.add_subnet(pods_subnet());
        let early = world.add("early");
        world.run_for(SECOND);
        assert_eq!((made_in(&world).len(), world.calls_of("Assign")), (0, 0), "nobody knows yet where");
        hear_all(&mut world);
        world.run_for(Millis::seconds(10));
        let early = world.added(early);
        assert!(is_pods(early.allocation.address), "{early:?}");
        assert_eq!(early.allocation.table.0, 2);
        let reply = world.start_pod("a");
        assert!(is_pods(reply.allocation.address));
        assert_eq!(world.leaves_by("a", "10.20.30.40"), "eth1");
        assert!(world.reaches("eth1", "a", reply.allocation.address));
        assert_eq!(assigns_to(&world, "eni-primary"), 0, "the primary ENI carries no pods");
        assert!(made_in(&world).iter().all(|subnet| *subnet == "subnet-pods"), "{:?}", made_in(&world));
        for eni in world.enis.values().filter(|eni| eni.token.is_some()) {
            assert_eq!(eni.truth.groups, ["sg-pods".parse().unwrap()]);
            assert!(eni.truth.slots.iter().all(|slot| Unit::of(*slot) == unit));
        }
        assert_eq!(world.enis[&primary()].truth.slots, []);
        assert_eq!(place_news(&world), Vec::<&PlaceNews>::new(), "nothing is wrong");
        // A settled node asks for nothing.
        world.run_for(LONG);
        let calls = world.calls.len();
        world.run_for(Millis::seconds(3600));
        assert_eq!(world.calls.len(), calls, "{:?}", &world.calls[calls..]);
    }
}

/// Nothing is fetched on a cordoned node before a pod asks, and no pod asks before the node is ready: whoever is bound to it (a daemon
/// set's pod) would wait for ever.
#[test]
fn a_cordoned_node_is_ready_without_an_address_and_serves_who_comes() {
    let mut world = World::new(custom(1, 3));
    world.add_subnet(pods_subnet());
    let labels = BTreeMap::from([(ZONE_KEY.to_owned(), "us-west-2a".to_owned())]);
    let cordoned = NodeView { labels, unschedulable: true, ..NodeView::default() };
    world.tell(Input::Cluster(ClusterNews::Node(cordoned)));
    hear_configs(&mut world, &[eni_config("subnet-pods")]);
    world.run_for(Millis::seconds(10));
    assert_eq!(world.calls_of("Create"), 0, "nothing ahead of demand");
    assert!(world.ready_at.is_some(), "{:#?}", world.notices);
    assert!(is_pods(world.start_pod("a").allocation.address));
}

fn primary() -> EniId {
    "eni-primary".parse().unwrap()
}

#[test]
fn the_enis_of_the_pods_count_without_the_primary_one() {
    let mut world = World::new(custom(1, 3));
    world.add_subnet(pods_subnet());
    hear_all(&mut world);
    world.run_for(Millis::seconds(10));
    for i in 0..18 {
        assert!(is_pods(world.start_pod(&format!("p{i}")).allocation.address));
    }
    assert_eq!(made_in(&world).len(), 2);
    let one_too_many = world.add("p18");
    world.run_for(Millis::seconds(16));
    let refusal = world.refused(one_too_many).to_string();
    assert!(refusal.contains("18"), "{refusal}");
    assert_eq!(made_in(&world).len(), 2);
}

/// Nine pods on the primary ENI and three on the second one, without custom networking.
fn node_with_pods() -> (World, BTreeMap<String, Ipv4Addr>) {
    let mut world = World::settled(config(1, 4));
    world.add_subnet(pods_subnet());
    let mut pods = BTreeMap::new();
    for i in 0..12 {
        let name = format!("old{i}");
        pods.insert(name.clone(), world.start_pod(&name).allocation.address);
    }
    assert!(pods.values().all(|address| !is_pods(*address)));
    world.run_for(LONG);
    (world, pods)
}

fn turn_on(world: &mut World, by_restart: bool) {
    world.config = Config { nonce: world.config.nonce, ..custom(1, 4) };
    if by_restart {
        world.restart(SECOND);
    } else {
        let settings = Box::new(world.config.clone());
        world.tell(Input::Settings(settings));
    }
}

#[test]
fn turned_on_over_a_node_with_pods_old_ones_live_on_and_new_ones_go_to_the_new_subnet() {
    for by_restart in [false, true] {
        let (mut world, pods) = node_with_pods();
        let old_enis: Vec<EniId> = world.enis.keys().filter(|id| **id != primary()).cloned().collect();
        turn_on(&mut world, by_restart);
        // A pod that comes before Kubernetes has answered waits; it gets no address beside its network.
        let early = world.add("early");
        world.run_for(SECOND);
        hear_all(&mut world);
        world.run_for(Millis::seconds(20));
        let reply = world.added(early);
        assert!(is_pods(reply.allocation.address), "by restart: {by_restart}");
        world.wire("early", &reply);
        for i in 0..4 {
            let reply = world.start_pod(&format!("new{i}"));
            assert!(is_pods(reply.allocation.address), "by restart: {by_restart}");
        }
        world.run_for(LONG);
        for (name, address) in &pods {
            let held = world.agent.pool().of(&key(name)).expect("an old pod lives on").allocation;
            assert_eq!(held.address, *address);
            let link = if held.device.0 == 0 { "eth0" } else { "eth1" };
            assert!(world.reaches(link, name, *address), "{name} by {link}");
        }
        let role = |world: &World, id: &EniId| world.agent.pool().eni(id).map(|eni| eni.role);
        assert_eq!(role(&world, &primary()), Some(EniRole::Retired(Retired::PrimaryOfCustomNetworking)));
        assert!(old_enis.iter().any(|id| role(&world, id) == Some(EniRole::Retired(Retired::OutsideEniConfig))));
        // The old ones end: their ENI empties and leaves; the primary one stays.
        for name in pods.keys() {
            world.stop_pod(name);
        }
        world.run_for(LONG);
        for id in &old_enis {
            assert!(!world.enis.contains_key(id), "{id} left; by restart: {by_restart}");
        }
        assert!(world.enis.contains_key(&primary()));
        assert!(world.agent.pool().held().all(|held| is_pods(held.allocation.address)));
        assert_eq!(world.agent.pool().held().count(), 5);
    }
}

#[test]
fn an_eni_config_that_goes_away_stops_new_enis_and_nothing_else() {
    for (gone, by_restart) in [(true, false), (false, false), (true, true)] {
        let mut world = World::new(custom(0, 4));
        world.add_subnet(pods_subnet());
        hear_all(&mut world);
        world.run_for(Millis::seconds(10));
        let first = world.start_pod("a").allocation.address;
        world.run_for(LONG);
        let (made, enis) = (made_in(&world).len(), world.agent.pool().enis().count());
        if by_restart {
            world.restart(SECOND);
            hear_node(&mut world);
        }
        let configs = if gone { vec![] } else { vec![eni_config("subnet-elsewhere")] };
        hear_configs(&mut world, &configs);
        world.run_for(LONG);
        // The ENI there is goes on, to its last address.
        assert_eq!(world.agent.pool().of(&key("a")).unwrap().allocation.address, first);
        for i in 0..8 {
            assert!(is_pods(world.start_pod(&format!("p{i}")).allocation.address));
        }
        assert_eq!(world.agent.pool().enis().count(), enis, "nothing is torn down");
        let tenth = world.add("tenth");
        world.run_for(Millis::seconds(16));
        let refusal = world.refused(tenth).to_string();
        assert!(refusal.contains("us-west-2a") && refusal.contains("ENIConfig"), "{refusal}");
        assert_eq!(made_in(&world).len(), made, "gone: {gone}, by restart: {by_restart}");
        let wrong: Vec<_> = place_news(&world).into_iter().filter(|news| matches!(news, PlaceNews::Wrong(_))).collect();
        assert_eq!(wrong.len(), 1, "said once: {wrong:?}");
        let missing = matches!(wrong[0], PlaceNews::Wrong(NoPlace::NoEniConfig { .. }));
        assert_eq!(missing, gone, "{wrong:?}");
        // It is back.
        hear_configs(&mut world, &[eni_config("subnet-pods")]);
        assert!(is_pods(world.start_pod("tenth again").allocation.address));
        assert_eq!(made_in(&world).len(), made + 1);
    }
}

#[test]
fn another_eni_config_moves_new_pods_to_its_subnet() {
    let mut world = World::new(custom(0, 4));
    world.add_subnet(pods_subnet());
    world.add_subnet(PaperSubnet::new("more", "100.64.32.0/19", 4000));
    hear_all(&mut world);
    world.run_for(Millis::seconds(10));
    let first = world.start_pod("a").allocation;
    hear_configs(&mut world, &[eni_config("subnet-more")]);
    let second = world.start_pod("b").allocation;
    assert_eq!((first.address.octets()[2] / 32, second.address.octets()[2] / 32), (0, 1));
    assert_eq!(world.agent.pool().of(&key("a")).unwrap().allocation, first);
    world.stop_pod("a");
    world.run_for(LONG);
    assert!(world.agent.pool().enis().all(|eni| eni.facts.device != first.device), "the old one left");
}

#[test]
fn where_subnets_can_not_be_listed_the_eni_config_is_believed() {
    let mut world = World::new(custom(0, 3));
    world.add_subnet(pods_subnet());
    for _ in 0..3 {
        world.faults.push_back(("Subnets", Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation")));
    }
    hear_all(&mut world);
    world.run_for(Millis::seconds(10));
    assert!(is_pods(world.start_pod("a").allocation.address));
    let said = place_news(&world).into_iter().filter(|news| matches!(news, PlaceNews::NotListed { .. })).count();
    assert_eq!(said, 1);
}
