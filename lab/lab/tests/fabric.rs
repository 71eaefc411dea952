//! The VPC's network: who reaches whom, as whom, and what is dropped. Real packets, taken apart by another crate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::{SMALL, start, topology};
use vpc_lab::capture::{Body, Packet, Transport};
use vpc_lab::control::Place;
use vpc_lab::tools::{EchoError, HttpOptions, PingOptions};
use vpc_lab::{Lab, StartOptions};

const SOON: Duration = Duration::from_secs(2);
const A: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 10);
const A2: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 20);
const B: Ipv4Addr = Ipv4Addr::new(10, 20, 16, 10);
const HOST: Ipv4Addr = Ipv4Addr::new(52, 78, 83, 169);

/// For the last node of [`SMALL`], which stands in a public subnet: everybody may come.
const OPEN: &str = r#"security_groups = ["open"]
[[security_groups]]
name = "open"
ingress = [{ from = "0.0.0.0/0" }]
"#;

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

/// A ping that is expected to fail need not wait long.
fn brief() -> PingOptions {
    PingOptions { timeout: Duration::from_millis(300), ..PingOptions::default() }
}

/// The router's port of a node's primary ENI.
fn port(lab: &Lab, name: &str) -> String {
    let status = lab.status().unwrap();
    let node = status.nodes.iter().find(|node| node.name == name).unwrap();
    let eni = &node.enis.first().unwrap().id;
    status.fabric.ports.iter().find(|port| port.eni.to_string() == *eni).unwrap().link.clone()
}

#[test]
fn nodes_reach_each_other_as_themselves_without_encapsulation() {
    let lab = start(&topology(SMALL));
    let (at_a, at_b) = (lab.capture(&node("a"), "eth0").unwrap(), lab.capture(&node("b"), "eth0").unwrap());
    let report = lab.ping(&node("a"), B, &PingOptions::count(2)).unwrap();
    assert!(report.all_answered(), "{report:?}");
    let left = at_a.wait_for(SOON, Packet::is_echo_request).unwrap();
    let arrived = at_b.wait_for(SOON, Packet::is_echo_request).unwrap();
    assert!(left.outgoing && left.is_between(A, B) && arrived.is_between(A, B), "{left}\n{arrived}");
    let (left_ip, arrived_ip) = (left.ipv4().unwrap(), arrived.ipv4().unwrap());
    assert_eq!((left_ip.protocol, arrived_ip.protocol), (1, 1));
    assert_eq!((left_ip.ttl, arrived_ip.ttl), (64, 64), "there is no router to be seen, as on AWS");
    // Jumbo frames pass unfragmented, and not a byte more.
    let whole = PingOptions { size: 9001 - 28, dont_fragment: true, ..PingOptions::default() };
    assert!(lab.ping(&node("a"), B, &whole).unwrap().all_answered());
    let more = PingOptions { size: 9001 - 27, dont_fragment: true, ..PingOptions::default() };
    assert!(matches!(lab.ping(&node("a"), B, &more).unwrap().echoes[0].error, Some(EchoError::Send(_))));
}

#[test]
fn the_router_answers_arp_for_addresses_ec2_knows_and_for_no_others() {
    let lab = start(&topology(SMALL));
    let seen = lab.capture(&node("a"), "eth0").unwrap();
    let elsewhere = lab.capture(&Place::Fabric, &port(&lab, "a2")).unwrap();
    let nobody = Ipv4Addr::new(10, 20, 8, 77);
    assert!(lab.ping(&node("a"), A2, &PingOptions::count(1)).unwrap().all_answered());
    assert!(!lab.ping(&node("a"), nobody, &brief()).unwrap().all_answered());
    let answered =
        |who: Ipv4Addr| move |p: &Packet| matches!(&p.body, Body::Arp(arp) if arp.answer && arp.sender == who);
    let asked = |who: Ipv4Addr| move |p: &Packet| matches!(&p.body, Body::Arp(arp) if !arp.answer && arp.target == who);
    assert!(seen.wait_for(SOON, answered(A2)).is_some());
    assert!(seen.wait_for(SOON, asked(nobody)).is_some(), "nobody asked");
    assert_eq!(seen.wait_for(Duration::from_millis(100), answered(nobody)), None);
    // The other node of the subnet never hears the question: there is no wire between them.
    assert_eq!(elsewhere.wait_for(Duration::from_millis(100), asked(nobody)), None);
    // Both directions were answered by the ports' own MACs.
    let answer = seen.wait_for(SOON, answered(A2)).unwrap();
    assert!(answer.mac_source.0.starts_with(&[0x02, 0x5a]), "{}", answer.mac_source);
}

#[test]
fn the_router_remembers_only_what_it_was_told() {
    let lab = start(&topology(SMALL));
    for (from, to) in [("a", B), ("b", A), ("a2", A)] {
        let report = lab.ping(&node(from), to, &PingOptions::count(1)).unwrap();
        assert!(report.all_answered(), "{from} to {to}: {report:?}");
    }
    // /proc/net/arp: address, type, flags, MAC, mask, link; the flag 0x4 is "permanent".
    let table = lab.run(&Place::Fabric, &["cat", "/proc/self/net/arp"]).unwrap().stdout;
    let entries: Vec<_> = table.lines().skip(1).collect();
    assert!(!entries.is_empty());
    for entry in entries {
        assert_eq!(entry.split_whitespace().nth(2), Some("0x6"), "{entry}");
    }
}

#[test]
fn an_eni_sends_only_as_itself() {
    let lab = start(&topology(SMALL));
    let arrivals = lab.capture(&node("b"), "eth0").unwrap();
    assert_eq!(lab.status().unwrap().fabric.spoofed, 0);
    for source in [A2, Ipv4Addr::new(10, 20, 8, 99), HOST, Ipv4Addr::new(192, 0, 2, 1)] {
        let lie = PingOptions { source: Some(source), ..brief() };
        assert!(!lab.ping(&node("a"), B, &lie).unwrap().all_answered());
    }
    assert_eq!(lab.status().unwrap().fabric.spoofed, 4);
    assert_eq!(arrivals.wait_for(Duration::from_millis(100), Packet::is_echo_request), None);
    // The same packet, with the truth in it, passes.
    let truth = PingOptions { source: Some(A), ..PingOptions::default() };
    assert!(lab.ping(&node("a"), B, &truth).unwrap().all_answered());
}

#[test]
fn there_is_no_path_for_an_address_ec2_does_not_know() {
    let lab = start(&topology(SMALL));
    let nobody = Ipv4Addr::new(10, 20, 17, 77);
    let seen = lab.capture(&node("a"), "eth0").unwrap();
    let report = lab.ping(&node("a"), nobody, &brief()).unwrap();
    assert_eq!(report.echoes[0].error, Some(EchoError::Timeout), "dropped in silence");
    assert!(seen.wait_for(SOON, |p| p.is_between(A, nobody)).is_some());
}

#[test]
fn a_private_node_leaves_as_the_nat_gateway_and_a_public_one_as_itself() {
    let lab = start(&topology(SMALL));
    let url = format!("http://{HOST}/who");
    for (from, seen_as) in [("a", "203.0.113.128"), ("b", "203.0.113.128"), ("p", "203.0.113.10")] {
        let reply = lab.http(&node(from), &url, &HttpOptions::default()).unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.body.starts_with(&format!("hello {seen_as},")), "{}", reply.body);
    }
    let sources: Vec<_> =
        lab.visits().unwrap().iter().map(|visit| (visit.source.to_string(), visit.path.clone())).collect();
    let visit = |source: &str| (source.to_owned(), "/who".to_owned());
    assert_eq!(sources, [visit("203.0.113.128"), visit("203.0.113.128"), visit("203.0.113.10")]);
    assert!(lab.ping(&node("a"), HOST, &PingOptions::count(1)).unwrap().all_answered());
}

#[test]
fn the_internet_gateway_knows_only_addresses_with_a_public_one() {
    let open = format!("{SMALL}{OPEN}");
    let lab = start(&topology(&open));
    let outside = lab.capture(&Place::World, "eth0").unwrap();
    // A private address without mapping may reach the gateway, but no further: the public subnet's table leads there.
    let gateway = lab.capture(&Place::Gateway("igw".to_owned()), "vpc").unwrap();
    let unmapped = topology(
        &open
            .replace("public_ip = \"203.0.113.10\"", "")
            .replace("public = true", "public = true\nmap_public_ip = false"),
    );
    let other = start(&unmapped);
    let other_gateway = other.capture(&Place::Gateway("igw".to_owned()), "vpc").unwrap();
    let other_outside = other.capture(&Place::World, "eth0").unwrap();
    assert!(!other.ping(&node("p"), HOST, &brief()).unwrap().all_answered());
    assert!(other_gateway.wait_for(SOON, Packet::is_echo_request).is_some());
    assert_eq!(other_outside.wait_for(Duration::from_millis(100), Packet::is_echo_request), None);
    // From outside: the mapped address answers, private ones and unmapped public ones do not.
    assert!(lab.ping(&Place::World, Ipv4Addr::new(203, 0, 113, 10), &brief()).unwrap().all_answered());
    gateway.clear();
    for nobody in [A, Ipv4Addr::new(10, 20, 0, 10), Ipv4Addr::new(203, 0, 113, 11), Ipv4Addr::new(169, 254, 169, 254)] {
        assert!(!lab.ping(&Place::World, nobody, &brief()).unwrap().all_answered(), "{nobody}");
        assert!(outside.wait_for(SOON, |p| p.is_between(HOST, nobody)).is_some());
        assert_eq!(gateway.wait_for(Duration::from_millis(50), |p| p.outgoing && p.is_between(HOST, nobody)), None);
    }
}

#[test]
fn the_internet_has_smaller_packets_and_says_so() {
    let lab = start(&topology(SMALL));
    let big = PingOptions { size: 3000, dont_fragment: true, ..PingOptions::default() };
    for from in ["a", "p"] {
        let report = lab.ping(&node(from), HOST, &big).unwrap();
        let error = report.echoes[0].error.clone();
        assert!(matches!(error, Some(EchoError::Icmp { kind: 3, code: 4, mtu: Some(1500), .. })), "{from}: {error:?}");
    }
}

#[test]
fn a_connection_announces_the_segment_size_of_its_link() {
    let lab = start(&topology(SMALL));
    let seen = lab.capture(&node("a"), "eth0").unwrap();
    lab.http(&node("a"), &format!("http://{HOST}/"), &HttpOptions::default()).unwrap();
    let opening = seen.wait_for(SOON, |p| p.opens(80)).unwrap();
    let Transport::Tcp { mss, .. } = opening.ipv4().unwrap().inside else { panic!("{opening}") };
    assert_eq!(mss, Some(8961));
    let answer = |p: &Packet| matches!(p.ipv4().map(|ip| &ip.inside), Some(Transport::Tcp { flags, .. }) if flags.syn && flags.ack);
    let Transport::Tcp { mss, .. } = seen.wait_for(SOON, answer).unwrap().ipv4().unwrap().inside.clone() else {
        panic!()
    };
    assert_eq!(mss, Some(1460));
}

#[test]
fn imds_knows_every_node_by_its_address_and_its_tokens_go_no_further_than_allowed() {
    let lab = start(&topology(&SMALL.replace("name = \"b\"", "name = \"b\"\nhop_limit = 3")));
    let base = "http://169.254.169.254/latest";
    let ask = HttpOptions {
        method: "PUT".to_owned(),
        headers: vec![("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), "60".to_owned())],
        ..HttpOptions::default()
    };
    for (name, address, hops) in [("a", A, 1), ("b", B, 3)] {
        let seen = lab.capture(&node(name), "eth0").unwrap();
        let token = lab.http(&node(name), &format!("{base}/api/token"), &ask).unwrap();
        assert_eq!(token.status, 200, "{token:?}");
        let from_imds = |p: &Packet| {
            !p.outgoing && p.ipv4().is_some_and(|ip| matches!(ip.inside, Transport::Tcp { payload: 1.., .. }))
        };
        assert_eq!(seen.wait_for(SOON, from_imds).unwrap().ipv4().unwrap().ttl, hops, "{name}");
        let with_token = HttpOptions {
            headers: vec![("x-aws-ec2-metadata-token".to_owned(), token.body)],
            ..HttpOptions::default()
        };
        let own = lab.http(&node(name), &format!("{base}/meta-data/local-ipv4"), &with_token).unwrap();
        assert_eq!(own.body.trim(), address.to_string());
        // EC2's API is there too, and wants a signature.
        let unsigned =
            lab.http(&node(name), "http://169.254.169.200/?Action=DescribeInstances", &HttpOptions::default()).unwrap();
        assert!((400..500).contains(&unsigned.status), "{unsigned:?}");
    }
    // Nothing else listens in the router.
    for port in [22, 53, 443, 8080] {
        let url = format!("http://169.254.169.254:{port}/");
        let quick = HttpOptions { timeout: Duration::from_millis(200), ..HttpOptions::default() };
        assert_eq!(lab.http(&node("a"), &url, &quick).unwrap().status, 0);
    }
}

#[test]
fn two_labs_live_side_by_side_and_do_not_meet() {
    let (one, other) = (start(&topology(SMALL)), start(&topology(SMALL)));
    let seen = other.capture(&node("b"), "eth0").unwrap();
    assert!(one.ping(&node("a"), B, &PingOptions::count(1)).unwrap().all_answered());
    assert_eq!(seen.wait_for(Duration::from_millis(100), Packet::is_echo_request), None);
    let again = StartOptions { name: one.place().name.clone(), ..common::options() };
    let error = Lab::start(&topology(SMALL), &again).unwrap_err().to_string();
    assert!(error.contains("is up already") && error.contains("vpc-lab down"), "{error}");
}
