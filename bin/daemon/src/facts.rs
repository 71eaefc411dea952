//! What the node is: metadata and EC2 laid side by side.
//!
//! ```text
//!   IMDS: NodeMetadata, Walk ---+
//!   EC2: Vec<NetworkInterface> -+--assemble--> NodeFacts, and what did not fit, in words
//!   checkpoint: known ENIs -----+
//! ```
//!
//! Metadata alone are enough to serve pods. EC2 adds tags (whose an ENI is), attachments and, where the two differ, the truth.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use vpc_agent::{NodeFacts, ObservedEni};
use vpc_aws::ec2::shapes::{InterfaceType, NetworkInterface};
use vpc_aws::imds::{EniMetadata, NodeMetadata, Walk};
use vpc_ipam::EniFacts;
use vpc_model::{CardIndex, DeviceIndex, EniId, InstanceId, Slot, Subnet, WallTime};

use crate::cloud::{INSTANCE_TAG, primary_of, slots_of};

/// `true` takes an ENI away from us, anything else gives it to us.
const NO_MANAGE_TAG: &str = "node.k8s.amazonaws.com/no_manage";

/// What decides whose an ENI is, besides its tags.
#[derive(Clone, Copy, Debug)]
pub struct Ownership<'a> {
    /// `MANAGE_UNTAGGED_ENI`.
    pub manage_untagged: bool,
    /// ENIs the pool held when the checkpoint was written.
    pub known: &'a BTreeSet<EniId>,
}

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

/// Puts it together. `described` is EC2's list of the instance's ENIs; `None` if EC2 could not be asked. Also returned: what was
/// left out or overruled, in words.
///
/// # Errors
/// See [`NoPrimary`].
pub fn assemble(
    node: &NodeMetadata,
    walk: &Walk,
    described: Option<&[NetworkInterface]>,
    ownership: Ownership<'_>,
    wall: WallTime,
) -> Result<(NodeFacts, Vec<String>), NoPrimary> {
    let primary = walk.enis.iter().find(|eni| eni.primary).ok_or(NoPrimary::Unreadable(walk.primary))?;
    let subnet = primary.subnet.filter(|_| !primary.ipv4.is_empty());
    let subnet = subnet.ok_or_else(|| NoPrimary::NotIpv4(primary.eni_id.clone()))?;
    let sight = Sight { instance: &node.instance_id, walk, asked: described.is_some(), subnet, ownership };
    let mut notes: Vec<String> = walk.sick.iter().map(|sick| format!("ENI {}: {}", sick.mac, sick.error)).collect();
    let mut enis = Vec::new();
    for seen in &walk.enis {
        let told = described.and_then(|list| list.iter().find(|eni| eni.network_interface_id == seen.eni_id));
        if on_our_card(seen.card, &seen.eni_id, &mut notes) {
            enis.push(sight.observed(seen, told, &mut notes));
        }
    }
    for told in described.unwrap_or_default() {
        if walk.enis.iter().all(|seen| seen.eni_id != told.network_interface_id) {
            enis.extend(sight.only_in_ec2(told, &mut notes));
        }
    }
    // The primary one first.
    enis.sort_by_key(|eni| (eni.facts.card, eni.facts.device));
    let vpc_cidrs = node.vpc_ipv4_cidrs.clone();
    Ok((NodeFacts { instance: node.instance_id.clone(), enis, vpc_cidrs, wall }, notes))
}

/// What all ENIs are looked at with.
struct Sight<'a> {
    instance: &'a InstanceId,
    walk: &'a Walk,
    /// EC2 has answered.
    asked: bool,
    /// The primary ENI's. It stands in for one that is not known: such an ENI is never managed, only its position counts.
    subnet: Subnet,
    ownership: Ownership<'a>,
}

/// Other cards come with `ENABLE_MULTI_NIC`. What is on them is neither ours nor in our way.
fn on_our_card(card: CardIndex, id: &EniId, notes: &mut Vec<String>) -> bool {
    if card != CardIndex(0) {
        notes.push(format!("{id} is on network card {card}, which is not used in this release"));
    }
    card == CardIndex(0)
}

impl Sight<'_> {
    fn observed(&self, seen: &EniMetadata, told: Option<&NetworkInterface>, notes: &mut Vec<String>) -> ObservedEni {
        let id = &seen.eni_id;
        let slots = match told.map(slots_of) {
            Some(slots) => {
                if slots.iter().collect::<BTreeSet<_>>() != slots_seen(seen).iter().collect() {
                    notes.push(format!("EC2 and the metadata list different addresses on {id}; EC2's are taken"));
                }
                slots
            }
            None => slots_seen(seen),
        };
        if self.asked && told.is_none() {
            notes.push(format!("{id} is in the metadata and not in EC2's answer"));
        }
        let usable = !seen.ipv4.is_empty() && seen.subnet.is_some() && told.is_none_or(carries_pods);
        ObservedEni {
            managed: seen.primary || (usable && self.is_ours(id, told)),
            attachment: told.and_then(attachment_of),
            facts: EniFacts {
                id: id.clone(),
                mac: seen.mac,
                card: seen.card,
                // The metadata have been seen to give the primary ENI another position for a moment.
                device: if seen.primary { DeviceIndex(0) } else { seen.device_index },
                subnet: seen.subnet.unwrap_or(self.subnet),
                primary: seen.ipv4.first().copied().unwrap_or(NOWHERE),
            },
            slots,
        }
    }

    /// An ENI EC2 has attached and the metadata do not show yet, or not whole. It takes a position in any case; pods it carries
    /// only if the metadata know its subnet.
    fn only_in_ec2(&self, told: &NetworkInterface, notes: &mut Vec<String>) -> Option<ObservedEni> {
        let tie = told.attachment.as_ref()?;
        let (device, card) = (tie.device_index?, tie.network_card_index.unwrap_or_default());
        let id = &told.network_interface_id;
        if !on_our_card(card, id, notes) {
            return None;
        }
        notes.push(format!("{id} is attached but not in the metadata yet"));
        let neighbour = self.walk.enis.iter().find(|eni| eni.subnet_id == told.subnet_id);
        let subnet = neighbour.and_then(|eni| eni.subnet);
        let primary = primary_of(told);
        let usable = subnet.is_some() && primary.is_some() && carries_pods(told);
        Some(ObservedEni {
            managed: usable && self.is_ours(id, Some(told)),
            attachment: attachment_of(told),
            facts: EniFacts {
                id: id.clone(),
                mac: told.mac_address,
                card,
                device,
                subnet: subnet.unwrap_or(self.subnet),
                primary: primary.unwrap_or(NOWHERE),
            },
            slots: slots_of(told),
        })
    }

    /// The rules of the tags. Without EC2's word only an ENI that was ours before is ours: one that somebody keeps for himself
    /// must not get pods because EC2 was away, and one with pods must not be dropped because EC2's list lacks it once.
    fn is_ours(&self, id: &EniId, told: Option<&NetworkInterface>) -> bool {
        let Some(told) = told else { return self.ownership.known.contains(id) };
        let tag = |key: &str| told.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str());
        match (tag(NO_MANAGE_TAG), tag(INSTANCE_TAG)) {
            (Some(value), _) => value != "true",
            (None, Some(owner)) if owner == self.instance.as_str() => true,
            (None, _) => self.ownership.manage_untagged,
        }
    }
}

/// What the metadata show on an ENI besides its own address.
fn slots_seen(seen: &EniMetadata) -> Vec<Slot> {
    let addresses = seen.ipv4.iter().skip(1).copied().map(Slot::Address);
    addresses.chain(seen.ipv4_prefixes.iter().copied().map(Slot::Prefix)).collect()
}

/// The address of an ENI that has none. Such an ENI is never managed: only the position it takes counts.
const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn attachment_of(eni: &NetworkInterface) -> Option<vpc_model::AttachmentId> {
    eni.attachment.as_ref()?.attachment_id.own().cloned()
}

/// A trunk carries other ENIs, an EFA-only ENI no IP at all, and the kinds services make are theirs.
fn carries_pods(eni: &NetworkInterface) -> bool {
    matches!(eni.interface_type, InterfaceType::Interface | InterfaceType::Efa)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use vpc_aws::ec2::shapes::{
        AttachmentStatus, NetworkInterfaceAttachment, NetworkInterfaceStatus, PrivateIpAddressOfInterface, Tag,
    };
    use vpc_aws::imds::{ImdsError, ImdsFailure, SickEni};
    use vpc_model::{Ipv4Net, Mac};

    use super::*;

    fn subnet() -> Subnet {
        Subnet::try_from("10.20.0.0/24".parse::<Ipv4Net>().unwrap()).unwrap()
    }

    fn seen(device: u8, addresses: &[&str]) -> EniMetadata {
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

    fn node() -> NodeMetadata {
        NodeMetadata {
            region: "us-west-2".into(),
            availability_zone: "us-west-2a".into(),
            instance_id: "i-1".parse().unwrap(),
            instance_type: "m5.large".into(),
            local_ipv4: "10.20.0.10".parse().unwrap(),
            mac: mac(0),
            subnet_id: "subnet-1".parse().unwrap(),
            vpc_id: "vpc-1".parse().unwrap(),
            security_groups: vec![],
            vpc_ipv4_cidrs: vec!["10.20.0.0/16".parse().unwrap()],
        }
    }

    fn walk(enis: Vec<EniMetadata>) -> Walk {
        Walk { primary: mac(0), enis, sick: vec![] }
    }

    fn told(device: u8, addresses: &[&str], tags: &[(&str, &str)]) -> NetworkInterface {
        let entry = |(at, address): (usize, &&str)| PrivateIpAddressOfInterface {
            private_ip_address: address.parse().unwrap(),
            primary: Some(at == 0),
            private_dns_name: None,
            association: None,
        };
        NetworkInterface {
            availability_zone_id: None,
            network_interface_id: format!("eni-{device}").parse().unwrap(),
            subnet_id: "subnet-1".parse().unwrap(),
            vpc_id: "vpc-1".parse().unwrap(),
            availability_zone: None,
            description: None,
            owner_id: None,
            requester_id: None,
            requester_managed: None,
            status: NetworkInterfaceStatus::InUse,
            mac_address: Mac([2, 0, 0, 0, 0, device]),
            private_ip_address: Some(addresses[0].parse().unwrap()),
            private_dns_name: None,
            source_dest_check: None,
            groups: vec![],
            attachment: Some(NetworkInterfaceAttachment {
                attachment_id: format!("eni-attach-{device}").parse::<vpc_model::AttachmentId>().unwrap().into(),
                instance_id: Some("i-1".parse().unwrap()),
                instance_owner_id: None,
                device_index: Some(DeviceIndex(device)),
                network_card_index: None,
                status: AttachmentStatus::Attached,
                attach_time: None,
                delete_on_termination: None,
            }),
            association: None,
            tags: tags.iter().map(|(key, value)| Tag::new(*key, *value)).collect(),
            private_ip_addresses: addresses.iter().enumerate().map(entry).collect(),
            ipv4_prefixes: vec![],
            ipv6_addresses: vec![],
            ipv6_prefixes: vec![],
            interface_type: InterfaceType::Interface,
            connection_tracking: None,
        }
    }

    fn put_together(
        walk: &Walk,
        described: Option<&[NetworkInterface]>,
        manage_untagged: bool,
        known: &[&str],
    ) -> NodeFacts {
        let known = known.iter().map(|id| id.parse().unwrap()).collect();
        assemble(&node(), walk, described, Ownership { manage_untagged, known: &known }, WallTime(0)).unwrap().0
    }

    fn ours(facts: &NodeFacts) -> Vec<&str> {
        facts.enis.iter().filter(|eni| eni.managed).map(|eni| eni.facts.id.as_str()).collect()
    }

    const NO: (&str, &str) = (NO_MANAGE_TAG, "true");
    const YES: (&str, &str) = (NO_MANAGE_TAG, "false");
    const SELF: (&str, &str) = (INSTANCE_TAG, "i-1");
    const OTHER: (&str, &str) = (INSTANCE_TAG, "i-2");

    #[test]
    fn tags_say_whose_an_eni_is() {
        let walk = walk(vec![seen(0, &["10.20.0.10"]), seen(1, &["10.20.0.20"]), seen(2, &["10.20.0.30"])]);
        type Tags<'a> = &'a [(&'a str, &'a str)];
        // Tags of the three ENIs; ours with MANAGE_UNTAGGED_ENI, and without.
        let cases: [([Tags<'_>; 3], &[&str], &[&str]); 6] = [
            ([&[], &[], &[]], &["eni-0", "eni-1", "eni-2"], &["eni-0"]),
            ([&[NO], &[], &[]], &["eni-0", "eni-1", "eni-2"], &["eni-0"]),
            ([&[], &[NO], &[NO]], &["eni-0"], &["eni-0"]),
            ([&[], &[NO], &[YES]], &["eni-0", "eni-2"], &["eni-0", "eni-2"]),
            ([&[], &[NO], &[SELF]], &["eni-0", "eni-2"], &["eni-0", "eni-2"]),
            ([&[], &[OTHER], &[SELF]], &["eni-0", "eni-1", "eni-2"], &["eni-0", "eni-2"]),
        ];
        for (tags, with, without) in cases {
            let list = [
                told(0, &["10.20.0.10"], tags[0]),
                told(1, &["10.20.0.20"], tags[1]),
                told(2, &["10.20.0.30"], tags[2]),
            ];
            assert_eq!(ours(&put_together(&walk, Some(&list), true, &[])), with, "{tags:?}");
            assert_eq!(ours(&put_together(&walk, Some(&list), false, &[])), without, "{tags:?}");
        }
    }

    #[test]
    fn without_ec2_what_was_ours_is_ours_and_nothing_else() {
        let walk =
            walk(vec![seen(0, &["10.20.0.10", "10.20.0.11"]), seen(1, &["10.20.0.20"]), seen(2, &["10.20.0.30"])]);
        let facts = put_together(&walk, None, true, &["eni-2"]);
        assert_eq!(ours(&facts), ["eni-0", "eni-2"]);
        assert_eq!(facts.enis.len(), 3, "the other one takes its position all the same");
        assert_eq!(facts.enis[0].slots, [Slot::Address("10.20.0.11".parse().unwrap())]);
        // An answer that lacks an ENI with pods does not take it away.
        let lacking = [told(0, &["10.20.0.10"], &[])];
        assert_eq!(ours(&put_together(&walk, Some(&lacking), true, &["eni-2"])), ["eni-0", "eni-2"]);
    }

    #[test]
    fn where_the_two_differ_ec2_is_right_about_addresses() {
        let walk = walk(vec![seen(0, &["10.20.0.10", "10.20.0.11"])]);
        let list = [told(0, &["10.20.0.10", "10.20.0.12"], &[])];
        let known = BTreeSet::new();
        let ownership = Ownership { manage_untagged: true, known: &known };
        let (facts, notes) = assemble(&node(), &walk, Some(&list), ownership, WallTime(0)).unwrap();
        assert_eq!(facts.enis[0].slots, [Slot::Address("10.20.0.12".parse().unwrap())]);
        assert_eq!(facts.enis[0].attachment, Some("eni-attach-0".parse().unwrap()));
        assert!(notes[0].contains("different addresses on eni-0"), "{notes:?}");
    }

    #[test]
    fn an_eni_the_metadata_do_not_show_yet_takes_part() {
        let walk = walk(vec![seen(0, &["10.20.0.10"])]);
        let list = [told(0, &["10.20.0.10"], &[]), told(1, &["10.20.0.20", "10.20.0.21"], &[SELF])];
        let facts = put_together(&walk, Some(&list), true, &[]);
        assert_eq!(ours(&facts), ["eni-0", "eni-1"]);
        assert_eq!(facts.enis[1].facts.primary, "10.20.0.20".parse::<Ipv4Addr>().unwrap());
    }

    #[test]
    fn trunks_efa_only_enis_and_other_cards_carry_no_pods() {
        let mut other_card = seen(3, &["10.20.0.40"]);
        other_card.card = CardIndex(1);
        let walk = walk(vec![seen(0, &["10.20.0.10"]), seen(1, &["10.20.0.20"]), seen(2, &[]), other_card]);
        let mut trunk = told(1, &["10.20.0.20"], &[SELF]);
        trunk.interface_type = InterfaceType::Trunk;
        let facts = put_together(&walk, Some(&[told(0, &["10.20.0.10"], &[]), trunk]), true, &[]);
        assert_eq!(ours(&facts), ["eni-0"]);
        let positions: Vec<u8> = facts.enis.iter().map(|eni| eni.facts.device.0).collect();
        assert_eq!(positions, [0, 1, 2]);
    }

    #[test]
    fn an_eni_the_metadata_can_not_describe_hides_none_of_the_others() {
        let error = ImdsError { path: "/latest/meta-data/x".into(), failure: ImdsFailure::NotFound };
        let sick = SickEni { mac: mac(1), eni_id: None, error };
        let walk = Walk { sick: vec![sick], ..walk(vec![seen(0, &["10.20.0.10"])]) };
        let list = [told(0, &["10.20.0.10"], &[]), told(1, &["10.20.0.20"], &[SELF])];
        assert_eq!(ours(&put_together(&walk, Some(&list), true, &[])), ["eni-0", "eni-1"], "EC2 knows it");
        assert_eq!(ours(&put_together(&walk, None, true, &[])), ["eni-0"]);
    }

    #[test]
    fn without_a_primary_eni_of_ipv4_there_is_no_node() {
        let known = BTreeSet::new();
        let ownership = Ownership { manage_untagged: true, known: &known };
        let nothing = assemble(&node(), &walk(vec![seen(1, &["10.20.0.20"])]), None, ownership, WallTime(0));
        assert_eq!(nothing, Err(NoPrimary::Unreadable(mac(0))));
        let not_ipv4 = assemble(&node(), &walk(vec![seen(0, &[])]), None, ownership, WallTime(0));
        assert_eq!(not_ipv4, Err(NoPrimary::NotIpv4("eni-0".parse().unwrap())));
    }
}
