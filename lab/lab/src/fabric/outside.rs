//! Networks beside the VPC: peered VPCs, and an on-premises network behind the virtual private gateway.
//!
//! ```text
//!   router  x-0 ---- vpc  a peered VPC's hosts                              MTU 9001, as within a region
//!   router  vgw ---- vpc  gateway  site ---- eth0  on-premises hosts        MTU 1500 from the gateway on
//! ```
//!
//! The VPC's route tables decide who gets there, and the neighbours know the way back to the VPC's own CIDRs and to nothing else: no
//! address is translated, and nobody gets further by way of a neighbour, in either direction. What comes in from one has a source of
//! its own, or is dropped.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_cloud::id_text;
use vpc_linux::nft::{
    BaseChain, Batch, Chain, ChainKind, Element, Family, Hook, IfName, KeyPart, KeyType, Nft, Rule, Selector, Set,
    Table, Test, priority,
};
use vpc_linux::{Address, Netns, RouteKind, RouteSpec, Rtnl};
use vpc_model::RouteTable;

use super::error::Context;
use super::links::{NEXT_HOP, Tie, link_name, new_network};
use super::{FabricError, GATEWAY_ADDRESS, VPC_MTU, WORLD_MTU};
use crate::control::Place;
use crate::topology::Topology;

/// The router's link to the virtual private gateway.
const VIRTUAL_GATEWAY: &str = "vgw";
/// The name of the chain, and of the table, that hold what comes in to what it may be.
const CHAIN: &str = "neighbours";

/// All neighbours.
#[derive(Debug)]
pub(super) struct Outside {
    neighbours: Vec<Neighbour>,
    /// Keeps its place in the kernel: a socket that is closed right after a change is slow.
    _filter: Option<Nft>,
}

#[derive(Debug)]
struct Neighbour {
    /// What routes lead to: `pcx-…` or `vgw-…`.
    target: String,
    place: Place,
    /// Where its hosts are.
    network: Netns,
    /// What stands between it and the VPC.
    gateway: Option<Netns>,
    /// The router's link to it.
    link: (String, u32),
    hosts: Vec<Ipv4Addr>,
    cidrs: Vec<Ipv4Net>,
}

impl Outside {
    /// Builds the neighbours of a topology, tied to the router. The way back they learn with the plan: [`Outside::know`].
    pub(super) fn build(router: &Netns, topology: &Topology) -> Result<Self, FabricError> {
        let mut neighbours = Vec::new();
        for (number, peering) in topology.peerings.iter().enumerate() {
            let network = new_network()?;
            let name = format!("x-{number}");
            let (index, vpc) = Tie { mtu: VPC_MTU, ends: [(router, &name), (&network, "vpc")] }.make()?;
            hosts_in(&network, vpc, &peering.hosts)?;
            neighbours.push(Neighbour {
                target: id_text("pcx-", &peering.name),
                place: Place::Peer(peering.name.clone()),
                network,
                gateway: None,
                link: (name, index),
                hosts: peering.hosts.clone(),
                cidrs: peering.cidrs.clone(),
            });
        }
        if let Some(site) = &topology.on_premises {
            let (gateway, network) = (new_network()?, new_network()?);
            let (index, vpc) = Tie { mtu: VPC_MTU, ends: [(router, VIRTUAL_GATEWAY), (&gateway, "vpc")] }.make()?;
            let (near, far) = Tie { mtu: WORLD_MTU, ends: [(&gateway, "site"), (&network, "eth0")] }.make()?;
            // What it says about packets that are too big for the line, it says from here.
            let mut inside = Rtnl::open_in(&gateway).context("open the virtual private gateway's netlink socket")?;
            inside.add_address(&Address::new(vpc, GATEWAY_ADDRESS.into())).context("give the gateway an address")?;
            for cidr in &site.cidrs {
                inside.replace_route(&through(*cidr, near, None)).context("route to the on-premises network")?;
            }
            end_here(&mut inside)?;
            hosts_in(&network, far, &site.hosts)?;
            neighbours.push(Neighbour {
                target: topology.virtual_gateway_id(),
                place: Place::OnPremises,
                network,
                gateway: Some(gateway),
                link: (VIRTUAL_GATEWAY.to_owned(), index),
                hosts: site.hosts.clone(),
                cidrs: site.cidrs.clone(),
            });
        }
        let filter = (!neighbours.is_empty()).then(|| only_their_own(router, &neighbours)).transpose()?;
        Ok(Self { neighbours, _filter: filter })
    }

    /// What routes may lead to: ids of targets, and the router's links.
    pub(super) fn links(&self) -> impl Iterator<Item = (&str, u32)> {
        self.neighbours.iter().map(|neighbour| (neighbour.target.as_str(), neighbour.link.1))
    }

    /// The VPC has these CIDRs, and no longer those: the neighbours' routes follow.
    pub(super) fn know(&self, cidrs: &[Ipv4Net], gone: &[Ipv4Net]) -> Result<(), FabricError> {
        for neighbour in &self.neighbours {
            let source = neighbour.hosts.first().copied();
            let network = (&neighbour.network, if neighbour.gateway.is_some() { "eth0" } else { "vpc" }, source);
            let gateway = neighbour.gateway.as_ref().map(|gateway| (gateway, "vpc", None));
            for (network, link, source) in std::iter::once(network).chain(gateway) {
                let mut inside = Rtnl::open_in(network).context("open a neighbour's netlink socket")?;
                let link = inside.link(&link_name(link)?).context("find a neighbour's link")?.index;
                for cidr in gone {
                    match inside.delete_route(&through(*cidr, link, source)) {
                        Err(e) if !e.is_absent() => return Err(e).context(format!("forget the way to {cidr}")),
                        _ => {}
                    }
                }
                for cidr in cidrs {
                    inside.replace_route(&through(*cidr, link, source)).context(format!("tell the way to {cidr}"))?;
                }
            }
        }
        Ok(())
    }

    /// The network of a neighbour.
    pub(super) fn network(&self, place: &Place) -> Option<&Netns> {
        self.neighbours.iter().find(|neighbour| neighbour.place == *place).map(|neighbour| &neighbour.network)
    }

    /// The virtual private gateway.
    pub(super) fn virtual_gateway(&self) -> Option<&Netns> {
        self.neighbours.iter().find_map(|neighbour| neighbour.gateway.as_ref())
    }

    /// Where hosts answer: the place, its network, and their addresses.
    pub(super) fn sites(&self) -> impl Iterator<Item = (&Place, &Netns, &[Ipv4Addr])> {
        self.neighbours.iter().map(|neighbour| (&neighbour.place, &neighbour.network, neighbour.hosts.as_slice()))
    }
}

fn through(to: Ipv4Net, link: u32, source: Option<Ipv4Addr>) -> RouteSpec {
    RouteSpec { onlink: true, source, ..RouteSpec::through(RouteTable::MAIN, to, NEXT_HOP, link) }
}

/// What nobody was told a way to ends here, in silence.
fn end_here(network: &mut Rtnl) -> Result<(), FabricError> {
    let nowhere = RouteSpec::ending(RouteTable::MAIN, Ipv4Net::default(), RouteKind::Blackhole);
    network.replace_route(&nowhere).context("end a neighbour's routes")
}

fn hosts_in(network: &Netns, link: u32, hosts: &[Ipv4Addr]) -> Result<(), FabricError> {
    let mut inside = Rtnl::open_in(network).context("open a neighbour's netlink socket")?;
    for host in hosts {
        inside.add_address(&Address::new(link, (*host).into())).context(format!("give host {host} its address"))?;
    }
    end_here(&mut inside)
}

/// A neighbour sends as itself, and asks nothing of the router: its services are for the VPC.
fn only_their_own(router: &Netns, neighbours: &[Neighbour]) -> Result<Nft, FabricError> {
    let table = Table::new(Family::Ip, "vpc-lab-neighbours");
    let own = Set::of("own", &[KeyType::IfName, KeyType::Ipv4Addr]).with_intervals();
    let mut batch = Batch::new();
    batch.replace_table(&table, None).add_set(&table, &own);
    let from = BaseChain::new(ChainKind::Filter, Hook::Prerouting, priority::RAW);
    let to = BaseChain::new(ChainKind::Filter, Hook::Input, priority::FILTER);
    batch.add_chain(&table, &Chain::base(CHAIN, from)).add_chain(&table, &Chain::base("input", to));
    for neighbour in neighbours {
        let name = IfName::Is(link_name(&neighbour.link.0)?);
        let gateway = neighbour.gateway.as_ref().map(|_| Ipv4Net::from(GATEWAY_ADDRESS));
        let elements = neighbour.cidrs.iter().copied().chain(gateway).map(|cidr| {
            let link = vpc_linux::nft::Value::IfName(neighbour.link.0.clone());
            Element::new([KeyPart::Is(link), KeyPart::Net(cidr)])
        });
        batch.add_elements(&table, &own, &elements.collect::<Vec<_>>());
        let key = [Selector::IifName, Selector::IpSource];
        batch.add_rule(
            &table,
            CHAIN,
            &Rule::new().iifname(Test::Is, &name).in_set(Test::Not, &key, "own").counter().drop(),
        );
        batch.add_rule(&table, "input", &Rule::new().iifname(Test::Is, &name).counter().drop());
    }
    let mut nft = Nft::open_in(router).context("open the router's packet filter")?;
    nft.commit(batch).context("install the neighbours' packet filter")?;
    Ok(nft)
}
