//! One gRPC call after the other over HTTP/2 on a unix socket, in blocking system calls: what a process that lives for a millisecond can
//! afford. No runtime, no thread, no stream beside another.
//!
//! ```text
//!   Connection::open -> unary(path, message, until) --one write: preface, settings, headers, message--> the daemon
//!                                    ^---- frames until the stream has ended ----'
//! ```
//!
//! RFC 7540 (HTTP/2) and the gRPC project's "gRPC over HTTP2".

mod frame;
mod hpack;
mod huffman;

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use frame::{ACK, END_HEADERS, END_STREAM, Frame, Kind};
use hpack::Decoder;

/// What each client says first (RFC 7540, 3.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets that may be sent before the other side has asked for more, on the connection and on each stream (RFC 7540, 6.9.2).
const WINDOW: i64 = 65_535;
/// From how many octets on the other side's windows are opened again.
const REOPEN_AT: usize = 32_768;
/// Longest answer, in octets: what gRPC libraries take unless told otherwise.
const LONGEST_ANSWER: usize = 4 << 20;
/// Longest block of header fields, in octets: they go to 16 KiB with the usual servers.
const LONGEST_BLOCK: usize = 64 << 10;
/// Acknowledgements wait so long for something else to be said: most calls have their answer before, and nobody is woken for them.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(20);
/// How much later than ours the other side's deadline is.
const GRACE: Duration = Duration::from_millis(50);
/// Octets before a message: whether it is compressed, and its length in four.
const PREFIX: usize = 5;
const SETTING_INITIAL_WINDOW: u16 = 4;
/// Error codes (RFC 7540, 7).
const CANCEL: u32 = 8;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not come in time.
    Silent,
    /// The connection broke, or what came is not gRPC.
    Broken(String),
}

fn broken<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Broken(why.into()))
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// What the other side has answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// gRPC's status code; 0 is success.
    pub(super) status: i32,
    /// Its text.
    pub(super) text: String,
    /// `grpc-status-details-bin`.
    pub(super) details: Vec<u8>,
    /// The message, of a successful call.
    pub(super) message: Vec<u8>,
}

/// A connection to one process.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    /// What the socket's timeout for reading is set to.
    patience: Option<Duration>,
    /// What has come and was not read, from `read` on.
    inbox: Vec<u8>,
    read: usize,
    /// What is to be said with the next words.
    outbox: Vec<u8>,
    decoder: Decoder,
    next_stream: u32,
    /// Octets that may still be sent on the connection.
    window: i64,
    /// Octets that may be sent on a new stream.
    stream_window: i64,
    /// Octets received on the connection since its window was last opened.
    received: usize,
}

/// What fuzz targets try.
#[cfg(fuzzing)]
pub(super) mod fuzzing {
    use std::io::Write as _;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::Connection;

    /// Asks twice over one connection whose other side says just these bytes; how many answers that made. More than a socket holds is
    /// not said.
    #[must_use]
    pub fn hear(bytes: &[u8]) -> usize {
        let Ok((own, mut other)) = UnixStream::pair() else { return 0 };
        let said = &bytes[..bytes.len().min(60_000)];
        if other.write_all(said).and_then(|()| other.shutdown(Shutdown::Write)).is_err() {
            return 0;
        }
        let mut connection = Connection::over(own);
        let until = Instant::now() + Duration::from_secs(5);
        (0..2).filter(|_| connection.unary("/rpc.CNIBackend/AddNetwork", b"x", until).is_ok()).count()
    }
}

impl Connection {
    /// Connects. Nothing is said before the first call.
    pub(super) fn open(path: &Path, within: Duration) -> io::Result<Self> {
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // Waiting for a place in the queue of a busy process ends too; and so does writing to one that does not read.
        let limit = TimeVal::microseconds(i64::try_from(within.as_micros()).unwrap_or(i64::MAX).max(1));
        setsockopt(&fd, sockopt::SendTimeout, &limit)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self::over(UnixStream::from(fd)))
    }

    fn over(socket: UnixStream) -> Self {
        Self {
            socket,
            patience: None,
            inbox: Vec::new(),
            read: 0,
            outbox: Vec::new(),
            decoder: Decoder::default(),
            next_stream: 1,
            window: WINDOW,
            stream_window: WINDOW,
            received: 0,
        }
    }

    /// Asks once and waits for the answer.
    pub(super) fn unary(&mut self, path: &str, message: &[u8], until: Instant) -> Result<Answer, Failure> {
        let within = left(until).ok_or(Failure::Silent)?;
        let stream = self.next_stream;
        if stream == 1 {
            self.outbox.extend_from_slice(PREFACE);
            frame::put(&mut self.outbox, Kind::Settings, 0, 0, &[]);
        }
        self.next_stream += 2;
        frame::put(&mut self.outbox, Kind::Headers, END_HEADERS, stream, &head(path, within));
        let mut call = Call { stream, window: self.stream_window, ..Call::default() };
        let done = self.say(&mut call, message, until).and_then(|()| self.listen(&mut call, until));
        if done.is_err() {
            // Whoever still works for this call may stop. It goes with the next one, if there is one.
            frame::put(&mut self.outbox, Kind::ResetStream, 0, stream, &CANCEL.to_be_bytes());
        }
        done.and_then(|()| call.answer())
    }

    /// Sends the message, as the windows allow.
    fn say(&mut self, call: &mut Call, message: &[u8], until: Instant) -> Result<(), Failure> {
        let length = u32::try_from(message.len()).or_else(|_| broken("the request is too long"))?;
        let mut rest = Vec::with_capacity(PREFIX + message.len());
        rest.push(0);
        rest.extend_from_slice(&length.to_be_bytes());
        rest.extend_from_slice(message);
        let mut rest = rest.as_slice();
        // An answer may come before the whole request is out: then nobody wants the rest.
        while !rest.is_empty() && !call.ended {
            let room = usize::try_from(self.window.min(call.window)).unwrap_or(0).min(frame::MOST);
            if room == 0 {
                self.hear(call, until)?;
                continue;
            }
            let (now, later) = rest.split_at(room.min(rest.len()));
            let end = if later.is_empty() { END_STREAM } else { 0 };
            frame::put(&mut self.outbox, Kind::Data, end, call.stream, now);
            self.window -= now.len() as i64;
            call.window -= now.len() as i64;
            rest = later;
        }
        self.flush()
    }

    fn listen(&mut self, call: &mut Call, until: Instant) -> Result<(), Failure> {
        while !call.ended {
            self.hear(call, until)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if !self.outbox.is_empty() {
            self.socket.write_all(&self.outbox)?;
            self.outbox.clear();
        }
        Ok(())
    }

    /// Takes in one frame.
    fn hear(&mut self, call: &mut Call, until: Instant) -> Result<(), Failure> {
        loop {
            // The inbox is lent to the frame for as long as that is looked at.
            let inbox = std::mem::take(&mut self.inbox);
            let taken = match Frame::first(&inbox[self.read..]) {
                Err(length) => Some(broken(format!("what comes is not HTTP/2: a frame of {length} bytes"))),
                Ok(None) => None,
                Ok(Some(frame)) => {
                    self.read += frame::HEADER + frame.payload.len();
                    Some(self.take(frame, call))
                }
            };
            self.inbox = inbox;
            match taken {
                Some(done) => return done,
                None => self.fill(until)?,
            }
        }
    }

    /// Waits for more. What is owed to the other side is said when it takes longer.
    fn fill(&mut self, until: Instant) -> Result<(), Failure> {
        const CHUNK: usize = 4096;
        self.inbox.drain(..self.read);
        self.read = 0;
        loop {
            let left = left(until).ok_or(Failure::Silent)?;
            let patience = if self.outbox.is_empty() { left } else { left.min(ACKNOWLEDGE_AFTER) };
            if self.patience != Some(patience) {
                self.socket.set_read_timeout(Some(patience))?;
                self.patience = Some(patience);
            }
            let had = self.inbox.len();
            self.inbox.resize(had + CHUNK, 0);
            let come = self.socket.read(&mut self.inbox[had..]);
            self.inbox.truncate(had + come.as_ref().map_or(0, |come| *come));
            match come {
                Ok(0) => return broken("the connection was closed before the answer"),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.flush()?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, frame: Frame<'_>, call: &mut Call) -> Result<(), Failure> {
        match frame.kind {
            Kind::Headers | Kind::Continuation => self.take_fields(frame, call)?,
            _ if call.unfinished_block => return broken("other frames between the parts of a block of header fields"),
            Kind::Data => self.take_data(frame, call)?,
            Kind::Settings if !frame.has(ACK) => self.take_settings(frame, call)?,
            Kind::Ping if !frame.has(ACK) => frame::put(&mut self.outbox, Kind::Ping, ACK, 0, frame.payload),
            Kind::WindowUpdate => {
                let more = i64::from(frame.number().unwrap_or(0) & 0x7fff_ffff);
                if frame.stream == 0 {
                    self.window += more;
                } else if frame.stream == call.stream {
                    call.window += more;
                }
            }
            Kind::ResetStream if frame.stream == call.stream => {
                return broken(format!("the call was broken off (HTTP/2 error {})", frame.number().unwrap_or(0)));
            }
            Kind::GoAway => {
                // Streams up to the one it names are still answered.
                let last = frame.number().unwrap_or(0) & 0x7fff_ffff;
                if last < call.stream {
                    let why = frame.payload.get(4..8).and_then(|octets| octets.try_into().ok()).map(u32::from_be_bytes);
                    return broken(format!("the other side closes the connection (HTTP/2 error {})", why.unwrap_or(0)));
                }
            }
            Kind::PushPromise => return broken("a push, which nobody asked for"),
            Kind::Settings | Kind::Ping | Kind::ResetStream | Kind::Other => {}
        }
        Ok(())
    }

    fn take_settings(&mut self, frame: Frame<'_>, call: &mut Call) -> Result<(), Failure> {
        for setting in frame.payload.chunks_exact(6) {
            let [a, b, rest @ ..] = setting else { continue };
            let value = rest.try_into().map_or(0, u32::from_be_bytes);
            if u16::from_be_bytes([*a, *b]) == SETTING_INITIAL_WINDOW {
                // It changes the windows of streams that are open already, by the difference.
                call.window += i64::from(value) - self.stream_window;
                self.stream_window = i64::from(value);
            }
        }
        frame::put(&mut self.outbox, Kind::Settings, ACK, 0, &[]);
        Ok(())
    }

    fn take_fields(&mut self, frame: Frame<'_>, call: &mut Call) -> Result<(), Failure> {
        if (frame.kind == Kind::Continuation) != call.unfinished_block {
            return broken("parts of a block of header fields out of order");
        }
        if frame.kind == Kind::Headers {
            call.block.clear();
            call.block_ends_stream = frame.has(END_STREAM);
        }
        let Some(part) = (if frame.kind == Kind::Headers { frame.content() } else { Some(frame.payload) }) else {
            return broken("header fields shorter than they say");
        };
        call.block.extend_from_slice(part);
        if call.block.len() > LONGEST_BLOCK {
            return broken(format!("more than {LONGEST_BLOCK} bytes of header fields"));
        }
        call.unfinished_block = !frame.has(END_HEADERS);
        if call.unfinished_block {
            return Ok(());
        }
        // Blocks of calls that were given up are read too: the table goes on with them.
        let Some(fields) = self.decoder.block(&call.block) else { return broken("header fields that can not be read") };
        if frame.stream == call.stream {
            call.take_fields(&fields)?;
            call.ended |= call.block_ends_stream;
        }
        Ok(())
    }

    fn take_data(&mut self, frame: Frame<'_>, call: &mut Call) -> Result<(), Failure> {
        // Windows count the whole payload.
        self.received += frame.payload.len();
        if self.received >= REOPEN_AT {
            self.reopen(0, self.received);
            self.received = 0;
        }
        if frame.stream != call.stream {
            return Ok(());
        }
        let Some(part) = frame.content() else { return broken("data shorter than they say") };
        call.data.extend_from_slice(part);
        if call.data.len() > LONGEST_ANSWER + PREFIX {
            return broken(format!("an answer of more than {LONGEST_ANSWER} bytes"));
        }
        call.received += frame.payload.len();
        if call.received >= REOPEN_AT {
            self.reopen(call.stream, call.received);
            call.received = 0;
        }
        call.ended |= frame.has(END_STREAM);
        Ok(())
    }

    fn reopen(&mut self, stream: u32, by: usize) {
        let by = u32::try_from(by).unwrap_or(0);
        frame::put(&mut self.outbox, Kind::WindowUpdate, 0, stream, &by.to_be_bytes());
    }
}

/// What is left until then; `None` if nothing.
fn left(until: Instant) -> Option<Duration> {
    until.checked_duration_since(Instant::now()).filter(|left| *left > Duration::from_micros(1))
}

/// The header fields of a call.
fn head(path: &str, within: Duration) -> Vec<u8> {
    let mut block = Vec::with_capacity(160);
    // `:method: POST` and `:scheme: http` are known to everybody.
    block.extend_from_slice(&[0x83, 0x86]);
    hpack::encode(&mut block, ":path", path);
    // Only what the standard wants to be there; gRPC over unix sockets uses this name.
    hpack::encode(&mut block, ":authority", "localhost");
    hpack::encode(&mut block, "te", "trailers");
    hpack::encode(&mut block, "content-type", "application/grpc");
    hpack::encode(&mut block, "user-agent", concat!("aws-cni/", env!("CARGO_PKG_VERSION")));
    // Whoever answers may stop when nobody waits any more; that our own clock runs out first tells the two apart. At most eight digits:
    // a day of milliseconds has as many.
    let millis = (within + GRACE).as_millis().min(99_999_999);
    hpack::encode(&mut block, "grpc-timeout", &format!("{millis}m"));
    block
}

/// A call under way.
#[derive(Debug, Default)]
struct Call {
    stream: u32,
    /// Octets that may still be sent.
    window: i64,
    /// Octets received since the stream's window was last opened.
    received: usize,
    /// A block of header fields that comes in parts.
    block: Vec<u8>,
    unfinished_block: bool,
    block_ends_stream: bool,
    /// The first block has come.
    begun: bool,
    status: Option<i32>,
    text: String,
    details: Vec<u8>,
    data: Vec<u8>,
    ended: bool,
}

impl Call {
    fn take_fields(&mut self, fields: &[hpack::Field]) -> Result<(), Failure> {
        for (name, value) in fields {
            let text = || String::from_utf8_lossy(value);
            match name.as_slice() {
                // Interim answers say nothing yet.
                b":status" if value.first() == Some(&b'1') => return Ok(()),
                b":status" if value != b"200" => return broken(format!("HTTP status {}", text())),
                b"content-type" if !self.begun && !value.starts_with(b"application/grpc") => {
                    return broken(format!("an answer of type {}", text()));
                }
                b"grpc-status" => match text().parse() {
                    Ok(status) => self.status = Some(status),
                    Err(_) => return broken(format!("gRPC status `{}`", text())),
                },
                b"grpc-message" => self.text = percent_decoded(value),
                b"grpc-status-details-bin" => self.details = base64_decoded(value),
                _ => {}
            }
        }
        self.begun = true;
        Ok(())
    }

    fn answer(self) -> Result<Answer, Failure> {
        let Some(status) = self.status else { return broken("the answer ended without a gRPC status") };
        let mut answer = Answer { status, text: self.text, details: self.details, message: Vec::new() };
        if status != 0 {
            return Ok(answer);
        }
        let Some((prefix, message)) = self.data.split_first_chunk::<PREFIX>() else {
            return broken("a successful answer without a message");
        };
        let [compressed, length @ ..] = *prefix;
        if compressed != 0 {
            return broken("a compressed answer, which nobody asked for");
        }
        if u32::from_be_bytes(length) as usize != message.len() {
            return broken("an answer that is not one message");
        }
        answer.message = message.to_vec();
        Ok(answer)
    }
}

/// gRPC's texts have octets other than printable ASCII as `%` and two digits. What is no such code stays as it is.
fn percent_decoded(coded: &[u8]) -> String {
    let mut text = Vec::with_capacity(coded.len());
    let mut rest = coded;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(octet) => {
                text.push(octet);
                rest = &after[2..];
            }
            None => {
                text.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Base64 of the standard alphabet (RFC 4648, 4), padded or not. Empty where it is none: details that can not be read are none.
fn base64_decoded(coded: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut held) = (Vec::with_capacity(coded.len() * 3 / 4), 0_u32, 0);
    for octet in coded.iter().take_while(|octet| **octet != b'=') {
        let value = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Vec::new(),
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests;
