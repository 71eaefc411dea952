//! The strongest judge of the lab: the VPC CNI that AWS publishes runs in it, unchanged, with the paths and the environment of its own
//! containers. EC2, metadata, the Kubernetes API, nodes and the fabric must be real enough for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::lab::{Lab, User};
use e2e::reference::Reference;
use e2e::{skip, strangers, wait_until};
use serde_json::Value;

/// A host of the lab's internet.
const PUBLIC: &str = "52.78.83.169";
/// Slow machines, and a daemon that works in rounds of seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// Two zones, each with a private subnet, behind one NAT gateway.
const VPC: &str = r#"
public_hosts = ["52.78.83.169"]
[vpc]
cidrs = ["10.20.0.0/16"]
[[subnets]]
name = "public-a"
zone = "ap-northeast-2a"
cidr = "10.20.0.0/24"
public = true
[[subnets]]
name = "private-a"
zone = "ap-northeast-2a"
cidr = "10.20.8.0/22"
[[subnets]]
name = "private-b"
zone = "ap-northeast-2b"
cidr = "10.20.16.0/22"
[[nat_gateways]]
name = "nat-a"
subnet = "public-a"
"#;

/// Name and subnet of a node, and what it sets beside the daemon set's own variables.
type Node = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// A lab whose nodes all run the reference.
struct Judged {
    lab: Lab,
}

impl Judged {
    /// A lab with these nodes. `Err`: the reason to skip.
    fn up(nodes: &[Node]) -> Result<Self, String> {
        Self::up_with(nodes, |_| String::new())
    }

    /// As [`Judged::up`], with more files on each node: a list's entries, given where our programs are.
    fn up_with(nodes: &[Node], files: fn(&Path) -> String) -> Result<Self, String> {
        let user = User::myself()?;
        let reference = Reference::built()?;
        let files = files(&user.programs);
        let mut text = format!("{VPC}{}", reference.node_defaults());
        for (name, subnet, env) in nodes {
            let env = Reference::of_node(name, env);
            text.push_str(&format!(
                "[[nodes]]\nname = \"{name}\"\nsubnet = \"{subnet}\"\nenv = {env}\nfiles = [{files}]\n"
            ));
        }
        nodes.iter().for_each(|(name, ..)| text.push_str(&Reference::own_pod(name)));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("topology.toml");
        fs::write(&file, text).unwrap();
        Ok(Self { lab: Lab::up(&user, Some(&file)).unwrap() })
    }

    fn exec(&self, place: &str, command: &[&str]) -> String {
        self.lab.must(&[&["exec", place, "--"], command].concat()).unwrap()
    }

    /// A node as `vpc-lab status` shows it: EC2's view of its ENIs, the lab's of its pods.
    fn node(&self, name: &str) -> Value {
        let status = self.lab.json(&["status", "--json"]).unwrap();
        status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap().clone()
    }

    fn enis(&self, node: &str) -> Vec<Value> {
        self.node(node)["enis"].as_array().unwrap().clone()
    }

    fn pods(&self, node: &str) -> Vec<Pod> {
        let pods = self.node(node)["pods"].as_array().unwrap().clone();
        pods.iter()
            .map(|pod| Pod { place: format!("{node}/{}", text(&pod["pod"])), address: address(&pod["address"]) })
            .collect()
    }

    fn pod(&self, node: &str, name: &str) -> Pod {
        self.lab.must(&["pod", "add", node, &format!("default/{name}")]).unwrap();
        let place = format!("{node}/default/{name}");
        self.pods(node).into_iter().find(|pod| pod.place == place).unwrap()
    }

    /// An echo request with an answer.
    fn reaches(&self, from: &Pod, to: Ipv4Addr) -> bool {
        let report = self.exec(&from.place, &["vpc-lab", "tool", "ping", &to.to_string()]);
        let report: Value = serde_json::from_str(&report).unwrap();
        !report["echoes"][0]["answer"].is_null()
    }

    /// What a host of the internet says to the pod: which source it saw.
    fn visits(&self, from: &Pod) -> String {
        let reply = self.exec(&from.place, &["vpc-lab", "tool", "get", &format!("http://{PUBLIC}/")]);
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["status"], 200, "{reply}");
        text(&reply["body"]).to_owned()
    }

    /// Every call of EC2 and IMDS.
    fn calls(&self) -> Vec<Value> {
        self.lab.json(&["calls", "--json"]).unwrap().as_array().unwrap().clone()
    }

    /// `kubectl ARGUMENTS` as the lab's administrator.
    fn kubectl(&self, arguments: &[&str]) -> String {
        let tools = strangers::go_tools("kube").unwrap();
        let shown = self.lab.must(&["env"]).unwrap();
        let config =
            shown.lines().find_map(|line| line.split_once("KUBECONFIG=")).unwrap().1.trim_matches(['\'', '"', ';']);
        let ran = Command::new(tools.join("kubectl"))
            .args(arguments)
            .env("KUBECONFIG", PathBuf::from(config))
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "kubectl {arguments:?}\n{out}{err}");
        out.into_owned()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pod {
    place: String,
    address: Ipv4Addr,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

fn address(value: &Value) -> Ipv4Addr {
    text(value).parse().unwrap()
}

/// Addresses in the picture of `ip -o rule`: those rules of one priority are about.
fn rules(of_node: &str, priority: u32) -> Vec<Ipv4Addr> {
    let start = format!("{priority}:");
    let line = |line: &str| {
        let words: Vec<_> = line.strip_prefix(&start)?.split_whitespace().map(str::to_owned).collect();
        // `from all to ADDRESS lookup main`, `from ADDRESS lookup 2`
        words.iter().find_map(|word| word.parse().ok())
    };
    of_node.lines().filter_map(line).collect()
}

/// Nothing that the reference asked of EC2 was refused, whatever it was; and only what it may miss was missing from the metadata.
fn nothing_was_refused(judged: &Judged) {
    let calls = judged.calls();
    let of_nodes: Vec<_> = calls.iter().filter(|call| !call["caller_name"].is_null()).collect();
    let refused: Vec<_> = of_nodes.iter().filter(|call| call["service"] == "ec2" && !call["error"].is_null()).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    // An ENI without prefixes has no list of them, nor one without a public address.
    let may_miss =
        ["/ipv4-prefix", "/public-ipv4s", "/ipv6s", "/ipv6-prefix", "/subnet-ipv6-cidr-blocks", "/tags/instance"];
    let missed: Vec<_> = of_nodes
        .iter()
        .filter(|call| call["service"] == "imds" && !call["error"].is_null())
        .filter(|call| !may_miss.iter().any(|path| text(&call["action"]).contains(path)))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
    let asked = |action: &str| of_nodes.iter().any(|call| call["action"] == action);
    assert!(asked("AssignPrivateIpAddresses") && asked("DescribeSubnets"), "its calls are not in the list");
}

#[test]
fn the_reference_runs_unchanged() {
    const TEST: &str = "the_reference_runs_unchanged";
    let nodes: [Node; 2] = [("node-a", "private-a", &[]), ("node-b", "private-b", &[])];
    let judged = match Judged::up(&nodes) {
        Ok(judged) => judged,
        Err(reason) => return skip(TEST, &reason),
    };
    let (one, two) = (judged.pod("node-a", "one"), judged.pod("node-a", "two"));
    let three = judged.pod("node-b", "three");
    packets(&judged, &one, &two, &three);
    kernel(&judged, &one, &two);
    second_eni(&judged, &three);
    if let Err(reason) = strangers::go_tools("kube") {
        skip(TEST, &reason);
    } else {
        pods_of_the_api(&judged, &three);
    }
    deletion(&judged);
    nothing_was_refused(&judged);
}

/// On one node, across nodes, and to the internet.
fn packets(judged: &Judged, one: &Pod, two: &Pod, three: &Pod) {
    assert!(judged.reaches(one, two.address), "on one node");
    assert!(judged.reaches(one, three.address) && judged.reaches(three, one.address), "across nodes");
    // The NAT gateway's address is what the internet sees.
    let status = judged.lab.json(&["status", "--json"]).unwrap();
    let nat = text(&status["nat_gateways"][0][2]).to_owned();
    let greeting = judged.visits(one);
    assert!(greeting.contains(&nat), "{greeting}");
    // On the way there the node's address stands in for the pod's, but not inside the VPC: the node's own tracking says so.
    let primary = text(&judged.enis("node-a")[0]["primary"]).to_owned();
    let nat_rules = judged.exec("node-a", &["iptables-save", "-t", "nat"]);
    let counted = judged.exec("node-a", &["iptables-save", "-c", "-t", "nat"]);
    let snat = |line: &&str| line.contains(&format!("SNAT --to-source {primary}"));
    assert!(nat_rules.lines().any(|line| snat(&line)), "{nat_rules}");
    let snat = counted.lines().find(snat).unwrap();
    assert!(!snat.starts_with("[0:"), "no packet went through the rule: {snat}");
}

/// The rules, routes and marks on the node are those the reference makes on EC2.
fn kernel(judged: &Judged, one: &Pod, two: &Pod) {
    let shown = judged.exec("node-a", &["ip", "rule"]);
    let to_pods = rules(&shown, 512);
    assert!(to_pods.contains(&one.address) && to_pods.contains(&two.address), "{shown}");
    assert!(shown.contains("fwmark 0x80/0x80 lookup main"), "{shown}");
    let routes = judged.exec("node-a", &["ip", "route"]);
    let route = format!("{} dev eni", one.address);
    assert!(routes.lines().any(|line| line.starts_with(&route) && line.contains("scope link")), "{routes}");
    let mangle = judged.exec("node-a", &["iptables-save", "-t", "mangle"]);
    assert!(mangle.contains("--restore-mark --nfmask 0x80 --ctmask 0x80"), "{mangle}");
    // Its watches of the Kubernetes API (169.254.169.201:443) are held: established, as the kernel writes it.
    let connections = judged.exec("node-a", &["cat", "/proc/net/tcp"]);
    assert!(connections.contains("C9A9FEA9:01BB 01"), "{connections}");
    let log =
        judged.exec("node-a", &["cat", "/var/log/aws-routed-eni/ipamd.log", "/var/log/aws-routed-eni/plugin.log"]);
    let bad: Vec<_> = log.lines().filter(|line| line.contains(r#""level":"error""#)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    // What its init container sets.
    assert_eq!(judged.exec("node-a", &["cat", "/proc/sys/net/ipv4/conf/eth0/rp_filter"]).trim(), "2");
    let link = judged.exec("node-a/default/one", &["ip", "-o", "link", "show", "eth0"]);
    assert!(link.contains("mtu 9001"), "{link}");
}

/// More pods than an ENI of an m5.large has addresses for: those of the second one leave by it.
fn second_eni(judged: &Judged, far: &Pod) {
    judged.lab.must(&["pod", "scale", "node-a", "12"]).unwrap();
    let shown = judged.exec("node-a", &["ip", "rule"]);
    let by_the_second = rules(&shown, 1536);
    assert!(by_the_second.len() >= 5, "9 of 14 pods fit on the first: {shown}");
    let enis = judged.enis("node-a");
    assert!(enis.len() >= 2, "{enis:#?}");
    let table = judged.exec("node-a", &["ip", "route", "show", "table", "2"]);
    assert!(table.contains("default via 10.20.8.1 dev eth1"), "{table}");
    let pods = judged.pods("node-a");
    let pod = pods.iter().find(|pod| by_the_second.contains(&pod.address)).unwrap();
    let sent =
        || judged.exec("node-a", &["cat", "/sys/class/net/eth1/statistics/tx_packets"]).trim().parse::<u64>().unwrap();
    let before = sent();
    for _ in 0..5 {
        assert!(judged.reaches(pod, far.address), "{pod:?} on the second ENI");
    }
    assert!(sent() >= before + 5, "its packets did not leave by eth1");
    assert!(pods.iter().all(|pod| judged.reaches(far, pod.address)), "not every pod is reached from the other node");
    // To the internet it goes through the primary ENI, and comes back.
    judged.visits(pod);
}

/// Pods that come and go through the Kubernetes API.
fn pods_of_the_api(judged: &Judged, far: &Pod) {
    judged.kubectl(&["run", "from-api", "--image=pause", "--overrides", r#"{"spec":{"nodeName":"node-a"}}"#]);
    let shown = || judged.kubectl(&["get", "pod", "from-api", "-o", "jsonpath={.status.podIP}"]);
    let address = wait_until("the pod's address in the API", PATIENCE, shown, |shown| !shown.is_empty());
    assert!(judged.reaches(far, address.parse().unwrap()));
    judged.kubectl(&["delete", "pod", "from-api", "--wait=true"]);
    let rules_left = || rules(&judged.exec("node-a", &["ip", "rule"]), 512);
    wait_until("its rule is gone", PATIENCE, rules_left, |rules| !rules.contains(&address.parse().unwrap()));
}

/// Nothing is left of deleted pods in the kernel, and their ENI goes back to EC2.
fn deletion(judged: &Judged) {
    judged.lab.must(&["pod", "scale", "node-a", "0"]).unwrap();
    for pod in ["default/one", "default/two"] {
        judged.lab.must(&["pod", "del", "node-a", pod]).unwrap();
    }
    let shown = judged.exec("node-a", &["ip", "rule"]);
    assert!(rules(&shown, 512).is_empty() && rules(&shown, 1536).is_empty(), "{shown}");
    // The reference leaves a pod's link to the kernel, which ends a namespace in its own time.
    let links = || judged.exec("node-a", &["ip", "-o", "link"]);
    wait_until("no pod's link is left", PATIENCE, links, |links| !links.contains(": eni"));
    // Addresses rest for 30 s, then ENIs that nobody needs are detached and deleted.
    let enis = || judged.enis("node-a").len();
    wait_until("ENIs beyond the first are given back", 3 * PATIENCE, enis, |enis| *enis == 1);
}

#[test]
fn the_reference_delegates_prefixes() {
    let node: Node = ("node-a", "private-a", &[("ENABLE_PREFIX_DELEGATION", "true")]);
    let judged = match Judged::up(&[node]) {
        Ok(judged) => judged,
        Err(reason) => return skip("the_reference_delegates_prefixes", &reason),
    };
    judged.lab.must(&["pod", "scale", "node-a", "20"]).unwrap();
    let eni = &judged.enis("node-a")[0];
    let prefixes: Vec<ipnet::Ipv4Net> =
        eni["prefixes"].as_array().unwrap().iter().map(|prefix| text(prefix).parse().unwrap()).collect();
    assert!(prefixes.len() >= 2 && eni["secondary"].as_array().unwrap().is_empty(), "{eni:#}");
    let pods = judged.pods("node-a");
    assert_eq!(pods.len(), 20);
    for pod in &pods {
        assert!(prefixes.iter().any(|prefix| prefix.contains(&pod.address)), "{pod:?} is in none of {prefixes:?}");
        assert!(judged.reaches(&pods[0], pod.address), "{pod:?}");
    }
    judged.visits(&pods[19]);
    nothing_was_refused(&judged);
}

/// Our programs on the node of the swap, beside the reference's.
fn ours(programs: &Path) -> String {
    let file = |name: &str| {
        format!(r#"{{ path = "/ours/{name}", source = "{}", mode = 0o755 }}"#, programs.join(name).display())
    };
    ["aws-k8s-agent", "aws-cni"].map(file).join(", ")
}

#[test]
fn ours_takes_a_node_over_from_the_reference() {
    let nodes: [Node; 2] = [("node-a", "private-a", &[]), ("node-b", "private-b", &[])];
    let judged = match Judged::up_with(&nodes, ours) {
        Ok(judged) => judged,
        Err(reason) => return skip("ours_takes_a_node_over_from_the_reference", &reason),
    };
    let far = judged.pod("node-b", "far");
    judged.lab.must(&["pod", "scale", "node-a", "12"]).unwrap();
    let before = judged.pods("node-a");
    let checkpoint = |what: &str| {
        let all: Value = serde_json::from_str(&judged.exec("node-a", &["cat", "/var/run/aws-node/ipam.json"])).unwrap();
        let mut held: Vec<_> = all["allocations"].as_array().unwrap().iter().map(|one| address(&one["ipv4"])).collect();
        held.sort();
        assert_eq!(all["version"], "vpc-cni-ipam/1", "{what}");
        held
    };
    let held = checkpoint("the reference");
    let second = rules(&judged.exec("node-a", &["ip", "rule"]), 1536);
    assert!(!second.is_empty(), "no pod is on the second ENI");

    // A new image in the same daemon set: other programs at the same paths.
    judged.lab.must(&["daemon", "stop", "node-a"]).unwrap();
    judged.exec("node-a", &["sh", "-c", "cp /ours/* /app/ && cp /ours/aws-cni /opt/cni/bin/aws-cni"]);
    assert!(before.iter().all(|pod| judged.reaches(&far, pod.address)), "pods talk while there is no daemon");
    judged.lab.must(&["daemon", "start", "node-a"]).unwrap();
    let log = judged.exec("node-a", &["sh", "-c", "cat /proc/[0-9]*/comm"]);
    assert!(log.contains("aws-k8s-agent"), "{log}");

    assert_eq!(judged.pods("node-a"), before);
    assert_eq!(checkpoint("ours"), held, "ours remembers other addresses than the reference wrote down");
    for pod in &before {
        assert!(judged.reaches(&far, pod.address) && judged.reaches(pod, far.address), "{pod:?} after the swap");
        judged.visits(pod);
    }
    let new = judged.pod("node-a", "new");
    assert!(!held.contains(&new.address), "{new:?} was given an address that is taken");
    assert!(judged.reaches(&new, far.address) && judged.reaches(&new, before[0].address));
    judged.visits(&new);

    // Pods that the reference made are deleted by ours.
    judged.lab.must(&["pod", "scale", "node-a", "0"]).unwrap();
    let shown = judged.exec("node-a", &["ip", "rule"]);
    assert_eq!(rules(&shown, 512), [new.address], "{shown}");
    assert!(rules(&shown, 1536).iter().all(|own| *own == new.address), "{shown}");
    assert_eq!(checkpoint("ours, without the reference's pods"), [new.address]);
    assert!(judged.reaches(&new, far.address));
    nothing_was_refused(&judged);
}
