//! The agent on a node on paper: promises kept, across restarts, lost answers and full subnets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::BTreeSet;

use vpc_agent::{CloudCall, DelReply, FailureClass, Input, Notice, Outcome, Refusal, Ticket};
use vpc_model::{Millis, Time};
use world::{Fault, World, config, key, pod};

const SECOND: Millis = Millis::seconds(1);

#[test]
fn a_fresh_node_fills_its_pool_and_is_ready_once() {
    let mut world = World::new(config(1, 3));
    assert_eq!(world.ready_at, None, "no address, no host: not ready");
    world.run_for(Millis::seconds(5));
    assert!(world.ready_at.unwrap() <= world::T0 + SECOND);
    assert_eq!(world.agent.pool().stats().ready, 9);
    let kinds: Vec<_> = world.calls.iter().map(world::kind_of).collect();
    assert_eq!(kinds, ["Node", "Assign"]);
}

#[test]
fn a_settled_node_asks_for_nothing() {
    let mut world = World::settled(config(1, 3));
    let calls = world.calls.len();
    world.run_for(Millis::seconds(3600));
    assert_eq!(world.calls.len(), calls + 1, "but for the one look for strays: {:?}", &world.calls[calls..]);
}

#[test]
fn twenty_seven_pods_at_once_all_get_an_address_at_their_first_attempt() {
    let mut world = World::settled(config(1, 3));
    let start = world.now;
    let tickets: Vec<Ticket> = (0..27).map(|i| world.add(&format!("p{i}"))).collect();
    world.run_for(Millis::seconds(15));
    let addresses: BTreeSet<_> = tickets.iter().map(|t| world.added(*t).allocation.address).collect();
    assert_eq!(addresses.len(), 27);
    let last = tickets.iter().map(|t| world.waited(*t, start)).max().unwrap();
    assert!(last <= Millis(2500), "the last waited {last}");
    assert_eq!((world.calls_of("Create"), world.calls_of("Attach"), world.calls_of("Assign")), (2, 2, 1));
}

#[test]
fn the_ninth_pod_empties_the_pool_and_the_tenth_lands_on_the_second_eni() {
    let mut world = World::settled(config(0, 3));
    for i in 0..9 {
        assert_eq!(world.start_pod(&format!("p{i}")).allocation.table.0, 254);
    }
    world.run_for(Millis::seconds(5));
    assert_eq!(world.calls_of("Create"), 1, "fetched ahead of the tenth");
    let tenth = world.start_pod("p9");
    assert_eq!((tenth.allocation.device.0, tenth.allocation.table.0), (1, 2));
    assert!(world.reaches("eth1", "p9", tenth.allocation.address));
    assert_eq!(world.leaves_by("p9", "10.20.30.40"), "eth1");
    assert_eq!(world.leaves_by("p0", "10.20.30.40"), "eth0");
    assert_eq!(world.leaves_by("p9", "52.78.83.169"), "eth0", "marked for source NAT");
}

#[test]
fn an_add_is_answered_only_when_it_is_on_disk() {
    let mut world = World::settled(config(1, 3));
    world.write_takes = Millis(200);
    let asked = world.now;
    let ticket = world.add("a");
    world.run_for(SECOND);
    assert!(world.waited(ticket, asked) >= Millis(200));
}

#[test]
fn adds_of_one_moment_share_one_write() {
    let mut world = World::settled(config(1, 3));
    let before = world.agent.checkpoint();
    let tickets: Vec<Ticket> = (0..5).map(|i| world.add(&format!("p{i}"))).collect();
    assert_ne!(world.agent.checkpoint(), before);
    world.run_for(Millis(2));
    let answered = tickets.iter().filter(|t| world.answers.contains_key(t)).count();
    assert_eq!(answered, 5, "the first write and one more");
}

#[test]
fn the_same_sandbox_asks_twice_and_gets_the_same_address() {
    let mut world = World::settled(config(1, 3));
    let (first, second) = (world.add("a"), world.add("a"));
    world.run_for(SECOND);
    assert_eq!(world.added(first), world.added(second));
    assert_eq!(world.agent.pool().held().count(), 1);
}

#[test]
fn a_restart_keeps_every_pod_address_and_cool_down() {
    let mut world = World::settled(config(1, 3));
    for i in 0..12 {
        world.start_pod(&format!("p{i}"));
    }
    let gone = world.agent.pool().of(&key("p3")).unwrap().allocation.address;
    world.stop_pod("p3");
    let held = |world: &World| {
        let pool = world.agent.pool();
        pool.held().map(|h| (h.key.clone(), h.allocation.address)).collect::<BTreeSet<_>>().len()
    };
    let before: Vec<_> = world.agent.checkpoint().leases;
    world.restart(Millis::seconds(2));
    assert_eq!(world.agent.checkpoint().leases, before);
    assert_eq!(held(&world), 11);
    let resting: Vec<_> = world.agent.pool().cooling().map(|(address, _, until)| (address, until)).collect();
    assert_eq!(resting.len(), 1);
    assert_eq!(resting[0].0, gone);
    assert!(resting[0].1.since(world.now) <= Millis::seconds(28), "its rest goes on, it does not begin again");
    world.run_for(Millis::seconds(200));
    assert_eq!(held(&world), 11, "no live pod's lease is pruned");
    assert_eq!(world.agent.pool().stats().cooling, 0);
}

#[test]
fn a_lease_whose_sandbox_went_while_the_daemon_was_down_ends() {
    let mut world = World::settled(config(1, 3));
    let address = world.start_pod("a").allocation.address;
    world.start_pod("b");
    world.sandbox_ends("a");
    world.restart(Millis::seconds(100));
    world.run_for(Millis::seconds(2));
    assert!(world.agent.pool().of(&key("a")).is_none() && world.agent.pool().of(&key("b")).is_some());
    assert!(world.agent.pool().cooling().any(|(resting, ..)| resting == address), "it rests like any other");
    let rules = world.host.observe().rules;
    assert!(!rules.iter().any(|rule| rule.to.is_some_and(|to| to.addr() == address)), "its rules are gone: {rules:?}");
}

#[test]
fn a_lease_that_a_plugin_may_still_be_wiring_is_not_pruned() {
    let mut world = World::settled(config(1, 3));
    let ticket = world.add("slow");
    world.run_for(SECOND);
    let reply = world.added(ticket);
    world.restart(SECOND);
    world.run_for(Millis::seconds(20));
    world.wire("slow", &reply);
    world.run_for(Millis::seconds(120));
    assert_eq!(world.agent.pool().of(&key("slow")).unwrap().allocation, reply.allocation);
}

#[test]
fn a_lease_known_by_its_link_alone_ends_with_the_link() {
    let mut world = World::settled(config(1, 3));
    let address = world.start_pod("a").allocation.address;
    let link = vpc_model::host_veth(&vpc_model::VethPrefix::default(), &pod("a"));
    // What a start without a checkpoint finds behind a link that does not say whose it is.
    let disk = world.disk.as_mut().unwrap();
    disk.leases[0].key = key("unknown");
    disk.leases[0].pod = vpc_model::PodRef::default();
    disk.leases[0].link = Some(link);
    world.restart(SECOND);
    world.run_for(Millis::seconds(200));
    let holds = |world: &World| world.agent.pool().held().any(|held| held.allocation.address == address);
    assert!(holds(&world), "its link is there");
    world.restart(SECOND);
    world.run_for(Millis::seconds(5));
    assert!(holds(&world), "after another restart too");
    world.sandbox_ends("a");
    world.tell(Input::HostChanged);
    world.run_for(Millis::seconds(10));
    assert!(!holds(&world));
    assert!(world.agent.pool().cooling().any(|(resting, ..)| resting == address));
}

#[test]
fn an_eni_the_metadata_forgot_keeps_its_pods() {
    let mut world = World::settled(config(0, 3));
    for i in 0..9 {
        world.start_pod(&format!("p{i}"));
    }
    let tenth = world.start_pod("p9").allocation;
    let (id, hidden) =
        world.enis.clone().into_iter().find(|(_, e)| e.truth.slots.iter().any(|s| s.contains(tenth.address))).unwrap();
    world.enis.remove(&id);
    world.restart(SECOND);
    world.enis.insert(id.clone(), hidden);
    world.run_for(Millis::seconds(300));
    assert_eq!(world.agent.pool().of(&key("p9")).unwrap().allocation, tenth);
    assert!(world.agent.pool().eni(&id).is_some(), "EC2 was asked and still has it");
    let detached = |call: &CloudCall| matches!(call, CloudCall::Detach { eni, .. } if *eni == id);
    assert!(!world.calls.iter().any(detached));
    assert!(world.reaches("eth1", "p9", tenth.address));
}

#[test]
fn an_idle_eni_is_given_back_and_leaves_nothing() {
    let mut world = World::settled(config(1, 3));
    for i in 0..10 {
        world.start_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(30));
    assert_eq!(world.enis.len(), 3);
    for i in 0..10 {
        world.stop_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(300));
    assert_eq!(world.enis.len(), 1, "{:#?}", world.notices);
    assert_eq!(world.agent.pool().stats().ready, 9);
    let state = world.host.observe();
    assert!(!state.rules.iter().any(|rule| rule.priority == 32765), "{:?}", state.rules);
    let quiet = world.calls.len();
    world.run_for(Millis::seconds(3600));
    assert_eq!(world.calls.len(), quiet, "and it stays so");
}

#[test]
fn no_address_in_time_is_refused_with_its_cause_and_numbers() {
    let mut world = World::settled(config(1, 1));
    for i in 0..9 {
        world.start_pod(&format!("p{i}"));
    }
    let asked = world.now;
    let ticket = world.add("p9");
    world.run_for(Millis::seconds(20));
    let refusal = world.refused(ticket);
    assert!(matches!(refusal, Refusal::Full { enis: 1, max_enis: 1, total: 9, held: 9, .. }), "{refusal:?}");
    assert_eq!(world.waited(ticket, asked), Millis::seconds(15));
    let words = refusal.to_string();
    assert!(words.contains("all 9 addresses") && words.contains("1 of 1 ENIs"), "{words}");
}

#[test]
fn with_no_cool_down_a_del_lets_the_waiting_add_through() {
    let mut world = World::settled({
        let mut config = config(1, 1);
        config.target.cool_down = Millis(0);
        config
    });
    for i in 0..9 {
        world.start_pod(&format!("p{i}"));
    }
    let ticket = world.add("p9");
    world.run_for(SECOND);
    assert!(!world.answers.contains_key(&ticket));
    let freed = world.agent.pool().of(&key("p4")).unwrap().allocation;
    world.stop_pod("p4");
    assert_eq!(world.added(ticket).allocation, freed);
}

#[test]
fn a_lost_answer_is_not_a_failure() {
    let mut world = World::new(config(1, 3));
    world.faults.push_back(("Assign", Fault::LoseAnswer));
    world.run_for(Millis::seconds(10));
    assert_eq!(world.agent.pool().stats().ready, 9, "what EC2 did is found and used");
    assert_eq!(world.enis.values().next().unwrap().truth.slots.len(), 9);
    assert_eq!(world.calls_of("Create"), 0, "and no ENI is created for what was there already");
    world.faults.push_back(("Create", Fault::LoseAnswer));
    world.faults.push_back(("Attach", Fault::LoseAnswer));
    world.start_pod("a");
    world.run_for(Millis::seconds(20));
    assert_eq!(world.enis.len(), 2, "one ENI, not two: {:?}", world.calls);
    assert_eq!(world.agent.pool().enis().count(), 2);
}

#[test]
fn an_exhausted_subnet_is_emptied_to_the_last_address_and_then_left_alone() {
    let mut world = World::with(config(1, 3), 6);
    world.run_for(Millis::seconds(4));
    let ready = world.agent.pool().stats().ready;
    assert!(ready >= 4, "{ready} of 6; {:?}", world.calls);
    let tickets: Vec<Ticket> = (0..12).map(|i| world.add(&format!("p{i}"))).collect();
    world.run_for(Millis::seconds(16));
    let refused: Vec<Refusal> = tickets
        .iter()
        .filter_map(|t| match &world.answers[t].1 {
            Outcome::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        })
        .collect();
    assert!(refused.len() >= 6);
    assert!(
        refused
            .iter()
            .all(|r| matches!(r, Refusal::SubnetExhausted { subnets, .. } if subnets[0].as_str() == "subnet-1")),
        "{refused:?}"
    );
    let calls = world.calls.len();
    world.run_for(Millis::seconds(600));
    assert!(world.calls.len() - calls <= 80, "{} calls in ten minutes", world.calls.len() - calls);
}

#[test]
fn a_denied_action_is_named() {
    let mut world = World::settled(config(1, 3));
    for _ in 0..20 {
        world.faults.push_back(("Create", Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation")));
    }
    let tickets: Vec<Ticket> = (0..10).map(|i| world.add(&format!("p{i}"))).collect();
    world.run_for(Millis::seconds(16));
    let refusal = world.refused(tickets[9]);
    assert!(refusal.to_string().contains("UnauthorizedOperation"), "{refusal}");
    assert!(world.calls_of("Create") <= 3, "{} calls", world.calls_of("Create"));
}

#[test]
fn an_eni_that_can_not_be_attached_is_deleted_again() {
    let mut world = World::settled(config(1, 3));
    world.faults.push_back(("Attach", Fault::Refuse(FailureClass::EniLimit, "AttachmentLimitExceeded")));
    world.start_pod("a");
    world.run_for(Millis::seconds(120));
    let loose = world.enis.values().filter(|eni| eni.truth.attachment.is_none()).count();
    assert_eq!(loose, 0, "{:?}", world.calls);
}

#[test]
fn an_eni_that_a_killed_daemon_had_just_made_is_deleted() {
    let mut world = World::settled(config(1, 3));
    let ticket = world.add("a");
    world.run_for(Millis(600));
    world.added(ticket);
    // The create for the warm ENI is on its way to EC2 when the daemon is killed.
    let stray = world.enis.values().filter(|eni| eni.truth.attachment.is_none()).count();
    world.restart(SECOND);
    world.run_for(Millis::seconds(300));
    let loose = world.enis.values().filter(|eni| eni.truth.attachment.is_none()).count();
    assert_eq!((stray, loose), (1, 0), "{:?}", world.calls);
}

#[test]
fn a_broken_disk_refuses_adds_and_loses_nothing() {
    let mut world = World::settled(config(1, 3));
    let kept = world.start_pod("kept");
    world.disk_broken = true;
    let ticket = world.add("a");
    world.run_for(SECOND);
    assert!(matches!(world.refused(ticket), Refusal::Checkpoint { .. }));
    assert!(world.agent.pool().of(&key("a")).is_none());
    world.disk_broken = false;
    world.run_for(Millis::seconds(3));
    let again = world.start_pod("b");
    assert_ne!(again.allocation, kept.allocation);
    assert_eq!(world.disk.as_ref().unwrap().leases.len(), 2);
}

#[test]
fn a_running_pod_asked_for_again_keeps_its_address_though_nothing_can_be_written() {
    let mut world = World::settled(config(1, 3));
    let kept = world.start_pod("kept").allocation;
    world.disk_broken = true;
    let other = world.add("other");
    let again = world.add("kept");
    world.run_for(SECOND);
    assert!(matches!(world.refused(other), Refusal::Checkpoint { .. }));
    assert_eq!(world.added(again).allocation, kept, "it was on disk long ago");
    let gone = world.add("other2");
    let asked = world.add("kept");
    world.tell(Input::AddAbandoned { ticket: gone });
    world.tell(Input::AddAbandoned { ticket: asked });
    world.run_for(Millis::seconds(60));
    assert_eq!(world.agent.pool().of(&key("kept")).map(|held| held.allocation), Some(kept));
    assert!(world.agent.pool().of(&key("other2")).is_none());
}

#[test]
fn a_del_never_waits_for_the_cloud_and_an_unknown_one_is_said_to_be() {
    let mut world = World::settled(config(1, 3));
    world.start_pod("a");
    world.call_takes = Millis::seconds(1000);
    let (known, unknown, asked) = (world.del("a"), world.del("nobody"), world.now);
    world.run_for(Millis(10));
    assert!(matches!(world.answers[&known].1, Outcome::Deleted(DelReply::Released(_))));
    assert_eq!(world.answers[&unknown], (asked, Outcome::Deleted(DelReply::UnknownPod)));
}

#[test]
fn an_abandoned_add_leaves_no_lease() {
    let mut world = World::settled(config(1, 3));
    let ticket = world.add("a");
    world.tell(Input::AddAbandoned { ticket });
    world.run_for(SECOND);
    assert!(world.agent.pool().of(&key("a")).is_none() && !world.answers.contains_key(&ticket));
}

#[test]
fn flushed_rules_come_back() {
    let mut world = World::settled(config(1, 3));
    let reply = world.start_pod("a");
    let rules: Vec<_> =
        world.host.observe().rules.into_iter().filter(|r| r.priority == 512 || r.priority == 1024).collect();
    assert_eq!(rules.len(), 2);
    for rule in rules {
        world.host.apply(&vpc_hostnet::HostOp::RemoveRule(rule)).unwrap();
    }
    world.tell(Input::HostChanged);
    world.run_for(Millis::seconds(10));
    assert!(world.reaches("eth0", "a", reply.allocation.address));
    assert!(world.host.observe().rules.iter().any(|rule| rule.priority == 1024));
}

#[test]
fn a_termination_refuses_those_who_wait() {
    let mut world = World::settled(config(1, 1));
    for i in 0..9 {
        world.start_pod(&format!("p{i}"));
    }
    let ticket = world.add("late");
    world.tell(Input::Terminate);
    assert_eq!(world.refused(ticket), Refusal::ShuttingDown);
}

#[test]
fn an_odd_answer_to_nobody_changes_nothing() {
    let mut world = World::settled(config(1, 3));
    let before = world.agent.checkpoint();
    world.tell(Input::CloudDone { op: vpc_agent::OpId(999_999), result: Ok(vpc_agent::CloudAnswer::Done) });
    world.tell(Input::VpcCidrs(vec![]));
    assert_eq!(world.agent.checkpoint(), before);
    assert!(!world.notices.iter().any(|n| matches!(n, Notice::CloudFailed { .. })));
    let _ = (Time(0), pod("x"));
}
