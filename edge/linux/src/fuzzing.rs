//! Reading in every way there is, for those who try what can arrive: tests here, and the fuzz targets.

use crate::netlink::parse::{Attributes, Incoming, Messages};
use crate::rtnl::{addr, link, neigh, route, rule};
use crate::{conntrack, monitor, nft};

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
