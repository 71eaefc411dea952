//! Being told when links, routes or rules change, instead of asking again and again.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::netlink::NetlinkError;
use crate::netlink::parse::Messages;
use crate::netlink::socket::sys;
use crate::netns::Netns;
use crate::rtnl::link::{self, LinkInfo};
use crate::rtnl::route;

/// Multicast groups as bits of `nl_groups` (`RTMGRP_*`; the rule group has no libc name: `RTNLGRP_IPV4_RULE` is 8).
const GROUP_LINK: u32 = libc::RTMGRP_LINK as u32;
const GROUP_ROUTE: u32 = libc::RTMGRP_IPV4_ROUTE as u32;
const GROUP_RULE: u32 = 1 << 7;

/// Receive buffer asked for: a node that starts 100 pods at once makes about 1 MiB of messages.
const RECEIVE_BUFFER: libc::c_int = 4 * 1024 * 1024;

/// What to be told of besides links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// IPv4 routes (not of table `local`).
    pub routes: bool,
    /// IPv4 rules.
    pub rules: bool,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link appeared or changed; this is how it is now.
    Link(Box<LinkInfo>),
    /// A link went away.
    LinkGone(Box<LinkInfo>),
    /// A route was added, replaced or removed.
    Route,
    /// A rule was added or removed.
    Rule,
    /// So much happened that some of it was lost: observe everything again.
    Lost,
}

/// A stream of changes of one network namespace. Readable (as by `poll`) when there is something to read.
#[derive(Debug)]
pub struct LinkMonitor {
    fd: OwnedFd,
    buffer: Vec<u8>,
    pending: VecDeque<LinkEvent>,
}

impl LinkMonitor {
    /// Begins to listen in the calling thread's network namespace. Observe *after* this: then nothing falls between.
    ///
    /// # Errors
    /// When the system has no netlink sockets to give.
    pub fn open(interest: Interest) -> Result<Self, NetlinkError> {
        let groups =
            GROUP_LINK | if interest.routes { GROUP_ROUTE } else { 0 } | if interest.rules { GROUP_RULE } else { 0 };
        let fd = sys::socket(libc::NETLINK_ROUTE, groups)
            .map_err(|errno| NetlinkError::new("listen to", "link changes", errno))?;
        if sys::set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
            sys::set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER).ok();
        }
        Ok(Self { fd, buffer: vec![0; 64 * 1024], pending: VecDeque::new() })
    }

    /// Begins to listen in another namespace. The calling thread is there only while the socket is opened.
    ///
    /// # Errors
    /// When the namespace can not be entered.
    pub fn open_in(netns: &Netns, interest: Interest) -> Result<Self, NetlinkError> {
        let opened = netns.enter(|| Self::open(interest));
        opened.map_err(|e| NetlinkError::from_netns("listen in", &e))?
    }

    /// The next change, or `None` when nothing (more) is there to read. Never waits.
    ///
    /// # Errors
    /// When the socket is unusable.
    pub fn next_event(&mut self) -> Result<Option<LinkEvent>, NetlinkError> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            match sys::receive(&self.fd, &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(length) => self.pending.extend(events(&self.buffer[..length])),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::ENOBUFS | Errno::EMSGSIZE) => return Ok(Some(LinkEvent::Lost)),
                Err(errno) => return Err(NetlinkError::new("listen to", "link changes", errno)),
            }
        }
    }
}

/// The events in one datagram. What can not be read is passed over.
pub(crate) fn events(datagram: &[u8]) -> impl Iterator<Item = LinkEvent> {
    Messages(datagram).filter_map(|message| match message.kind {
        libc::RTM_NEWLINK => link::read(message.kind, message.body).map(Box::new).map(LinkEvent::Link),
        libc::RTM_DELLINK => link::read(message.kind, message.body).map(Box::new).map(LinkEvent::LinkGone),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => route::is_entry(message.body).then_some(LinkEvent::Route),
        libc::RTM_NEWRULE | libc::RTM_DELRULE => Some(LinkEvent::Rule),
        _ => None,
    })
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for LinkMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
