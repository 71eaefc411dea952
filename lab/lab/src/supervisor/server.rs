//! The door: each request on a connection and a thread of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lab_serve::CallFilter;
use vpc_linux::LinuxHost;

use super::node::Node;
use super::run::Supervisor;
use crate::capture;
use crate::control::{Answer, ExitReport, Failure, Place, Request, ScaleReport};
use crate::kubelet::PodName;
use crate::sys::fds;
use crate::sys::process::{PATH, Program, Streams, hung_up, wait_or_hangup};
use crate::sys::spaces::Spaces;

/// Kubernetes namespace of the pods that scaling makes.
const SCALE_NAMESPACE: &str = "scale";
/// Pods made or deleted at the same time: about what a kubelet does.
const SCALE_PARALLEL: usize = 30;
/// Addresses of a delegated prefix, a /28.
const ADDRESSES_OF_A_PREFIX: u32 = 16;

/// An answer: its value, and a descriptor where the request asks for one.
type Reply = Result<(serde_json::Value, Option<OwnedFd>), Failure>;

/// Takes requests until the lab ends.
pub(super) fn serve(supervisor: &Arc<Supervisor>, door: &UnixListener) {
    for connection in door.incoming().flatten() {
        let supervisor = Arc::clone(supervisor);
        let thread = std::thread::Builder::new().name("request".to_owned());
        if let Err(e) = thread.spawn(move || attend(&supervisor, &connection)) {
            tracing::error!("no thread for a request: {e}");
        }
    }
}

fn attend(supervisor: &Arc<Supervisor>, connection: &UnixStream) {
    let Ok(Some((line, descriptors))) = fds::receive(connection) else { return };
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(e) => {
            let failure = Failure::other(format!(
                "the lab does not understand this request ({e}): was it started by another version?"
            ));
            return answer(connection, Err(failure));
        }
    };
    let ends = matches!(request, Request::Down);
    answer(connection, supervisor.handle(request, descriptors, connection));
    if ends {
        supervisor.end();
    }
}

fn answer(connection: &UnixStream, reply: Reply) {
    let (answer, descriptor) = match reply {
        Ok((value, descriptor)) => (Answer::Ok(value), descriptor),
        Err(failure) => (Answer::Err(failure), None),
    };
    let Ok(text) = serde_json::to_string(&answer) else { return };
    let borrowed: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
    // Who has gone does not want to know.
    fds::send(connection, &text, &borrowed).ok();
}

fn value(of: &impl serde::Serialize) -> Reply {
    serde_json::to_value(of).map(|value| (value, None)).map_err(Failure::other)
}

impl Supervisor {
    fn handle(self: &Arc<Self>, request: Request, descriptors: Vec<OwnedFd>, connection: &UnixStream) -> Reply {
        match request {
            Request::Status => value(&self.status()),
            Request::Down => value(&()),
            Request::PodAdd { node, pod, annotations, attempts } => {
                let node = self.named(&node)?;
                value(&self.add_pod(&node, &pod, annotations, attempts)?)
            }
            Request::PodDel { node, pod } => {
                let node = self.named(&node)?;
                value(&self.delete_pod(&node, &pod)?)
            }
            Request::PodScale { node, count, attempts } => {
                value(&self.scale(&self.named(&node)?, count, attempts, connection)?)
            }
            Request::Exec { place, command, env } => self.exec(&place, command, env, descriptors, connection),
            Request::Capture { place, link } => self.capture(&place, &link),
            Request::Calls => value(&self.cloud.calls(&CallFilter::default())),
            Request::KubeCalls { filter } => value(&self.cluster.api().calls(&filter)),
            Request::Log { node, source, from } => value(&self.named(&node)?.log(source, from)?),
            Request::Power { node, on } => value(&self.power(&node, on)?),
            Request::NodeAdd { name, subnet, instance_type } => {
                value(&self.add_node(name.as_deref(), &subnet, instance_type.as_deref())?)
            }
            Request::NodeRemove { node } => value(&self.remove_node(&node)?),
            Request::Daemon { node, action } => value(&self.named(&node)?.daemon_action(action)?),
            Request::FaultAdd { fault, for_ms } => value(&self.begin_fault(fault, for_ms.map(Duration::from_millis))?),
            Request::FaultCheck { fault } => value(&self.check_fault(&fault)?),
            Request::FaultLift { id } => match id {
                Some(id) => value(&vec![self.lift_fault(id)?]),
                None => value(&self.lift_all_faults()?),
            },
            Request::Faults => value(&self.fault_reports()),
            Request::Kernel { place } => self.kernel(&place),
            Request::Visits => value(&self.visits.visits()),
        }
    }

    pub(super) fn named(&self, name: &str) -> Result<Arc<Node>, Failure> {
        self.nodes.named(name)
    }

    /// The namespaces and the environment of a place.
    fn place(&self, place: &Place) -> Result<(Spaces, BTreeMap<String, String>), Failure> {
        match place {
            Place::Node(name) => {
                let view = self.named(name)?.view()?;
                Ok((view.spaces, view.env))
            }
            Place::Pod(name, pod) => {
                let node = self.named(name)?;
                let view = node.view()?;
                let network = node.kubelet.network(pod);
                let network = network.ok_or_else(|| Failure::NoPod { node: name.clone(), pod: pod.clone() })?;
                Ok((node.pod_spaces(network)?, view.env))
            }
            Place::World => Ok((Spaces::network(self.fabric.world().clone()), self.outside_env())),
            Place::Fabric => {
                let own = vpc_linux::Netns::current().map_err(Failure::other)?;
                Ok((Spaces::network(own), self.outside_env()))
            }
            Place::Gateway(name) => {
                let network = self.fabric.gateway(name).ok_or_else(|| {
                    let known = self.topology.nat_gateways.iter().map(|g| g.name.as_str());
                    let vgw = self.topology.on_premises.as_ref().map(|_| "vgw");
                    none_of("gateway", name, std::iter::once("igw").chain(vgw).chain(known))
                })?;
                Ok((Spaces::network(network), self.outside_env()))
            }
            Place::Peer(name) => {
                let network = self.fabric.neighbour(place).ok_or_else(|| {
                    none_of("peering", name, self.topology.peerings.iter().map(|peering| peering.name.as_str()))
                })?;
                Ok((Spaces::network(network.clone()), self.outside_env()))
            }
            Place::OnPremises => {
                let missing =
                    || Failure::other("there is no on-premises network: `[on_premises]` of a topology makes one");
                let network = self.fabric.neighbour(place).ok_or_else(missing)?;
                Ok((Spaces::network(network.clone()), self.outside_env()))
            }
            Place::Endpoint(name) => {
                let network = self
                    .endpoints
                    .network(name)
                    .ok_or_else(|| none_of("endpoint", name, self.endpoints.names().iter().map(String::as_str)))?;
                Ok((Spaces::network(network), self.outside_env()))
            }
        }
    }

    /// Outside of nodes programs see the host's files, and find `vpc-lab` itself.
    fn outside_env(&self) -> BTreeMap<String, String> {
        let own = std::env::current_exe().ok();
        let own = own.as_deref().and_then(Path::parent).unwrap_or(&self.programs);
        let path = format!("{}:{}:{PATH}", own.display(), self.programs.display());
        BTreeMap::from([("PATH".to_owned(), path), ("HOME".to_owned(), "/".to_owned())])
    }

    fn exec(
        &self,
        place: &Place,
        command: Vec<String>,
        env: BTreeMap<String, String>,
        descriptors: Vec<OwnedFd>,
        connection: &UnixStream,
    ) -> Reply {
        let (spaces, mut all) = self.place(place)?;
        all.extend(env);
        let [input, output, errors] = <[OwnedFd; 3]>::try_from(descriptors)
            .map_err(|_| Failure::other("exec needs three descriptors: stdin, stdout and stderr"))?;
        let program = Program { command, env: all, cwd: Some("/".into()), ..Program::default() };
        let streams = Streams { input: Stdio::from(input), output: Stdio::from(output), errors: Stdio::from(errors) };
        let name = program.command.first().cloned().unwrap_or_default();
        let failed = |e: std::io::Error| Failure::Exec {
            program: name.clone(),
            place: place.to_string(),
            missing: e.kind() == std::io::ErrorKind::NotFound,
            cause: e.to_string(),
        };
        let mut child = program.start(&spaces, streams).map_err(failed)?;
        let status = match wait_or_hangup(&mut child, connection).map_err(Failure::other)? {
            Some(status) => status,
            None => {
                child.kill().ok();
                child.wait().map_err(Failure::other)?
            }
        };
        let by_signal = status.signal().map_or(1, |signal| 128 + signal);
        value(&ExitReport { code: status.code().unwrap_or(by_signal) })
    }

    fn capture(&self, place: &Place, link: &str) -> Reply {
        let (spaces, _) = self.place(place)?;
        let opened = spaces.net.enter(|| capture::open_socket(link)).map_err(Failure::other)?;
        let socket = opened.map_err(|e| match e.raw_os_error() {
            Some(libc::ENODEV) => {
                Failure::other(format!("there is no link `{link}` in {place}; there are: {}", links_of(&spaces)))
            }
            _ => Failure::other(format!("capture on {link} in {place}: {e}")),
        })?;
        Ok((serde_json::Value::Null, Some(socket)))
    }

    fn kernel(&self, place: &Place) -> Reply {
        let (spaces, _) = self.place(place)?;
        let mut host = LinuxHost::open_in(&spaces.net).map_err(Failure::other)?;
        let state = host.observe().map_err(Failure::other)?;
        value(&state)
    }
}

fn none_of<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let known: Vec<_> = known.collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    Failure::other(format!("there is no {kind} `{name}`; there are: {known}"))
}

fn links_of(spaces: &Spaces) -> String {
    let links = vpc_linux::Rtnl::open_in(&spaces.net).and_then(|mut netlink| netlink.links()).unwrap_or_default();
    links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl Supervisor {
    /// Brings the number of a node's scaled pods to `count`: new ones fill the gaps from the lowest number, the highest go first.
    /// When whoever asked has gone, what has begun is finished, and nothing more begins.
    fn scale(&self, node: &Arc<Node>, count: u32, attempts: u32, asker: &UnixStream) -> Result<ScaleReport, Failure> {
        let start = Instant::now();
        let most = most_pods(&node.spec.instance_type).unwrap_or(u32::MAX);
        if count > most {
            let instance_type = node.spec.instance_type.clone();
            return Err(Failure::TooMany { node: node.spec.name.clone(), instance_type, count, most });
        }
        let wanted_still = || !hung_up(asker);
        node.view()?;
        let name = |number: u32| PodName {
            namespace: SCALE_NAMESPACE.to_owned(),
            name: format!("{}-{number}", node.spec.name),
        };
        let pods = node.kubelet.pods();
        let there: BTreeSet<&PodName> =
            pods.iter().map(|status| &status.pod).filter(|pod| pod.namespace == SCALE_NAMESPACE).collect();
        let wanted: BTreeSet<PodName> = (1..=count).map(name).collect();
        let missing: Vec<_> = wanted.iter().filter(|pod| !there.contains(pod)).cloned().collect();
        let surplus: Vec<_> = there.into_iter().filter(|pod| !wanted.contains(*pod)).cloned().collect();
        let mut report = ScaleReport { added: Vec::new(), deleted: Vec::new(), failed: Vec::new(), millis: 0 };
        for (pod, outcome) in
            in_parallel(missing, wanted_still, |pod| self.add_pod(node, pod, BTreeMap::new(), attempts))
        {
            match outcome {
                Ok(status) => report.added.push(status),
                Err(e) => report.failed.push((pod, e.to_string())),
            }
        }
        for (pod, outcome) in in_parallel(surplus, wanted_still, |pod| self.delete_pod(node, pod)) {
            match outcome {
                Ok(()) => report.deleted.push(pod),
                Err(e) => report.failed.push((pod, e.to_string())),
            }
        }
        report.millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(report)
    }
}

/// Pods that a type could have addresses for: a prefix in each secondary position of each ENI.
fn most_pods(instance_type: &str) -> Option<u32> {
    let limits = vpc_model::instance_limits(instance_type)?;
    Some(limits.max_enis * limits.slots_per_eni() * ADDRESSES_OF_A_PREFIX)
}

/// Does the work for every item, on up to [`SCALE_PARALLEL`] threads, as long as it is wanted.
fn in_parallel<I: Send, T: Send>(
    items: Vec<I>,
    wanted: impl Fn() -> bool + Sync,
    work: impl Fn(&I) -> T + Sync,
) -> Vec<(I, T)> {
    let workers = items.len().min(SCALE_PARALLEL);
    let queue = Mutex::new(VecDeque::from(items));
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while wanted() {
                    let Some(item) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else { return };
                    let outcome = work(&item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((item, outcome));
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}
