//! The lab's cloud on the wire: EC2's Query API and IMDSv2, both real protocols over real sockets.
//!
//! ```text
//!  client --HTTP--> ec2.rs  (signature, form) --+                        +--> answers, after the fabric has followed
//!  node ----HTTP--> imds.rs (session, TTL) -----+--> driver.rs: the model
//!                                               |    in real time        +--> Delivery: events for the fabric
//!                                               +--> record.rs: every call, in a ring
//! ```
//!
//! [`start`] runs a world and gives a [`CloudHandle`]; [`serve_ec2`] and [`serve_imds`] put it on listeners that others
//! made, for example in another network namespace; [`standalone`] does both on one.
//!
//! What the seed decides here: the ids, MACs, addresses and credentials of the described world, and every later draw in the
//! order in which calls arrive. What it cannot decide: when calls arrive. Real clients in real time come in an order of their
//! own, so two runs of one lab begin alike and part ways with the first race between two callers. The model alone, asked the
//! same at the same made-up times, gives the same history (`lab/cloud/tests/history.rs`). Session tokens of IMDS are
//! random and not from the seed.

mod date;
mod driver;
mod ec2;
mod http;
mod imds;
mod record;
mod standalone;

pub use driver::{CloudHandle, Delivery, start};
pub use ec2::serve_ec2;
pub use http::Server;
pub use imds::{ImdsCallers, ImdsOptions, serve_imds};
pub use record::{CAPACITY, CallFilter, CallRecord, Service};
pub use standalone::{StandaloneError, standalone};
