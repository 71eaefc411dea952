//! IPv4 neighbours: pinned (permanent) entries, and addresses answered for others (proxy entries).

use std::net::Ipv4Addr;

use vpc_model::Mac;

use super::Rtnl;
use crate::netlink::encode::{Message, flag};
use crate::netlink::parse::{Incoming, ipv4_of, u16_of, u32_of};
use crate::netlink::{NetlinkError, Request};

/// Bytes of `struct ndmsg`.
const NDMSG: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

/// A neighbour of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighSpec {
    /// Index of the link.
    pub link: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its hardware address; `None` for proxy entries, and for those the kernel is still looking for.
    pub mac: Option<Mac>,
    /// It stays until somebody removes it.
    pub permanent: bool,
    /// ARP for the address is answered on this link, for another.
    pub proxy: bool,
}

impl NeighSpec {
    /// A pinned neighbour.
    #[must_use]
    pub fn pinned(link: u32, address: Ipv4Addr, mac: Mac) -> Self {
        Self { link, address, mac: Some(mac), permanent: true, proxy: false }
    }

    /// ARP for `address` is answered on the link.
    #[must_use]
    pub fn proxied(link: u32, address: Ipv4Addr) -> Self {
        Self { link, address, mac: None, permanent: true, proxy: true }
    }
}

fn message(kind: u16, flags: u16, neighbour: &NeighSpec) -> Message {
    let state = if neighbour.permanent { libc::NUD_PERMANENT } else { libc::NUD_REACHABLE };
    let mut head = [0; NDMSG];
    head[0] = libc::AF_INET as u8;
    head[4..8].copy_from_slice(&neighbour.link.to_ne_bytes());
    head[8..10].copy_from_slice(&state.to_ne_bytes());
    head[10] = if neighbour.proxy { libc::NTF_PROXY } else { 0 };
    Message::new(kind, flags)
        .fixed(&head)
        .ipv4(NDA_DST, neighbour.address)
        .maybe(neighbour.mac, |m, mac| m.bytes(NDA_LLADDR, &mac.0))
}

fn object(neighbour: &NeighSpec) -> String {
    format!("{} on link #{}", neighbour.address, neighbour.link)
}

/// Adds a neighbour; `EEXIST` when the link has one with that address.
#[must_use]
pub fn add(neighbour: &NeighSpec) -> Request {
    let flags = flag(libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    Request::new("add neighbour", object(neighbour), message(libc::RTM_NEWNEIGH, flags, neighbour))
}

/// Adds a neighbour in place of another with the same address.
#[must_use]
pub fn replace(neighbour: &NeighSpec) -> Request {
    let flags = flag(libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
    Request::new("pin neighbour", object(neighbour), message(libc::RTM_NEWNEIGH, flags, neighbour))
}

/// Forgets a neighbour; `ENOENT` when there is none.
#[must_use]
pub fn delete(neighbour: &NeighSpec) -> Request {
    Request::new("delete neighbour", object(neighbour), message(libc::RTM_DELNEIGH, 0, neighbour))
}

pub(crate) fn read(incoming: &Incoming<'_>) -> Option<NeighSpec> {
    let (head, attributes) = incoming.split(NDMSG)?;
    if incoming.kind != libc::RTM_NEWNEIGH || i32::from(head[0]) != libc::AF_INET {
        return None;
    }
    Some(NeighSpec {
        link: u32_of(&head[4..8])?,
        address: attributes.get(NDA_DST).and_then(ipv4_of)?,
        mac: attributes.get(NDA_LLADDR).and_then(|bytes| bytes.try_into().ok()).map(Mac),
        permanent: u16_of(&head[8..10])? & libc::NUD_PERMANENT != 0,
        proxy: head[10] & libc::NTF_PROXY != 0,
    })
}

impl Rtnl {
    /// Adds a neighbour in place of another with the same address.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link.
    pub fn pin_neighbour(&mut self, neighbour: &NeighSpec) -> Result<(), NetlinkError> {
        self.one(replace(neighbour)).map(drop)
    }

    /// Forgets a neighbour.
    ///
    /// # Errors
    /// `ENOENT` when there is none.
    pub fn delete_neighbour(&mut self, neighbour: &NeighSpec) -> Result<(), NetlinkError> {
        self.one(delete(neighbour)).map(drop)
    }

    /// IPv4 neighbours of all links, pinned or learnt; with `proxy`, the proxy entries instead.
    ///
    /// # Errors
    /// `EAGAIN` when the list kept changing while it was read.
    pub fn neighbours(&mut self, proxy: bool) -> Result<Vec<NeighSpec>, NetlinkError> {
        let mut head = [0; NDMSG];
        head[0] = libc::AF_INET as u8;
        head[10] = if proxy { libc::NTF_PROXY } else { 0 };
        self.socket.dump("list", "neighbours", &Message::new(libc::RTM_GETNEIGH, 0).fixed(&head), read)
    }
}
