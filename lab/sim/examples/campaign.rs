//! A campaign from the command line, without the rest of `vpc-lab sim`: `campaign SEED STEPS JOBS ACTS MOST [small] [covered] [kinds=A,B]
//! [only=NUMBER] [open=NUMBER]`. It ends when so many histories went wrong.
//!
//! `small` shrinks what is found and tells it; `covered` prints what was tried, and counts holes in it as wrong; `only=NUMBER` runs and
//! tells the history of that number alone. The exit code is 1 if anything is wrong, but for `open=NUMBER` histories that are told all
//! the same.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for those who work on the simulator, and for CI")]

use std::process::ExitCode;
use std::time::Instant;

use lab_sim::{Campaign, Feature, Finding, Found, Limits, Report, Why, attempt, quiet_panics, replay, shrink};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (words, numbers): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.parse::<u64>().is_err());
    let number = |index: usize, default: u64| numbers.get(index).map_or(default, |text| text.parse().unwrap());
    let kinds = words.iter().find_map(|word| word.strip_prefix("kinds="));
    let campaign = Campaign {
        jobs: usize::try_from(number(2, 1)).unwrap(),
        kinds: kinds.map_or(Feature::ALL.into(), |kinds| kinds.split(',').map(|kind| kind.parse().unwrap()).collect()),
        ..Campaign::new(number(0, 1), number(1, 100_000), u32::try_from(number(3, 500)).unwrap())
    };
    quiet_panics();
    if let Some(number) = words.iter().find_map(|word| word.strip_prefix("only=")) {
        return only(&campaign, number.parse().unwrap());
    }
    let begin = Instant::now();
    let finding = campaign.run(usize::try_from(number(4, 10)).unwrap(), &|_| true);
    let took = begin.elapsed().as_secs_f64();
    let open = words.iter().find_map(|word| word.strip_prefix("open="));
    let mut well = finding.found.len() <= open.map_or(0, |most| most.parse().unwrap());
    if words.iter().any(|word| word == "covered") {
        well &= covered(&finding);
    }
    let rate = finding.steps as f64 / took;
    println!(
        "{} histories, {} steps, {} calls, {took:.1} s, {rate:.0} steps/s",
        finding.histories, finding.steps, finding.calls
    );
    if let Some((calls, number)) = finding.busiest {
        println!("the most calls: {calls}, in number {number}");
    }
    for found in &finding.found {
        println!("{} (seed {}): {}", found.number, found.history.seed, found.why);
        println!("   {:?}", found.history.features);
        println!("   vpc-lab sim {}", campaign.again(found.number));
        if words.iter().any(|word| word == "small") {
            small(found);
        }
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn only(campaign: &Campaign, number: u64) -> ExitCode {
    let history = campaign.history(number);
    let why = match attempt(&history) {
        Ok(Report { wrong: None, steps, .. }) => {
            println!("{number}: nothing wrong in {steps} steps");
            return ExitCode::SUCCESS;
        }
        Ok(Report { wrong: Some(wrong), .. }) => Why::Wrong(Box::new(wrong)),
        Err(why) => why,
    };
    small(&Found { number, history, why });
    ExitCode::FAILURE
}

fn small(found: &Found) {
    let begin = Instant::now();
    let small = shrink(&found.history, &found.why, Limits::default(), &mut |_| true);
    println!(
        "   {} of {} acts, {} runs, {} steps, {:.1} s: {}",
        small.history.acts.len(),
        found.history.acts.len(),
        small.runs,
        small.steps,
        begin.elapsed().as_secs_f64(),
        small.why
    );
    println!("{}\n{}", small.history.to_text().unwrap(), replay(&small.history).unwrap().story);
}

fn covered(finding: &Finding) -> bool {
    println!("{}", finding.coverage);
    let judgement = finding.coverage.judge();
    println!("{judgement}");
    judgement.is_empty()
}
