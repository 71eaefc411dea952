//! The namespaces of a node, and threads that work inside them.
//!
//! Commands of a node are started from a thread of the supervisor that has entered the node's namespaces: the child is ours to wait
//! for, and lives in the node. No helper program is started per command.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};
use vpc_linux::Netns;

/// The namespaces that make a machine, by descriptor. Clones share them.
#[derive(Clone, Debug)]
pub struct Spaces {
    /// Network.
    pub net: Netns,
    /// Everything else: mounts (with the root), processes, host name, System V IPC.
    rest: Option<Arc<Rest>>,
}

#[derive(Debug)]
struct Rest {
    mount: OwnedFd,
    pid: OwnedFd,
    uts: OwnedFd,
    ipc: OwnedFd,
}

impl Spaces {
    /// A machine of its own. `others` are its mount, PID, UTS and IPC namespaces.
    #[must_use]
    pub fn machine(net: Netns, others: [OwnedFd; 4]) -> Self {
        let [mount, pid, uts, ipc] = others;
        Self { net, rest: Some(Arc::new(Rest { mount, pid, uts, ipc })) }
    }

    /// A network beside the supervisor: its own links, the supervisor's file system.
    #[must_use]
    pub fn network(net: Netns) -> Self {
        Self { net, rest: None }
    }

    /// The same machine seen from another of its networks (a pod's).
    #[must_use]
    pub fn with_network(&self, net: Netns) -> Self {
        Self { net, rest: self.rest.clone() }
    }

    /// Runs `work` on a thread that has entered. The thread ends with it, so nothing has to find its way back.
    ///
    /// # Errors
    /// When the thread can not be made or may not enter.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("inside".to_owned()).spawn_scoped(scope, || {
                self.enter_for_good()?;
                Ok(work())
            })?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
        })
    }

    /// The calling thread is inside from now on. It can make no threads of its own any more.
    fn enter_for_good(&self) -> io::Result<()> {
        setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET)?;
        if let Some(rest) = &self.rest {
            setns(rest.uts.as_fd(), CloneFlags::CLONE_NEWUTS)?;
            setns(rest.ipc.as_fd(), CloneFlags::CLONE_NEWIPC)?;
            setns(rest.pid.as_fd(), CloneFlags::CLONE_NEWPID)?;
            // Root and working directory are shared between threads unless unshared first.
            unshare(CloneFlags::CLONE_FS)?;
            setns(rest.mount.as_fd(), CloneFlags::CLONE_NEWNS)?;
        }
        Ok(())
    }
}
