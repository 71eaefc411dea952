//! IPv4 routes, in any table, and the question which one a packet would take.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_hostnet::RouteScope;
use vpc_model::RouteTable;

use super::Rtnl;
use crate::PROTOCOL;
use crate::netlink::encode::{Message, flag};
use crate::netlink::parse::{Attributes, Incoming, ipv4_of, u32_of};
use crate::netlink::{NetlinkError, Request};

/// Bytes of `struct rtmsg`.
const RTMSG: usize = 12;
/// The gateway counts as on the link (`RTNH_F_ONLINK`).
const ONLINK: u32 = 4;
/// An answer to a question about a packet, not an entry of a table (`RTM_F_CLONED`).
const CLONED: u32 = 0x200;
/// Tell the table the answer was found in (`RTM_F_LOOKUP_TABLE`).
const LOOKUP_TABLE: u32 = 0x1000;

/// What becomes of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Sent on.
    #[default]
    Unicast,
    /// For this host (table `local`).
    Local,
    /// Broadcast on the link.
    Broadcast,
    /// Dropped silently.
    Blackhole,
    /// Dropped, sender is told "unreachable".
    Unreachable,
    /// Dropped, sender is told "prohibited".
    Prohibit,
    /// The next rule is asked.
    Throw,
    /// Something else, by the kernel's number.
    Other(u8),
}

impl RouteKind {
    fn number(self) -> u8 {
        match self {
            Self::Unicast => libc::RTN_UNICAST,
            Self::Local => libc::RTN_LOCAL,
            Self::Broadcast => libc::RTN_BROADCAST,
            Self::Blackhole => libc::RTN_BLACKHOLE,
            Self::Unreachable => libc::RTN_UNREACHABLE,
            Self::Prohibit => libc::RTN_PROHIBIT,
            Self::Throw => libc::RTN_THROW,
            Self::Other(number) => number,
        }
    }

    fn of(number: u8) -> Self {
        match number {
            libc::RTN_UNICAST => Self::Unicast,
            libc::RTN_LOCAL => Self::Local,
            libc::RTN_BROADCAST => Self::Broadcast,
            libc::RTN_BLACKHOLE => Self::Blackhole,
            libc::RTN_UNREACHABLE => Self::Unreachable,
            libc::RTN_PROHIBIT => Self::Prohibit,
            libc::RTN_THROW => Self::Throw,
            other => Self::Other(other),
        }
    }
}

/// An IPv4 route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteSpec {
    /// Table; 254 is main.
    pub table: RouteTable,
    /// Destination; `0.0.0.0/0` is the default route.
    pub to: Ipv4Net,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// Gateway.
    pub via: Option<Ipv4Addr>,
    /// Index of the link it leaves by. `None` for blackholes and for routes with several next hops (reading only).
    pub link: Option<u32>,
    /// Scope.
    pub scope: RouteScope,
    /// Preferred source.
    pub source: Option<Ipv4Addr>,
    /// The gateway counts as on the link.
    pub onlink: bool,
    /// Metric; 0 and `None` are the same.
    pub metric: Option<u32>,
    /// Who put it there; [`PROTOCOL`] for ours.
    pub protocol: u8,
}

impl RouteSpec {
    /// `to dev link scope link`, in a table.
    #[must_use]
    pub fn on_link(table: RouteTable, to: Ipv4Net, link: u32) -> Self {
        Self { link: Some(link), scope: RouteScope::Link, ..Self::bare(table, to, RouteKind::Unicast) }
    }

    /// `to via gateway dev link`, in a table.
    #[must_use]
    pub fn through(table: RouteTable, to: Ipv4Net, via: Ipv4Addr, link: u32) -> Self {
        Self { link: Some(link), via: Some(via), ..Self::bare(table, to, RouteKind::Unicast) }
    }

    /// Packets end here: [`RouteKind::Blackhole`], [`RouteKind::Unreachable`], [`RouteKind::Prohibit`] or [`RouteKind::Throw`].
    #[must_use]
    pub fn ending(table: RouteTable, to: Ipv4Net, kind: RouteKind) -> Self {
        Self::bare(table, to, kind)
    }

    fn bare(table: RouteTable, to: Ipv4Net, kind: RouteKind) -> Self {
        Self {
            table,
            to: to.trunc(),
            kind,
            via: None,
            link: None,
            scope: RouteScope::Universe,
            source: None,
            onlink: false,
            metric: None,
            protocol: PROTOCOL,
        }
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != RouteKind::Unicast {
            write!(f, "{:?} ", self.kind)?;
        }
        self.to.fmt(f)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(link) = self.link {
            write!(f, " dev #{link}")?;
        }
        write!(f, " table {}", self.table)
    }
}

/// Scopes as the kernel numbers them.
pub(crate) fn scope_number(scope: RouteScope) -> u8 {
    match scope {
        RouteScope::Universe => libc::RT_SCOPE_UNIVERSE,
        RouteScope::Link => libc::RT_SCOPE_LINK,
        RouteScope::Host => libc::RT_SCOPE_HOST,
    }
}

/// `struct rtmsg`, with the table in its one byte where it fits.
fn rtmsg(prefix: u8, table: u32, protocol: u8, scope: u8, kind: u8, flags: u32) -> [u8; RTMSG] {
    let table = u8::try_from(table).unwrap_or(libc::RT_TABLE_COMPAT);
    let mut head = [libc::AF_INET as u8, prefix, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0];
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head
}

fn message(kind: u16, flags: u16, route: &RouteSpec, protocol: u8) -> Message {
    let onlink = if route.onlink { ONLINK } else { 0 };
    let head =
        rtmsg(route.to.prefix_len(), route.table.0, protocol, scope_number(route.scope), route.kind.number(), onlink);
    Message::new(kind, flags)
        .fixed(&head)
        .maybe((route.to.prefix_len() > 0).then_some(route.to.network()), |m, to| m.ipv4(libc::RTA_DST, to))
        .maybe(route.via, |m, via| m.ipv4(libc::RTA_GATEWAY, via))
        .maybe(route.link, |m, link| m.u32(libc::RTA_OIF, link))
        .maybe(route.source, |m, source| m.ipv4(libc::RTA_PREFSRC, source))
        .maybe(route.metric.filter(|metric| *metric != 0), |m, metric| m.u32(libc::RTA_PRIORITY, metric))
        .u32(libc::RTA_TABLE, route.table.0)
}

/// Adds a route; `EEXIST` when the table has one to that destination with that metric.
#[must_use]
pub fn add(route: &RouteSpec) -> Request {
    let flags = flag(libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    Request::new("add route", route.to_string(), message(libc::RTM_NEWROUTE, flags, route, route.protocol))
}

/// Adds a route in place of the one to that destination with that metric, whoever put it there.
#[must_use]
pub fn replace(route: &RouteSpec) -> Request {
    let flags = flag(libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
    Request::new("replace route", route.to_string(), message(libc::RTM_NEWROUTE, flags, route, route.protocol))
}

/// Removes the route, whoever put it there; `ESRCH` when there is none.
#[must_use]
pub fn delete(route: &RouteSpec) -> Request {
    let any = libc::RTPROT_UNSPEC;
    Request::new("delete route", route.to_string(), message(libc::RTM_DELROUTE, 0, route, any))
}

pub(crate) struct Read {
    route: RouteSpec,
    flags: u32,
}

pub(crate) fn read(incoming: &Incoming<'_>) -> Option<Read> {
    let (head, attributes) = incoming.split(RTMSG)?;
    if incoming.kind != libc::RTM_NEWROUTE || i32::from(head[0]) != libc::AF_INET {
        return None;
    }
    let flags = u32_of(&head[8..12])?;
    let mut to = Ipv4Addr::UNSPECIFIED;
    let mut route = RouteSpec {
        table: RouteTable(u32::from(head[4])),
        to: Ipv4Net::default(),
        kind: RouteKind::of(head[7]),
        via: None,
        link: None,
        scope: scope_of(head[6]),
        source: None,
        onlink: flags & ONLINK != 0,
        metric: None,
        protocol: head[5],
    };
    for (kind, payload) in attributes {
        match kind {
            libc::RTA_DST => to = ipv4_of(payload)?,
            libc::RTA_TABLE => route.table = RouteTable(u32_of(payload)?),
            libc::RTA_GATEWAY => route.via = ipv4_of(payload),
            libc::RTA_OIF => route.link = u32_of(payload),
            libc::RTA_PREFSRC => route.source = ipv4_of(payload),
            libc::RTA_PRIORITY => route.metric = u32_of(payload).filter(|metric| *metric != 0),
            _ => {}
        }
    }
    route.to = Ipv4Net::new(to, head[1]).ok()?;
    Some(Read { route, flags })
}

fn scope_of(number: u8) -> RouteScope {
    match number {
        libc::RT_SCOPE_HOST | libc::RT_SCOPE_NOWHERE => RouteScope::Host,
        libc::RT_SCOPE_LINK => RouteScope::Link,
        _ => RouteScope::Universe,
    }
}

/// A packet whose way is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibQuery {
    /// Destination.
    pub to: Ipv4Addr,
    /// Source.
    pub from: Option<Ipv4Addr>,
    /// Index of the link it comes in by; `None`: it is sent by this host.
    pub iif: Option<u32>,
    /// Its mark.
    pub mark: Option<u32>,
}

/// The way of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibAnswer {
    /// Table the answer was found in.
    pub table: RouteTable,
    /// What becomes of it.
    pub kind: RouteKind,
    /// Index of the link it leaves by (`lo` for local ones).
    pub link: Option<u32>,
    /// Gateway.
    pub via: Option<Ipv4Addr>,
    /// Source the host would choose.
    pub source: Option<Ipv4Addr>,
}

fn ask(query: &FibQuery) -> Request {
    let mut head = rtmsg(32, 0, 0, 0, 0, LOOKUP_TABLE);
    head[2] = if query.from.is_some() { 32 } else { 0 };
    let message = Message::new(libc::RTM_GETROUTE, 0)
        .fixed(&head)
        .ipv4(libc::RTA_DST, query.to)
        .maybe(query.from, |m, from| m.ipv4(libc::RTA_SRC, from))
        .maybe(query.iif, |m, iif| m.u32(libc::RTA_IIF, iif))
        .maybe(query.mark, |m, mark| m.u32(libc::RTA_MARK, mark));
    Request::new("look up route to", query.to.to_string(), message)
}

impl Rtnl {
    /// Adds a route.
    ///
    /// # Errors
    /// `EEXIST` when there is one to that destination.
    pub fn add_route(&mut self, route: &RouteSpec) -> Result<(), NetlinkError> {
        self.one(add(route)).map(drop)
    }

    /// Adds a route in place of another to the same destination.
    ///
    /// # Errors
    /// `ENODEV`, `ENETUNREACH` (the gateway is not on the link) …
    pub fn replace_route(&mut self, route: &RouteSpec) -> Result<(), NetlinkError> {
        self.one(replace(route)).map(drop)
    }

    /// Removes a route.
    ///
    /// # Errors
    /// `ESRCH` when there is none.
    pub fn delete_route(&mut self, route: &RouteSpec) -> Result<(), NetlinkError> {
        self.one(delete(route)).map(drop)
    }

    /// IPv4 routes: of one table, or of all (table `local` too).
    ///
    /// # Errors
    /// `EAGAIN` when the list kept changing while it was read.
    pub fn routes(&mut self, table: Option<RouteTable>) -> Result<Vec<RouteSpec>, NetlinkError> {
        let head = rtmsg(0, 0, 0, 0, 0, 0);
        let message =
            Message::new(libc::RTM_GETROUTE, 0).fixed(&head).maybe(table, |m, table| m.u32(libc::RTA_TABLE, table.0));
        let each = |incoming: &Incoming<'_>| {
            let found = read(incoming)?;
            let wanted = table.is_none_or(|table| found.route.table == table);
            (wanted && found.flags & CLONED == 0).then_some(found.route)
        };
        match self.socket.dump("list", "routes", &message, each) {
            // A table nobody ever used.
            Err(error) if table.is_some() && error.is_absent() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Which way a packet would go: rules, tables and all.
    ///
    /// # Errors
    /// What the packet's sender would be told: `ENETUNREACH`, `EHOSTUNREACH`, `EACCES`; `EINVAL` for a blackhole or a source that can
    /// not come in by that link.
    pub fn look_up(&mut self, query: &FibQuery) -> Result<FibAnswer, NetlinkError> {
        let reply = self.one(ask(query))?;
        let found = reply.answer.and_then(|(kind, body)| read(&Incoming { kind, flags: 0, sequence: 0, body: &body }));
        let Read { route, .. } = found
            .ok_or_else(|| NetlinkError::new("look up route to", query.to.to_string(), nix::errno::Errno::EBADMSG))?;
        Ok(FibAnswer { table: route.table, kind: route.kind, link: route.link, via: route.via, source: route.source })
    }
}

/// Whether an `RTM_NEWROUTE` or `RTM_DELROUTE` is about an entry of an IPv4 table other than `local`.
pub(crate) fn is_entry(body: &[u8]) -> bool {
    let flags = body.get(8..12).and_then(u32_of).unwrap_or(0);
    let local = body.get(RTMSG..).is_some_and(|rest| {
        Attributes(rest).get(libc::RTA_TABLE).and_then(u32_of) == Some(u32::from(libc::RT_TABLE_LOCAL))
    });
    body.first().is_some_and(|family| i32::from(*family) == libc::AF_INET) && flags & CLONED == 0 && !local
}
