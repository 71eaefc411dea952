//! `vpc-lab sim --replay FILE`: a kept history once more, in words.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use lab_sim::{History, quiet_panics, replay};

use super::say;

/// A history of ten thousand acts has about a megabyte.
const MOST_BYTES: u64 = 16 << 20;

pub(super) fn run(file: &Path) -> anyhow::Result<ExitCode> {
    let name = file.display();
    let text = read(file).with_context(|| format!("--replay: {name} can not be read"))?;
    let history = History::from_text(&text).with_context(|| format!("--replay: {name}"))?;
    say(&conditions(&history))?;
    quiet_panics();
    tell(&history)
}

/// The text of a file that may be a history.
fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(file)?.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if length as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("expected a history of {MOST_BYTES} bytes at most")));
    }
    Ok(text)
}

/// Where it happens.
fn conditions(history: &History) -> String {
    let nodes = history.nodes.iter().map(|node| format!("{} ({})", node.instance_type, node.settings));
    let nodes: Vec<String> = nodes.collect();
    let (acts, pace, subnet) = (history.acts.len(), format!("{:?}", history.pace).to_lowercase(), history.subnet);
    format!("{acts} acts, pace {pace}, subnet {subnet}, nodes: {}\n", nodes.join("; "))
}

/// Runs a history and prints its story.
pub(super) fn tell(history: &History) -> anyhow::Result<ExitCode> {
    let run = replay(history)?;
    say(&run.story)?;
    let (steps, calls) = (run.report.steps, run.report.calls);
    match run.why {
        Some(why) => {
            say(&format!("wrong: {why}\n"))?;
            Ok(ExitCode::FAILURE)
        }
        None => {
            say(&format!("nothing wrong in {steps} steps, {calls} EC2 calls\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
