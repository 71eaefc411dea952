//! The Linux kernel behind one synchronous gate: links, addresses, routes, rules and neighbours (rtnetlink), packet filter tables
//! (nfnetlink), network namespaces, sysctls. No external program, no runtime, nothing but system calls.
//!
//! ```text
//!  plugin:  wire_pod(host, pod namespace, Wiring) --3 sends, no dump--> a wired pod, or nothing at all
//!  daemon:  LinuxHost::observe() -> HostState -> (core decides) -> [HostOp] -> LinuxHost::apply()
//!           LinkMonitor --events--> look again
//!  lab:     Netns, Rtnl, nft::Batch
//! ```
//!
//! One file for each kind of kernel object: how to ask for it, how to read the answer, which errors mean "already so".

mod clock;
mod conntrack;
mod filter;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod hostop;
mod monitor;
mod netlink;
mod netns;
pub mod nft;
pub mod rtnl;
#[cfg(test)]
mod rubbish;
pub mod sysctl;
mod wire;

pub use clock::monotonic_nanos;
pub use filter::{FILTER_TABLE, filter_batch, filter_seen};
pub use host::{ApplyError, LinuxHost, OpFailure, WATCHED_SYSCTLS};
pub use hostop::OpError;
pub use monitor::{Interest, LinkEvent, LinkMonitor};
pub use netlink::{NetlinkError, Request};
pub use netns::{Netns, NetnsError};
pub use nix::errno::Errno;
pub use rtnl::Rtnl;
pub use rtnl::addr::Address;
pub use rtnl::link::{ConfKey, Ipv4Conf, LinkChange, LinkInfo, LinkRef, VethPeer, VethSpec};
pub use rtnl::neigh::NeighSpec;
pub use rtnl::qdisc::TokenBucket;
pub use rtnl::route::{FibAnswer, FibQuery, RouteKind, RouteSpec};
pub use rtnl::rule::{RuleAction, RuleSpec};
pub use wire::{WireError, WireStep, Wired, unwire, wire_pod, wire_pod_in_steps};

/// Protocol tag of our routes and rules (`RTA_PROTOCOL`, `FRA_PROTOCOL`): who put them there. The kernel attaches no meaning to
/// it; numbers above 4 are for routing daemons, and no one registered this one.
pub const PROTOCOL: u8 = 117;
