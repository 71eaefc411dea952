//! A pod's network namespace, as a container runtime makes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use vpc_linux::Netns;

use super::{PodName, Sandbox};
use crate::fabric::link_up;
use crate::sys::mounts::bind_namespace;
use crate::sys::spaces::Spaces;

/// Where runtimes mount pods' namespaces.
const DIRECTORY: &str = "/var/run/netns";

/// A namespace could not be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct SandboxError {
    what: &'static str,
    cause: String,
}

fn failed<E: ToString>(what: &'static str) -> impl FnOnce(E) -> SandboxError {
    move |cause| SandboxError { what, cause: cause.to_string() }
}

/// A fresh sandbox.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) sandbox: Sandbox,
    pub(super) network: Netns,
}

/// Makes a namespace with `lo` up and mounts it in the node.
pub(super) fn create(
    inside: &Spaces,
    pod: &PodName,
    annotations: &BTreeMap<String, String>,
) -> Result<Made, SandboxError> {
    let network = Netns::create().map_err(failed("make a network namespace"))?;
    link_up(&network, "lo").map_err(failed("bring up lo in the new namespace"))?;
    let hex = random_hex(16).map_err(failed("choose a name for the namespace"))?;
    let uuid = dashed(&hex);
    let netns = format!("{DIRECTORY}/cni-{uuid}");
    let mounted = inside.run(|| {
        std::fs::create_dir_all(DIRECTORY).map_err(|e| e.to_string())?;
        bind_namespace(network.as_fd(), Path::new(&netns)).map_err(|e| e.to_string())
    });
    mounted.map_err(failed("enter the node"))?.map_err(failed("mount the namespace in the node"))?;
    let container = random_hex(32).map_err(failed("choose a container id"))?;
    let uid = dashed(&random_hex(16).map_err(failed("choose a pod uid"))?);
    let sandbox = Sandbox { container, netns, uid, pod: pod.clone(), annotations: annotations.clone() };
    Ok(Made { sandbox, network })
}

/// Lets the namespace go. One that is gone already, or whose path is empty, is fine.
pub(super) fn remove(inside: &Spaces, netns: &str) -> Result<(), SandboxError> {
    if netns.is_empty() {
        return Ok(());
    }
    let removed = inside.run(|| match umount2(netns, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => match std::fs::remove_file(netns) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        },
        Err(errno) => Err(errno.into()),
    });
    removed.map_err(failed("enter the node"))?.map_err(failed("remove the namespace"))
}

/// Random bytes as hexadecimal digits.
///
/// # Errors
/// When the system has no randomness.
pub fn random_hex(bytes: usize) -> io::Result<String> {
    let mut buffer = vec![0_u8; bytes];
    File::open("/dev/urandom")?.read_exact(&mut buffer)?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Thirty-two digits the way UUIDs are written.
fn dashed(hex: &str) -> String {
    let mut ends = [8, 12, 16, 20, 32].into_iter();
    let mut start = 0;
    let parts = std::iter::from_fn(|| {
        let end = ends.next()?;
        let part = hex.get(start..end);
        start = end;
        part
    });
    parts.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_as_a_uuid() {
        assert_eq!(dashed("0123456789abcdef0123456789abcdef"), "01234567-89ab-cdef-0123-456789abcdef");
        let (one, other) = (random_hex(32).unwrap(), random_hex(32).unwrap());
        assert!(one.len() == 64 && one != other);
    }
}
