//! Services of the provider at addresses of the VPC: who reaches them, by which name, and what their security groups say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::{SMALL, start, topology};
use vpc_lab::Lab;
use vpc_lab::control::Place;
use vpc_lab::tools::{DnsOptions, HttpOptions, HttpReply, PingOptions};

const NAME: &str = "http://sts.ap-northeast-2.amazonaws.com/";
const IN_A: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 50);
/// An endpoint in one subnet and one in another.
const ENDPOINTS: &str = r#"
[[services]]
name = "sts"
[[endpoints]]
service = "sts"
subnets = ["private-a"]
private_ip = "10.20.8.50"
"#;

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

fn get(lab: &Lab, from: &str, url: &str) -> HttpReply {
    let options = HttpOptions { timeout: Duration::from_millis(700), ..HttpOptions::default() };
    lab.http(&node(from), url, &options).unwrap()
}

#[test]
fn a_service_is_reached_by_its_name_at_a_private_address() {
    let lab = start(&topology(&format!("{SMALL}{ENDPOINTS}")));
    for (from, address) in [("a", "10.20.8.10"), ("b", "10.20.16.10"), ("p", "10.20.0.10")] {
        let reply = get(&lab, from, NAME);
        assert!(reply.body.starts_with(&format!("hello {address},")), "{from}: nobody translates: {reply:?}");
        assert!(reply.body.ends_with("this is sts.ap-northeast-2.amazonaws.com\n"), "{reply:?}");
    }
    // The public address is there as before, through the NAT gateway.
    let outside = get(&lab, "a", "http://52.94.0.10/");
    assert!(outside.body.starts_with("hello 203.0.113.128,"), "{outside:?}");
    let seen: Vec<_> = lab.visits().unwrap().into_iter().map(|visit| (visit.place, visit.host.to_string())).collect();
    let inside = || (Place::Endpoint("sts".to_owned()), IN_A.to_string());
    assert_eq!(seen, [inside(), inside(), inside(), (Place::World, "52.94.0.10".to_owned())]);
    // The endpoint is a place like others, with one link.
    let place = Place::Endpoint("sts".to_owned());
    let at_endpoint = lab.capture(&place, "eth0").unwrap();
    assert!(lab.ping(&place, Ipv4Addr::new(10, 20, 8, 10), &PingOptions::default()).unwrap().all_answered());
    assert!(at_endpoint.wait_for(Duration::from_secs(2), |p| p.outgoing && p.is_echo_request()).is_some());
}

#[test]
fn an_endpoint_in_two_subnets_has_two_addresses_behind_one_name() {
    let two = ENDPOINTS.replace("[\"private-a\"]\nprivate_ip = \"10.20.8.50\"", "[\"private-a\", \"private-b\"]");
    let lab = start(&topology(&format!("{SMALL}{two}")));
    let resolver = DnsOptions::of(Ipv4Addr::new(10, 20, 0, 2));
    let answers = lab.dns(&node("a"), "sts.ap-northeast-2.amazonaws.com", &resolver).unwrap().answers;
    assert_eq!(answers.len(), 2, "{answers:?}");
    for address in &answers {
        let reply = get(&lab, "b", &format!("http://{address}/"));
        assert!(reply.body.starts_with("hello 10.20.16.10,"), "{address}: {reply:?}");
    }
    let subnets = ["10.20.8.0/22", "10.20.16.0/22"].map(|net| net.parse::<ipnet::Ipv4Net>().unwrap());
    let of = |net: &ipnet::Ipv4Net| answers.iter().any(|address| net.contains(&address.parse::<Ipv4Addr>().unwrap()));
    assert!(subnets.iter().all(of), "{answers:?}");
}

#[test]
fn an_endpoint_s_groups_say_who_may_ask() {
    const GROUPS: &str = r#"
[[security_groups]]
name = "askers"
[[security_groups]]
name = "service"
ingress = [{ protocol = "tcp", ports = "80", from = "askers" }]
"#;
    let text = SMALL.replace("name = \"b\"\n", "name = \"b\"\nsecurity_groups = [\"askers\"]\n");
    let guarded = ENDPOINTS.replace("private_ip", "security_groups = [\"service\"]\nprivate_ip");
    let lab = start(&topology(&format!("{text}{guarded}{GROUPS}")));
    assert_eq!(get(&lab, "b", NAME).status, 200);
    assert_eq!(get(&lab, "a", NAME).status, 0, "its group is not let in");
    let brief = PingOptions { timeout: Duration::from_millis(300), ..PingOptions::default() };
    assert!(!lab.ping(&node("b"), IN_A, &brief).unwrap().all_answered(), "ICMP is not let in");
}

#[test]
fn no_group_keeps_anybody_from_the_resolver() {
    const SHUT: &str = "[[security_groups]]\nname = \"shut\"\negress = []\n";
    let text = SMALL.replace("name = \"a\"\n", "name = \"a\"\nsecurity_groups = [\"shut\"]\n");
    let lab = start(&topology(&format!("{text}{SHUT}")));
    let brief = PingOptions { timeout: Duration::from_millis(300), ..PingOptions::default() };
    assert!(!lab.ping(&node("a"), Ipv4Addr::new(10, 20, 16, 10), &brief).unwrap().all_answered(), "it is shut");
    for server in [Ipv4Addr::new(10, 20, 0, 2), vpc_lab::dns::RESOLVER_ADDRESS] {
        for tcp in [false, true] {
            let reply = lab.dns(&node("a"), "example.com", &DnsOptions { tcp, ..DnsOptions::of(server) }).unwrap();
            assert_eq!(reply.answers, ["52.78.83.169"], "{server}, tcp {tcp}: {reply:?}");
        }
    }
}
