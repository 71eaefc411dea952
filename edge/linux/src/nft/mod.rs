//! nf_tables over nfnetlink: everything of a change in one transaction, on one long-lived socket.
//!
//! ```text
//!   Batch: tables, chains, sets, elements, rules --Nft::commit--> all of it, or nothing and the reason
//!   Nft::tables / chains / rules / sets / elements: what stands in the kernel
//! ```
//!
//! Keep the [`Nft`] open: a process that closes its nfnetlink socket right after a transaction that removed something waits some
//! 16 ms for the kernel to free it.

mod batch;
mod constants;
mod dump;
mod expr;
mod meter;
mod rule;
mod set;

pub use batch::{BaseChain, Batch, Chain, ChainKind, Family, Hook, Policy, Table, priority};
#[cfg(any(test, fuzzing))]
pub(crate) use dump::read_any;
pub use dump::{ChainSeen, ElementSeen, RuleSeen, SetSeen, TableSeen};
pub use expr::{
    AddressType, CmpOp, CtDirection, CtKey, Expr, FibFlags, FibResult, MetaKey, NatFlags, NatKind, PayloadBase, Reg,
    Verdict, ct_state, ct_status,
};
pub use meter::Meter;
pub use rule::{IfName, Rule, Selector, Test};
pub use set::{Data, DataKind, Element, KeyPart, KeyType, Set, Value};

use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;

use crate::netlink::encode::{Message, flag};
use crate::netlink::parse::errno_of;
use crate::netlink::socket::Socket;
use crate::netlink::{NetlinkError, Request};
use crate::netns::Netns;

/// Room for a transaction of some 20,000 set elements where we may force it, some 8,000 where not.
const SEND_BUFFER: usize = 2 * 1024 * 1024;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// The messages of a batch, for those who try to read them.
#[cfg(any(test, fuzzing))]
pub(crate) fn datagrams(batch: Batch) -> Vec<Vec<u8>> {
    batch.into_requests().iter().map(|request| request.to_bytes(7)).collect()
}

/// A long-lived nfnetlink conversation about the packet filter of one network namespace.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// A conversation about the calling thread's network namespace.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` when the kernel has no nfnetlink.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = Socket::open(libc::NETLINK_NETFILTER)?;
        socket.grow_send_buffer(SEND_BUFFER);
        Ok(Self { socket })
    }

    /// A conversation about another namespace. The calling thread is there only while the socket is opened.
    ///
    /// # Errors
    /// When the namespace can not be entered.
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        let opened = netns.enter(Self::open);
        opened.map_err(|e| NetlinkError::from_netns("open nfnetlink socket in", &e))?
    }

    /// Carries out a batch as one transaction: all of it, or nothing.
    ///
    /// # Errors
    /// The first object the kernel refused, with its reason; nothing has changed then.
    pub fn commit(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        let requests = batch.into_requests();
        if requests.is_empty() {
            return Ok(());
        }
        let first = self.socket.take_sequence();
        let mut bytes = control(BATCH_BEGIN).finish(first, flag(libc::NLM_F_REQUEST));
        let mut objects = Vec::with_capacity(requests.len());
        let count = requests.len();
        for (at, Request { operation, object, message, .. }) in requests.into_iter().enumerate() {
            // Errors are always reported; only the last success needs to be.
            let ack = if at + 1 == count { libc::NLM_F_ACK } else { 0 };
            bytes.extend(message.finish(self.socket.take_sequence(), flag(libc::NLM_F_REQUEST | ack)));
            objects.push((operation, object));
        }
        bytes.extend(control(BATCH_END).finish(self.socket.take_sequence(), flag(libc::NLM_F_REQUEST)));
        let outcome = self.socket.send(&bytes).map_err(Refusal::whole).and_then(|()| self.collect(first, count));
        outcome.map_err(|Refusal { at, errno, message }| {
            let (operation, object) =
                at.and_then(|at| objects.get(at).cloned()).unwrap_or(("commit", "nf_tables transaction".to_owned()));
            NetlinkError { operation, object, errno, message }
        })
    }

    /// Verdicts come in the order of the messages, one on the transaction as a whole (with the number of its beginning) before them.
    fn collect(&mut self, first: u32, count: usize) -> Result<(), Refusal> {
        let mut refusal: Option<Refusal> = None;
        loop {
            for message in self.socket.receive().map_err(Refusal::whole)? {
                let at = message.sequence.wrapping_sub(first) as usize;
                if i32::from(message.kind) != libc::NLMSG_ERROR || at > count {
                    continue;
                }
                let (code, text) = message.verdict().unwrap_or((-libc::EBADMSG, None));
                if code != 0 {
                    let found = Refusal { at: at.checked_sub(1), errno: errno_of(code), message: text };
                    // A transaction refused as a whole may not say anything else.
                    if at == 0 {
                        return Err(found);
                    }
                    refusal.get_or_insert(found);
                }
                if at == count {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }
}

impl AsRawFd for Nft {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

struct Refusal {
    /// Position of the message; `None`: the transaction as a whole.
    at: Option<usize>,
    errno: Errno,
    message: Option<String>,
}

impl Refusal {
    fn whole(errno: Errno) -> Self {
        Self { at: None, errno, message: None }
    }
}

/// `struct nfgenmsg`.
fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn control(kind: u16) -> Message {
    Message::new(kind, 0).fixed(&nfgenmsg(0, constants::SUBSYSTEM))
}

/// A message of nf_tables for that family.
fn about(kind: u16, flags: u16, family: u8) -> Message {
    Message::new(constants::SUBSYSTEM << 8 | kind, flags).fixed(&nfgenmsg(family, 0))
}
