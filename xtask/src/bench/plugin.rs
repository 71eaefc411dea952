//! `cargo xtask bench plugin`: what ADD and DEL cost, beside the bare kernel, beside the CNI project's `ptp` with `host-local`, and beside
//! any other plugin: all in one run, in turns.
//!
//! The plugins speak to a daemon that answers from memory (`tests/bench`), each on a host of its own; then ours to the real daemon, with
//! its checkpoint, on a node of the lab. Nothing fails here: what could not be taken says why, and the exit code is 0.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::bench_lab::Lab;
use super::plugin_table::{Column, table};
use crate::{dist, shell};

/// How much to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Pods that come one after the other
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// Rounds of 30 pods that come at once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long ADDs and DELs without a pause are counted
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Pods on the node when ADD is measured on a full one; 0: not measured
    #[arg(long, default_value_t = 735)]
    most_pods: usize,
    /// Another plugin to put beside ours, with the configuration the reference's list gives its own; may be given more than once
    #[arg(long, value_name = "NAME=PATH", value_parser = other)]
    plugin: Vec<(String, PathBuf)>,
    /// Leave the real daemon out: it needs the lab, whose build takes minutes
    #[arg(long)]
    stub_only: bool,
}

fn other(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && Path::new(path).is_file() => {
            fs::canonicalize(path).map(|path| (name.to_owned(), path)).map_err(|error| format!("{path}: {error}"))
        }
        Some((_, path)) => Err(format!("`{path}` is no file: expected NAME=PATH of a program")),
        None => Err("expected NAME=PATH".to_owned()),
    }
}

/// How many pods come at once.
const AT_ONCE: usize = 30;
/// Names of the columns.
pub(super) const OURS: &str = "aws-cni";
pub(super) const BARE: &str = "bare kernel";
pub(super) const PTP: &str = "ptp+host-local";
/// Plugins that take hundredths of a second are measured less often.
const SLOW: usize = 4;

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let programs = Programs::build()?;
    println!("\nWith a daemon that answers from memory\n");
    match programs.beside_others(options) {
        Ok(measured) => print(&measured, &programs.ours),
        Err(why) => println!("not measured: {why:#}"),
    }
    if !options.stub_only {
        println!("\nWith the real daemon and its checkpoint\n");
        match programs.with_the_daemon(options) {
            Ok(measured) => print(&measured, &programs.ours),
            Err(why) => println!("not measured: {why:#}"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(measured: &Value, ours: &Path) {
    let columns: Vec<Column> = [OURS, BARE, PTP]
        .into_iter()
        .map(str::to_owned)
        .chain(others(measured))
        .filter_map(|name| Some(Column { figures: figures(&measured["figures"][&name])?, name }))
        .collect();
    let size = fs::metadata(ours).map_or(f64::NAN, |metadata| metadata.len() as f64);
    print!("{}", table(&columns, size));
    for trouble in measured["trouble"].as_array().into_iter().flatten() {
        println!("not measured: {}", trouble.as_str().unwrap_or_default());
    }
}

fn others(measured: &Value) -> Vec<String> {
    let names = measured["figures"].as_object().into_iter().flat_map(|all| all.keys().cloned());
    names.filter(|name| ![OURS, BARE, PTP].contains(&name.as_str())).collect()
}

/// Lists of numbers by name.
fn figures(of: &Value) -> Option<BTreeMap<String, Vec<f64>>> {
    let lists = of.as_object()?.iter();
    Some(
        lists
            .map(|(name, list)| {
                (name.clone(), list.as_array().into_iter().flatten().filter_map(Value::as_f64).collect())
            })
            .collect(),
    )
}

/// What takes part.
struct Programs {
    /// The plugin as it is shipped.
    ours: PathBuf,
    /// An empty program, compiled as the plugin is.
    nothing: PathBuf,
    /// What measures.
    bench: PathBuf,
}

impl Programs {
    fn build() -> Result<Self> {
        shell::must(&mut shell::cargo(["build", "--release", "--locked", "-p", "plugin-bench"]))?;
        let target = shell::target()?;
        let ours = dist::plugin()?;
        let nothing = target.join("dist/nothing");
        let mut compile = Command::new("rustc");
        compile.args(["--edition", "2024", "--target", &dist::triple()?, "-C", "opt-level=3", "-C", "panic=abort"]);
        compile.args(["-C", "lto=fat", "-C", "strip=symbols", "-o"]).arg(&nothing).arg("tests/bench/nothing.rs");
        shell::must(compile.current_dir(shell::root()))?;
        Ok(Self { ours, nothing, bench: target.join("release/plugin-bench") })
    }

    fn contestants(&self, options: &Options, ptp: Option<&Path>) -> Vec<Value> {
        let plugin =
            |name: &str, program: &Path| json!({ "name": name, "program": program, "config": ours(), "grows": true });
        let mut all = vec![
            json!({ "name": BARE, "program": self.nothing, "config": null, "grows": true }),
            plugin(OURS, &self.ours),
        ];
        all.extend(options.plugin.iter().map(|(name, program)| plugin(name, program)));
        all.extend(ptp.map(|program| json!({ "name": PTP, "program": program, "config": pointed(), "grows": false })));
        all
    }

    /// All contestants, each on a host of its own.
    fn beside_others(&self, options: &Options) -> Result<Value> {
        let strangers = match strangers() {
            Ok(folder) => Some(folder.join("ptp")),
            Err(why) => {
                println!("without {PTP}: {why:#}");
                None
            }
        };
        let mut measured = self.measure(&plan(options, self.contestants(options, None), false, options.pods))?;
        // In turns with ours once more, because it takes so much longer.
        if let Some(ptp) = strangers {
            let mut contestants = self.contestants(options, Some(&ptp));
            contestants.retain(|one| one["name"] == PTP || one["name"] == OURS);
            let few = Options { most_pods: 0, seconds: options.seconds / 2.0, plugin: Vec::new(), ..*options };
            let beside = self.measure(&plan(&few, contestants, false, options.pods.div_ceil(SLOW)))?;
            measured["figures"][PTP] = beside["figures"][PTP].clone();
            measured["figures"][PTP]["add_beside"] = beside["figures"][OURS]["add"].clone();
        }
        Ok(measured)
    }

    fn measure(&self, plan: &Value) -> Result<Value> {
        let output =
            Command::new(&self.bench).arg("measure").arg(plan.to_string()).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "plugin-bench: {}", output.status);
        serde_json::from_slice(&output.stdout).context("plugin-bench printed no JSON")
    }

    /// Ours and the bare kernel on a node of the lab that holds more than a thousand addresses.
    fn with_the_daemon(&self, options: &Options) -> Result<Value> {
        let folder = super::programs()?;
        for (program, name) in [(&self.ours, "aws-cni"), (&self.nothing, "nothing"), (&self.bench, "node-probe")] {
            // The lab's node has one program of the bench's in it, by the name of the other one.
            let _ = fs::remove_file(folder.join(name));
            fs::copy(program, folder.join(name)).with_context(|| format!("cannot copy {}", program.display()))?;
        }
        let env = r#"{ ENABLE_PREFIX_DELEGATION = "true", WARM_PREFIX_TARGET = "1", MINIMUM_IP_TARGET = "1024", WARM_IP_TARGET = "64", IP_COOLDOWN_PERIOD = "0" }"#;
        let head = "profile = \"instant\"\n[node_defaults]\nmax_pods = 1100\nfiles = [{ path = \"/app/nothing\", source = \"nothing\" }]";
        let lab = Lab::with(&folder, head, "m5.24xlarge", env, None)?;
        lab.ec2_calls_at_rest()?;
        let contestants = vec![
            json!({ "name": BARE, "program": "/app/nothing", "config": null, "grows": true }),
            json!({ "name": OURS, "program": "/opt/cni/bin/aws-cni", "config": ours(), "grows": true }),
        ];
        lab.probe(&["measure", &plan(options, contestants, true, options.pods).to_string()])
    }
}

fn plan(options: &Options, contestants: Vec<Value>, daemon_is_here: bool, pods: usize) -> Value {
    json!({
        "contestants": contestants, "daemon_is_here": daemon_is_here, "pods": pods, "at_once": AT_ONCE,
        "rounds": options.rounds, "seconds": options.seconds, "most_pods": options.most_pods,
    })
}

/// The configuration the reference's list gives its plugin, with the log where it can be written.
fn ours() -> Value {
    json!({
        "cniVersion": "0.4.0", "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001",
        "podSGEnforcingMode": "strict", "pluginLogFile": "/run/plugin.log", "pluginLogLevel": "INFO",
    })
}

/// `ptp` as its documentation shows it: addresses from a file, masquerading.
fn pointed() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "pointed", "type": "ptp", "ipMasq": true,
        "ipam": {
            "type": "host-local", "dataDir": "/run/cni-networks", "ranges": [[{ "subnet": "10.99.0.0/16" }]],
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
    })
}

/// The CNI project's plugins, built from the Go module that pins them.
fn strangers() -> Result<PathBuf> {
    if !shell::answers("go", &["version"]) {
        bail!("`go` is not installed");
    }
    if !shell::answers("iptables", &["--version"]) && !shell::answers("nft", &["--version"]) {
        bail!("neither `iptables` nor `nft` is installed, and it masquerades with one of them");
    }
    let folder = shell::target()?.join("strangers/cni");
    fs::create_dir_all(&folder)?;
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&folder).arg("tool");
    shell::must(build.current_dir(shell::root().join("tests/strangers/cni")).env("CGO_ENABLED", "0"))?;
    Ok(folder)
}
