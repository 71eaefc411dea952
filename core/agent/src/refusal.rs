//! Why an ADD gets no address: a cause a person understands, with its numbers.

use std::fmt;

use vpc_model::Millis;

use crate::CloudFailure;

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
    /// Every address the instance type can have is taken.
    Full {
        /// ENIs the node has.
        enis: u32,
        /// ENIs it may have.
        max_enis: u32,
        /// Addresses pods can have.
        total: u32,
        /// Addresses pods have.
        held: u32,
        /// Addresses that rest.
        cooling: u32,
        /// When the next one has rested, if any rests.
        next_free_in: Option<Millis>,
        /// How long this pod waited.
        waited: Millis,
    },
    /// The cloud gives none: why, as it said.
    Cloud {
        /// Its last word.
        failure: CloudFailure,
        /// When it is asked again.
        retry_in: Millis,
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
    /// When asking again may help; `None` = asking again does not help by itself.
    #[must_use]
    pub fn retry_after(&self) -> Option<Millis> {
        match self {
            Self::Warming { .. } => Some(Millis::seconds(1)),
            Self::Full { next_free_in, .. } => Some(next_free_in.unwrap_or(Millis::seconds(10))),
            Self::Cloud { retry_in, .. } => Some(*retry_in),
            Self::Host { .. } | Self::Checkpoint { .. } => Some(Millis::seconds(5)),
            Self::ShuttingDown => Some(Millis::seconds(2)),
            Self::Cancelled => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warming { coming, waiting, waited } => {
                write!(f, "no address within {waited}: {coming} are on their way, {waiting} pods wait")
            }
            Self::Full { enis, max_enis, total, held, cooling, next_free_in, waited } => {
                write!(f, "no address within {waited}: all {total} addresses of the node are taken ")?;
                write!(f, "({held} by pods, {cooling} resting after use) on {enis} of {max_enis} ENIs")?;
                match next_free_in {
                    Some(span) => write!(f, "; the next one has rested in {span}"),
                    None => f.write_str("; one comes free when a pod ends, or use a larger instance type"),
                }
            }
            Self::Cloud { failure, retry_in, waited } => {
                write!(f, "no address within {waited}: {failure}; EC2 is asked again in {retry_in}")
            }
            Self::Host { error } => write!(f, "the host's network is not set up: {error}"),
            Self::Checkpoint { error } => write!(f, "the assignment could not be recorded: {error}"),
            Self::ShuttingDown => f.write_str("the node daemon is ending; it answers again after its restart"),
            Self::Cancelled => f.write_str("the sandbox was deleted while it waited for an address"),
        }
    }
}
