//! What happens to a world from outside.

use lab_cloud::CloudFault;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::world::NodeAt;

/// An act and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", expecting = "an act: a table with at-ms, do and what that act needs")]
pub struct Timed {
    /// When: milliseconds since the world began.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub act: Act,
}

/// One thing that happens. Where it has no object (the pod is gone, the daemon is dead already) nothing happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "do",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    expecting = "an act: a table with at-ms, do and what that act needs"
)]
pub enum Act {
    /// A pod is bound to a node.
    Add {
        /// Where.
        node: NodeAt,
        /// Its name.
        pod: String,
    },
    /// A pod is deleted.
    Delete {
        /// Where.
        node: NodeAt,
        /// Its name.
        pod: String,
    },
    /// A pod's sandbox ends without a DEL; kubelet makes another.
    LoseSandbox {
        /// Where.
        node: NodeAt,
        /// Its name.
        pod: String,
    },
    /// The runtime asks again for the sandbox a pod has.
    AddAgain {
        /// Where.
        node: NodeAt,
        /// Its name.
        pod: String,
    },
    /// The runtime deletes the sandbox before the one a pod has, once more.
    DeleteOld {
        /// Where.
        node: NodeAt,
        /// Its name.
        pod: String,
    },
    /// The runtime deletes once more a sandbox that is long gone, whose pod may be gone too: it does so until it has forgotten it.
    DeleteGone {
        /// Where.
        node: NodeAt,
        /// Which of the sandboxes that went lately, by number; taken modulo how many there are.
        pick: u32,
    },
    /// The runtime collects garbage: it lists the sandboxes it has and calls the plugin.
    Collect {
        /// Where.
        node: NodeAt,
        /// How long it takes from the list to the daemon.
        late_ms: u64,
    },
    /// The runtime asks whether ADD can be served (STATUS), and whether a pod is as it should be (CHECK).
    Inquire {
        /// Where.
        node: NodeAt,
        /// Which pod, by name.
        pod: String,
    },
    /// Plugins fail after they were given an address, and give it back.
    FailWiring {
        /// Where.
        node: NodeAt,
        /// How many of the next ones.
        times: u32,
    },
    /// The daemon is killed, and started again later.
    Kill {
        /// Where.
        node: NodeAt,
        /// At which of its effects from now on, counted from 0.
        #[serde(default)]
        after: u32,
        /// Before or after that effect.
        #[serde(default)]
        when: Kill,
        /// For how long it is away.
        away_ms: u64,
    },
    /// The daemon is asked to end, ends within the time a node gives it, and is started again later.
    Terminate {
        /// Where.
        node: NodeAt,
        /// For how long it is away.
        away_ms: u64,
    },
    /// The machine starts anew.
    Reboot {
        /// Where.
        node: NodeAt,
    },
    /// The calendar jumps.
    Clock {
        /// Ahead, or back if negative.
        by_ms: i64,
    },
    /// Something is wrong with EC2 or IMDS for a while.
    Fault {
        /// What. Nodes are `node-1`, `node-2` …
        fault: CloudFault,
        /// For how long.
        for_ms: u64,
    },
    /// Somebody else changes something in EC2.
    Outside {
        /// Of which node's things.
        node: NodeAt,
        /// What.
        what: Outsider,
        /// Which of the things that are there, by number; taken modulo how many there are.
        pick: u32,
    },
    /// The settings change.
    Settings {
        /// Where.
        node: NodeAt,
        /// What they are from now on.
        settings: Box<Settings>,
    },
    /// The API server goes away or comes back.
    Api {
        /// It answers.
        answers: bool,
    },
    /// The node object changes.
    NodeObject {
        /// Which.
        node: NodeAt,
        /// It takes no new pods.
        unschedulable: bool,
        /// Pods it may run, if it says so.
        max_pods: Option<u32>,
    },
    /// The disk takes nothing for a while.
    DiskFull {
        /// Where.
        node: NodeAt,
        /// For how long.
        for_ms: u64,
    },
    /// The checkpoint is lost: somebody cleared the disk.
    DiskLost {
        /// Where.
        node: NodeAt,
    },
    /// The host's network can not be changed, or not even looked at, for a while.
    HostFails {
        /// Where.
        node: NodeAt,
        /// How much of it.
        #[serde(default)]
        how: Blind,
        /// For how long.
        for_ms: u64,
    },
    /// Somebody removes rules from the host: every so many of those the daemon sets.
    RulesLost {
        /// Where.
        node: NodeAt,
        /// Each of them if 1, every other one if 2, and so on.
        every: u32,
    },
}

/// On which side of an effect a daemon dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kill {
    /// It has not come about.
    #[default]
    Before,
    /// It has been begun: sent, handed to the kernel. Nobody will hear how it went.
    Begun,
    /// It is done, and the agent has not heard of it.
    Done,
}

/// How much of the host's network fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blind {
    /// It can be neither looked at nor changed.
    #[default]
    Whole,
    /// It can be looked at and not changed.
    Changes,
}

/// What somebody else does in EC2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outsider {
    /// Takes an address or prefix from an ENI.
    TakeAddress,
    /// Detaches and deletes an ENI that is not the primary one.
    TakeEni,
    /// Takes the tags from an ENI.
    TakeTags,
    /// Gives an ENI another address.
    GiveAddress,
    /// Gives an ENI other security groups.
    ChangeGroups,
}

impl Act {
    /// The node it is about, if it is about one.
    pub fn nodes(&self) -> impl Iterator<Item = NodeAt> {
        self.node().into_iter()
    }

    /// The node it is about.
    #[must_use]
    pub fn node(&self) -> Option<NodeAt> {
        self.clone().node_mut().map(|node| *node)
    }

    /// The pod it is about, by name.
    #[must_use]
    pub fn pod(&self) -> Option<&str> {
        match self {
            Self::Add { pod, .. }
            | Self::Delete { pod, .. }
            | Self::LoseSandbox { pod, .. }
            | Self::AddAgain { pod, .. }
            | Self::DeleteOld { pod, .. }
            | Self::Inquire { pod, .. } => Some(pod),
            _ => None,
        }
    }

    /// The node it is about, to change.
    pub fn node_mut(&mut self) -> Option<&mut NodeAt> {
        match self {
            Self::Add { node, .. }
            | Self::Delete { node, .. }
            | Self::LoseSandbox { node, .. }
            | Self::AddAgain { node, .. }
            | Self::DeleteOld { node, .. }
            | Self::DeleteGone { node, .. }
            | Self::Collect { node, .. }
            | Self::Inquire { node, .. }
            | Self::FailWiring { node, .. }
            | Self::Kill { node, .. }
            | Self::Terminate { node, .. }
            | Self::Reboot { node }
            | Self::Outside { node, .. }
            | Self::Settings { node, .. }
            | Self::NodeObject { node, .. }
            | Self::DiskFull { node, .. }
            | Self::DiskLost { node }
            | Self::HostFails { node, .. }
            | Self::RulesLost { node, .. } => Some(node),
            Self::Clock { .. } | Self::Fault { .. } | Self::Api { .. } => None,
        }
    }
}
