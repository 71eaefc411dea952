//! The API on the wire, by hand: TLS with the cluster's CA, HTTP/1.1, and what clients decide by.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use lab_kube::{
    ClusterCa, Denial, EventKind, KubeCallFilter, KubeError, KubeHandle, KubeSettings, PolicyRule, Resource, Selection,
    Server, User, WatchFrom, serve_kube,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A limit that no machine is too slow for.
const PATIENCE: Duration = Duration::from_secs(60);

struct Api {
    handle: KubeHandle,
    server: Server,
    tls: TlsConnector,
    token: String,
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Api {
    fn start() -> Self {
        let settings = KubeSettings { bookmark_every: Duration::from_millis(50), ..KubeSettings::default() };
        let handle = KubeHandle::start(settings).unwrap();
        let ca = ClusterCa::new().unwrap();
        let tls = ca.serving(&["api.lab"], &["127.0.0.1".parse().unwrap()]).unwrap();
        let server = serve_kube(handle.clone(), TcpListener::bind("127.0.0.1:0").unwrap(), tls).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let token = handle.user_token(&User::admin());
        Self { handle, server, tls: TlsConnector::from(Arc::new(config)), token }
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    async fn connect(&self, name: &'static str) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address()).await?;
        self.tls.connect(ServerName::try_from(name).unwrap(), stream).await
    }

    /// Sends a request whose answer ends the connection; `headers` end with a line each.
    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TlsStream<TcpStream> {
        let mut stream = self.connect("127.0.0.1").await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut text = String::new();
        let mut stream = self.send(method, path, headers, body).await;
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_lowercase(),
            body: serde_json::from_str(body).unwrap_or_else(|_| json!(body)),
        }
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }
}

#[tokio::test]
async fn who_has_no_token_gets_no_further_than_the_health() {
    let api = Api::start();
    assert_eq!(api.ask("GET", "/readyz", "", "").await.body, json!("ok"));
    assert_eq!(api.ask("GET", "/version", "", "").await.body["gitVersion"], "v1.34.4");
    for header in ["", "Authorization: Bearer x.y.z\r\n", "Authorization: Basic x\r\n"] {
        let refused = api.ask("GET", "/api/v1/nodes", header, "").await;
        assert_eq!((refused.status, &refused.body["reason"]), (401, &json!("Unauthorized")));
        assert_eq!((&refused.body["kind"], &refused.body["code"]), (&json!("Status"), &json!(401)));
    }
    // A token lives as long as its account.
    let token = api.handle.token("default", "default").unwrap();
    let header = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(api.ask("GET", "/api/v1/nodes", &header, "").await.status, 200);
    api.handle.delete(&Resource::SERVICE_ACCOUNTS, "default", "default", &lab_kube::DeleteOptions::default()).unwrap();
    assert_eq!(api.ask("GET", "/api/v1/nodes", &header, "").await.status, 401);

    let calls = api.handle.calls(&KubeCallFilter { resource: Some("nodes".into()), ..KubeCallFilter::default() });
    let users: Vec<Option<&str>> = calls.iter().map(|call| call.user.as_deref()).collect();
    assert_eq!(users, [None, None, None, Some("system:serviceaccount:default:default"), None]);
}

#[tokio::test]
async fn the_certificate_is_for_the_names_it_was_made_for() {
    let api = Api::start();
    for name in ["127.0.0.1", "api.lab", "kubernetes.default.svc"] {
        assert!(api.connect(name).await.is_ok(), "{name}");
    }
    assert!(api.connect("elsewhere.lab").await.is_err());
}

#[tokio::test]
async fn media_types_are_honest() {
    let api = Api::start();
    let with = |header: &str| format!("{}{header}\r\n", api.bearer());
    let protobuf = api.ask("GET", "/api/v1/nodes", &with("Accept: application/vnd.kubernetes.protobuf"), "").await;
    assert_eq!((protobuf.status, &protobuf.body["reason"]), (406, &json!("NotAcceptable")));
    let either = "Accept: application/vnd.kubernetes.protobuf, application/json";
    let either = api.ask("GET", "/api/v1/nodes", &with(either), "").await;
    assert!(either.status == 200 && either.head.contains("content-type: application/json"), "{}", either.head);
    let yaml = api.ask("POST", "/api/v1/nodes", &with("Content-Type: application/yaml"), "metadata: {name: a}").await;
    assert_eq!((yaml.status, &yaml.body["reason"]), (415, &json!("UnsupportedMediaType")));
    let apply = with("Content-Type: application/apply-patch+yaml");
    api.handle.create(&Resource::NODES, "", json!({"metadata": {"name": "a"}})).unwrap();
    assert_eq!(api.ask("PATCH", "/api/v1/nodes/a?fieldManager=x", &apply, "{}").await.status, 415);
    let long = "x".repeat((3 << 20) + 1);
    assert_eq!(api.ask("POST", "/api/v1/nodes", &api.bearer(), &long).await.status, 413);
    assert_eq!(api.ask("GET", "/api/v1/unicorns", &api.bearer(), "").await.status, 404);
    assert_eq!(api.ask("PUT", "/api/v1/nodes", &api.bearer(), "{}").await.status, 405);
    assert_eq!(api.ask("DELETE", "/api/v1/nodes/a?dryRun=All", &api.bearer(), "").await.body["status"], "Success");
    assert!(api.handle.get(&Resource::NODES, "", "a").is_ok(), "a rehearsal changes nothing");
}

#[tokio::test]
async fn a_watch_is_cut_when_the_server_goes_away() {
    let api = Api::start();
    let mut stream =
        BufReader::new(api.send("GET", "/api/v1/nodes?watch=1&allowWatchBookmarks=1", &api.bearer(), "").await);
    let mut text = String::new();
    while !text.contains("BOOKMARK") {
        text.clear();
        let read = tokio::time::timeout(PATIENCE, stream.read_line(&mut text)).await.unwrap().unwrap();
        assert_ne!(read, 0, "the watch has ended");
    }
    api.handle.set_away(true);
    let mut rest = Vec::new();
    // The end may come with or without the farewell of TLS.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the watch goes on");
    let refused = async {
        while TcpStream::connect(api.address()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    for _ in 0..3 {
        api.handle.set_away(false);
        let taken = async {
            while api.connect("127.0.0.1").await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.expect("it listens where it listened before");
        api.handle.set_away(true);
    }
}

#[tokio::test]
async fn switches_refuse_single_verbs_and_all_but_some() {
    let api = Api::start();
    let token = api.handle.token("kube-system", "default").unwrap();
    let header = format!("Authorization: Bearer {token}\r\n");
    let user = "system:serviceaccount:kube-system:default";
    let denial = Denial::new("list", "pods").to(user);
    api.handle.deny(denial.clone());
    let refused = api.ask("GET", "/api/v1/namespaces/default/pods", &header, "").await;
    let words = format!(
        "pods is forbidden: User \"{user}\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!((refused.status, &refused.body["message"]), (403, &json!(words)));
    assert_eq!(api.ask("GET", "/api/v1/pods?watch=1&timeoutSeconds=1", &header, "").await.status, 200);
    assert_eq!(api.ask("GET", "/api/v1/pods", &api.bearer(), "").await.status, 200);
    assert!(api.handle.allow(&denial));
    assert_eq!(api.ask("GET", "/api/v1/pods", &header, "").await.status, 200);

    let nodes = PolicyRule {
        api_groups: vec![String::new()],
        resources: vec!["nodes".into()],
        verbs: vec!["get".into(), "list".into()],
    };
    api.handle.restrict(user, Some(vec![nodes]));
    assert_eq!(api.ask("GET", "/api/v1/nodes", &header, "").await.status, 200);
    assert_eq!(api.ask("GET", "/api/v1/pods", &header, "").await.status, 403);
}

#[tokio::test]
async fn a_watch_from_within_sees_what_its_selection_lets_through() {
    let api = Api::start();
    let node = |name: &str| json!({"metadata": {"name": name, "labels": {"on": "true"}}});
    api.handle.create(&Resource::NODES, "", node("a")).unwrap();
    let on = Selection::default().labels("on=true").unwrap();
    let mut watch = api.handle.watch(&Resource::NODES, on, WatchFrom::StateThenBookmark).unwrap();
    let mut seen = Vec::new();
    api.handle.create(&Resource::NODES, "", node("b")).unwrap();
    let off = lab_kube::Patch::Merge(json!({"metadata": {"labels": {"on": "false"}}}));
    api.handle.patch(&Resource::NODES, "", "a", &off, lab_kube::Part::Whole).unwrap();
    for _ in 0..4 {
        let event = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        seen.push((event.kind, lab_kube::object::name(&event.object).to_owned()));
    }
    let expected =
        [(EventKind::Added, "a"), (EventKind::Bookmark, ""), (EventKind::Added, "b"), (EventKind::Deleted, "a")];
    assert_eq!(seen, expected.map(|(kind, name)| (kind, name.to_owned())));

    // Who lags behind an expiry is told so.
    api.handle.create(&Resource::NODES, "", node("c")).unwrap();
    api.handle.expire_versions();
    assert!(matches!(watch.next().await, Err(KubeError::Expired { .. })));
}
