//! What the agent hears from Kubernetes, and what it tells people there.

use std::collections::BTreeMap;

use vpc_model::PodRef;

/// News from the API server. Each replaces what was known of its subject; none of them is ever waited for unless a setting needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterNews {
    /// Our node object.
    Node(NodeView),
    /// All ENIConfigs (only with custom networking).
    EniConfigs(Vec<EniConfig>),
    /// Pods bound to this node that want an address of it: not on the host's network, not finished.
    Pods(Vec<PodRef>),
    /// How many nodes the cluster has: read once after the start, to pace what all of them do.
    Nodes(u32),
    /// Whether the API server answers. While it does not, what was heard last holds.
    Reachable(bool),
}

/// What matters of a node object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// It bears the taint `node.kubernetes.io/unschedulable:NoSchedule`.
    pub unschedulable: bool,
    /// `status.capacity.pods`.
    pub max_pods: Option<u32>,
}

/// An ENIConfig as it is written: its texts are checked where they are used, so that a wrong one can be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EniConfig {
    /// Its name.
    pub name: String,
    /// `spec.subnet`; empty if there is none.
    pub subnet: String,
    /// `spec.securityGroups`.
    pub security_groups: Vec<String>,
}

/// An event for people who look at Kubernetes. Repeated ones are folded and rate-limited by who sends them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterEvent {
    /// What it is about.
    pub about: About,
    /// Whether something is wrong.
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// What was attempted (`ec2:CreateNetworkInterface`), or what the daemon does about it.
    pub action: String,
    /// What happened, and the way out.
    pub note: String,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// This node.
    Node,
    /// The daemon's own pod (the node, if that is not known).
    OwnPod,
    /// A pod of this node.
    Pod(PodRef),
}
