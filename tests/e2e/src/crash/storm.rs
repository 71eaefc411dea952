//! ADDs and DELs at a rate on a big node, while daemon and plugins are killed at random.
//!
//! ```text
//!   clock ----ADD, DEL, so many a second---> callers: a sandbox after the other until the pod runs, as kubelet does
//!   killer ---SIGKILL, start, SIGKILL on the way up---> daemon
//!   killer ---"kill-after" a random moment of its life---> plugins
//!   pinger ---a running pod, the peer---> answered?
//!   afterwards: all pods talk; nothing leaked with pods there, and with none
//! ```
//!
//! What is right does not depend on time: an attempt that saw a whole node (the daemon there from its begin to its end, its own plugin not
//! killed) must succeed; a pod that runs is reached; no address has two owners, or rests too short. How long things took is told beside.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use vpc_lab::control::DaemonAction;
use vpc_lab::kubelet::PodStatus;

use super::audit;
use super::bed::{BUSY, Bed, NODE, PAUSE, SHORT, Setup, is_busy, plugin_died, pod_name};
use super::programs::{Program, Programs};

/// How long a pod is tried for before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long something may be left over once it is quiet: what is promised.
pub const QUIET_AFTER: Duration = Duration::from_secs(60);
/// An ADD on a whole node takes at most so long, retries included: what is promised, told and not enforced by tests.
pub const BOUND: Duration = Duration::from_secs(2);
/// Callers that may be at work at once: a kubelet has no such limit, a machine has.
const CALLERS: usize = 48;
/// Seconds an address rests; and how exactly moments are told apart.
const REST: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// How long.
    pub lasts: Duration,
    /// Where all chance comes from. Processes run as they like, so a seed repeats the plan and not the run.
    pub seed: u64,
    /// ADDs a second, and as many DELs.
    pub rate: u32,
    /// Pods there from the beginning.
    pub pods: u32,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Pods that were made in the storm, and deleted.
    pub added: u64,
    /// Pods that were deleted.
    pub deleted: u64,
    /// How long the storm was, in seconds.
    pub seconds: f64,
    /// Calls that the clock left out because all callers were at work.
    pub left_out: u64,
    /// Sandboxes that failed, for whatever reason.
    pub failed: u64,
    /// Most sandboxes one pod took.
    pub most_attempts: u64,
    /// SIGKILLs of the daemon.
    pub daemon_kills: u64,
    /// Of those, while it was starting.
    pub kills_at_start: u64,
    /// SIGKILLs of plugins that an ADD noticed.
    pub plugin_kills: u64,
    /// Orders to kill a plugin.
    pub plugin_orders: u64,
    /// Pings of running pods.
    pub pings: u64,
    /// From a pod's first attempt until it ran.
    pub slowest: Duration,
    /// From the moment the node was whole for a pod (daemon there, its last plugin killed) until it ran.
    pub slowest_whole: Duration,
    /// How long something was left over once it was quiet: with pods, and without any.
    pub quiet_after: [Duration; 2],
    /// What must never happen.
    pub wrong: Vec<String>,
}

impl Report {
    /// Nothing that must never happen has happened.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Right, and as fast as promised.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.is_right() && self.slowest_whole <= BOUND
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / self.seconds.max(0.001);
        let seconds = Duration::as_secs_f64;
        writeln!(
            f,
            "ADD {} ({:.1}/s), DEL {} ({:.1}/s) in {:.0} s; {} calls left out",
            self.added,
            rate(self.added),
            self.deleted,
            rate(self.deleted),
            self.seconds,
            self.left_out
        )?;
        writeln!(
            f,
            "SIGKILL: daemon {} ({} of them while it started), plugin {} in ADDs ({} ordered for ADDs and DELs)",
            self.daemon_kills, self.kills_at_start, self.plugin_kills, self.plugin_orders
        )?;
        writeln!(f, "sandboxes that failed: {}; most for one pod: {}", self.failed, self.most_attempts)?;
        writeln!(
            f,
            "slowest ADD: {:.2} s from its first attempt; {:.2} s on a whole node (promised: {} s, {})",
            seconds(&self.slowest),
            seconds(&self.slowest_whole),
            BOUND.as_secs(),
            if self.slowest_whole <= BOUND { "kept" } else { "NOT KEPT" }
        )?;
        let [with, without] = &self.quiet_after;
        writeln!(
            f,
            "nothing leaked {:.1} s after the storm, and {:.1} s after the last pod (promised: {} s); {} pings of running pods",
            seconds(with),
            seconds(without),
            QUIET_AFTER.as_secs(),
            self.pings
        )?;
        for wrong in &self.wrong {
            writeln!(f, "WRONG: {wrong}")?;
        }
        write!(f, "{}", if self.is_right() { "nothing lost, nothing given twice, nothing leaked" } else { "FAILED" })
    }
}

/// A c5.4xlarge with prefixes and a rest of two seconds.
#[must_use]
pub fn big() -> Setup {
    let mut env = SHORT.to_vec();
    env.extend([("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")]);
    Setup { instance_type: "c5.4xlarge", env, init: None }.with("IP_COOLDOWN_PERIOD", "2")
}

enum Work {
    Add(u64),
    Del,
}

struct Field<'a> {
    bed: &'a Bed,
    over: AtomicBool,
    /// Odd while the daemon is not there.
    age: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    alive: Vec<PodStatus>,
    owners: BTreeMap<Ipv4Addr, String>,
    rests: BTreeMap<Ipv4Addr, Instant>,
    whole_since: Option<Instant>,
    report: Report,
}

/// Runs a storm in a lab of its own.
///
/// # Errors
/// The lab fails. What the programs do wrong is in the report.
pub fn run(programs: &Programs, storm: &Storm) -> Result<Report> {
    let bed = Bed::start(programs, &big())?;
    let field =
        Field { bed: &bed, over: AtomicBool::new(false), age: AtomicU64::new(0), state: Mutex::new(State::default()) };
    let mut chance = Chance(storm.seed);
    field.blow(storm, &mut chance)?;
    bed.disarm()?;
    bed.revive()?;
    let mut report = field.state.into_inner().unwrap_or_else(PoisonError::into_inner).report;
    aftermath(&bed, &mut report)?;
    if !report.is_right() {
        report.wrong.push(bed.last_words());
    }
    Ok(report)
}

/// Nothing is lost, and nothing stays behind.
fn aftermath(bed: &Bed, report: &mut Report) -> Result<()> {
    if let Err(error) = bed.all_talk() {
        report.wrong.push(format!("after the storm: {error}"));
    }
    for step in 0..2 {
        match audit::settles(bed, QUIET_AFTER) {
            Ok(after) => report.quiet_after[step] = after,
            Err(error) => report.wrong.push(format!("{error:#}")),
        }
        for pod in bed.pods()?.iter().filter(|_| step == 0) {
            bed.delete(&pod.pod.name)?;
        }
    }
    Ok(())
}

impl Field<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn wrong(&self, what: String) {
        self.state().report.wrong.push(what);
    }

    fn blow(&self, storm: &Storm, chance: &mut Chance) -> Result<()> {
        let (work, inbox) = channel();
        let inbox = Mutex::new(inbox);
        let (killers, pinger) = ([chance.child(), chance.child()], chance.child());
        let [of_daemon, of_plugins] = killers;
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS)
                .map(|number| {
                    let chance = Chance(storm.seed.wrapping_add(u64::try_from(number).unwrap_or(0)));
                    let inbox = &inbox;
                    scope.spawn(move || self.answer(inbox, chance))
                })
                .collect();
            (0..u64::from(storm.pods)).for_each(|number| drop(work.send(Work::Add(number))));
            self.await_pods(usize::try_from(storm.pods).unwrap_or(0));
            self.state().report = Report::default();
            let begin = Instant::now();
            let others = [
                scope.spawn(move || self.kill_daemon(of_daemon)),
                scope.spawn(move || self.kill_plugins(of_plugins)),
                scope.spawn(move || self.ping(pinger)),
            ];
            self.tick(storm, &work);
            self.state().report.seconds = begin.elapsed().as_secs_f64();
            self.over.store(true, Ordering::Release);
            let mut ended = Ok(());
            for other in others {
                ended = ended.and(other.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread of the storm died"))));
            }
            // What is under way is finished on a whole node.
            drop(work);
            callers.into_iter().for_each(|caller| drop(caller.join()));
            ended
        })
    }

    fn await_pods(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.state().alive.len() < count && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Orders an ADD and a DEL at each tick, unless the callers are behind.
    fn tick(&self, storm: &Storm, work: &Sender<Work>) {
        let begin = Instant::now();
        let pace = Duration::from_secs(1) / storm.rate.max(1);
        for number in 1.. {
            let due = begin + pace * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if begin.elapsed() >= storm.lasts {
                return;
            }
            let name = u64::from(storm.pods) + u64::from(number);
            // Nobody listens any more only when the storm is over.
            let _ = work.send(Work::Add(name)).and_then(|()| work.send(Work::Del));
        }
    }

    fn answer(&self, inbox: &Mutex<Receiver<Work>>, mut chance: Chance) {
        loop {
            let next = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match next {
                Ok(Work::Add(number)) => self.add(number),
                Ok(Work::Del) => self.del(&mut chance),
                Err(_) => return,
            }
        }
    }

    fn add(&self, number: u64) {
        let name = format!("pod-{number}");
        let Ok(pod) = pod_name(&name) else { return };
        let begin = Instant::now();
        let mut whole = begin;
        let mut attempt = 1;
        loop {
            let before = self.age.load(Ordering::Acquire);
            let asked = Instant::now();
            match self.bed.lab.pod_add(NODE, &pod, 1) {
                Ok(pod) => return self.added(pod, attempt, begin, whole),
                Err(error) if is_busy(&error) && begin.elapsed() < PATIENCE => {
                    std::thread::sleep(BUSY);
                    continue;
                }
                Err(error) => {
                    let after = self.age.load(Ordering::Acquire);
                    let died = plugin_died(&error);
                    {
                        let mut state = self.state();
                        state.report.failed += 1;
                        state.report.plugin_kills += u64::from(died);
                    }
                    if died {
                        whole = Instant::now();
                    } else if before == after && before.is_multiple_of(2) {
                        let took = asked.elapsed();
                        self.wrong(format!("ADD of {name} failed on a whole node after {took:?}: {error}"));
                    }
                }
            }
            if begin.elapsed() > PATIENCE {
                return self.wrong(format!("{name} got no address in {attempt} sandboxes"));
            }
            attempt += 1;
            std::thread::sleep(PAUSE);
        }
    }

    fn added(&self, pod: PodStatus, attempts: u64, begin: Instant, whole: Instant) {
        let now = Instant::now();
        let mut state = self.state();
        let name = pod.pod.to_string();
        let Some(address) = pod.address else {
            return state.report.wrong.push(format!("{name} was added without an address"));
        };
        if let Some(other) = state.owners.insert(address, name.clone()) {
            state.report.wrong.push(format!("{address} was given to {name} while {other} had it"));
        }
        if let Some(since) = state.rests.remove(&address).map(|at| now.duration_since(at))
            && since + SLACK < REST
        {
            state.report.wrong.push(format!("{address} was given to {name} after a rest of {since:?}"));
        }
        let whole = state.whole_since.map_or(whole, |at| at.max(whole));
        let report = &mut state.report;
        report.added += 1;
        report.most_attempts = report.most_attempts.max(attempts);
        report.slowest = report.slowest.max(now - begin);
        report.slowest_whole = report.slowest_whole.max(now.saturating_duration_since(whole));
        state.alive.push(pod);
    }

    fn del(&self, chance: &mut Chance) {
        let pod = {
            let mut state = self.state();
            if state.alive.is_empty() {
                state.report.left_out += 1;
                return;
            }
            let at = chance.below(u64::try_from(state.alive.len()).unwrap_or(1));
            let pod = state.alive.swap_remove(usize::try_from(at).unwrap_or(0));
            if let Some(address) = pod.address {
                state.owners.remove(&address);
                state.rests.insert(address, Instant::now());
            }
            pod
        };
        match self.bed.delete(&pod.pod.name) {
            Ok(()) => self.state().report.deleted += 1,
            Err(error) => self.wrong(error.to_string()),
        }
    }

    fn kill_daemon(&self, mut chance: Chance) -> Result<()> {
        let lab = &self.bed.lab;
        while self.sleep(Duration::from_millis(400 + chance.below(3600))) {
            self.age.fetch_add(1, Ordering::AcqRel);
            lab.daemon(NODE, DaemonAction::Kill).context("the daemon was not there to be killed")?;
            self.state().report.daemon_kills += 1;
            while chance.below(3) == 0 {
                let micros = chance.below(150_000);
                self.bed.arm(Program::Daemon, "start-alone", &format!("kill-after:{micros}"))?;
                // It may be ready before it is killed, or not.
                let _ = lab.daemon(NODE, DaemonAction::Start);
                std::thread::sleep(Duration::from_micros(micros));
                self.await_end()?;
                let report = &mut self.state().report;
                report.daemon_kills += 1;
                report.kills_at_start += 1;
            }
            std::thread::sleep(Duration::from_millis(chance.below(300)));
            lab.daemon(NODE, DaemonAction::Start)?;
            self.state().whole_since = Some(Instant::now());
            self.age.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    fn await_end(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.bed.runs()? {
            anyhow::ensure!(Instant::now() < end, "the daemon does not die");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Each order kills one plugin, of an ADD or a DEL, at a random moment of its life.
    fn kill_plugins(&self, mut chance: Chance) -> Result<()> {
        while self.sleep(Duration::from_millis(50 + chance.below(300))) {
            let micros = chance.below(12_000);
            self.bed.arm(Program::Plugin, "begin", &format!("kill-after:{micros}"))?;
            self.state().report.plugin_orders += 1;
        }
        Ok(())
    }

    fn ping(&self, mut chance: Chance) -> Result<()> {
        while self.sleep(Duration::from_millis(100)) {
            let pod = {
                let state = self.state();
                let count = u64::try_from(state.alive.len()).unwrap_or(0);
                let at = chance.below(count.max(1));
                state.alive.get(usize::try_from(at).unwrap_or(0)).cloned()
            };
            let Some(pod) = pod else { continue };
            let talks = self.bed.talks(&pod);
            let mut state = self.state();
            state.report.pings += 1;
            // One that was deleted meanwhile need not answer.
            let still = state.alive.iter().any(|other| other.pod == pod.pod);
            if still && !matches!(talks, Ok(true)) {
                let what = format!("{} ({:?}) does not reach the peer: {talks:?}", pod.pod, pod.address);
                state.report.wrong.push(what);
            }
        }
        Ok(())
    }

    /// Whether the storm goes on after so long.
    fn sleep(&self, span: Duration) -> bool {
        let end = Instant::now() + span;
        while !self.is_over() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10).min(end.saturating_duration_since(Instant::now())));
        }
        !self.is_over()
    }
}

/// SplitMix64: numbers that look random, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn child(&mut self) -> Self {
        Self(self.next())
    }
}
