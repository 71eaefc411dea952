//! What lies around the VPC: peered VPCs, an on-premises network, services of the provider. Real packets between real hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::sandbox::sandboxed;
use common::vpc::Vpc;
use common::{start, topology};
use vpc_lab::Lab;
use vpc_lab::capture::{Packet, Transport};
use vpc_lab::control::Place;
use vpc_lab::fabric::Fabric;
use vpc_lab::tools::{EchoError, HttpOptions, PingOptions};

const SOON: Duration = Duration::from_secs(2);
const A: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 10);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 30, 0, 10);
const SITE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 7);

/// One node with every way out, one with none of them.
const WORLD: &str = r#"
[vpc]
cidrs = ["10.20.0.0/16"]
[[subnets]]
name = "public"
zone = "ap-northeast-2a"
cidr = "10.20.0.0/24"
public = true
[[subnets]]
name = "connected"
zone = "ap-northeast-2a"
cidr = "10.20.8.0/22"
route_table = "out"
[[subnets]]
name = "alone"
zone = "ap-northeast-2a"
cidr = "10.20.16.0/22"
[[nat_gateways]]
name = "nat"
subnet = "public"
[[peerings]]
name = "data"
cidrs = ["10.30.0.0/16"]
[[peerings]]
name = "far"
cidrs = ["10.40.0.0/16"]
hosts = ["10.40.1.1"]
[on_premises]
cidrs = ["192.168.0.0/16"]
hosts = ["192.168.7.7"]
[[services]]
name = "sts"
[[route_tables]]
name = "out"
routes = [
    { to = "0.0.0.0/0", via = "nat" },
    { to = "10.30.0.0/16", via = "data" },
    { to = "192.168.0.0/16", via = "on-premises" },
]
[[security_groups]]
name = "open"
ingress = [{ from = "0.0.0.0/0" }]
[node_defaults]
daemon = { command = [] }
security_groups = ["open"]
[[nodes]]
name = "a"
subnet = "connected"
private_ip = "10.20.8.10"
[[nodes]]
name = "b"
subnet = "alone"
private_ip = "10.20.16.10"
"#;

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

fn peer(name: &str) -> Place {
    Place::Peer(name.to_owned())
}

fn brief() -> PingOptions {
    PingOptions { timeout: Duration::from_millis(300), ..PingOptions::default() }
}

fn answered(lab: &Lab, from: &Place, to: Ipv4Addr) -> bool {
    lab.ping(from, to, &brief()).unwrap().all_answered()
}

#[test]
fn neighbours_are_reached_by_routes_and_see_private_addresses() {
    let lab = start(&topology(WORLD));
    for (host, place) in [(PEER, peer("data")), (SITE, Place::OnPremises)] {
        assert!(answered(&lab, &node("a"), host), "{place}");
        assert!(answered(&lab, &place, A), "{place}: and back");
        let reply = lab.http(&node("a"), &format!("http://{host}/who"), &HttpOptions::default()).unwrap();
        assert!(reply.body.starts_with(&format!("hello {A},")), "{place}: no address is translated: {reply:?}");
        // The subnet without a route does not get there; its packets go to the NAT gateway, as everything else does.
        assert!(!answered(&lab, &node("b"), host), "{place}");
    }
    // A peering that no route table names is not used, and the way back is missing too.
    let unused = Ipv4Addr::new(10, 40, 1, 1);
    assert!(!answered(&lab, &node("a"), unused));
    let arrivals = lab.capture(&node("a"), "eth0").unwrap();
    assert!(!answered(&lab, &peer("far"), A));
    assert!(arrivals.wait_for(SOON, |p| p.is_between(unused, A)).is_some(), "it arrives; the answer has no route");
    let seen: Vec<_> = lab.visits().unwrap().into_iter().map(|visit| (visit.place, visit.host, visit.source)).collect();
    assert_eq!(seen, [(peer("data"), PEER, A), (Place::OnPremises, SITE, A)]);
}

#[test]
fn a_neighbour_leads_nowhere_else() {
    let lab = start(&topology(WORLD));
    let world = lab.capture(&Place::World, "eth0").unwrap();
    let at_peer = lab.capture(&peer("data"), "vpc").unwrap();
    // From one neighbour to another, to the internet, and to the router's own services: no way.
    let imds = Ipv4Addr::new(169, 254, 169, 254);
    for to in [SITE, Ipv4Addr::new(52, 78, 83, 169), imds] {
        let report = lab.ping(&peer("data"), to, &brief()).unwrap();
        assert!(!report.all_answered(), "{to}");
        assert_eq!(at_peer.wait_for(Duration::from_millis(50), |p| p.outgoing), None, "{to}");
    }
    assert_eq!(world.wait_for(Duration::from_millis(50), Packet::is_echo_request), None);
    // An address of the peer's network that nobody has, and one beyond it.
    assert!(!answered(&lab, &node("a"), Ipv4Addr::new(10, 30, 9, 9)));
    // Somebody else's source does not come in.
    let arrivals = lab.capture(&node("a"), "eth0").unwrap();
    for lie in [SITE, Ipv4Addr::new(10, 20, 16, 10), Ipv4Addr::new(8, 8, 8, 8)] {
        lab.ping(&peer("data"), A, &PingOptions { source: Some(lie), ..brief() }).unwrap();
        assert_eq!(arrivals.wait_for(Duration::from_millis(50), Packet::is_echo_request), None, "{lie}");
    }
    let truth = PingOptions { source: Some(PEER), ..PingOptions::default() };
    assert!(lab.ping(&peer("data"), A, &truth).unwrap().all_answered());
}

#[test]
fn a_peering_in_the_region_has_jumbo_frames_and_the_line_to_the_premises_has_not() {
    let lab = start(&topology(WORLD));
    let sized = |size: usize| PingOptions { size: size - 28, dont_fragment: true, ..PingOptions::default() };
    assert!(lab.ping(&node("a"), PEER, &sized(9001)).unwrap().all_answered());
    assert!(lab.ping(&node("a"), SITE, &sized(1500)).unwrap().all_answered());
    let error = lab.ping(&node("a"), SITE, &sized(1501)).unwrap().echoes[0].error.clone();
    assert!(matches!(error, Some(EchoError::Icmp { kind: 3, code: 4, mtu: Some(1500), .. })), "{error:?}");
    // What the other side announces: the sizes of their links.
    let seen = lab.capture(&node("a"), "eth0").unwrap();
    for (host, size) in [(PEER, 8961), (SITE, 1460)] {
        lab.http(&node("a"), &format!("http://{host}/"), &HttpOptions::default()).unwrap();
        let answer = |p: &Packet| {
            p.is_between(host, A)
                && matches!(p.ipv4().map(|ip| &ip.inside), Some(Transport::Tcp { flags, .. }) if flags.syn && flags.ack)
        };
        let answer = seen.wait_for(SOON, answer).unwrap();
        let Transport::Tcp { mss, .. } = answer.ipv4().unwrap().inside else { panic!("{answer}") };
        assert_eq!(mss, Some(size), "{host}");
    }
}

#[test]
fn a_service_is_a_host_of_the_internet_with_a_name() {
    let lab = start(&topology(WORLD));
    let reply = lab.http(&node("b"), "http://52.94.0.10/", &HttpOptions::default()).unwrap();
    assert!(reply.body.starts_with("hello 203.0.113.128,"), "{reply:?}");
    assert!(reply.body.ends_with("this is sts.ap-northeast-2.amazonaws.com\n"), "{reply:?}");
    let visit = lab.visits().unwrap().pop().unwrap();
    assert_eq!((visit.place, visit.host), (Place::World, Ipv4Addr::new(52, 94, 0, 10)));
}

/// A CIDR that the VPC gets at run time: whoever has an address of it reaches neighbours that are in his route table, and is
/// answered. Gone again, nobody out there knows the way to it.
#[test]
fn neighbours_follow_the_vpc_s_cidrs() {
    sandboxed("neighbours_follow_the_vpc_s_cidrs", || {
        let mut topology = topology(WORLD);
        topology.nodes.clear();
        let fabric = Fabric::build(&topology).unwrap();
        let plan = lab_cloud::Cloud::new(topology.world(), lab_cloud::Setup::default()).unwrap().network();
        let mut vpc = Vpc { fabric, plan };
        vpc.follow();
        vpc.group("open", &[("all", "0.0.0.0/0")], &[("all", "0.0.0.0/0")]);
        let asked = |vpc: &Vpc, place: &Place| {
            let network = vpc.fabric.neighbour(place).unwrap();
            network
                .enter(|| vpc_lab::tools::ping(Ipv4Addr::new(100, 64, 0, 9), &brief()))
                .unwrap()
                .unwrap()
                .all_answered()
        };
        vpc.plan.cidrs.push("100.64.0.0/16".parse().unwrap());
        vpc.subnet("late", "100.64.0.0/24", "connected");
        let late = vpc.host("late", "100.64.0.9", &["open"]).awake(&vpc);
        for place in [peer("data"), Place::OnPremises] {
            assert!(asked(&vpc, &place), "{place}");
        }
        let report = late.network.enter(|| vpc_lab::tools::ping(SITE, &brief())).unwrap().unwrap();
        assert!(report.all_answered(), "{report:?}");
        vpc.plan.cidrs.pop();
        vpc.follow();
        for place in [peer("data"), Place::OnPremises] {
            assert!(!asked(&vpc, &place), "{place}");
            let network = vpc.fabric.neighbour(&place).unwrap();
            let routes = vpc_linux::LinuxHost::open_in(network).unwrap().observe().unwrap().routes;
            assert!(!format!("{routes:?}").contains("100.64."), "{place}: {routes:?}");
        }
    });
}

#[test]
fn a_place_that_is_not_there_is_refused_with_those_there_are() {
    let lab = start(&topology(WORLD));
    for (place, known) in [
        (peer("x"), "data, far"),
        (Place::Gateway("x".to_owned()), "igw, vgw, nat"),
        (Place::Endpoint("sts".to_owned()), "none"),
    ] {
        let error = lab.run(&place, &["true"]).unwrap_err().to_string();
        assert!(error.ends_with(&format!("there are: {known}")), "{error}");
    }
}
