//! The least of a web client, and the least of a web server.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// `GET`, `PUT` …
    pub method: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// For the connection, and for each piece of the answer.
    pub timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { method: "GET".to_owned(), headers: Vec::new(), timeout: Duration::from_secs(2) }
    }
}

impl HttpOptions {
    /// Arguments of `vpc-lab tool` that mean the same.
    #[must_use]
    pub fn arguments(&self, url: &str) -> Vec<String> {
        let mut all = vec![
            "get".to_owned(),
            url.to_owned(),
            format!("--method={}", self.method),
            format!("--timeout-ms={}", self.timeout.as_millis()),
        ];
        all.extend(self.headers.iter().map(|(name, value)| format!("--header={name}: {value}")));
        all
    }
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpReply {
    /// Status; 0: there was no answer.
    pub status: u16,
    /// The body.
    pub body: String,
    /// Our own end of the connection.
    pub local: Option<SocketAddr>,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// Asks `http://host[:port]/path`.
#[must_use]
pub fn get(url: &str, options: &HttpOptions) -> HttpReply {
    let mut local = None;
    match ask(url, options, &mut local) {
        Ok((status, body)) => HttpReply { status, body, local, error: None },
        Err(e) => HttpReply { status: 0, body: String::new(), local, error: Some(e.to_string()) },
    }
}

fn ask(url: &str, options: &HttpOptions, local: &mut Option<SocketAddr>) -> io::Result<(u16, String)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("`{url}`: {what}"));
    let rest = url.strip_prefix("http://").ok_or_else(|| invalid("expected http://HOST[:PORT]/PATH"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let target = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = target.to_socket_addrs()?.next().ok_or_else(|| invalid("no address"))?;
    let stream = TcpStream::connect_timeout(&address, options.timeout)?;
    *local = stream.local_addr().ok();
    stream.set_read_timeout(Some(options.timeout))?;
    let mut head =
        format!("{} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n", options.method);
    for (name, value) in &options.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    (&stream).write_all((head + "\r\n").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let status =
        status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("not an answer: {line:?}")))?;
    let mut length = None;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse::<u64>().ok()
            }
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    reader.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Answers everybody on a port with the address he came from. Says `ready` on stdout when it listens.
///
/// # Errors
/// As `bind(2)`.
pub fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("ready");
    io::stdout().flush()?;
    for stream in listener.incoming().flatten() {
        answer(stream).ok();
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let from = stream.peer_addr()?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let body = format!("hello {}, you came from port {}\n", from.ip(), from.port());
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}
