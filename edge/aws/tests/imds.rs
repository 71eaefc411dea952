//! The IMDS client against a stub: sessions, attempts, and the walk over ENIs of which one is sick.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Arrived, Step, Stub};
use tokio::time::Instant;
use vpc_aws::ImdsSettings;
use vpc_aws::imds::{Client, ImdsFailure, Observer, ReadRecord};
use vpc_model::{CardIndex, DeviceIndex};

const TOKEN_PATH: &str = "/latest/api/token";
const M0: &str = "0a:00:00:00:00:01";
const M1: &str = "0a:00:00:00:00:02";
const M2: &str = "0a:00:00:00:00:03";

/// The values of an instance with a primary ENI, one with prefixes on another card, and one that is EFA-only.
fn tree() -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    let mut put = |path: &str, value: &str| tree.insert(format!("/latest/{path}"), value.to_owned());
    put("meta-data/mac", M0);
    put("meta-data/instance-id", "i-0123456789abcdef0\n");
    put("meta-data/instance-type", "m5.large");
    put("meta-data/local-ipv4", "10.20.0.10");
    put("meta-data/placement/region", "eu-central-1");
    put("meta-data/placement/availability-zone", "eu-central-1a");
    put("dynamic/instance-identity/document", r#"{"region":"eu-west-9","accountId":"123456789012","new":[1]}"#);
    put("meta-data/network/interfaces/macs/", &format!("{M0}/\n{M1}/\n{M2}/"));
    let eni = |mac: &str, fields: &[(&str, &str)], put: &mut dyn FnMut(&str, &str)| {
        let base = format!("meta-data/network/interfaces/macs/{mac}");
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        put(&format!("{base}/"), &format!("{}\nipv4-associations/", names.join("\n")));
        for (name, value) in fields {
            put(&format!("{base}/{name}"), value);
        }
    };
    let mut put = |path: &str, value: &str| {
        tree.insert(format!("/latest/{path}"), value.to_owned());
    };
    eni(
        M0,
        &[
            ("interface-id", "eni-0a"),
            ("device-number", "0"),
            ("subnet-id", "subnet-0a"),
            ("vpc-id", "vpc-0a"),
            ("security-group-ids", "sg-01\nsg-02"),
            ("vpc-ipv4-cidr-blocks", "10.20.0.0/16\n100.64.0.0/16"),
            ("local-ipv4s", "10.20.0.10\n10.20.0.11"),
            ("subnet-ipv4-cidr-block", "10.20.0.0/22"),
        ],
        &mut put,
    );
    eni(
        M1,
        &[
            ("interface-id", "eni-0b"),
            ("device-number", "1"),
            ("network-card", "1"),
            ("subnet-id", "subnet-0b"),
            ("local-ipv4s", "10.20.4.10"),
            ("ipv4-prefix", "10.20.4.16/28 10.20.4.32/28"),
            ("subnet-ipv4-cidr-block", "10.20.4.0/22"),
            ("ipv6s", "fd00::1"),
            ("subnet-ipv6-cidr-blocks", "fd00::/64"),
        ],
        &mut put,
    );
    eni(M2, &[("interface-id", "eni-0c"), ("device-number", "2"), ("subnet-id", "subnet-0a")], &mut put);
    tree
}

fn value_of(tree: &BTreeMap<String, String>, path: &str) -> Step {
    match tree.get(path).or_else(|| tree.get(&format!("{path}/"))) {
        Some(value) => Step::answer(200, value.clone()),
        None => Step::answer(404, "<html>404</html>"),
    }
}

/// An IMDS whose sessions are called `token-0`, `token-1` …; only the newest is taken.
fn imds(tree: BTreeMap<String, String>) -> Stub {
    let issued = AtomicUsize::new(0);
    Stub::new(move |request| {
        if request.path == TOKEN_PATH {
            assert_eq!(
                (request.method.as_str(), request.header("x-aws-ec2-metadata-token-ttl-seconds")),
                ("PUT", Some("300"))
            );
            let token = format!("token-{}", issued.fetch_add(1, Ordering::SeqCst));
            return Step::answer(200, token).with("x-aws-ec2-metadata-token-ttl-seconds", "300");
        }
        let newest = issued.load(Ordering::SeqCst).checked_sub(1).map(|n| format!("token-{n}"));
        if newest.is_none() || request.header("x-aws-ec2-metadata-token") != newest.as_deref() {
            return Step::answer(401, "");
        }
        value_of(&tree, &request.path)
    })
}

fn client(stub: &Stub) -> Client {
    Client::with_http(ImdsSettings::default(), None, stub.transport())
}

fn tokens(stub: &Stub) -> usize {
    stub.count(|request| request.path == TOKEN_PATH)
}

#[tokio::test]
async fn a_node_reads_itself_over_tcp() {
    let stub = imds(tree());
    let settings = ImdsSettings { endpoint: stub.listen().await, ..ImdsSettings::default() };
    let client = Client::new(settings, None);
    let node = client.node().await.unwrap();
    assert_eq!(node.region, "eu-central-1");
    assert_eq!(node.instance_id.as_str(), "i-0123456789abcdef0");
    assert_eq!(node.mac.to_string(), M0);
    assert_eq!(node.security_groups.len(), 2);
    assert_eq!(node.vpc_ipv4_cidrs[1].to_string(), "100.64.0.0/16");
    assert_eq!(tokens(&stub), 1, "one session serves all readers");
    assert_eq!(client.walk().await.unwrap().enis.len(), 3);
    assert_eq!(client.get("spot/instance-action").await.unwrap(), None);
    assert_eq!(client.ipv6().await.unwrap(), None);
}

#[tokio::test]
async fn the_walk_gives_each_eni_with_what_it_has() {
    let stub = imds(tree());
    let walk = client(&stub).walk().await.unwrap();
    assert_eq!(walk.primary.to_string(), M0);
    assert!(walk.sick.is_empty());
    let [first, efa, second] = &walk.enis[..] else { panic!("{walk:?}") };
    assert!(first.primary && first.device_index == DeviceIndex(0));
    assert_eq!(first.ipv4.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.20.0.10", "10.20.0.11"]);
    assert_eq!(first.subnet.unwrap().to_string(), "10.20.0.0/22");
    assert_eq!((second.card, second.device_index), (CardIndex(1), DeviceIndex(1)));
    assert_eq!(
        second.ipv4_prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.20.4.16/28", "10.20.4.32/28"]
    );
    assert_eq!(second.subnet_ipv6.unwrap().to_string(), "fd00::/64");
    assert!(efa.ipv4.is_empty() && efa.subnet.is_none() && !efa.primary);
    // What an ENI does not list is not asked for.
    assert_eq!(stub.count(|r| r.path.ends_with("/ipv4-prefix")), 1);
    assert_eq!(stub.count(|r| r.path.ends_with("/network-card")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sick_eni_hides_none_of_the_others() {
    // What may be wrong with the second: gone, half there, rubbish, failing.
    let base = format!("/latest/meta-data/network/interfaces/macs/{M1}");
    let cases: [(&str, Option<&str>, bool); 4] = [
        ("interface-id", None, false),
        ("subnet-id", None, true),
        ("local-ipv4s", Some("10.20.4"), true),
        ("", None, true),
    ];
    for (field, value, has_id) in cases {
        let mut tree = tree();
        match value {
            Some(value) => tree.insert(format!("{base}/{field}"), value.into()),
            None => tree.remove(&format!("{base}/{field}")),
        };
        let walk = client(&imds(tree)).walk().await.unwrap();
        assert_eq!(walk.enis.iter().map(|e| e.eni_id.as_str()).collect::<Vec<_>>(), ["eni-0a", "eni-0c"], "{field}");
        let [sick] = &walk.sick[..] else { panic!("{field}: {walk:?}") };
        assert_eq!((sick.mac.to_string().as_str(), sick.eni_id.is_some()), (M1, has_id), "{field}");
        assert!(sick.error.path.contains(field), "{}", sick.error);
    }
    let tree = tree();
    let slow = Stub::new(move |request| match request.path.as_str() {
        TOKEN_PATH => Step::answer(200, "t"),
        path if path.contains(M1) => Step::Hang,
        path => value_of(&tree, path),
    });
    let walk = client(&slow).walk().await.unwrap();
    assert_eq!((walk.enis.len(), &walk.sick[0].error.failure), (2, &ImdsFailure::Timeout));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_before_it_expires() {
    let stub = imds(tree());
    let client = client(&stub);
    client.mac().await.unwrap();
    tokio::time::sleep(Duration::from_secs(279)).await;
    client.mac().await.unwrap();
    assert_eq!(tokens(&stub), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.mac().await.unwrap();
    assert_eq!(tokens(&stub), 2);
    assert_eq!(stub.count(|request| request.path != TOKEN_PATH), 3, "no read was refused");
}

#[tokio::test(start_paused = true)]
async fn a_refused_session_is_replaced_once() {
    let stub = imds(tree());
    let (first, second) = (client(&stub), client(&stub));
    first.mac().await.unwrap();
    // The second session makes the first one stale.
    second.mac().await.unwrap();
    first.mac().await.unwrap();
    assert_eq!(tokens(&stub), 3);

    let never = Stub::new(|request| match request.path.as_str() {
        TOKEN_PATH => Step::answer(200, "t"),
        _ => Step::answer(401, ""),
    });
    let error = client(&never).mac().await.unwrap_err();
    assert_eq!(error.failure, ImdsFailure::Status(401));
    assert_eq!(never.arrived().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn weak_answers_are_tried_again_and_absence_is_not() {
    let answers = Mutex::new(vec![Step::answer(200, M0), Step::Hang, Step::answer(503, "")]);
    let stub = Stub::new(move |request| match request.path.as_str() {
        TOKEN_PATH => Step::answer(200, "t"),
        _ => answers.lock().unwrap().pop().unwrap(),
    });
    assert_eq!(client(&stub).mac().await.unwrap().to_string(), M0);

    for (step, failure, attempts) in [
        (Step::answer(500, ""), ImdsFailure::Status(500), 3),
        (Step::Drop, ImdsFailure::Transport("io error: the connection was reset".into()), 3),
        (Step::answer(400, ""), ImdsFailure::Status(400), 1),
        (Step::answer(404, ""), ImdsFailure::NotFound, 1),
        (
            Step::answer(200, "nonsense"),
            ImdsFailure::BadValue { text: "nonsense".into(), expected: "a MAC address" },
            1,
        ),
    ] {
        let stub = Stub::new(move |request| match request.path.as_str() {
            TOKEN_PATH => Step::answer(200, "t"),
            _ => step.clone(),
        });
        let error = client(&stub).mac().await.unwrap_err();
        assert_eq!(error.failure, failure);
        assert_eq!(error.path, "/latest/meta-data/mac");
        assert_eq!(stub.count(|request| request.path != TOKEN_PATH), attempts, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_ends_in_time_and_says_what_may_be_wrong() {
    let stub = Stub::new(|_| Step::Hang);
    let started = Instant::now();
    let error = client(&stub).mac().await.unwrap_err();
    assert_eq!(error.failure, ImdsFailure::Timeout);
    assert!(error.to_string().contains("hop limit"), "{error}");
    // Three attempts of 750 ms, waits of 50 and 100 ms.
    assert_eq!(started.elapsed(), Duration::from_millis(2400));
    assert!(stub.arrived().iter().all(|request| request.path == TOKEN_PATH), "no fall-back to version 1");
}

#[derive(Default)]
struct Log {
    reads: Mutex<Vec<(String, Option<u16>)>>,
    fallbacks: Mutex<Vec<u16>>,
}

impl Observer for Log {
    fn read_done(&self, read: &ReadRecord<'_>) {
        self.reads.lock().unwrap().push((read.path.to_owned(), read.status));
    }
    fn fell_back_to_v1(&self, status: u16) {
        self.fallbacks.lock().unwrap().push(status);
    }
}

#[tokio::test]
async fn version_1_is_used_only_where_there_are_no_sessions_and_said_aloud() {
    let old = |request: &Arrived| match request.path.as_str() {
        TOKEN_PATH => Step::answer(404, ""),
        _ => {
            assert_eq!(request.header("x-aws-ec2-metadata-token"), None);
            Step::answer(200, M0)
        }
    };
    let stub = Stub::new(old);
    let log = Arc::new(Log::default());
    let observer = Arc::clone(&log) as Arc<dyn Observer>;
    let client = Client::with_http(ImdsSettings::default(), Some(observer), stub.transport());
    client.mac().await.unwrap();
    client.mac().await.unwrap();
    assert!(client.is_v1());
    assert_eq!((tokens(&stub), &*log.fallbacks.lock().unwrap()), (1, &vec![404]));
    assert_eq!(log.reads.lock().unwrap()[0], ("/latest/meta-data/mac".into(), Some(200)));

    let stub = Stub::new(old);
    let settings = ImdsSettings { allow_v1: false, ..ImdsSettings::default() };
    let error = Client::with_http(settings, None, stub.transport()).mac().await.unwrap_err();
    assert_eq!(error.failure, ImdsFailure::NoSession { status: 404 });
    assert_eq!(stub.arrived().len(), 1);
}

#[tokio::test]
async fn switched_off_means_off() {
    let stub = Stub::new(|_| Step::answer(200, M0));
    let settings = ImdsSettings { disabled: true, ..ImdsSettings::default() };
    let error = Client::with_http(settings, None, stub.transport()).mac().await.unwrap_err();
    assert!(error.to_string().contains("AWS_EC2_METADATA_DISABLED"), "{error}");
    assert!(stub.arrived().is_empty());
}

#[tokio::test]
async fn the_region_comes_from_the_identity_document_if_need_be() {
    let mut tree = tree();
    tree.remove("/latest/meta-data/placement/region");
    assert_eq!(client(&imds(tree.clone())).region().await.unwrap(), "eu-west-9");
    tree.insert("/latest/dynamic/instance-identity/document".into(), "[]".into());
    let error = client(&imds(tree)).region().await.unwrap_err();
    assert!(matches!(error.failure, ImdsFailure::BadValue { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn reads_are_concurrent_within_their_bound() {
    let tree = tree();
    let stub = Stub::new(move |request| match request.path.as_str() {
        TOKEN_PATH => Step::answer(200, "t"),
        path => Step::Late(Duration::from_millis(100), Box::new(value_of(&tree, path))),
    });
    let started = Instant::now();
    client(&stub).walk().await.unwrap();
    let reads = u32::try_from(stub.arrived().len() - 1).unwrap();
    let serial = Duration::from_millis(100) * reads;
    // Sixteen at a time; the chain list -> fields -> values is three long.
    assert!(started.elapsed() <= serial / 16 + Duration::from_millis(400), "{:?} of {serial:?}", started.elapsed());

    let settings = ImdsSettings { concurrency: 1, ..ImdsSettings::default() };
    let started = Instant::now();
    Client::with_http(settings, None, stub.transport()).walk().await.unwrap();
    assert_eq!(started.elapsed(), serial);
}

/// An instance with so many more ENIs, all like the second one but on the first card.
fn tree_with(more: usize) -> BTreeMap<String, String> {
    let mut tree = tree();
    let base = |mac: &str| format!("/latest/meta-data/network/interfaces/macs/{mac}");
    let model: Vec<_> =
        tree.iter().filter(|(path, _)| path.starts_with(&base(M0))).map(|(p, v)| (p.clone(), v.clone())).collect();
    let macs: Vec<String> = (0..more).map(|at| format!("0a:00:00:00:01:{at:02x}")).collect();
    for (at, mac) in macs.iter().enumerate() {
        tree.extend(model.iter().map(|(path, value)| (path.replace(M0, mac), value.clone())));
        tree.insert(format!("{}/interface-id", base(mac)), format!("eni-1{at:02x}"));
        tree.insert(format!("{}/device-number", base(mac)), (at + 1).to_string());
    }
    tree.insert(base(""), format!("{M0}/\n{}", macs.join("/\n")));
    tree
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_read_in_four_answers_after_another_and_nothing_twice() {
    const EACH: Duration = Duration::from_millis(50);
    for (more, requests, patience) in [(0, 17, 200), (1, 23, 200), (14, 101, 400)] {
        let tree = tree_with(more);
        let stub = Stub::new(move |request| {
            let answer = match request.path.as_str() {
                TOKEN_PATH => Step::answer(200, "t"),
                path => value_of(&tree, path),
            };
            Step::Late(EACH, Box::new(answer))
        });
        let started = Instant::now();
        let (node, walk) = client(&stub).instance().await.unwrap();
        let (took, arrived) = (started.elapsed(), stub.arrived());
        println!("{} ENIs: {} requests of {EACH:?} in {took:?}", walk.enis.len(), arrived.len());
        assert_eq!((walk.enis.len(), walk.sick.len()), (more + 1, 0));
        assert_eq!((node.mac, node.subnet_id), (walk.primary, walk.enis[0].subnet_id.clone()));
        let paths: std::collections::BTreeSet<_> = arrived.iter().map(|request| &request.path).collect();
        assert_eq!((arrived.len(), paths.len()), (requests, requests), "{paths:?}");
        assert!(took <= Duration::from_millis(patience), "{took:?}");
    }
}

#[tokio::test]
async fn an_instance_without_its_primary_eni_is_an_error_and_one_with_a_sick_other_is_not() {
    let path = |mac: &str| format!("/latest/meta-data/network/interfaces/macs/{mac}/device-number");
    for (mac, whole) in [(M0, false), (M1, true)] {
        let mut tree = tree();
        tree.remove(&path(mac));
        tree.remove("/latest/meta-data/placement/region");
        match client(&imds(tree)).instance().await {
            Ok((node, walk)) => {
                assert_eq!((whole, walk.sick.len(), walk.enis.len()), (true, 1, 2), "{mac}");
                assert_eq!(node.region, "eu-west-9", "from the identity document");
            }
            Err(error) => assert!(!whole && error.path == path(M0), "{mac}: {error}"),
        }
    }
}
