//! Where things are crashed: a node whose plugin and daemon have failpoints, a peer without any of ours, and somebody who acts as kubelet.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use vpc_aws::ec2::shapes::Action;
use vpc_lab::control::{DaemonAction, Failure, NodeStatus, Place};
use vpc_lab::fault::Fault;
use vpc_lab::kubelet::{CallError, PodError, PodName, PodStatus};
use vpc_lab::tools::PingOptions;
use vpc_lab::topology::TopologyFile;
use vpc_lab::{Lab, LabError, StartOptions};

use super::ec2;
use super::programs::{Program, Programs};

/// The node that is crashed.
pub const NODE: &str = "a";
/// The node that is not, and has neither plugin nor daemon.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 20);
/// Where the checkpoint is unless the settings say otherwise, and the setting.
const CHECKPOINT: &str = "/var/run/aws-node/ipam.json";
const BACKING_STORE: &str = "AWS_VPC_K8S_CNI_BACKING_STORE";
/// Where failpoints find their orders.
const ORDERS: &str = "/run/vpc-cni-failpoints";
/// What a kubelet waits between two sandboxes of a pod, at first.
pub const PAUSE: Duration = Duration::from_millis(500);
/// What is waited for a lab that is busy with the pod.
pub const BUSY: Duration = Duration::from_millis(20);
/// A daemon that is killed at every start is started so often.
const STARTS: u32 = 10;
/// How long a pod is tried for. Long: what is slow is told, and what never comes fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The settings that make what takes minutes in the field take seconds: rests, rounds of giving back, sweeps.
pub const SHORT: &[(&str, &str)] = &[
    ("IP_COOLDOWN_PERIOD", "1"),
    ("VPC_CNI_RELEASE_INTERVAL", "1"),
    ("VPC_CNI_MIN_ENI_AGE", "1"),
    ("VPC_CNI_AUDIT_INTERVAL", "2"),
    ("VPC_CNI_ORPHAN_AGE", "3"),
    ("VPC_CNI_STRAYS_AFTER", "2"),
];

/// What a bed is like.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Of the node.
    pub instance_type: &'static str,
    /// Settings of its daemon.
    pub env: Vec<(&'static str, &'static str)>,
    /// Shell commands before its daemon first starts.
    pub init: Option<&'static str>,
}

impl Setup {
    /// A small node that soon needs another ENI, with short periods.
    #[must_use]
    pub fn small() -> Self {
        let mut env = SHORT.to_vec();
        env.extend([("WARM_IP_TARGET", "1"), ("MINIMUM_IP_TARGET", "2")]);
        Self { instance_type: "t3.small", env, init: None }
    }

    /// With another setting.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.retain(|(other, _)| *other != name);
        self.env.push((name, value));
        self
    }
}

const VPC: &str = r#"
[vpc]
cidrs = ["10.20.0.0/16"]
[[subnets]]
name = "private-a"
zone = "ap-northeast-2a"
cidr = "10.20.8.0/21"
[[nodes]]
name = "a"
subnet = "private-a"
private_ip = "10.20.8.10"
[[nodes]]
name = "peer"
subnet = "private-a"
private_ip = "10.20.8.20"
daemon = { command = [] }
"#;

/// A bed. The lab in it ends with it.
#[derive(Debug)]
pub struct Bed {
    /// The lab.
    pub lab: Lab,
    /// The checkpoint's path on the node.
    pub checkpoint: &'static str,
    ec2: std::net::SocketAddr,
}

/// How a pod came to be.
#[derive(Clone, Debug)]
pub struct Added {
    /// The pod.
    pub pod: PodStatus,
    /// Why each sandbox before failed.
    pub failures: Vec<String>,
    /// From the first attempt.
    pub took: Duration,
    /// Sandboxes that were tried since the daemon was last started.
    pub since_start: u32,
    /// From then, if it was started in between.
    pub after_start: Option<Duration>,
}

impl Bed {
    /// Starts the lab, and waits until the node is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(programs: &Programs, setup: &Setup) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut file = TopologyFile::parse(VPC)?;
        let node = file.nodes.first_mut().context("the topology has a node")?;
        node.instance_type = Some(setup.instance_type.to_owned());
        let env = setup.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        node.env = env.collect();
        let init = format!(
            "mkdir -p {ORDERS}/aws-cni {ORDERS}/aws-k8s-agent && touch {ORDERS}/aws-cni.reached {ORDERS}/aws-k8s-agent.reached; {}",
            setup.init.unwrap_or_default()
        );
        let command = ["/bin/sh", "-ec", &init].map(str::to_owned).to_vec();
        node.init = Some(vpc_lab::topology::CommandFile { command, cwd: None });
        let name = format!("crash-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let options = StartOptions {
            name,
            vpc_lab: Some(programs.vpc_lab.clone()),
            programs: Some(programs.crashing.clone()),
            dies_with_me: true,
            wait_for_daemons: true,
        };
        let (lab, warnings) = Lab::start(&file.resolve()?, &options)?;
        ensure!(warnings.is_empty(), "{warnings:?}");
        let ec2 = lab.status()?.host.ec2.context("the lab's EC2 has no door on the host's loopback")?;
        let checkpoint = setup.env.iter().find(|(name, _)| *name == BACKING_STORE).map_or(CHECKPOINT, |(_, path)| path);
        Ok(Self { lab, checkpoint, ec2 })
    }

    /// The node as the lab shows it.
    ///
    /// # Errors
    /// The lab does not answer.
    pub fn node(&self) -> Result<NodeStatus> {
        self.lab.status()?.nodes.into_iter().find(|node| node.name == NODE).context("the lab has lost its node")
    }

    /// What a shell says on the node; an exit code other than 0 is an error.
    ///
    /// # Errors
    /// See above.
    pub fn sh(&self, script: &str) -> Result<String> {
        let ran = self.lab.run(&Place::Node(NODE.to_owned()), &["/bin/sh", "-ec", script])?;
        ensure!(ran.code == 0, "{script}: {ran:?}");
        Ok(ran.stdout)
    }

    /// EC2, asked by somebody outside.
    ///
    /// # Errors
    /// It refuses.
    pub fn ec2<A: Action>(&self, request: &A) -> Result<A::Response> {
        ec2::call(self.ec2, request)
    }

    /// Begins a fault of the lab, as people type it; its number.
    ///
    /// # Errors
    /// There is no such fault.
    pub fn fault(&self, text: &str) -> Result<u64> {
        let mut words = text.split_whitespace();
        let fault = Fault::from_words(words.next().unwrap_or_default(), &words.collect::<Vec<_>>())?;
        Ok(self.lab.fault(&fault, None)?.id)
    }

    /// Orders what a failpoint does.
    ///
    /// # Errors
    /// The lab does not answer.
    pub fn arm(&self, program: Program, point: &str, order: &str) -> Result<()> {
        // A name of its own first: a program may look at any moment.
        let file = format!("{ORDERS}/{}/{point}", program.name());
        self.sh(&format!("echo '{order}' > {file}.new && mv {file}.new {file}")).map(drop)
    }

    /// Whether an order still waits to be carried out.
    ///
    /// # Errors
    /// The lab does not answer.
    pub fn is_armed(&self, program: Program, point: &str) -> Result<bool> {
        let said = self.sh(&format!("[ -e {ORDERS}/{}/{point} ] && echo yes || echo no", program.name()))?;
        Ok(said.trim() == "yes")
    }

    /// Takes all orders back.
    ///
    /// # Errors
    /// The lab does not answer.
    pub fn disarm(&self) -> Result<()> {
        self.sh(&format!("rm -f {ORDERS}/*/*")).map(drop)
    }

    /// The failpoints that were reached so far.
    ///
    /// # Errors
    /// The lab does not answer.
    pub fn reached(&self, program: Program) -> Result<BTreeSet<String>> {
        let text = self.sh(&format!("sort -u {ORDERS}/{}.reached", program.name()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Whether the daemon runs.
    ///
    /// # Errors
    /// The lab does not answer.
    pub fn runs(&self) -> Result<bool> {
        Ok(self.node()?.daemon.is_some_and(|daemon| daemon.pid.is_some()))
    }

    /// Starts the daemon unless it runs, again if it is killed on the way, and waits until the node is ready. When that was, if it was
    /// started.
    ///
    /// # Errors
    /// It does not come up.
    pub fn revive(&self) -> Result<Option<Instant>> {
        let mut last = None;
        for _ in 0..STARTS {
            if self.runs()? {
                return Ok(last.map(|()| Instant::now()));
            }
            match self.lab.daemon(NODE, DaemonAction::Start) {
                Ok(()) => last = Some(()),
                // Killed while it started; or already started by somebody else.
                Err(LabError::Refused(_)) => last = Some(()),
                Err(error) => return Err(error.into()),
            }
        }
        bail!("the daemon did not come up in {STARTS} starts: {:?}", self.node()?.daemon)
    }

    /// SIGTERM, and waits for the end. One that dies on the way has ended too.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(&self) -> Result<()> {
        if self.runs()? {
            self.lab.daemon(NODE, DaemonAction::Stop)?;
        }
        Ok(())
    }

    /// Adds a pod as kubelet does: a sandbox after the other, while the daemon is started again when it has died.
    ///
    /// # Errors
    /// No sandbox got an address for a minute.
    pub fn add(&self, name: &str) -> Result<Added> {
        let pod = pod_name(name)?;
        let begin = Instant::now();
        let (mut failures, mut since_start, mut started) = (Vec::new(), 0, None);
        loop {
            since_start += 1;
            match self.lab.pod_add(NODE, &pod, 1) {
                Ok(pod) => {
                    let after_start = started.map(|at: Instant| at.elapsed());
                    return Ok(Added { pod, failures, took: begin.elapsed(), since_start, after_start });
                }
                Err(error) if is_busy(&error) => {
                    ensure!(begin.elapsed() < PATIENCE, "{name}: {error}");
                    since_start -= 1;
                    std::thread::sleep(BUSY);
                    continue;
                }
                Err(error) => failures.push(error.to_string()),
            }
            ensure!(begin.elapsed() < PATIENCE, "{name} got no address within {PATIENCE:?}: {failures:#?}");
            match self.revive()? {
                Some(at) => (started, since_start) = (Some(at), 0),
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Deletes a pod as kubelet does, until it is gone.
    ///
    /// # Errors
    /// It is not gone after a minute.
    pub fn delete(&self, name: &str) -> Result<()> {
        let pod = pod_name(name)?;
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lab.pod_del(NODE, &pod) {
                Ok(()) => return Ok(()),
                Err(error) => ensure!(Instant::now() < end, "{name} can not be deleted: {error}"),
            }
        }
    }

    /// The pods that run.
    ///
    /// # Errors
    /// The lab does not answer.
    pub fn pods(&self) -> Result<Vec<PodStatus>> {
        Ok(self.node()?.pods)
    }

    /// Whether a pod and the peer reach each other.
    ///
    /// # Errors
    /// The lab does not answer.
    pub fn talks(&self, pod: &PodStatus) -> Result<bool> {
        let once = PingOptions { count: 1, timeout: Duration::from_secs(5), ..PingOptions::default() };
        let place = Place::Pod(NODE.to_owned(), pod.pod.clone());
        let address = pod.address.ok_or_else(|| anyhow!("{} has no address", pod.pod))?;
        Ok(self.lab.ping(&place, PEER, &once)?.all_answered()
            && self.lab.ping(&Place::Node("peer".to_owned()), address, &once)?.all_answered())
    }

    /// Every pod reaches the peer.
    ///
    /// # Errors
    /// One does not.
    pub fn all_talk(&self) -> Result<()> {
        for pod in self.pods()? {
            ensure!(self.talks(&pod)?, "{} ({:?}) does not reach the peer any more", pod.pod, pod.address);
        }
        Ok(())
    }

    /// The end of what daemon and plugin logged, for people.
    #[must_use]
    pub fn last_words(&self) -> String {
        let script = format!(
            "tail -n 60 /var/log/aws-routed-eni/ipamd.log; tail -n 15 /var/log/aws-routed-eni/plugin.log; cat {}",
            self.checkpoint
        );
        self.sh(&script).unwrap_or_else(|error| error.to_string())
    }
}

/// A pod of the default namespace.
///
/// # Errors
/// The name is not one of a pod.
pub fn pod_name(name: &str) -> Result<PodName> {
    format!("default/{name}").parse().map_err(|error: String| anyhow!(error))
}

/// Whether there was no attempt at all: the lab still takes away what is left of the one before (its object in the Kubernetes API).
#[must_use]
pub fn is_busy(error: &LabError) -> bool {
    matches!(error, LabError::Refused(Failure::Pod(PodError::Busy(_) | PodError::Exists(_))))
}

/// Whether an attempt failed because its plugin was killed: it ended without an answer.
#[must_use]
pub fn plugin_died(error: &LabError) -> bool {
    match error {
        LabError::Refused(Failure::Pod(PodError::Failed { cause, .. })) => matches!(**cause, CallError::Broken { .. }),
        _ => false,
    }
}
