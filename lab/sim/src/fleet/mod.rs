//! A fleet: thousands of nodes of one account on EC2's published token buckets.
//!
//! ```text
//!   Fleet (nodes, case, seed) --run--> a World of so many real agents --> FleetReport: figures, bounds, --plot--> SVG, text
//! ```
//!
//! Three cases: all daemons start at the same moment on new nodes, a rolling restart of nodes that serve pods, and waves of new nodes
//! while pods arrive everywhere. What a case is held to: the last node of each wave is ready within 1.1 times (N - burst) / rate from the
//! wave's start on, N being the nodes the cluster has then; a node is throttled three times on average at most; and no ADD is refused
//! before its deadline. At the end everything is audited: pods reached, nothing left over.

mod plot;
mod report;
mod run;

pub use plot::{svg, text};
pub use report::{Calls, FleetReport, Limit, Wave};
pub use run::FleetError;

/// What a fleet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Case {
    /// All daemons start at the same moment, on new nodes.
    Start,
    /// The daemons of running nodes are restarted in batches, as a rolling update of the daemon set does.
    Rolling,
    /// New nodes come in waves, and pods arrive on old and new ones.
    Scaling,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Start, Self::Rolling, Self::Scaling];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Rolling => "rolling",
            Self::Scaling => "scaling",
        }
    }
}

/// A fleet to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Nodes at the end.
    pub nodes: u32,
    /// What they do.
    pub case: Case,
    /// Decides all chance.
    pub seed: u64,
    /// Whether the nodes are told how many there are (Kubernetes can be asked).
    pub counted: bool,
}

impl Fleet {
    /// Nodes a fleet may have.
    pub const MOST: u32 = 10_000;

    /// Runs it.
    ///
    /// # Errors
    /// No nodes or too many of them, or a description that EC2 would not take.
    pub fn run(self) -> Result<FleetReport, FleetError> {
        run::run(self)
    }
}
