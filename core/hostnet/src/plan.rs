//! The difference of desired and observed, as operations.
//!
//! The order is the safety, so that at no step a pod lacks what it had and will have:
//!
//! 1. reverse path filters: from then on packets may come back by another link;
//! 2. rules into main, which is always there, and the packet filter, whose mark they know by then;
//! 3. removal of rules that nothing takes the place of: a wrong one may point to a table that is about to be filled;
//! 4. links, addresses, pinned neighbours, routes;
//! 5. rules into the ENIs' tables, which are full by then;
//! 6. the other removals: rules that have been replaced, routes, neighbours, addresses.
//!
//! What is right is never touched, not even to be put back a moment later.
//!
//! Removed is only what bears our signature *and* is known to be wrong:
//!
//! | object | ours by | wrong when |
//! |---|---|---|
//! | rules 512, 1536 | the layout's shape | of a routed pod and not desired; or of a released address |
//! | route /32 in main | on a veth of ours | of a routed pod and on another link; or of a released address |
//! | pinned neighbour | on a veth of ours | same |
//! | rule 1024 | `fwmark M/M lookup main` | not desired |
//! | rule 1535 | `to <cidr> lookup main` | not desired |
//! | rule 32765 | `from <address> lookup <ENI table>` | of an ENI of ours into another table; of a released address; or of a VPC address that neither an ENI of the node nor any link has, into a table that is ours or empty |
//! | address | on a link of a secondary ENI | not its primary one, not link-local |
//! | connected route in main | of a secondary ENI's own address | always |
//!
//! A rule stays all the same where the kernel would take a rule of another's with it ([`Rule::removes`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{LinkName, RouteTable};

use crate::classic::{layout, single};
use crate::{
    Desired, DesiredLink, FilterSeen, HostOp, HostState, Link, LinkAlias, LinkKind, Neighbour, Route, Rule, priority,
};

/// The operations that make the observed host the desired one, in the order in which they are to be applied; none if it is.
#[must_use]
pub fn plan(desired: &Desired, observed: &HostState) -> Vec<HostOp> {
    let links = observed.links_by_name();
    let pairs = desired.links.iter().filter_map(|want| Some((want, *links.get(&want.name)?))).collect();
    let (rules, routes) = (desired.rules.iter().collect(), desired.routes.iter().collect());
    let mut planner = Planner { desired, observed, links, pairs, rules, routes, stale: Vec::new() };
    planner.stale = observed.rules.iter().filter(|rule| planner.is_stale(rule)).collect();
    let mut ops = Vec::new();
    planner.loosen(&mut ops);
    planner.add_rules(|rule| rule.table == RouteTable::MAIN, &mut ops);
    planner.filter(&mut ops);
    planner.remove_rules(|rule| !planner.has_heir(rule), &mut ops);
    planner.links(&mut ops);
    planner.add_routes(&mut ops);
    planner.add_rules(|rule| rule.table != RouteTable::MAIN, &mut ops);
    planner.remove_rules(|rule| planner.has_heir(rule), &mut ops);
    planner.remove_routes(&mut ops);
    planner.remove_neighbours(&mut ops);
    planner.remove_addresses(&mut ops);
    ops
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a HostState,
    /// The observed links.
    links: BTreeMap<&'a LinkName, &'a Link>,
    /// The desired links that exist, with what was seen of them.
    pairs: Vec<(&'a DesiredLink, &'a Link)>,
    /// The desired rules and routes, to be asked for one.
    rules: BTreeSet<&'a Rule>,
    routes: BTreeSet<&'a Route>,
    /// Observed rules that are ours and wrong.
    stale: Vec<&'a Rule>,
}

impl Planner<'_> {
    fn loosen(&self, ops: &mut Vec<HostOp>) {
        for &(want, seen) in &self.pairs {
            if let Some(mode) = want.rp_filter.filter(|mode| seen.rp_filter != Some(*mode)) {
                ops.push(HostOp::SetRpFilter { link: want.name.clone(), mode });
            }
        }
    }

    fn links(&self, ops: &mut Vec<HostOp>) {
        for &(want, seen) in &self.pairs {
            if !seen.up {
                // Down it has no routes to lose, and once up its connected routes would draw traffic.
                strip_addresses(want, seen, ops);
            }
            let mtu = want.mtu.filter(|mtu| *mtu != seen.mtu);
            if mtu.is_some() || !seen.up {
                ops.push(HostOp::SetLink { link: want.name.clone(), mtu, up: true });
            }
            if let Some(address) = want.address.filter(|address| !seen.addresses.contains(address)) {
                ops.push(HostOp::AddAddress { link: want.name.clone(), address, no_prefix_route: true });
            }
            if !seen.up {
                self.disconnect(want, seen, ops);
            }
        }
    }

    fn add_routes(&self, ops: &mut Vec<HostOp>) {
        let pins = self.desired.neighbours.iter().filter(|n| !self.observed.neighbours.contains(n));
        ops.extend(pins.cloned().map(HostOp::PinNeighbour));
        let routes = self.desired.routes.iter().filter(|route| !self.observed.routes.contains(route));
        ops.extend(routes.cloned().map(HostOp::ReplaceRoute));
    }

    fn add_rules(&self, which: impl Fn(&Rule) -> bool, ops: &mut Vec<HostOp>) {
        let rules = self.desired.rules.iter().filter(|rule| which(rule) && !self.observed.rules.contains(rule));
        ops.extend(rules.cloned().map(HostOp::AddRule));
    }

    fn filter(&self, ops: &mut Vec<HostOp>) {
        let print = self.desired.filter.fingerprint();
        let stands = |seen: &FilterSeen| seen.intact && seen.fingerprint.as_ref() == Some(&print);
        if !self.observed.filter.as_ref().is_some_and(stands) {
            ops.push(HostOp::ReplaceFilter(self.desired.filter.clone()));
        }
    }

    fn remove_rules(&self, which: impl Fn(&Rule) -> bool, ops: &mut Vec<HostOp>) {
        let gone = self.stale.iter().copied().filter(|rule| which(rule) && !self.drags(rule));
        ops.extend(gone.cloned().map(HostOp::RemoveRule));
    }

    /// Whether a rule that stays would go with this one. Then this one stays too: too much is better than another's too little.
    fn drags(&self, rule: &Rule) -> bool {
        self.observed.rules.iter().any(|other| rule.removes(other) && !self.is_stale(other))
    }

    /// Whether another rule for the same source has yet to be added.
    fn has_heir(&self, rule: &Rule) -> bool {
        let heir = |want: &Rule| want.priority == rule.priority && want.from == rule.from;
        rule.from.is_some() && self.desired.rules.iter().any(|want| heir(want) && !self.observed.rules.contains(want))
    }

    fn is_stale(&self, rule: &Rule) -> bool {
        !self.rules.contains(rule) && self.has_had_its_day(rule)
    }

    fn has_had_its_day(&self, rule: &Rule) -> bool {
        let plain = rule.iif.is_none() && rule.table == RouteTable::MAIN;
        match rule {
            Rule { priority: priority::TO_POD | priority::FROM_POD, .. } => {
                layout(self.desired.settings.layout).pod_of_rule(rule).is_some_and(|pod| self.is_settled(pod))
            }
            Rule { priority: priority::MARKED, from: None, to: None, mark: Some(mark), .. } => {
                plain && mark.value == mark.mask
            }
            Rule { priority: priority::EXTERNAL_SERVICE, from: None, to: Some(_), mark: None, .. } => plain,
            Rule { priority: priority::FROM_ENI, from: Some(from), to: None, mark: None, iif: None, table } => {
                single(*from).is_some_and(|address| self.is_stale_eni_rule(address, *table))
            }
            _ => false,
        }
    }

    fn is_stale_eni_rule(&self, address: Ipv4Addr, table: RouteTable) -> bool {
        let claims = &self.desired.claims;
        if !is_eni_table(table) {
            return false;
        }
        if claims.eni_addresses.contains(&address) {
            return claims.enis.contains_key(&address);
        }
        let in_vpc = claims.vpc_cidrs.iter().any(|net| net.contains(&address));
        let on_host = self.observed.links.iter().any(|link| self.keeps(link, address));
        let ours = claims.enis.values().any(|ours| *ours == table);
        let empty = !self.observed.routes.iter().any(|route| route.table == table);
        claims.released.contains(&address) || (in_vpc && !on_host && (ours || empty))
    }

    fn remove_routes(&self, ops: &mut Vec<HostOp>) {
        let layout = layout(self.desired.settings.layout);
        let stale = self.observed.routes.iter().filter(|route| {
            let settled = || layout.pod_of_route(route).is_some_and(|pod| self.is_settled(pod));
            let wrong = !self.routes.contains(route) && settled() && !self.is_replaced(route);
            wrong && self.is_pod_link(&route.link)
        });
        ops.extend(stale.cloned().map(HostOp::RemoveRoute));
    }

    /// Whether a desired route takes its place. Of several to one destination the kernel replaces but one.
    fn is_replaced(&self, route: &Route) -> bool {
        let beside = |other: &&Route| other.table == route.table && other.to == route.to;
        let alone = self.observed.routes.iter().filter(beside).count() == 1;
        alone && self.desired.routes.iter().any(|want| beside(&want))
    }

    fn remove_neighbours(&self, ops: &mut Vec<HostOp>) {
        let layout = layout(self.desired.settings.layout);
        let stale = self.observed.neighbours.iter().filter(|seen| {
            let same = |want: &Neighbour| want.link == seen.link && want.address == seen.address;
            // A routed pod of unknown hardware address keeps what is pinned on its own link.
            let to_it = |r: &Route| r.link == seen.link && single(r.to) == Some(seen.address);
            let own = self.routes.contains(&layout.pod_route(seen.address, &seen.link))
                || self.desired.routes.iter().any(to_it);
            let wrong = !own && !self.desired.neighbours.iter().any(same);
            self.is_settled(seen.address) && wrong && self.is_pod_link(&seen.link)
        });
        ops.extend(stale.cloned().map(HostOp::RemoveNeighbour));
    }

    /// On links that are in use, after everything the links will carry stands.
    fn remove_addresses(&self, ops: &mut Vec<HostOp>) {
        for (want, seen) in self.pairs.iter().filter(|(_, seen)| seen.up) {
            strip_addresses(want, seen, ops);
            self.disconnect(want, seen, ops);
        }
    }

    /// Removes the connected route of a secondary ENI's own address from main, where it is or is about to appear.
    fn disconnect(&self, want: &DesiredLink, seen: &Link, ops: &mut Vec<HostOp>) {
        let Some(address) = want.address else { return };
        let connected = connected(seen, address);
        let appears = seen.addresses.contains(&address) && (!seen.up || has_elder(seen, address));
        if appears || self.observed.routes.contains(&connected) {
            ops.push(HostOp::RemoveRoute(connected));
        }
    }

    /// Whether the link has the address and will have it when all is done.
    fn keeps(&self, link: &Link, address: Ipv4Addr) -> bool {
        let own = self.desired.links.iter().find(|want| want.name == link.name).and_then(|want| want.address);
        link.addresses.iter().any(|net| net.addr() == address && !own.is_some_and(|own| is_strange(*net, own)))
    }

    /// Whether all there is to know about routes and rules of this address is known.
    fn is_settled(&self, address: Ipv4Addr) -> bool {
        let claims = &self.desired.claims;
        claims.routed.contains(&address) || claims.released.contains(&address)
    }

    /// Whether the link is a pod's: by its name, or by its alias if it was made when another prefix was set.
    fn is_pod_link(&self, name: &LinkName) -> bool {
        let prefixed = name.as_str().starts_with(self.desired.settings.veth_prefix.as_str());
        let signed = |link: &Link| link.alias.as_ref().is_some_and(|text| text.parse::<LinkAlias>().is_ok());
        self.links.get(name).is_some_and(|link| link.kind == LinkKind::Veth && (prefixed || signed(link)))
    }
}

/// Takes the addresses an operating system gave a secondary ENI's link off it: a pod's address on a link would make the host answer
/// for the pod.
fn strip_addresses(want: &DesiredLink, seen: &Link, ops: &mut Vec<HostOp>) {
    let Some(address) = want.address else { return };
    if has_elder(seen, address) && (seen.up || seen.addresses.contains(&address)) {
        // Else the kernel takes our address away together with the one it came to after in the same subnet.
        let key = format!("net/ipv4/conf/{}/promote_secondaries", want.name);
        ops.push(HostOp::SetSysctl { key, value: "1".into() });
    }
    let strange = seen.addresses.iter().filter(|other| is_strange(**other, address));
    ops.extend(strange.map(|other| HostOp::RemoveAddress { link: want.name.clone(), address: *other }));
}

/// Whether another address of the same subnet is on the link. Ours may then be secondary, and turns primary when that one goes.
fn has_elder(seen: &Link, address: Ipv4Net) -> bool {
    seen.addresses.iter().any(|other| is_strange(*other, address) && other.trunc() == address.trunc())
}

fn is_strange(other: Ipv4Net, address: Ipv4Net) -> bool {
    other != address && !other.addr().is_link_local()
}

/// The route the kernel makes for an address by itself.
fn connected(link: &Link, address: Ipv4Net) -> Route {
    Route { source: Some(address.addr()), ..Route::on_link(RouteTable::MAIN, address.trunc(), link.name.clone()) }
}

/// Whether [`RouteTable::of_eni`] makes such numbers for ENIs other than the primary one.
pub(crate) fn is_eni_table(table: RouteTable) -> bool {
    matches!(table.0, 2..=99 | 10_100..=19_999)
}
