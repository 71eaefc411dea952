//! What is left when pods go without a word: leases, rules and links of nobody are found while the node runs, and no living pod is hurt.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use vpc_agent::{ClusterNews, DelReply, Input, Notice, Outcome};
use vpc_hostnet::{HostOp, HostState, PaperHost, Route, Rule, unwiring};
use vpc_model::{Mac, Millis, RouteTable, SandboxKey};
use world::{World, config, key, pod};

const SECOND: Millis = Millis::seconds(1);
const HOUR: Millis = Millis::seconds(3600);
const ETH1: RouteTable = RouteTable(2);

/// A second sandbox of a pod of that name.
fn second(name: &str) -> SandboxKey {
    SandboxKey { container: format!("c2-{name}"), ..key(name) }
}

fn holds(world: &World, address: Ipv4Addr) -> bool {
    world.agent.pool().held().any(|held| held.allocation.address == address)
}

fn rests(world: &World, address: Ipv4Addr) -> bool {
    world.agent.pool().cooling().any(|(resting, ..)| resting == address)
}

/// Rules that name the address.
fn rules_of(world: &World, address: Ipv4Addr) -> Vec<Rule> {
    let is = |net: Option<vpc_model::Ipv4Net>| net.is_some_and(|net| net.addr() == address);
    world.host.observe().rules.into_iter().filter(|rule| is(rule.from) || is(rule.to)).collect()
}

fn rule(priority: u32, from: Option<&str>, to: Option<&str>, table: RouteTable) -> Rule {
    let net = |text: Option<&str>| text.map(|text| format!("{text}/32").parse().unwrap());
    Rule { priority, from: net(from), to: net(to), mark: None, iif: None, table }
}

fn add_rule(world: &mut World, rule: Rule) {
    world.host.apply(&HostOp::AddRule(rule)).unwrap();
}

fn said(world: &World, which: fn(&Notice) -> bool) -> usize {
    world.notices.iter().filter(|notice| which(notice)).count()
}

/// A node with a second ENI, whose addresses pods have.
fn two_enis() -> World {
    let mut world = World::settled(config(1, 3));
    for i in 0..10 {
        world.start_pod(&format!("p{i}"));
    }
    world
}

fn ask(world: &mut World, name: &str) -> vpc_agent::AddReply {
    let ticket = world.add(name);
    world.run_for(SECOND);
    world.added(ticket)
}

#[test]
fn a_plugin_killed_before_it_made_the_link_leaves_nothing() {
    let mut world = World::settled(config(1, 3));
    let address = ask(&mut world, "a").allocation.address;
    world.run_for(Millis::seconds(60));
    assert!(holds(&world, address), "a plugin may still be at work");
    world.run_for(Millis::seconds(70));
    assert!(!holds(&world, address));
    assert_eq!(said(&world, |n| matches!(n, Notice::LeasePruned { .. })), 1);
}

#[test]
fn a_plugin_killed_after_it_made_the_link_keeps_its_address_until_the_sandbox_ends() {
    let mut world = two_enis();
    let reply = ask(&mut world, "a");
    let address = reply.allocation.address;
    world.wire("a", &reply);
    // Only the link is there yet; route and rules had not been made.
    let link = world
        .host
        .observe()
        .links
        .into_iter()
        .find(|link| link.name == vpc_model::host_veth(&world.config.host.veth_prefix, &pod("a")))
        .unwrap()
        .name;
    for op in unwiring(world.config.host.layout, address, reply.allocation.table) {
        world.host.apply(&op).unwrap();
    }
    world.host.apply(&HostOp::RemoveRoute(Route::on_link(RouteTable::MAIN, address.into(), link))).unwrap();
    world.run_for(HOUR);
    assert!(holds(&world, address), "its sandbox lives");
    assert!(world.reaches("eth1", "a", address) || world.reaches("eth0", "a", address), "and what lacked was made");
    world.sandbox_ends("a");
    world.run_for(Millis::seconds(63));
    assert!(rests(&world, address), "{:#?}", world.notices);
    assert_eq!(rules_of(&world, address), []);
}

#[test]
fn a_del_that_never_came_is_noticed_while_running() {
    let mut world = two_enis();
    let held = world.agent.pool().of(&key("p9")).unwrap().clone();
    world.run_for(HOUR);
    world.sandbox_ends("p9");
    let ended = world.now;
    world.run_for(Millis::seconds(63));
    assert!(rests(&world, held.allocation.address), "found with the regular look, and the one after");
    assert_eq!(rules_of(&world, held.allocation.address), []);
    world.run_for(Millis::seconds(60));
    assert!(!rests(&world, held.allocation.address) && !holds(&world, held.allocation.address));
    let _ = ended;
    // The DEL comes after all.
    let late = world.del("p9");
    world.run_for(SECOND);
    assert!(matches!(world.answers[&late].1, Outcome::Deleted(DelReply::UnknownPod)));
}

#[test]
fn one_look_that_shows_no_links_ends_nothing() {
    let mut world = two_enis();
    world.run_for(HOUR);
    // The links are missing for a moment, as in a dump that was cut short.
    let whole = world.host.clone();
    for i in 0..10 {
        world.sandbox_ends(&format!("p{i}"));
    }
    world.tell(Input::HostChanged);
    world.run_for(Millis(5_500));
    assert_eq!(said(&world, |n| matches!(n, Notice::LeasePruned { .. })), 0, "seen once");
    world.host = whole;
    world.run_for(HOUR);
    assert_eq!(said(&world, |n| matches!(n, Notice::LeasePruned { .. })), 0);
    assert_eq!(world.agent.pool().held().count(), 10);
}

#[test]
fn an_add_repeated_for_an_old_lease_has_its_time_again() {
    let mut world = World::settled(config(1, 3));
    let first = world.start_pod("a");
    world.run_for(HOUR);
    // The runtime lost the result, undid the sandbox's network by itself and asks again for the same sandbox.
    world.sandbox_ends("a");
    let again = ask(&mut world, "a");
    assert_eq!(again, first);
    world.tell(Input::HostChanged);
    world.run_for(Millis::seconds(50));
    assert!(holds(&world, first.allocation.address), "a plugin is at work on it");
    world.wire("a", &again);
    world.run_for(HOUR);
    assert!(holds(&world, first.allocation.address));
}

#[test]
fn r10_a_healthy_workload_is_never_freed() {
    let mut world = two_enis();
    // The same pod is made anew: another sandbox, the same names. The old sandbox's DEL has not come.
    let old = world.agent.pool().of(&key("p3")).unwrap().allocation;
    world.tell(Input::Add {
        ticket: vpc_agent::Ticket(9000),
        request: vpc_agent::AddRequest { key: second("p3"), pod: pod("p3") },
    });
    world.run_for(SECOND);
    let new = world.added(vpc_agent::Ticket(9000)).allocation;
    world.sandbox_ends("p3");
    world.wire_as(&second("p3"), "p3", new.address, new.table);
    // Kubernetes forgets the node's pods: that is no proof of anything.
    world.tell(Input::Cluster(ClusterNews::Pods(vec![])));
    for _ in 0..20 {
        world.tell(Input::HostChanged);
        world.run_for(Millis::seconds(30));
    }
    world.restart(Millis::seconds(30));
    world.run_for(HOUR);
    assert!(!holds(&world, old.address), "the old sandbox's address is free");
    assert_eq!(world.agent.pool().of(&second("p3")).unwrap().allocation, new, "the new one's is its own");
    for i in [0, 1, 2, 4, 5, 6, 7, 8, 9] {
        assert!(world.agent.pool().of(&key(&format!("p{i}"))).is_some(), "p{i}");
    }
    assert_eq!(said(&world, |n| matches!(n, Notice::LeasePruned { .. })), 1);
}

#[test]
fn r13_a_lease_under_a_wrong_container_id_becomes_its_sandbox_s_and_the_pod_is_not_hurt() {
    let mut world = two_enis();
    let allocation = world.agent.pool().of(&key("p9")).unwrap().allocation;
    for lease in &mut world.disk.as_mut().unwrap().leases {
        lease.key.container = format!("wrong-{}", lease.key.container);
    }
    world.restart(SECOND);
    let mut reached = 0;
    for _ in 0..200 {
        world.run_for(Millis(500));
        assert!(holds(&world, allocation.address), "nobody else may get it at any moment");
        assert!(world.reaches("eth1", "p9", allocation.address), "its rules stay");
        reached += 1;
    }
    assert_eq!(reached, 200);
    let keys: BTreeSet<SandboxKey> = world.agent.pool().held().map(|held| held.key.clone()).collect();
    assert_eq!(keys, (0..10).map(|i| key(&format!("p{i}"))).collect(), "all recovered under their own names");
    assert_eq!(world.agent.pool().of(&key("p9")).unwrap().allocation, allocation);
    world.stop_pod("p9");
    assert!(rests(&world, allocation.address), "and their DELs find them");
}

#[test]
fn r31_a_rule_for_a_departed_pod_s_address_that_lives_elsewhere_now_is_removed() {
    let mut world = two_enis();
    // Of the node's subnet, on none of its ENIs: another node's pod has it by now.
    let peer = "10.20.11.250";
    // Of another subnet of the VPC, by an ENI that is long gone.
    let far = "100.64.3.7";
    add_rule(&mut world, rule(512, None, Some(peer), RouteTable::MAIN));
    add_rule(&mut world, rule(512, None, Some(far), RouteTable::MAIN));
    add_rule(&mut world, rule(1536, Some(far), None, RouteTable(4)));
    assert_eq!(world.leaves_by("p9", peer), "eth0", "whose gateway drops it");
    world.run_for(Millis::seconds(70));
    assert_eq!(world.leaves_by("p9", peer), "eth1");
    assert_eq!(rules_of(&world, far.parse().unwrap()), []);
    assert_eq!(said(&world, |n| matches!(n, Notice::TiesOfNobody { .. })), 2, "each is said with its proof");
}

#[test]
fn objects_of_others_are_never_touched() {
    let mut world = two_enis();
    let mut others = vec![
        // Not of a pod: a host that somebody wants reached by main.
        rule(512, None, Some("10.20.99.5"), RouteTable::MAIN),
        // Not in the VPC.
        rule(512, None, Some("192.0.2.5"), RouteTable::MAIN),
        rule(1536, Some("192.0.2.5"), None, ETH1),
        // The reference's pod with a branch ENI: its table is no ENI's of the node.
        rule(512, None, Some("10.20.9.77"), RouteTable::MAIN),
        rule(1536, Some("10.20.9.77"), None, RouteTable(105)),
        // Other priorities, other tables, the node's own address.
        rule(513, None, Some("10.20.9.78"), RouteTable::MAIN),
        rule(512, None, Some("10.20.9.79"), RouteTable(200)),
        rule(512, None, Some("10.20.11.162"), RouteTable::MAIN),
    ];
    others.push(Rule { iif: Some("eth0".parse().unwrap()), ..rule(512, None, Some("10.20.9.80"), RouteTable::MAIN) });
    others.iter().for_each(|rule| add_rule(&mut world, rule.clone()));
    let before = world.host.observe();
    world.run_for(HOUR);
    world.restart(SECOND);
    world.run_for(HOUR);
    let after = world.host.observe();
    for rule in &others {
        assert!(after.rules.contains(rule), "{rule:?}");
    }
    assert_eq!((before.routes, before.rules), (after.routes, after.rules));
}

#[test]
fn r33_a_late_del_of_an_old_sandbox_leaves_the_new_one_of_the_same_name_alone() {
    let mut world = two_enis();
    world.run_for(Millis::seconds(100));
    world.sandbox_ends("p9");
    world.tell(Input::Add {
        ticket: vpc_agent::Ticket(9000),
        request: vpc_agent::AddRequest { key: second("p9"), pod: pod("p9") },
    });
    world.run_for(SECOND);
    let new = world.added(vpc_agent::Ticket(9000)).allocation;
    world.wire_as(&second("p9"), "p9", new.address, new.table);
    let late = world.del("p9");
    world.run_for(HOUR);
    assert!(matches!(world.answers[&late].1, Outcome::Deleted(_)));
    assert_eq!(world.agent.pool().of(&second("p9")).unwrap().allocation, new);
    assert!(world.reaches("eth1", &second("p9").container, new.address), "{:#?}", world.notices);
}

/// A lease whose caller still waits for the disk has no link, and is nobody's that is gone: whatever else is asked for the same pod.
#[test]
fn a_lease_on_its_way_to_the_disk_is_not_judged() {
    let mut world = World::settled(config(1, 1));
    world.write_takes = Millis::seconds(10);
    let first = world.add("a");
    world.run_for(Millis(100));
    let again = vpc_agent::AddRequest { key: second("a"), pod: pod("a") };
    world.tell(Input::Add { ticket: vpc_agent::Ticket(900), request: again });
    world.run_for(Millis::seconds(30));
    let (first, next) = (world.added(first).allocation.address, world.added(vpc_agent::Ticket(900)).allocation.address);
    assert_ne!(first, next);
    // It was told, its plugin made no link, and its pod has another sandbox.
    world.write_takes = Millis(1);
    world.run_for(Millis::seconds(61));
    assert!(!holds(&world, first), "{:#?}", world.notices);
}

#[test]
fn r46_a_pod_keeps_its_network_until_its_del_however_long_it_takes_to_end() {
    let mut world = two_enis();
    let allocation = world.agent.pool().of(&key("p9")).unwrap().allocation;
    // Kubernetes counts it as finished and forgets it; its sandbox lives on.
    let others = (0..9).map(|i| pod(&format!("p{i}"))).collect();
    world.tell(Input::Cluster(ClusterNews::Pods(others)));
    for _ in 0..24 {
        world.run_for(HOUR);
        world.tell(Input::HostChanged);
    }
    world.restart(Millis::seconds(600));
    world.run_for(HOUR);
    assert!(world.reaches("eth1", "p9", allocation.address));
    assert_eq!(world.agent.pool().of(&key("p9")).unwrap().allocation, allocation);
    world.stop_pod("p9");
    world.run_for(Millis::seconds(5));
    assert_eq!(rules_of(&world, allocation.address), []);
}

#[test]
fn r48_a_del_that_found_no_daemon_leaves_no_rules_when_it_is_back() {
    let mut world = two_enis();
    let allocation = world.agent.pool().of(&key("p9")).unwrap().allocation;
    // Without grace: the sandbox is gone at once, and the plugin had nothing to go by but its note.
    world.sandbox_ends("p9");
    world.restart(Millis::seconds(10));
    let note = world.del("p9");
    world.run_for(Millis::seconds(2));
    assert!(matches!(world.answers[&note].1, Outcome::Deleted(DelReply::Released(a)) if a == allocation));
    assert_eq!(rules_of(&world, allocation.address), []);
    assert!(rests(&world, allocation.address));
}

#[test]
fn r48_and_without_a_note_either() {
    let mut world = two_enis();
    let allocation = world.agent.pool().of(&key("p9")).unwrap().allocation;
    world.run_for(Millis::seconds(100));
    world.sandbox_ends("p9");
    world.restart(Millis::seconds(10));
    world.run_for(Millis::seconds(3));
    assert_eq!(rules_of(&world, allocation.address), []);
    assert!(rests(&world, allocation.address));
}

#[test]
fn r49_a_del_of_a_sandbox_that_never_was_frees_nothing() {
    let mut world = two_enis();
    let before = world.agent.checkpoint();
    world.restart(Millis::seconds(30));
    let del = world.del("never");
    world.run_for(HOUR);
    assert!(matches!(world.answers[&del].1, Outcome::Deleted(DelReply::UnknownPod)));
    let leases = |checkpoint: &vpc_agent::Checkpoint| {
        checkpoint.leases.iter().map(|lease| (lease.key.clone(), lease.address)).collect::<Vec<_>>()
    };
    assert_eq!(leases(&world.agent.checkpoint()), leases(&before));
    assert_eq!(said(&world, |n| matches!(n, Notice::LeasePruned { .. })), 0);
}

#[test]
fn r52_after_a_reboot_the_old_leases_end_and_new_pods_start_at_once() {
    let mut world = two_enis();
    world.run_for(Millis::seconds(100));
    reboot(&mut world, Millis::seconds(90));
    // Rules somebody restored, of pods that are no more.
    let old = world.agent.pool().of(&key("p9")).unwrap().allocation;
    add_rule(&mut world, rule(512, None, Some(&old.address.to_string()), RouteTable::MAIN));
    add_rule(&mut world, rule(1536, Some(&old.address.to_string()), None, ETH1));
    let asked = world.now;
    let ticket = world.add("new");
    world.run_for(Millis::seconds(5));
    assert!(world.waited(ticket, asked) <= Millis(100), "waited {}", world.waited(ticket, asked));
    let reply = world.added(ticket);
    world.wire("new", &reply);
    assert_eq!(world.agent.pool().held().count(), 1, "all the old ones have ended: {:#?}", world.notices);
    assert_eq!(rules_of(&world, old.address), []);
    world.run_for(Millis::seconds(60));
    assert_eq!(world.agent.pool().cooling().count(), 0);
}

/// Everything of the host is as after a start of the machine; the ENIs are attached as before.
fn reboot(world: &mut World, away: Millis) {
    let (eth0, gateway) = ("eth0".parse().unwrap(), "10.20.8.1".parse().unwrap());
    world.host =
        PaperHost::booted(&eth0, Mac([2, 0, 0, 0, 0, 0]), "10.20.11.162/22".parse().unwrap(), gateway).unwrap();
    let devices: Vec<u8> =
        world.enis.values().filter_map(|eni| eni.truth.attachment.as_ref().map(|at| at.2.0)).collect();
    for device in devices.into_iter().filter(|device| *device > 0) {
        world.plug(device);
    }
    world.restart(away);
}

#[test]
fn a_live_sandbox_whose_lease_is_lost_keeps_its_address_and_is_a_lease_again() {
    let mut world = two_enis();
    let allocation = world.agent.pool().of(&key("p9")).unwrap().allocation;
    world.disk.as_mut().unwrap().leases.retain(|lease| lease.key != key("p9"));
    world.restart(SECOND);
    // All who come now get other addresses, at every moment.
    for i in 0..6 {
        let other = ask(&mut world, &format!("new{i}"));
        assert_ne!(other.allocation.address, allocation.address);
        world.wire(&format!("new{i}"), &other);
    }
    world.run_for(Millis::seconds(10));
    assert_eq!(world.agent.pool().of(&key("p9")).unwrap().allocation, allocation);
    assert!(world.reaches("eth1", "p9", allocation.address));
    assert_eq!(said(&world, |n| matches!(n, Notice::LeaseAdopted { .. })), 1);
    world.stop_pod("p9");
    assert!(rests(&world, allocation.address), "its DEL finds it");
}

/// Its runtime asks again before the host's word has made it a lease: it has an address, and gets that one, also on a node that is full.
#[test]
fn a_live_sandbox_whose_lease_is_lost_is_answered_with_what_it_has() {
    let mut world = two_enis();
    let first = world.agent.pool().of(&key("p9")).unwrap().allocation;
    world.disk.as_mut().unwrap().leases.retain(|lease| lease.key != key("p9"));
    world.restart(SECOND);
    world.run_for(SECOND);
    for i in 0..30 {
        world.add(&format!("new{i}"));
    }
    assert_eq!(ask(&mut world, "p9").allocation, first);
    assert!(world.disk.as_ref().unwrap().leases.iter().any(|lease| lease.key == key("p9")), "it is on disk");
    world.run_for(Millis::seconds(60));
    assert_eq!(world.agent.pool().of(&key("p9")).unwrap().allocation, first);
    assert_eq!(said(&world, |n| matches!(n, Notice::LeaseAdopted { .. })), 1);
    world.stop_pod("p9");
    assert!(rests(&world, first.address), "its DEL finds it");
}

/// The same sandbox ends before its lease is found again: its DEL finds nothing, and its address rests all the same.
#[test]
fn what_a_sandbox_without_a_lease_had_rests_when_it_ends() {
    let mut world = two_enis();
    let address = world.agent.pool().of(&key("p9")).unwrap().allocation.address;
    world.disk.as_mut().unwrap().leases.retain(|lease| lease.key != key("p9"));
    world.restart(SECOND);
    world.run_for(SECOND);
    let del = world.del("p9");
    world.run_for(SECOND);
    assert!(matches!(world.answers[&del].1, Outcome::Deleted(DelReply::UnknownPod)), "{:?}", world.answers[&del]);
    assert!(!rests(&world, address), "its link is there");
    world.sandbox_ends("p9");
    world.tell(Input::HostChanged);
    world.run_for(Millis::seconds(25));
    assert!(rests(&world, address) && world.agent.checkpoint().rests.iter().any(|rest| rest.address == address));
    world.run_for(Millis::seconds(15));
    assert!(!rests(&world, address));
}

#[test]
fn a_link_that_lingers_after_its_del_is_said_once_and_left() {
    let mut world = two_enis();
    world.links_stay = true;
    let held = world.agent.pool().of(&key("p9")).unwrap().allocation;
    let del = world.del("p9");
    world.run_for(SECOND);
    assert!(world.answers.contains_key(&del));
    for op in unwiring(world.config.host.layout, held.address, held.table) {
        world.host.apply(&op).unwrap();
    }
    world.run_for(Millis::seconds(50));
    assert_eq!(said(&world, |n| matches!(n, Notice::LinkOfNobody { .. })), 0, "not yet: namespaces take their time");
    world.run_for(HOUR);
    assert_eq!(said(&world, |n| matches!(n, Notice::LinkOfNobody { .. })), 1);
    let name = vpc_model::host_veth(&world.config.host.veth_prefix, &pod("p9"));
    assert!(world.host.observe().link(&name).is_some());
    assert!(!holds(&world, held.address) && !rests(&world, held.address), "its address is free again");
}

#[test]
fn a_link_of_a_pod_that_is_bound_here_is_not_talked_about() {
    let mut world = two_enis();
    world.tell(Input::Cluster(ClusterNews::Pods((0..10).map(|i| pod(&format!("p{i}"))).collect())));
    world.del("p9");
    world.run_for(HOUR);
    assert_eq!(said(&world, |n| matches!(n, Notice::LinkOfNobody { .. })), 0);
}

#[test]
fn hundreds_of_orphans_go_in_bounded_steps() {
    let mut world = World::settled(config(1, 3));
    for i in 0..400_u32 {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 20, 9, 0)) + i).to_string();
        add_rule(&mut world, rule(512, None, Some(&address), RouteTable::MAIN));
    }
    let left = |state: &HostState| state.rules.iter().filter(|rule| rule.priority == 512).count();
    world.tell(Input::HostChanged);
    let mut before = 400;
    for _ in 0..2000 {
        world.run_for(Millis(100));
        let now = left(&world.host.observe());
        assert!(before - now <= 128, "{} at once", before - now);
        before = now;
    }
    assert_eq!(before, 0);
}

#[test]
fn a_host_that_can_not_be_looked_at_is_asked_with_growing_pauses() {
    let mut world = two_enis();
    world.run_for(Millis::seconds(30));
    world.host_broken = true;
    world.restart(SECOND);
    world.run_for(Millis::seconds(600));
    let failed = said(&world, |n| matches!(n, Notice::HostFailed { .. }));
    assert!(failed < 40, "{failed} looks in ten minutes");
    world.host_broken = false;
    world.run_for(Millis::seconds(65));
    assert_eq!(world.agent.pool().held().count(), 10);
}
