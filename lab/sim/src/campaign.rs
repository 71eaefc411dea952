//! Many histories, one after another or several at once, from one seed.
//!
//! The histories of a campaign are numbered; the seed of each follows from the campaign's and its number alone. A campaign of so
//! many steps is the shortest row of histories from number 0 that has them: it is the same row for any number of jobs.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::coverage::Coverage;
use crate::driver::{Report, Wrong, run};
use crate::history::{Feature, History};

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// Where its histories come from.
    pub seed: u64,
    /// Steps to make in all.
    pub steps: u64,
    /// Threads.
    pub jobs: usize,
    /// Acts of one history, about.
    pub acts: u32,
    /// What may be mixed into its histories.
    pub kinds: BTreeSet<Feature>,
}

/// What came of a campaign.
#[derive(Debug, Default)]
pub struct Finding {
    /// Histories that were run.
    pub histories: u64,
    /// Steps they made.
    pub steps: u64,
    /// Requests to EC2 they made.
    pub calls: u64,
    /// The most that one of them made, and its number.
    pub busiest: Option<(u64, u64)>,
    /// Which inputs came in which situations.
    pub coverage: Coverage,
    /// Those in which something was wrong, by number.
    pub found: Vec<Found>,
}

/// A history in which something was wrong.
#[derive(Debug)]
pub struct Found {
    /// Its number in the campaign.
    pub number: u64,
    /// It.
    pub history: History,
    /// What.
    pub why: Why,
}

/// What was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A promise was broken.
    Wrong(Box<Wrong>),
    /// The program panicked.
    Panicked(String),
    /// The history's world can not be.
    NoWorld(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wrong(wrong) => write!(f, "after {} steps, at {} ms: {}", wrong.step, wrong.at.0, wrong.fault),
            Self::Panicked(words) => write!(f, "it panicked: {words}"),
            Self::NoWorld(words) => f.write_str(words),
        }
    }
}

impl Campaign {
    /// One on a single thread, of everything there is.
    #[must_use]
    pub fn new(seed: u64, steps: u64, acts: u32) -> Self {
        Self { seed, steps, jobs: 1, acts, kinds: Feature::ALL.into() }
    }

    /// The options of `vpc-lab sim` that give the history of a number again.
    #[must_use]
    pub fn again(&self, number: u64) -> String {
        let own = format!("--seed {} --acts {} --only {number}", self.seed, self.acts);
        match self.kinds.len() == Feature::ALL.len() {
            true => own,
            false => {
                let kinds: Vec<String> = self.kinds.iter().map(ToString::to_string).collect();
                format!("{own} --kinds {}", kinds.join(","))
            }
        }
    }

    /// The history of a number.
    #[must_use]
    pub fn history(&self, number: u64) -> History {
        // Two rounds of splitmix's step, so that neighbours have nothing in common.
        let mixed = (self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        History::draw_of(mixed ^ (mixed >> 31), self.acts, &self.kinds)
    }

    /// Steps that a history of usual length has at least, mostly.
    const OF_A_HISTORY: u64 = 2_000;

    /// Runs it, until the steps are made or `most` histories went wrong. `tell` hears of the steps made so far, from time to time; it
    /// ends early when that says no.
    pub fn run(&self, most: usize, tell: &(dyn Fn(u64) -> bool + Sync)) -> Finding {
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let row = Mutex::new(Row { steps: self.steps, most, ..Row::default() });
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let history = self.history(number);
                let outcome = attempt(&history);
                let Ok(mut row) = row.lock() else { return };
                let complete = row.add(number, Done { history, outcome });
                if !tell(row.finding.steps) || complete {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        };
        // More at once than histories are needed would only run some that do not count.
        let useful = usize::try_from(self.steps / Self::OF_A_HISTORY).unwrap_or(usize::MAX).saturating_add(1);
        std::thread::scope(|scope| {
            for _ in 1..self.jobs.min(useful) {
                // Where the system gives no more threads, those there are do all of it.
                if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        row.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).finding
    }
}

/// The row of histories from number 0, as far as there is no gap in it.
#[derive(Default)]
struct Row {
    steps: u64,
    most: usize,
    finding: Finding,
    /// Those beyond the first that is still being run.
    ahead: BTreeMap<u64, Done>,
}

/// A history that was run.
struct Done {
    history: History,
    outcome: Result<Report, Why>,
}

impl Row {
    /// Adds one; whether the row is as long as was asked for. What lies beyond does not count.
    fn add(&mut self, number: u64, done: Done) -> bool {
        self.ahead.insert(number, done);
        while !self.is_complete()
            && let Some(done) = self.ahead.remove(&self.finding.histories)
        {
            self.take(done);
        }
        self.is_complete()
    }

    fn is_complete(&self) -> bool {
        self.finding.steps >= self.steps || self.finding.found.len() >= self.most
    }

    fn take(&mut self, Done { history, outcome }: Done) {
        let all = &mut self.finding;
        let number = all.histories;
        all.histories += 1;
        let why = match outcome {
            Ok(report) => {
                all.steps += report.steps;
                all.calls += report.calls;
                all.busiest = all.busiest.max(Some((report.calls, number)));
                all.coverage.add(&report.coverage);
                report.wrong.map(|wrong| Why::Wrong(Box::new(wrong)))
            }
            Err(why) => Some(why),
        };
        all.found.extend(why.map(|why| Found { number, history, why }));
    }
}

thread_local! {
    /// Where this thread last panicked.
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics of this process print nothing; [`attempt`] says where they were. For programs that run campaigns.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
        PANICKED.with(|last| *last.borrow_mut() = place);
    }));
}

/// Runs a history; why there is no report, if there is none.
///
/// # Errors
/// It panicked, or its world can not be.
pub fn attempt(history: &History) -> Result<Report, Why> {
    match caught(|| run(history)) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => Err(Why::NoWorld(error.to_string())),
        Err(why) => Err(why),
    }
}

/// Does something that may panic.
pub(crate) fn caught<T>(deed: impl FnOnce() -> T) -> Result<T, Why> {
    catch_unwind(AssertUnwindSafe(deed)).map_err(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default();
        match PANICKED.with(|last| last.borrow_mut().take()) {
            Some(place) => Why::Panicked(format!("{words} ({place})")),
            None => Why::Panicked(words),
        }
    })
}
