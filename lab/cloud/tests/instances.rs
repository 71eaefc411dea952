//! Instances launched, stopped, started, restarted and ended through the API.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Lab, instance, small_subnet, subnet};
use lab_cloud::{ApiError, FabricEvent, Profile, WorldSpec};
use vpc_aws::ec2::shapes::{
    AnyRequest, AnyResponse, AttachNetworkInterface, CreateNetworkInterface, DescribeInstanceStatus, DescribeInstances,
    IamInstanceProfileSpecification, Instance, InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification,
    PlacementSpecification, RebootInstances, ResourceType, RunInstances, StartInstances, StopInstances, Tag,
    TagSpecification, TerminateInstances,
};
use vpc_model::{DeviceIndex, InstanceId};

fn run(kind: &str, place: &str, count: u32) -> RunInstances {
    RunInstances {
        image_id: Some("ami-0123456789abcdef0".into()),
        instance_type: Some(kind.into()),
        subnet_id: Some(subnet(place)),
        ..RunInstances::new(count, count)
    }
}

fn named(request: RunInstances, name: &str) -> RunInstances {
    let tags = vec![Tag::new("Name", name)];
    let specification = TagSpecification { resource_type: ResourceType::Instance, tags };
    RunInstances { tag_specifications: vec![specification], ..request }
}

fn launched(lab: &mut Lab, request: RunInstances) -> Vec<Instance> {
    let AnyResponse::RunInstances(reservation) = lab.call(request).unwrap() else { panic!() };
    reservation.instances
}

fn eni_spec(device: u8, place: &str) -> InstanceNetworkInterfaceSpecification {
    InstanceNetworkInterfaceSpecification {
        device_index: Some(DeviceIndex(device)),
        subnet_id: Some(subnet(place)),
        ..InstanceNetworkInterfaceSpecification::default()
    }
}

/// A launch with these ENIs instead of a subnet.
fn with_enis(enis: Vec<InstanceNetworkInterfaceSpecification>) -> RunInstances {
    RunInstances { subnet_id: None, network_interfaces: enis, ..run("m5.large", "private-a", 1) }
}

fn code(result: Result<AnyResponse, ApiError>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.code.into_owned(),
    }
}

fn state(lab: &mut Lab, id: &InstanceId) -> String {
    let request = DescribeInstances { instance_ids: vec![id.clone()], ..DescribeInstances::default() };
    match lab.call(request) {
        Ok(AnyResponse::DescribeInstances(answer)) => {
            answer.reservations[0].instances[0].state.name.as_str().to_owned()
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => error.code.into_owned(),
    }
}

fn terminate(ids: &[InstanceId]) -> TerminateInstances {
    TerminateInstances { instance_ids: ids.to_vec(), ..TerminateInstances::default() }
}

fn stop(id: &InstanceId) -> StopInstances {
    StopInstances { instance_ids: vec![id.clone()], ..StopInstances::default() }
}

fn start(id: &InstanceId) -> StartInstances {
    StartInstances { instance_ids: vec![id.clone()], dry_run: None }
}

#[test]
fn a_launched_instance_is_announced_before_it_runs() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 1);
    let before = lab.events.len();
    let profile = IamInstanceProfileSpecification { name: Some("node-role".into()), arn: None };
    let hops = InstanceMetadataOptionsRequest { http_put_response_hop_limit: Some(3), ..Default::default() };
    let request = RunInstances {
        iam_instance_profile: Some(profile),
        metadata_options: Some(hops),
        ..named(run("m5.large", "private-a", 1), "node-9")
    };
    let shown = launched(&mut lab, request).remove(0);
    let id = shown.instance_id;
    assert_eq!((shown.state.name.as_str(), shown.state.code), ("pending", 0));
    let [FabricEvent::InstanceLaunched(new)] = &lab.events[before..] else { panic!("{:?}", &lab.events[before..]) };
    assert_eq!((&new.id, new.name.as_str(), new.instance_type.as_str()), (&id, "node-9", "m5.large"));
    assert_eq!((&new.subnet, new.hop_limit), (&subnet("private-a"), 3));
    assert_eq!(lab.cloud.metadata(lab.now, &id, "meta-data/instance-id"), None, "it has no power yet");
    assert_eq!(state(&mut lab, &id), "pending");

    lab.settle_for(20_000);
    assert_eq!(state(&mut lab, &id), "running");
    let Some(FabricEvent::InstanceStarted { instance, enis }) = lab.events.last() else { panic!("{:?}", lab.events) };
    assert_eq!((instance, enis.len(), enis[0].device), (&id, 1, DeviceIndex(0)));
    assert_eq!(lab.cloud.hop_limit(&id), Some(3));
    assert_eq!(lab.cloud.metadata(lab.now, &id, "meta-data/instance-id").unwrap(), id.to_string());
    let role = lab.cloud.metadata(lab.now, &id, "meta-data/iam/security-credentials").unwrap();
    assert_eq!(role, "node-role");
    let macs = lab.cloud.metadata(lab.now, &id, "meta-data/network/interfaces/macs").unwrap();
    assert_eq!(macs.trim_end_matches('/'), enis_mac(&lab, &id));
}

fn enis_mac(lab: &Lab, id: &InstanceId) -> String {
    let started = lab.events.iter().rev().find_map(|event| match event {
        FabricEvent::InstanceStarted { instance, enis } if instance == id => Some(enis[0].mac.to_string()),
        _ => None,
    });
    started.unwrap()
}

#[test]
fn a_launch_is_refused_for_what_is_wrong_with_it() {
    let mut lab = Lab::instant();
    let good = || run("m5.large", "private-a", 1);
    let hops =
        |limit| InstanceMetadataOptionsRequest { http_put_response_hop_limit: Some(limit), ..Default::default() };
    let profile = IamInstanceProfileSpecification { name: Some("nobody".into()), arn: None };
    let place = PlacementSpecification { availability_zone: Some("us-west-2b".into()), ..Default::default() };
    let taken = lab.primary("node-1");
    let existing = InstanceNetworkInterfaceSpecification {
        network_interface_id: Some(taken),
        subnet_id: None,
        ..eni_spec(0, "private-a")
    };
    let many = InstanceNetworkInterfaceSpecification {
        secondary_private_ip_address_count: Some(10),
        ..eni_spec(0, "private-a")
    };
    let mixed = InstanceNetworkInterfaceSpecification {
        secondary_private_ip_address_count: Some(1),
        ipv4_prefix_count: Some(1),
        ..eni_spec(0, "private-a")
    };
    let public =
        InstanceNetworkInterfaceSpecification { associate_public_ip_address: Some(true), ..eni_spec(0, "private-a") };
    let cases: Vec<(RunInstances, &str)> = vec![
        (RunInstances { image_id: None, ..good() }, "MissingParameter"),
        (RunInstances { image_id: Some("image".into()), ..good() }, "InvalidAMIID.Malformed"),
        (RunInstances { min_count: 0, ..good() }, "InvalidParameterValue"),
        (RunInstances { min_count: 2, ..good() }, "InvalidParameterValue"),
        (run("m5.larg", "private-a", 1), "InvalidParameterValue"),
        (run("m5.large", "nowhere", 1), "InvalidSubnetID.NotFound"),
        (RunInstances { subnet_id: None, ..good() }, "VPCIdNotSpecified"),
        (RunInstances { security_groups: vec!["default".into()], ..good() }, "InvalidParameterCombination"),
        (RunInstances { network_interfaces: vec![eni_spec(0, "private-a")], ..good() }, "InvalidParameterCombination"),
        (RunInstances { metadata_options: Some(hops(0)), ..good() }, "InvalidParameterValue"),
        (RunInstances { metadata_options: Some(hops(65)), ..good() }, "InvalidParameterValue"),
        (RunInstances { iam_instance_profile: Some(profile), ..good() }, "InvalidParameterValue"),
        (RunInstances { placement: Some(place), ..good() }, "InvalidParameterValue"),
        (RunInstances { private_ip_address: Some("10.20.12.9".parse().unwrap()), ..good() }, "InvalidParameterValue"),
        (
            RunInstances { private_ip_address: Some("10.20.8.9".parse().unwrap()), max_count: 2, ..good() },
            "InvalidParameterCombination",
        ),
        (with_enis(vec![eni_spec(1, "private-a")]), "InvalidParameterCombination"),
        (with_enis(vec![eni_spec(0, "private-a"), eni_spec(0, "private-a")]), "InvalidParameterValue"),
        (with_enis(vec![eni_spec(0, "private-a"), eni_spec(1, "private-b")]), "InvalidParameterCombination"),
        (with_enis((0..4).map(|n| eni_spec(n, "private-a")).collect()), "AttachmentLimitExceeded"),
        (with_enis(vec![public, eni_spec(1, "private-a")]), "InvalidParameterCombination"),
        (with_enis(vec![existing]), "InvalidNetworkInterface.InUse"),
        (with_enis(vec![many]), "PrivateIpAddressLimitExceeded"),
        (with_enis(vec![mixed]), "InvalidParameterCombination"),
    ];
    let (events, enis) = (lab.events.len(), lab.cloud.snapshot(lab.now).enis.len());
    for (request, expected) in cases {
        let text = format!("{request:?}");
        assert_eq!(code(lab.call(request)), expected, "{text}");
    }
    assert_eq!((lab.events.len(), lab.cloud.snapshot(lab.now).enis.len()), (events, enis), "nothing has happened");
}

#[test]
fn as_many_are_launched_as_there_is_room_for() {
    let mut lab = Lab::new(small_subnet("10.20.8.0/28"), Profile::instant(), 1);
    // Eleven addresses, one of them the node's.
    assert_eq!(lab.free("private-a"), 10);
    let none = run("m5.large", "private-a", 11);
    assert_eq!(code(lab.call(none)), "InsufficientFreeAddressesInSubnet");
    assert_eq!((lab.free("private-a"), lab.cloud.snapshot(lab.now).instances.len()), (10, 3), "all or nothing");
    let some = launched(&mut lab, RunInstances { min_count: 4, ..run("m5.large", "private-a", 20) });
    assert_eq!((some.len(), lab.free("private-a")), (10, 0));
    let indexes: Vec<_> = some.iter().filter_map(|one| one.ami_launch_index).collect();
    assert_eq!(indexes, (0..10).collect::<Vec<_>>());
    lab.settle_for(1);
    let running = lab.cloud.snapshot(lab.now).instances.iter().filter(|one| one.state == "running").count();
    assert_eq!(running, 13);
}

#[test]
fn instances_come_with_the_enis_they_were_asked_for() {
    let mut lab = Lab::instant();
    let free = lab.create(CreateNetworkInterface::new(subnet("private-a"))).unwrap().network_interface_id;
    let existing = InstanceNetworkInterfaceSpecification {
        network_interface_id: Some(free.clone()),
        subnet_id: None,
        ..eni_spec(2, "private-a")
    };
    let prefixes = InstanceNetworkInterfaceSpecification {
        ipv4_prefix_count: Some(2),
        delete_on_termination: Some(false),
        ..eni_spec(1, "pods-a")
    };
    let shown = launched(&mut lab, with_enis(vec![existing, eni_spec(0, "private-a"), prefixes])).remove(0);
    let id = shown.instance_id;
    lab.settle_for(1);
    let snapshot = lab.cloud.snapshot(lab.now);
    let own = snapshot.instances.iter().find(|own| own.id == id).unwrap();
    let enis: Vec<_> = own.enis.iter().map(|id| snapshot.enis.iter().find(|eni| eni.id == *id).unwrap()).collect();
    let marked: Vec<_> = enis.iter().map(|eni| eni.attachment.as_ref().unwrap().delete_on_termination).collect();
    assert_eq!(marked, [true, false, false], "an ENI that was there stays, one that is new goes");
    assert!(enis.iter().all(|eni| eni.attachment.as_ref().unwrap().status == "attached"));
    assert_eq!((enis[1].addresses.prefixes.len(), &enis[2].id), (2, &free));
    let (second, third) = (enis[1].id.clone(), enis[2].id.clone());
    let first = enis[0].id.clone();

    lab.call(terminate(std::slice::from_ref(&id))).unwrap();
    lab.settle_for(1);
    let left: Vec<_> =
        lab.cloud.snapshot(lab.now).enis.iter().map(|eni| (eni.id.clone(), eni.status.clone())).collect();
    assert!(left.contains(&(second, "available".into())) && left.contains(&(third, "available".into())), "{left:?}");
    assert!(!left.iter().any(|(id, _)| *id == first), "{left:?}");
}

#[test]
fn a_public_subnet_gives_a_public_address() {
    let mut lab = Lab::instant();
    let mapped = launched(&mut lab, run("m5.large", "public-a", 1)).remove(0);
    assert!(mapped.public_ip_address.is_some());
    let not =
        InstanceNetworkInterfaceSpecification { associate_public_ip_address: Some(false), ..eni_spec(0, "public-a") };
    assert_eq!(launched(&mut lab, with_enis(vec![not])).remove(0).public_ip_address, None);
    let id = mapped.instance_id;
    lab.settle_for(1);
    let Some(FabricEvent::InstanceStarted { enis, .. }) = lab
        .events
        .iter()
        .find(|event| matches!(event, FabricEvent::InstanceStarted { instance, .. } if *instance == id))
    else {
        panic!("{:?}", lab.events)
    };
    assert_eq!(enis[0].addresses.public.values().next(), mapped.public_ip_address.as_ref());
}

#[test]
fn an_automatic_public_address_goes_with_the_power_and_another_comes_with_it() {
    let mut lab = Lab::instant();
    let id = launched(&mut lab, run("m5.large", "public-a", 1)).remove(0).instance_id;
    let now = |lab: &mut Lab| {
        let snapshot = lab.cloud.snapshot(lab.now);
        let own = snapshot.instances.into_iter().find(|own| own.id == id).unwrap();
        let imds = lab.cloud.metadata(lab.now, &id, "meta-data/public-ipv4");
        (own.private_ip, own.public_ip, imds)
    };
    let mappings = |lab: &Lab, from: usize| -> Vec<_> {
        let changed = |event: &FabricEvent| match event {
            FabricEvent::PublicMappingChanged { private, public } => Some((*private, *public)),
            _ => None,
        };
        lab.events[from..].iter().filter_map(changed).collect()
    };
    let (private, Some(first), Some(shown)) = now(&mut lab) else { panic!() };
    assert_eq!(shown, first.to_string());
    // A restart keeps it.
    let from = lab.events.len();
    lab.call(RebootInstances { instance_ids: vec![id.clone()], dry_run: None }).unwrap();
    assert_eq!((now(&mut lab).1, mappings(&lab, from).len()), (Some(first), 0));
    lab.call(stop(&id)).unwrap();
    assert_eq!(now(&mut lab), (private, None, None));
    assert_eq!(mappings(&lab, from), [(private, None)]);
    // Somebody else gets it meanwhile.
    let other = launched(&mut lab, run("m5.large", "public-a", 1)).remove(0);
    assert_eq!(other.public_ip_address, Some(first));
    let from = lab.events.len();
    lab.call(start(&id)).unwrap();
    let (_, Some(second), Some(shown)) = now(&mut lab) else { panic!() };
    assert!(second != first && shown == second.to_string());
    assert_eq!(mappings(&lab, from), [(private, Some(second))]);
    // With two ENIs there is no new one.
    let eni = lab.create(CreateNetworkInterface::new(subnet("public-a"))).unwrap().network_interface_id;
    let attach = AttachNetworkInterface {
        network_interface_id: eni,
        instance_id: id.clone(),
        device_index: DeviceIndex(1),
        network_card_index: None,
        dry_run: None,
    };
    lab.call(attach).unwrap();
    lab.call(stop(&id)).unwrap();
    lab.call(start(&id)).unwrap();
    assert_eq!(now(&mut lab).1, None);
    // The end gives it back, once.
    let from = lab.events.len();
    let private = other.private_ip_address.unwrap();
    lab.call(terminate(std::slice::from_ref(&other.instance_id))).unwrap();
    assert_eq!(mappings(&lab, from), [(private, None)]);
    assert_eq!(launched(&mut lab, run("m5.large", "public-a", 1)).remove(0).public_ip_address, Some(first));
    // One that was given by name stays.
    let (own, named) = (instance("node-2"), "198.51.100.9".parse().unwrap());
    let private = lab.cloud.snapshot(lab.now).instances.iter().find(|i| i.id == own).unwrap().private_ip;
    lab.cloud.map_public(lab.now, private, Some(named)).unwrap();
    lab.call(stop(&own)).unwrap();
    lab.call(start(&own)).unwrap();
    let snapshot = lab.cloud.snapshot(lab.now);
    assert_eq!(snapshot.instances.iter().find(|i| i.id == own).unwrap().public_ip, Some(named));
}

#[test]
fn user_data_is_read_from_imds() {
    let mut lab = Lab::instant();
    let request = |text: &str| RunInstances { user_data: Some(text.to_owned()), ..run("m5.large", "private-a", 1) };
    assert_eq!(code(lab.call(request("no base64!"))), "InvalidUserData.Malformed");
    assert_eq!(code(lab.call(request(&"QUFB".repeat(5462)))), "InvalidParameterValue");
    assert_eq!(code(lab.call(request("/w=="))), "UnsupportedOperation");
    let id = launched(&mut lab, request("IyEvYmluL3NoCmVjaG8gaGkK")).remove(0).instance_id;
    lab.settle_for(1);
    let mut ask = |id: &InstanceId, path: &str| lab.cloud.metadata(lab.now, id, path);
    assert_eq!(ask(&id, "user-data").as_deref(), Some("#!/bin/sh\necho hi\n"));
    assert_eq!(ask(&id, "").as_deref(), Some("dynamic\nmeta-data\nuser-data"));
    let without = instance("node-1");
    assert_eq!(ask(&without, "").as_deref(), Some("dynamic\nmeta-data"));
    for path in [
        "user-data",
        "meta-data/public-keys",
        "meta-data/public-keys/0/openssh-key",
        "meta-data/spot/instance-action",
        "meta-data/spot/termination-time",
        "meta-data/events/recommendations/rebalance",
        "meta-data/autoscaling/target-lifecycle-state",
    ] {
        assert_eq!(ask(&without, path), None, "{path}");
    }
}

#[test]
fn status_checks_take_their_time() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 1);
    let id = instance("node-1");
    let status = |lab: &mut Lab| {
        let request = DescribeInstanceStatus { instance_ids: vec![id.clone()], ..DescribeInstanceStatus::default() };
        let AnyResponse::DescribeInstanceStatus(answer) = lab.call(request).unwrap() else { panic!() };
        answer.instance_statuses.first().and_then(|own| Some(own.instance_status.as_ref()?.status.clone()))
    };
    assert_eq!(status(&mut lab).as_deref(), Some("ok"), "it has been running for ever");
    lab.call(stop(&id)).unwrap();
    lab.settle_for(40_000);
    assert_eq!(status(&mut lab), None);
    lab.call(start(&id)).unwrap();
    lab.settle_for(20_000);
    assert_eq!(status(&mut lab).as_deref(), Some("initializing"));
    lab.settle_for(200_000);
    assert_eq!(status(&mut lab).as_deref(), Some("ok"));
}

#[test]
fn instances_stop_start_restart_and_end() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 1);
    let id = instance("node-1");
    let wrong: Vec<(AnyRequest, &str)> = vec![
        (TerminateInstances::default().into(), "MissingParameter"),
        (start(&instance("nobody")).into(), "InvalidInstanceID.NotFound"),
        (StopInstances { hibernate: Some(true), ..stop(&id) }.into(), "UnsupportedHibernationConfiguration"),
    ];
    for (request, expected) in wrong {
        assert_eq!(code(lab.call(request)), expected);
    }
    let changes = |answer: Result<AnyResponse, ApiError>| match answer.unwrap() {
        AnyResponse::StopInstances(answer)
        | AnyResponse::StartInstances(answer)
        | AnyResponse::TerminateInstances(answer) => {
            let change = answer.changes[0].clone();
            (change.previous_state.name.as_str().to_owned(), change.current_state.name.as_str().to_owned())
        }
        other => panic!("{other:?}"),
    };
    let pair = |before: &str, after: &str| (before.to_owned(), after.to_owned());
    let from = lab.events.len();
    assert_eq!(changes(lab.call(start(&id))), pair("running", "running"));
    assert_eq!(changes(lab.call(stop(&id))), pair("running", "stopping"));
    assert_eq!(code(lab.call(start(&id))), "IncorrectInstanceState");
    assert!(lab.cloud.metadata(lab.now, &id, "meta-data/mac").is_some(), "it is still going down");
    lab.settle_for(40_000);
    assert_eq!(state(&mut lab, &id), "stopped");
    assert_eq!(changes(lab.call(stop(&id))), pair("stopped", "stopped"));
    let reboot = RebootInstances { instance_ids: vec![id.clone()], dry_run: None };
    assert_eq!(code(lab.call(reboot.clone())), "IncorrectInstanceState");
    assert_eq!(changes(lab.call(start(&id))), pair("stopped", "pending"));
    assert_eq!(code(lab.call(stop(&id))), "IncorrectInstanceState");
    lab.settle_for(40_000);
    assert_eq!(state(&mut lab, &id), "running");
    assert_eq!(code(lab.call(reboot)), "ok");
    assert_eq!(changes(lab.call(terminate(std::slice::from_ref(&id)))), pair("running", "shutting-down"));
    assert_eq!(changes(lab.call(terminate(std::slice::from_ref(&id)))), pair("shutting-down", "shutting-down"));
    lab.settle_for(40_000);
    assert_eq!(changes(lab.call(terminate(std::slice::from_ref(&id)))), pair("terminated", "terminated"));
    let kinds: Vec<_> = lab.events[from..]
        .iter()
        .map(|event| match event {
            FabricEvent::InstanceStarted { .. } => "started",
            FabricEvent::InstanceStopped { .. } => "stopped",
            FabricEvent::InstanceTerminated { .. } => "terminated",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["stopped", "started", "stopped", "started", "stopped", "terminated"]);
    lab.settle_for(3_500_000);
    assert_eq!(state(&mut lab, &id), "terminated", "it is shown for an hour");
    lab.settle_for(200_000);
    assert_eq!(state(&mut lab, &id), "InvalidInstanceID.NotFound");
}

#[test]
fn an_instance_that_ends_before_it_was_up_never_starts() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 1);
    let from = lab.events.len();
    let id = launched(&mut lab, run("m5.large", "private-a", 1)).remove(0).instance_id;
    lab.call(terminate(std::slice::from_ref(&id))).unwrap();
    lab.settle_for(60_000);
    let [FabricEvent::InstanceLaunched(_), FabricEvent::InstanceTerminated { instance }] = &lab.events[from..] else {
        panic!("{:?}", &lab.events[from..])
    };
    assert_eq!(*instance, id);
}

#[test]
fn a_protected_instance_stays() {
    let mut lab = Lab::instant();
    let request = RunInstances {
        disable_api_termination: Some(true),
        disable_api_stop: Some(true),
        ..run("m5.large", "private-a", 1)
    };
    let id = launched(&mut lab, request).remove(0).instance_id;
    lab.settle_for(1);
    assert_eq!(code(lab.call(stop(&id))), "OperationNotPermitted");
    let both = [instance("node-1"), id];
    assert_eq!(code(lab.call(terminate(&both))), "OperationNotPermitted");
    lab.settle_for(1);
    assert_eq!(state(&mut lab, &both[0]), "running", "all or none");
}

#[test]
fn a_client_token_launches_once() {
    let mut lab = Lab::instant();
    let request = RunInstances { client_token: Some("once".into()), ..run("m5.large", "private-a", 2) };
    let ids = |instances: Vec<Instance>| instances.into_iter().map(|one| one.instance_id).collect::<Vec<_>>();
    let first = ids(launched(&mut lab, request.clone()));
    assert_eq!(ids(launched(&mut lab, request.clone())), first);
    assert_eq!(lab.cloud.snapshot(lab.now).instances.len(), 5);
    let other = RunInstances { max_count: 3, ..request.clone() };
    assert_eq!(code(lab.call(other)), "IdempotentParameterMismatch");
    // A day later it is a token like any other.
    lab.settle_for(86_399_000);
    assert_eq!(ids(launched(&mut lab, request.clone())), first);
    lab.settle_for(2_000);
    assert_ne!(ids(launched(&mut lab, request.clone())), first);
    lab.settle_for(1);
    // Another action may use the same token.
    let eni = CreateNetworkInterface {
        client_token: Some("once".into()),
        ..CreateNetworkInterface::new(subnet("private-a"))
    };
    lab.create(eni).unwrap();
}

#[test]
fn a_dry_launch_launches_nothing() {
    let mut lab = Lab::instant();
    let request = RunInstances { dry_run: Some(true), ..run("m5.large", "private-a", 1) };
    assert_eq!(code(lab.call(request)), "DryRunOperation");
    assert_eq!(lab.cloud.snapshot(lab.now).instances.len(), 3);
}

#[test]
fn names_are_taken_once() {
    let mut lab = Lab::instant();
    let from = lab.events.len();
    let two = launched(&mut lab, named(run("m5.large", "private-a", 2), "twin"));
    let names: Vec<_> = lab.events[from..]
        .iter()
        .filter_map(|event| match event {
            FabricEvent::InstanceLaunched(new) => Some(new.name.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["twin".to_owned(), two[1].instance_id.to_string()]);
    assert!(two.iter().all(|one| one.tags == [Tag::new("Name", "twin")]), "EC2 shows the tag of both");
}

#[test]
fn power_given_while_an_instance_goes_down_or_comes_up() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 1);
    let id = instance("node-1");
    lab.call(stop(&id)).unwrap();
    let from = lab.events.len();
    lab.cloud.power(lab.now, &id, true).unwrap();
    lab.settle_for(60_000);
    assert_eq!(state(&mut lab, &id), "running");
    assert_eq!(lab.events.len(), from, "it never was off");
    // An instance that is switched off before it was up is whole when it comes up later.
    let new = launched(&mut lab, run("m5.large", "private-a", 1)).remove(0).instance_id;
    lab.cloud.power(lab.now, &new, false).unwrap();
    lab.settle_for(60_000);
    assert_eq!(state(&mut lab, &new), "stopped");
    lab.call(start(&new)).unwrap();
    lab.settle_for(60_000);
    let snapshot = lab.cloud.snapshot(lab.now);
    let eni = snapshot.enis.iter().find(|eni| eni.attachment.as_ref().is_some_and(|tie| tie.instance == new)).unwrap();
    assert_eq!(eni.attachment.as_ref().unwrap().status, "attached");
    let macs = lab.cloud.metadata(lab.now, &new, "meta-data/network/interfaces/macs").unwrap();
    assert_eq!(macs, format!("{}/", eni.mac));
}
