//! Reading in every way there is, for those who try what can arrive: tests here, and the fuzz targets.

use vpc_hostnet::{Filter, Mark, SnatRandom};

use crate::netlink::parse::{Attributes, Incoming, Messages};
use crate::rtnl::{addr, link, neigh, route, rule};
use crate::{Address, LinkChange, LinkRef, NeighSpec, RouteSpec, RuleSpec, conntrack, filter, monitor, nft};

/// Reads a datagram in every way there is; gives the number of messages found.
#[must_use]
pub fn read_all(datagram: &[u8]) -> usize {
    let _ = monitor::events(datagram).count();
    let each = |message: Incoming<'_>| {
        let _ = link::read(message.kind, message.body);
        let _ = (addr::read(&message), route::read(&message).is_some(), rule::read(&message), neigh::read(&message));
        nft::read_any(&message);
        conntrack::read_any(&message);
        let _ = message.verdict();
        let _ = message
            .split(16)
            .map(|(_, attributes)| attributes.map(|(_, inner)| Attributes(inner).count()).sum::<usize>());
    };
    Messages(datagram).map(each).count()
}

/// Well-formed datagrams: a name, how many messages, and the bytes. The kernel says what is there in the messages we ask for it with.
///
/// # Panics
/// Never: all values in it are written here.
#[must_use]
#[allow(clippy::unwrap_used, reason = "values written here")]
pub fn sound() -> Vec<(&'static str, usize, Vec<u8>)> {
    let net = "10.20.0.0/16".parse().unwrap();
    let name: vpc_model::LinkName = "eni0".parse().unwrap();
    let address = "10.20.0.1".parse().unwrap();
    let mac = vpc_model::Mac([2, 0, 0, 0, 0, 1]);
    let up = LinkChange { mtu: Some(9001), alias: Some("x".into()), ..LinkChange::up() };
    let rule =
        RuleSpec { from: Some(net), iif: Some(name.clone()), ..RuleSpec::lookup(1536, vpc_model::RouteTable(2)) };
    let requests = [
        ("link", link::set(&LinkRef::from(&name), &up)),
        ("link-conf", link::set(&LinkRef::Index(3), &LinkChange::conf(&[(crate::ConfKey::RpFilter, 2)]))),
        ("address", addr::add(&Address::new(3, net))),
        ("route", route::add(&RouteSpec::through(vpc_model::RouteTable(10_101), net, address, 3))),
        ("rule", rule::add(&rule)),
        ("neighbour", neigh::replace(&NeighSpec::pinned(3, address, mac))),
    ];
    let mut all: Vec<_> = requests.iter().map(|(name, request)| (*name, 1, request.to_bytes(7))).collect();
    let wanted = Filter {
        primary_link: name,
        primary_address: address,
        veth_prefix: "eni".parse().unwrap(),
        mark: Mark::bits(0x80),
        node_port: true,
        snat: Some(SnatRandom::Prng),
        exempt: vec![net],
    };
    let batch: Vec<Vec<u8>> = nft::datagrams(filter::filter_batch(&wanted));
    all.push(("nftables", batch.len(), batch.concat()));
    all
}
