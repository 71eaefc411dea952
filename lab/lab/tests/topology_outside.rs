//! What a topology file may say of what lies around the VPC: what is taken, what is refused, and what is said then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use vpc_lab::topology::{Target, Topology, TopologyError, TopologyFile};

/// A small file that is in order. Cases replace a piece, or add to it.
const GOOD: &str = r#"
[vpc]
cidrs = ["10.0.0.0/16"]
[[subnets]]
name = "one"
zone = "ap-northeast-2a"
cidr = "10.0.0.0/24"
public = true
[[subnets]]
name = "two"
zone = "ap-northeast-2b"
cidr = "10.0.1.0/24"
route_table = "out"
[[nat_gateways]]
name = "nat"
subnet = "one"
[[peerings]]
name = "data"
cidrs = ["10.30.0.0/16"]
[on_premises]
cidrs = ["192.168.0.0/16"]
[[services]]
name = "sts"
[[services]]
name = "ecr"
[[endpoints]]
service = "sts"
subnets = ["one", "two"]
[[route_tables]]
name = "out"
routes = [{ to = "10.30.0.0/16", via = "data" }, { to = "192.168.0.0/16", via = "on-premises" }]
[[nodes]]
name = "n1"
subnet = "two"
"#;

fn resolve(text: &str) -> Result<Topology, TopologyError> {
    TopologyFile::parse(text)?.resolve()
}

#[test]
fn what_is_not_written_has_its_default_and_ec2_takes_it() {
    let topology = resolve(GOOD).unwrap();
    assert_eq!(topology.peerings[0].hosts, ["10.30.0.10".parse::<std::net::Ipv4Addr>().unwrap()]);
    assert_eq!(topology.on_premises.as_ref().unwrap().hosts[0].to_string(), "192.168.0.10");
    let addresses: Vec<_> = topology.services.iter().map(|service| service.address.to_string()).collect();
    assert_eq!(addresses, ["52.94.0.10", "52.94.0.11"]);
    let endpoints: Vec<_> = topology.endpoints.iter().map(|own| (own.service.as_str(), own.subnet.as_str())).collect();
    assert_eq!(endpoints, [("sts", "one"), ("sts", "two")], "an ENI in each subnet");
    let names: Vec<_> = topology.names.iter().map(|(name, at)| format!("{name} {}", at[0])).collect();
    assert_eq!(names, ["example.com 52.78.83.169", "host-1.example.com 52.78.83.169"]);
    assert_eq!((topology.link_local_pps, topology.nodes[0].bandwidth_mbps), (None, None));
    let table = topology.route_tables.iter().find(|table| table.name == "out").unwrap();
    let targets: Vec<_> = table.routes.iter().map(|(_, target)| target.clone()).collect();
    assert_eq!(targets, [Target::Peering("data".to_owned()), Target::VirtualGateway]);
    let world = topology.world();
    assert_eq!((world.peerings.len(), world.virtual_gateway.is_some(), world.endpoints.len()), (1, true, 2));
    lab_cloud::Cloud::new(world, lab_cloud::Setup::default()).unwrap();
}

#[test]
fn a_node_s_bandwidth_is_its_own_or_that_of_all() {
    let text =
        GOOD.replace("name = \"n1\"", "name = \"n0\"\nsubnet = \"two\"\nbandwidth_mbps = 5\n[[nodes]]\nname = \"n1\"");
    let topology = resolve(&format!("{text}[node_defaults]\nbandwidth_mbps = 100\n")).unwrap();
    let all: Vec<_> = topology.nodes.iter().map(|node| node.bandwidth_mbps).collect();
    assert_eq!(all, [Some(5), Some(100)]);
}

#[test]
fn names_are_small_and_may_have_several_addresses() {
    let text = format!("[names]\n\"API.example.org.\" = [\"1.1.1.1\", \"1.1.1.2\"]\nx = \"1.1.1.3\"\n{GOOD}");
    let names = resolve(&text).unwrap().names;
    assert_eq!(names.keys().map(String::as_str).collect::<Vec<_>>(), ["api.example.org", "x"]);
    assert_eq!(names["api.example.org"].len(), 2);
}

#[test]
fn what_can_not_be_is_refused_with_field_and_way_out() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("[\"10.30.0.0/16\"]", "[\"10.0.8.0/24\"]", &["peerings.data.cidrs", "10.0.8.0/24 overlaps", "vpc.cidrs"]),
        ("[\"192.168.0.0/16\"]", "[\"10.30.9.0/24\"]", &["on_premises.cidrs", "overlaps", "peerings.data.cidrs"]),
        ("[\"10.30.0.0/16\"]", "[\"203.0.113.0/28\"]", &["peerings.data.cidrs", "overlaps", "public_pool"]),
        ("[\"10.30.0.0/16\"]", "[]", &["peerings.data.cidrs", "at least one network"]),
        ("[\"10.30.0.0/16\"]", "[\"10.30.0.0/15\"]", &["peerings.data.cidrs", "between /16 and /28"]),
        ("[\"192.168.0.0/16\"]", "[\"169.254.7.0/24\"]", &["on_premises.cidrs", "can not be reached"]),
        (
            "cidrs = [\"192.168.0.0/16\"]",
            "cidrs = [\"192.168.0.0/16\"]\nhosts = [\"192.169.0.1\"]",
            &["on_premises.hosts", "192.169.0.1 is outside", "192.168.0.0/16"],
        ),
        ("name = \"data\"", "name = \"nat\"", &["peerings.nat.name", "a NAT gateway has this name"]),
        ("name = \"data\"", "name = \"on-premises\"", &["peerings.on-premises.name", "choose another"]),
        ("via = \"data\"", "via = \"dat\"", &["route_tables.out.routes.via", "`dat`", "on-premises", "data", "nat"]),
        ("name = \"ecr\"", "name = \"ec2\"", &["services.ec2.name", "the lab's own API"]),
        ("name = \"ecr\"", "name = \"ECR\"", &["services.ECR.name", "lower-case letters"]),
        ("name = \"ecr\"", "name = \"sts\"", &["services", "`sts` is there twice"]),
        ("name = \"ecr\"", "name = \"ecr\"\naddress = \"52.94.0.10\"", &["services.ecr.address", "already"]),
        ("name = \"ecr\"", "name = \"ecr\"\naddress = \"10.0.0.9\"", &["services.ecr.address", "of the internet"]),
        ("service = \"sts\"", "service = \"s3\"", &["endpoints.service", "`s3`", "sts, ecr"]),
        ("subnets = [\"one\", \"two\"]", "subnets = [\"three\"]", &["endpoints.sts.subnets", "`three`", "one, two"]),
        ("subnets = [\"one\", \"two\"]", "subnets = []", &["endpoints.sts.subnets", "at least one subnet"]),
        ("subnets = [\"one\", \"two\"]", "subnets = [\"one\", \"one\"]", &["endpoints.sts.subnets", "already"]),
        (
            "subnets = [\"one\", \"two\"]",
            "subnets = [\"one\", \"two\"]\nprivate_ip = \"10.0.0.9\"",
            &["endpoints.sts.private_ip", "a single subnet"],
        ),
        (
            "subnets = [\"one\", \"two\"]",
            "subnets = [\"one\"]\nprivate_ip = \"10.0.0.3\"",
            &["endpoints.sts.private_ip", "10.0.0.3 is not free"],
        ),
        (
            "subnets = [\"one\", \"two\"]",
            "subnets = [\"one\"]\nprivate_ip = \"10.0.0.4\"",
            &["endpoints.sts.private_ip", "nat_gateways.nat.private_ip already"],
        ),
        ("subnet = \"two\"", "subnet = \"two\"\nbandwidth_mbps = 0", &["nodes.n1.bandwidth_mbps", "1 to 34000"]),
        ("subnet = \"two\"", "subnet = \"two\"\npublic_ip = \"52.94.0.10\"", &["nodes.n1.public_ip", "`services`"]),
        ("name = \"n1\"", "name = \"on-premises\"", &["nodes.name", "means something else"]),
    ];
    for (piece, other, wanted) in cases {
        assert!(GOOD.contains(piece), "{piece}");
        refused(&GOOD.replace(piece, other), wanted);
    }
    let before: &[(&str, &[&str])] = &[
        ("link_local_pps = 0", &["link_local_pps", "1024"]),
        (
            "public_hosts = [\"10.30.3.3\"]",
            &["public_hosts", "10.30.3.3 is inside 10.30.0.0/16 of peerings.data.cidrs"],
        ),
        ("public_hosts = [\"52.94.0.10\"]", &["services.sts.address", "another host"]),
        ("[names]\n\"a b\" = \"1.1.1.1\"", &["names.a b", "a DNS name"]),
        ("[names]\nx = 5", &["an IPv4 address such as", "or a list"]),
        ("[names]\nx = \"y\"", &["an IPv4 address such as", "or a list"]),
        ("[names]\nx = []", &["names.x", "at least one address"]),
        ("[names]\nx = \"1.1.1.1\"\nX = \"1.1.1.1\"", &["names.x", "twice"]),
        ("[names]\n\"x.ap-northeast-2.compute.internal\" = \"1.1.1.1\"", &["names.x.ap", "the VPC's own"]),
    ];
    for (text, wanted) in before {
        refused(&format!("{text}\n{GOOD}"), wanted);
    }
}

#[track_caller]
fn refused(text: &str, wanted: &[&str]) {
    let error = resolve(text).expect_err(&format!("this should have been refused, {wanted:?}: {text}")).to_string();
    for piece in wanted {
        assert!(error.contains(piece), "`{piece}` is not in: {error}");
    }
}
