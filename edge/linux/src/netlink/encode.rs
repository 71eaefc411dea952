//! Writing netlink messages: header, fixed part, attributes, nested attributes. All lengths and paddings are made here.

use std::net::Ipv4Addr;

use nix::errno::Errno;

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// Rounds up to netlink's alignment of four bytes.
pub(crate) const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

/// A flag (`u16` in the header) from libc's `c_int`.
pub(crate) const fn flag(bits: libc::c_int) -> u16 {
    bits as u16
}

/// A message under construction. Its sequence number is filled in when it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message with its header and nothing else.
    pub(crate) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Self { bytes }
    }

    /// The fixed part that follows the header (`struct ifinfomsg` and its like).
    pub(crate) fn fixed(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// An attribute with a payload of bytes.
    pub(crate) fn bytes(mut self, kind: u16, payload: &[u8]) -> Self {
        self.push(kind, payload);
        self
    }

    /// An attribute in the machine's byte order.
    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// An attribute in network byte order, as nf_tables wants all its numbers.
    pub(crate) fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute with a zero-terminated text.
    pub(crate) fn text(mut self, kind: u16, text: &str) -> Self {
        let mut payload = Vec::with_capacity(text.len() + 1);
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        self.push(kind, &payload);
        self
    }

    /// An attribute with an IPv4 address.
    pub(crate) fn ipv4(self, kind: u16, address: Ipv4Addr) -> Self {
        self.bytes(kind, &address.octets())
    }

    /// The attribute, if there is a value for it.
    pub(crate) fn maybe<T>(self, value: Option<T>, put: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => put(self, value),
            None => self,
        }
    }

    /// An attribute made of attributes, marked `NLA_F_NESTED`.
    pub(crate) fn nest(self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        self.wrap(kind | flag(libc::NLA_F_NESTED), inside)
    }

    /// An attribute made of attributes (or a fixed part and attributes) without the mark, as older families want it.
    pub(crate) fn wrap(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        let mut done = inside(self);
        let length = u16::try_from(done.bytes.len() - start).unwrap_or(u16::MAX);
        done.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        done
    }

    /// The finished message with its length, ready to be put on a socket.
    pub(crate) fn finish(mut self, sequence: u32, extra_flags: u16) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | extra_flags;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    /// The type of the message.
    pub(crate) fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[4], self.bytes[5]])
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, kind: u16, payload: &[u8]) {
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// One message with what is needed to talk about it: what it does, to what, and which refusals mean "already so".
///
/// Requests are made by the functions of the kind of object they are about (`rtnl::link::…`, `rtnl::route::…`) and carried out
/// by [`crate::Rtnl::run`], many in one send.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) operation: &'static str,
    pub(crate) object: String,
    pub(crate) message: Message,
    pub(crate) tolerated: &'static [Errno],
}

impl Request {
    pub(crate) fn new(operation: &'static str, object: impl Into<String>, message: Message) -> Self {
        Self { operation, object: object.into(), message, tolerated: &[] }
    }

    /// The same request, for which these refusals count as success.
    #[must_use]
    pub fn tolerating(mut self, tolerated: &'static [Errno]) -> Self {
        self.tolerated = tolerated;
        self
    }

    /// What it does ("add route").
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// To what.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// It removes one copy of a rule, of which there may be more.
    pub(crate) fn is_rule_removal(&self) -> bool {
        self.message.kind() == libc::RTM_DELRULE
    }

    /// The bytes as they would be sent with that sequence number (for tests that decode them with another library).
    #[must_use]
    pub fn to_bytes(&self, sequence: u32) -> Vec<u8> {
        self.message.clone().finish(sequence, flag(libc::NLM_F_REQUEST | libc::NLM_F_ACK))
    }
}
