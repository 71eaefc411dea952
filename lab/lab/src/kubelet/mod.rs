//! The part of kubelet and containerd that pods' networks depend on.
//!
//! ```text
//!   pod add:  a network namespace, mounted in the node at /var/run/netns/cni-…; lo up
//!             ADD through the plugins of /etc/cni/net.d  --fails-->  DEL, namespace away, wait, again with a new sandbox
//!             the result is kept for DEL
//!   pod del:  DEL in reverse order with the kept result  --fails-->  wait, again
//!             then the namespace goes, and the kernel takes the pod's links with it
//! ```

pub mod conflist;
mod plugin;
mod sandbox;

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use plugin::{CallError, Sandbox};
pub use sandbox::{SandboxError, random_hex};

use crate::sys::spaces::Spaces;

/// Waiting time before the second attempt; it doubles until [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest time between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Attempts of a DEL before the pod is left as it is, to be deleted again by hand.
const DEL_ATTEMPTS: u32 = 4;

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodName {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl FromStr for PodName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |part: &str, most| {
            let inner = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
            inner && (1..=most).contains(&part.len())
        };
        match text.split_once('/') {
            Some((namespace, name)) if fits(namespace, 63) && fits(name, 253) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!(
                "`{text}` is not a pod: expected NAMESPACE/NAME in lower-case letters, digits, dashes and dots, such as `default/web-0`"
            )),
        }
    }
}

impl TryFrom<String> for PodName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PodName> for String {
    fn from(pod: PodName) -> Self {
        pod.to_string()
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where a pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its network is being made.
    Creating,
    /// It has its network.
    Running,
    /// Its network is being taken down, or could not be.
    Terminating,
    /// Its node lost power.
    Lost,
}

/// A pod as people see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodStatus {
    /// Its node.
    pub node: String,
    /// Namespace and name.
    pub pod: PodName,
    /// Where it stands.
    pub phase: Phase,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// How many sandboxes were made for it.
    pub attempts: u32,
    /// How long the successful ADD took, in microseconds (the chain of plugins, without the sandbox).
    pub add_micros: Option<u64>,
    /// Its last sandbox.
    pub sandbox: Option<Sandbox>,
    /// The plugins' result.
    pub result: Option<Value>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// Why a pod could not be made or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodError {
    /// There is one already.
    #[error("pod {0} is there already: delete it first, or choose another name")]
    Exists(PodName),
    /// There is none.
    #[error("there is no pod {0} on this node")]
    Missing(PodName),
    /// It is being made or deleted by somebody else.
    #[error("pod {0} is being made or deleted right now: try again in a moment")]
    Busy(PodName),
    /// Every attempt failed.
    #[error("pod {pod}: {verb} failed {attempts} time{}: {cause}", if *attempts == 1 { "" } else { "s, at last" })]
    Failed {
        /// The pod.
        pod: PodName,
        /// `ADD` or `DEL`.
        verb: String,
        /// How often it was tried.
        attempts: u32,
        /// Why the last attempt failed.
        cause: Box<CallError>,
    },
    /// The namespace itself could not be made or removed.
    #[error("pod {pod}: {problem}")]
    Sandbox {
        /// The pod.
        pod: PodName,
        /// What happened.
        problem: String,
    },
}

/// The pods of one node.
#[derive(Debug)]
pub struct Kubelet {
    node: String,
    pods: Mutex<BTreeMap<PodName, Arc<Slot>>>,
}

/// A pod's place. Whoever makes or deletes the pod holds `work`; whoever looks only reads `status`.
#[derive(Debug)]
struct Slot {
    work: Mutex<()>,
    status: Mutex<PodStatus>,
    network: Mutex<Option<vpc_linux::Netns>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a kubelet needs of its node for one call.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its namespaces.
    pub spaces: Spaces,
    /// Environment of its programs, as the runtime hands it on to plugins.
    pub env: BTreeMap<String, String>,
}

impl Kubelet {
    /// The kubelet of a node that has no pods.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned(), pods: Mutex::default() }
    }

    /// Makes a pod's network; tries up to `attempts` times, with a new sandbox each time.
    ///
    /// # Errors
    /// [`PodError`]; then the pod is not there, and nothing of it is left.
    pub fn add(
        &self,
        node: &NodeView,
        pod: &PodName,
        annotations: BTreeMap<String, String>,
        attempts: u32,
    ) -> Result<PodStatus, PodError> {
        let slot = Arc::new(Slot::new(&self.node, pod));
        let _work = lock(&slot.work);
        {
            let mut pods = lock(&self.pods);
            if pods.contains_key(pod) {
                return Err(PodError::Exists(pod.clone()));
            }
            pods.insert(pod.clone(), Arc::clone(&slot));
        }
        let made = slot.make(node, &annotations, attempts.max(1));
        if made.is_err() {
            lock(&self.pods).remove(pod);
        }
        made
    }

    /// Takes a pod's network down.
    ///
    /// # Errors
    /// [`PodError`]; then the pod stays, terminating, and can be deleted again.
    pub fn del(&self, node: &NodeView, pod: &PodName) -> Result<(), PodError> {
        let slot = lock(&self.pods).get(pod).cloned().ok_or_else(|| PodError::Missing(pod.clone()))?;
        let _work = slot.work.try_lock().map_err(|_| PodError::Busy(pod.clone()))?;
        slot.unmake(node)?;
        lock(&self.pods).remove(pod);
        Ok(())
    }

    /// The power has gone: namespaces are gone, and the pods with them, though nobody has told the plugins yet.
    pub fn power_lost(&self) {
        for slot in lock(&self.pods).values() {
            *lock(&slot.network) = None;
            let mut status = lock(&slot.status);
            status.phase = Phase::Lost;
            if let Some(sandbox) = &mut status.sandbox {
                sandbox.netns.clear();
            }
        }
    }

    /// The power is back: as after a reboot, old sandboxes are torn down (DEL without a namespace) and every pod gets a new one.
    /// Errors stay with the pods they belong to.
    pub fn power_back(&self, node: &NodeView) {
        const ATTEMPTS: u32 = 5;
        let slots: Vec<_> = lock(&self.pods).values().cloned().collect();
        for slot in slots {
            let _work = lock(&slot.work);
            if slot.status().phase == Phase::Lost && slot.unmake(node).is_ok() {
                let annotations = slot.status().sandbox.map(|sandbox| sandbox.annotations).unwrap_or_default();
                if let Err(e) = slot.make(node, &annotations, ATTEMPTS) {
                    lock(&slot.status).error = Some(e.to_string());
                }
            }
        }
    }

    /// All pods.
    #[must_use]
    pub fn pods(&self) -> Vec<PodStatus> {
        let slots: Vec<_> = lock(&self.pods).values().cloned().collect();
        slots.iter().map(|slot| slot.status()).collect()
    }

    /// The namespace of a pod that runs.
    #[must_use]
    pub fn network(&self, pod: &PodName) -> Option<vpc_linux::Netns> {
        let slot = lock(&self.pods).get(pod).cloned()?;
        lock(&slot.network).clone()
    }
}

impl Slot {
    fn new(node: &str, pod: &PodName) -> Self {
        let status = PodStatus {
            node: node.to_owned(),
            pod: pod.clone(),
            phase: Phase::Creating,
            address: None,
            attempts: 0,
            add_micros: None,
            sandbox: None,
            result: None,
            error: None,
        };
        Self { work: Mutex::default(), status: Mutex::new(status), network: Mutex::default() }
    }

    fn status(&self) -> PodStatus {
        lock(&self.status).clone()
    }

    fn make(
        &self,
        node: &NodeView,
        annotations: &BTreeMap<String, String>,
        attempts: u32,
    ) -> Result<PodStatus, PodError> {
        lock(&self.status).phase = Phase::Creating;
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            match self.attempt(node, annotations) {
                Ok(status) => return Ok(status),
                Err(cause) => {
                    let pod = self.status().pod;
                    lock(&self.status).error = Some(cause.to_string());
                    if attempt >= attempts {
                        return Err(match cause {
                            AttemptError::Call(cause) => PodError::Failed {
                                pod,
                                verb: "ADD".to_owned(),
                                attempts: attempt,
                                cause: Box::new(cause),
                            },
                            AttemptError::Sandbox(e) => PodError::Sandbox { pod, problem: e.to_string() },
                        });
                    }
                }
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        unreachable!("the loop ends with the last attempt")
    }

    /// One sandbox, one ADD. What fails is cleaned up as a runtime does it: DEL, then the namespace goes.
    fn attempt(&self, node: &NodeView, annotations: &BTreeMap<String, String>) -> Result<PodStatus, AttemptError> {
        let (pod, name) = {
            let status = lock(&self.status);
            (status.pod.clone(), status.node.clone())
        };
        lock(&self.status).attempts += 1;
        let list = plugin::configuration(&name, &node.spaces).map_err(|e| CallError::Config(e.to_string()))?;
        let made = sandbox::create(&node.spaces, &pod, annotations).map_err(AttemptError::Sandbox)?;
        lock(&self.status).sandbox = Some(made.sandbox.clone());
        let start = Instant::now();
        match plugin::add(&list, &node.spaces, &made.sandbox, &node.env) {
            Ok(result) => {
                let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                *lock(&self.network) = Some(made.network);
                let mut status = lock(&self.status);
                status.phase = Phase::Running;
                status.address = first_address(&result);
                status.add_micros = Some(micros);
                status.result = Some(result);
                status.error = None;
                Ok(status.clone())
            }
            Err(cause) => {
                plugin::del(&list, &node.spaces, &made.sandbox, None, &node.env).ok();
                drop(made.network);
                sandbox::remove(&node.spaces, &made.sandbox.netns).map_err(AttemptError::Sandbox)?;
                lock(&self.status).sandbox = None;
                Err(cause.into())
            }
        }
    }

    fn unmake(&self, node: &NodeView) -> Result<(), PodError> {
        let status = self.status();
        lock(&self.status).phase = Phase::Terminating;
        let Some(sandbox) = &status.sandbox else { return Ok(()) };
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            let called = plugin::configuration(&status.node, &node.spaces)
                .map_err(|e| CallError::Config(e.to_string()))
                .and_then(|list| plugin::del(&list, &node.spaces, sandbox, status.result.as_ref(), &node.env));
            match called {
                Ok(()) => break,
                Err(cause) if attempt >= DEL_ATTEMPTS => {
                    lock(&self.status).error = Some(cause.to_string());
                    let cause = Box::new(cause);
                    return Err(PodError::Failed { pod: status.pod, verb: "DEL".to_owned(), attempts: attempt, cause });
                }
                Err(_) => {}
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        *lock(&self.network) = None;
        let removed = sandbox::remove(&node.spaces, &sandbox.netns);
        removed.map_err(|e| PodError::Sandbox { pod: status.pod, problem: e.to_string() })
    }
}

#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Sandbox(SandboxError),
}

/// The first address of a result, whatever its version.
fn first_address(result: &Value) -> Option<Ipv4Addr> {
    let ips = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    let listed = ips.filter_map(|ip| ip.get("address").and_then(Value::as_str));
    let old = result.pointer("/ip4/ip").and_then(Value::as_str);
    listed.chain(old).find_map(|text| text.split('/').next()?.parse().ok())
}
