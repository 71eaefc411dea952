//! Looks for one deliberate bug with one seed, and prints a row of the table that `cargo xtask sim-bugs` shows.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for those who work on the simulator")]

use std::process::ExitCode;
use std::time::Instant;

use lab_sim::{Campaign, hunt};
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

/// Good is: a bug that was found, or silence where there is none.
fn look(bug: Option<Bug>, seed: u64, steps: u64) -> ExitCode {
    // A panic is a finding; its words are in the row.
    std::panic::set_hook(Box::new(|_| ()));
    let begin = Instant::now();
    let hunt = hunt(&Campaign::new(seed, steps, ACTS), bug);
    let took = begin.elapsed().as_secs_f64();
    let said = match &hunt.found {
        Some(found) => format!("history {} {}", found.number, found.why),
        None if bug.is_none() => "silence".to_owned(),
        None => "MISSED".to_owned(),
    };
    let name = bug.map_or("none", Bug::name);
    println!("{name:<31} {seed:>20} {:>9} {:>5} {took:>7.1}  {said}", hunt.steps, hunt.histories);
    if hunt.wrong_anyway > 0 {
        println!("    {} histories went wrong without the bug too", hunt.wrong_anyway);
    }
    if hunt.found.is_some() == bug.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
