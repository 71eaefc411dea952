//! Both halves of the source check, address and MAC, with packets that differ from honest ones in nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::wire::{Echo, Wire, question};
use common::{SMALL, ec2, nobody, start, topology};
use vpc_lab::Lab;
use vpc_lab::capture::{Body, Capture, Packet, Transport};
use vpc_lab::control::Place;
use vpc_model::Mac;

const SOON: Duration = Duration::from_secs(2);
const A: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 10);
const A2: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 20);
const B: Ipv4Addr = Ipv4Addr::new(10, 20, 16, 10);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 1);

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

/// The MAC of a node's link.
fn mac(lab: &Lab, name: &str, link: &str) -> Mac {
    let status = lab.status().unwrap();
    let node = status.nodes.iter().find(|node| node.name == name).unwrap();
    node.enis.iter().find(|eni| eni.link.as_deref() == Some(link)).unwrap().mac.parse().unwrap()
}

/// The MAC the subnet's router has on a link, as it says itself.
fn router(lab: &Lab, wire: &Wire, link: &str, own: Mac, address: Ipv4Addr) -> Mac {
    let seen = lab.capture(&node("a"), link).unwrap();
    wire.send(&question(own, address, GATEWAY));
    let answer = seen.wait_for(SOON, |p| matches!(&p.body, Body::Arp(arp) if arp.answer && arp.sender == GATEWAY));
    answer.expect("the router answers").mac_source
}

fn spoofed(lab: &Lab) -> u64 {
    lab.status().unwrap().fabric.spoofed
}

/// The numbers of the echo requests that arrived.
fn numbers(arrivals: &Capture) -> Vec<u16> {
    let number = |packet: &Packet| match packet.ipv4()?.inside {
        Transport::Echo { reply: false, sequence, .. } => Some(sequence),
        _ => None,
    };
    arrivals.packets().iter().filter_map(number).collect()
}

/// The lie must be dropped and counted. The truth, sent after it, passes: so the lie is not just late.
#[track_caller]
fn dropped(lab: &Lab, arrivals: &Capture, lie: (&Wire, Echo), truth: (&Wire, Echo), what: &str) {
    const LIE: u16 = 1;
    const TRUTH: u16 = 2;
    let before = spoofed(lab);
    arrivals.clear();
    lie.0.send(&lie.1.frame(LIE));
    truth.0.send(&truth.1.frame(TRUTH));
    ec2::wait_until(|| numbers(arrivals), |numbers| numbers.contains(&TRUTH));
    assert_eq!((numbers(arrivals), spoofed(lab) - before), (vec![TRUTH], 1), "{what}");
}

#[test]
fn a_foreign_address_or_a_foreign_mac_is_dropped_and_counted() {
    let lab = start(&topology(SMALL));
    let arrivals = lab.capture(&node("b"), "eth0").unwrap();
    let wire = Wire::open(&lab, "a", "eth0");
    let own = mac(&lab, "a", "eth0");
    let truth = Echo { mac: own, router: router(&lab, &wire, "eth0", own, A), source: A, destination: B };
    let neighbour = mac(&lab, "a2", "eth0");
    let Mac(mut near) = own;
    near[5] ^= 1;
    for (lie, what) in [
        (Echo { source: A2, ..truth }, "a neighbour's address"),
        (Echo { source: Ipv4Addr::new(10, 20, 8, 99), ..truth }, "an address of the subnet that nobody has"),
        (Echo { source: Ipv4Addr::new(192, 0, 2, 1), ..truth }, "an address from elsewhere"),
        (Echo { mac: neighbour, ..truth }, "a neighbour's MAC"),
        (Echo { mac: Mac(near), ..truth }, "a MAC that is one bit off"),
        (Echo { mac: neighbour, source: A2, ..truth }, "both of a neighbour"),
    ] {
        dropped(&lab, &arrivals, (&wire, lie), (&wire, truth), what);
    }
}

#[test]
fn a_packet_leaves_only_by_the_eni_that_has_its_address() {
    let lab = start(&topology(SMALL));
    let eni = ec2::create(&lab, "private-a", 1);
    let pod = eni.private_ip_addresses.iter().find(|own| own.primary == Some(false)).unwrap().private_ip_address;
    ec2::attach(&lab, &eni.network_interface_id, "a");
    let arrivals = lab.capture(&node("b"), "eth0").unwrap();
    let (eth0, eth1) = (Wire::open(&lab, "a", "eth0"), Wire::up(&lab, "a", "eth1"));
    let (mac0, mac1) = (mac(&lab, "a", "eth0"), mac(&lab, "a", "eth1"));
    let (router0, router1) =
        (router(&lab, &eth0, "eth0", mac0, A), router(&lab, &eth1, "eth1", mac1, eni.private_ip_address.unwrap()));
    assert_ne!(router0, router1);
    let by_eth1 = Echo { mac: mac1, router: router1, source: pod, destination: B };
    let by_eth0 = Echo { mac: mac0, router: router0, source: pod, destination: B };
    dropped(&lab, &arrivals, (&eth0, by_eth0), (&eth1, by_eth1), "eth1's pod by eth0");
    dropped(&lab, &arrivals, (&eth0, Echo { mac: mac1, ..by_eth0 }), (&eth1, by_eth1), "and with eth1's MAC");
    let first = Echo { source: A, ..by_eth0 };
    dropped(&lab, &arrivals, (&eth1, Echo { source: A, ..by_eth1 }), (&eth0, first), "eth0's address by eth1");
}

#[test]
fn every_test_here_also_passes_for_nobody() {
    nobody::run_all_as_nobody("every_test_here_also_passes_for_nobody");
}
