//! The gRPC contract between plugin, daemon and network policy agent.
//!
//! [`pb`] holds the messages, exactly those of the reference. What they can not say, namely *why* a request was refused,
//! travels beside them as a detail of the gRPC status: a [`Refusal`]. What the reference's plugin never asks is a service of its own:
//! [`node`].

#[cfg(feature = "server")]
mod caller;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
mod http2;
#[cfg(feature = "server")]
mod peers;
mod refusal;
#[cfg(feature = "server")]
pub mod server;

pub use refusal::{Cause, Refusal, UNKNOWN_POD_TEXT};

/// What fuzz targets try.
#[cfg(all(fuzzing, feature = "client"))]
#[doc(hidden)]
pub mod fuzzing {
    pub use super::http2::fuzzing::hear;
}

/// The messages and services, generated from `proto/rpc.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod pb {
    tonic::include_proto!("rpc");
}

/// What is ours alone, generated from `proto/refusal.proto` ([`Refusal`] is what the project speaks) and `proto/node.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod refusal_pb {
    tonic::include_proto!("vpccni.v1");
}

/// The service `vpccni.v1.Node`: what STATUS, GC and CHECK ask of the daemon.
pub mod node {
    #[cfg(feature = "async-client")]
    pub use super::refusal_pb::node_client::NodeClient;
    #[cfg(feature = "server")]
    pub use super::refusal_pb::node_server::{Node, NodeServer};
    pub use super::refusal_pb::{
        Attachment, CollectReply, CollectRequest, FindReply, FindRequest, Lease, Matter, ReportReply, ReportRequest,
        StatusReply, StatusRequest,
    };
}

/// Where the daemon listens, on the host and in its container alike.
pub const DAEMON_SOCKET: &str = "/var/run/aws-node/ipamd.sock";

/// Where the network policy agent listens.
pub const POLICY_AGENT_SOCKET: &str = "/var/run/aws-node/npa.sock";

/// The version both sides must agree on. Released builds of the reference carry the empty string on both sides, so we do too.
pub const CLIENT_VERSION: &str = "";

/// `Reason` of a DelNetwork by which a plugin undoes an ADD that failed after the daemon's answer. (The reference's word.)
pub const SETUP_FAILED: &str = "SetupNSFailed";

/// The contract as a serialised `google.protobuf.FileDescriptorSet`, with the names that travel.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contract.bin"));
