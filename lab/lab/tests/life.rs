//! How a lab begins and ends: for everybody, and as one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{SMALL, options, public_copy, start, topology, unique, vpc_lab, with_toys};
use vpc_lab::control::Place;
use vpc_lab::place::LabPlace;
use vpc_lab::tools::PingOptions;
use vpc_lab::{Lab, LabError, StartOptions};

/// Nobody: an ordinary user without a home.
const NOBODY: u32 = 65_534;

/// Process ids of everything that descends from one process, that one included.
fn descendants(of: i32) -> BTreeSet<i32> {
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may contain anything: state, parent.
        stat.rsplit_once(") ")?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all: Vec<i32> =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    let mut found = BTreeSet::from([of]);
    loop {
        let more: Vec<_> = all
            .iter()
            .filter(|pid| !found.contains(pid) && parent(**pid).is_some_and(|p| found.contains(&p)))
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Whether a process runs (one that waits to be buried does not).
fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[track_caller]
fn all_end(pids: &BTreeSet<i32>) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Some(pid) = pids.iter().find(|pid| alive(**pid)) {
        assert!(Instant::now() < deadline, "process {pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn no_mounts_of(place: &LabPlace) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(place.mount_point().to_str().unwrap()), "{mounts}");
    assert_eq!(std::fs::read_dir(place.mount_point()).map_or(0, Iterator::count), 0);
}

#[test]
fn a_killed_supervisor_takes_everything_with_it() {
    let options = StartOptions { dies_with_me: false, ..options() };
    let (lab, _) = Lab::start(&with_toys(), &options).unwrap();
    lab.pod_add("a", &"default/web-0".parse().unwrap(), 1).unwrap();
    lab.run(&Place::Node("b".to_owned()), &["sh", "-c", "sleep 4242 >/dev/null 2>&1 &"]).unwrap();
    let pid = lab.supervisor_pid().unwrap();
    let everything = descendants(pid);
    // The supervisor and the first processes of four nodes at least. (The orphan's parent is its node's first process.)
    assert!(everything.len() >= 6, "{everything:?}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    all_end(&everything);
    no_mounts_of(lab.place());
    assert!(matches!(lab.status(), Err(LabError::Down { .. })));
    // What is left does not stand in the way of the next one of that name.
    let (again, _) = Lab::start(&topology(SMALL), &options).unwrap();
    again.down().unwrap();
    assert!(!lab.place().socket().exists());
}

#[test]
fn a_lab_that_is_ended_leaves_nothing() {
    let lab = start(&with_toys());
    lab.pod_add("a", &"default/web-0".parse().unwrap(), 1).unwrap();
    let everything = descendants(lab.supervisor_pid().unwrap());
    let place = lab.place().clone();
    lab.down().unwrap();
    all_end(&everything);
    no_mounts_of(&place);
    assert!(!place.socket().exists() && !place.is_up());
}

#[test]
fn a_lab_dies_with_whoever_wanted_it() {
    let lab = start(&topology(SMALL));
    let everything = descendants(lab.supervisor_pid().unwrap());
    drop(lab);
    all_end(&everything);
}

#[test]
fn the_command_line_works_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let program = public_copy(dir.path());
    let file = dir.path().join("small.toml");
    std::fs::write(&file, SMALL).unwrap();
    let name = unique("nobody");
    let root = nix::unistd::Uid::effective().is_root();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--lab").arg(&name).args(arguments).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    // Whatever happens to the test, nothing stays behind.
    let _end = scopeguard(|| drop(run(&["down"])));
    let (code, picture, errors) = run(&["up", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{errors}");
    for piece in ["10.20.0.0/16", "└─ ap-northeast-2b", "a · m5.large · i-", "10.20.8.10", "52.78.83.169"] {
        assert!(picture.contains(piece), "{picture}");
    }
    let ping = run(&["exec", "a", "--", "vpc-lab", "tool", "ping", "10.20.16.10"]);
    assert!(ping.1.contains("\"error\": null"), "{ping:?}");
    let (_, text, _) = run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status["nodes"].as_array().unwrap().len(), 4);
    assert_eq!(run(&["exec", "a", "--", "sh", "-c", "id -u; exit 5"]), (Some(5), "0\n".to_owned(), String::new()));
    let answer: serde_json::Value = serde_json::from_str(&ping.1).unwrap();
    // The other node sends 64; each ENI's port on the way takes one.
    let answer = &answer["echoes"][0]["answer"];
    assert!(answer["micros"].is_u64() && answer["ttl"].as_u64().is_some_and(|ttl| ttl == 64), "{ping:?}");
    let (code, _, errors) = run(&["up"]);
    assert!(code == Some(1) && errors.contains("is up already"), "{errors}");
    let (code, _, errors) = run(&["node", "off", "zz"]);
    assert_eq!((code, errors.as_str()), (Some(1), "vpc-lab: there is no node `zz`; there are: a, a2, b, p\n"));
    assert_eq!(run(&["node", "off", "a"]).0, Some(0));
    assert!(run(&["status"]).1.contains("no power"));
    let (code, out, errors) = run(&["down"]);
    assert_eq!((code, out, errors), (Some(0), String::new(), String::new()));
    let (code, _, errors) = run(&["status"]);
    assert!(code == Some(1) && errors.contains("is not up") && errors.contains("vpc-lab up"), "{errors}");
}

/// Does something when the test ends, also when it fails.
fn scopeguard<F: Fn()>(work: F) -> impl Drop {
    struct Guard<F: Fn()>(F);
    impl<F: Fn()> Drop for Guard<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    Guard(work)
}

#[test]
fn a_bad_file_is_refused_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, SMALL.replace("10.20.16.0/22", "10.20.8.0/22")).unwrap();
    let name = unique("bad");
    let up = |file: &Path| Command::new(vpc_lab()).args(["up", "--lab", &name]).arg(file).output().unwrap();
    let said = String::from_utf8(up(&file).stderr).unwrap();
    assert!(
        said.contains("bad.toml") && said.contains("subnets.private-b.cidr") && said.contains("overlaps"),
        "{said}"
    );
    assert!(!LabPlace::of(&name).unwrap().is_up());
    let said = String::from_utf8(up(Path::new("/no/such.toml")).stderr).unwrap();
    assert!(said.contains("/no/such.toml"), "{said}");
}

#[test]
fn a_lab_is_up_in_a_moment() {
    let start_at = Instant::now();
    let lab = start(&with_toys());
    lab.pod_add("a", &"default/web-0".parse().unwrap(), 1).unwrap();
    // Generous: this is about seconds that somebody waits for, not about a figure.
    assert!(start_at.elapsed() < Duration::from_secs(10), "{:?}", start_at.elapsed());
    assert!(
        lab.ping(&Place::Node("a".to_owned()), "10.20.16.10".parse().unwrap(), &PingOptions::count(1))
            .unwrap()
            .all_answered()
    );
}
