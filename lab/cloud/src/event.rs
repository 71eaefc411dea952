//! What the model tells the fabric: the changes of the world that packets can see.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_model::{CardIndex, DeviceIndex, EniId, InstanceId, Mac, Prefix28, SecurityGroupId, SubnetId};

use crate::plan::NetworkPlan;

/// A change that packets can see. Events come in the order in which they happen; applying all of them from the first on
/// gives the whole world.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum FabricEvent {
    /// The instance has power. All its ENIs are there from the start. The first events of a world are of this kind.
    InstanceStarted {
        /// Which.
        instance: InstanceId,
        /// Its ENIs, the primary one first.
        enis: Vec<AttachedEni>,
    },
    /// The instance has no power any more; its ENIs remain its own and come back with `InstanceStarted`.
    InstanceStopped {
        /// Which.
        instance: InstanceId,
    },
    /// The instance is gone for ever, and so are its links. Comes after `InstanceStopped` if it had power.
    InstanceTerminated {
        /// Which.
        instance: InstanceId,
    },
    /// The guest sees a new device. Not sent to an instance without power.
    EniAttached {
        /// Whose.
        instance: InstanceId,
        /// The device.
        eni: AttachedEni,
    },
    /// The device is gone from the guest.
    EniDetached {
        /// Whose it was.
        instance: InstanceId,
        /// Which.
        eni: EniId,
        /// Its MAC.
        mac: Mac,
    },
    /// Addresses, security groups or source/destination check of an ENI that is attached (and was announced) are now these.
    EniChanged {
        /// Whose.
        instance: InstanceId,
        /// The ENI, whole, not only what is new.
        eni: AttachedEni,
    },
    /// The network around the ENIs is now this. The very first event of a world is of this kind. What a following event
    /// needs (the subnet of a new ENI, its groups) comes before it.
    Network(Box<NetworkPlan>),
    /// A new instance: comes before its first `InstanceStarted`. Instances of the description are not announced so.
    InstanceLaunched(Box<LaunchedInstance>),
    /// A private address is now known to the internet under another one, or no longer.
    PublicMappingChanged {
        /// The private address.
        private: Ipv4Addr,
        /// The public one; `None`: no longer mapped.
        public: Option<Ipv4Addr>,
    },
}

/// An instance that somebody launched through the API.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LaunchedInstance {
    /// Its id.
    pub id: InstanceId,
    /// Its `Name` tag, or its id.
    pub name: String,
    /// Its type.
    pub instance_type: String,
    /// Subnet of its primary ENI.
    pub subnet: SubnetId,
    /// How many hops an IMDS token answer may go.
    pub hop_limit: u8,
}

/// An ENI as a guest has it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AttachedEni {
    /// Its id.
    pub id: EniId,
    /// Its hardware address.
    pub mac: Mac,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Position on its card.
    pub device: DeviceIndex,
    /// Card.
    pub card: CardIndex,
    /// Its addresses.
    pub addresses: EniAddresses,
    /// Its security groups.
    pub groups: Vec<SecurityGroupId>,
    /// Whether the fabric drops packets that the ENI sends from, or receives for, addresses that are not its own.
    pub source_dest_check: bool,
    /// Kind (`interface`, `efa`, `trunk`).
    pub interface_type: String,
}

/// All IPv4 addresses of an ENI.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EniAddresses {
    /// The primary address.
    pub primary: Ipv4Addr,
    /// Secondary addresses.
    pub secondary: BTreeSet<Ipv4Addr>,
    /// Delegated /28 prefixes.
    pub prefixes: BTreeSet<Prefix28>,
    /// Public mappings: private to public.
    pub public: BTreeMap<Ipv4Addr, Ipv4Addr>,
}

impl EniAddresses {
    /// Whether an address is its own (the primary one, a secondary one, or one of a prefix).
    #[must_use]
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.primary == address
            || self.secondary.contains(&address)
            || self.prefixes.contains(&Prefix28::containing(address))
    }
}
