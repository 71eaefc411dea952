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
