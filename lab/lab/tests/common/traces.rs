//! What a lab is made of, as the host sees it: processes, and whoever holds a network namespace.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process, told from a later one with the same number by the time it started.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    parent: i32,
    started: String,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may contain anything: state, parent, and as the 20th the start.
        let fields: Vec<_> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
        let dead = fields.first()?.starts_with(['Z', 'X']);
        (!dead).then_some(Self { pid, parent: fields.get(1)?.parse().ok()?, started: (*fields.get(19)?).to_owned() })
    }

    /// Everything that runs.
    pub(crate) fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// A process and all that descend from it.
    pub(crate) fn family(of: i32) -> BTreeSet<Self> {
        let all = Self::all();
        let mut family: BTreeSet<_> = all.iter().filter(|process| process.pid == of).cloned().collect();
        loop {
            let elders: BTreeSet<_> = family.iter().map(|process| process.pid).collect();
            family.extend(all.iter().filter(|process| elders.contains(&process.parent)).cloned());
            if family.len() == elders.len() {
                return family;
            }
        }
    }

    pub(crate) fn lives(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// The program it runs.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// Network namespaces it holds: those its threads are in, those it has descriptors of, those mounted where it is.
    pub(crate) fn namespaces(&self) -> BTreeSet<String> {
        let base = PathBuf::from(format!("/proc/{}", self.pid));
        let entries =
            |dir: &str| fs::read_dir(base.join(dir)).into_iter().flatten().flatten().map(|entry| entry.path());
        let inside = entries("task").map(|task| task.join("ns/net"));
        let mut held: BTreeSet<_> = inside.chain(entries("fd")).filter_map(|path| namespace(&path)).collect();
        let mounts = fs::read_to_string(base.join("mountinfo")).unwrap_or_default();
        held.extend(mounts.split_whitespace().filter(|word| word.starts_with("net:[")).map(str::to_owned));
        held
    }
}

/// The network namespace a link below `/proc` stands for.
pub(crate) fn namespace(path: &Path) -> Option<String> {
    fs::read_link(path).ok()?.to_str().filter(|target| target.starts_with("net:[")).map(str::to_owned)
}

/// Who holds which network namespace.
pub(crate) fn holders() -> BTreeSet<(Process, String)> {
    let holdings = |process: Process| process.namespaces().into_iter().map(move |held| (process.clone(), held));
    Process::all().into_iter().flat_map(holdings).collect()
}

/// The host's mounts.
pub(crate) fn mounts() -> BTreeSet<String> {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect()
}

/// Ends a lab that has to outlive its starter with the test, also if that fails.
pub(crate) struct EndsWithTest(Option<Process>);

impl EndsWithTest {
    /// The lab whose supervisor has that process id.
    pub(crate) fn new(supervisor: i32) -> Self {
        Self(Process::read(supervisor))
    }
}

impl Drop for EndsWithTest {
    fn drop(&mut self) {
        if let Some(supervisor) = self.0.take().filter(Process::lives) {
            kill(Pid::from_raw(supervisor.pid), Signal::SIGKILL).ok();
        }
    }
}
