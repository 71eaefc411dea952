//! Settings that change while the daemon runs.
//!
//! ```text
//!   file --inotify on its folder--> read, until two readings agree --> Living: checked as at the start
//!                                                                        |
//!     what is wrong, what needs a restart: the log  <--------------------+--> Input::Settings: the agent moves there
//! ```
//!
//! The folder is watched, not the file: a ConfigMap is changed by a symbolic link beside it, and editors rename a new file into
//! place. Where the folder can not be watched, and once a minute in any case, the file is simply read.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use vpc_agent::{Config, Input};

use crate::config::{Machine, config};
use crate::door::Door;
use crate::settings::file::{self, FileError, FileValues};
use crate::settings::sections::changes_in_place;
use crate::settings::{Checked, Env, Finding, Row, check_with};

/// How long the file must stay as it is before it is taken: whoever writes in place is let finish.
const SETTLE: Duration = Duration::from_millis(100);

/// Readings of a file that does not come to rest, before the last one is taken.
const MOST_READINGS: usize = 20;

/// How often the file is read without a sign.
const SLOW_LOOK: Duration = Duration::from_secs(60);

/// The same where the folder can not be watched.
const BLIND_LOOK: Duration = Duration::from_secs(5);

/// The settings that hold, and what is needed to see what new ones come to.
#[derive(Clone, Debug)]
pub struct Living {
    env: Env,
    machine: Machine,
    /// What holds. Its findings are those that were said last.
    holds: Checked,
    /// What was written last of settings that need a restart, so that each is said once.
    awaited: Vec<Row>,
    /// The file's fault that was said last.
    fault: Option<String>,
}

/// What new settings come to.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// What the agent is told, if anything is new for it.
    pub config: Option<Box<Config>>,
    /// Settings that have changed: before and now.
    pub changed: Vec<(Row, Row)>,
    /// Settings that hold as they were until the daemon is started again: what holds and what was written.
    pub awaited: Vec<(Row, Row)>,
    /// What is to be said of the new settings and was not said before.
    pub findings: Vec<Finding>,
    /// The file was not taken: the daemon would not start with it, or it can not be read.
    pub ignored: Option<String>,
}

impl Living {
    /// The settings the daemon was started with.
    #[must_use]
    pub fn new(env: Env, machine: Machine, holds: Checked) -> Self {
        Self { env, machine, holds, awaited: Vec::new(), fault: None }
    }

    /// Takes in the file as it is now; `None`: there is none.
    pub fn take(&mut self, read: Result<Option<FileValues>, FileError>, path: &Path) -> Turn {
        let file = match read {
            Ok(file) => file.unwrap_or_else(|| file::missing(&path.display().to_string())),
            Err(error) => return self.ignore(error.to_string(), Vec::new()),
        };
        let new = check_with(&self.env, &file);
        let is_new = |finding: &&Finding| !self.holds.findings.contains(finding);
        let findings: Vec<Finding> = new.findings.iter().filter(is_new).cloned().collect();
        if !new.may_start() {
            return self.ignore("the daemon would not start with it".to_owned(), findings);
        }
        self.fault = None;
        self.turn(new, findings)
    }

    fn ignore(&mut self, why: String, findings: Vec<Finding>) -> Turn {
        let again = format!("{why} {findings:?}");
        if self.fault.as_ref() == Some(&again) {
            return Turn::default();
        }
        self.fault = Some(again);
        Turn { ignored: Some(why), findings, ..Turn::default() }
    }

    fn turn(&mut self, new: Checked, findings: Vec<Finding>) -> Turn {
        let mut turn = Turn { findings, ..Turn::default() };
        let mut awaited = Vec::new();
        for (holds, wanted) in self.holds.rows.iter_mut().zip(new.rows) {
            if holds.value == wanted.value {
                holds.origin = wanted.origin;
            } else if changes_in_place(wanted.name) {
                turn.changed.push((holds.clone(), wanted.clone()));
                *holds = wanted;
            } else {
                if !self.awaited.contains(&wanted) {
                    turn.awaited.push((holds.clone(), wanted.clone()));
                }
                awaited.push(wanted);
            }
        }
        self.awaited = awaited;
        self.holds.findings = new.findings;
        let settings = self.holds.settings.with_changes_of(&new.settings);
        if settings != self.holds.settings {
            self.holds.settings = settings;
            let (config, findings) = config(&self.holds.settings, &self.machine);
            turn.config = Some(Box::new(config));
            turn.findings.extend(findings);
        }
        turn
    }
}

impl Turn {
    fn say(&self) {
        self.findings.iter().for_each(Finding::log);
        if let Some(why) = &self.ignored {
            tracing::error!("the file of settings is ignored, what held goes on to hold: {why}");
        }
        for (before, now) in &self.changed {
            tracing::info!("setting {}: `{}` -> `{}`, from now on", now.name, before.value, now.value);
        }
        for (holds, wanted) in &self.awaited {
            let name = wanted.name;
            tracing::warn!("setting {name}=`{}` needs a restart; `{}` holds until then", wanted.value, holds.value);
        }
    }
}

/// Watches the file that the settings name, from a thread of its own, until the process ends. Nothing is watched if they name none.
///
/// # Errors
/// The system gives no thread.
pub fn watch(mut living: Living, door: Door) -> io::Result<()> {
    let Some(path) = living.holds.settings.file.clone() else { return Ok(()) };
    let watching = move || {
        let mut folder = Folder::of(&path);
        loop {
            folder.watch();
            let turn = living.take(settled(&path), &path);
            turn.say();
            if let Some(config) = turn.config {
                door.tell_from_thread(Input::Settings(config));
            }
            folder.wait();
        }
    };
    thread::Builder::new().name("settings".to_owned()).spawn(watching).map(drop)
}

/// The file, once two readings of it are the same.
fn settled(path: &Path) -> Result<Option<FileValues>, FileError> {
    let mut last = file::read(path)?;
    for _ in 0..MOST_READINGS {
        thread::sleep(SETTLE);
        let now = file::read(path)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last.map(|bytes| file::parse(&bytes)))
}

/// The folder of the file, watched as far as the system lets us.
struct Folder {
    path: PathBuf,
    inotify: Option<Inotify>,
    said: Option<Errno>,
}

impl Folder {
    fn of(file: &Path) -> Self {
        let path = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { path: path.to_owned(), inotify: None, said: None }
    }

    /// Begins to watch, unless that is so already.
    fn watch(&mut self) {
        if self.inotify.is_some() {
            return;
        }
        let wanted = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let begun = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .and_then(|inotify| inotify.add_watch(&self.path, wanted).map(|_| inotify));
        match begun {
            Ok(inotify) => (self.inotify, self.said) = (Some(inotify), None),
            Err(errno) if self.said != Some(errno) => {
                self.said = Some(errno);
                let (folder, seconds) = (self.path.display(), BLIND_LOOK.as_secs());
                tracing::warn!("{folder} can not be watched: {errno}; the file of settings is read every {seconds} s");
            }
            Err(_) => {}
        }
    }

    /// Waits until something has happened in the folder, or the file is to be read anyway.
    fn wait(&mut self) {
        let Some(inotify) = &self.inotify else { return thread::sleep(BLIND_LOOK) };
        let patience = PollTimeout::try_from(SLOW_LOOK).unwrap_or(PollTimeout::MAX);
        // Interrupted or not: the file is read, and that is never wrong.
        let _ = poll(&mut [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)], patience);
        let gone = AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let lost = match inotify.read_events() {
            Ok(events) => events.iter().any(|event| event.mask.intersects(gone)),
            Err(errno) => errno != Errno::EAGAIN,
        };
        if lost {
            self.inotify = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "refresh/tests.rs"]
mod tests;
