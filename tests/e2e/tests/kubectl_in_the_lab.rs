//! The real `kubectl` on the host, against a lab with our daemon and plugin: pods it creates get addresses of the VPC and reach each
//! other, a full node takes no more, and a node that EC2 terminates is gone from the cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::lab::{Lab, User};
use e2e::{skip, strangers, wait_until};
use serde_json::{Value, json};

const TOPOLOGY: &str = r#"
[vpc]
cidrs = ["10.20.0.0/16"]
[[subnets]]
name = "private-a"
zone = "ap-northeast-2a"
cidr = "10.20.8.0/22"
[[subnets]]
name = "private-b"
zone = "ap-northeast-2b"
cidr = "10.20.16.0/22"
[[nodes]]
name = "a"
subnet = "private-a"
max_pods = 3
[[nodes]]
name = "b"
subnet = "private-b"
env = { NETWORK_POLICY_ENFORCING_MODE = "standard" }
"#;

/// A lab, and what runs kubectl against it.
struct Stage {
    lab: Lab,
    kubectl: PathBuf,
    environment: Vec<(String, String)>,
}

impl Stage {
    fn new() -> Result<Self, String> {
        let user = User::myself()?;
        let kubectl = strangers::go_tools("kube")?.join("kubectl");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("topology.toml");
        std::fs::write(&file, TOPOLOGY).unwrap();
        let lab = Lab::up(&user, Some(&file)).unwrap();
        let exports = lab.must(&["env"]).unwrap();
        let pair = |line: &str| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        let environment = exports.lines().filter_map(pair).filter(|(name, _)| name == "KUBECONFIG").collect();
        Ok(Self { lab, kubectl, environment })
    }

    fn kubectl(&self, line: &str, stdin: &str) -> Result<String, String> {
        let mut command = Command::new(&self.kubectl);
        command.args(line.split_whitespace()).env_clear().env("HOME", "/nonexistent");
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn must(&self, line: &str, stdin: &str) -> String {
        self.kubectl(line, stdin).unwrap_or_else(|e| panic!("kubectl {line}: {e}"))
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.must(&format!("{line} -o json"), "")).unwrap()
    }

    /// Creates pods on a node, and waits until they are ready; their addresses.
    fn run(&self, names: &[&str], node: &str) -> Vec<String> {
        let pods = names.iter().map(|name| {
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": node},
                    "containers": [{"name": "web", "image": "web"}],
                },
            })
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": pods.collect::<Vec<_>>()});
        self.must("create -f -", &list.to_string());
        let all = names.iter().map(|name| format!("pod/{name}")).collect::<Vec<_>>().join(" ");
        self.must(&format!("wait --for=condition=Ready --timeout=30s {all}"), "");
        let address =
            |name: &&str| self.json(&format!("get pod {name}"))["status"]["podIP"].as_str().unwrap().to_owned();
        names.iter().map(address).collect()
    }
}

#[test]
fn kubectl_runs_pods_in_the_lab() {
    let stage = match Stage::new() {
        Ok(stage) => stage,
        Err(reason) => return skip("kubectl_runs_pods_in_the_lab", &reason),
    };
    let nodes = stage.must("get nodes --no-headers", "");
    assert!(nodes.lines().count() == 2 && nodes.lines().all(|line| line.contains(" Ready ")), "{nodes}");

    let near = stage.run(&["one", "two"], "a");
    let far = stage.run(&["three"], "b");
    assert!(near.iter().all(|own| own.starts_with("10.20.")), "{near:?}");
    for to in [&near[1], &far[0]] {
        let ping = stage.lab.must(&["exec", "a/default/one", "--", "vpc-lab", "tool", "ping", to]).unwrap();
        assert!(ping.contains("\"answer\"") && !ping.contains("\"answer\":null"), "one to {to}: {ping}");
    }
    let described = stage.must("describe pod one", "");
    assert!(described.contains("Successfully assigned default/one to a"), "{described}");

    // Node b is to enforce network policies, and has no agent that does: people see it at the pod.
    let events = || stage.json("get events");
    let about = |events: &Value| {
        let items = events["items"].as_array().unwrap().iter();
        items
            .filter(|event| event["reason"] == "NoNetworkPolicyAgent")
            .map(|event| event["involvedObject"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    wait_until("the event of pod three", Duration::from_secs(10), events, |events| about(events) == ["three"]);
    let described = stage.must("describe pod three", "");
    assert!(described.contains("without network policies"), "{described}");

    // The third pod fills the node; the fourth waits and says why, until there is room.
    stage.run(&["four"], "a");
    let five = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"five"},"spec":{"nodeSelector":{"kubernetes.io/hostname":"a"},"containers":[{"name":"c","image":"i"}]}}"#;
    stage.must("create -f -", five);
    let why = || stage.json("get pod five")["status"]["conditions"][0]["reason"].clone();
    wait_until("five is unschedulable", Duration::from_secs(10), why, |reason| *reason == "Unschedulable");
    stage.must("delete pod one --wait=true --timeout=30s", "");
    stage.must("wait --for=condition=Ready --timeout=30s pod/five", "");

    // A cordoned node takes none.
    stage.must("cordon b", "");
    let six = five.replace("five", "six").replace(r#""nodeSelector":{"kubernetes.io/hostname":"a"},"#, "");
    stage.must("create -f -", &six);
    let why = || stage.json("get pod six")["status"]["conditions"][0]["reason"].clone();
    wait_until("six is unschedulable", Duration::from_secs(10), why, |reason| *reason == "Unschedulable");
    stage.must("uncordon b", "");
    stage.must("wait --for=condition=Ready --timeout=30s pod/six", "");

    // EC2 ends the instance: node and pods are gone.
    stage.lab.must(&["node", "remove", "b"]).unwrap();
    let left = || stage.kubectl("get node b", "").is_err() && stage.kubectl("get pod three", "").is_err();
    wait_until("node b is gone", Duration::from_secs(10), left, |gone| *gone);
}
