//! Times as Kubernetes writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use vpc_model::WallTime;

/// The time of day.
pub(super) fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// `2026-01-31T12:00:00.000000Z`: MicroTime of the meta API.
pub(super) fn micro(time: WallTime) -> String {
    let micros = time.0.div_euclid(1000);
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{fraction:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The date of a day counted from 1970-01-01: Howard Hinnant's `civil_from_days`, in eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, of_year - (153 * march_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_microsecond() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_769_860_800_123_456_789, "2026-01-31T12:00:00.123456Z"),
            (1_709_164_799_999_999_999, "2024-02-28T23:59:59.999999Z"),
            (1_709_251_199_000_000_000, "2024-02-29T23:59:59.000000Z"),
            (1_735_689_599_000_001_000, "2024-12-31T23:59:59.000001Z"),
        ] {
            assert_eq!(micro(WallTime(nanos)), text);
        }
    }
}
