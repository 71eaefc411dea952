//! How the settings are grouped where people read them, and what is said of whole groups.

use super::table::*;

/// Settings that belong together.
#[derive(Debug)]
pub struct Section {
    /// Its name: the mark of its table in `docs/configuration.md`.
    pub name: &'static str,
    /// What is in it, in the order in which it is listed.
    pub variables: &'static [&'static Variable],
}

const fn section(name: &'static str, variables: &'static [&'static Variable]) -> Section {
    Section { name, variables }
}

/// All settings, in the order in which they are listed.
pub const SECTIONS: &[Section] = &[
    section(
        "pool",
        &[
            &WARM_ENI_TARGET,
            &WARM_IP_TARGET,
            &MINIMUM_IP_TARGET,
            &WARM_PREFIX_TARGET,
            &ENABLE_PREFIX_DELEGATION,
            &MAX_ENI,
            &IP_COOLDOWN_PERIOD,
            &ADD_WAIT,
            &LOOKAHEAD,
            &RELEASE_INTERVAL,
            &MIN_ENI_AGE,
            &AUDIT_INTERVAL,
            &ORPHAN_AGE,
            &STRAYS_AFTER,
            &MANAGE_NON_SCHEDULABLE,
        ],
    ),
    section(
        "places",
        &[
            &CUSTOM_NETWORK_CFG,
            &ENI_CONFIG_ANNOTATION,
            &ENI_CONFIG_LABEL,
            &ENABLE_SUBNET_DISCOVERY,
            &CLUSTER_NAME,
            &ADDITIONAL_ENI_TAGS,
            &MANAGE_UNTAGGED_ENI,
            &DISABLE_LEAKED_ENI_CLEANUP,
        ],
    ),
    section(
        "cloud",
        &[&ENABLE_IMDS_ONLY_MODE, &DISABLE_PROVISIONING, &EC2_USE, &HTTP_TIMEOUT, &EC2_ENDPOINT, &VPC_CNI_VERSION],
    ),
    section("kubernetes", &[&MY_NODE_NAME, &MY_POD_NAME, &CLUSTER_ENDPOINT]),
    section(
        "host",
        &[
            &ENABLE_IPV4,
            &HOST_LAYOUT,
            &PACKET_FILTER,
            &EXTERNAL_SNAT,
            &EXCLUDE_SNAT_CIDRS,
            &EXTERNAL_SERVICE_CIDRS,
            &RANDOMIZE_SNAT,
            &NODE_PORT_SUPPORT,
            &CONNMARK,
            &ENI_MTU,
            &POD_MTU,
            &VETH_PREFIX,
            &DISABLE_TCP_EARLY_DEMUX,
        ],
    ),
    section(
        "conflist",
        &[
            &HOST_CNI_BIN_PATH,
            &HOST_CNI_CONFDIR_PATH,
            &CONF_VERSION,
            &PLUGIN_LOG_FILE,
            &PLUGIN_LOG_LEVEL,
            &EGRESS_V6_LOG_FILE,
            &ENABLE_V6_EGRESS,
            &ENABLE_BANDWIDTH_PLUGIN,
            &DISABLE_POD_V6,
            &SG_ENFORCING_MODE,
            &NETWORK_POLICY_MODE,
        ],
    ),
    section("files", &[&CONFIG_FILE, &BACKING_STORE, &LOG_FILE, &LOG_LEVEL]),
    section("refused", &[&ENABLE_IPV6, &ENABLE_POD_ENI, &ENABLE_MULTI_NIC, &ANNOTATE_POD_IP]),
    section("idle", &[&DISABLE_METRICS, &DISABLE_INTROSPECTION, &INTROSPECTION_BIND_ADDRESS]),
];

/// All of them, in the order in which they are listed.
pub fn all() -> impl Iterator<Item = &'static Variable> {
    SECTIONS.iter().flat_map(|section| section.variables).copied()
}

/// The variable of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Variable> {
    all().find(|var| var.name == name)
}

/// Settings that hold from the moment the file of settings says so. All others are read at start.
pub const IN_PLACE: &[&Variable] = &[
    &WARM_ENI_TARGET,
    &WARM_IP_TARGET,
    &MINIMUM_IP_TARGET,
    &WARM_PREFIX_TARGET,
    &ENABLE_PREFIX_DELEGATION,
    &MAX_ENI,
    &IP_COOLDOWN_PERIOD,
    &ADD_WAIT,
    &LOOKAHEAD,
    &RELEASE_INTERVAL,
    &MIN_ENI_AGE,
    &AUDIT_INTERVAL,
    &ORPHAN_AGE,
    &STRAYS_AFTER,
    &MANAGE_NON_SCHEDULABLE,
    &CUSTOM_NETWORK_CFG,
    &ENI_CONFIG_ANNOTATION,
    &ENI_CONFIG_LABEL,
    &ENABLE_SUBNET_DISCOVERY,
    &ADDITIONAL_ENI_TAGS,
    &MANAGE_UNTAGGED_ENI,
    &DISABLE_LEAKED_ENI_CLEANUP,
    &ENABLE_IMDS_ONLY_MODE,
    &DISABLE_PROVISIONING,
    &EC2_USE,
    &EXTERNAL_SNAT,
    &EXCLUDE_SNAT_CIDRS,
    &EXTERNAL_SERVICE_CIDRS,
    &NODE_PORT_SUPPORT,
];

/// Whether a change holds without a restart.
#[must_use]
pub fn changes_in_place(name: &str) -> bool {
    IN_PLACE.iter().any(|var| var.name == name)
}

/// Features that are refused by name when they are switched on, with what they are.
pub const NOT_IN_THIS_RELEASE: &[(&Variable, &str)] = &[
    (&ENABLE_IPV6, "IPv6 nodes"),
    (&ENABLE_POD_ENI, "security groups for pods"),
    (&ENABLE_MULTI_NIC, "multiple network cards"),
    (&ANNOTATE_POD_IP, "annotating pods with their addresses"),
];

/// Variables of the reference that nothing in this release looks at. Known, so that they are not taken for misspelt ones.
pub const NOT_LOOKED_AT: &[&str] = &[
    "AWS_VPC_K8S_CNI_CONFIGURE_RPFILTER",
    "AWS_VPC_K8S_EGRESS_V4_PLUGIN_LOG_FILE",
    "ENABLE_NFTABLES",
    "ENABLE_V4_EGRESS",
    "VPC_ID",
];
