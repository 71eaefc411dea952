//! How long the pool takes: `cargo run --release -p vpc-ipam --example speed`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use vpc_ipam::{
    Demand, EniFacts, EniRole, EniUse, Pending, Pool, PoolEni, SlotState, Taken, Target, Unit, WarmTarget, plan,
};
use vpc_model::{CardIndex, DeviceIndex, Ipv4Net, Mac, Millis, PodRef, Prefix28, SandboxKey, Slot, Subnet, Time};

const ROUNDS: u32 = 20_000;

fn main() {
    speed("15 ENIs of 49 addresses, 735 pods", Unit::Address, 15, 49, 735);
    speed("1 ENI of 50 prefixes, 735 pods", Unit::Prefix, 1, 50, 735);
}

fn speed(what: &str, unit: Unit, enis: u8, slots: u32, pods: u32) {
    let mut pool = Pool::default();
    (0..enis).for_each(|device| pool.adopt(eni(device, unit, slots)).unwrap());
    let (pod, none) = (PodRef { namespace: "default".into(), name: "web-0123456789-abcde".into() }, BTreeSet::new());
    for n in 0..pods - 1 {
        assert!(matches!(pool.take(&key(n), &pod, Time(0), unit, &none), Taken::Fresh(_)));
    }
    let target = Target {
        unit,
        warm: WarmTarget::Addresses { warm: 1, minimum: 0 },
        max_enis: enis.into(),
        slots_per_eni: slots,
        max_pods: Some(pods),
        cool_down: Millis(0),
        min_eni_age: Millis::seconds(60),
        release_every: Millis::seconds(30),
    };
    let last = key(pods);
    println!("{what}");
    time("take + release + end of rest", || {
        pool.take(&last, &pod, Time(0), unit, &none);
        pool.release(&last, Time(0), Millis(0));
        pool.end_rests(Time(0));
    });
    assert!(matches!(pool.take(&last, &pod, Time(0), unit, &none), Taken::Fresh(_)));
    time("stats", || _ = black_box(pool.stats()));
    time("plan, nothing to do", || {
        _ = black_box(plan(&target, &pool, &Pending::default(), Demand::default(), Time(0)));
    });
    let waiting = Demand { waiting: 100, ..Demand::default() };
    time("plan, 100 pods wait", || _ = black_box(plan(&target, &pool, &Pending::default(), waiting, Time(0))));
    let address = pool.of(&last).unwrap().allocation.address;
    time("locate", || _ = black_box(pool.locate(address)));
    time("take again (idempotent)", || _ = black_box(pool.take(&last, &pod, Time(0), unit, &none)));
}

fn time(what: &str, mut work: impl FnMut()) {
    (0..ROUNDS / 10).for_each(|_| work());
    let begin = Instant::now();
    (0..ROUNDS).for_each(|_| work());
    println!("  {what:<30} {:>7.3} us", begin.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
}

fn key(n: u32) -> SandboxKey {
    SandboxKey { network: "aws-cni".into(), container: format!("{n:064x}"), interface: "eth0".into() }
}

fn eni(device: u8, unit: Unit, count: u32) -> PoolEni {
    let subnet = Ipv4Addr::from_bits(0x0a00_0000 + u32::from(device) * 0x1_0000);
    let slot = |n: u32| match unit {
        Unit::Address => Slot::Address(Ipv4Addr::from_bits(subnet.to_bits() + 16 + n)),
        Unit::Prefix => Slot::Prefix(Prefix28::containing(Ipv4Addr::from_bits(subnet.to_bits() + 16 + n * 16))),
    };
    let slots: BTreeMap<Slot, SlotState> = (0..count).map(|n| (slot(n), SlotState::Held)).collect();
    let facts = EniFacts {
        id: format!("eni-0123456789abcdef{device:x}").parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, device]),
        card: CardIndex(0),
        device: DeviceIndex(device),
        subnet: Subnet::try_from(Ipv4Net::new(subnet, 16).unwrap()).unwrap(),
        subnet_id: None,
        primary: Ipv4Addr::from_bits(subnet.to_bits() + 5),
    };
    let (usage, role) = (EniUse::Ready, EniRole::Pods);
    PoolEni { facts, attachment: None, since: Time(0), usage, role, keep: false, slots }
}
