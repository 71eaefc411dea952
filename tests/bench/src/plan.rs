//! What is to be measured.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// The whole of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Who takes part, in turns.
    pub(crate) contestants: Vec<Contestant>,
    /// A daemon is there already, and this is its node. Otherwise the stub is started in a node made for it.
    pub(crate) daemon_is_here: bool,
    /// Pods that come one after the other.
    pub(crate) pods: usize,
    /// How many come at once, and how often.
    pub(crate) at_once: usize,
    pub(crate) rounds: usize,
    /// How long ADDs and DELs are counted.
    pub(crate) seconds: f64,
    /// Pods on the node when ADD is measured on a full one; 0: not measured.
    pub(crate) most_pods: usize,
}

/// A plugin, or the bare kernel.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    /// The plugin; for the bare kernel a program that does nothing.
    pub(crate) program: PathBuf,
    /// Its configuration, as a runtime hands it on; `None`: there is no plugin, and this process makes the links itself.
    pub(crate) config: Option<Value>,
    /// The rules and routes of the classic layout are its affair: it is measured on a full node too.
    pub(crate) grows: bool,
}

impl Plan {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        serde_json::from_str(text).context("the plan is not understood")
    }
}
