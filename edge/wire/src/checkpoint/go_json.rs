//! JSON as Go's `encoding/json` writes it: compact, with `<`, `>`, `&` and the two line separators of Unicode escaped, a newline at
//! the end. The reference compares and greps such bytes; so may people's scripts.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Serialises `value` as Go's `json.Encoder` would.
pub(super) fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(1024);
    value.serialize(&mut Serializer::with_formatter(&mut out, GoFormatter))?;
    out.push(b'\n');
    Ok(out)
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            let Some(letter) = special.chars().next() else { break };
            CompactFormatter.write_string_fragment(writer, plain)?;
            write!(writer, "\\u{:04x}", u32::from(letter))?;
            rest = &special[letter.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        for (text, json) in [
            ("<a&b>", r#""\u003ca\u0026b\u003e""#),
            ("\u{2028}\u{2029}é", "\"\\u2028\\u2029é\""),
            (
                "tab\t nl\n cr\r bs\u{8} ff\u{c} nul\0 esc\u{1b} del\u{7f} \" \\ /",
                "\"tab\\t nl\\n cr\\r bs\\b ff\\f nul\\u0000 esc\\u001b del\u{7f} \\\" \\\\ /\"",
            ),
        ] {
            assert_eq!(String::from_utf8(to_vec(&text).unwrap()).unwrap(), format!("{json}\n"), "{text:?}");
        }
    }
}
