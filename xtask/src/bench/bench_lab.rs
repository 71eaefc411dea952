//! A lab for a measurement: one node, with the probe in it; gone when the measurement is.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const PROBE: &str = "/app/node-probe";

pub(crate) struct Lab {
    name: String,
    vpc_lab: PathBuf,
}

impl Lab {
    /// One node of that instance type. `daemon` is its command as TOML, if not the usual one.
    pub(crate) fn up(
        programs: &Path,
        profile: &str,
        instance_type: &str,
        env: &str,
        daemon: Option<&str>,
    ) -> Result<Self> {
        Self::with(programs, &format!("profile = \"{profile}\""), instance_type, env, daemon)
    }

    /// The same with more lines at the head of the topology than the profile.
    pub(crate) fn with(
        programs: &Path,
        head: &str,
        instance_type: &str,
        env: &str,
        daemon: Option<&str>,
    ) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("bench-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let daemon = daemon.map_or(String::new(), |command| format!("daemon = {{ command = {command} }}\n"));
        let topology = format!(
            r#"{head}
[vpc]
cidrs = ["10.20.0.0/16"]
[[subnets]]
name = "private-a"
zone = "ap-northeast-2a"
cidr = "10.20.0.0/18"
[[nodes]]
name = "node-a"
subnet = "private-a"
instance_type = "{instance_type}"
env = {env}
{daemon}files = [{{ path = "{PROBE}", source = "node-probe" }}]
"#
        );
        // Host paths in a topology start from its own folder, where the probe is.
        let file = programs.join(format!("{name}.toml"));
        std::fs::write(&file, topology)?;
        let lab = Self { name, vpc_lab: programs.join("vpc-lab") };
        let up = lab.must(&["up", &file.to_string_lossy()]);
        let _ = std::fs::remove_file(&file);
        up.map(|_| lab)
    }

    /// Runs the probe in the node and gives its answer.
    pub(crate) fn probe(&self, arguments: &[&str]) -> Result<Value> {
        let said = self.must(&[["exec", "node-a", "--", PROBE].as_slice(), arguments].concat())?;
        serde_json::from_str(&said).with_context(|| format!("the probe did not answer in JSON: {said}"))
    }

    /// Milliseconds from `daemon start` to the conflist.
    pub(crate) fn daemon_start_ms(&self) -> Result<f64> {
        self.must(&["daemon", "stop", "node-a"])?;
        let mut probe = self.command(&["exec", "node-a", "--", PROBE, "conflist"]).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(probe.stdout.take().context("the probe has no output")?).lines();
        let mut next =
            || -> Result<Value> { Ok(serde_json::from_str(&lines.next().context("the probe ended early")??)?) };
        ensure!(next()?["removed"] == true, "the probe did not remove the conflist");
        let begin_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64() * 1e3;
        self.must(&["daemon", "start", "node-a"])?;
        let written_ms = next()?["written_ms"].as_f64().context("the probe gave no time")?;
        probe.wait()?;
        Ok(written_ms - begin_ms)
    }

    /// What the node's daemon has asked of EC2 so far: the actions, in order.
    pub(crate) fn ec2_calls(&self) -> Result<Vec<String>> {
        let calls: Vec<Value> = serde_json::from_str(&self.must(&["calls", "--json", "--node", "node-a"])?)?;
        let ec2 = calls.iter().filter(|call| call["service"] == "ec2");
        Ok(ec2.filter_map(|call| call["action"].as_str().map(str::to_owned)).collect())
    }

    /// The same, once nothing more has been asked for two seconds.
    pub(crate) fn ec2_calls_at_rest(&self) -> Result<Vec<String>> {
        let mut before = None;
        loop {
            let calls = self.ec2_calls()?;
            if before == Some(calls.len()) {
                return Ok(calls);
            }
            before = Some(calls.len());
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    /// Runs a command of the lab; anything but success is an error with all it said.
    pub(crate) fn must(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("cannot run vpc-lab")?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "vpc-lab {}: {}{out}{err}", arguments.join(" "), output.status);
        Ok(out.into_owned())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (options, rest) = arguments.split_at(arguments.iter().position(|a| *a == "--").unwrap_or(arguments.len()));
        let mut command = Command::new(&self.vpc_lab);
        command.args(options).args(["--lab", &self.name]).args(rest).stdin(Stdio::null());
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}
