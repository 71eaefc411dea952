//! PID 1 of a node.
//!
//! ```text
//!   supervisor --spawns in a new PID namespace--> init
//!              == RootPlan over stdin ==>          new mount, network, UTS and IPC namespaces; the root; lo up
//!              <== descriptors of the namespaces == (or the error)
//!                                                  then: bury orphans, until killed, and the whole node with it
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde::{Deserialize, Serialize};
use vpc_linux::Netns;

use super::fds;
use super::root::{self, RootPlan};
use super::spaces::Spaces;

/// The hidden subcommand that is PID 1 of a node.
pub const SUBCOMMAND: &str = "node-init";

/// What the supervisor tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    plan: RootPlan,
}

/// What it answers; on success the namespaces come with it.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    error: Option<String>,
}

/// A booted machine: its namespaces and its PID 1.
#[derive(Debug)]
pub struct Machine {
    /// Its namespaces.
    pub spaces: Spaces,
    /// PID 1. Killing it kills everything in the node.
    init: Child,
}

impl Machine {
    /// Boots a machine: everything but its links.
    ///
    /// # Errors
    /// What init could not do, in its words.
    pub fn boot(plan: &RootPlan) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut init = spawn_in_new_pid_namespace(theirs.into())?;
        match settle(&ours, plan) {
            Ok(spaces) => Ok(Self { spaces, init }),
            Err(e) => {
                init.kill().ok();
                init.wait().ok();
                Err(e)
            }
        }
    }

    /// Pulls the plug: everything that runs in the node is gone when this returns. Its network goes with the last descriptor.
    pub fn power_off(mut self) {
        self.init.kill().ok();
        self.init.wait().ok();
    }
}

/// The PID namespace is made for the children of one thread only; so it is a thread of its own that spawns.
fn spawn_in_new_pid_namespace(stdin: OwnedFd) -> io::Result<Child> {
    let spawner = std::thread::Builder::new().name("spawn-init".to_owned()).spawn(move || {
        unshare(CloneFlags::CLONE_NEWPID)?;
        let mut command = Command::new(own_program()?);
        command.arg0("init").arg(SUBCOMMAND).stdin(Stdio::from(stdin)).stdout(Stdio::null()).env_clear().spawn()
    })?;
    spawner.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts a node panicked")))
}

/// This program, also when it has been replaced on disk since.
fn own_program() -> io::Result<PathBuf> {
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() { Ok(link) } else { std::env::current_exe() }
}

fn settle(socket: &UnixStream, plan: &RootPlan) -> io::Result<Spaces> {
    fds::send(socket, &serde_json::to_string(&Order { plan: plan.clone() })?, &[])?;
    let ended = || io::Error::other("the node's init process ended before it was ready");
    let (text, descriptors) = fds::receive(socket)?.ok_or_else(ended)?;
    let answer: Answer = serde_json::from_str(&text)?;
    if let Some(error) = answer.error {
        return Err(io::Error::other(error));
    }
    let [net, mount, pid, uts, ipc] = <[OwnedFd; 5]>::try_from(descriptors)
        .map_err(|fds| io::Error::other(format!("init sent {} descriptors instead of 5", fds.len())))?;
    // The supervisor's own /proc names its descriptors.
    let net = Netns::open(format!("/proc/self/fd/{}", net.as_raw_fd())).map_err(io::Error::other)?;
    Ok(Spaces::machine(net, [mount, pid, uts, ipc]))
}

/// `main` of PID 1 of a node. Returns only on failure.
///
/// # Errors
/// What could not be done; the supervisor has been told already.
pub fn main() -> io::Result<std::convert::Infallible> {
    // For people who look at the processes of a node.
    nix::sys::prctl::set_name(c"init").ok();
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Children that end are noticed by waiting, so the signal has to be blocked before the first can.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    let made = make_machine(&socket);
    let answer = Answer { error: made.as_ref().err().map(ToString::to_string) };
    let namespaces = made.unwrap_or_default();
    let borrowed: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
    fds::send(&socket, &serde_json::to_string(&answer)?, &borrowed)?;
    if let Some(error) = answer.error {
        return Err(io::Error::other(error));
    }
    drop(socket);
    std::fs::File::open("/dev/null").and_then(|null| Ok(nix::unistd::dup2_stdin(&null)?))?;
    loop {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
        signals.wait()?;
    }
}

fn make_machine(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let (text, _) = fds::receive(socket)?.ok_or_else(|| io::Error::other("no order"))?;
    let order: Order = serde_json::from_str(&text)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)?;
    root::enter(&order.plan).map_err(io::Error::other)?;
    let open = |name: &str| Ok(OwnedFd::from(std::fs::File::open(format!("/proc/self/ns/{name}"))?));
    ["net", "mnt", "pid", "uts", "ipc"].into_iter().map(open).collect()
}
