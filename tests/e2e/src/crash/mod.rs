//! Crashes with real processes: a lab whose plugin and daemon have failpoints, what is done to them, and what must be true afterwards.
//!
//! ```text
//!   programs   plugin and daemon with failpoints (cargo xtask test builds them), and proof that they have them
//!   bed        one node and a peer: orders for failpoints, pods as kubelet makes them, a daemon that is started again
//!   audit      kernel, cloud, checkpoint and pods held against each other: lost, twice, leaked
//!   storm      ADDs and DELs at a rate, and SIGKILLs at random
//! ```
//!
//! What is promised, and how to run it: docs/crash.md.

pub mod audit;
pub mod bed;
mod ec2;
pub mod programs;
pub mod storm;
