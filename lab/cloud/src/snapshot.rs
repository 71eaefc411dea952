//! The whole world at one moment, for people and tests to look at.

use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use vpc_model::{
    AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Mac, SecurityGroupId, Subnet, SubnetId, Time, VpcId,
};

use crate::cloud::Cloud;
use crate::spec::ReservationKind;
use crate::world::{Eni, Instance, SubnetState, Tie};
use crate::{EniAddresses, Tags};

/// The world at one moment.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Snapshot {
    /// Milliseconds since the world began.
    pub now_ms: u64,
    /// Region.
    pub region: String,
    /// The VPC.
    pub vpc: VpcId,
    /// Its CIDRs, the primary one first.
    pub cidrs: Vec<Ipv4Net>,
    /// The same by association id, also those on their way in or out.
    pub cidr_blocks: Vec<CidrSnapshot>,
    /// Instances by id, the terminated ones included.
    pub instances: Vec<InstanceSnapshot>,
    /// ENIs by id.
    pub enis: Vec<EniSnapshot>,
    /// Subnets by id.
    pub subnets: Vec<SubnetSnapshot>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InstanceSnapshot {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: String,
    /// Its type.
    pub instance_type: String,
    /// `pending`, `running`, `stopping`, `stopped`, `shutting-down` or `terminated`.
    pub state: String,
    /// Subnet of its primary ENI.
    pub subnet: SubnetId,
    /// Zone.
    pub zone: String,
    /// Primary address.
    pub private_ip: Ipv4Addr,
    /// Public address of the primary address.
    pub public_ip: Option<Ipv4Addr>,
    /// Private DNS name.
    pub private_dns_name: String,
    /// IMDS hop limit.
    pub hop_limit: u8,
    /// ENIs it may have (on the default card).
    pub max_enis: u32,
    /// IPv4 addresses or prefixes an ENI may have, the primary address included.
    pub ipv4_per_eni: u32,
    /// Its ENIs, by card and device.
    pub enis: Vec<EniId>,
}

/// An ENI.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EniSnapshot {
    /// Its id.
    pub id: EniId,
    /// Its MAC.
    pub mac: Mac,
    /// Its subnet.
    pub subnet: SubnetId,
    /// `pending`, `available`, `in-use` or `detaching`.
    pub status: String,
    /// Kind.
    pub interface_type: String,
    /// Description.
    pub description: String,
    /// Addresses.
    pub addresses: EniAddresses,
    /// Security groups.
    pub groups: Vec<SecurityGroupId>,
    /// Whether packets that are not from or for its addresses are dropped.
    pub source_dest_check: bool,
    /// The interface endpoint (`vpce-…`) or NAT gateway (`nat-…`) whose ENI it is.
    pub service: Option<String>,
    /// Attachment, if any.
    pub attachment: Option<AttachmentSnapshot>,
    /// Tags.
    pub tags: Tags,
}

/// The tie of an ENI to an instance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AttachmentSnapshot {
    /// Its id.
    pub id: AttachmentId,
    /// The instance.
    pub instance: InstanceId,
    /// Position on the card.
    pub device: DeviceIndex,
    /// Card.
    pub card: CardIndex,
    /// `attaching`, `attached` or `detaching`.
    pub status: String,
    /// Whether the ENI goes with the instance.
    pub delete_on_termination: bool,
}

/// An ENI that counts against its instance's limit: it is attached, or being attached or detached.
#[derive(Clone, Copy, Debug)]
pub struct TiedEni<'a> {
    /// Its id.
    pub id: &'a EniId,
    /// It is being detached.
    pub leaves: bool,
    /// Tags.
    pub tags: &'a Tags,
    /// Its subnet.
    pub subnet: &'a SubnetId,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubnetSnapshot {
    /// Its id.
    pub id: SubnetId,
    /// Its name.
    pub name: String,
    /// Its network.
    pub cidr: Subnet,
    /// Its zone.
    pub zone: String,
    /// Whether its default route leads to the internet gateway.
    pub public: bool,
    /// Id of the route table it uses.
    pub route_table: String,
    /// What is kept in it for a purpose.
    pub reservations: Vec<ReservationSnapshot>,
    /// Addresses that can still be given out, reserved parts left aside.
    pub free: u32,
    /// Addresses that could be given out if the subnet were empty (all but the five reserved ones).
    pub usable: u32,
}

/// A CIDR of the VPC.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CidrSnapshot {
    /// `vpc-cidr-assoc-…`.
    pub id: String,
    /// The network.
    pub cidr: Ipv4Net,
    /// `associating`, `associated` or `disassociating`.
    pub state: String,
}

/// A part of a subnet that is kept for a purpose.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReservationSnapshot {
    /// `scr-…`.
    pub id: String,
    /// The part.
    pub cidr: Ipv4Net,
    /// The purpose.
    pub kind: ReservationKind,
}

impl Cloud {
    /// The world as it is now.
    #[must_use]
    pub fn snapshot(&mut self, now: Time) -> Snapshot {
        self.catch_up(now);
        let world = &self.world;
        Snapshot {
            now_ms: self.now.0,
            region: world.spec.region.clone(),
            vpc: world.spec.vpc.id.clone(),
            cidrs: world.usable_cidrs(),
            cidr_blocks: world
                .cidrs
                .iter()
                .map(|block| CidrSnapshot {
                    id: block.id.clone(),
                    cidr: block.cidr,
                    state: block.state.as_str().to_owned(),
                })
                .collect(),
            instances: world.instances.values().map(|instance| self.instance_snapshot(instance)).collect(),
            enis: world.enis.values().map(eni_snapshot).collect(),
            subnets: world.subnets.values().map(|subnet| self.subnet_snapshot(subnet)).collect(),
        }
    }

    /// The ENIs that count against an instance's limit.
    pub fn tied(&self, instance: &InstanceId) -> impl Iterator<Item = TiedEni<'_>> {
        self.world.enis.values().filter_map(move |eni| {
            let attachment = eni.attachment.as_ref().filter(|tie| tie.instance == *instance)?;
            Some(TiedEni {
                id: &eni.id,
                leaves: attachment.tie == Tie::Detaching,
                tags: &eni.tags,
                subnet: &eni.subnet,
            })
        })
    }

    fn instance_snapshot(&self, instance: &Instance) -> InstanceSnapshot {
        InstanceSnapshot {
            id: instance.spec.id.clone(),
            name: instance.spec.name.clone(),
            instance_type: instance.spec.instance_type.clone(),
            state: instance.power.as_str().to_owned(),
            subnet: instance.spec.subnet.clone(),
            zone: instance.zone.clone(),
            private_ip: instance.private_ip,
            public_ip: self.public_ip(instance),
            private_dns_name: instance.private_dns_name.clone(),
            hop_limit: instance.spec.hop_limit,
            max_enis: instance.limits.max_enis,
            ipv4_per_eni: instance.limits.ipv4_per_eni,
            enis: self.world.enis_of(&instance.spec.id).iter().map(|eni| eni.id.clone()).collect(),
        }
    }

    fn subnet_snapshot(&self, subnet: &SubnetState) -> SubnetSnapshot {
        SubnetSnapshot {
            id: subnet.spec.id.clone(),
            name: subnet.spec.name.clone(),
            cidr: subnet.spec.cidr,
            zone: subnet.spec.zone.clone(),
            public: self.world.is_public(&subnet.spec.id),
            route_table: self.world.route_table_of(&subnet.spec.id).map(|table| table.id.clone()).unwrap_or_default(),
            reservations: subnet
                .reservations
                .iter()
                .map(|(id, own)| ReservationSnapshot { id: id.clone(), cidr: own.cidr, kind: own.kind })
                .collect(),
            free: subnet.pool.free(),
            usable: subnet.pool.usable(),
        }
    }
}

fn eni_snapshot(eni: &Eni) -> EniSnapshot {
    EniSnapshot {
        id: eni.id.clone(),
        mac: eni.mac,
        subnet: eni.subnet.clone(),
        status: eni.status().to_owned(),
        interface_type: eni.interface_type.clone(),
        description: eni.description.clone(),
        addresses: eni.addresses(),
        groups: eni.groups.clone(),
        source_dest_check: eni.source_dest_check,
        service: eni.service.as_ref().map(|service| service.id().to_owned()),
        attachment: eni.attachment.as_ref().map(|attachment| AttachmentSnapshot {
            id: attachment.id.clone(),
            instance: attachment.instance.clone(),
            device: attachment.device,
            card: attachment.card,
            status: attachment.tie.as_str().to_owned(),
            delete_on_termination: attachment.delete_on_termination,
        }),
        tags: eni.tags.clone(),
    }
}
