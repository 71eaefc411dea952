//! As much of Kubernetes' objects as is looked at. Everything else is skipped while it is read.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use vpc_agent::{EniConfig, NodeView};
use vpc_model::PodRef;

/// What every object says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) deletion_timestamp: Option<String>,
}

/// What a list says beside its items.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListHead {
    pub(crate) metadata: ListMetadata,
}

/// See [`ListHead`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListMetadata {
    pub(crate) resource_version: String,
    #[serde(rename = "continue")]
    pub(crate) next: String,
    pub(crate) remaining_item_count: u64,
}

/// What kind of line of a watch it is.
#[derive(Debug, Deserialize)]
pub(crate) struct EventHead {
    #[serde(rename = "type")]
    pub(crate) kind: EventKind,
}

/// See [`EventHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum EventKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
    /// What newer servers may say.
    #[serde(other)]
    Unknown,
}

/// The object of a line of a watch.
#[derive(Debug, Deserialize)]
pub(crate) struct EventBody<T> {
    pub(crate) object: T,
}

/// An object that is only looked at for its name and version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Named {
    pub(crate) metadata: Metadata,
}

/// Why the server ends a watch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) code: u16,
    pub(crate) message: String,
}

/// A node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) metadata: NodeMetadata,
    spec: NodeSpec,
    status: NodeStatus,
}

/// See [`Node`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeMetadata {
    pub(crate) uid: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    taints: Vec<Taint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Taint {
    key: String,
    effect: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    capacity: Capacity,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Capacity {
    #[serde(deserialize_with = "lax_text")]
    pods: String,
}

impl Node {
    pub(crate) fn view(self) -> NodeView {
        let unschedulable =
            |taint: &Taint| taint.key == "node.kubernetes.io/unschedulable" && taint.effect == "NoSchedule";
        NodeView {
            unschedulable: self.spec.taints.iter().any(unschedulable),
            max_pods: count(&self.status.capacity.pods),
            labels: self.metadata.labels,
            annotations: self.metadata.annotations,
        }
    }
}

/// A quantity that counts things: Kubernetes writes whole thousands with a `k`.
fn count(quantity: &str) -> Option<u32> {
    match quantity.strip_suffix('k') {
        Some(thousands) => thousands.parse::<u32>().ok()?.checked_mul(1000),
        None => quantity.parse().ok(),
    }
}

/// A pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    host_network: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: String,
}

impl Pod {
    /// It wants an address of its node, or has one.
    pub(crate) fn wants_address(&self) -> bool {
        let over = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        !self.spec.host_network && !over && self.metadata.deletion_timestamp.is_none()
    }

    pub(crate) fn reference(&self) -> PodRef {
        PodRef { namespace: self.metadata.namespace.clone(), name: self.metadata.name.clone() }
    }
}

/// An ENIConfig. Its schema says what types its fields have, but a cluster's definition may be older or laxer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EniConfigObject {
    metadata: Metadata,
    spec: Option<EniConfigSpec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EniConfigSpec {
    #[serde(deserialize_with = "lax_text")]
    subnet: String,
    #[serde(deserialize_with = "lax_texts")]
    security_groups: Vec<String>,
}

impl EniConfigObject {
    pub(crate) fn name(&self) -> &str {
        &self.metadata.name
    }

    pub(crate) fn view(self) -> EniConfig {
        let spec = self.spec.unwrap_or_default();
        EniConfig { name: self.metadata.name, subnet: spec.subnet, security_groups: spec.security_groups }
    }
}

/// A text, or what stands in its place as JSON writes it: whoever uses it says what is wrong with it.
fn lax_text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(text_of(Value::deserialize(from)?))
}

fn lax_texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Null => Vec::new(),
        Value::Array(values) => values.into_iter().map(text_of).collect(),
        other => vec![text_of(other)],
    })
}

fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn of_a_node_labels_annotations_taint_and_room_are_taken() {
        let node: Node = read(&json!({
            "metadata": {"name": "a", "uid": "u", "labels": {"zone": "x"}, "annotations": {"k": "v"}, "managedFields": [{}]},
            "spec": {"taints": [
                {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule", "timeAdded": "2026-01-31T12:00:00Z"},
            ]},
            "status": {"capacity": {"pods": "110", "cpu": "2"}, "images": [{"names": ["x"]}]},
        }));
        let view = node.view();
        assert!(view.unschedulable && view.max_pods == Some(110));
        assert_eq!((view.labels["zone"].as_str(), view.annotations["k"].as_str()), ("x", "v"));
        let other: Node = read(&json!({"spec": {"taints": [
            {"key": "node.kubernetes.io/unschedulable", "effect": "NoExecute"}, {"key": "x", "effect": "NoSchedule"},
        ]}, "status": {"capacity": {"pods": 29}}}));
        let view = other.view();
        assert!(!view.unschedulable && view.max_pods == Some(29));
        assert_eq!((count("1k"), count("many"), count("")), (Some(1000), None, None));
    }

    #[test]
    fn pods_that_want_an_address() {
        let pod = |spec: Value, status: Value, extra: Value| {
            let mut metadata = json!({"name": "p", "namespace": "n"});
            metadata.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            read::<Pod>(&json!({"metadata": metadata, "spec": spec, "status": status})).wants_address()
        };
        assert!(pod(json!({"nodeName": "a"}), json!({}), json!({})));
        assert!(pod(json!({"hostNetwork": false}), json!({"phase": "Running"}), json!({})));
        assert!(!pod(json!({"hostNetwork": true}), json!({"phase": "Running"}), json!({})));
        for phase in ["Succeeded", "Failed"] {
            assert!(!pod(json!({}), json!({"phase": phase}), json!({})));
        }
        assert!(!pod(json!({}), json!({}), json!({"deletionTimestamp": "2026-01-31T12:00:00Z"})));
    }

    #[test]
    fn an_eniconfig_of_any_shape_is_read() {
        for (spec, subnet, groups) in [
            (json!({"subnet": "subnet-1", "securityGroups": ["sg-1", "sg-2"]}), "subnet-1", vec!["sg-1", "sg-2"]),
            (json!({"subnet": "subnet-1"}), "subnet-1", vec![]),
            (json!({"subnet": 7, "securityGroups": "sg-1"}), "7", vec!["sg-1"]),
            (json!({"subnet": null, "securityGroups": null}), "", vec![]),
            (json!({"securityGroups": [1, "sg"]}), "", vec!["1", "sg"]),
            (Value::Null, "", vec![]),
        ] {
            let view = read::<EniConfigObject>(&json!({"metadata": {"name": "z"}, "spec": spec})).view();
            assert_eq!(
                (view.name.as_str(), view.subnet.as_str(), view.security_groups),
                ("z", subnet, groups.into_iter().map(str::to_owned).collect()),
                "{spec}"
            );
        }
    }

    #[test]
    fn lines_of_watches_are_told_apart() {
        let kind = |text: &str| serde_json::from_str::<EventHead>(text).unwrap().kind;
        assert_eq!(kind(r#"{"type":"ADDED","object":{}}"#), EventKind::Added);
        assert_eq!(kind(r#"{"object":{},"type":"BOOKMARK"}"#), EventKind::Bookmark);
        assert_eq!(kind(r#"{"type":"SOMETHING","object":{}}"#), EventKind::Unknown);
    }
}
