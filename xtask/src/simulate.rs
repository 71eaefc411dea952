//! The simulator's part of the tests: a campaign of a fixed seed, held to the coverage, and one of a fresh seed.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::shell;
use crate::tally::Tally;

/// The seed that is the same every time.
const FIXED: u64 = 20_261_121;
/// Steps of the campaign that is held to the coverage, and of the other: together about two minutes on two cores.
const FIXED_STEPS: u64 = 10_000_000;
const FRESH_STEPS: u64 = 5_000_000;
/// Acts of a history, about.
const ACTS: u64 = 500;
/// So many histories that went wrong are enough.
const MOST: u64 = 3;

/// Runs both, and counts each as a test.
pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    let build = ["build", "--locked", "--profile", "sim", "-p", "lab-sim", "--example", "campaign"];
    if !shell::run(&mut shell::cargo(build))?.success() {
        tally.failed.push("simulation: the simulator does not build (see above)".to_owned());
        return Ok(());
    }
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    campaign(tally, "fixed", FIXED, true)?;
    campaign(tally, "fresh", fresh, false)
}

fn campaign(tally: &mut Tally, name: &str, seed: u64, covered: bool) -> Result<()> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let steps = if covered { FIXED_STEPS } else { FRESH_STEPS };
    println!("campaign of a {name} seed; again: vpc-lab sim --steps {steps} --seed {seed} --jobs {jobs}");
    let mut command = Command::new(shell::target()?.join("sim/examples/campaign"));
    command.args([seed, steps, jobs as u64, ACTS, MOST].map(|number| number.to_string())).arg("small");
    if covered {
        command.arg("covered");
    }
    if shell::run(&mut command)?.success() {
        tally.passed += 1;
    } else {
        tally.failed.push(format!("simulation: campaign of the {name} seed {seed} (see above)"));
    }
    Ok(())
}
