//! The network around the ENIs changes while it is in use: routes, tables, gateways, CIDRs, source/destination checks. The fabric is told
//! by plans; what is asserted is where packets come out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::nobody;
use common::sandbox::sandboxed;
use common::vpc::Outcome::{IngressDenied, NoRoute, Passes, Spoofed};
use common::vpc::Says::{Echo, Syn, Udp};
use common::vpc::{Frame, HOST, Host, Vpc, ip, net};
use lab_cloud::{NatGatewaySpec, RouteTarget, id_for, id_text};
use vpc_lab::capture::{Packet, Transport};
use vpc_linux::nft::{Family, Nft, Table};
use vpc_linux::{RouteKind, Rtnl};
use vpc_model::RouteTable;

const ALL: &[(&str, &str)] = &[("all", "0.0.0.0/0")];

/// A VPC where groups let everything through.
fn open() -> Vpc {
    let mut vpc = Vpc::build();
    vpc.group("open", ALL, ALL);
    vpc
}

fn is_reply(packet: &Packet) -> bool {
    matches!(packet.ipv4().map(|ip| &ip.inside), Some(Transport::Echo { reply: true, .. }))
}

/// Whether the internet answers. Where it can not be reached, the packet is counted as without a route.
#[track_caller]
fn reaches_the_internet(vpc: &Vpc, host: &Host, source: &str) -> bool {
    host.forget();
    let before = vpc.status().no_route;
    host.send(Frame::new(source, &HOST.to_string(), Echo(1)));
    let answered = || host.any(is_reply);
    common::ec2::wait_until(
        || (answered(), vpc.status().no_route > before),
        |(answered, dropped)| *answered || *dropped,
    )
    .0
}

#[test]
fn routes_come_change_and_go() {
    sandboxed("routes_come_change_and_go", || {
        let mut vpc = open();
        let a = vpc.host("private-a", "10.20.8.10", &["open"]);
        let p = vpc.host("public", "10.20.0.10", &["open"]);
        let nat = || RouteTarget::NatGateway(id_text("nat-", "nat"));
        assert!(reaches_the_internet(&vpc, &a, "10.20.8.10"));
        vpc.routes("private-a", &[]);
        assert!(!reaches_the_internet(&vpc, &a, "10.20.8.10"));
        vpc.routes("private-a", &[("52.0.0.0/8", nat())]);
        assert!(reaches_the_internet(&vpc, &a, "10.20.8.10"));
        // The longest prefix counts.
        vpc.routes("private-a", &[("52.0.0.0/8", nat()), ("52.78.83.0/24", RouteTarget::Blackhole)]);
        assert!(!reaches_the_internet(&vpc, &a, "10.20.8.10"));
        vpc.routes("private-a", &[("52.0.0.0/8", RouteTarget::Blackhole), ("52.78.83.0/24", nat())]);
        assert!(reaches_the_internet(&vpc, &a, "10.20.8.10"));
        // A gateway that is not there.
        vpc.routes("private-a", &[("0.0.0.0/0", RouteTarget::NatGateway("nat-0".to_owned()))]);
        assert!(!reaches_the_internet(&vpc, &a, "10.20.8.10"));
        // The VPC's own addresses come first, whatever the table says, and the other table is not touched.
        vpc.routes("private-a", &[("10.20.0.0/16", RouteTarget::Blackhole)]);
        assert_eq!(vpc.outcome(&a, Frame::new("10.20.8.10", "10.20.0.10", Udp(1, 1)), &p), Passes);
        vpc.fabric.set_public(ip("10.20.0.10"), Some(ip("203.0.113.10"))).unwrap();
        assert!(reaches_the_internet(&vpc, &p, "10.20.0.10"));
    });
}

#[test]
fn a_subnet_takes_another_route_table_with_all_its_ports() {
    sandboxed("a_subnet_takes_another_route_table_with_all_its_ports", || {
        let mut vpc = open();
        let a = vpc.host("private-a", "10.20.8.10", &["open"]);
        let a2 = vpc.host("private-a", "10.20.8.20", &["open"]);
        assert!(reaches_the_internet(&vpc, &a, "10.20.8.10"));
        let own = vpc.plan.subnets[&id_for("private-a")].route_table.clone();
        vpc.plan.route_tables.insert("rtb-nowhere".to_owned(), Vec::new());
        vpc.plan.subnets.get_mut(&id_for("private-a")).unwrap().route_table = "rtb-nowhere".to_owned();
        vpc.follow();
        for (host, address) in [(&a, "10.20.8.10"), (&a2, "10.20.8.20")] {
            assert!(!reaches_the_internet(&vpc, host, address), "{address}");
        }
        // The table it had goes, with its rules and routes; then everything comes back.
        let kept = vpc.plan.route_tables.remove(&own).unwrap();
        let rules = || Rtnl::open().unwrap().rules().unwrap().len();
        let before = rules();
        vpc.follow();
        assert_eq!(rules(), before - 2);
        vpc.plan.route_tables.insert(own.clone(), kept);
        vpc.plan.subnets.get_mut(&id_for("private-a")).unwrap().route_table = own;
        vpc.plan.route_tables.remove("rtb-nowhere");
        vpc.follow();
        assert_eq!(rules(), before - 2);
        for (host, address) in [(&a, "10.20.8.10"), (&a2, "10.20.8.20")] {
            assert!(reaches_the_internet(&vpc, host, address), "{address}");
        }
    });
}

#[test]
fn nat_gateways_come_and_go() {
    sandboxed("nat_gateways_come_and_go", || {
        let mut vpc = open();
        let b = vpc.host("private-b", "10.20.16.10", &["open"]);
        let (first, second) = (id_text("nat-", "nat"), "nat-0123456789abcdef0".to_owned());
        let links =
            || Rtnl::open().unwrap().links().unwrap().into_iter().filter(|l| l.name.as_str().starts_with("n-")).count();
        vpc.plan.nat_gateways.push(NatGatewaySpec {
            id: second.clone(),
            subnet: id_for("public"),
            private_ip: ip("10.20.0.77"),
            public_ip: ip("203.0.113.77"),
        });
        vpc.routes("private-b", &[("0.0.0.0/0", RouteTarget::NatGateway(second.clone()))]);
        assert!(reaches_the_internet(&vpc, &b, "10.20.16.10"));
        assert_eq!(links(), 2);
        let named = |id: &str| vpc.fabric.gateway(id).is_some();
        assert!(named(&first) && named("nat") && named(&second));
        vpc.plan.nat_gateways.retain(|nat| nat.id == second);
        vpc.follow();
        assert!(reaches_the_internet(&vpc, &b, "10.20.16.10"));
        vpc.plan.nat_gateways.clear();
        vpc.follow();
        assert!(!reaches_the_internet(&vpc, &b, "10.20.16.10"));
        assert_eq!((links(), vpc.fabric.gateway("nat").is_some()), (0, false));
        let to_it = Frame::new("10.20.16.10", "10.20.0.77", Echo(1));
        assert_eq!(vpc.outcome(&b, to_it, &b), NoRoute);
    });
}

#[test]
fn a_cidr_is_added_used_and_removed() {
    sandboxed("a_cidr_is_added_used_and_removed", || {
        let mut vpc = open();
        let a = vpc.host("private-a", "10.20.8.10", &["open"]);
        let to_pod = |port| Frame::new("10.20.8.10", "100.64.0.10", Udp(port, 1));
        let blackholes = || {
            let routes = Rtnl::open().unwrap().routes(Some(RouteTable(500))).unwrap();
            routes
                .into_iter()
                .filter(|route| route.kind == RouteKind::Blackhole)
                .map(|route| route.to)
                .collect::<Vec<_>>()
        };
        assert_eq!(blackholes(), [net("10.20.0.0/16")]);
        vpc.plan.cidrs.push(net("100.64.0.0/16"));
        vpc.subnet("pods", "100.64.0.0/19", "private-a");
        assert_eq!(blackholes(), [net("10.20.0.0/16"), net("100.64.0.0/16")]);
        assert_eq!(vpc.outcome(&a, to_pod(1), &a), NoRoute);
        let pod = vpc.host("pods", "100.64.0.10", &["open"]);
        assert_eq!(vpc.outcome(&a, to_pod(1), &pod), Passes);
        assert_eq!(vpc.outcome(&pod, Frame::new("100.64.0.10", "10.20.8.10", Udp(1, 2)), &a), Passes);
        assert!(reaches_the_internet(&vpc, &pod, "100.64.0.10"));
        vpc.fabric.detach(&pod.eni.id).unwrap();
        vpc.plan.subnets.remove(&id_for("pods"));
        vpc.plan.cidrs.pop();
        vpc.follow();
        assert_eq!(blackholes(), [net("10.20.0.0/16")]);
        // It is an address like any other now: the default route has it.
        let igw = vpc.fabric.gateway("nat").unwrap();
        let seen =
            vpc_lab::capture::Capture::start(igw.enter(|| vpc_lab::capture::open_socket("eth0")).unwrap().unwrap())
                .unwrap();
        a.send(to_pod(3));
        let patience = std::time::Duration::from_secs(10);
        assert!(
            seen.wait_for(patience, |p| !p.outgoing && p.is_between(ip("10.20.8.10"), ip("100.64.0.10"))).is_some()
        );
    });
}

#[test]
fn a_route_to_an_eni_needs_its_check_to_be_off() {
    sandboxed("a_route_to_an_eni_needs_its_check_to_be_off", || {
        let mut vpc = open();
        let a = vpc.host("private-a", "10.20.8.10", &["open"]);
        let mut router = vpc.host("public", "10.20.0.10", &["open"]);
        let far = |port| Frame::new("10.20.8.10", "192.0.2.7", Udp(port, 7));
        let by_router = RouteTarget::NetworkInterface(router.eni.id.clone());
        vpc.routes("private-a", &[("0.0.0.0/0", by_router.clone())]);
        // On: neither for others nor from others.
        assert_eq!(vpc.outcome(&a, far(1), &router), NoRoute);
        let answer = Frame::new("192.0.2.7", "10.20.8.10", Udp(7, 1));
        assert_eq!(vpc.outcome(&router, answer, &a), Spoofed);
        assert_eq!(vpc.outcome(&a, Frame::new("10.20.8.10", "10.20.0.10", Udp(1, 1)), &router), Passes);
        // Off, at run time: both.
        router.change(&vpc, |eni| eni.source_dest_check = false);
        assert_eq!(vpc.outcome(&a, far(1), &router), Passes);
        assert_eq!(vpc.outcome(&router, answer, &a), Passes);
        // Its groups are asked what comes to it, whatever the destination.
        vpc.group("picky", &[("udp 7", "10.20.8.0/24")], ALL);
        router.change(&vpc, |eni| eni.groups = vec![common::vpc::group("picky")]);
        assert_eq!(vpc.outcome(&a, far(2), &router), Passes);
        assert_eq!(vpc.outcome(&a, Frame::new("10.20.8.10", "192.0.2.7", Syn(2, 7)), &router), IngressDenied);
        // On again.
        router.change(&vpc, |eni| eni.source_dest_check = true);
        assert_eq!(vpc.outcome(&a, far(3), &router), NoRoute);
        // Gone, and another one in its place, from the start without a check.
        router.change(&vpc, |eni| eni.source_dest_check = false);
        vpc.fabric.detach(&router.eni.id).unwrap();
        assert_eq!(vpc.outcome(&a, far(4), &router), NoRoute);
    });
}

#[test]
fn a_vpc_costs_no_ttl_and_gateways_one_each() {
    sandboxed("a_vpc_costs_no_ttl_and_gateways_one_each", || {
        let mut vpc = open();
        vpc.group("closed", &[], ALL);
        let a = vpc.host("private-a", "10.20.8.10", &["closed"]);
        let b = vpc.host("private-b", "10.20.16.10", &["open"]);
        for (sent, arrives) in [(64, 64), (1, 1), (2, 2), (254, 254), (255, 254)] {
            b.forget();
            let frame = Frame { ttl: sent, ..Frame::new("10.20.8.10", "10.20.16.10", Udp(u16::from(sent), 1)) };
            assert_eq!(vpc.outcome(&a, frame, &b), Passes);
            assert!(b.any(|p| p.ipv4().is_some_and(|ip| ip.ttl == arrives)), "{sent}");
        }
        // The way to the internet is to be seen: the NAT gateway first, the internet gateway second. The errors are let in because they
        // are about something that was sent.
        for (ttl, hop) in [(1, "10.20.0.4"), (2, "169.254.0.2")] {
            a.forget();
            a.send(Frame { ttl, ..Frame::new("10.20.8.10", &HOST.to_string(), Udp(40_000, 33_434)) });
            let exceeded = |p: &Packet| matches!(p.ipv4(), Some(ip) if ip.protocol == 1 && ip.source != HOST);
            assert_eq!(a.expect(exceeded).ipv4().unwrap().source, ip(hop));
        }
        a.forget();
        a.send(Frame { ttl: 3, ..Frame::new("10.20.8.10", &HOST.to_string(), Udp(40_000, 33_434)) });
        a.expect(|p| p.is_between(HOST, ip("10.20.8.10")));
    });
}

#[test]
fn the_filter_does_not_grow_rules_with_addresses_or_enis() {
    sandboxed("the_filter_does_not_grow_rules_with_addresses_or_enis", || {
        let mut vpc = open();
        vpc.group("web", &[("tcp 80", "open"), ("tcp 443", "0.0.0.0/0")], ALL);
        let table = Table::new(Family::Ip, "vpc-lab");
        let rules = || Nft::open().unwrap().rules(&table).unwrap().len();
        let elements = |set: &str| Nft::open().unwrap().elements(&table, set).unwrap().len();
        let empty = rules();
        let _first = vpc.host("private-a", "10.20.8.10", &["open", "web"]);
        let one = rules();
        let more: Vec<_> = (0..20)
            .map(|n| {
                let prefixes = [format!("10.20.{}.0", 64 + n), format!("10.20.{}.16", 64 + n)];
                let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
                vpc.host("private-b", &format!("10.20.16.{}", 10 + n), &["web", "open"]).with_addresses(
                    &vpc,
                    &[],
                    &prefixes,
                )
            })
            .collect();
        assert_eq!(rules(), one);
        assert_eq!(elements(common::vpc::group("web").as_str()), 1 + 20 * (1 + 32));
        for host in more.iter().chain([&_first]) {
            vpc.fabric.detach(&host.eni.id).unwrap();
        }
        assert_eq!((rules(), elements("sources"), elements(common::vpc::group("web").as_str())), (empty, 0, 0));
    });
}

#[test]
fn every_test_here_also_passes_for_nobody() {
    nobody::run_all_as_nobody("every_test_here_also_passes_for_nobody");
}

#[test]
fn the_cost_of_the_fabric_is_measured_beside_a_plain_router() {
    let few = ["tool", "cost", "--rounds=1", "--round-trips=20", "--millis=20"];
    let output = std::process::Command::new(common::vpc_lab()).args(few).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let cost: vpc_lab::fabric::FabricCost = serde_json::from_str(&text).unwrap();
    for path in [cost.fabric, cost.control] {
        assert!(path.round_trip_micros > 0.0 && path.gigabits > 0.0, "{cost:?}");
    }
}
