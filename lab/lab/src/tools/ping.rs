//! Echo requests over a raw socket.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, IpNumber, Ipv4Header, Ipv4Slice, icmpv4};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};
use serde::{Deserialize, Serialize};

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingOptions {
    /// Echo requests.
    pub count: u16,
    /// Bytes of payload.
    pub size: usize,
    /// Never fragment (and do not heed what is known of the path).
    pub dont_fragment: bool,
    /// From one request to the next.
    pub interval: Duration,
    /// For each answer.
    pub timeout: Duration,
    /// Claim to be this address, whoever owns it.
    pub source: Option<Ipv4Addr>,
}

impl Default for PingOptions {
    fn default() -> Self {
        Self {
            count: 1,
            size: 56,
            dont_fragment: false,
            interval: Duration::from_millis(100),
            timeout: Duration::from_secs(1),
            source: None,
        }
    }
}

impl PingOptions {
    /// So many requests, all else as usual.
    #[must_use]
    pub fn count(count: u16) -> Self {
        Self { count, ..Self::default() }
    }

    /// Arguments of `vpc-lab tool` that mean the same.
    #[must_use]
    pub fn arguments(&self, to: Ipv4Addr) -> Vec<String> {
        let mut all = vec![
            "ping".to_owned(),
            to.to_string(),
            format!("--count={}", self.count),
            format!("--size={}", self.size),
            format!("--interval-ms={}", self.interval.as_millis()),
            format!("--timeout-ms={}", self.timeout.as_millis()),
        ];
        all.extend(self.dont_fragment.then(|| "--dont-fragment".to_owned()));
        all.extend(self.source.map(|source| format!("--source={source}")));
        all
    }
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// Its number, from 1.
    pub sequence: u16,
    /// The answer.
    pub answer: Option<EchoAnswer>,
    /// What came instead.
    pub error: Option<EchoError>,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EchoAnswer {
    /// Microseconds from the request to it.
    pub micros: u64,
    /// Its TTL.
    pub ttl: u8,
}

/// What came instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EchoError {
    /// Nothing.
    Timeout,
    /// A router said no.
    Icmp {
        /// Which.
        from: Ipv4Addr,
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
        /// The MTU that would fit, of a "fragmentation needed".
        mtu: Option<u16>,
    },
    /// The kernel would not send it.
    Send(String),
}

/// What came of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingReport {
    /// In order.
    pub echoes: Vec<Echo>,
}

impl PingReport {
    /// Requests that were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.echoes.iter().filter(|echo| echo.answer.is_some()).count()
    }

    /// Whether every request was answered.
    #[must_use]
    pub fn all_answered(&self) -> bool {
        self.answered() == self.echoes.len()
    }
}

/// Sends echo requests from the calling thread's network namespace.
///
/// # Errors
/// When there is no socket to be had (`EPERM`: raw sockets need root of the namespace).
pub fn ping(to: Ipv4Addr, options: &PingOptions) -> io::Result<PingReport> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listening = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
    let sending = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
    if options.source.is_some() {
        set_ip_option(&sending, libc::IP_HDRINCL, 1)?;
    }
    if options.dont_fragment {
        // DF on every packet, whatever the kernel believes about the path: what a router says is to be seen.
        set_ip_option(&sending, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    }
    let id = std::process::id() as u16;
    let mut echoes = Vec::new();
    for sequence in 1..=options.count {
        let start = Instant::now();
        let sent = send(&sending, to, id, sequence, options);
        let (answer, error) = match sent {
            Err(e) => (None, Some(EchoError::Send(e.to_string()))),
            Ok(()) => match wait_for_answer(&listening, to, id, sequence, start, options.timeout)? {
                Ok(answer) => (Some(answer), None),
                Err(error) => (None, Some(error)),
            },
        };
        echoes.push(Echo { sequence, answer, error });
        if sequence < options.count {
            std::thread::sleep(options.interval.saturating_sub(start.elapsed()));
        }
    }
    Ok(PingReport { echoes })
}

fn set_ip_option(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option's value is an int of the length told.
    let done = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, option, (&raw const value).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn send(socket: &OwnedFd, to: Ipv4Addr, id: u16, sequence: u16, options: &PingOptions) -> io::Result<()> {
    let payload: Vec<u8> = (0..options.size).map(|at| at as u8).collect();
    let icmp = Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: sequence });
    let header = Icmpv4Header::with_checksum(icmp, &payload);
    let mut bytes = Vec::new();
    if let Some(source) = options.source {
        let length = u16::try_from(header.header_len() + payload.len()).map_err(io::Error::other)?;
        let ip = Ipv4Header::new(length, 64, IpNumber::ICMP, source.octets(), to.octets()).map_err(io::Error::other)?;
        ip.write(&mut bytes)?;
    }
    header.write(&mut bytes)?;
    bytes.extend_from_slice(&payload);
    let [a, b, c, d] = to.octets();
    sendto(socket.as_raw_fd(), &bytes, &SockaddrIn::new(a, b, c, d, 0), MsgFlags::empty())?;
    Ok(())
}

/// The answer, or what came instead.
type Outcome = Result<EchoAnswer, EchoError>;

fn wait_for_answer(
    socket: &OwnedFd,
    to: Ipv4Addr,
    id: u16,
    sequence: u16,
    start: Instant,
    at_most: Duration,
) -> io::Result<Outcome> {
    let mut buffer = vec![0; 65_536];
    loop {
        let Some(left) = at_most.checked_sub(start.elapsed()) else { return Ok(Err(EchoError::Timeout)) };
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout)?;
        let length = match nix::sys::socket::recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => length,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let elapsed = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(outcome) = read(buffer.get(..length).unwrap_or_default(), to, id, sequence, elapsed) {
            return Ok(outcome);
        }
    }
}

/// What an ICMP packet means to us, if anything.
fn read(bytes: &[u8], to: Ipv4Addr, id: u16, sequence: u16, elapsed: u64) -> Option<Outcome> {
    let ip = Ipv4Slice::from_slice(bytes).ok()?;
    let icmp = Icmpv4Slice::from_slice(ip.payload().payload).ok()?;
    if let Icmpv4Type::EchoReply(IcmpEchoHeader { id: theirs, seq }) = icmp.icmp_type() {
        let ours = theirs == id && seq == sequence && ip.header().source_addr() == to;
        return ours.then_some(Ok(EchoAnswer { micros: elapsed, ttl: ip.header().ttl() }));
    }
    // Errors carry the beginning of what they are about: the IP header and eight bytes.
    let about = icmp.payload();
    let header_length = usize::from(about.first()? & 0xf) * 4;
    let inner = about.get(header_length..header_length + 8)?;
    let ours =
        *inner.first()? == 8 && inner.get(4..6)? == id.to_be_bytes() && inner.get(6..8)? == sequence.to_be_bytes();
    let mtu = match icmp.icmp_type() {
        Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu }) => {
            Some(next_hop_mtu)
        }
        _ => None,
    };
    let error = EchoError::Icmp { from: ip.header().source_addr(), kind: icmp.type_u8(), code: icmp.code_u8(), mtu };
    ours.then_some(Err(error))
}
