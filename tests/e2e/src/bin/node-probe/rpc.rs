//! The daemon alone, asked as the plugin asks it, over one connection that stays open: what an AddNetwork takes, and what the
//! daemon's memory comes to.
//!
//! The control is another call on the same connection to the same process, of which the agent knows nothing: what gRPC and the
//! machine take.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use vpc_wire::rpc::pb::cni_backend_client::CniBackendClient;
use vpc_wire::rpc::pb::config_server_backend_client::ConfigServerBackendClient;
use vpc_wire::rpc::pb::{AddNetworkRequest, DelNetworkRequest};
use vpc_wire::rpc::{CLIENT_VERSION, DAEMON_SOCKET};

/// Names of what a plugin would send.
const NETWORK: &str = "aws-cni";
const INTERFACE: &str = "eth0";
/// The daemon's name, as the kernel knows it.
const DAEMON: &str = "aws-k8s-agent";
/// Pods that come again in each round.
const LAST: usize = 50;
/// With no cool-down, an address is free once the kernel has forgotten its connections.
const FREE_AGAIN: Duration = Duration::from_millis(500);
/// How long freed memory may take to be seen.
const PAUSE: Duration = Duration::from_millis(500);

/// Fills the node up to `pods`, then takes the last [`LAST`] away and asks for them again, one by one, `rounds` times; then all of
/// them go. Times of each call in microseconds, memory in bytes.
pub(crate) fn measure(pods: usize, rounds: usize) -> Result<()> {
    block_on(async {
        let mut daemon = Daemon::connect().await?;
        let start = memory()?;
        let fill = Instant::now();
        for n in 0..pods {
            daemon.add(n).await?;
        }
        let fill_ms = fill.elapsed().as_secs_f64() * 1e3;
        let (mut add, mut del, mut control) = (Vec::new(), Vec::new(), Vec::new());
        let last = pods.saturating_sub(LAST)..pods;
        for _ in 0..rounds {
            for n in last.clone() {
                del.push(timed(daemon.del(n)).await?);
            }
            tokio::time::sleep(FREE_AGAIN).await;
            for n in last.clone() {
                add.push(timed(daemon.add(n)).await?);
                control.push(timed(daemon.nothing()).await?);
            }
        }
        tokio::time::sleep(PAUSE).await;
        let full = memory()?;
        for n in 0..pods {
            daemon.del(n).await?;
        }
        tokio::time::sleep(PAUSE).await;
        let memory = json!({ "start": start, "full": full, "after": memory()? });
        let times = json!({ "add_us": add, "del_us": del, "control_us": control });
        println!("{}", json!({ "pods": pods, "fill_ms": fill_ms, "times": times, "memory": memory }));
        Ok(())
    })
}

/// ADDs of `pods` pods, the first of which has the number `first`, at the same moment over one connection each, as so many plugins make them; milliseconds of each, and what failed.
/// `keep` leaves them there.
pub(crate) fn burst(first: usize, pods: usize, keep: bool) -> Result<()> {
    block_on(async {
        let mut daemons = Vec::new();
        for _ in 0..pods {
            daemons.push(Daemon::connect().await?);
        }
        let begin = Instant::now();
        let mut asked = tokio::task::JoinSet::new();
        for (n, mut daemon) in daemons.into_iter().enumerate() {
            asked.spawn(async move {
                let answer = daemon.add(first + n).await;
                (begin.elapsed().as_secs_f64() * 1e3, answer.map_err(|error| format!("{error:#}")))
            });
        }
        let (mut add_ms, mut failed) = (Vec::new(), Vec::new());
        for (took, answer) in asked.join_all().await {
            match answer {
                Ok(()) => add_ms.push(took),
                Err(error) => failed.push(error),
            }
        }
        if !keep {
            let mut daemon = Daemon::connect().await?;
            for n in first..first + pods {
                daemon.del(n).await?;
            }
        }
        println!("{}", json!({ "add_ms": add_ms, "failed": failed, "memory": memory()? }));
        Ok(())
    })
}

/// The daemon's memory now.
pub(crate) fn print_memory() -> Result<()> {
    println!("{}", memory()?);
    Ok(())
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Microseconds.
async fn timed(call: impl Future<Output = Result<()>>) -> Result<f64> {
    let begin = Instant::now();
    call.await?;
    Ok(begin.elapsed().as_secs_f64() * 1e6)
}

struct Daemon {
    pods: CniBackendClient<Channel>,
    configs: ConfigServerBackendClient<Channel>,
}

impl Daemon {
    async fn connect() -> Result<Self> {
        let channel = Endpoint::try_from(format!("unix://{DAEMON_SOCKET}"))?.connect().await?;
        Ok(Self { pods: CniBackendClient::new(channel.clone()), configs: ConfigServerBackendClient::new(channel) })
    }

    async fn add(&mut self, n: usize) -> Result<()> {
        let request = AddNetworkRequest {
            client_version: CLIENT_VERSION.to_owned(),
            k8s_pod_name: format!("probe-{n}-5d78c9869d-x7k2p"),
            k8s_pod_namespace: "default".to_owned(),
            k8s_pod_infra_container_id: container(n),
            container_id: container(n),
            if_name: INTERFACE.to_owned(),
            network_name: NETWORK.to_owned(),
            netns: format!("/var/run/netns/cni-{n:08}-0000-0000-0000-000000000000"),
            ..AddNetworkRequest::default()
        };
        let reply = self.pods.add_network(request).await.with_context(|| format!("ADD of pod {n}"))?;
        ensure!(reply.into_inner().success, "ADD of pod {n} did not succeed");
        Ok(())
    }

    async fn del(&mut self, n: usize) -> Result<()> {
        let request = DelNetworkRequest {
            client_version: CLIENT_VERSION.to_owned(),
            k8s_pod_name: format!("probe-{n}-5d78c9869d-x7k2p"),
            k8s_pod_namespace: "default".to_owned(),
            k8s_pod_infra_container_id: container(n),
            reason: "PodDeleted".to_owned(),
            container_id: container(n),
            if_name: INTERFACE.to_owned(),
            network_name: NETWORK.to_owned(),
            ..DelNetworkRequest::default()
        };
        self.pods.del_network(request).await.with_context(|| format!("DEL of pod {n}"))?;
        Ok(())
    }

    async fn nothing(&mut self) -> Result<()> {
        self.configs.get_network_policy_configs(()).await.context("the control")?;
        Ok(())
    }
}

/// A container id is 64 hexadecimal digits, and two of them differ at once.
fn container(n: usize) -> String {
    let scattered = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{scattered:016x}").repeat(4)
}

/// What the kernel says of the daemon's memory, in bytes: `VmRSS` and its parts, and the highest it ever was.
fn memory() -> Result<Value> {
    let status = status_of(DAEMON).with_context(|| format!("no process is called {DAEMON}"))?;
    let bytes = |key: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {key}"))?;
        Ok(number.parse::<u64>()? * 1024)
    };
    Ok(json!({ "rss": bytes("VmRSS")?, "heap": bytes("RssAnon")?, "file": bytes("RssFile")?, "peak": bytes("VmHWM")? }))
}

/// `/proc/PID/status` of the process of that name.
fn status_of(name: &str) -> Option<String> {
    let processes = std::fs::read_dir(Path::new("/proc")).ok()?;
    processes.flatten().find_map(|entry| {
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        (status.lines().next()?.split_whitespace().nth(1)? == name).then_some(status)
    })
}
