//! The plugin is killed before each of its system calls in turn; the runtime's next calls find nothing in their way, and in the end
//! nothing is left.
//!
//! ```text
//!   ptrace: run to the entry of the n-th system call --SIGKILL--> it is not carried out, nothing after it is
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each suite uses its part of it.
#[allow(dead_code)]
mod node;

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use node::{Node, Outcome, Pod, config, on_a_node, wait_until};

/// More system calls than a call of the plugin has.
const ENDLESS: u32 = 5_000;

/// Runs a plugin up to its `n`-th system call and kills it there. `false`: it ended by itself before.
#[expect(clippy::zombie_processes, reason = "it is waited for until it ends, by the call that tells of its stops too")]
fn killed_at(n: u32, mut command: Command, input: &str) -> bool {
    // SAFETY: one system call.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| Ok(ptrace::traceme()?));
    }
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    // It stands at its first instruction, and its configuration fits the pipe.
    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(pid, Signal::SIGTRAP));
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL | ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let (mut calls, mut inside, mut signal) = (0, false, None);
    loop {
        ptrace::syscall(pid, signal.take()).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::PtraceSyscall(_) => {
                inside = !inside;
                calls += u32::from(inside);
                if inside && calls == n {
                    child.kill().unwrap();
                    assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Signaled(pid, Signal::SIGKILL, false));
                    return true;
                }
            }
            WaitStatus::Stopped(_, other) => signal = Some(other),
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0, "at {n}");
                return false;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// How many system calls the plugin was killed at: all it makes.
fn sweep(mut at: impl FnMut(u32) -> bool) -> u32 {
    let calls = (1..ENDLESS).take_while(|n| at(*n)).count();
    let calls = calls.try_into().unwrap();
    assert!(calls > 50 && calls < ENDLESS - 1, "{calls} system calls");
    println!("killed at each of {calls} system calls");
    calls
}

fn nothing_is_left(node: &Node, n: u32) {
    wait_until(|| node.state().is_empty());
    assert!(node.script().leases.is_empty(), "killed at system call {n}: {:?}", node.script().leases);
}

/// What a runtime does with a sandbox whose ADD died: it has no result to hand on.
fn deleted(pod: &mut Pod) {
    pod.call("DEL").assert_ok();
    pod.gone();
}

#[test]
fn an_add_killed_at_any_system_call_and_deleted_leaves_nothing() {
    on_a_node("an_add_killed_at_any_system_call_and_deleted_leaves_nothing", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        sweep(|n| {
            let mut pod = node.pod("web-1");
            let killed = killed_at(n, pod.command("ADD", &[]), &config(None));
            deleted(&mut pod);
            nothing_is_left(node, n);
            killed
        });
    });
}

#[test]
fn after_an_add_killed_at_any_system_call_the_pod_s_next_sandbox_lives() {
    on_a_node("after_an_add_killed_at_any_system_call_the_pod_s_next_sandbox_lives", |node| {
        node.daemon();
        sweep(|n| {
            node.gives("10.20.9.201", 1, 2);
            let mut old = node.pod("web-1");
            let killed = killed_at(n, old.command("ADD", &[]), &config(None));
            // The old one is deleted only when the new one is there.
            node.gives("10.20.9.202", 1, 2);
            let mut new = node.pod("new");
            (new.name, new.container) = ("web-1".into(), "c-new".into());
            let add: Outcome = new.call("ADD");
            add.assert_ok();
            node.gives("10.20.9.201", 1, 2);
            deleted(&mut old);
            new.call_with("CHECK", &config(Some(add.json())), &[]).assert_ok();
            node.gives("10.20.9.202", 1, 2);
            new.del_after(&add).assert_ok();
            new.gone();
            nothing_is_left(node, n);
            killed
        });
    });
}

#[test]
fn a_del_killed_at_any_system_call_and_repeated_leaves_nothing() {
    on_a_node("a_del_killed_at_any_system_call_and_repeated_leaves_nothing", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        sweep(|n| {
            let mut pod = node.pod("web-1");
            let add = pod.call("ADD");
            add.assert_ok();
            let input = config(Some(add.json()));
            let killed = killed_at(n, pod.command("DEL", &[]), &input);
            pod.call_with("DEL", &input, &[]).assert_ok();
            pod.gone();
            nothing_is_left(node, n);
            killed
        });
    });
}
