//! Custom networking: the node in 10.20.0.0/16, its pods on ENIs in subnets of 100.64.0.0/16, each with a gateway of its own. The
//! primary ENI takes no pods.

use crate::support::*;
use vpc_hostnet::*;
use vpc_model::RouteTable;

fn first() -> Pod {
    pod("sandbox-c", "web-2", "100.64.0.17", 2)
}

fn second() -> Pod {
    pod("sandbox-d", "web-3", "100.64.40.5", 3)
}

/// Two ENIs in two subnets other than the node's, a pod on each.
fn view() -> HostView {
    HostView {
        secondary: vec![eni(1, "100.64.0.9", "100.64.0.0/19"), eni(2, "100.64.32.9", "100.64.32.0/19")],
        pods: vec![first().on_host, second().on_host],
        ..crate::support::view()
    }
}

fn node(view: &HostView) -> PaperHost {
    let mut host = machine();
    host.attach(&link("eth2"), mac(2), 9001).unwrap();
    settle(&mut host, view);
    for pod in [first(), second()] {
        host.wire(pod.sandbox, &pod.wiring).unwrap();
    }
    settle(&mut host, view);
    host
}

fn leaves(host: &PaperHost, pod: &Pod, to: &str) -> (PaperEnd, std::net::Ipv4Addr) {
    let path = host.egress(pod.sandbox, ip(to), PaperTurn::Opens).unwrap();
    (path.end, path.source)
}

fn out(by: &str, via: &str, source: &str) -> (PaperEnd, std::net::Ipv4Addr) {
    (PaperEnd::Out { link: link(by), via: Some(ip(via)) }, ip(source))
}

fn in_pod(pod: &Pod) -> PaperEnd {
    PaperEnd::Pod { sandbox: pod.sandbox.into(), link: pod.on_host.host_link.clone() }
}

#[test]
fn each_eni_has_its_own_subnet_s_gateway_and_address() {
    let host = node(&view());
    assert_eq!(routes(&host, 2), set(["100.64.0.1 dev eth1 scope link", "default via 100.64.0.1 dev eth1"]));
    assert_eq!(routes(&host, 3), set(["100.64.32.1 dev eth2 scope link", "default via 100.64.32.1 dev eth2"]));
    let state = host.observe();
    for (name, address) in [("eth1", "100.64.0.9/19"), ("eth2", "100.64.32.9/19")] {
        assert!(state.link(&link(name)).unwrap().addresses.contains(&net(address)), "{name}");
    }
    let main = routes(&host, 254);
    assert!(!main.iter().any(|route| route.contains("dev eth1") || route.contains("dev eth2")), "{main:?}");
}

#[test]
fn inside_the_vpc_a_pod_leaves_by_its_eni_as_itself_whatever_the_range() {
    let host = node(&view());
    for to in ["100.64.70.1", OTHER_NODE] {
        assert_eq!(leaves(&host, &first(), to), out("eth1", "100.64.0.1", "100.64.0.17"));
        assert_eq!(leaves(&host, &second(), to), out("eth2", "100.64.32.1", "100.64.40.5"));
    }
    // Its own subnet too is behind the gateway: the VPC's router knows every address.
    assert_eq!(leaves(&host, &first(), "100.64.0.99"), out("eth1", "100.64.0.1", "100.64.0.17"));
}

#[test]
fn to_the_internet_pods_of_every_range_leave_as_the_node() {
    let host = node(&view());
    for pod in [first(), second()] {
        assert_eq!(leaves(&host, &pod, INTERNET), out("eth0", "10.20.8.1", "10.20.11.162"));
        let reply = host.routed(&link("eth0"), ip(INTERNET), pod.on_host.address).unwrap();
        assert_eq!(reply.end, in_pod(&pod), "the translated reply comes in by the primary ENI");
    }
}

#[test]
fn with_external_snat_they_leave_by_their_eni_as_themselves() {
    let mut view = view();
    view.settings.external_snat = true;
    let host = node(&view);
    assert_eq!(leaves(&host, &first(), INTERNET), out("eth1", "100.64.0.1", "100.64.0.17"));
    assert_eq!(leaves(&host, &second(), INTERNET), out("eth2", "100.64.32.1", "100.64.40.5"));
}

#[test]
fn a_range_the_vpc_does_not_list_is_still_translated_and_never_taken_for_inside() {
    // The CIDR of the pods has not reached the metadata yet.
    let mut view = view();
    view.vpc_cidrs = vec![net("10.20.0.0/16")];
    let mut host = node(&view);
    assert_eq!(leaves(&host, &first(), INTERNET), out("eth0", "10.20.8.1", "10.20.11.162"));
    assert_eq!(leaves(&host, &first(), OTHER_NODE), out("eth1", "100.64.0.1", "100.64.0.17"));
    assert_eq!(leaves(&host, &first(), "100.64.70.1").1, ip("10.20.11.162"), "as to anybody outside");
    // And now it has.
    view.vpc_cidrs.push(net("100.64.0.0/16"));
    settle(&mut host, &view);
    assert_eq!(leaves(&host, &first(), "100.64.70.1"), out("eth1", "100.64.0.1", "100.64.0.17"));
}

#[test]
fn pods_of_both_enis_and_the_node_reach_each_other_and_are_reached() {
    let host = node(&view());
    assert_eq!(leaves(&host, &first(), "100.64.40.5").0, in_pod(&second()));
    assert_eq!(leaves(&host, &second(), "100.64.0.17").0, in_pod(&first()));
    for (by, pod) in [("eth1", first()), ("eth2", second())] {
        assert_eq!(host.routed(&link(by), ip(OTHER_NODE), pod.on_host.address).unwrap().end, in_pod(&pod));
        assert_eq!(host.sent(ip("10.20.11.162"), pod.on_host.address).unwrap().end, in_pod(&pod), "kubelet's probe");
        assert_eq!(leaves(&host, &pod, "10.20.11.162").0, PaperEnd::Host);
    }
}

/// Custom networking turned on over a node with pods: those of the primary ENI and of the old subnet live on.
#[test]
fn old_pods_live_beside_the_new_ones() {
    let mut view = crate::support::view();
    let mut host = crate::support::node(&view);
    host.attach(&link("eth2"), mac(2), 9001).unwrap();
    view.secondary.push(eni(2, "100.64.32.9", "100.64.32.0/19"));
    view.pods.push(second().on_host);
    settle(&mut host, &view);
    host.wire("sandbox-d", &second().wiring).unwrap();
    settle(&mut host, &view);
    assert_eq!(leaves(&host, &second(), OTHER_NODE), out("eth2", "100.64.32.1", "100.64.40.5"));
    assert_eq!(leaves(&host, &pod_a(), OTHER_NODE), out("eth0", "10.20.8.1", "10.20.9.31"));
    assert_eq!(leaves(&host, &pod_b(), OTHER_NODE), out("eth1", "10.20.8.1", "10.20.10.201"));
    assert_eq!(leaves(&host, &pod_a(), "100.64.40.5").0, in_pod(&second()));
    assert_eq!(view.secondary[1].table(), RouteTable(3));
}

#[test]
fn what_stands_for_pods_is_told_by_its_shape() {
    let mut host = node(&view());
    let foreign = Rule {
        priority: priority::FROM_POD,
        from: Some(net("100.64.9.9/32")),
        to: None,
        mark: None,
        iif: None,
        table: RouteTable(105),
    };
    host.apply(&HostOp::AddRule(foreign)).unwrap();
    host.remove_sandbox("sandbox-d");
    let ties = pod_ties(&host.observe(), &view().settings);
    let (one, two, other) = (&ties[&ip("100.64.0.17")], &ties[&ip("100.64.40.5")], &ties[&ip("100.64.9.9")]);
    assert!(one.has_only_our_rules() && one.links.contains(&first().on_host.host_link));
    assert!(two.has_only_our_rules() && two.links.is_empty(), "its route went with its link");
    assert!(!other.has_only_our_rules(), "a branch ENI's table is none of ours");
}
