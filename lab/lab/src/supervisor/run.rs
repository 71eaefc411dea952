//! PID 1 of the lab: builds the fabric, runs the cloud, boots the nodes, opens the door, and waits for the end.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use lab_cloud::FabricEvent;
use lab_serve::{CloudHandle, Delivery, ImdsCallers, ImdsOptions, Server, serve_ec2, serve_imds};
use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::Runtime;
use vpc_linux::Netns;
use vpc_model::{InstanceId, WallTime};

use super::cluster::Registered;
use super::cuts::Cuts;
use super::faults::FaultBook;
use super::host::HostDoors;
use super::node::{Node, NodePlaces, READY_PATIENCE};
use super::nodes::Nodes;
use super::{Order, Progress, Report, Step, hang_up, report, server};
use crate::cluster::{Cluster, KUBE_PORT};
use crate::control::{HostEndpoints, Place};
use crate::dns::{NodeNames, Resolver};
use crate::fabric::{
    EC2_ADDRESS, Endpoints, Fabric, IMDS_ADDRESS, KUBE_ADDRESS, LinkLocalLimit, Responder, WorldLog, listen, resolvers,
    serve,
};
use crate::fault::ApiSeat;
use crate::place::LabPlace;
use crate::topology::Topology;

/// Threads that serve EC2, IMDS and the public hosts.
const SERVER_THREADS: usize = 2;

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) lab: String,
    pub(super) since: SystemTime,
    pub(super) topology: Topology,
    pub(super) programs: PathBuf,
    pub(super) fabric: Arc<Fabric>,
    pub(super) cloud: CloudHandle,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) nodes: Nodes,
    pub(super) host: HostEndpoints,
    /// Where the Kubernetes API is served from.
    pub(super) api: ApiSeat,
    pub(super) cluster: Cluster,
    pub(super) registered: Registered,
    pub(super) faults: FaultBook,
    pub(super) cuts: Cuts,
    pub(super) visits: WorldLog,
    pub(super) endpoints: Endpoints,
    /// Where the topology has one.
    pub(super) link_local: Option<LinkLocalLimit>,
    end: mpsc::Sender<()>,
}

/// Runs until somebody ends the lab.
///
/// # Errors
/// Why it could not be started.
pub(super) fn run(order: Order, place: &LabPlace, doors: HostDoors) -> Result<(), String> {
    log_to_stderr();
    let clock = Clock(Instant::now());
    let (end, ended) = mpsc::channel();
    end_on_signals(end.clone())?;
    let fabric = Arc::new(Fabric::build(&order.topology).map_err(|e| e.to_string())?);
    clock.done(Step::Fabric);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(SERVER_THREADS).enable_all().build();
    let runtime = runtime.map_err(|e| format!("start the server threads: {e}"))?;
    let link_local = LinkLocalLimit::install(&order.topology).map_err(|e| e.to_string())?;
    let mut servers = Servers::default();
    let visits = WorldLog::default();
    servers.hosts(&runtime, &fabric, &order.topology, &visits)?;
    let (cloud, deliveries) = servers.cloud(&runtime, &order.topology)?;
    clock.done(Step::Cloud);
    let (mut host, api) = doors.serve(&runtime, &cloud)?;
    let cluster = servers.kubernetes(&runtime, &order.topology, &api, &mut host)?;
    if let Some(text) = cluster.kubeconfig() {
        let file = place.kubeconfig();
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    clock.done(Step::Kubernetes);
    let places = NodePlaces {
        programs: order.programs.clone(),
        mount_point: place.mount_point(),
        names: NodeNames::of(&order.topology),
        cluster_files: cluster.files(),
    };
    let nodes = Nodes::of(&order.topology, places, Arc::clone(&fabric))?;
    let supervisor = Arc::new(Supervisor {
        lab: order.lab.clone(),
        since: SystemTime::now(),
        topology: order.topology.clone(),
        programs: order.programs.clone(),
        fabric,
        cloud,
        runtime: runtime.handle().clone(),
        nodes,
        host,
        api,
        cluster,
        registered: Registered::default(),
        faults: FaultBook::default(),
        cuts: Cuts::default(),
        endpoints: Endpoints::new(runtime.handle().clone(), visits.clone()),
        link_local,
        visits,
        end: end.clone(),
    });
    let follower = Arc::clone(&supervisor);
    spawn("fabric", move || follower.follow(deliveries))?;
    let registrar = Arc::clone(&supervisor);
    spawn("cluster", move || registrar.run_cluster())?;
    let door = UnixListener::bind(place.socket()).map_err(|e| format!("{}: {e}", place.socket().display()))?;
    let doorman = Arc::clone(&supervisor);
    spawn("door", move || server::serve(&doorman, &door))?;
    let warnings = if order.wait_for_daemons { supervisor.wait_until_ready(clock) } else { Vec::new() };
    supervisor.tell_nodes();
    report(&Report::Ready { warnings });
    hang_up().map_err(|e| format!("close stdout: {e}"))?;
    if order.lifeline {
        spawn("lifeline", move || {
            io::stdin().read_to_end(&mut Vec::new()).ok();
            end.send(()).ok();
        })?;
    }
    ended.recv().ok();
    std::fs::remove_file(place.socket()).ok();
    Ok(())
}

impl Supervisor {
    /// Ends the lab.
    pub(super) fn end(&self) {
        self.end.send(()).ok();
    }

    /// The node an instance is.
    fn node(&self, instance: &InstanceId) -> Option<Arc<Node>> {
        self.nodes.of_instance(instance)
    }

    /// Lets the fabric follow the cloud, change by change. EC2 answers when a delivery is dropped: services, which call EC2, are
    /// started after that.
    fn follow(self: Arc<Self>, mut deliveries: tokio::sync::mpsc::Receiver<Delivery>) {
        while let Some(delivery) = deliveries.blocking_recv() {
            let booted = self.apply(&delivery.events);
            delivery.done();
            for node in booted {
                let name = node.spec.name.clone();
                let started = spawn(&name, move || {
                    node.start_services();
                    node.restore_pods();
                });
                if let Err(e) = started {
                    tracing::error!(node = name, "{e}");
                }
            }
        }
    }

    /// Applies events in order; nodes that get power in one run boot at the same time. Returns those that have booted.
    fn apply(&self, events: &[FabricEvent]) -> Vec<Arc<Node>> {
        let mut booted = Vec::new();
        let mut rest = events;
        while let Some((first, others)) = rest.split_first() {
            if matches!(first, FabricEvent::InstanceStarted { .. }) {
                let count =
                    rest.iter().take_while(|event| matches!(event, FabricEvent::InstanceStarted { .. })).count();
                let (starts, others) = rest.split_at(count);
                booted.extend(self.boot_all(starts));
                rest = others;
            } else {
                self.apply_one(first);
                rest = others;
            }
        }
        booted
    }

    fn boot_all(&self, starts: &[FabricEvent]) -> Vec<Arc<Node>> {
        let nodes = starts.iter().filter_map(|event| match event {
            FabricEvent::InstanceStarted { instance, enis } => self.node(instance).map(|node| (node, enis)),
            _ => None,
        });
        let nodes: Vec<_> = nodes.collect();
        std::thread::scope(|scope| {
            for (node, enis) in &nodes {
                scope.spawn(|| node.boot(enis));
            }
        });
        self.cuts_follow();
        nodes.into_iter().map(|(node, _)| node).collect()
    }

    fn apply_one(&self, event: &FabricEvent) {
        match event {
            FabricEvent::InstanceStarted { .. } => {}
            FabricEvent::InstanceLaunched(launched) => {
                if let Err(e) = self.nodes.launch(launched) {
                    tracing::error!(instance = %launched.id, "launch: {e}");
                }
            }
            FabricEvent::InstanceStopped { instance } => {
                if let Some(node) = self.node(instance) {
                    node.power_off();
                }
            }
            FabricEvent::InstanceTerminated { instance } => {
                if let Some(node) = self.node(instance) {
                    self.faults_end_with(&node.spec.name);
                }
                self.nodes.forget(instance);
            }
            FabricEvent::EniAttached { instance, eni } => {
                if let Some(node) = self.node(instance) {
                    node.attach(eni);
                    self.cuts_follow();
                }
            }
            FabricEvent::EniDetached { instance, eni, .. } => {
                if let Some(node) = self.node(instance) {
                    node.detach(eni);
                }
            }
            FabricEvent::EniChanged { instance, eni } => {
                if let Some(node) = self.node(instance) {
                    node.change(eni);
                }
            }
            FabricEvent::Network(plan) => {
                self.nodes.learn(plan);
                if let Err(e) = self.fabric.set_network(plan) {
                    tracing::error!("network: {e}");
                }
                if let Err(e) = self.endpoints.follow(&self.fabric, plan) {
                    tracing::error!("endpoints: {e}");
                }
            }
            FabricEvent::PublicMappingChanged { private, public } => {
                if let Err(e) = self.fabric.set_public(*private, *public) {
                    tracing::error!(%private, "public address: {e}");
                }
            }
        }
    }

    /// Waits for every node, all at the same time; what is wrong with those that are not ready.
    fn wait_until_ready(&self, clock: Clock) -> Vec<String> {
        let nodes = self.nodes.all();
        clock.done(Step::Nodes { names: nodes.iter().map(|node| node.spec.name.clone()).collect() });
        let wait = |node: &Node| {
            let name = || node.spec.name.clone();
            let outcome = node.wait_ready_telling(READY_PATIENCE, || clock.done(Step::Booted { node: name() }));
            clock.done(match outcome {
                Ok(()) => Step::Ready { node: name(), daemon: node.daemon_status().is_some() },
                Err(_) => Step::NotReady { node: name() },
            });
            outcome
        };
        std::thread::scope(|scope| {
            let waiting: Vec<_> = nodes.iter().map(|node| scope.spawn(|| wait(node))).collect();
            let outcomes =
                waiting.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())));
            outcomes.filter_map(Result::err).collect()
        })
    }
}

/// Says what is done, and when.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn done(self, step: Step) {
        let at_ms = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        report(&Report::Progress(Progress { at_ms, step }));
    }
}

/// What listens; it ends with the lab.
#[derive(Default)]
struct Servers {
    running: Vec<Server>,
}

impl Servers {
    fn cloud(
        &mut self,
        runtime: &Runtime,
        topology: &Topology,
    ) -> Result<(CloudHandle, tokio::sync::mpsc::Receiver<Delivery>), String> {
        let _inside = runtime.enter();
        let (cloud, deliveries) =
            lab_serve::start(topology.world(), topology.setup(wall_time())).map_err(|e| e.to_string())?;
        let failed = |what: &'static str| move |e: io::Error| format!("serve {what}: {e}");
        let bind = |address, what| TcpListener::bind((address, 80)).map_err(failed(what));
        let options = ImdsOptions { callers: ImdsCallers::ByAddress, routers_between: 0 };
        let ec2 = serve_ec2(cloud.clone(), bind(EC2_ADDRESS, "EC2")?).map_err(failed("EC2"))?;
        let imds = serve_imds(cloud.clone(), bind(IMDS_ADDRESS, "IMDS")?, options).map_err(failed("IMDS"))?;
        self.running.extend([ec2, imds]);
        Resolver::start(topology, cloud.clone(), &resolvers(&topology.cidrs)).map_err(failed("the resolver"))?;
        // They live as long as the process: the lab has no life without them.
        self.running.drain(..).for_each(std::mem::forget);
        Ok((cloud, deliveries))
    }

    /// The Kubernetes API, for nodes and for the host.
    fn kubernetes(
        &mut self,
        runtime: &Runtime,
        topology: &Topology,
        seat: &ApiSeat,
        host: &mut HostEndpoints,
    ) -> Result<Cluster, String> {
        let _inside = runtime.enter();
        let failed = |e: io::Error| format!("serve the Kubernetes API: {e}");
        let inside = TcpListener::bind((KUBE_ADDRESS, KUBE_PORT)).map_err(failed)?;
        let door = seat.take_door();
        host.kube = door.as_ref().map(TcpListener::local_addr).transpose().map_err(failed)?;
        let cluster = Cluster::start(topology.seed, inside, door)?;
        seat.sit(Arc::new(cluster.clone()));
        topology.objects.iter().try_for_each(|object| cluster.put(object))?;
        Ok(cluster)
    }

    /// Every host that answers: of the internet (services of the provider among them) and of the VPC's neighbours.
    fn hosts(&mut self, runtime: &Runtime, fabric: &Fabric, topology: &Topology, log: &WorldLog) -> Result<(), String> {
        let answer = |network: &Netns, hosts: &[Ipv4Addr], place: &Place, name: Option<String>| {
            let listeners = listen(network, hosts).map_err(|e| format!("serve the hosts of {place}: {e}"))?;
            for listener in listeners {
                let responder = Responder { place: place.clone(), name: name.clone(), log: log.clone() };
                runtime.spawn(serve(listener, responder));
            }
            Ok::<_, String>(())
        };
        answer(fabric.world(), &topology.public_hosts, &Place::World, None)?;
        for service in &topology.services {
            let name = topology.service_host(&service.name);
            answer(fabric.world(), &[service.address], &Place::World, Some(name))?;
        }
        fabric.neighbours().try_for_each(|(place, network, hosts)| answer(network, hosts, place, None))
    }
}

/// SIGTERM and SIGINT end the lab in good order. PID 1 gets no signal from inside that it does not ask for.
fn end_on_signals(end: mpsc::Sender<()>) -> Result<(), String> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().map_err(|e| format!("block signals: {e}"))?;
    spawn("signals", move || {
        signals.wait().ok();
        end.send(()).ok();
    })
}

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.map(drop).map_err(|e| format!("start thread {name}: {e}"))
}

fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(0))
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("VPC_LAB_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
}
