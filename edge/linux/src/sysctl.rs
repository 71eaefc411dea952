//! Kernel switches under `/proc/sys`. Those of `net/` belong to the network namespace of the calling thread.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

/// A switch that could not be read or set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// The key is no path below `/proc/sys`.
    #[error("`{key}` is not a sysctl: expected a path below /proc/sys with slashes, such as net/ipv4/ip_forward")]
    Key {
        /// The key.
        key: String,
    },
    /// The kernel refused.
    #[error("{what} /proc/sys/{key}{}: {}", value.as_ref().map(|v| format!(" to `{v}`")).unwrap_or_default(), errno.desc())]
    Refused {
        /// `read` or `set`.
        what: &'static str,
        /// The key.
        key: String,
        /// The value that was to be set.
        value: Option<String>,
        /// Why.
        errno: Errno,
    },
}

impl SysctlError {
    /// The switch does not exist on this kernel (or its link is gone).
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { errno: Errno::ENOENT, .. })
    }
}

/// The value, without its line end.
///
/// # Errors
/// [`SysctlError::is_absent`] when there is no such switch.
pub fn read(key: &str) -> Result<String, SysctlError> {
    let path = path_of(key)?;
    let text = fs::read_to_string(path).map_err(|e| refused("read", key, None, &e))?;
    Ok(text.trim_end().to_owned())
}

/// Sets the value. A switch that has it already is left alone: setting some of them makes the kernel work even so, and on a
/// read-only `/proc/sys` nothing else can be had.
///
/// # Errors
/// [`SysctlError::is_absent`] when there is no such switch.
pub fn write(key: &str, value: &str) -> Result<(), SysctlError> {
    let path = path_of(key)?;
    let error = |e: &std::io::Error| refused("set", key, Some(value), e);
    match File::options().read(true).write(true).open(&path) {
        Ok(file) if holds(&file, value) => Ok(()),
        // At offset 0: a write anywhere else is refused or ignored.
        Ok(file) => file.write_all_at(value.as_bytes(), 0).map_err(|e| error(&e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(error(&e)),
        Err(e) => match File::open(&path) {
            Ok(file) if holds(&file, value) => Ok(()),
            _ => Err(error(&e)),
        },
    }
}

fn holds(mut file: &File, value: &str) -> bool {
    let mut text = [0; 256];
    let length = file.read(&mut text).unwrap_or(0);
    text[..length].trim_ascii_end() == value.as_bytes()
}

/// Sets the value where there is such a switch (IPv6 may be absent, a link may just have gone).
///
/// # Errors
/// When the switch is there and can not be set.
pub fn write_if_present(key: &str, value: &str) -> Result<(), SysctlError> {
    match write(key, value) {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

/// Sets several switches of one folder, those that are there. The folder is looked for once; one that is not there has no switches.
///
/// # Errors
/// The first switch that is there and can not be set.
pub fn write_those_present(folder: &str, switches: &[(&str, &str)]) -> Result<(), SysctlError> {
    let path = path_of(folder)?;
    let failed = |key: String, value: Option<&str>, errno| SysctlError::Refused {
        what: "set",
        key,
        value: value.map(str::to_owned),
        errno,
    };
    let folder_fd = match openat(AT_FDCWD, &path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
    {
        Ok(fd) => fd,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(failed(folder.to_owned(), None, errno)),
    };
    for (name, value) in switches {
        let key = || format!("{folder}/{name}");
        match openat(&folder_fd, *name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map(File::from) {
            Ok(file) if holds(&file, value) => {}
            Ok(file) => {
                let written = file.write_all_at(value.as_bytes(), 0);
                written.map_err(|e| refused("set", &key(), Some(value), &e))?;
            }
            Err(Errno::ENOENT) => {}
            // On a read-only /proc/sys only what is so already can be had.
            Err(_) => write_if_present(&key(), value)?,
        }
    }
    Ok(())
}

fn path_of(key: &str) -> Result<PathBuf, SysctlError> {
    let relative = Path::new(key);
    let plain = !key.is_empty() && relative.components().all(|part| matches!(part, Component::Normal(_)));
    if plain { Ok(Path::new("/proc/sys").join(relative)) } else { Err(SysctlError::Key { key: key.to_owned() }) }
}

fn refused(what: &'static str, key: &str, value: Option<&str>, error: &std::io::Error) -> SysctlError {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    SysctlError::Refused { what, key: key.to_owned(), value: value.map(str::to_owned), errno }
}
