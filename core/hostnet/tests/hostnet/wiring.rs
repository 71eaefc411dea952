//! A pod's ties: made, used, undone.

use crate::support::*;
use vpc_hostnet::*;
use vpc_model::RouteTable;

#[test]
fn a_pod_s_side_is_what_the_reference_makes() {
    let b = pod_b();
    let eth0 = || link("eth0");
    let want = [
        PodOp::Up(link("lo")),
        PodOp::Up(eth0()),
        PodOp::AddRoute(Route::on_link(RouteTable::MAIN, net("169.254.1.1/32"), eth0())),
        PodOp::AddRoute(Route::through(RouteTable::MAIN, net("0.0.0.0/0"), ip("169.254.1.1"), eth0())),
        PodOp::AddAddress { link: eth0(), address: ip("10.20.10.201") },
        PodOp::PinNeighbour(Neighbour { link: eth0(), address: ip("169.254.1.1"), mac: b.wiring.veth.host_mac }),
    ];
    assert_eq!(b.wiring.pod, want);
}

#[test]
fn a_pod_of_the_primary_eni_has_one_rule_and_one_of_another_two() {
    let rules = |pod: Pod| -> Vec<String> {
        let rule = |op: HostOp| match op {
            HostOp::AddRule(rule) => Some(show_rule(&rule)),
            _ => None,
        };
        pod.wiring.host.into_iter().filter_map(rule).collect()
    };
    assert_eq!(rules(pod_a()), ["512: from all to 10.20.9.31 lookup main"]);
    let b = ["512: from all to 10.20.10.201 lookup main", "1536: from 10.20.10.201 lookup 2"];
    assert_eq!(rules(pod_b()), b);
}

#[test]
fn unwiring_and_the_end_of_the_namespace_leave_the_host_as_before() {
    let mut host = machine();
    settle(&mut host, &view());
    let before = host.observe();
    for pod in [pod_a(), pod_b()] {
        host.wire(pod.sandbox, &pod.wiring).unwrap();
        assert_ne!(host.observe(), before);
        for op in unwiring(HostLayout::Classic, pod.on_host.address, pod.on_host.table) {
            host.apply(&op).unwrap();
        }
        assert_eq!(host.observe().rules, before.rules);
        host.remove_sandbox(pod.sandbox);
        assert_eq!(host.observe(), before);
    }
}

#[test]
fn unwiring_twice_or_never_wired_is_no_error() {
    let mut host = machine();
    let before = host.observe();
    for op in unwiring(HostLayout::Classic, ip("10.20.10.201"), RouteTable(2)) {
        host.apply(&op).unwrap();
    }
    assert_eq!(host.observe(), before);
}

#[test]
fn a_second_add_of_the_same_pod_takes_the_place_of_the_first() {
    let mut host = node(&view());
    let b = pod_b();
    let again = pod("sandbox-b2", "web-1", "10.20.10.202", 2);
    host.wire(again.sandbox, &again.wiring).unwrap();
    assert_eq!(host.pod(b.sandbox).unwrap().links(), [link("lo")].into(), "the old pair is gone at both ends");
    let path = host.routed(&link("eth1"), ip(OTHER_NODE), ip("10.20.10.202")).unwrap();
    assert_eq!(path.end, PaperEnd::Pod { sandbox: "sandbox-b2".into(), link: b.on_host.host_link });
}

#[test]
fn a_refused_wiring_leaves_nothing_half_made() {
    let b = pod_b();
    let mut host = machine();
    host.wire("taken", &pod("taken", "web-7", "10.20.10.44", 2).wiring).unwrap();
    let before = host.clone();
    // The sandbox has an eth0 of another plugin already.
    assert_eq!(host.wire("taken", &b.wiring), Err(PaperRefusal::NameTaken(link("eth0"))));
    assert_eq!(host, before);
    // The name of the host end is a device's.
    let mut wiring = b.wiring.clone();
    wiring.veth.host_link = link("eth1");
    assert_eq!(host.wire("new", &wiring), Err(PaperRefusal::NotDeletable(link("eth1"))));
    // A multicast address is no station's.
    let mut wiring = b.wiring.clone();
    wiring.veth.pod_mac = vpc_model::Mac([1, 0, 0, 0, 0, 1]);
    assert_eq!(host.wire("new", &wiring), Err(PaperRefusal::BadMac(wiring.veth.pod_mac)));
    assert_eq!(host, before);
    assert!(host.pod("new").is_none());
}
