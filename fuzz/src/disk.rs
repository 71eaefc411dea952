//! What the daemon finds on its disk.

use vpc_wire::checkpoint::{Checkpoint, Text};

/// `ipam.json`: what is taken is written and read again the same, as a whole and in pieces.
pub fn checkpoint(data: &[u8]) {
    let mut read = match Checkpoint::from_bytes(data) {
        Ok(read) => read,
        Err(error) => {
            let _ = error.to_string();
            return;
        }
    };
    let whole = read.to_bytes().expect("a checkpoint is written");
    assert_eq!(Checkpoint::from_bytes(&whole).expect("what was written can be read"), read);

    let mut pieces = Vec::new();
    Text::of(&read).expect("a checkpoint is written").render(read.generation, &mut pieces);
    // In pieces the order is that of the addresses.
    read.allocations.sort_by_key(|allocation| allocation.address);
    read.cooling.sort_by_key(|cooling| cooling.address);
    assert_eq!(String::from_utf8_lossy(&pieces), String::from_utf8_lossy(&read.to_bytes().expect("written before")));
}
