//! What AWS holds an ENI to, as switches of the topology: its bandwidth, and how much it may ask of the link-local services.
//!
//! Bandwidth is a token bucket at each end of an ENI's port: the router's end holds what comes to the node, the node's end what leaves
//! it. (Whoever is root on the node can take his own end's away, which he can not on AWS.) Delay is not modelled.

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use vpc_linux::nft::{
    BaseChain, Batch, Chain, ChainKind, Element, Family, Hook, IfName, KeyType, Meter, Nft, Rule, Selector, Set, Table,
    Test, priority,
};
use vpc_linux::{Netns, Rtnl, TokenBucket};
use vpc_model::{EniId, LinkName};

use super::error::Context;
use super::port::{PORT_PREFIX, port_name};
use super::{FabricError, IMDS_ADDRESS, resolvers};
use crate::topology::Topology;

/// The time service, which the lab does not have; questions to it count all the same.
const TIME_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 123);
/// Least bytes that may leave at once: three of the largest packets.
const LEAST_BURST: u64 = 3 * 9_100;
/// Least bytes that may wait.
const LEAST_QUEUE: u64 = 128 << 10;
const CHAIN: &str = "link-local";
const METER: &str = "enis";
const SERVICES: &str = "services";

/// Holds an ENI to a bandwidth, in each direction by itself. To be called in the router's network.
///
/// # Errors
/// When the kernel has no token bucket filter, or the link has gone.
pub fn hold_to(eni: &EniId, node: &Netns, link: &LinkName, mbps: u32) -> Result<(), FabricError> {
    let bucket = bucket(mbps);
    let step = || format!("hold {eni} to {mbps} Mbit/s (with the kernel's token bucket filter, sch_tbf)");
    let shape = |mut network: Rtnl, link: &LinkName| {
        let index = network.link(link)?.index;
        network.shape_link(index, &bucket)
    };
    let port = port_name(eni)?;
    Rtnl::open().and_then(|router| shape(router, &port)).context(step())?;
    Rtnl::open_in(node).and_then(|node| shape(node, link)).context(step())
}

/// Ten milliseconds may leave at once, and fifty wait.
fn bucket(mbps: u32) -> TokenBucket {
    let rate = u64::from(mbps) * 1_000_000 / 8;
    let bytes = |most: u64| u32::try_from(most).unwrap_or(u32::MAX);
    TokenBucket { rate, burst: bytes((rate / 100).max(LEAST_BURST)), limit: bytes((rate / 20).max(LEAST_QUEUE)) }
}

/// Drops what an ENI sends to the link-local services (metadata, resolver at both its addresses, time) over a rate.
#[derive(Debug)]
pub struct LinkLocalLimit {
    nft: Mutex<Nft>,
}

fn table() -> Table {
    Table::new(Family::Ip, "vpc-lab-limits")
}

impl LinkLocalLimit {
    /// Sets the limit in the calling thread's network, the router's, if the topology has one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install(topology: &Topology) -> Result<Option<Self>, FabricError> {
        let Some(per_second) = topology.link_local_pps else { return Ok(None) };
        let table = table();
        let services = Set::of(SERVICES, &[KeyType::Ipv4Addr]);
        let addresses = resolvers(&topology.cidrs).into_iter().chain([IMDS_ADDRESS, TIME_ADDRESS]);
        let elements: Vec<_> = addresses.map(|address| Element::new([address.into()])).collect();
        // After the check of sources: what is dropped there was nobody's.
        let base = BaseChain::new(ChainKind::Filter, Hook::Prerouting, priority::RAW + 1);
        let over = Rule::new()
            .iifname(Test::Is, &IfName::Prefix(PORT_PREFIX.to_owned()))
            .in_set(Test::Is, &[Selector::IpDestination], SERVICES)
            .over_rate(Selector::Iif, METER, per_second.into(), per_second);
        let mut batch = Batch::new();
        batch
            .replace_table(&table, None)
            .add_set(&table, &services)
            .add_elements(&table, &services, &elements)
            .add_meter(&table, &Meter::of(METER, KeyType::IfIndex))
            .add_chain(&table, &Chain::base(CHAIN, base))
            .add_rule(&table, CHAIN, &over.counter().drop());
        let mut nft = Nft::open().context("open the router's packet filter")?;
        nft.commit(batch).context("limit what is asked of the link-local services")?;
        Ok(Some(Self { nft: Mutex::new(nft) }))
    }

    /// Packets dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let mut nft = self.nft.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = nft.rules(&table()).unwrap_or_default();
        rules.iter().filter_map(|rule| rule.counter).map(|(packets, _)| packets).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_packet_always_leaves_and_the_largest_rate_fits() {
        assert_eq!(bucket(1), TokenBucket { rate: 125_000, burst: 27_300, limit: 131_072 });
        assert_eq!(bucket(34_000), TokenBucket { rate: 4_250_000_000, burst: 42_500_000, limit: 212_500_000 });
    }
}
