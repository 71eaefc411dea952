//! Every filter that a Describe action supports selects what it should and nothing else, exactly and with wildcards; every
//! other one that AWS documents is refused by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod rich;

use std::collections::BTreeSet;

use lab_cloud::{ActionFilters, filter_catalogue};
use rich::{GATEWAY, LATER, PEERING, Rich};
use vpc_aws::ec2::shapes::{AnyResponse, Timestamp};
use vpc_model::Time;

/// A filter, one value of it, and the names of the objects that have it.
type Case = (&'static str, String, Vec<&'static str>);

/// One case; names are separated by commas.
fn case(filter: &'static str, value: impl ToString, selects: &'static str) -> Case {
    (filter, value.to_string(), selects.split(", ").collect())
}

/// The action's objects all have the value; there is no way to have another in one world.
const ALL: &str = "all";

/// The cases of an action, and the parameters that go with them.
fn cases(world: &mut Rich, action: &str) -> (Vec<Case>, Vec<(&'static str, String)>) {
    match action {
        "DescribeAvailabilityZones" => (zones(), Vec::new()),
        "DescribeInstanceStatus" => (statuses(), vec![("IncludeAllInstances", "true".to_owned())]),
        "DescribeInstanceTypes" => {
            let names = ["InstanceType.1", "InstanceType.2", "InstanceType.3", "InstanceType.4", "InstanceType.5"];
            (types(), names.into_iter().zip(TYPES.map(str::to_owned)).collect())
        }
        "DescribeInstances" => ([instances(world), enis_of_instances(world)].concat(), Vec::new()),
        "DescribeNetworkInterfaces" => (enis(world), Vec::new()),
        "DescribeRouteTables" => (route_tables(world), Vec::new()),
        "DescribeSecurityGroupRules" => (rules(world), Vec::new()),
        "DescribeSecurityGroups" => (groups(world), Vec::new()),
        "DescribeSubnets" => (subnets(world), Vec::new()),
        "DescribeTags" => (tags(world), Vec::new()),
        "DescribeVpcs" => (vpcs(world), Vec::new()),
        "GetSubnetCidrReservations" => (reservations(world), vec![("SubnetId", world.id("pods-a"))]),
        other => panic!("no cases for {other}: write some"),
    }
}

/// A time of the world as answers write it.
fn at(world: &Rich, time: Time) -> Timestamp {
    Timestamp::from(world.lab.cloud.wall(time))
}

fn enis(world: &mut Rich) -> Vec<Case> {
    let (one, two, loose) = (world.eni("extra-1"), world.eni("eni-2"), world.eni("loose"));
    let secondary = one.private_ip_addresses[2].private_ip_address;
    let public = two.association.unwrap();
    let later = at(world, Time(0) + LATER);
    let nat = world.eni("nat").association.unwrap();
    vec![
        case("association.allocation-id", nat.allocation_id.unwrap(), "nat"),
        case("association.association-id", nat.association_id.unwrap(), "nat"),
        case("addresses.association.owner-id", "amazon", "eni-2"),
        case("addresses.association.public-ip", "198.51.100.77", "eni-2"),
        case("addresses.primary", false, "extra-1"),
        case("addresses.private-ip-address", secondary, "extra-1"),
        case("association.ip-owner-id", "amazon", "eni-2"),
        case("association.public-ip", "198.51.100.77", "eni-2"),
        case("association.public-dns-name", public.public_dns_name.unwrap(), "eni-2"),
        case("attachment.attach-time", later, "coming, going, run-eni-0, run-eni-1"),
        case("attachment.attachment-id", one.attachment.unwrap().attachment_id.own().unwrap(), "extra-1"),
        case("attachment.delete-on-termination", false, "coming, going, endpoint, nat"),
        case("attachment.device-index", 1, "extra-1, extra-2, endpoint, nat"),
        case("attachment.instance-id", world.id("node-1"), "eni-1, extra-1"),
        case(
            "attachment.instance-owner-id",
            "111122223333",
            "eni-1, extra-1, eni-2, extra-2, eni-3, coming, going, run-eni-0, run-eni-1",
        ),
        case("attachment.status", "attaching", "coming"),
        case("attachment.status", "detaching", "going"),
        case("availability-zone", "us-west-2c", "eni-3, endpoint"),
        case("availability-zone-id", "usw2-az3", "eni-3, endpoint"),
        case("description", "is loose", "loose"),
        case("group-id", world.id("web"), "extra-1, extra-2"),
        case("interface-type", "trunk", "extra-2"),
        case("mac-address", loose.mac_address, "loose"),
        case("network-interface-id", world.id("loose"), "loose"),
        case("owner-id", "111122223333", ALL),
        case("private-dns-name", loose.private_dns_name.unwrap(), "loose"),
        case("private-ip-address", secondary, "extra-1"),
        case("requester-id", "727180483921", "endpoint, nat"),
        case("requester-managed", true, "endpoint, nat"),
        case("source-dest-check", false, "eni-3, loose, nat"),
        case("status", "available", "loose"),
        case("subnet-id", world.id("private-c"), "eni-3, endpoint"),
        case("tag:owner", "cni", "eni-1, extra-1"),
        case("tag-key", "owner", "eni-1, extra-1"),
        case("vpc-id", world.id("vpc"), ALL),
    ]
}

fn instances(world: &mut Rich) -> Vec<Case> {
    let node = world.instance("node-1");
    let profile = node.iam_instance_profile.unwrap();
    let run = world.reservation_of("run-0");
    let down = "Client.UserInitiatedShutdown";
    let public = world.instance("node-2").public_dns_name.unwrap();
    let later = at(world, Time(0) + LATER);
    vec![
        case("availability-zone", "us-west-2c", "node-3, node-4"),
        case("availability-zone-id", "usw2-az3", "node-3, node-4"),
        case("client-token", "only once", "run-0, run-1"),
        case("dns-name", public, "node-2"),
        case("iam-instance-profile.arn", profile.arn.unwrap(), "node-1"),
        case("iam-instance-profile.id", profile.id.unwrap(), "node-1"),
        case("image-id", "ami-0aaaaaaaaaaaaaaaa", "run-0, run-1"),
        case("instance-id", world.id("node-1"), "node-1"),
        case("instance-state-code", 80, "node-3"),
        case("instance-state-name", "stopped", "node-3"),
        case("instance-type", "t2.medium", "node-4, run-0, run-1"),
        case("instance.group-id", world.id("nodes"), "node-2"),
        case("instance.group-name", "nodes", "node-2"),
        case("ip-address", "198.51.100.77", "node-2"),
        case("key-name", "lab", "run-0, run-1"),
        case("launch-index", 1, "run-1"),
        case("launch-time", later, "run-0, run-1"),
        case("metadata-options.http-endpoint", "enabled", ALL),
        case("metadata-options.http-protocol-ipv6", "disabled", ALL),
        case("metadata-options.http-put-response-hop-limit", 1, "node-2"),
        case("metadata-options.http-tokens", "required", ALL),
        case("metadata-options.instance-metadata-tags", "disabled", ALL),
        case("metadata-options.state", "applied", ALL),
        case("monitoring-state", "disabled", ALL),
        case("owner-id", "111122223333", ALL),
        case("private-dns-name", "node-2.example", "node-2"),
        case("private-ip-address", node.private_ip_address.unwrap(), "node-1"),
        case("reason", "User initiated (2026-01-02 01:01:01 GMT)", "node-3, node-4"),
        case("reservation-id", run, "run-0, run-1"),
        case("source-dest-check", false, "node-3"),
        case("state-reason-code", down, "node-3, node-4"),
        case("state-reason-message", format!("{down}: User initiated shutdown"), "node-3, node-4"),
        case("subnet-id", world.id("private-a"), "node-1"),
        case("tag:team", "red", "node-1"),
        case("tag-key", "team", "node-1"),
        case("tenancy", "default", ALL),
        case("vpc-id", world.id("vpc"), "node-1, node-2, node-3, run-0, run-1"),
    ]
}

fn enis_of_instances(world: &mut Rich) -> Vec<Case> {
    let (one, two, three) = (world.eni("extra-1"), world.eni("eni-2"), world.eni("eni-3"));
    let secondary = one.private_ip_addresses[2].clone();
    let public = two.association.unwrap().public_dns_name.unwrap();
    let prefix = world.eni("extra-2").ipv4_prefixes[0].ipv4_prefix;
    let with_enis = "node-1, node-2, node-3, run-0, run-1";
    vec![
        case("network-interface.addresses.association.ip-owner-id", "amazon", "node-2"),
        case("network-interface.addresses.association.public-dns-name", &public, "node-2"),
        case("network-interface.addresses.association.public-ip", "198.51.100.77", "node-2"),
        case("network-interface.addresses.primary", false, "node-1"),
        case("network-interface.addresses.private-dns-name", secondary.private_dns_name.unwrap(), "node-1"),
        case("network-interface.addresses.private-ip-address", secondary.private_ip_address, "node-1"),
        case("network-interface.association.ip-owner-id", "amazon", "node-2"),
        case("network-interface.association.public-dns-name", &public, "node-2"),
        case("network-interface.association.public-ip", "198.51.100.77", "node-2"),
        case("network-interface.attachment.attach-time", at(world, Time(0)), "node-1, node-2, node-3"),
        case(
            "network-interface.attachment.attachment-id",
            one.attachment.unwrap().attachment_id.own().unwrap(),
            "node-1",
        ),
        case("network-interface.attachment.delete-on-termination", false, "node-2"),
        case("network-interface.attachment.device-index", 2, "node-2"),
        case("network-interface.attachment.instance-id", world.id("node-3"), "node-3"),
        case("network-interface.attachment.instance-owner-id", "111122223333", with_enis),
        case("network-interface.attachment.network-card-index", 1, "node-2"),
        case("network-interface.attachment.status", "attaching", "node-2"),
        case("network-interface.availability-zone", "us-west-2c", "node-3"),
        case("network-interface.description", "is coming", "node-2"),
        case("network-interface.group-id", world.id("web"), "node-1, node-2"),
        case("network-interface.group-name", "web", "node-1, node-2"),
        case("network-interface.ipv4-prefixes.ipv4-prefix", prefix, "node-2"),
        case("network-interface.mac-address", three.mac_address, "node-3"),
        case("network-interface.network-interface-id", world.id("going"), "node-2"),
        case("network-interface.owner-id", "111122223333", with_enis),
        case("network-interface.private-dns-name", three.private_dns_name.unwrap(), "node-3"),
        case("network-interface.private-ip-address", one.private_ip_address.unwrap(), "node-1"),
        case("network-interface.public-dns-name", &public, "node-2"),
        case("network-interface.requester-managed", false, with_enis),
        case("network-interface.status", "detaching", "node-2"),
        case("network-interface.source-dest-check", false, "node-3"),
        case("network-interface.subnet-id", world.id("pods-a"), "node-1, run-0, run-1"),
        case("network-interface.tag-key", "owner", "node-1"),
        case("network-interface.tag-value", "cni", "node-1"),
        case("network-interface.vpc-id", world.id("vpc"), with_enis),
    ]
}

fn statuses() -> Vec<Case> {
    let up = "node-1, node-2, run-0, run-1";
    vec![
        case("availability-zone", "us-west-2b", "node-2"),
        case("availability-zone-id", "usw2-az2", "node-2"),
        case("instance-state-code", 48, "node-4"),
        case("instance-state-name", "terminated", "node-4"),
        case("instance-status.reachability", "passed", up),
        case("instance-status.status", "not-applicable", "node-3, node-4"),
        case("system-status.reachability", "passed", up),
        case("system-status.status", "ok", up),
    ]
}

const TYPES: [&str; 5] = ["m4.large", "m5.large", "m5.metal", "p4d.24xlarge", "t2.medium"];

fn types() -> Vec<Case> {
    vec![
        case("bare-metal", true, "m5.metal"),
        case("hypervisor", "xen", "m4.large, t2.medium"),
        case("instance-type", "m5.large", "m5.large"),
        case("network-info.ipv4-addresses-per-interface", 6, "t2.medium"),
        case("network-info.maximum-network-cards", 4, "p4d.24xlarge"),
        case("network-info.maximum-network-interfaces", 60, "p4d.24xlarge"),
    ]
}

fn subnets(world: &mut Rich) -> Vec<Case> {
    let arn = format!("arn:aws:ec2:us-west-2:111122223333:subnet/{}", world.id("pods-b"));
    let in_a = "public-a, private-a, pods-a";
    vec![
        case("availability-zone", "us-west-2a", in_a),
        case("availabilityZone", "us-west-2a", in_a),
        case("availability-zone-id", "usw2-az1", in_a),
        case("availabilityZoneId", "usw2-az1", in_a),
        case("available-ip-address-count", world.lab.free("pods-b"), "pods-b"),
        case("cidr-block", "10.20.8.0/22", "private-a"),
        case("cidr", "10.20.8.0/22", "private-a"),
        case("cidrBlock", "10.20.8.0/22", "private-a"),
        case("default-for-az", false, ALL),
        case("defaultForAz", false, ALL),
        case("map-public-ip-on-launch", true, "public-a, public-b, public-c"),
        case("owner-id", "111122223333", ALL),
        case("state", "available", ALL),
        case("subnet-arn", arn, "pods-b"),
        case("subnet-id", world.id("public-c"), "public-c"),
        case("tag:Name", "pods-c", "pods-c"),
        case("tag-key", "Name", ALL),
        case("vpc-id", world.id("vpc"), ALL),
    ]
}

fn vpcs(world: &mut Rich) -> Vec<Case> {
    let AnyResponse::DescribeVpcs(answer) = world.call("DescribeVpcs", &[]).unwrap() else { panic!() };
    let vpc = &answer.vpcs[0];
    let second = vpc.cidr_block_associations[1].clone();
    vec![
        case("cidr", "10.20.0.0/16", ALL),
        case("cidr-block-association.cidr-block", second.cidr_block, ALL),
        case("cidr-block-association.association-id", second.association_id.unwrap(), ALL),
        case("cidr-block-association.state", "associated", ALL),
        case("dhcp-options-id", vpc.dhcp_options_id.clone().unwrap(), ALL),
        case("is-default", false, ALL),
        case("owner-id", "111122223333", ALL),
        case("state", "available", ALL),
        case("tag:mark", "network", ALL),
        case("tag-key", "mark", ALL),
        case("vpc-id", world.id("vpc"), ALL),
    ]
}

fn groups(world: &mut Rich) -> Vec<Case> {
    vec![
        case("description", "what people look at", "web"),
        case("egress.ip-permission.cidr", "10.20.0.2/32", "web"),
        case("egress.ip-permission.from-port", 5432, "web"),
        case("egress.ip-permission.group-id", world.id("nodes"), "web"),
        case("egress.ip-permission.protocol", "-1", "default, nodes"),
        case("egress.ip-permission.to-port", 54, "web"),
        case("egress.ip-permission.user-id", "111122223333", "web"),
        case("group-id", world.id("nodes"), "nodes"),
        case("group-name", "default", "default"),
        case("ip-permission.cidr", "10.20.0.0/16", "web"),
        case("ip-permission.from-port", 80, "web"),
        case("ip-permission.group-id", world.id("nodes"), "web"),
        case("ip-permission.protocol", "icmp", "web"),
        case("ip-permission.to-port", 443, "web"),
        case("ip-permission.user-id", "111122223333", "default, web"),
        case("owner-id", "111122223333", ALL),
        case("tag:mark", "group", "web"),
        case("tag-key", "mark", "web"),
        case("vpc-id", world.id("vpc"), ALL),
    ]
}

fn rules(world: &mut Rich) -> Vec<Case> {
    vec![
        case("group-id", world.id("web"), "web in tcp, web in icmp, web out udp, web out tcp"),
        case("security-group-rule-id", world.id("default in -1"), "default in -1"),
        case("tag:mark", "rule", "web in tcp"),
    ]
}

fn tags(world: &mut Rich) -> Vec<Case> {
    vec![
        case("key", "team", "node-1 team"),
        case("resource-id", world.id("web"), "web mark"),
        case("resource-type", "route-table", "crossing mark"),
        case("resource-type", "security-group-rule", "web in tcp mark"),
        case("resource-type", "subnet-cidr-reservation", "by hand mark"),
        case("tag:mark", "leaked", "loose mark"),
        case("value", "cni", "eni-1 owner, extra-1 owner"),
    ]
}

fn route_tables(world: &mut Rich) -> Vec<Case> {
    let spec = world.lab.cloud.spec().clone();
    let tie = world.association_of("pods-b");
    vec![
        case("association.route-table-association-id", tie, "crossing"),
        case("association.route-table-id", world.id("public"), "public"),
        case("association.subnet-id", world.id("pods-b"), "crossing"),
        case("association.main", true, "private"),
        case("owner-id", "111122223333", ALL),
        case("route-table-id", world.id("public"), "public"),
        case("route.destination-cidr-block", "10.99.0.0/16", "crossing"),
        case("route.gateway-id", spec.internet_gateway.unwrap(), "public"),
        case("route.gateway-id", GATEWAY, "crossing"),
        case("route.gateway-id", "local", ALL),
        case("route.instance-id", world.id("node-1"), "crossing"),
        case("route.nat-gateway-id", &spec.nat_gateways[0].id, "private"),
        case("route.origin", "CreateRouteTable", ALL),
        case("route.state", "blackhole", "crossing"),
        case("route.vpc-peering-connection-id", PEERING, "crossing"),
        case("tag:mark", "table", "crossing"),
        case("tag-key", "mark", "crossing"),
        case("vpc-id", world.id("vpc"), ALL),
    ]
}

fn zones() -> Vec<Case> {
    vec![
        case("group-name", "us-west-2-zg-1", ALL),
        case("opt-in-status", "opt-in-not-required", ALL),
        case("region-name", "us-west-2", ALL),
        case("state", "available", ALL),
        case("zone-id", "usw2-az2", "zone usw2-az2"),
        case("zone-name", "us-west-2c", "zone usw2-az3"),
        case("zone-type", "availability-zone", ALL),
    ]
}

fn reservations(world: &mut Rich) -> Vec<Case> {
    vec![
        case("reservationType", "prefix", "for prefixes"),
        case("subnet-id", world.id("pods-a"), ALL),
        case("tag:mark", "part", "by hand"),
        case("tag-key", "mark", "by hand"),
    ]
}

// -- what is done with them ------------------------------------------------------------------------------------------------

#[test]
fn every_supported_filter_selects_and_excludes() {
    let mut world = Rich::new();
    for action in filter_catalogue() {
        let (cases, parameters) = cases(&mut world, action.action);
        let everything = found(&mut world, action.action, &parameters, None);
        assert!(!everything.is_empty(), "{}", action.action);
        for (filter, value, selects) in &cases {
            let what = format!("{} {filter}={value}", action.action);
            let expected: BTreeSet<String> = match selects[..] {
                [ALL] => everything.clone(),
                _ => selects.iter().map(|name| (*name).to_owned()).collect(),
            };
            assert!(selects[..] == [ALL] || expected.len() < everything.len(), "{what} leaves nothing out");
            let mut find = |value: &str| found(&mut world, action.action, &parameters, Some((filter, &[value])));
            for same in same_values(value) {
                assert_eq!(find(&same), expected, "{what} as {same}");
            }
            for other in other_values(value) {
                assert_eq!(find(&other), BTreeSet::new(), "{what} as {other}");
            }
            let either = found(&mut world, action.action, &parameters, Some((filter, &["something else", value])));
            assert_eq!(either, expected, "{what} or something else");
        }
        all_are_tested(&action, &cases);
    }
}

/// Every supported filter has a case, and every case is about one.
fn all_are_tested(action: &ActionFilters, cases: &[Case]) {
    let general = |name: &str| if name.starts_with("tag:") { "tag:<key>".to_owned() } else { name.to_owned() };
    let tested: BTreeSet<_> = cases.iter().map(|(filter, ..)| general(filter)).collect();
    let supported: BTreeSet<_> =
        action.filters.iter().filter(|filter| filter.supported).map(|filter| filter.name.to_owned()).collect();
    assert_eq!(tested, supported, "{}", action.action);
}

/// Ways to write a value that select the same objects.
fn same_values(value: &str) -> Vec<String> {
    let (_, rest) = value.split_at(1);
    let mut same = vec![value.to_owned(), format!("\\{value}"), format!("*{value}"), format!("{value}*")];
    if !rest.is_empty() {
        let (start, last) = value.split_at(value.len() - 1);
        same.extend([format!("?{rest}"), format!("*{rest}"), format!("{start}*{last}"), format!("{start}\\{last}")]);
    }
    same
}

/// Values that select nothing.
fn other_values(value: &str) -> Vec<String> {
    let swapped: String =
        value.chars().map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect();
    let mut others = vec![format!("{value}x"), format!("?{value}"), format!("{value}?"), "x*x".to_owned()];
    others.extend(Some(swapped).filter(|swapped| swapped != value));
    others
}

/// The names of the objects that pass a filter.
fn found(
    world: &mut Rich,
    action: &str,
    parameters: &[(&'static str, String)],
    filter: Option<(&str, &[&str])>,
) -> BTreeSet<String> {
    let mut query: Vec<(String, &str)> =
        parameters.iter().map(|(name, value)| ((*name).to_owned(), &**value)).collect();
    if let Some((name, values)) = filter {
        query.push(("Filter.1.Name".to_owned(), name));
        query.extend(values.iter().zip(1..).map(|(value, n)| (format!("Filter.1.Value.{n}"), *value)));
    }
    let query: Vec<_> = query.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let answer = world.call(action, &query).unwrap_or_else(|error| panic!("{action} {query:?}: {error}"));
    world.names(&answer)
}

#[test]
fn every_other_documented_filter_is_refused_by_name() {
    let mut world = Rich::new();
    let mut refused = 0;
    for action in filter_catalogue() {
        let (_, parameters) = cases(&mut world, action.action);
        let mut call = |filter: &str| {
            let mut query: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
            query.extend([("Filter.1.Name", filter), ("Filter.1.Value.1", "x")]);
            world.call(action.action, &query).unwrap_err()
        };
        for filter in action.filters.iter().filter(|filter| !filter.supported) {
            let error = call(filter.name);
            assert_eq!(error.code, "UnsupportedOperation", "{} {}", action.action, filter.name);
            assert!(error.message.contains(filter.name) && error.message.contains(action.action), "{error}");
            refused += 1;
        }
        for filter in ["no-such-filter", "Tag-Key", "tag:", "tag", ""] {
            let error = call(filter);
            assert_eq!(error.code, "InvalidParameterValue", "{} {filter}: {error}", action.action);
            assert_eq!(error.message, format!("The filter '{filter}' is invalid"));
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn several_filters_must_all_hold() {
    let mut world = Rich::new();
    let web = world.id("web");
    let query = [
        ("Filter.1.Name", "group-id"),
        ("Filter.1.Value.1", web.as_str()),
        ("Filter.2.Name", "interface-type"),
        ("Filter.2.Value.1", "trunk"),
        ("Filter.2.Value.2", "efa"),
    ];
    let answer = world.call("DescribeNetworkInterfaces", &query).unwrap();
    assert_eq!(world.names(&answer), BTreeSet::from(["extra-2".to_owned()]));
}
