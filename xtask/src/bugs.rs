//! `cargo xtask sim-bugs`: shows that the simulator finds what is wrong.
//!
//! ```text
//!   build the simulator with deliberate bugs, apart from all other builds (<target>/bugs)
//!   no bug, each seed ------> silence, for a while
//!   each bug, each seed ----> a finding within the steps, or MISSED
//! ```
//!
//! A finding counts only if the same history is silent without the bug. The seeds are fresh unless they are named; they are printed.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::shell;

/// What to look for, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Seeds to look with; three fresh ones if left out
    #[arg(long, value_delimiter = ',', value_name = "SEED")]
    seeds: Vec<u64>,
    /// Steps within which a bug must be found
    #[arg(long, default_value_t = 10_000_000)]
    steps: u64,
    /// Steps without a bug, with each seed, that must be silent
    #[arg(long, default_value_t = 200_000)]
    silence: u64,
    /// Hunts at once; as many as there are cores if left out
    #[arg(long)]
    jobs: Option<usize>,
    /// Only the bugs whose name contains this
    filter: Option<String>,
}

/// One row of the table.
struct Row {
    bug: String,
    seed: u64,
    steps: u64,
}

/// Builds, looks, prints the table.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let program = build()?;
    let listed = output(Command::new(&program).arg("list"))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    println!("{listed}");
    let wanted = |name: &&str| options.filter.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let bugs: Vec<&str> = listed.lines().filter_map(|line| Some(line.split_once(':')?.0)).filter(wanted).collect();
    if bugs.is_empty() {
        bail!("no bug's name contains `{}`", options.filter.as_deref().unwrap_or_default());
    }
    let seeds = if options.seeds.is_empty() { fresh_seeds() } else { options.seeds.clone() };
    let control = seeds.iter().map(|seed| Row { bug: "none".to_owned(), seed: *seed, steps: options.silence });
    let hunts = bugs
        .iter()
        .flat_map(|bug| seeds.iter().map(|seed| Row { bug: (*bug).to_owned(), seed: *seed, steps: options.steps }));
    let rows: Vec<Row> = control.chain(hunts).collect();

    println!("{:<31} {:>20} {:>9} {:>5} {:>7}  what was said", "bug", "seed", "steps", "runs", "seconds");
    let missed = look_for_all(&program, &rows, options.jobs)?;
    println!();
    if missed.is_empty() {
        println!("silence without a bug, and {} bugs found, each with {} seeds", bugs.len(), seeds.len());
        return Ok(ExitCode::SUCCESS);
    }
    for row in missed.iter().filter(|row| row.bug == "none") {
        println!("NOT SILENT without a bug: seed {}", row.seed);
    }
    for row in missed.iter().filter(|row| row.bug != "none") {
        println!("MISSED {}: seed {}, {} steps", row.bug, row.seed, row.steps);
    }
    Ok(ExitCode::FAILURE)
}

/// The simulator with the bugs in it.
fn build() -> Result<PathBuf> {
    let target = shell::target()?.join("bugs");
    let mut command = shell::cargo(["build", "--locked", "--profile", "sim", "-p", "lab-sim", "--example", "bugs"]);
    shell::must(command.args(["--features", "deliberate-bugs", "--target-dir"]).arg(&target))?;
    Ok(target.join("sim/examples/bugs"))
}

/// Three numbers that nobody chose.
fn fresh_seeds() -> Vec<u64> {
    // The standard library's maps are seeded by the system. Short enough to be typed again.
    (0..3).map(|_| RandomState::new().build_hasher().finish() >> 32).collect()
}

/// Several at once: a row is printed when its hunt has ended. Gives those that did not end well.
fn look_for_all<'a>(program: &Path, rows: &'a [Row], jobs: Option<usize>) -> Result<Vec<&'a Row>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = Mutex::new(rows.iter());
    let missed = Mutex::new(Vec::new());
    let take = || next.lock().ok()?.next();
    let work = || -> Result<()> {
        while let Some(row) = take() {
            let (seed, steps) = (row.seed.to_string(), row.steps.to_string());
            let ended = output(Command::new(program).args([row.bug.as_str(), &seed, &steps]))?;
            std::io::stdout().lock().write_all(&ended.stdout)?;
            if !ended.status.success() {
                missed.lock().map_err(|_| anyhow::anyhow!("another hunt has failed"))?.push(row);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let hunters: Vec<_> = (0..jobs.unwrap_or(cores).max(1)).map(|_| scope.spawn(work)).collect();
        for hunter in hunters {
            hunter.join().map_err(|_| anyhow::anyhow!("a hunt has panicked"))??;
        }
        Ok(())
    })?;
    Ok(missed.into_inner().unwrap_or_default())
}

fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot run the simulator")
}

/// A program that is shipped has no deliberate bug in it: wherever one is, its name is.
pub(crate) fn must_have_none(program: &Path) -> Result<()> {
    let file = std::fs::read(program)?;
    let names = names()?;
    let text = String::from_utf8_lossy(&file);
    match names.iter().find(|name| text.contains(name.as_str())) {
        Some(name) => bail!("{} has a deliberate bug in it: {name}", program.display()),
        None => Ok(()),
    }
}

/// The names of the bugs, as their source has them: the string literals that are words with hyphens between them.
fn names() -> Result<Vec<String>> {
    let source = shell::root().join("core/ipam/src/bugs.rs");
    let text = std::fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let is_name =
        |word: &&str| word.contains('-') && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let names: Vec<String> = text.split('"').filter(is_name).map(str::to_owned).collect();
    if names.len() < 12 {
        bail!("{} names {} bugs: it is not read right any more", source.display(), names.len());
    }
    Ok(names)
}
