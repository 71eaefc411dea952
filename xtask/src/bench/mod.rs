//! `cargo xtask bench add`: the figures of the pod's path, each beside a control of the same run.
//!
//! Machines differ and have bad minutes; the ratio of a figure to its control is what can be compared. Nothing fails here: a figure
//! that could not be taken says why, and the exit code is 0.

mod bench_lab;
pub(crate) mod fabric;
mod figures;
pub(crate) mod plugin;
mod plugin_table;
pub(crate) mod pool;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{demo, dist, shell};
use bench_lab::Lab;
use figures::{Figure, median, table};

/// How much to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Pods that come one after the other
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// Rounds of 30 pods that come at once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Leave the demo out (it takes up to a minute)
    #[arg(long)]
    no_demo: bool,
}

/// How many pods come at once.
const AT_ONCE: usize = 30;
/// Addresses for pods of an m5.large: 3 ENIs of 9 each.
const M5_LARGE: usize = 27;
/// Starts of daemon and lab that are measured; the median counts.
const STARTS: usize = 5;

/// Measures and prints.
pub(crate) fn add(options: &Options) -> Result<ExitCode> {
    let programs = programs()?;
    let mut figures = Vec::new();
    let mut note = |name: &str, taken: Result<Vec<Figure>>| match taken {
        Ok(taken) => figures.extend(taken),
        Err(error) => figures.push(Figure::lost(name, &error)),
    };
    note("ADD and DEL", pods(&programs, options));
    note("start of the daemon", start(&programs));
    note("27 pods at once", burst(&programs));
    note("lab up to first pod", up(&programs, options));
    println!();
    print!("{}", table(&figures));
    Ok(ExitCode::SUCCESS)
}

/// All programs in one folder: plugin and daemon as they are shipped where a compiler for that is there, else for this machine.
fn programs() -> Result<PathBuf> {
    let built = demo::build()?;
    shell::must(&mut shell::cargo(["build", "--release", "--locked", "-p", "e2e", "--bin", "node-probe"]))?;
    let folder = shell::target()?.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for program in shell::PROGRAMS.into_iter().chain(["node-probe"]) {
        place(&built.join(program), &folder)?;
    }
    match dist::build() {
        Ok(shipped) => shipped.iter().try_for_each(|program| place(program, &folder))?,
        Err(why) => println!("measuring plugin and daemon as built for this machine, not as shipped: {why:#}"),
    }
    Ok(folder)
}

fn place(program: &Path, folder: &Path) -> Result<()> {
    let name = program.file_name().context("a program has a name")?;
    // A program that runs can not be written to, but it can be replaced.
    let _ = fs::remove_file(folder.join(name));
    fs::copy(program, folder.join(name)).with_context(|| format!("cannot copy {}", program.display()))?;
    Ok(())
}

/// ADD and DEL, one after the other and many at once, on a node that holds enough addresses: what the path itself costs.
fn pods(programs: &Path, options: &Options) -> Result<Vec<Figure>> {
    let env = r#"{ WARM_ENI_TARGET = "2", IP_COOLDOWN_PERIOD = "0" }"#;
    let lab = Lab::up(programs, "instant", "m5.4xlarge", env, None)?;
    // The first pods find cold caches; they are not counted.
    lab.probe(&["pods", "1", "5"])?;
    let (bare, ours) =
        (lab.probe(&["bare", "1", &options.pods.to_string()])?, lab.probe(&["pods", "1", &options.pods.to_string()])?);
    let many = [AT_ONCE.to_string(), options.rounds.to_string()];
    let (bare_many, ours_many) = (lab.probe(&["bare", &many[0], &many[1]])?, lab.probe(&["pods", &many[0], &many[1]])?);
    let figure = |name: &str, ours: &Value, bare: &Value, key: &str, goal: f64, most: f64| -> Result<Figure> {
        let (ours, bare) = (times(ours, key)?, times(bare, key)?);
        Ok(Figure::of(name, median(&ours), "empty process, bare veth", median(&bare), goal, most))
    };
    Ok(vec![
        figure("ADD p50, one by one", &ours, &bare, "add_ms", 1.6, 3.0)?,
        figure("ADD p50, 30 at once", &ours_many, &bare_many, "add_ms", 30.0, 60.0)?,
        figure("DEL p50 until gone, one by one", &ours, &bare, "del_gone_ms", 25.0, 25.0)?,
        figure("DEL p50 until gone, 30 at once", &ours_many, &bare_many, "del_gone_ms", 60.0, 60.0)?,
    ])
}

/// From `vpc-lab daemon start` to the conflist.
fn start(programs: &Path) -> Result<Vec<Figure>> {
    let lab = Lab::up(programs, "instant", "m5.large", "{}", None)?;
    let bare = times(&lab.probe(&["bare", "1", "50"])?, "add_ms")?;
    let starts = (0..STARTS).map(|_| lab.daemon_start_ms()).collect::<Result<Vec<_>>>()?;
    Ok(vec![Figure::of("start to conflist", median(&starts), "empty process, bare veth", median(&bare), 500.0, 500.0)])
}

/// As many pods as an m5.large takes, all at once, on a node that has just come up and a cloud that takes its time.
fn burst(programs: &Path) -> Result<Vec<Figure>> {
    let lab = Lab::up(programs, "aws", "m5.large", "{}", None)?;
    // The probe makes one attempt for each pod; a refusal would be an error here.
    let adds = times(&lab.probe(&["pods", &M5_LARGE.to_string(), "1"])?, "add_ms")?;
    let last = adds.iter().copied().fold(0.0, f64::max);
    // The control is what the same pods take when the cloud answers at once.
    let instant = Lab::up(programs, "instant", "m5.large", "{}", None)?;
    let control = times(&instant.probe(&["pods", &M5_LARGE.to_string(), "1"])?, "add_ms")?;
    let control = control.iter().copied().fold(0.0, f64::max);
    Ok(vec![Figure::of("27 pods at once, the last ADD", last, "same, instant cloud", control, 4000.0, 6000.0)])
}

/// From nothing to a pod, and the whole story.
fn up(programs: &Path, options: &Options) -> Result<Vec<Figure>> {
    let timed = |without_daemon: bool| -> Result<f64> {
        let begin = std::time::Instant::now();
        let lab = Lab::up(programs, "instant", "m5.large", "{}", without_daemon.then_some("[]"))?;
        if !without_daemon {
            lab.must(&["pod", "add", "node-a", "default/first"])?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    let ours = (0..STARTS).map(|_| timed(false)).collect::<Result<Vec<_>>>()?;
    let empty = (0..STARTS).map(|_| timed(true)).collect::<Result<Vec<_>>>()?;
    let empty = median(&empty);
    let mut figures =
        vec![Figure::of("lab up to first pod", median(&ours), "lab up without daemons", empty, 2000.0, 2000.0)];
    if !options.no_demo {
        let begin = std::time::Instant::now();
        let told = Command::new(programs.join("vpc-lab")).arg("demo").output().context("cannot run the demo")?;
        anyhow::ensure!(told.status.success(), "the demo failed: {}", String::from_utf8_lossy(&told.stdout));
        let took = begin.elapsed().as_secs_f64() * 1e3;
        figures.push(Figure::of("the whole demo", took, "lab up without daemons", empty, 60_000.0, 60_000.0));
    }
    Ok(figures)
}

/// The list of milliseconds under a key of the probe's answer.
fn times(answer: &Value, key: &str) -> Result<Vec<f64>> {
    let list = answer[key].as_array().with_context(|| format!("the probe gave no {key}: {answer}"))?;
    Ok(list.iter().filter_map(Value::as_f64).collect())
}
