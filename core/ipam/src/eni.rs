//! ENIs and their secondary positions.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, Mac, RouteTable, Slot, Subnet, SubnetId, Time};

/// What does not change about an ENI while the node has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct EniFacts {
    /// Its id.
    pub id: EniId,
    /// Its hardware address: the only name EC2 and the kernel share.
    pub mac: Mac,
    /// Network card it sits on.
    pub card: CardIndex,
    /// Position on the card.
    pub device: DeviceIndex,
    /// Network of the subnet it lives in.
    pub subnet: Subnet,
    /// That subnet's id; `None` if only a checkpoint that does not say it knows the ENI.
    pub subnet_id: Option<SubnetId>,
    /// Its own address, never given to a pod.
    pub primary: Ipv4Addr,
}

impl EniFacts {
    /// Whether it is the instance's primary ENI, which can never be detached.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.card.0 == 0 && self.device.0 == 0
    }

    /// The route table its pods use.
    #[must_use]
    pub fn table(&self) -> RouteTable {
        RouteTable::of_eni(self.card, self.device)
    }
}

/// Whether pods may be put on an ENI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EniUse {
    /// Its link is not configured yet: addresses on it exist but carry no packets.
    SettingUp,
    /// Pods may use it.
    Ready,
    /// Only the checkpoint knows it (metadata did not list it): its pods stay as they are, it gets no new ones.
    Doubtful,
    /// It is being given back: no new pods.
    Leaving,
}

/// What an ENI is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EniRole {
    /// New pods go here.
    Pods,
    /// Pods it has stay; it gets no new ones, counts for nothing, and is given back when it is empty (the primary one stays).
    Retired(Retired),
}

/// Why an ENI gets no new pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retired {
    /// Custom networking is on and it is the primary one.
    PrimaryOfCustomNetworking,
    /// Custom networking is on, and it is in another subnet than the node's ENIConfig names.
    OutsideEniConfig,
    /// A tag on its subnet keeps pods out (`kubernetes.io/role/cni=0`, or other clusters' tags only).
    SubnetExcluded,
    /// Somebody keeps it for himself now (`no_manage`), or it turned out to be of a kind that carries no pods.
    NotOurs,
}

/// What is known of a secondary position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// EC2 put it there or confirmed it, or the checkpoint recorded it as held: its addresses may be given.
    Held,
    /// Only the metadata list it: nobody gets an address of it before EC2 has confirmed it.
    Unconfirmed,
    /// EC2 does not list it any more. Pods on it stay; nobody new gets an address of it.
    Missing,
    /// It is being given back: nobody new gets an address of it.
    Leaving,
}

/// An ENI of the pool.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PoolEni {
    /// What it is.
    pub facts: EniFacts,
    /// How EC2 names its tie to the instance, where known.
    pub attachment: Option<AttachmentId>,
    /// When it came into the pool.
    #[serde(skip)]
    pub since: Time,
    /// Whether pods may be put on it.
    pub usage: EniUse,
    /// What it is for.
    pub role: EniRole,
    /// It is never given back, however idle (an EFA, which can not be attached to a running instance again).
    pub keep: bool,
    /// Its secondary positions.
    pub slots: BTreeMap<Slot, SlotState>,
}

impl PoolEni {
    /// Whether new pods may be put on it now.
    #[must_use]
    pub fn takes_pods(&self) -> bool {
        self.usage == EniUse::Ready && self.role == EniRole::Pods
    }

    /// Whether new pods may be put on it now, or as soon as its link is set up: what it carries counts.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        matches!(self.usage, EniUse::Ready | EniUse::SettingUp) && self.role == EniRole::Pods
    }

    /// Its secondary positions, whatever is known of them.
    pub fn positions(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots.keys().copied()
    }
}
