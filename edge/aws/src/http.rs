//! The HTTP both clients stand on: one pooled connector for plain HTTP, and one for TLS that is made when first needed, so
//! that a node whose endpoints are plain (the lab, or IMDS alone) never reads a certificate.
//!
//! What matters to the callers is told apart here: a request that was never sent, and one whose answer was lost.

use std::error::Error;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, Limited};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Idle connections are closed after this long: before EC2's front ends do, so that a request is not lost on a connection
/// that is just being closed.
const IDLE: Duration = Duration::from_secs(15);

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection: nothing was sent.
    NotSent(String),
    /// Nothing came back in time; it may have been done.
    TimedOut,
    /// The connection broke; it may have been done.
    Lost(String),
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A file of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaBundleError {
    /// It cannot be read.
    #[error("AWS_CA_BUNDLE: cannot read {}: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It holds no certificate, or a damaged one.
    #[error("AWS_CA_BUNDLE: {} {what}; expected X.509 certificates in PEM form", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Reads and checks a bundle: the TLS layer below takes only good ones.
pub(crate) fn read_ca_bundle(path: &Path) -> Result<Vec<u8>, CaBundleError> {
    let pem = std::fs::read(path).map_err(|error| CaBundleError::Unreadable { path: path.to_owned(), error })?;
    let unusable = |what: String| CaBundleError::Unusable { path: path.to_owned(), what };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| unusable(format!("is damaged: {e}")))?;
        roots.add(certificate).map_err(|e| unusable(format!("holds a certificate that cannot be read: {e}")))?;
    }
    if roots.is_empty() { Err(unusable("holds no certificate".into())) } else { Ok(pem) }
}

/// Connects by the scheme of each request.
#[derive(Debug)]
pub(crate) struct Connectors {
    connect_timeout: Duration,
    proxies: bool,
    ca_bundle: Option<Vec<u8>>,
    plain: SharedHttpConnector,
    /// For neighbours: this machine and link-local addresses (IMDS, the container's credentials) never lie behind a proxy.
    direct: SharedHttpConnector,
    secure: OnceLock<Result<SharedHttpConnector, String>>,
}

impl Connectors {
    /// `proxies`: honour `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` of the environment. `ca_bundle`: PEM that replaces the
    /// system's root certificates; it must have passed [`read_ca_bundle`].
    pub(crate) fn new(connect_timeout: Duration, proxies: bool, ca_bundle: Option<Vec<u8>>) -> Self {
        let direct = SharedHttpConnector::new(build(connect_timeout, false, TrustStore::empty()));
        let plain = match proxies {
            true => SharedHttpConnector::new(build(connect_timeout, true, TrustStore::empty())),
            false => direct.clone(),
        };
        Self { connect_timeout, proxies, ca_bundle, plain, direct, secure: OnceLock::new() }
    }

    fn secure(&self) -> Result<&SharedHttpConnector, &str> {
        let connector = self.secure.get_or_init(|| {
            let trust = match &self.ca_bundle {
                Some(pem) => TrustStore::empty().with_pem_certificate(pem.clone()),
                None if rustls_native_certs::load_native_certs().certs.is_empty() => {
                    return Err(
                        "this system has no root certificates: install ca-certificates or set AWS_CA_BUNDLE".into()
                    );
                }
                None => TrustStore::default(),
            };
            Ok(SharedHttpConnector::new(build(self.connect_timeout, self.proxies, trust)))
        });
        connector.as_ref().map_err(String::as_str)
    }
}

fn build(connect_timeout: Duration, proxies: bool, trust: TrustStore) -> Connector {
    let builder: ConnectorBuilder<_> = Connector::builder()
        .connector_settings(HttpConnectorSettings::builder().connect_timeout(connect_timeout).build())
        .proxy_config(if proxies { ProxyConfig::from_env() } else { ProxyConfig::disabled() })
        .pool_idle_timeout(IDLE)
        .tls_provider(Provider::Rustls(CryptoMode::Ring));
    match TlsContext::builder().with_trust_store(trust).build() {
        Ok(context) => builder.tls_context(context).build(),
        // The builder has no failing path today; the system's certificates are then used.
        Err(_) => builder.build(),
    }
}

impl HttpConnector for Connectors {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri: http::Uri = match request.uri().parse() {
            Ok(uri) => uri,
            Err(e) => return HttpConnectorFuture::ready(Err(ConnectorError::user(Box::new(e)))),
        };
        if uri.scheme_str() != Some("https") {
            return if is_near(&uri) { self.direct.call(request) } else { self.plain.call(request) };
        }
        match self.secure() {
            Ok(connector) => connector.call(request),
            Err(why) => HttpConnectorFuture::ready(Err(ConnectorError::user(why.into()))),
        }
    }
}

fn is_near(uri: &http::Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        // fd00:ec2::/32 is where EC2's own services answer.
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.segments()[..2] == [0xfd00, 0xec2],
        Err(_) => host == "localhost",
    }
}

/// The same connectors for AWS's own credential providers.
#[derive(Clone, Debug)]
pub(crate) struct CredentialsHttp(pub(crate) SharedHttpConnector);

impl HttpClient for CredentialsHttp {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.0.clone()
    }
}

/// Sends a request and reads the whole answer, within `timeout`, up to `limit` bytes.
pub(crate) async fn send(
    connector: &SharedHttpConnector,
    request: http::Request<SdkBody>,
    timeout: Duration,
    limit: usize,
) -> Result<Reply, Failure> {
    let request = HttpRequest::try_from(request).map_err(|e| Failure::NotSent(e.to_string()))?;
    let exchange = async {
        let response = connector.call(request).await.map_err(failure)?;
        let status = response.status().as_u16();
        let headers = response.headers().iter().map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
        let body = Limited::new(response.into_body(), limit).collect().await.map_err(|e| Failure::Lost(chain(&*e)))?;
        Ok(Reply { status, headers, body: body.to_bytes().into() })
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(Failure::TimedOut))
}

fn failure(error: ConnectorError) -> Failure {
    if error.is_user() || never_connected(&error) {
        Failure::NotSent(chain(&error))
    } else if error.is_timeout() {
        Failure::TimedOut
    } else {
        Failure::Lost(chain(&error))
    }
}

/// Whether the failure happened while connecting, so that no byte of the request has left.
fn never_connected(error: &ConnectorError) -> bool {
    causes(error)
        .any(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect()))
}

/// All messages of a chain of causes, without what each repeats of the next.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut out = String::new();
    for cause in causes(error) {
        let text = cause.to_string();
        if !out.ends_with(&text) {
            let separator = if out.is_empty() { "" } else { ": " };
            out = format!("{out}{separator}{text}");
        }
    }
    out
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_or_refused_by_its_fault() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = include_str!("../tests/data/ca.pem");
        assert_eq!(read_ca_bundle(&file("good", good)).unwrap(), good.as_bytes());
        let head = "-----BEGIN CERTIFICATE-----\n";
        for (name, text, word) in [
            ("none", "hello", "no certificate"),
            ("cut", &good[..200], "damaged"),
            ("rubbish", &format!("{head}AAAA\n-----END CERTIFICATE-----\n"), "cannot be read"),
        ] {
            let error = read_ca_bundle(&file(name, text)).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains(name) && error.contains("AWS_CA_BUNDLE"), "{error}");
        }
        assert!(matches!(read_ca_bundle(&folder.path().join("gone")), Err(CaBundleError::Unreadable { .. })));
    }

    #[test]
    fn neighbours_are_never_behind_a_proxy() {
        let near = |url: &str| is_near(&url.parse().unwrap());
        for url in [
            "http://127.0.0.1:80/",
            "http://localhost",
            "http://169.254.169.254/x",
            "http://[fd00:ec2::254]/",
            "http://[::1]",
        ] {
            assert!(near(url), "{url}");
        }
        for url in ["http://10.20.0.1/", "http://ec2.eu-central-1.amazonaws.com", "http://[fd00::1]/"] {
            assert!(!near(url), "{url}");
        }
    }
}
