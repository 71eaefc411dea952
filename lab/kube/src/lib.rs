//! The lab's Kubernetes API in small: what node daemons, anybody's, and kubectl's everyday verbs need, over HTTPS. It is no
//! second Kubernetes: there are no controllers, no scheduler and no admission, and objects are given defaults only where
//! clients lean on them.
//!
//! ```text
//!  kubectl, daemons --HTTPS--> server.rs (TLS, away) -> api/ (path, token, switches, verb, form) --+
//!                                                                                                  v
//!  the lab itself ------------------------------------------------------------------> handle.rs: KubeHandle
//!                                                                                        |  real time, waking of watches
//!                                                                                        v
//!                                                                       store/: objects, versions, log; pure
//! ```
//!
//! Served are nodes, pods (with `binding`), namespaces, config maps, secrets, service accounts (with `token`), services,
//! endpoints, events (both groups, one storage), leases, endpoint slices, daemon sets (stored, nothing more), and
//! CustomResourceDefinitions with whatever they define; ENIConfig, CNINode and PolicyEndpoint are there from the start.
//! Questions are answered too: SelfSubjectAccessReview and its kin, TokenReview.
//!
//! Bodies may be JSON or, for kinds that are built in, protobuf; answers are JSON. Server-side apply is refused (415), and so
//! is who takes nothing but protobuf (406). Fields that Kubernetes does not know are stored as they are.

mod access;
mod api;
mod bootstrap;
mod config;
mod convert;
mod error;
mod handle;
pub mod object;
mod patch;
mod protobuf;
mod record;
mod resource;
mod schema;
mod selector;
mod server;
mod store;
mod strategic;
mod tls;
mod token;

pub use access::{Denial, PolicyRule, User};
pub use config::{InCluster, SERVICE_ACCOUNT_DIR, kubeconfig};
pub use error::{Cause, CauseReason, KubeError};
pub use handle::{KubeHandle, KubeSettings, StartError, Watch, WatchFrom};
pub use patch::Patch;
pub use record::{CAPACITY, KubeCall, KubeCallFilter};
pub use resource::{Definition, Resource};
pub use selector::Selection;
pub use server::{Server, serve_kube};
pub use store::{At, DeleteOptions, Deleted, EventKind, List, ListOptions, Part, Store, StoreSettings, WatchEvent};
pub use tls::{CertificateError, ClusterCa, Tls};
