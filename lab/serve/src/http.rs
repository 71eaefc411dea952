//! The HTTP server under both services: listeners that others created, one task for each connection.
//!
//! A connection gives its requests an access to its own socket ([`Peer::set_ttl`]): IMDS sends token answers with another
//! TTL than everything else.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// Connections served at once; others wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;
/// Largest body of a request.
const MAX_BODY: usize = 1 << 20;
/// How long a client may take to send the head of a request.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// Pause after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A request read to its end.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) peer: Arc<Peer>,
}

/// What is answered.
pub(crate) type Reply = Response<Full<Bytes>>;

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
pub(crate) struct HangUp;

/// The other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// A second handle on the connection's socket.
    socket: TcpStream,
    usual_ttl: u32,
}

impl Peer {
    /// Sets the TTL of everything sent from now on, retransmissions included; `None`: the system's usual one.
    pub(crate) fn set_ttl(&self, ttl: Option<u32>) -> io::Result<()> {
        self.socket.set_ttl(ttl.unwrap_or(self.usual_ttl))
    }
}

/// Something that answers requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers one request, or hangs up.
    fn answer(&self, call: Call) -> impl Future<Output = Result<Reply, HangUp>> + Send;
}

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

    /// Waits until it ends, which it does not by itself.
    pub async fn wait(mut self) {
        // An error would be a panic or an abort of the task: it has ended either way.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a listener, which may have been created in another network namespace.
pub(crate) fn serve(listener: TcpListener, service: impl Service) -> io::Result<Server> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let task = tokio::spawn(accept(listener, Arc::new(service)));
    Ok(Server { address, task })
}

async fn accept(listener: tokio::net::TcpListener, service: Arc<impl Service>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, address)) => {
                let service = service.clone();
                connections.spawn(async move {
                    if let Err(error) = converse(stream, address, service).await {
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
    stream: tokio::net::TcpStream,
    address: SocketAddr,
    service: Arc<impl Service>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    let peer = Arc::new(Peer { address, usual_ttl: stream.ttl()?, socket: stream.try_clone()? });
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let respond = service_fn(move |request| {
        let (service, peer) = (service.clone(), peer.clone());
        // An error closes the connection: nothing is sent.
        async move { respond(&*service, request, peer).await }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), respond)
        .await?;
    Ok(())
}

async fn respond(service: &impl Service, request: Request<Incoming>, peer: Arc<Peer>) -> Result<Reply, HangUp> {
    let (head, body) = request.into_parts();
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => {
            let (method, uri, headers) = (head.method, head.uri, head.headers);
            service.answer(Call { method, uri, headers, body: body.to_bytes(), peer }).await
        }
        Err(error) => Ok(text(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body could not be read: {error}"))),
    }
}

/// A reply of plain text.
pub(crate) fn text(status: StatusCode, text: &str) -> Reply {
    reply(status, "text/plain", text.to_owned())
}

/// A reply of some type.
pub(crate) fn reply(status: StatusCode, content_type: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    reply
}
