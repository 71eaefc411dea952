//! Our packet filter table: [`Filter`] spelt in nf_tables, replaced as a whole in one transaction, and recognised again.
//!
//! ```text
//! table ip vpc-cni {
//!   comment "1:3f0c… nodeport=1 connmark=3 srcnat=1 exempt=2"
//!   set exempt { type ipv4_addr; flags interval; elements = { 10.20.0.0/16, 100.64.0.0/16 } }
//!   chain nodeport {                       # before destination NAT
//!     type filter hook prerouting priority mangle;
//!     iifname "eth0" fib daddr . iif type local ct mark set ct mark & 0xffffff7f ^ 0x80
//!   }
//!   chain connmark {                       # after destination NAT
//!     type filter hook prerouting priority dstnat + 10;
//!     iifname "eni*" ct state new fib daddr type != local ip daddr != @exempt ct mark set ct mark & 0xffffff7f ^ 0x80
//!     ct mark & 0x80 == 0x80  mark set mark & 0xffffff7f ^ 0x80
//!     ct mark & 0x80 != 0x80  mark set mark & 0xffffff7f
//!   }
//!   chain srcnat {
//!     type nat hook postrouting priority srcnat;
//!     ip saddr != 10.20.8.4 oifname != "vlan*" fib daddr type != local ip daddr != @exempt snat to 10.20.8.4 fully-random
//!   }
//! }
//! ```
//!
//! The connection's bit is copied to the packet by two rules with constants: kernels before 6.12 can not combine two registers, and
//! overwriting the whole mark would lose the bits of others (kube-proxy's 0x4000).

use std::collections::BTreeMap;

use vpc_hostnet::{Filter, FilterSeen, Mark, SnatRandom};

use crate::netlink::NetlinkError;
use crate::nft::{
    AddressType, BaseChain, Batch, Chain, ChainKind, Element, Family, Hook, IfName, KeyPart, KeyType, NatFlags, Nft,
    Rule, Selector, Set, Table, Test, ct_state, priority,
};

/// Name of our table, in family `ip`.
pub const FILTER_TABLE: &str = "vpc-cni";

const NODEPORT: &str = "nodeport";
const CONNMARK: &str = "connmark";
const SRCNAT: &str = "srcnat";
const EXEMPT: &str = "exempt";

fn table() -> Table {
    Table::new(Family::Ip, FILTER_TABLE)
}

/// One transaction that replaces our table by what the filter means. Packets see the old one or the new one, never none.
#[must_use]
pub fn filter_batch(filter: &Filter) -> Batch {
    let table = table();
    let chains = chains(filter);
    let mut batch = Batch::new();
    batch.replace_table(&table, Some(&comment(filter, &chains)));
    let set = exempt_set();
    let members: Vec<Element> = filter.exempt.iter().map(|net| Element::new([KeyPart::Net(*net)])).collect();
    batch.add_set(&table, &set).add_elements(&table, &set, &members);
    for (chain, rules) in &chains {
        batch.add_chain(&table, chain);
        for rule in rules {
            batch.add_rule(&table, &chain.name, rule);
        }
    }
    batch
}

fn exempt_set() -> Set {
    Set::of(EXEMPT, &[KeyType::Ipv4Addr]).with_intervals()
}

fn chains(filter: &Filter) -> Vec<(Chain, Vec<Rule>)> {
    let base = |name, kind, hook, priority| Chain::base(name, BaseChain::new(kind, hook, priority));
    vec![
        (base(NODEPORT, ChainKind::Filter, Hook::Prerouting, priority::MANGLE), nodeport_rules(filter)),
        (base(CONNMARK, ChainKind::Filter, Hook::Prerouting, priority::DSTNAT + 10), connmark_rules(filter)),
        (base(SRCNAT, ChainKind::Nat, Hook::Postrouting, priority::SRCNAT), srcnat_rules(filter)),
    ]
}

/// Replies of connections to a NodePort must leave by the primary ENI, whatever ENI the answering pod is on.
fn nodeport_rules(filter: &Filter) -> Vec<Rule> {
    let rule = Rule::new()
        .iifname(Test::Is, &IfName::Is(filter.primary_link.clone()))
        .destination_type(Test::Is, AddressType::Local, true)
        .set_ct_mark(filter.mark)
        .comment("to a node port");
    if filter.node_port { vec![rule] } else { Vec::new() }
}

fn connmark_rules(filter: &Filter) -> Vec<Rule> {
    let mut rules = Vec::new();
    if filter.snat.is_some() {
        let rule = Rule::new()
            .iifname(Test::Is, &IfName::Prefix(filter.veth_prefix.as_str().to_owned()))
            .ct_state(ct_state::NEW)
            .destination_type(Test::Not, AddressType::Local, false)
            .in_set(Test::Not, &[Selector::IpDestination], EXEMPT)
            .set_ct_mark(filter.mark)
            .comment("from a pod, to be translated");
        rules.push(rule);
    }
    if filter.marks() {
        let clear = Mark { value: 0, mask: filter.mark.mask };
        rules.push(
            Rule::new().ct_mark(Test::Is, filter.mark).set_mark(filter.mark).comment("connection's bit to the packet"),
        );
        rules.push(Rule::new().ct_mark(Test::Not, filter.mark).set_mark(clear));
    }
    rules
}

fn srcnat_rules(filter: &Filter) -> Vec<Rule> {
    let Some(random) = filter.snat else { return Vec::new() };
    let flags = NatFlags {
        random: random == SnatRandom::HashRandom,
        fully_random: random == SnatRandom::Prng,
        ..NatFlags::default()
    };
    // What has the primary address already needs none. Giving it another port would break connections of the node that were open
    // before the table came: connection tracking begins in their middle and takes them for new.
    let rule = Rule::new()
        .ip_source(Test::Not, filter.primary_address.into())
        .oifname(Test::Not, &IfName::Prefix("vlan".to_owned()))
        .destination_type(Test::Not, AddressType::Local, false)
        .in_set(Test::Not, &[Selector::IpDestination], EXEMPT)
        .counter()
        .snat(filter.primary_address, flags);
    vec![rule]
}

/// Fingerprint and sizes, where `nft list` prints them: `<fingerprint> nodeport=1 connmark=3 srcnat=1 exempt=2`.
fn comment(filter: &Filter, chains: &[(Chain, Vec<Rule>)]) -> String {
    let mut text = filter.fingerprint();
    for (chain, rules) in chains {
        text.push_str(&format!(" {}={}", chain.name, rules.len()));
    }
    text.push_str(&format!(" {EXEMPT}={}", filter.exempt.len()));
    text
}

/// What stands under our table's name: with which fingerprint it was written, and whether its sizes are still those written beside it.
///
/// # Errors
/// When nf_tables can not be read.
pub fn filter_seen(nft: &mut Nft) -> Result<Option<FilterSeen>, NetlinkError> {
    let table = table();
    let Some(seen) = nft.table(&table)? else { return Ok(None) };
    let mut written = seen.comment.as_deref().unwrap_or_default().split(' ');
    let fingerprint = written.next().filter(|text| !text.is_empty()).map(str::to_owned);
    let sizes: BTreeMap<String, usize> = written
        .filter_map(|size| size.split_once('='))
        .filter_map(|(k, n)| Some((k.to_owned(), n.parse().ok()?)))
        .collect();
    let intact = fingerprint.is_some() && sizes_now(nft, &table)? == sizes;
    Ok(Some(FilterSeen { fingerprint, intact }))
}

/// Rules of each chain, members of each set. A table that goes away while it is read has none.
fn sizes_now(nft: &mut Nft, table: &Table) -> Result<BTreeMap<String, usize>, NetlinkError> {
    let mut sizes: BTreeMap<String, usize> = nft.chains(table)?.into_iter().map(|chain| (chain.name, 0)).collect();
    for rule in nft.rules(table)? {
        *sizes.entry(rule.chain).or_default() += 1;
    }
    let members =
        nft.elements(table, EXEMPT).or_else(|error| if error.is_absent() { Ok(Vec::new()) } else { Err(error) })?;
    sizes.insert(EXEMPT.to_owned(), members.iter().filter(|element| !element.ends_interval).count());
    Ok(sizes)
}
