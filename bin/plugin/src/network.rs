//! A call about the network as a whole: STATUS or GC. No container, no namespace.

use vpc_linux::monotonic_nanos;
use vpc_wire::cni::{Command, NetConf};

use crate::log::Log;

/// A STATUS or a GC.
pub(crate) struct Network {
    pub(crate) conf: NetConf,
    pub(crate) log: Log,
    /// When the runtime called: `CLOCK_MONOTONIC` in nanoseconds; 0 where the clock can not be read.
    pub(crate) called_at: u64,
}

impl Network {
    /// `called_at` is the earliest moment the program knows.
    pub(crate) fn new(command: Command, conf: NetConf, called_at: u64) -> Self {
        let log = Log::of_network(&conf, command);
        Self { conf, log, called_at }
    }
}

/// Now, as [`Network::called_at`] counts.
pub(crate) fn called_now() -> u64 {
    monotonic_nanos().unwrap_or(0)
}
