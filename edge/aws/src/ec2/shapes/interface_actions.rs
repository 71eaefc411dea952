//! The actions that create, attach, change and delete ENIs.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Prefix28, SecurityGroupId, SubnetId};

use super::interface::{GroupIdentifier, NetworkInterface, NetworkInterfaceAttachment};
use super::query::{param_shape, request, shared_shape};
use super::scalar::words;
use super::tags::{Done, TagSpecification};
use super::xml::xml_shape;

words! {
    closed
    /// What an ENI may be created as; an ordinary one when not given.
    NetworkInterfaceCreationType {
        /// Elastic Fabric Adapter with an IP device.
        Efa = "efa",
        /// Elastic Fabric Adapter without addresses.
        EfaOnly = "efa-only",
        /// One pod's ENI behind a trunk.
        Branch = "branch",
        /// Carries branch ENIs.
        Trunk = "trunk",
    }
}

param_shape! {
    /// A delegated /28 asked for by name.
    #[derive(Copy)]
    Ipv4PrefixSpecification {
        /// The prefix.
        ipv4_prefix: Prefix28 = "Ipv4Prefix",
    }
}

param_shape! {
    /// An IPv6 /80 asked for by name.
    #[derive(Copy)]
    Ipv6PrefixSpecification {
        /// The prefix.
        ipv6_prefix: Ipv6Net = "Ipv6Prefix",
    }
}

param_shape! {
    /// An IPv6 address asked for by name.
    #[derive(Copy)]
    InstanceIpv6Address {
        /// The address.
        ipv6_address: Ipv6Addr = "Ipv6Address",
        /// Whether it is to be the primary one.
        is_primary_ipv6: Option<bool> = "IsPrimaryIpv6",
    }
}

param_shape! {
    /// A private address asked for by name.
    #[derive(Copy)]
    PrivateIpAddressSpecification {
        /// The address.
        private_ip_address: Ipv4Addr = "PrivateIpAddress",
        /// Whether it is to be the primary one.
        primary: Option<bool> = "Primary",
    }
}

param_shape! {
    /// Time limits of tracked connections, in seconds; absent = EC2's default.
    #[derive(Copy, Default)]
    ConnectionTrackingSpecification {
        /// Idle established TCP connections, 60 to 432000.
        tcp_established_timeout: Option<u32> = "TcpEstablishedTimeout",
        /// UDP flows with several requests and answers, 60 to 180.
        udp_stream_timeout: Option<u32> = "UdpStreamTimeout",
        /// UDP flows in one direction or with one request, 30 to 60.
        udp_timeout: Option<u32> = "UdpTimeout",
    }
}

request! {
    /// Creates an ENI. At most one of the counts and lists of addresses or prefixes may be given; all or nothing.
    CreateNetworkInterface -> CreateNetworkInterfaceResponse {
        /// Where.
        subnet_id: SubnetId = "SubnetId",
        /// Free text.
        description: Option<String> = "Description",
        /// Security groups of the subnet's VPC; empty = the VPC's default group.
        groups: Vec<SecurityGroupId> = "SecurityGroupId",
        /// The primary address, if a certain one is wanted.
        private_ip_address: Option<Ipv4Addr> = "PrivateIpAddress",
        /// Certain addresses.
        private_ip_addresses: Vec<PrivateIpAddressSpecification> = "PrivateIpAddresses",
        /// So many secondary addresses of EC2's choice.
        secondary_private_ip_address_count: Option<u32> = "SecondaryPrivateIpAddressCount",
        /// Certain prefixes.
        ipv4_prefixes: Vec<Ipv4PrefixSpecification> = "Ipv4Prefix",
        /// So many /28s of EC2's choice.
        ipv4_prefix_count: Option<u32> = "Ipv4PrefixCount",
        /// So many IPv6 addresses of EC2's choice.
        ipv6_address_count: Option<u32> = "Ipv6AddressCount",
        /// Certain IPv6 addresses.
        ipv6_addresses: Vec<InstanceIpv6Address> = "Ipv6Addresses",
        /// So many IPv6 /80s of EC2's choice.
        ipv6_prefix_count: Option<u32> = "Ipv6PrefixCount",
        /// Certain IPv6 /80s.
        ipv6_prefixes: Vec<Ipv6PrefixSpecification> = "Ipv6Prefix",
        /// Whether the first IPv6 address is to be the primary one.
        enable_primary_ipv6: Option<bool> = "EnablePrimaryIpv6",
        /// What it is for.
        interface_type: Option<NetworkInterfaceCreationType> = "InterfaceType",
        /// Tags it is born with.
        tag_specifications: Vec<TagSpecification> = "TagSpecification",
        /// Time limits of tracked connections.
        connection_tracking: Option<ConnectionTrackingSpecification> = "ConnectionTrackingSpecification",
        /// Makes the call idempotent: same token and parameters, same ENI.
        client_token: Option<String> = "ClientToken",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

impl CreateNetworkInterface {
    /// An ENI in a subnet with one address; the rest is as EC2 chooses.
    #[must_use]
    pub fn new(subnet_id: SubnetId) -> Self {
        Self {
            subnet_id,
            description: None,
            groups: Vec::new(),
            private_ip_address: None,
            private_ip_addresses: Vec::new(),
            secondary_private_ip_address_count: None,
            ipv4_prefixes: Vec::new(),
            ipv4_prefix_count: None,
            ipv6_address_count: None,
            ipv6_addresses: Vec::new(),
            ipv6_prefix_count: None,
            ipv6_prefixes: Vec::new(),
            enable_primary_ipv6: None,
            interface_type: None,
            tag_specifications: Vec::new(),
            connection_tracking: None,
            client_token: None,
            dry_run: None,
        }
    }
}

xml_shape! {
    /// The new ENI.
    CreateNetworkInterfaceResponse {
        /// The ENI as it is now; usually [`super::NetworkInterfaceStatus::Pending`].
        network_interface: NetworkInterface = "networkInterface",
        /// The client token, given back.
        client_token: Option<String> = "clientToken",
    }
}

request! {
    /// Attaches an ENI to an instance. Answers before the device is there. Not idempotent.
    AttachNetworkInterface -> AttachNetworkInterfaceResponse {
        /// The ENI.
        network_interface_id: EniId = "NetworkInterfaceId",
        /// The instance, in the same zone.
        instance_id: InstanceId = "InstanceId",
        /// A free position on the card.
        device_index: DeviceIndex = "DeviceIndex",
        /// The card; absent = card 0.
        network_card_index: Option<CardIndex> = "NetworkCardIndex",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The new attachment.
    AttachNetworkInterfaceResponse {
        /// Its id.
        attachment_id: AttachmentId = "attachmentId",
        /// The card.
        network_card_index: Option<CardIndex> = "networkCardIndex",
    }
}

param_shape! {
    /// What to change about an attachment.
    NetworkInterfaceAttachmentChanges {
        /// Which attachment.
        attachment_id: Option<AttachmentId> = "AttachmentId",
        /// Whether the ENI goes away with the instance.
        delete_on_termination: Option<bool> = "DeleteOnTermination",
    }
}

shared_shape! {
    /// A text.
    AttributeValue {
        /// The text.
        value: Option<String> = "value",
    }
}

shared_shape! {
    /// A switch.
    #[derive(Copy)]
    AttributeBooleanValue {
        /// The switch.
        value: Option<bool> = "value",
    }
}

request! {
    /// Changes one attribute of an ENI (one kind per call).
    ModifyNetworkInterfaceAttribute -> Done {
        /// The ENI.
        network_interface_id: EniId = "NetworkInterfaceId",
        /// Its attachment.
        attachment: Option<NetworkInterfaceAttachmentChanges> = "Attachment",
        /// All its security groups.
        groups: Vec<SecurityGroupId> = "SecurityGroupId",
        /// Its description.
        description: Option<AttributeValue> = "Description",
        /// Its source check.
        source_dest_check: Option<AttributeBooleanValue> = "SourceDestCheck",
        /// Time limits of tracked connections.
        connection_tracking: Option<ConnectionTrackingSpecification> = "ConnectionTrackingSpecification",
        /// Whether it gets a public address when it is attached.
        associate_public_ip_address: Option<bool> = "AssociatePublicIpAddress",
        /// Whether its first IPv6 address is to be the primary one.
        enable_primary_ipv6: Option<bool> = "EnablePrimaryIpv6",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

impl ModifyNetworkInterfaceAttribute {
    /// A request that changes nothing yet; set one attribute.
    #[must_use]
    pub fn new(network_interface_id: EniId) -> Self {
        Self {
            network_interface_id,
            attachment: None,
            groups: Vec::new(),
            description: None,
            source_dest_check: None,
            connection_tracking: None,
            associate_public_ip_address: None,
            enable_primary_ipv6: None,
            dry_run: None,
        }
    }
}

words! {
    closed
    /// An attribute of an ENI.
    NetworkInterfaceAttribute {
        /// Its description.
        Description = "description",
        /// Its security groups.
        GroupSet = "groupSet",
        /// Its source check.
        SourceDestCheck = "sourceDestCheck",
        /// Its attachment.
        Attachment = "attachment",
        /// Whether it gets a public address when it is attached.
        AssociatePublicIpAddress = "associatePublicIpAddress",
    }
}

request! {
    /// Shows one attribute of an ENI.
    DescribeNetworkInterfaceAttribute -> DescribeNetworkInterfaceAttributeResponse {
        /// The ENI.
        network_interface_id: EniId = "NetworkInterfaceId",
        /// Which attribute; EC2 refuses a request without one.
        attribute: Option<NetworkInterfaceAttribute> = "Attribute",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// The attribute asked for; the others are absent.
    DescribeNetworkInterfaceAttributeResponse {
        /// The ENI.
        network_interface_id: EniId = "networkInterfaceId",
        /// Its attachment.
        attachment: Option<NetworkInterfaceAttachment> = "attachment",
        /// Its description.
        description: Option<AttributeValue> = "description",
        /// Its security groups.
        groups: Option<Vec<GroupIdentifier>> = "groupSet",
        /// Its source check.
        source_dest_check: Option<AttributeBooleanValue> = "sourceDestCheck",
        /// Whether it gets a public address when it is attached.
        associate_public_ip_address: Option<bool> = "associatePublicIpAddress",
    }
}

request! {
    /// Detaches an ENI. Answers before it is done. The primary ENI cannot be detached.
    DetachNetworkInterface -> Done {
        /// The attachment.
        attachment_id: AttachmentId = "AttachmentId",
        /// Do not wait for the guest.
        force: Option<bool> = "Force",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Deletes an ENI that is attached to nothing.
    DeleteNetworkInterface -> Done {
        /// The ENI.
        network_interface_id: EniId = "NetworkInterfaceId",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}
