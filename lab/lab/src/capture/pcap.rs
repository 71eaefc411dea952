//! Captures for other tools: the classic pcap format (draft-ietf-opsawg-pcap), nanosecond variant.

use std::io::{self, Write};
use std::time::SystemTime;

use super::Packet;

/// Magic number of the format with nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Longest packet kept; ours are all kept whole.
const SNAP_LENGTH: u32 = 262_144;
/// Ethernet.
const LINK_TYPE: u32 = 1;

/// Writes packets to a file that Wireshark and tcpdump read.
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    out: W,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC.to_le_bytes())?;
        out.write_all(&2_u16.to_le_bytes())?;
        out.write_all(&4_u16.to_le_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&SNAP_LENGTH.to_le_bytes())?;
        out.write_all(&LINK_TYPE.to_le_bytes())?;
        Ok(Self { out })
    }

    /// Writes one packet and flushes: whoever follows the file sees it at once.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&mut self, packet: &Packet) -> io::Result<()> {
        let since = packet.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The format's clock has 32 bits of seconds: it ends in 2106.
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        let captured = u32::try_from(packet.bytes.len()).unwrap_or(SNAP_LENGTH);
        let length = u32::try_from(packet.length).unwrap_or(u32::MAX);
        for field in [seconds, since.subsec_nanos(), captured, length] {
            self.out.write_all(&field.to_le_bytes())?;
        }
        self.out.write_all(&packet.bytes)?;
        self.out.flush()
    }
}
