//! The least of a DNS client: one question to one server, over UDP or TCP.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use serde::{Deserialize, Serialize};

/// The server and the port of DNS.
const PORT: u16 = 53;

/// What to ask, and whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    /// Whom.
    pub server: Ipv4Addr,
    /// Type of record (`A`, `AAAA`, `PTR`, `SOA` …).
    pub kind: String,
    /// Over TCP.
    pub tcp: bool,
    /// For the answer.
    pub timeout: Duration,
}

impl DnsOptions {
    /// An address is asked for over UDP.
    #[must_use]
    pub fn of(server: Ipv4Addr) -> Self {
        Self { server, kind: "A".to_owned(), tcp: false, timeout: Duration::from_secs(2) }
    }

    /// Arguments of `vpc-lab tool` that mean the same.
    #[must_use]
    pub fn arguments(&self, name: &str) -> Vec<String> {
        let mut all = vec![
            "dns".to_owned(),
            name.to_owned(),
            format!("--server={}", self.server),
            format!("--type={}", self.kind),
            format!("--timeout-ms={}", self.timeout.as_millis()),
        ];
        all.extend(self.tcp.then(|| "--tcp".to_owned()));
        all
    }
}

/// What came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsReply {
    /// Response code (`NoError`, `NXDomain` …); empty: there was no answer.
    pub code: String,
    /// The answer did not fit: ask over TCP.
    pub truncated: bool,
    /// Data of the records, as text.
    pub answers: Vec<String>,
    /// Whose start of authority came along, where there was nothing else to say.
    pub authority: Option<String>,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// Asks for the records of a name.
#[must_use]
pub fn lookup(name: &str, options: &DnsOptions) -> DnsReply {
    match ask(name, options) {
        Ok(reply) => reply,
        Err(e) => DnsReply { error: Some(e.to_string()), ..DnsReply::default() },
    }
}

fn ask(name: &str, options: &DnsOptions) -> io::Result<DnsReply> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let kind: RecordType = options.kind.parse().map_err(|e| invalid(format!("type `{}`: {e}", options.kind)))?;
    let mut name = Name::from_ascii(name).map_err(|e| invalid(format!("`{name}`: {e}")))?;
    name.set_fqdn(true);
    let id = std::process::id() as u16;
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, kind));
    let question = question.to_vec().map_err(io::Error::other)?;
    let bytes = if options.tcp { over_tcp(&question, options)? } else { over_udp(&question, options)? };
    let answer = Message::from_vec(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
    if answer.metadata.id != id {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"));
    }
    let soa = answer.authorities.iter().find(|record| record.record_type() == RecordType::SOA);
    Ok(DnsReply {
        code: format!("{:?}", answer.metadata.response_code),
        truncated: answer.metadata.truncation,
        answers: answer.answers.iter().map(|record| record.data.to_string()).collect(),
        authority: soa.map(|record| record.name.to_ascii()),
        error: None,
    })
}

fn over_udp(question: &[u8], options: &DnsOptions) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(options.timeout))?;
    socket.connect((options.server, PORT))?;
    socket.send(question)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn over_tcp(question: &[u8], options: &DnsOptions) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((options.server, PORT)), options.timeout)?;
    stream.set_read_timeout(Some(options.timeout))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
