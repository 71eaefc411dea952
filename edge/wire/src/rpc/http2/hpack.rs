//! Header fields as HTTP/2 sends them (HPACK, RFC 7541): all of it for reading, the plainest form for writing.

use std::collections::VecDeque;

use super::huffman;

/// A field's name and value. Both are octets; names are lower-case ASCII with everyone who keeps to the standard.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// Most octets the fields of both peers' tables may have, each with 32 more (RFC 7540, 6.5.2: the initial size of the table).
const TABLE_SIZE: usize = 4096;
const FIELD_OVERHEAD: usize = 32;

/// The fields everybody knows (RFC 7541, appendix A).
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""),
    ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

/// Writes a field that no table remembers, as it is.
pub(super) fn encode(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    for text in [name, value] {
        integer(out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

/// An integer behind a prefix of seven bits, the eighth being zero.
fn integer(out: &mut Vec<u8>, value: usize) {
    const MOST: usize = 0x7f;
    if value < MOST {
        out.push(value as u8);
        return;
    }
    out.push(MOST as u8);
    let mut rest = value - MOST;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads what one peer writes; it remembers fields from block to block.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest first.
    table: VecDeque<Field>,
    size: usize,
    /// What the peer has said it will keep to, at most [`TABLE_SIZE`].
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), size: 0, limit: TABLE_SIZE }
    }
}

impl Decoder {
    /// The fields of a whole block. `None`: it is none, and nothing that follows can be read either.
    pub(super) fn block(&mut self, block: &[u8]) -> Option<Vec<Field>> {
        let mut reader = Reader(block);
        let mut fields = Vec::with_capacity(8);
        while let Some(first) = reader.peek() {
            match first {
                0x80.. => fields.push(self.known(reader.integer(7)?)?),
                0x40..0x80 => {
                    let field = self.literal(&mut reader, 6)?;
                    self.remember(field.clone());
                    fields.push(field);
                }
                0x20..0x40 => {
                    self.limit = reader.integer(5).filter(|limit| *limit <= TABLE_SIZE)?;
                    self.forget(self.limit);
                }
                _ => fields.push(self.literal(&mut reader, 4)?),
            }
        }
        Some(fields)
    }

    fn literal(&self, reader: &mut Reader<'_>, prefix: u32) -> Option<Field> {
        let name = match reader.integer(prefix)? {
            0 => reader.text()?,
            index => self.known(index)?.0,
        };
        Some((name, reader.text()?))
    }

    fn known(&self, index: usize) -> Option<Field> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((name, value)) => Some((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.table.get(index - STATIC.len()).cloned(),
        }
    }

    fn remember(&mut self, field: Field) {
        let size = size_of_field(&field);
        self.forget(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.size += size;
            self.table.push_front(field);
        }
    }

    fn forget(&mut self, down_to: usize) {
        while self.size > down_to {
            let Some(oldest) = self.table.pop_back() else { return };
            self.size -= size_of_field(&oldest);
        }
    }
}

fn size_of_field((name, value): &Field) -> usize {
    name.len() + value.len() + FIELD_OVERHEAD
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An integer behind a prefix of so many bits.
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let most = (1_usize << prefix) - 1;
        let mut value = usize::from(self.octet()?) & most;
        if value < most {
            return Some(value);
        }
        // Four octets more are 268 million: no table, text or block has so many.
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            value += usize::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let coded = self.peek()? >= 0x80;
        let length = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        if coded { huffman::decode(text) } else { Some(text.to_vec()) }
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

    fn read(decoder: &mut Decoder, block: &str) -> Vec<String> {
        let fields = decoder.block(&hex(block)).unwrap();
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    /// RFC 7541, appendix C.4: three requests on one connection, with Huffman codes and a table that grows.
    #[test]
    fn the_standard_s_requests_are_read_one_after_the_other() {
        let mut decoder = Decoder::default();
        let first = read(&mut decoder, "828684418cf1e3c2e5f23a6ba0ab90f4ff");
        assert_eq!(first, [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"]);
        let second = read(&mut decoder, "828684be5886a8eb10649cbf");
        assert_eq!(second[3..], [":authority: www.example.com", "cache-control: no-cache"]);
        let third = read(&mut decoder, "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf");
        assert_eq!(third[2..], [":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"]);
        assert_eq!(decoder.size, 164);
    }

    /// A table of another size, entries that fall out of it, one that does not fit at all.
    #[test]
    fn a_table_holds_what_its_size_allows() {
        let mut decoder = Decoder::default();
        // Size 100; then two fields of 3 + 3 + 32, which fit, and a third, which drives the first one out.
        let block = "3f454003616161036262624003636363036464644003656565".to_owned() + "03666666";
        assert_eq!(read(&mut decoder, &block), ["aaa: bbb", "ccc: ddd", "eee: fff"]);
        assert_eq!((decoder.table.len(), decoder.size), (2, 76));
        // 62 is the newest.
        assert_eq!(read(&mut decoder, "bebf"), ["eee: fff", "ccc: ddd"]);
        assert_eq!(decoder.block(&hex("c0")), None);
        // One of 233 octets empties the table and is not in it.
        let long = "4001617f49".to_owned() + &"61".repeat(200);
        assert_eq!(decoder.block(&hex(&long)).unwrap().len(), 1);
        assert!(decoder.table.is_empty() && decoder.size == 0);
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 126, 127, 128, 254, 255, 256, 20_000] {
            let (name, value) = ("grpc-timeout", "x".repeat(length));
            let mut block = Vec::new();
            encode(&mut block, name, &value);
            let read = Decoder::default().block(&block).unwrap();
            assert_eq!(read, [(name.as_bytes().to_vec(), value.into_bytes())], "{length}");
        }
    }

    #[test]
    fn rubbish_is_refused_and_nothing_panics() {
        for block in ["80", "be", "ff", "ffffffffffff7f", "40", "4001", "400161", "3fe21f", "00ff", "0001", "4082ffff"]
        {
            assert_eq!(Decoder::default().block(&hex(block)), None, "{block}");
        }
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let block: Vec<u8> = (0..24)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state as u8
                })
                .collect();
            let mut decoder = Decoder::default();
            let _ = decoder.block(&block);
            assert!(decoder.size <= TABLE_SIZE);
        }
    }
}
