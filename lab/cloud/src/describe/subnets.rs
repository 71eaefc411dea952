//! DescribeSubnets.

use vpc_aws::ec2::shapes::{DescribeSubnets, DescribeSubnetsResponse, SubnetDescription};

use vpc_model::SubnetId;

use super::filter::{Row, all, by_tag, held, keys, not_held, one};
use super::page::{PageRequest, Pages};
use super::{Listing, look_up, show_tags};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::world::SubnetState;

pub(super) const SUBNETS: Listing<SubnetDescription> =
    Listing { action: "DescribeSubnets", filters: FILTERS, pages: Some(Pages::THOUSAND) };

/// Some filters have other names from before all names were alike.
const FILTERS: &[Row<SubnetDescription>] = &[
    held("availability-zone", |own| one(&own.availability_zone)),
    held("availabilityZone", |own| one(&own.availability_zone)),
    held("availability-zone-id", |own| all(&own.availability_zone_id)),
    held("availabilityZoneId", |own| all(&own.availability_zone_id)),
    held("available-ip-address-count", |own| one(own.available_ip_address_count)),
    held("cidr-block", |own| all(own.cidr_block)),
    held("cidr", |own| all(own.cidr_block)),
    held("cidrBlock", |own| all(own.cidr_block)),
    not_held("customer-owned-ipv4-pool"),
    held("default-for-az", |own| all(own.default_for_az)),
    held("defaultForAz", |own| all(own.default_for_az)),
    not_held("enable-dns64"),
    not_held("enable-lni-at-device-index"),
    not_held("ipv6-cidr-block-association.ipv6-cidr-block"),
    not_held("ipv6-cidr-block-association.association-id"),
    not_held("ipv6-cidr-block-association.state"),
    not_held("ipv6-native"),
    not_held("map-customer-owned-ip-on-launch"),
    held("map-public-ip-on-launch", |own| all(own.map_public_ip_on_launch)),
    not_held("outpost-arn"),
    held("owner-id", |own| all(&own.owner_id)),
    not_held("private-dns-name-options-on-launch.hostname-type"),
    not_held("private-dns-name-options-on-launch.enable-resource-name-dns-a-record"),
    not_held("private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record"),
    held("state", |own| all(&own.state)),
    held("subnet-arn", |own| all(&own.subnet_arn)),
    held("subnet-id", |own| one(&own.subnet_id)),
    by_tag(|own| &own.tags),
    held("tag-key", |own| keys(&own.tags)),
    held("vpc-id", |own| one(&own.vpc_id)),
];

impl Cloud {
    pub(crate) fn describe_subnets(&self, request: &DescribeSubnets) -> Result<DescribeSubnetsResponse, ApiError> {
        let ids = &request.subnet_ids;
        let page = PageRequest {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: !ids.is_empty(),
        };
        let question = SUBNETS.ask(self, &request.filters, page)?;
        let form = (SubnetId::PREFIX, "InvalidSubnetID.Malformed");
        look_up(ids, form, |id| self.world.subnets.contains_key(id), ApiError::no_subnet)?;
        let asked = self.world.subnets.iter().filter(|(id, _)| ids.is_empty() || ids.contains(id));
        let (subnets, next_token) =
            question.answer(asked.map(|(id, subnet)| (id.to_string(), self.show_subnet(subnet))));
        Ok(DescribeSubnetsResponse { subnets, next_token })
    }

    pub(crate) fn show_subnet(&self, subnet: &SubnetState) -> SubnetDescription {
        let spec = &subnet.spec;
        let (region, account) = (&self.world.spec.region, &self.world.spec.account_id);
        SubnetDescription {
            subnet_id: spec.id.clone(),
            subnet_arn: Some(format!("arn:aws:ec2:{region}:{account}:subnet/{}", spec.id)),
            vpc_id: self.world.spec.vpc.id.clone(),
            owner_id: Some(account.clone()),
            state: Some("available".to_owned()),
            cidr_block: Some(spec.cidr),
            ipv6_cidr_block_associations: Vec::new(),
            available_ip_address_count: subnet.pool.free(),
            availability_zone: spec.zone.clone(),
            availability_zone_id: self.zone_id(&spec.zone),
            default_for_az: Some(false),
            map_public_ip_on_launch: Some(spec.map_public_ip),
            assign_ipv6_address_on_creation: Some(false),
            tags: show_tags(&subnet.tags),
        }
    }
}
