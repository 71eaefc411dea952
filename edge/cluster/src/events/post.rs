//! Sends what the book says is due: `events.k8s.io/v1`, created once, then patched as a series.

use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use vpc_agent::About;
use vpc_model::{Millis, PodRef};

use super::Events;
use super::book::Entry;
use super::stamp::micro;
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
    pub(crate) events: Events,
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
    /// Sends for ever.
    pub(crate) async fn run(mut self) {
        let events = self.events.clone();
        let mut own = Own::NotAsked;
        let mut quiet_until = events.now();
        let mut told_lost = false;
        loop {
            let there = self.reach.is_there();
            let next = if there { events.book().next(events.now()) } else { None };
            tokio::select! {
                () = events.news() => {}
                () = at(next.map(|due| events.instant(due.max(quiet_until)))) => {}
                () = self.reach.wait_there(), if !there => {}
            }
            while self.reach.is_there() && events.now() >= quiet_until {
                let entry = events.book().take(events.now());
                let Some(entry) = entry else { break };
                if let Err(failure) = self.send(&entry, &mut own).await {
                    tracing::debug!("event {}: {failure}", entry.event.reason);
                    events.book().unsent(events.now(), &entry, PAUSE);
                    quiet_until = events.now() + PAUSE;
                }
            }
            if !told_lost && events.lost() > 0 {
                tracing::warn!(
                    "events for Kubernetes are lost: too many at once, or the API was away too long (told once)"
                );
                told_lost = true;
            }
        }
    }

    /// Sends one. `Err`: the server is not there for us at the moment.
    async fn send(&mut self, entry: &Entry, own: &mut Own) -> Result<(), Failure> {
        let done = match &entry.object {
            Some(object) => self.patch(entry, object).await.map(|()| object.clone()),
            None => match self.regarding(&entry.event.about, own).await? {
                Some(about) => self.create(entry, &about).await,
                None => {
                    self.events.book().refused(entry);
                    return Ok(());
                }
            },
        };
        match done {
            Ok(object) => self.events.book().told(self.events.now(), entry, object),
            Err(failure) if failure.status() == Some(404) && entry.object.is_some() => {
                self.events.book().vanished(entry);
            }
            Err(failure) if failure.is_away() => return Err(failure),
            Err(failure) => {
                tracing::warn!("event {} can not be written: {failure}", entry.event.reason);
                self.events.book().refused(entry);
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
