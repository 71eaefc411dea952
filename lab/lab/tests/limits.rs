//! Bandwidth and the limit of the link-local services: real bytes, and the kernel's own view of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::{SMALL, nobody, start, topology};
use vpc_lab::Lab;
use vpc_lab::control::Place;
use vpc_lab::dns::RESOLVER_ADDRESS;
use vpc_lab::tools::{DnsOptions, PingOptions, Poured};

const MBPS: u64 = 20;

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

/// What arrives of a stream that lasts a second and a half.
fn poured(lab: &Lab, from: &str, to: &str, address: &str) -> Poured {
    std::thread::scope(|scope| {
        let sink = scope.spawn(|| lab.run(&node(to), &["vpc-lab", "tool", "sink", "9000"]).unwrap());
        let deadline = Instant::now() + Duration::from_secs(10);
        let pour = ["vpc-lab", "tool", "pour", address, "9000", "--millis=1500"];
        while lab.run(&node(from), &pour).unwrap().code != 0 {
            assert!(Instant::now() < deadline, "nobody listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = sink.join().unwrap();
        let json = output.stdout.strip_prefix("ready\n").unwrap_or_else(|| panic!("{output:?}"));
        serde_json::from_str(json).unwrap()
    })
}

#[test]
fn a_node_sends_and_receives_no_more_than_its_bandwidth() {
    const TEST: &str = "a_node_sends_and_receives_no_more_than_its_bandwidth";
    let text = SMALL.replace("name = \"a\"\n", &format!("name = \"a\"\nbandwidth_mbps = {MBPS}\n"));
    let lab = start(&topology(&text));
    for (from, to, address) in [("a", "b", "10.20.16.10"), ("b", "a", "10.20.8.10")] {
        let poured = poured(&lab, from, to, address);
        // What the bucket and the queue hold besides; twice the rate is far from what a link without a limit carries.
        let most = MBPS * 125_000 * poured.micros / 1_000_000 * 2 + (512 << 10);
        assert!(poured.micros >= 1_000_000 && poured.bytes > 100_000, "{from} to {to}: {poured:?}");
        assert!(poured.bytes <= most, "{from} to {to}: {poured:?}, at most {most}");
    }
    let ports = lab.status().unwrap().fabric.ports;
    let port = ports.iter().find(|port| port.networks.iter().any(|net| net.addr() == Ipv4Addr::new(10, 20, 8, 10)));
    for (place, link) in [(node("a"), "eth0"), (Place::Fabric, port.unwrap().link.as_str())] {
        let output = match lab.run(&place, &["tc", "qdisc", "show", "dev", link]) {
            Ok(output) => output,
            Err(e) if e.to_string().contains("No such file") => return nobody::skip(TEST, "tc is not on this machine"),
            Err(e) => panic!("{e}"),
        };
        assert!(output.stdout.contains("tbf") && output.stdout.contains("rate 20Mbit"), "{place}: {output:?}");
    }
    let free = lab.run(&node("b"), &["tc", "qdisc", "show", "dev", "eth0"]).unwrap();
    assert!(!free.stdout.contains("tbf"), "{free:?}");
}

#[test]
fn what_is_too_much_for_the_link_local_services_is_dropped_for_each_eni_by_itself() {
    const LIMIT: u16 = 5;
    const MANY: u16 = 100;
    let lab = start(&topology(&format!("link_local_pps = {LIMIT}\n{SMALL}")));
    assert_eq!(lab.status().unwrap().link_local_dropped, Some(0));
    let flood = |from: &str, to| {
        let options = PingOptions {
            count: MANY,
            interval: Duration::ZERO,
            timeout: Duration::from_millis(5),
            ..PingOptions::default()
        };
        lab.ping(&node(from), to, &options).unwrap().answered()
    };
    // To one of the services twenty seconds' worth at once: what is over the rate gets no answer.
    let imds = Ipv4Addr::new(169, 254, 169, 254);
    let (answered, first) = (flood("a", imds), lab.status().unwrap().link_local_dropped.unwrap());
    assert!(answered >= 1 && first >= 1, "{answered} answered, {first} dropped");
    assert!(answered + first as usize <= usize::from(MANY), "{answered} answered, {first} dropped");
    // All of them share it, at each of their addresses; the rest of the network does not.
    for service in [RESOLVER_ADDRESS, Ipv4Addr::new(10, 20, 0, 2), Ipv4Addr::new(169, 254, 169, 123)] {
        let before = lab.status().unwrap().link_local_dropped.unwrap();
        flood("a", service);
        assert!(lab.status().unwrap().link_local_dropped.unwrap() > before, "{service}");
    }
    let before = lab.status().unwrap().link_local_dropped.unwrap();
    let options = PingOptions { count: MANY, interval: Duration::ZERO, ..PingOptions::default() };
    assert!(lab.ping(&node("a"), Ipv4Addr::new(10, 20, 16, 10), &options).unwrap().all_answered());
    // Another ENI has its own.
    let asked = lab.dns(&node("b"), "example.com", &DnsOptions::of(RESOLVER_ADDRESS)).unwrap();
    assert_eq!(asked.answers, ["52.78.83.169"]);
    assert_eq!(lab.status().unwrap().link_local_dropped.unwrap(), before);
}

#[test]
fn without_the_switch_nothing_is_limited() {
    let lab = start(&topology(SMALL));
    let options = PingOptions { count: 2000, interval: Duration::ZERO, ..PingOptions::default() };
    assert!(lab.ping(&node("a"), RESOLVER_ADDRESS, &options).unwrap().all_answered());
    assert_eq!(lab.status().unwrap().link_local_dropped, None);
}
