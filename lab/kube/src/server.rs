//! HTTPS on a listener that others made, for example in another network namespace.
//!
//! While the API server is away, its connections are gone and its listener does not listen: who connects is refused by the
//! kernel, as with a server that has crashed. The socket stays bound, so that the server comes back at the same address in
//! the same network namespace.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use nix::errno::Errno;
use nix::sys::socket::{Backlog, Shutdown, SockaddrStorage, bind, listen, shutdown};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::api;
use crate::handle::KubeHandle;
use crate::tls::Tls;

/// Connections served at once; others wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take for the handshake of TLS.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of a request.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// Pause after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running server. It ends, with all its connections, when this is dropped.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves the API on a listener: HTTPS, HTTP/2 or 1.1. Several servers may serve one API. Must be called inside a tokio
/// runtime with I/O and time.
///
/// # Errors
/// The listener cannot be used with tokio.
pub fn serve_kube(handle: KubeHandle, listener: TcpListener, tls: Tls) -> io::Result<Server> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        if let Err(error) = run(handle, listener, address, tls).await {
            tracing::error!(%address, %error, "the Kubernetes API is no longer served");
        }
    });
    Ok(Server { address, task })
}

/// Present, away, present again, without end.
async fn run(handle: KubeHandle, listener: TcpListener, address: SocketAddr, tls: Tls) -> io::Result<()> {
    let mut away = handle.away();
    let acceptor = TlsAcceptor::from(tls.config);
    // Errors of the watch channel mean that the handle is gone, which this function holds.
    loop {
        if !*away.borrow_and_update() {
            let present = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            tokio::select! {
                () = accept(&handle, present, &acceptor) => {}
                gone = away.wait_for(|away| *away) => { gone.map_err(io::Error::other)?; }
            }
        }
        shutdown(listener.as_raw_fd(), Shutdown::Both)?;
        away.wait_for(|away| !away).await.map_err(io::Error::other)?;
        listen_again(&listener, address)?;
    }
}

/// Listens at the address it had. A port that the system had chosen was given back with the last listening and must be
/// taken again; another one is still bound, which `bind` refuses as invalid.
fn listen_again(listener: &TcpListener, address: SocketAddr) -> io::Result<()> {
    match bind(listener.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(error) => return Err(error.into()),
    }
    listen(listener, Backlog::MAXCONN)?;
    Ok(())
}

async fn accept(handle: &KubeHandle, listener: tokio::net::TcpListener, acceptor: &TlsAcceptor) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, address)) => {
                let (handle, acceptor) = (handle.clone(), acceptor.clone());
                connections.spawn(async move {
                    if let Err(error) = converse(handle, stream, acceptor).await {
                        tracing::debug!(%address, %error, "a connection ended badly");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    handle: KubeHandle,
    stream: tokio::net::TcpStream,
    acceptor: TlsAcceptor,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE_PATIENCE, acceptor.accept(stream)).await??;
    let respond = service_fn(move |request| {
        let handle = handle.clone();
        async move { Ok::<_, Infallible>(api::respond(&handle, request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(250);
    builder.serve_connection(TokioIo::new(stream), respond).await
}
