//! A test that cannot run says so, by name and with the reason, and is counted.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that a test did not run. Call it and return.
///
/// It prints `SKIPPED <test>: <reason>`, and appends `<test>: <reason>` to the file that `VPC_CNI_SKIPS` names if it is set;
/// `cargo xtask test` counts either. A crate that does not want to depend on this one prints the line itself.
pub fn skip(test: &str, reason: &str) {
    // One line per test, whatever the reason looks like.
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    println!("SKIPPED {test}: {reason}");
    let Some(file) = std::env::var_os("VPC_CNI_SKIPS") else { return };
    let told = OpenOptions::new().create(true).append(true).open(&file).and_then(|mut file| {
        // One write: tests of several processes append to the same file.
        file.write_all(format!("{test}: {reason}\n").as_bytes())
    });
    if let Err(error) = told {
        eprintln!("cannot append to {} (VPC_CNI_SKIPS): {error}", file.to_string_lossy());
    }
}
