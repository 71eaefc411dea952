//! Whole labs, used as a person would: many pods and none, another user, two side by side, a sudden end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::lab::{Lab, User};
use e2e::{program, skip, wait_until};
use serde_json::Value;

/// A node of a type that holds many pods (8 ENIs of 29), with the probe in it. Addresses do not rest, so that the pool can follow.
fn one_node(env: &str) -> String {
    let probe = Path::new(env!("CARGO_BIN_EXE_node-probe"));
    format!(
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
instance_type = "m5.4xlarge"
env = {env}
files = [{{ path = "/app/node-probe", source = "{}" }}]
"#,
        probe.display()
    )
}

fn written(folder: &Path, topology: &str) -> PathBuf {
    let file = folder.join("topology.toml");
    fs::write(&file, topology).unwrap();
    file
}

/// Whoever runs the tests, or the reason why not.
macro_rules! user_or_skip {
    ($test:literal) => {
        match User::myself() {
            Ok(user) => user,
            Err(reason) => return skip($test, &reason),
        }
    };
}

#[test]
fn a_hundred_pods_come_and_go_and_the_kernel_is_as_before() {
    let user = user_or_skip!("a_hundred_pods_come_and_go_and_the_kernel_is_as_before");
    let folder = tempfile::tempdir().unwrap();
    // Eight ENIs' worth of free addresses is all the node can have, so it holds all eight from its start to its end, and only pods
    // make a difference.
    let file = written(folder.path(), &one_node(r#"{ WARM_ENI_TARGET = "8", IP_COOLDOWN_PERIOD = "0" }"#));
    let lab = Lab::up(&user, Some(&file)).unwrap();
    let eni_rules = |state: &Value| with(state, "rules", |rule| rule["priority"] == 32765).len();
    let twice = || (observe(&lab), observe(&lab));
    let settled = |(one, two): &(Value, Value)| eni_rules(one) == 7 && one == two;
    let (before, _) = wait_until("eight ENIs", Duration::from_secs(60), twice, settled);
    assert!(with(&before, "links", of_a_pod).is_empty(), "{before:#}");

    lab.must(&["pod", "scale", "node-a", "100"]).unwrap();
    let full = observe(&lab);
    assert_eq!(with(&full, "links", of_a_pod).len(), 100, "{full:#}");
    assert_eq!(with(&full, "routes", |route| route["link"].as_str().unwrap().starts_with("eni")).len(), 100);
    assert_eq!(with(&full, "rules", |rule| rule["priority"] == 512).len(), 100);
    // Pods of the first ENI have no rule of this kind, and it holds 29.
    assert!(with(&full, "rules", |rule| rule["priority"] == 1536).len() >= 71, "{full:#}");

    lab.must(&["pod", "scale", "node-a", "0"]).unwrap();
    wait_until("the kernel after the last pod", Duration::from_secs(30), || observe(&lab), |state| *state == before);
}

#[test]
fn a_user_without_rights_home_or_runtime_folder_has_a_lab_too() {
    const TEST: &str = "a_user_without_rights_home_or_runtime_folder_has_a_lab_too";
    let myself = user_or_skip!("a_user_without_rights_home_or_runtime_folder_has_a_lab_too");
    let folder = tempfile::tempdir().unwrap();
    let user = if nix::unistd::geteuid().is_root() {
        // The checkout may be where nobody may look.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["vpc-lab", "aws-cni", "aws-k8s-agent"] {
            fs::copy(program(name).unwrap(), folder.path().join(name)).unwrap();
        }
        User { programs: folder.path().to_path_buf(), id: Some(65534) }
    } else if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        myself
    } else {
        return skip(TEST, "becoming another user needs root");
    };
    let lab = Lab::up(&user, None).unwrap();
    lab.must(&["pod", "add", "node-a", "default/web"]).unwrap();
    let status = lab.json(&["status", "--json"]).unwrap().to_string();
    assert!(status.contains("default/web") || status.contains("\"web\""), "{status}");
}

#[test]
fn a_daemon_ends_when_told_and_comes_back() {
    let user = user_or_skip!("a_daemon_ends_when_told_and_comes_back");
    let lab = Lab::up(&user, None).unwrap();
    lab.must(&["pod", "add", "node-a", "default/web"]).unwrap();
    lab.must(&["daemon", "stop", "node-a"]).unwrap();
    let ended = &lab.json(&["status", "--json"]).unwrap()["nodes"][0]["daemon"]["ended"];
    assert!(ended.as_str().is_some_and(|how| how.contains("status: 0")), "SIGTERM is an end in good order: {ended}");
    lab.must(&["daemon", "start", "node-a"]).unwrap();
    lab.must(&["pod", "del", "node-a", "default/web"]).unwrap();
    lab.must(&["pod", "add", "node-a", "default/web"]).unwrap();
}

#[test]
fn two_labs_side_by_side_do_not_see_each_other() {
    let user = user_or_skip!("two_labs_side_by_side_do_not_see_each_other");
    let (one, two) = (Lab::up(&user, None).unwrap(), Lab::up(&user, None).unwrap());
    one.must(&["pod", "add", "node-a", "default/only-here"]).unwrap();
    assert!(one.must(&["status"]).unwrap().contains("only-here"));
    assert!(!two.must(&["status"]).unwrap().contains("only-here"));
    one.must(&["down"]).unwrap();
    // The other one works on.
    two.must(&["pod", "add", "node-a", "default/web"]).unwrap();
}

#[test]
fn a_lab_whose_first_process_is_killed_leaves_nothing() {
    let user = user_or_skip!("a_lab_whose_first_process_is_killed_leaves_nothing");
    let lab = Lab::up(&user, None).unwrap();
    lab.must(&["pod", "add", "node-a", "default/web"]).unwrap();
    let supervisor = supervisor(&lab);
    let family = Process::family(supervisor);
    assert!(family.len() > 4, "the lab itself and three daemons run: {family:?}");

    nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor), nix::sys::signal::SIGKILL).unwrap();
    wait_until(
        "processes of a killed lab",
        Duration::from_secs(20),
        || family.iter().filter(|process| process.lives()).collect::<Vec<_>>(),
        Vec::is_empty,
    );
    // And its name is free again.
    assert!(!lab.run(&["status"]).unwrap().status.success(), "a dead lab has no status");
    lab.must(&["up"]).unwrap();
}

/// Process id of the lab's first process, as we see it.
fn supervisor(lab: &Lab) -> i32 {
    let status = lab.json(&["status", "--json"]).unwrap();
    let pid = status["supervisor"].as_i64().unwrap_or_else(|| panic!("no supervisor in {status}"));
    i32::try_from(pid).unwrap()
}

/// Links, routes, rules, neighbours, packet filter and switches of the node, as its kernel has them.
fn observe(lab: &Lab) -> Value {
    lab.json(&["exec", "node-a", "--", "/app/node-probe", "observe"]).unwrap()
}

/// Those of a list that a test is about.
fn with<'a>(state: &'a Value, list: &str, keep: impl Fn(&Value) -> bool) -> Vec<&'a Value> {
    let all = state[list].as_array().unwrap_or_else(|| panic!("no {list} in {state}"));
    all.iter().filter(|item| keep(item)).collect()
}

fn of_a_pod(link: &Value) -> bool {
    link["name"].as_str().unwrap().starts_with("eni")
}

/// A process, told from a later one with the same number by the time it started.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    started: String,
}

impl Process {
    /// The process and all its children and theirs.
    fn family(pid: i32) -> Vec<Self> {
        let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let all: Vec<Self> = numbers.filter_map(Self::read).collect();
        let mut family: Vec<Self> = all.iter().filter(|process| process.pid == pid).cloned().collect();
        let mut seen = 0;
        while let Some(elder) = family.get(seen).map(|process| process.pid) {
            family.extend(all.iter().filter(|process| process.parent == elder).cloned());
            seen += 1;
        }
        family
    }

    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything; behind it: state, parent, and as the 20th the start.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self { pid, parent: fields.get(1)?.parse().ok()?, started: (*fields.get(19)?).to_owned() })
    }

    /// A zombie is dead: somebody else has to bury it.
    fn lives(&self) -> bool {
        let zombie = || fs::read_to_string(format!("/proc/{}/status", self.pid)).is_ok_and(|s| s.contains("State:\tZ"));
        Self::read(self.pid).is_some_and(|now| now.started == self.started) && !zombie()
    }
}
