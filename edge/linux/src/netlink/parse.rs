//! Reading netlink messages. Every length is checked; what does not fit ends the reading, never the program.

use std::net::Ipv4Addr;

use nix::errno::Errno;

use super::encode::{HEADER, aligned};

/// One message of a datagram, borrowed from the buffer it was received in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Incoming<'a> {
    /// The fixed part of that many bytes and the attributes behind it; `None` if the message is shorter.
    pub(crate) fn split(&self, fixed: usize) -> Option<(&'a [u8], Attributes<'a>)> {
        let head = self.body.get(..fixed)?;
        let rest = self.body.get(aligned(fixed)..).unwrap_or_default();
        Some((head, Attributes(rest)))
    }

    /// What an `NLMSG_ERROR` (or the end of a dump) says: the error number (0 = done) and the kernel's explanation.
    pub(crate) fn verdict(&self) -> Option<(i32, Option<String>)> {
        let code = i32::from_ne_bytes(self.body.get(..4)?.try_into().ok()?);
        let attributes = if self.kind == libc::NLMSG_DONE as u16 {
            self.body.get(4..).unwrap_or_default()
        } else {
            // struct nlmsgerr repeats the header of the request, and the whole request unless it was capped.
            let echoed = self
                .body
                .get(4..8)
                .and_then(|b| Some(u32::from_ne_bytes(b.try_into().ok()?) as usize))
                .unwrap_or(HEADER);
            let skip = if self.flags & NLM_F_CAPPED != 0 { HEADER } else { aligned(echoed) };
            self.body.get(4 + skip..).unwrap_or_default()
        };
        let message = if self.flags & NLM_F_ACK_TLVS != 0 {
            Attributes(attributes).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG).map(|(_, text)| text_of(text))
        } else {
            None
        };
        Some((code, message.filter(|text| !text.is_empty())))
    }
}

const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The messages of one datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Incoming<'a>;

    fn next(&mut self) -> Option<Incoming<'a>> {
        let header = self.0.get(..HEADER)?;
        let length = u32_of(&header[0..4])? as usize;
        let body = if length < HEADER { None } else { self.0.get(HEADER..length) };
        let Some(body) = body else {
            self.0 = &[];
            return None;
        };
        let incoming = Incoming {
            kind: u16_of(&header[4..6])?,
            flags: u16_of(&header[6..8])?,
            sequence: u32_of(&header[8..12])?,
            body,
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some(incoming)
    }
}

/// A run of attributes: (kind without its flag bits, payload).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_of(self.0.get(0..2)?)?);
        let kind = u16_of(self.0.get(2..4)?)? & 0x3fff;
        let payload = if length < 4 { None } else { self.0.get(4..length) };
        let Some(payload) = payload else {
            self.0 = &[];
            return None;
        };
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, payload))
    }
}

impl<'a> Attributes<'a> {
    /// The payload of the first attribute of that kind.
    pub(crate) fn get(mut self, wanted: u16) -> Option<&'a [u8]> {
        self.find(|(kind, _)| *kind == wanted).map(|(_, payload)| payload)
    }

    /// The attributes inside the first attribute of that kind; none if there is no such attribute.
    pub(crate) fn inside(self, wanted: u16) -> Attributes<'a> {
        Attributes(self.get(wanted).unwrap_or_default())
    }
}

pub(crate) fn u16_of(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?))
}

pub(crate) fn u32_of(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

pub(crate) fn be32_of(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

pub(crate) fn be64_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

pub(crate) fn ipv4_of(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?))
}

/// A text up to its first zero byte; what is not UTF-8 is replaced.
pub(crate) fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The error number in a verdict (negative, as the kernel writes it).
pub(crate) fn errno_of(code: i32) -> Errno {
    Errno::from_raw(code.checked_neg().unwrap_or(libc::EBADMSG))
}
