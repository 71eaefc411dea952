//! The VPC around the nodes, as `status` shows it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::Place;

/// A subnet as it is now, made by the topology or by somebody later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetStatus {
    /// Its id.
    pub id: String,
    /// Its name; its id where nobody gave it one.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its network.
    pub cidr: Ipv4Net,
    /// Addresses that EC2 can still give out.
    pub free: u32,
    /// Addresses it could give out if nobody had any.
    pub usable: u32,
    /// Where its route table sends what is for nobody in the VPC.
    pub way_out: WayOut,
}

/// Where the default route of a subnet leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayOut {
    /// There is none: a subnet that stays among itself and the VPC.
    None,
    /// To the internet gateway: a public subnet.
    InternetGateway,
    /// To a NAT gateway, by name.
    NatGateway(String),
    /// To something else, by name or id.
    Other(String),
}

impl std::fmt::Display for WayOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("private"),
            Self::InternetGateway => f.write_str("igw"),
            Self::NatGateway(name) => write!(f, "nat {name}"),
            Self::Other(name) => write!(f, "via {name}"),
        }
    }
}

/// A network beside the VPC: a peered one, or the one on premises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourStatus {
    /// How commands reach it.
    pub place: Place,
    /// Its CIDRs.
    pub cidrs: Vec<Ipv4Net>,
    /// Its hosts.
    pub hosts: Vec<Ipv4Addr>,
}

/// One ENI of an interface endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// `vpce-…`.
    pub id: String,
    /// The service (`com.amazonaws.ap-northeast-2.sts`).
    pub service: String,
    /// Name of its subnet.
    pub subnet: String,
    /// Its address there.
    pub address: Ipv4Addr,
}

/// The Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeStatus {
    /// A fault has taken it away.
    pub away: bool,
    /// How many objects there are of each resource (`pods`), those of which there are none left out.
    pub objects: BTreeMap<String, usize>,
}
