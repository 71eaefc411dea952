//! What concerns the pool: how much, of what kind, from where, and how far EC2 may be used for it.

use vpc_agent::{CloudUse, EniConfigKeys};
use vpc_model::Millis;

use super::reader::{Origin, Reader};
use super::values::PoolSettings;
use super::{Verdict, kubernetes, small, table as var};

/// How long an ADD may wait at most, in seconds: the plugin gives up after 60 and needs time to wire and to undo.
pub const LONGEST_ADD_WAIT: i64 = 45;

const CLOUD_WORDS: [(&str, CloudUse); 3] =
    [("full", CloudUse::Full), ("no-release", CloudUse::NoRelease), ("off", CloudUse::Off)];

pub(super) fn read(reader: &mut Reader<'_>) -> PoolSettings {
    let target = |n: i64| n >= 0;
    let mut number = |var| small(reader.integer(var, target));
    let (warm_enis, warm_addresses) = (number(&var::WARM_ENI_TARGET), number(&var::WARM_IP_TARGET));
    let (minimum_addresses, warm_prefixes) = (number(&var::MINIMUM_IP_TARGET), number(&var::WARM_PREFIX_TARGET));
    let max_enis = reader.optional_integer(&var::MAX_ENI, |n| n >= 1);
    let cooldown = reader.integer(&var::IP_COOLDOWN_PERIOD, target);
    PoolSettings {
        prefixes: prefixes(reader, &[warm_prefixes, warm_addresses, minimum_addresses]),
        warm_enis,
        warm_addresses,
        minimum_addresses,
        warm_prefixes,
        max_enis: max_enis.map(small),
        cooldown: Millis::seconds(small(cooldown).into()),
        add_wait: add_wait(reader),
        release_every: seconds(reader, &var::RELEASE_INTERVAL, 0),
        min_eni_age: seconds(reader, &var::MIN_ENI_AGE, 0),
        audit_every: seconds(reader, &var::AUDIT_INTERVAL, 1),
        orphan_age: seconds(reader, &var::ORPHAN_AGE, 1),
        strays_after: seconds(reader, &var::STRAYS_AFTER, 1),
        look_ahead: reader.boolean(&var::LOOKAHEAD),
        manage_non_schedulable: reader.boolean(&var::MANAGE_NON_SCHEDULABLE),
        manage_untagged: reader.boolean(&var::MANAGE_UNTAGGED_ENI),
        custom: custom(reader),
        discovery: reader.boolean(&var::ENABLE_SUBNET_DISCOVERY),
        leaked_cleanup: !reader.boolean(&var::DISABLE_LEAKED_ENI_CLEANUP),
        cloud: cloud(reader),
    }
}

/// With prefix delegation one of three targets must be positive. The reference compares texts byte by byte (`abc` passes, ` 1`
/// does not); here it is the numbers that count.
fn prefixes(reader: &mut Reader<'_>, values: &[u32; 3]) -> bool {
    let wanted = reader.boolean(&var::ENABLE_PREFIX_DELEGATION);
    if wanted && values.iter().all(|value| *value == 0) {
        let targets = [&var::WARM_PREFIX_TARGET, &var::WARM_IP_TARGET, &var::MINIMUM_IP_TARGET];
        let given =
            |t: &var::Variable| reader.raw(t).map_or_else(|| t.name.to_owned(), |v| format!("{}=`{v}`", t.name));
        let given: Vec<_> = targets.into_iter().map(given).collect();
        let matter = format!("expected one of {} to be an integer of 1 or more", given.join(", "));
        reader.find(&var::ENABLE_PREFIX_DELEGATION, Verdict::Refused, matter);
    }
    wanted
}

fn seconds(reader: &mut Reader<'_>, variable: &'static var::Variable, least: i64) -> Millis {
    Millis::seconds(small(reader.integer(variable, |n| n >= least)).into())
}

fn add_wait(reader: &mut Reader<'_>) -> Millis {
    let given = reader.integer(&var::ADD_WAIT, |n| n >= 0);
    if given > LONGEST_ADD_WAIT {
        let verdict = Verdict::FellBack { to: LONGEST_ADD_WAIT.to_string() };
        reader.find(
            &var::ADD_WAIT,
            verdict,
            format!("the plugin gives up after 60 s; expected {}", var::ADD_WAIT.accepted),
        );
        reader.amend(&LONGEST_ADD_WAIT.to_string(), Origin::FellBack);
    }
    Millis::seconds(given.clamp(0, LONGEST_ADD_WAIT).unsigned_abs())
}

fn custom(reader: &mut Reader<'_>) -> Option<EniConfigKeys> {
    let wanted = reader.boolean(&var::CUSTOM_NETWORK_CFG);
    let keys = EniConfigKeys {
        annotation: kubernetes::key(reader, &var::ENI_CONFIG_ANNOTATION),
        label: kubernetes::key(reader, &var::ENI_CONFIG_LABEL),
    };
    wanted.then_some(keys)
}

/// Three settings say how far EC2 may be used; the strictest of them holds.
fn cloud(reader: &mut Reader<'_>) -> CloudUse {
    let said = reader.choice(&var::EC2_USE, &CLOUD_WORDS, CloudUse::Full);
    let imds_only = reader.boolean(&var::ENABLE_IMDS_ONLY_MODE).then_some(CloudUse::Off);
    let read_only = reader.boolean(&var::DISABLE_PROVISIONING).then_some(CloudUse::ReadOnly);
    [Some(said), imds_only, read_only].into_iter().flatten().min().unwrap_or(said)
}
