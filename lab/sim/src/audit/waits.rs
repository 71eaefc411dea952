//! Waits: every caller has its answer in time, whatever happens around it.
//!
//! An ADD waits `add_wait` for an address, and then for the disk: for the write under way and its own, and a second more after one
//! that failed. A DEL waits for the disk alone. A disk that takes nothing makes the answer a refusal, not a wait.

use vpc_agent::Ticket;
use vpc_model::{Millis, SandboxKey, Time};

use crate::audit::Fault;
use crate::kubelet::Errand;
use crate::world::{NodeAt, World};

/// What the disk takes: two writes, and the pause after a failed one (1 s).
const DISK: Millis = Millis::seconds(2);

impl World {
    /// A caller asks something.
    pub(crate) fn note_errand(&mut self, node: NodeAt, ticket: Ticket, errand: Errand) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let wait = match errand {
            Errand::Add { .. } | Errand::Idle { has: Some(_), .. } => own.config.add_wait,
            Errand::Del { .. }
            | Errand::Idle { has: None, .. }
            | Errand::Undo { .. }
            | Errand::Collect { .. }
            | Errand::Find { .. }
            | Errand::Status => Millis(0),
        };
        own.errands.insert(ticket, errand);
        let due = self.now + wait + Millis(DISK.0 + 2 * self.write_takes.0);
        self.waits.insert((due, node, ticket), self.now);
    }

    /// Whether somebody waits longer than anybody may.
    pub(crate) fn check_waits(&mut self) {
        while let Some(entry) = self.waits.first_entry().filter(|entry| entry.key().0 < self.now) {
            let ((_, node, ticket), since) = entry.remove_entry();
            let errand = self.nodes.get(node.0).and_then(|own| own.errands.get(&ticket));
            if let Some((what, key)) = errand.map(of) {
                self.faults.push(Fault::Waits { node, what, key, since });
            }
        }
    }
}

fn of(errand: &Errand) -> (&'static str, SandboxKey) {
    let (what, key) = match errand {
        Errand::Add { key, .. } | Errand::Idle { key, has: Some(_) } => ("ADD", key),
        Errand::Del { key, .. } | Errand::Idle { key, has: None } => ("DEL", key),
        Errand::Undo { key, .. } => ("the release of a failed ADD", key),
        Errand::Find { key, .. } => ("CHECK", key),
        Errand::Collect { .. } => return ("GC", whole_node()),
        Errand::Status => return ("STATUS", whole_node()),
    };
    (what, key.clone())
}

/// For what is about no sandbox.
fn whole_node() -> SandboxKey {
    SandboxKey { network: "aws-cni".to_owned(), container: "-".to_owned(), interface: "-".to_owned() }
}

/// When waits end, and since when they are.
pub(crate) type Waits = std::collections::BTreeMap<(Time, NodeAt, Ticket), Time>;
