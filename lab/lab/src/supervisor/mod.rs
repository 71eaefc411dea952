//! The process behind a lab.
//!
//! ```text
//!   vpc-lab up --order on stdin--> vpc-lab supervise     new user, mount, network, PID, IPC, UTS namespaces; then
//!        <-- a line on stdout --        +--fork--> PID 1 of the lab: fabric, cloud, nodes, control socket
//!                                       ends           (whose end is the end of every process, mount and namespace of the lab)
//! ```
//!
//! Whoever started the lab hears on stdout what went wrong, or that it is ready; after that the supervisor talks to its log only.

mod cluster;
mod cuts;
mod daemon;
mod events;
mod faults;
mod hold;
mod host;
mod kernel;
mod launch;
mod logs;
mod node;
mod nodes;
mod run;
mod server;
mod status;

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::mount::MsFlags;
use nix::unistd::{ForkResult, fork, setsid};
use serde::{Deserialize, Serialize};

use crate::place::LabPlace;
use crate::sys::{mounts, userns};
use crate::topology::Topology;
use host::HostDoors;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "supervise";

/// What is to be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Name of the lab.
    pub lab: String,
    /// The world.
    pub topology: Topology,
    /// Directory of `aws-cni` and `aws-k8s-agent`.
    pub programs: PathBuf,
    /// The lab ends when stdin does: it belongs to whoever started it.
    pub lifeline: bool,
    /// Wait for the nodes' daemons before saying "ready".
    pub wait_for_daemons: bool,
}

/// A step on the way to a lab that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Milliseconds since the supervisor began.
    pub at_ms: u64,
    /// What is done.
    pub step: Step,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Routers, gateways and the networks around the VPC stand.
    Fabric,
    /// EC2 and the metadata service answer.
    Cloud,
    /// The Kubernetes API answers.
    Kubernetes,
    /// What is to come: the nodes.
    Nodes {
        /// Their names.
        names: Vec<String>,
    },
    /// A node has power: its ENIs are there, its services start.
    Booted {
        /// Node.
        node: String,
    },
    /// Its network is configured.
    Ready {
        /// Node.
        node: String,
        /// Whether its daemon did that; a node without one has nothing to wait for.
        daemon: bool,
    },
    /// It is not, and nobody waits for it any longer; the warnings of [`Report::Ready`] say why.
    NotReady {
        /// Node.
        node: String,
    },
}

/// What the supervisor says to whoever started it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// A step is done; more will come.
    Progress(Progress),
    /// The lab is up.
    Ready {
        /// What is not as it should be, though the lab is up: nodes without a network.
        warnings: Vec<String>,
    },
    /// It is not, and nothing of it is left.
    Failed {
        /// Why, and the way out.
        cause: String,
    },
}

/// `main` of the hidden subcommand.
#[must_use]
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            report(&Report::Failed { cause });
            ExitCode::FAILURE
        }
    }
}

/// The part outside. Returns in the outer process only; the inner one ends by itself.
fn start() -> Result<(), String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|e| format!("no order on stdin: {e}"))?;
    let order: Order = serde_json::from_str(&line).map_err(|e| format!("an order that can not be read: {e}"))?;
    let place = LabPlace::of(&order.lab).map_err(|e| e.to_string())?;
    place.create().map_err(|e| e.to_string())?;
    let lock = place.lock().map_err(|e| e.to_string())?;
    std::fs::remove_file(place.socket()).ok();
    // Signals of the terminal are not for us.
    setsid().ok();
    // Sockets keep the network they were made in: programs of the host will reach the lab through these.
    let doors = HostDoors::open();
    userns::leave_the_host().map_err(|e| e.to_string())?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }.map_err(|e| format!("fork the supervisor: {e}"))? {
        ForkResult::Parent { child } => {
            // The lock lives on in the child; letting it go here would unlock it there too.
            std::mem::forget(lock);
            std::fs::write(place.pid_file(), format!("{child}\n"))
                .map_err(|e| format!("{}: {e}", place.pid_file().display()))
        }
        ForkResult::Child => {
            let cause = match own_mounts(&place).and_then(|()| run::run(order, &place, doors)) {
                Ok(()) => std::process::exit(0),
                Err(cause) => cause,
            };
            tracing::error!("{cause}");
            report(&Report::Failed { cause });
            std::process::exit(1)
        }
    }
}

/// Mounts of our own: nothing leaks to the host, `/proc` shows our processes, and the lab's files lie in a tmpfs that goes with us.
fn own_mounts(place: &LabPlace) -> Result<(), String> {
    mounts::make_private().map_err(|e| e.to_string())?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mounts::fresh("proc", "/proc".as_ref(), quiet, "").map_err(|e| {
        format!("{e}\nThe lab needs a /proc of its own. In a container, start that with systempaths=unconfined or --privileged.")
    })?;
    let flags = MsFlags::MS_NOSUID;
    mounts::fresh("tmpfs", &place.mount_point(), flags, "mode=0700").map_err(|e| e.to_string())
}

/// Tells whoever started us; after the last word ([`Report::Ready`], [`Report::Failed`]) nobody listens any more.
fn report(report: &Report) {
    if let Ok(text) = serde_json::to_string(report) {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).ok();
    }
}

/// After the report stdout is nobody's business.
fn hang_up() -> io::Result<()> {
    let null = File::options().write(true).open("/dev/null")?;
    Ok(nix::unistd::dup2_stdout(&null)?)
}
