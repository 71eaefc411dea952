//! `cargo xtask bench fabric`: what the lab's fabric costs beside a plain router between two veth pairs, and how long three nodes take
//! to start.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::figures::median;
use crate::demo;

/// How much to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Turns, fabric and control one after the other; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Round trips in each turn
    #[arg(long, default_value_t = 10_000)]
    round_trips: usize,
    /// How long a stream runs in each turn, in milliseconds
    #[arg(long, default_value_t = 1000)]
    millis: u64,
}

/// Measures and prints. Nothing fails here: figures that could not be taken say why.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let built = demo::build()?;
    let mut command = Command::new(built.join("vpc-lab"));
    command.args(["tool", "cost"]);
    command.args([format!("--rounds={}", options.rounds), format!("--round-trips={}", options.round_trips)]);
    command.arg(format!("--millis={}", options.millis));
    match taken(&mut command) {
        Ok(cost) => print!("{}", table(&cost)),
        Err(why) => println!("the fabric's cost was not measured: {why:#}"),
    }
    match start_of_three(&built.join("vpc-lab"), options.rounds) {
        Ok((ours, control)) => print!("{}", start_line(ours, control)),
        Err(why) => println!("the start of three nodes was not measured: {why:#}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Most milliseconds that three nodes may take from `vpc-lab up` until all their daemons are ready.
const START_GOAL: f64 = 2000.0;

/// Medians, in milliseconds: the built-in topology, and the same without daemons.
fn start_of_three(vpc_lab: &Path, rounds: usize) -> Result<(f64, f64)> {
    let folder = tempfile::tempdir()?;
    let empty = folder.path().join("empty.toml");
    let text = output(Command::new(vpc_lab).args(["topology", "three-zones"]))?;
    let text = text.replacen("[node_defaults]", "[node_defaults]\ndaemon = { command = [] }", 1);
    ensure!(text.contains("command = []"), "the built-in topology has no [node_defaults]");
    std::fs::write(&empty, text)?;
    let name = format!("bench-{}", std::process::id());
    let timed = |topology: &OsStr| {
        let begin = Instant::now();
        let up = output(Command::new(vpc_lab).args(["up", "--lab", &name]).arg(topology));
        let took = begin.elapsed().as_secs_f64() * 1e3;
        // Also a lab that came up halfway is taken down.
        let down = output(Command::new(vpc_lab).args(["down", "--lab", &name]));
        up.and(down).map(|_| took)
    };
    let each = |topology: &OsStr| (0..rounds.max(1)).map(|_| timed(topology)).collect::<Result<Vec<_>>>();
    Ok((median(&each(OsStr::new("three-zones"))?), median(&each(empty.as_os_str())?)))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run vpc-lab")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn start_line(ours: f64, control: f64) -> String {
    let above = if ours > START_GOAL { "  (above)" } else { "" };
    let name = "start of three nodes (ms)";
    format!(
        "{name:<32} {ours:>10.1} {control:>10.1} {:>8.2}  the same without daemons; goal {START_GOAL}{above}\n",
        ours / control
    )
}

fn taken(command: &mut Command) -> Result<Value> {
    let output = command.output().context("cannot run vpc-lab")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    serde_json::from_slice(&output.stdout).context("vpc-lab printed no JSON")
}

fn table(cost: &Value) -> String {
    let line = |name: &str, key: &str| {
        let [ours, control] = ["fabric", "control"].map(|path| cost[path][key].as_f64().unwrap_or(f64::NAN));
        format!("{name:<32} {ours:>10.2} {control:>10.2} {:>8.2}  two routed veth pairs, no filter\n", ours / control)
    };
    let head = format!("{:<32} {:>10} {:>10} {:>8}  control\n", "figure", "ours", "control", "ratio");
    head + &line("TCP round trip (µs)", "round_trip_micros") + &line("TCP stream (Gbit/s)", "gigabits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_stands_beside_its_control_with_their_ratio() {
        let cost = serde_json::json!({
            "fabric": { "round_trip_micros": 30.0, "gigabits": 20.0 },
            "control": { "round_trip_micros": 20.0, "gigabits": 40.0 },
        });
        let table = table(&cost);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[1].contains("30.00") && lines[1].contains("20.00") && lines[1].contains("1.50"), "{table}");
        assert!(lines[2].contains("40.00") && lines[2].contains("0.50"), "{table}");
    }
}
