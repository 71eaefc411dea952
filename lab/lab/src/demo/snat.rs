//! Scene 4: pods and the internet, with source NAT by the node, by the NAT gateway, and by nobody.

use std::net::Ipv4Addr;

use super::stage::{Play, SceneError, Stage, address, in_pod, node, open, seen};
use crate::Lab;
use crate::capture::{Packet, Transport};
use crate::control::Place;
use crate::kubelet::PodStatus;

/// What a TCP segment may carry on a link of 9001 bytes: less 20 bytes of IP and 20 of TCP header.
const MSS: u16 = 8961;

pub(super) fn play(stage: &mut Stage) -> Result<(), SceneError> {
    let external = [("AWS_VPC_K8S_CNI_EXTERNALSNAT", "true")];
    let lab = open(vec![
        node("node-a", "private-a", &[]),
        node("node-b", "private-b", &external),
        node("node-c", "public-c", &external),
        node("node-d", "pods-a", &[]),
    ])?;
    let public = *lab.status()?.public_hosts.first().ok_or_else(|| anyhow::anyhow!("the lab has no public host"))?;
    by_the_node(stage, &lab, public)?;
    inside_the_vpc(stage, &lab)?;
    by_the_nat_gateway(stage, &lab, public)?;
    by_nobody(stage, &lab, public)
}

fn by_the_node(stage: &mut Stage, lab: &Lab, public: Ipv4Addr) -> Result<(), SceneError> {
    let pod = address(&lab.pod("node-a", "web-0")?)?;
    let primary = primary(lab, "node-a")?;
    let nat = nat_gateway(lab)?;
    let link = Place::Node("node-a".to_owned());
    let web = in_pod("node-a", "web-0")?;
    let to_public = |packet: &Packet| packet.opens(80) && packet.ipv4().is_some_and(|ip| ip.destination == public);
    let mut opening = None;
    let mut ports = Vec::new();
    for _ in 0..4 {
        let (eth0, inside) = (lab.capture(&link, "eth0")?, lab.capture(&web, "eth0")?);
        if !lab.browses(&web, public)? {
            stage.check(format!("SNAT on: {public} answers the pod"), false);
            return Ok(());
        }
        // A capture of its own for each connection, and patience: what is compared is one connection's two ends.
        let (left, sent) = (seen(&eth0, to_public), seen(&inside, to_public));
        ports.push((left.as_ref().and_then(source_port), sent.as_ref().and_then(source_port)));
        opening = opening.or(left);
    }
    let changed = ports.iter().filter(|(left, sent)| left.is_some() && sent.is_some() && left != sent).count();
    stage.draw_path(&[
        format!("web-0 {pod}"),
        format!("node-a eth0 {primary}"),
        format!("NAT gateway {nat}"),
        public.to_string(),
    ]);
    stage.check(format!("SNAT on: {public} answers the pod"), true);
    let source = opening.as_ref().and_then(Packet::ipv4).map(|ip| ip.source);
    stage.same("SNAT on: it leaves eth0 as the node's primary address", &source, &Some(primary));
    let mss = opening.as_ref().and_then(Packet::ipv4).and_then(|ip| match ip.inside {
        Transport::Tcp { mss, .. } => mss,
        _ => None,
    });
    stage.same("SNAT on: MSS of the opening segment", &mss, &Some(MSS));
    // A connection keeps its own port by chance about once in 64,000 times; two of four never do.
    stage.check(format!("SNAT on: from a random port ({changed} of 4 connections changed theirs)"), changed >= 3);
    let visit = lab.visits()?.last().map(|visit| visit.source);
    stage.same("SNAT on: the public host saw the NAT gateway", &visit, &Some(nat));
    Ok(())
}

fn inside_the_vpc(stage: &mut Stage, lab: &Lab) -> Result<(), SceneError> {
    let pod = lab.node_status("node-a")?.pods.iter().find_map(|pod| pod.address);
    let pod = pod.ok_or_else(|| anyhow::anyhow!("web-0 has no address"))?;
    for (cidr, to) in [("10.20.0.0/16", primary(lab, "node-b")?), ("100.64.0.0/16", primary(lab, "node-d")?)] {
        let eth0 = lab.capture(&Place::Node("node-a".to_owned()), "eth0")?;
        let answered = lab.reaches(&in_pod("node-a", "web-0")?, to)?;
        let unchanged = seen(&eth0, |packet| packet.is_echo_request() && packet.is_between(pod, to)).is_some();
        stage.check(format!("to {to} in {cidr}: an answer comes"), answered);
        stage.check(format!("to {to} in {cidr}: the pod's own address {pod} leaves eth0"), unchanged);
    }
    Ok(())
}

fn by_the_nat_gateway(stage: &mut Stage, lab: &Lab, public: Ipv4Addr) -> Result<(), SceneError> {
    let nat = nat_gateway(lab)?;
    let scaled = lab.pod_scale("node-b", 10, 1)?;
    stage.same("SNAT off: ten pods on node-b", &scaled.added.len(), &10);
    let node_b = lab.node_status("node-b")?;
    stage.draw_node(&node_b);
    // Two ENIs are fetched side by side; the tenth pod is on whichever was there first.
    let on_second = node_b.enis.iter().filter(|eni| eni.device > 0).find_map(|eni| {
        let on_it = |pod: &&PodStatus| pod.address.is_some_and(|address| eni.secondary.contains(&address));
        Some((eni.link.clone()?, node_b.pods.iter().find(on_it)?))
    });
    let Some((link, on_second)) = on_second else {
        stage.check("SNAT off: one of them is on a second ENI", false);
        return Ok(());
    };
    let pod = address(on_second)?;
    let second = lab.capture(&Place::Node("node-b".to_owned()), &link)?;
    let place = Place::Pod("node-b".to_owned(), on_second.pod.clone());
    let answered = lab.browses(&place, public)?;
    stage.draw_path(&[
        format!("{} {pod}", on_second.pod),
        format!("node-b {link} {pod}"),
        format!("NAT gateway {nat}"),
        public.to_string(),
    ]);
    stage.check(format!("SNAT off: {public} answers a pod on {link}"), answered);
    let own = seen(&second, |packet| packet.opens(80) && packet.is_between(pod, public)).is_some();
    stage.check(format!("SNAT off: its own address {pod} leaves by its own ENI, {link}"), own);
    let visit = lab.visits()?.last().map(|visit| visit.source);
    stage.same("SNAT off: it came out of the NAT gateway", &visit, &Some(nat));
    Ok(())
}

fn by_nobody(stage: &mut Stage, lab: &Lab, public: Ipv4Addr) -> Result<(), SceneError> {
    let pod = address(&lab.pod("node-c", "web-1")?)?;
    let node_c = lab.node_status("node-c")?;
    let mapped = node_c.enis.iter().find_map(|eni| eni.public);
    let place = Place::Node("node-c".to_owned());
    stage.check("public subnet: the node itself is answered", lab.browses(&place, public)?);
    stage.same(
        "public subnet: the public host saw the node's public address",
        &lab.visits()?.last().map(|visit| visit.source),
        &mapped,
    );
    let eth0 = lab.capture(&place, "eth0")?;
    let answered = lab.reaches(&in_pod("node-c", "web-1")?, public)?;
    let left = seen(&eth0, |packet| packet.is_echo_request() && packet.is_between(pod, public)).is_some();
    stage.draw_path(&[
        format!("web-1 {pod}"),
        "node-c eth0".to_owned(),
        "internet gateway: no public address for it".to_owned(),
    ]);
    stage.check(format!("public subnet, SNAT off: {pod} leaves eth0 and gets no reply, as on AWS"), left && !answered);
    Ok(())
}

fn source_port(packet: &Packet) -> Option<u16> {
    match packet.ipv4()?.inside {
        Transport::Tcp { source, .. } => Some(source),
        _ => None,
    }
}

fn primary(lab: &Lab, node: &str) -> Result<Ipv4Addr, SceneError> {
    let node = lab.node_status(node)?;
    node.enis.first().map(|eni| eni.primary).ok_or_else(|| anyhow::anyhow!("{} has no ENI", node.name))
}

fn nat_gateway(lab: &Lab) -> Result<Ipv4Addr, SceneError> {
    let gateways = lab.status()?.nat_gateways;
    gateways.first().map(|(_, _, public)| *public).ok_or_else(|| anyhow::anyhow!("the lab has no NAT gateway"))
}
