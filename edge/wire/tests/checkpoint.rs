//! The checkpoint file: what is written, what is read, what is refused, what is left on disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use proptest::prelude::*;
use vpc_model::{CardIndex, DeviceIndex, Mac, PodRef, Prefix28, RouteTable, SandboxKey, Slot, WallTime};
use vpc_wire::checkpoint::{
    Allocation, AllocationExtra, Checkpoint, Cooling, Impossible, LoadError, ParseError, PoolEni, Text,
    clean_leftovers, keep_aside, load, store, store_text,
};

fn allocation(container: &str, address: &str) -> Allocation {
    Allocation {
        key: SandboxKey { network: "aws-cni".into(), container: container.into(), interface: "eth0".into() },
        address: address.parse().unwrap(),
        since: WallTime(1_712_345_678_901_234_567),
        pod: PodRef { namespace: "kube-system".into(), name: "coredns-1".into() },
        interfaces: 1,
        extra: AllocationExtra::default(),
    }
}

fn eni(id: &str, primary: &str, addresses: &[&str]) -> PoolEni {
    PoolEni {
        id: id.parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        device: DeviceIndex(1),
        card: CardIndex(0),
        subnet: "10.20.8.0/22".parse().unwrap(),
        subnet_id: Some("subnet-0a1".parse().unwrap()),
        primary: primary.parse().unwrap(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        prefixes: vec![Prefix28::containing("10.20.9.16".parse().unwrap())],
        leaving: vec![],
        gone: vec![],
        going: false,
    }
}

fn full() -> Checkpoint {
    let mut held = allocation("5a1f", "10.20.8.106");
    held.extra = AllocationExtra {
        pod_uid: Some("0b5e".into()),
        netns: Some("/var/run/netns/cni-1".into()),
        eni: Some("eni-0a1".parse().unwrap()),
        device: Some(DeviceIndex(1)),
        table: Some(RouteTable(2)),
    };
    Checkpoint {
        allocations: vec![held],
        pool: Some(vec![eni("eni-0a1", "10.20.8.10", &["10.20.8.106", "10.20.8.107"])]),
        cooling: vec![Cooling {
            address: "10.20.8.107".parse().unwrap(),
            released: WallTime(1_712_345_679_000_000_000),
        }],
        generation: 7,
    }
}

#[test]
fn a_checkpoint_without_our_fields_is_the_reference_s_file_byte_for_byte() {
    let mut first = allocation("5a1f", "192.168.9.106");
    first.pod.name = "a<b>&c".into();
    let mut second = allocation("77", "2600::1");
    second.pod = PodRef::default();
    second.interfaces = 0;
    let checkpoint = Checkpoint { allocations: vec![first, second], ..Checkpoint::default() };
    let want = concat!(
        r#"{"version":"vpc-cni-ipam/1","allocations":["#,
        r#"{"networkName":"aws-cni","containerID":"5a1f","ifName":"eth0","ipv4":"192.168.9.106","allocationTimestamp":1712345678901234567,"#,
        r#""metadata":{"k8sPodNamespace":"kube-system","k8sPodName":"a\u003cb\u003e\u0026c","interfacesCount":1}},"#,
        r#"{"networkName":"aws-cni","containerID":"77","ifName":"eth0","ipv6":"2600::1","allocationTimestamp":1712345678901234567,"metadata":{}}"#,
        "]}\n",
    );
    assert_eq!(String::from_utf8(checkpoint.to_bytes().unwrap()).unwrap(), want);
    assert_eq!(Checkpoint::from_bytes(want.as_bytes()).unwrap(), checkpoint);
    assert_eq!(
        String::from_utf8(Checkpoint::default().to_bytes().unwrap()).unwrap(),
        "{\"version\":\"vpc-cni-ipam/1\",\"allocations\":[]}\n"
    );
}

#[test]
fn our_fields_stand_behind_the_reference_s() {
    let want = concat!(
        r#"{"version":"vpc-cni-ipam/1","allocations":["#,
        r#"{"networkName":"aws-cni","containerID":"5a1f","ifName":"eth0","ipv4":"10.20.8.106","allocationTimestamp":1712345678901234567,"#,
        r#""metadata":{"k8sPodNamespace":"kube-system","k8sPodName":"coredns-1","interfacesCount":1},"#,
        r#""podUID":"0b5e","netns":"/var/run/netns/cni-1","eni":"eni-0a1","device":1,"table":2}],"#,
        r#""pool":[{"id":"eni-0a1","mac":"02:00:00:00:00:01","device":1,"card":0,"subnet":"10.20.8.0/22","subnetId":"subnet-0a1","primary":"10.20.8.10","#,
        r#""addresses":["10.20.8.106","10.20.8.107"],"prefixes":["10.20.9.16/28"]}],"#,
        r#""cooling":[{"ipv4":"10.20.8.107","releasedTimestamp":1712345679000000000}],"generation":7}"#,
        "\n",
    );
    assert_eq!(String::from_utf8(full().to_bytes().unwrap()).unwrap(), want);
}

#[test]
fn what_is_being_given_back_is_written_and_read_again() {
    let mut checkpoint = full();
    let pool = checkpoint.pool.as_mut().unwrap();
    let prefix = Prefix28::containing("10.20.9.32".parse().unwrap());
    pool[0].leaving = vec![Slot::Address("10.20.8.108".parse().unwrap()), Slot::Prefix(prefix)];
    pool[0].gone = vec![Slot::Address("10.20.8.109".parse().unwrap())];
    pool[0].going = true;
    let text = String::from_utf8(checkpoint.to_bytes().unwrap()).unwrap();
    let want = r#""leaving":[{"address":"10.20.8.108"},{"prefix":"10.20.9.32/28"}],"gone":[{"address":"10.20.8.109"}],"going":true}]"#;
    assert!(text.contains(want), "{text}");
    assert_eq!(Checkpoint::from_bytes(text.as_bytes()).unwrap(), checkpoint);
}

#[test]
fn fields_nobody_knows_are_ignored() {
    let text = r#"{"version":"vpc-cni-ipam/1","later":{"x":1},"allocations":[
        {"networkName":"n","containerID":"c","ifName":"eth0","ipv4":"10.0.0.1","ipv6":"","later":[],"allocationTimestamp":1,"metadata":{"later":1}}]}"#;
    let read = Checkpoint::from_bytes(text.as_bytes()).unwrap();
    assert_eq!(read.allocations.len(), 1);
    assert_eq!(read.pool, None);
    for empty in [r#"{"version":"vpc-cni-ipam/1","allocations":null}"#, r#"{"version":"vpc-cni-ipam/1"}"#] {
        assert_eq!(Checkpoint::from_bytes(empty.as_bytes()).unwrap(), Checkpoint::default());
    }
}

#[test]
fn each_kind_of_damage_has_its_name() {
    let entry = |rest: &str| {
        format!(
            r#"{{"version":"vpc-cni-ipam/1","allocations":[{{"networkName":"n","containerID":"c","ifName":"eth0",{rest}}}]}}"#
        )
    };
    let text = |bytes: &[u8]| match Checkpoint::from_bytes(bytes) {
        Ok(read) => panic!("taken: {read:?}"),
        Err(ParseError::NotJson(_)) => "not json".to_owned(),
        Err(ParseError::WrongShape(error)) => format!("shape: {error}"),
        Err(error) => error.to_string(),
    };
    let whole = full().to_bytes().unwrap();
    assert_eq!(text(b""), "not json");
    assert_eq!(text(&whole[..whole.len() / 2]), "not json");
    assert_eq!(text(&[0; 64]), "not json");
    assert_eq!(text(b"{}"), "its version is ``; this program reads `vpc-cni-ipam/1`");
    assert_eq!(text(b"[1]"), "its version is ``; this program reads `vpc-cni-ipam/1`");
    assert_eq!(
        text(br#"{"version":"vpc-cni-ipam/2","allocations":7}"#),
        "its version is `vpc-cni-ipam/2`; this program reads `vpc-cni-ipam/1`"
    );
    assert_eq!(text(br#"{"version":2}"#), "its version is `2`; this program reads `vpc-cni-ipam/1`");
    assert!(text(br#"{"version":"vpc-cni-ipam/1","allocations":7}"#).starts_with("shape: "));
    assert!(text(entry(r#""ipv4":"10.0.0""#).as_bytes()).starts_with("shape: `10.0.0` is not an address"));
    assert!(text(entry(r#""ipv4":"2600::1""#).as_bytes()).starts_with("shape: `2600::1` is not an address"));
    assert_eq!(
        text(entry(r#""allocationTimestamp":1"#).as_bytes()),
        "the allocation of container c has no address; expected exactly one of `ipv4` and `ipv6`"
    );
    assert!(text(entry(r#""ipv4":"10.0.0.1","ipv6":"2600::1""#).as_bytes()).contains("two addresses"));
}

#[test]
fn what_can_not_be_true_is_refused() {
    let check = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = full();
        change(&mut checkpoint);
        match Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap()) {
            Err(ParseError::Impossible(impossible)) => impossible,
            other => panic!("{other:?}"),
        }
    };
    let v4 = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    assert_eq!(
        check(&|c| c.allocations.push(allocation("5a1f", "10.20.8.108"))),
        Impossible::SandboxTwice(full().allocations[0].key.clone())
    );
    assert_eq!(
        check(&|c| c.allocations.push(allocation("other", "10.20.8.106"))),
        Impossible::AddressTwice(v4("10.20.8.106").into())
    );
    assert_eq!(
        check(&|c| c.allocations[0].key.container.clear()),
        Impossible::Nameless { address: v4("10.20.8.106").into(), missing: "containerID" }
    );
    assert_eq!(
        check(&|c| c.cooling.push(Cooling { address: v4("10.20.8.106"), released: WallTime(0) })),
        Impossible::HeldAndCooling(v4("10.20.8.106"))
    );
    assert_eq!(check(&|c| c.cooling.push(c.cooling[0])), Impossible::CoolingTwice(v4("10.20.8.107")));
    let more = |c: &mut Checkpoint, eni: PoolEni| c.pool.as_mut().unwrap().push(eni);
    assert_eq!(
        check(&|c| more(c, PoolEni { prefixes: vec![], ..eni("eni-0a1", "10.20.8.11", &[]) })),
        Impossible::EniTwice("eni-0a1".parse().unwrap())
    );
    assert_eq!(
        check(&|c| more(c, eni("eni-0a2", "10.20.8.11", &[]))),
        Impossible::SlotTwice { what: "10.20.9.16/28".parse().unwrap(), eni: "eni-0a2".parse().unwrap() }
    );
    assert_eq!(
        check(&|c| more(c, eni("eni-0a2", "10.20.8.107", &[]))),
        Impossible::SlotTwice { what: "10.20.8.107/32".parse().unwrap(), eni: "eni-0a2".parse().unwrap() }
    );
    let leaving = |c: &mut Checkpoint| c.pool.as_mut().unwrap()[0].leaving.push(Slot::Address(v4("10.20.8.107")));
    assert_eq!(
        check(&leaving),
        Impossible::SlotTwice { what: "10.20.8.107/32".parse().unwrap(), eni: "eni-0a1".parse().unwrap() }
    );
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn file(&self) -> PathBuf {
        self.0.path().join("ipam.json")
    }
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_stored_checkpoint_is_loaded_again_and_nothing_else_is_left() {
    let folder = Folder::new();
    assert_eq!(load(&folder.file()).unwrap(), None);
    for checkpoint in [full(), Checkpoint::default(), full()] {
        store(&folder.file(), &checkpoint).unwrap();
        assert_eq!(load(&folder.file()).unwrap(), Some(checkpoint));
        assert_eq!(folder.names(), ["ipam.json"]);
        assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}

#[test]
fn a_text_is_stored_as_the_checkpoint_it_is_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ipam.json");
    let mut bytes = Vec::new();
    Text::of(&full()).unwrap().render(full().generation, &mut bytes);
    store_text(&path, &bytes).unwrap();
    assert_eq!(load(&path).unwrap(), Some(full()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_store_leaves_what_was_there() {
    let folder = Folder::new();
    // A folder with something in it can not be replaced by a file, not even by root.
    fs::create_dir(folder.file()).unwrap();
    fs::write(folder.file().join("x"), "x").unwrap();
    let error = store(&folder.file(), &full()).unwrap_err();
    assert!(error.to_string().starts_with("can not replace "), "{error}");
    assert_eq!(folder.names(), ["ipam.json"]);
    let error = store(&folder.0.path().join("none/ipam.json"), &full()).unwrap_err();
    assert!(error.to_string().starts_with("can not make "), "{error}");
}

#[test]
fn leftovers_of_either_make_are_removed_and_nothing_else() {
    let folder = Folder::new();
    store(&folder.file(), &full()).unwrap();
    for name in ["ipam.json.tmp123456", "ipam.json.tmp1-0", "ipam.json.bad-1", "ipam-nic-1.json.tmp9", "other.tmp1"] {
        fs::write(folder.0.path().join(name), "x").unwrap();
    }
    assert_eq!(clean_leftovers(&folder.file()).unwrap(), 2);
    assert_eq!(folder.names(), ["ipam-nic-1.json.tmp9", "ipam.json", "ipam.json.bad-1", "other.tmp1"]);
}

#[test]
fn a_leftover_under_the_very_name_we_would_use_does_not_stop_a_store() {
    let folder = Folder::new();
    for number in 0..50 {
        fs::write(folder.0.path().join(format!("ipam.json.tmp{}-{number}", std::process::id())), "x").unwrap();
    }
    store(&folder.file(), &full()).unwrap();
    assert_eq!(load(&folder.file()).unwrap(), Some(full()));
}

#[test]
fn a_bad_file_is_put_aside_under_a_free_name() {
    let folder = Folder::new();
    for n in 1..=3 {
        fs::write(folder.file(), format!("rubbish {n}")).unwrap();
        assert!(matches!(load(&folder.file()), Err(LoadError::Damaged { .. })));
        let aside = keep_aside(&folder.file()).unwrap();
        assert_eq!(fs::read_to_string(&aside).unwrap(), format!("rubbish {n}"));
        assert_eq!(load(&folder.file()).unwrap(), None);
    }
    assert_eq!(folder.names(), ["ipam.json.bad-1", "ipam.json.bad-2", "ipam.json.bad-3"]);
    assert_eq!(fs::read_to_string(folder.0.path().join("ipam.json.bad-1")).unwrap(), "rubbish 1");
    assert!(keep_aside(&folder.file()).is_err());
}

#[test]
fn a_file_that_can_not_be_read_is_not_a_damaged_one() {
    let folder = Folder::new();
    fs::create_dir(folder.file()).unwrap();
    assert!(matches!(load(&folder.file()), Err(LoadError::Unreadable { .. })));
}

/// What a reader of the reference sees: its own fields, everything else passed over.
mod reference {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    pub(crate) struct File {
        pub(crate) version: String,
        pub(crate) allocations: Vec<Entry>,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(crate) struct Entry {
        pub(crate) network_name: String,
        #[serde(rename = "containerID")]
        pub(crate) container_id: String,
        pub(crate) if_name: String,
        #[serde(default)]
        pub(crate) ipv4: String,
        #[serde(default)]
        pub(crate) ipv6: String,
        pub(crate) allocation_timestamp: i64,
        pub(crate) metadata: Metadata,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(crate) struct Metadata {
        #[serde(default)]
        pub(crate) k8s_pod_namespace: String,
        #[serde(default)]
        pub(crate) k8s_pod_name: String,
        #[serde(default)]
        pub(crate) interfaces_count: i64,
    }
}

prop_compose! {
    fn any_allocation()(
        container in "[a-z0-9]{1,8}", network in "[a-z<>&\"\\\\]{1,6}", v4 in any::<u32>(), v6 in any::<Option<u128>>(),
        since in any::<i64>(), namespace in "\\PC{0,6}", name in "\\PC{0,6}", interfaces in 0_u32..4,
        pod_uid in proptest::option::of("[a-f0-9]{4}"), netns in proptest::option::of("/\\PC{0,6}"),
        device in proptest::option::of(0_u8..8), table in proptest::option::of(any::<u32>()),
    ) -> Allocation {
        Allocation {
            key: SandboxKey { network, container, interface: "eth0".into() },
            address: v6.map_or(IpAddr::V4(Ipv4Addr::from_bits(v4)), |v6| IpAddr::V6(Ipv6Addr::from_bits(v6))),
            since: WallTime(since),
            pod: PodRef { namespace, name },
            interfaces,
            extra: AllocationExtra {
                pod_uid,
                netns,
                eni: None,
                device: device.map(DeviceIndex),
                table: table.map(RouteTable),
            },
        }
    }
}

prop_compose! {
    fn any_checkpoint()(
        allocations in proptest::collection::vec(any_allocation(), 0..6),
        pool in any::<bool>(),
        cooling in proptest::collection::vec((any::<u32>(), any::<i64>()), 0..4),
        generation in any::<u64>(),
    ) -> Checkpoint {
        Checkpoint {
            allocations,
            pool: pool.then(|| full().pool.unwrap()),
            cooling: cooling
                .into_iter()
                .map(|(address, released)| Cooling { address: Ipv4Addr::from_bits(address), released: WallTime(released) })
                .collect(),
            generation,
        }
    }
}

proptest! {
    #[test]
    fn what_is_possible_is_read_back_as_written(checkpoint in any_checkpoint()) {
        prop_assume!(checkpoint.check().is_ok());
        prop_assert_eq!(Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap()).unwrap(), checkpoint);
    }

    #[test]
    fn an_older_reader_sees_its_own_fields(checkpoint in any_checkpoint()) {
        let read: reference::File = serde_json::from_slice(&checkpoint.to_bytes().unwrap()).unwrap();
        prop_assert_eq!(read.version, "vpc-cni-ipam/1");
        prop_assert_eq!(read.allocations.len(), checkpoint.allocations.len());
        for (seen, own) in read.allocations.iter().zip(&checkpoint.allocations) {
            prop_assert_eq!((&seen.network_name, &seen.container_id, &seen.if_name), (&own.key.network, &own.key.container, &own.key.interface));
            prop_assert_eq!(format!("{}{}", seen.ipv4, seen.ipv6), own.address.to_string());
            prop_assert_eq!(seen.allocation_timestamp, own.since.0);
            prop_assert_eq!((&seen.metadata.k8s_pod_namespace, &seen.metadata.k8s_pod_name), (&own.pod.namespace, &own.pod.name));
            prop_assert_eq!(seen.metadata.interfaces_count, i64::from(own.interfaces));
        }
    }

    #[test]
    fn a_text_changed_piece_by_piece_is_the_text_of_the_whole(
        mut checkpoint in any_checkpoint(),
        steps in proptest::collection::vec((0_u8..3, any_allocation(), 0_usize..8), 0..20),
    ) {
        prop_assume!(checkpoint.check().is_ok());
        let mut text = Text::of(&checkpoint).unwrap();
        for (step, mut allocation, which) in steps {
            // Half of the steps concern an address that is there.
            let known = checkpoint.allocations.iter().map(|held| held.address);
            if let Some(address) = known.chain(checkpoint.cooling.iter().map(|c| c.address.into())).nth(which) {
                allocation.address = address;
            }
            let address = allocation.address;
            checkpoint.allocations.retain(|held| held.address != address);
            checkpoint.cooling.retain(|cooling| IpAddr::V4(cooling.address) != address);
            match (step, address) {
                (0, _) => {
                    text.hold(&allocation).unwrap();
                    checkpoint.allocations.push(allocation);
                }
                (1, IpAddr::V4(address)) => {
                    let cooling = Cooling { address, released: allocation.since };
                    text.rest(&cooling).unwrap();
                    checkpoint.cooling.push(cooling);
                }
                _ => text.free(address),
            }
            checkpoint.generation = checkpoint.generation.wrapping_add(1);
            checkpoint.allocations.sort_by_key(|held| held.address);
            checkpoint.cooling.sort_by_key(|cooling| cooling.address);
            let mut bytes = b"what was there before".to_vec();
            text.render(checkpoint.generation, &mut bytes);
            prop_assert_eq!(String::from_utf8(bytes), String::from_utf8(checkpoint.to_bytes().unwrap()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Checkpoint::from_bytes(&bytes).is_err());
    }

    #[test]
    fn a_cut_or_bent_file_never_panics(at in 0_usize..600, with in any::<u8>()) {
        let mut bytes = full().to_bytes().unwrap();
        let at = at % bytes.len();
        bytes[at] = with;
        let _ = Checkpoint::from_bytes(&bytes);
        prop_assert!(Checkpoint::from_bytes(&bytes[..at]).is_err());
    }
}
