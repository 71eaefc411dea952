//! Who may speak to the daemon: root, and whoever the daemon itself runs as. The socket's mode says so too, but a group of 0 is quickly
//! had (containers run as `1000:0` often enough), and modes are quickly changed.

use std::io;
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt as _};

use super::caller::Line;

/// At most one line of the log for so long, whoever knocks.
const QUIET: Duration = Duration::from_secs(1);

/// The connections of those who may, as they come. All others are closed before a byte of them is read.
pub(super) fn of_root(listener: UnixListener) -> impl Stream<Item = io::Result<Line>> {
    let own = nix::unistd::geteuid().as_raw();
    let mut strangers = Strangers::default();
    UnixListenerStream::new(listener).filter_map(move |came| {
        let stream = match came {
            Ok(stream) => stream,
            Err(error) => return Some(Err(error)),
        };
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == own => Some(Line::of(stream)),
            Ok(peer) => strangers.note(Some((peer.uid(), peer.pid()))),
            Err(_) => strangers.note(None),
        }
    })
}

/// Those who were turned away.
#[derive(Default)]
struct Strangers {
    told: Option<Instant>,
    untold: u64,
}

impl Strangers {
    /// Tells of one, unless another was told of a moment ago. Never a connection.
    fn note(&mut self, who: Option<(u32, Option<i32>)>) -> Option<io::Result<Line>> {
        if self.told.is_some_and(|told| told.elapsed() < QUIET) {
            self.untold += 1;
            return None;
        }
        let (uid, pid) = who.map_or((None, None), |(uid, pid)| (Some(uid), pid));
        tracing::warn!(
            uid,
            pid,
            others = self.untold,
            "a connection to the daemon's socket is refused: only root may ask for addresses and give them back"
        );
        *self = Self { told: Some(Instant::now()), untold: 0 };
        None
    }
}
