//! A run in words: what happened from outside, what daemons were told, asked and said, and at the end what was wrong.
//!
//! A world notes nothing unless it is told to ([`World::record`]): campaigns run without, and a history that went wrong is run once
//! more with it. Of a long run only what concerns the fault is shown ([`Story::told`]): first whatever touches its pod, address or ENI,
//! then what happened to its node from outside, then what failed, the latest first to be kept.

mod hear;
mod subject;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lab_cloud::AttachedEni;
use vpc_agent::{Generation, Input, OpId, Ticket};
use vpc_model::{EniId, SandboxKey, Slot, Time};

use crate::campaign::{Why, caught};
use crate::driver::{Driver, Report};
use crate::history::{Act, History, HistoryError};
use crate::world::{NodeAt, World};

/// Lines of a story.
pub const LINES: usize = 40;
/// Fewer lines are left out without a word.
const GAP: usize = 4;
/// Characters of a line that are shown.
const WIDTH: usize = 240;

/// What a world has noted.
#[derive(Clone, Debug, Default)]
pub struct Story {
    lines: Vec<Line>,
    /// Calls under way: since when, and what was asked.
    asked: BTreeMap<(NodeAt, OpId), (Time, String, Vec<Thing>)>,
    /// Checkpoints under way: what is new in them.
    writing: BTreeMap<(NodeAt, Generation), (String, Vec<Thing>)>,
    callers: BTreeMap<Ticket, SandboxKey>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
struct Line {
    at: Time,
    node: Option<NodeAt>,
    weight: Weight,
    about: Vec<Thing>,
    words: String,
}

/// How much a line explains, where it is not about the fault's own things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// The ordinary course of things.
    Detail,
    /// A change, a failure, a refusal.
    Event,
    /// Something from outside, or in a daemon's life.
    Turn,
}

/// Something a fault or a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A pod, by name.
    Pod(String),
    Slot(Slot),
    Eni(EniId),
}

impl Thing {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Slot(one), Self::Slot(another)) => {
                one == another
                    || matches!(another, Slot::Address(address) if holds(*one, *address))
                    || matches!(one, Slot::Address(address) if holds(*another, *address))
            }
            (one, another) => one == another,
        }
    }
}

fn slots(eni: &AttachedEni) -> impl Iterator<Item = Slot> + '_ {
    let single = eni.addresses.secondary.iter().copied().map(Slot::Address);
    single.chain(eni.addresses.prefixes.iter().copied().map(Slot::Prefix))
}

fn holds(slot: Slot, address: std::net::Ipv4Addr) -> bool {
    match slot {
        Slot::Address(own) => own == address,
        Slot::Prefix(prefix) => prefix.addresses().any(|own| own == address),
    }
}

impl World {
    /// Notes from now on what happens.
    pub fn record(&mut self) {
        self.story.get_or_insert_default();
    }

    /// What has been noted.
    #[must_use]
    pub fn story(&self) -> Option<&Story> {
        self.story.as_deref()
    }

    pub(crate) fn note(&mut self, node: Option<NodeAt>, weight: Weight, words: impl FnOnce() -> (Vec<Thing>, String)) {
        let at = self.now;
        if let Some(story) = &mut self.story {
            let (about, words) = words();
            story.lines.push(Line { at, node, weight, about, words });
        }
    }

    pub(crate) fn note_input(&mut self, node: NodeAt, input: &Input) {
        let (at, runs) = (self.now, self.node(node).is_some_and(|own| own.agent().is_some()));
        if let Some(story) = self.story.as_mut().filter(|_| runs) {
            story.input(at, node, input);
        }
    }

    pub(crate) fn note_act(&mut self, act: &Act) {
        let pod = act.pod().map(|pod| Thing::Pod(pod.to_owned()));
        // Pods come and go all the time.
        let weight = if pod.is_some() { Weight::Event } else { Weight::Turn };
        self.note(act.node(), weight, || (pod.into_iter().collect(), act.to_string()));
    }

    /// What an ENI of a node has gained and lost.
    pub(crate) fn note_changed(&mut self, node: NodeAt, eni: &AttachedEni) {
        if self.story.is_none() {
            return;
        }
        let before: BTreeSet<Slot> = self
            .node(node)
            .into_iter()
            .flat_map(|own| own.guest_enis())
            .filter(|own| own.id == eni.id)
            .flat_map(slots)
            .collect();
        let after: BTreeSet<Slot> = slots(eni).collect();
        let about: Vec<Thing> = before.symmetric_difference(&after).copied().map(Thing::Slot).collect();
        let change =
            |sign: char, slots: Vec<&Slot>| slots.into_iter().map(|slot| format!(" {sign}{slot}")).collect::<String>();
        let words =
            change('-', before.difference(&after).collect()) + &change('+', after.difference(&before).collect());
        if !words.is_empty() {
            self.note(Some(node), Weight::Detail, || (about, format!("{} in EC2:{words}", eni.id)));
        }
    }

    pub(crate) fn note_effect(&mut self, node: NodeAt, effect: &vpc_agent::Effect) {
        let at = self.now;
        if let Some(story) = &mut self.story {
            story.effect(at, node, effect);
        }
    }
}

/// A history that has happened once more.
#[derive(Clone, Debug)]
pub struct Replay {
    /// How far it came.
    pub report: Report,
    /// What was wrong.
    pub why: Option<Why>,
    /// What happened, in lines.
    pub story: String,
}

/// Lets a history happen once more, and tells it.
///
/// # Errors
/// Its world can not be.
pub fn replay(history: &History) -> Result<Replay, HistoryError> {
    let mut driver = Driver::new(history)?;
    driver.world.record();
    let ended = caught(|| driver.through(history));
    let report = driver.report();
    let why = ended.err().or_else(|| report.wrong.clone().map(|wrong| Why::Wrong(Box::new(wrong))));
    let story = driver.world.story().map(|story| story.told(report.end, why.as_ref())).unwrap_or_default();
    Ok(Replay { report, why, story })
}

impl Story {
    /// The lines that concern what was wrong, at most [`LINES`], each with its time in seconds; that is the last one. A run that
    /// panicked has no node to look at: the last lines are told.
    #[must_use]
    pub fn told(&self, end: Time, why: Option<&Why>) -> String {
        let (node, things) = match why {
            Some(Why::Wrong(wrong)) => wrong.fault.subject(),
            _ => (None, Vec::new()),
        };
        let mut text = String::new();
        let mut next = 0;
        for index in self.chosen(node, &things) {
            if index > next + GAP {
                _ = writeln!(text, "{:>13}  ({} lines left out)", "", index - next);
            }
            next = index + 1;
            let line = &self.lines[index];
            let node = line.node.map(History::node_name).unwrap_or_default();
            let words: String = line.words.chars().take(WIDTH).collect();
            let more = if words.len() < line.words.len() { "…" } else { "" };
            _ = writeln!(text, "{:>11.3} s  {node:<7} {words}{more}", seconds(line.at));
        }
        let wrong = match why {
            Some(Why::Wrong(wrong)) => wrong.fault.to_string(),
            Some(why) => why.to_string(),
            None => return text,
        };
        let node = node.map(History::node_name).unwrap_or_default();
        _ = writeln!(text, "{:>11.3} s  {node:<7} WRONG: {wrong}", seconds(end));
        text
    }

    /// The lines to show, in order.
    fn chosen(&self, node: Option<NodeAt>, things: &[Thing]) -> Vec<usize> {
        let here = |line: &Line| node.is_none() || line.node.is_none() || line.node == node;
        let about = |line: &Line| line.about.iter().any(|own| things.iter().any(|thing| thing.same(own)));
        let mut chosen = Vec::new();
        for rank in [None, Some(Weight::Turn), Some(Weight::Event), Some(Weight::Detail)] {
            let of_rank = |line: &Line| match rank {
                None => about(line),
                Some(weight) => here(line) && line.weight == weight && !about(line),
            };
            let left = LINES - chosen.len();
            let matching = self.lines.iter().enumerate().rev().filter(|(_, line)| of_rank(line));
            chosen.extend(matching.map(|(index, _)| index).take(left));
        }
        chosen.sort_unstable();
        chosen
    }
}

fn seconds(at: Time) -> f64 {
    at.0 as f64 / 1000.0
}
