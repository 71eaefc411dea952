//! A calendar that was set to another time while the daemon was away.
//!
//! Times in the checkpoint are the calendar's, as the reference writes them. Set forward by an hour, it would end every rest at once,
//! and make a lease look old that a plugin is still at work on. So beside the checkpoint stands how far the calendar is from the time
//! since the machine's start, which nobody sets:
//!
//! ```text
//!   ipam.clock:  <boot id> <calendar less time since start, nanoseconds>
//!   at start:    the difference of the two differences is how far it was set; recorded times are moved by as much
//! ```
//!
//! After another start of the machine nothing can be told, and nothing is moved.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use vpc_agent::Checkpoint;
use vpc_model::WallTime;

use crate::clock;

/// The file beside the checkpoint.
const FILE: &str = "ipam.clock";
/// The kernel's name for this run of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Seconds since the machine's start, in hundredths.
const UPTIME: &str = "/proc/uptime";
/// What is less is how exactly the two can be read together.
const EXACT: i64 = 1_000_000_000;

/// How the calendar stands to the time since the machine's start.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Anchor {
    boot: String,
    offset: i64,
}

impl Anchor {
    fn now() -> io::Result<Self> {
        let boot = std::fs::read_to_string(BOOT_ID)?.trim().to_owned();
        let text = std::fs::read_to_string(UPTIME)?;
        let uptime = text.split(' ').next().and_then(nanos).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { boot, offset: clock::wall().0.saturating_sub(uptime) })
    }

    /// How far the calendar has been set forward since, in nanoseconds; `None` if the machine was started anew.
    fn set_forward_since(&self, earlier: &Self) -> Option<i64> {
        let moved = self.offset.saturating_sub(earlier.offset);
        (self.boot == earlier.boot).then_some(if moved.abs() < EXACT { 0 } else { moved })
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.boot, self.offset)
    }
}

/// The text is no anchor.
#[derive(Debug)]
struct NoAnchor;

impl FromStr for Anchor {
    type Err = NoAnchor;

    fn from_str(text: &str) -> Result<Self, NoAnchor> {
        let (boot, offset) = text.trim_end().split_once(' ').ok_or(NoAnchor)?;
        Ok(Self { boot: boot.to_owned(), offset: offset.parse().map_err(|_| NoAnchor)? })
    }
}

/// Moves what the last run recorded to the calendar as it is now; says whether there was anything to move.
pub(crate) fn catch_up(checkpoint: &Path, books: &mut Checkpoint) -> bool {
    let earlier = std::fs::read_to_string(checkpoint.with_file_name(FILE)).ok().and_then(|text| text.parse().ok());
    let (Some(earlier), Ok(now)) = (earlier, Anchor::now()) else { return false };
    let moved = now.set_forward_since(&earlier).unwrap_or(0);
    if moved == 0 {
        return false;
    }
    let way = if moved > 0 { "forward" } else { "back" };
    tracing::warn!(
        "the clock was set {way} by {} s since the last run; recorded times are moved with it",
        moved.abs() / EXACT
    );
    let move_by = |time: &mut WallTime| time.0 = time.0.saturating_add(moved);
    books.leases.iter_mut().for_each(|lease| move_by(&mut lease.since));
    books.rests.iter_mut().for_each(|rest| move_by(&mut rest.released));
    true
}

/// Writes down how the calendar stands for the next run.
pub(crate) fn note(checkpoint: &Path) {
    let path = checkpoint.with_file_name(FILE);
    // A file cut short by a crash is no anchor, and nothing is moved by it.
    if let Err(error) = Anchor::now().and_then(|now| std::fs::write(&path, now.to_string())) {
        tracing::warn!("{}: {error}; a clock set forward before the next start would end rests early", path.display());
    }
}

fn nanos(seconds: &str) -> Option<i64> {
    let (whole, hundredths) = seconds.trim().split_once('.')?;
    let hundredths: i64 = if hundredths.len() == 2 { hundredths.parse().ok()? } else { return None };
    whole.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(hundredths * 10_000_000)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_read_as_it_was_written() {
        let now = Anchor::now().unwrap();
        assert_eq!(now.to_string().parse::<Anchor>().unwrap(), now);
        for rubbish in ["", "abc", "abc ", "abc x", "abc 12 13", "abc 99999999999999999999"] {
            assert!(rubbish.parse::<Anchor>().is_err(), "{rubbish}");
        }
    }

    #[test]
    fn what_nobody_set_has_not_moved() {
        let first = Anchor::now().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!(Anchor::now().unwrap().set_forward_since(&first), Some(0));
        let hour = Anchor { offset: first.offset + 3600 * EXACT, ..first.clone() };
        assert_eq!(hour.set_forward_since(&first), Some(3600 * EXACT));
        assert_eq!(first.set_forward_since(&hour), Some(-3600 * EXACT));
        let rebooted = Anchor { boot: "other".to_owned(), ..hour };
        assert_eq!(rebooted.set_forward_since(&first), None);
    }

    #[test]
    fn uptimes_are_read_as_the_kernel_writes_them() {
        assert_eq!(nanos("12345.67"), Some(12_345_670_000_000));
        assert_eq!(nanos("0.00"), Some(0));
        for rubbish in ["", "12", "12.3", "12.345", "x.00", "-.10"] {
            assert_eq!(nanos(rubbish), None, "{rubbish}");
        }
    }
}
