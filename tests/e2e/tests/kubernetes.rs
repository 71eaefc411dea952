//! Our daemon and the Kubernetes API, as processes in a lab: it reaches the API from the node's network with the account of its daemon
//! set, people find its events, and pods start without it all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::lab::{Lab, User};
use e2e::reference::Reference;
use e2e::{skip, strangers, wait_until};
use serde_json::Value;

/// Slow machines.
const PATIENCE: Duration = Duration::from_secs(60);

const TOPOLOGY: &str = r#"
[vpc]
cidrs = ["10.20.0.0/16"]
[[subnets]]
name = "private-a"
zone = "ap-northeast-2a"
cidr = "10.20.8.0/22"
[[nodes]]
name = "a"
subnet = "private-a"
env = { WARM_ENI_TARGET = "0", VPC_CNI_ADD_WAIT = "1", AWS_VPC_K8S_CNI_LOGLEVEL = "DEBUG" }
"#;

/// A lab, and what runs kubectl against it.
struct Stage {
    lab: Lab,
    kubectl: PathBuf,
    config: String,
}

impl Stage {
    /// `Err`: the reason to skip.
    fn of(topology: &str) -> Result<Self, String> {
        let user = User::myself()?;
        let kubectl = strangers::go_tools("kube")?.join("kubectl");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("topology.toml");
        std::fs::write(&file, format!("{topology}{}", Reference::own_pod("a"))).unwrap();
        let lab = Lab::up(&user, Some(&file)).unwrap();
        let exports = lab.must(&["env"]).unwrap();
        let config = exports.lines().find_map(|line| line.strip_prefix("export KUBECONFIG=")).unwrap().to_owned();
        Ok(Self { lab, kubectl, config: config.trim_matches(['\'', '"', ';']).to_owned() })
    }

    fn kubectl(&self, line: &str, stdin: &str) -> String {
        let mut command = Command::new(&self.kubectl);
        command.args(line.split_whitespace()).env("KUBECONFIG", &self.config).env("HOME", "/nonexistent");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "kubectl {line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn log(&self) -> String {
        self.lab.must(&["logs", "a"]).unwrap()
    }

    /// The log, once a line of it has all these words.
    fn logged(&self, words: &[&str]) -> String {
        let is_there = |log: &String| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        wait_until(&format!("{words:?} in the log"), PATIENCE, || self.log(), is_there)
    }

    /// Starts a pod by the lab's command, which does not ask the API.
    fn starts(&self, pod: &str) {
        self.lab.must(&["pod", "add", "a", &format!("default/{pod}")]).unwrap();
    }
}

#[test]
fn a_missing_permission_is_an_event_that_kubectl_shows() {
    let stage = match Stage::of(TOPOLOGY) {
        Ok(stage) => stage,
        Err(reason) => return skip("a_missing_permission_is_an_event_that_kubectl_shows", &reason),
    };
    stage.logged(&["the Kubernetes API answers at"]);
    stage.logged(&["the node object", "max_pods"]);
    // Nobody may fetch more, and the pods of the first ENI's addresses use them up.
    for action in ["CreateNetworkInterface", "AssignPrivateIpAddresses"] {
        stage.lab.must(&["fault", "add", "deny", &format!("action={action}")]).unwrap();
    }
    let fill = |at: usize| stage.lab.run(&["pod", "add", "a", &format!("default/p{at}")]).unwrap().status.success();
    let started = (0..20).take_while(|at| fill(*at)).count();
    assert!(started > 0 && started < 20, "{started} pods started");

    let events = || -> Vec<Value> {
        let list = stage.kubectl("get events.events.k8s.io -n kube-system -o json", "");
        let list: Value = serde_json::from_str(&list).unwrap();
        let all = list["items"].as_array().unwrap().clone();
        all.into_iter().filter(|event| event["reason"] == "MissingIAMPermissions").collect()
    };
    let events = wait_until("an event", PATIENCE, events, |events| !events.is_empty());
    let event = &events[0];
    assert_eq!((&event["regarding"]["kind"], &event["regarding"]["name"]), (&"Pod".into(), &"aws-node-a".into()));
    assert_eq!((&event["type"], &event["reportingController"]), (&"Warning".into(), &"aws-node".into()));
    assert!(event["action"].as_str().unwrap().starts_with("ec2:"), "{event:#}");
    // As people look at it.
    let described = stage.kubectl("describe pod aws-node-a -n kube-system", "");
    assert!(described.contains("MissingIAMPermissions"), "{described}");
}

#[test]
fn eniconfigs_are_followed_as_they_come_change_and_go() {
    const POD_SUBNET: &str = r#"
[[subnets]]
name = "pods-a"
zone = "ap-northeast-2a"
cidr = "10.20.12.0/22"
[[objects]]
apiVersion = "crd.k8s.amazonaws.com/v1alpha1"
kind = "ENIConfig"
metadata = { name = "ap-northeast-2a" }
spec = { subnet = "${subnet.pods-a}" }
"#;
    let env = r#"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG = "true", ENI_CONFIG_LABEL_DEF = "topology.kubernetes.io/zone", WARM_ENI_TARGET"#;
    let stage = match Stage::of(&format!("{}{POD_SUBNET}", TOPOLOGY.replace("WARM_ENI_TARGET", env))) {
        Ok(stage) => stage,
        Err(reason) => return skip("eniconfigs_are_followed_as_they_come_change_and_go", &reason),
    };
    stage.logged(&["ENIConfigs: ap-northeast-2a (subnet-"]);
    // What it says is done: the pod's address is of the subnet it names, not of the node's.
    stage.starts("web");
    let status = stage.lab.json(&["status", "--json"]).unwrap();
    let address: Ipv4Addr = status["nodes"][0]["pods"][0]["address"].as_str().unwrap().parse().unwrap();
    assert!((12..16).contains(&address.octets()[2]), "{address} is not of pods-a");

    stage.kubectl(r#"patch eniconfig ap-northeast-2a --type=merge -p {"spec":{"subnet":"subnet-02"}}"#, "");
    stage.logged(&["ENIConfigs: ap-northeast-2a (subnet-02)"]);
    stage.kubectl("delete eniconfig ap-northeast-2a", "");
    stage.logged(&["ENIConfigs: none"]);
    let second = "apiVersion: crd.k8s.amazonaws.com/v1alpha1\nkind: ENIConfig\nmetadata: {name: other}\nspec: {subnet: subnet-03}\n";
    stage.kubectl("create -f -", second);
    stage.logged(&["ENIConfigs: other (subnet-03)"]);
}

/// The API goes away and the daemon is started anew meanwhile: pods start as before, and when it is back it is found.
#[test]
fn pods_start_while_the_api_is_away() {
    let stage = match Stage::of(TOPOLOGY) {
        Ok(stage) => stage,
        Err(reason) => return skip("pods_start_while_the_api_is_away", &reason),
    };
    stage.logged(&["the Kubernetes API answers at"]);
    stage.starts("before");
    stage.lab.must(&["fault", "add", "api-away"]).unwrap();
    stage.logged(&["the Kubernetes API is away", "what it said last holds"]);
    stage.starts("meanwhile");
    stage.lab.must(&["daemon", "stop", "a"]).unwrap();
    // Comes back when the conflist is there.
    stage.lab.must(&["daemon", "start", "a"]).unwrap();
    stage.starts("after-a-restart");
    assert_eq!(stage.log().matches("the Kubernetes API is away").count(), 2, "once for each start:\n{}", stage.log());
    stage.lab.must(&["fault", "lift", "--all"]).unwrap();
    stage.logged(&["the Kubernetes API at", "answers again"]);
    stage.starts("in-the-end");
}
