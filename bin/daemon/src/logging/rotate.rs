//! A log file that is turned over before it fills the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::clock;

/// Bytes after which the file is turned over, as the reference has it.
const LARGEST: u64 = 100 * 1024 * 1024;

/// Old files that are kept, as the reference has it. (It packs them; at five files that saves less than it costs to look at.)
const KEPT: usize = 5;

/// The file being written.
pub(super) struct Rotating {
    path: PathBuf,
    file: File,
    size: u64,
    largest: u64,
}

impl Rotating {
    /// Opens it for more lines; its folder is made if missing. New files are for their owner alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::open_with(path, LARGEST)
    }

    fn open_with(path: &Path, largest: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, largest })
    }

    fn turn_over(&mut self) -> io::Result<()> {
        let old =
            self.path.with_file_name(format!("{}{}{}", self.stem(), clock::utc().replace(':', "-"), self.ending()));
        fs::rename(&self.path, old)?;
        *self = Self::open_with(&self.path, self.largest)?;
        self.remove_oldest()
    }

    /// Names carry their time, so the order of names is the order of age.
    fn remove_oldest(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let (stem, ending) = (self.stem(), self.ending());
        let is_old = |name: &str| {
            name.starts_with(&stem) && name.ends_with(&ending) && name.len() == stem.len() + 24 + ending.len()
        };
        let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut old: Vec<String> = names.filter(|name| is_old(name)).collect();
        old.sort_unstable();
        for name in old.iter().rev().skip(KEPT) {
            fs::remove_file(folder.join(name))?;
        }
        Ok(())
    }

    fn stem(&self) -> String {
        format!("{}-", self.path.file_stem().unwrap_or_default().to_string_lossy())
    }

    fn ending(&self) -> String {
        self.path.extension().map_or(String::new(), |ending| format!(".{}", ending.to_string_lossy()))
    }
}

impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + bytes.len() as u64 > self.largest {
            // A file that can not be turned over is written on: a long log is better than none.
            let _ = self.turn_over();
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_full_file_is_turned_over_and_only_so_many_old_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/ipamd.log");
        let mut log = Rotating::open_with(&path, 20).unwrap();
        fs::write(folder.path().join("log/ipamd-notes.log"), "somebody's").unwrap();
        for line in 0..20 {
            log.write_all(format!("line {line:012}\n").as_bytes()).unwrap();
            // Names are told apart by their milliseconds.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let files: Vec<_> = fs::read_dir(folder.path().join("log")).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(files.len(), 1 + KEPT + 1, "{files:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 000000000019\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_restart_goes_on_where_the_file_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ipamd.log");
        Rotating::open(&path).unwrap().write_all(b"one\n").unwrap();
        Rotating::open(&path).unwrap().write_all(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
