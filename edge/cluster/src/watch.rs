//! One watch, for ever: a list in pages, then changes from its version on; again from the last version when the connection ends;
//! a new list when the server knows that version no longer.
//!
//! ```text
//!   list (limit, version 0: from the server's cache) -> watch from its version -> lines, bookmarks
//!     ^                                                    |  ends in time, or breaks: again from the last version
//!     +---- 410 Gone: a list no older than that version ---+
//! ```

use std::future::pending;

use form::query;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use vpc_agent::ClusterNews;

use crate::objects::{EventBody, EventHead, EventKind, ListHead, Named, Status};
use crate::pace::{Backoff, Pace, chance};
use crate::pieces::{LineCutter, ListCutter, TooLong};
use crate::reach::{Duty, Reach};
use crate::shelf::Shelf;
use crate::wire::{Ask, Failure, Line};

/// Objects of one page.
const PAGE: usize = 100;

/// A watch that ended before it had lasted a hundredth of its time counts as a failure: no loop may be quick.
const TOO_SHORT: u32 = 100;

/// What is watched.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// For people: `nodes`.
    pub(crate) what: &'static str,
    /// `/api/v1/nodes`.
    pub(crate) path: &'static str,
    /// `metadata.name=node-a`, or empty.
    pub(crate) fields: String,
}

/// A watch with what it keeps.
pub(crate) struct Follower<S> {
    pub(crate) subject: Subject,
    pub(crate) line: Line,
    pub(crate) shelf: S,
    pub(crate) news: mpsc::Sender<ClusterNews>,
    pub(crate) reach: Reach,
    pub(crate) duty: Duty,
    pub(crate) pace: Pace,
}

/// How a watch ended.
enum End {
    /// As it should: its time was over.
    InTime,
    /// The version is not known any more.
    Gone,
}

/// How far we are.
#[derive(Debug, Default)]
struct Position {
    /// Where the next watch begins; `None`: a list comes first.
    version: Option<String>,
    /// The latest version that was seen: a list must not be older.
    floor: Option<String>,
}

impl Position {
    fn at(&mut self, version: &str) {
        if !version.is_empty() {
            self.version = Some(version.to_owned());
        }
    }

    fn gone(&mut self) {
        self.floor = self.version.take();
    }
}

impl From<TooLong> for Failure {
    fn from(error: TooLong) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl<S: Shelf> Follower<S> {
    /// Follows until nobody listens to its news.
    pub(crate) async fn run(mut self) {
        let mut position = Position::default();
        let mut backoff = Backoff::new(self.pace);
        let mut said: Option<String> = None;
        while !self.news.is_closed() {
            let began = Instant::now();
            match self.round(&mut position).await {
                Ok(end) => {
                    said = None;
                    if let End::Gone = end {
                        tracing::debug!(
                            "the API server knows our version of {} no longer; listed again",
                            self.subject.what
                        );
                        position.gone();
                    }
                    if began.elapsed() >= self.pace.watch / TOO_SHORT {
                        backoff.reset();
                    } else {
                        sleep(backoff.pause()).await;
                    }
                }
                Err(failure) => {
                    self.line.hang_up();
                    self.rest(&failure, &mut backoff, &mut said).await;
                }
            }
        }
    }

    /// Waits until it is worth trying again.
    async fn rest(&mut self, failure: &Failure, backoff: &mut Backoff, said: &mut Option<String>) {
        if failure.is_away() && self.duty == Duty::Scout {
            self.reach.away(failure).await;
        }
        let asked_to_wait = match failure {
            Failure::Refused { retry_after: Some(span), .. } => *span,
            Failure::Refused { retry_after: None, .. } if !failure.is_away() => self.pace.refused_pause,
            _ => std::time::Duration::ZERO,
        };
        // The scout's trouble is told by the reach, once for all.
        let text = failure.to_string();
        if !failure.is_away() && said.as_ref() != Some(&text) {
            tracing::warn!("{} can not be watched: {text}", self.subject.what);
            *said = Some(text);
        } else {
            tracing::debug!("{}: {text}", self.subject.what);
        }
        sleep(backoff.pause().max(asked_to_wait)).await;
        if self.duty == Duty::Follow {
            self.reach.wait_there().await;
        }
    }

    /// A list, if there must be one, and a watch.
    async fn round(&mut self, position: &mut Position) -> Result<End, Failure> {
        if position.version.is_none() {
            match self.list(position.floor.as_deref()).await {
                Ok(version) => position.at(&version),
                // It took longer than the server remembers.
                Err(failure) if failure.status() == Some(410) => return Ok(End::Gone),
                Err(failure) => {
                    // Perhaps too new for this server, which may have been set back: whatever it has is the truth then.
                    if failure.status().is_some() {
                        position.floor = None;
                    }
                    return Err(failure);
                }
            }
            self.tell().await;
        }
        self.watch(position).await
    }

    async fn list(&mut self, floor: Option<&str>) -> Result<String, Failure> {
        let mut next = String::new();
        loop {
            let page = [("limit", PAGE.to_string()), ("fieldSelector", self.subject.fields.clone())];
            let from = match (next.as_str(), floor) {
                ("", None) => vec![("resourceVersion", "0".to_owned())],
                ("", Some(floor)) => {
                    vec![("resourceVersion", floor.to_owned()), ("resourceVersionMatch", "NotOlderThan".to_owned())]
                }
                (token, _) => vec![("continue", token.to_owned())],
            };
            let path = query(self.subject.path, page.into_iter().chain(from));
            let mut answer = self.line.open(&Ask::get(&path)).await?;
            self.answered().await;
            if next.is_empty() {
                self.shelf.clear();
            }
            let mut cutter = ListCutter::default();
            while let Some(piece) = answer.next_piece().await? {
                cutter.feed(&piece, |item| {
                    self.line.traffic().object();
                    self.shelf.put(read(item)?);
                    Ok::<(), Failure>(())
                })?;
            }
            let head: ListHead = read(cutter.rest())?;
            if head.metadata.next.is_empty() {
                return Ok(head.metadata.resource_version);
            }
            next = head.metadata.next;
        }
    }

    async fn watch(&mut self, position: &mut Position) -> Result<End, Failure> {
        let lasts = self.pace.watch.mul_f64(1.0 + chance() / 2.0);
        let path = query(
            self.subject.path,
            [
                ("watch", "true".to_owned()),
                ("allowWatchBookmarks", "true".to_owned()),
                ("resourceVersion", position.version.clone().unwrap_or_default()),
                ("timeoutSeconds", lasts.as_secs().max(1).to_string()),
                ("fieldSelector", self.subject.fields.clone()),
            ],
        );
        let mut answer = match self.line.open(&Ask::get(&path)).await {
            Err(failure) if failure.status() == Some(410) => return Ok(End::Gone),
            other => other?,
        };
        self.answered().await;
        let mut cutter = LineCutter::default();
        // Changes that come close together are told together; then this is when.
        let mut tell_at: Option<Instant> = None;
        let mut silent_at = Instant::now() + self.pace.silence;
        loop {
            let left = silent_at.saturating_duration_since(Instant::now());
            let piece = tokio::select! {
                biased;
                () = at(tell_at) => {
                    tell_at = None;
                    self.tell().await;
                    continue;
                }
                piece = answer.piece(left) => match piece {
                    Ok(Some(piece)) => piece,
                    // Whatever has come is told before. A connection that breaks under a watch is nothing yet: the next attempt shows
                    // whether the server is away.
                    ended => {
                        self.tell().await;
                        return self.ended(ended.err());
                    }
                },
            };
            silent_at = Instant::now() + self.pace.silence;
            let mut gone = false;
            let fed = cutter.feed(&piece, |line| self.take(line, position).map(|now_gone| gone |= now_gone));
            if gone || fed.is_err() {
                // The rest of this answer is of no use.
                self.line.hang_up();
                self.tell().await;
                return fed.map(|()| End::Gone);
            }
            tell_at = tell_at.or_else(|| Some(Instant::now() + self.pace.batch));
        }
    }

    fn ended(&mut self, failure: Option<Failure>) -> Result<End, Failure> {
        match failure {
            None => Ok(End::InTime),
            Some(broken @ (Failure::Unreachable { .. } | Failure::Silent { .. })) => {
                tracing::debug!("the watch of {} is renewed: {broken}", self.subject.what);
                self.line.hang_up();
                Ok(End::InTime)
            }
            Some(other) => Err(other),
        }
    }

    /// Takes one line of a watch; whether the version has gone.
    fn take(&mut self, line: &[u8], position: &mut Position) -> Result<bool, Failure> {
        let kind = read::<EventHead>(line)?.kind;
        if kind == EventKind::Error {
            let status: EventBody<Status> = read(line)?;
            let Status { code, message } = status.object;
            if code == 410 {
                return Ok(true);
            }
            return Err(Failure::Refused { status: code, message, retry_after: None });
        }
        let named: EventBody<Named> = read(line)?;
        match kind {
            EventKind::Added | EventKind::Modified => self.shelf.put(self.object(line)?),
            EventKind::Deleted => self.shelf.remove(self.object(line)?),
            EventKind::Bookmark | EventKind::Unknown | EventKind::Error => {}
        }
        position.at(&named.object.metadata.resource_version);
        Ok(false)
    }

    fn object(&self, line: &[u8]) -> Result<S::Object, Failure> {
        self.line.traffic().object();
        Ok(read::<EventBody<S::Object>>(line)?.object)
    }

    async fn answered(&self) {
        if self.duty == Duty::Scout {
            self.reach.there().await;
        }
    }

    /// Nobody listens only when the daemon ends.
    async fn tell(&mut self) {
        if let Some(news) = self.shelf.news() {
            let _ = self.news.send(news).await;
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(text).map_err(|error| Failure::Unreadable(error.to_string()))
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

/// Paths with queries.
mod form {
    /// Letters, digits and `-._~` stay as they are; everything else is written as `%XX`.
    pub(super) fn query(path: &str, parameters: impl IntoIterator<Item = (&'static str, String)>) -> String {
        let mut out = path.to_owned();
        for (name, value) in parameters.into_iter().filter(|(_, value)| !value.is_empty()) {
            out.push(if out.contains('?') { '&' } else { '?' });
            out.push_str(name);
            out.push('=');
            for byte in value.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    out.push(char::from(byte));
                } else {
                    out.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        out
    }

    #[cfg(test)]
    mod tests {
        use super::query;

        #[test]
        fn values_are_written_so_that_they_arrive() {
            let written = query(
                "/api/v1/pods",
                [("fieldSelector", "spec.nodeName=a&b".to_owned()), ("limit", "1".into()), ("x", String::new())],
            );
            assert_eq!(written, "/api/v1/pods?fieldSelector=spec.nodeName%3Da%26b&limit=1");
        }
    }
}
