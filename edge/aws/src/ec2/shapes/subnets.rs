//! The actions that change subnets, what is reserved in them, and the CIDR blocks of a VPC.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vpc_model::{SubnetId, VpcId};

use super::interface_actions::AttributeBooleanValue;
use super::query::request;
use super::scalar::words;
use super::tags::{Done, Filter, Tag, TagSpecification};
use super::vpc::{Ipv6CidrBlockAssociation, SubnetDescription, VpcCidrBlockAssociation};
use super::xml::xml_shape;

request! {
    /// Creates a subnet.
    CreateSubnet -> CreateSubnetResponse {
        /// Its VPC.
        vpc_id: VpcId = "VpcId",
        /// Its addresses, a /16 to /28 of one of the VPC's blocks. Host bits are kept here; EC2 clears them.
        cidr_block: Option<Ipv4Net> = "CidrBlock",
        /// Its IPv6 addresses, a /64 of the VPC's block.
        ipv6_cidr_block: Option<Ipv6Net> = "Ipv6CidrBlock",
        /// Whether it has IPv6 addresses only.
        ipv6_native: Option<bool> = "Ipv6Native",
        /// Its zone by name; absent = EC2's choice.
        availability_zone: Option<String> = "AvailabilityZone",
        /// Its zone by id.
        availability_zone_id: Option<String> = "AvailabilityZoneId",
        /// Tags it is born with.
        tag_specifications: Vec<TagSpecification> = "TagSpecification",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The new subnet.
    CreateSubnetResponse {
        /// The subnet as it is now.
        subnet: SubnetDescription = "subnet",
    }
}

request! {
    /// Deletes a subnet without ENIs.
    DeleteSubnet -> Done {
        /// The subnet.
        subnet_id: SubnetId = "SubnetId",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Changes one attribute of a subnet. Has no dry run.
    ModifySubnetAttribute -> Done {
        /// The subnet.
        subnet_id: SubnetId = "SubnetId",
        /// Whether instances launched in it get a public address.
        map_public_ip_on_launch: Option<AttributeBooleanValue> = "MapPublicIpOnLaunch",
        /// Whether ENIs in it get an IPv6 address.
        assign_ipv6_address_on_creation: Option<AttributeBooleanValue> = "AssignIpv6AddressOnCreation",
    }
}

words! {
    closed
    /// What a subnet CIDR reservation is for.
    SubnetCidrReservationType {
        /// EC2 takes delegated prefixes from it, and nothing else.
        Prefix = "prefix",
        /// EC2 takes nothing from it by itself.
        Explicit = "explicit",
    }
}

request! {
    /// Keeps a part of a subnet for a purpose.
    CreateSubnetCidrReservation -> CreateSubnetCidrReservationResponse {
        /// The subnet.
        subnet_id: SubnetId = "SubnetId",
        /// The part.
        cidr: IpNet = "Cidr",
        /// The purpose.
        reservation_type: SubnetCidrReservationType = "ReservationType",
        /// Free text.
        description: Option<String> = "Description",
        /// Tags it is born with.
        tag_specifications: Vec<TagSpecification> = "TagSpecification",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// A part of a subnet that is kept for a purpose.
    SubnetCidrReservation {
        /// Its id (`scr-…`).
        subnet_cidr_reservation_id: String = "subnetCidrReservationId",
        /// The subnet.
        subnet_id: SubnetId = "subnetId",
        /// The part.
        cidr: IpNet = "cidr",
        /// The purpose.
        reservation_type: SubnetCidrReservationType = "reservationType",
        /// The account.
        owner_id: Option<String> = "ownerId",
        /// Free text.
        description: Option<String> = "description",
        /// Its tags.
        tags: Vec<Tag> = "tagSet",
    }
}

xml_shape! {
    /// The new reservation.
    CreateSubnetCidrReservationResponse {
        /// The reservation.
        reservation: SubnetCidrReservation = "subnetCidrReservation",
    }
}

request! {
    /// Ends a reservation; addresses given out of it stay.
    DeleteSubnetCidrReservation -> DeleteSubnetCidrReservationResponse {
        /// The reservation (`scr-…`).
        subnet_cidr_reservation_id: String = "SubnetCidrReservationId",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The reservation that is gone.
    DeleteSubnetCidrReservationResponse {
        /// The reservation.
        reservation: SubnetCidrReservation = "deletedSubnetCidrReservation",
    }
}

request! {
    /// Lists the reservations of a subnet.
    GetSubnetCidrReservations -> GetSubnetCidrReservationsResponse {
        /// The subnet.
        subnet_id: SubnetId = "SubnetId",
        /// Conditions: `reservationType`, `subnet-id`, `tag:<key>`, `tag-key`.
        filters: Vec<Filter> = "Filter",
        /// Page size, 5 to 1000.
        max_results: Option<u32> = "MaxResults",
        /// Where the last page ended.
        next_token: Option<String> = "NextToken",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// A page of reservations.
    #[derive(Default)]
    GetSubnetCidrReservationsResponse {
        /// Those of IPv4 addresses.
        ipv4_reservations: Vec<SubnetCidrReservation> = "subnetIpv4CidrReservationSet",
        /// Those of IPv6 addresses.
        ipv6_reservations: Vec<SubnetCidrReservation> = "subnetIpv6CidrReservationSet",
        /// How to ask for the next page; absent on the last.
        next_token: Option<String> = "nextToken",
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
