//! Scenario files: faults and other deeds with times, played on a running lab.
//!
//! ```toml
//! about = "EC2 forgets to answer while pods come"
//!
//! [[steps]]
//! at = "500ms"
//! do = "pod-scale"
//! node = "node-a"
//! count = 20
//!
//! [[steps]]
//! at = "1s"
//! fault = "error"                       # any kind, with its keys
//! action = "AssignPrivateIpAddresses"
//! when = "lost"
//! for = "10s"                           # lifted then
//! ```
//!
//! The whole file is checked before anything happens.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Fault, FaultState, FaultSyntax};
use crate::kubelet::PodName;
use crate::lab::{Lab, LabError};

/// A scenario, ready to be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// What it shows.
    pub about: String,
    /// Its steps, by time.
    pub steps: Vec<Step>,
}

/// Something that happens at some time after the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, counted from the start.
    pub at: Duration,
    /// What.
    pub deed: Deed,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A fault, lifted after a while if that is given.
    Fault(Fault, Option<Duration>),
    /// One of the other things that can be done to a lab.
    Other(OtherDeed),
}

/// Other things that a step can do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OtherDeed {
    /// A pod is made.
    PodAdd {
        /// Node.
        node: String,
        /// Pod.
        pod: PodName,
        /// Sandboxes to try.
        #[serde(default = "ten")]
        attempts: u32,
    },
    /// A pod is deleted.
    PodDel {
        /// Node.
        node: String,
        /// Pod.
        pod: PodName,
    },
    /// Pods are made or deleted until there are so many.
    PodScale {
        /// Node.
        node: String,
        /// How many.
        count: u32,
        /// Sandboxes to try for each.
        #[serde(default = "ten")]
        attempts: u32,
    },
    /// A node's power.
    Power {
        /// Node.
        node: String,
        /// On.
        on: bool,
    },
    /// A node's daemon is started.
    DaemonStart {
        /// Node.
        node: String,
    },
    /// All faults that hold are lifted.
    LiftAll,
}

/// The words for [`OtherDeed`].
const DEEDS: [&str; 6] = ["pod-add", "pod-del", "pod-scale", "power", "daemon-start", "lift-all"];

fn ten() -> u32 {
    10
}

/// Why a scenario is not played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file can not be read.
    #[error("scenario {}: {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// It is not TOML of the right form.
    #[error("scenario: {0}")]
    Syntax(String),
    /// A step can not be.
    #[error("scenario: step {number}: {problem}")]
    Step {
        /// Which, from 1, as they stand in the file.
        number: usize,
        /// What is wrong with it, and what is accepted.
        problem: String,
    },
    /// The lab does not have what a step needs.
    #[error("scenario: step at {at:?}: {cause}")]
    Lab {
        /// The step's time.
        at: Duration,
        /// What is missing.
        cause: LabError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    about: String,
    steps: Vec<toml::Table>,
}

/// A span as people write it: `250ms`, `1.5s`, `2m`.
///
/// # Errors
/// What is accepted.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time: expected a number and its unit, such as 250ms, 1.5s or 2m");
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// [`ScenarioError::Syntax`] and [`ScenarioError::Step`] with what is accepted.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let file: File =
            toml::from_str(text).map_err(|e| ScenarioError::Syntax(e.to_string().trim_end().to_owned()))?;
        let step = |(at, table): (usize, toml::Table)| {
            Step::read(table).map_err(|problem| ScenarioError::Step { number: at + 1, problem })
        };
        let mut steps: Vec<_> = file.steps.into_iter().enumerate().map(step).collect::<Result<_, _>>()?;
        steps.sort_by_key(|step| step.at);
        if steps.is_empty() {
            return Err(ScenarioError::Syntax("it has no `[[steps]]`".to_owned()));
        }
        Ok(Self { about: file.about, steps })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`Scenario::parse`]; [`ScenarioError::Read`].
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path);
        Self::parse(&text.map_err(|cause| ScenarioError::Read { path: path.to_owned(), cause })?)
    }

    /// Whether a lab has all that the steps are about: nodes and subnets.
    ///
    /// # Errors
    /// [`ScenarioError::Lab`] with what there is.
    pub fn check(&self, lab: &Lab) -> Result<(), ScenarioError> {
        self.steps.iter().try_for_each(|step| {
            let checked = match &step.deed {
                Deed::Fault(fault, _) => lab.check_fault(fault),
                Deed::Other(deed) => deed.node().map_or(Ok(()), |node| lab.check_node(node)),
            };
            checked.map_err(|cause| ScenarioError::Lab { at: step.at, cause })
        })
    }
}

impl Step {
    fn read(mut table: toml::Table) -> Result<Self, String> {
        let mut time = |key: &str| match table.remove(key) {
            None => Ok(None),
            Some(toml::Value::String(text)) => duration(&text).map(Some).map_err(|e| format!("{key}: {e}")),
            Some(other) => Err(format!("{key}: `{other}` is not a time: expected a text such as \"1.5s\"")),
        };
        let at = time("at")?.ok_or("`at` is missing: when, such as \"1.5s\"")?;
        let lasts = time("for")?;
        let kind = table.remove("fault");
        let deed = match (kind, table.contains_key("do")) {
            (Some(toml::Value::String(kind)), false) => {
                let fault = Fault::from_map(&kind, json(table)).map_err(|e: FaultSyntax| e.to_string())?;
                if fault.happens_once() && lasts.is_some() {
                    return Err(format!("{kind} happens once: `for` has no meaning there"));
                }
                Deed::Fault(fault, lasts)
            }
            (None, true) if lasts.is_none() => {
                let deed = serde_json::from_value(Value::Object(json(table))).map_err(|e| e.to_string())?;
                Deed::Other(deed)
            }
            (None, true) => return Err("`for` goes with `fault`".to_owned()),
            _ => {
                let deeds = DEEDS.join(", ");
                return Err(format!("expected either `fault` with a kind of fault, or `do` with one of {deeds}"));
            }
        };
        Ok(Self { at, deed })
    }
}

fn json(table: toml::Table) -> Map<String, Value> {
    match serde_json::to_value(table) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

impl OtherDeed {
    fn node(&self) -> Option<&str> {
        match self {
            Self::PodAdd { node, .. }
            | Self::PodDel { node, .. }
            | Self::PodScale { node, .. }
            | Self::Power { node, .. }
            | Self::DaemonStart { node } => Some(node),
            Self::LiftAll => None,
        }
    }

    /// Does it; what came of it. What pods suffer from faults is a result too.
    fn run(&self, lab: &Lab) -> Result<String, LabError> {
        match self {
            Self::PodAdd { node, pod, attempts } => match lab.pod_add(node, pod, *attempts) {
                Ok(status) => {
                    let address = status.address.map_or_else(|| "no address".to_owned(), |own| own.to_string());
                    Ok(format!("{address}, at attempt {}", status.attempts))
                }
                Err(e) => of_the_pod(e),
            },
            Self::PodDel { node, pod } => lab.pod_del(node, pod).map(|()| "gone".to_owned()).or_else(of_the_pod),
            Self::PodScale { node, count, attempts } => {
                let report = lab.pod_scale(node, *count, *attempts)?;
                let (made, gone, failed) = (report.added.len(), report.deleted.len(), report.failed.len());
                Ok(format!("{made} made, {gone} deleted, {failed} failed in {} ms", report.millis))
            }
            Self::Power { node, on } => lab.power(node, *on).map(|()| "done".to_owned()),
            Self::DaemonStart { node } => {
                lab.daemon(node, crate::control::DaemonAction::Start).map(|()| "ready".to_owned())
            }
            Self::LiftAll => lab.lift_all().map(|lifted| format!("{} lifted", lifted.len())),
        }
    }
}

fn of_the_pod(error: LabError) -> Result<String, LabError> {
    match error {
        LabError::Refused(crate::control::Failure::Pod(e)) => Ok(e.to_string()),
        other => Err(other),
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.deed {
            Deed::Fault(fault, None) => fault.fmt(f),
            Deed::Fault(fault, Some(lasts)) => write!(f, "{fault} for {lasts:?}"),
            Deed::Other(deed) => deed.fmt(f),
        }
    }
}

impl std::fmt::Display for OtherDeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PodAdd { node, pod, .. } => write!(f, "pod-add {node} {pod}"),
            Self::PodDel { node, pod } => write!(f, "pod-del {node} {pod}"),
            Self::PodScale { node, count, .. } => write!(f, "pod-scale {node} {count}"),
            Self::Power { node, on } => write!(f, "power {node} {}", if *on { "on" } else { "off" }),
            Self::DaemonStart { node } => write!(f, "daemon-start {node}"),
            Self::LiftAll => f.write_str("lift-all"),
        }
    }
}

/// Plays a scenario: every step at its time, also when an earlier one is not done yet. `say` hears what happens, when it happens
/// (since the start). Comes back when all is done and everything with an end is lifted.
///
/// # Errors
/// The lab does not have what the scenario is about (nothing has happened then); or the first step that the lab refused.
pub fn play(lab: &Lab, scenario: &Scenario, mut say: impl FnMut(Duration, &str)) -> Result<(), ScenarioError> {
    scenario.check(lab)?;
    let start = Instant::now();
    let (tell, told) = channel::<(Duration, Result<String, LabError>)>();
    let mut refused = None;
    std::thread::scope(|scope| {
        let mut rest = scenario.steps.iter();
        let mut next = rest.next();
        let mut tell = Some(tell);
        loop {
            let left = next.map(|step| step.at.saturating_sub(start.elapsed()));
            let heard = match left {
                Some(left) => told.recv_timeout(left),
                None => {
                    // When the last step has said its last word, nobody is left to say anything.
                    tell = None;
                    told.recv().map_err(|_| RecvTimeoutError::Disconnected)
                }
            };
            match (heard, next, &tell) {
                (Ok((_, Ok(text))), ..) => say(start.elapsed(), &text),
                (Ok((at, Err(cause))), ..) => {
                    say(start.elapsed(), &format!("refused: {cause}"));
                    refused.get_or_insert(ScenarioError::Lab { at, cause });
                }
                (Err(_), Some(step), Some(tell)) => {
                    say(start.elapsed(), &step.to_string());
                    let tell = tell.clone();
                    scope.spawn(move || step.run(lab, &tell));
                    next = rest.next();
                }
                (Err(_), ..) => break,
            }
        }
    });
    refused.map_or(Ok(()), Err)
}

impl Step {
    /// Whoever is told may have gone; then nobody wants to know.
    fn run(&self, lab: &Lab, tell: &Sender<(Duration, Result<String, LabError>)>) {
        let result = match &self.deed {
            Deed::Other(deed) => deed.run(lab).map(|text| format!("{deed}: {text}")),
            Deed::Fault(fault, lasts) => match lab.fault(fault, *lasts) {
                Err(e) => Err(e),
                Ok(report) => {
                    let note = report.note.map(|note| format!(": {note}")).unwrap_or_default();
                    tell.send((self.at, Ok(format!("fault {} ({}){note}", report.id, fault.kind())))).ok();
                    match lasts {
                        None => return,
                        Some(lasts) => lifted(lab, report.id, *lasts),
                    }
                }
            },
        };
        tell.send((self.at, result)).ok();
    }
}

/// Waits until the lab has lifted a fault.
fn lifted(lab: &Lab, id: u64, lasts: Duration) -> Result<String, LabError> {
    const GLANCE: Duration = Duration::from_millis(20);
    std::thread::sleep(lasts);
    loop {
        let report = lab.faults()?.into_iter().find(|report| report.id == id);
        if let Some(report) = report.filter(|report| report.state != FaultState::Active) {
            let hits = report.hits.map(|hits| format!(" after {hits} hits")).unwrap_or_default();
            return Ok(format!("fault {id} ({}) lifted{hits}", report.fault.kind()));
        }
        std::thread::sleep(GLANCE);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_do() {
        for (text, millis) in [("250ms", 250), ("1.5s", 1500), ("0s", 0), ("2m", 120_000)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1h", "1e400s", "1 5s", "infs"] {
            assert!(duration(bad).unwrap_err().contains("1.5s"), "{bad}");
        }
    }

    #[test]
    fn steps_are_sorted_by_time() {
        let text =
            "[[steps]]\nat=\"2s\"\ndo=\"lift-all\"\n[[steps]]\nat=\"1s\"\nfault=\"stop\"\nnode=\"a\"\nfor=\"5s\"";
        let scenario = Scenario::parse(text).unwrap();
        let shown: Vec<_> = scenario.steps.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["stop node=a for 5s", "lift-all"]);
    }

    #[test]
    fn a_bad_file_says_where_and_what_is_accepted() {
        let steps = |text: &str| format!("[[steps]]\nat = \"1s\"\ndo = \"lift-all\"\n[[steps]]\n{text}\n");
        for (text, wanted) in [
            (steps("do = \"lift-all\""), vec!["step 2", "`at`", "1.5s"]),
            (steps("at = 3\ndo = \"lift-all\""), vec!["step 2", "at", "1.5s"]),
            (steps("at = \"1s\""), vec!["step 2", "`fault`", "`do`", "pod-scale"]),
            (steps("at = \"1s\"\nfault = \"stop\"\ndo = \"power\"\nnode = \"a\""), vec!["step 2", "either"]),
            (steps("at = \"1s\"\nfault = \"flood\""), vec!["step 2", "`flood`", "imds-stale"]),
            (steps("at = \"1s\"\nfault = \"stop\""), vec!["step 2", "stop", "`node` is missing"]),
            (steps("at = \"1s\"\nfault = \"kill\"\nnode = \"a\"\nfor = \"1s\""), vec!["step 2", "happens once"]),
            (
                steps("at = \"1s\"\nfault = \"starve\"\nnode = \"a\"\nrun_ms = \"x\"\nstop_ms = 1"),
                vec!["run_ms", "whole number"],
            ),
            (steps("at = \"1s\"\ndo = \"dance\""), vec!["step 2", "dance", "pod-add"]),
            (steps("at = \"1s\"\ndo = \"power\"\nnode = \"a\"\non = true\nfor = \"1s\""), vec!["step 2", "`for`"]),
            ("steps = []".to_owned(), vec!["[[steps]]"]),
            ("stepz = []".to_owned(), vec!["stepz", "steps"]),
        ] {
            let error = Scenario::parse(&text).unwrap_err().to_string();
            assert!(wanted.iter().all(|piece| error.contains(piece)), "{wanted:?} not in: {error}");
        }
    }
}
