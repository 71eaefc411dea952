//! The lab's Kubernetes API in small: what node daemons and kubectl's everyday verbs need, over HTTPS with a CA of its own.

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
