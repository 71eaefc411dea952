//! Packets: whether a running pod is reached, and reaches others, by the link of the ENI that has its address.
//!
//! Looked at when a pod is wired, when the daemon has changed what the host has for it, and of all pods with the whole check. Rules
//! that somebody removed cut pods off until the daemon has seen it and set the host right: that it does within [`REPAIR`], as long
//! as it runs and the host lets it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use vpc_agent::AddReply;
use vpc_hostnet::{HostOp, PaperEnd, PaperLoss, PaperTurn, priority};
use vpc_model::{Ipv4Net, Millis, SandboxKey};

use crate::audit::Fault;
use crate::node::{Node, link_of};
use crate::world::{NodeAt, World};

/// Somebody in the VPC, outside every node.
const PEER: Ipv4Addr = Ipv4Addr::new(10, 20, 200, 40);
/// A change of the host is let settle for 5 s; a look that failed is repeated after 64 s at the latest.
const REPAIR: Millis = Millis::seconds(80);

/// Pods whose packets a change of the host may have moved.
pub(crate) enum Touched {
    /// All of the node.
    All,
    /// Those with these addresses.
    Only(BTreeSet<Ipv4Addr>),
}

impl Touched {
    /// By these operations.
    pub(crate) fn by(ops: &[HostOp]) -> Self {
        let mut addresses = BTreeSet::new();
        for op in ops {
            match subject(op) {
                Subject::Nobody => {}
                Subject::Pod(address) => _ = addresses.insert(address),
                Subject::Everybody => return Self::All,
            }
        }
        Self::Only(addresses)
    }
}

enum Subject {
    Nobody,
    Pod(Ipv4Addr),
    Everybody,
}

fn subject(op: &HostOp) -> Subject {
    let single = |net: Option<Ipv4Net>| match net.filter(|net| net.prefix_len() == 32) {
        Some(net) => Subject::Pod(net.addr()),
        None => Subject::Everybody,
    };
    match op {
        HostOp::AddRule(rule) | HostOp::RemoveRule(rule) => match rule.priority {
            priority::TO_POD => single(rule.to),
            priority::FROM_POD => single(rule.from),
            // Asked after every pod's rules.
            priority::FROM_ENI => Subject::Nobody,
            _ => Subject::Everybody,
        },
        HostOp::ReplaceRoute(route) | HostOp::RemoveRoute(route) => single(Some(route.to)),
        HostOp::SetLink { .. }
        | HostOp::AddAddress { .. }
        | HostOp::RemoveAddress { .. }
        | HostOp::PinNeighbour(_)
        | HostOp::RemoveNeighbour(_)
        | HostOp::SetRpFilter { .. }
        | HostOp::SetSysctl { .. }
        | HostOp::ReplaceFilter(_)
        | HostOp::DeleteLink { .. } => Subject::Everybody,
    }
}

impl World {
    /// The host was changed.
    pub(crate) fn check_touched(&mut self, node: NodeAt, touched: &Touched) {
        let found = match touched {
            Touched::Only(addresses) if addresses.is_empty() => return,
            Touched::Only(addresses) => self.cut_off(node, |address| addresses.contains(&address)),
            Touched::All => self.cut_off(node, |_| true),
        };
        self.faults.extend(found);
    }

    /// A pod was wired.
    pub(crate) fn check_wired(&mut self, node: NodeAt, name: &str) {
        let found = self.nodes.get(node.0).and_then(|own| {
            let pod = own.pods.get(name)?;
            self.judge(node, own, pod.key()?, pod.reply()?)
        });
        self.faults.extend(found);
    }

    /// Running pods of a node that are cut off.
    pub(super) fn cut_off(&self, node: NodeAt, which: impl Fn(Ipv4Addr) -> bool) -> Vec<Fault> {
        let Some(own) = self.nodes.get(node.0) else { return Vec::new() };
        let pods = own.running().filter_map(|(_, pod)| Some((pod.key()?, pod.reply()?)));
        let of_them = pods.filter(|(_, reply)| which(reply.allocation.address));
        of_them.filter_map(|(key, reply)| self.judge(node, own, key, reply)).collect()
    }

    fn judge(&self, node: NodeAt, own: &Node, key: &SandboxKey, reply: &AddReply) -> Option<Fault> {
        let address = reply.allocation.address;
        if self.owners.get(&address).is_none_or(|owner| owner.taken || !owner.is(node, key)) {
            return None;
        }
        let why = reached(own, key, reply).err()?;
        (!self.is_hurt(own)).then(|| Fault::CutOff { node, key: key.clone(), address, why })
    }

    /// Whether somebody has broken the host, and the daemon has not had the time to set it right.
    fn is_hurt(&self, own: &Node) -> bool {
        let Some(hurt) = own.audit.hurt else { return false };
        let able = [Some(hurt), own.audit.begun, own.audit.host_failed.as_ref().map(|(at, _)| *at)];
        let since = able.into_iter().flatten().max().unwrap_or(hurt);
        own.agent().is_none() || own.host_fails.is_some() || self.now.since(since) < REPAIR
    }
}

/// Whether packets go both ways between a pod and the VPC, by the link of the ENI that has its address.
fn reached(node: &Node, key: &SandboxKey, reply: &AddReply) -> Result<(), String> {
    let address = reply.allocation.address;
    let eni = node.guest_enis().find(|eni| eni.addresses.holds(address)).ok_or("no device has the address")?;
    let link = link_of(eni).ok_or("the device has no name")?;
    let lost = |loss: PaperLoss| loss.to_string();
    let out = node.host.egress(&key.container, PEER, PaperTurn::Opens).map_err(lost)?;
    match out.end {
        PaperEnd::Out { link: by, .. } if by == link => {}
        end => return Err(format!("its packets end at {end:?} instead of leaving by {link}")),
    }
    match node.host.routed(&link, PEER, address).map_err(lost)?.end {
        PaperEnd::Pod { sandbox, .. } if sandbox == key.container => Ok(()),
        end => Err(format!("packets for it end at {end:?}")),
    }
}
