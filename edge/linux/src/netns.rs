//! Network namespaces: held by file descriptor, entered for the length of a closure.
//!
//! A namespace lives as long as somebody holds it: a process in it, a bind mount ([`Netns::bind_to`]), or one of our
//! descriptors. A thread that enters one always comes back; if the kernel would not let it, the process ends, because a thread
//! in the wrong namespace would do the right things to the wrong host.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};

/// File system type of namespace files (`NSFS_MAGIC` in the kernel's magic.h).
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// `ioctl` that tells the kind of a namespace (`NS_GET_NSTYPE`, `_IO(0xb7, 3)`).
const NS_GET_NSTYPE: u64 = 0xb703;

/// The calling thread's own network namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace, kept alive by the descriptor inside. Clones share it.
#[derive(Clone, Debug)]
pub struct Netns {
    fd: Arc<OwnedFd>,
}

/// Why a namespace could not be had or entered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetnsError {
    /// The path can not be opened.
    #[error("open network namespace {}: {}", path.display(), errno.desc())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The path leads to something that is not a network namespace.
    #[error("{} is not a network namespace (of a process: /proc/<pid>/ns/net; a named one: a file with such a namespace mounted on it)", path.display())]
    NotANamespace {
        /// The path.
        path: PathBuf,
    },
    /// A new namespace was refused.
    #[error("create a network namespace: {}", errno.desc())]
    Create {
        /// Why.
        errno: Errno,
    },
    /// The thread could not enter it.
    #[error("enter network namespace: {}", errno.desc())]
    Enter {
        /// Why.
        errno: Errno,
    },
    /// It could not be mounted on, or unmounted from, a path.
    #[error("{what} {}: {}", path.display(), errno.desc())]
    Mount {
        /// What was tried ("mount network namespace on").
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
}

impl NetnsError {
    /// The kernel's error number (`EINVAL` for something that is no namespace, as the kernel itself would say).
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::NotANamespace { .. } => Errno::EINVAL,
            Self::Open { errno, .. } | Self::Create { errno } | Self::Enter { errno } | Self::Mount { errno, .. } => {
                *errno
            }
        }
    }
}

impl Netns {
    /// The calling thread's network namespace.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn current() -> Result<Self, NetnsError> {
        // Nothing else can be there: no need to look what it is.
        Ok(Self { fd: Arc::new(open_file(Path::new(OWN))?) })
    }

    /// The namespace at a path (`/proc/<pid>/ns/net`, `/run/netns/<name>`, `CNI_NETNS`).
    ///
    /// # Errors
    /// [`NetnsError::Open`] when there is nothing to open, [`NetnsError::NotANamespace`] when something else is there: the mount
    /// of a namespace that has been deleted leaves an ordinary file behind.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref();
        // Whatever stands there is opened at once: a FIFO would wait for a writer, a terminal would become ours.
        let fd = open_file(path)?;
        if is_network_namespace(&fd) {
            Ok(Self { fd: Arc::new(fd) })
        } else {
            Err(NetnsError::NotANamespace { path: path.into() })
        }
    }

    /// A fresh namespace, held by nothing but the value returned. Its `lo` is down.
    ///
    /// # Errors
    /// [`NetnsError::Create`]: not allowed (`EPERM`: `CAP_SYS_ADMIN` is needed), or too many (`ENOSPC`).
    pub fn create() -> Result<Self, NetnsError> {
        let scratch = std::thread::Builder::new().name("netns".to_owned()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError::Create { errno })?;
            Self::current()
        });
        let scratch = scratch.map_err(|e| NetnsError::Create { errno: errno(&e) })?;
        scratch.join().unwrap_or(Err(NetnsError::Create { errno: Errno::EAGAIN }))
    }

    /// Runs a closure with the calling thread inside this namespace, and comes back, also when the closure panics. The process
    /// aborts if the kernel does not let it come back.
    ///
    /// Do not await anything inside: namespaces belong to threads, not to tasks.
    ///
    /// # Errors
    /// [`NetnsError::Enter`]; the closure has not run then.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> Result<T, NetnsError> {
        let home = Self::current()?;
        setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError::Enter { errno })?;
        let _way_back = WayBack { home };
        Ok(work())
    }

    /// Mounts it on a path (which is created as an empty file) so that it lives on and others can open it by name.
    ///
    /// # Errors
    /// [`NetnsError::Mount`] with `EEXIST` where something is there already, or `EPERM`.
    pub fn bind_to(&self, path: impl AsRef<Path>) -> Result<(), NetnsError> {
        let path = path.as_ref();
        let error = |errno| NetnsError::Mount { what: "mount network namespace on", path: path.into(), errno };
        File::options().write(true).create_new(true).open(path).map_err(|e| error(errno(&e)))?;
        let source = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| {
            std::fs::remove_file(path).ok();
            error(errno)
        })
    }

    /// Takes a namespace off the path it was mounted on by [`Netns::bind_to`] and removes the file. One that is gone already is fine.
    ///
    /// # Errors
    /// [`NetnsError::Mount`].
    pub fn unbind(path: impl AsRef<Path>) -> Result<(), NetnsError> {
        let path = path.as_ref();
        let error = |errno| NetnsError::Mount { what: "unmount network namespace from", path: path.into(), errno };
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(error(errno)),
        }
        match std::fs::remove_file(path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(error(errno(&e))),
        }
    }

    /// Whether both are one and the same namespace.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.identity().is_some_and(|own| Some(own) == other.identity())
    }

    /// Device and inode number: what tells one living namespace from another.
    #[must_use]
    pub fn identity(&self) -> Option<(u64, u64)> {
        fstat(self.fd.as_fd()).ok().map(|stat| (stat.st_dev, stat.st_ino))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

struct WayBack {
    home: Netns,
}

impl Drop for WayBack {
    fn drop(&mut self) {
        if setns(self.home.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

fn open_file(path: &Path) -> Result<OwnedFd, NetnsError> {
    const HOW: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);
    loop {
        match openat(AT_FDCWD, path, HOW, Mode::empty()) {
            Err(Errno::EINTR) => {}
            opened => return opened.map_err(|errno| NetnsError::Open { path: path.into(), errno }),
        }
    }
}

fn is_network_namespace(fd: &OwnedFd) -> bool {
    let on_nsfs = fstatfs(fd).is_ok_and(|stat| stat.filesystem_type() == FsType(NSFS_MAGIC as _));
    on_nsfs && kind_of(fd) == Some(libc::CLONE_NEWNET)
}

#[allow(unsafe_code)]
fn kind_of(fd: &OwnedFd) -> Option<libc::c_int> {
    // SAFETY: this ioctl takes no argument; the descriptor is open.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) };
    (kind > 0).then_some(kind)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
