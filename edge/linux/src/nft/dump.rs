//! What stands in the kernel: tables, chains, rules with their counters, sets with their elements.

use super::batch::{Family, Table};
use super::constants::{SUBSYSTEM, chain, comment_of, data, msg, rule, set, table};
use super::{Nft, about};
use crate::netlink::NetlinkError;
use crate::netlink::parse::{Attributes, Incoming, be32_of, be64_of, text_of};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSeen {
    /// Which.
    pub table: Table,
    /// Its comment.
    pub comment: Option<String>,
    /// The kernel's number for it; another one after it was replaced.
    pub handle: u64,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSeen {
    /// Name.
    pub name: String,
    /// Type (`filter`, `nat`, `route`), hook number and priority of a base chain.
    pub base: Option<(String, u32, i32)>,
    /// A base chain that drops at its end.
    pub drops: bool,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSeen {
    /// Chain it stands in.
    pub chain: String,
    /// The kernel's number for it, for deleting it.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
    /// Packets and bytes of its first counter.
    pub counter: Option<(u64, u64)>,
    /// Names of its expressions, in order.
    pub expressions: Vec<String>,
}

/// A set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSeen {
    /// Name.
    pub name: String,
    /// It has data.
    pub is_map: bool,
    /// Its keys are intervals.
    pub intervals: bool,
    /// Bytes of a key.
    pub key_length: u32,
}

/// An element of a set or map, in the bytes of the registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementSeen {
    /// Key (the lowest of an interval).
    pub key: Vec<u8>,
    /// Highest key of an interval, in concatenations.
    pub key_end: Option<Vec<u8>>,
    /// Not a member: the first key behind an interval that began before it.
    pub ends_interval: bool,
    /// Data of a map's element.
    pub value: Option<Vec<u8>>,
    /// Chain a verdict map's element leads to.
    pub chain: Option<String>,
    /// Packets and bytes of its counter.
    pub counter: Option<(u64, u64)>,
}

/// Everything there is to read in a message, thrown away: for tests with rubbish.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_any(incoming: &Incoming<'_>) {
    let _ = (read_table(incoming), read_chain(incoming, "t"), read_rule(incoming, "t"), read_set(incoming, "t"));
    let _ = read_elements(incoming);
}

/// The attributes of an nf_tables message of that kind.
fn open<'a>(incoming: &Incoming<'a>, kind: u16) -> Option<(u8, Attributes<'a>)> {
    let (head, attributes) = incoming.split(4)?;
    (incoming.kind == SUBSYSTEM << 8 | kind).then_some((head[0], attributes))
}

fn read_table(incoming: &Incoming<'_>) -> Option<TableSeen> {
    let (family, attributes) = open(incoming, msg::NEWTABLE)?;
    Some(TableSeen {
        table: Table { family: Family::of(family)?, name: text_of(attributes.get(table::NAME)?) },
        comment: attributes.get(table::USERDATA).and_then(comment_of),
        handle: attributes.get(table::HANDLE).and_then(be64_of).unwrap_or(0),
    })
}

fn read_chain(incoming: &Incoming<'_>, wanted: &str) -> Option<ChainSeen> {
    let (_, attributes) = open(incoming, msg::NEWCHAIN)?;
    if text_of(attributes.get(chain::TABLE)?) != wanted {
        return None;
    }
    let hook = attributes.inside(chain::HOOK);
    let base = attributes.get(chain::TYPE).map(text_of).and_then(|kind| {
        let priority = hook.get(chain::HOOK_PRIORITY).and_then(be32_of)?.cast_signed();
        Some((kind, hook.get(chain::HOOK_NUMBER).and_then(be32_of)?, priority))
    });
    Some(ChainSeen {
        name: text_of(attributes.get(chain::NAME)?),
        drops: base.is_some() && attributes.get(chain::POLICY).and_then(be32_of) == Some(0),
        base,
    })
}

fn read_rule(incoming: &Incoming<'_>, wanted: &str) -> Option<RuleSeen> {
    let (_, attributes) = open(incoming, msg::NEWRULE)?;
    if text_of(attributes.get(rule::TABLE)?) != wanted {
        return None;
    }
    let mut seen = RuleSeen {
        chain: text_of(attributes.get(rule::CHAIN)?),
        handle: attributes.get(rule::HANDLE).and_then(be64_of)?,
        comment: attributes.get(rule::USERDATA).and_then(comment_of),
        counter: None,
        expressions: Vec::new(),
    };
    for (_, expression) in attributes.inside(rule::EXPRESSIONS) {
        let expression = Attributes(expression);
        let name = text_of(expression.get(rule::EXPR_NAME).unwrap_or_default());
        if name == "counter" && seen.counter.is_none() {
            seen.counter = read_counter(expression);
        }
        seen.expressions.push(name);
    }
    Some(seen)
}

/// Packets and bytes of an expression that is a counter.
fn read_counter(expression: Attributes<'_>) -> Option<(u64, u64)> {
    let values = expression.inside(rule::EXPR_DATA);
    values.get(2).and_then(be64_of).zip(values.get(1).and_then(be64_of))
}

fn read_set(incoming: &Incoming<'_>, wanted: &str) -> Option<SetSeen> {
    let (_, attributes) = open(incoming, msg::NEWSET)?;
    if text_of(attributes.get(set::TABLE)?) != wanted {
        return None;
    }
    let flags = attributes.get(set::FLAGS).and_then(be32_of).unwrap_or(0);
    Some(SetSeen {
        name: text_of(attributes.get(set::NAME)?),
        is_map: flags & set::FLAG_MAP != 0,
        intervals: flags & set::FLAG_INTERVAL != 0,
        key_length: attributes.get(set::KEY_LEN).and_then(be32_of).unwrap_or(0),
    })
}

fn read_elements(incoming: &Incoming<'_>) -> Option<Vec<ElementSeen>> {
    let (_, attributes) = open(incoming, msg::NEWSETELEM)?;
    let elements = attributes.inside(set::LIST_ELEMENTS);
    Some(elements.filter_map(|(_, element)| read_element(Attributes(element))).collect())
}

fn read_element(element: Attributes<'_>) -> Option<ElementSeen> {
    let value = |kind: u16| element.inside(kind).get(data::VALUE).map(<[u8]>::to_vec);
    let flags = element.get(set::ELEM_FLAGS).and_then(be32_of).unwrap_or(0);
    let verdict = element.inside(set::ELEM_DATA).inside(data::VERDICT);
    Some(ElementSeen {
        key: value(set::ELEM_KEY)?,
        key_end: value(set::ELEM_KEY_END),
        ends_interval: flags & set::ELEM_INTERVAL_END != 0,
        value: value(set::ELEM_DATA),
        chain: verdict.get(data::VERDICT_CHAIN).map(text_of),
        counter: element.get(set::ELEM_EXPR).and_then(|counter| read_counter(Attributes(counter))),
    })
}

impl Nft {
    /// All tables of a family.
    ///
    /// # Errors
    /// `EAGAIN` when they kept changing while they were read (so for all of these).
    pub fn tables(&mut self, family: Family) -> Result<Vec<TableSeen>, NetlinkError> {
        self.socket.dump("list", "nf_tables tables", &about(msg::GETTABLE, 0, family.number()), read_table)
    }

    /// One table, if it is there.
    ///
    /// # Errors
    /// Whatever is not "no such table".
    pub fn table(&mut self, which: &Table) -> Result<Option<TableSeen>, NetlinkError> {
        Ok(self.tables(which.family)?.into_iter().find(|seen| seen.table == *which))
    }

    /// The chains of a table.
    ///
    /// # Errors
    /// See [`Nft::tables`].
    pub fn chains(&mut self, which: &Table) -> Result<Vec<ChainSeen>, NetlinkError> {
        let message = about(msg::GETCHAIN, 0, which.family.number());
        self.socket.dump("list", "nf_tables chains", &message, |m| read_chain(m, &which.name))
    }

    /// The rules of a table, in order within each chain.
    ///
    /// # Errors
    /// See [`Nft::tables`].
    pub fn rules(&mut self, which: &Table) -> Result<Vec<RuleSeen>, NetlinkError> {
        let message = about(msg::GETRULE, 0, which.family.number()).text(rule::TABLE, &which.name);
        self.socket.dump("list", "nf_tables rules", &message, |m| read_rule(m, &which.name))
    }

    /// The sets and maps of a table.
    ///
    /// # Errors
    /// See [`Nft::tables`]; `ENOENT` when there is no such table.
    pub fn sets(&mut self, which: &Table) -> Result<Vec<SetSeen>, NetlinkError> {
        let message = about(msg::GETSET, 0, which.family.number()).text(set::TABLE, &which.name);
        self.socket.dump("list", "nf_tables sets", &message, |m| read_set(m, &which.name))
    }

    /// The elements of a set or map, ends of intervals included.
    ///
    /// # Errors
    /// `ENOENT` when there is no such set.
    pub fn elements(&mut self, which: &Table, name: &str) -> Result<Vec<ElementSeen>, NetlinkError> {
        let message = about(msg::GETSETELEM, 0, which.family.number())
            .text(set::LIST_TABLE, &which.name)
            .text(set::LIST_SET, name);
        let object = format!("elements of {name} in {which}");
        Ok(self.socket.dump("list", &object, &message, read_elements)?.into_iter().flatten().collect())
    }
}
