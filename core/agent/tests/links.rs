//! Links of sandboxes that have ended: they go in groups, nobody waits for the kernel, and nobody gets what they still hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use vpc_agent::{Collect, DelReply, Input, Notice, Outcome, Ticket};
use vpc_hostnet::{LinkAlias, is_pod_link};
use vpc_model::{Millis, SandboxKey};
use world::{World, config, key, pod};

const SECOND: Millis = Millis::seconds(1);

/// A node with so many pods, whose addresses rest so long.
fn node(pods: usize, cool_down: Millis) -> World {
    let mut config = config(1, 2);
    config.target.cool_down = cool_down;
    let mut world = World::settled(config);
    (0..pods).for_each(|pod| drop(world.start_pod(&format!("p{pod}"))));
    world.run_for(Millis::seconds(120));
    world
}

fn links(world: &World) -> usize {
    world.host.observe().links.iter().filter(|link| is_pod_link(link, &world.config.host.veth_prefix)).count()
}

#[test]
fn a_del_is_answered_while_its_link_goes_and_what_comes_meanwhile_goes_together() {
    let mut world = node(6, Millis::seconds(30));
    world.unlink_takes = Millis::seconds(10);
    let asked = world.now;
    let first = world.del("p0");
    let others: Vec<Ticket> = (1..5).map(|pod| world.del(&format!("p{pod}"))).collect();
    world.run_for(SECOND);
    for ticket in others.iter().chain([&first]) {
        assert!(matches!(world.answers[ticket].1, Outcome::Deleted(DelReply::Released(_))));
        assert!(world.waited(*ticket, asked) < SECOND);
    }
    assert_eq!(world.removed_links.len(), 1, "one group at a time");
    world.run_for(Millis::seconds(30));
    let groups: Vec<usize> = world.removed_links.iter().map(|(_, links)| links.len()).collect();
    assert_eq!(groups, [1, 4]);
    assert_eq!(links(&world), 1, "p5 lives");
    // A DEL of what is not there removes nothing.
    world.del("p0");
    world.run_for(SECOND);
    assert_eq!(world.removed_links.len(), 2);
}

/// The cool-down is zero: the address could be given at once.
#[test]
fn nobody_gets_an_address_before_the_old_pod_s_link_is_gone() {
    let mut world = node(18, Millis(0));
    world.unlink_takes = Millis::seconds(5);
    let old = world.agent.pool().of(&key("p3")).unwrap().allocation.address;
    let asked = world.now;
    world.del("p3");
    let next = world.add("next");
    world.run_for(Millis::seconds(20));
    assert_eq!(world.added(next).allocation.address, old, "it is the only one");
    assert!(world.waited(next, asked) >= Millis::seconds(5), "{}", world.waited(next, asked));
}

/// The same sandbox again (a runtime that names sandboxes by itself): its new link has the old one's name and owner.
#[test]
fn a_sandbox_that_comes_again_waits_for_its_old_link_to_go() {
    let mut world = node(2, Millis(0));
    world.unlink_takes = Millis::seconds(5);
    let asked = world.now;
    world.del("p0");
    let again = world.add("p0");
    let other = world.add("other");
    world.run_for(SECOND);
    world.added(other);
    assert!(!world.answers.contains_key(&again), "others do not wait with it");
    world.run_for(Millis::seconds(10));
    let reply = world.added(again);
    assert!(world.waited(again, asked) >= Millis::seconds(5));
    world.wire("p0", &reply);
    world.run_for(Millis::seconds(120));
    assert_eq!(world.agent.pool().of(&key("p0")).unwrap().allocation, reply.allocation);
    assert_eq!(links(&world), 2);
}

/// A late DEL of a pod's old sandbox: the link of that name is the new sandbox's by now.
#[test]
fn r33_a_late_del_of_an_old_sandbox_leaves_its_successor_alone() {
    let mut world = node(1, Millis::seconds(30));
    let successor = SandboxKey { container: "c-successor".into(), ..key("p0") };
    world.sandbox_ends("p0");
    let ticket = Ticket(5_000);
    let request = vpc_agent::AddRequest { key: successor.clone(), pod: pod("p0") };
    world.tell(Input::Add { ticket, request });
    world.run_for(Millis(500));
    let reply = world.added(ticket);
    world.wire_as(&successor, "p0", reply.allocation.address, reply.allocation.table);
    world.del("p0");
    world.run_for(Millis::seconds(120));
    let alias = LinkAlias::of(&successor, &pod("p0")).to_string();
    let state = world.host.observe();
    assert!(state.links.iter().any(|link| link.alias.as_deref() == Some(&alias)), "{:#?}", state.links);
    assert!(world.reaches("eth0", "c-successor", reply.allocation.address));
    assert_eq!(world.agent.pool().of(&successor).unwrap().allocation, reply.allocation);
}

#[test]
fn a_gc_takes_links_too_and_what_can_not_be_removed_is_said() {
    let mut world = node(3, Millis::seconds(30));
    world.links_stay = true;
    let request = Collect { network: "aws-cni".into(), valid: std::iter::empty().collect(), came: world.now };
    world.tell(Input::Collect { ticket: Ticket(5_000), request });
    world.run_for(SECOND);
    assert!(matches!(&world.answers[&Ticket(5_000)].1, Outcome::Collected(ended) if ended.len() == 3));
    assert_eq!(world.removed_links.iter().map(|(_, links)| links.len()).sum::<usize>(), 3);
    let said = world.notices.iter().filter(|notice| matches!(notice, Notice::LinksKept { links: 3, .. })).count();
    assert_eq!(said, 1, "{:#?}", world.notices);
    // The addresses are not lost for it.
    world.run_for(Millis::seconds(60));
    assert_eq!(world.agent.pool().stats().cooling, 0);
}

/// Several ADDs of one sandbox are given one address. The one that fails must not take it from the one whose pod lives.
#[test]
fn an_add_that_failed_gives_back_only_what_no_other_add_was_given() {
    let mut world = node(1, SECOND);
    let undo = |world: &mut World, number, name: &str| {
        world.tell(Input::Undo { ticket: Ticket(number), key: key(name) });
        world.run_for(SECOND);
        world.answers[&Ticket(number)].1.clone()
    };
    let [winner, loser] = ["two", "two"].map(|name| world.add(name));
    world.run_for(SECOND);
    let address = world.added(winner).allocation.address;
    assert_eq!(world.added(loser).allocation.address, address);
    assert!(
        matches!(undo(&mut world, 910_001, "two"), Outcome::Deleted(DelReply::Kept(held)) if held.address == address)
    );
    assert_eq!(world.agent.pool().of(&key("two")).map(|held| held.allocation.address), Some(address));
    let del = world.del("two");
    world.run_for(SECOND);
    assert!(matches!(world.answers[&del].1, Outcome::Deleted(DelReply::Released(held)) if held.address == address));

    // An ADD that nobody repeated takes all of it back; and so does one of a sandbox that is forgotten since.
    for (number, name) in [(910_002, "one"), (910_003, "two")] {
        let ticket = world.add(name);
        world.run_for(SECOND);
        let address = world.added(ticket).allocation.address;
        let undone = undo(&mut world, number, name);
        assert!(matches!(undone, Outcome::Deleted(DelReply::Released(held)) if held.address == address), "{undone:?}");
    }
    assert!(matches!(undo(&mut world, 910_004, "one"), Outcome::Deleted(DelReply::UnknownPod)));
}

/// How many ADDs were given a lease is not on disk: of one that an earlier life gave nobody knows whether the one that failed was the only
/// one. The runtime's DEL, which follows every ADD that failed, ends it.
#[test]
fn an_add_that_failed_gives_back_nothing_that_an_earlier_life_gave() {
    let mut world = node(1, SECOND);
    let [winner, loser] = ["two", "two"].map(|name| world.add(name));
    world.run_for(SECOND);
    let address = world.added(winner).allocation.address;
    assert_eq!(world.added(loser).allocation.address, address);
    let reply = world.added(winner);
    world.wire("two", &reply);
    world.restart(SECOND);
    world.run_for(SECOND);
    world.tell(Input::Undo { ticket: Ticket(910_001), key: key("two") });
    world.run_for(SECOND);
    let undone = &world.answers[&Ticket(910_001)].1;
    assert!(matches!(undone, Outcome::Deleted(DelReply::Kept(held)) if held.address == address), "{undone:?}");
    let del = world.del("two");
    world.run_for(SECOND);
    assert!(matches!(world.answers[&del].1, Outcome::Deleted(DelReply::Released(held)) if held.address == address));
}
