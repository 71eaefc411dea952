//! The picture of made-up labs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::control::{DaemonStatus, EndpointStatus, HostEndpoints, KubeStatus, NeighbourStatus, WayOut};
use crate::fabric::{FabricStatus, Visit};
use crate::fault::{Fault, FaultReport};

const PLAIN: Paint = Paint { colours: false, now: SystemTime::UNIX_EPOCH };

fn subnet(name: &str, zone: &str, cidr: &str, free: u32, way_out: WayOut) -> SubnetStatus {
    SubnetStatus {
        id: format!("subnet-{name}"),
        name: name.to_owned(),
        zone: zone.to_owned(),
        cidr: cidr.parse().unwrap(),
        free,
        usable: 1019,
        way_out,
    }
}

fn eni(device: u8, subnet: &str, primary: &str, secondary: &[&str], prefixes: &[&str], slots: u32) -> EniStatus {
    let used = secondary.len() + prefixes.len();
    EniStatus {
        id: format!("eni-067094cea8ca40db{device}"),
        device,
        link: Some(format!("eth{device}")),
        mac: "06:00:00:00:00:01".to_owned(),
        subnet: subnet.to_owned(),
        primary: primary.parse().unwrap(),
        public: None,
        secondary: secondary.iter().map(|address| address.parse().unwrap()).collect(),
        prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
        slots_used: u32::try_from(used).unwrap(),
        slots,
        status: "attached".to_owned(),
    }
}

fn pod(node: &str, name: &str, address: &str) -> PodStatus {
    PodStatus {
        node: node.to_owned(),
        pod: format!("default/{name}").parse().unwrap(),
        phase: Phase::Running,
        address: address.parse().ok(),
        attempts: 1,
        add_micros: None,
        sandbox: None,
        result: None,
        error: None,
    }
}

fn node(name: &str, subnet: &str, enis: Vec<EniStatus>, pods: Vec<PodStatus>) -> NodeStatus {
    NodeStatus {
        name: name.to_owned(),
        instance: "i-0a1b2c3d4e5f60718".to_owned(),
        instance_type: "m5.large".to_owned(),
        zone: "ap-northeast-2a".to_owned(),
        subnet: subnet.to_owned(),
        on: true,
        problem: None,
        daemon: Some(DaemonStatus { pid: Some(7), ended: None, starts: 1, ready: true, ready_after_ms: Some(47) }),
        max_enis: 3,
        enis,
        pods,
    }
}

fn lab(subnets: Vec<SubnetStatus>, nodes: Vec<NodeStatus>) -> LabStatus {
    LabStatus {
        lab: "default".to_owned(),
        region: "ap-northeast-2".to_owned(),
        host: HostEndpoints {
            ec2: "127.0.0.1:33001".parse().ok(),
            kube: "127.0.0.1:33002".parse().ok(),
            problem: None,
        },
        faults: Vec::new(),
        since: SystemTime::UNIX_EPOCH,
        cidrs: vec!["10.20.0.0/16".parse().unwrap()],
        public_hosts: vec!["52.78.83.169".parse().unwrap()],
        nat_gateways: Vec::new(),
        subnets,
        neighbours: Vec::new(),
        services: Vec::new(),
        endpoints: Vec::new(),
        kube: KubeStatus::default(),
        nodes,
        fabric: FabricStatus::default(),
        link_local_dropped: None,
        visits: Vec::new(),
        supervisor: None,
    }
}

fn small() -> LabStatus {
    let public = subnet("public-a", "ap-northeast-2a", "10.20.0.0/22", 1018, WayOut::InternetGateway);
    let private = subnet("private-a", "ap-northeast-2a", "10.20.8.0/22", 1009, WayOut::NatGateway("nat-a".to_owned()));
    let alone = subnet("data-b", "ap-northeast-2b", "10.20.12.0/22", 0, WayOut::None);
    let first = eni(0, "private-a", "10.20.8.85", &["10.20.8.17", "10.20.8.18", "10.20.8.19"], &[], 9);
    let a = node("node-a", "private-a", vec![first], vec![pod("node-a", "web", "10.20.8.17")]);
    lab(vec![public, private, alone], vec![a])
}

fn text(lab: &LabStatus) -> String {
    let text = status(lab, PLAIN);
    let wide = text.lines().find(|line| line.chars().count() > WIDTH);
    assert_eq!(wide, None);
    assert!(!text.contains(ESCAPE));
    text
}

#[test]
fn a_lab_is_a_tree_of_zones_subnets_nodes_and_pods() {
    let mut lab = small();
    lab.nat_gateways = vec![("nat-a".to_owned(), "10.20.0.5".parse().unwrap(), "203.0.113.200".parse().unwrap())];
    lab.kube.objects = BTreeMap::from([("pods".to_owned(), 1), ("eniconfigs.crd.k8s.amazonaws.com".to_owned(), 3)]);
    assert_eq!(
        text(&lab),
        "\
lab default · up 0 s · ap-northeast-2 · 1 node, 1 pod
VPC 10.20.0.0/16
├─ ap-northeast-2a
│  ├─ public-a   10.20.0.0/22         1018 of 1019 free   igw
│  └─ private-a  10.20.8.0/22         1009 of 1019 free   nat nat-a
│     node-a · m5.large · i-0a1b2c3d4e5f60718 · daemon ready after 47 ms
│       eth0  10.20.8.85      ■□□······ 3/9   eni-067094cea8ca40db0
│         10.20.8.17      default/web
└─ ap-northeast-2b
   └─ data-b  10.20.12.0/22           0 of 1019 free   private

NAT gateways nat-a 10.20.0.5 = 203.0.113.200
internet     52.78.83.169
this host    EC2 http://127.0.0.1:33001 · Kubernetes https://127.0.0.1:33002 · eval \"$(vpc-lab env)\"
Kubernetes   3 eniconfigs, 1 pods
slots        ■ pod  □ free  · empty
"
    );
}

#[test]
fn prefixes_are_drawn_as_prefixes_and_those_with_pods_address_by_address() {
    let mut lab = small();
    lab.nodes[0].enis = vec![eni(0, "private-a", "10.20.8.85", &[], &["10.20.8.16/28", "10.20.9.0/28"], 9)];
    let text = text(&lab);
    assert!(text.contains("eth0  10.20.8.85      ▣▢······· 2/9   eni-"), "{text}");
    assert!(text.contains("│             10.20.8.16/28      □■□□□□□□□□□□□□□□ 1/16\n"), "{text}");
    assert!(!text.contains("10.20.9.0/28"), "{text}");
    assert!(text.contains("▣ prefix with pods  ▢ prefix\n"), "{text}");
}

#[test]
fn what_is_not_as_usual_is_said() {
    let mut lab = small();
    let mut other = eni(1, "data-b", "10.20.12.9", &[], &[], 9);
    (other.status, other.link) = ("attaching".to_owned(), None);
    lab.nodes[0].enis.push(other);
    lab.nodes[0].enis[0].public = "203.0.113.7".parse().ok();
    lab.nodes[0].on = false;
    lab.nodes[0].problem = Some("it broke\nin two".to_owned());
    lab.nodes[0].pods[0].phase = Phase::Lost;
    lab.fabric.spoofed = 3;
    lab.fabric.ingress_denied = 2;
    lab.link_local_dropped = Some(9);
    lab.kube.away = true;
    lab.host =
        HostEndpoints { problem: Some(format!("no loopback{}", " at all".repeat(20))), ..HostEndpoints::default() };
    lab.faults = vec![FaultReport {
        id: 4,
        fault: Fault::from_words("api-away", &[] as &[&str]).unwrap(),
        state: FaultState::Active,
        since_ms: 1200,
        until_ms: None,
        hits: Some(2),
        note: None,
    }];
    lab.neighbours = vec![NeighbourStatus {
        place: Place::Peer("data".to_owned()),
        cidrs: vec!["10.30.0.0/16".parse().unwrap()],
        hosts: vec!["10.30.0.10".parse().unwrap()],
    }];
    lab.endpoints = vec![EndpointStatus {
        id: "vpce-1".to_owned(),
        service: "com.amazonaws.ap-northeast-2.sts".to_owned(),
        subnet: "private-a".to_owned(),
        address: "10.20.8.9".parse().unwrap(),
    }];
    lab.services = vec![("sts".to_owned(), "52.94.0.10".parse().unwrap())];
    lab.visits = vec![Visit { host: "10.30.0.10".parse().unwrap(), place: Place::Peer("data".to_owned()), ..visit() }];
    let text = text(&lab);
    for wanted in [
        "node-a · m5.large · i-0a1b2c3d4e5f60718 · public 203.0.113.7 · no power\n",
        "│       ! it broke\n│       in two\n",
        "-     10.20.12.9      ········· 0/9   eni-067094cea8ca40db1 in data-b attaching\n",
        "10.20.8.17      default/web lost\n",
        "neighbours   peer:data 10.30.0.0/16 · hosts 10.30.0.10\n",
        "endpoints    com.amazonaws.ap-northeast-2.sts 10.20.8.9 in private-a\n",
        "services     sts 52.94.0.10\n",
        "             10.30.0.10 (peer:data) saw 10.20.8.17:4000 ask for /\n",
        "this host    no loopback",
        " at\n             all at all",
        "Kubernetes   away · no objects\n",
        "faults         4  holds     since 1.2 s         api-away  (2 hits)\n",
        "dropped      packets: 3 by the source check, 2 by ingress rules, 9 over the link-local limit\n",
    ] {
        assert!(text.contains(wanted), "{wanted}\nnot in:\n{text}");
    }
}

fn visit() -> Visit {
    Visit {
        at: SystemTime::UNIX_EPOCH,
        place: Place::World,
        host: "52.78.83.169".parse().unwrap(),
        source: "10.20.8.17".parse().unwrap(),
        port: 4000,
        path: "/".to_owned(),
    }
}

#[test]
fn ten_nodes_with_many_pods_fit_and_what_does_not_is_counted() {
    let nodes = (0..10).map(|i| {
        let addresses: Vec<String> = (0..49).map(|k| format!("10.20.8.{}", 10 + k)).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let pods =
            (0..49).map(|k| pod("n", &format!("a-pod-with-a-rather-long-name-{k}"), &format!("10.20.8.{}", 10 + k)));
        node(
            &format!("node-{i}"),
            "private-a",
            vec![eni(0, "private-a", "10.20.8.5", &addresses, &[], 49)],
            pods.collect(),
        )
    });
    let lab = LabStatus { nodes: nodes.collect(), ..small() };
    let text = text(&lab);
    assert!(text.contains(&format!("{} 49/49", "■".repeat(SLOTS))), "{text}");
    assert!(text.contains(&format!("│       {:<22}{}\n", "", "■".repeat(19))), "{text}");
    assert!(text.contains("and 41 more: vpc-lab pod list"), "{text}");
    assert!(text.lines().count() < 10 * 13 + 20, "{}", text.lines().count());
}

#[test]
fn a_node_in_no_known_subnet_is_not_lost() {
    let mut lab = small();
    lab.nodes[0].subnet = "gone".to_owned();
    assert!(text(&lab).contains("\nnode-a · m5.large"), "{}", text(&lab));
}

#[test]
fn colours_take_no_room_and_are_switched_off_at_a_cut() {
    let coloured = status(&small(), Paint { colours: true, ..PLAIN });
    assert!(coloured.contains("\x1b[32mdaemon ready after 47 ms\x1b[0m"), "{coloured:?}");
    let plain: String = coloured
        .split(ESCAPE)
        .enumerate()
        .fold(String::new(), |out, (i, piece)| out + if i == 0 { piece } else { piece.split_once('m').unwrap().1 });
    assert_eq!(plain, text(&small()));
    assert_eq!(cut("\x1b[1mabcdef\x1b[0m", 4), "\x1b[1mabc…\x1b[0m");
    assert_eq!(cut("abcd", 4), "abcd");
    assert_eq!(cut("äöüß!", 4), "äöü…");
}
