//! How fast the simulator is: steps a second on one core, by scenario, and what beginning a world costs.
//!
//! `cargo run --profile sim -p lab-sim --example speed [steps] [scenario]`
#![allow(clippy::unwrap_used)]

use lab_sim::{Campaign, Dice, NodeAt, Watch, World, attempt, scene};
use vpc_agent::Config;
use vpc_ipam::{Unit, WarmTarget};
use vpc_model::Millis;

const NODE: NodeAt = NodeAt(0);
/// All books are audited after so many steps.
const WHOLE_AUDIT: u32 = 1000;

/// A node with pods that come and go.
struct Scenario {
    name: &'static str,
    kind: &'static str,
    change: fn(&mut Config),
    /// Live pods, at least and at most.
    pods: (u64, u64),
    watch: Watch,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let steps = args.next().and_then(|steps| steps.parse().ok()).unwrap_or(300_000);
    let only = args.next();
    let prefixes = |config: &mut Config| {
        config.target.unit = Unit::Prefix;
        config.target.warm = WarmTarget::Prefixes(1);
        config.target.max_pods = Some(110);
    };
    let watch = Watch::Every(WHOLE_AUDIT);
    let scenarios = [
        Scenario { name: "m5.large", kind: "m5.large", change: |_| (), pods: (10, 25), watch },
        Scenario { name: "m5.large prefixes", kind: "m5.large", change: prefixes, pods: (20, 60), watch },
        Scenario { name: "c5.4xlarge", kind: "c5.4xlarge", change: |_| (), pods: (20, 60), watch },
        Scenario { name: "c5.4xlarge prefixes", kind: "c5.4xlarge", change: prefixes, pods: (20, 60), watch },
        Scenario {
            name: "c5.4xlarge whole audit each step",
            kind: "c5.4xlarge",
            change: |_| (),
            pods: (20, 60),
            watch: Watch::Every(1),
        },
    ];
    for scenario in scenarios.iter().filter(|scenario| only.as_ref().is_none_or(|only| scenario.name == only)) {
        steady(scenario, steps);
    }
    if only.is_none() || only.as_deref() == Some("begin") {
        beginnings();
    }
    if only.is_none() || only.as_deref() == Some("short") {
        short_histories();
    }
    if only.is_none() || only.as_deref() == Some("campaign") {
        campaign(steps);
    }
}

/// Time this thread has had on a core, in seconds: what other programs take meanwhile does not count.
struct Busy(f64);

impl Busy {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Self(text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9)
    }

    fn since(&self) -> f64 {
        Self::now().0 - self.0
    }
}

/// Begins a world with the settings, and runs it for two minutes.
fn begun(seed: u64, scenario: &Scenario) -> World {
    let (spec, setup) = scene(seed, &[("node-1", scenario.kind)]);
    let mut world = World::new(spec, setup).unwrap();
    world.watch = scenario.watch;
    world.keep = 1000;
    (scenario.change)(&mut world.node_mut(NODE).unwrap().config);
    world.start(NODE);
    world.run_for(Millis::seconds(120));
    world
}

/// Several ADDs and DELs a second.
fn churn(world: &mut World, chance: &mut Dice, pods: (u64, u64), number: &mut u64) {
    let live = world.node(NODE).unwrap().pods.len() as u64;
    let more = live < pods.0 || (live < pods.1 && chance.roll(2) == 0);
    if more {
        world.add_pod(NODE, &format!("p{number}"));
        *number += 1;
    } else {
        let at = usize::try_from(chance.roll(live)).unwrap();
        let name = world.node(NODE).unwrap().pods.keys().nth(at).unwrap().clone();
        world.delete_pod(NODE, &name);
    }
    world.run_for(Millis(50 + chance.roll(250)));
}

fn steady(scenario: &Scenario, steps: u64) {
    let mut world = begun(1, scenario);
    let (mut chance, mut number) = (Dice::new(1), 0);
    let (first, begun, since) = (world.steps, world.now(), Busy::now());
    while world.steps - first < steps {
        churn(&mut world, &mut chance, scenario.pods, &mut number);
    }
    let busy = since.since();
    let done = world.steps - first;
    assert!(world.faults.is_empty(), "{:?}", world.faults);
    println!(
        "{:<34} {:>8.0} steps/s   {done} steps in {:.2} s ({:.1} h of made-up time, {number} pods, {} running)",
        scenario.name,
        done as f64 / busy,
        busy,
        world.now().since(begun).0 as f64 / 3.6e6,
        world.node(NODE).unwrap().running().count(),
    );
}

/// What it costs to begin a world, and until its node is ready.
fn beginnings() {
    const WORLDS: u32 = 200;
    for kind in ["m5.large", "c5.4xlarge"] {
        let (mut made, mut ready) = (0.0, 0.0);
        for seed in 0..WORLDS {
            let since = Busy::now();
            let (spec, setup) = scene(seed.into(), &[("node-1", kind)]);
            let mut world = World::new(spec, setup).unwrap();
            made += since.since() * 1e6;
            world.start(NODE);
            let end = world.now() + Millis::seconds(600);
            world.run_until(end, |world| world.node(NODE).unwrap().ready_at.is_some());
            ready += since.since() * 1e6;
        }
        println!(
            "{kind}: World::new {:.0} us, ready after {:.0} us",
            made / f64::from(WORLDS),
            ready / f64::from(WORLDS)
        );
    }
}

/// Short histories as a campaign runs them: a fresh world each, ten minutes of pods.
fn short_histories() {
    let scenario =
        Scenario { name: "", kind: "m5.large", change: |_| (), pods: (5, 25), watch: Watch::Every(WHOLE_AUDIT) };
    let (mut steps, since) = (0, Busy::now());
    for seed in 0..100 {
        let mut world = begun(seed, &scenario);
        let (mut chance, mut number) = (Dice::new(seed), 0);
        for _ in 0..600 {
            churn(&mut world, &mut chance, scenario.pods, &mut number);
        }
        steps += world.steps;
    }
    let busy = since.since();
    println!(
        "short histories: {:.0} steps/s, 100 worlds of {} steps each in {busy:.2} s",
        steps as f64 / busy,
        steps / 100
    );
}

/// Drawn histories, with their trouble and calm.
fn campaign(steps: u64) {
    const ACTS: u32 = 500;
    let campaign = Campaign::new(1, steps, ACTS);
    let (mut done, mut calls, mut number, since) = (0, 0, 0, Busy::now());
    let mut slowest = (0.0, 0);
    while done < steps {
        let begun = Busy::now();
        if let Ok(report) = attempt(&campaign.history(number)) {
            (done, calls) = (done + report.steps, calls + report.calls);
            let pace = begun.since() * 1e6 / report.steps.max(1) as f64;
            if report.steps > 1000 && pace > slowest.0 {
                slowest = (pace, number);
            }
        }
        number += 1;
    }
    let busy = since.since();
    println!(
        "campaign: {:.0} steps/s, {number} histories of {ACTS} acts, {done} steps and {calls} calls in {busy:.2} s",
        done as f64 / busy
    );
    println!("  the slowest, number {}, took {:.1} us a step", slowest.1, slowest.0);
}
