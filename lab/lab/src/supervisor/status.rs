//! What is to be seen of a lab: EC2's view, the nodes' and the kernel's, in one picture.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use lab_cloud::{EniSnapshot, InstanceSnapshot, NetworkPlan, RouteTarget, Snapshot, SubnetSnapshot, id_text};

use super::node::Node;
use super::run::Supervisor;
use crate::control::{
    EndpointStatus, EniStatus, KubeStatus, LabStatus, NeighbourStatus, NodeStatus, Place, SubnetStatus, Visits, WayOut,
};
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
        let plan = self.nodes.plan();
        LabStatus {
            lab: self.lab.clone(),
            region: topology.region.clone(),
            host: self.host.clone(),
            faults: self.fault_reports(),
            since: self.since,
            cidrs: snapshot.cidrs.clone(),
            public_hosts: topology.public_hosts.clone(),
            nat_gateways: topology.nat_gateways.iter().map(|g| (g.name.clone(), g.private_ip, g.public_ip)).collect(),
            subnets: self.subnets(&snapshot, &plan),
            neighbours: self.neighbours(),
            services: topology.services.iter().map(|service| (service.name.clone(), service.address)).collect(),
            endpoints: endpoints(&plan, &snapshot),
            kube: KubeStatus { away: self.cluster.api().is_away(), objects: self.cluster.api().counts() },
            nodes: self.nodes.all().iter().filter_map(node).collect(),
            fabric: self.fabric.status(),
            link_local_dropped: self.link_local.as_ref().map(LinkLocalLimit::dropped),
            visits: last(self.visits.visits()),
            supervisor: None,
        }
    }

    fn subnets(&self, snapshot: &Snapshot, plan: &NetworkPlan) -> Vec<SubnetStatus> {
        let subnet = |subnet: &SubnetSnapshot| SubnetStatus {
            id: subnet.id.to_string(),
            name: subnet.name.clone(),
            zone: subnet.zone.clone(),
            cidr: subnet.cidr.net(),
            free: subnet.free,
            usable: subnet.usable,
            way_out: self.way_out(subnet, plan),
        };
        let mut all: Vec<_> = snapshot.subnets.iter().map(subnet).collect();
        all.sort_by_key(|subnet| subnet.cidr);
        all
    }

    fn way_out(&self, subnet: &SubnetSnapshot, plan: &NetworkPlan) -> WayOut {
        let everywhere = Ipv4Net::default();
        let routes = plan.route_tables.get(&subnet.route_table).map(Vec::as_slice).unwrap_or_default();
        let Some(route) = routes.iter().find(|route| route.destination == everywhere) else { return WayOut::None };
        match &route.target {
            RouteTarget::Local | RouteTarget::Blackhole => WayOut::None,
            RouteTarget::InternetGateway => WayOut::InternetGateway,
            RouteTarget::NatGateway(id) => {
                let known = self.topology.nat_gateways.iter().find(|gateway| id_text("nat-", &gateway.name) == *id);
                WayOut::NatGateway(known.map_or_else(|| id.clone(), |gateway| gateway.name.clone()))
            }
            RouteTarget::Peering(id) => {
                let known = plan.peerings.iter().find(|peering| peering.id == *id);
                WayOut::Other(known.map_or_else(|| id.clone(), |peering| peering.name.clone()))
            }
            RouteTarget::VirtualGateway(_) => WayOut::Other(Place::OnPremises.to_string()),
            RouteTarget::NetworkInterface(eni) => WayOut::Other(eni.to_string()),
        }
    }

    fn neighbours(&self) -> Vec<NeighbourStatus> {
        let peerings = self.topology.peerings.iter().map(|peering| NeighbourStatus {
            place: Place::Peer(peering.name.clone()),
            cidrs: peering.cidrs.clone(),
            hosts: peering.hosts.clone(),
        });
        let premises = self.topology.on_premises.iter().map(|network| NeighbourStatus {
            place: Place::OnPremises,
            cidrs: network.cidrs.clone(),
            hosts: network.hosts.clone(),
        });
        peerings.chain(premises).collect()
    }
}

fn endpoints(plan: &NetworkPlan, snapshot: &Snapshot) -> Vec<EndpointStatus> {
    let name = |id: &vpc_model::SubnetId| {
        let known = snapshot.subnets.iter().find(|subnet| subnet.id == *id);
        known.map_or_else(|| id.to_string(), |subnet| subnet.name.clone())
    };
    let endpoint = |endpoint: &lab_cloud::PlannedEndpoint| EndpointStatus {
        id: endpoint.id.clone(),
        service: endpoint.service.clone(),
        subnet: name(&endpoint.subnet),
        address: endpoint.address,
    };
    plan.endpoints.iter().map(endpoint).collect()
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
    let subnet = snapshot.subnets.iter().find(|subnet| subnet.id == instance.subnet);
    NodeStatus {
        name: node.spec.name.clone(),
        instance: instance.id.to_string(),
        instance_type: instance.instance_type.clone(),
        zone: instance.zone.clone(),
        subnet: subnet.map_or_else(|| instance.subnet.to_string(), |subnet| subnet.name.clone()),
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
