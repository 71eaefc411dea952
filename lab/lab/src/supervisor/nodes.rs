//! The nodes there are: those of the topology, and those that somebody launches while the lab runs.
//!
//! ```text
//!   InstanceLaunched   -> a node like the topology's `node_defaults`, with the instance's name, type and subnet
//!   InstanceStarted    -> it boots                               (node.rs)
//!   InstanceTerminated -> no power; node, pods and disk are gone
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lab_cloud::{LaunchedInstance, NetworkPlan};
use vpc_model::{InstanceId, Subnet, SubnetId};

use super::node::{Node, NodePlaces};
use crate::control::Failure;
use crate::fabric::Fabric;
use crate::topology::{NodeSpec, Topology, checked_node_name};

/// All nodes, in the order in which they came.
#[derive(Debug)]
pub(super) struct Nodes {
    template: NodeSpec,
    places: NodePlaces,
    fabric: Arc<Fabric>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    nodes: Vec<Arc<Node>>,
    /// Networks of the VPC's subnets, those that were made later included.
    subnets: BTreeMap<SubnetId, Subnet>,
    /// The network around them, as the cloud said it last.
    plan: NetworkPlan,
}

impl Nodes {
    /// The nodes of a topology, without power.
    ///
    /// # Errors
    /// What keeps one of them from ever booting.
    pub(super) fn of(topology: &Topology, places: NodePlaces, fabric: Arc<Fabric>) -> Result<Self, String> {
        let subnets = topology.subnets.iter().map(|subnet| (lab_cloud::id_for(&subnet.name), subnet.cidr)).collect();
        let node = |spec: &NodeSpec| {
            let subnet = topology.subnet(&spec.subnet).ok_or_else(|| format!("node {} has no subnet", spec.name))?;
            let node = Node::new(spec.clone(), spec.instance_id(), subnet.cidr, &places, Arc::clone(&fabric))?;
            Ok::<_, String>(Arc::new(node))
        };
        let nodes = topology.nodes.iter().map(node).collect::<Result<_, _>>()?;
        Ok(Self {
            template: topology.template.clone(),
            places,
            fabric,
            now: Mutex::new(Now { nodes, subnets, plan: NetworkPlan::default() }),
        })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Node>> {
        self.now().nodes.clone()
    }

    /// The node of that name.
    ///
    /// # Errors
    /// [`Failure::NoNode`] with the names there are.
    pub(super) fn named(&self, name: &str) -> Result<Arc<Node>, Failure> {
        let now = self.now();
        now.nodes.iter().find(|node| node.spec.name == name).cloned().ok_or_else(|| Failure::NoNode {
            name: name.to_owned(),
            known: now.nodes.iter().map(|node| node.spec.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The node an instance is.
    pub(super) fn of_instance(&self, instance: &InstanceId) -> Option<Arc<Node>> {
        self.now().nodes.iter().find(|node| node.instance == *instance).cloned()
    }

    /// The network is now this: nodes may be launched in its subnets.
    pub(super) fn learn(&self, plan: &NetworkPlan) {
        let mut now = self.now();
        now.subnets = plan.subnets.iter().map(|(id, subnet)| (id.clone(), subnet.cidr)).collect();
        now.plan = plan.clone();
    }

    /// The network around them, as the cloud said it last.
    pub(super) fn plan(&self) -> NetworkPlan {
        self.now().plan.clone()
    }

    /// Somebody has launched an instance. What it is called by others, if it can be and is free, is its name; else its id is.
    ///
    /// # Errors
    /// What keeps it from ever booting.
    pub(super) fn launch(&self, launched: &LaunchedInstance) -> Result<(), String> {
        let mut now = self.now();
        let subnet = now.subnets.get(&launched.subnet).copied();
        let subnet = subnet.ok_or_else(|| format!("{}: there is no subnet {}", launched.id, launched.subnet))?;
        let free = now.nodes.iter().all(|node| node.spec.name != launched.name);
        let name =
            if free && checked_node_name(&launched.name).is_ok() { &launched.name } else { launched.id.as_str() };
        let spec = NodeSpec {
            name: name.to_owned(),
            instance_type: launched.instance_type.clone(),
            subnet: launched.subnet.to_string(),
            hop_limit: launched.hop_limit,
            ..self.template.clone()
        };
        let node = Node::new(spec, launched.id.clone(), subnet, &self.places, Arc::clone(&self.fabric))?;
        now.nodes.push(Arc::new(node));
        Ok(())
    }

    /// An instance is gone for ever, and everything of its node with it.
    pub(super) fn forget(&self, instance: &InstanceId) {
        let gone = {
            let mut now = self.now();
            let at = now.nodes.iter().position(|node| node.instance == *instance);
            at.map(|at| now.nodes.remove(at))
        };
        if let Some(node) = gone {
            node.power_off();
            node.scrap();
        }
    }
}
