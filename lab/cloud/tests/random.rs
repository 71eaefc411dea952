//! Long random histories: whatever is asked in whatever order, the books must balance.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use common::small_subnet;
use lab_cloud::{AttachedEni, Caller, Cloud, FabricEvent, Output, Profile, Setup, Snapshot, WorldSpec};
use proptest::prelude::*;
use vpc_aws::ec2::shapes::{
    AnyRequest, AssignPrivateIpAddresses, AttachNetworkInterface, CreateNetworkInterface, DeleteNetworkInterface,
    DescribeNetworkInterfaces, DetachNetworkInterface, UnassignPrivateIpAddresses,
};
use vpc_model::{DeviceIndex, EniId, InstanceId, Millis, Time};

/// What somebody may do; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Create { subnet: usize, secondary: u32, prefixes: u32 },
    Attach { eni: usize, instance: usize, device: u8 },
    Detach { eni: usize },
    Delete { eni: usize },
    Assign { eni: usize, addresses: u32, prefixes: u32 },
    Unassign { eni: usize, slot: usize },
    Power { instance: usize, on: bool },
    Terminate { instance: usize },
    Describe,
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let eni = 0..12_usize;
    let instance = 0..4_usize;
    prop_oneof![
        4 => (prop::sample::select(vec![0, 0, 0, 1, 2_usize]), 0..6_u32, 0..2_u32).prop_map(|(subnet, secondary, prefixes)| Step::Create {
            subnet,
            secondary: if prefixes > 0 { 0 } else { secondary },
            prefixes,
        }),
        5 => (eni.clone(), instance.clone(), 0..6_u8).prop_map(|(eni, instance, device)| Step::Attach { eni, instance, device }),
        2 => eni.clone().prop_map(|eni| Step::Detach { eni }),
        2 => eni.clone().prop_map(|eni| Step::Delete { eni }),
        4 => (eni.clone(), 0..6_u32, 0..3_u32).prop_map(|(eni, addresses, prefixes)| Step::Assign { eni, addresses, prefixes }),
        3 => (eni, 0..20_usize).prop_map(|(eni, slot)| Step::Unassign { eni, slot }),
        1 => (instance.clone(), any::<bool>()).prop_map(|(instance, on)| Step::Power { instance, on }),
        1 => instance.prop_map(|instance| Step::Terminate { instance }),
        1 => Just(Step::Describe),
        4 => (0..5000_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// A small world, so that it runs out: /26 and /27 beside a /22.
fn world() -> WorldSpec {
    let mut spec = small_subnet("10.20.8.0/26");
    let net: ipnet::Ipv4Net = "10.20.12.0/27".parse().unwrap();
    spec.subnets.iter_mut().find(|subnet| subnet.name == "private-b").unwrap().cidr = net.try_into().unwrap();
    spec.instances.push(lab_cloud::InstanceSpec::new("small", "t3.small", lab_cloud::id_for("private-a")));
    spec
}

fn cloud(profile: Profile, seed: u64) -> Cloud {
    Cloud::new(world(), Setup { profile, seed, ..Setup::default() }).unwrap()
}

/// What one of them would ask for now.
fn request(step: &Step, snapshot: &Snapshot) -> Option<AnyRequest> {
    let eni = |n: usize| snapshot.enis.get(n % snapshot.enis.len().max(1));
    Some(match step {
        Step::Create { subnet, secondary, prefixes } => {
            let place = ["private-a", "private-b", "private-c"][*subnet];
            let mut new = CreateNetworkInterface::new(lab_cloud::id_for(place));
            new.secondary_private_ip_address_count = (*secondary > 0).then_some(*secondary);
            new.ipv4_prefix_count = (*prefixes > 0).then_some(*prefixes);
            new.into()
        }
        Step::Attach { eni: n, instance: i, device } => {
            // Mostly what could work: an ENI that is free, an instance in its zone.
            let free: Vec<_> = snapshot.enis.iter().filter(|eni| n % 4 == 0 || eni.status == "available").collect();
            let eni = free.get(n % free.len().max(1))?;
            let zone = &snapshot.subnets.iter().find(|subnet| subnet.id == eni.subnet)?.zone;
            let near: Vec<_> = snapshot.instances.iter().filter(|near| i % 4 == 0 || near.zone == *zone).collect();
            AttachNetworkInterface {
                network_interface_id: eni.id.clone(),
                instance_id: near.get(i % near.len().max(1))?.id.clone(),
                device_index: DeviceIndex(*device),
                network_card_index: None,
                dry_run: None,
            }
            .into()
        }
        Step::Detach { eni: n } => {
            let attachment_id = eni(*n)?.attachment.as_ref()?.id.clone();
            DetachNetworkInterface { attachment_id, force: None, dry_run: None }.into()
        }
        Step::Delete { eni: n } => {
            DeleteNetworkInterface { network_interface_id: eni(*n)?.id.clone(), dry_run: None }.into()
        }
        Step::Assign { eni: n, addresses, prefixes } => {
            let id = eni(*n)?.id.clone();
            match prefixes {
                0 => AssignPrivateIpAddresses::addresses(id, *addresses).into(),
                _ => AssignPrivateIpAddresses::prefixes(id, *prefixes).into(),
            }
        }
        Step::Unassign { eni: n, slot } => {
            let eni = eni(*n)?;
            let (addresses, prefixes) = (&eni.addresses.secondary, &eni.addresses.prefixes);
            UnassignPrivateIpAddresses {
                network_interface_id: eni.id.clone(),
                private_ip_addresses: addresses.iter().skip(*slot).take(2).copied().collect(),
                ipv4_prefixes: if addresses.len() > *slot {
                    Vec::new()
                } else {
                    prefixes.iter().take(1).copied().collect()
                },
            }
            .into()
        }
        Step::Describe => DescribeNetworkInterfaces::default().into(),
        Step::Power { .. } | Step::Terminate { .. } | Step::Pass { .. } => return None,
    })
}

/// A history: steps, with everything that came out of them. `polls` is how often one looks while time passes; 0: not
/// before the end.
fn run(cloud: &mut Cloud, steps: &[Step], polls: u64, mut check: impl FnMut(&Snapshot, &[Output])) -> Vec<Output> {
    let (mut now, mut all) = (Time(0), Vec::new());
    for step in steps {
        // Of a copy: looking must not bring the cloud up to date.
        let snapshot = cloud.clone().snapshot(now);
        let power = |n: usize| snapshot.instances[n].id.clone();
        match step {
            Step::Power { instance, on } => _ = cloud.power(now, &power(*instance), *on),
            Step::Terminate { instance } => _ = cloud.terminate(now, &power(*instance)),
            Step::Pass { millis } => {
                for part in 1..polls {
                    all.extend(cloud.advance(now + Millis(millis * part / polls)));
                }
                now = now + Millis(*millis);
            }
            other => {
                if let Some(request) = request(other, &snapshot) {
                    cloud.submit(now, &Caller::Account, request);
                }
            }
        }
        if polls > 0 {
            all.extend(cloud.advance(now));
            check(&cloud.snapshot(now), &all);
        }
    }
    while let Some(due) = cloud.next_due() {
        now = now.max(due);
        all.extend(cloud.advance(now));
        check(&cloud.snapshot(now), &all);
    }
    all
}

fn books_balance(snapshot: &Snapshot) {
    let mut owners: BTreeMap<Ipv4Addr, &EniId> = BTreeMap::new();
    let mut macs = BTreeSet::new();
    for eni in &snapshot.enis {
        assert!(macs.insert(eni.mac), "{} is worn twice", eni.mac);
        let own = &eni.addresses;
        let singles = own.secondary.iter().copied().chain([own.primary]);
        for address in singles.chain(own.prefixes.iter().flat_map(|prefix| prefix.addresses())) {
            if let Some(other) = owners.insert(address, &eni.id) {
                panic!("{address} belongs to {other} and to {}", eni.id);
            }
            let subnet = snapshot.subnets.iter().find(|subnet| subnet.id == eni.subnet).unwrap();
            assert!(
                subnet.cidr.net().contains(&address) && !subnet.cidr.reserves(address),
                "{address} is not to be given"
            );
        }
    }
    for subnet in snapshot.subnets.iter().filter(|subnet| subnet.name.starts_with("private")) {
        let used = owners.keys().filter(|address| subnet.cidr.net().contains(*address)).count();
        assert_eq!(subnet.free as usize, subnet.usable as usize - used, "{}", subnet.name);
    }
    for instance in &snapshot.instances {
        assert!(
            instance.enis.len() <= instance.max_enis as usize,
            "{} has {} ENIs",
            instance.name,
            instance.enis.len()
        );
        assert_eq!(instance.state == "terminated", instance.enis.is_empty());
        let mut devices = BTreeSet::new();
        for id in &instance.enis {
            let eni = snapshot.enis.iter().find(|eni| eni.id == *id).unwrap();
            let slots = 1 + eni.addresses.secondary.len() + eni.addresses.prefixes.len();
            assert!(slots <= instance.ipv4_per_eni as usize, "{id} of {} holds {slots}", instance.name);
            assert!(devices.insert(eni.attachment.as_ref().unwrap().device));
        }
    }
}

/// What a fabric that believes every event would look like.
fn believed(outputs: &[Output]) -> BTreeMap<InstanceId, BTreeMap<EniId, AttachedEni>> {
    let mut fabric: BTreeMap<InstanceId, BTreeMap<EniId, AttachedEni>> = BTreeMap::new();
    for output in outputs {
        let Output::Fabric(event) = output else { continue };
        match event.clone() {
            FabricEvent::InstanceStarted { instance, enis } => {
                let enis = enis.into_iter().map(|eni| (eni.id.clone(), eni)).collect();
                assert!(fabric.insert(instance, enis).is_none(), "started twice");
            }
            FabricEvent::InstanceStopped { instance } => assert!(fabric.remove(&instance).is_some(), "stopped twice"),
            FabricEvent::InstanceTerminated { instance } => assert!(!fabric.contains_key(&instance)),
            FabricEvent::EniAttached { instance, eni } => {
                let before = fabric.get_mut(&instance).expect("it runs").insert(eni.id.clone(), eni);
                assert_eq!(before, None, "attached twice");
            }
            FabricEvent::EniDetached { instance, eni, .. } => {
                assert!(fabric.get_mut(&instance).expect("it runs").remove(&eni).is_some(), "detached twice");
            }
            FabricEvent::EniChanged { instance, eni } => {
                let id = eni.id.clone();
                *fabric.get_mut(&instance).expect("it runs").get_mut(&id).expect("it is there") = eni;
            }
            FabricEvent::PublicMappingChanged { .. } | FabricEvent::Network(_) | FabricEvent::InstanceLaunched(_) => {}
        }
    }
    fabric
}

fn fabric_is_right(snapshot: &Snapshot, outputs: &[Output], settled: bool) {
    let fabric = believed(outputs);
    for instance in &snapshot.instances {
        let there = fabric.get(&instance.id);
        assert_eq!(there.is_some(), instance.state == "running", "{}", instance.name);
        let Some(there) = there else { continue };
        for eni in &snapshot.enis {
            let tie = eni.attachment.as_ref().filter(|tie| tie.instance == instance.id);
            let expected = tie.is_some_and(|tie| settled || tie.status == "attached");
            match there.get(&eni.id) {
                Some(seen) => assert_eq!((seen.mac, &seen.addresses), (eni.mac, &eni.addresses)),
                None => assert!(!expected, "{} lacks {}", instance.name, eni.id),
            }
        }
    }
}

fn imds_is_right(cloud: &mut Cloud) {
    let now = Time(u64::MAX / 2);
    let snapshot = cloud.snapshot(now);
    for instance in snapshot.instances.iter().filter(|instance| instance.state == "running") {
        let list = cloud.metadata(now, &instance.id, "meta-data/network/interfaces/macs").unwrap();
        let listed: BTreeSet<String> = list.lines().map(|mac| mac.trim_end_matches('/').to_owned()).collect();
        let enis: Vec<_> = snapshot.enis.iter().filter(|eni| instance.enis.contains(&eni.id)).collect();
        assert_eq!(listed, enis.iter().map(|eni| eni.mac.to_string()).collect());
        for eni in enis {
            let path = format!("meta-data/network/interfaces/macs/{}/local-ipv4s", eni.mac);
            let addresses: BTreeSet<Ipv4Addr> =
                cloud.metadata(now, &instance.id, &path).unwrap().lines().map(|line| line.parse().unwrap()).collect();
            let mut expected = eni.addresses.secondary.clone();
            expected.insert(eni.addresses.primary);
            assert_eq!(addresses, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_after_every_step(steps in prop::collection::vec(step(), 1..100), seed in 0..1000_u64) {
        let mut cloud = cloud(Profile::instant(), seed);
        let all = run(&mut cloud, &steps, 1, |snapshot, all| {
            books_balance(snapshot);
            fabric_is_right(snapshot, all, true);
        });
        let asked = all.iter().filter(|output| matches!(output, Output::Answer { .. })).count();
        prop_assert!(asked <= steps.len());
        imds_is_right(&mut cloud);
    }

    #[test]
    fn the_books_balance_also_when_everything_takes_time(steps in prop::collection::vec(step(), 1..100), seed in 0..1000_u64) {
        let mut cloud = cloud(Profile::aws(), seed);
        run(&mut cloud, &steps, 1, |snapshot, all| {
            books_balance(snapshot);
            fabric_is_right(snapshot, all, false);
        });
        imds_is_right(&mut cloud);
    }

    #[test]
    fn one_seed_gives_one_history(steps in prop::collection::vec(step(), 1..40), seed in 0..1000_u64, polls in 2..7_u64) {
        let once = run(&mut cloud(Profile::aws(), seed), &steps, 1, |_, _| ());
        let again = run(&mut cloud(Profile::aws(), seed), &steps, 1, |_, _| ());
        let polled = run(&mut cloud(Profile::aws(), seed), &steps, polls, |_, _| ());
        let unseen = run(&mut cloud(Profile::aws(), seed), &steps, 0, |_, _| ());
        prop_assert_eq!(&once, &again);
        prop_assert_eq!(&once, &unseen, "looking only at the end changes nothing");
        prop_assert_eq!(&once, &polled, "looking more often changes nothing");
    }
}

#[test]
fn another_seed_gives_another_history() {
    let steps = vec![Step::Create { subnet: 2, secondary: 3, prefixes: 0 }, Step::Pass { millis: 3000 }];
    let of = |seed| run(&mut cloud(Profile::aws(), seed), &steps, 1, |_, _| ());
    assert_ne!(of(1), of(2));
}
