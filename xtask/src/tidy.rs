//! `cargo xtask tidy`: what a machine can check, a machine checks.

use std::process::ExitCode;

use anyhow::Result;

use crate::shell;

const FORMAT: &[&str] = &["fmt", "--all", "--check"];
/// The fuzz targets are a workspace of their own.
const FUZZ: &str = "fuzz/Cargo.toml";
const LINTS: &[&str] = &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
// The advisory database is left out: it is not served by the crate registry, and a check must not fail for want of a network.
const SUPPLY: &[&str] = &["deny", "check", "bans", "licenses", "sources"];

/// Runs every check to its end, then says which failed.
pub(crate) fn run() -> Result<ExitCode> {
    let mut failed = Vec::new();
    for check in [FORMAT, LINTS] {
        if !shell::run(&mut shell::cargo(check.iter().copied()))?.success() {
            failed.push(check[0]);
        }
    }
    if !shell::run(&mut shell::cargo(["fmt", "--manifest-path", FUZZ, "--check"]))?.success() {
        failed.push(FUZZ);
    }
    if shell::answers("cargo-deny", &["--version"]) {
        let of_fuzz = ["deny", "--manifest-path", FUZZ].into_iter().chain(SUPPLY[1..].iter().copied());
        let checks = [shell::cargo(SUPPLY.iter().copied()), shell::cargo(of_fuzz)];
        for mut check in checks {
            if !shell::run(&mut check)?.success() {
                failed.push(SUPPLY[0]);
            }
        }
    } else {
        println!("SKIPPED deny: cargo-deny is not here (cargo install cargo-deny --locked)");
    }
    if failed.is_empty() {
        println!("tidy");
        return Ok(ExitCode::SUCCESS);
    }
    println!("not tidy: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}
