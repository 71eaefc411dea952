//! DescribeRouteTables.

use ipnet::Ipv4Net;
use vpc_aws::ec2::shapes::{
    DescribeRouteTables, DescribeRouteTablesResponse, Route, RouteState, RouteTableAssociation,
    RouteTableAssociationState, RouteTableAssociationStateCode, RouteTableDescription,
};

use super::filter::{Row, all, by_tag, held, keys, not_held, one};
use super::page::{PageRequest, Pages};
use super::{Listing, look_up, show_tags};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::spec::{RouteSpec, RouteTarget};
use crate::world::{RouteTable, TableTie};

pub(super) const ROUTE_TABLES: Listing<RouteTableDescription> =
    Listing { action: "DescribeRouteTables", filters: FILTERS, pages: Some(Pages::HUNDRED) };

const FILTERS: &[Row<RouteTableDescription>] = &[
    not_held("association.gateway-id"),
    held("association.route-table-association-id", |own| {
        all(own.associations.iter().map(|tie| &tie.route_table_association_id))
    }),
    held("association.route-table-id", |own| all(own.associations.iter().map(|tie| &tie.route_table_id))),
    held("association.subnet-id", |own| all(own.associations.iter().filter_map(|tie| tie.subnet_id.as_ref()))),
    held("association.main", |own| all(own.associations.iter().map(|tie| tie.main))),
    held("owner-id", |own| all(&own.owner_id)),
    held("route-table-id", |own| one(&own.route_table_id)),
    held("route.destination-cidr-block", |own| all(own.routes.iter().filter_map(|route| route.destination_cidr_block))),
    not_held("route.destination-ipv6-cidr-block"),
    not_held("route.destination-prefix-list-id"),
    not_held("route.egress-only-internet-gateway-id"),
    held("route.gateway-id", |own| all(own.routes.iter().filter_map(|route| route.gateway_id.as_ref()))),
    held("route.instance-id", |own| all(own.routes.iter().filter_map(|route| route.instance_id.as_ref()))),
    held("route.nat-gateway-id", |own| all(own.routes.iter().filter_map(|route| route.nat_gateway_id.as_ref()))),
    not_held("route.transit-gateway-id"),
    held("route.origin", |own| all(own.routes.iter().filter_map(|route| route.origin.as_ref()))),
    held("route.state", |own| all(own.routes.iter().filter_map(|route| route.state.as_ref().map(RouteState::as_str)))),
    held("route.vpc-peering-connection-id", |own| {
        all(own.routes.iter().filter_map(|route| route.vpc_peering_connection_id.as_ref()))
    }),
    by_tag(|own| &own.tags),
    held("tag-key", |own| keys(&own.tags)),
    held("vpc-id", |own| one(&own.vpc_id)),
];

impl Cloud {
    pub(crate) fn describe_route_tables(
        &self,
        request: &DescribeRouteTables,
    ) -> Result<DescribeRouteTablesResponse, ApiError> {
        let ids = &request.route_table_ids;
        let page = PageRequest {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: !ids.is_empty(),
        };
        let question = ROUTE_TABLES.ask(self, &request.filters, page)?;
        let tables = &self.world.route_tables;
        let form = ("rtb-", "InvalidRouteTableId.Malformed");
        look_up(ids, form, |id| tables.contains_key(id), ApiError::no_route_table)?;
        let asked = tables.values().filter(|table| ids.is_empty() || ids.contains(&table.id));
        let (route_tables, next_token) =
            question.answer(asked.map(|table| (table.id.clone(), self.show_route_table(table))));
        Ok(DescribeRouteTablesResponse { route_tables, next_token })
    }

    /// A route table: the routes to the VPC's own CIDRs come first, as nothing may come before them.
    pub(crate) fn show_route_table(&self, table: &RouteTable) -> RouteTableDescription {
        let association = |tie: &TableTie| RouteTableAssociation {
            route_table_association_id: tie.id.clone(),
            route_table_id: table.id.clone(),
            subnet_id: tie.subnet.clone(),
            main: tie.subnet.is_none(),
            association_state: Some(RouteTableAssociationState { state: RouteTableAssociationStateCode::Associated }),
        };
        let local = self.world.usable_cidrs().into_iter().map(local_route);
        RouteTableDescription {
            route_table_id: table.id.clone(),
            vpc_id: self.world.spec.vpc.id.clone(),
            owner_id: Some(self.account()),
            associations: table.ties.iter().map(association).collect(),
            routes: local.chain(table.routes.iter().map(|route| self.show_route(route))).collect(),
            tags: show_tags(&table.tags),
        }
    }

    /// A route that somebody wrote. It is a black hole if its target is not there.
    fn show_route(&self, route: &RouteSpec) -> Route {
        let blackhole = self.world.is_blackhole(&route.target);
        let mut shown = Route {
            destination_cidr_block: Some(route.destination),
            origin: Some("CreateRoute".to_owned()),
            state: Some(if blackhole { RouteState::Blackhole } else { RouteState::Active }),
            ..Route::default()
        };
        match &route.target {
            RouteTarget::Local | RouteTarget::Blackhole => {}
            RouteTarget::InternetGateway => shown.gateway_id.clone_from(&self.world.spec.internet_gateway),
            RouteTarget::NatGateway(id) => shown.nat_gateway_id = Some(id.clone()),
            RouteTarget::Peering(id) => shown.vpc_peering_connection_id = Some(id.clone()),
            RouteTarget::VirtualGateway(id) => shown.gateway_id = Some(id.clone()),
            RouteTarget::NetworkInterface(id) => {
                let attachment = self.world.enis.get(id).and_then(|eni| eni.attachment.as_ref());
                shown.network_interface_id = Some(id.clone());
                shown.instance_id = attachment.map(|attachment| attachment.instance.clone());
            }
        }
        shown
    }
}

fn local_route(cidr: Ipv4Net) -> Route {
    Route {
        destination_cidr_block: Some(cidr),
        gateway_id: Some("local".to_owned()),
        origin: Some("CreateRouteTable".to_owned()),
        state: Some(RouteState::Active),
        ..Route::default()
    }
}
