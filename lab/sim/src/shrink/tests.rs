#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use vpc_model::Time;

use super::*;
use crate::driver::Wrong;
use crate::history::{Buckets, Kill, Pace, Settings};

const LIMITS: Limits = Limits { runs: 5_000, steps: u64::MAX };

fn wrong(fault: Fault) -> Why {
    Why::Wrong(Box::new(Wrong { at: Time(u64::MAX), step: 1, fault }))
}

fn stuck() -> Why {
    wrong(Fault::Stuck { at: Time(0) })
}

/// A long history of several nodes with a bit of everything.
fn long() -> History {
    (0..)
        .map(|seed| History::draw(seed, 400))
        .find(|history| {
            let kills = history.acts.iter().any(|timed| matches!(timed.act, Act::Kill { .. }));
            kills && history.nodes.len() > 2 && history.pace == Pace::Slow && history.buckets == Buckets::Tight
        })
        .unwrap()
}

/// Wrong if the daemon of a node with prefixes is killed while three pods have come to it.
fn goes_wrong(history: &History) -> bool {
    history.acts.iter().enumerate().any(|(index, timed)| {
        let Act::Kill { node, .. } = timed.act else { return false };
        let come = |timed: &&Timed| matches!(&timed.act, Act::Add { node: own, .. } if *own == node);
        history.nodes[node.0].settings.prefixes && history.acts[..index].iter().filter(come).count() >= 3
    })
}

fn start() -> History {
    let mut history = long();
    let Some(Act::Kill { node, .. }) =
        history.acts.iter().rev().map(|timed| &timed.act).find(|act| matches!(act, Act::Kill { .. }))
    else {
        panic!("no kill");
    };
    let node = *node;
    history.nodes[node.0].settings.prefixes = true;
    assert!(goes_wrong(&history));
    history
}

#[test]
fn what_matters_is_left_and_nothing_else() {
    let run = |history: &History| (1, goes_wrong(history).then(stuck));
    let small = shrink_by(&start(), &stuck(), LIMITS, &mut |_| true, &run).history;
    assert_eq!(small.nodes.len(), 1);
    assert_eq!(small.acts.len(), 4, "{small:?}");
    assert_eq!(small.acts[3].act, Act::Kill { node: NodeAt(0), after: 0, when: kill_side(&small), away_ms: 0 });
    assert_eq!(small.nodes[0].settings, Settings { prefixes: true, ..Settings::default() });
    assert_eq!((small.pace, small.lagging, small.buckets), (Pace::Instant, false, Buckets::Off));
    assert_eq!(small.acts[3].at_ms, 0, "{small:?}");
    assert!(small.features.is_empty());
}

fn kill_side(history: &History) -> Kill {
    let mut sides = history.acts.iter().filter_map(|timed| match timed.act {
        Act::Kill { when, .. } => Some(when),
        _ => None,
    });
    sides.next_back().unwrap()
}

#[test]
fn another_kind_of_fault_is_not_taken_for_it() {
    let twice = || wrong(Fault::ReadyTwice { node: NodeAt(0) });
    let start = start();
    let full = start.acts.len();
    // Whatever is left out, something else goes wrong.
    let run = |history: &History| (1, Some(if history.acts.len() == full { stuck() } else { twice() }));
    let small = shrink_by(&start, &stuck(), LIMITS, &mut |_| true, &run);
    assert_eq!(small.history.acts.len(), full);
    assert_eq!(small.why, stuck());
}

#[test]
fn the_same_history_shrinks_to_the_same_one_and_limits_hold() {
    let run = |history: &History| (10, goes_wrong(history).then(stuck));
    let shrunk = |limits| shrink_by(&start(), &stuck(), limits, &mut |_| true, &run);
    assert_eq!(shrunk(LIMITS).history, shrunk(LIMITS).history);
    assert_eq!(shrunk(Limits { runs: 7, ..LIMITS }).runs, 7);
    assert_eq!(shrunk(Limits { steps: 50, ..LIMITS }).steps, 50);
    let stopped = shrink_by(&start(), &stuck(), LIMITS, &mut |best| best.runs < 3, &run);
    assert_eq!(stopped.runs, 3);
}

#[test]
fn a_node_goes_with_all_that_is_about_it_and_others_keep_theirs() {
    let mut history = long();
    let last = History::node_name(NodeAt(history.nodes.len() - 1));
    let fault = lab_cloud::CloudFault::ImdsStale { node: last };
    let at_ms = history.acts.last().unwrap().at_ms;
    history.acts.push(Timed { at_ms, act: Act::Fault { fault, for_ms: 1 } });
    let of_last = history.acts.iter().filter(|timed| timed.act.node() == Some(NodeAt(history.nodes.len() - 1))).count();
    without_node(&mut history, 0);
    let end = NodeAt(history.nodes.len() - 1);
    assert_eq!(history.acts.iter().filter(|timed| timed.act.node() == Some(end)).count(), of_last);
    let Act::Fault { fault: lab_cloud::CloudFault::ImdsStale { node }, .. } = &history.acts.last().unwrap().act else {
        panic!("the fault is gone");
    };
    assert_eq!(*node, History::node_name(end));
    History::from_text(&history.to_text().unwrap()).unwrap();
}
