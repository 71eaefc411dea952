//! One node from power to pods.
//!
//! ```text
//!   InstanceStarted -> boot:   root, namespaces, ENIs' links, and what the operating system does: lo, eth0 as DHCP would, ip_forward
//!                   -> services (after EC2 may answer again): init command, daemon
//!   EniAttached / EniDetached / EniChanged -> the fabric
//!   InstanceStopped -> power off: every process killed, links gone; the disk stays
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use lab_cloud::AttachedEni;
use vpc_linux::{Address, LinkChange, Netns, RouteSpec, Rtnl};
use vpc_model::{EniId, GatewayOf, InstanceId, LinkName, RouteTable, Subnet};

use super::daemon::{Daemon, tail};
use crate::cluster::Cluster;
use crate::control::{DaemonAction, DaemonStatus, Failure};
use crate::dns::NodeNames;
use crate::fabric::{EC2_ADDRESS, Fabric, hold_to, link_up, set_switches};
use crate::kubelet::{Kubelet, NodeView, Phase};
use crate::sys::init::Machine;
use crate::sys::process::{PATH, Program, Streams, wait_within};
use crate::sys::root::RootPlan;
use crate::sys::spaces::Spaces;
use crate::topology::{Command, EC2_ENDPOINT_VARIABLE, NodeSpec, PlacedFile};

/// The programs of the lab that a node gets in `/app`.
const AGENT: &str = "aws-k8s-agent";
const PLUGIN: &str = "aws-cni";
/// The second of the list that the daemon writes; it leaves out what is not there.
const EGRESS: &str = "egress-cni";
/// Where in a node the logs of its services are.
pub(super) const LOG_DIR: &str = "var-log/lab";
/// An init command may take so long.
const INIT_PATIENCE: Duration = Duration::from_secs(60);
/// A daemon may take so long to configure the network.
pub(super) const READY_PATIENCE: Duration = Duration::from_secs(20);
/// A daemon may take so long to end after SIGTERM: what Kubernetes gives a container.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Who put the default route there: a DHCP client (linux/rtnetlink.h).
const RTPROT_DHCP: u8 = 16;

/// What the operating system of a node sets before anything runs: it forwards, as kubelet's host does, and filters by reverse path
/// loosely, as systemd's defaults on Amazon Linux 2023 do.
const OS_SWITCHES: [(&str, &str); 3] =
    [("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/default/rp_filter", "2")];

/// A node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) spec: NodeSpec,
    /// The instance it is.
    pub(super) instance: InstanceId,
    subnet: Subnet,
    fabric: Arc<Fabric>,
    plan: RootPlan,
    names: NodeNames,
    cluster_files: Vec<PlacedFile>,
    pub(super) kubelet: Kubelet,
    daemon: Option<Daemon>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    /// Why its last boot, or its services, failed.
    problem: Option<String>,
    /// Services were started, or could not be, since the last boot.
    settled: bool,
}

#[derive(Debug)]
struct Running {
    machine: Machine,
    /// Its primary address.
    address: Ipv4Addr,
    links: BTreeMap<EniId, LinkName>,
}

/// Directories a node is made in.
#[derive(Clone, Debug)]
pub(super) struct NodePlaces {
    /// Of `aws-cni` and `aws-k8s-agent`, on the host.
    pub(super) programs: PathBuf,
    /// The lab's tmpfs.
    pub(super) mount_point: PathBuf,
    /// What nodes are told about names.
    pub(super) names: NodeNames,
    /// What lies on nodes so that their programs find the Kubernetes API.
    pub(super) cluster_files: Vec<PlacedFile>,
}

impl Node {
    pub(super) fn new(
        spec: NodeSpec,
        instance: InstanceId,
        subnet: Subnet,
        places: &NodePlaces,
        fabric: Arc<Fabric>,
    ) -> Result<Self, String> {
        let disk = places.mount_point.join("disks").join(&spec.name);
        for dir in [LOG_DIR, "etc-cni/net.d"] {
            fs::create_dir_all(disk.join(dir)).map_err(|e| format!("{}: {e}", disk.join(dir).display()))?;
        }
        let plan = root_plan(&spec, places, &disk)?;
        let daemon = spec.daemon.clone();
        let daemon = daemon.map(|command| {
            Daemon::new(command, spec.restart, &disk.join(LOG_DIR).join("daemon.log"), &disk.join("etc-cni/net.d"))
        });
        let kubelet = Kubelet::new(&spec.name);
        let names = places.names.clone();
        let cluster_files = places.cluster_files.clone();
        Ok(Self {
            spec,
            instance,
            subnet,
            fabric,
            plan,
            names,
            cluster_files,
            kubelet,
            daemon,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Power on: everything up to a configured eth0. Services are started by [`Node::start_services`].
    pub(super) fn boot(&self, enis: &[AttachedEni]) {
        let booted = self.try_boot(enis);
        let mut state = self.state();
        state.settled = false;
        match booted {
            Ok(running) => {
                state.problem = None;
                state.running = Some(running);
            }
            Err(problem) => {
                tracing::error!(node = self.spec.name, "boot: {problem}");
                state.problem = Some(format!("boot: {problem}"));
                state.settled = true;
            }
        }
        self.changed.notify_all();
    }

    fn try_boot(&self, enis: &[AttachedEni]) -> Result<Running, String> {
        let primary = enis.first().ok_or("an instance without an ENI")?;
        // What the topology places comes after it, and so may be another.
        let names = self.names.files(&self.spec.name, primary.addresses.primary).into_iter();
        let files = names.chain(self.cluster_files.clone());
        let plan = RootPlan { files: files.chain(self.plan.files.clone()).collect(), ..self.plan.clone() };
        let machine = Machine::boot(&plan).map_err(|e| e.to_string())?;
        let mut running = Running { machine, links: BTreeMap::new(), address: primary.addresses.primary };
        match self.connect(&mut running, enis) {
            Ok(()) => Ok(running),
            Err(e) => {
                enis.iter().for_each(|eni| drop(self.fabric.detach(&eni.id)));
                running.machine.power_off();
                Err(e)
            }
        }
    }

    fn connect(&self, running: &mut Running, enis: &[AttachedEni]) -> Result<(), String> {
        let network = running.machine.spaces.net.clone();
        set_switches(&network, &OS_SWITCHES).map_err(|e| e.to_string())?;
        link_up(&network, "lo").map_err(|e| e.to_string())?;
        for eni in enis {
            self.attach_to(running, eni)?;
        }
        let primary = enis.first().ok_or("an instance without an ENI")?;
        self.configure_primary(&network, primary.addresses.primary.into()).map_err(|e| format!("configure eth0: {e}"))
    }

    /// What DHCP does on EC2: address with the subnet's length, default route through the subnet's router.
    fn configure_primary(&self, network: &Netns, address: Ipv4Net) -> Result<(), String> {
        let text = |e: vpc_linux::NetlinkError| e.to_string();
        let mut netlink = Rtnl::open_in(network).map_err(text)?;
        let name: LinkName = "eth0".parse().map_err(|e: vpc_model::LinkNameError| e.to_string())?;
        let eth0 = netlink.link(&name).map_err(text)?.index;
        let address = Ipv4Net::new(address.addr(), self.subnet.net().prefix_len()).map_err(|e| e.to_string())?;
        netlink.set_link(eth0, &LinkChange::up()).map_err(text)?;
        match netlink.add_address(&Address::new(eth0, address)) {
            Err(e) if !e.is_present() => return Err(text(e)),
            _ => {}
        }
        let route = RouteSpec {
            source: Some(address.addr()),
            protocol: RTPROT_DHCP,
            ..RouteSpec::through(RouteTable::MAIN, Ipv4Net::default(), self.subnet.gateway(), eth0)
        };
        netlink.replace_route(&route).map_err(text)
    }

    /// eth0 has its carrier again: what its DHCP client does then.
    pub(super) fn renew_primary(&self) -> Result<(), Failure> {
        let (network, address) = {
            let state = self.state();
            let Some(running) = &state.running else { return Ok(()) };
            (running.machine.spaces.net.clone(), running.address)
        };
        self.configure_primary(&network, address.into()).map_err(Failure::other)
    }

    /// A device appears under the lowest free name.
    fn attach_to(&self, running: &mut Running, eni: &AttachedEni) -> Result<(), String> {
        let taken = |name: &LinkName| running.links.values().any(|own| own == name);
        let free = (0..).filter_map(|n| format!("eth{n}").parse::<LinkName>().ok()).find(|name| !taken(name));
        let link = free.ok_or("no free link name")?;
        self.fabric.attach(eni, &running.machine.spaces.net, &link).map_err(|e| e.to_string())?;
        if let Some(mbps) = self.spec.bandwidth_mbps {
            let held = hold_to(&eni.id, &running.machine.spaces.net, &link, mbps);
            held.inspect_err(|_| drop(self.fabric.detach(&eni.id))).map_err(|e| e.to_string())?;
        }
        running.links.insert(eni.id.clone(), link);
        Ok(())
    }

    /// EC2 has attached an ENI.
    pub(super) fn attach(&self, eni: &AttachedEni) {
        let mut state = self.state();
        let Some(running) = &mut state.running else { return };
        if let Err(e) = self.attach_to(running, eni) {
            tracing::error!(node = self.spec.name, eni = %eni.id, "attach: {e}");
            state.problem = Some(e);
        }
    }

    /// EC2 has detached an ENI.
    pub(super) fn detach(&self, eni: &EniId) {
        let mut state = self.state();
        if let Err(e) = self.fabric.detach(eni) {
            tracing::error!(node = self.spec.name, %eni, "detach: {e}");
            state.problem = Some(e.to_string());
        }
        if let Some(running) = &mut state.running {
            running.links.remove(eni);
        }
    }

    /// EC2 has changed addresses, groups or the source/destination check of an ENI.
    pub(super) fn change(&self, eni: &AttachedEni) {
        if let Err(e) = self.fabric.change(eni) {
            tracing::error!(node = self.spec.name, eni = %eni.id, "change: {e}");
            self.state().problem = Some(e.to_string());
        }
    }

    /// Runs the init command and starts the daemon. Afterwards the node is settled, for good or ill.
    pub(super) fn start_services(&self) {
        let outcome = self.try_services();
        let mut state = self.state();
        if let Err(problem) = outcome {
            tracing::error!(node = self.spec.name, "services: {problem}");
            state.problem = Some(problem);
        }
        state.settled = true;
        self.changed.notify_all();
    }

    /// After a reboot: when the network is ready again, every pod the node had gets a new sandbox.
    pub(super) fn restore_pods(&self) {
        let lost = self.kubelet.pods().iter().any(|pod| pod.phase == Phase::Lost);
        if lost
            && self.wait_ready(READY_PATIENCE).is_ok()
            && let Ok(view) = self.view()
        {
            self.kubelet.power_back(&view);
        }
    }

    fn try_services(&self) -> Result<(), String> {
        let Ok(view) = self.view() else { return Ok(()) };
        if let Some(init) = &self.spec.init {
            self.run_init(init, &view)?;
        }
        match &self.daemon {
            Some(daemon) => daemon.start(&view).map_err(|e| self.not_started(&e)),
            None => Ok(()),
        }
    }

    fn not_started(&self, error: &std::io::Error) -> String {
        let program = self.spec.daemon.as_ref().and_then(|c| c.command.first()).map_or("the daemon", String::as_str);
        let hint = if error.kind() == std::io::ErrorKind::NotFound {
            format!(" (the lab looks for {AGENT} and {PLUGIN} beside vpc-lab; other programs are placed with `files`)")
        } else {
            String::new()
        };
        format!("{program}: {error}{hint}")
    }

    fn run_init(&self, init: &Command, view: &NodeView) -> Result<(), String> {
        let log = self.plan.disk.join(LOG_DIR).join("init.log");
        let failed = |what: String| format!("its init command {what}{}", tail(&log));
        let file = File::options().create(true).append(true).open(&log).map_err(|e| failed(e.to_string()))?;
        let output = file.try_clone().map_err(|e| failed(e.to_string()))?;
        let streams = Streams { input: Stdio::null(), output: output.into(), errors: file.into() };
        let program = Program {
            command: init.command.clone(),
            env: view.env.clone(),
            cwd: Some(init.cwd.clone()),
            ..Program::default()
        };
        let mut child =
            program.start(&view.spaces, streams).map_err(|e| failed(format!("could not be started: {e}")))?;
        match wait_within(&mut child, INIT_PATIENCE) {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(format!("ended with {status}"))),
            Err(e) => Err(failed(e.to_string())),
        }
    }

    /// Power off.
    pub(super) fn power_off(&self) {
        let Some(running) = self.state().running.take() else { return };
        self.kubelet.power_lost();
        if let Some(daemon) = &self.daemon {
            daemon.power_goes();
        }
        running.machine.power_off();
        if let Some(daemon) = &self.daemon {
            daemon.power_lost();
        }
        for eni in running.links.keys() {
            if let Err(e) = self.fabric.detach(eni) {
                tracing::error!(node = self.spec.name, %eni, "power off: {e}");
            }
        }
        self.changed.notify_all();
    }

    /// The instance is terminated: its disk goes. (What a program holds open of it stays until that program ends.)
    pub(super) fn scrap(&self) {
        for dir in [&self.plan.disk, &self.plan.root] {
            if let Err(e) = fs::remove_dir_all(dir)
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(node = self.spec.name, "{}: {e}", dir.display());
            }
        }
    }

    /// Waits until the node has, or has not, power.
    pub(super) fn wait_for_power(&self, on: bool, at_most: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + at_most;
        let mut state = self.state();
        while state.running.is_some() != on || (on && !state.settled) {
            if on && state.settled {
                return Err(Failure::other(state.problem.clone().unwrap_or_default()));
            }
            let left = deadline.checked_duration_since(Instant::now());
            let left = left.ok_or_else(|| {
                Failure::other(format!("{} has not changed its power within {at_most:?}", self.spec.name))
            })?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Waits until the node's network is configured, if it has a daemon.
    ///
    /// # Errors
    /// What keeps it from being ready.
    pub(super) fn wait_ready(&self, at_most: Duration) -> Result<(), String> {
        self.wait_ready_telling(at_most, || ())
    }

    /// As [`Node::wait_ready`]; says when it has power.
    pub(super) fn wait_ready_telling(&self, at_most: Duration, booted: impl FnOnce()) -> Result<(), String> {
        let named = |problem: String| format!("{} is not ready: {problem}", self.spec.name);
        self.wait_for_power(true, at_most).map_err(|e| named(e.to_string()))?;
        booted();
        if let Some(problem) = self.problem() {
            return Err(named(problem));
        }
        self.daemon.as_ref().map_or(Ok(()), |daemon| daemon.wait_ready(at_most).map_err(named))
    }

    /// What somebody at the command line wants of the daemon.
    pub(super) fn daemon_action(&self, action: DaemonAction) -> Result<(), Failure> {
        let name = &self.spec.name;
        let daemon = self.daemon()?;
        let view = self.view()?;
        let failed = |e: std::io::Error| Failure::other(format!("{name}: {e}"));
        match action {
            DaemonAction::Kill => daemon.kill(&view, None).map_err(failed),
            DaemonAction::Stop => daemon.stop(STOP_PATIENCE).map_err(failed),
            DaemonAction::Start => {
                daemon.start(&view).map_err(failed)?;
                daemon.wait_ready(READY_PATIENCE).map_err(|e| Failure::other(format!("{name}: {e}")))
            }
        }
    }

    /// Where its disk lies.
    pub(super) fn disk(&self) -> &Path {
        &self.plan.disk
    }

    /// Its primary address, while it has power.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.state().running.as_ref().map(|running| running.address)
    }

    /// Its daemon.
    pub(super) fn daemon(&self) -> Result<Daemon, Failure> {
        let none = || Failure::other(format!("{} has no daemon in the topology", self.spec.name));
        self.daemon.clone().ok_or_else(none)
    }

    /// SIGKILL to its daemon, which is started again after a while if that is given.
    pub(super) fn kill_daemon(&self, restart: Option<Duration>) -> Result<(), Failure> {
        let view = self.view()?;
        let failed = |e: std::io::Error| Failure::other(format!("{}: {e}", self.spec.name));
        self.daemon()?.kill(&view, restart).map_err(failed)
    }

    /// Its ENIs, while it has power.
    pub(super) fn enis(&self) -> BTreeSet<EniId> {
        self.state().running.as_ref().map(|running| running.links.keys().cloned().collect()).unwrap_or_default()
    }

    /// Its ENIs' links, while it has power.
    pub(super) fn links(&self) -> Vec<LinkName> {
        self.state().running.as_ref().map(|running| running.links.values().cloned().collect()).unwrap_or_default()
    }

    /// Its namespaces and environment, while it has power.
    pub(super) fn view(&self) -> Result<NodeView, Failure> {
        let state = self.state();
        let running = state.running.as_ref().ok_or_else(|| Failure::Off { node: self.spec.name.clone() })?;
        Ok(NodeView { spaces: running.machine.spaces.clone(), env: self.env() })
    }

    fn env(&self) -> BTreeMap<String, String> {
        let standard = [
            ("PATH", PATH.to_owned()),
            ("HOME", "/root".to_owned()),
            ("HOSTNAME", self.spec.name.clone()),
            (EC2_ENDPOINT_VARIABLE, format!("http://{EC2_ADDRESS}")),
        ];
        let mut env: BTreeMap<_, _> = standard.map(|(key, value)| (key.to_owned(), value)).into();
        env.extend(Cluster::variables(&self.spec.name));
        env.extend(self.spec.env.clone());
        env
    }

    pub(super) fn is_on(&self) -> bool {
        self.state().running.is_some()
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    pub(super) fn daemon_status(&self) -> Option<DaemonStatus> {
        self.daemon.as_ref().map(Daemon::status)
    }

    /// Name of an ENI's link.
    pub(super) fn link_of(&self, eni: &EniId) -> Option<LinkName> {
        self.state().running.as_ref().and_then(|running| running.links.get(eni).cloned())
    }

    /// Its namespaces, seen from a pod's network.
    pub(super) fn pod_spaces(&self, network: Netns) -> Result<Spaces, Failure> {
        Ok(self.view()?.spaces.with_network(network))
    }
}

fn root_plan(spec: &NodeSpec, places: &NodePlaces, disk: &Path) -> Result<RootPlan, String> {
    let mut programs = Vec::new();
    let mut plugins = Vec::new();
    if let Ok(own) = std::env::current_exe() {
        programs.push((own, "vpc-lab".to_owned()));
    }
    let agent = places.programs.join(AGENT);
    if agent.is_file() {
        programs.push((agent, AGENT.to_owned()));
    }
    let plugin = spec.plugin.clone().unwrap_or_else(|| places.programs.join(PLUGIN));
    if plugin.is_file() {
        let name = plugin.file_name().map_or_else(|| PLUGIN.to_owned(), |name| name.to_string_lossy().into_owned());
        plugins.push(name.clone());
        programs.push((plugin, name));
    } else if spec.plugin.is_some() {
        return Err(format!("nodes.{}.plugin: {} is not a file", spec.name, plugin.display()));
    }
    let egress = places.programs.join(EGRESS);
    if spec.plugin.is_none() && egress.is_file() {
        plugins.push(EGRESS.to_owned());
        programs.push((egress, EGRESS.to_owned()));
    }
    Ok(RootPlan {
        hostname: spec.name.clone(),
        root: places.mount_point.join("roots").join(&spec.name),
        disk: disk.to_owned(),
        programs,
        plugins,
        files: spec.files.clone(),
    })
}
