//! Launching instances: what is asked for becomes a plan ([`Launch`]), which is checked whole and then carried out once for
//! each instance. As many are launched as there is room for, at least `MinCount` or none.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vpc_aws::ec2::shapes::{
    EnabledDisabled, HttpTokens, InstanceNetworkInterfaceSpecification, Reservation, ResourceType, RunInstances,
};
use vpc_model::{CardIndex, DeviceIndex, EniId, InstanceId, InstanceLimits, SubnetId, instance_limits};

use super::addresses::{AskedSlots, check_takes_prefixes};
use super::tags::tags_by_kind;
use crate::cloud::{Cloud, Task};
use crate::error::ApiError;
use crate::event::{FabricEvent, LaunchedInstance};
use crate::ids::checked;
use crate::spec::{INTERFACE_TYPES, InstanceSpec, Tags};
use crate::world::{Birth, NewEni, Power, PublicAddress, Seat, SeatEni, Want};

/// The type of an instance for which none was asked.
const DEFAULT_TYPE: &str = "m1.small";
/// How far IMDS token answers go when a token is needed and nothing else was asked for.
const DEFAULT_HOP_LIMIT: u8 = 2;

/// Bytes of user data that EC2 takes.
const MAX_USER_DATA: usize = 16_384;

/// A checked launch.
struct Launch {
    limits: &'static InstanceLimits,
    /// Subnet of the primary ENI.
    subnet: SubnetId,
    /// The ENIs, the primary one first.
    seats: Vec<Seat>,
    /// Whether the primary address gets a public one.
    public: bool,
    hop_limit: u8,
    role: Option<String>,
    tags: Tags,
    birth: Birth,
}

impl Cloud {
    pub(super) fn run_instances(&mut self, request: &RunInstances) -> Result<Reservation, ApiError> {
        let launch = self.read_launch(request)?;
        let mut launched = Vec::new();
        let before = self.world.clone();
        for index in 0..request.max_count {
            let kept = self.world.clone();
            match self.launch_one(&launch, index) {
                Ok(id) => launched.push(id),
                Err(error) if index < request.min_count => {
                    self.world = before;
                    return Err(error);
                }
                Err(_) => {
                    self.world = kept;
                    break;
                }
            }
        }
        for id in &launched {
            self.announce_launch(id);
            self.later(self.setup.profile.boot, Task::Booted(id.clone()));
        }
        Ok(Reservation {
            reservation_id: launch.birth.reservation,
            owner_id: Some(self.world.spec.account_id.clone()),
            groups: Vec::new(),
            instances: launched
                .iter()
                .filter_map(|id| self.world.instances.get(id))
                .map(|instance| self.show_instance(instance))
                .collect(),
        })
    }

    fn launch_one(&mut self, launch: &Launch, index: u32) -> Result<InstanceId, ApiError> {
        let id: InstanceId = checked(&self.dice.id(InstanceId::PREFIX));
        let name = launch.tags.get("Name").filter(|name| !self.is_called(name)).cloned();
        let spec = InstanceSpec {
            id: id.clone(),
            hop_limit: launch.hop_limit,
            role: launch.role.clone(),
            ..InstanceSpec::new(
                &name.unwrap_or_else(|| id.to_string()),
                &launch.limits.instance_type,
                launch.subnet.clone(),
            )
        };
        let public = match launch.public {
            true => {
                let address = self.world.pick_public().ok_or_else(ApiError::no_public_address)?;
                Some(PublicAddress::Automatic(address))
            }
            false => None,
        };
        let birth = Birth { index, ..launch.birth.clone() };
        self.world.launch(spec, birth, launch.tags.clone(), launch.seats.clone(), public, &mut self.dice)?;
        Ok(id)
    }

    /// Whether a living instance has that name for people.
    fn is_called(&self, name: &str) -> bool {
        let mut living = self.world.instances.values().filter(|instance| instance.power != Power::Terminated);
        living.any(|instance| instance.spec.name == name)
    }

    fn announce_launch(&mut self, id: &InstanceId) {
        let Some(instance) = self.world.instances.get(id) else { return };
        let launched = LaunchedInstance {
            id: id.clone(),
            name: instance.spec.name.clone(),
            instance_type: instance.spec.instance_type.clone(),
            subnet: instance.spec.subnet.clone(),
            hop_limit: instance.spec.hop_limit,
        };
        self.emit(FabricEvent::InstanceLaunched(Box::new(launched)));
    }

    // -- reading what is asked for -------------------------------------------------------------------------------------

    fn read_launch(&mut self, request: &RunInstances) -> Result<Launch, ApiError> {
        let image = read_image(request)?;
        let (least, most) = (request.min_count, request.max_count);
        if least == 0 || most < least {
            return Err(ApiError::value(format!(
                "Invalid values for MinCount ({least}) and MaxCount ({most}): at least 1, and MaxCount not below MinCount."
            )));
        }
        let kind = request.instance_type.as_deref().unwrap_or(DEFAULT_TYPE);
        let limits = instance_limits(kind)
            .ok_or_else(|| ApiError::value(format!("Invalid value '{kind}' for InstanceType.")))?;
        let kinds = [ResourceType::Instance, ResourceType::NetworkInterface, ResourceType::Volume];
        let mut tags = tags_by_kind(&request.tag_specifications, &kinds)?;
        let eni_tags = tags.remove(&ResourceType::NetworkInterface).unwrap_or_default();
        let seats = self.read_seats(request, limits, &eni_tags)?;
        let subnet = self.check_zones(request, &seats)?;
        let public = self.read_public(request, &subnet)?;
        let hop_limit = read_hop_limit(request)?;
        let role = self.read_role(request)?;
        Ok(Launch {
            limits,
            subnet,
            seats,
            public,
            hop_limit,
            role,
            tags: tags.remove(&ResourceType::Instance).unwrap_or_default(),
            birth: Birth {
                image,
                reservation: self.dice.id("r-"),
                index: 0,
                key: request.key_name.clone(),
                token: request.client_token.clone().filter(|token| !token.is_empty()),
                user_data: request.user_data.as_deref().map(read_user_data).transpose()?,
                may_stop: request.disable_api_stop != Some(true),
                may_terminate: request.disable_api_termination != Some(true),
                at: self.now,
            },
        })
    }

    fn read_seats(&self, request: &RunInstances, limits: &InstanceLimits, tags: &Tags) -> Result<Vec<Seat>, ApiError> {
        if !request.security_groups.is_empty() {
            return Err(match request.subnet_id {
                Some(_) => ApiError::combination("The parameter groupName cannot be used with the parameter subnet"),
                None => ApiError::no_default_vpc(),
            });
        }
        if request.network_interfaces.is_empty() {
            return self.read_simple_seat(request, limits, tags).map(|seat| vec![seat]);
        }
        let at_instance = [
            ("subnet ID", request.subnet_id.is_some()),
            ("security groups", !request.security_group_ids.is_empty()),
            ("private IP address", request.private_ip_address.is_some()),
        ];
        if let Some((what, _)) = at_instance.iter().find(|(_, given)| *given) {
            return Err(ApiError::combination(format!(
                "Network interfaces and an instance-level {what} may not be specified on the same request"
            )));
        }
        let mut seats = Vec::new();
        for asked in &request.network_interfaces {
            seats.push(self.read_seat(request, asked, limits, tags)?);
        }
        seats.sort_by_key(|seat| (seat.card, seat.device));
        if !seats.iter().any(|seat| (seat.card, seat.device) == (limits.default_card, DeviceIndex(0))) {
            return Err(ApiError::combination(
                "When specifying network interfaces, you must include a device at index 0.",
            ));
        }
        let primary_first = |seat: &Seat| (seat.card, seat.device) != (limits.default_card, DeviceIndex(0));
        seats.sort_by_key(primary_first);
        check_places(&seats, limits)?;
        Ok(seats)
    }

    /// The one ENI of an instance that was described without ENIs.
    fn read_simple_seat(&self, request: &RunInstances, limits: &InstanceLimits, tags: &Tags) -> Result<Seat, ApiError> {
        let subnet = request.subnet_id.as_ref().ok_or_else(ApiError::no_default_vpc)?;
        if !self.world.subnets.contains_key(subnet) {
            return Err(ApiError::no_subnet(subnet));
        }
        if request.ipv6_address_count.unwrap_or(0) > 0 {
            return Err(ApiError::no_ipv6(subnet));
        }
        self.check_groups(&request.security_group_ids)?;
        if request.private_ip_address.is_some() && request.max_count > 1 {
            return Err(ApiError::combination("A private IP address can only be given to a single instance."));
        }
        let new = NewEni {
            subnet: subnet.clone(),
            primary: request.private_ip_address,
            slots: Want::default(),
            description: String::new(),
            interface_type: "interface".to_owned(),
            groups: self.world.groups_or_default(&request.security_group_ids),
            tags: tags.clone(),
        };
        let card = limits.default_card;
        Ok(Seat { eni: SeatEni::New(new), device: DeviceIndex(0), card, delete_on_termination: true })
    }

    fn read_seat(
        &self,
        request: &RunInstances,
        asked: &InstanceNetworkInterfaceSpecification,
        limits: &InstanceLimits,
        tags: &Tags,
    ) -> Result<Seat, ApiError> {
        let device = asked.device_index.ok_or_else(|| ApiError::missing("NetworkInterface.DeviceIndex"))?;
        let card = asked.network_card_index.unwrap_or(CardIndex(0));
        let several = request.max_count > 1;
        if let Some(id) = &asked.network_interface_id {
            if several {
                return Err(ApiError::combination(
                    "A network interface can only be attached to a single instance: MaxCount must be 1.",
                ));
            }
            self.check_free_eni(id, limits)?;
            let delete_on_termination = asked.delete_on_termination.unwrap_or(false);
            return Ok(Seat { eni: SeatEni::Existing(id.clone()), device, card, delete_on_termination });
        }
        let subnet = asked.subnet_id.as_ref().ok_or_else(|| ApiError::missing("NetworkInterface.SubnetId"))?;
        if !self.world.subnets.contains_key(subnet) {
            return Err(ApiError::no_subnet(subnet));
        }
        let ipv6 = asked.ipv6_address_count.unwrap_or(0) + asked.ipv6_prefix_count.unwrap_or(0) > 0;
        if ipv6 || !asked.ipv6_addresses.is_empty() || !asked.ipv6_prefixes.is_empty() {
            return Err(ApiError::no_ipv6(subnet));
        }
        self.check_groups(&asked.groups)?;
        let interface_type = asked.interface_type.as_deref().unwrap_or("interface");
        if !INTERFACE_TYPES.contains(&interface_type) {
            return Err(ApiError::unsupported(format!(
                "This cloud has no network interfaces of the type {interface_type}."
            )));
        }
        let slots = AskedSlots {
            primary: asked.private_ip_address,
            addresses: &asked.private_ip_addresses,
            address_count: asked.secondary_private_ip_address_count,
            prefixes: &asked.ipv4_prefixes,
            prefix_count: asked.ipv4_prefix_count,
        };
        let (primary, slots) = slots.read()?;
        let by_name = primary.is_some() || !slots.these_addresses.is_empty() || !slots.these_prefixes.is_empty();
        if several && by_name {
            return Err(ApiError::combination("Certain addresses can only be given to a single instance."));
        }
        if slots.prefixes > 0 || !slots.these_prefixes.is_empty() {
            check_takes_prefixes(limits)?;
        }
        if slots.slots().saturating_add(1) > limits.ipv4_per_eni {
            return Err(ApiError::too_many_addresses());
        }
        let new = NewEni {
            subnet: subnet.clone(),
            primary,
            slots,
            description: asked.description.clone().unwrap_or_default(),
            interface_type: interface_type.to_owned(),
            groups: self.world.groups_or_default(&asked.groups),
            tags: tags.clone(),
        };
        let delete_on_termination = asked.delete_on_termination.unwrap_or(true);
        Ok(Seat { eni: SeatEni::New(new), device, card, delete_on_termination })
    }

    /// Whether an ENI can be an instance's from the start.
    fn check_free_eni(&self, id: &EniId, limits: &InstanceLimits) -> Result<(), ApiError> {
        let eni = self.own_eni(id)?;
        if eni.attachment.is_some() {
            return Err(ApiError::client("InvalidNetworkInterface.InUse", format!("Interface: [{id}] in use.")));
        }
        if eni.slots() > limits.ipv4_per_eni {
            return Err(ApiError::too_many_addresses());
        }
        if eni.prefixes.is_empty() { Ok(()) } else { check_takes_prefixes(limits) }
    }

    /// Checks that all ENIs are in one zone, the one asked for. Returns the subnet of the primary ENI.
    fn check_zones(&self, request: &RunInstances, seats: &[Seat]) -> Result<SubnetId, ApiError> {
        let subnet_of = |seat: &Seat| match &seat.eni {
            SeatEni::New(new) => Ok(new.subnet.clone()),
            SeatEni::Existing(id) => self.eni(id).map(|eni| eni.subnet.clone()),
        };
        let subnets = seats.iter().map(subnet_of).collect::<Result<Vec<_>, _>>()?;
        let zone = |id: &SubnetId| self.world.subnets.get(id).map(|subnet| subnet.spec.zone.as_str());
        let home = subnets.first().ok_or_else(|| ApiError::missing("SubnetId"))?;
        if subnets.iter().any(|subnet| zone(subnet) != zone(home)) {
            return Err(ApiError::combination("The network interfaces are not in the same availability zone."));
        }
        let placement = request.placement.clone().unwrap_or_default();
        let id = |name: &str| self.world.spec.zones.iter().find(|own| own.name == name).map(|own| own.id.as_str());
        let other_name = placement.availability_zone.is_some() && placement.availability_zone.as_deref() != zone(home);
        let other_id = placement.availability_zone_id.is_some()
            && placement.availability_zone_id.as_deref() != zone(home).and_then(id);
        if other_name || other_id {
            let asked = placement.availability_zone.or(placement.availability_zone_id).unwrap_or_default();
            return Err(ApiError::value(format!(
                "Value ({asked}) for parameter availabilityZone is invalid. The subnet '{home}' is in {}.",
                zone(home).unwrap_or_default()
            )));
        }
        Ok(home.clone())
    }

    /// Whether the primary address gets a public one.
    fn read_public(&self, request: &RunInstances, home: &SubnetId) -> Result<bool, ApiError> {
        let asked: Vec<_> =
            request.network_interfaces.iter().filter_map(|eni| eni.associate_public_ip_address).collect();
        let alone = request.network_interfaces.len() <= 1;
        let existing = request.network_interfaces.iter().any(|eni| eni.network_interface_id.is_some());
        if !alone && asked.contains(&true) {
            return Err(ApiError::combination(
                "The associatePublicIPAddress parameter cannot be specified when launching with multiple network \
                 interfaces.",
            ));
        }
        if existing && !asked.is_empty() {
            return Err(ApiError::combination(
                "The associatePublicIPAddress parameter is only supported for new network interfaces.",
            ));
        }
        let maps = self.world.subnets.get(home).is_some_and(|subnet| subnet.spec.map_public_ip);
        Ok(asked.first().copied().unwrap_or(maps && alone && !existing))
    }

    /// The role of the instance profile asked for. Here a profile has the name of its role, and there is one for each role
    /// that the description names or gives to an instance.
    fn read_role(&self, request: &RunInstances) -> Result<Option<String>, ApiError> {
        let Some(profile) = &request.iam_instance_profile else { return Ok(None) };
        let (parameter, value, name) = match (&profile.name, &profile.arn) {
            (Some(name), None) => ("name", name, name.as_str()),
            (None, Some(arn)) => ("arn", arn, arn.rsplit('/').next().unwrap_or_default()),
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(ApiError::combination(
                    "The parameter 'iamInstanceProfile.name' may not be used in combination with \
                     'iamInstanceProfile.arn'",
                ));
            }
        };
        let spec = &self.world.spec;
        let known = spec.roles.iter().any(|role| role.name == name)
            || spec.instances.iter().any(|instance| instance.role.as_deref() == Some(name));
        if known {
            return Ok(Some(name.to_owned()));
        }
        Err(ApiError::value(format!(
            "Value ({value}) for parameter iamInstanceProfile.{parameter} is invalid. Invalid IAM Instance Profile \
             {parameter}"
        )))
    }
}

fn read_image(request: &RunInstances) -> Result<String, ApiError> {
    let image = request.image_id.clone().ok_or_else(|| ApiError::missing("ImageId"))?;
    if image
        .strip_prefix("ami-")
        .is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit()))
    {
        return Ok(image);
    }
    let text = format!("Invalid id: \"{image}\" (expecting \"ami-...\")");
    Err(ApiError::client("InvalidAMIID.Malformed", text))
}

/// What an instance will read as its user data; in a request it is in base64.
fn read_user_data(encoded: &str) -> Result<String, ApiError> {
    let malformed = |_| ApiError::client("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.");
    let bytes = STANDARD.decode(encoded.trim()).map_err(malformed)?;
    if bytes.len() > MAX_USER_DATA {
        return Err(ApiError::value(format!("User data is limited to {MAX_USER_DATA} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| ApiError::unsupported("In this cloud user data is text in UTF-8."))
}

/// How far IMDS token answers go. The metadata service is there, and asks for tokens, always.
fn read_hop_limit(request: &RunInstances) -> Result<u8, ApiError> {
    let Some(options) = &request.metadata_options else { return Ok(DEFAULT_HOP_LIMIT) };
    if options.http_endpoint == Some(EnabledDisabled::Disabled) {
        return Err(ApiError::unsupported("In this cloud every instance has its metadata service."));
    }
    if options.http_tokens == Some(HttpTokens::Optional) {
        return Err(ApiError::unsupported("In this cloud the metadata service asks for tokens always."));
    }
    if options.http_protocol_ipv6 == Some(EnabledDisabled::Enabled) {
        return Err(ApiError::unsupported("This cloud has no IPv6."));
    }
    let Some(limit) = options.http_put_response_hop_limit else { return Ok(DEFAULT_HOP_LIMIT) };
    u8::try_from(limit).ok().filter(|limit| (1..=64).contains(limit)).ok_or_else(|| {
        ApiError::value(format!(
            "Value ({limit}) for parameter HttpPutResponseHopLimit is invalid. Expecting a value between 1 and 64."
        ))
    })
}

/// Whether all positions exist, and each is taken once.
fn check_places(seats: &[Seat], limits: &InstanceLimits) -> Result<(), ApiError> {
    let kind = &limits.instance_type;
    for (n, seat) in seats.iter().enumerate() {
        let (card, device) = (seat.card, seat.device);
        if !limits.cards.iter().any(|own| own.card == card) {
            let text = format!("Network card index {card} is not valid for the instance type {kind}.");
            return Err(ApiError::value(text));
        }
        if seats.iter().take(n).any(|other| (other.card, other.device) == (card, device)) {
            return Err(ApiError::value(format!("Each network interface requires a unique device index: {device}")));
        }
    }
    for card in &limits.cards {
        let count = seats.iter().filter(|seat| seat.card == card.card).count();
        if count > card.max_enis as usize {
            let text = format!("Interface count {count} exceeds the limit for {kind}");
            return Err(ApiError::client("AttachmentLimitExceeded", text));
        }
    }
    Ok(())
}
