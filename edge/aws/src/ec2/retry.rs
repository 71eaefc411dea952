//! When and how long to wait before asking again.

use std::time::Duration;

use super::error::{Ec2Error, ErrorClass, Outcome, Repeat};
use super::shapes::Query;

/// The first wait, before the jitter; it doubles with each attempt.
const BASE: Duration = Duration::from_millis(500);
/// No wait is longer, except when EC2 asks for it.
const CAP: Duration = Duration::from_secs(20);

/// How long to wait before the request is sent again after its attempt `attempt` (from 1) failed; `None`: it is not. `random` lies in
/// [0, 1). The client does the same; whoever carries requests without it (a simulator) asks here.
#[must_use]
pub fn again_after(request: &Query, error: &Ec2Error, attempt: u32, random: f64) -> Option<Duration> {
    retryable(error, Repeat::of(request)).then(|| wait(attempt, random, error.retry_after))
}

/// Whether the failure of one attempt is worth another at once. A throttled one is not: EC2 counts refused requests too, the bucket is
/// the whole account's, and who paces the calls knows better when to come back.
pub(crate) fn retryable(error: &Ec2Error, repeat: Repeat) -> bool {
    if error.outcome == Outcome::Unknown && repeat == Repeat::Harmful {
        return false;
    }
    matches!(error.class, ErrorClass::ServerSide | ErrorClass::Transport | ErrorClass::Timeout | ErrorClass::BadAnswer)
}

/// The wait after attempt `attempt` (from 1): anything up to the doubled base, so that nodes that failed together do not
/// come back together. `random` lies in [0, 1). What EC2 asked for is the least.
pub(crate) fn wait(attempt: u32, random: f64, asked: Option<Duration>) -> Duration {
    let ceiling = BASE.saturating_mul(1 << (attempt - 1).min(16)).min(CAP);
    ceiling.mul_f64(random.clamp(0.0, 1.0)).max(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_spread_over_all_of_it() {
        assert_eq!(wait(1, 0.0, None), Duration::ZERO);
        assert_eq!(wait(1, 1.0, None), Duration::from_millis(500));
        assert_eq!(wait(3, 0.5, None), Duration::from_secs(1));
        assert_eq!(wait(40, 1.0, None), Duration::from_secs(20));
        assert_eq!(wait(1, 0.0, Some(Duration::from_secs(7))), Duration::from_secs(7));
    }
}
