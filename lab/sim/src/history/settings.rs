//! The settings of a node in a history, as its users name them.

use serde::{Deserialize, Serialize};
use vpc_agent::{CloudUse, Config, EniConfigKeys};
use vpc_ipam::{Unit, WarmTarget};
use vpc_model::{Millis, instance_limits};

use crate::scene::config_for;

/// Settings of a daemon; what is absent has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields, expecting = "a table of settings")]
pub struct Settings {
    /// `ENABLE_PREFIX_DELEGATION`.
    pub prefixes: bool,
    /// `WARM_ENI_TARGET`, `WARM_PREFIX_TARGET`, `WARM_IP_TARGET` with `MINIMUM_IP_TARGET`.
    pub warm: Warm,
    /// `MAX_ENI`.
    pub max_enis: Option<u32>,
    /// Pods the node may run, as its node object says.
    pub max_pods: Option<u32>,
    /// `IP_COOLDOWN_PERIOD`.
    pub cool_down_ms: u64,
    /// `VPC_CNI_ADD_WAIT`.
    pub add_wait_ms: u64,
    /// `VPC_CNI_MIN_ENI_AGE`.
    pub min_eni_age_ms: u64,
    /// `VPC_CNI_RELEASE_INTERVAL`.
    pub release_every_ms: u64,
    /// `VPC_CNI_AUDIT_INTERVAL`.
    pub audit_every_ms: u64,
    /// `VPC_CNI_EC2`.
    pub ec2: Ec2,
    /// `AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`, with an ENIConfig for the zone's pod subnet.
    pub custom_networking: bool,
    /// `VPC_CNI_LOOKAHEAD`.
    pub look_ahead: bool,
    /// `MANAGE_UNTAGGED_ENI`.
    pub manage_untagged: bool,
}

/// What is kept ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Warm {
    /// So many ENIs' worth.
    Enis(u32),
    /// So many prefixes.
    Prefixes(u32),
    /// So many addresses.
    Addresses {
        /// Free.
        warm: u32,
        /// In all.
        minimum: u32,
    },
}

/// How far EC2 may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ec2 {
    /// Not at all.
    Off,
    /// Asked only.
    ReadOnly,
    /// Nothing is given back.
    NoRelease,
    /// As needed.
    Full,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefixes: false,
            warm: Warm::Enis(1),
            max_enis: None,
            max_pods: None,
            cool_down_ms: 30_000,
            add_wait_ms: 15_000,
            min_eni_age_ms: 60_000,
            release_every_ms: 30_000,
            audit_every_ms: 60_000,
            ec2: Ec2::Full,
            custom_networking: false,
            look_ahead: true,
            manage_untagged: true,
        }
    }
}

impl Settings {
    /// Puts them into what a daemon on this type of instance is told, leaving what belongs to the daemon's life.
    pub fn apply(&self, instance_type: &str, config: &mut Config) {
        let plain = config_for(instance_type);
        let nitro = instance_limits(instance_type).is_none_or(vpc_model::InstanceLimits::takes_prefixes);
        config.target = plain.target;
        let prefixes = self.prefixes && nitro;
        config.without_prefixes = (self.prefixes && !nitro).then(|| format!("{instance_type} takes no prefixes"));
        config.target.unit = if prefixes { Unit::Prefix } else { Unit::Address };
        config.target.warm = match self.warm {
            Warm::Enis(enis) => WarmTarget::Enis(enis),
            // As the daemon does: a target in prefixes means nothing without them.
            Warm::Prefixes(_) if !prefixes => WarmTarget::Enis(1),
            Warm::Prefixes(prefixes) => WarmTarget::Prefixes(prefixes),
            Warm::Addresses { warm: 0, minimum: 0 } => WarmTarget::Enis(1),
            Warm::Addresses { warm, minimum } => WarmTarget::Addresses { warm, minimum },
        };
        config.target.max_enis = self.max_enis.map_or(plain.target.max_enis, |most| most.min(plain.target.max_enis));
        config.target.max_pods = self.max_pods.or(plain.target.max_pods);
        config.target.cool_down = Millis(self.cool_down_ms);
        config.target.min_eni_age = Millis(self.min_eni_age_ms);
        config.target.release_every = Millis(self.release_every_ms);
        config.add_wait = Millis(self.add_wait_ms);
        config.audit_every = Millis(self.audit_every_ms);
        config.cloud = match self.ec2 {
            Ec2::Off => CloudUse::Off,
            Ec2::ReadOnly => CloudUse::ReadOnly,
            Ec2::NoRelease => CloudUse::NoRelease,
            Ec2::Full => CloudUse::Full,
        };
        config.placing.custom = self.custom_networking.then(|| EniConfigKeys {
            annotation: "k8s.amazonaws.com/eniConfig".to_owned(),
            label: "k8s.amazonaws.com/eniConfig".to_owned(),
        });
        config.look_ahead = self.look_ahead;
        config.manage_untagged = self.manage_untagged;
    }
}
