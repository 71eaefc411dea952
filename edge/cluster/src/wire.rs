//! One connection to the API server, made when it is needed and again when it is gone: TCP, TLS, HTTP/1.1.
//!
//! Each watch has a line of its own, on which it lists and watches in turn; events have one. So a list never waits behind a watch,
//! and what a line buffers is one object, not a page.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::access::{Access, AccessError};
use crate::pace::Pace;

/// Bytes of an answer that is taken whole: one object, or why there is none.
const LARGEST_ANSWER: usize = 4 << 20;

/// What hyper reads at once.
const READ_BUFFER: usize = 32 << 10;

/// A peer that is gone without a word is noticed after some 30 s: idle time, pause between probes (seconds), number of probes.
const KEEPALIVE: (u32, u32, u32) = (15, 5, 3);

/// Why there is no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection, or it broke.
    #[error("{server} can not be reached: {why}")]
    Unreachable {
        /// Where.
        server: String,
        /// What the system says.
        why: String,
    },
    /// Nothing came in time.
    #[error("{server} was silent for {} s", .limit.as_secs_f32())]
    Silent {
        /// Who.
        server: String,
        /// How long.
        limit: Duration,
    },
    /// Our own side is not in order.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The server refused.
    #[error("the API server refused ({status}): {message}")]
    Refused {
        /// HTTP's number.
        status: u16,
        /// What it says.
        message: String,
        /// When to come again.
        retry_after: Option<Duration>,
    },
    /// The answer is not what it should be.
    #[error("the API server's answer can not be read: {0}")]
    Unreadable(String),
}

impl Failure {
    /// HTTP's number, if there was an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        if let Self::Refused { status, .. } = self { Some(*status) } else { None }
    }

    /// The server is not there for us: away, starting, overloaded, or it does not know us.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Access(_) => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 401 || *status == 429,
            Self::Unreadable(_) => false,
        }
    }
}

/// What has come over all lines.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes: AtomicU64,
    objects: AtomicU64,
    requests: AtomicU64,
}

impl Traffic {
    /// Bytes of bodies.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Objects that were looked into.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Requests that were sent.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn object(&self) {
        self.objects.fetch_add(1, Ordering::Relaxed);
    }
}

/// A line to the API server.
pub(crate) struct Line {
    access: Access,
    agent: Arc<str>,
    pace: Pace,
    traffic: Arc<Traffic>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What is sent.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    /// From `/api` on, with the query.
    pub(crate) path: &'a str,
    /// Media type and bytes.
    pub(crate) body: Option<(&'static str, Vec<u8>)>,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, body: None }
    }
}

impl Line {
    pub(crate) fn new(access: Access, agent: Arc<str>, pace: Pace, traffic: Arc<Traffic>) -> Self {
        Self { access, agent, pace, traffic, sender: None }
    }

    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Asks, and gives the answer's body to be read piece by piece.
    pub(crate) async fn open(&mut self, ask: &Ask<'_>) -> Result<Answer, Failure> {
        let used_before = self.sender.as_ref().is_some_and(|sender| !sender.is_closed());
        let response = match self.exchange(ask).await {
            // A connection that lay idle may have been closed by the other side at this very moment. All that is asked here may be
            // asked twice.
            Err(Failure::Unreachable { .. }) if used_before => {
                self.sender = None;
                self.exchange(ask).await
            }
            other => other,
        };
        let response = response.inspect_err(|_| self.sender = None)?;
        let server = self.access.server();
        let (head, body) = response.into_parts();
        let mut answer = Answer { server, body, traffic: self.traffic.clone(), limit: self.pace.answer };
        if head.status.is_success() {
            return Ok(answer);
        }
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.whole().await.unwrap_or_default();
        Err(refusal(head.status, &text, retry_after.map(Duration::from_secs)))
    }

    /// Asks, and reads the answer.
    pub(crate) async fn read<T: DeserializeOwned>(&mut self, ask: &Ask<'_>) -> Result<T, Failure> {
        let body = self.open(ask).await?.whole().await.inspect_err(|_| self.sender = None)?;
        self.traffic.object();
        serde_json::from_slice(&body).map_err(|error| Failure::Unreadable(error.to_string()))
    }

    /// Hangs up: the next request makes a new connection.
    pub(crate) fn hang_up(&mut self) {
        self.sender = None;
    }

    async fn exchange(&mut self, ask: &Ask<'_>) -> Result<Response<Incoming>, Failure> {
        let request = self.request(ask)?;
        let limit = self.pace.answer;
        let server = self.access.server();
        let sender = match &mut self.sender {
            Some(sender) if !sender.is_closed() => sender,
            _ => {
                let made = self.connect().await?;
                self.sender.insert(made)
            }
        };
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        let exchange = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        in_time(&server, limit, exchange).await
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, Failure> {
        let server = &self.access.server;
        let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
        let mut builder = Request::builder()
            .method(ask.method.clone())
            .uri(format!("{}{}", server.prefix, ask.path))
            .header(HOST, format!("{host}:{}", server.port))
            .header(USER_AGENT, &*self.agent)
            .header(ACCEPT, "application/json");
        if let Some(token) = self.access.token()? {
            builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut body = Bytes::new();
        if let Some((media, bytes)) = &ask.body {
            builder = builder.header(CONTENT_TYPE, *media);
            body = bytes.clone().into();
        }
        // A token with a line end in its middle, or a name with a blank.
        builder
            .body(Full::new(body))
            .map_err(|error| Failure::Unreadable(format!("the request can not be made: {error}")))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let server = &self.access.server;
        let shown = self.access.server();
        let limit = self.pace.connect;
        let stream = in_time(&shown, limit, TcpStream::connect((server.host.as_str(), server.port))).await?;
        // What the kernel does not take only makes things slower.
        let _ = stream.set_nodelay(true);
        keep_alive(&stream);
        if server.plain {
            return in_time(&shown, limit, speak(stream)).await;
        }
        let tls = TlsConnector::from(self.access.tls()?);
        let stream = in_time(&shown, limit, tls.connect(self.access.name()?, stream)).await?;
        in_time(&shown, limit, speak(stream)).await
    }
}

/// HTTP over a connection, which ends with its sender and the body that is being read.
async fn speak<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// The body of an answer.
pub(crate) struct Answer {
    server: String,
    body: Incoming,
    traffic: Arc<Traffic>,
    limit: Duration,
}

impl Answer {
    /// The next piece; `None`: that was all. May be dropped while it waits.
    pub(crate) async fn piece(&mut self, limit: Duration) -> Result<Option<Bytes>, Failure> {
        loop {
            let next = async { self.body.frame().await.transpose() };
            let Some(frame) = in_time(&self.server, limit, next).await? else { return Ok(None) };
            if let Ok(bytes) = frame.into_data() {
                self.traffic.bytes.fetch_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
                return Ok(Some(bytes));
            }
        }
    }

    /// The next piece of a list.
    pub(crate) async fn next_piece(&mut self) -> Result<Option<Bytes>, Failure> {
        self.piece(self.limit).await
    }

    async fn whole(&mut self) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(piece) = self.next_piece().await? {
            all.extend_from_slice(&piece);
            if all.len() > LARGEST_ANSWER {
                return Err(Failure::Unreadable(format!("it is longer than {LARGEST_ANSWER} bytes")));
            }
        }
        Ok(all)
    }
}

/// Kubernetes says what is wrong in an object of kind Status.
fn refusal(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Failure {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    let said = serde_json::from_slice::<Said>(body).map(|said| said.message);
    let plain = || {
        let text = String::from_utf8_lossy(body);
        let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
        if line.is_empty() { status.to_string() } else { line }
    };
    Failure::Refused { status: status.as_u16(), message: said.unwrap_or_else(|_| plain()), retry_after }
}

async fn in_time<T, E: std::error::Error + 'static>(
    server: &str,
    limit: Duration,
    doing: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout(limit, doing).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::Unreachable { server: server.to_owned(), why: chain(&error) }),
        Err(_) => Err(Failure::Silent { server: server.to_owned(), limit }),
    }
}

/// A message with those of its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What the kernel does not take only means that a dead peer is noticed later, by its silence.
fn keep_alive(stream: &TcpStream) {
    let (idle, interval, probes) = KEEPALIVE;
    let _ = setsockopt(stream, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepIdle, &idle))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepInterval, &interval))
        .and_then(|()| setsockopt(stream, sockopt::TcpKeepCount, &probes));
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("server", &self.access.server()).finish_non_exhaustive()
    }
}
