//! Where scenes are played: a lab, a voice, and a list of what was not true.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::capture::{Capture, Packet};
use crate::control::{NodeStatus, Place};
use crate::kubelet::{PodName, PodStatus};
use crate::tools::{HttpOptions, PingOptions};
use crate::topology::{NodeFile, TopologyFile};
use crate::{Lab, StartOptions};

/// Why a scene could not go on (not: something was found untrue; that is counted, and the scene goes on).
pub(super) type SceneError = anyhow::Error;

/// One performance.
pub(super) struct Stage {
    colour: bool,
    checks: u32,
    untrue: Vec<String>,
    scene: String,
    started: Instant,
}

impl Stage {
    pub(super) fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some();
        Self {
            colour: io::stdout().is_terminal() && !plain,
            checks: 0,
            untrue: Vec::new(),
            scene: String::new(),
            started: Instant::now(),
        }
    }

    pub(super) fn begin(&mut self, number: usize, title: &str, story: &str) {
        self.scene = format!("scene {number}");
        self.line("");
        self.line(&self.paint(
            "1;36",
            &format!("━━ {number}. {title} {}", "━".repeat(100_usize.saturating_sub(title.chars().count() + 6))),
        ));
        self.line(&self.paint("2", &format!("   {story}")));
    }

    /// Says something.
    pub(super) fn line(&self, text: &str) {
        // A closed pipe (`| head`) is no reason to fail.
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// Something that must be true for the story to hold.
    pub(super) fn check(&mut self, what: impl AsRef<str>, holds: bool) {
        self.checks += 1;
        let what = what.as_ref();
        if holds {
            self.line(&format!("   {} {what}", self.paint("32", "✓")));
        } else {
            self.line(&format!("   {} {what}", self.paint("1;31", "✗ NOT TRUE:")));
            self.untrue.push(format!("{}: {what}", self.scene));
        }
    }

    /// Two values that must be the same.
    pub(super) fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: impl AsRef<str>, got: &T, wanted: &T) {
        let what = what.as_ref();
        if got == wanted {
            self.check(what, true);
        } else {
            self.check(format!("{what}: expected {wanted:?}, got {got:?}"), false);
        }
    }

    /// A scene that broke off.
    pub(super) fn broke(&mut self, error: &SceneError) {
        self.check(format!("the scene could be played to its end: {error:#}"), false);
    }

    /// The last words; whether everything was true.
    pub(super) fn end(&self) -> bool {
        self.line("");
        let seconds = self.started.elapsed().as_secs_f64();
        if self.untrue.is_empty() {
            let all = format!("All {} statements are true. {seconds:.1} s.", self.checks);
            self.line(&self.paint("1;32", &all));
        } else {
            let some = format!("{} of {} statements are not true. {seconds:.1} s.", self.untrue.len(), self.checks);
            self.line(&self.paint("1;31", &some));
            for what in &self.untrue {
                self.line(&format!("   ✗ {what}"));
            }
        }
        self.untrue.is_empty()
    }

    pub(super) fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The slots of a node's ENIs: filled by a pod, warm, or not fetched.
    pub(super) fn draw_node(&self, node: &NodeStatus) {
        let ready = match node.daemon.as_ref().and_then(|daemon| daemon.ready_after_ms) {
            Some(ms) => format!("ready {ms} ms after its daemon's start"),
            None => "not ready".to_owned(),
        };
        let head = format!("   {:<8} {} in {}, {ready}", node.name, node.instance_type, node.zone);
        self.line(&self.paint("1", &head));
        let taken: Vec<Ipv4Addr> = node.pods.iter().filter_map(|pod| pod.address).collect();
        for eni in &node.enis {
            let mut slots = String::new();
            for address in &eni.secondary {
                let cell = if taken.contains(address) { self.paint("1;33", "■") } else { self.paint("32", "□") };
                let _ = write!(slots, "{cell} ");
            }
            for prefix in &eni.prefixes {
                let net: Option<ipnet::Ipv4Net> = prefix.parse().ok();
                let pods = taken.iter().filter(|address| net.is_some_and(|net| net.contains(*address))).count();
                let code = if pods > 0 { "1;33" } else { "32" };
                let _ = write!(slots, "{} ", self.paint(code, &format!("[{pods:>2}/16]")));
            }
            for _ in eni.slots_used..eni.slots {
                let _ = write!(slots, "{} ", self.paint("2", "·"));
            }
            let link = eni.link.as_deref().unwrap_or("(no link)");
            self.line(&format!("     {link:<5} {:<13} {slots} {}", eni.primary.to_string(), self.paint("2", &eni.id)));
        }
    }

    pub(super) fn legend(&self) {
        let (pod, warm, none) = (self.paint("1;33", "■"), self.paint("32", "□"), self.paint("2", "·"));
        self.line(&format!("     {pod} a pod's   {warm} warm   {none} not fetched"));
    }

    /// The way of a packet, hop by hop.
    pub(super) fn draw_path(&self, hops: &[String]) {
        let arrow = self.paint("36", " ──▶ ");
        self.line(&format!("     {}", hops.join(&arrow)));
    }
}

/// A lab with the built-in subnets and these nodes (none: the built-in ones). It ends when dropped.
pub(super) fn open(nodes: Vec<NodeFile>) -> Result<Lab, SceneError> {
    let mut file = TopologyFile::built_in()?;
    if !nodes.is_empty() {
        file.nodes = nodes;
    }
    open_file(file)
}

/// A lab of a topology. It ends when dropped.
pub(super) fn open_file(file: TopologyFile) -> Result<Lab, SceneError> {
    let name = format!("demo-{}", std::process::id());
    let options = StartOptions { name, dies_with_me: true, ..StartOptions::default() };
    let (lab, warnings) = Lab::start(&file.resolve()?, &options)?;
    if warnings.is_empty() { Ok(lab) } else { Err(anyhow::anyhow!(warnings.join("\n"))) }
}

/// A node in a subnet with settings of its daemon.
pub(super) fn node(name: &str, subnet: &str, env: &[(&str, &str)]) -> NodeFile {
    let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    NodeFile { name: name.to_owned(), subnet: subnet.to_owned(), env, ..NodeFile::default() }
}

/// What a scene does in a lab.
pub(super) trait Play {
    fn node_status(&self, node: &str) -> Result<NodeStatus, SceneError>;
    fn pod(&self, node: &str, name: &str) -> Result<PodStatus, SceneError>;
    /// Whether an echo request is answered.
    fn reaches(&self, from: &Place, to: Ipv4Addr) -> Result<bool, SceneError>;
    /// Whether a web request is answered.
    fn browses(&self, from: &Place, to: Ipv4Addr) -> Result<bool, SceneError>;
    /// The port of the fabric that a node's ENI is plugged into.
    fn port_of(&self, node: &str, link: &str) -> Result<String, SceneError>;
}

impl Play for Lab {
    fn node_status(&self, node: &str) -> Result<NodeStatus, SceneError> {
        let status = self.status()?;
        status.nodes.into_iter().find(|seen| seen.name == node).ok_or_else(|| anyhow::anyhow!("no node {node}"))
    }

    fn pod(&self, node: &str, name: &str) -> Result<PodStatus, SceneError> {
        Ok(self.pod_add(node, &pod_name(name)?, 1)?)
    }

    fn reaches(&self, from: &Place, to: Ipv4Addr) -> Result<bool, SceneError> {
        let once = PingOptions { count: 1, timeout: Duration::from_secs(1), ..PingOptions::default() };
        Ok(self.ping(from, to, &once)?.all_answered())
    }

    fn browses(&self, from: &Place, to: Ipv4Addr) -> Result<bool, SceneError> {
        Ok(self.http(from, &format!("http://{to}/"), &HttpOptions::default())?.status == 200)
    }

    fn port_of(&self, node: &str, link: &str) -> Result<String, SceneError> {
        let status = self.status()?;
        let node =
            status.nodes.iter().find(|seen| seen.name == node).ok_or_else(|| anyhow::anyhow!("no node {node}"))?;
        let eni = node.enis.iter().find(|eni| eni.link.as_deref() == Some(link));
        let eni = eni.ok_or_else(|| anyhow::anyhow!("{} has no link {link}", node.name))?;
        let port = status.fabric.ports.iter().find(|port| port.eni.to_string() == eni.id);
        Ok(port.ok_or_else(|| anyhow::anyhow!("{} is plugged in nowhere", eni.id))?.link.clone())
    }
}

pub(super) fn pod_name(name: &str) -> Result<PodName, SceneError> {
    format!("default/{name}").parse().map_err(anyhow::Error::msg)
}

pub(super) fn in_pod(node: &str, name: &str) -> Result<Place, SceneError> {
    Ok(Place::Pod(node.to_owned(), pod_name(name)?))
}

pub(super) fn address(pod: &PodStatus) -> Result<Ipv4Addr, SceneError> {
    pod.address.ok_or_else(|| anyhow::anyhow!("{} has no address", pod.pod))
}

/// The first packet that a capture has, or gets within a second, of that kind.
pub(super) fn seen(capture: &Capture, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
    capture.wait_for(Duration::from_secs(1), wanted)
}

/// Waits, at most so long, until something holds.
pub(super) fn within(
    at_most: Duration,
    mut holds: impl FnMut() -> Result<bool, SceneError>,
) -> Result<bool, SceneError> {
    let deadline = Instant::now() + at_most;
    loop {
        if holds()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}
