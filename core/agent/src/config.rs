//! What the agent is given at its start.

use vpc_hostnet::HostSettings;
use vpc_ipam::{EniFacts, Target};
use vpc_model::{AttachmentId, InstanceId, Ipv4Net, Millis, Slot, WallTime};

/// Settings and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the node should hold.
    pub target: Target,
    /// What the host should look like.
    pub host: HostSettings,
    /// How long an ADD may wait for an address (`VPC_CNI_ADD_WAIT`, default 15 s; the edge caps it at 45 s).
    pub add_wait: Millis,
    /// A number no earlier start of this daemon had: makes idempotency tokens unique.
    pub nonce: u64,
    /// How often the host is compared with what it should be.
    pub audit_every: Millis,
}

/// An ENI of this instance as metadata and EC2 show it at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedEni {
    /// What it is.
    pub facts: EniFacts,
    /// Its attachment, if EC2 was asked.
    pub attachment: Option<AttachmentId>,
    /// Its secondary positions.
    pub slots: Vec<Slot>,
    /// Whether it is ours to use (`no_manage`, `MANAGE_UNTAGGED_ENI`). The primary one always is.
    pub managed: bool,
}

/// What is known of the node at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The instance.
    pub instance: InstanceId,
    /// Its ENIs; the primary one first.
    pub enis: Vec<ObservedEni>,
    /// CIDRs of the VPC, in the metadata's order.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// The calendar at this moment: carries ages in the checkpoint over to [`vpc_model::Time`].
    pub wall: WallTime,
}
