//! Whatever bytes arrive, reading them ends, and never in a panic.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use crate::fuzzing::{read_all, sound};

#[test]
fn sound_messages_are_all_found() {
    for (name, messages, datagram) in sound() {
        assert_eq!(read_all(&datagram), messages, "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(datagram in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_all(&datagram);
    }

    #[test]
    fn damaged_messages_are_read_without_a_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        end in any::<prop::sample::Index>(),
    ) {
        let mut datagram: Vec<u8> = sound().into_iter().flat_map(|(_, _, datagram)| datagram).collect();
        for (at, byte) in damage {
            let at = at.index(datagram.len());
            datagram[at] = byte;
        }
        datagram.truncate(end.index(datagram.len()) + 1);
        let _ = read_all(&datagram);
    }

    #[test]
    fn any_body_under_any_kind_is_read_without_a_panic(
        kind in prop_oneof![16_u16..40, 0xa00_u16..0xa20, 0_u16..4],
        flags in any::<u16>(),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut datagram = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        datagram.extend(kind.to_ne_bytes());
        datagram.extend(flags.to_ne_bytes());
        datagram.extend([0; 8]);
        datagram.extend(body);
        prop_assert_eq!(read_all(&datagram), 1);
    }
}
