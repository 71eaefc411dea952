//! What every history keeps: the books against a naive model, packing, counters, and a planner that comes to rest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod paper;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use paper::{NONE, Paper, id, key};
use proptest::prelude::*;
use vpc_ipam::{Action, EniRole, EniUse, PoolEni, Retired, SlotState, Stats, Taken, Unit, WarmTarget};
use vpc_model::{EniId, Millis, PodRef, Slot, Time};

#[derive(Clone, Debug)]
enum Step {
    Take(u8),
    Release(u8),
    Pass(u64),
    Plan,
    /// ENI by place, one of its positions, what becomes of it.
    Mark(u8, usize, SlotState),
    Use(u8, EniUse),
    Role(u8, EniRole),
    Fragmented(u8),
    Whole(u8),
    Forget,
    SetTarget(Unit, WarmTarget),
}

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof![Just(Unit::Address), Just(Unit::Prefix)]
}

fn warm() -> impl Strategy<Value = WarmTarget> {
    prop_oneof![
        (0u32..3).prop_map(WarmTarget::Enis),
        (0u32..4).prop_map(WarmTarget::Prefixes),
        (1u32..20, 0u32..40).prop_map(|(warm, minimum)| WarmTarget::Addresses { warm, minimum }),
        (1u32..40).prop_map(|minimum| WarmTarget::Addresses { warm: 0, minimum }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let state = prop_oneof![
        3 => Just(SlotState::Held), 1 => Just(SlotState::Missing), 1 => Just(SlotState::Unconfirmed), 1 => Just(SlotState::Leaving)
    ];
    let usage = prop_oneof![3 => Just(EniUse::Ready), 1 => Just(EniUse::SettingUp), 1 => Just(EniUse::Doubtful)];
    let role = prop_oneof![2 => Just(EniRole::Pods), 1 => Just(EniRole::Retired(Retired::SubnetExcluded))];
    prop_oneof![
        14 => (0u8..60).prop_map(Step::Take),
        9 => (0u8..60).prop_map(Step::Release),
        4 => (0u64..40_000).prop_map(Step::Pass),
        6 => Just(Step::Plan),
        1 => (0u8..3, 0usize..9, state).prop_map(|(eni, slot, state)| Step::Mark(eni, slot, state)),
        1 => (0u8..3, usage).prop_map(|(eni, usage)| Step::Use(eni, usage)),
        1 => (0u8..3, role).prop_map(|(eni, role)| Step::Role(eni, role)),
        1 => (0u8..3).prop_map(Step::Fragmented),
        1 => (0u8..3).prop_map(Step::Whole),
        1 => Just(Step::Forget),
        1 => (unit(), warm()).prop_map(|(unit, warm)| Step::SetTarget(unit, warm)),
    ]
}

/// Plain maps, and everything looked at anew each time.
#[derive(Default)]
struct Naive {
    owners: BTreeMap<u8, Ipv4Addr>,
    rests: BTreeMap<Ipv4Addr, Time>,
}

impl Naive {
    fn is_used(&self, address: Ipv4Addr) -> bool {
        self.rests.contains_key(&address) || self.owners.values().any(|held| *held == address)
    }

    fn on(&self, slot: Slot) -> (u32, u32) {
        let held = self.owners.values().filter(|address| slot.contains(**address)).count() as u32;
        (held, self.rests.keys().filter(|address| slot.contains(**address)).count() as u32)
    }

    /// The address that packing gives next.
    fn next(&self, paper: &Paper) -> Option<Ipv4Addr> {
        let mut best = None;
        for eni in paper.pool.enis().filter(|eni| eni.takes_pods()) {
            let on_eni: u32 = eni.positions().map(|slot| self.on(slot).0).sum();
            for (slot, _) in eni.slots.iter().filter(|(_, state)| **state == SlotState::Held) {
                let Some(free) = slot.addresses().find(|address| !self.is_used(*address)) else { continue };
                let (held, cooling) = self.on(*slot);
                let foreign = Unit::of(*slot) != paper.target.unit;
                let fullness = (u32::MAX - held, u32::MAX - cooling, u32::MAX - on_eni);
                let rank = (foreign, fullness, eni.facts.device, *slot, free);
                best = best.filter(|best| *best < rank).or(Some(rank));
            }
        }
        best.map(|(.., address)| address)
    }

    fn stats(&self, paper: &Paper) -> (u32, u32, u32, u32, u32) {
        let (mut total, mut held, mut cooling, mut ready, mut setting_up) = (0, 0, 0, 0, 0);
        for eni in paper.pool.enis().filter(|eni| eni.role == EniRole::Pods) {
            if !matches!(eni.usage, EniUse::Ready | EniUse::SettingUp) {
                continue;
            }
            for (slot, _) in eni.slots.iter().filter(|(_, state)| **state == SlotState::Held) {
                let (pods, rests) = self.on(*slot);
                (total, held, cooling) = (total + slot.size(), held + pods, cooling + rests);
                let free = slot.size() - pods - rests;
                if eni.usage == EniUse::Ready { ready += free } else { setting_up += free }
            }
        }
        (total, held, cooling, ready, setting_up)
    }
}

fn pod(n: u8) -> vpc_model::SandboxKey {
    key(&n.to_string())
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut paper = Paper::read("m5.large WARM_ENI=1", "E0");
    let mut naive = Naive::default();
    for step in steps {
        match step {
            Step::Take(n) => {
                let expected = naive.next(&paper);
                match paper.pool.take(&pod(n), &PodRef::default(), paper.now, paper.target.unit, &NONE) {
                    Taken::Already(at) => prop_assert_eq!(naive.owners.get(&n), Some(&at.address)),
                    Taken::Fresh(at) => {
                        prop_assert_eq!(Some(at.address), expected, "packing");
                        prop_assert!(!naive.is_used(at.address), "second owner, or it rests");
                        prop_assert!(naive.owners.insert(n, at.address).is_none());
                        let (eni, _) = paper.pool.locate(at.address).unwrap();
                        prop_assert_eq!((eni.facts.device, eni.facts.table()), (at.device, at.table));
                    }
                    Taken::None => prop_assert!(expected.is_none() && !naive.owners.contains_key(&n)),
                }
            }
            Step::Release(n) => {
                let rest = paper.target.cool_down;
                let released = paper.pool.release(&pod(n), paper.now, rest);
                prop_assert_eq!(released.map(|r| r.held.allocation.address), naive.owners.get(&n).copied());
                if let Some(address) = naive.owners.remove(&n) {
                    naive.rests.insert(address, paper.now + rest);
                }
            }
            Step::Pass(ms) => {
                paper.pass(Millis(ms));
                naive.rests.retain(|_, until| *until > paper.now);
            }
            Step::Plan => {
                let actions = paper.plan().actions;
                for action in &actions {
                    let slots: Vec<Slot> = match action {
                        Action::Release { slots, .. } => slots.clone(),
                        Action::ReleaseEni { eni } => paper.pool.eni(eni).unwrap().positions().collect(),
                        Action::Assign { .. } | Action::NewEni { .. } => vec![],
                    };
                    prop_assert!(slots.iter().all(|slot| naive.on(*slot) == (0, 0)), "in use: {:?}", action);
                }
                paper.carry_out(&actions);
            }
            Step::Mark(eni, nth, state) => {
                let slot = paper.pool.eni(&id(eni)).and_then(|eni| eni.positions().nth(nth));
                slot.into_iter().for_each(|slot| paper.pool.set_slot(&id(eni), slot, state).unwrap());
            }
            Step::Use(eni, usage) => drop(paper.pool.set_use(&id(eni), usage)),
            Step::Role(eni, role) => drop(paper.pool.set_role(&id(eni), role, false)),
            Step::Fragmented(eni) => drop(paper.pending.single_only.insert(id(eni))),
            Step::Whole(eni) => drop(paper.pending.single_only.remove(&id(eni))),
            Step::Forget => {
                let missing = |(slot, state): (&Slot, &SlotState)| (*state == SlotState::Missing).then_some(*slot);
                let missing = |eni: &PoolEni| (eni.facts.id.clone(), eni.slots.iter().filter_map(missing).collect());
                let all: Vec<(EniId, Vec<Slot>)> = paper.pool.enis().map(missing).collect();
                for (eni, slot) in
                    all.into_iter().flat_map(|(eni, slots)| slots.into_iter().map(move |s| (eni.clone(), s)))
                {
                    prop_assert_eq!(paper.pool.forget_slot(&eni, slot).is_ok(), naive.on(slot) == (0, 0));
                }
            }
            Step::SetTarget(unit, warm) => {
                (paper.target.unit, paper.target.warm, paper.pending.new_eni) = (unit, warm, Some(unit));
            }
        }
        prop_assert_eq!(paper.pool.audit(), vec![]);
        let Stats { total, held, cooling, ready, setting_up, pods, resting, .. } = paper.pool.stats();
        prop_assert_eq!((total, held, cooling, ready, setting_up), naive.stats(&paper));
        prop_assert_eq!((pods as usize, resting as usize), (naive.owners.len(), naive.rests.len()));
        prop_assert_eq!(paper.pool.next_rest_end(), naive.rests.values().min().copied());
    }
    Ok(())
}

/// Settings and state of a pool in any condition: positions of both units, pods and rests here and there, in any mode.
fn any_node() -> impl Strategy<Value = (String, String)> {
    let warm = prop_oneof![
        (0u32..3).prop_map(|n| format!("WARM_ENI={n}")),
        (0u32..4).prop_map(|n| format!("WARM_PREFIX={n}")),
        (1u32..20, 0u32..40).prop_map(|(warm, minimum)| format!("WARM_IP={warm} MIN_IP={minimum}")),
        (1u32..40).prop_map(|minimum| format!("MIN_IP={minimum}")),
    ];
    let mode = prop_oneof![Just(""), Just("PD"), Just("PD eni_of_singles")];
    let limits = (proptest::option::of(1u32..60), 1u32..4, 0u32..2).prop_map(|(max_pods, max_enis, foreign)| {
        let max_pods = max_pods.map_or("max_pods=999".into(), |max| format!("max_pods={max}"));
        format!("{max_pods} MAX_ENI={max_enis} foreign={foreign}")
    });
    let kind = proptest::sample::select(vec![
        "",
        "",
        "",
        "",
        "retired",
        "setting_up",
        "young",
        "keep",
        "doubtful",
        "missing=1",
        "unconfirmed=1",
        "single_only",
        "single_only",
    ]);
    let eni = (0u32..5, 0u32..5, proptest::collection::vec(0u32..17, 0..5), 0u32..3, kind);
    let text = |(singles, held, prefixes, rests, kind): &(u32, u32, Vec<u32>, u32, &str)| {
        let prefixes: Vec<String> = prefixes.iter().map(u32::to_string).collect();
        format!("{singles}/{} [{}] rest={rests} {kind}", held.min(singles), prefixes.join(","))
    };
    let state = proptest::collection::vec(eni, 1..4).prop_map(move |enis| {
        let enis = enis.iter().enumerate().map(|(at, eni)| format!("E{at} {}", text(eni)));
        enis.collect::<Vec<_>>().join("; ")
    });
    ((mode, warm, limits).prop_map(|(mode, warm, limits)| format!("m5.large {mode} {warm} {limits}")), state)
}

proptest! {
    #[test]
    fn books_agree_with_a_naive_model(steps in proptest::collection::vec(step(), 1..150)) {
        run(steps)?;
    }

    /// From any state, with any demand, the planner comes to rest, and then has nothing to say, now or later.
    #[test]
    fn planning_comes_to_rest((settings, state) in any_node(), waiting in 0u32..40, expected in 0u32..20) {
        let mut paper = Paper::read(&settings, &state);
        (paper.demand.waiting, paper.demand.expected) = (waiting, expected);
        paper.serve();
        let rounds = paper.settle();
        let plan = paper.plan();
        prop_assert_eq!((&plan.actions, plan.again_at), (&vec![], None));
        prop_assert!(rounds.len() <= 12, "{} rounds: {:?}", rounds.len(), rounds);
        prop_assert_eq!(paper.pool.audit(), vec![]);
        // When the rests are over there may be more to do; that ends too.
        paper.pass(Millis::seconds(3600));
        prop_assert!(paper.settle().len() <= 12);
        prop_assert_eq!(paper.plan().actions, vec![]);
    }

    /// What has been given back is not fetched again: no position of that unit, and no ENI for one that was idle.
    #[test]
    fn nothing_is_given_back_and_fetched_again((settings, state) in any_node()) {
        let mut paper = Paper::read(&settings, &state);
        let retired: BTreeSet<_> =
            paper.pool.enis().filter(|eni| eni.role != EniRole::Pods).map(|eni| eni.facts.id.clone()).collect();
        let rounds = paper.settle();
        let (mut given_back, mut eni_went) = (BTreeSet::new(), false);
        for actions in rounds {
            for action in actions {
                match action {
                    Action::Release { slots, .. } => drop(given_back.insert(Unit::of(slots[0]))),
                    Action::ReleaseEni { eni } => eni_went |= !retired.contains(&eni),
                    Action::NewEni { .. } if eni_went => prop_assert!(false, "an ENI given back, then another made"),
                    Action::Assign { unit, .. } | Action::NewEni { unit, .. } => {
                        prop_assert!(!given_back.contains(&unit), "{:?} given back, then fetched", unit);
                    }
                }
            }
        }
    }
}
