//! DescribeInstances.

use std::net::Ipv4Addr;

use vpc_aws::ec2::shapes::{
    DescribeInstances, DescribeInstancesResponse, GroupIdentifier, Instance, InstanceMetadataOptions,
    InstanceNetworkInterface, InstanceNetworkInterfaceAssociation, InstanceNetworkInterfaceAttachment,
    InstancePrivateIpAddress, InstanceState, InstanceStateName, Monitoring, NetworkInterface,
    NetworkInterfaceAssociation, NetworkInterfaceAttachment, Placement, PrivateIpAddressOfInterface, Reservation,
};

use super::filter::{Row, all, by_tag, held, keys, not_held, one};
use super::interfaces::attachment_status;
use super::page::{PageRequest, Pages};
use super::{Listing, show_tags};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::world::{self, Eni, Power};

/// An instance as it is shown, with what the answer shows around it.
#[derive(Debug)]
pub(super) struct ShownInstance {
    reservation: String,
    owner: String,
    instance: Instance,
    /// Its ENIs as DescribeNetworkInterfaces shows them.
    enis: Vec<NetworkInterface>,
}

pub(super) const INSTANCES: Listing<ShownInstance> =
    Listing { action: "DescribeInstances", filters: FILTERS, pages: Some(Pages::THOUSAND.not_with("instancesSet")) };

const FILTERS: &[Row<ShownInstance>] = &[
    not_held("affinity"),
    not_held("architecture"),
    held("availability-zone", |own| {
        all(own.instance.placement.as_ref().and_then(|place| place.availability_zone.as_ref()))
    }),
    not_held("availability-zone-id"),
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
    not_held("client-token"),
    not_held("current-instance-boot-mode"),
    not_held("dns-name"),
    not_held("ebs-optimized"),
    not_held("ena-support"),
    not_held("enclave-options.enabled"),
    not_held("hibernation-options.configured"),
    not_held("host-id"),
    not_held("hypervisor"),
    not_held("iam-instance-profile.arn"),
    not_held("iam-instance-profile.id"),
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
    not_held("key-name"),
    not_held("launch-index"),
    held("launch-time", |own| all(own.instance.launch_time)),
    not_held("maintenance-options.auto-recovery"),
    held("metadata-options.http-endpoint", |own| {
        all(own.metadata().and_then(|options| options.http_endpoint.as_ref()))
    }),
    not_held("metadata-options.http-protocol-ipv4"),
    not_held("metadata-options.http-protocol-ipv6"),
    held("metadata-options.http-put-response-hop-limit", |own| {
        all(own.metadata().and_then(|options| options.http_put_response_hop_limit))
    }),
    held("metadata-options.http-tokens", |own| all(own.metadata().and_then(|options| options.http_tokens.as_ref()))),
    not_held("metadata-options.instance-metadata-tags"),
    not_held("metadata-options.state"),
    not_held("monitoring-state"),
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
    held("private-dns-name", |own| all(&own.instance.private_dns_name)),
    not_held("private-dns-name-options.enable-resource-name-dns-a-record"),
    not_held("private-dns-name-options.enable-resource-name-dns-aaaa-record"),
    not_held("private-dns-name-options.hostname-type"),
    held("private-ip-address", |own| all(own.instance.private_ip_address)),
    not_held("product-code"),
    not_held("product-code.type"),
    not_held("ramdisk-id"),
    not_held("reason"),
    not_held("requester-id"),
    held("reservation-id", |own| one(&own.reservation)),
    not_held("root-device-name"),
    not_held("root-device-type"),
    not_held("source-dest-check"),
    not_held("spot-instance-request-id"),
    not_held("state-reason-code"),
    not_held("state-reason-message"),
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

impl Cloud {
    pub(crate) fn describe_instances(
        &self,
        request: &DescribeInstances,
    ) -> Result<DescribeInstancesResponse, ApiError> {
        let ids = &request.instance_ids;
        let page = PageRequest {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: !ids.is_empty(),
        };
        let question = INSTANCES.ask(self, &request.filters, page)?;
        let missing: Vec<_> = ids.iter().filter(|id| !self.world.instances.contains_key(id)).collect();
        if !missing.is_empty() {
            return Err(ApiError::no_instances(&missing));
        }
        let asked = self.world.instances.values().filter(|own| ids.is_empty() || ids.contains(&own.spec.id));
        let shown = asked.map(|instance| {
            let reservation = instance.birth.reservation.clone();
            let enis = self.world.enis_of(&instance.spec.id).into_iter().map(|eni| self.show_eni(eni)).collect();
            let key = format!("{reservation} {}", instance.spec.id);
            (key, ShownInstance { reservation, owner: self.account(), instance: self.show_instance(instance), enis })
        });
        let (instances, next_token) = question.answer(shown);
        Ok(DescribeInstancesResponse { reservations: by_launch(instances), next_token })
    }

    pub(crate) fn public_ip(&self, instance: &world::Instance) -> Option<Ipv4Addr> {
        self.world.enis.get(&instance.primary).and_then(|eni| eni.public.get(&eni.primary).copied())
    }

    pub(crate) fn show_instance(&self, instance: &world::Instance) -> Instance {
        let gone = instance.power == Power::Terminated;
        let there = |value: String| if gone { None } else { Some(value) };
        Instance {
            instance_id: instance.spec.id.clone(),
            image_id: Some(instance.birth.image.clone()),
            state: state(instance.power),
            private_dns_name: there(instance.private_dns_name.clone()),
            instance_type: instance.spec.instance_type.clone(),
            launch_time: Some(self.timestamp(instance.launched)),
            placement: Some(Placement {
                availability_zone: Some(instance.zone.clone()),
                availability_zone_id: self
                    .world
                    .spec
                    .zones
                    .iter()
                    .find(|zone| zone.name == instance.zone)
                    .map(|zone| zone.id.clone()),
                tenancy: Some("default".to_owned()),
            }),
            subnet_id: (!gone).then(|| instance.spec.subnet.clone()),
            vpc_id: (!gone).then(|| self.world.spec.vpc.id.clone()),
            private_ip_address: (!gone).then_some(instance.private_ip),
            public_ip_address: self.public_ip(instance),
            security_groups: self
                .world
                .enis
                .get(&instance.primary)
                .map(|eni| self.groups(&eni.groups))
                .unwrap_or_default(),
            tags: show_tags(&instance.tags),
            network_interfaces: self
                .world
                .enis_of(&instance.spec.id)
                .into_iter()
                .filter_map(|eni| self.show_own_eni(eni))
                .collect(),
            metadata_options: Some(InstanceMetadataOptions {
                http_tokens: Some(if instance.spec.tokens_required { "required" } else { "optional" }.to_owned()),
                http_put_response_hop_limit: Some(u32::from(instance.spec.hop_limit)),
                http_endpoint: Some("enabled".to_owned()),
                state: Some("applied".to_owned()),
                http_protocol_ipv6: Some("disabled".to_owned()),
                instance_metadata_tags: Some("disabled".to_owned()),
            }),
            iam_instance_profile: None,
            source_dest_check: self.world.enis.get(&instance.primary).map(|eni| eni.source_dest_check),
            public_dns_name: None,
            key_name: None,
            ami_launch_index: Some(0),
            client_token: None,
            monitoring: Some(Monitoring { state: "disabled".to_owned() }),
            state_transition_reason: None,
            state_reason: None,
        }
    }

    fn show_own_eni(&self, eni: &Eni) -> Option<InstanceNetworkInterface> {
        let attachment = eni.attachment.as_ref()?;
        let shown = self.show_eni(eni);
        let association = |association: NetworkInterfaceAssociation| InstanceNetworkInterfaceAssociation {
            public_ip: association.public_ip,
            public_dns_name: association.public_dns_name,
            ip_owner_id: association.ip_owner_id,
        };
        Some(InstanceNetworkInterface {
            network_interface_id: shown.network_interface_id,
            subnet_id: Some(shown.subnet_id),
            vpc_id: Some(shown.vpc_id),
            description: shown.description,
            owner_id: shown.owner_id,
            status: shown.status,
            mac_address: shown.mac_address,
            private_ip_address: shown.private_ip_address,
            private_dns_name: shown.private_dns_name,
            source_dest_check: shown.source_dest_check,
            groups: shown.groups,
            attachment: Some(InstanceNetworkInterfaceAttachment {
                attachment_id: attachment.id.clone(),
                device_index: attachment.device,
                network_card_index: Some(attachment.card),
                status: attachment_status(attachment.tie),
                attach_time: Some(self.timestamp(attachment.since)),
                delete_on_termination: Some(attachment.delete_on_termination),
            }),
            association: shown.association.map(association),
            private_ip_addresses: shown
                .private_ip_addresses
                .into_iter()
                .map(|address| InstancePrivateIpAddress {
                    private_ip_address: address.private_ip_address,
                    primary: address.primary,
                    private_dns_name: address.private_dns_name,
                    association: address.association.map(association),
                })
                .collect(),
            ipv6_addresses: Vec::new(),
            interface_type: Some(shown.interface_type),
            ipv4_prefixes: shown.ipv4_prefixes,
            ipv6_prefixes: Vec::new(),
            connection_tracking: shown.connection_tracking,
        })
    }
}

/// Instances grouped by the launch they came from. Those of one launch stand side by side.
fn by_launch(instances: Vec<ShownInstance>) -> Vec<Reservation> {
    let mut launches: Vec<Reservation> = Vec::new();
    for shown in instances {
        match launches.last_mut().filter(|launch| launch.reservation_id == shown.reservation) {
            Some(launch) => launch.instances.push(shown.instance),
            None => launches.push(Reservation {
                reservation_id: shown.reservation,
                owner_id: Some(shown.owner),
                groups: Vec::new(),
                instances: vec![shown.instance],
            }),
        }
    }
    launches
}

pub(crate) fn state(power: Power) -> InstanceState {
    let (code, name) = match power {
        Power::Pending => (0, InstanceStateName::Pending),
        Power::Running => (16, InstanceStateName::Running),
        Power::ShuttingDown => (32, InstanceStateName::ShuttingDown),
        Power::Terminated => (48, InstanceStateName::Terminated),
        Power::Stopping => (64, InstanceStateName::Stopping),
        Power::Stopped => (80, InstanceStateName::Stopped),
    };
    InstanceState { code, name }
}
