//! The node daemon (ipamd): holds the address pool of one node.
//!
//! ```text
//!   environment, file --settings--> start: lock, checkpoint, metadata, EC2 --> node: agent and its hands
//!
//!   plugin --socket--> server --+                     +--> cloud   (EC2, metadata)
//!   kernel --linux::watch-------+--> door --> shell --+--> host    (links, routes, rules, packet filter)
//!   file --refresh--------------+            (agent)  +--> disk    (checkpoint)
//!                                                     +--> conflist, health, log
//! ```
//!
//! All that is decided is decided by [`vpc_agent`]; here is what carries it out. One task owns the agent, and it never waits.

pub mod answers;
pub mod books;
mod calendar;
pub mod clock;
pub mod cloud;
pub mod cluster;
pub mod config;
pub mod conflist;
pub mod disk;
pub mod door;
pub mod failpoint;
pub mod host;
pub mod inquiry;
pub mod linux;
pub mod listing;
pub mod lock;
pub mod logging;
pub mod memory;
pub mod node;
pub mod refresh;
pub mod server;
pub mod settings;
pub mod shell;
mod start;
pub mod tombstones;
pub mod under_way;

pub use start::run;
