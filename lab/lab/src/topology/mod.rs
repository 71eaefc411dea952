//! What a lab is made of: the topology file, checked and completed.
//!
//! ```text
//!   TOML --serde--> TopologyFile (what may be written: file.rs) --resolve: check.rs--> Topology (what is built)
//!                                                                                          |
//!                                                              world.rs: lab_cloud::WorldSpec (what EC2 knows)
//! ```
//!
//! A [`Topology`] has every default filled in and every reference checked, so nothing behind it checks again.

mod check;
mod cloud;
#[cfg(test)]
mod document;
mod file;
mod groups;
mod objects;
mod outside;
mod ready;
mod world;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use vpc_model::Subnet;

pub use check::TopologyError;
pub(crate) use check::checked_node_name;
pub use cloud::{CloudSettings, Ec2File, ImdsFile, ReservationFile, RoleFile, Switch};
pub use file::{
    Cidr, CommandFile, FileFile, NatGatewayFile, NodeDefaults, NodeFile, ProfileName, Restart, RouteFile,
    RouteTableFile, SubnetFile, TopologyFile, VpcFile,
};
pub use groups::{DEFAULT_GROUP, EgressFile, IngressFile, SecurityGroup, SecurityGroupFile};
pub use ready::{READY, Ready};

pub use outside::{
    Addresses, Endpoint, EndpointFile, ON_PREMISES, OnPremises, OnPremisesFile, Peering, PeeringFile, Service,
    ServiceFile,
};

/// Environment of the node's processes where the lab's EC2 answers: the standard variable of every AWS SDK.
pub const EC2_ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_EC2";

/// A whole VPC, ready to be built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Region (`ap-northeast-2`).
    pub region: String,
    /// Names of the availability zones.
    pub zones: Vec<String>,
    /// How long EC2 and IMDS take.
    pub profile: ProfileName,
    /// Where the cloud's randomness (addresses, MACs, latencies) comes from.
    pub seed: u64,
    /// Hosts of the internet. Each answers HTTP on port 80 and ICMP echo.
    pub public_hosts: Vec<Ipv4Addr>,
    /// Where public addresses of instances and NAT gateways come from.
    pub public_pool: Ipv4Net,
    /// CIDRs of the VPC, the primary one first.
    pub cidrs: Vec<Ipv4Net>,
    /// Subnets.
    pub subnets: Vec<SubnetSpec>,
    /// Route tables in use, the built-in ones included.
    pub route_tables: Vec<RouteTable>,
    /// NAT gateways.
    pub nat_gateways: Vec<NatGateway>,
    /// Other VPCs that can be reached by peering.
    pub peerings: Vec<Peering>,
    /// A network behind a virtual private gateway.
    pub on_premises: Option<OnPremises>,
    /// Services of the provider in the internet, beside the lab's own EC2.
    pub services: Vec<Service>,
    /// Interface endpoints: one for each ENI.
    pub endpoints: Vec<Endpoint>,
    /// Names of the world, in small letters.
    pub names: BTreeMap<String, Vec<Ipv4Addr>>,
    /// Packets per second that an ENI may send to the link-local services; `None`: no limit.
    pub link_local_pps: Option<u32>,
    /// Security groups, the default one first.
    pub security_groups: Vec<SecurityGroup>,
    /// Nodes.
    pub nodes: Vec<NodeSpec>,
    /// What a node is like that somebody launches while the lab runs: `node_defaults`, without a name and a subnet.
    pub template: NodeSpec,
    /// How EC2, IAM and IMDS behave.
    pub cloud: CloudSettings,
    /// Objects that the Kubernetes API has from the start.
    pub objects: Vec<serde_json::Value>,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    /// Name, unique.
    pub name: String,
    /// Name of its zone.
    pub zone: String,
    /// Its network.
    pub cidr: Subnet,
    /// Name of its route table.
    pub route_table: String,
    /// Whether instances started in it get a public address.
    pub map_public_ip: bool,
    /// Parts of it that are kept for a purpose.
    pub reservations: Vec<ReservationFile>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A route table. The VPC's own CIDRs come before any of its routes, as on AWS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Name, unique.
    pub name: String,
    /// Destination and target.
    pub routes: Vec<(Ipv4Net, Target)>,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The internet gateway: only for addresses with a public mapping.
    InternetGateway,
    /// The NAT gateway of that name.
    NatGateway(String),
    /// The peering of that name.
    Peering(String),
    /// The virtual private gateway: the on-premises network.
    VirtualGateway,
    /// Nowhere.
    Blackhole,
}

/// A NAT gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatGateway {
    /// Name, unique.
    pub name: String,
    /// Name of the subnet it stands in.
    pub subnet: String,
    /// Its address there.
    pub private_ip: Ipv4Addr,
    /// The address the internet sees.
    pub public_ip: Ipv4Addr,
}

/// A node: an instance, what runs on it, and what lies on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name, unique; also its host name.
    pub name: String,
    /// Instance type.
    pub instance_type: String,
    /// Name of the subnet of its primary ENI.
    pub subnet: String,
    /// Primary private address; `None`: the cloud picks one.
    pub private_ip: Option<Ipv4Addr>,
    /// Public address mapped to it; `None`: one of the pool if the subnet maps public addresses.
    pub public_ip: Option<Ipv4Addr>,
    /// Names of its primary ENI's security groups; empty: the default group.
    pub security_groups: Vec<String>,
    /// How many hops an IMDS token answer may go. At 1 only the node itself gets one.
    pub hop_limit: u8,
    /// IAM role of its instance.
    pub role: String,
    /// Whether IMDS answers only with a token.
    pub tokens_required: bool,
    /// Whether IMDS shows the instance's tags.
    pub metadata_tags: bool,
    /// Tags of the instance, beside its name.
    pub tags: BTreeMap<String, String>,
    /// Bandwidth of each of its ENIs and in each direction, in Mbit/s; `None`: no limit.
    pub bandwidth_mbps: Option<u32>,
    /// Pods that the Kubernetes API puts on it at most.
    pub max_pods: u32,
    /// Environment of the init command and the daemon, beside `PATH`, `HOME`, `HOSTNAME`, `AWS_ENDPOINT_URL_EC2` and
    /// the variables of in-cluster configuration.
    pub env: BTreeMap<String, String>,
    /// Run once before the daemon starts, as the init container is.
    pub init: Option<Command>,
    /// The node daemon; `None`: the node has none.
    pub daemon: Option<Command>,
    /// What becomes of a daemon that ended by itself.
    pub restart: Restart,
    /// Host path of the CNI plugin, placed in `/opt/cni/bin`; `None`: `aws-cni` beside `vpc-lab`, where there is one.
    pub plugin: Option<PathBuf>,
    /// Files to place before anything runs.
    pub files: Vec<PlacedFile>,
}

/// A command of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program (a path in the node) and arguments; never empty.
    pub command: Vec<String>,
    /// Working directory in the node.
    pub cwd: PathBuf,
}

/// A file of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedFile {
    /// Absolute path in the node.
    pub path: PathBuf,
    /// What is in it.
    pub content: Content,
    /// Permission bits.
    pub mode: u32,
}

/// What is in a placed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// This text.
    Text(String),
    /// What the host's file holds.
    HostFile(PathBuf),
}

impl Topology {
    /// The built-in world: three nodes in three zones.
    ///
    /// # Errors
    /// Never in practice: a test holds the built-in file to its own rules.
    pub fn built_in() -> Result<Self, TopologyError> {
        TopologyFile::built_in()?.resolve()
    }

    /// The subnet of that name.
    #[must_use]
    pub fn subnet(&self, name: &str) -> Option<&SubnetSpec> {
        self.subnets.iter().find(|subnet| subnet.name == name)
    }

    /// The node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == name)
    }
}
