//! From nothing to a serving node.
//!
//! ```text
//!   alone? -> listen to the kernel -> checkpoint -> IMDS -> agent, socket -> host set up -> conflist
//!                                                              \-> EC2 (nothing waits for it that the checkpoint can promise)
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use vpc_aws::ec2::{Client, default_chain};
use vpc_aws::hand::{Place, facts::node_facts};
use vpc_aws::imds;
use vpc_hostnet::HostOp;
use vpc_linux::LinuxHost;

use crate::cloud::Ec2Hand;
use crate::cluster::Kubernetes;
use crate::config::{Machine, config};
use crate::door::Door;
use crate::failpoint::Point;
use crate::lock::Sole;
use crate::memory::{Memory, recall};
use crate::node::Node;
use crate::refresh::Living;
use crate::server::NodeIdentity;
use crate::settings::{AwsSettings, Checked, ConflistSettings, Env, Finding, Settings};
use crate::{clock, conflist, linux, refresh};

/// How long the metadata are asked for, and how often.
const IMDS_PATIENCE: Duration = Duration::from_secs(30);
const IMDS_PAUSE: Duration = Duration::from_millis(500);

/// Runs the daemon until it is asked to end. `env` is the environment that the settings were read from: a watched file goes before
/// it.
///
/// # Errors
/// Another daemon runs here, a part of the node can not be known, or a part of the daemon failed.
pub async fn run(checked: Checked, env: Env, socket: PathBuf) -> anyhow::Result<()> {
    let settings = checked.settings.clone();
    let _sole = Sole::claim(&socket, &settings.checkpoint)?;
    Point::StartAlone.pass();
    let mut asked_to_end = std::pin::pin!(asked_to_end()?);
    // Before the host is looked at: what changes afterwards is heard.
    let monitor = linux::listen()?;
    let mut host = LinuxHost::open()?;
    set_switches(&mut host, &settings);
    Point::StartBeforeRecall.pass();
    let memory = recall(&settings.checkpoint, &mut host, &settings.host.veth_prefix)?;
    Point::StartAfterRecall.pass();
    let prefix = settings.host.veth_prefix.clone();
    let conflist = settings.conflist.clone();
    let (node, machine) = tokio::select! {
        node = put_together(settings, socket, memory, host) => node?,
        () = &mut asked_to_end => return Ok(()),
    };
    let living = Living::new(env, machine, checked);
    let watch = |door: Door| {
        refresh::watch(living, door.clone())?;
        linux::watch(monitor, prefix, door)
    };
    node.serve(watch, move || write_conflist(&conflist), asked_to_end).await
}

/// Resolves when the process is told to end.
fn asked_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can not be listened to")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can not be listened to")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// A switch that is not the planner's: wanted or left alone, never set back.
fn set_switches(host: &mut LinuxHost, settings: &Settings) {
    if settings.disable_tcp_early_demux {
        let off = HostOp::SetSysctl { key: "net/ipv4/tcp_early_demux".to_owned(), value: "0".to_owned() };
        if let Err(error) = crate::host::Hand::apply(host, &[off]) {
            tracing::error!("{error}");
        }
    }
}

async fn put_together(
    settings: Settings,
    socket: PathBuf,
    memory: Memory,
    host: LinuxHost,
) -> anyhow::Result<(Node<Ec2Hand, LinuxHost>, Machine)> {
    let imds = imds::Client::new(settings.aws.imds.clone(), None);
    let (metadata, walk) = patiently("the instance metadata", || imds.instance()).await?;
    refuse_v6_egress(&settings, &imds).await?;
    let client = client(&settings.aws, &metadata.region).await?;
    tracing::info!(
        instance = %metadata.instance_id,
        instance_type = metadata.instance_type,
        region = metadata.region,
        enis = walk.enis.len(),
        "the metadata are read"
    );
    let facts = node_facts(&metadata, &walk, clock::wall())?;
    for sick in &walk.sick {
        tracing::warn!("ENI {}: {}", sick.mac, sick.error);
    }
    let machine = Machine::new(metadata.instance_id.clone(), &metadata.instance_type, clock::wall().0.unsigned_abs());
    let (config, findings) = config(&settings, &machine);
    findings.iter().for_each(Finding::log);
    let place = Place {
        instance: metadata.instance_id.clone(),
        mac: metadata.mac,
        vpc: metadata.vpc_id,
        zone: metadata.availability_zone,
        instance_type: metadata.instance_type,
        cluster: settings.tags.cluster.clone(),
        tags: config.tags.clone(),
    };
    Point::StartAfterMetadata.pass();
    let identity = NodeIdentity {
        address: metadata.local_ipv4,
        instance: metadata.instance_id,
        region: metadata.region,
        policy_mode: settings.network_policy_mode.as_str().into(),
    };
    let node = Node {
        cloud: Ec2Hand::new(client, imds, place),
        host,
        config,
        facts,
        memory,
        checkpoint: settings.checkpoint,
        socket,
        identity,
        kubernetes: Kubernetes::find(&settings.kubernetes, &settings.aws.version),
    };
    Ok((node, machine))
}

/// Asks until there is an answer, for a while: a node that boots has been seen to reach its metadata only after some seconds.
async fn patiently<T, F>(what: &'static str, ask: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, imds::ImdsError>>,
{
    let until = Instant::now() + IMDS_PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() + IMDS_PAUSE < until && may_pass(&error.failure) => {
                tracing::warn!("{what}: {error}; asked again");
                sleep(IMDS_PAUSE).await;
            }
            Err(error) => return Err(error).context(what),
        }
    }
}

fn may_pass(failure: &imds::ImdsFailure) -> bool {
    match failure {
        imds::ImdsFailure::Timeout | imds::ImdsFailure::Transport(_) | imds::ImdsFailure::Status(_) => true,
        imds::ImdsFailure::NotFound | imds::ImdsFailure::NoSession { .. } => true,
        imds::ImdsFailure::Disabled | imds::ImdsFailure::BadValue { .. } => false,
    }
}

/// IPv6 egress is not in this release. Where it was asked for and could work, pods would miss it; where the node has no IPv6
/// address it would have stayed off anyway.
async fn refuse_v6_egress(settings: &Settings, imds: &imds::Client) -> anyhow::Result<()> {
    if !settings.conflist.v6_egress {
        return Ok(());
    }
    match imds.ipv6().await.context("the node's IPv6 address (ENABLE_V6_EGRESS)")? {
        None => tracing::warn!("ENABLE_V6_EGRESS: the node has no IPv6 address, egress stays off"),
        Some(address) => bail!(
            "ENABLE_V6_EGRESS=`true`: IPv6 egress is not in this release, and this node has an IPv6 address ({address}); \
             expected `false` or not set"
        ),
    }
    Ok(())
}

async fn client(settings: &AwsSettings, region: &str) -> anyhow::Result<Client> {
    // The instance's own region, unless AWS_REGION names another.
    let region = settings.ec2.region.as_deref().unwrap_or(region);
    let credentials = default_chain(&settings.ec2, &settings.imds, region).await?;
    Ok(Client::builder(settings.ec2.clone(), region, credentials).version(&settings.version).build()?)
}

/// Tells the runtime that the node can serve.
fn write_conflist(settings: &ConflistSettings) -> anyhow::Result<()> {
    let mut document = conflist::document(settings, None);
    let installed = |plugin: &str| conflist::is_installed(&settings.bin_dir, plugin);
    for plugin in conflist::leave_out_missing(&mut document, installed) {
        report_missing(&plugin, &settings.bin_dir);
    }
    let path =
        conflist::write(&settings.conf_dir, &document).context("the runtime can not be told that the node is ready")?;
    tracing::info!("the node is ready: {} is written", path.display());
    Ok(())
}

fn report_missing(plugin: &str, bin_dir: &Path) {
    let path = bin_dir.join(plugin);
    if plugin == conflist::OUR_PLUGIN {
        tracing::error!("{} is not there: no pod can be started until it is", path.display());
    } else {
        tracing::warn!("{} is not there: the plugin is left out of the conflist", path.display());
    }
}
