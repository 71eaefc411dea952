//! The daemon's side of Kubernetes: our node, our pods, the ENIConfigs as news; events as words to people. Nothing waits for it, and
//! what it holds does not grow with the cluster.
//!
//! ```text
//!   Environment --find--> Access: server, CA, token        (files are read again when they are needed)
//!
//!   watch nodes (metadata.name=ours)  --+                                   ClusterNews
//!   watch pods (spec.nodeName=ours)   --+--> partial objects --> shelves --------------> whoever started it
//!   watch eniconfigs (when wanted)    --+        one at a time      \--> Reachable(bool), once for each change
//!   list nodes, limit=1                 --> items + remainingItemCount --> Nodes(count), once
//!
//!   ClusterEvent --Events::tell--> folded, paced --> events.k8s.io/v1
//! ```
//!
//! The requests are few and always the same, so the client is ours: hyper, rustls and serde, which the daemon has anyway. See
//! docs/decisions/0024.

mod access;
mod census;
mod events;
mod kubeconfig;
mod objects;
mod pace;
mod pieces;
mod reach;
mod shelf;
mod watch;
mod wire;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;
use vpc_agent::ClusterNews;

pub use access::{Access, AccessError, Environment, SECRETS};
use census::Census;
pub use events::Events;
use events::{Author, Poster};
pub use pace::Pace;
use reach::{Duty, Reach};
use shelf::{EniConfigShelf, Known, NodeShelf, PodShelf, Shelf};
use watch::{Follower, Subject};
use wire::Line;
pub use wire::{Failure, Traffic};

/// Who we are in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `MY_NODE_NAME`; empty: not told, and neither nodes nor pods are watched.
    pub node: String,
    /// `MY_POD_NAME`; empty: not told.
    pub pod: String,
    /// What the server reads as our user agent.
    pub user_agent: String,
}

/// What is watched beside our node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Pods bound to our node.
    pub pods: bool,
    /// ENIConfigs.
    pub eni_configs: bool,
}

/// The running watches and the way for events. They end when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    wanted: channel::Sender<Wanted>,
    events: Events,
    traffic: Arc<Traffic>,
    _tasks: JoinSet<()>,
}

impl Cluster {
    /// Starts the watches; news go to `news` until its other end is dropped. Must be called inside a tokio runtime with I/O and time.
    #[must_use]
    pub fn start(
        access: &Access,
        identity: &Identity,
        wanted: Wanted,
        pace: Pace,
        news: mpsc::Sender<ClusterNews>,
    ) -> Self {
        let traffic = Arc::<Traffic>::default();
        let reach = Reach::new(&access.server(), news.clone(), pace);
        let known = Known::default();
        let (wanted, wishes) = channel::channel(wanted);
        let agent: Arc<str> = identity.user_agent.as_str().into();
        let parts = Parts { access: access.clone(), agent, pace, news, traffic: traffic.clone(), reach, known };
        let mut tasks = JoinSet::new();
        let node = identity.node.clone();
        let scout = if node.is_empty() {
            tracing::warn!("MY_NODE_NAME is not set: neither the node nor its pods are looked for in Kubernetes");
            Duty::Scout
        } else {
            tasks.spawn(parts.our_node(&node).run());
            let of_pods = parts.clone();
            tasks.spawn(while_wanted(wishes.clone(), |wanted| wanted.pods, move || of_pods.our_pods(&node).run()));
            Duty::Follow
        };
        let of_configs = parts.clone();
        tasks.spawn(while_wanted(wishes, |wanted| wanted.eni_configs, move || of_configs.eni_configs(scout).run()));
        let events = Events::new();
        let sender = Author { node: identity.node.clone(), pod: identity.pod.clone() };
        let (line, news, reach) = (parts.line(), parts.news.clone(), parts.reach.clone());
        tasks.spawn(Census { line, news, reach, pace }.run());
        let (line, known, reach) = (parts.line(), parts.known, parts.reach);
        tasks.spawn(Poster { line, sender, known, reach, events: events.clone() }.run());
        Self { wanted, events, traffic, _tasks: tasks }
    }

    /// Changes what is watched.
    pub fn want(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|known| std::mem::replace(known, wanted) != wanted);
    }

    /// Where events are given.
    #[must_use]
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// What has come over the network.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

/// What every watch is made of.
#[derive(Clone)]
struct Parts {
    access: Access,
    agent: Arc<str>,
    pace: Pace,
    news: mpsc::Sender<ClusterNews>,
    traffic: Arc<Traffic>,
    reach: Reach,
    known: Known,
}

impl Parts {
    fn line(&self) -> Line {
        Line::new(self.access.clone(), self.agent.clone(), self.pace, self.traffic.clone())
    }

    fn follower<S: Shelf>(&self, subject: Subject, shelf: S, duty: Duty) -> Follower<S> {
        let (news, reach) = (self.news.clone(), self.reach.clone());
        Follower { subject, line: self.line(), shelf, news, reach, duty, pace: self.pace }
    }

    /// It finds out for all whether the server answers.
    fn our_node(&self, node: &str) -> Follower<NodeShelf> {
        let subject = Subject { what: "nodes", path: "/api/v1/nodes", fields: format!("metadata.name={node}") };
        self.follower(subject, NodeShelf::new(self.known.clone()), Duty::Scout)
    }

    fn our_pods(&self, node: &str) -> Follower<PodShelf> {
        // Pods that have ended are left out by the server.
        let fields = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
        let subject = Subject { what: "pods", path: "/api/v1/pods", fields };
        self.follower(subject, PodShelf::new(self.known.clone()), Duty::Follow)
    }

    fn eni_configs(&self, duty: Duty) -> Follower<EniConfigShelf> {
        let path = "/apis/crd.k8s.amazonaws.com/v1alpha1/eniconfigs";
        let subject = Subject { what: "eniconfigs", path, fields: String::new() };
        self.follower(subject, EniConfigShelf::default(), duty)
    }
}

/// Runs a watch as long as it is wanted.
async fn while_wanted<F: Future<Output = ()>>(
    mut wishes: channel::Receiver<Wanted>,
    is_wanted: fn(&Wanted) -> bool,
    run: impl Fn() -> F,
) {
    loop {
        if wishes.wait_for(is_wanted).await.is_err() {
            return;
        }
        tokio::select! {
            () = run() => return,
            changed = wishes.wait_for(|wanted| !is_wanted(wanted)) => if changed.is_err() { return },
        }
    }
}
