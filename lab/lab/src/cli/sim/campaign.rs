//! `vpc-lab sim`: histories from a seed until something is wrong, and what is told of it.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use lab_sim::{Campaign, Feature, Finding, Found, Limits, Shrunk, quiet_panics, replay, shrink};
use nix::sys::signal::{SigSet, Signal};

use super::replay::tell;
use super::say;

/// From one progress line to the next.
const GLANCE: Duration = Duration::from_millis(200);
/// Where nobody looks at a terminal a line is left this often.
const REMARK: Duration = Duration::from_secs(30);
/// A history of so many acts takes some minutes.
const MOST_ACTS: i64 = 100_000;
/// A history is made small for so long at most.
const SHRINKING: Duration = Duration::from_secs(120);
/// With `--keep-going` so many are made small: the first of each kind comes first.
const MOST_SHRUNK: usize = 10;
/// With `--keep-going` it ends all the same after so many.
const MOST_FOUND: usize = 1_000;

/// What is asked for.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// Steps in all; a step is one input of an agent that is not a bare timer tick. `10_000_000` and `1e7` are accepted too.
    #[arg(long, value_name = "N", default_value = "1_000_000", value_parser = steps)]
    steps: u64,
    /// Decides everything; without one a fresh one is drawn, and printed.
    #[arg(long, value_name = "S", value_parser = number)]
    seed: Option<u64>,
    /// Threads; without it as many as there are cores.
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u32).range(1..=1024))]
    jobs: Option<u32>,
    /// Acts of each history, about, up to 100000: pods that come and go, and trouble.
    #[arg(long, value_name = "N", default_value = "500", value_parser = clap::value_parser!(u32).range(1..=MOST_ACTS))]
    acts: u32,
    /// Kinds of trouble that may be mixed in, with commas between them; without it all. A wrong name lists them.
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kinds: Vec<Feature>,
    /// Do not end at the first history in which something is wrong.
    #[arg(long)]
    keep_going: bool,
    /// Where histories are written in which something is wrong; without it the current folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Something is wrong too if a pair of state and input that can be was not hit, or one that can not be was.
    #[arg(long)]
    covered: bool,
    /// Run the history of this number alone, as it was drawn, and tell it.
    #[arg(long, value_name = "NUMBER", value_parser = number, requires = "seed", conflicts_with_all = ["steps", "jobs", "keep_going", "covered"])]
    only: Option<u64>,
    /// Run the history of a file, and tell it: exit code 1 if something is wrong, 0 if not.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["steps", "seed", "jobs", "acts", "keep_going", "out", "covered", "only", "kinds"])]
    pub(super) replay: Option<PathBuf>,
}

fn steps(text: &str) -> Result<u64, String> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (digits, zeros) = plain.split_once(['e', 'E']).unwrap_or((&plain, "0"));
    let number = digits.parse::<u64>().ok().zip(zeros.parse().ok().and_then(|zeros| 10_u64.checked_pow(zeros)));
    number
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|steps| *steps > 0)
        .ok_or_else(|| "expected a number of steps above 0, such as 5000000, 5_000_000 or 5e6".to_owned())
}

/// A seed, or a history's number.
pub(super) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

pub(super) fn run(wanted: &Wanted) -> anyhow::Result<ExitCode> {
    let out = wanted.out.as_deref().unwrap_or(Path::new("."));
    std::fs::create_dir_all(out).with_context(|| format!("--out: {} can not be made", out.display()))?;
    let jobs = wanted.jobs.map_or_else(cores, |jobs| usize::try_from(jobs).unwrap_or(1));
    let seed = wanted.seed.unwrap_or_else(fresh);
    let mut campaign = Campaign { jobs, ..Campaign::new(seed, wanted.steps, wanted.acts) };
    if !wanted.kinds.is_empty() {
        campaign.kinds = wanted.kinds.iter().copied().collect();
    }
    quiet_panics();
    if let Some(number) = wanted.only {
        return tell(&campaign.history(number));
    }
    let end = EarlyEnd::watch()?;
    say(&format!("seed {}\n", campaign.seed))?;
    let begin = Instant::now();
    let line = ProgressLine::new(campaign.steps);
    let most = if wanted.keep_going { MOST_FOUND } else { 1 };
    let finding = campaign.run(most, &|steps| {
        line.tell(steps, begin.elapsed());
        !end.is_asked()
    });
    line.clear();
    let took = begin.elapsed();
    say(&finding.coverage.to_string())?;
    say(&figures(&finding, jobs, took))?;
    tell_found(&campaign, &finding, out)?;
    if let Some(code) = end.code() {
        say(&format!("ended before its time: {} of {} steps\n", finding.steps, campaign.steps))?;
        return Ok(if finding.found.is_empty() { code } else { ExitCode::FAILURE });
    }
    let mut well = finding.found.is_empty();
    if wanted.covered {
        let judgement = finding.coverage.judge();
        say(&format!("{judgement}\n"))?;
        well &= judgement.is_empty();
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// A seed that is short enough to be said aloud.
fn fresh() -> u64 {
    RandomState::new().build_hasher().finish() % 1_000_000_000
}

fn figures(finding: &Finding, jobs: usize, took: Duration) -> String {
    let rate = finding.steps as f64 / took.as_secs_f64().max(0.001);
    format!(
        "{} steps in {} histories, {} EC2 calls, {:.1} s: {rate:.0} steps/s, {:.0} for each of {jobs} jobs\n{}\n",
        finding.steps,
        finding.histories,
        finding.calls,
        took.as_secs_f64(),
        rate / jobs as f64,
        match finding.found.len() {
            0 => "nothing wrong".to_owned(),
            1 => "something is wrong in 1 history".to_owned(),
            many => format!("something is wrong in {many} histories"),
        }
    )
}

// -- what was found ------------------------------------------------------------------------------------------------------

fn tell_found(campaign: &Campaign, finding: &Finding, out: &Path) -> anyhow::Result<()> {
    for (shrunk, found) in in_order(&finding.found).into_iter().enumerate() {
        let again = format!("vpc-lab sim {}", campaign.again(found.number));
        say(&format!("\nhistory {}: {}\n  as it was found: {again}\n", found.number, found.why))?;
        if shrunk < MOST_SHRUNK {
            let file = out.join(format!("sim-{}-{}.toml", campaign.seed, found.number));
            make_small(found, &again, &file)?;
        }
    }
    Ok(())
}

/// The first of each kind before the others.
fn in_order(found: &[Found]) -> Vec<&Found> {
    let mut kinds = Vec::new();
    let mut first = BTreeSet::new();
    for found in found {
        if !kinds.contains(&found.why.kind()) {
            kinds.push(found.why.kind());
            first.insert(found.number);
        }
    }
    let (mut firsts, others): (Vec<_>, Vec<_>) = found.iter().partition(|found| first.contains(&found.number));
    firsts.extend(others);
    firsts
}

fn make_small(found: &Found, again: &str, file: &Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    let line = ProgressLine::new(0);
    let shrunk = shrink(&found.history, &found.why, Limits::default(), &mut |best| {
        line.say(|| format!("making it small: {} acts after {} runs", best.history.acts.len(), best.runs));
        begin.elapsed() < SHRINKING && SIGNAL.load(Ordering::Relaxed) == 0
    });
    line.clear();
    let text = shrunk.history.to_text()?;
    let kept = format!("# {}\n# Found as: {again}\n{text}", shrunk.why);
    std::fs::write(file, kept).with_context(|| format!("--out: {} can not be written", file.display()))?;
    say(&format!("  made small in {} runs: {}\n", shrunk.runs, sizes(found, &shrunk)))?;
    say(&format!("\n{}\n", replay(&shrunk.history)?.story))?;
    say(&format!("  replay: vpc-lab sim --replay {}\n", file.display()))
}

fn sizes(found: &Found, shrunk: &Shrunk) -> String {
    let (before, after) = (&found.history, &shrunk.history);
    format!(
        "{} of {} acts, {} of {} nodes; {}",
        after.acts.len(),
        before.acts.len(),
        after.nodes.len(),
        before.nodes.len(),
        shrunk.why
    )
}

// -- progress ------------------------------------------------------------------------------------------------------------

/// One line on stderr that is written anew; where that is no terminal, a new one from time to time.
struct ProgressLine {
    steps: u64,
    terminal: bool,
    /// When it was last written, or when it began.
    written: Mutex<Option<Instant>>,
}

impl ProgressLine {
    fn new(steps: u64) -> Self {
        let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { steps, terminal, written: Mutex::new((!terminal).then(Instant::now)) }
    }

    fn tell(&self, steps: u64, took: Duration) {
        self.say(|| {
            let rate = steps as f64 / took.as_secs_f64().max(0.001);
            format!("{steps} of {} steps, {rate:.0} steps/s", self.steps)
        });
    }

    fn say(&self, words: impl FnOnce() -> String) {
        let Ok(mut written) = self.written.try_lock() else { return };
        let pause = if self.terminal { GLANCE } else { REMARK };
        if written.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        *written = Some(Instant::now());
        let words = words();
        let line = if self.terminal { format!("\r\x1b[K{words}") } else { format!("{words}\n") };
        io::stderr().write_all(line.as_bytes()).ok();
    }

    fn clear(&self) {
        if self.terminal {
            io::stderr().write_all(b"\r\x1b[K").ok();
        }
    }
}

// -- an early end --------------------------------------------------------------------------------------------------------

/// SIGINT, SIGTERM or SIGHUP: the histories under way are run to their end, and what was found is told. A second one ends the program.
struct EarlyEnd(&'static AtomicI32);

/// The signal that came, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

impl EarlyEnd {
    /// Threads that begin later leave the signals to the one that waits for them.
    fn watch() -> anyhow::Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGHUP);
        signals.thread_block().context("signals can not be blocked")?;
        let wait = move || {
            while let Ok(signal) = signals.wait() {
                if SIGNAL.swap(signal as i32, Ordering::Relaxed) != 0 {
                    std::process::exit(KILLED + signal as i32);
                }
            }
        };
        std::thread::Builder::new().spawn(wait).context("no thread can be started to wait for signals")?;
        Ok(Self(&SIGNAL))
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// As shells have it for a program that a signal has ended.
    fn code(&self) -> Option<ExitCode> {
        let signal = self.0.load(Ordering::Relaxed);
        (signal != 0).then(|| ExitCode::from(u8::try_from(KILLED + signal).unwrap_or(u8::MAX)))
    }
}

/// What shells add to the number of a signal.
const KILLED: i32 = 128;
