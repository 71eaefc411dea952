//! Deliberate bugs that take more than a word (see [`vpc_ipam::bugs`]).

use vpc_ipam::bug;
use vpc_model::{Millis, SandboxKey, Time};

use crate::agent::Agent;
use crate::config::Metadata;

impl Agent {
    /// Ends leases whose address this reading of the metadata does not show, as the reference does.
    pub(crate) fn end_leases_not_shown(&mut self, now: Time, metadata: &Metadata) {
        if !bug!(TrustOneMetadataAnswer) {
            return;
        }
        let shown = |address| metadata.enis.iter().any(|eni| eni.slots.iter().any(|slot| slot.contains(address)));
        let lost = self.pool.held().filter(|held| !shown(held.allocation.address));
        let lost: Vec<SandboxKey> = lost.map(|held| held.key.clone()).collect();
        for key in lost {
            self.pool.release(&key, now, Millis(0));
            self.touch_disk();
        }
    }
}
