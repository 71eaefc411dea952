//! A node's daemon as a process: started, signalled, watched.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::control::DaemonStatus;
use crate::sys::process::{Program, Streams, pidfd};
use crate::sys::spaces::Spaces;
use crate::topology::Command;

/// How often to look for the network configuration.
const GLANCE: Duration = Duration::from_millis(3);
/// Lines of the log that are shown when something went wrong.
const TAIL_LINES: usize = 12;

/// The daemon of one node, running or not.
#[derive(Debug)]
pub(super) struct Daemon {
    command: Command,
    log: PathBuf,
    /// The host's view of `/etc/cni/net.d`.
    config_dir: PathBuf,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
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
}

#[derive(Debug)]
struct Running {
    pid: u32,
    handle: OwnedFd,
}

/// What tells one writing of a file from the next.
type Version = (PathBuf, u64, i64, i64);

impl State {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    pub(super) fn new(command: Command, log: PathBuf, config_dir: PathBuf) -> Self {
        Self { command, log, config_dir, state: Arc::default() }
    }

    /// Starts it, unless it runs.
    pub(super) fn start(&self, inside: &Spaces, env: &BTreeMap<String, String>) -> io::Result<()> {
        let mut now = self.state.now();
        if now.running.is_some() {
            return Err(io::Error::other("the daemon runs already"));
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let streams = Streams { input: Stdio::null(), output: log.try_clone()?.into(), errors: log.into() };
        now.stale = self.version();
        now.ready_after = None;
        now.ended = None;
        let program =
            Program { command: self.command.command.clone(), env: env.clone(), cwd: Some(self.command.cwd.clone()) };
        let mut child = program.start(inside, streams)?;
        now.running = Some(Running { pid: child.id(), handle: pidfd(&child)? });
        now.starts += 1;
        now.started = Some(Instant::now());
        drop(now);
        let state = Arc::clone(&self.state);
        std::thread::Builder::new().name("daemon".to_owned()).spawn(move || {
            let ended = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
            let mut now = state.now();
            now.running = None;
            now.ended = Some(ended);
            state.changed.notify_all();
        })?;
        Ok(())
    }

    /// Sends a signal and waits for the end.
    pub(super) fn end(&self, signal: Signal, at_most: Duration) -> io::Result<()> {
        let deadline = Instant::now() + at_most;
        let mut now = self.state.now();
        match &now.running {
            Some(running) => send(&running.handle, signal)?,
            None => return Err(io::Error::other("the daemon does not run")),
        }
        while now.running.is_some() {
            let left = deadline.checked_duration_since(Instant::now());
            let left =
                left.ok_or_else(|| io::Error::other(format!("the daemon has not ended {at_most:?} after {signal}")))?;
            now = self.state.changed.wait_timeout(now, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
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
                let now = self.state.now();
                (now.ended.clone(), now.starts)
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
        let mut now = self.state.now();
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
        let files = fs::read_dir(&self.config_dir).ok()?.flatten().map(|entry| entry.path());
        let config = |path: &PathBuf| path.extension().is_some_and(|end| end == "conflist" || end == "conf");
        let first = files.filter(config).min()?;
        let meta = fs::metadata(&first).ok()?;
        Some((first, meta.ino(), meta.mtime(), meta.mtime_nsec()))
    }

    /// The last lines of its log, as an indented block.
    pub(super) fn tail(&self) -> String {
        tail(&self.log)
    }

    pub(super) fn status(&self) -> DaemonStatus {
        let ready = self.look();
        let now = self.state.now();
        DaemonStatus {
            pid: now.running.as_ref().map(|running| running.pid),
            ended: now.ended.clone(),
            starts: now.starts,
            ready,
            ready_after_ms: now.ready_after.and_then(|after| u64::try_from(after.as_millis()).ok()),
        }
    }

    /// The power has gone, and the daemon with it: waits until that is noticed.
    pub(super) fn power_lost(&self) {
        let mut now = self.state.now();
        while now.running.is_some() {
            let (next, timeout) =
                self.state.changed.wait_timeout(now, Duration::from_secs(5)).unwrap_or_else(PoisonError::into_inner);
            now = next;
            if timeout.timed_out() {
                return;
            }
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
