//! Plugin and daemon with failpoints, and how to tell them from those that are shipped.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// What every program with failpoints contains, and no other.
const MARK: &[u8] = b"failpoints are built into this program";
/// The variable they obey.
const ENVIRONMENT: &str = "VPC_CNI_FAILPOINT";

/// A program of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// `aws-cni`.
    Plugin,
    /// `aws-k8s-agent`.
    Daemon,
}

impl Program {
    /// Its file's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plugin => "aws-cni",
            Self::Daemon => "aws-k8s-agent",
        }
    }
}

/// The programs a lab needs to be crashed.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The lab itself.
    pub vpc_lab: PathBuf,
    /// The folder of plugin and daemon with failpoints.
    pub crashing: PathBuf,
}

impl Programs {
    /// Those that `cargo xtask test` has built: `failpoints` beside the folder of the ordinary ones, or where `VPC_CNI_FAILPOINTS_DIR`
    /// says. `Err` is the reason to skip a test with.
    ///
    /// # Errors
    /// One is not built, or has no failpoints.
    pub fn find() -> Result<Self, String> {
        let vpc_lab = crate::program("vpc-lab")?;
        let beside = || Some(vpc_lab.parent()?.parent()?.join("failpoints"));
        let crashing = std::env::var_os("VPC_CNI_FAILPOINTS_DIR").map(PathBuf::from).or_else(beside);
        let programs = Self { crashing: crashing.unwrap_or_default(), vpc_lab };
        for program in [Program::Plugin, Program::Daemon] {
            let path = programs.crashing.join(program.name());
            match has_failpoints(&path) {
                Ok(true) => {}
                Ok(false) => return Err(format!("{} has no failpoints (cargo xtask test builds it)", path.display())),
                Err(_) => return Err(format!("{} is not built (cargo xtask test builds it)", path.display())),
            }
        }
        Ok(programs)
    }

    /// The failpoints of a program, as it lists them itself.
    ///
    /// # Errors
    /// It does not run, or lists none.
    pub fn failpoints(&self, program: Program) -> Result<BTreeSet<String>> {
        let path = self.crashing.join(program.name());
        let run = Command::new(&path).env(ENVIRONMENT, "list").stdin(Stdio::null()).output();
        let run = run.with_context(|| format!("cannot run {}", path.display()))?;
        let names: BTreeSet<String> = String::from_utf8_lossy(&run.stdout).lines().map(str::to_owned).collect();
        ensure!(run.status.success() && !names.is_empty(), "{} lists no failpoints: {run:?}", path.display());
        Ok(names)
    }
}

/// Whether a program has failpoints, by its own bytes.
///
/// # Errors
/// It can not be read.
pub fn has_failpoints(program: &Path) -> std::io::Result<bool> {
    Ok(contains(&std::fs::read(program)?, MARK))
}

/// Whether a program's bytes contain a text.
#[must_use]
pub fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let Some((first, others)) = text.split_first() else { return true };
    let mut rest = bytes;
    // Jumps from one first byte to the next: a program has a hundred megabytes, and this one is not optimised.
    while matches!(rest.skip_until(*first), Ok(1..)) {
        if rest.starts_with(others) {
            return true;
        }
    }
    false
}
