//! The simulator's part of the tests: a campaign of a fixed seed.
//!
//! It is of those kinds of trouble in which campaigns have become silent so far; `vpc-lab sim` without `--kinds` still finds something
//! in about one history of a hundred (docs/simulation.md, "Where it stands").

use std::process::Command;

use anyhow::Result;

use crate::shell;
use crate::tally::Tally;

/// The seed that is the same every time.
const FIXED: u64 = 18;
/// Steps of the campaign: some seconds on two cores.
const STEPS: u64 = 400_000;
/// What is mixed into its histories.
const KINDS: &str = "latency,lost-answers,api-away,kills";
/// Acts of a history, about.
const ACTS: u64 = 500;
/// So many histories that went wrong are enough.
const MOST: u64 = 3;

/// Runs it, and counts it as a test.
pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    let build = ["build", "--locked", "--profile", "sim", "-p", "lab-sim", "--example", "campaign"];
    if !shell::run(&mut shell::cargo(build))?.success() {
        tally.failed.push("simulation: the simulator does not build (see above)".to_owned());
        return Ok(());
    }
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    println!("campaign; again: vpc-lab sim --steps {STEPS} --seed {FIXED} --jobs {jobs} --kinds {KINDS}");
    let mut command = Command::new(shell::target()?.join("sim/examples/campaign"));
    command.args([FIXED, STEPS, jobs as u64, ACTS, MOST].map(|number| number.to_string()));
    command.arg("small").arg(format!("kinds={KINDS}"));
    if shell::run(&mut command)?.success() {
        tally.passed += 1;
    } else {
        tally.failed.push(format!("simulation: campaign of the seed {FIXED} (see above)"));
    }
    Ok(())
}
