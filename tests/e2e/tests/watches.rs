//! The daemon's watches and events against the lab's Kubernetes API, in one process: real TLS and HTTP, no other network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use lab_kube::{
    ClusterCa, DeleteOptions, Denial, InCluster, KubeCallFilter, KubeHandle, KubeSettings, ListOptions, Part, Patch,
    PolicyRule, Resource, Server, User, kubeconfig, serve_kube,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use vpc_agent::{About, ClusterEvent, ClusterNews, EniConfig, NodeView};
use vpc_cluster::{Access, Cluster, Environment, Identity, Pace, Wanted};
use vpc_model::PodRef;

/// A limit that no machine is too slow for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for news that must not come.
const QUIET: Duration = Duration::from_millis(300);
const ALL: Wanted = Wanted { pods: true, eni_configs: true };
const ACCOUNT: &str = "system:serviceaccount:kube-system:aws-node";

/// What the chart's ClusterRole allows the daemon.
const ROLE: &str = r#"[
    {"apiGroups": ["crd.k8s.amazonaws.com"], "resources": ["eniconfigs"], "verbs": ["list", "watch", "get"]},
    {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch", "get"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "get"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch", "get"]},
    {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "list"]}
]"#;

/// An API, and the files of a pod of the daemon set.
struct Api {
    handle: KubeHandle,
    address: SocketAddr,
    folder: TempDir,
    ca: String,
    _server: Server,
}

impl Api {
    fn start() -> Self {
        let settings = KubeSettings { bookmark_every: Duration::from_millis(50), ..KubeSettings::default() };
        let handle = KubeHandle::start(settings).unwrap();
        handle.create(&Resource::SERVICE_ACCOUNTS, "kube-system", json!({"metadata": {"name": "aws-node"}})).unwrap();
        let rules: Vec<PolicyRule> = serde_json::from_str(ROLE).unwrap();
        handle.restrict(ACCOUNT, Some(rules));
        let ca = ClusterCa::new().unwrap();
        let tls = ca.serving(&[], &["127.0.0.1".parse().unwrap()]).unwrap();
        let server = serve_kube(handle.clone(), TcpListener::bind("127.0.0.1:0").unwrap(), tls).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let api = Self { address: server.address(), handle, folder, ca: ca.pem().to_owned(), _server: server };
        api.write_secrets(&api.handle.token("kube-system", "aws-node").unwrap());
        api.node("node-a", json!({}));
        api
    }

    fn write_secrets(&self, token: &str) {
        let files = InCluster { token: token.into(), ca_pem: self.ca.clone(), namespace: "kube-system".into() };
        files.write(self.folder.path()).unwrap();
    }

    fn environment(&self) -> Environment {
        Environment {
            service_host: "127.0.0.1".into(),
            service_port: self.address.port().to_string(),
            secrets: self.folder.path().into(),
            ..Environment::default()
        }
    }

    fn node(&self, name: &str, labels: Value) {
        let node = json!({
            "metadata": {"name": name, "labels": labels}, "status": {"capacity": {"pods": "29"}},
        });
        self.handle.create(&Resource::NODES, "", node).unwrap();
    }

    fn pod(&self, name: &str, node: &str, more: Value) {
        let mut spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.handle.create(&Resource::PODS, "default", json!({"metadata": {"name": name}, "spec": spec})).unwrap();
    }

    fn patch(&self, resource: &Resource, namespace: &str, name: &str, patch: Value, part: Part) {
        self.handle.patch(resource, namespace, name, &Patch::Merge(patch), part).unwrap();
    }

    fn delete(&self, resource: &Resource, namespace: &str, name: &str) {
        let at_once = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        self.handle.delete(resource, namespace, name, &at_once).unwrap();
    }

    /// Requests of the daemon for a resource, by verb.
    fn asked(&self, verb: &str, resource: &str) -> usize {
        let filter = KubeCallFilter { resource: Some(resource.into()), ..KubeCallFilter::default() };
        self.handle.calls(&filter).iter().filter(|call| call.verb == verb).count()
    }

    fn events(&self) -> Vec<Value> {
        self.handle.list(&Resource::NEW_EVENTS, &ListOptions::default()).unwrap().items
    }

    /// Events, once they are as wanted.
    async fn events_until(&self, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let waiting = async {
            loop {
                let events = self.events();
                if done(&events) {
                    return events;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{:#?}", self.events()))
    }
}

/// The watches under test and what they said, latest of each kind.
struct Watched {
    cluster: Cluster,
    news: mpsc::Receiver<ClusterNews>,
    node: Option<NodeView>,
    configs: Option<Vec<EniConfig>>,
    pods: Option<Vec<String>>,
    /// How many nodes there are.
    nodes: Option<u32>,
    reach: Vec<bool>,
    heard: usize,
}

fn pace() -> Pace {
    Pace { first_pause: Duration::from_millis(20), longest_pause: Duration::from_secs(6), ..Pace::default() }
}

fn identity() -> Identity {
    Identity { node: "node-a".into(), pod: "aws-node-a".into(), user_agent: "aws-k8s-agent-test".into() }
}

impl Watched {
    fn start(api: &Api) -> Self {
        Self::start_with(&api.environment(), ALL, pace())
    }

    fn start_with(environment: &Environment, wanted: Wanted, pace: Pace) -> Self {
        let access = Access::find(environment).unwrap().unwrap();
        let (tell, news) = mpsc::channel(16);
        let cluster = Cluster::start(&access, &identity(), wanted, pace, tell);
        Self { cluster, news, node: None, configs: None, pods: None, nodes: None, reach: vec![], heard: 0 }
    }

    fn take(&mut self, news: ClusterNews) {
        self.heard += 1;
        match news {
            ClusterNews::Node(node) => self.node = Some(node),
            ClusterNews::EniConfigs(configs) => self.configs = Some(configs),
            ClusterNews::Pods(pods) => self.pods = Some(pods.into_iter().map(|pod| pod.name).collect()),
            ClusterNews::Nodes(count) => self.nodes = Some(count),
            ClusterNews::Reachable(yes) => self.reach.push(yes),
        }
    }

    /// Hears until it is so.
    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let Ok(Some(news)) = tokio::time::timeout(PATIENCE, self.news.recv()).await else {
                panic!("{what}: {:?} {:?} {:?} {:?}", self.node, self.configs, self.pods, self.reach)
            };
            self.take(news);
        }
    }

    /// Nothing is said for a while.
    async fn quiet(&mut self, what: &str) {
        if let Ok(news) = tokio::time::timeout(QUIET, self.news.recv()).await {
            panic!("{what}: {news:?}");
        }
    }

    async fn all_known(&mut self) {
        let known = |own: &Self| {
            own.node.is_some()
                && own.configs.is_some()
                && own.pods.is_some()
                && own.nodes.is_some()
                && own.reach == [true]
        };
        self.until("everything is known", known).await;
    }

    fn pods(&self) -> Vec<&str> {
        self.pods.iter().flatten().map(String::as_str).collect()
    }
}

#[tokio::test]
async fn the_nodes_are_counted_once_by_a_list_of_one() {
    let api = Api::start();
    for n in 0..20 {
        api.node(&format!("other-{n}"), json!({}));
    }
    let mut watched = Watched::start_with(&api.environment(), Wanted::default(), pace());
    watched.until("the nodes are counted", |own| own.nodes.is_some() && own.node.is_some()).await;
    assert_eq!(watched.nodes, Some(21));
    assert_eq!(watched.cluster.traffic().objects(), 2, "our node, and the list's only one");
    api.node("late", json!({}));
    watched.quiet("counted again").await;
}

#[tokio::test]
async fn the_node_is_told_as_it_changes() {
    let api = Api::start();
    api.node("node-b", json!({}));
    let mut watched = Watched::start(&api);
    watched.all_known().await;
    assert_eq!(watched.node.as_ref().unwrap().max_pods, Some(29));

    let labels = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z1"}, "annotations": {"k8s.amazonaws.com/eniConfig": "one"}}});
    api.patch(&Resource::NODES, "", "node-a", labels, Part::Whole);
    let zone = |own: &Watched| own.node.as_ref().unwrap().labels.get("topology.kubernetes.io/zone").cloned();
    watched.until("a label", |own| zone(own).as_deref() == Some("z1")).await;
    assert_eq!(watched.node.as_ref().unwrap().annotations["k8s.amazonaws.com/eniConfig"], "one");

    let taints = json!({"spec": {"unschedulable": true, "taints": [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
    ]}});
    api.patch(&Resource::NODES, "", "node-a", taints, Part::Whole);
    watched.until("cordoned", |own| own.node.as_ref().unwrap().unschedulable).await;
    api.patch(&Resource::NODES, "", "node-a", json!({"status": {"capacity": {"pods": "110"}}}), Part::Status);
    watched.until("room", |own| own.node.as_ref().unwrap().max_pods == Some(110)).await;

    // kubelet's heartbeats and other nodes are no news.
    for beat in 0..20 {
        let status = json!({"status": {"conditions": [{"type": "Ready", "lastHeartbeatTime": beat.to_string()}]}});
        api.patch(&Resource::NODES, "", "node-a", status, Part::Status);
        api.patch(
            &Resource::NODES,
            "",
            "node-b",
            json!({"metadata": {"labels": {"beat": beat.to_string()}}}),
            Part::Whole,
        );
    }
    watched.quiet("heartbeats").await;
    api.delete(&Resource::NODES, "", "node-a");
    watched.quiet("the last word on the node holds").await;
}

#[tokio::test]
async fn eniconfigs_come_change_and_go_while_they_are_wanted() {
    let api = Api::start();
    let config = |name: &str, subnet: &str| json!({"metadata": {"name": name}, "spec": {"subnet": subnet, "securityGroups": ["sg-1"]}});
    api.handle.create(&Resource::ENI_CONFIGS, "", config("z1", "subnet-1")).unwrap();
    let mut watched = Watched::start_with(&api.environment(), Wanted { pods: true, eni_configs: false }, pace());
    watched.until("pods", |own| own.pods.is_some() && own.nodes.is_some()).await;
    watched.quiet("nobody wants ENIConfigs").await;
    assert_eq!(api.asked("list", "eniconfigs.crd.k8s.amazonaws.com"), 0);

    watched.cluster.want(ALL);
    watched.until("the first", |own| own.configs.as_ref().is_some_and(|all| all.len() == 1)).await;
    let expected = EniConfig { name: "z1".into(), subnet: "subnet-1".into(), security_groups: vec!["sg-1".into()] };
    assert_eq!(watched.configs.as_deref(), Some(&[expected][..]));
    api.handle.create(&Resource::ENI_CONFIGS, "", config("a0", "subnet-0")).unwrap();
    watched.until("the second", |own| own.configs.as_ref().unwrap().len() == 2).await;
    assert_eq!(watched.configs.as_ref().unwrap()[0].name, "a0");
    api.patch(&Resource::ENI_CONFIGS, "", "z1", json!({"spec": {"subnet": "subnet-2"}}), Part::Whole);
    watched.until("changed", |own| own.configs.as_ref().unwrap()[1].subnet == "subnet-2").await;
    api.delete(&Resource::ENI_CONFIGS, "", "a0");
    watched.until("one is left", |own| own.configs.as_ref().unwrap().len() == 1).await;
    api.delete(&Resource::ENI_CONFIGS, "", "z1");
    watched.until("none is left", |own| own.configs.as_ref().unwrap().is_empty()).await;
}

#[tokio::test]
async fn pods_of_this_node_that_want_an_address_are_told() {
    let api = Api::start();
    api.pod("early", "node-a", json!({}));
    api.pod("elsewhere", "node-b", json!({}));
    api.pod("on-host", "node-a", json!({"hostNetwork": true}));
    let mut watched = Watched::start(&api);
    watched.all_known().await;
    assert_eq!(watched.pods(), ["early"]);

    let unbound = json!({"metadata": {"name": "bound"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.handle.create(&Resource::PODS, "default", unbound).unwrap();
    watched.quiet("not bound yet").await;
    api.handle.bind("default", "bound", "node-a").unwrap();
    watched.until("bound", |own| own.pods() == ["bound", "early"]).await;
    // It ends: the server's selection loses it.
    api.patch(&Resource::PODS, "default", "early", json!({"status": {"phase": "Succeeded"}}), Part::Status);
    watched.until("ended", |own| own.pods() == ["bound"]).await;
    // It is asked to end, and has a grace.
    api.handle.delete(&Resource::PODS, "default", "bound", &DeleteOptions::default()).unwrap();
    watched.until("terminating", |own| own.pods().is_empty()).await;
}

#[tokio::test]
async fn other_nodes_pods_cost_nothing() {
    let api = Api::start();
    for at in 0..5000 {
        api.pod(&format!("far-{at}"), &format!("node-{}", at % 100 + 1), json!({}));
    }
    for at in 0..250 {
        api.pod(&format!("own-{at:03}"), "node-a", json!({}));
    }
    let mut watched = Watched::start(&api);
    watched.all_known().await;
    assert_eq!(watched.pods().len(), 250);
    // Our node and our pods, in pages.
    let traffic = watched.cluster.traffic();
    assert_eq!(traffic.objects(), 252);
    assert!(traffic.bytes() < 251 * 1500, "{} bytes", traffic.bytes());
    assert_eq!(api.asked("list", "pods"), 3, "pages of 100");

    let before = (traffic.objects(), watched.heard);
    for at in 0..1000 {
        let status = json!({"status": {"phase": "Running"}});
        api.patch(&Resource::PODS, "default", &format!("far-{at}"), status, Part::Status);
    }
    watched.quiet("others' pods").await;
    assert_eq!((watched.cluster.traffic().objects(), watched.heard), before);
}

#[tokio::test]
async fn a_version_that_is_gone_means_a_new_list_and_no_false_news() {
    let api = Api::start();
    api.pod("one", "node-a", json!({}));
    let pace = Pace { watch: Duration::from_secs(1), ..pace() };
    let mut watched = Watched::start_with(&api.environment(), ALL, pace);
    watched.all_known().await;
    let lists = api.asked("list", "pods");
    // The connection breaks, things happen meanwhile, and the server forgets.
    api.handle.set_away(true);
    watched.until("away", |own| own.reach == [true, false]).await;
    api.pod("two", "node-a", json!({}));
    api.delete(&Resource::PODS, "default", "one");
    api.node("node-z", json!({}));
    api.handle.expire_versions();
    api.handle.set_away(false);
    watched.until("listed anew", |own| own.pods() == ["two"]).await;
    assert!(api.asked("list", "pods") > lists, "a list, not a watch");
    watched.until("there again", |own| own.reach == [true, false, true]).await;
    // Watches that end in time go on from their version, without lists and without a word.
    let (lists, watches) = (api.asked("list", "pods"), api.asked("watch", "pods"));
    let heard = watched.heard;
    let renewed = async {
        while api.asked("watch", "pods") < watches + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.unwrap();
    watched.quiet("renewed watches").await;
    assert_eq!((api.asked("list", "pods"), watched.heard), (lists, heard));
    api.pod("three", "node-a", json!({}));
    watched.until("still watching", |own| own.pods() == ["three", "two"]).await;
}

/// An hour of made-up time: what was heard holds, one word is said, and the server is not pestered.
#[tokio::test]
async fn the_api_may_be_away_for_an_hour() {
    let api = Api::start();
    api.pod("one", "node-a", json!({}));
    let mut watched = Watched::start(&api);
    watched.all_known().await;
    api.handle.set_away(true);
    watched.until("away", |own| own.reach == [true, false]).await;

    let requests = watched.cluster.traffic().requests();
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    tokio::time::resume();
    assert!(watched.news.try_recv().is_err(), "nothing more is said");
    assert_eq!(watched.cluster.traffic().requests(), requests, "no request without a connection");
    assert_eq!(watched.pods(), ["one"]);

    api.pod("two", "node-a", json!({}));
    api.handle.set_away(false);
    let back = std::time::Instant::now();
    watched.until("there again", |own| own.reach == [true, false, true]).await;
    watched.until("what happened meanwhile", |own| own.pods() == ["one", "two"]).await;
    assert!(back.elapsed() < PATIENCE);
}

/// A server that is not there at the start is said once, and found when it comes.
#[tokio::test]
async fn nothing_at_the_start() {
    let api = Api::start();
    api.handle.set_away(true);
    let mut watched = Watched::start(&api);
    watched.until("away", |own| own.reach == [false]).await;
    watched.quiet("said once").await;
    api.handle.set_away(false);
    watched.until("found", |own| own.reach == [false, true] && own.node.is_some() && own.pods.is_some()).await;
}

#[tokio::test]
async fn a_token_is_read_again_when_it_changes() {
    let api = Api::start();
    api.write_secrets("rubbish");
    let mut watched = Watched::start(&api);
    watched.until("refused", |own| own.reach == [false]).await;
    watched.quiet("said once").await;
    api.write_secrets(&api.handle.token("kube-system", "aws-node").unwrap());
    watched.until("known", |own| own.reach == [false, true] && own.pods.is_some()).await;
}

/// Without the rule for pods the rest goes on, and pods come when the rule does.
#[tokio::test]
async fn what_is_forbidden_does_not_stop_the_rest() {
    let api = Api::start();
    api.pod("one", "node-a", json!({}));
    let denial = Denial::new("*", "pods").to(ACCOUNT);
    api.handle.deny(denial.clone());
    let pace = Pace { refused_pause: Duration::from_millis(200), ..pace() };
    let mut watched = Watched::start_with(&api.environment(), ALL, pace);
    let rest = |own: &Watched| own.node.is_some() && own.configs.is_some() && own.nodes.is_some();
    watched.until("node, configs and the count", rest).await;
    watched.quiet("forbidden").await;
    assert_eq!(watched.reach, [true]);
    api.handle.allow(&denial);
    watched.until("allowed", |own| own.pods() == ["one"]).await;
}

/// Whoever signs with another CA is not believed.
#[tokio::test]
async fn another_server_is_not_believed() {
    let api = Api::start();
    let files = InCluster {
        token: "x".into(),
        ca_pem: ClusterCa::new().unwrap().pem().to_owned(),
        namespace: "kube-system".into(),
    };
    files.write(api.folder.path()).unwrap();
    let mut watched = Watched::start(&api);
    watched.until("not believed", |own| own.reach == [false]).await;
    assert!(api.handle.calls(&KubeCallFilter::default()).is_empty(), "no token was shown");
}

#[tokio::test]
async fn a_kubeconfig_and_an_endpoint_lead_to_the_same_server() {
    let api = Api::start();
    let token = api.handle.user_token(&User::admin());
    let write =
        |server: &str, path: &Path| std::fs::write(path, kubeconfig(server, &api.ca, &token, "default")).unwrap();
    let file = api.folder.path().join("config");
    let url = format!("https://{}", api.address);
    let by = |endpoint: &str| Environment {
        kubeconfig: file.display().to_string(),
        endpoint: endpoint.into(),
        ..Environment::default()
    };
    write(&url, &file);
    let mut watched = Watched::start_with(&by(""), ALL, pace());
    watched.all_known().await;
    // Nobody is at the file's server; CLUSTER_ENDPOINT leads elsewhere.
    write("https://127.0.0.1:1", &file);
    let mut watched = Watched::start_with(&by(&format!("localhost:{}", api.address.port())), ALL, pace());
    watched.all_known().await;
}

/// A peer that has fallen silent is left for a new connection.
#[tokio::test]
async fn a_silent_watch_is_renewed() {
    // No bookmarks for a day: the server is silent.
    let api = Api::start();
    let handle =
        KubeHandle::start(KubeSettings { bookmark_every: Duration::from_secs(86_400), ..KubeSettings::default() })
            .unwrap();
    let ca = ClusterCa::new().unwrap();
    let tls = ca.serving(&[], &["127.0.0.1".parse().unwrap()]).unwrap();
    let server = serve_kube(handle.clone(), TcpListener::bind("127.0.0.1:0").unwrap(), tls).unwrap();
    InCluster {
        token: handle.user_token(&User::admin()),
        ca_pem: ca.pem().to_owned(),
        namespace: "kube-system".into(),
    }
    .write(api.folder.path())
    .unwrap();
    let environment = Environment { service_port: server.address().port().to_string(), ..api.environment() };
    let pace = Pace { silence: Duration::from_millis(100), watch: Duration::from_secs(5), ..pace() };
    let mut watched = Watched::start_with(&environment, ALL, pace);
    let there = |own: &Watched| own.pods.is_some() && own.configs.is_some() && own.nodes.is_some();
    watched.until("there", there).await;
    let watches = || handle.calls(&KubeCallFilter::default()).iter().filter(|call| call.verb == "watch").count();
    let renewed = async {
        while watches() < 9 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, renewed).await.unwrap();
    assert_eq!(watched.reach, [true]);
    watched.quiet("silence is no news").await;
}

fn event(about: About, note: &str) -> ClusterEvent {
    let (reason, action) = ("MissingIAMPermissions", "ec2:CreateNetworkInterface".to_owned());
    ClusterEvent { about, warning: true, reason, action, note: note.to_owned() }
}

#[tokio::test]
async fn events_are_written_once_and_then_counted() {
    let api = Api::start();
    let own = json!({"metadata": {"name": "aws-node-a"}, "spec": {"nodeName": "node-a", "hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}});
    let own = api.handle.create(&Resource::PODS, "kube-system", own).unwrap();
    api.pod("web", "node-a", json!({}));
    let mut watched = Watched::start(&api);
    watched.all_known().await;
    let events = watched.cluster.events();
    events.tell(event(About::OwnPod, "CreateNetworkInterface was refused"));
    let written = api.events_until(|events| events.len() == 1).await.remove(0);
    let at = |pointer: &str| written.pointer(pointer).cloned().unwrap_or_default();
    for (pointer, want) in [
        ("/apiVersion", "events.k8s.io/v1"),
        ("/metadata/namespace", "kube-system"),
        ("/type", "Warning"),
        ("/reason", "MissingIAMPermissions"),
        ("/action", "ec2:CreateNetworkInterface"),
        ("/note", "CreateNetworkInterface was refused"),
        ("/reportingController", "aws-node"),
        ("/reportingInstance", "aws-node-a"),
        ("/regarding/kind", "Pod"),
        ("/regarding/name", "aws-node-a"),
    ] {
        assert_eq!(at(pointer), want, "{pointer}: {written:#}");
    }
    assert_eq!(at("/regarding/uid"), own["metadata"]["uid"]);
    assert!(at("/series").is_null() && at("/eventTime").as_str().unwrap().ends_with('Z'));

    // The same again is no other event; other things are about the node and a pod.
    (0..500).for_each(|_| events.tell(event(About::OwnPod, "CreateNetworkInterface was refused")));
    events.tell(event(About::Node, &"long ".repeat(400)));
    events.tell(event(About::Pod(PodRef { namespace: "default".into(), name: "web".into() }), "no address"));
    let is_counted =
        |events: &[Value]| events.len() == 3 && events.iter().any(|e| e["series"]["count"].as_u64() > Some(1));
    let written = api.events_until(is_counted).await;
    let of = |kind: &str, name: &str| {
        let is = |event: &&Value| event["regarding"]["kind"] == kind && event["regarding"]["name"] == name;
        written.iter().find(is).unwrap().clone()
    };
    let node = of("Node", "node-a");
    assert_eq!(node["metadata"]["namespace"], "default");
    assert_eq!(node["regarding"]["uid"], api.handle.get(&Resource::NODES, "", "node-a").unwrap()["metadata"]["uid"]);
    assert!(node["note"].as_str().unwrap().len() <= 1024);
    assert_eq!(of("Pod", "web")["regarding"]["namespace"], "default");
    assert!(of("Pod", "aws-node-a")["series"]["lastObservedTime"].as_str().is_some());
    assert_eq!(api.asked("create", "events.events.k8s.io"), 3);
}

/// What happens while the API is away is told when it is back, within bounds, and nobody waits for it.
#[tokio::test]
async fn events_wait_for_the_api_within_bounds() {
    let api = Api::start();
    let mut watched = Watched::start(&api);
    watched.all_known().await;
    api.handle.set_away(true);
    watched.until("away", |own| own.reach == [true, false]).await;
    let events = watched.cluster.events();
    (0..10_000).for_each(|at| events.tell(event(About::Node, &format!("no-{at}"))));
    assert!(events.lost() > 9000, "{}", events.lost());
    tokio::time::sleep(QUIET).await;
    api.handle.set_away(false);
    // A burst at once; the others follow one by one.
    let written = api.events_until(|events| events.len() >= 20).await;
    assert!(written.len() <= 22, "{}", written.len());
}
