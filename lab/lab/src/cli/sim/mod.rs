//! `vpc-lab sim`: what the simulator is asked for.
//!
//! Exit codes: 0 nothing wrong, 1 something wrong was found (or is still there), 2 it could not be run: a bad value, no such file.

mod campaign;
mod fleet;
mod replay;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

/// It could not be run; as clap ends on bad arguments.
const NOT_RUN: u8 = 2;

/// What is simulated.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Sim {
    #[command(subcommand)]
    command: Option<SimCommand>,
    #[command(flatten)]
    wanted: campaign::Wanted,
}

#[derive(Debug, Subcommand)]
enum SimCommand {
    /// Thousands of nodes of one account on EC2's token buckets; fails when a bound is missed.
    Fleet(fleet::Wanted),
}

pub(super) fn run(sim: Sim) -> anyhow::Result<ExitCode> {
    match sim.command {
        Some(SimCommand::Fleet(wanted)) => told(fleet::run(&wanted)),
        None => told(match &sim.wanted.replay {
            Some(file) => replay::run(file),
            None => campaign::run(&sim.wanted),
        }),
    }
}

/// To stdout. Who has stopped reading (`| head`) ends nothing: the exit code is still to say what was found.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("stdout"),
    }
}

/// An error is told with a code of its own: 1 says that something wrong was found.
fn told(outcome: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    outcome.or_else(|error| {
        std::io::stderr().write_all(format!("vpc-lab: {error:#}\n").as_bytes())?;
        Ok(ExitCode::from(NOT_RUN))
    })
}
