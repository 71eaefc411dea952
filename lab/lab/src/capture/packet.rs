//! One packet of a capture, taken apart by `etherparse`: an eye that is not ours.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::SystemTime;

use etherparse::{
    Icmpv4Slice, Icmpv4Type, LinkSlice, NetSlice, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice, icmpv4,
};
use vpc_model::Mac;

/// A packet as it passed a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When, by the kernel's clock.
    pub at: SystemTime,
    /// It left by the link (false: it arrived).
    pub outgoing: bool,
    /// Length on the link in bytes, link header included.
    pub length: usize,
    /// The bytes captured.
    pub bytes: Vec<u8>,
    /// From which hardware address.
    pub mac_source: Mac,
    /// To which hardware address.
    pub mac_destination: Mac,
    /// What it says.
    pub body: Body,
}

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// An ARP question or answer.
    Arp(Arp),
    /// An IPv4 packet.
    Ipv4(Ipv4),
    /// Something else, by EtherType.
    Other(u16),
    /// Bytes that are not what they claim to be.
    Malformed(String),
}

/// ARP for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// An answer (false: a question).
    pub answer: bool,
    /// Hardware address of the sender.
    pub sender_mac: Mac,
    /// Address of the sender.
    pub sender: Ipv4Addr,
    /// Address asked for, or of the one that is answered.
    pub target: Ipv4Addr,
}

/// An IPv4 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source.
    pub source: Ipv4Addr,
    /// Destination.
    pub destination: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// Total length in bytes.
    pub length: u16,
    /// Don't fragment.
    pub dont_fragment: bool,
    /// Number of the protocol inside (1 ICMP, 4 IP in IP, 6 TCP, 17 UDP, 47 GRE …).
    pub protocol: u8,
    /// What is inside.
    pub inside: Transport,
}

/// What an IPv4 packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// An echo request or reply.
    Echo {
        /// A reply (false: a request).
        reply: bool,
        /// Identifier.
        id: u16,
        /// Sequence number.
        sequence: u16,
    },
    /// Another ICMP message.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// MTU of the next hop, of a "fragmentation needed".
        next_hop_mtu: Option<u16>,
    },
    /// A TCP segment.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Which flags are set.
        flags: TcpFlags,
        /// Maximum segment size it announces.
        mss: Option<u16>,
        /// Bytes of payload.
        payload: usize,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Bytes of payload.
        payload: usize,
    },
    /// Something else, or a fragment that is not the first.
    Other,
}

/// Flags of a TCP segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// Opens a connection.
    pub syn: bool,
    /// Acknowledges.
    pub ack: bool,
    /// Ends a direction.
    pub fin: bool,
    /// Breaks the connection.
    pub rst: bool,
    /// Wants to be delivered at once.
    pub psh: bool,
}

impl Packet {
    /// Takes an Ethernet frame apart.
    #[must_use]
    pub fn parse(bytes: Vec<u8>, at: SystemTime, outgoing: bool, length: usize) -> Self {
        let (mac_source, mac_destination, body) = match SlicedPacket::from_ethernet(&bytes) {
            Ok(sliced) => match &sliced.link {
                Some(LinkSlice::Ethernet2(link)) => {
                    (Mac(link.source()), Mac(link.destination()), body(&sliced, link.ether_type().0))
                }
                _ => (Mac([0; 6]), Mac([0; 6]), Body::Malformed("no Ethernet header".to_owned())),
            },
            Err(e) => (Mac([0; 6]), Mac([0; 6]), Body::Malformed(e.to_string())),
        };
        Self { at, outgoing, length, bytes, mac_source, mac_destination, body }
    }

    /// The IPv4 packet, if it is one.
    #[must_use]
    pub fn ipv4(&self) -> Option<&Ipv4> {
        match &self.body {
            Body::Ipv4(packet) => Some(packet),
            _ => None,
        }
    }

    /// Whether it is an IPv4 packet from one address to another.
    #[must_use]
    pub fn is_between(&self, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
        self.ipv4().is_some_and(|packet| packet.source == source && packet.destination == destination)
    }

    /// Whether it is a SYN that opens a connection to that port.
    #[must_use]
    pub fn opens(&self, port: u16) -> bool {
        let inside = self.ipv4().map(|packet| &packet.inside);
        matches!(inside, Some(Transport::Tcp { destination, flags, .. }) if *destination == port && flags.syn && !flags.ack)
    }

    /// Whether it is an echo request.
    #[must_use]
    pub fn is_echo_request(&self) -> bool {
        matches!(self.ipv4().map(|packet| &packet.inside), Some(Transport::Echo { reply: false, .. }))
    }
}

fn body(sliced: &SlicedPacket<'_>, ether_type: u16) -> Body {
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            Body::Ipv4(Ipv4 {
                source: header.source_addr(),
                destination: header.destination_addr(),
                ttl: header.ttl(),
                length: header.total_len(),
                dont_fragment: header.dont_fragment(),
                protocol: header.protocol().0,
                inside: sliced.transport.as_ref().map_or(Transport::Other, transport),
            })
        }
        Some(NetSlice::Arp(arp)) => {
            let ipv4 = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from);
            let mac = <[u8; 6]>::try_from(arp.sender_hw_addr()).map(Mac);
            match (mac, ipv4(arp.sender_protocol_addr()), ipv4(arp.target_protocol_addr())) {
                (Ok(sender_mac), Ok(sender), Ok(target)) => {
                    Body::Arp(Arp { answer: arp.operation().0 == 2, sender_mac, sender, target })
                }
                _ => Body::Malformed("ARP for something that is not IPv4 over Ethernet".to_owned()),
            }
        }
        _ => Body::Other(ether_type),
    }
}

fn transport(slice: &TransportSlice<'_>) -> Transport {
    match slice {
        TransportSlice::Icmpv4(icmp) => icmp_message(icmp),
        TransportSlice::Tcp(tcp) => Transport::Tcp {
            source: tcp.source_port(),
            destination: tcp.destination_port(),
            flags: TcpFlags { syn: tcp.syn(), ack: tcp.ack(), fin: tcp.fin(), rst: tcp.rst(), psh: tcp.psh() },
            mss: mss(tcp),
            payload: tcp.payload().len(),
        },
        TransportSlice::Udp(udp) => Transport::Udp {
            source: udp.source_port(),
            destination: udp.destination_port(),
            payload: udp.payload().len(),
        },
        _ => Transport::Other,
    }
}

fn icmp_message(icmp: &Icmpv4Slice<'_>) -> Transport {
    match icmp.icmp_type() {
        Icmpv4Type::EchoRequest(echo) => Transport::Echo { reply: false, id: echo.id, sequence: echo.seq },
        Icmpv4Type::EchoReply(echo) => Transport::Echo { reply: true, id: echo.id, sequence: echo.seq },
        other => {
            let next_hop_mtu = match other {
                Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
                    next_hop_mtu,
                }) => Some(next_hop_mtu),
                _ => None,
            };
            Transport::Icmp { kind: icmp.type_u8(), code: icmp.code_u8(), next_hop_mtu }
        }
    }
}

fn mss(tcp: &TcpSlice<'_>) -> Option<u16> {
    tcp.options_iterator().flatten().find_map(|option| match option {
        TcpOptionElement::MaximumSegmentSize(size) => Some(size),
        _ => None,
    })
}

/// `> 10.20.9.31 > 10.20.17.5 icmp echo request id 7 seq 1, ttl 64, 84 bytes` (`>` at the beginning: leaving; `<`: arriving)
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.outgoing { "> " } else { "< " })?;
        match &self.body {
            Body::Ipv4(packet) => packet.fmt(f),
            Body::Arp(Arp { answer: false, sender, target, .. }) => write!(f, "arp who has {target}? tell {sender}"),
            Body::Arp(Arp { answer: true, sender, sender_mac, .. }) => write!(f, "arp {sender} is at {sender_mac}"),
            Body::Other(kind) => write!(f, "ethertype 0x{kind:04x}, {} bytes", self.length),
            Body::Malformed(what) => write!(f, "malformed: {what}, {} bytes", self.length),
        }
    }
}

impl fmt::Display for Ipv4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, ttl, length, protocol, .. } = self;
        match &self.inside {
            Transport::Echo { reply, id, sequence } => {
                let kind = if *reply { "reply" } else { "request" };
                write!(f, "{source} > {destination} icmp echo {kind} id {id} seq {sequence}")?;
            }
            Transport::Icmp { kind, code, next_hop_mtu: Some(mtu) } => {
                write!(f, "{source} > {destination} icmp {kind}/{code} fragmentation needed, next hop's mtu {mtu}")?;
            }
            Transport::Icmp { kind, code, next_hop_mtu: None } => {
                write!(f, "{source} > {destination} icmp {kind}/{code}")?;
            }
            Transport::Tcp { source: from, destination: to, flags, mss, payload } => {
                write!(f, "{source}:{from} > {destination}:{to} tcp [{flags}] {payload} bytes")?;
                if let Some(mss) = mss {
                    write!(f, " mss {mss}")?;
                }
            }
            Transport::Udp { source: from, destination: to, payload } => {
                write!(f, "{source}:{from} > {destination}:{to} udp {payload} bytes")?;
            }
            Transport::Other => write!(f, "{source} > {destination} protocol {protocol}")?,
        }
        write!(f, ", ttl {ttl}, {length} bytes")
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [(self.syn, 'S'), (self.fin, 'F'), (self.rst, 'R'), (self.psh, 'P'), (self.ack, '.')];
        all.iter().filter(|(set, _)| *set).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;

    fn parse(bytes: Vec<u8>) -> Packet {
        let length = bytes.len();
        Packet::parse(bytes, SystemTime::UNIX_EPOCH, true, length)
    }

    fn ip() -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ipv4([10, 20, 9, 31], [10, 20, 17, 5], 64)
    }

    #[test]
    fn an_opening_segment_shows_its_size_and_ports() {
        let mut bytes = Vec::new();
        let syn = ip().tcp(40_000, 80, 1, 65_535).syn().options(&[TcpOptionElement::MaximumSegmentSize(8961)]).unwrap();
        syn.write(&mut bytes, &[]).unwrap();
        let packet = parse(bytes);
        assert!(packet.opens(80) && !packet.opens(81));
        assert_eq!(packet.to_string(), "> 10.20.9.31:40000 > 10.20.17.5:80 tcp [S] 0 bytes mss 8961, ttl 64, 44 bytes");
        assert_eq!(packet.mac_source, Mac([2, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn an_echo_request_is_told_from_its_reply() {
        let (mut question, mut answer) = (Vec::new(), Vec::new());
        ip().icmpv4_echo_request(7, 1).write(&mut question, b"hello").unwrap();
        ip().icmpv4_echo_reply(7, 1).write(&mut answer, b"hello").unwrap();
        assert!(parse(question).is_echo_request());
        assert!(!parse(answer).is_echo_request());
    }

    #[test]
    fn rubbish_is_shown_as_such() {
        let packet = parse(vec![0; 9]);
        assert!(matches!(packet.body, Body::Malformed(_)), "{packet}");
    }
}
