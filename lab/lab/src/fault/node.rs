//! Faults of nodes: their network, daemon, power and kernel.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use vpc_model::EniId;

/// Something wrong with a node, or between it and others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NodeFault {
    /// No packet passes between a node (its pods included) and something the lab serves.
    Cut {
        /// Node.
        node: String,
        /// What it is cut from.
        #[serde(default)]
        from: Endpoint,
        /// What becomes of its packets.
        #[serde(default)]
        how: How,
    },
    /// The daemon, and all it has started, stands still (SIGSTOP).
    Stop {
        /// Node.
        node: String,
    },
    /// The daemon gets little of the processor: it stands still for a while, runs for a while, and so on.
    Starve {
        /// Node.
        node: String,
        /// Runs for so many milliseconds.
        run_ms: u64,
        /// Then stands still for so many.
        stop_ms: u64,
    },
    /// SIGKILL to the daemon and all it has started, once.
    Kill {
        /// Node.
        node: String,
        /// Started again after so many milliseconds; absent: as the topology's `restart` says.
        #[serde(default)]
        restart_ms: Option<u64>,
    },
    /// The node loses its power and gets it back at once.
    Reboot {
        /// Node.
        node: String,
    },
    /// The node has no power until this is lifted.
    PowerCut {
        /// Node.
        node: String,
    },
    /// Objects of a kind are taken from the node's kernel, once.
    KernelFlush {
        /// Node.
        node: String,
        /// Which.
        what: Flush,
    },
    /// One routing rule, or all of a preference, is deleted, once.
    RuleDelete {
        /// Node.
        node: String,
        /// Its preference.
        priority: u32,
        /// Only those for packets from here.
        #[serde(default)]
        from: Option<Ipv4Net>,
        /// Only those for packets to here.
        #[serde(default)]
        to: Option<Ipv4Net>,
    },
    /// A route is deleted, once.
    RouteDelete {
        /// Node.
        node: String,
        /// Destination.
        to: Ipv4Net,
        /// Table.
        #[serde(default = "main_table")]
        table: u32,
    },
    /// A route leads somewhere else from now on, once.
    RouteReplace {
        /// Node.
        node: String,
        /// Destination.
        to: Ipv4Net,
        /// Table.
        #[serde(default = "main_table")]
        table: u32,
        /// Link; absent: nowhere (a blackhole).
        #[serde(default)]
        link: Option<String>,
        /// Next hop on the link.
        #[serde(default)]
        via: Option<Ipv4Addr>,
    },
    /// A link is down until this is lifted. (The kernel forgets its routes; they do not come back by themselves.)
    LinkDown {
        /// Node.
        node: String,
        /// Link.
        link: String,
    },
    /// A switch of the kernel has another value until this is lifted.
    Sysctl {
        /// Node.
        node: String,
        /// Which, below `net` (`net.ipv4.ip_forward`).
        key: String,
        /// The value.
        value: String,
    },
    /// The Kubernetes API answers nobody.
    ApiAway,
    /// The Kubernetes API refuses something (`403 Forbidden`), as without the RBAC rule for it. Watches that are open go on.
    ApiDeny {
        /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or `*`.
        verb: String,
        /// As kubectl writes it (`pods`, `pods/status`, `cninodes.vpcresources.k8s.aws`), or `*`.
        resource: String,
        /// To whom (`system:serviceaccount:kube-system:aws-node`); absent: to everybody.
        #[serde(default)]
        user: Option<String>,
    },
}

/// Something the lab serves to nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// EC2's API.
    Ec2,
    /// The metadata service.
    Imds,
    /// The Kubernetes API.
    Kube,
    /// The resolver.
    Dns,
    /// All of them.
    #[default]
    All,
}

/// What becomes of packets that are not to pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Nobody hears of them again.
    #[default]
    Drop,
    /// The sender is told at once ("connection refused").
    Reject,
}

/// Kinds of kernel objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flush {
    /// IPv4 routes of all tables, but for those the kernel makes itself for its own addresses.
    Routes,
    /// IPv4 routing rules, but for the three of every kernel.
    Rules,
    /// nf_tables tables, those of `iptables-nft` not among them.
    Nft,
    /// The tables of iptables (filter, nat, mangle, raw, security), where they are kept in nf_tables.
    Iptables,
    /// IPv4 addresses of all links but `lo`.
    Addresses,
    /// IPv4 neighbours, pinned ones included.
    Neighbours,
    /// Links to pods: veth links that are not ENIs.
    PodLinks,
}

/// Something that somebody outside does to the cloud's objects, once. The object is given by id or address, or found by node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CloudEvent {
    /// An ENI is detached by force and deleted.
    EniRemoved {
        /// Which.
        #[serde(default)]
        eni: Option<EniId>,
        /// Or the one of this node,
        #[serde(default)]
        node: Option<String>,
        /// with this device number (default 1).
        #[serde(default)]
        device: Option<u32>,
    },
    /// A secondary address or prefix is taken from its ENI.
    AddressRemoved {
        /// Which address, or prefix.
        #[serde(default)]
        address: Option<String>,
        /// Or one of this node.
        #[serde(default)]
        node: Option<String>,
        /// Which of the node's: one that a pod has (`true`), or one that nobody has yet.
        #[serde(default)]
        in_use: bool,
    },
    /// Tags are taken from an ENI.
    TagsRemoved {
        /// Which.
        #[serde(default)]
        eni: Option<EniId>,
        /// Or the one of this node,
        #[serde(default)]
        node: Option<String>,
        /// with this device number (default 1).
        #[serde(default)]
        device: Option<u32>,
        /// Their keys; none: all tags.
        #[serde(default)]
        keys: Vec<String>,
    },
}

fn main_table() -> u32 {
    254
}
