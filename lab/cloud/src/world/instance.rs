//! Instances: where they are in their lives, and how they come to be with their ENIs.

use std::net::Ipv4Addr;

use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, InstanceLimits, Time, instance_limits};

use super::{Attachment, NewEni, Tie, Want, World, named};
use crate::dice::Dice;
use crate::error::{ApiError, WorldError};
use crate::ids::checked;
use crate::spec::{InstanceSpec, Tags, id_text};

/// The image of instances that are not launched from another.
pub(crate) const IMAGE: &str = "ami-0123456789abcdef0";

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// Launched or started, but not up yet.
    Pending,
    Running,
    /// Going down for ever.
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl Power {
    /// EC2's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) spec: InstanceSpec,
    pub(crate) limits: &'static InstanceLimits,
    pub(crate) power: Power,
    /// Whether its programs run: also while it goes down.
    pub(crate) on: bool,
    /// Whether it ever had power.
    pub(crate) has_run: bool,
    pub(crate) primary: EniId,
    pub(crate) private_ip: Ipv4Addr,
    pub(crate) private_dns_name: String,
    pub(crate) zone: String,
    /// Last launched: started again after a stop counts, a reboot does not.
    pub(crate) launched: Time,
    /// When it last became `running`.
    pub(crate) up: Time,
    /// Whether its status checks have passed since then.
    pub(crate) checked: bool,
    /// When somebody told it to stop or to end; `None` while nobody has.
    pub(crate) told_down: Option<Time>,
    pub(crate) tags: Tags,
    pub(crate) birth: Birth,
}

/// What an instance was launched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    /// `ami-…`.
    pub(crate) image: String,
    /// `r-…`: instances launched by one call share it.
    pub(crate) reservation: String,
    /// Its number among them.
    pub(crate) index: u32,
    /// Name of the key pair.
    pub(crate) key: Option<String>,
    /// The client token of the launch.
    pub(crate) token: Option<String>,
    /// As the instance reads it.
    pub(crate) user_data: Option<String>,
    /// Whether StopInstances and TerminateInstances are taken.
    pub(crate) may_stop: bool,
    pub(crate) may_terminate: bool,
    pub(crate) at: Time,
}

impl Birth {
    /// That of an instance of the description.
    pub(crate) fn described(spec: &InstanceSpec) -> Self {
        let reservation = id_text("r-", spec.id.as_str());
        Self {
            image: IMAGE.to_owned(),
            reservation,
            index: 0,
            key: None,
            token: None,
            user_data: None,
            may_stop: true,
            may_terminate: true,
            at: Time(0),
        }
    }
}

/// An ENI for an instance that is being launched.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) eni: SeatEni,
    pub(crate) device: DeviceIndex,
    pub(crate) card: CardIndex,
    pub(crate) delete_on_termination: bool,
}

/// The public address that a new instance's primary address gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublicAddress {
    /// Its own as long as it exists, as an elastic one.
    Kept(Ipv4Addr),
    /// Out of the pool, and back to it with the power.
    Automatic(Ipv4Addr),
}

/// Which ENI: a new one, or one that is there already.
#[derive(Clone, Debug)]
pub(crate) enum SeatEni {
    New(NewEni),
    Existing(EniId),
}

impl World {
    /// An instance of the description, running since time began.
    pub(super) fn launch_described(&mut self, spec: InstanceSpec, dice: &mut Dice) -> Result<(), WorldError> {
        let Some(limits) = instance_limits(&spec.instance_type) else {
            unreachable!("the type of an instance has been checked: {}", spec.instance_type)
        };
        let seat = |new, device, card| Seat { eni: SeatEni::New(new), device, card, delete_on_termination: true };
        let primary = NewEni {
            subnet: spec.subnet.clone(),
            primary: spec.private_ip,
            slots: Want::default(),
            description: String::new(),
            interface_type: "interface".to_owned(),
            groups: self.groups_or_default(&spec.security_groups),
            tags: spec.eni_tags.clone(),
        };
        let extra = spec.extra_enis.iter().map(|extra| {
            let new = NewEni {
                subnet: extra.subnet.clone(),
                primary: None,
                slots: Want { addresses: extra.secondary_ips, prefixes: extra.prefixes, ..Want::default() },
                description: String::new(),
                interface_type: extra.interface_type.clone(),
                groups: self.groups_or_default(&extra.security_groups),
                tags: extra.tags.clone(),
            };
            seat(new, extra.device, extra.card)
        });
        let extra: Vec<_> = extra.collect();
        let seats = [seat(primary, DeviceIndex(0), limits.default_card)].into_iter().chain(extra).collect();
        let maps = self.subnets.get(&spec.subnet).is_some_and(|subnet| subnet.spec.map_public_ip);
        let kept = spec.public_ip.map(PublicAddress::Kept);
        let automatic = || if maps { self.pick_public().map(PublicAddress::Automatic) } else { None };
        let public = kept.or_else(automatic);
        let (subnet, what) = (spec.subnet.to_string(), format!("the ENIs of instance {}", spec.name));
        let (birth, tags) = (Birth::described(&spec), named(&spec.tags, &spec.name));
        let id = spec.id.clone();
        self.launch(spec, birth, tags, seats, public, dice).map_err(|_| WorldError::Full { subnet, what })?;
        if let Some(instance) = self.instances.get_mut(&id) {
            (instance.power, instance.on, instance.has_run) = (Power::Running, true, true);
            instance.checked = true;
        }
        self.change_ties(&id, |own| (own.tie, own.seen) = (Tie::Attached, true));
        Ok(())
    }

    /// A new instance, `pending`, with its ENIs attached but not seen yet. The first seat is the primary one. On an error
    /// the world may be half changed: the caller puts the old one back.
    pub(crate) fn launch(
        &mut self,
        spec: InstanceSpec,
        birth: Birth,
        tags: Tags,
        seats: Vec<Seat>,
        public: Option<PublicAddress>,
        dice: &mut Dice,
    ) -> Result<(), ApiError> {
        let limits = instance_limits(&spec.instance_type)
            .ok_or_else(|| ApiError::value(format!("Invalid value '{}' for InstanceType.", spec.instance_type)))?;
        let mut enis = Vec::new();
        for seat in seats {
            let id = match seat.eni {
                SeatEni::New(new) => self.create_eni(new, dice)?,
                SeatEni::Existing(id) => id,
            };
            let attachment = Attachment {
                id: checked(&dice.id(AttachmentId::PREFIX)),
                instance: spec.id.clone(),
                device: seat.device,
                card: seat.card,
                tie: Tie::Attaching,
                delete_on_termination: seat.delete_on_termination,
                since: birth.at,
                seen: false,
            };
            self.enis.tie(&id, attachment);
            enis.push(id);
        }
        let primary = enis.into_iter().next().ok_or_else(|| ApiError::missing("NetworkInterface"))?;
        let eni = self.enis.get_mut(&primary).ok_or_else(|| ApiError::no_eni(&primary))?;
        let (private_ip, subnet) = (eni.primary, eni.subnet.clone());
        eni.automatic_public = matches!(public, Some(PublicAddress::Automatic(_)));
        if let Some(PublicAddress::Kept(public) | PublicAddress::Automatic(public)) = public {
            eni.public.insert(private_ip, public);
            self.public.insert(public);
        }
        let private_dns_name = spec.private_dns_name.clone().unwrap_or_else(|| self.private_dns_name(private_ip));
        let instance = Instance {
            limits,
            power: Power::Pending,
            on: false,
            has_run: false,
            primary,
            private_ip,
            private_dns_name,
            zone: self.subnets.get(&subnet).map(|subnet| subnet.spec.zone.clone()).unwrap_or_default(),
            launched: birth.at,
            up: birth.at,
            checked: false,
            told_down: None,
            tags,
            birth,
            spec,
        };
        self.instances.insert(instance.spec.id.clone(), instance);
        Ok(())
    }
}
