//! STATUS: can ADD be served?
//!
//! ```text
//!   connect -> Status -> (mode strict: does the network policy agent listen?) -> nothing, or code 50 or 51 with the cause
//! ```
//!
//! What the daemon decides is in its agent: a node that is only full, or whose next address comes by itself, is ready.

use std::path::Path;
use std::time::Duration;

use vpc_wire::cni::{CniError, ErrorCode};
use vpc_wire::rpc::client::{CallError, Client};
use vpc_wire::rpc::{Cause, DAEMON_SOCKET, POLICY_AGENT_SOCKET};

use crate::network::Network;
use crate::policy::PolicyMode;

/// How long a connection may take, and how long the answer. Runtimes ask often, and a node that needs longer can serve nobody.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(2);

pub(crate) fn status(network: &Network) -> Result<(), CniError> {
    let asked = Client::connect(Path::new(DAEMON_SOCKET), CONNECT).and_then(|daemon| daemon.status(ANSWER));
    match asked {
        Ok(reply) => policy_agent(&reply.network_policy_mode),
        // It was reached and answered: a daemon of a make that opens its socket when it is ready.
        Err(error) if error.is_unimplemented() => {
            network.log.debug("the node daemon is of a make that has no answer to STATUS; that it answers must do");
            Ok(())
        }
        Err(error) => Err(not_ready(&error)),
    }
}

/// Where policies must be in force before a pod starts, no pod starts without the agent.
fn policy_agent(mode: &str) -> Result<(), CniError> {
    if PolicyMode::parse(mode) != PolicyMode::Strict {
        return Ok(());
    }
    match Client::connect(Path::new(POLICY_AGENT_SOCKET), CONNECT) {
        Ok(_) => Ok(()),
        Err(error) => Err(CniError::new(
            ErrorCode::NotAvailable,
            format!(
                "no pod can be added: NETWORK_POLICY_ENFORCING_MODE is strict, and the network policy agent is not there: {error}"
            ),
        )),
    }
}

fn not_ready(error: &CallError) -> CniError {
    let (code, why) = match error {
        CallError::Refused(refusal) if refusal.cause == Cause::HostError => (ErrorCode::LimitedConnectivity, ""),
        CallError::Absent { .. } => (ErrorCode::NotAvailable, "the node daemon is not running: "),
        CallError::Silent { .. } => (ErrorCode::NotAvailable, "the node daemon hangs: "),
        CallError::Broken { .. } => {
            (ErrorCode::NotAvailable, "what listens there is not the node daemon, or it died: ")
        }
        CallError::Refused(_) | CallError::Status { .. } => (ErrorCode::NotAvailable, ""),
    };
    CniError::new(code, format!("no pod can be added: {why}{error}"))
}
