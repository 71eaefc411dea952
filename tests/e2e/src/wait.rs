//! Waiting for a state, with an end.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Asks until `done` likes what `read` shows, and gives that. Level-triggered: a look that came too early costs one more.
///
/// # Panics
/// After `at_most`, with what was seen last.
pub fn wait_until<T: Debug>(
    what: &str,
    at_most: Duration,
    mut read: impl FnMut() -> T,
    done: impl Fn(&T) -> bool,
) -> T {
    let end = Instant::now() + at_most;
    loop {
        let seen = read();
        if done(&seen) {
            return seen;
        }
        assert!(Instant::now() < end, "{what}: not so after {at_most:?}; last seen: {seen:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
