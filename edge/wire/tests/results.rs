//! Results in the form of every version, printed and read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use vpc_wire::cni::{CniError, CniResult, Dns, ErrorCode, Interface, IpConfig, ResultError, Route, Version};

/// One result with something in every field.
fn full() -> CniResult {
    CniResult {
        interfaces: vec![
            Interface { name: "eni0761ccbeace".into(), ..Interface::default() },
            Interface {
                name: "eth0".into(),
                mac: "2".into(),
                mtu: 9001,
                sandbox: "/var/run/netns/cni-1".into(),
                socket_path: "/run/x.sock".into(),
                pci_id: "0000:00:05.0".into(),
            },
        ],
        ips: vec![
            IpConfig {
                interface: Some(1),
                address: "10.20.10.201/32".parse().unwrap(),
                gateway: Some("169.254.1.1".parse().unwrap()),
            },
            IpConfig { interface: None, address: "2600::5/128".parse().unwrap(), gateway: None },
        ],
        routes: vec![
            Route {
                mtu: 1500,
                advmss: 1460,
                priority: 5,
                table: Some(7),
                scope: Some(253),
                ..Route::new("0.0.0.0/0".parse().unwrap(), Some("169.254.1.1".parse().unwrap()))
            },
            Route::new("::/0".parse().unwrap(), None),
        ],
        dns: Dns {
            nameservers: vec!["10.20.0.2".into()],
            domain: "d".into(),
            search: vec!["s".into()],
            options: vec!["o".into()],
        },
    }
}

fn golden(version: Version) -> Value {
    let dns = json!({"nameservers": ["10.20.0.2"], "domain": "d", "search": ["s"], "options": ["o"]});
    let routes = json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0"}]);
    let interfaces =
        json!([{"name": "eni0761ccbeace"}, {"name": "eth0", "mac": "2", "sandbox": "/var/run/netns/cni-1"}]);
    match version {
        Version::V0_1_0 | Version::V0_2_0 => json!({
            "cniVersion": version.as_str(),
            "ip4": {"ip": "10.20.10.201/32", "gateway": "169.254.1.1", "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]},
            "ip6": {"ip": "2600::5/128", "routes": [{"dst": "::/0"}]},
            "dns": dns,
        }),
        Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => json!({
            "cniVersion": version.as_str(),
            "interfaces": interfaces,
            "ips": [
                {"version": "4", "interface": 1, "address": "10.20.10.201/32", "gateway": "169.254.1.1"},
                {"version": "6", "address": "2600::5/128"},
            ],
            "routes": routes,
            "dns": dns,
        }),
        Version::V1_0_0 => json!({
            "cniVersion": "1.0.0",
            "interfaces": interfaces,
            "ips": [
                {"interface": 1, "address": "10.20.10.201/32", "gateway": "169.254.1.1"},
                {"address": "2600::5/128"},
            ],
            "routes": routes,
            "dns": dns,
        }),
        Version::V1_1_0 => json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "eni0761ccbeace"},
                {"name": "eth0", "mac": "2", "mtu": 9001, "sandbox": "/var/run/netns/cni-1", "socketPath": "/run/x.sock", "pciID": "0000:00:05.0"},
            ],
            "ips": [
                {"interface": 1, "address": "10.20.10.201/32", "gateway": "169.254.1.1"},
                {"address": "2600::5/128"},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "169.254.1.1", "mtu": 1500, "advmss": 1460, "priority": 5, "table": 7, "scope": 253},
                {"dst": "::/0"},
            ],
            "dns": dns,
        }),
    }
}

/// What of [`full`] a version can say.
fn sayable(version: Version) -> CniResult {
    let mut result = full();
    if version < Version::V1_1_0 {
        for interface in &mut result.interfaces {
            *interface = Interface { mtu: 0, socket_path: String::new(), pci_id: String::new(), ..interface.clone() };
        }
        result.routes = result.routes.iter().map(|route| Route::new(route.dst, route.gw)).collect();
    }
    if version < Version::V0_3_0 {
        result.interfaces.clear();
        result.ips[0].interface = None;
    }
    result
}

#[test]
fn every_version_prints_its_own_form_and_reads_it_back() {
    for version in Version::ALL {
        let text = full().to_json(version).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, golden(version), "{version}");
        assert_eq!(CniResult::from_value(&value, version).unwrap(), sayable(version), "{version}");
    }
}

#[test]
fn the_text_is_laid_out_as_the_reference_s() {
    let result = CniResult {
        interfaces: vec![Interface { name: "eni1".into(), ..Interface::default() }],
        ips: vec![IpConfig { interface: Some(0), address: "10.0.0.1/32".parse().unwrap(), gateway: None }],
        ..CniResult::default()
    };
    assert_eq!(
        result.to_json(Version::V0_4_0).unwrap(),
        r#"{
    "cniVersion": "0.4.0",
    "interfaces": [
        {
            "name": "eni1"
        }
    ],
    "ips": [
        {
            "version": "4",
            "interface": 0,
            "address": "10.0.0.1/32"
        }
    ],
    "dns": {}
}"#
    );
}

#[test]
fn an_old_version_refuses_what_it_can_not_say() {
    let mut two = full();
    two.ips[1].address = "10.0.0.9/32".parse().unwrap();
    for (result, v4, v6) in [(two, 2, 0), (CniResult::default(), 0, 0)] {
        for version in [Version::V0_1_0, Version::V0_2_0] {
            let error = result.to_json(version).unwrap_err();
            assert!(matches!(error, ResultError::TooOld { v4: a, v6: b, .. } if (a, b) == (v4, v6)), "{error}");
            assert_eq!(CniError::from(error).code, ErrorCode::IncompatibleVersion);
        }
    }
}

#[test]
fn what_is_not_a_result_is_refused() {
    for (value, version) in [
        (json!([]), Version::V0_4_0),
        (json!("x"), Version::V0_2_0),
        (json!({"ips": [{}]}), Version::V0_4_0),
        (json!({"ips": [{"address": "10.0.0.1"}]}), Version::V1_0_0),
        (json!({"ips": [{"address": "10.0.0.1/33"}]}), Version::V1_0_0),
        (json!({"ips": [{"address": "10.0.0.1/32", "interface": -1}]}), Version::V1_0_0),
        (json!({"ips": [{"address": "10.0.0.1/32", "interface": 0}]}), Version::V1_0_0),
        (json!({"interfaces": [{"name": 5}]}), Version::V0_3_1),
        (json!({"routes": [{"gw": "1.1.1.1"}]}), Version::V0_4_0),
        (json!({"ip4": {"gateway": "10.0.0.1"}}), Version::V0_2_0),
    ] {
        let error = CniResult::from_value(&value, version).unwrap_err();
        assert_eq!(CniError::from(error).code, ErrorCode::Decode, "{value}");
    }
}

/// What is wrong goes to a runtime, and from there into an event: it must not be as long as what somebody sent.
#[test]
fn what_is_wrong_is_said_in_short_whatever_was_sent() {
    let long = json!({ "interfaces": "\u{1}é".repeat(100_000) });
    for version in [Version::V0_2_0, Version::V1_1_0] {
        let wrong = if version == Version::V0_2_0 { json!({ "ip4": "x".repeat(100_000) }) } else { long.clone() };
        let said = CniResult::from_value(&wrong, version).unwrap_err().to_string();
        assert!(said.len() < 1000, "{} bytes", said.len());
        assert!(said.contains("invalid type: string") && said.contains('…') && said.contains("expected"), "{said}");
    }
}

#[test]
fn lists_go_never_made_are_empty_lists() {
    let value = json!({"cniVersion": "0.4.0", "interfaces": null, "ips": null, "routes": null, "dns": null});
    assert_eq!(CniResult::from_value(&value, Version::V0_4_0).unwrap(), CniResult::default());
}
