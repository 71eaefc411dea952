//! Objects that the Kubernetes API has from the start: written as in a manifest, with names of subnets and groups in the place of ids.

use serde_json::Value;

use super::{TopologyError, TopologyFile};

/// How a name that stands for an id begins and ends.
const BEGIN: &str = "${";
const END: char = '}';

/// The objects with ids in the place of names.
///
/// # Errors
/// A name that there is not, or an object without what every object has.
pub(super) fn resolved(file: &TopologyFile) -> Result<Vec<Value>, TopologyError> {
    let objects = file.objects.iter().enumerate();
    objects
        .map(|(index, object)| {
            let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let field = if name.is_empty() { format!("objects[{index}]") } else { format!("objects.{name}") };
            for (key, pointer) in [("apiVersion", "/apiVersion"), ("kind", "/kind"), ("metadata.name", "/metadata/name")] {
                if object.pointer(pointer).and_then(Value::as_str).is_none_or(str::is_empty) {
                    let problem = format!("`{key}` is missing: expected an object as in a manifest, with apiVersion, kind and metadata.name");
                    return Err(TopologyError::Value { field, problem });
                }
            }
            let mut object = object.clone();
            replace(&mut object, &|text| expand(file, text)).map_err(|problem| TopologyError::Value { field, problem })?;
            Ok(object)
        })
        .collect()
}

/// Replaces every text of an object.
fn replace(object: &mut Value, by: &dyn Fn(&str) -> Result<String, String>) -> Result<(), String> {
    match object {
        Value::String(text) => *text = by(text)?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| replace(item, by))?,
        Value::Object(fields) => fields.values_mut().try_for_each(|field| replace(field, by))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

fn expand(file: &TopologyFile, text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let Some((name, left)) = after.split_once(END) else {
            return Err(format!("`{text}`: a `{BEGIN}` without its `{END}`"));
        };
        out += before;
        out += &id(file, name)?;
        rest = left;
    }
    Ok(out + rest)
}

fn id(file: &TopologyFile, name: &str) -> Result<String, String> {
    let unknown = |kind: &str, name: &str, known: Vec<&str>| {
        format!("there is no {kind} `{name}`: expected one of {}", known.join(", "))
    };
    match name.split_once('.') {
        Some(("subnet", name)) => {
            let known: Vec<_> = file.subnets.iter().map(|subnet| subnet.name.as_str()).collect();
            let found = known.contains(&name).then(|| lab_cloud::id_for::<vpc_model::SubnetId>(name).to_string());
            found.ok_or_else(|| unknown("subnet", name, known))
        }
        Some(("group", name)) => {
            let known: Vec<_> = file.group_names().collect();
            let found =
                known.contains(&name).then(|| lab_cloud::id_for::<vpc_model::SecurityGroupId>(name).to_string());
            found.ok_or_else(|| unknown("security group", name, known))
        }
        _ => Err(format!("`{BEGIN}{name}{END}`: expected `{BEGIN}subnet.NAME{END}` or `{BEGIN}group.NAME{END}`")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(object: &str) -> Result<Vec<Value>, String> {
        let text = format!("{}\n[[objects]]\n{object}\n", TopologyFile::built_in_text());
        TopologyFile::parse(&text).unwrap().resolve().map(|topology| topology.objects).map_err(|e| e.to_string())
    }

    #[test]
    fn names_stand_for_ids() {
        let object = r#"apiVersion = "crd.k8s.amazonaws.com/v1alpha1"
kind = "ENIConfig"
metadata = { name = "zone-a" }
spec = { subnet = "${subnet.pods-a}", securityGroups = ["${group.default}"] }"#;
        let objects = parsed(object).unwrap();
        assert_eq!(objects[0]["spec"]["subnet"], lab_cloud::id_for::<vpc_model::SubnetId>("pods-a").to_string());
        assert!(objects[0]["spec"]["securityGroups"][0].as_str().unwrap().starts_with("sg-"), "{objects:?}");
    }

    #[test]
    fn what_there_is_not_is_refused_by_name() {
        for (object, expected) in [
            (r#"apiVersion = "v1""#, "objects[0]: `kind` is missing"),
            (
                r#"apiVersion = "v1"
kind = "ConfigMap"
metadata = { name = "x" }
data = { a = "${subnet.nowhere}" }"#,
                "objects.x: there is no subnet `nowhere`: expected one of public-a",
            ),
            (
                r#"apiVersion = "v1"
kind = "ConfigMap"
metadata = { name = "x" }
data = { a = "${vpc}" }"#,
                "expected `${subnet.NAME}` or `${group.NAME}`",
            ),
            (
                r#"apiVersion = "v1"
kind = "ConfigMap"
metadata = { name = "x" }
data = { a = "${subnet.pods-a" }"#,
                "without its `}`",
            ),
        ] {
            let refused = parsed(object).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
