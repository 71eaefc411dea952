//! Events have two faces, `v1` and `events.k8s.io/v1`, over one storage, which is the first.

use serde_json::{Map, Value, json};

/// Field of `events.k8s.io/v1`, field of `v1`. Those that are not here have the same name in both.
const FIELDS: [(&str, &str); 8] = [
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingInstance", "reportingInstance"),
];

/// As it is stored.
pub(crate) fn event_to_core(event: &Value) -> Value {
    rename(event, "v1", |field| FIELDS.iter().find(|(new, _)| *new == field).map(|(_, core)| *core))
}

/// As clients of `events.k8s.io/v1` see it.
pub(crate) fn event_from_core(event: &Value) -> Value {
    rename(event, "events.k8s.io/v1", |field| FIELDS.iter().find(|(_, core)| *core == field).map(|(new, _)| *new))
}

fn rename(event: &Value, api_version: &str, renamed: impl Fn(&str) -> Option<&'static str>) -> Value {
    let fields = event.as_object().into_iter().flatten();
    let mut event: Map<String, Value> =
        fields.map(|(field, value)| (renamed(field).unwrap_or(field).to_owned(), value.clone())).collect();
    event.insert("apiVersion".to_owned(), json!(api_version));
    Value::Object(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_back_as_it_was() {
        let new = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "kube-system"},
            "note": "denied", "regarding": {"kind": "Pod", "name": "aws-node-x"}, "reason": "MissingIAMPermissions",
            "action": "ec2:CreateNetworkInterface", "type": "Warning", "reportingController": "aws-node",
            "reportingInstance": "n1", "eventTime": "2026-01-31T12:00:00.000000Z", "deprecatedCount": 2,
        });
        let core = event_to_core(&new);
        assert_eq!((&core["message"], &core["count"]), (&json!("denied"), &json!(2)));
        assert_eq!(core["involvedObject"]["name"], "aws-node-x");
        assert_eq!(event_from_core(&core), new);
    }
}
