//! Queueing disciplines: how fast packets may leave a link.

use nix::errno::Errno;

use super::Rtnl;
use crate::netlink::encode::{Message, flag};
use crate::netlink::{NetlinkError, Request};

/// Bytes of `struct tcmsg`.
const TCMSG: usize = 20;
/// `TC_H_ROOT`.
const ROOT: u32 = u32::MAX;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// Length is counted as Ethernet does (`TC_LINKLAYER_ETHERNET`); without it the kernel wants a table of rates.
const LINKLAYER_ETHERNET: u8 = 1;
/// Nanoseconds of a tick of the packet scheduler's clock (`PSCHED_SHIFT` 6).
const TICK_NS: u128 = 64;

/// A token bucket filter: what does not fit waits, what does not fit the queue is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes that may leave at once; no less than a packet, or none ever leaves.
    pub burst: u32,
    /// Bytes that wait at most.
    pub limit: u32,
}

impl TokenBucket {
    /// `struct tc_tbf_qopt`: rate, peak rate (none), queue, bucket in ticks, size of a packet (of the peak rate).
    fn parameters(&self) -> [u8; 36] {
        let mut bytes = [0; 36];
        bytes[1] = LINKLAYER_ETHERNET;
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        bytes[8..12].copy_from_slice(&rate.to_ne_bytes());
        bytes[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        let nanos = u128::from(self.burst) * 1_000_000_000 / u128::from(self.rate.max(1));
        let ticks = u32::try_from(nanos / TICK_NS).unwrap_or(u32::MAX);
        bytes[28..32].copy_from_slice(&ticks.to_ne_bytes());
        bytes
    }
}

fn message(kind: u16, flags: u16, link: u32) -> Message {
    let mut head = [0; TCMSG];
    head[4..8].copy_from_slice(&link.to_ne_bytes());
    head[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    Message::new(kind, flags).fixed(&head)
}

/// A link sends no faster than this, whatever held it before.
#[must_use]
pub fn shape(link: u32, bucket: &TokenBucket) -> Request {
    let large = u32::try_from(bucket.rate).is_err().then_some(bucket.rate);
    let message = message(libc::RTM_NEWQDISC, flag(libc::NLM_F_CREATE | libc::NLM_F_REPLACE), link)
        .text(TCA_KIND, "tbf")
        .nest(TCA_OPTIONS, |m| {
            m.bytes(TCA_TBF_PARMS, &bucket.parameters())
                .u32(TCA_TBF_BURST, bucket.burst)
                .maybe(large, |m, rate| m.bytes(TCA_TBF_RATE64, &rate.to_ne_bytes()))
        });
    Request::new("shape link", format!("#{link} to {} bytes/s", bucket.rate), message)
}

/// A link sends as fast as it can again. One that nothing held is fine.
#[must_use]
pub fn unshape(link: u32) -> Request {
    let request = Request::new("unshape link", format!("#{link}"), message(libc::RTM_DELQDISC, 0, link));
    // The kernel's own default discipline can not be deleted.
    request.tolerating(&[Errno::ENOENT])
}

impl Rtnl {
    /// Lets a link send no faster than a rate.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link; `ENOENT` when the kernel has no token bucket filter (`sch_tbf`).
    pub fn shape_link(&mut self, link: u32, bucket: &TokenBucket) -> Result<(), NetlinkError> {
        self.one(shape(link, bucket)).map(drop)
    }

    /// Lets a link send as fast as it can.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link.
    pub fn unshape_link(&mut self, link: u32) -> Result<(), NetlinkError> {
        self.one(unshape(link)).map(drop)
    }
}
