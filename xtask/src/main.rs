//! One door for every chore of the project: `cargo xtask <chore>`.
//!
//! ```text
//!   demo [SCENE]   build the programs for this machine, tell the story             demo.rs
//!   test           every test, in lanes, with a tally that names what did not run  test.rs, tally.rs
//!   tidy           what a machine can check: fmt, clippy, cargo-deny               tidy.rs
//!   crash          pods come and go while plugin and daemon are killed at random   crash.rs
//!   dist           static programs, as they are shipped                            dist.rs
//!   sim-bugs       deliberate bugs, each looked for in the simulator               bugs.rs
//!   fuzz [TARGET]  what arrives from outside, made up                              fuzz.rs
//!   gate           system calls and instructions of a plugin's call, below ceilings  gate.rs
//!   bench add      the figures of the pod's path, each beside its control          bench/
//!   bench plugin   the plugin beside the bare kernel and other plugins             bench/plugin.rs
//!   bench pool     what an AddNetwork takes, memory, calls of EC2                  bench/pool.rs
//!   bench fabric   what the lab's fabric costs beside a plain router               bench/fabric.rs
//! ```
//!
//! Chores need cargo and a C compiler, nothing else; what more a chore can use, it names when it lacks.

mod bench;
mod bugs;
mod crash;
mod demo;
mod dist;
mod fuzz;
mod gate;
mod shell;
mod simulate;
mod tally;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of vpc-cni-rs", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build the programs and run the demo: a VPC with three nodes on this machine, no root needed
    Demo {
        /// Which scene (`vpc-lab demo --help` lists them); all of them if left out
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        scene: Vec<String>,
    },
    /// Run every test, lane by lane; name and count whatever did not run
    Test {
        /// Only the tests whose name contains this
        filter: Option<String>,
    },
    /// Check formatting, lints and the licences, bans and sources of dependencies
    Tidy,
    /// Let pods come and go while plugin and daemon are killed at random; exit code 1 if anything promised was not kept
    Crash(crash::Options),
    /// Build the static programs as they are shipped, and print their sizes
    Dist,
    /// Make up what arrives from outside and try it on everything that reads it (libFuzzer); exit code 1 if something was found
    Fuzz(fuzz::Options),
    /// Count system calls and instructions of the shipped plugin's ADD and DEL; exit code 1 if one is above its ceiling
    Gate,
    /// Show that the simulator finds what is wrong: look for each deliberate bug with some seeds; fails if one is missed
    SimBugs(bugs::Options),
    /// Measure, each figure beside a control in the same run; never fails
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// The pod's path: ADD, DEL, start, a burst of pods
    Add(bench::Options),
    /// The plugin alone: ADD and DEL beside the bare kernel, `ptp` with `host-local`, and any other plugin
    Plugin(bench::plugin::Options),
    /// The pool: AddNetwork alone, memory, calls of EC2, start, many pods at once
    Pool(bench::pool::Options),
    /// The lab's fabric: round trip and throughput through it and through a plain router
    Fabric(bench::fabric::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Demo { scene } => demo::run(&scene),
        Chore::Test { filter } => test::run(filter.as_deref()),
        Chore::Tidy => tidy::run(),
        Chore::Crash(options) => crash::run(&options),
        Chore::Dist => dist::run(),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Gate => gate::run(),
        Chore::SimBugs(options) => bugs::run(&options),
        Chore::Bench { what: Bench::Add(options) } => bench::add(&options),
        Chore::Bench { what: Bench::Plugin(options) } => bench::plugin::run(&options),
        Chore::Bench { what: Bench::Pool(options) } => bench::pool::run(&options),
        Chore::Bench { what: Bench::Fabric(options) } => bench::fabric::run(&options),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
