//! What EC2 would not take in a world's description, and how it is named.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::subnet;
use lab_cloud::{
    ExtraEniSpec, InstanceSpec, RouteSpec, RouteTarget, Setup, SubnetSpec, Tags, WorldError, WorldSpec, id_for,
};
use vpc_model::{CardIndex, DeviceIndex};

/// Spoils the default world and gives the complaint.
fn complaint(spoil: impl FnOnce(&mut WorldSpec)) -> String {
    let mut spec = WorldSpec::default_topology();
    spoil(&mut spec);
    let error = spec.check().unwrap_err();
    assert!(lab_cloud::Cloud::new(spec, Setup::default()).is_err());
    error.to_string()
}

fn net(text: &str) -> vpc_model::Subnet {
    text.parse::<ipnet::Ipv4Net>().unwrap().try_into().unwrap()
}

fn extra(device: u8) -> ExtraEniSpec {
    ExtraEniSpec {
        subnet: subnet("private-a"),
        device: DeviceIndex(device),
        card: CardIndex(0),
        secondary_ips: 0,
        prefixes: 0,
        interface_type: "interface".into(),
        security_groups: Vec::new(),
        tags: Tags::new(),
    }
}

#[test]
fn every_fault_is_named_with_what_is_accepted() {
    let region = "us-west-2a";
    let cases: Vec<(String, &[&str])> = vec![
        (
            complaint(|w| w.subnets.push(SubnetSpec::new("more", net("10.20.8.128/25"), region))),
            &["private-a", "10.20.8.0/22", "more", "overlap"],
        ),
        (complaint(|w| w.vpc.cidrs.push("10.20.128.0/17".parse().unwrap())), &["VPC CIDR", "overlap"]),
        (
            complaint(|w| w.subnets.push(SubnetSpec::new("far", net("10.21.0.0/24"), region))),
            &["far", "10.20.0.0/16, 100.64.0.0/16"],
        ),
        (
            complaint(|w| w.subnets.push(SubnetSpec::new("moon", net("10.20.64.0/24"), "luna-1"))),
            &["moon", "luna-1", "us-west-2a"],
        ),
        (
            complaint(|w| w.subnets.push(SubnetSpec::new("private-a", net("10.20.64.0/24"), region))),
            &["two subnets", "private-a"],
        ),
        (complaint(|w| w.instances[1].name = "node-1".into()), &["two instances", "node-1"]),
        (
            complaint(|w| w.instances[0].instance_type = "m5.larg".into()),
            &["node-1, instance_type", "m5.larg", "m5.large"],
        ),
        (complaint(|w| w.instances[0].subnet = id_for("nowhere")), &["node-1, subnet", "there is no subnet"]),
        (complaint(|w| w.instances[0].hop_limit = 0), &["node-1, hop_limit", "1 to 64"]),
        (
            complaint(|w| w.instances[0].private_ip = Some("10.20.8.1".parse().unwrap())),
            &["node-1, private_ip", "first four"],
        ),
        (
            complaint(|w| w.instances[0].private_ip = Some("10.20.12.9".parse().unwrap())),
            &["node-1, private_ip", "10.20.8.0/22"],
        ),
        (
            complaint(|w| {
                let twin = InstanceSpec::new("twin", "m5.large", subnet("private-a"));
                w.instances.push(InstanceSpec { private_ip: Some("10.20.8.9".parse().unwrap()), ..twin });
                w.instances[0].private_ip = Some("10.20.8.9".parse().unwrap());
            }),
            &["twin, private_ip", "nobody else"],
        ),
        (
            complaint(|w| w.instances[0].extra_enis = vec![extra(1), extra(2), extra(3)]),
            &["node-1", "4 ENIs", "limit of 3", "m5.large"],
        ),
        (complaint(|w| w.instances[0].extra_enis = vec![extra(0)]), &["node-1", "device", "not in use"]),
        (complaint(|w| w.instances[1].extra_enis = vec![extra(1)]), &["node-2", "private-a", "us-west-2b"]),
        (
            complaint(|w| w.instances[0].extra_enis = vec![ExtraEniSpec { secondary_ips: 10, ..extra(1) }]),
            &["node-1", "11 addresses", "limit of 10"],
        ),
        (
            complaint(|w| {
                w.instances[0].extra_enis = vec![ExtraEniSpec { interface_type: "branch".into(), ..extra(1) }]
            }),
            &["interface_type", "branch", "interface, efa, trunk"],
        ),
        (complaint(|w| w.route_tables[1].main = true), &["2 main tables", "exactly one"]),
        (
            complaint(|w| w.route_tables[0].subnets.push(subnet("public-a"))),
            &["two route table associations", "subnet-0"],
        ),
        (
            complaint(|w| {
                let target = RouteTarget::NatGateway("nat-0ghost".into());
                w.route_tables[1].routes.push(RouteSpec { destination: "10.0.0.0/8".parse().unwrap(), target });
            }),
            &["nat-0ghost", "expected one of nat-"],
        ),
        (complaint(|w| w.internet_gateway = None), &["0.0.0.0/0", "no internet gateway"]),
        (complaint(|w| w.nat_gateways[0].private_ip = "10.20.1.10".parse().unwrap()), &["nat gateway", "10.20.0.0/24"]),
        (complaint(|w| w.account_id = "12".into()), &["account_id", "twelve digits"]),
        (complaint(|w| w.security_groups.clear()), &["security_groups", "at least one"]),
    ];
    for (text, parts) in cases {
        for part in parts {
            assert!(text.contains(part), "`{text}` lacks `{part}`");
        }
    }
}

#[test]
fn a_subnet_too_small_for_its_instances_is_named() {
    let mut spec = common::small_subnet("10.20.8.0/28");
    for n in 0..12 {
        spec.instances.push(InstanceSpec::new(&format!("extra-{n}"), "m5.large", subnet("private-a")));
    }
    let error = lab_cloud::Cloud::new(spec, Setup::default()).unwrap_err();
    assert!(matches!(error, WorldError::Full { .. }) && error.to_string().contains("extra-"), "{error}");
}

#[test]
fn ids_depend_on_kind_and_name_alone() {
    assert_eq!(subnet("a"), subnet("a"));
    assert_ne!(subnet("a"), subnet("b"));
    let (subnet, instance) = (subnet("a").to_string(), common::instance("a").to_string());
    assert_ne!(subnet.trim_start_matches("subnet-"), instance.trim_start_matches("i-"));
    assert_eq!(subnet.len(), "subnet-".len() + 17);
}
