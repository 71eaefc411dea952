//! The gRPC services: a request becomes an input for the agent, its outcome becomes the reply.
//!
//! ```text
//!   plugin --AddNetwork--> Backend --Input::Add--> door --> agent --Outcome--> answers --AddNetworkReply--> plugin
//!                             \--(caller gone: Input::AddAbandoned)
//! ```

use std::net::Ipv4Addr;
use std::sync::Arc;

use tonic::{Request, Response, Status};
use vpc_agent::{AddRequest, Input, Ticket};
use vpc_model::{InstanceId, PodRef, SandboxKey};
use vpc_wire::rpc::pb::{
    AddNetworkReply, AddNetworkRequest, DelNetworkReply, DelNetworkRequest, NetworkPolicyAgentConfigReply,
};
use vpc_wire::rpc::server::{Caller, CniBackend, ConfigServerBackend};
use vpc_wire::rpc::{CLIENT_VERSION, Cause, Refusal, SETUP_FAILED};

use crate::answers;
use crate::door::{Closed, Door};
use crate::failpoint::Point;
use crate::under_way::UnderWay;

/// What the network policy agent asks for at its start.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// The node's own address.
    pub address: Ipv4Addr,
    /// The instance.
    pub instance: InstanceId,
    /// Its region.
    pub region: String,
    /// The policy mode as written; empty = feature off.
    pub policy_mode: Arc<str>,
}

/// Adds and removes pods.
#[derive(Clone, Debug)]
pub struct Backend {
    door: Door,
    policy_mode: Arc<str>,
    under_way: UnderWay,
}

impl Backend {
    /// A backend whose questions go through `door`; `under_way` learns of every ADD.
    #[must_use]
    pub fn new(door: Door, policy_mode: Arc<str>, under_way: UnderWay) -> Self {
        Self { door, policy_mode, under_way }
    }

    async fn add(&self, request: AddNetworkRequest, caller: Caller) -> Result<AddNetworkReply, Status> {
        same_version(&request.client_version)?;
        let key = sandbox(&request.network_name, &request.container_id, &request.if_name)?;
        if request.requires_multi_nic {
            let matter = format!("{key} asks for several network cards, which are not in this release");
            return Err(Refusal::new(Cause::Unsupported, matter).into_status());
        }
        let pod = PodRef { namespace: request.k8s_pod_namespace, name: request.k8s_pod_name };
        self.under_way.began(key.clone(), caller);
        let add = |ticket| Input::Add { ticket, request: AddRequest { key, pod } };
        let gone: fn(Ticket) -> Input = |ticket| Input::AddAbandoned { ticket };
        Point::AddReceived.pass();
        let outcome = self.door.ask(add, Some(gone)).await.map_err(ending)?;
        Point::AddBeforeReply.pass();
        answers::add(outcome, &self.policy_mode)
    }

    async fn del(&self, request: DelNetworkRequest) -> Result<DelNetworkReply, Status> {
        same_version(&request.client_version)?;
        let key = sandbox(&request.network_name, &request.container_id, &request.if_name)?;
        self.under_way.ended(&key);
        let undo = request.reason == SETUP_FAILED;
        let del = |ticket| match undo {
            true => Input::Undo { ticket, key: key.clone() },
            false => Input::Del { ticket, key: key.clone() },
        };
        Point::DelReceived.pass();
        let outcome = self.door.ask(del, None).await.map_err(ending)?;
        Point::DelBeforeReply.pass();
        answers::del(outcome, &key, &self.policy_mode)
    }
}

/// Plugin and daemon are installed together; a plugin of another build may mean something else by the same fields.
fn same_version(client: &str) -> Result<(), Status> {
    if client == CLIENT_VERSION {
        Ok(())
    } else {
        Err(Status::failed_precondition(format!("wrong client version \"{client}\" (!= \"{CLIENT_VERSION}\")")))
    }
}

pub(crate) fn sandbox(network: &str, container: &str, interface: &str) -> Result<SandboxKey, Status> {
    for (name, value) in [("NetworkName", network), ("ContainerID", container), ("IfName", interface)] {
        if value.is_empty() {
            let matter =
                format!("{name} is empty; expected the CNI configuration's name, the container id and the interface");
            return Err(Refusal::new(Cause::BadRequest, matter).into_status());
        }
    }
    Ok(SandboxKey { network: network.into(), container: container.into(), interface: interface.into() })
}

pub(crate) fn ending(_: Closed) -> Status {
    answers::refusal(&vpc_agent::Refusal::ShuttingDown).into_status()
}

#[tonic::async_trait]
impl CniBackend for Backend {
    async fn add_network(&self, request: Request<AddNetworkRequest>) -> Result<Response<AddNetworkReply>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let (pod, container) =
            (format!("{}/{}", request.k8s_pod_namespace, request.k8s_pod_name), request.container_id.clone());
        tracing::info!(pod, container, netns = request.netns, "received AddNetwork");
        let answer = self.add(request, caller).await;
        match &answer {
            Ok(reply) => {
                let address = reply.allocations.first().map_or("", |place| place.ipv4.as_str());
                tracing::info!(pod, container, address, "answered AddNetwork");
            }
            Err(status) => {
                tracing::warn!(pod, container, code = ?status.code(), "refused AddNetwork: {}", status.message())
            }
        }
        answer.map(Response::new)
    }

    async fn del_network(&self, request: Request<DelNetworkRequest>) -> Result<Response<DelNetworkReply>, Status> {
        let request = request.into_inner();
        let (pod, container) =
            (format!("{}/{}", request.k8s_pod_namespace, request.k8s_pod_name), request.container_id.clone());
        tracing::info!(pod, container, reason = request.reason, "received DelNetwork");
        let answer = self.del(request).await;
        match &answer {
            Ok(reply) => {
                let address = reply.allocations.first().map_or("", |place| place.ipv4.as_str());
                tracing::info!(pod, container, address, "answered DelNetwork");
            }
            Err(status) if Refusal::is_unknown_pod(status) => {
                tracing::info!(pod, container, "answered DelNetwork: no address is held by this sandbox");
            }
            Err(status) => {
                tracing::warn!(pod, container, code = ?status.code(), "refused DelNetwork: {}", status.message())
            }
        }
        answer.map(Response::new)
    }
}

/// Tells the network policy agent about the node.
#[derive(Clone, Debug)]
pub struct Configs(pub NodeIdentity);

#[tonic::async_trait]
impl ConfigServerBackend for Configs {
    async fn get_network_policy_configs(
        &self,
        _: Request<()>,
    ) -> Result<Response<NetworkPolicyAgentConfigReply>, Status> {
        let Configs(node) = self;
        Ok(Response::new(NetworkPolicyAgentConfigReply {
            network_policy_mode: node.policy_mode.to_string(),
            multi_nic_enabled: false,
            node_ipv4: node.address.to_string(),
            node_ipv6: String::new(),
            instance_id: node.instance.to_string(),
            region: node.region.clone(),
        }))
    }
}
