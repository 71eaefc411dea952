//! A history: everything that happens to a world from outside, as data. A seed draws one ([`History::draw`]), a file keeps one
//! ([`History::to_text`], [`History::from_text`]), [`crate::run`] lets it happen.
//!
//! ```text
//!   0 ──── acts: pods come and go, daemons are killed, calls fail … ──── calm ──── all is well again, until everything rests
//! ```
//!
//! What the world itself does by chance (latencies, lags) follows from `seed`, so that a history with fewer acts or milder
//! conditions is the same story otherwise: that is what makes a found one short.

mod act;
mod check;
mod draw;
mod feature;
mod settings;
mod words;

pub use act::{Act, Blind, Kill, Outsider, Timed};
pub use feature::{Feature, NoFeature};
pub use settings::{Settings, Warm};

use std::collections::BTreeSet;

use lab_cloud::{Consistency, FaultError, Profile, Setup, SubnetSpec, Throttle, WorldError, WorldSpec, id_for};
use serde::{Deserialize, Serialize};
use vpc_model::{Ipv4Net, Millis, Subnet};

use crate::audit::WHOLE_EVERY;
use crate::scene::scene;
use crate::world::{NodeAt, Watch, World};

/// What happens to a world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, expecting = "a history")]
pub struct History {
    /// Of all chance within the world.
    pub seed: u64,
    /// How long things take.
    pub pace: Pace,
    /// EC2 answers from copies that are a moment old.
    #[serde(default)]
    pub lagging: bool,
    /// How many calls EC2 takes.
    #[serde(default)]
    pub buckets: Buckets,
    /// How long the nodes' disks take to write a checkpoint, in milliseconds.
    #[serde(default = "quick_disk")]
    pub disk_ms: u64,
    /// The subnet the nodes are in: its CIDR within 10.20.128.0/17.
    pub subnet: Ipv4Net,
    /// When the trouble ends, in milliseconds.
    pub calm_ms: u64,
    /// What was mixed into it. Says only how it was drawn.
    #[serde(default)]
    pub features: BTreeSet<Feature>,
    /// The nodes, `node-1` first.
    #[serde(rename = "node")]
    pub nodes: Vec<NodePlan>,
    /// What happens, in order of time.
    #[serde(rename = "act", default)]
    pub acts: Vec<Timed>,
}

/// One node of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "a node: a table with instance-type, start-ms and settings"
)]
pub struct NodePlan {
    /// Its instance's type (`m5.large`).
    pub instance_type: String,
    /// When its daemon is first started, in milliseconds.
    pub start_ms: u64,
    /// Its settings.
    pub settings: Settings,
}

/// How long calls, attachments and metadata take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// No time at all.
    Instant,
    /// As on AWS.
    Aws,
    /// As on AWS on a bad day: half a second to five more for each call.
    Slow,
}

/// EC2's token buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Buckets {
    /// None.
    #[default]
    Off,
    /// As AWS publishes them.
    Aws,
    /// Two calls at once of each action, one a second after that.
    Tight,
}

/// A text that is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It can not be read.
    #[error("not a history: {0}")]
    Text(toml::de::Error),
    /// It can not be written.
    #[error("the history can not be written: {0}")]
    Write(#[from] toml::ser::Error),
    /// EC2 would not take its world.
    #[error("the history's world can not be: {0}")]
    World(WorldError),
    /// A fault of something that its world does not have.
    #[error("act[{act}].fault: {error}")]
    Fault {
        /// Number of the act, from 0.
        act: usize,
        /// What is wrong.
        error: FaultError,
    },
    /// A value that is not accepted.
    #[error("{field}: `{value}` is not accepted: expected {expected}")]
    Value {
        /// Which.
        field: String,
        /// Its value.
        value: String,
        /// What is accepted.
        expected: String,
    },
}

// Without a source: the text of each says all of it, and would be told twice.
impl From<toml::de::Error> for HistoryError {
    fn from(error: toml::de::Error) -> Self {
        Self::Text(error)
    }
}

impl From<WorldError> for HistoryError {
    fn from(error: WorldError) -> Self {
        Self::World(error)
    }
}

impl History {
    /// The history as a file keeps it.
    ///
    /// # Errors
    /// A number beyond what the format holds.
    pub fn to_text(&self) -> Result<String, HistoryError> {
        Ok(toml::to_string(self)?)
    }

    /// What a file says.
    ///
    /// # Errors
    /// The text is no history; the field and what is accepted are named.
    pub fn from_text(text: &str) -> Result<Self, HistoryError> {
        let written: toml::Table = toml::from_str(text)?;
        let history: Self = toml::from_str(text)?;
        history.check(&written)?;
        Ok(history)
    }

    /// Name of a node, as faults of the cloud name it.
    #[must_use]
    pub fn node_name(node: NodeAt) -> String {
        format!("node-{}", node.0 + 1)
    }

    /// The world before anything happens.
    ///
    /// # Errors
    /// EC2 would not take its description.
    pub fn world(&self) -> Result<World, HistoryError> {
        let names: Vec<String> = (0..self.nodes.len()).map(|index| Self::node_name(NodeAt(index))).collect();
        let nodes: Vec<(&str, &str)> =
            names.iter().zip(&self.nodes).map(|(name, plan)| (name.as_str(), plan.instance_type.as_str())).collect();
        let (mut spec, mut setup) = scene(self.seed, &nodes);
        self.place(&mut spec)?;
        self.set_up(&mut setup);
        let mut world = World::new(spec, setup)?;
        world.write_takes = Millis(self.disk_ms);
        // The books with everything else; after each step what it alone can break.
        world.watch = Watch::Every(WHOLE_EVERY);
        for (index, plan) in self.nodes.iter().enumerate() {
            if let Some(node) = world.node_mut(NodeAt(index)) {
                plan.settings.apply(&plan.instance_type, &mut node.config);
            }
        }
        Ok(world)
    }

    fn place(&self, spec: &mut WorldSpec) -> Result<(), HistoryError> {
        let cidr = Subnet::try_from(self.subnet).map_err(|error| HistoryError::Value {
            field: "subnet".to_owned(),
            value: self.subnet.to_string(),
            expected: format!("a subnet EC2 has, within 10.20.128.0/17 ({error})"),
        })?;
        spec.subnets.push(SubnetSpec::new("history", cidr, "us-west-2a"));
        spec.instances.iter_mut().for_each(|instance| instance.subnet = id_for("history"));
        Ok(())
    }

    fn set_up(&self, setup: &mut Setup) {
        setup.profile = match self.pace {
            Pace::Instant => Profile::instant(),
            Pace::Aws | Pace::Slow => Profile::aws(),
        };
        if self.pace == Pace::Slow {
            let by = Millis(500);
            for span in ["describe", "create", "attach", "assign", "modify", "detach"] {
                if let Some(own) = setup.profile.span_mut(span) {
                    *own = own.longer(by);
                    own.tail = own.tail.max(Millis(5_000));
                }
            }
        }
        setup.consistency = if self.lagging { Consistency::aws() } else { Consistency::off() };
        setup.throttle = match self.buckets {
            Buckets::Off => Throttle::off(),
            Buckets::Aws | Buckets::Tight => Throttle::aws(),
        };
    }
}

/// What a disk takes on a good day.
fn quick_disk() -> u64 {
    1
}
