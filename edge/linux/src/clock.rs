//! The kernel's own clock.

use nix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds: the same for all processes of the host, whatever happens to the calendar. `None` where it can not
/// be read.
#[must_use]
pub fn monotonic_nanos() -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    let seconds = u64::try_from(now.tv_sec()).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(now.tv_nsec()).ok()?)
}
