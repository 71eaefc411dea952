//! The groups of figures, each contestant in its turn: pods one after the other, many at once, for some seconds without a pause.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use vpc_linux::Netns;

use crate::growth;
use crate::node::{self, Stub};
use crate::plan::{Contestant, Plan};
use crate::pod::{Pod, gone_at};
use crate::run::Took;

/// A contestant, where it runs, and what was measured of it: lists by the figure's name, in milliseconds unless the name says otherwise.
pub(crate) struct Turn<'a> {
    pub(crate) who: &'a Contestant,
    pub(crate) host: Netns,
    figures: BTreeMap<&'static str, Vec<f64>>,
}

impl<'a> Turn<'a> {
    pub(crate) fn note(&mut self, figure: &'static str, value: f64) {
        self.figures.entry(figure).or_default().push(value);
    }

    fn took(&mut self, wall: &'static str, cpu: &'static str, took: Took) {
        self.note(wall, ms(took.wall));
        self.note(cpu, ms(took.cpu));
    }
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Measures everything the plan names and prints it.
pub(crate) fn measure(plan: &Plan) -> Result<()> {
    let _stub = if plan.daemon_is_here {
        None
    } else {
        node::leave()?;
        Some(Stub::start()?)
    };
    let host = || if plan.daemon_is_here { Ok(Netns::current()?) } else { node::host() };
    let turns = plan.contestants.iter().map(|who| Ok(Turn { who, host: host()?, figures: BTreeMap::new() }));
    let mut turns = turns.collect::<Result<Vec<_>>>()?;
    let mut trouble = Vec::new();
    let mut group = |name: &str, done: Result<()>| {
        if let Err(error) = done {
            trouble.push(format!("{name}: {error:#}"));
        }
    };
    // The first pods find cold caches; they are not counted.
    group("warming up", one_by_one(&mut turns, 3));
    turns.iter_mut().for_each(|turn| turn.figures.clear());
    group("one by one", one_by_one(&mut turns, plan.pods));
    group("at once", (0..plan.rounds).try_for_each(|_| at_once(&mut turns, plan.at_once)));
    group("memory", memory(&mut turns));
    group("a full node", growth::measure(&mut turns, plan));
    group("without a pause", without_pause(&mut turns, plan.seconds));
    let figures: serde_json::Map<String, Value> =
        turns.into_iter().map(|turn| (turn.who.name.clone(), json!(turn.figures))).collect();
    println!("{}", json!({ "figures": figures, "trouble": trouble }));
    Ok(())
}

fn one_by_one(turns: &mut [Turn<'_>], pods: usize) -> Result<()> {
    for _ in 0..pods {
        for turn in &mut *turns {
            let who = turn.who;
            let (added, deleted, gone) = turn.host.clone().enter(|| one(who))?.with_context(|| who.name.clone())?;
            turn.took("add", "add_cpu", added);
            turn.took("del", "del_cpu", deleted);
            turn.note("del_gone", ms(gone));
        }
    }
    Ok(())
}

/// ADD, DEL, and from DEL's begin to the link's end.
fn one(who: &Contestant) -> Result<(Took, Took, Duration)> {
    let mut pod = Pod::sandbox()?;
    let added = pod.add(who)?;
    let begin = Instant::now();
    let deleted = pod.del(who)?;
    pod.drop_namespace()?;
    let (told, gone) = mpsc::channel();
    gone_at(vec![pod.link.clone()], &told)?;
    let (_, at) = gone.recv()?;
    Ok((added, deleted, at - begin))
}

fn at_once(turns: &mut [Turn<'_>], pods: usize) -> Result<()> {
    for turn in turns {
        let who = turn.who;
        let round = turn.host.clone().enter(|| round(who, pods))?.with_context(|| who.name.clone())?;
        for (added, deleted, gone) in round {
            turn.took("add_many", "add_many_cpu", added);
            turn.took("del_many", "del_many_cpu", deleted);
            turn.note("del_gone_many", ms(gone));
        }
    }
    Ok(())
}

/// So many pods come at the same moment, then all of them go at the same moment.
fn round(who: &Contestant, pods: usize) -> Result<Vec<(Took, Took, Duration)>> {
    let sandboxes = (0..pods).map(|_| Pod::sandbox()).collect::<Result<Vec<_>>>()?;
    let came = together(sandboxes, |mut pod| Ok((pod.add(who)?, pod)))?;
    let links: Vec<String> = came.iter().map(|(_, pod)| pod.link.clone()).collect();
    let (told, gone) = mpsc::channel();
    std::thread::scope(|scope| {
        let looking = scope.spawn(move || gone_at(links, &told));
        let went = together(came, |(added, pod)| {
            let begin = Instant::now();
            let deleted = pod.del(who)?;
            pod.drop_namespace()?;
            Ok((added, deleted, begin, pod.link))
        })?;
        looking.join().map_err(|_| anyhow!("the thread that looks for links panicked"))??;
        let gone: BTreeMap<String, Instant> = gone.iter().collect();
        let whole = |(added, deleted, begin, link): (Took, Took, Instant, String)| {
            let at = gone.get(&link).with_context(|| format!("nobody saw {link} go"))?;
            Ok((added, deleted, *at - begin))
        };
        went.into_iter().map(whole).collect()
    })
}

/// Runs the work for each at the same moment, each on a thread of its own; gives results in order.
fn together<P: Send, R: Send>(all: Vec<P>, work: impl Fn(P) -> Result<R> + Sync) -> Result<Vec<R>> {
    let start = Barrier::new(all.len());
    std::thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let begin = |one| {
            scope.spawn(move || {
                start.wait();
                work(one)
            })
        };
        let threads: Vec<_> = all.into_iter().map(begin).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a pod's thread panicked"))?).collect()
    })
}

/// Some ADDs are enough: they differ by a page or two.
const MEMORY_SAMPLES: usize = 3;

fn memory(turns: &mut [Turn<'_>]) -> Result<()> {
    for turn in turns.iter_mut().filter(|turn| turn.who.config.is_some()) {
        let who = turn.who;
        for _ in 0..MEMORY_SAMPLES {
            let bytes = turn.host.clone().enter(|| {
                let pod = Pod::sandbox()?;
                let bytes = pod.peak_memory_of_add(who)?;
                // Its result is lost; a runtime that lost it would call DEL without one.
                pod.del(who)?;
                pod.drop_namespace()?;
                anyhow::Ok(bytes)
            })??;
            turn.note("peak_rss_bytes", bytes as f64);
        }
    }
    Ok(())
}

/// Pods that live at once for each worker.
const ALIVE: usize = 8;
/// No plugin needs more namespaces a second than this: two processors make about as many pairs of links.
const NAMESPACES_A_SECOND: f64 = 900.0;
/// Slices of the time, so that no contestant has a bad minute for itself.
const SLICES: u32 = 2;

/// ADDs and DELs, half and half, by two workers for each processor; the namespaces are made before, and go with the DEL.
fn without_pause(turns: &mut [Turn<'_>], seconds: f64) -> Result<()> {
    if seconds <= 0.0 {
        return Ok(());
    }
    let mut rates: Vec<f64> = turns.iter().map(|_| NAMESPACES_A_SECOND).collect();
    for _ in 0..SLICES {
        for (turn, rate) in turns.iter_mut().zip(&mut rates) {
            let who = turn.who;
            let slice = Duration::from_secs_f64(seconds / f64::from(SLICES));
            let sandboxes = (*rate * slice.as_secs_f64()) as usize;
            let rate_now =
                turn.host.clone().enter(|| busy(who, sandboxes, slice))?.with_context(|| who.name.clone())?;
            turn.note("operations_a_second", rate_now);
            // Half of the operations need a namespace; the rest is for a better second time.
            *rate = (rate_now * 0.75 + 50.0).min(NAMESPACES_A_SECOND);
        }
    }
    Ok(())
}

/// Operations a second.
fn busy(who: &Contestant, sandboxes: usize, time: Duration) -> Result<f64> {
    let sandboxes = (0..sandboxes).map(|_| Pod::sandbox()).collect::<Result<VecDeque<_>>>()?;
    let (sandboxes, done) = (Mutex::new(sandboxes), AtomicUsize::new(0));
    let next = || sandboxes.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let begin = Instant::now();
    let worker = || -> Result<(VecDeque<Pod>, Instant)> {
        let mut alive = VecDeque::new();
        while begin.elapsed() < time {
            let Some(mut pod) = next() else { break };
            pod.add(who)?;
            done.fetch_add(1, Ordering::Relaxed);
            alive.push_back(pod);
            if alive.len() > ALIVE
                && let Some(pod) = alive.pop_front()
            {
                pod.del(who)?;
                pod.drop_namespace()?;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok((alive, Instant::now()))
    };
    let workers = 2 * std::thread::available_parallelism()?.get();
    let ended = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let ends = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a worker panicked"))?);
        ends.collect::<Result<Vec<_>>>()
    })?;
    let last = ended.iter().map(|(_, at)| *at).max().context("no workers")?;
    let rate = done.load(Ordering::Relaxed) as f64 / (last - begin).as_secs_f64();
    let rest: Vec<Pod> = sandboxes.into_inner().unwrap_or_else(PoisonError::into_inner).into();
    rest.iter().try_for_each(Pod::drop_namespace)?;
    let alive: Vec<Pod> = ended.into_iter().flat_map(|(alive, _)| alive).collect();
    alive.iter().try_for_each(|pod| pod.del(who).map(drop).and_then(|()| pod.drop_namespace()))?;
    let (told, _gone) = mpsc::channel();
    gone_at(alive.into_iter().map(|pod| pod.link).collect(), &told)?;
    ensure!(rate.is_finite(), "nothing was done");
    Ok(rate)
}
