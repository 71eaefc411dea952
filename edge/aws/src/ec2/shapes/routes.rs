//! Route tables, their routes, and the subnets tied to them.

use ipnet::{Ipv4Net, Ipv6Net};
use vpc_model::{EniId, InstanceId, SubnetId, VpcId};

use super::listing::listing;
use super::query::{param_shape, request};
use super::scalar::words;
use super::tags::{Done, Tag, TagSpecification};
use super::xml::xml_shape;

listing! {
    /// Lists route tables.
    #[derive(Default)]
    DescribeRouteTables {
        /// The tables (`rtb-…`); empty = all that pass the filters.
        route_table_ids: Vec<String> = "RouteTableId",
    }
    /// A page of route tables.
    DescribeRouteTablesResponse {
        /// The tables.
        route_tables: Vec<RouteTableDescription> = "routeTableSet",
    }
}

xml_shape! {
    /// A route table.
    RouteTableDescription {
        /// Its id (`rtb-…`).
        route_table_id: String = "routeTableId",
        /// Its VPC.
        vpc_id: VpcId = "vpcId",
        /// The account.
        owner_id: Option<String> = "ownerId",
        /// Who uses it.
        associations: Vec<RouteTableAssociation> = "associationSet",
        /// Its routes.
        routes: Vec<Route> = "routeSet",
        /// Its tags.
        tags: Vec<Tag> = "tagSet",
    }
}

xml_shape! {
    /// What a route table is used by.
    RouteTableAssociation {
        /// Its id (`rtbassoc-…`).
        route_table_association_id: String = "routeTableAssociationId",
        /// The table.
        route_table_id: String = "routeTableId",
        /// The subnet; absent for the VPC's main table.
        subnet_id: Option<SubnetId> = "subnetId",
        /// Whether it is the main table of the VPC.
        main: bool = "main",
        /// Where it is in its life.
        association_state: Option<RouteTableAssociationState> = "associationState",
    }
}

xml_shape! {
    /// The state of the tie between a subnet and a route table.
    RouteTableAssociationState {
        /// Where it is in its life.
        state: RouteTableAssociationStateCode = "state",
    }
}

words! {
    open
    /// Where the tie between a subnet and a route table is in its life.
    RouteTableAssociationStateCode {
        /// Being made.
        Associating = "associating",
        /// There.
        Associated = "associated",
        /// Being undone.
        Disassociating = "disassociating",
        /// Gone.
        Disassociated = "disassociated",
        /// Could not be made.
        Failed = "failed",
    }
}

xml_shape! {
    /// A route. One of the targets is given; `gateway_id` is `local` inside the VPC, `igw-…` for the internet gateway.
    #[derive(Default)]
    Route {
        /// Where to.
        destination_cidr_block: Option<Ipv4Net> = "destinationCidrBlock",
        /// Where to.
        destination_ipv6_cidr_block: Option<Ipv6Net> = "destinationIpv6CidrBlock",
        /// `local`, or an internet or virtual private gateway.
        gateway_id: Option<String> = "gatewayId",
        /// A NAT gateway.
        nat_gateway_id: Option<String> = "natGatewayId",
        /// A transit gateway.
        transit_gateway_id: Option<String> = "transitGatewayId",
        /// An instance.
        instance_id: Option<InstanceId> = "instanceId",
        /// An ENI.
        network_interface_id: Option<EniId> = "networkInterfaceId",
        /// A peering connection.
        vpc_peering_connection_id: Option<String> = "vpcPeeringConnectionId",
        /// `CreateRouteTable`, `CreateRoute` or `EnableVgwRoutePropagation`.
        origin: Option<String> = "origin",
        /// Whether it leads somewhere.
        state: Option<RouteState> = "state",
    }
}

words! {
    open
    /// Whether a route has somewhere to lead.
    RouteState {
        /// It works.
        Active = "active",
        /// Its target is gone.
        Blackhole = "blackhole",
    }
}

request! {
    /// Creates a route table with the `local` routes of its VPC.
    CreateRouteTable -> CreateRouteTableResponse {
        /// Its VPC.
        vpc_id: VpcId = "VpcId",
        /// Tags it is born with.
        tag_specifications: Vec<TagSpecification> = "TagSpecification",
        /// Makes the call idempotent: same token and parameters, same table.
        client_token: Option<String> = "ClientToken",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The new table.
    CreateRouteTableResponse {
        /// The table as it is now.
        route_table: RouteTableDescription = "routeTable",
        /// The client token, given back.
        client_token: Option<String> = "clientToken",
    }
}

request! {
    /// Deletes a route table that no subnet is tied to; not the main one.
    DeleteRouteTable -> Done {
        /// The table (`rtb-…`).
        route_table_id: String = "RouteTableId",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

param_shape! {
    /// Where to a route leads. One is needed.
    #[derive(Copy, Default)]
    RouteDestination {
        /// Addresses. Host bits are kept here; EC2 clears them.
        cidr_block: Option<Ipv4Net> = "DestinationCidrBlock",
        /// IPv6 addresses.
        ipv6_cidr_block: Option<Ipv6Net> = "DestinationIpv6CidrBlock",
    }
}

param_shape! {
    /// By way of what. One is needed.
    #[derive(Default)]
    RouteVia {
        /// An internet gateway (`igw-…`), a virtual private gateway (`vgw-…`), or `local`.
        gateway_id: Option<String> = "GatewayId",
        /// A NAT gateway (`nat-…`).
        nat_gateway_id: Option<String> = "NatGatewayId",
        /// An instance with one ENI.
        instance_id: Option<InstanceId> = "InstanceId",
        /// An ENI.
        network_interface_id: Option<EniId> = "NetworkInterfaceId",
        /// A peering connection (`pcx-…`).
        vpc_peering_connection_id: Option<String> = "VpcPeeringConnectionId",
        /// A transit gateway (`tgw-…`).
        transit_gateway_id: Option<String> = "TransitGatewayId",
    }
}

request! {
    /// Adds a route.
    CreateRoute -> Done {
        /// The table (`rtb-…`).
        route_table_id: String = "RouteTableId",
        /// Where to.
        destination: RouteDestination = "",
        /// By way of.
        via: RouteVia = "",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Gives a route another target.
    ReplaceRoute -> Done {
        /// The table (`rtb-…`).
        route_table_id: String = "RouteTableId",
        /// Which route.
        destination: RouteDestination = "",
        /// By way of.
        via: RouteVia = "",
        /// Whether the route is to lead to `local` again.
        local_target: Option<bool> = "LocalTarget",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Removes a route; not a `local` one.
    DeleteRoute -> Done {
        /// The table (`rtb-…`).
        route_table_id: String = "RouteTableId",
        /// Which route.
        destination: RouteDestination = "",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Ties a subnet to a route table.
    AssociateRouteTable -> AssociateRouteTableResponse {
        /// The table (`rtb-…`).
        route_table_id: String = "RouteTableId",
        /// The subnet; one that is tied to no table.
        subnet_id: Option<SubnetId> = "SubnetId",
        /// A gateway whose incoming packets use the table.
        gateway_id: Option<String> = "GatewayId",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The new tie.
    AssociateRouteTableResponse {
        /// Its id (`rtbassoc-…`).
        association_id: String = "associationId",
        /// Where it is in its life.
        association_state: Option<RouteTableAssociationState> = "associationState",
    }
}

request! {
    /// Unties a subnet from its route table: it uses the VPC's main table then.
    DisassociateRouteTable -> Done {
        /// The tie (`rtbassoc-…`).
        association_id: String = "AssociationId",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Ties a subnet to another route table, or makes another table the VPC's main one.
    ReplaceRouteTableAssociation -> ReplaceRouteTableAssociationResponse {
        /// The tie (`rtbassoc-…`).
        association_id: String = "AssociationId",
        /// The other table (`rtb-…`).
        route_table_id: String = "RouteTableId",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The tie in place of the old one.
    ReplaceRouteTableAssociationResponse {
        /// Its id (`rtbassoc-…`).
        new_association_id: String = "newAssociationId",
        /// Where it is in its life.
        association_state: Option<RouteTableAssociationState> = "associationState",
    }
}
