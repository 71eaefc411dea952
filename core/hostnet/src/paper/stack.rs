//! Links, addresses, routes and neighbours of one namespace, with the kernel's own reactions.
//!
//! - A link that goes down loses its routes and neighbours, and keeps its addresses; coming up, their connected routes return.
//! - A second address of the same network is *secondary*: without `promote_secondaries` it goes when the first one goes.
//! - The last address of a link takes all IPv4 routes and neighbours of the link with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{LinkName, Mac, RouteTable};

use crate::{Link, LinkKind, Neighbour, PaperRefusal, Route, RouteScope, RpFilter};

/// Bytes a link's MTU may have.
const MTU: std::ops::RangeInclusive<u32> = 68..=65_535;

/// One link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PaperLink {
    pub(super) index: u32,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
    pub(super) up: bool,
    pub(super) kind: LinkKind,
    pub(super) alias: Option<String>,
    pub(super) addresses: Vec<PaperAddress>,
    pub(super) rp_filter: RpFilter,
    /// Sandbox and link at the far end of a pod's pair.
    pub(super) peer: Option<(String, LinkName)>,
}

/// One address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PaperAddress {
    pub(super) net: Ipv4Net,
    no_prefix_route: bool,
    secondary: bool,
}

impl PaperLink {
    /// A link as the kernel makes it: down, without addresses. The reverse path filter is the strictest a distribution ships.
    pub(super) fn new(kind: LinkKind, mac: Mac, mtu: u32) -> Self {
        let (alias, addresses, peer) = (None, Vec::new(), None);
        Self { index: 0, mac, mtu, up: false, kind, alias, addresses, rp_filter: RpFilter::Strict, peer }
    }
}

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    pub(super) links: BTreeMap<LinkName, PaperLink>,
    pub(super) routes: Vec<Route>,
    pub(super) neighbours: BTreeMap<(LinkName, Ipv4Addr), Mac>,
    pub(super) switches: BTreeMap<String, String>,
    last_index: u32,
}

impl Stack {
    pub(super) fn new() -> Self {
        let (links, neighbours, switches) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut stack = Self { links, routes: Vec::new(), neighbours, switches, last_index: 0 };
        if let Ok(name) = "lo".parse() {
            let mut lo = PaperLink::new(LinkKind::Other, Mac([0; 6]), 65_536);
            lo.rp_filter = RpFilter::Off;
            stack.insert(name, lo);
        }
        stack
    }

    pub(super) fn add_link(&mut self, name: &LinkName, link: PaperLink) -> Result<(), PaperRefusal> {
        if self.links.contains_key(name) {
            return Err(PaperRefusal::NameTaken(name.clone()));
        }
        if !MTU.contains(&link.mtu) {
            return Err(PaperRefusal::BadMtu { link: name.clone(), mtu: link.mtu });
        }
        if link.mac.0[0] & 1 == 1 || link.mac.0 == [0; 6] {
            return Err(PaperRefusal::BadMac(link.mac));
        }
        self.insert(name.clone(), link);
        Ok(())
    }

    fn insert(&mut self, name: LinkName, mut link: PaperLink) {
        self.last_index += 1;
        link.index = self.last_index;
        self.links.insert(name, link);
    }

    pub(super) fn drop_link(&mut self, name: &LinkName) -> Option<PaperLink> {
        let gone = self.links.remove(name)?;
        self.flush(name);
        let lost: Vec<Ipv4Addr> = gone.addresses.iter().map(|a| a.net.addr()).collect();
        lost.into_iter().for_each(|address| self.forget_source(address));
        self.switches.retain(|key, _| switch_link(key) != Some(name.as_str()));
        Some(gone)
    }

    pub(super) fn link_mut(&mut self, name: &LinkName) -> Result<&mut PaperLink, PaperRefusal> {
        self.links.get_mut(name).ok_or_else(|| PaperRefusal::NoLink(name.clone()))
    }

    pub(super) fn set_link(&mut self, name: &LinkName, mtu: Option<u32>, up: bool) -> Result<(), PaperRefusal> {
        let link = self.link_mut(name)?;
        if let Some(mtu) = mtu.filter(|mtu| !MTU.contains(mtu)) {
            return Err(PaperRefusal::BadMtu { link: name.clone(), mtu });
        }
        link.mtu = mtu.unwrap_or(link.mtu);
        let (was_up, addresses) = (link.up, link.addresses.clone());
        link.up = up;
        match (was_up, up) {
            (true, false) => self.flush(name),
            (false, true) => addresses.into_iter().for_each(|address| self.connect(name, address)),
            _ => (),
        }
        Ok(())
    }

    pub(super) fn add_address(&mut self, name: &LinkName, net: Ipv4Net, bare: bool) -> Result<(), PaperRefusal> {
        let link = self.link_mut(name)?;
        if link.addresses.iter().any(|a| a.net == net) {
            return Ok(());
        }
        let secondary = link.addresses.iter().any(|a| a.net.trunc() == net.trunc());
        let address = PaperAddress { net, no_prefix_route: bare, secondary };
        link.addresses.push(address);
        self.connect(name, address);
        Ok(())
    }

    pub(super) fn remove_address(&mut self, name: &LinkName, net: Ipv4Net) {
        let promote = self.promotes(name);
        let Some(link) = self.links.get_mut(name) else { return };
        let Some(at) = link.addresses.iter().position(|a| a.net == net) else { return };
        let gone = link.addresses.remove(at);
        let mut lost = vec![gone.net];
        let mut heir = None;
        if !gone.secondary {
            let of_same = |a: &PaperAddress| a.net.trunc() == net.trunc();
            match link.addresses.iter_mut().find(|a| of_same(a)) {
                Some(next) if promote => {
                    next.secondary = false;
                    heir = Some(*next);
                }
                _ => {
                    lost.extend(link.addresses.iter().filter(|a| of_same(a)).map(|a| a.net));
                    link.addresses.retain(|a| !of_same(a));
                }
            }
        }
        let last = link.addresses.is_empty();
        for net in lost {
            self.routes.retain(|route| *route != connected(name, net));
            self.forget_source(net.addr());
        }
        if let Some(heir) = heir {
            self.connect(name, heir);
        }
        if last {
            self.flush(name);
        }
    }

    fn promotes(&self, name: &LinkName) -> bool {
        let on = |link: &str| {
            self.switches.get(&format!("net/ipv4/conf/{link}/promote_secondaries")).is_some_and(|value| value != "0")
        };
        on("all") || on(name.as_str())
    }

    /// The connected route of an address, where the kernel makes one.
    fn connect(&mut self, name: &LinkName, address: PaperAddress) {
        let up = self.links.get(name).is_some_and(|link| link.up);
        let route = connected(name, address.net);
        let wanted = up && !address.no_prefix_route && !address.secondary && address.net.prefix_len() < 32;
        if wanted && !self.routes.contains(&route) {
            self.routes.push(route);
        }
    }

    /// Routes that prefer a source the host no longer has go.
    fn forget_source(&mut self, address: Ipv4Addr) {
        if !self.is_local(address) {
            self.routes.retain(|route| route.source != Some(address));
        }
    }

    fn flush(&mut self, name: &LinkName) {
        self.routes.retain(|route| route.link != *name);
        self.neighbours.retain(|(link, _), _| link != name);
    }

    /// Adds a route in place of the first to the same destination in the same table.
    pub(super) fn replace_route(&mut self, route: &Route) -> Result<(), PaperRefusal> {
        self.check(route)?;
        if self.routes.contains(route) {
            return Ok(());
        }
        match self.routes.iter_mut().find(|seen| seen.table == route.table && seen.to == route.to) {
            Some(seen) => *seen = route.clone(),
            None => self.routes.push(route.clone()),
        }
        Ok(())
    }

    fn check(&self, route: &Route) -> Result<(), PaperRefusal> {
        let link = self.links.get(&route.link).ok_or_else(|| PaperRefusal::NoLink(route.link.clone()))?;
        if route.to != route.to.trunc() {
            return Err(PaperRefusal::BadPrefix(route.to));
        }
        if !link.up {
            return Err(PaperRefusal::LinkDown(route.link.clone()));
        }
        if let Some(source) = route.source.filter(|source| !self.is_local(*source)) {
            return Err(PaperRefusal::BadSource(source));
        }
        let Some(gateway) = route.via else { return Ok(()) };
        if route.scope != RouteScope::Universe || self.is_local(gateway) {
            return Err(PaperRefusal::BadGateway(gateway));
        }
        let says = |seen: &&Route| {
            let asked = seen.table == route.table || seen.table == RouteTable::MAIN;
            asked && seen.link == route.link && seen.via.is_none() && seen.to.contains(&gateway)
        };
        match route.onlink || self.routes.iter().any(|seen| says(&seen)) {
            true => Ok(()),
            false => Err(PaperRefusal::NoGateway { gateway, link: route.link.clone() }),
        }
    }

    pub(super) fn pin(&mut self, neighbour: &Neighbour) -> Result<(), PaperRefusal> {
        self.link_mut(&neighbour.link)?;
        self.neighbours.insert((neighbour.link.clone(), neighbour.address), neighbour.mac);
        Ok(())
    }

    pub(super) fn set_switch(&mut self, key: &str, value: &str) -> Result<(), PaperRefusal> {
        let known = switch_link(key).is_none_or(|link| {
            matches!(link, "all" | "default") || self.links.keys().any(|name| name.as_str() == link)
        });
        if !known {
            return Err(PaperRefusal::NoSwitch(key.to_owned()));
        }
        self.switches.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    pub(super) fn has_address(&self, link: &LinkName, net: Ipv4Net) -> bool {
        self.links.get(link).is_some_and(|link| link.addresses.iter().any(|a| a.net == net))
    }

    pub(super) fn has_route_to(&self, route: &Route) -> bool {
        self.routes.iter().any(|seen| seen.table == route.table && seen.to == route.to)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.links.values().flat_map(|link| &link.addresses).map(|a| a.net.addr())
    }

    pub(super) fn is_local(&self, address: Ipv4Addr) -> bool {
        address.is_loopback() || self.addresses().any(|own| own == address)
    }

    /// The route a table has for a destination: the longest prefix, and the elder of two alike.
    pub(super) fn find(&self, table: RouteTable, to: Ipv4Addr) -> Option<&Route> {
        let fits = self.routes.iter().filter(|route| route.table == table && route.to.contains(&to));
        fits.fold(None, |best: Option<&Route>, route| match best {
            Some(best) if best.to.prefix_len() >= route.to.prefix_len() => Some(best),
            _ => Some(route),
        })
    }

    pub(super) fn observe_links(&self) -> Vec<Link> {
        let mut links: Vec<Link> = self.links.iter().map(|(name, link)| link.observe(name)).collect();
        links.sort_by_key(|link| link.index);
        links
    }

    pub(super) fn observe_neighbours(&self) -> BTreeSet<Neighbour> {
        let pins = self.neighbours.iter();
        pins.map(|((link, address), mac)| Neighbour { link: link.clone(), address: *address, mac: *mac }).collect()
    }
}

impl PaperLink {
    fn observe(&self, name: &LinkName) -> Link {
        Link {
            index: self.index,
            name: name.clone(),
            mac: self.mac,
            mtu: self.mtu,
            up: self.up,
            kind: self.kind,
            alias: self.alias.clone(),
            addresses: self.addresses.iter().map(|a| a.net).collect(),
            rp_filter: Some(self.rp_filter),
        }
    }
}

/// The route the kernel makes for an address by itself.
fn connected(link: &LinkName, net: Ipv4Net) -> Route {
    Route { source: Some(net.addr()), ..Route::on_link(RouteTable::MAIN, net.trunc(), link.clone()) }
}

/// The link a switch is of, if it is one of a link.
fn switch_link(key: &str) -> Option<&str> {
    key.strip_prefix("net/ipv4/conf/")?.split_once('/').map(|(link, _)| link)
}
