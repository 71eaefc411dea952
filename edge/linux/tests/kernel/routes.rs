use vpc_hostnet::{Mark, RouteScope};
use vpc_linux::rtnl::route;
use vpc_linux::{Address, Errno, FibQuery, Netns, PROTOCOL, RouteKind, RouteSpec, Rtnl, RuleAction, RuleSpec};
use vpc_model::RouteTable;

use crate::sandbox::{cable, ip, name, net, other_eyes, sandboxed};

const N: RouteTable = RouteTable(10_101);

/// Links `a0` (10.20.8.4/22) and `a1`, both up.
fn two_links(rtnl: &mut Rtnl, far: &Netns) -> (u32, u32) {
    let first = cable(rtnl, "a0", far, "b0").0;
    let second = cable(rtnl, "a1", far, "b1").0;
    rtnl.add_address(&Address::new(first, net("10.20.8.4/22"))).unwrap();
    (first, second)
}

#[test]
fn routes_of_every_shape_come_back_as_written() {
    const TEST: &str = "routes::routes_of_every_shape_come_back_as_written";
    sandboxed(TEST, || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (first, second) = two_links(&mut rtnl, &far);
        let shapes = [
            RouteSpec::on_link(N, net("10.20.8.1/32"), second),
            RouteSpec::through(N, net("0.0.0.0/0"), ip("10.20.8.1"), first),
            RouteSpec { source: Some(ip("10.20.8.4")), ..RouteSpec::on_link(N, net("10.40.0.0/16"), first) },
            RouteSpec { onlink: true, ..RouteSpec::through(N, net("10.50.0.0/16"), ip("192.0.2.1"), second) },
            RouteSpec { metric: Some(77), ..RouteSpec::on_link(N, net("10.60.0.0/16"), second) },
            RouteSpec::ending(N, net("10.70.0.0/16"), RouteKind::Blackhole),
            RouteSpec::ending(N, net("10.80.0.0/16"), RouteKind::Unreachable),
            RouteSpec::ending(N, net("10.90.0.0/16"), RouteKind::Throw),
        ];
        rtnl.run(shapes.iter().map(route::replace).collect()).unwrap();
        let mut seen = rtnl.routes(Some(N)).unwrap();
        let mut wanted = shapes.to_vec();
        for route in &mut seen {
            // The kernel chooses a link (lo) for some that end here; it is not part of what was asked.
            if route.kind != RouteKind::Unicast {
                route.link = None;
            }
        }
        seen.sort();
        wanted.sort();
        assert_eq!(seen, wanted);
        assert_eq!(rtnl.routes(Some(RouteTable(4242))).unwrap(), [], "a table nobody used");

        if let Some(seen) = other_eyes(TEST, "ip", &["-j", "route", "show", "table", "10101", "10.50.0.0/16"]) {
            assert_eq!(seen[0]["gateway"], "192.0.2.1");
            assert_eq!(seen[0]["flags"][0], "onlink");
            assert_eq!(seen[0]["protocol"], PROTOCOL.to_string());
        }
        rtnl.run(shapes.iter().map(route::delete).collect()).unwrap();
        assert_eq!(rtnl.routes(Some(N)).unwrap(), []);
        assert!(rtnl.delete_route(&shapes[0]).unwrap_err().is_absent());
    });
}

#[test]
fn a_route_is_replaced_and_removed_whoever_put_it_there() {
    sandboxed("routes::a_route_is_replaced_and_removed_whoever_put_it_there", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (first, second) = two_links(&mut rtnl, &far);
        let boot = RouteSpec { protocol: 3, ..RouteSpec::on_link(N, net("10.20.8.77/32"), first) };
        rtnl.add_route(&boot).unwrap();
        let ours = RouteSpec::on_link(N, net("10.20.8.77/32"), second);
        assert!(rtnl.add_route(&ours).unwrap_err().is_present());
        rtnl.replace_route(&ours).unwrap();
        assert_eq!(rtnl.routes(Some(N)).unwrap(), std::slice::from_ref(&ours));
        rtnl.replace_route(&boot).unwrap();
        rtnl.delete_route(&RouteSpec { protocol: PROTOCOL, ..boot }).unwrap();
        assert_eq!(rtnl.routes(Some(N)).unwrap(), []);
    });
}

#[test]
fn the_kernel_says_why_a_route_is_refused() {
    sandboxed("routes::the_kernel_says_why_a_route_is_refused", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (first, _) = two_links(&mut rtnl, &far);
        let astray = RouteSpec::through(N, net("0.0.0.0/0"), ip("192.0.2.1"), first);
        let error = rtnl.add_route(&astray).unwrap_err();
        assert_eq!(error.errno, Errno::ENETUNREACH);
        assert_eq!(error.message.as_deref(), Some("Nexthop has invalid gateway"));
        assert!(error.to_string().starts_with("add route 0.0.0.0/0 via 192.0.2.1 dev #"), "{error}");
    });
}

#[test]
fn rules_of_every_shape_come_back_as_written() {
    const TEST: &str = "routes::rules_of_every_shape_come_back_as_written";
    sandboxed(TEST, || {
        let mut rtnl = Rtnl::open().unwrap();
        let before = rtnl.rules().unwrap();
        assert_eq!(before.iter().map(|rule| rule.priority).collect::<Vec<_>>(), [0, 32766, 32767]);
        let shapes = [
            RuleSpec { to: Some(net("10.20.8.77/32")), ..RuleSpec::lookup(512, RouteTable::MAIN) },
            RuleSpec { mark: Some(Mark::bits(0x80)), ..RuleSpec::lookup(1024, RouteTable::MAIN) },
            RuleSpec { mark: Some(Mark { value: 0, mask: 0xff }), ..RuleSpec::lookup(1025, N) },
            RuleSpec { from: Some(net("10.20.8.77/32")), iif: Some(name("eni123")), ..RuleSpec::lookup(1536, N) },
            RuleSpec { oif: Some(name("eth1")), action: RuleAction::Unreachable, ..RuleSpec::lookup(1537, N) },
        ];
        for rule in &shapes {
            rtnl.add_rule(rule).unwrap();
            rtnl.add_rule(rule).unwrap();
        }
        let seen: Vec<_> = rtnl.rules().unwrap().into_iter().filter(|rule| !before.contains(rule)).collect();
        assert_eq!(seen, shapes, "each once");
        if let Some(seen) = other_eyes(TEST, "ip", &["-j", "rule", "show", "priority", "1024"]) {
            assert_eq!((&seen[0]["fwmark"], &seen[0]["fwmask"]), (&"0x80".into(), &"0x80".into()));
            assert_eq!(seen[0]["table"], "main");
        }
        for rule in &shapes {
            assert_eq!(rtnl.delete_rule(rule).unwrap(), 1);
            assert_eq!(rtnl.delete_rule(rule).unwrap(), 0);
        }
        assert_eq!(rtnl.rules().unwrap(), before);
    });
}

#[test]
fn a_rule_with_selectors_we_do_not_speak_of_is_marked() {
    const TEST: &str = "routes::a_rule_with_selectors_we_do_not_speak_of_is_marked";
    sandboxed(TEST, || {
        let mut rtnl = Rtnl::open().unwrap();
        let odd: [&[&str]; 4] = [
            &["rule", "add", "pref", "1536", "from", "10.0.0.1", "uidrange", "0-0", "lookup", "77"],
            &["rule", "add", "pref", "1537", "not", "from", "10.0.0.1", "lookup", "77"],
            &["rule", "add", "pref", "1538", "from", "10.0.0.1", "ipproto", "tcp", "lookup", "77"],
            &["rule", "add", "pref", "1539", "from", "10.0.0.1", "lookup", "77", "suppress_prefixlength", "0"],
        ];
        for args in odd {
            if other_eyes(TEST, "ip", args).is_none() {
                return;
            }
        }
        let marked: Vec<_> =
            rtnl.rules().unwrap().iter().filter(|rule| rule.has_more).map(|rule| rule.priority).collect();
        assert_eq!(marked, [1536, 1537, 1538, 1539]);
        let observed = vpc_linux::LinuxHost::open().unwrap().observe().unwrap();
        assert_eq!(observed.rules.len(), 3, "the planner sees none of them");
    });
}

#[test]
fn the_way_of_a_packet_is_asked_of_the_kernel() {
    sandboxed("routes::the_way_of_a_packet_is_asked_of_the_kernel", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (first, second) = two_links(&mut rtnl, &far);
        rtnl.set_conf(first, &[(vpc_linux::ConfKey::Forwarding, 1)]).unwrap();
        rtnl.set_conf(second, &[(vpc_linux::ConfKey::Forwarding, 1)]).unwrap();
        rtnl.add_route(&RouteSpec::through(RouteTable::MAIN, net("0.0.0.0/0"), ip("10.20.8.1"), first)).unwrap();
        rtnl.add_route(&RouteSpec::on_link(RouteTable::MAIN, net("10.20.8.77/32"), second)).unwrap();
        rtnl.add_route(&RouteSpec { onlink: true, ..RouteSpec::through(N, net("0.0.0.0/0"), ip("10.9.9.1"), first) })
            .unwrap();
        rtnl.add_route(&RouteSpec::ending(RouteTable::MAIN, net("10.66.0.0/16"), RouteKind::Unreachable)).unwrap();
        rtnl.add_rule(&RuleSpec { from: Some(net("10.20.8.77/32")), ..RuleSpec::lookup(1536, N) }).unwrap();
        rtnl.add_rule(&RuleSpec { mark: Some(Mark::bits(0x80)), ..RuleSpec::lookup(1024, RouteTable::MAIN) }).unwrap();

        let out = FibQuery { to: ip("52.78.83.169"), from: None, iif: None, mark: None };
        let own = rtnl.look_up(&out).unwrap();
        assert_eq!((own.table, own.link, own.via), (RouteTable::MAIN, Some(first), Some(ip("10.20.8.1"))));
        assert_eq!(own.source, Some(ip("10.20.8.4")));
        let pod = FibQuery { from: Some(ip("10.20.8.77")), iif: Some(second), ..out.clone() };
        assert_eq!(rtnl.look_up(&pod).unwrap().via, Some(ip("10.9.9.1")));
        assert_eq!(rtnl.look_up(&pod).unwrap().table, N);
        let marked = FibQuery { mark: Some(0x4080), ..pod };
        assert_eq!(rtnl.look_up(&marked).unwrap().via, Some(ip("10.20.8.1")));
        let local = rtnl.look_up(&FibQuery { to: ip("10.20.8.4"), ..out.clone() }).unwrap();
        assert_eq!((local.kind, local.table.0), (RouteKind::Local, 255));
        let nowhere = rtnl.look_up(&FibQuery { to: ip("10.66.0.1"), ..out }).unwrap_err();
        assert_eq!(nowhere.errno, Errno::EHOSTUNREACH);
    });
}

#[test]
fn a_batch_goes_on_behind_a_refusal_and_tells_each_result() {
    sandboxed("routes::a_batch_goes_on_behind_a_refusal_and_tells_each_result", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (_, second) = two_links(&mut rtnl, &far);
        // More than fit one send.
        let routes: Vec<_> = (0..500_u32)
            .map(|i| RouteSpec::on_link(N, net(&format!("10.99.{}.{}/32", i / 250, i % 250)), second))
            .collect();
        let mut requests: Vec<_> = routes.iter().map(route::add).collect();
        requests.insert(250, route::add(&RouteSpec::on_link(N, net("10.1.0.0/16"), 4711)));
        requests.push(route::add(&routes[0]).tolerating(&[Errno::EEXIST]));
        let results = rtnl.run_each(requests);
        let failed: Vec<_> =
            results.iter().enumerate().filter(|(_, result)| result.is_err()).map(|(at, _)| at).collect();
        assert_eq!(failed, [250]);
        assert_eq!(results.last(), Some(&Ok(false)), "tolerated");
        assert_eq!(rtnl.routes(Some(N)).unwrap().len(), 500);
        assert_eq!(rtnl.routes(Some(N)).unwrap()[0].scope, RouteScope::Link);
    });
}
