//! Addresses between two pods: how long they rest, across restarts and clocks set wrong, and what the kernel forgets before the next.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::net::Ipv4Addr;

use vpc_agent::{Config, Notice, Outcome};
use vpc_model::{Millis, Time};
use world::{World, config};

const SECOND: Millis = Millis::seconds(1);

/// A node of nine addresses, all of them with pods but the one that `p0` gave back just now.
fn full_but_one(config: Config) -> (World, Ipv4Addr) {
    let mut world = World::settled(config);
    for i in 0..9 {
        world.start_pod(&format!("p{i}"));
    }
    let address = world.agent.pool().of(&world::key("p0")).unwrap().allocation.address;
    world.stop_pod("p0");
    (world, address)
}

fn with_rest(seconds: u64) -> Config {
    let mut config = config(1, 1);
    config.target.cool_down = Millis::seconds(seconds);
    config
}

/// Asks until an address is given, as kubelet does; says when it was.
fn asks_until_served(world: &mut World, address: Ipv4Addr) -> Time {
    for attempt in 0..20 {
        let ticket = world.add(&format!("next-{attempt}"));
        world.run_for(Millis(world.config.add_wait.0 + 1));
        if let (at, Outcome::Added(reply)) = world.answers[&ticket].clone() {
            assert_eq!(reply.allocation.address, address, "no other is free");
            return at;
        }
    }
    panic!("never served: {:#?}", world.notices);
}

#[test]
fn r16_an_address_given_back_before_a_restart_is_not_given_before_its_rest_is_over() {
    let (mut world, address) = full_but_one(with_rest(30));
    let released = world.now - SECOND;
    world.restart(Millis::seconds(3));
    let at = asks_until_served(&mut world, address);
    assert!(at.since(released) >= Millis::seconds(30), "after {}", at.since(released));
    assert!(at.since(released) < Millis::seconds(35), "and it does not rest twice: after {}", at.since(released));
}

#[test]
fn r16_another_free_address_is_given_meanwhile() {
    let mut world = World::settled(config(1, 1));
    let address = world.start_pod("a").allocation.address;
    world.stop_pod("a");
    world.restart(Millis::seconds(4));
    assert_ne!(world.start_pod("b").allocation.address, address);
}

#[test]
fn r16_a_clock_set_back_makes_it_rest_in_full_and_not_for_ever() {
    for back in [60, 86_400, 400 * 86_400] {
        let (mut world, address) = full_but_one(with_rest(30));
        let released = world.now - SECOND;
        world.calendar_off = -back * 1000;
        world.restart(Millis::seconds(3));
        let restarted = world.now;
        let at = asks_until_served(&mut world, address);
        assert!(at.since(released) >= Millis::seconds(30), "after {}", at.since(released));
        assert!(at.since(restarted) <= Millis::seconds(32), "{back} s back: after {}", at.since(restarted));
    }
}

#[test]
fn r16_with_many_restarts_in_a_row_the_rest_still_ends() {
    let (mut world, address) = full_but_one(with_rest(30));
    let released = world.now - SECOND;
    for _ in 0..12 {
        world.run_for(SECOND);
        world.restart(SECOND);
    }
    let at = asks_until_served(&mut world, address);
    let rested = at.since(released);
    assert!(rested >= Millis::seconds(30) && rested < Millis::seconds(35), "{rested}");
}

#[test]
fn resting_addresses_keep_their_eni_on_the_node_also_after_a_restart() {
    let mut world = World::settled(config(0, 3));
    for i in 0..10 {
        world.start_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(90));
    let (_, second) = world.enis.iter().find(|(id, _)| id.as_str() != "eni-primary").unwrap();
    let second = second.truth.clone();
    world.config.target.cool_down = Millis::seconds(300);
    world.restart(SECOND);
    world.run_for(Millis::seconds(90));
    for i in 0..10 {
        world.stop_pod(&format!("p{i}"));
    }
    let rested = world.now + Millis::seconds(280);
    world.restart(SECOND);
    world.run_for(rested.since(world.now));
    assert_eq!(world.calls_of("Detach"), 0);
    assert!(world.enis.contains_key(&second.id));
}

fn flushed(world: &World, address: Ipv4Addr) -> Vec<Time> {
    world.flushes.iter().filter(|(_, of)| of.contains(&address)).map(|(at, _)| *at).collect()
}

#[test]
fn r17_the_kernel_forgets_before_anybody_gets_the_address() {
    for rest in [0, 1, 30] {
        let (mut world, address) = full_but_one(with_rest(rest));
        world.flush_takes = Some(Millis(200));
        let at = asks_until_served(&mut world, address);
        let flushed = flushed(&world, address);
        assert_eq!(flushed.len(), 1, "rest of {rest} s: once");
        assert!(flushed[0] <= at, "rest of {rest} s: forgotten at {:?}, given at {at:?}", flushed[0]);
    }
}

#[test]
fn r17_a_pod_that_waits_does_not_wait_for_others_to_be_forgotten_with_it() {
    let (mut world, address) = full_but_one(with_rest(30));
    let released = world.now - SECOND;
    world.run_for(Millis::seconds(20));
    let at = asks_until_served(&mut world, address);
    assert!(at.since(released) <= Millis(30_100), "after {}", at.since(released));
}

#[test]
fn r17_rests_that_ended_while_the_daemon_was_away_are_forgotten_too() {
    let (mut world, address) = full_but_one(with_rest(30));
    assert!(flushed(&world, address).is_empty());
    world.restart(Millis::seconds(600));
    let asked = world.now;
    let at = asks_until_served(&mut world, address);
    assert_eq!(flushed(&world, address).len(), 1);
    assert!(at.since(asked) < SECOND, "and at once: {}", at.since(asked));
}

#[test]
fn many_rests_that_end_together_are_one_flush() {
    let mut world = World::settled(config(1, 3));
    for i in 0..20 {
        world.start_pod(&format!("p{i}"));
    }
    for i in 0..20 {
        world.del(&format!("p{i}"));
        world.run_for(Millis(10));
        world.sandbox_ends(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(60));
    assert_eq!(world.flushes.iter().map(|(_, of)| of.len()).collect::<Vec<_>>(), [20]);
    let flushes = world.flushes.len();
    world.run_for(Millis::seconds(3600));
    assert_eq!(world.flushes.len(), flushes, "a node at rest flushes nothing");
}

#[test]
fn a_flush_that_fails_is_said_repeated_and_after_a_while_done_without() {
    let (mut world, address) = full_but_one(with_rest(30));
    let released = world.now - SECOND;
    world.flush_fails = true;
    let at = asks_until_served(&mut world, address);
    let late = at.since(released);
    assert!(late >= Millis::seconds(40) && late < Millis::seconds(60), "{late}");
    assert!(flushed(&world, address).len() >= 3, "{:?}", world.flushes);
    let kept = world.notices.iter().filter(|n| matches!(n, Notice::FlowsKept { .. })).count();
    let remain = |notice: &&Notice| matches!(notice, Notice::FlowsRemain { addresses, .. } if *addresses == [address]);
    assert!((3..10).contains(&kept), "{kept}");
    assert_eq!(world.notices.iter().filter(remain).count(), 1);
}

#[test]
fn a_flush_that_succeeds_later_frees_at_once() {
    let (mut world, address) = full_but_one(with_rest(30));
    let released = world.now - SECOND;
    world.flush_fails = true;
    world.run_for(Millis::seconds(32));
    world.flush_fails = false;
    let at = asks_until_served(&mut world, address);
    assert!(at.since(released) < Millis::seconds(36), "{}", at.since(released));
    assert!(!world.notices.iter().any(|n| matches!(n, Notice::FlowsRemain { .. })));
}

#[test]
fn a_flush_that_is_never_answered_holds_nobody_up_for_ever() {
    let (mut world, address) = full_but_one(with_rest(30));
    let released = world.now - SECOND;
    world.flush_takes = None;
    let at = asks_until_served(&mut world, address);
    assert!(at.since(released) < Millis::seconds(60), "{}", at.since(released));
}

#[test]
fn a_late_answer_frees_only_what_it_was_about() {
    let (mut world, address) = full_but_one(with_rest(0));
    // The answer comes after the address has been given up, used, and given back with another rest.
    world.flush_takes = Some(Millis::seconds(25));
    world.start_pod("again");
    let first = flushed(&world, address);
    assert_eq!(first.len(), 1);
    world.config.target.cool_down = Millis::seconds(300);
    let settings = world.config.clone();
    world.tell(vpc_agent::Input::Settings(Box::new(settings)));
    world.stop_pod("again");
    world.run_for(Millis::seconds(60));
    assert!(world.agent.pool().cooling().any(|(resting, ..)| resting == address), "its second rest goes on");
}
