//! DescribeSecurityGroups: groups with their rules, grouped by protocol and ports as EC2 groups them.

use vpc_aws::ec2::shapes::{DescribeSecurityGroups, DescribeSecurityGroupsResponse, IpPermission, SecurityGroup};

use vpc_model::SecurityGroupId;

use super::filter::{Row, all, by_tag, held, keys, not_held, one};
use super::page::{PageRequest, Pages};
use super::{Listing, look_up, show_tags};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::permissions::permissions;
use crate::world::Group;

pub(super) const SECURITY_GROUPS: Listing<SecurityGroup> =
    Listing { action: "DescribeSecurityGroups", filters: FILTERS, pages: Some(Pages::THOUSAND) };

const FILTERS: &[Row<SecurityGroup>] = &[
    held("description", |own| all(&own.description)),
    held("egress.ip-permission.cidr", |own| {
        each(&own.ip_permissions_egress, |rule| all(rule.ip_ranges.iter().map(|range| range.cidr_ip)))
    }),
    held("egress.ip-permission.from-port", |own| each(&own.ip_permissions_egress, |rule| all(rule.from_port))),
    held("egress.ip-permission.group-id", |own| {
        each(&own.ip_permissions_egress, |rule| all(rule.groups.iter().map(|pair| &pair.group_id)))
    }),
    not_held("egress.ip-permission.group-name"),
    not_held("egress.ip-permission.ipv6-cidr"),
    not_held("egress.ip-permission.prefix-list-id"),
    held("egress.ip-permission.protocol", |own| each(&own.ip_permissions_egress, |rule| one(&rule.ip_protocol))),
    held("egress.ip-permission.to-port", |own| each(&own.ip_permissions_egress, |rule| all(rule.to_port))),
    held("egress.ip-permission.user-id", |own| {
        each(&own.ip_permissions_egress, |rule| all(rule.groups.iter().filter_map(|pair| pair.user_id.as_ref())))
    }),
    held("group-id", |own| one(&own.group_id)),
    held("group-name", |own| one(&own.group_name)),
    held("ip-permission.cidr", |own| {
        each(&own.ip_permissions, |rule| all(rule.ip_ranges.iter().map(|range| range.cidr_ip)))
    }),
    held("ip-permission.from-port", |own| each(&own.ip_permissions, |rule| all(rule.from_port))),
    held("ip-permission.group-id", |own| {
        each(&own.ip_permissions, |rule| all(rule.groups.iter().map(|pair| &pair.group_id)))
    }),
    not_held("ip-permission.group-name"),
    not_held("ip-permission.ipv6-cidr"),
    not_held("ip-permission.prefix-list-id"),
    held("ip-permission.protocol", |own| each(&own.ip_permissions, |rule| one(&rule.ip_protocol))),
    held("ip-permission.to-port", |own| each(&own.ip_permissions, |rule| all(rule.to_port))),
    held("ip-permission.user-id", |own| {
        each(&own.ip_permissions, |rule| all(rule.groups.iter().filter_map(|pair| pair.user_id.as_ref())))
    }),
    held("owner-id", |own| all(&own.owner_id)),
    by_tag(|own| &own.tags),
    held("tag-key", |own| keys(&own.tags)),
    held("vpc-id", |own| all(&own.vpc_id)),
];

/// Values of all permissions.
fn each(permissions: &[IpPermission], values: impl Fn(&IpPermission) -> Vec<String>) -> Vec<String> {
    permissions.iter().flat_map(values).collect()
}

impl Cloud {
    pub(crate) fn describe_groups(
        &self,
        request: &DescribeSecurityGroups,
    ) -> Result<DescribeSecurityGroupsResponse, ApiError> {
        let ids = &request.group_ids;
        let page = PageRequest {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: !ids.is_empty(),
        };
        let question = SECURITY_GROUPS.ask(self, &request.filters, page)?;
        let groups = &self.world.groups;
        let form = (SecurityGroupId::PREFIX, "InvalidGroupId.Malformed");
        look_up(ids, form, |id| groups.contains_key(id), ApiError::no_group)?;
        if !request.group_names.is_empty() {
            return Err(ApiError::no_default_vpc());
        }
        let asked = groups.values().filter(|group| ids.is_empty() || ids.contains(&group.id));
        let (security_groups, next_token) =
            question.answer(asked.map(|group| (group.id.to_string(), self.show_group(group))));
        Ok(DescribeSecurityGroupsResponse { security_groups, next_token })
    }

    pub(crate) fn show_group(&self, group: &Group) -> SecurityGroup {
        let account = self.account();
        SecurityGroup {
            group_id: group.id.clone(),
            group_name: group.name.clone(),
            description: Some(group.description.clone()),
            vpc_id: Some(self.world.spec.vpc.id.clone()),
            ip_permissions: permissions(&group.ingress, &account),
            ip_permissions_egress: permissions(&group.egress, &account),
            tags: show_tags(&group.tags),
            security_group_arn: Some(format!(
                "arn:aws:ec2:{}:{account}:security-group/{}",
                self.world.spec.region, group.id
            )),
            owner_id: Some(account),
        }
    }
}
