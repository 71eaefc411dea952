//! Power and existence of nodes, as EC2's API changes them: what a person asks for here and what a program asks of EC2 take the same
//! way through the cloud and back as events.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lab_cloud::Caller;
use vpc_aws::ec2::shapes::{
    AnyResponse, IamInstanceProfileSpecification, InstanceMetadataOptionsRequest, ResourceType, RunInstances, Tag,
    TagSpecification, TerminateInstances,
};
use vpc_model::SubnetId;

use super::node::READY_PATIENCE;
use super::run::Supervisor;
use crate::control::Failure;
use crate::topology::checked_node_name;

/// Power may take so long to come or go.
const POWER_PATIENCE: Duration = Duration::from_secs(30);
/// The image that nodes are launched from. What runs on them says the topology.
const IMAGE: &str = "ami-0123456789abcdef0";

impl Supervisor {
    /// Turns a node on or off, and waits until it is.
    pub(super) fn power(&self, name: &str, on: bool) -> Result<(), Failure> {
        let node = self.named(name)?;
        if node.is_on() == on {
            return Ok(());
        }
        self.runtime.block_on(self.cloud.power(&node.instance, on)).map_err(Failure::other)?;
        node.wait_for_power(on, POWER_PATIENCE)?;
        if on {
            node.wait_ready(READY_PATIENCE).map_err(Failure::other)?;
            node.kubelet.power_back(&node.view()?);
        }
        Ok(())
    }

    /// Launches an instance and waits until its node is ready; the node's name.
    pub(super) fn add_node(
        &self,
        name: Option<&str>,
        subnet: &str,
        instance_type: Option<&str>,
    ) -> Result<String, Failure> {
        if let Some(name) = name {
            checked_node_name(name).map_err(Failure::other)?;
            if self.nodes.named(name).is_ok() {
                return Err(Failure::other(format!("there is a node `{name}` already: choose another name")));
            }
        }
        let template = &self.topology.template;
        let hop_limit = Some(u32::from(template.hop_limit));
        let tags = name.map(|name| TagSpecification {
            resource_type: ResourceType::Instance,
            tags: vec![Tag { key: "Name".into(), value: name.into() }],
        });
        let request = RunInstances {
            image_id: Some(IMAGE.to_owned()),
            instance_type: Some(instance_type.unwrap_or(&template.instance_type).to_owned()),
            subnet_id: Some(self.subnet_named(subnet)?),
            metadata_options: Some(InstanceMetadataOptionsRequest {
                http_put_response_hop_limit: hop_limit,
                ..InstanceMetadataOptionsRequest::default()
            }),
            // Without a role its programs have no credentials.
            iam_instance_profile: Some(IamInstanceProfileSpecification {
                arn: None,
                name: Some(template.role.clone()),
            }),
            tag_specifications: tags.into_iter().collect(),
            ..RunInstances::new(1, 1)
        };
        let answer = self.runtime.block_on(self.cloud.call(&Caller::Account, request)).map_err(Failure::other)?;
        let AnyResponse::RunInstances(reservation) = answer else {
            return Err(Failure::other("EC2 answered another question"));
        };
        let launched = reservation.instances.first().map(|instance| instance.instance_id.clone());
        let launched = launched.ok_or_else(|| Failure::other("EC2 has launched no instance"))?;
        let node = self.await_node(|| self.nodes.of_instance(&launched)).ok_or_else(|| {
            let log = "the supervisor's log, beside the lab's socket, says why";
            Failure::other(format!("{launched} was launched, and has not become a node: {log}"))
        })?;
        node.wait_for_power(true, POWER_PATIENCE)?;
        node.wait_ready(READY_PATIENCE).map_err(Failure::other)?;
        Ok(node.spec.name.clone())
    }

    /// The id of a subnet by name or id.
    fn subnet_named(&self, name: &str) -> Result<SubnetId, Failure> {
        let subnets = self.cloud.snapshot().subnets;
        let found = subnets.iter().find(|subnet| subnet.name == name || subnet.id.as_str() == name);
        found.map(|subnet| subnet.id.clone()).ok_or_else(|| {
            let known = subnets
                .iter()
                .map(|subnet| subnet.name.as_str())
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join(", ");
            Failure::other(format!("there is no subnet `{name}`; there are: {known}"))
        })
    }

    /// Terminates a node's instance, and waits until nothing of the node is left.
    pub(super) fn remove_node(&self, name: &str) -> Result<(), Failure> {
        let instance = self.named(name)?.instance.clone();
        let request = TerminateInstances { instance_ids: vec![instance.clone()], ..TerminateInstances::default() };
        self.runtime.block_on(self.cloud.call(&Caller::Account, request)).map_err(Failure::other)?;
        let gone = self.await_node(|| self.nodes.of_instance(&instance).is_none().then_some(()));
        gone.ok_or_else(|| Failure::other(format!("{name} is still there {POWER_PATIENCE:?} after it was terminated")))
    }

    /// Waits for something that the cloud will bring about.
    fn await_node<T>(&self, there: impl Fn() -> Option<T>) -> Option<T> {
        const GLANCE: Duration = Duration::from_millis(3);
        let deadline = Instant::now() + POWER_PATIENCE;
        loop {
            match there() {
                None if Instant::now() < deadline => std::thread::sleep(GLANCE),
                found => return found,
            }
        }
    }
}
