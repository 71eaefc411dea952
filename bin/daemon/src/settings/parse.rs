//! How the reference reads its values, corner by corner. Each function is pure and knows nothing of names and defaults.

use ipnet::{IpNet, Ipv4Net};

/// A boolean as Go's `strconv.ParseBool` takes it: eleven spellings and no blanks. `yes`, `on` and `TrUe` are not among them.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A base-10 integer with an optional sign: no blanks, no underscores.
#[must_use]
pub fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// An integer whose base its prefix tells (`0x`, `0o` or `0`, `0b`, else decimal), with an optional sign and, as Go allows
/// with a detected base, single underscores between digits or after the prefix.
#[must_use]
pub fn integer_any_base(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, rest) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        // The 0 is prefix and digit: an underscore may follow it.
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let prefixed = base != 10;
    let misplaced = rest.ends_with('_') || rest.contains("__") || (rest.starts_with('_') && !prefixed);
    let plain: String = rest.chars().filter(|c| *c != '_').collect();
    if misplaced || plain.starts_with(['+', '-']) {
        return None;
    }
    let magnitude = i64::from_str_radix(&plain, base).ok()?;
    Some(if negative { -magnitude } else { magnitude })
}

/// What became of a list of networks: those understood, canonical and in order, and the items left out, each with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Understood, host bits cleared.
    pub taken: Vec<Ipv4Net>,
    /// Left out: the item as written and why.
    pub skipped: Vec<(String, &'static str)>,
}

/// A comma-separated list of IPv4 networks. Items are trimmed; a bad one is left out and the others stay.
#[must_use]
pub fn networks(text: &str) -> Networks {
    let mut list = Networks::default();
    if text.is_empty() {
        return list;
    }
    for item in text.split(',').map(str::trim) {
        match item.parse::<IpNet>() {
            Ok(IpNet::V4(net)) => list.taken.push(net.trunc()),
            Ok(IpNet::V6(_)) => list.skipped.push((item.to_owned(), "an IPv6 network")),
            Err(_) => list.skipped.push((item.to_owned(), "not a network in CIDR notation")),
        }
    }
    list
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_go_s_eleven_words_and_nothing_else() {
        for yes in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(boolean(yes), Some(true), "{yes}");
        }
        for no in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(boolean(no), Some(false), "{no}");
        }
        for neither in ["", "TrUe", "yes", "on", " true", "true ", "2", "y"] {
            assert_eq!(boolean(neither), None, "{neither:?}");
        }
    }

    #[test]
    fn integers_are_decimal_with_an_optional_sign() {
        for (text, value) in [("0", 0), ("007", 7), ("+5", 5), ("-5", -5), ("9001", 9001)] {
            assert_eq!(integer(text), Some(value), "{text}");
        }
        for bad in ["", " 1", "1 ", "1_000", "0x10", "1.0", "+", "-", "abc", "9223372036854775808"] {
            assert_eq!(integer(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn integers_of_any_base_tell_it_by_their_prefix() {
        for (text, value) in [
            ("0x80", 0x80),
            ("0X80", 0x80),
            ("128", 128),
            ("0200", 0o200),
            ("0o200", 0o200),
            ("0b1000_0000", 0x80),
            ("0x_80", 0x80),
            ("0_1", 1),
            ("-0x80", -0x80),
            ("+1", 1),
            ("0", 0),
            ("1_000", 1000),
            ("0x100000000", 0x1_0000_0000),
        ] {
            assert_eq!(integer_any_base(text), Some(value), "{text}");
        }
        for bad in ["", "0x", "_1", "1_", "1__0", "0x8g", "--1", "+-1", "0x-1", "08", " 1", "80h"] {
            assert_eq!(integer_any_base(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_list_of_networks_keeps_the_good_ones_and_names_the_others() {
        let list = networks("10.1.2.3/8, bad ,2001:db8::/32,192.168.0.0/16");
        assert_eq!(list.taken, ["10.0.0.0/8".parse().unwrap(), "192.168.0.0/16".parse().unwrap()]);
        assert_eq!(list.skipped.iter().map(|(item, _)| item.as_str()).collect::<Vec<_>>(), ["bad", "2001:db8::/32"]);
        assert_eq!(networks(""), Networks::default());
        assert_eq!(networks("10.0.0.1").skipped.len(), 1, "an address without a length is not a network");
        assert_eq!(networks("10.0.0.0/8,").skipped.len(), 1, "an empty item is named too");
    }
}
