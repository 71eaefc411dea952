//! Nodes cut from what the lab serves: a packet filter table of the router, of its own, written anew whenever something changes.
//!
//! Packets of a cut node end on their way in, and what is sent to it ends on its way out: a connection that is open stands still, as
//! when a cable is pulled.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use vpc_linux::NetlinkError;
use vpc_linux::nft::{
    BaseChain, Batch, Chain, ChainKind, Expr, Family, Hook, IfName, Nft, Rule, Table, Test, priority,
};
use vpc_model::LinkName;

use crate::fault::How;

/// Before the router's own filter.
const PRIORITY: i32 = priority::FILTER - 10;
/// ICMP "port unreachable": a TCP client is told "connection refused".
const PORT_UNREACHABLE: u8 = 3;
/// How the rules of a cut are found again.
const COMMENT: &str = "fault ";

/// A node that is to reach some addresses no longer.
#[derive(Debug)]
pub(super) struct Cut {
    /// The fault's number.
    pub(super) fault: u64,
    /// The router's links to the node.
    pub(super) links: Vec<LinkName>,
    /// What it is cut from.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// What becomes of its packets.
    pub(super) how: How,
}

/// All cuts of a lab.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// Packets that cuts have stopped in tables written before.
    before: Mutex<BTreeMap<u64, u64>>,
}

fn table() -> Table {
    Table::new(Family::Ip, "vpc-lab-faults")
}

impl Cuts {
    /// Makes it so, in the calling process's own network, which is the router's.
    pub(super) fn apply(&self, cuts: &[Cut]) -> Result<(), NetlinkError> {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nft = Nft::open()?;
        for (fault, hits) in counted(&mut nft) {
            *before.entry(fault).or_default() += hits;
        }
        let mut batch = Batch::new();
        if cuts.is_empty() {
            batch.remove_table(&table());
        } else {
            batch.replace_table(&table(), None);
            cuts_into(&mut batch, cuts);
        }
        nft.commit(batch)
    }

    /// Packets of nodes that each cut has stopped.
    pub(super) fn hits(&self) -> BTreeMap<u64, u64> {
        let mut all = self.before.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Ok(mut nft) = Nft::open() {
            for (fault, hits) in counted(&mut nft) {
                *all.entry(fault).or_default() += hits;
            }
        }
        all
    }
}

fn cuts_into(batch: &mut Batch, cuts: &[Cut]) {
    let hooks = [("input", Hook::Input), ("forward", Hook::Forward), ("output", Hook::Output)];
    for (name, hook) in hooks {
        batch.add_chain(&table(), &Chain::base(name, BaseChain::new(ChainKind::Filter, hook, PRIORITY)));
    }
    for cut in cuts {
        for (link, address) in cut.links.iter().flat_map(|link| cut.addresses.iter().map(move |to| (link, *to))) {
            let link = IfName::Is(link.clone());
            let there = Rule::new().iifname(Test::Is, &link).ip_destination(Test::Is, address.into()).counter();
            let there = match cut.how {
                How::Drop => there.drop(),
                How::Reject => there.then(Expr::Reject { code: PORT_UNREACHABLE }),
            };
            let there = there.comment(&format!("{COMMENT}{}", cut.fault));
            let back = Rule::new().oifname(Test::Is, &link).ip_source(Test::Is, address.into());
            let back = match cut.how {
                How::Drop => back.drop(),
                // The ICMP errors have to get there.
                How::Reject => back.l4_protocol(Test::Not, libc::IPPROTO_ICMP as u8).drop(),
            };
            for (chain, rule) in [("input", &there), ("forward", &there), ("output", &back), ("forward", &back)] {
                batch.add_rule(&table(), chain, rule);
            }
        }
    }
}

/// What the table that is there has counted, by fault.
fn counted(nft: &mut Nft) -> Vec<(u64, u64)> {
    let rules = nft.rules(&table()).unwrap_or_default();
    let of = |comment: &str| comment.strip_prefix(COMMENT)?.parse().ok();
    rules.iter().filter_map(|rule| Some((of(rule.comment.as_deref()?)?, rule.counter?.0))).collect()
}
