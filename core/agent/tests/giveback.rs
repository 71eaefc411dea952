//! Giving back on the paper node: nothing leaves without proof, and nothing is lost when the daemon dies in between. The cloud itself
//! refuses to take addresses of living pods: it panics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::BTreeSet;

use vpc_agent::{CloudCall, CloudUse, FailureClass, Input, Notice, Outcome};
use vpc_ipam::{EniUse, SlotState, Unit, WarmTarget};
use vpc_model::{Millis, Slot};
use world::{Fault, World, config, key};

const SECOND: Millis = Millis::seconds(1);

/// Holds eight and one free address for every pod; what is too much is given back after 30 s.
fn sips() -> vpc_agent::Config {
    let mut config = config(0, 3);
    config.target.warm = WarmTarget::Addresses { warm: 1, minimum: 2 };
    config
}

fn prefixes() -> vpc_agent::Config {
    let mut config = config(0, 3);
    config.target.unit = Unit::Prefix;
    config.target.warm = WarmTarget::Addresses { warm: 1, minimum: 0 };
    config
}

/// A node that had six pods, and has one.
fn shrinking() -> World {
    let mut world = World::settled(sips());
    for i in 0..6 {
        world.start_pod(&format!("p{i}"));
    }
    for i in 1..6 {
        world.stop_pod(&format!("p{i}"));
    }
    world
}

fn given_back(world: &World) -> usize {
    let slots = world.calls.iter().filter_map(|call| match call {
        CloudCall::Unassign { slots, .. } => Some(slots.len()),
        _ => None,
    });
    slots.sum()
}

fn on_cloud(world: &World) -> BTreeSet<Slot> {
    world.enis.values().filter(|eni| eni.truth.attachment.is_some()).flat_map(|eni| eni.truth.slots.clone()).collect()
}

fn in_books(world: &World) -> BTreeSet<Slot> {
    world.agent.pool().enis().flat_map(|eni| eni.positions().collect::<Vec<_>>()).collect()
}

/// No ENI, address or prefix that nobody knows; none in the books that is not there; nothing half done.
fn is_whole(world: &World) {
    assert_eq!(on_cloud(world), in_books(world), "{:#?}", world.notices);
    for eni in world.enis.values() {
        assert!(eni.truth.attachment.is_some(), "{} belongs to nobody: {:?}", eni.truth.id, world.calls);
        assert!(eni.delete_on_termination, "{} would outlive its instance", eni.truth.id);
    }
    let held = |state: &SlotState| *state == SlotState::Held;
    assert!(world.agent.pool().enis().all(|eni| eni.slots.values().all(held)), "{:?}", world.agent.pool());
}

#[test]
fn surplus_is_given_back_and_then_nothing() {
    let mut world = shrinking();
    world.run_for(Millis::seconds(300));
    assert!(given_back(&world) >= 4, "{:?}", world.calls);
    is_whole(&world);
    assert_eq!(in_books(&world).len(), 2);
    let calls = world.calls.len();
    world.run_for(Millis::seconds(3600));
    assert_eq!(world.calls.len(), calls, "{:?}", &world.calls[calls..]);
}

#[test]
fn a_look_at_the_host_counts_also_when_all_of_it_happens_within_a_millisecond() {
    let mut world = shrinking();
    (world.write_takes, world.look_takes, world.call_takes) = (Millis(0), Millis(0), Millis(0));
    world.run_for(Millis::seconds(300));
    assert!(given_back(&world) >= 4, "{:?}", world.calls);
    let stays = |notice: &&Notice| matches!(notice, Notice::SlotsKept { .. });
    assert_eq!(world.notices.iter().find(stays), None);
    is_whole(&world);
}

#[test]
fn nothing_is_asked_of_ec2_before_the_books_say_it() {
    let mut world = shrinking();
    world.disk_broken = true;
    world.run_for(Millis::seconds(300));
    assert_eq!(given_back(&world), 0);
    world.disk_broken = false;
    world.run_for(Millis::seconds(300));
    assert!(given_back(&world) >= 4);
    is_whole(&world);
}

#[test]
fn r11_an_add_at_the_instant_of_a_release_wins_or_loses_but_never_both() {
    for step in 0..120 {
        let mut world = shrinking();
        // The release falls somewhere into these thirty seconds.
        world.run_for(Millis(29_000 + 100 * step));
        let tickets: Vec<_> = (10..16).map(|i| world.add(&format!("p{i}"))).collect();
        world.run_for(Millis(50));
        let mut named: Vec<(String, vpc_agent::Ticket)> = Vec::new();
        for (i, ticket) in (10..16).zip(&tickets) {
            if let Some((_, Outcome::Added(reply))) = world.answers.get(ticket).cloned() {
                // From here on the cloud panics if the address is given back.
                world.wire(&format!("p{i}"), &reply);
            } else {
                named.push((format!("p{i}"), *ticket));
            }
        }
        world.run_for(Millis::seconds(15));
        for (name, ticket) in named {
            let reply = world.added(ticket);
            world.wire(&name, &reply);
        }
        let addresses: BTreeSet<_> = tickets.iter().map(|t| world.added(*t).allocation.address).collect();
        assert_eq!(addresses.len(), 6);
        world.run_for(Millis::seconds(300));
        let there = on_cloud(&world);
        assert!(addresses.iter().all(|address| there.iter().any(|slot| slot.contains(*address))), "step {step}");
        is_whole(&world);
    }
}

#[test]
fn r12_a_prefix_with_one_pod_is_never_given_back() {
    let mut world = World::settled(prefixes());
    for i in 0..40 {
        world.start_pod(&format!("p{i}"));
    }
    let prefix = |world: &World, name: &str| {
        let address = world.agent.pool().of(&key(name)).unwrap().allocation.address;
        on_cloud(world).into_iter().find(|slot| slot.contains(address)).unwrap()
    };
    let kept: BTreeSet<Slot> = ["p0", "p39"].iter().map(|name| prefix(&world, name)).collect();
    for i in 1..39 {
        world.stop_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(400));
    assert!(kept.is_subset(&on_cloud(&world)));
    assert!(on_cloud(&world).len() <= 2 && given_back(&world) >= 1, "{:?}", world.calls);
    is_whole(&world);
}

#[test]
fn a_sandbox_that_the_kernel_has_and_the_books_do_not_keeps_its_address() {
    let mut many = sips();
    many.target.warm = WarmTarget::Addresses { warm: 1, minimum: 8 };
    let mut world = World::settled(many);
    let pod = world.start_pod("p0").allocation;
    // Pods nobody knows: the cloud panics if an address of theirs is given back.
    let free: Vec<Slot> = on_cloud(&world).into_iter().filter(|slot| !slot.contains(pod.address)).collect();
    for (i, slot) in free.iter().enumerate() {
        let name = format!("unknown{i}");
        world.wire_as(&key(&name), &name, slot.net().network(), pod.table);
    }
    let fewer = vpc_agent::Config { nonce: world.config.nonce, ..sips() };
    world.tell(Input::Settings(Box::new(fewer)));
    world.run_for(Millis::seconds(600));
    assert_eq!(given_back(&world), 0);
    let kept = |notice: &Notice| matches!(notice, Notice::SlotsKept { why, .. } if why.contains("host"));
    assert!(world.notices.iter().any(kept), "{:#?}", world.notices);
}

#[test]
fn what_ec2_does_not_list_is_not_given_back_and_said() {
    let mut world = shrinking();
    let pod = world.agent.pool().of(&key("p0")).unwrap().allocation.address;
    let gone: Vec<Slot> = on_cloud(&world).into_iter().filter(|slot| !slot.contains(pod)).take(2).collect();
    let eni = world.enis.values_mut().next().unwrap();
    eni.truth.slots.retain(|slot| !gone.contains(slot));
    world.run_for(Millis::seconds(400));
    for call in &world.calls {
        if let CloudCall::Unassign { slots, .. } = call {
            assert!(!slots.iter().any(|slot| gone.contains(slot)));
        }
    }
    assert!(world.notices.iter().any(|notice| matches!(notice, Notice::Disagreement { .. })));
    is_whole(&world);
}

#[test]
fn a_lost_answer_to_an_unassign_is_looked_into() {
    let mut world = shrinking();
    world.faults.push_back(("Unassign", Fault::LoseAnswer));
    world.run_for(Millis::seconds(300));
    is_whole(&world);
    assert_eq!(in_books(&world).len(), 2);
    let mut world = shrinking();
    world.faults.push_back(("Unassign", Fault::Refuse(FailureClass::Lost, "timeout")));
    world.run_for(Millis::seconds(300));
    is_whole(&world);
    assert_eq!(in_books(&world).len(), 2, "it was not carried out, and is asked again");
}

#[test]
fn nobody_gets_an_address_whose_unassign_may_have_been_carried_out() {
    let mut world = shrinking();
    world.faults.push_back(("Unassign", Fault::LoseAnswer));
    while world.calls_of("Unassign") == 0 {
        world.run_for(Millis(50));
    }
    world.run_for(Millis(450));
    let tickets: Vec<_> = (10..14).map(|i| world.add(&format!("p{i}"))).collect();
    world.run_for(Millis::seconds(15));
    let there = on_cloud(&world);
    for ticket in tickets {
        let address = world.added(ticket).allocation.address;
        assert!(there.iter().any(|slot| slot.contains(address)), "{address} is not on the node any more");
    }
}

#[test]
fn a_refused_release_keeps_the_addresses_and_is_not_asked_at_every_turn() {
    let mut world = shrinking();
    for _ in 0..100 {
        world.faults.push_back(("Unassign", Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation")));
    }
    world.run_for(Millis::seconds(1200));
    assert!((1..=4).contains(&world.calls_of("Unassign")), "{}", world.calls_of("Unassign"));
    is_whole(&world);
    let tickets: Vec<_> = (10..13).map(|i| world.add(&format!("p{i}"))).collect();
    world.run_for(Millis(100));
    tickets.iter().for_each(|ticket| drop(world.added(*ticket)));
}

#[test]
fn no_release_means_that_nothing_is_given_back() {
    let mut config = sips();
    config.cloud = CloudUse::NoRelease;
    let mut world = World::settled(config);
    for i in 0..12 {
        world.start_pod(&format!("p{i}"));
    }
    for i in 0..12 {
        world.stop_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(1200));
    assert_eq!((given_back(&world), world.calls_of("Detach"), world.calls_of("Delete")), (0, 0, 0));
}

#[test]
fn r03_what_was_given_back_is_not_taken_for_ours_though_the_metadata_still_show_it() {
    let mut world = shrinking();
    let before = on_cloud(&world);
    world.run_for(Millis::seconds(300));
    let gone: BTreeSet<Slot> = before.difference(&on_cloud(&world)).copied().collect();
    assert!(!gone.is_empty());
    world.ghosts = gone.clone();
    world.run_for(Millis::seconds(300));
    assert!(in_books(&world).is_disjoint(&gone), "{:?}", world.notices);
    world.restart(SECOND);
    for i in 20..24 {
        let reply = world.start_pod(&format!("p{i}"));
        assert!(on_cloud(&world).iter().any(|slot| slot.contains(reply.allocation.address)), "{reply:?} is a ghost");
    }
}

/// EC2 may not be asked any more, and the metadata are behind: half a picture of theirs in between ends nobody's memory.
#[test]
fn what_was_given_back_is_remembered_through_half_a_picture_of_the_metadata() {
    let mut world = shrinking();
    let before = on_cloud(&world);
    while on_cloud(&world).len() == before.len() {
        world.run_for(SECOND);
    }
    let gone: BTreeSet<Slot> = before.difference(&on_cloud(&world)).copied().collect();
    world.ghosts = gone.clone();
    world.config.cloud = CloudUse::Off;
    world.tell(Input::Settings(Box::new(world.config.clone())));
    world.run_for(Millis::seconds(120));
    // Primary addresses alone.
    let ghosts = std::mem::take(&mut world.ghosts);
    world.unshown = on_cloud(&world);
    world.run_for(Millis::seconds(61));
    (world.ghosts, world.unshown) = (ghosts, BTreeSet::new());
    world.run_for(Millis::seconds(300));
    assert!(in_books(&world).is_disjoint(&gone), "{:?}", world.notices);
}

/// What a node does whose daemon is killed at the effect of this number; `None` when there are not so many.
fn killed_at(number: usize, after: bool, config: &vpc_agent::Config) -> Option<World> {
    let mut world = World::settled(config.clone());
    let first = world.effects;
    world.dies_at = Some((first + number, after));
    let tickets: Vec<_> = (0..12).map(|i| (format!("p{i}"), world.add(&format!("p{i}")))).collect();
    world.run_for(Millis::seconds(10));
    for (name, ticket) in &tickets {
        if let Some((_, Outcome::Added(reply))) = world.answers.get(ticket).cloned() {
            world.wire(name, &reply);
        }
    }
    let names: Vec<String> = world.living.keys().skip(1).cloned().collect();
    for name in names {
        if world.dead {
            break;
        }
        let ticket = world.del(&name);
        world.run_for(SECOND);
        if world.answers.contains_key(&ticket) {
            world.sandbox_ends(&name);
        }
    }
    if !world.dead {
        world.run_for(Millis::seconds(400));
    }
    world.dead.then_some(world)
}

fn killed_everywhere(config: &vpc_agent::Config) {
    let mut kills = 0;
    for after in [false, true] {
        for number in 1.. {
            let Some(mut world) = killed_at(number, after, config) else { break };
            kills += 1;
            let living = world.living.clone();
            world.restart(SECOND);
            world.run_for(Millis::seconds(300));
            is_whole(&world);
            let there = on_cloud(&world);
            for (name, address) in living {
                assert!(there.iter().any(|slot| slot.contains(address)), "{name} lost {address}: killed at {number}");
            }
        }
    }
    assert!(kills >= 25, "only {kills} boundaries: the story is too short");
}

#[test]
fn r19_killed_at_every_boundary_with_single_addresses_no_orphan_is_left() {
    killed_everywhere(&sips());
}

#[test]
fn r19_killed_at_every_boundary_with_whole_enis_no_orphan_is_left() {
    killed_everywhere(&config(0, 3));
}

#[test]
fn r19_killed_at_every_boundary_with_prefixes_no_orphan_is_left() {
    let mut config = prefixes();
    config.target.slots_per_eni = 1;
    killed_everywhere(&config);
}

/// The call that takes them may be carried out at any moment: EC2 still shows them.
#[test]
fn after_a_kill_nobody_gets_what_was_being_given_back() {
    let mut tried = 0;
    for number in 1.. {
        let Some(mut world) = killed_at(number, false, &sips()) else { break };
        let disk = world.disk.clone().unwrap_or_default();
        let leaving: BTreeSet<Slot> = disk.enis.iter().flat_map(|eni| eni.leaving.clone()).collect();
        if leaving.is_empty() {
            continue;
        }
        tried += 1;
        world.restart(SECOND);
        for i in 20..30 {
            let ticket = world.add(&format!("p{i}"));
            world.run_for(Millis::seconds(3));
            if let Some((_, Outcome::Added(reply))) = world.answers.get(&ticket).cloned() {
                let address = reply.allocation.address;
                assert!(
                    !leaving.iter().any(|slot| slot.contains(address)),
                    "{address} was leaving: killed at {number}"
                );
            }
        }
    }
    assert!(tried >= 3, "only {tried} kills while something was leaving");
}

/// A node whose second ENI is not needed any more: twelve pods came and went.
fn an_eni_to_spare() -> World {
    let mut world = World::settled(config(0, 3));
    for i in 0..12 {
        world.start_pod(&format!("p{i}"));
    }
    for i in 0..12 {
        world.stop_pod(&format!("p{i}"));
    }
    world
}

/// The answer to a detach was lost, and the client's second attempt denied: the ENI is gone from the host, and nobody is put on it.
#[test]
fn an_eni_whose_detach_was_lost_and_then_denied_is_deleted() {
    let mut world = an_eni_to_spare();
    world.faults.push_back(("Detach", Fault::LoseAndRefuse(FailureClass::Unauthorized, "UnauthorizedOperation")));
    world.run_for(Millis::seconds(300));
    assert_eq!((world.calls_of("Detach"), world.enis.len()), (1, 1), "{:?}", world.calls);
    let kept = |notice: &Notice| matches!(notice, Notice::EniKept { .. });
    assert!(!world.notices.iter().any(kept), "{:#?}", world.notices);
    is_whole(&world);
}

/// `VPC_CNI_EC2=off` comes while EC2 detaches an ENI: the metadata show that it has gone, and it is deleted when EC2 may be asked again.
/// If the detach never came to EC2, they go on showing it, and it stays.
#[test]
fn an_eni_that_is_being_detached_when_ec2_may_not_be_asked_any_more_is_not_held_for_ever() {
    for lost in [false, true] {
        let mut world = World::settled(config(0, 3));
        world.call_takes = SECOND;
        (0..12).for_each(|i| drop(world.start_pod(&format!("p{i}"))));
        (0..12).for_each(|i| world.stop_pod(&format!("p{i}")));
        if lost {
            world.faults.push_back(("Detach", Fault::Refuse(FailureClass::Lost, "timeout")));
        }
        while world.calls_of("Detach") == 0 {
            world.run_for(Millis(100));
        }
        world.config.cloud = CloudUse::Off;
        world.tell(Input::Settings(Box::new(world.config.clone())));
        let asked = world.calls.len();
        world.run_for(Millis::seconds(400));
        assert_eq!(world.calls.len(), asked, "{:?}", &world.calls[asked..]);
        let usages: Vec<EniUse> = world.agent.pool().enis().map(|eni| eni.usage).collect();
        assert_eq!(usages, vec![EniUse::Ready; if lost { 2 } else { 1 }], "{:#?}", world.notices);
        world.config.cloud = CloudUse::Full;
        world.tell(Input::Settings(Box::new(world.config.clone())));
        world.run_for(Millis::seconds(300));
        assert_eq!(world.enis.len(), 1, "{:?}", world.calls);
        is_whole(&world);
    }
}

/// The answer to a detach was lost, and the call too.
#[test]
fn an_eni_that_stays_attached_is_asked_to_detach_again() {
    let mut world = an_eni_to_spare();
    world.faults.push_back(("Detach", Fault::Refuse(FailureClass::Lost, "timeout")));
    world.run_for(Millis::seconds(1200));
    assert!(world.calls_of("Detach") >= 2, "{:?}", world.calls);
    is_whole(&world);
}

/// The primary ENI bears no tag of ours, and is ours all the same.
#[test]
fn surplus_of_an_untagged_primary_eni_is_given_back_also_where_untagged_enis_are_not_ours() {
    let mut config = sips();
    config.manage_untagged = false;
    let mut world = World::settled(config);
    for i in 0..6 {
        world.start_pod(&format!("p{i}"));
    }
    for i in 1..6 {
        world.stop_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(300));
    assert!(given_back(&world) >= 4, "{:?}", world.calls);
    let asked = world.calls.len();
    world.run_for(Millis::seconds(3600));
    assert_eq!(world.calls.len(), asked, "a node at rest asks: {:?}", &world.calls[asked..]);
}

/// However short the settings' times are, EC2 is not asked again and again.
#[test]
fn what_ec2_can_not_confirm_is_asked_ever_more_rarely() {
    let mut world = World::settled(sips());
    for i in 0..6 {
        world.start_pod(&format!("p{i}"));
    }
    world.config.target.release_every = Millis(0);
    let settings = Input::Settings(Box::new(world.config.clone()));
    world.tell(settings);
    let denied = || ("Describe", Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation"));
    world.faults.extend(std::iter::repeat_with(denied).take(1000));
    for i in 1..6 {
        world.stop_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(40));
    let before = world.calls_of("Describe");
    world.run_for(Millis::seconds(600));
    let asked = world.calls_of("Describe") - before;
    assert!(asked <= 20, "asked {asked} times");
}
