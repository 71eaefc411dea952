//! Failpoints are in the programs that are built for them, and no trace of them is in others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::process::{Command, Stdio};

use e2e::crash::programs::{Program, Programs, contains, has_failpoints};

/// What failpoints are made of: the variable they obey, the folder of their orders.
const WORDS: [&str; 2] = ["VPC_CNI_FAILPOINT", "/run/vpc-cni-failpoints"];

#[test]
fn a_program_without_the_feature_has_no_word_of_a_failpoint_in_it() {
    const TEST: &str = "a_program_without_the_feature_has_no_word_of_a_failpoint_in_it";
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(reason) => return e2e::skip(TEST, &reason),
    };
    for program in [Program::Plugin, Program::Daemon] {
        let ordinary = match e2e::program(program.name()) {
            Ok(path) => path,
            Err(reason) => return e2e::skip(TEST, &reason),
        };
        // Names of several words: a single one may stand anywhere.
        let names = programs.failpoints(program).unwrap();
        assert!(names.len() >= 20, "{names:?}");
        let names = names.into_iter().filter(|name| name.matches('-').count() >= 2);
        let words: Vec<String> = names.chain(WORDS.map(str::to_owned)).collect();
        let (with, without) = (programs.crashing.join(program.name()), ordinary);
        assert!(has_failpoints(&with).unwrap() && !has_failpoints(&without).unwrap(), "{}", program.name());
        let (with, without) = (fs::read(with).unwrap(), fs::read(without).unwrap());
        for word in words {
            assert!(contains(&with, word.as_bytes()), "{}: `{word}` is not found where it is", program.name());
            assert!(!contains(&without, word.as_bytes()), "{} has `{word}` in it", program.name());
        }
    }
}

#[test]
fn a_program_without_the_feature_obeys_no_order() {
    const TEST: &str = "a_program_without_the_feature_obeys_no_order";
    let run = |name: &str, order: &str, arguments: &[&str]| {
        let program = e2e::program(name)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("VPC_CNI_FAILPOINT", order).stdin(Stdio::null());
        Ok::<_, String>(command.output().unwrap())
    };
    let answers = run("aws-cni", "list", &[])
        .and_then(|plugin| Ok((plugin, run("aws-k8s-agent", "list", &["--list-settings"])?)));
    let (plugin, daemon) = match answers {
        Ok(answers) => answers,
        Err(reason) => return e2e::skip(TEST, &reason),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(text(&plugin.stderr).contains("CNI protocol versions supported"), "{plugin:?}");
    assert!(text(&daemon.stdout).contains("`WARM_ENI_TARGET`"), "{daemon:?}");
}
