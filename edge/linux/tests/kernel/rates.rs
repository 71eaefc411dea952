//! How fast: a link's token bucket, and meters of the packet filter.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use vpc_linux::nft::{
    BaseChain, Batch, Chain, ChainKind, Family, Hook, KeyType, Meter, Nft, Rule, Selector, Table, priority,
};
use vpc_linux::{Address, Errno, Netns, Rtnl, TokenBucket};

use crate::sandbox::{cable, net, other_eyes, sandboxed};

#[test]
fn a_link_is_shaped_reshaped_and_let_go() {
    const TEST: &str = "rates::a_link_is_shaped_reshaped_and_let_go";
    sandboxed(TEST, || {
        let (mut host, other) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (link, _) = cable(&mut host, "a", &other, "b");
        host.unshape_link(link).unwrap();
        let seen = || other_eyes(TEST, "tc", &["-j", "qdisc", "show", "dev", "a"]);
        let first = TokenBucket { rate: 1_250_000, burst: 32_000, limit: 128_000 };
        host.shape_link(link, &first).unwrap();
        let Some(shown) = seen() else { return };
        assert_eq!((&shown[0]["kind"], &shown[0]["root"]), (&"tbf".into(), &true.into()), "{shown}");
        assert_eq!(shown[0]["options"]["rate"], 1_250_000, "{shown}");
        assert!(shown[0]["options"]["burst"].as_u64().is_some_and(|burst| burst.abs_diff(32_000) < 100), "{shown}");
        // More than 32 bits of bytes per second, in place of the first.
        host.shape_link(link, &TokenBucket { rate: 5_000_000_000, burst: 4_000_000, limit: 8_000_000 }).unwrap();
        let shown = seen().unwrap();
        assert_eq!(shown[0]["options"]["rate"], 5_000_000_000_u64, "{shown}");
        host.unshape_link(link).unwrap();
        assert_ne!(seen().unwrap()[0]["kind"], "tbf");
        assert_eq!(host.shape_link(4711, &first).unwrap_err().errno, Errno::ENODEV);
    });
}

#[test]
fn a_shaped_link_holds_back_what_is_too_much() {
    sandboxed("rates::a_shaped_link_holds_back_what_is_too_much", || {
        let (mut host, other) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (link, far) = cable(&mut host, "a", &other, "b");
        host.add_address(&Address::new(link, net("10.0.0.1/24"))).unwrap();
        Rtnl::open_in(&other).unwrap().add_address(&Address::new(far, net("10.0.0.2/24"))).unwrap();
        // A packet in ten seconds, and little room to wait: of forty at once, those of the bucket arrive.
        host.shape_link(link, &TokenBucket { rate: 100, burst: 5_000, limit: 2_000 }).unwrap();
        let receiver = other.enter(|| UdpSocket::bind("10.0.0.2:9")).unwrap().unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let sender = UdpSocket::bind("10.0.0.1:0").unwrap();
        for _ in 0..40 {
            // A full queue may be said to the sender.
            sender.send_to(&[0; 958], "10.0.0.2:9").ok();
        }
        let arrived = std::iter::from_fn(|| receiver.recv(&mut [0; 1000]).ok()).count();
        assert!((1..30).contains(&arrived), "{arrived} of 40");
    });
}

#[test]
fn a_meter_has_a_rate_for_each_key() {
    const TEST: &str = "rates::a_meter_has_a_rate_for_each_key";
    sandboxed(TEST, || {
        let (mut host, other) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (link, far) = cable(&mut host, "a", &other, "b");
        host.add_address(&Address::new(link, net("10.0.0.1/24"))).unwrap();
        let mut there = Rtnl::open_in(&other).unwrap();
        for address in ["10.0.0.2/24", "10.0.0.3/24"] {
            there.add_address(&Address::new(far, net(address))).unwrap();
        }
        let mut nft = Nft::open().unwrap();
        let table = Table::new(Family::Ip, "rates");
        let mut batch = Batch::new();
        batch
            .replace_table(&table, None)
            .add_meter(&table, &Meter::of("senders", KeyType::Ipv4Addr))
            .add_chain(&table, &Chain::base("pre", BaseChain::new(ChainKind::Filter, Hook::Prerouting, priority::RAW)))
            // One a second after the first seven: all fifty would take most of a minute.
            .add_rule(&table, "pre", &Rule::new().over_rate(Selector::IpSource, "senders", 1, 7).counter().drop());
        nft.commit(batch).unwrap();
        let receiver = UdpSocket::bind("10.0.0.1:9").unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut arrived = Vec::new();
        for source in ["10.0.0.2:0", "10.0.0.3:0"] {
            let sender = other.enter(|| UdpSocket::bind(source)).unwrap().unwrap();
            for _ in 0..50 {
                sender.send_to(b"x", "10.0.0.1:9").unwrap();
            }
            arrived.push(std::iter::from_fn(|| receiver.recv(&mut [0; 8]).ok()).count());
        }
        assert!(arrived.iter().all(|count| (7..50).contains(count)), "each has a rate of its own: {arrived:?}");
        let counted = nft.rules(&table).unwrap()[0].counter.unwrap().0;
        assert_eq!(counted as usize + arrived.iter().sum::<usize>(), 100);
        if let Ok(output) = Command::new("nft").args(["list", "table", "ip", "rates"]).output() {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("add @senders { ip saddr limit rate over 1/second burst 7 packets }"), "{text}");
        }
    });
}
