//! The one source of chance: a ChaCha stream from the world's seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use vpc_model::{Mac, Millis};

use crate::profile::Span;

/// Chance with a seed. Every draw moves the stream on, so the order of draws is part of a world's history.
#[derive(Clone, Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`; 0 if the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// The digits of an id: 17 hexadecimal ones, the first a zero, as on EC2.
    pub(crate) fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}0{:016x}", self.0.next_u64())
    }

    /// A MAC address, unicast and locally administered as EC2's are.
    pub(crate) fn mac(&mut self) -> Mac {
        let [_, _, _, a, b, c, d, e] = self.0.next_u64().to_be_bytes();
        Mac([0x02, a, b, c, d, e])
    }

    /// A time out of a span: evenly between its ends; once in a hundred, from its tail.
    pub(crate) fn span(&mut self, span: Span) -> Millis {
        if span.tail.0 == 0 {
            return Millis(0);
        }
        let (from, to) = match self.below(100) {
            0 => (span.most.0, span.tail.0),
            _ => (span.least.0, span.most.0),
        };
        Millis(from + self.below(to.saturating_sub(from) + 1))
    }

    /// `length` characters out of `alphabet`.
    pub(crate) fn text(&mut self, length: usize, alphabet: &[u8]) -> String {
        (0..length)
            .filter_map(|_| alphabet.get(usize::try_from(self.below(alphabet.len() as u64)).unwrap_or(0)))
            .map(|byte| char::from(*byte))
            .collect()
    }
}
