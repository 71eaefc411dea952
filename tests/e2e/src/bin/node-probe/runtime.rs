//! Pods that come and go, called for as a container runtime does: a namespace, the plugin with environment and stdin, the cached
//! result back to it on the way out.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vpc_linux::Netns;

/// Where the daemon writes it, as the runtime sees it.
pub(crate) const CONFLIST: &str = "/etc/cni/net.d/10-aws.conflist";
const PLUGIN: &str = "/opt/cni/bin/aws-cni";
/// A link that is still there after this long will not go.
const GONE_AT_MOST: Duration = Duration::from_secs(10);

/// One pod's way through the plugin.
struct Pod {
    name: String,
    netns: String,
    container: String,
    result: Value,
}

/// `rounds` times: `at_once` pods come at the same moment, then all of them go at the same moment.
pub(crate) fn pods(at_once: usize, rounds: usize) -> Result<()> {
    std::fs::create_dir_all("/run/netns")?;
    let config = config()?;
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let sandboxes =
            (0..at_once).map(|n| Pod::sandbox(&format!("probe-{round}-{n}"))).collect::<Result<Vec<_>>>()?;
        let came = together(sandboxes, |pod| pod.add(&config))?;
        adds.extend(came.iter().map(|(took, _)| took * 1e3));
        let went =
            together(came.into_iter().map(|(_, pod)| pod).collect(), |pod| pod.del(&config).map(|took| (took, ())))?;
        dels.extend(went.iter().map(|(took, ())| took * 1e3));
    }
    println!("{}", json!({ "add_ms": adds, "del_gone_ms": dels }));
    Ok(())
}

/// Runs the work for each at the same moment, each on a thread of its own; gives results in order.
pub(crate) fn together<P: Send, R: Send>(pods: Vec<P>, work: impl Fn(P) -> Result<R> + Sync) -> Result<Vec<R>> {
    let start = std::sync::Barrier::new(pods.len());
    std::thread::scope(|scope| {
        let (start, work) = (&start, &work);
        let begin = |pod| {
            scope.spawn(move || {
                start.wait();
                work(pod)
            })
        };
        let threads: Vec<_> = pods.into_iter().map(begin).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a pod's thread panicked"))?)
            .collect()
    })
}

/// The plugin's own configuration, cut out of the list as a runtime does.
fn config() -> Result<Value> {
    let text = std::fs::read_to_string(CONFLIST).with_context(|| format!("cannot read {CONFLIST}"))?;
    let list: Value = serde_json::from_str(&text)?;
    let mut config = list["plugins"][0].clone();
    config["name"] = list["name"].clone();
    config["cniVersion"] = list["cniVersion"].clone();
    Ok(config)
}

impl Pod {
    fn sandbox(name: &str) -> Result<Self> {
        let netns = format!("/run/netns/{name}");
        Netns::create()?.bind_to(Path::new(&netns))?;
        // A container id is 64 hexadecimal digits.
        let container: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { name: name.to_owned(), netns, container: format!("{container:0<64}"), result: Value::Null })
    }

    /// Seconds from the plugin's start to its end.
    fn add(mut self, config: &Value) -> Result<(f64, Self)> {
        let begin = Instant::now();
        let out = self.plugin("ADD", config)?;
        let took = begin.elapsed().as_secs_f64();
        self.result = serde_json::from_slice(&out)?;
        Ok((took, self))
    }

    /// Seconds from the plugin's start until the host's link is gone. The runtime drops the namespace as soon as the plugin is done.
    fn del(self, config: &Value) -> Result<f64> {
        let link =
            self.result["interfaces"][0]["name"].as_str().context("the ADD's result names no interface")?.to_owned();
        ensure!(exists(&link), "{}: there is no link {link} on the host", self.name);
        let mut config = config.clone();
        config["prevResult"] = self.result.clone();
        let begin = Instant::now();
        self.plugin("DEL", &config)?;
        Netns::unbind(&self.netns)?;
        until_gone(&link).with_context(|| self.name.clone())?;
        Ok(begin.elapsed().as_secs_f64())
    }

    fn plugin(&self, command: &str, config: &Value) -> Result<Vec<u8>> {
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=probe;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={}",
            self.name, self.container
        );
        let mut child = Command::new(PLUGIN)
            .env_clear()
            .envs([
                ("CNI_COMMAND", command),
                ("CNI_CONTAINERID", &self.container),
                ("CNI_NETNS", &self.netns),
                ("CNI_IFNAME", "eth0"),
            ])
            .envs([("CNI_PATH", "/opt/cni/bin"), ("CNI_ARGS", &arguments), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {PLUGIN}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&serde_json::to_vec(config)?)?;
        }
        let output = child.wait_with_output()?;
        let said = || String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{command} of {} failed: {}", self.name, said());
        Ok(output.stdout)
    }
}

/// Waits until the host has no link of that name.
pub(crate) fn until_gone(link: &str) -> Result<()> {
    let begin = Instant::now();
    while exists(link) {
        ensure!(begin.elapsed() < GONE_AT_MOST, "link {link} does not go");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

fn exists(link: &str) -> bool {
    nix::net::if_::if_nametoindex(link).is_ok()
}
