//! Standard output of a plugin: whether anybody can hear of a result.

use std::os::fd::AsFd as _;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{fstat, makedev};

use super::{CniError, ErrorCode};

/// `/dev/null`. (Linux, Documentation/admin-guide/devices.txt: character device 1, 3.)
const NULL_DEVICE: u64 = makedev(1, 3);

/// Refuses what no result can be written to, although writing looks like success: Rust's library takes a standard output that can not be
/// written for one that nobody reads, and opens the null device, for reading and writing, in place of one that is closed. (`>/dev/null` by
/// hand is opened for writing only, and is meant.)
///
/// # Errors
/// Code 5.
pub fn check_output() -> Result<(), CniError> {
    let stdout = std::io::stdout();
    let refuse = |how: &str| {
        let msg = format!("standard output is {how}, and nobody would hear of the result: expected a pipe or a file");
        Err(CniError::new(ErrorCode::Io, msg))
    };
    let Ok(flags) = fcntl(stdout.as_fd(), FcntlArg::F_GETFL) else { return refuse("closed") };
    match OFlag::from_bits_truncate(flags) & OFlag::O_ACCMODE {
        OFlag::O_RDONLY => refuse("open for reading only"),
        OFlag::O_RDWR => match fstat(stdout.as_fd()) {
            Ok(status) if status.st_mode & libc::S_IFMT == libc::S_IFCHR && status.st_rdev == NULL_DEVICE => {
                refuse("closed")
            }
            Ok(_) | Err(_) => Ok(()),
        },
        _ => Ok(()),
    }
}
