//! How many nodes the cluster has, read once: a list of one, and how many more there are.
//!
//! It goes without `resourceVersion`: API servers that answer from their cache give the whole list, whatever limit was asked for.

use tokio::sync::mpsc;
use vpc_agent::ClusterNews;

use crate::objects::ListHead;
use crate::pace::{Backoff, Pace};
use crate::pieces::ListCutter;
use crate::reach::Reach;
use crate::wire::{Ask, Failure, Line};

/// Asks until there is an answer, tells it, and is done.
pub(crate) struct Census {
    pub(crate) line: Line,
    pub(crate) news: mpsc::Sender<ClusterNews>,
    pub(crate) reach: Reach,
    pub(crate) pace: Pace,
}

impl Census {
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(self.pace);
        while !self.news.is_closed() {
            self.reach.wait_there().await;
            match self.count().await {
                Ok(nodes) => {
                    let _ = self.news.send(ClusterNews::Nodes(nodes)).await;
                    return;
                }
                Err(failure) if failure.is_away() => tracing::debug!("the nodes are not counted yet: {failure}"),
                Err(failure) => {
                    // Without the number calls are paced as in a cluster of middling size; not worth asking again and again.
                    return tracing::info!("the nodes can not be counted: {failure}");
                }
            }
            self.line.hang_up();
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn count(&mut self) -> Result<u32, Failure> {
        let mut answer = self.line.open(&Ask::get("/api/v1/nodes?limit=1")).await?;
        let (mut cutter, mut here) = (ListCutter::default(), 0_u64);
        while let Some(piece) = answer.next_piece().await? {
            cutter.feed(&piece, |_| {
                self.line.traffic().object();
                here += 1;
                Ok::<(), Failure>(())
            })?;
        }
        let head: ListHead =
            serde_json::from_slice(cutter.rest()).map_err(|error| Failure::Unreadable(error.to_string()))?;
        Ok(u32::try_from(here.saturating_add(head.metadata.remaining_item_count)).unwrap_or(u32::MAX))
    }
}
