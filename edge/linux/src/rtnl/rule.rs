//! IPv4 routing rules: which packets look up which table.

use std::fmt;

use ipnet::Ipv4Net;
use nix::errno::Errno;
use vpc_hostnet::Mark;
use vpc_model::{LinkName, RouteTable};

use super::Rtnl;
use crate::PROTOCOL;
use crate::netlink::encode::{Message, flag};
use crate::netlink::parse::{Incoming, ipv4_of, text_of, u32_of};
use crate::netlink::{NetlinkError, Request};

/// Bytes of `struct fib_rule_hdr`.
const RULE: usize = 12;
/// The rule is for packets that do *not* match (`FIB_RULE_INVERT`).
const INVERT: u32 = 2;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_BLACKHOLE: u8 = 6;
const FR_ACT_UNREACHABLE: u8 = 7;
const FR_ACT_PROHIBIT: u8 = 8;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_PROTOCOL: u16 = 21;
/// Selectors that [`RuleSpec`] does not speak of: goto, flow, tunnel id, suppressed groups, l3mdev, uid range.
const UNSPOKEN: [u16; 6] = [4, 11, 12, 13, 19, 20];
/// IP protocol, ports, DSCP and all that newer kernels may add.
const UNSPOKEN_FROM: u16 = 22;
/// A rule is removed until there are no more copies of it, but not for ever.
pub(crate) const MOST_COPIES: usize = 1000;

/// What a rule does with the packets it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAction {
    /// Looks up a table; goes on to the next rule if that has no route.
    Lookup(RouteTable),
    /// Drops silently.
    Blackhole,
    /// Drops; the sender is told "unreachable".
    Unreachable,
    /// Drops; the sender is told "prohibited".
    Prohibit,
    /// Something else, by the kernel's number.
    Other(u8),
}

impl RuleAction {
    fn number(self) -> u8 {
        match self {
            Self::Lookup(_) => FR_ACT_TO_TBL,
            Self::Blackhole => FR_ACT_BLACKHOLE,
            Self::Unreachable => FR_ACT_UNREACHABLE,
            Self::Prohibit => FR_ACT_PROHIBIT,
            Self::Other(number) => number,
        }
    }
}

/// An IPv4 routing rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleSpec {
    /// Preference: the lowest is asked first.
    pub priority: u32,
    /// Only packets from here.
    pub from: Option<Ipv4Net>,
    /// Only packets to here.
    pub to: Option<Ipv4Net>,
    /// Only packets with this mark.
    pub mark: Option<Mark>,
    /// Only packets that came in by this link (`lo`: sent by this host).
    pub iif: Option<LinkName>,
    /// Only packets of sockets bound to this link.
    pub oif: Option<LinkName>,
    /// What is done.
    pub action: RuleAction,
    /// Who put it there; [`PROTOCOL`] for ours.
    pub protocol: u8,
    /// It has selectors that are not spoken of here (reading only; such a rule can not be added or removed through this type).
    pub has_more: bool,
}

impl RuleSpec {
    /// A rule of ours for all packets; narrow it by setting fields.
    #[must_use]
    pub fn lookup(priority: u32, table: RouteTable) -> Self {
        Self {
            priority,
            from: None,
            to: None,
            mark: None,
            iif: None,
            oif: None,
            action: RuleAction::Lookup(table),
            protocol: PROTOCOL,
            has_more: false,
        }
    }
}

impl From<&vpc_hostnet::Rule> for RuleSpec {
    fn from(rule: &vpc_hostnet::Rule) -> Self {
        Self {
            from: rule.from,
            to: rule.to,
            mark: rule.mark,
            iif: rule.iif.clone(),
            ..Self::lookup(rule.priority, rule.table)
        }
    }
}

impl fmt::Display for RuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.priority)?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(mark) = self.mark {
            write!(f, " fwmark {:#x}/{:#x}", mark.value, mark.mask)?;
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        match self.action {
            RuleAction::Lookup(table) => write!(f, " lookup {table}"),
            other => write!(f, " {other:?}"),
        }
    }
}

fn message(kind: u16, flags: u16, rule: &RuleSpec, tag: Option<u8>) -> Message {
    let length = |net: Option<Ipv4Net>| net.map_or(0, |net| net.prefix_len());
    let table = match rule.action {
        RuleAction::Lookup(table) => table.0,
        _ => 0,
    };
    let short = u8::try_from(table).unwrap_or(libc::RT_TABLE_COMPAT);
    let family = libc::AF_INET as u8;
    let head = [family, length(rule.to), length(rule.from), 0, short, 0, 0, rule.action.number(), 0, 0, 0, 0];
    Message::new(kind, flags)
        .fixed(&head)
        .maybe(rule.to.filter(|net| net.prefix_len() > 0), |m, net| m.ipv4(FRA_DST, net.network()))
        .maybe(rule.from.filter(|net| net.prefix_len() > 0), |m, net| m.ipv4(FRA_SRC, net.network()))
        .maybe(rule.iif.as_ref(), |m, iif| m.text(FRA_IIFNAME, iif.as_str()))
        .maybe(rule.oif.as_ref(), |m, oif| m.text(FRA_OIFNAME, oif.as_str()))
        .maybe(rule.mark, |m, mark| m.u32(FRA_FWMARK, mark.value).u32(FRA_FWMASK, mark.mask))
        .u32(FRA_PRIORITY, rule.priority)
        .u32(FRA_TABLE, table)
        .maybe(tag, |m, tag| m.bytes(FRA_PROTOCOL, &[tag]))
}

/// Adds a rule; `EEXIST` when the same one is there.
#[must_use]
pub fn add(rule: &RuleSpec) -> Request {
    let flags = flag(libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    Request::new("add rule", rule.to_string(), message(libc::RTM_NEWRULE, flags, rule, Some(rule.protocol)))
}

/// Removes one copy of the rule, whoever put it there; `ENOENT` when there is none.
#[must_use]
pub fn delete(rule: &RuleSpec) -> Request {
    Request::new("delete rule", rule.to_string(), message(libc::RTM_DELRULE, 0, rule, None))
}

pub(crate) fn read(incoming: &Incoming<'_>) -> Option<RuleSpec> {
    let (head, attributes) = incoming.split(RULE)?;
    if incoming.kind != libc::RTM_NEWRULE || i32::from(head[0]) != libc::AF_INET {
        return None;
    }
    let inverted = u32_of(&head[8..12])? & INVERT != 0;
    let (mut mark, mut mask, mut table) = (None, None, u32::from(head[4]));
    let mut rule = RuleSpec { protocol: 0, ..RuleSpec::lookup(0, RouteTable(0)) };
    // A type of service (head[3]) is one more selector.
    rule.has_more = inverted || head[3] != 0;
    for (kind, payload) in attributes {
        match kind {
            FRA_DST => rule.to = Ipv4Net::new(ipv4_of(payload)?, head[1]).ok(),
            FRA_SRC => rule.from = Ipv4Net::new(ipv4_of(payload)?, head[2]).ok(),
            FRA_IIFNAME => rule.iif = text_of(payload).parse().ok(),
            FRA_OIFNAME => rule.oif = text_of(payload).parse().ok(),
            FRA_PRIORITY => rule.priority = u32_of(payload)?,
            FRA_FWMARK => mark = u32_of(payload),
            FRA_FWMASK => mask = u32_of(payload),
            FRA_TABLE => table = u32_of(payload)?,
            FRA_PROTOCOL => rule.protocol = *payload.first()?,
            // The kernel always tells it; all ones means that nothing is suppressed.
            FRA_SUPPRESS_PREFIXLEN => rule.has_more |= u32_of(payload) != Some(u32::MAX),
            other => rule.has_more |= other >= UNSPOKEN_FROM || UNSPOKEN.contains(&other),
        }
    }
    if mark.is_some() || mask.is_some_and(|mask| mask != 0) {
        rule.mark = Some(Mark { value: mark.unwrap_or(0), mask: mask.unwrap_or(u32::MAX) });
    }
    rule.action = match head[7] {
        FR_ACT_TO_TBL => RuleAction::Lookup(RouteTable(table)),
        FR_ACT_BLACKHOLE => RuleAction::Blackhole,
        FR_ACT_UNREACHABLE => RuleAction::Unreachable,
        FR_ACT_PROHIBIT => RuleAction::Prohibit,
        other => RuleAction::Other(other),
    };
    Some(rule)
}

impl Rtnl {
    /// Adds a rule unless the same one is there.
    ///
    /// # Errors
    /// `EINVAL` for a rule the kernel does not take.
    pub fn add_rule(&mut self, rule: &RuleSpec) -> Result<(), NetlinkError> {
        self.run(vec![add(rule).tolerating(&[Errno::EEXIST])])
    }

    /// Removes every copy of a rule; gives how many there were (earlier versions left several).
    ///
    /// # Errors
    /// Whatever is not "no such rule".
    pub fn delete_rule(&mut self, rule: &RuleSpec) -> Result<usize, NetlinkError> {
        for removed in 0..MOST_COPIES {
            match self.one(delete(rule)) {
                Ok(_) => {}
                Err(error) if error.is_absent() => return Ok(removed),
                Err(error) => return Err(error),
            }
        }
        Ok(MOST_COPIES)
    }

    /// All IPv4 rules, the kernel's own too, in the order they are asked.
    ///
    /// # Errors
    /// `EAGAIN` when the list kept changing while it was read.
    pub fn rules(&mut self) -> Result<Vec<RuleSpec>, NetlinkError> {
        let head = [libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        self.socket.dump("list", "rules", &Message::new(libc::RTM_GETRULE, 0).fixed(&head), read)
    }
}
