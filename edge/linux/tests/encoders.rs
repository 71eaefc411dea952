//! Our messages, decoded by a crate that is not ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope as TheirScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction as TheirAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use vpc_hostnet::{Mark, RouteScope};
use vpc_linux::rtnl::{addr, link, neigh, route, rule};
use vpc_linux::{
    Address, LinkChange, LinkRef, NeighSpec, Netns, PROTOCOL, Request, RouteKind, RouteSpec, RuleAction, RuleSpec,
    VethPeer, VethSpec,
};
use vpc_model::{Ipv4Net, LinkName, Mac, RouteTable};

const CREATE: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE) as u16;
const EXCL: u16 = libc::NLM_F_EXCL as u16;
const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const PLAIN: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
const SEQUENCE: u32 = 0x0102_0304;

/// The message as the other crate reads it: flags and content.
fn decoded(request: &Request) -> (u16, RouteNetlinkMessage) {
    let bytes = request.to_bytes(SEQUENCE);
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).unwrap();
    assert_eq!((message.header.sequence_number, message.header.length as usize), (SEQUENCE, bytes.len()));
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => (message.header.flags, inner),
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn new_link(request: &Request) -> (u16, LinkMessage) {
    match decoded(request) {
        (flags, RouteNetlinkMessage::NewLink(message)) => (flags, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_veth_pair_with_its_peer_elsewhere() {
    let elsewhere = Netns::current().unwrap();
    let spec = VethSpec {
        name: name("eni0761ccbeace"),
        index: None,
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: Some(9001),
        up: true,
        alias: Some("not sent with it".to_owned()),
        link_local: true,
        peer: VethPeer {
            name: name("eth0"),
            mac: Some(Mac([2, 0, 0, 0, 0, 2])),
            mtu: Some(8001),
            netns: Some(&elsewhere),
        },
    };
    let (flags, message) = new_link(&link::add_veth(&spec));
    assert_eq!(flags, CREATE | EXCL | libc::NLM_F_ECHO as u16);
    assert_eq!(
        (message.header.index, message.header.flags, message.header.change_mask),
        (0, LinkFlags::Up, LinkFlags::Up)
    );
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName("eth0".to_owned()),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, 2]),
        LinkAttribute::Mtu(8001),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::NetNsFd(elsewhere.as_raw_fd()),
    ];
    assert_eq!(
        message.attributes,
        [
            LinkAttribute::IfName("eni0761ccbeace".to_owned()),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::Mtu(9001),
            LinkAttribute::NumTxQueues(1),
            LinkAttribute::NumRxQueues(1),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))
            ]),
        ]
    );
}

#[test]
fn changes_of_a_link() {
    let change = LinkChange {
        mtu: Some(1400),
        name: Some(name("eth1")),
        alias: Some("whose".to_owned()),
        group: Some(7),
        master: Some(0),
        ..LinkChange::up()
    };
    let (flags, message) = new_link(&link::set(&LinkRef::Index(5), &change));
    assert_eq!((flags, message.header.index, message.header.flags), (PLAIN, 5, LinkFlags::Up));
    assert_eq!(
        message.attributes,
        [
            LinkAttribute::Mtu(1400),
            LinkAttribute::IfName("eth1".to_owned()),
            LinkAttribute::IfAlias("whose".to_owned()),
            LinkAttribute::Group(7),
            LinkAttribute::Controller(0),
        ]
    );
    let down = LinkChange { up: Some(false), ..LinkChange::default() };
    let (_, message) = new_link(&link::set(&LinkRef::Name(name("eth1")), &down));
    assert_eq!(
        (message.header.index, message.header.flags, message.header.change_mask),
        (0, LinkFlags::empty(), LinkFlags::Up)
    );
    assert_eq!(message.attributes, [LinkAttribute::IfName("eth1".to_owned())]);
}

#[test]
fn deletions_of_links() {
    let (_, RouteNetlinkMessage::DelLink(one)) = decoded(&link::delete(&LinkRef::Index(9))) else { panic!() };
    assert_eq!((one.header.index, one.attributes.len()), (9, 0));
    let (_, RouteNetlinkMessage::DelLink(group)) = decoded(&link::delete_group(42)) else { panic!() };
    assert_eq!((group.header.index, group.attributes), (0, vec![LinkAttribute::Group(42)]));
}

#[test]
fn addresses() {
    let quiet = Address { no_prefix_route: true, ..Address::new(3, net("10.20.8.4/22")) };
    let (flags, RouteNetlinkMessage::NewAddress(message)) = decoded(&addr::add(&quiet)) else { panic!() };
    assert_eq!(flags, CREATE | EXCL);
    assert_eq!((message.header.family, message.header.prefix_len, message.header.index), (AddressFamily::Inet, 22, 3));
    assert_eq!(message.header.scope, AddressScope::Universe);
    assert_eq!(
        message.attributes,
        [
            AddressAttribute::Local(address("10.20.8.4")),
            AddressAttribute::Address(address("10.20.8.4")),
            AddressAttribute::Flags(AddressFlags::Noprefixroute),
        ]
    );
    let (flags, RouteNetlinkMessage::DelAddress(_)) = decoded(&addr::delete(&quiet)) else { panic!() };
    assert_eq!(flags, PLAIN);
}

fn new_route(request: &Request) -> (u16, RouteMessage) {
    match decoded(request) {
        (flags, RouteNetlinkMessage::NewRoute(message)) => (flags, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn routes() {
    let to = |text: &str| match address(text) {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    };
    let wanted = RouteSpec {
        source: Some("10.20.8.4".parse().unwrap()),
        metric: Some(100),
        onlink: true,
        ..RouteSpec::through(RouteTable(10_101), net("10.99.0.0/16"), "10.20.8.1".parse().unwrap(), 4)
    };
    let (flags, message) = new_route(&route::replace(&wanted));
    assert_eq!(flags, CREATE | REPLACE);
    let head = &message.header;
    assert_eq!((head.destination_prefix_length, head.table, head.kind), (16, 252, RouteType::Unicast));
    assert_eq!((head.scope, head.flags), (TheirScope::Universe, RouteFlags::Onlink));
    assert_eq!(head.protocol, RouteProtocol::from(PROTOCOL));
    assert_eq!(
        message.attributes,
        [
            RouteAttribute::Destination(to("10.99.0.0")),
            RouteAttribute::Gateway(to("10.20.8.1")),
            RouteAttribute::Oif(4),
            RouteAttribute::PrefSource(to("10.20.8.4")),
            RouteAttribute::Priority(100),
            RouteAttribute::Table(10_101),
        ]
    );

    let (flags, message) = new_route(&route::add(&RouteSpec::on_link(RouteTable::MAIN, net("0.0.0.0/0"), 2)));
    assert_eq!((flags, message.header.table, message.header.scope), (CREATE | EXCL, 254, TheirScope::Link));
    assert_eq!(
        message.attributes,
        [RouteAttribute::Oif(2), RouteAttribute::Table(254)],
        "the default route has no destination"
    );

    for (kind, theirs) in [
        (RouteKind::Blackhole, RouteType::BlackHole),
        (RouteKind::Unreachable, RouteType::Unreachable),
        (RouteKind::Prohibit, RouteType::Prohibit),
        (RouteKind::Throw, RouteType::Throw),
    ] {
        let (_, message) = new_route(&route::add(&RouteSpec::ending(RouteTable(2), net("10.1.2.3/8"), kind)));
        assert_eq!(message.header.kind, theirs);
        assert_eq!(message.attributes[0], RouteAttribute::Destination(to("10.0.0.0")), "no host bits");
    }

    let host = RouteSpec { scope: RouteScope::Host, ..RouteSpec::on_link(RouteTable(2), net("10.0.0.1/32"), 2) };
    let (flags, RouteNetlinkMessage::DelRoute(message)) = decoded(&route::delete(&host)) else { panic!() };
    assert_eq!((flags, message.header.scope), (PLAIN, TheirScope::Host));
    assert_eq!(message.header.protocol, RouteProtocol::Unspec, "whoever put it there");
}

fn new_rule(request: &Request) -> (u16, RuleMessage) {
    match decoded(request) {
        (flags, RouteNetlinkMessage::NewRule(message)) => (flags, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules() {
    let wanted = RuleSpec {
        from: Some(net("10.20.8.77/32")),
        to: Some(net("10.20.0.0/16")),
        mark: Some(Mark { value: 0x80, mask: 0xff }),
        iif: Some(name("eni0")),
        ..RuleSpec::lookup(1536, RouteTable(10_101))
    };
    let (flags, message) = new_rule(&rule::add(&wanted));
    assert_eq!(flags, CREATE | EXCL);
    let head = &message.header;
    assert_eq!((head.src_len, head.dst_len, head.table, head.action), (32, 16, 252, TheirAction::ToTable));
    assert_eq!(
        message.attributes,
        [
            RuleAttribute::Destination(address("10.20.0.0")),
            RuleAttribute::Source(address("10.20.8.77")),
            RuleAttribute::Iifname("eni0".to_owned()),
            RuleAttribute::FwMark(0x80),
            RuleAttribute::FwMask(0xff),
            RuleAttribute::Priority(1536),
            RuleAttribute::Table(10_101),
            RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
        ]
    );
    let blackhole = RuleSpec { action: RuleAction::Blackhole, ..RuleSpec::lookup(5, RouteTable(0)) };
    assert_eq!(new_rule(&rule::add(&blackhole)).1.header.action, TheirAction::Blackhole);
    let (flags, RouteNetlinkMessage::DelRule(message)) = decoded(&rule::delete(&wanted)) else { panic!() };
    assert_eq!(flags, PLAIN);
    assert!(
        !message.attributes.iter().any(|attribute| matches!(attribute, RuleAttribute::Protocol(_))),
        "whoever put it there"
    );
}

#[test]
fn neighbours() {
    let pinned = NeighSpec::pinned(3, "169.254.1.1".parse().unwrap(), Mac([2, 0, 0, 0, 0, 1]));
    let (flags, RouteNetlinkMessage::NewNeighbour(message)) = decoded(&neigh::replace(&pinned)) else { panic!() };
    assert_eq!(flags, CREATE | REPLACE);
    assert_eq!((message.header.ifindex, message.header.state), (3, NeighbourState::Permanent));
    assert_eq!(
        message.attributes,
        [
            NeighbourAttribute::Destination(NeighbourAddress::Inet("169.254.1.1".parse().unwrap())),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
        ]
    );
    let proxied = NeighSpec::proxied(3, "10.20.0.1".parse().unwrap());
    let (_, RouteNetlinkMessage::NewNeighbour(message)) = decoded(&neigh::add(&proxied)) else { panic!() };
    assert_eq!((message.header.flags, message.attributes.len()), (NeighbourFlags::Proxy, 1));
    let (_, RouteNetlinkMessage::DelNeighbour(_)) = decoded(&neigh::delete(&pinned)) else { panic!() };
}
