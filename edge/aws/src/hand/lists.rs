//! What is listed: by which filters, and what of it matters.

use vpc_agent::{CloudAnswer, LeakedEni, SubnetTruth};

use super::{CLUSTER_TAG, CREATED_AT_TAG, INSTANCE_TAG, Place, read_calendar, texts};
use crate::ec2::shapes::{
    DescribeNetworkInterfaces, DescribeSubnets, Filter, InstanceTypeInfo, NetworkInterface, SubnetDescription,
};

/// Whose ENIs are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// Those of this instance.
    OfNode,
    /// Those that this daemon made for this instance and that nothing uses.
    Strays,
    /// Those that a daemon like this made for any node of the cluster and that nothing uses.
    Leaked,
}

impl Sought {
    pub(super) fn request(self, place: &Place) -> DescribeNetworkInterfaces {
        let unused = || Filter::new("status", ["available"]);
        let filters = match self {
            Self::OfNode => vec![Filter::new("attachment.instance-id", [place.instance.as_str()])],
            Self::Strays => vec![Filter::new(format!("tag:{INSTANCE_TAG}"), [place.instance.as_str()]), unused()],
            Self::Leaked => {
                let of_cluster =
                    place.cluster.iter().map(|name| Filter::new(format!("tag:{CLUSTER_TAG}"), [name.as_str()]));
                let ours =
                    [Filter::new("tag-key", [INSTANCE_TAG]), unused(), Filter::new("vpc-id", [place.vpc.as_str()])];
                ours.into_iter().chain(of_cluster).collect()
            }
        };
        DescribeNetworkInterfaces { filters, ..Default::default() }
    }

    pub(super) fn found(self, place: &Place, found: Vec<NetworkInterface>) -> CloudAnswer {
        let found = found.into_iter();
        let called = |eni: &NetworkInterface, text: &str| eni.description.as_deref() == Some(text);
        match self {
            Self::OfNode => CloudAnswer::Node(found.filter_map(|eni| place.truth(eni)).collect()),
            Self::Strays => {
                let own = place.description();
                CloudAnswer::Strays(found.filter(|eni| called(eni, &own)).map(|e| e.network_interface_id).collect())
            }
            Self::Leaked => CloudAnswer::Leaked(found.filter(is_ours).map(leaked).collect()),
        }
    }
}

/// Our kind of description.
fn is_ours(eni: &NetworkInterface) -> bool {
    eni.description.as_deref().is_some_and(|text| text.starts_with(super::DESCRIPTION))
}

fn leaked(eni: NetworkInterface) -> LeakedEni {
    let created = eni.tags.iter().find(|tag| tag.key == CREATED_AT_TAG);
    LeakedEni { created: created.and_then(|tag| read_calendar(&tag.value)), id: eni.network_interface_id }
}

/// The subnets of the node's zone.
pub(super) fn subnets_of(place: &Place) -> DescribeSubnets {
    let filters =
        vec![Filter::new("vpc-id", [place.vpc.as_str()]), Filter::new("availability-zone", [place.zone.as_str()])];
    DescribeSubnets { filters, ..Default::default() }
}

/// Limits of the default network card: the whole of an instance with several cards is more.
pub(super) fn limits(found: InstanceTypeInfo) -> Option<CloudAnswer> {
    let network = found.network_info?;
    let card = network.default_network_card_index.unwrap_or_default();
    let on_card =
        network.network_cards.iter().find(|c| c.network_card_index == card).and_then(|c| c.maximum_network_interfaces);
    let max_enis = on_card.or(network.maximum_network_interfaces)?;
    let addresses = network.ipv4_addresses_per_interface.filter(|addresses| *addresses > 1)?;
    let prefixes = found.bare_metal == Some(true) || found.hypervisor.as_deref() == Some("nitro");
    Some(CloudAnswer::Limits { max_enis, slots_per_eni: addresses - 1, prefixes })
}

/// A subnet without an IPv4 network is of no use here.
pub(super) fn subnet(found: SubnetDescription) -> Option<SubnetTruth> {
    Some(SubnetTruth {
        net: found.cidr_block?,
        id: found.subnet_id,
        vpc: found.vpc_id,
        zone: found.availability_zone,
        free: found.available_ip_address_count,
        tags: texts(&found.tags),
    })
}
