//! Faults as people see them.

use serde::{Deserialize, Serialize};

use super::Fault;

/// Where a fault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultState {
    /// It holds.
    Active,
    /// It was lifted.
    Lifted,
    /// It happened, once.
    Happened,
}

/// A fault of a running lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// Its number: what lifting takes, and what calls are marked with.
    pub id: u64,
    /// What goes wrong.
    pub fault: Fault,
    /// Where it stands.
    pub state: FaultState,
    /// When it began, in milliseconds since the lab started.
    pub since_ms: u64,
    /// When it was lifted.
    pub until_ms: Option<u64>,
    /// What it has touched so far: calls, packets, stops, kernel objects. `None`: there is nothing to count.
    pub hits: Option<u64>,
    /// What there is to say beside that.
    pub note: Option<String>,
}
