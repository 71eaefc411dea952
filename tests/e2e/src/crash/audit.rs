//! What is wrong on a node: kernel, cloud and checkpoint held against the pods there are. The daemon's own words count for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vpc_aws::ec2::shapes::{DescribeNetworkInterfaces, NetworkInterface, NetworkInterfaceStatus};
use vpc_hostnet::{HostSettings, HostState, is_pod_link, pod_ties};
use vpc_lab::control::{NodeStatus, Place};
use vpc_lab::kubelet::{Phase, PodStatus};
use vpc_model::VethPrefix;
use vpc_wire::checkpoint::Checkpoint;

use super::bed::{Bed, NODE};

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Two pods have one address. Never allowed, for no moment.
    Twice(String),
    /// A running pod has lost something it needs. Never allowed, for no moment.
    Lost(String),
    /// Something is there that no pod and no pool stands behind. Allowed for a while after a crash.
    Leaked(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice(what) => write!(f, "given twice: {what}"),
            Self::Lost(what) => write!(f, "lost: {what}"),
            Self::Leaked(what) => write!(f, "leaked: {what}"),
        }
    }
}

/// Everything there is to see at one moment, when nothing comes or goes.
struct Look {
    node: NodeStatus,
    host: HostState,
    books: Checkpoint,
    enis: Vec<NetworkInterface>,
    /// Names of files beside the checkpoint, and of notes.
    files: Vec<String>,
}

/// Looks, and says all that is wrong. To be called while no pod comes or goes.
///
/// # Errors
/// Something can not be looked at: a checkpoint that can not be read is an error too.
pub fn look(bed: &Bed) -> Result<Vec<Wrong>> {
    let text = bed.sh(&format!("cat {}", bed.checkpoint))?;
    let notes = "/var/run/aws-node/deleted";
    let files = bed.sh(&format!("ls -A $(dirname {}); ls -A {notes} 2>/dev/null || true", bed.checkpoint))?;
    let look = Look {
        books: Checkpoint::from_bytes(text.as_bytes()).with_context(|| format!("the checkpoint: {text}"))?,
        host: bed.lab.kernel_state(&Place::Node(NODE.to_owned()))?,
        enis: bed.ec2(&DescribeNetworkInterfaces::default())?.network_interfaces,
        files: files.lines().map(str::to_owned).collect(),
        node: bed.node()?,
    };
    let mut wrong = BTreeSet::new();
    look.pods(&mut wrong);
    look.leases(&mut wrong);
    look.kernel(&mut wrong);
    look.cloud(&mut wrong);
    look.leftovers(&mut wrong);
    Ok(wrong.into_iter().collect())
}

/// Waits until nothing is leaked any more; how long that took. What is lost or given twice is an error at once.
///
/// # Errors
/// See above, or something is still leaked after `at_most`.
pub fn settles(bed: &Bed, at_most: Duration) -> Result<Duration> {
    let begin = Instant::now();
    loop {
        let wrong = look(bed)?;
        if wrong.is_empty() {
            return Ok(begin.elapsed());
        }
        let told = wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ");
        if wrong.iter().any(|wrong| !matches!(wrong, Wrong::Leaked(_))) || begin.elapsed() > at_most {
            bail!("{:.1} s after it was quiet:\n  {told}", begin.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl Look {
    fn running(&self) -> impl Iterator<Item = (&PodStatus, Ipv4Addr)> {
        let running = self.node.pods.iter().filter(|pod| pod.phase == Phase::Running);
        running.filter_map(|pod| Some((pod, pod.address?)))
    }

    /// Addresses of pods: each one once, and each on an ENI of the node, as the cloud has it.
    fn pods(&self, wrong: &mut BTreeSet<Wrong>) {
        let mut owners: BTreeMap<Ipv4Addr, &PodStatus> = BTreeMap::new();
        for (pod, address) in self.running() {
            if let Some(other) = owners.insert(address, pod) {
                wrong.insert(Wrong::Twice(format!("{address} to {} and {}", other.pod, pod.pod)));
            }
            if !self.cloud_has(address) {
                wrong.insert(Wrong::Lost(format!("{address} of {} is on no ENI of the node", pod.pod)));
            }
        }
    }

    fn cloud_has(&self, address: Ipv4Addr) -> bool {
        self.node.enis.iter().any(|eni| {
            let prefixes = eni.prefixes.iter().filter_map(|text| text.parse::<ipnet::Ipv4Net>().ok());
            eni.secondary.contains(&address) || prefixes.into_iter().any(|prefix| prefix.contains(&address))
        })
    }

    /// The checkpoint: a lease for each pod's sandbox, and for nobody else.
    fn leases(&self, wrong: &mut BTreeSet<Wrong>) {
        for (pod, address) in self.running() {
            let container = pod.sandbox.as_ref().map(|sandbox| sandbox.container.as_str());
            let recorded =
                self.books.allocations.iter().any(|lease| {
                    lease.address == IpAddr::V4(address) && Some(lease.key.container.as_str()) == container
                });
            if !recorded {
                wrong.insert(Wrong::Lost(format!("the checkpoint has no lease of {address} for {}", pod.pod)));
            }
        }
        for lease in &self.books.allocations {
            let there = self.running().any(|(_, address)| lease.address == IpAddr::V4(address));
            if !there {
                wrong.insert(Wrong::Leaked(format!("lease of {} for {}", lease.address, lease.key)));
            }
        }
    }

    /// The kernel: each pod's rules and route, and nobody else's.
    fn kernel(&self, wrong: &mut BTreeSet<Wrong>) {
        let ties = pod_ties(&self.host, &HostSettings::default());
        for (pod, address) in self.running() {
            match ties.get(&address) {
                Some(ties) if ties.to && ties.links.len() == 1 => {}
                other => {
                    wrong.insert(Wrong::Lost(format!("{address} of {} has no rule or no route: {other:?}", pod.pod)));
                }
            }
        }
        for (address, ties) in &ties {
            if !self.running().any(|(_, other)| other == *address) && (ties.to || ties.from || !ties.links.is_empty()) {
                wrong.insert(Wrong::Leaked(format!("rules or routes of {address}: {ties:?}")));
            }
        }
        let links = self.host.links.iter().filter(|link| is_pod_link(link, &VethPrefix::default())).count();
        let pods = self.running().count();
        if links > pods {
            wrong.insert(Wrong::Leaked(format!("{links} links for {pods} pods")));
        }
    }

    /// The cloud: no ENI that nobody has, and nothing on the node's that the pool does not know.
    fn cloud(&self, wrong: &mut BTreeSet<Wrong>) {
        for eni in self.enis.iter().filter(|eni| eni.status == NetworkInterfaceStatus::Available) {
            wrong.insert(Wrong::Leaked(format!("{} is attached to nothing", eni.network_interface_id)));
        }
        let pool = self.books.pool.as_deref().unwrap_or_default();
        for eni in self.node.enis.iter().filter(|eni| eni.status == "attached") {
            let Some(known) = pool.iter().find(|known| known.id.to_string() == eni.id) else {
                wrong.insert(Wrong::Leaked(format!("{} is attached, and the checkpoint does not know it", eni.id)));
                continue;
            };
            for address in eni.secondary.iter().filter(|address| !known.addresses.contains(address)) {
                wrong.insert(Wrong::Leaked(format!("{address} of {}, which the checkpoint does not know", eni.id)));
            }
            let prefixes: Vec<String> = known.prefixes.iter().map(ToString::to_string).collect();
            for prefix in eni.prefixes.iter().filter(|prefix| !prefixes.contains(prefix)) {
                wrong.insert(Wrong::Leaked(format!("{prefix} of {}, which the checkpoint does not know", eni.id)));
            }
        }
    }

    /// Files: unfinished checkpoints, notes that nobody carried out.
    fn leftovers(&self, wrong: &mut BTreeSet<Wrong>) {
        for file in &self.files {
            if file.contains(".tmp") || file.contains('@') {
                wrong.insert(Wrong::Leaked(format!("the file {file}")));
            }
        }
    }
}
