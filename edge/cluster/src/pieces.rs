//! Lists and watches cut into objects while they arrive, so that only one object at a time is in memory.
//!
//! ```text
//!   list:   {"metadata": {...}, "items": [ {...}, {...} ]}     each {...} on its own; the rest, without items, at the end
//!   watch:  {"type": ..., "object": {...}}\n{...}\n            each line on its own
//! ```

/// Bytes of one object. etcd takes none larger than 1.5 MB; JSON may be somewhat longer.
const LARGEST_OBJECT: usize = 4 << 20;

/// Room that is kept between two objects; what a large one needed is given back.
const KEPT_ROOM: usize = 64 << 10;

/// An object is too long to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an object is longer than {LARGEST_OBJECT} bytes")]
pub(crate) struct TooLong;

/// Cuts the document of a list.
#[derive(Debug, Default)]
pub(crate) struct ListCutter {
    depth: u32,
    in_text: bool,
    escaped: bool,
    /// The text that was read last at the top level, and whether a colon made it the key of what follows.
    top_text: Vec<u8>,
    in_items: bool,
    item: Vec<u8>,
    rest: Vec<u8>,
}

impl ListCutter {
    /// Takes the next piece; `each` is called with every item that is complete.
    pub(crate) fn feed<E: From<TooLong>>(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for byte in piece {
            self.step(*byte);
            if self.in_items && self.depth == 2 && *byte == b'}' && !self.in_text {
                each(&self.item)?;
                self.item.clear();
                self.item.shrink_to(KEPT_ROOM);
            }
            if self.item.len() > LARGEST_OBJECT || self.rest.len() > LARGEST_OBJECT {
                return Err(TooLong.into());
            }
        }
        Ok(())
    }

    /// The document without its items.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }

    fn step(&mut self, byte: u8) {
        if self.in_text {
            self.keep(byte);
            self.inside_text(byte);
            return;
        }
        match byte {
            b'"' => {
                self.in_text = true;
                if self.depth == 1 {
                    self.top_text.clear();
                }
            }
            b'{' | b'[' => {
                let begins = byte == b'[' && self.depth == 1 && self.top_text == b"items";
                self.depth += 1;
                if begins {
                    self.rest.push(byte);
                    self.in_items = true;
                    return;
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.in_items && self.depth == 1 {
                    self.in_items = false;
                }
            }
            _ => {}
        }
        let between_items = self.in_items && self.depth == 2 && byte != b'}';
        if !between_items {
            self.keep(byte);
        }
    }

    fn inside_text(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.in_text = false;
                return;
            }
            _ => {}
        }
        if self.depth == 1 {
            self.top_text.push(byte);
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.in_items { self.item.push(byte) } else { self.rest.push(byte) }
    }
}

/// Cuts a watch.
#[derive(Debug, Default)]
pub(crate) struct LineCutter {
    line: Vec<u8>,
}

impl LineCutter {
    /// Takes the next piece; `each` is called with every line that is complete and not empty.
    pub(crate) fn feed<E: From<TooLong>>(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut parts = piece.split(|byte| *byte == b'\n');
        self.line.extend_from_slice(parts.next().unwrap_or_default());
        for part in parts {
            if !self.line.trim_ascii().is_empty() {
                each(&self.line)?;
            }
            self.line.clear();
            self.line.shrink_to(KEPT_ROOM);
            self.line.extend_from_slice(part);
        }
        if self.line.len() > LARGEST_OBJECT { Err(TooLong.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn cut(document: &str, size: usize) -> (Vec<Value>, Value) {
        let mut cutter = ListCutter::default();
        let mut items = Vec::new();
        for piece in document.as_bytes().chunks(size) {
            cutter
                .feed(piece, |item| {
                    items.push(serde_json::from_slice(item).unwrap());
                    Ok::<(), TooLong>(())
                })
                .unwrap();
        }
        (items, serde_json::from_slice(cutter.rest()).unwrap())
    }

    #[test]
    fn a_list_comes_in_its_objects_wherever_it_is_cut() {
        let item = |n: u32| json!({"n": n, "items": [{"no": [1, "]}"]}], "t": "a \"[{\\ }] \u{e9}"});
        let list = json!({
            "a": ["items", {"items": [{"not": "an item"}]}], "items": [item(1), item(2), item(3)],
            "kind": "items", "metadata": {"resourceVersion": "7", "items": [{}]},
        });
        for text in [list.to_string(), format!("{list:#}")] {
            for size in [1, 2, 3, 7, 64, 10_000] {
                let (items, rest) = cut(&text, size);
                assert_eq!(items, [item(1), item(2), item(3)], "pieces of {size}");
                assert_eq!((&rest["metadata"]["resourceVersion"], &rest["items"]), (&json!("7"), &json!([])));
                assert_eq!(rest["a"], list["a"]);
            }
        }
        // Go writes no list as null.
        assert_eq!(cut(r#"{"items":null,"metadata":{}}"#, 3).0, Vec::<Value>::new());
    }

    #[test]
    fn a_watch_comes_in_its_lines_wherever_it_is_cut() {
        let text = "{\"a\":1}\n\r\n{\"b\":\"x y\"}\n{\"half";
        for size in 1..text.len() {
            let mut lines = Vec::new();
            let mut cutter = LineCutter::default();
            for piece in text.as_bytes().chunks(size) {
                cutter
                    .feed(piece, |line| {
                        lines.push(String::from_utf8(line.to_vec()).unwrap());
                        Ok::<(), TooLong>(())
                    })
                    .unwrap();
            }
            assert_eq!(lines, ["{\"a\":1}", "{\"b\":\"x y\"}"], "pieces of {size}");
        }
    }

    #[test]
    fn what_never_ends_is_not_kept() {
        let piece = vec![b'x'; 1 << 20];
        let feed_lines = |cutter: &mut LineCutter| cutter.feed(&piece, |_| Ok::<(), TooLong>(()));
        let mut cutter = LineCutter::default();
        assert!((0..6).any(|_| feed_lines(&mut cutter) == Err(TooLong)));
        let mut cutter = ListCutter::default();
        cutter.feed(b"{\"items\":[{\"a\":\"", |_| Ok::<(), TooLong>(())).unwrap();
        assert!((0..6).any(|_| cutter.feed(&piece, |_| Ok::<(), TooLong>(())) == Err(TooLong)));
    }

    proptest! {
        /// Rubbish makes no panic and no item that was not there.
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::sample::select(b"{}[]\",:\\items n1".to_vec()), 0..200)) {
            let mut cutter = ListCutter::default();
            let mut total = 0;
            cutter.feed(&bytes, |item| { total += item.len(); Ok::<(), TooLong>(()) }).unwrap();
            prop_assert!(total <= bytes.len());
        }
    }
}
