//! The paper host is as strict as the kernel. Each of these was seen on Linux 6.18.

use crate::support::*;
use vpc_hostnet::*;
use vpc_model::RouteTable;

fn add(address: &str, bare: bool) -> HostOp {
    HostOp::AddAddress { link: link("eth1"), address: net(address), no_prefix_route: bare }
}

fn remove(address: &str) -> HostOp {
    HostOp::RemoveAddress { link: link("eth1"), address: net(address) }
}

fn up(name: &str, up: bool) -> HostOp {
    HostOp::SetLink { link: link(name), mtu: None, up }
}

fn apply<const N: usize>(host: &mut PaperHost, ops: [HostOp; N]) {
    for op in ops {
        host.apply(&op).unwrap();
    }
}

#[test]
fn what_the_kernel_refuses_is_refused_and_changes_nothing() {
    let mut host = machine();
    let gateway = || Route::on_link(RouteTable(2), net("10.20.8.1/32"), link("eth1"));
    let default = || Route::through(RouteTable(2), net("0.0.0.0/0"), ip("10.20.8.1"), link("eth1"));
    let before = host.clone();
    let refused = |host: &mut PaperHost, op: HostOp| {
        let refusal = host.apply(&op).unwrap_err();
        assert_eq!(*host, before);
        refusal
    };
    let eth7 = || link("eth7");
    let route = |link, to| HostOp::ReplaceRoute(Route::on_link(RouteTable::MAIN, net(to), link));
    assert_eq!(refused(&mut host, route(eth7(), "10.0.0.0/8")), PaperRefusal::NoLink(eth7()));
    assert_eq!(refused(&mut host, HostOp::ReplaceRoute(gateway())), PaperRefusal::LinkDown(link("eth1")));
    assert_eq!(refused(&mut host, route(link("eth0"), "10.0.0.1/8")), PaperRefusal::BadPrefix(net("10.0.0.1/8")));
    let loose = HostOp::SetRpFilter { link: eth7(), mode: RpFilter::Loose };
    assert_eq!(refused(&mut host, loose), PaperRefusal::NoLink(eth7()));
    let pin = HostOp::PinNeighbour(Neighbour { link: eth7(), address: ip("10.0.0.1"), mac: mac(1) });
    assert_eq!(refused(&mut host, pin), PaperRefusal::NoLink(eth7()));
    let delete = HostOp::DeleteLink { link: link("eth0") };
    assert_eq!(refused(&mut host, delete), PaperRefusal::NotDeletable(link("eth0")));
    let mtu = HostOp::SetLink { link: link("eth0"), mtu: Some(67), up: true };
    assert_eq!(refused(&mut host, mtu), PaperRefusal::BadMtu { link: link("eth0"), mtu: 67 });
    let key = "net/ipv4/conf/eth7/promote_secondaries".to_owned();
    let switch = HostOp::SetSysctl { key: key.clone(), value: "1".into() };
    assert_eq!(refused(&mut host, switch), PaperRefusal::NoSwitch(key));

    apply(&mut host, [up("eth1", true)]);
    let no_gateway = PaperRefusal::NoGateway { gateway: ip("10.20.8.1"), link: link("eth1") };
    assert_eq!(host.apply(&HostOp::ReplaceRoute(default())), Err(no_gateway));
    let source = Route { source: Some(ip("10.20.10.87")), ..gateway() };
    assert_eq!(host.apply(&HostOp::ReplaceRoute(source)), Err(PaperRefusal::BadSource(ip("10.20.10.87"))));
    let own = Route::through(RouteTable(2), net("0.0.0.0/0"), ip("10.20.11.162"), link("eth1"));
    assert_eq!(host.apply(&HostOp::ReplaceRoute(own)), Err(PaperRefusal::BadGateway(ip("10.20.11.162"))));
    apply(&mut host, [HostOp::ReplaceRoute(gateway()), HostOp::ReplaceRoute(default())]);
    assert_eq!(host.attach(&link("eth1"), mac(3), 9001), Err(PaperRefusal::NameTaken(link("eth1"))));
}

#[test]
fn the_last_address_takes_the_routes_of_every_table_with_it() {
    let mut host = node(&view());
    assert_eq!(routes(&host, 2).len(), 2);
    apply(&mut host, [add("10.20.20.1/24", true), remove("10.20.20.1/24")]);
    assert_eq!(routes(&host, 2).len(), 2, "one address is left");
    apply(&mut host, [remove("10.20.10.87/22")]);
    assert_eq!(routes(&host, 2).len(), 0);
}

#[test]
fn a_second_address_of_a_network_falls_with_the_first_unless_promoted() {
    let both = [add("10.20.10.5/22", false), add("10.20.10.87/22", false)];
    let left = |host: &PaperHost| host.observe().link(&link("eth1")).unwrap().addresses.clone();
    let mut host = machine();
    apply(&mut host, [up("eth1", true)]);
    apply(&mut host, both);
    let connected = |host: &PaperHost, source: &str| {
        routes(host, 254).contains(&format!("10.20.8.0/22 dev eth1 scope link src {source}"))
    };
    assert!(connected(&host, "10.20.10.5") && !connected(&host, "10.20.10.87"));
    let mut promoting = host.clone();
    apply(&mut host, [remove("10.20.10.5/22")]);
    assert!(left(&host).is_empty());

    let key = "net/ipv4/conf/eth1/promote_secondaries".to_owned();
    apply(&mut promoting, [HostOp::SetSysctl { key, value: "1".into() }, remove("10.20.10.5/22")]);
    assert_eq!(left(&promoting), [net("10.20.10.87/22")].into());
    assert!(connected(&promoting, "10.20.10.87"));
}

#[test]
fn a_link_that_goes_down_keeps_addresses_only() {
    let mut host = node(&view());
    apply(&mut host, [add("10.20.20.1/24", false)]);
    let pin = Neighbour { link: link("eth1"), address: ip("10.20.8.1"), mac: mac(50) };
    apply(&mut host, [HostOp::PinNeighbour(pin), up("eth1", false)]);
    let state = host.observe();
    assert!(!state.routes.iter().any(|route| route.link == link("eth1")));
    assert!(!state.neighbours.iter().any(|n| n.link == link("eth1")));
    assert_eq!(state.link(&link("eth1")).unwrap().addresses.len(), 2);
    apply(&mut host, [up("eth1", true)]);
    assert!(routes(&host, 254).contains("10.20.20.0/24 dev eth1 scope link src 10.20.20.1"));
    assert!(routes(&host, 2).is_empty());
}

#[test]
fn a_link_that_goes_takes_everything_on_it_along() {
    let mut host = node(&view());
    let b = pod_b();
    apply(&mut host, [HostOp::DeleteLink { link: b.on_host.host_link.clone() }]);
    host.detach(&link("eth1"));
    let state = host.observe();
    assert!(state.link(&b.on_host.host_link).is_none() && state.link(&link("eth1")).is_none());
    assert!(!state.routes.iter().any(|route| [&b.on_host.host_link, &link("eth1")].contains(&&route.link)));
    assert_eq!(host.pod(b.sandbox).unwrap().addresses(), [].into(), "the far end is gone too");
    assert!(state.rules.iter().any(|rule| rule.priority == 1536), "rules are nobody's link's");
    // Removing what is not there is no error.
    apply(&mut host, [HostOp::DeleteLink { link: b.on_host.host_link }, remove("10.20.10.87/22")]);
}

#[test]
fn a_rule_s_removal_takes_those_that_say_more() {
    let plain = Rule {
        priority: 1535,
        from: None,
        to: Some(net("203.0.113.0/24")),
        mark: None,
        iif: None,
        table: RouteTable::MAIN,
    };
    let more = [
        Rule { from: Some(net("10.20.9.31/32")), ..plain.clone() },
        Rule { iif: Some(link("eth1")), ..plain.clone() },
        Rule { mark: Some(Mark::bits(0x40)), ..plain.clone() },
    ];
    let other = [
        Rule { table: RouteTable(2), ..plain.clone() },
        Rule { priority: 1534, ..plain.clone() },
        Rule { to: Some(net("203.0.113.0/25")), ..plain.clone() },
        Rule { to: None, from: Some(net("203.0.113.0/24")), ..plain.clone() },
    ];
    let mut host = machine();
    let before = host.observe().rules;
    for rule in more.iter().chain(&other) {
        apply(&mut host, [HostOp::AddRule(rule.clone())]);
    }
    apply(&mut host, [HostOp::RemoveRule(plain)]);
    let left: Vec<Rule> = host.observe().rules.difference(&before).cloned().collect();
    assert_eq!(left.len(), other.len());
    assert!(other.iter().all(|rule| left.contains(rule)));
}

#[test]
fn a_pod_s_sandbox_refuses_what_is_there() {
    let mut host = node(&view());
    let before = host.clone();
    let b = pod_b();
    let mut second = pod("sandbox-b", "web-9", "10.20.10.209", 2).wiring;
    second.veth.pod_link = link("net1");
    // The second route to the next hop in one sandbox.
    let gateway = PaperRefusal::RouteTaken(net("169.254.1.1/32"));
    second.pod.retain(|op| !matches!(op, PodOp::Up(_)));
    assert_eq!(host.wire(b.sandbox, &second), Err(gateway));
    assert_eq!(host, before);
    second.pod = vec![PodOp::AddAddress { link: link("eth0"), address: ip("10.20.10.201") }];
    let taken = PaperRefusal::AddressTaken { link: link("eth0"), address: net("10.20.10.201/32") };
    assert_eq!(host.wire(b.sandbox, &second), Err(taken));
}
