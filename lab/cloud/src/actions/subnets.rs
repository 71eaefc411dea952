//! Subnets that come and go.

use std::sync::Arc;

use vpc_aws::ec2::shapes::{
    CreateSubnet, CreateSubnetResponse, DeleteSubnet, Done, ModifySubnetAttribute, ResourceType,
};
use vpc_model::{Subnet, SubnetId};

use super::one_kind;
use super::tags::tags_of;
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::ids::checked;
use crate::spec::SubnetSpec;
use crate::world::{CidrState, SubnetState};

/// Subnets a VPC may have (the account's default quota).
const MAX_SUBNETS: usize = 200;

impl Cloud {
    pub(super) fn create_subnet(&mut self, request: &CreateSubnet) -> Result<CreateSubnetResponse, ApiError> {
        self.check_vpc(&request.vpc_id)?;
        if let Some(cidr) = request.ipv6_cidr_block {
            return Err(out_of_range(&cidr));
        }
        if request.ipv6_native == Some(true) {
            return Err(ApiError::unsupported("This cloud has no IPv6."));
        }
        let cidr = request.cidr_block.ok_or_else(|| {
            ApiError::client("MissingParameter", "Either 'cidrBlock' or 'ipv6CidrBlock' should be provided.")
        })?;
        let cidr = Subnet::try_from(cidr.trunc()).map_err(|_| out_of_range(&cidr))?;
        let inside =
            |block: &crate::world::CidrBlock| block.state == CidrState::Associated && block.cidr.contains(&cidr.net());
        if !self.world.cidrs.iter().any(inside) {
            return Err(out_of_range(&cidr));
        }
        let shares = |other: &SubnetState| {
            let other = other.spec.cidr.net();
            other.contains(&cidr.net()) || cidr.net().contains(&other)
        };
        if self.world.subnets.values().any(shares) {
            let text = format!("The CIDR '{cidr}' conflicts with another subnet");
            return Err(ApiError::client("InvalidSubnet.Conflict", text));
        }
        let zone = self.zone_for(request)?;
        let tags = tags_of(&request.tag_specifications, &ResourceType::Subnet)?;
        if self.world.subnets.len() >= MAX_SUBNETS {
            return Err(ApiError::client(
                "SubnetLimitExceeded",
                format!("The maximum number of subnets ({MAX_SUBNETS}) has been reached."),
            ));
        }
        let id: SubnetId = checked(&self.dice.id(SubnetId::PREFIX));
        let name = tags.get("Name").cloned().unwrap_or_else(|| id.to_string());
        let spec = SubnetSpec { id: id.clone(), ..SubnetSpec::new(&name, cidr, &zone) };
        // Unlike those of the description, it has no `Name` but the one that was asked for.
        let subnet = SubnetState { tags, ..SubnetState::new(&spec) };
        let answer = CreateSubnetResponse { subnet: self.show_subnet(&subnet) };
        self.world.subnets.insert(id, subnet);
        self.network_changed();
        Ok(answer)
    }

    /// The zone asked for, or the first.
    fn zone_for(&self, request: &CreateSubnet) -> Result<String, ApiError> {
        let zones = &self.world.spec.zones;
        let (name, id) = (&request.availability_zone, &request.availability_zone_id);
        if name.is_some() && id.is_some() {
            return Err(ApiError::combination(
                "The parameters availabilityZone and availabilityZoneId may not be given together.",
            ));
        }
        let found = zones.iter().find(|zone| {
            name.as_ref().is_none_or(|name| zone.name == *name) && id.as_ref().is_none_or(|id| zone.id == *id)
        });
        found.map(|zone| zone.name.clone()).ok_or_else(|| {
            let (parameter, value) = name.as_ref().map_or_else(
                || ("availabilityZoneId", id.as_deref().unwrap_or_default()),
                |name| ("availabilityZone", name.as_str()),
            );
            let there: Vec<_> = zones.iter().map(|zone| zone.name.as_str()).collect();
            ApiError::value(format!(
                "Value ({value}) for parameter {parameter} is invalid. Subnets can currently only be created in the \
                 following availability zones: {}.",
                there.join(", ")
            ))
        })
    }

    pub(super) fn delete_subnet(&mut self, request: &DeleteSubnet) -> Result<Done, ApiError> {
        let id = &request.subnet_id;
        let subnet = self.world.subnets.get(id).ok_or_else(|| ApiError::no_subnet(id))?;
        if subnet.pool.is_in_use() {
            let text = format!("The subnet '{id}' has dependencies and cannot be deleted.");
            return Err(ApiError::dependency(text));
        }
        self.world.subnets.remove(id);
        for table in Arc::make_mut(&mut self.world.route_tables).values_mut() {
            table.ties.retain(|tie| tie.subnet.as_ref() != Some(id));
        }
        self.network_changed();
        Ok(Done::default())
    }

    pub(super) fn modify_subnet(&mut self, request: &ModifySubnetAttribute) -> Result<Done, ApiError> {
        let id = &request.subnet_id;
        if !self.world.subnets.contains_key(id) {
            return Err(ApiError::no_subnet(id));
        }
        let (maps, ipv6) = (request.map_public_ip_on_launch, request.assign_ipv6_address_on_creation);
        one_kind(&[("MapPublicIpOnLaunch", maps.is_some()), ("AssignIpv6AddressOnCreation", ipv6.is_some())], false)?;
        if ipv6.and_then(|ipv6| ipv6.value) == Some(true) {
            return Err(ApiError::no_ipv6(id));
        }
        if let Some((maps, subnet)) = maps.and_then(|maps| maps.value).zip(self.world.subnets.get_mut(id)) {
            subnet.spec.map_public_ip = maps;
        }
        Ok(Done::default())
    }
}

fn out_of_range(cidr: &impl std::fmt::Display) -> ApiError {
    ApiError::client("InvalidSubnet.Range", format!("The CIDR '{cidr}' is invalid."))
}
