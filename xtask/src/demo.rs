//! `cargo xtask demo`: the programs for this machine, optimised, in one folder; then `vpc-lab demo`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::shell;

/// Builds and runs. The demo's exit code is ours.
pub(crate) fn run(scene: &[String]) -> Result<ExitCode> {
    let folder = build()?;
    let status = shell::run(Command::new(folder.join("vpc-lab")).arg("demo").args(scene))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Builds the programs with profile `release` and gives the folder they are in.
pub(crate) fn build() -> Result<std::path::PathBuf> {
    eprintln!("building {} (the first time takes some minutes)", shell::PROGRAMS.join(", "));
    let packages = shell::PROGRAMS.into_iter().flat_map(|program| ["-p", program]);
    shell::must(&mut shell::cargo(["build", "--release", "--locked", "--bins"].into_iter().chain(packages)))
        .context("the programs do not build")?;
    Ok(shell::target()?.join("release"))
}
