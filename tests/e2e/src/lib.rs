//! End-to-end tests: real binaries, real kernel, other people's programs.
//!
//! The tests are in `tests/`; here is what they share: saying that a test did not run ([`skip`]), finding the programs
//! ([`program`]) and those of others ([`strangers`], [`python_with`]), a lab that goes away with its test ([`lab::Lab`]),
//! the VPC CNI of AWS ([`reference::Reference`]), a Kubernetes API alone ([`kube::Api`]), waiting for a state ([`wait_until`]),
//! and crashes ([`crash`]).

pub mod crash;
pub mod kube;
pub mod lab;
mod python;
pub mod reference;
mod skip;
pub mod strangers;
mod wait;

use std::path::{Path, PathBuf};

pub use python::python_with;
pub use skip::skip;
pub use wait::wait_until;

/// Root of the repository.
///
/// # Panics
/// When this crate has been moved out of `tests/e2e`.
#[must_use]
#[expect(clippy::expect_used, reason = "a crate of tests")]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("tests/e2e is two folders below the root")
        .to_path_buf()
}

/// One of our programs (`vpc-lab`, `aws-cni`, `aws-k8s-agent`): in the folder `VPC_CNI_BIN_DIR` names, else where cargo builds.
/// `Err` is the reason to skip a test with.
///
/// # Errors
/// When it has not been built.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let folder = std::env::var_os("VPC_CNI_BIN_DIR").map(PathBuf::from).or_else(beside_the_test);
    let path = folder.unwrap_or_default().join(name);
    if path.is_file() { Ok(path) } else { Err(format!("{} is not built (cargo xtask test builds it)", path.display())) }
}

/// A test is `<target>/debug/deps/<test>-<hash>`, a program `<target>/debug/<name>`.
fn beside_the_test() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.parent()?.to_path_buf())
}
