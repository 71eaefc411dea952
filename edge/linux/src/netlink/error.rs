//! What the kernel refused, on which object, and in its own words.

use std::fmt;

use nix::errno::Errno;

use crate::netns::NetnsError;

/// A netlink operation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetlinkError {
    /// What was tried ("add route").
    pub operation: &'static str,
    /// On what ("10.20.8.7/32 dev eni0d7763386da table main").
    pub object: String,
    /// The kernel's error number. Ours, where the kernel said nothing usable: `ETIMEDOUT` (no answer in time), `EBADMSG` (an
    /// answer that can not be read), `EAGAIN` (a dump that kept changing while it was read).
    pub errno: Errno,
    /// The kernel's explanation (`NLMSGERR_ATTR_MSG`), if it gave one.
    pub message: Option<String>,
}

impl NetlinkError {
    pub(crate) fn new(operation: &'static str, object: impl Into<String>, errno: Errno) -> Self {
        Self { operation, object: object.into(), errno, message: None }
    }

    /// A conversation that could not be opened because its namespace could not be entered.
    pub(crate) fn from_netns(operation: &'static str, error: &NetnsError) -> Self {
        let message = Some(error.to_string());
        Self { message, ..Self::new(operation, "network namespace", error.errno()) }
    }

    /// The object is not there (link, address, route, rule, table …): `ENOENT`, `ENODEV`, `ESRCH`, `EADDRNOTAVAIL`, `ENXIO`.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.errno, Errno::ENOENT | Errno::ENODEV | Errno::ESRCH | Errno::EADDRNOTAVAIL | Errno::ENXIO)
    }

    /// The object is there already (`EEXIST`).
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.errno == Errno::EEXIST
    }

    /// We may not do this (`EPERM`, `EACCES`).
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.errno, Errno::EPERM | Errno::EACCES)
    }
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} ({:?})", self.operation, self.object, self.errno.desc(), self.errno)?;
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None if self.is_denied() => {
                write!(f, ": CAP_NET_ADMIN is needed in the user namespace that owns this network namespace")
            }
            None => Ok(()),
        }
    }
}

impl std::error::Error for NetlinkError {}
