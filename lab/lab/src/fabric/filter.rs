//! What may pass: the packet filter of the router.
//!
//! ```text
//! prerouting, before connection tracking, by the link a packet came in by (map `arrivals`):
//!   checked     an ENI's port:     (port, MAC, source) not known  -> counted, dropped;  else leave
//!   unchecked   the same, its source/destination check off: (port, MAC) not known -> counted, dropped;  else leave
//!   leave         to a link-local address or the resolver: not tracked, no groups, no marks
//!                 mark = route table of the port's subnet, first pass;  zone of connections = the ENI's;  TTL + 1
//!   again       the far end of the loop: the mark says second pass now;  then arrive
//!   gateway     from a gateway: mark = its route table;  then arrive
//!   arrive        TTL + 1;  zone = that of the ENI whose port the routing tables have for it;  no way at all -> counted, dropped
//!   nowhere     the near end of the loop: a route that leads nowhere put it there -> counted, dropped
//!
//! forward:      connection was let through (TRACKED), or an error about one    -> passes
//!               from a port: chain of its ENI's groups (out-n);  nothing fits  -> counted, dropped
//!               to a port:   chain of its ENI's groups (in-n);   nothing fits  -> counted, dropped
//! input:        HTTP to IMDS and EC2, DNS to the resolver, ICMP                everything else dropped
//! output:       the router's own packets are not tracked
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_cloud::GroupRules;
use vpc_hostnet::Mark;
use vpc_linux::nft::{
    BaseChain, Batch, Chain, ChainKind, Data, DataKind, Element, Family, Hook, KeyPart, KeyType, Nft, Rule, Selector,
    Set, Table, Test, Value, Verdict, ct_state, priority,
};
use vpc_linux::{Netns, sysctl};
use vpc_model::SecurityGroupId;

use super::error::Context;
use super::groups::{GroupSet, Groups, TRACKED, Way, accepting_chains, each_address};
use super::port::Port;
use super::{EC2_ADDRESS, FIRST_PASS, FabricError, IMDS_ADDRESS, KUBE_ADDRESS, LINK_LOCAL};
use crate::cluster::KUBE_PORT;

const PREROUTING: &str = "prerouting";
const INPUT: &str = "input";
const FORWARD: &str = "forward";
const OUTPUT: &str = "output";
/// Chains of prerouting.
const CHECKED: &str = "checked";
const UNCHECKED: &str = "unchecked";
const SPOOFED: &str = "spoofed";
const LEAVE: &str = "leave";
const AGAIN: &str = "again";
const GATEWAY: &str = "gateway";
const ARRIVE: &str = "arrive";
const NOWHERE: &str = "nowhere";
/// Links to gateways whose connections AWS always tracks.
pub(super) const ALWAYS_TRACKED: &str = "always-tracked";
/// How counting rules are found again; those for ports are also the names of sets that count for each port.
const EGRESS_DENIED: &str = "egress-denied";
const INGRESS_DENIED: &str = "ingress-denied";
const NO_ROUTE: &str = "no-route";

/// The lab's table, the same name in every namespace.
pub(super) fn table() -> Table {
    Table::new(Family::Ip, "vpc-lab")
}

pub(super) fn base(name: &str, kind: ChainKind, hook: Hook, priority: i32) -> Chain {
    Chain::base(name, BaseChain::new(kind, hook, priority))
}

pub(super) fn dropping(name: &str, hook: Hook) -> Chain {
    Chain::base(name, BaseChain::new(ChainKind::Filter, hook, priority::FILTER).dropping())
}

pub(super) fn commit(nft: &mut Nft, batch: Batch, step: &str) -> Result<(), FabricError> {
    nft.commit(batch).context(step)
}

/// Packets dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drops {
    pub(super) spoofed: u64,
    pub(super) egress: u64,
    pub(super) ingress: u64,
    pub(super) no_route: u64,
}

/// How long an answered UDP flow is remembered, in seconds: AWS's value. The others are the kernel's own: five days for TCP, 30 s for UDP.
const UDP_STREAM: (&str, &str) = ("net/netfilter/nf_conntrack_udp_timeout_stream", "180");

/// The router's filter.
#[derive(Debug)]
pub(super) struct RouterFilter {
    nft: Nft,
    groups: Groups,
    /// Zones of connections that are in use, and the last one given out. Zone 0 is for what belongs to no ENI.
    zones: BTreeSet<u16>,
    last_zone: u16,
}

/// What is done with packets of each link.
fn arrivals() -> Set {
    Set::of("arrivals", &[KeyType::IfIndex]).to(DataKind::Verdict)
}

/// What each checked port may send: its MAC with its addresses.
fn sources() -> Set {
    Set::of("sources", &[KeyType::IfIndex, KeyType::EtherAddr, KeyType::Ipv4Addr])
}

/// The MAC of each port.
fn macs() -> Set {
    Set::of("macs", &[KeyType::IfIndex, KeyType::EtherAddr])
}

/// The mark of each link's packets: route table of its subnet, and which pass it is.
fn marks() -> Set {
    Set::of("marks", &[KeyType::IfIndex]).to(DataKind::Value(KeyType::Mark))
}

/// The zone of each port's ENI.
fn zones() -> Set {
    Set::of("zones", &[KeyType::IfIndex]).to(DataKind::Value(KeyType::CtZone))
}

/// One more than each time to live.
fn times() -> Set {
    Set::of("times", &[KeyType::Ttl]).to(DataKind::Value(KeyType::Ttl))
}

/// The chain of each port's groups.
fn verdicts(way: Way) -> Set {
    let name = match way {
        Way::Out => "egress",
        Way::In => "ingress",
    };
    Set::of(name, &[KeyType::IfIndex]).to(DataKind::Verdict)
}

fn counting(name: &str) -> Set {
    Set::of(name, &[KeyType::IfIndex]).counting()
}

fn always_tracked() -> Set {
    Set::of(ALWAYS_TRACKED, &[KeyType::IfIndex])
}

fn link(index: u32) -> Element {
    Element::new([KeyPart::Is(Value::IfIndex(index))])
}

fn source_elements(port: &Port, networks: impl IntoIterator<Item = Ipv4Net>) -> Vec<Element> {
    let element =
        |address: Ipv4Addr| Element::new([KeyPart::Is(Value::IfIndex(port.index)), port.mac.into(), address.into()]);
    each_address(networks).map(element).collect()
}

/// What stands about a port in sets and maps, its addresses apart.
fn port_elements(port: &Port, chains: u32) -> Vec<(Set, Element)> {
    let this = || link(port.index);
    let value = |value| this().to(Data::Value(value));
    let jump = |way: Way| this().to(Data::Verdict(Verdict::Jump(way.chain(chains))));
    let arrival = if port.check { CHECKED } else { UNCHECKED };
    vec![
        (macs(), Element::new([KeyPart::Is(Value::IfIndex(port.index)), port.mac.into()])),
        (marks(), value(Value::Mark(port.mark | FIRST_PASS))),
        (zones(), value(Value::Zone(port.zone))),
        (verdicts(Way::Out), jump(Way::Out)),
        (verdicts(Way::In), jump(Way::In)),
        (counting(EGRESS_DENIED), this()),
        (counting(INGRESS_DENIED), this()),
        (counting(SPOOFED), this()),
        // Last: from now on its packets are let in.
        (arrivals(), this().to(Data::Verdict(Verdict::Goto(arrival.to_owned())))),
    ]
}

fn add(batch: &mut Batch, elements: &[(Set, Element)]) {
    elements.iter().for_each(|(set, element)| _ = batch.add_elements(&table(), set, std::slice::from_ref(element)));
}

fn delete(batch: &mut Batch, elements: &[(Set, Element)]) {
    for (set, element) in elements {
        batch.delete_elements(&table(), set, &[Element::new(element.key.clone())]);
    }
}

impl RouterFilter {
    /// `around`: indexes of the loop's ends; packets go out of the first one and come in by the second. `resolvers`: where the VPC's
    /// resolver answers.
    pub(super) fn install(router: &Netns, around: (u32, u32), resolvers: &[Ipv4Addr]) -> Result<Self, FabricError> {
        let mut nft = Nft::open_in(router).context("open the router's packet filter")?;
        let table = table();
        let mut batch = Batch::new();
        batch.replace_table(&table, None);
        let sets = [arrivals(), sources(), macs(), marks(), zones(), times(), verdicts(Way::Out), verdicts(Way::In)];
        let counters = [SPOOFED, EGRESS_DENIED, INGRESS_DENIED].map(counting);
        for set in sets.iter().chain(&counters).chain([&always_tracked()]) {
            batch.add_set(&table, set);
        }
        let later = |ttl: u8| Element::new([KeyPart::Is(Value::Ttl(ttl))]).to(Data::Value(Value::Ttl(ttl + 1)));
        batch.add_elements(&table, &times(), &(1..u8::MAX).map(later).collect::<Vec<_>>());
        prerouting(&mut batch, around, resolvers);
        accepting_chains(&mut batch);
        forward(&mut batch);
        own(&mut batch, resolvers);
        commit(&mut nft, batch, "install the router's packet filter")?;
        // Older kernels keep this switch from root of a user namespace; flows are forgotten a minute early there.
        router.enter(|| sysctl::write_if_present(UDP_STREAM.0, UDP_STREAM.1)).context("enter the router")?.ok();
        Ok(Self { nft, groups: Groups::default(), zones: BTreeSet::new(), last_zone: 0 })
    }

    /// Carries out a transaction; if the kernel refuses it, what is known of groups stays as it was.
    fn transact(&mut self, step: &str, fill: impl FnOnce(&mut Groups, &mut Batch)) -> Result<(), FabricError> {
        let before = self.groups.clone();
        let mut batch = Batch::new();
        fill(&mut self.groups, &mut batch);
        commit(&mut self.nft, batch, step).inspect_err(|_| self.groups = before)
    }

    /// A zone for an ENI's connections: the one that was not used for longest.
    pub(super) fn take_zone(&mut self) -> u16 {
        let free = |zone: &u16| !self.zones.contains(zone);
        let zone = (self.last_zone.saturating_add(1)..=u16::MAX).chain(1..=self.last_zone).find(free).unwrap_or(0);
        self.zones.insert(zone);
        self.last_zone = zone;
        zone
    }

    /// Lets an ENI's packets pass.
    pub(super) fn admit(&mut self, port: &Port) -> Result<(), FabricError> {
        self.transact("admit an ENI's packets", |groups, batch| {
            let nobody = (&GroupSet::new(), &BTreeSet::new());
            groups.change_members(batch, nobody, (&port.groups, &port.networks));
            let chains = groups.acquire(batch, &port.groups);
            batch.add_elements(&table(), &sources(), &source_elements(port, port.networks.iter().copied()));
            add(batch, &port_elements(port, chains));
        })
    }

    /// Undoes [`RouterFilter::admit`].
    pub(super) fn expel(&mut self, port: &Port) -> Result<(), FabricError> {
        self.zones.remove(&port.zone);
        self.transact("expel an ENI's packets", |groups, batch| {
            delete(batch, &port_elements(port, 0));
            batch.delete_elements(&table(), &sources(), &source_elements(port, port.networks.iter().copied()));
            groups.release(batch, &port.groups);
            let nobody = (&GroupSet::new(), &BTreeSet::new());
            groups.change_members(batch, (&port.groups, &port.networks), nobody);
        })
    }

    /// A port that was so is so now: addresses, groups, check, mark. One transaction.
    pub(super) fn change(&mut self, before: &Port, now: &Port) -> Result<(), FabricError> {
        self.transact("change what an ENI may do", |groups, batch| {
            let table = table();
            let gone = before.networks.difference(&now.networks).copied();
            batch.delete_elements(&table, &sources(), &source_elements(before, gone));
            let new = now.networks.difference(&before.networks).copied();
            batch.add_elements(&table, &sources(), &source_elements(now, new));
            groups.change_members(batch, (&before.groups, &before.networks), (&now.groups, &now.networks));
            let chains = groups.acquire(batch, &now.groups);
            // The number of the chains before is never asked for: elements are deleted by key.
            let old = port_elements(before, if before.groups == now.groups { chains } else { 0 });
            let new = port_elements(now, chains);
            let (old, new): (Vec<_>, Vec<_>) = old.into_iter().zip(new).filter(|(old, new)| old != new).unzip();
            delete(batch, &old);
            add(batch, &new);
            groups.release(batch, &before.groups);
        })
    }

    /// What the groups let through.
    pub(super) fn set_groups(&mut self, rules: &BTreeMap<SecurityGroupId, GroupRules>) -> Result<(), FabricError> {
        self.transact("follow the security groups", |groups, batch| groups.set_rules(batch, rules))
    }

    /// Lets a gateway's packets in. Their sources are not checked: what they bring comes from everywhere.
    pub(super) fn admit_gateway(&mut self, index: u32, mark: u32, tracked: bool) -> Result<(), FabricError> {
        let mut batch = Batch::new();
        add(&mut batch, &gateway_elements(index, mark, tracked));
        commit(&mut self.nft, batch, "admit a gateway's packets")
    }

    /// Undoes [`RouterFilter::admit_gateway`].
    pub(super) fn expel_gateway(&mut self, index: u32, mark: u32, tracked: bool) -> Result<(), FabricError> {
        let mut batch = Batch::new();
        delete(&mut batch, &gateway_elements(index, mark, tracked));
        commit(&mut self.nft, batch, "expel a gateway's packets")
    }

    /// A gateway's packets take another route table.
    pub(super) fn mark_gateway(&mut self, index: u32, mark: u32) -> Result<(), FabricError> {
        let mut batch = Batch::new();
        let element = (marks(), link(index).to(Data::Value(Value::Mark(mark))));
        delete(&mut batch, std::slice::from_ref(&element));
        add(&mut batch, &[element]);
        commit(&mut self.nft, batch, "change a gateway's route table")
    }

    /// Packets dropped since the beginning.
    pub(super) fn drops(&mut self) -> Drops {
        let rules = self.nft.rules(&table()).unwrap_or_default();
        let of = |comment: &str| {
            let counting = rules.iter().filter(|rule| rule.comment.as_deref() == Some(comment));
            counting.filter_map(|rule| rule.counter).map(|(packets, _)| packets).sum()
        };
        Drops { spoofed: of(SPOOFED), egress: of(EGRESS_DENIED), ingress: of(INGRESS_DENIED), no_route: of(NO_ROUTE) }
    }

    /// The same for each port, by index, since it was admitted.
    pub(super) fn drops_by_port(&mut self) -> BTreeMap<u32, Drops> {
        let mut drops = BTreeMap::<u32, Drops>::new();
        for name in [SPOOFED, EGRESS_DENIED, INGRESS_DENIED] {
            for element in self.nft.elements(&table(), name).unwrap_or_default() {
                let Ok(index) = <[u8; 4]>::try_from(element.key.as_slice()) else { continue };
                let own = drops.entry(u32::from_ne_bytes(index)).or_default();
                let count = match name {
                    SPOOFED => &mut own.spoofed,
                    EGRESS_DENIED => &mut own.egress,
                    _ => &mut own.ingress,
                };
                *count = element.counter.map_or(0, |(packets, _)| packets);
            }
        }
        drops
    }
}

fn gateway_elements(index: u32, mark: u32, tracked: bool) -> Vec<(Set, Element)> {
    let mut elements = vec![
        (marks(), link(index).to(Data::Value(Value::Mark(mark)))),
        (arrivals(), link(index).to(Data::Verdict(Verdict::Goto(GATEWAY.to_owned())))),
    ];
    if tracked {
        elements.push((always_tracked(), link(index)));
    }
    elements
}

/// Everything before connection tracking.
fn prerouting(batch: &mut Batch, around: (u32, u32), resolvers: &[Ipv4Addr]) {
    let table = table();
    let by_link = [Selector::Iif];
    batch.add_chain(&table, &base(PREROUTING, ChainKind::Filter, Hook::Prerouting, priority::RAW));
    for name in [SPOOFED, LEAVE, CHECKED, UNCHECKED, ARRIVE, AGAIN, GATEWAY, NOWHERE] {
        batch.add_chain(&table, &Chain::regular(name));
    }
    let mut rule = |chain: &str, rule: Rule| _ = batch.add_rule(&table, chain, &rule);
    rule(PREROUTING, Rule::new().verdict_map(&by_link, "arrivals"));
    // A link that is not tied in yet, or no longer.
    rule(PREROUTING, Rule::new().iif(Test::Not, LOOPBACK).drop());

    let own = [Selector::Iif, Selector::EtherSource, Selector::IpSource];
    rule(CHECKED, Rule::new().in_set(Test::Not, &own, "sources").goto(SPOOFED));
    rule(CHECKED, Rule::new().goto(LEAVE));
    let own = [Selector::Iif, Selector::EtherSource];
    rule(UNCHECKED, Rule::new().in_set(Test::Not, &own, "macs").goto(SPOOFED));
    rule(UNCHECKED, Rule::new().goto(LEAVE));
    rule(SPOOFED, Rule::new().in_set(Test::Is, &by_link, SPOOFED));
    rule(SPOOFED, Rule::new().counter().drop().comment(SPOOFED));

    let elsewhere = resolvers.iter().copied().filter(|resolver| !LINK_LOCAL.contains(resolver)).map(Ipv4Net::from);
    for own in std::iter::once(LINK_LOCAL).chain(elsewhere) {
        rule(LEAVE, Rule::new().ip_destination(Test::Is, own).no_track().accept());
    }
    rule(LEAVE, Rule::new().set_mark_from_map(&by_link, "marks"));
    rule(LEAVE, Rule::new().set_ct_zone_from_map(&by_link, "zones"));
    rule(LEAVE, Rule::new().set_ttl_from_map(&[Selector::Ttl], "times"));

    rule(AGAIN, Rule::new().set_mark(Mark { value: 0, mask: FIRST_PASS }).goto(ARRIVE));
    rule(GATEWAY, Rule::new().set_mark_from_map(&by_link, "marks"));
    rule(GATEWAY, Rule::new().goto(ARRIVE));
    rule(ARRIVE, Rule::new().set_ttl_from_map(&[Selector::Ttl], "times"));
    rule(ARRIVE, Rule::new().set_ct_zone_from_map(&[Selector::RouteOif], "zones").accept());
    rule(ARRIVE, Rule::new().route_oif(Test::Is, 0).counter().drop().comment(NO_ROUTE));
    // Between two gateways there is nobody who asks.
    rule(ARRIVE, Rule::new().no_track());
    rule(NOWHERE, Rule::new().counter().drop().comment(NO_ROUTE));

    let goto = |chain: &str| Data::Verdict(Verdict::Goto(chain.to_owned()));
    batch.add_elements(&table, &arrivals(), &[link(around.0).to(goto(NOWHERE)), link(around.1).to(goto(AGAIN))]);
}

/// Index of `lo` in every namespace.
const LOOPBACK: u32 = 1;

/// The groups' say.
fn forward(batch: &mut Batch) {
    let table = table();
    batch.add_chain(&table, &base(FORWARD, ChainKind::Filter, Hook::Forward, priority::FILTER));
    let mut rule = |rule: Rule| _ = batch.add_rule(&table, FORWARD, &rule);
    rule(Rule::new().ct_mark(Test::Is, Mark { value: TRACKED, mask: u32::MAX }).accept());
    rule(Rule::new().ct_state(ct_state::RELATED).accept());
    rule(Rule::new().verdict_map(&[Selector::Iif], "egress"));
    rule(Rule::new().verdict_map(&[Selector::Oif], "ingress"));
    // Every port is in these sets: whoever comes here was not let through.
    rule(Rule::new().in_set(Test::Is, &[Selector::Iif], EGRESS_DENIED).counter().drop().comment(EGRESS_DENIED));
    rule(Rule::new().in_set(Test::Is, &[Selector::Oif], INGRESS_DENIED).counter().drop().comment(INGRESS_DENIED));
}

/// What is for, and from, the router itself.
fn own(batch: &mut Batch, resolvers: &[Ipv4Addr]) {
    let table = table();
    batch.add_chain(&table, &dropping(INPUT, Hook::Input));
    for (service, port) in [(IMDS_ADDRESS, 80), (EC2_ADDRESS, 80), (KUBE_ADDRESS, KUBE_PORT)] {
        let http = Rule::new().ip_destination(Test::Is, service.into()).destination_port(libc::IPPROTO_TCP as u8, port);
        batch.add_rule(&table, INPUT, &http.accept());
    }
    for resolver in resolvers {
        for protocol in [libc::IPPROTO_UDP as u8, libc::IPPROTO_TCP as u8] {
            let dns = Rule::new().ip_destination(Test::Is, (*resolver).into()).destination_port(protocol, 53);
            batch.add_rule(&table, INPUT, &dns.accept());
        }
    }
    batch.add_rule(&table, INPUT, &Rule::new().l4_protocol(Test::Is, libc::IPPROTO_ICMP as u8).accept());
    batch.add_chain(&table, &base(OUTPUT, ChainKind::Filter, Hook::Output, priority::RAW));
    batch.add_rule(&table, OUTPUT, &Rule::new().no_track());
}
