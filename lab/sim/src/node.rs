//! One node: its daemon (if it runs), host, disk and pods.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

use lab_cloud::AttachedEni;
use vpc_agent::{Agent, Checkpoint, ClusterNews, Config, DoomedLink, EniConfig, NodeView, Notice, Ticket, Update};
use vpc_aws::hand::Hand;
use vpc_hostnet::{HostOp, PaperHost, PaperRefusal};
use vpc_model::{EniId, InstanceId, Ipv4Net, LinkName, Millis, PodRef, SandboxKey, Time};

use crate::audit::Record;
use crate::history::{Blind, Kill};
use crate::kubelet::{Errand, Pod};
use crate::settled::Told;

/// One node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its instance.
    pub instance: InstanceId,
    /// Its instance's type.
    pub instance_type: String,
    /// What the next start of the daemon is given (`nonce` and `tags` are filled in).
    pub config: Config,
    /// Cluster name of its ENIs' tags.
    pub cluster: Option<String>,
    /// Its network.
    pub host: PaperHost,
    /// Its checkpoint file.
    pub disk: Option<Checkpoint>,
    /// By how much the calendar had jumped when the times in the file were last the calendar's; `None` after a start of the machine, when
    /// nobody can tell (the daemon's `ipam.clock`).
    pub(crate) anchor: Option<i64>,
    /// The disk takes nothing.
    pub disk_full: bool,
    /// The host's network can not be changed, or not even looked at.
    pub host_fails: Option<Blind>,
    /// What Kubernetes says of it.
    pub kube: Kube,
    /// Everything the daemon said, over all its lives.
    pub notices: Vec<(Time, Notice)>,
    /// When the daemon said that it is ready, in this life.
    pub ready_at: Option<Time>,
    /// The runtime knows that the node can serve: the conflist is there. It outlives the daemon.
    pub conflist: bool,
    /// Starts of the daemon that came to nothing (its metadata could not be read).
    pub exits: u32,
    /// What IMDS shows at a path below `/latest/meta-data/` instead of what it would (`None`: nothing), for what no fault of the cloud
    /// does.
    pub shown: BTreeMap<String, Option<String>>,
    /// Its pods by name.
    pub pods: BTreeMap<String, Pod>,
    pub(crate) agent: Option<Agent>,
    pub(crate) hand: Option<Hand>,
    /// What Kubernetes told the daemon in this life.
    pub(crate) told: Told,
    /// When the daemon is to die.
    pub(crate) death: Option<Death>,
    /// Number of the daemon's life: what belongs to an earlier one is dropped.
    pub(crate) life: u32,
    /// Its ENIs as the guest sees them.
    pub(crate) enis: BTreeMap<EniId, AttachedEni>,
    /// Whose answer is awaited.
    pub(crate) errands: BTreeMap<Ticket, Errand>,
    /// DELs that found no daemon.
    pub(crate) tombstones: BTreeSet<SandboxKey>,
    /// Sandboxes that went lately, the last one last.
    pub(crate) gone: VecDeque<SandboxKey>,
    /// So many of the next plugins that are given an address fail.
    pub(crate) wirings_fail: u32,
    /// When the agent wants to be woken.
    pub(crate) wake: Option<Time>,
    pub(crate) last_tick: Time,
    /// The machine has power and has booted.
    pub(crate) powered: bool,
    /// What the auditor knows of it.
    pub(crate) audit: Record,
}

/// The end of a daemon, at one of its effects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    /// Effects until that one has begun.
    pub(crate) left: u32,
    pub(crate) when: Kill,
    /// How long it is away then.
    pub(crate) away: Millis,
}

/// What Kubernetes says of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kube {
    /// The API server answers. Nothing is heard while it does not.
    pub answers: bool,
    /// The node object.
    pub node: Option<NodeView>,
    /// All ENIConfigs.
    pub eni_configs: Option<Vec<EniConfig>>,
    /// The pods bound to the node are told too.
    pub pods: Option<Vec<PodRef>>,
}

impl Kube {
    /// What there is to hear.
    fn parts(self) -> Vec<ClusterNews> {
        let node = self.node.map(ClusterNews::Node);
        let configs = self.eni_configs.map(ClusterNews::EniConfigs);
        let pods = self.pods.map(ClusterNews::Pods);
        [node, configs, pods].into_iter().flatten().collect()
    }

    /// Everything, to one who knows nothing.
    pub(crate) fn all(self) -> Vec<ClusterNews> {
        match self.answers {
            true => std::iter::once(ClusterNews::Reachable(true)).chain(self.parts()).collect(),
            false => vec![ClusterNews::Reachable(false)],
        }
    }

    /// What is new to one who heard that.
    pub(crate) fn since(self, before: &Self) -> Vec<ClusterNews> {
        match (before.answers, self.answers) {
            (true, true) => {
                let known = before.clone().parts();
                self.parts().into_iter().filter(|part| !known.contains(part)).collect()
            }
            (false, false) => Vec::new(),
            (false, true) | (true, false) => self.all(),
        }
    }
}

/// What a host says that does nothing.
pub(crate) const HOST_FAILS: &str = "netlink: out of memory";

impl Node {
    /// A checkpoint comes to the disk.
    pub(crate) fn write(&mut self, update: Update) -> Result<(), String> {
        if self.disk_full {
            return Err("no space left on device".to_owned());
        }
        // The daemon writes the file whole each time, from what it has in memory.
        self.disk.get_or_insert_default().update(update);
        self.audit.disk_lost = false;
        Ok(())
    }

    /// The checkpoint's file is gone. A daemon that runs has it in memory still.
    pub fn lose_disk(&mut self, now: Time) {
        if self.agent.is_some() && self.disk.is_some() {
            self.audit.disk_lost = true;
        } else {
            self.disk = None;
            self.audit.lost_memory = Some(now);
        }
    }

    /// What a daemon does that starts: times that were recorded before the calendar was set are moved with it.
    pub(crate) fn follow_calendar(&mut self, jumped_by_ms: i64) {
        let moved = self.anchor.replace(jumped_by_ms).map_or(0, |earlier| jumped_by_ms - earlier);
        // What is less can not be told from the time it takes to read two clocks.
        let nanos = if moved.abs() < 1000 { 0 } else { moved.saturating_mul(1_000_000) };
        if let Some(disk) = &mut self.disk {
            disk.leases.iter_mut().for_each(|lease| lease.since.0 += nanos);
            disk.rests.iter_mut().for_each(|rest| rest.released.0 += nanos);
        }
    }

    /// Whether the disk says that the sandbox has the address.
    pub(crate) fn has_on_disk(&self, key: &SandboxKey, address: Ipv4Addr) -> bool {
        let Some(disk) = self.disk.as_ref().filter(|_| !self.audit.disk_lost) else { return false };
        // Leases are in the order of their addresses.
        let found = disk.leases.binary_search_by_key(&address, |lease| lease.address);
        found.is_ok_and(|at| disk.leases[at].key == *key)
    }

    /// The host is changed, up to what it refuses.
    pub(crate) fn apply(&mut self, ops: &[HostOp]) -> Result<(), String> {
        if self.host_fails.is_some() {
            return Err(HOST_FAILS.to_owned());
        }
        ops.iter().try_for_each(|op| self.host.apply(op)).map_err(|error| error.to_string())
    }

    /// Links go, each if it is its owner's.
    pub(crate) fn remove_links(&mut self, links: &[DoomedLink]) {
        for doomed in links {
            self.host.remove_link_of(&doomed.link, &doomed.owner.to_string());
        }
    }

    /// The agent, while the daemon runs.
    #[must_use]
    pub fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// Its ENIs as the guest sees them.
    pub fn guest_enis(&self) -> impl Iterator<Item = &AttachedEni> {
        self.enis.values()
    }

    /// Pods that have an address and are wired.
    pub fn running(&self) -> impl Iterator<Item = (&str, &Pod)> {
        self.pods.iter().filter(|(_, pod)| pod.reply().is_some()).map(|(name, pod)| (name.as_str(), pod))
    }

    /// Addresses of its running pods.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.running().filter_map(|(_, pod)| Some(pod.reply()?.allocation.address))
    }

    /// How many notices there are of a kind.
    #[must_use]
    pub fn said(&self, what: impl Fn(&Notice) -> bool) -> usize {
        self.notices.iter().filter(|(_, notice)| what(notice)).count()
    }

    /// The machine has just started: its devices are there, the primary one (in this network) configured by the operating system.
    pub(crate) fn boot_host(&mut self, network: Option<Ipv4Net>) -> Result<(), PaperRefusal> {
        self.host = PaperHost::new();
        let primary = self.enis.values().find(|eni| eni.device.0 == 0 && eni.card.0 == 0);
        if let (Some(eni), Some(net)) = (primary, network)
            && let (Some(link), Ok(address)) = (link_of(eni), Ipv4Net::new(eni.addresses.primary, net.prefix_len()))
        {
            // EC2's router has the first address of a subnet.
            let gateway = (u32::from(net.network()) + 1).into();
            self.host = PaperHost::booted(&link, eni.mac, address, gateway)?;
        }
        for eni in self.enis.values().filter(|eni| eni.device.0 != 0 || eni.card.0 != 0) {
            if let Some(link) = link_of(eni) {
                self.host.attach(&link, eni.mac, DEVICE_MTU)?;
            }
        }
        Ok(())
    }
}

/// MTU of a device that nobody has configured, in bytes.
pub(crate) const DEVICE_MTU: u32 = 1500;

/// How the guest names a device.
pub(crate) fn link_of(eni: &AttachedEni) -> Option<LinkName> {
    let name = match eni.card.0 {
        0 => format!("eth{}", eni.device.0),
        card => format!("eth{card}-{}", eni.device.0),
    };
    name.parse().ok()
}
