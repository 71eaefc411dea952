//! VPCs, subnets, route tables, security groups and zones.

use ipnet::{Ipv4Net, Ipv6Net};
use vpc_model::{EniId, InstanceId, SecurityGroupId, Subnet, SubnetId, VpcId};

use super::query::shared_shape;
use super::scalar::words;
use super::tags::Tag;
use super::xml::xml_shape;

words! {
    open
    /// Where a CIDR block is in its life.
    CidrBlockState {
        /// Being added.
        Associating = "associating",
        /// There.
        Associated = "associated",
        /// Being removed.
        Disassociating = "disassociating",
        /// Gone.
        Disassociated = "disassociated",
    }
}

xml_shape! {
    /// The state of a CIDR block.
    BlockState {
        /// Where it is in its life.
        state: CidrBlockState = "state",
    }
}

xml_shape! {
    /// An IPv4 CIDR block of a VPC.
    VpcCidrBlockAssociation {
        /// Its id (`vpc-cidr-assoc-…`).
        association_id: Option<String> = "associationId",
        /// The block.
        cidr_block: Ipv4Net = "cidrBlock",
        /// Its state.
        cidr_block_state: Option<BlockState> = "cidrBlockState",
    }
}

xml_shape! {
    /// An IPv6 CIDR block of a VPC or subnet.
    Ipv6CidrBlockAssociation {
        /// Its id.
        association_id: Option<String> = "associationId",
        /// The block.
        ipv6_cidr_block: Ipv6Net = "ipv6CidrBlock",
        /// Its state.
        ipv6_cidr_block_state: Option<BlockState> = "ipv6CidrBlockState",
    }
}

xml_shape! {
    /// A VPC.
    Vpc {
        /// Its id.
        vpc_id: VpcId = "vpcId",
        /// The account.
        owner_id: Option<String> = "ownerId",
        /// `pending` or `available`.
        state: Option<String> = "state",
        /// The primary CIDR block.
        cidr_block: Ipv4Net = "cidrBlock",
        /// All IPv4 CIDR blocks.
        cidr_block_associations: Vec<VpcCidrBlockAssociation> = "cidrBlockAssociationSet",
        /// All IPv6 CIDR blocks.
        ipv6_cidr_block_associations: Vec<Ipv6CidrBlockAssociation> = "ipv6CidrBlockAssociationSet",
        /// Its DHCP options.
        dhcp_options_id: Option<String> = "dhcpOptionsId",
        /// `default`, `dedicated` or `host`.
        instance_tenancy: Option<String> = "instanceTenancy",
        /// Whether it is the account's default VPC.
        is_default: Option<bool> = "isDefault",
        /// Its tags.
        tags: Vec<Tag> = "tagSet",
    }
}

xml_shape! {
    /// A page of VPCs.
    #[derive(Default)]
    DescribeVpcsResponse {
        /// The VPCs.
        vpcs: Vec<Vpc> = "vpcSet",
        /// How to ask for the next page; absent on the last.
        next_token: Option<String> = "nextToken",
    }
}

xml_shape! {
    /// A subnet.
    SubnetDescription {
        /// Its id.
        subnet_id: SubnetId = "subnetId",
        /// Its ARN.
        subnet_arn: Option<String> = "subnetArn",
        /// Its VPC.
        vpc_id: VpcId = "vpcId",
        /// The account.
        owner_id: Option<String> = "ownerId",
        /// `pending` or `available`.
        state: Option<String> = "state",
        /// Its addresses; absent on IPv6-only subnets.
        cidr_block: Option<Subnet> = "cidrBlock",
        /// Its IPv6 addresses.
        ipv6_cidr_block_associations: Vec<Ipv6CidrBlockAssociation> = "ipv6CidrBlockAssociationSet",
        /// Free addresses; a /28 in use counts 16.
        available_ip_address_count: u32 = "availableIpAddressCount",
        /// Its zone by name.
        availability_zone: String = "availabilityZone",
        /// Its zone by id.
        availability_zone_id: Option<String> = "availabilityZoneId",
        /// Whether it is the default subnet of its zone.
        default_for_az: Option<bool> = "defaultForAz",
        /// Whether instances get a public address.
        map_public_ip_on_launch: Option<bool> = "mapPublicIpOnLaunch",
        /// Whether ENIs get an IPv6 address.
        assign_ipv6_address_on_creation: Option<bool> = "assignIpv6AddressOnCreation",
        /// Its tags.
        tags: Vec<Tag> = "tagSet",
    }
}

xml_shape! {
    /// A page of subnets.
    #[derive(Default)]
    DescribeSubnetsResponse {
        /// The subnets.
        subnets: Vec<SubnetDescription> = "subnetSet",
        /// How to ask for the next page; absent on the last.
        next_token: Option<String> = "nextToken",
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
    /// The state of the tie between a subnet and a route table.
    RouteTableAssociationState {
        /// Where it is in its life.
        state: RouteTableAssociationStateCode = "state",
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
    /// A page of route tables.
    #[derive(Default)]
    DescribeRouteTablesResponse {
        /// The tables.
        route_tables: Vec<RouteTableDescription> = "routeTableSet",
        /// How to ask for the next page; absent on the last.
        next_token: Option<String> = "nextToken",
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

xml_shape! {
    /// A page of security groups.
    #[derive(Default)]
    DescribeSecurityGroupsResponse {
        /// The groups.
        security_groups: Vec<SecurityGroup> = "securityGroupInfo",
        /// How to ask for the next page; absent on the last.
        next_token: Option<String> = "nextToken",
    }
}

xml_shape! {
    /// An availability zone.
    AvailabilityZone {
        /// Its name (`eu-central-1a`).
        zone_name: String = "zoneName",
        /// Its id (`euc1-az2`).
        zone_id: Option<String> = "zoneId",
        /// `available`, `impaired` …
        state: Option<String> = "zoneState",
        /// Its region.
        region_name: Option<String> = "regionName",
        /// `availability-zone`, `local-zone` or `wavelength-zone`.
        zone_type: Option<String> = "zoneType",
        /// `opt-in-not-required`, `opted-in` or `not-opted-in`.
        opt_in_status: Option<String> = "optInStatus",
        /// Where its addresses are announced.
        network_border_group: Option<String> = "networkBorderGroup",
        /// Group of zones.
        group_name: Option<String> = "groupName",
    }
}

xml_shape! {
    /// The zones.
    #[derive(Default)]
    DescribeAvailabilityZonesResponse {
        /// The zones.
        availability_zones: Vec<AvailabilityZone> = "availabilityZoneInfo",
    }
}
