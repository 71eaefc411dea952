//! `cargo xtask gate`: what a call of the plugin takes, counted where no clock and no neighbour has a say: system calls (strace) and
//! instructions (callgrind), each below the ceiling that `ceilings.toml` beside this file has for it; and whether ADD and DEL do with little
//! memory. `cargo xtask test` ends with it.
//!
//! The plugin is the one that is shipped; the daemon answers from memory; all of it runs in namespaces of its own (`tests/bench`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::tally::Tally;
use crate::{dist, shell};

/// The ceilings.
const CEILINGS: &str = include_str!("ceilings.toml");
/// ADDs and DELs that are watched; the first finds nothing there yet (a log file, say), the last one counts.
const ROUNDS: usize = 2;
const VERBS: [&str; 2] = ["ADD", "DEL"];
/// Memory that ADD and DEL do with, in bytes of address space, the program's own included.
const ENOUGH: u64 = 8 << 20;
/// Memory in which not even the program itself has room: shows that the limit is one.
const TOO_LITTLE: u64 = 512 << 10;

/// Counts, compares, says.
pub(crate) fn run() -> Result<ExitCode> {
    let mut tally = Tally::default();
    add_to(&mut tally);
    for skipped in &tally.skipped {
        println!("SKIPPED {skipped}");
    }
    println!("{tally}");
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A way of counting: the program that watches, its arguments, and how its report is read.
struct Watcher {
    what: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// The report's place is put behind it.
    report: &'static str,
    count: fn(&str) -> Option<u64>,
    /// Another kind of processor has other counts.
    of_this_machine_only: bool,
}

const WATCHERS: [Watcher; 2] = [
    Watcher {
        what: "system-calls",
        program: "strace",
        arguments: &["-f", "-qq"],
        report: "--output=",
        count: system_calls,
        of_this_machine_only: false,
    },
    Watcher {
        what: "instructions",
        program: "valgrind",
        arguments: &["--tool=callgrind", "--quiet"],
        report: "--callgrind-out-file=",
        count: instructions,
        of_this_machine_only: true,
    },
];

/// The gate as a part of `cargo xtask test`.
pub(crate) fn add_to(tally: &mut Tally) {
    let programs = match Programs::build() {
        Ok(programs) => programs,
        Err(why) => {
            println!("gate: the programs do not build: {why:#}");
            return tally.failed.push(format!("gate: the programs do not build: {why:#}"));
        }
    };
    let ceilings = match ceilings(CEILINGS) {
        Ok(ceilings) => ceilings,
        Err(why) => return tally.failed.push(format!("gate: ceilings.toml: {why:#}")),
    };
    for watcher in &WATCHERS {
        if watcher.of_this_machine_only && cfg!(not(target_arch = "x86_64")) {
            tally.skipped.insert(format!("gate {}: the ceilings are for x86_64", watcher.what));
            continue;
        }
        if !shell::answers(watcher.program, &["--version"]) {
            tally.skipped.insert(format!("gate {}: `{}` is not installed", watcher.what, watcher.program));
            continue;
        }
        match programs.watched(watcher) {
            Err(why) => tally.failed.push(format!("gate {}: {why:#}", watcher.what)),
            Ok(Watched::Forbidden(why)) => drop(tally.skipped.insert(format!("gate {}: {why}", watcher.what))),
            Ok(Watched::Held(_)) => tally.failed.push(format!("gate {}: nothing was counted", watcher.what)),
            Ok(Watched::Counts(counts)) => {
                for (verb, count) in VERBS.into_iter().zip(counts) {
                    judge(tally, &ceilings, &format!("{verb}-{}", watcher.what), count);
                }
            }
        }
    }
    if !shell::answers("prlimit", &["--version"]) {
        tally.skipped.insert("gate memory: `prlimit` is not installed".to_owned());
        return;
    }
    match programs.do_with(TOO_LITTLE).and_then(|little| Ok((little, programs.do_with(ENOUGH)?))) {
        Err(why) => tally.failed.push(format!("gate memory: {why:#}")),
        Ok((Watched::Forbidden(why), _) | (_, Watched::Forbidden(why))) => {
            tally.skipped.insert(format!("gate memory: {why}"));
        }
        Ok((Watched::Held(false), Watched::Held(true))) => {
            println!("gate memory             ADD and DEL do with {ENOUGH} bytes of address space");
            tally.passed += 1;
        }
        Ok((Watched::Held(true), _)) => {
            tally.failed.push(format!("gate memory: a limit of {TOO_LITTLE} bytes limits nothing"));
        }
        Ok(_) => tally.failed.push(format!("gate memory: ADD and DEL do not do with {ENOUGH} bytes of address space")),
    }
}

fn judge(tally: &mut Tally, ceilings: &BTreeMap<String, u64>, name: &str, count: u64) {
    match ceilings.get(name) {
        None => tally.failed.push(format!("gate: ceilings.toml has no {name}")),
        Some(most) if count > *most => {
            println!("gate {name:<18} {count:>8}, at most {most}: ABOVE");
            tally.failed.push(format!("gate {name}: {count}, and the ceiling is {most}"));
        }
        Some(most) => {
            println!("gate {name:<18} {count:>8}, at most {most}");
            tally.passed += 1;
        }
    }
}

/// `name = number`, one on a line; comments begin with `#`.
fn ceilings(text: &str) -> Result<BTreeMap<String, u64>> {
    let lines =
        text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
    let pair = |line: &str| -> Result<(String, u64)> {
        let (name, number) = line.split_once('=').with_context(|| format!("`{line}`: expected NAME = NUMBER"))?;
        let number = number.trim().replace('_', "").parse().with_context(|| format!("`{line}`"))?;
        Ok((name.trim().to_owned(), number))
    };
    lines.map(pair).collect()
}

/// Lines of strace that are calls: not those about signals and ends of processes.
fn system_calls(report: &str) -> Option<u64> {
    let calls = report.lines().filter(|line| line.contains('(') && !line.contains("+++") && !line.contains("---"));
    u64::try_from(calls.filter(|line| !line.contains("resumed>")).count()).ok()
}

/// Callgrind's total.
fn instructions(report: &str) -> Option<u64> {
    report.lines().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

enum Watched {
    /// For each verb.
    Counts([u64; VERBS.len()]),
    /// Whether ADD and DEL succeeded.
    Held(bool),
    /// Why nothing can be watched on this machine.
    Forbidden(String),
}

struct Programs {
    plugin: PathBuf,
    bench: PathBuf,
}

impl Programs {
    fn build() -> Result<Self> {
        shell::must(&mut shell::cargo(["build", "--locked", "-p", "plugin-bench"]))?;
        Ok(Self { plugin: dist::plugin()?, bench: shell::target()?.join("debug/plugin-bench") })
    }

    /// Why this machine allows no namespaces, if it does not. The plugin alone that does not work is no lack of the machine's.
    fn forbidden(&self) -> Result<Option<String>> {
        let allowed = self.once(1, &[])?;
        if allowed.status.success() {
            return Ok(None);
        }
        let said = String::from_utf8_lossy(&allowed.stderr).trim().replace('\n', " ");
        if said.contains("namespaces are not allowed") {
            return Ok(Some(said));
        }
        bail!("a pod is not even wired without a watcher: {said}");
    }

    /// Whether a pod comes and goes while the plugin may have so many bytes of address space.
    fn do_with(&self, bytes: u64) -> Result<Watched> {
        if let Some(why) = self.forbidden()? {
            return Ok(Watched::Forbidden(why));
        }
        let limit = format!("--as={bytes}");
        Ok(Watched::Held(self.once(ROUNDS, &["prlimit", &limit])?.status.success()))
    }

    fn watched(&self, watcher: &Watcher) -> Result<Watched> {
        if let Some(why) = self.forbidden()? {
            return Ok(Watched::Forbidden(why));
        }
        let folder = tempfile::tempdir()?;
        let place = |verb: &str, round: &str| folder.path().join(format!("{verb}.{round}"));
        let report = format!("{}{}", watcher.report, place("{verb}", "{round}").display());
        let mut wrapper = vec![watcher.program];
        wrapper.extend(watcher.arguments);
        wrapper.push(&report);
        let ran = self.once(ROUNDS, &wrapper)?;
        ensure!(ran.status.success(), "{}: {}", watcher.program, String::from_utf8_lossy(&ran.stderr).trim());
        let last = (ROUNDS - 1).to_string();
        let [add, del] = VERBS.map(|verb| count(watcher, &place(verb, &last)));
        Ok(Watched::Counts([add?, del?]))
    }

    fn once(&self, rounds: usize, wrapper: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new(&self.bench);
        command.args(["once", &rounds.to_string()]).arg(&self.plugin).args(wrapper).stdin(Stdio::null());
        command.output().context("cannot run plugin-bench")
    }
}

fn count(watcher: &Watcher, report: &Path) -> Result<u64> {
    let text = fs::read_to_string(report).with_context(|| format!("no report of {}", watcher.program))?;
    (watcher.count)(&text).with_context(|| format!("the report of {} is not understood", watcher.program))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_once_each_and_nothing_else() {
        let report = "7 execve(\"/a\", [\"/a\"], 0x7f /* 7 vars */) = 0\n7 read(0, <unfinished ...>\n8 close(3) = 0\n\
                      7 <... read resumed>\"x\", 8192) = 1\n7 --- SIGCHLD {si_signo=SIGCHLD} ---\n7 exit_group(0) = ?\n\
                      7 +++ exited with 0 +++\n";
        assert_eq!(system_calls(report), Some(4));
        assert_eq!(instructions("events: Ir\nsummary: 12\ntotals: 169849\n"), Some(169_849));
        assert_eq!(instructions("events: Ir\n"), None);
    }

    #[test]
    fn every_count_has_a_ceiling_and_what_is_above_fails() {
        let ceilings = ceilings(CEILINGS).unwrap();
        let mut tally = Tally::default();
        for watcher in &WATCHERS {
            for verb in VERBS {
                let name = format!("{verb}-{}", watcher.what);
                let most = *ceilings.get(&name).unwrap();
                judge(&mut tally, &ceilings, &name, most);
                judge(&mut tally, &ceilings, &name, most + 1);
            }
        }
        assert_eq!((tally.passed, tally.failed.len()), (4, 4));
        assert!(super::ceilings("ADD-system-calls: 3").is_err());
    }
}
