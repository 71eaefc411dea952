//! The life of an instance: launching, stopping, starting, restarting and ending it.

use std::net::Ipv4Addr;

use vpc_model::{CardIndex, DeviceIndex, EniId, InstanceId, SecurityGroupId, SubnetId};

use super::instance::{InstanceState, Reservation};
use super::interface_actions::{
    ConnectionTrackingSpecification, InstanceIpv6Address, Ipv4PrefixSpecification, Ipv6PrefixSpecification,
    PrivateIpAddressSpecification,
};
use super::query::{param_shape, request};
use super::scalar::words;
use super::tags::{Done, TagSpecification};
use super::xml::xml_shape;

request! {
    /// Launches instances: as many as there is room for, at least `min_count`, at most `max_count`, or none.
    RunInstances -> Reservation {
        /// The image (`ami-…`).
        image_id: Option<String> = "ImageId",
        /// So many at least.
        min_count: u32 = "MinCount",
        /// So many at most.
        max_count: u32 = "MaxCount",
        /// For example `m5.large`; absent = `m1.small`.
        instance_type: Option<String> = "InstanceType",
        /// Subnet of the primary ENI; not together with `network_interfaces`.
        subnet_id: Option<SubnetId> = "SubnetId",
        /// Security groups of the primary ENI; not together with `network_interfaces`.
        security_group_ids: Vec<SecurityGroupId> = "SecurityGroupId",
        /// The same by name (default VPC only).
        security_groups: Vec<String> = "SecurityGroup",
        /// The primary private address; only for one instance.
        private_ip_address: Option<Ipv4Addr> = "PrivateIpAddress",
        /// So many IPv6 addresses for the primary ENI.
        ipv6_address_count: Option<u32> = "Ipv6AddressCount",
        /// The ENIs, instead of the members above.
        network_interfaces: Vec<InstanceNetworkInterfaceSpecification> = "NetworkInterface",
        /// How the metadata service behaves.
        metadata_options: Option<InstanceMetadataOptionsRequest> = "MetadataOptions",
        /// The profile whose role the instance has.
        iam_instance_profile: Option<IamInstanceProfileSpecification> = "IamInstanceProfile",
        /// Where to.
        placement: Option<PlacementSpecification> = "Placement",
        /// Tags of the instances, their ENIs and volumes.
        tag_specifications: Vec<TagSpecification> = "TagSpecification",
        /// Disks.
        block_device_mappings: Vec<BlockDeviceMapping> = "BlockDeviceMapping",
        /// What the metadata service gives as `user-data`, in base64.
        user_data: Option<String> = "UserData",
        /// Name of an SSH key pair.
        key_name: Option<String> = "KeyName",
        /// Whether detailed measurements are wanted.
        monitoring: Option<RunInstancesMonitoring> = "Monitoring",
        /// Whether disks have bandwidth of their own.
        ebs_optimized: Option<bool> = "EbsOptimized",
        /// Whether TerminateInstances is to be refused.
        disable_api_termination: Option<bool> = "DisableApiTermination",
        /// Whether StopInstances is to be refused.
        disable_api_stop: Option<bool> = "DisableApiStop",
        /// `stop` or `terminate`.
        instance_initiated_shutdown_behavior: Option<String> = "InstanceInitiatedShutdownBehavior",
        /// Makes the call idempotent: same token and parameters, same instances.
        client_token: Option<String> = "ClientToken",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

impl RunInstances {
    /// So many instances of EC2's choice; set the members that matter.
    #[must_use]
    pub fn new(min_count: u32, max_count: u32) -> Self {
        Self {
            image_id: None,
            min_count,
            max_count,
            instance_type: None,
            subnet_id: None,
            security_group_ids: Vec::new(),
            security_groups: Vec::new(),
            private_ip_address: None,
            ipv6_address_count: None,
            network_interfaces: Vec::new(),
            metadata_options: None,
            iam_instance_profile: None,
            placement: None,
            tag_specifications: Vec::new(),
            block_device_mappings: Vec::new(),
            user_data: None,
            key_name: None,
            monitoring: None,
            ebs_optimized: None,
            disable_api_termination: None,
            disable_api_stop: None,
            instance_initiated_shutdown_behavior: None,
            client_token: None,
            dry_run: None,
        }
    }
}

param_shape! {
    /// An ENI of an instance to be launched: one that is there, or how a new one is to be.
    #[derive(Default)]
    InstanceNetworkInterfaceSpecification {
        /// Position on its network card; needed for a launch.
        device_index: Option<DeviceIndex> = "DeviceIndex",
        /// Network card; absent = card 0.
        network_card_index: Option<CardIndex> = "NetworkCardIndex",
        /// An ENI that is there.
        network_interface_id: Option<EniId> = "NetworkInterfaceId",
        /// Subnet of a new one.
        subnet_id: Option<SubnetId> = "SubnetId",
        /// Free text.
        description: Option<String> = "Description",
        /// Its security groups; empty = the VPC's default group.
        groups: Vec<SecurityGroupId> = "SecurityGroupId",
        /// Its primary private address.
        private_ip_address: Option<Ipv4Addr> = "PrivateIpAddress",
        /// Certain addresses.
        private_ip_addresses: Vec<PrivateIpAddressSpecification> = "PrivateIpAddresses",
        /// So many secondary addresses of EC2's choice.
        secondary_private_ip_address_count: Option<u32> = "SecondaryPrivateIpAddressCount",
        /// Certain /28s.
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
        /// Whether it gets a public address; only for a single new ENI with device index 0.
        associate_public_ip_address: Option<bool> = "AssociatePublicIpAddress",
        /// Whether it goes away with the instance; absent = yes for a new one.
        delete_on_termination: Option<bool> = "DeleteOnTermination",
        /// `interface`, `efa` or `efa-only`; absent = `interface`.
        interface_type: Option<String> = "InterfaceType",
        /// Time limits of tracked connections.
        connection_tracking: Option<ConnectionTrackingSpecification> = "ConnectionTrackingSpecification",
    }
}

param_shape! {
    /// How an instance's metadata service is to behave.
    #[derive(Default)]
    InstanceMetadataOptionsRequest {
        /// Whether a session token is asked for.
        http_tokens: Option<HttpTokens> = "HttpTokens",
        /// TTL of the packets that carry a token, 1 to 64.
        http_put_response_hop_limit: Option<u32> = "HttpPutResponseHopLimit",
        /// Whether there is a metadata service at all.
        http_endpoint: Option<EnabledDisabled> = "HttpEndpoint",
        /// Whether it is reached by IPv6, too.
        http_protocol_ipv6: Option<EnabledDisabled> = "HttpProtocolIpv6",
        /// Whether it shows the instance's tags.
        instance_metadata_tags: Option<EnabledDisabled> = "InstanceMetadataTags",
    }
}

words! {
    closed
    /// Whether the metadata service asks for a session token.
    HttpTokens {
        /// No.
        Optional = "optional",
        /// Yes.
        Required = "required",
    }
}

words! {
    closed
    /// A switch of the metadata service.
    EnabledDisabled {
        /// On.
        Enabled = "enabled",
        /// Off.
        Disabled = "disabled",
    }
}

param_shape! {
    /// An instance profile by ARN or name; one is needed.
    #[derive(Default)]
    IamInstanceProfileSpecification {
        /// `arn:aws:iam::<account>:instance-profile/<name>`.
        arn: Option<String> = "Arn",
        /// Its name.
        name: Option<String> = "Name",
    }
}

param_shape! {
    /// Where an instance is to run.
    #[derive(Default)]
    PlacementSpecification {
        /// The zone by name.
        availability_zone: Option<String> = "AvailabilityZone",
        /// The zone by id.
        availability_zone_id: Option<String> = "AvailabilityZoneId",
        /// `default`, `dedicated` or `host`.
        tenancy: Option<String> = "Tenancy",
        /// A placement group.
        group_name: Option<String> = "GroupName",
    }
}

param_shape! {
    /// Whether detailed measurements are wanted.
    #[derive(Copy)]
    RunInstancesMonitoring {
        /// The switch.
        enabled: bool = "Enabled",
    }
}

param_shape! {
    /// A disk.
    #[derive(Default)]
    BlockDeviceMapping {
        /// For example `/dev/xvda`.
        device_name: Option<String> = "DeviceName",
        /// A disk of the host (`ephemeral0`).
        virtual_name: Option<String> = "VirtualName",
        /// Given (empty) to leave out a disk of the image.
        no_device: Option<String> = "NoDevice",
        /// A volume.
        ebs: Option<EbsBlockDevice> = "Ebs",
    }
}

param_shape! {
    /// A volume.
    #[derive(Default)]
    EbsBlockDevice {
        /// Gibibytes.
        volume_size: Option<u32> = "VolumeSize",
        /// For example `gp3`.
        volume_type: Option<String> = "VolumeType",
        /// Operations per second.
        iops: Option<u32> = "Iops",
        /// Mebibytes per second.
        throughput: Option<u32> = "Throughput",
        /// Whether it is encrypted.
        encrypted: Option<bool> = "Encrypted",
        /// With which key.
        kms_key_id: Option<String> = "KmsKeyId",
        /// What it is made from (`snap-…`).
        snapshot_id: Option<String> = "SnapshotId",
        /// Whether it goes away with the instance.
        delete_on_termination: Option<bool> = "DeleteOnTermination",
    }
}

request! {
    /// Ends instances. Answers before it is done; instances that ended already are no error.
    #[derive(Default)]
    TerminateInstances -> InstanceStateChanges {
        /// The instances.
        instance_ids: Vec<InstanceId> = "InstanceId",
        /// Do not wait for the guest.
        force: Option<bool> = "Force",
        /// Do not ask the guest at all.
        skip_os_shutdown: Option<bool> = "SkipOsShutdown",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Starts stopped instances. Answers before it is done.
    #[derive(Default)]
    StartInstances -> InstanceStateChanges {
        /// The instances.
        instance_ids: Vec<InstanceId> = "InstanceId",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Stops running instances. Answers before it is done.
    #[derive(Default)]
    StopInstances -> InstanceStateChanges {
        /// The instances.
        instance_ids: Vec<InstanceId> = "InstanceId",
        /// Keep what is in memory.
        hibernate: Option<bool> = "Hibernate",
        /// Do not wait for the guest.
        force: Option<bool> = "Force",
        /// Do not ask the guest at all.
        skip_os_shutdown: Option<bool> = "SkipOsShutdown",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

request! {
    /// Restarts running instances. Answers before it is done.
    #[derive(Default)]
    RebootInstances -> Done {
        /// The instances.
        instance_ids: Vec<InstanceId> = "InstanceId",
        /// Only ask whether it would be allowed.
        dry_run: Option<bool> = "DryRun",
    }
}

xml_shape! {
    /// What became of instances.
    #[derive(Default)]
    InstanceStateChanges {
        /// One for each instance.
        changes: Vec<InstanceStateChange> = "instancesSet",
    }
}

xml_shape! {
    /// What became of an instance.
    InstanceStateChange {
        /// Which.
        instance_id: InstanceId = "instanceId",
        /// Now.
        current_state: InstanceState = "currentState",
        /// Before.
        previous_state: InstanceState = "previousState",
    }
}
