//! DescribeSecurityGroups: groups with their rules, grouped by protocol and ports as EC2 groups them.

use vpc_aws::ec2::shapes::{
    DescribeSecurityGroups, DescribeSecurityGroupsResponse, IpPermission, IpRange, SecurityGroup, UserIdGroupPair,
};

use super::Listing;
use super::filter::{Row, all, by_tag, held, keys, not_held, one};
use super::page::{PageRequest, Pages};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::spec::{GroupRule, RulePeer, SecurityGroupSpec, Traffic};

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
        let groups = &self.world.spec.security_groups;
        if let Some(missing) = ids.iter().find(|id| !groups.iter().any(|group| group.id == **id)) {
            return Err(ApiError::no_group(missing));
        }
        if !request.group_names.is_empty() {
            return Err(ApiError::no_default_vpc());
        }
        let asked = groups.iter().filter(|group| ids.is_empty() || ids.contains(&group.id));
        let (security_groups, next_token) =
            question.answer(asked.map(|group| (group.id.to_string(), self.show_group(group))));
        Ok(DescribeSecurityGroupsResponse { security_groups, next_token })
    }

    fn show_group(&self, group: &SecurityGroupSpec) -> SecurityGroup {
        SecurityGroup {
            group_id: group.id.clone(),
            group_name: group.name.clone(),
            description: Some(group.description.clone()),
            owner_id: Some(self.account()),
            vpc_id: Some(self.world.spec.vpc.id.clone()),
            ip_permissions: self.show_rules(&group.ingress),
            ip_permissions_egress: self.show_rules(&group.egress),
            tags: self.tags_of(group.id.as_str()),
        }
    }

    /// Rules for the same protocol and ports make one permission; permissions come in the order of their first rules.
    fn show_rules(&self, rules: &[GroupRule]) -> Vec<IpPermission> {
        let mut permissions: Vec<(Traffic, IpPermission)> = Vec::new();
        for rule in rules {
            let at = permissions.iter().position(|(traffic, _)| *traffic == rule.traffic).unwrap_or_else(|| {
                permissions.push((rule.traffic, permission(rule.traffic)));
                permissions.len() - 1
            });
            if let Some((_, permission)) = permissions.get_mut(at) {
                self.add_peer(permission, rule);
            }
        }
        permissions.into_iter().map(|(_, permission)| permission).collect()
    }

    fn add_peer(&self, permission: &mut IpPermission, rule: &GroupRule) {
        let description = rule.description.clone();
        match &rule.peer {
            RulePeer::Cidr(cidr) => permission.ip_ranges.push(IpRange { cidr_ip: *cidr, description }),
            RulePeer::Group(id) => permission.groups.push(UserIdGroupPair {
                user_id: Some(self.account()),
                group_id: id.clone(),
                description,
            }),
        }
    }
}

/// A permission for some traffic that lets nobody through yet.
fn permission(traffic: Traffic) -> IpPermission {
    let (ip_protocol, ports) = shown(traffic);
    IpPermission {
        ip_protocol,
        from_port: ports.map(|(from, _)| from),
        to_port: ports.map(|(_, to)| to),
        groups: Vec::new(),
        ip_ranges: Vec::new(),
        ipv6_ranges: Vec::new(),
    }
}

/// Protocol and ports as EC2 writes them: ICMP has type and code in the place of ports, -1 for all.
pub(super) fn shown(traffic: Traffic) -> (String, Option<(i32, i32)>) {
    let ports = |from: u16, to: u16| Some((i32::from(from), i32::from(to)));
    let icmp = |number: Option<u8>| number.map_or(-1, i32::from);
    match traffic {
        Traffic::All => ("-1".to_owned(), None),
        Traffic::Tcp(from, to) => ("tcp".to_owned(), ports(from, to)),
        Traffic::Udp(from, to) => ("udp".to_owned(), ports(from, to)),
        Traffic::Icmp(kind, code) => ("icmp".to_owned(), Some((icmp(kind), icmp(code)))),
        Traffic::Protocol(number) => (number.to_string(), None),
    }
}
