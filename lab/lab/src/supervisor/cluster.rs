//! What kubelets, the scheduler and the node controller do for the Kubernetes API, as far as pods' networks depend on it.
//!
//! ```text
//!   a node of the lab            -> Node object; Ready when its network is configured, unknown without power, gone when terminated
//!   a pod without a node         -> the ready node with room (`max_pods`) and the wanted labels that has the fewest pods
//!   a pod on a node of the lab   -> sandbox and ADD, again and again until it works -> Running with its address
//!   a pod that is to be deleted  -> DEL, sandbox away -> object away
//! ```
//!
//! One thread makes rounds: it looks at everything when something has changed, and starts the work, one thread for each pod. Work
//! that a command of the lab does itself ([`Supervisor::add_pod`]) is claimed, so that nobody does it twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab_kube::{DeleteOptions, KubeError, ListOptions, Part, Patch, Resource, Selection, Watch, WatchFrom, object};
use serde_json::{Value, json};
use vpc_model::WallTime;

use super::node::Node;
use super::run::{Supervisor, spawn};
use crate::cluster::node_object::{Health, NodeFacts};
use crate::cluster::{Claim, pod_object};
use crate::control::Failure;
use crate::kubelet::{Phase, PodError, PodName, PodStatus};

/// At the latest after this time everything is looked at again: a daemon may have become ready.
const ROUND: Duration = Duration::from_millis(500);
/// Changes that come close together are looked at together.
const BATCH: Duration = Duration::from_millis(3);
/// Pods that are worked on at the same time.
const WORKERS: usize = 16;
/// Waiting time after the first failure of a pod; it doubles until [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// Nodes as they were told to the API.
pub(super) type Registered = Mutex<BTreeMap<String, NodeFacts>>;

/// What the thread remembers from round to round.
#[derive(Default)]
struct Rounds {
    /// Pods that their nodes have taken in, with the node: only those count when the next one comes.
    admitted: BTreeMap<PodName, String>,
    work: Arc<Work>,
}

/// What the work of single pods tells the thread.
#[derive(Default)]
struct Work {
    running: AtomicUsize,
    waits: Mutex<BTreeMap<PodName, (Instant, Duration)>>,
}

impl Work {
    fn waits(&self) -> MutexGuard<'_, BTreeMap<PodName, (Instant, Duration)>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is too early for another attempt.
    fn rests(&self, pod: &PodName) -> bool {
        self.waits().get(pod).is_some_and(|(until, _)| *until > Instant::now())
    }

    fn failed(&self, pod: &PodName) {
        let mut waits = self.waits();
        let wait = waits.get(pod).map_or(FIRST_WAIT, |(_, before)| (*before * 2).min(LONGEST_WAIT));
        waits.insert(pod.clone(), (Instant::now() + wait, wait));
    }
}

impl Supervisor {
    /// Makes rounds as long as the lab lives.
    pub(super) fn run_cluster(self: &Arc<Self>) {
        let mut rounds = Rounds::default();
        let mut watch = None;
        loop {
            self.round(&mut rounds);
            watch = self.runtime.block_on(self.pause(watch));
        }
    }

    /// Waits until a pod or node has changed, or the time for the next round has come.
    async fn pause(&self, watch: Option<Watch>) -> Option<Watch> {
        let fresh = || self.cluster.api().watch(&Resource::PODS, Selection::default(), WatchFrom::Now).ok();
        let mut watch = watch.or_else(fresh)?;
        if let Ok(change) = tokio::time::timeout(ROUND, watch.next()).await {
            change.ok()?;
            while let Ok(change) = tokio::time::timeout(BATCH, watch.next()).await {
                change.ok()?;
            }
        }
        Some(watch)
    }

    fn round(self: &Arc<Self>, rounds: &mut Rounds) {
        let nodes = self.nodes.all();
        self.tell_nodes();
        let Ok(list) = self.cluster.api().list(&Resource::PODS, &ListOptions::default()) else { return };
        let mut pods = list.items;
        // Whoever came first is asked first.
        pods.sort_by_cached_key(|pod| {
            (object::text(pod, "/metadata/creationTimestamp").to_owned(), object::name(pod).to_owned())
        });
        let known = |name: &PodName| {
            pods.iter().any(|pod| !pod_object::ended(pod) && pod_object::name(pod).as_ref() == Some(name))
        };
        rounds.admitted.retain(|name, _| known(name));
        let mut load: BTreeMap<&str, u32> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !pod_object::ended(pod)) {
            *load.entry(pod_object::node(pod)).or_default() += 1;
        }
        for pod in &pods {
            let Some(name) = pod_object::name(pod) else { continue };
            match nodes.iter().find(|node| node.spec.name == pod_object::node(pod)) {
                Some(node) => self.tend(node, pod, &name, rounds),
                None if pod_object::node(pod).is_empty() => {
                    if let Some(node) = self.schedule(pod, &nodes, &load) {
                        *load.entry(node).or_default() += 1;
                    }
                }
                // Its node is gone, or was never one of the lab's.
                None if object::deleting(pod) => self.forget_pod(&name),
                None => {}
            }
        }
        let mut there: BTreeSet<_> = pods.iter().filter_map(pod_object::name).collect();
        for node in nodes.iter().filter(|node| node.is_on()) {
            for own in node.kubelet.pods() {
                if there.insert(own.pod.clone()) {
                    self.end_orphan(node, &own.pod, rounds);
                }
            }
        }
        rounds.work.waits().retain(|pod, _| there.contains(pod));
    }

    // -- nodes -----------------------------------------------------------------------------------------------------------

    /// Tells the API what has changed of the nodes.
    pub(super) fn tell_nodes(&self) {
        let nodes = self.nodes.all();
        let mut told = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        for node in &nodes {
            let name = &node.spec.name;
            let health = match (node.is_on(), node.daemon_status()) {
                (false, _) => Health::Silent,
                (true, Some(daemon)) if !daemon.ready => Health::NoNetwork,
                (true, _) => Health::Ready,
            };
            let before = told.get(name);
            // One that has never had power has not registered itself.
            if before.is_some_and(|before| before.health == health) || (before.is_none() && health == Health::Silent) {
                continue;
            }
            let facts = match before {
                Some(before) => NodeFacts { health, ..before.clone() },
                None => self.facts(node, health),
            };
            let known = before.is_some();
            match self.tell_node(&facts, known) {
                Ok(()) => drop(told.insert(name.clone(), facts)),
                Err(e) => tracing::warn!(node = name, "tell the Kubernetes API: {e}"),
            }
        }
        let gone: Vec<_> =
            told.keys().filter(|name| nodes.iter().all(|node| node.spec.name != **name)).cloned().collect();
        for name in gone {
            self.forget_node(&name);
            told.remove(&name);
        }
    }

    fn facts(&self, node: &Node, health: Health) -> NodeFacts {
        let snapshot = self.cloud.snapshot();
        let instance = snapshot.instances.iter().find(|instance| instance.id == node.instance);
        let zone = instance.map(|instance| instance.zone.clone()).unwrap_or_default();
        NodeFacts {
            name: node.spec.name.clone(),
            instance: node.instance.to_string(),
            instance_type: node.spec.instance_type.clone(),
            zone_id: self.topology.zone_ids().remove(&zone).unwrap_or_default(),
            zone,
            region: self.topology.region.clone(),
            address: node.address(),
            max_pods: node.spec.max_pods,
            health,
        }
    }

    fn tell_node(&self, facts: &NodeFacts, known: bool) -> Result<(), KubeError> {
        let api = self.cluster.api();
        if !known {
            match api.create(&Resource::NODES, "", facts.object()) {
                Ok(_) | Err(KubeError::AlreadyExists { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        let status = Patch::Merge(json!({"status": facts.status(&now())}));
        match api.patch(&Resource::NODES, "", &facts.name, &status, Part::Status) {
            // Somebody has deleted the object: a kubelet does not register itself again before its next start.
            Ok(_) | Err(KubeError::NotFound { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// A node that is gone for ever, and what was on it.
    fn forget_node(&self, name: &str) {
        let api = self.cluster.api();
        api.delete(&Resource::NODES, "", name, &DeleteOptions::default()).ok();
        let pods = api.list(&Resource::PODS, &ListOptions::default()).map(|list| list.items).unwrap_or_default();
        for pod in pods.iter().filter(|pod| pod_object::node(pod) == name).filter_map(pod_object::name) {
            self.forget_pod(&pod);
        }
    }

    // -- pods ------------------------------------------------------------------------------------------------------------

    /// Puts a pod on a node, or says why not. The node it is on now.
    fn schedule<'n>(&self, pod: &Value, nodes: &'n [Arc<Node>], load: &BTreeMap<&str, u32>) -> Option<&'n str> {
        let api = self.cluster.api();
        if object::deleting(pod) {
            pod_object::name(pod).iter().for_each(|name| self.forget_pod(name));
            return None;
        }
        let wanted = pod_object::node_selector(pod);
        let fits = |node: &&Arc<Node>| {
            let Ok(shown) = api.get(&Resource::NODES, "", &node.spec.name) else { return false };
            let labels = pod_object::strings(&shown, "/metadata/labels");
            let ready = shown.pointer("/status/conditions/0/status").and_then(Value::as_str) == Some("True");
            let open = shown.pointer("/spec/unschedulable").and_then(Value::as_bool) != Some(true);
            let room = load.get(node.spec.name.as_str()).copied().unwrap_or(0) < node.spec.max_pods;
            ready && open && room && wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let count = |node: &&Arc<Node>| load.get(node.spec.name.as_str()).copied().unwrap_or(0);
        let (namespace, name) = (object::namespace(pod), object::name(pod));
        let Some(node) = nodes.iter().filter(fits).min_by_key(count) else {
            let message = format!(
                "0/{} nodes are available: none is ready, schedulable, with the wanted labels and room for another pod.",
                nodes.len()
            );
            let known = object::text(pod, "/status/conditions/0/message");
            if known != message {
                let time = now();
                self.report(pod, pod_object::unschedulable(&message, &time));
                self.event(pod, "default-scheduler", "Warning", "FailedScheduling", &message);
            }
            return None;
        };
        if let Err(e) = api.bind(namespace, name, &node.spec.name) {
            tracing::warn!(pod = name, "put it on {}: {e}", node.spec.name);
            return None;
        }
        let message = format!("Successfully assigned {namespace}/{name} to {}", node.spec.name);
        self.event(pod, "default-scheduler", "Normal", "Scheduled", &message);
        Some(&node.spec.name)
    }

    /// What a pod on a node of the lab needs now.
    fn tend(self: &Arc<Self>, node: &Arc<Node>, pod: &Value, name: &PodName, rounds: &mut Rounds) {
        if !node.is_on() {
            return;
        }
        let there = node.kubelet.pods().into_iter().find(|own| own.pod == *name);
        let told = object::text(pod, "/status/podIP");
        if !object::deleting(pod) {
            if pod_object::ended(pod) {
                return;
            }
            if there.is_some() || !told.is_empty() {
                rounds.admitted.insert(name.clone(), node.spec.name.clone());
            }
            if !rounds.admitted.contains_key(name) {
                let used = rounds.admitted.values().filter(|own| **own == node.spec.name).count();
                if used >= node.spec.max_pods as usize {
                    let message = format!(
                        "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {used}, capacity: {}",
                        node.spec.max_pods
                    );
                    self.report(pod, pod_object::refused("OutOfpods", &message, &now()));
                    self.event(pod, "kubelet", "Warning", "OutOfpods", &message);
                    return;
                }
                rounds.admitted.insert(name.clone(), node.spec.name.clone());
            }
            if let Some(own) = &there {
                let address = own.address.map(|address| address.to_string());
                if own.phase == Phase::Running && address.as_deref() != Some(told) {
                    self.report(pod, pod_object::running(pod, own.address, node.address(), &now()));
                }
                return;
            }
            if pod_object::on_host_network(pod) {
                if told.is_empty() {
                    self.report(pod, pod_object::running(pod, node.address(), node.address(), &now()));
                }
                return;
            }
        }
        if rounds.work.rests(name) || rounds.work.running.load(Ordering::Acquire) >= WORKERS {
            return;
        }
        let Some(claim) = self.cluster.claim(name) else { return };
        let (own, node, pod, work) = (Arc::clone(self), Arc::clone(node), pod.clone(), Arc::clone(&rounds.work));
        work.running.fetch_add(1, Ordering::AcqRel);
        let done = Arc::clone(&work);
        let started = spawn("pod", move || {
            own.work_on(&node, &pod, &claim, &work);
            work.running.fetch_sub(1, Ordering::AcqRel);
        });
        if let Err(e) = started {
            done.running.fetch_sub(1, Ordering::AcqRel);
            tracing::error!("{e}");
        }
    }

    /// A pod whose object is gone (deleted with no time to end) has no right to its network any more.
    fn end_orphan(self: &Arc<Self>, node: &Arc<Node>, name: &PodName, rounds: &Rounds) {
        if rounds.work.rests(name) {
            return;
        }
        let Some(claim) = self.cluster.claim(name) else { return };
        // What was listed is older than what the kubelet has: look again, now that nobody else is at it.
        if self.cluster.api().get(&Resource::PODS, &name.namespace, &name.name).is_ok() {
            return;
        }
        let (node, work) = (Arc::clone(node), Arc::clone(&rounds.work));
        let started = spawn("pod", move || {
            let Ok(view) = node.view() else { return };
            match node.kubelet.del(&view, claim.pod()) {
                Ok(()) | Err(PodError::Missing(_)) => {}
                Err(_) => work.failed(claim.pod()),
            }
        });
        if let Err(e) = started {
            tracing::error!("{e}");
        }
    }

    /// Starts or ends a pod. What was listed may be old: whoever had the claim before may have ended the pod meanwhile.
    fn work_on(&self, node: &Node, listed: &Value, claim: &Claim, work: &Work) {
        let Ok(view) = node.view() else { return };
        let name = claim.pod();
        let Ok(pod) = &self.cluster.api().get(&Resource::PODS, &name.namespace, &name.name) else { return };
        if object::text(pod, "/metadata/uid") != object::text(listed, "/metadata/uid") {
            return;
        }
        if object::deleting(pod) {
            match node.kubelet.del(&view, name) {
                Ok(()) | Err(PodError::Missing(_)) => self.forget_pod(name),
                Err(e) => {
                    work.failed(name);
                    self.event(pod, "kubelet", "Warning", "FailedKillPod", &format!("error killing pod: {e}"));
                }
            }
            return;
        }
        match node.kubelet.add(&view, name, pod_object::annotations(pod), 1) {
            Ok(made) => {
                work.waits().remove(name);
                self.report(pod, pod_object::running(pod, made.address, node.address(), &now()));
                self.event(pod, "kubelet", "Normal", "Started", "Started the sandbox; the lab runs no containers");
            }
            Err(PodError::Exists(_)) => {}
            Err(e) => {
                work.failed(name);
                let message = format!("Failed to create pod sandbox: {e}");
                self.event(pod, "kubelet", "Warning", "FailedCreatePodSandBox", &message);
                if object::text(pod, "/status/startTime").is_empty() {
                    self.report(pod, pod_object::waiting(pod, node.address(), &now()));
                }
            }
        }
    }

    // -- what commands of the lab do themselves --------------------------------------------------------------------------

    /// Makes a pod on a node: its object in the API, then its network.
    pub(super) fn add_pod(
        &self,
        node: &Node,
        pod: &PodName,
        annotations: BTreeMap<String, String>,
        attempts: u32,
    ) -> Result<PodStatus, Failure> {
        let _claim = self.cluster.claim(pod).ok_or_else(|| PodError::Busy(pod.clone()))?;
        let view = node.view()?;
        let api = self.cluster.api();
        self.cluster.ensure_namespace(&pod.namespace).map_err(Failure::other)?;
        let object = pod_object::of_command(pod, &node.spec.name, &annotations);
        let object = api.create(&Resource::PODS, &pod.namespace, object).map_err(|e| match e {
            KubeError::AlreadyExists { .. } => PodError::Exists(pod.clone()).into(),
            other => Failure::other(other),
        })?;
        match node.kubelet.add(&view, pod, annotations, attempts) {
            Ok(made) => {
                self.report(&object, pod_object::running(&object, made.address, node.address(), &now()));
                Ok(made)
            }
            Err(e) => {
                if !matches!(e, PodError::Exists(_)) {
                    self.forget_pod(pod);
                }
                Err(e.into())
            }
        }
    }

    /// Takes a pod's network down, and its object away.
    pub(super) fn delete_pod(&self, node: &Node, pod: &PodName) -> Result<(), Failure> {
        let _claim = self.cluster.claim(pod).ok_or_else(|| PodError::Busy(pod.clone()))?;
        node.kubelet.del(&node.view()?, pod)?;
        self.forget_pod(pod);
        Ok(())
    }

    // -- to the API ------------------------------------------------------------------------------------------------------

    fn report(&self, pod: &Value, status: Value) {
        let (namespace, name) = (object::namespace(pod), object::name(pod));
        let patch = Patch::Merge(json!({"status": status}));
        match self.cluster.api().patch(&Resource::PODS, namespace, name, &patch, Part::Status) {
            Ok(_) | Err(KubeError::NotFound { .. }) => {}
            Err(e) => tracing::warn!(pod = name, "report its status: {e}"),
        }
    }

    fn event(&self, pod: &Value, source: &str, kind: &str, reason: &str, message: &str) {
        let event = pod_object::event(pod, source, kind, reason, message, &now());
        if let Err(e) = self.cluster.api().create(&Resource::EVENTS, object::namespace(pod), event) {
            tracing::debug!(pod = object::name(pod), "event: {e}");
        }
    }

    fn forget_pod(&self, pod: &PodName) {
        let at_once = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        match self.cluster.api().delete(&Resource::PODS, &pod.namespace, &pod.name, &at_once) {
            Ok(_) | Err(KubeError::NotFound { .. }) => {}
            Err(e) => tracing::warn!(%pod, "delete its object: {e}"),
        }
    }
}

/// The time of day as Kubernetes writes it.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    object::timestamp(WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)))
}
