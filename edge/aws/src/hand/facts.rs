//! What the node is, by its metadata. EC2 adds whose an ENI is and, where the two differ, the truth; the agent lays them side by
//! side.

use std::net::Ipv4Addr;

use crate::imds::{EniMetadata, NodeMetadata, Walk};
use vpc_agent::{Metadata, NodeFacts, SeenEni};
use vpc_ipam::EniFacts;
use vpc_model::{CardIndex, DeviceIndex, EniId, SecurityGroupId, Slot, Subnet, WallTime};

/// The metadata do not show a primary ENI that an IPv4 node can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPrimary {
    /// Not at all, or not all of it.
    #[error("the primary ENI ({0}) is not readable in the instance metadata")]
    Unreadable(vpc_model::Mac),
    /// It has no IPv4 address, or its subnet has no IPv4 network.
    #[error("the primary ENI {0} has no IPv4 address and subnet; expected an IPv4 node")]
    NotIpv4(EniId),
}

/// The node as the agent is told of it at its start.
///
/// # Errors
/// See [`NoPrimary`].
pub fn node_facts(node: &NodeMetadata, walk: &Walk, wall: WallTime) -> Result<NodeFacts, NoPrimary> {
    Ok(NodeFacts {
        instance: node.instance_id.clone(),
        vpc: node.vpc_id.clone(),
        zone: node.availability_zone.clone(),
        subnet: node.subnet_id.clone(),
        metadata: metadata(walk, node.security_groups.clone())?,
        vpc_cidrs: node.vpc_ipv4_cidrs.clone(),
        wall,
    })
}

/// What a walk shows. ENIs on other network cards are left out: they are neither ours nor in our way.
///
/// # Errors
/// See [`NoPrimary`].
pub fn metadata(walk: &Walk, groups: Vec<SecurityGroupId>) -> Result<Metadata, NoPrimary> {
    let primary = walk.enis.iter().find(|eni| eni.primary).ok_or(NoPrimary::Unreadable(walk.primary))?;
    let subnet = primary.subnet.filter(|_| !primary.ipv4.is_empty());
    let subnet = subnet.ok_or_else(|| NoPrimary::NotIpv4(primary.eni_id.clone()))?;
    let mut enis: Vec<SeenEni> =
        walk.enis.iter().filter(|eni| eni.card == CardIndex(0)).map(|eni| seen(eni, subnet)).collect();
    // The primary one first.
    enis.sort_by_key(|eni| (eni.facts.card, eni.facts.device));
    Ok(Metadata { enis, unreadable: walk.sick.iter().map(|sick| sick.mac).collect(), groups })
}

/// `subnet` stands in for one that is not known: such an ENI is never used, only its position counts.
fn seen(eni: &EniMetadata, subnet: Subnet) -> SeenEni {
    SeenEni {
        facts: EniFacts {
            id: eni.eni_id.clone(),
            mac: eni.mac,
            card: eni.card,
            // The metadata have been seen to give the primary ENI another position for a moment.
            device: if eni.primary { DeviceIndex(0) } else { eni.device_index },
            subnet: eni.subnet.unwrap_or(subnet),
            subnet_id: Some(eni.subnet_id.clone()),
            primary: eni.ipv4.first().copied().unwrap_or(NOWHERE),
        },
        slots: slots_seen(eni),
        usable: !eni.ipv4.is_empty() && eni.subnet.is_some(),
    }
}

/// What the metadata show on an ENI besides its own address.
fn slots_seen(seen: &EniMetadata) -> Vec<Slot> {
    let addresses = seen.ipv4.iter().skip(1).copied().map(Slot::Address);
    addresses.chain(seen.ipv4_prefixes.iter().copied().map(Slot::Prefix)).collect()
}

/// The address of an ENI that has none. Such an ENI is never used: only the position it takes counts.
const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use vpc_model::{Ipv4Net, Mac};

    use super::*;

    fn subnet() -> Subnet {
        Subnet::try_from("10.20.0.0/24".parse::<Ipv4Net>().unwrap()).unwrap()
    }

    fn eni(device: u8, addresses: &[&str]) -> EniMetadata {
        EniMetadata {
            mac: mac(device),
            primary: device == 0,
            eni_id: format!("eni-{device}").parse().unwrap(),
            subnet_id: "subnet-1".parse().unwrap(),
            device_index: DeviceIndex(device),
            card: CardIndex(0),
            ipv4: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ipv4_prefixes: vec![],
            ipv6: vec![],
            ipv6_prefixes: vec![],
            subnet: Some(subnet()),
            subnet_ipv6: None,
        }
    }

    fn mac(device: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, device])
    }

    fn walk(enis: Vec<EniMetadata>) -> Walk {
        Walk { primary: mac(0), enis, sick: vec![] }
    }

    #[test]
    fn the_primary_one_is_first_and_at_position_0() {
        let mut odd = eni(0, &["10.20.0.10", "10.20.0.11"]);
        odd.device_index = DeviceIndex(7);
        let shown = metadata(&walk(vec![eni(1, &["10.20.0.20"]), odd]), vec![]).unwrap();
        let positions: Vec<u8> = shown.enis.iter().map(|eni| eni.facts.device.0).collect();
        assert_eq!(positions, [0, 1]);
        assert_eq!(shown.enis[0].slots, [Slot::Address("10.20.0.11".parse().unwrap())]);
    }

    #[test]
    fn an_eni_without_ipv4_takes_a_position_and_no_pods() {
        let shown = metadata(&walk(vec![eni(0, &["10.20.0.10"]), eni(1, &[])]), vec![]).unwrap();
        assert_eq!(shown.enis.iter().map(|eni| eni.usable).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn other_cards_are_left_out() {
        let mut other = eni(1, &["10.20.0.20"]);
        other.card = CardIndex(1);
        assert_eq!(metadata(&walk(vec![eni(0, &["10.20.0.10"]), other]), vec![]).unwrap().enis.len(), 1);
    }

    #[test]
    fn a_node_without_a_usable_primary_eni_is_refused() {
        assert_eq!(metadata(&walk(vec![]), vec![]).unwrap_err(), NoPrimary::Unreadable(mac(0)));
        let unnumbered = metadata(&walk(vec![eni(0, &[])]), vec![]).unwrap_err();
        assert_eq!(unnumbered, NoPrimary::NotIpv4("eni-0".parse().unwrap()));
    }
}
