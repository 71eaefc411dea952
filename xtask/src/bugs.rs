//! `cargo xtask sim-bugs`: shows that the simulator finds what is wrong.
//!
//! ```text
//!   build the simulator with deliberate bugs, apart from all other builds (<target>/bugs)
//!   no bug, each seed ------> how many histories go wrong by themselves, to compare
//!   each bug, each seed ----> a finding within the steps, or MISSED
//! ```
//!
//! A finding counts only if it is a broken promise of the kind that this bug breaks, and if the same history, run again without the
//! bug, is silent (`lab_sim::hunt`). The seeds are fresh unless they are named; they are printed, and so is what it took.

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
    /// Steps without a bug, with each seed, to compare
    #[arg(long, default_value_t = 200_000)]
    control: u64,
    /// Hunts at once; as many as there are cores if left out
    #[arg(long)]
    jobs: Option<usize>,
    /// Only the bugs whose name contains this
    filter: Option<String>,
}

/// One hunt.
struct Hunt {
    bug: String,
    seed: u64,
    /// Steps it may take.
    steps: u64,
}

/// How a hunt ended.
struct Ended<'a> {
    hunt: &'a Hunt,
    /// Steps it took; `None`: the bug was missed.
    took: Option<u64>,
}

/// What the row of no bug is called.
const CONTROL: &str = "none";

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
    let hunt = |bug: &str, seed: u64, steps: u64| Hunt { bug: bug.to_owned(), seed, steps };
    let control = seeds.iter().map(|seed| hunt(CONTROL, *seed, options.control));
    let each = bugs.iter().flat_map(|bug| seeds.iter().map(|seed| hunt(bug, *seed, options.steps)));
    let hunts: Vec<Hunt> = control.chain(each).collect();

    println!("{:<31} {:>20} {:>9} {:>5} {:>7}  what was said", "bug", "seed", "steps", "runs", "seconds");
    let ended = look_for_all(&program, &hunts, options.jobs)?;
    println!("\nsteps until it was found, by seed\n{}", table(&bugs, &seeds, &ended));
    let missed: Vec<&Ended<'_>> = ended.iter().filter(|ended| ended.took.is_none()).collect();
    for Ended { hunt, .. } in &missed {
        println!("MISSED {}: seed {}, {} steps", hunt.bug, hunt.seed, hunt.steps);
    }
    if !missed.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    println!("{} bugs found, each with {} seeds, in histories that are silent without it", bugs.len(), seeds.len());
    Ok(ExitCode::SUCCESS)
}

/// A row for each bug, a column for each seed; the median of all below.
fn table(bugs: &[&str], seeds: &[u64], ended: &[Ended<'_>]) -> String {
    let took = |bug: &str, seed: u64| {
        ended.iter().find(|ended| ended.hunt.bug == bug && ended.hunt.seed == seed).and_then(|ended| ended.took)
    };
    let cell = |steps: Option<u64>| steps.map_or("MISSED".to_owned(), |steps| steps.to_string());
    let line = |head: &str, cells: Vec<String>| format!("| {head} | {} |\n", cells.join(" | "));
    let mut text = line("bug", seeds.iter().map(u64::to_string).collect());
    text += &line("---", seeds.iter().map(|_| "---:".to_owned()).collect());
    for bug in bugs {
        text += &line(bug, seeds.iter().map(|seed| cell(took(bug, *seed))).collect());
    }
    let mut all: Vec<u64> =
        ended.iter().filter(|ended| ended.hunt.bug != CONTROL).filter_map(|ended| ended.took).collect();
    all.sort_unstable();
    match all.get(all.len() / 2) {
        Some(median) => format!("{text}\nmedian of those found: {median}"),
        None => text,
    }
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

/// Several at once: a row is printed when its hunt has ended.
fn look_for_all<'a>(program: &Path, hunts: &'a [Hunt], jobs: Option<usize>) -> Result<Vec<Ended<'a>>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = Mutex::new(hunts.iter());
    let all = Mutex::new(Vec::new());
    let take = || next.lock().ok()?.next();
    let work = || -> Result<()> {
        while let Some(hunt) = take() {
            let (seed, steps) = (hunt.seed.to_string(), hunt.steps.to_string());
            let ended = output(Command::new(program).args([hunt.bug.as_str(), &seed, &steps]))?;
            std::io::stdout().lock().write_all(&ended.stdout)?;
            let took = ended.status.success().then(|| steps_of(&ended.stdout)).transpose()?;
            all.lock().map_err(|_| anyhow::anyhow!("another hunt has failed"))?.push(Ended { hunt, took });
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
    Ok(all.into_inner().unwrap_or_default())
}

/// The third column of a row: the steps that were made.
fn steps_of(row: &[u8]) -> Result<u64> {
    let text = String::from_utf8_lossy(row);
    let steps = text.split_whitespace().nth(2).and_then(|steps| steps.parse().ok());
    steps.with_context(|| format!("a row without steps: {text}"))
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
