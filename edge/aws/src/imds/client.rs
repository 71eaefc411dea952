//! Session, attempts, and the reading of single values.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_types::body::SdkBody;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::error::{ImdsError, ImdsFailure, failed, parse};
use crate::ec2::shapes::scalar::Scalar;
use crate::http::{Connectors, Failure, Reply, send};
use crate::settings::ImdsSettings;

/// Life of a session token. The SDK asks for 300 s as well.
const TOKEN_TTL: Duration = Duration::from_secs(300);
/// A token is renewed this long before it expires.
const TOKEN_MARGIN: Duration = Duration::from_secs(20);
/// The longest value: user data, which nobody reads here, has 16 KiB.
const LARGEST_VALUE: usize = 64 << 10;
/// The first wait between attempts; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(50);

const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";

/// Hears of every read, for metrics and logs.
pub trait Observer: Send + Sync {
    /// A read is over.
    fn read_done(&self, _read: &ReadRecord<'_>) {}
    /// IMDS gives no sessions; version 1 is used from now on. `status` is its answer to the PUT.
    fn fell_back_to_v1(&self, _status: u16) {}
}

/// A read that is over.
#[derive(Clone, Copy, Debug)]
pub struct ReadRecord<'a> {
    /// The path.
    pub path: &'a str,
    /// From the first attempt to the end, waits included.
    pub duration: Duration,
    /// The last HTTP status, if there was one.
    pub status: Option<u16>,
    /// The failure, if it is one; a value that is absent is none.
    pub error: Option<&'a ImdsError>,
}

/// The instance metadata service. Cheap to clone; clones share connections and the session.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    settings: ImdsSettings,
    http: SharedHttpConnector,
    session: Mutex<Session>,
    /// Bounds the reads at one time.
    slots: Semaphore,
    v1: AtomicBool,
    observer: Option<Arc<dyn Observer>>,
}

#[derive(Default)]
struct Session {
    token: Option<(Arc<str>, Instant)>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.shared.settings.endpoint).finish()
    }
}

/// How one attempt ended.
enum Attempt {
    Value(String),
    Absent,
    /// The token is no longer taken.
    Unauthorized,
    Failed(ImdsFailure),
    /// Worth another attempt.
    Weak(ImdsFailure),
}

impl Client {
    /// A client; nothing is read yet.
    #[must_use]
    pub fn new(settings: ImdsSettings, observer: Option<Arc<dyn Observer>>) -> Self {
        let http = SharedHttpConnector::new(Connectors::new(settings.connect_timeout, false, None));
        Self::with_http(settings, observer, http)
    }

    /// A client over another transport than HTTP over TCP, for tests.
    #[must_use]
    pub fn with_http(settings: ImdsSettings, observer: Option<Arc<dyn Observer>>, http: SharedHttpConnector) -> Self {
        Self {
            shared: Arc::new(Shared {
                slots: Semaphore::new(settings.concurrency.max(1)),
                settings,
                http,
                session: Mutex::default(),
                v1: AtomicBool::new(false),
                observer,
            }),
        }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &ImdsSettings {
        &self.shared.settings
    }

    /// Whether version 1 is used because IMDS gives no sessions.
    #[must_use]
    pub fn is_v1(&self) -> bool {
        self.shared.v1.load(Ordering::Relaxed)
    }

    /// Reads `/latest/<path>`; `None` if there is no such value (404).
    ///
    /// # Errors
    /// [`ImdsError`] when IMDS cannot be reached, refuses or fails, after the attempts of the settings.
    pub async fn latest(&self, path: &str) -> Result<Option<String>, ImdsError> {
        let path = format!("/latest/{path}");
        let _slot = self.shared.slots.acquire().await;
        let started = Instant::now();
        let mut status = None;
        let result = self.attempts(&path, started, &mut status).await;
        if let Some(observer) = &self.shared.observer {
            observer.read_done(&ReadRecord {
                path: &path,
                duration: started.elapsed(),
                status,
                error: result.as_ref().err(),
            });
        }
        result
    }

    /// Reads `/latest/meta-data/<path>`; `None` if there is no such value (404).
    ///
    /// # Errors
    /// As [`Self::latest`].
    pub async fn get(&self, path: &str) -> Result<Option<String>, ImdsError> {
        self.latest(&format!("meta-data/{path}")).await
    }

    /// Reads a value that every instance has, without the space around it.
    ///
    /// # Errors
    /// As [`Self::latest`]; [`ImdsFailure::NotFound`] if it is absent, [`ImdsFailure::BadValue`] if it does not fit.
    pub async fn value<T: Scalar>(&self, path: &str) -> Result<T, ImdsError> {
        match self.optional(path).await? {
            Some(value) => Ok(value),
            None => Err(failed(path, ImdsFailure::NotFound)),
        }
    }

    /// Reads a value that an instance may lack, without the space around it.
    ///
    /// # Errors
    /// As [`Self::latest`]; [`ImdsFailure::BadValue`] if it does not fit.
    pub async fn optional<T: Scalar>(&self, path: &str) -> Result<Option<T>, ImdsError> {
        self.get(path).await?.map(|text| parse(path, text.trim())).transpose()
    }

    /// Reads a list separated by white space; absent = empty.
    ///
    /// # Errors
    /// As [`Self::latest`]; [`ImdsFailure::BadValue`] if an entry does not fit.
    pub async fn list<T: Scalar>(&self, path: &str) -> Result<Vec<T>, ImdsError> {
        let text = self.get(path).await?.unwrap_or_default();
        text.split_whitespace().map(|entry| parse(path, entry)).collect()
    }

    async fn attempts(
        &self,
        path: &str,
        started: Instant,
        status: &mut Option<u16>,
    ) -> Result<Option<String>, ImdsError> {
        let settings = &self.shared.settings;
        let fail = |failure| Err(ImdsError { path: path.to_owned(), failure });
        if settings.disabled {
            return fail(ImdsFailure::Disabled);
        }
        let deadline = started + settings.deadline;
        let mut pause = FIRST_WAIT;
        let mut renewed = false;
        for attempt in 1.. {
            let failure = match self.attempt(path, deadline, status).await {
                Attempt::Value(value) => return Ok(Some(value)),
                Attempt::Absent => return Ok(None),
                Attempt::Failed(failure) => return fail(failure),
                Attempt::Unauthorized if !renewed => {
                    renewed = true;
                    continue;
                }
                Attempt::Unauthorized => return fail(ImdsFailure::Status(401)),
                Attempt::Weak(failure) => failure,
            };
            if attempt >= settings.max_attempts || Instant::now() + pause >= deadline {
                return fail(failure);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        fail(ImdsFailure::Timeout)
    }

    async fn attempt(&self, path: &str, deadline: Instant, status: &mut Option<u16>) -> Attempt {
        let token = match self.token(deadline).await {
            Ok(token) => token,
            Err(attempt) => return attempt,
        };
        let mut request = http::Request::get(format!("{}{path}", self.shared.settings.endpoint));
        if let Some(token) = &token {
            request = request.header(TOKEN_HEADER, &**token);
        }
        let reply = match self.exchange(request, deadline).await {
            Ok(reply) => reply,
            Err(attempt) => return attempt,
        };
        *status = Some(reply.status);
        match reply.status {
            200 => Attempt::Value(String::from_utf8_lossy(&reply.body).into_owned()),
            404 => Attempt::Absent,
            401 => {
                self.drop_token(token.as_deref()).await;
                Attempt::Unauthorized
            }
            other @ (429 | 500..) => Attempt::Weak(ImdsFailure::Status(other)),
            other => Attempt::Failed(ImdsFailure::Status(other)),
        }
    }

    /// The session's token, a new one if need be; `None` under version 1. One caller fetches while the others wait.
    async fn token(&self, deadline: Instant) -> Result<Option<Arc<str>>, Attempt> {
        if self.is_v1() {
            return Ok(None);
        }
        let lock = tokio::time::timeout_at(deadline, self.shared.session.lock()).await;
        let Ok(mut session) = lock else { return Err(Attempt::Weak(ImdsFailure::Timeout)) };
        if let Some((token, until)) = &session.token
            && Instant::now() < *until
        {
            return Ok(Some(Arc::clone(token)));
        }
        // A neighbour may have found out while this caller waited.
        if self.is_v1() {
            return Ok(None);
        }
        let asked = Instant::now();
        let request = http::Request::put(format!("{}/latest/api/token", self.shared.settings.endpoint))
            .header(TTL_HEADER, TOKEN_TTL.as_secs());
        let reply = self.exchange(request, deadline).await?;
        match reply.status {
            200 => {
                let token: Arc<str> = String::from_utf8_lossy(&reply.body).trim().into();
                session.token = Some((Arc::clone(&token), asked + lifetime(&reply).saturating_sub(TOKEN_MARGIN)));
                Ok(Some(token))
            }
            status @ (403..=405) if self.shared.settings.allow_v1 => {
                self.shared.v1.store(true, Ordering::Relaxed);
                if let Some(observer) = &self.shared.observer {
                    observer.fell_back_to_v1(status);
                }
                Ok(None)
            }
            status @ (429 | 500..) => Err(Attempt::Weak(ImdsFailure::NoSession { status })),
            status => Err(Attempt::Failed(ImdsFailure::NoSession { status })),
        }
    }

    /// Forgets a token, unless it has been renewed in the meantime.
    async fn drop_token(&self, bad: Option<&str>) {
        // IMDS may have begun to ask for sessions.
        self.shared.v1.store(false, Ordering::Relaxed);
        let mut session = self.shared.session.lock().await;
        if session.token.as_ref().is_some_and(|(token, _)| Some(&**token) == bad) {
            session.token = None;
        }
    }

    async fn exchange(&self, request: http::request::Builder, deadline: Instant) -> Result<Reply, Attempt> {
        let bad = |e: http::Error| Attempt::Failed(ImdsFailure::Transport(e.to_string()));
        let request = request.body(SdkBody::empty()).map_err(bad)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = self.shared.settings.attempt_timeout.min(left);
        send(&self.shared.http, request, timeout, LARGEST_VALUE).await.map_err(|failure| {
            Attempt::Weak(match failure {
                Failure::TimedOut => ImdsFailure::Timeout,
                Failure::NotSent(why) | Failure::Lost(why) => ImdsFailure::Transport(why),
            })
        })
    }
}

/// How long the token lives: IMDS says so in its answer.
fn lifetime(reply: &Reply) -> Duration {
    reply.header(TTL_HEADER).and_then(|s| s.trim().parse().ok()).map_or(TOKEN_TTL, Duration::from_secs)
}
