//! Field bugs about who owns an address (R01 to R18), on the real agent and the cloud's model with made-up time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::{
    NODE, Scene, addresses, asked, given, healthy, inject, lift, prefixes, quiet, running, show, show_truth, shown,
    sound, story, until_running,
};
use lab_cloud::{CloudFault, OutsideEvent};
use lab_sim::{Moment, Watch, World, pod_ref};
use vpc_agent::{AddRequest, Input, Notice, Ticket};
use vpc_model::{Millis, SandboxKey, Slot};

fn stale() -> CloudFault {
    CloudFault::ImdsStale { node: "*".to_owned() }
}

fn leases(world: &World) -> usize {
    world.node(NODE).unwrap().disk.as_ref().unwrap().leases.len()
}

/// Positions that the checkpoint records.
fn recorded(world: &World) -> BTreeSet<Slot> {
    let disk = world.node(NODE).unwrap().disk.as_ref().unwrap();
    disk.enis.iter().flat_map(|eni| eni.slots.iter().copied()).collect()
}

fn with_prefixes(pods: u32) -> World {
    let mut world = Scene::new("m5.large").with(|config| prefixes(config, 1)).started();
    world.add_pods(NODE, "p", pods);
    until_running(&mut world, NODE, pods as usize, Millis::seconds(60));
    world.run_for(Millis::seconds(300));
    world
}

#[test]
fn r01_prefix_vanishes_from_metadata() {
    for seconds in [1, 60, 600] {
        for restart in [false, true] {
            let mut world = with_prefixes(20);
            let before = given(&world, NODE);
            let (path, all) = shown(&mut world, NODE, 0, "ipv4-prefix");
            assert!(all.len() >= 2, "{all:?}");
            let since = world.now();
            show(&mut world, NODE, &path, &all[..1]);
            if restart {
                world.restart(NODE, Millis::seconds(1));
            }
            world.run_for(Millis::seconds(seconds));
            show_truth(&mut world, NODE);
            world.run_for(Millis::seconds(300));
            assert_eq!(asked(&world, NODE, since, "UnassignPrivateIpAddresses"), 0, "{}", story(&world));
            assert_eq!((given(&world, NODE), leases(&world)), (before, 20));
            let own = world.node(NODE).unwrap();
            let later = own.notices.iter().filter(|(at, _)| *at >= since);
            let told = later.filter(|(_, notice)| matches!(notice, Notice::Disagreement { .. })).count();
            // Once when the checkpoint knows more than the metadata, once when they are read again.
            assert!(told <= 1 + usize::from(restart), "told {told} times\n{}", story(&world));
            healthy(&mut world);
        }
    }
}

#[test]
fn r02_restart_with_a_short_metadata_list() {
    let mut world = with_prefixes(40);
    let before = given(&world, NODE);
    let (path, all) = shown(&mut world, NODE, 0, "ipv4-prefix");
    show(&mut world, NODE, &path, &all[..all.len() / 2]);
    world.restart(NODE, Millis::seconds(1));
    // Before EC2 has answered, and long after.
    for span in [Millis(60), Millis::seconds(60), Millis::seconds(600)] {
        world.run_for(span);
        assert_eq!(leases(&world), 40, "{}", story(&world));
        // Positions with pods on them stay in it; one that is not confirmed and empty proves nothing.
        let slots = recorded(&world);
        let lost: Vec<_> = before.iter().filter(|pod| !slots.iter().any(|slot| slot.contains(**pod))).collect();
        assert!(lost.is_empty(), "{lost:?}\n{}", story(&world));
    }
    show_truth(&mut world, NODE);
    quiet(&mut world);
    assert_eq!(given(&world, NODE), before);
    sound(&mut world);
}

#[test]
fn r03_ghost_address_after_restart() {
    let mut world = Scene::new("m5.large").with(|config| addresses(config, 3, 0)).started();
    world.add_pods(NODE, "p", 6);
    world.run_for(Millis::seconds(60));
    (0..6).for_each(|n| world.delete_pod(NODE, &format!("p{n}")));
    let lagging = inject(&mut world, stale());
    let since = world.now();
    world.run_for(Millis::seconds(600));
    assert!(asked(&world, NODE, since, "UnassignPrivateIpAddresses") > 0, "nothing was given back\n{}", story(&world));
    let (_, listed) = shown(&mut world, NODE, 0, "local-ipv4s");
    assert_eq!(listed.len(), 10, "the metadata should still list the ghosts");
    world.restart(NODE, Millis::seconds(1));
    world.add_pods(NODE, "q", 9);
    // A promise of an address that EC2 has not on the node is a fault of the world.
    until_running(&mut world, NODE, 9, Millis::seconds(120));
    healthy(&mut world);
    lift(&mut world, lagging);

    // The same, taken by somebody outside while the daemon is away: once EC2 has been heard, it is nobody's.
    let mut world = Scene::new("m5.large").started();
    let lagging = inject(&mut world, stale());
    world.kill(NODE);
    let (_, listed) = shown(&mut world, NODE, 0, "local-ipv4s");
    let ghost = listed.last().unwrap().parse().unwrap();
    let now = world.now();
    world.cloud.outside(now, OutsideEvent::AddressRemoved { address: Slot::Address(ghost) }).unwrap();
    world.start(NODE);
    world.run_for(Millis::seconds(5));
    world.add_pods(NODE, "q", 18);
    until_running(&mut world, NODE, 18, Millis::seconds(120));
    assert!(!given(&world, NODE).contains(&ghost));
    healthy(&mut world);
    lift(&mut world, lagging);
}

#[test]
fn r04_same_length_different_content() {
    for restart in [false, true] {
        let mut world = Scene::new("m5.large").started();
        world.add_pods(NODE, "p", 7);
        world.run_for(Millis::seconds(120));
        let before = given(&world, NODE);
        let (path, mut listed) = shown(&mut world, NODE, 0, "local-ipv4s");
        let used = listed.iter().rposition(|text| before.contains(&text.parse().unwrap())).unwrap();
        listed[used] = "10.20.11.250".to_owned();
        show(&mut world, NODE, &path, &listed);
        if restart {
            world.restart(NODE, Millis::seconds(1));
        }
        world.run_for(Millis::seconds(600));
        world.add_pods(NODE, "q", 3);
        until_running(&mut world, NODE, 10, Millis::seconds(60));
        assert!(given(&world, NODE).is_superset(&before));
        show_truth(&mut world, NODE);
        quiet(&mut world);
        sound(&mut world);
    }
}

#[test]
fn r05_stale_metadata_do_not_delete_an_eni_in_use() {
    let mut world = Scene::new("m5.large").started();
    world.add_pods(NODE, "p", 15);
    until_running(&mut world, NODE, 15, Millis::seconds(60));
    world.run_for(Millis::seconds(120));
    let before = given(&world, NODE);
    let missing = inject(&mut world, CloudFault::ImdsMissing { node: "*".to_owned(), device: None });
    let since = world.now();
    world.restart(NODE, Millis::seconds(1));
    world.run_for(Millis::seconds(600));
    for action in ["DetachNetworkInterface", "DeleteNetworkInterface", "UnassignPrivateIpAddresses"] {
        assert_eq!(asked(&world, NODE, since, action), 0, "{action}\n{}", story(&world));
    }
    assert_eq!(given(&world, NODE), before);
    healthy(&mut world);
    lift(&mut world, missing);
    world.add_pods(NODE, "q", 12);
    until_running(&mut world, NODE, 27, Millis::seconds(60));
    quiet(&mut world);
    sound(&mut world);
}

#[test]
fn r06_no_address_has_two_pods_under_churn() {
    let mut world = Scene::new("m5.large").with(|config| config.target.cool_down = Millis(500)).started();
    world.watch = Watch::Never;
    // 2 500 rounds of 20 ADDs and 20 DELs: 100 000 of both.
    for round in 0..2500_u32 {
        let names: Vec<String> = (0..20).map(|n| format!("p{round}-{n}")).collect();
        names.iter().for_each(|name| world.add_pod(NODE, name));
        let served = world.now() + Millis::seconds(60);
        assert!(world.run_until(served, |world| running(world, NODE) == 20), "{}", story(&world));
        names.iter().for_each(|name| world.delete_pod(NODE, name));
        world.run_for(Millis(u64::from(round % 7) * 100));
        world.look();
        assert!(world.faults.is_empty(), "{:?}", world.faults);
    }
    quiet(&mut world);
    sound(&mut world);
}

#[test]
fn r07_an_enis_own_address_is_never_a_pods() {
    let mut world = Scene::new("m5.large").started();
    world.add_pods(NODE, "p", 30);
    world.run_for(Millis::seconds(120));
    assert_eq!(running(&world, NODE), 27, "all there is, and no more\n{}", story(&world));
    let own: BTreeSet<_> = world.node(NODE).unwrap().guest_enis().map(|eni| eni.addresses.primary).collect();
    assert_eq!(own.len(), 3);
    assert!(own.is_disjoint(&given(&world, NODE)));
    healthy(&mut world);
}

#[test]
fn r08_add_and_cleanup_del_of_one_container_in_every_order() {
    let key = SandboxKey { network: "aws-cni".into(), container: "c-1".into(), interface: "eth0".into() };
    // ADD at 2 ms; writes take 3 ms; up to two DELs and a kill at any moment around them.
    let moments: Vec<Option<u64>> = std::iter::once(None).chain((0..10).map(Some)).collect();
    let begun = Scene::new("m5.large").started();
    for first in &moments {
        for second in &moments {
            for killed in [None, Some(3), Some(5), Some(8)] {
                let mut world = begun.clone();
                world.write_takes = Millis(3);
                let start = world.now();
                for at in 0..12 {
                    if at == 2 {
                        let request = AddRequest { key: key.clone(), pod: pod_ref("one") };
                        world.tell(NODE, Input::Add { ticket: Ticket(900_001), request });
                    }
                    for (ticket, del) in [(900_002, first), (900_003, second)] {
                        if *del == Some(at) {
                            world.tell(NODE, Input::Del { ticket: Ticket(ticket), key: key.clone() });
                        }
                    }
                    if killed == Some(at) {
                        world.restart(NODE, Millis(0));
                    }
                    world.run_for(Millis(1));
                }
                world.run_for(Millis::seconds(5));
                let node = world.node(NODE).unwrap();
                let booked = node.agent().unwrap().pool().of(&key).map(|held| held.allocation.address);
                let disk = node.disk.as_ref().unwrap();
                let on_disk = disk.leases.iter().find(|lease| lease.key == key).map(|lease| lease.address);
                let words = format!("{first:?} {second:?} {killed:?} from {start:?}");
                assert_eq!(booked, on_disk, "book and disk differ: {words}");
                let owned: BTreeSet<_> = disk.leases.iter().map(|lease| lease.address).collect();
                assert!(disk.rests.iter().all(|rest| !owned.contains(&rest.address)), "owned and at rest: {words}");
                assert!(world.faults.is_empty(), "{:?}: {words}", world.faults);
            }
        }
    }
}

#[test]
fn r09_a_storm_of_sandboxes_holds_one_address() {
    let mut world = Scene::new("m5.large").started();
    world.add_pod(NODE, "crash");
    until_running(&mut world, NODE, 1, Millis::seconds(5));
    for round in 0..1000 {
        world.lose_sandbox(NODE, "crash");
        let end = world.now() + Millis::seconds(120);
        assert!(world.run_until(end, |world| running(world, NODE) == 1), "round {round}\n{}", story(&world));
        world.run_for(Millis::seconds(10));
    }
    quiet(&mut world);
    let held = world.node(NODE).unwrap().agent().unwrap().pool().held().count();
    assert_eq!(held, 1, "{}", story(&world));
    sound(&mut world);
}

#[test]
fn r11_an_address_is_picked_at_the_instant_it_is_given_back() {
    for offset in 0..12 {
        let mut world = Scene::new("m5.large").with(|config| addresses(config, 2, 0)).started();
        world.add_pods(NODE, "p", 7);
        until_running(&mut world, NODE, 7, Millis::seconds(30));
        world.run_for(Millis::seconds(60));
        (0..7).for_each(|n| world.delete_pod(NODE, &format!("p{n}")));
        let (since, end) = (world.now(), world.now() + Millis::seconds(600));
        let began = |world: &World| asked(world, NODE, since, "UnassignPrivateIpAddresses") > 0;
        assert!(world.run_until(end, began), "nothing was given back\n{}", story(&world));
        world.run_for(Millis(offset * 70));
        world.add_pods(NODE, "q", 9);
        until_running(&mut world, NODE, 9, Millis::seconds(60));
        quiet(&mut world);
        sound(&mut world);
    }
}

#[test]
fn r12_a_used_prefix_is_never_released() {
    let mut world = Scene::new("m5.large")
        .with(|config| {
            prefixes(config, 1);
            addresses(config, 1, 0);
        })
        .started();
    world.add_pods(NODE, "p", 48);
    until_running(&mut world, NODE, 48, Millis::seconds(60));
    // One pod of each prefix stays.
    let (mut seen, mut gone) = (BTreeSet::new(), Vec::new());
    for (name, pod) in world.node(NODE).unwrap().running() {
        if !seen.insert(u32::from(pod.reply().unwrap().allocation.address) >> 4) {
            gone.push(name.to_owned());
        }
    }
    assert!(seen.len() >= 3);
    gone.iter().for_each(|name| world.delete_pod(NODE, name));
    quiet(&mut world);
    assert_eq!(running(&world, NODE), seen.len());
    sound(&mut world);
    let slots = recorded(&world);
    assert!(slots.iter().all(|slot| slot.prefix().is_some()), "{slots:?}");
}

#[test]
fn r15_everything_cooling() {
    // No room: whoever comes waits for the rest to end, and no longer.
    let mut world = Scene::new("t3.small").started();
    world.add_pods(NODE, "p", 9);
    until_running(&mut world, NODE, 9, Millis::seconds(60));
    for round in 0..5 {
        let old = if round == 0 { "p".to_owned() } else { format!("q{round}-") };
        (0..9).for_each(|n| world.delete_pod(NODE, &format!("{old}{n}")));
        world.run_for(Millis(100));
        world.add_pods(NODE, &format!("q{}-", round + 1), 9);
        until_running(&mut world, NODE, 9, Millis::seconds(36));
    }
    healthy(&mut world);
    // Room: the pool grows at once.
    let mut world = Scene::new("m5.large").with(|config| addresses(config, 1, 9)).started();
    world.add_pods(NODE, "p", 9);
    until_running(&mut world, NODE, 9, Millis::seconds(60));
    (0..9).for_each(|n| world.delete_pod(NODE, &format!("p{n}")));
    world.run_for(Millis(100));
    world.add_pods(NODE, "q", 9);
    until_running(&mut world, NODE, 9, Millis::seconds(12));
    healthy(&mut world);
}

#[test]
fn r16_cool_down_across_a_restart() {
    for away in [0, 1, 5, 20, 40] {
        // Nine addresses and no more: each is given again as soon as it may.
        let mut world = Scene::new("m5.large").with(|config| config.target.max_enis = 1).started();
        world.add_pods(NODE, "p", 9);
        until_running(&mut world, NODE, 9, Millis::seconds(30));
        (0..9).for_each(|n| world.delete_pod(NODE, &format!("p{n}")));
        world.run_for(Millis(100));
        world.restart(NODE, Millis::seconds(away));
        world.add_pods(NODE, "q", 9);
        // Too soon an answer is a fault of the world; too late one is seen here.
        until_running(&mut world, NODE, 9, Millis::seconds(50));
        healthy(&mut world);
    }
}

#[test]
fn r18_killed_between_attach_and_recording() {
    for moment in [Moment::Sent, Moment::Answered] {
        let mut world = Scene::new("m5.large").started();
        // What the growth for ten pods asks for, until it attaches.
        let mut rehearsal = world.clone();
        let since = world.now();
        rehearsal.add_pods(NODE, "p", 10);
        rehearsal.run_for(Millis::seconds(30));
        let attach = rehearsal.requests(NODE, since, false).iter().position(|name| *name == "AttachNetworkInterface");
        world.arm(NODE, attach.unwrap(), moment);
        world.add_pods(NODE, "p", 10);
        let end = world.now() + Millis::seconds(30);
        assert!(world.run_until(end, World::trap_closed), "{}", story(&world));
        world.restart(NODE, Millis::seconds(4));
        until_running(&mut world, NODE, 10, Millis::seconds(60));
        world.add_pods(NODE, "q", 17);
        until_running(&mut world, NODE, 27, Millis::seconds(120));
        assert_eq!(world.node(NODE).unwrap().guest_enis().count(), 3);
        quiet(&mut world);
        sound(&mut world);
    }
}
