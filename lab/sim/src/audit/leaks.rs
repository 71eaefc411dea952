//! What is left over once everything is quiet: in EC2, in the books, on the disk and on the host.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use lab_cloud::EniSnapshot;
use vpc_hostnet::priority;
use vpc_ipam::EniUse;
use vpc_model::{EniId, SandboxKey, Slot};

use crate::audit::Fault;
use crate::node::{Node, link_of};
use crate::world::{NodeAt, World};

impl World {
    /// Everything that is left over, once nothing is under way and everything has rested: ENIs and positions that nobody counts,
    /// leases, rules and routes without a pod. Looks at the nodes whose daemon runs.
    #[must_use]
    pub fn leaks(&mut self) -> Vec<Fault> {
        let snapshot = self.cloud.snapshot(self.now);
        let mut found = Vec::new();
        for (index, own) in self.nodes.iter().enumerate() {
            let Some(agent) = own.agent() else { continue };
            let mut leak = |what: String| found.push(Fault::Leaked { node: NodeAt(index), what });
            for eni in snapshot.enis.iter().filter(|eni| made_for(eni, own)) {
                let known = agent.pool().eni(&eni.id).is_some();
                match &eni.attachment {
                    // The settings forbid to delete it.
                    None if !own.config.cloud.may_release() => {}
                    None => leak(format!("{} is attached to nothing ({})", eni.id, eni.status)),
                    // Somebody took its tags, and the settings say that one without is not ours.
                    Some(_) if !known && eni.tags.is_empty() && !own.config.manage_untagged => {}
                    Some(_) if !known => leak(format!("{} is attached and in nobody's books", eni.id)),
                    // The settings forbid to tie it.
                    Some(tie) if !tie.delete_on_termination && !own.config.cloud.may_change() => {}
                    Some(tie) if !tie.delete_on_termination => leak(format!("{} outlives its instance", eni.id)),
                    Some(_) => {}
                }
            }
            let mut kept = Vec::new();
            for eni in agent.pool().enis() {
                // One that somebody took from a pod that lives stays as it was for as long, and gets no new pods.
                let lost = snapshot.enis.iter().all(|seen| seen.id != eni.facts.id);
                if lost && own.addresses().any(|address| eni.positions().any(|slot| slot.contains(address))) {
                    if eni.usage != EniUse::Doubtful {
                        leak(format!("{} is {:?}, and EC2 does not know it", eni.facts.id, eni.usage));
                    }
                    kept.push(eni.facts.primary);
                    continue;
                }
                let mut truth =
                    snapshot.enis.iter().find(|seen| seen.id == eni.facts.id).map(slots).unwrap_or_default();
                // What it gave back, and what EC2 gave again with an answer that was lost, is not to be told from what metadata that lag
                // still show. Where EC2 may not be asked it may be left alone: to believe it might give somebody else's address away.
                if !own.config.cloud.may_ask() {
                    let again = |slot: &Slot| own.audit.gave_back.contains(&(eni.facts.id.clone(), *slot));
                    truth.retain(|slot| eni.slots.contains_key(slot) || !again(slot));
                }
                // What somebody took from a pod that lives stays in the books as long as it does.
                let robbed =
                    |slot: &Slot| !truth.contains(slot) && own.addresses().any(|address| slot.contains(address));
                let booked: BTreeSet<Slot> = eni.positions().filter(|slot| !robbed(slot)).collect();
                if truth != booked {
                    leak(format!("{}: EC2 has {truth:?}, the books {booked:?}", eni.facts.id));
                }
                if eni.usage != EniUse::Ready {
                    leak(format!("{} is {:?}", eni.facts.id, eni.usage));
                }
            }
            let live: BTreeSet<&SandboxKey> = own.pods.values().filter_map(|pod| pod.key()).collect();
            for held in agent.pool().held().filter(|held| !live.contains(&held.key)) {
                leak(format!("{} is held for {}, which is gone", held.allocation.address, held.key));
            }
            let disk = own.disk.iter().flat_map(|disk| &disk.leases);
            disk.filter(|lease| !live.contains(&lease.key)).for_each(|lease| leak(format!("{} is on disk", lease.key)));
            host_leaks(own, &kept).into_iter().for_each(&mut leak);
        }
        found
    }
}

/// Whether a node's daemon made an ENI.
pub(crate) fn made_for(eni: &EniSnapshot, node: &Node) -> bool {
    eni.description == format!("aws-K8S-{}", node.instance)
}

fn slots(eni: &EniSnapshot) -> BTreeSet<Slot> {
    let addresses = eni.addresses.secondary.iter().copied().map(Slot::Address);
    addresses.chain(eni.addresses.prefixes.iter().copied().map(Slot::Prefix)).collect()
}

/// Rules and routes of pods that are not there, tables of ENIs that are not there and whose own addresses are not among these.
fn host_leaks(node: &Node, kept: &[Ipv4Addr]) -> Vec<String> {
    let state = node.host.observe();
    let live: BTreeSet<Ipv4Addr> =
        node.running().filter_map(|(_, pod)| Some(pod.reply()?.allocation.address)).collect();
    let own: BTreeSet<Ipv4Addr> =
        node.guest_enis().map(|eni| eni.addresses.primary).chain(kept.iter().copied()).collect();
    let mut found = Vec::new();
    for rule in &state.rules {
        let (net, known) = match rule.priority {
            priority::TO_POD => (rule.to, &live),
            priority::FROM_POD => (rule.from, &live),
            priority::FROM_ENI => (rule.from, &own),
            _ => continue,
        };
        if let Some(net) = net.filter(|net| net.prefix_len() == 32 && !known.contains(&net.addr())) {
            found.push(format!("a rule of priority {} for {net}", rule.priority));
        }
    }
    let links: BTreeSet<_> = node.guest_enis().filter_map(link_of).collect();
    for route in &state.routes {
        if route.link.as_str().starts_with("eth") && !links.contains(&route.link) {
            found.push(format!("a route by {}, which is gone", route.link));
        }
    }
    found
}

/// The ENI ids that appear in a world's snapshot and that a node's daemon made.
#[must_use]
pub fn own_enis(world: &mut World, node: NodeAt) -> Vec<EniId> {
    let now = world.now();
    let snapshot = world.cloud.snapshot(now);
    let Some(own) = world.node(node) else { return Vec::new() };
    snapshot.enis.iter().filter(|eni| made_for(eni, own)).map(|eni| eni.id.clone()).collect()
}
