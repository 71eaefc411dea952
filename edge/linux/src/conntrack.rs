//! Connection tracking over ctnetlink: forgetting what the kernel remembers of an address.
//!
//! ```text
//!   forget(addresses) --dump, filtered--> entries from or to them --one delete each, by tuple, zone and id--> gone
//! ```
//!
//! A tracked connection outlives the pod it led to: a translated one (a Service's) is still led to the old address when that belongs
//! to another pod. Deletions name a whole tuple: a deletion without one would empty the kernel's whole table.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nix::errno::Errno;

use crate::netlink::encode::{Message, flag};
use crate::netlink::parse::{Attributes, Incoming, ipv4_of};
use crate::netlink::socket::Socket;
use crate::netlink::{NetlinkError, Request};
use crate::netns::Netns;
use crate::sysctl;

/// `NFNL_SUBSYS_CTNETLINK`, in the upper half of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_NEW`: also what a dump's parts are.
const CT_NEW: u16 = SUBSYSTEM;
/// `IPCTNL_MSG_CT_GET`.
const CT_GET: u16 = SUBSYSTEM | 1;
/// `IPCTNL_MSG_CT_DELETE`.
const CT_DELETE: u16 = SUBSYSTEM | 2;

/// `CTA_*`: attributes of an entry.
mod attribute {
    pub(super) const TUPLE_ORIG: u16 = 1;
    pub(super) const TUPLE_REPLY: u16 = 2;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
    pub(super) const FILTER: u16 = 25;
    /// Inside a tuple.
    pub(super) const TUPLE_IP: u16 = 1;
    /// Inside [`TUPLE_IP`].
    pub(super) const IPV4_SOURCE: u16 = 1;
    pub(super) const IPV4_DESTINATION: u16 = 2;
    /// Inside [`FILTER`], which looks at the tuple of the same direction.
    pub(super) const ORIG_FLAGS: u16 = 1;
    pub(super) const REPLY_FLAGS: u16 = 2;
}

/// Bytes of `struct nfgenmsg`.
const NFGENMSG: usize = 4;

/// So many entries are read and sorted out here in the time in which the kernel walks through its whole table once (measured: 20 ms
/// for 262,144 buckets). A filtered dump is such a walk for each end of each address; one dump of everything is a walk and its entries.
const ENTRIES_PER_WALK: usize = 10_000;

/// The entries of the namespace; the switch is there where the kernel tracks connections.
const TRACKING: &str = "net/netfilter/nf_conntrack_count";

/// A conversation about the tracked connections of one network namespace.
#[derive(Debug)]
pub(crate) struct Conntrack {
    socket: Socket,
}

/// Where an address stands in an entry: direction, side, bit of the filter.
#[derive(Clone, Copy)]
struct End {
    tuple: u16,
    side: u16,
    flags: u16,
}

const ENDS: [End; 4] = {
    use attribute::{IPV4_DESTINATION, IPV4_SOURCE, ORIG_FLAGS, REPLY_FLAGS, TUPLE_ORIG, TUPLE_REPLY};
    [
        End { tuple: TUPLE_ORIG, side: IPV4_SOURCE, flags: ORIG_FLAGS },
        End { tuple: TUPLE_ORIG, side: IPV4_DESTINATION, flags: ORIG_FLAGS },
        End { tuple: TUPLE_REPLY, side: IPV4_SOURCE, flags: REPLY_FLAGS },
        End { tuple: TUPLE_REPLY, side: IPV4_DESTINATION, flags: REPLY_FLAGS },
    ]
};

impl End {
    /// `CTA_FILTER_F_CTA_IP_SRC` or `CTA_FILTER_F_CTA_IP_DST`.
    fn filter_bit(self) -> u32 {
        if self.side == attribute::IPV4_SOURCE { 1 } else { 2 }
    }
}

impl Conntrack {
    /// A conversation about the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(libc::NETLINK_NETFILTER)? })
    }

    /// A conversation about another namespace.
    pub(crate) fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        let opened = netns.enter(Self::open);
        opened.map_err(|e| NetlinkError::from_netns("open nfnetlink socket in", &e))?
    }

    /// Forgets every IPv4 connection from or to these addresses, whichever way it was opened, whatever it was translated to, in every
    /// zone; says how many there were. What ends by itself meanwhile is fine.
    ///
    /// `tracked` is how many entries there are about.
    pub(crate) fn forget(&mut self, addresses: &[Ipv4Addr], tracked: usize) -> Result<usize, NetlinkError> {
        let walks_spared = (addresses.len() * ENDS.len()).saturating_sub(1);
        let entries = if tracked > walks_spared * ENTRIES_PER_WALK {
            self.entries_of_each(addresses)?
        } else {
            let wanted: BTreeSet<Ipv4Addr> = addresses.iter().copied().collect();
            self.entries(&get(), |entry| entry.ends().any(|address| wanted.contains(&address)))?
        };
        let count = entries.len();
        let requests = entries.into_iter().map(Entry::removal).collect();
        self.socket.run(requests).into_iter().try_for_each(|reply| reply.result)?;
        Ok(count)
    }

    fn entries_of_each(&mut self, addresses: &[Ipv4Addr]) -> Result<BTreeSet<Entry>, NetlinkError> {
        let mut found = BTreeSet::new();
        for address in addresses {
            for end in ENDS {
                // Kernels before 5.8 do not know the filter and show everything: so it is looked at here too.
                found.extend(self.entries(&get_with(end, *address), |entry| entry.ends().any(|a| a == *address))?);
            }
        }
        Ok(found)
    }

    fn entries(&mut self, message: &Message, wanted: impl Fn(&Entry) -> bool) -> Result<BTreeSet<Entry>, NetlinkError> {
        let each = |incoming: &Incoming<'_>| Entry::read(incoming).filter(&wanted);
        Ok(self.socket.dump("list", "tracked connections", message, each)?.into_iter().collect())
    }
}

/// Forgets the connections of these addresses in the namespace (the caller's own if `None`). A kernel that tracks none has none to
/// forget.
pub(crate) fn forget(
    conversation: &mut Option<Conntrack>,
    netns: Option<&Netns>,
    addresses: &[Ipv4Addr],
) -> Result<usize, NetlinkError> {
    if addresses.is_empty() {
        return Ok(0);
    }
    let mut open = match conversation.take() {
        Some(open) => open,
        None => match netns.map_or_else(Conntrack::open, Conntrack::open_in) {
            Ok(open) => open,
            Err(error) => return fine_without_tracking(netns, error),
        },
    };
    let result = tracked(netns).and_then(|tracked| open.forget(addresses, tracked.unwrap_or(0)));
    *conversation = Some(open);
    result.or_else(|error| fine_without_tracking(netns, error))
}

/// What an answer of a kernel without ctnetlink means: without connection tracking nothing is remembered. With it, and without a way
/// to forget, that is an error.
fn fine_without_tracking(netns: Option<&Netns>, error: NetlinkError) -> Result<usize, NetlinkError> {
    if !matches!(error.errno, Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) {
        return Err(error);
    }
    if tracked(netns)?.is_some() { Err(error) } else { Ok(0) }
}

/// How many entries the namespace has; `None` if the kernel tracks no connections.
fn tracked(netns: Option<&Netns>) -> Result<Option<usize>, NetlinkError> {
    let read = || sysctl::read(TRACKING).ok().and_then(|text| text.trim().parse().ok());
    match netns {
        None => Ok(read()),
        Some(netns) => netns.enter(read).map_err(|e| NetlinkError::from_netns("enter", &e)),
    }
}

/// A tracked connection: what names it, as bytes of the kernel's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    original: Vec<u8>,
    reply: Vec<u8>,
    zone: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
}

impl Entry {
    fn read(incoming: &Incoming<'_>) -> Option<Self> {
        if incoming.kind != CT_NEW {
            return None;
        }
        let (_, attributes) = incoming.split(NFGENMSG)?;
        let bytes = |kind| attributes.get(kind).map(<[u8]>::to_vec);
        Some(Self {
            original: bytes(attribute::TUPLE_ORIG)?,
            reply: bytes(attribute::TUPLE_REPLY).unwrap_or_default(),
            zone: bytes(attribute::ZONE),
            id: bytes(attribute::ID),
        })
    }

    /// The addresses of both directions.
    fn ends(&self) -> impl Iterator<Item = Ipv4Addr> {
        [&self.original, &self.reply].into_iter().flat_map(|tuple| {
            let addresses = Attributes(tuple).inside(attribute::TUPLE_IP);
            let side = |kind| addresses.get(kind).and_then(ipv4_of);
            [side(attribute::IPV4_SOURCE), side(attribute::IPV4_DESTINATION)].into_iter().flatten()
        })
    }

    /// Deletes this one connection. The id tells it from a later one of the same tuple.
    fn removal(self) -> Request {
        let object = self.ends().map(|address| address.to_string()).collect::<Vec<_>>().join(" ");
        let message = Message::new(CT_DELETE, 0)
            .fixed(&nfgenmsg())
            .bytes(attribute::TUPLE_ORIG | flag(libc::NLA_F_NESTED), &self.original)
            .maybe(self.zone, |m, zone| m.bytes(attribute::ZONE, &zone))
            .maybe(self.id, |m, id| m.bytes(attribute::ID, &id));
        Request::new("forget tracked connection", object, message).tolerating(&[Errno::ENOENT])
    }
}

/// Reads an entry and makes its removal, as far as it is one.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(incoming: &Incoming<'_>) {
    if let Some(entry) = Entry::read(incoming) {
        let _ = entry.ends().count();
        let _ = entry.removal().to_bytes(1);
    }
}

fn nfgenmsg() -> [u8; NFGENMSG] {
    [libc::AF_INET as u8, 0, 0, 0]
}

fn get() -> Message {
    Message::new(CT_GET, 0).fixed(&nfgenmsg())
}

fn get_with(end: End, address: Ipv4Addr) -> Message {
    get()
        .nest(end.tuple, |m| m.nest(attribute::TUPLE_IP, |m| m.ipv4(end.side, address)))
        .nest(attribute::FILTER, |m| m.u32(end.flags, end.filter_bit()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_always_names_a_tuple() {
        // Without one the kernel would take it for an order to forget everything.
        let entry = Entry { original: vec![], reply: vec![], zone: None, id: None };
        let bytes = entry.removal().to_bytes(1);
        let attributes = Attributes(&bytes[16 + NFGENMSG..]);
        assert!(attributes.get(attribute::TUPLE_ORIG).is_some());
    }

    /// Both ways of finding entries find the same: the kernel's filter is asked for each end.
    #[test]
    fn a_filtered_question_names_its_end() {
        for (end, bit) in ENDS.into_iter().zip([1_u32, 2, 1, 2]) {
            let bytes = get_with(end, Ipv4Addr::new(10, 0, 0, 1)).finish(1, 0);
            let attributes = Attributes(&bytes[16 + NFGENMSG..]);
            let flags = attributes.inside(attribute::FILTER).get(end.flags);
            assert_eq!(flags, Some(&bit.to_ne_bytes()[..]));
            let side = attributes.inside(end.tuple).inside(attribute::TUPLE_IP).get(end.side);
            assert_eq!(side.and_then(ipv4_of), Some(Ipv4Addr::new(10, 0, 0, 1)));
        }
    }

    #[test]
    fn an_entry_without_a_tuple_is_passed_over() {
        let incoming = Incoming { kind: CT_NEW, flags: 0, sequence: 1, body: &[2, 0, 0, 0] };
        assert_eq!(Entry::read(&incoming), None);
    }
}
