//! The task that owns the agent. It never waits for the cloud, the kernel or a disk: effects run elsewhere and come back as the
//! next input. (A checkpoint that is kept in memory is written on the way, between what has come and what comes next.)
//!
//! ```text
//!   door --Event--> Shell --Input--> Agent --Effect--> Edges: cloud, host, disk, runtime, callers
//!     ^                                                  |
//!     +------------------ results -----------------------+
//! ```

use std::collections::HashMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep_until};
use vpc_agent::{
    Agent, CloudCall, DoomedLink, Effect, Generation, Input, Level, Notice, OpId, Outcome, Ticket, Update, Wake,
};
use vpc_cluster::Cluster;
use vpc_hostnet::HostOp;

use crate::clock::Clock;
use crate::cluster::wanted;
use crate::disk::{Hand, Lost};
use crate::door::Event;
use crate::failpoint::Point;

/// How long an ending daemon waits for what is under way. The manifest gives it 10 s; what remains is for closing the socket.
pub const LAST_WORDS: Duration = Duration::from_secs(7);

/// Where the hands are: each takes a piece of work and reports through the door. Unbounded because the agent bounds them: it has
/// one look or change of the host under way, one checkpoint, and calls for at most the ENIs of one instance.
#[derive(Debug)]
pub struct Edges {
    /// Calls to EC2.
    pub cloud: mpsc::UnboundedSender<(OpId, CloudCall)>,
    /// Readings of the metadata.
    pub metadata: mpsc::UnboundedSender<OpId>,
    /// Looks at and changes of the host.
    pub host: std::sync::mpsc::Sender<HostWork>,
    /// Checkpoints.
    pub disk: Hand,
    /// The node can serve: a sign for the runtime.
    pub ready: mpsc::UnboundedSender<()>,
    /// Kubernetes, if there is any.
    pub cluster: Option<Cluster>,
}

/// Work for the host's hand.
#[derive(Debug)]
pub enum HostWork {
    /// Look at it all.
    Observe(OpId),
    /// Change it, in this order.
    Apply(OpId, Vec<HostOp>),
    /// Remove these links together.
    RemoveLinks(OpId, Vec<DoomedLink>),
    /// Forget tracked connections of these addresses.
    Flush(OpId, Vec<Ipv4Addr>),
}

/// The agent with everything that happens around it.
pub struct Shell {
    agent: Agent,
    clock: Clock,
    inbox: mpsc::Receiver<Event>,
    edges: Edges,
    answers: HashMap<Ticket, oneshot::Sender<Outcome>>,
    /// A checkpoint to be written once everything that has come is taken in.
    to_write: Option<(Generation, Update)>,
    /// Work handed out whose result has not come back.
    under_way: usize,
    ending: Option<Instant>,
    worker_lost: bool,
    /// No tick before.
    next_tick: Instant,
}

/// Least time between two ticks: a deadline that a tick does not clear must not become a busy loop.
const TICK_PAUSE: Duration = Duration::from_millis(5);

/// A worker has ended by itself: the daemon can not go on, and is started again by whoever keeps it.
#[derive(Debug, thiserror::Error)]
#[error("a worker (EC2, host or checkpoint) has ended; the daemon ends too, so that it is started again")]
pub struct WorkerLost;

impl Shell {
    /// Takes over an agent that has just been started, and carries out its first effects.
    #[must_use]
    pub fn new(agent: Agent, first: Vec<Effect>, clock: Clock, inbox: mpsc::Receiver<Event>, edges: Edges) -> Self {
        let mut shell = Self {
            agent,
            clock,
            inbox,
            edges,
            answers: HashMap::new(),
            to_write: None,
            under_way: 0,
            ending: None,
            worker_lost: false,
            next_tick: Instant::now(),
        };
        shell.carry_out(first);
        shell.write();
        shell
    }

    /// Runs until `asked_to_end` resolves and everything that was under way has ended, or [`LAST_WORDS`] have passed.
    ///
    /// # Errors
    /// A worker has ended by itself.
    pub async fn run(mut self, asked_to_end: impl Future<Output = ()>) -> Result<(), WorkerLost> {
        let mut asked_to_end = Box::pin(asked_to_end);
        while !self.is_done() {
            self.step(asked_to_end.as_mut()).await;
        }
        if self.under_way > 0 || !self.answers.is_empty() {
            tracing::warn!(
                under_way = self.under_way,
                callers = self.answers.len(),
                "ending although not everything has ended"
            );
        }
        if self.worker_lost { Err(WorkerLost) } else { Ok(()) }
    }

    async fn step(&mut self, asked_to_end: Pin<&mut impl Future<Output = ()>>) {
        let deadline = self.agent.next_deadline();
        let wake = deadline.map(|(at, _)| Instant::from_std(self.clock.instant(at)).max(self.next_tick));
        let ending = self.ending;
        tokio::select! {
            biased;
            () = asked_to_end, if ending.is_none() => {
                Point::EndAsked.pass();
                tracing::info!("asked to end: no new addresses are promised, what is under way is finished");
                self.ending = Some(Instant::now() + LAST_WORDS);
                self.think(Input::Terminate);
            }
            event = self.inbox.recv() => match event {
                Some(event) => {
                    self.take(event);
                    // What came at the same moment shares a checkpoint.
                    while let Ok(event) = self.inbox.try_recv() {
                        self.take(event);
                    }
                }
                // The server, the edges and we hold the door; without any of them nothing can happen any more.
                None => self.ending = Some(Instant::now()),
            },
            () = at(wake) => self.tick(deadline.map(|(_, wake)| wake)),
            () = at(ending) => {}
        }
        self.write();
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Asked { ticket, input, answer } => {
                self.answers.insert(ticket, answer);
                self.think(input);
            }
            Event::Told(input) => self.hear(input),
        }
    }

    /// Hands the checkpoint over. If it is written at once, the agent hears so, and may have another.
    fn write(&mut self) {
        while let Some((generation, update)) = self.to_write.take() {
            match self.edges.disk.write(generation, update) {
                Ok(Some(result)) => self.think(Input::CheckpointWritten { generation, result }),
                Ok(None) => self.under_way += 1,
                Err(Lost) => self.lose_worker(),
            }
        }
    }

    fn tick(&mut self, wake: Option<Wake>) {
        tracing::debug!(?wake, "tick");
        self.next_tick = Instant::now() + TICK_PAUSE;
        self.think(Input::Tick);
    }

    fn hear(&mut self, input: Input) {
        match &input {
            Input::CloudDone { .. }
            | Input::HostObserved { .. }
            | Input::HostApplied { .. }
            | Input::LinksRemoved { .. }
            | Input::CheckpointWritten { .. }
            | Input::MetadataRead { .. }
            | Input::FlowsFlushed { .. } => {
                self.under_way = self.under_way.saturating_sub(1);
            }
            Input::AddAbandoned { ticket } => _ = self.answers.remove(ticket),
            Input::Settings(config) => {
                if let Some(cluster) = &self.edges.cluster {
                    cluster.want(wanted(config));
                }
            }
            Input::Add { .. }
            | Input::Del { .. }
            | Input::Undo { .. }
            | Input::Status { .. }
            | Input::Find { .. }
            | Input::Reported { .. }
            | Input::Collect { .. }
            | Input::HostChanged
            | Input::VpcCidrs(_)
            | Input::Cluster(_)
            | Input::Terminate
            | Input::Tick => {}
        }
        self.think(input);
    }

    fn think(&mut self, input: Input) {
        let effects = self.agent.handle(self.clock.now(), input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let taken = match effect {
                Effect::Say(notice) => {
                    say(&notice);
                    if let (Some(cluster), Some(event)) = (&self.edges.cluster, notice.event()) {
                        cluster.events().tell(event);
                    }
                    continue;
                }
                Effect::Reply { ticket, outcome } => {
                    // A caller that has gone is known to the agent by its own report.
                    self.answers.remove(&ticket).map(|answer| answer.send(outcome));
                    continue;
                }
                Effect::Ready => {
                    let _ = self.edges.ready.send(());
                    continue;
                }
                Effect::Cloud { op, call } => self.edges.cloud.send((op, call)).is_ok(),
                Effect::ReadMetadata { op } => self.edges.metadata.send(op).is_ok(),
                Effect::FlushFlows { op, addresses } => self.edges.host.send(HostWork::Flush(op, addresses)).is_ok(),
                Effect::ObserveHost { op } => self.edges.host.send(HostWork::Observe(op)).is_ok(),
                Effect::RemoveLinks { op, links } => self.edges.host.send(HostWork::RemoveLinks(op, links)).is_ok(),
                Effect::ApplyHost { op, ops } => self.edges.host.send(HostWork::Apply(op, ops)).is_ok(),
                Effect::WriteCheckpoint { generation, update } => {
                    self.to_write = Some((generation, update));
                    continue;
                }
            };
            if taken {
                self.under_way += 1;
            } else {
                self.lose_worker();
            }
        }
    }

    fn lose_worker(&mut self) {
        self.worker_lost = true;
        self.ending = Some(Instant::now());
    }

    fn is_done(&self) -> bool {
        let quiet = self.under_way == 0 && self.answers.is_empty();
        self.ending.is_some_and(|until| quiet || Instant::now() >= until)
    }
}

/// Waits for a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn say(notice: &Notice) {
    match notice.level() {
        Level::Debug => tracing::debug!("{notice}"),
        Level::Info => tracing::info!("{notice}"),
        Level::Warn => tracing::warn!("{notice}"),
        Level::Error => tracing::error!("{notice}"),
    }
}
