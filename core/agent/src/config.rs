//! What the agent is given at its start.

use std::collections::BTreeMap;

use vpc_hostnet::HostSettings;
use vpc_ipam::{EniFacts, Target};
use vpc_model::{InstanceId, Ipv4Net, Mac, Millis, SecurityGroupId, Slot, SubnetId, VpcId, WallTime};

/// Settings and limits. All of them may change while the agent runs ([`crate::Input::Settings`]); the node moves there step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the node should hold.
    pub target: Target,
    /// Whether `target`'s limits are those of the instance type. If not they are upper bounds, and EC2's refusals teach the true ones.
    pub limits_known: bool,
    /// Why the pool holds single addresses although prefixes were asked for: the instance's type takes none. Said to people.
    pub without_prefixes: Option<String>,
    /// What the host should look like.
    pub host: HostSettings,
    /// How long an ADD may wait for an address (`VPC_CNI_ADD_WAIT`, default 15 s; the edge caps it at 45 s).
    pub add_wait: Millis,
    /// A number no earlier start of this daemon had: makes idempotency tokens unique, and seeds jitter.
    pub nonce: u64,
    /// How often the host and the metadata are compared with what they should be.
    pub audit_every: Millis,
    /// How old a lease without a link is when it is nobody's (`VPC_CNI_ORPHAN_AGE`, default 65 s: a plugin gives an ADD up after 60 s, and
    /// what it may still be making is judged only when it can no longer be at work).
    pub orphan_age: Millis,
    /// When ENIs of an earlier life are looked for (`VPC_CNI_STRAYS_AFTER`, default 60 s: later than any call of it can still be under
    /// way). The nodes of a fleet spread that over twice as long again.
    pub strays_after: Millis,
    /// How far EC2 may be used.
    pub cloud: CloudUse,
    /// Where ENIs are made.
    pub placing: Placing,
    /// `MANAGE_UNTAGGED_ENI`: ENIs without our tags are ours all the same.
    pub manage_untagged: bool,
    /// Tags every ENI of ours bears, without the time of its creation.
    pub tags: BTreeMap<String, String>,
    /// Whether ENIs nobody uses are looked for in the whole cluster and deleted (not with `DISABLE_LEAKED_ENI_CLEANUP`).
    pub leaked_cleanup: bool,
    /// `AWS_MANAGE_ENIS_NON_SCHEDULABLE`: the pool is kept up although the node takes no pods.
    pub manage_non_schedulable: bool,
    /// `VPC_CNI_LOOKAHEAD`: pods bound to this node count as demand before their ADD comes.
    pub look_ahead: bool,
}

/// How far EC2 may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloudUse {
    /// Not at all (`VPC_CNI_EC2=off`, `ENABLE_IMDS_ONLY_MODE`): the metadata are believed.
    Off,
    /// It may be asked, nothing is changed (`DISABLE_NETWORK_RESOURCE_PROVISIONING`).
    ReadOnly,
    /// Nothing is given back (`VPC_CNI_EC2=no-release`).
    NoRelease,
    /// All of it.
    Full,
}

impl CloudUse {
    /// Whether EC2 may be asked.
    #[must_use]
    pub fn may_ask(self) -> bool {
        self > Self::Off
    }

    /// Whether something may be fetched or changed.
    #[must_use]
    pub fn may_change(self) -> bool {
        self >= Self::NoRelease
    }

    /// Whether something may be given back.
    #[must_use]
    pub fn may_release(self) -> bool {
        self == Self::Full
    }
}

/// Where new ENIs are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placing {
    /// Set with custom networking (`AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`): what names the node's ENIConfig.
    pub custom: Option<EniConfigKeys>,
    /// `ENABLE_SUBNET_DISCOVERY`.
    pub discovery: bool,
    /// `CLUSTER_NAME`: decides about subnets tagged for clusters.
    pub cluster: Option<String>,
}

/// What names the node's ENIConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniConfigKeys {
    /// `ENI_CONFIG_ANNOTATION_DEF`.
    pub annotation: String,
    /// `ENI_CONFIG_LABEL_DEF`.
    pub label: String,
}

/// An ENI of this instance as the metadata show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEni {
    /// What it is.
    pub facts: EniFacts,
    /// Its secondary positions.
    pub slots: Vec<Slot>,
    /// It has an IPv4 address and subnet: pods could use it, if it is ours.
    pub usable: bool,
}

/// What the metadata show of the node's ENIs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Its ENIs on network card 0; the primary one first.
    pub enis: Vec<SeenEni>,
    /// ENIs the metadata list without showing all of them (a stale or half-attached one), by hardware address.
    pub unreadable: Vec<Mac>,
    /// Security groups of the primary ENI.
    pub groups: Vec<SecurityGroupId>,
}

/// What is known of the node at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The instance.
    pub instance: InstanceId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its availability zone.
    pub zone: String,
    /// The subnet of its primary ENI.
    pub subnet: SubnetId,
    /// What the metadata show of its ENIs.
    pub metadata: Metadata,
    /// CIDRs of the VPC, in the metadata's order.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// The calendar at this moment: carries ages in the checkpoint over to [`vpc_model::Time`].
    pub wall: WallTime,
}
