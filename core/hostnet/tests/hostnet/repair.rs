//! From a state that is wrong to the right one: what is put back, what goes, what is left alone, and in which order.

use std::collections::BTreeSet;

use crate::support::*;
use vpc_hostnet::*;
use vpc_model::RouteTable;

fn rule(priority: u32, from: Option<&str>, to: Option<&str>, table: u32) -> Rule {
    let (from, to) = (from.map(net), to.map(net));
    Rule { priority, from, to, mark: None, iif: None, table: RouteTable(table) }
}

fn marked(priority: u32, value: u32, mask: u32) -> Rule {
    Rule { mark: Some(Mark { value, mask }), ..rule(priority, None, None, 254) }
}

/// A finished node with these rules beside ours; returns what the daemon then does.
fn with_rules(view: &HostView, rules: &[Rule]) -> Vec<HostOp> {
    let mut host = node(view);
    for rule in rules {
        host.apply(&HostOp::AddRule(rule.clone())).unwrap();
    }
    settle(&mut host, view)
}

fn removals(rules: &[Rule]) -> Vec<HostOp> {
    rules.iter().cloned().map(HostOp::RemoveRule).collect()
}

#[test]
fn a_new_node_is_made_in_an_order_that_never_cuts() {
    let ops = plan_for(&machine(), &view());
    let step = |op: &HostOp| match op {
        HostOp::SetRpFilter { .. } => "rp_filter".to_owned(),
        HostOp::SetLink { link, .. } => format!("up {link}"),
        HostOp::AddAddress { link, address, no_prefix_route: true } => format!("{address} on {link}"),
        HostOp::ReplaceRoute(route) => format!("{} in {}", route.to, route.table),
        HostOp::AddRule(rule) => show_rule(rule),
        HostOp::ReplaceFilter(_) => "filter".to_owned(),
        other => format!("{other:?}"),
    };
    let want = [
        "rp_filter",
        "1024: from all fwmark 0x80/0x80 lookup main",
        "filter",
        "up eth1",
        "10.20.10.87/22 on eth1",
        "10.20.8.1/32 in 2",
        "0.0.0.0/0 in 2",
        "32765: from 10.20.10.87 lookup 2",
    ];
    assert_eq!(ops.iter().map(step).collect::<Vec<_>>(), want);
}

#[test]
fn a_daemon_that_starts_again_changes_nothing() {
    let mut host = node(&view());
    assert_eq!(settle(&mut host, &view()), []);
}

#[test]
fn a_node_of_the_reference_is_taken_over_without_touching_what_is_right() {
    // The reference removes the connected route by hand, writes no alias, pins no neighbour on the host, and has no table of ours.
    let mut host = machine();
    for op in [
        HostOp::SetRpFilter { link: link("eth0"), mode: RpFilter::Loose },
        HostOp::SetLink { link: link("eth1"), mtu: Some(9001), up: true },
        HostOp::AddAddress { link: link("eth1"), address: net("10.20.10.87/22"), no_prefix_route: false },
        HostOp::ReplaceRoute(Route::on_link(RouteTable(2), net("10.20.8.1/32"), link("eth1"))),
        HostOp::ReplaceRoute(Route::through(RouteTable(2), net("0.0.0.0/0"), ip("10.20.8.1"), link("eth1"))),
        HostOp::RemoveRoute(Route {
            source: Some(ip("10.20.10.87")),
            ..Route::on_link(RouteTable::MAIN, net("10.20.8.0/22"), link("eth1"))
        }),
        HostOp::AddRule(rule(32765, Some("10.20.10.87/32"), None, 2)),
        HostOp::AddRule(marked(1024, 0x80, 0x80)),
    ] {
        host.apply(&op).unwrap();
    }
    let mut view = view();
    for (pod, known) in [pod_a(), pod_b()].into_iter().zip(&mut view.pods) {
        let mut wiring = pod.wiring.clone();
        wiring.veth.alias = String::new();
        wiring.host.retain(|op| !matches!(op, HostOp::PinNeighbour(_)));
        host.wire(pod.sandbox, &wiring).unwrap();
        known.pod_mac = None;
    }
    let ops = settle(&mut host, &view);
    assert!(matches!(ops.as_slice(), [HostOp::ReplaceFilter(_)]), "only the packet filter is new: {ops:#?}");
}

#[test]
fn whatever_of_a_pod_is_lost_is_put_back() {
    let view = view();
    let b = pod_b();
    let whole = node(&view);
    let lost: Vec<HostOp> = b
        .wiring
        .host
        .iter()
        .map(|op| match op.clone() {
            HostOp::PinNeighbour(neighbour) => HostOp::RemoveNeighbour(neighbour),
            HostOp::ReplaceRoute(route) => HostOp::RemoveRoute(route),
            HostOp::AddRule(rule) => HostOp::RemoveRule(rule),
            other => panic!("{other:?} has no opposite here"),
        })
        .collect();
    assert_eq!(lost.len(), 4);
    for (loss, made) in lost.iter().zip(&b.wiring.host) {
        let mut host = whole.clone();
        host.apply(loss).unwrap();
        assert_eq!(settle(&mut host, &view), std::slice::from_ref(made));
        assert_eq!(host.observe(), whole.observe());
    }
}

#[test]
fn a_rule_into_the_wrong_table_is_corrected_the_right_one_first() {
    let wrong = rule(1536, Some("10.20.10.201/32"), None, 3);
    let mut host = machine();
    let view = view();
    settle(&mut host, &view);
    let b = pod_b();
    let mut wiring = b.wiring.clone();
    wiring.host.retain(|op| !matches!(op, HostOp::AddRule(rule) if rule.priority == 1536));
    wiring.host.push(HostOp::AddRule(wrong.clone()));
    host.wire(b.sandbox, &wiring).unwrap();
    let right = rule(1536, Some("10.20.10.201/32"), None, 2);
    assert_eq!(settle(&mut host, &view), [HostOp::AddRule(right), HostOp::RemoveRule(wrong)]);
}

#[test]
fn rules_of_unknown_pods_stay_until_they_are_proven_to_be_nobody_s() {
    let stale = [
        rule(512, None, Some("10.20.9.77/32"), 254),
        rule(1536, Some("10.20.9.77/32"), None, 2),
        rule(1536, Some("10.20.9.77/32"), Some("10.20.0.0/16"), 2),
    ];
    let mut view = view();
    assert_eq!(with_rules(&view, &stale), []);
    view.released = [ip("10.20.9.77")].into();
    let removed: BTreeSet<String> = with_rules(&view, &stale).iter().map(|op| format!("{op:?}")).collect();
    assert_eq!(removed, removals(&stale).iter().map(|op| format!("{op:?}")).collect());
}

#[test]
fn a_released_address_loses_route_and_neighbour_but_a_pod_s_never() {
    let mut host = node(&view());
    let c = pod("sandbox-c", "web-2", "10.20.9.77", 2);
    host.wire(c.sandbox, &c.wiring).unwrap();
    let mut view = view();
    assert_eq!(settle(&mut host, &view), [], "a plugin may be about to finish it");
    // Pod B is on the list by mistake; that it is a pod's counts for more.
    view.released = [ip("10.20.9.77"), ip("10.20.10.201"), ip("10.20.10.87")].into();
    settle(&mut host, &view);
    let rest = host.observe();
    assert!(!rest.routes.iter().any(|route| route.to == net("10.20.9.77/32")));
    assert!(!rest.neighbours.iter().any(|n| n.address == ip("10.20.9.77")));
    host.remove_sandbox(c.sandbox);
    assert_eq!(host.observe().rules, node(&view).observe().rules);
}

#[test]
fn a_pod_in_the_making_is_left_alone_even_if_its_address_is_on_the_list() {
    let mut view = view();
    view.pods.push(pod("sandbox-c", "web-2", "10.20.9.77", 2).on_host);
    view.released = [ip("10.20.9.77")].into();
    let half = [rule(512, None, Some("10.20.9.77/32"), 254), rule(1536, Some("10.20.9.77/32"), None, 3)];
    assert_eq!(with_rules(&view, &half), []);
}

#[test]
fn a_successor_s_link_is_not_taken_for_the_pod_before() {
    let mut view = view();
    let mut host = node(&view);
    // Same pod name, so the same link name; the daemon has not yet heard the DEL of the first.
    let successor = pod("sandbox-b2", "web-1", "10.20.10.202", 2);
    host.wire(successor.sandbox, &successor.wiring).unwrap();
    view.pods.push(successor.on_host.clone());
    assert_eq!(settle(&mut host, &view), []);
    assert!(!host.observe().routes.iter().any(|route| route.to == net("10.20.10.201/32")));
}

#[test]
fn rules_of_others_are_never_touched() {
    let mut view = view();
    view.released = [ip("10.20.9.77")].into();
    let foreign = [
        // kube-proxy's, Calico's and Cilium's marks, at priorities of theirs and at ours.
        marked(1024, 0x4000, 0xc000),
        marked(1023, 0x80, 0x80),
        marked(100, 0xf00, 0xf00),
        Rule { table: RouteTable(200), ..marked(1024, 0x80, 0x80) },
        Rule { iif: Some(link("eth0")), ..marked(1024, 0x40, 0x40) },
        Rule { from: Some(net("10.20.9.77/32")), ..marked(1024, 0x40, 0x40) },
        // An address that is no pod's, at our priorities but in other shapes, and in our shapes at other priorities.
        rule(512, Some("10.20.9.77/32"), None, 254),
        rule(512, None, Some("10.20.9.77/32"), 7),
        rule(512, None, Some("10.20.9.0/24"), 254),
        rule(513, None, Some("10.20.9.77/32"), 254),
        rule(1536, None, Some("10.20.9.77/32"), 2),
        rule(1536, Some("10.20.9.64/28"), None, 2),
        rule(1537, Some("10.20.9.77/32"), None, 2),
        Rule { iif: Some(link("eth1")), ..rule(1536, Some("10.20.9.77/32"), None, 2) },
        rule(1535, None, Some("203.0.113.0/24"), 7),
        rule(1535, Some("203.0.113.0/24"), None, 254),
        rule(1535, Some("10.20.9.77/32"), Some("203.0.113.0/24"), 254),
        // An administrator's rules without a priority get 32765 and below from the kernel.
        rule(32765, Some("192.168.7.1/32"), None, 5),
        rule(32764, Some("10.20.10.99/32"), None, 5),
        rule(32765, Some("10.20.10.99/32"), None, 500),
        rule(32765, Some("10.20.10.0/24"), None, 2),
        rule(32765, Some("10.20.11.162/32"), None, 5),
        rule(32765, Some("10.20.10.99/32"), Some("10.20.0.0/16"), 5),
    ];
    assert_eq!(with_rules(&view, &foreign), []);
}

#[test]
fn stale_rules_of_the_node_go() {
    let view = view();
    for stale in [
        marked(1024, 0x40, 0x40),
        rule(1535, None, Some("203.0.113.0/24"), 254),
        // Of an ENI long gone: its table is empty, or another ENI's by now.
        rule(32765, Some("10.20.10.99/32"), None, 5),
        rule(32765, Some("10.20.10.99/32"), None, 2),
        rule(32765, Some("10.20.10.99/32"), None, 10_101),
        // Of an ENI of ours, into a table that was its own.
        rule(32765, Some("10.20.10.87/32"), None, 3),
    ] {
        assert_eq!(with_rules(&view, std::slice::from_ref(&stale)), [HostOp::RemoveRule(stale)]);
    }
}

#[test]
fn a_stale_rule_that_would_drag_another_s_along_stays() {
    let stale = rule(1535, None, Some("203.0.113.0/24"), 254);
    let foreign = Rule { from: Some(net("10.20.9.31/32")), ..stale.clone() };
    assert_eq!(with_rules(&view(), &[stale.clone(), foreign]), []);
    assert_eq!(with_rules(&view(), std::slice::from_ref(&stale)), removals(std::slice::from_ref(&stale)));
}

#[test]
fn rules_of_an_eni_somebody_else_manages_stay() {
    let mut host = node(&view());
    host.attach(&link("eth5"), mac(5), 9001).unwrap();
    for op in [
        HostOp::SetLink { link: link("eth5"), mtu: None, up: true },
        HostOp::AddAddress { link: link("eth5"), address: net("10.20.40.5/24"), no_prefix_route: false },
        // Its own table, still empty, and one of other routes for an address that is on no link.
        HostOp::AddRule(rule(32765, Some("10.20.40.5/32"), None, 6)),
        HostOp::ReplaceRoute(Route::through(RouteTable(7), net("0.0.0.0/0"), ip("10.20.40.1"), link("eth5"))),
        HostOp::AddRule(rule(32765, Some("10.20.40.77/32"), None, 7)),
    ] {
        host.apply(&op).unwrap();
    }
    assert_eq!(settle(&mut host, &view()), []);
}

#[test]
fn of_two_wrong_routes_to_a_pod_both_go() {
    // Two of one destination differ in metric, which the paper host does not have.
    let host = node(&view());
    let (mut state, b) = (host.observe(), pod_b().on_host);
    let route = |by: &str| Route::on_link(RouteTable::MAIN, b.address.into(), link(by));
    let right = route(b.host_link.as_str());
    let wrong = [route("eni0d7763386da"), route("eni9e018d76bb3")];
    let other = Link { name: link("eni9e018d76bb3"), index: 99, ..state.link(&b.host_link).unwrap().clone() };
    state.links.push(other);
    state.routes.remove(&right);
    state.routes.extend(wrong.clone());
    let ops = plan(&desired(&view(), &state).unwrap(), &state);
    let [one, two] = wrong;
    assert_eq!(ops, [HostOp::ReplaceRoute(right), HostOp::RemoveRoute(one), HostOp::RemoveRoute(two)]);
}

#[test]
fn an_eni_about_to_leave_loses_its_rule_only_on_proof() {
    let mut host = node(&view());
    let mut view = view();
    view.pods.truncate(1);
    view.secondary.clear();
    assert_eq!(settle(&mut host, &view), [], "one odd answer of the metadata service removes nothing");
    view.released = [ip("10.20.10.87")].into();
    assert_eq!(settle(&mut host, &view), removals(&[rule(32765, Some("10.20.10.87/32"), None, 2)]));
}

/// Somebody took an address off a pod, and EC2 gave it to a new ENI as its own: the pod's rules go with the pod, the ENI's stays.
#[test]
fn rules_of_a_pod_whose_address_is_an_eni_s_own_now_go_with_the_pod() {
    let mut view = view();
    let left = [rule(512, None, Some("10.20.10.87/32"), 254), rule(1536, Some("10.20.10.87/32"), None, 3)];
    assert_eq!(with_rules(&view, &left), [], "nobody said that it is no pod's");
    view.released = [ip("10.20.10.87")].into();
    assert_eq!(with_rules(&view, &left), removals(&left));
}

#[test]
fn the_rule_of_an_eni_whose_link_has_not_come_yet_stays() {
    let mut view = view();
    view.secondary.push(eni(2, "10.20.34.9", "10.20.32.0/20"));
    assert_eq!(with_rules(&view, &[rule(32765, Some("10.20.34.9/32"), None, 3)]), []);
}

#[test]
fn another_mark_is_moved_to_without_a_gap() {
    let mut host = node(&view());
    let mut view = view();
    view.settings.mark = 0x100;
    let ops = settle(&mut host, &view);
    let (new, old) = (marked(1024, 0x100, 0x100), marked(1024, 0x80, 0x80));
    match ops.as_slice() {
        [HostOp::AddRule(added), HostOp::ReplaceFilter(filter), HostOp::RemoveRule(removed)] => {
            assert_eq!((added, removed, filter.mark), (&new, &old, Mark::bits(0x100)));
        }
        other => panic!("{other:#?}"),
    }
}

#[test]
fn switching_everything_off_stops_marking_before_the_rule_goes() {
    let mut host = node(&view());
    let mut view = view();
    view.settings.external_snat = true;
    view.settings.node_port = false;
    let ops = settle(&mut host, &view);
    assert!(matches!(ops.as_slice(), [HostOp::ReplaceFilter(_), HostOp::RemoveRule(_)]), "{ops:#?}");
}

#[test]
fn a_flushed_filter_is_written_again() {
    let mut host = node(&view());
    host.disturb_filter();
    let ops = settle(&mut host, &view());
    assert!(matches!(ops.as_slice(), [HostOp::ReplaceFilter(_)]), "{ops:#?}");
}

#[test]
fn a_firewall_reload_and_a_link_gone_down_are_repaired() {
    let view = view();
    let mut host = node(&view);
    let whole = host.observe();
    for name in ["eth1", "eni0761ccbeace"] {
        host.apply(&HostOp::SetLink { link: link(name), mtu: None, up: false }).unwrap();
        settle(&mut host, &view);
        assert_eq!(host.observe(), whole);
    }
}

#[test]
fn addresses_an_operating_system_put_on_our_eni_go_without_emptying_its_table() {
    let view = view();
    let mut host = machine();
    let foreign = ["10.20.10.201/22", "10.20.10.44/22", "10.20.10.87/32", "169.254.7.7/16"];
    host.apply(&HostOp::SetLink { link: link("eth1"), mtu: None, up: true }).unwrap();
    for address in foreign {
        let op = HostOp::AddAddress { link: link("eth1"), address: net(address), no_prefix_route: false };
        host.apply(&op).unwrap();
    }
    let ops = settle(&mut host, &view);
    let eth1 = host.observe().link(&link("eth1")).unwrap().clone();
    assert_eq!(eth1.addresses, [net("10.20.10.87/22"), net("169.254.7.7/16")].into());
    assert_eq!(routes(&host, 2).len(), 2, "{ops:#?}");
    assert!(!routes(&host, 254).iter().any(|route| route.contains("10.20.8.0/22 dev eth1")));
}

#[test]
fn routes_are_replaced_in_place_and_only_on_pods_links() {
    let view = view();
    let mut host = node(&view);
    let (a, b) = (pod_a().on_host, pod_b().on_host);
    let route =
        |to: &PodOnHost, by: &PodOnHost| Route::on_link(RouteTable::MAIN, to.address.into(), by.host_link.clone());
    // B's address by A's veth: put right by one replacement, nothing is removed.
    host.apply(&HostOp::ReplaceRoute(route(&b, &a))).unwrap();
    assert_eq!(settle(&mut host, &view), [HostOp::ReplaceRoute(route(&b, &b))]);
    // Routes of others to addresses of no pod stay.
    let other = Route::through(RouteTable::MAIN, net("10.99.0.0/16"), ip("10.20.8.9"), link("eth0"));
    let host_route = Route::on_link(RouteTable::MAIN, net("10.20.9.77/32"), link("eth0"));
    for foreign in [other, host_route] {
        host.apply(&HostOp::ReplaceRoute(foreign)).unwrap();
    }
    let released = HostView { released: [ip("10.20.9.77")].into(), ..view };
    assert_eq!(settle(&mut host, &released), []);
}
