//! The reference's documented tables (single addresses and prefixes), replayed from an empty node to rest: pods on a type with given
//! targets, then how many ENIs, positions and unused addresses the node holds. Where document and formula differ, the formula holds
//! (P10, P15, P16, P20); pods are packed, so that free prefixes stay free.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{NODE, Scene, quiet, sound, story, until_running};
use vpc_ipam::{Unit, WarmTarget};
use vpc_model::Millis;

/// Id, type, target, pods; ENIs, positions, unused addresses.
type Row = (&'static str, &'static str, WarmTarget, u32, usize, usize, u32);

const fn few(warm: u32, minimum: u32) -> WarmTarget {
    WarmTarget::Addresses { warm, minimum }
}

const ENI: WarmTarget = WarmTarget::Enis(1);
const PREFIX: WarmTarget = WarmTarget::Prefixes(1);
const SMALL: &str = "t3.small";
const LARGE: &str = "p3dn.24xlarge";

const SINGLE: [Row; 16] = [
    ("S1", SMALL, ENI, 0, 1, 3, 3),
    ("S2", SMALL, ENI, 5, 3, 9, 4),
    ("S3", SMALL, ENI, 9, 3, 9, 0),
    ("S4", SMALL, few(1, 1), 0, 1, 1, 1),
    ("S5", SMALL, few(1, 1), 5, 2, 6, 1),
    ("S6", SMALL, few(1, 1), 9, 3, 9, 0),
    ("S7", SMALL, few(2, 5), 0, 2, 5, 5),
    ("S8", SMALL, few(2, 5), 5, 3, 7, 2),
    ("S9", SMALL, few(2, 5), 9, 3, 9, 0),
    ("S10", LARGE, ENI, 0, 1, 49, 49),
    ("S11", LARGE, ENI, 3, 2, 98, 95),
    ("S12", LARGE, ENI, 95, 3, 147, 52),
    ("S13", LARGE, few(5, 10), 0, 1, 10, 10),
    ("S14", LARGE, few(5, 10), 7, 1, 12, 5),
    ("S15", LARGE, few(5, 10), 15, 1, 20, 5),
    ("S16", LARGE, few(5, 10), 45, 2, 50, 5),
];

const PREFIXES: [Row; 20] = [
    ("P1", SMALL, PREFIX, 0, 1, 1, 16),
    ("P2", SMALL, PREFIX, 5, 1, 2, 27),
    ("P3", SMALL, PREFIX, 16, 1, 2, 16),
    ("P4", SMALL, PREFIX, 17, 1, 3, 31),
    ("P5", SMALL, PREFIX, 58, 2, 5, 22),
    ("P6", SMALL, few(1, 1), 0, 1, 1, 16),
    ("P7", SMALL, few(1, 1), 5, 1, 1, 11),
    ("P8", SMALL, few(1, 1), 17, 1, 2, 15),
    ("P9", SMALL, few(1, 1), 58, 2, 4, 6),
    ("P10", SMALL, few(7, 20), 0, 1, 2, 32),
    ("P11", SMALL, few(7, 20), 5, 1, 2, 27),
    ("P12", SMALL, few(7, 20), 17, 1, 2, 15),
    ("P13", SMALL, few(7, 20), 58, 2, 5, 22),
    ("P14", LARGE, PREFIX, 0, 1, 1, 16),
    ("P15", LARGE, PREFIX, 3, 1, 2, 29),
    ("P16", LARGE, PREFIX, 95, 1, 7, 17),
    ("P17", LARGE, few(5, 10), 0, 1, 1, 16),
    ("P18", LARGE, few(5, 10), 7, 1, 1, 9),
    ("P19", LARGE, few(5, 10), 15, 1, 2, 17),
    ("P20", LARGE, few(5, 10), 45, 1, 4, 19),
];

fn replay(unit: Unit, rows: &[Row]) {
    let mut wrong = Vec::new();
    for (id, kind, warm, pods, enis, positions, unused) in rows {
        let (warm, all) = (*warm, *pods as usize);
        let change = move |config: &mut vpc_agent::Config| {
            config.target.unit = unit;
            config.target.warm = warm;
            config.target.max_pods = Some(250);
        };
        let mut world = Scene::new(kind).with(change).started();
        world.add_pods(NODE, "p", *pods);
        until_running(&mut world, NODE, all, Millis::seconds(120));
        quiet(&mut world);
        sound(&mut world);
        // EC2's word, not the books': they agree, or the line before would have told.
        let node = world.node(NODE).unwrap();
        let held: Vec<(usize, usize)> =
            node.guest_enis().map(|eni| (eni.addresses.secondary.len(), eni.addresses.prefixes.len())).collect();
        let own: usize = held.iter().map(|(single, prefixes)| single + prefixes).sum();
        let addresses: usize = held.iter().map(|(single, prefixes)| single + prefixes * 16).sum();
        let found = (held.len(), own, addresses - all);
        if found != (*enis, *positions, *unused as usize) {
            wrong.push(format!(
                "{id}: (ENIs, positions, unused) {found:?}, expected {:?}\n{}",
                (enis, positions, unused),
                story(&world)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_documented_tables_of_single_addresses() {
    replay(Unit::Address, &SINGLE);
}

#[test]
fn the_documented_tables_of_prefixes() {
    replay(Unit::Prefix, &PREFIXES);
}
