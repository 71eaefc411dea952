//! Whose an address is, and what becomes of it afterwards.

use std::net::Ipv4Addr;

use vpc_model::{DeviceIndex, PodRef, RouteTable, SandboxKey, Time};

/// Where an address was handed to: what DEL needs even if its ENI is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Allocation {
    /// The address.
    pub address: Ipv4Addr,
    /// Position of its ENI.
    pub device: DeviceIndex,
    /// Route table of its ENI.
    pub table: RouteTable,
}

/// An address that belongs to a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose.
    pub key: SandboxKey,
    /// Its pod.
    pub pod: PodRef,
    /// Where it is.
    pub allocation: Allocation,
    /// Since when.
    pub since: Time,
}

/// What is known of an address that was ever used. One that was not has no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// Belongs to a sandbox.
    Held(Held),
    /// Rests after its pod has gone; nobody gets it before `until`.
    Cooling {
        /// When it was released.
        since: Time,
        /// When it may be used again.
        until: Time,
    },
}

/// Outcome of [`crate::Pool::take`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The sandbox already had this address.
    Already(Allocation),
    /// A free address became the sandbox's.
    Fresh(Allocation),
    /// None is free now.
    None,
}

/// Outcome of [`crate::Pool::release`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// What the sandbox had.
    pub held: Held,
    /// When the address may be used again.
    pub until: Time,
}
