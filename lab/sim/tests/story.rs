//! A run in words says what happened, and of a long run what concerns the fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lab_sim::{
    Act, Buckets, Driver, Fault, History, Kill, LINES, NodeAt, NodePlan, Pace, PodState, Settings, Timed, Why, Wrong,
    replay,
};
use vpc_model::SandboxKey;

const NODE: NodeAt = NodeAt(0);

fn history(acts: Vec<(u64, Act)>) -> History {
    let plan = NodePlan { instance_type: "m5.large".to_owned(), start_ms: 0, settings: Settings::default() };
    let acts: Vec<Timed> = acts.into_iter().map(|(at_ms, act)| Timed { at_ms, act }).collect();
    History {
        seed: 7,
        pace: Pace::Aws,
        lagging: false,
        buckets: Buckets::Off,
        disk_ms: 1,
        subnet: "10.20.128.0/20".parse().unwrap(),
        calm_ms: acts.last().map_or(0, |timed| timed.at_ms) + 1_000,
        features: Default::default(),
        nodes: vec![plan],
        acts,
    }
}

fn pod(number: u32) -> String {
    format!("p{number}")
}

#[test]
fn it_says_what_came_from_outside_what_was_asked_and_what_was_answered() {
    let acts = vec![
        (20_000, Act::Add { node: NODE, pod: pod(1) }),
        (25_000, Act::Kill { node: NODE, after: 0, when: Kill::Before, away_ms: 1_000 }),
        (26_000, Act::Delete { node: NODE, pod: pod(1) }),
    ];
    let history = history(acts);
    let mut driver = Driver::new(&history).unwrap();
    driver.world.record();
    for timed in &history.acts {
        assert!(driver.until(vpc_model::Time(timed.at_ms)));
        driver.act(timed);
    }
    assert!(driver.until(vpc_model::Time(60_000)));
    let story = driver.world.story().unwrap().told(driver.world.now(), None);
    for words in ["20.000 s  node-1  pod p1 comes", "answers ADD p1-1: 10.20.", "DEL p1-1", "the daemon is killed"] {
        assert!(story.contains(words), "no `{words}` in\n{story}");
    }
    assert!(story.lines().count() <= 2 * LINES, "{story}");
}

#[test]
fn of_a_long_run_it_tells_what_concerns_the_fault() {
    let mut acts: Vec<(u64, Act)> = Vec::new();
    for number in 1..60 {
        acts.push((20_000 + u64::from(number) * 500, Act::Add { node: NODE, pod: pod(number) }));
        if number != 3 {
            acts.push((20_300 + u64::from(number) * 500, Act::Delete { node: NODE, pod: pod(number) }));
        }
    }
    let history = history(acts);
    let mut driver = Driver::new(&history).unwrap();
    driver.world.record();
    for timed in &history.acts {
        assert!(driver.until(vpc_model::Time(timed.at_ms)));
        driver.act(timed);
    }
    let PodState::Running { key, reply } = &driver.world.node(NODE).unwrap().pods["p3"].state else {
        panic!("p3 does not run");
    };
    let (key, address): (SandboxKey, _) = (key.clone(), reply.allocation.address);
    let fault = Fault::Taken { node: NODE, key, address };
    let at = driver.world.now();
    let why = Why::Wrong(Box::new(Wrong { at, step: driver.world.steps, fault }));
    let story = driver.world.story().unwrap().told(at, Some(&why));
    let count = |words: &str| story.lines().filter(|line| line.contains(words)).count();
    assert_eq!(count("pod p3 comes"), 1, "{story}");
    assert_eq!(count(&format!("answers ADD p3-1: {address}")), 1, "{story}");
    assert!(count("lines left out") > 0, "{story}");
    assert!(story.trim_end().lines().last().unwrap().contains("WRONG: "), "{story}");
    assert!(story.lines().filter(|line| !line.contains("left out")).count() <= LINES + 1, "{story}");
}

#[test]
fn a_history_told_is_the_same_run() {
    let history = History::draw(3, 20);
    let (told, plain) = (replay(&history).unwrap(), lab_sim::run(&history).unwrap());
    assert_eq!((told.report.steps, told.report.end), (plain.steps, plain.end));
    assert_eq!(told.report.coverage, plain.coverage);
    assert!(!told.story.is_empty());
}
