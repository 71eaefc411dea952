//! The API over HTTP.
//!
//! A request's way: path (what is it about?) -> token (who asks?) -> switches (may he?) -> objects.rs (the verb) -> the form
//! that `Accept` wants. Whatever goes wrong on the way is answered with a `Status`, and every call is recorded.

mod accept;
mod cells;
mod discovery;
mod objects;
mod openapi;
mod path;
mod reviews;
mod stream;
mod table;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Bytes, Incoming};
use serde_json::{Value, json};

use crate::access::User;
use crate::error::KubeError;
use crate::handle::KubeHandle;
use crate::record::KubeCall;
use path::{Query, Target};

/// The version the server says it is.
pub(crate) const VERSION: &str = "v1.34.4";
/// Longest body of a request, in bytes, as at a real API server.
const MAX_BODY: usize = 3 << 20;

/// An answer that is complete, or a watch.
pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A request read to its end.
pub(crate) struct Call {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    query: Query,
}

/// What is answered.
enum Outcome {
    Json(StatusCode, Value),
    Text(&'static str),
    OldOpenApi,
    Watch(Box<stream::Sending>),
}

/// Answers one request and records it.
pub(crate) async fn respond(handle: &KubeHandle, request: Request<Incoming>) -> Reply {
    let (arrived, begun) = (handle.since_start(), Instant::now());
    let (head, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map(http_body_util::Collected::to_bytes);
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let target = Target::of(head.uri.path());
    let mut record = new_record(&head.method, &head.uri, &head.headers, &target, &query);
    let result = match body {
        Ok(body) => {
            let call = Call { method: head.method, uri: head.uri, headers: head.headers, body, query };
            answer(handle, &target, &call, &mut record)
        }
        Err(error) if error.is::<LengthLimitError>() => Err(KubeError::TooLong { limit: MAX_BODY }),
        Err(error) => Err(KubeError::BadRequest(format!("the body could not be read: {error}"))),
    };
    record.reason = result.as_ref().err().map(|error| error.reason().to_owned());
    let reply = reply(result);
    record.status = reply.status().as_u16();
    record.at_ms = millis(arrived);
    record.took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    handle.record(record);
    reply
}

fn answer(handle: &KubeHandle, target: &Target, call: &Call, record: &mut KubeCall) -> Result<Outcome, KubeError> {
    // What anybody may read, as at a real API server.
    match target {
        Target::Health => return Ok(Outcome::Text("ok")),
        Target::Version => return Ok(Outcome::Json(StatusCode::OK, version())),
        _ => {}
    }
    let user = authenticate(handle, &call.headers)?;
    record.user = Some(user.name.clone());
    if let Target::Objects(place) = target {
        return objects::answer(handle, &user, place, call);
    }
    if call.method != Method::GET {
        return Err(KubeError::MethodNotAllowed);
    }
    if *target == Target::OldOpenApi && header_text(&call.headers, header::ACCEPT).contains("proto-openapi") {
        return Ok(Outcome::OldOpenApi);
    }
    let document = handle.read(|store| match target {
        Target::OldOpenApi => Ok(openapi::empty_v2()),
        Target::CoreVersions => Ok(discovery::core_versions(host(call))),
        Target::Groups => Ok(discovery::groups(store)),
        Target::Group(group) => discovery::group(store, group),
        Target::Resources(group, version) => discovery::resources(store, group, version),
        Target::OpenApi(None) => Ok(openapi::index(store)),
        Target::OpenApi(Some((group, version))) => openapi::document(store, group, version),
        Target::Health | Target::Version | Target::Objects(_) | Target::Unknown => Err(KubeError::NoSuchResource),
    })?;
    // All of it is JSON and nothing else, whatever else the client would rather have.
    accept::Form::wanted(header_text(&call.headers, header::ACCEPT))?;
    Ok(Outcome::Json(StatusCode::OK, document))
}

/// Whose bearer token it is.
fn authenticate(handle: &KubeHandle, headers: &HeaderMap) -> Result<User, KubeError> {
    let header = header_text(headers, header::AUTHORIZATION);
    let token = header.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    token.and_then(|(_, token)| handle.identify(token.trim())).ok_or(KubeError::Unauthorized)
}

fn new_record(method: &Method, uri: &Uri, headers: &HeaderMap, target: &Target, query: &Query) -> KubeCall {
    let mut record = KubeCall {
        user_agent: header_text(headers, header::USER_AGENT).to_owned(),
        verb: method.as_str().to_lowercase(),
        path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        ..KubeCall::default()
    };
    if let Target::Objects(place) = target {
        if let Some(verb) = objects::verb(method, place, query) {
            record.verb = verb.to_owned();
        }
        record.resource = place.label();
        record.namespace.clone_from(&place.namespace);
        record.name.clone_from(&place.name);
    }
    record
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

fn reply(result: Result<Outcome, KubeError>) -> Reply {
    let (status, content_type, body) = match result {
        Ok(Outcome::Json(status, value)) => (status, "application/json", whole(value.to_string())),
        Ok(Outcome::OldOpenApi) => (StatusCode::OK, openapi::V2_MEDIA_TYPE, whole(openapi::EMPTY_V2.to_owned())),
        Ok(Outcome::Text(text)) => (StatusCode::OK, "text/plain; charset=utf-8", whole(text.to_owned())),
        Ok(Outcome::Watch(sending)) => {
            (StatusCode::OK, "application/json", StreamBody::new(sending.lines()).boxed_unsync())
        }
        Err(error) => {
            let status = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, "application/json", whole(error.status().to_string()))
        }
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if status == StatusCode::GATEWAY_TIMEOUT {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

fn whole(text: String) -> UnsyncBoxBody<Bytes, Infallible> {
    Full::new(Bytes::from(text)).boxed_unsync()
}

fn host(call: &Call) -> &str {
    call.uri.authority().map_or_else(|| header_text(&call.headers, header::HOST), |authority| authority.as_str())
}

/// The first value of a header. Text that is none reads as nothing.
fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
