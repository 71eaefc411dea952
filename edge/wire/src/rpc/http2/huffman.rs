//! The Huffman code of HPACK (RFC 7541, appendix B).
//!
//! The code is canonical: of two symbols the one with the shorter code, or of the same length the smaller one, has the smaller code. So the
//! lengths say everything.

/// Symbols: the octets and the end of a text, which is only ever there in parts, as padding.
const SYMBOLS: usize = 257;
const END: u16 = 256;
/// Bits of the longest code.
const LONGEST: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// How many symbols have codes of each length.
const COUNTS: [u32; LONGEST + 1] = {
    let mut counts = [0; LONGEST + 1];
    let mut symbol = 0;
    while symbol < SYMBOLS {
        counts[LENGTHS[symbol] as usize] += 1;
        symbol += 1;
    }
    counts
};

/// The symbols in the order of their codes.
const IN_ORDER: [u16; SYMBOLS] = {
    let mut sorted = [0; SYMBOLS];
    let (mut length, mut at) = (1, 0);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                sorted[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    sorted
};

/// The text behind a code; `None` for what is none (the end in the middle, a padding that is too long or not of ones).
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(coded.len() * 2);
    let mut walk = Walk::default();
    for bit in coded.iter().flat_map(|octet| (0..8).rev().map(move |at| u32::from(octet >> at & 1))) {
        match walk.step(bit)? {
            None => {}
            Some(END) => return None,
            Some(symbol) => text.push(u8::try_from(symbol).ok()?),
        }
    }
    (walk.length < 8 && walk.all_ones).then_some(text)
}

/// The way through the code from one symbol to the next.
struct Walk {
    code: u32,
    length: usize,
    all_ones: bool,
    /// The first code of this length, and how many symbols have shorter ones.
    first: u32,
    before: u32,
}

impl Default for Walk {
    fn default() -> Self {
        Self { code: 0, length: 0, all_ones: true, first: 0, before: 0 }
    }
}

impl Walk {
    /// One bit further; the symbol that ends with it. `None`: no code begins like this.
    fn step(&mut self, bit: u32) -> Option<Option<u16>> {
        self.before += COUNTS[self.length];
        self.first = (self.first + COUNTS[self.length]) << 1;
        self.length += 1;
        self.code = self.code << 1 | bit;
        self.all_ones &= bit == 1;
        if self.length > LONGEST {
            return None;
        }
        let Some(at) = self.code.checked_sub(self.first).filter(|at| *at < COUNTS[self.length]) else {
            return Some(None);
        };
        let symbol = IN_ORDER.get((self.before + at) as usize).copied()?;
        *self = Self::default();
        Some(Some(symbol))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Texts of RFC 7541, appendix C.
    #[test]
    fn the_standard_s_examples_are_read() {
        for (coded, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
            (
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            assert_eq!(String::from_utf8(decode(&hex(coded)).unwrap()).unwrap(), text);
        }
        assert_eq!(decode(&[]), Some(Vec::new()));
    }

    #[test]
    fn each_symbol_has_the_code_the_standard_gives_it() {
        // Some of each length, from the ends of the table.
        for (code, length, symbol) in [
            (0x0, 5, b'0'),
            (0x9, 5, b't'),
            (0x14, 6, b' '),
            (0x2d, 6, b'u'),
            (0x5c, 7, b':'),
            (0x7b, 7, b'z'),
            (0xfd, 8, b'Z'),
            (0x3f8, 10, b'!'),
            (0x1ff8, 13, 0),
            (0x7fff0, 19, b'\\'),
            (0x3ff_ffee, 26, 255),
            (0x3fff_fffe, 30, 22),
        ] {
            let mut walk = Walk::default();
            let bits: Vec<_> = (0..length).rev().map(|at| walk.step(code >> at & 1).unwrap()).collect();
            assert_eq!(bits.last().unwrap(), &Some(u16::from(symbol)), "{code:#x}");
            assert!(bits[..bits.len() - 1].iter().all(Option::is_none), "{code:#x}");
        }
    }

    #[test]
    fn rubbish_is_no_text() {
        // The end of a text; a padding of a whole octet; a padding with a zero in it.
        for coded in [vec![0xff; 4], vec![0x07, 0xff], vec![0x00, 0b0001_0000 & 0xfe, 0b1000_0000]] {
            let read = decode(&coded);
            assert!(read.is_none() || coded[0] == 0, "{coded:?} gives {read:?}");
        }
        assert_eq!(decode(&[0xff]), None);
        assert_eq!(decode(&[0b0000_0110]), None);
    }
}
