//! Deliberate bugs are found, and silence is silence: a short version, with fixed seeds. `cargo xtask sim-bugs` is the long one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::sync::Mutex;

use lab_sim::{Campaign, Feature, hunt};
use vpc_ipam::bugs::Bug;

/// One bug at a time is switched on in a process.
static ONE: Mutex<()> = Mutex::new(());

/// Steps of a short hunt.
const SHORT: u64 = 100_000;

fn campaign(seed: u64, steps: u64) -> Campaign {
    Campaign::new(seed, steps, 300)
}

/// Bugs that some thousand steps show.
const QUICK: [Bug; 6] = [
    Bug::AnswerBeforeCheckpoint,
    Bug::DoubleDelFreesAnothers,
    Bug::WaiterForgottenOnTimeout,
    Bug::SecondAddSecondAddress,
    Bug::CoolDownForgottenAtRestart,
    Bug::LeaseEndedAtFirstLook,
];

#[test]
fn quick_bugs_are_found_within_a_hundred_thousand_steps() {
    let _one = ONE.lock().unwrap();
    std::panic::set_hook(Box::new(|_| ()));
    let mut missed = Vec::new();
    for bug in QUICK {
        let hunt = hunt(&campaign(7, SHORT), bug);
        match &hunt.found {
            Some(found) => println!("{bug}: {} steps, {} histories: {}", hunt.steps, hunt.histories, found.why),
            None => missed.push(bug.name()),
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Of the kinds of trouble in which campaigns are silent, as in CI's own.
#[test]
fn without_a_bug_nothing_is_found() {
    let _one = ONE.lock().unwrap();
    let kinds = [Feature::Latency, Feature::LostAnswers, Feature::ApiAway, Feature::Kills];
    let campaign = Campaign { kinds: kinds.into(), ..Campaign::new(17, 20_000, 500) };
    let finding = campaign.run(1, &|_| true);
    assert!(finding.found.is_empty(), "{}", finding.found[0].why);
    assert!(finding.steps >= 20_000);
}

/// What shipped programs are searched for is there to be found in one that has the bugs: this one.
#[test]
fn a_program_with_the_bugs_has_their_names() {
    let file = fs::read(std::env::current_exe().unwrap()).unwrap();
    let text = String::from_utf8_lossy(&file);
    for bug in Bug::ALL {
        assert!(text.contains(bug.name()), "{bug}");
    }
}
