//! Messages with descriptors over a unix socket.
//!
//! A message is one line of JSON. Its descriptors travel with its first byte.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Most descriptors of one message.
pub const MOST: usize = 8;
/// Longest line: a whole host's state of a big node is some hundred kilobytes.
const LONGEST: usize = 64 << 20;

/// Writes a line, with descriptors.
///
/// # Errors
/// As `sendmsg(2)`.
pub fn send(socket: &UnixStream, line: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    let mut socket: &UnixStream = socket;
    socket.write_all(bytes.get(sent..).unwrap_or_default())
}

/// Reads a line and its descriptors. `None`: the other side has closed.
///
/// # Errors
/// As `recvmsg(2)`; `InvalidData` for a line without end.
pub fn receive(socket: &UnixStream) -> io::Result<Option<(String, Vec<OwnedFd>)>> {
    let mut fds = Vec::new();
    let mut line = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = if line.is_empty() {
            receive_some(socket, &mut buffer, &mut fds)?
        } else {
            (&*socket).read(&mut buffer)?
        };
        if count == 0 {
            return if line.is_empty() {
                Ok(None)
            } else {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "half a message"))
            };
        }
        line.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if line.last() == Some(&b'\n') {
            line.pop();
            let text = String::from_utf8(line).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            return Ok(Some((text, fds)));
        }
        if line.len() > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without end"));
        }
    }
}

fn receive_some(socket: &UnixStream, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for us; nobody else owns them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(message.bytes)
}
