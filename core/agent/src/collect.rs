//! GC and CHECK: which leases a network has, and the end of those that no valid attachment stands behind.
//!
//! ```text
//!   Collect { network, valid, came } --> leases of that network, promised before `came`, not valid --> each ends as by a DEL
//!   Find { key } ------------------------> the lease, or none
//! ```
//!
//! The runtime made its list before it called. A lease that was promised after that is of a pod the list could not know of: it stays. So
//! does one whose ADD may not have ended yet; whoever asks knows which ADDs are under way, but not those of the daemon before.

use std::collections::BTreeSet;

use vpc_ipam::Held;
use vpc_model::{Millis, SandboxKey, Time};

use crate::agent::Agent;
use crate::message::{Outcome, Ticket};

/// What a GC says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    /// The network it is about; leases of others stay.
    pub network: String,
    /// Its valid attachments: container and interface.
    pub valid: BTreeSet<(String, String)>,
    /// When the runtime called.
    pub came: Time,
}

impl Collect {
    fn is_stale(&self, key: &SandboxKey) -> bool {
        key.network == self.network && !self.valid.contains(&(key.container.clone(), key.interface.clone()))
    }
}

/// How long an ADD may take, whoever answered it (the plugin's own limit).
const ADD_TAKES: Millis = Millis::seconds(60);

impl Agent {
    pub(crate) fn find(&mut self, ticket: Ticket, key: &SandboxKey) {
        // A lease that is not on disk yet was promised to nobody.
        let held = self.pool.of(key).filter(|held| !self.disk.unrecorded.contains_key(&held.key));
        let allocation = held.map(|held| held.allocation);
        self.reply(ticket, Outcome::Found(allocation));
    }

    pub(crate) fn collect(&mut self, now: Time, ticket: Ticket, request: &Collect) {
        let promised_before =
            |held: &Held| self.last_asked(held) < request.came && !self.disk.unrecorded.contains_key(&held.key);
        let may_be_under_way = |held: &Held| held.since < self.begun && now.since(held.since) < ADD_TAKES;
        let held = self.pool.held().filter(|held| request.is_stale(&held.key) && promised_before(held));
        let held = held.filter(|held| !may_be_under_way(held));
        let stale: Vec<Held> = held.cloned().collect();
        let ended: Vec<Held> = stale.into_iter().filter_map(|held| self.end_sandbox(now, &held.key)).collect();
        if ended.is_empty() {
            return self.reply(ticket, Outcome::Collected(ended));
        }
        // The plugin takes their rules away; should it be killed before, the host pass does.
        self.host.is_dirty();
        let generation = self.touch_disk();
        self.disk.replies.push((generation, ticket, Outcome::Collected(ended)));
    }
}
