//! Sends what the book says is due: `events.k8s.io/v1`, created once, then patched as a series.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use vpc_agent::{About, ClusterEvent};
use vpc_model::{Millis, PodRef, Time};

use super::book::{Book, Entry};
use super::stamp::{micro, wall_now};
use crate::objects::Named;
use crate::reach::Reach;
use crate::shelf::Known;
use crate::wire::{Ask, Failure, Line};

/// Who says it; the reference's word.
const CONTROLLER: &str = "aws-node";

/// Limits of the API, in bytes.
const LONGEST_NOTE: usize = 1024;
const LONGEST_WORD: usize = 128;

/// After a failure of the server nothing is sent for so long.
const PAUSE: Millis = Millis::seconds(5);

/// Where events about things without a namespace go.
const DEFAULT: &str = "default";

/// Who we are, as far as events say so.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    /// Name of the node; empty: not known.
    pub(crate) node: String,
    /// Name of our own pod; empty: not known.
    pub(crate) pod: String,
}

/// The task that sends.
pub(crate) struct Poster {
    pub(crate) line: Line,
    pub(crate) sender: Sender,
    pub(crate) known: Known,
    pub(crate) reach: Reach,
    pub(crate) inbox: mpsc::Receiver<ClusterEvent>,
    pub(crate) lost: Arc<AtomicU64>,
}

/// What an event is about, as the API wants it.
#[derive(Clone, Debug)]
struct Regarding {
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
}

/// Our own pod, once it was looked for.
#[derive(Clone, Debug)]
enum Own {
    NotAsked,
    NotThere,
    There(Regarding),
}

impl Poster {
    /// Sends until nobody gives events any more.
    pub(crate) async fn run(mut self) {
        let start = Instant::now();
        let now = || Time(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
        let mut book = Book::new(now());
        let mut own = Own::NotAsked;
        let mut told_lost = 0;
        let mut quiet_until = now();
        loop {
            let next = if self.reach.is_there() { book.next(now()).map(|due| due.max(quiet_until)) } else { None };
            tokio::select! {
                event = self.inbox.recv() => match event {
                    Some(event) => book.add(now(), wall_now(), event),
                    None => return,
                },
                () = at(next.map(|due| start + Duration::from_millis(due.0))) => {}
                () = self.reach.wait_there(), if !self.reach.is_there() => {}
            }
            while self.reach.is_there() && now() >= quiet_until {
                let Some(entry) = book.take(now()) else { break };
                if let Err(failure) = self.send(&mut book, &entry, &mut own, now()).await {
                    tracing::debug!("event {}: {failure}", entry.event.reason);
                    book.unsent(now(), &entry, PAUSE);
                    quiet_until = now() + PAUSE;
                }
            }
            self.lost.fetch_add(book.lost(), Ordering::Relaxed);
            let lost = self.lost.load(Ordering::Relaxed);
            if lost > told_lost && told_lost == 0 {
                tracing::warn!(
                    "events for Kubernetes are lost: too many, or the API was away too long (told once; so far {lost})"
                );
                told_lost = lost;
            }
        }
    }

    /// Sends one. `Err`: the server is not there for us at the moment.
    async fn send(&mut self, book: &mut Book, entry: &Entry, own: &mut Own, now: Time) -> Result<(), Failure> {
        let done = match &entry.object {
            Some(object) => self.patch(entry, object).await.map(|()| object.clone()),
            None => match self.regarding(&entry.event.about, own).await? {
                Some(about) => self.create(entry, &about).await,
                None => {
                    book.refused(entry);
                    return Ok(());
                }
            },
        };
        match done {
            Ok(object) => book.told(now, entry, object),
            Err(failure) if failure.status() == Some(404) && entry.object.is_some() => book.vanished(entry),
            Err(failure) if failure.is_away() => return Err(failure),
            Err(failure) => {
                tracing::warn!("event {} can not be written: {failure}", entry.event.reason);
                book.refused(entry);
            }
        }
        Ok(())
    }

    async fn create(&mut self, entry: &Entry, about: &Regarding) -> Result<(String, String), Failure> {
        let namespace = if about.namespace.is_empty() { DEFAULT } else { about.namespace.as_str() };
        // As client-go names them; asked twice, it is made once.
        let name = format!("{}.{:x}", about.name, entry.first.0);
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let body = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"namespace": namespace, "name": name},
            "eventTime": micro(entry.first),
            "reportingController": CONTROLLER,
            "reportingInstance": self.instance(),
            "type": if entry.event.warning { "Warning" } else { "Normal" },
            "reason": cut(entry.event.reason, LONGEST_WORD),
            "action": word(&entry.event.action),
            "note": cut(&entry.event.note, LONGEST_NOTE),
            "regarding": regarding(about),
            "series": series(entry),
        });
        let ask = Ask { method: Method::POST, path: &path, body: Some(("application/json", body.to_string().into())) };
        match self.line.read::<Named>(&ask).await {
            Ok(_) => Ok((namespace.to_owned(), name)),
            // It was made by a request whose answer was lost.
            Err(failure) if failure.status() == Some(409) => Ok((namespace.to_owned(), name)),
            Err(failure) => Err(failure),
        }
    }

    async fn patch(&mut self, entry: &Entry, (namespace, name): &(String, String)) -> Result<(), Failure> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events/{name}");
        let body = json!({"series": series(entry)});
        let media = "application/merge-patch+json";
        let ask = Ask { method: Method::PATCH, path: &path, body: Some((media, body.to_string().into())) };
        self.line.read::<Named>(&ask).await.map(drop)
    }

    /// The instance that reports: our pod, or else the node.
    fn instance(&self) -> &str {
        let Sender { node, pod } = &self.sender;
        let name = [pod, node].into_iter().find(|name| !name.is_empty());
        cut(name.map_or(CONTROLLER, String::as_str), LONGEST_WORD)
    }

    /// `None`: there is nothing it could be about.
    async fn regarding(&mut self, about: &About, own: &mut Own) -> Result<Option<Regarding>, Failure> {
        match about {
            About::Node => Ok(self.node()),
            About::Pod(pod) => self.pod(pod).await.map(Some),
            About::OwnPod => {
                if let Own::NotAsked = own {
                    *own = self.find_own().await?;
                }
                Ok(if let Own::There(pod) = own { Some(pod.clone()) } else { self.node() })
            }
        }
    }

    /// kubelet writes a node's name for its uid, and readers look for both.
    fn node(&self) -> Option<Regarding> {
        let name = self.sender.node.clone();
        let uid = self.known.node_uid().unwrap_or_else(|| name.clone());
        (!name.is_empty()).then(|| Regarding { kind: "Node", namespace: String::new(), name, uid })
    }

    async fn pod(&mut self, pod: &PodRef) -> Result<Regarding, Failure> {
        let uid = match self.known.pod_uid(pod) {
            Some(uid) => uid,
            None => self.look_up(&pod.namespace, &pod.name).await?.unwrap_or_default(),
        };
        Ok(Regarding { kind: "Pod", namespace: pod.namespace.clone(), name: pod.name.clone(), uid })
    }

    async fn find_own(&mut self) -> Result<Own, Failure> {
        if self.sender.pod.is_empty() {
            return Ok(Own::NotThere);
        }
        let (namespace, name) = (self.line.access().namespace.clone(), self.sender.pod.clone());
        Ok(match self.look_up(&namespace, &name).await? {
            Some(uid) => Own::There(Regarding { kind: "Pod", namespace, name, uid }),
            None => {
                tracing::info!(
                    "there is no pod {namespace}/{name} (MY_POD_NAME): events about it are written about the node"
                );
                Own::NotThere
            }
        })
    }

    /// The uid of a pod; `None`: there is no such pod, or we may not know.
    async fn look_up(&mut self, namespace: &str, name: &str) -> Result<Option<String>, Failure> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        match self.line.read::<Named>(&Ask::get(&path)).await {
            Ok(pod) => Ok(Some(pod.metadata.uid)),
            Err(failure) if failure.is_away() => Err(failure),
            Err(_) => Ok(None),
        }
    }
}

fn regarding(about: &Regarding) -> Value {
    let mut value = json!({"apiVersion": "v1", "kind": about.kind, "name": about.name});
    for (field, text) in [("namespace", &about.namespace), ("uid", &about.uid)] {
        if !text.is_empty() {
            value[field] = json!(text);
        }
    }
    value
}

/// One occurrence is no series.
fn series(entry: &Entry) -> Value {
    if entry.count < 2 {
        return Value::Null;
    }
    json!({"count": entry.count, "lastObservedTime": micro(entry.last)})
}

/// The API wants an action to be there.
fn word(action: &str) -> &str {
    if action.is_empty() { "Report" } else { cut(action, LONGEST_WORD) }
}

/// At most so many bytes, without half a character.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
