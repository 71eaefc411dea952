//! Links of sandboxes that have ended.
//!
//! ```text
//!   DEL, GC --> doomed --one group at a time--> Effect::RemoveLinks --> gone
//!                 \-- till then nobody has the address, and an ADD for the same sandbox waits
//! ```
//!
//! The kernel takes some twenty milliseconds to let go of a pair of links, and hardly more for fifty at once. Nobody waits for it: the DEL
//! is answered meanwhile, and what ends meanwhile goes with the next group. The next sandbox of the same pod has a link of the same name,
//! so a link is removed only if it says that it is the one that has ended. What can not be removed goes with the sandbox's namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_hostnet::LinkAlias;
use vpc_ipam::Held;
use vpc_model::{LinkName, SandboxKey, host_veth};

use crate::agent::Agent;
use crate::cloud::OpId;
use crate::message::{Effect, Notice};

/// The host's end of a sandbox that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoomedLink {
    /// Its name.
    pub link: LinkName,
    /// What it must bear: else it is another's.
    pub owner: LinkAlias,
}

/// Links that are to go, and those that are going.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    doomed: BTreeMap<SandboxKey, (DoomedLink, Ipv4Addr)>,
    going: Option<(OpId, BTreeMap<SandboxKey, Ipv4Addr>)>,
}

impl Links {
    /// Addresses of sandboxes whose links are not gone yet.
    pub(crate) fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        let going = self.going.iter().flat_map(|(_, going)| going.values());
        self.doomed.values().map(|(_, address)| address).chain(going).copied().collect()
    }

    /// Whether a link of this very sandbox is not gone yet: a new one could not be told from it.
    pub(crate) fn has(&self, key: &SandboxKey) -> bool {
        self.doomed.contains_key(key) || self.going.as_ref().is_some_and(|(_, going)| going.contains_key(key))
    }
}

impl Agent {
    /// The sandbox has ended, and its link is to go.
    pub(crate) fn doom_link(&mut self, held: &Held) {
        let doomed = DoomedLink {
            link: host_veth(&self.config.host.veth_prefix, &held.pod),
            owner: LinkAlias::of(&held.key, &held.pod),
        };
        self.links.doomed.insert(held.key.clone(), (doomed, held.allocation.address));
    }

    /// Has the doomed links removed, if none are just going.
    pub(crate) fn remove_links(&mut self) {
        if self.links.going.is_some() || self.links.doomed.is_empty() {
            return;
        }
        let op = self.cloud.next_op();
        let doomed = std::mem::take(&mut self.links.doomed);
        let going = doomed.iter().map(|(key, (_, address))| (key.clone(), *address)).collect();
        self.links.going = Some((op, going));
        let links = doomed.into_values().map(|(link, _)| link).collect();
        self.out.push(Effect::RemoveLinks { op, links });
    }

    pub(crate) fn links_removed(&mut self, op: OpId, result: Result<(), String>) {
        let Some((_, gone)) = self.links.going.take_if(|(going, _)| *going == op) else { return };
        if let Err(error) = result {
            self.say(Notice::LinksKept { links: gone.len(), error });
        }
    }
}
