//! Rules, built from left to right as `nft` writes them: conditions first, what is to be done last.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use vpc_hostnet::Mark;
use vpc_model::{LinkName, Mac};

use super::expr::{
    AddressType, CmpOp, CtDirection, CtKey, Expr, FibFlags, FibResult, MetaKey, NatFlags, NatKind, PayloadBase, Reg,
    Verdict,
};
use crate::netlink::encode::aligned;

/// Whether a condition is to hold or not to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The packet is so.
    Is,
    /// The packet is not so.
    Not,
}

impl Test {
    fn op(self) -> CmpOp {
        match self {
            Self::Is => CmpOp::Eq,
            Self::Not => CmpOp::Ne,
        }
    }
}

/// Links by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfName {
    /// Exactly this one.
    Is(LinkName),
    /// All whose names begin so (`eni*`); all, if empty.
    Prefix(String),
}

/// Something of a packet that keys of sets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Index of the link it came in by.
    Iif,
    /// Index of the link it leaves by.
    Oif,
    /// Name of the link it came in by.
    IifName,
    /// Name of the link it leaves by.
    OifName,
    /// Packet mark.
    Mark,
    /// Sender's hardware address.
    EtherSource,
    /// Receiver's hardware address.
    EtherDestination,
    /// IPv4 source.
    IpSource,
    /// IPv4 destination.
    IpDestination,
    /// IPv4 protocol.
    IpProtocol,
    /// IPv4 time to live.
    Ttl,
    /// Index of the link the routing tables have for its destination and mark; 0 where they have no way. In prerouting and input.
    RouteOif,
    /// Source port of TCP or UDP. Ask for the protocol first.
    SourcePort,
    /// Destination port of TCP or UDP. Ask for the protocol first.
    DestinationPort,
    /// Sender's hardware address inside an ARP message.
    ArpSenderMac,
    /// Sender's IPv4 address inside an ARP message.
    ArpSenderIp,
    /// IPv4 address an ARP message asks for.
    ArpTargetIp,
}

impl Selector {
    /// Bytes of the value.
    fn length(self) -> u32 {
        match self {
            Self::IifName | Self::OifName => 16,
            Self::EtherSource | Self::EtherDestination | Self::ArpSenderMac => 6,
            Self::SourcePort | Self::DestinationPort => 2,
            Self::IpProtocol | Self::Ttl => 1,
            _ => 4,
        }
    }

    fn load(self, into: Reg) -> Expr {
        let payload = |base, offset| Expr::Payload { base, offset, length: self.length(), into };
        match self {
            Self::Iif => Expr::Meta { key: MetaKey::Iif, into },
            Self::Oif => Expr::Meta { key: MetaKey::Oif, into },
            Self::IifName => Expr::Meta { key: MetaKey::IifName, into },
            Self::OifName => Expr::Meta { key: MetaKey::OifName, into },
            Self::Mark => Expr::Meta { key: MetaKey::Mark, into },
            Self::EtherDestination => payload(PayloadBase::Link, 0),
            Self::EtherSource => payload(PayloadBase::Link, 6),
            Self::IpProtocol => payload(PayloadBase::Network, 9),
            Self::Ttl => payload(PayloadBase::Network, TTL),
            Self::RouteOif => {
                let flags = FibFlags { destination: true, mark: true, ..FibFlags::default() };
                Expr::Fib { result: FibResult::Oif, flags, into }
            }
            Self::IpSource => payload(PayloadBase::Network, 12),
            Self::IpDestination => payload(PayloadBase::Network, 16),
            Self::SourcePort => payload(PayloadBase::Transport, 0),
            Self::DestinationPort => payload(PayloadBase::Transport, 2),
            Self::ArpSenderMac => payload(PayloadBase::Network, 8),
            Self::ArpSenderIp => payload(PayloadBase::Network, 14),
            Self::ArpTargetIp => payload(PayloadBase::Network, 24),
        }
    }
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    expressions: Vec<Expr>,
    comment: Option<String>,
}

/// Offset of the time to live in an IPv4 header.
const TTL: u32 = 8;

impl Rule {
    /// A rule for every packet, that does nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn expressions(&self) -> &[Expr] {
        &self.expressions
    }

    pub(super) fn comment_text(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// Adds any expression.
    #[must_use]
    pub fn then(mut self, expression: Expr) -> Self {
        self.expressions.push(expression);
        self
    }

    /// A comment that `nft list` prints (at most 127 bytes, the rest is cut).
    #[must_use]
    pub fn comment(mut self, text: &str) -> Self {
        self.comment = Some(text.to_owned());
        self
    }

    fn compare(self, load: Expr, test: Test, value: &[u8]) -> Self {
        self.then(load).then(Expr::Cmp { reg: Reg::A, op: test.op(), value: value.to_vec() })
    }

    fn selected(self, selector: Selector, test: Test, value: &[u8]) -> Self {
        self.compare(selector.load(Reg::A), test, value)
    }

    /// By the link it came in by, by index.
    #[must_use]
    pub fn iif(self, test: Test, index: u32) -> Self {
        self.selected(Selector::Iif, test, &index.to_ne_bytes())
    }

    /// By the link it leaves by, by index.
    #[must_use]
    pub fn oif(self, test: Test, index: u32) -> Self {
        self.selected(Selector::Oif, test, &index.to_ne_bytes())
    }

    /// By the link the routing tables have for it ([`Selector::RouteOif`]).
    #[must_use]
    pub fn route_oif(self, test: Test, index: u32) -> Self {
        self.selected(Selector::RouteOif, test, &index.to_ne_bytes())
    }

    /// By the link it came in by, by name.
    #[must_use]
    pub fn iifname(self, test: Test, name: &IfName) -> Self {
        self.named(Selector::IifName, test, name)
    }

    /// By the link it leaves by, by name.
    #[must_use]
    pub fn oifname(self, test: Test, name: &IfName) -> Self {
        self.named(Selector::OifName, test, name)
    }

    fn named(self, selector: Selector, test: Test, name: &IfName) -> Self {
        match name {
            IfName::Is(name) => {
                let mut value = name.as_str().as_bytes().to_vec();
                value.resize(16, 0);
                self.selected(selector, test, &value)
            }
            // Every name begins with nothing.
            IfName::Prefix(prefix) if prefix.is_empty() && test == Test::Is => self,
            // Comparing fewer bytes than the register holds compares the beginning.
            IfName::Prefix(prefix) => self.selected(selector, test, prefix.as_bytes()),
        }
    }

    /// By sender's hardware address.
    #[must_use]
    pub fn ether_source(self, test: Test, mac: Mac) -> Self {
        self.selected(Selector::EtherSource, test, &mac.0)
    }

    /// By IPv4 source.
    #[must_use]
    pub fn ip_source(self, test: Test, net: Ipv4Net) -> Self {
        self.in_net(Selector::IpSource, test, net)
    }

    /// By IPv4 destination.
    #[must_use]
    pub fn ip_destination(self, test: Test, net: Ipv4Net) -> Self {
        self.in_net(Selector::IpDestination, test, net)
    }

    fn in_net(self, selector: Selector, test: Test, net: Ipv4Net) -> Self {
        let network = net.network().octets();
        if net.prefix_len() == 32 {
            return self.selected(selector, test, &network);
        }
        let mask = Expr::Bitwise { from: Reg::A, into: Reg::A, mask: net.netmask().octets().to_vec(), xor: vec![0; 4] };
        self.then(selector.load(Reg::A)).compare(mask, test, &network)
    }

    /// By IPv4 protocol (`libc::IPPROTO_*`).
    #[must_use]
    pub fn ip_protocol(self, test: Test, protocol: u8) -> Self {
        self.selected(Selector::IpProtocol, test, &[protocol])
    }

    /// By IPv4 time to live.
    #[must_use]
    pub fn ttl(self, op: CmpOp, ttl: u8) -> Self {
        self.then(Expr::Payload { base: PayloadBase::Network, offset: TTL, length: 1, into: Reg::A }).then(Expr::Cmp {
            reg: Reg::A,
            op,
            value: vec![ttl],
        })
    }

    /// TCP (6) or UDP (17) to a port.
    #[must_use]
    pub fn destination_port(self, protocol: u8, port: u16) -> Self {
        self.compare(Expr::Meta { key: MetaKey::L4Proto, into: Reg::A }, Test::Is, &[protocol]).selected(
            Selector::DestinationPort,
            Test::Is,
            &port.to_be_bytes(),
        )
    }

    /// TCP (6) or UDP (17) to one of these ports, both ends included.
    #[must_use]
    pub fn destination_ports(self, protocol: u8, from: u16, to: u16) -> Self {
        if from == to {
            return self.destination_port(protocol, from);
        }
        let rule = self.l4_protocol(Test::Is, protocol).then(Selector::DestinationPort.load(Reg::A));
        let (from, to) = (from.to_be_bytes().to_vec(), to.to_be_bytes().to_vec());
        rule.then(Expr::Range { reg: Reg::A, inverted: false, from, to })
    }

    /// ICMP of this type, and this code if given.
    #[must_use]
    pub fn icmp(self, kind: u8, code: Option<u8>) -> Self {
        let byte = |offset| Expr::Payload { base: PayloadBase::Transport, offset, length: 1, into: Reg::A };
        let rule = self.l4_protocol(Test::Is, libc::IPPROTO_ICMP as u8).compare(byte(0), Test::Is, &[kind]);
        match code {
            Some(code) => rule.compare(byte(1), Test::Is, &[code]),
            None => rule,
        }
    }

    /// TCP (6) or UDP (17) from a port.
    #[must_use]
    pub fn source_port(self, protocol: u8, port: u16) -> Self {
        self.compare(Expr::Meta { key: MetaKey::L4Proto, into: Reg::A }, Test::Is, &[protocol]).selected(
            Selector::SourcePort,
            Test::Is,
            &port.to_be_bytes(),
        )
    }

    /// By layer 4 protocol.
    #[must_use]
    pub fn l4_protocol(self, test: Test, protocol: u8) -> Self {
        self.compare(Expr::Meta { key: MetaKey::L4Proto, into: Reg::A }, test, &[protocol])
    }

    /// By membership of a key made of these things in a set.
    #[must_use]
    pub fn in_set(self, test: Test, key: &[Selector], set: &str) -> Self {
        self.key(key).then(Expr::Lookup {
            set: set.to_owned(),
            key: Self::key_register(key),
            into: None,
            inverted: test == Test::Not,
        })
    }

    /// Does what a verdict map says about the key; goes on with the next rule if it says nothing.
    #[must_use]
    pub fn verdict_map(self, key: &[Selector], map: &str) -> Self {
        self.key(key).then(Expr::VerdictMap { map: map.to_owned(), key: Self::key_register(key) })
    }

    /// The packet's mark becomes what a map says about the key; goes on with the next rule if it says nothing.
    #[must_use]
    pub fn set_mark_from_map(self, key: &[Selector], map: &str) -> Self {
        self.looked_up(key, map).then(Expr::SetMeta { key: MetaKey::Mark, from: Reg::A })
    }

    /// Its connection is looked for in the zone that a map tells for the key; goes on with the next rule if it says nothing. Only
    /// before connection tracking.
    #[must_use]
    pub fn set_ct_zone_from_map(self, key: &[Selector], map: &str) -> Self {
        self.looked_up(key, map).then(Expr::SetCt { key: CtKey::Zone, from: Reg::A })
    }

    /// The IPv4 time to live becomes what a map says about the key; goes on with the next rule if it says nothing.
    #[must_use]
    pub fn set_ttl_from_map(self, key: &[Selector], map: &str) -> Self {
        self.looked_up(key, map).then(Expr::SetIpHeader { offset: TTL, length: 1, from: Reg::A })
    }

    /// It belongs to no connection. Only before connection tracking.
    #[must_use]
    pub fn no_track(self) -> Self {
        self.then(Expr::NoTrack)
    }

    fn looked_up(self, key: &[Selector], map: &str) -> Self {
        self.key(key).then(Expr::Lookup {
            set: map.to_owned(),
            key: Self::key_register(key),
            into: Some(Reg::A),
            inverted: false,
        })
    }

    /// Several things are laid side by side in words of the registers.
    fn key(mut self, key: &[Selector]) -> Self {
        if let [only] = key {
            return self.then(only.load(Reg::A));
        }
        let mut word = 0;
        for selector in key {
            self = self.then(selector.load(Reg::word(word)));
            word += u32::try_from(aligned(selector.length() as usize) / 4).unwrap_or(1);
        }
        self
    }

    fn key_register(key: &[Selector]) -> Reg {
        if key.len() == 1 { Reg::A } else { Reg::word(0) }
    }

    /// By bits of its connection's state ([`super::ct_state`]): any of them set.
    #[must_use]
    pub fn ct_state(self, bits: u32) -> Self {
        self.any_bit(CtKey::State, bits)
    }

    /// By bits of its connection's status ([`super::ct_status`]): any of them set.
    #[must_use]
    pub fn ct_status(self, bits: u32) -> Self {
        self.any_bit(CtKey::Status, bits)
    }

    fn any_bit(self, key: CtKey, bits: u32) -> Self {
        let mask = Expr::Bitwise { from: Reg::A, into: Reg::A, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] };
        self.then(Expr::Ct { key, direction: None, into: Reg::A }).compare(mask, Test::Not, &[0; 4])
    }

    /// By the half of the connection it belongs to.
    #[must_use]
    pub fn ct_direction(self, direction: CtDirection) -> Self {
        let load = Expr::Ct { key: CtKey::Direction, direction: None, into: Reg::A };
        self.compare(load, Test::Is, &[direction as u8])
    }

    /// By the bits of its connection's mark that count.
    #[must_use]
    pub fn ct_mark(self, test: Test, mark: Mark) -> Self {
        self.masked(Expr::Ct { key: CtKey::Mark, direction: None, into: Reg::A }, test, mark)
    }

    /// By the bits of its mark that count.
    #[must_use]
    pub fn mark(self, test: Test, mark: Mark) -> Self {
        self.masked(Expr::Meta { key: MetaKey::Mark, into: Reg::A }, test, mark)
    }

    fn masked(self, load: Expr, test: Test, mark: Mark) -> Self {
        let mask = mark.mask.to_ne_bytes().to_vec();
        let value = (mark.value & mark.mask).to_ne_bytes();
        self.then(load).compare(Expr::Bitwise { from: Reg::A, into: Reg::A, mask, xor: vec![0; 4] }, test, &value)
    }

    /// Sets the bits of the packet's mark that count; the others stay.
    #[must_use]
    pub fn set_mark(self, mark: Mark) -> Self {
        self.then(Expr::Meta { key: MetaKey::Mark, into: Reg::A })
            .then(replaced_bits(mark))
            .then(Expr::SetMeta { key: MetaKey::Mark, from: Reg::A })
    }

    /// Sets the bits of the connection's mark that count; the others stay.
    #[must_use]
    pub fn set_ct_mark(self, mark: Mark) -> Self {
        self.then(Expr::Ct { key: CtKey::Mark, direction: None, into: Reg::A })
            .then(replaced_bits(mark))
            .then(Expr::SetCt { key: CtKey::Mark, from: Reg::A })
    }

    /// By what its destination is to this host; with `on_iif`, to the link it came in by.
    #[must_use]
    pub fn destination_type(self, test: Test, kind: AddressType, on_iif: bool) -> Self {
        let flags = FibFlags { destination: true, iif: on_iif, ..FibFlags::default() };
        let load = Expr::Fib { result: FibResult::AddressType, flags, into: Reg::A };
        self.compare(load, test, &(kind as u32).to_ne_bytes())
    }

    /// Sets the IPv4 time to live.
    #[must_use]
    pub fn set_ttl(self, ttl: u8) -> Self {
        self.then(Expr::Immediate { into: Reg::A, value: vec![ttl] }).then(Expr::SetIpHeader {
            offset: TTL,
            length: 1,
            from: Reg::A,
        })
    }

    /// Its source becomes this address.
    #[must_use]
    pub fn snat(self, to: Ipv4Addr, flags: NatFlags) -> Self {
        self.then(Expr::Immediate { into: Reg::A, value: to.octets().to_vec() }).then(Expr::Nat {
            kind: NatKind::Source,
            address: Reg::A,
            port: None,
            flags,
        })
    }

    /// Its destination becomes this address, and this port if given.
    #[must_use]
    pub fn dnat(self, to: Ipv4Addr, port: Option<u16>) -> Self {
        let rule = self.then(Expr::Immediate { into: Reg::A, value: to.octets().to_vec() });
        let rule = match port {
            Some(port) => rule.then(Expr::Immediate { into: Reg::B, value: port.to_be_bytes().to_vec() }),
            None => rule,
        };
        let port = port.map(|_| Reg::B);
        rule.then(Expr::Nat { kind: NatKind::Destination, address: Reg::A, port, flags: NatFlags::default() })
    }

    /// An address becomes what a map says about the key; goes on with the next rule if it says nothing.
    #[must_use]
    pub fn nat_from_map(self, kind: NatKind, key: &[Selector], map: &str, flags: NatFlags) -> Self {
        self.looked_up(key, map).then(Expr::Nat { kind, address: Reg::A, port: None, flags })
    }

    /// Its source becomes the address of the link it leaves by.
    #[must_use]
    pub fn masquerade(self, flags: NatFlags) -> Self {
        self.then(Expr::Masquerade { flags })
    }

    /// Only for what is over a rate: so many packets per second, after a burst, for each value of the key by itself.
    #[must_use]
    pub fn over_rate(self, key: Selector, meter: &str, per_second: u64, burst: u32) -> Self {
        let (meter, register) = (meter.to_owned(), Self::key_register(&[key]));
        self.key(&[key]).then(Expr::OverRate { meter, key: register, per_second, burst })
    }

    /// Counts packets and bytes that come this far.
    #[must_use]
    pub fn counter(self) -> Self {
        self.then(Expr::Counter)
    }

    /// It goes on to the next hook.
    #[must_use]
    pub fn accept(self) -> Self {
        self.then(Expr::Verdict(Verdict::Accept))
    }

    /// It is gone.
    #[must_use]
    pub fn drop(self) -> Self {
        self.then(Expr::Verdict(Verdict::Drop))
    }

    /// Back to where the chain was called from.
    #[must_use]
    pub fn go_back(self) -> Self {
        self.then(Expr::Verdict(Verdict::Return))
    }

    /// On to a chain, and back here after it.
    #[must_use]
    pub fn jump(self, chain: &str) -> Self {
        self.then(Expr::Verdict(Verdict::Jump(chain.to_owned())))
    }

    /// On to a chain for good.
    #[must_use]
    pub fn goto(self, chain: &str) -> Self {
        self.then(Expr::Verdict(Verdict::Goto(chain.to_owned())))
    }
}

/// `A = (A & !mask) ^ value`.
fn replaced_bits(mark: Mark) -> Expr {
    let xor = (mark.value & mark.mask).to_ne_bytes().to_vec();
    Expr::Bitwise { from: Reg::A, into: Reg::A, mask: (!mark.mask).to_ne_bytes().to_vec(), xor }
}
