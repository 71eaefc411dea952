//! What is printed for people.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use lab_cloud::Snapshot;
use lab_serve::{CallRecord, Service};

use super::colours;
use crate::control::{EniStatus, LabStatus, NodeStatus, Place, ScaleReport};
use crate::fault::FaultState;
use crate::kubelet::{Phase, PodStatus};
use crate::topology::Topology;

/// Longest list of parameters, and longest answer, of one printed call.
const CALL_WIDTH: usize = 100;

/// A slot of an ENI: a pod has it, nobody has it yet, or it is empty.
const TAKEN: char = '■';
const WARM: char = '□';
const EMPTY: char = '·';

/// The whole lab.
pub(super) fn status(lab: &LabStatus) -> String {
    let mut out = String::new();
    let age = SystemTime::now().duration_since(lab.since).unwrap_or_default();
    let cidrs = lab.cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let pods: usize = lab.nodes.iter().map(|node| node.pods.len()).sum();
    let _ = writeln!(
        out,
        "lab {} · up {} · VPC {cidrs} · {} nodes, {pods} pods",
        bold(&lab.lab),
        span(age),
        lab.nodes.len()
    );
    for node in &lab.nodes {
        out.push('\n');
        self::node(&mut out, node);
    }
    out.push('\n');
    for (name, private, public) in &lab.nat_gateways {
        let _ = writeln!(out, "NAT gateway {name}  {private} = {public}");
    }
    let hosts = lab.public_hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let _ = writeln!(out, "internet     {hosts}");
    for visit in &lab.visits {
        let place = if visit.place == Place::World { String::new() } else { format!(" ({})", visit.place) };
        let _ = writeln!(
            out,
            "             {}{place} saw {}:{} ask for {}",
            visit.host, visit.source, visit.port, visit.path
        );
    }
    match (&lab.host.ec2, &lab.host.problem) {
        (Some(ec2), _) => _ = writeln!(out, "this host    EC2 at http://{ec2}: eval \"$(vpc-lab env)\""),
        (None, problem) => _ = writeln!(out, "this host    {}", problem.as_deref().unwrap_or("not connected")),
    }
    let active: Vec<_> = lab.faults.iter().filter(|fault| fault.state == FaultState::Active).cloned().collect();
    if !active.is_empty() {
        let _ = write!(out, "faults\n{}", super::fault::list(&active));
    }
    let fabric = &lab.fabric;
    for (what, dropped) in [
        ("source check", fabric.spoofed),
        ("egress rules", fabric.egress_denied),
        ("ingress rules", fabric.ingress_denied),
        ("no route", fabric.no_route),
    ] {
        if dropped > 0 {
            let _ = writeln!(out, "{what:<12} {dropped} packets dropped");
        }
    }
    if let Some(dropped) = lab.link_local_dropped.filter(|dropped| *dropped > 0) {
        let _ = writeln!(out, "link-local   {dropped} packets dropped over the limit");
    }
    let _ = writeln!(out, "slots        {TAKEN} pod  {WARM} free  {EMPTY} empty");
    out
}

fn node(out: &mut String, node: &NodeStatus) {
    let power = if node.on { "" } else { " · no power" };
    let daemon = match &node.daemon {
        None => "no daemon".to_owned(),
        Some(daemon) => match (daemon.pid, &daemon.ended, daemon.ready_after_ms) {
            (Some(_), _, Some(after)) => format!("daemon ready after {after} ms"),
            (Some(_), _, None) => "daemon starting".to_owned(),
            (None, Some(ended), _) => format!("daemon ended: {ended}"),
            (None, None, _) => "daemon not started".to_owned(),
        },
    };
    let _ = writeln!(out, "{} · {} · {} · {daemon}{power}", bold(&node.name), node.instance_type, node.zone);
    if let Some(problem) = &node.problem {
        let _ = writeln!(out, "  ! {problem}");
    }
    for eni in &node.enis {
        let link = eni.link.as_deref().unwrap_or("-");
        let public = eni.public.map(|public| format!(" = {public}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "  {link:<5} {:<15} {} {:>2}/{:<2} {}{public}",
            eni.primary.to_string(),
            slots(eni, &node.pods),
            eni.slots_used,
            eni.slots,
            eni.id
        );
    }
    for pod in &node.pods {
        let address = pod.address.map_or_else(|| "-".to_owned(), |address| address.to_string());
        let phase = match pod.phase {
            Phase::Running => "",
            Phase::Creating => "creating",
            Phase::Terminating => "terminating",
            Phase::Lost => "lost",
        };
        let _ = writeln!(out, "        {address:<15} {} {phase}", pod.pod);
    }
}

/// One sign for each secondary slot of an ENI.
fn slots(eni: &EniStatus, pods: &[PodStatus]) -> String {
    let taken = |address: &std::net::Ipv4Addr| pods.iter().any(|pod| pod.address.as_ref() == Some(address));
    let addresses = eni.secondary.iter().map(|address| if taken(address) { TAKEN } else { WARM });
    // Empty ones need no pictures beyond what fits a line.
    let picture: String = addresses.chain(eni.prefixes.iter().map(|_| WARM)).collect();
    let empty = eni.slots.saturating_sub(eni.slots_used).min(49) as usize;
    picture + &EMPTY.to_string().repeat(empty)
}

/// A pod that was made.
pub(super) fn pod_added(pod: &PodStatus) -> String {
    let address = pod.address.map_or_else(|| "no IPv4 address".to_owned(), |address| address.to_string());
    let took = pod.add_micros.map(|micros| format!(", ADD took {:.1} ms", micros as f64 / 1000.0)).unwrap_or_default();
    let attempts = if pod.attempts == 1 { String::new() } else { format!(", at attempt {}", pod.attempts) };
    format!("{} on {}: {address}{took}{attempts}\n", pod.pod, pod.node)
}

/// What scaling did.
pub(super) fn scaled(report: &ScaleReport) -> String {
    let mut out = String::new();
    let retried = report.added.iter().filter(|pod| pod.attempts > 1).count();
    let _ = write!(
        out,
        "{} made, {} deleted, {} failed in {} ms",
        report.added.len(),
        report.deleted.len(),
        report.failed.len(),
        report.millis
    );
    if retried > 0 {
        let _ = write!(out, "; {retried} needed more than one attempt");
    }
    out.push('\n');
    for (pod, cause) in &report.failed {
        let _ = writeln!(out, "  {pod}: {cause}");
    }
    out
}

/// Every call on a line.
pub(super) fn calls(calls: &[CallRecord]) -> String {
    let mut out = String::new();
    for call in calls {
        let marks = call.faults.iter().map(|fault| format!(" [fault {fault}]")).collect::<String>();
        if call.service == Service::Lab {
            let keys: String = call.parameters.iter().map(|(key, value)| format!(" {key}={value}")).collect();
            let outcome = if call.answer.is_empty() { String::new() } else { format!("  -> {}", call.answer) };
            let _ = writeln!(out, "{:>9.3} s  * {}{keys}{outcome}{marks}", call.at_ms as f64 / 1000.0, call.action);
            continue;
        }
        let caller = call.caller_name.as_deref().unwrap_or("-");
        let parameters =
            call.parameters.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        let answer =
            call.error.as_ref().map_or_else(|| values(&call.answer), |error| format!("{error}: {}", call.answer));
        let _ = writeln!(
            out,
            "{:>9.3} s  {caller:<10} {} {}  -> {} {} ({:.1} ms){marks}",
            call.at_ms as f64 / 1000.0,
            call.action,
            cut(&parameters),
            call.status,
            cut(&answer),
            call.took_us as f64 / 1000.0
        );
    }
    out
}

/// The values of an XML answer, without the names around them; any other text as it is.
fn values(answer: &str) -> String {
    if !answer.starts_with('<') {
        return answer.to_owned();
    }
    let texts = answer.split('<').filter_map(|piece| {
        let (tag, text) = piece.split_once('>')?;
        (tag != "requestId" && !text.trim().is_empty()).then(|| text.trim())
    });
    texts.collect::<Vec<_>>().join(" ")
}

fn cut(text: &str) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= CALL_WIDTH {
        return line;
    }
    line.chars().take(CALL_WIDTH - 1).chain(['…']).collect()
}

/// Lines for a shell: the environment, and nothing of another account in the way.
pub(super) fn environment(variables: &[(&str, String)]) -> String {
    let exports = variables.iter().map(|(name, value)| format!("export {name}={value}\n"));
    // A session of another account would be sent along, and a proxy would be asked for the loopback.
    let last = "unset AWS_SESSION_TOKEN AWS_PROFILE\nexport NO_PROXY=\"127.0.0.1${NO_PROXY:+,$NO_PROXY}\"\n";
    exports.chain([last.to_owned()]).collect()
}

/// How to reach a cloud that stands alone.
pub(super) fn cloud(address: SocketAddr, topology: &Topology, snapshot: &Snapshot) -> String {
    let instances: Vec<_> =
        snapshot.instances.iter().map(|i| format!("{} ({}, {})", i.id, i.name, i.instance_type)).collect();
    format!(
        "EC2 and IMDS on http://{address}, until interrupted\n\
         \x20 export AWS_ENDPOINT_URL_EC2=http://{address} AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{address}\n\
         \x20 export AWS_REGION={0} AWS_DEFAULT_REGION={0} AWS_ACCESS_KEY_ID={1} AWS_SECRET_ACCESS_KEY={2}\n\
         instances: {3}\n",
        topology.region,
        lab_cloud::ACCESS_KEY,
        lab_cloud::SECRET_KEY,
        instances.join(", ")
    )
}

/// Time of day (UTC) with microseconds.
pub(super) fn clock(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, since.subsec_micros())
}

fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn bold(text: &str) -> String {
    if colours() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}
