//! What may pass: packet filter tables of the router and its gateways.
//!
//! ```text
//! router:   prerouting  from a checked port, and (port, MAC, source) is not known       -> counted, dropped
//!                       mark = route table of the port's subnet
//!           input       HTTP to IMDS and EC2, DNS to the resolver, ICMP                 everything else dropped
//! igw:      prerouting  from the world, to a public address nobody has                  -> dropped
//!                       from the world: destination becomes the private address
//!           forward     from the VPC, from an address without a public one              -> dropped
//!           postrouting to the world: source becomes the public address
//! nat-…:    postrouting source becomes the gateway's address; nothing gets in to itself
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_linux::Netns;
use vpc_linux::nft::{
    BaseChain, Batch, Chain, ChainKind, Data, DataKind, Element, Family, Hook, IfName, KeyPart, KeyType, NatFlags,
    NatKind, Nft, Rule, Selector, Set, Table, Test, Value, priority,
};

use super::error::Context;
use super::links::link_name;
use super::port::Port;
use super::{EC2_ADDRESS, FabricError, IMDS_ADDRESS};

const PREROUTING: &str = "prerouting";
const INPUT: &str = "input";
const FORWARD: &str = "forward";
const POSTROUTING: &str = "postrouting";
/// How the counting rule is found again.
const SPOOFED: &str = "not the ENI's own";

/// The lab's table, the same name in every namespace.
fn table() -> Table {
    Table::new(Family::Ip, "vpc-lab")
}

fn base(name: &str, kind: ChainKind, hook: Hook, priority: i32) -> Chain {
    Chain::base(name, BaseChain::new(kind, hook, priority))
}

fn dropping(name: &str, hook: Hook) -> Chain {
    Chain::base(name, BaseChain::new(ChainKind::Filter, hook, priority::FILTER).dropping())
}

fn commit(nft: &mut Nft, batch: Batch, step: &str) -> Result<(), FabricError> {
    nft.commit(batch).context(step)
}

/// The router's filter.
#[derive(Debug)]
pub(super) struct RouterFilter {
    nft: Nft,
}

/// Links whose packets are checked.
fn checked() -> Set {
    Set::of("checked", &[KeyType::IfIndex])
}

/// What each of them may send: its MAC with its addresses.
fn sources() -> Set {
    Set::of("sources", &[KeyType::IfIndex, KeyType::EtherAddr, KeyType::Ipv4Addr])
}

/// The route table of each link's subnet.
fn marks() -> Set {
    Set::of("marks", &[KeyType::IfIndex]).to(DataKind::Value(KeyType::Mark))
}

/// Every address by itself: exact keys are found by hash, whatever their number.
fn source_elements(port: u32, mac: vpc_model::Mac, networks: &BTreeSet<Ipv4Net>) -> Vec<Element> {
    let addresses = networks.iter().flat_map(|net| net.network().to_bits()..=net.broadcast().to_bits());
    let element =
        |bits| Element::new([KeyPart::Is(Value::IfIndex(port)), mac.into(), Ipv4Addr::from_bits(bits).into()]);
    addresses.map(element).collect()
}

impl RouterFilter {
    pub(super) fn install(router: &Netns, resolvers: &[Ipv4Addr]) -> Result<Self, FabricError> {
        let mut nft = Nft::open_in(router).context("open the router's packet filter")?;
        let table = table();
        let mut batch = Batch::new();
        batch.replace_table(&table, None);
        batch.add_set(&table, &checked()).add_set(&table, &sources()).add_set(&table, &marks());
        batch.add_chain(&table, &base(PREROUTING, ChainKind::Filter, Hook::Prerouting, priority::RAW));
        let own = [Selector::Iif, Selector::EtherSource, Selector::IpSource];
        let check = Rule::new().in_set(Test::Is, &[Selector::Iif], "checked").in_set(Test::Not, &own, "sources");
        batch.add_rule(&table, PREROUTING, &check.counter().drop().comment(SPOOFED));
        batch.add_rule(&table, PREROUTING, &Rule::new().set_mark_from_map(&[Selector::Iif], "marks"));
        batch.add_chain(&table, &dropping(INPUT, Hook::Input));
        for service in [IMDS_ADDRESS, EC2_ADDRESS] {
            let http =
                Rule::new().ip_destination(Test::Is, service.into()).destination_port(libc::IPPROTO_TCP as u8, 80);
            batch.add_rule(&table, INPUT, &http.accept());
        }
        for resolver in resolvers {
            for protocol in [libc::IPPROTO_UDP as u8, libc::IPPROTO_TCP as u8] {
                let dns = Rule::new().ip_destination(Test::Is, (*resolver).into()).destination_port(protocol, 53);
                batch.add_rule(&table, INPUT, &dns.accept());
            }
        }
        batch.add_rule(&table, INPUT, &Rule::new().l4_protocol(Test::Is, libc::IPPROTO_ICMP as u8).accept());
        commit(&mut nft, batch, "install the router's packet filter")?;
        Ok(Self { nft })
    }

    /// Lets an ENI's packets in.
    pub(super) fn admit(&mut self, port: &Port) -> Result<(), FabricError> {
        let mut batch = Batch::new();
        mark_elements(&mut batch, port.index, port.mark, true);
        if port.check {
            batch.add_elements(&table(), &checked(), &[Element::new([KeyPart::Is(Value::IfIndex(port.index))])]);
            batch.add_elements(&table(), &sources(), &source_elements(port.index, port.mac, &port.networks));
        }
        commit(&mut self.nft, batch, "admit an ENI's packets")
    }

    /// Undoes [`RouterFilter::admit`].
    pub(super) fn expel(&mut self, port: &Port) -> Result<(), FabricError> {
        let mut batch = Batch::new();
        mark_elements(&mut batch, port.index, port.mark, false);
        if port.check {
            batch.delete_elements(&table(), &checked(), &[Element::new([KeyPart::Is(Value::IfIndex(port.index))])]);
            batch.delete_elements(&table(), &sources(), &source_elements(port.index, port.mac, &port.networks));
        }
        commit(&mut self.nft, batch, "expel an ENI's packets")
    }

    /// Lets an ENI send from more addresses.
    pub(super) fn admit_sources(&mut self, port: &Port, networks: &BTreeSet<Ipv4Net>) -> Result<(), FabricError> {
        let mut batch = Batch::new();
        if port.check && !networks.is_empty() {
            batch.add_elements(&table(), &sources(), &source_elements(port.index, port.mac, networks));
        }
        commit(&mut self.nft, batch, "admit an ENI's new addresses")
    }

    /// Lets an ENI no longer send from addresses.
    pub(super) fn forget_sources(&mut self, port: &Port, networks: &BTreeSet<Ipv4Net>) -> Result<(), FabricError> {
        let mut batch = Batch::new();
        if port.check && !networks.is_empty() {
            batch.delete_elements(&table(), &sources(), &source_elements(port.index, port.mac, networks));
        }
        commit(&mut self.nft, batch, "forget an ENI's old addresses")
    }

    /// Lets a NAT gateway's packets in. Its sources are not checked: the answers it brings back come from everywhere.
    pub(super) fn admit_gateway(&mut self, link: u32, mark: u32) -> Result<(), FabricError> {
        let mut batch = Batch::new();
        mark_elements(&mut batch, link, mark, true);
        commit(&mut self.nft, batch, "admit a NAT gateway's packets")
    }

    /// Packets dropped by the source check.
    pub(super) fn spoofed(&mut self) -> u64 {
        let rules = self.nft.rules(&table()).unwrap_or_default();
        let rule = rules.iter().find(|rule| rule.comment.as_deref() == Some(SPOOFED));
        rule.and_then(|rule| rule.counter).map_or(0, |(packets, _)| packets)
    }
}

fn mark_elements(batch: &mut Batch, link: u32, mark: u32, add: bool) {
    let element = Element::new([KeyPart::Is(Value::IfIndex(link))]);
    if add {
        batch.add_elements(&table(), &marks(), &[element.to(Data::Value(Value::Mark(mark)))]);
    } else {
        batch.delete_elements(&table(), &marks(), &[element.to(Data::Value(Value::Mark(mark)))]);
    }
}

/// The internet gateway's filter: one address to one address.
#[derive(Debug)]
pub(super) struct GatewayFilter {
    nft: Nft,
    /// What is mapped: private to public.
    mapped: BTreeMap<Ipv4Addr, Ipv4Addr>,
}

fn addresses(name: &str) -> Set {
    Set::of(name, &[KeyType::Ipv4Addr])
}

fn address_map(name: &str) -> Set {
    addresses(name).to(DataKind::Value(KeyType::Ipv4Addr))
}

impl GatewayFilter {
    pub(super) fn install(gateway: &Netns) -> Result<Self, FabricError> {
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
        batch.add_rule(
            &table,
            PREROUTING,
            &inward.nat_from_map(NatKind::Destination, &destination, "inward", NatFlags::default()),
        );
        batch.add_chain(&table, &base(FORWARD, ChainKind::Filter, Hook::Forward, priority::FILTER));
        let nameless = Rule::new().iifname(Test::Is, &vpc).in_set(Test::Not, &source, "private");
        batch.add_rule(&table, FORWARD, &nameless.counter().drop());
        batch.add_chain(&table, &base(POSTROUTING, ChainKind::Nat, Hook::Postrouting, priority::SRCNAT));
        let outward = Rule::new().oifname(Test::Is, &world);
        batch.add_rule(
            &table,
            POSTROUTING,
            &outward.nat_from_map(NatKind::Source, &source, "outward", NatFlags::default()),
        );
        commit(&mut nft, batch, "install the internet gateway's packet filter")?;
        Ok(Self { nft, mapped: BTreeMap::new() })
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

/// A NAT gateway: whatever goes out of it has its address; nothing but answers comes back.
pub(super) fn install_source_nat(gateway: &Netns, address: Ipv4Addr) -> Result<(), FabricError> {
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
