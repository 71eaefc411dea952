//! `vpc-lab sim fleet`: a fleet's figures beside what they are held to.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, ValueEnum};
use lab_sim::fleet::{Case, Fleet, FleetReport};

use crate::cli::print;

/// A 10,000-node start is to be simulated in so many seconds on one core. Told, and no reason to fail: machines differ.
const REAL_TIME: f64 = 300.0;

/// What is asked for.
#[derive(Debug, Args)]
pub(in crate::cli) struct Wanted {
    /// Nodes, up to 10000.
    #[arg(long, default_value_t = 1000)]
    nodes: u32,
    /// What they do; without it all cases, one after the other.
    #[arg(long, value_enum)]
    case: Option<CaseName>,
    /// Decides all chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
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

pub(super) fn run(wanted: &Wanted) -> anyhow::Result<ExitCode> {
    let cases = wanted.case.map_or(Case::ALL.to_vec(), |case| vec![case.into()]);
    let mut code = ExitCode::SUCCESS;
    for case in &cases {
        let begun = Instant::now();
        let fleet = Fleet { nodes: wanted.nodes, case: *case, seed: wanted.seed };
        let report = fleet.run()?;
        print(&told(&report, begun.elapsed().as_secs_f64()))?;
        if !report.holds() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn told(report: &FleetReport, seconds: f64) -> String {
    let real = format!("{:<34}{seconds:>10.1} s  of {REAL_TIME:.0} s (told, not held to)\n", "real time");
    format!("{report}{real}\n")
}
