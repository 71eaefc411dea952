//! Signature Version 4, both ways: [`sign`] puts it on a request of ours, [`verify`] recomputes it for a server.
//!
//! Signing is left to AWS's own `aws-sigv4`; checking is written out here, from the public description, so that each side
//! is held against the other: canonical request -> string to sign -> HMAC with a key derived from secret, date, region and
//! service.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningError, SigningSettings};
use aws_sigv4::sign::v4;
use sha2::{Digest, Sha256};

use super::shapes::scalar::days_from_civil;

/// The service name in EC2's signatures.
pub const SERVICE: &str = "ec2";

/// How far a request's time may lie from the server's, either way.
pub const MAX_SKEW: Duration = Duration::from_mins(5);

/// From here on EC2 says that the request has expired.
const EXPIRED: Duration = Duration::from_mins(15);

/// The longest a presigned request may be used: seven days.
const MAX_PRESIGNED: Duration = Duration::from_hours(7 * 24);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SIGNATURE_PARAMETER: &str = "X-Amz-Signature";

/// A request of ours could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the request could not be signed: {0}")]
pub struct SignError(String);

impl From<SigningError> for SignError {
    fn from(error: SigningError) -> Self {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Self(format!("{error}{source}"))
    }
}

/// The headers (`authorization`, `x-amz-date`, with a session token also `x-amz-security-token`) that sign a POST of
/// `body` to `url` for EC2. `headers` are those that go along and are to be covered; `host` is added by itself.
///
/// # Errors
/// [`SignError`] if the URL is no URL.
pub fn sign(
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    region: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Vec<(&'static str, String)>, SignError> {
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(SERVICE)
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|e| SignError(e.to_string()))?
        .into();
    let request = SignableRequest::new("POST", url, headers.iter().copied(), SignableBody::Bytes(body))?;
    let (instructions, _) = aws_sigv4::http_request::sign(request, &params)?.into_parts();
    let (headers, _) = instructions.into_parts();
    Ok(headers.into_iter().map(|header| (header.name(), header.value().to_owned())).collect())
}

/// A request as a server received it.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// `GET`, `POST` …
    pub method: &'a str,
    /// Path as sent, percent-encoding included (`/`).
    pub path: &'a str,
    /// Query string as sent, without `?`; empty if there is none.
    pub query: &'a str,
    /// Headers as sent; names in any case.
    pub headers: &'a [(&'a str, &'a str)],
    /// The whole body.
    pub body: &'a [u8],
}

impl Received<'_> {
    /// All values of a header, each trimmed and with runs of spaces made one, joined by commas.
    fn header(&self, name: &str) -> Option<String> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| {
            let words: Vec<&str> = value.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            words.join(" ")
        });
        let first = values.next()?;
        Some(values.fold(first, |all, next| all + "," + &next))
    }
}

/// The secret half of a pair of credentials.
#[derive(Clone)]
pub struct Secret {
    /// The secret access key.
    pub secret_key: String,
    /// The session token, for temporary credentials: the request must carry the same one. `None`: it must carry none.
    pub session_token: Option<String>,
    /// Whether the credentials are no longer taken.
    pub expired: bool,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who signed a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The access key id.
    pub access_key: String,
    /// The region the signature is for.
    pub region: String,
}

/// Why a request is not taken as signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefusal {
    /// No signature at all.
    #[error("there is no signature")]
    Missing,
    /// A signature that cannot be read.
    #[error("the signature cannot be read: {0}")]
    Incomplete(String),
    /// Nobody has this access key.
    #[error("nobody has the access key {access_key}")]
    UnknownKey {
        /// The access key id given.
        access_key: String,
    },
    /// The session token is absent or is not that of the access key.
    #[error("the session token is not the one of the access key {access_key}")]
    WrongToken {
        /// The access key id given.
        access_key: String,
    },
    /// The credentials were good once.
    #[error("the temporary credentials {access_key} have expired")]
    ExpiredCredentials {
        /// The access key id given.
        access_key: String,
    },
    /// The request's time is too far from the server's, or a presigned request is used too late.
    #[error("the request is of {stamp}: {} s {} the server's time", .off.as_secs(), if *.early { "ahead of" } else { "behind" })]
    Expired {
        /// The request's time as given.
        stamp: String,
        /// How far.
        off: Duration,
        /// Whether it lies in the future.
        early: bool,
    },
    /// A signature for another region or service.
    #[error("the signature is for {given}, expected {expected}")]
    WrongScope {
        /// What was given.
        given: String,
        /// What is accepted.
        expected: String,
    },
    /// Secret, or any covered part of the request, is another one.
    #[error("the signature does not match: another secret, or the request was changed on its way")]
    Mismatch,
}

impl SignatureRefusal {
    /// EC2's error code. EC2 does not say what is wrong with a signature: users report `AuthFailure` for an unknown key, a
    /// wrong secret, a wrong region and a clock that is some minutes off alike, and `RequestExpired` for expired credentials
    /// and for clocks that are more than a quarter of an hour off.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationToken",
            Self::Incomplete(_) => "IncompleteSignature",
            Self::ExpiredCredentials { .. } => "RequestExpired",
            Self::Expired { off, .. } if *off > EXPIRED => "RequestExpired",
            Self::Expired { .. }
            | Self::UnknownKey { .. }
            | Self::WrongToken { .. }
            | Self::WrongScope { .. }
            | Self::Mismatch => "AuthFailure",
        }
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.code() {
            "MissingAuthenticationToken" => 403,
            "AuthFailure" => 401,
            _ => 400,
        }
    }

    /// EC2's text. What really is wrong, [`std::fmt::Display`] says.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Missing => "Request is missing Authentication Token".to_owned(),
            Self::Incomplete(what) => format!("The request signature does not conform to AWS standards: {what}"),
            Self::ExpiredCredentials { .. } => "Request has expired.".to_owned(),
            Self::Expired { stamp, off, .. } if *off > EXPIRED => {
                format!("Request has expired. Timestamp date is {stamp}")
            }
            _ => "AWS was not able to validate the provided access credentials".to_owned(),
        }
    }
}

/// Whether a parameter of a query belongs to a presigned request's signature and not to the action.
#[must_use]
pub fn is_signature_parameter(name: &str) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("X-Amz-"))
}

/// The access key a request is signed with, whatever the signature is worth; `None`: it bears none that can be read.
#[must_use]
pub fn access_key_of(request: &Received<'_>) -> Option<String> {
    Claim::of(request).ok().map(|claim| claim.access_key)
}

/// Checks a request's signature, in the `authorization` header or (presigned) in the query. `secret_of` finds the secret of
/// an access key; `region` is the one served, `None` takes any.
///
/// # Errors
/// Why the request is not taken as signed.
pub fn verify(
    request: &Received<'_>,
    region: Option<&str>,
    now: SystemTime,
    secret_of: impl FnOnce(&str) -> Option<Secret>,
) -> Result<Signer, SignatureRefusal> {
    let claim = Claim::of(request)?;
    let unknown = || SignatureRefusal::UnknownKey { access_key: claim.access_key.clone() };
    let secret = secret_of(&claim.access_key).ok_or_else(unknown)?;
    if secret.session_token != claim.session_token {
        return Err(SignatureRefusal::WrongToken { access_key: claim.access_key });
    }
    if claim.service != SERVICE || region.is_some_and(|region| region != claim.region) {
        let expected = format!("{}/{SERVICE}", region.unwrap_or("any region"));
        return Err(SignatureRefusal::WrongScope { given: format!("{}/{}", claim.region, claim.service), expected });
    }
    let time = parse_stamp(&claim.stamp).ok_or_else(|| incomplete(format!("x-amz-date is `{}`", claim.stamp)))?;
    if !claim.stamp.starts_with(&claim.date) {
        return Err(incomplete(format!("the credential is of {}, the request of {}", claim.date, claim.stamp)));
    }
    let canonical = canonical_request(request, &claim)?;
    let scope = format!("{}/{}/{}/aws4_request", claim.date, claim.region, claim.service);
    let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{}", claim.stamp, sha256_hex(canonical.as_bytes()));
    let key = v4::generate_signing_key(&secret.secret_key, time, &claim.region, &claim.service);
    if v4::calculate_signature(key, to_sign.as_bytes()) != claim.signature {
        return Err(SignatureRefusal::Mismatch);
    }
    check_age(&claim, time, now)?;
    if secret.expired {
        return Err(SignatureRefusal::ExpiredCredentials { access_key: claim.access_key });
    }
    Ok(Signer { access_key: claim.access_key, region: claim.region })
}

fn incomplete(what: impl Into<String>) -> SignatureRefusal {
    SignatureRefusal::Incomplete(what.into())
}

/// What a request says about its signature.
struct Claim {
    access_key: String,
    date: String,
    region: String,
    service: String,
    signed_headers: Vec<String>,
    signature: String,
    session_token: Option<String>,
    /// `20261121T070509Z`.
    stamp: String,
    /// How long a presigned request may be used; `None`: the signature is in a header.
    presigned: Option<Duration>,
}

impl Claim {
    fn of(request: &Received<'_>) -> Result<Self, SignatureRefusal> {
        if let Some(header) = request.header("authorization") {
            return Self::in_header(request, &header);
        }
        let parameters: Vec<(String, String)> =
            query_pairs(request.query).filter(|(name, _)| is_signature_parameter(name)).collect();
        if parameters.iter().any(|(name, _)| name.eq_ignore_ascii_case(SIGNATURE_PARAMETER)) {
            return Self::in_query(&parameters);
        }
        Err(SignatureRefusal::Missing)
    }

    fn in_header(request: &Received<'_>, header: &str) -> Result<Self, SignatureRefusal> {
        let fields = header.strip_prefix(ALGORITHM).ok_or_else(|| incomplete(format!("expected {ALGORITHM}")))?;
        let field = |name: &str| {
            fields
                .split(',')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| incomplete(format!("the authorization header has no {name}")))
        };
        let stamp = request.header("x-amz-date").ok_or_else(|| incomplete("there is no x-amz-date header"))?;
        let token = request.header("x-amz-security-token");
        Self::new(field("Credential")?, field("SignedHeaders")?, field("Signature")?, stamp, token, None)
    }

    fn in_query(parameters: &[(String, String)]) -> Result<Self, SignatureRefusal> {
        let find =
            |name: &str| parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone());
        let field = |name: &str| find(name).ok_or_else(|| incomplete(format!("the query has no {name}")));
        if field("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete(format!("expected {ALGORITHM}")));
        }
        let seconds = field("X-Amz-Expires")?;
        let life = seconds.parse().ok().map(Duration::from_secs).filter(|life| *life <= MAX_PRESIGNED);
        let life = life.ok_or_else(|| incomplete(format!("X-Amz-Expires is `{seconds}`, expected 0 to 604800")))?;
        Self::new(
            &field("X-Amz-Credential")?,
            &field("X-Amz-SignedHeaders")?,
            &field(SIGNATURE_PARAMETER)?,
            field("X-Amz-Date")?,
            find("X-Amz-Security-Token"),
            Some(life),
        )
    }

    fn new(
        credential: &str,
        signed_headers: &str,
        signature: &str,
        stamp: String,
        session_token: Option<String>,
        presigned: Option<Duration>,
    ) -> Result<Self, SignatureRefusal> {
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key, date, region, service, "aws4_request"] = parts[..] else {
            return Err(incomplete(format!(
                "the credential is `{credential}`, expected key/date/region/service/aws4_request"
            )));
        };
        let signed_headers: Vec<String> = signed_headers.split(';').map(str::to_owned).collect();
        if !signed_headers.iter().any(|name| name == "host") {
            return Err(incomplete("the host header must be signed"));
        }
        Ok(Self {
            access_key: access_key.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers,
            signature: signature.to_owned(),
            session_token,
            stamp,
            presigned,
        })
    }
}

fn canonical_request(request: &Received<'_>, claim: &Claim) -> Result<String, SignatureRefusal> {
    let mut headers = String::new();
    for name in &claim.signed_headers {
        let value = request.header(name).ok_or_else(|| incomplete(format!("the signed header {name} is not there")))?;
        let _ = writeln!(headers, "{}:{value}", name.to_ascii_lowercase());
    }
    let path = if request.path.is_empty() { "/".to_owned() } else { encode(request.path.as_bytes(), true) };
    Ok(format!(
        "{}\n{path}\n{}\n{headers}\n{}\n{}",
        request.method,
        canonical_query(request.query),
        claim.signed_headers.join(";"),
        sha256_hex(request.body)
    ))
}

/// Names and values decoded, encoded in the one canonical way, sorted. A presigned request's signature is left out.
fn canonical_query(query: &str) -> String {
    let decoded = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(name), percent_decode(value))
    });
    let covered = decoded.filter(|(name, _)| !name.eq_ignore_ascii_case(SIGNATURE_PARAMETER.as_bytes()));
    let mut pairs: Vec<String> =
        covered.map(|(name, value)| format!("{}={}", encode(&name, false), encode(&value, false))).collect();
    pairs.sort();
    pairs.join("&")
}

/// Names and values of a query that are text.
fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((String::from_utf8(percent_decode(name)).ok()?, String::from_utf8(percent_decode(value)).ok()?))
    })
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = (*first == b'%')
            .then(|| tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()))
            .flatten();
        out.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &tail[2..] } else { tail };
    }
    out
}

/// Percent-encodes all but RFC 3986's unreserved characters (and `/` in paths).
fn encode(bytes: &[u8], keep_slash: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(*byte as char),
            b'/' if keep_slash => out.push('/'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `20261121T070509Z`.
fn parse_stamp(text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z').filter(|t| t.len() == 15 && t.as_bytes()[8] == b'T')?;
    let number = |from: usize, to: usize| {
        let part = digits.get(from..to)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i64>().ok()).flatten()
    };
    let days = days_from_civil(number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let seconds = ((days * 24 + number(9, 11)?) * 60 + number(11, 13)?) * 60 + number(13, 15)?;
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// A signature in a header is good for some minutes, a presigned request for as long as it says.
fn check_age(claim: &Claim, time: SystemTime, now: SystemTime) -> Result<(), SignatureRefusal> {
    let (off, early, patience) = match now.duration_since(time) {
        Ok(late) => (late, false, claim.presigned.unwrap_or(MAX_SKEW)),
        Err(early) => (early.duration(), true, MAX_SKEW),
    };
    if off <= patience {
        return Ok(());
    }
    // A presigned request that is over has expired, however short a time ago.
    let off = if claim.presigned.is_some() && !early { off.max(EXPIRED + Duration::from_secs(1)) } else { off };
    Err(SignatureRefusal::Expired { stamp: claim.stamp.clone(), off, early })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const KEY: &str = "AKIALABEXAMPLE00000A";

    fn now() -> SystemTime {
        // 2026-11-21T07:05:09Z
        UNIX_EPOCH + Duration::from_secs(1_795_244_709)
    }

    fn secret(token: Option<&str>) -> Secret {
        Secret { secret_key: "lab-secret".into(), session_token: token.map(Into::into), expired: false }
    }

    /// The request AWS publishes as the worked example of this signature: ListUsers of IAM on 30 August 2015, whose key,
    /// secret and signature are printed in the documentation.
    #[test]
    fn the_published_example_gives_the_published_signature() {
        let headers = [
            ("host", "iam.amazonaws.com"),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        let request = Received {
            method: "GET",
            path: "/",
            query: "Version=2010-05-08&Action=ListUsers",
            headers: &headers,
            body: b"",
        };
        let claim = Claim {
            access_key: "AKIDEXAMPLE".into(),
            date: "20150830".into(),
            region: "us-east-1".into(),
            service: "iam".into(),
            signed_headers: ["content-type", "host", "x-amz-date"].map(str::to_owned).to_vec(),
            signature: String::new(),
            session_token: None,
            stamp: "20150830T123600Z".into(),
            presigned: None,
        };
        let canonical = canonical_request(&request, &claim).unwrap();
        let hash = sha256_hex(canonical.as_bytes());
        assert_eq!(hash, "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59");
        let time = parse_stamp("20150830T123600Z").unwrap();
        let key = v4::generate_signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", time, "us-east-1", "iam");
        let to_sign = format!("AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n{hash}");
        assert_eq!(
            v4::calculate_signature(key, to_sign.as_bytes()),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
        );
    }

    /// A request that botocore 1.44.5 made and signed with the lab's pair and a session token at [`now`].
    #[test]
    fn a_request_of_boto3_is_taken() {
        let authorization = "AWS4-HMAC-SHA256 Credential=AKIALABEXAMPLE00000A/20261121/eu-central-1/ec2/aws4_request, \
            SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, \
            Signature=904d09e5374bee403846b72c881eabdff6aeec8fdce94aa40ca678474d5ab95f";
        let headers = [
            ("Host", "127.0.0.1:8080"),
            ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("User-Agent", "Botocore/1.44.5"),
            ("X-Amz-Date", "20261121T070509Z"),
            ("X-Amz-Security-Token", "tok/en+=="),
            ("Authorization", authorization),
        ];
        let body = b"Action=DescribeVpcs&Version=2016-11-15&Filter.1.Name=tag%3Aa+b&Filter.1.Value.1=x%2A%C3%A9";
        let request = Received { method: "POST", path: "/", query: "", headers: &headers, body };
        let signer = verify(&request, None, now(), |_| Some(secret(Some("tok/en+=="))));
        assert_eq!(signer.unwrap().region, "eu-central-1");
    }

    /// Signs as the client does, lets `spoil` change what arrives, and checks as the server does.
    fn arrives(
        token: Option<&str>,
        spoil: impl FnOnce(&mut Vec<(String, String)>, &mut Vec<u8>),
    ) -> Result<Signer, SignatureRefusal> {
        let credentials = Credentials::new(KEY, "lab-secret", token.map(Into::into), None, "test");
        let mut body = b"Action=DescribeVpcs&Version=2016-11-15".to_vec();
        let own = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let signed = sign("http://127.0.0.1:8080/", &own, &body, "eu-central-1", &credentials, now()).unwrap();
        let mut headers = vec![("Host".to_owned(), "127.0.0.1:8080".to_owned())];
        headers.extend(own.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        headers.extend(signed.into_iter().map(|(n, v)| (n.to_owned(), v)));
        spoil(&mut headers, &mut body);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let request = Received { method: "POST", path: "/", query: "", headers: &headers, body: &body };
        verify(&request, Some("eu-central-1"), now() + Duration::from_secs(2), |key| {
            (key == KEY).then(|| secret(Some("session").filter(|_| token.is_some())))
        })
    }

    fn replace(headers: &mut [(String, String)], name: &str, from: &str, to: &str) {
        let (_, value) = headers.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)).unwrap();
        assert!(value.contains(from), "{value}");
        *value = value.replace(from, to);
    }

    #[test]
    fn what_the_client_signs_the_server_takes() {
        let signer = Signer { access_key: KEY.into(), region: "eu-central-1".into() };
        assert_eq!(arrives(None, |_, _| ()), Ok(signer.clone()));
        assert_eq!(arrives(Some("session"), |_, _| ()), Ok(signer));
    }

    #[test]
    fn anything_else_is_refused_by_its_name() {
        let code = |result: Result<Signer, SignatureRefusal>| result.unwrap_err().code();
        assert_eq!(code(arrives(None, |_, body| body.push(b'x'))), "AuthFailure");
        assert_eq!(code(arrives(None, |headers, _| replace(headers, "host", "8080", "8081"))), "AuthFailure");
        assert_eq!(code(arrives(None, |headers, _| replace(headers, "authorization", KEY, "AKIAX"))), "AuthFailure");
        assert_eq!(code(arrives(None, |headers, _| replace(headers, "authorization", "/ec2/", "/s3/"))), "AuthFailure");
        assert_eq!(
            code(arrives(None, |headers, _| replace(headers, "authorization", "Signature=", "Sig="))),
            "IncompleteSignature"
        );
        let drop = |name: &'static str| {
            move |headers: &mut Vec<(String, String)>, _: &mut Vec<u8>| {
                headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
            }
        };
        assert_eq!(code(arrives(None, drop("authorization"))), "MissingAuthenticationToken");
        assert_eq!(code(arrives(None, drop("x-amz-date"))), "IncompleteSignature");
        assert_eq!(code(arrives(Some("session"), drop("x-amz-security-token"))), "AuthFailure");
        assert_eq!(code(arrives(Some("other"), |_, _| ())), "AuthFailure");
    }

    /// Signs at [`now`], checks so much later or earlier.
    fn at(offset_s: i64, expired: bool) -> Result<Signer, SignatureRefusal> {
        let credentials = Credentials::new(KEY, "lab-secret", None, None, "test");
        let signed = sign("http://h/", &[], b"x", "eu-central-1", &credentials, now()).unwrap();
        let mut headers = vec![("host", "h")];
        headers.extend(signed.iter().map(|(name, value)| (*name, value.as_str())));
        let request = Received { method: "POST", path: "/", query: "", headers: &headers, body: b"x" };
        let offset = Duration::from_secs(offset_s.unsigned_abs());
        let then = if offset_s < 0 { now() - offset } else { now() + offset };
        verify(&request, None, then, |_| Some(Secret { expired, ..secret(None) }))
    }

    #[test]
    fn old_requests_fail_and_older_ones_have_expired() {
        let refused =
            |offset| at(offset, false).map_err(|refusal| (refusal.code(), refusal.status(), refusal.message()));
        assert!(refused(299).is_ok() && refused(-299).is_ok());
        let failure = "AWS was not able to validate the provided access credentials".to_owned();
        assert_eq!(refused(302), Err(("AuthFailure", 401, failure.clone())));
        assert_eq!(refused(-302), Err(("AuthFailure", 401, failure)));
        let expired = "Request has expired. Timestamp date is 20261121T070509Z".to_owned();
        assert_eq!(refused(902), Err(("RequestExpired", 400, expired.clone())));
        assert_eq!(refused(-902), Err(("RequestExpired", 400, expired)));
        let credentials = at(0, true).unwrap_err();
        assert_eq!((credentials.code(), credentials.message().as_str()), ("RequestExpired", "Request has expired."));
    }

    /// A request that botocore 1.44.5 presigned for 60 s with the lab's pair at [`now`].
    const PRESIGNED: &str = "Action=DescribeVpcs&Version=2016-11-15&Filter.1.Name=tag%3Aa%20b&Filter.1.Value.1=x%2A\
        &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIALABEXAMPLE00000A%2F20261121%2Feu-central-1%2Fec2%2Faws4_request\
        &X-Amz-Date=20261121T070509Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=89ff63b4a88160b8f87e103d623b9d0a1b785f56de0b7c14bc38bf5a5038df41";

    #[test]
    fn a_presigned_request_is_taken_until_it_is_over() {
        let check = |query: &str, later: u64| {
            let headers = [("host", "127.0.0.1:8080")];
            let request = Received { method: "GET", path: "/", query, headers: &headers, body: b"" };
            let then = now() + Duration::from_secs(later);
            verify(&request, Some("eu-central-1"), then, |key| (key == KEY).then(|| secret(None)))
        };
        assert_eq!(check(PRESIGNED, 60).unwrap().access_key, KEY);
        assert_eq!(check(PRESIGNED, 61).unwrap_err().code(), "RequestExpired");
        assert_eq!(check(&PRESIGNED.replace("DescribeVpcs", "DescribeTags"), 0), Err(SignatureRefusal::Mismatch));
        let endless = PRESIGNED.replace("X-Amz-Expires=60", "X-Amz-Expires=604801");
        assert_eq!(check(&endless, 0).unwrap_err().code(), "IncompleteSignature");
        assert!(is_signature_parameter("X-Amz-Date") && !is_signature_parameter("Action"));
    }

    #[test]
    fn queries_are_put_in_the_one_canonical_form() {
        assert_eq!(canonical_query("b=2&a=%7e1&a=%2F&c"), "a=%2F&a=~1&b=2&c=");
        assert_eq!(canonical_query("x=a+b&y=%zz"), "x=a%2Bb&y=%25zz");
    }

    #[test]
    fn stamps_are_read_strictly() {
        assert_eq!(parse_stamp("20261121T070509Z"), Some(now()));
        for bad in
            ["", "20261121T070509", "2026-11-21T07:05:09Z", "20261121 070509Z", "2026112éT07050Z", "+0261121T070509Z"]
        {
            assert_eq!(parse_stamp(bad), None, "{bad}");
        }
    }
}
