//! `vpc-lab sim fleet`: a fleet's figures beside what they are held to, and a picture of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};
use lab_sim::fleet::{Case, Fleet, FleetReport, svg, text};

use super::say;

/// A 10,000-node start is to be simulated in so many seconds on one core. Told, and no reason to fail: machines differ.
const REAL_TIME: f64 = 300.0;

/// What is asked for.
#[derive(Debug, Args)]
pub(in crate::cli) struct Wanted {
    /// Nodes, up to 10000.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = nodes)]
    nodes: u32,
    /// What they do; without it all cases, one after the other.
    #[arg(long, value_enum)]
    case: Option<CaseName>,
    /// Decides all chance.
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = super::campaign::number)]
    seed: u64,
    /// Write a plot of calls and ready nodes over time; with more than one case its name is put before the ending.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// The nodes are not told how many they are, as if Kubernetes could not be asked.
    #[arg(long)]
    uncounted: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CaseName {
    /// All daemons start at the same moment, on new nodes.
    Start,
    /// The daemons of running nodes are restarted in batches.
    Rolling,
    /// New nodes come in waves, and pods arrive on old and new ones.
    Scaling,
}

impl From<CaseName> for Case {
    fn from(name: CaseName) -> Self {
        match name {
            CaseName::Start => Self::Start,
            CaseName::Rolling => Self::Rolling,
            CaseName::Scaling => Self::Scaling,
        }
    }
}

fn nodes(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|nodes| (1..=Fleet::MOST).contains(nodes));
    number.ok_or_else(|| format!("expected 1 to {} nodes", Fleet::MOST))
}

pub(super) fn run(wanted: &Wanted) -> anyhow::Result<ExitCode> {
    let cases = wanted.case.map_or(Case::ALL.to_vec(), |case| vec![case.into()]);
    // Before minutes have been spent on what can not be written.
    let mut plots = BTreeMap::new();
    for case in &cases {
        if let Some(path) = &wanted.plot {
            let path = if cases.len() > 1 { named(path, *case) } else { path.clone() };
            let file = File::create(&path).with_context(|| format!("--plot: {} can not be written", path.display()))?;
            plots.insert(case.name(), (path, file));
        }
    }
    let mut code = ExitCode::SUCCESS;
    for case in &cases {
        let begun = Instant::now();
        let fleet = Fleet { nodes: wanted.nodes, case: *case, seed: wanted.seed, counted: !wanted.uncounted };
        let report = fleet.run()?;
        say(&told(&report, begun.elapsed().as_secs_f64()))?;
        if let Some((path, file)) = plots.get_mut(case.name()) {
            let plot = svg(&report);
            file.write_all(plot.as_bytes())
                .with_context(|| format!("--plot: {} can not be written", path.display()))?;
            say(&format!("plot: {}\n", path.display()))?;
        }
        if !report.holds() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// `fleet.svg` of a case: `fleet-start.svg`.
fn named(path: &std::path::Path, case: Case) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{}.svg", case.name()))
}

fn told(report: &FleetReport, seconds: f64) -> String {
    let real = format!("{:<34}{seconds:>10.1} s  of {REAL_TIME:.0} s (told, not held to)\n", "real time");
    format!("{report}{real}\n{}\n", text(report))
}
