//! A node's daemon as a process: started, signalled, watched, and, if the topology says so, started again as kubelet does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::control::DaemonStatus;
use crate::kubelet::NodeView;
use crate::sys::process::{Program, Streams, end_session, family, pidfd};
use crate::topology::{Command, Restart};

/// How often to look for the network configuration.
const GLANCE: Duration = Duration::from_millis(3);
/// Lines of the log that are shown when something went wrong.
const TAIL_LINES: usize = 12;
/// The daemon runs, whatever it was asked.
const RUNS_ALREADY: &str = "the daemon runs already";
/// The daemon does not run, so nothing can be done to it.
const DOES_NOT_RUN: &str = "the daemon does not run";

/// kubelet's waiting times between two starts of a container: none before the first restart, then this, doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// The longest of them.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// A container that has run for so long is started at once again.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// The daemon of one node, running or not. Clones are the same daemon.
#[derive(Clone, Debug)]
pub(super) struct Daemon(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    command: Command,
    restart: Restart,
    log: PathBuf,
    /// The host's view of `/etc/cni/net.d`.
    config_dir: PathBuf,
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    running: Option<Running>,
    ended: Option<String>,
    starts: u32,
    started: Option<Instant>,
    /// The configuration that was there before the last start: a stale one.
    stale: Option<Version>,
    ready_after: Option<Duration>,
    /// Somebody wants it to be down: it is not started again by itself.
    unwanted: bool,
    /// When it will be started again, and what it waits the next time.
    again: Option<Instant>,
    backoff: Duration,
}

#[derive(Debug)]
struct Running {
    pid: u32,
    handle: OwnedFd,
}

/// What tells one writing of a file from the next.
type Version = (PathBuf, u64, i64, i64);

impl Shared {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, now: MutexGuard<'a, Now>, at_most: Duration) -> MutexGuard<'a, Now> {
        self.changed.wait_timeout(now, at_most).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Daemon {
    pub(super) fn new(command: Command, restart: Restart, log: &Path, config_dir: &Path) -> Self {
        let (log, config_dir) = (log.to_owned(), config_dir.to_owned());
        let (now, changed) = Default::default();
        Self(Arc::new(Shared { command, restart, log, config_dir, now, changed }))
    }

    /// Starts it, unless it runs.
    pub(super) fn start(&self, node: &NodeView) -> io::Result<()> {
        let mut now = self.0.now();
        now.unwanted = false;
        now.backoff = Duration::ZERO;
        self.start_now(&mut now, node)
    }

    fn start_now(&self, now: &mut Now, node: &NodeView) -> io::Result<()> {
        if now.running.is_some() {
            return Err(io::Error::other(RUNS_ALREADY));
        }
        let log = File::options().create(true).append(true).open(&self.0.log)?;
        let streams = Streams { input: Stdio::null(), output: log.try_clone()?.into(), errors: log.into() };
        now.stale = self.version();
        now.ready_after = None;
        now.ended = None;
        now.again = None;
        let command = &self.0.command;
        let program = Program {
            command: command.command.clone(),
            env: node.env.clone(),
            cwd: Some(command.cwd.clone()),
            leads_session: true,
        };
        let child = program.start(&node.spaces, streams)?;
        now.running = Some(Running { pid: child.id(), handle: pidfd(&child)? });
        now.starts += 1;
        now.started = Some(Instant::now());
        let (own, node) = (self.clone(), node.clone());
        std::thread::Builder::new().name("daemon".to_owned()).spawn(move || own.watch(child, &node))?;
        Ok(())
    }

    /// Waits for the end, and for the next beginning where there is to be one.
    fn watch(&self, mut child: Child, node: &NodeView) {
        let ended = end_session(&mut child).map_or_else(|e| e.to_string(), |status| status.to_string());
        let mut now = self.0.now();
        now.running = None;
        now.ended = Some(ended);
        self.0.changed.notify_all();
        if self.0.restart == Restart::Never || now.unwanted {
            return;
        }
        if now.started.is_some_and(|start| start.elapsed() >= FORGIVEN_AFTER) {
            now.backoff = Duration::ZERO;
        }
        let due = Instant::now() + now.backoff;
        now.backoff = if now.backoff.is_zero() { FIRST_BACKOFF } else { (now.backoff * 2).min(LONGEST_BACKOFF) };
        self.start_at(now, due, node);
    }

    /// Starts it at a certain time, unless somebody else does so before, or wants it to be down.
    fn start_at(&self, mut now: MutexGuard<'_, Now>, due: Instant, node: &NodeView) {
        now.again = Some(due);
        while now.again == Some(due) {
            match due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                Some(left) => now = self.0.wait(now, left),
                None => {
                    if let Err(e) = self.start_now(&mut now, node) {
                        now.again = None;
                        now.ended = Some(format!("could not be started again: {e}"));
                    }
                }
            }
        }
    }

    /// Kills it, and what it has started; `restart` is when it is started again whatever the topology says.
    pub(super) fn kill(&self, node: &NodeView, restart: Option<Duration>) -> io::Result<()> {
        let before = self.0.now().unwanted;
        self.0.now().unwanted |= restart.is_some();
        let killed = self.end_by(Signal::SIGKILL, Duration::from_secs(5));
        self.0.now().unwanted = before;
        killed?;
        if let Some(after) = restart {
            let (own, node, due) = (self.clone(), node.clone(), Instant::now() + after);
            std::thread::Builder::new()
                .name("restart".to_owned())
                .spawn(move || own.start_at(own.0.now(), due, &node))?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end. It stays down until somebody starts it.
    pub(super) fn stop(&self, at_most: Duration) -> io::Result<()> {
        let mut now = self.0.now();
        now.unwanted = true;
        if now.again.take().is_some() {
            self.0.changed.notify_all();
            return Ok(());
        }
        drop(now);
        self.end_by(Signal::SIGTERM, at_most)
    }

    fn end_by(&self, signal: Signal, at_most: Duration) -> io::Result<()> {
        let deadline = Instant::now() + at_most;
        let mut now = self.0.now();
        let starts = now.starts;
        let running = now.running.as_ref().ok_or_else(|| io::Error::other(DOES_NOT_RUN))?;
        // What a container's first process has started ends with it.
        let others = if signal == Signal::SIGKILL { family(running.pid) } else { BTreeSet::new() };
        send(&running.handle, signal)?;
        for pid in others.into_iter().filter(|pid| *pid != running.pid) {
            signal_one(pid, signal);
        }
        while now.running.is_some() && now.starts == starts {
            let left = deadline.checked_duration_since(Instant::now());
            let left =
                left.ok_or_else(|| io::Error::other(format!("the daemon has not ended {at_most:?} after {signal}")))?;
            now = self.0.wait(now, left);
        }
        Ok(())
    }

    /// Whether it runs.
    pub(super) fn runs(&self) -> bool {
        self.0.now().running.is_some()
    }

    /// Sends a signal to it and to everything it has started; how many processes that was.
    pub(super) fn signal_all(&self, signal: Signal) -> usize {
        let Some(pid) = self.0.now().running.as_ref().map(|running| running.pid) else { return 0 };
        let family = family(pid);
        family.iter().for_each(|pid| signal_one(*pid, signal));
        family.len()
    }

    /// Waits until the daemon has written the network configuration.
    ///
    /// # Errors
    /// It has ended, or the time is over; with the end of its log.
    pub(super) fn wait_ready(&self, at_most: Duration) -> Result<(), String> {
        let deadline = Instant::now() + at_most;
        loop {
            if self.look() {
                return Ok(());
            }
            let (ended, starts) = {
                let now = self.0.now();
                (now.ended.clone().filter(|_| now.again.is_none()), now.starts)
            };
            if let Some(ended) = ended.or_else(|| (starts == 0).then(|| "was not started".to_owned())) {
                return Err(format!(
                    "its daemon ended ({ended}) before the node's network was configured{}",
                    self.tail()
                ));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "its daemon has written no network configuration within {} s{}",
                    at_most.as_secs(),
                    self.tail()
                ));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Whether there is a configuration, written since the last start. Remembers when it was first seen.
    fn look(&self) -> bool {
        let version = self.version();
        let mut now = self.0.now();
        if now.ready_after.is_some() {
            return true;
        }
        if version.is_none() || version == now.stale {
            return false;
        }
        now.ready_after = now.started.map(|start| start.elapsed());
        now.ready_after.is_some()
    }

    fn version(&self) -> Option<Version> {
        let files = fs::read_dir(&self.0.config_dir).ok()?.flatten().map(|entry| entry.path());
        let config = |path: &PathBuf| path.extension().is_some_and(|end| end == "conflist" || end == "conf");
        let first = files.filter(config).min()?;
        let meta = fs::metadata(&first).ok()?;
        Some((first, meta.ino(), meta.mtime(), meta.mtime_nsec()))
    }

    /// The last lines of its log, as an indented block.
    pub(super) fn tail(&self) -> String {
        tail(&self.0.log)
    }

    pub(super) fn status(&self) -> DaemonStatus {
        let ready = self.look();
        let now = self.0.now();
        DaemonStatus {
            pid: now.running.as_ref().map(|running| running.pid),
            ended: now.ended.clone(),
            starts: now.starts,
            ready,
            ready_after_ms: now.ready_after.and_then(|after| u64::try_from(after.as_millis()).ok()),
        }
    }

    /// The power goes: whatever ends now is not started again.
    pub(super) fn power_goes(&self) {
        let mut now = self.0.now();
        now.unwanted = true;
        now.again = None;
        self.0.changed.notify_all();
    }

    /// The power has gone, and the daemon with it: waits until that is noticed.
    pub(super) fn power_lost(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let deadline = Instant::now() + PATIENCE;
        let mut now = self.0.now();
        while now.running.is_some() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            now = self.0.wait(now, left);
        }
        now.ended = Some("power lost".to_owned());
    }
}

/// The last lines of a log, as an indented block; empty if there is nothing.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default();
    if last.is_empty() { String::new() } else { format!("; it said last:\n    {}", last.join("\n    ")) }
}

/// To a process by number; one that has ended is fine.
fn signal_one(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        nix::sys::signal::kill(Pid::from_raw(pid), signal).ok();
    }
}

fn send(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    // SAFETY: the call takes integers and a null pointer for the optional information.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal as libc::c_int,
            std::ptr::null::<()>(),
            0,
        )
    };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
