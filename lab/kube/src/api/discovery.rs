//! Which groups, versions and resources there are. Aggregated discovery is left out: clients fall back to this.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::reviews;
use crate::error::KubeError;
use crate::resource::{Definition, Resource};
use crate::store::Store;

/// What can be done with every resource.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// `/api`.
pub(crate) fn core_versions(host: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    })
}

/// `/apis`.
pub(crate) fn groups(store: &Store) -> Value {
    let groups: Vec<Value> = versions(store).iter().map(|(group, versions)| describe(group, versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(crate) fn group(store: &Store, group: &str) -> Result<Value, KubeError> {
    let all = versions(store);
    let mut described = describe(group, all.get(group).ok_or(KubeError::NoSuchResource)?);
    described["kind"] = json!("APIGroup");
    described["apiVersion"] = json!("v1");
    Ok(described)
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
pub(crate) fn resources(store: &Store, group: &str, version: &str) -> Result<Value, KubeError> {
    let here = |resource: &Resource| resource.group() == group && resource.version() == version;
    let mut listed = Vec::new();
    for definition in store.definitions().iter().filter(|definition| here(&definition.resource)) {
        listed.extend(describe_resource(definition));
    }
    for (resource, kind) in reviews::RESOURCES.iter().filter(|(resource, _)| here(resource)) {
        listed.push(json!({
            "name": resource.plural(), "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind,
            "verbs": ["create"],
        }));
    }
    if listed.is_empty() {
        return Err(KubeError::NoSuchResource);
    }
    let group_version = Resource::new(group, version, "").api_version();
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}))
}

/// Groups but the core one, each with its versions.
fn versions(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let defined = store.definitions().iter().map(|definition| &definition.resource);
    for resource in defined.chain(reviews::RESOURCES.iter().map(|(resource, _)| resource)) {
        let versions = groups.entry(resource.group().to_owned()).or_default();
        if !versions.iter().any(|version| version == resource.version()) {
            versions.push(resource.version().to_owned());
        }
    }
    groups.remove("");
    groups
}

fn describe(group: &str, versions: &[String]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

fn describe_resource(definition: &Definition) -> Vec<Value> {
    let plural = definition.resource.plural();
    let mut main = json!({
        "name": plural, "singularName": definition.singular, "namespaced": definition.namespaced,
        "kind": definition.kind, "verbs": VERBS,
    });
    if !definition.short_names.is_empty() {
        main["shortNames"] = json!(definition.short_names);
    }
    if definition.resource == Resource::PODS {
        main["categories"] = json!(["all"]);
    }
    let sub = |name: &str, kind: Value, verbs: Value| {
        let mut sub = json!({
            "name": format!("{plural}/{name}"), "singularName": "", "namespaced": definition.namespaced, "verbs": verbs,
        });
        if let (Some(sub), Some(kind)) = (sub.as_object_mut(), kind.as_object()) {
            sub.extend(kind.clone());
        }
        sub
    };
    let mut listed = vec![main];
    if definition.status {
        listed.push(sub("status", json!({"kind": definition.kind}), json!(["get", "patch", "update"])));
    }
    if definition.resource == Resource::PODS {
        listed.push(sub("binding", json!({"kind": "Binding"}), json!(["create"])));
    }
    if definition.resource == Resource::SERVICE_ACCOUNTS {
        let kind = json!({"kind": "TokenRequest", "group": "authentication.k8s.io", "version": "v1"});
        listed.push(sub("token", kind, json!(["create"])));
    }
    listed
}
