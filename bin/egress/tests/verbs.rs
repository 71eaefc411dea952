//! The program as a runtime calls it: every verb, off and on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const VERBS: [&str; 5] = ["ADD", "DEL", "CHECK", "STATUS", "GC"];

fn call(verb: &str, input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_egress-cni"))
        .env_clear()
        .envs([("CNI_COMMAND", verb), ("CNI_CONTAINERID", "c-1"), ("CNI_NETNS", "/var/run/netns/none")])
        .envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", "/opt/cni/bin"), ("CNI_ARGS", "X=1")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // VERSION reads nothing and may be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn error(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The configuration as a runtime hands it on, of the list that the daemon writes.
fn config(version: &str, enabled: &str, log: &Path) -> Value {
    let ip = match version {
        "0.1.0" | "0.2.0" => json!({"ip4": {"ip": "10.20.9.201/32"}, "dns": {}}),
        "1.0.0" | "1.1.0" => json!({
            "interfaces": [{"name": "eni0761ccbeace"}, {"name": "eth0", "mac": "2", "sandbox": "/var/run/netns/none"}],
            "ips": [{"interface": 1, "address": "10.20.9.201/32"}], "dns": {},
        }),
        _ => json!({
            "interfaces": [{"name": "eni0761ccbeace"}, {"name": "eth0", "mac": "2", "sandbox": "/var/run/netns/none"}],
            "ips": [{"version": "4", "interface": 1, "address": "10.20.9.201/32"}], "dns": {},
        }),
    };
    let mut previous = ip;
    previous["cniVersion"] = json!(version);
    json!({
        "cniVersion": version, "name": "aws-cni", "type": "egress-cni", "mtu": "9001", "enabled": enabled,
        "randomizeSNAT": "prng", "nodeIP": "", "ipam": {"type": "host-local", "ranges": [[{"subnet": "fd00::ac:00/118"}]],
        "routes": [{"dst": "::/0"}], "dataDir": "/run/cni/v4pd/egress-v6-ipam"},
        "pluginLogFile": log, "pluginLogLevel": "DEBUG", "prevResult": previous,
    })
}

#[test]
fn off_it_prints_the_previous_result_in_every_version() {
    let log = Path::new("/nowhere/to/be/opened");
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        for (enabled, mtu) in [("false", json!("9001")), ("", json!("many"))] {
            let mut config = config(version, enabled, log);
            config["mtu"] = mtu;
            let output = call("ADD", &config.to_string());
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            assert_eq!(serde_json::from_str::<Value>(stdout(&output)).unwrap(), config["prevResult"], "{version}");
        }
    }
}

/// As the reference takes it, and said.
#[test]
fn what_is_neither_true_nor_false_is_off_and_told_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("egress-v6-plugin.log");
    let input = config("1.0.0", "TRUE", &log);
    let output = call("ADD", &input.to_string());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(serde_json::from_str::<Value>(stdout(&output)).unwrap(), input["prevResult"]);
    let lines = std::fs::read_to_string(&log).unwrap();
    assert!(lines.contains("`enabled` is `TRUE`: expected") && lines.lines().count() == 1, "{lines}");
}

/// A DEL that fails here would keep `aws-cni`, which stands before it in the list, from its own.
#[test]
fn a_value_of_the_wrong_type_fails_every_verb_but_del_and_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("egress-v6-plugin.log");
    for wrong in [json!(true), json!(5), json!([]), json!({})] {
        let mut input = config("1.1.0", "false", &log);
        input["enabled"] = wrong;
        for verb in VERBS {
            let output = call(verb, &input.to_string());
            if verb == "DEL" {
                assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
            } else {
                let error = error(&output);
                assert!(
                    error["code"] == 6 && error["msg"].as_str().unwrap().contains("`enabled` is"),
                    "{verb}: {error}"
                );
            }
        }
        let lines = std::fs::read_to_string(&log).unwrap();
        assert_eq!(lines.lines().filter(|line| line.contains("`enabled` is")).count(), VERBS.len(), "{lines}");
        std::fs::remove_file(&log).unwrap();
    }
}

#[test]
fn a_result_that_nobody_can_hear_is_no_success() {
    let input = config("1.0.0", "false", Path::new("")).to_string();
    for redirection in [">&-", "1</dev/null"] {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("exec {} {redirection}", env!("CARGO_BIN_EXE_egress-cni"))])
            .envs([("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c-1"), ("CNI_NETNS", "/var/run/netns/none")])
            .envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", "/opt/cni/bin")])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{redirection}");
    }
}

#[test]
fn off_every_other_verb_succeeds_without_a_word() {
    for verb in &VERBS[1..] {
        let output = call(verb, &config("1.1.0", "false", Path::new("/nowhere")).to_string());
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{verb}: {output:?}");
    }
    for (verb, version) in [("CHECK", "0.3.1"), ("STATUS", "1.0.0"), ("GC", "0.4.0")] {
        let error = error(&call(verb, &config(version, "false", Path::new("")).to_string()));
        assert_eq!((&error["code"], &error["cniVersion"]), (&json!(1), &json!(version)), "{error}");
    }
}

#[test]
fn on_it_is_refused_by_the_key_s_name_and_keeps_no_pod_from_being_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("egress-v6-plugin.log");
    let input = config("1.1.0", "true", &log).to_string();
    for (verb, code) in [("ADD", 2), ("CHECK", 2), ("STATUS", 50)] {
        let error = error(&call(verb, &input));
        assert_eq!(error["code"], code, "{verb}: {error}");
        let msg = error["msg"].as_str().unwrap();
        assert!(msg.contains("`enabled` is `true`") && msg.contains("ENABLE_V6_EGRESS=false"), "{msg}");
    }
    for verb in ["DEL", "GC"] {
        let output = call(verb, &input);
        assert!(output.status.success() && output.stdout.is_empty(), "{verb}: {output:?}");
    }
    let lines = std::fs::read_to_string(&log).unwrap();
    let levels: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["level"].clone()).collect();
    assert_eq!(levels, ["error", "error", "error", "warn"], "{lines}");
}

#[test]
fn what_is_wrong_is_named() {
    let good = config("0.4.0", "false", Path::new(""));
    let changed = |key: &str, value: Value| {
        let mut config = good.clone();
        config[key] = value;
        error(&call("ADD", &config.to_string()))
    };
    for (key, value, code, word) in [
        ("prevResult", Value::Null, 7, "`prevResult` is missing"),
        ("prevResult", json!({"ips": 1}), 6, "`prevResult` is not usable"),
        ("enabled", json!(true), 6, "`enabled` is a boolean"),
        ("name", json!(""), 7, "`name` is missing"),
        ("cniVersion", json!("2.0.0"), 1, "`2.0.0`"),
    ] {
        let error = changed(key, value);
        assert_eq!(error["code"], code, "{error}");
        assert!(error["msg"].as_str().unwrap().contains(word), "{error}");
    }
    assert_eq!(error(&call("ADD", "{"))["code"], 6);
    assert_eq!(error(&call("FLY", ""))["code"], 4);
}

#[test]
fn version_and_people_are_answered_as_the_reference_answers_them() {
    let output = call("VERSION", "rubbish");
    assert_eq!(
        stdout(&output),
        "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_egress-cni")).env_clear().output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("egress CNI plugin ") && said.contains("0.1.0, 0.2.0"), "{said}");
}
