//! Every variable that concerns the pool, with every kind of value; and those that contradict each other.

use super::*;

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// It holds, as this text.
    Takes(&'static str),
    /// This holds instead, and an error line says so.
    Falls(&'static str),
    /// It is taken as it is, and an error line says that it has no effect.
    Idle,
    /// The daemon does not start.
    Exits,
}

use Says::{Exits, Falls, Idle, Takes};

/// Not set, empty, blank, rubbish, negative, 0, huge, good. The good one is with its text.
type Cells = (&'static str, [Says; 7], (&'static str, &'static str));

const HUGE: &str = "99999999999999999999";

/// A target of the reference: whatever is no integer of 0 or more is its default.
const fn target(name: &'static str, default: &'static str) -> Cells {
    let falls = Falls(default);
    (name, [Takes(default), Takes(default), falls, falls, falls, Takes("0"), falls], ("7", "7"))
}

/// A boolean to which the empty text is a bad value.
const fn b1(name: &'static str, default: &'static str, good: (&'static str, &'static str)) -> Cells {
    let falls = Falls(default);
    (name, [Takes(default), falls, falls, falls, falls, Takes("false"), falls], good)
}

/// A boolean to which the empty text is no value.
const fn b2(name: &'static str, default: &'static str, good: (&'static str, &'static str)) -> Cells {
    let falls = Falls(default);
    (name, [Takes(default), Takes(default), falls, falls, falls, Takes("false"), falls], good)
}

const KEY: &str = "k8s.amazonaws.com/eniConfig";

const TABLE: &[Cells] = &[
    target("WARM_ENI_TARGET", "1"),
    target("WARM_IP_TARGET", "0"),
    target("MINIMUM_IP_TARGET", "0"),
    target("WARM_PREFIX_TARGET", "0"),
    ("MAX_ENI", [Takes(""), Takes(""), Falls(""), Falls(""), Falls(""), Falls(""), Falls("")], ("2", "2")),
    ("IP_COOLDOWN_PERIOD", [Takes("30"), Exits, Exits, Exits, Exits, Takes("0"), Exits], ("60", "60")),
    ("VPC_CNI_ADD_WAIT", [Takes("15"), Takes("15"), Exits, Exits, Exits, Takes("0"), Exits], ("20", "20")),
    ("VPC_CNI_RELEASE_INTERVAL", [Takes("30"), Takes("30"), Exits, Exits, Exits, Takes("0"), Exits], ("1", "1")),
    ("VPC_CNI_MIN_ENI_AGE", [Takes("60"), Takes("60"), Exits, Exits, Exits, Takes("0"), Exits], ("1", "1")),
    ("VPC_CNI_AUDIT_INTERVAL", [Takes("60"), Takes("60"), Exits, Exits, Exits, Exits, Exits], ("5", "5")),
    ("VPC_CNI_ORPHAN_AGE", [Takes("65"), Takes("65"), Exits, Exits, Exits, Exits, Exits], ("5", "5")),
    ("VPC_CNI_STRAYS_AFTER", [Takes("60"), Takes("60"), Exits, Exits, Exits, Exits, Exits], ("5", "5")),
    b2("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "false", ("true", "true")),
    b2("ENABLE_SUBNET_DISCOVERY", "true", ("f", "false")),
    b2("AWS_MANAGE_ENIS_NON_SCHEDULABLE", "false", ("T", "true")),
    b1("MANAGE_UNTAGGED_ENI", "true", ("False", "false")),
    b1("DISABLE_NETWORK_RESOURCE_PROVISIONING", "false", ("1", "true")),
    b1("ENABLE_IMDS_ONLY_MODE", "false", ("t", "true")),
    b1("DISABLE_LEAKED_ENI_CLEANUP", "false", ("TRUE", "true")),
    ("VPC_CNI_LOOKAHEAD", [Takes("true"), Takes("true"), Exits, Exits, Exits, Takes("false"), Exits], ("0", "false")),
    ("VPC_CNI_EC2", [Takes("full"), Takes("full"), Exits, Exits, Exits, Exits, Exits], ("no-release", "no-release")),
    ("ENI_CONFIG_ANNOTATION_DEF", [Takes(KEY), Takes(KEY), Idle, Idle, Idle, Takes("0"), Takes(HUGE)], ("a/b", "a/b")),
    ("ENI_CONFIG_LABEL_DEF", [Takes(KEY), Takes(KEY), Idle, Idle, Idle, Takes("0"), Takes(HUGE)], ("zone", "zone")),
    ("CLUSTER_NAME", [Takes(""), Takes(""), Takes(" "), Takes("?!"), Takes("-1"), Takes("0"), Takes(HUGE)], ("c", "c")),
    (
        "ADDITIONAL_ENI_TAGS",
        [Takes("{}"), Takes("{}"), Falls("{}"), Falls("{}"), Falls("{}"), Falls("{}"), Falls("{}")],
        (r#"{"a":"b"}"#, r#"{"a":"b"}"#),
    ),
    ("MY_NODE_NAME", [Takes(""), Takes(""), Idle, Idle, Idle, Takes("0"), Takes(HUGE)], ("node-a.x", "node-a.x")),
    ("MY_POD_NAME", [Takes(""), Takes(""), Idle, Idle, Idle, Takes("0"), Takes(HUGE)], ("aws-node-x", "aws-node-x")),
    (
        "CLUSTER_ENDPOINT",
        [Takes(""), Takes(""), Falls(""), Falls(""), Falls(""), Takes("0"), Takes(HUGE)],
        ("https://[::1]:6443", "https://[::1]:6443"),
    ),
    (
        "VPC_CNI_CONFIG_FILE",
        [Takes(""), Takes(""), Takes(" "), Takes("?!"), Takes("-1"), Takes("0"), Takes(HUGE)],
        ("/x", "/x"),
    ),
];

#[test]
fn every_variable_of_the_pool_with_every_kind_of_value() {
    for (name, kinds, (good, holds)) in TABLE {
        let texts = [None, Some(""), Some(" "), Some("?!"), Some("-1"), Some("0"), Some(HUGE), Some(*good)];
        let says = kinds.iter().copied().chain([Takes(holds)]);
        for (text, says) in texts.into_iter().zip(says) {
            let checked = node(&text.map(|text| (*name, text)).into_iter().collect::<Vec<_>>());
            let (said, row) = (bad(&checked, name), row(&checked, name));
            let loud = said.iter().all(|f| f.to_string().starts_with(&format!("{name}=`{}`: ", text.unwrap_or("?"))));
            assert!(loud, "{name}={text:?}: {said:?}");
            match says {
                Takes(value) => assert!(said.is_empty() && row.value == value, "{name}={text:?}: {row:?} {said:?}"),
                Falls(value) => {
                    assert_eq!((said.len(), &*row.value), (1, value), "{name}={text:?}");
                    assert_eq!(said[0].verdict, Verdict::FellBack { to: value.to_owned() });
                    assert!(row.origin == Origin::FellBack && said[0].matter.contains("expected "), "{said:?}");
                }
                Idle => {
                    assert_eq!((said.len(), Some(&*row.value)), (1, text), "{name}={text:?}");
                    assert_eq!(said[0].verdict, Verdict::Ineffective);
                }
                Exits => assert!(said.len() == 1 && said[0].is_fatal(), "{name}={text:?}: {said:?}"),
            }
            assert_eq!(checked.may_start(), says != Exits, "{name}={text:?}");
        }
    }
}

#[test]
fn every_setting_of_the_pool_is_in_that_table() {
    let tabled: BTreeSet<_> = TABLE.iter().map(|(name, ..)| *name).collect();
    let pool = sections::SECTIONS.iter().filter(|s| ["pool", "places", "kubernetes"].contains(&s.name));
    for var in pool.flat_map(|section| section.variables) {
        // It has tests of its own: with bad targets beside it, it is refused.
        assert!(tabled.contains(var.name) || var.name == "ENABLE_PREFIX_DELEGATION", "{}", var.name);
    }
}

#[test]
fn more_than_a_number_holds_is_as_good_as_a_thousand_million() {
    let pool = node(&[("WARM_ENI_TARGET", "9223372036854775807"), ("MAX_ENI", "5000000000")]).settings.pool;
    assert_eq!((pool.warm_enis, pool.max_enis), (1_000_000_000, Some(1_000_000_000)));
}

type Pairs = &'static [(&'static str, &'static str)];

/// Settings, the variable that is spoken of, and what is said of who wins.
const CONTRADICTIONS: &[(Pairs, &str, &str)] = &[
    (&[("WARM_IP_TARGET", "5"), ("WARM_ENI_TARGET", "1")], "WARM_ENI_TARGET", "WARM_IP_TARGET wins"),
    (&[("MINIMUM_IP_TARGET", "5"), ("WARM_ENI_TARGET", "2")], "WARM_ENI_TARGET", "MINIMUM_IP_TARGET wins"),
    (
        &[("WARM_IP_TARGET", "5"), ("WARM_PREFIX_TARGET", "1"), ("ENABLE_PREFIX_DELEGATION", "true")],
        "WARM_PREFIX_TARGET",
        "WARM_IP_TARGET wins",
    ),
    (
        &[("WARM_ENI_TARGET", "1"), ("WARM_PREFIX_TARGET", "1"), ("ENABLE_PREFIX_DELEGATION", "true")],
        "WARM_ENI_TARGET",
        "WARM_PREFIX_TARGET wins",
    ),
    (&[("WARM_PREFIX_TARGET", "2")], "WARM_PREFIX_TARGET", "ENABLE_PREFIX_DELEGATION, which is off"),
    (&[("MINIMUM_IP_TARGET", "5")], "MINIMUM_IP_TARGET", "without WARM_IP_TARGET nothing is kept ready"),
    (&[("ENABLE_IMDS_ONLY_MODE", "true"), ("VPC_CNI_EC2", "full")], "VPC_CNI_EC2", "ENABLE_IMDS_ONLY_MODE wins"),
    (
        &[("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true"), ("VPC_CNI_EC2", "no-release")],
        "VPC_CNI_EC2",
        "DISABLE_NETWORK_RESOURCE_PROVISIONING wins",
    ),
    (
        &[("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true"), ("VPC_CNI_EC2", "off")],
        "DISABLE_NETWORK_RESOURCE_PROVISIONING",
        "EC2 is not called at all",
    ),
    (
        &[("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true"), ("WARM_IP_TARGET", "5")],
        "WARM_IP_TARGET",
        "DISABLE_NETWORK_RESOURCE_PROVISIONING wins",
    ),
    (&[("VPC_CNI_EC2", "off"), ("WARM_ENI_TARGET", "1")], "WARM_ENI_TARGET", "VPC_CNI_EC2=off wins"),
    (
        &[("ENABLE_IMDS_ONLY_MODE", "true"), ("DISABLE_LEAKED_ENI_CLEANUP", "false")],
        "DISABLE_LEAKED_ENI_CLEANUP",
        "ENABLE_IMDS_ONLY_MODE wins",
    ),
    (&[("VPC_CNI_EC2", "off"), ("MANAGE_UNTAGGED_ENI", "false")], "MANAGE_UNTAGGED_ENI", "all ENIs count as ours"),
    (
        &[("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true"), ("ENABLE_SUBNET_DISCOVERY", "true"), ("MY_NODE_NAME", "n")],
        "ENABLE_SUBNET_DISCOVERY",
        "the ENIConfig wins",
    ),
    (&[("ENI_CONFIG_LABEL_DEF", "zone")], "ENI_CONFIG_LABEL_DEF", "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG, which is off"),
    (&[("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true")], "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "without MY_NODE_NAME"),
    (&[("VPC_CNI_LOOKAHEAD", "true")], "VPC_CNI_LOOKAHEAD", "without MY_NODE_NAME"),
];

#[test]
fn what_contradicts_is_said_with_what_wins_and_the_node_starts() {
    for (pairs, about, words) in CONTRADICTIONS {
        let checked = node(pairs);
        assert!(checked.is_clean(), "{pairs:?}: {:?}", checked.findings);
        let said: Vec<_> = checked.findings.iter().filter(|f| f.variable == *about).map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].contains(words), "{pairs:?}: {:?}", checked.findings);
    }
}

#[test]
fn the_strictest_word_about_ec2_holds() {
    use CloudUse::{Full, NoRelease, Off, ReadOnly};
    let (imds_only, read_only) = (("ENABLE_IMDS_ONLY_MODE", "true"), ("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true"));
    for (pairs, holds) in [
        (&[][..], Full),
        (&[("VPC_CNI_EC2", "no-release")], NoRelease),
        (&[("VPC_CNI_EC2", "off")], Off),
        (&[imds_only], Off),
        (&[read_only], ReadOnly),
        (&[imds_only, read_only, ("VPC_CNI_EC2", "full")], Off),
        (&[read_only, ("VPC_CNI_EC2", "no-release")], ReadOnly),
        (&[read_only, ("VPC_CNI_EC2", "off")], Off),
    ] {
        assert_eq!(node(pairs).settings.pool.cloud, holds, "{pairs:?}");
    }
}

#[test]
fn custom_networking_reads_the_keys_it_is_told() {
    let pool = node(&[("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true"), ("ENI_CONFIG_LABEL_DEF", "zone")]).settings.pool;
    let keys = pool.custom.unwrap();
    assert_eq!((&*keys.annotation, &*keys.label), (KEY, "zone"));
    assert_eq!(node(&[("ENI_CONFIG_LABEL_DEF", "zone")]).settings.pool.custom, None);
}

#[test]
fn a_setting_that_changes_in_place_is_one_of_the_table() {
    let names: BTreeSet<_> = all().map(|var| var.name).collect();
    assert!(IN_PLACE.iter().all(|var| names.contains(var.name)));
    assert_eq!(IN_PLACE.iter().map(|var| var.name).collect::<BTreeSet<_>>().len(), IN_PLACE.len());
}
