#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pool;

use std::collections::{BTreeMap, BTreeSet};

use vpc_agent::CloudUse;
use vpc_model::Millis;

use super::sections::{IN_PLACE, all};
use super::table::{OnBad, Parser};
use super::*;

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// An IPv4 node with these variables besides.
fn node(pairs: &[(&str, &str)]) -> Checked {
    let mut env = env(pairs);
    env.insert("ENABLE_IPv4".to_owned(), "true".to_owned());
    check(&env)
}

fn row<'a>(checked: &'a Checked, name: &str) -> &'a Row {
    checked.rows.iter().find(|row| row.name == name).unwrap()
}

fn bad<'a>(checked: &'a Checked, name: &str) -> Vec<&'a Finding> {
    checked.findings.iter().filter(|f| f.variable == name && f.is_bad()).collect()
}

/// What the chart and the static manifest set on the daemon's container.
const CHART: &[(&str, &str)] = &[
    ("ADDITIONAL_ENI_TAGS", "{}"),
    ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "true"),
    ("AWS_VPC_ENI_MTU", "9001"),
    ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "false"),
    ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "false"),
    ("AWS_VPC_K8S_CNI_LOGLEVEL", "DEBUG"),
    ("AWS_VPC_K8S_CNI_LOG_FILE", "/host/var/log/aws-routed-eni/ipamd.log"),
    ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng"),
    ("AWS_VPC_K8S_CNI_VETHPREFIX", "eni"),
    ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "/var/log/aws-routed-eni/plugin.log"),
    ("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "DEBUG"),
    ("DISABLE_INTROSPECTION", "false"),
    ("DISABLE_METRICS", "false"),
    ("DISABLE_NETWORK_RESOURCE_PROVISIONING", "false"),
    ("ENABLE_IMDS_ONLY_MODE", "false"),
    ("ENABLE_IPv4", "true"),
    ("ENABLE_IPv6", "false"),
    ("ENABLE_MULTI_NIC", "false"),
    ("ENABLE_POD_ENI", "false"),
    ("ENABLE_PREFIX_DELEGATION", "false"),
    ("ENABLE_SUBNET_DISCOVERY", "true"),
    ("NETWORK_POLICY_ENFORCING_MODE", "standard"),
    ("VPC_CNI_VERSION", "v1.23.1"),
    ("WARM_ENI_TARGET", "1"),
    ("WARM_PREFIX_TARGET", "1"),
];

#[test]
fn every_variable_of_the_table_is_read_once_and_its_default_is_good() {
    let checked = check(&Env::new());
    let read: Vec<_> = checked.rows.iter().map(|row| row.name).collect();
    let listed: Vec<_> = all().map(|var| var.name).collect();
    assert_eq!(read, listed);
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
    assert!(checked.rows.iter().all(|row| row.origin == Origin::Default));
    assert!(checked.is_clean(), "{:?}", checked.findings);
}

#[test]
fn the_chart_s_own_environment_is_clean() {
    let checked = check(&env(CHART));
    assert!(checked.is_clean(), "{:?}", checked.findings);
    assert_eq!(checked.settings.network_policy_mode, "standard");
    assert_eq!(checked.settings.conflist.plugin_log_level, "DEBUG");
}

#[test]
fn defaults_are_the_reference_s() {
    let settings = check(&Env::new()).settings;
    assert_eq!(settings.host, HostSettings::default());
    assert_eq!((settings.pool.warm_enis, settings.pool.warm_prefixes), (1, 0));
    assert_eq!((settings.pool.warm_addresses, settings.pool.minimum_addresses), (0, 0));
    assert!(settings.pool.discovery && settings.pool.leaked_cleanup && settings.pool.look_ahead);
    assert_eq!((settings.pool.cloud, settings.pool.custom), (CloudUse::Full, None));
    assert_eq!((settings.pool.max_enis, settings.pool.manage_untagged), (None, true));
    assert_eq!((settings.pool.cooldown, settings.pool.add_wait), (Millis::seconds(30), Millis::seconds(15)));
    assert_eq!(settings.checkpoint, PathBuf::from("/var/run/aws-node/ipam.json"));
    assert_eq!(settings.conflist.conf_dir, PathBuf::from("/host/etc/cni/net.d"));
    assert_eq!(settings.conflist.bin_dir, PathBuf::from("/host/opt/cni/bin"));
    assert_eq!(settings.conflist.mtu, 9001);
    assert_eq!(settings.log.level, LogLevel::Debug);
    assert_eq!(settings.log.to, LogTo::File("/host/var/log/aws-routed-eni/ipamd.log".into()));
    assert_eq!(settings.aws.ec2.attempt_timeout, Duration::from_secs(10));
}

/// Variable, value, what holds then, and whether something is said about it (`true`: it fell back).
const TAKEN_OR_FELL_BACK: &[(&str, &str, &str, bool)] = &[
    // B1: the empty text is a bad value.
    ("ENABLE_BANDWIDTH_PLUGIN", "t", "true", false),
    ("ENABLE_BANDWIDTH_PLUGIN", "TrUe", "false", true),
    ("ENABLE_BANDWIDTH_PLUGIN", " true", "false", true),
    ("ENABLE_BANDWIDTH_PLUGIN", "", "false", true),
    ("MANAGE_UNTAGGED_ENI", "no", "true", true),
    ("ENABLE_POD_ENI", "yes", "false", true),
    // B2 and B3: it counts as not set.
    ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "1", "true", false),
    ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "", "false", false),
    ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "yes", "false", true),
    ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "0", "false", false),
    ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "off", "true", true),
    // I2: so it does here.
    ("WARM_ENI_TARGET", "0", "0", false),
    ("WARM_ENI_TARGET", "+3", "3", false),
    ("WARM_ENI_TARGET", "", "1", false),
    ("WARM_ENI_TARGET", "-1", "1", true),
    ("WARM_ENI_TARGET", "two", "1", true),
    ("WARM_IP_TARGET", "-1", "0", true),
    ("MINIMUM_IP_TARGET", "1.5", "0", true),
    ("MAX_ENI", "2", "2", false),
    ("MAX_ENI", "0", "", true),
    ("MAX_ENI", "-3", "", true),
    ("MAX_ENI", "many", "", true),
    // C13.
    ("HTTP_TIMEOUT", "5", "10", true),
    ("HTTP_TIMEOUT", "12", "12", false),
    ("HTTP_TIMEOUT", "soon", "10", true),
    // C12.
    ("AWS_VPC_K8S_CNI_CONNMARK", "0x100000000", "0x80", true),
    ("AWS_VPC_K8S_CNI_CONNMARK", "0", "0x80", true),
    ("AWS_VPC_K8S_CNI_CONNMARK", "-1", "0x80", true),
    ("AWS_VPC_K8S_CNI_CONNMARK", "mark", "0x80", true),
    ("AWS_VPC_K8S_CNI_CONNMARK", "", "0x80", false),
    ("AWS_VPC_K8S_CNI_CONNMARK", "0b100", "0x4", false),
    ("AWS_VPC_K8S_CNI_CONNMARK", "0xffffffff", "0xffffffff", false),
    // Words are compared as they are.
    ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "none", "none", false),
    ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "", "prng", false),
    ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "PRNG", "prng", true),
    ("POD_SECURITY_GROUP_ENFORCING_MODE", "standard", "standard", false),
    ("POD_SECURITY_GROUP_ENFORCING_MODE", "Standard", "strict", true),
    ("POD_SECURITY_GROUP_ENFORCING_MODE", "", "strict", true),
    // Levels are not.
    ("AWS_VPC_K8S_CNI_LOGLEVEL", "WARN", "Warn", false),
    ("AWS_VPC_K8S_CNI_LOGLEVEL", "verbose", "Debug", true),
    ("AWS_VPC_K8S_CNI_LOGLEVEL", "", "Debug", false),
    ("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "info", "info", false),
    ("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "loud", "Debug", true),
    // A place where no API server can be.
    ("CLUSTER_ENDPOINT", "https://api.example:6443", "https://api.example:6443", false),
    ("CLUSTER_ENDPOINT", "not a place", "", true),
    // Above the plugin's patience.
    ("VPC_CNI_ADD_WAIT", "3", "3", false),
    ("VPC_CNI_ADD_WAIT", "0", "0", false),
    ("VPC_CNI_ADD_WAIT", "45", "45", false),
    ("VPC_CNI_ADD_WAIT", "46", "45", true),
    ("VPC_CNI_ADD_WAIT", "9223372036854775807", "45", true),
];

#[test]
fn a_value_is_taken_or_the_reference_s_default_holds_and_is_named() {
    for (name, value, holds, said) in TAKEN_OR_FELL_BACK {
        let checked = node(&[(name, value)]);
        assert!(checked.may_start(), "{name}={value}: {:?}", checked.findings);
        assert_eq!(row(&checked, name).value, *holds, "{name}={value}");
        let findings = bad(&checked, name);
        assert_eq!(!findings.is_empty(), *said, "{name}={value}: {findings:?}");
        for finding in findings {
            let text = finding.to_string();
            assert!(text.starts_with(&format!("{name}=`{value}`: ")) && text.contains("expected "), "{text}");
            assert_eq!(finding.verdict, Verdict::FellBack { to: (*holds).to_owned() });
        }
        assert_eq!(checked.is_clean(), !said, "{name}={value}");
    }
}

/// Where the reference exits, and our own variables.
const REFUSED: &[(&str, &str)] = &[
    ("IP_COOLDOWN_PERIOD", "-1"),
    ("IP_COOLDOWN_PERIOD", "30s"),
    ("IP_COOLDOWN_PERIOD", ""),
    ("AWS_VPC_ENI_MTU", ""),
    ("AWS_VPC_ENI_MTU", "575"),
    ("AWS_VPC_ENI_MTU", "9002"),
    ("AWS_VPC_ENI_MTU", "jumbo"),
    ("POD_MTU", "0"),
    ("POD_MTU", "9002"),
    ("POD_MTU", ""),
    ("AWS_VPC_K8S_CNI_VETHPREFIX", "fivec"),
    ("AWS_VPC_K8S_CNI_VETHPREFIX", "eth"),
    ("AWS_VPC_K8S_CNI_VETHPREFIX", "lo"),
    ("AWS_VPC_K8S_CNI_VETHPREFIX", "vlan"),
    ("AWS_VPC_K8S_CNI_VETHPREFIX", "a/b"),
    ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "stdout"),
    ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "STDOUT"),
    ("AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE", "stdout"),
    ("NETWORK_POLICY_ENFORCING_MODE", ""),
    ("NETWORK_POLICY_ENFORCING_MODE", "lenient"),
    ("AWS_ENDPOINT_URL_EC2", "lab:8080"),
    ("AWS_EC2_ENDPOINT", "lab"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "169.254.169.254"),
    ("AWS_MAX_ATTEMPTS", "0"),
    ("VPC_CNI_ADD_WAIT", "-1"),
    ("VPC_CNI_ADD_WAIT", "15s"),
    ("VPC_CNI_HOST_LAYOUT", "flat"),
    ("VPC_CNI_CONF_VERSION", "1.0.0"),
    ("VPC_CNI_CONF_VERSION", "1.1"),
    ("VPC_CNI_CONF_VERSION", "latest"),
    ("VPC_CNI_HOST_LAYOUT", "Classic"),
    ("VPC_CNI_PACKET_FILTER", "iptables"),
    ("ENABLE_IPv6", "true"),
    ("ENABLE_PREFIX_DELEGATION", "true"),
    ("ENABLE_POD_ENI", "1"),
    ("ENABLE_MULTI_NIC", "true"),
    ("ANNOTATE_POD_IP", "true"),
];

#[test]
fn a_value_the_daemon_can_not_run_with_is_refused_by_name() {
    for (name, value) in REFUSED {
        let checked = node(&[(name, value)]);
        assert!(!checked.may_start() && !checked.is_clean(), "{name}={value}");
        let refusals: Vec<_> =
            bad(&checked, name).into_iter().filter(|f| f.is_fatal()).map(ToString::to_string).collect();
        assert!(!refusals.is_empty(), "{name}={value}: {:?}", checked.findings);
        assert!(refusals[0].starts_with(&format!("{name}=`{value}`: ")), "{refusals:?}");
        assert!(refusals[0].contains("expected "), "{refusals:?}");
    }
}

/// Acceptance cases of the configuration's specification, by number; C11 and C14 are the conflist's.
mod acceptance {
    use super::*;

    #[test]
    fn c1_without_a_family_the_node_is_ipv4_and_says_so() {
        let checked = check(&Env::new());
        assert!(checked.may_start() && checked.is_clean());
        assert_eq!(row(&checked, "ENABLE_IPv4").value, "true");
        assert!(checked.findings.iter().any(|f| f.variable == "ENABLE_IPv4" && f.verdict == Verdict::Note));
        for pair in [
            &[("ENABLE_IPv4", "false")][..],
            &[("ENABLE_IPv6", "false")],
            &[("ENABLE_IPv4", "yes")],
            &[("ENABLE_IPv4", "")],
            &[("ENABLE_IPv4", "false"), ("ENABLE_IPv6", "false")],
            &[("ENABLE_IPv4", "true"), ("ENABLE_IPv6", "true")],
        ] {
            assert!(!check(&env(pair)).may_start(), "{pair:?}");
        }
    }

    #[test]
    fn c2_c3_c4_prefix_delegation_asks_for_a_target_that_is_a_number() {
        let delegation = |target: &[(&str, &str)]| {
            let mut all = vec![("ENABLE_PREFIX_DELEGATION", "true")];
            all.extend(target);
            node(&all)
        };
        for target in ["WARM_PREFIX_TARGET", "WARM_IP_TARGET", "MINIMUM_IP_TARGET"] {
            assert!(delegation(&[(target, "1")]).may_start(), "{target}");
            // The reference takes the first three of these: it compares texts.
            for rubbish in ["abc", "0.5", "00", " 1", "", "0"] {
                let checked = delegation(&[(target, rubbish)]);
                let said = bad(&checked, "ENABLE_PREFIX_DELEGATION");
                assert!(!checked.may_start() && said.len() == 1, "{target}={rubbish}");
                let named = rubbish.is_empty() || said[0].to_string().contains(&format!("{target}=`{rubbish}`"));
                assert!(named, "{}", said[0]);
            }
        }
        assert!(!delegation(&[]).may_start());
    }

    #[test]
    fn c5_the_least_mtu_is_the_family_s() {
        assert!(node(&[("POD_MTU", "1200")]).may_start());
        let v6 = check(&env(&[("ENABLE_IPv6", "true"), ("ENABLE_IPv4", "false"), ("POD_MTU", "1200")]));
        assert_eq!(bad(&v6, "POD_MTU").len(), 1);
        assert!(v6.findings.iter().all(|f| f.variable != "ENABLE_IPv4"), "the pair itself is right");
    }

    #[test]
    fn c6_pods_get_the_enis_mtu_unless_told() {
        let checked = node(&[("AWS_VPC_ENI_MTU", "1500")]);
        assert_eq!((checked.settings.host.eni_mtu, checked.settings.conflist.mtu), (1500, 1500));
        let larger = node(&[("AWS_VPC_ENI_MTU", "1500"), ("POD_MTU", "9001")]);
        assert_eq!(larger.settings.conflist.mtu, 9001);
        assert!(larger.findings.iter().any(|f| f.variable == "POD_MTU" && f.verdict == Verdict::Note));
    }

    #[test]
    fn c7_a_bad_network_is_left_out_and_named() {
        let list = "10.1.2.3/8, bad ,2001:db8::/32,192.168.0.0/16";
        let checked =
            node(&[("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", list), ("AWS_EXTERNAL_SERVICE_CIDRS", "172.20.0.0/16")]);
        let want: Vec<vpc_model::Ipv4Net> =
            ["10.0.0.0/8", "192.168.0.0/16"].iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(checked.settings.host.exclude_snat, want);
        let said = bad(&checked, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS");
        assert_eq!(said.iter().map(|f| f.value.as_deref().unwrap()).collect::<Vec<_>>(), ["bad", "2001:db8::/32"]);
        assert!(checked.may_start() && bad(&checked, "AWS_EXTERNAL_SERVICE_CIDRS").is_empty());
    }

    #[test]
    fn c8_c9_tags_are_texts_and_leave_aws_s_own_keys_alone() {
        let mixed = node(&[("ADDITIONAL_ENI_TAGS", r#"{"a":"1","x.k8s.amazonaws.com/y":"2"}"#)]);
        assert_eq!(mixed.settings.tags.more, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
        assert_eq!(bad(&mixed, "ADDITIONAL_ENI_TAGS").len(), 1);
        assert_eq!(row(&mixed, "ADDITIONAL_ENI_TAGS").origin, Origin::FellBack);
        let refused = node(&[("ADDITIONAL_ENI_TAGS", r#"{"aws:x":"1","":"2","b":"3"}"#)]);
        assert_eq!(refused.settings.tags.more, BTreeMap::from([("b".to_owned(), "3".to_owned())]));
        assert_eq!(bad(&refused, "ADDITIONAL_ENI_TAGS").len(), 2);
        for broken in [r#"{"a":1}"#, r#"{"a":"1","b":null}"#, "{", "[]", "a=b"] {
            let checked = node(&[("ADDITIONAL_ENI_TAGS", broken)]);
            assert!(checked.may_start() && checked.settings.tags.more.is_empty(), "{broken}");
            assert_eq!(bad(&checked, "ADDITIONAL_ENI_TAGS").len(), 1, "{broken}");
        }
    }

    #[test]
    fn c10_the_policy_mode_is_checked_without_case_and_passed_on_as_written() {
        let checked = node(&[("NETWORK_POLICY_ENFORCING_MODE", "Strict")]);
        assert!(checked.is_clean());
        assert_eq!(checked.settings.network_policy_mode, "Strict");
        assert_eq!(node(&[]).settings.network_policy_mode, "");
        assert!(!node(&[("NETWORK_POLICY_ENFORCING_MODE", "")]).may_start());
    }
}

#[test]
fn a_misspelt_variable_is_noticed() {
    for (name, meant) in [
        ("WARM_ENI_TARGT", "WARM_ENI_TARGET"),
        ("ENABLE_IPV4", "ENABLE_IPv4"),
        ("AWS_VPC_K8S_CNI_EXTERNAL_SNAT", "AWS_VPC_K8S_CNI_EXTERNALSNAT"),
        ("MAX_ENIS", "MAX_ENI"),
    ] {
        let checked = node(&[(name, "x")]);
        let said = bad(&checked, name);
        assert_eq!(said.len(), 1, "{name}");
        assert!(said[0].to_string().contains(meant), "{}", said[0]);
    }
    for stranger in ["PATH", "HOSTNAME", "AWS_REGION", "KUBERNETES_SERVICE_HOST", "POD_CPU", "VPC_ID"] {
        assert!(node(&[(stranger, "x")]).findings.is_empty(), "{stranger}");
    }
}

#[test]
fn empty_paths_and_prefixes_mean_what_they_mean_to_the_reference() {
    let checked =
        node(&[("HOST_CNI_BIN_PATH", ""), ("AWS_VPC_K8S_CNI_VETHPREFIX", ""), ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "")]);
    assert!(checked.is_clean());
    assert_eq!(checked.settings.conflist.bin_dir, PathBuf::from("/"));
    assert_eq!(checked.settings.host.veth_prefix.as_str(), "");
    assert_eq!(checked.findings.iter().filter(|f| f.verdict == Verdict::Note).count(), 2);
}

#[test]
fn parsers_agree_with_the_table_about_the_empty_text() {
    for var in all().filter(|var| matches!(var.parser, Parser::B1 | Parser::I1)) {
        let checked = check(&env(&[("ENABLE_IPv4", "true"), (var.name, "")]));
        assert!(!bad(&checked, var.name).is_empty(), "{}", var.name);
        assert!(var.on_bad == OnBad::Default || !checked.may_start(), "{}", var.name);
    }
    for var in all().filter(|var| var.parser.empty_is_unset()) {
        let (empty, unset) = (node(&[(var.name, "")]), node(&[]));
        assert_eq!(row(&empty, var.name), row(&unset, var.name), "{}", var.name);
        assert!(bad(&empty, var.name).is_empty(), "{}", var.name);
    }
}
