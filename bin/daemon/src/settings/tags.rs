//! What our ENIs are marked with.

use std::collections::BTreeMap;

use super::reader::{Origin, Reader};
use super::values::EniTags;
use super::{Verdict, table as var};

/// Longest key of a tag, longest value, and most tags of one object, as EC2 has it.
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 256;
const MOST_TAGS: usize = 50;

/// Tags that we put on an ENI ourselves: instance, time of creation, and the cluster's two.
const OUR_TAGS: usize = 4;

pub(super) fn read(reader: &mut Reader<'_>) -> EniTags {
    EniTags { cluster: cluster(reader), more: more(reader) }
}

fn cluster(reader: &mut Reader<'_>) -> Option<String> {
    let understand = |text: &str| (text.chars().count() <= LONGEST_VALUE).then(|| text.to_owned());
    let name = reader.take(&var::CLUSTER_NAME, understand, String::clone, String::new());
    Some(name).filter(|name| !name.is_empty())
}

/// A JSON object of texts. One value that is not a text discards them all, as with the reference; a tag that EC2 would not take is
/// left out, since with it no ENI could be made at all.
fn more(reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let understand = |text: &str| serde_json::from_str::<BTreeMap<String, String>>(text).ok();
    let all = reader.take(&var::ADDITIONAL_ENI_TAGS, understand, show, BTreeMap::new());
    let mut tags = BTreeMap::new();
    let mut left_out = Vec::new();
    for (key, value) in all {
        match why_not(&key, &value) {
            None if tags.len() == MOST_TAGS - OUR_TAGS => left_out.push((key, "is one too many: EC2 takes 50 tags")),
            None => drop(tags.insert(key, value)),
            Some(why) => left_out.push((key, why)),
        }
    }
    for (key, why) in &left_out {
        let matter = format!("the tag `{key}` {why}; expected {}", var::ADDITIONAL_ENI_TAGS.accepted);
        reader.find(&var::ADDITIONAL_ENI_TAGS, Verdict::FellBack { to: show(&tags) }, matter);
    }
    if !left_out.is_empty() {
        reader.amend(&show(&tags), Origin::FellBack);
    }
    tags
}

fn why_not(key: &str, value: &str) -> Option<&'static str> {
    if key.contains("k8s.amazonaws.com") {
        Some("is AWS's own")
    } else if key.to_ascii_lowercase().starts_with("aws:") {
        Some("is AWS's own: `aws:` is reserved")
    } else if key.trim().is_empty() {
        Some("has no name")
    } else if key.chars().count() > LONGEST_KEY {
        Some("is too long: EC2 takes 128 characters")
    } else if value.chars().count() > LONGEST_VALUE {
        Some("has a value that is too long: EC2 takes 256 characters")
    } else {
        None
    }
}

fn show(tags: &BTreeMap<String, String>) -> String {
    serde_json::to_string(tags).unwrap_or_default()
}
