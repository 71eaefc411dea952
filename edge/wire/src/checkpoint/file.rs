//! The file on disk: read whole, replaced whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Checkpoint, ParseError};

/// Why there is no checkpoint although a file stands at its path.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system did not let us read it.
    #[error("the checkpoint {} can not be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was read and is not a checkpoint.
    #[error("the checkpoint {} is damaged: {source}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        source: ParseError,
    },
}

/// Why a checkpoint is not surely on disk. Unless the step is the last one, putting the folder on disk, the file that stood there
/// before still does.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A value that JSON can not hold; none of the types used has one.
    #[error("the checkpoint can not be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// A step failed.
    #[error("can not {step} {}: {source}", .path.display())]
    Write {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a bad file could not be put aside. It still stands where it stood.
#[derive(Debug, thiserror::Error)]
#[error("can not put {} aside as {}: {source}", .path.display(), .aside.display())]
pub struct KeepAsideError {
    /// The bad file.
    pub path: PathBuf,
    /// The name tried last.
    pub aside: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Reads and checks the checkpoint; `None` if there is no file (a node's first start, or its first after a reboot).
pub fn load(path: &Path) -> Result<Option<Checkpoint>, LoadError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LoadError::Unreadable { path: path.to_owned(), source }),
    };
    match Checkpoint::from_bytes(&bytes) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(source) => Err(LoadError::Damaged { path: path.to_owned(), source }),
    }
}

/// Puts a bad file aside as `<name>.bad-<n>` with the smallest free *n* from 1, and says where. Overwrites nothing.
pub fn keep_aside(path: &Path) -> Result<PathBuf, KeepAsideError> {
    let mut n = 1_u32;
    loop {
        let aside = beside(path, &format!(".bad-{n}"));
        // A second name first, then the first name away: a rename would overwrite, and a crash in between leaves both.
        match fs::hard_link(path, &aside).and_then(|()| fs::remove_file(path)) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && n < u32::MAX => n += 1,
            Err(source) => return Err(KeepAsideError { path: path.to_owned(), aside, source }),
        }
    }
}

/// Replaces the checkpoint in one step: whoever reads, at whatever moment, after whatever crash, reads the old one or the new one.
/// After `Ok` it is the new one. Mode 0600.
pub fn store(path: &Path, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    store_text(path, &checkpoint.to_bytes()?).map(drop)
}

/// As [`store`], with the text as [`super::Text::render`] gives it. The file comes back open: as long as it is, what it takes of
/// memory or disk is not given back when the next one replaces it, and that takes as long as writing it.
pub fn store_text(path: &Path, text: &[u8]) -> Result<File, StoreError> {
    store_text_in_steps(path, text, |_| Ok(()))
}

/// A moment of [`store_text_in_steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreStep {
    /// Before the temporary file is made.
    Make,
    /// Before it is written.
    Write,
    /// Before it is put on disk.
    Sync,
    /// Before it takes the place of the old one.
    Rename,
    /// Before the folder is put on disk.
    SyncFolder,
    /// All is done.
    Done,
}

/// As [`store_text`]; tells each step, which fails if the listener says so.
pub fn store_text_in_steps(
    path: &Path,
    text: &[u8],
    mut at: impl FnMut(StoreStep) -> io::Result<()>,
) -> Result<File, StoreError> {
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Write { step, path, source }
    };
    at(StoreStep::Make).map_err(failed("make a file beside", path))?;
    let (temporary, mut file) = make_temporary(path)?;
    let written = at(StoreStep::Write)
        .and_then(|()| file.write_all(text))
        .map_err(failed("write", &temporary))
        .and_then(|()| at(StoreStep::Sync).and_then(|()| file.sync_all()).map_err(failed("put on disk", &temporary)))
        .and_then(|()| {
            at(StoreStep::Rename).and_then(|()| fs::rename(&temporary, path)).map_err(failed("replace", path))
        });
    if written.is_err() {
        // What matters is the error at hand; a leftover is removed at the next start.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    let folder = folder(path);
    let synced = at(StoreStep::SyncFolder).and_then(|()| File::open(folder)).and_then(|folder| folder.sync_all());
    synced.and_then(|()| at(StoreStep::Done)).map_err(failed("put on disk", folder))?;
    Ok(file)
}

/// Removes what writes of earlier processes left behind, those of the reference too, and says how many. For the daemon's start, when
/// no one else writes.
pub fn clean_leftovers(path: &Path) -> io::Result<usize> {
    let mut begin = path.file_name().unwrap_or_default().to_owned();
    begin.push(TEMPORARY);
    let mut removed = 0;
    for entry in fs::read_dir(folder(path))? {
        let entry = entry?;
        let ours = entry.file_name().as_encoded_bytes().starts_with(begin.as_encoded_bytes());
        if ours && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// What stands between the file's name and a number or random text in the name of a temporary file, as in the reference.
const TEMPORARY: &str = ".tmp";

fn make_temporary(path: &Path) -> Result<(PathBuf, File), StoreError> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = WRITES.fetch_add(1, Ordering::Relaxed);
        let temporary = beside(path, &format!("{TEMPORARY}{}-{number}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            // A leftover of a process that had our number, which in a container is always the same.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(StoreError::Write { step: "make", path: temporary, source }),
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
