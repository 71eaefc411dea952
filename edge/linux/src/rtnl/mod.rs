//! rtnetlink: one conversation with the kernel about the network of one namespace.
//!
//! Each kind of object has a file with its constants, the functions that make [`Request`]s about it, the reading of answers, and
//! the methods of [`Rtnl`] that do one thing at once. To do many things at once, collect requests and [`Rtnl::run`] them.

pub mod addr;
pub mod link;
pub mod neigh;
pub mod qdisc;
pub mod route;
pub mod rule;

use crate::netlink::socket::{Reply, Socket};
use crate::netlink::{NetlinkError, Request};
use crate::netns::Netns;

/// One synchronous rtnetlink conversation. It speaks about the network namespace it was opened in, whatever namespace its
/// thread enters later.
#[derive(Debug)]
pub struct Rtnl {
    pub(crate) socket: Socket,
    netns: Option<Netns>,
}

impl Rtnl {
    /// A conversation about the calling thread's network namespace.
    ///
    /// # Errors
    /// When the system has no netlink sockets to give.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(libc::NETLINK_ROUTE)?, netns: None })
    }

    /// A conversation about another namespace. The calling thread is there only while the socket is opened.
    ///
    /// # Errors
    /// When the namespace can not be entered.
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        let opened = netns.enter(|| Socket::open(libc::NETLINK_ROUTE));
        let socket = opened.map_err(|e| NetlinkError::from_netns("open netlink socket in", &e))??;
        Ok(Self { socket, netns: Some(netns.clone()) })
    }

    /// Carries out requests in as few sends as possible, in order. Later ones run even when earlier ones fail: order them so that a
    /// part can be undone.
    ///
    /// # Errors
    /// The first refusal that is not tolerated.
    pub fn run(&mut self, requests: Vec<Request>) -> Result<(), NetlinkError> {
        self.socket.run(requests).into_iter().try_for_each(|reply| reply.result)
    }

    /// Like [`Rtnl::run`], with one result for each request. `Ok(true)` means that the kernel changed something, `Ok(false)` that it
    /// refused in a way the request tolerates (already so).
    pub fn run_each(&mut self, requests: Vec<Request>) -> Vec<Result<bool, NetlinkError>> {
        self.socket.run(requests).into_iter().map(|reply| reply.result.map(|()| !reply.tolerated)).collect()
    }

    pub(crate) fn one(&mut self, request: Request) -> Result<Reply, NetlinkError> {
        let (operation, object) = (request.operation, request.object.clone());
        let reply = self.socket.run(vec![request]).pop();
        let reply = reply.ok_or_else(|| NetlinkError::new(operation, object, nix::errno::Errno::EBADMSG))?;
        match reply.result {
            Ok(()) => Ok(reply),
            Err(error) => Err(error),
        }
    }

    /// Runs a closure in the namespace this conversation is about (for what netlink does not reach: `/proc/sys`).
    pub(crate) fn in_namespace<T>(&self, work: impl FnOnce() -> T) -> Result<T, NetlinkError> {
        match &self.netns {
            None => Ok(work()),
            Some(netns) => netns.enter(work).map_err(|e| NetlinkError::from_netns("enter", &e)),
        }
    }
}
