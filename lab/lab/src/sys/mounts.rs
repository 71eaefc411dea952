//! Mounts, as few kinds as the lab needs.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

/// A failed mount: what was mounted where, and why not.
#[derive(Debug, thiserror::Error)]
#[error("{what} on {target}: {source}")]
pub struct MountError {
    /// What was mounted.
    pub what: String,
    /// Where.
    pub target: String,
    /// Why not.
    pub source: io::Error,
}

fn failed(what: impl Into<String>, target: &Path) -> impl FnOnce(io::Error) -> MountError {
    let what = what.into();
    move |source| MountError { what, target: target.display().to_string(), source }
}

/// Cuts every mount of this namespace off from the host's: nothing mounted here is seen there, or the other way round.
///
/// # Errors
/// As `mount(2)`.
pub fn make_private() -> Result<(), MountError> {
    let root = Path::new("/");
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, root, None::<&str>, flags, None::<&str>)
        .map_err(|e| failed("private propagation", root)(e.into()))
}

/// A fresh file system of a kind that needs no device (`tmpfs`, `proc`, `sysfs`, `devpts`).
///
/// # Errors
/// As `mount(2)`.
pub fn fresh(kind: &str, target: &Path, flags: MsFlags, options: &str) -> Result<(), MountError> {
    mount(Some(kind), target, Some(kind), flags, Some(options)).map_err(|e| failed(kind, target)(e.into()))
}

/// Shows a directory or file at another place too, with everything mounted below it.
///
/// # Errors
/// As `mount(2)`.
pub fn bind(source: &Path, target: &Path) -> Result<(), MountError> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .map_err(|e| failed(source.display().to_string(), target)(e.into()))
}

/// As [`bind`], but nothing can be written through it, not into what is mounted below it either (Linux 5.12).
///
/// # Errors
/// As `mount(2)` and `mount_setattr(2)`.
pub fn bind_read_only(source: &Path, target: &Path) -> Result<(), MountError> {
    bind(source, target)?;
    read_only(target)
}

/// Lets nothing be written any more through a mount and those below it (Linux 5.12). The file system behind it stays as it is.
///
/// # Errors
/// As `mount_setattr(2)`.
pub fn read_only(target: &Path) -> Result<(), MountError> {
    set_read_only(target).map_err(failed("read-only", target))
}

fn set_read_only(target: &Path) -> io::Result<()> {
    /// `struct mount_attr` of linux/mount.h.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const READ_ONLY: u64 = 1; // MOUNT_ATTR_RDONLY
    const RECURSIVE: libc::c_uint = 0x8000; // AT_RECURSIVE
    let attributes = Attributes { set: READ_ONLY, clear: 0, propagation: 0, user_namespace: 0 };
    let path = c_path(target)?;
    // SAFETY: the path is NUL-terminated and the structure is as large as told; the kernel only reads both.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            RECURSIVE,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Mounts a namespace held by descriptor on a path (created as an empty file). It works in a mount namespace whose `/proc` does not
/// know the caller, where the usual bind of `/proc/self/fd/…` can not.
///
/// # Errors
/// As `open_tree(2)` and `move_mount(2)`.
pub fn bind_namespace(namespace: BorrowedFd<'_>, target: &Path) -> Result<(), MountError> {
    File::options().write(true).create_new(true).open(target).map_err(failed("namespace", target))?;
    attach_descriptor(namespace, target).map_err(|e| {
        std::fs::remove_file(target).ok();
        failed("namespace", target)(e)
    })
}

fn attach_descriptor(namespace: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    const CLONE: libc::c_uint = 1 | libc::O_CLOEXEC as libc::c_uint; // OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    const FROM_EMPTY: libc::c_uint = 4; // MOVE_MOUNT_F_EMPTY_PATH
    let here = c"";
    let path = c_path(target)?;
    // SAFETY: all strings are NUL-terminated; the descriptor is open; the new descriptor is owned by nobody else.
    unsafe {
        let flags = CLONE | libc::AT_EMPTY_PATH as libc::c_uint;
        let tree = libc::syscall(libc::SYS_open_tree, namespace.as_raw_fd(), here.as_ptr(), flags);
        if tree < 0 {
            return Err(io::Error::last_os_error());
        }
        let tree = OwnedFd::from_raw_fd(tree as libc::c_int);
        let moved = libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            here.as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            FROM_EMPTY,
        );
        if moved == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
