//! Events for people: folded, paced, and never in anybody's way.
//!
//! ```text
//!   tell(event) --> book: the same again? counted : a new entry --due, while the API answers--> POST, later PATCH series
//!                     \--too many, or too old: lost, and counted
//! ```

mod book;
mod post;
mod stamp;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use vpc_agent::ClusterEvent;
use vpc_model::Time;

use book::Book;
pub(crate) use post::{Poster, Sender as Author};
use stamp::wall_now;

/// Where events are given. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    book: Mutex<Book>,
    news: Notify,
}

impl Events {
    pub(crate) fn new() -> Self {
        let (book, news) = (Mutex::new(Book::new(Time(0))), Notify::new());
        Self(Arc::new(Shared { start: Instant::now(), book, news }))
    }

    /// Gives an event.
    pub fn tell(&self, event: ClusterEvent) {
        self.book().add(self.now(), wall_now(), event);
        self.0.news.notify_one();
    }

    /// Events that were lost since the start: too many different ones at once, or older than anybody wants when the API answered
    /// again.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.book().lost()
    }

    /// Never held across an `.await`.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The same moment for the runtime's timers.
    fn instant(&self, time: Time) -> Instant {
        self.0.start + std::time::Duration::from_millis(time.0)
    }

    /// Resolves when something was told since this was waited for last.
    async fn news(&self) {
        self.0.news.notified().await;
    }
}
