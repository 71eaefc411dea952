//! A host on paper, as strict as the kernel: what it refuses, the kernel refuses; what the kernel takes away by itself, it takes away.
//!
//! ```text
//!   attach ---> links ---> apply(HostOp) / wire(sandbox, Wiring) ---> observe() -> HostState
//!                                        |
//!                     routed / egress / sent: where does this packet end?
//! ```
//!
//! It serves tests and simulators: they carry out the very operations the edge carries out on a kernel, and ask whether a pod is
//! reachable. Not modelled: metrics and types of routes other than unicast, IPv6, carrier, ARP between hosts.

mod packet;
mod stack;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{LinkName, Mac, RouteTable};

pub use packet::{PaperEnd, PaperLoss, PaperPath, PaperTurn};

use crate::classic::{bare, host};
use crate::{
    Filter, FilterSeen, HostOp, HostState, LinkKind, Neighbour, PodOp, Route, RpFilter, Rule, VethPair, Wiring,
};
use stack::{PaperLink, Stack};

/// The kernel's table of the host's own addresses.
const LOCAL: RouteTable = RouteTable(255);
/// The kernel's table that is asked last.
const DEFAULT: RouteTable = RouteTable(253);
/// The switch without which a host passes nothing on. A paper host has it on, as a Kubernetes node does.
const FORWARD: &str = "net/ipv4/ip_forward";

/// Why the kernel would refuse, with the code it would give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaperRefusal {
    /// The link is not there.
    #[error("ENODEV: no link {0}")]
    NoLink(LinkName),
    /// A route by a link that is down.
    #[error("ENETDOWN: link {0} is down")]
    LinkDown(LinkName),
    /// The gateway is not on the link.
    #[error("ENETUNREACH: no route says that gateway {gateway} is on link {link}")]
    NoGateway {
        /// The gateway.
        gateway: Ipv4Addr,
        /// The link.
        link: LinkName,
    },
    /// The gateway is the host itself, or the route says to be direct and has one.
    #[error("EINVAL: {0} can not be a gateway here")]
    BadGateway(Ipv4Addr),
    /// The preferred source is not an address of the host.
    #[error("EINVAL: the preferred source {0} is not an address of this host")]
    BadSource(Ipv4Addr),
    /// Bits are set behind the prefix length.
    #[error("EINVAL: the destination {0} has host bits set")]
    BadPrefix(Ipv4Net),
    /// Out of what the device can do.
    #[error("EINVAL: link {link} can not have an MTU of {mtu} bytes, expected 68 to 65535")]
    BadMtu {
        /// The link.
        link: LinkName,
        /// The MTU asked for, in bytes.
        mtu: u32,
    },
    /// Not an address of one station.
    #[error("EADDRNOTAVAIL: {0} is not a unicast hardware address")]
    BadMac(Mac),
    /// The link's name is taken.
    #[error("EEXIST: a link {0} exists")]
    NameTaken(LinkName),
    /// The pod has this address already.
    #[error("EEXIST: link {link} has the address {address}")]
    AddressTaken {
        /// The link.
        link: LinkName,
        /// The address.
        address: Ipv4Net,
    },
    /// The pod has a route there already.
    #[error("EEXIST: a route to {0} exists")]
    RouteTaken(Ipv4Net),
    /// A device is not made by software, nor unmade.
    #[error("EOPNOTSUPP: link {0} can not be deleted")]
    NotDeletable(LinkName),
    /// No such switch.
    #[error("ENOENT: no switch {0}")]
    NoSwitch(String),
}

/// The network of a sandbox: a stack of its own, with `lo` and the pod ends of veth pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaperPod {
    stack: Stack,
}

impl PaperPod {
    fn new() -> Self {
        Self { stack: Stack::new() }
    }

    /// The pod's IPv4 addresses, loopback ones aside.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.stack.addresses().collect()
    }

    /// The pod's routes.
    #[must_use]
    pub fn routes(&self) -> BTreeSet<Route> {
        self.stack.routes.iter().cloned().collect()
    }

    /// Names of the pod's links.
    #[must_use]
    pub fn links(&self) -> BTreeSet<LinkName> {
        self.stack.links.keys().cloned().collect()
    }

    fn step(&mut self, op: &PodOp) -> Result<(), PaperRefusal> {
        match op {
            PodOp::Up(link) => self.stack.set_link(link, None, true),
            PodOp::AddAddress { link, address } => {
                let address = host(*address);
                match self.stack.has_address(link, address) {
                    true => Err(PaperRefusal::AddressTaken { link: link.clone(), address }),
                    false => self.stack.add_address(link, address, false),
                }
            }
            PodOp::AddRoute(route) if self.stack.has_route_to(route) => Err(PaperRefusal::RouteTaken(route.to)),
            PodOp::AddRoute(route) => self.stack.replace_route(route),
            PodOp::PinNeighbour(neighbour) => self.stack.pin(neighbour),
        }
    }
}

/// What has to be put back when a wiring is refused half way.
#[expect(clippy::large_enum_variant, reason = "it lives for one wiring, and the large variant is the usual one")]
enum Before {
    /// A wiring as [`crate::wiring`] makes it changes its pod, a new link of the host, routes, rules and neighbours: the other links and
    /// pods, which are many, are as they were.
    Parts {
        pod: Option<PaperPod>,
        stack: Stack,
        rules: Vec<Rule>,
    },
    Whole(Box<PaperHost>),
}

impl Before {
    fn of(host: &mut PaperHost, sandbox: &str, wiring: &Wiring) -> Self {
        let usual = |op: &HostOp| {
            matches!(op, HostOp::PinNeighbour(_) | HostOp::ReplaceRoute(_) | HostOp::AddRule(_) | HostOp::RemoveRule(_))
        };
        if !wiring.host.iter().all(usual) {
            return Self::Whole(Box::new(host.clone()));
        }
        let links = std::mem::take(&mut host.stack.links);
        let stack = host.stack.clone();
        host.stack.links = links;
        Self::Parts { pod: host.sandboxes.get(sandbox).cloned(), stack, rules: host.rules.clone() }
    }

    fn restore(self, host: &mut PaperHost, sandbox: &str, link: &LinkName) {
        match self {
            Self::Whole(before) => *host = *before,
            Self::Parts { pod, mut stack, rules } => {
                std::mem::swap(&mut stack.links, &mut host.stack.links);
                stack.links.remove(link);
                (host.stack, host.rules) = (stack, rules);
                host.sandboxes.remove(sandbox);
                host.sandboxes.extend(pod.map(|pod| (sandbox.to_owned(), pod)));
            }
        }
    }
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaperHost {
    stack: Stack,
    /// By priority, and in order of arrival where that is the same.
    rules: Vec<Rule>,
    filter: Option<(Filter, bool)>,
    sandboxes: BTreeMap<String, PaperPod>,
}

impl Default for PaperHost {
    fn default() -> Self {
        Self::new()
    }
}

impl PaperHost {
    /// A machine just started: `lo`, the kernel's three rules, forwarding on.
    #[must_use]
    pub fn new() -> Self {
        let mut stack = Stack::new();
        stack.switches.insert(FORWARD.into(), "1".into());
        let rules = vec![bare(0, LOCAL), bare(32_766, RouteTable::MAIN), bare(32_767, DEFAULT)];
        Self { stack, rules, filter: None, sandboxes: BTreeMap::new() }
    }

    /// A machine whose operating system has configured the primary ENI: up, its address, the default route.
    ///
    /// # Errors
    /// As the kernel, for example for a gateway outside the address's network.
    pub fn booted(link: &LinkName, mac: Mac, address: Ipv4Net, gateway: Ipv4Addr) -> Result<Self, PaperRefusal> {
        let mut host = Self::new();
        host.attach(link, mac, 9001)?;
        host.stack.set_link(link, None, true)?;
        host.stack.add_address(link, address, false)?;
        let default = Route::through(RouteTable::MAIN, Ipv4Net::default(), gateway, link.clone());
        host.stack.replace_route(&default)?;
        Ok(host)
    }

    /// A device appears, as when an ENI is attached: down and unconfigured, with a strict reverse path filter.
    ///
    /// # Errors
    /// The name is taken, or the MTU or hardware address is none.
    pub fn attach(&mut self, link: &LinkName, mac: Mac, mtu: u32) -> Result<(), PaperRefusal> {
        self.stack.add_link(link, PaperLink::new(LinkKind::Other, mac, mtu))
    }

    /// A device disappears, with all that stands on it.
    pub fn detach(&mut self, link: &LinkName) {
        self.drop_link(link);
    }

    /// Carries out one operation.
    ///
    /// # Errors
    /// What the kernel refuses; nothing is changed then.
    pub fn apply(&mut self, op: &HostOp) -> Result<(), PaperRefusal> {
        match op {
            HostOp::SetLink { link, mtu, up } => self.stack.set_link(link, *mtu, *up),
            HostOp::AddAddress { link, address, no_prefix_route } => {
                self.stack.add_address(link, *address, *no_prefix_route)
            }
            HostOp::RemoveAddress { link, address } => {
                self.stack.remove_address(link, *address);
                Ok(())
            }
            HostOp::ReplaceRoute(route) => self.stack.replace_route(route),
            HostOp::RemoveRoute(route) => {
                self.stack.routes.retain(|seen| seen != route);
                Ok(())
            }
            HostOp::AddRule(rule) => {
                self.add_rule(rule);
                Ok(())
            }
            HostOp::RemoveRule(rule) => {
                self.rules.retain(|seen| !rule.removes(seen));
                Ok(())
            }
            HostOp::PinNeighbour(neighbour) => self.stack.pin(neighbour),
            HostOp::RemoveNeighbour(Neighbour { link, address, .. }) => {
                self.stack.neighbours.remove(&(link.clone(), *address));
                Ok(())
            }
            HostOp::SetRpFilter { link, mode } => self.set_rp_filter(link, *mode),
            HostOp::SetSysctl { key, value } => self.stack.set_switch(key, value),
            HostOp::ReplaceFilter(filter) => {
                self.filter = Some((filter.clone(), true));
                Ok(())
            }
            HostOp::DeleteLink { link } => self.delete_link(link),
        }
    }

    /// Ties a sandbox to the host, as the plugin does. The sandbox is made if it is new.
    ///
    /// # Errors
    /// What the kernel refuses. The host is then as before, but for a leftover link of the same name, which is gone.
    pub fn wire(&mut self, sandbox: &str, wiring: &Wiring) -> Result<(), PaperRefusal> {
        self.delete_link(&wiring.veth.host_link)?;
        let before = Before::of(self, sandbox, wiring);
        let done = self.try_wire(sandbox, wiring);
        if done.is_err() {
            before.restore(self, sandbox, &wiring.veth.host_link);
        }
        done
    }

    fn try_wire(&mut self, sandbox: &str, wiring: &Wiring) -> Result<(), PaperRefusal> {
        let VethPair { host_link, host_mac, pod_link, pod_mac, mtu, alias } = &wiring.veth;
        let pod = self.sandboxes.entry(sandbox.to_owned()).or_insert_with(PaperPod::new);
        pod.stack.add_link(pod_link, PaperLink::new(LinkKind::Veth, *pod_mac, *mtu))?;
        let mut near = PaperLink::new(LinkKind::Veth, *host_mac, *mtu);
        near.alias = Some(alias.clone());
        near.peer = Some((sandbox.to_owned(), pod_link.clone()));
        self.stack.add_link(host_link, near)?;
        self.stack.set_link(host_link, None, true)?;
        for op in &wiring.pod {
            pod.step(op)?;
        }
        wiring.host.iter().try_for_each(|op| self.apply(op))
    }

    /// The sandbox's namespace goes, and with it the veth pairs into it.
    pub fn remove_sandbox(&mut self, sandbox: &str) {
        let into = |link: &PaperLink| link.peer.as_ref().is_some_and(|(peer, _)| peer == sandbox);
        let names: Vec<LinkName> =
            self.stack.links.iter().filter(|(_, link)| into(link)).map(|(name, _)| name.clone()).collect();
        for name in &names {
            self.drop_link(name);
        }
        self.sandboxes.remove(sandbox);
    }

    /// Removes a link, with its other end, if it bears this alias.
    pub fn remove_link_of(&mut self, link: &LinkName, alias: &str) {
        if self.stack.links.get(link).is_some_and(|found| found.alias.as_deref() == Some(alias)) {
            self.drop_link(link);
        }
    }

    /// A sandbox.
    #[must_use]
    pub fn pod(&self, sandbox: &str) -> Option<&PaperPod> {
        self.sandboxes.get(sandbox)
    }

    /// Someone flushes or changes the rules of our packet filter table; it stands, but is no longer intact.
    pub fn disturb_filter(&mut self) {
        if let Some((_, intact)) = &mut self.filter {
            *intact = false;
        }
    }

    /// The host as an observer sees it.
    #[must_use]
    pub fn observe(&self) -> HostState {
        let filter = self.filter.as_ref();
        HostState {
            links: self.stack.observe_links(),
            routes: self.stack.routes.iter().cloned().collect(),
            rules: self.rules.iter().cloned().collect(),
            neighbours: self.stack.observe_neighbours(),
            filter: filter
                .map(|(filter, intact)| FilterSeen { fingerprint: Some(filter.fingerprint()), intact: *intact }),
            sysctls: self.stack.switches.clone(),
        }
    }

    fn add_rule(&mut self, rule: &Rule) {
        // To the kernel, a network of everything is no selector.
        let given = |net: Option<Ipv4Net>| net.filter(|net| net.prefix_len() > 0);
        let rule = Rule { from: given(rule.from), to: given(rule.to), ..rule.clone() };
        if !self.rules.contains(&rule) {
            let behind = self.rules.partition_point(|seen| seen.priority <= rule.priority);
            self.rules.insert(behind, rule);
        }
    }

    fn set_rp_filter(&mut self, link: &LinkName, mode: RpFilter) -> Result<(), PaperRefusal> {
        self.stack.link_mut(link).map(|link| link.rp_filter = mode)
    }

    fn delete_link(&mut self, link: &LinkName) -> Result<(), PaperRefusal> {
        if self.stack.links.get(link).is_some_and(|link| link.kind != LinkKind::Veth) {
            return Err(PaperRefusal::NotDeletable(link.clone()));
        }
        self.drop_link(link);
        Ok(())
    }

    fn drop_link(&mut self, link: &LinkName) {
        let gone = self.stack.drop_link(link);
        if let Some((sandbox, far)) = gone.and_then(|link| link.peer)
            && let Some(pod) = self.sandboxes.get_mut(&sandbox)
        {
            pod.stack.drop_link(&far);
        }
    }
}
