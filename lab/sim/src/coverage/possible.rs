//! Pairs that can not be, and why; what a campaign is held to.

use vpc_agent::{Purpose, Situation};

use super::{Ended, Kind, Plain, SELDOM};

/// Inputs in certain situations.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The situations; empty: all of them.
    pub situations: &'static [Situation],
    /// The inputs.
    pub inputs: Inputs,
    /// Why they can not come there.
    pub why: &'static str,
}

/// Some kinds of inputs.
#[derive(Clone, Copy, Debug)]
pub enum Inputs {
    /// These.
    Plain(&'static [Plain]),
    /// Answers to these, however they ended.
    Answers(&'static [Purpose]),
    /// Answers to these that ended in these ways.
    Ended(&'static [Purpose], &'static [Ended]),
}

/// What a long campaign is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is hit.
    Hit,
    /// It can be, and is hit now and then, or not.
    Seldom(&'static str),
    /// It can not be.
    Never(&'static str),
}

/// Everything that can not be.
pub const IMPOSSIBLE: &[Entry] = &[
    Entry {
        situations: &[],
        inputs: Inputs::Answers(&[Purpose::Limits]),
        why: "limits are asked for where the type of the instance is not known; those of histories are",
    },
    Entry {
        situations: &[],
        inputs: Inputs::Plain(&[Plain::LateAnswer]),
        why: "the client ends every request before the agent takes its answer for lost, and answers to an earlier life end with it",
    },
    Entry {
        situations: &[Situation::Refused, Situation::Resting, Situation::Full, Situation::Quiet],
        inputs: Inputs::Answers(&[Purpose::Create, Purpose::Attach, Purpose::Assign]),
        why: "what is on its way makes the agent waiting or growing",
    },
    Entry {
        situations: &[Situation::Pausing, Situation::Growing, Situation::Quiet],
        inputs: Inputs::Answers(&[Purpose::Detach]),
        why: "an ENI that is being given back makes the agent giving-back (positions do so as long as their ENI is in the books)",
    },
    Entry {
        situations: &[Situation::Full],
        inputs: Inputs::Plain(&[Plain::FlowsFlushed]),
        why: "addresses whose flows are being forgotten still rest",
    },
];

/// What a long campaign is held to.
#[must_use]
pub fn expected(situation: Situation, kind: Kind) -> Expected {
    let names = |entry: &&Entry| {
        let there = entry.situations.is_empty() || entry.situations.contains(&situation);
        there && entry.inputs.contain(kind)
    };
    let seldom = SELDOM.iter().find(|entry| entry.input == kind && !entry.but.contains(&situation));
    match (IMPOSSIBLE.iter().find(names), seldom) {
        (Some(entry), _) => Expected::Never(entry.why),
        (None, Some(entry)) => Expected::Seldom(entry.why(situation)),
        (None, None) => Expected::Hit,
    }
}

impl Inputs {
    fn contain(self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::Plain(those), Kind::Plain(plain)) => those.contains(&plain),
            (Self::Answers(purposes), Kind::Ec2(purpose, _)) => purposes.contains(&purpose),
            (Self::Ended(purposes, ends), Kind::Ec2(purpose, ended)) => {
                purposes.contains(&purpose) && ends.contains(&ended)
            }
            _ => false,
        }
    }
}
