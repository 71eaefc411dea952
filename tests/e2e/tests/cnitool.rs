//! The CNI project's own programs on the lab's nodes, unchanged: `cnitool` as the runtime of our plugin, and the project's `ptp`,
//! `bridge` and `host-local` as plugins of the lab's kubelet and of `cnitool`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use e2e::lab::{Lab, User};
use e2e::{skip, strangers};
use serde_json::Value;

/// One node of our own, and one without a daemon, whose network is the strangers' affair.
fn topology(tools: &Path) -> String {
    let placed = |name: &str| {
        format!(r#"{{ path = "/opt/cni/bin/{name}", source = "{}", mode = 0o755 }}"#, tools.join(name).display())
    };
    let tools: Vec<_> = ["cnitool", "ptp", "bridge", "host-local"].into_iter().map(placed).collect();
    let tools = tools.join(", ");
    format!(
        r#"
[vpc]
cidrs = ["10.20.0.0/16"]
[[subnets]]
name = "private-a"
zone = "ap-northeast-2a"
cidr = "10.20.8.0/22"
[[nodes]]
name = "ours"
subnet = "private-a"
files = [{tools}]
[[nodes]]
name = "theirs"
subnet = "private-a"
daemon = {{ command = [] }}
files = [{tools},
  {{ path = "/etc/cni/net.d/10-bridge.conflist", content = '{{"cniVersion":"1.0.0","name":"bridged","plugins":[{{"type":"bridge","bridge":"cni0","isDefaultGateway":true,"ipam":{{"type":"host-local","subnet":"10.99.1.0/24"}}}}]}}' }},
  {{ path = "/etc/cni/net.d/20-ptp.conflist", content = '{{"cniVersion":"1.0.0","name":"pointed","plugins":[{{"type":"ptp","ipam":{{"type":"host-local","subnet":"10.99.2.0/24","routes":[{{"dst":"0.0.0.0/0"}}]}}}}]}}' }},
]
"#
    )
}

/// A lab with both nodes, or the reason why not.
fn lab() -> Result<Lab, String> {
    let user = User::myself()?;
    let tools = strangers::go_tools("cni")?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.toml");
    fs::write(&file, topology(&tools)).unwrap();
    Ok(Lab::up(&user, Some(&file)).unwrap())
}

impl Cnitool<'_> {
    /// `cnitool VERB`, with the sandbox's name as pod name.
    fn call(&self, verb: &str, network: &str) -> String {
        let namespace = format!("/var/run/netns/{}", self.sandbox);
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={0};K8S_POD_INFRA_CONTAINER_ID={0}",
            self.sandbox
        );
        let env = format!("CNI_ARGS={args}");
        let command = [
            "env",
            "CNI_PATH=/opt/cni/bin",
            "NETCONFPATH=/etc/cni/net.d",
            &env,
            "/opt/cni/bin/cnitool",
            verb,
            network,
            &namespace,
        ];
        self.on_node(&command)
    }

    fn on_node(&self, command: &[&str]) -> String {
        let all = [&["exec", self.node, "--"], command].concat();
        self.lab.must(&all).unwrap()
    }

    /// A network namespace, as a runtime makes it.
    fn sandbox(&self) {
        self.on_node(&["ip", "netns", "add", self.sandbox]);
        self.on_node(&["ip", "-n", self.sandbox, "link", "set", "lo", "up"]);
    }

    /// Runs the lab's ping in the sandbox; whether every packet came back.
    fn reaches(&self, address: &str) -> bool {
        let ping = ["exec", self.node, "--", "ip", "netns", "exec", self.sandbox, "vpc-lab", "tool", "ping", address];
        let report: Value = serde_json::from_str(&self.lab.must(&ping).unwrap()).unwrap();
        let echoes = report["echoes"].as_array().unwrap();
        assert!(!echoes.is_empty(), "{report}");
        echoes.iter().all(|echo| !echo["answer"].is_null())
    }
}

/// A sandbox on a node that `cnitool` is to give a network.
struct Cnitool<'a> {
    lab: &'a Lab,
    node: &'a str,
    sandbox: &'a str,
}

fn address(result: &str) -> String {
    let result: Value = serde_json::from_str(result).unwrap_or_else(|e| panic!("{e}: {result}"));
    let text = result["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("{result:#}"));
    text.split('/').next().unwrap().to_owned()
}

macro_rules! lab_or_skip {
    ($test:literal) => {
        match lab() {
            Ok(lab) => lab,
            Err(reason) => return skip($test, &reason),
        }
    };
}

#[test]
fn cnitool_gives_a_sandbox_a_vpc_address_through_our_plugin_and_takes_it_back() {
    let lab = lab_or_skip!("cnitool_gives_a_sandbox_a_vpc_address_through_our_plugin_and_takes_it_back");
    let pod = Cnitool { lab: &lab, node: "ours", sandbox: "judge" };
    pod.sandbox();
    let added = pod.call("add", "aws-cni");
    let own = address(&added);
    assert!(own.starts_with("10.20."), "{added}");
    let theirs = lab.json(&["status", "--json"]).unwrap();
    let far = theirs["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "theirs").unwrap();
    let far = far["enis"][0]["primary"].as_str().unwrap_or_else(|| panic!("{far:#}")).to_owned();
    assert!(pod.reaches(&far), "{own} does not reach {far}");
    pod.call("check", "aws-cni");
    pod.call("del", "aws-cni");
    assert!(!pod.reaches(&far), "the sandbox still has a network");
    assert!(!pod.on_node(&["ip", "route"]).contains(&own), "the route to {own} is still there");
    // A runtime may say it twice.
    pod.call("del", "aws-cni");
}

#[test]
fn ptp_and_bridge_with_host_local_work_on_a_node_under_cnitool_and_under_the_labs_kubelet() {
    let lab = lab_or_skip!("ptp_and_bridge_with_host_local_work_on_a_node_under_cnitool_and_under_the_labs_kubelet");
    let point = Cnitool { lab: &lab, node: "theirs", sandbox: "point" };
    point.sandbox();
    assert_eq!(address(&point.call("add", "pointed")), "10.99.2.2");
    assert!(point.reaches("10.99.2.1"));
    point.call("check", "pointed");

    // The kubelet takes the first file by name: the bridge.
    for pod in ["default/one", "default/two"] {
        lab.must(&["pod", "add", "theirs", pod]).unwrap();
    }
    let ping = lab.must(&["exec", "theirs/default/one", "--", "vpc-lab", "tool", "ping", "10.99.1.3"]).unwrap();
    assert!(ping.contains("answer") && !ping.contains(r#""answer":null"#), "{ping}");
    assert!(point.reaches("10.99.1.2"), "the node does not route between its two networks");
    let bridge = point.on_node(&["ip", "-o", "link", "show", "master", "cni0"]);
    assert_eq!(bridge.lines().count(), 2, "{bridge}");

    for pod in ["default/one", "default/two"] {
        lab.must(&["pod", "del", "theirs", pod]).unwrap();
    }
    point.call("del", "pointed");
    let left = point.on_node(&["sh", "-c", "ls /var/lib/cni/networks/bridged /var/lib/cni/networks/pointed"]);
    assert!(!left.contains("10.99."), "host-local still holds addresses: {left}");
    let bridge = point.on_node(&["ip", "-o", "link", "show", "master", "cni0"]);
    assert_eq!(bridge.lines().count(), 0, "{bridge}");
}
