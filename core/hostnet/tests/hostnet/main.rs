//! The host on paper: what stands on it, where packets go, and how one state becomes another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alias;
mod custom;
mod examples;
mod packets;
mod properties;
mod repair;
mod strict;
mod support;
mod wiring;
