//! Namespaces of routers, and the links between them.

use std::net::Ipv4Addr;

use vpc_linux::{LinkChange, NeighSpec, Netns, Rtnl, VethPeer, VethSpec, sysctl};
use vpc_model::{LinkName, Mac};

use super::FabricError;
use super::error::Context;

/// The next hop on every link of the fabric. Nobody has the address; on each link it is pinned to the MAC of the other end.
pub(super) const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 1);

/// MACs of the ends of every link between routers: the same ones on each, since they never meet.
const NEAR_MAC: Mac = Mac([0x02, 0x5b, 0, 0, 0, 1]);
const FAR_MAC: Mac = Mac([0x02, 0x5b, 0, 0, 0, 2]);

/// What a router's namespace is set to before it gets links, which inherit it.
///
/// Forwarding; no reverse path filter, since the source check is the filter's; no redirects: the way through the router is the only
/// one; no IPv6.
const ROUTER_SWITCHES: [(&str, &str); 9] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/proxy_arp", "0"),
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

pub(super) fn link_name(name: &str) -> Result<LinkName, FabricError> {
    name.parse().context("name a link")
}

/// Brings a link up.
///
/// # Errors
/// When there is no such link.
pub fn link_up(network: &Netns, name: &str) -> Result<(), FabricError> {
    let mut netlink = Rtnl::open_in(network).context("open a netlink socket")?;
    netlink.set_link(&link_name(name)?, &LinkChange::up()).context(format!("bring up {name}"))
}

/// Makes a namespace a router.
pub(super) fn router_switches(network: &Netns) -> Result<(), FabricError> {
    set_switches(network, &ROUTER_SWITCHES)
}

/// Sets switches in a namespace. Those the kernel does not have (IPv6 turned off at boot) need not be set.
pub(crate) fn set_switches(network: &Netns, switches: &[(&str, &str)]) -> Result<(), FabricError> {
    let set = || switches.iter().try_for_each(|(key, value)| sysctl::write_if_present(key, value));
    network.enter(set).context("enter a network namespace")?.context(
        "set a switch of a namespace (in a container, /proc/sys must be writable: start it with systempaths=unconfined or --privileged)",
    )
}

/// A fresh router namespace, `lo` up.
pub(super) fn new_network() -> Result<Netns, FabricError> {
    let network = Netns::create().context("make a network namespace")?;
    router_switches(&network)?;
    link_up(&network, "lo")?;
    Ok(network)
}

/// A link between two routers.
pub(super) struct Tie<'a> {
    pub(super) mtu: u32,
    pub(super) ends: [(&'a Netns, &'a str); 2],
}

impl Tie<'_> {
    /// Makes it: both ends up, the next hop pinned on both. The indexes of the ends.
    pub(super) fn make(&self) -> Result<(u32, u32), FabricError> {
        let [(here, name), (there, peer)] = self.ends;
        let step = || format!("tie {name} to {peer}");
        let macs = [NEAR_MAC, FAR_MAC];
        let mut near = Rtnl::open_in(here).context(step())?;
        let mut far = Rtnl::open_in(there).context(step())?;
        let spec = VethSpec {
            name: link_name(name)?,
            index: None,
            mac: Some(macs[0]),
            mtu: Some(self.mtu),
            up: true,
            alias: None,
            link_local: true,
            peer: VethPeer { name: link_name(peer)?, mac: Some(macs[1]), mtu: Some(self.mtu), netns: Some(there) },
        };
        let (index, _) = near.add_veth(&spec).context(step())?;
        let peer_index = far.link(&spec.peer.name).context(step())?.index;
        far.set_link(peer_index, &LinkChange::up()).context(step())?;
        near.settle_link(index).context(step())?;
        near.pin_neighbour(&NeighSpec::pinned(index, NEXT_HOP, macs[1])).context(step())?;
        far.pin_neighbour(&NeighSpec::pinned(peer_index, NEXT_HOP, macs[0])).context(step())?;
        Ok((index, peer_index))
    }
}
