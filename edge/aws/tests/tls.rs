//! The EC2 client over TLS, with a bundle of one's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use vpc_aws::Ec2Settings;
use vpc_aws::ec2::shapes::{DescribeVpcs, DescribeVpcsResponse, answer_to_xml};
use vpc_aws::ec2::{Client, ClientError, Credentials, ErrorClass, Outcome, SharedCredentialsProvider};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A server that answers every request with no VPCs; its URL.
async fn server() -> String {
    let chain = vec![CertificateDer::from_pem_file(data("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(data("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let body = answer_to_xml::<DescribeVpcs>("r", &DescribeVpcsResponse::default());
            let mut request = [0; 8192];
            let _ = stream.read(&mut request).await;
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

fn client(url: String, bundle: &str) -> Result<Client, ClientError> {
    let settings =
        Ec2Settings { endpoint: Some(url), ca_bundle: Some(data(bundle)), max_attempts: 1, ..Ec2Settings::default() };
    let credentials = Credentials::new("AKIALABEXAMPLE00000A", "lab-secret", None, None, "test");
    Client::builder(settings, "eu-central-1", SharedCredentialsProvider::new(credentials)).build()
}

#[tokio::test]
async fn the_bundle_decides_whom_to_trust() {
    let url = server().await;
    client(url.clone(), "ca.pem").unwrap().call(&DescribeVpcs::default()).await.unwrap();

    // A stranger's certificate: nothing is sent, and the error says why.
    let error = client(url, "stranger.pem").unwrap().call(&DescribeVpcs::default()).await.unwrap_err();
    assert_eq!((&error.class, error.outcome), (&ErrorClass::Transport, Outcome::NotDone), "{error}");
    assert!(error.message.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_bundle_without_certificates_makes_no_client() {
    let error = client("https://localhost:1".into(), "README.md").unwrap_err();
    assert!(matches!(error, ClientError::CaBundle(_)), "{error}");
}
