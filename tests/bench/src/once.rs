//! A few ADDs and DELs with the plugin run by another program, which watches it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::node::{self, Stub};
use crate::plan::Contestant;
use crate::pod::Pod;
use crate::run;

/// ADD and DEL of `rounds` pods. The wrapper gets the plugin as its last argument; `{verb}` and `{round}` in its arguments are replaced.
pub(crate) fn run(rounds: usize, plugin: &str, wrapper: &[&str]) -> Result<()> {
    node::leave()?;
    let _stub = Stub::start()?;
    let by =
        Contestant { name: "once".into(), program: plugin.into(), config: Some(crate::once::config()), grows: false };
    node::host()?.enter(|| (0..rounds).try_for_each(|round| pod(&by, round, wrapper)))?
}

/// The configuration the reference's list gives its plugin, with the log where it can be written.
pub(crate) fn config() -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0", "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001",
        "podSGEnforcingMode": "strict", "pluginLogFile": "/run/plugin.log", "pluginLogLevel": "INFO",
    })
}

fn pod(by: &Contestant, round: usize, wrapper: &[&str]) -> Result<()> {
    let pod = Pod::sandbox()?;
    let mut config = config();
    for verb in ["ADD", "DEL"] {
        let plain = pod.command(by, verb);
        let mut command = match wrapper {
            [] => plain,
            [program, arguments @ ..] => {
                let mut watched = Command::new(program);
                let replaced = |text: &&str| text.replace("{verb}", verb).replace("{round}", &round.to_string());
                watched.args(arguments.iter().map(replaced)).arg(plain.get_program()).env_clear();
                watched.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
                watched
            }
        };
        let (_, out) = run::run(&mut command, config.to_string().as_bytes()).with_context(|| verb.to_owned())?;
        if verb == "ADD" {
            config["prevResult"] = serde_json::from_slice(&out).context("the result is not JSON")?;
            ensure!(config["prevResult"]["ips"].is_array(), "the result has no address");
        }
    }
    pod.drop_namespace()
}
