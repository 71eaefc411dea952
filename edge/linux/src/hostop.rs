//! Carrying out [`HostOp`]s: what each means in netlink, several in one send, one result for each.

use std::collections::BTreeMap;

use nix::errno::Errno;
use vpc_hostnet::{HostOp, RpFilter, Rule};
use vpc_model::LinkName;

use crate::filter;
use crate::netlink::{NetlinkError, Request};
use crate::nft::Nft;
use crate::rtnl::addr::Address;
use crate::rtnl::link::{ConfKey, LinkChange, LinkRef};
use crate::rtnl::neigh::NeighSpec;
use crate::rtnl::route::RouteSpec;
use crate::rtnl::rule::RuleSpec;
use crate::rtnl::{Rtnl, addr, link, neigh, route, rule};
use crate::sysctl::{self, SysctlError};

/// Why one operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A switch could not be set.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// A link of the name we need is there, and it is not a veth: not ours to delete.
    #[error("link {link} is there and is a {kind}, not a veth pair of ours: remove or rename it")]
    NotAVeth {
        /// The link.
        link: LinkName,
        /// What it is.
        kind: String,
    },
    /// A veth of the name we need is there, and it is somebody else's.
    #[error("link {link} is there and is not ours to remove, it belongs to {owner}: end that first, or rename it")]
    Taken {
        /// The link.
        link: LinkName,
        /// Whose it is, as far as it tells.
        owner: String,
    },
    /// The pod's end can not have the name asked for.
    #[error(
        "link {link} is in the pod's network namespace already: remove it there, have the runtime ask for another CNI_IFNAME, or give the \
         container a namespace of its own"
    )]
    TakenInPod {
        /// The name.
        link: LinkName,
    },
    /// The packet filter is the daemon's: whoever holds no nfnetlink socket can not change it.
    #[error("the packet filter is changed by the daemon only, never while a pod is wired")]
    FilterNotHere,
}

impl OpError {
    /// The kernel's error number, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Netlink(error) => Some(error.errno),
            Self::Sysctl(SysctlError::Refused { errno, .. }) => Some(*errno),
            Self::TakenInPod { .. } => Some(Errno::EEXIST),
            Self::Sysctl(SysctlError::Key { .. })
            | Self::NotAVeth { .. }
            | Self::Taken { .. }
            | Self::FilterNotHere => None,
        }
    }
}

/// `Ok(true)`: changed something; `Ok(false)`: it was so already.
pub(crate) type OpResult = Result<bool, OpError>;

/// Links by name, so that each is looked up once in a run of operations.
pub(crate) type KnownLinks = BTreeMap<LinkName, u32>;

/// Carries out operations in order, all of them even when some fail; one result for each.
pub(crate) fn apply(rtnl: &mut Rtnl, nft: Option<&mut Nft>, known: KnownLinks, ops: &[HostOp]) -> Vec<OpResult> {
    carry_out(rtnl, nft, known, ops, None)
}

/// [`apply`] with one more request in the last send; its result is the last one.
pub(crate) fn apply_and(rtnl: &mut Rtnl, known: KnownLinks, ops: &[HostOp], last: Request) -> Vec<OpResult> {
    carry_out(rtnl, None, known, ops, Some(last))
}

fn carry_out(
    rtnl: &mut Rtnl,
    nft: Option<&mut Nft>,
    known: KnownLinks,
    ops: &[HostOp],
    last: Option<Request>,
) -> Vec<OpResult> {
    let results = (0..ops.len() + usize::from(last.is_some())).map(|_| Ok(false)).collect();
    let mut run = Run { rtnl, nft, known, results, batch: Vec::new(), removed: Vec::new() };
    let mut rest = ops.iter().enumerate().peekable();
    while let Some((at, op)) = rest.next() {
        match op {
            HostOp::DeleteLink { link } => {
                let mut doomed = vec![(at, link)];
                while let Some((at, HostOp::DeleteLink { link })) =
                    rest.next_if(|(_, next)| matches!(next, HostOp::DeleteLink { .. }))
                {
                    doomed.push((at, link));
                }
                run.delete_links(&doomed);
            }
            HostOp::SetSysctl { key, value } => run.set_sysctl(at, key, value),
            HostOp::ReplaceFilter(filter) => run.replace_filter(at, filter),
            _ => run.queue(at, op),
        }
    }
    run.batch.extend(last.map(|request| (ops.len(), request)));
    run.flush();
    run.results
}

struct Run<'a> {
    rtnl: &'a mut Rtnl,
    nft: Option<&'a mut Nft>,
    known: KnownLinks,
    results: Vec<OpResult>,
    /// Requests not sent yet, each with the position of its operation.
    batch: Vec<(usize, Request)>,
    /// Rules the batch removes.
    removed: Vec<Rule>,
}

impl Run<'_> {
    /// Turns an operation into a request of the batch.
    fn queue(&mut self, at: usize, op: &HostOp) {
        match op {
            HostOp::RemoveRule(rule) => self.removed.push(rule.clone()),
            // Removing is repeated behind the batch; it must not hit what is added now.
            HostOp::AddRule(rule) if self.removed.iter().any(|removed| removed.removes(rule)) => self.flush(),
            _ => {}
        }
        match self.request(op) {
            Ok(Some(request)) => self.batch.push((at, request)),
            Ok(None) => {}
            Err(error) => self.results[at] = Err(error),
        }
    }

    /// `None`: there is nothing to do, because the link is gone that the thing to be removed was tied to.
    fn request(&mut self, op: &HostOp) -> Result<Option<Request>, OpError> {
        const GONE: &[Errno] = &[Errno::ENOENT, Errno::ESRCH, Errno::EADDRNOTAVAIL, Errno::ENODEV, Errno::ENXIO];
        const THERE: &[Errno] = &[Errno::EEXIST];
        Ok(Some(match op {
            HostOp::SetLink { link, mtu, up } => {
                link::set(&LinkRef::from(link), &LinkChange { up: Some(*up), mtu: *mtu, ..LinkChange::default() })
            }
            HostOp::SetRpFilter { link, mode } => {
                link::set(&LinkRef::from(link), &LinkChange::conf(&[(ConfKey::RpFilter, rp_filter_number(*mode))]))
            }
            HostOp::AddAddress { link, address, no_prefix_route } => addr::replace(&Address {
                no_prefix_route: *no_prefix_route,
                ..Address::new(self.index(link)?, *address)
            }),
            HostOp::RemoveAddress { link, address } => match self.index_if_there(link)? {
                Some(index) => addr::delete(&Address::new(index, *address)).tolerating(GONE),
                None => return Ok(None),
            },
            HostOp::ReplaceRoute(wanted) => {
                let index = self.index(&wanted.link)?;
                route::replace(&route_spec(wanted, index))
            }
            HostOp::RemoveRoute(old) => match self.index_if_there(&old.link)? {
                Some(index) => route::delete(&route_spec(old, index)).tolerating(GONE),
                None => return Ok(None),
            },
            HostOp::AddRule(wanted) => rule::add(&RuleSpec::from(wanted)).tolerating(THERE),
            HostOp::RemoveRule(old) => rule::delete(&RuleSpec::from(old)).tolerating(GONE),
            HostOp::PinNeighbour(n) => {
                let index = self.index(&n.link)?;
                neigh::replace(&NeighSpec::pinned(index, n.address, n.mac))
            }
            HostOp::RemoveNeighbour(n) => match self.index_if_there(&n.link)? {
                Some(index) => neigh::delete(&NeighSpec::pinned(index, n.address, n.mac)).tolerating(GONE),
                None => return Ok(None),
            },
            // Not batched: `apply` has sent them their own way.
            HostOp::SetSysctl { .. } | HostOp::ReplaceFilter(_) | HostOp::DeleteLink { .. } => return Ok(None),
        }))
    }

    fn index(&mut self, link: &LinkName) -> Result<u32, OpError> {
        Ok(self.rtnl.index_of(link, &mut self.known)?)
    }

    fn index_if_there(&mut self, link: &LinkName) -> Result<Option<u32>, OpError> {
        match self.rtnl.index_of(link, &mut self.known) {
            Ok(index) => Ok(Some(index)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the batch. A rule may be there more than once: those removed are removed again until none is left.
    fn flush(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        self.removed.clear();
        for _ in 0..rule::MOST_COPIES {
            if batch.is_empty() {
                return;
            }
            let (positions, requests): (Vec<usize>, Vec<Request>) = batch.iter().cloned().unzip();
            let answers = self.rtnl.run_each(requests);
            let mut again = Vec::new();
            for ((at, answer), (_, request)) in positions.into_iter().zip(answers).zip(batch) {
                match answer {
                    Ok(changed) => {
                        if changed && request.is_rule_removal() {
                            again.push((at, request));
                        }
                        if let Ok(so_far) = &mut self.results[at] {
                            *so_far |= changed;
                        }
                    }
                    Err(error) => self.results[at] = Err(error.into()),
                }
            }
            batch = again;
        }
    }

    fn delete_links(&mut self, doomed: &[(usize, &LinkName)]) {
        self.flush();
        let mut there = Vec::new();
        for (at, name) in doomed {
            match self.index_if_there(name) {
                Ok(Some(index)) => there.push((*at, index)),
                Ok(None) => {}
                Err(error) => self.results[*at] = Err(error),
            }
            self.known.remove(*name);
        }
        let indexes: Vec<u32> = there.iter().map(|(_, index)| *index).collect();
        let outcome = self.rtnl.delete_links_as_group(&indexes);
        for (at, _) in there {
            self.results[at] = outcome.clone().map(|()| true).map_err(OpError::from);
        }
    }

    fn set_sysctl(&mut self, at: usize, key: &str, value: &str) {
        self.flush();
        self.results[at] = match self.rtnl.in_namespace(|| sysctl::write(key, value)) {
            Ok(done) => done.map(|()| true).map_err(OpError::from),
            Err(error) => Err(error.into()),
        };
    }

    fn replace_filter(&mut self, at: usize, wanted: &vpc_hostnet::Filter) {
        self.flush();
        self.results[at] = match self.nft.as_deref_mut() {
            Some(nft) => nft.commit(filter::filter_batch(wanted)).map(|()| true).map_err(OpError::from),
            None => Err(OpError::FilterNotHere),
        };
    }
}

/// A route in the kernel's terms.
pub(crate) fn route_spec(route: &vpc_hostnet::Route, index: u32) -> RouteSpec {
    RouteSpec {
        via: route.via,
        scope: route.scope,
        source: route.source,
        onlink: route.onlink,
        ..RouteSpec::on_link(route.table, route.to, index)
    }
}

/// `net.ipv4.conf.<link>.rp_filter` as the kernel numbers it.
pub(crate) fn rp_filter_number(mode: RpFilter) -> u32 {
    match mode {
        RpFilter::Off => 0,
        RpFilter::Strict => 1,
        RpFilter::Loose => 2,
    }
}
