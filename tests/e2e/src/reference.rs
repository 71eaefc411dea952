//! The reference: the VPC CNI that AWS publishes, built from its Go module and put on nodes as its two container images and its
//! daemon set put it on real ones. Not a word of it is ours: programs, templates and the environment come out of the module.
//!
//! ```text
//!   /init   the init container:   aws-vpc-cni-init and the CNI project's plugins, which it installs on the host
//!   /app    the daemon container: aws-vpc-cni starts aws-k8s-agent, waits until it serves, and writes the conflist
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{root, strangers};

/// The Go module below `tests/strangers`.
const OURS: &str = "reference";
/// The module it is about.
const MODULE: &str = "github.com/aws/amazon-vpc-cni-k8s";
/// What lies in the images, by the tool's name.
const IMAGES: [(&str, &str); 9] = [
    ("/app/aws-k8s-agent", "aws-k8s-agent"),
    ("/app/aws-cni", "routed-eni-cni-plugin"),
    ("/app/egress-cni", "egress-cni-plugin"),
    ("/app/aws-vpc-cni", "aws-vpc-cni"),
    ("/app/grpc-health-probe", "grpc-health-probe"),
    ("/init/aws-vpc-cni-init", "aws-vpc-cni-init"),
    ("/init/loopback", "loopback"),
    ("/init/portmap", "portmap"),
    ("/init/host-local", "host-local"),
];
/// What lies in the images, by its path in the module.
const DATA: [(&str, &str); 2] =
    [("/app/10-aws.conflist", "misc/10-aws.conflist"), ("/app/eni-max-pods.txt", "misc/eni-max-pods.txt")];
/// The manifest that people apply.
const MANIFEST: &str = "config/master/aws-k8s-cni.yaml";

/// With it every ADD asks the network policy agent, which is another project's daemon.
const POLICY_MODE: &str = "NETWORK_POLICY_ENFORCING_MODE";

/// The reference, built.
#[derive(Clone, Debug)]
pub struct Reference {
    tools: PathBuf,
    sources: PathBuf,
}

impl Reference {
    /// Builds it. `Err` is the reason to skip a test with.
    ///
    /// # Errors
    /// There is no Go, or no `iptables`, which the daemon runs.
    ///
    /// # Panics
    /// When Go is there and it does not build.
    #[expect(clippy::expect_used, reason = "a crate of tests")]
    pub fn built() -> Result<Self, String> {
        let iptables = Command::new("iptables").arg("--version").stdin(Stdio::null()).output();
        if !iptables.is_ok_and(|iptables| iptables.status.success()) {
            return Err("`iptables` is not installed".to_owned());
        }
        let tools = strangers::go_tools(OURS)?;
        let mut list = Command::new("go");
        list.args(["list", "-m", "-f", "{{.Dir}}", MODULE]).current_dir(root().join("tests/strangers").join(OURS));
        let listed = list.output().expect("go has just been run");
        let sources = PathBuf::from(String::from_utf8_lossy(&listed.stdout).trim());
        assert!(sources.join(MANIFEST).is_file(), "{MODULE} is not at {}", sources.display());
        Ok(Self { tools, sources })
    }

    /// The files of the images, as the value of `files` in a topology.
    #[must_use]
    pub fn files(&self) -> String {
        let file = |path: &str, source: &Path, mode: &str| {
            format!(r#"{{ path = "{path}", source = "{}", mode = {mode} }}"#, source.display())
        };
        let programs = IMAGES.iter().map(|(path, tool)| file(path, &self.tools.join(tool), "0o755"));
        let data = DATA.iter().map(|(path, name)| file(path, &self.sources.join(name), "0o644"));
        format!("[\n{}\n]", programs.chain(data).collect::<Vec<_>>().join(",\n"))
    }

    /// The environment that the daemon set gives: every variable of its manifest with a value, but for the one that makes the plugin
    /// ask a network policy agent. Its chart leaves that out, too, where the agent is disabled, as here.
    ///
    /// # Panics
    /// When the manifest can not be read.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a crate of tests")]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let manifest = fs::read_to_string(self.sources.join(MANIFEST)).expect("the manifest");
        let daemon_set = manifest.split("\n---").find(|text| text.contains("kind: DaemonSet")).expect("a daemon set");
        let lines: Vec<_> = daemon_set.lines().map(str::trim).collect();
        let pair = |pair: &[&str]| {
            let [name, value] = pair else { return None };
            let value = value.strip_prefix("value: ")?.trim_matches('"');
            let name = name.strip_prefix("- name: ").filter(|name| *name != POLICY_MODE)?;
            Some((name.to_owned(), value.to_owned()))
        };
        // Its two containers share some of them.
        lines.windows(2).filter_map(pair).collect()
    }

    /// `[node_defaults]` of a topology whose nodes run it.
    #[must_use]
    pub fn node_defaults(&self) -> String {
        let env: Vec<_> = self.environment().iter().map(|(name, value)| format!("{name} = '{value}'")).collect();
        format!(
            r#"
[node_defaults]
init = {{ command = ["/init/aws-vpc-cni-init"], cwd = "/init" }}
daemon = {{ command = ["/app/aws-vpc-cni"], cwd = "/app" }}
restart = "always"
files = {}
[node_defaults.env]
{}
"#,
            self.files(),
            env.join("\n")
        )
    }

    /// What the daemon set's variables with a `fieldRef` are on one node, as the value of `env`, with other variables set beside.
    #[must_use]
    pub fn of_node(node: &str, other: &[(&str, &str)]) -> String {
        let pod = format!("aws-node-{node}");
        let own = [("MY_NODE_NAME", node), ("MY_POD_NAME", pod.as_str())];
        let all: Vec<_> = own.iter().chain(other).map(|(name, value)| format!(r#"{name} = "{value}""#)).collect();
        format!("{{ {} }}", all.join(", "))
    }

    /// The pod of the daemon set that the daemon on a node takes itself for, as an entry of `objects`.
    #[must_use]
    pub fn own_pod(node: &str) -> String {
        format!(
            r#"
[[objects]]
apiVersion = "v1"
kind = "Pod"
metadata = {{ name = "aws-node-{node}", namespace = "kube-system", labels = {{ k8s-app = "aws-node" }} }}
[objects.spec]
nodeName = "{node}"
hostNetwork = true
serviceAccountName = "aws-node"
containers = [{{ name = "aws-node", image = "amazon-k8s-cni" }}]
"#
        )
    }
}
