//! Field bugs about ENIs and EC2 (R19 to R30, R54), on the real agent and the cloud's model with made-up time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{NODE, Scene, asked, healthy, inject, lift, quiet, running, sound, story, until_running};
use lab_cloud::{CloudFault, ExtraEniSpec, id_for};
use lab_sim::{Moment, World, config_for, own_enis};
use vpc_agent::{ClusterNews, EniConfig, EniConfigKeys, Input, NodeView, Notice};
use vpc_aws::ec2::shapes::{
    AnyResponse, AttachNetworkInterface, CreateNetworkInterface, CreateTags, ModifyNetworkInterfaceAttribute, Tag,
};
use vpc_model::{CardIndex, DeviceIndex, EniId, Millis, SecurityGroupId, Time};

/// A day of a node, short: it starts, grows to three ENIs, shrinks.
fn day(world: &mut World) {
    world.start(NODE);
    world.run_for(Millis::seconds(10));
    world.add_pods(NODE, "p", 12);
    world.run_for(Millis::seconds(30));
    (0..12).for_each(|n| world.delete_pod(NODE, &format!("p{n}")));
    world.run_for(Millis::seconds(240));
}

#[test]
fn r19_killed_at_each_ec2_call_boundary() {
    let begun = Scene::new("m5.large").world();
    let mut rehearsal = begun.clone();
    day(&mut rehearsal);
    let calls = rehearsal.requests(NODE, Time(0), false).len();
    let changing = rehearsal.requests(NODE, Time(0), true);
    for needed in
        ["CreateNetworkInterface", "AttachNetworkInterface", "DetachNetworkInterface", "DeleteNetworkInterface"]
    {
        assert!(changing.contains(&needed), "the day has no {needed}: {changing:?}");
    }
    for nth in 0..calls {
        for moment in [Moment::Before, Moment::Sent, Moment::Answered] {
            let mut world = begun.clone();
            world.arm(NODE, nth, moment);
            day(&mut world);
            if world.trap_closed() {
                world.restart(NODE, Millis::seconds(5));
            }
            world.run_for(Millis::seconds(300));
            world.add_pods(NODE, "q", 3);
            until_running(&mut world, NODE, 3, Millis::seconds(60));
            let leaks: Vec<String> = world.leaks().iter().map(ToString::to_string).collect();
            assert!(leaks.is_empty(), "killed {moment:?} at call {nth}: {leaks:#?}\n{}", story(&world));
            healthy(&mut world);
        }
    }
}

/// Groups of an ENI as EC2 has them.
fn groups_of(world: &mut World, eni: &EniId) -> Vec<SecurityGroupId> {
    let now = world.now();
    world.cloud.snapshot(now).enis.into_iter().find(|own| own.id == *eni).unwrap().groups
}

fn set_groups(world: &mut World, eni: &EniId, groups: Vec<SecurityGroupId>) {
    let request = ModifyNetworkInterfaceAttribute { groups, ..ModifyNetworkInterfaceAttribute::new(eni.clone()) };
    world.as_account(request.into()).unwrap().unwrap();
}

fn primary(world: &World) -> EniId {
    world.node(NODE).unwrap().guest_enis().find(|eni| eni.device.0 == 0).unwrap().id.clone()
}

#[test]
fn r22_foreign_interface_tagged_after_its_hot_plug() {
    let mut world = Scene::new("m5.large").started();
    let create =
        CreateNetworkInterface { groups: vec![id_for("default")], ..CreateNetworkInterface::new(id_for("private-a")) };
    let foreign = match world.as_account(create.into()) {
        Some(Ok(AnyResponse::CreateNetworkInterface(made))) => made.network_interface.network_interface_id,
        other => panic!("{other:?}"),
    };
    let attach = AttachNetworkInterface {
        network_interface_id: foreign.clone(),
        instance_id: world.node(NODE).unwrap().instance.clone(),
        device_index: DeviceIndex(1),
        network_card_index: None,
        dry_run: None,
    };
    world.as_account(attach.into()).unwrap().unwrap();
    world.run_for(Millis::seconds(30));
    let tag = Tag { key: "node.k8s.amazonaws.com/no_manage".into(), value: "true".into() };
    world
        .as_account(CreateTags { resources: vec![foreign.to_string()], tags: vec![tag], dry_run: None }.into())
        .unwrap()
        .unwrap();
    world.add_pods(NODE, "p", 12);
    until_running(&mut world, NODE, 12, Millis::seconds(120));
    world.run_for(Millis::seconds(120));
    let first = primary(&world);
    set_groups(&mut world, &first, vec![id_for("nodes")]);
    quiet(&mut world);
    assert_eq!(groups_of(&mut world, &foreign), [id_for("default")], "{}", story(&world));
    let own = own_enis(&mut world, NODE);
    assert_eq!(own.len(), 1, "{}", story(&world));
    assert_eq!(groups_of(&mut world, &own[0]), [id_for("nodes")], "our own follow\n{}", story(&world));
    healthy(&mut world);
}

#[test]
fn r25_address_limit_exceeded_on_assign() {
    let mut world = Scene::new("m5.large").started();
    world.add_pods(NODE, "p", 9);
    until_running(&mut world, NODE, 9, Millis::seconds(30));
    let limit = inject(
        &mut world,
        CloudFault::Error {
            action: "AssignPrivateIpAddresses".into(),
            node: None,
            code: "PrivateIpAddressLimitExceeded".into(),
            message: None,
            status: None,
            when: lab_cloud::ErrorWhen::Before,
            skip: 0,
            times: None,
        },
    );
    let since = world.now();
    world.add_pods(NODE, "q", 9);
    until_running(&mut world, NODE, 18, Millis::seconds(60));
    world.run_for(Millis::seconds(3600));
    assert!(asked(&world, NODE, since, "AssignPrivateIpAddresses") <= 20, "{}", story(&world));
    let late = world.now();
    world.run_for(Millis::seconds(3600));
    assert_eq!(world.requests(NODE, late, true), Vec::<&str>::new(), "a livelock\n{}", story(&world));
    lift(&mut world, limit);
    healthy(&mut world);
}

#[test]
fn r25_a_limit_below_the_tables_is_learned() {
    // The table says nine positions, EC2 knows three.
    let mut world = Scene::new("t3.small")
        .with(|config| {
            config.target = config_for("m5.large").target;
            config.target.warm = vpc_ipam::WarmTarget::Addresses { warm: 2, minimum: 0 };
        })
        .started();
    world.add_pods(NODE, "p", 9);
    until_running(&mut world, NODE, 9, Millis::seconds(180));
    let since = world.now();
    world.add_pod(NODE, "one-too-many");
    world.run_for(Millis::seconds(3600));
    assert_eq!(running(&world, NODE), 9);
    let calls = world.requests(NODE, since, true);
    assert!(calls.len() <= 60, "{} calls in an hour for one pod that cannot be\n{}", calls.len(), story(&world));
    world.delete_pod(NODE, "one-too-many");
    quiet(&mut world);
    sound(&mut world);
}

#[test]
fn r26_a_describe_that_hangs_is_bounded_and_told() {
    let mut world = Scene::new("m5.large").world();
    let hangs = CloudFault::Latency { action: "Describe*".into(), node: None, add_ms: 10 * 60 * 1000, jitter_ms: 0 };
    let id = inject(&mut world, hangs);
    world.start(NODE);
    world.run_for(Millis::seconds(60));
    let told = world.node(NODE).unwrap().said(|notice| matches!(notice, Notice::CloudFailed { .. }));
    assert!(told > 0, "nobody was told\n{}", story(&world));
    lift(&mut world, id);
    world.run_for(Millis::seconds(240));
    world.add_pods(NODE, "p", 12);
    until_running(&mut world, NODE, 12, Millis::seconds(60));
    quiet(&mut world);
    sound(&mut world);
}

#[test]
fn r28_nothing_is_placed_on_a_trunk() {
    let mut scene = Scene::new("m5.large");
    scene.spec.instances[0].extra_enis.push(ExtraEniSpec {
        subnet: id_for("private-a"),
        device: DeviceIndex(1),
        card: CardIndex(0),
        secondary_ips: 0,
        prefixes: 0,
        interface_type: "trunk".into(),
        security_groups: vec![],
        tags: BTreeMap::new(),
    });
    let mut world = scene.started();
    world.add_pods(NODE, "p", 20);
    world.run_for(Millis::seconds(120));
    assert_eq!(running(&world, NODE), 18, "two ENIs of three\n{}", story(&world));
    let trunk = world.node(NODE).unwrap().guest_enis().find(|eni| eni.interface_type == "trunk").unwrap();
    assert!(trunk.addresses.secondary.is_empty() && trunk.addresses.prefixes.is_empty(), "{trunk:?}");
    healthy(&mut world);
}

#[test]
fn r29_groups_of_an_eniconfig_are_never_overwritten() {
    let keys = || EniConfigKeys {
        annotation: "k8s.amazonaws.com/eniConfig".into(),
        label: "k8s.amazonaws.com/eniConfig".into(),
    };
    let mut world = Scene::new("m5.large").with(move |config| config.placing.custom = Some(keys())).world();
    world.start(NODE);
    world.run_for(Millis::seconds(2));
    let annotations = BTreeMap::from([("k8s.amazonaws.com/eniConfig".to_owned(), "zone-a".to_owned())]);
    let view = NodeView { annotations, max_pods: Some(110), ..NodeView::default() };
    let subnet: vpc_model::SubnetId = id_for("pods-a");
    let nodes: SecurityGroupId = id_for("nodes");
    let config =
        EniConfig { name: "zone-a".into(), subnet: subnet.to_string(), security_groups: vec![nodes.to_string()] };
    for news in [ClusterNews::Reachable(true), ClusterNews::Node(view), ClusterNews::EniConfigs(vec![config])] {
        world.tell(NODE, Input::Cluster(news));
    }
    world.run_for(Millis::seconds(60));
    world.add_pods(NODE, "p", 12);
    until_running(&mut world, NODE, 12, Millis::seconds(120));
    let first = primary(&world);
    // Somebody changes the primary one's groups, and the daemon is restarted on top.
    set_groups(&mut world, &first, vec![id_for("default"), nodes.clone()]);
    world.run_for(Millis::seconds(300));
    let own = own_enis(&mut world, NODE);
    assert!(!own.is_empty());
    for eni in own {
        assert_eq!(groups_of(&mut world, &eni), std::slice::from_ref(&nodes), "{}", story(&world));
    }
    healthy(&mut world);
}

#[test]
fn r30_an_unknown_type_is_served_with_learned_limits() {
    for denied in [false, true] {
        let mut scene = Scene::new("t3.small").with(|config| *config = config_for("x99.large"));
        scene.setup.seed = 3;
        let mut world = scene.world();
        if denied {
            inject(&mut world, CloudFault::Deny { action: "DescribeInstanceTypes".into(), node: None });
        }
        world.start(NODE);
        world.run_for(Millis::seconds(120));
        world.add_pods(NODE, "p", 9);
        until_running(&mut world, NODE, 9, Millis::seconds(300));
        let late = world.now() + Millis::seconds(600);
        world.run_until(late, |_| false);
        let since = world.now();
        world.run_for(Millis::seconds(3600));
        let calls = world.requests(NODE, since, true);
        assert!(calls.len() <= 20, "{} changing calls in an hour\n{}", calls.len(), story(&world));
        healthy(&mut world);
    }
}

#[test]
fn r30_metadata_that_are_blocked_for_a_while() {
    let mut world = Scene::new("m5.large").world();
    let blocked = inject(&mut world, CloudFault::ImdsError { node: "node-1".into(), status: 403 });
    world.start(NODE);
    world.run_for(Millis::seconds(300));
    assert!(world.node(NODE).unwrap().exits > 0);
    lift(&mut world, blocked);
    world.run_for(Millis::seconds(120));
    world.add_pods(NODE, "p", 12);
    until_running(&mut world, NODE, 12, Millis::seconds(60));
    // Blocked again while it runs: pods come and go as before.
    let blocked = inject(&mut world, CloudFault::ImdsError { node: "node-1".into(), status: 403 });
    world.run_for(Millis::seconds(600));
    world.add_pods(NODE, "q", 6);
    until_running(&mut world, NODE, 18, Millis::seconds(60));
    lift(&mut world, blocked);
    quiet(&mut world);
    sound(&mut world);
}

#[test]
fn r54_an_hour_without_the_api_server() {
    let mut world = Scene::new("m5.large").started();
    world.tell(NODE, Input::Cluster(ClusterNews::Reachable(true)));
    world.tell(NODE, Input::Cluster(ClusterNews::Node(NodeView { max_pods: Some(29), ..NodeView::default() })));
    world.tell(NODE, Input::Cluster(ClusterNews::Pods(vec![])));
    world.tell(NODE, Input::Cluster(ClusterNews::Reachable(false)));
    for minute in 0..60 {
        world.add_pod(NODE, &format!("p{minute}"));
        if minute >= 20 {
            world.delete_pod(NODE, &format!("p{}", minute - 20));
        }
        if minute == 30 {
            world.restart(NODE, Millis::seconds(2));
            world.tell(NODE, Input::Cluster(ClusterNews::Reachable(false)));
        }
        world.run_for(Millis::seconds(60));
        assert_eq!(running(&world, NODE), (minute + 1).min(20), "{}", story(&world));
    }
    quiet(&mut world);
    sound(&mut world);
}
