//! Addresses, prefixes, ENIs, instance limits and names: the words everything else speaks.
//!
//! Nothing here decides and nothing here touches the outside. A value of one of these types has been checked at the door
//! ([`std::str::FromStr`] or a `TryFrom`), so the rest of the house need not check again.

mod address;
mod ids;
mod limits;
mod names;
mod sandbox;
mod table;
mod time;

pub use address::{GatewayOf, Mac, ParseMacError, Prefix28, PrefixError, Slot, Subnet, SubnetError};
pub use ids::{
    AllocationId, AttachmentId, CardIndex, DeviceIndex, EniId, IdError, InstanceId, SecurityGroupId, SubnetId, VpcId,
};
pub use limits::{Hypervisor, InstanceLimits, LimitsError, NetworkCard, all_instance_limits, instance_limits};
pub use names::{LinkName, LinkNameError, VethPrefix, dummy_name, host_veth, veth_suffix};
pub use sandbox::{PodRef, SandboxKey};
pub use table::RouteTable;
pub use time::{Millis, Time, WallTime};

/// Re-exported so that the whole project uses one kind of network type.
pub use ipnet::Ipv4Net;
