//! What a test orders, as text.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use nix::errno::Errno;

/// What happens at a failpoint, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The first time it is reached that counts, from 1.
    pub(crate) nth: u64,
    /// All later times count too.
    pub(crate) on: bool,
    pub(crate) action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Kill,
    KillAfter(Duration),
    Error(Errno),
    Wait(Duration),
    /// Seconds a clock is off by.
    Clock(i64),
}

/// A text that is no order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoOrder(pub(crate) String);

const ERRORS: [Errno; 9] = [
    Errno::EACCES,
    Errno::ECONNREFUSED,
    Errno::EDQUOT,
    Errno::EIO,
    Errno::EMFILE,
    Errno::ENOSPC,
    Errno::EPERM,
    Errno::EPIPE,
    Errno::EROFS,
];

impl Order {
    pub(crate) fn holds_at(&self, time: u64) -> bool {
        time == self.nth || self.on && time > self.nth
    }
}

impl FromStr for Order {
    type Err = NoOrder;

    fn from_str(text: &str) -> Result<Self, NoOrder> {
        let bad = || NoOrder(format!("`{text}` is no order for a failpoint: expected [N[+]=]ACTION"));
        let text = text.trim();
        let (when, action) = text.rsplit_once('=').unwrap_or(("1", text));
        let (nth, on) = when.strip_suffix('+').map_or((when, false), |nth| (nth, true));
        let nth = nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(bad)?;
        Ok(Self { nth, on, action: action.parse()? })
    }
}

impl FromStr for Action {
    type Err = NoOrder;

    fn from_str(text: &str) -> Result<Self, NoOrder> {
        let names = ERRORS.map(|errno| format!("{errno:?}")).join(", ");
        let bad = || {
            NoOrder(format!(
                "`{text}` is nothing a failpoint can do: expected kill, kill-after:MICROSECONDS, wait:MILLISECONDS, clock:SECONDS \
                 or error: and one of {names}"
            ))
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| bad());
        match text.split_once(':') {
            None if text == "kill" => Ok(Self::Kill),
            Some(("kill-after", micros)) => Ok(Self::KillAfter(Duration::from_micros(number(micros)?))),
            Some(("wait", millis)) => Ok(Self::Wait(Duration::from_millis(number(millis)?))),
            Some(("clock", seconds)) => seconds.parse().map(Self::Clock).map_err(|_| bad()),
            Some(("error", name)) => {
                let known = ERRORS.into_iter().find(|errno| format!("{errno:?}") == name);
                known.map(Self::Error).ok_or_else(bad)
            }
            _ => Err(bad()),
        }
    }
}

pub(crate) fn as_error(errno: Errno) -> io::Error {
    io::Error::from(errno)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_they_are_documented() {
        let order = |text: &str| text.parse::<Order>().unwrap();
        assert_eq!(order("kill"), Order { nth: 1, on: false, action: Action::Kill });
        assert_eq!(order("3=error:ENOSPC\n"), Order { nth: 3, on: false, action: Action::Error(Errno::ENOSPC) });
        let every = order("1+=wait:20");
        assert_eq!(every, Order { nth: 1, on: true, action: Action::Wait(Duration::from_millis(20)) });
        assert!(every.holds_at(1) && every.holds_at(7) && !order("2=kill").holds_at(3));
        assert_eq!(order("clock:-3600").action, Action::Clock(-3600));
        assert_eq!(order("kill-after:250").action, Action::KillAfter(Duration::from_micros(250)));
    }

    #[test]
    fn what_is_no_order_is_refused_with_what_is() {
        for bad in ["", "0=kill", "x=kill", "kill:3", "error:EWHAT", "wait:", "clock:x"] {
            let NoOrder(said) = bad.parse::<Order>().unwrap_err();
            assert!(said.contains("expected"), "{bad}: {said}");
        }
    }
}
