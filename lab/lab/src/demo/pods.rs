//! Scenes 1 and 2: nodes boot, pods talk.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_serve::Service;
use serde_json::Value;
use vpc_hostnet::{Mark, priority};
use vpc_model::RouteTable;

use super::stage::{Play, SceneError, Stage, address, in_pod, open, seen};
use crate::Lab;
use crate::control::Place;

/// Every pod's next hop.
const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Protocols that would carry one packet inside another: IP in IP, GRE; and VXLAN's and Geneve's UDP ports.
const TUNNELS: [u8; 2] = [4, 47];
const TUNNEL_PORTS: [u16; 2] = [4789, 6081];

pub(super) fn boot(stage: &mut Stage) -> Result<(), SceneError> {
    let lab = open(vec![])?;
    let status = lab.status()?;
    for node in &status.nodes {
        stage.draw_node(node);
    }
    stage.legend();
    stage.same("three nodes", &status.nodes.len(), &3);
    for node in &status.nodes {
        let warm = node.enis.iter().map(|eni| eni.secondary.len()).sum::<usize>();
        stage.same(
            format!("{}: its first ENI holds the 9 secondary addresses an m5.large may have", node.name),
            &warm,
            &9,
        );
        let conflist = lab.run(&Place::Node(node.name.clone()), &["cat", "/etc/cni/net.d/10-aws.conflist"])?;
        let name = serde_json::from_str::<Value>(&conflist.stdout).ok().map(|list| list["name"].clone());
        stage.same(format!("{}: the conflist is written", node.name), &name, &Some(Value::from("aws-cni")));
    }
    let calls = lab.calls()?;
    let ec2: Vec<_> = calls.iter().filter(|call| call.service == Service::Ec2).collect();
    stage.line("     what EC2 was asked:");
    for call in &ec2 {
        let who = call.caller_name.as_deref().unwrap_or("?");
        stage.line(&format!(
            "       {:>5} ms  {who:<8} {:<28} {}",
            call.at_ms,
            call.action,
            call.error.as_deref().unwrap_or("ok")
        ));
    }
    let assigns = ec2.iter().filter(|call| call.action == "AssignPrivateIpAddresses").count();
    stage.same(
        "one AssignPrivateIpAddresses for each node, no call that failed",
        &(assigns, ec2.iter().filter(|c| c.error.is_some()).count()),
        &(3, 0),
    );
    Ok(())
}

pub(super) fn pods(stage: &mut Stage) -> Result<(), SceneError> {
    let lab = open(vec![])?;
    let near = lab.pod("node-a", "web-0")?;
    let beside = lab.pod("node-a", "web-1")?;
    let far = lab.pod("node-b", "web-2")?;
    let third = lab.pod("node-c", "web-3")?;
    for node in lab.status()?.nodes {
        stage.draw_node(&node);
    }
    for pod in [&near, &beside, &far, &third] {
        let ours = pod.address.is_some_and(|a| lab_holds(&lab, &pod.node, a));
        stage.check(
            format!("{} on {} has {}, an address EC2 put on the node's ENI", pod.pod, pod.node, show(pod.address)),
            ours,
        );
    }
    wiring(stage, &lab, address(&near)?)?;
    same_node(stage, &lab, address(&near)?, address(&beside)?)?;
    cross_node(stage, &lab, address(&near)?, address(&far)?)
}

fn lab_holds(lab: &Lab, node: &str, address: Ipv4Addr) -> bool {
    lab.node_status(node).is_ok_and(|node| node.enis.iter().any(|eni| eni.secondary.contains(&address)))
}

fn show(address: Option<Ipv4Addr>) -> String {
    address.map_or_else(|| "no address".to_owned(), |address| address.to_string())
}

/// What the kernel has in the pod and on its node.
fn wiring(stage: &mut Stage, lab: &Lab, own: Ipv4Addr) -> Result<(), SceneError> {
    let inside = lab.kernel_state(&in_pod("node-a", "web-0")?)?;
    let whole = Ipv4Net::new_assert(own, 32);
    let eth0 = inside.links.iter().find(|link| link.name.as_str() == "eth0");
    let has = eth0.is_some_and(|link| link.addresses.contains(&whole));
    stage.check(format!("in the pod: eth0 has {whole}"), has);
    let default = inside.routes.iter().any(|route| route.to.prefix_len() == 0 && route.via == Some(POD_GATEWAY));
    stage.check(format!("in the pod: the default route leads to {POD_GATEWAY}"), default);
    let pinned = inside.neighbours.iter().any(|neighbour| neighbour.address == POD_GATEWAY);
    stage.check(format!("in the pod: {POD_GATEWAY} is pinned to the host end's MAC, so nobody asks for it"), pinned);
    let host = lab.kernel_state(&Place::Node("node-a".to_owned()))?;
    let route = host.routes.iter().find(|route| route.to == whole && route.table == RouteTable::MAIN);
    let link = route.map_or("nothing", |route| route.link.as_str());
    stage.check(format!("on the node: {whole} is behind {link} in table main"), link.starts_with("eni"));
    let to_pod = |rule: &&vpc_hostnet::Rule| rule.priority == priority::TO_POD && rule.to == Some(whole);
    stage.check(format!("on the node: rule 512, to {own} lookup main"), host.rules.iter().any(|rule| to_pod(&rule)));
    let marked = host.rules.iter().any(|rule| rule.priority == priority::MARKED && rule.mark == Some(Mark::bits(0x80)));
    stage.check("on the node: rule 1024, fwmark 0x80/0x80 lookup main", marked);
    Ok(())
}

fn same_node(stage: &mut Stage, lab: &Lab, from: Ipv4Addr, to: Ipv4Addr) -> Result<(), SceneError> {
    let outside = lab.capture(&Place::Node("node-a".to_owned()), "eth0")?;
    let answered = lab.reaches(&in_pod("node-a", "web-0")?, to)?;
    stage.draw_path(&[format!("web-0 {from}"), "node-a".to_owned(), format!("web-1 {to}")]);
    stage.check("same node: web-1 answers web-0", answered);
    let leaked = outside.packets().iter().any(|packet| packet.is_between(from, to) || packet.is_between(to, from));
    stage.check("same node: nothing of it was seen at eth0", !leaked);
    Ok(())
}

fn cross_node(stage: &mut Stage, lab: &Lab, from: Ipv4Addr, to: Ipv4Addr) -> Result<(), SceneError> {
    let (node_a, node_b) = (Place::Node("node-a".to_owned()), Place::Node("node-b".to_owned()));
    let leaves = lab.capture(&node_a, "eth0")?;
    let arrives = lab.capture(&node_b, "eth0")?;
    let fabric_a = lab.capture(&Place::Fabric, &lab.port_of("node-a", "eth0")?)?;
    let fabric_b = lab.capture(&Place::Fabric, &lab.port_of("node-b", "eth0")?)?;
    let answered = lab.reaches(&in_pod("node-a", "web-0")?, to)?;
    stage.check("cross node: web-2 on node-b answers web-0 on node-a", answered);
    let mut hops = vec![format!("web-0 {from}")];
    for (place, capture) in
        [("node-a eth0", &leaves), ("fabric", &fabric_a), ("fabric", &fabric_b), ("node-b eth0", &arrives)]
    {
        let request = seen(capture, |packet| packet.is_echo_request() && packet.is_between(from, to));
        let ttl = request.as_ref().and_then(|packet| packet.ipv4()).map(|ip| ip.ttl);
        stage.check(format!("{place}: the echo request is {from} > {to}, the pods' own addresses"), request.is_some());
        hops.push(format!("{place} (ttl {})", ttl.unwrap_or(0)));
        let reply = seen(capture, |packet| packet.is_between(to, from));
        stage.check(format!("{place}: the echo reply is {to} > {from}"), reply.is_some());
        stage.check(format!("{place}: no encapsulation"), !capture.packets().iter().any(is_tunnel));
    }
    hops.push(format!("web-2 {to}"));
    stage.draw_path(&hops);
    Ok(())
}

fn is_tunnel(packet: &crate::capture::Packet) -> bool {
    let Some(ip) = packet.ipv4() else { return false };
    let by_port =
        matches!(ip.inside, crate::capture::Transport::Udp { destination, .. } if TUNNEL_PORTS.contains(&destination));
    TUNNELS.contains(&ip.protocol) || by_port
}
