//! Route tables, their routes, and who uses them.

use std::sync::Arc;

use ipnet::Ipv4Net;
use vpc_aws::ec2::shapes::{
    AssociateRouteTable, AssociateRouteTableResponse, CreateRoute, CreateRouteTable, CreateRouteTableResponse,
    DeleteRoute, DeleteRouteTable, DisassociateRouteTable, Done, ReplaceRoute, ReplaceRouteTableAssociation,
    ReplaceRouteTableAssociationResponse, ResourceType, RouteDestination, RouteTableAssociationState,
    RouteTableAssociationStateCode, RouteVia,
};
use vpc_model::InstanceId;

use super::tags::tags_of;
use crate::cloud::Cloud;
use crate::describe::well_formed;
use crate::error::ApiError;
use crate::spec::{RouteSpec, RouteTarget};
use crate::world::{RouteTable, TableTie};

/// Route tables a VPC may have, and routes a table may have (the account's default quotas).
const MAX_TABLES: usize = 200;
const MAX_ROUTES: usize = 500;

impl Cloud {
    pub(super) fn create_route_table(
        &mut self,
        request: CreateRouteTable,
    ) -> Result<CreateRouteTableResponse, ApiError> {
        self.check_vpc(&request.vpc_id)?;
        let tags = tags_of(&request.tag_specifications, &ResourceType::RouteTable)?;
        if self.world.route_tables.len() >= MAX_TABLES {
            let text = format!("The maximum number of route tables ({MAX_TABLES}) has been reached.");
            return Err(ApiError::client("RouteTableLimitExceeded", text));
        }
        let table = RouteTable { id: self.dice.id("rtb-"), ties: Vec::new(), routes: Vec::new(), tags };
        let route_table = self.show_route_table(&table);
        Arc::make_mut(&mut self.world.route_tables).insert(table.id.clone(), table);
        self.network_changed();
        Ok(CreateRouteTableResponse { route_table, client_token: request.client_token })
    }

    pub(super) fn delete_route_table(&mut self, request: &DeleteRouteTable) -> Result<Done, ApiError> {
        let id = &request.route_table_id;
        if !self.table(id)?.ties.is_empty() {
            let text = format!("The routeTable '{id}' has dependencies and cannot be deleted.");
            return Err(ApiError::dependency(text));
        }
        Arc::make_mut(&mut self.world.route_tables).remove(id);
        self.network_changed();
        Ok(Done::default())
    }

    // -- routes --------------------------------------------------------------------------------------------------------

    pub(super) fn create_route(&mut self, request: &CreateRoute) -> Result<Done, ApiError> {
        let table = self.table(&request.route_table_id)?;
        let destination = destination_of(&request.destination)?;
        let target = self.target_of(&request.via)?;
        let local = self.world.cidrs.iter().any(|block| block.cidr == destination);
        if local || table.routes.iter().any(|route| route.destination == destination) {
            let text = format!("The route identified by {destination} already exists.");
            return Err(ApiError::client("RouteAlreadyExists", text));
        }
        if self.world.cidrs.iter().any(|block| block.cidr.contains(&destination)) {
            return Err(ApiError::unsupported(format!(
                "This cloud has no routes that are more specific than the VPC's own: {destination}"
            )));
        }
        if table.routes.len() >= MAX_ROUTES {
            let text = format!("The maximum number of routes ({MAX_ROUTES}) has been reached.");
            return Err(ApiError::client("RouteLimitExceeded", text));
        }
        self.table_mut(&request.route_table_id)?.routes.push(RouteSpec { destination, target });
        self.network_changed();
        Ok(Done::default())
    }

    pub(super) fn replace_route(&mut self, request: &ReplaceRoute) -> Result<Done, ApiError> {
        self.table(&request.route_table_id)?;
        let destination = destination_of(&request.destination)?;
        let local = self.world.cidrs.iter().any(|block| block.cidr == destination);
        if request.local_target == Some(true) && local {
            // It is `local` already: nothing else can be made of it here.
            return Ok(Done::default());
        }
        if local {
            return Err(ApiError::unsupported(format!("In this cloud the route to {destination} is always local.")));
        }
        let target = self.target_of(&request.via)?;
        let table = self.table_mut(&request.route_table_id)?;
        let route = table.routes.iter_mut().find(|route| route.destination == destination).ok_or_else(|| {
            ApiError::value(format!(
                "There is no route defined for '{destination}' in the route table. Use CreateRoute instead."
            ))
        })?;
        route.target = target;
        self.network_changed();
        Ok(Done::default())
    }

    pub(super) fn delete_route(&mut self, request: &DeleteRoute) -> Result<Done, ApiError> {
        let id = &request.route_table_id;
        self.table(id)?;
        let destination = destination_of(&request.destination)?;
        if self.world.cidrs.iter().any(|block| block.cidr == destination) {
            return Err(ApiError::value(format!("cannot remove local route {destination} in route table {id}")));
        }
        let routes = &mut self.table_mut(id)?.routes;
        let before = routes.len();
        routes.retain(|route| route.destination != destination);
        if routes.len() == before {
            let text = format!("no route with destination-cidr-block {destination} in route table {id}");
            return Err(ApiError::client("InvalidRoute.NotFound", text));
        }
        self.network_changed();
        Ok(Done::default())
    }

    /// What a route is to lead to, if it is there.
    fn target_of(&self, via: &RouteVia) -> Result<RouteTarget, ApiError> {
        let given = [
            via.gateway_id.is_some(),
            via.nat_gateway_id.is_some(),
            via.instance_id.is_some(),
            via.network_interface_id.is_some(),
            via.vpc_peering_connection_id.is_some(),
            via.transit_gateway_id.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            return Err(ApiError::combination(
                "The request must contain exactly one of gatewayId, natGatewayId, instanceId, networkInterfaceId, \
                 vpcPeeringConnectionId, transitGatewayId",
            ));
        }
        let spec = &self.world.spec;
        let missing = |code: &'static str, kind: &str, id: &str| {
            ApiError::client(code, format!("The {kind} ID '{id}' does not exist"))
        };
        if let Some(id) = &via.gateway_id {
            return match id {
                id if spec.internet_gateway.as_ref() == Some(id) => Ok(RouteTarget::InternetGateway),
                id if spec.virtual_gateway.as_ref().is_some_and(|gateway| gateway.id == *id) => {
                    Ok(RouteTarget::VirtualGateway(id.clone()))
                }
                id if id == "local" => Err(ApiError::value("Route target 'local' is not valid for this destination.")),
                id if id.starts_with("vgw-") => Err(missing("InvalidVpnGatewayID.NotFound", "vpnGateway", id)),
                id => Err(missing("InvalidInternetGatewayID.NotFound", "internetGateway", id)),
            };
        }
        if let Some(id) = &via.nat_gateway_id {
            return match spec.nat_gateways.iter().any(|gateway| gateway.id == *id) {
                true => Ok(RouteTarget::NatGateway(id.clone())),
                false => Err(missing("InvalidNatGatewayID.NotFound", "natGateway", id)),
            };
        }
        if let Some(id) = &via.vpc_peering_connection_id {
            return match spec.peerings.iter().any(|peering| peering.id == *id) {
                true => Ok(RouteTarget::Peering(id.clone())),
                false => Err(missing("InvalidVpcPeeringConnectionID.NotFound", "vpcPeeringConnection", id)),
            };
        }
        if let Some(id) = &via.network_interface_id {
            return self.eni(id).map(|eni| RouteTarget::NetworkInterface(eni.id.clone()));
        }
        match (&via.instance_id, &via.transit_gateway_id) {
            (Some(id), _) => self.only_eni_of(id),
            (_, id) => {
                let id = id.as_deref().unwrap_or_default();
                Err(missing("InvalidTransitGatewayID.NotFound", "transitGateway", id))
            }
        }
    }

    /// The ENI of an instance that has one.
    fn only_eni_of(&self, id: &InstanceId) -> Result<RouteTarget, ApiError> {
        if !self.world.instances.contains_key(id) {
            return Err(ApiError::no_instance(id));
        }
        match self.world.enis_of(id).as_slice() {
            [eni] => Ok(RouteTarget::NetworkInterface(eni.id.clone())),
            _ => Err(ApiError::client(
                "InvalidInstanceID",
                format!(
                    "There are multiple interfaces attached to instance '{id}'. Please specify an interface ID for the \
                     operation instead."
                ),
            )),
        }
    }

    // -- who uses a table ----------------------------------------------------------------------------------------------

    pub(super) fn associate_route_table(
        &mut self,
        request: &AssociateRouteTable,
    ) -> Result<AssociateRouteTableResponse, ApiError> {
        let id = &request.route_table_id;
        self.table(id)?;
        if request.gateway_id.is_some() {
            return Err(ApiError::unsupported("This cloud has no route tables for gateways."));
        }
        let subnet = request.subnet_id.as_ref().ok_or_else(|| ApiError::missing("SubnetId"))?;
        if !self.world.subnets.contains_key(subnet) {
            return Err(ApiError::no_subnet(subnet));
        }
        let mut ties =
            self.world.route_tables.values().flat_map(|table| table.ties.iter().map(move |tie| (table, tie)));
        let tie = match ties.find(|(_, tie)| tie.subnet.as_ref() == Some(subnet)) {
            Some((table, tie)) if table.id == *id => tie.id.clone(),
            Some(_) => {
                return Err(ApiError::client(
                    "Resource.AlreadyAssociated",
                    format!("the specified association for route table {id} conflicts with an existing association"),
                ));
            }
            None => self.tie(id, Some(subnet.clone()))?,
        };
        Ok(AssociateRouteTableResponse { association_id: tie, association_state: associated() })
    }

    pub(super) fn disassociate_route_table(&mut self, request: &DisassociateRouteTable) -> Result<Done, ApiError> {
        let id = &request.association_id;
        let (_, tie) = self.tie_of(id)?;
        if tie.subnet.is_none() {
            return Err(ApiError::value(format!("cannot disassociate the main route table association {id}")));
        }
        self.untie(id);
        self.network_changed();
        Ok(Done::default())
    }

    pub(super) fn replace_route_table_association(
        &mut self,
        request: &ReplaceRouteTableAssociation,
    ) -> Result<ReplaceRouteTableAssociationResponse, ApiError> {
        let (_, tie) = self.tie_of(&request.association_id)?;
        self.table(&request.route_table_id)?;
        self.untie(&request.association_id);
        let new_association_id = self.tie(&request.route_table_id, tie.subnet)?;
        Ok(ReplaceRouteTableAssociationResponse { new_association_id, association_state: associated() })
    }

    fn tie(&mut self, table: &str, subnet: Option<vpc_model::SubnetId>) -> Result<String, ApiError> {
        let id = self.dice.id("rtbassoc-");
        self.table_mut(table)?.ties.push(TableTie { id: id.clone(), subnet });
        self.network_changed();
        Ok(id)
    }

    fn untie(&mut self, id: &str) {
        for table in Arc::make_mut(&mut self.world.route_tables).values_mut() {
            table.ties.retain(|tie| tie.id != id);
        }
    }

    fn tie_of(&self, id: &str) -> Result<(String, TableTie), ApiError> {
        well_formed(&[id], "rtbassoc-", "InvalidAssociationID.Malformed")?;
        let mut ties =
            self.world.route_tables.values().flat_map(|table| table.ties.iter().map(move |tie| (table, tie)));
        let found = ties.find(|(_, tie)| tie.id == id).map(|(table, tie)| (table.id.clone(), tie.clone()));
        found.ok_or_else(|| {
            ApiError::client("InvalidAssociationID.NotFound", format!("The association ID '{id}' does not exist"))
        })
    }

    fn table(&self, id: &str) -> Result<&RouteTable, ApiError> {
        well_formed(&[id], "rtb-", "InvalidRouteTableId.Malformed")?;
        self.world.route_tables.get(id).ok_or_else(|| ApiError::no_route_table(&id))
    }

    fn table_mut(&mut self, id: &str) -> Result<&mut RouteTable, ApiError> {
        well_formed(&[id], "rtb-", "InvalidRouteTableId.Malformed")?;
        let tables = Arc::make_mut(&mut self.world.route_tables);
        tables.get_mut(id).ok_or_else(|| ApiError::no_route_table(&id))
    }
}

fn destination_of(destination: &RouteDestination) -> Result<Ipv4Net, ApiError> {
    match (destination.cidr_block, destination.ipv6_cidr_block) {
        (Some(cidr), None) => Ok(cidr.trunc()),
        (None, Some(_)) => Err(ApiError::unsupported("This cloud has no IPv6.")),
        (None, None) => Err(ApiError::missing("destinationCidrBlock or destinationIpv6CidrBlock")),
        (Some(_), Some(_)) => Err(ApiError::combination(
            "The parameters destinationCidrBlock and destinationIpv6CidrBlock may not be given together.",
        )),
    }
}

fn associated() -> Option<RouteTableAssociationState> {
    Some(RouteTableAssociationState { state: RouteTableAssociationStateCode::Associated })
}
