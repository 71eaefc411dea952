//! The service `vpccni.v1.Node`: what the plugin's STATUS, CHECK and GC ask.
//!
//! ```text
//!   STATUS --Status--> agent: can ADD be served? ------> OK, or a refusal with its cause
//!   CHECK ---Find----> agent: which lease? ------------> it, or NOT_FOUND
//!   GC ------Collect-> agent: ends what is not valid --> what has ended
//!   ADD -----Report--> agent: a notice, an event of Kubernetes
//! ```

use std::sync::Arc;

use tonic::{Request, Response, Status};
use vpc_agent::{Collect, Input, Outcome, Readiness, Report};
use vpc_ipam::{Allocation, Held};
use vpc_linux::monotonic_nanos;
use vpc_model::{Millis, PodRef, SandboxKey, Time};
use vpc_wire::rpc::node::{
    Attachment, CollectReply, CollectRequest, FindReply, FindRequest, Lease, Matter, Node, ReportReply, ReportRequest,
    StatusReply, StatusRequest,
};
use vpc_wire::rpc::{Cause, Refusal};

use crate::answers;
use crate::clock::Clock;
use crate::door::Door;
use crate::server::{ending, sandbox};
use crate::under_way::UnderWay;

/// Answers questions about the node.
#[derive(Clone, Debug)]
pub struct Inquiry {
    door: Door,
    clock: Clock,
    policy_mode: Arc<str>,
    under_way: UnderWay,
}

impl Inquiry {
    /// Questions go through `door`; `clock` is the agent's; what is `under_way` no GC ends.
    #[must_use]
    pub fn new(door: Door, clock: Clock, policy_mode: Arc<str>, under_way: UnderWay) -> Self {
        Self { door, clock, policy_mode, under_way }
    }

    async fn readiness(&self) -> Result<StatusReply, Status> {
        let readiness = match self.door.ask(|ticket| Input::Status { ticket }, None).await.map_err(ending)? {
            Outcome::Status(readiness) => *readiness,
            Outcome::Refused(why) => return Err(answers::refusal(&why).into_status()),
            other => return Err(answers::odd("a STATUS", &other)),
        };
        match readiness {
            Readiness::Ready => Ok(StatusReply { network_policy_mode: self.policy_mode.to_string() }),
            Readiness::Starting => {
                let matter = "the node daemon has not finished its start; its log says what it waits for";
                Err(Refusal::new(Cause::Starting, matter).into_status())
            }
            Readiness::NotAvailable(why) | Readiness::Limited(why) => Err(answers::refusal(&why).into_status()),
        }
    }

    async fn lease(&self, request: FindRequest) -> Result<FindReply, Status> {
        let Attachment { container_id, interface } = request.attachment.unwrap_or_default();
        let key = sandbox(&request.network, &container_id, &interface)?;
        let asked = key.clone();
        match self.door.ask(|ticket| Input::Find { ticket, key: asked }, None).await.map_err(ending)? {
            Outcome::Found(Some(allocation)) => Ok(FindReply { lease: Some(lease(&key, allocation)) }),
            Outcome::Found(None) => Err(Refusal::unknown_pod(&key).into_status()),
            Outcome::Refused(why) => Err(answers::refusal(&why).into_status()),
            other => Err(answers::odd("a question for a lease", &other)),
        }
    }

    async fn end_stale(&self, request: CollectRequest) -> Result<CollectReply, Status> {
        let came = self.moment(request.called_at_ns);
        if request.network.is_empty() {
            let matter = "network is empty; expected the CNI configuration's name";
            return Err(Refusal::new(Cause::BadRequest, matter).into_status());
        }
        // Where the runtime's moment is not known, what is under way now counts.
        let since = Some(request.called_at_ns).filter(|at| *at > 0).or_else(monotonic_nanos).unwrap_or(0);
        let mut valid = self.under_way.since(since, &request.network).await;
        valid.extend(request.valid.into_iter().map(|one| (one.container_id, one.interface)));
        let request = Collect { network: request.network, valid, came };
        match self.door.ask(|ticket| Input::Collect { ticket, request }, None).await.map_err(ending)? {
            Outcome::Collected(ended) => Ok(CollectReply { ended: ended.iter().map(ended_lease).collect() }),
            Outcome::Refused(why) => Err(answers::refusal(&why).into_status()),
            other => Err(answers::odd("a GC", &other)),
        }
    }

    /// A moment of the kernel's clock, which plugin and daemon share, in the agent's time; never later than now. Rounded to the past.
    fn moment(&self, nanos: u64) -> Time {
        let now = self.clock.now();
        let Some(age) = monotonic_nanos().and_then(|kernel| kernel.checked_sub(nanos)).filter(|_| nanos > 0) else {
            return now;
        };
        now - Millis(age.div_ceil(1_000_000))
    }
}

fn reported(request: ReportRequest) -> Result<(SandboxKey, PodRef, Report), Status> {
    let report = match request.matter() {
        Matter::NoPolicyAgent => Report::NoPolicyAgent,
        Matter::Unspecified => {
            let matter =
                format!("matter is {}; expected {} (no policy agent)", request.matter, Matter::NoPolicyAgent as i32);
            return Err(Refusal::new(Cause::BadRequest, matter).into_status());
        }
    };
    let Attachment { container_id, interface } = request.attachment.unwrap_or_default();
    let key = sandbox(&request.network, &container_id, &interface)?;
    Ok((key, PodRef { namespace: request.pod_namespace, name: request.pod_name }, report))
}

fn lease(key: &SandboxKey, allocation: Allocation) -> Lease {
    Lease {
        attachment: Some(Attachment { container_id: key.container.clone(), interface: key.interface.clone() }),
        pod_namespace: String::new(),
        pod_name: String::new(),
        ipv4: allocation.address.to_string(),
        route_table: allocation.table.0,
    }
}

fn ended_lease(held: &Held) -> Lease {
    Lease {
        pod_namespace: held.pod.namespace.clone(),
        pod_name: held.pod.name.clone(),
        ..lease(&held.key, held.allocation)
    }
}

#[tonic::async_trait]
impl Node for Inquiry {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let answer = self.readiness().await;
        if let Err(status) = &answer {
            tracing::warn!(code = ?status.code(), "STATUS: {}", status.message());
        }
        answer.map(Response::new)
    }

    async fn collect(&self, request: Request<CollectRequest>) -> Result<Response<CollectReply>, Status> {
        let request = request.into_inner();
        let (network, valid) = (request.network.clone(), request.valid.len());
        let answer = self.end_stale(request).await;
        match &answer {
            Ok(reply) => {
                for lease in &reply.ended {
                    let container = lease.attachment.as_ref().map_or("", |one| one.container_id.as_str());
                    let pod = format!("{}/{}", lease.pod_namespace, lease.pod_name);
                    tracing::info!(
                        network,
                        pod,
                        container,
                        address = lease.ipv4,
                        "GC: no valid attachment, lease ended"
                    );
                }
                tracing::info!(network, valid, ended = reply.ended.len(), "answered Collect");
            }
            Err(status) => tracing::warn!(network, code = ?status.code(), "refused Collect: {}", status.message()),
        }
        answer.map(Response::new)
    }

    async fn find(&self, request: Request<FindRequest>) -> Result<Response<FindReply>, Status> {
        self.lease(request.into_inner()).await.map(Response::new)
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let (key, pod, report) = reported(request.into_inner())?;
        self.door.tell(Input::Reported { key, pod, report }).await;
        Ok(Response::new(ReportReply {}))
    }
}
