//! The same tests, as an ordinary user without a home or a runtime directory.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Nobody: an ordinary user without a home.
pub(crate) const NOBODY: u32 = 65_534;

/// Where the programs are when they are not where cargo built them.
const PROGRAMS: &str = "VPC_LAB_TEST_PROGRAMS";

/// The directory with `vpc-lab`, and, if they have been built, `aws-cni` and `aws-k8s-agent`.
pub(crate) fn programs() -> PathBuf {
    let elsewhere = std::env::var_os(PROGRAMS).or_else(|| std::env::var_os("VPC_CNI_BIN_DIR")).map(PathBuf::from);
    elsewhere.unwrap_or_else(|| Path::new(env!("CARGO_BIN_EXE_vpc-lab")).parent().unwrap().to_owned())
}

/// The directory, if all three programs are there; else the reason to skip a test with.
pub(crate) fn real_programs() -> Result<PathBuf, String> {
    let dir = programs();
    match ["aws-cni", "aws-k8s-agent"].iter().find(|name| !dir.join(name).is_file()) {
        None => Ok(dir),
        Some(missing) => Err(format!("{} is not built (cargo xtask test builds it)", dir.join(missing).display())),
    }
}

/// Says that a test did not run: a line for people, and one in the file that `VPC_CNI_SKIPS` names. Call it and return.
pub(crate) fn skip(test: &str, reason: &str) {
    use std::io::Write;
    println!("SKIPPED {test}: {reason}");
    if let Some(file) = std::env::var_os("VPC_CNI_SKIPS") {
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        file.write_all(format!("{test}: {reason}\n").as_bytes()).unwrap();
    }
}

/// Runs all other tests of this program as nobody, from a directory that everybody may read. Who is not root is nobody already.
pub(crate) fn run_all_as_nobody(this_test: &str) {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("tests");
    let copies = ["vpc-lab", "aws-cni", "aws-k8s-agent"].map(|name| (programs().join(name), dir.path().join(name)));
    for (from, to) in copies.iter().chain([&(std::env::current_exe().unwrap(), own.clone())]) {
        // The daemon and the plugin may not have been built.
        if from.is_file() {
            std::fs::copy(from, to).unwrap();
            std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&own);
    command.args(["--skip", this_test, "--test-threads", "2", "--show-output"]).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env(PROGRAMS, dir.path()).current_dir("/");
    let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !out.contains(" 0 passed"), "{}\n{out}\n{err}", output.status);
    // What nobody could not run has not been tested as nobody.
    let skipped: Vec<_> = out.lines().filter_map(|line| line.strip_prefix("SKIPPED ")).collect();
    if !skipped.is_empty() {
        skip(this_test, &skipped.join("; "));
    }
}
