//! The pacer: bursts and rates as published, weights, throttle answers, and that nothing waits for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use vpc_agent::{BUCKETS, Bucket, CloudCall, Ec2Action, Pacer, Weight};
use vpc_ipam::Unit;
use vpc_model::{Millis, Time};

const NOW: Time = Time(5_000_000);
const WEIGHTS: [Weight; 4] = [Weight::PodBlocking, Weight::Grow, Weight::Shrink, Weight::Background];

/// The pacer of a node that is alone: nobody else takes turns.
fn alone(seed: u64) -> Pacer {
    let mut pacer = Pacer::new(NOW, seed);
    pacer.nodes_are(1);
    pacer
}

/// Calls of one weight that go at this very moment.
fn burst(pacer: &mut Pacer, now: Time, action: Ec2Action, weight: Weight) -> u32 {
    (0..).take_while(|_| pacer.admit(now, action, weight).is_ok()).count().try_into().unwrap()
}

#[test]
fn every_action_has_its_published_bucket_and_leaves_room_for_weightier_calls() {
    for Bucket { action, burst: size, per_second } in BUCKETS {
        for (weight, kept) in WEIGHTS.into_iter().zip([0, 1, 2, 3]) {
            let mut pacer = Pacer::new(NOW, 1);
            let went = burst(&mut pacer, NOW, action, weight);
            let share = size - (size - 1) * kept / 4;
            assert!(went.abs_diff(share) <= 1, "{action:?} {weight:?}: {went} of {size}");
            assert_eq!(pacer.admit(NOW, action, Weight::PodBlocking).is_ok(), weight != Weight::PodBlocking);
        }
        let mut pacer = Pacer::new(NOW, 1);
        burst(&mut pacer, NOW, action, Weight::PodBlocking);
        let second = NOW + Millis::seconds(1);
        assert_eq!(burst(&mut pacer, second, action, Weight::PodBlocking), per_second, "{action:?}");
        let later = NOW + Millis::seconds(3600);
        assert_eq!(burst(&mut pacer, later, action, Weight::PodBlocking), size, "{action:?}: never more than it holds");
    }
}

#[test]
fn actions_do_not_share_a_bucket() {
    let mut pacer = Pacer::new(NOW, 1);
    burst(&mut pacer, NOW, Ec2Action::Create, Weight::PodBlocking);
    pacer.throttled(NOW, Ec2Action::Create);
    for Bucket { action, .. } in BUCKETS.into_iter().filter(|bucket| bucket.action != Ec2Action::Create) {
        assert_eq!(pacer.admit(NOW, action, Weight::Background), Ok(()), "{action:?}");
    }
    assert!(pacer.admit(NOW, Ec2Action::Create, Weight::PodBlocking).is_err());
}

#[test]
fn a_throttle_answer_halves_the_rate_and_answers_raise_it_again() {
    let action = Ec2Action::Assign;
    let mut pacer = alone(1);
    let mut now = NOW;
    let mut rates = vec![];
    for streak in 1..=6 {
        pacer.throttled(now, action);
        pacer.throttled(now, action);
        assert_eq!(pacer.streak(action), streak, "two answers of one moment are one word");
        let from = pacer.admit(now, action, Weight::PodBlocking).unwrap_err();
        let pause = from.since(now).0;
        assert!((500..=121_000).contains(&pause), "throttled {streak} times: {pause} ms");
        // What a second brings right after the pause.
        let mut probe = pacer.clone();
        burst(&mut probe, from, action, Weight::PodBlocking);
        rates.push(burst(&mut probe, from + Millis::seconds(4), action, Weight::PodBlocking));
        now = from;
    }
    assert!(rates.iter().all(|calls| *calls > 0) && rates[2] < rates[0], "slower, and never at a stand: {rates:?}");
    assert!(rates[0] <= 12, "half of 20 in four seconds, and what the rise brings: {rates:?}");
    for _ in 0..16 {
        pacer.answered(now, action);
    }
    assert_eq!(pacer.streak(action), 0);
    burst(&mut pacer, now, action, Weight::PodBlocking);
    assert_eq!(burst(&mut pacer, now + Millis::seconds(1), action, Weight::PodBlocking), 5, "the published rate again");
}

#[test]
fn a_node_that_asks_seldom_recovers_by_itself() {
    let action = Ec2Action::Attach;
    let mut pacer = alone(1);
    for i in 0..20 {
        pacer.throttled(NOW + Millis::seconds(150 * i), action);
    }
    let later = NOW + Millis::seconds(150 * 20 + 120);
    burst(&mut pacer, later, action, Weight::PodBlocking);
    assert_eq!(burst(&mut pacer, later + Millis::seconds(1), action, Weight::PodBlocking), 5);
}

#[test]
fn pauses_double_up_to_two_minutes_and_differ_between_nodes() {
    let pauses = |seed: u64| {
        let (mut pacer, mut now) = (alone(seed), NOW);
        let mut pauses = vec![];
        for _ in 0..12 {
            pacer.throttled(now, Ec2Action::Create);
            // The longest of what keeps a call back: the pause, or the empty bucket.
            let mut at = now;
            while let Err(next) = pacer.admit(at, Ec2Action::Create, Weight::PodBlocking) {
                assert!(next > at, "an answer that is no answer");
                at = next;
            }
            pauses.push(at.since(now).0);
            now = at;
        }
        pauses
    };
    let one = pauses(1);
    assert_eq!(one, pauses(1), "the same for the same seed");
    let other = pauses(2);
    assert!(one.iter().zip(&other).filter(|(a, b)| a != b).count() > 8, "{one:?} {other:?}");
    assert!(one.iter().chain(&other).all(|pause| *pause <= 121_000));
    assert!(one[11] >= 60_000, "{one:?}");
}

/// When so many nodes come again after so many throttle answers in a row, `into` a rush.
fn again(nodes: u32, streak: u32, weight: Weight) -> Vec<u64> {
    let mut at: Vec<u64> = (0..400)
        .map(|seed| {
            let mut pacer = Pacer::new(NOW, seed);
            pacer.nodes_are(nodes);
            let mut now = NOW;
            for _ in 1..streak {
                pacer.throttled(now, Ec2Action::Assign);
                now = pacer.turn(Ec2Action::Assign, weight).unwrap();
            }
            pacer.throttled(now, Ec2Action::Assign);
            pacer.turn(Ec2Action::Assign, weight).unwrap().since(NOW).0 / 1000
        })
        .collect();
    at.sort_unstable();
    at
}

#[test]
fn the_more_nodes_there_are_the_wider_they_spread_and_never_over_more_than_a_lap() {
    // (10,000 - 100) / 5 and (500 - 100) / 5 seconds.
    for (nodes, lap) in [(10_000, 1980), (500, 80)] {
        let once = again(nodes, 1, Weight::PodBlocking);
        assert!(once[399] <= lap / 16 + 1, "a lone node is back soon: {} s", once[399]);
        let thrice = again(nodes, 3, Weight::PodBlocking);
        assert!(thrice[399] <= lap + 4, "{nodes} nodes: {} s", thrice[399]);
        assert!(thrice[200] > lap * 4 / 10 && thrice[380] > lap * 8 / 10, "over all of it: {thrice:?}");
        let (grow, pod) = (again(nodes, 3, Weight::Grow), thrice);
        assert!(grow[200] > pod[200] && grow[399] > lap, "what nobody waits for leaves room to what somebody does");
    }
    let alone = again(1, 3, Weight::PodBlocking);
    assert!(alone[399] <= 9, "there is nobody to wait for: {alone:?}");
}

#[test]
fn the_place_in_one_queue_holds_in_the_next() {
    let mut pacer = Pacer::new(NOW, 1);
    pacer.nodes_are(10_000);
    pacer.throttled(NOW, Ec2Action::DescribeEnis);
    let later = pacer.turn(Ec2Action::DescribeEnis, Weight::PodBlocking).unwrap();
    pacer.throttled(later, Ec2Action::DescribeEnis);
    let at = NOW + Millis::seconds(90);
    pacer.answered(at, Ec2Action::DescribeEnis);
    // 100 at once and 20 a second were before it; the next bucket serves 100 and 5 a second.
    let turn = pacer.admit(at, Ec2Action::Assign, Weight::PodBlocking).unwrap_err();
    assert_eq!(turn, NOW + Millis::seconds((100 + 90 * 20 - 100) / 5));
    assert_eq!(pacer.admit(at, Ec2Action::DescribeSubnets, Weight::Grow), Ok(()), "as fast as the first one: no wait");
    let mut calm = Pacer::new(NOW, 1);
    calm.nodes_are(10_000);
    calm.answered(at, Ec2Action::DescribeEnis);
    assert_eq!(calm.admit(at, Ec2Action::Assign, Weight::Grow), Ok(()));
}

#[test]
fn every_call_has_an_action() {
    let eni: vpc_model::EniId = "eni-1".parse().unwrap();
    let rows = [
        (CloudCall::Assign { eni: eni.clone(), unit: Unit::Address, count: 1 }, Ec2Action::Assign),
        (CloudCall::Unassign { eni: eni.clone(), slots: vec![] }, Ec2Action::Unassign),
        (CloudCall::SetGroups { eni: eni.clone(), groups: vec![] }, Ec2Action::Modify),
        (CloudCall::Describe { eni: eni.clone() }, Ec2Action::DescribeEnis),
        (CloudCall::DescribeNode, Ec2Action::DescribeEnis),
        (CloudCall::FindLeaked, Ec2Action::DescribeEnis),
        (CloudCall::Subnets { also: vec![] }, Ec2Action::DescribeSubnets),
        (CloudCall::Tag { enis: vec![], tags: BTreeMap::new() }, Ec2Action::Tag),
        (CloudCall::Delete { eni }, Ec2Action::Delete),
    ];
    for (call, action) in rows {
        assert_eq!(Ec2Action::of(&call), action, "{call}");
        assert!(BUCKETS.iter().any(|bucket| bucket.action == action));
    }
}

/// What happens to a pacer.
#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Ask(usize, u32),
    Throttled,
    Answered,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u64..20_000).prop_map(Step::Wait),
        6 => (0usize..4, 1u32..150).prop_map(|(weight, calls)| Step::Ask(weight, calls)),
        1 => Just(Step::Throttled),
        2 => Just(Step::Answered),
    ]
}

proptest! {
    #[test]
    fn no_window_sees_more_than_burst_and_rate_allow(steps in prop::collection::vec(step(), 1..60), seed: u64) {
        for Bucket { action, burst: size, per_second } in BUCKETS {
            let (mut pacer, mut again) = (alone(seed), alone(seed));
            let (mut now, mut sent) = (NOW, Vec::<Time>::new());
            for step in &steps {
                match step {
                    Step::Wait(millis) => now = now + Millis(*millis),
                    Step::Ask(weight, calls) => {
                        for _ in 0..*calls {
                            let answer = pacer.admit(now, action, WEIGHTS[*weight]);
                            prop_assert_eq!(answer, again.admit(now, action, WEIGHTS[*weight]), "the seed decides all");
                            match answer {
                                Ok(()) => sent.push(now),
                                Err(at) => prop_assert!(at > now && at.since(now) <= Millis::seconds(130)),
                            }
                        }
                    }
                    Step::Throttled => { pacer.throttled(now, action); again.throttled(now, action); }
                    Step::Answered => { pacer.answered(now, action); again.answered(now, action); }
                }
            }
            for (first, from) in sent.iter().enumerate() {
                // Up to the last call of each later moment.
                for (last, to) in sent.iter().enumerate().skip(first).step_by(7).chain(sent.iter().enumerate().next_back()) {
                    let calls = (last - first + 1) as u64;
                    let allowed = u64::from(size) + (to.since(*from).0 * u64::from(per_second)).div_ceil(1000);
                    prop_assert!(calls <= allowed, "{action:?}: {calls} calls in {}", to.since(*from));
                }
            }
        }
    }

    #[test]
    fn a_pod_is_not_starved_by_others(steps in prop::collection::vec((1usize..4, 1u32..200, 0u64..3000), 1..40), seed: u64, throttles in 0u32..4) {
        for Bucket { action, .. } in BUCKETS {
            let (mut pacer, mut now) = (alone(seed), NOW);
            for _ in 0..throttles {
                pacer.throttled(now, action);
                now = now + Millis::seconds(5);
            }
            now = now + Millis::seconds(120);
            for (weight, calls, wait) in &steps {
                for _ in 0..*calls {
                    let _ = pacer.admit(now, action, WEIGHTS[*weight]);
                }
                prop_assert_eq!(pacer.clone().admit(now, action, Weight::PodBlocking), Ok(()), "{:?} took the last", WEIGHTS[*weight]);
                now = now + Millis(*wait);
            }
        }
    }

    #[test]
    fn whoever_asks_again_when_told_gets_through(seed: u64, throttles in 0u64..10, weight in 0usize..4) {
        for Bucket { action, .. } in BUCKETS {
            let (mut pacer, mut now) = (alone(seed), NOW);
            for _ in 0..throttles {
                pacer.throttled(now, action);
                now = now + Millis::seconds(3);
            }
            let asked = now;
            let mut tries = 0;
            while let Err(at) = pacer.admit(now, action, WEIGHTS[weight]) {
                prop_assert!(at > now);
                (now, tries) = (at, tries + 1);
                prop_assert!(tries < 100, "told to come again and again");
            }
            prop_assert!(now.since(asked) <= Millis::seconds(240), "waited {}", now.since(asked));
        }
    }
}
