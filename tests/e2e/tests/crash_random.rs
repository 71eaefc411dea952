//! A short storm: ADDs, DELs and SIGKILLs at random. `cargo xtask crash` has the long one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use e2e::crash::programs::Programs;
use e2e::crash::storm::{self, Storm};

#[test]
fn r06_nothing_is_lost_given_twice_or_leaked_while_everything_is_killed() {
    const TEST: &str = "r06_nothing_is_lost_given_twice_or_leaked_while_everything_is_killed";
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(reason) => return e2e::skip(TEST, &reason),
    };
    let storm = Storm { lasts: Duration::from_secs(15), seed: 6, rate: 10, pods: 20 };
    let report = storm::run(&programs, &storm).unwrap();
    println!("{report}");
    // How long things took is told, and not judged: this machine may be busy.
    assert!(report.is_right(), "{report}");
    assert!(report.daemon_kills >= 2 && report.added >= 20 && report.deleted >= 20, "too little happened: {report}");
}
