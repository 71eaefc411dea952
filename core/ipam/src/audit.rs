//! The whole of the books, checked against themselves.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vpc_model::{EniId, SandboxKey, Slot};

use crate::{EniUse, Pool, Use};

/// A broken invariant, found by [`Pool::audit`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The two indexes disagree.
    #[error("{key} is said to hold {address}, but the address says otherwise")]
    Owner {
        /// Sandbox.
        key: SandboxKey,
        /// Address.
        address: Ipv4Addr,
    },
    /// A slot stands on two ENIs.
    #[error("{slot} is on {first} and on {second}")]
    SlotTwice {
        /// Slot.
        slot: Slot,
        /// One ENI.
        first: EniId,
        /// The other.
        second: EniId,
    },
    /// A primary address was given out. (What somebody took from a pod that lives, EC2 may make the own address of an ENI that comes
    /// later; nobody here has given that.)
    #[error("{address} is the primary address of {eni} and in use by a pod")]
    PrimaryGiven {
        /// Address.
        address: Ipv4Addr,
        /// ENI.
        eni: EniId,
    },
    /// The running counts of an ENI are not what a recount gives.
    #[error("the running counts of {0} differ from a recount")]
    Counts(EniId),
    /// The list of rests by their end differs from the addresses that rest.
    #[error("the list of rests by their end differs from the addresses that rest")]
    Rests,
}

impl Pool {
    /// Checks the whole of the books, and recounts what is otherwise counted as it goes.
    #[must_use]
    pub fn audit(&self) -> Vec<Violation> {
        let mut found: Vec<Violation> = self.wrong_owners().collect();
        let mut seen: BTreeMap<Slot, &EniId> = BTreeMap::new();
        for eni in self.enis() {
            let id = &eni.facts.id;
            // What it had as its own may be another's, where EC2 does not show it any more.
            if eni.usage != EniUse::Doubtful
                && let Some(Use::Held(held)) = self.use_of(eni.facts.primary)
                && held.since > eni.since
            {
                found.push(Violation::PrimaryGiven { address: eni.facts.primary, eni: id.clone() });
            }
            for slot in eni.positions() {
                if let Some(first) = seen.insert(slot, id) {
                    found.push(Violation::SlotTwice { slot, first: first.clone(), second: id.clone() });
                }
            }
            if !self.counts_right(eni) {
                found.push(Violation::Counts(id.clone()));
            }
        }
        if !self.rests_right() {
            found.push(Violation::Rests);
        }
        found
    }
}
