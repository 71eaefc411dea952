//! The only place that asks what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vpc_model::{Time, WallTime};

use crate::failpoint;

/// The agent's clock. It goes forward whatever happens to the calendar; its origin is the epoch as the calendar had it at the
/// start, so that ages from the checkpoint can be taken off any moment of this run.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_at: Duration,
}

impl Clock {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), started_at: since_epoch() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(millis(self.started_at + self.started.elapsed()))
    }

    /// The moment the runtime's timers know a time by.
    #[must_use]
    pub fn instant(&self, at: Time) -> Instant {
        self.started + Duration::from_millis(at.0).saturating_sub(self.started_at)
    }
}

/// The calendar.
#[must_use]
pub fn wall() -> WallTime {
    WallTime(i64::try_from(since_epoch().as_nanos()).unwrap_or(i64::MAX))
}

/// The calendar as `2026-02-03T04:05:06.789Z`.
#[must_use]
pub fn utc() -> String {
    let now = since_epoch();
    format_utc(now.as_secs(), now.subsec_millis())
}

/// A clock before 1970 is a clock that was not set.
fn since_epoch() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match failpoint::calendar_is_off_by() {
        0 => now,
        off @ 1.. => now + Duration::from_secs(off.unsigned_abs()),
        off => now.saturating_sub(Duration::from_secs(off.unsigned_abs())),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn format_utc(seconds: u64, millis: u32) -> String {
    let (year, month, day) = civil(seconds / 86_400);
    let rest = seconds % 86_400;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date of a day counted from 1970-01-01: Howard Hinnant's `civil_from_days`, in eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_is_written_as_others_write_it() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(format_utc(seconds, 0), text);
        }
        assert_eq!(format_utc(1_770_091_506, 789), "2026-02-03T04:05:06.789Z");
    }

    #[test]
    fn a_moment_and_its_instant_are_the_same() {
        let clock = Clock::start();
        let now = clock.now();
        let later = clock.instant(now + vpc_model::Millis(1500));
        let span = later.duration_since(clock.started);
        assert!(span >= Duration::from_millis(1499) && span < Duration::from_secs(5), "{span:?}");
        assert_eq!(clock.instant(Time(0)), clock.started, "what is past is now");
    }
}
