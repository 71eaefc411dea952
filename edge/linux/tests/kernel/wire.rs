use vpc_hostnet::{HostLayout, HostOp, HostState, PodOp, PodWiring, Route, Rule, Wiring, unwiring, wiring};
use vpc_linux::{Address, Errno, LinkChange, LinuxHost, Netns, RouteSpec, Rtnl, WireStep, sysctl, unwire, wire_pod};
use vpc_model::RouteTable;

use crate::sandbox::{cable, ip, mac, name, net, other_eyes, sandboxed};

const N: RouteTable = RouteTable(2);

fn pod_wiring() -> PodWiring {
    PodWiring {
        address: ip("10.20.10.201"),
        table: N,
        host_link: name("eni0761ccbeace"),
        pod_link: name("eth0"),
        host_mac: mac(1),
        pod_mac: mac(2),
        mtu: 9001,
        alias: "aws-cni sandbox default/web-1".to_owned(),
        layout: HostLayout::Classic,
    }
}

/// The host as it is, without what changes by itself.
fn observed() -> HostState {
    LinuxHost::open().unwrap().observe().unwrap()
}

#[test]
fn a_pod_is_wired_as_the_reference_wires_it() {
    const TEST: &str = "wire::a_pod_is_wired_as_the_reference_wires_it";
    sandboxed(TEST, || {
        let (mut host, pod) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let wired = wire_pod(&mut host, &pod, &wiring(&pod_wiring())).unwrap();

        let veth = host.link(&name("eni0761ccbeace")).unwrap();
        assert_eq!((veth.index, veth.peer_index), (wired.host_index, Some(wired.pod_index)));
        assert!(veth.up && veth.carrier);
        assert_eq!((veth.mtu, veth.mac), (9001, Some(mac(1))));
        assert_eq!(veth.alias.as_deref(), Some("aws-cni sandbox default/web-1"));
        for switch in ["accept_ra", "accept_redirects", "forwarding"] {
            if let Ok(value) = sysctl::read(&format!("net/ipv6/conf/eni0761ccbeace/{switch}")) {
                assert_eq!(value, "0", "{switch}");
            }
        }
        let state = observed();
        assert!(state.routes.contains(&Route::on_link(
            RouteTable::MAIN,
            net("10.20.10.201/32"),
            name("eni0761ccbeace")
        )));
        let rule = |priority, from, to, table| Rule { priority, from, to, mark: None, iif: None, table };
        let pod_net = Some(net("10.20.10.201/32"));
        assert!(state.rules.contains(&rule(512, None, pod_net, RouteTable::MAIN)));
        assert!(state.rules.contains(&rule(1536, pod_net, None, N)));

        let mut inside = Rtnl::open_in(&pod).unwrap();
        assert!(inside.link(&name("lo")).unwrap().up);
        let eth0 = inside.link(&name("eth0")).unwrap();
        assert_eq!((eth0.up, eth0.mtu, eth0.mac), (true, 9001, Some(mac(2))));
        assert_eq!(inside.addresses(Some(eth0.index)).unwrap(), [Address::new(eth0.index, net("10.20.10.201/32"))]);
        let routes: Vec<_> = inside.routes(Some(RouteTable::MAIN)).unwrap().iter().map(|r| (r.to, r.via)).collect();
        assert_eq!(routes, [(net("0.0.0.0/0"), Some(ip("169.254.1.1"))), (net("169.254.1.1/32"), None)]);
        let neighbours = inside.neighbours(false).unwrap();
        let gateway = neighbours.iter().find(|n| n.address == ip("169.254.1.1")).unwrap();
        assert_eq!((gateway.mac, gateway.permanent), (Some(mac(1)), true));

        if let Some(seen) = pod.enter(|| other_eyes(TEST, "ip", &["-j", "-4", "route"])).unwrap() {
            assert_eq!((&seen[0]["dst"], &seen[0]["gateway"]), (&"default".into(), &"169.254.1.1".into()));
            assert_eq!((&seen[1]["dst"], &seen[1]["scope"]), (&"169.254.1.1".into(), &"link".into()));
        }
    });
}

#[test]
fn packets_pass_between_pod_and_host() {
    sandboxed("wire::packets_pass_between_pod_and_host", || {
        let (mut host, pod) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        host.set_link(&name("lo"), &LinkChange::up()).unwrap();
        host.add_address(&Address::new(1, net("10.20.8.4/32"))).unwrap();
        wire_pod(&mut host, &pod, &wiring(&pod_wiring())).unwrap();
        let listener = std::net::TcpListener::bind("10.20.8.4:8080").unwrap();
        let from_pod = pod.enter(|| std::net::TcpStream::connect("10.20.8.4:8080")).unwrap().unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), ip("10.20.10.201"));
        drop(from_pod);
    });
}

#[test]
fn unwiring_leaves_the_kernel_as_before() {
    sandboxed("wire::unwiring_leaves_the_kernel_as_before", || {
        let before = observed();
        let (mut host, pod) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        wire_pod(&mut host, &pod, &wiring(&pod_wiring())).unwrap();
        // Copies of the rule that old versions left, tied to destinations.
        let copy =
            Rule { priority: 1536, from: Some(net("10.20.10.201/32")), to: None, mark: None, iif: None, table: N };
        for to in ["10.20.0.0/16", "100.64.0.0/16"] {
            host.add_rule(&(&Rule { to: Some(net(to)), ..copy.clone() }).into()).unwrap();
        }
        let mut ops = unwiring(HostLayout::Classic, ip("10.20.10.201"), N);
        ops.push(HostOp::DeleteLink { link: name("eni0761ccbeace") });
        unwire(&mut host, &ops).unwrap();
        assert_eq!(observed(), before);
        assert_eq!(Rtnl::open_in(&pod).unwrap().links().unwrap().len(), 1);
        // And again, with nothing there.
        unwire(&mut host, &ops).unwrap();
        let mut more = wiring(&pod_wiring()).host;
        more.retain(|op| matches!(op, HostOp::ReplaceRoute(_) | HostOp::PinNeighbour(_)));
        let gone: Vec<HostOp> = more
            .into_iter()
            .map(|op| match op {
                HostOp::ReplaceRoute(route) => HostOp::RemoveRoute(route),
                HostOp::PinNeighbour(neighbour) => HostOp::RemoveNeighbour(neighbour),
                other => other,
            })
            .collect();
        assert_eq!(gone.len(), 2);
        unwire(&mut host, &gone).unwrap();
    });
}

#[test]
fn a_leftover_of_an_earlier_attempt_is_replaced() {
    sandboxed("wire::a_leftover_of_an_earlier_attempt_is_replaced", || {
        let mut host = Rtnl::open().unwrap();
        let (old, new) = (Netns::create().unwrap(), Netns::create().unwrap());
        let first = wire_pod(&mut host, &old, &wiring(&pod_wiring())).unwrap();
        let second = wire_pod(&mut host, &new, &wiring(&pod_wiring())).unwrap();
        assert_ne!(first.host_index, second.host_index);
        assert_eq!(Rtnl::open_in(&old).unwrap().links().unwrap().len(), 1, "the old pod lost its link");
        let rules = host.rules().unwrap().iter().filter(|rule| rule.priority == 512).count();
        assert_eq!(rules, 1);
    });
}

#[test]
fn a_foreign_link_of_that_name_is_left_alone() {
    sandboxed("wire::a_foreign_link_of_that_name_is_left_alone", || {
        let (mut host, pod) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        host.add_bridge(&name("eni0761ccbeace")).unwrap();
        let before = observed();
        let error = wire_pod(&mut host, &pod, &wiring(&pod_wiring())).unwrap_err();
        assert_eq!(error.step, WireStep::RemoveLeftover);
        assert!(error.to_string().contains("eni0761ccbeace is there and is a bridge"), "{error}");
        assert_eq!(observed(), before);
    });
}

/// Fails to wire `pod` and sees that nothing is left of the attempt on either side.
fn refused(pod: &Netns, wanted: &Wiring, step: WireStep, errno: Errno) -> String {
    let mut host = Rtnl::open().unwrap();
    let mut inside = Rtnl::open_in(pod).unwrap();
    let before = observed();
    let pod_before = (
        inside.links().unwrap().len(),
        inside.addresses(None).unwrap(),
        inside.routes(Some(RouteTable::MAIN)).unwrap(),
    );
    let error = wire_pod(&mut host, pod, wanted).unwrap_err();
    assert_eq!((error.step, error.cause.errno()), (step, Some(errno)), "{error}");
    assert_eq!(error.left_behind, Vec::<String>::new());
    assert_eq!(observed(), before, "{error}");
    let mut pod_after = inside.addresses(None).unwrap();
    // `lo` may stay up: that is no trace of an attempt.
    pod_after.retain(|address| address.link != 1);
    assert_eq!((inside.links().unwrap().len(), pod_after, inside.routes(Some(RouteTable::MAIN)).unwrap()), pod_before);
    error.to_string()
}

#[test]
fn a_pod_that_has_such_a_link_already_is_not_touched() {
    sandboxed("wire::a_pod_that_has_such_a_link_already_is_not_touched", || {
        let (far, pod) = (Netns::create().unwrap(), Netns::create().unwrap());
        cable(&mut Rtnl::open_in(&far).unwrap(), "x0", &pod, "eth0");
        let text = refused(&pod, &wiring(&pod_wiring()), WireStep::CreateVeth, Errno::EEXIST);
        assert!(text.contains("create the veth pair: link eth0 is in the pod's network namespace already"), "{text}");
    });
}

#[test]
fn a_pod_with_another_default_route_is_refused_and_rolled_back() {
    sandboxed("wire::a_pod_with_another_default_route_is_refused_and_rolled_back", || {
        let (far, pod) = (Netns::create().unwrap(), Netns::create().unwrap());
        let (_, theirs) = cable(&mut Rtnl::open_in(&far).unwrap(), "x0", &pod, "net1");
        let mut inside = Rtnl::open_in(&pod).unwrap();
        inside.add_route(&RouteSpec::on_link(RouteTable::MAIN, net("0.0.0.0/0"), theirs)).unwrap();
        let text = refused(&pod, &wiring(&pod_wiring()), WireStep::ConfigurePod, Errno::EEXIST);
        assert!(text.contains("add route 0.0.0.0/0 via 169.254.1.1"), "{text}");
    });
}

#[test]
fn an_address_that_stands_twice_is_refused_and_rolled_back() {
    sandboxed("wire::an_address_that_stands_twice_is_refused_and_rolled_back", || {
        let pod = Netns::create().unwrap();
        let mut wanted = wiring(&pod_wiring());
        wanted.pod.push(PodOp::AddAddress { link: name("eth0"), address: ip("10.20.10.201") });
        refused(&pod, &wanted, WireStep::ConfigurePod, Errno::EEXIST);
    });
}

#[test]
fn a_host_step_that_fails_takes_everything_back_but_what_was_there_before() {
    sandboxed("wire::a_host_step_that_fails_takes_everything_back_but_what_was_there_before", || {
        let pod = Netns::create().unwrap();
        let mut wanted = wiring(&pod_wiring());
        // The rule to the pod is there already (an earlier daemon's); it is not this attempt's to take back.
        let rule = wanted.host.iter().find_map(|op| match op {
            HostOp::AddRule(rule) if rule.priority == 512 => Some(rule.clone()),
            _ => None,
        });
        Rtnl::open().unwrap().add_rule(&(&rule.unwrap()).into()).unwrap();
        let nowhere = Route::on_link(RouteTable::MAIN, net("10.20.10.201/32"), name("nolink"));
        wanted.host.push(HostOp::ReplaceRoute(nowhere));
        let text = refused(&pod, &wanted, WireStep::ConfigureHost, Errno::ENODEV);
        assert!(text.contains("nolink"), "{text}");
    });
}

#[test]
fn several_pods_are_wired_at_once_from_several_threads() {
    sandboxed("wire::several_pods_are_wired_at_once_from_several_threads", || {
        let before = observed();
        let namespaces: Vec<Netns> = (0..30).map(|_| Netns::create().unwrap()).collect();
        std::thread::scope(|scope| {
            for (i, pod) in namespaces.iter().enumerate() {
                let i = u8::try_from(i).unwrap();
                let wanted = PodWiring {
                    address: std::net::Ipv4Addr::new(10, 20, 11, i),
                    host_link: name(&format!("eni{i:011}")),
                    ..pod_wiring()
                };
                scope.spawn(move || wire_pod(&mut Rtnl::open().unwrap(), pod, &wiring(&wanted)).unwrap());
            }
        });
        let state = observed();
        assert_eq!(state.links.len(), before.links.len() + 30);
        assert_eq!(state.rules.len(), before.rules.len() + 60);
        assert_eq!(state.routes.len(), before.routes.len() + 30);
    });
}
