//! What is to be seen of a lab: EC2's view, the nodes' and the kernel's, in one picture.

use std::collections::BTreeMap;

use lab_cloud::{EniSnapshot, InstanceSnapshot, Snapshot};

use super::node::Node;
use super::run::Supervisor;
use crate::control::{EniStatus, LabStatus, NodeStatus, Visits};
use crate::fabric::LinkLocalLimit;

impl Supervisor {
    pub(super) fn status(&self) -> LabStatus {
        let snapshot = self.cloud.snapshot();
        let instances: BTreeMap<_, _> = snapshot.instances.iter().map(|instance| (&instance.id, instance)).collect();
        let node = |node: &std::sync::Arc<Node>| {
            let instance = instances.get(&node.instance)?;
            Some(node_status(node, instance, &snapshot))
        };
        let topology = &self.topology;
        LabStatus {
            lab: self.lab.clone(),
            region: topology.region.clone(),
            host: self.host.clone(),
            faults: self.fault_reports(),
            since: self.since,
            cidrs: topology.cidrs.clone(),
            public_hosts: topology.public_hosts.clone(),
            nat_gateways: topology.nat_gateways.iter().map(|g| (g.name.clone(), g.private_ip, g.public_ip)).collect(),
            nodes: self.nodes.all().iter().filter_map(node).collect(),
            fabric: self.fabric.status(),
            link_local_dropped: self.link_local.as_ref().map(LinkLocalLimit::dropped),
            visits: last(self.visits.visits()),
            supervisor: None,
        }
    }
}

fn last(mut visits: Visits) -> Visits {
    const SHOWN: usize = 5;
    visits.split_off(visits.len().saturating_sub(SHOWN))
}

fn node_status(node: &Node, instance: &InstanceSnapshot, snapshot: &Snapshot) -> NodeStatus {
    let mut enis: Vec<_> = instance
        .enis
        .iter()
        .filter_map(|id| snapshot.enis.iter().find(|eni| eni.id == *id))
        .map(|eni| eni_status(node, eni, instance, snapshot))
        .collect();
    enis.sort_by_key(|eni| eni.device);
    NodeStatus {
        name: node.spec.name.clone(),
        instance: instance.id.to_string(),
        instance_type: instance.instance_type.clone(),
        zone: instance.zone.clone(),
        on: node.is_on(),
        problem: node.problem(),
        daemon: node.daemon_status(),
        max_enis: instance.max_enis,
        enis,
        pods: node.kubelet.pods(),
    }
}

fn eni_status(node: &Node, eni: &EniSnapshot, instance: &InstanceSnapshot, snapshot: &Snapshot) -> EniStatus {
    let subnet = snapshot.subnets.iter().find(|subnet| subnet.id == eni.subnet);
    let addresses = &eni.addresses;
    let used = addresses.secondary.len() + addresses.prefixes.len();
    EniStatus {
        id: eni.id.to_string(),
        device: eni.attachment.as_ref().map_or(0, |attachment| attachment.device.0),
        link: node.link_of(&eni.id).map(String::from),
        mac: eni.mac.to_string(),
        subnet: subnet.map_or_else(|| eni.subnet.to_string(), |subnet| subnet.name.clone()),
        primary: addresses.primary,
        public: addresses.public.get(&addresses.primary).copied(),
        secondary: addresses.secondary.iter().copied().collect(),
        prefixes: addresses.prefixes.iter().map(ToString::to_string).collect(),
        slots_used: u32::try_from(used).unwrap_or(u32::MAX),
        slots: instance.ipv4_per_eni.saturating_sub(1),
        status: eni.attachment.as_ref().map_or_else(|| eni.status.clone(), |attachment| attachment.status.clone()),
    }
}
