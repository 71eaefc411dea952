//! The kernel's side of a call: the pod's namespace, and the host's links, routes and rules.

use std::fmt;

use vpc_hostnet::{HostLayout, HostOp, LinkAlias, Route, Wiring, priority, unwiring};
use vpc_linux::{FibQuery, LinkInfo, NetlinkError, Netns, NetnsError, Rtnl, RuleSpec, unwire, wire_pod_in_steps};
use vpc_model::{Ipv4Net, LinkName, RouteTable, VethPrefix};
use vpc_wire::cni::{CniError, ErrorCode};

use crate::call::Call;
use crate::daemon::Given;
use crate::del::Tie;
use crate::failpoint::Point;
use crate::log::Log;

/// The pod's namespace.
pub(crate) struct PodNetns(Netns);

impl PodNetns {
    /// Opens `CNI_NETNS`.
    pub(crate) fn open(call: &Call) -> Result<Self, CniError> {
        let path = call.netns.as_deref().unwrap_or_default();
        let netns = Netns::open(path).map_err(|error| {
            CniError::new(
                ErrorCode::BadEnvironment,
                format!("CNI_NETNS is no namespace to wire {} in: {error}", call.whom()),
            )
        })?;
        if !call.netns_override && is_plugins(&netns)? {
            return Err(own(path));
        }
        Ok(Self(netns))
    }
}

impl PodNetns {
    /// A conversation with the kernel about the pod's side.
    pub(crate) fn open_rtnl(&self) -> Result<Rtnl, NetlinkError> {
        Rtnl::open_in(&self.0)
    }
}

/// Whether a DEL names the plugin's own namespace. It never enters the pod's, which may be gone.
pub(crate) fn check_not_own(call: &Call) -> Result<(), CniError> {
    let Some(path) = call.netns.as_deref().filter(|_| !call.netns_override) else { return Ok(()) };
    match Netns::open(path) {
        Ok(netns) if is_plugins(&netns)? => Err(own(path)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_plugins(netns: &Netns) -> Result<bool, CniError> {
    let current =
        Netns::current().map_err(|error: NetnsError| internal("look at the plugin's own network namespace", &error))?;
    Ok(current.is(netns))
}

fn own(path: &str) -> CniError {
    CniError::new(
        ErrorCode::SameNetns,
        format!(
            "CNI_NETNS {path} is the plugin's own network namespace: expected the pod's (CNI_NETNS_OVERRIDE=1 allows it)"
        ),
    )
}

/// The sandbox whose address is untied.
pub(crate) struct Owner<'a> {
    /// For messages.
    pub(crate) whom: &'a str,
    /// What its link carries.
    pub(crate) alias: LinkAlias,
    /// What names of pods' links begin with.
    pub(crate) veth_prefix: &'a VethPrefix,
    /// Where what was done is said.
    pub(crate) log: &'a Log,
}

/// The host's network: the namespace the plugin was started in.
pub(crate) struct Host(Rtnl);

impl Host {
    pub(crate) fn open() -> Result<Self, CniError> {
        Rtnl::open().map(Self).map_err(|error| internal("speak to the kernel", &error))
    }

    /// Wires the pod, or leaves nothing.
    pub(crate) fn wire(&mut self, call: &Call, netns: &PodNetns, steps: &Wiring) -> Result<(), CniError> {
        let told = |step| Point::from(step).pass();
        let wired = wire_pod_in_steps(&mut self.0, &netns.0, steps, told).map_err(|error| {
            internal(&format!("wire {} in {}", call.whom(), call.netns.as_deref().unwrap_or_default()), &error)
        })?;
        call.log.debug(&format!("host link {} is #{}", call.host_link, wired.host_index));
        Ok(())
    }

    /// Undoes a wiring that succeeded. What can not be undone is logged; the runtime's DEL and the daemon come after.
    pub(crate) fn take_back(&mut self, call: &Call, given: Given) {
        let mut ops = unwiring(HostLayout::Classic, given.address, given.table);
        ops.push(HostOp::DeleteLink { link: call.host_link.clone() });
        match unwire(&mut self.0, &ops) {
            Ok(()) => call.log.info("the wiring is undone"),
            Err(error) => call.log.error(&format!("the wiring could not be undone: {error}")),
        }
    }

    /// Removes an address's rules and route, unless the address is someone else's by now.
    pub(crate) fn untie(&mut self, call: &Call, tie: &Tie) -> Result<(), CniError> {
        let whom = call.whom();
        let owner = Owner { whom: &whom, alias: call.alias(), veth_prefix: &call.conf.veth_prefix, log: &call.log };
        self.untie_of(&owner, tie)
    }

    /// [`Host::untie`] for any sandbox.
    pub(crate) fn untie_of(&mut self, owner: &Owner<'_>, tie: &Tie) -> Result<(), CniError> {
        let failed = |error: &dyn fmt::Display| internal(&format!("unwire {} of {}", tie.address, owner.whom), error);
        if let Some(other) = self.foreign_owner(owner, tie).map_err(|error| failed(&error))? {
            owner
                .log
                .info(&format!("{} is left alone: it leads to link {other}, which is another sandbox's", tie.address));
            return Ok(());
        }
        let own = Ipv4Net::from(tie.address);
        let mut ops = unwiring(HostLayout::Classic, tie.address, tie.table.unwrap_or(RouteTable::MAIN));
        ops.push(HostOp::RemoveRoute(Route::on_link(RouteTable::MAIN, own, tie.host_link.clone())));
        unwire(&mut self.0, &ops).map_err(|error| failed(&error))?;
        // Whatever table else: old versions left a rule for each CIDR of the VPC, and a previous result may not know the table.
        let from = RuleSpec { from: Some(own), ..RuleSpec::lookup(priority::FROM_POD, ANY_TABLE) };
        self.0.delete_rule(&from).map_err(|error| failed(&error))?;
        owner.log.info(&format!("rules and route of {} are removed", tie.address));
        Ok(())
    }

    /// Removes the sandbox's own link and what leads to it, where its alias says that it is: left over by an ADD or a DEL that was killed,
    /// or by a lease that ended meanwhile. Nobody else knows of it until the daemon's next look at the host.
    pub(crate) fn remove_own_link(&mut self, call: &Call) -> Result<(), CniError> {
        let name = &call.host_link;
        let failed = |error: &dyn fmt::Display| internal(&format!("remove link {name} of {}", call.whom()), error);
        if !self.0.has_link(name).map_err(|error| failed(&error))? {
            return Ok(());
        }
        let found = self.0.find_link(name).map_err(|error| failed(&error))?;
        let Some(link) = found.filter(|link| is_own(call, link)) else { return Ok(()) };
        let routes = self.0.routes(Some(RouteTable::MAIN)).map_err(|error| failed(&error))?;
        for route in routes.iter().filter(|route| route.link == Some(link.index) && route.to.prefix_len() == 32) {
            self.untie(call, &Tie { address: route.to.addr(), table: None, host_link: link.name.clone() })?;
        }
        match self.0.delete_link(link.index) {
            Err(error) if !error.is_absent() => return Err(failed(&error)),
            _ => {}
        }
        call.log.info(&format!("link {name}, which was left over, is removed"));
        Ok(())
    }

    /// Removes what the reference's plugin made for a pod with a branch ENI: the VLAN link, the table's rules, the address's rules.
    pub(crate) fn untie_branch(&mut self, call: &Call, vlan: u16, tie: Option<&Tie>) -> Result<(), CniError> {
        /// Priority of the rules of such pods, and what their tables' numbers begin with.
        const PRIORITY: u32 = 10;
        const TABLES: u32 = 100;
        let failed = |error: &dyn fmt::Display| internal(&format!("unwire VLAN {vlan} of {}", call.whom()), error);
        let table = RouteTable(TABLES + u32::from(vlan));
        self.0.delete_rule(&RuleSpec::lookup(PRIORITY, table)).map_err(|error| failed(&error))?;
        if let Some(tie) = tie {
            self.untie(call, &Tie { table: Some(table), ..tie.clone() })?;
        }
        let link: LinkName = format!("vlan.eth.{vlan}").parse().map_err(|error| failed(&error))?;
        unwire(&mut self.0, &[HostOp::DeleteLink { link }]).map_err(|error| failed(&error))?;
        call.log.info(&format!("the link, rules and table of VLAN {vlan} are removed"));
        Ok(())
    }

    /// The link an address leads to, if that is the link of another sandbox. Two questions to the kernel, no list.
    fn foreign_owner(&mut self, owner: &Owner<'_>, tie: &Tie) -> Result<Option<LinkName>, NetlinkError> {
        // Nothing leads there, or no one may send there: nobody's.
        let Ok(way) = self.0.look_up(&FibQuery { to: tie.address, from: None, iif: None, mark: None }) else {
            return Ok(None);
        };
        let Some(index) = way.link.filter(|_| way.via.is_none()) else { return Ok(None) };
        let link = self.0.find_link(index)?;
        Ok(link.filter(|link| is_foreign(owner, tie, link)).map(|link| link.name))
    }
}

/// Table 0 in a request to remove a rule matches every table.
const ANY_TABLE: RouteTable = RouteTable(0);

/// Whether a link is a pod's and not this sandbox's: by the owner it tells, else by its name. The same pod's name is this sandbox's if it
/// tells no owner, as the reference's plugin leaves it.
fn is_foreign(owner: &Owner<'_>, tie: &Tie, link: &LinkInfo) -> bool {
    let told = link.alias.as_deref().and_then(|alias| alias.parse::<LinkAlias>().ok());
    match told {
        Some(told) => told != owner.alias,
        None => {
            let prefix = owner.veth_prefix.as_str();
            link.name != tie.host_link && !prefix.is_empty() && link.name.as_str().starts_with(prefix)
        }
    }
}

/// Whether a link says that it is the calling sandbox's.
fn is_own(call: &Call, link: &LinkInfo) -> bool {
    link.kind.as_deref() == Some("veth") && link.alias.as_deref().is_some_and(|alias| call.alias().is_written(alias))
}

fn internal(what: &str, error: &dyn fmt::Display) -> CniError {
    CniError::new(ErrorCode::Internal, format!("can not {what}: {error}"))
}
