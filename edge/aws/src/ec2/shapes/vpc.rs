//! VPCs, their CIDR blocks, and zones.

use ipnet::{Ipv4Net, Ipv6Net};
use vpc_model::VpcId;

use super::listing::listing;
use super::query::request;
use super::scalar::words;
use super::tags::{Filter, Tag};
use super::xml::xml_shape;

listing! {
    /// Lists VPCs.
    #[derive(Default)]
    DescribeVpcs {
        /// The VPCs; empty = all that pass the filters.
        vpc_ids: Vec<VpcId> = "VpcId",
    }
    /// A page of VPCs.
    DescribeVpcsResponse {
        /// The VPCs.
        vpcs: Vec<Vpc> = "vpcSet",
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
    /// The state of a CIDR block.
    BlockState {
        /// Where it is in its life.
        state: CidrBlockState = "state",
    }
}

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

request! {
    /// Adds a CIDR block to a VPC. Has no dry run.
    AssociateVpcCidrBlock -> VpcCidrBlockResponse {
        /// The VPC.
        vpc_id: VpcId = "VpcId",
        /// The block.
        cidr_block: Option<Ipv4Net> = "CidrBlock",
        /// Whether a block of EC2's IPv6 addresses is wanted.
        amazon_provided_ipv6_cidr_block: Option<bool> = "AmazonProvidedIpv6CidrBlock",
    }
}

request! {
    /// Removes a CIDR block from a VPC; not the primary one, and none with a subnet. Has no dry run.
    DisassociateVpcCidrBlock -> VpcCidrBlockResponse {
        /// The block's association (`vpc-cidr-assoc-…`).
        association_id: String = "AssociationId",
    }
}

xml_shape! {
    /// The block that comes or goes.
    VpcCidrBlockResponse {
        /// The VPC.
        vpc_id: VpcId = "vpcId",
        /// The block, if it is one of IPv4 addresses.
        cidr_block_association: Option<VpcCidrBlockAssociation> = "cidrBlockAssociation",
        /// The block, if it is one of IPv6 addresses.
        ipv6_cidr_block_association: Option<Ipv6CidrBlockAssociation> = "ipv6CidrBlockAssociation",
    }
}

request! {
    /// Lists the zones of the region.
    #[derive(Default)]
    DescribeAvailabilityZones -> DescribeAvailabilityZonesResponse {
        /// Zones by name.
        zone_names: Vec<String> = "ZoneName",
        /// Zones by id.
        zone_ids: Vec<String> = "ZoneId",
        /// Zones that are not opted in, too.
        all_availability_zones: Option<bool> = "AllAvailabilityZones",
        /// Conditions.
        filters: Vec<Filter> = "Filter",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
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
