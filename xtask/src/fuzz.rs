//! `cargo xtask fuzz`: what arrives from outside, made up by libFuzzer (`fuzz/`): every target for some time, as many at once as there
//! are processors.
//!
//! ```text
//!   fuzz/corpus/<target>               inputs that are in the tree: sound ones, and every one that once found something
//!   <target folder>/fuzz/corpus/...    what was found worth keeping here; the next run goes on from it
//!   <target folder>/fuzz/found/...     inputs that failed
//! ```
//!
//! Before anything else the target `planted` must fail: a run that notices nothing shows nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::shell;

/// What to try, and how long.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which targets; all of them if left out
    targets: Vec<String>,
    /// How long each
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,
    /// How many at once; as many as there are processors if left out
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: Option<u64>,
    /// Only write the sound inputs into `fuzz/corpus` anew (after a change of what they are made of)
    #[arg(long, conflicts_with_all = ["targets", "seconds", "jobs"])]
    write_seeds: bool,
}

/// Fails on one input.
const PLANTED: &str = "planted";
/// It is found in a second or two.
const PLANTED_SECONDS: u64 = 60;
/// An input that takes longer than this (s), with all the sanitizer costs, hangs.
const HANG: u64 = 10;
/// Memory an input may take, the fuzzer's own included (MiB).
const MEMORY: u64 = 2048;
/// Lines of a log that show what failed.
const TAIL: usize = 40;

/// Builds, tries, says.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let folder = shell::root().join("fuzz");
    let place = shell::target()?.join("fuzz");
    if options.write_seeds {
        write_seeds(&folder, &place)?;
        return Ok(ExitCode::SUCCESS);
    }
    let all = targets(&folder)?;
    let wanted = match options.targets.as_slice() {
        [] => all.clone(),
        some => some.to_vec(),
    };
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target `{unknown}`: expected {}", all.join(", "));
    }
    let harness = Harness { programs: build(&folder, &place)?, folder, place };
    harness.notices()?;

    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let jobs = options.jobs.and_then(|jobs| usize::try_from(jobs).ok()).unwrap_or(processors).min(wanted.len());
    println!("{} targets, {} s each, {jobs} at once", wanted.len(), options.seconds);
    println!("{:<12} {:>12} {:>10} {:>10} {:>8}  outcome", "target", "inputs", "a second", "covered", "corpus");
    let failed = harness.try_all(&wanted, options.seconds, jobs)?;
    if failed.is_empty() {
        println!("nothing was found");
        return Ok(ExitCode::SUCCESS);
    }
    println!("failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// All targets but the planted one: every file in the folder of targets.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder.join("fuzz_targets")).context("cannot list the fuzz targets")?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()).filter(|name| name != PLANTED));
    }
    names.sort();
    ensure!(!names.is_empty(), "{} holds no fuzz target", folder.display());
    Ok(names)
}

/// Builds all targets with cargo-fuzz and a nightly compiler; gives the folder of the programs.
fn build(folder: &Path, place: &Path) -> Result<PathBuf> {
    if !shell::answers("rustup", &["run", "nightly", "cargo", "fuzz", "--version"]) {
        bail!(
            "fuzzing needs a nightly toolchain and cargo-fuzz: `rustup toolchain install nightly --profile minimal`, \
             `cargo install cargo-fuzz --locked`"
        );
    }
    let build = place.join("build");
    let mut command = Command::new("rustup");
    command
        .args(["run", "nightly", "cargo", "fuzz", "build", "--codegen-units", "16", "--target-dir"])
        .arg(&build)
        .current_dir(folder);
    // Those of the toolchain that runs us would win over the nightly.
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME"] {
        command.env_remove(name);
    }
    shell::must(&mut command)?;
    let found = fs::read_dir(&build).with_context(|| format!("cannot list {}", build.display()))?;
    let programs = found.filter_map(Result::ok).map(|entry| entry.path().join("release"));
    programs
        .into_iter()
        .find(|programs| programs.join(PLANTED).is_file())
        .with_context(|| format!("cargo-fuzz left no programs below {}", build.display()))
}

fn write_seeds(folder: &Path, place: &Path) -> Result<()> {
    let mut command = shell::cargo(["run", "--quiet", "--bin", "seeds", "--target-dir"]);
    command.arg(place.join("seeds")).arg("--").arg(folder.join("corpus"));
    // As cargo-fuzz builds it: some of what is read is not public otherwise.
    command.current_dir(folder).env("RUSTFLAGS", "--cfg fuzzing");
    shell::must(&mut command)
}

/// The built targets and where their files are.
struct Harness {
    folder: PathBuf,
    place: PathBuf,
    programs: PathBuf,
}

/// How a target ended.
struct Outcome {
    held: bool,
    inputs: u64,
    took: Duration,
    covered: u64,
    corpus: u64,
    log: PathBuf,
    found: PathBuf,
}

impl Harness {
    /// The planted input is found, and told as a failure.
    fn notices(&self) -> Result<()> {
        let found = self.place.join("found").join(PLANTED);
        if found.exists() {
            fs::remove_dir_all(&found).with_context(|| format!("cannot empty {}", found.display()))?;
        }
        let outcome = self.play(PLANTED, PLANTED_SECONDS)?;
        let told = fs::read_dir(&found).is_ok_and(|entries| entries.count() > 0);
        ensure!(!outcome.held && told, "the planted fault was not found: see {}", outcome.log.display());
        Ok(())
    }

    /// Plays the targets, `jobs` at once; the names of those that failed.
    fn try_all(&self, names: &[String], seconds: u64, jobs: usize) -> Result<Vec<String>> {
        let left = Mutex::new(names.iter());
        let next = || left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
        let worker = || -> Result<Vec<String>> {
            let mut failed = Vec::new();
            while let Some(name) = next() {
                let outcome = self.play(name, seconds)?;
                outcome.say(name)?;
                if !outcome.held {
                    failed.push(name.clone());
                }
            }
            Ok(failed)
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
            let mut failed = Vec::new();
            for worker in workers {
                match worker.join() {
                    Ok(result) => failed.extend(result?),
                    Err(_) => bail!("a thread that watched a target ended early"),
                }
            }
            failed.sort();
            Ok(failed)
        })
    }

    fn play(&self, name: &str, seconds: u64) -> Result<Outcome> {
        let own = self.place.join("corpus").join(name);
        let found = self.place.join("found").join(name);
        let logs = self.place.join("logs");
        for folder in [&own, &found, &logs] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let log = logs.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let committed = self.folder.join("corpus").join(name);
        ensure!(committed.is_dir(), "{} is missing: a target begins with sound inputs", committed.display());
        let mut command = Command::new(self.programs.join(name));
        command.args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={HANG}"),
            format!("-rss_limit_mb={MEMORY}"),
            "-print_final_stats=1".to_owned(),
            format!("-artifact_prefix={}/", found.display()),
        ]);
        // What is new goes into the first.
        command.arg(&own).arg(&committed);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let begin = Instant::now();
        let status = command.status().with_context(|| format!("cannot run the fuzz target {name}"))?;
        let took = begin.elapsed();
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        Ok(Outcome {
            held: status.success(),
            inputs: after(&text, "stat::number_of_executed_units:"),
            took,
            covered: after(&text, " cov: "),
            corpus: after(&text, " corp: "),
            log,
            found,
        })
    }
}

impl Outcome {
    fn say(&self, name: &str) -> Result<()> {
        let Self { held, inputs, took, covered, corpus, log, found } = self;
        let a_second = inputs / took.as_secs().max(1);
        let outcome = if *held { "ok" } else { "FAILED" };
        println!("{name:<12} {inputs:>12} {a_second:>10} {covered:>10} {corpus:>8}  {outcome}");
        if !held {
            let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(TAIL)..].join("\n"));
            println!("the input is in {}; the whole log is {}", found.display(), log.display());
            println!("once it is mended, put the input into fuzz/corpus/{name}");
        }
        Ok(())
    }
}

/// The last number that stands behind `label`; 0 if there is none.
fn after(text: &str, label: &str) -> u64 {
    let digits =
        |rest: &str| rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok());
    text.rsplit_once(label).and_then(|(_, rest)| digits(rest)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_figure_behind_a_label_counts() {
        let log = "#2\tINITED cov: 12 ft: 13 corp: 1/1b\n#9\tDONE   cov: 345 ft: 600 corp: 78/1b lim: 4\n\
            stat::number_of_executed_units: 9000\n";
        assert_eq!(after(log, " cov: "), 345);
        assert_eq!(after(log, " corp: "), 78);
        assert_eq!(after(log, "stat::number_of_executed_units:"), 9000);
        assert_eq!(after(log, "stat::peak_rss_mb:"), 0);
    }
}
