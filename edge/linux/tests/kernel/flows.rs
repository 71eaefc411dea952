//! Tracked connections of addresses that change hands: forgotten, and only they.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use vpc_hostnet::{HostLayout, PodWiring, wiring};
use vpc_linux::nft::{
    BaseChain, Batch, Chain, ChainKind, Data, DataKind, Element, Family, Hook, KeyType, Nft, Rule, Selector, Set,
    Table, Test, Value, ct_state, priority,
};
use vpc_linux::{Address, LinkChange, LinuxHost, Netns, RouteSpec, Rtnl, sysctl, wire_pod};
use vpc_model::RouteTable;

use crate::sandbox::{cable, ip, mac, name, net, sandboxed};

const SERVICE: &str = "172.20.0.10:80";
const RECYCLED: &str = "10.20.10.201";
const OTHER: &str = "10.20.10.202";
/// Far beyond a SYN's first retransmissions (after 1, 3, 7 and 15 s).
const LONG: Duration = Duration::from_secs(30);

fn pod(host: &mut LinuxHost, address: &str, link: &str) -> Netns {
    let netns = Netns::create().unwrap();
    let wanted = PodWiring {
        address: ip(address),
        table: RouteTable::MAIN,
        host_link: name(link),
        pod_link: name("eth0"),
        host_mac: mac(1),
        pod_mac: mac(2),
        mtu: 1500,
        alias: "test".to_owned(),
        layout: HostLayout::Classic,
    };
    wire_pod(host.rtnl(), &netns, &wiring(&wanted)).unwrap();
    netns
}

/// In a pod: counts TCP that comes in, and keeps silent about it if told to.
fn count_arrivals(pod: &Netns, silent: bool) -> Nft {
    let (mut nft, table) = (Nft::open_in(pod).unwrap(), Table::new(Family::Ip, "arrivals"));
    let input = BaseChain::new(ChainKind::Filter, Hook::Input, priority::FILTER);
    let rule = Rule::new().l4_protocol(Test::Is, 6).counter();
    let rule = if silent { rule.drop() } else { rule };
    let mut batch = Batch::new();
    batch.add_table(&table).add_chain(&table, &Chain::base("in", input)).add_rule(&table, "in", &rule);
    nft.commit(batch).unwrap();
    nft
}

fn arrivals(nft: &mut Nft) -> u64 {
    nft.rules(&Table::new(Family::Ip, "arrivals")).unwrap()[0].counter.unwrap().0
}

/// As kube-proxy does it: the service leads to this pod from now on. Connections that are under way stay where they are.
fn lead_service_to(nft: &mut Nft, address: &str) {
    let table = Table::new(Family::Ip, "proxy");
    let before = BaseChain::new(ChainKind::Nat, Hook::Prerouting, priority::DSTNAT);
    let to = Rule::new().ip_destination(Test::Is, net("172.20.0.10/32")).dnat(ip(address), Some(8080));
    let mut batch = Batch::new();
    batch.replace_table(&table, None).add_chain(&table, &Chain::base("dst", before)).add_rule(&table, "dst", &to);
    nft.commit(batch).unwrap();
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "it did not come to hold");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The entries about an address as the kernel's own text has them; `None` where the kernel writes none.
fn listed(address: &str) -> Option<usize> {
    if let Ok(text) = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack") {
        return Some(text.lines().filter(|line| line.split([' ', '=']).any(|word| word == address)).count());
    }
    let output = Command::new("conntrack").args(["-L"]).output().ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().filter(|line| line.split([' ', '=']).any(|word| word == address)).count())
}

/// A client's SYN to a service was led to a pod that never answered and is gone. Its address is given to another pod while the client
/// still tries. Says how many packets the new pod got, once the client's SYN has arrived somewhere.
fn the_next_pod_of_the_address_gets(test: &str, forget: bool) -> u64 {
    let (mut host, outside) = (LinuxHost::open().unwrap(), Netns::create().unwrap());
    sysctl::write("net/ipv4/ip_forward", "1").unwrap();
    host.rtnl().set_link(&name("lo"), &LinkChange::up()).unwrap();
    let (eth0, far) = cable(host.rtnl(), "eth0", &outside, "world");
    host.rtnl().add_address(&Address::new(eth0, net("10.20.8.4/22"))).unwrap();
    let mut world = Rtnl::open_in(&outside).unwrap();
    world.add_address(&Address::new(far, net("10.20.8.1/22"))).unwrap();
    let services = RouteSpec::through(RouteTable::MAIN, net("172.20.0.0/16"), ip("10.20.8.4"), far);
    world.add_route(&services).unwrap();

    let mut proxy = Nft::open().unwrap();
    let old = pod(&mut host, RECYCLED, "eniold");
    let mut seen_by_old = count_arrivals(&old, true);
    lead_service_to(&mut proxy, RECYCLED);
    let client = std::thread::spawn(move || {
        let service: SocketAddr = SERVICE.parse().unwrap();
        outside.enter(|| TcpStream::connect_timeout(&service, LONG).map(drop)).unwrap()
    });
    wait_until(|| arrivals(&mut seen_by_old) > 0);
    if listed(RECYCLED).map(|entries| assert_eq!(entries, 1)).is_none() {
        println!("SKIPPED {test}: neither /proc/net/nf_conntrack nor `conntrack`, so nobody else looked at the table");
    }

    // The pod goes, the service leads elsewhere, the address rests and is given to the next pod.
    host.rtnl().delete_link(&name("eniold")).unwrap();
    drop(old);
    let other = pod(&mut host, OTHER, "eniother");
    let _listener = other.enter(|| TcpListener::bind((IpAddr::from(ip(OTHER)), 8080))).unwrap().unwrap();
    let mut seen_by_other = count_arrivals(&other, false);
    lead_service_to(&mut proxy, OTHER);
    if forget {
        assert_eq!(host.forget_flows(&[ip(RECYCLED)]).unwrap(), 1);
        assert!(listed(RECYCLED).is_none_or(|entries| entries == 0));
        assert_eq!(host.forget_flows(&[ip(RECYCLED)]).unwrap(), 0, "and again there is nothing to forget");
    }
    let next = pod(&mut host, RECYCLED, "eninext");
    let mut seen_by_next = count_arrivals(&next, false);

    wait_until(|| arrivals(&mut seen_by_next) + arrivals(&mut seen_by_other) > 0);
    let connected = client.join().unwrap();
    assert_eq!(connected.is_ok(), forget, "{connected:?}");
    arrivals(&mut seen_by_next)
}

#[test]
fn r17_the_next_pod_of_an_address_gets_no_packet_of_the_old_flow() {
    const TEST: &str = "flows::r17_the_next_pod_of_an_address_gets_no_packet_of_the_old_flow";
    sandboxed(TEST, || assert_eq!(the_next_pod_of_the_address_gets(TEST, true), 0));
}

/// The judge judged: without the flush the same packet does arrive.
#[test]
fn r17_without_the_flush_it_would() {
    const TEST: &str = "flows::r17_without_the_flush_it_would";
    sandboxed(TEST, || assert!(the_next_pod_of_the_address_gets(TEST, false) > 0));
}

fn tracked() -> u32 {
    sysctl::read("net/netfilter/nf_conntrack_count").unwrap().trim().parse().unwrap()
}

fn track_everything(nft: &mut Nft) {
    let table = Table::new(Family::Ip, "track");
    let out = BaseChain::new(ChainKind::Filter, Hook::Output, priority::FILTER);
    let mut batch = Batch::new();
    batch.add_table(&table).add_chain(&table, &Chain::base("out", out)).add_rule(
        &table,
        "out",
        &Rule::new().ct_state(ct_state::NEW).counter(),
    );
    nft.commit(batch).unwrap();
}

fn loopback_with(addresses: &[&str]) {
    let mut rtnl = Rtnl::open().unwrap();
    rtnl.set_link(&name("lo"), &LinkChange::up()).unwrap();
    for address in addresses {
        rtnl.add_address(&Address::new(1, net(&format!("{address}/32")))).unwrap();
    }
}

fn send(from: &UdpSocket, to: &str, port: u16) {
    // A port nobody listens on may be said to the sender of the next.
    while from.send_to(b"x", (to, port)).is_err() {}
}

#[test]
fn entries_of_other_addresses_are_left_and_ten_thousand_of_them_cost_little() {
    sandboxed("flows::entries_of_other_addresses_are_left_and_ten_thousand_of_them_cost_little", || {
        let twelve: Vec<String> = (1..=12).map(|i| format!("10.99.0.{i}")).collect();
        loopback_with(&twelve.iter().map(String::as_str).collect::<Vec<_>>());
        track_everything(&mut Nft::open().unwrap());
        let others = UdpSocket::bind("127.0.0.1:0").unwrap();
        (0..10_000).for_each(|i| send(&others, "127.0.0.1", 20_000 + i));
        let mut host = LinuxHost::open().unwrap();
        let pods = |count: usize| twelve.iter().take(count).map(|text| ip(text)).collect::<Vec<_>>();
        // With three times as many others the kernel is asked for one address's entries only.
        for (count, more) in [(1, 0), (12, 0), (1, 21_000)] {
            (0..more).for_each(|i| send(&others, "127.0.0.1", 40_000 + i));
            let before = tracked();
            assert!(
                before >= 10_000 + u32::from(more),
                "{before} entries: the kernel's table is too small for this test"
            );
            for address in &twelve[..count] {
                // From it, and to it.
                send(&UdpSocket::bind((address.as_str(), 0)).unwrap(), "127.0.0.1", 9);
                send(&others, address, 9);
            }
            assert_eq!(tracked(), before + 2 * u32::try_from(count).unwrap());
            let started = Instant::now();
            let forgotten = host.forget_flows(&pods(count)).unwrap();
            println!("{count} addresses among {before} other entries: {:?}", started.elapsed());
            assert_eq!((forgotten, tracked()), (2 * count, before), "of {count} addresses");
        }
    });
}

#[test]
fn entries_of_every_zone_are_forgotten() {
    sandboxed("flows::entries_of_every_zone_are_forgotten", || {
        loopback_with(&["10.99.0.1", "10.99.0.2"]);
        let mut nft = Nft::open().unwrap();
        track_everything(&mut nft);
        let sender = UdpSocket::bind("10.99.0.1:5000").unwrap();
        let kept = UdpSocket::bind("10.99.0.2:5000").unwrap();
        send(&sender, "127.0.0.1", 9);
        send(&kept, "127.0.0.1", 9);
        // From now on everything is of another zone: the same tuples a second time.
        let table = Table::new(Family::Ip, "zones");
        let zones = Set::of("zones", &[KeyType::IfIndex]).to(DataKind::Value(KeyType::CtZone));
        let raw = |hook| BaseChain::new(ChainKind::Filter, hook, priority::RAW);
        let lo = Element::new([Value::IfIndex(1).into()]).to(Data::Value(Value::Zone(7)));
        let mut batch = Batch::new();
        batch
            .add_table(&table)
            .add_set(&table, &zones)
            .add_elements(&table, &zones, &[lo])
            .add_chain(&table, &Chain::base("out", raw(Hook::Output)))
            .add_rule(&table, "out", &Rule::new().set_ct_zone_from_map(&[Selector::Oif], "zones"));
        nft.commit(batch).unwrap();
        send(&sender, "127.0.0.1", 9);
        send(&kept, "127.0.0.1", 9);
        assert_eq!(tracked(), 4, "two in each zone");
        let forgotten = LinuxHost::open().unwrap().forget_flows(&[ip("10.99.0.1")]).unwrap();
        assert_eq!((forgotten, tracked()), (2, 2));
    });
}

#[test]
fn a_namespace_that_tracks_nothing_has_nothing_to_forget() {
    sandboxed("flows::a_namespace_that_tracks_nothing_has_nothing_to_forget", || {
        let elsewhere = Netns::create().unwrap();
        let mut host = LinuxHost::open_in(&elsewhere).unwrap();
        let many: BTreeSet<_> = (1..=20).map(|i| ip(&format!("10.99.0.{i}"))).collect();
        assert_eq!(host.forget_flows(&[]).unwrap(), 0);
        assert_eq!(host.forget_flows(&[ip("10.99.0.1")]).unwrap(), 0);
        assert_eq!(host.forget_flows(&many.into_iter().collect::<Vec<_>>()).unwrap(), 0);
    });
}
