//! The topology file: what is taken, what is refused, and what is said then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use vpc_lab::topology::{Target, Topology, TopologyError, TopologyFile};

/// A small file that is in order. Cases add to it, or replace a piece.
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

[[nat_gateways]]
name = "nat"
subnet = "one"

[[nodes]]
name = "n1"
subnet = "two"
"#;

fn resolve(text: &str) -> Result<Topology, TopologyError> {
    TopologyFile::parse(text)?.resolve()
}

#[track_caller]
fn refused(text: &str, wanted: &[&str]) {
    let error = resolve(text).expect_err("this should have been refused").to_string();
    for piece in wanted {
        assert!(error.contains(piece), "`{piece}` is not in: {error}");
    }
}

#[test]
fn the_built_in_file_is_in_order_and_ec2_takes_it() {
    let topology = Topology::built_in().unwrap();
    assert_eq!(topology.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["node-a", "node-b", "node-c"]);
    assert!(topology.nodes.iter().all(|node| node.instance_type == "m5.large" && node.hop_limit == 1));
    assert_eq!(topology.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.20.0.0/16", "100.64.0.0/16"]);
    assert_eq!(topology.public_hosts, ["52.78.83.169".parse::<std::net::Ipv4Addr>().unwrap()]);
    for node in &topology.nodes {
        let table = &topology.subnet(&node.subnet).unwrap().route_table;
        let routes = &topology.route_tables.iter().find(|t| t.name == *table).unwrap().routes;
        assert_eq!(routes.iter().map(|(_, to)| to).collect::<Vec<_>>(), [&Target::NatGateway("nat".to_owned())]);
    }
    lab_cloud::Cloud::new(topology.world(), lab_cloud::Setup::default()).unwrap();
}

#[test]
fn what_is_not_written_has_its_default() {
    let topology = resolve(GOOD).unwrap();
    assert_eq!(topology.zones, ["ap-northeast-2a", "ap-northeast-2b", "ap-northeast-2c"]);
    let gateway = topology.nat_gateways.first().unwrap();
    assert_eq!(
        (gateway.private_ip.to_string().as_str(), gateway.public_ip.to_string().as_str()),
        ("10.0.0.4", "203.0.113.128")
    );
    let node = topology.node("n1").unwrap();
    assert_eq!(node.daemon.as_ref().unwrap().command, ["/app/aws-k8s-agent"]);
    assert_eq!((node.init.is_none(), node.plugin.is_none(), node.hop_limit), (true, true, 1));
    assert!(topology.subnet("one").unwrap().map_public_ip && !topology.subnet("two").unwrap().map_public_ip);
}

#[test]
fn a_node_takes_the_defaults_and_adds_its_own() {
    let text = format!(
        "{GOOD}env = {{ B = \"own\", C = \"c\" }}\ndaemon = {{ command = [] }}\nfiles = [{{ path = \"/etc/x\", content = \"x\" }}]\n\
         [node_defaults]\ninstance_type = \"c5.xlarge\"\nhop_limit = 2\nenv = {{ A = \"a\", B = \"b\" }}\n\
         init = {{ command = [\"/app/init\", \"-v\"], cwd = \"/tmp\" }}\nfiles = [{{ path = \"/etc/y\", content = \"y\", mode = 0o600 }}]\n"
    );
    let topology = resolve(&text).unwrap();
    let node = topology.node("n1").unwrap();
    let env: Vec<_> = node.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["A=a", "B=own", "C=c"]);
    assert_eq!((node.instance_type.as_str(), node.hop_limit, node.daemon.is_none()), ("c5.xlarge", 2, true));
    assert_eq!(node.init.as_ref().unwrap().command, ["/app/init", "-v"]);
    assert_eq!(
        node.files.iter().map(|f| (f.path.to_str().unwrap(), f.mode)).collect::<Vec<_>>(),
        [("/etc/y", 0o600), ("/etc/x", 0o644)]
    );
}

#[test]
fn route_tables_of_one_s_own_lead_where_they_say() {
    let text = format!(
        "{}\n[[route_tables]]\nname = \"odd\"\nroutes = [{{ to = \"0.0.0.0/0\", via = \"nat\" }}, {{ to = \"8.8.8.0/24\", via = \"blackhole\" }}, {{ to = \"9.0.0.0/8\", via = \"internet-gateway\" }}]\n",
        GOOD.replace("cidr = \"10.0.1.0/24\"", "cidr = \"10.0.1.0/24\"\nroute_table = \"odd\"")
    );
    let topology = resolve(&text).unwrap();
    assert_eq!(topology.subnet("two").unwrap().route_table, "odd");
    let table = topology.route_tables.iter().find(|table| table.name == "odd").unwrap();
    let routes: Vec<_> = table.routes.iter().map(|(to, via)| (to.to_string(), via.clone())).collect();
    assert!(routes.contains(&("8.8.8.0/24".to_owned(), Target::Blackhole)));
    assert!(routes.contains(&("9.0.0.0/8".to_owned(), Target::InternetGateway)));
    assert!(routes.contains(&("0.0.0.0/0".to_owned(), Target::NatGateway("nat".to_owned()))));
}

#[test]
fn a_misspelt_key_is_refused_with_those_that_are_accepted() {
    refused(&format!("zonez = []\n{GOOD}"), &["line 1", "zonez", "zones", "profile"]);
    refused(&GOOD.replace("public = true", "publik = true"), &["publik", "public", "route_table", "map_public_ip"]);
    refused(&format!("{GOOD}instance_typ = \"m5.large\"\n"), &["instance_typ", "instance_type", "hop_limit"]);
    refused(&format!("{GOOD}daemon = {{ comand = [] }}\n"), &["comand", "command", "cwd"]);
    refused(&format!("profile = \"fast\"\n{GOOD}"), &["fast", "instant", "aws"]);
    refused("[vpc]\ncidrs = [\"10.0.0.0/16\"]\n", &["subnets"]);
    refused("[vpc", &["line 1"]);
}

#[test]
fn an_impossible_value_is_refused_by_name() {
    let subnet = |cidr: &str| GOOD.replace("10.0.1.0/24", cidr);
    let node = |line: &str| format!("{GOOD}{line}\n");
    let gateway = |line: &str| GOOD.replace("subnet = \"one\"", &format!("subnet = \"one\"\n{line}"));
    let file = |path: &str| node(&format!("files = [{{ path = \"{path}\", content = \"\" }}]"));
    for (text, wanted) in [
        (
            subnet("10.0.0.128/25"),
            vec!["subnets.two.cidr", "10.0.0.128/25", "overlaps", "10.0.0.0/24", "subnets.one.cidr"],
        ),
        (subnet("10.1.0.0/24"), vec!["subnets.two.cidr", "outside the VPC", "10.0.0.0/16"]),
        (subnet("10.0.1.0/29"), vec!["subnets.two.cidr", "10.0.1.0/29", "/16 and /28"]),
        (subnet("10.0.1.7/24"), vec!["host bits", "10.0.1.0/24"]),
        (subnet("10.0.300.0/24"), vec!["10.0.300.0/24", "not an IPv4 network"]),
        (GOOD.replace("name = \"two\"", "name = \"one\""), vec!["subnets", "`one`", "twice"]),
        (format!("{GOOD}[[nodes]]\nname = \"n1\"\nsubnet = \"one\"\n"), vec!["nodes", "`n1`", "twice"]),
        (
            GOOD.replace("zone = \"ap-northeast-2b\"", "zone = \"eu-west-1a\""),
            vec!["subnets.two.zone", "eu-west-1a", "ap-northeast-2a"],
        ),
        (GOOD.replace("subnet = \"two\"", "subnet = \"three\""), vec!["nodes.n1.subnet", "`three`", "one, two"]),
        (GOOD.replace("subnet = \"one\"", "subnet = \"three\""), vec!["nat_gateways.nat.subnet", "`three`"]),
        (GOOD.replace("[\"10.0.0.0/16\"]", "[]"), vec!["vpc.cidrs", "at least one"]),
        (GOOD.replace("[\"10.0.0.0/16\"]", "[\"10.0.0.0/16\", \"10.0.128.0/17\"]"), vec!["vpc.cidrs", "overlaps"]),
        (GOOD.replace("[\"10.0.0.0/16\"]", "[\"10.0.0.0/8\"]"), vec!["vpc.cidrs", "/16 and /28"]),
        (node("instance_type = \"m5.gigantic\""), vec!["nodes.n1.instance_type", "m5.gigantic", "m5.large"]),
        (node("hop_limit = 0"), vec!["nodes.n1.hop_limit", "1 to 64"]),
        (node("private_ip = \"10.0.1.3\""), vec!["nodes.n1.private_ip", "10.0.1.3", "EC2's"]),
        (node("private_ip = \"10.0.0.9\""), vec!["nodes.n1.private_ip", "10.0.0.9", "two"]),
        (node("daemon = { command = [\"agent\"] }"), vec!["nodes.n1.daemon.command", "`agent`", "absolute"]),
        (node("files = [{ path = \"/../x\", content = \"\" }]"), vec!["nodes.n1.files.path", "`..`"]),
        (node("files = [{ path = \"/x\" }]"), vec!["nodes.n1.files", "`source`", "`content`"]),
        (
            node("files = [{ path = \"/x\", source = \"/no/such/file\" }]"),
            vec!["nodes.n1.files.source", "/no/such/file"],
        ),
        (GOOD.replace("\"n1\"", "\"world\""), vec!["nodes.name", "`world`"]),
        (GOOD.replace("\"n1\"", "\"N 1\""), vec!["nodes.name", "`N 1`", "lower-case"]),
        (format!("public_hosts = [\"10.0.0.9\"]\n{GOOD}"), vec!["public_hosts", "10.0.0.9", "outside the VPC"]),
        (format!("public_pool = \"10.0.4.0/24\"\n{GOOD}"), vec!["public_pool", "overlaps"]),
        (
            GOOD.replace("subnet = \"one\"", "subnet = \"two\""),
            vec!["nat_gateways.nat.subnet", "`two` is not a public subnet", "internet gateway", "public are: one"],
        ),
        (
            format!(
                "{}[[route_tables]]\nname = \"dead\"\n",
                GOOD.replace("public = true", "public = true\nroute_table = \"dead\"")
            ),
            vec!["nat_gateways.nat.subnet", "`one` is not a public subnet", "`dead`", "public are: none"],
        ),
        (node("public_ip = \"52.78.83.169\""), vec!["nodes.n1.public_ip", "52.78.83.169", "public host"]),
        (node("public_ip = \"10.0.7.7\""), vec!["nodes.n1.public_ip", "10.0.7.7", "inside the VPC's 10.0.0.0/16"]),
        (node("public_ip = \"127.0.0.1\""), vec!["nodes.n1.public_ip", "127.0.0.1", "internet", "public_pool"]),
        (
            node("public_ip = \"203.0.113.128\""),
            vec!["nodes.n1.public_ip", "203.0.113.128", "nat_gateways.nat.public_ip already"],
        ),
        (gateway("public_ip = \"52.78.83.169\""), vec!["nat_gateways.nat.public_ip", "public host"]),
        (gateway("public_ip = \"10.0.7.7\""), vec!["nat_gateways.nat.public_ip", "inside the VPC"]),
        (file("/proc/1/x"), vec!["nodes.n1.files.path", "`/proc/1/x`", "the kernel"]),
        (file("/sys/x"), vec!["nodes.n1.files.path", "`/sys/x`"]),
        (file("//dev/./x"), vec!["nodes.n1.files.path", "/dev"]),
        (
            node("files = [{ path = \"/x\", content = \"\", mode = \"banana\" }]"),
            vec!["mode", "banana", "octal number such as 0o755"],
        ),
        (node("files = [{ path = \"/x\", content = \"\", mode = -1 }]"), vec!["mode", "-1", "0o755"]),
        (node("files = [{ path = \"/x\", content = \"\", mode = 0o17777 }]"), vec!["nodes.n1.files.mode", "0o17777"]),
        (format!("{GOOD}[[route_tables]]\nname = \"public\"\n"), vec!["route_tables.public", "built in"]),
        (
            format!("{GOOD}[[route_tables]]\nname = \"x\"\nroutes = [{{ to = \"0.0.0.0/0\", via = \"vpn\" }}]\n"),
            vec!["route_tables.x.routes.via", "`vpn`", "nat"],
        ),
    ] {
        refused(&text, &wanted);
    }
}

#[test]
fn what_can_not_be_read_is_named_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    for (text, wanted) in [("[vpc", "line 1"), ("zonez = []", "zonez")] {
        std::fs::write(&path, text).unwrap();
        let error = TopologyFile::read(&path).expect_err("this should have been refused").to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains(wanted), "{error}");
    }
}

/// [`GOOD`] whose node is in the groups, which are these.
fn grouped(names: &str, groups: &str) -> String {
    format!("{GOOD}security_groups = {names}\n{groups}")
}

const WEB: &str = r#"
[[security_groups]]
name = "web"
ingress = [{ protocol = "tcp", ports = "8000-8080", from = "10.0.0.0/8" }, { protocol = "udp", ports = "53", from = "default" }]
egress = [{ protocol = "icmp", to = "web" }, { protocol = "47", to = "0.0.0.0/0" }]
[[security_groups]]
name = "plain"
"#;

#[test]
fn security_groups_have_awss_defaults_and_say_what_is_written() {
    use lab_cloud::{GroupRule, RulePeer, Traffic, id_for};
    let rule = |traffic, peer| GroupRule { traffic, peer, description: None };
    let net = |text: &str| RulePeer::Cidr(text.parse().unwrap());
    let topology = resolve(&grouped("[\"web\", \"default\"]", WEB)).unwrap();
    let [default, web, plain] = &topology.security_groups[..] else { panic!("{:?}", topology.security_groups) };
    assert_eq!(default.name, "default");
    assert_eq!(default.ingress, [rule(Traffic::All, RulePeer::Group(id_for("default")))]);
    assert_eq!(default.egress, [rule(Traffic::All, net("0.0.0.0/0"))]);
    assert_eq!(
        web.ingress,
        [
            rule(Traffic::Tcp(8000, 8080), net("10.0.0.0/8")),
            rule(Traffic::Udp(53, 53), RulePeer::Group(id_for("default")))
        ]
    );
    let egress = [
        rule(Traffic::Icmp(None, None), RulePeer::Group(id_for("web"))),
        rule(Traffic::Protocol(47), net("0.0.0.0/0")),
    ];
    assert_eq!(web.egress, egress);
    assert_eq!((plain.ingress.len(), &plain.egress), (0, &default.egress));
    let world = topology.world();
    assert_eq!(world.instances[0].security_groups, [id_for("web"), id_for("default")]);
    lab_cloud::Cloud::new(world, lab_cloud::Setup::default()).unwrap();

    // Of who says nothing; of all nodes; a default group of one's own.
    assert!(resolve(GOOD).unwrap().node("n1").unwrap().security_groups.is_empty());
    let all = format!("{GOOD}[node_defaults]\nsecurity_groups = [\"web\"]\n{WEB}");
    assert_eq!(resolve(&all).unwrap().node("n1").unwrap().security_groups, ["web"]);
    let own = format!("{GOOD}[[security_groups]]\nname = \"default\"\negress = []\n");
    let groups = resolve(&own).unwrap().security_groups;
    assert_eq!((groups.len(), groups[0].ingress.len(), groups[0].egress.len()), (1, 0, 0));
}

#[test]
fn a_wrong_security_group_is_refused_with_a_way_out() {
    refused(&grouped("[\"nobody\"]", WEB), &["nodes.n1.security_groups", "`nobody`", "default, web, plain"]);
    refused(&grouped("[\"web\", \"web\"]", WEB), &["nodes.n1.security_groups", "`web` is there twice"]);
    let six = "[\"a\", \"b\", \"c\", \"d\", \"e\", \"f\"]";
    let groups: String = ('a'..='f').map(|name| format!("[[security_groups]]\nname = \"{name}\"\n")).collect();
    refused(&grouped(six, &groups), &["6 groups", "5 at most"]);
    refused(&grouped("[]", &WEB.replace("plain", "web")), &["security_groups", "`web` is there twice"]);
    for (rule, wanted) in [
        (r#"{ protocol = "tcp", ports = "80" }"#, &["missing field `from`"][..]),
        (r#"{ from = "10.0.0.1" }"#, &["ingress.from", "`10.0.0.1` is a single address", "`10.0.0.1/32`"]),
        (r#"{ from = "10.0.0.1/8" }"#, &["ingress.from", "host bits set", "`10.0.0.0/8`"]),
        (r#"{ from = "everybody" }"#, &["ingress.from", "`everybody`", "default, g"]),
        (r#"{ protocol = "http", from = "g" }"#, &["ingress.protocol", "`http`", "`tcp`"]),
        (r#"{ protocol = "tcp", ports = "90-80", from = "g" }"#, &["ingress.ports", "`90-80`", "`8000-8080`"]),
        (r#"{ protocol = "tcp", ports = "http", from = "g" }"#, &["ingress.ports", "`http`", "like `80`"]),
        (r#"{ protocol = "icmp", ports = "8", from = "g" }"#, &["ingress.ports", "`icmp` has no ports"]),
        (r#"{ ports = "8", from = "g" }"#, &["ingress.ports", "`all` has no ports"]),
        (r#"{ to = "g" }"#, &["unknown field `to`", "`from`"]),
    ] {
        refused(&format!("{GOOD}[[security_groups]]\nname = \"g\"\ningress = [{rule}]\n"), wanted);
    }
}
