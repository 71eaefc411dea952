//! DELs that found no daemon. The runtime asks once and considers the pod gone, so the plugin leaves a note where the daemon, up
//! again, finds it: one small file a sandbox in a folder beside the socket.
//!
//! ```text
//!   plugin: DEL, nobody answers --leave--> /var/run/aws-node/deleted/<container>@<interface> --read--> daemon: DEL --forget-->
//! ```
//!
//! Without a note the daemon would still find out, from the link that is not there, but only once no plugin can be at work on it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vpc_model::{SandboxKey, WallTime};

/// Where plugin and daemon look: the folder of the daemon's socket is mounted in its container from the host.
pub const TOMBSTONES: &str = "/var/run/aws-node/deleted";

/// Notes read at once. A node runs a few hundred pods; more notes than this are somebody's mistake, and the rest waits.
const AT_ONCE: usize = 10_000;
/// Longest note in bytes: three names.
const LONGEST: u64 = 4096;

/// A sandbox that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Which.
    pub key: SandboxKey,
    /// When its DEL came.
    pub at: WallTime,
    /// The note.
    pub path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Note {
    #[serde(rename = "networkName")]
    network: String,
    #[serde(rename = "containerID")]
    container: String,
    #[serde(rename = "ifName")]
    interface: String,
    #[serde(rename = "deletedTimestamp")]
    at: WallTime,
}

/// Leaves a note. Leaving it twice is leaving it once.
///
/// # Errors
/// The folder or the file can not be written, or the names can not be part of a file's (`/`, or nothing).
pub fn leave(folder: &Path, key: &SandboxKey, at: WallTime) -> io::Result<()> {
    leave_in_steps(folder, key, at, |_| Ok(()))
}

/// A moment of [`leave_in_steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteStep {
    /// Before the unfinished note is made.
    Write,
    /// Before the finished note gets its name.
    Rename,
    /// The note is there.
    Done,
}

/// As [`leave`]; tells each step, which fails if the listener says so.
///
/// # Errors
/// As [`leave`], and the listener's.
pub fn leave_in_steps(
    folder: &Path,
    key: &SandboxKey,
    at: WallTime,
    mut step: impl FnMut(NoteStep) -> io::Result<()>,
) -> io::Result<()> {
    let name = format!("{}@{}", key.container, key.interface);
    if key.container.is_empty() || name.contains('/') || name.starts_with('.') || name.len() > 250 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` can not be a file's name")));
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let note =
        Note { network: key.network.clone(), container: key.container.clone(), interface: key.interface.clone(), at };
    let text = serde_json::to_vec(&note)?;
    // Written under another name first: the daemon may read at any moment.
    let unfinished = folder.join(format!(".{name}"));
    step(NoteStep::Write)?;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&text)?;
    step(NoteStep::Rename)?;
    fs::rename(&unfinished, folder.join(&name))?;
    step(NoteStep::Done)
}

/// What lies in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The notes.
    pub notes: Vec<Tombstone>,
    /// Files that are none, each with what is wrong with it.
    pub rubbish: Vec<(PathBuf, String)>,
}

/// Reads all notes.
///
/// # Errors
/// The folder is there and can not be read.
pub fn read(folder: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries.take(AT_ONCE) {
        let path = entry?.path();
        let unfinished = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if unfinished {
            continue;
        }
        match read_note(&path) {
            Ok(Note { network, container, interface, at }) => {
                found.notes.push(Tombstone { key: SandboxKey { network, container, interface }, at, path });
            }
            // Taken away in between: somebody else has read it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => found.rubbish.push((path, error.to_string())),
        }
    }
    Ok(found)
}

/// Takes a note away once what it says is done.
///
/// # Errors
/// It can not be removed (one that is gone already is fine).
pub fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_note(path: &Path) -> io::Result<Note> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(io::Error::other(format!("expected a file of at most {LONGEST} bytes")));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(container: &str) -> SandboxKey {
        SandboxKey { network: "aws-cni".into(), container: container.into(), interface: "eth0".into() }
    }

    #[test]
    fn a_note_is_left_once_read_and_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("deleted");
        assert_eq!(read(&folder).unwrap(), Found::default());
        leave(&folder, &key("c1"), WallTime(5)).unwrap();
        leave(&folder, &key("c1"), WallTime(6)).unwrap();
        let Found { notes, rubbish } = read(&folder).unwrap();
        assert_eq!((notes.len(), rubbish.len()), (1, 0));
        assert_eq!((&notes[0].key, notes[0].at), (&key("c1"), WallTime(6)));
        forget(&notes[0].path).unwrap();
        forget(&notes[0].path).unwrap();
        assert_eq!(read(&folder).unwrap(), Found::default());
    }

    #[test]
    fn rubbish_is_named_and_keeps_nothing_else_from_being_read() {
        let place = tempfile::tempdir().unwrap();
        leave(place.path(), &key("c1"), WallTime(5)).unwrap();
        fs::write(place.path().join("rubbish"), "{").unwrap();
        fs::write(place.path().join(".unfinished"), "{").unwrap();
        fs::create_dir(place.path().join("folder")).unwrap();
        fs::write(place.path().join("huge"), vec![b' '; 5000]).unwrap();
        let Found { notes, rubbish } = read(place.path()).unwrap();
        assert_eq!(notes.len(), 1);
        assert_eq!(rubbish.len(), 3, "{rubbish:?}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let place = tempfile::tempdir().unwrap();
        for bad in ["", "../x", "a/b", ".hidden"] {
            assert!(leave(place.path(), &key(bad), WallTime(1)).is_err(), "{bad}");
        }
    }
}
