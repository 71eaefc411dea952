//! Where a lab keeps its few files on the host.
//!
//! ```text
//!   $XDG_RUNTIME_DIR/vpc-lab/<lab>/   or /tmp/vpc-lab-<uid>/<lab>/     0700, owned by the user
//!       lock             held by the supervisor as long as it lives: who gets it knows that the lab is down
//!       control.sock     the lab's door
//!       supervisor.log   what the supervisor said
//!       pid              its process id
//!       ns/              mount point of the lab's own tmpfs; empty on the host
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;

/// Longest path of a unix socket: 107 bytes and the terminating zero (`sun_path`).
const LONGEST_SOCKET: usize = 107;
/// Longest name of a lab.
const LONGEST_NAME: usize = 32;

/// The name of a lab where none is given.
pub const DEFAULT_LAB: &str = "default";

/// The directory of one lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabPlace {
    /// The lab's name.
    pub name: String,
    dir: PathBuf,
}

/// Why a lab has no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The name can not be one of a lab.
    #[error("`{0}` can not be the name of a lab: expected 1 to {LONGEST_NAME} letters, digits and dashes")]
    Name(String),
    /// Somebody else could change what lies there.
    #[error("{} is not a directory that only you can write to (owner {owner}, mode {mode:o}): remove it, or set XDG_RUNTIME_DIR to a directory of your own", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// It can not be made or read.
    #[error("{what} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Its path is longer than the kernel allows for sockets.
    #[error("the path {} is too long for a socket ({LONGEST_SOCKET} bytes): choose a shorter lab name or XDG_RUNTIME_DIR", .0.display())]
    TooLong(PathBuf),
    /// A lab of that name runs.
    #[error("lab `{0}` is up already: `vpc-lab down --lab {0}` ends it, `--lab NAME` starts another one beside it")]
    Up(String),
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |cause| PlaceError::Io { what, path, cause }
}

impl LabPlace {
    /// The place of a lab, whether it is up or not. Nothing is made.
    ///
    /// # Errors
    /// [`PlaceError::Name`], [`PlaceError::TooLong`].
    pub fn of(name: &str) -> Result<Self, PlaceError> {
        let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !fits || name.is_empty() || name.len() > LONGEST_NAME {
            return Err(PlaceError::Name(name.to_owned()));
        }
        let place = Self { name: name.to_owned(), dir: base().join(name) };
        let socket = place.socket();
        if socket.as_os_str().len() > LONGEST_SOCKET { Err(PlaceError::TooLong(socket)) } else { Ok(place) }
    }

    /// Makes the directory, and checks that it is the user's alone.
    ///
    /// # Errors
    /// [`PlaceError::Foreign`], [`PlaceError::Io`].
    pub fn create(&self) -> Result<(), PlaceError> {
        for dir in [self.dir.parent().unwrap_or(&self.dir), &self.dir] {
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(io_error("make directory", dir)(e)),
                _ => owned(dir)?,
            }
        }
        let inner = self.mount_point();
        match DirBuilder::new().mode(0o700).create(&inner) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io_error("make directory", &inner)(e)),
            _ => Ok(()),
        }
    }

    /// Takes the lock, if the lab is down.
    ///
    /// # Errors
    /// [`PlaceError::Up`], [`PlaceError::Io`].
    pub fn lock(&self) -> Result<Flock<File>, PlaceError> {
        let path = self.dir.join("lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error("open", &path))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| PlaceError::Up(self.name.clone()))
    }

    /// Whether the lab runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.dir.join("lock").exists() && matches!(self.lock(), Err(PlaceError::Up(_)))
    }

    /// Removes what a lab that is down has left.
    pub fn clear(&self) {
        if let Ok(_lock) = self.lock() {
            fs::remove_dir_all(&self.dir).ok();
        }
    }

    /// The lab's door.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// What `kubectl` reads to find the lab's Kubernetes API.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// What the supervisor says.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("supervisor.log")
    }

    /// The supervisor's process id, as the host sees it.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// Where the lab mounts its own tmpfs.
    #[must_use]
    pub fn mount_point(&self) -> PathBuf {
        self.dir.join("ns")
    }

    /// Names of the labs that run.
    #[must_use]
    pub fn running() -> Vec<String> {
        let entries = fs::read_dir(base()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut up: Vec<_> = names.filter(|name| Self::of(name).is_ok_and(|place| place.is_up())).collect();
        up.sort();
        up
    }
}

/// `$XDG_RUNTIME_DIR/vpc-lab` where that is a directory of the user's, else `/tmp/vpc-lab-<uid>`.
fn base() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match runtime.filter(|dir| dir.is_absolute() && owned(dir).is_ok()) {
        Some(dir) => dir.join("vpc-lab"),
        None => PathBuf::from(format!("/tmp/vpc-lab-{}", Uid::effective())),
    }
}

fn owned(dir: &Path) -> Result<(), PlaceError> {
    let meta = fs::symlink_metadata(dir).map_err(io_error("look at", dir))?;
    if meta.is_dir() && meta.uid() == Uid::effective().as_raw() && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(PlaceError::Foreign { path: dir.to_owned(), owner: meta.uid(), mode: meta.mode() & 0o7777 })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_has_a_name_that_is_safe_in_paths() {
        assert!(LabPlace::of("demo-2").is_ok());
        for bad in ["", "a/b", "..", "a b", "a.b", &"x".repeat(33)] {
            assert!(matches!(LabPlace::of(bad), Err(PlaceError::Name(_))), "{bad}");
        }
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        assert!(owned(dir.path()).is_ok());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(owned(dir.path()), Err(PlaceError::Foreign { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        assert!(matches!(owned(&link), Err(PlaceError::Foreign { .. })));
    }
}
