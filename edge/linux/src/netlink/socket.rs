//! A netlink conversation: one socket, one question (or one batch of them) at a time, answers matched by sequence number.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;

use super::encode::{Message, Request, flag};
use super::error::NetlinkError;
use super::parse::{Incoming, Messages, errno_of};

/// How long the kernel may leave us without an answer. It answers inside `sendmsg`, so this only guards against lost answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages in one send. Each acknowledgement takes about 1 KiB of the socket's receive buffer (208 KiB by default).
const MESSAGES_PER_SEND: usize = 64;

/// Bytes in one send, far below the default send buffer.
const BYTES_PER_SEND: usize = 64 * 1024;

/// Dumps that changed while they were read are asked for again so often: at once at first, then after 1, 2, 4 … 64 ms, which
/// outlasts a hundred pods started together.
const DUMP_ATTEMPTS: u32 = 10;
const DUMP_ATTEMPTS_AT_ONCE: u32 = 3;

/// Receive buffer. The kernel never makes a dump part larger than 32 KiB; single answers stay far below.
const BUFFER: usize = 64 * 1024;

/// What came back for one request of a batch.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The verdict; tolerated refusals are `Ok`.
    pub(crate) result: Result<(), NetlinkError>,
    /// The request was refused with an error that counts as success.
    pub(crate) tolerated: bool,
    /// Kind and body of the first message that came back besides the acknowledgement (an answer, or an echo).
    pub(crate) answer: Option<(u16, Vec<u8>)>,
}

/// A netlink socket. It belongs to the network namespace it was opened in, for ever.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    next_sequence: u32,
    buffer: Vec<u8>,
    /// Something may be left in the socket that no one has read.
    stale: bool,
    /// Filtered dumps have been asked for.
    strict: bool,
    /// The kernel's answers are waited for with an end.
    patient: bool,
}

impl Socket {
    /// Opens a socket of that netlink protocol in the calling thread's network namespace.
    pub(crate) fn open(protocol: libc::c_int) -> Result<Self, NetlinkError> {
        let error = |errno| NetlinkError::new("open", "netlink socket", errno);
        let fd = sys::socket(protocol, 0).map_err(error)?;
        sys::set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1).ok();
        sys::set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1).ok();
        Ok(Self { fd, next_sequence: 1, buffer: vec![0; BUFFER], stale: false, strict: false, patient: false })
    }

    /// Room for sends of that many bytes (a big nf_tables transaction is one send). Capped by the system where we may not force it.
    pub(crate) fn grow_send_buffer(&self, bytes: usize) {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        if sys::set_option(&self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes).is_err() {
            sys::set_option(&self.fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes).ok();
        }
    }

    pub(crate) fn take_sequence(&mut self) -> u32 {
        let sequence = self.next_sequence;
        self.next_sequence = self.next_sequence.checked_add(1).unwrap_or(1);
        sequence
    }

    /// Sends bytes as they are: the caller has numbered and flagged them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        if std::mem::replace(&mut self.stale, true) {
            self.forget_stale();
        }
        sys::send(&self.fd, bytes)
    }

    /// Waits for one datagram. It is most often there: the kernel answers inside the send.
    pub(crate) fn receive(&mut self) -> Result<Messages<'_>, Errno> {
        if !self.patient {
            match sys::receive(&self.fd, &mut self.buffer, libc::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => {
                    sys::set_receive_timeout(&self.fd, ANSWER_TIMEOUT)?;
                    self.patient = true;
                }
                Ok(length) => return Ok(Messages(&self.buffer[..length])),
                Err(errno) => return Err(errno),
            }
        }
        let length = sys::receive(&self.fd, &mut self.buffer, 0)?;
        Ok(Messages(&self.buffer[..length]))
    }

    /// Carries out requests in as few sends as buffers allow. Later ones run even where earlier ones fail; there is one reply for each.
    pub(crate) fn run(&mut self, requests: Vec<Request>) -> Vec<Reply> {
        let mut replies = Vec::with_capacity(requests.len());
        let mut pending = requests.into_iter().peekable();
        while pending.peek().is_some() {
            let mut chunk = Vec::new();
            let mut bytes = 0;
            while let Some(request) = pending.next_if(|next| {
                chunk.is_empty() || (chunk.len() < MESSAGES_PER_SEND && bytes + next.message.len() <= BYTES_PER_SEND)
            }) {
                bytes += request.message.len();
                chunk.push(request);
            }
            replies.extend(self.run_chunk(chunk));
        }
        replies
    }

    /// Only the last request asks for an acknowledgement. The kernel carries requests out in order and reports every refusal unasked, so
    /// at that one all is told: what was not refused was done.
    fn run_chunk(&mut self, requests: Vec<Request>) -> Vec<Reply> {
        let mut bytes = Vec::new();
        let mut slots: Vec<Slot> = Vec::with_capacity(requests.len());
        let last = requests.len().saturating_sub(1);
        for (at, request) in requests.into_iter().enumerate() {
            let sequence = self.take_sequence();
            let Request { operation, object, message, tolerated } = request;
            let acknowledged = if at == last { libc::NLM_F_ACK } else { 0 };
            bytes.extend(message.finish(sequence, flag(libc::NLM_F_REQUEST | acknowledged)));
            slots.push(Slot { sequence, operation, object, tolerated, verdict: None, answer: None });
        }
        let failure = match self.send(&bytes) {
            Ok(()) => self.collect(&mut slots).err(),
            Err(errno) => Some(errno),
        };
        // Whatever was asked for has been read.
        self.stale = failure.is_some();
        slots.into_iter().map(|slot| slot.into_reply(failure)).collect()
    }

    fn collect(&mut self, slots: &mut [Slot]) -> Result<(), Errno> {
        while slots.last().is_some_and(|last| last.verdict.is_none()) {
            for message in self.receive()? {
                let Some(slot) = slots.iter_mut().find(|slot| slot.sequence == message.sequence) else { continue };
                if i32::from(message.kind) == libc::NLMSG_ERROR {
                    slot.verdict = Some(message.verdict().unwrap_or((-libc::EBADMSG, None)));
                } else if slot.answer.is_none() {
                    slot.answer = Some((message.kind, message.body.to_vec()));
                }
            }
        }
        for slot in slots {
            slot.verdict.get_or_insert((0, None));
        }
        Ok(())
    }

    /// Asks for all objects of a kind. Read again where the kernel says that they changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        operation: &'static str,
        object: &str,
        message: &Message,
        mut each: impl FnMut(&Incoming<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut last = Errno::EAGAIN;
        for attempt in 0..DUMP_ATTEMPTS {
            if let Some(doublings) = attempt.checked_sub(DUMP_ATTEMPTS_AT_ONCE) {
                std::thread::sleep(Duration::from_millis(1 << doublings));
            }
            match self.dump_once(message, &mut each) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => last = Errno::EAGAIN,
                Err((Errno::ENOBUFS, _)) => last = Errno::ENOBUFS,
                Err((errno, text)) => {
                    return Err(NetlinkError { message: text, ..NetlinkError::new(operation, object, errno) });
                }
            }
        }
        Err(NetlinkError::new(operation, object, last))
    }

    /// `None`: the dump was interrupted by a change and is not to be trusted.
    fn dump_once<T>(
        &mut self,
        message: &Message,
        each: &mut impl FnMut(&Incoming<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, (Errno, Option<String>)> {
        if !std::mem::replace(&mut self.strict, true) {
            // Filtered dumps need it; the kernel has it since 4.20.
            sys::set_option(&self.fd, libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, 1).ok();
        }
        let sequence = self.take_sequence();
        let bytes = message.clone().finish(sequence, flag(libc::NLM_F_REQUEST | libc::NLM_F_DUMP));
        self.send(&bytes).map_err(|errno| (errno, None))?;
        let mut found = Vec::new();
        let mut consistent = true;
        loop {
            for message in self.receive().map_err(|errno| (errno, None))? {
                if message.sequence != sequence {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => match message.verdict() {
                        Some((code, text)) if code < 0 => return Err((errno_of(code), text)),
                        _ => return Ok(consistent.then_some(found)),
                    },
                    libc::NLMSG_NOOP => {}
                    _ => found.extend(each(&message)),
                }
            }
        }
    }

    /// The index of the link of that name, in the socket's namespace; `ENODEV` when there is none.
    pub(crate) fn index_of_link(&self, name: &str) -> Result<libc::c_int, Errno> {
        sys::index_of_link(&self.fd, name)
    }

    /// Throws away what an earlier, given-up conversation left in the socket.
    fn forget_stale(&mut self) {
        // ENOBUFS and EMSGSIZE are about what is lost already; more may be behind.
        while let Ok(_) | Err(Errno::ENOBUFS | Errno::EMSGSIZE) =
            sys::receive(&self.fd, &mut self.buffer, libc::MSG_DONTWAIT)
        {}
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

const NLM_F_DUMP_INTR: u16 = 0x10;

struct Slot {
    sequence: u32,
    operation: &'static str,
    object: String,
    tolerated: &'static [Errno],
    verdict: Option<(i32, Option<String>)>,
    answer: Option<(u16, Vec<u8>)>,
}

impl Slot {
    /// `failure` is what ended the conversation before this request was answered.
    fn into_reply(self, failure: Option<Errno>) -> Reply {
        let (errno, message) = match self.verdict {
            Some((0, _)) => return Reply { result: Ok(()), tolerated: false, answer: self.answer },
            Some((code, message)) => (errno_of(code), message),
            None => (failure.unwrap_or(Errno::EBADMSG), None),
        };
        if self.tolerated.contains(&errno) {
            return Reply { result: Ok(()), tolerated: true, answer: self.answer };
        }
        let error = NetlinkError { operation: self.operation, object: self.object, errno, message };
        Reply { result: Err(error), tolerated: false, answer: self.answer }
    }
}

/// The few system calls, with `EINTR` retried and nothing else decided.
pub(crate) mod sys {
    #![allow(unsafe_code)]
    use super::*;

    /// A netlink socket, close-on-exec, listening to these multicast groups (bits as `nl_groups` has them). One that listens to none is
    /// bound by the kernel at its first send.
    pub(crate) fn socket(protocol: libc::c_int, groups: u32) -> Result<OwnedFd, Errno> {
        // SAFETY: no pointers are passed.
        let raw = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        let raw = Errno::result(raw)?;
        // SAFETY: `raw` was just opened and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        if groups == 0 {
            return Ok(fd);
        }
        // SAFETY: an all-zero sockaddr_nl is a valid one.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = groups;
        let size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: `address` lives through the call and `size` is its size.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) };
        Errno::result(bound)?;
        Ok(fd)
    }

    pub(crate) fn set_option(
        fd: &OwnedFd,
        level: libc::c_int,
        name: libc::c_int,
        value: libc::c_int,
    ) -> Result<(), Errno> {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `value` lives through the call and `size` is its size.
        let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
        Errno::result(done).map(drop)
    }

    pub(crate) fn set_receive_timeout(fd: &OwnedFd, timeout: Duration) -> Result<(), Errno> {
        let value = libc::timeval { tv_sec: timeout.as_secs() as _, tv_usec: 0 };
        let size = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: `value` lives through the call and `size` is its size.
        let done = unsafe {
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, (&raw const value).cast(), size)
        };
        Errno::result(done).map(drop)
    }

    /// `SIOCGIFINDEX` (netdevice(7)): of all sockets, also of netlink ones.
    pub(crate) fn index_of_link(fd: &OwnedFd, name: &str) -> Result<libc::c_int, Errno> {
        // SAFETY: an all-zero ifreq is a valid one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(Errno::ENODEV);
        }
        for (place, octet) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *place = octet as libc::c_char;
        }
        // SAFETY: the request is what this call reads and writes; its name ends with a zero.
        Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFINDEX as _, &raw mut request) })?;
        // SAFETY: a successful call has filled in the index.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex })
    }

    /// One datagram to the kernel, whole or not at all.
    pub(crate) fn send(fd: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            // SAFETY: pointer and length are those of `bytes`.
            let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            match Errno::result(sent) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// One datagram from the kernel: its length. What another process sent is passed over. `ETIMEDOUT` when none came in time,
    /// `EAGAIN` with `MSG_DONTWAIT`, `EMSGSIZE` when it did not fit.
    pub(crate) fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: libc::c_int) -> Result<usize, Errno> {
        let capacity = buffer.len();
        loop {
            // SAFETY: an all-zero sockaddr_nl is a valid one.
            let mut sender: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
            let mut size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            // SAFETY: pointer and length are those of `buffer`; `sender` and `size` live through the call and agree.
            let got = unsafe {
                libc::recvfrom(
                    fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    capacity,
                    flags | libc::MSG_TRUNC,
                    (&raw mut sender).cast(),
                    &raw mut size,
                )
            };
            match Errno::result(got) {
                Ok(_) if sender.nl_pid != 0 => {}
                Ok(length) if length as usize > capacity => return Err(Errno::EMSGSIZE),
                Ok(length) => return Ok(length as usize),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if flags & libc::MSG_DONTWAIT == 0 => return Err(Errno::ETIMEDOUT),
                Err(errno) => return Err(errno),
            }
        }
    }
}
