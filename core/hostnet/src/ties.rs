//! What the host has for pods' addresses, by its shape alone: whoever put it there, and whether its pod is alive or not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_model::{LinkName, RouteTable, VethPrefix};

use crate::classic::layout;
use crate::plan::is_eni_table;
use crate::{HostSettings, HostState, Link, LinkAlias, LinkKind, priority};

/// What stands for one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodTies {
    /// There is a rule that leads to the pod.
    pub to: bool,
    /// There is a rule by which the pod leaves through an ENI's table.
    pub from: bool,
    /// A rule of a pod's shape leads into a table no ENI has: someone else's (the reference's pods with branch ENIs have such).
    pub foreign: bool,
    /// Pods' links the address is routed to.
    pub links: BTreeSet<LinkName>,
}

impl PodTies {
    /// Whether there are rules, and all of them are such as we write.
    #[must_use]
    pub fn has_only_our_rules(&self) -> bool {
        (self.to || self.from) && !self.foreign
    }
}

/// Everything on the host that has the shape of a pod's rule or route, by address.
#[must_use]
pub fn pod_ties(state: &HostState, settings: &HostSettings) -> BTreeMap<Ipv4Addr, PodTies> {
    let layout = layout(settings.layout);
    let mut ties: BTreeMap<Ipv4Addr, PodTies> = BTreeMap::new();
    for rule in &state.rules {
        let Some(pod) = layout.pod_of_rule(rule) else { continue };
        let tie = ties.entry(pod).or_default();
        match rule.priority {
            priority::TO_POD => tie.to = true,
            _ if is_eni_table(rule.table) || rule.table == RouteTable::MAIN => tie.from = true,
            _ => tie.foreign = true,
        }
    }
    let links: BTreeSet<&LinkName> =
        state.links.iter().filter(|link| is_pod_link(link, &settings.veth_prefix)).map(|link| &link.name).collect();
    for route in state.routes.iter().filter(|route| links.contains(&route.link)) {
        if let Some(pod) = layout.pod_of_route(route) {
            ties.entry(pod).or_default().links.insert(route.link.clone());
        }
    }
    ties
}

/// Whether a link is a pod's: a veth with our alias, or with the prefix of pods' links (the reference writes no alias). Without a
/// prefix only the alias tells.
#[must_use]
pub fn is_pod_link(link: &Link, prefix: &VethPrefix) -> bool {
    let prefixed = !prefix.as_str().is_empty() && link.name.as_str().starts_with(prefix.as_str());
    let signed = || link.alias.as_ref().is_some_and(|text| text.parse::<LinkAlias>().is_ok());
    link.kind == LinkKind::Veth && (prefixed || signed())
}
