//! What a runtime asks beside plain ADDs and DELs: STATUS, CHECK and GC; and ADDs whose plugin fails after it was given an address.
//!
//! ```text
//!   collect: the list of sandboxes --a while--> GC --> what has ended is untied   (an ADD that is under way by then is not listed)
//!   inquire: STATUS, and CHECK of a pod that runs
//!   fail_wiring: the next plugins that wire a pod fail --> the address is given back --> DEL, as after any failed ADD
//! ```
//!
//! That no lease of a pod that lives ends by any of it is seen by those who watch the disk.

use std::collections::BTreeSet;

use vpc_agent::{Collect, Input};
use vpc_hostnet::unwiring;
use vpc_ipam::Held;
use vpc_model::{Millis, SandboxKey, Time};

use crate::audit::Fault;
use crate::kubelet::{Errand, PodState};
use crate::world::{Event, NodeAt, World};

/// Containers and interfaces.
pub(crate) type Attachments = BTreeSet<(String, String)>;

fn attachment(key: &SandboxKey) -> (String, String) {
    (key.container.clone(), key.interface.clone())
}

impl World {
    /// The runtime's GC: it lists the sandboxes it has, calls the plugin, and the daemon hears of it `late`.
    pub fn collect(&mut self, node: NodeAt, late: Millis) {
        let Some(own) = self.nodes.get(node.0) else { return };
        let valid = own.pods.values().filter_map(|pod| pod.key()).map(attachment).collect();
        self.later(late, Event::Collect { node, valid, came: self.now });
    }

    /// The plugin of a GC has reached the daemon. ADDs that are under way hold their line to it: it counts them as valid.
    pub(crate) fn gc_arrives(&mut self, node: NodeAt, mut valid: Attachments, came: Time) {
        let Some(own) = self.nodes.get(node.0).filter(|own| own.agent.is_some()) else { return };
        let busy = own.pods.values().filter_map(|pod| match &pod.state {
            PodState::Asking { key, .. } | PodState::Wiring { key, .. } => Some(attachment(key)),
            PodState::Waiting | PodState::Running { .. } | PodState::Ending { .. } => None,
        });
        valid.extend(busy);
        // Leases of sandboxes that were lost begin to rest now.
        self.note_unseen_end(node);
        let came = self.agent_time(came);
        let ticket = self.ticket();
        let request = Collect { network: "aws-cni".to_owned(), valid: valid.clone(), came };
        self.note_errand(node, ticket, Errand::Collect { valid });
        self.think(node, Input::Collect { ticket, request });
    }

    /// The daemon has ended these.
    pub(crate) fn collected(&mut self, node: NodeAt, valid: &Attachments, ended: Vec<Held>) {
        for held in ended {
            if valid.contains(&attachment(&held.key)) {
                self.faults.push(Fault::Collected { node, key: held.key.clone(), address: held.allocation.address });
            }
            // The plugin leaves an address alone that leads to somebody else by now.
            if self.owners.contains_key(&held.allocation.address) {
                continue;
            }
            let Some(own) = self.nodes.get_mut(node.0) else { return };
            for op in unwiring(own.config.host.layout, held.allocation.address, held.allocation.table) {
                if let Err(refusal) = own.host.apply(&op) {
                    self.faults.push(Fault::Host { node, refusal });
                }
            }
        }
    }

    /// The runtime asks whether ADD can be served, and CHECKs a pod.
    pub fn inquire(&mut self, node: NodeAt, name: &str) {
        let Some(own) = self.nodes.get(node.0).filter(|own| own.agent.is_some()) else { return };
        let running = own.pods.get(name).and_then(|pod| Some((pod.key()?.clone(), pod.reply()?.allocation.address)));
        let ticket = self.ticket();
        self.note_errand(node, ticket, Errand::Status);
        self.think(node, Input::Status { ticket });
        // It may have died of the first question.
        let up = self.nodes.get(node.0).is_some_and(|own| own.agent.is_some());
        if let Some((key, has)) = running.filter(|_| up) {
            let ticket = self.ticket();
            self.note_errand(node, ticket, Errand::Find { key: key.clone(), has });
            self.think(node, Input::Find { ticket, key });
        }
    }

    /// So many of the next plugins that are given an address fail.
    pub fn fail_wiring(&mut self, node: NodeAt, times: u32) {
        if let Some(own) = self.nodes.get_mut(node.0) {
            own.wirings_fail = times;
        }
    }

    /// Whether the plugin that is at work now fails.
    pub(crate) fn plugin_fails(&mut self, node: NodeAt) -> bool {
        let Some(own) = self.nodes.get_mut(node.0) else { return false };
        let fails = own.wirings_fail > 0;
        own.wirings_fail = own.wirings_fail.saturating_sub(1);
        fails
    }

    /// The plugin gives back what it was given. Of a pod that runs another ADD's plugin did that: the pod lives on.
    pub(crate) fn undo(&mut self, node: NodeAt, pod: &str, key: &SandboxKey) {
        let lives = self.nodes.get(node.0).and_then(|own| own.pods.get(pod)).is_some_and(|pod| pod.reply().is_some());
        if self.nodes.get(node.0).is_none_or(|own| own.agent.is_none()) {
            // What no daemon hears is made good by the runtime's DEL.
            if !lives {
                self.end_sandbox(node, pod, key.clone());
            }
            return;
        }
        let ticket = self.ticket();
        let errand = Errand::Undo { pod: (!lives).then(|| pod.to_owned()), key: key.clone() };
        self.note_errand(node, ticket, errand);
        self.think(node, Input::Undo { ticket, key: key.clone() });
    }
}
