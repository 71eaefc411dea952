//! What the kernel answers.

/// A datagram of rtnetlink or nfnetlink, read as every kind of object there is.
pub fn netlink(data: &[u8]) {
    let _ = vpc_linux::fuzzing::read_all(data);
}
