//! `cargo xtask test`: every test, in lanes, with one tally at the end.
//!
//! A lane is a run of `cargo test` over some packages with a time it should stay within. Nothing fails on time: the summary
//! shows what each lane took beside its budget. The lane of the state machines ends with campaigns of the simulator. Tests that lack a tool are named, with the reason, and counted as skipped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tally::Tally;
use crate::{crash, gate, shell, simulate};

/// One run of `cargo test`.
struct Lane {
    name: &'static str,
    /// What the lane should take on two cores, building included.
    budget: Duration,
    selection: Selection,
    /// Made-up cases for each property.
    cases: u32,
}

enum Selection {
    /// All packages but those of other lanes: a new package is tested without being named here.
    AllBut(&'static [&'static [&'static str]]),
    /// These packages.
    Only(&'static [&'static str]),
    /// One file of tests, which is there with a feature only.
    With { package: &'static str, feature: &'static str, test: &'static str },
}

/// The packages whose tests start whole labs, nodes and programs.
const LAB: &[&str] = &["vpc-lab", "e2e"];
/// The packages that are state machines and planners: their tests make up histories, and the more the better.
const SIMULATED: &[&str] = &["vpc-ipam", "vpc-hostnet", "vpc-agent", "lab-cloud", "lab-sim"];

/// Deliberate bugs are in no build but this one.
const BUGS: Selection = Selection::With { package: "lab-sim", feature: "deliberate-bugs", test: "bugs" };

const LANES: [Lane; 4] = [
    Lane { name: "tests", budget: minutes(15), selection: Selection::AllBut(&[LAB, SIMULATED]), cases: 256 },
    Lane { name: "simulation", budget: minutes(5), selection: Selection::Only(SIMULATED), cases: 2000 },
    Lane { name: "bugs found", budget: minutes(5), selection: BUGS, cases: 256 },
    Lane { name: "lab suites", budget: minutes(16), selection: Selection::Only(LAB), cases: 256 },
];

/// What a call of the plugin takes, counted: no run of `cargo test`. Most of its time is the build of the plugin as it is shipped.
const GATE: &str = "gate";
const GATE_BUDGET: Duration = minutes(3);

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// Runs all lanes, whatever happens in one of them, and prints the summary.
pub(crate) fn run(filter: Option<&str>) -> Result<ExitCode> {
    let target = shell::target()?;
    let skips = target.join("skips");
    let mut total = Tally::default();
    let mut rows = Vec::new();
    for lane in &LANES {
        println!("== {} ==", lane.name);
        let begin = Instant::now();
        let tally = lane.run(filter, &target, &skips)?;
        rows.push((lane.name, begin.elapsed(), lane.budget, tally.clone()));
        total.add(tally);
    }
    if filter.is_none() {
        println!("== {GATE} ==");
        let (begin, mut tally) = (Instant::now(), Tally::default());
        gate::add_to(&mut tally);
        rows.push((GATE, begin.elapsed(), GATE_BUDGET, tally.clone()));
        total.add(tally);
    }

    println!();
    println!("{:<12} {:>7} {:>7} {:>8} {:>8} {:>8}", "lane", "passed", "failed", "skipped", "time", "budget");
    for (name, took, budget, tally) in &rows {
        let (passed, failed, skipped) = (tally.passed, tally.failed.len(), tally.skipped.len());
        println!("{name:<12} {passed:>7} {failed:>7} {skipped:>8} {:>8} {:>8}", clock(*took), clock(*budget));
    }
    for name in &total.failed {
        println!("FAILED {name}");
    }
    for line in &total.skipped {
        println!("SKIPPED {line}");
    }
    println!("{total}");
    Ok(if total.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Selection {
    fn arguments(&self) -> Vec<&'static str> {
        match self {
            Self::AllBut(lanes) => {
                let others = lanes.iter().flat_map(|packages| each("--exclude", packages));
                std::iter::once("--workspace").chain(others).collect()
            }
            Self::Only(packages) => each("-p", packages).collect(),
            Self::With { package, feature, test } => vec!["-p", package, "--features", feature, "--test", test],
        }
    }
}

fn each(flag: &'static str, packages: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    packages.iter().flat_map(move |package| [flag, *package])
}

impl Lane {
    fn run(&self, filter: Option<&str>, target: &Path, skips: &Path) -> Result<Tally> {
        let mut tally = Tally::default();
        if matches!(self.selection, Selection::Only(LAB)) {
            // `cargo test` builds programs only for their own package's tests; the lab's tests run all of them, and crash two.
            if let Err(error) = crash::build(&["vpc-lab", "egress-cni"]) {
                tally.failed.push(format!("{}: the programs do not build (see above): {error:#}", self.name));
                return Ok(tally);
            }
        }
        forget(skips)?;
        let mut command = shell::cargo(["test", "--locked", "--no-fail-fast"]);
        command.args(self.selection.arguments()).args(filter).args(["--", "--show-output"]);
        command.env("PROPTEST_CASES", self.cases.to_string());
        command.env("VPC_CNI_SKIPS", skips).env("VPC_CNI_BIN_DIR", target.join("debug"));
        command.env("VPC_CNI_FAILPOINTS_DIR", target.join("failpoints"));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot run cargo test")?;
        let printed = child.stdout.take().context("cargo test has no output")?;
        for line in BufReader::new(printed).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if tally.line(&line) {
                println!("{line}");
            }
        }
        let succeeded = child.wait()?.success();
        if let Ok(told) = fs::read_to_string(skips) {
            tally.skips(&told);
        }
        tally.end(succeeded);
        if matches!(self.selection, Selection::Only(SIMULATED)) && filter.is_none() {
            simulate::run(&mut tally)?;
        }
        Ok(tally)
    }
}

/// The file of skips belongs to one lane of one run.
fn forget(skips: &Path) -> Result<()> {
    if let Some(folder) = skips.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(skips, "").with_context(|| format!("cannot write {}", skips.display()))
}

/// `3:07`: minutes and seconds.
fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
