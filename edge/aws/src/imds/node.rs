//! What a node needs to know of itself, most of it once.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::{InstanceId, Mac, SecurityGroupId, SubnetId, VpcId};

/// Where the region is.
pub(super) const REGION: &str = "placement/region";

/// The parts of the identity document that matter here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityDocument {
    /// The region.
    pub region: String,
    /// The account, twelve digits.
    pub account_id: Option<String>,
    /// The zone.
    pub availability_zone: Option<String>,
    /// The instance.
    pub instance_id: Option<String>,
    /// Its type.
    pub instance_type: Option<String>,
}

/// What a node reads of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMetadata {
    /// The region.
    pub region: String,
    /// The zone.
    pub availability_zone: String,
    /// The instance.
    pub instance_id: InstanceId,
    /// Its type (`m5.large`).
    pub instance_type: String,
    /// The primary address.
    pub local_ipv4: Ipv4Addr,
    /// The primary ENI.
    pub mac: Mac,
    /// The primary ENI's subnet.
    pub subnet_id: SubnetId,
    /// The VPC.
    pub vpc_id: VpcId,
    /// The primary ENI's security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// The VPC's IPv4 networks, the primary one first.
    pub vpc_ipv4_cidrs: Vec<Ipv4Net>,
}

/// The path of a value of an ENI.
pub(super) fn eni_path(mac: Mac, field: &str) -> String {
    format!("network/interfaces/macs/{mac}/{field}")
}
