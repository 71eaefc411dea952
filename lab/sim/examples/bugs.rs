//! Looks for one deliberate bug with one seed, and prints a row of the table that `cargo xtask sim-bugs` shows.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for those who work on the simulator")]

use std::process::ExitCode;
use std::time::Instant;

use lab_sim::{Campaign, Hunt, hunt, quiet_panics};
use vpc_ipam::bugs::Bug;

/// Acts of one history.
const ACTS: u32 = 300;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["list"] => {
            Bug::ALL.into_iter().for_each(|bug| println!("{bug}: {}; breaks: {}", bug.what(), bug.breaks()));
            ExitCode::SUCCESS
        }
        [name, seed, steps] => match (named(name), seed.parse(), steps.parse()) {
            (Some(bug), Ok(seed), Ok(steps)) => look(bug, seed, steps),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: bugs list | bugs BUG|none SEED STEPS");
    ExitCode::from(2)
}

/// `Some(None)` is none.
fn named(name: &str) -> Option<Option<Bug>> {
    if name == "none" { Some(None) } else { Bug::named(name).map(Some) }
}

fn look(bug: Option<Bug>, seed: u64, steps: u64) -> ExitCode {
    // A panic is a finding; its words are in the row.
    quiet_panics();
    let campaign = Campaign::new(seed, steps, ACTS);
    match bug {
        Some(bug) => look_for(bug, &campaign),
        None => control(&campaign),
    }
}

/// Good is: it was found.
fn look_for(bug: Bug, campaign: &Campaign) -> ExitCode {
    let begin = Instant::now();
    let hunt = hunt(campaign, bug);
    let said = match &hunt.found {
        Some(found) => format!("history {} {}", found.number, found.why),
        None => "MISSED".to_owned(),
    };
    let Hunt { steps, histories, wrong_otherwise, wrong_anyway, .. } = hunt;
    row(bug.name(), campaign.seed, steps, histories, begin, &said);
    if wrong_otherwise + wrong_anyway > 0 {
        println!(
            "    not counted: {wrong_otherwise} histories went wrong in another way, {wrong_anyway} without the bug too"
        );
    }
    if hunt.found.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What goes wrong without a bug: it is none of those looked for.
fn control(campaign: &Campaign) -> ExitCode {
    let begin = Instant::now();
    let finding = campaign.run(usize::MAX, &|_| true);
    let said = format!("{} histories go wrong", finding.found.len());
    row("none", campaign.seed, finding.steps, finding.histories, begin, &said);
    ExitCode::SUCCESS
}

fn row(name: &str, seed: u64, steps: u64, histories: u64, begin: Instant, said: &str) {
    let took = begin.elapsed().as_secs_f64();
    println!("{name:<31} {seed:>20} {steps:>9} {histories:>5} {took:>7.1}  {said}");
}
