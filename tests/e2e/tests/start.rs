//! How a daemon starts: when the runtime hears of it, what it asks before, and how it ends where it can not know its node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use e2e::lab::{Lab, User};
use e2e::{skip, wait_until};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);

/// A lab with one node, whose daemon has these settings.
fn lab(user: &User, folder: &tempfile::TempDir, env: &str) -> Lab {
    let topology = format!(
        r#"
[vpc]
cidrs = ["10.20.0.0/16"]
[[subnets]]
name = "private-a"
zone = "ap-northeast-2a"
cidr = "10.20.8.0/22"
[[nodes]]
name = "node-a"
subnet = "private-a"
instance_type = "m5.large"
env = {env}
"#
    );
    let file: PathBuf = folder.path().join("topology.toml");
    fs::write(&file, topology).unwrap();
    Lab::up(user, Some(&file)).unwrap()
}

/// What the daemon wrote since it was last started: the lines of its log.
fn last_life(lab: &Lab) -> Vec<Value> {
    let all = lab.must(&["logs", "node-a"]).unwrap();
    let lines: Vec<Value> =
        all.lines().filter_map(|line| serde_json::from_str(&line[line.find('{')?..]).ok()).collect();
    let start = lines.iter().rposition(|line| says(line, "aws-k8s-agent starts")).unwrap_or(lines.len());
    lines[start..].to_vec()
}

fn says(line: &Value, words: &str) -> bool {
    line["msg"].as_str().is_some_and(|msg| msg.contains(words))
}

/// Milliseconds from the start of the process to a line.
fn millis_to(life: &[Value], words: &str) -> Option<u64> {
    let at = |line: &Value| {
        let text = line["ts"].as_str()?;
        let clock: Vec<f64> = text[11..].trim_end_matches('Z').split(':').map(|part| part.parse().unwrap()).collect();
        Some(clock[0] * 3_600_000.0 + clock[1] * 60_000.0 + clock[2] * 1000.0)
    };
    let end = life.iter().find(|line| says(line, words))?;
    // A start at midnight is one day short.
    Some((at(end)? - at(&life[0])?).rem_euclid(86_400_000.0) as u64)
}

fn calls(lab: &Lab, service: &str) -> Vec<Value> {
    let all = lab.json(&["calls", "--json", "--node", "node-a"]).unwrap();
    all.as_array().unwrap().iter().filter(|call| call["service"] == service).cloned().collect()
}

/// A node whose other pods leave the daemon 5 ms of every 100: each pod comes and goes at its first attempt, the daemon answers all
/// the while, and nobody has a reason to start it again.
#[test]
fn r51_a_starved_daemon_serves_and_is_not_started_again() {
    const TEST: &str = "r51_a_starved_daemon_serves_and_is_not_started_again";
    let user = match User::myself() {
        Ok(user) => user,
        Err(reason) => return skip(TEST, &reason),
    };
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&user, &folder, r#"{ WARM_ENI_TARGET = "1" }"#);
    let starts = |lab: &Lab| lab.json(&["status", "--json"]).unwrap()["nodes"][0]["daemon"]["starts"].clone();
    let before = starts(&lab);
    lab.must(&["fault", "add", "starve", "node=node-a", "run_ms=5", "stop_ms=95"]).unwrap();
    for round in 0..4 {
        let pod = format!("default/starved-{round}");
        lab.must(&["pod", "add", "node-a", &pod, "--attempts", "1"]).unwrap();
        lab.must(&["pod", "del", "node-a", &pod]).unwrap();
    }
    assert_eq!(starts(&lab), before);
    lab.must(&["fault", "lift", "--all"]).unwrap();
}

/// With IMDS at 50 ms a request and EC2 away: what the checkpoint holds is promised at once.
#[test]
fn a_node_that_starts_again_is_ready_before_ec2_has_answered() {
    const TEST: &str = "a_node_that_starts_again_is_ready_before_ec2_has_answered";
    let user = match User::myself() {
        Ok(user) => user,
        Err(reason) => return skip(TEST, &reason),
    };
    let folder = tempfile::tempdir().unwrap();
    let lab = lab(&user, &folder, "{}");
    lab.must(&["pod", "add", "node-a", "default/web"]).unwrap();
    wait_until(
        "a second ENI",
        LONG,
        || calls(&lab, "ec2"),
        |calls| calls.iter().any(|call| call["action"] == "AttachNetworkInterface"),
    );
    lab.must(&["daemon", "stop", "node-a"]).unwrap();
    lab.must(&["fault", "add", "imds-slow", "node=node-a", "by_ms=50"]).unwrap();
    lab.must(&["fault", "add", "cut", "node=node-a", "from=ec2"]).unwrap();
    let before = calls(&lab, "imds").len();
    lab.must(&["daemon", "start", "node-a"]).unwrap();
    let life =
        wait_until("the conflist", LONG, || last_life(&lab), |life| millis_to(life, "the node is ready").is_some());
    let read = millis_to(&life, "the metadata are read").unwrap();
    let ready = millis_to(&life, "the node is ready").unwrap();
    println!(
        "IMDS at 50 ms, EC2 away: metadata read after {read} ms, conflist after {ready} ms, {} requests to IMDS",
        calls(&lab, "imds").len() - before
    );
    let reachable = life.iter().any(|line| says(line, "DescribeNetworkInterfaces") && line["ok"] == "true");
    assert!(!reachable, "EC2 was away");
    lab.must(&["pod", "add", "node-a", "default/second"]).unwrap();
}

#[test]
fn without_ec2_means_not_one_call_and_no_credentials() {
    const TEST: &str = "without_ec2_means_not_one_call_and_no_credentials";
    let user = match User::myself() {
        Ok(user) => user,
        Err(reason) => return skip(TEST, &reason),
    };
    for setting in [r#"ENABLE_IMDS_ONLY_MODE = "true""#, r#"VPC_CNI_EC2 = "off""#] {
        let folder = tempfile::tempdir().unwrap();
        let lab = lab(&user, &folder, &format!("{{ {setting}, VPC_CNI_ADD_WAIT = \"1\" }}"));
        wait_until("a start", LONG, || last_life(&lab), |life| millis_to(life, "the node is ready").is_some());
        // There is nothing to give: the pod waits for its time and is refused, again and again.
        let add = ["pod", "add", "node-a", "default/web", "--lab", lab.name()];
        let mut waiting = user.vpc_lab(&add).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("a refusal", LONG, || last_life(&lab), |life| life.iter().any(|line| says(line, "no address for")));
        waiting.kill().unwrap();
        waiting.wait().unwrap();
        let asked = calls(&lab, "ec2");
        assert!(asked.is_empty(), "{setting}: {asked:#?}");
        let credentials: Vec<_> = calls(&lab, "imds")
            .into_iter()
            .filter(|call| call["action"].as_str().is_some_and(|path| path.contains("security-credentials")))
            .collect();
        assert!(credentials.is_empty(), "{setting}: {credentials:#?}");
    }
}
