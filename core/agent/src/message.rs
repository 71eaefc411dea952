//! What goes in and what comes out.

use std::fmt;
use std::net::Ipv4Addr;

use vpc_hostnet::{HostOp, HostState};
use vpc_ipam::{Allocation, EniRole, Held, Retired};
use vpc_model::{EniId, Ipv4Net, LinkName, Mac, Millis, PodRef, SandboxKey, Slot};

use crate::{
    CloudAnswer, CloudCall, CloudFailure, ClusterNews, Collect, Config, DoomedLink, Metadata, OpId, PlaceNews,
    Readiness, Refusal, Update,
};

/// One caller that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The number of a checkpoint: a later one holds everything an earlier one did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// A pod that wants an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddRequest {
    /// Whose address it will be.
    pub key: SandboxKey,
    /// Its pod.
    pub pod: PodRef,
}

/// What the agent is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A pod wants an address.
    Add {
        /// Who waits for the answer.
        ticket: Ticket,
        /// What is asked.
        request: AddRequest,
    },
    /// The caller of an ADD has gone before it was answered.
    AddAbandoned {
        /// Which.
        ticket: Ticket,
    },
    /// A sandbox has ended.
    Del {
        /// Who waits for the answer.
        ticket: Ticket,
        /// Which sandbox.
        key: SandboxKey,
    },
    /// An ADD failed after it was given an address: it gives it back. Where another ADD of the same sandbox was given the same address, it
    /// may be that one's pod that lives: the lease ends with a DEL.
    Undo {
        /// Who waits for the answer.
        ticket: Ticket,
        /// Which sandbox.
        key: SandboxKey,
    },
    /// STATUS: can ADD be served?
    Status {
        /// Who waits for the answer.
        ticket: Ticket,
    },
    /// CHECK: which lease has a sandbox?
    Find {
        /// Who waits for the answer.
        ticket: Ticket,
        /// Which sandbox.
        key: SandboxKey,
    },
    /// A plugin tells what people should know of a pod. Nobody waits for an answer.
    Reported {
        /// Which sandbox.
        key: SandboxKey,
        /// Its pod.
        pod: PodRef,
        /// What.
        report: Report,
    },
    /// GC: leases that no valid attachment stands behind end.
    Collect {
        /// Who waits for the answer.
        ticket: Ticket,
        /// What is valid.
        request: Collect,
    },
    /// The cloud has answered.
    CloudDone {
        /// Which call.
        op: OpId,
        /// What it said.
        result: Result<CloudAnswer, CloudFailure>,
    },
    /// The host has been looked at.
    HostObserved {
        /// Which look.
        op: OpId,
        /// What was seen, or why it could not be.
        result: Result<HostState, String>,
    },
    /// The host has been changed.
    HostApplied {
        /// Which change.
        op: OpId,
        /// Whether all of it was done; else what was not.
        result: Result<(), String>,
    },
    /// Links of sandboxes that have ended are gone, or could not be removed.
    LinksRemoved {
        /// Which removal.
        op: OpId,
        /// Whether.
        result: Result<(), String>,
    },
    /// Something changed on the host by itself (a link appeared, rules were flushed).
    HostChanged,
    /// A checkpoint is on disk, or could not be written.
    CheckpointWritten {
        /// Which.
        generation: Generation,
        /// Whether.
        result: Result<(), String>,
    },
    /// The CIDRs of the VPC as the metadata list them.
    VpcCidrs(Vec<Ipv4Net>),
    /// The metadata have been read.
    MetadataRead {
        /// Which reading.
        op: OpId,
        /// What they show, or why they could not be read.
        result: Result<Metadata, String>,
    },
    /// Kubernetes has news.
    Cluster(ClusterNews),
    /// The settings have changed.
    Settings(Box<Config>),
    /// Tracked connections of addresses have been forgotten by the kernel, or could not be.
    FlowsFlushed {
        /// Which flush.
        op: OpId,
        /// Whether.
        result: Result<(), String>,
    },
    /// The process is asked to end: no new addresses are promised.
    Terminate,
    /// Time has passed ([`crate::Agent::next_deadline`]).
    Tick,
}

/// What only a plugin sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The pod starts without network policies: they are to be enforced, and no agent is on the node.
    NoPolicyAgent,
}

/// Answer to an ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddReply {
    /// The address and where it is.
    pub allocation: Allocation,
    /// Source NAT is done elsewhere.
    pub external_snat: bool,
    /// CIDRs of the VPC; with source NAT on, the exclusions after them.
    pub vpc_cidrs: Vec<Ipv4Net>,
}

/// Answer to a DEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DelReply {
    /// The sandbox had this address; it rests now.
    Released(Allocation),
    /// The sandbox keeps this address: another ADD was given it too.
    Kept(Allocation),
    /// The agent knows no such sandbox.
    UnknownPod,
}

/// The answer to one ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An ADD got its address.
    Added(AddReply),
    /// A DEL is done.
    Deleted(DelReply),
    /// An ADD gets none, and why.
    Refused(Refusal),
    /// Whether ADD can be served.
    Status(Box<Readiness>),
    /// What a sandbox has.
    Found(Option<Allocation>),
    /// A GC is done: leases that have ended.
    Collected(Vec<Held>),
}

/// What should now happen in the world.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answer a caller.
    Reply {
        /// Whom.
        ticket: Ticket,
        /// What.
        outcome: Outcome,
    },
    /// Ask the cloud; its answer comes back as [`Input::CloudDone`].
    Cloud {
        /// Number of the call.
        op: OpId,
        /// What to ask.
        call: CloudCall,
    },
    /// Look at the host; comes back as [`Input::HostObserved`].
    ObserveHost {
        /// Number of the look.
        op: OpId,
    },
    /// Change the host, in this order; comes back as [`Input::HostApplied`].
    ApplyHost {
        /// Number of the change.
        op: OpId,
        /// What to do.
        ops: Vec<HostOp>,
    },
    /// Remove these links together, each only if its alias says that it is its owner's; comes back as [`Input::LinksRemoved`]. At most
    /// one removal is under way.
    RemoveLinks {
        /// Number of the removal.
        op: OpId,
        /// Which.
        links: Vec<DoomedLink>,
    },
    /// Write the checkpoint; comes back as [`Input::CheckpointWritten`]. At most one is under way.
    WriteCheckpoint {
        /// Its number.
        generation: Generation,
        /// What it says beyond the write before it.
        update: Update,
    },
    /// Read the metadata of the node's ENIs; comes back as [`Input::MetadataRead`]. At most one reading is under way.
    ReadMetadata {
        /// Number of the reading.
        op: OpId,
    },
    /// Have the kernel forget every tracked connection from or to these addresses (in any zone), so that none of a former pod
    /// reaches the next one; comes back as [`Input::FlowsFlushed`].
    FlushFlows {
        /// Number of the flush.
        op: OpId,
        /// Whose.
        addresses: Vec<Ipv4Addr>,
    },
    /// The node can serve pods: tell the container runtime (write the conflist). Said once.
    Ready,
    /// Tell people.
    Say(Notice),
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who follow along.
    Debug,
    /// The ordinary course of things.
    Info,
    /// Not as it should be; the agent copes.
    Warn,
    /// Someone should look.
    Error,
}

/// Something worth telling people, as a value; its words are its `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The pool asked for addresses.
    Growing {
        /// What was asked, in words.
        what: String,
        /// Pods that wait.
        waiting: usize,
    },
    /// Addresses have come.
    Grown {
        /// ENI they are on.
        eni: EniId,
        /// How many.
        count: usize,
    },
    /// An ENI can carry pods.
    EniReady {
        /// Which.
        eni: EniId,
        /// Its hardware address.
        mac: Mac,
    },
    /// An ENI is given back.
    EniReleased {
        /// Which.
        eni: EniId,
    },
    /// Positions of an ENI were given back.
    SlotsReleased {
        /// Of which ENI.
        eni: EniId,
        /// Which.
        slots: Vec<Slot>,
    },
    /// Positions stay although they were to be given back.
    SlotsKept {
        /// Of which ENI.
        eni: EniId,
        /// How many.
        count: usize,
        /// Why.
        why: String,
    },
    /// EC2 has said what an instance of this type may hold.
    LimitsLearned {
        /// ENIs.
        max_enis: u32,
        /// Secondary positions of each.
        slots_per_eni: u32,
        /// Prefixes can be had.
        prefixes: bool,
    },
    /// An ENI stays although it was to be given back.
    EniKept {
        /// Which.
        eni: EniId,
        /// Why.
        why: String,
    },
    /// An ENI that a lost node of the cluster left behind is deleted.
    LeakedDeleted {
        /// Which.
        eni: EniId,
    },
    /// An ENI that was made for this node and never attached is deleted.
    StrayFound {
        /// Which.
        eni: EniId,
    },
    /// A call to the cloud failed.
    CloudFailed {
        /// What was asked, in words.
        what: String,
        /// What came back.
        failure: CloudFailure,
        /// When it is tried again, in milliseconds.
        retry_in: Option<u64>,
    },
    /// The host could not be looked at or changed.
    HostFailed {
        /// What was said.
        error: String,
    },
    /// The host was changed by the agent outside a pod's ADD or DEL.
    HostRepaired {
        /// Objects that were changed.
        subjects: Vec<String>,
    },
    /// The kernel could not forget the tracked connections of addresses that have rested.
    FlowsKept {
        /// How many addresses.
        addresses: usize,
        /// What was said.
        error: String,
        /// When it is tried again.
        retry_in: Millis,
    },
    /// Addresses are free although the kernel still tracks connections of their former pods.
    FlowsRemain {
        /// Which.
        addresses: Vec<Ipv4Addr>,
        /// After how long.
        after: Millis,
    },
    /// Links of sandboxes that have ended could not be removed.
    LinksKept {
        /// How many were to go.
        links: usize,
        /// What was said.
        error: String,
    },
    /// The checkpoint could not be written.
    CheckpointFailed {
        /// What was said.
        error: String,
    },
    /// A lease without a sandbox was found and ended.
    LeasePruned {
        /// Whose.
        key: SandboxKey,
        /// Its address.
        address: Ipv4Addr,
        /// How it was known.
        why: &'static str,
    },
    /// Rules of an address that belongs to no pod were found; they are removed.
    TiesOfNobody {
        /// Which address.
        address: Ipv4Addr,
        /// How it was known.
        why: &'static str,
    },
    /// A link that no lease was about has a live sandbox's address routed to it: it is a lease again.
    LeaseAdopted {
        /// Whose, as the link says.
        key: SandboxKey,
        /// The address.
        address: Ipv4Addr,
        /// The link.
        link: LinkName,
    },
    /// A pod's link that no lease is about. It is left alone: its sandbox may live.
    LinkOfNobody {
        /// Which.
        link: LinkName,
        /// Whose it says it is.
        owner: Option<String>,
        /// An address that is routed to it.
        routed: Option<Ipv4Addr>,
    },
    /// A restored lease's address is on no ENI that is known; it is kept.
    Unbacked {
        /// Whose.
        key: SandboxKey,
        /// Its address.
        address: Ipv4Addr,
    },
    /// An ENI is for something else now.
    RoleChanged {
        /// Which.
        eni: EniId,
        /// For what.
        role: EniRole,
    },
    /// Prefixes were asked for, and the pool holds single addresses.
    WithoutPrefixes {
        /// Why.
        why: String,
    },
    /// The metadata could not be read.
    MetadataUnread {
        /// What was said.
        error: String,
    },
    /// What EC2, the kernel and the books say does not agree; nothing was taken away.
    Disagreement {
        /// About what, in words.
        what: String,
    },
    /// Something about where ENIs are made.
    Place(PlaceNews),
    /// An ADD was refused.
    Refused {
        /// Whose.
        key: SandboxKey,
        /// Its pod.
        pod: PodRef,
        /// Why.
        refusal: Refusal,
    },
    /// A pod starts although something is amiss.
    Reported {
        /// Which sandbox.
        key: SandboxKey,
        /// Its pod.
        pod: PodRef,
        /// What.
        report: Report,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPolicyAgent => {
                "starts without network policies: NETWORK_POLICY_ENFORCING_MODE asks for them and no network policy agent is on the \
                 node; run the agent, or unset the mode"
            }
        })
    }
}

impl Notice {
    /// How much it matters.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Growing { .. } | Self::Grown { .. } | Self::EniReady { .. } | Self::EniReleased { .. } => Level::Info,
            Self::RoleChanged { .. } | Self::SlotsReleased { .. } | Self::LimitsLearned { .. } => Level::Info,
            Self::SlotsKept { .. } => Level::Info,
            Self::MetadataUnread { .. }
            | Self::WithoutPrefixes { .. }
            | Self::LinksKept { .. }
            | Self::FlowsKept { .. }
            | Self::FlowsRemain { .. } => Level::Warn,
            Self::HostRepaired { .. } | Self::LeasePruned { .. } | Self::StrayFound { .. } => Level::Info,
            Self::TiesOfNobody { .. } => Level::Info,
            Self::LeaseAdopted { .. } | Self::LinkOfNobody { .. } => Level::Warn,
            Self::LeakedDeleted { .. } => Level::Info,
            Self::Reported { .. }
            | Self::EniKept { .. }
            | Self::Refused { .. }
            | Self::Unbacked { .. }
            | Self::Disagreement { .. } => Level::Warn,
            Self::CloudFailed { .. } | Self::HostFailed { .. } | Self::CheckpointFailed { .. } => Level::Error,
            Self::Place(news) => news.level(),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Growing { what, waiting } => write!(f, "{what} ({waiting} pods wait)"),
            Self::Grown { eni, count } => write!(f, "{count} addresses came to {eni}"),
            Self::EniReady { eni, mac } => write!(f, "{eni} ({mac}) can carry pods"),
            Self::EniReleased { eni } => write!(f, "{eni} was given back"),
            Self::SlotsReleased { eni, slots } => {
                let names: Vec<String> = slots.iter().map(ToString::to_string).collect();
                write!(f, "given back from {eni}: {}", names.join(", "))
            }
            Self::SlotsKept { eni, count, why } => write!(f, "{count} positions of {eni} stay: {why}"),
            Self::LimitsLearned { max_enis, slots_per_eni, prefixes } => {
                let prefixes = if *prefixes { "prefixes too" } else { "no prefixes" };
                write!(f, "EC2 says: {max_enis} ENIs with {slots_per_eni} secondary addresses each, {prefixes}")
            }
            Self::LeakedDeleted { eni } => {
                write!(f, "{eni}, which a lost node of the cluster left behind, was deleted")
            }
            Self::StrayFound { eni } => write!(f, "{eni} was made for this node and never attached; it is deleted"),
            Self::EniKept { eni, why } => write!(f, "{eni} stays: {why}"),
            Self::CloudFailed { what, failure, retry_in: Some(ms) } => {
                write!(f, "{what} failed: {failure}; tried again in {:.1} s", *ms as f64 / 1000.0)
            }
            Self::CloudFailed { what, failure, retry_in: None } => write!(f, "{what} failed: {failure}"),
            Self::HostFailed { error } => write!(f, "host network: {error}"),
            Self::HostRepaired { subjects } => write!(f, "host network set: {}", subjects.join(", ")),
            Self::FlowsKept { addresses, error, retry_in } => write!(
                f,
                "tracked connections of {addresses} rested addresses could not be forgotten: {error}; tried again in {retry_in}"
            ),
            Self::FlowsRemain { addresses, after } => {
                let addresses: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
                let addresses = addresses.join(", ");
                write!(
                    f,
                    "{addresses}: free after {after} although connections of former pods are still tracked; their packets may reach the next pods"
                )
            }
            Self::LinksKept { links, error } => write!(
                f,
                "{links} links of pods that have ended could not be removed; they go with the pods' network namespaces: {error}"
            ),
            Self::CheckpointFailed { error } => write!(f, "the checkpoint could not be written: {error}"),
            Self::LeasePruned { key, address, why } => write!(f, "lease of {address} to {key} ended: {why}"),
            Self::TiesOfNobody { address, why } => {
                write!(f, "rules of {address} belong to no pod and are removed: {why}")
            }
            Self::LeaseAdopted { key, address, link } => {
                write!(
                    f,
                    "{address} is routed to {link} of {key}, of which the books knew nothing: it is kept for that sandbox"
                )
            }
            Self::LinkOfNobody { link, owner, routed } => {
                write!(f, "link {link} belongs to no lease")?;
                if let Some(owner) = owner {
                    write!(f, " (its alias is `{owner}`)")?;
                }
                if let Some(address) = routed {
                    write!(f, ", and {address} is routed to it")?;
                }
                f.write_str(
                    "; it is left alone, since its sandbox may live; it goes with the sandbox's network namespace",
                )
            }
            Self::Unbacked { key, address } => {
                write!(f, "{address} belongs to {key} but is on no ENI that is known; it is kept")
            }
            Self::RoleChanged { eni, role: EniRole::Pods } => write!(f, "{eni} takes new pods"),
            Self::RoleChanged { eni, role: EniRole::Retired(why) } => {
                let why = match why {
                    Retired::PrimaryOfCustomNetworking => "it is the primary one, and custom networking is on",
                    Retired::OutsideEniConfig => "it is in another subnet than the node's ENIConfig names",
                    Retired::SubnetExcluded => "a tag on its subnet keeps pods out",
                    Retired::NotOurs => "it is not ours to use",
                };
                write!(f, "{eni} takes no new pods: {why}; those it has stay")
            }
            Self::WithoutPrefixes { why } => write!(f, "ENABLE_PREFIX_DELEGATION has no effect: {why}"),
            Self::MetadataUnread { error } => write!(f, "the metadata of the ENIs could not be read: {error}"),
            Self::Disagreement { what } => f.write_str(what),
            Self::Place(news) => news.fmt(f),
            Self::Refused { key, refusal, .. } => write!(f, "no address for {key}: {refusal}"),
            Self::Reported { key, report, .. } => write!(f, "{key}: {report}"),
        }
    }
}

/// What the next deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// A waiting ADD must be answered.
    AddDeadline,
    /// An address has rested.
    RestEnds,
    /// Something that failed may be tried again.
    RetryDue,
    /// The link of an attached ENI is looked for again.
    LookForLink,
    /// A restored lease is old enough to be judged.
    JudgeLease,
    /// The host is compared with what it should be.
    Audit,
    /// Surplus, or an idle ENI, is old enough to be given back.
    SurplusDue,
    /// The pacer lets the next call through.
    PacerAdmits,
    /// A call nobody answers counts as lost.
    CallOverdue,
    /// ENIs of lost nodes are looked for.
    LeakSweep,
}
