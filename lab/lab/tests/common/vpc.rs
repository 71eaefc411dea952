//! The fabric by itself, told by plans: hosts with one ENI each, and frames of any content between them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use etherparse::{Icmpv4Type, IpNumber, Ipv4Header, PacketBuilder, TcpHeader, UdpHeader};
use ipnet::Ipv4Net;
use lab_cloud::{
    AttachedEni, Cloud, EniAddresses, GroupRule, GroupRules, NetworkPlan, PlannedSubnet, RouteSpec, RouteTarget,
    RulePeer, Setup, Traffic, id_for,
};
use nix::sys::socket::{MsgFlags, send};
use vpc_lab::capture::{Capture, Packet, open_socket};
use vpc_lab::fabric::{Fabric, FabricStatus, link_up};
use vpc_linux::{Address, Netns, RouteSpec as KernelRoute, Rtnl};
use vpc_model::{
    CardIndex, DeviceIndex, EniId, GatewayOf, Mac, Prefix28, RouteTable, SecurityGroupId, Subnet, SubnetId,
};

/// The world's host, which answers.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(52, 78, 83, 169);
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

pub(crate) fn group(name: &str) -> SecurityGroupId {
    id_for(name)
}

/// `tcp 80`, `udp 53-60`, `icmp`, `icmp 8`, `proto 47` or `all`, from (or to) a network or a group.
pub(crate) fn rule(traffic: &str, peer: &str) -> GroupRule {
    let (protocol, rest) = traffic.split_once(' ').unwrap_or((traffic, ""));
    let (from, to) = rest.split_once('-').unwrap_or((rest, rest));
    let ports = || if rest.is_empty() { (0, 65535) } else { (from.parse().unwrap(), to.parse().unwrap()) };
    let traffic = match protocol {
        "tcp" => Traffic::Tcp(ports().0, ports().1),
        "udp" => Traffic::Udp(ports().0, ports().1),
        "icmp" => Traffic::Icmp(rest.parse().ok(), None),
        "proto" => Traffic::Protocol(rest.parse().unwrap()),
        "all" => Traffic::All,
        other => panic!("{other}"),
    };
    let peer = peer.parse().map_or_else(|_| RulePeer::Group(group(peer)), RulePeer::Cidr);
    GroupRule { traffic, peer, description: None }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passes,
    Spoofed,
    EgressDenied,
    IngressDenied,
    NoRoute,
}

fn counters(status: &FabricStatus) -> [(Outcome, u64); 4] {
    [
        (Outcome::Spoofed, status.spoofed),
        (Outcome::EgressDenied, status.egress_denied),
        (Outcome::IngressDenied, status.ingress_denied),
        (Outcome::NoRoute, status.no_route),
    ]
}

/// A VPC without a cloud.
pub(crate) struct Vpc {
    pub(crate) fabric: Fabric,
    pub(crate) plan: NetworkPlan,
}

impl Vpc {
    /// In the calling process's network: subnets and gateways of the small topology, no nodes. Only in a sandbox.
    pub(crate) fn build() -> Self {
        let mut topology = super::topology(super::SMALL);
        topology.nodes.clear();
        let fabric = Fabric::build(&topology).unwrap();
        let cloud = Cloud::new(topology.world(), Setup::default()).unwrap();
        let vpc = Self { fabric, plan: cloud.network() };
        vpc.follow();
        vpc
    }

    pub(crate) fn follow(&self) {
        self.fabric.set_network(&self.plan).unwrap_or_else(|e| panic!("{e}"));
    }

    /// A group and its rules: `(traffic, peer)` in, `(traffic, peer)` out.
    pub(crate) fn group(&mut self, name: &str, ingress: &[(&str, &str)], egress: &[(&str, &str)]) {
        let rules = |rules: &[(&str, &str)]| rules.iter().map(|(traffic, peer)| rule(traffic, peer)).collect();
        self.plan.groups.insert(group(name), GroupRules { ingress: rules(ingress), egress: rules(egress) });
        self.follow();
    }

    /// The routes of a subnet's table are these.
    pub(crate) fn routes(&mut self, subnet: &str, routes: &[(&str, RouteTarget)]) {
        let table = self.plan.subnets[&id_for::<SubnetId>(subnet)].route_table.clone();
        let routes = routes.iter().map(|(to, target)| RouteSpec { destination: net(to), target: target.clone() });
        self.plan.route_tables.insert(table, routes.collect());
        self.follow();
    }

    /// A subnet that was not there, in the route table of another.
    pub(crate) fn subnet(&mut self, name: &str, cidr: &str, like: &str) {
        let route_table = self.plan.subnets[&id_for::<SubnetId>(like)].route_table.clone();
        let cidr = Subnet::try_from(net(cidr)).unwrap();
        self.plan.subnets.insert(id_for(name), PlannedSubnet { cidr, route_table });
        self.follow();
    }

    /// A host whose one ENI has this address, and these groups. It says nothing by itself.
    pub(crate) fn host(&self, subnet: &str, address: &str, groups: &[&str]) -> Host {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let eni = AttachedEni {
            id: format!("eni-{number:017x}").parse::<EniId>().unwrap(),
            mac: Mac([0x0a, 0x11, 0x22, 0x33, high, low]),
            subnet: id_for(subnet),
            device: DeviceIndex(0),
            card: CardIndex(0),
            addresses: EniAddresses {
                primary: ip(address),
                secondary: BTreeSet::new(),
                prefixes: BTreeSet::new(),
                public: std::collections::BTreeMap::new(),
            },
            groups: groups.iter().map(|name| group(name)).collect(),
            source_dest_check: true,
            interface_type: "interface".to_owned(),
        };
        Host::attach(self, eni)
    }

    pub(crate) fn status(&self) -> FabricStatus {
        self.fabric.status()
    }

    /// Sends, and waits until the packet has come to a host or was counted as dropped.
    #[track_caller]
    pub(crate) fn outcome(&self, from: &Host, frame: Frame, to: &Host) -> Outcome {
        let before = counters(&self.status());
        let serial = from.send(frame);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if to.got(serial) {
                return Outcome::Passes;
            }
            let now = counters(&self.status());
            if let Some(((why, _), _)) = now.iter().zip(&before).find(|((_, now), (_, before))| now > before) {
                return *why;
            }
            assert!(Instant::now() < deadline, "{frame:?}: neither arrived nor counted");
        }
    }
}

/// What a frame says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Says {
    Udp(u16, u16),
    /// Ports and flags.
    Syn(u16, u16),
    SynAck(u16, u16),
    Ack(u16, u16),
    Echo(u16),
    EchoReply(u16),
    /// "Port unreachable" about a UDP datagram: its source, destination and ports.
    Unreachable(Ipv4Addr, Ipv4Addr, u16, u16),
    /// "Time exceeded" about a TCP segment: the same.
    Exceeded(Ipv4Addr, Ipv4Addr, u16, u16),
    /// Another protocol.
    Protocol(u8),
}

/// A packet; the sender's MAC is its own unless another one is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) says: Says,
    pub(crate) mac: Option<Mac>,
    pub(crate) ttl: u8,
}

impl Frame {
    pub(crate) fn new(source: &str, destination: &str, says: Says) -> Self {
        Self { source: ip(source), destination: ip(destination), says, mac: None, ttl: 64 }
    }

    fn bytes(&self, mac: Mac, router: Mac, serial: u16) -> Vec<u8> {
        let (source, destination) = (self.source.octets(), self.destination.octets());
        let mut header = Ipv4Header::new(0, self.ttl, IpNumber::UDP, source, destination).unwrap();
        header.identification = serial;
        let packet =
            PacketBuilder::ethernet2(mac.0, router.0).ip(etherparse::IpHeaders::Ipv4(header, Default::default()));
        let mut bytes = Vec::new();
        let payload = [0x5a; 8];
        let written = match self.says {
            Says::Udp(from, to) => packet.udp(from, to).write(&mut bytes, &payload),
            Says::Syn(from, to) => packet.tcp(from, to, 100, 64_000).syn().write(&mut bytes, &[]),
            Says::SynAck(from, to) => packet.tcp(from, to, 500, 64_000).syn().ack(101).write(&mut bytes, &[]),
            Says::Ack(from, to) => packet.tcp(from, to, 101, 64_000).ack(501).write(&mut bytes, &[]),
            Says::Echo(id) => packet.icmpv4_echo_request(id, 1).write(&mut bytes, &payload),
            Says::EchoReply(id) => packet.icmpv4_echo_reply(id, 1).write(&mut bytes, &payload),
            Says::Unreachable(source, destination, from, to) => {
                let kind = Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
                let mut quoted = Vec::new();
                quote(IpNumber::UDP, source, destination).write(&mut quoted).unwrap();
                UdpHeader { source_port: from, destination_port: to, length: 16, checksum: 0 }
                    .write(&mut quoted)
                    .unwrap();
                packet.icmpv4(kind).write(&mut bytes, &quoted)
            }
            Says::Exceeded(source, destination, from, to) => {
                let kind = Icmpv4Type::TimeExceeded(etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit);
                let mut quoted = Vec::new();
                quote(IpNumber::TCP, source, destination).write(&mut quoted).unwrap();
                TcpHeader::new(from, to, 100, 64_000).write(&mut quoted).unwrap();
                packet.icmpv4(kind).write(&mut bytes, &quoted)
            }
            Says::Protocol(number) => packet.write(&mut bytes, IpNumber(number), &payload),
        };
        written.unwrap();
        bytes
    }
}

fn quote(protocol: IpNumber, source: Ipv4Addr, destination: Ipv4Addr) -> Ipv4Header {
    Ipv4Header::new(20, 63, protocol, source.octets(), destination.octets()).unwrap()
}

/// A machine with one ENI.
pub(crate) struct Host {
    pub(crate) eni: AttachedEni,
    pub(crate) network: Netns,
    wire: OwnedFd,
    arrivals: Capture,
    router: Mac,
}

impl Host {
    fn attach(vpc: &Vpc, eni: AttachedEni) -> Self {
        let network = Netns::create().unwrap();
        link_up(&network, "lo").unwrap();
        vpc.fabric.attach(&eni, &network, &"eth0".parse().unwrap()).unwrap_or_else(|e| panic!("{e}"));
        link_up(&network, "eth0").unwrap();
        let status = vpc.status();
        let port = status.ports.iter().find(|port| port.eni == eni.id).unwrap();
        let port: vpc_model::LinkName = port.link.parse().unwrap();
        let router = Rtnl::open().unwrap().link(&port).unwrap().mac.unwrap();
        let open = || network.enter(|| open_socket("eth0")).unwrap().unwrap();
        Self { wire: open(), arrivals: Capture::start(open()).unwrap(), eni, network, router }
    }

    /// Gives the host the ENI's primary address and a default route: from now on it answers by itself.
    pub(crate) fn awake(self, vpc: &Vpc) -> Self {
        let subnet = vpc.plan.subnets[&self.eni.subnet].cidr;
        let mut inside = Rtnl::open_in(&self.network).unwrap();
        let eth0 = inside.link(&"eth0".parse::<vpc_model::LinkName>().unwrap()).unwrap().index;
        let address = Ipv4Net::new(self.eni.addresses.primary, subnet.net().prefix_len()).unwrap();
        inside.add_address(&Address::new(eth0, address)).unwrap();
        let everywhere = KernelRoute::through(RouteTable::MAIN, Ipv4Net::default(), subnet.gateway(), eth0);
        inside.replace_route(&everywhere).unwrap();
        self
    }

    /// The ENI changes; the fabric hears of it.
    pub(crate) fn change(&mut self, vpc: &Vpc, change: impl FnOnce(&mut AttachedEni)) {
        change(&mut self.eni);
        vpc.fabric.change(&self.eni).unwrap_or_else(|e| panic!("{e}"));
    }

    pub(crate) fn with_addresses(mut self, vpc: &Vpc, secondary: &[&str], prefixes: &[&str]) -> Self {
        self.change(vpc, |eni| {
            eni.addresses.secondary = secondary.iter().map(|text| ip(text)).collect();
            eni.addresses.prefixes = prefixes.iter().map(|text| Prefix28::containing(ip(text))).collect();
        });
        self
    }

    /// Sends; the number the packet has.
    pub(crate) fn send(&self, frame: Frame) -> u16 {
        static SERIAL: AtomicU16 = AtomicU16::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let bytes = frame.bytes(frame.mac.unwrap_or(self.eni.mac), self.router, serial);
        assert_eq!(send(self.wire.as_raw_fd(), &bytes, MsgFlags::empty()), Ok(bytes.len()));
        serial
    }

    /// Whether the packet with that number has come.
    pub(crate) fn got(&self, serial: u16) -> bool {
        let is = |packet: &Packet| !packet.outgoing && packet.bytes.get(18..20) == Some(&serial.to_be_bytes()[..]);
        self.arrivals.packets().iter().any(|packet| is(packet) && packet.ipv4().is_some())
    }

    /// Waits for any packet.
    #[track_caller]
    pub(crate) fn expect(&self, wanted: impl Fn(&Packet) -> bool) -> Packet {
        self.arrivals.wait_for(PATIENCE, |packet| !packet.outgoing && wanted(packet)).expect("it comes")
    }

    /// Whether any such packet has come.
    pub(crate) fn any(&self, wanted: impl Fn(&Packet) -> bool) -> bool {
        self.arrivals.packets().iter().any(|packet| !packet.outgoing && wanted(packet))
    }

    pub(crate) fn forget(&self) {
        self.arrivals.clear();
    }
}
