//! What has been tried: in which situation agents were when which input came.
//!
//! ```text
//!   World, at every input: Agent::situation x Kind::of(input) --> one counter more
//!   campaign: the sum of all histories --> a matrix; [`Coverage::judge`] holds it against what can be
//! ```
//!
//! A pair that can be and was never hit is a hole in what the simulator tries; one that can not be ([`IMPOSSIBLE`] says why) and was
//! hit is a hole in what we understand. A counter costs an addition, so that it is always on.

mod kind;
mod possible;

use std::fmt;

use vpc_agent::Situation;

pub use kind::{Ended, Kind, Plain};
pub use possible::{IMPOSSIBLE, Impossible, Inputs, why_not};

const SITUATIONS: usize = Situation::ALL.len();
/// Width of a column of the matrix.
const COLUMN: usize = 6;
/// Situations that the legend has in a line.
const LEGEND: usize = 8;

/// How often each pair was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    hits: Box<[[u64; Kind::COUNT]; SITUATIONS]>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { hits: Box::new([[0; Kind::COUNT]; SITUATIONS]) }
    }
}

/// Pairs that were hit or missed against expectation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// They can be and were not hit.
    pub missed: Vec<(Situation, Kind)>,
    /// They can not be, and were hit.
    pub impossible: Vec<(Situation, Kind)>,
}

impl Coverage {
    pub(crate) fn hit(&mut self, situation: Situation, kind: Kind) {
        self.hits[situation as usize][kind.index()] += 1;
    }

    /// How often a pair was hit.
    #[must_use]
    pub fn hits(&self, situation: Situation, kind: Kind) -> u64 {
        self.hits[situation as usize][kind.index()]
    }

    /// Adds what another run has hit.
    pub fn add(&mut self, other: &Self) {
        let pairs = self.hits.iter_mut().flatten().zip(other.hits.iter().flatten());
        pairs.for_each(|(own, more)| *own += more);
    }

    /// Holds it against what can be.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let mut found = Judgement::default();
        for kind in Kind::all() {
            for situation in Situation::ALL {
                match (self.hits(situation, kind), why_not(situation, kind)) {
                    (0, None) => found.missed.push((situation, kind)),
                    (1.., Some(_)) => found.impossible.push((situation, kind)),
                    _ => {}
                }
            }
        }
        found
    }
}

impl Judgement {
    /// Whether everything was as expected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missed.is_empty() && self.impossible.is_empty()
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("every pair that can be was hit, and no other");
        }
        let words = |pairs: &[(Situation, Kind)]| {
            pairs.iter().map(|(situation, kind)| format!("{kind} while {situation}")).collect::<Vec<_>>().join(", ")
        };
        if !self.missed.is_empty() {
            writeln!(f, "{} pairs that can be were not hit: {}", self.missed.len(), words(&self.missed))?;
        }
        for (situation, kind) in &self.impossible {
            let why = why_not(*situation, *kind).unwrap_or_default();
            writeln!(f, "{kind} while {situation} was hit, and can not be: {why}")?;
        }
        Ok(())
    }
}

/// The matrix: a row for each input, a column for each situation.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = || ('A'..='Z').zip(Situation::ALL);
        for line in letters().collect::<Vec<_>>().chunks(LEGEND) {
            let words: Vec<String> = line.iter().map(|(letter, situation)| format!("{letter} {situation}")).collect();
            writeln!(f, "{}", words.join(", "))?;
        }
        writeln!(f, "hits of each input (-: can not be, .: can be and was not hit, !: can not be and was hit)")?;
        let heads: String = letters().map(|(letter, _)| format!("{letter:>COLUMN$}")).collect();
        writeln!(f, "{:<24}{heads}", "")?;
        for kind in Kind::all() {
            write!(f, "{:<24}", kind.to_string())?;
            for situation in Situation::ALL {
                let hits = self.hits(situation, kind);
                let cell = match (hits, why_not(situation, kind)) {
                    (0, None) => ".".to_owned(),
                    (0, Some(_)) => "-".to_owned(),
                    (hits, None) => short(hits),
                    (hits, Some(_)) => format!("!{}", short(hits)),
                };
                write!(f, "{cell:>COLUMN$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A number in four signs.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{}k", number / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}
