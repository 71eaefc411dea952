//! `vpc-lab fault`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::FaultCommand;
use super::{print, to_json};
use crate::fault::{Fault, FaultReport, FaultState, READY_SCENARIOS, ReadyScenario, Scenario, play};
use crate::lab::Lab;

pub(super) fn run(lab: &str, command: FaultCommand) -> anyhow::Result<()> {
    match command {
        FaultCommand::List { json } => {
            let faults = Lab::open(lab)?.faults()?;
            print(&if json { to_json(&faults)? } else { list(&faults) })
        }
        FaultCommand::Add { kind, keys, r#for } => {
            let fault = Fault::from_words(&kind, &keys)?;
            let report = Lab::open(lab)?.fault(&fault, r#for)?;
            print(&line(&report))
        }
        FaultCommand::Lift { all: true, .. } => print(&list(&Lab::open(lab)?.lift_all()?)),
        FaultCommand::Lift { ids, .. } => {
            let lab = Lab::open(lab)?;
            Ok(ids.into_iter().try_for_each(|id| lab.lift(id))?)
        }
        FaultCommand::Run { scenario: None, .. } => print(&ready()?),
        FaultCommand::Run { scenario: Some(path), dry_run } => {
            let scenario = read(&path)?;
            if dry_run { dry(lab, &scenario) } else { perform(&Lab::open(lab)?, &scenario) }
        }
    }
}

/// Every fault on a line.
pub(super) fn list(faults: &[FaultReport]) -> String {
    if faults.is_empty() { "no faults\n".to_owned() } else { faults.iter().map(line).collect() }
}

/// A fault on a line.
pub(super) fn line(report: &FaultReport) -> String {
    let seconds = |ms: u64| format!("{:.1} s", Duration::from_millis(ms).as_secs_f64());
    let state = match (report.state, report.until_ms) {
        (FaultState::Lifted, Some(until)) => format!("{} to {}", seconds(report.since_ms), seconds(until)),
        (FaultState::Happened, _) => format!("at {}", seconds(report.since_ms)),
        _ => format!("since {}", seconds(report.since_ms)),
    };
    let state_word = match report.state {
        FaultState::Active => "holds",
        FaultState::Lifted => "lifted",
        FaultState::Happened => "happened",
    };
    let mut out = format!("{:>3}  {state_word:<8}  {state:<18}  {}", report.id, report.fault);
    if let Some(hits) = report.hits {
        let _ = write!(out, "  ({hits} hits)");
    }
    if let Some(note) = &report.note {
        let _ = write!(out, "  [{note}]");
    }
    out.push('\n');
    out
}

fn ready() -> anyhow::Result<String> {
    let line = |ready: &ReadyScenario| Ok(format!("{:<18} {}\n", ready.name, Scenario::parse(ready.text)?.about));
    READY_SCENARIOS.iter().map(line).collect()
}

/// A file of that name goes first.
fn read(path: &Path) -> anyhow::Result<Scenario> {
    let ready = path.to_str().filter(|_| !path.exists()).and_then(ReadyScenario::named);
    if let Some(ready) = ready {
        return Ok(Scenario::parse(ready.text)?);
    }
    if !path.exists() && path.extension().is_none() {
        let names: Vec<_> = READY_SCENARIOS.iter().map(|ready| ready.name).collect();
        let names = names.join(", ");
        bail!("there is no file {0} and no ready scenario `{0}`: expected a file, or one of {names}", path.display());
    }
    Scenario::read(path).with_context(|| path.display().to_string())
}

/// What would happen. Where a lab runs, it is asked whether it has all that the scenario needs.
fn dry(lab: &str, scenario: &Scenario) -> anyhow::Result<()> {
    let mut out = format!("{}\n", scenario.about);
    for step in &scenario.steps {
        let _ = writeln!(out, "{}  {step}", stamp(step.at));
    }
    print(&out)?;
    match Lab::open(lab) {
        Ok(lab) => Ok(scenario.check(&lab)?),
        Err(_) => print(&format!("(lab {lab} is not up: nobody has checked that it has these nodes)\n")),
    }
}

fn perform(lab: &Lab, scenario: &Scenario) -> anyhow::Result<()> {
    print(&format!("{}\n", scenario.about))?;
    Ok(play(lab, scenario, |at, text| {
        print(&format!("{}  {text}\n", stamp(at))).ok();
    })?)
}

fn stamp(at: Duration) -> String {
    format!("{:>8.3} s", at.as_secs_f64())
}
