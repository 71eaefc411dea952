//! The node all tests speak of: eth0 10.20.11.162 and eth1 10.20.10.87 in 10.20.8.0/22, VPC 10.20.0.0/16 and 100.64.0.0/16, pod A
//! `default/web-0` 10.20.9.31 on eth0's ENI, pod B `default/web-1` 10.20.10.201 on eth1's.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use vpc_hostnet::*;
use vpc_model::*;

pub(crate) const OTHER_NODE: &str = "10.20.33.7";
pub(crate) const INTERNET: &str = "198.51.100.80";

pub(crate) fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

pub(crate) fn link(text: &str) -> LinkName {
    text.parse().unwrap()
}

pub(crate) fn mac(last: u8) -> Mac {
    Mac([0x0a, 0, 0, 0, 0, last])
}

pub(crate) fn eni(device: u8, address: &str, subnet: &str) -> EniOnHost {
    EniOnHost {
        mac: mac(device),
        card: CardIndex(0),
        device: DeviceIndex(device),
        primary_address: ip(address),
        subnet: Subnet::try_from(net(subnet)).unwrap(),
    }
}

/// A pod of the example and the name of its sandbox.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) sandbox: &'static str,
    pub(crate) on_host: PodOnHost,
    pub(crate) wiring: Wiring,
}

pub(crate) fn pod(sandbox: &'static str, name: &str, address: &str, table: u32) -> Pod {
    let of = PodRef { namespace: "default".into(), name: name.into() };
    let owner = LinkAlias::of(
        &SandboxKey { network: "aws-cni".into(), container: sandbox.into(), interface: "eth0".into() },
        &of,
    );
    let [.., last] = ip(address).octets();
    let spec = PodWiring {
        address: ip(address),
        table: RouteTable(table),
        host_link: host_veth(&VethPrefix::default(), &of),
        pod_link: link("eth0"),
        host_mac: Mac([2, 0, 0, 0, 1, last]),
        pod_mac: Mac([2, 0, 0, 0, 2, last]),
        mtu: 9001,
        alias: owner.to_string(),
        layout: HostLayout::Classic,
    };
    let on_host = PodOnHost {
        address: spec.address,
        table: spec.table,
        host_link: spec.host_link.clone(),
        pod_mac: Some(spec.pod_mac),
        owner: Some(owner),
    };
    Pod { sandbox, on_host, wiring: wiring(&spec) }
}

pub(crate) fn pod_a() -> Pod {
    pod("sandbox-a", "web-0", "10.20.9.31", 254)
}

pub(crate) fn pod_b() -> Pod {
    pod("sandbox-b", "web-1", "10.20.10.201", 2)
}

/// The node as its daemon knows it, with both pods.
pub(crate) fn view() -> HostView {
    HostView {
        primary: eni(0, "10.20.11.162", "10.20.8.0/22"),
        secondary: vec![eni(1, "10.20.10.87", "10.20.8.0/22")],
        vpc_cidrs: vec![net("10.20.0.0/16"), net("100.64.0.0/16")],
        pods: vec![pod_a().on_host, pod_b().on_host],
        released: BTreeSet::new(),
        settings: HostSettings::default(),
    }
}

/// The machine before any of ours ran: eth0 configured by the operating system, eth1 attached.
pub(crate) fn machine() -> PaperHost {
    let mut host = PaperHost::booted(&link("eth0"), mac(0), net("10.20.11.162/22"), ip("10.20.8.1")).unwrap();
    host.attach(&link("eth1"), mac(1), 9001).unwrap();
    host
}

/// The machine with a daemon's work done and both pods wired.
pub(crate) fn node(view: &HostView) -> PaperHost {
    let mut host = machine();
    settle(&mut host, view);
    for pod in [pod_a(), pod_b()] {
        host.wire(pod.sandbox, &pod.wiring).unwrap();
    }
    host
}

/// Plans, applies, and insists that nothing is refused and nothing left to do.
pub(crate) fn settle(host: &mut PaperHost, view: &HostView) -> Vec<HostOp> {
    let ops = plan_for(host, view);
    for op in &ops {
        host.apply(op).unwrap_or_else(|refusal| panic!("{op:?} is refused: {refusal}\nof {ops:#?}"));
    }
    let rest = plan_for(host, view);
    assert!(rest.is_empty(), "a settled host needs nothing, yet {rest:#?}\nafter {ops:#?}");
    ops
}

pub(crate) fn plan_for(host: &PaperHost, view: &HostView) -> Vec<HostOp> {
    let observed = host.observe();
    plan(&desired(view, &observed).unwrap(), &observed)
}

/// Rules as `ip rule` prints them.
pub(crate) fn rules(host: &PaperHost) -> Vec<String> {
    host.observe().rules.iter().map(show_rule).collect()
}

pub(crate) fn show_rule(rule: &Rule) -> String {
    let plain = |net: &Ipv4Net| net.to_string().trim_end_matches("/32").to_owned();
    let from = rule.from.as_ref().map_or("all".to_owned(), plain);
    let to = rule.to.as_ref().map_or(String::new(), |net| format!(" to {}", plain(net)));
    let mark = rule.mark.map_or(String::new(), |m| format!(" fwmark {:#x}/{:#x}", m.value, m.mask));
    let table = match rule.table.0 {
        255 => "local".to_owned(),
        253 => "default".to_owned(),
        _ => rule.table.to_string(),
    };
    format!("{}: from {from}{to}{mark} lookup {table}", rule.priority)
}

/// Routes of a table as `ip route` prints them.
pub(crate) fn routes(host: &PaperHost, table: u32) -> BTreeSet<String> {
    let show = |route: &Route| {
        let to = match route.to.prefix_len() {
            0 => "default".to_owned(),
            32 => route.to.addr().to_string(),
            _ => route.to.to_string(),
        };
        let via = route.via.map_or(String::new(), |via| format!(" via {via}"));
        let scope = if route.scope == RouteScope::Link { " scope link" } else { "" };
        let source = route.source.map_or(String::new(), |source| format!(" src {source}"));
        format!("{to}{via} dev {}{scope}{source}", route.link)
    };
    host.observe().routes.iter().filter(|route| route.table == RouteTable(table)).map(show).collect()
}

pub(crate) fn set<const N: usize>(lines: [&str; N]) -> BTreeSet<String> {
    lines.into_iter().map(str::to_owned).collect()
}

/// What a list of operations makes and what it takes away, by object.
pub(crate) fn made_and_unmade(ops: &[HostOp]) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut sets = (BTreeSet::new(), BTreeSet::new());
    for op in ops {
        match op {
            HostOp::AddRule(rule) => sets.0.insert(format!("{rule:?}")),
            HostOp::RemoveRule(rule) => sets.1.insert(format!("{rule:?}")),
            HostOp::ReplaceRoute(route) => sets.0.insert(format!("{route:?}")),
            HostOp::RemoveRoute(route) => sets.1.insert(format!("{route:?}")),
            HostOp::AddAddress { link, address, .. } => sets.0.insert(format!("{link} {address}")),
            HostOp::RemoveAddress { link, address } => sets.1.insert(format!("{link} {address}")),
            HostOp::PinNeighbour(n) => sets.0.insert(format!("{} {}", n.link, n.address)),
            HostOp::RemoveNeighbour(n) => sets.1.insert(format!("{} {}", n.link, n.address)),
            HostOp::DeleteLink { link } => sets.1.insert(format!("{link}")),
            HostOp::SetLink { link, up, .. } => up.then(|| sets.0.insert(format!("{link}"))).is_some(),
            HostOp::SetRpFilter { .. } | HostOp::SetSysctl { .. } | HostOp::ReplaceFilter(_) => false,
        };
    }
    sets
}
