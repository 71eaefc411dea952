//! Where packets leave the VPC: the internet gateway's translation, and NAT gateways.
//!
//! ```text
//! igw:      prerouting  from the world, to a public address nobody has                  -> dropped
//!                       from the world: destination becomes the private address
//!           forward     from the VPC, from an address without a public one              -> dropped
//!           postrouting to the world: source becomes the public address
//! nat-…:    postrouting source becomes the gateway's address; nothing gets in to itself
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_cloud::NatGatewaySpec;
use vpc_linux::nft::{
    Batch, ChainKind, Data, DataKind, Element, Hook, IfName, KeyType, NatFlags, NatKind, Nft, Rule, Selector, Set,
    Test, priority,
};
use vpc_linux::{Netns, RouteSpec, Rtnl};
use vpc_model::RouteTable;

use super::error::Context;
use super::filter::{base, commit, dropping, table};
use super::links::{NEXT_HOP, Tie, link_name, new_network};
use super::{FabricError, GATEWAY_ADDRESS, VPC_MTU};

const INPUT: &str = "input";
const FORWARD: &str = "forward";
const PREROUTING: &str = "prerouting";
const POSTROUTING: &str = "postrouting";

/// The internet gateway: its routes into the VPC, and its filter: one address to one address.
#[derive(Debug)]
pub(super) struct InternetGateway {
    nft: Nft,
    routes: Rtnl,
    /// Index of its link to the router.
    vpc: u32,
    /// What is mapped: private to public.
    mapped: BTreeMap<Ipv4Addr, Ipv4Addr>,
    /// CIDRs that are routed into the VPC.
    cidrs: Vec<Ipv4Net>,
}

fn addresses(name: &str) -> Set {
    Set::of(name, &[KeyType::Ipv4Addr])
}

fn address_map(name: &str) -> Set {
    addresses(name).to(DataKind::Value(KeyType::Ipv4Addr))
}

fn on_link(to: Ipv4Net, link: u32) -> RouteSpec {
    RouteSpec { onlink: true, ..RouteSpec::through(RouteTable::MAIN, to, NEXT_HOP, link) }
}

impl InternetGateway {
    /// Everything but the VPC's CIDRs. `vpc` and `world` are its links' indexes.
    pub(super) fn install(gateway: &Netns, vpc: u32, world: u32) -> Result<Self, FabricError> {
        let mut routes = Rtnl::open_in(gateway).context("open the internet gateway's netlink socket")?;
        // What it says about packets that are too big for the internet, it says from here.
        let own = vpc_linux::Address::new(vpc, GATEWAY_ADDRESS.into());
        routes.add_address(&own).context("give the internet gateway an address")?;
        routes.replace_route(&on_link(Ipv4Net::default(), world)).context("give the internet gateway its route")?;
        let nft = filter(gateway)?;
        Ok(Self { nft, routes, vpc, mapped: BTreeMap::new(), cidrs: Vec::new() })
    }

    /// The VPC has these CIDRs now.
    pub(super) fn set_cidrs(&mut self, cidrs: &[Ipv4Net]) -> Result<(), FabricError> {
        for new in cidrs.iter().filter(|cidr| !self.cidrs.contains(cidr)) {
            self.routes.replace_route(&on_link(*new, self.vpc)).context(format!("route {new} into the VPC"))?;
        }
        for gone in self.cidrs.iter().filter(|cidr| !cidrs.contains(cidr)) {
            self.routes.delete_route(&on_link(*gone, self.vpc)).context(format!("no longer route {gone}"))?;
        }
        self.cidrs = cidrs.to_vec();
        Ok(())
    }

    /// An ENI had these mappings, and has those now.
    pub(super) fn map_all(
        &mut self,
        before: &BTreeMap<Ipv4Addr, Ipv4Addr>,
        now: &BTreeMap<Ipv4Addr, Ipv4Addr>,
    ) -> Result<(), FabricError> {
        // What goes, goes first: a public address may move from one private address to another.
        let gone = before.keys().filter(|private| !now.contains_key(*private)).map(|private| (*private, None));
        let kept = now.iter().map(|(private, public)| (*private, Some(*public)));
        gone.chain(kept).try_for_each(|(private, public)| self.map(private, public))
    }

    /// Maps a private address to a public one, or to none.
    pub(super) fn map(&mut self, private: Ipv4Addr, public: Option<Ipv4Addr>) -> Result<(), FabricError> {
        let old = self.mapped.get(&private).copied();
        if old == public {
            return Ok(());
        }
        let table = table();
        let single = |address: Ipv4Addr| Element::new([address.into()]);
        let pair = |from: Ipv4Addr, to: Ipv4Addr| single(from).to(Data::Value(to.into()));
        let mut batch = Batch::new();
        if let Some(old) = old {
            batch.delete_elements(&table, &addresses("public"), &[single(old)]);
            batch.delete_elements(&table, &addresses("private"), &[single(private)]);
            batch.delete_elements(&table, &address_map("inward"), &[pair(old, private)]);
            batch.delete_elements(&table, &address_map("outward"), &[pair(private, old)]);
        }
        if let Some(new) = public {
            batch.add_elements(&table, &addresses("public"), &[single(new)]);
            batch.add_elements(&table, &addresses("private"), &[single(private)]);
            batch.add_elements(&table, &address_map("inward"), &[pair(new, private)]);
            batch.add_elements(&table, &address_map("outward"), &[pair(private, new)]);
        }
        commit(&mut self.nft, batch, "map a public address")?;
        match public {
            Some(new) => drop(self.mapped.insert(private, new)),
            None => drop(self.mapped.remove(&private)),
        }
        Ok(())
    }
}

fn filter(gateway: &Netns) -> Result<Nft, FabricError> {
    let mut nft = Nft::open_in(gateway).context("open the internet gateway's packet filter")?;
    let (vpc, world) = (IfName::Is(link_name("vpc")?), IfName::Is(link_name("world")?));
    let table = table();
    let mut batch = Batch::new();
    batch.replace_table(&table, None);
    for set in ["public", "private"] {
        batch.add_set(&table, &addresses(set));
    }
    for map in ["inward", "outward"] {
        batch.add_set(&table, &address_map(map));
    }
    let (source, destination) = ([Selector::IpSource], [Selector::IpDestination]);
    batch.add_chain(&table, &base("unknown", ChainKind::Filter, Hook::Prerouting, priority::RAW));
    let nobody = Rule::new().iifname(Test::Is, &world).in_set(Test::Not, &destination, "public");
    batch.add_rule(&table, "unknown", &nobody.counter().drop());
    batch.add_chain(&table, &base(PREROUTING, ChainKind::Nat, Hook::Prerouting, priority::DSTNAT));
    let inward = Rule::new().iifname(Test::Is, &world);
    let inward = inward.nat_from_map(NatKind::Destination, &destination, "inward", NatFlags::default());
    batch.add_rule(&table, PREROUTING, &inward);
    batch.add_chain(&table, &base(FORWARD, ChainKind::Filter, Hook::Forward, priority::FILTER));
    let nameless = Rule::new().iifname(Test::Is, &vpc).in_set(Test::Not, &source, "private");
    batch.add_rule(&table, FORWARD, &nameless.counter().drop());
    batch.add_chain(&table, &base(POSTROUTING, ChainKind::Nat, Hook::Postrouting, priority::SRCNAT));
    let outward = Rule::new().oifname(Test::Is, &world);
    let outward = outward.nat_from_map(NatKind::Source, &source, "outward", NatFlags::default());
    batch.add_rule(&table, POSTROUTING, &outward);
    commit(&mut nft, batch, "install the internet gateway's packet filter")?;
    Ok(nft)
}

/// A NAT gateway as built.
#[derive(Debug)]
pub(super) struct NatGateway {
    pub(super) spec: NatGatewaySpec,
    pub(super) network: Netns,
    /// Index of its link in the router.
    pub(super) link: u32,
    /// The number in its link's name.
    pub(super) number: u32,
}

impl NatGateway {
    /// A namespace with one link, whose only work is source NAT.
    pub(super) fn build(router: &Netns, number: u32, spec: &NatGatewaySpec) -> Result<Self, FabricError> {
        let network = new_network()?;
        let name = format!("n-{number}");
        let (link, eth0) = Tie { mtu: VPC_MTU, ends: [(router, &name), (&network, "eth0")] }.make()?;
        let mut inside = Rtnl::open_in(&network).context("open the NAT gateway's netlink socket")?;
        let own = vpc_linux::Address::new(eth0, spec.private_ip.into());
        inside.add_address(&own).context("give the NAT gateway its address")?;
        inside.replace_route(&on_link(Ipv4Net::default(), eth0)).context("give the NAT gateway its route")?;
        install_source_nat(&network, spec.private_ip)?;
        Ok(Self { spec: spec.clone(), network, link, number })
    }
}

/// Whatever goes out of it has its address; nothing but answers comes back.
fn install_source_nat(gateway: &Netns, address: Ipv4Addr) -> Result<(), FabricError> {
    let mut nft = Nft::open_in(gateway).context("open the NAT gateway's packet filter")?;
    let table = table();
    let mut batch = Batch::new();
    batch.replace_table(&table, None);
    batch.add_chain(&table, &base(POSTROUTING, ChainKind::Nat, Hook::Postrouting, priority::SRCNAT));
    let own = Rule::new().ip_source(Test::Not, address.into());
    batch.add_rule(&table, POSTROUTING, &own.snat(address, NatFlags::default()));
    batch.add_chain(&table, &dropping(INPUT, Hook::Input));
    commit(&mut nft, batch, "install the NAT gateway's packet filter")
}
