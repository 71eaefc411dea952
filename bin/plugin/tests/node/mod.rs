//! A node of its own for each test: namespaces for users (unless root), mounts and network, a private `/run`, and a daemon made up.
//!
//! A test runs twice. The harness's process only starts itself again, inside fresh namespaces, for that one test; there the body
//! runs. All of it ends with that process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use tonic::{Request, Response, Status};
use vpc_hostnet::HostOp;
use vpc_linux::{LinkChange, Netns, Rtnl, VethPeer, VethSpec};
use vpc_wire::rpc::node::{
    CollectReply, CollectRequest, FindReply, FindRequest, Lease, ReportReply, ReportRequest, StatusReply, StatusRequest,
};
use vpc_wire::rpc::pb::{
    AddNetworkReply, AddNetworkRequest, DelNetworkReply, DelNetworkRequest, DeleteNpReply, DeleteNpRequest,
    EnforceNpReply, EnforceNpRequest, IpAllocationMetadata, NetworkPolicyAgentConfigReply,
};
use vpc_wire::rpc::server::{
    self as rpc, CniBackend, ConfigServerBackend, NpBackend, NpBackendServer, listen, serve, serve_node,
};
use vpc_wire::rpc::{DAEMON_SOCKET, POLICY_AGENT_SOCKET};

/// Tells the second process which test it is.
const INSIDE: &str = "AWS_CNI_TEST_INSIDE";

/// Runs a test's body on a node of its own.
pub(crate) fn on_a_node(name: &str, body: fn(&mut Node)) {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        body(&mut Node::new());
        return;
    }
    match inside(name) {
        Inside::Held => {}
        Inside::Failed(output) => panic!("{output}"),
        Inside::Forbidden(why) => skip(name, &why),
    }
}

enum Inside {
    Held,
    Failed(String),
    Forbidden(String),
}

fn inside(name: &str) -> Inside {
    let root = nix::unistd::geteuid().is_root();
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {} 1", nix::unistd::geteuid())),
        ("/proc/self/gid_map", format!("0 {} 1", nix::unistd::getegid())),
    ];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, name).stdin(Stdio::null());
    // SAFETY: the child has one thread, and the harness holds no lock that these calls take.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || {
            let mut spaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
            if !root {
                spaces |= CloneFlags::CLONE_NEWUSER;
            }
            unshare(spaces)?;
            if !root {
                maps.iter().try_for_each(|(file, text)| fs::write(file, text))?;
            }
            Ok(())
        });
    }
    match command.output() {
        Err(error) => Inside::Forbidden(format!("namespaces are not allowed here: {error}")),
        // A misspelt name would run nothing, successfully.
        Ok(output) if output.status.success() && contains(&output.stdout, "1 passed") => Inside::Held,
        Ok(output) => Inside::Failed(indented(&output.stdout) + &indented(&output.stderr)),
    }
}

/// So that nobody takes its lines for those of the harness.
fn indented(output: &[u8]) -> String {
    String::from_utf8_lossy(output).lines().map(|line| format!("  | {line}\n")).collect()
}

fn contains(output: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(output).contains(text)
}

/// Tells whoever counts that a test did not run.
pub(crate) fn skip(name: &str, why: &str) {
    eprintln!("SKIPPED {name}: {why}");
    if let Some(file) = std::env::var_os("VPC_CNI_SKIPS") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "{name}: {why}").unwrap();
    }
}

/// What the daemon, made up, answers and has been asked.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) add: Option<Result<AddNetworkReply, Status>>,
    pub(crate) del: Option<Result<DelNetworkReply, Status>>,
    pub(crate) status: Option<Result<StatusReply, Status>>,
    pub(crate) collect: Option<Result<CollectReply, Status>>,
    pub(crate) find: Option<Result<FindReply, Status>>,
    pub(crate) policy: bool,
    /// What each container was given last.
    pub(crate) given: BTreeMap<String, String>,
    pub(crate) added: Vec<AddNetworkRequest>,
    pub(crate) deleted: Vec<DelNetworkRequest>,
    pub(crate) collected: Vec<CollectRequest>,
    pub(crate) sought: Vec<FindRequest>,
    /// What was reported.
    pub(crate) reported: Vec<ReportRequest>,
    /// The daemon does not know how to take a report, as one of another make.
    pub(crate) takes_no_reports: bool,
    pub(crate) enforced: Vec<EnforceNpRequest>,
    pub(crate) forgotten: Vec<DeleteNpRequest>,
    /// Containers that hold an address.
    pub(crate) leases: BTreeSet<String>,
}

#[derive(Clone, Default)]
struct Actor(Arc<Mutex<Script>>);

#[tonic::async_trait]
impl CniBackend for Actor {
    async fn add_network(&self, request: Request<AddNetworkRequest>) -> Result<Response<AddNetworkReply>, Status> {
        let mut script = self.0.lock().unwrap();
        let request = request.into_inner();
        if let Some(Ok(reply)) = &script.add {
            let given = reply.allocations.first().map(|one| one.ipv4.clone()).unwrap_or_default();
            script.leases.insert(request.container_id.clone());
            script.given.insert(request.container_id.clone(), given);
        }
        script.added.push(request);
        script.add.clone().unwrap_or_else(|| Err(Status::internal("not in the script"))).map(Response::new)
    }
    async fn del_network(&self, request: Request<DelNetworkRequest>) -> Result<Response<DelNetworkReply>, Status> {
        let mut script = self.0.lock().unwrap();
        let request = request.into_inner();
        script.leases.remove(&request.container_id);
        script.given.remove(&request.container_id);
        script.deleted.push(request);
        script.del.clone().unwrap_or_else(|| Err(Status::internal("not in the script"))).map(Response::new)
    }
}

#[tonic::async_trait]
impl rpc::Node for Actor {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let script = self.0.lock().unwrap();
        script.status.clone().unwrap_or_else(|| Ok(StatusReply::default())).map(Response::new)
    }
    async fn collect(&self, request: Request<CollectRequest>) -> Result<Response<CollectReply>, Status> {
        let mut script = self.0.lock().unwrap();
        script.collected.push(request.into_inner());
        script.collect.clone().unwrap_or_else(|| Ok(CollectReply::default())).map(Response::new)
    }
    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let mut script = self.0.lock().unwrap();
        if script.takes_no_reports {
            return Err(Status::unimplemented("no such method"));
        }
        script.reported.push(request.into_inner());
        Ok(Response::new(ReportReply {}))
    }
    async fn find(&self, request: Request<FindRequest>) -> Result<Response<FindReply>, Status> {
        let mut script = self.0.lock().unwrap();
        script.sought.push(request.into_inner());
        let container =
            script.sought.last().and_then(|asked| asked.attachment.clone()).unwrap_or_default().container_id;
        let lease = script.given.get(&container).cloned();
        let known = lease.map(|ipv4| FindReply { lease: Some(Lease { ipv4, ..Lease::default() }) });
        let known = known.ok_or_else(|| Status::not_found("no lease"));
        script.find.clone().unwrap_or(known).map(Response::new)
    }
}

#[tonic::async_trait]
impl ConfigServerBackend for Actor {
    async fn get_network_policy_configs(
        &self,
        _: Request<()>,
    ) -> Result<Response<NetworkPolicyAgentConfigReply>, Status> {
        Ok(Response::new(NetworkPolicyAgentConfigReply::default()))
    }
}

#[tonic::async_trait]
impl NpBackend for Actor {
    async fn enforce_np_to_pod(&self, request: Request<EnforceNpRequest>) -> Result<Response<EnforceNpReply>, Status> {
        let mut script = self.0.lock().unwrap();
        script.enforced.push(request.into_inner());
        Ok(Response::new(EnforceNpReply { success: script.policy }))
    }
    async fn delete_pod_np(&self, request: Request<DeleteNpRequest>) -> Result<Response<DeleteNpReply>, Status> {
        let mut script = self.0.lock().unwrap();
        script.forgotten.push(request.into_inner());
        Ok(Response::new(DeleteNpReply { success: script.policy }))
    }
}

/// What a run of the plugin left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts a CNI error of that code whose message holds all the words.
    pub(crate) fn assert_error(&self, code: u32, words: &[&str]) {
        assert_eq!(self.code, 1, "{self:?}");
        let json = self.json();
        assert_eq!(json["code"], code, "{self:?}");
        assert!(json["cniVersion"].is_string(), "{self:?}");
        let msg = json["msg"].as_str().unwrap();
        for word in words {
            assert!(msg.contains(word), "`{word}` in `{msg}`");
        }
    }

    /// Asserts success.
    pub(crate) fn assert_ok(&self) -> &Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// The node: `eth0` and `eth1` with an ENI's table each, as a daemon would have set them up.
pub(crate) struct Node {
    runtime: tokio::runtime::Runtime,
    script: Arc<Mutex<Script>>,
}

/// A pod on the node. Its namespace goes when it is dropped.
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) container: String,
    pub(crate) path: String,
    netns: Option<Netns>,
}

impl Node {
    fn new() -> Self {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let run = fs::canonicalize("/var/run").unwrap();
        mount(Some("tmpfs"), &run, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir_all("/var/run/netns").unwrap();
        let mut rtnl = Rtnl::open().unwrap();
        let up = LinkChange::up();
        rtnl.set_link(&"lo".parse().unwrap(), &up).unwrap();
        for (device, network) in [(0, "10.20.8"), (1, "10.20.9")] {
            let (eth, wire) = (format!("eth{device}").parse().unwrap(), format!("wire{device}").parse().unwrap());
            let peer = VethPeer { name: wire, mac: None, mtu: Some(9001), netns: None };
            rtnl.add_veth(&VethSpec {
                name: eth,
                index: None,
                mac: None,
                mtu: Some(9001),
                up: true,
                alias: None,
                link_local: true,
                peer,
            })
            .unwrap();
            let links: Vec<_> = ["eth", "wire"].map(|name| format!("{name}{device}").parse().unwrap()).into();
            links.iter().for_each(|link| rtnl.set_link(link, &up).unwrap());
            let address = HostOp::AddAddress {
                link: links[0].clone(),
                address: format!("{network}.10/24").parse().unwrap(),
                no_prefix_route: false,
            };
            vpc_linux::unwire(&mut rtnl, &[address]).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, script: Arc::default() }
    }

    /// Starts the daemon that follows the script.
    pub(crate) fn daemon(&mut self) {
        let actor = Actor(self.script.clone());
        let _inside = self.runtime.enter();
        let listener = listen(DAEMON_SOCKET.as_ref()).unwrap();
        self.runtime.spawn(async move {
            let (backend, configs) = (actor.clone(), actor.clone());
            serve_node(listener, backend, configs, actor, |_| {}, std::future::pending()).await.unwrap();
        });
    }

    /// Starts one of the reference's make: nothing but the reference's services.
    pub(crate) fn reference_daemon(&mut self) {
        let actor = Actor(self.script.clone());
        let _inside = self.runtime.enter();
        let listener = listen(DAEMON_SOCKET.as_ref()).unwrap();
        self.runtime.spawn(async move {
            serve(listener, actor.clone(), actor, |_| {}, std::future::pending()).await.unwrap();
        });
    }

    /// Starts the network policy agent that follows the script.
    pub(crate) fn policy_agent(&mut self, takes_pods: bool) {
        self.script().policy = takes_pods;
        let actor = Actor(self.script.clone());
        let _inside = self.runtime.enter();
        let listener = listen(POLICY_AGENT_SOCKET.as_ref()).unwrap();
        self.runtime.spawn(async move {
            let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(NpBackendServer::new(actor))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
    }

    pub(crate) fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Lets the daemon give and take back one address of one device.
    pub(crate) fn gives(&self, address: &str, device: i32, table: i32) {
        let entry = IpAllocationMetadata {
            ipv4: address.into(),
            ipv6: String::new(),
            device_number: device,
            route_table_id: table,
        };
        let mut script = self.script();
        script.add =
            Some(Ok(AddNetworkReply { success: true, allocations: vec![entry.clone()], ..Default::default() }));
        script.del = Some(Ok(DelNetworkReply { success: true, allocations: vec![entry], ..Default::default() }));
    }

    /// A sandbox as a runtime makes it before it calls a plugin.
    pub(crate) fn pod(&self, name: &str) -> Pod {
        let container = format!("c-{name}");
        let path = format!("/var/run/netns/cni-{name}");
        let netns = Netns::create().unwrap();
        netns.bind_to(&path).unwrap();
        Pod { namespace: "default".into(), name: name.into(), container, path, netns: Some(netns) }
    }

    /// What the host's kernel holds, sorted, without what stands there before any pod.
    pub(crate) fn state(&self) -> BTreeSet<String> {
        state(&mut Rtnl::open().unwrap())
    }
}

/// Links other than the node's own, routes of all tables but `local`, rules but the kernel's three, permanent neighbours.
fn state(rtnl: &mut Rtnl) -> BTreeSet<String> {
    let links = rtnl.links().unwrap();
    let name = |index: Option<u32>| {
        links.iter().find(|l| Some(l.index) == index).map_or("?".to_owned(), |l| l.name.to_string())
    };
    let mut all = BTreeSet::new();
    let own = |name: &str| name == "lo" || (name.len() == 4 && name.starts_with("eth")) || name.starts_with("wire");
    for link in links.iter().filter(|link| !own(link.name.as_str())) {
        all.insert(format!(
            "link {} mtu {} {} alias {}",
            link.name,
            link.mtu,
            if link.up { "up" } else { "down" },
            link.alias.as_deref().unwrap_or("none")
        ));
    }
    for route in rtnl.routes(None).unwrap() {
        let device = name(route.link);
        if route.table.0 != 255 && !own(&device) {
            let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
            all.insert(format!("route {}{via} dev {device} table {}", route.to, route.table));
        }
    }
    for rule in rtnl.rules().unwrap().iter().filter(|rule| ![0, 32766, 32767].contains(&rule.priority)) {
        all.insert(format!("rule {rule}"));
    }
    for neighbour in rtnl.neighbours(false).unwrap().iter().filter(|n| n.permanent) {
        all.insert(format!("neighbour {} dev {}", neighbour.address, name(Some(neighbour.link))));
    }
    all
}

impl Pod {
    /// What the pod's kernel holds.
    pub(crate) fn state(&self) -> BTreeSet<String> {
        let mut rtnl = Rtnl::open_in(self.netns.as_ref().unwrap()).unwrap();
        let mut all = BTreeSet::new();
        let links = rtnl.links().unwrap();
        let name = |index: Option<u32>| {
            links.iter().find(|l| Some(l.index) == index).map_or("?".to_owned(), |l| l.name.to_string())
        };
        for link in &links {
            all.insert(format!(
                "link {} {}{}",
                link.name,
                if link.up { "up" } else { "down" },
                if link.name.as_str() == "lo" { String::new() } else { format!(" mtu {}", link.mtu) }
            ));
        }
        for address in rtnl.addresses(None).unwrap() {
            all.insert(format!("address {} dev {}", address.address, name(Some(address.link))));
        }
        for route in rtnl.routes(Some(vpc_model::RouteTable::MAIN)).unwrap() {
            let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
            all.insert(format!("route {}{via} dev {}", route.to, name(route.link)));
        }
        for neighbour in rtnl.neighbours(false).unwrap().iter().filter(|n| n.permanent) {
            all.insert(format!("neighbour {} dev {}", neighbour.address, name(Some(neighbour.link))));
        }
        all
    }

    /// The namespace goes, as when the runtime removes the sandbox.
    pub(crate) fn gone(&mut self) {
        Netns::unbind(&self.path).unwrap();
        self.netns = None;
    }

    /// Calls the plugin as a runtime would, with the conflist's configuration.
    pub(crate) fn call(&self, verb: &str) -> Outcome {
        self.call_with(verb, &config(None), &[])
    }

    /// ADD's result becomes `prevResult` of DEL.
    pub(crate) fn del_after(&self, add: &Outcome) -> Outcome {
        self.call_with("DEL", &config(Some(add.json())), &[])
    }

    /// Calls the plugin with a standard input and changes of the environment (`None` takes a variable away).
    pub(crate) fn call_with(&self, verb: &str, input: &str, changes: &[(&str, Option<&str>)]) -> Outcome {
        run(self.command(verb, changes), input)
    }

    /// The plugin with the environment of a runtime's call, and changes of it; not yet started.
    pub(crate) fn command(&self, verb: &str, changes: &[(&str, Option<&str>)]) -> Command {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=u-1",
            self.namespace, self.name, self.container
        );
        let mut variables = vec![
            ("CNI_COMMAND", Some(verb)),
            ("CNI_CONTAINERID", Some(self.container.as_str())),
            ("CNI_NETNS", Some(self.path.as_str())),
            ("CNI_IFNAME", Some("eth0")),
            ("CNI_PATH", Some("/opt/cni/bin")),
            ("CNI_ARGS", Some(args.as_str())),
        ];
        variables.extend(changes);
        command(&variables)
    }
}

/// The configuration of the conflist as a runtime hands it on, logging to a file on the node's private `/run`.
pub(crate) fn config(previous: Option<Value>) -> String {
    let mut config = serde_json::json!({
        "cniVersion": "0.4.0", "name": "aws-cni", "type": "aws-cni", "vethPrefix": "eni", "mtu": "9001",
        "podSGEnforcingMode": "strict", "pluginLogFile": LOG, "pluginLogLevel": "DEBUG",
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"secret": "hunter2"}},
    });
    if let Some(previous) = previous {
        config["prevResult"] = previous;
    }
    config.to_string()
}

/// The configuration of a list of version 1.1.0, with more keys.
pub(crate) fn config_1_1(more: Value) -> String {
    let mut config: Value = serde_json::from_str(&config(None)).unwrap();
    config["cniVersion"] = "1.1.0".into();
    let Value::Object(more) = more else { panic!("{more}") };
    more.into_iter().for_each(|(key, value)| config[key] = value);
    config.to_string()
}

/// A call about the network as a whole.
pub(crate) fn network_call(verb: &str, input: &str) -> Outcome {
    plugin(input, &[("CNI_COMMAND", Some(verb)), ("CNI_PATH", Some("/opt/cni/bin"))])
}

/// Where [`config`] logs to.
pub(crate) const LOG: &str = "/var/run/plugin.log";

/// Runs the plugin with a standard input and an environment of nothing but the variables given.
pub(crate) fn plugin(input: &str, variables: &[(&str, Option<&str>)]) -> Outcome {
    run(command(variables), input)
}

/// The plugin with an environment of nothing but the variables given, its three streams piped.
fn command(variables: &[(&str, Option<&str>)]) -> Command {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_aws-cni")));
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs it to its end.
pub(crate) fn run(mut command: Command, input: &str) -> Outcome {
    let mut child = command.spawn().unwrap();
    // A plugin that needs no input may be gone before it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Waits for what the kernel does in its own time: destroying a namespace takes it some milliseconds.
pub(crate) fn wait_until(mut held: impl FnMut() -> bool) {
    for _ in 0..500 {
        if held() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it did not come to hold within 5 s");
}
