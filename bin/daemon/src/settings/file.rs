//! The file of settings: one `NAME=value` a line, the names those of the environment, which it goes before.
//!
//! ```text
//!   # comment              empty lines and lines that begin with # say nothing
//!   WARM_IP_TARGET=5       space around name and value does not count; a value has no quotes
//! ```
//!
//! A bad line is said with its number and left out; the others hold.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;

use super::finding::{Finding, Verdict};
use super::reader::Env;
use super::sections::{NOT_LOOKED_AT, by_name};
use super::{spelling, table as var};

/// More than any file of settings has: every variable with a value of a few lines.
const LARGEST_FILE: u64 = 256 << 10;

/// What a file says, and what is to be said about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileValues {
    /// What it says, by variable.
    pub values: Env,
    /// Lines that were not taken.
    pub findings: Vec<Finding>,
}

/// The file can not be read, so that nobody knows what it says.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system does not let us.
    #[error("the file of settings {path} can not be read: {error}; its rights must let the daemon read it")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It can be no file of settings.
    #[error("the file of settings {path} has more than 256 KiB; expected lines of `NAME=value`")]
    TooLarge {
        /// The file.
        path: String,
    },
}

/// Reads a file; `None` if there is none.
///
/// # Errors
/// See [`FileError`].
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let shown = || path.display().to_string();
    let mut bytes = Vec::new();
    // A pipe would have us wait for whoever writes into it.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(FileError::Unreadable { path: shown(), error });
    }
    match std::fs::File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)) {
        Ok(length) if length as u64 > LARGEST_FILE => Err(FileError::TooLarge { path: shown() }),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::Unreadable { path: shown(), error }),
    }
}

/// Reads the file that the environment names, if it names one. A file that is not there is the environment alone.
///
/// # Errors
/// See [`FileError`].
pub fn of(env: &Env) -> Result<FileValues, FileError> {
    let Some(path) = env.get(var::CONFIG_FILE.name).filter(|path| !path.is_empty()) else {
        return Ok(FileValues::default());
    };
    Ok(read(Path::new(path))?.map_or_else(|| missing(path), |bytes| parse(&bytes)))
}

/// What a file that is not there says: nothing.
#[must_use]
pub fn missing(path: &str) -> FileValues {
    let note = Finding {
        variable: var::CONFIG_FILE.name.to_owned(),
        value: Some(path.to_owned()),
        matter: "there is no such file; the environment alone holds until there is one".to_owned(),
        verdict: Verdict::Note,
    };
    FileValues { values: Env::new(), findings: vec![note] }
}

/// Understands the lines of a file.
#[must_use]
pub fn parse(bytes: &[u8]) -> FileValues {
    let mut read = FileValues::default();
    let mut lines = BTreeMap::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let number = at + 1;
        match assignment(line) {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                if let Some(earlier) = lines.insert(name, number) {
                    let matter = format!("it is set in line {earlier} too; this line holds");
                    read.say(number, format!("{name}={value}"), matter, Verdict::Note);
                }
                read.values.insert(name.to_owned(), value);
            }
            Err(matter) => {
                let shown = String::from_utf8_lossy(line).trim().to_owned();
                read.say(number, shown, matter, Verdict::Ineffective);
            }
        }
    }
    read
}

impl FileValues {
    fn say(&mut self, line: usize, text: String, matter: String, verdict: Verdict) {
        let variable = format!("{} line {line}", var::CONFIG_FILE.name);
        self.findings.push(Finding { variable, value: Some(text), matter, verdict });
    }
}

/// What a line sets; nothing for one that says nothing.
fn assignment(line: &[u8]) -> Result<Option<(&'static str, String)>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "is not UTF-8 text".to_owned())?.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = text.split_once('=').ok_or("expected `NAME=value`")?;
    let name = name.trim_end();
    if name == var::CONFIG_FILE.name {
        return Err("it is set in the environment only".to_owned());
    }
    if let Some(var) = by_name(name) {
        return Ok(Some((var.name, value.trim_start().to_owned())));
    }
    if NOT_LOOKED_AT.contains(&name) {
        return Err("nothing in this release looks at it".to_owned());
    }
    let near = spelling::nearest(name).unwrap_or_default();
    Err(format!("there is no such setting; the nearest is `{near}`"))
}
