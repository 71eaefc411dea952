//! Promises: who was told which address, whether the disk knew it then, and whether it is kept.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use lab_cloud::AttachedEni;
use vpc_agent::{AddReply, Update};
use vpc_model::{Millis, SandboxKey, Time};

use crate::audit::Fault;
use crate::node::Node;
use crate::world::{NodeAt, World};

/// Moments are rounded to a millisecond and wishes carried out one after another: rests are held to this much less.
const SLACK: Millis = Millis(50);
/// What others take off a node is noticed by then: when the metadata are compared next, or when EC2's reads have settled.
const NOTICED: Millis = Millis::seconds(400);
/// By then a daemon that lost its checkpoint has seen the host twice, also where that failed for a while.
const REMEMBERED: Millis = Millis::seconds(400);

/// Who has an address.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(super) node: NodeAt,
    pub(super) key: SandboxKey,
    /// When it was promised.
    pub(super) since: Time,
    /// Reported as taken off the node, or taken by somebody else.
    pub(crate) taken: bool,
    /// Since when its DEL is under way: the pod's rules are off, and the daemon may take the address back at any moment. Its rest
    /// begins here, also where the DEL waits for a full disk, and is as long as the settings say here.
    pub(super) ending: Option<Ended>,
}

impl Owner {
    /// Whether that sandbox has it.
    pub(crate) fn is(&self, node: NodeAt, key: &SandboxKey) -> bool {
        self.node == node && self.key == *key
    }
}

/// An address whose last owner has gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(super) node: NodeAt,
    pub(super) at: Time,
    /// How long it is to rest: as the settings said then, or what is shorter of that and what they said at a start of the daemon since.
    pub(super) rest: Millis,
    /// Its sandbox ended without a DEL: its rest begins when the daemon notices, as the settings are then.
    pub(super) unseen: bool,
}

impl World {
    /// An ADD was answered with an address.
    pub(crate) fn promised(&mut self, node: NodeAt, key: &SandboxKey, reply: &AddReply) {
        let address = reply.allocation.address;
        let Some(own) = self.nodes.get(node.0) else { return };
        if !own.has_on_disk(key, address) {
            self.faults.push(Fault::NotOnDisk { node, key: key.clone(), address });
        }
        let there = |eni: &&AttachedEni| eni.device == reply.allocation.device && eni.addresses.holds(address);
        let stolen = self.stolen.get(&(node, address)).is_some_and(|stolen| self.now.since(stolen.at) < NOTICED);
        // Wherever else it may have come to meanwhile.
        let taken = stolen && !own.enis.values().any(|eni| there(&eni));
        let another = self.owners.get(&address).is_some_and(|owner| owner.node != node && !owner.taken);
        if taken && another {
            // Somebody else took it a moment ago, nobody has told the daemon, and EC2 has given it to another node.
            return;
        }
        if !stolen && !own.enis.values().any(|eni| there(&eni) && eni.addresses.primary != address) {
            self.faults.push(Fault::NotHere { node, key: key.clone(), address });
        }
        if let Some(first) = self.owners.get(&address).filter(|owner| !owner.is(node, key) && !owner.taken) {
            self.faults.push(Fault::TwoOwners { address, first: first.key.clone(), second: key.clone() });
        }
        if let Some(ended) = self.ended.get(&address) {
            let rested = self.now.since(ended.at);
            // After a start of the machine nobody can tell a calendar that was set ahead from time that has passed.
            let jumped = self.jumped.is_some() && own.audit.rebooted.is_some_and(|at| at >= ended.at);
            if !taken && !jumped && !own.audit.forgot_rests(ended.at) && rested.0 + SLACK.0 < ended.rest.0 {
                self.faults.push(Fault::NotRested { address, key: key.clone(), rested });
            }
        }
        let owner = Owner { node, key: key.clone(), since: self.now, taken, ending: None };
        self.owners.insert(address, owner);
    }

    /// A sandbox's DEL begins: nobody counts on its address any more.
    pub(crate) fn owner_ends(&mut self, node: NodeAt, address: Ipv4Addr) {
        let rest = self.rest_of(node);
        if let Some(owner) = self.owners.get_mut(&address).filter(|owner| owner.node == node) {
            owner.ending.get_or_insert(Ended { node, at: self.now, rest, unseen: false });
        }
    }

    /// A sandbox has ended: its address is nobody's.
    pub(crate) fn owner_gone(&mut self, node: NodeAt, key: &SandboxKey) {
        let mine = self.owners.iter().filter(|(_, owner)| owner.is(node, key));
        let gone: Vec<(Ipv4Addr, Owner)> = mine.map(|(address, owner)| (*address, owner.clone())).collect();
        let now = Ended { node, at: self.now, rest: self.rest_of(node), unseen: true };
        if gone.iter().any(|(_, owner)| owner.taken)
            && let Some(own) = self.nodes.get_mut(node.0)
        {
            // What others took stays in the books as long as its pod lives: the daemon clears it from now on.
            own.audit.stirred = Some(self.now);
        }
        for (address, owner) in gone {
            self.owners.remove(&address);
            // One that somebody else took off its node rests nowhere: EC2 gives it to whoever asks next.
            if !owner.taken {
                self.ended.insert(address, owner.ending.unwrap_or(now));
            }
        }
    }

    /// A daemon starts: rests under way are as long as its settings say, if those say less. An end that did not come to the disk is one
    /// it has to notice.
    pub(crate) fn rests_begin_anew(&mut self, node: NodeAt) {
        let most = self.rest_of(node);
        let disk = self.nodes.get(node.0).and_then(|own| own.disk.as_ref());
        let leased: BTreeSet<Ipv4Addr> = disk.iter().flat_map(|disk| &disk.leases).map(|lease| lease.address).collect();
        let ending = self.owners.iter_mut().filter_map(|(address, owner)| Some((address, owner.ending.as_mut()?)));
        for (address, ended) in self.ended.iter_mut().chain(ending).filter(|(_, ended)| ended.node == node) {
            ended.rest = ended.rest.min(most);
            ended.unseen |= leased.contains(address);
        }
    }

    /// The settings are others from now on. Rests under way keep their end; one that the daemon has not noticed yet is not under way.
    pub(crate) fn rests_are_set(&mut self, node: NodeAt) {
        let most = self.rest_of(node);
        let resting = self.ended.values_mut().filter(|ended| ended.node == node && ended.unseen);
        resting.for_each(|ended| ended.rest = ended.rest.min(most));
    }

    /// How long an address rests that a pod of the node lets go now.
    fn rest_of(&self, node: NodeAt) -> Millis {
        self.nodes.get(node.0).map_or(Millis(0), |own| own.config.target.cool_down)
    }

    /// What a live pod was promised must stay.
    pub(super) fn lives(&self, address: Ipv4Addr, node: NodeAt) -> Option<&Owner> {
        self.owners.get(&address).filter(|owner| owner.node == node && !owner.taken && owner.ending.is_none())
    }

    /// An ENI of the node holds less than before, or is gone: whether every live pod's address is still on the node.
    pub(crate) fn check_backing(&mut self, node: NodeAt, before: Option<&AttachedEni>) {
        let (Some(own), Some(before)) = (self.nodes.get(node.0), before) else { return };
        let now = own.enis.get(&before.id).map(|eni| &eni.addresses);
        let kept = |address: &Ipv4Addr| now.is_some_and(|now| now.holds(*address));
        let single = before.addresses.secondary.iter().copied();
        let of_prefixes = before.addresses.prefixes.iter().flat_map(|prefix| prefix.addresses());
        let lost: Vec<Ipv4Addr> = single.chain(of_prefixes).filter(|address| !kept(address)).collect();
        for address in lost {
            if let Some(rested) = self.rests_still(node, address) {
                self.faults.push(Fault::GivenBackResting { node, address, rested });
            }
            let Some(owner) = self.owners.get_mut(&address).filter(|owner| owner.node == node && !owner.taken) else {
                continue;
            };
            owner.taken = true;
            self.faults.push(Fault::Taken { node, key: owner.key.clone(), address });
        }
    }

    /// How long an address has rested that is to rest longer, and that nobody else took off the node. Not one whose end the daemon may
    /// not have noticed, or has forgotten.
    fn rests_still(&self, node: NodeAt, address: Ipv4Addr) -> Option<Millis> {
        let own = self.nodes.get(node.0)?;
        let ended = self.ended.get(&address).filter(|ended| ended.node == node && !ended.unseen)?;
        let rested = self.now.since(ended.at);
        let jumped = self.jumped.is_some() && own.audit.rebooted.is_some_and(|at| at >= ended.at);
        let excused = jumped || own.audit.forgot_rests(ended.at) || self.stolen.contains_key(&(node, address));
        (!excused && rested.0 + SLACK.0 < ended.rest.0).then_some(rested)
    }

    /// A checkpoint came to the disk: whether what it took off was a live pod's.
    pub(crate) fn check_written(&mut self, node: NodeAt, changed: &Changed) {
        let forgotten: Vec<(SandboxKey, Ipv4Addr)> = match changed {
            Changed::All => self.not_on_disk(node),
            Changed::Only(addresses) => {
                let Some(own) = self.nodes.get(node.0) else { return };
                let live = addresses.iter().filter_map(|address| Some((*address, self.lives(*address, node)?)));
                let live = live.filter(|(_, owner)| !self.is_forgiven(own, owner));
                live.filter(|(address, owner)| !own.has_on_disk(&owner.key, *address))
                    .map(|(address, owner)| (owner.key.clone(), address))
                    .collect()
            }
        };
        self.faults.extend(forgotten.into_iter().map(|(key, address)| Fault::Forgotten { node, key, address }));
    }

    /// Whether the daemon began without its checkpoint after it had promised this, and has not had the time to find the pod's link.
    fn is_forgiven(&self, own: &Node, owner: &Owner) -> bool {
        own.audit.lost_memory.is_some_and(|lost| lost >= owner.since && self.now.since(lost) < REMEMBERED)
    }

    /// Whether the daemon must know of a live pod's address when it is asked.
    pub(crate) fn must_remember(&self, node: NodeAt, address: Ipv4Addr) -> bool {
        let own = self.nodes.get(node.0);
        own.zip(self.lives(address, node)).is_some_and(|(own, owner)| !self.is_forgiven(own, owner))
    }

    /// Live pods of a node whose lease is not on its disk.
    pub(super) fn not_on_disk(&self, node: NodeAt) -> Vec<(SandboxKey, Ipv4Addr)> {
        let Some(own) = self.nodes.get(node.0).filter(|own| !own.audit.disk_lost) else { return Vec::new() };
        let leases: BTreeSet<(&SandboxKey, Ipv4Addr)> =
            own.disk.iter().flat_map(|disk| &disk.leases).map(|lease| (&lease.key, lease.address)).collect();
        let live = self.owners.iter().filter(|(_, owner)| owner.node == node && !owner.taken && owner.ending.is_none());
        live.filter(|(_, owner)| !self.is_forgiven(own, owner))
            .filter(|(address, owner)| !leases.contains(&(&owner.key, **address)))
            .map(|(address, owner)| (owner.key.clone(), *address))
            .collect()
    }
}

/// What a write of the checkpoint may have taken off the disk.
pub(crate) enum Changed {
    /// Anything.
    All,
    /// These addresses' leases.
    Only(Vec<Ipv4Addr>),
}

impl Changed {
    pub(crate) fn by(update: &Update) -> Self {
        match update {
            Update::Whole(_) => Self::All,
            Update::Changed { leases, rests, free } => {
                let leases = leases.iter().map(|lease| lease.address);
                Self::Only(leases.chain(rests.iter().map(|rest| rest.address)).chain(free.iter().copied()).collect())
            }
        }
    }
}
