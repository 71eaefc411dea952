//! What each action does: checks in EC2's order and words, then the change, then the answer.

mod cidrs;

use std::collections::BTreeSet;

use vpc_aws::ec2::shapes::{
    AnyRequest, AnyResponse, AssignPrivateIpAddresses, AssignPrivateIpAddressesResponse, AssignedPrivateIpAddress,
    AttachNetworkInterface, AttachNetworkInterfaceResponse, ConnectionTrackingConfiguration,
    ConnectionTrackingSpecification, CreateNetworkInterface, CreateNetworkInterfaceResponse, CreateTags,
    DeleteNetworkInterface, DetachNetworkInterface, Done, Ipv4PrefixEntry, ModifyNetworkInterfaceAttribute,
    NetworkInterfaceAttachmentChanges, NetworkInterfaceCreationType, NetworkInterfaceStatus, ResourceType, Tag,
    TagSpecification, UnassignPrivateIpAddresses,
};
use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, SecurityGroupId, Slot, all_instance_limits};

use crate::cloud::{Cloud, Task};
use crate::error::ApiError;
use crate::ids::checked;
use crate::spec::Tags;
use crate::world::{Attachment, Eni, Instance, NewEni, Power, Tie, Want};

/// Security groups an ENI may have (the account's default quota).
const MAX_GROUPS: usize = 5;
/// Tags an object may have.
const MAX_TAGS: usize = 50;
/// Characters of a tag's key and of its value.
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;

impl Cloud {
    /// Carries out one call at once.
    pub(crate) fn execute(&mut self, request: AnyRequest) -> Result<AnyResponse, ApiError> {
        if request.dry_run() {
            self.clone().perform(request)?;
            return Err(ApiError::dry_run());
        }
        self.perform(request)
    }

    fn perform(&mut self, request: AnyRequest) -> Result<AnyResponse, ApiError> {
        use AnyRequest as Q;
        use AnyResponse as A;
        match request {
            Q::AssignIpv6Addresses(r) => self.assign_ipv6(&r).map(A::AssignIpv6Addresses),
            Q::AssignPrivateIpAddresses(r) => self.assign(&r).map(A::AssignPrivateIpAddresses),
            Q::AttachNetworkInterface(r) => self.attach(&r).map(A::AttachNetworkInterface),
            Q::CreateNetworkInterface(r) => self.create(r).map(A::CreateNetworkInterface),
            Q::CreateTags(r) => self.create_tags(&r).map(A::CreateTags),
            Q::DeleteNetworkInterface(r) => self.delete(&r).map(A::DeleteNetworkInterface),
            Q::DetachNetworkInterface(r) => self.detach(&r).map(A::DetachNetworkInterface),
            Q::ModifyNetworkInterfaceAttribute(r) => self.modify(&r).map(A::ModifyNetworkInterfaceAttribute),
            Q::UnassignIpv6Addresses(r) => self.unassign_ipv6(&r).map(A::UnassignIpv6Addresses),
            Q::UnassignPrivateIpAddresses(r) => self.unassign(&r).map(A::UnassignPrivateIpAddresses),
            Q::DescribeAvailabilityZones(r) => self.describe_zones(&r).map(A::DescribeAvailabilityZones),
            Q::DescribeInstanceTypes(r) => self.describe_instance_types(&r).map(A::DescribeInstanceTypes),
            Q::DescribeInstances(r) => self.describe_instances(&r).map(A::DescribeInstances),
            Q::DescribeNetworkInterfaces(r) => self.describe_enis(&r).map(A::DescribeNetworkInterfaces),
            Q::DescribeRouteTables(r) => self.describe_route_tables(&r).map(A::DescribeRouteTables),
            Q::DescribeSecurityGroups(r) => self.describe_groups(&r).map(A::DescribeSecurityGroups),
            Q::DescribeSubnets(r) => self.describe_subnets(&r).map(A::DescribeSubnets),
            Q::DescribeTags(r) => self.describe_tags(&r).map(A::DescribeTags),
            Q::DescribeVpcs(r) => self.describe_vpcs(&r).map(A::DescribeVpcs),
            Q::DescribeInstanceStatus(r) => self.describe_instance_status(&r).map(A::DescribeInstanceStatus),
            Q::DescribeNetworkInterfaceAttribute(r) => {
                self.describe_eni_attribute(&r).map(A::DescribeNetworkInterfaceAttribute)
            }
            Q::DescribeSecurityGroupRules(r) => self.describe_rules(&r).map(A::DescribeSecurityGroupRules),
            Q::GetSubnetCidrReservations(r) => self.get_reservations(&r).map(A::GetSubnetCidrReservations),
            other => Err(not_in_the_model(&other)),
        }
    }

    // -- life of an ENI ------------------------------------------------------------------------------------------------

    fn create(&mut self, request: CreateNetworkInterface) -> Result<CreateNetworkInterfaceResponse, ApiError> {
        let token = request.client_token.clone().filter(|token| !token.is_empty());
        let asked = AnyRequest::CreateNetworkInterface(request.clone());
        if let Some((before, answer)) = token.as_ref().and_then(|token| self.tokens.get(token)) {
            if *before == asked {
                return Ok(answer.clone());
            }
            return Err(ApiError::client(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
            ));
        }
        let new = self.new_eni(&request)?;
        let id = self.world.create_eni(new, &mut self.dice)?;
        if let Some(eni) = self.world.enis.get_mut(&id) {
            eni.connection_tracking = request.connection_tracking.map(tracking);
        }
        let eni = self.eni(&id)?;
        let mut network_interface = self.show_eni(eni);
        network_interface.status = NetworkInterfaceStatus::Pending;
        let answer = CreateNetworkInterfaceResponse { network_interface, client_token: request.client_token };
        if let Some(token) = token {
            self.tokens.insert(token, (asked, answer.clone()));
        }
        Ok(answer)
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
            tags: tags_of(&request.tag_specifications)?,
        })
    }

    fn attach(&mut self, request: &AttachNetworkInterface) -> Result<AttachNetworkInterfaceResponse, ApiError> {
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
            check_takes_prefixes(instance)?;
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
        if let Some(eni) = self.world.enis.get_mut(&request.network_interface_id) {
            eni.attachment = Some(attachment);
        }
        if !self.holds_attachment(&request.instance_id, &id) {
            self.begin_attachment(id.clone());
        }
        Ok(AttachNetworkInterfaceResponse { attachment_id: id, network_card_index: Some(card) })
    }

    fn instance_for(&self, request: &AttachNetworkInterface) -> Result<&Instance, ApiError> {
        let id = &request.instance_id;
        let instance = self.world.instances.get(id).ok_or_else(|| ApiError::no_instance(id))?;
        if instance.power == Power::Terminated {
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

    fn detach(&mut self, request: &DetachNetworkInterface) -> Result<Done, ApiError> {
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

    fn delete(&mut self, request: &DeleteNetworkInterface) -> Result<Done, ApiError> {
        let id = &request.network_interface_id;
        if self.own_eni(id)?.attachment.is_some() {
            return Err(ApiError::in_use(id));
        }
        self.remove_eni(id);
        Ok(Done::default())
    }

    // -- addresses -----------------------------------------------------------------------------------------------------

    fn assign(&mut self, request: &AssignPrivateIpAddresses) -> Result<AssignPrivateIpAddressesResponse, ApiError> {
        let id = &request.network_interface_id;
        let eni = self.own_eni(id)?;
        let want = Want {
            addresses: request.secondary_private_ip_address_count.unwrap_or(0),
            prefixes: request.ipv4_prefix_count.unwrap_or(0),
            these_addresses: request.private_ip_addresses.clone(),
            these_prefixes: request.ipv4_prefixes.clone(),
        };
        one_kind(
            &[
                ("SecondaryPrivateIpAddressCount", request.secondary_private_ip_address_count.is_some()),
                ("PrivateIpAddress", !request.private_ip_addresses.is_empty()),
                ("Ipv4PrefixCount", request.ipv4_prefix_count.is_some()),
                ("Ipv4Prefix", !request.ipv4_prefixes.is_empty()),
            ],
            true,
        )?;
        if want.slots() == 0 {
            return Err(ApiError::value("Value (0) for a count of addresses or prefixes is invalid: at least 1."));
        }
        if want.prefixes > 0 || !want.these_prefixes.is_empty() {
            self.instance_of(eni).map_or(Ok(()), check_takes_prefixes)?;
        }
        let limit = self.instance_of(eni).map_or_else(most_addresses, |instance| instance.limits.ipv4_per_eni);
        if eni.slots().saturating_add(want.slots()) > limit {
            return Err(ApiError::too_many_addresses());
        }
        let (addresses, prefixes) = self.world.assign(id, &want, &mut self.dice)?;
        self.eni_changed(id);
        Ok(AssignPrivateIpAddressesResponse {
            network_interface_id: id.clone(),
            assigned_private_ip_addresses: addresses
                .into_iter()
                .map(|private_ip_address| AssignedPrivateIpAddress { private_ip_address })
                .collect(),
            assigned_ipv4_prefixes: prefixes.into_iter().map(|ipv4_prefix| Ipv4PrefixEntry { ipv4_prefix }).collect(),
        })
    }

    fn unassign(&mut self, request: &UnassignPrivateIpAddresses) -> Result<Done, ApiError> {
        let id = &request.network_interface_id;
        let primary = self.own_eni(id)?.primary;
        one_kind(
            &[
                ("PrivateIpAddress", !request.private_ip_addresses.is_empty()),
                ("Ipv4Prefix", !request.ipv4_prefixes.is_empty()),
            ],
            true,
        )?;
        if request.private_ip_addresses.contains(&primary) {
            return Err(ApiError::value(format!("The primary address {primary} of {id} cannot be unassigned.")));
        }
        let addresses = request.private_ip_addresses.iter().map(|address| Slot::Address(*address));
        let slots: Vec<_> = addresses.chain(request.ipv4_prefixes.iter().map(|prefix| Slot::Prefix(*prefix))).collect();
        if let Some(stranger) = slots.iter().find(|slot| !self.holds(id, **slot)) {
            return Err(ApiError::value(format!("[{stranger}] is not assigned to the network interface '{id}'.")));
        }
        self.world.unassign(id, &slots);
        self.end_mappings(id);
        self.eni_changed(id);
        Ok(Done::default())
    }

    /// Ends the public mappings of addresses the ENI no longer has.
    pub(crate) fn end_mappings(&mut self, id: &EniId) {
        let Some(eni) = self.world.enis.get_mut(id) else { return };
        let addresses = eni.addresses();
        let lost: Vec<_> = eni.public.keys().copied().filter(|private| !addresses.holds(*private)).collect();
        for private in lost {
            if let Some(public) = self.world.enis.get_mut(id).and_then(|eni| eni.public.remove(&private)) {
                self.world.public.remove(&public);
                self.emit(crate::event::FabricEvent::PublicMappingChanged { private, public: None });
            }
        }
    }

    // -- attributes and tags -------------------------------------------------------------------------------------------

    fn modify(&mut self, request: &ModifyNetworkInterfaceAttribute) -> Result<Done, ApiError> {
        let id = &request.network_interface_id;
        self.own_eni(id)?;
        one_kind(
            &[
                ("Attachment", request.attachment.is_some()),
                ("SecurityGroupId", !request.groups.is_empty()),
                ("Description", request.description.is_some()),
                ("SourceDestCheck", request.source_dest_check.is_some()),
                ("ConnectionTrackingSpecification", request.connection_tracking.is_some()),
            ],
            false,
        )?;
        self.check_groups(&request.groups)?;
        if let Some(changes) = &request.attachment {
            self.modify_attachment(id, changes)?;
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

    fn modify_attachment(&mut self, id: &EniId, changes: &NetworkInterfaceAttachmentChanges) -> Result<(), ApiError> {
        let wanted = changes.attachment_id.as_ref().ok_or_else(|| ApiError::missing("Attachment.AttachmentId"))?;
        let attachment = self.world.enis.get_mut(id).and_then(|eni| eni.attachment.as_mut());
        let attachment = attachment.filter(|own| own.id == *wanted).ok_or_else(|| ApiError::no_attachment(wanted))?;
        attachment.delete_on_termination =
            changes.delete_on_termination.ok_or_else(|| ApiError::missing("Attachment.DeleteOnTermination"))?;
        Ok(())
    }

    fn create_tags(&mut self, request: &CreateTags) -> Result<Done, ApiError> {
        if request.resources.is_empty() {
            return Err(ApiError::missing("ResourceId"));
        }
        if request.tags.is_empty() {
            return Err(ApiError::missing("Tag"));
        }
        let new = checked_tags(&request.tags)?;
        for id in &request.resources {
            let tags = self.tags_mut(id)?;
            let sum = tags.keys().chain(new.keys()).collect::<BTreeSet<_>>().len();
            if sum > MAX_TAGS {
                return Err(too_many_tags());
            }
        }
        for id in &request.resources {
            self.tags_mut(id)?.extend(new.clone());
        }
        Ok(Done::default())
    }

    fn tags_mut(&mut self, id: &str) -> Result<&mut Tags, ApiError> {
        if let Ok(eni) = id.parse::<EniId>() {
            return self.world.enis.get_mut(&eni).map(|eni| &mut eni.tags).ok_or_else(|| ApiError::no_eni(&id));
        }
        if let Ok(instance) = id.parse() {
            let tags = self.world.instances.get_mut(&instance).map(|instance| &mut instance.tags);
            return tags.ok_or_else(|| ApiError::no_instance(&id));
        }
        if let Ok(subnet) = id.parse() {
            let tags = self.world.subnets.get_mut(&subnet).map(|subnet| &mut subnet.tags);
            return tags.ok_or_else(|| ApiError::no_subnet(&id));
        }
        if let Ok(group) = id.parse() {
            let tags = self.world.groups.get_mut(&group).map(|group| &mut group.tags);
            return tags.ok_or_else(|| ApiError::no_group(&id));
        }
        if id == self.world.spec.vpc.id.as_str() {
            return Ok(&mut self.world.vpc_tags);
        }
        let tags = self.world.route_tables.get_mut(id).map(|table| &mut table.tags);
        tags.ok_or_else(|| ApiError::client("InvalidID", format!("The ID '{id}' is not valid")))
    }

    // -- helpers -------------------------------------------------------------------------------------------------------

    /// An ENI that its owner may change: not one that a service of the provider made for itself.
    pub(crate) fn own_eni(&self, id: &EniId) -> Result<&Eni, ApiError> {
        let eni = self.eni(id)?;
        match &eni.endpoint {
            None => Ok(eni),
            Some(_) => Err(ApiError::client(
                "OperationNotPermitted",
                format!("You do not have permission to access the specified resource: {id} is managed by its service."),
            )),
        }
    }

    pub(crate) fn eni(&self, id: &EniId) -> Result<&Eni, ApiError> {
        self.world.enis.get(id).ok_or_else(|| ApiError::no_eni(id))
    }

    fn instance_of(&self, eni: &Eni) -> Option<&Instance> {
        eni.attachment.as_ref().and_then(|attachment| self.world.instances.get(&attachment.instance))
    }

    fn check_groups(&self, groups: &[SecurityGroupId]) -> Result<(), ApiError> {
        if groups.len() > MAX_GROUPS {
            return Err(ApiError::client(
                "SecurityGroupsPerInterfaceLimitExceeded",
                format!("The maximum number of security groups per interface ({MAX_GROUPS}) has been reached."),
            ));
        }
        match groups.iter().find(|id| !self.world.groups.contains_key(*id)) {
            Some(stranger) => Err(ApiError::no_group(stranger)),
            None => Ok(()),
        }
    }
}

/// An action whose shape is known but that the model does not carry out.
fn not_in_the_model(request: &AnyRequest) -> ApiError {
    ApiError::client("UnsupportedOperation", format!("{} is not supported by this cloud.", request.name()))
}

/// The largest number of addresses an ENI of any type may have: what an ENI that is attached to nothing is held to.
fn most_addresses() -> u32 {
    all_instance_limits().iter().map(|limits| limits.ipv4_per_eni).max().unwrap_or(50)
}

fn check_takes_prefixes(instance: &Instance) -> Result<(), ApiError> {
    if instance.limits.takes_prefixes() {
        return Ok(());
    }
    Err(ApiError::client(
        "UnsupportedOperation",
        format!("The instance type {} does not support prefixes.", instance.spec.instance_type),
    ))
}

/// Refuses more than one kind of parameter, and, if one is needed, none.
pub(crate) fn one_kind(kinds: &[(&str, bool)], missing_is_missing: bool) -> Result<(), ApiError> {
    let given: Vec<_> = kinds.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    let names: Vec<_> = kinds.iter().map(|(name, _)| *name).collect();
    match given.len() {
        1 => Ok(()),
        0 if missing_is_missing => Err(ApiError::missing(&names.join(" or "))),
        0 => Err(ApiError::combination("No attributes specified.")),
        _ => Err(ApiError::combination(format!("The parameters {} may not be given together.", given.join(" and ")))),
    }
}

/// The primary address and the slots of a creation.
fn addresses_of(request: &CreateNetworkInterface) -> Result<(Option<std::net::Ipv4Addr>, Want), ApiError> {
    let wanted = |count: Option<u32>| count.unwrap_or(0);
    let kinds = [
        ("SecondaryPrivateIpAddressCount", wanted(request.secondary_private_ip_address_count) > 0),
        ("PrivateIpAddresses", !request.private_ip_addresses.is_empty()),
        ("Ipv4PrefixCount", wanted(request.ipv4_prefix_count) > 0),
        ("Ipv4Prefix", !request.ipv4_prefixes.is_empty()),
    ];
    if kinds.iter().any(|(_, given)| *given) {
        one_kind(&kinds, true)?;
    }
    let primaries: Vec<_> =
        request.private_ip_addresses.iter().filter(|address| address.primary == Some(true)).collect();
    if primaries.len() + usize::from(request.private_ip_address.is_some()) > 1 {
        return Err(ApiError::combination("Only one private address may be the primary one."));
    }
    let primary = request.private_ip_address.or_else(|| primaries.first().map(|address| address.private_ip_address));
    let others = request.private_ip_addresses.iter().filter(|address| address.primary != Some(true));
    let slots = Want {
        addresses: wanted(request.secondary_private_ip_address_count),
        prefixes: wanted(request.ipv4_prefix_count),
        these_addresses: others.map(|address| address.private_ip_address).collect(),
        these_prefixes: request.ipv4_prefixes.iter().map(|prefix| prefix.ipv4_prefix).collect(),
    };
    Ok((primary, slots))
}

fn tracking(specification: ConnectionTrackingSpecification) -> ConnectionTrackingConfiguration {
    ConnectionTrackingConfiguration {
        tcp_established_timeout: specification.tcp_established_timeout,
        udp_stream_timeout: specification.udp_stream_timeout,
        udp_timeout: specification.udp_timeout,
    }
}

fn tags_of(specifications: &[TagSpecification]) -> Result<Tags, ApiError> {
    let mut tags = Tags::new();
    for specification in specifications {
        if specification.resource_type != ResourceType::NetworkInterface {
            return Err(ApiError::value(format!(
                "'{}' is not a valid taggable resource type for this operation.",
                specification.resource_type
            )));
        }
        tags.extend(checked_tags(&specification.tags)?);
    }
    Ok(tags)
}

fn checked_tags(tags: &[Tag]) -> Result<Tags, ApiError> {
    let mut checked = Tags::new();
    for tag in tags {
        if tag.key.is_empty() || tag.key.chars().count() > MAX_TAG_KEY {
            return Err(ApiError::value(format!("Tag key '{}' must have 1 to {MAX_TAG_KEY} characters.", tag.key)));
        }
        if tag.value.chars().count() > MAX_TAG_VALUE {
            return Err(ApiError::value(format!("The value of tag '{}' exceeds {MAX_TAG_VALUE} characters.", tag.key)));
        }
        if tag.key.to_ascii_lowercase().starts_with("aws:") {
            return Err(ApiError::value("Tag keys starting with 'aws:' are reserved for internal use"));
        }
        if checked.insert(tag.key.clone(), tag.value.clone()).is_some() {
            return Err(ApiError::value(format!("Duplicate tag key '{}' specified.", tag.key)));
        }
    }
    if checked.len() > MAX_TAGS { Err(too_many_tags()) } else { Ok(checked) }
}

fn too_many_tags() -> ApiError {
    ApiError::client("TagLimitExceeded", format!("More than {MAX_TAGS} tags are not allowed on one resource."))
}
