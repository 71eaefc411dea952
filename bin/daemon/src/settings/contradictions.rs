//! Settings that are good one by one and do not go together. Each is said with what wins.

use vpc_agent::CloudUse;

use super::reader::Reader;
use super::table::Variable;
use super::values::Settings;
use super::{Verdict, table as var};

pub(super) fn find(reader: &mut Reader<'_>, settings: &Settings) {
    warm_targets(reader, settings);
    cloud_use(reader, settings);
    placing(reader, settings);
    kubernetes(reader, settings);
}

fn note(reader: &mut Reader<'_>, var: &'static Variable, matter: impl Into<String>) {
    reader.find(var, Verdict::Note, matter);
}

fn warm_targets(reader: &mut Reader<'_>, settings: &Settings) {
    let pool = &settings.pool;
    let by_address = pool.warm_addresses > 0 || pool.minimum_addresses > 0;
    let winner = match (pool.warm_addresses > 0, pool.minimum_addresses > 0) {
        (true, true) => "WARM_IP_TARGET and MINIMUM_IP_TARGET win",
        (true, false) => "WARM_IP_TARGET wins",
        (false, _) => "MINIMUM_IP_TARGET wins",
    };
    let enis = reader.raw(&var::WARM_ENI_TARGET).is_some() && pool.warm_enis > 0;
    // The chart sets 1 on every node, with prefix delegation and without.
    let prefixes = reader.raw(&var::WARM_PREFIX_TARGET).is_some() && pool.warm_prefixes > 0;
    if by_address {
        if enis {
            note(reader, &var::WARM_ENI_TARGET, format!("{winner}; this one is not looked at"));
        }
        if prefixes && pool.prefixes {
            note(reader, &var::WARM_PREFIX_TARGET, format!("{winner}; this one is not looked at"));
        }
    } else if pool.prefixes && enis {
        let matter = "with prefix delegation WARM_PREFIX_TARGET wins; this one is not looked at";
        note(reader, &var::WARM_ENI_TARGET, matter);
    }
    if !pool.prefixes && pool.warm_prefixes > 1 {
        let matter = "it counts only with ENABLE_PREFIX_DELEGATION, which is off; it is not looked at";
        note(reader, &var::WARM_PREFIX_TARGET, matter);
    }
    if pool.minimum_addresses > 0 && pool.warm_addresses == 0 {
        let matter = "without WARM_IP_TARGET nothing is kept ready beyond it: pods that come later wait for EC2";
        note(reader, &var::MINIMUM_IP_TARGET, matter);
    }
}

fn cloud_use(reader: &mut Reader<'_>, settings: &Settings) {
    let imds_only = reader.is_on(&var::ENABLE_IMDS_ONLY_MODE);
    let read_only = reader.is_on(&var::DISABLE_PROVISIONING);
    let word = reader.raw(&var::EC2_USE).unwrap_or_default();
    if imds_only && matches!(word, "full" | "no-release") {
        note(reader, &var::EC2_USE, "ENABLE_IMDS_ONLY_MODE wins: EC2 is not called");
    } else if read_only && matches!(word, "full" | "no-release") {
        note(reader, &var::EC2_USE, "DISABLE_NETWORK_RESOURCE_PROVISIONING wins: EC2 is asked, nothing is changed");
    }
    if read_only && (imds_only || word == "off") {
        let matter = "it asks for less than what holds: EC2 is not called at all";
        note(reader, &var::DISABLE_PROVISIONING, matter);
    }
    if settings.pool.cloud >= CloudUse::NoRelease {
        return;
    }
    let targets = [
        (&var::WARM_ENI_TARGET, settings.pool.warm_enis),
        (&var::WARM_IP_TARGET, settings.pool.warm_addresses),
        (&var::MINIMUM_IP_TARGET, settings.pool.minimum_addresses),
        (&var::WARM_PREFIX_TARGET, settings.pool.warm_prefixes),
    ];
    for (target, value) in targets {
        if value > 0 && reader.raw(target).is_some() {
            let matter = format!("{} wins: nothing is fetched, whatever the target", why_nothing_changes(reader));
            note(reader, target, matter);
        }
    }
    if reader.raw(&var::DISABLE_LEAKED_ENI_CLEANUP).is_some() && settings.pool.leaked_cleanup {
        let matter = format!("{} wins: leaked ENIs are not looked for", why_nothing_changes(reader));
        note(reader, &var::DISABLE_LEAKED_ENI_CLEANUP, matter);
    }
    if !settings.pool.manage_untagged && settings.pool.cloud == CloudUse::Off {
        let matter = "without EC2 the tags of ENIs are not known: all ENIs count as ours";
        note(reader, &var::MANAGE_UNTAGGED_ENI, matter);
    }
}

fn why_nothing_changes(reader: &Reader<'_>) -> &'static str {
    if reader.is_on(&var::ENABLE_IMDS_ONLY_MODE) {
        "ENABLE_IMDS_ONLY_MODE"
    } else if reader.raw(&var::EC2_USE) == Some("off") {
        "VPC_CNI_EC2=off"
    } else {
        "DISABLE_NETWORK_RESOURCE_PROVISIONING"
    }
}

fn placing(reader: &mut Reader<'_>, settings: &Settings) {
    let custom = settings.pool.custom.is_some();
    if custom && settings.pool.discovery && reader.raw(&var::ENABLE_SUBNET_DISCOVERY).is_some() {
        let matter = "with custom networking the ENIConfig wins: it names the subnet, tags only keep pods out of one";
        note(reader, &var::ENABLE_SUBNET_DISCOVERY, matter);
    }
    for key in [&var::ENI_CONFIG_ANNOTATION, &var::ENI_CONFIG_LABEL] {
        if !custom && reader.raw(key).is_some() {
            note(reader, key, "it counts only with AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG, which is off");
        }
    }
}

fn kubernetes(reader: &mut Reader<'_>, settings: &Settings) {
    if !settings.kubernetes.node_name.is_empty() {
        return;
    }
    if settings.pool.custom.is_some() {
        let matter = "without MY_NODE_NAME the node's own ENIConfig can not be found";
        note(reader, &var::CUSTOM_NETWORK_CFG, matter);
    }
    if settings.pool.look_ahead && reader.raw(&var::LOOKAHEAD).is_some() {
        note(reader, &var::LOOKAHEAD, "without MY_NODE_NAME the node's pods are not known: it has no effect");
    }
}
