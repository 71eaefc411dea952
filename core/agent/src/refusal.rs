//! Why an ADD gets no address: a cause a person understands, with its numbers and the way out.

use std::fmt;

use vpc_model::{Millis, SubnetId};

use crate::{CloudFailure, CloudUse, NoPlace};

/// A typed cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The pool was still being filled when the wait ended.
    Warming {
        /// Addresses asked for and not yet there.
        coming: u32,
        /// Pods that wait.
        waiting: u32,
        /// How long this pod waited.
        waited: Millis,
    },
    /// The node takes no pods, so none was kept ready: what this pod needs was not there when the wait ended.
    NotSchedulable {
        /// Addresses asked for and not yet there.
        coming: u32,
        /// Pods that wait.
        waiting: u32,
        /// How long this pod waited.
        waited: Millis,
    },
    /// Every address the instance can have belongs to a pod.
    Full {
        /// ENIs on the instance.
        enis: u32,
        /// ENIs it may have.
        max_enis: u32,
        /// Addresses pods can have.
        total: u32,
        /// Addresses pods have.
        held: u32,
        /// ENIs that take no new pods and can not leave before theirs have ended.
        retired: u32,
        /// How long this pod waited.
        waited: Millis,
    },
    /// Every address that no pod has rests after its last one.
    Cooling {
        /// Addresses pods can have.
        total: u32,
        /// Addresses pods have.
        held: u32,
        /// Addresses that rest.
        cooling: u32,
        /// When the next one has rested.
        next_free_in: Millis,
        /// How long this pod waited.
        waited: Millis,
    },
    /// Subnets have no free addresses.
    SubnetExhausted {
        /// Which.
        subnets: Vec<SubnetId>,
        /// When they are asked again.
        retry_in: Millis,
        /// How long this pod waited.
        waited: Millis,
    },
    /// Subnets have no free /28, and a single address did not come in time either.
    Fragmented {
        /// Which.
        subnets: Vec<SubnetId>,
        /// When they are asked again.
        retry_in: Millis,
        /// How long this pod waited.
        waited: Millis,
    },
    /// EC2 asks for fewer calls.
    Throttled {
        /// Its last word.
        failure: CloudFailure,
        /// When it is asked again.
        retry_in: Millis,
        /// How long this pod waited.
        waited: Millis,
    },
    /// The node's role may not do what is needed.
    Denied {
        /// The IAM action (`ec2:CreateNetworkInterface`).
        action: String,
        /// EC2's word.
        failure: CloudFailure,
        /// When it is asked again.
        retry_in: Millis,
        /// How long this pod waited.
        waited: Millis,
    },
    /// The cloud gives none, for another reason: why, as it said.
    Cloud {
        /// Its last word.
        failure: CloudFailure,
        /// When it is asked again.
        retry_in: Millis,
        /// How long this pod waited.
        waited: Millis,
    },
    /// There is nowhere to make an ENI.
    NoPlace {
        /// Why.
        why: NoPlace,
        /// How long this pod waited.
        waited: Millis,
    },
    /// Since its start the daemon has not heard from EC2 what is on the node: what only the metadata show is given to nobody.
    Unconfirmed {
        /// Addresses that wait for EC2's word; 0 = the pool knows all that the metadata show, and waits for its word before it grows.
        addresses: u32,
        /// Its last word, if it said anything.
        failure: Option<CloudFailure>,
        /// How long this pod waited.
        waited: Millis,
    },
    /// The settings forbid to fetch more.
    CloudOff {
        /// How far EC2 may be used.
        allowed: CloudUse,
        /// Addresses pods can have.
        total: u32,
        /// Addresses pods have.
        held: u32,
        /// Addresses that rest.
        cooling: u32,
        /// How long this pod waited.
        waited: Millis,
    },
    /// The host's network can not be set up.
    Host {
        /// What was said.
        error: String,
    },
    /// The promise could not be put on disk.
    Checkpoint {
        /// What was said.
        error: String,
    },
    /// The daemon is ending.
    ShuttingDown,
    /// A DEL for the same sandbox came while it waited.
    Cancelled,
}

impl Refusal {
    /// How long the pod waited, where it did.
    #[must_use]
    pub fn waited(&self) -> Option<Millis> {
        match self {
            Self::Warming { waited, .. }
            | Self::NotSchedulable { waited, .. }
            | Self::Full { waited, .. }
            | Self::Cooling { waited, .. }
            | Self::SubnetExhausted { waited, .. }
            | Self::Fragmented { waited, .. }
            | Self::Throttled { waited, .. }
            | Self::Denied { waited, .. }
            | Self::Cloud { waited, .. }
            | Self::NoPlace { waited, .. }
            | Self::Unconfirmed { waited, .. }
            | Self::CloudOff { waited, .. } => Some(*waited),
            Self::Host { .. } | Self::Checkpoint { .. } | Self::ShuttingDown | Self::Cancelled => None,
        }
    }

    /// When asking again may help; `None` = asking again does not help by itself.
    #[must_use]
    pub fn retry_after(&self) -> Option<Millis> {
        match self {
            Self::Warming { .. } | Self::NotSchedulable { .. } => Some(Millis::seconds(1)),
            Self::Full { .. } | Self::CloudOff { .. } => Some(Millis::seconds(10)),
            Self::Cooling { next_free_in, .. } => Some(*next_free_in),
            Self::NoPlace { why: NoPlace::AllRefused { retry_in, .. }, .. } => Some(*retry_in),
            Self::NoPlace { why: NoPlace::Listing, .. } => Some(Millis::seconds(1)),
            Self::NoPlace { .. } => Some(Millis::seconds(15)),
            Self::SubnetExhausted { retry_in, .. }
            | Self::Fragmented { retry_in, .. }
            | Self::Throttled { retry_in, .. }
            | Self::Denied { retry_in, .. }
            | Self::Cloud { retry_in, .. } => Some(*retry_in),
            Self::Host { .. } | Self::Checkpoint { .. } | Self::Unconfirmed { .. } => Some(Millis::seconds(5)),
            Self::ShuttingDown => Some(Millis::seconds(2)),
            Self::Cancelled => None,
        }
    }

    /// The cause in one word of CamelCase: the reason of events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Warming { .. } => "AddressesOnTheirWay",
            Self::NotSchedulable { .. } => "NodeNotSchedulable",
            Self::Full { .. } => "AddressesUsedUp",
            Self::Cooling { .. } => "AddressesResting",
            Self::SubnetExhausted { .. } => "SubnetExhausted",
            Self::Fragmented { .. } => "SubnetFragmented",
            Self::Throttled { .. } => "CallsThrottled",
            Self::Denied { .. } => "CallDenied",
            Self::Cloud { .. } => "CallFailed",
            Self::NoPlace { .. } => "NoPlaceForEni",
            Self::Unconfirmed { .. } => "AddressesUnconfirmed",
            Self::CloudOff { .. } => "CallsForbidden",
            Self::Host { .. } => "HostNotReady",
            Self::Checkpoint { .. } => "CheckpointFailed",
            Self::ShuttingDown => "DaemonEnding",
            Self::Cancelled => "SandboxDeleted",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = NoneWithin(self.waited().unwrap_or_default());
        match self {
            Self::Warming { coming, waiting, .. } => {
                write!(f, "{none}: {}, {waiting} pods wait", OnTheirWay(*coming))
            }
            Self::NotSchedulable { coming, waiting, .. } => {
                write!(f, "{none}: the node takes no pods (cordoned), so none are kept ready; ")?;
                write!(f, "{} for the {waiting} pods that wait here all the same", OnTheirWay(*coming))
            }
            Self::Full { enis, max_enis, total, held, retired, .. } => {
                write!(f, "{none}: all {total} addresses of the node are taken ")?;
                write!(f, "({held} by pods) on {enis} of {max_enis} ENIs; ")?;
                if *retired > 0 {
                    write!(
                        f,
                        "{retired} of them take no new pods (another subnet, or excluded) and leave when theirs have ended; "
                    )?;
                }
                f.write_str(
                    "one comes free when a pod ends, or use a larger instance type (or MAX_ENI, where it is set)",
                )
            }
            Self::Cooling { total, held, cooling, next_free_in, .. } => {
                write!(f, "{none}: of the node's {total} addresses {held} belong to pods and ")?;
                write!(f, "{cooling} rest after use; the next one has rested in {next_free_in}")
            }
            Self::SubnetExhausted { subnets, retry_in, .. } => {
                write!(f, "{none}: no free addresses in {}; asked again in {retry_in}", list(subnets))?;
                f.write_str(
                    " (free some, or give the node another subnet: tag kubernetes.io/role/cni=1, or an ENIConfig)",
                )
            }
            Self::Fragmented { subnets, retry_in, .. } => {
                write!(f, "{none}: no free /28 in {}; asked again in {retry_in}", list(subnets))?;
                f.write_str(" (reserve a block of the subnet for prefixes, or use another subnet)")
            }
            Self::Denied { action, failure, retry_in, .. } => {
                write!(f, "{none}: the node's role may not {action}: {failure}; ")?;
                write!(f, "tried again in {retry_in}")
            }
            Self::Throttled { failure, retry_in, .. } | Self::Cloud { failure, retry_in, .. } => {
                write!(f, "{none}: {failure}; EC2 is asked again in {retry_in}")
            }
            Self::NoPlace { why, .. } => write!(f, "{none}: no ENI can be made: {why}"),
            Self::Unconfirmed { addresses, failure, .. } => {
                write!(f, "{none}: EC2 has not said since the daemon's start what is on the node; ")?;
                match addresses {
                    0 => f.write_str("before that nothing is fetched")?,
                    _ => write!(f, "{addresses} addresses that only the metadata show wait for its word")?,
                }
                match failure {
                    Some(failure) => write!(f, " ({failure})"),
                    None => Ok(()),
                }
            }
            Self::CloudOff { allowed, total, held, cooling, .. } => {
                let setting = match allowed {
                    CloudUse::Off => "VPC_CNI_EC2=off or ENABLE_IMDS_ONLY_MODE",
                    _ => "DISABLE_NETWORK_RESOURCE_PROVISIONING",
                };
                write!(f, "{none}: all {total} addresses of the node are taken ({held} by pods, ")?;
                write!(
                    f,
                    "{cooling} resting), and the settings forbid to fetch more ({setting}): add some from outside"
                )
            }
            Self::Host { error } => write!(f, "the host's network is not set up: {error}"),
            Self::Checkpoint { error } => write!(f, "the assignment could not be recorded: {error}"),
            Self::ShuttingDown => f.write_str("the node daemon is ending; it answers again after its restart"),
            Self::Cancelled => f.write_str("the sandbox was deleted while it waited for an address"),
        }
    }
}

/// That there is no address. What was asked without waiting tells no wait.
struct NoneWithin(Millis);

impl fmt::Display for NoneWithin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Millis(0) => f.write_str("no address"),
            waited => write!(f, "no address within {waited}"),
        }
    }
}

/// So many addresses. Before the first of them is asked for, host and cloud are looked at, or something else has to leave.
struct OnTheirWay(u32);

impl fmt::Display for OnTheirWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("room for more is being made (the host, subnets, places of ENIs)"),
            coming => write!(f, "{coming} are on their way"),
        }
    }
}

fn list(subnets: &[SubnetId]) -> String {
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
