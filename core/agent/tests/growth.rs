//! Growth on the paper node: what EC2 refuses teaches, subnets spill over, prefixes fall back, limits are learned, demand counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::BTreeSet;

use vpc_agent::{
    CloudCall, CloudUse, ClusterNews, Config, EniConfig, EniConfigKeys, FailureClass, Input, NoPlace, NodeView,
    Outcome, Refusal, Ticket,
};
use vpc_ipam::{EniUse, Unit, WarmTarget};
use vpc_model::{CardIndex, DeviceIndex, EniId, Millis, Slot};
use world::{Fault, PaperSubnet, World, config, pod};

const SECOND: Millis = Millis::seconds(1);
const ROLE: &str = "kubernetes.io/role/cni";

/// Calls that change something.
fn changes(world: &World) -> Vec<&CloudCall> {
    let asks = ["Describe", "Node", "Strays", "Leaked", "Limits", "Subnets"];
    world.calls.iter().filter(|call| !asks.contains(&world::kind_of(call))).collect()
}

/// Nothing changes any more, and hardly anything is asked.
fn rests(world: &mut World) {
    world.run_for(Millis::seconds(900));
    let (before, all) = (changes(world).len(), world.calls.len());
    world.run_for(Millis::seconds(3600));
    assert_eq!(changes(world).len(), before, "a node at rest changes something: {:?}", &world.calls[all..]);
}

fn add_many(world: &mut World, count: usize) -> Vec<Ticket> {
    (0..count).map(|i| world.add(&format!("p{i}"))).collect()
}

fn served(world: &World, tickets: &[Ticket]) -> usize {
    tickets.iter().filter(|ticket| matches!(world.answers.get(ticket), Some((_, Outcome::Added(_))))).count()
}

fn prefixes(warm: u32) -> vpc_agent::Config {
    let mut config = config(0, 3);
    config.target.unit = Unit::Prefix;
    config.target.warm = WarmTarget::Prefixes(warm);
    config
}

/// The answer to a create is lost, and the next one with its token refused: what the first one made is looked for, and deleted. The next
/// one may be the client's own second attempt, of the same call.
#[test]
fn an_eni_whose_creation_was_lost_and_then_refused_is_no_orphan() {
    let denied = Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation");
    let exhausted = Fault::LoseAndRefuse(FailureClass::SubnetExhausted, "InsufficientFreeAddressesInSubnet");
    for faults in [vec![Fault::LoseAnswer, denied], vec![exhausted]] {
        let mut world = World::settled(config(0, 3));
        world.faults.extend(faults.into_iter().map(|fault| ("Create", fault)));
        add_many(&mut world, 12);
        world.run_for(Millis::seconds(20));
        let loose = |world: &World| world.enis.values().filter(|eni| eni.truth.attachment.is_none()).count();
        assert_eq!(loose(&world), 1, "{:?}", world.calls);
        world.run_for(Millis::seconds(600));
        assert_eq!(loose(&world), 0, "{:?}", world.calls);
    }
}

/// A daemon that was killed after it made an ENI comes back where nothing may be changed: the ENI is deleted when something may be.
#[test]
fn a_stray_of_an_earlier_life_is_deleted_when_the_settings_allow_it() {
    let loose = |world: &World| world.enis.values().filter(|eni| eni.truth.attachment.is_none()).count();
    let killed_after = |effects| {
        let mut world = World::settled(config(0, 3));
        world.dies_at = Some((world.effects + effects, true));
        add_many(&mut world, 12);
        world.run_for(SECOND);
        Some(world).filter(|world| world.dead && loose(world) == 1)
    };
    let mut world = (1..10).find_map(killed_after).expect("an ENI is made");
    world.config.cloud = CloudUse::ReadOnly;
    world.restart(SECOND);
    world.run_for(Millis::seconds(3600));
    assert_eq!((loose(&world), world.calls_of("Delete")), (1, 0));
    world.config.cloud = CloudUse::NoRelease;
    let settings = Input::Settings(Box::new(world.config.clone()));
    world.tell(settings);
    world.run_for(Millis::seconds(60));
    assert_eq!(loose(&world), 0, "{:?}", world.calls);
}

/// How long the looks of all nodes take is known when the nodes have been counted: on a small cluster nobody waits for a thousand.
#[test]
fn a_stray_of_an_earlier_life_on_a_small_cluster_goes_soon() {
    let loose = |world: &World| world.enis.values().filter(|eni| eni.truth.attachment.is_none()).count();
    let killed_after = |effects| {
        let mut world = World::settled(Config { strays_after: Millis::seconds(2), ..config(0, 3) });
        world.dies_at = Some((world.effects + effects, true));
        add_many(&mut world, 12);
        world.run_for(SECOND);
        Some(world).filter(|world| world.dead && loose(world) == 1)
    };
    let mut world = (1..10).find_map(killed_after).expect("an ENI is made");
    world.restart(SECOND);
    world.tell(Input::Cluster(ClusterNews::Nodes(3)));
    world.run_for(Millis::seconds(10));
    assert_eq!(loose(&world), 0, "{:?}", world.calls);
}

#[test]
fn a_burst_makes_enis_side_by_side_each_with_all_it_carries() {
    let mut world = World::settled(config(0, 4));
    let start = world.now;
    let tickets = add_many(&mut world, 36);
    world.run_for(Millis::seconds(15));
    assert_eq!(served(&world, &tickets), 36);
    let last = tickets.iter().map(|t| world.waited(*t, start)).max().unwrap();
    assert!(last <= Millis::seconds(4), "three ENIs one after the other would take longer than {last}");
    for kind in ["Create", "Attach", "Modify"] {
        assert_eq!(world.calls_of(kind), 3, "{:?}", world.calls);
    }
    assert_eq!(world.calls_of("Assign"), 1, "new ENIs come with their addresses");
}

#[test]
fn an_exhausted_subnet_spills_over_to_the_next() {
    let mut config = config(1, 3);
    config.placing.discovery = true;
    let second = PaperSubnet::new("2", "10.20.16.0/22", 500).tagged(ROLE, "1");
    let mut world = World::among(config, vec![PaperSubnet::home(9), second]);
    world.run_for(Millis::seconds(5));
    let tickets = add_many(&mut world, 12);
    world.run_for(Millis::seconds(15));
    assert_eq!(served(&world, &tickets), 12, "{:#?}", world.notices);
    let elsewhere = world.enis.values().filter(|eni| eni.truth.subnet.as_str() == "subnet-2").count();
    assert!(elsewhere >= 1);
    let second = world.enis.values().find(|eni| eni.truth.subnet.as_str() == "subnet-2").unwrap().truth.id.clone();
    assert_eq!(world.agent.pool().eni(&second).unwrap().facts.subnet.to_string(), "10.20.16.0/22");
    rests(&mut world);
}

#[test]
fn an_exhausted_subnet_is_named_with_its_way_out() {
    let mut world = World::with(config(1, 3), 4);
    world.run_for(Millis::seconds(3));
    let tickets = add_many(&mut world, 6);
    world.run_for(Millis::seconds(20));
    let refusal = world.refused(tickets[5]);
    assert!(matches!(&refusal, Refusal::SubnetExhausted { subnets, .. } if subnets.len() == 1), "{refusal:?}");
    assert!(refusal.to_string().contains("subnet-1"), "{refusal}");
}

#[test]
fn a_fragmented_subnet_gives_single_addresses_and_prefixes_again_later() {
    let mut world =
        World::in_cloud(prefixes(1), vec![PaperSubnet::home(1000)], |world| world.subnet("1").fragmented = true);
    let tickets = add_many(&mut world, 3);
    world.run_for(Millis::seconds(15));
    assert_eq!(served(&world, &tickets), 3, "{:#?}", world.notices);
    let slots = |world: &World, unit: Unit| {
        let slots = world.enis.values().flat_map(|eni| eni.truth.slots.clone());
        slots.filter(|slot| Unit::of(*slot) == unit).count()
    };
    assert!(slots(&world, Unit::Address) >= 3 && slots(&world, Unit::Prefix) == 0);
    world.subnet("1").fragmented = false;
    world.run_for(Millis::seconds(400));
    assert!(slots(&world, Unit::Prefix) >= 1, "{:#?}", world.calls);
    rests(&mut world);
}

#[test]
fn prefixes_come_with_the_new_eni_in_one_call() {
    let mut world = World::settled(prefixes(1));
    assert_eq!(world.calls_of("Assign"), 1);
    let tickets = add_many(&mut world, 16 * 9 + 1);
    world.run_for(Millis::seconds(15));
    assert_eq!(served(&world, &tickets), 145);
    let unit = |call: &CloudCall| matches!(call, CloudCall::CreateEni { unit: Unit::Prefix, .. });
    assert_eq!(world.calls.iter().filter(|call| unit(call)).count(), world.calls_of("Create"));
    assert_eq!(world.calls_of("Create"), 1, "{:?}", world.calls);
}

#[test]
fn r25_address_limit_exceeded_corrects_the_count() {
    let mut world = World::settled(config(1, 1));
    // Four of what EC2 gave are unknown here, and there is room for five more only.
    let mut config = world.config.clone();
    config.target.slots_per_eni = 14;
    world.tell(Input::Settings(Box::new(config)));
    world.slot_limit = 12;
    let tickets = add_many(&mut world, 12);
    world.run_for(Millis::seconds(15));
    assert_eq!(served(&world, &tickets), 12, "{:#?}", world.notices);
    let calls = world.calls_of("Assign") + world.calls_of("Describe");
    assert!(calls <= 12, "{calls} calls: {:?}", world.calls);
    rests(&mut world);
}

#[test]
fn r30_limits_are_asked_once_and_hold() {
    let mut config = config(1, 15);
    (config.limits_known, config.target.slots_per_eni) = (false, 49);
    let mut world = World::in_cloud(config, vec![PaperSubnet::home(1000)], |world| {
        (world.limits, world.slot_limit, world.eni_limit) = (Some((2, 5, false)), 5, 2);
    });
    world.run_for(Millis::seconds(30));
    let tickets = add_many(&mut world, 10);
    world.run_for(Millis::seconds(30));
    assert_eq!(served(&world, &tickets), 10, "{:#?}", world.notices);
    assert_eq!((world.enis.len(), world.calls_of("Limits")), (2, 1));
    rests(&mut world);
}

#[test]
fn r30_limits_that_nobody_says_are_learned_from_refusals() {
    let mut config = config(0, 15);
    (config.limits_known, config.target.slots_per_eni) = (false, 49);
    config.target.warm = WarmTarget::Addresses { warm: 2, minimum: 0 };
    let mut world =
        World::in_cloud(config, vec![PaperSubnet::home(1000)], |world| (world.slot_limit, world.eni_limit) = (5, 3));
    world.run_for(Millis::seconds(60));
    let mut got = BTreeSet::new();
    for i in 0..15 {
        got.insert(world.start_pod(&format!("p{i}")).allocation.address);
    }
    assert_eq!(got.len(), 15);
    world.add("one-too-many");
    rests(&mut world);
    let loose = world.enis.values().filter(|eni| eni.truth.attachment.is_none()).count();
    assert_eq!((world.enis.len(), loose), (3, 0), "{:#?}", world.notices);
}

#[test]
fn r26_a_call_that_is_never_answered_ends_and_is_said() {
    let mut world = World::settled(config(0, 3));
    for i in 0..8 {
        world.start_pod(&format!("p{i}"));
    }
    world.call_takes = Millis::seconds(1_000_000);
    world.add("the-last-free-one");
    let ticket = world.add("a");
    world.run_for(Millis::seconds(20));
    let refusal = world.refused(ticket);
    assert!(matches!(refusal, Refusal::Warming { .. } | Refusal::Unconfirmed { .. }), "{refusal:?}");
    world.run_for(Millis::seconds(121));
    assert!(world.notices.iter().any(|notice| notice.to_string().contains("NoAnswer")), "{:#?}", world.notices);
    world.call_takes = Millis(400);
    let late = world.add("b");
    world.run_for(Millis::seconds(130));
    assert!(world.answers.contains_key(&late), "every wait is bounded");
    let last = world.add("c");
    world.run_for(Millis::seconds(15));
    world.added(last);
}

#[test]
fn r24_a_throttled_start_asks_seldom_and_recovers() {
    let mut world = World::new(config(1, 3));
    for kind in ["Node", "Assign", "Node", "Assign"] {
        world.faults.push_back((kind, Fault::Refuse(FailureClass::Throttled, "RequestLimitExceeded")));
    }
    world.run_for(Millis::seconds(180));
    assert_eq!(world.agent.pool().stats().ready, 9, "{:?}", world.calls);
    let asked = world.calls_of("Node") + world.calls_of("Assign");
    assert!(asked <= 8, "{asked} calls");
    for _ in 0..200 {
        world.faults.push_back(("Create", Fault::Refuse(FailureClass::Throttled, "RequestLimitExceeded")));
    }
    let tickets = add_many(&mut world, 10);
    world.run_for(Millis::seconds(16));
    let refusal = world.refused(tickets[9]);
    assert!(matches!(refusal, Refusal::Throttled { .. }), "{refusal:?}");
    // Two ENIs are wanted: for the tenth pod, and one to keep warm.
    assert!(world.calls_of("Create") <= 10, "{} calls", world.calls_of("Create"));
}

#[test]
fn a_new_node_that_is_told_to_wait_is_ready_when_it_has_addresses() {
    for kind in ["Node", "Assign"] {
        let mut world = World::new(config(1, 3));
        for _ in 0..3 {
            world.faults.push_back((kind, Fault::Refuse(FailureClass::Throttled, "RequestLimitExceeded")));
        }
        world.run_for(Millis::seconds(400));
        assert!(world.ready_at.is_some() && world.agent.pool().stats().ready > 0, "{kind}: {:?}", world.calls);
    }
    // One that EC2 can not answer is ready without: the pods it gets are told why.
    let mut world = World::new(config(1, 3));
    for _ in 0..50 {
        for kind in ["Node", "Assign", "Create", "Subnets"] {
            world.faults.push_back((kind, Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation")));
        }
    }
    world.run_for(Millis::seconds(30));
    assert!(world.ready_at.is_some(), "{:?}", world.calls);
}

#[test]
fn a_denied_action_is_named_with_the_pod_and_the_way_out() {
    let mut world = World::settled(config(0, 3));
    for _ in 0..50 {
        world.faults.push_back(("Create", Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation")));
    }
    let tickets = add_many(&mut world, 10);
    world.run_for(Millis::seconds(16));
    let refusal = world.refused(tickets[9]);
    assert!(matches!(&refusal, Refusal::Denied { action, .. } if action == "ec2:Create"), "{refusal:?}");
    let events: Vec<_> = world.notices.iter().filter_map(vpc_agent::Notice::event).collect();
    let reasons: Vec<&str> = events.iter().map(|event| event.reason).collect();
    assert!(reasons.contains(&"MissingIAMPermissions") && reasons.contains(&"CallDenied"), "{reasons:?}");
}

#[test]
fn r15_where_every_free_address_rests_the_pool_grows_and_at_the_limit_the_add_waits_for_one() {
    let mut world = World::settled(config(0, 2));
    for round in 0..9 {
        world.start_pod(&format!("p{round}"));
        world.stop_pod(&format!("p{round}"));
        world.run_for(Millis(100));
    }
    world.run_for(SECOND);
    let stats = world.agent.pool().stats();
    assert!(stats.ready > 0, "what rests is not free: {stats:?}");
    // At the limit: all held but one, which rests.
    let mut full = World::settled(config(0, 1));
    for i in 0..9 {
        full.start_pod(&format!("p{i}"));
    }
    full.stop_pod("p0");
    let (early, asked) = (full.add("early"), full.now);
    full.run_for(Millis::seconds(16));
    let refusal = full.refused(early);
    assert!(matches!(refusal, Refusal::Cooling { held: 8, cooling: 1, .. }), "{refusal:?}");
    let late = full.add("late");
    full.run_for(Millis::seconds(16));
    full.added(late);
    assert!(full.answers[&late].0.since(asked) <= Millis::seconds(32));
}

fn cordon(world: &mut World, unschedulable: bool) {
    let node = NodeView { unschedulable, ..NodeView::default() };
    world.tell(Input::Cluster(ClusterNews::Node(node)));
}

#[test]
fn a_cordoned_node_fetches_nothing_ahead_gives_nothing_back_and_serves_who_waits() {
    let mut world = World::settled(config(1, 3));
    cordon(&mut world, true);
    for i in 0..9 {
        world.start_pod(&format!("p{i}"));
    }
    assert_eq!(world.calls_of("Create"), 0, "nothing ahead of demand");
    let tenth = world.start_pod("p9");
    assert_eq!(tenth.allocation.device.0, 1, "a pod that is bound here is served");
    let counts = |world: &World| world.enis.values().map(|eni| eni.truth.slots.len()).sum::<usize>();
    assert_eq!(counts(&world), 10, "and no more than that");
    for i in 0..10 {
        world.stop_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(600));
    assert_eq!((world.enis.len(), counts(&world)), (2, 10), "nothing is given back");
    cordon(&mut world, false);
    world.run_for(Millis::seconds(600));
    assert_eq!(world.enis.len(), 1, "{:#?}", world.notices);
}

#[test]
fn a_cordoned_node_says_so_where_a_pod_waits_too_long() {
    let mut world = World::settled(config(0, 3));
    cordon(&mut world, true);
    for i in 0..9 {
        world.start_pod(&format!("p{i}"));
    }
    world.call_takes = Millis::seconds(60);
    let ticket = world.add("late");
    world.run_for(Millis::seconds(16));
    let refusal = world.refused(ticket);
    assert!(matches!(refusal, Refusal::NotSchedulable { waiting: 1, .. }), "{refusal:?}");
}

#[test]
fn switched_off_means_not_one_call() {
    let mut config = config(1, 3);
    config.cloud = CloudUse::Off;
    let mut world = World::new(config);
    let ticket = world.add("a");
    world.run_for(Millis::seconds(600));
    assert_eq!(world.calls, vec![]);
    let refusal = world.refused(ticket);
    assert!(matches!(refusal, Refusal::CloudOff { allowed: CloudUse::Off, .. }), "{refusal:?}");
}

#[test]
fn read_only_asks_and_changes_nothing() {
    let mut config = config(1, 3);
    config.cloud = CloudUse::ReadOnly;
    let mut world = World::new(config);
    let ticket = world.add("a");
    world.run_for(Millis::seconds(600));
    assert_eq!(changes(&world), Vec::<&CloudCall>::new());
    assert!(world.calls_of("Node") >= 1);
    assert!(matches!(world.refused(ticket), Refusal::CloudOff { allowed: CloudUse::ReadOnly, .. }));
}

#[test]
fn an_ending_daemon_begins_nothing_and_finishes_what_it_began() {
    let mut world = World::settled(config(0, 3));
    for i in 0..8 {
        world.start_pod(&format!("p{i}"));
    }
    world.add("ninth");
    // The list of subnets is there, the ENI is being made.
    world.run_for(Millis(600));
    assert_eq!((world.calls_of("Create"), world.calls_of("Attach")), (1, 0));
    world.tell(Input::Terminate);
    world.run_for(Millis::seconds(60));
    assert_eq!((world.calls_of("Create"), world.calls_of("Attach"), world.calls_of("Modify")), (1, 1, 1));
}

#[test]
fn pods_bound_to_the_node_are_fetched_for_before_they_ask() {
    let mut config = config(0, 3);
    config.look_ahead = true;
    config.target.warm = WarmTarget::Addresses { warm: 1, minimum: 0 };
    let mut world = World::settled(config);
    let bound = |range: std::ops::Range<u32>| range.map(|i| pod(&format!("p{i}"))).collect::<Vec<_>>();
    world.tell(Input::Cluster(ClusterNews::Pods(bound(0..12))));
    world.run_for(Millis::seconds(5));
    assert!(world.agent.pool().stats().ready >= 12, "{:?}", world.agent.pool().stats());
    let tickets = add_many(&mut world, 12);
    let asked = world.now;
    world.run_for(SECOND);
    assert_eq!(served(&world, &tickets), 12);
    assert!(tickets.iter().all(|t| world.waited(*t, asked) < Millis(100)));
    for (i, ticket) in tickets.iter().enumerate() {
        let reply = world.added(*ticket);
        world.wire(&format!("p{i}"), &reply);
    }
    // A pod that had its address and lost it is ending: it counts no more, though Kubernetes still lists it.
    for i in 0..12 {
        world.stop_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(400));
    assert!(world.agent.pool().stats().ready <= 2, "{:?}", world.agent.pool().stats());
    world.tell(Input::Cluster(ClusterNews::Pods(bound(20..26))));
    world.tell(Input::Cluster(ClusterNews::Pods(vec![])));
    rests(&mut world);
}

#[test]
fn a_missing_eni_config_is_named_and_a_right_one_is_used() {
    let mut config = config(1, 3);
    config.placing.custom = Some(EniConfigKeys { annotation: "a".into(), label: "zone".into() });
    let mut world = World::new(config);
    world.add_subnet(PaperSubnet::new("3", "100.64.0.0/18", 500));
    let labels = [("zone".to_owned(), "west".to_owned())].into_iter().collect();
    world.tell(Input::Cluster(ClusterNews::Node(NodeView { labels, ..NodeView::default() })));
    world.tell(Input::Cluster(ClusterNews::EniConfigs(vec![])));
    let ticket = world.add("a");
    world.run_for(Millis::seconds(16));
    let refusal = world.refused(ticket);
    let missing = |why: &NoPlace| matches!(why, NoPlace::NoEniConfig { name, .. } if name == "west");
    assert!(matches!(&refusal, Refusal::NoPlace { why, .. } if missing(why)), "{refusal:?}");
    assert_eq!(changes(&world), Vec::<&CloudCall>::new());
    let west = EniConfig { name: "west".into(), subnet: "subnet-3".into(), security_groups: vec!["sg-9".into()] };
    world.tell(Input::Cluster(ClusterNews::EniConfigs(vec![west])));
    let reply = world.start_pod("b");
    assert_eq!(reply.allocation.address.octets()[..2], [100, 64], "{reply:?}");
    let second = world.enis.values().find(|eni| eni.truth.subnet.as_str() == "subnet-3").unwrap();
    assert_eq!(second.truth.groups, vec!["sg-9".parse().unwrap()]);
    rests(&mut world);
}

/// EC2 says once that an ENI of a known type is full, and it is not: that is tried again, not believed for ever.
#[test]
fn a_limit_below_the_type_s_is_believed_for_a_while_only() {
    let mut world = World::settled(config(1, 1));
    for name in ["a", "b", "c"] {
        world.start_pod(name);
    }
    let primary: EniId = "eni-primary".parse().unwrap();
    world.run_for(Millis::seconds(120));
    // Somebody has taken four positions away, and EC2 refuses to give them back, once for each try of a while.
    let gone: Vec<Slot> = {
        let free = |slot: &&Slot| !world.agent.pool().held().any(|held| slot.contains(held.allocation.address));
        world.enis[&primary].truth.slots.iter().filter(free).take(4).copied().collect()
    };
    world.enis.get_mut(&primary).unwrap().truth.slots.retain(|slot| !gone.contains(slot));
    for _ in 0..3 {
        world.faults.push_back(("Assign", Fault::Refuse(FailureClass::AddressLimit, "PrivateIpAddressLimitExceeded")));
    }
    world.run_for(Millis::seconds(240));
    assert!(world.agent.pool().stats().total < 9, "{:#?}", world.notices);
    let calls = world.calls_of("Assign");
    world.run_for(Millis::seconds(900));
    assert_eq!(world.calls_of("Assign"), calls, "nobody waits");
    for name in ["d", "e", "f", "g", "h", "i"] {
        world.start_pod(name);
    }
    assert_eq!(world.agent.pool().stats().total, 9, "{:#?}", world.notices);
}

/// EC2 does not find ids that are younger than its lag.
#[test]
fn an_eni_that_ec2_does_not_know_yet_is_tied_to_its_instance_all_the_same() {
    let mut world = World::settled(config(0, 2));
    let unknown = || Fault::Refuse(FailureClass::NotFound, "InvalidAttachmentID.NotFound");
    world.faults.extend([("Modify", unknown()), ("Modify", unknown())]);
    add_many(&mut world, 12);
    world.run_for(Millis::seconds(60));
    assert_eq!(world.enis.len(), 2);
    for eni in world.enis.values() {
        assert!(eni.delete_on_termination, "{} would outlive its instance", eni.truth.id);
    }
    assert_eq!(world.calls_of("Modify"), 3);
}

/// Whoever may not wait counts as demand all the same, and is not told that the node is full.
#[test]
fn what_a_pod_lacks_that_may_not_wait_is_fetched_for_its_next_sandbox() {
    let mut config = config(0, 3);
    config.target.warm = WarmTarget::Addresses { warm: 0, minimum: 1 };
    config.add_wait = Millis(0);
    let mut world = World::settled(config);
    let first = world.add("first");
    world.run_for(SECOND);
    world.added(first);
    let early = world.add("early");
    assert!(matches!(world.refused(early), Refusal::Warming { coming: 1.., .. }), "{:?}", world.refused(early));
    world.run_for(Millis::seconds(5));
    let again = world.add("early");
    world.run_for(SECOND);
    world.added(again);
    rests(&mut world);
}

/// It is there, whatever the node may run: what came for it is not given back before it comes again.
#[test]
fn a_pod_that_was_refused_counts_beyond_what_the_node_may_run() {
    let mut config = config(0, 2);
    config.target.unit = Unit::Prefix;
    config.target.warm = WarmTarget::Addresses { warm: 0, minimum: 1 };
    (config.target.max_pods, config.target.release_every) = (Some(4), Millis(0));
    config.add_wait = Millis(0);
    let mut world = World::settled(config);
    for i in 0..16 {
        world.start_pod(&format!("p{i}"));
    }
    let early = world.add("early");
    world.refused(early);
    world.run_for(Millis::seconds(20));
    assert_eq!(world.agent.pool().stats().prefixes.empty, 1);
    let again = world.add("early");
    world.run_for(SECOND);
    world.added(again);
    rests(&mut world);
}

/// Each is deleted again, so that only the pause between them bounds how many are made.
#[test]
fn an_eni_that_can_not_be_attached_is_made_again_ever_more_rarely() {
    let mut world = World::settled(config(0, 2));
    let refused = || Fault::Refuse(FailureClass::Other, "InvalidParameterValue");
    world.faults.extend((0..2000).map(|_| ("Attach", refused())));
    world.tell(Input::Settings(Box::new(config(12, 2))));
    world.run_for(Millis::seconds(600));
    let made = world.calls_of("Create");
    // Pauses of 1, 2, 4 … 64 s, and of two minutes from then on.
    assert!((8..=13).contains(&made), "{made} ENIs were made");
    world.faults.clear();
    world.run_for(Millis::seconds(130));
    assert_eq!((world.calls_of("Create"), world.enis.len()), (made + 1, 2));
    assert!(world.enis.values().all(|eni| eni.truth.attachment.is_some()));
}

#[test]
fn what_was_attached_is_taken_in_though_the_settings_forbid_changes_meanwhile() {
    let mut world = World::settled(config(0, 2));
    let unheard = || Fault::Refuse(FailureClass::Unreachable, "ConnectionReset");
    world.faults.extend((0..2000).map(|_| ("Attach", unheard())));
    world.tell(Input::Settings(Box::new(config(12, 2))));
    world.run_for(Millis::seconds(20));
    let made = world.enis.values_mut().find(|eni| eni.truth.attachment.is_none()).unwrap();
    made.truth.attachment = Some(("eni-attach-1".parse().unwrap(), CardIndex(0), DeviceIndex(1)));
    made.truth.available = false;
    let id = made.truth.id.clone();
    world.plug(1);
    let mut forbidding = config(12, 2);
    forbidding.cloud = CloudUse::ReadOnly;
    world.tell(Input::Settings(Box::new(forbidding)));
    world.run_for(Millis::seconds(600));
    let known = world.agent.pool().eni(&id).expect("it is in the books");
    assert_eq!((known.usage, known.facts.device), (EniUse::Ready, DeviceIndex(1)));
}
