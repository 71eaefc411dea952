//! What can be mixed into a history.

use serde::{Deserialize, Serialize};

/// A kind of trouble. Each history has a random part of them: some faults hide others, so that all of them at once find less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Many pods at once.
    Bursts,
    /// Sandboxes are lost, made anew, asked for twice, deleted twice and too late.
    OddSandboxes,
    /// Calls to EC2 take longer, at times by much: answers come in another order.
    Latency,
    /// EC2 takes few calls.
    Throttling,
    /// Calls fail with nothing done.
    ErrorsBefore,
    /// Calls are carried out and an error is answered.
    ErrorsAfter,
    /// Calls are carried out and nobody hears the answer.
    LostAnswers,
    /// The node's role may not do something, for a while.
    Denials,
    /// EC2 answers from copies that are a moment old.
    Lagging,
    /// IMDS shows what was.
    StaleMetadata,
    /// IMDS shows less than there is.
    PartialMetadata,
    /// IMDS lists in another order each time.
    ReorderedMetadata,
    /// IMDS refuses, fails or is slow.
    MetadataAway,
    /// Attachments get stuck, detaching takes long.
    SlowDevices,
    /// Subnets are full or fragmented.
    SubnetPressure,
    /// The daemon is killed at any of its effects.
    Kills,
    /// The machine starts anew.
    Reboots,
    /// The calendar jumps.
    ClockJumps,
    /// Somebody else changes ENIs and addresses.
    Outsiders,
    /// Settings change while the daemon runs.
    Settings,
    /// Prefixes are switched on or off.
    ModeSwitches,
    /// The API server is away.
    ApiAway,
    /// The node object changes: taints, pods it may run.
    NodeNews,
    /// The disk takes nothing.
    DiskTrouble,
    /// The host's network can not be looked at or changed, or loses rules.
    HostTrouble,
    /// More than one node in the subnet.
    ManyNodes,
    /// ENIs in another subnet than the node's.
    CustomNetworking,
    /// Most pods of a node go, and later others come: what was fetched is given back, and fetched again.
    Tides,
    /// The runtime asks more than ADD and DEL (STATUS, CHECK, GC), and plugins fail after they were given an address.
    Verbs,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::Bursts,
        Self::OddSandboxes,
        Self::Latency,
        Self::Throttling,
        Self::ErrorsBefore,
        Self::ErrorsAfter,
        Self::LostAnswers,
        Self::Denials,
        Self::Lagging,
        Self::StaleMetadata,
        Self::PartialMetadata,
        Self::ReorderedMetadata,
        Self::MetadataAway,
        Self::SlowDevices,
        Self::SubnetPressure,
        Self::Kills,
        Self::Reboots,
        Self::ClockJumps,
        Self::Outsiders,
        Self::Settings,
        Self::ModeSwitches,
        Self::ApiAway,
        Self::NodeNews,
        Self::DiskTrouble,
        Self::HostTrouble,
        Self::ManyNodes,
        Self::CustomNetworking,
        Self::Tides,
        Self::Verbs,
    ];
}

impl std::fmt::Display for Feature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// A text that names no kind of trouble.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of trouble; there are: {all}", all = Feature::ALL.map(|feature| feature.to_string()).join(", "))]
pub struct NoFeature(String);

impl std::str::FromStr for Feature {
    type Err = NoFeature;

    fn from_str(text: &str) -> Result<Self, NoFeature> {
        Self::ALL.into_iter().find(|feature| feature.to_string() == text).ok_or_else(|| NoFeature(text.to_owned()))
    }
}
