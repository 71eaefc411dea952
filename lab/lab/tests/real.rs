//! The lab with our own daemon and plugin in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::traces::{EndsWithTest, Process, holders, mounts, namespace};
use common::{nobody, options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vpc_lab::capture::{Packet, Transport};
use vpc_lab::control::Place;
use vpc_lab::kubelet::PodName;
use vpc_lab::tools::HttpOptions;
use vpc_lab::topology::TopologyFile;
use vpc_lab::{Lab, StartOptions};

const IMDS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const TOKEN: &str = "http://169.254.169.254/latest/api/token";

fn pod(name: &str) -> PodName {
    format!("default/{name}").parse().unwrap()
}

fn start(programs: PathBuf, file: TopologyFile, dies_with_me: bool) -> Lab {
    let options = StartOptions { programs: Some(programs), dies_with_me, ..options() };
    let (lab, warnings) = Lab::start(&file.resolve().unwrap(), &options).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings, Vec::<String>::new());
    lab
}

fn token_request() -> HttpOptions {
    HttpOptions {
        method: "PUT".to_owned(),
        headers: vec![("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), "60".to_owned())],
        timeout: Duration::from_millis(500),
    }
}

#[test]
fn a_pod_gets_no_token_at_hop_limit_1_and_one_at_2_and_a_node_always() {
    const TEST: &str = "a_pod_gets_no_token_at_hop_limit_1_and_one_at_2_and_a_node_always";
    let programs = match nobody::real_programs() {
        Ok(programs) => programs,
        Err(reason) => return nobody::skip(TEST, &reason),
    };
    let mut file = TopologyFile::built_in().unwrap();
    file.nodes.truncate(2);
    file.nodes[1].hop_limit = Some(2);
    assert_eq!(file.nodes[0].hop_limit, None, "1 is what a node has if nothing is said");
    let lab = start(programs, file, true);
    for (name, hops, reaches_pods) in [("node-a", 1, false), ("node-b", 2, true)] {
        let web = pod(&format!("web-of-{name}"));
        lab.pod_add(name, &web, 1).unwrap();
        let (node, inside) = (Place::Node(name.to_owned()), Place::Pod(name.to_owned(), web));
        let token = lab.http(&node, TOKEN, &token_request()).unwrap();
        assert_eq!(token.status, 200, "a node always: {token:?}");

        // A pod's question arrives, and any other answer comes back: it is not the path that is missing.
        let unauthorized =
            lab.http(&inside, "http://169.254.169.254/latest/meta-data/", &HttpOptions::default()).unwrap();
        assert_eq!(unauthorized.status, 401, "{name}: {unauthorized:?}");
        let at_eth0 = lab.capture(&node, "eth0").unwrap();
        let reply = lab.http(&inside, TOKEN, &token_request()).unwrap();
        let got = (reply.status == 200 && !reply.body.is_empty(), reply.status);
        assert_eq!(got, if reaches_pods { (true, 200) } else { (false, 0) }, "{name}: {reply:?}");
        // The daemon's own connections (EC2, the cluster's API) cross the same link: only IMDS's address is meant.
        let answer = |p: &Packet| {
            !p.outgoing
                && p.ipv4().is_some_and(|ip| {
                    ip.source == IMDS && matches!(ip.inside, Transport::Tcp { source: 80, payload: 1.., .. })
                })
        };
        let answer = at_eth0.wait_for(Duration::from_secs(1), answer).expect("IMDS answers as far as the node");
        assert_eq!(answer.ipv4().unwrap().ttl, hops, "{name}");

        // What a pod was given works.
        if reaches_pods {
            let headers = vec![("x-aws-ec2-metadata-token".to_owned(), reply.body)];
            let options = HttpOptions { headers, ..HttpOptions::default() };
            let id = lab.http(&inside, "http://169.254.169.254/latest/meta-data/instance-id", &options).unwrap();
            let status = lab.status().unwrap();
            assert_eq!(id.body.trim(), status.nodes.iter().find(|own| own.name == name).unwrap().instance);
        }
    }
}

#[test]
fn a_killed_lab_with_daemons_and_pods_leaves_no_process_mount_or_namespace() {
    const TEST: &str = "a_killed_lab_with_daemons_and_pods_leaves_no_process_mount_or_namespace";
    let programs = match nobody::real_programs() {
        Ok(programs) => programs,
        Err(reason) => return nobody::skip(TEST, &reason),
    };
    let mounts_before = mounts();
    let lab = start(programs, TopologyFile::built_in().unwrap(), false);
    let supervisor = lab.supervisor_pid().unwrap();
    let _end = EndsWithTest::new(supervisor);
    for number in 0..5 {
        let node = ["node-a", "node-b", "node-c"][number % 3];
        lab.pod_add(node, &pod(&format!("web-{number}")), 1).unwrap();
    }
    let family = Process::family(supervisor);
    let daemons = family.iter().filter(|process| process.program().is_some_and(|own| own.ends_with("aws-k8s-agent")));
    assert_eq!(daemons.count(), 3, "{family:?}");
    let host = namespace(Path::new("/proc/self/ns/net")).unwrap();
    let own: BTreeSet<_> = family.iter().flat_map(Process::namespaces).collect();
    assert!(!own.contains(&host), "the lab holds the host's own network");
    // The router, the internet, two gateways, three nodes, five pods.
    assert_eq!(own.len(), 1 + 1 + 2 + 3 + 5, "{own:?}");
    // Whoever holds one of them, member of the family or not, must let go of it.
    let held: BTreeSet<_> = holders().into_iter().filter(|(_, namespace)| own.contains(namespace)).collect();
    assert!(held.iter().map(|(_, namespace)| namespace).collect::<BTreeSet<_>>().len() == own.len());

    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let left = || {
        let living: Vec<_> = family.iter().filter(|process| process.lives()).cloned().collect();
        let now = holders();
        (living, held.iter().filter(|holder| now.contains(holder)).cloned().collect::<Vec<_>>())
    };
    while left() != (Vec::new(), Vec::new()) {
        assert!(Instant::now() < deadline, "left over (processes; namespaces): {:?}", left());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(mounts(), mounts_before);
    assert_eq!(std::fs::read_dir(lab.place().mount_point()).map_or(0, Iterator::count), 0);
    assert!(!lab.place().is_up());
    lab.place().clear();
}

#[test]
fn every_test_here_also_passes_for_nobody() {
    nobody::run_all_as_nobody("every_test_here_also_passes_for_nobody");
}
