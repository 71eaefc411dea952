//! The file's text in pieces, so that a change of one address costs the text of one address.
//!
//! ```text
//!   Checkpoint --of--> Text: a piece for each allocation, one for the pool, a piece for each rest
//!   hold, rest, free --> one piece more, another, or less
//!   Text --render(generation)--> the bytes of the file, the same as Checkpoint::to_bytes gives
//! ```

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use super::document::{CoolingEntry, EniEntry, Entry};
use super::{Allocation, Checkpoint, Cooling, VERSION, go_json};

/// A checkpoint as text. Allocations and rests stand in the order of their addresses.
#[derive(Clone, Debug, Default)]
pub struct Text {
    allocations: BTreeMap<IpAddr, Box<[u8]>>,
    /// The list of ENIs with its brackets.
    pool: Option<Box<[u8]>>,
    cooling: BTreeMap<Ipv4Addr, Box<[u8]>>,
}

impl Text {
    /// The text of a whole checkpoint, its generation aside.
    ///
    /// # Errors
    /// A value that JSON can not hold; none of the types used has one.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, serde_json::Error> {
        let mut text = Self::default();
        for allocation in &checkpoint.allocations {
            text.hold(allocation)?;
        }
        for cooling in &checkpoint.cooling {
            text.rest(cooling)?;
        }
        let pool = checkpoint.pool.as_ref().map(|enis| enis.iter().map(EniEntry::from).collect::<Vec<_>>());
        text.pool = pool.map(|enis| piece(&enis)).transpose()?;
        Ok(text)
    }

    /// An address belongs to a sandbox now.
    ///
    /// # Errors
    /// As for [`Self::of`].
    pub fn hold(&mut self, allocation: &Allocation) -> Result<(), serde_json::Error> {
        self.free(allocation.address);
        self.allocations.insert(allocation.address, piece(&Entry::from(allocation))?);
        Ok(())
    }

    /// An address rests now.
    ///
    /// # Errors
    /// As for [`Self::of`].
    pub fn rest(&mut self, cooling: &Cooling) -> Result<(), serde_json::Error> {
        self.free(cooling.address.into());
        self.cooling.insert(cooling.address, piece(&CoolingEntry::from(cooling))?);
        Ok(())
    }

    /// An address belongs to nobody and does not rest.
    pub fn free(&mut self, address: IpAddr) {
        self.allocations.remove(&address);
        if let IpAddr::V4(address) = address {
            self.cooling.remove(&address);
        }
    }

    /// Puts the whole text into `out`, in place of what is there.
    pub fn render(&self, generation: u64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(b"{\"version\":\"");
        out.extend_from_slice(VERSION.as_bytes());
        out.extend_from_slice(b"\",\"allocations\":");
        list(self.allocations.values(), out);
        if let Some(pool) = &self.pool {
            out.extend_from_slice(b",\"pool\":");
            out.extend_from_slice(pool);
        }
        if !self.cooling.is_empty() {
            out.extend_from_slice(b",\"cooling\":");
            list(self.cooling.values(), out);
        }
        if generation > 0 {
            // Writing into a vector does not fail.
            let _ = write!(out, ",\"generation\":{generation}");
        }
        out.extend_from_slice(b"}\n");
    }
}

fn list<'a>(pieces: impl Iterator<Item = &'a Box<[u8]>>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (n, piece) in pieces.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(piece);
    }
    out.push(b']');
}

fn piece(value: &impl Serialize) -> Result<Box<[u8]>, serde_json::Error> {
    let mut bytes = go_json::to_vec(value)?;
    // The newline belongs to the file's end.
    bytes.pop();
    Ok(bytes.into_boxed_slice())
}
