//! A whole node without kernel and cloud: real socket, real checkpoint, real agent; host and EC2 are on paper.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aws_k8s_agent::host::Hand;
use aws_k8s_agent::memory;
use aws_k8s_agent::node::{Cloud, Node};
use aws_k8s_agent::server::NodeIdentity;
use tokio::sync::Notify;
use vpc_agent::{
    CloudAnswer, CloudCall, CloudFailure, CloudUse, Config, DoomedLink, EniKind, EniTruth, FailureClass, Metadata,
    NodeFacts, Placing, SeenEni,
};
use vpc_hostnet::{HostOp, HostSettings, HostState, LinkAlias, PaperHost};
use vpc_ipam::{EniFacts, Target, Unit, WarmTarget};
use vpc_model::{CardIndex, DeviceIndex, Ipv4Net, Mac, Millis, PodRef, SandboxKey, Slot, Subnet, VethPrefix, WallTime};
use vpc_wire::checkpoint as file;
use vpc_wire::rpc::client::{CallError, Client};
use vpc_wire::rpc::node::{Attachment, CollectRequest, FindRequest, Matter, ReportRequest};
use vpc_wire::rpc::pb::{AddNetworkRequest, DelNetworkRequest};
use vpc_wire::rpc::{Cause, Refusal};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PATIENCE: Duration = Duration::from_secs(20);

/// EC2 on paper: one ENI, addresses from .11 on, at most so many.
struct PaperCloud {
    given: AtomicU32,
    most: u32,
    takes: Duration,
    /// The node's one ENI.
    eni: EniTruth,
}

impl Cloud for PaperCloud {
    async fn call(&self, call: CloudCall) -> Result<CloudAnswer, CloudFailure> {
        let count = match call {
            CloudCall::DescribeNode => return Ok(CloudAnswer::Node(vec![self.eni.clone()])),
            CloudCall::Assign { count, .. } => count,
            _ => return Err(refused(FailureClass::EniLimit)),
        };
        tokio::time::sleep(self.takes).await;
        let given = self.given.fetch_add(count, Ordering::SeqCst);
        if given + count > self.most {
            self.given.fetch_sub(count, Ordering::SeqCst);
            return Err(refused(FailureClass::SubnetExhausted));
        }
        let address = |i: u32| Slot::Address(Ipv4Addr::new(10, 20, 0, u8::try_from(11 + given + i).unwrap()));
        Ok(CloudAnswer::Assigned((0..count).map(address).collect()))
    }

    async fn metadata(&self) -> Result<Metadata, String> {
        Err("not on paper".to_owned())
    }

    async fn vpc_cidrs(&self) -> Option<Vec<Ipv4Net>> {
        None
    }
}

fn refused(class: FailureClass) -> CloudFailure {
    CloudFailure { class, action: "Assign".into(), code: "Code".into(), message: "on paper".into(), lost_before: false }
}

#[derive(Clone)]
struct OnPaper(Arc<Mutex<PaperHost>>);

impl Hand for OnPaper {
    fn observe(&mut self) -> Result<HostState, String> {
        Ok(self.0.lock().unwrap().observe())
    }

    fn apply(&mut self, ops: &[HostOp]) -> Result<(), String> {
        let mut host = self.0.lock().unwrap();
        ops.iter().try_for_each(|op| host.apply(op)).map_err(|error| error.to_string())
    }

    fn remove_links(&mut self, links: &[DoomedLink]) -> Result<(), String> {
        let mut host = self.0.lock().unwrap();
        links.iter().for_each(|doomed| host.remove_link_of(&doomed.link, &doomed.owner.to_string()));
        Ok(())
    }

    fn forget_flows(&mut self, _: &[Ipv4Addr]) -> Result<(), String> {
        Ok(())
    }
}

/// The world around daemons that come and go.
struct World {
    folder: tempfile::TempDir,
    host: OnPaper,
    most: u32,
    wait: Millis,
    rest: Millis,
    /// How long a call to EC2 takes.
    takes: Duration,
}

/// One run of the daemon.
struct Run {
    end: Arc<Notify>,
    thread: JoinHandle<anyhow::Result<()>>,
    ready: Arc<Mutex<Option<Instant>>>,
}

impl World {
    fn new() -> Self {
        let address: Ipv4Net = "10.20.0.10/24".parse().unwrap();
        let host = PaperHost::booted(&"eth0".parse().unwrap(), MAC, address, Ipv4Addr::new(10, 20, 0, 1)).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            host: OnPaper(Arc::new(Mutex::new(host))),
            most: 9,
            wait: Millis(300),
            rest: Millis::seconds(30),
            takes: Duration::ZERO,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("aws-node/ipamd.sock")
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder.path().join("aws-node/ipam.json")
    }

    /// Starts a daemon; `held` are the addresses the metadata show on its ENI.
    fn start(&self, held: u32) -> Run {
        let (end, ready) = (Arc::new(Notify::new()), Arc::new(Mutex::new(None)));
        let node = node(self, held);
        let (ended, is_ready) = (end.clone(), ready.clone());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let note = move || {
                *is_ready.lock().unwrap() = Some(Instant::now());
                Ok(())
            };
            runtime.block_on(node.serve(|_| Ok(()), note, async move { ended.notified().await }))
        });
        let run = Run { end, thread, ready };
        run.wait_until(|run| run.ready.lock().unwrap().is_some());
        run
    }

    fn client(&self) -> Client {
        Client::connect(&self.socket(), PATIENCE).unwrap()
    }

    fn add(&self, container: &str) -> Result<Ipv4Addr, CallError> {
        let reply = self.client().add_network(request(container), PATIENCE)?;
        assert!(reply.success);
        Ok(reply.allocations[0].ipv4.parse().unwrap())
    }

    fn del(&self, container: &str) -> Result<Ipv4Addr, CallError> {
        let AddNetworkRequest { k8s_pod_name, k8s_pod_namespace, if_name, network_name, container_id, .. } =
            request(container);
        let request = DelNetworkRequest {
            k8s_pod_name,
            k8s_pod_namespace,
            if_name,
            network_name,
            container_id,
            ..Default::default()
        };
        let reply = self.client().del_network(request, PATIENCE)?;
        Ok(reply.allocations[0].ipv4.parse().unwrap())
    }
}

/// A sandbox as the node's own service names it.
fn attachment(container: &str) -> Attachment {
    Attachment { container_id: container.into(), interface: "eth0".into() }
}

impl Run {
    fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < until && !self.thread.is_finished(), "the daemon did not get there");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(self) {
        self.end.notify_one();
        self.thread.join().unwrap().unwrap();
    }
}

fn request(container: &str) -> AddNetworkRequest {
    AddNetworkRequest {
        k8s_pod_name: format!("pod-{container}"),
        k8s_pod_namespace: "default".into(),
        if_name: "eth0".into(),
        network_name: "aws-cni".into(),
        container_id: container.into(),
        ..AddNetworkRequest::default()
    }
}

fn node(world: &World, held: u32) -> Node<PaperCloud, OnPaper> {
    let facts = EniFacts {
        id: "eni-0a1".parse().unwrap(),
        mac: MAC,
        card: CardIndex(0),
        device: DeviceIndex(0),
        subnet: Subnet::try_from("10.20.0.0/24".parse::<Ipv4Net>().unwrap()).unwrap(),
        subnet_id: Some("subnet-0a1".parse().unwrap()),
        primary: Ipv4Addr::new(10, 20, 0, 10),
    };
    let address = |i: u32| Slot::Address(Ipv4Addr::new(10, 20, 0, u8::try_from(11 + i).unwrap()));
    let slots: Vec<Slot> = (0..held).map(address).collect();
    let eni = EniTruth {
        id: facts.id.clone(),
        mac: facts.mac,
        primary: facts.primary,
        slots: slots.clone(),
        attachment: Some(("eni-attach-0a1".parse().unwrap(), CardIndex(0), DeviceIndex(0))),
        available: false,
        kind: EniKind::Ordinary,
        subnet: "subnet-0a1".parse().unwrap(),
        groups: vec![],
        tags: BTreeMap::new(),
        delete_on_termination: Some(true),
    };
    let target = Target {
        unit: Unit::Address,
        warm: WarmTarget::Enis(0),
        max_enis: 1,
        slots_per_eni: 9,
        max_pods: None,
        cool_down: world.rest,
        min_eni_age: Millis::seconds(60),
        release_every: Millis::seconds(30),
    };
    Node {
        cloud: PaperCloud { given: AtomicU32::new(held), most: world.most, takes: world.takes, eni },
        host: world.host.clone(),
        config: Config {
            target,
            limits_known: true,
            without_prefixes: None,
            host: HostSettings::default(),
            add_wait: world.wait,
            nonce: 1,
            audit_every: Millis::seconds(60),
            orphan_age: Millis::seconds(65),
            strays_after: Millis::seconds(60),
            cloud: CloudUse::Full,
            placing: Placing { custom: None, discovery: false, cluster: None },
            manage_untagged: true,
            tags: BTreeMap::new(),
            leaked_cleanup: false,
            manage_non_schedulable: false,
            look_ahead: false,
        },
        facts: NodeFacts {
            instance: "i-0a1".parse().unwrap(),
            vpc: "vpc-0a1".parse().unwrap(),
            zone: "us-west-2a".to_owned(),
            subnet: "subnet-0a1".parse().unwrap(),
            metadata: Metadata {
                enis: vec![SeenEni { facts, slots, usable: true }],
                unreadable: vec![],
                groups: vec![],
            },
            vpc_cidrs: vec!["10.20.0.0/16".parse().unwrap()],
            wall: aws_k8s_agent::clock::wall(),
        },
        memory: memory::recall(&world.checkpoint(), &mut world.host.clone(), &VethPrefix::default()).unwrap(),
        checkpoint: world.checkpoint(),
        socket: world.socket(),
        identity: NodeIdentity {
            address: Ipv4Addr::new(10, 20, 0, 10),
            instance: "i-0a1".parse().unwrap(),
            region: "us-west-2".into(),
            policy_mode: "".into(),
        },
        kubernetes: None,
    }
}

fn file(path: &Path) -> file::Checkpoint {
    file::load(path).unwrap().unwrap()
}

#[test]
fn an_address_is_on_disk_when_it_is_answered_and_survives_a_restart_with_its_rest() {
    let world = World::new();
    let first = world.start(0);
    let a = world.add("a").unwrap();
    let b = world.add("b").unwrap();
    assert_ne!(a, b);
    let on_disk: BTreeSet<_> = file(&world.checkpoint()).allocations.iter().map(|lease| lease.address).collect();
    assert_eq!(on_disk, BTreeSet::from([a.into(), b.into()]));
    assert_eq!(world.add("a").unwrap(), a, "asked again, the same");
    assert_eq!(world.del("b").unwrap(), b);
    let written = file(&world.checkpoint()).generation;
    first.stop();
    assert!(!world.socket().exists());

    let second = world.start(9);
    assert_eq!(world.add("a").unwrap(), a);
    let others: BTreeSet<_> = (0..7).map(|i| world.add(&format!("c{i}")).unwrap()).collect();
    assert!(others.len() == 7 && !others.contains(&a) && !others.contains(&b), "{b} rests: {others:?}");
    assert!(file(&world.checkpoint()).generation > written, "the file counts its writes over restarts");
    second.stop();
}

#[test]
fn a_refusal_comes_with_its_cause_and_a_del_of_the_unknown_says_so() {
    let world = World::new();
    let run = world.start(9);
    for i in 0..9 {
        world.add(&format!("p{i}")).unwrap();
    }
    let asked = Instant::now();
    let Err(CallError::Refused(Refusal { cause, message, numbers, .. })) = world.add("tenth") else { panic!() };
    assert_eq!(cause, Cause::AddressLimit);
    assert!(message.contains("all 9 addresses") && numbers.contains(&("held".into(), 9)), "{message} {numbers:?}");
    assert!(asked.elapsed() >= Duration::from_millis(300), "it was waited for");
    assert!(world.del("nobody").unwrap_err().is_unknown_pod());
    run.stop();
}

#[test]
fn an_exhausted_subnet_is_named() {
    let world = World { most: 0, ..World::new() };
    let run = world.start(0);
    let Err(CallError::Refused(refusal)) = world.add("a") else { panic!() };
    assert_eq!(refusal.cause, Cause::SubnetExhausted);
    assert!(refusal.retry_after.is_some());
    run.stop();
}

#[test]
fn bad_requests_are_refused_by_field() {
    let world = World::new();
    let run = world.start(9);
    let ask = |change: fn(&mut AddNetworkRequest)| {
        let mut request = request("a");
        change(&mut request);
        world.client().add_network(request, PATIENCE).unwrap_err()
    };
    for (change, want) in [
        ((|r| r.container_id.clear()) as fn(&mut AddNetworkRequest), "ContainerID is empty"),
        (|r| r.if_name.clear(), "IfName is empty"),
        (|r| r.network_name.clear(), "NetworkName is empty"),
        (|r| r.requires_multi_nic = true, "not in this release"),
        (|r| r.client_version = "v9".into(), "wrong client version \"v9\" (!= \"\")"),
    ] {
        let said = ask(change).to_string();
        assert!(said.contains(want), "{want}: {said}");
    }
    run.stop();
}

#[test]
fn a_caller_that_gives_up_takes_nobody_s_place() {
    let world = World { wait: Millis::seconds(15), rest: Millis(0), ..World::new() };
    let run = world.start(9);
    for i in 0..9 {
        world.add(&format!("p{i}")).unwrap();
    }
    let gave_up = world.client().add_network(request("a"), Duration::from_millis(200)).unwrap_err();
    assert!(matches!(gave_up, CallError::Silent { .. }), "{gave_up}");
    let freed = world.del("p0").unwrap();
    assert_eq!(world.add("b").unwrap(), freed, "had the first stayed in the queue, it would have it");
    run.stop();
}

#[test]
fn who_waits_when_the_daemon_ends_is_told_why() {
    let world = World { most: 0, wait: Millis::seconds(15), ..World::new() };
    let run = world.start(0);
    let client = world.client();
    let waiting = thread::spawn(move || client.add_network(request("a"), PATIENCE));
    thread::sleep(Duration::from_millis(100));
    run.stop();
    let Err(CallError::Refused(refusal)) = waiting.join().unwrap() else { panic!() };
    assert_eq!(refusal.cause, Cause::ShuttingDown);
}

#[test]
fn a_call_under_way_is_finished_before_the_end_and_its_result_is_kept() {
    let world = World { takes: Duration::from_millis(400), ..World::new() };
    let run = world.start(1);
    world.add("a").unwrap();
    // The pool is empty now, and more has been asked for.
    let asked = Instant::now();
    run.stop();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    let pool = file(&world.checkpoint()).pool.unwrap();
    assert!(pool[0].addresses.len() > 1, "EC2 has given them, so they must not be forgotten: {pool:?}");
}

#[test]
fn a_runtime_that_can_not_be_told_ends_the_daemon() {
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let served = node(&world, 9).serve(|_| Ok(()), || anyhow::bail!("read-only"), std::future::pending());
    let error = runtime.block_on(async { tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap_err() });
    assert!(error.to_string().contains("read-only"), "{error}");
    assert!(!world.socket().exists());
}

/// A pod's link and route as the plugin leaves them.
fn wire(world: &World, container: &str, address: Ipv4Addr) {
    let pod = PodRef { namespace: "default".into(), name: format!("pod-{container}") };
    let key = SandboxKey { network: "aws-cni".into(), container: container.into(), interface: "eth0".into() };
    let wiring = vpc_hostnet::wiring(&vpc_hostnet::PodWiring {
        address,
        table: vpc_model::RouteTable::MAIN,
        host_link: vpc_model::host_veth(&VethPrefix::default(), &pod),
        pod_link: "eth0".parse().unwrap(),
        host_mac: Mac([2, 0, 0, 0, 1, 1]),
        pod_mac: Mac([2, 0, 0, 0, 1, 2]),
        mtu: 9001,
        alias: LinkAlias::of(&key, &pod).to_string(),
        layout: vpc_hostnet::HostLayout::Classic,
    });
    world.host.0.lock().unwrap().wire(container, &wiring).unwrap();
}

#[test]
fn r53_a_damaged_checkpoint_is_kept_aside_and_the_kernel_s_links_tell_who_has_what() {
    let world = World::new();
    let first = world.start(0);
    let a = world.add("a").unwrap();
    wire(&world, "a", a);
    first.stop();
    for damage in [&b"{\"version\":\"vpc-cni-ipam/1\",\"alloc"[..], b"", b"{\"version\":\"vpc-cni-ipam/7\"}"] {
        std::fs::write(world.checkpoint(), damage).unwrap();
        let again = world.start(9);
        assert_eq!(world.add("a").unwrap(), a, "the pod keeps its address");
        assert_ne!(world.add("b").unwrap(), a);
        world.del("b").unwrap();
        again.stop();
    }
    let aside = std::fs::read_dir(world.checkpoint().parent().unwrap()).unwrap();
    let names = aside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("ipam.json.bad-")).count(), 3);
    // And where the file is gone altogether.
    std::fs::remove_file(world.checkpoint()).unwrap();
    let again = world.start(9);
    assert_eq!(world.add("a").unwrap(), a);
    again.stop();
}

/// R53: the pod's address is `A` in each.
#[test]
fn whatever_stands_where_the_checkpoint_should_be_the_node_starts_and_never_from_empty() {
    let world = World::new();
    let first = world.start(0);
    let a = world.add("a").unwrap();
    wire(&world, "a", a);
    first.stop();
    let own = std::fs::read_to_string(world.checkpoint()).unwrap();
    let newer = own.replace("vpc-cni-ipam/1", "vpc-cni-ipam/2");
    let entry = r#"{"networkName":"aws-cni","containerID":"a","ifName":"eth0","ipv4":"A","allocationTimestamp":1,"metadata":{}}"#;
    let reference = format!(r#"{{"version":"vpc-cni-ipam/1","allocations":[{entry}]}}"#).replace('A', &a.to_string());
    let twice = reference.replace("}]}", "},X]}").replace('X', entry).replace('A', &a.to_string());
    // What stands there, and whether it is kept aside.
    let files: &[(&str, &[u8], bool)] = &[
        ("a newer version", newer.as_bytes(), true),
        ("a version that is a number", br#"{"version":2,"allocations":[]}"#, true),
        ("no version", br#"{"allocations":[]}"#, true),
        ("half of it", &own.as_bytes()[..own.len() / 2], true),
        ("nothing", b"", true),
        ("zeros", &[0; 512], true),
        ("not JSON", b"<html>", true),
        ("another shape", br#"{"version":"vpc-cni-ipam/1","allocations":{"a":1}}"#, true),
        ("the reference's", reference.as_bytes(), false),
        ("one address twice", twice.as_bytes(), true),
    ];
    for (what, bytes, bad) in files {
        let folder = world.checkpoint().parent().unwrap().to_owned();
        for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().contains(".bad-") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        std::fs::write(world.checkpoint(), bytes).unwrap();
        let again = world.start(9);
        assert_eq!(world.add("a").unwrap(), a, "{what}: the pod keeps its address");
        let others: BTreeSet<_> = (0..8).map(|i| world.add(&format!("b{i}")).unwrap()).collect();
        assert!(!others.contains(&a), "{what}: no other pod gets it");
        again.stop();
        let aside = folder.join("ipam.json.bad-1");
        let kept = std::fs::read(&aside).ok();
        assert_eq!(kept.as_deref(), bad.then_some(*bytes), "{what}: a bad file is kept as it was");
        let now = file(&world.checkpoint());
        assert!(
            now.allocations.iter().any(|lease| lease.address == std::net::IpAddr::from(a)),
            "{what}: and written anew"
        );
    }
}

#[test]
fn a_checkpoint_that_can_not_be_written_promises_nothing() {
    let world = World::new();
    let run = world.start(9);
    world.add("first").unwrap();
    let folder = world.checkpoint().parent().unwrap().to_owned();
    // A folder where the file should be: renaming onto it fails for everybody, root too.
    std::fs::remove_file(world.checkpoint()).unwrap();
    std::fs::create_dir(world.checkpoint()).unwrap();
    let Err(CallError::Refused(refusal)) = world.add("a") else { panic!() };
    assert_eq!(refusal.cause, Cause::Checkpoint);
    std::fs::remove_dir(world.checkpoint()).unwrap();
    assert!(world.add("b").is_ok(), "it goes on when the disk does");
    run.stop();
    assert_eq!(
        std::fs::read_dir(folder)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains(".tmp"))
            .count(),
        0
    );
}

#[test]
fn r52_an_old_lease_of_a_pod_that_is_gone_ends_and_its_address_rests() {
    let world = World::new();
    world.start(0).stop();
    let mut old = file(&world.checkpoint());
    let address = Ipv4Addr::new(10, 20, 0, 11);
    old.allocations.push(file::Allocation {
        key: SandboxKey { network: "aws-cni".into(), container: "gone".into(), interface: "eth0".into() },
        address: address.into(),
        since: WallTime(aws_k8s_agent::clock::wall().0 - 600_000_000_000),
        pod: PodRef { namespace: "default".into(), name: "gone".into() },
        interfaces: 1,
        extra: file::AllocationExtra::default(),
    });
    file::store(&world.checkpoint(), &old).unwrap();
    let run = world.start(9);
    run.wait_until(|_| file(&world.checkpoint()).allocations.is_empty());
    assert_eq!(file(&world.checkpoint()).cooling.iter().map(|c| c.address).collect::<Vec<_>>(), [address]);
    run.stop();
}

#[test]
fn r48_a_del_that_found_no_daemon_is_carried_out_when_it_is_back() {
    let world = World::new();
    let first = world.start(0);
    let (a, b) = (world.add("a").unwrap(), world.add("b").unwrap());
    first.stop();
    let folder = aws_k8s_agent::tombstones::folder(&world.socket());
    let key = SandboxKey { network: "aws-cni".into(), container: "a".into(), interface: "eth0".into() };
    vpc_wire::tombstone::leave(&folder, &key, WallTime(1)).unwrap();
    std::fs::write(folder.join("rubbish"), "{").unwrap();
    let second = world.start(9);
    second.wait_until(|_| !folder.join("a@eth0").exists());
    let now = file(&world.checkpoint());
    assert_eq!(now.allocations.iter().map(|lease| lease.address).collect::<Vec<_>>(), [std::net::IpAddr::from(b)]);
    assert_eq!(now.cooling.iter().map(|rest| rest.address).collect::<Vec<_>>(), [a], "it rests like any other");
    assert!(folder.join("rubbish").exists(), "what is no note is left alone");
    second.stop();
}

#[test]
fn a_checkpoint_older_than_the_pods_gives_no_running_pod_s_address_away() {
    let world = World::new();
    let first = world.start(0);
    first.wait_until(|_| world.checkpoint().exists());
    let old = std::fs::read(world.checkpoint()).unwrap();
    let a = world.add("a").unwrap();
    wire(&world, "a", a);
    first.stop();
    std::fs::write(world.checkpoint(), old).unwrap();
    let second = world.start(9);
    let others: BTreeSet<_> = (0..8).map(|i| world.add(&format!("c{i}")).unwrap()).collect();
    assert!(!others.contains(&a), "{a} belongs to the pod whose link is there: {others:?}");
    assert_eq!(world.del("a").unwrap(), a, "and it can be given back");
    second.stop();
}

#[test]
fn r16_a_clock_set_forward_between_two_runs_ends_no_rest() {
    let world = World::new();
    let first = world.start(0);
    let address = world.add("a").unwrap();
    world.del("a").unwrap();
    first.stop();
    // All of it was recorded by a calendar an hour behind today's.
    let hour = 3_600_000_000_000;
    let mut old = file(&world.checkpoint());
    old.cooling.iter_mut().for_each(|rest| rest.released.0 -= hour);
    file::store(&world.checkpoint(), &old).unwrap();
    let anchor = world.checkpoint().with_file_name("ipam.clock");
    let text = std::fs::read_to_string(&anchor).unwrap();
    let (boot, offset) = text.trim().split_once(' ').unwrap();
    std::fs::write(&anchor, format!("{boot} {}", offset.parse::<i64>().unwrap() - hour)).unwrap();
    for _ in 0..2 {
        // The second start finds nothing left to move.
        let again = world.start(9);
        let rests = || file(&world.checkpoint()).cooling;
        again.wait_until(|_| rests().iter().any(|rest| rest.address == address));
        let age = aws_k8s_agent::clock::wall().0 - rests()[0].released.0;
        assert!((0..30_000_000_000).contains(&age), "released {age} ns ago");
        let others: BTreeSet<_> = (0..8).map(|i| world.add(&format!("c{i}")).unwrap()).collect();
        assert!(!others.contains(&address), "it rests");
        again.stop();
    }
}

#[test]
fn r53_after_a_damaged_file_a_node_goes_on_from_what_the_kernel_shows_never_from_nothing() {
    for damage in
        [&b"{\"version\":\"vpc-cni-ipam/9\",\"allocations\":[]}"[..], b"[]", b"\0\0\0\0", b"{\"version\":\"vpc"]
    {
        let world = World::new();
        let first = world.start(0);
        let held: Vec<_> = (0..5).map(|i| world.add(&format!("p{i}")).unwrap()).collect();
        (0..5).for_each(|i| wire(&world, &format!("p{i}"), held[i]));
        first.stop();
        std::fs::write(world.checkpoint(), damage).unwrap();
        let again = world.start(9);
        let others: BTreeSet<_> = (0..4).map(|i| world.add(&format!("new{i}")).unwrap()).collect();
        assert!(held.iter().all(|address| !others.contains(address)), "{held:?} {others:?}");
        for (i, address) in held.iter().enumerate() {
            assert_eq!(world.del(&format!("p{i}")).unwrap(), *address, "known by its own container");
        }
        again.stop();
    }
}

/// The daemon speaks over its socket in the file system alone: whoever has the ports that others of its kind listen on keeps them.
#[test]
fn r50_ports_that_are_taken_are_nothing_to_it() {
    let taken: Vec<_> = [50051, 50052, 8080, 61678, 61679]
        .into_iter()
        .map(|port| std::net::TcpListener::bind(("0.0.0.0", port)))
        .collect();
    let world = World::new();
    let before = listening();
    let run = world.start(9);
    world.add("a").unwrap();
    assert_eq!(listening(), before, "and it listens on none itself");
    run.stop();
    drop(taken);
}

/// Sockets of this process that listen on TCP, by inode.
fn listening() -> BTreeSet<String> {
    let mine: BTreeSet<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables =
        ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default());
    let listening = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(3) == Some(&"0A")).then(|| words[9].to_owned())
    });
    listening.filter(|inode| mine.contains(inode)).collect()
}

/// STATUS, CHECK and GC over the socket, against the books and the disk.
#[test]
fn the_node_s_own_service_answers_for_the_books() {
    let world = World::new();
    let run = world.start(9);
    world.client().status(PATIENCE).unwrap();
    let [first, second] = ["c-1", "c-2"].map(|container| world.add(container).unwrap());
    let find = |container: &str| {
        world
            .client()
            .find(FindRequest { network: "aws-cni".into(), attachment: Some(attachment(container)) }, PATIENCE)
    };
    assert_eq!(find("c-1").unwrap().lease.unwrap().ipv4, first.to_string());
    assert!(find("c-9").unwrap_err().is_unknown_pod());
    assert!(find("").unwrap_err().to_string().contains("ContainerID is empty"));

    let now = || vpc_linux::monotonic_nanos().unwrap();
    let collect = |network: &str, called_at_ns| {
        let request = CollectRequest { network: network.into(), valid: vec![attachment("c-2")], called_at_ns };
        world.client().collect(request, PATIENCE)
    };
    // What was promised after the runtime called stays, and so do other networks' leases.
    assert_eq!(collect("aws-cni", now() - PATIENCE.as_nanos() as u64).unwrap().ended, []);
    assert_eq!(collect("other", now()).unwrap().ended, []);
    assert!(collect("", now()).unwrap_err().to_string().contains("network is empty"));
    run.wait_until(|_| {
        let ended = collect("aws-cni", now()).unwrap().ended;
        ended.iter().any(|lease| lease.ipv4 == first.to_string() && lease.pod_name == "pod-c-1")
    });
    assert!(find("c-1").unwrap_err().is_unknown_pod());
    assert_eq!(find("c-2").unwrap().lease.unwrap().ipv4, second.to_string());
    assert_eq!(collect("aws-cni", 0).unwrap().ended, [], "a second GC does nothing");
    let books = std::fs::read_to_string(world.checkpoint()).unwrap();
    assert!(!books.contains("c-1") && books.contains("c-2"), "{books}");

    // The plugin of an ADD holds its line until the runtime has the result: no list can have that pod yet.
    let working = world.client();
    working.add_network(request("c-3"), PATIENCE).unwrap();
    run.wait_until(|_| find("c-3").is_ok());
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(collect("aws-cni", now()).unwrap().ended, [], "its ADD is under way");
    }
    // One that ended after the runtime called was under way when the list was made.
    let called = now();
    drop(working);
    assert_eq!(collect("aws-cni", called).unwrap().ended, []);
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(collect("aws-cni", now()).unwrap().ended.len(), 1);

    let report = |matter, container: &str| {
        let attachment = Some(attachment(container));
        let request = ReportRequest { matter, network: "aws-cni".into(), attachment, ..ReportRequest::default() };
        world.client().report(request, PATIENCE)
    };
    report(Matter::NoPolicyAgent.into(), "c-2").unwrap();
    for odd in [0, 77] {
        assert!(report(odd, "c-2").unwrap_err().to_string().contains(&format!("matter is {odd}; expected 1")));
    }
    assert!(report(1, "").unwrap_err().to_string().contains("ContainerID is empty"));
    run.stop();
}
