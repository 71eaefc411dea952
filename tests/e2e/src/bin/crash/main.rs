//! `crash SECONDS SEED RATE PODS`: a storm of ADDs, DELs and SIGKILLs in a lab of its own (see `e2e::crash::storm`). `cargo xtask crash`
//! builds what it needs and runs it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use e2e::crash::programs::Programs;
use e2e::crash::storm::{self, Storm};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seconds, seed, rate, pods] = arguments.as_slice() else { bail!("crash SECONDS SEED RATE PODS") };
    let storm = Storm {
        lasts: Duration::from_secs(seconds.parse().context("SECONDS")?),
        seed: seed.parse().context("SEED")?,
        rate: rate.parse().context("RATE")?,
        pods: pods.parse().context("PODS")?,
    };
    let programs = Programs::find().map_err(anyhow::Error::msg)?;
    let report = storm::run(&programs, &storm)?;
    println!("seed {seed}, c5.4xlarge, prefixes, IP_COOLDOWN_PERIOD=2");
    println!("{report}");
    Ok(if report.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
