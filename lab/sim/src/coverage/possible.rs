//! Pairs that can not be, and why.

use vpc_agent::{Purpose, Situation};

use super::{Ended, Kind, Plain};

/// Inputs that can not come in certain situations.
#[derive(Clone, Copy, Debug)]
pub struct Impossible {
    /// The situations; empty: all of them.
    pub situations: &'static [Situation],
    /// The inputs.
    pub inputs: Inputs,
    /// Why.
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

/// Everything that can not be.
pub const IMPOSSIBLE: &[Impossible] = &[Impossible {
    situations: &[],
    inputs: Inputs::Answers(&[Purpose::Limits]),
    why: "limits are asked for where the type of the instance is not known; those of histories are",
}];

/// Why a pair can not be; `None`: it can.
#[must_use]
pub fn why_not(situation: Situation, kind: Kind) -> Option<&'static str> {
    let names = |entry: &&Impossible| {
        let there = entry.situations.is_empty() || entry.situations.contains(&situation);
        there && entry.inputs.contain(kind)
    };
    IMPOSSIBLE.iter().find(names).map(|entry| entry.why)
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
