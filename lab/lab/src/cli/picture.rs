//! `vpc-lab status`: the lab as a picture.
//!
//! ```text
//!   VPC 10.20.0.0/16
//!   ├─ ap-northeast-2a                       zones, their subnets with free addresses and the way out,
//!   │  └─ private-a  10.20.8.0/22  ...       the nodes whose primary ENI is there,
//!   │     node-a  m5.large ...
//!   │       eth0  10.20.8.85  ■■□□·          their ENIs slot by slot,
//!   │         10.20.8.17  default/web        and pods
//!   gateways ...                             and around it everything else, a label and lines each
//! ```
//!
//! A line has at most [`WIDTH`] columns. Nothing here reads anything: the same status gives the same text.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use ipnet::Ipv4Net;

use crate::control::{EniStatus, LabStatus, NodeStatus, Place, SubnetStatus};
use crate::fault::FaultState;
use crate::kubelet::{Phase, PodStatus};

/// Columns of the picture.
const WIDTH: usize = 100;
/// Columns of a label below the tree.
const LABEL: usize = 12;
/// Slots on a line; a large type's go on below.
const SLOTS: usize = 30;
/// Lines of pods of one node, and of prefixes of one ENI, before the rest is only counted.
const POD_LINES: usize = 8;
const PREFIX_LINES: usize = 6;

/// A slot with an address: a pod has it, or nobody has it yet; an empty one.
const TAKEN: char = '■';
const WARM: char = '□';
const EMPTY: char = '·';
/// A slot with a prefix: pods have some of it, or nobody has.
const TAKEN_PREFIX: char = '▣';
const WARM_PREFIX: char = '▢';

/// What a colour's code begins with; it ends with an `m`.
const ESCAPE: char = '\x1b';

/// How the picture is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint {
    /// With a terminal's colours.
    pub(super) colours: bool,
    /// The moment it is painted.
    pub(super) now: SystemTime,
}

/// A colour, or a weight.
#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Good,
    Bad,
}

/// The whole lab.
pub(super) fn status(lab: &LabStatus, paint: Paint) -> String {
    let mut picture = Picture { lab, paint, out: String::new() };
    picture.head();
    picture.tree();
    picture.around();
    picture.signs();
    picture.out
}

struct Picture<'a> {
    lab: &'a LabStatus,
    paint: Paint,
    out: String,
}

impl Picture<'_> {
    fn ink(&self, ink: Ink, text: &str) -> String {
        if !self.paint.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Good => "32",
            Ink::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A line; what is too long ends with an ellipsis.
    fn line(&mut self, text: &str) {
        self.out += &cut(text, WIDTH);
        self.out.push('\n');
    }

    fn head(&mut self) {
        let lab = self.lab;
        let age = self.paint.now.duration_since(lab.since).unwrap_or_default();
        let pods: usize = lab.nodes.iter().map(|node| node.pods.len()).sum();
        let name = self.ink(Ink::Bold, &lab.lab);
        self.line(&format!(
            "lab {name} · up {} · {} · {}, {}",
            span(age),
            lab.region,
            count(lab.nodes.len(), "node"),
            count(pods, "pod")
        ));
        let cidrs = lab.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let vpc = self.ink(Ink::Bold, &format!("VPC {cidrs}"));
        self.line(&vpc);
    }

    // -- the tree --------------------------------------------------------------------------------------------------------

    fn tree(&mut self) {
        let lab = self.lab;
        let zones: BTreeSet<&str> = lab.subnets.iter().map(|subnet| subnet.zone.as_str()).collect();
        let last = zones.len().saturating_sub(1);
        for (i, zone) in zones.into_iter().enumerate() {
            let (branch, stem) = if i == last { ("└─", "   ") } else { ("├─", "│  ") };
            let name = self.ink(Ink::Bold, zone);
            self.line(&format!("{branch} {name}"));
            let subnets: Vec<_> = lab.subnets.iter().filter(|subnet| subnet.zone == zone).collect();
            let width = subnets.iter().map(|subnet| subnet.name.chars().count()).max().unwrap_or(0);
            for (k, subnet) in subnets.iter().enumerate() {
                let (branch, below) = if k + 1 == subnets.len() { ("└─", "   ") } else { ("├─", "│  ") };
                self.subnet(&format!("{stem}{branch} "), subnet, width);
                let nodes: Vec<_> = lab.nodes.iter().filter(|node| node.subnet == subnet.name).collect();
                nodes.into_iter().for_each(|node| self.node(&format!("{stem}{below}"), node));
            }
        }
        let placed = |node: &&NodeStatus| lab.subnets.iter().any(|subnet| subnet.name == node.subnet);
        let astray: Vec<_> = lab.nodes.iter().filter(|node| !placed(node)).collect();
        astray.into_iter().for_each(|node| self.node("", node));
    }

    fn subnet(&mut self, lead: &str, subnet: &SubnetStatus, width: usize) {
        let free = format!("{:>6} of {} free", subnet.free, subnet.usable);
        let free = format!("{free:<20}");
        let free = if subnet.free == 0 { self.ink(Ink::Bad, &free) } else { free };
        let cidr = subnet.cidr.to_string();
        self.line(&format!("{lead}{:<width$}  {cidr:<18} {free}  {}", subnet.name, subnet.way_out));
    }

    fn node(&mut self, lead: &str, node: &NodeStatus) {
        let (ink, state) = daemon(node);
        let state = self.ink(ink, &state);
        let name = self.ink(Ink::Bold, &node.name);
        let public = node.enis.first().and_then(|eni| eni.public);
        let public = public.map(|public| format!(" · public {public}")).unwrap_or_default();
        self.line(&format!("{lead}{name} · {} · {}{public} · {state}", node.instance_type, node.instance));
        for problem in
            node.problem.iter().flat_map(|problem| wrapped(&format!("! {problem}"), WIDTH - columns(lead).count() - 2))
        {
            let problem = self.ink(Ink::Bad, &problem);
            self.line(&format!("{lead}  {problem}"));
        }
        node.enis.iter().for_each(|eni| self.eni(&format!("{lead}  "), eni, node));
        self.pods(&format!("{lead}    "), &node.pods);
    }

    fn eni(&mut self, lead: &str, eni: &EniStatus, node: &NodeStatus) {
        let link = eni.link.as_deref().unwrap_or("-");
        let signs = slots(eni, &node.pods);
        let rows: Vec<String> = signs.chunks(SLOTS).map(|row| row.iter().collect()).collect();
        let first = rows.first().map(String::as_str).unwrap_or_default();
        let mut notes = String::new();
        if eni.subnet != node.subnet {
            let _ = write!(notes, " in {}", eni.subnet);
        }
        if eni.status != "attached" {
            let _ = write!(notes, " {}", eni.status);
        }
        let id = self.ink(Ink::Dim, &eni.id);
        let used = format!("{}/{}", eni.slots_used, eni.slots);
        self.line(&format!("{lead}{link:<5} {:<15} {first} {used:<5} {id}{notes}", eni.primary.to_string()));
        rows.iter().skip(1).for_each(|row| self.line(&format!("{lead}{:<22}{row}", "")));
        self.prefixes(&format!("{lead}{:<6}", ""), eni, &node.pods);
    }

    /// The prefixes pods have addresses of, address by address.
    fn prefixes(&mut self, lead: &str, eni: &EniStatus, pods: &[PodStatus]) {
        let nets = eni.prefixes.iter().filter_map(|text| text.parse::<Ipv4Net>().ok());
        let used: Vec<_> = nets.filter(|net| pods_in(net, pods) > 0).collect();
        for net in used.iter().take(PREFIX_LINES) {
            let has = |address: &Ipv4Addr| pods.iter().any(|pod| pod.address.as_ref() == Some(address));
            let all = net.network().to_bits()..=net.broadcast().to_bits();
            let signs: String =
                all.map(|bits| if has(&Ipv4Addr::from_bits(bits)) { TAKEN } else { WARM }).take(SLOTS).collect();
            self.line(&format!("{lead}{:<18} {signs} {}/16", net.to_string(), pods_in(net, pods)));
        }
        if used.len() > PREFIX_LINES {
            self.line(&format!("{lead}and {} more prefixes with pods", used.len() - PREFIX_LINES));
        }
    }

    /// Pods side by side.
    fn pods(&mut self, lead: &str, pods: &[PodStatus]) {
        let entries: Vec<_> = pods.iter().map(entry).collect();
        let width = entries.iter().map(|entry| entry.chars().count()).max().unwrap_or(0) + 2;
        let across = ((WIDTH - lead.chars().count()) / width).max(1);
        for row in entries.chunks(across).take(POD_LINES) {
            let row: String = row.iter().map(|entry| format!("{entry:<width$}")).collect();
            self.line(&format!("{lead}{}", row.trim_end()));
        }
        if entries.len() > across * POD_LINES {
            self.line(&format!("{lead}and {} more: vpc-lab pod list", entries.len() - across * POD_LINES));
        }
    }

    // -- around it -------------------------------------------------------------------------------------------------------

    /// A label and its lines; nothing where there are none.
    fn section(&mut self, label: &str, lines: impl IntoIterator<Item = String>) {
        for (i, line) in lines.into_iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            self.line(&format!("{label:<LABEL$} {line}"));
        }
    }

    fn around(&mut self) {
        let lab = self.lab;
        self.out.push('\n');
        let gateway = |(name, private, public): &(String, Ipv4Addr, Ipv4Addr)| format!("{name} {private} = {public}");
        self.section("NAT gateways", lab.nat_gateways.iter().map(gateway));
        let neighbours = lab.neighbours.iter().map(|neighbour| {
            format!("{} {} · hosts {}", neighbour.place, list(&neighbour.cidrs), list(&neighbour.hosts))
        });
        self.section("neighbours", neighbours);
        let endpoint =
            |own: &crate::control::EndpointStatus| format!("{} {} in {}", own.service, own.address, own.subnet);
        self.section("endpoints", lab.endpoints.iter().map(endpoint));
        self.section("services", lab.services.iter().map(|(name, address)| format!("{name} {address}")));
        self.section("internet", std::iter::once(list(&lab.public_hosts)).chain(self.visits()));
        self.section("this host", self.host());
        self.section("Kubernetes", [self.kubernetes()]);
        let active = lab.faults.iter().filter(|fault| fault.state == FaultState::Active);
        let active: Vec<_> = active.map(|fault| self.ink(Ink::Bad, super::fault::line(fault).trim_end())).collect();
        self.section("faults", active);
        self.section("dropped", self.dropped());
    }

    fn visits(&self) -> Vec<String> {
        let visit = |visit: &crate::fabric::Visit| {
            let place = if visit.place == Place::World { String::new() } else { format!(" ({})", visit.place) };
            format!("{}{place} saw {}:{} ask for {}", visit.host, visit.source, visit.port, visit.path)
        };
        self.lab.visits.iter().map(visit).collect()
    }

    fn host(&self) -> Vec<String> {
        let host = &self.lab.host;
        let Some(ec2) = host.ec2 else {
            return wrapped(host.problem.as_deref().unwrap_or("not connected"), WIDTH - LABEL - 1);
        };
        let kube = host.kube.map(|kube| format!(" · Kubernetes https://{kube}")).unwrap_or_default();
        vec![format!("EC2 http://{ec2}{kube} · eval \"$(vpc-lab env)\"")]
    }

    fn kubernetes(&self) -> String {
        let kube = &self.lab.kube;
        let object = |(resource, count): (&String, &usize)| {
            // Without the group of custom resources: there are no two of one name.
            format!("{count} {}", resource.split('.').next().unwrap_or(resource))
        };
        let objects: Vec<_> = kube.objects.iter().map(object).collect();
        let objects = if objects.is_empty() { "no objects".to_owned() } else { objects.join(", ") };
        if kube.away { format!("{} · {objects}", self.ink(Ink::Bad, "away")) } else { objects }
    }

    fn dropped(&self) -> Option<String> {
        let fabric = &self.lab.fabric;
        let counts = [
            (fabric.spoofed, "by the source check"),
            (fabric.egress_denied, "by egress rules"),
            (fabric.ingress_denied, "by ingress rules"),
            (fabric.no_route, "without a route"),
            (self.lab.link_local_dropped.unwrap_or(0), "over the link-local limit"),
        ];
        let counts: Vec<_> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
        (!counts.is_empty()).then(|| self.ink(Ink::Bad, &format!("packets: {}", counts.join(", "))))
    }

    fn signs(&mut self) {
        let prefixes = self.lab.nodes.iter().flat_map(|node| &node.enis).any(|eni| !eni.prefixes.is_empty());
        let prefixes =
            if prefixes { format!("  {TAKEN_PREFIX} prefix with pods  {WARM_PREFIX} prefix") } else { String::new() };
        self.section("slots", [format!("{TAKEN} pod  {WARM} free  {EMPTY} empty{prefixes}")]);
    }
}

/// What is to be said of a node's services, and how good that is.
fn daemon(node: &NodeStatus) -> (Ink, String) {
    if !node.on {
        return (Ink::Bad, "no power".to_owned());
    }
    let Some(daemon) = &node.daemon else { return (Ink::Dim, "no daemon".to_owned()) };
    match (daemon.pid, &daemon.ended, daemon.ready_after_ms) {
        (Some(_), _, Some(after)) => (Ink::Good, format!("daemon ready after {after} ms")),
        (Some(_), _, None) => (Ink::Dim, "daemon starting".to_owned()),
        (None, Some(ended), _) => (Ink::Bad, format!("daemon ended: {ended}")),
        (None, None, _) => (Ink::Bad, "daemon not started".to_owned()),
    }
}

/// One sign for each secondary slot of an ENI.
fn slots(eni: &EniStatus, pods: &[PodStatus]) -> Vec<char> {
    let has = |address: &Ipv4Addr| pods.iter().any(|pod| pod.address.as_ref() == Some(address));
    let addresses = eni.secondary.iter().map(|address| if has(address) { TAKEN } else { WARM });
    let prefixes = eni.prefixes.iter().map(|text| match text.parse::<Ipv4Net>() {
        Ok(net) if pods_in(&net, pods) > 0 => TAKEN_PREFIX,
        _ => WARM_PREFIX,
    });
    let empty = usize::try_from(eni.slots.saturating_sub(eni.slots_used)).unwrap_or(0);
    addresses.chain(prefixes).chain(std::iter::repeat_n(EMPTY, empty)).collect()
}

fn pods_in(net: &Ipv4Net, pods: &[PodStatus]) -> usize {
    pods.iter().filter(|pod| pod.address.is_some_and(|address| net.contains(&address))).count()
}

/// A pod as the picture and `pod list` have it.
pub(super) fn entry(pod: &PodStatus) -> String {
    let address = pod.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
    let phase = match pod.phase {
        Phase::Running => "",
        Phase::Creating => " creating",
        Phase::Terminating => " terminating",
        Phase::Lost => " lost",
    };
    format!("{address:<15} {}{phase}", pod.pod)
}

/// A text in lines of its own, and those broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        lines.push(line);
    }
    lines
}

fn list(values: &[impl ToString]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

pub(super) fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

/// The first columns of a line. Colours take none; the last one is switched off again.
fn cut(line: &str, width: usize) -> String {
    if columns(line).count() <= width {
        return line.to_owned();
    }
    let end = columns(line).nth(width.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    let off = if line.contains(ESCAPE) { "\x1b[0m" } else { "" };
    format!("{}…{off}", line.get(..end).unwrap_or_default())
}

/// The characters of a line that take a column, and where they are.
fn columns(line: &str) -> impl Iterator<Item = (usize, char)> {
    let mut code = false;
    line.char_indices().filter(move |(_, c)| {
        let shown = !code && *c != ESCAPE;
        code = *c == ESCAPE || (code && *c != 'm');
        shown
    })
}

#[cfg(test)]
mod tests;
