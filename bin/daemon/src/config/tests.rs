use vpc_agent::CloudUse;

use super::*;
use crate::settings::{Env, check};

fn of(instance_type: &str, pairs: &[(&str, &str)]) -> (Config, Vec<String>) {
    let env: Env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let checked = check(&env);
    assert!(checked.may_start(), "{:?}", checked.findings);
    let machine = Machine::new("i-0123456789abcdef0".parse().unwrap(), instance_type, 7);
    let (config, findings) = config(&checked.settings, &machine);
    (config, findings.iter().map(ToString::to_string).collect())
}

#[test]
fn the_target_that_governs() {
    let prefixes = ("ENABLE_PREFIX_DELEGATION", "true");
    for (pairs, unit, warm) in [
        (&[][..], Unit::Address, WarmTarget::Enis(1)),
        (&[("WARM_ENI_TARGET", "0"), ("WARM_PREFIX_TARGET", "3")], Unit::Address, WarmTarget::Enis(0)),
        (&[("WARM_IP_TARGET", "5")], Unit::Address, WarmTarget::Addresses { warm: 5, minimum: 0 }),
        (&[("MINIMUM_IP_TARGET", "9")], Unit::Address, WarmTarget::Addresses { warm: 0, minimum: 9 }),
        (&[prefixes, ("WARM_PREFIX_TARGET", "2"), ("WARM_ENI_TARGET", "3")], Unit::Prefix, WarmTarget::Prefixes(2)),
        (
            &[prefixes, ("WARM_PREFIX_TARGET", "2"), ("WARM_IP_TARGET", "1"), ("MINIMUM_IP_TARGET", "30")],
            Unit::Prefix,
            WarmTarget::Addresses { warm: 1, minimum: 30 },
        ),
    ] {
        let (config, _) = of("m5.large", pairs);
        assert_eq!((config.target.unit, config.target.warm), (unit, warm), "{pairs:?}");
    }
}

#[test]
fn limits_are_those_of_the_type_or_of_max_eni() {
    let (config, said) = of("m5.large", &[("MAX_ENI", "2")]);
    assert_eq!((config.target.max_enis, config.target.slots_per_eni, config.limits_known), (2, 9, true));
    assert_eq!(config.target.max_pods, Some(29), "3 ENIs of 9 secondary addresses, and two pods on the host's network");
    assert!(said.is_empty());
    let (config, said) = of("m5.large", &[("MAX_ENI", "4")]);
    assert_eq!(config.target.max_enis, 3);
    assert_eq!(said, ["MAX_ENI=`4`: the limit of m5.large wins: 3 ENIs"]);
}

#[test]
fn a_type_nobody_knows_has_upper_bounds_and_may_take_prefixes() {
    let (config, said) = of("m99.large", &[("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")]);
    assert!(!config.limits_known && said.is_empty());
    assert_eq!((config.target.unit, config.without_prefixes), (Unit::Prefix, None));
    assert_eq!(config.target.max_pods, Some(110));
    for known in vpc_model::all_instance_limits() {
        assert!(known.max_enis <= config.target.max_enis, "{}", known.instance_type);
        assert!(known.slots_per_eni() <= config.target.slots_per_eni, "{}", known.instance_type);
    }
}

#[test]
fn a_type_without_prefixes_gets_single_addresses_and_the_reason() {
    let wanted = [("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")];
    let (xen, _) = of("m4.4xlarge", &wanted);
    assert_eq!((xen.target.unit, xen.target.warm), (Unit::Address, WarmTarget::Enis(1)));
    assert!(xen.without_prefixes.is_some_and(|why| why.contains("m4.4xlarge")));
    let (metal, _) = of("a1.metal", &wanted);
    assert_eq!((metal.target.unit, metal.without_prefixes), (Unit::Prefix, None));
    assert_eq!(of("m4.4xlarge", &[]).0.without_prefixes, None, "nobody asked for prefixes");
}

#[test]
fn a_target_beyond_the_type_is_said() {
    for (pair, about) in [
        (("WARM_IP_TARGET", "28"), "WARM_IP_TARGET"),
        (("MINIMUM_IP_TARGET", "28"), "MINIMUM_IP_TARGET"),
        (("WARM_ENI_TARGET", "4"), "WARM_ENI_TARGET"),
    ] {
        let (_, said) = of("m5.large", &[pair]);
        assert!(said.len() == 1 && said[0].starts_with(about) && said[0].contains("27 addresses"), "{said:?}");
    }
    assert!(of("m5.large", &[("WARM_IP_TARGET", "27")]).1.is_empty());
    let prefixes = [("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "28")];
    assert!(of("m5.large", &prefixes).1[0].starts_with("WARM_PREFIX_TARGET"));
}

#[test]
fn leaked_enis_are_looked_for_where_something_may_be_given_back() {
    for (pairs, looked_for) in [
        (&[][..], true),
        (&[("DISABLE_LEAKED_ENI_CLEANUP", "true")], false),
        (&[("ENABLE_IMDS_ONLY_MODE", "true")], false),
        (&[("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true")], false),
        (&[("VPC_CNI_EC2", "no-release")], false),
    ] {
        assert_eq!(of("m5.large", pairs).0.leaked_cleanup, looked_for, "{pairs:?}");
    }
}

#[test]
fn places_tags_and_the_rest_are_passed_on() {
    let (config, _) = of(
        "m5.large",
        &[
            ("CLUSTER_NAME", "prod"),
            ("ADDITIONAL_ENI_TAGS", r#"{"team":"net"}"#),
            ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true"),
            ("ENABLE_SUBNET_DISCOVERY", "false"),
            ("MANAGE_UNTAGGED_ENI", "false"),
            ("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "true"),
            ("VPC_CNI_LOOKAHEAD", "false"),
            ("VPC_CNI_EC2", "no-release"),
        ],
    );
    assert!(config.placing.custom.is_some() && !config.placing.discovery);
    assert_eq!(config.placing.cluster.as_deref(), Some("prod"));
    assert_eq!(config.tags.get("team").map(String::as_str), Some("net"));
    assert_eq!(config.tags.get("eks:eni:owner").map(String::as_str), Some("amazon-vpc-cni"));
    assert!(!config.manage_untagged && config.manage_non_schedulable && !config.look_ahead);
    assert_eq!((config.cloud, config.nonce), (CloudUse::NoRelease, 7));
}
