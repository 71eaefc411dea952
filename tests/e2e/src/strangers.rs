//! Programs other people wrote, built from their published sources: each folder of `tests/strangers` is a Go module that names
//! them as its tools, with versions and checksums pinned.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::root;

/// Builds the tools of the Go module `tests/strangers/<module>` and gives the folder they are in. Tests that come at the same
/// time wait for one another; a build with nothing changed takes about a second.
///
/// `Err` is the reason to skip a test with: there is no Go.
///
/// # Errors
/// No `go` on the path.
///
/// # Panics
/// When Go is there and the tools do not build: then the test has failed.
#[expect(clippy::panic, clippy::expect_used, reason = "a crate of tests")]
pub fn go_tools(module: &str) -> Result<PathBuf, String> {
    let go = Command::new("go").arg("version").stdin(Stdio::null()).output();
    if !go.is_ok_and(|go| go.status.success()) {
        return Err("`go` is not installed".to_owned());
    }
    let folder = target().join("strangers").join(module);
    fs::create_dir_all(&folder).expect("a folder in the target folder");
    let lock = File::create(folder.join(".lock")).expect("a file in the target folder");
    lock.lock().expect("a lock in the target folder");
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&folder).arg("tool");
    build.current_dir(root().join("tests/strangers").join(module)).env("CGO_ENABLED", "0").stdin(Stdio::null());
    let built = build.output().expect("go has just been run");
    if !built.status.success() {
        panic!("tests/strangers/{module} does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(folder)
}

/// The folder cargo builds in: two above that of a test.
#[expect(clippy::expect_used, reason = "a crate of tests")]
fn target() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    own.ancestors().nth(3).expect("a test is three folders below the target folder").to_path_buf()
}
