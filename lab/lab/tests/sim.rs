//! `vpc-lab sim` as people use it: campaigns, replays, and what it says of values that can not be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::vpc_lab;
use lab_sim::History;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn sim(folder: &Path, words: &[&str]) -> Said {
    let mut command = Command::new(vpc_lab());
    command.arg("sim").args(words).current_dir(folder).stdin(Stdio::null());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Said { code: status.code(), out, err }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_campaign_says_its_seed_first_and_at_the_end_what_was_tried() {
    let folder = folder();
    let said = sim(folder.path(), &["--steps", "300", "--seed", "11", "--jobs", "1", "--acts", "20"]);
    assert!(said.out.starts_with("seed 11\n"), "{}", said.out);
    for words in ["steps in", "EC2 calls", "steps/s", "A terminating", "checkpoint-written"] {
        assert!(said.out.contains(words), "no `{words}` in {}", said.out);
    }
    let wrong = said.out.contains("something is wrong");
    assert_eq!(said.code, Some(i32::from(wrong)), "{}", said.out);
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files > 0, wrong, "{}", said.out);
    assert!(!said.err.contains('\r'), "no progress line but on a terminal: {}", said.err);
}

/// Whoever has stopped reading does not make it a good end: too few steps do not reach what must be reached.
#[test]
fn the_exit_code_is_true_also_where_nobody_reads() {
    let folder = folder();
    let mut command = Command::new(vpc_lab());
    command.args(["sim", "--steps", "300", "--seed", "11", "--jobs", "1", "--acts", "20", "--covered"]);
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn the_clouds_calendar_can_be_behind() {
    let folder = folder();
    let text = History::draw(5, 0).to_text().unwrap().replace("act = []\n", "");
    let skewed =
        "[[act]]\nat-ms = 10\ndo = \"fault\"\nfor-ms = 5\n[act.fault]\nfault = \"clock-skew\"\nby_ms = -1000\n";
    std::fs::write(folder.path().join("behind.toml"), format!("{text}\n{skewed}")).unwrap();
    let said = sim(folder.path(), &["--replay", "behind.toml"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
}

#[test]
fn without_a_seed_a_fresh_one_is_drawn_each_time() {
    let folder = folder();
    let seed = || sim(folder.path(), &["--steps", "1", "--acts", "1"]).out.lines().next().unwrap().to_owned();
    assert_ne!(seed(), seed());
}

#[test]
fn a_kept_history_is_told_and_ends_well_once_it_is_mended() {
    let folder = folder();
    let history = History::draw(5, 0);
    let file = folder.path().join("kept.toml");
    std::fs::write(&file, format!("# nothing happens\n{}", history.to_text().unwrap())).unwrap();
    let said = sim(folder.path(), &["--replay", "kept.toml"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("says that the node is ready"), "{}", said.out);
    assert!(said.out.contains("nothing wrong in"), "{}", said.out);
}

#[test]
fn a_value_that_can_not_be_is_named_with_what_is_accepted() {
    let folder = folder();
    let cases: [(&[&str], &[&str]); 15] = [
        (&["--steps", "0"], &["--steps", "a number of steps above 0"]),
        (&["--steps", "many"], &["--steps", "a number of steps above 0"]),
        (&["--jobs", "0"], &["--jobs", "1..=1024"]),
        (&["--seed=-1"], &["--seed", "a whole number from 0"]),
        (&["--seed", "7", "--only", "x"], &["--only", "a whole number from 0"]),
        (&["--acts", "0"], &["--acts", "1..=100000"]),
        (&["--acts", "4294967295"], &["--acts", "1..=100000"]),
        (&["--only", "3"], &["--seed"]),
        (&["--replay", "nowhere.toml"], &["--replay", "nowhere.toml"]),
        (&["--replay", "x.toml", "--steps", "5"], &["--replay", "--steps"]),
        (&["--replay", "/dev/zero"], &["--replay", "/dev/zero"]),
        (&["fleet", "--nodes", "0"], &["--nodes", "1 to 10000"]),
        (&["fleet", "--nodes=-1"], &["--nodes", "1 to 10000"]),
        (&["fleet", "--nodes", "10001"], &["--nodes", "1 to 10000"]),
        (&["fleet", "--nodes", "3", "--plot", "/nowhere/x.svg"], &["--plot", "/nowhere/x-start.svg"]),
    ];
    for (words, expected) in cases {
        let said = sim(folder.path(), words);
        assert_eq!(said.code, Some(2), "{words:?}: {}{}", said.out, said.err);
        for word in expected {
            assert!(said.err.contains(word), "{words:?}: no `{word}` in {}", said.err);
        }
    }
}

#[test]
fn a_file_that_is_no_history_is_told_by_its_field() {
    let folder = folder();
    let text = History::draw(5, 3).to_text().unwrap();
    let calm = text.lines().find(|line| line.starts_with("calm-ms")).unwrap();
    let act = |fields: &str| format!("{text}\n[[act]]\nat-ms = 99000000\n{fields}\n");
    let fault = |fields: &str| act(&format!("do = \"fault\"\nfor-ms = 5\n[act.fault]\n{fields}"));
    let broken = [
        (text.replace("pace = ", "pase = "), "pase"),
        (text.replace("10.20.128.0", "10.99.0.0"), "subnet"),
        ("nodes = 3".to_owned(), "nodes"),
        (text.replace(calm, "calm-ms = 1000000000000"), "calm-ms: `1000000000000` is not accepted: expected 0 to"),
        (text.replace("disk-ms = ", "disk-ms = 9"), "disk-ms"),
        (text.replace("audit-every-ms = 60000", "audit-every-ms = 0"), "node[0].settings.audit-every-ms"),
        (text.replacen("cool-down-ms = ", "cool-down-ms = 9000", 1), "expected 0 to 600000 milliseconds"),
        (act("do = \"reboot\"\nnode = 70"), ".node: `70` is not accepted: expected a node from 0 to"),
        (act("do = \"reboot\"\nnode = 0\naway-ms = 4"), "`away-ms` is not accepted: expected one of at-ms, do, node"),
        (act("do = \"terminate\"\nnode = 0\naway-ms = 999999999"), ".away-ms"),
        (
            fault("fault = \"latency\"\nadd_ms = 5\naction = \"CreateNetworkInterfce\""),
            ".fault: action: `CreateNetworkInterfce`",
        ),
        (fault("fault = \"latency\"\nadd_ms = 5\nnode = \"zzz\""), ".fault: node: there is no"),
        (fault("fault = \"latency\"\nadd_ms = 999999999999"), ".fault.add_ms"),
    ];
    for (broken, field) in broken {
        assert_ne!(broken, text, "{field}");
        std::fs::write(folder.path().join("broken.toml"), broken).unwrap();
        let said = sim(folder.path(), &["--replay", "broken.toml"]);
        assert_eq!(said.code, Some(2), "{field}: {}{}", said.out, said.err);
        assert!(said.err.contains(field), "{field}: {}", said.err);
        assert_eq!(said.err.matches("TOML parse error").count().max(1), 1, "told once: {}", said.err);
    }
}

/// The row of histories is the same for any number of threads.
#[test]
fn the_number_of_jobs_changes_nothing() {
    let folder = folder();
    let said = |jobs: &str| {
        let said =
            sim(folder.path(), &["--steps", "3000", "--seed", "42", "--acts", "40", "--jobs", jobs, "--keep-going"]);
        let figures = said.out.lines().find(|line| line.contains(" histories, ")).unwrap();
        let matrix: Vec<String> = said.out.lines().take_while(|line| *line != figures).map(str::to_owned).collect();
        (figures.split(" EC2 calls").next().unwrap().to_owned(), matrix)
    };
    assert_eq!(said("1"), said("3"));
}

#[test]
fn one_that_is_interrupted_says_what_it_found() {
    let folder = folder();
    let mut command = Command::new(vpc_lab());
    command.args([
        "sim",
        "--steps",
        "1e12",
        "--seed",
        "3",
        "--acts",
        "30",
        "--jobs",
        "1",
        "--keep-going",
        "--kinds",
        "latency",
    ]);
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert_eq!(first, "seed 3\n");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("ended before its time") && rest.contains("steps/s"), "{rest}");
}

#[test]
fn the_history_of_the_document_can_be_played() {
    let document = include_str!("../../../docs/simulation.md");
    let text = document.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = folder();
    std::fs::write(folder.path().join("own.toml"), text).unwrap();
    let said = sim(folder.path(), &["--replay", "own.toml"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("AssignPrivateIpAddresses") || said.out.contains("answers ADD p1"), "{}", said.out);
}
