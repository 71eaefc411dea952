//! Who called, as long as he is there and when he went: each request carries it, so that an answer's consequences can be told from those
//! of a call that is still going on.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::Request;
use tonic::transport::server::Connected;

/// The caller's end of a connection.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Mutex<State>>);

/// What is known of him.
#[derive(Debug)]
enum State {
    /// The server has not closed its end.
    Open(OwnedFd),
    /// The server has learnt that he went, at that moment of `CLOCK_MONOTONIC` in nanoseconds.
    Closed(u64),
}

impl Caller {
    /// Whoever sent a request; nobody, long ago, if it did not come through the daemon's socket.
    #[must_use]
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(|| Self::new(State::Closed(0)))
    }

    fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // Nothing that is done here can leave half of it.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether he held his end at that moment of `CLOCK_MONOTONIC`, in nanoseconds, or later. One who went a moment ago counts until the
    /// server has read of it: it is then that the moment is known.
    #[must_use]
    pub fn was_there(&self, at: u64) -> bool {
        self.with(|state| match state {
            State::Open(_) => true,
            State::Closed(went) => *went >= at,
        })
    }

    /// Whether his end is closed although the server has not read of it yet. The kernel is asked.
    #[must_use]
    pub fn is_going(&self) -> bool {
        self.with(|state| {
            let State::Open(line) = state else { return false };
            // That the other end is closed is told without being asked for.
            let mut polled = [PollFd::new(line.as_fd(), PollFlags::empty())];
            let told = poll(&mut polled, PollTimeout::ZERO).is_ok_and(|told| told > 0);
            let seen = polled[0].revents().unwrap_or(PollFlags::empty());
            told && seen.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)
        })
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
fn now() -> u64 {
    // A clock that can not be read tells the latest moment there is: whoever was there then is spared.
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return u64::MAX };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or_default()
}

/// A connection whose requests tell their [`Caller`].
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    caller: Caller,
}

impl Line {
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn of(stream: UnixStream) -> io::Result<Self> {
        let caller = Caller::new(State::Open(stream.as_fd().try_clone_to_owned()?));
        Ok(Self { stream, caller })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.caller.with(|state| *state = State::Closed(now()));
    }
}

impl Connected for Line {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_caller_is_there_until_he_closes_his_end_and_the_moment_is_kept() {
        let (near, far) = UnixStream::pair().unwrap();
        let line = Line::of(near).unwrap();
        let caller = line.connect_info();
        let begin = now();
        // What he sent before he went changes nothing.
        far.try_write(b"x").unwrap();
        assert!(caller.was_there(begin) && caller.was_there(u64::MAX) && !caller.is_going());
        drop(far);
        assert!(caller.is_going() && caller.was_there(begin), "the server has not read of it yet");
        drop(line);
        let end = now();
        assert!(caller.was_there(begin) && !caller.was_there(end + 1) && !caller.is_going());
        assert!(!Caller::of(&Request::new(())).was_there(1), "nobody");
    }
}
