//! DescribeInstances.

use std::net::Ipv4Addr;

use vpc_aws::ec2::shapes::{
    DescribeInstances, DescribeInstancesResponse, IamInstanceProfile, Instance, InstanceMetadataOptions,
    InstanceNetworkInterface, InstanceNetworkInterfaceAssociation, InstanceNetworkInterfaceAttachment,
    InstancePrivateIpAddress, InstanceState, InstanceStateName, Monitoring, NetworkInterfaceAssociation, Placement,
    Reservation, StateReason,
};

use vpc_model::InstanceId;

use super::instance_filters::{INSTANCE_FILTERS, ShownInstance};
use super::interfaces::attachment_status;
use super::page::{PageRequest, Pages};
use super::{Listing, show_tags, well_formed};
use crate::cloud::Cloud;
use crate::credentials::{profile_arn, profile_id};
use crate::error::ApiError;
use crate::world::{self, Eni, Power};

pub(super) const INSTANCES: Listing<ShownInstance> = Listing {
    action: "DescribeInstances",
    filters: INSTANCE_FILTERS,
    pages: Some(Pages::THOUSAND.not_with("instancesSet")),
};

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
        self.check_instances(ids)?;
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

    /// Whether there are such instances.
    pub(crate) fn check_instances(&self, ids: &[InstanceId]) -> Result<(), ApiError> {
        well_formed(ids, InstanceId::PREFIX, "InvalidInstanceID.Malformed")?;
        let missing: Vec<_> = ids.iter().filter(|id| !self.world.instances.contains_key(id)).collect();
        if missing.is_empty() { Ok(()) } else { Err(ApiError::no_instances(&missing)) }
    }

    pub(crate) fn public_ip(&self, instance: &world::Instance) -> Option<Ipv4Addr> {
        self.world.enis.get(&instance.primary).and_then(|eni| eni.public.get(&eni.primary).copied())
    }

    pub(crate) fn show_instance(&self, instance: &world::Instance) -> Instance {
        let gone = instance.power == Power::Terminated;
        let public_ip = self.public_ip(instance);
        Instance {
            instance_id: instance.spec.id.clone(),
            image_id: Some(instance.birth.image.clone()),
            state: state(instance.power),
            private_dns_name: Some(if gone { String::new() } else { instance.private_dns_name.clone() }),
            instance_type: instance.spec.instance_type.clone(),
            launch_time: Some(self.timestamp(instance.launched)),
            placement: Some(Placement {
                availability_zone: Some(instance.zone.clone()),
                availability_zone_id: self.zone_id(&instance.zone),
                tenancy: Some("default".to_owned()),
            }),
            subnet_id: (!gone).then(|| instance.spec.subnet.clone()),
            vpc_id: (!gone).then(|| self.world.spec.vpc.id.clone()),
            private_ip_address: (!gone).then_some(instance.private_ip),
            public_ip_address: public_ip,
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
            iam_instance_profile: instance.spec.role.as_ref().map(|role| IamInstanceProfile {
                arn: Some(profile_arn(&self.world.spec.account_id, role)),
                id: Some(profile_id(role)),
            }),
            source_dest_check: self.world.enis.get(&instance.primary).map(|eni| eni.source_dest_check),
            public_dns_name: Some(public_ip.map(|address| self.world.public_dns_name(address)).unwrap_or_default()),
            key_name: instance.birth.key.clone(),
            ami_launch_index: Some(instance.birth.index),
            client_token: Some(instance.birth.token.clone().unwrap_or_default()),
            monitoring: Some(Monitoring { state: "disabled".to_owned() }),
            state_transition_reason: Some(self.transition_reason(instance)),
            state_reason: state_reason(instance.power),
        }
    }

    /// Why an instance is in its state, with the time; empty while nobody has told it to go down.
    fn transition_reason(&self, instance: &world::Instance) -> String {
        let Some(at) = instance.told_down else { return String::new() };
        let at = self.timestamp(at).to_string().replace('T', " ");
        let seconds = at.split_once('.').map_or(at.as_str(), |(seconds, _)| seconds);
        format!("User initiated ({seconds} GMT)")
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

/// Why an instance is in its state. Nothing here goes down by itself: whoever stopped or ended it, did so on purpose.
fn state_reason(power: Power) -> Option<StateReason> {
    let (code, message) = match power {
        Power::Running => return None,
        Power::Pending => ("pending", "pending"),
        Power::ShuttingDown | Power::Terminated | Power::Stopping | Power::Stopped => {
            ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")
        }
    };
    Some(StateReason { code: code.to_owned(), message: Some(message.to_owned()) })
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
