//! CHECK: is the pod still as ADD left it?
//!
//! ```text
//!   prevResult --address, table, links--> wiring(..): what ADD made -----+
//!   the pod's namespace and the host's, as the kernel has them ----------+--> nothing, or each difference by name
//!   Find --> the lease in the daemon's books ----------------------------+
//! ```
//!
//! What ADD made must be there; what later plugins of the chain added may be there too: more addresses, routes and links, another MTU,
//! another default route. Nothing is changed.

use std::net::IpAddr;

use vpc_hostnet::{HostLayout, HostOp, LinkAlias, Neighbour, PodOp, PodWiring, Route, Rule, wiring};
use vpc_linux::{LinkInfo, NeighSpec, NetlinkError, Rtnl, RuleSpec};
use vpc_model::{LinkName, RouteTable};
use vpc_wire::cni::{Attachment, Attachments, CniError, ErrorCode};

use crate::call::Call;
use crate::daemon::Daemon;
use crate::host::PodNetns;

pub(crate) fn check(call: &Call) -> Result<(), CniError> {
    let promised = promised(call)?;
    let netns = PodNetns::open(call)?;
    let mut wrong = compare(call, &netns, &promised).map_err(|error| {
        CniError::new(ErrorCode::Internal, format!("{} can not be looked at: {error}", call.whom()))
    })?;
    wrong.extend(lease_differs(call, &promised));
    if wrong.is_empty() {
        return Ok(());
    }
    let what = wrong.join("; ");
    Err(CniError::new(ErrorCode::Internal, format!("{} is not as ADD left it: {what}", call.whom())))
}

/// The address of the pod's interface as the previous result tells it.
fn promised(call: &Call) -> Result<Attachment, CniError> {
    let refuse = |code, what: String| Err(CniError::new(code, format!("{} can not be checked: {what}", call.whom())));
    let result = match &call.conf.prev_result {
        None => return refuse(ErrorCode::BadConfig, "`prevResult` is missing: expected what ADD answered".to_owned()),
        Some(Err(why)) => return refuse(ErrorCode::Decode, why.clone()),
        Some(Ok(result)) => result,
    };
    let found = Attachments::found_in(result, &call.pod_link);
    if let Some(vlan) = found.vlan {
        return refuse(ErrorCode::NotOffered, format!("it has a branch ENI (VLAN {vlan}), which is not offered yet"));
    }
    match found.list.into_iter().find(|attachment| attachment.address.is_ipv4()) {
        Some(attachment) => Ok(attachment),
        None => {
            refuse(ErrorCode::BadConfig, format!("`prevResult` tells no IPv4 address of interface {}", call.pod_link))
        }
    }
}

/// Whether the daemon's books say something else: the address would go to another pod. A daemon that does not answer is a difference
/// too, since the pod's DEL needs it; one of a make that has no such answer is not.
fn lease_differs(call: &Call, promised: &Attachment) -> Option<String> {
    let lease = match Daemon::connect().and_then(|daemon| daemon.lease(call)) {
        Ok(lease) => lease,
        Err(error) if error.is_unimplemented() => {
            call.log.debug("the node daemon is of a make that tells no leases: its books are not compared");
            return None;
        }
        Err(error) => return Some(format!("the node daemon can not be asked for the lease: {error}")),
    };
    match lease {
        None => Some(format!("the node daemon has no lease of {} for the sandbox", promised.address)),
        Some(lease) if lease.ipv4 == promised.address.to_string() => None,
        Some(lease) => {
            Some(format!("the node daemon's lease for the sandbox is {}, not {}", lease.ipv4, promised.address))
        }
    }
}

/// All differences, each named.
fn compare(call: &Call, netns: &PodNetns, promised: &Attachment) -> Result<Vec<String>, NetlinkError> {
    let IpAddr::V4(address) = promised.address else { return Ok(Vec::new()) };
    let host_name = promised.host_link.clone().unwrap_or_else(|| call.host_link.clone());
    let mut pod = Side { place: "in the pod", rtnl: netns.open_rtnl()?, wrong: Vec::new() };
    let mut host = Side { place: "on the host", rtnl: Rtnl::open()?, wrong: Vec::new() };
    let (pod_link, host_link) = (pod.link(&call.pod_link)?, host.link(&host_name)?);
    if let (Some(pod_link), Some(host_link)) = (pod_link, host_link) {
        pod.is_pair(&pod_link, &host_link);
        host.is_whose(call, &host_link);
        let (Some(host_mac), Some(pod_mac)) = (host_link.mac, pod_link.mac) else {
            return Ok(vec![format!("{} and {} have no hardware addresses", call.pod_link, host_name)]);
        };
        let steps = wiring(&PodWiring {
            address,
            table: promised.table.unwrap_or(RouteTable::MAIN),
            host_link: host_name,
            pod_link: call.pod_link.clone(),
            host_mac,
            pod_mac,
            mtu: call.conf.mtu,
            alias: String::new(),
            layout: HostLayout::Classic,
        });
        for step in &steps.pod {
            pod.holds_in_pod(step, pod_link.index)?;
        }
        for step in &steps.host {
            host.holds_on_host(step, host_link.index, promised.table.is_some())?;
        }
    }
    Ok(pod.wrong.into_iter().chain(host.wrong).collect())
}

/// One of the two namespaces, and what is wrong there.
struct Side {
    place: &'static str,
    rtnl: Rtnl,
    wrong: Vec<String>,
}

impl Side {
    fn must(&mut self, truth: bool, what: impl FnOnce() -> String) {
        if !truth {
            let what = format!("{}, {}", self.place, what());
            if !self.wrong.contains(&what) {
                self.wrong.push(what);
            }
        }
    }

    fn link(&mut self, name: &LinkName) -> Result<Option<LinkInfo>, NetlinkError> {
        let link = self.rtnl.find_link(name)?;
        self.must(link.is_some(), || format!("there is no link {name}"));
        if let Some(link) = &link {
            self.must(link.up, || format!("link {name} is down"));
        }
        Ok(link)
    }

    /// Both links are ends of one pair.
    fn is_pair(&mut self, own: &LinkInfo, other: &LinkInfo) {
        let pair = own.peer_index == Some(other.index) && other.peer_index == Some(own.index);
        self.must(pair, || format!("link {} does not lead to {}", own.name, other.name));
    }

    /// The host's end is this sandbox's, as far as it tells.
    fn is_whose(&mut self, call: &Call, link: &LinkInfo) {
        let owner = link.alias.as_deref().and_then(|alias| alias.parse::<LinkAlias>().ok());
        let own = call.alias();
        if let Some(owner) = owner {
            self.must(owner == own, || format!("link {} is another sandbox's: {owner}", link.name));
        }
    }

    fn holds_in_pod(&mut self, step: &PodOp, index: u32) -> Result<(), NetlinkError> {
        match step {
            PodOp::Up(name) => drop(self.link(name)?),
            PodOp::AddAddress { link, address } => {
                let there = self.rtnl.addresses(Some(index))?.iter().any(|found| found.address.addr() == *address);
                self.must(there, || format!("{link} has not the address {address}"));
            }
            PodOp::AddRoute(route) => self.has_route(route, index)?,
            PodOp::PinNeighbour(neighbour) => self.has_neighbour(neighbour, index)?,
        }
        Ok(())
    }

    /// `sure` of the table: the previous result names it.
    fn holds_on_host(&mut self, step: &HostOp, index: u32, sure: bool) -> Result<(), NetlinkError> {
        match step {
            HostOp::PinNeighbour(neighbour) => self.has_neighbour(neighbour, index)?,
            HostOp::ReplaceRoute(route) => self.has_route(route, index)?,
            HostOp::AddRule(rule) => self.has_rule(rule, sure)?,
            _ => {}
        }
        Ok(())
    }

    /// A plugin after ours may lead what goes elsewhere another way: any default route will do.
    fn has_route(&mut self, wanted: &Route, index: u32) -> Result<(), NetlinkError> {
        let default = wanted.to.prefix_len() == 0;
        let routes = self.rtnl.routes(Some(wanted.table))?;
        let there = routes.iter().filter(|found| found.to == wanted.to);
        let fits = |found: &vpc_linux::RouteSpec| found.link == Some(index) && found.via == wanted.via;
        let there = there.into_iter().any(|found| default || fits(found));
        let via = wanted.via.map(|via| format!(" via {via}")).unwrap_or_default();
        self.must(there, || match default {
            true => "there is no default route".to_owned(),
            false => format!("there is no route to {}{via} by {}", wanted.to, wanted.link),
        });
        Ok(())
    }

    fn has_neighbour(&mut self, wanted: &Neighbour, index: u32) -> Result<(), NetlinkError> {
        let spec = NeighSpec::pinned(index, wanted.address, wanted.mac);
        let there = self.rtnl.neighbours(false)?.contains(&spec);
        self.must(there, || format!("{} is not pinned to {} on {}", wanted.address, wanted.mac, wanted.link));
        Ok(())
    }

    fn has_rule(&mut self, wanted: &Rule, sure: bool) -> Result<(), NetlinkError> {
        let spec = RuleSpec::from(wanted);
        let same = |found: &RuleSpec| {
            let selects = (found.priority, found.from, found.to) == (spec.priority, spec.from, spec.to);
            selects && !found.has_more && (found.action == spec.action || !sure)
        };
        let there = self.rtnl.rules()?.iter().any(same);
        let about = |word, net: Option<vpc_model::Ipv4Net>| net.map(|net| format!(" {word} {net}")).unwrap_or_default();
        self.must(there, || {
            let whom = about("from", wanted.from) + &about("to", wanted.to);
            format!("there is no rule {}:{whom} to table {}", wanted.priority, wanted.table.0)
        });
        Ok(())
    }
}
