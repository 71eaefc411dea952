//! A cloud on loopback, and a client that speaks plain HTTP.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use lab_cloud::{Profile, Setup, WorldSpec};
use lab_serve::{CloudHandle, Server, serve_ec2, serve_imds};
use lab_serve::{Delivery, ImdsCallers, ImdsOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use vpc_aws::ec2::{Client, Credentials, SharedCredentialsProvider, signature};
use vpc_aws::{Ec2Settings, ImdsSettings};

pub(crate) fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

pub(crate) fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

/// EC2 and IMDS (as `node-1` sees it) of the default world.
pub(crate) struct Served {
    pub(crate) cloud: CloudHandle,
    pub(crate) ec2: Server,
    pub(crate) imds: Server,
}

/// Served to a fabric that makes every change at once.
pub(crate) fn serve(spec: WorldSpec, profile: Profile) -> Served {
    let (served, mut deliveries) = serve_with_fabric(spec, profile);
    tokio::spawn(async move {
        while let Some(delivery) = deliveries.recv().await {
            delivery.done();
        }
    });
    served
}

/// Served to a fabric of the caller's own.
pub(crate) fn serve_with_fabric(spec: WorldSpec, profile: Profile) -> (Served, Receiver<Delivery>) {
    serve_setup(spec, Setup { profile, ..Setup::default() })
}

/// Served with a setup of the caller's own.
pub(crate) fn serve_setup(spec: WorldSpec, setup: Setup) -> (Served, Receiver<Delivery>) {
    let (cloud, deliveries) = lab_serve::start(spec, setup).unwrap();
    let ec2 = serve_ec2(cloud.clone(), listener()).unwrap();
    let callers = ImdsCallers::Fixed(lab_cloud::id_for("node-1"));
    let imds = serve_imds(cloud.clone(), listener(), ImdsOptions { callers, routers_between: 0 }).unwrap();
    (Served { cloud, ec2, imds }, deliveries)
}

pub(crate) fn default_world() -> Served {
    serve(WorldSpec::default_topology(), Profile::instant())
}

/// An EC2 client with some pair of keys.
pub(crate) fn client(endpoint: &str, access_key: &str, secret_key: &str) -> Client {
    let credentials = Credentials::new(access_key, secret_key, None, None, "test");
    client_with(endpoint, SharedCredentialsProvider::new(credentials))
}

pub(crate) fn client_with(endpoint: &str, credentials: SharedCredentialsProvider) -> Client {
    let settings = Ec2Settings { endpoint: Some(endpoint.to_owned()), ..Ec2Settings::default() };
    Client::builder(settings, "us-west-2", credentials).build().unwrap()
}

pub(crate) fn imds_settings(endpoint: &str) -> ImdsSettings {
    ImdsSettings { endpoint: endpoint.to_owned(), ..ImdsSettings::default() }
}

/// What came back: status, headers in lower case, body.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One connection.
pub(crate) struct Plain(pub(crate) TcpStream);

impl Plain {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Sends a request; `None` if no answer comes within a second.
    pub(crate) async fn ask(&mut self, line: &str, headers: &[(&str, &str)], body: &str) -> Option<Got> {
        self.ask_as("lab", line, headers, body).await
    }

    /// The same with another name of the host.
    pub(crate) async fn ask_as(&mut self, host: &str, line: &str, headers: &[(&str, &str)], body: &str) -> Option<Got> {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request =
            format!("{line} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len());
        self.0.write_all(request.as_bytes()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(1), self.read()).await.ok()
    }

    async fn read(&mut self) -> Got {
        self.read_or_end().await.expect("an answer before the server hangs up")
    }

    /// An answer; `None`: the server closes the connection without a single byte.
    pub(crate) async fn read_or_end(&mut self) -> Option<Got> {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length: usize = header(&head, "content-length").unwrap_or_default().parse().unwrap_or(0);
                if body.len() >= length {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return Some(Got { status, head, body: body.to_owned() });
                }
            }
            if self.0.read_buf(&mut bytes).await.unwrap() == 0 {
                assert_eq!(text, "", "the server hung up in the middle");
                return None;
            }
        }
    }
}

pub(crate) fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
}

/// Signs a form with the account's key as a client would and sends it once; `None`: the connection is closed instead.
pub(crate) async fn post_signed(ec2: &Server, form: &str) -> Option<Got> {
    let credentials = Credentials::new(lab_cloud::ACCESS_KEY, lab_cloud::SECRET_KEY, None, None, "test");
    post_signed_by(ec2, form, &credentials).await
}

/// The same with other credentials.
pub(crate) async fn post_signed_by(ec2: &Server, form: &str, credentials: &Credentials) -> Option<Got> {
    let now = std::time::SystemTime::now();
    let target = format!("{}/", url(ec2));
    let headers = signature::sign(&target, &[], form.as_bytes(), "us-west-2", credentials, now).unwrap();
    let mut plain = Plain::connect(ec2.address()).await;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (host, length) = (ec2.address(), form.len());
    let request = format!("POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n{headers}\r\n{form}");
    plain.0.write_all(request.as_bytes()).await.unwrap();
    plain.read_or_end().await
}
