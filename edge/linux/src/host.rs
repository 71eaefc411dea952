//! The host's network as [`HostState`] and [`HostOp`]s: what the daemon's planner reads and writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use vpc_hostnet::{HostOp, HostState, Link, LinkAlias, LinkKind, Neighbour, Route, RpFilter, Rule};
use vpc_model::{LinkName, Mac, RouteTable};

use crate::conntrack::{self, Conntrack};
use crate::filter;
use crate::hostop::{self, OpError};
use crate::netlink::NetlinkError;
use crate::netns::Netns;
use crate::nft::Nft;
use crate::rtnl::Rtnl;
use crate::rtnl::link::{ConfKey, LinkInfo};
use crate::rtnl::route::{RouteKind, RouteSpec};
use crate::rtnl::rule::{RuleAction, RuleSpec};
use crate::sysctl;

/// The switches [`LinuxHost::observe`] reads unless told otherwise ([`LinuxHost::watch_sysctls`]).
pub const WATCHED_SYSCTLS: [&str; 3] =
    ["net/ipv4/ip_forward", "net/ipv4/tcp_early_demux", "net/ipv4/conf/all/rp_filter"];

/// The kernel's table of its own addresses.
const LOCAL: RouteTable = RouteTable(libc::RT_TABLE_LOCAL as u32);

/// The network of one host: a long-lived conversation of each kind. The packet filter's is opened when first needed.
#[derive(Debug)]
pub struct LinuxHost {
    rtnl: Rtnl,
    nft: Option<Nft>,
    conntrack: Option<Conntrack>,
    netns: Option<Netns>,
    sysctls: Vec<String>,
}

/// An operation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpFailure {
    /// Its position in the list that was applied.
    pub position: usize,
    /// The operation.
    pub op: HostOp,
    /// Why.
    pub error: OpError,
}

/// Some operations failed. All the others of the list have been carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyError {
    /// At least one.
    pub failures: Vec<OpFailure>,
    /// How many operations there were.
    pub of: usize,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} host operations failed", self.failures.len(), self.of)?;
        for (at, failure) in self.failures.iter().enumerate() {
            write!(f, "{}{}: {}", if at == 0 { ": " } else { "; " }, failure.op.subject(), failure.error)?;
        }
        Ok(())
    }
}

impl std::error::Error for ApplyError {}

impl LinuxHost {
    /// The host whose network namespace the calling thread is in.
    ///
    /// # Errors
    /// When the system has no netlink sockets to give.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self::with(Rtnl::open()?, None))
    }

    /// The host behind another namespace.
    ///
    /// # Errors
    /// When the namespace can not be entered.
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        Ok(Self::with(Rtnl::open_in(netns)?, Some(netns.clone())))
    }

    fn with(rtnl: Rtnl, netns: Option<Netns>) -> Self {
        Self { rtnl, nft: None, conntrack: None, netns, sysctls: WATCHED_SYSCTLS.map(str::to_owned).to_vec() }
    }

    /// Other switches than [`WATCHED_SYSCTLS`] to be read by [`LinuxHost::observe`], as paths below `/proc/sys`.
    pub fn watch_sysctls(&mut self, keys: impl IntoIterator<Item = String>) {
        self.sysctls = keys.into_iter().collect();
    }

    /// The conversation about links, addresses, routes, rules and neighbours, for single questions.
    pub fn rtnl(&mut self) -> &mut Rtnl {
        &mut self.rtnl
    }

    /// The conversation about the packet filter.
    ///
    /// # Errors
    /// When the kernel has no nf_tables.
    pub fn nft(&mut self) -> Result<&mut Nft, NetlinkError> {
        let nft = match self.nft.take() {
            Some(nft) => nft,
            None => match &self.netns {
                None => Nft::open()?,
                Some(netns) => Nft::open_in(netns)?,
            },
        };
        Ok(self.nft.insert(nft))
    }

    /// Everything a planner needs to know. Several dumps: not for the path of a pod's ADD or DEL.
    ///
    /// # Errors
    /// The dump that failed. There is no half an observation.
    pub fn observe(&mut self) -> Result<HostState, NetlinkError> {
        let links = self.rtnl.links()?;
        let names: BTreeMap<u32, LinkName> = links.iter().map(|link| (link.index, link.name.clone())).collect();
        let mut links: Vec<Link> = links.into_iter().map(link_of).collect();
        for address in self.rtnl.addresses(None)? {
            if let Some(link) = links.iter_mut().find(|link| link.index == address.link) {
                link.addresses.insert(address.address);
            }
        }
        let routes = self.rtnl.routes(None)?.iter().filter_map(|route| route_of(route, &names)).collect();
        let rules = self.rtnl.rules()?.iter().filter_map(rule_of).collect();
        let neighbours = self.observe_neighbours(&names)?;
        let filter = filter::filter_seen(self.nft()?)?;
        Ok(HostState { links, routes, rules, neighbours, filter, sysctls: self.observe_sysctls()? })
    }

    fn observe_neighbours(&mut self, names: &BTreeMap<u32, LinkName>) -> Result<BTreeSet<Neighbour>, NetlinkError> {
        let pinned = self.rtnl.neighbours(false)?.into_iter().filter(|n| n.permanent);
        let named = pinned
            .filter_map(|n| Some(Neighbour { link: names.get(&n.link)?.clone(), address: n.address, mac: n.mac? }));
        Ok(named.collect())
    }

    /// Those that can be read: a switch this kernel does not have is not in the answer.
    fn observe_sysctls(&self) -> Result<BTreeMap<String, String>, NetlinkError> {
        self.rtnl.in_namespace(|| {
            let read = |key: &String| sysctl::read(key).ok().map(|value| (key.clone(), value));
            self.sysctls.iter().filter_map(read).collect()
        })
    }

    /// Carries out operations in order, several in one send; deletions of links that stand together go as one. All are tried.
    ///
    /// # Errors
    /// [`ApplyError`] lists those that failed.
    pub fn apply(&mut self, ops: &[HostOp]) -> Result<(), ApplyError> {
        let wants_filter = ops.iter().any(|op| matches!(op, HostOp::ReplaceFilter(_)));
        let no_filter = if wants_filter { self.nft().err() } else { None };
        let results = hostop::apply(&mut self.rtnl, self.nft.as_mut(), BTreeMap::new(), ops);
        let failures: Vec<OpFailure> = results
            .into_iter()
            .zip(ops)
            .enumerate()
            .filter_map(|(position, (result, op))| {
                let error = match (result.err()?, &no_filter) {
                    (OpError::FilterNotHere, Some(reason)) => OpError::Netlink(reason.clone()),
                    (error, _) => error,
                };
                Some(OpFailure { position, op: op.clone(), error })
            })
            .collect();
        if failures.is_empty() { Ok(()) } else { Err(ApplyError { failures, of: ops.len() }) }
    }
}

impl LinuxHost {
    /// Removes pods' links together, each only if its alias says that it is its owner's; says how many there were. One that is not found
    /// by its name is looked for by its alias among all links: it may have been made with another prefix (`AWS_VPC_K8S_CNI_VETHPREFIX`
    /// was changed). Takes the kernel some twenty milliseconds, for many hardly more than for one.
    ///
    /// # Errors
    /// The first question or removal the kernel refused; a link that is gone already is no error.
    pub fn remove_pod_links<'a>(
        &mut self,
        links: impl IntoIterator<Item = (&'a LinkName, &'a LinkAlias)>,
    ) -> Result<usize, NetlinkError> {
        let is_of = |link: &LinkInfo, owner: &LinkAlias| {
            link.kind.as_deref() == Some("veth") && link.alias.as_deref().is_some_and(|alias| owner.is_written(alias))
        };
        let (mut doomed, mut elsewhere) = (BTreeSet::new(), Vec::new());
        for (name, owner) in links {
            // By index from here on: a link of the same name that comes meanwhile has another one.
            match self.rtnl.find_link(name)?.filter(|link| is_of(link, owner)) {
                Some(link) => _ = doomed.insert(link.index),
                None => elsewhere.push(owner),
            }
        }
        if !elsewhere.is_empty() {
            let all = self.rtnl.links()?;
            let own = all.iter().filter(|link| elsewhere.iter().any(|owner| is_of(link, owner)));
            doomed.extend(own.map(|link| link.index));
        }
        let doomed: Vec<u32> = doomed.into_iter().collect();
        self.rtnl.delete_links_as_group(&doomed)?;
        Ok(doomed.len())
    }

    /// Has the kernel forget every tracked IPv4 connection from or to these addresses, whichever way it was opened and whatever it
    /// was translated to, in every zone; says how many there were. All others stay. A kernel that tracks no connections has none.
    ///
    /// # Errors
    /// The list or the entry the kernel refused; entries before it are forgotten.
    pub fn forget_flows(&mut self, addresses: &[Ipv4Addr]) -> Result<usize, NetlinkError> {
        conntrack::forget(&mut self.conntrack, self.netns.as_ref(), addresses)
    }
}

fn link_of(info: LinkInfo) -> Link {
    let rp_filter = match info.conf.get(ConfKey::RpFilter) {
        Some(0) => Some(RpFilter::Off),
        Some(1) => Some(RpFilter::Strict),
        Some(2) => Some(RpFilter::Loose),
        _ => None,
    };
    Link {
        index: info.index,
        name: info.name,
        mac: info.mac.unwrap_or(Mac([0; 6])),
        mtu: info.mtu,
        up: info.up,
        kind: if info.kind.as_deref() == Some("veth") { LinkKind::Veth } else { LinkKind::Other },
        alias: info.alias,
        addresses: BTreeSet::new(),
        rp_filter,
    }
}

/// `None` for what the planner has no word for: table `local`, blackholes, several next hops.
fn route_of(spec: &RouteSpec, names: &BTreeMap<u32, LinkName>) -> Option<Route> {
    if spec.table == LOCAL || spec.kind != RouteKind::Unicast {
        return None;
    }
    Some(Route {
        table: spec.table,
        to: spec.to,
        via: spec.via,
        link: names.get(&spec.link?)?.clone(),
        scope: spec.scope,
        source: spec.source,
        onlink: spec.onlink,
    })
}

/// `None` for a rule with selectors the planner has no word for: it would look like one of ours and be none.
fn rule_of(spec: &RuleSpec) -> Option<Rule> {
    let RuleAction::Lookup(table) = spec.action else { return None };
    if spec.has_more || spec.oif.is_some() {
        return None;
    }
    Some(Rule { priority: spec.priority, from: spec.from, to: spec.to, mark: spec.mark, iif: spec.iif.clone(), table })
}
