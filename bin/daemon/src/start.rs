//! From nothing to a serving node.
//!
//! ```text
//!   alone? -> listen to the kernel -> checkpoint -> IMDS -> EC2 (bounded) -> agent, socket -> host set up -> conflist
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};
use vpc_agent::Config;
use vpc_aws::ec2::shapes::{DescribeInstanceTypes, NetworkInterface};
use vpc_aws::ec2::{Client, default_chain};
use vpc_aws::imds;
use vpc_hostnet::HostOp;
use vpc_ipam::{Target, WarmTarget};
use vpc_linux::LinuxHost;
use vpc_model::{InstanceId, Millis, instance_limits};

use crate::cloud::{Ec2Hand, Place, enis_of, tags};
use crate::facts::{Ownership, assemble};
use crate::lock::Sole;
use crate::memory::{Memory, recall};
use crate::node::Node;
use crate::server::NodeIdentity;
use crate::settings::{AwsSettings, ConflistSettings, Settings};
use crate::{clock, conflist, linux};

/// How often the host is compared with what it should be, without a reason. The reference looks every 60 s.
const AUDIT_PERIOD: Millis = Millis::seconds(60);

/// Least age of an ENI that is given back, as the reference has it.
const LEAST_ENI_AGE: Millis = Millis::seconds(60);

/// How long EC2 may keep a node waiting that can serve its pods from what it knows, and one that starts anew and would have to
/// leave its other ENIs alone without EC2's word on whose they are.
const EC2_PATIENCE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(20));

/// How long the metadata are asked for, and how often.
const IMDS_PATIENCE: Duration = Duration::from_secs(30);
const IMDS_PAUSE: Duration = Duration::from_millis(500);

/// Runs the daemon until it is asked to end.
///
/// # Errors
/// Another daemon runs here, a part of the node can not be known, or a part of the daemon failed.
pub async fn run(settings: Settings, socket: PathBuf) -> anyhow::Result<()> {
    let _sole = Sole::claim(&socket, &settings.checkpoint)?;
    let mut asked_to_end = std::pin::pin!(asked_to_end()?);
    // Before the host is looked at: what changes afterwards is heard.
    let monitor = linux::listen()?;
    let mut host = LinuxHost::open()?;
    set_switches(&mut host, &settings);
    let memory = recall(&settings.checkpoint, &mut host, &settings.host.veth_prefix)?;
    let prefix = settings.host.veth_prefix.clone();
    let conflist = settings.conflist.clone();
    let node = tokio::select! {
        node = put_together(settings, socket, memory, host) => node?,
        () = &mut asked_to_end => return Ok(()),
    };
    let watch = |door| linux::watch(monitor, prefix, door);
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
) -> anyhow::Result<Node<Ec2Hand, LinuxHost>> {
    let imds = imds::Client::new(settings.aws.imds.clone(), None);
    let metadata = patiently("the instance metadata", || imds.node()).await?;
    refuse_v6_egress(&settings, &imds).await?;
    let client = client(&settings.aws, &metadata.region).await?;
    let restarted = !memory.books.enis.is_empty();
    let (walk, described) = tokio::join!(
        patiently("the metadata of the ENIs", || whole_walk(&imds)),
        describe(&client, &metadata.instance_id, restarted),
    );
    let walk = walk?;
    tracing::info!(
        instance = %metadata.instance_id,
        instance_type = metadata.instance_type,
        region = metadata.region,
        enis = walk.enis.len(),
        "the metadata are read"
    );
    let ownership = Ownership { manage_untagged: settings.pool.manage_untagged, known: &memory.enis() };
    let (facts, notes) = assemble(&metadata, &walk, described.as_deref(), ownership, clock::wall())?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let (max_enis, slots_per_eni) = limits(&client, &metadata.instance_type).await?;
    let target = Target {
        warm: WarmTarget::Enis(settings.pool.warm_enis),
        max_enis: settings.pool.max_enis.map_or(max_enis, |most| most.min(max_enis)),
        slots_per_eni,
        max_pods: None,
        cool_down: settings.pool.cooldown,
        min_eni_age: LEAST_ENI_AGE,
    };
    let place = Place {
        instance: metadata.instance_id.clone(),
        mac: metadata.mac,
        subnet: metadata.subnet_id,
        groups: metadata.security_groups,
        tags: tags(&metadata.instance_id, &settings.tags),
    };
    let identity = NodeIdentity {
        address: metadata.local_ipv4,
        instance: metadata.instance_id,
        region: metadata.region,
        policy_mode: settings.network_policy_mode.as_str().into(),
    };
    Ok(Node {
        cloud: Ec2Hand::new(client, imds, place),
        host,
        config: Config {
            target,
            host: settings.host,
            add_wait: settings.pool.add_wait,
            nonce: clock::wall().0.unsigned_abs(),
            audit_every: AUDIT_PERIOD,
        },
        facts,
        memory,
        checkpoint: settings.checkpoint,
        socket,
        identity,
    })
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

/// The walk, with the primary ENI in it.
async fn whole_walk(imds: &imds::Client) -> Result<imds::Walk, imds::ImdsError> {
    let mut walk = imds.walk().await?;
    match walk.sick.iter().position(|sick| sick.mac == walk.primary) {
        Some(at) => Err(walk.sick.swap_remove(at).error),
        None => Ok(walk),
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

/// EC2's list of the instance's ENIs. Without it the node serves from what the metadata and its checkpoint say.
async fn describe(client: &Client, instance: &InstanceId, restarted: bool) -> Option<Vec<NetworkInterface>> {
    let patience = if restarted { EC2_PATIENCE.0 } else { EC2_PATIENCE.1 };
    match timeout(patience, enis_of(client, instance)).await {
        Ok(Ok(enis)) => Some(enis),
        Ok(Err(error)) => {
            tracing::error!("{error}; the node serves from what metadata and checkpoint say");
            None
        }
        Err(_) => {
            tracing::error!("EC2 does not answer; the node serves from what metadata and checkpoint say");
            None
        }
    }
}

/// ENIs of the type, and secondary positions of each.
async fn limits(client: &Client, instance_type: &str) -> anyhow::Result<(u32, u32)> {
    if let Some(limits) = instance_limits(instance_type) {
        return Ok((limits.max_enis, limits.slots_per_eni()));
    }
    let request = DescribeInstanceTypes { instance_types: vec![instance_type.to_owned()], ..Default::default() };
    let what =
        || format!("instance type `{instance_type}` is newer than this program, and EC2 was asked for its limits");
    let types = client.call(&request).await.with_context(what)?.instance_types;
    let network = types.into_iter().find_map(|found| found.network_info).with_context(what)?;
    let card = network.default_network_card_index.unwrap_or_default();
    let on_card =
        network.network_cards.iter().find(|c| c.network_card_index == card).and_then(|c| c.maximum_network_interfaces);
    let max_enis = on_card.or(network.maximum_network_interfaces).with_context(what)?;
    let addresses = network.ipv4_addresses_per_interface.filter(|addresses| *addresses > 1).with_context(what)?;
    Ok((max_enis, addresses - 1))
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
