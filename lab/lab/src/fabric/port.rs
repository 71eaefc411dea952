//! The router's side of one ENI.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_cloud::{AttachedEni, EniAddresses};
use serde::{Deserialize, Serialize};
use vpc_linux::{Address, ConfKey, LinkChange, NeighSpec, Netns, RouteSpec, Rtnl, VethPeer, VethSpec, rtnl, sysctl};
use vpc_model::{EniId, LinkName, Mac, RouteTable, SecurityGroupId, SubnetId};

use super::error::Context;
use super::filter::Drops;
use super::groups::GroupSet;
use super::links::{NEXT_HOP, link_name};
use super::{FabricError, PORT_MAC, VPC_MTU};

/// Where an ENI is tied in.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortPlace {
    /// The subnet's router.
    pub(super) gateway: Ipv4Addr,
    /// Mark, and number, of the subnet's route table.
    pub(super) mark: u32,
    /// The zone in which the ENI's connections are tracked.
    pub(super) zone: u16,
}

/// A port.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) index: u32,
    pub(super) name: LinkName,
    pub(super) mac: Mac,
    pub(super) subnet: SubnetId,
    pub(super) mark: u32,
    pub(super) zone: u16,
    /// Packets that are not the ENI's own are dropped, from it and to it.
    pub(super) check: bool,
    pub(super) groups: GroupSet,
    /// What it may send from, and what is sent to it.
    pub(super) networks: BTreeSet<Ipv4Net>,
    /// Its public addresses: private to public.
    pub(super) public: BTreeMap<Ipv4Addr, Ipv4Addr>,
}

/// A port as people see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortStatus {
    /// The ENI.
    pub eni: EniId,
    /// The link in the router.
    pub link: String,
    /// The ENI's MAC.
    pub mac: Mac,
    /// Addresses and prefixes that are routed to it.
    pub networks: Vec<Ipv4Net>,
    /// Whether it sends and receives only as itself.
    pub source_dest_check: bool,
    /// Security groups.
    pub groups: Vec<SecurityGroupId>,
    /// Packets from it that were dropped because they were not its own.
    pub spoofed: u64,
    /// Packets from it that its security groups did not let out.
    pub egress_denied: u64,
    /// Packets to it that its security groups did not let in.
    pub ingress_denied: u64,
}

/// How names of ports begin.
pub(super) const PORT_PREFIX: &str = "p-";
/// Where the kernel indexes of ports begin; the rest comes from the ENI's MAC.
const FIRST_INDEX: u32 = 0x0100_0000;

impl Port {
    /// Makes the link: this end up and answering ARP, the other one in the node, with the ENI's MAC, down.
    pub(super) fn open(
        router: &mut Rtnl,
        eni: &AttachedEni,
        place: PortPlace,
        node: &Netns,
        link: &LinkName,
    ) -> Result<Self, FabricError> {
        let name = port_name(&eni.id)?;
        let step = || format!("attach {} as {link}", eni.id);
        let [_, _, a, b, c, d] = eni.mac.0;
        let spec = VethSpec {
            name: name.clone(),
            // Far from the small numbers that links of a node have: the port carries packets as soon as the node brings its end up.
            index: Some(FIRST_INDEX | u32::from_be_bytes([0, b, c, d])),
            mac: Some(Mac([PORT_MAC[0], PORT_MAC[1], a, b, c, d])),
            mtu: Some(VPC_MTU),
            up: true,
            alias: Some(eni.id.to_string()),
            link_local: true,
            peer: VethPeer { name: link.clone(), mac: Some(eni.mac), mtu: Some(VPC_MTU), netns: Some(node) },
        };
        let made = router.add_veth(&spec).or_else(|_| router.add_veth(&VethSpec { index: None, ..spec.clone() }));
        let (index, _) = made.context(step())?;
        let networks = networks(&eni.addresses);
        let port = Self {
            index,
            name,
            mac: eni.mac,
            subnet: eni.subnet.clone(),
            mark: place.mark,
            zone: place.zone,
            check: eni.source_dest_check,
            groups: eni.groups.iter().cloned().collect(),
            networks,
            public: eni.addresses.public.clone(),
        };
        match port.prepare(router, place.gateway, eni.addresses.primary) {
            Ok(()) => Ok(port),
            Err(e) => {
                port.close(router).ok();
                Err(e)
            }
        }
    }

    /// The primary address is pinned too: it is whom nodes ask by ARP as, and the kernel would learn it from the question.
    fn prepare(&self, router: &mut Rtnl, gateway: Ipv4Addr, primary: Ipv4Addr) -> Result<(), FabricError> {
        let settings =
            [(ConfKey::Forwarding, 1), (ConfKey::ProxyArp, 1), (ConfKey::RpFilter, 0), (ConfKey::SendRedirects, 0)];
        let requests = vec![
            rtnl::link::set(&self.index.into(), &LinkChange::conf(&settings)),
            rtnl::addr::add(&Address::new(self.index, gateway.into())),
            rtnl::neigh::replace(&NeighSpec::pinned(self.index, NEXT_HOP, self.mac)),
            rtnl::neigh::replace(&NeighSpec::pinned(self.index, primary, self.mac)),
        ];
        router.run(requests).context(format!("set up port {}", self.name))?;
        // A proxy waits up to 0.8 s before it answers ARP, so that the owner can be first; here there is no other. (Older kernels
        // keep this switch from root of a user namespace; there the first packet between two nodes of a subnet is slow.)
        let delay = format!("net/ipv4/neigh/{}/proxy_delay", self.name);
        sysctl::write_if_present(&delay, "0").context(format!("set up port {}", self.name))
    }

    /// Takes the link away, with the node's end and all routes over it. A link that has gone with its node is fine.
    pub(super) fn close(&self, router: &mut Rtnl) -> Result<(), FabricError> {
        match router.delete_link(self.index) {
            Err(e) if !e.is_absent() => Err(e).context(format!("take port {} away", self.name)),
            _ => Ok(()),
        }
    }

    /// Lets packets to all its networks go out of it.
    pub(super) fn route_all(&self, router: &mut Rtnl, table: RouteTable) -> Result<(), FabricError> {
        self.route(router, table, &self.networks)
    }

    pub(super) fn route(
        &self,
        router: &mut Rtnl,
        table: RouteTable,
        networks: &BTreeSet<Ipv4Net>,
    ) -> Result<(), FabricError> {
        let requests = networks.iter().map(|net| rtnl::route::replace(&self.route_to(table, *net))).collect();
        router.run(requests).context(format!("route to port {}", self.name))
    }

    pub(super) fn unroute(
        &self,
        router: &mut Rtnl,
        table: RouteTable,
        networks: &BTreeSet<Ipv4Net>,
    ) -> Result<(), FabricError> {
        for net in networks {
            match router.delete_route(&self.route_to(table, *net)) {
                // It may have moved to another port already, or gone with the link.
                Err(e) if !e.is_absent() => return Err(e).context(format!("take the route to {net} away")),
                _ => {}
            }
        }
        Ok(())
    }

    fn route_to(&self, table: RouteTable, net: Ipv4Net) -> RouteSpec {
        RouteSpec { onlink: true, ..RouteSpec::through(table, net, NEXT_HOP, self.index) }
    }

    /// The port as it is after a change of its ENI.
    pub(super) fn changed_to(&self, eni: &AttachedEni) -> Self {
        Self {
            check: eni.source_dest_check,
            groups: eni.groups.iter().cloned().collect(),
            networks: networks(&eni.addresses),
            public: eni.addresses.public.clone(),
            ..self.clone()
        }
    }

    pub(super) fn status(&self, eni: &EniId, drops: Drops) -> PortStatus {
        PortStatus {
            eni: eni.clone(),
            link: self.name.to_string(),
            mac: self.mac,
            networks: self.networks.iter().copied().collect(),
            source_dest_check: self.check,
            groups: self.groups.iter().cloned().collect(),
            spoofed: drops.spoofed,
            egress_denied: drops.egress,
            ingress_denied: drops.ingress,
        }
    }
}

/// The port of an ENI: `p-` and the last eight digits of its id.
pub(super) fn port_name(eni: &EniId) -> Result<LinkName, FabricError> {
    let id = eni.as_str();
    let tail = id.get(id.len().saturating_sub(8)..).unwrap_or(id);
    link_name(&format!("{PORT_PREFIX}{tail}"))
}

fn networks(addresses: &EniAddresses) -> BTreeSet<Ipv4Net> {
    let single = std::iter::once(addresses.primary).chain(addresses.secondary.iter().copied()).map(Ipv4Net::from);
    single.chain(addresses.prefixes.iter().map(|prefix| prefix.net())).collect()
}
