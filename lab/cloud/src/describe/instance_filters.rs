//! The filters of DescribeInstances: those of the instance and those of its ENIs.

use vpc_aws::ec2::shapes::{
    GroupIdentifier, Instance, InstanceMetadataOptions, NetworkInterface, NetworkInterfaceAssociation,
    NetworkInterfaceAttachment, PrivateIpAddressOfInterface,
};

use super::filter::{Row, all, by_tag, held, keys, not_held, one};

/// An instance as it is shown, with what the answer shows around it.
#[derive(Debug)]
pub(super) struct ShownInstance {
    pub(super) reservation: String,
    pub(super) owner: String,
    pub(super) instance: Instance,
    /// Its ENIs as DescribeNetworkInterfaces shows them.
    pub(super) enis: Vec<NetworkInterface>,
}

pub(super) const INSTANCE_FILTERS: &[Row<ShownInstance>] = &[
    not_held("affinity"),
    not_held("architecture"),
    held("availability-zone", |own| {
        all(own.instance.placement.as_ref().and_then(|place| place.availability_zone.as_ref()))
    }),
    held("availability-zone-id", |own| {
        all(own.instance.placement.as_ref().and_then(|place| place.availability_zone_id.as_ref()))
    }),
    not_held("block-device-mapping.attach-time"),
    not_held("block-device-mapping.delete-on-termination"),
    not_held("block-device-mapping.device-name"),
    not_held("block-device-mapping.status"),
    not_held("block-device-mapping.volume-id"),
    not_held("boot-mode"),
    not_held("capacity-reservation-id"),
    not_held("capacity-reservation-specification.capacity-reservation-preference"),
    not_held("capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id"),
    not_held("capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn"),
    held("client-token", |own| filled(own.instance.client_token.as_ref())),
    not_held("current-instance-boot-mode"),
    held("dns-name", |own| filled(own.instance.public_dns_name.as_ref())),
    not_held("ebs-optimized"),
    not_held("ena-support"),
    not_held("enclave-options.enabled"),
    not_held("hibernation-options.configured"),
    not_held("host-id"),
    not_held("hypervisor"),
    held("iam-instance-profile.arn", |own| {
        all(own.instance.iam_instance_profile.as_ref().and_then(|profile| profile.arn.as_ref()))
    }),
    held("iam-instance-profile.id", |own| {
        all(own.instance.iam_instance_profile.as_ref().and_then(|profile| profile.id.as_ref()))
    }),
    held("image-id", |own| all(&own.instance.image_id)),
    held("instance-id", |own| one(&own.instance.instance_id)),
    not_held("instance-lifecycle"),
    held("instance-state-code", |own| one(own.instance.state.code)),
    held("instance-state-name", |own| one(own.instance.state.name.as_str())),
    held("instance-type", |own| one(&own.instance.instance_type)),
    held("instance.group-id", |own| all(own.groups().iter().map(|group| &group.group_id))),
    held("instance.group-name", |own| all(own.groups().iter().filter_map(|group| group.group_name.as_ref()))),
    held("ip-address", |own| all(own.instance.public_ip_address)),
    not_held("ipv6-address"),
    not_held("kernel-id"),
    held("key-name", |own| all(&own.instance.key_name)),
    held("launch-index", |own| all(own.instance.ami_launch_index)),
    held("launch-time", |own| all(own.instance.launch_time)),
    not_held("maintenance-options.auto-recovery"),
    held("metadata-options.http-endpoint", |own| {
        all(own.metadata().and_then(|options| options.http_endpoint.as_ref()))
    }),
    not_held("metadata-options.http-protocol-ipv4"),
    held("metadata-options.http-protocol-ipv6", |own| {
        all(own.metadata().and_then(|options| options.http_protocol_ipv6.as_ref()))
    }),
    held("metadata-options.http-put-response-hop-limit", |own| {
        all(own.metadata().and_then(|options| options.http_put_response_hop_limit))
    }),
    held("metadata-options.http-tokens", |own| all(own.metadata().and_then(|options| options.http_tokens.as_ref()))),
    held("metadata-options.instance-metadata-tags", |own| {
        all(own.metadata().and_then(|options| options.instance_metadata_tags.as_ref()))
    }),
    held("metadata-options.state", |own| all(own.metadata().and_then(|options| options.state.as_ref()))),
    held("monitoring-state", |own| all(own.instance.monitoring.as_ref().map(|monitoring| &monitoring.state))),
    not_held("network-interface.addresses.association.allocation-id"),
    not_held("network-interface.addresses.association.association-id"),
    not_held("network-interface.addresses.association.carrier-ip"),
    not_held("network-interface.addresses.association.customer-owned-ip"),
    held("network-interface.addresses.association.ip-owner-id", |own| {
        all(own.mappings().filter_map(|mapping| mapping.ip_owner_id.as_ref()))
    }),
    held("network-interface.addresses.association.public-dns-name", |own| {
        all(own.mappings().filter_map(|mapping| mapping.public_dns_name.as_ref()))
    }),
    held("network-interface.addresses.association.public-ip", |own| {
        all(own.mappings().map(|mapping| mapping.public_ip))
    }),
    held("network-interface.addresses.primary", |own| all(own.addresses().filter_map(|address| address.primary))),
    held("network-interface.addresses.private-dns-name", |own| {
        all(own.addresses().filter_map(|address| address.private_dns_name.as_ref()))
    }),
    held("network-interface.addresses.private-ip-address", |own| {
        all(own.addresses().map(|address| address.private_ip_address))
    }),
    not_held("network-interface.association.allocation-id"),
    not_held("network-interface.association.association-id"),
    not_held("network-interface.association.carrier-ip"),
    not_held("network-interface.association.customer-owned-ip"),
    held("network-interface.association.ip-owner-id", |own| {
        all(own.mapping().filter_map(|mapping| mapping.ip_owner_id.as_ref()))
    }),
    held("network-interface.association.public-dns-name", |own| {
        all(own.mapping().filter_map(|mapping| mapping.public_dns_name.as_ref()))
    }),
    held("network-interface.association.public-ip", |own| all(own.mapping().map(|mapping| mapping.public_ip))),
    held("network-interface.attachment.attach-time", |own| all(own.ties().filter_map(|tie| tie.attach_time))),
    held("network-interface.attachment.attachment-id", |own| all(own.ties().filter_map(|tie| tie.attachment_id.own()))),
    held("network-interface.attachment.delete-on-termination", |own| {
        all(own.ties().filter_map(|tie| tie.delete_on_termination))
    }),
    held("network-interface.attachment.device-index", |own| all(own.ties().filter_map(|tie| tie.device_index))),
    held("network-interface.attachment.instance-id", |own| all(own.ties().filter_map(|tie| tie.instance_id.as_ref()))),
    held("network-interface.attachment.instance-owner-id", |own| {
        all(own.ties().filter_map(|tie| tie.instance_owner_id.as_ref()))
    }),
    held("network-interface.attachment.network-card-index", |own| {
        all(own.ties().filter_map(|tie| tie.network_card_index))
    }),
    held("network-interface.attachment.status", |own| all(own.ties().map(|tie| tie.status.as_str()))),
    held("network-interface.availability-zone", |own| {
        all(own.enis.iter().filter_map(|eni| eni.availability_zone.as_ref()))
    }),
    not_held("network-interface.deny-all-igw-traffic"),
    held("network-interface.description", |own| all(own.enis.iter().filter_map(|eni| eni.description.as_ref()))),
    held("network-interface.group-id", |own| {
        all(own.enis.iter().flat_map(|eni| eni.groups.iter().map(|group| &group.group_id)))
    }),
    held("network-interface.group-name", |own| {
        all(own.enis.iter().flat_map(|eni| eni.groups.iter().filter_map(|group| group.group_name.as_ref())))
    }),
    held("network-interface.ipv4-prefixes.ipv4-prefix", |own| {
        all(own.enis.iter().flat_map(|eni| eni.ipv4_prefixes.iter().map(|prefix| prefix.ipv4_prefix)))
    }),
    not_held("network-interface.ipv6-address"),
    not_held("network-interface.ipv6-addresses.ipv6-address"),
    not_held("network-interface.ipv6-addresses.is-primary-ipv6"),
    not_held("network-interface.ipv6-native"),
    not_held("network-interface.ipv6-prefixes.ipv6-prefix"),
    held("network-interface.mac-address", |own| all(own.enis.iter().map(|eni| eni.mac_address))),
    held("network-interface.network-interface-id", |own| all(own.enis.iter().map(|eni| &eni.network_interface_id))),
    not_held("network-interface.operator.managed"),
    not_held("network-interface.operator.principal"),
    not_held("network-interface.outpost-arn"),
    held("network-interface.owner-id", |own| all(own.enis.iter().filter_map(|eni| eni.owner_id.as_ref()))),
    held("network-interface.private-dns-name", |own| {
        all(own.enis.iter().filter_map(|eni| eni.private_dns_name.as_ref()))
    }),
    held("network-interface.private-ip-address", |own| all(own.enis.iter().filter_map(|eni| eni.private_ip_address))),
    held("network-interface.public-dns-name", |own| {
        all(own.mapping().filter_map(|mapping| mapping.public_dns_name.as_ref()))
    }),
    not_held("network-interface.requester-id"),
    held("network-interface.requester-managed", |own| all(own.enis.iter().filter_map(|eni| eni.requester_managed))),
    held("network-interface.status", |own| all(own.enis.iter().map(|eni| eni.status.as_str()))),
    held("network-interface.source-dest-check", |own| all(own.enis.iter().filter_map(|eni| eni.source_dest_check))),
    held("network-interface.subnet-id", |own| all(own.enis.iter().map(|eni| &eni.subnet_id))),
    held("network-interface.tag-key", |own| all(own.enis.iter().flat_map(|eni| keys(&eni.tags)))),
    held("network-interface.tag-value", |own| {
        all(own.enis.iter().flat_map(|eni| eni.tags.iter().map(|tag| &tag.value)))
    }),
    held("network-interface.vpc-id", |own| all(own.enis.iter().map(|eni| &eni.vpc_id))),
    not_held("network-performance-options.bandwidth-weighting"),
    not_held("operator.managed"),
    not_held("operator.principal"),
    not_held("outpost-arn"),
    held("owner-id", |own| one(&own.owner)),
    not_held("placement-group-name"),
    not_held("placement-partition-number"),
    not_held("platform"),
    not_held("platform-details"),
    held("private-dns-name", |own| filled(own.instance.private_dns_name.as_ref())),
    not_held("private-dns-name-options.enable-resource-name-dns-a-record"),
    not_held("private-dns-name-options.enable-resource-name-dns-aaaa-record"),
    not_held("private-dns-name-options.hostname-type"),
    held("private-ip-address", |own| all(own.instance.private_ip_address)),
    not_held("product-code"),
    not_held("product-code.type"),
    not_held("ramdisk-id"),
    held("reason", |own| filled(own.instance.state_transition_reason.as_ref())),
    not_held("requester-id"),
    held("reservation-id", |own| one(&own.reservation)),
    not_held("root-device-name"),
    not_held("root-device-type"),
    held("source-dest-check", |own| all(own.instance.source_dest_check)),
    not_held("spot-instance-request-id"),
    held("state-reason-code", |own| all(own.instance.state_reason.as_ref().map(|reason| &reason.code))),
    held("state-reason-message", |own| {
        all(own.instance.state_reason.as_ref().and_then(|reason| reason.message.as_ref()))
    }),
    held("subnet-id", |own| all(&own.instance.subnet_id)),
    by_tag(|own| &own.instance.tags),
    held("tag-key", |own| keys(&own.instance.tags)),
    held("tenancy", |own| all(own.instance.placement.as_ref().and_then(|place| place.tenancy.as_ref()))),
    not_held("tpm-support"),
    not_held("usage-operation"),
    not_held("usage-operation-update-time"),
    not_held("virtualization-type"),
    held("vpc-id", |own| all(&own.instance.vpc_id)),
];

/// A text that may be empty, which is no value: EC2 shows some names as empty where there are none.
fn filled(text: Option<&String>) -> Vec<String> {
    all(text.filter(|text| !text.is_empty()))
}

impl ShownInstance {
    /// What ties its ENIs to it.
    fn ties(&self) -> impl Iterator<Item = &NetworkInterfaceAttachment> {
        self.enis.iter().filter_map(|eni| eni.attachment.as_ref())
    }

    /// The public addresses in front of the primary private ones of its ENIs.
    fn mapping(&self) -> impl Iterator<Item = &NetworkInterfaceAssociation> {
        self.enis.iter().filter_map(|eni| eni.association.as_ref())
    }

    /// The private addresses of its ENIs.
    fn addresses(&self) -> impl Iterator<Item = &PrivateIpAddressOfInterface> {
        self.enis.iter().flat_map(|eni| &eni.private_ip_addresses)
    }

    /// The public addresses in front of them.
    fn mappings(&self) -> impl Iterator<Item = &NetworkInterfaceAssociation> {
        self.addresses().filter_map(|address| address.association.as_ref())
    }

    fn groups(&self) -> &[GroupIdentifier] {
        &self.instance.security_groups
    }

    fn metadata(&self) -> Option<&InstanceMetadataOptions> {
        self.instance.metadata_options.as_ref()
    }
}
