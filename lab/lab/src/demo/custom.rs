//! Scene 7: pods in subnets of their own, one for each zone, on prefixes.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde_json::json;

use super::stage::{Play, SceneError, Stage, address, in_pod, node, open_file, seen, within};
use crate::Lab;
use crate::control::{NodeStatus, Place};
use crate::topology::{Ready, TopologyFile};

const ZONES: [&str; 3] = ["a", "b", "c"];
const NODES_NET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 20, 0, 0), 16);
const PODS_NET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 16);

/// The seed's guide, without pod ENIs.
const SETTINGS: [(&str, &str); 6] = [
    ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true"),
    ("ENI_CONFIG_LABEL_DEF", "topology.kubernetes.io/zone"),
    ("ENABLE_PREFIX_DELEGATION", "true"),
    ("WARM_IP_TARGET", "1"),
    ("MINIMUM_IP_TARGET", "30"),
    ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "true"),
];

pub(super) fn play(stage: &mut Stage) -> Result<(), SceneError> {
    let lab = open_file(topology()?)?;
    stage.line("     ENIConfig ap-northeast-2a, -2b, -2c: each names the pods' subnet of its zone, in 100.64.0.0/16");
    for zone in ZONES {
        arithmetic(stage, &lab, zone)?;
    }
    let pods: Vec<Ipv4Addr> = ZONES
        .iter()
        .map(|zone| address(&lab.pod(&format!("node-{zone}"), &format!("web-{zone}"))?))
        .collect::<Result<_, _>>()?;
    for (at, zone) in ZONES.iter().enumerate() {
        let status = lab.node_status(&format!("node-{zone}"))?;
        let home = status.enis.iter().find(|eni| holds(&eni.prefixes, pods[at]));
        let fits = PODS_NET.contains(&pods[at]) && home.is_some_and(|eni| eni.device > 0);
        stage.check(format!("web-{zone} has {}, of a prefix on its node's second ENI", pods[at]), fits);
    }
    across_zones(stage, &lab, &pods)?;
    to_the_internet(stage, &lab, pods[0])?;
    more_pods(stage, &lab)
}

fn topology() -> Result<TopologyFile, SceneError> {
    let ready = Ready::named("custom-networking").ok_or_else(|| anyhow::anyhow!("the topology is not there"))?;
    let mut file = TopologyFile::parse(ready.text)?;
    file.nodes =
        ZONES.iter().map(|zone| node(&format!("node-{zone}"), &format!("private-{zone}"), &SETTINGS)).collect();
    file.objects.extend(ZONES.iter().map(|zone| {
        json!({
            "apiVersion": "crd.k8s.amazonaws.com/v1alpha1",
            "kind": "ENIConfig",
            "metadata": {"name": format!("ap-northeast-2{zone}")},
            "spec": {"subnet": format!("${{subnet.pods-{zone}}}")},
        })
    }));
    Ok(file)
}

/// WARM_IP_TARGET=1 and MINIMUM_IP_TARGET=30 are two prefixes of 16; the primary ENI carries none.
fn arithmetic(stage: &mut Stage, lab: &Lab, zone: &str) -> Result<(), SceneError> {
    let name = format!("node-{zone}");
    let settled = within(Duration::from_secs(15), || Ok(prefixes(&lab.node_status(&name)?) == 2))?;
    let status = lab.node_status(&name)?;
    stage.draw_node(&status);
    stage.check(format!("{name}: 30 addresses at least are ceil(30 / 16) = 2 prefixes, 32 addresses"), settled);
    stage.same(format!("{name}: two ENIs"), &status.enis.len(), &2);
    let primary_in_nodes =
        status.enis.first().is_some_and(|eni| NODES_NET.contains(&eni.primary) && eni.slots_used == 0);
    stage.check(format!("{name}: the primary ENI, in {NODES_NET}, carries no pods"), primary_in_nodes);
    let second = status.enis.get(1).map(|eni| (eni.subnet.clone(), PODS_NET.contains(&eni.primary)));
    stage.same(
        format!("{name}: the second is in its zone's subnet for pods"),
        &second,
        &Some((format!("pods-{zone}"), true)),
    );
    Ok(())
}

fn across_zones(stage: &mut Stage, lab: &Lab, pods: &[Ipv4Addr]) -> Result<(), SceneError> {
    let eth1 = lab.capture(&Place::Node("node-a".to_owned()), "eth1")?;
    let answered = lab.reaches(&in_pod("node-a", "web-a")?, pods[1])?;
    stage.draw_path(&[
        format!("web-a {}", pods[0]),
        "node-a eth1".to_owned(),
        "fabric".to_owned(),
        format!("web-b {}", pods[1]),
    ]);
    stage.check("web-a reaches web-b in another zone", answered);
    let own = seen(&eth1, |packet| packet.is_echo_request() && packet.is_between(pods[0], pods[1])).is_some();
    stage.check("by eth1, with its own address", own);
    Ok(())
}

/// The node does no source NAT: the NAT gateway sees the pod.
fn to_the_internet(stage: &mut Stage, lab: &Lab, pod: Ipv4Addr) -> Result<(), SceneError> {
    let public = *lab.status()?.public_hosts.first().ok_or_else(|| anyhow::anyhow!("the lab has no public host"))?;
    let eth1 = lab.capture(&Place::Node("node-a".to_owned()), "eth1")?;
    let answered = lab.browses(&in_pod("node-a", "web-a")?, public)?;
    stage.check(format!("web-a reaches {public} by the NAT gateway"), answered);
    let source = seen(&eth1, |packet| packet.opens(80)).and_then(|packet| packet.ipv4().map(|ip| ip.source));
    stage.same("AWS_VPC_K8S_CNI_EXTERNALSNAT=true: its own address leaves the node", &source, &Some(pod));
    Ok(())
}

/// 40 pods and one warm address are 41: three prefixes.
fn more_pods(stage: &mut Stage, lab: &Lab) -> Result<(), SceneError> {
    let scaled = lab.pod_scale("node-a", 39, 5)?;
    stage.same("39 pods more on node-a: all started", &scaled.added.len(), &39);
    let settled = within(Duration::from_secs(15), || Ok(prefixes(&lab.node_status("node-a")?) == 3))?;
    let status = lab.node_status("node-a")?;
    stage.draw_node(&status);
    stage.check(
        "40 pods and 1 warm address are ceil(41 / 16) = 3 prefixes, on the same ENI",
        settled && status.enis.len() == 2,
    );
    let own = |pod: &crate::kubelet::PodStatus| pod.address.is_some_and(|address| PODS_NET.contains(&address));
    stage.check("every pod of the node has an address of 100.64.0.0/16", status.pods.iter().all(own));
    Ok(())
}

fn prefixes(status: &NodeStatus) -> usize {
    status.enis.iter().map(|eni| eni.prefixes.len()).sum()
}

fn holds(prefixes: &[String], address: Ipv4Addr) -> bool {
    prefixes.iter().filter_map(|prefix| prefix.parse::<Ipv4Net>().ok()).any(|net| net.contains(&address))
}
