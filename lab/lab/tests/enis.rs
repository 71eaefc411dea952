//! ENIs and addresses come, go and move by EC2's API, called from a node; the fabric follows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::wire::{Wire, question};
use common::{SMALL, ec2, nobody, start, topology};
use vpc_aws::ec2::shapes::{AssignPrivateIpAddresses, UnassignPrivateIpAddresses};
use vpc_lab::Lab;
use vpc_lab::capture::{Body, Capture, Packet};
use vpc_lab::control::Place;
use vpc_lab::fabric::VPC_MTU;
use vpc_lab::tools::PingOptions;
use vpc_model::Mac;

const SOON: Duration = Duration::from_secs(2);
/// What has not come by then does not come: within a lab a packet takes microseconds.
const A_WHILE: Duration = Duration::from_millis(150);
const A2: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 20);
const B: Ipv4Addr = Ipv4Addr::new(10, 20, 16, 10);

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

/// a2 asks by ARP for an address: the router answers if it is `known`, and else it does not.
#[track_caller]
fn arp(lab: &Lab, address: Ipv4Addr, known: bool) {
    let seen = lab.capture(&node("a2"), "eth0").unwrap();
    let state = lab.status().unwrap();
    let mac: Mac = state.nodes.iter().find(|node| node.name == "a2").unwrap().enis[0].mac.parse().unwrap();
    Wire::open(lab, "a2", "eth0").send(&question(mac, A2, address));
    let asked = |p: &Packet| matches!(&p.body, Body::Arp(arp) if !arp.answer && arp.target == address);
    let answered = |p: &Packet| matches!(&p.body, Body::Arp(arp) if arp.answer && arp.sender == address);
    assert!(seen.wait_for(SOON, asked).is_some(), "the question was asked");
    let answer = seen.wait_for(if known { SOON } else { A_WHILE }, answered);
    assert_eq!(answer.is_some(), known, "an ARP answer for {address}");
}

/// b sends to an address: the packet arrives at these links (`node:link`) and at no other.
#[track_caller]
fn arrives_at(lab: &Lab, address: Ipv4Addr, wanted: &[&str]) {
    let links = |name| ec2::links(lab, name).into_iter().map(move |link| (name, link));
    let places: Vec<_> = ["a", "a2", "p"].into_iter().flat_map(links).filter(|(_, link)| link != "lo").collect();
    let captures: Vec<_> = places.iter().map(|(name, link)| lab.capture(&node(name), link).unwrap()).collect();
    let left = lab.capture(&node("b"), "eth0").unwrap();
    let once = PingOptions { timeout: A_WHILE, ..PingOptions::default() };
    lab.ping(&node("b"), address, &once).unwrap();
    let it = |p: &Packet| p.is_echo_request() && p.is_between(B, address);
    assert!(left.wait_for(SOON, it).is_some(), "it was sent");
    let hit = |(_, capture): &(_, &Capture)| capture.packets().iter().any(it);
    let hits = || -> Vec<_> {
        places.iter().zip(&captures).filter(hit).map(|((name, link), _)| format!("{name}:{link}")).collect()
    };
    ec2::wait_until(hits, |hits| hits == wanted);
}

/// Nobody in the VPC has it.
#[track_caller]
fn has_no_path(lab: &Lab, address: Ipv4Addr) {
    arrives_at(lab, address, &[]);
    arp(lab, address, false);
}

#[test]
fn a_detached_eni_takes_its_link_and_paths_along_and_brings_them_to_the_next_node() {
    let lab = start(&topology(SMALL));
    let eni = ec2::create(&lab, "private-a", 2);
    let id = &eni.network_interface_id;
    let addresses: Vec<_> = eni.private_ip_addresses.iter().map(|own| own.private_ip_address).collect();
    assert_eq!(addresses.len(), 3);
    // Not attached: EC2 knows the addresses, yet there is nowhere to send to.
    for address in &addresses {
        has_no_path(&lab, *address);
    }
    for name in ["a", "a2", "a"] {
        let attachment = ec2::attach(&lab, id, name);
        let state = lab.kernel_state(&node(name)).unwrap();
        let eth1 = state.links.iter().find(|link| link.name.as_str() == "eth1").unwrap();
        assert_eq!((eth1.mtu, eth1.up, eth1.addresses.len()), (VPC_MTU, false, 0), "as it comes on EC2");
        let status = lab.status().unwrap();
        let shown = status.nodes.iter().find(|node| node.name == name).unwrap();
        assert_eq!((shown.enis[1].link.as_deref(), &shown.enis[1].mac), (Some("eth1"), &eni.mac_address.to_string()));
        drop(Wire::up(&lab, name, "eth1"));
        for address in &addresses {
            arrives_at(&lab, *address, &[&format!("{name}:eth1")]);
            // At every port but the ENI's own, also if that is of the same node.
            arp(&lab, *address, true);
        }
        ec2::detach(&lab, attachment, name);
        assert_eq!(ec2::links(&lab, name), ["lo", "eth0"]);
        assert!(lab.status().unwrap().fabric.ports.iter().all(|port| port.eni != *id), "its port is gone");
        for address in &addresses {
            has_no_path(&lab, *address);
        }
    }
    let refusal = ec2::call(&lab, "a", &ec2::attachment(&lab, id, "b")).unwrap_err();
    assert_eq!(refusal.code, "InvalidParameterValue", "{refusal:?}");
    assert!(refusal.message.contains("availability zone"), "{refusal:?}");
    assert_eq!(ec2::links(&lab, "b"), ["lo", "eth0"]);
}

#[test]
fn an_address_has_a_path_and_an_arp_answer_exactly_while_ec2_knows_it() {
    let lab = start(&topology(SMALL));
    let status = lab.status().unwrap();
    let eni = status.nodes.iter().find(|node| node.name == "a").unwrap().enis[0].id.parse().unwrap();
    let never = Ipv4Addr::new(10, 20, 8, 250);
    let address = ec2::one_more(&lab, &eni);
    assert_ne!(address, never);
    arrives_at(&lab, address, &["a:eth0"]);
    arp(&lab, address, true);
    has_no_path(&lab, never);
    let unassign = UnassignPrivateIpAddresses {
        network_interface_id: eni.clone(),
        private_ip_addresses: vec![address],
        ipv4_prefixes: Vec::new(),
    };
    ec2::call(&lab, "a", &unassign).unwrap();
    has_no_path(&lab, address);
    // Once more, at another ENI of the subnet.
    let other = status.nodes.iter().find(|node| node.name == "a2").unwrap().enis[0].id.parse().unwrap();
    let request = AssignPrivateIpAddresses {
        secondary_private_ip_address_count: None,
        private_ip_addresses: vec![address],
        ..AssignPrivateIpAddresses::addresses(other, 1)
    };
    ec2::call(&lab, "a", &request).unwrap();
    arrives_at(&lab, address, &["a2:eth0"]);
}

#[test]
fn every_test_here_also_passes_for_nobody() {
    nobody::run_all_as_nobody("every_test_here_also_passes_for_nobody");
}
