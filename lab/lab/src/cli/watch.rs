//! `vpc-lab status --watch`: the picture again and again, in place on a terminal, until somebody has seen enough or the lab is down.
//!
//! On a terminal it has a screen of its own, which goes with it: each line is written over the one before, so nothing flickers.
//! Elsewhere one picture follows another.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::picture::{self, Paint};
use super::{colours, print};
use crate::lab::{Lab, LabError};

/// A screen of its own, without a cursor; longer lines end at the edge.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Lines of a terminal that does not say how many it has.
const USUAL_LINES: usize = 24;

/// Shows a lab until it is down, or somebody interrupts.
pub(super) fn run(name: &str, every: Duration) -> anyhow::Result<()> {
    let lab = Lab::open(name)?;
    let signals = Signals::listen()?;
    let screen = io::stdout().is_terminal().then(Screen::enter).transpose()?;
    let down = loop {
        let status = match lab.status() {
            Ok(status) => status,
            Err(LabError::Down { .. } | LabError::Gone { .. }) => break true,
            Err(e) => return Err(e.into()),
        };
        let text = picture::status(&status, Paint { colours: colours(), now: SystemTime::now() });
        match &screen {
            Some(screen) => screen.draw(&text)?,
            None => print(&format!("{text}\n"))?,
        }
        if signals.within(every)? {
            break false;
        }
    };
    drop(screen);
    if down { print(&format!("lab {name} is down\n")) } else { Ok(()) }
}

/// Ctrl-C and SIGTERM, to be noticed between two pictures, when the terminal is as it was.
struct Signals(SignalFd);

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.thread_block().context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self(SignalFd::with_flags(&set, flags).context("wait for signals")?))
    }

    /// Whether one came within the time.
    fn within(&self, time: Duration) -> anyhow::Result<bool> {
        let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)) {
            // The terminal has changed its size, say: the next picture comes at once.
            Err(nix::errno::Errno::EINTR) => Ok(false),
            other => Ok(other.context("wait")? > 0),
        }
    }
}

/// The terminal while it is ours.
struct Screen;

impl Screen {
    fn enter() -> anyhow::Result<Self> {
        print(ENTER)?;
        Ok(Self)
    }

    fn draw(&self, text: &str) -> anyhow::Result<()> {
        print(&frame(text, terminal_lines()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush()).ok();
    }
}

/// What writes a picture over the one before. What does not fit is counted on the last line.
fn frame(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown = if lines.len() > height { height.saturating_sub(1) } else { lines.len() };
    let mut out = "\x1b[H".to_owned();
    for line in lines.iter().take(shown) {
        out += line;
        // The rest of what was on this line before.
        out += "\x1b[K\n";
    }
    if shown < lines.len() {
        out += &format!("… {} more lines\x1b[K", lines.len() - shown);
    }
    out + "\x1b[J"
}

fn terminal_lines() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call fills the structure, which is of the kind it expects, and keeps no pointer to it.
    let known = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } == 0;
    if known && size.ws_row > 0 { usize::from(size.ws_row) } else { USUAL_LINES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_the_one_before() {
        assert_eq!(frame("a\nb\n", 3), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let text = frame("a\nb\nc\nd\n", 3);
        assert!(text.contains("b\x1b[K") && text.contains("… 2 more lines") && !text.contains('c'), "{text:?}");
        assert_eq!(text.matches('\n').count(), 2);
    }
}
