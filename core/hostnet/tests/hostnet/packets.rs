//! Where packets go on a finished node.

use crate::support::*;
use vpc_hostnet::*;

fn out(by: &str, source: &str) -> (PaperEnd, std::net::Ipv4Addr) {
    (PaperEnd::Out { link: link(by), via: Some(ip("10.20.8.1")) }, ip(source))
}

fn opens(host: &PaperHost, sandbox: &str, to: &str) -> (PaperEnd, std::net::Ipv4Addr) {
    let path = host.egress(sandbox, ip(to), PaperTurn::Opens).unwrap();
    (path.end, path.source)
}

fn in_pod(pod: &Pod) -> PaperEnd {
    PaperEnd::Pod { sandbox: pod.sandbox.into(), link: pod.on_host.host_link.clone() }
}

#[test]
fn inside_the_vpc_each_pod_leaves_by_its_own_eni_as_itself() {
    let host = node(&view());
    assert_eq!(opens(&host, "sandbox-a", OTHER_NODE), out("eth0", "10.20.9.31"));
    assert_eq!(opens(&host, "sandbox-b", OTHER_NODE), out("eth1", "10.20.10.201"));
    assert_eq!(opens(&host, "sandbox-b", "100.64.3.4"), out("eth1", "10.20.10.201"));
}

#[test]
fn to_the_internet_both_leave_by_eth0_as_the_node() {
    let host = node(&view());
    for sandbox in ["sandbox-a", "sandbox-b"] {
        assert_eq!(opens(&host, sandbox, INTERNET), out("eth0", "10.20.11.162"));
    }
}

#[test]
fn with_external_snat_a_pod_goes_out_as_itself() {
    let mut view = view();
    view.settings.external_snat = true;
    let host = node(&view);
    assert_eq!(opens(&host, "sandbox-b", INTERNET), out("eth1", "10.20.10.201"));
    assert_eq!(opens(&host, "sandbox-a", INTERNET), out("eth0", "10.20.9.31"));
}

#[test]
fn excluded_destinations_are_reached_as_oneself_and_external_services_by_eth0() {
    let mut view = view();
    view.settings.exclude_snat = vec![net("198.51.100.0/24")];
    let mut host = node(&view);
    assert_eq!(opens(&host, "sandbox-b", INTERNET), out("eth1", "10.20.10.201"));
    view.settings.external_services = vec![net("198.51.100.0/24")];
    settle(&mut host, &view);
    assert_eq!(opens(&host, "sandbox-b", INTERNET), out("eth0", "10.20.10.201"));
}

#[test]
fn pods_of_one_node_and_the_node_itself_reach_each_other() {
    let host = node(&view());
    let (a, b) = (pod_a(), pod_b());
    assert_eq!(opens(&host, a.sandbox, "10.20.10.201"), (in_pod(&b), ip("10.20.9.31")));
    assert_eq!(opens(&host, b.sandbox, "10.20.9.31"), (in_pod(&a), ip("10.20.10.201")));
    for pod in [&a, &b] {
        let probe = host.sent(ip("10.20.11.162"), pod.on_host.address).unwrap();
        assert_eq!(probe.end, in_pod(pod));
        assert_eq!(opens(&host, pod.sandbox, "10.20.11.162").0, PaperEnd::Host);
    }
}

#[test]
fn from_outside_a_pod_is_reached_by_its_eni() {
    let host = node(&view());
    for (by, pod) in [("eth0", pod_a()), ("eth1", pod_b())] {
        let path = host.routed(&link(by), ip(OTHER_NODE), pod.on_host.address).unwrap();
        assert_eq!((path.end, path.source), (in_pod(&pod), ip(OTHER_NODE)));
    }
}

#[test]
fn a_node_port_reply_leaves_as_it_came() {
    let host = node(&view());
    let client = host.routed(&link("eth0"), ip(OTHER_NODE), ip("10.20.11.162")).unwrap();
    assert_eq!((client.end, client.marked), (PaperEnd::Host, true));
    let reply = |marked| host.egress("sandbox-b", ip(OTHER_NODE), PaperTurn::Answers { marked }).unwrap();
    assert_eq!((reply(true).end, reply(true).source), out("eth0", "10.20.10.201"));
    assert_eq!((reply(false).end, reply(false).source), out("eth1", "10.20.10.201"));
}

#[test]
fn the_translated_reply_needs_the_loose_filter() {
    let mut host = node(&view());
    let reply = |host: &PaperHost| host.routed(&link("eth0"), ip(INTERNET), ip("10.20.10.201")).map(|path| path.end);
    assert_eq!(reply(&host), Ok(in_pod(&pod_b())));
    host.apply(&HostOp::SetRpFilter { link: link("eth0"), mode: RpFilter::Strict }).unwrap();
    assert_eq!(reply(&host), Err(PaperLoss::ReversePath { link: link("eth0"), source_address: ip(INTERNET) }));
    let repair = settle(&mut host, &view());
    assert_eq!(repair, [HostOp::SetRpFilter { link: link("eth0"), mode: RpFilter::Loose }]);
}

#[test]
fn what_is_lost_says_where() {
    let mut host = node(&view());
    let b = pod_b();
    let arrives = |host: &PaperHost, to: &str| host.routed(&link("eth1"), ip(OTHER_NODE), ip(to)).map(|path| path.end);

    host.apply(&HostOp::SetSysctl { key: "net/ipv4/ip_forward".into(), value: "0".into() }).unwrap();
    assert_eq!(arrives(&host, "10.20.10.201"), Err(PaperLoss::NotForwarding));
    host.apply(&HostOp::SetSysctl { key: "net/ipv4/ip_forward".into(), value: "1".into() }).unwrap();

    let wrong = Neighbour { link: b.on_host.host_link.clone(), address: b.on_host.address, mac: mac(77) };
    host.apply(&HostOp::PinNeighbour(wrong)).unwrap();
    let nobody = PaperLoss::NotThere { link: b.on_host.host_link.clone(), address: b.on_host.address };
    assert_eq!(arrives(&host, "10.20.10.201"), Err(nobody));
    settle(&mut host, &view());
    assert_eq!(arrives(&host, "10.20.10.201"), Ok(in_pod(&b)));

    host.apply(&HostOp::SetLink { link: link("eth1"), mtu: None, up: false }).unwrap();
    assert_eq!(arrives(&host, "10.20.10.201"), Err(PaperLoss::NoLink(link("eth1"))));
    assert_eq!(opens(&host, b.sandbox, OTHER_NODE), out("eth0", "10.20.10.201"), "table 2 is empty: it falls to main");

    let gone = host.egress("nobody", ip(OTHER_NODE), PaperTurn::Opens);
    assert_eq!(gone, Err(PaperLoss::NoSandbox("nobody".into())));
}
