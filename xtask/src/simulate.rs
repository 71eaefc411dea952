//! The simulator's part of the tests: campaigns of a fixed seed and of a fresh one.
//!
//! One of the fixed seed has every kind of trouble, and is long enough for its coverage to be judged: a pair of input and situation that
//! was reached once and is not any more fails it. So does anything that is wrong. The fresh seed tries what nobody has tried; it is
//! printed, and plays the same histories again. Of all kinds something is found once in tens of thousands of histories
//! (docs/simulation.md, "Where it stands"), which must not stop a change that has nothing to do with it: the fresh seed fails on the
//! kinds in which nothing has been found for long, and what it finds of all kinds is told.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::shell;
use crate::tally::Tally;

/// A campaign of the lane.
struct Part {
    name: &'static str,
    seed: u64,
    steps: u64,
    kinds: Option<&'static str>,
    /// Whether holes in the matrix of what was tried are wrong.
    covered: bool,
    /// Histories that may go wrong.
    open: u64,
}

/// The seed that is the same every time.
const FIXED: u64 = 18;
/// Steps whose coverage can be judged (docs/simulation.md, "What was tried"): one or two minutes on two cores.
const LONG: u64 = 10_000_000;
/// Steps of the others.
const SHORT: u64 = 2_000_000;
/// Kinds of trouble in which campaigns have become silent: all but denials, subnet pressure, outsiders, settings, mode switches and
/// custom networking.
const SILENT: &str = "bursts,odd-sandboxes,latency,throttling,errors-before,errors-after,lost-answers,lagging,stale-metadata,\
    partial-metadata,reordered-metadata,metadata-away,slow-devices,kills,reboots,clock-jumps,api-away,node-news,disk-trouble,\
    host-trouble,many-nodes,tides";
/// So many histories of the fresh seed with all kinds may go wrong, of some hundreds: they are told.
const TOLD: u64 = 2;
/// Acts of a history, about.
const ACTS: u64 = 500;
/// So many histories that went wrong are enough.
const MOST: u64 = 3;

/// Runs them, and counts each as a test.
pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    let build = ["build", "--locked", "--profile", "sim", "-p", "lab-sim", "--example", "campaign"];
    if !shell::run(&mut shell::cargo(build))?.success() {
        tally.failed.push("simulation: the simulator does not build (see above)".to_owned());
        return Ok(());
    }
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let short = |name, kinds, open| Part { name, seed: fresh(), steps: SHORT, kinds, covered: false, open };
    let parts = [
        Part { name: "fixed seed, all kinds", seed: FIXED, steps: LONG, kinds: None, covered: true, open: 0 },
        short("fresh seed", Some(SILENT), 0),
        short("fresh seed, all kinds", None, TOLD),
    ];
    for Part { name, seed, steps, kinds, covered, open } in parts {
        let kinds = kinds.map(|kinds| format!("kinds={kinds}"));
        let options = kinds.as_ref().map(|kinds| format!(" --{}", kinds.replacen('=', " ", 1))).unwrap_or_default();
        println!(
            "campaign of a {name}; again: vpc-lab sim --steps {steps} --seed {seed} --jobs {jobs} --keep-going{options}"
        );
        let most = if open > 0 { open + 1 } else { MOST };
        let mut command = Command::new(shell::target()?.join("sim/examples/campaign"));
        command.args([seed, steps, jobs as u64, ACTS, most].map(|number| number.to_string())).args(kinds);
        command.arg(format!("open={open}"));
        command.args(covered.then_some("covered")).args((open == 0).then_some("small"));
        if shell::run(&mut command)?.success() {
            tally.passed += 1;
        } else {
            tally.failed.push(format!("simulation: campaign of the {name} {seed} (see above)"));
        }
    }
    Ok(())
}

/// A seed nobody has chosen, short enough to be typed.
fn fresh() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |since| u64::from(since.subsec_nanos()) ^ (since.as_secs() & 0xffff_ffff))
}
