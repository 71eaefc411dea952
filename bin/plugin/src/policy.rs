//! The network policy agent: told of every pod that comes or goes, in every mode but the empty one.
//!
//! ```text
//!   ADD --EnforceNpToPod--> agent: policies are in force     no agent: strict refuses the pod, standard and none start it;
//!                                                            standard tells the daemon, which makes an event of it
//!   DEL --DeletePodNp-----> agent: forgets the pod           no agent: there is nothing to forget
//! ```

use std::path::Path;
use std::time::Duration;

use vpc_wire::cni::{CniError, ErrorCode};
use vpc_wire::rpc::POLICY_AGENT_SOCKET;
use vpc_wire::rpc::client::{CallError, Client};
use vpc_wire::rpc::node::Matter;
use vpc_wire::rpc::pb::{DeleteNpRequest, EnforceNpRequest};

use crate::call::Call;
use crate::daemon::{ADD_BUDGET, Daemon};

/// How long a connection to the agent may take; the reference gives it as much.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the agent may take.
const BUDGET: Duration = Duration::from_secs(10);

/// How policies are enforced (`NETWORK_POLICY_ENFORCING_MODE`), as the daemon tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyMode {
    /// No agent is to be told.
    Off,
    /// Pods start before their policies are in force.
    Standard,
    /// No pod starts before its policies are in force.
    Strict,
    /// Policies are not enforced; the agent is told all the same, as by the reference.
    None,
}

impl PolicyMode {
    /// A spelling nobody knows is taken for the careful mode.
    pub(crate) fn parse(mode: &str) -> Self {
        match mode.to_ascii_lowercase().as_str() {
            "" => Self::Off,
            "standard" => Self::Standard,
            "none" => Self::None,
            _ => Self::Strict,
        }
    }

    fn may_start_without_agent(self) -> bool {
        matches!(self, Self::Off | Self::Standard | Self::None)
    }
}

/// Asks the agent to enforce the new pod's policies.
pub(crate) fn enforce(call: &Call, daemon: &Daemon, mode: &str) -> Result<(), CniError> {
    let parsed = PolicyMode::parse(mode);
    if parsed == PolicyMode::Off {
        return Ok(());
    }
    let request = EnforceNpRequest {
        k8s_pod_name: call.pod.name.clone(),
        k8s_pod_namespace: call.pod.namespace.clone(),
        network_policy_mode: mode.to_owned(),
        interface_count: 1,
    };
    let failed = |code, why: String| {
        CniError::new(code, format!("{}: the network policy agent did not take it (mode {mode}): {why}", call.whom()))
    };
    let asked = Client::connect(Path::new(POLICY_AGENT_SOCKET), CONNECT)
        .and_then(|agent| agent.enforce_policies(request, BUDGET.min(call.left_of(ADD_BUDGET))));
    match asked {
        Ok(reply) if reply.success => Ok(()),
        Ok(_) => Err(failed(ErrorCode::Internal, "it refused; its log says why".to_owned())),
        Err(error @ CallError::Absent { .. }) if parsed.may_start_without_agent() => {
            call.log.warn(&format!(
                "{} starts without network policies (mode {mode}): no network policy agent is on the node: {error}",
                call.whom()
            ));
            // Who asked for policies should see it where they look. Mode none asks for none.
            if parsed == PolicyMode::Standard {
                daemon.report(call, Matter::NoPolicyAgent);
            }
            Ok(())
        }
        Err(error @ CallError::Absent { .. }) => {
            let way_out =
                "start the agent on the node, or set NETWORK_POLICY_ENFORCING_MODE of the node daemon to standard";
            Err(failed(ErrorCode::TryAgainLater, format!("{error}; {way_out}")))
        }
        Err(error) if error.passes() => Err(failed(ErrorCode::TryAgainLater, error.to_string())),
        Err(error) => Err(failed(ErrorCode::Internal, error.to_string())),
    }
}

/// Tells the agent that the pod is gone. What it answers is only logged, and so is that there is none: a pod must be deleted on a node
/// whose agent was taken off, and an agent that comes back asks Kubernetes which pods there are.
pub(crate) fn forget(call: &Call, mode: &str) {
    if PolicyMode::parse(mode) == PolicyMode::Off {
        return;
    }
    let request =
        DeleteNpRequest { k8s_pod_name: call.pod.name.clone(), k8s_pod_namespace: call.pod.namespace.clone() };
    let asked = Client::connect(Path::new(POLICY_AGENT_SOCKET), CONNECT)
        .and_then(|agent| agent.delete_policies(request, BUDGET));
    match asked {
        Ok(reply) if reply.success => {}
        Ok(_) => call.log.error("the network policy agent did not forget the pod; its log says why"),
        Err(error @ CallError::Absent { .. }) => {
            call.log.warn(&format!("no network policy agent is on the node to be told that the pod is gone: {error}"));
        }
        Err(error) => call.log.error(&format!("the network policy agent did not forget the pod: {error}")),
    }
}
