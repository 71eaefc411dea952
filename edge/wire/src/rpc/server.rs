//! The daemon's half: the socket, the services around [`CniBackend`], health and reflection.
//!
//! ```text
//!   listen(path) -> UnixListener -> serve(listener, backend, configs, health, until) ... runs until `until` resolves
//! ```

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tonic::transport::Server;
use tonic::transport::server::Router;

pub use super::caller::Caller;
pub use super::node::{Node, NodeServer};
pub use super::pb::cni_backend_server::{CniBackend, CniBackendServer};
pub use super::pb::config_server_backend_server::{ConfigServerBackend, ConfigServerBackendServer};
pub use super::pb::np_backend_server::{NpBackend, NpBackendServer};

/// The service name that probes of the reference's manifests ask the health of, besides the empty one.
pub const HEALTH_SERVICE: &str = "grpc.health.v1.aws-node";

/// Why the daemon could not listen or serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Someone answers on the socket: two daemons must not hold one node's addresses.
    #[error("another process listens on {}: stop that daemon first", .0.display())]
    InUse(PathBuf),
    /// Something that is not a socket stands at the path; it is left alone.
    #[error("{} exists and is not a socket: move it away", .0.display())]
    NotASocket(PathBuf),
    /// A step on the way to a listening socket failed.
    #[error("can not {step} {}: {source}", .path.display())]
    Listen {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The descriptor of the contract was not taken by the reflection service.
    #[error("the reflection service does not take the contract: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server stopped on its own.
    #[error("the gRPC server stopped: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// Opens the daemon's socket: its folder is made (0755) if missing, a leftover socket of a dead process is removed, a live one is
/// respected, and the mode is 0660 before anyone is served.
pub fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source| ServeError::Listen { step, path, source }
    };
    if let Some(folder) = path.parent()
        && !folder.exists()
    {
        std::fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder, mode).map_err(failed("set the mode of", folder))?;
    }
    remove_leftover(path)?;
    let listener = UnixListener::bind(path).map_err(failed("listen on", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(|source| {
        // A socket with the wrong mode must not stay: anyone could ask for addresses. Its removal can fail no worse.
        let _ = std::fs::remove_file(path);
        ServeError::Listen { step: "set the mode of", path: path.to_owned(), source }
    })?;
    Ok(listener)
}

fn remove_leftover(path: &Path) -> Result<(), ServeError> {
    let listen = |step| move |source| ServeError::Listen { step, path: path.to_owned(), source };
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(listen("look at")(source)),
    };
    if !kind.is_socket() {
        return Err(ServeError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ServeError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ServeError::InUse(path.to_owned())),
        Err(_) => std::fs::remove_file(path).map_err(listen("remove the leftover")),
    }
}

/// Whether the daemon tells probes that it serves.
#[derive(Clone)]
pub struct Health(tonic_health::server::HealthReporter);

impl Health {
    /// Says it for the empty name and for [`HEALTH_SERVICE`].
    pub async fn set_serving(&self, serving: bool) {
        let status =
            if serving { tonic_health::ServingStatus::Serving } else { tonic_health::ServingStatus::NotServing };
        self.0.set_service_status("", status).await;
        self.0.set_service_status(HEALTH_SERVICE, status).await;
    }
}

/// Serves the contract on `listener` until `until` resolves; calls under way are finished first. Only root and the daemon's own user are
/// served, others find the connection closed.
///
/// `ready` gets a handle of the health service before the first connection is taken; it starts as serving, as the reference's does.
pub async fn serve_node<B, C, N>(
    listener: UnixListener,
    backend: B,
    configs: C,
    node: N,
    ready: impl FnOnce(Health),
    until: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    B: CniBackend,
    C: ConfigServerBackend,
    N: Node,
{
    let services = common(ready).await?;
    let services = services.add_service(NodeServer::new(node));
    let services =
        services.add_service(CniBackendServer::new(backend)).add_service(ConfigServerBackendServer::new(configs));
    Ok(services.serve_with_incoming_shutdown(super::peers::of_root(listener), until).await?)
}

/// Serves what the reference's daemon does and nothing else: for those who play it.
pub async fn serve<B, C>(
    listener: UnixListener,
    backend: B,
    configs: C,
    ready: impl FnOnce(Health),
    until: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    B: CniBackend,
    C: ConfigServerBackend,
{
    let services = common(ready).await?;
    let services =
        services.add_service(CniBackendServer::new(backend)).add_service(ConfigServerBackendServer::new(configs));
    Ok(services.serve_with_incoming_shutdown(super::peers::of_root(listener), until).await?)
}

/// Health and reflection.
async fn common(ready: impl FnOnce(Health)) -> Result<Router, ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let handle = Health(reporter);
    handle.set_serving(true).await;
    ready(handle);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(super::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    Ok(Server::builder().add_service(health).add_service(reflection))
}
