//! The expressions a rule is made of. Each loads, compares, changes or ends; they pass values through registers.
//!
//! [`super::Rule`] puts the usual ones together; this is for what it has no method for.

use vpc_model::Mac;

use super::constants::{LIST_ELEM, data, rule};
use super::meter::put_limit;
use crate::netlink::encode::Message;

/// A register: where one expression leaves a value for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(u32);

impl Reg {
    /// The first 16-byte register: enough for every single value.
    pub const A: Self = Self(1);
    /// The second 16-byte register.
    pub const B: Self = Self(2);
    const VERDICT: Self = Self(0);

    /// The n-th 4-byte word (0 to 15) of the registers; [`Reg::A`] is words 0 to 3. Concatenated keys are laid out in words.
    #[must_use]
    pub const fn word(n: u32) -> Self {
        Self(8 + n)
    }
}

/// What is known about a packet besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MetaKey {
    /// Layer 3 protocol by its EtherType (2 bytes, network order).
    Protocol = 1,
    /// Mark (4 bytes).
    Mark = 3,
    /// Index of the link it came in by (4 bytes).
    Iif = 4,
    /// Index of the link it leaves by (4 bytes).
    Oif = 5,
    /// Name of the link it came in by (16 bytes).
    IifName = 6,
    /// Name of the link it leaves by (16 bytes).
    OifName = 7,
    /// Layer 4 protocol (1 byte).
    L4Proto = 16,
}

/// Where in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PayloadBase {
    /// Ethernet header.
    Link = 0,
    /// IP (or ARP) header.
    Network = 1,
    /// TCP, UDP or ICMP header.
    Transport = 2,
}

/// How values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum CmpOp {
    Eq = 0,
    Ne = 1,
    Lt = 2,
    Le = 3,
    Gt = 4,
    Ge = 5,
}

/// What is known about a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CtKey {
    /// [`ct_state`] bits (4 bytes).
    State = 0,
    /// 0 original, 1 reply (1 byte).
    Direction = 1,
    /// [`ct_status`] bits (4 bytes).
    Status = 2,
    /// Mark (4 bytes).
    Mark = 3,
    /// Source address of a direction, as the connection began (4 bytes in family `ip`).
    Source = 8,
    /// Destination address of a direction (4 bytes in family `ip`).
    Destination = 9,
    /// Zone (2 bytes, the machine's order): connections of different zones have nothing to do with each other. Set it before
    /// connection tracking sees the packet ([`super::priority::RAW`]).
    Zone = 17,
}

/// Bits of [`CtKey::State`].
pub mod ct_state {
    /// Damaged, or no connection could be told.
    pub const INVALID: u32 = 1;
    /// Seen both ways.
    pub const ESTABLISHED: u32 = 2;
    /// Belongs to another connection (an ICMP error).
    pub const RELATED: u32 = 4;
    /// The first packet.
    pub const NEW: u32 = 8;
    /// Not tracked.
    pub const UNTRACKED: u32 = 64;
}

/// Bits of [`CtKey::Status`].
pub mod ct_status {
    /// Replies have been seen.
    pub const SEEN_REPLY: u32 = 2;
    /// Its source is translated.
    pub const SNAT: u32 = 0x10;
    /// Its destination is translated.
    pub const DNAT: u32 = 0x20;
}

/// Which half of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CtDirection {
    Original = 0,
    Reply = 1,
}

/// What a look-up in the routing tables is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FibResult {
    /// Index of the link (4 bytes; 0 = no route).
    Oif = 1,
    /// Name of the link (16 bytes).
    OifName = 2,
    /// [`AddressType`] (4 bytes).
    AddressType = 3,
}

/// How it is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FibFlags {
    /// The source address.
    pub source: bool,
    /// The destination address.
    pub destination: bool,
    /// With the packet's mark.
    pub mark: bool,
    /// Only addresses of the link it came in by.
    pub iif: bool,
    /// Only addresses of the link it leaves by.
    pub oif: bool,
}

/// What an address is to this host (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum AddressType {
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Multicast = 5,
}

/// What happens to the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the next hook.
    Accept,
    /// It is gone.
    Drop,
    /// Back to where the chain was called from.
    Return,
    /// The chain, then back here.
    Jump(String),
    /// The chain, not back here.
    Goto(String),
}

/// Which address is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum NatKind {
    Source = 0,
    Destination = 1,
}

/// How ports are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatFlags {
    /// Random by a hash of the addresses.
    pub random: bool,
    /// Fully random.
    pub fully_random: bool,
    /// The same client always gets the same address.
    pub persistent: bool,
}

impl NatFlags {
    fn bits(self) -> u32 {
        u32::from(self.random) * 4 + u32::from(self.persistent) * 8 + u32::from(self.fully_random) * 16
    }
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads something about the packet.
    Meta {
        /** What. */
        key: MetaKey,
        /** Where to. */
        into: Reg,
    },
    /// Sets something about the packet (its mark).
    SetMeta {
        /** What. */
        key: MetaKey,
        /** Where from. */
        from: Reg,
    },
    /// Loads bytes of the packet.
    Payload {
        /** Counted from. */
        base: PayloadBase,
        /** First byte. */
        offset: u32,
        /** How many. */
        length: u32,
        /** Where to. */
        into: Reg,
    },
    /// Writes bytes of the IPv4 header, and keeps its checksum right.
    SetIpHeader {
        /** First byte. */
        offset: u32,
        /** How many. */
        length: u32,
        /** Where from. */
        from: Reg,
    },
    /// Goes on only if the comparison holds. Fewer bytes than the register holds compare its beginning.
    Cmp {
        /** Left side. */
        reg: Reg,
        /** How. */
        op: CmpOp,
        /** Right side. */
        value: Vec<u8>,
    },
    /// `into = (from & mask) ^ xor`.
    Bitwise {
        /** Where from. */
        from: Reg,
        /** Where to. */
        into: Reg,
        /** Mask. */
        mask: Vec<u8>,
        /** Exclusive or. */
        xor: Vec<u8>,
    },
    /// Goes on only if the key is in the set (or map; then its data are loaded).
    Lookup {
        /** Name. */
        set: String,
        /** First register of the key. */
        key: Reg,
        /** Where a map's data go. */
        into: Option<Reg>,
        /** Goes on if *not* there. */
        inverted: bool,
    },
    /// Looks a key up in a verdict map and does what it says; goes on if the key is not there.
    VerdictMap {
        /** Name. */
        map: String,
        /** First register of the key. */
        key: Reg,
    },
    /// Loads a constant.
    Immediate {
        /** Where to. */
        into: Reg,
        /** What. */
        value: Vec<u8>,
    },
    /// Ends (or calls a chain).
    Verdict(Verdict),
    /// Loads something about the connection.
    Ct {
        /** What. */
        key: CtKey,
        /** Of which half, where that matters. */
        direction: Option<CtDirection>,
        /** Where to. */
        into: Reg,
    },
    /// Sets something about the connection (its mark).
    SetCt {
        /** What. */
        key: CtKey,
        /** Where from. */
        from: Reg,
    },
    /// Looks up routing tables.
    Fib {
        /** What to tell. */
        result: FibResult,
        /** How. */
        flags: FibFlags,
        /** Where to. */
        into: Reg,
    },
    /// Translates an address to the one in a register. IPv4.
    Nat {
        /** Which. */
        kind: NatKind,
        /** Register with the new address. */
        address: Reg,
        /** Register with the new port (2 bytes). */
        port: Option<Reg>,
        /** Ports. */
        flags: NatFlags,
    },
    /// Source becomes the address of the link it leaves by.
    Masquerade {
        /** Ports. */
        flags: NatFlags,
    },
    /// Counts.
    Counter,
    /// Writes a kernel log line with this at its beginning.
    Log {
        /** At most 127 bytes. */
        prefix: String,
    },
    /// The packet belongs to no connection.
    NoTrack,
    /// Drops and tells the sender, by ICMP "port unreachable" (3).
    Reject {
        /** ICMP code of "destination unreachable". */
        code: u8,
    },
    /// Ends in "no" unless the value lies outside (or, `inverted`, inside) of the two, both included.
    Range {
        /** The value. */
        reg: Reg,
        /** Outside instead of inside. */
        inverted: bool,
        /** Lowest. */
        from: Vec<u8>,
        /** Highest. */
        to: Vec<u8>,
    },
    /// The maximum segment size of a TCP SYN becomes what the route's MTU allows. Two expressions and a conversion in one.
    ClampMss,
    /// Goes on for packets over a rate of their key's own in a [`super::Meter`].
    OverRate {
        /** The meter. */
        meter: String,
        /** The key. */
        key: Reg,
        /** Packets per second. */
        per_second: u64,
        /** Packets at once. */
        burst: u32,
    },
}

impl Expr {
    /// Compares a register with a hardware address.
    #[must_use]
    pub fn is_mac(reg: Reg, mac: Mac) -> Self {
        Self::Cmp { reg, op: CmpOp::Eq, value: mac.0.to_vec() }
    }

    /// The expression as list elements of a rule.
    pub(super) fn put(&self, m: Message) -> Message {
        match self {
            Self::Meta { key, into } => named(m, "meta", |m| m.be32(1, into.0).be32(2, *key as u32)),
            Self::SetMeta { key, from } => named(m, "meta", |m| m.be32(2, *key as u32).be32(3, from.0)),
            Self::Payload { base, offset, length, into } => {
                named(m, "payload", |m| m.be32(1, into.0).be32(2, *base as u32).be32(3, *offset).be32(4, *length))
            }
            Self::SetIpHeader { offset, length, from } => named(m, "payload", |m| {
                // Checksum: the internet's kind (1), at byte 10 of the header.
                let base = PayloadBase::Network as u32;
                m.be32(2, base).be32(3, *offset).be32(4, *length).be32(5, from.0).be32(6, 1).be32(7, 10)
            }),
            Self::Cmp { reg, op, value } => {
                named(m, "cmp", |m| value_in(m.be32(1, reg.0).be32(2, *op as u32), 3, value))
            }
            Self::Bitwise { from, into, mask, xor } => named(m, "bitwise", |m| {
                let length = u32::try_from(mask.len()).unwrap_or(0);
                value_in(value_in(m.be32(1, from.0).be32(2, into.0).be32(3, length), 4, mask), 5, xor)
            }),
            Self::Lookup { set, key, into, inverted } => named(m, "lookup", |m| {
                m.text(1, set)
                    .be32(2, key.0)
                    .maybe(*into, |m, into| m.be32(3, into.0))
                    .maybe(inverted.then_some(1), |m, bit| m.be32(5, bit))
            }),
            Self::VerdictMap { map, key } => {
                named(m, "lookup", |m| m.text(1, map).be32(2, key.0).be32(3, Reg::VERDICT.0))
            }
            Self::Immediate { into, value } => named(m, "immediate", |m| value_in(m.be32(1, into.0), 2, value)),
            Self::Verdict(verdict) => {
                named(m, "immediate", |m| m.be32(1, Reg::VERDICT.0).nest(2, |m| put_verdict(m, verdict)))
            }
            Self::Ct { key, direction, into } => named(m, "ct", |m| {
                m.be32(1, into.0).be32(2, *key as u32).maybe(*direction, |m, half| m.bytes(3, &[half as u8]))
            }),
            Self::SetCt { key, from } => named(m, "ct", |m| m.be32(2, *key as u32).be32(4, from.0)),
            Self::Fib { result, flags, into } => {
                named(m, "fib", |m| m.be32(1, into.0).be32(2, *result as u32).be32(3, fib_bits(*flags)))
            }
            Self::Nat { kind, address, port, flags } => named(m, "nat", |m| {
                m.be32(1, *kind as u32)
                    .be32(2, libc::AF_INET as u32)
                    .be32(3, address.0)
                    .maybe(*port, |m, port| m.be32(5, port.0))
                    .maybe(Some(flags.bits()).filter(|bits| *bits != 0), |m, bits| m.be32(7, bits))
            }),
            Self::Masquerade { flags } => {
                named(m, "masq", |m| m.maybe(Some(flags.bits()).filter(|bits| *bits != 0), |m, bits| m.be32(1, bits)))
            }
            Self::Counter => m.nest(LIST_ELEM, put_counter),
            Self::Log { prefix } => named(m, "log", |m| m.text(2, prefix)),
            Self::NoTrack => named(m, "notrack", |m| m),
            Self::Reject { code } => named(m, "reject", |m| m.be32(1, 0).bytes(2, &[*code])),
            Self::Range { reg, inverted, from, to } => named(m, "range", |m| {
                value_in(value_in(m.be32(1, reg.0).be32(2, u32::from(*inverted)), 3, from), 4, to)
            }),
            Self::ClampMss => put_clamp_mss(m),
            Self::OverRate { meter, key, per_second, burst } => named(m, "dynset", |m| {
                // Operation 0: add the key, or ask the limit it has already.
                m.text(1, meter).be32(3, 0).be32(4, key.0).nest(7, |m| put_limit(m, *per_second, *burst))
            }),
        }
    }
}

/// `rt tcpmss` into a register, to network order, and into TCP option 2 (maximum segment size), two bytes at its second.
fn put_clamp_mss(m: Message) -> Message {
    let m = named(m, "rt", |m| m.be32(1, Reg::A.0).be32(2, 3));
    let m = named(m, "byteorder", |m| m.be32(1, Reg::A.0).be32(2, Reg::A.0).be32(3, 1).be32(4, 2).be32(5, 2));
    named(m, "exthdr", |m| m.bytes(2, &[2]).be32(3, 2).be32(4, 2).be32(6, 1).be32(7, Reg::A.0))
}

/// A counter that begins at nothing, as name and content of an expression.
pub(super) fn put_counter(m: Message) -> Message {
    m.text(rule::EXPR_NAME, "counter").nest(rule::EXPR_DATA, |m| m.bytes(1, &[0; 8]).bytes(2, &[0; 8]))
}

fn named(m: Message, name: &str, inside: impl FnOnce(Message) -> Message) -> Message {
    m.nest(LIST_ELEM, |m| m.text(rule::EXPR_NAME, name).nest(rule::EXPR_DATA, inside))
}

/// A constant as nf_tables wraps it.
pub(super) fn value_in(m: Message, kind: u16, value: &[u8]) -> Message {
    m.nest(kind, |m| m.bytes(data::VALUE, value))
}

/// A verdict as nf_tables wraps it (`NF_DROP` 0, `NF_ACCEPT` 1, the others negative).
pub(super) fn put_verdict(m: Message, verdict: &Verdict) -> Message {
    let (code, chain): (i32, Option<&String>) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    m.nest(data::VERDICT, |m| {
        m.bytes(data::VERDICT_CODE, &code.to_be_bytes()).maybe(chain, |m, chain| m.text(data::VERDICT_CHAIN, chain))
    })
}

fn fib_bits(flags: FibFlags) -> u32 {
    let FibFlags { source, destination, mark, iif, oif } = flags;
    [source, destination, mark, iif, oif].into_iter().enumerate().map(|(bit, set)| u32::from(set) << bit).sum()
}
