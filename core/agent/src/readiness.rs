//! STATUS: can ADD be served?
//!
//! ```text
//!   a free address, or no room for a pod, or one that comes by itself --> ready
//!   room for a pod and no way to an address ----------------------------> not available, and why
//!   the host's network can not be set up -------------------------------> not available, and pods that run may be cut off
//! ```
//!
//! EC2's asking for patience counts as an address that comes by itself. A runtime that hears "not available" has Kubernetes send no more pods and, in time, evict those that run. So a node that is merely
//! full, or whose next address comes without anybody's help, is ready.

use vpc_model::{Millis, Time};

use crate::agent::Agent;
use crate::refusal::Refusal;

/// Whether ADD can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can; or not, for no other reason than that the node is full or the next address is on its way.
    Ready,
    /// The daemon has not finished its start.
    Starting,
    /// It can not.
    NotAvailable(Refusal),
    /// It can not, and pods that run may be cut off too.
    Limited(Refusal),
}

impl Agent {
    /// Whether an ADD that came now would be served.
    #[must_use]
    pub fn readiness(&self, now: Time) -> Readiness {
        if self.terminating {
            return Readiness::NotAvailable(Refusal::ShuttingDown);
        }
        if let Some(error) = self.host.error() {
            return Readiness::Limited(Refusal::Host { error: error.to_owned() });
        }
        if let Some(error) = &self.disk.failure {
            return Readiness::NotAvailable(Refusal::Checkpoint { error: error.clone() });
        }
        if !self.said_ready {
            return Readiness::Starting;
        }
        if self.pool.stats().ready > 0 || !self.has_room_for_pod() {
            return Readiness::Ready;
        }
        let waiting = u32::try_from(self.waiters.len()).unwrap_or(u32::MAX);
        match self.why_none(now, waiting, Millis(0)) {
            Refusal::Full { .. }
            | Refusal::Cooling { .. }
            | Refusal::Warming { .. }
            | Refusal::NotSchedulable { .. }
            | Refusal::Throttled { .. }
            | Refusal::CloudOff { cooling: 1.., .. } => Readiness::Ready,
            Refusal::Host { error } => Readiness::Limited(Refusal::Host { error }),
            why @ (Refusal::SubnetExhausted { .. }
            | Refusal::Fragmented { .. }
            | Refusal::Denied { .. }
            | Refusal::Cloud { .. }
            | Refusal::NoPlace { .. }
            | Refusal::Unconfirmed { .. }
            | Refusal::CloudOff { .. }
            | Refusal::Checkpoint { .. }
            | Refusal::ShuttingDown
            | Refusal::Cancelled) => Readiness::NotAvailable(why),
        }
    }

    /// Whether the instance can carry one more pod: Kubernetes' limit is not reached, and neither are the instance's ENIs and their
    /// positions.
    fn has_room_for_pod(&self) -> bool {
        let target = self.target();
        let pods = self.pool.stats().pods;
        if target.max_pods.is_some_and(|most| pods >= most) {
            return false;
        }
        let serving = self.pool.enis().filter(|eni| eni.takes_pods());
        let open = |eni: &vpc_ipam::PoolEni| {
            // What rests is on its way by itself; a position that nothing is on can be asked for.
            let (held, _) = self.pool.on(&eni.facts.id).unwrap_or_default();
            held < target.addresses_per_eni()
        };
        self.has_room_for_eni() || serving.into_iter().any(open)
    }
}
