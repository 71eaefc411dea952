//! The ENI as EC2 shows it.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use vpc_model::{
    AllocationId, AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Mac, Prefix28, SecurityGroupId, SubnetId,
    VpcId,
};

use super::listing::listing;
use super::scalar::{Timestamp, words};
use super::tags::Tag;
use super::xml::xml_shape;

listing! {
    /// Lists ENIs. Ids and `max_results` exclude each other; one unknown id fails the whole call.
    #[derive(Default)]
    DescribeNetworkInterfaces {
        /// The ENIs; empty = all that pass the filters.
        network_interface_ids: Vec<EniId> = "NetworkInterfaceId",
    }
    /// A page of ENIs.
    DescribeNetworkInterfacesResponse {
        /// The ENIs.
        network_interfaces: Vec<NetworkInterface> = "networkInterfaceSet",
    }
}

xml_shape! {
    /// An elastic network interface.
    NetworkInterface {
        /// Its id.
        network_interface_id: EniId = "networkInterfaceId",
        /// Its subnet.
        subnet_id: SubnetId = "subnetId",
        /// Its VPC.
        vpc_id: VpcId = "vpcId",
        /// The zone of its subnet by name.
        availability_zone: Option<String> = "availabilityZone",
        /// The zone by id.
        availability_zone_id: Option<String> = "availabilityZoneId",
        /// Free text given at creation.
        description: Option<String> = "description",
        /// The account it belongs to.
        owner_id: Option<String> = "ownerId",
        /// Who created it on behalf of the account.
        requester_id: Option<String> = "requesterId",
        /// Whether an AWS service manages it.
        requester_managed: Option<bool> = "requesterManaged",
        /// Where it is in its life.
        status: NetworkInterfaceStatus = "status",
        /// Stable for its life.
        mac_address: Mac = "macAddress",
        /// The primary private address; absent on IPv6-only ENIs.
        private_ip_address: Option<Ipv4Addr> = "privateIpAddress",
        /// Name derived from the primary private address.
        private_dns_name: Option<String> = "privateDnsName",
        /// Whether EC2 drops packets that are not from or to its addresses.
        source_dest_check: Option<bool> = "sourceDestCheck",
        /// Its security groups.
        groups: Vec<GroupIdentifier> = "groupSet",
        /// How it is tied to an instance; absent when it is not.
        attachment: Option<NetworkInterfaceAttachment> = "attachment",
        /// The public address of the primary private address.
        association: Option<NetworkInterfaceAssociation> = "association",
        /// Its tags.
        tags: Vec<Tag> = "tagSet",
        /// Its private addresses, the primary one first; empty on IPv6-only ENIs.
        private_ip_addresses: Vec<PrivateIpAddressOfInterface> = "privateIpAddressesSet",
        /// Its delegated /28s.
        ipv4_prefixes: Vec<Ipv4PrefixEntry> = "ipv4PrefixSet",
        /// Its IPv6 addresses.
        ipv6_addresses: Vec<Ipv6AddressOfInterface> = "ipv6AddressesSet",
        /// Its delegated IPv6 /80s.
        ipv6_prefixes: Vec<Ipv6PrefixEntry> = "ipv6PrefixSet",
        /// What it is for.
        interface_type: InterfaceType = "interfaceType",
        /// Time limits of tracked connections.
        connection_tracking: Option<ConnectionTrackingConfiguration> = "connectionTrackingConfiguration",
    }
}

words! {
    open
    /// Where an ENI is in its life.
    NetworkInterfaceStatus {
        /// Being created (shown by CreateNetworkInterface only).
        Pending = "pending",
        /// Attached to nothing.
        Available = "available",
        /// Tied to an elastic IP but to no instance.
        Associated = "associated",
        /// On its way to an instance.
        Attaching = "attaching",
        /// Attached.
        InUse = "in-use",
        /// On its way off an instance.
        Detaching = "detaching",
    }
}

words! {
    open
    /// What an ENI is for.
    InterfaceType {
        /// An ordinary ENI.
        Interface = "interface",
        /// Elastic Fabric Adapter with an IP device.
        Efa = "efa",
        /// Elastic Fabric Adapter without addresses.
        EfaOnly = "efa-only",
        /// Carries branch ENIs.
        Trunk = "trunk",
        /// One pod's ENI behind a trunk.
        Branch = "branch",
        /// A NAT gateway's.
        NatGateway = "nat_gateway",
        /// A network load balancer's.
        NetworkLoadBalancer = "network_load_balancer",
        /// A VPC endpoint's.
        VpcEndpoint = "vpc_endpoint",
        /// A Lambda function's.
        Lambda = "lambda",
    }
}

xml_shape! {
    /// How an ENI is tied to an instance.
    NetworkInterfaceAttachment {
        /// Its id.
        attachment_id: ServiceOr<AttachmentId> = "attachmentId",
        /// The instance.
        instance_id: Option<InstanceId> = "instanceId",
        /// The account the instance belongs to.
        instance_owner_id: Option<String> = "instanceOwnerId",
        /// Position on its network card.
        device_index: Option<DeviceIndex> = "deviceIndex",
        /// Network card; absent means card 0.
        network_card_index: Option<CardIndex> = "networkCardIndex",
        /// Where it is in its life.
        status: AttachmentStatus = "status",
        /// Since when.
        attach_time: Option<Timestamp> = "attachTime",
        /// Whether the ENI goes away with the instance.
        delete_on_termination: Option<bool> = "deleteOnTermination",
    }
}

words! {
    open
    /// Where an attachment is in its life.
    AttachmentStatus {
        /// Not yet there.
        Attaching = "attaching",
        /// There.
        Attached = "attached",
        /// Going away.
        Detaching = "detaching",
        /// Gone.
        Detached = "detached",
    }
}

/// An ordinary id, or the id of something an AWS service made for itself: attachments of requester-managed ENIs are called
/// `ela-attach-…`, and one of them must not spoil a whole answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceOr<T> {
    /// An ordinary id.
    Own(T),
    /// Text of another form.
    Service(String),
}

impl<T> ServiceOr<T> {
    /// The ordinary id.
    pub fn own(&self) -> Option<&T> {
        match self {
            Self::Own(id) => Some(id),
            Self::Service(_) => None,
        }
    }
}

impl<T: std::fmt::Display> std::fmt::Display for ServiceOr<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own(id) => id.fmt(f),
            Self::Service(text) => text.fmt(f),
        }
    }
}

impl<T> From<T> for ServiceOr<T> {
    fn from(id: T) -> Self {
        Self::Own(id)
    }
}

impl<T: super::scalar::Scalar> super::scalar::Scalar for ServiceOr<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn parse(text: &str) -> Option<Self> {
        Some(T::parse(text).map_or_else(|| Self::Service(text.to_owned()), Self::Own))
    }
    fn text(&self) -> String {
        match self {
            Self::Own(id) => id.text(),
            Self::Service(text) => text.clone(),
        }
    }
}

xml_shape! {
    /// The public address in front of a private one.
    NetworkInterfaceAssociation {
        /// The public address.
        public_ip: Ipv4Addr = "publicIp",
        /// Its name.
        public_dns_name: Option<String> = "publicDnsName",
        /// `amazon`, or the account that owns the address.
        ip_owner_id: Option<String> = "ipOwnerId",
        /// The elastic IP; absent for an automatic public address.
        allocation_id: Option<AllocationId> = "allocationId",
        /// The tie between the two.
        association_id: Option<String> = "associationId",
    }
}

xml_shape! {
    /// A private address of an ENI.
    PrivateIpAddressOfInterface {
        /// The address.
        private_ip_address: Ipv4Addr = "privateIpAddress",
        /// Whether it is the primary one.
        primary: Option<bool> = "primary",
        /// Its name.
        private_dns_name: Option<String> = "privateDnsName",
        /// The public address in front of it.
        association: Option<NetworkInterfaceAssociation> = "association",
    }
}

xml_shape! {
    /// A delegated /28.
    #[derive(Copy, Hash)]
    Ipv4PrefixEntry {
        /// The prefix.
        ipv4_prefix: Prefix28 = "ipv4Prefix",
    }
}

xml_shape! {
    /// A delegated IPv6 /80.
    #[derive(Copy, Hash)]
    Ipv6PrefixEntry {
        /// The prefix.
        ipv6_prefix: Ipv6Net = "ipv6Prefix",
    }
}

xml_shape! {
    /// An IPv6 address of an ENI.
    #[derive(Copy, Hash)]
    Ipv6AddressOfInterface {
        /// The address.
        ipv6_address: Ipv6Addr = "ipv6Address",
        /// Whether it is the primary one.
        is_primary_ipv6: Option<bool> = "isPrimaryIpv6",
    }
}

xml_shape! {
    /// A security group by id and name.
    GroupIdentifier {
        /// Its id.
        group_id: SecurityGroupId = "groupId",
        /// Its name.
        group_name: Option<String> = "groupName",
    }
}

xml_shape! {
    /// Time limits of tracked connections, in seconds; absent = EC2's default.
    #[derive(Copy, Default, Hash)]
    ConnectionTrackingConfiguration {
        /// Idle established TCP connections, 60 to 432000.
        tcp_established_timeout: Option<u32> = "tcpEstablishedTimeout",
        /// UDP flows with several requests and answers, 60 to 180.
        udp_stream_timeout: Option<u32> = "udpStreamTimeout",
        /// UDP flows in one direction or with one request, 30 to 60.
        udp_timeout: Option<u32> = "udpTimeout",
    }
}
