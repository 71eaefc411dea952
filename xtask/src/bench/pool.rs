//! `cargo xtask bench pool`: the figures of the pool: what an AddNetwork takes, the daemon's memory, what is asked of EC2, how soon a
//! node is ready, and how many pods at once do.
//!
//! Each stands beside a control of the same run and its goal. Nothing fails here: what could not be taken says why.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::bench_lab::Lab;
use super::figures::median;
use super::{programs, times};

/// How much to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds of fifty AddNetwork each, at each number of pods
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Only the figures whose group contains this: latency, memory, calls, start, burst
    #[arg(long)]
    only: Option<String>,
    /// Folder with vpc-lab, aws-cni, aws-k8s-agent and node-probe; without it they are built
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// One line of the table.
struct Line {
    name: String,
    unit: &'static str,
    ours: f64,
    /// `None` where a count is its own measure.
    control: Option<(&'static str, f64)>,
    goal: f64,
}

impl Line {
    fn of(name: impl Into<String>, unit: &'static str, ours: f64, goal: f64) -> Self {
        Self { name: name.into(), unit, ours, control: None, goal }
    }

    fn beside(self, name: &'static str, control: f64) -> Self {
        Self { control: Some((name, control)), ..self }
    }
}

/// The type with most addresses for pods: 15 ENIs of 49.
const LARGEST: &str = "m5.24xlarge";
/// All of them.
const MOST_PODS: usize = 735;
/// The usual type for [`USUAL_PODS`]: 8 ENIs of 29.
const USUAL: &str = "m5.4xlarge";
/// Most pods Kubernetes puts on a node that was not told otherwise.
const USUAL_PODS: usize = 110;

/// A group of figures: its name, and how it is taken.
type Group = (&'static str, fn(&Path, &Options) -> Result<Vec<Line>>);

const GROUPS: [Group; 5] =
    [("latency", latency), ("memory", memory), ("calls", calls), ("start", start), ("burst", burst)];

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let programs = match &options.programs {
        Some(folder) => folder.canonicalize().with_context(|| folder.display().to_string())?,
        None => programs()?,
    };
    println!("\n{}", head());
    for (name, take) in GROUPS {
        if options.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        match take(&programs, options) {
            Ok(lines) => lines.iter().for_each(|line| println!("{}", shown(line))),
            Err(why) => println!("{name:<46} not measured: {why:#}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A node that holds every address it can, with no pod yet.
fn full_node(programs: &Path, instance_type: &str) -> Result<Lab> {
    let lab =
        Lab::up(programs, "instant", instance_type, r#"{ WARM_ENI_TARGET = "20", IP_COOLDOWN_PERIOD = "0" }"#, None)?;
    lab.ec2_calls_at_rest()?;
    Ok(lab)
}

/// What an AddNetwork takes, on a connection that stays open, the checkpoint being on the node's tmpfs.
fn latency(programs: &Path, options: &Options) -> Result<Vec<Line>> {
    let rounds = options.rounds.to_string();
    [(USUAL, USUAL_PODS, 150.0), (LARGEST, MOST_PODS, 300.0)]
        .into_iter()
        .map(|(instance_type, pods, goal)| {
            let lab = full_node(programs, instance_type)?;
            let answer = lab.probe(&["rpc", &pods.to_string(), &rounds])?;
            let control = median(&times(&answer["times"], "control_us")?);
            let add = median(&times(&answer["times"], "add_us")?);
            let name = format!("AddNetwork p50 at {pods} pods, warm connection");
            Ok(Line::of(name, "us", add, goal).beside("call that asks nothing of the agent", control))
        })
        .collect()
}

/// The daemon's memory: with nothing to do, with as many pods as a node can have, and when they have gone.
fn memory(programs: &Path, _: &Options) -> Result<Vec<Line>> {
    let lab = full_node(programs, LARGEST)?;
    let answer = lab.probe(&["rpc", &MOST_PODS.to_string(), "0"])?;
    let taken = |when: &str, what: &str| -> Result<f64> {
        answer["memory"][when][what].as_f64().map(|bytes| bytes / 1e6).with_context(|| format!("no {what} {when}"))
    };
    let line = |name: &str, when: &str, goal: f64| -> Result<Line> {
        Ok(Line::of(name, "MB", taken(when, "rss")?, goal).beside("of it the program itself", taken(when, "file")?))
    };
    Ok(vec![
        line("RSS, 735 addresses, no pod", "start", 15.0)?,
        line("RSS with 735 pods", "full", 15.0)?,
        line("RSS when they have gone", "after", 15.0)?,
    ])
}

/// The settings under which a node is given one prefix and no more.
const ONE_PREFIX: &str = r#"ENABLE_PREFIX_DELEGATION = "true", WARM_PREFIX_TARGET = "1""#;

/// What is asked of EC2 until the pool is at rest, and what for each further ENI.
fn calls(programs: &Path, _: &Options) -> Result<Vec<Line>> {
    let at_rest = |env: &str| Lab::up(programs, "instant", "m5.large", env, None)?.ec2_calls_at_rest();
    let changing = |calls: &[String]| number(calls.iter().filter(|call| !call.starts_with("Describe")).count());
    let prefix = at_rest(&format!("{{ {ONE_PREFIX} }}"))?;
    let no_spare = at_rest(r#"{ WARM_IP_TARGET = "5" }"#)?;
    // What the primary ENI carries is as much as one warm ENI; two need the first further one, and three the next.
    let one_more = at_rest(r#"{ WARM_ENI_TARGET = "2" }"#)?;
    let two_more = at_rest(r#"{ WARM_ENI_TARGET = "3" }"#)?;
    let tagged = {
        let lab = Lab::up(programs, "instant", "m5.large", &format!("{{ {ONE_PREFIX} }}"), None)?;
        let first = lab.ec2_calls_at_rest()?.len();
        lab.must(&["daemon", "stop", "node-a"])?;
        lab.must(&["daemon", "start", "node-a"])?;
        lab.ec2_calls_at_rest()?.split_off(first)
    };
    for (what, calls) in [
        ("one prefix", &prefix),
        ("secondary addresses", &no_spare),
        ("with a further ENI", &one_more),
        ("with two", &two_more),
        ("started again", &tagged),
    ] {
        println!("  {what}: {}", calls.join(" "));
    }
    let all = |calls: &[String]| number(calls.len());
    Ok(vec![
        Line::of("changing calls, boot, one prefix", "", changing(&prefix), 2.0).beside("all calls", all(&prefix)),
        Line::of("changing calls, again, one prefix, tagged", "", changing(&tagged), 1.0)
            .beside("all calls", all(&tagged)),
        Line::of("changing calls, boot, secondary addresses", "", changing(&no_spare), 2.0)
            .beside("all calls", all(&no_spare)),
        Line::of("changing calls, boot with the first warm ENI", "", changing(&one_more), 5.0)
            .beside("all calls", all(&one_more)),
        Line::of("changing calls, each further ENI", "", changing(&two_more) - changing(&one_more), 3.0)
            .beside("all calls", all(&two_more) - all(&one_more)),
    ])
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from)
}

/// Starts of the daemon that are measured; the median counts.
const STARTS: usize = 5;

/// From the daemon's start to the conflist, with metadata that take 50 ms a request: on a node that has its addresses.
fn start(programs: &Path, _: &Options) -> Result<Vec<Line>> {
    let taken = |head: &str| -> Result<f64> {
        let lab = Lab::with(programs, head, "m5.large", "{}", None)?;
        lab.ec2_calls_at_rest()?;
        Ok(median(&(0..STARTS).map(|_| lab.daemon_start_ms()).collect::<Result<Vec<_>>>()?))
    };
    let ours = taken("latency = { imds = [50, 50], describe = [1000, 1000] }")?;
    let control = taken("profile = \"instant\"")?;
    Ok(vec![
        Line::of("start to conflist, IMDS 50 ms, EC2 1 s", "ms", ours, 500.0).beside("IMDS and EC2 at once", control),
    ])
}

/// Pods that come at once.
const BURST: usize = 60;

/// Sixty pods at once on a node with ten free addresses and free slots, while EC2 takes 1.5 s for each call.
fn burst(programs: &Path, _: &Options) -> Result<Vec<Line>> {
    let taken = |latency: &str| -> Result<(f64, f64, f64)> {
        let head = format!("{latency}\n[node_defaults]\nmax_pods = 110");
        let env = r#"{ ENABLE_PREFIX_DELEGATION = "true", WARM_IP_TARGET = "10", MINIMUM_IP_TARGET = "16" }"#;
        let lab = Lab::with(programs, &head, "m5.large", env, None)?;
        // Six of the sixteen addresses of the first prefix are taken: ten are free.
        lab.ec2_calls_at_rest()?;
        lab.probe(&["burst", "0", "6", "keep"])?;
        let before = lab.ec2_calls_at_rest()?.len();
        let answer = lab.probe(&["burst", "6", &BURST.to_string(), "keep"])?;
        let failed = answer["failed"].as_array().context("no list of failures")?;
        failed.iter().take(3).for_each(|error| println!("  {error}"));
        let calls = lab.ec2_calls()?.split_off(before);
        println!("  during the burst: {}", calls.join(" "));
        let assigned = calls.iter().filter(|call| call.starts_with("Assign")).count();
        let last = times(&answer, "add_ms")?.into_iter().fold(0.0, f64::max);
        Ok((number(failed.len()), last, number(assigned)))
    };
    let (failed, last, assigned) =
        taken("latency = { assign = [1500, 1500], describe = [1500, 1500], modify = [1500, 1500] }")?;
    let (failed_at_once, last_at_once, assigned_at_once) = taken("profile = \"instant\"")?;
    let control = "EC2 at once";
    Ok(vec![
        Line::of("60 pods at once: failed", "", failed, 0.0).beside(control, failed_at_once),
        Line::of("60 pods at once: the last one", "ms", last, 4000.0).beside(control, last_at_once),
        Line::of("60 pods at once: assign calls", "", assigned, 2.0).beside(control, assigned_at_once),
    ])
}

fn head() -> String {
    format!("{:<46} {:>9} {:>9} {:>7} {:>7}     control", "figure", "ours", "control", "ratio", "goal")
}

fn shown(line: &Line) -> String {
    let digits = if line.unit == "MB" { 2 } else { 0 };
    let mut out = format!("{:<46} {:>9.digits$}", line.name, line.ours);
    let _ = match line.control {
        Some((name, control)) => {
            write!(out, " {control:>9.digits$} {:>7.2} {:>7} {:<3} {name}", line.ours / control, line.goal, line.unit)
        }
        None => write!(out, " {:>9} {:>7} {:>7} {:<3}", "", "", line.goal, line.unit),
    };
    if line.ours > line.goal {
        out += "  (above)";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_figure_control_ratio_and_goal_and_says_when_it_is_above() {
        let line = Line::of("an ADD", "us", 140.0, 150.0).beside("an empty call", 100.0);
        let text = shown(&line);
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["an", "ADD", "140", "100", "1.40", "150", "us", "an", "empty", "call"]);
        assert!(shown(&Line { ours: 151.0, ..line }).ends_with("(above)"));
        let alone = shown(&Line::of("RSS", "MB", 9.5, 15.0));
        assert_eq!(alone.split_whitespace().collect::<Vec<_>>(), ["RSS", "9.50", "15", "MB"]);
    }
}
