//! Over random nodes in random states: one pass settles, nothing right is touched, nothing of others is, no pod is cut.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use vpc_hostnet::*;
use vpc_model::{Ipv4Net, LinkName, RouteTable};

use crate::support::*;

const LINKS: [&str; 7] =
    ["eth0", "eth1", "eth2", "eni0d7763386da", "eni0761ccbeace", "enicc21c2d7785", "eni9e018d76bb3"];
const NETS: [&str; 10] = [
    "10.20.9.31/32",
    "10.20.10.201/32",
    "10.20.9.77/32",
    "10.20.10.87/32",
    "10.20.34.9/32",
    "10.20.11.162/32",
    "10.20.10.99/32",
    "10.20.8.0/22",
    "203.0.113.0/24",
    "0.0.0.0/0",
];
const ADDRESSES: [&str; 8] = [
    "10.20.10.87/22",
    "10.20.10.201/22",
    "10.20.10.5/22",
    "10.20.10.87/32",
    "10.20.34.9/20",
    "10.20.34.10/20",
    "192.168.7.1/24",
    "169.254.3.3/16",
];
const TABLES: [u32; 6] = [254, 2, 3, 5, 77, 10_101];
const PRIORITIES: [u32; 9] = [100, 512, 1024, 1535, 1536, 1537, 10_000, 32_764, 32_765];

fn pods() -> [Pod; 4] {
    let c = pod("sandbox-c", "sample-pod", "10.20.9.77", 3);
    let d = pod("sandbox-d", "sg-web-0", "10.20.34.10", 3);
    [pod_a(), pod_b(), c, d]
}

fn nets() -> impl Strategy<Value = Option<Ipv4Net>> {
    prop_oneof![1 => Just(None), 2 => select(NETS.as_slice()).prop_map(|text| Some(net(text)))]
}

fn links() -> impl Strategy<Value = LinkName> {
    select(LINKS.as_slice()).prop_map(link)
}

fn tables() -> impl Strategy<Value = RouteTable> {
    select(TABLES.as_slice()).prop_map(RouteTable)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let marks = prop_oneof![
        3 => Just(None),
        1 => select(vec![(0x80, 0x80), (0x40, 0x40), (0x4000, 0x4000), (0x80, 0xff)])
            .prop_map(|(value, mask)| Some(Mark { value, mask })),
    ];
    let iif = prop_oneof![4 => Just(None), 1 => links().prop_map(Some)];
    (select(PRIORITIES.as_slice()), nets(), nets(), marks, iif, tables())
        .prop_map(|(priority, from, to, mark, iif, table)| Rule { priority, from, to, mark, iif, table })
}

fn any_route() -> impl Strategy<Value = Route> {
    let via = prop_oneof![Just(None), select(vec!["10.20.8.1", "10.20.32.1", "10.20.8.9"]).prop_map(|t| Some(ip(t)))];
    (tables(), nets(), via, links(), any::<bool>()).prop_map(|(table, to, via, link, onlink)| {
        let to = to.unwrap_or_default();
        match via {
            None => Route::on_link(table, to, link),
            Some(via) => Route { onlink, ..Route::through(table, to, via, link) },
        }
    })
}

/// Anything anybody may do to a host. What the kernel refuses simply does not happen.
fn any_deed() -> impl Strategy<Value = HostOp> {
    let address = || select(ADDRESSES.as_slice()).prop_map(net);
    let neighbour = (links(), nets(), 0..9_u8).prop_map(|(link, net, last)| Neighbour {
        link,
        address: net.unwrap_or_default().addr(),
        mac: mac(last),
    });
    let settings = HostSettings { mark: 0x40, ..HostSettings::default() };
    let old = desired(&HostView { settings, ..view() }, &machine().observe()).unwrap().filter;
    prop_oneof![
        6 => any_rule().prop_map(HostOp::AddRule),
        4 => any_route().prop_map(HostOp::ReplaceRoute),
        2 => any_route().prop_map(HostOp::RemoveRoute),
        4 => (links(), address(), any::<bool>())
            .prop_map(|(link, address, no_prefix_route)| HostOp::AddAddress { link, address, no_prefix_route }),
        1 => (links(), address()).prop_map(|(link, address)| HostOp::RemoveAddress { link, address }),
        2 => (links(), any::<bool>(), select(vec![None, Some(1500), Some(9001)]))
            .prop_map(|(link, up, mtu)| HostOp::SetLink { link, mtu, up }),
        2 => neighbour.prop_map(HostOp::PinNeighbour),
        1 => links().prop_map(|link| HostOp::SetRpFilter { link, mode: RpFilter::Off }),
        1 => Just(HostOp::ReplaceFilter(old)),
        1 => links().prop_map(|link| HostOp::DeleteLink { link }),
    ]
}

fn any_settings() -> impl Strategy<Value = HostSettings> {
    (any::<bool>(), any::<bool>(), select(vec![0x80, 0x40]), subsequence(NETS[7..9].to_vec(), 0..=2), any::<bool>())
        .prop_map(|(external_snat, node_port, mark, services, small)| HostSettings {
            external_snat,
            node_port,
            mark,
            external_services: services.into_iter().map(net).collect(),
            eni_mtu: if small { 1500 } else { 9001 },
            ..HostSettings::default()
        })
}

fn any_view() -> impl Strategy<Value = HostView> {
    let enis = vec![eni(1, "10.20.10.87", "10.20.8.0/22"), eni(2, "10.20.34.9", "10.20.32.0/20")];
    let known = (0..pods().len()).collect::<Vec<_>>();
    let released = NETS[..7].to_vec();
    (any_settings(), subsequence(enis, 0..=2), subsequence(known, 0..=4), subsequence(released, 0..=3), any::<bool>())
        .prop_map(|(settings, secondary, known, released, macs)| {
            let pods = known.into_iter().map(|at| {
                let pod = pods()[at].on_host.clone();
                PodOnHost { pod_mac: pod.pod_mac.filter(|_| macs), ..pod }
            });
            let released = released.into_iter().map(|text| net(text).addr()).collect();
            HostView { secondary, pods: pods.collect(), released, settings, ..view() }
        })
}

/// A machine on which things have happened: ENIs attached or not, pods wired at some time or not, deeds of others.
fn any_host() -> impl Strategy<Value = PaperHost> {
    let wired = (0..pods().len()).collect::<Vec<_>>();
    let deeds = || proptest::collection::vec(any_deed(), 0..12);
    (any::<bool>(), subsequence(wired, 0..=4), deeds(), deeds()).prop_map(|(eth2, wired, before, after)| {
        let mut host = machine();
        if eth2 {
            host.attach(&link("eth2"), mac(2), 9001).unwrap();
        }
        let _ = before.iter().filter(|deed| host.apply(deed).is_ok()).count();
        for at in wired {
            let pod = &pods()[at];
            host.wire(pod.sandbox, &pod.wiring).unwrap();
        }
        let _ = after.iter().filter(|deed| host.apply(deed).is_ok()).count();
        host
    })
}

/// Whether a rule may be ours at all, said independently of the planner: priority and shape.
fn may_be_ours(rule: &Rule) -> bool {
    let single = |net: &Option<Ipv4Net>| net.is_some_and(|net| net.prefix_len() == 32);
    let main = rule.table == RouteTable::MAIN;
    let shape = match rule.priority {
        512 => rule.from.is_none() && single(&rule.to) && rule.mark.is_none() && main,
        1024 => (rule.from, rule.to) == (None, None) && rule.mark.is_some_and(|m| m.value == m.mask) && main,
        1535 => rule.from.is_none() && rule.to.is_some() && rule.mark.is_none() && main,
        1536 => single(&rule.from) && rule.mark.is_none(),
        32_765 => single(&rule.from) && rule.to.is_none() && rule.mark.is_none() && !main && rule.table.0 != 254,
        _ => false,
    };
    shape && rule.iif.is_none()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_pass_settles_any_host(mut host in any_host(), view in any_view()) {
        let ops = settle(&mut host, &view);
        let wanted = desired(&view, &host.observe()).unwrap();
        let seen = host.observe();
        prop_assert!(wanted.routes.iter().all(|route| seen.routes.contains(route)), "{ops:#?}");
        prop_assert!(wanted.rules.iter().all(|rule| seen.rules.contains(rule)));
        prop_assert!(wanted.neighbours.iter().all(|neighbour| seen.neighbours.contains(neighbour)));
    }

    #[test]
    fn nothing_is_removed_and_added_again(host in any_host(), view in any_view()) {
        let before = host.observe();
        let ops = plan_for(&host, &view);
        let (made, unmade) = made_and_unmade(&ops);
        prop_assert_eq!(made.intersection(&unmade).collect::<Vec<_>>(), Vec::<&String>::new());
        for op in &ops {
            match op {
                HostOp::AddRule(rule) => prop_assert!(!before.rules.contains(rule)),
                HostOp::ReplaceRoute(route) => prop_assert!(!before.routes.contains(route)),
                HostOp::PinNeighbour(neighbour) => prop_assert!(!before.neighbours.contains(neighbour)),
                _ => (),
            }
        }
        let unique: BTreeSet<String> = ops.iter().map(|op| format!("{op:?}")).collect();
        prop_assert_eq!(unique.len(), ops.len());
    }

    #[test]
    fn what_is_not_ours_stays(mut host in any_host(), view in any_view()) {
        let before = host.observe();
        let known: BTreeSet<_> = view.pods.iter().map(|pod| pod.address).chain(view.released.iter().copied()).collect();
        for op in settle(&mut host, &view) {
            match op {
                HostOp::RemoveRule(rule) => {
                    prop_assert!(may_be_ours(&rule), "{rule:?}");
                    let pod = if rule.priority == 512 { rule.to } else { rule.from };
                    prop_assert!(
                        ![512, 1536].contains(&rule.priority) || known.contains(&pod.unwrap().addr()),
                        "{rule:?} of an address nothing is known about"
                    );
                }
                HostOp::RemoveRoute(route) => {
                    prop_assert!(route.table == RouteTable::MAIN && route.via.is_none(), "{route:?}");
                    prop_assert!(route.link.as_str() != "eth0", "{route:?}");
                }
                HostOp::RemoveAddress { link, .. } => {
                    let ours = view.secondary.iter().any(|eni| link.as_str() == format!("eth{}", eni.device));
                    prop_assert!(ours, "an address of {link}");
                }
                HostOp::RemoveNeighbour(n) => prop_assert!(known.contains(&n.address) && n.link.as_str().starts_with("eni")),
                HostOp::DeleteLink { link } => prop_assert!(false, "deletes {link}"),
                _ => (),
            }
        }
        let after = host.observe();
        let lost = before.rules.difference(&after.rules).find(|rule| !may_be_ours(rule));
        prop_assert!(lost.is_none(), "{lost:?} went");
        let foreign = |route: &&Route| route.table != RouteTable::MAIN && ![2, 3].contains(&route.table.0);
        let lost: Vec<&Route> = before.routes.difference(&after.routes).filter(foreign).collect();
        prop_assert!(lost.is_empty(), "{lost:?} went");
        prop_assert!(before.links.iter().all(|link| after.link(&link.name).is_some()));
    }

    /// What works before and after works at every step between.
    #[test]
    fn no_step_cuts_a_pod(mut host in any_host(), view in any_view()) {
        let mut after = host.clone();
        settle(&mut after, &view);
        let kept: BTreeSet<String> = working(&host, &view).intersection(&working(&after, &view)).cloned().collect();
        let ops = plan_for(&host, &view);
        for (at, op) in ops.iter().enumerate() {
            host.apply(op).unwrap();
            // A link that comes up with an address made without `noprefixroute` gets the connected route until the next operation.
            let half = matches!((op, ops.get(at + 1)), (HostOp::SetLink { .. }, Some(HostOp::RemoveRoute(_))));
            let alive = working(&host, &view);
            prop_assert!(half || alive.is_superset(&kept), "{op:?} cuts {:?}\nof {ops:#?}", kept.difference(&alive));
        }
    }
}

/// What works on a host: pods of the view the host reaches, and packets of theirs that leave by a link whose ENI has their source.
fn working(host: &PaperHost, view: &HostView) -> BTreeSet<String> {
    let mut works = BTreeSet::new();
    for Pod { sandbox, on_host, .. } in
        pods().iter().filter(|pod| view.pods.iter().any(|p| p.address == pod.on_host.address))
    {
        let reached = host.sent(ip("10.20.11.162"), on_host.address).map(|path| path.end);
        if matches!(reached, Ok(PaperEnd::Pod { sandbox: there, .. }) if there == *sandbox) {
            works.insert(format!("to {sandbox}"));
        }
        let own = match on_host.table.0 {
            2 => ("eth1", on_host.address),
            3 => ("eth2", on_host.address),
            _ => ("eth0", on_host.address),
        };
        let node = ("eth0", ip("10.20.11.162"));
        for (to, allowed) in [(OTHER_NODE, [own, own]), (INTERNET, [own, node])] {
            let path = host.egress(sandbox, ip(to), PaperTurn::Opens);
            if let Ok(PaperPath { end: PaperEnd::Out { link, via: Some(via) }, source, .. }) = path
                && allowed.contains(&(link.as_str(), source))
            {
                works.insert(format!("{sandbox} to {to} by {link} via {via} as {source}"));
            }
        }
    }
    works
}
