//! The caller's half: one blocking call at a time, each with its deadline.
//!
//! ```text
//!   Client::connect(socket, 5 s) -> Client --add_network(request, 60 s)--> AddNetworkReply
//!                     \--CallError::Absent              \--CallError::{Refused, Silent, Broken, Status}
//! ```

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message;
use tonic::Code;

use super::http2::{Answer, Connection, Failure};
use super::node::{
    CollectReply, CollectRequest, FindReply, FindRequest, ReportReply, ReportRequest, StatusReply, StatusRequest,
};
use super::pb::{
    AddNetworkReply, AddNetworkRequest, DelNetworkReply, DelNetworkRequest, DeleteNpReply, DeleteNpRequest,
    EnforceNpReply, EnforceNpRequest,
};
use super::{Refusal, UNKNOWN_POD_TEXT};

/// Why a call has no answer to work with.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens on the socket.
    #[error("nobody answers on {}: {source}", .socket.display())]
    Absent {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Someone listens and did not answer in time.
    #[error("no answer to {call} on {} within {after:?}", .socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// The call.
        call: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke, or what came over it was not gRPC.
    #[error("the answer to {call} on {} is not usable: {reason}", .socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// The call.
        call: &'static str,
        /// What the transport said.
        reason: String,
    },
    /// The daemon refused and told why.
    #[error("{0}")]
    Refused(Refusal),
    /// The daemon refused with a status of its own making, as a reference daemon does.
    #[error("{call} failed: {message} (gRPC status {code:?})")]
    Status {
        /// The call.
        call: &'static str,
        /// The status code.
        code: Code,
        /// Its text.
        message: String,
    },
}

impl CallError {
    /// Whether the same call may succeed later without anyone changing a setting.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Absent { .. } | Self::Silent { .. } => true,
            Self::Refused(refusal) => refusal.cause.passes(),
            Self::Status { code, .. } => matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::Cancelled),
            Self::Broken { .. } => false,
        }
    }

    /// Whether the daemon is of a make that does not have the call.
    #[must_use]
    pub fn is_unimplemented(&self) -> bool {
        matches!(self, Self::Status { code: Code::Unimplemented, .. })
    }

    /// Whether the daemon said that it knows nothing of the sandbox, whichever make of daemon it is.
    #[must_use]
    pub fn is_unknown_pod(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.cause == super::Cause::UnknownPod,
            Self::Status { code, message, .. } => *code == Code::NotFound || message.contains(UNKNOWN_POD_TEXT),
            Self::Absent { .. } | Self::Silent { .. } | Self::Broken { .. } => false,
        }
    }
}

/// A connection to a daemon or to the network policy agent.
#[derive(Debug)]
pub struct Client {
    connection: RefCell<Connection>,
    socket: PathBuf,
}

impl Client {
    /// Connects to a unix socket.
    pub fn connect(socket: &Path, within: Duration) -> Result<Self, CallError> {
        let connection = Connection::open(socket, within).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                CallError::Silent { socket: socket.to_owned(), call: "connect", after: within }
            }
            _ => CallError::Absent { socket: socket.to_owned(), source },
        })?;
        Ok(Self { connection: RefCell::new(connection), socket: socket.to_owned() })
    }

    /// Asks the daemon for an address.
    pub fn add_network(&self, request: AddNetworkRequest, within: Duration) -> Result<AddNetworkReply, CallError> {
        self.call("/rpc.CNIBackend/AddNetwork", &request, within)
    }

    /// Gives an address back.
    pub fn del_network(&self, request: DelNetworkRequest, within: Duration) -> Result<DelNetworkReply, CallError> {
        self.call("/rpc.CNIBackend/DelNetwork", &request, within)
    }

    /// Asks the daemon whether it can serve ADD.
    pub fn status(&self, within: Duration) -> Result<StatusReply, CallError> {
        self.call("/vpccni.v1.Node/Status", &StatusRequest {}, within)
    }

    /// Ends the leases that no valid attachment stands behind.
    pub fn collect(&self, request: CollectRequest, within: Duration) -> Result<CollectReply, CallError> {
        self.call("/vpccni.v1.Node/Collect", &request, within)
    }

    /// Asks for the lease of a sandbox.
    pub fn find(&self, request: FindRequest, within: Duration) -> Result<FindReply, CallError> {
        self.call("/vpccni.v1.Node/Find", &request, within)
    }

    /// Tells the daemon what people should know of a pod.
    pub fn report(&self, request: ReportRequest, within: Duration) -> Result<ReportReply, CallError> {
        self.call("/vpccni.v1.Node/Report", &request, within)
    }

    /// Asks the policy agent to enforce a new pod's policies.
    pub fn enforce_policies(&self, request: EnforceNpRequest, within: Duration) -> Result<EnforceNpReply, CallError> {
        self.call("/rpc.NPBackend/EnforceNpToPod", &request, within)
    }

    /// Tells the policy agent that a pod is gone.
    pub fn delete_policies(&self, request: DeleteNpRequest, within: Duration) -> Result<DeleteNpReply, CallError> {
        self.call("/rpc.NPBackend/DeletePodNp", &request, within)
    }

    /// One call of the contract, by its path: `/<package>.<service>/<method>`.
    fn call<T: Message + Default>(
        &self,
        path: &'static str,
        request: &impl Message,
        within: Duration,
    ) -> Result<T, CallError> {
        let call = path.rsplit('/').next().unwrap_or(path);
        let broken = |reason| CallError::Broken { socket: self.socket.clone(), call, reason };
        let silent = || CallError::Silent { socket: self.socket.clone(), call, after: within };
        let asked = self.connection.borrow_mut().unary(path, &request.encode_to_vec(), Instant::now() + within);
        let answer = asked.map_err(|failure| match failure {
            Failure::Silent => silent(),
            Failure::Broken(reason) => broken(reason),
        })?;
        match Code::from(answer.status) {
            Code::Ok => T::decode(answer.message.as_slice()).map_err(|error| broken(error.to_string())),
            // The other side watches the deadline too.
            Code::DeadlineExceeded => Err(silent()),
            code => Err(refused(call, code, answer)),
        }
    }
}

/// What a status means: a refusal of our daemon, or whatever another has to say.
fn refused(call: &'static str, code: Code, answer: Answer) -> CallError {
    match Refusal::from_details(&answer.details) {
        Some(refusal) => CallError::Refused(refusal),
        None => CallError::Status { call, code, message: answer.text },
    }
}
