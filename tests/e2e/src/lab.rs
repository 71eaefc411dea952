//! A lab of a test's own: started through the command line as a user would, gone when the test is.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A lab that runs. Dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    name: String,
    user: User,
}

/// Who runs the lab's commands.
#[derive(Clone, Debug)]
pub struct User {
    /// The folder with the programs.
    pub programs: PathBuf,
    /// The user and group to be, with an empty environment; `None` is whoever runs the test.
    pub id: Option<u32>,
}

impl User {
    /// Whoever runs the test, with the programs as built. `Err` is the reason to skip a test with.
    ///
    /// # Errors
    /// When the programs have not been built.
    pub fn myself() -> Result<Self, String> {
        for name in ["aws-cni", "aws-k8s-agent"] {
            crate::program(name)?;
        }
        let lab = crate::program("vpc-lab")?;
        Ok(Self { programs: lab.parent().unwrap_or(Path::new("/")).to_path_buf(), id: None })
    }

    /// `vpc-lab <arguments>`, ready to run.
    #[must_use]
    pub fn vpc_lab(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("vpc-lab"));
        command.args(arguments).stdin(Stdio::null());
        if let Some(id) = self.id {
            use std::os::unix::process::CommandExt;
            command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/").uid(id).gid(id);
        }
        command
    }
}

impl Lab {
    /// `vpc-lab up`, with the built-in topology or a file, under a name nobody else uses.
    ///
    /// # Errors
    /// When it does not come up, with all it said.
    pub fn up(user: &User, topology: Option<&Path>) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("e2e-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name, user: user.clone() };
        let mut arguments = vec!["up"];
        arguments.extend(topology.and_then(Path::to_str));
        // Also a lab that came up halfway is taken down: `lab` is dropped on the way out.
        lab.must(&arguments)?;
        Ok(lab)
    }

    /// The name it goes by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `vpc-lab <arguments> --lab <this>`; for `exec`, the command comes after `--` as on the command line.
    ///
    /// # Errors
    /// When the program can not be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let (options, command) =
            arguments.split_at(arguments.iter().position(|a| *a == "--").unwrap_or(arguments.len()));
        let mut all = options.to_vec();
        all.extend(["--lab", self.name.as_str()]);
        all.extend(command);
        self.user.vpc_lab(&all).output().with_context(|| format!("cannot run vpc-lab {arguments:?}"))
    }

    /// Runs it; anything but success is an error with all it said. Gives its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub fn must(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "vpc-lab {arguments:?}: {}\n{out}{err}", output.status);
        Ok(out.into_owned())
    }

    /// Runs it and reads its answer as JSON.
    ///
    /// # Errors
    /// When it fails, or answers something else.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let out = self.must(arguments)?;
        serde_json::from_str(&out).with_context(|| format!("vpc-lab {arguments:?} did not answer in JSON: {out}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A lab that is not there any more is what is wanted.
        let _ = self.run(&["down"]);
    }
}
