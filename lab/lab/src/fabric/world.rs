//! The internet, and every other host that answers HTTP and remembers who asked.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vpc_linux::{Address, Netns, RouteSpec, Rtnl};
use vpc_model::RouteTable;

use super::FabricError;
use super::error::Context;
use super::links::{NEXT_HOP, new_network};
use crate::control::Place;
use crate::topology::Topology;

/// Visits remembered; older ones are forgotten.
const REMEMBERED: usize = 10_000;
/// Longest request head in bytes.
const LONGEST_HEAD: usize = 8 << 10;
/// A visitor that says nothing for so long is sent away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody asked a host for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// When.
    pub at: SystemTime,
    /// Where the host is: the internet, a peered VPC, on premises, or an endpoint.
    pub place: Place,
    /// Which host.
    pub host: Ipv4Addr,
    /// The address it saw.
    pub source: Ipv4Addr,
    /// The port it saw.
    pub port: u16,
    /// What was asked for.
    pub path: String,
}

/// All visits.
#[derive(Clone, Debug, Default)]
pub struct WorldLog(Arc<Mutex<VecDeque<Visit>>>);

impl WorldLog {
    /// Those remembered, oldest first.
    #[must_use]
    pub fn visits(&self) -> Vec<Visit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn note(&self, visit: Visit) {
        let mut visits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if visits.len() == REMEMBERED {
            visits.pop_front();
        }
        visits.push_back(visit);
    }
}

pub(super) fn build(_topology: &Topology) -> Result<Netns, FabricError> {
    new_network()
}

/// Every host has its address on the one link; everything else is beyond the internet gateway.
pub(super) fn routes(world: &Netns, topology: &Topology, link: u32) -> Result<(), FabricError> {
    let mut inside = Rtnl::open_in(world).context("open the world's netlink socket")?;
    let services = topology.services.iter().map(|service| &service.address);
    for host in topology.public_hosts.iter().chain(services) {
        inside.add_address(&Address::new(link, (*host).into())).context("give a public host its address")?;
    }
    let everywhere = RouteSpec {
        onlink: true,
        source: topology.public_hosts.first().copied(),
        ..RouteSpec::through(RouteTable::MAIN, Ipv4Net::default(), NEXT_HOP, link)
    };
    inside.replace_route(&everywhere).context("give the world its route")
}

/// Who answers on a listener of [`listen`].
#[derive(Clone, Debug)]
pub struct Responder {
    /// Where it is.
    pub place: Place,
    /// What it calls itself, if it has a name.
    pub name: Option<String>,
    /// Where visits are noted.
    pub log: WorldLog,
}

/// Listens on port 80 of every host. The sockets are made in the hosts' network; they may be served from anywhere.
///
/// # Errors
/// As `bind(2)`.
pub fn listen(network: &Netns, hosts: &[Ipv4Addr]) -> io::Result<Vec<std::net::TcpListener>> {
    let bind = |host: &Ipv4Addr| {
        let listener = std::net::TcpListener::bind((*host, 80))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    network.enter(|| hosts.iter().map(bind).collect()).map_err(io::Error::other)?
}

/// Answers everybody who comes to a listener of [`listen`] with the address he came from.
///
/// # Errors
/// When the listener can not be used.
pub async fn serve(listener: std::net::TcpListener, responder: Responder) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // Out of descriptors, or the visitor has gone already: the next one may fare better.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let responder = responder.clone();
        tokio::spawn(async move {
            tokio::time::timeout(PATIENCE, answer(stream, from, responder)).await.ok();
        });
    }
}

async fn answer(mut stream: TcpStream, from: SocketAddr, responder: Responder) -> io::Result<()> {
    let Responder { place, name, log } = responder;
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).await?;
        if count == 0 || head.len() > LONGEST_HEAD {
            return Ok(());
        }
        head.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    let text = String::from_utf8_lossy(&head);
    let path = text.split_whitespace().nth(1).unwrap_or("/").to_owned();
    if let (IpAddr::V4(source), IpAddr::V4(host)) = (from.ip(), stream.local_addr()?.ip()) {
        log.note(Visit { at: SystemTime::now(), place, host, source, port: from.port(), path });
    }
    let mut body = format!("hello {}, you came from port {}\n", from.ip(), from.port());
    if let Some(name) = name {
        body.push_str(&format!("this is {name}\n"));
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    stream.shutdown().await
}
