//! Instances as EC2 shows them.

use std::net::Ipv4Addr;

use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Mac, SubnetId, VpcId};

use super::interface::{
    AttachmentStatus, ConnectionTrackingConfiguration, GroupIdentifier, InterfaceType, Ipv4PrefixEntry,
    Ipv6AddressOfInterface, Ipv6PrefixEntry, NetworkInterfaceStatus,
};
use super::listing::listing;
use super::scalar::{Timestamp, words};
use super::tags::Tag;
use super::xml::xml_shape;

listing! {
    /// Lists instances.
    #[derive(Default)]
    DescribeInstances {
        /// The instances; empty = all that pass the filters.
        instance_ids: Vec<InstanceId> = "InstanceId",
    }
    /// A page of instances, grouped by the launch they came from.
    DescribeInstancesResponse {
        /// The launches.
        reservations: Vec<Reservation> = "reservationSet",
    }
}

xml_shape! {
    /// Instances launched together.
    Reservation {
        /// Its id (`r-…`).
        reservation_id: String = "reservationId",
        /// The account.
        owner_id: Option<String> = "ownerId",
        /// Security groups (EC2-Classic only; empty in a VPC).
        groups: Vec<GroupIdentifier> = "groupSet",
        /// The instances.
        instances: Vec<Instance> = "instancesSet",
    }
}

xml_shape! {
    /// An instance.
    Instance {
        /// Its id.
        instance_id: InstanceId = "instanceId",
        /// The image it was made from.
        image_id: Option<String> = "imageId",
        /// Where it is in its life.
        state: InstanceState = "instanceState",
        /// Name derived from its primary private address.
        private_dns_name: Option<String> = "privateDnsName",
        /// For example `m5.large`.
        instance_type: String = "instanceType",
        /// When it was launched.
        launch_time: Option<Timestamp> = "launchTime",
        /// Where it runs.
        placement: Option<Placement> = "placement",
        /// The subnet of its primary ENI.
        subnet_id: Option<SubnetId> = "subnetId",
        /// Its VPC.
        vpc_id: Option<VpcId> = "vpcId",
        /// Its primary private address.
        private_ip_address: Option<Ipv4Addr> = "privateIpAddress",
        /// Its public address.
        public_ip_address: Option<Ipv4Addr> = "ipAddress",
        /// Security groups of its primary ENI.
        security_groups: Vec<GroupIdentifier> = "groupSet",
        /// Its tags.
        tags: Vec<Tag> = "tagSet",
        /// Its ENIs.
        network_interfaces: Vec<InstanceNetworkInterface> = "networkInterfaceSet",
        /// How its metadata service behaves.
        metadata_options: Option<InstanceMetadataOptions> = "metadataOptions",
        /// The profile whose role it has.
        iam_instance_profile: Option<IamInstanceProfile> = "iamInstanceProfile",
        /// Whether EC2 drops packets that are not from or to the primary ENI's addresses.
        source_dest_check: Option<bool> = "sourceDestCheck",
        /// Its public name.
        public_dns_name: Option<String> = "dnsName",
        /// Name of its SSH key pair.
        key_name: Option<String> = "keyName",
        /// Its number among those launched by the same call, from 0.
        ami_launch_index: Option<u32> = "amiLaunchIndex",
        /// The client token of its launch.
        client_token: Option<String> = "clientToken",
        /// Whether it is measured in detail.
        monitoring: Option<Monitoring> = "monitoring",
        /// Why it is in its state, for people.
        state_transition_reason: Option<String> = "reason",
        /// Why it is in its state.
        state_reason: Option<StateReason> = "stateReason",
    }
}

xml_shape! {
    /// The profile whose role an instance has.
    IamInstanceProfile {
        /// `arn:aws:iam::<account>:instance-profile/<name>`.
        arn: Option<String> = "arn",
        /// Its id (`AIPA…`).
        id: Option<String> = "id",
    }
}

xml_shape! {
    /// Whether an instance is measured in detail.
    Monitoring {
        /// `disabled`, `disabling`, `enabled` or `pending`.
        state: String = "state",
    }
}

xml_shape! {
    /// Why an instance is in its state.
    StateReason {
        /// For example `Client.UserInitiatedShutdown`.
        code: String = "code",
        /// For people.
        message: Option<String> = "message",
    }
}

xml_shape! {
    /// Where an instance is in its life.
    InstanceState {
        /// The low byte says the same as the name.
        code: u32 = "code",
        /// The name.
        name: InstanceStateName = "name",
    }
}

words! {
    open
    /// Names of instance states.
    InstanceStateName {
        /// Code 0.
        Pending = "pending",
        /// Code 16.
        Running = "running",
        /// Code 32.
        ShuttingDown = "shutting-down",
        /// Code 48.
        Terminated = "terminated",
        /// Code 64.
        Stopping = "stopping",
        /// Code 80.
        Stopped = "stopped",
    }
}

xml_shape! {
    /// Where an instance runs.
    #[derive(Default)]
    Placement {
        /// The zone by name.
        availability_zone: Option<String> = "availabilityZone",
        /// The zone by id.
        availability_zone_id: Option<String> = "availabilityZoneId",
        /// `default`, `dedicated` or `host`.
        tenancy: Option<String> = "tenancy",
    }
}

xml_shape! {
    /// How an instance's metadata service behaves.
    #[derive(Default)]
    InstanceMetadataOptions {
        /// `optional` or `required`: whether a session token is asked for.
        http_tokens: Option<String> = "httpTokens",
        /// TTL of the packets that carry a token, 1 to 64.
        http_put_response_hop_limit: Option<u32> = "httpPutResponseHopLimit",
        /// `enabled` or `disabled`.
        http_endpoint: Option<String> = "httpEndpoint",
        /// `pending` or `applied`.
        state: Option<String> = "state",
        /// `enabled` or `disabled`: whether it is reached by IPv6, too.
        http_protocol_ipv6: Option<String> = "httpProtocolIpv6",
        /// `enabled` or `disabled`: whether it shows the instance's tags.
        instance_metadata_tags: Option<String> = "instanceMetadataTags",
    }
}

xml_shape! {
    /// An ENI as DescribeInstances shows it.
    InstanceNetworkInterface {
        /// Its id.
        network_interface_id: EniId = "networkInterfaceId",
        /// Its subnet.
        subnet_id: Option<SubnetId> = "subnetId",
        /// Its VPC.
        vpc_id: Option<VpcId> = "vpcId",
        /// Free text.
        description: Option<String> = "description",
        /// The account.
        owner_id: Option<String> = "ownerId",
        /// Where it is in its life.
        status: NetworkInterfaceStatus = "status",
        /// Stable for its life.
        mac_address: Mac = "macAddress",
        /// The primary private address.
        private_ip_address: Option<Ipv4Addr> = "privateIpAddress",
        /// Name derived from it.
        private_dns_name: Option<String> = "privateDnsName",
        /// Whether EC2 drops packets that are not from or to its addresses.
        source_dest_check: Option<bool> = "sourceDestCheck",
        /// Its security groups.
        groups: Vec<GroupIdentifier> = "groupSet",
        /// How it is tied to the instance.
        attachment: Option<InstanceNetworkInterfaceAttachment> = "attachment",
        /// The public address of the primary private address.
        association: Option<InstanceNetworkInterfaceAssociation> = "association",
        /// Its private addresses, the primary one first.
        private_ip_addresses: Vec<InstancePrivateIpAddress> = "privateIpAddressesSet",
        /// Its IPv6 addresses.
        ipv6_addresses: Vec<Ipv6AddressOfInterface> = "ipv6AddressesSet",
        /// What it is for.
        interface_type: Option<InterfaceType> = "interfaceType",
        /// Its delegated /28s.
        ipv4_prefixes: Vec<Ipv4PrefixEntry> = "ipv4PrefixSet",
        /// Its delegated IPv6 /80s.
        ipv6_prefixes: Vec<Ipv6PrefixEntry> = "ipv6PrefixSet",
        /// Time limits of tracked connections.
        connection_tracking: Option<ConnectionTrackingConfiguration> = "connectionTrackingConfiguration",
    }
}

xml_shape! {
    /// How an ENI is tied to the instance that is described.
    InstanceNetworkInterfaceAttachment {
        /// Its id.
        attachment_id: AttachmentId = "attachmentId",
        /// Position on its network card.
        device_index: DeviceIndex = "deviceIndex",
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

xml_shape! {
    /// The public address in front of a private one of the instance that is described.
    InstanceNetworkInterfaceAssociation {
        /// The public address.
        public_ip: Ipv4Addr = "publicIp",
        /// Its name.
        public_dns_name: Option<String> = "publicDnsName",
        /// `amazon`, or the account that owns the address.
        ip_owner_id: Option<String> = "ipOwnerId",
    }
}

xml_shape! {
    /// A private address of an ENI of the instance that is described.
    InstancePrivateIpAddress {
        /// The address.
        private_ip_address: Ipv4Addr = "privateIpAddress",
        /// Whether it is the primary one.
        primary: Option<bool> = "primary",
        /// Its name.
        private_dns_name: Option<String> = "privateDnsName",
        /// The public address in front of it.
        association: Option<InstanceNetworkInterfaceAssociation> = "association",
    }
}

listing! {
    /// Lists how instances do.
    #[derive(Default)]
    DescribeInstanceStatus {
        /// The instances; empty = all that pass the filters.
        instance_ids: Vec<InstanceId> = "InstanceId",
        /// Whether instances that do not run are listed, too.
        include_all_instances: Option<bool> = "IncludeAllInstances",
    }
    /// A page of instances.
    DescribeInstanceStatusResponse {
        /// The instances.
        instance_statuses: Vec<InstanceStatus> = "instanceStatusSet",
    }
}

xml_shape! {
    /// How an instance does.
    InstanceStatus {
        /// Which.
        instance_id: InstanceId = "instanceId",
        /// Its zone by name.
        availability_zone: Option<String> = "availabilityZone",
        /// Its zone by id.
        availability_zone_id: Option<String> = "availabilityZoneId",
        /// Where it is in its life.
        instance_state: InstanceState = "instanceState",
        /// Checks of the guest.
        instance_status: Option<StatusSummary> = "instanceStatus",
        /// Checks of the host.
        system_status: Option<StatusSummary> = "systemStatus",
        /// Checks of its volumes.
        attached_ebs_status: Option<StatusSummary> = "attachedEbsStatus",
    }
}

xml_shape! {
    /// What a kind of checks says.
    StatusSummary {
        /// `ok`, `impaired`, `initializing`, `insufficient-data` or `not-applicable`.
        status: String = "status",
        /// The checks.
        details: Vec<StatusDetail> = "details",
    }
}

xml_shape! {
    /// What a check says.
    StatusDetail {
        /// `reachability`.
        name: String = "name",
        /// `passed`, `failed`, `initializing` or `insufficient-data`.
        status: String = "status",
    }
}
