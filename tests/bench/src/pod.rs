//! One pod's way: a namespace made before, ADD, DEL, and the end of its link.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vpc_linux::Netns;

use crate::bare;
use crate::plan::Contestant;
use crate::run::{self, Took};

/// Where runtimes keep the namespaces of pods.
const NAMESPACES: &str = "/run/netns";
/// A link that is still there after this long will not go.
const GONE_AT_MOST: Duration = Duration::from_secs(20);
/// How often is looked whether links have gone.
const LOOK_EVERY: Duration = Duration::from_micros(250);

/// A pod before its ADD, or after.
pub(crate) struct Pod {
    name: String,
    container: String,
    path: String,
    /// ADD's result.
    result: Value,
    /// The host's end.
    pub(crate) link: String,
    /// For the bare kernel: what it was wired with.
    bare: Option<bare::Wired>,
}

impl Pod {
    /// A sandbox: its namespace is there.
    pub(crate) fn sandbox() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // As runtimes name them: lengths matter to what is sent.
        let path = format!("{NAMESPACES}/cni-{number:08x}-5d1c-4f0e-9a57-0242ac110002");
        std::fs::create_dir_all(NAMESPACES)?;
        Netns::create()?.bind_to(&path)?;
        let scattered = u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let container = format!("{scattered:016x}").repeat(4);
        let name = format!("bench-{number}-5d78c9869d-x7k2p");
        Ok(Self { name, container, path, result: Value::Null, link: String::new(), bare: None })
    }

    /// From the start of the plugin's process to its end.
    pub(crate) fn add(&mut self, by: &Contestant) -> Result<Took> {
        let Some(config) = &by.config else {
            let (took, wired) = bare::add(&by.program, &self.path)?;
            self.link = wired.link.to_string();
            self.bare = Some(wired);
            return Ok(took);
        };
        let (took, out) = run::run(&mut self.command(by, "ADD"), config.to_string().as_bytes())?;
        self.result = serde_json::from_slice(&out).context("the result is not JSON")?;
        let interfaces = self.result["interfaces"].as_array().context("the result has no interfaces")?;
        // The one that is in no sandbox is the host's.
        let host = interfaces.iter().find(|one| one["sandbox"].as_str().is_none_or(str::is_empty));
        self.link = host.and_then(|one| one["name"].as_str()).context("the result names no host link")?.to_owned();
        Ok(took)
    }

    /// The same for DEL, with ADD's result as runtimes hand it on.
    pub(crate) fn del(&self, by: &Contestant) -> Result<Took> {
        let Some(config) = &by.config else {
            let wired = self.bare.as_ref().context("the pod is not wired")?;
            return bare::del(&by.program, wired);
        };
        let mut config = config.clone();
        config["prevResult"] = self.result.clone();
        run::run(&mut self.command(by, "DEL"), config.to_string().as_bytes()).map(|(took, _)| took)
    }

    /// The runtime drops the namespace; its link goes with it, some time later.
    pub(crate) fn drop_namespace(&self) -> Result<()> {
        Ok(Netns::unbind(&self.path)?)
    }

    /// The most memory an ADD has resident, in bytes. The pod is wired afterwards, and its result is lost.
    pub(crate) fn peak_memory_of_add(&self, by: &Contestant) -> Result<u64> {
        let config = by.config.as_ref().context("no plugin")?;
        run::peak_memory(&mut self.command(by, "ADD"), config.to_string().as_bytes())
    }

    /// The plugin's command, with the environment a runtime gives.
    pub(crate) fn command(&self, by: &Contestant, verb: &str) -> Command {
        let folder = by.program.parent().unwrap_or(Path::new("/opt/cni/bin"));
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            self.name, self.container, "6a5c2b1e-0d0a-4f3b-8f6e-0242ac110002"
        );
        let mut command = Command::new(&by.program);
        command.env_clear().envs([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &self.container),
            ("CNI_NETNS", &self.path),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", &arguments),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ]);
        command.env("CNI_PATH", folder);
        command
    }
}

/// When each of these links was first seen to be gone. One thread looks for all of them; more would only be in the way.
pub(crate) fn gone_at(links: Vec<String>, told: &mpsc::Sender<(String, Instant)>) -> Result<()> {
    let mut waiting: BTreeMap<String, ()> = links.into_iter().map(|link| (link, ())).collect();
    let end = Instant::now() + GONE_AT_MOST;
    while !waiting.is_empty() {
        ensure!(Instant::now() < end, "{} links do not go", waiting.len());
        waiting.retain(|link, ()| {
            let there = nix::net::if_::if_nametoindex(link.as_str()).is_ok();
            if !there {
                // Whoever no longer listens does not need it.
                let _ = told.send((link.clone(), Instant::now()));
            }
            there
        });
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
