//! The reference's worked cases, row by row from `cases.txt`: where we say that we do the same we do, and where we say that we
//! differ we really do, and in the way we say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod paper;

use std::collections::BTreeSet;

use paper::reference::Reference;
use paper::{Paper, TICK};

/// One line of the file.
#[derive(Clone, Copy)]
struct Case<'a> {
    id: &'a str,
    settings: &'a str,
    state: &'a str,
    /// What the reference does; one of these.
    reference: &'a str,
    ours: &'a str,
    verdict: Verdict<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict<'a> {
    Equal,
    Different(u32, &'a str),
    Agent,
    Later,
}

fn read(line: &str) -> Case<'_> {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let &[id, settings, state, reference, ours, verdict] = columns.as_slice() else { panic!("six columns: {line}") };
    let (kind, why) = verdict.split_once(": ").unwrap_or((verdict, ""));
    let verdict = match kind.split_once(' ') {
        None if kind == "equal" => Verdict::Equal,
        None if kind == "agent" && !why.is_empty() => Verdict::Agent,
        None if kind == "later" && !why.is_empty() => Verdict::Later,
        Some(("different", weakness)) if !why.is_empty() => Verdict::Different(weakness.parse().unwrap(), why),
        _ => panic!("{id}: no verdict `{verdict}`"),
    };
    Case { id, settings, state, reference, ours, verdict }
}

impl Case<'_> {
    /// What our planner does, in the words of the file.
    fn outcomes(&self) -> Vec<String> {
        match self.state.strip_suffix(" pods") {
            Some(pods) => {
                let pods: u32 = pods.parse().unwrap();
                vec![at_rest(self.settings, pods, 0), at_rest(self.settings, 0, pods)]
            }
            None => vec![self.ticks()],
        }
    }

    /// What its formulas make of the row, taking its ENIs in one order and in the other.
    fn formulas(&self) -> BTreeSet<String> {
        let run = |backwards| match self.state.strip_suffix(" pods") {
            Some(pods) => Reference::of(&Paper::read(self.settings, "E0"), backwards).at_rest(pods.parse().unwrap()),
            None => {
                let mut reference = Reference::of(&Paper::read(self.settings, self.state), backwards);
                (0..self.tick_count()).map(|_| reference.tick()).collect::<Vec<_>>().join(" / ")
            }
        };
        [run(false), run(true)].into()
    }

    fn tick_count(&self) -> usize {
        self.reference.split(" or ").map(|way| way.split(" / ").count()).max().unwrap()
    }

    fn ticks(&self) -> String {
        let count = self.tick_count();
        let mut paper = Paper::read(self.settings, self.state);
        let ticks = (0..count).map(|_| {
            let actions = paper.plan().actions;
            let said = paper.text(&actions);
            paper.carry_out(&actions);
            paper.pass(TICK);
            said
        });
        ticks.collect::<Vec<_>>().join(" / ")
    }
}

/// From an empty primary ENI: pods that come all at once, then pods that come one after the other.
fn at_rest(settings: &str, at_once: u32, one_by_one: u32) -> String {
    let mut paper = Paper::read(settings, "E0");
    paper.demand.waiting = at_once;
    paper.settle();
    for _ in 0..one_by_one {
        paper.demand.waiting += 1;
        paper.serve();
        paper.settle();
    }
    paper.holdings()
}

#[test]
fn every_worked_case_of_the_reference() {
    let file = include_str!("cases.txt");
    let cases: Vec<Case<'_>> =
        file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(read).collect();
    let mut wrong = Vec::new();
    let (mut equal, mut agent, mut later, mut different) = (0, 0, 0, Vec::new());
    for case in &cases {
        let ways: Vec<&str> = case.reference.split(" or ").collect();
        match case.verdict {
            Verdict::Agent => agent += 1,
            Verdict::Later => later += 1,
            Verdict::Equal => {
                equal += 1;
                assert_eq!(case.ours, "=", "{}", case.id);
                let off = case.outcomes().into_iter().filter(|got| !ways.contains(&got.as_str()));
                wrong.extend(off.map(|got| format!("{}: we say `{got}`, the reference `{}`", case.id, case.reference)));
            }
            Verdict::Different(weakness, why) => {
                different.push((case, weakness, why));
                assert!(!ways.contains(&case.ours), "{} does not differ", case.id);
                let off = case.outcomes().into_iter().filter(|got| got != case.ours);
                wrong.extend(off.map(|got| format!("{}: we say `{got}`, not `{}`", case.id, case.ours)));
            }
        }
    }
    let (total, differ) = (cases.len(), different.len());
    println!(
        "{total} worked cases: {equal} equal, {differ} different on purpose, {agent} are the agent's, {later} later"
    );
    for (case, weakness, why) in different {
        println!("  {:<4} reference `{}`, ours `{}`: weakness {weakness}, {why}", case.id, case.reference, case.ours);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(equal > 80 && differ > 8, "rows went missing");
}

/// The column of the reference is what its formulas give: a row marked different differs from them, not from a slip of the pen.
#[test]
fn the_column_of_the_reference_is_what_its_formulas_give() {
    let lines = include_str!("cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for case in lines.map(read).filter(|case| matches!(case.verdict, Verdict::Equal | Verdict::Different(..))) {
        let ways: BTreeSet<String> = case.reference.split(" or ").map(str::to_owned).collect();
        assert_eq!(case.formulas(), ways, "{}: {} | {}", case.id, case.settings, case.state);
    }
}

#[test]
fn every_number_of_the_worked_cases_is_in_the_file() {
    let here: BTreeSet<String> = include_str!("cases.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| read(line).id.trim_end_matches(char::is_lowercase).to_owned())
        .collect();
    let named = (1..=75).map(|n| n.to_string());
    let named = named.chain((1..=16).map(|n| format!("S{n}"))).chain((1..=20).map(|n| format!("P{n}")));
    let missing: Vec<String> = named.filter(|id| !here.contains(id)).collect();
    assert_eq!(missing, Vec::<String>::new());
}
