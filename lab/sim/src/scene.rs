//! Worlds and settings to begin with.

use std::collections::BTreeMap;

use lab_cloud::{Consistency, InstanceSpec, Profile, Setup, Throttle, WorldSpec, id_for};
use vpc_agent::{CloudUse, Config, Placing};
use vpc_hostnet::HostSettings;
use vpc_ipam::{Target, Unit, WarmTarget};
use vpc_model::{Millis, instance_limits};

/// Limits of a type that the table does not have, as the daemon supposes them: upper bounds.
const UNKNOWN_LIMITS: (u32, u32) = (24, 63);
/// Pods of a node whose type is not known.
const UNKNOWN_PODS: u32 = 110;

/// The default topology with these instances (name and type) in `private-a`, AWS's latencies and lags, no throttling.
#[must_use]
pub fn scene(seed: u64, nodes: &[(&str, &str)]) -> (WorldSpec, Setup) {
    let mut spec = WorldSpec::default_topology();
    spec.instances = nodes.iter().map(|(name, kind)| InstanceSpec::new(name, kind, id_for("private-a"))).collect();
    let setup = Setup {
        profile: Profile::aws(),
        seed,
        throttle: Throttle::off(),
        consistency: Consistency::aws(),
        ..Setup::default()
    };
    (spec, setup)
}

/// The settings a daemon has on an instance of this type if nobody sets any.
#[must_use]
pub fn config_for(instance_type: &str) -> Config {
    let limits = instance_limits(instance_type);
    let (max_enis, slots_per_eni) = limits.map_or(UNKNOWN_LIMITS, |l| (l.max_enis, l.slots_per_eni()));
    Config {
        target: Target {
            unit: Unit::Address,
            warm: WarmTarget::Enis(1),
            max_enis,
            slots_per_eni,
            max_pods: Some(limits.map_or(UNKNOWN_PODS, |l| l.max_enis * l.slots_per_eni() + 2)),
            cool_down: Millis::seconds(30),
            min_eni_age: Millis::seconds(60),
            release_every: Millis::seconds(30),
        },
        without_prefixes: None,
        limits_known: limits.is_some(),
        host: HostSettings::default(),
        add_wait: Millis::seconds(15),
        nonce: 0,
        audit_every: Millis::seconds(60),
        orphan_age: Millis::seconds(65),
        strays_after: Millis::seconds(60),
        cloud: CloudUse::Full,
        placing: Placing { custom: None, discovery: true, cluster: None },
        manage_untagged: true,
        tags: BTreeMap::new(),
        leaked_cleanup: false,
        manage_non_schedulable: false,
        look_ahead: true,
    }
}
