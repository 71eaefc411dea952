//! Frames of HTTP/2 (RFC 7540, 4 and 6): the few kinds one call needs.

/// Octets of a frame's header.
pub(super) const HEADER: usize = 9;
/// Most octets of a frame's payload, in either direction: what everybody has to take, and nobody may exceed unasked (4.2).
pub(super) const MOST: usize = 16_384;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    ResetStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// Priorities, and kinds of later standards: passed over.
    Other,
}

impl Kind {
    fn of(octet: u8) -> Self {
        match octet {
            0 => Self::Data,
            1 => Self::Headers,
            3 => Self::ResetStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Other,
        }
    }

    fn octet(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::ResetStream => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Other => u8::MAX,
        }
    }
}

/// Flags; `ACK` and `END_STREAM` are the same bit on different kinds.
pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A frame that has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of what has come so far. `Ok(None)`: it has not come whole.
    ///
    /// # Errors
    /// Its length, if that is more than anybody was allowed to send: what comes is not HTTP/2.
    pub(super) fn first(come: &'a [u8]) -> Result<Option<Self>, usize> {
        let Some((header, rest)) = come.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, kind, flags, d, e, f, g] = *header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > MOST {
            return Err(length);
        }
        let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
        Ok(rest.get(..length).map(|payload| Self { kind: Kind::of(kind), flags, stream, payload }))
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload without padding and priority, of kinds that may have them. `None`: it is shorter than it says.
    pub(super) fn content(&self) -> Option<&'a [u8]> {
        let mut content = self.payload;
        if self.has(PADDED) {
            let (length, rest) = content.split_first()?;
            content = rest.get(..rest.len().checked_sub(usize::from(*length))?)?;
        }
        if self.kind == Kind::Headers && self.has(PRIORITY) {
            content = content.get(5..)?;
        }
        Some(content)
    }

    /// The number a frame of four octets or more begins with (an error's code, a window's growth).
    pub(super) fn number(&self) -> Option<u32> {
        self.payload.first_chunk().map(|octets| u32::from_be_bytes(*octets))
    }
}

/// Writes a frame. Its payload has at most [`MOST`] octets.
pub(super) fn put(out: &mut Vec<u8>, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind.octet(), flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_when_it_is_whole_and_as_it_was_written() {
        let mut out = Vec::new();
        put(&mut out, Kind::Data, END_STREAM, 7, b"hello");
        for cut in 0..out.len() {
            assert!(Frame::first(&out[..cut]).unwrap().is_none(), "{cut}");
        }
        out.extend_from_slice(b"more");
        let frame = Frame::first(&out).unwrap().unwrap();
        assert_eq!((frame.kind, frame.stream, frame.payload), (Kind::Data, 7, &b"hello"[..]));
        assert!(frame.has(END_STREAM));
        assert!(Frame::first(b"HTTP/1.1 400 Bad Request\r\n\r\n").is_err());
    }

    #[test]
    fn padding_and_priority_are_taken_off() {
        let frame = |kind, flags, payload| Frame { kind, flags, stream: 1, payload };
        assert_eq!(frame(Kind::Data, PADDED, b"\x02abc\0\0").content(), Some(&b"abc"[..]));
        assert_eq!(frame(Kind::Headers, PADDED | PRIORITY, b"\x01\0\0\0\0\0abc\0").content(), Some(&b"abc"[..]));
        assert_eq!(frame(Kind::Data, PADDED, b"\x04abc").content(), None);
        assert_eq!(frame(Kind::Data, PADDED, b"").content(), None);
        assert_eq!(frame(Kind::Headers, PRIORITY, b"abc").content(), None);
    }
}
