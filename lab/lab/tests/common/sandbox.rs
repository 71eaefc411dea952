//! Where a test may be root of its own network: the test program runs itself again for that test alone, in fresh namespaces (a process
//! with threads can not enter a user namespace).

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

const INSIDE: &str = "VPC_LAB_TEST_SANDBOX";
const RAN: &str = "sandboxed body ran to its end";

/// Runs `body` in a sandbox. `test` is the name of the calling test.
pub(crate) fn sandboxed(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        body();
        println!("{RAN}");
        return;
    }
    let (uid, gid) = (geteuid(), getegid());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let enter = move || {
        if uid.is_root() {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
        } else {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
        }
        Ok(())
    };
    // SAFETY: only system calls and small allocations between fork and exec; the parent holds no lock of ours.
    unsafe { child.pre_exec(enter) };
    let output = child.output().unwrap_or_else(|error| panic!("{test}: no namespaces of its own: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains(RAN), "{test} failed inside its sandbox:\n{out}\n{err}");
}
