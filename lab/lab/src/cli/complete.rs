//! `vpc-lab completion`: scripts for shells. They ask the program itself what may follow, so names of labs, nodes, topologies, faults
//! and scenarios complete too.
//!
//! ```text
//!   source <(vpc-lab completion bash)       once, in the shell
//!   vpc-lab exec no<TAB>   ->  COMPLETE=bash vpc-lab -- ...   ->  node-a node-b node-c
//! ```

use std::ffi::OsStr;

use anyhow::anyhow;
use clap::{CommandFactory, ValueEnum};
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};

use super::args::Cli;
use crate::fault::{KINDS, Kind, READY_SCENARIOS};
use crate::lab::Lab;
use crate::place::{DEFAULT_LAB, LabPlace};
use crate::topology::READY;

/// The variable that the scripts set.
const VARIABLE: &str = "COMPLETE";
const PROGRAM: &str = "vpc-lab";

/// A shell that there is a script for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Answers a shell's question, if the program was started for that; it ends then.
pub(super) fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// The script for a shell.
pub(super) fn script(shell: Shell) -> anyhow::Result<String> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut text = Vec::new();
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut text)?;
    String::from_utf8(text).map_err(|e| anyhow!("the script is no text: {e}"))
}

/// Labs that run.
pub(super) fn labs() -> Vec<CompletionCandidate> {
    LabPlace::running().into_iter().map(CompletionCandidate::new).collect()
}

/// Nodes of the lab that the line so far means; none if it does not run.
pub(super) fn nodes() -> Vec<CompletionCandidate> {
    node_names().into_iter().map(CompletionCandidate::new).collect()
}

/// Everything that has a network.
pub(super) fn places() -> Vec<CompletionCandidate> {
    let Some(status) = asked_lab() else { return Vec::new() };
    let pods = status.nodes.iter().flat_map(|node| node.pods.iter().map(|pod| format!("{}/{}", node.name, pod.pod)));
    let gateways = status.nat_gateways.iter().map(|(name, ..)| format!("fabric/{name}"));
    let neighbours = status.neighbours.iter().map(|neighbour| neighbour.place.to_string());
    let fixed = ["world", "fabric", "fabric/igw"].map(str::to_owned);
    let nodes = status.nodes.iter().map(|node| node.name.clone());
    nodes.chain(pods).chain(fixed).chain(gateways).chain(neighbours).map(CompletionCandidate::new).collect()
}

/// Subnets of the lab.
pub(super) fn subnets() -> Vec<CompletionCandidate> {
    let status = asked_lab().into_iter();
    status.flat_map(|status| status.subnets).map(|subnet| CompletionCandidate::new(subnet.name)).collect()
}

/// Topologies that come with the program.
pub(super) fn topologies() -> Vec<CompletionCandidate> {
    READY.iter().map(|ready| CompletionCandidate::new(ready.name).help(Some(ready.about.into()))).collect()
}

/// Topologies and files.
pub(super) fn topologies_or_files(current: &OsStr) -> Vec<CompletionCandidate> {
    or_files(current, topologies())
}

/// Scenarios and files.
pub(super) fn scenarios_or_files(current: &OsStr) -> Vec<CompletionCandidate> {
    or_files(current, READY_SCENARIOS.iter().map(|ready| CompletionCandidate::new(ready.name)).collect())
}

/// Kinds of faults.
pub(super) fn faults() -> Vec<CompletionCandidate> {
    let candidate = |kind: &Kind| CompletionCandidate::new(kind.name).help(Some(kind.about.into()));
    KINDS.iter().map(candidate).collect()
}

fn or_files(current: &OsStr, names: Vec<CompletionCandidate>) -> Vec<CompletionCandidate> {
    use clap_complete::engine::{PathCompleter, ValueCompleter};
    let text = current.to_string_lossy();
    let fits = |name: &CompletionCandidate| name.get_value().to_string_lossy().starts_with(text.as_ref());
    names.into_iter().filter(fits).chain(PathCompleter::file().complete(current)).collect()
}

fn node_names() -> Vec<String> {
    asked_lab().into_iter().flat_map(|status| status.nodes).map(|node| node.name).collect()
}

/// The lab that the line is about: after `--lab`, or of the environment.
fn asked_lab() -> Option<crate::control::LabStatus> {
    let words: Vec<String> = std::env::args().collect();
    let after = words.iter().position(|word| word == "--lab").and_then(|at| words.get(at + 1)).cloned();
    let glued = words.iter().find_map(|word| word.strip_prefix("--lab=").map(str::to_owned));
    let name = after.or(glued).or_else(|| std::env::var("VPC_LAB").ok()).unwrap_or_else(|| DEFAULT_LAB.to_owned());
    Lab::open(&name).ok()?.status().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script_that_asks_the_program() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = script(shell).unwrap();
            assert!(text.contains("COMPLETE") && text.contains("vpc-lab"), "{text}");
        }
    }
}
