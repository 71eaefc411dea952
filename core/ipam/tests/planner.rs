//! What the planner does beyond the reference's worked cases, as text: settings, state, answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod paper;

use paper::{NONE, Paper, TICK, id, key};
use vpc_ipam::{Action, Allocation, EniUse, Held, PoolError, SlotState, Taken, Unit, Violation};
use vpc_model::{DeviceIndex, Millis, PodRef, SandboxKey, Time};

#[track_caller]
fn check(rows: &[(&str, &str, &str)]) {
    for (settings, state, expected) in rows {
        assert_eq!(Paper::read(settings, state).says(), *expected, "{settings} | {state}");
    }
}

#[test]
fn everything_the_shortage_needs_is_asked_for_at_once_and_no_more() {
    check(&[
        ("m5.large WARM_ENI=1 waiting=1", "E0", "E0 +9, new 9"),
        ("m5.large WARM_ENI=1 waiting=27", "E0", "E0 +9, new 9, new 9"),
        ("m5.large WARM_ENI=1 waiting=500", "E0", "E0 +9, new 9, new 9"),
        ("m5.large WARM_IP=1 waiting=12", "E0 9/9; E1 5/5", "E1 +4, new 9"),
        ("m5.large PD WARM_PREFIX=1 waiting=50", "E0 [6]", "E0 +4"),
        ("m5.large PD WARM_PREFIX=1 waiting=16", "E0 [0]", "E0 +1"),
        ("m5.large PD WARM_PREFIX=1 waiting=4", "E0 [12]", "E0 +1"),
        ("t3.small PD WARM_IP=1 waiting=70", "E0 [16]; E1", "E0 +2, E1 +3"),
        ("m5.large WARM_IP=5 no_growth waiting=3", "E0 9/9", "-"),
    ]);
}

#[test]
fn what_is_on_its_way_is_there_already() {
    check(&[
        ("m5.large WARM_ENI=1", "E0 0/0 assigning=9", "-"),
        ("m5.large WARM_IP=5", "E0 0/0 assigning=3; E1 0/0", "-"),
        ("m5.large WARM_IP=5 waiting=5", "E0 0/0 assigning=3; E1 0/0", "E1 +2"),
        ("m5.large WARM_IP=5", "E0 5/0 unconfirmed=5", "-"),
        ("m5.large WARM_IP=5", "E0 0/0; E1 5/0 setting_up", "-"),
    ]);
    let mut paper = Paper::read("m5.large WARM_ENI=1", "E0 9/1");
    paper.pending.new_enis.push((Unit::Address, 9));
    assert_eq!(paper.says(), "-");
}

#[test]
fn one_call_at_a_time_for_each_eni_and_no_new_eni_for_what_can_follow_on_it() {
    check(&[
        ("m5.large WARM_IP=5 waiting=2", "E0 0/0 assigning=5", "-"),
        ("m5.large WARM_IP=5 waiting=6", "E0 0/0 assigning=5", "new 2"),
        ("m5.large WARM_IP=9 at_most=4", "E0 0/0", "E0 +4"),
        ("m5.large WARM_IP=12 at_most=4", "E0 0/0", "E0 +4, new 3"),
        ("m5.large WARM_ENI=0 at_most=4", "E0 0/0", "E0 +4"),
        ("m5.large WARM_IP=5", "E0 0/0 refused", "new 5"),
        ("m5.large WARM_IP=5 no_eni", "E0 0/0 refused", "-"),
    ]);
}

/// Pods of a burst that come one after the other: what fits on the ENI that the first of them caused waits for it.
#[test]
fn a_burst_does_not_get_an_eni_for_each_pod() {
    for (waiting, expected) in [(5, "-"), (8, "-"), (11, "new 3")] {
        let mut paper = Paper::read(&format!("m5.large WARM_IP=1 waiting={waiting}"), "E0 9/9");
        paper.pending.new_enis.push((Unit::Address, 2));
        assert_eq!(paper.says(), expected, "{waiting} wait, 2 of 9 come with the ENI that is on its way");
    }
}

#[test]
fn resting_addresses_are_neither_warm_nor_a_pod() {
    check(&[
        ("m5.large WARM_IP=5", "E0 9/0 rest=6", "new 2"),
        ("m5.large WARM_IP=1 max_pods=9", "E0 9/8 rest=1", "new 1"),
        ("m5.large WARM_IP=1 max_pods=9", "E0 9/9", "-"),
        ("m5.large WARM_IP=1", "E0 9/3 rest=4", "E0 -1"),
        ("m5.large PD WARM_PREFIX=1", "E0 [0] rest=1", "E0 +1"),
    ]);
}

/// After a burst: what carries the pool at rest is kept on the first ENI, while the others' addresses are still resting.
#[test]
fn what_is_kept_in_the_end_is_kept_on_the_first_eni() {
    check(&[
        ("m5.large WARM_IP=1 MIN_IP=5", "E0 9/0 rest=4; E1 9/0 rest=1", "E0 -4, E1 -8"),
        ("m5.large WARM_IP=1 MIN_IP=5", "E0 9/0; E1 9/0 rest=9", "E0 -4"),
        ("m5.large WARM_IP=1 MIN_IP=5", "E0 5/0; E1 9/0 rest=8 young", "E1 -1"),
        ("m5.large PD WARM_PREFIX=1", "E0 [0,0]; E1 [0,0] rest=16 young", "E0 -1, E1 -1"),
    ]);
}

#[test]
fn expected_pods_count_as_far_as_the_node_may_run_them() {
    check(&[
        ("m5.large WARM_IP=1 expected=3", "E0 5/5", "E0 +4"),
        ("m5.large WARM_IP=1 expected=30 max_pods=7", "E0 5/5", "E0 +3"),
        ("m5.large WARM_IP=1 expected=30 max_pods=5", "E0 5/5", "-"),
        ("m5.large WARM_IP=1 waiting=1 expected=30 max_pods=6", "E0 5/5", "E0 +2"),
        // A pod that was refused runs here, and comes again.
        ("m5.large WARM_IP=1 returning=2 max_pods=5", "E0 5/5", "E0 +2"),
        ("m5.large WARM_IP=1 returning=2 expected=30 max_pods=8", "E0 5/5", "E0 +4"),
        ("m5.large PD MIN_IP=6 returning=1 max_pods=4", "E0 [16]; E1 [0]", "-"),
    ]);
}

#[test]
fn pods_on_addresses_that_do_not_count_are_pods_the_node_runs() {
    check(&[
        ("m5.large WARM_ENI=1 max_pods=12", "E0 3/3 retired; E1 9/9", "-"),
        ("m5.large WARM_ENI=1 max_pods=13", "E0 3/3 retired; E1 9/9", "new 9"),
        ("m5.large PD WARM_PREFIX=1 max_pods=4", "E0 4/4 []", "-"),
    ]);
}

#[test]
fn a_subnet_without_a_free_prefix_gives_single_addresses() {
    check(&[
        ("m5.large PD WARM_PREFIX=1 eni_of_singles", "E0 [16] single_only", "E0 +4 singles"),
        ("m5.large PD WARM_PREFIX=1", "E0 [16] single_only", "new 1"),
        ("m5.large PD WARM_PREFIX=1 waiting=3", "E0 [16] single_only", "E0 +3 singles, new 1"),
        ("m5.large PD WARM_PREFIX=1 waiting=20", "E0 [16] single_only", "E0 +8 singles, new 2"),
        ("m5.large PD WARM_PREFIX=1 waiting=10 eni_of_singles", "E0 [16] single_only", "E0 +8 singles, new 6 singles"),
        ("m5.large PD WARM_PREFIX=0 eni_of_singles", "E0 [16] single_only", "E0 +1 singles"),
        ("m5.large PD WARM_IP=6 MIN_IP=20 no_eni", "E0 [16] single_only", "E0 +6 singles"),
        ("m5.large PD WARM_PREFIX=1 no_eni", "E0 4/0 [16] single_only", "-"),
        // An ENI of a subnet with prefixes is asked first.
        ("m5.large PD WARM_PREFIX=1", "E0 [16] single_only; E1 [16]", "E1 +1"),
        // Stand-ins that are too much go.
        ("m5.large PD WARM_IP=2", "E0 6/1 [16] single_only", "E0 -3 singles"),
    ]);
}

/// What stands in is not given away for prefixes that may not be there.
#[test]
fn one_position_shows_whether_a_subnet_gives_something_again() {
    check(&[
        ("m5.large WARM_IP=9 no_eni", "E0 8/4 doubtful; E1 1/0 doubtful; E2 1/0", "E2 +3"),
        ("m5.large WARM_IP=9 no_eni", "E0 8/4 doubtful; E1 1/0 doubtful assigning=1", "-"),
        ("m5.large WARM_IP=9", "E0 9/4 doubtful; E1 5/5 doubtful", "E1 +1"),
        ("m5.large WARM_IP=9 no_eni", "E0 7/4 [0,0] doubtful", "E0 -2 prefixes"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 8/4 doubtful", "E0 +1"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 8/4 doubtful assigning=1", "-"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 9/4 doubtful", "E0 -1 singles"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 9/4 doubtful crowded", "-"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 8/4 doubtful crowded", "E0 +1"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 9/4 doubtful going=1", "-"),
        ("m5.large PD WARM_ENI=1 no_eni no_release", "E0 9/4 doubtful", "-"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 9/4 doubtful; E1 8/4 doubtful", "E1 +1"),
        ("m5.large PD WARM_PREFIX=0", "E0 9/4 doubtful; E1 8/4 doubtful", "E1 +1"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 9/4 doubtful; E1 9/4 doubtful", "E0 -1 singles"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 9/4 doubtful; E1 9/4 doubtful going=1", "-"),
        ("m5.large PD WARM_ENI=1 no_eni", "E0 9/4 doubtful; E1 9/4 doubtful assigning=1", "-"),
        // Nothing is wanted.
        ("m5.large PD WARM_PREFIX=1", "E0 8/4 [0] doubtful", "E0 -4 singles"),
    ]);
}

#[test]
fn leftovers_of_another_unit_are_given_back_when_nobody_needs_them() {
    check(&[
        // From single addresses to prefixes: first the position a prefix needs, then the rest.
        ("m5.large PD WARM_PREFIX=1", "E0 9/3", "E0 -1 singles"),
        ("m5.large PD WARM_PREFIX=1", "E0 9/3 going=1", "-"),
        ("m5.large PD WARM_PREFIX=1", "E0 5/3", "E0 +1"),
        ("m5.large PD WARM_PREFIX=1", "E0 8/3 [0]", "E0 -5 singles"),
        ("m5.large PD WARM_PREFIX=1", "E0 9/3 rest=6", "new 1"),
        ("m5.large PD WARM_PREFIX=1", "E0 9/9", "new 1"),
        ("m5.large PD WARM_PREFIX=1 no_release", "E0 9/3", "new 1"),
        ("m5.large PD WARM_PREFIX=1 released_ago=10", "E0 8/3 [0]", "-"),
        // And back: nine are needed, seven positions can be had here.
        ("m5.large WARM_ENI=1", "E0 [16,3,0,0,0,0,0,0,0]", "E0 -7 prefixes, new 9"),
        ("m5.large WARM_IP=2", "E0 [16,3,0,0,0,0,0,0,0]", "E0 -2 prefixes"),
        ("m5.large WARM_IP=2", "E0 2/0 [3,0,0]", "E0 -2 prefixes"),
    ]);
}

#[test]
fn changing_the_unit_and_back_under_pods_ends_with_the_new_unit_and_every_pod_where_it_was() {
    let mut paper = Paper::read("m5.large WARM_ENI=1", "E0 9/9; E1 9/4");
    let pods: Vec<_> = paper.pool.held().cloned().collect();
    for (unit, warm) in
        [(Unit::Prefix, vpc_ipam::WarmTarget::Prefixes(1)), (Unit::Address, vpc_ipam::WarmTarget::Enis(1))]
    {
        (paper.target.unit, paper.target.warm, paper.pending.new_eni) = (unit, warm, Some(unit));
        paper.settle();
        assert_eq!(paper.pool.held().cloned().collect::<Vec<_>>(), pods);
        let stats = paper.pool.stats();
        assert_eq!(stats.leftovers(unit).empty, 0, "free leftovers are gone: {stats:?}");
        assert!(paper.plan().short == 0, "{:?}", paper.plan());
    }
}

#[test]
fn prefixes_come_again_when_the_subnet_has_some_and_the_stand_ins_go() {
    let mut paper = Paper::read("m5.large PD WARM_PREFIX=1", "E0 [16] single_only");
    paper.pending.new_eni = Some(Unit::Address);
    paper.demand.waiting = 3;
    paper.settle();
    assert_eq!(paper.pool.stats().singles.held, 3);
    paper.pending.single_only.clear();
    paper.pending.new_eni = Some(Unit::Prefix);
    let rounds: Vec<String> = paper.clone().settle().iter().map(|actions| paper.text(actions)).collect();
    assert_eq!(rounds, ["E0 +1", "E0 -4 singles"]);
}

#[test]
fn a_retired_eni_leaves_as_soon_as_it_is_empty() {
    check(&[
        ("m5.large WARM_ENI=1", "E0 9/0; E1 9/0 retired", "E1 gone"),
        ("m5.large WARM_ENI=1 waiting=1", "E0 9/9; E1 9/9; E2 9/0 retired", "E2 gone"),
        ("m5.large WARM_ENI=1 no_release", "E0 9/0; E1 9/0 retired", "-"),
        ("m5.large WARM_ENI=1", "E0 9/0; E1 9/0 retired keep", "-"),
        ("m5.large WARM_ENI=1", "E0 9/0; E1 9/0 not_ours", "-"),
        ("m5.large WARM_ENI=1", "E0 9/0; E1 9/0 retired rest=1", "-"),
        ("m5.large WARM_ENI=1", "E0 9/0; E1 9/0 retired; E2 9/0 leaving", "-"),
        // Its free addresses serve nobody while a pod keeps it; those of the primary one neither.
        ("m5.large WARM_ENI=1", "E0 9/0; E1 9/2 retired", "E1 -7"),
        ("m5.large WARM_ENI=1", "E0 9/0 retired; E1 9/0", "E0 -9"),
        ("m5.large WARM_ENI=1", "E0 9/0; E1 9/2 not_ours", "-"),
    ]);
}

#[test]
fn enis_above_a_lowered_limit_leave_when_they_are_empty() {
    check(&[
        ("m5.large WARM_ENI=1 MAX_ENI=2", "E0 9/9; E1 9/5; E2 9/0", "E2 gone"),
        ("m5.large WARM_ENI=1 MAX_ENI=2", "E0 9/9; E1 9/5; E2 9/1", "-"),
        ("m5.large WARM_ENI=1 MAX_ENI=3", "E0 9/9; E1 9/5; E2 9/0", "-"),
    ]);
}

#[test]
fn what_is_given_back_empties_an_eni() {
    check(&[
        ("m5.large WARM_IP=2", "E0 9/1; E1 9/4; E2 9/2", "E0 -6, E1 -5, E2 -7"),
        ("m5.large WARM_IP=8", "E0 9/1; E1 9/4; E2 9/2", "E1 -5, E2 -7"),
        ("m5.large WARM_IP=14", "E0 9/1; E1 9/4; E2 9/2", "E2 -6"),
        ("m5.large PD WARM_PREFIX=1", "E0 [0,0]; E1 [3,0,0]; E2 [1,0]", "E0 -1, E1 -2, E2 -1"),
        ("m5.large WARM_IP=2", "E0 9/1; E1 9/4 keep; E2 9/2", "E0 -8, E1 -3, E2 -7"),
        // Two can go; both go as a whole, one now.
        ("m5.large WARM_IP=3", "E0 9/4; E1 9/0; E2 9/0", "E0 -2, E2 gone"),
    ]);
}

#[test]
fn nothing_is_given_back_while_pods_wait_or_something_is_under_way() {
    check(&[
        ("m5.large WARM_IP=1", "E0 9/1; E1 3/0 assigning=1", "-"),
        ("m5.large WARM_IP=1 waiting=1", "E0 9/1; E1 3/0", "-"),
    ]);
}

#[test]
fn a_pod_behind_an_eni_on_an_address_nobody_lists_keeps_the_eni() {
    let mut paper = Paper::read("m5.large WARM_ENI=1", "E0 9/8; E1 9/0; E2 9/0");
    assert_eq!(paper.says(), "E2 gone");
    let Taken::Fresh(mut allocation) = paper.pool.take(&key("x"), &PodRef::default(), paper.now, Unit::Address, &NONE)
    else {
        panic!("none free")
    };
    let mut held = paper.pool.of(&key("x")).unwrap().clone();
    paper.pool.release(&key("x"), paper.now, Millis(0)).unwrap();
    paper.pool.end_rests(paper.now);
    allocation.address = "10.2.9.9".parse().unwrap();
    (allocation.device, allocation.table) = (DeviceIndex(2), paper.pool.eni(&id(2)).unwrap().facts.table());
    held.allocation = allocation;
    paper.pool.restore(held).unwrap();
    assert_eq!(paper.says(), "E1 gone");
}

#[test]
fn the_planner_says_when_to_ask_again_and_what_is_short() {
    let plan = |settings, state| Paper::read(settings, state).plan();
    let now = Paper::read("m5.large", "E0").now;
    assert_eq!(plan("m5.large WARM_IP=2 released_ago=20", "E0 9/6; E1 5/0").again_at, Some(now + Millis::seconds(10)));
    assert_eq!(
        plan("m5.large WARM_ENI=1", "E0 9/8; E1 9/0 young; E2 9/0 young").again_at,
        Some(now + Millis::seconds(30))
    );
    assert_eq!(plan("m5.large WARM_ENI=1", "E0 9/0").again_at, None);
    let short = |settings, state| {
        let plan = plan(settings, state);
        (plan.short, plan.waiting_short)
    };
    assert_eq!(short("m5.large WARM_IP=5 no_eni", "E0 9/6"), (2, 0));
    assert_eq!(short("m5.large WARM_IP=5", "E0 9/6"), (0, 0));
    assert_eq!(short("m5.large WARM_IP=5 no_eni waiting=4 expected=3", "E0 9/6"), (9, 1));
    assert_eq!(short("m5.large WARM_IP=5 no_eni max_pods=9", "E0 9/6"), (0, 0));
    assert_eq!(short("m5.large WARM_IP=5 waiting=4 at_most=2", "E0 9/9"), (5, 0));
    assert_eq!(short("m5.large PD WARM_PREFIX=1 no_eni", "E0 4/0 [16] single_only"), (12, 0));
}

#[test]
fn pods_are_packed() {
    let next = |settings, state| {
        let mut paper = Paper::read(settings, state);
        let (unit, now) = (paper.target.unit, paper.now);
        match paper.pool.take(&key("x"), &PodRef::default(), now, unit, &NONE) {
            Taken::Fresh(at) => {
                let slot = paper.pool.locate(at.address).unwrap().1;
                (at.device.0, Unit::of(slot), paper.pool.position(slot).unwrap().held)
            }
            other => panic!("{other:?}"),
        }
    };
    let (address, prefix) = (Unit::Address, Unit::Prefix);
    assert_eq!(next("m5.large", "E0 9/2; E1 9/5; E2 9/0"), (1, address, 1));
    assert_eq!(next("m5.large", "E0 9/2; E1 9/9; E2 9/2"), (0, address, 1));
    assert_eq!(next("m5.large PD", "E0 [9,0,1]; E1 [12]; E2 [16]"), (1, prefix, 13));
    assert_eq!(next("m5.large PD", "E0 [16,0]; E1 [16,16,0]"), (1, prefix, 1));
    // Leftovers of the other unit only when there is nothing else.
    assert_eq!(next("m5.large PD", "E0 9/5; E1 [0]"), (1, prefix, 1));
    assert_eq!(next("m5.large PD", "E0 9/5; E1 [16]"), (0, address, 1));
    assert_eq!(next("m5.large", "E0 9/9; E1 [3]"), (1, prefix, 4));
    // And only where pods may be.
    assert_eq!(next("m5.large", "E0 9/8 retired; E1 9/7 leaving; E2 9/1"), (2, address, 1));
    assert_eq!(next("m5.large", "E0 9/8 missing=1; E1 9/8 setting_up; E2 9/1"), (2, address, 1));
}

#[test]
fn the_next_pod_of_a_prefix_gets_its_lowest_free_address_that_nothing_bars() {
    let mut paper = Paper::read("m5.large PD", "E0 [3]");
    let slot = paper.pool.positions(&id(0)).next().unwrap().slot;
    let addresses: Vec<_> = slot.addresses().collect();
    let barred = addresses[3..5].iter().copied().collect();
    let Taken::Fresh(at) = paper.pool.take(&key("x"), &PodRef::default(), paper.now, Unit::Prefix, &barred) else {
        panic!("none free")
    };
    assert_eq!(at.address, addresses[5]);
}

#[test]
fn an_address_rests_before_anyone_gets_it_again() {
    let mut paper = Paper::read("m5.large", "E0 1/0");
    assert!(paper.start_pod());
    let pod = paper.pool.held().next().unwrap().key.clone();
    let rest = Millis::seconds(30);
    paper.pool.release(&pod, paper.now, rest).unwrap();
    assert_eq!(paper.pool.next_rest_end(), Some(paper.now + rest));
    paper.pass(Millis(29_999));
    assert!(!paper.start_pod());
    paper.pass(Millis(1));
    assert!(paper.start_pod());
}

#[test]
fn what_is_being_given_back_stays_so_when_ec2_still_lists_it() {
    let mut paper = Paper::read("m5.large", "E0 2/0");
    let slots: Vec<_> = paper.pool.eni(&id(0)).unwrap().positions().collect();
    paper.pool.set_slot(&id(0), slots[0], SlotState::Leaving).unwrap();
    paper.pool.set_slot(&id(0), slots[1], SlotState::Missing).unwrap();
    paper.pool.admit(&id(0), slots.clone()).unwrap();
    let states = slots.iter().map(|slot| paper.pool.position(*slot).unwrap().state).collect::<Vec<_>>();
    assert_eq!(states, [SlotState::Leaving, SlotState::Held]);
}

#[test]
fn a_position_is_forgotten_when_nothing_is_on_it() {
    let mut paper = Paper::read("m5.large", "E0 3/1");
    let slots: Vec<_> = paper.pool.eni(&id(0)).unwrap().positions().collect();
    let in_use = |held, cooling| Err(PoolError::InUse { eni: id(0), held, cooling });
    assert_eq!(paper.pool.forget_slot(&id(0), slots[1]), Ok(()));
    assert_eq!(paper.pool.forget_slot(&id(0), slots[1]), Ok(()), "it has gone");
    assert_eq!(paper.pool.forget_slot(&id(0), slots[0]), in_use(1, 0));
    let pod = paper.pool.held().next().unwrap().key.clone();
    paper.pool.release(&pod, paper.now, Millis(1)).unwrap();
    assert_eq!(paper.pool.forget_slot(&id(0), slots[0]), in_use(0, 1), "it rests");
    paper.pass(TICK);
    assert_eq!(paper.pool.forget_slot(&id(0), slots[0]), Ok(()));
    assert_eq!(paper.pool.eni(&id(0)).unwrap().positions().collect::<Vec<_>>(), [slots[2]]);
}

/// Somebody took a pod's address, and EC2 made it the own address of the next ENI: the books have nothing to reproach themselves with.
/// A pod that is put on an ENI's own address they would have.
#[test]
fn an_own_address_that_a_pod_had_before_was_given_by_nobody() {
    let mut paper = Paper::read("m5.large", "E0 2/1; E1 1/0");
    let (pod, primary) = (paper.pool.held().next().unwrap().clone(), paper.pool.eni(&id(1)).unwrap().facts.primary);
    let allocation = Allocation { address: primary, ..pod.allocation };
    let key = |name: &str| SandboxKey { container: name.to_owned(), ..pod.key.clone() };
    let came = paper.pool.eni(&id(1)).unwrap().since;
    let put = |paper: &mut Paper, name: &str, since| {
        paper.pool.restore(Held { key: key(name), pod: pod.pod.clone(), allocation, since }).unwrap();
        let said = paper.pool.audit();
        paper.pool.release(&key(name), since, Millis(0)).unwrap();
        paper.pool.end_rests(since);
        said
    };
    assert_eq!(put(&mut paper, "before", came), []);
    let given = Violation::PrimaryGiven { address: primary, eni: id(1) };
    assert_eq!(put(&mut paper, "after", came + Millis(1)), [given]);
}

#[test]
fn an_eni_that_comes_of_age_while_it_leaves_is_not_asked_for_twice() {
    let mut paper = Paper::read("m5.large WARM_ENI=1", "E0 9/0; E1 9/0; E2 9/0");
    let plan = paper.plan();
    let [Action::ReleaseEni { eni }] = plan.actions.as_slice() else { panic!("one ENI") };
    paper.pool.set_use(eni, EniUse::Leaving).unwrap();
    assert_eq!(paper.says(), "-");
    assert!(paper.now > Time(0));
}
