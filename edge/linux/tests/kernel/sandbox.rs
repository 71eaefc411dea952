//! Where a kernel test runs: a process of its own with fresh network and mount namespaces, and a user namespace where we are not root.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use serde_json::Value;
use vpc_linux::{LinkChange, Netns, Rtnl, VethPeer, VethSpec};
use vpc_model::{Ipv4Net, LinkName, Mac};

const INSIDE: &str = "VPC_LINUX_TEST_SANDBOX";
const RAN: &str = "sandboxed body ran to its end";

/// Runs `body` in a sandbox. `test` is the full name of the calling test: the test binary runs itself again for that test alone,
/// because a process with threads can not enter a user namespace.
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
    let output = match child.output() {
        Ok(output) => output,
        Err(error) if !uid.is_root() => {
            println!("SKIPPED {test}: no user namespace to be had here ({error})");
            return;
        }
        Err(error) => panic!("{test}: {error}"),
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // The harness inside has written the beginning of such a line.
    for line in out.lines().filter_map(|line| line.find("SKIPPED ").map(|at| &line[at..])) {
        println!("{line}");
    }
    assert!(output.status.success() && out.contains(RAN), "{test} failed inside its sandbox:\n{out}\n{err}");
}

/// What `ip -j …` or `nft -j …` says, or `None` (and a line that says so) where there is no such program.
pub(crate) fn other_eyes(test: &str, program: &str, args: &[&str]) -> Option<Value> {
    let output = match Command::new(program).args(args).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED {test}: `{program}` is not installed, so nobody else looked at what was written");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let text = if text.trim().is_empty() { "[]".to_owned() } else { text };
    Some(serde_json::from_str(&text).unwrap())
}

/// Whether, anywhere in `seen`, there is a value that includes `wanted` (JSON text): the same, or an object with those members.
pub(crate) fn includes(seen: &Value, wanted: &str) -> bool {
    fn part_of(wanted: &Value, seen: &Value) -> bool {
        match (wanted, seen) {
            (Value::Object(wanted), Value::Object(seen)) => {
                wanted.iter().all(|(key, value)| seen.get(key).is_some_and(|found| part_of(value, found)))
            }
            _ => wanted == seen,
        }
    }
    fn anywhere(wanted: &Value, seen: &Value) -> bool {
        part_of(wanted, seen)
            || match seen {
                Value::Array(items) => items.iter().any(|item| anywhere(wanted, item)),
                Value::Object(members) => members.values().any(|item| anywhere(wanted, item)),
                _ => false,
            }
    }
    anywhere(&serde_json::from_str(wanted).unwrap(), seen)
}

pub(crate) fn name(text: &str) -> LinkName {
    text.parse().unwrap()
}

pub(crate) fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(crate) fn mac(last: u8) -> Mac {
    Mac([0x0a, 0, 0, 0, 0, last])
}

/// A veth pair between the conversation's namespace and another, both ends up; gives both indexes.
pub(crate) fn cable(rtnl: &mut Rtnl, ours: &str, other: &Netns, theirs: &str) -> (u32, u32) {
    let spec = VethSpec {
        name: name(ours),
        index: None,
        mac: None,
        mtu: None,
        up: true,
        alias: None,
        link_local: true,
        peer: VethPeer { name: name(theirs), mac: None, mtu: None, netns: Some(other) },
    };
    let (index, _) = rtnl.add_veth(&spec).unwrap();
    let mut far = Rtnl::open_in(other).unwrap();
    far.set_link(&name(theirs), &LinkChange::up()).unwrap();
    rtnl.settle_link(index).unwrap();
    (index, far.link(&name(theirs)).unwrap().index)
}
