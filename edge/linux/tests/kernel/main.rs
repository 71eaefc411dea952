//! The kernel itself, in fresh namespaces: each kind of object is written, read back by our own dump and, where `ip` and `nft` are
//! installed, by theirs.
//!
//! As root or as an ordinary user (then in a user namespace). A test that needs a tool that is not there says so by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod filter;
mod flows;
mod host;
mod links;
mod monitor;
mod netns;
mod nft;
mod rates;
mod routes;
mod sandbox;
mod sysctl;
mod wire;
