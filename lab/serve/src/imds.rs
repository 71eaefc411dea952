//! IMDSv2 over HTTP: session tokens, and the tree of metadata behind them; version 1 for instances that allow it.
//!
//! A token answer leaves with the hop limit of its instance as TTL, so that it dies on the way to whoever lives further
//! away, a pod behind the instance's own routing for one. The TTL stays until the next request on the connection, since a
//! lost segment is sent again with the TTL of that moment; only somebody who received the answer sends another request.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode};
use lab_cloud::{Caller, FaultId, ImdsAnswer};
use vpc_model::{InstanceId, Millis};

use crate::date::date;
use crate::driver::CloudHandle;
use crate::http::{Call, HangUp, Reply, Server, Service, reply, serve, text};
use crate::record::{self, CallRecord};

const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
/// Longest life of a token: six hours.
const MAX_TTL: u64 = 21_600;
/// Tokens kept at most; the one that dies first makes room.
const MAX_TOKENS: usize = 65_536;
/// Largest TTL of an IP packet.
const MAX_IP_TTL: u32 = 255;

/// How IMDS tells callers apart. On AWS the ENI does it; here it is the source address, or whatever the fabric knows.
#[derive(Clone)]
pub enum ImdsCallers {
    /// The instance with an ENI that holds the source address.
    ByAddress,
    /// Always this instance.
    Fixed(InstanceId),
    /// Whoever this says; `None`: nobody known, refused with 403.
    Resolver(Arc<dyn Fn(IpAddr) -> Option<InstanceId> + Send + Sync>),
}

impl std::fmt::Debug for ImdsCallers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ByAddress => f.write_str("ByAddress"),
            Self::Fixed(id) => write!(f, "Fixed({id})"),
            Self::Resolver(_) => f.write_str("Resolver(..)"),
        }
    }
}

/// How IMDS is reached.
#[derive(Clone, Debug)]
pub struct ImdsOptions {
    /// How callers are told apart.
    pub callers: ImdsCallers,
    /// Routers between the server and the instance's ENI, each of which takes one off the TTL. On AWS there is none.
    pub routers_between: u8,
}

/// Serves IMDSv2 on a listener.
///
/// # Errors
/// The listener cannot be used with tokio.
pub fn serve_imds(cloud: CloudHandle, listener: TcpListener, options: ImdsOptions) -> std::io::Result<Server> {
    serve(listener, Imds::new(cloud, options))
}

/// The service behind the listener.
pub(crate) struct Imds {
    cloud: CloudHandle,
    options: ImdsOptions,
    tokens: Mutex<HashMap<String, Token>>,
}

/// A session.
struct Token {
    instance: InstanceId,
    until: Instant,
}

impl Service for Imds {
    async fn answer(&self, call: Call) -> Result<Reply, HangUp> {
        let (arrived, begun) = (self.cloud.now(), Instant::now());
        let instance = self.caller(&call);
        let mut answer = match &instance {
            Some(instance) => self.answer_instance(&call, instance).await,
            None => text(StatusCode::FORBIDDEN, "No instance has this source address.\n").into(),
        };
        self.record(&call, instance, &answer, arrived, begun.elapsed());
        let headers = answer.reply.headers_mut();
        headers.insert(http::header::SERVER, HeaderValue::from_static("EC2ws"));
        headers.insert(http::header::ACCEPT_RANGES, HeaderValue::from_static("none"));
        date(&mut answer.reply, self.cloud.skew_ms());
        Ok(answer.reply)
    }
}

/// A reply, and what to remember of it.
struct Answer {
    reply: Reply,
    shown: String,
    faults: Vec<FaultId>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, shown: String::new(), faults: Vec::new() }
    }
}

impl Imds {
    pub(crate) fn new(cloud: CloudHandle, options: ImdsOptions) -> Self {
        Self { cloud, options, tokens: Mutex::new(HashMap::new()) }
    }

    /// Whether a path belongs to IMDS and not to EC2.
    pub(crate) fn has(path: &str) -> bool {
        path.split('/').find(|part| !part.is_empty()).is_some_and(is_version)
    }

    fn caller(&self, call: &Call) -> Option<InstanceId> {
        let address = call.peer.address.ip().to_canonical();
        match &self.options.callers {
            ImdsCallers::Fixed(id) => Some(id.clone()),
            ImdsCallers::Resolver(resolve) => resolve(address),
            ImdsCallers::ByAddress => match address {
                IpAddr::V4(address) => self.cloud.instance_at(address),
                IpAddr::V6(_) => None,
            },
        }
    }

    async fn answer_instance(&self, call: &Call, instance: &InstanceId) -> Answer {
        let wants_token = call.method == Method::PUT && is_token_path(call.uri.path());
        let arrival = self.cloud.imds_arrival(instance, wants_token);
        if arrival.delay > Millis(0) {
            tokio::time::sleep(Duration::from_millis(arrival.delay.0)).await;
        }
        let ttl = wants_token.then(|| self.token_ttl(instance));
        if let Err(error) = call.peer.set_ttl(ttl) {
            tracing::warn!(%error, %instance, "the TTL of a connection could not be set");
            return html(StatusCode::INTERNAL_SERVER_ERROR).into();
        }
        let mut answer: Answer = match (arrival.refusal, &call.method) {
            (Some(status), _) => html(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)).into(),
            (None, &Method::PUT) if wants_token => self.give_token(call, instance).into(),
            (None, &Method::GET | &Method::HEAD) if !is_token_path(call.uri.path()) => self.get(call, instance),
            _ => html(StatusCode::METHOD_NOT_ALLOWED).into(),
        };
        answer.faults.extend(arrival.faults);
        answer
    }

    fn token_ttl(&self, instance: &InstanceId) -> u32 {
        let hops = self.cloud.hop_limit(instance).unwrap_or(1);
        (u32::from(hops) + u32::from(self.options.routers_between)).min(MAX_IP_TTL)
    }

    fn give_token(&self, call: &Call, instance: &InstanceId) -> Reply {
        if call.headers.contains_key("x-forwarded-for") {
            return html(StatusCode::FORBIDDEN);
        }
        let wanted = call.headers.get(TTL_HEADER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let Some(seconds) = wanted.filter(|seconds| (1..=MAX_TTL).contains(seconds)) else {
            return html(StatusCode::BAD_REQUEST);
        };
        let token = fresh_token();
        let until = Instant::now() + Duration::from_secs(seconds);
        self.remember(token.clone(), Token { instance: instance.clone(), until });
        let mut reply = text(StatusCode::OK, &token);
        reply.headers_mut().insert(TTL_HEADER, HeaderValue::from(seconds));
        reply
    }

    fn remember(&self, token: String, session: Token) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            let now = Instant::now();
            tokens.retain(|_, session| session.until > now);
            let first = tokens.iter().min_by_key(|(_, session)| session.until).map(|(token, _)| token.clone());
            if let Some(first) = first.filter(|_| tokens.len() >= MAX_TOKENS) {
                tokens.remove(&first);
            }
        }
        tokens.insert(token, session);
    }

    fn get(&self, call: &Call, instance: &InstanceId) -> Answer {
        let session = match call.headers.get(TOKEN_HEADER) {
            // Version 1, for instances that still allow it.
            None if !self.cloud.tokens_required(instance) => None,
            token => match token.and_then(|value| self.seconds_left(value.to_str().ok()?, instance)) {
                Some(seconds) => Some(seconds),
                None => return html(StatusCode::UNAUTHORIZED).into(),
            },
        };
        let mut parts = call.uri.path().split('/').filter(|part| !part.is_empty());
        let found = match parts.next() {
            None => ImdsAnswer { value: Some(VERSIONS.join("\n")), faults: Vec::new() },
            Some(version) if is_version(version) => {
                self.cloud.imds_answer(instance, &parts.collect::<Vec<_>>().join("/"))
            }
            Some(_) => ImdsAnswer::default(),
        };
        let mut answer: Answer = match found.value {
            Some(value) => Answer { shown: value.clone(), ..text(StatusCode::OK, &value).into() },
            None => html(StatusCode::NOT_FOUND).into(),
        };
        if let Some(seconds) = session {
            answer.reply.headers_mut().insert(TTL_HEADER, HeaderValue::from(seconds));
        }
        answer.faults = found.faults;
        answer
    }

    /// How long a token is still good, in seconds; `None`: it is none, another instance's, or over.
    fn seconds_left(&self, token: &str, instance: &InstanceId) -> Option<u64> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let session = tokens.get(token).filter(|session| session.instance == *instance)?;
        let left = session.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        // Rounded up: a token is never good for 0 s.
        Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }

    fn record(
        &self,
        call: &Call,
        instance: Option<InstanceId>,
        answer: &Answer,
        arrived: vpc_model::Time,
        took: Duration,
    ) {
        let caller = instance.map(Caller::Instance);
        let status = answer.reply.status();
        let secret = call.uri.path().contains("/security-credentials/") && status.is_success();
        let mut parameters = Vec::new();
        if caller.is_none() {
            parameters.push(("source".to_owned(), call.peer.address.to_string()));
        }
        if let Some(ttl) = call.headers.get(TTL_HEADER).and_then(|value| value.to_str().ok()) {
            parameters.push((TTL_HEADER.to_owned(), ttl.to_owned()));
        }
        self.cloud.record(CallRecord {
            number: 0,
            at_ms: arrived.0,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            service: record::Service::Imds,
            caller_name: self.cloud.name_of(caller.as_ref()),
            caller,
            action: format!("{} {}", call.method, call.uri.path()),
            parameters,
            status: status.as_u16(),
            error: (!status.is_success()).then(|| status.to_string()),
            answer: if secret { "(credentials)".to_owned() } else { record::shorten(&answer.shown) },
            request_id: String::new(),
            faults: answer.faults.clone(),
        });
    }
}

/// Versions of the tree, as IMDS lists them: all give the same tree here.
#[rustfmt::skip]
const VERSIONS: [&str; 30] = [
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
    "2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19",
    "2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03",
    "2021-03-23", "2021-07-15", "2022-09-24", "2023-11-13", "2024-04-11", "latest",
];

fn is_version(part: &str) -> bool {
    VERSIONS.contains(&part)
}

/// Empty parts of a path mean nothing.
fn is_token_path(path: &str) -> bool {
    path.split('/').filter(|part| !part.is_empty()).eq(["latest", "api", "token"])
}

fn fresh_token() -> String {
    let bytes: [u64; 5] = rand::random();
    let digits: String = bytes.iter().map(|part| format!("{part:016x}")).collect();
    format!("AQAEA{}==", digits.get(..49).unwrap_or(&digits))
}

/// IMDS answers errors with a small page.
fn html(status: StatusCode) -> Reply {
    let title = format!("{} - {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let page = format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
         \t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html xmlns=\"http://www.w3.org/1999/xhtml\" \
         xml:lang=\"en\" lang=\"en\">\n <head>\n  <title>{title}</title>\n </head>\n <body>\n  <h1>{title}</h1>\n </body>\n</html>\n"
    );
    reply(status, "text/html", page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_imds_begin_with_a_version() {
        for path in ["/latest/meta-data/mac", "//latest", "/2021-07-15/dynamic", "/1.0/"] {
            assert!(Imds::has(path), "{path}");
        }
        for path in ["/", "", "/meta-data", "/2021-7-15", "/latests"] {
            assert!(!Imds::has(path), "{path}");
        }
        assert!(is_token_path("/latest/api/token/") && !is_token_path("/latest/api"));
    }
}
