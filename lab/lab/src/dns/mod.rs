//! The VPC's resolver: at the base of the primary CIDR plus two, and at 169.254.169.253; over UDP and TCP, for nodes and pods.
//!
//! ```text
//!   node, pod --port 53--> router --> serve_udp / serve_tcp --bytes--> message: question -> names: what does it mean now?
//!                                                                                              ^ the cloud, asked each time
//! ```
//!
//! It listens on addresses of the router, so no security group applies, as on AWS. Names that it does not know do not exist: there is
//! no internet beyond the lab's own. Nodes are told of it as DHCP would ([`NodeNames`]).

mod message;
mod names;

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use lab_serve::CloudHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::topology::{Content, PlacedFile, Topology};
use message::{Known, Transport, answer};
use names::{Facts, Names};
pub use names::{private_zone, short_name};

/// Where every VPC's resolver is, beside its address in the VPC.
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);
/// The port of DNS.
const PORT: u16 = 53;
/// Longest question over UDP in bytes.
const LONGEST_UDP: usize = 4096;
/// Connections at once; others wait in the listener's queue.
const MOST_CONNECTIONS: usize = 256;
/// A connection that says nothing for so long is closed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failure of a socket (out of descriptors).
const PAUSE: Duration = Duration::from_millis(10);

/// The resolver's address in the VPC: the base of the primary CIDR plus two.
#[must_use]
pub fn resolver_in(cidrs: &[Ipv4Net]) -> Option<Ipv4Addr> {
    cidrs.first().map(|primary| Ipv4Addr::from_bits(primary.network().to_bits() + 2))
}

/// A running resolver.
#[derive(Debug)]
pub struct Resolver {
    names: Names,
    cloud: CloudHandle,
}

impl Resolver {
    /// Answers on these addresses of the calling thread's network, as long as the runtime lives. Must be called inside it.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub fn start(topology: &Topology, cloud: CloudHandle, addresses: &[Ipv4Addr]) -> io::Result<()> {
        let resolver = Arc::new(Self { names: Names::of(topology), cloud });
        for address in addresses {
            let (udp, tcp) = (UdpSocket::bind((*address, PORT))?, TcpListener::bind((*address, PORT))?);
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            let (udp, tcp) = (tokio::net::UdpSocket::from_std(udp)?, tokio::net::TcpListener::from_std(tcp)?);
            tokio::spawn(Arc::clone(&resolver).serve_udp(udp));
            tokio::spawn(Arc::clone(&resolver).serve_tcp(tcp));
        }
        Ok(())
    }

    fn answer(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        answer(bytes, transport, |name| {
            let facts = Facts { snapshot: self.cloud.snapshot(), network: self.cloud.network() };
            Known { meaning: self.names.meaning(name, &facts), zone: self.names.zone(name, &facts) }
        })
    }

    async fn serve_udp(self: Arc<Self>, socket: tokio::net::UdpSocket) {
        let mut buffer = vec![0; LONGEST_UDP];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if let Some(answer) = self.answer(buffer.get(..length).unwrap_or_default(), Transport::Udp) {
                // Whoever can not be reached asks again.
                socket.send_to(&answer, from).await.ok();
            }
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: tokio::net::TcpListener) {
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let resolver = Arc::clone(&self);
            tokio::spawn(async move {
                resolver.converse(stream).await.ok();
                drop(place);
            });
        }
    }

    /// Question after question, each with its length before it; what is malformed ends the conversation.
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let length = tokio::time::timeout(PATIENCE, stream.read_u16()).await??;
            let mut question = vec![0; usize::from(length)];
            tokio::time::timeout(PATIENCE, stream.read_exact(&mut question)).await??;
            let Some(answer) = self.answer(&question, Transport::Tcp) else { return Ok(()) };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            let framed = [&length.to_be_bytes()[..], &answer].concat();
            tokio::time::timeout(PATIENCE, stream.write_all(&framed)).await??;
        }
    }
}

/// What nodes are told about names.
#[derive(Clone, Debug)]
pub struct NodeNames {
    /// The resolver they ask.
    resolver: Ipv4Addr,
    /// The zone they search in, and have their own names in.
    zone: String,
}

impl NodeNames {
    /// What holds in a topology.
    #[must_use]
    pub fn of(topology: &Topology) -> Self {
        Self {
            resolver: resolver_in(&topology.cidrs).unwrap_or(RESOLVER_ADDRESS),
            zone: private_zone(&topology.region),
        }
    }

    /// `/etc/resolv.conf` and `/etc/hosts` of a node.
    #[must_use]
    pub fn files(&self, node: &str, address: Ipv4Addr) -> [PlacedFile; 2] {
        let Self { resolver, zone } = self;
        let (name, mode) = (short_name(address), 0o644);
        let resolv = format!("search {zone}\nnameserver {resolver}\n");
        let hosts = format!("127.0.0.1 localhost\n{address} {name}.{zone} {name} {node}\n");
        [("/etc/resolv.conf", resolv), ("/etc/hosts", hosts)].map(|(path, text)| PlacedFile {
            path: path.into(),
            content: Content::Text(text),
            mode,
        })
    }
}
