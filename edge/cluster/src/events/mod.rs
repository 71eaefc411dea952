//! Events for people: folded, paced, and never in anybody's way.
//!
//! ```text
//!   tell(event) --bounded queue--> book: the same again? counted : a new entry --due, while the API answers--> POST, later PATCH series
//!                    \                \--too many, or too old: lost, and counted
//!                     \--full: lost, and counted
//! ```

mod book;
mod post;
mod stamp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use vpc_agent::ClusterEvent;

pub(crate) use post::{Poster, Sender as Author};

/// Events that may wait for the task that sends them.
const ROOM: usize = 256;

/// Where events are given. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Events {
    queue: mpsc::Sender<ClusterEvent>,
    lost: Arc<AtomicU64>,
}

impl Events {
    pub(crate) fn new() -> (Self, mpsc::Receiver<ClusterEvent>, Arc<AtomicU64>) {
        let (queue, inbox) = mpsc::channel(ROOM);
        let lost = Arc::<AtomicU64>::default();
        (Self { queue, lost: lost.clone() }, inbox, lost)
    }

    /// Gives an event. It is lost, and counted, when too many wait.
    pub fn tell(&self, event: ClusterEvent) {
        if self.queue.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that were lost since the start: too many at once, or older than anybody wants when the API answered again.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
