//! `cargo xtask bench fabric`: what the lab's fabric costs beside a plain router between two veth pairs.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

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
    Ok(ExitCode::SUCCESS)
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
