//! All ENIs of the instance at once.
//!
//! One ENI that cannot be read (just attached, just gone, half there) is handed out beside the others and hides none of
//! them.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use vpc_model::{CardIndex, DeviceIndex, EniId, Mac, Prefix28, Subnet, SubnetId};

use super::error::ImdsError;

/// The instance's ENIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The primary ENI.
    pub primary: Mac,
    /// ENIs that could be read, by card and device index.
    pub enis: Vec<EniMetadata>,
    /// ENIs that could not, by MAC.
    pub sick: Vec<SickEni>,
}

/// An ENI that IMDS lists but could not describe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SickEni {
    /// The ENI.
    pub mac: Mac,
    /// Its id, if at least that could be read.
    pub eni_id: Option<EniId>,
    /// The first value that could not be read.
    pub error: ImdsError,
}

/// An ENI as IMDS describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniMetadata {
    /// Its MAC.
    pub mac: Mac,
    /// Whether it is the primary ENI.
    pub primary: bool,
    /// Its id.
    pub eni_id: EniId,
    /// Its subnet.
    pub subnet_id: SubnetId,
    /// Position on its network card.
    pub device_index: DeviceIndex,
    /// Its network card; 0 if IMDS does not say.
    pub card: CardIndex,
    /// Its addresses, the primary one first. Empty on an IPv6-only or EFA-only ENI.
    pub ipv4: Vec<Ipv4Addr>,
    /// Its delegated /28s.
    pub ipv4_prefixes: Vec<Prefix28>,
    /// Its IPv6 addresses.
    pub ipv6: Vec<Ipv6Addr>,
    /// Its delegated IPv6 /80s.
    pub ipv6_prefixes: Vec<Ipv6Net>,
    /// Its subnet's IPv4 network.
    pub subnet: Option<Subnet>,
    /// Its subnet's IPv6 network.
    pub subnet_ipv6: Option<Ipv6Net>,
}
