//! The whole state held against the invariants: after every simulated step, after every test, and on demand in production.

use vpc_ipam::Violation;
use vpc_model::{SandboxKey, Time};

use crate::agent::Agent;
use crate::message::{Outcome, Ticket};

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// In the pool's books.
    #[error(transparent)]
    Pool(#[from] Violation),
    /// An ADD waits longer than it may.
    #[error("ADD {ticket:?} of {key} should have been answered")]
    Overdue {
        /// Whose.
        ticket: Ticket,
        /// For which sandbox.
        key: SandboxKey,
    },
    /// An address is about to be promised that the books do not hold.
    #[error("ADD {ticket:?} is about to get {address}, which belongs to nobody")]
    Hollow {
        /// Whose.
        ticket: Ticket,
        /// Which address.
        address: std::net::Ipv4Addr,
    },
    /// An address is held and declared podless at once.
    #[error("{address} belongs to a pod and is marked as belonging to none")]
    Podless {
        /// Which address.
        address: std::net::Ipv4Addr,
    },
}

impl Agent {
    /// Every invariant that does not hold now; none in a sound agent.
    #[must_use]
    pub fn audit(&self, now: Time) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.pool.audit().into_iter().map(Fault::Pool).collect();
        faults.extend(self.podless.iter().filter(|a| self.holds(**a)).map(|a| Fault::Podless { address: *a }));
        for fault in self.audit_promises(now) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults
    }

    /// The part of [`Self::audit`] that walks over nothing but what is under way: waiting ADDs, and answers about to be given.
    #[must_use]
    pub fn audit_promises(&self, now: Time) -> Vec<Fault> {
        let mut faults = Vec::new();
        let overdue = self.waiters.iter().filter(|waiter| waiter.deadline < now);
        faults.extend(overdue.map(|w| Fault::Overdue { ticket: w.ticket, key: w.request.key.clone() }));
        for (generation, ticket, outcome) in &self.disk.replies {
            let Outcome::Added(reply) = outcome else { continue };
            let address = reply.allocation.address;
            match self.holds(address) {
                true if self.podless.contains(&address) => faults.push(Fault::Podless { address }),
                false if *generation > self.disk.written() => faults.push(Fault::Hollow { ticket: *ticket, address }),
                _ => {}
            }
        }
        faults
    }
}
