//! The one state machine of a node: inputs in, effects out.
//!
//! ```text
//!   gRPC, EC2, kernel, timers --Input--> Agent::handle(now, input) --Effect--> EC2, kernel, checkpoint, replies
//!                                 ^                                    |
//!                                 +---- every effect's result ---------+
//! ```
//!
//! The agent composes the pool's planner ([`vpc_ipam`]) and the host's ([`vpc_hostnet`]). It never asks what time it is, never
//! waits and never touches anything: a test of a thirty-second cool-down takes a microsecond, and a simulator can run a year.
//!
//! A pod's address is promised only after the promise is on disk: an ADD is answered when the checkpoint that holds its
//! assignment has been written ([`Effect::WriteCheckpoint`], then [`Input::CheckpointWritten`]).

mod agent;
mod attached;
mod audit;
#[cfg(feature = "deliberate-bugs")]
mod bugs;
mod causes;
mod checkpoint;
mod cloud;
mod cluster;
mod collect;
mod config;
mod disk;
mod event;
mod fetch;
mod giveback;
mod host;
mod jobs;
mod leaked;
mod links;
mod message;
mod orphans;
mod pacer;
mod places;
mod planning;
mod readiness;
mod reconcile;
mod refusal;
mod rests;
mod resume;
mod sandbox;
mod situation;
mod strays;
mod turns;

pub use agent::Agent;
pub use audit::Fault;
pub use checkpoint::{Checkpoint, CheckpointEni, Lease, Rest, Update};
pub use cloud::{
    CloudAnswer, CloudCall, CloudFailure, EniKind, EniTruth, FailureClass, LeakedEni, OpId, Place, SubnetTruth,
};
pub use cluster::{About, ClusterEvent, ClusterNews, EniConfig, NodeView};
pub use collect::Collect;
pub use config::{CloudUse, Config, EniConfigKeys, Metadata, NodeFacts, Placing, SeenEni};
pub use links::DoomedLink;
pub use message::{
    AddReply, AddRequest, DelReply, Effect, Generation, Input, Level, Notice, Outcome, Report, Ticket, Wake,
};
pub use pacer::{BUCKETS, Bucket, Ec2Action, Pacer, Weight};
pub use places::{Choice, Home, NamedBy, NoPlace, PlaceNews, Places, Refused, name_of_eni_config};
pub use readiness::Readiness;
pub use refusal::Refusal;
pub use situation::{Purpose, Situation};
