//! Whose an ENI is, what is on it, and who says so: the agent on a paper node, EC2 and the metadata laid side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::BTreeMap;

use vpc_agent::{Agent, Checkpoint, CloudCall, CloudUse, Config, EniKind, EniTruth, Input, Notice, Outcome};
use vpc_ipam::{EniRole, Retired, SlotState};
use vpc_model::{CardIndex, DeviceIndex, EniId, Mac, Millis, SecurityGroupId, Slot};
use world::{CloudEni, World, config};

const SECOND: Millis = Millis::seconds(1);
const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
const NO: (&str, &str) = ("node.k8s.amazonaws.com/no_manage", "true");
const YES: (&str, &str) = ("node.k8s.amazonaws.com/no_manage", "false");
const SELF: (&str, &str) = (INSTANCE_TAG, "i-1");
const OTHER: (&str, &str) = (INSTANCE_TAG, "i-2");

fn tags(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn id(device: u8) -> EniId {
    format!("eni-x{device}").parse().unwrap()
}

/// An ENI somebody has attached.
fn attached(device: u8, own: &[(&str, &str)]) -> CloudEni {
    let truth = EniTruth {
        id: id(device),
        mac: Mac([2, 0, 0, 0, 9, device]),
        primary: format!("10.20.9.{device}").parse().unwrap(),
        slots: vec![Slot::Address(format!("10.20.9.10{device}").parse().unwrap())],
        attachment: Some((format!("eni-attach-x{device}").parse().unwrap(), CardIndex(0), DeviceIndex(device))),
        available: false,
        kind: EniKind::Ordinary,
        subnet: "subnet-1".parse().unwrap(),
        groups: vec!["sg-theirs".parse().unwrap()],
        tags: tags(own),
        delete_on_termination: None,
    };
    CloudEni { truth, token: None, delete_on_termination: false }
}

fn start_with(config: Config, own: [&[(&str, &str)]; 3]) -> World {
    let mut world = World::new(config);
    let primary: EniId = "eni-primary".parse().unwrap();
    world.enis.get_mut(&primary).unwrap().truth.tags = tags(own[0]);
    for device in [1, 2] {
        world.enis.insert(id(device), attached(device, own[usize::from(device)]));
        world.plug(device);
    }
    world.disk = None;
    world.restart(SECOND);
    world.run_for(Millis::seconds(10));
    world
}

fn ours(agent: &Agent) -> Vec<String> {
    agent.pool().enis().map(|eni| eni.facts.id.to_string()).collect()
}

#[test]
fn tags_say_whose_an_eni_is() {
    type Tags<'a> = &'a [(&'a str, &'a str)];
    // Tags of the three ENIs; the others that are ours with MANAGE_UNTAGGED_ENI, and without.
    let cases: [([Tags<'_>; 3], &[u8], &[u8]); 7] = [
        ([&[], &[], &[]], &[1, 2], &[]),
        ([&[NO], &[], &[]], &[1, 2], &[]),
        ([&[], &[NO], &[NO]], &[], &[]),
        ([&[], &[NO], &[YES]], &[2], &[2]),
        ([&[], &[NO], &[SELF]], &[2], &[2]),
        ([&[], &[OTHER], &[SELF]], &[1, 2], &[2]),
        ([&[], &[NO, SELF], &[YES, OTHER]], &[2], &[2]),
    ];
    for (own, with, without) in cases {
        for (manage_untagged, expected) in [(true, with), (false, without)] {
            let world = start_with(Config { manage_untagged, ..config(0, 3) }, own);
            let mut expected: Vec<String> = expected.iter().map(|device| id(*device).to_string()).collect();
            expected.insert(0, "eni-primary".to_owned());
            let mut got = ours(&world.agent);
            got.sort();
            assert_eq!(got, expected, "{own:?}, MANAGE_UNTAGGED_ENI={manage_untagged}");
        }
    }
}

#[test]
fn kinds_that_carry_no_pods_are_left_alone_and_an_efa_is_kept() {
    for (kind, used, kept) in [
        (EniKind::Trunk, false, false),
        (EniKind::EfaOnly, false, false),
        (EniKind::Other, false, false),
        (EniKind::Efa, true, true),
        (EniKind::Ordinary, true, false),
    ] {
        let mut world = World::new(config(0, 3));
        let mut eni = attached(1, &[SELF]);
        eni.truth.kind = kind;
        world.enis.insert(id(1), eni);
        world.plug(1);
        world.restart(SECOND);
        world.run_for(SECOND);
        let known = world.agent.pool().eni(&id(1));
        assert_eq!((known.is_some(), known.is_some_and(|eni| eni.keep)), (used, kept), "{kind:?}");
    }
}

#[test]
fn lacking_tags_are_put_on_all_enis_in_one_call_and_only_once() {
    let wanted = tags(&[SELF, ("cluster.k8s.amazonaws.com/name", "c1")]);
    let world = start_with(Config { tags: wanted.clone(), ..config(0, 3) }, [&[], &[SELF], &[NO]]);
    let calls: Vec<&CloudCall> = world.calls.iter().filter(|call| matches!(call, CloudCall::Tag { .. })).collect();
    let last = calls.last().unwrap();
    let CloudCall::Tag { enis, tags } = last else { unreachable!() };
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(*enis, ["eni-primary".parse().unwrap(), id(1)]);
    assert_eq!(*tags, wanted, "the one lacks both, the other the second");
    assert_eq!(world.enis[&id(2)].truth.tags, self::tags(&[NO]), "one that is not ours is not tagged");
    let mut world = world;
    let before = world.calls_of("Tag");
    world.restart(SECOND);
    world.run_for(Millis::seconds(600));
    assert_eq!(world.calls_of("Tag"), before, "none lacks any");
}

fn groups(names: &[&str]) -> Vec<SecurityGroupId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn security_groups_of_enis_a_daemon_made_follow_the_primary_s() {
    let mut world = start_with(config(3, 3), [&[], &[SELF], &[OTHER]]);
    world.groups = groups(&["sg-b", "sg-a"]);
    world.run_for(Millis::seconds(120));
    assert_eq!(world.enis[&id(1)].truth.groups, groups(&["sg-a", "sg-b"]));
    assert_eq!(world.enis[&id(2)].truth.groups, groups(&["sg-theirs"]), "another's groups are another's business");
    assert_eq!(world.calls_of("Groups"), 1);
    world.run_for(Millis::seconds(3600));
    assert_eq!(world.calls_of("Groups"), 1, "nothing changed");
}

/// Untagged when it is attached, tagged `no_manage` half a minute later: never ours, and its groups never change.
#[test]
fn r22_a_foreign_interface_that_gets_its_tag_late_is_never_touched() {
    let mut world = World::settled(config(0, 3));
    world.groups = groups(&["sg-node"]);
    world.enis.insert(id(1), attached(1, &[]));
    world.plug(1);
    world.tell(vpc_agent::Input::HostChanged);
    world.run_for(Millis::seconds(30));
    world.enis.get_mut(&id(1)).unwrap().truth.tags = tags(&[NO]);
    world.run_for(Millis::seconds(3600));
    assert_eq!(ours(&world.agent), ["eni-primary"]);
    assert_eq!(world.enis[&id(1)].truth.groups, groups(&["sg-theirs"]));
    assert_eq!(world.enis[&id(1)].truth.tags, tags(&[NO]));
}

#[test]
fn one_that_stays_untagged_is_ours_after_a_minute() {
    let mut world = World::settled(config(1, 2));
    world.enis.insert(id(1), attached(1, &[]));
    world.plug(1);
    world.tell(vpc_agent::Input::HostChanged);
    world.run_for(Millis::seconds(50));
    assert_eq!(ours(&world.agent), ["eni-primary"], "it may get a tag yet");
    world.run_for(Millis::seconds(40));
    assert!(world.agent.pool().eni(&id(1)).is_some_and(|eni| eni.facts.device == DeviceIndex(1)), "{:?}", world.calls);
}

#[test]
fn an_eni_that_is_marked_no_manage_keeps_its_pods_and_is_never_given_back() {
    let mut world = World::settled(config(0, 3));
    for i in 0..10 {
        world.start_pod(&format!("p{i}"));
    }
    let on = |world: &World, name: &str| world.agent.pool().of(&world::key(name)).map(|held| held.allocation.address);
    let address = on(&world, "p9").unwrap();
    let second = world.enis.values().find(|eni| eni.truth.slots.iter().any(|slot| slot.contains(address))).unwrap();
    let second = second.truth.id.clone();
    world.enis.get_mut(&second).unwrap().truth.tags = tags(&[NO]);
    world.restart(SECOND);
    world.run_for(Millis::seconds(10));
    assert_eq!(world.agent.pool().eni(&second).unwrap().role, EniRole::Retired(Retired::NotOurs));
    assert_eq!(on(&world, "p9"), Some(address));
    world.stop_pod("p9");
    world.run_for(Millis::seconds(900));
    assert!(world.enis[&second].truth.attachment.is_some(), "it is not ours to give back");
}

/// Whose an ENI is comes up where something of it is to be given back: what EC2 says then holds for everything else. Another ENI takes
/// its place in the pool, and EC2 is not asked for ever.
#[test]
fn an_eni_that_is_found_to_be_another_s_when_it_is_given_back_leaves_the_pool() {
    let mut world = World::settled(config(0, 3));
    for i in 0..10 {
        world.start_pod(&format!("p{i}"));
    }
    let primary: EniId = "eni-primary".parse().unwrap();
    let second = world.enis.keys().find(|id| **id != primary).unwrap().clone();
    world.enis.get_mut(&second).unwrap().truth.tags = tags(&[NO]);
    for i in 0..10 {
        world.stop_pod(&format!("p{i}"));
    }
    world.run_for(Millis::seconds(600));
    assert!(world.agent.pool().eni(&second).is_none());
    assert!(world.enis[&second].truth.attachment.is_some(), "it is not ours to give back");
    let asked = world.calls.len();
    world.run_for(Millis::seconds(3600));
    assert_eq!(world.calls.len(), asked, "a node at rest asks: {:?}", &world.calls[asked..]);
}

/// The settings say that ENIs without a tag are ours, and in the same moment that EC2 may not be asked: what EC2 last said of an ENI's
/// tags holds.
#[test]
fn an_untagged_eni_is_taken_back_when_the_settings_say_so() {
    for (own, expected) in [(&[][..], EniRole::Pods), (&[NO][..], EniRole::Retired(Retired::NotOurs))] {
        let mut world = World::settled(config(0, 3));
        for i in 0..10 {
            world.start_pod(&format!("p{i}"));
        }
        let primary: EniId = "eni-primary".parse().unwrap();
        let second = world.enis.keys().find(|id| **id != primary).unwrap().clone();
        world.enis.get_mut(&second).unwrap().truth.tags = tags(own);
        world.config.manage_untagged = false;
        world.config.tags.clear();
        let settings = Input::Settings(Box::new(world.config.clone()));
        world.tell(settings);
        world.run_for(Millis::seconds(10));
        assert_eq!(world.agent.pool().eni(&second).unwrap().role, EniRole::Retired(Retired::NotOurs));
        (world.config.manage_untagged, world.config.cloud) = (true, CloudUse::Off);
        let settings = Input::Settings(Box::new(world.config.clone()));
        world.tell(settings);
        world.run_for(Millis::seconds(10));
        assert_eq!(world.agent.pool().eni(&second).unwrap().role, expected, "{own:?}");
    }
}

#[test]
fn a_position_that_ec2_took_away_goes_only_when_no_pod_is_on_it() {
    let mut world = World::settled(config(1, 1));
    let pod = world.start_pod("a").allocation.address;
    let primary: EniId = "eni-primary".parse().unwrap();
    let free = world.enis[&primary].truth.slots.iter().copied().find(|slot| !slot.contains(pod)).unwrap();
    let used = Slot::Address(pod);
    world.run_for(Millis::seconds(120));
    world.enis.get_mut(&primary).unwrap().truth.slots.retain(|slot| *slot != free && *slot != used);
    world.run_for(Millis::seconds(61));
    let state = |world: &World, slot| world.agent.pool().eni(&primary).unwrap().slots.get(&slot).copied();
    assert_eq!(state(&world, free), Some(SlotState::Missing), "{:#?}", world.notices);
    assert_eq!(state(&world, used), Some(SlotState::Missing));
    world.run_for(Millis::seconds(900));
    assert_eq!(state(&world, free), None, "twice not there, and nobody's");
    assert_eq!(state(&world, used), Some(SlotState::Missing), "a pod lives on it");
    assert!(world.agent.pool().of(&world::key("a")).is_some());
    let before = world.disk.clone().unwrap();
    assert!(before.leases.iter().any(|lease| lease.address == pod));
}

/// Metadata that keep saying the same are asked about ever more rarely; what they are about must not wait for that.
#[test]
fn what_a_pod_kept_in_the_books_leaves_them_soon_after_the_pod() {
    let mut world = World::settled(config(1, 2));
    let names: Vec<String> = (0..12).map(|pod| format!("p{pod}")).collect();
    let on: Vec<Slot> = names.iter().map(|name| Slot::Address(world.start_pod(name).allocation.address)).collect();
    world.run_for(Millis::seconds(120));
    let second = world.enis.keys().find(|id| id.as_str() != "eni-primary").unwrap().clone();
    let (mine, theirs): (Vec<usize>, Vec<usize>) =
        (0..12).partition(|pod| world.enis[&second].truth.slots.contains(&on[*pod]));
    assert!(!mine.is_empty() && !theirs.is_empty());
    // Somebody takes a pod's address, and the whole second ENI.
    let taken = on[theirs[0]];
    let primary: EniId = "eni-primary".parse().unwrap();
    world.enis.get_mut(&primary).unwrap().truth.slots.retain(|slot| *slot != taken);
    world.enis.remove(&second);
    world.host.detach(&"eth1".parse().unwrap());
    world.run_for(Millis::seconds(4 * 3600));
    let doubtful =
        |world: &World| world.agent.pool().eni(&second).is_some_and(|eni| eni.usage == vpc_ipam::EniUse::Doubtful);
    assert!(doubtful(&world), "its pods live");
    assert!(world.agent.pool().eni(&primary).unwrap().slots.contains_key(&taken), "its pod lives");
    let asked = world.calls_of("Node");
    for pod in mine.iter().chain([&theirs[0]]) {
        world.stop_pod(&names[*pod]);
    }
    // The rest, and two answers of EC2.
    world.run_for(Millis::seconds(30 + 2 * 30 + 5));
    assert!(world.agent.pool().eni(&second).is_none(), "{:#?}", world.notices);
    assert!(!world.agent.pool().eni(&primary).unwrap().slots.contains_key(&taken));
    assert!(world.calls_of("Node") - asked <= 3, "{}", world.calls_of("Node") - asked);
}

/// The daemon is killed while EC2 detaches an ENI, which may take minutes.
#[test]
fn an_eni_that_is_being_detached_at_the_start_gets_no_pods_and_is_deleted_in_the_end() {
    let mut world = World::settled(config(1, 2));
    let names: Vec<String> = (0..5).map(|pod| format!("p{pod}")).collect();
    names.iter().for_each(|name| drop(world.start_pod(name)));
    world.run_for(Millis::seconds(120));
    let second = world.enis.keys().find(|id| id.as_str() != "eni-primary").unwrap().clone();
    let own = world.enis.get_mut(&second).unwrap();
    own.truth.tags = tags(&[SELF]);
    own.truth.attachment = None;
    world.restart(SECOND);
    world.run_for(SECOND);
    for pod in 5..9 {
        assert_eq!(world.start_pod(&format!("p{pod}")).allocation.device.0, 0);
    }
    assert!(world.enis.contains_key(&second), "EC2 is not done with it");
    world.enis.get_mut(&second).unwrap().truth.available = true;
    world.host.detach(&"eth1".parse().unwrap());
    world.run_for(Millis::seconds(5));
    assert!(!world.enis.contains_key(&second), "{:#?}", world.notices);
}

/// A pod lives on an ENI that somebody took away, and another ENI is where that was: the host is set up for it all the same.
#[test]
fn an_eni_in_the_place_of_one_that_was_taken_carries_pods() {
    let mut world = World::settled(config(1, 3));
    (0..10).for_each(|pod| drop(world.start_pod(&format!("p{pod}"))));
    world.run_for(Millis::seconds(120));
    let second = world.agent.pool().enis().find(|eni| eni.facts.device.0 == 1).unwrap().facts.id.clone();
    world.enis.remove(&second);
    world.host.detach(&"eth1".parse().unwrap());
    world.enis.insert(id(1), attached(1, &[YES]));
    world.plug(1);
    world.tell(vpc_agent::Input::HostChanged);
    world.run_for(Millis::seconds(20));
    let usage = |world: &World, id: &EniId| world.agent.pool().eni(id).map(|eni| eni.usage);
    assert_eq!(usage(&world, &id(1)), Some(vpc_ipam::EniUse::Ready), "{:#?}", world.notices);
    assert_eq!(usage(&world, &second), Some(vpc_ipam::EniUse::Doubtful), "its pod lives");
    assert!(!world.notices.iter().any(|notice| matches!(notice, Notice::HostFailed { .. })));
}

/// Somebody takes his own ENI off the node again: another one can be made in its place.
#[test]
fn an_eni_that_is_not_ours_and_leaves_makes_room() {
    let mut world = start_with(config(1, 3), [&[], &[NO], &[NO]]);
    (0..6).for_each(|pod| drop(world.start_pod(&format!("p{pod}"))));
    world.run_for(Millis::seconds(60));
    assert_eq!(ours(&world.agent), ["eni-primary"], "his ENIs have the other places");
    world.enis.remove(&id(1));
    world.host.detach(&"eth1".parse().unwrap());
    world.tell(vpc_agent::Input::HostChanged);
    world.run_for(Millis::seconds(200));
    assert_eq!(ours(&world.agent).len(), 2, "{:#?}", world.notices);
}

#[test]
fn one_odd_reading_of_the_metadata_costs_one_question_and_changes_nothing() {
    let mut world = World::settled(config(1, 1));
    let pod = world.start_pod("a").allocation.address;
    world.run_for(Millis::seconds(120));
    let before: Checkpoint = world.agent.checkpoint();
    let asked = world.calls_of("Node");
    world.unshown = world.enis.values().flat_map(|eni| eni.truth.slots.clone()).collect();
    world.run_for(Millis::seconds(65));
    assert_eq!(world.calls_of("Node"), asked + 1);
    assert_eq!(world.agent.checkpoint(), before);
    let said = world.notices.iter().filter(|notice| matches!(notice, Notice::Disagreement { .. })).count();
    assert_eq!(said, 1, "{:#?}", world.notices);
    world.run_for(Millis::seconds(3600));
    assert!(world.calls_of("Node") - asked <= 6, "ever more rarely: {}", world.calls_of("Node") - asked);
    assert_eq!(world.agent.checkpoint(), before);
    assert!(world.agent.pool().held().any(|held| held.allocation.address == pod));
}

/// A node without a checkpoint, with addresses the metadata list and EC2 does not: none of them is ever promised.
#[test]
fn r03_an_address_only_the_metadata_know_is_never_promised() {
    let mut world = World::new(config(0, 1));
    world.call_takes = Millis::seconds(3);
    world.disk = None;
    let ghost: Slot = Slot::Address("10.20.9.99".parse().unwrap());
    world.ghosts.insert(ghost);
    world.restart(SECOND);
    let ticket = world.add("a");
    world.run_for(Millis::seconds(20));
    match &world.answers[&ticket].1 {
        Outcome::Added(reply) => assert!(!ghost.contains(reply.allocation.address)),
        other => panic!("{other:?}"),
    }
    world.run_for(Millis::seconds(600));
    let primary: EniId = "eni-primary".parse().unwrap();
    assert!(!world.agent.pool().eni(&primary).unwrap().slots.contains_key(&ghost));
}

/// The metadata lack half of what the checkpoint recorded, and EC2 is slow: the file keeps all of it until EC2 has spoken.
#[test]
fn r02_a_short_list_at_the_start_does_not_reach_the_checkpoint() {
    let mut world = World::settled(config(1, 1));
    world.start_pod("a");
    let recorded = |world: &World| world.disk.as_ref().unwrap().enis[0].slots.clone();
    let before = recorded(&world);
    world.unshown = before.iter().copied().skip(3).collect();
    world.call_takes = Millis::seconds(5);
    world.restart(SECOND);
    world.run_for(Millis::seconds(3));
    assert_eq!(recorded(&world), before, "EC2 has not been heard");
    world.restart(SECOND);
    world.run_for(Millis::seconds(3));
    assert_eq!(recorded(&world), before, "after a second start either");
    world.run_for(Millis::seconds(300));
    assert_eq!(recorded(&world), before);
    let said = world.notices.iter().filter(|notice| matches!(notice, Notice::Disagreement { .. })).count();
    assert_eq!(said, 2, "once for each start: {:#?}", world.notices);
}

/// Killed between attaching an ENI and tying it to its instance. That somebody took its tags meanwhile changes nothing, as long as it is
/// ours by the settings.
#[test]
fn r18_an_eni_that_was_attached_and_not_tied_is_tied_after_the_restart() {
    let rows: [(&[(&str, &str)], bool); 4] = [(&[SELF], true), (&[], true), (&[SELF, NO], false), (&[NO], false)];
    for (own, ours) in rows {
        let mut world = World::settled(config(1, 2));
        let mut eni = attached(1, own);
        eni.truth.delete_on_termination = Some(false);
        world.enis.insert(id(1), eni);
        world.plug(1);
        world.restart(SECOND);
        // Soon: an ENI that nothing is on is given back when it is old enough.
        world.run_for(Millis::seconds(30));
        assert_eq!(world.enis[&id(1)].delete_on_termination, ours, "{own:?}");
        assert_eq!(world.calls_of("Modify"), usize::from(ours), "{own:?}: once is enough");
        assert_eq!(world.agent.pool().eni(&id(1)).is_some(), ours, "{own:?}");
    }
}

/// The reference's checkpoint lists pods and no ENIs: a pod on the second one keeps its table from the first look at the host on.
#[test]
fn a_pod_of_the_reference_on_the_second_eni_is_never_unrouted() {
    let mut world = World::settled(config(0, 3));
    for i in 0..10 {
        world.start_pod(&format!("p{i}"));
    }
    let tenth = world.agent.pool().of(&world::key("p9")).unwrap().allocation;
    assert_ne!(tenth.device, DeviceIndex(0));
    let disk = world.disk.as_mut().unwrap();
    disk.enis.clear();
    disk.leases.iter_mut().for_each(|lease| lease.allocation = None);
    world.call_takes = Millis::seconds(5);
    world.restart(SECOND);
    for _ in 0..20 {
        world.run_for(Millis(500));
        assert_eq!(world.leaves_by("p9", "10.20.30.40"), "eth1");
        assert_eq!(world.agent.pool().of(&world::key("p9")).unwrap().allocation, tenth);
    }
}

/// EC2 has said that it is not there. Forbidding EC2 afterwards makes the metadata no newer than they were.
#[test]
fn what_ec2_denied_is_not_believed_when_ec2_is_forbidden() {
    let mut world = World::settled(config(2, 1));
    let primary: EniId = "eni-primary".parse().unwrap();
    let ghost = Slot::Address("10.20.9.99".parse().unwrap());
    let has = |world: &World| world.agent.pool().eni(&primary).unwrap().slots.contains_key(&ghost);
    world.ghosts.insert(ghost);
    world.restart(SECOND);
    world.run_for(Millis::seconds(60));
    assert!(!has(&world), "EC2 denied it");
    let mut config = world.config.clone();
    config.cloud = CloudUse::Off;
    world.tell(Input::Settings(Box::new(config)));
    world.run_for(Millis::seconds(300));
    assert!(!has(&world), "the metadata have shown it ever since");
    world.ghosts.remove(&ghost);
    world.run_for(Millis::seconds(70));
    world.ghosts.insert(ghost);
    world.run_for(Millis::seconds(70));
    assert!(has(&world), "they show it anew");
}

/// An answer of EC2 that lagged denied it for a moment.
#[test]
fn what_ec2_lists_again_is_believed_again() {
    let mut world = World::settled(config(2, 1));
    let primary: EniId = "eni-primary".parse().unwrap();
    let given = Slot::Address("10.20.9.77".parse().unwrap());
    world.ghosts.insert(given);
    world.run_for(Millis::seconds(70));
    world.ghosts.remove(&given);
    world.enis.get_mut(&primary).unwrap().truth.slots.push(given);
    world.run_for(Millis::seconds(300));
    let mut config = world.config.clone();
    config.cloud = CloudUse::Off;
    world.tell(Input::Settings(Box::new(config)));
    world.run_for(Millis::seconds(300));
    assert_eq!(world.agent.pool().eni(&primary).unwrap().slots.get(&given), Some(&SlotState::Held));
}
