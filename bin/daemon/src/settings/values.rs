//! The settings as values. Whoever holds one need not check it again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vpc_agent::{CloudUse, EniConfigKeys};
use vpc_aws::{Ec2Settings, ImdsSettings};
use vpc_hostnet::HostSettings;
use vpc_model::{Millis, VethPrefix};
use vpc_wire::cni::Version;

/// What the daemon runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How this node is known to Kubernetes.
    pub kubernetes: KubernetesSettings,
    /// What the pool aims at.
    pub pool: PoolSettings,
    /// What the host's network looks like.
    pub host: HostSettings,
    /// `net.ipv4.tcp_early_demux` is turned off.
    pub disable_tcp_early_demux: bool,
    /// What is written into the conflist.
    pub conflist: ConflistSettings,
    /// Where and how much the daemon logs.
    pub log: LogSettings,
    /// The checkpoint file.
    pub checkpoint: PathBuf,
    /// How AWS's services are reached.
    pub aws: AwsSettings,
    /// What our ENIs are marked with.
    pub tags: EniTags,
    /// What the network policy agent is told; empty = feature off.
    pub network_policy_mode: String,
    /// The file of settings that is watched.
    pub file: Option<PathBuf>,
}

impl Settings {
    /// These settings with what may change while the daemon runs as others have it. Which that is, is in
    /// [`super::sections::IN_PLACE`].
    #[must_use]
    pub fn with_changes_of(&self, new: &Self) -> Self {
        let host = HostSettings {
            external_snat: new.host.external_snat,
            exclude_snat: new.host.exclude_snat.clone(),
            external_services: new.host.external_services.clone(),
            node_port: new.host.node_port,
            ..self.host.clone()
        };
        let tags = EniTags { cluster: self.tags.cluster.clone(), more: new.tags.more.clone() };
        Self { pool: new.pool.clone(), host, tags, ..self.clone() }
    }
}

/// How this node is known to Kubernetes, and where the API server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// This node's name; empty if not told.
    pub node_name: String,
    /// The name of the daemon's own pod; empty if not told.
    pub pod_name: String,
    /// The API server, if it is not where the pod's environment says: `[http[s]://]host[:port]`.
    pub endpoint: Option<String>,
}

/// What the pool aims at, and how it treats addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Whole ENIs' worth of addresses kept ready.
    pub warm_enis: u32,
    /// Addresses kept ready; 0 = not asked for.
    pub warm_addresses: u32,
    /// Addresses held at least; 0 = not asked for.
    pub minimum_addresses: u32,
    /// Prefixes kept ready.
    pub warm_prefixes: u32,
    /// Prefixes are asked for in place of single addresses.
    pub prefixes: bool,
    /// ENIs the node may have, if fewer than its type allows.
    pub max_enis: Option<u32>,
    /// How long an address rests after its pod is gone.
    pub cooldown: Millis,
    /// How long an ADD waits for an address.
    pub add_wait: Millis,
    /// Least time between two rounds of giving surplus back.
    pub release_every: Millis,
    /// Least age of an ENI that is given back.
    pub min_eni_age: Millis,
    /// How often host and metadata are looked at without a reason.
    pub audit_every: Millis,
    /// `VPC_CNI_ORPHAN_AGE`.
    pub orphan_age: Millis,
    /// `VPC_CNI_STRAYS_AFTER`.
    pub strays_after: Millis,
    /// Pods bound to this node count before their ADD comes.
    pub look_ahead: bool,
    /// The pool is kept up on a cordoned node too.
    pub manage_non_schedulable: bool,
    /// ENIs without a tag of this instance are ours too.
    pub manage_untagged: bool,
    /// Custom networking, and what names the node's ENIConfig.
    pub custom: Option<EniConfigKeys>,
    /// Subnets are chosen by tag.
    pub discovery: bool,
    /// ENIs that lost their instance are looked for.
    pub leaked_cleanup: bool,
    /// How far EC2 may be used.
    pub cloud: CloudUse,
}

/// What the conflist says and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConflistSettings {
    /// Directory of the runtime's plugins.
    pub bin_dir: PathBuf,
    /// Directory the file goes to.
    pub conf_dir: PathBuf,
    /// Its `cniVersion`.
    pub version: Version,
    /// Beginning of the names of pods' host links.
    pub veth_prefix: VethPrefix,
    /// MTU of pods' links in bytes.
    pub mtu: u32,
    /// `strict` or `standard`.
    pub enforcing_mode: String,
    /// Where the plugin logs.
    pub plugin_log_file: String,
    /// How much the plugins log.
    pub plugin_log_level: String,
    /// Where `egress-cni` logs.
    pub egress_log_file: String,
    /// How source ports are chosen, as text.
    pub randomize_snat: String,
    /// IPv6 egress is asked for.
    pub v6_egress: bool,
    /// Chain `bandwidth`.
    pub bandwidth: bool,
    /// Chain `tuning`, with IPv6 off.
    pub disable_pod_v6: bool,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The ordinary course of things.
    Info,
    /// What is not as it should be.
    Warn,
    /// What someone should look at.
    Error,
    /// The daemon's last words only.
    Fatal,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file.
    File(PathBuf),
}

/// The daemon's own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How much.
    pub level: LogLevel,
    /// Where.
    pub to: LogTo,
}

/// How AWS's services are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSettings {
    /// EC2.
    pub ec2: Ec2Settings,
    /// The instance's metadata.
    pub imds: ImdsSettings,
    /// Part of the user agent.
    pub version: String,
}

/// What our ENIs are marked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniTags {
    /// The cluster's name, if told.
    pub cluster: Option<String>,
    /// Further tags.
    pub more: BTreeMap<String, String>,
}
