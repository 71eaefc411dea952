//! What has been tried: in which situation agents were when which input came.
//!
//! ```text
//!   World, at every input: Agent::situation x Kind::of(input) --> one counter more
//!   campaign: the sum of all histories --> a matrix; [`Coverage::judge`] holds it against what can be
//! ```
//!
//! A pair that can be and was never hit is a hole in what the simulator tries; one that can not be ([`IMPOSSIBLE`] says why) and was
//! hit is a hole in what we understand. Where a pair takes two rare things within moments ([`SELDOM`]) it is told and not demanded. A counter costs an addition, so that it is always on.

mod kind;
mod possible;
mod seldom;

use std::fmt;

use vpc_agent::Situation;

pub use kind::{Ended, Kind, Plain};
pub use possible::{Entry, Expected, IMPOSSIBLE, Inputs, expected};
pub use seldom::{SELDOM, Seldom};

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
                match (self.hits(situation, kind), expected(situation, kind)) {
                    (0, Expected::Hit) => found.missed.push((situation, kind)),
                    (1.., Expected::Never(_)) => found.impossible.push((situation, kind)),
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
            if let Expected::Never(why) = expected(*situation, *kind) {
                writeln!(f, "{kind} while {situation} was hit, and can not be: {why}")?;
            }
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
        writeln!(
            f,
            "hits of each input (-: can not be, ~: seldom, .: can be and was not hit, !: can not be and was hit)"
        )?;
        let heads: String = letters().map(|(letter, _)| format!("{letter:>COLUMN$}")).collect();
        writeln!(f, "{:<24}{heads}", "")?;
        for kind in Kind::all() {
            write!(f, "{:<24}", kind.to_string())?;
            for situation in Situation::ALL {
                let hits = self.hits(situation, kind);
                let cell = match (hits, expected(situation, kind)) {
                    (0, Expected::Hit) => ".".to_owned(),
                    (0, Expected::Seldom(_)) => "~".to_owned(),
                    (0, Expected::Never(_)) => "-".to_owned(),
                    (hits, Expected::Never(_)) => format!("!{}", short(hits)),
                    (hits, _) => short(hits),
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use vpc_agent::Purpose;

    use super::*;

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let places: Vec<usize> = Kind::all().map(Kind::index).collect();
        assert_eq!(places, (0..Kind::COUNT).collect::<Vec<_>>());
        assert!(Situation::ALL.into_iter().enumerate().all(|(at, situation)| at == situation as usize));
    }

    #[test]
    fn what_can_be_and_was_missed_is_told_and_what_can_not_be_and_was_hit() {
        let mut coverage = Coverage::default();
        assert!(coverage.judge().missed.contains(&(Situation::Quiet, Kind::Plain(Plain::Add))));
        coverage.hit(Situation::Quiet, Kind::Plain(Plain::Add));
        let lost = Kind::Ec2(Purpose::Create, Ended::Lost);
        coverage.hit(Situation::Quiet, lost);
        let judgement = coverage.judge();
        assert!(!judgement.missed.contains(&(Situation::Quiet, Kind::Plain(Plain::Add))));
        assert_eq!(judgement.impossible, [(Situation::Quiet, lost)]);
        assert!(judgement.to_string().contains("create-lost while quiet was hit, and can not be"), "{judgement}");
        assert!(coverage.to_string().contains("    !1"), "{coverage}");
    }

    #[test]
    fn two_runs_add_up() {
        let (mut one, mut other) = (Coverage::default(), Coverage::default());
        one.hit(Situation::Full, Kind::Plain(Plain::Tick));
        other.hit(Situation::Full, Kind::Plain(Plain::Tick));
        one.add(&other);
        assert_eq!(one.hits(Situation::Full, Kind::Plain(Plain::Tick)), 2);
    }

    #[test]
    fn seldom_rows_name_each_input_once_and_nothing_impossible() {
        for (at, row) in SELDOM.iter().enumerate() {
            assert!(SELDOM[..at].iter().all(|other| other.input != row.input), "{}", row.input);
            for situation in row.but {
                assert_eq!(expected(*situation, row.input), Expected::Hit, "{} while {situation}", row.input);
            }
        }
    }
}
