//! Sets and maps: keys of one or several fields, exact or as intervals, with data or verdicts behind them.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_model::Mac;

use super::about;
use super::batch::Table;
use super::constants::{LIST_ELEM, msg, set};
use super::expr::{Verdict, put_counter, put_verdict, value_in};
use crate::netlink::Request;
use crate::netlink::encode::{Message, aligned, flag};

/// Elements in one message: its list is one attribute, which holds at most 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 400;

/// What a field of a key (or a map's data) is, for its length and so that `nft list` prints it well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// IPv4 address.
    Ipv4Addr,
    /// Hardware address.
    EtherAddr,
    /// Index of a link.
    IfIndex,
    /// Name of a link.
    IfName,
    /// Mark.
    Mark,
    /// TCP or UDP port.
    Port,
    /// Layer 4 protocol.
    Protocol,
    /// Time to live.
    Ttl,
    /// Zone of connection tracking.
    CtZone,
}

impl KeyType {
    /// Bytes of a value.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Ipv4Addr | Self::IfIndex | Self::Mark => 4,
            Self::EtherAddr => 6,
            Self::IfName => 16,
            Self::Port | Self::CtZone => 2,
            Self::Protocol | Self::Ttl => 1,
        }
    }

    /// The number the `nft` program gives the type (`TYPE_*` of its datatype.h). The kernel only stores it.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Ipv4Addr => 7,
            Self::EtherAddr => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
            Self::IfIndex => 20,
            Self::IfName => 41,
            // A plain number; `nft` knows of no type of their own.
            Self::Ttl | Self::CtZone => 4,
        }
    }

    /// Numbers of the machine's own byte order, as the `nft` program must know to print them.
    fn host_order(self) -> bool {
        matches!(self, Self::IfIndex | Self::Mark | Self::IfName | Self::CtZone)
    }
}

/// A value of a [`KeyType`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Value {
    Ipv4(Ipv4Addr),
    Mac(Mac),
    IfIndex(u32),
    IfName(String),
    Mark(u32),
    Port(u16),
    Protocol(u8),
    Ttl(u8),
    Zone(u16),
}

impl Value {
    /// The value as it stands in a register.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Ipv4(address) => address.octets().to_vec(),
            Self::Mac(mac) => mac.0.to_vec(),
            Self::IfIndex(number) | Self::Mark(number) => number.to_ne_bytes().to_vec(),
            Self::IfName(name) => {
                let mut bytes = name.as_bytes().to_vec();
                bytes.resize(16, 0);
                bytes
            }
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::Protocol(number) | Self::Ttl(number) => vec![*number],
            Self::Zone(zone) => zone.to_ne_bytes().to_vec(),
        }
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Self {
        Self::Ipv4(address)
    }
}

impl From<Mac> for Value {
    fn from(mac: Mac) -> Self {
        Self::Mac(mac)
    }
}

/// One field of an element's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// This value.
    Is(Value),
    /// Any address of the network (interval sets).
    Net(Ipv4Net),
    /// Any value between the two, both included (interval sets).
    Range(Value, Value),
}

impl KeyPart {
    /// Lowest and highest value, as bytes.
    fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Is(value) => (value.bytes(), value.bytes()),
            Self::Net(net) => (net.network().octets().to_vec(), net.broadcast().octets().to_vec()),
            Self::Range(low, high) => (low.bytes(), high.bytes()),
        }
    }
}

impl<V: Into<Value>> From<V> for KeyPart {
    fn from(value: V) -> Self {
        Self::Is(value.into())
    }
}

impl From<Ipv4Net> for KeyPart {
    fn from(net: Ipv4Net) -> Self {
        Self::Net(net)
    }
}

/// What stands behind the key of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A value.
    Value(Value),
    /// A verdict.
    Verdict(Verdict),
}

/// What kind of data a map has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// Values of a type.
    Value(KeyType),
    /// Verdicts.
    Verdict,
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// One part for each field.
    pub key: Vec<KeyPart>,
    /// Only in maps.
    pub data: Option<Data>,
}

impl Element {
    /// An element of a set.
    #[must_use]
    pub fn new(key: impl IntoIterator<Item = KeyPart>) -> Self {
        Self { key: key.into_iter().collect(), data: None }
    }

    /// The same key with data behind it.
    #[must_use]
    pub fn to(self, data: Data) -> Self {
        Self { data: Some(data), ..self }
    }
}

/// A set (or, with [`Set::data`], a map).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Name, unique in its table.
    pub name: String,
    /// Fields of the key.
    pub key: Vec<KeyType>,
    /// Keys may be networks and ranges.
    pub intervals: bool,
    /// What is behind a key.
    pub data: Option<DataKind>,
    /// Each element counts the packets that were looked up and found there.
    pub counting: bool,
}

impl Set {
    /// A set of exact keys.
    #[must_use]
    pub fn of(name: &str, key: &[KeyType]) -> Self {
        Self { name: name.to_owned(), key: key.to_vec(), intervals: false, data: None, counting: false }
    }

    /// The same with keys that are networks and ranges.
    #[must_use]
    pub fn with_intervals(self) -> Self {
        Self { intervals: true, ..self }
    }

    /// The same as a map.
    #[must_use]
    pub fn to(self, data: DataKind) -> Self {
        Self { data: Some(data), ..self }
    }

    /// The same with a counter at each element ([`super::ElementSeen::counter`]). Linux 5.7.
    #[must_use]
    pub fn counting(self) -> Self {
        Self { counting: true, ..self }
    }

    fn concatenated(&self) -> bool {
        self.key.len() > 1
    }

    /// Each field of a concatenation begins at a word.
    fn key_length(&self) -> usize {
        match self.key[..] {
            [only] => only.length(),
            _ => self.key.iter().map(|field| aligned(field.length())).sum(),
        }
    }

    /// `nft` packs the numbers of a concatenation's types, six bits each.
    fn type_number(&self) -> u32 {
        self.key.iter().fold(0, |number, field| number << 6 | field.number())
    }

    fn flags(&self) -> u32 {
        let concat = if self.intervals && self.concatenated() { set::FLAG_CONCAT } else { 0 };
        let intervals = if self.intervals { set::FLAG_INTERVAL } else { 0 };
        let map = if self.data.is_some() { set::FLAG_MAP } else { 0 };
        concat | intervals | map
    }

    pub(super) fn add(&self, table: &Table, id: u32) -> Request {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(0);
        let message = about(msg::NEWSET, flag(libc::NLM_F_CREATE), table.family.number())
            .text(set::TABLE, &table.name)
            .text(set::NAME, &self.name)
            .be32(set::FLAGS, self.flags())
            .be32(set::KEY_TYPE, self.type_number())
            .be32(set::KEY_LEN, length(self.key_length()))
            .be32(set::ID, id)
            .maybe(self.data, |m, data| match data {
                DataKind::Value(kind) => {
                    m.be32(set::DATA_TYPE, kind.number()).be32(set::DATA_LEN, length(kind.length()))
                }
                DataKind::Verdict => m.be32(set::DATA_TYPE, set::DATA_VERDICT).be32(set::DATA_LEN, 0),
            })
            .maybe((self.intervals && self.concatenated()).then_some(&self.key), |m, fields| {
                m.nest(set::DESC, |m| {
                    m.nest(set::DESC_CONCAT, |m| {
                        fields
                            .iter()
                            .fold(m, |m, field| m.nest(LIST_ELEM, |m| m.be32(set::FIELD_LEN, length(field.length()))))
                    })
                })
            })
            .bytes(set::USERDATA, &self.userdata())
            .maybe(self.counting.then_some(()), |m, ()| m.nest(set::EXPR, put_counter));
        Request::new("create set", format!("{} in {table}", self.name), message)
    }

    /// For `nft list` only: the byte order of key (0) and data (1); 1 = the machine's, 2 = network order.
    fn userdata(&self) -> Vec<u8> {
        let order = |kind: Option<KeyType>| if kind.is_some_and(KeyType::host_order) { 1_u32 } else { 2 };
        let mut bytes = vec![0, 4];
        bytes.extend(order(self.key.first().copied().filter(|_| !self.concatenated())).to_ne_bytes());
        if let Some(DataKind::Value(kind)) = self.data {
            bytes.extend([1, 4]);
            bytes.extend(order(Some(kind)).to_ne_bytes());
        }
        bytes
    }

    pub(super) fn elements(&self, kind: u16, table: &Table, elements: &[Element]) -> Vec<Request> {
        let adding = kind == msg::NEWSETELEM;
        let (operation, flags) =
            if adding { ("add elements to set", libc::NLM_F_CREATE) } else { ("delete elements of set", 0) };
        let message = |chunk: &[Element]| {
            about(kind, flag(flags), table.family.number())
                .text(set::LIST_TABLE, &table.name)
                .text(set::LIST_SET, &self.name)
                .nest(set::LIST_ELEMENTS, |m| chunk.iter().fold(m, |m, element| self.put(m, element)))
        };
        let object = format!("{} in {table}", self.name);
        let chunks = elements.chunks(ELEMENTS_PER_MESSAGE);
        chunks.map(|chunk| Request::new(operation, object.clone(), message(chunk))).collect()
    }

    fn put(&self, m: Message, element: &Element) -> Message {
        let (low, high) = self.bounds(element);
        let whole = |m: Message, high: Option<&[u8]>| {
            m.nest(LIST_ELEM, |m| {
                value_in(m, set::ELEM_KEY, &low)
                    .maybe(high, |m, high| value_in(m, set::ELEM_KEY_END, high))
                    .maybe(element.data.as_ref(), put_data)
            })
        };
        match (self.intervals, self.concatenated()) {
            (false, _) => whole(m, None),
            (true, true) => whole(m, Some(&high)),
            // One field: the element begins an interval, a second one is the first value after it (none after the last of all).
            (true, false) => whole(m, None).maybe(successor(&high), |m, end| {
                m.nest(LIST_ELEM, |m| value_in(m, set::ELEM_KEY, &end).be32(set::ELEM_FLAGS, set::ELEM_INTERVAL_END))
            }),
        }
    }

    /// Lowest and highest key, each field padded to words in concatenations.
    fn bounds(&self, element: &Element) -> (Vec<u8>, Vec<u8>) {
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for part in &element.key {
            let (from, to) = part.bounds();
            low.extend(from);
            high.extend(to);
            if self.concatenated() {
                low.resize(aligned(low.len()), 0);
                high.resize(aligned(high.len()), 0);
            }
        }
        (low, high)
    }
}

fn put_data(m: Message, data: &Data) -> Message {
    match data {
        Data::Value(value) => value_in(m, set::ELEM_DATA, &value.bytes()),
        Data::Verdict(verdict) => m.nest(set::ELEM_DATA, |m| put_verdict(m, verdict)),
    }
}

/// The next number in network order; `None` after the highest.
fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_interval_ends_before_the_next_number() {
        assert_eq!(successor(&[10, 0, 255, 255]), Some(vec![10, 1, 0, 0]));
        assert_eq!(successor(&[255; 4]), None);
    }

    #[test]
    fn fields_of_a_concatenation_begin_at_words() {
        let set = Set::of("s", &[KeyType::IfIndex, KeyType::EtherAddr, KeyType::Ipv4Addr]);
        assert_eq!(set.key_length(), 4 + 8 + 4);
        let mac: Mac = "0a:00:00:00:00:01".parse().unwrap();
        let element = Element::new([Value::IfIndex(1).into(), mac.into(), Ipv4Addr::new(10, 0, 0, 1).into()]);
        let (low, high) = set.bounds(&element);
        assert_eq!(low, high);
        assert_eq!(&low[4..], &[0x0a, 0, 0, 0, 0, 1, 0, 0, 10, 0, 0, 1]);
    }
}
