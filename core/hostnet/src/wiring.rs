//! One pod's ties to its host: what the plugin makes on ADD and undoes on DEL.

use std::net::Ipv4Addr;

use vpc_model::{LinkName, Mac, RouteTable};

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
