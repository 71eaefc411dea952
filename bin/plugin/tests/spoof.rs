//! R55: a process of the host's network that is not root can neither reach the daemon's socket nor give an address back in a pod's name.
//!
//! Threads of this process take other credentials for themselves alone; the server is the daemon's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each suite uses its part of it.
#[allow(dead_code)]
mod node;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use node::{on_a_node, skip};
use vpc_wire::rpc::DAEMON_SOCKET;
use vpc_wire::rpc::client::{CallError, Client};
use vpc_wire::rpc::pb::{AddNetworkRequest, DelNetworkRequest};

const NOBODY: u32 = 65_534;
const SOON: Duration = Duration::from_secs(5);

/// Runs something in a thread that has become another user, without any group but this one.
fn as_user<T: Send>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                // The system calls themselves: the C library's functions would change all threads.
                // SAFETY: numbers only, and an empty list.
                #[allow(unsafe_code)]
                let changed = unsafe {
                    [
                        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()),
                        libc::syscall(libc::SYS_setresgid, gid, gid, gid),
                        libc::syscall(libc::SYS_setresuid, uid, uid, uid),
                    ]
                };
                assert_eq!(changed, [0; 3], "become {uid}:{gid}: {}", std::io::Error::last_os_error());
                work()
            })
            .join()
            .unwrap()
    })
}

/// As the plugin gives back an address of pod default/web-1, whoever asks.
fn release() -> Result<(), CallError> {
    let request = DelNetworkRequest {
        k8s_pod_name: "web-1".into(),
        k8s_pod_namespace: "default".into(),
        reason: "PodDeleted".into(),
        if_name: "eth0".into(),
        network_name: "aws-cni".into(),
        container_id: "c-web-1".into(),
        ..Default::default()
    };
    Client::connect(Path::new(DAEMON_SOCKET), SOON)?.del_network(request, SOON).map(drop)
}

fn take() -> Result<(), CallError> {
    let request = AddNetworkRequest { container_id: "c-thief".into(), ..Default::default() };
    Client::connect(Path::new(DAEMON_SOCKET), SOON)?.add_network(request, SOON).map(drop)
}

#[test]
fn r55_nobody_but_root_reaches_the_daemon_or_gives_an_address_back() {
    const TEST: &str = "r55_nobody_but_root_reaches_the_daemon_or_gives_an_address_back";
    if !nix::unistd::geteuid().is_root() {
        return skip(TEST, "only root can become somebody else");
    }
    on_a_node(TEST, |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let add = pod.call("ADD");
        add.assert_ok();
        let before = node.state();
        let socket = fs::metadata(DAEMON_SOCKET).unwrap();
        assert_eq!((socket.mode() & 0o777, socket.uid(), socket.gid()), (0o660, 0, 0));

        // By the socket's mode: who has neither the user nor the group does not come in.
        for attempt in [release, take] {
            let error = as_user(NOBODY, NOBODY, attempt).unwrap_err();
            assert!(
                matches!(&error, CallError::Absent { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied),
                "{error:?}"
            );
        }
        // By who asks: the group of root, and a socket somebody has opened to all.
        for (gid, mode) in [(0, 0o660), (NOBODY, 0o666), (0, 0o777)] {
            fs::set_permissions(DAEMON_SOCKET, Permissions::from_mode(mode)).unwrap();
            for attempt in [release, take] {
                let error = as_user(NOBODY, gid, attempt).unwrap_err();
                assert!(matches!(error, CallError::Broken { .. }), "{error:?}");
            }
        }
        // Nor can the socket be replaced by one of his own, that would hear what plugins ask.
        as_user(NOBODY, 0, || {
            assert!(fs::remove_file(DAEMON_SOCKET).is_err());
            assert!(fs::rename(DAEMON_SOCKET, "/var/run/aws-node/other").is_err());
            assert!(UnixListener::bind("/var/run/aws-node/mine.sock").is_err());
            assert!(UnixListener::bind("/var/run/aws-node/npa.sock").is_err());
        });

        assert_eq!(node.script().leases.iter().collect::<Vec<_>>(), ["c-web-1"]);
        assert!(node.script().deleted.is_empty() && node.script().added.len() == 1, "nobody was heard");
        assert_eq!(node.state(), before);
        // Root is.
        release().unwrap();
        assert!(node.script().leases.is_empty());
    });
}
