//! The filter table by what it does to packets: a pod, its host, and the world outside.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use vpc_hostnet::{Filter, HostLayout, HostOp, Mark, PodWiring, SnatRandom, wiring};
use vpc_linux::nft::{BaseChain, Batch, Chain, ChainKind, Family, Hook, IfName, Nft, Rule, Table, Test, priority};
use vpc_linux::{Address, ConfKey, LinkChange, LinuxHost, Netns, RouteSpec, Rtnl, sysctl, wire_pod};
use vpc_model::RouteTable;

use crate::sandbox::{cable, includes, ip, mac, name, net, other_eyes, sandboxed};

const HOST: &str = "10.20.8.4";
const POD: &str = "10.20.10.201";
const VPC_PEER: &str = "10.20.8.1:9000";
const WORLD: &str = "52.78.83.169:9000";

fn filter() -> Filter {
    Filter {
        primary_link: name("eth0"),
        primary_address: ip(HOST),
        veth_prefix: "eni".parse().unwrap(),
        mark: Mark::bits(0x80),
        node_port: true,
        snat: Some(SnatRandom::Prng),
        exempt: vec![net("10.20.0.0/16"), net("100.64.0.0/16")],
    }
}

struct Scene {
    host: LinuxHost,
    pod: Netns,
    outside: Netns,
}

/// A host (this namespace) between a pod and the outside, which has an address in the VPC and one in the world.
fn scene() -> Scene {
    let (mut host, pod, outside) = (LinuxHost::open().unwrap(), Netns::create().unwrap(), Netns::create().unwrap());
    sysctl::write("net/ipv4/ip_forward", "1").unwrap();
    let rtnl = host.rtnl();
    rtnl.set_link(&name("lo"), &LinkChange::up()).unwrap();
    let (eth0, far) = cable(rtnl, "eth0", &outside, "world");
    rtnl.add_address(&Address::new(eth0, net("10.20.8.4/22"))).unwrap();
    rtnl.add_route(&RouteSpec::through(RouteTable::MAIN, net("0.0.0.0/0"), ip("10.20.8.1"), eth0)).unwrap();
    rtnl.set_conf(eth0, &[(ConfKey::RpFilter, 2)]).unwrap();
    let mut world = Rtnl::open_in(&outside).unwrap();
    world.set_link(&name("lo"), &LinkChange::up()).unwrap();
    world.add_address(&Address::new(far, net("10.20.8.1/22"))).unwrap();
    world.add_address(&Address::new(1, net("52.78.83.169/32"))).unwrap();
    world.add_route(&RouteSpec::through(RouteTable::MAIN, net("10.20.10.201/32"), ip(HOST), far)).unwrap();
    let wanted = PodWiring {
        address: ip(POD),
        table: RouteTable::MAIN,
        host_link: name("eni0761ccbeace"),
        pod_link: name("eth0"),
        host_mac: mac(1),
        pod_mac: mac(2),
        mtu: 1500,
        alias: "test".to_owned(),
        layout: HostLayout::Classic,
    };
    wire_pod(rtnl, &pod, &wiring(&wanted)).unwrap();
    Scene { host, pod, outside }
}

fn socket(netns: &Netns, address: &str) -> UdpSocket {
    let socket = netns.enter(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

/// Sends a question to `to` and an answer back; gives the source the question arrived with.
fn ask(from: &UdpSocket, at: &UdpSocket, to: &str) -> SocketAddr {
    let mut text = [0; 16];
    from.send_to(b"question", to).unwrap();
    let (_, seen) = at.recv_from(&mut text).unwrap();
    at.send_to(b"answer", seen).unwrap();
    let (length, answerer) = from.recv_from(&mut text).unwrap();
    assert_eq!((&text[..length], answerer), (&b"answer"[..], to.parse().unwrap()));
    seen
}

/// Another agent's table: sets its own bit on everything a pod sends, before us, and counts what it sees of bits behind us.
fn watch(nft: &mut Nft) -> Table {
    let table = Table::new(Family::Ip, "other");
    let pre = BaseChain::new(ChainKind::Filter, Hook::Prerouting, priority::RAW);
    let fwd = BaseChain::new(ChainKind::Filter, Hook::Forward, priority::FILTER);
    let foreign = Mark::bits(0x4000);
    let from_pod = IfName::Prefix("eni".to_owned());
    let mut batch = Batch::new();
    batch
        .add_table(&table)
        .add_chain(&table, &Chain::base("pre", pre))
        .add_chain(&table, &Chain::base("fwd", fwd))
        .add_rule(&table, "pre", &Rule::new().iifname(Test::Is, &from_pod).set_mark(foreign));
    for (text, value) in [("both", 0x4080), ("foreign only", 0x4000), ("ours only", 0x80), ("none", 0)] {
        let bits = Mark { value, mask: 0xffff_ffff };
        let rule = Rule::new().iifname(Test::Is, &from_pod).mark(Test::Is, bits).counter().comment(text);
        batch.add_rule(&table, "fwd", &rule);
    }
    nft.commit(batch).unwrap();
    table
}

fn counted(nft: &mut Nft, table: &Table, comment: &str) -> u64 {
    let rules = nft.rules(table).unwrap();
    rules.iter().find(|rule| rule.comment.as_deref() == Some(comment)).unwrap().counter.unwrap().0
}

#[test]
fn sources_are_translated_for_the_world_and_not_inside_the_vpc() {
    sandboxed("filter::sources_are_translated_for_the_world_and_not_inside_the_vpc", || {
        let mut scene = scene();
        let pod = socket(&scene.pod, "10.20.10.201:5000");
        let world = socket(&scene.outside, WORLD);
        let peer = socket(&scene.outside, VPC_PEER);
        for random in [SnatRandom::Prng, SnatRandom::HashRandom, SnatRandom::None] {
            let wanted = Filter { snat: Some(random), ..filter() };
            scene.host.apply(&[HostOp::ReplaceFilter(wanted.clone())]).unwrap();
            let pod = socket(&scene.pod, "10.20.10.201:0");
            let port = pod.local_addr().unwrap().port();
            let seen = ask(&pod, &world, WORLD);
            assert_eq!(seen.ip(), ip(HOST), "{random:?}");
            if random == SnatRandom::None {
                assert_eq!(seen.port(), port, "kept");
            }
        }
        assert_eq!(ask(&pod, &peer, VPC_PEER), "10.20.10.201:5000".parse().unwrap());
        // External SNAT: the pod's own address leaves (and here even gets an answer).
        scene.host.apply(&[HostOp::ReplaceFilter(Filter { snat: None, ..filter() })]).unwrap();
        let other = socket(&scene.pod, "10.20.10.201:5001");
        assert_eq!(ask(&other, &world, WORLD), "10.20.10.201:5001".parse().unwrap());
    });
}

/// The daemon speaks to EC2 and the metadata while it sets the host up; tracking begins in the middle of such a connection.
#[test]
fn a_connection_of_the_node_that_was_open_before_the_table_came_keeps_its_port() {
    sandboxed("filter::a_connection_of_the_node_that_was_open_before_the_table_came_keeps_its_port", || {
        let mut scene = scene();
        let world = socket(&scene.outside, WORLD);
        let node = UdpSocket::bind("10.20.8.4:4000").unwrap();
        node.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let own: SocketAddr = "10.20.8.4:4000".parse().unwrap();
        assert_eq!(ask(&node, &world, WORLD), own);
        scene.host.apply(&[HostOp::ReplaceFilter(filter())]).unwrap();
        assert_eq!(ask(&node, &world, WORLD), own, "it is the primary address already: nothing to translate");
    });
}

#[test]
fn an_exemption_of_everything_translates_nothing() {
    sandboxed("filter::an_exemption_of_everything_translates_nothing", || {
        let mut scene = scene();
        let wanted = Filter { exempt: vec![net("0.0.0.0/0")], ..filter() };
        scene.host.apply(&[HostOp::ReplaceFilter(wanted.clone())]).unwrap();
        assert!(scene.host.observe().unwrap().filter.unwrap().intact);
        let world = socket(&scene.outside, WORLD);
        let pod = socket(&scene.pod, "10.20.10.201:5000");
        assert_eq!(ask(&pod, &world, WORLD), "10.20.10.201:5000".parse().unwrap());
    });
}

#[test]
fn our_bit_is_set_and_cleared_and_the_bits_of_others_survive() {
    sandboxed("filter::our_bit_is_set_and_cleared_and_the_bits_of_others_survive", || {
        let mut scene = scene();
        scene.host.apply(&[HostOp::ReplaceFilter(filter())]).unwrap();
        let mut nft = Nft::open().unwrap();
        let table = watch(&mut nft);
        let pod = socket(&scene.pod, "10.20.10.201:5000");
        let (world, peer) = (socket(&scene.outside, WORLD), socket(&scene.outside, VPC_PEER));
        ask(&pod, &world, WORLD);
        ask(&pod, &world, WORLD);
        assert_eq!(counted(&mut nft, &table, "both"), 2, "marked, also when the connection is no longer new");
        ask(&pod, &peer, VPC_PEER);
        assert_eq!(counted(&mut nft, &table, "foreign only"), 1, "inside the VPC nothing is marked");
        assert_eq!(counted(&mut nft, &table, "ours only") + counted(&mut nft, &table, "none"), 0);
    });
}

#[test]
fn replies_of_a_node_port_carry_our_bit() {
    sandboxed("filter::replies_of_a_node_port_carry_our_bit", || {
        let mut scene = scene();
        scene.host.apply(&[HostOp::ReplaceFilter(filter())]).unwrap();
        let mut nft = Nft::open().unwrap();
        let table = watch(&mut nft);
        // As kube-proxy does it.
        let proxy = Table::new(Family::Ip, "proxy");
        let mut batch = Batch::new();
        batch
            .add_table(&proxy)
            .add_chain(&proxy, &Chain::base("dst", BaseChain::new(ChainKind::Nat, Hook::Prerouting, priority::DSTNAT)))
            .add_rule(&proxy, "dst", &Rule::new().destination_port(17, 30080).dnat(ip(POD), Some(5000)));
        nft.commit(batch).unwrap();
        let client = socket(&scene.outside, "10.20.8.1:7000");
        let pod = socket(&scene.pod, "10.20.10.201:5000");
        ask(&client, &pod, "10.20.8.4:30080");
        assert_eq!(counted(&mut nft, &table, "both"), 1, "the pod's answer");
        scene.host.apply(&[HostOp::ReplaceFilter(Filter { node_port: false, ..filter() })]).unwrap();
        let client = socket(&scene.outside, "10.20.8.1:7001");
        ask(&client, &pod, "10.20.8.4:30080");
        assert_eq!(counted(&mut nft, &table, "foreign only"), 1, "without NodePort support it is not marked");
    });
}

#[test]
fn the_table_is_recognised_and_so_is_what_others_did_to_it() {
    const TEST: &str = "filter::the_table_is_recognised_and_so_is_what_others_did_to_it";
    sandboxed(TEST, || {
        let mut host = LinuxHost::open().unwrap();
        assert_eq!(host.observe().unwrap().filter, None);
        let filters = [
            filter(),
            Filter { snat: None, ..filter() },
            Filter { snat: None, node_port: false, exempt: Vec::new(), ..filter() },
            Filter { veth_prefix: "".parse().unwrap(), ..filter() },
        ];
        for wanted in filters {
            host.apply(&[HostOp::ReplaceFilter(wanted.clone())]).unwrap();
            host.apply(&[HostOp::ReplaceFilter(wanted.clone())]).unwrap();
            let seen = host.observe().unwrap().filter.unwrap();
            assert_eq!((seen.fingerprint, seen.intact), (Some(wanted.fingerprint()), true), "{wanted:?}");
        }
        let ours = Table::new(Family::Ip, vpc_linux::FILTER_TABLE);
        let exempt = vpc_linux::nft::Set::of("exempt", &[vpc_linux::nft::KeyType::Ipv4Addr]).with_intervals();
        let disturb: [&dyn Fn(&mut Batch); 4] = [
            &|batch| _ = batch.flush_chain(&ours, "srcnat"),
            &|batch| _ = batch.add_rule(&ours, "connmark", &Rule::new().counter()),
            &|batch| _ = batch.flush_set(&ours, "exempt"),
            &|batch| {
                _ = batch.add_elements(&ours, &exempt, &[vpc_linux::nft::Element::new([net("10.99.0.0/16").into()])])
            },
        ];
        for change in disturb {
            host.apply(&[HostOp::ReplaceFilter(filter())]).unwrap();
            let mut batch = Batch::new();
            change(&mut batch);
            host.nft().unwrap().commit(batch).unwrap();
            let seen = host.observe().unwrap().filter.unwrap();
            assert_eq!((seen.fingerprint, seen.intact), (Some(filter().fingerprint()), false));
        }
        // Somebody else's table of our name, without a fingerprint.
        let mut batch = Batch::new();
        batch.replace_table(&ours, None);
        host.nft().unwrap().commit(batch).unwrap();
        let seen = host.observe().unwrap().filter.unwrap();
        assert_eq!((seen.fingerprint, seen.intact), (None, false));

        host.apply(&[HostOp::ReplaceFilter(filter())]).unwrap();
        let Some(seen) = other_eyes(TEST, "nft", &["-j", "list", "table", "ip", "vpc-cni"]) else { return };
        for wanted in [
            r#"{"fib":{"result":"type","flags":["daddr","iif"]}}"#,
            r#"{"op":"!=","right":"@exempt"}"#,
            r#"{"snat":{"addr":"10.20.8.4"}}"#,
            r#"{"type":"filter","hook":"prerouting","prio":-150}"#,
            r#"{"type":"filter","hook":"prerouting","prio":-90}"#,
            r#"{"type":"nat","hook":"postrouting","prio":100}"#,
            r#"{"right":"eni*"}"#,
        ] {
            assert!(includes(&seen, wanted), "{wanted} in\n{seen}");
        }
    });
}
