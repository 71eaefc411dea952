//! What each action does: checks in EC2's order and words, then the change, then the answer.
//!
//! `eni` and `addresses`: ENIs. `instances` and `launch`: instances. `subnets`, `reservations`, `cidrs`, `routes`, `groups`:
//! the network around them. `tags`: tags of all of these. What an action refuses, it refuses before anything has changed.

mod addresses;
mod cidrs;
mod eni;
mod groups;
mod instances;
mod launch;
mod reservations;
mod routes;
mod subnets;
mod tags;

use vpc_aws::ec2::shapes::{AnyRequest, AnyResponse};
use vpc_model::{EniId, Millis, SecurityGroupId, VpcId};

use crate::cloud::{Cloud, Remembered};
use crate::error::ApiError;
use crate::world::{Eni, Instance};

/// Security groups an ENI may have (the account's default quota).
const MAX_GROUPS: usize = 5;

/// How long a client token stands for its call: a day, the least that AWS promises.
const TOKEN_LIFE: Millis = Millis::seconds(86_400);

impl Cloud {
    /// Carries out one call at once.
    pub(crate) fn execute(&mut self, request: AnyRequest) -> Result<AnyResponse, ApiError> {
        if request.dry_run() {
            self.clone().perform(request)?;
            return Err(ApiError::dry_run());
        }
        let token = request.query().get("ClientToken").filter(|token| !token.is_empty()).map(str::to_owned);
        let Some(token) = token else { return self.perform(request) };
        self.perform_once((request.name().to_owned(), token), request)
    }

    /// Carries out a call with a client token, unless it has been carried out already: then it gets the same answer again.
    fn perform_once(&mut self, key: (String, String), request: AnyRequest) -> Result<AnyResponse, ApiError> {
        let now = self.now;
        self.tokens.retain(|_, call| now.since(call.at) < TOKEN_LIFE);
        match self.tokens.get(&key) {
            Some(call) if call.request == request => Ok(call.answer.clone()),
            Some(_) => Err(ApiError::client(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            )),
            None => {
                let answer = self.perform(request.clone())?;
                self.tokens.insert(key, Remembered { at: now, request, answer: answer.clone() });
                Ok(answer)
            }
        }
    }

    fn perform(&mut self, request: AnyRequest) -> Result<AnyResponse, ApiError> {
        use AnyRequest as Q;
        use AnyResponse as A;
        match request {
            Q::AssignIpv6Addresses(r) => self.assign_ipv6(&r).map(A::AssignIpv6Addresses),
            Q::AssignPrivateIpAddresses(r) => self.assign(&r).map(A::AssignPrivateIpAddresses),
            Q::AssociateRouteTable(r) => self.associate_route_table(&r).map(A::AssociateRouteTable),
            Q::AssociateVpcCidrBlock(r) => self.associate_cidr(&r).map(A::AssociateVpcCidrBlock),
            Q::AttachNetworkInterface(r) => self.attach(&r).map(A::AttachNetworkInterface),
            Q::AuthorizeSecurityGroupEgress(r) => self.authorize_egress(&r).map(A::AuthorizeSecurityGroupEgress),
            Q::AuthorizeSecurityGroupIngress(r) => self.authorize_ingress(&r).map(A::AuthorizeSecurityGroupIngress),
            Q::CreateNetworkInterface(r) => self.create(r).map(A::CreateNetworkInterface),
            Q::CreateRoute(r) => self.create_route(&r).map(A::CreateRoute),
            Q::CreateRouteTable(r) => self.create_route_table(r).map(A::CreateRouteTable),
            Q::CreateSecurityGroup(r) => self.create_group(&r).map(A::CreateSecurityGroup),
            Q::CreateSubnet(r) => self.create_subnet(&r).map(A::CreateSubnet),
            Q::CreateSubnetCidrReservation(r) => self.create_reservation(&r).map(A::CreateSubnetCidrReservation),
            Q::CreateTags(r) => self.create_tags(&r).map(A::CreateTags),
            Q::DeleteNetworkInterface(r) => self.delete(&r).map(A::DeleteNetworkInterface),
            Q::DeleteRoute(r) => self.delete_route(&r).map(A::DeleteRoute),
            Q::DeleteRouteTable(r) => self.delete_route_table(&r).map(A::DeleteRouteTable),
            Q::DeleteSecurityGroup(r) => self.delete_group(&r).map(A::DeleteSecurityGroup),
            Q::DeleteSubnet(r) => self.delete_subnet(&r).map(A::DeleteSubnet),
            Q::DeleteSubnetCidrReservation(r) => self.delete_reservation(&r).map(A::DeleteSubnetCidrReservation),
            Q::DeleteTags(r) => self.delete_tags(&r).map(A::DeleteTags),
            Q::DetachNetworkInterface(r) => self.detach(&r).map(A::DetachNetworkInterface),
            Q::DisassociateRouteTable(r) => self.disassociate_route_table(&r).map(A::DisassociateRouteTable),
            Q::DisassociateVpcCidrBlock(r) => self.disassociate_cidr(&r).map(A::DisassociateVpcCidrBlock),
            Q::ModifyNetworkInterfaceAttribute(r) => self.modify(&r).map(A::ModifyNetworkInterfaceAttribute),
            Q::ModifySubnetAttribute(r) => self.modify_subnet(&r).map(A::ModifySubnetAttribute),
            Q::RebootInstances(r) => self.reboot_instances(&r).map(A::RebootInstances),
            Q::ReplaceRoute(r) => self.replace_route(&r).map(A::ReplaceRoute),
            Q::ReplaceRouteTableAssociation(r) => {
                self.replace_route_table_association(&r).map(A::ReplaceRouteTableAssociation)
            }
            Q::RevokeSecurityGroupEgress(r) => self.revoke_egress(&r).map(A::RevokeSecurityGroupEgress),
            Q::RevokeSecurityGroupIngress(r) => self.revoke_ingress(&r).map(A::RevokeSecurityGroupIngress),
            Q::RunInstances(r) => self.run_instances(&r).map(A::RunInstances),
            Q::StartInstances(r) => self.start_instances(&r).map(A::StartInstances),
            Q::StopInstances(r) => self.stop_instances(&r).map(A::StopInstances),
            Q::TerminateInstances(r) => self.terminate_instances(&r).map(A::TerminateInstances),
            Q::UnassignIpv6Addresses(r) => self.unassign_ipv6(&r).map(A::UnassignIpv6Addresses),
            Q::UnassignPrivateIpAddresses(r) => self.unassign(&r).map(A::UnassignPrivateIpAddresses),
            Q::DescribeAvailabilityZones(r) => self.describe_zones(&r).map(A::DescribeAvailabilityZones),
            Q::DescribeInstanceTypes(r) => self.describe_instance_types(&r).map(A::DescribeInstanceTypes),
            Q::DescribeInstances(r) => self.describe_instances(&r).map(A::DescribeInstances),
            Q::DescribeNetworkInterfaces(r) => self.describe_enis(&r).map(A::DescribeNetworkInterfaces),
            Q::DescribeRouteTables(r) => self.describe_route_tables(&r).map(A::DescribeRouteTables),
            Q::DescribeSecurityGroups(r) => self.describe_groups(&r).map(A::DescribeSecurityGroups),
            Q::DescribeSubnets(r) => self.describe_subnets(&r).map(A::DescribeSubnets),
            Q::DescribeTags(r) => self.describe_tags(&r).map(A::DescribeTags),
            Q::DescribeVpcs(r) => self.describe_vpcs(&r).map(A::DescribeVpcs),
            Q::DescribeInstanceStatus(r) => self.describe_instance_status(&r).map(A::DescribeInstanceStatus),
            Q::DescribeNetworkInterfaceAttribute(r) => {
                self.describe_eni_attribute(&r).map(A::DescribeNetworkInterfaceAttribute)
            }
            Q::DescribeSecurityGroupRules(r) => self.describe_rules(&r).map(A::DescribeSecurityGroupRules),
            Q::GetSubnetCidrReservations(r) => self.get_reservations(&r).map(A::GetSubnetCidrReservations),
        }
    }

    // -- what several actions check ------------------------------------------------------------------------------------

    /// An ENI that its owner may change: not one that a service of the provider made for itself.
    pub(crate) fn own_eni(&self, id: &EniId) -> Result<&Eni, ApiError> {
        let eni = self.eni(id)?;
        match &eni.service {
            None => Ok(eni),
            Some(_) => Err(ApiError::client(
                "OperationNotPermitted",
                format!("You do not have permission to access the specified resource: {id} is managed by its service."),
            )),
        }
    }

    pub(crate) fn eni(&self, id: &EniId) -> Result<&Eni, ApiError> {
        self.world.enis.get(id).ok_or_else(|| ApiError::no_eni(id))
    }

    pub(crate) fn instance_of(&self, eni: &Eni) -> Option<&Instance> {
        eni.attachment.as_ref().and_then(|attachment| self.world.instances.get(&attachment.instance))
    }

    /// The one VPC there is.
    pub(crate) fn check_vpc(&self, id: &VpcId) -> Result<(), ApiError> {
        if *id == self.world.spec.vpc.id { Ok(()) } else { Err(ApiError::no_vpc(id)) }
    }

    pub(crate) fn check_groups(&self, groups: &[SecurityGroupId]) -> Result<(), ApiError> {
        if groups.len() > MAX_GROUPS {
            return Err(ApiError::client(
                "SecurityGroupsPerInterfaceLimitExceeded",
                format!("The maximum number of security groups per interface ({MAX_GROUPS}) has been reached."),
            ));
        }
        match groups.iter().find(|id| !self.world.groups.contains_key(*id)) {
            Some(stranger) => Err(ApiError::no_group(stranger)),
            None => Ok(()),
        }
    }
}

/// Refuses more than one kind of parameter, and, if one is needed, none.
pub(crate) fn one_kind(kinds: &[(&str, bool)], missing_is_missing: bool) -> Result<(), ApiError> {
    let given: Vec<_> = kinds.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    let names: Vec<_> = kinds.iter().map(|(name, _)| *name).collect();
    match given.len() {
        1 => Ok(()),
        0 if missing_is_missing => Err(ApiError::missing(&names.join(" or "))),
        0 => Err(ApiError::combination("No attributes specified.")),
        _ => Err(ApiError::combination(format!("The parameters {} may not be given together.", given.join(" and ")))),
    }
}
