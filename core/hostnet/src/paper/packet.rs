//! Where a packet ends: prerouting marks, rules by priority, longest prefixes, reverse path filter, source translation.
//!
//! ```text
//!   pod: route -> next hop -> host veth --+                                          +--> a pod's veth
//!   an ENI -------------------------------+-> reverse path -> mark -> rules, tables -+--> the host
//!   the host itself -------------------------------------------------^              +--> an ENI, source translated
//! ```

use std::net::Ipv4Addr;

use vpc_model::{LinkName, Mac, RouteTable};

use super::{FORWARD, LOCAL, PaperHost};
use crate::{Filter, Route, RpFilter, Rule};

/// Which packet of a connection is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaperTurn {
    /// One from the side that opened the connection.
    Opens,
    /// One from the other side.
    Answers {
        /// The connection carries our mark: it came in to an address of the primary link (NodePort).
        marked: bool,
    },
}

/// Where a packet ends, as far as this host goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PaperEnd {
    /// In a pod of this host.
    Pod {
        /// Its sandbox.
        sandbox: String,
        /// The host veth it went through.
        link: LinkName,
    },
    /// At the host itself.
    Host,
    /// Out of this link.
    Out {
        /// The link.
        link: LinkName,
        /// The router it is handed to; `None` = its destination is on the link.
        via: Option<Ipv4Addr>,
    },
}

/// What happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaperPath {
    /// Where it ended.
    pub end: PaperEnd,
    /// The source it had there.
    pub source: Ipv4Addr,
    /// The connection carries our mark now.
    pub marked: bool,
}

/// Why a packet is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaperLoss {
    /// No sandbox of that name, or one without an address.
    #[error("there is no sandbox {0} with an address")]
    NoSandbox(String),
    /// The pod has no route, or none by a link that leads to the host.
    #[error("the pod has no route to {0}")]
    NoPodRoute(Ipv4Addr),
    /// The pod's next hop is not pinned to the host end's hardware address: nothing answers for it.
    #[error("the pod's next hop {0} is not pinned to the host end of its pair")]
    NoNextHop(Ipv4Addr),
    /// It came by a link that is not there or down.
    #[error("link {0} is not there, or down")]
    NoLink(LinkName),
    /// The reverse path filter of the link it came by dropped it.
    #[error("dropped on {link}: the way back to {source_address} is another")]
    ReversePath {
        /// The link.
        link: LinkName,
        /// The packet's source.
        source_address: Ipv4Addr,
    },
    /// The host does not forward.
    #[error("the host does not forward: net.ipv4.ip_forward is 0")]
    NotForwarding,
    /// No rule led to a route.
    #[error("no rule leads to a route to {0}")]
    NoRoute(Ipv4Addr),
    /// The route leads to a pod that does not have the address, or behind another hardware address than is pinned.
    #[error("behind {link} no one answers for {address}")]
    NotThere {
        /// The host veth.
        link: LinkName,
        /// The address.
        address: Ipv4Addr,
    },
}

/// What routing looks at.
struct Packet<'a> {
    from: Ipv4Addr,
    to: Ipv4Addr,
    mark: u32,
    iif: Option<&'a LinkName>,
}

enum Way<'a> {
    Local,
    By(&'a Route),
}

impl PaperHost {
    /// A packet arrives by a link from outside. Whether a pod is reachable is asked so, with the link of the pod's ENI.
    ///
    /// # Errors
    /// It is lost.
    pub fn routed(&self, by: &LinkName, from: Ipv4Addr, to: Ipv4Addr) -> Result<PaperPath, PaperLoss> {
        let marked = self.filter().is_some_and(|filter| {
            let own = self.stack.links.get(by).is_some_and(|link| link.addresses.iter().any(|a| a.net.addr() == to));
            filter.node_port && filter.primary_link == *by && own
        });
        self.pass(Packet { from, to, mark: 0, iif: Some(by) }, marked, true)
    }

    /// A pod sends to an address: by which link does the packet leave, and with which source?
    ///
    /// # Errors
    /// It is lost.
    pub fn egress(&self, sandbox: &str, to: Ipv4Addr, turn: PaperTurn) -> Result<PaperPath, PaperLoss> {
        let (from, iif) = self.leave_pod(sandbox, to)?;
        let opens = turn == PaperTurn::Opens;
        let mut marked = turn == PaperTurn::Answers { marked: true };
        let mut mark = 0;
        if let Some(filter) = self.filter().filter(|filter| iif.as_str().starts_with(filter.veth_prefix.as_str())) {
            marked |= opens && filter.snat.is_some() && !self.is_exempt(filter, to);
            mark = if marked && filter.marks() { filter.mark.value } else { 0 };
        }
        self.pass(Packet { from, to, mark, iif: Some(iif) }, marked, opens)
    }

    /// A process of the host sends: kubelet to a pod, for example.
    ///
    /// # Errors
    /// It is lost.
    pub fn sent(&self, from: Ipv4Addr, to: Ipv4Addr) -> Result<PaperPath, PaperLoss> {
        self.pass(Packet { from, to, mark: 0, iif: None }, false, true)
    }

    /// The pod's own routing, up to the host end of the pair.
    fn leave_pod(&self, sandbox: &str, to: Ipv4Addr) -> Result<(Ipv4Addr, &LinkName), PaperLoss> {
        let missing = || PaperLoss::NoSandbox(sandbox.to_owned());
        let stack = &self.sandboxes.get(sandbox).ok_or_else(missing)?.stack;
        let route = stack.find(RouteTable::MAIN, to).ok_or(PaperLoss::NoPodRoute(to))?;
        let own = stack.links.get(&route.link).and_then(|link| link.addresses.first());
        let from = route.source.or(own.map(|a| a.net.addr())).ok_or_else(missing)?;
        let leads_here = |peer: &Option<(String, LinkName)>| {
            peer.as_ref().is_some_and(|(name, far)| name == sandbox && *far == route.link)
        };
        let near = self.stack.links.iter().find(|(_, link)| leads_here(&link.peer));
        let (name, link) = near.ok_or(PaperLoss::NoPodRoute(to))?;
        let hop = route.via.unwrap_or(to);
        let pinned: Option<&Mac> = stack.neighbours.get(&(route.link.clone(), hop));
        if pinned == Some(&link.mac) { Ok((from, name)) } else { Err(PaperLoss::NoNextHop(hop)) }
    }

    fn pass(&self, packet: Packet<'_>, marked: bool, opens: bool) -> Result<PaperPath, PaperLoss> {
        self.check_reverse_path(&packet)?;
        let path = |end, source| PaperPath { end, source, marked };
        let route = match self.resolve(&packet) {
            None => return Err(PaperLoss::NoRoute(packet.to)),
            Some(Way::Local) => return Ok(path(PaperEnd::Host, packet.from)),
            Some(Way::By(route)) => route,
        };
        let forwards = self.stack.switches.get(FORWARD).is_some_and(|value| value != "0");
        if packet.iif.is_some() && !forwards {
            return Err(PaperLoss::NotForwarding);
        }
        let end = self.end(route, packet.to)?;
        Ok(path(end, self.source(&packet, route, opens)))
    }

    /// What the reverse path filter does: the way back is looked up without the mark.
    fn check_reverse_path(&self, packet: &Packet<'_>) -> Result<(), PaperLoss> {
        let Some(name) = packet.iif else { return Ok(()) };
        let link = self.stack.links.get(name).filter(|link| link.up).ok_or_else(|| PaperLoss::NoLink(name.clone()))?;
        let back = Packet { from: packet.to, to: packet.from, mark: 0, iif: None };
        let way = self.resolve(&back);
        let passes = match (link.rp_filter, way) {
            (_, Some(Way::Local)) => false,
            (RpFilter::Off, _) => true,
            (_, None) => false,
            (RpFilter::Strict, Some(Way::By(route))) => route.link == *name,
            // The kernel is strict all the same on a link without an address.
            (RpFilter::Loose, Some(Way::By(route))) => route.link == *name || !link.addresses.is_empty(),
        };
        let loss = || PaperLoss::ReversePath { link: name.clone(), source_address: packet.from };
        if passes { Ok(()) } else { Err(loss()) }
    }

    /// Rules in their order; one whose table has no route for the destination leaves it to the next.
    fn resolve(&self, packet: &Packet<'_>) -> Option<Way<'_>> {
        self.rules.iter().filter(|rule| applies(rule, packet)).find_map(|rule| match rule.table {
            LOCAL => self.stack.is_local(packet.to).then_some(Way::Local),
            table => self.stack.find(table, packet.to).map(Way::By),
        })
    }

    fn end(&self, route: &Route, to: Ipv4Addr) -> Result<PaperEnd, PaperLoss> {
        let link = route.link.clone();
        let peer = self.stack.links.get(&link).and_then(|link| link.peer.as_ref());
        let Some((sandbox, far)) = peer else { return Ok(PaperEnd::Out { link, via: route.via }) };
        let stack = self.sandboxes.get(sandbox).map(|pod| &pod.stack);
        let answers = stack.and_then(|stack| stack.links.get(far).filter(|link| link.up && stack.is_local(to)));
        let pinned = self.stack.neighbours.get(&(link.clone(), to));
        match answers {
            // Not pinned, the host asks by ARP, and the pod answers for its address.
            Some(far) if pinned.is_none_or(|mac| *mac == far.mac) => {
                Ok(PaperEnd::Pod { sandbox: sandbox.clone(), link })
            }
            _ => Err(PaperLoss::NotThere { link, address: to }),
        }
    }

    /// Source translation happens to the first packet of a connection and holds for all of it.
    fn source(&self, packet: &Packet<'_>, route: &Route, opens: bool) -> Ipv4Addr {
        let translates = |filter: &&Filter| {
            let inside = route.link.as_str().starts_with("vlan") || self.is_exempt(filter, packet.to);
            opens && filter.snat.is_some() && !inside
        };
        self.filter().filter(translates).map_or(packet.from, |filter| filter.primary_address)
    }

    fn is_exempt(&self, filter: &Filter, to: Ipv4Addr) -> bool {
        self.stack.is_local(to) || filter.exempt.iter().any(|net| net.contains(&to))
    }

    /// The packet filter in force: one that somebody flushed does nothing.
    fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref().filter(|(_, intact)| *intact).map(|(filter, _)| filter)
    }
}

fn applies(rule: &Rule, packet: &Packet<'_>) -> bool {
    rule.from.is_none_or(|net| net.contains(&packet.from))
        && rule.to.is_none_or(|net| net.contains(&packet.to))
        && rule.mark.is_none_or(|mark| packet.mark & mark.mask == mark.value)
        && rule.iif.as_ref().is_none_or(|link| packet.iif == Some(link))
}
