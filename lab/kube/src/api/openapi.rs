//! As much of OpenAPI v3 as kubectl wants to see before it sends anything: that every resource takes the parameters
//! `fieldValidation` and `dryRun`. No schemas: unknown fields of kinds that are built in are stored as they are.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::error::KubeError;
use crate::resource::{Definition, Resource};
use crate::store::Store;

/// OpenAPI v2 without a schema, as the message of gnostic's `openapi.v2` that kubectl reads: field 1, `swagger`, is `2.0`. kubectl
/// asks for it before it sends a `List`; kinds it finds nothing about it sends as they are.
pub(crate) const EMPTY_V2: &str = "\n\u{3}2.0";
/// The media type of [`EMPTY_V2`].
pub(crate) const V2_MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The same for those who read JSON.
pub(crate) fn empty_v2() -> Value {
    json!({"swagger": "2.0", "info": {"title": "Kubernetes API of vpc-lab", "version": super::VERSION}, "paths": {}})
}

/// `/openapi/v3`: where the documents are.
pub(crate) fn index(store: &Store) -> Value {
    let versions: BTreeSet<(&str, &str)> = store
        .definitions()
        .iter()
        .map(|definition| (definition.resource.group(), definition.resource.version()))
        .collect();
    let paths: Map<String, Value> = versions
        .into_iter()
        .map(|(group, version)| {
            let root = root(group, version);
            (root.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{root}")}))
        })
        .collect();
    json!({"paths": paths})
}

/// The document of a group and version.
pub(crate) fn document(store: &Store, group: &str, version: &str) -> Result<Value, KubeError> {
    let here = |resource: &Resource| resource.group() == group && resource.version() == version;
    let paths: Map<String, Value> =
        store.definitions().iter().filter(|definition| here(&definition.resource)).map(path).collect();
    if paths.is_empty() {
        return Err(KubeError::NoSuchResource);
    }
    let info = json!({"title": "Kubernetes API of vpc-lab", "version": super::VERSION});
    Ok(json!({"openapi": "3.0.0", "info": info, "paths": paths}))
}

fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn path(definition: &Definition) -> (String, Value) {
    let resource = &definition.resource;
    let namespace = if definition.namespaced { "namespaces/{namespace}/" } else { "" };
    let path = format!("/{}/{namespace}{}/{{name}}", root(resource.group(), resource.version()), resource.plural());
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    let patch = json!({
        "description": format!("change a {}", definition.kind),
        "parameters": [parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind":
            {"group": resource.group(), "version": resource.version(), "kind": definition.kind},
    });
    (path, json!({"patch": patch}))
}
