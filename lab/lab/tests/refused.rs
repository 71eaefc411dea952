//! A machine that forbids user namespaces: one message with the way out, and nothing half-made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use common::{SMALL, nobody, unique, vpc_lab};
use nix::sched::{CloneFlags, unshare};

/// The user that `vpc-lab` is in there: not root, who would go on without a user namespace.
const SOMEBODY: u32 = 1000;

/// Runs `vpc-lab` as somebody in a user namespace whose limit of further ones is `limit`, with a runtime directory of its own.
fn run_with_limit(limit: u32, runtime: &Path, arguments: &[&str]) -> io::Result<Output> {
    let (uid, gid) = (nix::unistd::Uid::effective(), nix::unistd::Gid::effective());
    let confine = move || {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("{SOMEBODY} {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("{SOMEBODY} {gid} 1"))?;
        // What it was given by the new namespace it loses with exec: it is not root there.
        std::fs::write("/proc/sys/user/max_user_namespaces", limit.to_string())
    };
    let mut command = Command::new(vpc_lab());
    command.args(arguments).env("XDG_RUNTIME_DIR", runtime).current_dir("/");
    // SAFETY: the child has one thread and only makes system calls on memory of its own; glibc's allocator works after fork.
    unsafe { command.pre_exec(confine) };
    command.output()
}

#[test]
fn where_user_namespaces_are_forbidden_one_message_says_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.toml");
    std::fs::write(&file, SMALL).unwrap();
    let name = unique("refused");
    let up = ["up", "--lab", &name, file.to_str().unwrap()];
    let refused = match run_with_limit(0, dir.path(), &up) {
        Ok(output) => output,
        Err(e) => {
            let reason = format!("a namespace without namespaces can not be made here: {e}");
            return nobody::skip("where_user_namespaces_are_forbidden_one_message_says_the_way_out", &reason);
        }
    };
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(1), b"".as_slice()), "{said}");
    assert_eq!(said.matches("this machine does not let user 1000 make a user namespace").count(), 1, "{said}");
    for way_out in [
        "kernel.unprivileged_userns_clone=1",
        "kernel.apparmor_restrict_unprivileged_userns=0",
        "user.max_user_namespaces=",
        "in a container",
        "run vpc-lab as root",
    ] {
        assert_eq!(said.matches(way_out).count(), 1, "`{way_out}` in: {said}");
    }
    assert!(!said.contains("panicked") && said.lines().count() <= 10, "{said}");
    // Nothing of it is left: no process holds the lock, no socket, no mount.
    let place = dir.path().join("vpc-lab").join(&name);
    assert!(!place.join("control.sock").exists() && !place.join("pid").exists(), "{said}");
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(name.as_str()));

    // The same user in the same place has a lab where it may.
    let allowed = run_with_limit(10, dir.path(), &up).unwrap();
    let down = run_with_limit(10, dir.path(), &["down", "--lab", &name]).unwrap();
    assert!(allowed.status.success() && down.status.success(), "{allowed:?}\n{down:?}");
}

#[test]
fn every_test_here_also_passes_for_nobody() {
    nobody::run_all_as_nobody("every_test_here_also_passes_for_nobody");
}
