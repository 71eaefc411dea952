//! Whatever bytes arrive, reading them ends, and never in a panic.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use crate::fuzzing::read_all;
use crate::rtnl::{addr, link, neigh, route, rule};
use crate::{Address, LinkChange, LinkRef, NeighSpec, RouteSpec, RuleSpec};

/// Well-formed messages of every kind, one behind the other.
fn sound() -> Vec<u8> {
    let net = "10.20.0.0/16".parse().unwrap();
    let name: vpc_model::LinkName = "eni0".parse().unwrap();
    let address = "10.20.0.1".parse().unwrap();
    let mac = vpc_model::Mac([2, 0, 0, 0, 0, 1]);
    let requests = [
        link::set(&LinkRef::from(&name), &LinkChange { mtu: Some(9001), alias: Some("x".into()), ..LinkChange::up() }),
        link::set(&LinkRef::Index(3), &LinkChange::conf(&[(crate::ConfKey::RpFilter, 2)])),
        addr::add(&Address::new(3, net)),
        route::add(&RouteSpec::through(vpc_model::RouteTable(10_101), net, address, 3)),
        rule::add(&RuleSpec { from: Some(net), iif: Some(name), ..RuleSpec::lookup(1536, vpc_model::RouteTable(2)) }),
        neigh::replace(&NeighSpec::pinned(3, address, mac)),
    ];
    requests.iter().flat_map(|request| request.to_bytes(7)).collect()
}

#[test]
fn sound_messages_are_all_found() {
    assert_eq!(read_all(&sound()), 6);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(datagram in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_all(&datagram);
    }

    #[test]
    fn damaged_messages_are_read_without_a_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        end in any::<prop::sample::Index>(),
    ) {
        let mut datagram = sound();
        for (at, byte) in damage {
            let at = at.index(datagram.len());
            datagram[at] = byte;
        }
        datagram.truncate(end.index(datagram.len()) + 1);
        let _ = read_all(&datagram);
    }

    #[test]
    fn any_body_under_any_kind_is_read_without_a_panic(
        kind in prop_oneof![16_u16..40, 0xa00_u16..0xa20, 0_u16..4],
        flags in any::<u16>(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut datagram = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        datagram.extend(kind.to_ne_bytes());
        datagram.extend(flags.to_ne_bytes());
        datagram.extend([0; 8]);
        datagram.extend(body);
        prop_assert_eq!(read_all(&datagram), 1);
    }
}
