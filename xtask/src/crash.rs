//! `cargo xtask crash`: ADDs and DELs at a rate, while plugin and daemon are killed at random; and the programs that have failpoints.

use std::fs;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::shell;

/// The programs that have failpoints where they are asked for.
const CRASHING: [&str; 2] = ["aws-cni", "aws-k8s-agent"];
/// Is in every program with failpoints, and in no other.
const MARK: &[u8] = b"failpoints are built into this program";

/// What kind of storm.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How long
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Where chance comes from; a new one each time if left out
    #[arg(long)]
    seed: Option<u64>,
    /// ADDs a second, and as many DELs
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Pods that are there from the beginning
    #[arg(long, default_value_t = 60)]
    pods: u32,
}

/// Builds and runs.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let crashing = build(&[])?;
    shell::must(&mut shell::cargo([
        "build", "--locked", "-p", "vpc-lab", "-p", "e2e", "--bin", "vpc-lab", "--bin", "crash",
    ]))?;
    let since_epoch = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seed = options.seed.unwrap_or_else(since_epoch);
    let words = [options.seconds, seed, options.rate.into(), options.pods.into()].map(|number| number.to_string());
    let debug = shell::target()?.join("debug");
    let mut command = Command::new(debug.join("crash"));
    command.args(words).env("VPC_CNI_FAILPOINTS_DIR", crashing).env("VPC_CNI_BIN_DIR", debug);
    let status = shell::run(&mut command)?;
    println!("again: cargo xtask crash --seconds {} --seed {seed}", options.seconds);
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds plugin and daemon with failpoints into `<target>/failpoints`, and then as they are without: the folder where everybody looks
/// for programs never keeps one with failpoints. `with` are packages that are built in the same go, so that what all share is built once.
pub(crate) fn build(with: &[&str]) -> Result<PathBuf> {
    let target = shell::target()?;
    let folder = target.join("failpoints");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let packages: Vec<&str> = CRASHING.iter().chain(with).flat_map(|package| ["-p", package]).collect();
    let plain = || shell::cargo(["build", "--locked", "--bins"].into_iter().chain(packages.iter().copied()));
    let features = CRASHING.map(|package| format!("{package}/failpoints")).join(",");
    let built = shell::must(plain().args(["--features", &features])).and_then(|()| {
        CRASHING.iter().try_for_each(|program| place(&target.join("debug").join(program), &folder.join(program)))
    });
    shell::must(&mut plain())?;
    built?;
    for program in CRASHING {
        must_have_none(&target.join("debug").join(program))?;
    }
    Ok(folder)
}

fn place(from: &Path, to: &Path) -> Result<()> {
    if !has_failpoints(from)? {
        bail!("{} was built with failpoints and has none", from.display());
    }
    // A program that runs can not be written to, but it can be replaced.
    let _ = fs::remove_file(to);
    fs::copy(from, to).map(drop).with_context(|| format!("cannot copy {}", from.display()))
}

/// A program that is shipped has no failpoints.
pub(crate) fn must_have_none(program: &Path) -> Result<()> {
    if has_failpoints(program)? {
        bail!("{} has failpoints: a test can have it killed, and so can anybody else", program.display());
    }
    Ok(())
}

fn has_failpoints(program: &Path) -> Result<bool> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let Some((first, others)) = MARK.split_first() else { return Ok(false) };
    let mut rest = bytes.as_slice();
    // Jumps from one first byte to the next: a program has a hundred megabytes, and this one is not optimised.
    while rest.skip_until(*first)? > 0 {
        if rest.starts_with(others) {
            return Ok(true);
        }
    }
    Ok(false)
}
