//! What the host's network should look like.
//!
//! ```text
//!   primary ENI ---- MTU, up, rp_filter=2; its address and the main table are the operating system's
//!   other ENIs ----- MTU, up, primary address (no connected route); table N: gateway/32, default; rule 32765 from its address
//!   settings ------- rule 1024 for the mark; rules 1535 for external services; the packet filter
//!   pods ----------- route, rules, pinned neighbour, as the layout has them; for pods whose host veth is there
//! ```
//!
//! `net.ipv4.ip_forward` is expected from the operating system and not touched: whether a machine routes is its owner's decision,
//! and every Kubernetes node has it on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{CardIndex, DeviceIndex, GatewayOf, LinkName, Mac, RouteTable, Subnet};

use crate::classic::{bare, host, layout};
use crate::{
    Filter, HostSettings, HostState, Link, LinkAlias, LinkKind, Mark, Neighbour, Route, RpFilter, Rule, priority,
};

/// An ENI that belongs to the node and that we manage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniOnHost {
    /// Hardware address: how its link is found.
    pub mac: Mac,
    /// Network card it sits on.
    pub card: CardIndex,
    /// Position on the card, as EC2 counts.
    pub device: DeviceIndex,
    /// Its primary address.
    pub primary_address: Ipv4Addr,
    /// Its subnet.
    pub subnet: Subnet,
}

impl EniOnHost {
    /// The route table of this ENI.
    #[must_use]
    pub fn table(&self) -> RouteTable {
        RouteTable::of_eni(self.card, self.device)
    }
}

/// A pod that has an address of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOnHost {
    /// Its address.
    pub address: Ipv4Addr,
    /// Table of the ENI the address belongs to ([`RouteTable::MAIN`] for the primary one).
    pub table: RouteTable,
    /// Name of its host veth.
    pub host_link: LinkName,
    /// Hardware address of its own end, if known: without it the neighbour is left as it is.
    pub pod_mac: Option<Mac>,
    /// Whose sandbox it is, if known. A link that names another owner in its alias (an earlier sandbox of a pod of the same name
    /// has the same link name) is then not taken for this pod's.
    pub owner: Option<LinkAlias>,
}

/// Everything that is known about the node and decides how its network should look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// The primary ENI.
    pub primary: EniOnHost,
    /// The other ENIs we manage, those included whose link has not appeared yet.
    pub secondary: Vec<EniOnHost>,
    /// IPv4 CIDRs of the VPC.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// Pods that have an address. With two entries for one address, the first counts.
    pub pods: Vec<PodOnHost>,
    /// Addresses proven to belong to no pod, nor about to be given to one: rules, routes and neighbours of theirs may go. So may
    /// the rule 32765 of an ENI about to be detached, if its primary address is put here and the ENI is in the view no more.
    /// What stands for any other unknown address stays, since a plugin may be about to finish it. Pods of the view win, and what an ENI
    /// of the view has for its own address stays.
    pub released: BTreeSet<Ipv4Addr>,
    /// Settings.
    pub settings: HostSettings,
}

/// A link as it should be. Always up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredLink {
    /// Name.
    pub name: LinkName,
    /// MTU in bytes; `None` = as it is.
    pub mtu: Option<u32>,
    /// Its only address (link-local ones aside), without a connected route in main; `None` = addresses are not ours to say.
    pub address: Option<Ipv4Net>,
    /// Reverse path filter; `None` = as it is.
    pub rp_filter: Option<RpFilter>,
}

/// What is known about the owners of routes and rules: the grounds on which [`crate::plan`] removes any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Pods whose host veth is there: their rules and routes are known in full, others for the same address are wrong.
    pub routed: BTreeSet<Ipv4Addr>,
    /// Addresses proven to belong to no pod.
    pub released: BTreeSet<Ipv4Addr>,
    /// Primary addresses of the ENIs we manage whose link is there, with their tables.
    pub enis: BTreeMap<Ipv4Addr, RouteTable>,
    /// Primary addresses of all ENIs of the view: the primary one and those whose link is missing too.
    pub eni_addresses: BTreeSet<Ipv4Addr>,
    /// IPv4 CIDRs of the VPC: no address elsewhere ever was an ENI's or a pod's.
    pub vpc_cidrs: Vec<Ipv4Net>,
}

/// The host's network as it should be, as far as it is ours to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// ENIs' links and pods' links.
    pub links: Vec<DesiredLink>,
    /// ENIs whose link has not appeared. Nothing is desired for them; look again when a link appears.
    pub missing: Vec<Mac>,
    /// Routes, in the order in which the kernel takes them (a gateway before what leads through it).
    pub routes: Vec<Route>,
    /// Rules.
    pub rules: Vec<Rule>,
    /// Pinned neighbours.
    pub neighbours: Vec<Neighbour>,
    /// The packet filter. Present in every configuration; with neither SNAT nor NodePort support it does nothing.
    pub filter: Filter,
    /// What may be removed.
    pub claims: Claims,
    /// The settings it was made from.
    pub settings: HostSettings,
}

/// A view from which no desired state follows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DesiredError {
    /// Without the primary link nothing can be set up.
    #[error(
        "no link with the primary ENI's hardware address {mac} exists on this host: the node must run in the host's network namespace"
    )]
    PrimaryLinkMissing {
        /// Of the primary ENI.
        mac: Mac,
    },
    /// Two ENIs claim one route table; both would write its default route.
    #[error(
        "ENIs {first} and {second} both sit at the position of route table {table}: expected one ENI at each position"
    )]
    SameTable {
        /// The table.
        table: RouteTable,
        /// One ENI.
        first: Mac,
        /// The other ENI.
        second: Mac,
    },
    /// Two ENIs have one hardware address.
    #[error("two ENIs have the hardware address {mac}: expected a different one for each")]
    SameMac {
        /// The address.
        mac: Mac,
    },
    /// With source NAT on and nothing exempt even traffic inside the VPC would be translated.
    #[error("the VPC has no IPv4 CIDR: with source NAT on, expected at least the one the node's own subnet is in")]
    NoVpcCidrs,
}

/// Says how the host's network should look. `state` serves to find the links of ENIs and pods; nothing else of it counts.
///
/// # Errors
/// [`DesiredError`]: the primary link is not there, or the view contradicts itself. Nothing should be changed then.
pub fn desired(view: &HostView, state: &HostState) -> Result<Desired, DesiredError> {
    check(view)?;
    let settings = &view.settings;
    let primary = state
        .eni_link(view.primary.mac, &settings.veth_prefix)
        .ok_or(DesiredError::PrimaryLinkMissing { mac: view.primary.mac })?;
    let filter = filter(view, &primary.name);
    let mut desired = Desired {
        links: vec![primary_link(primary, settings)],
        missing: Vec::new(),
        routes: Vec::new(),
        rules: node_rules(settings),
        neighbours: Vec::new(),
        filter,
        claims: claims(view),
        settings: settings.clone(),
    };
    for eni in &view.secondary {
        match state.eni_link(eni.mac, &settings.veth_prefix) {
            Some(link) => desired.add_eni(eni, &link.name),
            None => desired.missing.push(eni.mac),
        }
    }
    let links = state.links_by_name();
    let mut named: BTreeSet<LinkName> = desired.links.iter().map(|link| link.name.clone()).collect();
    for pod in &view.pods {
        if !desired.claims.routed.contains(&pod.address) && has_link(pod, &links) {
            if named.insert(pod.host_link.clone()) {
                let link = DesiredLink { name: pod.host_link.clone(), mtu: None, address: None, rp_filter: None };
                desired.links.push(link);
            }
            desired.add_pod(pod);
        }
    }
    Ok(desired)
}

fn check(view: &HostView) -> Result<(), DesiredError> {
    if !view.settings.external_snat && view.vpc_cidrs.is_empty() {
        return Err(DesiredError::NoVpcCidrs);
    }
    // The primary ENI's routes are in main wherever EC2 says it sits.
    let mut tables = BTreeMap::from([(RouteTable::MAIN, view.primary.mac)]);
    let mut macs = BTreeSet::from([view.primary.mac]);
    for eni in &view.secondary {
        if !macs.insert(eni.mac) {
            return Err(DesiredError::SameMac { mac: eni.mac });
        }
        if let Some(first) = tables.insert(eni.table(), eni.mac) {
            return Err(DesiredError::SameTable { table: eni.table(), first, second: eni.mac });
        }
    }
    Ok(())
}

fn primary_link(link: &Link, settings: &HostSettings) -> DesiredLink {
    // Loose: a reply to a pod of another ENI comes in here, but the way back by rule 1536 is the other ENI.
    let rp_filter = Some(RpFilter::Loose);
    DesiredLink { name: link.name.clone(), mtu: Some(settings.eni_mtu), address: None, rp_filter }
}

fn claims(view: &HostView) -> Claims {
    let enis = view.secondary.iter().chain([&view.primary]);
    let eni_addresses: BTreeSet<Ipv4Addr> = enis.map(|eni| eni.primary_address).collect();
    let pods: BTreeSet<Ipv4Addr> = view.pods.iter().map(|pod| pod.address).collect();
    // An ENI may have come to have what was a pod's: the pod's rules go all the same, and its own are not touched by this.
    let nobodys = |address: &&Ipv4Addr| !pods.contains(*address);
    Claims {
        routed: BTreeSet::new(),
        released: view.released.iter().filter(nobodys).copied().collect(),
        enis: BTreeMap::new(),
        eni_addresses,
        vpc_cidrs: view.vpc_cidrs.clone(),
    }
}

fn node_rules(settings: &HostSettings) -> Vec<Rule> {
    let marked = settings.node_port || !settings.external_snat;
    let mark =
        marked.then(|| Rule { mark: Some(Mark::bits(settings.mark)), ..bare(priority::MARKED, RouteTable::MAIN) });
    let services: BTreeSet<Ipv4Net> = settings.external_services.iter().map(Ipv4Net::trunc).collect();
    let services =
        services.into_iter().map(|cidr| Rule { to: Some(cidr), ..bare(priority::EXTERNAL_SERVICE, RouteTable::MAIN) });
    mark.into_iter().chain(services).collect()
}

fn filter(view: &HostView, primary_link: &LinkName) -> Filter {
    let settings = &view.settings;
    let exempt: Vec<Ipv4Net> = view.vpc_cidrs.iter().chain(&settings.exclude_snat).map(Ipv4Net::trunc).collect();
    Filter {
        primary_link: primary_link.clone(),
        primary_address: view.primary.primary_address,
        veth_prefix: settings.veth_prefix.clone(),
        mark: Mark::bits(settings.mark),
        node_port: settings.node_port,
        snat: (!settings.external_snat).then_some(settings.snat_random),
        exempt: Ipv4Net::aggregate(&exempt),
    }
}

/// Whether the pod's host veth is there and the pod's.
fn has_link(pod: &PodOnHost, links: &BTreeMap<&LinkName, &Link>) -> bool {
    let Some(link) = links.get(&pod.host_link) else { return false };
    let of_another = match (&pod.owner, &link.alias) {
        // What is no alias of ours names nobody.
        (Some(owner), Some(text)) => !owner.is_written(text) && text.parse::<LinkAlias>().is_ok(),
        _ => false,
    };
    link.kind == LinkKind::Veth && !of_another
}

impl Desired {
    fn add_eni(&mut self, eni: &EniOnHost, link: &LinkName) {
        let (table, gateway) = (eni.table(), eni.subnet.gateway());
        // A length of at most 28 was checked at the door of `Subnet`, so this is never refused.
        let address = Ipv4Net::new(eni.primary_address, eni.subnet.net().prefix_len()).ok();
        let mtu = Some(self.settings.eni_mtu);
        self.links.push(DesiredLink { name: link.clone(), mtu, address, rp_filter: None });
        self.routes.push(Route::on_link(table, host(gateway), link.clone()));
        self.routes.push(Route::through(table, Ipv4Net::default(), gateway, link.clone()));
        self.rules.push(Rule { from: Some(host(eni.primary_address)), ..bare(priority::FROM_ENI, table) });
        self.claims.enis.insert(eni.primary_address, table);
    }

    fn add_pod(&mut self, pod: &PodOnHost) {
        let layout = layout(self.settings.layout);
        let name = pod.host_link.clone();
        if let Some(mac) = pod.pod_mac {
            self.neighbours.push(Neighbour { link: name.clone(), address: pod.address, mac });
        }
        self.routes.push(layout.pod_route(pod.address, &name));
        self.rules.extend(layout.pod_rules(pod.address, pod.table));
        self.claims.routed.insert(pod.address);
    }
}
