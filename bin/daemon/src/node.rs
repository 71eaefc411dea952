//! One node put together: books, agent, hands, socket; served until it is asked to end.
//!
//! ```text
//!   checkpoint (or the kernel's links) + metadata + EC2 --> Agent --> Shell <--> cloud, host, disk
//!                                     socket --> Backend --> door --/    \--> ready: health, conflist
//! ```
//!
//! The socket opens as soon as the agent knows its books: an ADD that comes while the pool is filled waits for it. The runtime is
//! told (conflist, health) only when the node can serve.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use vpc_agent::{Agent, CloudAnswer, CloudCall, CloudFailure, Config, FailureClass, Input, Metadata, NodeFacts, OpId};
use vpc_model::Ipv4Net;
use vpc_wire::rpc::server::{self as rpc, Health};

use crate::clock::Clock;
use crate::cluster::Kubernetes;
use crate::disk::Hand;
use crate::door::{Door, door};
use crate::failpoint::Point;
use crate::inquiry::Inquiry;
use crate::memory::Memory;
use crate::server::{Backend, Configs, NodeIdentity};
use crate::shell::{Edges, Shell};
use crate::under_way::UnderWay;
use crate::{host, lock, tombstones};

/// Limit of one call to the cloud with all the client's own retries. Beyond it nobody knows whether it was carried out.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How often the VPC's CIDRs are looked up, as the reference does.
const CIDR_PERIOD: Duration = Duration::from_secs(30);

/// How long connections may take to close once everything is answered.
const CLOSING: Duration = Duration::from_secs(2);

/// What the node asks of the world beyond itself.
pub trait Cloud: Send + Sync + 'static {
    /// Carries a call out.
    fn call(&self, call: CloudCall) -> impl Future<Output = Result<CloudAnswer, CloudFailure>> + Send;

    /// What the metadata show of the node's ENIs.
    fn metadata(&self) -> impl Future<Output = Result<Metadata, String>> + Send;

    /// The VPC's CIDRs as the metadata list them; `None` if they could not be had.
    fn vpc_cidrs(&self) -> impl Future<Output = Option<Vec<Ipv4Net>>> + Send;
}

/// Everything a node is made of.
pub struct Node<C, H> {
    /// The world beyond.
    pub cloud: C,
    /// The host's network.
    pub host: H,
    /// Settings and limits.
    pub config: Config,
    /// What is known of the node.
    pub facts: NodeFacts,
    /// What the last run left behind.
    pub memory: Memory,
    /// The checkpoint file.
    pub checkpoint: PathBuf,
    /// The socket to listen on.
    pub socket: PathBuf,
    /// What the policy agent is told.
    pub identity: NodeIdentity,
    /// The API server, if there is one.
    pub kubernetes: Option<Kubernetes>,
}

impl<C: Cloud, H: host::Hand> Node<C, H> {
    /// Serves until `asked_to_end` resolves. `watch` is given the door once, to report changes of the host through it. `ready` is
    /// called once, on a thread that may block, when the node can serve pods.
    ///
    /// # Errors
    /// The socket can not be opened, or a part of the daemon ended by itself.
    pub async fn serve(
        self,
        watch: impl FnOnce(Door) -> io::Result<()>,
        ready: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
        asked_to_end: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let clock = Clock::start();
        let (door, inbox) = door();
        let cluster = self.kubernetes.map(|kubernetes| kubernetes.start(&self.config, door.clone()));
        let (agent, first) = Agent::start(clock.now(), self.config, self.facts, &self.memory.books);
        let (tell_ready, is_ready) = mpsc::unbounded_channel();
        let cloud = Arc::new(self.cloud);
        let edges = Edges {
            cloud: start_cloud(cloud.clone(), door.clone()),
            metadata: start_metadata(cloud.clone(), door.clone()),
            host: host::start(self.host, door.clone()).context("the host's thread")?,
            disk: Hand::start(self.checkpoint, self.memory.writes, door.clone()).context("the checkpoint's thread")?,
            ready: tell_ready,
            cluster,
        };
        tokio::spawn(refresh_cidrs(cloud, door.clone()));
        tokio::spawn(tombstones::watch(tombstones::folder(&self.socket), door.clone()));
        watch(door.clone()).context("the watcher's thread")?;
        Point::StartBeforeListen.pass();
        let listener = rpc::listen(&self.socket)?;
        tracing::info!("listening on {}", self.socket.display());
        Point::StartAfterListen.pass();
        let (give_health, health) = oneshot::channel();
        let (close, closed) = oneshot::channel::<()>();
        let under_way = UnderWay::default();
        let backend = Backend::new(door.clone(), self.identity.policy_mode.clone(), under_way.clone());
        let inquiry = Inquiry::new(door, clock, self.identity.policy_mode.clone(), under_way);
        let take_health = |health| drop(give_health.send(health));
        let mut serving =
            tokio::spawn(rpc::serve_node(listener, backend, Configs(self.identity), inquiry, take_health, async {
                // The sender goes with the shell, by order or otherwise.
                let _ = closed.await;
            }));
        let announcing = announce(health, is_ready, ready);
        let shell = Shell::new(agent, first, clock, inbox, edges);
        let ended = tokio::select! {
            ended = shell.run(asked_to_end) => ended.map_err(anyhow::Error::from),
            Err(error) = announcing => Err(error),
            stopped = &mut serving => Err(anyhow::anyhow!("the gRPC server has stopped by itself: {stopped:?}")),
        };
        drop(close);
        if !serving.is_finished() && timeout(CLOSING, serving).await.is_err() {
            tracing::warn!("connections are still open; they are cut");
        }
        Point::EndBeforeRemoveSocket.pass();
        lock::remove_socket(&self.socket);
        ended
    }
}

/// Takes calls and carries each out in a task of its own.
fn start_cloud<C: Cloud>(cloud: Arc<C>, door: Door) -> mpsc::UnboundedSender<(OpId, CloudCall)> {
    let (work, mut inbox) = mpsc::unbounded_channel::<(OpId, CloudCall)>();
    tokio::spawn(async move {
        while let Some((op, call)) = inbox.recv().await {
            let (cloud, door) = (cloud.clone(), door.clone());
            tokio::spawn(async move {
                let result = carry_out(cloud, call).await;
                door.tell(Input::CloudDone { op, result }).await;
            });
        }
    });
    work
}

/// Reads the metadata as often as it is asked to.
fn start_metadata<C: Cloud>(cloud: Arc<C>, door: Door) -> mpsc::UnboundedSender<OpId> {
    let (work, mut inbox) = mpsc::unbounded_channel::<OpId>();
    tokio::spawn(async move {
        while let Some(op) = inbox.recv().await {
            let result = cloud.metadata().await;
            door.tell(Input::MetadataRead { op, result }).await;
        }
    });
    work
}

async fn carry_out<C: Cloud>(cloud: Arc<C>, call: CloudCall) -> Result<CloudAnswer, CloudFailure> {
    let what = call.to_string();
    let started = std::time::Instant::now();
    let carried_out = tokio::spawn(async move { cloud.call(call).await });
    let lost = |code: &str, message: String| CloudFailure {
        class: FailureClass::Lost,
        action: what.clone(),
        code: code.to_owned(),
        message,
        lost_before: false,
    };
    let result = match timeout(CALL_LIMIT, carried_out).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(lost("Abandoned", error.to_string())),
        Err(_) => Err(lost("Timeout", format!("no answer within {} s", CALL_LIMIT.as_secs()))),
    };
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(millis, ok = result.is_ok(), "{what}");
    result
}

async fn refresh_cidrs<C: Cloud>(cloud: Arc<C>, door: Door) {
    let mut timer = interval(CIDR_PERIOD);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is now; the agent has just been told.
    timer.tick().await;
    loop {
        timer.tick().await;
        if let Some(cidrs) = cloud.vpc_cidrs().await {
            door.tell(Input::VpcCidrs(cidrs)).await;
        }
    }
}

/// Keeps probes waiting until the node can serve, then tells them and the runtime.
///
/// # Errors
/// The runtime can not be told: the node would wait for ever to become ready.
async fn announce(
    health: oneshot::Receiver<Health>,
    mut is_ready: mpsc::UnboundedReceiver<()>,
    ready: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let health = health.await.ok();
    if let Some(health) = &health {
        health.set_serving(false).await;
    }
    if is_ready.recv().await.is_none() {
        return Ok(());
    }
    tokio::task::spawn_blocking(ready).await??;
    if let Some(health) = &health {
        health.set_serving(true).await;
    }
    Ok(())
}
