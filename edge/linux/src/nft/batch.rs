//! A transaction under construction: tables, chains, sets, elements, rules, in the order they are to be carried out.

use std::fmt;

use super::about;
use super::constants::{chain, comment, msg, rule, table};
use super::meter::Meter;
use super::rule::Rule;
use super::set::{Element, Set};
use crate::netlink::Request;
use crate::netlink::encode::flag;

/// Protocol family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// ARP.
    Arp,
    /// One link, before everything else (ingress).
    Netdev,
    /// Bridges.
    Bridge,
    /// IPv6.
    Ip6,
}

impl Family {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Netdev => 5,
            Self::Bridge => 7,
            Self::Ip6 => 10,
        }
    }

    pub(super) fn of(number: u8) -> Option<Self> {
        [Self::Inet, Self::Ip, Self::Arp, Self::Netdev, Self::Bridge, Self::Ip6]
            .into_iter()
            .find(|f| f.number() == number)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Arp => "arp",
            Self::Netdev => "netdev",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        }
    }
}

/// A table, by family and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Family.
    pub family: Family,
    /// Name, unique in its family.
    pub name: String,
}

impl Table {
    /// Names a table.
    #[must_use]
    pub fn new(family: Family, name: &str) -> Self {
        Self { family, name: name.to_owned() }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} {}", self.family.name(), self.name)
    }
}

/// Which packets a base chain sees, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// All packets.
    Filter,
    /// The first packet of each connection, whose addresses it may translate.
    Nat,
    /// Packets sent by this host; they are routed anew when it changes them.
    Route,
}

impl ChainKind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }
}

/// Where on a packet's way a base chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// For this host. In family `arp`: ARP that came in.
    Input,
    /// For another host.
    Forward,
    /// From this host. In family `arp`: ARP that goes out.
    Output,
    /// After routing.
    Postrouting,
    /// As soon as it came in by a link (family `netdev`).
    Ingress,
}

impl Hook {
    fn number(self, family: Family) -> u32 {
        match (family, self) {
            (Family::Arp, Self::Input) | (Family::Netdev, _) | (_, Self::Prerouting) => 0,
            (Family::Arp, Self::Output) | (_, Self::Input) => 1,
            (_, Self::Forward) => 2,
            (_, Self::Output) => 3,
            (_, Self::Postrouting) => 4,
            (_, Self::Ingress) => 5,
        }
    }
}

/// Well-known priorities: chains of a hook are called from the lowest to the highest (`enum nf_ip_hook_priorities`).
pub mod priority {
    /// Before connection tracking.
    pub const RAW: i32 = -300;
    /// Marks, before destination NAT.
    pub const MANGLE: i32 = -150;
    /// Destination NAT (prerouting).
    pub const DSTNAT: i32 = -100;
    /// Filtering.
    pub const FILTER: i32 = 0;
    /// Source NAT (postrouting).
    pub const SRCNAT: i32 = 100;
}

/// What becomes of a packet at the end of a base chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Policy {
    #[default]
    Accept,
    Drop,
}

/// What makes a chain a base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// Kind.
    pub kind: ChainKind,
    /// Where.
    pub hook: Hook,
    /// In which order; see [`priority`].
    pub priority: i32,
    /// At its end.
    pub policy: Policy,
    /// The link, in family `netdev`.
    pub device: Option<String>,
}

impl BaseChain {
    /// A base chain that accepts at its end.
    #[must_use]
    pub fn new(kind: ChainKind, hook: Hook, priority: i32) -> Self {
        Self { kind, hook, priority, policy: Policy::Accept, device: None }
    }

    /// The same, but it drops at its end.
    #[must_use]
    pub fn dropping(self) -> Self {
        Self { policy: Policy::Drop, ..self }
    }
}

/// A chain of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Name, unique in its table.
    pub name: String,
    /// `None`: a chain that is only jumped to.
    pub base: Option<BaseChain>,
}

impl Chain {
    /// A chain that is only jumped to.
    #[must_use]
    pub fn regular(name: &str) -> Self {
        Self { name: name.to_owned(), base: None }
    }

    /// A chain the kernel calls.
    #[must_use]
    pub fn base(name: &str, base: BaseChain) -> Self {
        Self { name: name.to_owned(), base: Some(base) }
    }
}

/// Changes that become one transaction ([`super::Nft::commit`]).
#[derive(Clone, Debug, Default)]
pub struct Batch {
    requests: Vec<Request>,
    sets: u32,
}

impl Batch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn into_requests(self) -> Vec<Request> {
        self.requests
    }

    fn push(&mut self, operation: &'static str, object: String, message: crate::netlink::encode::Message) -> &mut Self {
        self.requests.push(Request::new(operation, object, message));
        self
    }

    /// Creates the table, or leaves the one that is there.
    pub fn add_table(&mut self, which: &Table) -> &mut Self {
        self.add_table_with(which, None)
    }

    /// Creates the table with a comment (at most 127 bytes, the rest is cut). One that is there keeps its own.
    pub fn add_table_with(&mut self, which: &Table, text: Option<&str>) -> &mut Self {
        let message = about(msg::NEWTABLE, flag(libc::NLM_F_CREATE), which.family.number())
            .text(table::NAME, &which.name)
            .maybe(text, |m, text| m.bytes(table::USERDATA, &comment(text)));
        self.push("create", which.to_string(), message)
    }

    /// Deletes the table with all that is in it; `ENOENT` when it is not there.
    pub fn delete_table(&mut self, which: &Table) -> &mut Self {
        let message = about(msg::DELTABLE, 0, which.family.number()).text(table::NAME, &which.name);
        self.push("delete", which.to_string(), message)
    }

    /// Deletes the table with all that is in it, if it is there.
    pub fn remove_table(&mut self, which: &Table) -> &mut Self {
        // Creating it first is how a transaction says "if it is there" on every kernel.
        self.add_table(which).delete_table(which)
    }

    /// An empty table of that name, whatever was there. Packets see the old one until the transaction is done, then the new one.
    pub fn replace_table(&mut self, which: &Table, text: Option<&str>) -> &mut Self {
        self.remove_table(which).add_table_with(which, text)
    }

    /// Creates a chain, or leaves the one that is there.
    pub fn add_chain(&mut self, which: &Table, new: &Chain) -> &mut Self {
        let message = about(msg::NEWCHAIN, flag(libc::NLM_F_CREATE), which.family.number())
            .text(chain::TABLE, &which.name)
            .text(chain::NAME, &new.name)
            .maybe(new.base.as_ref(), |m, base| {
                m.text(chain::TYPE, base.kind.name())
                    .be32(chain::POLICY, u32::from(base.policy == Policy::Accept))
                    .nest(chain::HOOK, |m| {
                        m.be32(chain::HOOK_NUMBER, base.hook.number(which.family))
                            .bytes(chain::HOOK_PRIORITY, &base.priority.to_be_bytes())
                            .maybe(base.device.as_ref(), |m, device| m.text(chain::HOOK_DEVICE, device))
                    })
            });
        self.push("create chain", format!("{} in {which}", new.name), message)
    }

    /// Deletes a chain; `EBUSY` while a rule leads there or it has rules.
    pub fn delete_chain(&mut self, which: &Table, name: &str) -> &mut Self {
        let message =
            about(msg::DELCHAIN, 0, which.family.number()).text(chain::TABLE, &which.name).text(chain::NAME, name);
        self.push("delete chain", format!("{name} in {which}"), message)
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, which: &Table, name: &str) -> &mut Self {
        let message =
            about(msg::DELRULE, 0, which.family.number()).text(rule::TABLE, &which.name).text(rule::CHAIN, name);
        self.push("flush chain", format!("{name} in {which}"), message)
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, which: &Table, chain: &str, new: &Rule) -> &mut Self {
        self.rule(which, chain, new, libc::NLM_F_APPEND)
    }

    /// Adds a rule at the beginning of a chain.
    pub fn insert_rule(&mut self, which: &Table, chain: &str, new: &Rule) -> &mut Self {
        self.rule(which, chain, new, 0)
    }

    fn rule(&mut self, which: &Table, chain: &str, new: &Rule, place: libc::c_int) -> &mut Self {
        let message = about(msg::NEWRULE, flag(libc::NLM_F_CREATE | place), which.family.number())
            .text(rule::TABLE, &which.name)
            .text(rule::CHAIN, chain)
            .nest(rule::EXPRESSIONS, |m| new.expressions().iter().fold(m, |m, expr| expr.put(m)))
            .maybe(new.comment_text(), |m, text| m.bytes(rule::USERDATA, &comment(text)));
        self.push("add rule to chain", format!("{chain} in {which}"), message)
    }

    /// Deletes a rule by the handle the kernel gave it ([`super::RuleSeen::handle`]).
    pub fn delete_rule(&mut self, which: &Table, chain: &str, handle: u64) -> &mut Self {
        let message = about(msg::DELRULE, 0, which.family.number())
            .text(rule::TABLE, &which.name)
            .text(rule::CHAIN, chain)
            .bytes(rule::HANDLE, &handle.to_be_bytes());
        self.push("delete rule of chain", format!("{chain} in {which}"), message)
    }

    /// Creates a set or map, or leaves the one that is there.
    pub fn add_set(&mut self, which: &Table, new: &Set) -> &mut Self {
        self.sets += 1;
        self.requests.push(new.add(which, self.sets));
        self
    }

    /// Creates a meter, or leaves the one that is there.
    pub fn add_meter(&mut self, which: &Table, new: &Meter) -> &mut Self {
        self.sets += 1;
        self.requests.push(new.add(which, self.sets));
        self
    }

    /// Deletes a set or map; `EBUSY` while a rule uses it.
    pub fn delete_set(&mut self, which: &Table, name: &str) -> &mut Self {
        let message = about(msg::DELSET, 0, which.family.number())
            .text(super::constants::set::TABLE, &which.name)
            .text(super::constants::set::NAME, name);
        self.push("delete set", format!("{name} in {which}"), message)
    }

    /// Adds elements; those that are there already (with the same data) are fine.
    pub fn add_elements(&mut self, which: &Table, to: &Set, elements: &[Element]) -> &mut Self {
        self.requests.extend(to.elements(msg::NEWSETELEM, which, elements));
        self
    }

    /// Deletes elements; `ENOENT` when one is not there.
    pub fn delete_elements(&mut self, which: &Table, of: &Set, elements: &[Element]) -> &mut Self {
        self.requests.extend(of.elements(msg::DELSETELEM, which, elements));
        self
    }

    /// Deletes all elements of a set or map.
    pub fn flush_set(&mut self, which: &Table, name: &str) -> &mut Self {
        let message = about(msg::DELSETELEM, 0, which.family.number())
            .text(super::constants::set::LIST_TABLE, &which.name)
            .text(super::constants::set::LIST_SET, name);
        self.push("flush set", format!("{name} in {which}"), message)
    }
}
