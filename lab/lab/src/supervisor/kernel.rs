//! What happens to a node's kernel behind its daemon's back: objects gone, routes bent, links down, switches turned.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_linux::nft::{Batch, Family, Nft};
use vpc_linux::{LinkChange, NetlinkError, Netns, RouteKind, RouteSpec, Rtnl, sysctl};
use vpc_model::{LinkName, RouteTable};

use super::node::Node;
use crate::control::Failure;
use crate::fault::{Flush, NodeFault};

/// The table the kernel keeps for the host's own addresses.
const LOCAL_TABLE: RouteTable = RouteTable(255);
/// Routes that the kernel made itself (`RTPROT_KERNEL`).
const BY_THE_KERNEL: u8 = 2;
/// Preferences of the rules that every kernel has.
const KERNELS_RULES: [u32; 3] = [0, 32_766, 32_767];
/// What iptables calls its tables.
const IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
/// Families whose tables a node may have.
const FAMILIES: [Family; 5] = [Family::Ip, Family::Inet, Family::Arp, Family::Netdev, Family::Bridge];

/// What was done, and what takes it back.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Objects changed.
    pub(super) count: Option<u64>,
    /// What there is to say.
    pub(super) note: Option<String>,
    /// What takes it back, for faults that can be lifted.
    pub(super) restore: Option<Restore>,
}

/// What takes a change of a kernel back.
#[derive(Debug)]
pub(super) enum Restore {
    LinkUp(LinkName),
    Sysctl { key: String, value: String },
}

impl Restore {
    /// Takes it back, if the node has power: one that was switched off has a new kernel.
    pub(super) fn run(self, node: &Node) -> Result<(), Failure> {
        let Ok(view) = node.view() else { return Ok(()) };
        let network = view.spaces.net;
        match self {
            Self::LinkUp(link) => {
                set_link(&network, &link, true)?;
                if link.as_str() == "eth0" { node.renew_primary() } else { Ok(()) }
            }
            Self::Sysctl { key, value } => in_network(&network, || sysctl::write(&key, &value)).map_err(Failure::other),
        }
    }
}

/// Does it.
pub(super) fn change(node: &Node, fault: &NodeFault) -> Result<Done, Failure> {
    let network = node.view()?.spaces.net;
    let open = || Rtnl::open_in(&network).map_err(failed);
    match fault {
        NodeFault::KernelFlush { what, .. } => {
            let gone = match what {
                Flush::Nft => {
                    flush_tables(&network, |name, family| !(family == Family::Ip && IPTABLES.contains(&name)))
                }
                Flush::Iptables => {
                    flush_tables(&network, |name, family| family == Family::Ip && IPTABLES.contains(&name))
                }
                Flush::Routes => flush_routes(&mut open()?),
                Flush::Rules => flush_rules(&mut open()?),
                Flush::Addresses => flush_addresses(&mut open()?),
                Flush::Neighbours => flush_neighbours(&mut open()?),
                Flush::PodLinks => flush_pod_links(&mut open()?, &node.links()),
            };
            Ok(counted(gone.map_err(failed)?))
        }
        NodeFault::RuleDelete { priority, from, to, .. } => delete_rules(&mut open()?, *priority, *from, *to),
        NodeFault::RouteDelete { to, table, .. } => delete_route(&mut open()?, *to, RouteTable(*table)),
        NodeFault::RouteReplace { to, table, link, via, .. } => {
            replace_route(&mut open()?, *to, RouteTable(*table), link.as_deref(), *via)
        }
        NodeFault::LinkDown { link, .. } => {
            let link = link_name(link)?;
            set_link(&network, &link, false)?;
            Ok(Done { restore: Some(Restore::LinkUp(link)), ..Done::default() })
        }
        NodeFault::Sysctl { key, value, .. } => turn_switch(&network, key, value),
        NodeFault::Cut { .. }
        | NodeFault::Stop { .. }
        | NodeFault::Starve { .. }
        | NodeFault::Kill { .. }
        | NodeFault::Reboot { .. }
        | NodeFault::PowerCut { .. }
        | NodeFault::ApiAway
        | NodeFault::ApiDeny { .. } => Err(Failure::other("this is no fault of a kernel")),
    }
}

fn failed(error: NetlinkError) -> Failure {
    Failure::other(error)
}

fn counted(count: usize) -> Done {
    Done { count: u64::try_from(count).ok(), ..Done::default() }
}

fn flush_tables(network: &Netns, wanted: impl Fn(&str, Family) -> bool) -> Result<usize, NetlinkError> {
    let mut nft = Nft::open_in(network)?;
    let mut batch = Batch::new();
    let mut count = 0;
    for family in FAMILIES {
        // A kernel without a family has no tables of it.
        for seen in nft.tables(family).unwrap_or_default() {
            if wanted(&seen.table.name, family) {
                batch.delete_table(&seen.table);
                count += 1;
            }
        }
    }
    if count > 0 {
        nft.commit(batch)?;
    }
    Ok(count)
}

/// Runs deletions; something that has gone with something else before is as good as deleted.
fn delete_all<T>(items: &[T], mut delete: impl FnMut(&T) -> Result<(), NetlinkError>) -> Result<usize, NetlinkError> {
    for item in items {
        match delete(item) {
            Err(e) if !e.is_absent() => return Err(e),
            _ => {}
        }
    }
    Ok(items.len())
}

fn flush_routes(netlink: &mut Rtnl) -> Result<usize, NetlinkError> {
    let mut routes = netlink.routes(None)?;
    routes.retain(|route| route.table != LOCAL_TABLE && route.protocol != BY_THE_KERNEL);
    delete_all(&routes, |route| netlink.delete_route(route))
}

fn flush_rules(netlink: &mut Rtnl) -> Result<usize, NetlinkError> {
    let mut rules = netlink.rules()?;
    rules.retain(|rule| !KERNELS_RULES.contains(&rule.priority) && !rule.has_more);
    delete_all(&rules, |rule| netlink.delete_rule(rule).map(drop))
}

fn flush_addresses(netlink: &mut Rtnl) -> Result<usize, NetlinkError> {
    let lo = netlink.links()?.into_iter().find(|link| link.name.as_str() == "lo").map(|link| link.index);
    let mut addresses = netlink.addresses(None)?;
    addresses.retain(|address| Some(address.link) != lo);
    delete_all(&addresses, |address| netlink.delete_address(address))
}

fn flush_neighbours(netlink: &mut Rtnl) -> Result<usize, NetlinkError> {
    let mut all = netlink.neighbours(false)?;
    all.extend(netlink.neighbours(true)?);
    delete_all(&all, |neighbour| netlink.delete_neighbour(neighbour))
}

fn flush_pod_links(netlink: &mut Rtnl, enis: &[LinkName]) -> Result<usize, NetlinkError> {
    let mut links = netlink.links()?;
    links.retain(|link| link.kind.as_deref() == Some("veth") && !enis.contains(&link.name));
    delete_all(&links, |link| netlink.delete_link(link.index))
}

fn delete_rules(
    netlink: &mut Rtnl,
    priority: u32,
    from: Option<Ipv4Net>,
    to: Option<Ipv4Net>,
) -> Result<Done, Failure> {
    let all = netlink.rules().map_err(failed)?;
    let wanted = |rule: &&vpc_linux::RuleSpec| {
        rule.priority == priority
            && (from.is_none() || rule.from == from)
            && (to.is_none() || rule.to == to)
            && !rule.has_more
    };
    let rules: Vec<_> = all.iter().filter(wanted).cloned().collect();
    if rules.is_empty() {
        let known: std::collections::BTreeSet<_> = all.iter().map(|rule| rule.priority).collect();
        let known = known.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        return Err(Failure::other(format!(
            "rule-delete: there is no such rule of preference {priority}; there are rules of: {known}"
        )));
    }
    delete_all(&rules, |rule| netlink.delete_rule(rule).map(drop)).map(counted).map_err(failed)
}

fn delete_route(netlink: &mut Rtnl, to: Ipv4Net, table: RouteTable) -> Result<Done, Failure> {
    let routes = netlink.routes(Some(table)).map_err(failed)?;
    let wanted: Vec<_> = routes.iter().filter(|route| route.to == to).cloned().collect();
    if wanted.is_empty() {
        let known = routes.iter().map(|route| route.to.to_string()).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none".to_owned() } else { known };
        return Err(Failure::other(format!(
            "route-delete: table {} has no route to {to}; it has routes to: {known}",
            table.0
        )));
    }
    delete_all(&wanted, |route| netlink.delete_route(route)).map(counted).map_err(failed)
}

fn replace_route(
    netlink: &mut Rtnl,
    to: Ipv4Net,
    table: RouteTable,
    link: Option<&str>,
    via: Option<Ipv4Addr>,
) -> Result<Done, Failure> {
    let route = match (link, via) {
        (None, None) => RouteSpec::ending(table, to, RouteKind::Blackhole),
        (None, Some(_)) => return Err(Failure::other("route-replace: `via` needs the `link` it is reached by")),
        (Some(link), via) => {
            let index = netlink.link(&link_name(link)?).map_err(failed)?.index;
            match via {
                Some(via) => RouteSpec { onlink: true, ..RouteSpec::through(table, to, via, index) },
                None => RouteSpec::on_link(table, to, index),
            }
        }
    };
    netlink.replace_route(&route).map_err(failed)?;
    Ok(counted(1))
}

fn set_link(network: &Netns, link: &LinkName, up: bool) -> Result<(), Failure> {
    let mut netlink = Rtnl::open_in(network).map_err(failed)?;
    netlink.set_link(link, &LinkChange { up: Some(up), ..LinkChange::default() }).map_err(failed)
}

fn turn_switch(network: &Netns, key: &str, value: &str) -> Result<Done, Failure> {
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    if !path.starts_with("net/") || path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Failure::other(format!(
            "sysctl: key: `{key}`: expected one below net, such as net.ipv4.ip_forward"
        )));
    }
    let before = in_network(network, || {
        let before = sysctl::read(&path)?;
        sysctl::write(&path, value)?;
        Ok(before)
    });
    let before: String = before.map_err(Failure::other)?;
    let note = Some(format!("it was {before}"));
    Ok(Done { count: None, note, restore: Some(Restore::Sysctl { key: path, value: before }) })
}

fn in_network<T>(
    network: &Netns,
    work: impl FnOnce() -> Result<T, vpc_linux::sysctl::SysctlError>,
) -> Result<T, String> {
    network.enter(work).map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

fn link_name(name: &str) -> Result<LinkName, Failure> {
    name.parse().map_err(|e: vpc_model::LinkNameError| Failure::other(e))
}
