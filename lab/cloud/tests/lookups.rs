//! Objects asked for by id: what is said of those that are not there, and of what is no id at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod rich;

use rich::Rich;
use vpc_aws::ec2::shapes::AnyResponse;

/// Action, parameter, prefix of its ids, name of an object that is there, code and text for what is missing, code for what
/// is no id. `{}` in the text is the first missing id.
const LOOKUPS: [(&str, &str, &str, &str, &str, &str, &str); 6] = [
    (
        "DescribeNetworkInterfaces",
        "NetworkInterfaceId",
        "eni-",
        "loose",
        "InvalidNetworkInterfaceID.NotFound",
        "The networkInterface ID '{}' does not exist",
        "InvalidNetworkInterfaceId.Malformed",
    ),
    (
        "DescribeSubnets",
        "SubnetId",
        "subnet-",
        "pods-a",
        "InvalidSubnetID.NotFound",
        "The subnet ID '{}' does not exist",
        "InvalidSubnetID.Malformed",
    ),
    (
        "DescribeVpcs",
        "VpcId",
        "vpc-",
        "vpc",
        "InvalidVpcID.NotFound",
        "The vpc ID '{}' does not exist",
        "InvalidVpcID.Malformed",
    ),
    (
        "DescribeSecurityGroups",
        "GroupId",
        "sg-",
        "web",
        "InvalidGroup.NotFound",
        "The security group '{}' does not exist",
        "InvalidGroupId.Malformed",
    ),
    (
        "DescribeSecurityGroupRules",
        "SecurityGroupRuleId",
        "sgr-",
        "web in tcp",
        "InvalidSecurityGroupRuleId.NotFound",
        "The security group rule ID '{}' does not exist",
        "InvalidSecurityGroupRuleId.Malformed",
    ),
    (
        "DescribeRouteTables",
        "RouteTableId",
        "rtb-",
        "crossing",
        "InvalidRouteTableID.NotFound",
        "The routeTable ID '{}' does not exist",
        "InvalidRouteTableId.Malformed",
    ),
];

/// Two ids that nobody has.
const MISSING: [&str; 2] = ["00000000000000bad", "00000000000000bae"];

#[test]
fn one_missing_id_fails_the_call_and_the_first_is_named() {
    let mut world = Rich::new();
    for (action, parameter, prefix, there, not_found, text, malformed) in LOOKUPS {
        let [one, two, three] = [1, 2, 3].map(|n| format!("{parameter}.{n}"));
        let [missing, also] = MISSING.map(|digits| format!("{prefix}{digits}"));
        let there = world.id(there);
        let found = world.call(action, &[(&one, &there)]).unwrap();
        assert_eq!(world.names(&found).len(), 1, "{action}");
        let error = world.call(action, &[(&one, &there), (&two, &missing), (&three, &also)]).unwrap_err();
        assert_eq!(error.code, not_found, "{action}");
        assert_eq!(error.message, text.replace("{}", &missing), "{action}");
        for wrong in ["", "x", "i-0123456789abcdef0", &format!("{prefix}xyz"), &missing.to_uppercase()] {
            let error = world.call(action, &[(&one, &there), (&two, wrong)]).unwrap_err();
            assert_eq!(error.code, malformed, "{action} {wrong}: {error}");
        }
    }
}

/// Of instances and instance types EC2 names all that are missing.
#[test]
fn missing_instances_and_types_are_all_named() {
    let mut world = Rich::new();
    let [one, two] = MISSING.map(|digits| format!("i-{digits}"));
    for action in ["DescribeInstances", "DescribeInstanceStatus"] {
        let there = world.id("node-1");
        let error = world.call(action, &[("InstanceId.1", &one), ("InstanceId.2", &there)]).unwrap_err();
        assert_eq!(error.code, "InvalidInstanceID.NotFound");
        assert_eq!(error.message, format!("The instance ID '{one}' does not exist"));
        let error = world.call(action, &[("InstanceId.1", &one), ("InstanceId.2", &two)]).unwrap_err();
        assert_eq!(error.message, format!("The instance IDs '{one}, {two}' do not exist"));
        let error = world.call(action, &[("InstanceId.1", "i-x")]).unwrap_err();
        assert_eq!(error.code, "InvalidInstanceID.Malformed");
    }
    let types = [("InstanceType.1", "m5.large"), ("InstanceType.2", "m5.tiny"), ("InstanceType.3", "z0.none")];
    let error = world.call("DescribeInstanceTypes", &types).unwrap_err();
    assert_eq!(error.code, "InvalidInstanceType");
    assert_eq!(error.message, "The following supplied instance types do not exist: [m5.tiny, z0.none]");
}

#[test]
fn other_things_that_are_not_there_are_refused_by_name() {
    let mut world = Rich::new();
    for (action, parameter, value, code) in [
        ("DescribeAvailabilityZones", "ZoneName.1", "us-west-2x", "InvalidParameterValue"),
        ("DescribeAvailabilityZones", "ZoneId.1", "usw2-az9", "InvalidParameterValue"),
        ("GetSubnetCidrReservations", "SubnetId", "subnet-00000000000000bad", "InvalidSubnetID.NotFound"),
        ("GetSubnetCidrReservations", "SubnetId", "x", "InvalidSubnetID.Malformed"),
        // Groups have names only in the account's default VPC, and this is none.
        ("DescribeSecurityGroups", "GroupName.1", "web", "VPCIdNotSpecified"),
    ] {
        let error = world.call(action, &[(parameter, value)]).unwrap_err();
        assert_eq!(error.code, code, "{action}: {error}");
    }
    let ids: Vec<String> = (1..=101).map(|n| format!("InstanceId.{n}")).collect();
    let node = world.id("node-1");
    let query: Vec<_> = ids.iter().map(|name| (name.as_str(), node.as_str())).collect();
    assert_eq!(world.call("DescribeInstanceStatus", &query).unwrap_err().code, "InvalidRequest");
    assert!(world.call("DescribeInstanceStatus", &query[..100]).is_ok());
}

#[test]
fn one_attribute_of_an_eni() {
    let mut world = Rich::new();
    let (eni, loose) = (world.id("extra-1"), world.id("loose"));
    let mut ask = |eni: &str, attribute: &str| {
        let query = [("NetworkInterfaceId", eni), ("Attribute", attribute)];
        match world.call("DescribeNetworkInterfaceAttribute", &query).unwrap() {
            AnyResponse::DescribeNetworkInterfaceAttribute(answer) => answer,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ask(&loose, "description").description.unwrap().value.as_deref(), Some("is loose"));
    assert_eq!(ask(&loose, "sourceDestCheck").source_dest_check.unwrap().value, Some(false));
    assert_eq!(ask(&loose, "attachment").attachment, None);
    assert_eq!(ask(&eni, "attachment").attachment.unwrap().device_index.unwrap().0, 1);
    assert_eq!(ask(&eni, "groupSet").groups.unwrap()[0].group_name.as_deref(), Some("web"));
    assert_eq!(ask(&eni, "groupSet").description, None);
    let error = world.call("DescribeNetworkInterfaceAttribute", &[("NetworkInterfaceId", &eni)]).unwrap_err();
    assert_eq!(error.code, "MissingParameter");
}

/// The rules of a group are the same in DescribeSecurityGroups, grouped, and in DescribeSecurityGroupRules, one by one.
#[test]
fn a_group_shows_its_rules() {
    let mut world = Rich::new();
    let (web, nodes) = (world.id("web"), world.id("nodes"));
    let AnyResponse::DescribeSecurityGroups(answer) =
        world.call("DescribeSecurityGroups", &[("GroupId.1", &web)]).unwrap()
    else {
        panic!()
    };
    let group = &answer.security_groups[0];
    assert_eq!(group.description.as_deref(), Some("what people look at"));
    let [tcp, icmp] = &group.ip_permissions[..] else { panic!("{:?}", group.ip_permissions) };
    assert_eq!((tcp.ip_protocol.as_str(), tcp.from_port, tcp.to_port), ("tcp", Some(80), Some(443)));
    assert_eq!((tcp.ip_ranges[0].cidr_ip.to_string().as_str(), tcp.groups.len()), ("10.20.0.0/16", 0));
    assert_eq!((icmp.ip_protocol.as_str(), icmp.from_port, icmp.to_port), ("icmp", Some(8), Some(-1)));
    assert_eq!(icmp.groups[0].group_id.as_str(), nodes);
    assert_eq!(group.ip_permissions_egress.len(), 2);

    let query = [("Filter.1.Name", "group-id"), ("Filter.1.Value.1", web.as_str())];
    let AnyResponse::DescribeSecurityGroupRules(answer) = world.call("DescribeSecurityGroupRules", &query).unwrap()
    else {
        panic!()
    };
    let shown = |name: &str| {
        let id = world.id(name);
        answer.rules.iter().find(|rule| rule.security_group_rule_id == id).unwrap()
    };
    let udp = shown("web out udp");
    assert!(udp.is_egress && !shown("web in tcp").is_egress);
    assert_eq!(
        (udp.from_port, udp.to_port, udp.cidr_ipv4.unwrap().to_string()),
        (Some(53), Some(54), "10.20.0.2/32".into())
    );
    assert_eq!(shown("web in icmp").referenced_group.as_ref().unwrap().group_id.as_str(), nodes);
}

#[test]
fn routes_show_their_targets() {
    let mut world = Rich::new();
    let (table, eni, node) = (world.id("crossing"), world.id("eni-1"), world.id("node-1"));
    let AnyResponse::DescribeRouteTables(answer) =
        world.call("DescribeRouteTables", &[("RouteTableId.1", &table)]).unwrap()
    else {
        panic!()
    };
    let route = |to: &str| {
        let mut routes = answer.route_tables[0].routes.iter();
        routes.find(|route| route.destination_cidr_block.is_some_and(|cidr| cidr.to_string() == to)).unwrap()
    };
    let state = |to: &str| route(to).state.as_ref().unwrap().as_str().to_owned();
    assert_eq!(route("10.20.0.0/16").gateway_id.as_deref(), Some("local"));
    assert_eq!(route("100.64.0.0/16").origin.as_deref(), Some("CreateRouteTable"));
    assert_eq!(route("10.30.0.0/16").vpc_peering_connection_id.as_deref(), Some(rich::PEERING));
    assert_eq!(route("192.168.0.0/16").gateway_id.as_deref(), Some(rich::GATEWAY));
    assert_eq!(route("10.98.0.0/16").network_interface_id.as_ref().unwrap().as_str(), eni);
    assert_eq!(route("10.98.0.0/16").instance_id.as_ref().unwrap().as_str(), node);
    assert_eq!((state("10.98.0.0/16").as_str(), state("10.99.0.0/16").as_str()), ("active", "blackhole"));
}

/// A stop is told with its time until the instance starts again, which counts as a launch; a reboot does not.
#[test]
fn instances_show_why_they_are_down_and_since_when_they_are_up() {
    let mut world = Rich::new();
    let node = world.id("node-1");
    let first = world.instance("node-1").launch_time.unwrap();
    world.call("RebootInstances", &[("InstanceId.1", &node)]).unwrap();
    assert_eq!(world.instance("node-1").launch_time, Some(first));
    world.call("StopInstances", &[("InstanceId.1", &node)]).unwrap();
    world.lab.pass(5000);
    let shown = world.instance("node-1");
    assert_eq!(shown.state_transition_reason.as_deref(), Some("User initiated (2026-01-02 01:01:01 GMT)"));
    assert_eq!(shown.state_reason.unwrap().code, "Client.UserInitiatedShutdown");
    assert_eq!(shown.state.code, 80);
    world.call("StartInstances", &[("InstanceId.1", &node)]).unwrap();
    world.lab.pass(0);
    let shown = world.instance("node-1");
    assert_eq!((shown.state_transition_reason.as_deref(), shown.state_reason), (Some(""), None));
    assert_eq!(shown.launch_time.unwrap().to_string(), "2026-01-02T01:01:06.001Z");
}
