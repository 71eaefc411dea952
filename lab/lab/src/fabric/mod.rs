//! The VPC's network, in the kernel: veth pairs, routes and packet filter tables; no packet passes through a program.
//!
//! ```text
//!   node-a  eth0 ---- p-1a2b3c4d                                          one routed port for each ENI
//!           eth1 ---- p-99887766   router   igw ---- vpc  igw  world ---- eth0  world: 52.78.83.169
//!   node-b  eth0 ---- p-5e6f7a8b  (the lab's       1:1 NAT for public addresses, nothing else
//!                                  own namespace)
//!   nat-…   eth0 ---- n-0 ............ source NAT to the gateway's private address, and back into the same router
//!
//!   a packet of an ENI:  source check (port, MAC, address) -> mark = route table of its subnet
//!                        -> table VPC: a known address: out of its ENI's port; a VPC address nobody has: dropped
//!                        -> table of the mark: internet gateway, NAT gateway, or nothing
//! ```
//!
//! One port costs one TTL, which on AWS nothing does. The router pins every neighbour: all ports use the same link-local next hop,
//! on each port pinned to its ENI's MAC, so the router never asks by ARP, and its neighbour table holds one permanent entry for
//! each port. Nodes do use ARP; the port answers for the gateway (its own address there) and, as proxy, for every in-subnet address
//! that has a route.

mod endpoints;
mod error;
mod filter;
mod limits;
mod links;
mod outside;
mod port;
mod world;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use lab_cloud::{AttachedEni, EniAddresses};
use serde::{Deserialize, Serialize};
use vpc_hostnet::Mark;
use vpc_linux::Netns;
use vpc_linux::{RouteKind, RouteSpec, Rtnl, RuleSpec};
use vpc_model::{EniId, GatewayOf, LinkName, RouteTable};

pub use endpoints::{Endpoints, host_of};
pub use error::FabricError;
pub use limits::{LinkLocalLimit, hold_to};
pub use links::link_up;
pub(crate) use links::set_switches;
pub use port::PortStatus;
pub use world::{Responder, Visit, WorldLog, listen, serve};

use crate::control::Place;
use crate::dns::{RESOLVER_ADDRESS, resolver_in};
use crate::topology::{Target, Topology};
use error::Context;
use filter::{GatewayFilter, RouterFilter};
use links::{NEXT_HOP, Tie, link_name, new_network, router_switches};
use outside::Outside;
use port::{Port, PortPlace};

/// IMDS, where every EC2 instance finds it.
pub const IMDS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The EC2 API for the lab's nodes: a link-local address of the router that AWS uses for nothing.
pub const EC2_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 200);
/// Where the internet gateway's own ICMP errors come from.
const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);
/// MTU inside the VPC in bytes: EC2's jumbo frames.
pub const VPC_MTU: u32 = 9001;
/// MTU of the internet in bytes.
pub const WORLD_MTU: u32 = 1500;

/// Known addresses of the VPC, and blackholes for the rest of its CIDRs.
const VPC_TABLE: RouteTable = RouteTable(500);
/// The first table of a VPC route table; its number is also its mark.
const FIRST_TABLE: u32 = 1000;
/// Preferences of the router's rules.
const PREF_VPC: u32 = 100;
const PREF_TABLES: u32 = 200;
/// How port MACs begin: locally administered, unicast.
const PORT_MAC: [u8; 2] = [0x02, 0x5a];

/// The whole network.
#[derive(Debug)]
pub struct Fabric {
    inner: Mutex<Inner>,
    world: Netns,
    internet_gateway: Netns,
    nat_gateways: Vec<(String, Netns)>,
    outside: Outside,
}

#[derive(Debug)]
struct Inner {
    router: Rtnl,
    filter: RouterFilter,
    gateway: GatewayFilter,
    ports: BTreeMap<EniId, Port>,
    /// Of each subnet, by EC2's id: its network and the mark of its route table.
    subnets: BTreeMap<String, (vpc_model::Subnet, u32)>,
}

/// Everything the fabric counts and shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FabricStatus {
    /// Ports by ENI.
    pub ports: Vec<PortStatus>,
    /// Packets dropped because an ENI may not send them (foreign source address or MAC).
    pub spoofed: u64,
}

impl Fabric {
    /// Builds everything but the ports, in the calling thread's network namespace, which becomes the router.
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
        gateway_routes(&internet_gateway, topology, inside.1, outside.0)?;
        world::routes(&world, topology, outside.1)?;
        let gateway = GatewayFilter::install(&internet_gateway)?;
        let filter = RouterFilter::install(&router_ns, &resolvers)?;

        let marks: BTreeMap<_, _> =
            (FIRST_TABLE..).zip(&topology.route_tables).map(|(mark, t)| (t.name.as_str(), mark)).collect();
        let subnets = topology.subnets.iter().map(|subnet| {
            let id: vpc_model::SubnetId = lab_cloud::id_for(&subnet.name);
            (id.to_string(), (subnet.cidr, marks.get(subnet.route_table.as_str()).copied().unwrap_or(0)))
        });
        let mut inner = Inner { router, filter, gateway, ports: BTreeMap::new(), subnets: subnets.collect() };
        let nat_links = inner.nat_gateways(&router_ns, topology)?;
        let outside = Outside::build(&router_ns, topology)?;
        inner.route_tables(topology, inside.0, &nat_links, &outside)?;
        let nat_gateways = nat_links.into_iter().map(|nat| (nat.name, nat.network)).collect();
        Ok(Self { inner: Mutex::new(inner), world, internet_gateway, nat_gateways, outside })
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

    /// The network of a gateway, by name: `igw`, `vgw`, or a NAT gateway's.
    #[must_use]
    pub fn gateway(&self, name: &str) -> Option<&Netns> {
        match name {
            "igw" => return Some(&self.internet_gateway),
            "vgw" => return self.outside.virtual_gateway(),
            _ => {}
        }
        self.nat_gateways.iter().find(|(own, _)| own == name).map(|(_, network)| network)
    }

    /// Makes an ENI's device appear in a node, down and without addresses, and lets its packets pass.
    ///
    /// # Errors
    /// The step that failed; the device is gone again then.
    pub fn attach(&self, eni: &AttachedEni, node: &Netns, link: &LinkName) -> Result<(), FabricError> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let (subnet, mark) =
            *inner.subnets.get(eni.subnet.as_str()).ok_or_else(|| FabricError::unknown("subnet", &eni.subnet))?;
        let place = PortPlace { gateway: subnet.gateway(), mark };
        let port = Port::open(&mut inner.router, eni, place, node, link)?;
        let opened = inner.filter.admit(&port).and_then(|()| port.route_all(&mut inner.router, VPC_TABLE));
        if let Err(e) = opened.and_then(|()| inner.gateway.map_all(&BTreeMap::new(), &eni.addresses.public)) {
            inner.filter.expel(&port).ok();
            port.close(&mut inner.router).ok();
            return Err(e);
        }
        inner.ports.insert(eni.id.clone(), port);
        Ok(())
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
        expelled.and(unmapped)
    }

    /// The addresses of an ENI are now these.
    ///
    /// # Errors
    /// The step that failed.
    pub fn set_addresses(&self, eni: &EniId, addresses: &EniAddresses) -> Result<(), FabricError> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(port) = inner.ports.get_mut(eni) else { return Ok(()) };
        let change = port.change_to(addresses);
        // An address that goes may appear at another port in the next moment: take away before giving.
        port.unroute(&mut inner.router, VPC_TABLE, &change.gone)?;
        inner.filter.forget_sources(port, &change.gone)?;
        inner.filter.admit_sources(port, &change.new)?;
        port.route(&mut inner.router, VPC_TABLE, &change.new)?;
        let before = std::mem::replace(&mut port.public, addresses.public.clone());
        inner.gateway.map_all(&before, &addresses.public)
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
        let spoofed = inner.filter.spoofed();
        FabricStatus { ports: inner.ports.iter().map(|(eni, port)| port.status(eni)).collect(), spoofed }
    }
}

/// A NAT gateway as built.
struct Nat {
    name: String,
    network: Netns,
    /// Index of its link in the router.
    link: u32,
}

impl Inner {
    fn nat_gateways(&mut self, router_ns: &Netns, topology: &Topology) -> Result<Vec<Nat>, FabricError> {
        let mut done = Vec::new();
        for (number, gateway) in topology.nat_gateways.iter().enumerate() {
            let network = new_network()?;
            let name = format!("n-{number}");
            let (link, eth0) = Tie { mtu: VPC_MTU, ends: [(router_ns, &name), (&network, "eth0")] }.make()?;
            let own = Ipv4Net::from(gateway.private_ip);
            let mut inside = Rtnl::open_in(&network).context("open the NAT gateway's netlink socket")?;
            inside.add_address(&vpc_linux::Address::new(eth0, own)).context("give the NAT gateway its address")?;
            let everywhere =
                RouteSpec { onlink: true, ..RouteSpec::through(RouteTable::MAIN, Ipv4Net::default(), NEXT_HOP, eth0) };
            inside.replace_route(&everywhere).context("give the NAT gateway its route")?;
            filter::install_source_nat(&network, gateway.private_ip)?;
            // The router knows its address like any other of the VPC; packets from it take its own subnet's route table.
            let to_it = RouteSpec { onlink: true, ..RouteSpec::through(VPC_TABLE, own, NEXT_HOP, link) };
            self.router.replace_route(&to_it).context("route to the NAT gateway")?;
            let id: vpc_model::SubnetId = lab_cloud::id_for(&gateway.subnet);
            let mark = self.subnets.get(id.as_str()).map_or(0, |(_, mark)| *mark);
            self.filter.admit_gateway(link, mark)?;
            self.gateway.map(gateway.private_ip, Some(gateway.public_ip))?;
            done.push(Nat { name: gateway.name.clone(), network, link });
        }
        Ok(done)
    }

    /// What every packet is asked: first the VPC's own addresses, then the route table of its subnet. What finds nothing is dropped.
    fn route_tables(
        &mut self,
        topology: &Topology,
        internet: u32,
        nats: &[Nat],
        outside: &Outside,
    ) -> Result<(), FabricError> {
        let router = &mut self.router;
        for cidr in &topology.cidrs {
            let nowhere = RouteSpec::ending(VPC_TABLE, *cidr, RouteKind::Blackhole);
            router.replace_route(&nowhere).context("blackhole the VPC's CIDR")?;
        }
        router.add_rule(&RuleSpec::lookup(PREF_VPC, VPC_TABLE)).context("look up the VPC first")?;
        for (number, table) in (FIRST_TABLE..).zip(&topology.route_tables) {
            let own = RouteTable(number);
            let nowhere = RouteSpec::ending(own, Ipv4Net::default(), RouteKind::Blackhole);
            router.replace_route(&nowhere).context("end a route table")?;
            for (to, target) in &table.routes {
                let link = match target {
                    Target::InternetGateway => Some(internet),
                    Target::NatGateway(name) => nats.iter().find(|nat| nat.name == *name).map(|nat| nat.link),
                    Target::Peering(_) | Target::VirtualGateway => outside.link(&topology.cloud_target(target)),
                    Target::Blackhole => None,
                };
                let route = match link {
                    Some(link) => RouteSpec { onlink: true, ..RouteSpec::through(own, *to, NEXT_HOP, link) },
                    None => RouteSpec::ending(own, *to, RouteKind::Blackhole),
                };
                router.replace_route(&route).context("fill a route table")?;
            }
            let rule =
                RuleSpec { mark: Some(Mark { value: number, mask: u32::MAX }), ..RuleSpec::lookup(PREF_TABLES, own) };
            router.add_rule(&rule).context("look up a route table")?;
        }
        let nowhere = RouteSpec::ending(RouteTable::MAIN, Ipv4Net::default(), RouteKind::Blackhole);
        router.replace_route(&nowhere).context("end the main table")
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
    for address in [IMDS_ADDRESS, EC2_ADDRESS].iter().chain(resolvers) {
        router
            .add_address(&vpc_linux::Address::new(lo, (*address).into()))
            .context("give the router its services' addresses")?;
    }
    Ok(())
}

fn gateway_routes(network: &Netns, topology: &Topology, vpc: u32, world: u32) -> Result<(), FabricError> {
    let mut inside = Rtnl::open_in(network).context("open the internet gateway's netlink socket")?;
    // What it says about packets that are too big for the internet, it says from here.
    inside
        .add_address(&vpc_linux::Address::new(vpc, GATEWAY_ADDRESS.into()))
        .context("give the internet gateway an address")?;
    let to_vpc = topology.cidrs.iter().map(|cidr| (*cidr, vpc));
    for (to, link) in to_vpc.chain([(Ipv4Net::default(), world)]) {
        let route = RouteSpec { onlink: true, ..RouteSpec::through(RouteTable::MAIN, to, NEXT_HOP, link) };
        inside.replace_route(&route).context("give the internet gateway its routes")?;
    }
    Ok(())
}
