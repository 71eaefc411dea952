//! Root of one's own: a user namespace in which the caller is uid 0, and everything else that may only be made there.

use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid};

/// Why the lab could not have namespaces of its own.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// The kernel, or a policy in front of it, refuses.
    #[error(
        "this machine does not let user {uid} make {what}: {cause}\n\
         The lab needs no root, but it needs user namespaces. Ways out, the first that fits:\n\
         - Debian:            sysctl -w kernel.unprivileged_userns_clone=1\n\
         - Ubuntu 23.10+:     sysctl -w kernel.apparmor_restrict_unprivileged_userns=0\n\
         - RHEL and others:   sysctl -w user.max_user_namespaces=15000\n\
         - in a container:    start it with --privileged (or seccomp and apparmor unconfined, and systempaths=unconfined)\n\
         - or run vpc-lab as root"
    )]
    Forbidden {
        /// Who asked.
        uid: Uid,
        /// For what.
        what: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
}

/// Leaves the host: new user, mount, network, PID, IPC and UTS namespaces, the caller being root in them. The PID namespace is for
/// children only: fork next. Must be called while the process has a single thread.
///
/// The caller's own user and group become 0; all others are nobody there. Root of a machine that forbids user namespaces goes on
/// without one.
///
/// # Errors
/// [`UserNamespaceError::Forbidden`] with the way out.
pub fn leave_the_host() -> Result<(), UserNamespaceError> {
    let rest = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    leave(rest, "mount, network and PID namespaces")
}

/// Leaves the host's network only: the caller is root of a new user namespace and of a new, empty network. Must be called while the
/// process has a single thread; it may have more afterwards.
///
/// # Errors
/// [`UserNamespaceError::Forbidden`] with the way out.
pub fn leave_the_network() -> Result<(), UserNamespaceError> {
    leave(CloneFlags::CLONE_NEWNET, "a network namespace")
}

fn leave(spaces: CloneFlags, what: &'static str) -> Result<(), UserNamespaceError> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let forbidden = |what| move |cause| UserNamespaceError::Forbidden { uid, what, cause };
    match unshare(CloneFlags::CLONE_NEWUSER) {
        Ok(()) => become_root(uid, gid).map_err(forbidden("a user namespace"))?,
        Err(_) if uid.is_root() => {}
        Err(errno) => return Err(forbidden("a user namespace")(errno.into())),
    }
    unshare(spaces).map_err(|errno: Errno| forbidden(what)(errno.into()))
}

fn become_root(uid: Uid, gid: Gid) -> io::Result<()> {
    // Before gid_map may be written without privilege, setgroups has to be given up.
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}
