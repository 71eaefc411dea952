//! What is wrong in a world: promises held against disk, cloud and host.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use lab_cloud::{AttachedEni, EniSnapshot};
use vpc_agent::{AddReply, Outcome};
use vpc_hostnet::{PaperEnd, PaperLoss, PaperRefusal, PaperTurn, priority};
use vpc_ipam::EniUse;
use vpc_model::{EniId, Millis, SandboxKey, Slot, Time};

use crate::node::{Node, link_of};
use crate::settled::Unsettled;
use crate::world::{NodeAt, World};

/// Somebody in the VPC, outside every node.
const PEER: Ipv4Addr = Ipv4Addr::new(10, 20, 200, 40);
/// Moments are rounded to a millisecond and wishes carried out one after another: rests are held to this much less.
const SLACK: Millis = Millis(50);

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The agent's own books are broken.
    #[error("{node:?}: {fault}")]
    Agent {
        /// Whose.
        node: NodeAt,
        /// What.
        fault: vpc_agent::Fault,
    },
    /// An address was promised that the disk does not record.
    #[error("{node:?}: {address} was promised to {key} before it was on disk")]
    NotOnDisk {
        /// Where.
        node: NodeAt,
        /// To whom.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
    },
    /// An address was promised twice.
    #[error("{address} was promised to {second} while {first} has it")]
    TwoOwners {
        /// Which.
        address: Ipv4Addr,
        /// Who has it.
        first: SandboxKey,
        /// Who was promised it too.
        second: SandboxKey,
    },
    /// An address was promised again too soon.
    #[error("{address} was promised to {key} after a rest of {rested}")]
    NotRested {
        /// Which.
        address: Ipv4Addr,
        /// To whom.
        key: SandboxKey,
        /// How long nobody had had it.
        rested: Millis,
    },
    /// An address was promised that is no secondary address of an ENI the guest has at that position.
    #[error("{node:?}: {address} was promised to {key}, and no device of the node has it there")]
    NotHere {
        /// Where.
        node: NodeAt,
        /// To whom.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
    },
    /// A sandbox that has an address was given another.
    #[error("{node:?}: {key} has {first} and was given {second} too")]
    SecondAddress {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// What it has.
        first: Ipv4Addr,
        /// What it was given.
        second: Ipv4Addr,
    },
    /// A live pod's address has left its node.
    #[error("{node:?}: {address} of {key}, which lives, was taken off the node")]
    Taken {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
    },
    /// A running pod is not reached, or its packets leave by the wrong link.
    #[error("{node:?}: {key} with {address} is cut off: {why}")]
    CutOff {
        /// Where.
        node: NodeAt,
        /// Whose.
        key: SandboxKey,
        /// Which.
        address: Ipv4Addr,
        /// How.
        why: String,
    },
    /// Something is left over although everything is quiet.
    #[error("{node:?}: left over: {what}")]
    Leaked {
        /// Where.
        node: NodeAt,
        /// What.
        what: String,
    },
    /// The node is quiet and not as it should be.
    #[error("{node:?}: {what}")]
    Unsettled {
        /// Where.
        node: NodeAt,
        /// What.
        what: Unsettled,
    },
    /// The paper host refused what its kernel would refuse.
    #[error("{node:?}: {refusal}")]
    Host {
        /// Where.
        node: NodeAt,
        /// What.
        refusal: PaperRefusal,
    },
    /// A caller got an answer to another question.
    #[error("{node:?}: answered {outcome:?} to another question")]
    OddAnswer {
        /// Where.
        node: NodeAt,
        /// What.
        outcome: Outcome,
    },
    /// The runtime was told twice in one life.
    #[error("{node:?} was ready twice")]
    ReadyTwice {
        /// Where.
        node: NodeAt,
    },
    /// Nothing happens any more, and something is changed in EC2 all the same.
    #[error("{node:?}: {action} although everything has been quiet for long")]
    NotSteady {
        /// Where.
        node: NodeAt,
        /// What.
        action: &'static str,
    },
    /// The world does not come to rest.
    #[error("the world does not come to rest at {at:?}")]
    Stuck {
        /// When.
        at: Time,
    },
}

/// Who has an address.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    node: NodeAt,
    key: SandboxKey,
    /// Reported as taken off the node, or taken by somebody else.
    pub(crate) taken: bool,
}

impl Owner {
    /// Whether that sandbox has it.
    pub(crate) fn is(&self, node: NodeAt, key: &SandboxKey) -> bool {
        self.node == node && self.key == *key
    }
}

impl World {
    /// Looks at every running pod (whether its address is on its node, and packets go both ways) and at the agents' books. Adds to
    /// [`World::faults`].
    pub fn look(&mut self) {
        let mut found = Vec::new();
        let now = self.agent_time(self.now);
        for (index, own) in self.nodes.iter().enumerate() {
            let node = NodeAt(index);
            let books = own.agent().map(|agent| agent.audit(now)).unwrap_or_default();
            found.extend(books.into_iter().map(|fault| Fault::Agent { node, fault }));
            for (_, pod) in own.running() {
                let (Some(key), Some(reply)) = (pod.key(), pod.reply()) else { continue };
                if self.owners.get(&reply.allocation.address).is_none_or(|owner| owner.taken) {
                    continue;
                }
                if let Err(why) = reached(own, key, reply) {
                    found.push(Fault::CutOff { node, key: key.clone(), address: reply.allocation.address, why });
                }
            }
        }
        self.faults.extend(found);
    }

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
                    None => leak(format!("{} is attached to nothing ({})", eni.id, eni.status)),
                    Some(_) if !known => leak(format!("{} is attached and in nobody's books", eni.id)),
                    Some(tie) if !tie.delete_on_termination => leak(format!("{} outlives its instance", eni.id)),
                    Some(_) => {}
                }
            }
            for eni in agent.pool().enis() {
                let truth = snapshot.enis.iter().find(|seen| seen.id == eni.facts.id).map(slots).unwrap_or_default();
                let booked: BTreeSet<Slot> = eni.positions().collect();
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
            host_leaks(own).into_iter().for_each(&mut leak);
        }
        found
    }

    /// An ADD was answered with an address.
    pub(crate) fn promised(&mut self, node: NodeAt, key: &SandboxKey, reply: &AddReply) {
        let address = reply.allocation.address;
        let Some(own) = self.nodes.get(node.0) else { return };
        let mut leases = own.disk.iter().flat_map(|disk| &disk.leases);
        if !leases.any(|lease| lease.key == *key && lease.address == address) {
            self.faults.push(Fault::NotOnDisk { node, key: key.clone(), address });
        }
        let there = |eni: &&AttachedEni| eni.device == reply.allocation.device && eni.addresses.holds(address);
        let stolen = self.stolen.contains_key(&address);
        if !stolen && !own.enis.values().any(|eni| there(&eni) && eni.addresses.primary != address) {
            self.faults.push(Fault::NotHere { node, key: key.clone(), address });
        }
        if let Some(first) = self.owners.get(&address).filter(|owner| !owner.is(node, key) && !owner.taken) {
            self.faults.push(Fault::TwoOwners { address, first: first.key.clone(), second: key.clone() });
        }
        if let Some((ended, rest)) = self.ended.get(&address) {
            let rested = self.now.since(*ended);
            // After a jump ahead of the calendar a daemon that starts can not know how long it was away.
            let jumped = self.jumped.is_some_and(|at| at >= *ended);
            if !jumped && rested.0 + SLACK.0 < rest.0 {
                self.faults.push(Fault::NotRested { address, key: key.clone(), rested });
            }
        }
        self.owners.insert(address, Owner { node, key: key.clone(), taken: false });
    }

    /// A sandbox has ended: its address is nobody's.
    pub(crate) fn owner_gone(&mut self, node: NodeAt, key: &SandboxKey) {
        let mine = |owner: &Owner| owner.node == node && owner.key == *key;
        let gone: Vec<Ipv4Addr> =
            self.owners.iter().filter(|(_, owner)| mine(owner)).map(|(address, _)| *address).collect();
        let rest = self.nodes.get(node.0).map_or(Millis(0), |own| own.config.target.cool_down);
        for address in gone {
            self.owners.remove(&address);
            self.ended.insert(address, (self.now, rest));
        }
    }

    /// The node's devices have changed: whether every live pod's address is still on one.
    pub(crate) fn check_backing(&mut self, node: NodeAt) {
        let Some(own) = self.nodes.get(node.0) else { return };
        for (address, owner) in self.owners.iter_mut().filter(|(_, owner)| owner.node == node && !owner.taken) {
            if !own.enis.values().any(|eni| eni.addresses.holds(*address)) {
                owner.taken = true;
                self.faults.push(Fault::Taken { node, key: owner.key.clone(), address: *address });
            }
        }
    }
}

fn made_for(eni: &EniSnapshot, node: &Node) -> bool {
    eni.description == format!("aws-K8S-{}", node.instance)
}

fn slots(eni: &EniSnapshot) -> BTreeSet<Slot> {
    let addresses = eni.addresses.secondary.iter().copied().map(Slot::Address);
    addresses.chain(eni.addresses.prefixes.iter().copied().map(Slot::Prefix)).collect()
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

/// Rules and routes of pods that are not there, tables of ENIs that are not there.
fn host_leaks(node: &Node) -> Vec<String> {
    let state = node.host.observe();
    let live: BTreeSet<Ipv4Addr> =
        node.running().filter_map(|(_, pod)| Some(pod.reply()?.allocation.address)).collect();
    let own: BTreeSet<Ipv4Addr> = node.guest_enis().map(|eni| eni.addresses.primary).collect();
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
