//! Scene 5: the daemon dies; pods do not notice.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use lab_serve::Service;

use super::stage::{Play, SceneError, Stage, address, in_pod, node, open, pod_name, within};
use crate::Lab;
use crate::control::{DaemonAction, Place};

const CHECKPOINT: &str = "/var/run/aws-node/ipam.json";

pub(super) fn play(stage: &mut Stage) -> Result<(), SceneError> {
    let lab = open(vec![node("node-a", "private-a", &[]), node("node-b", "private-b", &[])])?;
    let kept = address(&lab.pod("node-a", "kept")?)?;
    let gone = address(&lab.pod("node-a", "gone")?)?;
    let far = address(&lab.pod("node-b", "far")?)?;
    let kept_place = in_pod("node-a", "kept")?;
    stage.check(format!("kept ({kept}) reaches far ({far})"), lab.reaches(&kept_place, far)?);
    // Let the ENI that the pods' arrival asks for come first: what is compared later shall be at rest.
    let at_rest = within(Duration::from_secs(10), || Ok(holdings(&lab)?.1 == 18))?;
    stage.check("node-a has fetched its warm ENI", at_rest);
    let before = holdings(&lab)?;

    lab.daemon("node-a", DaemonAction::Kill)?;
    let down = lab.node_status("node-a")?.daemon.is_some_and(|daemon| daemon.pid.is_none());
    stage.check("node-a's daemon is dead (SIGKILL)", down);
    stage.check("without it, kept still reaches far", lab.reaches(&kept_place, far)?);
    stage.check("without it, far still reaches kept", lab.reaches(&in_pod("node-b", "far")?, kept)?);
    let deleted = lab.pod_del("node-a", &pod_name("gone")?).is_ok();
    stage.check("without it, pod gone can be deleted", deleted);

    let calls = changes(&lab)?;
    lab.daemon("node-a", DaemonAction::Start)?;
    let daemon = lab.node_status("node-a")?.daemon;
    let ready = daemon
        .as_ref()
        .and_then(|daemon| daemon.ready_after_ms)
        .map_or_else(String::new, |ms| format!(" after {ms} ms"));
    stage.check(format!("started again, the daemon is ready{ready}"), daemon.is_some_and(|daemon| daemon.ready));
    stage.check("kept still reaches far", lab.reaches(&kept_place, far)?);
    stage.same("the pool is as before: ENIs and addresses", &holdings(&lab)?, &before);
    stage.same("no ENI or address was asked for or given back", &changes(&lab)?, &calls);
    let cleaned =
        within(Duration::from_secs(5), || Ok(!leases(&lab)?.contains(&gone.to_string()) && untied(&lab, gone)?))?;
    stage.check(format!("pod gone is cleaned up: no lease, no rule, no route for {gone}"), cleaned);
    let kept_lease = leases(&lab)?.contains(&kept.to_string());
    stage.check(format!("pod kept still has its lease of {kept}"), kept_lease);
    let fresh = address(&lab.pod("node-a", "fresh")?)?;
    stage.check(
        format!("a new pod gets {fresh}: neither kept's address nor gone's, which rests for 30 s"),
        fresh != kept && fresh != gone,
    );
    stage.draw_node(&lab.node_status("node-a")?);
    Ok(())
}

/// Number of ENIs and of secondary addresses.
fn holdings(lab: &Lab) -> Result<(usize, usize), SceneError> {
    let node = lab.node_status("node-a")?;
    Ok((node.enis.len(), node.enis.iter().map(|eni| eni.secondary.len()).sum()))
}

/// How many calls changed what node-a holds.
fn changes(lab: &Lab) -> Result<usize, SceneError> {
    let own = |name: &Option<String>| name.as_deref() == Some("node-a");
    let calls = lab.calls()?;
    let ec2 = calls.iter().filter(|call| call.service == Service::Ec2 && own(&call.caller_name));
    Ok(ec2.filter(|call| !call.action.starts_with("Describe") && call.action != "CreateTags").count())
}

/// The addresses that the daemon's checkpoint says belong to pods.
fn leases(lab: &Lab) -> Result<Vec<String>, SceneError> {
    let place = Place::Node("node-a".to_owned());
    let read = lab.run(&place, &["cat", CHECKPOINT])?;
    let file: serde_json::Value = serde_json::from_str(&read.stdout)?;
    let leases = file["allocations"].as_array().into_iter().flatten();
    Ok(leases.filter_map(|lease| lease["ipv4"].as_str().map(str::to_owned)).collect())
}

fn untied(lab: &Lab, address: Ipv4Addr) -> Result<bool, SceneError> {
    let host = lab.kernel_state(&Place::Node("node-a".to_owned()))?;
    let whole = Ipv4Net::new_assert(address, 32);
    let rules = host.rules.iter().any(|rule| rule.to == Some(whole) || rule.from == Some(whole));
    let routes = host.routes.iter().any(|route| route.to == whole);
    Ok(!rules && !routes)
}
