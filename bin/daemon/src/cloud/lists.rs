//! What is listed, and what is changed without an answer worth keeping.

use std::collections::BTreeMap;

use vpc_agent::{CloudAnswer, LeakedEni, SubnetTruth};
use vpc_aws::ec2::Ec2Error;
use vpc_aws::ec2::shapes::{
    CreateTags, DescribeInstanceTypes, DescribeNetworkInterfaces, DescribeSubnets, Filter, InstanceTypeInfo,
    NetworkInterface, SubnetDescription, Tag, UnassignPrivateIpAddresses,
};
use vpc_ipam::Unit;
use vpc_model::{EniId, Slot, SubnetId};

use super::{CLUSTER_TAG, CREATED_AT_TAG, Ec2Hand, INSTANCE_TAG, nonsense};

impl Ec2Hand {
    /// Takes addresses, then prefixes, off an ENI: EC2 takes only one kind in a request.
    pub(super) async fn unassign(&self, eni: EniId, slots: Vec<Slot>) -> Result<CloudAnswer, Ec2Error> {
        let (prefixes, addresses): (Vec<Slot>, Vec<Slot>) =
            slots.into_iter().partition(|slot| Unit::of(*slot) == Unit::Prefix);
        for some in [addresses, prefixes].into_iter().filter(|some| !some.is_empty()) {
            let request = UnassignPrivateIpAddresses {
                network_interface_id: eni.clone(),
                private_ip_addresses: some.iter().filter_map(|slot| slot.address()).collect(),
                ipv4_prefixes: some.iter().filter_map(|slot| slot.prefix()).collect(),
            };
            self.client.call(&request).await?;
        }
        Ok(CloudAnswer::Done)
    }

    pub(super) async fn tag(&self, enis: Vec<EniId>, tags: BTreeMap<String, String>) -> Result<CloudAnswer, Ec2Error> {
        let request = CreateTags {
            resources: enis.iter().map(ToString::to_string).collect(),
            tags: tags.into_iter().map(|(key, value)| Tag { key, value }).collect(),
            dry_run: None,
        };
        self.client.call(&request).await.map(|_| CloudAnswer::Done)
    }

    /// The zone's subnets in one call, others in a second one.
    pub(super) async fn subnets(&self, also: Vec<SubnetId>) -> Result<CloudAnswer, Ec2Error> {
        let filters = vec![
            Filter::new("vpc-id", [self.place.vpc.as_str()]),
            Filter::new("availability-zone", [self.place.zone.as_str()]),
        ];
        let request = DescribeSubnets { filters, ..Default::default() };
        let mut found = self.client.all_pages(&request).await?;
        let lacking: Vec<SubnetId> =
            also.into_iter().filter(|id| found.iter().all(|subnet| subnet.subnet_id != *id)).collect();
        if !lacking.is_empty() {
            let request = DescribeSubnets { subnet_ids: lacking, ..Default::default() };
            match self.client.call(&request).await {
                Ok(answer) => found.extend(answer.subnets),
                // One that does not exist is simply not in the list.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(CloudAnswer::Subnets(found.into_iter().filter_map(subnet).collect()))
    }

    /// ENIs with an instance's tag (and the cluster's, if it has a name) and our kind of description that nothing uses.
    pub(super) async fn leaked(&self) -> Result<CloudAnswer, Ec2Error> {
        let mut filters = vec![
            Filter::new("tag-key", [INSTANCE_TAG]),
            Filter::new("status", ["available"]),
            Filter::new("vpc-id", [self.place.vpc.as_str()]),
        ];
        if let Some(cluster) = &self.place.cluster {
            filters.push(Filter::new(format!("tag:{CLUSTER_TAG}"), [cluster.as_str()]));
        }
        let found = self.client.all_pages(&DescribeNetworkInterfaces { filters, ..Default::default() }).await?;
        let ours = |eni: &NetworkInterface| eni.description.as_deref().is_some_and(|text| text.starts_with("aws-K8S-"));
        let leaked = |eni: NetworkInterface| {
            let created = eni.tags.iter().find(|tag| tag.key == CREATED_AT_TAG);
            let created = created.and_then(|tag| crate::clock::parse_calendar(&tag.value));
            LeakedEni { id: eni.network_interface_id, created }
        };
        Ok(CloudAnswer::Leaked(found.into_iter().filter(ours).map(leaked).collect()))
    }

    pub(super) async fn limits(&self) -> Result<CloudAnswer, Ec2Error> {
        let request =
            DescribeInstanceTypes { instance_types: vec![self.place.instance_type.clone()], ..Default::default() };
        let types = self.client.call(&request).await?.instance_types;
        types.into_iter().find_map(limits).ok_or_else(|| {
            nonsense("DescribeInstanceTypes", &self.place.instance_type, "EC2 does not say how many ENIs it may have")
        })
    }
}

/// Limits of the default network card: the whole of an instance with several cards is more.
fn limits(found: InstanceTypeInfo) -> Option<CloudAnswer> {
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
fn subnet(found: SubnetDescription) -> Option<SubnetTruth> {
    Some(SubnetTruth {
        net: found.cidr_block?,
        id: found.subnet_id,
        vpc: found.vpc_id,
        zone: found.availability_zone,
        free: found.available_ip_address_count,
        tags: super::texts(&found.tags),
    })
}
