//! How patient the watches are, and how they wait between attempts.

use std::time::Duration;

/// The spans of time that the watches and events go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a connection with its handshake may take.
    pub connect: Duration,
    /// How long the head of an answer, and the next piece of a list, may take.
    pub answer: Duration,
    /// How long a watch may be silent. API servers send a bookmark every minute or so, and end a watch that was asked to end.
    pub silence: Duration,
    /// How long a watch is asked to last; up to half of it is added by chance, so that nodes that started together part.
    pub watch: Duration,
    /// First pause after a failure; each further one doubles it.
    pub first_pause: Duration,
    /// The longest pause: a server that returns is noticed after about this time.
    pub longest_pause: Duration,
    /// What was refused (no permission, no such resource) is asked for again after this.
    pub refused_pause: Duration,
    /// Changes that come within this time are told together.
    pub batch: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(150),
            watch: Duration::from_secs(290),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(6),
            refused_pause: Duration::from_secs(60),
            batch: Duration::from_millis(10),
        }
    }
}

/// Pauses that grow with every failure in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    pace: Pace,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, next: pace.first_pause }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.pace.first_pause;
    }

    /// The next pause: between half of the span it is due and all of it.
    pub(crate) fn pause(&mut self) -> Duration {
        let span = self.next;
        self.next = (span * 2).min(self.pace.longest_pause);
        span.mul_f64(0.5 + chance() / 2.0)
    }
}

/// A number from 0 to 1. Without randomness nodes would part by other differences; nothing depends on it.
pub(crate) fn chance() -> f64 {
    let mut bytes = [0; 4];
    if getrandom::fill(&mut bytes).is_err() {
        return 0.5;
    }
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_anew() {
        let pace = Pace::default();
        let mut backoff = Backoff::new(pace);
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= pace.first_pause && pauses[0] >= pace.first_pause / 2, "{pauses:?}");
        let longest = pace.longest_pause;
        assert!(pauses[8..].iter().all(|pause| *pause <= longest && *pause >= longest / 2), "{pauses:?}");
        backoff.reset();
        assert!(backoff.pause() <= pace.first_pause);
    }
}
