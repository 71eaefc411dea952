//! A daemon that stands still, for good or in turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::daemon::Daemon;
use crate::control::Failure;

/// How often a daemon that is to stand still is looked after: it may have been started anew, or have started others.
const LOOK: Duration = Duration::from_millis(20);

/// The hold on a daemon. It ends with [`Hold::let_go`].
#[derive(Debug)]
pub(super) struct Hold {
    end: Sender<()>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    stops: Arc<AtomicU64>,
}

impl Hold {
    /// It stands still until it is let go.
    pub(super) fn still(daemon: Daemon) -> Result<Self, Failure> {
        Self::begin(daemon, Duration::ZERO, LOOK)
    }

    /// It runs for the first span, stands still for the second, and so on.
    pub(super) fn in_turn(daemon: Daemon, [run, stop]: [Duration; 2]) -> Result<Self, Failure> {
        Self::begin(daemon, run, stop)
    }

    fn begin(daemon: Daemon, run: Duration, stop: Duration) -> Result<Self, Failure> {
        if !daemon.runs() {
            return Err(Failure::other("the daemon does not run: `vpc-lab daemon start` starts it"));
        }
        let (end, ended) = channel();
        let stops = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&stops);
        // Before anybody is told that it stands still, it does.
        count(&counted, daemon.signal_all(Signal::SIGSTOP));
        let work = move || {
            let over = |span| ended.recv_timeout(span) != Err(RecvTimeoutError::Timeout);
            loop {
                if over(stop) {
                    break;
                }
                if !run.is_zero() {
                    daemon.signal_all(Signal::SIGCONT);
                    if over(run) {
                        break;
                    }
                    count(&counted, daemon.signal_all(Signal::SIGSTOP));
                } else {
                    daemon.signal_all(Signal::SIGSTOP);
                }
            }
            daemon.signal_all(Signal::SIGCONT);
        };
        let thread = std::thread::Builder::new().name("hold".to_owned()).spawn(work).map_err(Failure::other)?;
        Ok(Self { end, thread: Mutex::new(Some(thread)), stops })
    }

    /// How often it was stopped.
    pub(super) fn stops(&self) -> u64 {
        self.stops.load(Ordering::Relaxed)
    }

    /// It runs again when this returns.
    pub(super) fn let_go(&self) {
        self.end.send(()).ok();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            thread.join().ok();
        }
    }
}

fn count(stops: &AtomicU64, processes: usize) {
    if processes > 0 {
        stops.fetch_add(1, Ordering::Relaxed);
    }
}
