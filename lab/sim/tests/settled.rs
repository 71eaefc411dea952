//! The rules of a quiet node: a row or a line for every kind of target, in both units, and for every limit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lab_sim::{EniLoad, Load, Room, Rules, Standing, Unsettled, expected, unsettled};
use vpc_ipam::{Unit, WarmTarget};

const ANY: u32 = u32::MAX;

fn rules(unit: Unit, warm: WarmTarget) -> Rules {
    Rules {
        unit,
        warm,
        max_enis: 3,
        slots_per_eni: 9,
        max_pods: None,
        may_fetch: true,
        may_fetch_ahead: true,
        may_give_back: true,
        new_eni_in: subnet(),
        new_eni: Room::PLENTY,
    }
}

fn few(warm: u32, minimum: u32) -> WarmTarget {
    WarmTarget::Addresses { warm, minimum }
}

fn subnet() -> vpc_model::SubnetId {
    "subnet-1".parse().unwrap()
}

/// ENIs by their single addresses and the pods on them; the first is the primary one.
fn singles(enis: &[(u32, u32)]) -> Load {
    let positions = |(all, held): &(u32, u32)| (0..*all).map(|n| (Unit::Address, u32::from(n < *held))).collect();
    of(enis.iter().map(positions).collect())
}

/// ENIs by the pods on each of their prefixes.
fn prefixes(enis: &[&[u32]]) -> Load {
    of(enis.iter().map(|pods| pods.iter().map(|pods| (Unit::Prefix, *pods)).collect()).collect())
}

fn of(enis: Vec<Vec<(Unit, u32)>>) -> Load {
    let enis = enis.into_iter().enumerate().map(|(at, positions)| EniLoad {
        stays: at == 0,
        standing: Standing::Pods,
        positions,
        robbed: 0,
        subnet: subnet(),
        room: Room::PLENTY,
    });
    Load { enis: enis.collect(), ..Load::default() }
}

/// Name, unit, target, load; least and most free addresses.
type Row = (&'static str, Unit, WarmTarget, Load, (u32, u32));

#[test]
fn free_addresses_of_every_target() {
    use Unit::{Address, Prefix};
    use WarmTarget::{Enis, Prefixes};
    let rows: &[Row] = &[
        ("case 2", Address, Enis(1), singles(&[(9, 0)]), (9, ANY)),
        ("case 12: one is enough for 0", Address, Enis(0), singles(&[(9, 8)]), (1, ANY)),
        ("case 15", Address, Enis(2), singles(&[(9, 0)]), (18, ANY)),
        ("case 6: no place", Address, Enis(1), singles(&[(9, 9), (9, 9), (9, 1)]), (8, ANY)),
        ("case 21", Address, few(5, 0), singles(&[(7, 2)]), (5, 5)),
        ("case 26", Address, few(2, 10), singles(&[(9, 6), (5, 0)]), (4, 4)),
        ("case 27: the minimum is held by pods", Address, few(0, 10), singles(&[(9, 9), (1, 1)]), (0, 0)),
        ("both 0 is nothing ahead", Address, few(0, 0), singles(&[(3, 3)]), (0, 0)),
        ("P1", Prefix, Prefixes(1), prefixes(&[&[]]), (16, 16)),
        ("P2: a started one and a free one", Prefix, Prefixes(1), prefixes(&[&[5, 0]]), (16, 27)),
        (
            "case 50: two started ones are enough, a free one may stay",
            Prefix,
            Prefixes(1),
            prefixes(&[&[1, 1]]),
            (16, 46),
        ),
        ("case 51", Prefix, Prefixes(1), prefixes(&[&[1, 0, 0]]), (16, 31)),
        ("case 54: 0 keeps the one it has", Prefix, Prefixes(0), prefixes(&[&[0]]), (1, 16)),
        ("case 57", Prefix, few(1, 0), prefixes(&[&[3, 0, 0]]), (1, 13)),
        ("case 58", Prefix, few(5, 20), prefixes(&[&[0, 0, 0]]), (20, 32)),
        ("case 59: fragments stay", Prefix, few(1, 0), prefixes(&[&[1, 1, 1]]), (1, 45)),
    ];
    for (name, unit, warm, load, (least, most)) in rows {
        assert_eq!(expected(&rules(*unit, *warm), load).free, *least..=*most, "{name}");
    }
}

#[test]
fn what_keeps_a_node_below_its_target() {
    let load = singles(&[(9, 9), (9, 9)]);
    let full = rules(Unit::Address, WarmTarget::Enis(1));
    let least = |change: &dyn Fn(&mut Rules, &mut Load)| {
        let (mut rules, mut load) = (full.clone(), load.clone());
        change(&mut rules, &mut load);
        *expected(&rules, &load).free.start()
    };
    assert_eq!(least(&|_, _| ()), 9);
    assert_eq!(least(&|rules, _| rules.max_enis = 2), 0, "MAX_ENI");
    assert_eq!(least(&|rules, _| rules.max_pods = Some(20)), 2, "pods the node may run");
    assert_eq!(least(&|rules, _| rules.max_pods = Some(18)), 0, "case 19");
    assert_eq!(least(&|rules, _| rules.may_fetch_ahead = false), 0, "not schedulable, or EC2 is not to be changed");
    assert_eq!(least(&|rules, _| rules.new_eni = Room::default()), 0, "no subnet");
    assert_eq!(
        least(&|rules, _| rules.new_eni = Room { addresses: 4, prefixes: 0 }),
        3,
        "a subnet with four: the ENI has one itself"
    );
    let foreign = |load: &mut Load| {
        load.enis.push(EniLoad { standing: Standing::Foreign, positions: vec![], ..load.enis[0].clone() });
    };
    assert_eq!(least(&|_, load| foreign(load)), 0, "case 39");
    // Custom networking: the primary ENI has a place and takes no pods.
    let custom = |load: &mut Load| {
        load.enis = singles(&[(0, 0), (9, 9), (9, 9)]).enis;
        load.enis[0].standing = Standing::Retired;
    };
    assert_eq!(least(&|_, load| custom(load)), 0, "case 42");
}

#[test]
fn what_is_too_much() {
    let (eni, ten) = (rules(Unit::Address, WarmTarget::Enis(1)), rules(Unit::Address, few(2, 10)));
    let enis = |rules: &Rules, load: &Load| *expected(rules, load).enis.end();
    assert_eq!(enis(&eni, &singles(&[(9, 8), (9, 0), (9, 0)])), 2, "case 7");
    assert_eq!(enis(&eni, &singles(&[(9, 9), (9, 1), (9, 0)])), 3, "case 8");
    assert_eq!(enis(&eni, &singles(&[(9, 0), (0, 0)])), 1, "an ENI without anything");
    assert_eq!(enis(&ten, &singles(&[(9, 6), (1, 0)])), 2, "case 25");
    let mut kept = singles(&[(9, 0), (9, 0)]);
    assert_eq!(enis(&eni, &kept), 1);
    kept.enis[1].stays = true;
    assert_eq!(enis(&eni, &kept), 2, "an EFA");
    kept.enis[1] = EniLoad { stays: false, standing: Standing::Retired, ..kept.enis[1].clone() };
    assert_eq!(enis(&eni, &kept), 1, "one that takes no pods");
    assert_eq!(enis(&Rules { may_give_back: false, ..eni.clone() }, &kept), 2, "no-release");
    // A mode switch: what the node does not grow in goes, but for pods.
    let mut mixed = singles(&[(9, 2)]);
    mixed.enis[0].positions.push((Unit::Prefix, 0));
    let left = unsettled(&rules(Unit::Prefix, WarmTarget::Prefixes(1)), &mixed);
    assert_eq!(left, [Unsettled::Leftovers { found: 7, expected: 0..=0 }]);
    assert_eq!(left[0].to_string(), "7 positions serve nobody, 0 expected");
}

#[test]
fn a_pod_waits_only_where_nothing_can_be_had() {
    let eni = rules(Unit::Address, WarmTarget::Enis(1));
    let mut load = singles(&[(9, 9), (9, 9)]);
    load.waiting = 1;
    assert_eq!(expected(&eni, &load).waiting, 0..=0);
    assert_eq!(expected(&Rules { max_enis: 2, ..eni.clone() }, &load).waiting, 0..=ANY);
    assert_eq!(expected(&Rules { may_fetch: false, ..eni.clone() }, &load).waiting, 0..=ANY);
    // A cordoned node serves who is bound to it.
    assert_eq!(expected(&Rules { may_fetch_ahead: false, may_give_back: false, ..eni }, &load).waiting, 0..=0);
}
