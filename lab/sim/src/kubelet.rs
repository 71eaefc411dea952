//! Kubelet, runtime and plugin as far as the daemon sees them.
//!
//! ```text
//!   add_pod: ADD with a new sandbox --refused, or the connection breaks--> DEL, wait, ADD with another sandbox
//!            --address--> wired on the paper host --> running
//!   delete_pod: rules off, DEL --no daemon--> a note for its next start; then the sandbox goes, and its link with it
//! ```

use std::net::Ipv4Addr;

use vpc_agent::{AddReply, AddRequest, Input, Outcome, Refusal, Ticket};
use vpc_hostnet::{LinkAlias, PodWiring, unwiring, wiring};
use vpc_model::{Mac, Millis, PodRef, SandboxKey, Time, host_veth};

use crate::audit::Fault;
use crate::verbs::Attachments;
use crate::world::{Event, NodeAt, World};

/// First wait before another sandbox is made; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Millis = Millis(500);
const LONGEST_WAIT: Millis = Millis::seconds(4);
/// The same where nothing else happens any more: whoever can not be served asks as seldom as any kubelet does.
const LONGEST_CALM_WAIT: Millis = Millis::seconds(25);
/// After so many refusals a pod waits long, if it is calm.
const MANY_FAILURES: u32 = 6;
/// A plugin has given up by then.
const PLUGIN_LIMIT: Millis = Millis::seconds(60);
/// Sandboxes that are gone and that the runtime may delete once more.
const REMEMBERED: usize = 50;
/// What the wiring of a pod takes.
const WIRING: Millis = Millis(15);
/// A node without a conflist is looked at again after this.
const NOT_READY: Millis = Millis::seconds(1);

/// A pod of a node.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Where it stands.
    pub state: PodState,
    /// It is to run. Otherwise it is on its way out.
    pub wanted: bool,
    /// When it was asked for.
    pub since: Time,
    /// When it first had its address.
    pub served_at: Option<Time>,
    /// Sandboxes made for it.
    pub sandboxes: u32,
    /// The sandbox before the one it has.
    pub old: Option<SandboxKey>,
    /// Sandboxes that got no address, and why.
    pub refusals: Vec<Refusal>,
}

/// Where a pod stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Its next sandbox is made later.
    Waiting,
    /// Its ADD waits for an answer.
    Asking {
        /// The caller.
        ticket: Ticket,
        /// The sandbox.
        key: SandboxKey,
    },
    /// It has its address and is being wired.
    Wiring {
        /// The sandbox.
        key: SandboxKey,
        /// What it was given.
        reply: AddReply,
    },
    /// It runs.
    Running {
        /// The sandbox.
        key: SandboxKey,
        /// What it was given.
        reply: AddReply,
    },
    /// Its sandbox is being taken down.
    Ending {
        /// The sandbox.
        key: SandboxKey,
    },
}

impl Pod {
    /// What it was given, while it runs.
    #[must_use]
    pub fn reply(&self) -> Option<&AddReply> {
        match &self.state {
            PodState::Running { reply, .. } => Some(reply),
            _ => None,
        }
    }

    /// Its sandbox, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&SandboxKey> {
        match &self.state {
            PodState::Waiting => None,
            PodState::Asking { key, .. }
            | PodState::Wiring { key, .. }
            | PodState::Running { key, .. }
            | PodState::Ending { key } => Some(key),
        }
    }
}

/// What a caller waits for.
#[derive(Clone, Debug)]
pub(crate) enum Errand {
    Add {
        pod: String,
        key: SandboxKey,
        since: Time,
        /// How long the daemon may let it wait for an address.
        wait: Millis,
    },
    Del {
        pod: String,
        key: SandboxKey,
    },
    /// An ADD for a sandbox that has this already, or a DEL for one that is gone: nothing may come of it.
    Idle {
        key: SandboxKey,
        has: Option<Ipv4Addr>,
    },
    /// An ADD failed after it was given an address, which its plugin gives back; none: of a pod that another ADD has wired.
    Undo {
        pod: Option<String>,
        key: SandboxKey,
    },
    Collect {
        valid: Attachments,
    },
    Find {
        key: SandboxKey,
        has: Ipv4Addr,
    },
    Status,
}

/// What comes next for a pod.
#[derive(Clone, Debug)]
pub(crate) enum PodStep {
    /// Another sandbox.
    Attempt,
    /// The plugin wires what it was given.
    Wire { key: SandboxKey },
    /// The plugin has waited long enough.
    GiveUp { ticket: Ticket },
    /// The plugin of a second ADD fails after it was given the pod's address.
    Undo { key: SandboxKey },
}

/// The pod as Kubernetes names it.
#[must_use]
pub fn pod_ref(name: &str) -> PodRef {
    PodRef { namespace: "default".to_owned(), name: name.to_owned() }
}

/// The pod of a sandbox, by the name that [`World`] gives sandboxes.
pub(crate) fn pod_name(key: &SandboxKey) -> &str {
    key.container.rsplit_once('-').map_or(key.container.as_str(), |(pod, _)| pod)
}

impl World {
    /// A pod is bound to the node: kubelet gives it a network, as long as it takes.
    pub fn add_pod(&mut self, node: NodeAt, name: &str) {
        let since = self.now;
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        own.pods.entry(name.to_owned()).or_insert(Pod {
            state: PodState::Waiting,
            wanted: true,
            since,
            served_at: None,
            sandboxes: 0,
            old: None,
            refusals: Vec::new(),
        });
        self.attempt(node, name);
    }

    /// So many pods at once, called `prefix` and a number.
    pub fn add_pods(&mut self, node: NodeAt, prefix: &str, count: u32) {
        (0..count).for_each(|n| self.add_pod(node, &format!("{prefix}{n}")));
    }

    /// The pod is deleted: its sandbox goes.
    pub fn delete_pod(&mut self, node: NodeAt, name: &str) {
        let Some(pod) = self.pod_mut(node, name) else { return };
        pod.wanted = false;
        match pod.state.clone() {
            PodState::Waiting => self.forget_pod(node, name),
            PodState::Asking { ticket, key } => {
                if let Some(own) = self.nodes.get_mut(node.0) {
                    own.errands.remove(&ticket);
                }
                self.think(node, Input::AddAbandoned { ticket });
                self.end_sandbox(node, name, key);
            }
            PodState::Running { key, .. } => self.end_sandbox(node, name, key),
            // Taken up when the plugin has done what it is at.
            PodState::Wiring { .. } | PodState::Ending { .. } => {}
        }
    }

    /// The sandbox ends without a DEL (its runtime lost it); kubelet makes another.
    pub fn lose_sandbox(&mut self, node: NodeAt, name: &str) {
        let Some(key) = self.pod_mut(node, name).and_then(|pod| pod.key().cloned()) else { return };
        self.sandbox_gone(node, name, &key);
    }

    /// The runtime asks once more for the sandbox that a running pod has.
    pub fn add_again(&mut self, node: NodeAt, name: &str) {
        let Some(pod) = self.pod_mut(node, name) else { return };
        let PodState::Running { key, reply } = &pod.state else { return };
        let (key, has) = (key.clone(), reply.allocation.address);
        let ticket = self.ticket();
        if self.nodes.get(node.0).is_none_or(|own| own.agent.is_none()) {
            return;
        }
        self.note_errand(node, ticket, Errand::Idle { key: key.clone(), has: Some(has) });
        self.think(node, Input::Add { ticket, request: AddRequest { key, pod: pod_ref(name) } });
    }

    /// The runtime deletes once more the sandbox before the one that a pod has.
    pub fn delete_old(&mut self, node: NodeAt, name: &str) {
        let Some(key) = self.pod_mut(node, name).and_then(|pod| pod.old.clone()) else { return };
        self.delete_again(node, key);
    }

    /// The runtime deletes once more one of the sandboxes that went lately, whoever has its address now.
    pub fn delete_gone(&mut self, node: NodeAt, pick: u32) {
        let Some(own) = self.nodes.get(node.0).filter(|own| !own.gone.is_empty()) else { return };
        let index = usize::try_from(pick).unwrap_or_default() % own.gone.len();
        if let Some(key) = own.gone.get(index).cloned() {
            self.delete_again(node, key);
        }
    }

    fn delete_again(&mut self, node: NodeAt, key: SandboxKey) {
        let ticket = self.ticket();
        let mut asking = false;
        if let Some(own) = self.nodes.get_mut(node.0) {
            // Where its ADD is still under way, the plugin went with the sandbox: what it is told now, nobody hears.
            let before = own.errands.len();
            own.errands.retain(|_, errand| !matches!(errand, Errand::Add { key: other, .. } if *other == key));
            asking = own.errands.len() < before;
        }
        if self.nodes.get(node.0).is_none_or(|own| own.agent.is_none()) {
            return self.leave_note(node, key);
        }
        self.note_errand(node, ticket, Errand::Idle { key: key.clone(), has: None });
        self.note_late_end(node, asking);
        self.think(node, Input::Del { ticket, key });
    }

    pub(crate) fn pod_step(&mut self, node: NodeAt, name: &str, step: PodStep) {
        match step {
            PodStep::Attempt => self.attempt(node, name),
            PodStep::Wire { key } => self.wire(node, name, &key),
            PodStep::Undo { key } => {
                if self.pod_mut(node, name).is_some_and(|pod| pod.reply().is_some() && pod.key() == Some(&key)) {
                    self.undo(node, name, &key);
                }
            }
            PodStep::GiveUp { ticket } => {
                let errand = self.nodes.get_mut(node.0).and_then(|own| own.errands.remove(&ticket));
                if let Some(Errand::Add { pod, key, .. }) = errand {
                    self.think(node, Input::AddAbandoned { ticket });
                    self.end_sandbox(node, &pod, key);
                }
            }
        }
    }

    /// The daemon has answered a caller.
    pub(crate) fn replied(&mut self, node: NodeAt, ticket: Ticket, outcome: Outcome) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        match (own.errands.remove(&ticket), outcome) {
            (Some(Errand::Add { pod, key, .. }), Outcome::Added(reply)) => {
                self.promised(node, &key, &reply);
                match self.pod_mut(node, &pod).filter(|pod| pod.key() == Some(&key)) {
                    Some(pod) => pod.state = PodState::Wiring { key: key.clone(), reply },
                    // Its sandbox was lost meanwhile: there is nothing to wire.
                    None => return self.owner_gone(node, &key),
                }
                self.later(WIRING, Event::Pod { node, name: pod, step: PodStep::Wire { key } });
            }
            (Some(Errand::Add { pod, key, since, wait }), Outcome::Refused(refusal)) => {
                self.refused(node, &key, since, wait, &refusal);
                let Some(own) = self.pod_mut(node, &pod).filter(|own| own.key() == Some(&key)) else { return };
                own.refusals.push(refusal);
                // Not from here: the agent is in the middle of its wishes.
                own.state = PodState::Ending { key };
                self.later(Millis(0), Event::Pod { node, name: pod, step: PodStep::Attempt });
            }
            (Some(Errand::Del { pod, key }), Outcome::Deleted(_)) => self.sandbox_gone(node, &pod, &key),
            (Some(Errand::Idle { key, has: Some(address) }), Outcome::Added(reply)) => {
                let still = self.owners.get(&address).is_some_and(|owner| owner.is(node, &key));
                if still && reply.allocation.address != address {
                    self.faults.push(Fault::SecondAddress {
                        node,
                        key,
                        first: address,
                        second: reply.allocation.address,
                    });
                } else if still && self.plugin_fails(node) {
                    let name = pod_name(&key).to_owned();
                    self.later(WIRING, Event::Pod { node, name, step: PodStep::Undo { key } });
                }
            }
            (Some(Errand::Undo { pod: Some(name), key }), Outcome::Deleted(_) | Outcome::Refused(_)) => {
                // Nothing of it is wired any more. The pod has been Ending since; its DEL comes as after any ADD that failed.
                self.owner_gone(node, &key);
                let own = self.pod_mut(node, &name).filter(|own| own.key() == Some(&key));
                if own.is_some() {
                    self.later(Millis(0), Event::Pod { node, name, step: PodStep::Attempt });
                }
            }
            (Some(Errand::Collect { valid }), Outcome::Collected(ended)) => self.collected(node, &valid, ended),
            (Some(Errand::Find { key, has }), Outcome::Found(found)) => {
                let told = found.map(|allocation| allocation.address);
                if told != Some(has) && self.must_remember(node, has) {
                    self.faults.push(Fault::Misremembered { node, key, has, told });
                }
            }
            (Some(Errand::Undo { pod: None, .. }), Outcome::Deleted(_) | Outcome::Refused(_))
            | (Some(Errand::Collect { .. } | Errand::Find { .. } | Errand::Status), Outcome::Refused(_))
            | (Some(Errand::Status), Outcome::Status(_)) => {}
            (Some(Errand::Idle { has: Some(_), .. }), Outcome::Refused(_))
            | (Some(Errand::Idle { has: None, .. }), Outcome::Deleted(_)) => {}
            (
                Some(
                    Errand::Add { .. }
                    | Errand::Del { .. }
                    | Errand::Idle { .. }
                    | Errand::Undo { .. }
                    | Errand::Collect { .. }
                    | Errand::Find { .. }
                    | Errand::Status,
                ),
                outcome,
            ) => {
                self.faults.push(Fault::OddAnswer { node, outcome });
            }
            // The caller has gone, or it was a note's DEL.
            (None, _) => {}
        }
    }

    /// The daemon is dead: whoever waited for it sees the connection break.
    pub(crate) fn break_connections(&mut self, node: NodeAt) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        for (_, errand) in std::mem::take(&mut own.errands) {
            match errand {
                Errand::Add { pod, key, .. } | Errand::Del { pod, key } | Errand::Undo { pod: Some(pod), key } => {
                    self.end_sandbox(node, &pod, key);
                }
                Errand::Idle { key, has: None } => self.leave_note(node, key),
                Errand::Idle { has: Some(_), .. }
                | Errand::Undo { pod: None, .. }
                | Errand::Collect { .. }
                | Errand::Find { .. }
                | Errand::Status => {}
            }
        }
    }

    /// A DEL that no daemon answered: the plugin's note of it is carried out by the next one.
    fn leave_note(&mut self, node: NodeAt, key: SandboxKey) {
        if let Some(own) = self.nodes.get_mut(node.0) {
            own.tombstones.insert(key);
        }
    }

    /// The machine is down: no sandbox is left, and no DEL comes for them before the pods' next ones.
    pub(crate) fn end_sandboxes(&mut self, node: NodeAt) {
        let Some(own) = self.nodes.get(node.0) else { return };
        let with_sandbox: Vec<(String, SandboxKey)> =
            own.pods.iter().filter_map(|(name, pod)| Some((name.clone(), pod.key()?.clone()))).collect();
        for (name, key) in with_sandbox {
            self.sandbox_gone(node, &name, &key);
        }
    }

    fn attempt(&mut self, node: NodeAt, name: &str) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let (conflist, up) = (own.conflist && own.powered, own.agent.is_some());
        let Some(pod) = own.pods.get_mut(name) else { return };
        match &pod.state {
            PodState::Waiting if !conflist => {
                self.later(NOT_READY, Event::Pod { node, name: name.to_owned(), step: PodStep::Attempt });
            }
            PodState::Waiting => {
                pod.sandboxes += 1;
                let key = SandboxKey {
                    network: "aws-cni".to_owned(),
                    container: format!("{name}-{}", pod.sandboxes),
                    interface: "eth0".to_owned(),
                };
                if up { self.ask(node, name, key) } else { self.end_sandbox(node, name, key) }
            }
            PodState::Ending { key } => {
                let key = key.clone();
                self.end_sandbox(node, name, key);
            }
            _ => {}
        }
    }

    fn ask(&mut self, node: NodeAt, name: &str, key: SandboxKey) {
        let ticket = self.ticket();
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let errand = Errand::Add { pod: name.to_owned(), key: key.clone(), since: self.now, wait: own.config.add_wait };
        if let Some(pod) = own.pods.get_mut(name) {
            pod.state = PodState::Asking { ticket, key: key.clone() };
        }
        self.note_errand(node, ticket, errand);
        self.later(PLUGIN_LIMIT, Event::Pod { node, name: name.to_owned(), step: PodStep::GiveUp { ticket } });
        self.think(node, Input::Add { ticket, request: AddRequest { key, pod: pod_ref(name) } });
    }

    fn wire(&mut self, node: NodeAt, name: &str, key: &SandboxKey) {
        let now = self.now;
        let wires = |pod: &Pod| matches!(&pod.state, PodState::Wiring { key: own, .. } if own == key);
        if self.pod_mut(node, name).is_some_and(|pod| wires(pod)) && self.plugin_fails(node) {
            return self.plugin_failed(node, name, key);
        }
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let Some(pod) = own.pods.get_mut(name) else { return };
        let PodState::Wiring { key: own_key, reply } = pod.state.clone() else { return };
        if own_key != *key {
            return;
        }
        let number = reply.allocation.address.octets();
        let wired = wiring(&PodWiring {
            address: reply.allocation.address,
            table: reply.allocation.table,
            host_link: host_veth(&own.config.host.veth_prefix, &pod_ref(name)),
            pod_link: "eth0".parse().unwrap_or_else(|_| host_veth(&own.config.host.veth_prefix, &pod_ref(name))),
            host_mac: Mac([0x0a, 0, number[0], number[1], number[2], number[3]]),
            pod_mac: Mac([0x0e, 0, number[0], number[1], number[2], number[3]]),
            mtu: own.config.host.eni_mtu,
            alias: LinkAlias::of(key, &pod_ref(name)).to_string(),
            layout: own.config.host.layout,
        });
        let done = own.host.wire(&key.container, &wired);
        pod.state = PodState::Running { key: key.clone(), reply };
        pod.served_at.get_or_insert(now);
        let wanted = pod.wanted;
        if let Err(refusal) = done {
            self.faults.push(Fault::Host { node, refusal });
        }
        self.check_wired(node, name);
        if !wanted {
            self.end_sandbox(node, name, key.clone());
        }
    }

    /// The plugin has undone what it did in the kernel, and gives back what it was given.
    fn plugin_failed(&mut self, node: NodeAt, name: &str, key: &SandboxKey) {
        let Some(pod) = self.pod_mut(node, name) else { return };
        let PodState::Wiring { reply, .. } = &pod.state else { return };
        let address = reply.allocation.address;
        pod.state = PodState::Ending { key: key.clone() };
        self.owner_ends(node, address);
        self.undo(node, name, key);
    }

    /// DEL: the rules go, then the daemon is told, or finds a note.
    pub(crate) fn end_sandbox(&mut self, node: NodeAt, name: &str, key: SandboxKey) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let up = own.agent.is_some();
        let layout = own.config.host.layout;
        let mut ends = None;
        let Some(pod) = own.pods.get_mut(name) else { return };
        // A sandbox that was lost while its plugin was at work: the pod has another one.
        if pod.key().is_some_and(|has| *has != key) {
            return;
        }
        if let PodState::Running { reply, .. } | PodState::Wiring { reply, .. } = &pod.state {
            for op in unwiring(layout, reply.allocation.address, reply.allocation.table) {
                if let Err(refusal) = own.host.apply(&op) {
                    self.faults.push(Fault::Host { node, refusal });
                }
            }
            ends = Some(reply.allocation.address);
        }
        pod.state = PodState::Ending { key: key.clone() };
        if let Some(address) = ends {
            self.owner_ends(node, address);
        }
        if up {
            let ticket = self.ticket();
            self.note_errand(node, ticket, Errand::Del { pod: name.to_owned(), key: key.clone() });
            self.think(node, Input::Del { ticket, key });
        } else {
            self.leave_note(node, key.clone());
            self.sandbox_gone(node, name, &key);
        }
    }

    fn sandbox_gone(&mut self, node: NodeAt, name: &str, key: &SandboxKey) {
        self.owner_gone(node, key);
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        own.host.remove_sandbox(&key.container);
        own.gone.push_back(key.clone());
        if own.gone.len() > REMEMBERED {
            own.gone.pop_front();
        }
        let Some(pod) = own.pods.get_mut(name).filter(|pod| pod.key() == Some(key)) else { return };
        pod.state = PodState::Waiting;
        pod.old = Some(key.clone());
        if !pod.wanted {
            return self.forget_pod(node, name);
        }
        let failures = u32::try_from(pod.refusals.len()).unwrap_or(u32::MAX);
        let wait = match self.is_calm && failures > MANY_FAILURES {
            true => LONGEST_CALM_WAIT,
            false => Millis(FIRST_WAIT.0 << failures.saturating_sub(1).min(3)).min(LONGEST_WAIT),
        };
        self.later(wait, Event::Pod { node, name: name.to_owned(), step: PodStep::Attempt });
    }

    fn forget_pod(&mut self, node: NodeAt, name: &str) {
        if let Some(own) = self.nodes.get_mut(node.0) {
            own.pods.remove(name);
        }
    }

    fn pod_mut(&mut self, node: NodeAt, name: &str) -> Option<&mut Pod> {
        self.nodes.get_mut(node.0)?.pods.get_mut(name)
    }
}
