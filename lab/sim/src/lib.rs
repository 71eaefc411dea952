//! Nodes and their cloud in one process with made-up time: no async, no I/O, no threads; a seed decides everything.
//!
//! ```text
//!   World --step--> the next thing that happens, wherever:
//!     Cloud (lab-cloud)  --answers, devices-->  Node: Agent (vpc-agent), Hand (vpc-aws), paper host, a disk that is a variable
//!     kubelet            --ADD, DEL--------->        |
//!     Node   --EC2 requests, IMDS reads, checkpoints, host changes--> queue, at now plus what it takes
//! ```
//!
//! What is real: the agent, what its calls are in EC2's words, what the metadata mean, EC2 and IMDS as far as `lab-cloud` has them,
//! the host as strictly as `vpc-hostnet`'s paper one. What is played: HTTP with its attempts and limits (the world sends again as the
//! client does), kubelet and plugin ([`World::add_pod`], [`World::delete_pod`]), Kubernetes' news ([`World::tell`]).
//!
//! A daemon may be killed at any step ([`World::kill`], [`World::arm`]): what was not on disk is gone, what was under way in EC2 goes on.
//! The [`Fault`]s that a world collects compare what callers were told with what cloud and host hold, never with the agent's own
//! books alone.

mod audit;
#[cfg(feature = "deliberate-bugs")]
mod bugs;
mod campaign;
mod carrier;
mod coverage;
mod dice;
mod driver;
pub mod fleet;
mod history;
mod imds;
mod kubelet;
mod node;
mod scene;
mod settled;
mod shrink;
mod story;
mod trouble;
mod verbs;
mod world;

pub use audit::{Fault, WHOLE_EVERY, own_enis};
#[cfg(feature = "deliberate-bugs")]
pub use bugs::{Hunt, hunt, shows};
pub use campaign::{Campaign, Finding, Found, Why, attempt, quiet_panics};
pub use carrier::{Moment, Sent};
pub use coverage::{
    Coverage, Ended, Entry, Expected as HitsExpected, IMPOSSIBLE, Inputs, Judgement, Kind as InputKind, Plain, SELDOM,
    Seldom, expected as hits_expected,
};
pub use dice::Dice;
pub use driver::{Driver, Report, Wrong, run};
pub use history::{
    Act, Blind, Buckets, Feature, History, HistoryError, Kill, NoFeature, NodePlan, Outsider, Pace, Settings, Timed,
    Warm,
};
pub use kubelet::{Pod, PodState, pod_ref};
pub use node::{Kube, Node};
pub use scene::{config_for, scene};
pub use settled::{EniLoad, Expected, Load, Room, Rules, Standing, Survey, Unsettled, expected, unsettled};
pub use shrink::{FaultKind, Limits, Shrunk, shrink};
pub use story::{LINES, Replay, Story, replay};
pub use world::{NodeAt, Watch, World};
