//! Strategic merge patch: lists of objects are merged by a key, which the Go types of Kubernetes say for each list. Here
//! stand the lists of the kinds we serve; every other list is replaced.
//!
//! Directives: `$patch: delete|replace|merge`, `$deleteFromPrimitiveList/LIST`, `$setElementOrder/LIST`, `$retainKeys`.

use serde_json::{Map, Value};

use crate::error::KubeError;

/// How a list is merged.
enum Merge {
    /// Element by element, told apart by this field.
    Key(&'static str),
    /// As a set of plain values.
    Set,
    /// Not at all.
    Replace,
}

/// How a list is merged: by its own name and that of the field it lies in.
fn merge_of(parent: &str, list: &str) -> Merge {
    match (parent, list) {
        ("containers" | "initContainers" | "ephemeralContainers", "ports") => Merge::Key("containerPort"),
        ("spec", "ports") => Merge::Key("port"),
        (_, "conditions") | ("status", "addresses") => Merge::Key("type"),
        (_, "containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "imagePullSecrets") => {
            Merge::Key("name")
        }
        (_, "resourceClaims" | "schedulingGates" | "secrets") => Merge::Key("name"),
        (_, "volumeMounts") => Merge::Key("mountPath"),
        (_, "volumeDevices") => Merge::Key("devicePath"),
        (_, "ownerReferences") => Merge::Key("uid"),
        (_, "hostAliases" | "podIPs" | "hostIPs") => Merge::Key("ip"),
        (_, "topologySpreadConstraints") => Merge::Key("topologyKey"),
        (_, "finalizers" | "podCIDRs") => Merge::Set,
        _ => Merge::Replace,
    }
}

/// Applies a patch.
///
/// # Errors
/// A directive that does not exist, or an element without the key of its list.
pub(crate) fn merge(object: &mut Value, patch: &Value) -> Result<(), KubeError> {
    merge_value("", object, patch)
}

/// `name`: the field in which `object` lies.
fn merge_value(name: &str, object: &mut Value, patch: &Value) -> Result<(), KubeError> {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return Ok(());
    };
    match directive(patch)? {
        Some("replace") => {
            *object = Value::Object(without_directives(patch));
            return Ok(());
        }
        Some("delete") => {
            *object = Value::Object(Map::new());
            return Ok(());
        }
        Some(_) | None => {}
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(fields) = object.as_object_mut() else { return Ok(()) };
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|field, _| kept.iter().any(|keep| keep == field));
    }
    for (field, change) in patch {
        if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/") {
            delete_from_set(fields, list, change);
        } else if !field.starts_with('$') {
            merge_field(name, fields, field, change)?;
        }
    }
    for (field, order) in patch {
        if let Some(list) = field.strip_prefix("$setElementOrder/") {
            set_order(name, fields, list, order);
        }
    }
    Ok(())
}

fn merge_field(parent: &str, fields: &mut Map<String, Value>, field: &str, change: &Value) -> Result<(), KubeError> {
    match change {
        Value::Null => _ = fields.remove(field),
        Value::Object(_) => merge_value(field, fields.entry(field.to_owned()).or_insert(Value::Null), change)?,
        Value::Array(changes) => {
            let list = fields.entry(field.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if !list.is_array() {
                *list = Value::Array(Vec::new());
            }
            let Some(list) = list.as_array_mut() else { return Ok(()) };
            merge_list(parent, field, list, changes)?;
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => _ = fields.insert(field.to_owned(), change.clone()),
    }
    Ok(())
}

fn merge_list(parent: &str, field: &str, list: &mut Vec<Value>, changes: &[Value]) -> Result<(), KubeError> {
    let key = match merge_of(parent, field) {
        Merge::Replace => {
            *list = changes.to_vec();
            return Ok(());
        }
        Merge::Set => {
            let new: Vec<Value> = changes.iter().filter(|change| !list.contains(change)).cloned().collect();
            list.extend(new);
            return Ok(());
        }
        Merge::Key(key) => key,
    };
    if changes.iter().any(|change| change.get("$patch").is_some_and(|d| d == "replace")) {
        list.clear();
    }
    for change in changes {
        let Some(element) = change.as_object() else {
            return Err(KubeError::BadRequest(format!("`{field}`: the elements of the list are objects")));
        };
        let directive = directive(element)?;
        if directive == Some("replace") && element.len() == 1 {
            continue;
        }
        let Some(id) = element.get(key) else {
            return Err(KubeError::BadRequest(format!(
                "map: {change} does not contain declared merge key: {key} (`{field}`)"
            )));
        };
        let place = list.iter().position(|known| known.get(key) == Some(id));
        match (directive, place) {
            (Some("delete"), Some(place)) => _ = list.remove(place),
            (Some("delete"), None) => {}
            (_, Some(place)) => merge_value(field, &mut list[place], change)?,
            (_, None) => {
                // Merged into nothing, so that directives inside it are carried out, not stored.
                let mut new = Value::Null;
                merge_value(field, &mut new, change)?;
                list.push(new);
            }
        }
    }
    Ok(())
}

fn delete_from_set(fields: &mut Map<String, Value>, list: &str, gone: &Value) {
    let gone = gone.as_array().map_or(&[][..], Vec::as_slice);
    if let Some(list) = fields.get_mut(list).and_then(Value::as_array_mut) {
        list.retain(|value| !gone.contains(value));
    }
}

/// Brings the elements that `order` names into its order; others come after them.
fn set_order(parent: &str, fields: &mut Map<String, Value>, field: &str, order: &Value) {
    let order = order.as_array().map_or(&[][..], Vec::as_slice);
    let Some(list) = fields.get_mut(field).and_then(Value::as_array_mut) else { return };
    let place = |element: &Value| match merge_of(parent, field) {
        Merge::Key(key) => order.iter().position(|named| named.get(key) == element.get(key)),
        Merge::Set | Merge::Replace => order.iter().position(|named| named == element),
    };
    list.sort_by_key(|element| place(element).unwrap_or(usize::MAX));
}

fn directive(patch: &Map<String, Value>) -> Result<Option<&str>, KubeError> {
    match patch.get("$patch").map(|directive| directive.as_str().unwrap_or_default()) {
        None => Ok(None),
        Some(known @ ("delete" | "replace" | "merge")) => Ok(Some(known)),
        Some(other) => Err(KubeError::BadRequest(format!(
            "`$patch: {other}` is no directive, expected `delete`, `replace` or `merge`"
        ))),
    }
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    patch.iter().filter(|(field, _)| !field.starts_with('$')).map(|(f, v)| (f.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(mut object: Value, patch: Value) -> Value {
        merge(&mut object, &patch).unwrap();
        object
    }

    #[test]
    fn conditions_and_containers_are_merged_by_their_key() {
        let node = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Disk", "status": "True"}]}});
        let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "New", "status": "True"}],
            "$setElementOrder/conditions": [{"type": "New"}, {"type": "Ready"}, {"type": "Disk"}]}});
        let types: Vec<(String, String)> = merged(node, patch)["status"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| (c["type"].as_str().unwrap().to_owned(), c["status"].as_str().unwrap().to_owned()))
            .collect();
        let expected = [("New", "True"), ("Ready", "True"), ("Disk", "True")];
        assert_eq!(types, expected.map(|(t, s)| (t.to_owned(), s.to_owned())));

        let set = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "aws-node", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}, {"name": "agent"}]}}}});
        let patch = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "aws-node", "env": [{"name": "A", "value": "9"}, {"name": "B", "$patch": "delete"}]}]}}}});
        let expected = json!([{"name": "aws-node", "env": [{"name": "A", "value": "9"}]}, {"name": "agent"}]);
        assert_eq!(merged(set, patch)["spec"]["template"]["spec"]["containers"], expected);
    }

    #[test]
    fn plain_lists_are_replaced_and_sets_are_joined() {
        let node = json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"taints": [{"key": "x"}]}});
        let patch = json!({"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]},
            "spec": {"taints": [{"key": "y"}]}});
        let after = merged(node, patch);
        assert_eq!(after["metadata"]["finalizers"], json!(["b", "c"]));
        assert_eq!(after["spec"]["taints"], json!([{"key": "y"}]));
    }

    #[test]
    fn null_removes_and_directives_are_never_stored() {
        let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"x": 1, "y": 2}});
        let patch = json!({"metadata": {"labels": {"a": null}}, "spec": {"$retainKeys": ["y", "z"], "z": 3}});
        let after = merged(object, patch);
        assert_eq!(after, json!({"metadata": {"labels": {"b": "2"}}, "spec": {"y": 2, "z": 3}}));
        let after = merged(json!({"spec": {"x": 1}}), json!({"spec": {"$patch": "replace", "y": 2}}));
        assert_eq!(after, json!({"spec": {"y": 2}}));
        assert!(merge(&mut json!({}), &json!({"spec": {"$patch": "explode"}})).is_err());
        assert!(merge(&mut json!({}), &json!({"spec": {"containers": [{"image": "x"}]}})).is_err());
    }
}
