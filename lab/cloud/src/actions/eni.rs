//! The life of an ENI, and its attributes.

use vpc_aws::ec2::shapes::{
    AttachNetworkInterface, AttachNetworkInterfaceResponse, ConnectionTrackingConfiguration,
    ConnectionTrackingSpecification, CreateNetworkInterface, CreateNetworkInterfaceResponse, DeleteNetworkInterface,
    DetachNetworkInterface, Done, ModifyNetworkInterfaceAttribute, NetworkInterfaceAttachmentChanges,
    NetworkInterfaceCreationType, NetworkInterfaceStatus, ResourceType,
};
use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId};

use super::addresses::{addresses_of, check_takes_prefixes, most_addresses};
use super::one_kind;
use super::tags::tags_of;
use crate::cloud::{Cloud, Task};
use crate::error::ApiError;
use crate::ids::checked;
use crate::world::{Attachment, Instance, NewEni, Power, Tie};

impl Cloud {
    pub(super) fn create(
        &mut self,
        request: CreateNetworkInterface,
    ) -> Result<CreateNetworkInterfaceResponse, ApiError> {
        let new = self.new_eni(&request)?;
        let most = self.setup.max_enis;
        if self.world.enis.len() >= most as usize {
            return Err(ApiError::client(
                "NetworkInterfaceLimitExceeded",
                format!("The maximum number of network interfaces ({most}) has been reached."),
            ));
        }
        let id = self.world.create_eni(new, &mut self.dice)?;
        if let Some(eni) = self.world.enis.get_mut(&id) {
            eni.connection_tracking = request.connection_tracking.map(tracking);
        }
        let eni = self.eni(&id)?;
        let mut network_interface = self.show_eni(eni);
        network_interface.status = NetworkInterfaceStatus::Pending;
        Ok(CreateNetworkInterfaceResponse { network_interface, client_token: request.client_token })
    }

    /// Checks what is asked for, as far as that is possible without the subnet.
    fn new_eni(&self, request: &CreateNetworkInterface) -> Result<NewEni, ApiError> {
        if !self.world.subnets.contains_key(&request.subnet_id) {
            return Err(ApiError::no_subnet(&request.subnet_id));
        }
        if request.ipv6_address_count.unwrap_or(0) + request.ipv6_prefix_count.unwrap_or(0) > 0 {
            return Err(ApiError::no_ipv6(&request.subnet_id));
        }
        self.check_groups(&request.groups)?;
        let interface_type = match request.interface_type {
            None => "interface",
            Some(kind @ (NetworkInterfaceCreationType::Efa | NetworkInterfaceCreationType::Trunk)) => kind.as_str(),
            Some(other) => {
                return Err(ApiError::client(
                    "UnsupportedOperation",
                    format!("This cloud has no network interfaces of the type {}.", other.as_str()),
                ));
            }
        };
        let (primary, slots) = addresses_of(request)?;
        if 1 + slots.slots() > most_addresses() {
            return Err(ApiError::too_many_addresses());
        }
        Ok(NewEni {
            subnet: request.subnet_id.clone(),
            primary,
            slots,
            description: request.description.clone().unwrap_or_default(),
            interface_type: interface_type.to_owned(),
            groups: self.world.groups_or_default(&request.groups),
            tags: tags_of(&request.tag_specifications, &ResourceType::NetworkInterface)?,
        })
    }

    pub(super) fn attach(
        &mut self,
        request: &AttachNetworkInterface,
    ) -> Result<AttachNetworkInterfaceResponse, ApiError> {
        let eni = self.own_eni(&request.network_interface_id)?;
        let instance = self.instance_for(request)?;
        if eni.attachment.is_some() {
            return Err(ApiError::client("InvalidNetworkInterface.InUse", format!("Interface: [{}] in use.", eni.id)));
        }
        if self.world.subnets.get(&eni.subnet).is_none_or(|subnet| subnet.spec.zone != instance.zone) {
            return Err(ApiError::value(
                "You may not attach a network interface to an instance if they are not in the same availability zone",
            ));
        }
        let card = request.network_card_index.unwrap_or(instance.limits.default_card);
        self.check_place(instance, card, request.device_index)?;
        if eni.slots() > instance.limits.ipv4_per_eni {
            return Err(ApiError::too_many_addresses());
        }
        if !eni.prefixes.is_empty() {
            check_takes_prefixes(instance.limits)?;
        }
        let id: AttachmentId = checked(&self.dice.id(AttachmentId::PREFIX));
        let attachment = Attachment {
            id: id.clone(),
            instance: request.instance_id.clone(),
            device: request.device_index,
            card,
            tie: Tie::Attaching,
            delete_on_termination: false,
            since: self.now,
            seen: false,
        };
        self.world.enis.tie(&request.network_interface_id, attachment);
        if !self.holds_attachment(&request.instance_id, &id) {
            self.begin_attachment(id.clone());
        }
        Ok(AttachNetworkInterfaceResponse { attachment_id: id, network_card_index: Some(card) })
    }

    fn instance_for(&self, request: &AttachNetworkInterface) -> Result<&Instance, ApiError> {
        let id = &request.instance_id;
        let instance = self.world.instances.get(id).ok_or_else(|| ApiError::no_instance(id))?;
        if !matches!(instance.power, Power::Running | Power::Stopped) {
            return Err(ApiError::client("IncorrectState", format!("Instance '{id}' is not 'running' or 'stopped'.")));
        }
        Ok(instance)
    }

    /// Whether there is room at that position.
    fn check_place(&self, instance: &Instance, card: CardIndex, device: DeviceIndex) -> Result<(), ApiError> {
        let id = &instance.spec.id;
        let Some(limit) = instance.limits.cards.iter().find(|own| own.card == card).map(|own| own.max_enis) else {
            return Err(ApiError::value(format!(
                "Network card index {card} is not valid for the instance type {}.",
                instance.spec.instance_type
            )));
        };
        let enis = self.world.enis_of(id);
        let places: Vec<_> =
            enis.iter().filter_map(|eni| eni.attachment.as_ref()).map(|a| (a.card, a.device)).collect();
        if places.contains(&(card, device)) {
            return Err(ApiError::value(format!(
                "Instance '{id}' already has an interface attached at device index '{device}'."
            )));
        }
        let count = places.iter().filter(|(at, _)| *at == card).count() + 1;
        if count > limit as usize {
            return Err(ApiError::client(
                "AttachmentLimitExceeded",
                format!("Interface count {count} exceeds the limit for {}", instance.spec.instance_type),
            ));
        }
        Ok(())
    }

    pub(super) fn detach(&mut self, request: &DetachNetworkInterface) -> Result<Done, ApiError> {
        let id = &request.attachment_id;
        let eni = self.world.attached_as(id).map(|eni| eni.id.clone()).ok_or_else(|| ApiError::no_attachment(id))?;
        let state = self.world.enis.get_mut(&eni).and_then(|eni| eni.attachment.as_mut());
        let attachment = state.ok_or_else(|| ApiError::no_attachment(id))?;
        let primary = self.world.instances.get(&attachment.instance).is_some_and(|instance| instance.primary == eni);
        if primary {
            return Err(ApiError::client(
                "OperationNotPermitted",
                format!(
                    "The network interface at device index {} and networkCard index {} cannot be detached.",
                    attachment.device, attachment.card
                ),
            ));
        }
        if attachment.tie == Tie::Detaching {
            return Err(ApiError::client("IncorrectState", format!("Attachment '{id}' is already being detached.")));
        }
        attachment.tie = Tie::Detaching;
        let instance = attachment.instance.clone();
        let delay = self.detach_delay(&instance);
        self.later(self.setup.profile.detached.longer(delay), Task::Detached(id.clone()));
        Ok(Done::default())
    }

    pub(super) fn delete(&mut self, request: &DeleteNetworkInterface) -> Result<Done, ApiError> {
        let id = &request.network_interface_id;
        if self.own_eni(id)?.attachment.is_some() {
            return Err(ApiError::in_use(id));
        }
        self.remove_eni(id);
        Ok(Done::default())
    }

    pub(super) fn modify(&mut self, request: &ModifyNetworkInterfaceAttribute) -> Result<Done, ApiError> {
        let id = &request.network_interface_id;
        self.own_eni(id)?;
        one_kind(
            &[
                ("Attachment", request.attachment.is_some()),
                ("SecurityGroupId", !request.groups.is_empty()),
                ("Description", request.description.is_some()),
                ("SourceDestCheck", request.source_dest_check.is_some()),
                ("ConnectionTrackingSpecification", request.connection_tracking.is_some()),
                ("AssociatePublicIpAddress", request.associate_public_ip_address.is_some()),
                ("EnablePrimaryIpv6", request.enable_primary_ipv6.is_some()),
            ],
            false,
        )?;
        self.check_groups(&request.groups)?;
        if request.enable_primary_ipv6 == Some(true) {
            return Err(ApiError::no_ipv6(&self.eni(id)?.subnet));
        }
        if let Some(changes) = &request.attachment {
            self.modify_attachment(id, changes)?;
        }
        if let Some(wanted) = request.associate_public_ip_address {
            self.set_automatic_public(id, wanted)?;
        }
        let Some(eni) = self.world.enis.get_mut(id) else { return Err(ApiError::no_eni(id)) };
        if let Some(description) = &request.description {
            eni.description = description.value.clone().unwrap_or_default();
        }
        let before = (eni.groups.clone(), eni.source_dest_check);
        if let Some(check) = request.source_dest_check.and_then(|check| check.value) {
            eni.source_dest_check = check;
        }
        if let Some(specification) = request.connection_tracking {
            eni.connection_tracking = Some(tracking(specification));
        }
        if !request.groups.is_empty() {
            eni.groups.clone_from(&request.groups);
        }
        if before != (eni.groups.clone(), eni.source_dest_check) {
            self.eni_changed(id);
        }
        Ok(Done::default())
    }

    /// Gives the primary address a public one, or takes it away.
    fn set_automatic_public(&mut self, id: &EniId, wanted: bool) -> Result<(), ApiError> {
        let eni = self.world.enis.get_mut(id).ok_or_else(|| ApiError::no_eni(id))?;
        let (private, has) = (eni.primary, eni.public.contains_key(&eni.primary));
        eni.automatic_public = wanted && (eni.automatic_public || !has);
        if has == wanted {
            return Ok(());
        }
        let public =
            if wanted { Some(self.world.pick_public().ok_or_else(ApiError::no_public_address)?) } else { None };
        self.map_public(self.now, private, public)
    }

    fn modify_attachment(&mut self, id: &EniId, changes: &NetworkInterfaceAttachmentChanges) -> Result<(), ApiError> {
        let wanted = changes.attachment_id.as_ref().ok_or_else(|| ApiError::missing("Attachment.AttachmentId"))?;
        let attachment = self.world.enis.get_mut(id).and_then(|eni| eni.attachment.as_mut());
        let attachment = attachment.filter(|own| own.id == *wanted).ok_or_else(|| ApiError::no_attachment(wanted))?;
        attachment.delete_on_termination =
            changes.delete_on_termination.ok_or_else(|| ApiError::missing("Attachment.DeleteOnTermination"))?;
        Ok(())
    }
}

fn tracking(specification: ConnectionTrackingSpecification) -> ConnectionTrackingConfiguration {
    ConnectionTrackingConfiguration {
        tcp_established_timeout: specification.tcp_established_timeout,
        udp_stream_timeout: specification.udp_stream_timeout,
        udp_timeout: specification.udp_timeout,
    }
}
