//! The caller's half: one blocking call at a time, each with its deadline, on a runtime of one thread.
//!
//! ```text
//!   Client::connect(socket, 5 s) -> Client --add_network(request, 60 s)--> AddNetworkReply
//!                     \--CallError::Absent              \--CallError::{Refused, Silent, Broken, Status}
//! ```

use std::error::Error;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::node::{CollectReply, CollectRequest, FindReply, FindRequest, NodeClient, StatusReply, StatusRequest};
use super::pb::cni_backend_client::CniBackendClient;
use super::pb::np_backend_client::NpBackendClient;
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
    /// The runtime for the call could not be made.
    #[error("can not set up the call: {0}")]
    Runtime(io::Error),
}

impl CallError {
    /// Whether the same call may succeed later without anyone changing a setting.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Absent { .. } | Self::Silent { .. } => true,
            Self::Refused(refusal) => refusal.cause.passes(),
            Self::Status { code, .. } => matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::Cancelled),
            Self::Broken { .. } | Self::Runtime(_) => false,
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
            Self::Absent { .. } | Self::Silent { .. } | Self::Broken { .. } | Self::Runtime(_) => false,
        }
    }
}

/// A connection to a daemon or to the network policy agent.
pub struct Client {
    runtime: Runtime,
    channel: Channel,
    socket: PathBuf,
}

impl Client {
    /// Connects to a unix socket.
    pub fn connect(socket: &Path, within: Duration) -> Result<Self, CallError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CallError::Runtime)?;
        let channel = runtime.block_on(open(socket, within))?;
        Ok(Self { runtime, channel, socket: socket.to_owned() })
    }

    /// Asks the daemon for an address.
    pub fn add_network(&self, request: AddNetworkRequest, within: Duration) -> Result<AddNetworkReply, CallError> {
        let mut daemon = CniBackendClient::new(self.channel.clone());
        self.call("AddNetwork", within, daemon.add_network(timed(request, within)))
    }

    /// Gives an address back.
    pub fn del_network(&self, request: DelNetworkRequest, within: Duration) -> Result<DelNetworkReply, CallError> {
        let mut daemon = CniBackendClient::new(self.channel.clone());
        self.call("DelNetwork", within, daemon.del_network(timed(request, within)))
    }

    /// Asks the daemon whether it can serve ADD.
    pub fn status(&self, within: Duration) -> Result<StatusReply, CallError> {
        let mut daemon = NodeClient::new(self.channel.clone());
        self.call("Status", within, daemon.status(timed(StatusRequest {}, within)))
    }

    /// Ends the leases that no valid attachment stands behind.
    pub fn collect(&self, request: CollectRequest, within: Duration) -> Result<CollectReply, CallError> {
        let mut daemon = NodeClient::new(self.channel.clone());
        self.call("Collect", within, daemon.collect(timed(request, within)))
    }

    /// Asks for the lease of a sandbox.
    pub fn find(&self, request: FindRequest, within: Duration) -> Result<FindReply, CallError> {
        let mut daemon = NodeClient::new(self.channel.clone());
        self.call("Find", within, daemon.find(timed(request, within)))
    }

    /// Asks the policy agent to enforce a new pod's policies.
    pub fn enforce_policies(&self, request: EnforceNpRequest, within: Duration) -> Result<EnforceNpReply, CallError> {
        let mut agent = NpBackendClient::new(self.channel.clone());
        self.call("EnforceNpToPod", within, agent.enforce_np_to_pod(timed(request, within)))
    }

    /// Tells the policy agent that a pod is gone.
    pub fn delete_policies(&self, request: DeleteNpRequest, within: Duration) -> Result<DeleteNpReply, CallError> {
        let mut agent = NpBackendClient::new(self.channel.clone());
        self.call("DeletePodNp", within, agent.delete_pod_np(timed(request, within)))
    }

    fn call<T>(
        &self,
        call: &'static str,
        within: Duration,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CallError> {
        let silent = || CallError::Silent { socket: self.socket.clone(), call, after: within };
        // The timer must be made inside the runtime.
        match self.runtime.block_on(async { tokio::time::timeout(within, answer).await }) {
            Err(_) => Err(silent()),
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if is_timeout(&status) => Err(silent()),
            Ok(Err(status)) => Err(self.explain(call, &status)),
        }
    }

    fn explain(&self, call: &'static str, status: &Status) -> CallError {
        if let Some(refusal) = Refusal::from_status(status) {
            return CallError::Refused(refusal);
        }
        match status.source() {
            // A status the other side sent has no source; one that tonic made from a broken transport has.
            Some(source) => CallError::Broken { socket: self.socket.clone(), call, reason: chain(source) },
            None => CallError::Status { call, code: status.code(), message: status.message().to_owned() },
        }
    }
}

/// Whether it was the deadline: three timers watch it, ours, that of tonic's channel and that of the server.
fn is_timeout(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded || causes(status.source()).any(|cause| cause.is::<tonic::TimeoutExpired>())
}

/// The request with its deadline told to the server, so that it stops working for a caller that is gone.
fn timed<T>(message: T, within: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(within);
    request
}

async fn open(socket: &Path, within: Duration) -> Result<Channel, CallError> {
    let absent = |source| CallError::Absent { socket: socket.to_owned(), source };
    let connected = tokio::time::timeout(within, UnixStream::connect(socket)).await;
    let stream = match connected {
        Ok(stream) => stream.map_err(absent)?,
        Err(_) => return Err(CallError::Silent { socket: socket.to_owned(), call: "connect", after: within }),
    };
    // The stream is there already: it is handed out once. A second connection would be another daemon.
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    // The name is only what the HTTP/2 `:authority` says; gRPC over unix sockets uses this one.
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.map_err(|error| CallError::Broken {
        socket: socket.to_owned(),
        call: "connect",
        reason: chain(&error),
    })
}

/// An error, what caused it, what caused that …
fn causes<'a>(first: Option<&'a (dyn Error + 'static)>) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = first;
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// An error and what caused it, as one text. Errors that already quote their cause are not followed by it again.
fn chain(error: &(dyn Error + 'static)) -> String {
    causes(Some(error)).fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.is_empty() => cause,
        cause if text.ends_with(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}
