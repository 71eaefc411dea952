//! The topology file as people write it. Unknown keys are refused with the list of those that are accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::de::{self, Deserializer, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

use super::cloud::{Ec2File, ImdsFile, ReservationFile, RoleFile};
use super::groups::SecurityGroupFile;
use super::outside::{Addresses, EndpointFile, OnPremisesFile, PeeringFile, ServiceFile};
use super::{READY, TopologyError};

/// A topology file.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopologyFile {
    /// Region. Default `ap-northeast-2`.
    #[serde(default = "default_region")]
    pub region: String,
    /// Names of the availability zones. Default: the region's `a`, `b` and `c`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// How long EC2 and IMDS take: `instant` (default) or `aws`.
    #[serde(default)]
    pub profile: ProfileName,
    /// Latencies that differ from the profile's, in milliseconds: `attach = [500, 1200]`, or `[500, 1200, 9000]` where one in a hundred
    /// takes up to the third.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latency: BTreeMap<String, Vec<u64>>,
    /// How EC2's API behaves.
    #[serde(default)]
    pub ec2: Ec2File,
    /// How the metadata service behaves.
    #[serde(default)]
    pub imds: ImdsFile,
    /// IAM roles and what they may do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleFile>,
    /// Where addresses, MACs and latencies come from: same seed, same world. Default 1.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Hosts of the internet; each answers HTTP on port 80 with the source it saw. Default `["52.78.83.169"]`.
    #[serde(default = "default_hosts")]
    pub public_hosts: Vec<Ipv4Addr>,
    /// Where public addresses of instances and NAT gateways come from. Default `203.0.113.0/24`.
    #[serde(default = "default_pool")]
    pub public_pool: Cidr,
    /// The VPC.
    pub vpc: VpcFile,
    /// Subnets.
    pub subnets: Vec<SubnetFile>,
    /// Route tables beside the built-in ones: `public` (`0.0.0.0/0` to the internet gateway) and `private` (`0.0.0.0/0` to the
    /// NAT gateway of the subnet's zone, or else the first one; nothing if there is none).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route_tables: Vec<RouteTableFile>,
    /// NAT gateways.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nat_gateways: Vec<NatGatewayFile>,
    /// Security groups beside the VPC's default group, which lets its members reach each other and everything go out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<SecurityGroupFile>,
    /// Other VPCs that can be reached by peering.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peerings: Vec<PeeringFile>,
    /// A network behind a virtual private gateway. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_premises: Option<OnPremisesFile>,
    /// Services of the provider in the internet, beside the lab's own EC2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceFile>,
    /// Interface endpoints: services at addresses of the VPC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointFile>,
    /// Names of the world, as the VPC's resolver knows them: name to one address or several. Default: `host-1.example.com` and so
    /// on for the public hosts, and `example.com` for the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<BTreeMap<String, Addresses>>,
    /// Packets per second that an ENI may send to the link-local services (metadata, resolver at both its addresses, time) before
    /// further ones are dropped; 1024 on AWS. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_local_pps: Option<u32>,
    /// What holds for every node that does not say otherwise.
    #[serde(default)]
    pub node_defaults: NodeDefaults,
    /// Nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeFile>,
    /// Objects that the Kubernetes API has from the start, as in a manifest: `apiVersion`, `kind`, `metadata` and what else the kind
    /// has. In any text, `${subnet.NAME}` and `${group.NAME}` stand for the id of the subnet or security group of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<serde_json::Value>,
    /// Directory that relative host paths start from: that of the file, or the current one.
    #[serde(skip)]
    pub base: PathBuf,
}

/// `[vpc]`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpcFile {
    /// CIDRs, the primary one first: each /16 to /28, without overlaps.
    pub cidrs: Vec<Cidr>,
}

/// `[[subnets]]`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetFile {
    /// Name, unique.
    pub name: String,
    /// One of `zones`.
    pub zone: String,
    /// Network, /16 to /28, inside one of the VPC's CIDRs, overlapping no other subnet.
    pub cidr: Cidr,
    /// A public subnet: its route table is `public` unless `route_table` names another, and instances started in it get public
    /// addresses unless `map_public_ip` says no. Default false: a private one, whose route table is `private`.
    #[serde(default)]
    pub public: bool,
    /// Name of its route table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_table: Option<String>,
    /// Whether instances started in it get a public address. Default: the value of `public`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_public_ip: Option<bool>,
    /// Parts of it that are kept for a purpose: `{ cidr = "10.20.8.64/26", kind = "prefix" }` or `"explicit"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<ReservationFile>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// `[[route_tables]]`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTableFile {
    /// Name, unique; not `public` or `private`, which are built in.
    pub name: String,
    /// Routes beside those to the VPC's own CIDRs, which always come first.
    #[serde(default)]
    pub routes: Vec<RouteFile>,
}

/// A route: `{ to = "0.0.0.0/0", via = "internet-gateway" }`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteFile {
    /// Destination.
    pub to: Cidr,
    /// `internet-gateway`, `blackhole`, `on-premises`, or the name of a NAT gateway or a peering.
    pub via: String,
}

/// `[[nat_gateways]]`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatGatewayFile {
    /// Name, unique.
    pub name: String,
    /// Name of the (public) subnet it stands in.
    pub subnet: String,
    /// Its address there. Default: the fifth of the subnet (the first that EC2 does not keep for itself).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip: Option<Ipv4Addr>,
    /// The address the internet sees. Default: one of the upper half of `public_pool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<Ipv4Addr>,
}

/// `[node_defaults]`: what holds for every node that does not say otherwise. `env` and `files` add up.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDefaults {
    /// Instance type. Default `m5.large`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Names of the security groups of the primary ENI, at most 5. Default: `["default"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<Vec<String>>,
    /// IMDS hop limit, 1 to 64. Default 1, as EC2's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop_limit: Option<u8>,
    /// Bandwidth of each of its ENIs and in each direction, in Mbit/s, 1 to 34000. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbps: Option<u32>,
    /// Pods that the Kubernetes API puts on it at most. Default: as many as its ENIs have secondary addresses for, and two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pods: Option<u32>,
    /// IAM role of its instance. Default `node-role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Whether IMDS answers only with a token (IMDSv2). Default true; `false` lets version 1 work too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_required: Option<bool>,
    /// Whether IMDS shows the instance's tags. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_tags: Option<bool>,
    /// Tags of the instance, beside its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Environment of the init command and the daemon.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Run once before the daemon starts. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<CommandFile>,
    /// The node daemon. Default `{ command = ["/app/aws-k8s-agent"] }`; `{ command = [] }`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<CommandFile>,
    /// What becomes of a daemon that ended: `never` (default) leaves it so, `always` starts it again as kubelet does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Host path of the CNI plugin binary, placed in `/opt/cni/bin`. Default: `aws-cni` beside `vpc-lab`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PathBuf>,
    /// Files to place in the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileFile>,
}

/// `[[nodes]]`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// Name, unique: lower-case letters, digits and dashes; not `world`, `fabric` or `on-premises`, which the commands use.
    pub name: String,
    /// Name of the subnet of its primary ENI.
    pub subnet: String,
    /// Primary private address. Default: the cloud picks one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_ip: Option<Ipv4Addr>,
    /// Public address mapped to it. Default: one of the pool if the subnet maps public addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ip: Option<Ipv4Addr>,
    /// Instance type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Names of the security groups of the primary ENI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<Vec<String>>,
    /// IMDS hop limit, 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hop_limit: Option<u8>,
    /// Bandwidth of each of its ENIs and in each direction, in Mbit/s, 1 to 34000. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_mbps: Option<u32>,
    /// Pods that the Kubernetes API puts on it at most. Default: as many as its ENIs have secondary addresses for, and two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pods: Option<u32>,
    /// IAM role of its instance. Default `node-role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Whether IMDS answers only with a token (IMDSv2). Default true; `false` lets version 1 work too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_required: Option<bool>,
    /// Whether IMDS shows the instance's tags. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_tags: Option<bool>,
    /// Tags of the instance, beside its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Environment of the init command and the daemon.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Run once before the daemon starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<CommandFile>,
    /// The node daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<CommandFile>,
    /// What becomes of a daemon that ended: `never` or `always`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Host path of the CNI plugin binary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PathBuf>,
    /// Files to place in the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileFile>,
}

/// A command: `{ command = ["/app/aws-k8s-agent", "--flag"], cwd = "/app" }`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandFile {
    /// Program (an absolute path in the node) and arguments.
    pub command: Vec<String>,
    /// Working directory in the node. Default `/app`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
}

/// A file: `{ path = "/app/tool", source = "target/tool", mode = 0o755 }` or `{ path = "/etc/cni/x", content = "…" }`
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFile {
    /// Absolute path in the node.
    pub path: PathBuf,
    /// Host file to copy; relative paths start from the topology file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<PathBuf>,
    /// Text to write. Exactly one of `source` and `content` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Permission bits. Default: those of `source`, or `0o644`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "permission_bits")]
    pub mode: Option<u32>,
}

/// What becomes of a node's daemon that ended without being told to.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    /// Nothing: somebody starts it again, or nobody.
    #[default]
    Never,
    /// It is started again as kubelet does with a container: at once, then after 10 s, 20 s and so on up to 5 minutes; at once
    /// again when it has run for 10 minutes.
    Always,
}

/// How long EC2 and IMDS take.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileName {
    /// Everything happens at once.
    #[default]
    Instant,
    /// As observed on AWS.
    Aws,
}

impl ProfileName {
    /// The latencies it stands for.
    #[must_use]
    pub fn profile(self) -> lab_cloud::Profile {
        match self {
            Self::Instant => lab_cloud::Profile::instant(),
            Self::Aws => lab_cloud::Profile::aws(),
        }
    }
}

/// An IPv4 network without host bits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr(pub Ipv4Net);

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let net: Ipv4Net = text.parse().map_err(|_| {
            format!(
                "`{text}` is not an IPv4 network: expected an address, a slash and a length, such as `10.20.8.0/22`"
            )
        })?;
        if net.addr() == net.network() {
            Ok(Self(net))
        } else {
            Err(format!("`{text}` has host bits set: write `{}`", net.trunc()))
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.0.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TopologyFile {
    /// The built-in file (the first of [`READY`]).
    ///
    /// # Errors
    /// Never in practice: a test holds the built-in file to its own rules.
    pub fn built_in() -> Result<Self, TopologyError> {
        Self::parse(Self::built_in_text())
    }

    /// The text of the built-in file.
    #[must_use]
    pub fn built_in_text() -> &'static str {
        READY[0].text
    }

    /// Reads a file's text. Relative host paths in it start from the current directory.
    ///
    /// # Errors
    /// [`TopologyError::Syntax`] with the place and the accepted keys.
    pub fn parse(text: &str) -> Result<Self, TopologyError> {
        toml::from_str(text).map_err(|e| TopologyError::Syntax { text: e.to_string().trim_end().to_owned() })
    }

    /// Reads a file. Relative host paths in it start from its directory.
    ///
    /// # Errors
    /// [`TopologyError::Read`], [`TopologyError::Syntax`]; both name the file.
    pub fn read(path: &Path) -> Result<Self, TopologyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| TopologyError::Read { path: path.to_owned(), cause: e.to_string() })?;
        let mut file = Self::parse(&text).map_err(|e| match e {
            TopologyError::Syntax { text } => TopologyError::Syntax { text: format!("{}: {text}", path.display()) },
            other => other,
        })?;
        file.base = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(file)
    }
}

/// Says how permission bits are written when something else is there.
fn permission_bits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    struct Bits;
    impl Visitor<'_> for Bits {
        type Value = u32;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("permission bits for `mode`: an octal number such as 0o755, without quotes")
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<u32, E> {
            u32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u32, E> {
            u32::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
        }
    }
    deserializer.deserialize_u32(Bits).map(Some)
}

fn default_region() -> String {
    "ap-northeast-2".to_owned()
}

fn default_seed() -> u64 {
    1
}

fn default_hosts() -> Vec<Ipv4Addr> {
    vec![Ipv4Addr::new(52, 78, 83, 169)]
}

/// The network the RFC 5737 keeps for examples: never somebody's real address.
fn default_pool() -> Cidr {
    Cidr(Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24))
}
