//! Security groups as chains of the router's filter.
//!
//! ```text
//!   groups of an ENI (a set) --> two chains, shared by all ENIs with the same set:  out-3: its egress rules, in-3: its ingress rules
//!   rule:  protocol, ports, ICMP type · peer: a network, or the set of all addresses of a group's members
//!          -> the connection gets TRACKED or UNTRACKED, the packet is accepted;  no rule fits: back to the caller, who drops
//! ```
//!
//! What AWS documents about tracking ("Security group connection tracking") and what is done here:
//! - A connection that was let through goes on when the rules change or the ENI gets other groups: TRACKED connections are not asked
//!   again, whatever their direction, until they time out.
//! - TCP and UDP flows let through by a rule for everybody (`0.0.0.0/0`), while the other direction lets everything of that protocol
//!   through to everybody, are not tracked: UNTRACKED connections ask the rules packet by packet, both ways, so they end when the rule
//!   does. ICMP is always tracked, and so is what goes through a NAT gateway.
//! - Idle connections are forgotten as on AWS: TCP after five days, UDP after 30 s, or 180 s once it was answered.
//!
//! A connection between two ENIs takes two entries of the kernel's table, which is the router's own; how large it may grow
//! (`nf_conntrack_max`) is a setting of the host, far above what a lab needs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_cloud::{GroupRule, GroupRules, RulePeer, Traffic};
use vpc_linux::nft::{Batch, Chain, CtDirection, CtKey, Element, Expr, KeyType, Reg, Rule, Selector, Set, Test};
use vpc_model::SecurityGroupId;

use super::filter::{ALWAYS_TRACKED, table};

/// Marks of connections: let through for good; to be asked for each packet.
pub(super) const TRACKED: u32 = 1;
const UNTRACKED: u32 = 2;
/// Chains that give them.
const ACCEPT_TRACKED: &str = "accept-tracked";
const ACCEPT_UNTRACKED: &str = "accept-untracked";

const ICMP: u8 = libc::IPPROTO_ICMP as u8;
const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;

/// Groups of an ENI.
pub(super) type GroupSet = BTreeSet<SecurityGroupId>;

/// A direction as the ENI sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Out,
    In,
}

impl Way {
    fn other(self) -> Self {
        match self {
            Self::Out => Self::In,
            Self::In => Self::Out,
        }
    }

    fn rules(self, of: &GroupRules) -> &[GroupRule] {
        match self {
            Self::Out => &of.egress,
            Self::In => &of.ingress,
        }
    }

    /// Name of the chain with that number.
    pub(super) fn chain(self, number: u32) -> String {
        match self {
            Self::Out => format!("out-{number}"),
            Self::In => format!("in-{number}"),
        }
    }
}

/// The two chains of a set of groups.
#[derive(Clone, Debug)]
struct Chains {
    number: u32,
    /// Ports that use them.
    users: usize,
    /// What is in them.
    rules: [Vec<Rule>; 2],
}

const WAYS: [Way; 2] = [Way::Out, Way::In];

/// Everything about groups that stands in the kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    rules: BTreeMap<SecurityGroupId, GroupRules>,
    chains: BTreeMap<GroupSet, Chains>,
    /// Networks of each group's members, and how many ports have them (two for a moment, when an address moves).
    members: BTreeMap<SecurityGroupId, BTreeMap<Ipv4Net, u32>>,
}

/// The kernel's set of a group's addresses.
fn member_set(group: &SecurityGroupId) -> Set {
    Set::of(group.as_str(), &[KeyType::Ipv4Addr])
}

/// Every address by itself: exact keys are found by hash, whatever their number.
pub(super) fn each_address(networks: impl IntoIterator<Item = Ipv4Net>) -> impl Iterator<Item = Ipv4Addr> {
    networks.into_iter().flat_map(|net| (net.network().to_bits()..=net.broadcast().to_bits()).map(Ipv4Addr::from_bits))
}

fn elements(networks: impl IntoIterator<Item = Ipv4Net>) -> Vec<Element> {
    each_address(networks).map(|address| Element::new([address.into()])).collect()
}

impl Groups {
    /// These are the groups now, and this is what they let through.
    pub(super) fn set_rules(&mut self, batch: &mut Batch, rules: &BTreeMap<SecurityGroupId, GroupRules>) {
        let table = table();
        for new in rules.keys().filter(|group| !self.rules.contains_key(*group)) {
            batch.add_set(&table, &member_set(new));
            let members = self.members.get(new).into_iter().flat_map(BTreeMap::keys).copied();
            batch.add_elements(&table, &member_set(new), &elements(members));
        }
        let before = std::mem::replace(&mut self.rules, rules.clone());
        let sets: Vec<_> = self.chains.keys().cloned().collect();
        for set in sets {
            let wanted = WAYS.map(|way| self.compiled(&set, way));
            let Some(chains) = self.chains.get_mut(&set) else { continue };
            for ((way, old), new) in WAYS.into_iter().zip(&chains.rules).zip(&wanted) {
                if old != new {
                    let chain = way.chain(chains.number);
                    batch.flush_chain(&table, &chain);
                    new.iter().for_each(|rule| _ = batch.add_rule(&table, &chain, rule));
                }
            }
            chains.rules = wanted;
        }
        for gone in before.keys().filter(|group| !self.rules.contains_key(*group)) {
            batch.delete_set(&table, gone.as_str());
        }
    }

    /// A port uses this set of groups: the number of its chains.
    pub(super) fn acquire(&mut self, batch: &mut Batch, set: &GroupSet) -> u32 {
        if let Some(chains) = self.chains.get_mut(set) {
            chains.users += 1;
            return chains.number;
        }
        let taken = |number: &u32| self.chains.values().any(|chains| chains.number == *number);
        let number = (1..).find(|number| !taken(number)).unwrap_or_default();
        let rules = WAYS.map(|way| self.compiled(set, way));
        let table = table();
        for (way, rules) in WAYS.into_iter().zip(&rules) {
            let chain = way.chain(number);
            batch.add_chain(&table, &Chain::regular(&chain));
            rules.iter().for_each(|rule| _ = batch.add_rule(&table, &chain, rule));
        }
        self.chains.insert(set.clone(), Chains { number, users: 1, rules });
        number
    }

    /// A port no longer uses them; nothing may lead to its chains any more.
    pub(super) fn release(&mut self, batch: &mut Batch, set: &GroupSet) {
        let Some(chains) = self.chains.get_mut(set) else { return };
        chains.users = chains.users.saturating_sub(1);
        if chains.users == 0 {
            for way in WAYS {
                let chain = way.chain(chains.number);
                batch.flush_chain(&table(), &chain).delete_chain(&table(), &chain);
            }
            self.chains.remove(set);
        }
    }

    /// A port had these groups and networks, and has those now.
    pub(super) fn change_members(
        &mut self,
        batch: &mut Batch,
        before: (&GroupSet, &BTreeSet<Ipv4Net>),
        now: (&GroupSet, &BTreeSet<Ipv4Net>),
    ) {
        let none = BTreeSet::new();
        for group in before.0.union(now.0) {
            let of = |(groups, networks): (&GroupSet, &BTreeSet<Ipv4Net>)| {
                if groups.contains(group) { networks.clone() } else { none.clone() }
            };
            let (old, new) = (of(before), of(now));
            let members = self.members.entry(group.clone()).or_default();
            let come: Vec<_> = new.difference(&old).copied().filter(|net| join(members, *net)).collect();
            let gone: Vec<_> = old.difference(&new).copied().filter(|net| leave(members, *net)).collect();
            if self.rules.contains_key(group) {
                batch.delete_elements(&table(), &member_set(group), &elements(gone));
                batch.add_elements(&table(), &member_set(group), &elements(come));
            }
        }
    }

    /// What a set of groups lets through, as rules of a chain: first what is for everybody, then the rest.
    fn compiled(&self, set: &GroupSet, way: Way) -> Vec<Rule> {
        let all = |way: Way| {
            let groups = set.iter().filter_map(|group| self.rules.get(group));
            groups.flat_map(move |rules| way.rules(rules)).map(|rule| (&rule.peer, rule.traffic))
        };
        // Nobody speaks of descriptions here, and of nothing twice.
        let (open, narrow): (BTreeSet<_>, BTreeSet<_>) = all(way).partition(|(peer, _)| is_everybody(peer));
        let answers_pass =
            |protocol| all(way.other()).any(|(peer, traffic)| is_everybody(peer) && all_of(traffic, protocol));
        let mut rules = Vec::new();
        for (_, traffic) in open {
            for protocol in [TCP, UDP].into_iter().filter(|protocol| answers_pass(*protocol)) {
                rules.extend(narrowed(traffic, protocol).map(|traffic| untracked(traffic, way)));
            }
            rules.push(accepting(matching(traffic), TRACKED));
        }
        for (peer, traffic) in narrow {
            let rule = matching(traffic);
            let rule = match (peer, way) {
                (RulePeer::Cidr(net), Way::Out) => rule.ip_destination(Test::Is, *net),
                (RulePeer::Cidr(net), Way::In) => rule.ip_source(Test::Is, *net),
                (RulePeer::Group(group), _) if !self.rules.contains_key(group) => continue,
                (RulePeer::Group(group), Way::Out) => rule.in_set(Test::Is, &[Selector::IpDestination], group.as_str()),
                (RulePeer::Group(group), Way::In) => rule.in_set(Test::Is, &[Selector::IpSource], group.as_str()),
            };
            rules.push(accepting(rule, TRACKED));
        }
        rules
    }
}

/// Whether the network is new to the group.
fn join(members: &mut BTreeMap<Ipv4Net, u32>, net: Ipv4Net) -> bool {
    let count = members.entry(net).or_default();
    *count += 1;
    *count == 1
}

/// Whether the network is gone from the group.
fn leave(members: &mut BTreeMap<Ipv4Net, u32>, net: Ipv4Net) -> bool {
    let Some(count) = members.get_mut(&net) else { return false };
    *count = count.saturating_sub(1);
    let gone = *count == 0;
    if gone {
        members.remove(&net);
    }
    gone
}

fn is_everybody(peer: &RulePeer) -> bool {
    matches!(peer, RulePeer::Cidr(net) if net.prefix_len() == 0)
}

/// Whether it is everything of a protocol.
fn all_of(traffic: Traffic, protocol: u8) -> bool {
    match traffic {
        Traffic::All => true,
        Traffic::Tcp(0, u16::MAX) => protocol == TCP,
        Traffic::Udp(0, u16::MAX) => protocol == UDP,
        Traffic::Protocol(own) => own == protocol,
        _ => false,
    }
}

/// The part of it that is of a protocol.
fn narrowed(traffic: Traffic, protocol: u8) -> Option<Traffic> {
    match (traffic, protocol) {
        (Traffic::All, _) => Some(Traffic::Protocol(protocol)),
        (Traffic::Tcp(..), TCP) | (Traffic::Udp(..), UDP) => Some(traffic),
        (Traffic::Protocol(own), _) if own == protocol => Some(traffic),
        _ => None,
    }
}

fn untracked(traffic: Traffic, way: Way) -> Rule {
    let link = match way {
        Way::Out => Selector::Oif,
        Way::In => Selector::Iif,
    };
    accepting(matching(traffic).in_set(Test::Not, &[link], ALWAYS_TRACKED), UNTRACKED)
}

fn accepting(rule: Rule, mark: u32) -> Rule {
    rule.goto(if mark == UNTRACKED { ACCEPT_UNTRACKED } else { ACCEPT_TRACKED })
}

/// The chains that accept, and mark the connection. What is asked for an answer says nothing about the connection it belongs to, so the
/// mark stays then. A packet without a connection (an answer to what this ENI has not seen) is accepted too; there is nothing to mark.
pub(super) fn accepting_chains(batch: &mut Batch) {
    for (name, mark) in [(ACCEPT_TRACKED, TRACKED), (ACCEPT_UNTRACKED, UNTRACKED)] {
        let mark = Expr::Immediate { into: Reg::A, value: mark.to_ne_bytes().to_vec() };
        let marking = Rule::new().then(mark).then(Expr::SetCt { key: CtKey::Mark, from: Reg::A });
        batch.add_chain(&table(), &Chain::regular(name));
        batch.add_rule(&table(), name, &Rule::new().ct_direction(CtDirection::Reply).accept());
        batch.add_rule(&table(), name, &marking.accept());
    }
}

fn matching(traffic: Traffic) -> Rule {
    let rule = Rule::new();
    match traffic {
        Traffic::All => rule,
        Traffic::Tcp(0, u16::MAX) => rule.l4_protocol(Test::Is, TCP),
        Traffic::Udp(0, u16::MAX) => rule.l4_protocol(Test::Is, UDP),
        Traffic::Tcp(from, to) => rule.destination_ports(TCP, from, to),
        Traffic::Udp(from, to) => rule.destination_ports(UDP, from, to),
        Traffic::Icmp(None, _) => rule.l4_protocol(Test::Is, ICMP),
        Traffic::Icmp(Some(kind), code) => rule.icmp(kind, code),
        Traffic::Protocol(number) => rule.l4_protocol(Test::Is, number),
    }
}
