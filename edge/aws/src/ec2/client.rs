//! The client: one call is at most a few attempts within a deadline.
//!
//! A request is sent again only when that can do no harm: after a refusal that says it was not carried out, after a failed
//! connection, or when the action may run twice. An assignment whose answer was lost comes back as [`Outcome::Unknown`];
//! the caller looks before asking again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::SharedHttpConnector;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::{DateTime, Format};
use tokio::time::Instant;

use super::credentials::CredentialCache;
use super::endpoint::{EndpointError, endpoint};
use super::error::{Ec2Error, ErrorClass, Outcome, Repeat, resource};
use super::pages::{Page, Paged, Pages};
use super::quota::Quota;
use super::retry::{retryable, wait};
use super::shapes::{Action, Answer, ErrorAnswer, Query, answer_from_xml};
use super::signature::sign;
use crate::http::{CaBundleError, Connectors, Failure, Reply, read_ca_bundle, send};
use crate::settings::Ec2Settings;

/// Tells the time for signatures.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;
/// Gives numbers in [0, 1) for the jitter of waits.
pub type Jitter = Arc<dyn Fn() -> f64 + Send + Sync>;

/// For a connection to EC2, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Larger answers are refused: a page of 1000 ENIs with 50 addresses each is about 10 MiB.
const LARGEST_ANSWER: usize = 32 << 20;
/// Clocks that differ by less are left alone.
const SKEW_WORTH_CORRECTING: i64 = 60;

/// Hears of every call, for metrics and logs.
pub trait Observer: Send + Sync {
    /// An attempt failed; `again_in` is the wait before the next, `None` if there is none.
    fn attempt_failed(&self, _error: &Ec2Error, _again_in: Option<Duration>) {}
    /// A call is over.
    fn call_done(&self, _call: &CallRecord<'_>) {}
}

/// A call that is over.
#[derive(Clone, Copy, Debug)]
pub struct CallRecord<'a> {
    /// The action.
    pub action: &'static str,
    /// From the first attempt to the end, waits included.
    pub duration: Duration,
    /// Attempts made.
    pub attempts: u32,
    /// The failure, if it is one; its `code` is the label for metrics.
    pub error: Option<&'a Ec2Error>,
}

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// `AWS_CA_BUNDLE` is no bundle.
    #[error(transparent)]
    CaBundle(#[from] CaBundleError),
}

/// EC2 in one region. Cheap to clone; clones share connections, credentials and the retry budget.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Ec2Settings,
    region: String,
    url: String,
    user_agent: String,
    http: SharedHttpConnector,
    credentials: CredentialCache,
    quota: Quota,
    clock: Clock,
    jitter: Jitter,
    observer: Option<Arc<dyn Observer>>,
    /// Seconds by which EC2's clock is ahead of ours, once it has complained.
    skew: AtomicI64,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("url", &self.shared.url).field("region", &self.shared.region).finish()
    }
}

/// What a client is made of.
pub struct Builder {
    settings: Ec2Settings,
    region: String,
    credentials: SharedCredentialsProvider,
    version: String,
    clock: Clock,
    jitter: Jitter,
    observer: Option<Arc<dyn Observer>>,
    http: Option<SharedHttpConnector>,
}

impl Builder {
    /// Who hears of calls.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// The clock for signatures; the system's by default.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The source of jitter; the system's random numbers by default.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The version in the user agent `amazon-vpc-cni-k8s/<version>`; this crate's by default.
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Another transport than HTTP over TCP, for tests.
    #[must_use]
    pub fn http(mut self, http: SharedHttpConnector) -> Self {
        self.http = Some(http);
        self
    }

    /// The client. Nothing is sent yet.
    ///
    /// # Errors
    /// The region or the settings give no endpoint, or `AWS_CA_BUNDLE` is no bundle.
    pub fn build(self) -> Result<Client, ClientError> {
        let url = format!("{}/", endpoint(&self.settings, &self.region)?);
        let bundle = self.settings.ca_bundle.as_deref().map(read_ca_bundle).transpose()?;
        let http =
            self.http.unwrap_or_else(|| SharedHttpConnector::new(Connectors::new(CONNECT_TIMEOUT, true, bundle)));
        let os = std::env::consts::OS;
        let user_agent =
            format!("vpc-cni-rs/{} os/{os} lang/rust amazon-vpc-cni-k8s/{}", env!("CARGO_PKG_VERSION"), self.version);
        Ok(Client {
            shared: Arc::new(Shared {
                credentials: CredentialCache::new(self.credentials, Arc::clone(&self.clock)),
                settings: self.settings,
                region: self.region,
                url,
                user_agent,
                http,
                quota: Quota::new(),
                clock: self.clock,
                jitter: self.jitter,
                observer: self.observer,
                skew: AtomicI64::new(0),
            }),
        })
    }
}

impl Client {
    /// Begins a client for a region.
    #[must_use]
    pub fn builder(settings: Ec2Settings, region: &str, credentials: SharedCredentialsProvider) -> Builder {
        Builder {
            settings,
            region: region.to_owned(),
            credentials,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: Arc::new(SystemTime::now),
            jitter: Arc::new(random),
            observer: None,
            http: None,
        }
    }

    /// The URL that is called.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Makes a call within the deadline of the settings.
    ///
    /// # Errors
    /// [`Ec2Error`]; look at [`Ec2Error::advice`] before asking again.
    pub async fn call<A: Action>(&self, request: &A) -> Result<A::Response, Ec2Error> {
        self.call_within(request, self.shared.settings.call_deadline).await
    }

    /// Makes a call within `deadline`, waits between attempts included.
    ///
    /// # Errors
    /// [`Ec2Error`]; look at [`Ec2Error::advice`] before asking again.
    pub async fn call_within<A: Action>(&self, request: &A, deadline: Duration) -> Result<A::Response, Ec2Error> {
        let query = request.query();
        let call = Call::new::<A>(&self.shared, &query, deadline);
        let result = call.run(|document| answer_from_xml::<A>(document)).await;
        result.map(|answer| answer.body)
    }

    /// Makes as many calls as there are pages; each has the deadline of the settings.
    ///
    /// # Errors
    /// The first failure; [`ErrorClass::BadAnswer`] if EC2 gives the same page for ever.
    pub async fn all_pages<A: Paged>(&self, request: &A) -> Result<Vec<A::Item>, Ec2Error> {
        let mut pages = Pages::new(request.clone());
        loop {
            let response = self.call(pages.request()).await?;
            match pages.take(response).map_err(|error| *error)? {
                Page::More(more) => pages = more,
                Page::Whole(items) => return Ok(items),
            }
        }
    }
}

/// One call on its way through its attempts.
struct Call<'a> {
    client: &'a Shared,
    action: &'static str,
    body: String,
    repeat: Repeat,
    resource: Option<String>,
    started: Instant,
    deadline: Instant,
}

impl<'a> Call<'a> {
    fn new<A: Action>(client: &'a Shared, query: &Query, deadline: Duration) -> Self {
        let started = Instant::now();
        Self {
            client,
            action: A::NAME,
            body: query.encode(),
            repeat: Repeat::of(query),
            resource: resource(query),
            started,
            deadline: started + deadline,
        }
    }

    async fn run<T>(
        &self,
        read: impl Fn(&str) -> Result<Answer<T>, super::shapes::XmlError>,
    ) -> Result<Answer<T>, Ec2Error> {
        let mut attempt = 0;
        let (mut last_class, mut lost) = (None, false);
        // Each remedy is tried once: with a bad key or clock, hammering does not help.
        let mut remedied = false;
        let result = loop {
            attempt += 1;
            let mut error = match self.attempt(&read).await {
                Ok(answer) => {
                    self.client.quota.refund(last_class.as_ref());
                    break Ok(answer);
                }
                Err(Attempt { error, remedy })
                    if remedy && !remedied && attempt < self.client.settings.max_attempts =>
                {
                    remedied = true;
                    self.report(&error, Some(Duration::ZERO));
                    continue;
                }
                Err(Attempt { error, .. }) => error,
            };
            error.attempts = attempt;
            error.lost_before = lost;
            lost |= error.outcome == Outcome::Unknown;
            error.resource.clone_from(&self.resource);
            match self.next_wait(&error, attempt) {
                Some(pause) => {
                    self.report(&error, Some(pause));
                    last_class = Some(error.class);
                    tokio::time::sleep(pause).await;
                }
                None => {
                    self.report(&error, None);
                    break Err(error);
                }
            }
        };
        if let Some(observer) = &self.client.observer {
            observer.call_done(&CallRecord {
                action: self.action,
                duration: self.started.elapsed(),
                attempts: attempt,
                error: result.as_ref().err(),
            });
        }
        result
    }

    fn report(&self, error: &Ec2Error, again_in: Option<Duration>) {
        if let Some(observer) = &self.client.observer {
            observer.attempt_failed(error, again_in);
        }
    }

    /// How long to wait before another attempt; `None` if there is none.
    fn next_wait(&self, error: &Ec2Error, attempt: u32) -> Option<Duration> {
        if attempt >= self.client.settings.max_attempts || !retryable(error, self.repeat) {
            return None;
        }
        let pause = wait(attempt, (self.client.jitter)(), error.retry_after);
        let in_time = Instant::now() + pause < self.deadline;
        (in_time && self.client.quota.take(&error.class)).then_some(pause)
    }

    async fn attempt<T>(
        &self,
        read: impl Fn(&str) -> Result<Answer<T>, super::shapes::XmlError>,
    ) -> Result<Answer<T>, Attempt> {
        let client = self.client;
        let own = |class, outcome, message: String| Attempt::from(Ec2Error::own(self.action, class, outcome, message));
        let credentials = match client.credentials.get().await {
            Ok(credentials) => credentials,
            Err(e) => return Err(own(ErrorClass::Credentials, Outcome::NotDone, e.to_string())),
        };
        let request =
            self.request(&credentials).map_err(|message| own(ErrorClass::Invalid, Outcome::NotDone, message))?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = client.settings.attempt_timeout.min(left);
        let reply = send(&client.http, request, timeout, LARGEST_ANSWER).await.map_err(|failure| match failure {
            Failure::NotSent(why) => own(ErrorClass::Transport, Outcome::NotDone, why),
            Failure::Lost(why) => own(ErrorClass::Transport, Outcome::Unknown, why),
            Failure::TimedOut => Attempt::from(Ec2Error::timed_out(self.action, timeout)),
        })?;
        if reply.status == 200 {
            return read(&String::from_utf8_lossy(&reply.body))
                .map_err(|e| own(ErrorClass::BadAnswer, Outcome::Unknown, e.to_string()));
        }
        let error = self.refusal(&reply);
        let remedy = error.class == ErrorClass::Credentials;
        if remedy {
            client.correct_clock(&reply);
            client.credentials.reject(&credentials).await;
        }
        Err(Attempt { error, remedy })
    }

    fn request(&self, credentials: &aws_credential_types::Credentials) -> Result<http::Request<SdkBody>, String> {
        let client = self.client;
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let signed = sign(&client.url, &headers, self.body.as_bytes(), &client.region, credentials, client.now())
            .map_err(|e| e.to_string())?;
        let mut request = http::Request::post(&client.url).header("user-agent", &client.user_agent);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in &signed {
            request = request.header(*name, value);
        }
        request.body(SdkBody::from(self.body.as_str())).map_err(|e| e.to_string())
    }

    fn refusal(&self, reply: &Reply) -> Ec2Error {
        let body = String::from_utf8_lossy(&reply.body);
        let answer = ErrorAnswer::from_xml(&body).unwrap_or_else(|_| ErrorAnswer {
            // Load balancers answer for themselves, in HTML or not at all.
            code: format!("Http{}", reply.status),
            message: format!("HTTP status {} without an error document", reply.status),
            request_id: reply.header("x-amzn-requestid").unwrap_or_default().to_owned(),
        });
        let mut error = Ec2Error::refused(self.action, reply.status, answer);
        error.retry_after = reply.header("retry-after").and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
        error
    }
}

/// A failed attempt. `remedy`: something was put right that may have been the cause.
struct Attempt {
    error: Ec2Error,
    remedy: bool,
}

impl From<Ec2Error> for Attempt {
    fn from(error: Ec2Error) -> Self {
        Self { error, remedy: false }
    }
}

impl Shared {
    /// Our time as EC2 would tell it.
    fn now(&self) -> SystemTime {
        let skew = self.skew.load(Ordering::Relaxed);
        let now = (self.clock)();
        let by = Duration::from_secs(skew.unsigned_abs());
        if skew < 0 { now.checked_sub(by).unwrap_or(now) } else { now + by }
    }

    /// Learns from the `Date` of an answer how wrong our clock is.
    fn correct_clock(&self, reply: &Reply) {
        let theirs = reply.header("date").and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let Some(theirs) = theirs else { return };
        let ours = DateTime::from((self.clock)()).secs();
        let skew = theirs.secs() - ours;
        let worth_it = if skew.abs() >= SKEW_WORTH_CORRECTING { skew } else { 0 };
        self.skew.store(worth_it, Ordering::Relaxed);
    }
}

/// A number in [0, 1) from the system's source; the middle, should that fail.
fn random() -> f64 {
    // 53 bits are what a double holds exactly.
    getrandom::u64().map_or(0.5, |bits| (bits >> 11) as f64 / (1_u64 << 53) as f64)
}
