//! IPv4 addresses of links.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Rtnl;
use crate::netlink::encode::{Message, flag};
use crate::netlink::parse::{Incoming, ipv4_of, u32_of};
use crate::netlink::{NetlinkError, Request};

/// Bytes of `struct ifaddrmsg`.
const IFADDR: usize = 8;
/// Leave the connected route out (`IFA_F_NOPREFIXROUTE`).
const NO_PREFIX_ROUTE: u32 = 0x200;
const IFA_FLAGS: u16 = 8;

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    /// Address with its prefix length.
    pub address: Ipv4Net,
    /// The other end, for a point-to-point address (reading only).
    pub peer: Option<Ipv4Addr>,
    /// The kernel adds no connected route for it.
    pub no_prefix_route: bool,
}

impl Address {
    /// An ordinary address; the kernel adds the connected route.
    #[must_use]
    pub fn new(link: u32, address: Ipv4Net) -> Self {
        Self { link, address, peer: None, no_prefix_route: false }
    }
}

fn message(kind: u16, flags: u16, address: &Address) -> Message {
    let host = address.address.addr();
    let mut head = [libc::AF_INET as u8, address.address.prefix_len(), 0, scope_of(host), 0, 0, 0, 0];
    head[4..8].copy_from_slice(&address.link.to_ne_bytes());
    Message::new(kind, flags)
        .fixed(&head)
        .ipv4(libc::IFA_LOCAL, host)
        .ipv4(libc::IFA_ADDRESS, host)
        .maybe(address.no_prefix_route.then_some(NO_PREFIX_ROUTE), |m, flags| m.u32(IFA_FLAGS, flags))
}

/// As `ip address add` chooses it: addresses of the loopback network are the host's own affair.
fn scope_of(address: Ipv4Addr) -> u8 {
    if address.is_loopback() { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE }
}

fn object(address: &Address) -> String {
    format!("{} on link #{}", address.address, address.link)
}

/// Adds an address; `EEXIST` when it is there.
#[must_use]
pub fn add(address: &Address) -> Request {
    let flags = flag(libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    Request::new("add address", object(address), message(libc::RTM_NEWADDR, flags, address))
}

/// Adds an address or leaves it as it is.
#[must_use]
pub fn replace(address: &Address) -> Request {
    let flags = flag(libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
    Request::new("replace address", object(address), message(libc::RTM_NEWADDR, flags, address))
}

/// Takes an address off; `EADDRNOTAVAIL` when it is not there.
#[must_use]
pub fn delete(address: &Address) -> Request {
    Request::new("delete address", object(address), message(libc::RTM_DELADDR, 0, address))
}

pub(crate) fn read(incoming: &Incoming<'_>) -> Option<Address> {
    let (head, attributes) = incoming.split(IFADDR)?;
    if incoming.kind != libc::RTM_NEWADDR || i32::from(head[0]) != libc::AF_INET {
        return None;
    }
    let other = attributes.get(libc::IFA_ADDRESS).and_then(ipv4_of);
    let own = attributes.get(libc::IFA_LOCAL).and_then(ipv4_of).or(other)?;
    let flags = attributes.get(IFA_FLAGS).and_then(u32_of).unwrap_or(u32::from(head[2]));
    Some(Address {
        link: u32_of(&head[4..8])?,
        address: Ipv4Net::new(own, head[1]).ok()?,
        peer: other.filter(|other| *other != own),
        no_prefix_route: flags & NO_PREFIX_ROUTE != 0,
    })
}

impl Rtnl {
    /// Adds an address.
    ///
    /// # Errors
    /// `EEXIST` when the link has it already.
    pub fn add_address(&mut self, address: &Address) -> Result<(), NetlinkError> {
        self.one(add(address)).map(drop)
    }

    /// Adds an address or leaves it as it is.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link.
    pub fn replace_address(&mut self, address: &Address) -> Result<(), NetlinkError> {
        self.one(replace(address)).map(drop)
    }

    /// Takes an address off its link.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` when the link does not have it.
    pub fn delete_address(&mut self, address: &Address) -> Result<(), NetlinkError> {
        self.one(delete(address)).map(drop)
    }

    /// IPv4 addresses: of one link, or of all.
    ///
    /// # Errors
    /// `EAGAIN` when the list kept changing while it was read.
    pub fn addresses(&mut self, link: Option<u32>) -> Result<Vec<Address>, NetlinkError> {
        let mut head = [libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0];
        head[4..8].copy_from_slice(&link.unwrap_or(0).to_ne_bytes());
        let message = Message::new(libc::RTM_GETADDR, 0).fixed(&head);
        let found = self.socket.dump("list", "addresses", &message, read)?;
        // Kernels without strict checking give those of all links.
        Ok(found.into_iter().filter(|a| link.is_none_or(|wanted| a.link == wanted)).collect())
    }
}
