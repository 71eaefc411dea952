//! Two stubs of a server with one script: one in memory, for tests with a paused clock, and one behind a TCP port.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Arrived {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Answers only after a while.
    Late(Duration, Box<Step>),
    /// Never answers.
    Hang,
    /// Closes the connection instead of answering.
    Drop,
    /// Closes the connection in the middle of the body.
    Cut,
}

impl Step {
    pub(crate) fn answer(status: u16, body: impl Into<String>) -> Self {
        Self::Answer { status, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Answer { status, mut headers, body } => {
                headers.push((name, value.into()));
                Self::Answer { status, headers, body }
            }
            other => other,
        }
    }
}

type Handler = Arc<dyn Fn(&Arrived) -> Step + Send + Sync>;

/// A server and what it has received.
#[derive(Clone)]
pub(crate) struct Stub {
    handler: Handler,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl fmt::Debug for Stub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stub")
    }
}

impl Stub {
    pub(crate) fn new(handler: impl Fn(&Arrived) -> Step + Send + Sync + 'static) -> Self {
        Self { handler: Arc::new(handler), arrived: Arc::default() }
    }

    /// Gives the steps one after another; the last one for ever.
    pub(crate) fn script(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: Mutex<Vec<Step>> = Mutex::new(steps.into_iter().collect::<Vec<_>>().into_iter().rev().collect());
        Self::new(move |_| {
            let mut steps = steps.lock().unwrap();
            if steps.len() > 1 { steps.pop().unwrap() } else { steps[0].clone() }
        })
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, what: impl Fn(&Arrived) -> bool) -> usize {
        self.arrived().iter().filter(|request| what(request)).count()
    }

    fn take(&self, request: Arrived) -> Step {
        let step = (self.handler)(&request);
        self.arrived.lock().unwrap().push(request);
        step
    }

    /// The stub as a transport.
    pub(crate) fn transport(&self) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }

    /// The stub behind a port of this machine; its URL.
    pub(crate) async fn listen(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stub = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(stub.clone().serve(stream));
            }
        });
        url
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Some(request) = read_request(&mut stream).await {
            let mut step = self.take(request);
            while let Step::Late(wait, then) = step {
                tokio::time::sleep(wait).await;
                step = *then;
            }
            match step {
                Step::Answer { status, headers, body } => {
                    let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
                    for (name, value) in headers {
                        text += &format!("{name}: {value}\r\n");
                    }
                    text += "\r\n";
                    text += &body;
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Step::Cut => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n<half").await;
                    return;
                }
                Step::Hang => std::future::pending().await,
                Step::Drop | Step::Late(..) => return,
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Arrived> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let (method, path) = (first.next()?, first.next()?);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Arrived { method, path, headers, body: String::from_utf8(bytes[end..end + length].to_vec()).unwrap() })
}

impl HttpConnector for Stub {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri: http::Uri = request.uri().parse().unwrap();
        // HTTP adds this one by itself.
        let host = ("host".to_owned(), uri.authority().map(ToString::to_string).unwrap_or_default());
        let headers = request.headers().iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
        let arrived = Arrived {
            method: request.method().to_owned(),
            path: uri.path().to_owned(),
            headers: headers.chain([host]).collect(),
            body: String::from_utf8(request.body().bytes().unwrap_or_default().to_vec()).unwrap(),
        };
        let mut step = self.take(arrived);
        HttpConnectorFuture::new(async move {
            while let Step::Late(wait, then) = step {
                tokio::time::sleep(wait).await;
                step = *then;
            }
            match step {
                Step::Answer { status, headers, body } => {
                    let mut response = http::Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(name, value);
                    }
                    Ok(HttpResponse::try_from(response.body(SdkBody::from(body)).unwrap()).unwrap())
                }
                Step::Hang => std::future::pending().await,
                Step::Drop | Step::Cut | Step::Late(..) => Err(ConnectorError::io("the connection was reset".into())),
            }
        })
    }
}
