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

/// How far a request's time may lie from the server's, either way. EC2 refuses older requests with `RequestExpired`.
pub const MAX_SKEW: Duration = Duration::from_mins(5);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

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
    #[error("Request is missing Authentication Token")]
    Missing,
    /// A signature that cannot be read.
    #[error("The request signature does not conform to AWS standards: {0}")]
    Incomplete(String),
    /// Nobody has this access key.
    #[error("AWS was not able to validate the provided access credentials")]
    UnknownKey {
        /// The access key id given.
        access_key: String,
    },
    /// The session token is absent or is not that of the access key.
    #[error("The security token included in the request is invalid")]
    WrongToken {
        /// The access key id given.
        access_key: String,
    },
    /// The request's time is too far from the server's.
    #[error("Request has expired: it is {} s {} the server's time", .off.as_secs(), if *.early { "ahead of" } else { "behind" })]
    Expired {
        /// How far.
        off: Duration,
        /// Whether it lies in the future.
        early: bool,
    },
    /// A signature for another region or service.
    #[error("Credential should be scoped to {expected}, not `{given}`")]
    WrongScope {
        /// What was given.
        given: String,
        /// What is accepted.
        expected: String,
    },
    /// Secret, or any covered part of the request, is another one.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method."
    )]
    Mismatch,
}

impl SignatureRefusal {
    /// EC2's error code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationToken",
            Self::Incomplete(_) => "IncompleteSignature",
            Self::UnknownKey { .. } => "AuthFailure",
            Self::WrongToken { .. } => "InvalidClientTokenId",
            Self::Expired { .. } => "RequestExpired",
            Self::WrongScope { .. } | Self::Mismatch => "SignatureDoesNotMatch",
        }
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Incomplete(_) | Self::Expired { .. } => 400,
            Self::UnknownKey { .. } => 401,
            Self::Missing | Self::WrongToken { .. } | Self::WrongScope { .. } | Self::Mismatch => 403,
        }
    }
}

/// Checks a request's signature. `secret_of` finds the secret of an access key; `region` is the one served, `None` takes
/// any.
///
/// # Errors
/// Why the request is not taken as signed.
pub fn verify(
    request: &Received<'_>,
    region: Option<&str>,
    now: SystemTime,
    secret_of: impl FnOnce(&str) -> Option<Secret>,
) -> Result<Signer, SignatureRefusal> {
    let header = request.header("authorization").ok_or(SignatureRefusal::Missing)?;
    let claim = Claim::parse(&header)?;
    let unknown = || SignatureRefusal::UnknownKey { access_key: claim.access_key.to_owned() };
    let secret = secret_of(claim.access_key).ok_or_else(unknown)?;
    if secret.session_token != request.header("x-amz-security-token") {
        return Err(SignatureRefusal::WrongToken { access_key: claim.access_key.to_owned() });
    }
    if claim.service != SERVICE || region.is_some_and(|region| region != claim.region) {
        let expected = format!("{}/{SERVICE}", region.unwrap_or("any region"));
        return Err(SignatureRefusal::WrongScope { given: format!("{}/{}", claim.region, claim.service), expected });
    }
    let stamp = request.header("x-amz-date").ok_or_else(|| incomplete("there is no x-amz-date header"))?;
    let time = parse_stamp(&stamp).ok_or_else(|| incomplete(format!("x-amz-date is `{stamp}`")))?;
    check_age(time, now)?;
    if !stamp.starts_with(claim.date) {
        return Err(incomplete(format!("the credential is of {}, the request of {stamp}", claim.date)));
    }
    let canonical = canonical_request(request, &claim)?;
    let scope = format!("{}/{}/{}/aws4_request", claim.date, claim.region, claim.service);
    let to_sign = format!("{ALGORITHM}\n{stamp}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let key = v4::generate_signing_key(&secret.secret_key, time, claim.region, claim.service);
    if v4::calculate_signature(key, to_sign.as_bytes()) != claim.signature {
        return Err(SignatureRefusal::Mismatch);
    }
    Ok(Signer { access_key: claim.access_key.to_owned(), region: claim.region.to_owned() })
}

fn incomplete(what: impl Into<String>) -> SignatureRefusal {
    SignatureRefusal::Incomplete(what.into())
}

/// What the `authorization` header says.
struct Claim<'a> {
    access_key: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    fn parse(header: &'a str) -> Result<Self, SignatureRefusal> {
        let fields = header.strip_prefix(ALGORITHM).ok_or_else(|| incomplete(format!("expected {ALGORITHM}")))?;
        let field = |name: &str| {
            fields
                .split(',')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| incomplete(format!("the authorization header has no {name}")))
        };
        let credential = field("Credential")?;
        let parts: Vec<&str> = credential.split('/').collect();
        let [access_key, date, region, service, "aws4_request"] = parts[..] else {
            return Err(incomplete(format!(
                "the credential is `{credential}`, expected key/date/region/service/aws4_request"
            )));
        };
        let signed_headers: Vec<&str> = field("SignedHeaders")?.split(';').collect();
        if !signed_headers.contains(&"host") {
            return Err(incomplete("the host header must be signed"));
        }
        Ok(Self { access_key, date, region, service, signed_headers, signature: field("Signature")? })
    }
}

fn canonical_request(request: &Received<'_>, claim: &Claim<'_>) -> Result<String, SignatureRefusal> {
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

/// Names and values decoded, encoded in the one canonical way, sorted.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", encode(&percent_decode(name), false), encode(&percent_decode(value), false))
        })
        .collect();
    pairs.sort();
    pairs.join("&")
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

fn check_age(time: SystemTime, now: SystemTime) -> Result<(), SignatureRefusal> {
    let (off, early) = match now.duration_since(time) {
        Ok(late) => (late, false),
        Err(early) => (early.duration(), true),
    };
    if off > MAX_SKEW { Err(SignatureRefusal::Expired { off, early }) } else { Ok(()) }
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
        Secret { secret_key: "lab-secret".into(), session_token: token.map(Into::into) }
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
            access_key: "AKIDEXAMPLE",
            date: "20150830",
            region: "us-east-1",
            service: "iam",
            signed_headers: vec!["content-type", "host", "x-amz-date"],
            signature: "",
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
        assert_eq!(code(arrives(None, |_, body| body.push(b'x'))), "SignatureDoesNotMatch");
        assert_eq!(code(arrives(None, |headers, _| replace(headers, "host", "8080", "8081"))), "SignatureDoesNotMatch");
        assert_eq!(code(arrives(None, |headers, _| replace(headers, "authorization", KEY, "AKIAX"))), "AuthFailure");
        assert_eq!(
            code(arrives(None, |headers, _| replace(headers, "authorization", "/ec2/", "/s3/"))),
            "SignatureDoesNotMatch"
        );
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
        assert_eq!(code(arrives(Some("session"), drop("x-amz-security-token"))), "InvalidClientTokenId");
        assert_eq!(code(arrives(Some("other"), |_, _| ())), "InvalidClientTokenId");
        let late = arrives(None, |headers, _| replace(headers, "x-amz-date", "0705", "0655")).unwrap_err();
        assert_eq!(late, SignatureRefusal::Expired { off: Duration::from_secs(602), early: false });
        assert_eq!(late.code(), "RequestExpired");
        let early = arrives(None, |headers, _| replace(headers, "x-amz-date", "0705", "0715")).unwrap_err();
        assert!(matches!(early, SignatureRefusal::Expired { early: true, .. }));
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
