//! As much of OpenAPI v3 as custom resources lean on: types, required fields, enumerations, and what lies below them.

use serde_json::Value;

use crate::error::{Cause, CauseReason};

/// What breaks the schema. `metadata`, `apiVersion` and `kind` are not its business.
pub(crate) fn check(schema: &Value, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check_at("", schema, object, &mut causes);
    causes
}

fn check_at(path: &str, schema: &Value, value: &Value, causes: &mut Vec<Cause>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if !has_type(schema, value) {
        let detail = format!("\"{}\": must be of type {}", kind(value), schema["type"].as_str().unwrap_or("another"));
        causes.push(Cause::new(path, CauseReason::TypeInvalid, detail));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        causes.push(Cause::new(
            path,
            CauseReason::NotSupported,
            format!("{value}: supported values: {}", allowed.join(", ")),
        ));
    }
    for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(field).is_none() {
            causes.push(Cause::new(below(path, field), CauseReason::Required, ""));
        }
    }
    for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
        let known = path.is_empty() && matches!(field.as_str(), "metadata" | "apiVersion" | "kind");
        if let Some(value) = value.get(field).filter(|_| !known) {
            check_at(&below(path, field), schema, value, causes);
        }
    }
    if let (Some(schema), Some(items)) = (schema.get("items"), value.as_array()) {
        for (index, item) in items.iter().enumerate() {
            check_at(&format!("{path}[{index}]"), schema, item, causes);
        }
    }
    if let (Some(schema), Some(map)) = (schema.get("additionalProperties").filter(|s| s.is_object()), value.as_object())
    {
        for (name, item) in map {
            check_at(&below(path, name), schema, item, causes);
        }
    }
}

fn below(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_string() || value.is_i64() || value.is_u64();
    }
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some(_) | None => true,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_fault_is_named_with_its_field() {
        let schema = json!({"type": "object", "properties": {"spec": {
            "type": "object", "required": ["subnet"],
            "properties": {
                "subnet": {"type": "string"},
                "securityGroups": {"type": "array", "items": {"type": "string"}},
                "mode": {"enum": ["a", "b"]},
            },
        }}});
        let fields =
            |object: Value| check(&schema, &object).into_iter().map(|c| (c.field, c.reason)).collect::<Vec<_>>();
        assert_eq!(fields(json!({"spec": {"subnet": "subnet-1", "securityGroups": ["sg-1"], "mode": "a"}})), []);
        assert_eq!(fields(json!({"metadata": {}})), []);
        assert_eq!(fields(json!({"spec": {}})), [("spec.subnet".to_owned(), CauseReason::Required)]);
        assert_eq!(
            fields(json!({"spec": {"subnet": 1, "securityGroups": ["a", 2], "mode": "c"}})),
            [
                ("spec.mode".to_owned(), CauseReason::NotSupported),
                ("spec.securityGroups[1]".to_owned(), CauseReason::TypeInvalid),
                ("spec.subnet".to_owned(), CauseReason::TypeInvalid),
            ]
        );
    }
}
