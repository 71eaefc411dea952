//! One call of a plugin chain, as containerd makes it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::PodName;
use super::conflist::{ConfigError, NetworkList, first_config};
use crate::sys::process::{PATH, Program};
use crate::sys::spaces::Spaces;

/// Where plugins are in a node.
const PLUGIN_DIR: &str = "/opt/cni/bin";
/// Where their configuration is.
const CONFIG_DIR: &str = "/etc/cni/net.d";
/// The pod's interface.
const INTERFACE: &str = "eth0";
/// After this a plugin is killed: kubelet gives the runtime two minutes for a sandbox.
const PATIENCE: Duration = Duration::from_secs(120);

/// A sandbox as plugins are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// `CNI_CONTAINERID`: 64 hexadecimal digits.
    pub container: String,
    /// `CNI_NETNS`: a path in the node; empty when the namespace is gone.
    pub netns: String,
    /// `K8S_POD_UID`.
    pub uid: String,
    /// The pod.
    pub pod: PodName,
    /// The pod's annotations, for plugins that declare the capability.
    pub annotations: BTreeMap<String, String>,
}

/// Why a call of a plugin failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallError {
    /// There is no usable configuration.
    #[error("{0}")]
    Config(String),
    /// The plugin answered with a CNI error.
    #[error("plugin {plugin} {verb}: CNI error {code}: {message}{}", if details.is_empty() { String::new() } else { format!(" ({details})") })]
    Refused {
        /// Plugin.
        plugin: String,
        /// `ADD` or `DEL`.
        verb: String,
        /// CNI error code (11: trying again may help).
        code: u64,
        /// `msg`.
        message: String,
        /// `details`; may be empty.
        details: String,
    },
    /// The plugin could not be run, or ended without a proper answer.
    #[error("plugin {plugin} {verb}: {problem}")]
    Broken {
        /// Plugin.
        plugin: String,
        /// `ADD` or `DEL`.
        verb: String,
        /// What happened.
        problem: String,
    },
}

/// The network configuration of a node.
///
/// # Errors
/// [`ConfigError`].
pub(super) fn configuration(node: &str, inside: &Spaces) -> Result<NetworkList, ConfigError> {
    let found = inside.run(|| first_config(Path::new(CONFIG_DIR))).ok().flatten();
    let (file, text) = found.ok_or_else(|| ConfigError::None { node: node.to_owned() })?;
    NetworkList::parse(&file, &text)
}

/// ADD through the whole chain; the last plugin's result.
///
/// # Errors
/// [`CallError`] of the first plugin that failed.
pub(super) fn add(
    list: &NetworkList,
    inside: &Spaces,
    sandbox: &Sandbox,
    env: &BTreeMap<String, String>,
) -> Result<Value, CallError> {
    let mut result: Option<Value> = None;
    for plugin in &list.plugins {
        let stdin = list.stdin(plugin, &capabilities(sandbox), result.as_ref());
        let output = call("ADD", &plugin.binary, &stdin, inside, sandbox, env)?;
        let parsed: Value = serde_json::from_slice(&output).map_err(|e| CallError::Broken {
            plugin: plugin.binary.clone(),
            verb: "ADD".to_owned(),
            problem: format!("its result is not JSON ({e}): {}", excerpt(&output)),
        })?;
        result = Some(parsed);
    }
    Ok(result.unwrap_or(Value::Null))
}

/// DEL through the whole chain, last plugin first.
///
/// # Errors
/// [`CallError`] of the first plugin that failed; those before it in the list are not called then, as containerd does.
pub(super) fn del(
    list: &NetworkList,
    inside: &Spaces,
    sandbox: &Sandbox,
    cached: Option<&Value>,
    env: &BTreeMap<String, String>,
) -> Result<(), CallError> {
    let cached = cached.filter(|_| list.del_has_result());
    for plugin in list.plugins.iter().rev() {
        let stdin = list.stdin(plugin, &capabilities(sandbox), cached);
        call("DEL", &plugin.binary, &stdin, inside, sandbox, env)?;
    }
    Ok(())
}

/// What the runtime could tell plugins that ask.
fn capabilities(sandbox: &Sandbox) -> Map<String, Value> {
    let mut values = Map::new();
    values.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(sandbox.annotations));
    values.insert("portMappings".to_owned(), json!([]));
    values
}

fn call(
    verb: &str,
    plugin: &str,
    stdin: &str,
    inside: &Spaces,
    sandbox: &Sandbox,
    env: &BTreeMap<String, String>,
) -> Result<Vec<u8>, CallError> {
    let broken = |problem: String| CallError::Broken { plugin: plugin.to_owned(), verb: verb.to_owned(), problem };
    let arguments = [
        ("K8S_POD_NAMESPACE", sandbox.pod.namespace.as_str()),
        ("K8S_POD_NAME", &sandbox.pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &sandbox.container),
        ("K8S_POD_UID", &sandbox.uid),
        ("IgnoreUnknown", "1"),
    ];
    let arguments = arguments.map(|(key, value)| format!("{key}={value}")).join(";");
    let mut env = env.clone();
    let own = [
        ("PATH", PATH),
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", &sandbox.container),
        ("CNI_NETNS", &sandbox.netns),
        ("CNI_IFNAME", INTERFACE),
        ("CNI_PATH", PLUGIN_DIR),
        ("CNI_ARGS", &arguments),
    ];
    env.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let program = Program { command: vec![format!("{PLUGIN_DIR}/{plugin}")], env, cwd: None, ..Program::default() };
    let finished =
        program.run(inside, stdin.as_bytes(), PATIENCE).map_err(|e| broken(format!("{PLUGIN_DIR}/{plugin}: {e}")))?;
    answer_of(plugin, verb, finished.status, finished.stdout, &finished.stderr)
}

/// What a plugin that ended has answered: its result, the error it reports, or nothing to rely on. A plugin that is killed after it wrote
/// its result has not succeeded, and has not reported an error either.
fn answer_of(
    plugin: &str,
    verb: &str,
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: &[u8],
) -> Result<Vec<u8>, CallError> {
    if status.success() {
        return Ok(stdout);
    }
    let (plugin, verb) = (plugin.to_owned(), verb.to_owned());
    let reported = serde_json::from_slice::<Value>(&stdout).ok();
    let code = reported.as_ref().and_then(|answer| answer.get("code")).and_then(Value::as_u64);
    let (Some(answer), Some(code)) = (reported, code) else {
        let said = if stderr.is_empty() { &stdout } else { stderr };
        return Err(CallError::Broken {
            plugin,
            verb,
            problem: format!("{status} without a CNI error: {}", excerpt(said)),
        });
    };
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Err(CallError::Refused { plugin, verb, code, message: text("msg"), details: text("details") })
}

/// The end of what a program said: that is where the reason stands.
fn excerpt(bytes: &[u8]) -> String {
    const MOST: usize = 2000;
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    if text.is_empty() {
        return "it said nothing".to_owned();
    }
    let start = text.len().saturating_sub(MOST);
    let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(start..).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const KILLED: i32 = 9;
    const FAILED: i32 = 1 << 8;

    fn said(status: i32, stdout: &str) -> Result<Vec<u8>, CallError> {
        answer_of("aws-cni", "ADD", ExitStatus::from_raw(status), stdout.as_bytes().to_vec(), b"")
    }

    #[test]
    fn a_plugin_killed_after_its_result_is_broken_and_reports_no_error() {
        for stdout in [r#"{"cniVersion":"1.0.0","ips":[]}"#, "", "[]", r#"{"code":"11"}"#] {
            match said(KILLED, stdout) {
                Err(CallError::Broken { problem, .. }) => assert!(problem.contains("signal: 9"), "{problem}"),
                other => panic!("{stdout}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_result_is_handed_on_and_an_error_is_read() {
        assert_eq!(said(0, "{}").unwrap(), b"{}");
        let error = said(FAILED, r#"{"code":11,"msg":"later","details":"no address"}"#).unwrap_err();
        assert_eq!(error.to_string(), "plugin aws-cni ADD: CNI error 11: later (no address)");
    }
}
