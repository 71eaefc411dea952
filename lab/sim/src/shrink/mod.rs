//! Small histories out of long ones: what is left goes wrong in the same way, and can be read.
//!
//! ```text
//!   found history --> end cut off --> acts dropped, by halves and then one by one --> nodes dropped --> milder conditions --> milder acts
//!                        ^                                                                                     |
//!                        +------------------------------ as long as something became smaller ------------------+
//! ```
//!
//! Every candidate is run; it takes the place of the best one if it goes wrong with the same [`FaultKind`] of fault. The order of the
//! candidates follows from the history alone, so that the same history with the same limits always shrinks to the same one.

mod milder;
#[cfg(test)]
mod tests;

use std::mem::{Discriminant, discriminant};

use crate::audit::Fault;
use crate::campaign::{Why, attempt};
use crate::history::{Act, History, Timed};
use crate::settled::Unsettled;
use crate::world::NodeAt;

/// Rounds in which everything is tried again because something became smaller.
const ROUNDS: u32 = 8;
/// After the last act, so long until all is well, at least: what was begun has begun.
const CALM_AFTER: u64 = 1_000;

/// How much shrinking may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Histories that are run.
    pub runs: u32,
    /// Steps they make in all, about: the run that passes the limit is the last.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { runs: 2_000, steps: 20_000_000 }
    }
}

/// The smallest history so far.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It.
    pub history: History,
    /// What goes wrong in it.
    pub why: Why,
    /// Histories that were run.
    pub runs: u32,
    /// Steps they made.
    pub steps: u64,
}

/// What makes two faults the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A broken promise of this kind.
    Fault(Discriminant<Fault>),
    /// The agent's own books are broken, in this way.
    Books(Discriminant<vpc_agent::Fault>),
    /// A quiet node is not as it should be, in this.
    Unsettled(Discriminant<Unsettled>),
    /// A panic, wherever.
    Panic,
    /// A world that can not be.
    NoWorld,
}

impl Why {
    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> FaultKind {
        match self {
            Self::Wrong(wrong) => match &wrong.fault {
                Fault::Agent { fault, .. } => FaultKind::Books(discriminant(fault)),
                Fault::Unsettled { what, .. } => FaultKind::Unsettled(discriminant(what)),
                fault => FaultKind::Fault(discriminant(fault)),
            },
            Self::Panicked(_) => FaultKind::Panic,
            Self::NoWorld(_) => FaultKind::NoWorld,
        }
    }
}

/// Finds a small history that goes wrong as this one does. `go_on` sees the best one before each run, and may end it there: so a
/// caller bounds the time.
pub fn shrink(history: &History, why: &Why, limits: Limits, go_on: &mut dyn FnMut(&Shrunk) -> bool) -> Shrunk {
    shrink_by(history, why, limits, go_on, &|history| match attempt(history) {
        Ok(report) => (report.steps, report.wrong.map(|wrong| Why::Wrong(Box::new(wrong)))),
        Err(why) => (0, Some(why)),
    })
}

/// Runs a history: how many steps it made, and what was wrong.
type Run<'a> = &'a dyn Fn(&History) -> (u64, Option<Why>);

fn shrink_by(
    history: &History,
    why: &Why,
    limits: Limits,
    go_on: &mut dyn FnMut(&Shrunk) -> bool,
    run: Run<'_>,
) -> Shrunk {
    let best = Shrunk { history: history.clone(), why: why.clone(), runs: 0, steps: 0 };
    let mut work = Shrinking { kind: why.kind(), best, limits, go_on, run, over: false };
    // It says how the history was drawn, which no longer holds.
    work.best.history.features.clear();
    for _ in 0..ROUNDS {
        let before = work.best.history.clone();
        work.cut_end();
        work.drop_acts();
        work.drop_nodes();
        work.milder_conditions();
        work.milder_acts();
        work.closer();
        if work.over || work.best.history == before {
            break;
        }
    }
    work.best
}

struct Shrinking<'a> {
    kind: FaultKind,
    best: Shrunk,
    limits: Limits,
    go_on: &'a mut dyn FnMut(&Shrunk) -> bool,
    run: Run<'a>,
    /// No more runs.
    over: bool,
}

impl Shrinking<'_> {
    /// Runs the best history with a change; keeps that if it still goes wrong.
    fn try_with(&mut self, change: impl FnOnce(&mut History)) -> bool {
        let mut candidate = self.best.history.clone();
        change(&mut candidate);
        if candidate == self.best.history || self.is_over() {
            return false;
        }
        self.best.runs += 1;
        let (steps, why) = (self.run)(&candidate);
        self.best.steps += steps;
        let Some(why) = why.filter(|why| why.kind() == self.kind) else { return false };
        self.best.history = candidate;
        self.best.why = why;
        true
    }

    fn is_over(&mut self) -> bool {
        self.over |=
            self.best.runs >= self.limits.runs || self.best.steps >= self.limits.steps || !(self.go_on)(&self.best);
        self.over
    }

    /// What comes after the fault does not matter.
    fn cut_end(&mut self) {
        let last = |history: &History| history.acts.last().map_or(0, |timed| timed.at_ms);
        if let Why::Wrong(wrong) = &self.best.why
            && wrong.at.0 < self.best.history.calm_ms
        {
            let at = wrong.at.0;
            self.try_with(|history| {
                history.acts.retain(|timed| timed.at_ms <= at);
                history.calm_ms = at;
            });
        }
        self.try_with(|history| history.calm_ms = history.calm_ms.min(last(history) + CALM_AFTER));
        // The shortest beginning that goes wrong; where that is not one point, any.
        let (mut holds, mut fails) = (0, self.best.history.acts.len());
        while holds < fails && !self.over {
            let middle = holds + (fails - holds) / 2;
            let shorter = self.try_with(|history| {
                history.acts.truncate(middle);
                history.calm_ms = history.calm_ms.min(last(history) + CALM_AFTER);
            });
            if shorter { fails = middle } else { holds = middle + 1 }
        }
    }

    /// Acts that do not matter: by pods, by halves, by quarters … and one by one, from the end.
    fn drop_acts(&mut self) {
        let mut size = self.best.history.acts.len().div_ceil(2);
        while size > 0 {
            let mut end = self.best.history.acts.len();
            while end > 0 && !self.over {
                let begin = end.saturating_sub(size);
                self.try_with(|history| drop(history.acts.drain(begin..end)));
                end = begin;
            }
            if size == self.best.history.acts.len().div_ceil(2) || size == 1 {
                self.drop_pods();
            }
            size /= 2;
        }
    }

    /// A pod goes with all that is done to it: without its end alone there would be more pods, not fewer.
    fn drop_pods(&mut self) {
        let mut pods: Vec<String> =
            self.best.history.acts.iter().filter_map(|timed| timed.act.pod()).map(str::to_owned).collect();
        pods.sort();
        pods.dedup();
        for pod in pods.iter().rev() {
            self.try_with(|history| history.acts.retain(|timed| timed.act.pod() != Some(pod)));
        }
    }

    fn drop_nodes(&mut self) {
        for index in (0..self.best.history.nodes.len()).rev() {
            if self.best.history.nodes.len() > 1 {
                self.try_with(|history| without_node(history, index));
            }
        }
    }

    /// Acts come sooner, and at round times.
    fn closer(&mut self) {
        let all = self.best.history.acts.len();
        for index in 0..all {
            let before = index.checked_sub(1).map_or(0, |before| self.best.history.acts[before].at_ms);
            let gap = self.best.history.acts[index].at_ms - before;
            for less in [gap, gap / 2, gap % 1_000] {
                if less > 0 && self.try_with(|history| sooner(history, index, less)) {
                    break;
                }
            }
        }
    }
}

/// All acts from that one on, and the calm, come so much sooner.
fn sooner(history: &mut History, from: usize, by_ms: u64) {
    history.acts[from..].iter_mut().for_each(|timed| timed.at_ms -= by_ms);
    history.calm_ms = history.calm_ms.saturating_sub(by_ms);
}

/// Takes a node and all that is about it away; those after it move up.
fn without_node(history: &mut History, index: usize) {
    history.nodes.remove(index);
    let name = |number: usize| History::node_name(NodeAt(number));
    let (gone, count) = (name(index), history.nodes.len());
    let stays = |timed: &mut Timed| {
        if let Some(node) = timed.act.node_mut() {
            if node.0 == index {
                return false;
            }
            node.0 -= usize::from(node.0 > index);
        }
        if let Act::Fault { fault, .. } = &mut timed.act
            && let Some(node) = milder::node_of(fault)
        {
            if *node == gone {
                return false;
            }
            if let Some(moved) = (index..count).find(|number| *node == name(number + 1)) {
                *node = name(moved);
            }
        }
        true
    };
    history.acts.retain_mut(stays);
}
