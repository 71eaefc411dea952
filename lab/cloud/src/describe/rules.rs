//! DescribeSecurityGroupRules: the rules of all groups, one network or one group each.

use vpc_aws::ec2::shapes::{
    DescribeSecurityGroupRules, DescribeSecurityGroupRulesResponse, ReferencedSecurityGroup, SecurityGroupRule,
};

use super::filter::{Row, by_tag, held, one};
use super::page::{PageRequest, Pages};
use super::{Listing, look_up, show_tags};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::permissions::words;
use crate::spec::RulePeer;
use crate::world::{Group, Rule};

pub(super) const RULES: Listing<SecurityGroupRule> =
    Listing { action: "DescribeSecurityGroupRules", filters: FILTERS, pages: Some(Pages::THOUSAND) };

const FILTERS: &[Row<SecurityGroupRule>] = &[
    held("group-id", |own| one(&own.group_id)),
    held("security-group-rule-id", |own| one(&own.security_group_rule_id)),
    by_tag(|own| &own.tags),
];

impl Cloud {
    pub(crate) fn describe_rules(
        &self,
        request: &DescribeSecurityGroupRules,
    ) -> Result<DescribeSecurityGroupRulesResponse, ApiError> {
        let ids = &request.security_group_rule_ids;
        let page = PageRequest {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: !ids.is_empty(),
        };
        let question = RULES.ask(self, &request.filters, page)?;
        let rules: Vec<_> = self.world.groups.values().flat_map(rules_of).collect();
        let form = ("sgr-", "InvalidSecurityGroupRuleId.Malformed");
        look_up(ids, form, |id| rules.iter().any(|(_, _, rule)| rule.id == *id), ApiError::no_rule)?;
        let asked = rules.into_iter().filter(|(_, _, rule)| ids.is_empty() || ids.contains(&rule.id));
        let shown = asked.map(|(group, is_egress, rule)| (rule.id.clone(), self.show_rule(group, is_egress, rule)));
        let (rules, next_token) = question.answer(shown);
        Ok(DescribeSecurityGroupRulesResponse { rules, next_token })
    }

    /// A rule of a group as EC2 shows it.
    pub(crate) fn show_rule(&self, group: &Group, is_egress: bool, rule: &Rule) -> SecurityGroupRule {
        let (region, account) = (&self.world.spec.region, &self.world.spec.account_id);
        let (ip_protocol, ports) = words(rule.rule.traffic);
        let (cidr_ipv4, referenced) = match &rule.rule.peer {
            RulePeer::Cidr(cidr) => (Some(*cidr), None),
            RulePeer::Group(id) => (None, Some(id)),
        };
        SecurityGroupRule {
            security_group_rule_id: rule.id.clone(),
            group_id: group.id.clone(),
            group_owner_id: Some(account.clone()),
            is_egress,
            ip_protocol,
            // Where a permission leaves ports out, a rule has -1.
            from_port: Some(ports.map_or(-1, |(from, _)| from)),
            to_port: Some(ports.map_or(-1, |(_, to)| to)),
            cidr_ipv4,
            cidr_ipv6: None,
            prefix_list_id: None,
            referenced_group: referenced.map(|id| ReferencedSecurityGroup {
                group_id: id.clone(),
                user_id: Some(account.clone()),
                vpc_id: None,
                vpc_peering_connection_id: None,
                peering_status: None,
            }),
            description: rule.rule.description.clone(),
            tags: show_tags(&rule.tags),
            security_group_rule_arn: Some(format!("arn:aws:ec2:{region}:{account}:security-group-rule/{}", rule.id)),
        }
    }
}

/// The rules of a group with their direction: `true` is egress.
fn rules_of(group: &Group) -> impl Iterator<Item = (&Group, bool, &Rule)> {
    let ingress = group.ingress.iter().map(move |rule| (group, false, rule));
    ingress.chain(group.egress.iter().map(move |rule| (group, true, rule)))
}
