//! The list that the daemon writes, with everything it can hold, in the lab: the CNI project's own `portmap`, `bandwidth` and `tuning`
//! behind our two plugins, called by the project's `cnitool` and by the lab's kubelet. What each promises is looked for on the wire, on
//! the clock and in the kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use e2e::lab::{Lab, User};
use e2e::{skip, strangers};
use serde_json::{Value, json};

/// What the bandwidth plugin is asked for, in bits a second, and how many bits may come at once.
const RATE: u64 = 80_000_000;
const BURST: u64 = 1_600_000;

/// Two nodes; on the first the daemon is asked for every plugin it can put into its list.
fn lab() -> Result<Lab, String> {
    let user = User::myself()?;
    e2e::program("egress-cni")?;
    let tools = strangers::go_tools("cni")?;
    let placed = ["cnitool", "portmap", "bandwidth", "tuning"].map(|name| {
        format!(r#"{{ path = "/opt/cni/bin/{name}", source = "{}", mode = 0o755 }}"#, tools.join(name).display())
    });
    let topology = format!(
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
env = {{ ENABLE_BANDWIDTH_PLUGIN = "true", DISABLE_POD_V6 = "true" }}
files = [{}]
[[nodes]]
name = "far"
subnet = "private-a"
"#,
        placed.join(", ")
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.toml");
    fs::write(&file, topology).unwrap();
    Ok(Lab::up(&user, Some(&file)).unwrap())
}

/// A program that goes on in a node until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A sandbox on node `ours` that `cnitool` gives a network.
struct Sandbox<'a> {
    lab: &'a Lab,
    name: &'static str,
    /// What the runtime has for the plugins' capabilities.
    capabilities: Value,
}

impl<'a> Sandbox<'a> {
    fn new(lab: &'a Lab, name: &'static str, capabilities: Value) -> Self {
        let own = Self { lab, name, capabilities };
        on(lab, "ours", &["ip", "netns", "add", name]);
        own
    }

    fn call(&self, verb: &str) -> String {
        let output = self.lab.run(&self.command(verb)).unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{verb}: {out}{err}");
        out.into_owned()
    }

    fn fails(&self, verb: &str) -> String {
        let output = self.lab.run(&self.command(verb)).unwrap();
        assert!(!output.status.success(), "{verb}: {output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    fn command(&self, verb: &str) -> Vec<&'static str> {
        let args = format!(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={0};K8S_POD_INFRA_CONTAINER_ID={0}",
            self.name
        );
        let words = [
            "exec".to_owned(),
            "ours".to_owned(),
            "--".to_owned(),
            "env".to_owned(),
            "CNI_PATH=/opt/cni/bin".to_owned(),
            "NETCONFPATH=/etc/cni/checked".to_owned(),
            args,
            format!("CAP_ARGS={}", self.capabilities),
            "/opt/cni/bin/cnitool".to_owned(),
            verb.to_owned(),
            "aws-cni".to_owned(),
            format!("/var/run/netns/{}", self.name),
        ];
        words.map(|word| &*word.leak()).into()
    }

    fn inside(&self, command: &[&str]) -> String {
        on(self.lab, "ours", &[&["ip", "netns", "exec", self.name], command].concat())
    }

    /// Starts one of the lab's tools in the sandbox and waits until it listens; its standard output is left to be read.
    fn start(&self, tool: &[&str]) -> (Running, BufReader<std::process::ChildStdout>) {
        let words =
            ["exec", "ours", "--lab", self.lab.name(), "--", "ip", "netns", "exec", self.name, "vpc-lab", "tool"];
        let mut command = User::myself().unwrap().vpc_lab(&[&words[..], tool].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{tool:?}");
        (Running(child), out)
    }

    /// Bits a second that the far node gets into the sandbox within about two seconds, the burst left out.
    fn rate(&self, address: &str) -> u64 {
        let (_sink, mut out) = self.start(&["sink", "7000"]);
        on(self.lab, "far", &["vpc-lab", "tool", "pour", address, "7000", "--millis", "2000"]);
        let mut told = String::new();
        out.read_to_string(&mut told).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"));
        let (bytes, micros) = (told["bytes"].as_u64().unwrap(), told["micros"].as_u64().unwrap());
        assert!(bytes > 0, "{told}");
        (bytes * 8).saturating_sub(BURST) * 1_000_000 / micros
    }
}

fn on(lab: &Lab, node: &str, command: &[&str]) -> String {
    lab.must(&[&["exec", node, "--"], command].concat()).unwrap()
}

fn address(result: &str) -> String {
    let result: Value = serde_json::from_str(result).unwrap_or_else(|e| panic!("{e}: {result}"));
    let text = result["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("{result:#}"));
    text.split('/').next().unwrap().to_owned()
}

/// The daemon's list; and a copy of it that does not switch CHECK off, where `cnitool` looks.
fn lists(lab: &Lab) -> Vec<String> {
    let mut list: Value = serde_json::from_str(&on(lab, "ours", &["cat", "/etc/cni/net.d/10-aws.conflist"])).unwrap();
    assert_eq!(list["disableCheck"], true);
    list.as_object_mut().unwrap().remove("disableCheck");
    let write = "mkdir -p /etc/cni/checked && printf %s \"$1\" > /etc/cni/checked/10-aws.conflist";
    on(lab, "ours", &["sh", "-c", write, "sh", &list.to_string()]);
    list["plugins"].as_array().unwrap().iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_chain_with_everything_keeps_what_each_plugin_promises() {
    const TEST: &str = "a_chain_with_everything_keeps_what_each_plugin_promises";
    let lab = match lab() {
        Ok(lab) => lab,
        Err(reason) => return skip(TEST, &reason),
    };
    assert_eq!(lists(&lab), ["aws-cni", "egress-cni", "portmap", "bandwidth", "tuning"]);
    let forwards = on(&lab, "ours", &["sh", "-c", "command -v iptables || command -v nft || true"]);
    let forwards = !forwards.is_empty();
    if !forwards {
        skip(TEST, "neither `iptables` nor `nft` is installed: the hostPort is left out, the rest is tested");
    }
    let ports = json!([{"hostPort": 9090, "containerPort": 8080, "protocol": "tcp"}]);
    let bandwidth = json!({"ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST});
    let mut capabilities = json!({"portMappings": if forwards { ports } else { json!([]) }});
    let shapes = lab.run(&["exec", "ours", "--", "ip", "link", "add", "probe", "type", "ifb"]).unwrap();
    if shapes.status.success() {
        on(&lab, "ours", &["ip", "link", "del", "probe"]);
        capabilities["bandwidth"] = bandwidth;
    } else {
        let why = String::from_utf8_lossy(&shapes.stderr).into_owned();
        skip(TEST, &format!("no links of type `ifb` in this kernel: the rate is left out, the rest is tested: {why}"));
    }
    let pod = Sandbox::new(&lab, "chained", capabilities);
    let added = pod.call("add");
    let own = address(&added);
    assert!(own.starts_with("10.20."), "{added}");
    pod.call("check");

    // tuning: what the list says is what the kernel in the pod says.
    for scope in ["all", "default", "lo"] {
        assert_eq!(
            pod.inside(&["cat", &format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")]).trim(),
            "1",
            "{scope}"
        );
    }

    // portmap: another node asks the node's own address.
    if forwards {
        let status = lab.json(&["status", "--json"]).unwrap();
        let node = |name: &str| {
            let node = status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap();
            node["enis"][0]["primary"].as_str().unwrap().to_owned()
        };
        let _serving = pod.start(&["serve", "8080"]);
        let reply = on(&lab, "far", &["vpc-lab", "tool", "get", &format!("http://{}:9090/", node("ours"))]);
        assert!(reply.contains(&format!("hello {},", node("far"))), "the pod answers whom it sees: {reply}");
    }

    // bandwidth: no more than was asked for, and far more without.
    let rate = pod.rate(&own);
    let free = Sandbox::new(&lab, "free", json!({}));
    let unlimited = free.rate(&address(&free.call("add")));
    println!("{rate} bit/s of {RATE}, {unlimited} bit/s without a limit");
    let limited = shapes.status.success();
    assert!(!limited || rate <= RATE + RATE / 10, "{rate} bit/s of {RATE}");
    assert!(unlimited > 2 * RATE, "the machine carries {unlimited} bit/s at most: nothing is shown");
    pod.call("check");

    // What a later plugin made is not ours to miss; what ours made is.
    pod.inside(&["ip", "route", "del", "default"]);
    let told = pod.fails("check");
    assert!(told.contains("in the pod, there is no default route"), "{told}");

    // DEL through the chain, twice, leaves nothing of any of them.
    for _ in 0..2 {
        pod.call("del");
        free.call("del");
    }
    on(&lab, "ours", &["sh", "-c", "ip netns del chained && ip netns del free"]);
    assert!(!on(&lab, "ours", &["ip", "rule"]).contains(&own));
    let rules = "iptables -t nat -S 2>/dev/null; nft list ruleset 2>/dev/null; true";
    let rules = on(&lab, "ours", &["sh", "-c", rules]);
    assert!(!rules.contains("9090"), "{rules}");
    let links = || on(&lab, "ours", &["ip", "-o", "link"]);
    let gone = |links: &String| !links.contains(": eni") && !links.contains("bwp");
    e2e::wait_until("the links of both are gone", Duration::from_secs(30), links, gone);
}

#[test]
fn the_lab_s_kubelet_plays_the_whole_list() {
    const TEST: &str = "the_lab_s_kubelet_plays_the_whole_list";
    let lab = match lab() {
        Ok(lab) => lab,
        Err(reason) => return skip(TEST, &reason),
    };
    lab.must(&["pod", "add", "ours", "default/web"]).unwrap();
    lab.must(&["pod", "add", "far", "default/peer"]).unwrap();
    let v6 = lab.must(&["exec", "ours/default/web", "--", "cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6"]).unwrap();
    assert_eq!(v6.trim(), "1");
    let pods = lab.json(&["pod", "list", "--json"]).unwrap().to_string();
    assert!(pods.contains("default/peer") || pods.contains("peer"), "{pods}");
    lab.must(&["pod", "del", "ours", "default/web"]).unwrap();
    lab.must(&["pod", "del", "far", "default/peer"]).unwrap();
}
