//! What is printed for people.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::SystemTime;

use lab_cloud::Snapshot;
use lab_serve::{CallRecord, Service};

use super::picture;
use crate::control::ScaleReport;
use crate::kubelet::PodStatus;
use crate::topology::Topology;

/// Longest list of parameters, and longest answer, of one printed call.
const CALL_WIDTH: usize = 100;

/// A pod that was made.
pub(super) fn pod_added(pod: &PodStatus) -> String {
    let address = pod.address.map_or_else(|| "no IPv4 address".to_owned(), |address| address.to_string());
    let took = pod.add_micros.map(|micros| format!(", ADD took {:.1} ms", micros as f64 / 1000.0)).unwrap_or_default();
    let attempts = if pod.attempts == 1 { String::new() } else { format!(", at attempt {}", pod.attempts) };
    format!("{} on {}: {address}{took}{attempts}\n", pod.pod, pod.node)
}

/// Every pod on a line, with its node.
pub(super) fn pods(pods: &[&PodStatus]) -> String {
    let width = pods.iter().map(|pod| pod.node.len()).max().unwrap_or(0);
    let line = |pod: &&PodStatus| format!("{:<width$}  {}\n", pod.node, picture::entry(pod));
    pods.iter().map(line).collect()
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
