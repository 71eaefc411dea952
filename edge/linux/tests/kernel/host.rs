use vpc_hostnet::{HostOp, Link, LinkKind, Neighbour, Route, RpFilter, Rule};
use vpc_linux::{Address, Errno, LinuxHost, Netns, RouteKind, RouteSpec};
use vpc_model::RouteTable;

use crate::sandbox::{cable, ip, mac, name, net, sandboxed};

const N: RouteTable = RouteTable(3);

#[test]
fn what_is_applied_is_observed_and_applies_again() {
    sandboxed("host::what_is_applied_is_observed_and_applies_again", || {
        let (mut host, far) = (LinuxHost::open().unwrap(), Netns::create().unwrap());
        cable(host.rtnl(), "eth1", &far, "b0");
        let before = host.observe().unwrap();
        let rule =
            |priority| Rule { priority, from: Some(net("10.20.8.9/32")), to: None, mark: None, iif: None, table: N };
        let gateway = Route::on_link(N, net("10.20.8.1/32"), name("eth1"));
        let default = Route::through(N, net("0.0.0.0/0"), ip("10.20.8.1"), name("eth1"));
        let neighbour = Neighbour { link: name("eth1"), address: ip("10.20.8.1"), mac: mac(5) };
        let ops = [
            HostOp::SetLink { link: name("eth1"), mtu: Some(9001), up: true },
            HostOp::AddAddress { link: name("eth1"), address: net("10.20.8.9/22"), no_prefix_route: true },
            HostOp::ReplaceRoute(gateway.clone()),
            HostOp::ReplaceRoute(default.clone()),
            HostOp::AddRule(rule(32765)),
            HostOp::PinNeighbour(neighbour.clone()),
            HostOp::SetRpFilter { link: name("eth1"), mode: RpFilter::Loose },
        ];
        host.apply(&ops).unwrap();
        host.apply(&ops).unwrap();
        let state = host.observe().unwrap();
        let link: &Link = state.link(&name("eth1")).unwrap();
        assert_eq!((link.mtu, link.up, link.kind, link.rp_filter), (9001, true, LinkKind::Veth, Some(RpFilter::Loose)));
        assert_eq!(link.addresses.iter().copied().collect::<Vec<_>>(), [net("10.20.8.9/22")]);
        assert_eq!(state.routes.iter().collect::<Vec<_>>(), [&default, &gateway]);
        assert!(state.rules.contains(&rule(32765)));
        assert_eq!(state.neighbours.iter().collect::<Vec<_>>(), [&neighbour]);

        let undo = [
            HostOp::RemoveNeighbour(neighbour),
            HostOp::RemoveRule(rule(32765)),
            HostOp::RemoveRoute(default),
            HostOp::RemoveRoute(gateway),
            HostOp::RemoveAddress { link: name("eth1"), address: net("10.20.8.9/22") },
        ];
        host.apply(&undo).unwrap();
        host.apply(&undo).unwrap();
        let after = host.observe().unwrap();
        assert_eq!((after.routes, after.rules, after.neighbours), (before.routes, before.rules, before.neighbours));
    });
}

#[test]
fn each_failure_is_told_and_the_rest_is_done() {
    sandboxed("host::each_failure_is_told_and_the_rest_is_done", || {
        let (mut host, far) = (LinuxHost::open().unwrap(), Netns::create().unwrap());
        cable(host.rtnl(), "eth1", &far, "b0");
        let ops = [
            HostOp::ReplaceRoute(Route::on_link(N, net("10.0.0.1/32"), name("eth7"))),
            HostOp::ReplaceRoute(Route::on_link(N, net("10.0.0.2/32"), name("eth1"))),
            HostOp::ReplaceRoute(Route::through(N, net("10.0.0.3/32"), ip("192.0.2.1"), name("eth1"))),
            HostOp::SetSysctl { key: "net/ipv4/no_such_switch".into(), value: "1".into() },
            HostOp::RemoveRoute(Route::on_link(N, net("10.0.0.1/32"), name("eth7"))),
            HostOp::DeleteLink { link: name("eth7") },
            HostOp::DeleteLink { link: name("eth8") },
        ];
        let error = host.apply(&ops).unwrap_err();
        let failed: Vec<_> = error.failures.iter().map(|failure| (failure.position, failure.error.errno())).collect();
        assert_eq!(failed, [(0, Some(Errno::ENODEV)), (2, Some(Errno::ENETUNREACH)), (3, Some(Errno::ENOENT))]);
        let text = error.to_string();
        assert!(
            text.starts_with("3 of 7 host operations failed: route 10.0.0.1/32 in table 3: get link eth7"),
            "{text}"
        );
        assert_eq!(host.observe().unwrap().routes.len(), 1);
    });
}

#[test]
fn a_rule_that_says_less_is_removed_before_one_that_says_more_is_added() {
    sandboxed("host::a_rule_that_says_less_is_removed_before_one_that_says_more_is_added", || {
        let mut host = LinuxHost::open().unwrap();
        let wide = Rule { priority: 600, from: Some(net("10.0.0.1/32")), to: None, mark: None, iif: None, table: N };
        let narrow = Rule { to: Some(net("10.9.0.0/16")), ..wide.clone() };
        host.apply(&[HostOp::AddRule(wide.clone())]).unwrap();
        host.apply(&[HostOp::RemoveRule(wide.clone()), HostOp::AddRule(narrow.clone())]).unwrap();
        let rules = host.observe().unwrap().rules;
        assert!(rules.contains(&narrow) && !rules.contains(&wide));
    });
}

#[test]
fn what_the_planner_has_no_word_for_is_not_shown_to_it() {
    sandboxed("host::what_the_planner_has_no_word_for_is_not_shown_to_it", || {
        let (mut host, far) = (LinuxHost::open().unwrap(), Netns::create().unwrap());
        let (index, _) = cable(host.rtnl(), "eth1", &far, "b0");
        host.rtnl().add_address(&Address::new(index, net("10.20.8.9/22"))).unwrap();
        host.rtnl().add_route(&RouteSpec::ending(RouteTable::MAIN, net("10.1.0.0/16"), RouteKind::Blackhole)).unwrap();
        let state = host.observe().unwrap();
        let routes: Vec<_> = state.routes.iter().map(|route| (route.table, route.to)).collect();
        assert_eq!(routes, [(RouteTable::MAIN, net("10.20.8.0/22"))], "neither local nor blackhole");
        assert_eq!(state.filter, None);
        assert_eq!(state.link(&name("lo")).unwrap().kind, LinkKind::Other);
    });
}

#[test]
fn hundred_links_are_deleted_in_one_go() {
    sandboxed("host::hundred_links_are_deleted_in_one_go", || {
        let (mut host, far) = (LinuxHost::open().unwrap(), Netns::create().unwrap());
        let before = host.observe().unwrap();
        for i in 0..100 {
            cable(host.rtnl(), &format!("eni{i}"), &far, &format!("b{i}"));
        }
        let ops: Vec<_> = (0..100).map(|i| HostOp::DeleteLink { link: name(&format!("eni{i}")) }).collect();
        let began = std::time::Instant::now();
        host.apply(&ops).unwrap();
        assert_eq!(host.observe().unwrap(), before);
        // One by one they take 18 ms each and more.
        assert!(began.elapsed() < std::time::Duration::from_millis(1500), "{:?}", began.elapsed());
    });
}
