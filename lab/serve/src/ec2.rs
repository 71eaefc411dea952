//! EC2's Query API over HTTP.
//!
//! A request's way: signature (who calls?) -> parameters -> [`AnyRequest`] -> the model -> XML. Whatever goes wrong on the
//! way is answered as EC2 answers it, and every call is recorded.

use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{HeaderValue, Method, StatusCode};
use lab_cloud::{ApiError, Caller, FaultId};
use vpc_aws::ec2::shapes::{AnyRequest, ErrorAnswer, Query};
use vpc_aws::ec2::signature::{Received, Secret, SignatureRefusal, access_key_of, is_signature_parameter, verify};

use crate::date::{date, skewed};
use crate::driver::CloudHandle;
use crate::http::{Call, HangUp, Reply, Server, Service, reply, serve, text};
use crate::record::{self, CallRecord};

/// Content type of every answer.
const XML: &str = "text/xml;charset=UTF-8";

/// Serves EC2's Query API on a listener: forms by POST, or parameters in the query of a GET (presigned ones too), signed
/// with Signature Version 4 by the account's pair ([`lab_cloud::ACCESS_KEY`]) or by the credentials of an instance's role.
/// [`lab_cloud::Setup::check_signatures`] switches the check off.
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
        date(&mut reply, self.cloud.skew_ms());
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
        let query = without_signature(query);
        let (caller, faults) = self.authenticate(call);
        let caller = match caller {
            Ok(caller) => caller,
            Err(error) => return Outcome { caller: None, query, result: Some(Err(error)), faults },
        };
        match AnyRequest::from_query(&query) {
            Ok(request) => {
                let mut answered = self.cloud.ask(&caller, request).await;
                answered.faults.extend(faults);
                let result = answered.result.map(|result| result.map(|answer| answer.to_xml(request_id)));
                Outcome { caller: Some(caller), query, result, faults: answered.faults }
            }
            Err(error) => Outcome { caller: Some(caller), query, result: Some(Err(error.into())), faults },
        }
    }

    /// Who calls, and the faults that had a hand in finding out.
    fn authenticate(&self, call: &Call) -> (Result<Caller, ApiError>, Vec<FaultId>) {
        let headers: Vec<(&str, &str)> =
            call.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect();
        let received = Received {
            method: call.method.as_str(),
            path: call.uri.path(),
            query: call.uri.query().unwrap_or_default(),
            headers: &headers,
            body: &call.body,
        };
        if !self.cloud.checks_signatures() {
            return (Ok(self.believed(call, &received)), Vec::new());
        }
        let (skew_ms, faults) = self.cloud.skew_for_signature();
        let mut caller = None;
        let signed = verify(&received, Some(&self.region), skewed(skew_ms), |access_key| {
            let identity = self.cloud.identify(access_key)?;
            caller = Some(identity.caller);
            Some(Secret {
                secret_key: identity.secret_key,
                session_token: identity.session_token,
                expired: identity.expired,
            })
        });
        let caller = signed.and_then(|_| caller.ok_or(SignatureRefusal::Missing)).map_err(|refusal| {
            // EC2 does not tell the caller what exactly is wrong; the lab's log does.
            tracing::info!(peer = %call.peer.address, %refusal, "a signature is not accepted");
            ApiError { code: refusal.code().into(), message: refusal.message(), status: refusal.status() }
        });
        (caller, faults)
    }

    /// Who calls, if nobody need prove it: whoever the access key belongs to, else the instance with the source address,
    /// else the account.
    fn believed(&self, call: &Call, received: &Received<'_>) -> Caller {
        let of_key = access_key_of(received).and_then(|key| self.cloud.identify(&key)).map(|identity| identity.caller);
        let of_address = || match call.peer.address.ip().to_canonical() {
            IpAddr::V4(address) => self.cloud.instance_at(address).map(Caller::Instance),
            IpAddr::V6(_) => None,
        };
        of_key.or_else(of_address).unwrap_or(Caller::Account)
    }

    fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let digits =
            format!("{}{}", lab_cloud::id_text("", &number.to_string()), lab_cloud::id_text("", &format!("+{number}")));
        let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
        format!("{}-{}-4{}-8{}-{}", part(1, 9), part(9, 13), part(14, 17), part(18, 21), part(21, 33))
    }
}

/// The parameters of the action, without those of a presigned request's signature.
fn without_signature(query: Query) -> Query {
    if !query.pairs().iter().any(|(name, _)| is_signature_parameter(name)) {
        return query;
    }
    let mut own = Query::default();
    query.pairs().iter().filter(|(name, _)| !is_signature_parameter(name)).for_each(|(n, v)| own.push(n, v));
    own
}

fn refusal(error: &ApiError, request_id: &str) -> String {
    ErrorAnswer { code: error.code.to_string(), message: error.message.clone(), request_id: request_id.to_owned() }
        .to_xml()
}

/// The parameters without those that every request has.
fn parameters(query: &Query) -> Vec<(String, String)> {
    query.pairs().iter().filter(|(name, _)| name != "Action" && name != "Version").cloned().collect()
}
