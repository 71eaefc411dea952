//! Objects are JSON. This is what every kind of them has: metadata, names, and times as text.

use serde_json::{Map, Value, json};
use vpc_model::WallTime;

use crate::error::{Cause, CauseReason};

/// The text at a JSON pointer; empty if there is none.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`.
#[must_use]
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`; empty for objects of the cluster.
#[must_use]
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `metadata.resourceVersion` as a number; `None` if there is none or it is not one of ours.
#[must_use]
pub fn resource_version(object: &Value) -> Option<u64> {
    text(object, "/metadata/resourceVersion").parse().ok()
}

/// Whether its deletion has begun.
#[must_use]
pub fn deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null())
}

/// Sets a field of the metadata.
pub(crate) fn set_metadata(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(metadata) = metadata(object) {
        metadata.insert(field.to_owned(), value.into());
    }
}

pub(crate) fn remove_metadata(object: &mut Value, field: &str) {
    if let Some(metadata) = metadata(object) {
        metadata.remove(field);
    }
}

/// The metadata, made if it is missing; `None` if the object is none.
pub(crate) fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let object = object.as_object_mut()?;
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut()
}

pub(crate) fn has_finalizers(object: &Value) -> bool {
    object.pointer("/metadata/finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// What a name must look like: a DNS subdomain (RFC 1123) of at most 253 characters.
pub(crate) fn check_subdomain(name: &str, field: &str) -> Option<Cause> {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    };
    let good = name.len() <= 253 && name.split('.').all(label);
    (!good).then(|| {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                    must start and end with an alphanumeric character, and have at most 253 characters";
        Cause::new(field, CauseReason::Invalid, format!("\"{name}\": {rule}"))
    })
}

/// What labels may look like: keys with an optional prefix, values of at most 63 characters.
pub(crate) fn check_labels(object: &Value) -> Vec<Cause> {
    let Some(labels) = object.pointer("/metadata/labels").and_then(Value::as_object) else { return Vec::new() };
    let wrong = labels.iter().filter_map(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        let name = key.rsplit('/').next().unwrap_or_default();
        let good = !name.is_empty() && is_label_text(name) && is_label_text(value);
        (!good).then(|| {
            let rule = "a label must consist of alphanumeric characters, '-', '_' or '.', start and end with an \
                        alphanumeric character, and have at most 63 characters";
            Cause::new("metadata.labels", CauseReason::Invalid, format!("\"{key}={value}\": {rule}"))
        })
    });
    wrong.collect()
}

fn is_label_text(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `2026-01-31T12:00:00Z`: a time of the metadata, in whole seconds.
#[must_use]
pub fn timestamp(time: WallTime) -> String {
    let seconds = time.0.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Seconds since 1970 of an RFC 3339 time in UTC; `None` if it is not one.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let good = text.ends_with('Z') && text.get(4..5) == Some("-") && text.get(10..11) == Some("T");
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    good.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar; years begin in March for the reckoning.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_kubernetes_writes_them_and_read_back() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_254_896, "2026-11-21T09:54:56Z"),
        ] {
            assert_eq!(timestamp(WallTime(seconds * 1_000_000_000)), text);
            assert_eq!(parse_timestamp(text), Some(seconds));
        }
        assert_eq!(parse_timestamp("2026-11-21T09:54:56.123456Z"), Some(1_795_254_896));
        assert_eq!(parse_timestamp("yesterday"), None);
    }

    #[test]
    fn names_are_dns_subdomains() {
        for good in ["a", "node-1", "ip-10-0-0-1.ec2.internal"] {
            assert_eq!(check_subdomain(good, "metadata.name"), None, "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a..b", "a_b", "a/b"] {
            assert!(check_subdomain(bad, "metadata.name").is_some(), "{bad}");
        }
    }
}
