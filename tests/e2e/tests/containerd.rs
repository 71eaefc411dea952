//! A container runtime's exact calls: containerd's own CNI library (go-cni) and the CNI project's `cnitool`, against plugin and daemon of a
//! lab's node with a conflist of version 1.1.0.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use e2e::lab::{Lab, User};
use e2e::{skip, strangers, wait_until};
use serde_json::Value;

/// One node, whose daemon writes the list of version 1.1.0. Addresses do not rest: what a GC has ended is free at once.
fn topology(tools: &[(&str, &Path)]) -> String {
    let placed = |(name, folder): &(&str, &Path)| {
        format!(r#"{{ path = "/opt/cni/bin/{name}", source = "{}", mode = 0o755 }}"#, folder.join(name).display())
    };
    let tools: Vec<_> = tools.iter().map(placed).collect();
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
env = {{ VPC_CNI_CONF_VERSION = "1.1.0", IP_COOLDOWN_PERIOD = "0", VPC_CNI_AUDIT_INTERVAL = "5" }}
files = [{tools}]
"#
    )
}

/// The lab, or the reason why not.
fn lab() -> Result<Lab, String> {
    let user = User::myself()?;
    let (cni, containerd) = (strangers::go_tools("cni")?, strangers::go_tools("containerd")?);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.toml");
    fs::write(&file, topology(&[("cnitool", &cni), ("loopback", &cni), ("calls", &containerd)])).unwrap();
    Ok(Lab::up(&user, Some(&file)).unwrap())
}

macro_rules! lab_or_skip {
    ($test:literal) => {
        match lab() {
            Ok(lab) => Node(lab),
            Err(reason) => return skip($test, &reason),
        }
    };
}

struct Node(Lab);

impl Node {
    fn run(&self, command: &[&str]) -> Output {
        self.0.run(&[&["exec", "ours", "--"], command].concat()).unwrap()
    }

    fn must(&self, command: &[&str]) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Must fail with these words.
    fn fails(&self, command: &[&str], words: &[&str]) {
        let output = self.run(command);
        assert!(!output.status.success(), "{command:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        words.iter().for_each(|word| assert!(said.contains(word), "`{word}` in {said}"));
    }

    /// A network namespace, as a runtime makes it.
    fn sandbox(&self, name: &str) -> String {
        self.must(&["ip", "netns", "add", name]);
        format!("/var/run/netns/{name}")
    }

    /// A call of containerd's library.
    fn calls<'a>(call: &'a str, id: &'a str, netns: &'a str, pod: &'a str) -> [&'a str; 6] {
        ["/opt/cni/bin/calls", call, id, netns, "default", pod]
    }

    fn setup(&self, id: &str, netns: &str, pod: &str) -> String {
        let result: Value = serde_json::from_str(&self.must(&Self::calls("setup", id, netns, pod))).unwrap();
        let address = &result["eth0"]["IPConfigs"][0]["IP"];
        address.as_str().unwrap_or_else(|| panic!("{result:#}")).to_owned()
    }

    /// Rules and routes of an address, and host links of pods.
    fn traces(&self, address: &str) -> Vec<String> {
        let all = self.must(&["ip", "rule"]) + &self.must(&["ip", "route"]);
        all.lines().filter(|line| line.split_whitespace().any(|word| word == address)).map(str::to_owned).collect()
    }

    fn pod_links(&self) -> usize {
        self.must(&["ip", "-o", "link"]).lines().filter(|line| line.contains(": eni")).count()
    }
}

#[test]
fn containerd_s_library_adds_checks_and_deletes_pods_and_collects_what_is_stale() {
    let node = lab_or_skip!("containerd_s_library_adds_checks_and_deletes_pods_and_collects_what_is_stale");
    let list: Value = serde_json::from_str(&node.must(&["cat", "/etc/cni/net.d/10-aws.conflist"])).unwrap();
    assert_eq!((list["cniVersion"].as_str(), list.get("disableCheck")), (Some("1.1.0"), None), "{list:#}");
    node.must(&["/opt/cni/bin/calls", "status"]);

    let [one, two] = ["one", "two"].map(|name| node.sandbox(name));
    let first = node.setup("sandbox-1", &one, "web-1");
    let second = node.setup("sandbox-2", &two, "web-2");
    assert!(first.starts_with("10.20.") && first != second, "{first} {second}");
    node.must(&Node::calls("check", "sandbox-1", &one, "web-1"));
    node.must(&["ip", "-n", "one", "route", "del", "default"]);
    node.fails(&Node::calls("check", "sandbox-1", &one, "web-1"), &["web-1 is not as ADD left it", "default route"]);

    // Twice, the second time as after a restart of containerd; then with the namespace gone.
    for _ in 0..2 {
        node.must(&Node::calls("remove", "sandbox-1", &one, "web-1"));
        assert_eq!(node.traces(&first), [""; 0]);
    }
    wait_until("the old link", Duration::from_secs(10), || node.pod_links(), |links| *links == 1);
    node.must(&["ip", "netns", "del", "one"]);
    node.must(&Node::calls("remove", "sandbox-1", "", "web-1"));

    // A sandbox of which the runtime lost the cached result: only GC can end it.
    let three = node.sandbox("three");
    let lost = node.setup("sandbox-3", &three, "web-3");
    node.must(&["sh", "-c", "rm /var/lib/cni/results/*sandbox-3*"]);
    assert!(!node.traces(&lost).is_empty());
    node.must(&["/opt/cni/bin/calls", "gc", "sandbox-2"]);
    assert_eq!(node.traces(&lost), [""; 0]);
    wait_until("links after GC", Duration::from_secs(10), || node.pod_links(), |links| *links == 1);
    assert!(!node.traces(&second).is_empty(), "what is valid stays");
    node.must(&Node::calls("check", "sandbox-2", &two, "web-2"));
    node.must(&["/opt/cni/bin/calls", "gc", "sandbox-2"]);
    // None is valid: the library sends DEL for what it has cached, and GC.
    node.must(&["/opt/cni/bin/calls", "gc"]);
    assert_eq!(node.traces(&second), [""; 0]);
    node.must(&["/opt/cni/bin/calls", "status"]);
}

#[test]
fn cnitool_with_a_list_of_version_1_1_0_calls_every_verb() {
    let node = lab_or_skip!("cnitool_with_a_list_of_version_1_1_0_calls_every_verb");
    let netns = node.sandbox("judge");
    let env = "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=judge;K8S_POD_INFRA_CONTAINER_ID=judge";
    let cnitool = |verb: &str| {
        let tool = ["env", "CNI_PATH=/opt/cni/bin", "NETCONFPATH=/etc/cni/net.d", env, "/opt/cni/bin/cnitool", verb];
        tool.into_iter().map(str::to_owned).chain(["aws-cni".to_owned(), netns.clone()]).collect::<Vec<_>>()
    };
    let run = |verb: &str| {
        let command = cnitool(verb);
        node.must(&command.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run("status");
    let result: Value = serde_json::from_str(&run("add")).unwrap();
    assert_eq!(result["cniVersion"], "1.1.0");
    let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
    run("check");
    assert_eq!(node.traces(&address).len(), 2, "a rule and a route: {:?}", node.traces(&address));
    run("del");
    run("del");
    assert_eq!(node.traces(&address), [""; 0]);
    // Again at once: the same sandbox, while its old link may still be going.
    let result: Value = serde_json::from_str(&run("add")).unwrap();
    run("check");
    // The tool names no attachments: the library deletes what it has cached, and the plugin must not read "none is valid" into it.
    let gc = cnitool("gc");
    node.fails(&gc.iter().map(String::as_str).collect::<Vec<_>>(), &["`cni.dev/valid-attachments` is missing"]);
    let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap();
    assert_eq!(node.traces(address), [""; 0]);
    run("status");
}
