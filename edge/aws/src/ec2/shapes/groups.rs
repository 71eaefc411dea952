//! Security groups and their rules.
//!
//! A rule is asked for in one of two spellings: as entries of `IpPermissions`, or, one rule with a network, as parameters of
//! the request itself. [`RuleParameters`] holds both and [`RuleParameters::permissions`] reads them as one list.

use ipnet::{Ipv4Net, Ipv6Net};
use vpc_model::{SecurityGroupId, VpcId};

use super::listing::listing;
use super::query::{param_shape, request, shared_shape};
use super::tags::{Tag, TagSpecification};
use super::xml::xml_shape;

listing! {
    /// Lists security groups.
    #[derive(Default)]
    DescribeSecurityGroups {
        /// The groups; empty = all that pass the filters.
        group_ids: Vec<SecurityGroupId> = "GroupId",
        /// The groups by name (default VPC only).
        group_names: Vec<String> = "GroupName",
    }
    /// A page of security groups.
    DescribeSecurityGroupsResponse {
        /// The groups.
        security_groups: Vec<SecurityGroup> = "securityGroupInfo",
    }
}

xml_shape! {
    /// A security group.
    SecurityGroup {
        /// Its id.
        group_id: SecurityGroupId = "groupId",
        /// Its name.
        group_name: String = "groupName",
        /// Free text.
        description: Option<String> = "groupDescription",
        /// The account.
        owner_id: Option<String> = "ownerId",
        /// Its VPC.
        vpc_id: Option<VpcId> = "vpcId",
        /// What it lets in.
        ip_permissions: Vec<IpPermission> = "ipPermissions",
        /// What it lets out.
        ip_permissions_egress: Vec<IpPermission> = "ipPermissionsEgress",
        /// Its ARN.
        security_group_arn: Option<String> = "securityGroupArn",
        /// Its tags.
        tags: Vec<Tag> = "tagSet",
    }
}

shared_shape! {
    /// What a security group lets through.
    #[derive(Default)]
    IpPermission {
        /// `tcp`, `udp`, `icmp`, a number, or `-1` for all.
        ip_protocol: String = "ipProtocol",
        /// First port or ICMP type; -1 = all.
        from_port: Option<i32> = "fromPort",
        /// Last port or ICMP code; -1 = all.
        to_port: Option<i32> = "toPort",
        /// From or to members of these groups.
        groups: Vec<UserIdGroupPair> = "groups",
        /// From or to these networks.
        ip_ranges: Vec<IpRange> = "ipRanges",
        /// From or to these IPv6 networks.
        ipv6_ranges: Vec<Ipv6Range> = "ipv6Ranges",
        /// From or to the networks of these lists.
        prefix_list_ids: Vec<PrefixListId> = "prefixListIds",
    }
}

shared_shape! {
    /// An IPv4 network in a rule.
    IpRange {
        /// The network.
        cidr_ip: Ipv4Net = "cidrIp",
        /// Free text.
        description: Option<String> = "description",
    }
}

shared_shape! {
    /// An IPv6 network in a rule.
    Ipv6Range {
        /// The network.
        cidr_ipv6: Ipv6Net = "cidrIpv6",
        /// Free text.
        description: Option<String> = "description",
    }
}

shared_shape! {
    /// A list of networks in a rule.
    PrefixListId {
        /// The list (`pl-…`).
        prefix_list_id: String = "prefixListId",
        /// Free text.
        description: Option<String> = "description",
    }
}

shared_shape! {
    /// Another security group in a rule.
    UserIdGroupPair {
        /// The account.
        user_id: Option<String> = "userId",
        /// The group.
        group_id: SecurityGroupId = "groupId",
        /// Its name (answers: default VPC only).
        group_name: Option<String> = "groupName",
        /// Its VPC, if that is another one.
        vpc_id: Option<VpcId> = "vpcId",
        /// The peering connection to that VPC.
        vpc_peering_connection_id: Option<String> = "vpcPeeringConnectionId",
        /// Its state.
        peering_status: Option<String> = "peeringStatus",
        /// Free text.
        description: Option<String> = "description",
    }
}

impl UserIdGroupPair {
    /// A group by id alone.
    #[must_use]
    pub fn new(group_id: SecurityGroupId) -> Self {
        Self {
            user_id: None,
            group_id,
            group_name: None,
            vpc_id: None,
            vpc_peering_connection_id: None,
            peering_status: None,
            description: None,
        }
    }
}

request! {
    /// Creates a security group that lets nothing in and everything out.
    CreateSecurityGroup -> CreateSecurityGroupResponse {
        /// Unique in its VPC, at most 255 characters, not beginning with `sg-`.
        group_name: String = "GroupName",
        /// Free text, at most 255 characters; cannot be changed later.
        description: String = "GroupDescription",
        /// Its VPC; absent = the account's default VPC.
        vpc_id: Option<VpcId> = "VpcId",
        /// Tags it is born with.
        tag_specifications: Vec<TagSpecification> = "TagSpecification",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The new group.
    CreateSecurityGroupResponse {
        /// Its id.
        group_id: SecurityGroupId = "groupId",
        /// Its tags.
        tags: Vec<Tag> = "tagSet",
        /// Its ARN.
        security_group_arn: Option<String> = "securityGroupArn",
    }
}

request! {
    /// Deletes a security group that no ENI has and no rule of another group names. One of id and name is needed.
    #[derive(Default)]
    DeleteSecurityGroup -> DeleteSecurityGroupResponse {
        /// The group.
        group_id: Option<SecurityGroupId> = "GroupId",
        /// The group by name (default VPC only).
        group_name: Option<String> = "GroupName",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// What was deleted.
    DeleteSecurityGroupResponse {
        /// True; EC2 answers failure as an error.
        done: Option<bool> = "return",
        /// The group.
        group_id: Option<SecurityGroupId> = "groupId",
    }
}

param_shape! {
    /// The rules a request means, in either spelling.
    #[derive(Default)]
    RuleParameters {
        /// Any number of rules.
        ip_permissions: Vec<IpPermission> = "IpPermissions",
        /// One rule: `tcp`, `udp`, `icmp`, a number, or `-1` for all.
        ip_protocol: Option<String> = "IpProtocol",
        /// One rule: first port or ICMP type; -1 = all.
        from_port: Option<i32> = "FromPort",
        /// One rule: last port or ICMP code; -1 = all.
        to_port: Option<i32> = "ToPort",
        /// One rule: from or to this network.
        cidr_ip: Option<Ipv4Net> = "CidrIp",
        /// One rule: from a group by name (default VPC only).
        source_security_group_name: Option<String> = "SourceSecurityGroupName",
        /// One rule: the account of that group.
        source_security_group_owner_id: Option<String> = "SourceSecurityGroupOwnerId",
    }
}

impl RuleParameters {
    /// Rules as entries of `IpPermissions`.
    #[must_use]
    pub fn of(ip_permissions: Vec<IpPermission>) -> Self {
        Self { ip_permissions, ..Self::default() }
    }

    /// Whether any parameter of the one-rule spelling is there.
    #[must_use]
    pub fn has_single(&self) -> bool {
        let Self { ip_permissions: _, ip_protocol, from_port, to_port, cidr_ip, .. } = self;
        ip_protocol.is_some()
            || from_port.is_some()
            || to_port.is_some()
            || cidr_ip.is_some()
            || self.source_security_group_name.is_some()
            || self.source_security_group_owner_id.is_some()
    }

    /// The rules of both spellings, the list first. A rule of the one-rule spelling without `IpProtocol` has the empty
    /// text as protocol, and one that names a source group by name is not resolved here (groups of a VPC are named by id).
    #[must_use]
    pub fn permissions(&self) -> Vec<IpPermission> {
        let mut all = self.ip_permissions.clone();
        if self.has_single() {
            all.push(IpPermission {
                ip_protocol: self.ip_protocol.clone().unwrap_or_default(),
                from_port: self.from_port,
                to_port: self.to_port,
                ip_ranges: self
                    .cidr_ip
                    .iter()
                    .map(|cidr_ip| IpRange { cidr_ip: *cidr_ip, description: None })
                    .collect(),
                ..IpPermission::default()
            });
        }
        all
    }
}

request! {
    /// Lets more in. All or nothing; a rule that is there already fails the whole call.
    #[derive(Default)]
    AuthorizeSecurityGroupIngress -> AuthorizeSecurityGroupResponse {
        /// The group.
        group_id: Option<SecurityGroupId> = "GroupId",
        /// The group by name (default VPC only).
        group_name: Option<String> = "GroupName",
        /// The rules.
        rules: RuleParameters = "",
        /// Tags of the rules.
        tag_specifications: Vec<TagSpecification> = "TagSpecification",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Lets more out. All or nothing; a rule that is there already fails the whole call.
    AuthorizeSecurityGroupEgress -> AuthorizeSecurityGroupResponse {
        /// The group.
        group_id: SecurityGroupId = "GroupId",
        /// The rules.
        rules: RuleParameters = "",
        /// Tags of the rules.
        tag_specifications: Vec<TagSpecification> = "TagSpecification",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The new rules.
    AuthorizeSecurityGroupResponse {
        /// True; EC2 answers failure as an error.
        done: Option<bool> = "return",
        /// One for each network and each group of each permission.
        rules: Vec<SecurityGroupRule> = "securityGroupRuleSet",
    }
}

request! {
    /// Lets less in. Rules are named by id or described.
    #[derive(Default)]
    RevokeSecurityGroupIngress -> RevokeSecurityGroupResponse {
        /// The group.
        group_id: Option<SecurityGroupId> = "GroupId",
        /// The group by name (default VPC only).
        group_name: Option<String> = "GroupName",
        /// The rules by id (`sgr-…`).
        security_group_rule_ids: Vec<String> = "SecurityGroupRuleId",
        /// The rules described; descriptions are not compared.
        rules: RuleParameters = "",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Lets less out. Rules are named by id or described.
    RevokeSecurityGroupEgress -> RevokeSecurityGroupResponse {
        /// The group.
        group_id: SecurityGroupId = "GroupId",
        /// The rules by id (`sgr-…`).
        security_group_rule_ids: Vec<String> = "SecurityGroupRuleId",
        /// The rules described; descriptions are not compared.
        rules: RuleParameters = "",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The rules that are gone.
    RevokeSecurityGroupResponse {
        /// True; EC2 answers failure as an error.
        done: Option<bool> = "return",
        /// Described rules that were not there (EC2 answers them only in a default VPC; elsewhere they are an error).
        unknown_ip_permissions: Vec<IpPermission> = "unknownIpPermissionSet",
        /// The rules that were.
        revoked_rules: Vec<RevokedSecurityGroupRule> = "revokedSecurityGroupRuleSet",
    }
}

xml_shape! {
    /// A rule that is gone.
    RevokedSecurityGroupRule {
        /// Its id (`sgr-…`).
        security_group_rule_id: String = "securityGroupRuleId",
        /// Its group.
        group_id: SecurityGroupId = "groupId",
        /// Whether it was about packets going out.
        is_egress: bool = "isEgress",
        /// `tcp`, `udp`, `icmp`, a number, or `-1` for all.
        ip_protocol: String = "ipProtocol",
        /// First port or ICMP type; -1 = all.
        from_port: Option<i32> = "fromPort",
        /// Last port or ICMP code; -1 = all.
        to_port: Option<i32> = "toPort",
        /// From or to this network.
        cidr_ipv4: Option<Ipv4Net> = "cidrIpv4",
        /// From or to this IPv6 network.
        cidr_ipv6: Option<Ipv6Net> = "cidrIpv6",
        /// From or to the networks of this list.
        prefix_list_id: Option<String> = "prefixListId",
        /// From or to members of this group.
        referenced_group_id: Option<SecurityGroupId> = "referencedGroupId",
        /// Free text.
        description: Option<String> = "description",
    }
}

listing! {
    /// Lists rules of security groups.
    #[derive(Default)]
    DescribeSecurityGroupRules {
        /// The rules (`sgr-…`); empty = all that pass the filters.
        security_group_rule_ids: Vec<String> = "SecurityGroupRuleId",
    }
    /// A page of rules.
    DescribeSecurityGroupRulesResponse {
        /// The rules.
        rules: Vec<SecurityGroupRule> = "securityGroupRuleSet",
    }
}

xml_shape! {
    /// A rule of a security group: one network or one group.
    SecurityGroupRule {
        /// Its id (`sgr-…`).
        security_group_rule_id: String = "securityGroupRuleId",
        /// Its group.
        group_id: SecurityGroupId = "groupId",
        /// The account.
        group_owner_id: Option<String> = "groupOwnerId",
        /// Whether it is about packets going out.
        is_egress: bool = "isEgress",
        /// `tcp`, `udp`, `icmp`, a number, or `-1` for all.
        ip_protocol: String = "ipProtocol",
        /// First port or ICMP type; -1 = all.
        from_port: Option<i32> = "fromPort",
        /// Last port or ICMP code; -1 = all.
        to_port: Option<i32> = "toPort",
        /// From or to this network.
        cidr_ipv4: Option<Ipv4Net> = "cidrIpv4",
        /// From or to this IPv6 network.
        cidr_ipv6: Option<Ipv6Net> = "cidrIpv6",
        /// From or to the networks of this list.
        prefix_list_id: Option<String> = "prefixListId",
        /// From or to members of this group.
        referenced_group: Option<ReferencedSecurityGroup> = "referencedGroupInfo",
        /// Free text.
        description: Option<String> = "description",
        /// Its tags.
        tags: Vec<Tag> = "tagSet",
        /// Its ARN.
        security_group_rule_arn: Option<String> = "securityGroupRuleArn",
    }
}

xml_shape! {
    /// A group that a rule names.
    ReferencedSecurityGroup {
        /// Its id.
        group_id: SecurityGroupId = "groupId",
        /// The account.
        user_id: Option<String> = "userId",
        /// Its VPC, if that is another one.
        vpc_id: Option<VpcId> = "vpcId",
        /// The peering connection to that VPC.
        vpc_peering_connection_id: Option<String> = "vpcPeeringConnectionId",
        /// Its state.
        peering_status: Option<String> = "peeringStatus",
    }
}
