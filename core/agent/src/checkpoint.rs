//! What survives a restart.

use std::net::Ipv4Addr;

use vpc_ipam::{Allocation, EniFacts};
use vpc_model::{AttachmentId, LinkName, PodRef, SandboxKey, Slot, WallTime};

/// One promised address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub key: SandboxKey,
    /// Its pod; both parts empty if the caller named none.
    pub pod: PodRef,
    /// The address.
    pub address: Ipv4Addr,
    /// Where it is; `None` in a file of the reference, which does not say (its ENI does).
    pub allocation: Option<Allocation>,
    /// When it was promised.
    pub since: WallTime,
    /// Set for a lease that is known by its host link alone (found without a checkpoint, and the link does not say whose it is): it
    /// ends with the link.
    pub link: Option<LinkName>,
}

/// One resting address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// The address.
    pub address: Ipv4Addr,
    /// When its pod went.
    pub released: WallTime,
}

/// An ENI as the pool held it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointEni {
    /// What it is.
    pub facts: EniFacts,
    /// Its attachment, where known.
    pub attachment: Option<AttachmentId>,
    /// Its secondary positions.
    pub slots: Vec<Slot>,
    /// Positions that are being given back: a call may be under way that takes them.
    pub leaving: Vec<Slot>,
    /// Positions that were given back lately: the metadata, and EC2's reads, may still show them.
    pub gone: Vec<Slot>,
    /// The ENI itself is being given back.
    pub going: bool,
}

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Promised addresses.
    pub leases: Vec<Lease>,
    /// Resting addresses.
    pub rests: Vec<Rest>,
    /// ENIs and what is on them.
    pub enis: Vec<CheckpointEni>,
}

/// What a write of the checkpoint changes against the write before it, whether that one succeeded or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// This is all there is. So is the first one, and the one after a write that failed.
    Whole(Checkpoint),
    /// The ENIs are the same, and of the addresses only these are not. No address is in two of the lists.
    Changed {
        /// Promised now.
        leases: Vec<Lease>,
        /// Resting now.
        rests: Vec<Rest>,
        /// Neither.
        free: Vec<Ipv4Addr>,
    },
}

impl Checkpoint {
    /// Carries an update out. Leases and rests are in the order of their addresses, and stay so.
    pub fn update(&mut self, update: Update) {
        let (leases, rests, free) = match update {
            Update::Whole(whole) => {
                *self = whole;
                return;
            }
            Update::Changed { leases, rests, free } => (leases, rests, free),
        };
        let resting = rests.iter().map(|rest| rest.address);
        let promised = leases.iter().map(|lease| lease.address);
        // What an update says is little: it finds its places.
        for address in promised.chain(resting).chain(free) {
            if let Ok(at) = self.leases.binary_search_by_key(&address, |lease| lease.address) {
                self.leases.remove(at);
            }
            if let Ok(at) = self.rests.binary_search_by_key(&address, |rest| rest.address) {
                self.rests.remove(at);
            }
        }
        for lease in leases {
            let at = self.leases.partition_point(|seen| seen.address < lease.address);
            self.leases.insert(at, lease);
        }
        for rest in rests {
            let at = self.rests.partition_point(|seen| seen.address < rest.address);
            self.rests.insert(at, rest);
        }
    }
}
