//! Bodies in protobuf, read into JSON. Typed clients of today send them for every kind that is built in, and do not fall back.
//!
//! `fields.tsv` says which fields the messages have; it is made from the tags of Kubernetes' own Go types by
//! `tests/strangers/kube/clients fields`, and a test compares the two. Answers are never in protobuf.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use vpc_model::WallTime;

use crate::error::KubeError;
use crate::object;

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What a body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Messages in messages at most: no kind is as deep as this.
const DEEPEST: usize = 32;

/// One field of a message.
#[derive(Debug)]
struct Field {
    /// Its name in JSON.
    name: &'static str,
    kind: &'static str,
    repeated: bool,
    map: bool,
    /// Its own fields stand in the object around it.
    inline: bool,
    /// It says whether it is there: kept even if it is empty.
    pointer: bool,
    /// Left out of JSON if it is empty.
    omit_empty: bool,
}

#[derive(Debug, Default)]
struct Tables {
    /// Message of `apiVersion/kind`.
    kinds: HashMap<&'static str, &'static str>,
    messages: HashMap<(&'static str, u64), Field>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| read_tables(include_str!("fields.tsv")));

fn read_tables(text: &'static str) -> Tables {
    let mut tables = Tables::default();
    for line in text.lines() {
        let [message, number, name, kind, flags] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
        match number.parse().unwrap_or(0) {
            0 => _ = tables.kinds.insert(message, kind),
            number => {
                let has = |flag: char| flags.contains(flag);
                let field = Field {
                    name,
                    kind,
                    repeated: has('r'),
                    map: has('m'),
                    inline: has('i'),
                    pointer: has('p'),
                    omit_empty: has('o'),
                };
                tables.messages.insert((message, number), field);
            }
        }
    }
    tables
}

/// A body as JSON.
///
/// # Errors
/// It is no protobuf, or of a kind whose messages are not known.
pub(crate) fn read(body: &[u8]) -> Result<Value, KubeError> {
    let envelope = body.strip_prefix(MAGIC).ok_or_else(|| bad("it does not begin with `k8s`"))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for entry in Entries(envelope) {
        match entry? {
            (1, Wire::Bytes(type_meta)) => {
                for entry in Entries(type_meta) {
                    match entry? {
                        (1, Wire::Bytes(text)) => api_version = utf8(text)?,
                        (2, Wire::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    // Every group has options of this name; they are one and the same.
    let key = if kind == "DeleteOptions" { "v1/DeleteOptions".to_owned() } else { format!("{api_version}/{kind}") };
    let message = TABLES.kinds.get(key.as_str());
    let message = message.ok_or_else(|| KubeError::UnsupportedMediaType(vec!["application/json"]))?;
    let mut object = Map::new();
    read_message(message, raw, &mut object, 0)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}

/// Reads a message into an object.
fn read_message(
    message: &'static str,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), KubeError> {
    if depth > DEEPEST {
        return Err(bad("its messages are too deep"));
    }
    for entry in Entries(bytes) {
        let (number, wire) = entry?;
        // Fields of a later version are passed over, as protobuf means it.
        let Some(field) = TABLES.messages.get(&(message, number)) else { continue };
        if field.inline {
            read_message(field.kind, wire.bytes()?, object, depth + 1)?;
        } else if field.map {
            let (name, value) = read_map_entry(field, wire.bytes()?, depth)?;
            if let Some(map) = object.entry(field.name).or_insert_with(|| json!({})).as_object_mut() {
                map.insert(name, value);
            }
        } else if field.repeated {
            let value = read_value(field.kind, &wire, depth)?;
            if let Some(list) = object.entry(field.name).or_insert_with(|| json!([])).as_array_mut() {
                list.push(value);
            }
        } else {
            let value = read_value(field.kind, &wire, depth)?;
            if field.pointer || !field.omit_empty || !is_empty(&value) {
                object.insert(field.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn read_map_entry(field: &Field, bytes: &[u8], depth: usize) -> Result<(String, Value), KubeError> {
    let (mut name, mut value) = (String::new(), None);
    for entry in Entries(bytes) {
        match entry? {
            (1, wire) => name = utf8(wire.bytes()?)?,
            (2, wire) => value = Some(read_value(field.kind, &wire, depth)?),
            _ => {}
        }
    }
    Ok((name, value.unwrap_or_else(|| json!(""))))
}

fn read_value(kind: &'static str, wire: &Wire<'_>, depth: usize) -> Result<Value, KubeError> {
    Ok(match kind {
        "string" => json!(utf8(wire.bytes()?)?),
        "bytes" => json!(STANDARD.encode(wire.bytes()?)),
        "bool" => json!(wire.number()? != 0),
        "int" => json!(wire.number()?.cast_signed()),
        "strings" => {
            let items = Entries(wire.bytes()?).map(|entry| utf8(entry?.1.bytes()?));
            json!(items.collect::<Result<Vec<_>, _>>()?)
        }
        "quantity" => json!(first_text(wire.bytes()?)?),
        "json" => match first_text(wire.bytes()?)?.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|error| bad(&error.to_string()))?,
        },
        "time" | "microtime" => read_time(wire.bytes()?, kind == "microtime")?,
        "intorstring" => read_int_or_string(wire.bytes()?)?,
        message => {
            let mut object = Map::new();
            read_message(message, wire.bytes()?, &mut object, depth + 1)?;
            Value::Object(object)
        }
    })
}

/// The text in the first field of a message.
fn first_text(bytes: &[u8]) -> Result<String, KubeError> {
    for entry in Entries(bytes) {
        if let (1, wire) = entry? {
            return utf8(wire.bytes()?);
        }
    }
    Ok(String::new())
}

/// Seconds and nanoseconds since 1970; nothing at all, or the first year, is no time.
fn read_time(bytes: &[u8], micro: bool) -> Result<Value, KubeError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    for entry in Entries(bytes) {
        match entry? {
            (1, wire) => seconds = wire.number()?.cast_signed(),
            (2, wire) => nanos = wire.number()?.cast_signed(),
            _ => {}
        }
    }
    if seconds <= 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let text = object::timestamp(WallTime(seconds.saturating_mul(1_000_000_000)));
    if !micro {
        return Ok(json!(text));
    }
    Ok(json!(format!("{}.{:06}Z", text.trim_end_matches('Z'), nanos.clamp(0, 999_999_999) / 1000)))
}

fn read_int_or_string(bytes: &[u8]) -> Result<Value, KubeError> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for entry in Entries(bytes) {
        match entry? {
            (1, wire) => is_text = wire.number()? == 1,
            (2, wire) => number = wire.number()?.cast_signed(),
            (3, wire) => text = utf8(wire.bytes()?)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(number) })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(yes) => !yes,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, KubeError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| bad("a text is not UTF-8"))
}

fn bad(why: &str) -> KubeError {
    KubeError::BadRequest(format!("the body is not protobuf as Kubernetes writes it: {why}"))
}

// -- the wire ------------------------------------------------------------------------------------------------------------

/// The value of a field on the wire.
#[derive(Debug)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn bytes(&self) -> Result<&'a [u8], KubeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(bad("a number stands where a text or a message belongs")),
        }
    }

    fn number(&self) -> Result<u64, KubeError> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Bytes(_) => Err(bad("a text or a message stands where a number belongs")),
        }
    }
}

/// The fields of a message, in the order of the wire.
struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(u64, Wire<'a>), KubeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.entry();
        if entry.is_none() {
            // Nothing after a fault means anything.
            self.0 = &[];
        }
        Some(entry.ok_or_else(|| bad("it ends in the middle of a field")))
    }
}

impl<'a> Entries<'a> {
    fn entry(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Number(u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?))),
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let byte = (number & 0x7f) as u8;
            number >>= 7;
            if number == 0 {
                bytes.push(byte);
                return bytes;
            }
            bytes.push(byte | 0x80);
        }
    }

    fn bytes(number: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
        let value = value.as_ref();
        [varint(number << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }

    fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    fn envelope(api_version: &str, kind: &str, raw: Vec<u8>) -> Vec<u8> {
        let type_meta = [bytes(1, api_version), bytes(2, kind)].concat();
        [MAGIC.to_vec(), bytes(1, type_meta), bytes(2, raw), bytes(3, ""), bytes(4, "")].concat()
    }

    #[test]
    fn a_lease_is_what_it_is_in_json() {
        let metadata = [
            bytes(1, "node-a"),
            bytes(3, "kube-node-lease"),
            bytes(11, [bytes(1, "k"), bytes(2, "v")].concat()),
            // What no client sets: the zero of a time.
            bytes(8, ""),
        ];
        let renewed = [number(1, 1_767_225_600), number(2, 123_456_000)].concat();
        let spec = [bytes(1, "me"), number(2, 40), bytes(4, renewed)].concat();
        let body = envelope("coordination.k8s.io/v1", "Lease", [bytes(1, metadata.concat()), bytes(2, spec)].concat());
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "node-a", "namespace": "kube-node-lease", "labels": {"k": "v"}},
            "spec": {"holderIdentity": "me", "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.123456Z"},
        });
        assert_eq!(read(&body), Ok(lease));
    }

    #[test]
    fn volumes_stand_in_their_object_and_empty_sources_stay() {
        let volume = [bytes(1, "tmp"), bytes(2, bytes(2, ""))].concat();
        let body = envelope("v1", "Pod", bytes(2, [bytes(1, volume), number(4, 0), number(11, 0)].concat()));
        let pod = read(&body).unwrap();
        assert_eq!(pod["spec"]["volumes"], json!([{"name": "tmp", "emptyDir": {}}]));
        // A pointer keeps its zero, a plain flag does not.
        assert_eq!((&pod["spec"]["terminationGracePeriodSeconds"], pod["spec"].get("hostNetwork")), (&json!(0), None));
    }

    #[test]
    fn what_is_broken_or_unknown_is_refused() {
        assert!(matches!(read(b"{}"), Err(KubeError::BadRequest(_))));
        assert!(matches!(read(&envelope("v1", "Pod", vec![0x0a, 0x7f])), Err(KubeError::BadRequest(_))));
        assert!(matches!(read(&envelope("v1", "Pod", number(1, 3))), Err(KubeError::BadRequest(_))));
        let unknown = read(&envelope("batch/v1", "Job", Vec::new()));
        assert!(matches!(unknown, Err(KubeError::UnsupportedMediaType(_))));
    }
}
