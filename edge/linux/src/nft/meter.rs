//! Meters: a rate for each key, kept in a set that rules fill by themselves.

use super::about;
use super::batch::Table;
use super::constants::{msg, set};
use super::set::KeyType;
use crate::netlink::Request;
use crate::netlink::encode::{Message, flag};

/// Elements are added by rules (`NFT_SET_EVAL`).
const FLAG_EVAL: u32 = 0x20;
/// `NFTA_SET_DESC_SIZE`.
const DESC_SIZE: u16 = 1;
/// Keys a meter holds; packets of further ones are not measured.
const MOST_KEYS: u32 = 65_535;
/// `NFT_LIMIT_PKTS`, and `NFT_LIMIT_F_INV`: the condition holds for what is over the rate.
const PACKETS: u32 = 0;
const OVER: u32 = 1;

/// A set of rates, one for each value of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Name, unique in its table.
    pub name: String,
    /// What has a rate of its own.
    pub key: KeyType,
}

impl Meter {
    /// A meter.
    #[must_use]
    pub fn of(name: &str, key: KeyType) -> Self {
        Self { name: name.to_owned(), key }
    }

    pub(super) fn add(&self, table: &Table, id: u32) -> Request {
        let message = about(msg::NEWSET, flag(libc::NLM_F_CREATE), table.family.number())
            .text(set::TABLE, &table.name)
            .text(set::NAME, &self.name)
            .be32(set::FLAGS, FLAG_EVAL)
            .be32(set::KEY_TYPE, self.key.number())
            .be32(set::KEY_LEN, u32::try_from(self.key.length()).unwrap_or(0))
            .be32(set::ID, id)
            .nest(set::DESC, |m| m.be32(DESC_SIZE, MOST_KEYS));
        Request::new("create meter", format!("{} in {table}", self.name), message)
    }
}

/// The limit that a key gets when a rule adds it.
pub(super) fn put_limit(m: Message, per_second: u64, burst: u32) -> Message {
    m.text(1, "limit").nest(2, |m| {
        let seconds = 1_u64;
        let m = m.bytes(1, &per_second.to_be_bytes()).bytes(2, &seconds.to_be_bytes());
        m.be32(3, burst).be32(4, PACKETS).be32(5, OVER)
    })
}
