//! Whether the API server answers: one watch finds out for all, so that a server that returns is not asked by everybody at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use vpc_agent::ClusterNews;

use crate::pace::{Pace, chance};
use crate::wire::Failure;

/// What a watch does while the server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Tries again and again, and tells the others.
    Scout,
    /// Waits for the scout.
    Follow,
}

/// What is known of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing yet.
    Unknown,
    /// It answers.
    There,
    /// It does not, since.
    Away(Instant),
}

/// Shared by all watches.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    seen: Arc<watch::Sender<Seen>>,
    news: mpsc::Sender<ClusterNews>,
    server: Arc<str>,
    pace: Pace,
}

impl Reach {
    pub(crate) fn new(server: &str, news: mpsc::Sender<ClusterNews>, pace: Pace) -> Self {
        Self { seen: Arc::new(watch::Sender::new(Seen::Unknown)), news, server: server.into(), pace }
    }

    /// It has answered.
    pub(crate) async fn there(&self) {
        let before = self.seen.send_replace(Seen::There);
        match before {
            Seen::There => return,
            Seen::Unknown => tracing::info!("the Kubernetes API answers at {}", self.server),
            Seen::Away(since) => {
                let away = Duration::from_secs(since.elapsed().as_secs());
                tracing::info!("the Kubernetes API at {} answers again after {away:?}", self.server);
            }
        }
        let _ = self.news.send(ClusterNews::Reachable(true)).await;
    }

    /// It has not, and why.
    pub(crate) async fn away(&self, failure: &Failure) {
        if matches!(*self.seen.borrow(), Seen::Away(_)) {
            return;
        }
        self.seen.send_replace(Seen::Away(Instant::now()));
        tracing::warn!("the Kubernetes API is away: {failure}; what it said last holds, pods are served as before");
        let _ = self.news.send(ClusterNews::Reachable(false)).await;
    }

    /// Waits until it answers, and then for a moment that differs from others'.
    pub(crate) async fn wait_there(&self) {
        let mut seen = self.seen.subscribe();
        if *seen.borrow_and_update() == Seen::There {
            return;
        }
        // The sender is in our hands: it does not end before.
        let _ = seen.wait_for(|seen| *seen == Seen::There).await;
        tokio::time::sleep(self.pace.first_pause.mul_f64(chance())).await;
    }

    pub(crate) fn is_there(&self) -> bool {
        *self.seen.borrow() == Seen::There
    }
}
