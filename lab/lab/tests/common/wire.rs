//! Frames of any content, sent out of a node's link as no kernel would.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use nix::sys::socket::{MsgFlags, send};
use vpc_lab::Lab;
use vpc_lab::control::Place;
use vpc_model::Mac;

const EVERYBODY: Mac = Mac([0xff; 6]);

/// An echo request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo {
    pub(crate) mac: Mac,
    pub(crate) router: Mac,
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
}

impl Echo {
    /// The frame with that number.
    pub(crate) fn frame(self, sequence: u16) -> Vec<u8> {
        let packet = PacketBuilder::ethernet2(self.mac.0, self.router.0)
            .ipv4(self.source.octets(), self.destination.octets(), 64)
            .icmpv4_echo_request(7, sequence);
        let mut frame = Vec::new();
        packet.write(&mut frame, &[0; 56]).unwrap();
        frame
    }
}

/// "Who has `wanted`?", asked by `sender`.
pub(crate) fn question(mac: Mac, sender: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    let arp = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &mac.0,
        &sender.octets(),
        &[0; 6],
        &wanted.octets(),
    );
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac.0, EVERYBODY.0).arp(arp.unwrap()).write(&mut frame).unwrap();
    frame
}

/// A node's link, seen from inside.
pub(crate) struct Wire {
    socket: OwnedFd,
    name: String,
}

impl Wire {
    pub(crate) fn open(lab: &Lab, node: &str, link: &str) -> Self {
        let socket = lab.capture_socket(&Place::Node(node.to_owned()), link).unwrap();
        Self { socket, name: link.to_owned() }
    }

    /// Brings the link up first, as a daemon would.
    pub(crate) fn up(lab: &Lab, node: &str, link: &str) -> Self {
        Self::open(lab, node, link).bring_up();
        // A socket bound to a link that is down remembers that.
        Self::open(lab, node, link)
    }

    fn bring_up(&self) {
        // SAFETY: all-zero bytes are a valid ifreq; the name fits with its terminating zero, and the kernel writes flags only.
        unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(self.name.bytes()) {
                *to = from as libc::c_char;
            }
            assert_eq!(libc::ioctl(self.socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request), 0);
            request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
            let done = libc::ioctl(self.socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request);
            assert_eq!(done, 0, "{}: {}", self.name, std::io::Error::last_os_error());
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty());
        assert_eq!(sent, Ok(frame.len()), "{}", self.name);
    }
}
