use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vpc_linux::{Interest, LinkChange, LinkEvent, LinkMonitor, Netns, RouteSpec, Rtnl, RuleSpec};
use vpc_model::RouteTable;

use crate::sandbox::{cable, name, net, sandboxed};

fn drain(monitor: &mut LinkMonitor) -> Vec<LinkEvent> {
    std::iter::from_fn(|| monitor.next_event().unwrap()).collect()
}

#[test]
fn changes_are_told_as_they_happen() {
    sandboxed("monitor::changes_are_told_as_they_happen", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let mut monitor = LinkMonitor::open(Interest { routes: true, rules: true }).unwrap();
        assert_eq!(monitor.next_event().unwrap(), None);
        let (index, _) = cable(&mut rtnl, "eth1", &far, "b0");
        let mut ready = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::from(1000_u16)).unwrap(), 1);
        let appeared =
            |e: &LinkEvent| matches!(e, LinkEvent::Link(link) if link.index == index && link.name == name("eth1"));
        assert!(drain(&mut monitor).iter().any(appeared));

        // Links may still have something to say (IPv6 comes to life on them); nobody says anything of routes or rules.
        let others = |monitor: &mut LinkMonitor| {
            let mut events = drain(monitor);
            events.retain(|event| !matches!(event, LinkEvent::Link(_)));
            events
        };
        rtnl.add_route(&RouteSpec::on_link(RouteTable(77), net("10.0.0.1/32"), index)).unwrap();
        assert_eq!(others(&mut monitor), [LinkEvent::Route]);
        rtnl.add_rule(&RuleSpec::lookup(100, RouteTable(77))).unwrap();
        assert_eq!(others(&mut monitor), [LinkEvent::Rule]);
        rtnl.delete_link(index).unwrap();
        let gone = |e: &LinkEvent| matches!(e, LinkEvent::LinkGone(link) if link.index == index);
        assert!(drain(&mut monitor).iter().any(gone));
    });
}

#[test]
fn a_reader_that_is_too_slow_is_told_that_it_lost_something() {
    sandboxed("monitor::a_reader_that_is_too_slow_is_told_that_it_lost_something", || {
        let mut rtnl = Rtnl::open().unwrap();
        let mut monitor =
            LinkMonitor::open_in(&Netns::current().unwrap(), Interest { routes: false, rules: true }).unwrap();
        let rules = |remove: bool| {
            let make = if remove { vpc_linux::rtnl::rule::delete } else { vpc_linux::rtnl::rule::add };
            (1..=10_000).map(|priority| make(&RuleSpec::lookup(priority, RouteTable(77)))).collect::<Vec<_>>()
        };
        let mut lost = false;
        for _ in 0..5 {
            rtnl.run(rules(false)).unwrap();
            rtnl.run(rules(true)).unwrap();
            lost |= drain(&mut monitor).contains(&LinkEvent::Lost);
            if lost {
                break;
            }
        }
        assert!(lost);
        rtnl.add_rule(&RuleSpec::lookup(100, RouteTable(77))).unwrap();
        assert_eq!(drain(&mut monitor), [LinkEvent::Rule], "and goes on hearing");
    });
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    sandboxed("monitor::a_port_that_leaves_its_bridge_is_not_gone", || {
        let (mut rtnl, far) = (Rtnl::open().unwrap(), Netns::create().unwrap());
        let (port, _) = cable(&mut rtnl, "eth1", &far, "b0");
        let bridge = rtnl.add_bridge(&name("br0")).unwrap();
        let into = |master| LinkChange { master: Some(master), ..LinkChange::default() };
        rtnl.set_link(port, &into(bridge)).unwrap();
        let mut monitor = LinkMonitor::open(Interest::default()).unwrap();
        rtnl.set_link(port, &into(0)).unwrap();
        let events = drain(&mut monitor);
        assert!(events.iter().any(|event| matches!(event, LinkEvent::Link(link) if link.index == port)));
        assert!(!events.iter().any(|event| matches!(event, LinkEvent::LinkGone(_))), "{events:?}");
    });
}
