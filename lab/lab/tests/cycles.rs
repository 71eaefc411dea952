//! Labs come and go, and the machine is as before. Alone in its program, so that what it counts is its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use common::ec2::wait_until;
use common::traces::{EndsWithTest, Process, mounts};
use common::{nobody, options, public_copy, unique, with_toys};
use vpc_lab::control::Place;
use vpc_lab::{Lab, StartOptions};

const CYCLES: usize = 100;
/// What the test's own memory may grow by in all of them. A leak of a page in each would be more.
const GROWTH_KIB: usize = 2 * CYCLES;

/// Processes that run a program.
fn running(program: &Path) -> Vec<Process> {
    Process::all().into_iter().filter(|process| process.program().is_some_and(|own| own == program)).collect()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Resident memory of this process that is its own, in KiB.
fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A namespace lives as long as a process is in it, or a mount or descriptor holds it: where those are gone, it is.
fn labs_leave_no_process_mount_namespace_or_file() {
    let dir = tempfile::tempdir().unwrap();
    // A program of its own: whatever runs it belongs to this test.
    let vpc_lab = public_copy(dir.path());
    let name = unique("cycle");
    let options =
        || StartOptions { name: name.clone(), vpc_lab: Some(vpc_lab.clone()), dies_with_me: false, ..options() };
    let state = || (running(&vpc_lab).len(), mounts(), open_files(), threads());
    let before = state();
    assert_eq!(before.0, 0);
    let mut settled = 0;
    for cycle in 0..CYCLES {
        // The first few fill the allocator's pools.
        if cycle == CYCLES / 10 {
            settled = memory();
        }
        let (lab, warnings) = Lab::start(&with_toys(), &options()).unwrap_or_else(|e| panic!("{cycle}: {e}"));
        let supervisor = lab.supervisor_pid().unwrap();
        let _end = EndsWithTest::new(supervisor);
        assert_eq!(warnings, Vec::<String>::new(), "{cycle}");
        lab.pod_add("a", &"default/web-0".parse().unwrap(), 1).unwrap();
        lab.run(&Place::Node("b".to_owned()), &["sh", "-c", "sleep 4242 >/dev/null 2>&1 &"]).unwrap();
        assert!(running(&vpc_lab).len() >= 5, "the supervisor and four nodes");
        let (place, family) = (lab.place().clone(), Process::family(supervisor));
        assert!(family.len() >= 6, "and whatever runs in them: {family:?}");
        lab.down().unwrap();
        // Its first process lets go of the lock a moment before the kernel has buried the others.
        let left = || -> Vec<_> { family.iter().filter(|process| process.lives()).cloned().collect() };
        wait_until(left, Vec::is_empty);
        wait_until(state, |now| *now == before);
        assert!(!place.is_up() && !place.socket().exists());
        assert_eq!(fs::read_dir(place.mount_point()).map_or(0, Iterator::count), 0);
    }
    let grown = memory().saturating_sub(settled);
    println!("{CYCLES} labs: {grown} KiB more memory, of {settled} KiB");
    assert!(grown <= GROWTH_KIB, "{grown} KiB more than after {} labs", CYCLES / 10);
}

#[test]
fn a_hundred_labs_leave_the_machine_as_it_was() {
    labs_leave_no_process_mount_namespace_or_file();
    nobody::run_all_as_nobody("nothing");
}
