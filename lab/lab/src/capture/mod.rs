//! Looking at packets: an `AF_PACKET` socket in any namespace of the lab.
//!
//! The supervisor opens the socket where the packets are and hands it over; whoever asked reads the packets himself. A [`Capture`]
//! has a thread that empties the socket all the time, so nothing is lost while nobody looks.

mod packet;
mod pcap;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use packet::{Arp, Body, Ipv4, Packet, TcpFlags, Transport};
pub use pcap::PcapWriter;

/// Room for packets nobody has fetched yet, in bytes (the kernel cuts it down to what it allows).
const ROOM: libc::c_int = 4 << 20;
/// Largest packet a link of the lab can show: 64 KiB of segmentation offload, and headers.
const LARGEST: usize = 68 << 10;

/// Opens a socket that sees every packet of a link of the *calling thread's* network namespace.
///
/// # Errors
/// `ENODEV`: there is no such link; others as `socket(2)`.
pub fn open_socket(link: &str) -> io::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
    let index = nix::net::if_::if_nametoindex(link).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // Protocol 0: nothing is received until the socket is bound to its link.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None::<SockProtocol>)?;
    setsockopt(&socket, sockopt::RcvBuf, &(ROOM as usize))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    bind_to_link(&socket, index)?;
    Ok(socket)
}

fn bind_to_link(socket: &OwnedFd, index: libc::c_uint) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sockaddr_ll; the length given is that of the structure.
    unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as libc::c_int;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        if libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The next packet, if one is waiting.
///
/// # Errors
/// As `recvmsg(2)`; `ENETDOWN` when the link has gone.
pub fn read_packet(socket: &OwnedFd) -> io::Result<Option<Packet>> {
    let mut bytes = vec![0_u8; LARGEST];
    let mut control = [0_u8; 128];
    // SAFETY: all-zero bytes are valid for these C structures; every pointer in `message` is to a live buffer of the length told.
    let (length, outgoing, at) = unsafe {
        let mut from: libc::sockaddr_ll = std::mem::zeroed();
        let mut slice = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        message.msg_iov = &raw mut slice;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control.len() as _;
        let length = libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_TRUNC);
        if length < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        (length as usize, from.sll_pkttype == libc::PACKET_OUTGOING, timestamp(&message))
    };
    bytes.truncate(length);
    Ok(Some(Packet::parse(bytes, at.unwrap_or_else(SystemTime::now), outgoing, length)))
}

/// # Safety
/// `message` has been filled in by `recvmsg` and its control buffer is alive.
unsafe fn timestamp(message: &libc::msghdr) -> Option<SystemTime> {
    // SAFETY: see above; the kernel aligned the control messages.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
                return Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos));
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
        None
    }
}

/// Waits until a packet can be read.
///
/// # Errors
/// As `poll(2)`.
pub fn wait_readable(socket: &OwnedFd, at_most: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// A capture that runs until dropped.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    packets: Mutex<Vec<Packet>>,
    more: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn packets(&self) -> MutexGuard<'_, Vec<Packet>> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Capture {
    /// Reads from a socket of [`open_socket`].
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn start(socket: OwnedFd) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let reader = std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            const GLANCE: Duration = Duration::from_millis(20);
            while !own.stop.load(Ordering::Relaxed) {
                match (wait_readable(&socket, GLANCE), read_packet(&socket)) {
                    (_, Ok(Some(packet))) => {
                        own.packets().push(packet);
                        own.more.notify_all();
                    }
                    (Ok(_), Ok(None)) => {}
                    // The link has gone: what was captured stays.
                    _ => return,
                }
            }
        })?;
        Ok(Self { shared, reader: Some(reader) })
    }

    /// Everything captured so far.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        self.shared.packets().clone()
    }

    /// Waits for a packet; those captured already count. `None`: none came in time.
    #[must_use]
    pub fn wait_for(&self, at_most: Duration, wanted: impl Fn(&Packet) -> bool) -> Option<Packet> {
        let deadline = Instant::now() + at_most;
        let mut seen = 0;
        let mut packets = self.shared.packets();
        loop {
            if let Some(found) = packets.iter().skip(seen).find(|packet| wanted(packet)) {
                return Some(found.clone());
            }
            seen = packets.len();
            let left = deadline.checked_duration_since(Instant::now())?;
            packets = self.shared.more.wait_timeout(packets, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Forgets what was captured so far.
    pub fn clear(&self) {
        self.shared.packets().clear();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}
