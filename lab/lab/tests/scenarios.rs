//! Scenario files: checked whole, played in time, and the ready ones on labs with our own daemon and plugin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Command, Output};
use std::time::Duration;

use common::nobody::{real_programs, skip};
use common::{options, start, vpc_lab, with_toys};
use vpc_lab::fault::{FaultState, READY_SCENARIOS, ReadyScenario, Scenario, play};
use vpc_lab::topology::TopologyFile;
use vpc_lab::{Lab, StartOptions};

/// A short one for toys.
const SHORT: &str = r#"
about = "a bit of everything"
[[steps]]
at = "100ms"
fault = "cut"
node = "a"
from = "ec2"
for = "300ms"
[[steps]]
at = "0s"
do = "pod-scale"
node = "a"
count = 3
[[steps]]
at = "150ms"
do = "pod-add"
node = "b"
pod = "default/one"
[[steps]]
at = "200ms"
fault = "power-cut"
node = "p"
[[steps]]
at = "250ms"
do = "pod-del"
node = "b"
pod = "default/never"
[[steps]]
at = "900ms"
do = "lift-all"
"#;

fn command(lab: &Lab, arguments: &[&str]) -> Output {
    Command::new(vpc_lab()).args(["--lab", &lab.place().name]).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_scenario_is_played_step_by_step() {
    let lab = start(&with_toys());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("short.toml");
    std::fs::write(&file, SHORT).unwrap();
    let path = file.to_str().unwrap();

    let dry = command(&lab, &["fault", "run", "--dry-run", path]);
    let said = text(&dry.stdout);
    assert!(dry.status.success() && said.starts_with("a bit of everything\n"), "{dry:?}");
    let order: Vec<_> = said.lines().skip(1).map(|line| line.split_once(" s  ").unwrap().1).collect();
    let steps = [
        "pod-scale a 3",
        "cut from=ec2 how=drop node=a for 300ms",
        "pod-add b default/one",
        "power-cut node=p",
        "pod-del b default/never",
        "lift-all",
    ];
    assert_eq!(order, steps);
    assert!(lab.faults().unwrap().is_empty() && lab.status().unwrap().nodes[0].pods.is_empty(), "nothing has happened");

    let played = command(&lab, &["fault", "run", path]);
    let said = text(&played.stdout);
    assert!(played.status.success(), "{said}{}", text(&played.stderr));
    for line in
        ["3 made, 0 deleted, 0 failed", "(cut) lifted", "default/one: 10.20.8.99", "there is no pod default/never"]
    {
        assert!(said.contains(line), "{line} not in:\n{said}");
    }
    let status = lab.status().unwrap();
    assert_eq!(status.nodes.iter().map(|node| node.pods.len()).sum::<usize>(), 4);
    assert!(status.nodes.iter().all(|node| node.on));
    assert!(status.faults.len() == 2 && status.faults.iter().all(|fault| fault.state == FaultState::Lifted));
    let calls = text(&command(&lab, &["calls"]).stdout);
    assert!(
        calls.contains("* fault begins: cut from=ec2 how=drop node=a") && calls.contains("* fault lifted: power-cut")
    );
}

#[test]
fn a_scenario_for_another_lab_is_refused_before_anything_happens() {
    let lab = start(&with_toys());
    for (from, to, wanted) in [
        ("node = \"p\"", "node = \"q\"", "there is no node `q`; there are: a, a2, b, p"),
        ("fault = \"power-cut\"\nnode = \"p\"", "fault = \"subnet-exhausted\"\nsubnet = \"s\"", "private-b"),
    ] {
        let scenario = Scenario::parse(&SHORT.replace(from, to)).unwrap();
        let error = play(&lab, &scenario, |_, _| panic!("something happened")).unwrap_err().to_string();
        assert!(error.contains(wanted) && error.contains("200ms"), "{error}");
    }
    let unknown = command(&lab, &["fault", "run", "no-such-scenario"]);
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("throttled-account"));
    assert!(text(&command(&lab, &["fault", "run"]).stdout).lines().count() == READY_SCENARIOS.len());
    assert!(lab.faults().unwrap().is_empty());
}

#[test]
fn faults_are_typed_listed_and_lifted() {
    let lab = start(&with_toys());
    let ok = |arguments: &[&str]| {
        let output = command(&lab, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(ok(&["fault", "list"]), "no faults\n");
    ok(&["fault", "add", "error", "action=AssignPrivateIpAddresses", "when=lost", "times=1"]);
    let line = ok(&["fault", "add", "imds-stale", "node=a", "--for", "1m"]);
    assert!(line.contains("  2  holds") && line.contains("imds-stale node=a"), "{line}");
    ok(&["fault", "add", "kernel-flush", "node=b", "what=rules"]);
    let list = ok(&["fault", "list"]);
    assert!(list.lines().count() == 3 && list.contains("  3  happened"), "{list}");
    let status = ok(&["status"]);
    let shown = ["error action=AssignPrivateIpAddresses", "imds-stale node=a"];
    assert!(shown.iter().all(|fault| status.contains(fault)) && !status.contains("kernel-flush"), "{status}");
    ok(&["fault", "lift", "1"]);
    ok(&["fault", "lift", "--all"]);
    assert_eq!(ok(&["fault", "list"]).matches("lifted").count(), 2);
    let json: serde_json::Value = serde_json::from_str(&ok(&["fault", "list", "--json"])).unwrap();
    assert_eq!(json[1]["fault"]["fault"], "imds-stale");
    for (arguments, wanted) in [
        (&["fault", "add", "flood"][..], "imds-stale"),
        (&["fault", "add", "cut", "node=a", "from=moon"], "ec2, imds, kube, dns, all"),
        (&["fault", "add", "imds-stale", "node=a", "--for", "long"], "1.5s"),
        (&["fault", "lift", "1"], "those that hold: none"),
    ] {
        let output = command(&lab, arguments);
        assert!(!output.status.success() && text(&output.stderr).contains(wanted), "{}", text(&output.stderr));
    }
    let help = ok(&["fault", "add", "--help"]);
    assert!(help.contains("starve") && help.contains("run_ms: runs for so many milliseconds"), "{help}");
}

/// Plays a ready scenario on the built-in topology: it says all it has to say, every pod is gone in the end, and no fault is left.
fn plays(test: &str, name: &str, wanted: &[&str]) {
    let programs = match real_programs() {
        Ok(programs) => programs,
        Err(reason) => return skip(test, &reason),
    };
    let mut file = TopologyFile::built_in().unwrap();
    file.nodes.truncate(2);
    let (lab, warnings) =
        Lab::start(&file.resolve().unwrap(), &StartOptions { programs: Some(programs), ..options() }).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let scenario = Scenario::parse(ReadyScenario::named(name).unwrap().text).unwrap();
    let mut said = Vec::new();
    let played = play(&lab, &scenario, |at: Duration, text: &str| said.push(format!("{at:?} {text}")));
    let said = said.join("\n");
    assert!(played.is_ok(), "{played:?}\n{said}");
    assert!(wanted.iter().all(|piece| said.contains(piece)), "{wanted:?} not in:\n{said}");
    let status = lab.status().unwrap();
    assert!(status.nodes.iter().all(|node| node.pods.is_empty()), "{said}\n{:?}", status.nodes);
    assert!(status.faults.iter().all(|fault| fault.state != FaultState::Active), "{said}");
    assert!(status.nodes.iter().all(|node| node.daemon.as_ref().is_some_and(|daemon| daemon.pid.is_some())), "{said}");
}

#[test]
fn pods_come_while_the_account_is_throttled() {
    let made = ["12 made, 0 deleted, 0 failed", "(throttle) lifted after"];
    plays("pods_come_while_the_account_is_throttled", "throttled-account", &made);
}

#[test]
fn pods_come_while_imds_is_in_trouble() {
    plays(
        "pods_come_while_imds_is_in_trouble",
        "imds-in-trouble",
        &["6 made, 0 deleted, 0 failed", "(imds-stale) lifted"],
    );
}

#[test]
fn a_subnet_fills_up_and_is_free_again() {
    plays("a_subnet_fills_up_and_is_free_again", "subnet-fills-up", &["(subnet-exhausted) lifted", "0 failed"]);
}

#[test]
fn a_daemon_dies_under_load() {
    plays(
        "a_daemon_dies_under_load",
        "daemon-dies",
        &["10 made, 0 deleted, 0 failed", "(kill): killed", "patient: 10.20."],
    );
}

#[test]
fn answers_are_lost() {
    plays("answers_are_lost", "lost-answers", &["14 made, 0 deleted, 0 failed", "14 deleted"]);
}

#[test]
fn a_node_reboots_under_load() {
    plays("a_node_reboots_under_load", "reboot-under-load", &["(reboot): the node is ready again", "8 deleted"]);
}
