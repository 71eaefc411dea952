//! The VPC's resolver, asked by the lab's own client, by the C library and by Python, from nodes and pods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;

use common::{SMALL, nobody, start, topology};
use vpc_lab::Lab;
use vpc_lab::control::Place;
use vpc_lab::dns::RESOLVER_ADDRESS;
use vpc_lab::tools::{DnsOptions, DnsReply};

const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 2);
const ZONE: &str = "ap-northeast-2.compute.internal";

/// A service with an endpoint and one without, and a name with very many addresses.
fn world() -> String {
    let many = (1..=60).map(|n| format!("\"52.1.1.{n}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "[names]\n\"One.example.org\" = \"52.78.83.169\"\n\"many.example.org\" = [{many}]\n{SMALL}\n\
         [[services]]\nname = \"sts\"\n[[services]]\nname = \"ecr\"\n\
         [[endpoints]]\nservice = \"sts\"\nsubnets = [\"private-a\"]\nprivate_ip = \"10.20.8.50\"\n"
    )
}

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

fn ask(lab: &Lab, name: &str, kind: &str) -> DnsReply {
    let options = DnsOptions { kind: kind.to_owned(), ..DnsOptions::of(RESOLVER) };
    lab.dns(&node("a"), name, &options).unwrap()
}

fn address(lab: &Lab, name: &str) -> Vec<String> {
    let reply = ask(lab, name, "A");
    assert_eq!((reply.code.as_str(), &reply.authority), ("NoError", &None), "{name}: {reply:?}");
    reply.answers
}

#[test]
fn names_of_the_vpc_of_the_provider_and_of_the_world_have_addresses() {
    let lab = start(&topology(&world()));
    let instance = lab.status().unwrap().nodes.iter().find(|node| node.name == "b").unwrap().instance.clone();
    for (name, wanted) in [
        (format!("ip-10-20-8-10.{ZONE}"), "10.20.8.10"),
        (format!("IP-10-20-16-10.{}", ZONE.to_uppercase()), "10.20.16.10"),
        (format!("{instance}.{ZONE}"), "10.20.16.10"),
        (format!("instance-data.{ZONE}"), "169.254.169.254"),
        // A public name means the private address in here.
        ("ec2-203-0-113-10.ap-northeast-2.compute.amazonaws.com".to_owned(), "10.20.0.10"),
        ("ec2-203-0-113-128.ap-northeast-2.compute.amazonaws.com".to_owned(), "10.20.0.4"),
        ("ec2.ap-northeast-2.amazonaws.com".to_owned(), "169.254.169.200"),
        ("ecr.ap-northeast-2.amazonaws.com".to_owned(), "52.94.0.11"),
        // The endpoint's private address takes the place of the public one.
        ("sts.ap-northeast-2.amazonaws.com".to_owned(), "10.20.8.50"),
        (format!("ip-10-20-8-50.{ZONE}"), "10.20.8.50"),
        ("one.Example.ORG".to_owned(), "52.78.83.169"),
    ] {
        assert_eq!(address(&lab, &name), [wanted], "{name}");
    }
    // The same at the address that every VPC's resolver has, and over TCP.
    for (server, tcp) in [(RESOLVER_ADDRESS, false), (RESOLVER_ADDRESS, true), (RESOLVER, true)] {
        let options = DnsOptions { tcp, ..DnsOptions::of(server) };
        let reply = lab.dns(&node("p"), &format!("ip-10-20-8-10.{ZONE}"), &options).unwrap();
        assert_eq!(reply.answers, ["10.20.8.10"], "{server} tcp {tcp}: {reply:?}");
    }
}

#[test]
fn addresses_have_names() {
    let lab = start(&topology(&world()));
    for (address, wanted) in [
        ("10.8.20.10", format!("ip-10-20-8-10.{ZONE}.")),
        ("50.8.20.10", format!("ip-10-20-8-50.{ZONE}.")),
        ("10.113.0.203", "ec2-203-0-113-10.ap-northeast-2.compute.amazonaws.com.".to_owned()),
        ("169.83.78.52", "one.example.org.".to_owned()),
    ] {
        assert_eq!(ask(&lab, &format!("{address}.in-addr.arpa"), "PTR").answers, [wanted]);
    }
}

#[test]
fn what_is_not_there_is_told_from_what_has_no_such_record() {
    let lab = start(&topology(&world()));
    for (name, zone) in [
        (format!("ip-10-20-8-99.{ZONE}"), format!("{ZONE}.")),
        (format!("nobody.{ZONE}"), format!("{ZONE}.")),
        ("99.8.20.10.in-addr.arpa".to_owned(), "20.10.in-addr.arpa.".to_owned()),
        ("nobody.example.org".to_owned(), ".".to_owned()),
        ("ec2-203-0-113-77.ap-northeast-2.compute.amazonaws.com".to_owned(), ".".to_owned()),
    ] {
        let reply = ask(&lab, &name, "A");
        assert_eq!((reply.code.as_str(), reply.authority), ("NXDomain", Some(zone)), "{name}");
    }
    for (name, kind) in [
        (format!("ip-10-20-8-10.{ZONE}"), "AAAA"),
        ("one.example.org".to_owned(), "MX"),
        (ZONE.to_owned(), "A"),
        ("example.org".to_owned(), "A"),
    ] {
        let reply = ask(&lab, &name, kind);
        assert_eq!((reply.code.as_str(), reply.answers.len()), ("NoError", 0), "{name} {kind}");
        assert!(reply.authority.is_some(), "{name} {kind}");
    }
}

#[test]
fn an_answer_that_is_too_long_comes_whole_over_tcp() {
    let lab = start(&topology(&world()));
    let cut = ask(&lab, "many.example.org", "A");
    assert!(cut.truncated && cut.answers.is_empty(), "{cut:?}");
    let whole = lab.dns(&node("a"), "many.example.org", &DnsOptions { tcp: true, ..DnsOptions::of(RESOLVER) }).unwrap();
    assert!(!whole.truncated && whole.answers.len() == 60, "{whole:?}");
    // What is no question is answered by nobody, and does no harm.
    let noise = "exec 3<>/dev/udp/10.20.0.2/53; printf 'nonsense' >&3; exec 4<>/dev/tcp/10.20.0.2/53; printf '\\0\\3abc' >&4; timeout 2 cat <&4";
    let output = lab.run(&node("a"), &["bash", "-c", noise]).unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "the conversation ends: {output:?}");
    assert_eq!(address(&lab, "one.example.org"), ["52.78.83.169"]);
}

#[test]
fn a_new_address_has_a_name_at_once() {
    let lab = start(&topology(&world()));
    let eni = common::ec2::create(&lab, "private-a", 1);
    let addresses: Vec<_> = eni.private_ip_addresses.iter().map(|own| own.private_ip_address).collect();
    assert_eq!(addresses.len(), 2);
    for own in addresses {
        let name = format!("ip-{}.{ZONE}", own.to_string().replace('.', "-"));
        assert_eq!(address(&lab, &name), [own.to_string()]);
    }
}

/// A program of the host, run on a node; `None` where there is no such program.
fn run(lab: &Lab, command: &[&str]) -> Option<String> {
    match lab.run(&node("a"), command) {
        Ok(output) => {
            assert_eq!(output.code, 0, "{command:?}: {output:?}");
            Some(output.stdout)
        }
        Err(e) if e.to_string().contains("No such file") => None,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn a_node_s_own_programs_find_names() {
    const TEST: &str = "a_node_s_own_programs_find_names";
    let lab = start(&topology(&world()));
    let resolv = run(&lab, &["cat", "/etc/resolv.conf"]).unwrap();
    assert_eq!(resolv, format!("search {ZONE}\nnameserver {RESOLVER}\n"));
    let hosts = run(&lab, &["cat", "/etc/hosts"]).unwrap();
    assert!(hosts.contains(&format!("10.20.8.10 ip-10-20-8-10.{ZONE} ip-10-20-8-10 a\n")), "{hosts}");
    // By the short name too: the C library searches the zone.
    let cases = [
        (format!("ip-10-20-16-10.{ZONE}"), "10.20.16.10"),
        ("ip-10-20-16-10".to_owned(), "10.20.16.10"),
        ("one.example.org".to_owned(), "52.78.83.169"),
        ("ip-10-20-8-10".to_owned(), "10.20.8.10"),
    ];
    for (name, wanted) in &cases {
        match run(&lab, &["getent", "ahostsv4", name]) {
            Some(found) => assert!(found.starts_with(wanted), "{name}: {found}"),
            None => return nobody::skip(TEST, "getent is not on this machine"),
        }
    }
    let reverse = run(&lab, &["getent", "hosts", "10.20.16.10"]).unwrap();
    assert!(reverse.contains(&format!("ip-10-20-16-10.{ZONE}")), "{reverse}");
    let many = run(&lab, &["getent", "ahostsv4", "many.example.org"]).unwrap();
    assert_eq!(many.lines().filter(|line| line.contains("STREAM")).count(), 60, "over TCP, by itself");
    let script = "import socket; print(socket.getaddrinfo('sts.ap-northeast-2.amazonaws.com', 80, 0, socket.SOCK_STREAM)[0][4][0])";
    match run(&lab, &["python3", "-c", script]) {
        Some(found) => assert_eq!(found.trim(), "10.20.8.50"),
        None => nobody::skip(TEST, "python3 is not on this machine (the C library has been asked)"),
    }
}

#[test]
fn what_the_topology_places_comes_before_the_lab_s_own() {
    let text = SMALL.replace(
        "private_ip = \"10.20.8.10\"",
        "private_ip = \"10.20.8.10\"\nfiles = [{ path = \"/etc/resolv.conf\", content = \"# mine\\n\" }]",
    );
    let lab = start(&topology(&text));
    assert_eq!(lab.run(&node("a"), &["cat", "/etc/resolv.conf"]).unwrap().stdout, "# mine\n");
}

#[test]
fn neighbours_and_the_internet_can_not_ask() {
    let lab = start(&topology(&format!("{SMALL}\n[[peerings]]\nname = \"data\"\ncidrs = [\"10.30.0.0/16\"]\n")));
    let short = DnsOptions { timeout: std::time::Duration::from_millis(300), ..DnsOptions::of(RESOLVER) };
    for place in [Place::Peer("data".to_owned()), Place::World] {
        let reply = lab.dns(&place, &format!("ip-10-20-8-10.{ZONE}"), &short).unwrap();
        assert!(reply.error.is_some() && reply.code.is_empty(), "{place}: {reply:?}");
    }
}
