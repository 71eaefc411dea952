//! What refusals say: that the node is full only where it is, and of EC2's refusals only those that keep addresses from coming.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use vpc_agent::{CloudUse, FailureClass, Notice, Outcome, Refusal};
use vpc_ipam::{EniUse, SlotState};
use vpc_model::{EniId, Millis, Slot};
use world::{Fault, World, config};

const SECOND: Millis = Millis::seconds(1);

/// A node of this many ENIs of nine addresses, with so many pods.
fn node(max_enis: u32, pods: usize) -> World {
    let mut world = World::settled(config(1, max_enis));
    (0..pods).for_each(|pod| drop(world.start_pod(&format!("p{pod}"))));
    world.run_for(Millis::seconds(120));
    world
}

fn second(world: &World) -> EniId {
    world.agent.pool().enis().find(|eni| eni.facts.device.0 == 1).unwrap().facts.id.clone()
}

/// Somebody takes an ENI on which a pod lives. The pod's lease keeps it in the books; on the instance it is in nobody's way.
#[test]
fn an_eni_that_somebody_took_leaves_its_place_to_another() {
    let mut world = node(2, 10);
    let taken = second(&world);
    world.enis.remove(&taken);
    world.host.detach(&"eth1".parse().unwrap());
    world.run_for(Millis::seconds(65 + 35));
    let doubtful = |world: &World| world.agent.pool().eni(&taken).map(|eni| eni.usage) == Some(EniUse::Doubtful);
    assert!(doubtful(&world), "its pod lives");
    for pod in 10..19 {
        world.start_pod(&format!("p{pod}"));
    }
    assert!(doubtful(&world));
    assert_eq!(world.enis.len(), 2, "another one has come");
    // Full it is when both that are there are.
    for pod in 19..28 {
        let ticket = world.add(&format!("p{pod}"));
        world.run_for(Millis::seconds(20));
        if let Some((_, Outcome::Refused(refusal))) = world.answers.get(&ticket) {
            assert!(matches!(refusal, Refusal::Full { enis: 2, max_enis: 2, total: 18, held: 18, .. }), "{refusal:?}");
            return;
        }
    }
    panic!("18 addresses serve no more pods");
}

/// An ENI that is detached waits for its deletion, which EC2 denies: a new one can be attached all the same.
#[test]
fn an_eni_that_is_detached_and_not_deleted_leaves_its_place_to_another() {
    let mut world = node(2, 10);
    let leaving = second(&world);
    for _ in 0..100 {
        world.faults.push_back(("Delete", Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation")));
    }
    for pod in 0..10 {
        world.stop_pod(&format!("p{pod}"));
    }
    world.run_for(Millis::seconds(300));
    assert!(world.enis[&leaving].truth.attachment.is_none(), "it is detached");
    assert!(world.agent.pool().eni(&leaving).is_some(), "it is still to be deleted");
    for pod in 20..35 {
        world.start_pod(&format!("p{pod}"));
    }
    assert!(world.enis.contains_key(&leaving));
}

/// At its start a daemon sees an ENI that has left, in the place of one the checkpoint has and the metadata do not show yet. EC2 says which
/// of them is there: the host has one ENI at each position.
#[test]
fn an_eni_that_only_stale_metadata_show_does_not_stop_the_host() {
    let mut world = node(2, 10);
    let id = second(&world);
    let shown = world.metadata().enis.into_iter().find(|eni| eni.facts.id == id).unwrap();
    let mut ghost = shown.clone();
    ghost.facts.id = "eni-ghost".parse().unwrap();
    ghost.facts.mac.0[5] = 99;
    ghost.facts.primary = "10.20.10.99".parse().unwrap();
    // An address of a pod is on it: it was ours.
    world.ghost_enis.push(ghost);
    world.hidden_enis.insert(id.clone());
    world.restart(SECOND);
    world.run_for(Millis::seconds(20));
    assert!(!world.notices.iter().any(|notice| matches!(notice, Notice::HostFailed { .. })), "{:#?}", world.notices);
    assert_eq!(world.agent.pool().eni(&id).map(|eni| eni.usage), Some(EniUse::Ready));
}

/// Where EC2 may not be asked the metadata are believed: what they do not show any more is not counted for ever.
#[test]
fn what_the_metadata_do_not_show_any_more_is_not_counted() {
    let mut world = World::settled(config(1, 1));
    world.config.cloud = CloudUse::Off;
    world.restart(SECOND);
    world.run_for(Millis::seconds(70));
    let primary: EniId = "eni-primary".parse().unwrap();
    let given: Slot = Slot::Address("10.20.9.77".parse().unwrap());
    world.enis.get_mut(&primary).unwrap().truth.slots.push(given);
    world.run_for(Millis::seconds(70));
    assert_eq!(world.agent.pool().eni(&primary).unwrap().slots.get(&given), Some(&SlotState::Held));
    for pod in 0..10 {
        world.start_pod(&format!("p{pod}"));
    }
    world.enis.get_mut(&primary).unwrap().truth.slots.retain(|slot| *slot != given);
    world.run_for(Millis::seconds(150));
    assert_eq!(world.agent.pool().eni(&primary).unwrap().slots.get(&given), Some(&SlotState::Missing));
    let ticket = world.add("another");
    world.run_for(Millis::seconds(20));
    let refusal = world.refused(ticket);
    assert!(matches!(refusal, Refusal::CloudOff { total: 9, held: 9, .. }), "{refusal:?}");
}

/// EC2 wants fewer deletions: that keeps no address from coming, and no pod is told of it.
#[test]
fn a_throttled_deletion_explains_no_refusal() {
    let mut world = node(2, 10);
    for _ in 0..100 {
        world.faults.push_back(("Delete", Fault::Refuse(FailureClass::Throttled, "RequestLimitExceeded")));
    }
    for pod in 0..10 {
        world.stop_pod(&format!("p{pod}"));
    }
    world.run_for(Millis::seconds(120));
    assert!(world.notices.iter().any(|notice| matches!(notice, Notice::CloudFailed { .. })), "{:#?}", world.notices);
    for _ in 0..100 {
        world.faults.push_back(("Create", Fault::Refuse(FailureClass::Unreachable, "timeout")));
    }
    let tickets: Vec<_> = (20..40).map(|pod| world.add(&format!("p{pod}"))).collect();
    world.run_for(Millis::seconds(20));
    let refused = tickets.iter().filter_map(|ticket| match world.answers.get(ticket) {
        Some((_, Outcome::Refused(refusal))) => Some(refusal.clone()),
        _ => None,
    });
    let refused: Vec<Refusal> = refused.collect();
    assert_eq!(refused.len(), 11, "{refused:?}");
    for refusal in refused {
        assert!(
            matches!(&refusal, Refusal::Cloud { failure, .. } if failure.class == FailureClass::Unreachable),
            "{refusal:?}"
        );
    }
}

/// Somebody took a pod's address, and the subnet has no other: that is the cause, and not that the node were full.
#[test]
fn a_subnet_that_is_empty_is_named_where_an_address_was_taken() {
    let mut world = World::settled(config(1, 1));
    let address = world.start_pod("p0").allocation.address;
    (1..9).for_each(|pod| drop(world.start_pod(&format!("p{pod}"))));
    world.run_for(Millis::seconds(120));
    let primary: EniId = "eni-primary".parse().unwrap();
    world.enis.get_mut(&primary).unwrap().truth.slots.retain(|slot| *slot != Slot::Address(address));
    world.subnet("1").truth.free = 0;
    world.run_for(Millis::seconds(120));
    assert_eq!(world.agent.pool().eni(&primary).unwrap().slots.get(&Slot::Address(address)), Some(&SlotState::Missing));
    let ticket = world.add("another");
    world.run_for(Millis::seconds(20));
    let refusal = world.refused(ticket);
    assert!(matches!(refusal, Refusal::SubnetExhausted { .. }), "{refusal:?}");
}
