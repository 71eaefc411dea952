//! What may be asked of a running lab: the one door for the command line, the demo and tests.
//!
//! A client connects to the lab's socket, writes one [`Request`] as a line of JSON (with descriptors where the request has some),
//! and reads one line: the answer's value, or a [`Failure`]. Nothing else happens on a connection; closing it early gives up.

mod network;

use std::collections::BTreeMap;
use std::time::SystemTime;

use lab_kube::KubeCallFilter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fabric::{FabricStatus, Visit};
use crate::fault::{Fault, FaultReport};
use crate::kubelet::{PodError, PodName, PodStatus};
use crate::topology::ON_PREMISES;
pub use network::{EndpointStatus, KubeStatus, NeighbourStatus, SubnetStatus, WayOut};

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Everything to be seen: [`LabStatus`].
    Status,
    /// Ends the lab. The answer (`null`) is the last thing it says.
    Down,
    /// Makes a pod's network: [`PodStatus`].
    PodAdd {
        /// Node.
        node: String,
        /// Pod.
        pod: PodName,
        /// Annotations.
        annotations: BTreeMap<String, String>,
        /// Sandboxes to try, at least one.
        attempts: u32,
    },
    /// Takes a pod's network down: `null`.
    PodDel {
        /// Node.
        node: String,
        /// Pod.
        pod: PodName,
    },
    /// Makes or deletes pods until the node has so many of those that scaling made: [`ScaleReport`]. Closing the connection ends
    /// that: what has begun is finished, and nothing more begins.
    PodScale {
        /// Node.
        node: String,
        /// How many.
        count: u32,
        /// Sandboxes to try for each.
        attempts: u32,
    },
    /// Runs a program with the three descriptors that come along as its standard streams: [`ExitReport`]. Closing the connection
    /// kills it.
    Exec {
        /// Where.
        place: Place,
        /// Program and arguments.
        command: Vec<String>,
        /// Environment beside the place's own.
        env: BTreeMap<String, String>,
    },
    /// Opens a socket that sees all packets of a link: `null`, and the descriptor comes along.
    Capture {
        /// Where.
        place: Place,
        /// Link.
        link: String,
    },
    /// All calls of EC2 and IMDS so far: list of [`lab_serve`]'s records.
    Calls,
    /// Calls of the Kubernetes API: list of [`lab_kube::KubeCall`].
    KubeCalls {
        /// Which.
        filter: KubeCallFilter,
    },
    /// What has been written on a node, from a byte on: [`LogPiece`].
    Log {
        /// Node.
        node: String,
        /// By whom.
        source: LogSource,
        /// Bytes that are known already.
        from: u64,
    },
    /// Turns a node on or off: `null`.
    Power {
        /// Node.
        node: String,
        /// On.
        on: bool,
    },
    /// Launches a node through EC2's API (RunInstances) and waits until it is ready: its name.
    NodeAdd {
        /// Its name; `None`: that of its instance.
        name: Option<String>,
        /// Name or id of its subnet.
        subnet: String,
        /// Instance type; `None`: that of the topology's `node_defaults`.
        instance_type: Option<String>,
    },
    /// Terminates a node's instance (TerminateInstances) and waits until nothing of the node is left: `null`.
    NodeRemove {
        /// Node.
        node: String,
    },
    /// Does something to a node's daemon: `null`.
    Daemon {
        /// Node.
        node: String,
        /// What.
        action: DaemonAction,
    },
    /// Begins a fault: [`FaultReport`].
    FaultAdd {
        /// What goes wrong.
        fault: Fault,
        /// It is lifted after so many milliseconds; `None`: when somebody asks for it.
        for_ms: Option<u64>,
    },
    /// Whether there is the node or subnet that a fault is about: `null`.
    FaultCheck {
        /// The fault.
        fault: Fault,
    },
    /// Ends a fault: list of [`FaultReport`].
    FaultLift {
        /// Which; `None`: all that hold.
        id: Option<u64>,
    },
    /// All faults since the lab started: list of [`FaultReport`].
    Faults,
    /// The kernel's state of a node's (or pod's) network: [`vpc_hostnet::HostState`].
    Kernel {
        /// Where.
        place: Place,
    },
    /// Visits of the public hosts: list of [`Visit`].
    Visits,
}

/// Somewhere in the lab that has a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A node.
    Node(String),
    /// A pod on a node.
    Pod(String, PodName),
    /// The internet.
    World,
    /// The router of the VPC, where the ENIs' ports are.
    Fabric,
    /// A gateway: `igw`, `vgw`, or the name of a NAT gateway.
    Gateway(String),
    /// A peered VPC, by the peering's name.
    Peer(String),
    /// The network behind the virtual private gateway.
    OnPremises,
    /// An interface endpoint: the service's name (its first endpoint), or the endpoint's id.
    Endpoint(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(node) => f.write_str(node),
            Self::Pod(node, pod) => write!(f, "{node}/{pod}"),
            Self::World => f.write_str("world"),
            Self::Fabric => f.write_str("fabric"),
            Self::Gateway(name) => write!(f, "fabric/{name}"),
            Self::Peer(name) => write!(f, "peer:{name}"),
            Self::OnPremises => f.write_str(ON_PREMISES),
            Self::Endpoint(name) => write!(f, "endpoint:{name}"),
        }
    }
}

impl std::str::FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("peer", name)) if !name.is_empty() => return Ok(Self::Peer(name.to_owned())),
            Some(("endpoint", name)) if !name.is_empty() => return Ok(Self::Endpoint(name.to_owned())),
            Some(_) => return Err(not_a_place(text)),
            None if text == ON_PREMISES => return Ok(Self::OnPremises),
            None => {}
        }
        match text.split_once('/') {
            None if text == "world" => Ok(Self::World),
            None if text == "fabric" => Ok(Self::Fabric),
            None if !text.is_empty() => Ok(Self::Node(text.to_owned())),
            Some(("fabric", gateway)) if !gateway.is_empty() => Ok(Self::Gateway(gateway.to_owned())),
            Some((node, pod)) if !node.is_empty() => Ok(Self::Pod(node.to_owned(), pod.parse()?)),
            _ => Err(not_a_place(text)),
        }
    }
}

fn not_a_place(text: &str) -> String {
    format!(
        "`{text}` is not a place: expected NODE, NODE/NAMESPACE/NAME, `world`, `fabric`, `fabric/GATEWAY`, `peer:NAME`, `on-premises` or `endpoint:SERVICE`"
    )
}

/// What is done to a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DaemonAction {
    /// SIGKILL, at once.
    Kill,
    /// SIGTERM, and wait for its end.
    Stop,
    /// Start it, and wait until the node's network is configured.
    Start,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
}

/// Who writes a log of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogSource {
    /// The daemon, to stdout and stderr.
    Output,
    /// The daemon, to the file where the CNI keeps its log unless it is told otherwise.
    Daemon,
    /// The plugin, to its file there.
    Plugin,
}

/// A piece of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    /// The text.
    pub text: String,
    /// Where the next piece begins, in bytes.
    pub next: u64,
}

/// What scaling did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScaleReport {
    /// Pods made.
    pub added: Vec<PodStatus>,
    /// Pods deleted.
    pub deleted: Vec<PodName>,
    /// Pods that could not be made or deleted, and why.
    pub failed: Vec<(PodName, String)>,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// A daemon as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Process id in the lab, while it runs.
    pub pid: Option<u32>,
    /// How it ended, when it did.
    pub ended: Option<String>,
    /// How often it was started.
    pub starts: u32,
    /// A network configuration is there, so the node is ready for pods.
    pub ready: bool,
    /// Milliseconds from its last start until the configuration was there.
    pub ready_after_ms: Option<u64>,
}

/// An ENI of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniStatus {
    /// Its id.
    pub id: String,
    /// Device index.
    pub device: u8,
    /// Its link in the node, while it is there.
    pub link: Option<String>,
    /// Its MAC.
    pub mac: String,
    /// Its subnet's name.
    pub subnet: String,
    /// Primary address.
    pub primary: std::net::Ipv4Addr,
    /// Public address of the primary one.
    pub public: Option<std::net::Ipv4Addr>,
    /// Secondary addresses.
    pub secondary: Vec<std::net::Ipv4Addr>,
    /// Delegated prefixes.
    pub prefixes: Vec<String>,
    /// Secondary slots in use (addresses and prefixes).
    pub slots_used: u32,
    /// Secondary slots it has.
    pub slots: u32,
    /// `attaching`, `attached` or `detaching`.
    pub status: String,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its instance.
    pub instance: String,
    /// Its type.
    pub instance_type: String,
    /// Its zone.
    pub zone: String,
    /// Name of the subnet of its primary ENI.
    pub subnet: String,
    /// It has power.
    pub on: bool,
    /// What went wrong at its last boot.
    pub problem: Option<String>,
    /// Its daemon, if the topology gives it one.
    pub daemon: Option<DaemonStatus>,
    /// ENIs it may have.
    pub max_enis: u32,
    /// Its ENIs by device.
    pub enis: Vec<EniStatus>,
    /// Its pods.
    pub pods: Vec<PodStatus>,
}

/// Where programs of the host (outside of the lab) reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEndpoints {
    /// EC2's API, as `http://` on the host's loopback.
    pub ec2: Option<std::net::SocketAddr>,
    /// The Kubernetes API, as `https://` on the host's loopback, where the lab serves one.
    pub kube: Option<std::net::SocketAddr>,
    /// Why something is missing.
    pub problem: Option<String>,
}

/// The whole lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabStatus {
    /// Its name.
    pub lab: String,
    /// Region.
    pub region: String,
    /// Where programs of the host reach it.
    pub host: HostEndpoints,
    /// Faults since it was started, oldest first.
    pub faults: Vec<FaultReport>,
    /// When it was started.
    pub since: SystemTime,
    /// The VPC's CIDRs.
    pub cidrs: Vec<ipnet::Ipv4Net>,
    /// Public hosts.
    pub public_hosts: Vec<std::net::Ipv4Addr>,
    /// NAT gateways: name, private and public address.
    pub nat_gateways: Vec<(String, std::net::Ipv4Addr, std::net::Ipv4Addr)>,
    /// Subnets, in the order of their networks.
    pub subnets: Vec<SubnetStatus>,
    /// Peered VPCs, and the network on premises.
    pub neighbours: Vec<NeighbourStatus>,
    /// Services of the provider: name and public address.
    pub services: Vec<(String, std::net::Ipv4Addr)>,
    /// Interface endpoints.
    pub endpoints: Vec<EndpointStatus>,
    /// The Kubernetes API.
    pub kube: KubeStatus,
    /// Nodes.
    pub nodes: Vec<NodeStatus>,
    /// The fabric.
    pub fabric: FabricStatus,
    /// Packets to the link-local services dropped for being too many, where the topology limits them.
    pub link_local_dropped: Option<u64>,
    /// The last visits of the public hosts, oldest first.
    pub visits: Visits,
    /// Process id of the supervisor, as the host sees it.
    pub supervisor: Option<i32>,
}

/// Why something could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// There is no such node.
    #[error("there is no node `{name}`; there are: {known}")]
    NoNode {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// There is no such pod, or it does not run.
    #[error("there is no running pod {pod} on {node}; `vpc-lab status` shows those there are")]
    NoPod {
        /// Node.
        node: String,
        /// Pod.
        pod: PodName,
    },
    /// The node has no power.
    #[error("{node} has no power: `vpc-lab node on {node}` turns it on")]
    Off {
        /// Node.
        node: String,
    },
    /// More pods than the node can ever have addresses for.
    #[error(
        "{count} pods on {node}: its type {instance_type} can never hold more than {most} (16 addresses in each secondary position of each ENI)"
    )]
    TooMany {
        /// Node.
        node: String,
        /// Its type.
        instance_type: String,
        /// How many were asked for.
        count: u32,
        /// How many are possible.
        most: u32,
    },
    /// A pod could not be made or deleted.
    #[error("{0}")]
    Pod(PodError),
    /// A program could not be started.
    #[error("{program}: {cause} (in {place})")]
    Exec {
        /// The program.
        program: String,
        /// Where.
        place: String,
        /// Why.
        cause: String,
        /// There is no such program.
        missing: bool,
    },
    /// Anything else; the text says what and what to do.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// Something that has no kind of its own.
    pub fn other(text: impl std::fmt::Display) -> Self {
        Self::Other(text.to_string())
    }
}

impl From<PodError> for Failure {
    fn from(error: PodError) -> Self {
        Self::Pod(error)
    }
}

/// An answer on the wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done; the value depends on the request.
    Ok(serde_json::Value),
    /// It was not.
    Err(Failure),
}

impl Answer {
    /// An answer with a value.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => Self::Ok(value),
            Err(e) => Self::Err(Failure::other(format!("an answer that can not be written: {e}"))),
        }
    }

    /// Reads the value.
    ///
    /// # Errors
    /// The failure, or that the value is not of the kind expected (another version of the program).
    pub fn into_value<T: DeserializeOwned>(self) -> Result<T, Failure> {
        match self {
            Self::Ok(value) => serde_json::from_value(value)
                .map_err(|e| Failure::other(format!("the lab answered in a way this program does not understand ({e}): was it started by another version?"))),
            Self::Err(failure) => Err(failure),
        }
    }
}

/// Visits, as a list on the wire.
pub type Visits = Vec<Visit>;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_commands_take_them() {
        for text in [
            "node-a",
            "node-a/default/web-0",
            "world",
            "fabric",
            "fabric/igw",
            "peer:data",
            "on-premises",
            "endpoint:sts",
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for bad in ["", "/", "node-a/", "node-a/web-0", "node-a/a/b/c", "peer:", "place:x"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
