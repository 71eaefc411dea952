//! Security groups and their rules.

use std::sync::Arc;

use vpc_aws::ec2::shapes::{
    AuthorizeSecurityGroupEgress, AuthorizeSecurityGroupIngress, AuthorizeSecurityGroupResponse, CreateSecurityGroup,
    CreateSecurityGroupResponse, DeleteSecurityGroup, DeleteSecurityGroupResponse, ResourceType,
    RevokeSecurityGroupEgress, RevokeSecurityGroupIngress, RevokeSecurityGroupResponse, RuleParameters,
    TagSpecification,
};
use vpc_model::SecurityGroupId;

use super::tags::tags_of;
use crate::cloud::Cloud;
use crate::describe::show_tags;
use crate::describe::well_formed;
use crate::error::ApiError;
use crate::ids::checked;
use crate::permissions::{read_permission, show_revoked, words_of};
use crate::spec::{GroupRule, RulePeer, SecurityGroupSpec};
use crate::world::{Group, Rule};

/// Groups a region may have, and rules a group may have in each direction (the account's default quotas).
const MAX_GROUPS: usize = 2500;
const MAX_RULES: usize = 60;
/// Characters of a group's name and of its description.
const MAX_TEXT: usize = 255;

/// In which direction a rule lets packets through, seen from the members of its group.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

impl Cloud {
    pub(super) fn create_group(
        &mut self,
        request: &CreateSecurityGroup,
    ) -> Result<CreateSecurityGroupResponse, ApiError> {
        let name = &request.group_name;
        let vpc = request.vpc_id.as_ref().ok_or_else(ApiError::no_default_vpc)?;
        self.check_vpc(vpc)?;
        check_text("GroupName", name)?;
        check_text("GroupDescription", &request.description)?;
        if name.to_ascii_lowercase().starts_with("sg-") {
            return Err(ApiError::value(format!(
                "Value ({name}) for parameter GroupName is invalid. Group names may not be in the format sg-*."
            )));
        }
        if name == "default" {
            return Err(ApiError::value("Cannot use reserved security group name: default"));
        }
        if self.world.groups.values().any(|group| group.name == *name) {
            let text = format!("The security group '{name}' already exists for VPC '{vpc}'");
            return Err(ApiError::client("InvalidGroup.Duplicate", text));
        }
        let tags = tags_of(&request.tag_specifications, &ResourceType::SecurityGroup)?;
        if self.world.groups.len() >= MAX_GROUPS {
            let text = format!("The maximum number of security groups ({MAX_GROUPS}) has been reached.");
            return Err(ApiError::client("SecurityGroupLimitExceeded", text));
        }
        let id: SecurityGroupId = checked(&self.dice.id(SecurityGroupId::PREFIX));
        // Nothing may come in, everything may go out.
        let plain = SecurityGroupSpec::new(name);
        let spec = SecurityGroupSpec { id: id.clone(), description: request.description.clone(), tags, ..plain };
        let shown = show_tags(&spec.tags);
        Arc::make_mut(&mut self.world.groups).insert(id.clone(), Group::of_spec(&spec));
        self.network_changed();
        let (region, account) = (&self.world.spec.region, &self.world.spec.account_id);
        let arn = format!("arn:aws:ec2:{region}:{account}:security-group/{id}");
        Ok(CreateSecurityGroupResponse { group_id: id, tags: shown, security_group_arn: Some(arn) })
    }

    pub(super) fn delete_group(
        &mut self,
        request: &DeleteSecurityGroup,
    ) -> Result<DeleteSecurityGroupResponse, ApiError> {
        let id = named_group(request.group_id.as_ref(), request.group_name.as_deref())?;
        let group = self.group(id)?;
        if *id == self.world.default_group {
            let text = format!("the specified group: \"{id}\" name: \"{}\" cannot be deleted by a user", group.name);
            return Err(ApiError::client("CannotDelete", text));
        }
        let names = |rule: &Rule| rule.rule.peer == RulePeer::Group(id.clone());
        let others = self.world.groups.values().filter(|other| other.id != *id);
        let in_rules = others.into_iter().any(|other| other.ingress.iter().chain(&other.egress).any(names));
        if in_rules || self.world.enis.values().any(|eni| eni.groups.contains(id)) {
            return Err(ApiError::dependency(format!("resource {id} has a dependent object")));
        }
        Arc::make_mut(&mut self.world.groups).remove(id);
        self.network_changed();
        Ok(DeleteSecurityGroupResponse { done: Some(true), group_id: Some(id.clone()) })
    }

    // -- rules ---------------------------------------------------------------------------------------------------------

    pub(super) fn authorize_ingress(
        &mut self,
        request: &AuthorizeSecurityGroupIngress,
    ) -> Result<AuthorizeSecurityGroupResponse, ApiError> {
        let id = named_group(request.group_id.as_ref(), request.group_name.as_deref())?;
        self.authorize(id, Way::In, &request.rules, &request.tag_specifications)
    }

    pub(super) fn authorize_egress(
        &mut self,
        request: &AuthorizeSecurityGroupEgress,
    ) -> Result<AuthorizeSecurityGroupResponse, ApiError> {
        self.authorize(&request.group_id, Way::Out, &request.rules, &request.tag_specifications)
    }

    fn authorize(
        &mut self,
        id: &SecurityGroupId,
        way: Way,
        asked: &RuleParameters,
        tags: &[TagSpecification],
    ) -> Result<AuthorizeSecurityGroupResponse, ApiError> {
        self.group(id)?;
        let new = self.rules_of(asked)?;
        if new.is_empty() {
            return Err(ApiError::missing("ipPermissions"));
        }
        let tags = tags_of(tags, &ResourceType::SecurityGroupRule)?;
        let there = self.rules(id, way)?;
        for (n, rule) in new.iter().enumerate() {
            if new.iter().take(n).any(|other| same(other, rule)) {
                return Err(ApiError::value("The same permission must not appear multiple times"));
            }
            if there.iter().any(|other| same(&other.rule, rule)) {
                let text = format!("the specified rule \"{}\" already exists", words_of(rule));
                return Err(ApiError::client("InvalidPermission.Duplicate", text));
            }
        }
        if there.len() + new.len() > MAX_RULES {
            return Err(ApiError::client(
                "RulesPerSecurityGroupLimitExceeded",
                "The maximum number of rules per security group has been reached.",
            ));
        }
        let new: Vec<_> =
            new.into_iter().map(|rule| Rule { id: self.dice.id("sgr-"), rule, tags: tags.clone() }).collect();
        self.rules_mut(id, way)?.extend(new.iter().cloned());
        let group = self.group(id)?;
        let rules = new.iter().map(|rule| self.show_rule(group, way == Way::Out, rule)).collect();
        self.network_changed();
        Ok(AuthorizeSecurityGroupResponse { done: Some(true), rules })
    }

    pub(super) fn revoke_ingress(
        &mut self,
        request: &RevokeSecurityGroupIngress,
    ) -> Result<RevokeSecurityGroupResponse, ApiError> {
        let id = named_group(request.group_id.as_ref(), request.group_name.as_deref())?;
        self.revoke(id, Way::In, &request.rules, &request.security_group_rule_ids)
    }

    pub(super) fn revoke_egress(
        &mut self,
        request: &RevokeSecurityGroupEgress,
    ) -> Result<RevokeSecurityGroupResponse, ApiError> {
        self.revoke(&request.group_id, Way::Out, &request.rules, &request.security_group_rule_ids)
    }

    fn revoke(
        &mut self,
        id: &SecurityGroupId,
        way: Way,
        described: &RuleParameters,
        by_id: &[String],
    ) -> Result<RevokeSecurityGroupResponse, ApiError> {
        self.group(id)?;
        let described = self.rules_of(described)?;
        if described.is_empty() == by_id.is_empty() {
            return Err(ApiError::client(
                if by_id.is_empty() { "MissingParameter" } else { "InvalidParameterCombination" },
                "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.",
            ));
        }
        well_formed(by_id, "sgr-", "InvalidSecurityGroupRuleId.Malformed")?;
        let there = self.rules(id, way)?;
        if let Some(stranger) = by_id.iter().find(|wanted| !there.iter().any(|rule| rule.id == **wanted)) {
            return Err(ApiError::no_rule(stranger));
        }
        if described.iter().any(|wanted| !there.iter().any(|rule| same(&rule.rule, wanted))) {
            return Err(ApiError::client(
                "InvalidPermission.NotFound",
                "The specified rule does not exist in this security group.",
            ));
        }
        let goes = |rule: &Rule| by_id.contains(&rule.id) || described.iter().any(|wanted| same(&rule.rule, wanted));
        let rules = self.rules_mut(id, way)?;
        let gone: Vec<_> = rules.iter().filter(|rule| goes(rule)).cloned().collect();
        rules.retain(|rule| !goes(rule));
        self.network_changed();
        Ok(RevokeSecurityGroupResponse {
            done: Some(true),
            unknown_ip_permissions: Vec::new(),
            revoked_rules: gone.iter().map(|rule| show_revoked(rule, id, way == Way::Out)).collect(),
        })
    }

    /// The rules a request describes: one for each network and each group of each permission.
    fn rules_of(&self, asked: &RuleParameters) -> Result<Vec<GroupRule>, ApiError> {
        if asked.source_security_group_name.is_some() {
            return Err(ApiError::no_default_vpc());
        }
        let mut rules = Vec::new();
        for permission in asked.permissions() {
            rules.extend(read_permission(&permission)?);
        }
        let peers = rules.iter().filter_map(|rule| match &rule.peer {
            RulePeer::Group(group) => Some(group),
            RulePeer::Cidr(_) => None,
        });
        for group in peers {
            self.group(group)?;
        }
        Ok(rules)
    }

    fn group(&self, id: &SecurityGroupId) -> Result<&Group, ApiError> {
        self.world.groups.get(id).ok_or_else(|| ApiError::no_group(id))
    }

    fn rules(&self, id: &SecurityGroupId, way: Way) -> Result<&[Rule], ApiError> {
        let group = self.group(id)?;
        Ok(if way == Way::In { &group.ingress } else { &group.egress })
    }

    fn rules_mut(&mut self, id: &SecurityGroupId, way: Way) -> Result<&mut Vec<Rule>, ApiError> {
        let groups = Arc::make_mut(&mut self.world.groups);
        let group = groups.get_mut(id).ok_or_else(|| ApiError::no_group(id))?;
        Ok(if way == Way::In { &mut group.ingress } else { &mut group.egress })
    }
}

/// The group that a request means: VPCs' groups go by id.
fn named_group<'a>(id: Option<&'a SecurityGroupId>, name: Option<&str>) -> Result<&'a SecurityGroupId, ApiError> {
    match (id, name) {
        (Some(id), None) => Ok(id),
        (None, None) => {
            Err(ApiError::client("MissingParameter", "The request must contain the parameter groupName or groupId"))
        }
        (Some(_), Some(_)) => {
            Err(ApiError::combination("The parameters groupId and groupName may not be given together."))
        }
        (None, Some(_)) => Err(ApiError::no_default_vpc()),
    }
}

/// Whether two rules let the same packets through; what people wrote beside them does not count.
fn same(a: &GroupRule, b: &GroupRule) -> bool {
    a.traffic == b.traffic && a.peer == b.peer
}

/// Names and descriptions: 1 to 255 characters out of EC2's set for VPCs.
fn check_text(parameter: &str, text: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    if text.is_empty() {
        return Err(ApiError::missing(parameter));
    }
    if text.chars().count() > MAX_TEXT || !text.chars().all(allowed) {
        return Err(ApiError::value(format!(
            "Value ({text}) for parameter {parameter} is invalid. Character sets beyond ASCII are not supported, and at \
             most {MAX_TEXT} characters."
        )));
    }
    Ok(())
}
