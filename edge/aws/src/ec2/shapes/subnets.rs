//! Subnets and what is reserved in them.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vpc_model::{Subnet, SubnetId, VpcId};

use super::interface_actions::AttributeBooleanValue;
use super::listing::listing;
use super::query::request;
use super::scalar::words;
use super::tags::{Done, Tag, TagSpecification};
use super::vpc::Ipv6CidrBlockAssociation;
use super::xml::xml_shape;

listing! {
    /// Lists subnets.
    #[derive(Default)]
    DescribeSubnets {
        /// The subnets; empty = all that pass the filters.
        subnet_ids: Vec<SubnetId> = "SubnetId",
    }
    /// A page of subnets.
    DescribeSubnetsResponse {
        /// The subnets.
        subnets: Vec<SubnetDescription> = "subnetSet",
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

listing! {
    /// Lists the reservations of a subnet.
    GetSubnetCidrReservations {
        /// The subnet.
        subnet_id: SubnetId = "SubnetId",
    }
    /// A page of reservations.
    GetSubnetCidrReservationsResponse {
        /// Those of IPv4 addresses.
        ipv4_reservations: Vec<SubnetCidrReservation> = "subnetIpv4CidrReservationSet",
        /// Those of IPv6 addresses.
        ipv6_reservations: Vec<SubnetCidrReservation> = "subnetIpv6CidrReservationSet",
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
