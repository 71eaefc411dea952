//! One pod's ties to its host: what the plugin makes on ADD and undoes on DEL.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{LinkName, Mac, RouteTable};

use crate::classic::{host, layout as layout_of};
use crate::{HostLayout, HostOp, Neighbour, Route};

/// The next hop of every pod: a link-local address that exists nowhere but as a pinned neighbour in the pod.
pub const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// Everything that is known about a pod when its namespace is wired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodWiring {
    /// The pod's address.
    pub address: Ipv4Addr,
    /// Table of the ENI the address belongs to ([`RouteTable::MAIN`] for the primary one).
    pub table: RouteTable,
    /// Host end of the veth pair.
    pub host_link: LinkName,
    /// Pod end (`CNI_IFNAME`).
    pub pod_link: LinkName,
    /// Hardware address of the host end, chosen by the caller (locally administered, unicast).
    pub host_mac: Mac,
    /// Hardware address of the pod end, chosen by the caller (locally administered, unicast).
    pub pod_mac: Mac,
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// `IFLA_IFALIAS` of the host end: whose it is ([`crate::LinkAlias`]).
    pub alias: String,
    /// Layout of the host's routes and rules.
    pub layout: HostLayout,
}

/// A veth pair to be made: the host end in the host's namespace and up, the peer directly in the pod's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VethPair {
    /// Name of the host end.
    pub host_link: LinkName,
    /// Hardware address of the host end.
    pub host_mac: Mac,
    /// Name of the pod end.
    pub pod_link: LinkName,
    /// Hardware address of the pod end.
    pub pod_mac: Mac,
    /// MTU of both.
    pub mtu: u32,
    /// Alias of the host end.
    pub alias: String,
}

/// One step inside the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub enum PodOp {
    /// Brings a link up (`lo`, or the pod's own).
    Up(LinkName),
    /// Adds the pod's address (/32) to its link. An address that is there already is an error: someone else's sandbox.
    AddAddress {
        /// Link.
        link: LinkName,
        /// Address, as a /32.
        address: Ipv4Addr,
    },
    /// Adds a route.
    AddRoute(Route),
    /// Pins a neighbour.
    PinNeighbour(Neighbour),
}

/// The whole of it, in the order it is carried out: the pair, the pod's side, the host's side.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Wiring {
    /// The pair. A leftover host link of the same name is deleted first.
    pub veth: VethPair,
    /// Steps in the pod's namespace.
    pub pod: Vec<PodOp>,
    /// Steps in the host's namespace.
    pub host: Vec<HostOp>,
}

/// The steps that tie a pod to its host.
///
/// In the pod: `lo` and the link up, the next hop ([`POD_GATEWAY`]) on the link, the default route through it, the address, and the
/// next hop pinned to the host end's hardware address: nothing ever answers ARP for it. On the host: the pod pinned to its hardware
/// address, its route, its rules; the rules last, so that none leads where no route is.
#[must_use]
pub fn wiring(pod: &PodWiring) -> Wiring {
    Wiring { veth: veth(pod), pod: pod_side(pod), host: host_side(pod) }
}

/// The steps that untie a pod's address from the host: its rules. The route, the neighbour and the pod's side go with the veth pair,
/// which the kernel takes down with the namespace (or [`HostOp::DeleteLink`] before).
///
/// `table` is the table the pod was wired with. What a rule into another table may have left, the daemon's plan removes once the
/// address is known to be nobody's ([`crate::HostView::released`]).
#[must_use]
pub fn unwiring(layout: HostLayout, address: Ipv4Addr, table: RouteTable) -> Vec<HostOp> {
    layout_of(layout).pod_rules(address, table).into_iter().map(HostOp::RemoveRule).collect()
}

fn veth(pod: &PodWiring) -> VethPair {
    VethPair {
        host_link: pod.host_link.clone(),
        host_mac: pod.host_mac,
        pod_link: pod.pod_link.clone(),
        pod_mac: pod.pod_mac,
        mtu: pod.mtu,
        alias: pod.alias.clone(),
    }
}

fn pod_side(pod: &PodWiring) -> Vec<PodOp> {
    let link = || pod.pod_link.clone();
    let gateway = host(POD_GATEWAY);
    let loopback = "lo".parse().ok().map(PodOp::Up);
    let steps = [
        PodOp::Up(link()),
        PodOp::AddRoute(Route::on_link(RouteTable::MAIN, gateway, link())),
        PodOp::AddRoute(Route::through(RouteTable::MAIN, Ipv4Net::default(), POD_GATEWAY, link())),
        PodOp::AddAddress { link: link(), address: pod.address },
        PodOp::PinNeighbour(Neighbour { link: link(), address: POD_GATEWAY, mac: pod.host_mac }),
    ];
    loopback.into_iter().chain(steps).collect()
}

fn host_side(pod: &PodWiring) -> Vec<HostOp> {
    let layout = layout_of(pod.layout);
    let neighbour = Neighbour { link: pod.host_link.clone(), address: pod.address, mac: pod.pod_mac };
    let route = layout.pod_route(pod.address, &pod.host_link);
    let rules = layout.pod_rules(pod.address, pod.table).into_iter().map(HostOp::AddRule);
    [HostOp::PinNeighbour(neighbour), HostOp::ReplaceRoute(route)].into_iter().chain(rules).collect()
}
