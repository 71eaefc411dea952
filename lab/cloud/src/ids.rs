//! Ids, MACs and credentials made from names or from the seed.

use std::str::FromStr;

/// A well-spread 64-bit digest (FNV-1a, then a finisher): for ids, not for secrets.
pub(crate) fn hash64(kind: &str, name: &str) -> u64 {
    let fnv = kind
        .bytes()
        .chain([0])
        .chain(name.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Parses an id this crate composed from its prefix and hexadecimal digits, which is well formed by construction.
pub(crate) fn checked<T: FromStr>(text: &str) -> T {
    match text.parse() {
        Ok(id) => id,
        Err(_) => unreachable!("an id made of its prefix and digits is well formed: {text}"),
    }
}
