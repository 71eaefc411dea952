//! As many bytes as a connection takes, and how many arrived.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

/// Bytes written at once.
const PIECE: usize = 64 << 10;
/// Who neither comes, nor takes or gives anything, for so long will not.
const PATIENCE: Duration = Duration::from_secs(15);

/// What went through a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poured {
    /// Bytes.
    pub bytes: u64,
    /// Microseconds from the first to the last of them.
    pub micros: u64,
}

/// Takes one connection (that begins within 15 s) on a TCP port, reads it to its end, and says what came. Says `ready` on stdout when it listens.
///
/// # Errors
/// As `bind(2)` and `read(2)`; that nobody came.
pub fn sink(port: u16) -> io::Result<Poured> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("ready");
    io::stdout().flush()?;
    let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    if poll(&mut waiting, PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX))? == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody came"));
    }
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; PIECE];
    let mut bytes = 0;
    let start = Instant::now();
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(Poured { bytes, micros: micros_since(start) }),
            count => bytes += count as u64,
        }
    }
}

/// Writes to a TCP port as fast as it takes it, for so long.
///
/// # Errors
/// As `connect(2)` and `write(2)`.
pub fn pour(to: Ipv4Addr, port: u16, duration: Duration) -> io::Result<Poured> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((to, port)), PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let piece = vec![0; PIECE];
    let mut bytes = 0;
    let start = Instant::now();
    while start.elapsed() < duration {
        bytes += stream.write(&piece)? as u64;
    }
    Ok(Poured { bytes, micros: micros_since(start) })
}

fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
