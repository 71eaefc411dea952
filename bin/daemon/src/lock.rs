//! One daemon for one node: two would each promise the same addresses.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Proof that no other daemon of this node runs. Given up when the process ends, however it ends.
#[derive(Debug)]
pub struct Sole {
    _locks: Vec<Flock<File>>,
}

/// Why this daemon must not run.
#[derive(Debug, thiserror::Error)]
pub enum NotAlone {
    /// Another of our kind holds the lock.
    #[error("another aws-k8s-agent runs on this node (it holds {}): stop it first", .0.display())]
    Locked(PathBuf),
    /// Somebody answers on the socket: a daemon of another kind.
    #[error("another daemon listens on {}: stop it first", .0.display())]
    Listening(PathBuf),
    /// The lock can not be taken for another reason.
    #[error("can not {step} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Sole {
    /// Claims the node for this process: a lock beside the socket and one beside the checkpoint (two daemons with different sockets
    /// would promise from the same books), and nobody listening on the socket itself.
    ///
    /// # Errors
    /// See [`NotAlone`].
    pub fn claim(socket: &Path, checkpoint: &Path) -> Result<Self, NotAlone> {
        let locks = vec![lock_beside(socket)?, lock_beside(checkpoint)?];
        if UnixStream::connect(socket).is_ok() {
            return Err(NotAlone::Listening(socket.to_owned()));
        }
        Ok(Self { _locks: locks })
    }
}

fn lock_beside(file: &Path) -> Result<Flock<File>, NotAlone> {
    let io = |step, path: &Path| {
        let path = path.to_owned();
        move |source| NotAlone::Io { step, path, source }
    };
    if let Some(folder) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(io("make the folder", folder))?;
    }
    let path = file.with_extension("lock");
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    Flock::lock(opened.map_err(io("open", &path))?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => NotAlone::Locked(path.clone()),
        errno => NotAlone::Io { step: "lock", path: path.clone(), source: errno.into() },
    })
}

/// Takes the socket away, so that callers learn at once that nobody listens. The lock's file stays: removing it would let two
/// daemons lock two files of one name.
pub fn remove_socket(socket: &Path) {
    if let Err(error) = fs::remove_file(socket)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("can not remove {}: {error}", socket.display());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_node_has_one_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("aws-node/ipamd.sock");
        let (books, other) = (folder.path().join("aws-node/ipam.json"), folder.path().join("other/x"));
        let first = Sole::claim(&socket, &books).unwrap();
        assert!(matches!(Sole::claim(&socket, &other), Err(NotAlone::Locked(_))));
        assert!(matches!(Sole::claim(&other, &books), Err(NotAlone::Locked(_))), "the books are the same");
        drop(first);
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(matches!(Sole::claim(&socket, &books), Err(NotAlone::Listening(_))));
        drop(listener);
        // A socket nobody listens on is a leftover of a dead process.
        Sole::claim(&socket, &books).unwrap();
    }
}
