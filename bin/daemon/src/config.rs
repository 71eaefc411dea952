//! What the agent is told of the settings: they meet the instance's type here.
//!
//! ```text
//!   Settings + Machine (what the metadata say of the instance) --> Config + [Finding]
//! ```

use vpc_agent::{Config, Placing};
use vpc_aws::hand::tags;
use vpc_ipam::{Target, Unit, WarmTarget};
use vpc_model::{InstanceId, InstanceLimits};

use crate::settings::{Finding, PoolSettings, Settings, Verdict, table as var};

/// ENIs and positions of a type that is newer than this program: upper bounds (no type has more on one card), until EC2's own
/// figures or its refusals teach the true ones.
const UNKNOWN_LIMITS: (u32, u32) = (24, 63);

/// Pods of a node whose type is not known, until its node object tells.
const UNKNOWN_PODS: u32 = 110;

/// What does not change while the daemon runs, and is not a setting.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The instance.
    pub instance: InstanceId,
    /// Its limits, if the type is known.
    pub limits: Option<&'static InstanceLimits>,
    /// A number no earlier start of this daemon had.
    pub nonce: u64,
}

impl Machine {
    /// An instance of this type (`m5.large`).
    #[must_use]
    pub fn new(instance: InstanceId, instance_type: &str, nonce: u64) -> Self {
        Self { instance, limits: vpc_model::instance_limits(instance_type), nonce }
    }

    /// ENIs of the type, and secondary positions of one.
    fn limits(&self) -> (u32, u32) {
        self.limits.map_or(UNKNOWN_LIMITS, |limits| (limits.max_enis, limits.slots_per_eni()))
    }

    /// Pods a node of this type may run by the convention for single addresses: each secondary address, and two on the host's
    /// network. The node object knows better.
    fn max_pods(&self) -> u32 {
        self.limits.map_or(UNKNOWN_PODS, |limits| limits.max_enis * limits.slots_per_eni() + 2)
    }

    /// Why the type takes no prefixes, if it is known to take none.
    fn without_prefixes(&self) -> Option<String> {
        let limits = self.limits.filter(|limits| !limits.takes_prefixes())?;
        Some(format!(
            "{} is not built on Nitro, and EC2 gives such a type no prefixes: the pool holds single addresses",
            limits.instance_type
        ))
    }
}

/// What the agent is told. What is found is about settings and type together; what is wrong with the settings alone has been found
/// before.
#[must_use]
pub fn config(settings: &Settings, machine: &Machine) -> (Config, Vec<Finding>) {
    let pool = &settings.pool;
    let without_prefixes = machine.without_prefixes().filter(|_| pool.prefixes);
    let unit = if pool.prefixes && without_prefixes.is_none() { Unit::Prefix } else { Unit::Address };
    let (max_enis, slots_per_eni) = machine.limits();
    let target = Target {
        unit,
        warm: warm(pool, unit),
        max_enis: pool.max_enis.map_or(max_enis, |most| most.min(max_enis)),
        slots_per_eni,
        max_pods: Some(machine.max_pods()),
        cool_down: pool.cooldown,
        min_eni_age: pool.min_eni_age,
        release_every: pool.release_every,
    };
    let findings = findings(pool, machine, &target);
    let config = Config {
        target,
        limits_known: machine.limits.is_some(),
        without_prefixes,
        host: settings.host.clone(),
        add_wait: pool.add_wait,
        nonce: machine.nonce,
        audit_every: pool.audit_every,
        orphan_age: pool.orphan_age,
        strays_after: pool.strays_after,
        cloud: pool.cloud,
        placing: Placing {
            custom: pool.custom.clone(),
            discovery: pool.discovery,
            cluster: settings.tags.cluster.clone(),
        },
        manage_untagged: pool.manage_untagged,
        tags: tags(&machine.instance, settings.tags.cluster.as_deref(), &settings.tags.more),
        leaked_cleanup: pool.leaked_cleanup && pool.cloud.may_release(),
        manage_non_schedulable: pool.manage_non_schedulable,
        look_ahead: pool.look_ahead,
    };
    (config, findings)
}

/// The target that governs: those of addresses before the others, then that of the unit.
fn warm(pool: &PoolSettings, unit: Unit) -> WarmTarget {
    if pool.warm_addresses > 0 || pool.minimum_addresses > 0 {
        return WarmTarget::Addresses { warm: pool.warm_addresses, minimum: pool.minimum_addresses };
    }
    match unit {
        Unit::Prefix => WarmTarget::Prefixes(pool.warm_prefixes),
        Unit::Address => WarmTarget::Enis(pool.warm_enis),
    }
}

/// Settings that ask for more than the type has. That a type takes no prefixes is said by the agent.
fn findings(pool: &PoolSettings, machine: &Machine, target: &Target) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(limits) = machine.limits else { return findings };
    let name = &limits.instance_type;
    if let Some(asked) = pool.max_enis.filter(|asked| *asked > limits.max_enis) {
        let matter = format!("the limit of {name} wins: {} ENIs", limits.max_enis);
        findings.push(note(&var::MAX_ENI, asked.to_string(), matter));
    }
    let most = target.max_enis.saturating_mul(target.addresses_per_eni());
    let more_than_fits = |asked: u32| asked > most;
    let matter =
        || format!("{name} holds {most} addresses for pods at most with {} ENIs, and that wins", target.max_enis);
    match target.warm {
        WarmTarget::Addresses { warm, minimum } => {
            for (var, asked) in [(&var::WARM_IP_TARGET, warm), (&var::MINIMUM_IP_TARGET, minimum)] {
                if more_than_fits(asked) {
                    findings.push(note(var, asked.to_string(), matter()));
                }
            }
        }
        WarmTarget::Enis(asked) if asked > target.max_enis => {
            findings.push(note(&var::WARM_ENI_TARGET, asked.to_string(), matter()));
        }
        WarmTarget::Prefixes(asked) if more_than_fits(asked.saturating_mul(Unit::Prefix.size())) => {
            findings.push(note(&var::WARM_PREFIX_TARGET, asked.to_string(), matter()));
        }
        WarmTarget::Enis(_) | WarmTarget::Prefixes(_) => {}
    }
    findings
}

fn note(var: &var::Variable, value: String, matter: String) -> Finding {
    Finding { variable: var.name.to_owned(), value: Some(value), matter, verdict: Verdict::Note }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "config/tests.rs"]
mod tests;
