//! The Describe actions for ENIs, instances and instance types.

use vpc_aws::ec2::shapes::{
    AttachmentStatus, DescribeInstanceTypes, DescribeInstanceTypesResponse, DescribeInstances,
    DescribeInstancesResponse, DescribeNetworkInterfaces, DescribeNetworkInterfacesResponse, GroupIdentifier, Instance,
    InstanceMetadataOptions, InstanceNetworkInterface, InstanceNetworkInterfaceAssociation,
    InstanceNetworkInterfaceAttachment, InstancePrivateIpAddress, InstanceState, InstanceStateName, InstanceTypeInfo,
    InterfaceType, Ipv4PrefixEntry, NetworkCardInfo, NetworkInfo, NetworkInterface, NetworkInterfaceAssociation,
    NetworkInterfaceAttachment, NetworkInterfaceStatus, Placement, PrivateIpAddressOfInterface, Reservation, Tag,
    Timestamp,
};
use vpc_model::{Hypervisor, InstanceLimits, SecurityGroupId, Time, all_instance_limits, instance_limits};

use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::filter::{Paging, check, passes};
use crate::spec::Tags;
use crate::world::{self, Eni, Power, Tie};

impl Cloud {
    pub(crate) fn describe_enis(
        &self,
        request: &DescribeNetworkInterfaces,
    ) -> Result<DescribeNetworkInterfacesResponse, ApiError> {
        check(&request.filters)?;
        let ids = &request.network_interface_ids;
        if let Some(missing) = ids.iter().find(|id| !self.world.enis.contains_key(id)) {
            return Err(ApiError::no_eni(missing));
        }
        let mut found = Vec::new();
        for eni in self.world.enis.values().filter(|eni| ids.is_empty() || ids.contains(&eni.id)) {
            if passes(&request.filters, &eni.tags, &|name| self.eni_attribute(eni, name))? {
                found.push((eni.id.to_string(), self.show_eni(eni)));
            }
        }
        let paging = Paging {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: (!ids.is_empty()).then_some("networkInterfaceIds"),
            largest: 1000,
            default: None,
        };
        let (network_interfaces, next_token) = paging.page(found)?;
        Ok(DescribeNetworkInterfacesResponse { network_interfaces, next_token })
    }

    /// The values of a filter; names as in EC2's documentation of DescribeNetworkInterfaces.
    fn eni_attribute(&self, eni: &Eni, name: &str) -> Option<Vec<String>> {
        let attachment = eni.attachment.as_ref();
        let addresses = || [eni.primary].into_iter().chain(eni.secondary.iter().copied());
        Some(match name {
            "network-interface-id" => vec![eni.id.to_string()],
            "subnet-id" => vec![eni.subnet.to_string()],
            "vpc-id" => vec![self.world.spec.vpc.id.to_string()],
            "availability-zone" => self.zone_of(eni).into_iter().collect(),
            "description" => vec![eni.description.clone()],
            "status" => vec![eni.status().to_owned()],
            "mac-address" => vec![eni.mac.to_string()],
            "interface-type" => vec![eni.interface_type.clone()],
            "owner-id" => vec![self.world.spec.account_id.clone()],
            "requester-managed" => vec![eni.endpoint.is_some().to_string()],
            "source-dest-check" => vec![eni.source_dest_check.to_string()],
            "private-dns-name" => vec![self.world.private_dns_name(eni.primary)],
            "private-ip-address" => vec![eni.primary.to_string()],
            "addresses.private-ip-address" => addresses().map(|address| address.to_string()).collect(),
            "addresses.primary" => addresses().map(|address| (address == eni.primary).to_string()).collect(),
            "addresses.association.public-ip" => eni.public.values().map(ToString::to_string).collect(),
            "association.public-ip" => eni.public.get(&eni.primary).map(ToString::to_string).into_iter().collect(),
            "group-id" => eni.groups.iter().map(ToString::to_string).collect(),
            "group-name" => self.groups(&eni.groups).into_iter().filter_map(|group| group.group_name).collect(),
            "attachment.attachment-id" => attachment.map(|a| a.id.to_string()).into_iter().collect(),
            "attachment.instance-id" => attachment.map(|a| a.instance.to_string()).into_iter().collect(),
            "attachment.instance-owner-id" => {
                attachment.map(|_| self.world.spec.account_id.clone()).into_iter().collect()
            }
            "attachment.device-index" => attachment.map(|a| a.device.to_string()).into_iter().collect(),
            "attachment.network-card-index" => attachment.map(|a| a.card.to_string()).into_iter().collect(),
            "attachment.status" => attachment.map(|a| a.tie.as_str().to_owned()).into_iter().collect(),
            "attachment.attach-time" => attachment.map(|a| self.timestamp(a.since).to_string()).into_iter().collect(),
            "attachment.delete-on-termination" => {
                attachment.map(|a| a.delete_on_termination.to_string()).into_iter().collect()
            }
            _ => return None,
        })
    }

    /// An ENI as EC2 shows it.
    pub(crate) fn show_eni(&self, eni: &Eni) -> NetworkInterface {
        let association = |private: &std::net::Ipv4Addr| {
            eni.public.get(private).map(|public| NetworkInterfaceAssociation {
                public_ip: *public,
                public_dns_name: Some(self.world.public_dns_name(*public)),
                ip_owner_id: Some("amazon".to_owned()),
                allocation_id: None,
                association_id: None,
            })
        };
        let address = |address: &std::net::Ipv4Addr| PrivateIpAddressOfInterface {
            private_ip_address: *address,
            primary: Some(*address == eni.primary),
            private_dns_name: Some(self.world.private_dns_name(*address)),
            association: association(address),
        };
        NetworkInterface {
            network_interface_id: eni.id.clone(),
            subnet_id: eni.subnet.clone(),
            vpc_id: self.world.spec.vpc.id.clone(),
            availability_zone: self.zone_of(eni),
            description: Some(eni.description.clone()),
            owner_id: Some(self.world.spec.account_id.clone()),
            requester_id: None,
            requester_managed: Some(eni.endpoint.is_some()),
            status: match eni.attachment.as_ref().map(|attachment| attachment.tie) {
                None if eni.endpoint.is_some() => NetworkInterfaceStatus::InUse,
                None => NetworkInterfaceStatus::Available,
                Some(Tie::Detaching) => NetworkInterfaceStatus::Detaching,
                Some(Tie::Attaching | Tie::Attached) => NetworkInterfaceStatus::InUse,
            },
            mac_address: eni.mac,
            private_ip_address: Some(eni.primary),
            private_dns_name: Some(self.world.private_dns_name(eni.primary)),
            source_dest_check: Some(eni.source_dest_check),
            groups: self.groups(&eni.groups),
            attachment: eni.attachment.as_ref().map(|attachment| self.show_attachment(attachment)),
            association: association(&eni.primary),
            tags: show_tags(&eni.tags),
            private_ip_addresses: [eni.primary].iter().chain(&eni.secondary).map(address).collect(),
            ipv4_prefixes: eni.prefixes.iter().map(|prefix| Ipv4PrefixEntry { ipv4_prefix: *prefix }).collect(),
            ipv6_addresses: Vec::new(),
            ipv6_prefixes: Vec::new(),
            interface_type: interface_type(&eni.interface_type),
            connection_tracking: eni.connection_tracking,
        }
    }

    fn show_attachment(&self, attachment: &world::Attachment) -> NetworkInterfaceAttachment {
        NetworkInterfaceAttachment {
            attachment_id: attachment.id.clone().into(),
            instance_id: Some(attachment.instance.clone()),
            instance_owner_id: Some(self.world.spec.account_id.clone()),
            device_index: Some(attachment.device),
            network_card_index: Some(attachment.card),
            status: attachment_status(attachment.tie),
            attach_time: Some(self.timestamp(attachment.since)),
            delete_on_termination: Some(attachment.delete_on_termination),
        }
    }

    pub(crate) fn describe_instances(
        &self,
        request: &DescribeInstances,
    ) -> Result<DescribeInstancesResponse, ApiError> {
        check(&request.filters)?;
        let ids = &request.instance_ids;
        if let Some(missing) = ids.iter().find(|id| !self.world.instances.contains_key(id)) {
            return Err(ApiError::no_instance(missing));
        }
        let mut found = Vec::new();
        for (id, instance) in self.world.instances.iter().filter(|(id, _)| ids.is_empty() || ids.contains(id)) {
            if passes(&request.filters, &instance.tags, &|name| self.instance_attribute(instance, name))? {
                found.push((id.to_string(), self.show_reservation(instance)));
            }
        }
        let paging = Paging {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: (!ids.is_empty()).then_some("instancesSet"),
            largest: 1000,
            default: None,
        };
        let (reservations, next_token) = paging.page(found)?;
        Ok(DescribeInstancesResponse { reservations, next_token })
    }

    fn instance_attribute(&self, instance: &world::Instance, name: &str) -> Option<Vec<String>> {
        let enis = self.world.enis_of(&instance.spec.id);
        let groups = || self.world.enis.get(&instance.primary).map(|eni| self.groups(&eni.groups)).unwrap_or_default();
        if let Some(name) = name.strip_prefix("network-interface.") {
            let values: Option<Vec<_>> = enis.iter().map(|eni| self.eni_attribute(eni, name)).collect();
            return values.map(|values| values.into_iter().flatten().collect());
        }
        Some(match name {
            "instance-id" => vec![instance.spec.id.to_string()],
            "instance-type" => vec![instance.spec.instance_type.clone()],
            "instance-state-name" => vec![state(instance.power).name.as_str().to_owned()],
            "instance-state-code" => vec![state(instance.power).code.to_string()],
            "availability-zone" => vec![instance.zone.clone()],
            "subnet-id" => vec![instance.spec.subnet.to_string()],
            "vpc-id" => vec![self.world.spec.vpc.id.to_string()],
            "owner-id" => vec![self.world.spec.account_id.clone()],
            "private-dns-name" => vec![instance.private_dns_name.clone()],
            "private-ip-address" => vec![instance.private_ip.to_string()],
            "ip-address" => self.public_ip(instance).map(|address| address.to_string()).into_iter().collect(),
            "instance.group-id" | "group-id" => groups().into_iter().map(|group| group.group_id.to_string()).collect(),
            "instance.group-name" | "group-name" => groups().into_iter().filter_map(|group| group.group_name).collect(),
            "reservation-id" => vec![reservation_id(instance)],
            _ => return None,
        })
    }

    fn show_reservation(&self, instance: &world::Instance) -> Reservation {
        Reservation {
            reservation_id: reservation_id(instance),
            owner_id: Some(self.world.spec.account_id.clone()),
            groups: Vec::new(),
            instances: vec![self.show_instance(instance)],
        }
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
                http_tokens: Some("required".to_owned()),
                http_put_response_hop_limit: Some(u32::from(instance.spec.hop_limit)),
                http_endpoint: Some("enabled".to_owned()),
            }),
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

    pub(crate) fn describe_instance_types(
        &self,
        request: &DescribeInstanceTypes,
    ) -> Result<DescribeInstanceTypesResponse, ApiError> {
        check(&request.filters)?;
        let names = &request.instance_types;
        if let Some(missing) = names.iter().find(|name| instance_limits(name).is_none()) {
            return Err(ApiError::client(
                "InvalidInstanceType",
                format!("The following supplied instance types do not exist: [{missing}]"),
            ));
        }
        let mut found = Vec::new();
        let wanted = all_instance_limits().iter().filter(|row| names.is_empty() || names.contains(&row.instance_type));
        for limits in wanted {
            if passes(&request.filters, &Tags::new(), &|name| type_attribute(limits, name))? {
                found.push((limits.instance_type.clone(), show_type(limits)));
            }
        }
        let paging = Paging {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: (!names.is_empty()).then_some("instanceTypes"),
            largest: 100,
            default: Some(100),
        };
        let (instance_types, next_token) = paging.page(found)?;
        Ok(DescribeInstanceTypesResponse { instance_types, next_token })
    }

    pub(crate) fn public_ip(&self, instance: &world::Instance) -> Option<std::net::Ipv4Addr> {
        self.world.enis.get(&instance.primary).and_then(|eni| eni.public.get(&eni.primary).copied())
    }

    pub(crate) fn groups(&self, ids: &[SecurityGroupId]) -> Vec<GroupIdentifier> {
        let name = |id: &SecurityGroupId| self.world.groups.get(id).map(|group| group.name.clone());
        ids.iter().map(|id| GroupIdentifier { group_id: id.clone(), group_name: name(id) }).collect()
    }

    pub(crate) fn zone_of(&self, eni: &Eni) -> Option<String> {
        self.world.subnets.get(&eni.subnet).map(|subnet| subnet.spec.zone.clone())
    }

    fn timestamp(&self, time: Time) -> Timestamp {
        Timestamp::from(self.wall(time))
    }
}

fn reservation_id(instance: &world::Instance) -> String {
    instance.birth.reservation.clone()
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

fn attachment_status(tie: Tie) -> AttachmentStatus {
    match tie {
        Tie::Attaching => AttachmentStatus::Attaching,
        Tie::Attached => AttachmentStatus::Attached,
        Tie::Detaching => AttachmentStatus::Detaching,
    }
}

fn interface_type(text: &str) -> InterfaceType {
    match text {
        "efa" => InterfaceType::Efa,
        "trunk" => InterfaceType::Trunk,
        "vpc_endpoint" => InterfaceType::VpcEndpoint,
        _ => InterfaceType::Interface,
    }
}

pub(crate) fn show_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::new(key, value)).collect()
}

fn hypervisor(limits: &InstanceLimits) -> Option<String> {
    match limits.hypervisor {
        Hypervisor::Nitro => Some("nitro".to_owned()),
        Hypervisor::Xen => Some("xen".to_owned()),
        Hypervisor::Unknown => None,
    }
}

fn type_attribute(limits: &InstanceLimits, name: &str) -> Option<Vec<String>> {
    Some(match name {
        "instance-type" => vec![limits.instance_type.clone()],
        "bare-metal" => vec![limits.bare_metal.to_string()],
        "hypervisor" => hypervisor(limits).into_iter().collect(),
        "network-info.ipv4-addresses-per-interface" => vec![limits.ipv4_per_eni.to_string()],
        "network-info.maximum-network-interfaces" => vec![all_enis(limits).to_string()],
        "network-info.maximum-network-cards" => vec![limits.cards.len().to_string()],
        _ => return None,
    })
}

fn all_enis(limits: &InstanceLimits) -> u32 {
    limits.cards.iter().map(|card| card.max_enis).sum()
}

fn show_type(limits: &InstanceLimits) -> InstanceTypeInfo {
    InstanceTypeInfo {
        instance_type: limits.instance_type.clone(),
        bare_metal: Some(limits.bare_metal),
        hypervisor: hypervisor(limits),
        network_info: Some(NetworkInfo {
            network_performance: None,
            maximum_network_interfaces: Some(all_enis(limits)),
            maximum_network_cards: u32::try_from(limits.cards.len()).ok(),
            default_network_card_index: Some(limits.default_card),
            network_cards: limits
                .cards
                .iter()
                .map(|card| NetworkCardInfo {
                    network_card_index: card.card,
                    network_performance: None,
                    maximum_network_interfaces: Some(card.max_enis),
                })
                .collect(),
            ipv4_addresses_per_interface: Some(limits.ipv4_per_eni),
            ipv6_addresses_per_interface: None,
            ipv6_supported: None,
            ena_support: None,
            efa_supported: None,
        }),
    }
}
