//! The VPC's network, in the kernel: veth pairs, routes and packet filter tables; no packet passes through a program.
//!
//! ```text
//!   node-a  eth0 ---- p-1a2b3c4d                                          one routed port for each ENI
//!           eth1 ---- p-99887766   router   igw ---- vpc  igw  world ---- eth0  world: 52.78.83.169
//!   node-b  eth0 ---- p-5e6f7a8b  (the lab's       1:1 NAT for public addresses, nothing else
//!                                  own namespace)
//!   nat-…   eth0 ---- n-0 ............ source NAT to the gateway's private address, and back into the same router
//!   peer:…   vpc ---- x-0 ............ a peered VPC's hosts, by private addresses both ways                      (outside.rs)
//!   site     eth0 --- site vgw vpc --- vgw, in the router: hosts on premises, by private addresses both ways
//!   service  eth0 ---- p-77665544 .... an interface endpoint: a port like a node's, with a service behind it   (endpoints.rs)
//!                     loop-a -- loop-b   both ends in the router: the way to a second pass
//!
//!   from an ENI (first pass):    source check (port, MAC, address) -> connections of this ENI -> may its groups let it out?
//!                                -> an address of the VPC: into the loop, for a second pass
//!                                -> route table of its subnet: internet gateway, NAT gateway, another ENI (by the loop), or nothing
//!   to an ENI (second pass, or from a gateway):
//!                                port of the destination -> connections of that ENI -> may its groups let it in? -> out of the port
//! ```
//!
//! So every ENI tracks connections by itself, as on AWS: what leaves one ENI and comes to another is looked at twice, with two zones of
//! connection tracking. What comes from, or goes to, a gateway is looked at once, at the ENI's side; what goes from gateway to gateway
//! is not looked at. Link-local services (IMDS, EC2) and the VPC's resolver are not subject to
//! groups: they are addresses of the router itself.
//!
//! A pass costs no TTL, as on AWS, where no router is to be seen between two instances: the filter adds one before the router takes one
//! away. (A packet that starts with 255 arrives with 254: there is nothing to add then.) Gateways do cost one.
//!
//! The router pins every neighbour: all ports use the same link-local next hop, on each port pinned to its ENI's MAC, so the router never
//! asks by ARP, and its neighbour table holds one permanent entry for each port. Nodes do use ARP; the port answers for the gateway (its
//! own address there) and, as proxy, for every in-subnet address that has a route.
//!
//! [`Fabric::build`] makes what every VPC has; all else comes with the first [`NetworkPlan`] and changes with each following one.

mod cost;
mod endpoints;
mod error;
mod filter;
mod gateways;
mod groups;
mod limits;
mod links;
mod outside;
mod plan;
mod port;
mod routes;
mod world;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use lab_cloud::{AttachedEni, NetworkPlan, id_text};
use serde::{Deserialize, Serialize};
use vpc_linux::{Netns, Rtnl};
use vpc_model::{EniId, GatewayOf, LinkName, RouteTable};

pub use cost::{CostOptions, FabricCost, PathFigures, measure};
pub use endpoints::{Endpoints, host_of};
pub use error::FabricError;
pub use limits::{LinkLocalLimit, hold_to};
pub use links::link_up;
pub(crate) use links::set_switches;
pub use port::PortStatus;
pub use world::{Responder, Visit, WorldLog, listen, serve};

use crate::control::Place;
use crate::dns::{RESOLVER_ADDRESS, resolver_in};
use crate::topology::Topology;
use error::Context;
use filter::RouterFilter;
use gateways::{InternetGateway, NatGateway};
use links::{Tie, link_name, new_network, router_switches};
use outside::Outside;
use plan::GatewayLink;
use port::{Port, PortPlace};
use routes::{INTERNET, Routes};

/// IMDS, where every EC2 instance finds it.
pub const IMDS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The EC2 API for the lab's nodes: a link-local address of the router that AWS uses for nothing.
pub const EC2_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 200);
/// The Kubernetes API for the lab's nodes: a link-local address of the router that AWS uses for nothing.
pub const KUBE_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 201);
/// Where the internet gateway's own ICMP errors come from.
const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);
/// MTU inside the VPC in bytes: EC2's jumbo frames.
pub const VPC_MTU: u32 = 9001;
/// MTU of the internet in bytes.
pub const WORLD_MTU: u32 = 1500;

/// Addresses that are the same on every link; what is sent there is for the provider's own services.
const LINK_LOCAL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16);

/// Known addresses of the VPC, and blackholes for the rest of its CIDRs.
const VPC_TABLE: RouteTable = RouteTable(500);
/// The bit of a packet's mark that says: it came from an ENI, and goes into the loop if it is for another. The bits below it are the
/// number of its route table.
const FIRST_PASS: u32 = 0x1_0000;
/// How port MACs begin: locally administered, unicast.
const PORT_MAC: [u8; 2] = [0x02, 0x5a];

/// The whole network.
#[derive(Debug)]
pub struct Fabric {
    inner: Mutex<Inner>,
    world: Netns,
    internet_gateway: Netns,
    outside: Outside,
}

#[derive(Debug)]
struct Inner {
    router_ns: Netns,
    router: Rtnl,
    filter: RouterFilter,
    routes: Routes,
    gateway: InternetGateway,
    ports: BTreeMap<EniId, Port>,
    /// Links that routes may lead to, by the target's id; see [`Inner::tie_in`].
    links: BTreeMap<String, u32>,
    /// What else is known of them.
    gateway_links: BTreeMap<String, GatewayLink>,
    /// By id.
    nat_gateways: BTreeMap<String, NatGateway>,
    /// What is built.
    plan: NetworkPlan,
}

/// Everything the fabric counts and shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FabricStatus {
    /// Ports by ENI.
    pub ports: Vec<PortStatus>,
    /// Packets dropped because an ENI may not send them (foreign source address or MAC).
    pub spoofed: u64,
    /// Packets dropped because an ENI's security groups do not let them out.
    pub egress_denied: u64,
    /// Packets dropped because an ENI's security groups do not let them in.
    pub ingress_denied: u64,
    /// Packets dropped because there is no way to where they should go: an address of the VPC that nobody has, a route table without a
    /// route, a route that leads nowhere (also: to an ENI whose source/destination check is on).
    pub no_route: u64,
}

impl Fabric {
    /// Builds what every VPC has, in the calling thread's network namespace, which becomes the router. Nothing passes before the first
    /// [`Fabric::set_network`].
    ///
    /// # Errors
    /// The step that failed.
    pub fn build(topology: &Topology) -> Result<Self, FabricError> {
        let router_ns = Netns::current().context("open the lab's network namespace")?;
        router_switches(&router_ns)?;
        link_up(&router_ns, "lo")?;
        let mut router = Rtnl::open_in(&router_ns).context("open the router's netlink socket")?;
        let resolvers = resolvers(&topology.cidrs);
        own_addresses(&mut router, &resolvers)?;

        let world = world::build(topology)?;
        let internet_gateway = new_network()?;
        let inside = Tie { mtu: VPC_MTU, ends: [(&router_ns, "igw"), (&internet_gateway, "vpc")] }.make()?;
        let outside = Tie { mtu: WORLD_MTU, ends: [(&internet_gateway, "world"), (&world, "eth0")] }.make()?;
        let around = Tie { mtu: VPC_MTU, ends: [(&router_ns, "loop-a"), (&router_ns, "loop-b")] }.make()?;
        world::routes(&world, topology, outside.1)?;
        let gateway = InternetGateway::install(&internet_gateway, inside.1, outside.0)?;
        let filter = RouterFilter::install(&router_ns, around, &resolvers)?;
        let routes = Routes::install(&mut router, around)?;
        let mut inner = Inner {
            router_ns,
            router,
            filter,
            routes,
            gateway,
            ports: BTreeMap::new(),
            links: BTreeMap::new(),
            gateway_links: BTreeMap::new(),
            nat_gateways: BTreeMap::new(),
            plan: NetworkPlan::default(),
        };
        inner.tie_in(INTERNET, inside.0, None, false)?;
        let outside = Outside::build(&inner.router_ns, topology)?;
        for (target, link) in outside.links() {
            inner.tie_in(target, link, None, false)?;
        }
        Ok(Self { inner: Mutex::new(inner), world, internet_gateway, outside })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network of the internet.
    #[must_use]
    pub fn world(&self) -> &Netns {
        &self.world
    }

    /// The network of a neighbour: [`Place::Peer`] or [`Place::OnPremises`].
    #[must_use]
    pub fn neighbour(&self, place: &Place) -> Option<&Netns> {
        self.outside.network(place)
    }

    /// Where hosts of neighbours answer: the place, its network, and their addresses.
    pub fn neighbours(&self) -> impl Iterator<Item = (&Place, &Netns, &[Ipv4Addr])> {
        self.outside.sites()
    }

    /// The network of a gateway: `igw`, `vgw`, or a NAT gateway by id or by the topology's name.
    #[must_use]
    pub fn gateway(&self, name: &str) -> Option<Netns> {
        match name {
            "igw" => return Some(self.internet_gateway.clone()),
            "vgw" => return self.outside.virtual_gateway().cloned(),
            _ => {}
        }
        let inner = self.inner();
        let nat = inner.nat_gateways.get(name).or_else(|| inner.nat_gateways.get(&id_text("nat-", name)));
        nat.map(|nat| nat.network.clone())
    }

    /// The network around the ENIs is now this.
    ///
    /// # Errors
    /// The first step that failed; what is not done then is tried again with the next plan.
    pub fn set_network(&self, plan: &NetworkPlan) -> Result<(), FabricError> {
        let mut inner = self.inner();
        let gone: Vec<_> = inner.plan.cidrs.iter().filter(|cidr| !plan.cidrs.contains(cidr)).copied().collect();
        inner.set_network(plan)?;
        self.outside.know(&plan.cidrs, &gone)
    }

    /// Makes an ENI's device appear in a node, down and without addresses, and lets its packets pass.
    ///
    /// # Errors
    /// The step that failed; the device is gone again then.
    pub fn attach(&self, eni: &AttachedEni, node: &Netns, link: &LinkName) -> Result<(), FabricError> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let subnet = inner.plan.subnets.get(&eni.subnet).ok_or_else(|| FabricError::unknown("subnet", &eni.subnet))?;
        let gateway = subnet.cidr.gateway();
        let place = PortPlace { gateway, mark: inner.mark_of(&eni.subnet), zone: inner.filter.take_zone() };
        let port = Port::open(&mut inner.router, eni, place, node, link)?;
        let opened = inner.filter.admit(&port).and_then(|()| port.route_all(&mut inner.router, VPC_TABLE));
        if let Err(e) = opened.and_then(|()| inner.gateway.map_all(&BTreeMap::new(), &eni.addresses.public)) {
            inner.filter.expel(&port).ok();
            port.close(&mut inner.router).ok();
            return Err(e);
        }
        inner.ports.insert(eni.id.clone(), port);
        inner.follow_routes_to(&eni.id)
    }

    /// Takes an ENI's device away. One that is not there is fine: its node may have gone before.
    ///
    /// # Errors
    /// The step that failed.
    pub fn detach(&self, eni: &EniId) -> Result<(), FabricError> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(port) = inner.ports.remove(eni) else { return Ok(()) };
        // First no packet passes any more, then the link goes, and its routes with it.
        let expelled = inner.filter.expel(&port);
        let unmapped = inner.gateway.map_all(&port.public, &BTreeMap::new());
        port.close(&mut inner.router)?;
        inner.routes.forget_link(port.index);
        let rerouted = inner.follow_routes_to(eni);
        expelled.and(unmapped).and(rerouted)
    }

    /// Addresses, groups or source/destination check of an ENI are now these. One that is not attached is fine.
    ///
    /// # Errors
    /// The step that failed.
    pub fn change(&self, eni: &AttachedEni) -> Result<(), FabricError> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(port) = inner.ports.get_mut(&eni.id) else { return Ok(()) };
        let now = port.changed_to(eni);
        // An address that goes may appear at another port in the next moment: take away before giving.
        let gone = port.networks.difference(&now.networks).copied().collect();
        let new = now.networks.difference(&port.networks).copied().collect();
        port.unroute(&mut inner.router, VPC_TABLE, &gone)?;
        inner.filter.change(port, &now)?;
        let before = std::mem::replace(port, now);
        port.route(&mut inner.router, VPC_TABLE, &new)?;
        inner.gateway.map_all(&before.public, &port.public)?;
        inner.follow_routes_to(&eni.id)
    }

    /// A private address is now known to the internet under another one, or no longer.
    ///
    /// # Errors
    /// The step that failed.
    pub fn set_public(&self, private: Ipv4Addr, public: Option<Ipv4Addr>) -> Result<(), FabricError> {
        self.inner().gateway.map(private, public)
    }

    /// What is to be seen.
    #[must_use]
    pub fn status(&self) -> FabricStatus {
        let mut inner = self.inner();
        let drops = inner.filter.drops();
        let by_port = inner.filter.drops_by_port();
        let own = |port: &Port| by_port.get(&port.index).copied().unwrap_or_default();
        FabricStatus {
            ports: inner.ports.iter().map(|(eni, port)| port.status(eni, own(port))).collect(),
            spoofed: drops.spoofed,
            egress_denied: drops.egress,
            ingress_denied: drops.ingress,
            no_route: drops.no_route,
        }
    }
}

/// Where the VPC's resolver answers: in a VPC of these CIDRs, and in every VPC.
#[must_use]
pub fn resolvers(cidrs: &[Ipv4Net]) -> Vec<Ipv4Addr> {
    resolver_in(cidrs).into_iter().chain([RESOLVER_ADDRESS]).collect()
}

/// The router's own services: IMDS, EC2 and the resolver.
fn own_addresses(router: &mut Rtnl, resolvers: &[Ipv4Addr]) -> Result<(), FabricError> {
    let lo = router.link(&link_name("lo")?).context("find lo")?.index;
    for address in [IMDS_ADDRESS, EC2_ADDRESS, KUBE_ADDRESS].iter().chain(resolvers) {
        router
            .add_address(&vpc_linux::Address::new(lo, (*address).into()))
            .context("give the router its services' addresses")?;
    }
    Ok(())
}
