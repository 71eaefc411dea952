//! Who called, as long as he is there: each request carries it, so that an answer's consequences can be told from those of a call that is
//! still going on.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::Request;
use tonic::transport::server::Connected;

/// The caller's end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Caller(Weak<OwnedFd>);

impl Caller {
    /// Whoever sent a request. One that did not come through the daemon's socket has nobody behind it.
    #[must_use]
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Whether he holds his end still. The kernel is asked: a process that has ended is gone at once, whenever the server comes to read
    /// of it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let Some(line) = self.0.upgrade() else { return false };
        // That the other end is closed is told without being asked for.
        let mut polled = [PollFd::new(line.as_fd(), PollFlags::empty())];
        match poll(&mut polled, PollTimeout::ZERO) {
            Ok(_) => {
                let seen = polled[0].revents().unwrap_or(PollFlags::empty());
                !seen.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)
            }
            // Not known: a lease too many is found by the next look, one too few is a pod's.
            Err(_) => true,
        }
    }

    /// Whether the server has closed its end too.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// A connection whose requests tell their [`Caller`].
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    own: Arc<OwnedFd>,
}

impl Line {
    /// # Errors
    /// When the process has no descriptor left.
    pub(super) fn of(stream: UnixStream) -> io::Result<Self> {
        let own = Arc::new(stream.as_fd().try_clone_to_owned()?);
        Ok(Self { stream, own })
    }
}

impl Connected for Line {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        Caller(Arc::downgrade(&self.own))
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
    async fn a_caller_is_there_until_he_closes_his_end() {
        let (near, far) = UnixStream::pair().unwrap();
        let line = Line::of(near).unwrap();
        let caller = line.connect_info();
        assert!(caller.is_there() && !caller.is_over());
        // What he sent before he went changes nothing.
        far.try_write(b"x").unwrap();
        assert!(caller.is_there());
        drop(far);
        assert!(!caller.is_there() && !caller.is_over(), "the server has not read of it yet");
        drop(line);
        assert!(caller.is_over() && !caller.is_there());
        assert!(!Caller::of(&Request::new(())).is_there(), "nobody");
    }
}
