//! A watch as it is sent: one line of JSON for each event, until its time is over, it falls behind, or the client leaves.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::accept::Form;
use crate::api::table::{Include, metadata_of, table};
use crate::error::KubeError;
use crate::handle::{KubeHandle, Watch};
use crate::resource::Definition;
use crate::store::WatchEvent;

/// How long before its end a watch says once more how far it has come.
const LAST_BOOKMARK: Duration = Duration::from_secs(1);

/// A watch on its way to a client.
pub(crate) struct Sending {
    pub(crate) handle: KubeHandle,
    pub(crate) definition: Definition,
    /// Or why it could not begin, which is its first and last event.
    pub(crate) watch: Result<Watch, KubeError>,
    pub(crate) form: Form,
    pub(crate) include: Include,
    pub(crate) bookmarks: bool,
    /// When it ends.
    pub(crate) until: Instant,
}

struct State {
    sending: Sending,
    next_bookmark: Instant,
    last_bookmark: bool,
    /// The columns of a table are said with its first row.
    columns_said: bool,
    ended: bool,
}

impl Sending {
    /// The lines.
    pub(crate) fn lines(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
        let next_bookmark = Instant::now() + self.handle.settings().bookmark_every;
        let state = State { sending: self, next_bookmark, last_bookmark: false, columns_said: false, ended: false };
        stream::unfold(state, |mut state| async move {
            let line = state.line().await?;
            Some((Ok(Frame::data(Bytes::from(line))), state))
        })
    }
}

impl State {
    /// The next line; `None`: there is no further one.
    async fn line(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        loop {
            let event = match self.next().await? {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(error) => {
                    self.ended = true;
                    return Some(line("ERROR", &error.status()));
                }
            };
            let object = self.shape(event.object);
            return Some(line(event.kind.as_str(), &object));
        }
    }

    /// The next event or bookmark; `Some(Ok(None))`: it was time for a bookmark, but none is due; `None`: the time is over.
    async fn next(&mut self) -> Option<Result<Option<WatchEvent>, KubeError>> {
        let until = self.sending.until;
        let wake = self.wake(until);
        let watch = match &mut self.sending.watch {
            Ok(watch) => watch,
            Err(error) => return Some(Err(error.clone())),
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => None,
            event = watch.next() => Some(event.map(Some)),
            () = tokio::time::sleep_until(wake) => {
                let now = Instant::now();
                self.last_bookmark |= now + LAST_BOOKMARK >= until;
                self.next_bookmark = now + self.sending.handle.settings().bookmark_every;
                let bookmark = watch.bookmark();
                Some(Ok(bookmark.filter(|_| self.sending.bookmarks)))
            }
        }
    }

    /// When the next bookmark is due.
    fn wake(&self, until: Instant) -> Instant {
        if !self.sending.bookmarks {
            return until;
        }
        match until.checked_sub(LAST_BOOKMARK) {
            Some(last) if !self.last_bookmark => self.next_bookmark.min(last),
            _ => self.next_bookmark.min(until),
        }
    }

    fn shape(&mut self, object: Value) -> Value {
        let Sending { handle, definition, form, include, .. } = &self.sending;
        match form {
            Form::Objects => object,
            Form::Metadata => metadata_of(&object),
            Form::Table(version) => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                let columns = !std::mem::replace(&mut self.columns_said, true);
                // A bookmark has no name, and makes no row.
                let rows = if object["metadata"].get("name").is_some() { vec![object] } else { Vec::new() };
                table(definition, version, metadata, &rows, *include, columns, handle.seconds())
            }
        }
    }
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}
