//! The netlink protocol itself: how messages look ([`encode`], [`parse`]) and how a conversation goes ([`socket`]).
//!
//! ```text
//!   typed call --Request--> Socket::run --one send--> kernel --acks, echoes--> Reply (by sequence number)
//!                           Socket::dump -----------> kernel --many parts---> messages until NLMSG_DONE
//! ```
//!
//! Nothing here knows a link from a rule; that is `rtnl` and `nft`.

pub(crate) mod encode;
mod error;
pub(crate) mod parse;
pub(crate) mod socket;

pub use encode::Request;
pub use error::NetlinkError;
