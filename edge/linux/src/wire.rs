//! A pod's wiring, made at once or not at all.
//!
//! One look and three sends, no dump: is the host link's name taken; the veth pair with its alias; everything inside the pod; everything
//! on the host, and whether the link is ready. The peer is created directly in the pod's namespace. If a step fails, all that this call made is taken back.

use std::collections::BTreeMap;
use std::fmt;

use nix::errno::Errno;
use vpc_hostnet::{HostOp, LinkAlias, ParseAliasError, PodOp, VethPair, Wiring};
use vpc_model::LinkName;

use crate::hostop::{self, OpError, OpResult, route_spec};
use crate::netlink::{NetlinkError, Request};
use crate::netns::Netns;
use crate::rtnl::addr::Address;
use crate::rtnl::link::{LinkChange, LinkInfo, LinkRef, VethPeer, VethSpec};
use crate::rtnl::neigh::NeighSpec;
use crate::rtnl::{Rtnl, addr, link, neigh, route};
use crate::sysctl;

/// A wired pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wired {
    /// Index of the host end.
    pub host_index: u32,
    /// Index of the pod end, in the pod's namespace.
    pub pod_index: u32,
}

/// The step of a wiring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireStep {
    /// Opening a conversation inside the pod's namespace.
    EnterPod,
    /// Removing a host link of the same name that was left over.
    RemoveLeftover,
    /// Creating the veth pair.
    CreateVeth,
    /// Hardening the host end (IPv6 switches).
    Harden,
    /// Link, address, routes, neighbour inside the pod.
    ConfigurePod,
    /// Route, rules, neighbour on the host.
    ConfigureHost,
}

impl fmt::Display for WireStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EnterPod => "enter the pod's network namespace",
            Self::RemoveLeftover => "remove a leftover host link",
            Self::CreateVeth => "create the veth pair",
            Self::Harden => "set the host link's IPv6 switches",
            Self::ConfigurePod => "configure the pod's side",
            Self::ConfigureHost => "configure the host's side",
        })
    }
}

/// A pod that could not be wired. Nothing of it is left, except what `left_behind` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// Where it failed.
    pub step: WireStep,
    /// Why.
    pub cause: OpError,
    /// What could not be taken back, each with the reason; normally empty.
    pub left_behind: Vec<String>,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.cause)?;
        if !self.left_behind.is_empty() {
            write!(f, " (and could not be taken back: {})", self.left_behind.join("; "))?;
        }
        Ok(())
    }
}

impl std::error::Error for WireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

fn at<E: Into<OpError>>(step: WireStep) -> impl FnOnce(E) -> WireError {
    move |cause| WireError { step, cause: cause.into(), left_behind: Vec::new() }
}

/// Ties a pod to its host. `host` is a conversation about the host's namespace.
///
/// # Errors
/// [`WireError`] names the step, the object and the kernel's reason. All that was made has been taken back.
pub fn wire_pod(host: &mut Rtnl, pod_ns: &Netns, wiring: &Wiring) -> Result<Wired, WireError> {
    wire_pod_in_steps(host, pod_ns, wiring, |_| ())
}

/// As [`wire_pod`]; tells each step before it is taken.
///
/// # Errors
/// As [`wire_pod`].
pub fn wire_pod_in_steps(
    host: &mut Rtnl,
    pod_ns: &Netns,
    wiring: &Wiring,
    mut before: impl FnMut(WireStep),
) -> Result<Wired, WireError> {
    before(WireStep::EnterPod);
    let mut pod = Rtnl::open_in(pod_ns).map_err(at(WireStep::EnterPod))?;
    before(WireStep::RemoveLeftover);
    remove_leftover(host, &wiring.veth).map_err(at(WireStep::RemoveLeftover))?;
    before(WireStep::CreateVeth);
    let created = create(host, pod_ns, &wiring.veth).map_err(|error| which_end(&mut pod, &wiring.veth, error));
    let (host_index, peer) = created.map_err(at(WireStep::CreateVeth))?;

    let mut made: Vec<HostOp> = Vec::new();
    before(WireStep::Harden);
    let configured = harden(host, &wiring.veth.host_link)
        .map_err(at(WireStep::Harden))
        .and_then(|()| {
            before(WireStep::ConfigurePod);
            configure_pod(&mut pod, peer, wiring).map_err(at(WireStep::ConfigurePod))
        })
        .and_then(|pod_index| {
            before(WireStep::ConfigureHost);
            configure_host(host, host_index, wiring, &mut made).map_err(at(WireStep::ConfigureHost))?;
            Ok(Wired { host_index, pod_index })
        });
    configured.map_err(|error| WireError { left_behind: take_back(host, host_index, &made), ..error })
}

/// Unties a pod's address from the host: carries out the removals, for which "not there" is success.
///
/// # Errors
/// The first operation that failed; all have been tried.
pub fn unwire(host: &mut Rtnl, ops: &[HostOp]) -> Result<(), OpError> {
    hostop::apply(host, None, BTreeMap::new(), ops).into_iter().try_for_each(|result| result.map(drop))
}

/// An earlier attempt for the same pod that died half-way, or the pod's earlier sandbox, leaves a link of the same name. Names are 44
/// bits of a digest: two pods may share one, and then the first keeps it.
fn remove_leftover(host: &mut Rtnl, veth: &VethPair) -> Result<(), OpError> {
    let link = &veth.host_link;
    // Most often there is none, which is learnt without the lock that all changes of links wait for.
    if !host.has_link(link)? {
        return Ok(());
    }
    let Some(leftover) = host.find_link(link)? else { return Ok(()) };
    // The kernel finds a link by its alternative names, too.
    if leftover.name != *link {
        let owner = format!("link {}, which has it as an alternative name", leftover.name);
        return Err(OpError::Taken { link: link.clone(), owner });
    }
    match leftover.kind.as_deref() {
        Some("veth") => {}
        other => return Err(OpError::NotAVeth { link: link.clone(), kind: other.unwrap_or("device").to_owned() }),
    }
    if let Some(owner) = stranger(&leftover, &veth.alias) {
        return Err(OpError::Taken { link: link.clone(), owner });
    }
    match host.delete_link(leftover.index) {
        Err(error) if !error.is_absent() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whose a veth is, if not the pod's that carries `own` as its alias. Without an alias it is taken for one the reference's plugin made
/// for this pod, as long as its other end has been given away.
fn stranger(link: &LinkInfo, own: &str) -> Option<String> {
    let Some(text) = link.alias.as_deref().filter(|text| !text.is_empty()) else {
        return (!link.peer_elsewhere).then(|| "somebody whose veth pair has both ends on the host".to_owned());
    };
    match (text.parse::<LinkAlias>(), own.parse::<LinkAlias>()) {
        _ if text == own => None,
        (Ok(owner), Ok(own)) if owner.is_of_same_pod(&own) => None,
        (Ok(owner), Ok(own)) if owner.is_beside(&own) => Some(beside(&owner)),
        // Its name is made of this pod's, and another version of this program does not name a pod that is not there.
        (Err(ParseAliasError::Version(_) | ParseAliasError::Damaged(_)), _) => None,
        (Ok(owner), _) if owner.pod().name.is_empty() => Some(format!("container {}", owner.container())),
        (Ok(owner), _) => Some(format!("pod {}, container {}", owner.pod(), owner.container())),
        (Err(ParseAliasError::Foreign(text)), _) => Some(format!("whoever gave it the alias `{text}`")),
    }
}

/// The host's link is named after the pod alone, as the reference names it.
fn beside(owner: &LinkAlias) -> String {
    let there = owner.sandbox();
    format!(
        "interface {} of the same container in network {}: a pod has one interface of this plugin",
        there.interface, there.network
    )
}

fn create(host: &mut Rtnl, pod_ns: &Netns, veth: &VethPair) -> Result<(u32, Option<u32>), NetlinkError> {
    host.add_veth_unseen(&VethSpec {
        name: veth.host_link.clone(),
        index: None,
        mac: Some(veth.host_mac),
        mtu: Some(veth.mtu),
        up: true,
        alias: Some(veth.alias.clone()).filter(|alias| !alias.is_empty()),
        link_local: false,
        peer: VethPeer {
            name: veth.pod_link.clone(),
            mac: Some(veth.pod_mac),
            mtu: Some(veth.mtu),
            netns: Some(pod_ns),
        },
    })
}

/// Of a pair that can not be made because a name is taken: the kernel does not say at which end.
fn which_end(pod: &mut Rtnl, veth: &VethPair, error: NetlinkError) -> OpError {
    if error.errno == Errno::EEXIST && pod.has_link(&veth.pod_link).unwrap_or(false) {
        return OpError::TakenInPod { link: veth.pod_link.clone() };
    }
    error.into()
}

/// Pods must not tell the host of IPv6 routers or better routes, and nothing is forwarded from them. The host end has no carrier yet
/// (the pod's end is down), so IPv6 has not begun on it.
fn harden(host: &Rtnl, link: &LinkName) -> Result<(), OpError> {
    const SWITCHES: [(&str, &str); 3] = [("accept_ra", "0"), ("accept_redirects", "0"), ("forwarding", "0")];
    host.in_namespace(|| sysctl::write_those_present(&format!("net/ipv6/conf/{link}"), &SWITCHES))??;
    Ok(())
}

fn configure_pod(pod: &mut Rtnl, peer: Option<u32>, wiring: &Wiring) -> Result<u32, OpError> {
    let own = &wiring.veth.pod_link;
    let mut known = BTreeMap::from_iter(peer.map(|index| (own.clone(), index)));
    let pod_index = pod.index_of(own, &mut known)?;
    let requests = wiring.pod.iter().map(|op| pod_request(pod, &mut known, op)).collect::<Result<Vec<_>, _>>()?;
    pod.run(requests)?;
    Ok(pod_index)
}

fn pod_request(pod: &mut Rtnl, known: &mut BTreeMap<LinkName, u32>, op: &PodOp) -> Result<Request, NetlinkError> {
    Ok(match op {
        PodOp::Up(name) => link::set(&LinkRef::from(name), &LinkChange::up()),
        PodOp::AddAddress { link, address } => {
            addr::add(&Address::new(pod.index_of(link, known)?, vpc_model::Ipv4Net::from(*address)))
        }
        PodOp::AddRoute(wanted) => route::add(&route_spec(wanted, pod.index_of(&wanted.link, known)?)),
        PodOp::PinNeighbour(n) => neigh::replace(&NeighSpec::pinned(pod.index_of(&n.link, known)?, n.address, n.mac)),
    })
}

fn configure_host(host: &mut Rtnl, index: u32, wiring: &Wiring, made: &mut Vec<HostOp>) -> Result<(), OpError> {
    let known = BTreeMap::from([(wiring.veth.host_link.clone(), index)]);
    // The carrier came on a moment ago; packets to the pod must not be lost when ADD has answered: see [`Rtnl::settle_link`].
    let settle = link::get(&LinkRef::Index(index));
    let mut results = hostop::apply_and(host, known, &wiring.host, settle);
    let settled = results.pop().unwrap_or(Ok(false));
    let mut outcome = Ok(());
    for (op, result) in wiring.host.iter().zip(results) {
        match result {
            // A rule that was there before is not ours to take back.
            Ok(changed) => made.extend(changed.then(|| op.clone())),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    outcome.and(settled.map(drop))
}

/// Undoes what [`configure_host`] made, newest first, then the pair: the pod's side goes with it. Gives what stayed.
fn take_back(host: &mut Rtnl, host_index: u32, made: &[HostOp]) -> Vec<String> {
    let undo: Vec<HostOp> = made.iter().rev().filter_map(opposite).collect();
    let results: Vec<OpResult> = hostop::apply(host, None, BTreeMap::new(), &undo);
    let failed = results.into_iter().filter_map(|result| result.err().map(|error| error.to_string()));
    let link = match host.delete_link(host_index) {
        Err(error) if !error.is_absent() => Some(error.to_string()),
        _ => None,
    };
    failed.chain(link).collect()
}

fn opposite(op: &HostOp) -> Option<HostOp> {
    match op {
        HostOp::AddRule(rule) => Some(HostOp::RemoveRule(rule.clone())),
        HostOp::ReplaceRoute(route) => Some(HostOp::RemoveRoute(route.clone())),
        HostOp::PinNeighbour(neighbour) => Some(HostOp::RemoveNeighbour(neighbour.clone())),
        HostOp::AddAddress { link, address, .. } => {
            Some(HostOp::RemoveAddress { link: link.clone(), address: *address })
        }
        _ => None,
    }
}
