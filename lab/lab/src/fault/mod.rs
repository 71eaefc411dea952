//! What can be made to go wrong, in one list: with EC2 and IMDS, with nodes and their daemons, with their kernels, with the Kubernetes
//! API; and scenario files, which are faults with times.
//!
//! ```text
//!   words    error action=AttachNetworkInterface when=lost --+
//!   TOML     fault = "error", action = "..."                 +--kinds.rs: keys and values checked--> Fault
//!                                                                                                      |
//!   Cloud -> the model (lab-cloud); Node -> supervisor/faults.rs; Event -> happens once <--------------+
//! ```

mod kinds;
mod node;
mod ready;
mod report;
mod scenario;
mod seat;

use lab_cloud::CloudFault;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use kinds::{Form, Group, KINDS, Key, Kind, help};
pub use node::{CloudEvent, Endpoint, Flush, How, NodeFault};
pub use ready::{READY_SCENARIOS, ReadyScenario};
pub use report::{FaultReport, FaultState};
pub use scenario::{Deed, OtherDeed, Scenario, ScenarioError, Step, duration, play};
pub use seat::{ApiSeat, ApiServer};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fault {
    /// With EC2 or IMDS, until it is lifted.
    Cloud(CloudFault),
    /// With a node, or between it and others.
    Node(NodeFault),
    /// Something that somebody does to the cloud's objects from outside, once.
    Event(CloudEvent),
}

/// A fault as it was written can not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultSyntax {
    /// There is no such kind.
    #[error("there is no fault `{kind}`; there are: {known}")]
    Kind {
        /// What was written.
        kind: String,
        /// All kinds.
        known: String,
    },
    /// There is no such key.
    #[error("{kind}: there is no key `{key}`; {kind} takes {known}")]
    Key {
        /// The kind.
        kind: String,
        /// What was written.
        key: String,
        /// Its keys.
        known: String,
    },
    /// A key is missing.
    #[error("{kind}: `{key}` is missing: {about}")]
    Missing {
        /// The kind.
        kind: String,
        /// The key.
        key: String,
        /// What it is.
        about: String,
    },
    /// A value is not accepted.
    #[error("{kind}: {key}: `{value}` is not accepted: expected {expected}")]
    Value {
        /// The kind.
        kind: String,
        /// The key.
        key: String,
        /// What was written.
        value: String,
        /// What is accepted.
        expected: String,
    },
    /// Something that is not `key=value`.
    #[error("{kind}: `{word}`: expected KEY=VALUE; {kind} takes {known}")]
    Word {
        /// The kind.
        kind: String,
        /// What was written.
        word: String,
        /// Its keys.
        known: String,
    },
}

impl Fault {
    /// A fault as it is typed: its kind, and `key=value` for each key.
    ///
    /// # Errors
    /// [`FaultSyntax`] with what is accepted.
    pub fn from_words<S: AsRef<str>>(kind: &str, words: &[S]) -> Result<Self, FaultSyntax> {
        let known = Kind::named(kind)?;
        let mut map = Map::new();
        for word in words {
            let word = word.as_ref();
            let (key, value) = word.split_once('=').ok_or_else(|| FaultSyntax::Word {
                kind: kind.to_owned(),
                word: word.to_owned(),
                known: known.keys_text(),
            })?;
            map.insert(key.to_owned(), known.typed(key, value)?);
        }
        Self::from_map(kind, map)
    }

    /// A fault by its kind and the values of its keys.
    ///
    /// # Errors
    /// [`FaultSyntax`] with what is accepted.
    pub fn from_map(kind: &str, mut map: Map<String, Value>) -> Result<Self, FaultSyntax> {
        let known = Kind::named(kind)?;
        known.check(&mut map)?;
        map.insert("fault".to_owned(), Value::from(kind));
        let value = Value::Object(map);
        let read = match known.group {
            Group::Ec2 | Group::Imds => serde_json::from_value(value).map(Self::Cloud),
            Group::Node | Group::Kernel => serde_json::from_value(value).map(Self::Node),
            Group::Event => serde_json::from_value(value).map(Self::Event),
        };
        read.map_err(|e| FaultSyntax::Value {
            kind: kind.to_owned(),
            key: "its keys".to_owned(),
            value: e.to_string(),
            expected: known.keys_text(),
        })
    }

    /// Its kind and its keys, those left out not among them.
    fn map(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => Map::new(),
        }
    }

    /// The name of its kind.
    #[must_use]
    pub fn kind(&self) -> String {
        self.map().get("fault").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Its keys and values, as they are typed.
    #[must_use]
    pub fn keys(&self) -> Vec<(String, String)> {
        let pairs = self.map().into_iter().filter(|(key, _)| key != "fault");
        pairs.map(|(key, value)| (key, typed_text(&value))).filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The node it is about, if it is about one.
    #[must_use]
    pub fn node(&self) -> Option<String> {
        self.map().get("node").and_then(Value::as_str).map(str::to_owned)
    }

    /// Whether it happens once, and there is nothing to lift.
    #[must_use]
    pub fn happens_once(&self) -> bool {
        KINDS.iter().any(|kind| kind.once && self.kind() == kind.name)
    }
}

fn typed_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(typed_text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind())?;
        self.keys().iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}
