//! `vpc-lab sim`: what the simulator is asked for.

mod fleet;

use std::process::ExitCode;

use clap::Subcommand;

/// What is simulated.
#[derive(Debug, Subcommand)]
pub(super) enum SimCommand {
    /// Thousands of nodes of one account on EC2's token buckets; fails when a bound is missed.
    Fleet(fleet::Wanted),
}

pub(super) fn run(command: SimCommand) -> anyhow::Result<ExitCode> {
    match command {
        SimCommand::Fleet(wanted) => fleet::run(&wanted),
    }
}
