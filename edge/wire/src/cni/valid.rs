//! What a runtime tells with GC: the attachments that are valid, under the key `cni.dev/valid-attachments` of the configuration.

use std::collections::BTreeSet;

use serde_json::Value;
use vpc_model::LinkName;

use super::env::{is_identifier, shown};
use super::result::{kind, members};
use super::{CniError, ErrorCode};

/// The key. (CNI specification 1.1.0, "GC: Clean up any stale resources".)
const KEY: &str = "cni.dev/valid-attachments";

/// One attachment: a container and its interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValidAttachment {
    /// `containerID`.
    pub container: String,
    /// `ifname`.
    pub interface: String,
}

impl ValidAttachment {
    /// Reads the list out of a configuration. An empty list says that nothing is valid; a list that is missing says nothing, and an
    /// entry that can not be read might be of a pod that runs: neither must end a lease.
    ///
    /// # Errors
    /// Code 6: not JSON, or a value of the wrong type. Code 7: the key is missing or `null`, or a value is empty.
    pub fn parse_list(bytes: &[u8]) -> Result<BTreeSet<Self>, CniError> {
        let value: Value = super::config::parse_json(bytes)?;
        let conf =
            members(&value).map_err(|found| decode(format!("standard input holds {found}: expected a JSON object")))?;
        let list = match conf.get(KEY) {
            None => return Err(refuse(format!("`{KEY}` is missing"))),
            Some(Value::Null) => return Err(refuse(format!("`{KEY}` is null"))),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(decode(format!("`{KEY}` is {}: expected a list", kind(other)))),
        };
        list.iter().enumerate().map(|(at, entry)| Self::parse(at, entry)).collect()
    }

    fn parse(at: usize, entry: &Value) -> Result<Self, CniError> {
        let place = format!("`{KEY}` entry {at}");
        let entry = members(entry).map_err(|found| decode(format!("{place} is {found}: expected an object")))?;
        let text = |key: &str| match entry.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            None | Some(Value::Null | Value::String(_)) => Err(refuse(format!("{place} has no `{key}`"))),
            Some(other) => Err(decode(format!("{place}: `{key}` is {}: expected a text", shown(&other.to_string())))),
        };
        let (container, interface) = (text("containerID")?, text("ifname")?);
        // Nobody's: whoever wrote it meant another, which is not listed then.
        if !is_identifier(&container) {
            return Err(refuse(format!("{place}: `containerID` is `{}`, which is no container id", shown(&container))));
        }
        if interface.parse::<LinkName>().is_err() {
            return Err(refuse(format!(
                "{place}: `ifname` is `{}`, which is no name of an interface",
                shown(&interface)
            )));
        }
        Ok(Self { container, interface })
    }
}

fn decode(msg: String) -> CniError {
    CniError::new(ErrorCode::Decode, msg + "; nothing is released")
}

fn refuse(msg: String) -> CniError {
    let expected = "expected the list of valid attachments ([] = none is valid), each with `containerID` and `ifname`";
    CniError::new(ErrorCode::BadConfig, format!("{msg}: {expected}; nothing is released"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(list: &str) -> Result<Vec<(String, String)>, CniError> {
        let conf = format!(r#"{{"name":"aws-cni","cniVersion":"1.1.0"{list}}}"#);
        let found = ValidAttachment::parse_list(conf.as_bytes())?;
        Ok(found.into_iter().map(|one| (one.container, one.interface)).collect())
    }

    #[test]
    fn a_list_is_read_and_an_empty_one_says_that_nothing_is_valid() {
        let two = r#","cni.dev/valid-attachments":[{"containerID":"b","ifname":"eth0"},{"containerID":"a","ifname":"net1","x":1}]"#;
        assert_eq!(read(two).unwrap(), [("a".to_owned(), "net1".to_owned()), ("b".to_owned(), "eth0".to_owned())]);
        assert_eq!(read(r#","cni.dev/valid-attachments":[]"#).unwrap(), []);
    }

    #[test]
    fn what_is_no_list_is_refused_and_never_read_as_an_empty_one() {
        for (list, code, words) in [
            ("", 7, "`cni.dev/valid-attachments` is missing"),
            // The name an older library gave it tells nothing.
            (r#","cni.dev/attachments":[]"#, 7, "is missing"),
            (r#","cni.dev/valid-attachments":null"#, 7, "is null"),
            (r#","cni.dev/valid-attachments":{}"#, 6, "expected a list"),
            (r#","cni.dev/valid-attachments":"""#, 6, "expected a list"),
            (r#","cni.dev/valid-attachments":["a"]"#, 6, "entry 0 is"),
            (
                r#","cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"},{"containerID":"b"}]"#,
                7,
                "entry 1 has no `ifname`",
            ),
            (r#","cni.dev/valid-attachments":[{"containerID":"","ifname":"eth0"}]"#, 7, "no `containerID`"),
            (r#","cni.dev/valid-attachments":[{"containerID":7,"ifname":"eth0"}]"#, 6, "`containerID` is 7"),
            (
                r#","cni.dev/valid-attachments":[{"containerID":"a/b","ifname":"eth0"}]"#,
                7,
                "`a/b`, which is no container id",
            ),
            (r#","cni.dev/valid-attachments":[{"containerID":"a","ifname":"e/0"}]"#, 7, "`e/0`, which is no name"),
        ] {
            let error = read(list).unwrap_err();
            assert_eq!(error.code as u32, code, "{list}: {error}");
            assert!(error.msg.contains(words) && error.msg.ends_with("nothing is released"), "{list}: {error}");
        }
    }
}
