//! EC2's Query API over HTTP.
//!
//! A request's way: signature (who calls?) -> parameters -> [`AnyRequest`] -> the model -> XML. Whatever goes wrong on the
//! way is answered as EC2 answers it, and every call is recorded.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use http::{HeaderValue, Method, StatusCode};
use lab_cloud::{ApiError, Caller, FaultId};
use vpc_aws::ec2::shapes::{AnyRequest, ErrorAnswer, Query};
use vpc_aws::ec2::signature::{Received, Secret, SignatureRefusal, verify};

use crate::driver::CloudHandle;
use crate::http::{Call, HangUp, Reply, Server, Service, reply, serve, text};
use crate::record::{self, CallRecord};

/// Content type of every answer.
const XML: &str = "text/xml;charset=UTF-8";

/// Serves EC2's Query API on a listener: forms by POST, or parameters in the query of a GET, signed with Signature
/// Version 4 by the account's pair ([`lab_cloud::ACCESS_KEY`]) or by the credentials of an instance's role.
///
/// # Errors
/// The listener cannot be used with tokio.
pub fn serve_ec2(cloud: CloudHandle, listener: TcpListener) -> std::io::Result<Server> {
    serve(listener, Ec2::new(cloud))
}

/// The service behind the listener.
pub(crate) struct Ec2 {
    cloud: CloudHandle,
    region: String,
    requests: AtomicU64,
}

/// What becomes of a request, for the record.
struct Outcome {
    caller: Option<Caller>,
    query: Query,
    /// XML or a refusal; `None`: the connection is closed instead.
    result: Option<Result<String, ApiError>>,
    faults: Vec<FaultId>,
}

impl Service for Ec2 {
    async fn answer(&self, call: Call) -> Result<Reply, HangUp> {
        if call.uri.path() != "/" {
            return Ok(text(StatusCode::NOT_FOUND, "EC2's Query API has one path, `/`.\n"));
        }
        if call.method != Method::POST && call.method != Method::GET {
            return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "EC2's Query API takes POST and GET.\n"));
        }
        let (arrived, begun) = (self.cloud.now(), Instant::now());
        let request_id = self.request_id();
        let outcome = self.handle(&call, &request_id).await;
        let (status, body) = match &outcome.result {
            None => (0, String::new()),
            Some(Ok(xml)) => (200, xml.clone()),
            Some(Err(error)) => (error.status, refusal(error, &request_id)),
        };
        let error = outcome.result.as_ref().and_then(|result| result.as_ref().err());
        self.cloud.record(CallRecord {
            number: 0,
            at_ms: arrived.0,
            took_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            service: record::Service::Ec2,
            caller_name: self.cloud.name_of(outcome.caller.as_ref()),
            caller: outcome.caller,
            action: outcome.query.get("Action").unwrap_or_default().to_owned(),
            parameters: parameters(&outcome.query),
            status,
            error: error.map(|error| error.code.to_string()),
            answer: record::shorten(error.map_or(&body, |error| &error.message)),
            request_id: request_id.clone(),
            faults: outcome.faults,
        });
        if status == 0 {
            return Err(HangUp);
        }
        let mut reply = reply(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), XML, body);
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            reply.headers_mut().insert("x-amzn-requestid", id);
        }
        Ok(reply)
    }
}

impl Ec2 {
    pub(crate) fn new(cloud: CloudHandle) -> Self {
        let region = cloud.spec().region;
        Self { cloud, region, requests: AtomicU64::new(1) }
    }

    async fn handle(&self, call: &Call, request_id: &str) -> Outcome {
        let query = match call.method {
            Method::POST => Query::parse(&call.body),
            _ => Query::parse(call.uri.query().unwrap_or_default().as_bytes()),
        };
        let caller = match self.authenticate(call) {
            Ok(caller) => caller,
            Err(error) => return Outcome { caller: None, query, result: Some(Err(error)), faults: Vec::new() },
        };
        let (result, faults) = match AnyRequest::from_query(&query) {
            Ok(request) => {
                let answered = self.cloud.ask(&caller, request).await;
                let xml = answered.result.map(|result| result.map(|answer| answer.to_xml(request_id)));
                (xml, answered.faults)
            }
            Err(error) => (Some(Err(error.into())), Vec::new()),
        };
        Outcome { caller: Some(caller), query, result, faults }
    }

    /// Whose signature the request bears.
    fn authenticate(&self, call: &Call) -> Result<Caller, ApiError> {
        let headers: Vec<(&str, &str)> =
            call.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        let received = Received {
            method: call.method.as_str(),
            path: call.uri.path(),
            query: call.uri.query().unwrap_or_default(),
            headers: &headers,
            body: &call.body,
        };
        let mut caller = None;
        verify(&received, Some(&self.region), SystemTime::now(), |access_key| {
            let identity = self.cloud.identify(access_key)?;
            caller = Some(identity.caller);
            Some(Secret { secret_key: identity.secret_key, session_token: identity.session_token })
        })
        .map_err(refused)?;
        caller.ok_or_else(|| refused(SignatureRefusal::Missing))
    }

    fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let digits =
            format!("{}{}", lab_cloud::id_text("", &number.to_string()), lab_cloud::id_text("", &format!("+{number}")));
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        format!("{}-{}-4{}-8{}-{}", part(1, 9), part(9, 13), part(14, 17), part(18, 21), part(21, 33))
    }
}

fn refused(refusal: SignatureRefusal) -> ApiError {
    ApiError { code: refusal.code().into(), message: refusal.to_string(), status: refusal.status() }
}

fn refusal(error: &ApiError, request_id: &str) -> String {
    ErrorAnswer { code: error.code.to_string(), message: error.message.clone(), request_id: request_id.to_owned() }
        .to_xml()
}

/// The parameters without those that every request has.
fn parameters(query: &Query) -> Vec<(String, String)> {
    query.pairs().iter().filter(|(name, _)| name != "Action" && name != "Version").cloned().collect()
}
