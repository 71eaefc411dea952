//! `vpc-lab sim` as people use it: campaigns, replays, and what it says of values that can not be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::vpc_lab;
use lab_sim::History;

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
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--steps", "0"], &["--steps", "a number of steps above 0"]),
        (&["--steps", "many"], &["--steps", "a number of steps above 0"]),
        (&["--jobs", "0"], &["--jobs", "1..=1024"]),
        (&["--seed", "-1"], &["-1"]),
        (&["--only", "3"], &["--seed"]),
        (&["--replay", "nowhere.toml"], &["--replay", "nowhere.toml"]),
        (&["--replay", "x.toml", "--steps", "5"], &["--replay", "--steps"]),
        (&["fleet", "--nodes", "0"], &["0 nodes", "1 to 10000"]),
        (&["fleet", "--nodes", "10001"], &["10001 nodes", "1 to 10000"]),
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
    let broken = [
        (text.replace("pace = ", "pase = "), "pase"),
        (text.replace("10.20.128.0", "10.99.0.0"), "subnet"),
        ("nodes = 3".to_owned(), "nodes"),
    ];
    for (text, field) in broken {
        std::fs::write(folder.path().join("broken.toml"), text).unwrap();
        let said = sim(folder.path(), &["--replay", "broken.toml"]);
        assert_eq!(said.code, Some(2), "{field}: {}{}", said.out, said.err);
        assert!(said.err.contains(field), "{field}: {}", said.err);
    }
}
