//! ENIs that lost nodes left behind: on a node on paper, hour by hour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use vpc_agent::{CloudCall, CloudUse, Config, FailureClass, Input, Notice};
use vpc_model::{EniId, Millis, Time};
use world::{CREATED_AT_TAG, Fault, World, config, wall};

/// Longer than the first sweep can take from the start: the pause at start, an hour, and the spread of the deletions.
const FIRST: Millis = Millis::seconds(300 + 3600 + 600 + 10);
const HOUR: Millis = Millis::seconds(3600);

fn sweeping() -> Config {
    Config { leaked_cleanup: true, ..config(1, 3) }
}

fn deleted(world: &World) -> Vec<&str> {
    let deleted = world.calls.iter().filter_map(|call| match call {
        CloudCall::Delete { eni } => Some(eni.as_str()),
        _ => None,
    });
    deleted.collect()
}

fn id(text: &str) -> EniId {
    text.parse().unwrap()
}

#[test]
fn what_lost_nodes_left_is_deleted_within_the_first_hour_and_nothing_else_is() {
    let mut world = World::settled(sweeping());
    let long_ago = Some(world.now - Millis::seconds(600));
    world.leave_behind("eni-lost", long_ago, &[]);
    world.leave_behind("eni-kept", long_ago, &[("node.k8s.amazonaws.com/no_manage", "true")]);
    world.leave_behind("eni-undated", None, &[]);
    // Made now: of age at the latest an hour after it was first seen.
    world.run_for(Millis::seconds(300));
    assert_eq!(world.calls_of("Leaked"), 0, "not right at start");
    world.run_for(FIRST);
    assert_eq!(deleted(&world), ["eni-lost"]);
    let dated = &world.enis[&id("eni-undated")].truth.tags[CREATED_AT_TAG];
    assert_eq!(*dated, world.calls.iter().find_map(tag_of).unwrap());
    let seen = world.created[&id("eni-undated")];
    assert!(dated.len() == 20 && dated.ends_with('Z'), "{dated}");
    assert!(seen > wall(world::T0));
    assert!(world.notices.contains(&Notice::LeakedDeleted { eni: id("eni-lost") }));
    world.run_for(HOUR);
    assert_eq!(deleted(&world), ["eni-lost", "eni-undated"], "it had a time for an hour");
    assert!(world.enis.contains_key(&id("eni-kept")));
    assert_eq!(world.agent.pool().enis().count(), 1, "the node's own are as they were");
}

fn tag_of(call: &CloudCall) -> Option<String> {
    match call {
        CloudCall::Tag { tags, .. } => tags.get(CREATED_AT_TAG).cloned(),
        _ => None,
    }
}

#[test]
fn every_eni_is_looked_at_again_right_before_its_deletion() {
    let mut world = World::settled(sweeping());
    for eni in ["eni-a", "eni-b", "eni-c"] {
        world.leave_behind(eni, Some(world.now - Millis::seconds(600)), &[]);
    }
    run_until_listed(&mut world);
    // Meanwhile one is gone and one is used.
    world.enis.remove(&id("eni-a"));
    world.enis.get_mut(&id("eni-b")).unwrap().truth.available = false;
    world.run_for(Millis::seconds(620));
    assert_eq!(deleted(&world), ["eni-c"]);
    let looked = world.calls.iter().filter(|call| matches!(call, CloudCall::Describe { .. })).count();
    assert_eq!(looked, 3);
    let complaints: Vec<_> = world.notices.iter().filter(|n| matches!(n, Notice::CloudFailed { .. })).collect();
    assert_eq!(complaints, Vec::<&Notice>::new());
}

fn run_until_listed(world: &mut World) {
    for _ in 0..4000 {
        world.run_for(Millis::seconds(1));
        if world.calls_of("Leaked") > 0 {
            return;
        }
    }
    panic!("nothing was listed");
}

#[test]
fn another_node_was_first_is_fine_and_other_failures_wait_for_the_next_hour() {
    let mut world = World::settled(sweeping());
    world.leave_behind("eni-a", Some(world.now - Millis::seconds(600)), &[]);
    run_until_listed(&mut world);
    world.faults.push_back(("Delete", Fault::Refuse(FailureClass::NotFound, "InvalidNetworkInterfaceID.NotFound")));
    world.run_for(Millis::seconds(620));
    assert_eq!(world.calls_of("Delete"), 1);
    assert!(!world.notices.iter().any(|notice| matches!(notice, Notice::CloudFailed { .. })), "{:?}", world.notices);
    for class in [FailureClass::Unauthorized, FailureClass::Throttled, FailureClass::WrongState] {
        let before = world.calls_of("Delete");
        world.faults.push_back(("Delete", Fault::Refuse(class, "Injected")));
        world.run_for(HOUR);
        assert_eq!(world.calls_of("Delete"), before + 1, "{class:?}: not repeated within the hour");
    }
    world.run_for(HOUR);
    assert!(!world.enis.contains_key(&id("eni-a")));
    world.faults.push_back(("Leaked", Fault::Refuse(FailureClass::Unauthorized, "UnauthorizedOperation")));
    let before = world.calls_of("Leaked");
    world.run_for(HOUR);
    assert_eq!(world.calls_of("Leaked"), before + 1);
}

#[test]
fn it_is_off_where_it_is_switched_off_or_nothing_may_be_given_back() {
    let off = [
        Config { leaked_cleanup: false, ..sweeping() },
        Config { cloud: CloudUse::NoRelease, ..sweeping() },
        Config { cloud: CloudUse::ReadOnly, ..sweeping() },
        Config { cloud: CloudUse::Off, ..sweeping() },
    ];
    for config in off {
        let mut world = World::settled(config.clone());
        world.leave_behind("eni-a", Some(Time(world.now.0 - 600_000)), &[]);
        world.run_for(FIRST);
        assert_eq!((world.calls_of("Leaked"), deleted(&world).len()), (0, 0), "{:?}", config.cloud);
        // Switched on while it runs.
        world.tell(Input::Settings(Box::new(sweeping())));
        world.run_for(FIRST);
        assert_eq!(deleted(&world), ["eni-a"]);
    }
    // Switched off between the list and the deletion.
    let mut world = World::settled(sweeping());
    world.leave_behind("eni-a", Some(world.now - Millis::seconds(600)), &[]);
    run_until_listed(&mut world);
    world.tell(Input::Settings(Box::new(config(1, 3))));
    world.run_for(FIRST);
    assert_eq!(deleted(&world), Vec::<&str>::new());
}
