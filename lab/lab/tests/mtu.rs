//! Sizes of packets: 9001 inside, 1500 outside, and who is told so. From nodes behind one-to-one and gateway NAT, and from pods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::{SMALL, nobody, options, start, topology};
use etherparse::{IpNumber, Ipv4HeaderSlice};
use vpc_lab::capture::{Packet, Transport};
use vpc_lab::control::Place;
use vpc_lab::kubelet::PodName;
use vpc_lab::tools::{EchoError, PingOptions, PingReport, Poured};
use vpc_lab::topology::TopologyFile;
use vpc_lab::{Lab, StartOptions};

const SOON: Duration = Duration::from_secs(2);
const HOST: Ipv4Addr = Ipv4Addr::new(52, 78, 83, 169);
/// Of an IPv4 and an ICMP header.
const HEADERS: usize = 28;
/// Of an Ethernet and an IPv4 header, and of an ICMP one.
const BEFORE_INNER: usize = 14 + 20 + 8;

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

/// Echo requests of that many bytes on the wire, never to be fragmented.
fn sized(size: usize) -> PingOptions {
    PingOptions { size: size - HEADERS, dont_fragment: true, ..PingOptions::default() }
}

fn told(report: &PingReport) -> Option<(Ipv4Addr, u16)> {
    match report.echoes[0].error {
        Some(EchoError::Icmp { from, kind: 3, code: 4, mtu: Some(mtu) }) => Some((from, mtu)),
        _ => None,
    }
}

fn is_told(p: &Packet) -> bool {
    matches!(p.ipv4().map(|ip| &ip.inside), Some(Transport::Icmp { kind: 3, code: 4, next_hop_mtu: Some(1500) }))
}

/// Asserts that a place is told of 1500 bytes, on one byte more and on many more, in words that are its own.
#[track_caller]
fn learns_1500(lab: &Lab, from: &Place, link: &str, own: Ipv4Addr) {
    let seen = lab.capture(from, link).unwrap();
    assert!(lab.ping(from, HOST, &sized(1500)).unwrap().all_answered(), "{from}: what fits passes");
    for size in [1501, 9001] {
        let report = lab.ping(from, HOST, &sized(size)).unwrap();
        assert_eq!(told(&report).map(|(_, mtu)| mtu), Some(1500), "{from}, {size} bytes: {report:?}");
        let message = seen.wait_for(SOON, is_told).unwrap();
        assert_eq!(message.ipv4().unwrap().destination, own, "{from}: {message}");
        // What it is about is the packet as its sender knows it: no public address of his is in it.
        let about = Ipv4HeaderSlice::from_slice(&message.bytes[BEFORE_INNER..]).unwrap();
        assert_eq!((about.source_addr(), about.destination_addr()), (own, HOST), "{from}: {message}");
        assert_eq!((about.protocol(), about.dont_fragment()), (IpNumber::ICMP, true), "{from}");
        seen.clear();
    }
}

#[test]
fn nodes_are_told_of_the_internet_s_smaller_packets_as_themselves() {
    let lab = start(&topology(SMALL));
    learns_1500(&lab, &node("a"), "eth0", Ipv4Addr::new(10, 20, 8, 10));
    learns_1500(&lab, &node("p"), "eth0", Ipv4Addr::new(10, 20, 0, 10));
    assert!(lab.ping(&node("a"), Ipv4Addr::new(10, 20, 0, 10), &sized(9001)).unwrap().all_answered(), "jumbo inside");
}

/// Half a second of a stream, and how much of it arrived.
#[track_caller]
fn poured(lab: &Lab, from: &Place, to: &Place, address: Ipv4Addr) -> Poured {
    std::thread::scope(|scope| {
        let sink = scope.spawn(|| lab.run(to, &["vpc-lab", "tool", "sink", "9000"]).unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        let address = address.to_string();
        let pour = ["vpc-lab", "tool", "pour", &address, "9000", "--millis=500"];
        while lab.run(from, &pour).unwrap().code != 0 {
            assert!(Instant::now() < deadline, "nobody listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = sink.join().unwrap();
        serde_json::from_str(output.stdout.trim_start_matches("ready\n")).unwrap_or_else(|_| panic!("{output:?}"))
    })
}

#[test]
fn streams_flow_at_full_size_inside_and_outside() {
    const OPEN: &str =
        "[[security_groups]]\nname = \"open\"\ningress = [{ protocol = \"tcp\", from = \"0.0.0.0/0\" }]\n";
    let text = SMALL.replace("name = \"p\"\n", "name = \"p\"\nsecurity_groups = [\"open\"]\n");
    let lab = start(&topology(&format!("{text}{OPEN}")));
    for (from, to, address) in [
        (node("a"), node("b"), Ipv4Addr::new(10, 20, 16, 10)),
        (node("a"), Place::World, HOST),
        (node("p"), Place::World, HOST),
        (Place::World, node("p"), Ipv4Addr::new(203, 0, 113, 10)),
    ] {
        let poured = poured(&lab, &from, &to, address);
        assert!(poured.bytes > 1 << 20, "{from} to {to}: {poured:?}");
    }
}

/// Even where the two ends have agreed on too much: the message of the gateway makes the sender's segments smaller.
#[test]
fn a_stream_of_too_large_segments_is_told_and_goes_on() {
    let lab = start(&topology(SMALL));
    // The world's own link is made larger, so that it announces jumbo segments; the line to it stays as it is.
    let raised = lab.run(&Place::World, &["ip", "link", "set", "eth0", "mtu", "9001"]);
    if !raised.is_ok_and(|output| output.code == 0) {
        return nobody::skip("a_stream_of_too_large_segments_is_told_and_goes_on", "ip is not on this machine");
    }
    let seen = lab.capture(&node("p"), "eth0").unwrap();
    let poured = poured(&lab, &node("p"), &Place::World, HOST);
    assert!(poured.bytes > 1 << 20, "{poured:?}");
    let message = seen.wait_for(SOON, is_told).expect("nobody was told");
    let about = Ipv4HeaderSlice::from_slice(&message.bytes[BEFORE_INNER..]).unwrap();
    assert_eq!((about.source_addr(), about.protocol()), (Ipv4Addr::new(10, 20, 0, 10), IpNumber::TCP));
}

#[test]
fn a_pod_is_told_too_through_its_node_s_translation_and_the_gateway_s() {
    const TEST: &str = "a_pod_is_told_too_through_its_node_s_translation_and_the_gateway_s";
    let programs = match nobody::real_programs() {
        Ok(programs) => programs,
        Err(reason) => return nobody::skip(TEST, &reason),
    };
    let mut file = TopologyFile::built_in().unwrap();
    file.nodes.truncate(2);
    let options = StartOptions { programs: Some(programs), ..options() };
    let (lab, warnings) = Lab::start(&file.resolve().unwrap(), &options).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings, Vec::<String>::new());
    let [near_pod, far_pod] = ["default/near", "default/far"].map(|name| name.parse::<PodName>().unwrap());
    let (near, far) = (lab.pod_add("node-a", &near_pod, 1).unwrap(), lab.pod_add("node-b", &far_pod, 1).unwrap());
    let place = Place::Pod("node-a".to_owned(), near_pod);
    learns_1500(&lab, &place, "eth0", near.address.unwrap());
    let between = lab.ping(&place, far.address.unwrap(), &sized(9001)).unwrap();
    assert!(between.all_answered(), "jumbo between pods: {between:?}");
    let poured = poured(&lab, &place, &Place::World, HOST);
    assert!(poured.bytes > 1 << 20, "{poured:?}");
    // A pod asks the VPC's resolver as any address of the VPC.
    let asked = lab.dns(&place, "example.com", &vpc_lab::tools::DnsOptions::of(Ipv4Addr::new(10, 20, 0, 2)));
    assert_eq!(asked.unwrap().answers, [HOST.to_string()]);
    let seen = lab.run(&place, &["getent", "ahostsv4", "example.com"]).unwrap();
    assert!(seen.stdout.starts_with(&HOST.to_string()), "{seen:?}");
}
