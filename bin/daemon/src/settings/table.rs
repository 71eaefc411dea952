//! Every variable the daemon knows, with what the documentation says about it. The reader in [`super`] takes its defaults,
//! parsers and wording from here, so the table can not say one thing and the program do another. How they are grouped, and which
//! of them change while the daemon runs, is in [`super::sections`].

/// How a text becomes a value. The letters are those of `docs/configuration.md`; they differ in what the empty text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    /// Boolean; the empty text is a bad value.
    B1,
    /// Boolean; the empty text counts as not set.
    B2,
    /// Integer; the empty text is a bad value.
    I1,
    /// Integer; the empty text counts as not set.
    I2,
    /// Integer with a base told by its prefix; the empty text counts as not set.
    IAny,
    /// Text; the empty text is a value.
    S1,
    /// Text; the empty text counts as not set.
    S2,
    /// List of IPv4 networks; a bad item is left out.
    L1,
}

impl Parser {
    /// Whether the empty text counts as not set.
    #[must_use]
    pub fn empty_is_unset(self) -> bool {
        matches!(self, Self::B2 | Self::I2 | Self::IAny | Self::S2)
    }
}

/// What a value outside the accepted set does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBad {
    /// The daemon refuses to start.
    Exit,
    /// The default holds, and an error line says so.
    Default,
    /// There is no bad value, or it is taken as it is, with an error line.
    Taken,
}

/// One environment variable.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// How it is read.
    pub parser: Parser,
    /// What a bad value does.
    pub on_bad: OnBad,
    /// The value that holds when it is not set, as text.
    pub default: &'static str,
    /// The accepted values, as the end of "expected …".
    pub accepted: &'static str,
    /// What it does.
    pub about: &'static str,
}

const BOOL: &str = "one of `1 t T TRUE true True 0 f F FALSE false False`";

const fn var(
    name: &'static str,
    parser: Parser,
    on_bad: OnBad,
    default: &'static str,
    accepted: &'static str,
    about: &'static str,
) -> Variable {
    Variable { name, parser, on_bad, default, accepted, about }
}

/// A boolean that is off by default.
const fn off(name: &'static str, parser: Parser, about: &'static str) -> Variable {
    var(name, parser, OnBad::Default, "false", BOOL, about)
}

/// A boolean that is on by default.
const fn on(name: &'static str, parser: Parser, about: &'static str) -> Variable {
    var(name, parser, OnBad::Default, "true", BOOL, about)
}

/// A text that is taken as it is.
const fn text(
    name: &'static str,
    parser: Parser,
    default: &'static str,
    accepted: &'static str,
    about: &'static str,
) -> Variable {
    var(name, parser, OnBad::Taken, default, accepted, about)
}

use OnBad::{Default as Falls, Exit};
use Parser::{B1, B2, I1, I2, IAny, L1, S1, S2};

/// `ENABLE_IPv4`.
pub const ENABLE_IPV4: Variable = off(
    "ENABLE_IPv4",
    B1,
    "IPv4 node. Exactly one of this and `ENABLE_IPv6` is true; with neither set the node is IPv4",
);
/// `ENABLE_IPv6`.
pub const ENABLE_IPV6: Variable = off("ENABLE_IPv6", B1, "IPv6 node: not in this release");
/// `WARM_ENI_TARGET`.
pub const WARM_ENI_TARGET: Variable = var(
    "WARM_ENI_TARGET",
    I2,
    Falls,
    "1",
    "an integer of 0 or more",
    "whole ENIs' worth of addresses kept ready; not with prefix delegation",
);
/// `WARM_IP_TARGET`.
pub const WARM_IP_TARGET: Variable = var(
    "WARM_IP_TARGET",
    I2,
    Falls,
    "0",
    "an integer of 0 or more",
    "addresses kept ready; with `MINIMUM_IP_TARGET` it goes before the other two warm targets",
);
/// `MINIMUM_IP_TARGET`.
pub const MINIMUM_IP_TARGET: Variable =
    var("MINIMUM_IP_TARGET", I2, Falls, "0", "an integer of 0 or more", "addresses held at least, free or not");
/// `WARM_PREFIX_TARGET`.
pub const WARM_PREFIX_TARGET: Variable = var(
    "WARM_PREFIX_TARGET",
    I2,
    Falls,
    "0",
    "an integer of 0 or more",
    "prefixes kept ready; only with prefix delegation, where it stands in for `WARM_ENI_TARGET`",
);
/// `MAX_ENI`.
pub const MAX_ENI: Variable = var(
    "MAX_ENI",
    I2,
    Falls,
    "",
    "an integer of 1 or more",
    "ENIs the node may have; the instance type's limit holds besides",
);
/// `IP_COOLDOWN_PERIOD`.
pub const IP_COOLDOWN_PERIOD: Variable = var(
    "IP_COOLDOWN_PERIOD",
    I1,
    Exit,
    "30",
    "an integer of 0 or more (seconds)",
    "seconds an address rests after its pod is gone",
);
/// `VPC_CNI_ADD_WAIT`.
pub const ADD_WAIT: Variable = var(
    "VPC_CNI_ADD_WAIT",
    I2,
    Exit,
    "15",
    "an integer from 0 to 45 (seconds)",
    "seconds an ADD waits for the address it causes to be fetched; above 45 it is capped, since the plugin gives up after 60",
);
/// `AWS_VPC_K8S_CNI_BACKING_STORE`.
pub const BACKING_STORE: Variable =
    text("AWS_VPC_K8S_CNI_BACKING_STORE", S2, "/var/run/aws-node/ipam.json", "a path", "the checkpoint file");
/// `AWS_VPC_K8S_CNI_EXTERNALSNAT`.
pub const EXTERNAL_SNAT: Variable =
    off("AWS_VPC_K8S_CNI_EXTERNALSNAT", B2, "source NAT is done outside the node (a NAT gateway): the node does none");
/// `AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS`.
pub const EXCLUDE_SNAT_CIDRS: Variable = var(
    "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
    L1,
    Falls,
    "",
    "IPv4 networks separated by commas",
    "destinations that are not source-NATed, besides the VPC's; ignored with external SNAT",
);
/// `AWS_EXTERNAL_SERVICE_CIDRS`.
pub const EXTERNAL_SERVICE_CIDRS: Variable = var(
    "AWS_EXTERNAL_SERVICE_CIDRS",
    L1,
    Falls,
    "",
    "IPv4 networks separated by commas",
    "destinations that are always reached by the primary ENI",
);
/// `AWS_VPC_K8S_CNI_RANDOMIZESNAT`.
pub const RANDOMIZE_SNAT: Variable = var(
    "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
    S2,
    Falls,
    "prng",
    "`prng`, `hashrandom` or `none`",
    "how the source port of a translated connection is chosen",
);
/// `AWS_VPC_CNI_NODE_PORT_SUPPORT`.
pub const NODE_PORT_SUPPORT: Variable =
    on("AWS_VPC_CNI_NODE_PORT_SUPPORT", B2, "replies of NodePort connections leave by the primary ENI");
/// `AWS_VPC_K8S_CNI_CONNMARK`.
pub const CONNMARK: Variable = var(
    "AWS_VPC_K8S_CNI_CONNMARK",
    IAny,
    Falls,
    "0x80",
    "an integer from 1 to 0xffffffff",
    "our bits of packet and connection marks, used as mark and mask",
);
/// `AWS_VPC_ENI_MTU`.
pub const ENI_MTU: Variable =
    var("AWS_VPC_ENI_MTU", I1, Exit, "9001", "an integer from 576 (IPv6: 1280) to 9001 (bytes)", "MTU of the ENIs");
/// `POD_MTU`.
pub const POD_MTU: Variable = var(
    "POD_MTU",
    I1,
    Exit,
    "",
    "an integer from 576 (IPv6: 1280) to 9001 (bytes)",
    "MTU of pods' links; not set: that of the ENIs",
);
/// `AWS_VPC_K8S_CNI_VETHPREFIX`.
pub const VETH_PREFIX: Variable = var(
    "AWS_VPC_K8S_CNI_VETHPREFIX",
    S1,
    Exit,
    "eni",
    "at most 4 bytes without `/`, `:`, `%` or white space, not `eth`, `lo` or `vlan`",
    "how the names of pods' host links begin",
);
/// `HOST_CNI_BIN_PATH`.
pub const HOST_CNI_BIN_PATH: Variable = text(
    "HOST_CNI_BIN_PATH",
    S1,
    "/host/opt/cni/bin",
    "a directory",
    "where the runtime's plugins are, seen from the daemon",
);
/// `HOST_CNI_CONFDIR_PATH`.
pub const HOST_CNI_CONFDIR_PATH: Variable =
    text("HOST_CNI_CONFDIR_PATH", S1, "/host/etc/cni/net.d", "a directory", "where `10-aws.conflist` is written");
/// `AWS_VPC_K8S_CNI_LOGLEVEL`.
pub const LOG_LEVEL: Variable = var("AWS_VPC_K8S_CNI_LOGLEVEL", S2, Falls, "Debug", LEVELS, "how much the daemon logs");
/// `AWS_VPC_K8S_CNI_LOG_FILE`.
pub const LOG_FILE: Variable = text(
    "AWS_VPC_K8S_CNI_LOG_FILE",
    S2,
    "/host/var/log/aws-routed-eni/ipamd.log",
    "a path, `stdout` or `stderr`",
    "where the daemon logs; a file is turned over at 100 MB, five old ones are kept",
);
/// `AWS_VPC_K8S_PLUGIN_LOG_FILE`.
pub const PLUGIN_LOG_FILE: Variable = var(
    "AWS_VPC_K8S_PLUGIN_LOG_FILE",
    S1,
    Exit,
    "/var/log/aws-routed-eni/plugin.log",
    "a path on the host, `stderr` or nothing (= `stderr`); standard output belongs to the CNI result",
    "where the plugin logs",
);
/// `AWS_VPC_K8S_PLUGIN_LOG_LEVEL`.
pub const PLUGIN_LOG_LEVEL: Variable =
    var("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", S1, Falls, "Debug", LEVELS, "how much the plugin logs");
/// `AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE`.
pub const EGRESS_V6_LOG_FILE: Variable = var(
    "AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE",
    S1,
    Exit,
    "/var/log/aws-routed-eni/egress-v6-plugin.log",
    "a path on the host, `stderr` or nothing (= `stderr`); standard output belongs to the CNI result",
    "where the chained `egress-cni` logs on an IPv4 node",
);
/// `ENABLE_V6_EGRESS`.
pub const ENABLE_V6_EGRESS: Variable = off(
    "ENABLE_V6_EGRESS",
    B1,
    "IPv6 egress for pods of an IPv4 node: not in this release; kept off on a node without an IPv6 address, refused on others",
);
/// `ENABLE_BANDWIDTH_PLUGIN`.
pub const ENABLE_BANDWIDTH_PLUGIN: Variable = off("ENABLE_BANDWIDTH_PLUGIN", B1, "chains the `bandwidth` plugin");
/// `DISABLE_POD_V6`.
pub const DISABLE_POD_V6: Variable =
    off("DISABLE_POD_V6", B1, "chains the `tuning` plugin, which turns IPv6 off in pods");
/// `POD_SECURITY_GROUP_ENFORCING_MODE`.
pub const SG_ENFORCING_MODE: Variable = var(
    "POD_SECURITY_GROUP_ENFORCING_MODE",
    S1,
    Falls,
    "strict",
    "`strict` or `standard`",
    "how security groups for pods are enforced; written into the conflist",
);
/// `VPC_CNI_CONF_VERSION`. The default is the version of the reference's list.
pub const CONF_VERSION: Variable = var(
    "VPC_CNI_CONF_VERSION",
    S2,
    Exit,
    "0.4.0",
    "`0.4.0` or `1.1.0`",
    "the conflist's `cniVersion`: the reference's, or the one with which a runtime that speaks it calls CHECK, STATUS and GC too",
);
/// `NETWORK_POLICY_ENFORCING_MODE`.
pub const NETWORK_POLICY_MODE: Variable = var(
    "NETWORK_POLICY_ENFORCING_MODE",
    S1,
    Exit,
    "",
    "`none`, `standard` or `strict` (any case), or not set",
    "passed on to the plugin and to the network policy agent as written",
);
/// `DISABLE_TCP_EARLY_DEMUX`.
pub const DISABLE_TCP_EARLY_DEMUX: Variable =
    off("DISABLE_TCP_EARLY_DEMUX", B1, "turns `net.ipv4.tcp_early_demux` off; `false` leaves it as it is");
/// `MANAGE_UNTAGGED_ENI`.
pub const MANAGE_UNTAGGED_ENI: Variable =
    on("MANAGE_UNTAGGED_ENI", B1, "ENIs that bear no tag of this instance are ours too; `false` leaves them to others");
/// `CLUSTER_NAME`.
pub const CLUSTER_NAME: Variable = var(
    "CLUSTER_NAME",
    S2,
    Falls,
    "",
    "a text of at most 256 characters",
    "tags our ENIs with the cluster's name and `eks:eni:owner`; decides about subnets that are tagged for clusters",
);
/// `ADDITIONAL_ENI_TAGS`.
pub const ADDITIONAL_ENI_TAGS: Variable = var(
    "ADDITIONAL_ENI_TAGS",
    S2,
    Falls,
    "{}",
    "a JSON object of texts that EC2 takes as tags, whose keys do not contain `k8s.amazonaws.com`",
    "further tags of the ENIs we make",
);
/// `ENABLE_SUBNET_DISCOVERY`.
pub const ENABLE_SUBNET_DISCOVERY: Variable = on(
    "ENABLE_SUBNET_DISCOVERY",
    B2,
    "ENIs are made in whichever subnet of the zone tagged `kubernetes.io/role/cni` has most free addresses; `false`: in the node's own",
);
/// `HTTP_TIMEOUT`.
pub const HTTP_TIMEOUT: Variable =
    var("HTTP_TIMEOUT", I2, Falls, "10", "an integer of 10 or more (seconds)", "limit of one HTTP request to EC2");
/// `AWS_EC2_ENDPOINT`.
pub const EC2_ENDPOINT: Variable = text(
    "AWS_EC2_ENDPOINT",
    S2,
    "",
    "a URL",
    "where EC2 is, if not where the region says; `AWS_ENDPOINT_URL_EC2` goes first",
);
/// `MY_NODE_NAME`.
pub const MY_NODE_NAME: Variable = text(
    "MY_NODE_NAME",
    S2,
    "",
    "a node's name",
    "this node's name in the cluster; without it Kubernetes is not asked",
);
/// `MY_POD_NAME`.
pub const MY_POD_NAME: Variable =
    text("MY_POD_NAME", S2, "", "a pod's name", "the daemon's own pod in `kube-system`, which events are about");
/// `CLUSTER_ENDPOINT`.
pub const CLUSTER_ENDPOINT: Variable = var(
    "CLUSTER_ENDPOINT",
    S2,
    Falls,
    "",
    "`https://host[:port]`, `http://host[:port]` or `host[:port]`",
    "where the API server is, if not where the pod's environment says",
);
/// `VPC_CNI_VERSION`.
pub const VPC_CNI_VERSION: Variable = text("VPC_CNI_VERSION", S1, "", "a text", "part of the user agent of EC2 calls");
/// `DISABLE_METRICS`.
pub const DISABLE_METRICS: Variable = off("DISABLE_METRICS", B1, "no metrics endpoint; this release has none yet");
/// `DISABLE_INTROSPECTION`.
pub const DISABLE_INTROSPECTION: Variable =
    off("DISABLE_INTROSPECTION", B1, "no introspection endpoint; this release has none yet");
/// `INTROSPECTION_BIND_ADDRESS`.
pub const INTROSPECTION_BIND_ADDRESS: Variable = text(
    "INTROSPECTION_BIND_ADDRESS",
    S2,
    "127.0.0.1:61679",
    "`host:port` or `unix:<path>`",
    "where introspection listens; this release has none yet",
);
/// `VPC_CNI_HOST_LAYOUT`.
pub const HOST_LAYOUT: Variable =
    var("VPC_CNI_HOST_LAYOUT", S2, Exit, "classic", "`classic`", "layout of the host's routes and rules");
/// `VPC_CNI_PACKET_FILTER`.
pub const PACKET_FILTER: Variable =
    var("VPC_CNI_PACKET_FILTER", S2, Exit, "nft", "`nft`", "what source NAT and marks are programmed with");
/// `ENABLE_PREFIX_DELEGATION`.
pub const ENABLE_PREFIX_DELEGATION: Variable = off(
    "ENABLE_PREFIX_DELEGATION",
    B1,
    "/28 prefixes in place of single addresses; one of the three other targets must be 1 or more. A type that takes no prefixes gets single addresses",
);
/// `ENABLE_POD_ENI`.
pub const ENABLE_POD_ENI: Variable = off("ENABLE_POD_ENI", B1, "security groups for pods: not in this release");
/// `ENABLE_MULTI_NIC`.
pub const ENABLE_MULTI_NIC: Variable = off("ENABLE_MULTI_NIC", B1, "several network cards: not in this release");
/// `AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`.
pub const CUSTOM_NETWORK_CFG: Variable = off(
    "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG",
    B2,
    "custom networking: pods get addresses of the subnet that the node's ENIConfig names, none of the primary ENI",
);
/// `ENI_CONFIG_ANNOTATION_DEF`.
pub const ENI_CONFIG_ANNOTATION: Variable = text(
    "ENI_CONFIG_ANNOTATION_DEF",
    S2,
    ENI_CONFIG_KEY,
    "the key of an annotation",
    "the node's annotation that names its ENIConfig; it goes before the label",
);
/// `ENI_CONFIG_LABEL_DEF`.
pub const ENI_CONFIG_LABEL: Variable = text(
    "ENI_CONFIG_LABEL_DEF",
    S2,
    ENI_CONFIG_KEY,
    "the key of a label",
    "the node's label that names its ENIConfig; `topology.kubernetes.io/zone` gives one for each zone",
);
/// `ENABLE_IMDS_ONLY_MODE`.
pub const ENABLE_IMDS_ONLY_MODE: Variable = off(
    "ENABLE_IMDS_ONLY_MODE",
    B1,
    "EC2 is never called, nor are credentials looked for: ENIs and addresses are what the metadata show",
);
/// `DISABLE_NETWORK_RESOURCE_PROVISIONING`.
pub const DISABLE_PROVISIONING: Variable = off(
    "DISABLE_NETWORK_RESOURCE_PROVISIONING",
    B1,
    "EC2 may be asked, but ENIs and addresses are neither fetched nor changed nor given back",
);
/// `VPC_CNI_EC2`.
pub const EC2_USE: Variable = var(
    "VPC_CNI_EC2",
    S2,
    Exit,
    "full",
    "`full`, `no-release` or `off`",
    "how far EC2 is used: all of it, nothing is given back, or not at all; the strictest of this and the two before holds",
);
/// `VPC_CNI_LOOKAHEAD`.
pub const LOOKAHEAD: Variable = var(
    "VPC_CNI_LOOKAHEAD",
    B2,
    Exit,
    "true",
    BOOL,
    "pods bound to this node count as demand before their ADD comes; needs the API server and `MY_NODE_NAME`",
);
/// `VPC_CNI_RELEASE_INTERVAL`. The default is the reference's interval between two rounds of giving surplus back.
pub const RELEASE_INTERVAL: Variable = var(
    "VPC_CNI_RELEASE_INTERVAL",
    I2,
    Exit,
    "30",
    "an integer of 0 or more (seconds)",
    "seconds between two rounds of giving surplus addresses or prefixes back",
);
/// `VPC_CNI_MIN_ENI_AGE`. The default is the reference's least age.
pub const MIN_ENI_AGE: Variable = var(
    "VPC_CNI_MIN_ENI_AGE",
    I2,
    Exit,
    "60",
    "an integer of 0 or more (seconds)",
    "seconds an ENI is kept at least, however idle",
);
/// `VPC_CNI_AUDIT_INTERVAL`. The default is the reference's interval between two reconciliations.
pub const AUDIT_INTERVAL: Variable = var(
    "VPC_CNI_AUDIT_INTERVAL",
    I2,
    Exit,
    "60",
    "an integer of 1 or more (seconds)",
    "seconds between two looks at the host's network and the metadata without a reason",
);
/// `VPC_CNI_ORPHAN_AGE`. The default is longer than a plugin can be at work on an ADD.
pub const ORPHAN_AGE: Variable = var(
    "VPC_CNI_ORPHAN_AGE",
    I2,
    Exit,
    "65",
    "an integer of 1 or more (seconds)",
    "seconds after which an address whose pod has no link is taken back; a plugin gives an ADD up after 60, so less is for tests",
);
/// `VPC_CNI_STRAYS_AFTER`. The default is longer than a call of an earlier life can be under way.
pub const STRAYS_AFTER: Variable = var(
    "VPC_CNI_STRAYS_AFTER",
    I2,
    Exit,
    "60",
    "an integer of 1 or more (seconds)",
    "seconds after a start when ENIs that an earlier start made and never attached are looked for, spread over twice as many more",
);
/// `VPC_CNI_CONFIG_FILE`.
pub const CONFIG_FILE: Variable = text(
    "VPC_CNI_CONFIG_FILE",
    S2,
    "",
    "a path",
    "a file of `NAME=value` lines that goes before the environment and is watched",
);
/// `ANNOTATE_POD_IP`.
pub const ANNOTATE_POD_IP: Variable =
    off("ANNOTATE_POD_IP", B1, "the address as an annotation of the pod: not in this release");
/// `AWS_MANAGE_ENIS_NON_SCHEDULABLE`.
pub const MANAGE_NON_SCHEDULABLE: Variable =
    off("AWS_MANAGE_ENIS_NON_SCHEDULABLE", B2, "ENIs and addresses are fetched and given back on a cordoned node too");
/// `DISABLE_LEAKED_ENI_CLEANUP`.
pub const DISABLE_LEAKED_ENI_CLEANUP: Variable =
    off("DISABLE_LEAKED_ENI_CLEANUP", B1, "ENIs of the cluster that lost their instance are not looked for");

const LEVELS: &str = "`debug`, `info`, `warn`, `error` or `fatal` (any case)";

/// The key that names a node's ENIConfig, unless told otherwise.
const ENI_CONFIG_KEY: &str = "k8s.amazonaws.com/eniConfig";
