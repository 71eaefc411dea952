//! What each kind is given when it is created, and what may not be done with it. Defaults are set only where clients lean
//! on them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use vpc_model::WallTime;

use crate::error::{Cause, CauseReason, KubeError};
use crate::object;
use crate::resource::{Definition, Resource};
use crate::schema;

/// Seconds a pod has to end if it does not say how many (`terminationGracePeriodSeconds`).
const GRACE_SECONDS: u64 = 30;

pub(super) fn invalid(definition: &Definition, name: &str, causes: Vec<Cause>) -> KubeError {
    KubeError::Invalid {
        resource: Box::new(definition.resource.clone()),
        kind: definition.kind.clone(),
        name: name.to_owned(),
        causes,
    }
}

/// Whether `metadata.generation` counts changes of the spec.
pub(super) fn counts_generations(definition: &Definition) -> bool {
    definition.custom || [Resource::PODS, Resource::DAEMON_SETS, Resource::CRDS].contains(&definition.resource)
}

/// Whether an update makes an object that does not exist.
pub(super) fn created_by_update(definition: &Definition) -> bool {
    let kinds = [Resource::LEASES, Resource::EVENTS, Resource::NEW_EVENTS, Resource::ENDPOINTS, Resource::SERVICES];
    kinds.contains(&definition.resource)
}

/// Whether an update must say which version it replaces.
pub(super) fn update_names_version(definition: &Definition) -> bool {
    definition.custom || [Resource::LEASES, Resource::CRDS].contains(&definition.resource)
}

/// Seconds until an object may be gone.
pub(super) fn grace(definition: &Definition, stored: &Value, asked: Option<u64>) -> u64 {
    let running = definition.resource == Resource::PODS
        && !object::text(stored, "/spec/nodeName").is_empty()
        && !matches!(object::text(stored, "/status/phase"), "Succeeded" | "Failed");
    let own = stored.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
    if running { asked.or(own).unwrap_or(GRACE_SECONDS) } else { 0 }
}

/// Defaults and rules of a new object.
pub(super) fn on_create(definition: &Definition, object: &mut Value, now: WallTime) -> Result<(), KubeError> {
    let resource = &definition.resource;
    if definition.custom {
        if definition.status {
            remove(object, "status");
        }
    } else if *resource == Resource::PODS {
        new_pod(object);
    } else if *resource == Resource::NAMESPACES {
        new_namespace(object);
    } else if *resource == Resource::CRDS {
        new_crd(object, now);
    } else if *resource == Resource::SECRETS {
        encode_secret(object);
    } else if *resource == Resource::SERVICES {
        default(object, "spec", json!({}));
        default(&mut object["spec"], "type", json!("ClusterIP"));
        default(&mut object["spec"], "sessionAffinity", json!("None"));
        object["status"] = json!({"loadBalancer": {}});
    } else if *resource == Resource::DAEMON_SETS {
        object["status"] = json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        });
    }
    check(definition, object)
}

/// Rules of an object that takes the place of another.
pub(super) fn on_update(definition: &Definition, before: &Value, object: &mut Value) -> Result<(), KubeError> {
    if definition.resource == Resource::SECRETS {
        encode_secret(object);
    }
    if definition.resource == Resource::PODS && fixed_spec(before) != fixed_spec(object) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`, \
                      `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to \
                      existing tolerations), `spec.terminationGracePeriodSeconds`";
        let cause = Cause::new("spec", CauseReason::Forbidden, detail);
        return Err(invalid(definition, object::name(object), vec![cause]));
    }
    check(definition, object)
}

fn check(definition: &Definition, object: &Value) -> Result<(), KubeError> {
    let mut causes = match &definition.schema {
        Some(schema) => schema::check(schema, object),
        None => Vec::new(),
    };
    if definition.resource == Resource::PODS {
        causes.extend(check_pod(object));
    }
    if definition.resource == Resource::CRDS {
        causes.extend(check_crd(object));
    }
    if causes.is_empty() { Ok(()) } else { Err(invalid(definition, object::name(object), causes)) }
}

// -- pods ----------------------------------------------------------------------------------------------------------------

fn new_pod(pod: &mut Value) {
    default(pod, "spec", json!({}));
    let defaults = [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("terminationGracePeriodSeconds", json!(GRACE_SECONDS)),
        ("serviceAccountName", json!("default")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
    ];
    for (field, value) in defaults {
        default(&mut pod["spec"], field, value);
    }
    let account = pod["spec"]["serviceAccountName"].clone();
    default(&mut pod["spec"], "serviceAccount", account);
    pod["status"] = json!({"phase": "Pending", "qosClass": qos_class(pod)});
}

/// `Guaranteed`: every container's limits of CPU and memory are its requests; `BestEffort`: nobody asks for anything.
fn qos_class(pod: &Value) -> &'static str {
    let containers: Vec<&Value> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .collect();
    let amount = |container: &Value, which: &str, what: &str| container["resources"][which].get(what).cloned();
    let asks = |container: &Value| {
        ["limits", "requests"]
            .iter()
            .any(|which| ["cpu", "memory"].iter().any(|what| amount(container, which, what).is_some()))
    };
    let guaranteed = |container: &Value| {
        ["cpu", "memory"].iter().all(|what| {
            let limit = amount(container, "limits", what);
            limit.is_some() && amount(container, "requests", what).is_none_or(|request| Some(request) == limit)
        })
    };
    if !containers.iter().any(|container| asks(container)) {
        "BestEffort"
    } else if containers.iter().all(|container| guaranteed(container)) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn check_pod(pod: &Value) -> Vec<Cause> {
    let Some(containers) = pod["spec"]["containers"].as_array().filter(|list| !list.is_empty()) else {
        return vec![Cause::new("spec.containers", CauseReason::Required, "")];
    };
    let mut causes = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let name = object::text(container, "/name");
        let field = format!("spec.containers[{index}].name");
        if name.is_empty() {
            causes.push(Cause::new(field, CauseReason::Required, ""));
        } else if seen.contains(&name) {
            causes.push(Cause::new(field, CauseReason::Invalid, format!("\"{name}\": it is there twice")));
        } else {
            causes.extend(object::check_subdomain(name, &field));
        }
        seen.push(name);
        if object::text(container, "/image").is_empty() {
            causes.push(Cause::new(format!("spec.containers[{index}].image"), CauseReason::Required, ""));
        }
    }
    causes
}

/// The part of a pod's spec that stays as it was created.
fn fixed_spec(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
        remove(&mut spec, field);
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            remove(container, "image");
        }
    }
    spec
}

// -- other kinds ---------------------------------------------------------------------------------------------------------

fn new_namespace(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    if let Some(metadata) = object::metadata(namespace) {
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        default(labels, "kubernetes.io/metadata.name", json!(name));
    }
    namespace["spec"] = json!({"finalizers": ["kubernetes"]});
    namespace["status"] = json!({"phase": "Active"});
}

/// `stringData` is written in plain text and read back in base64.
fn encode_secret(secret: &mut Value) {
    if let Some(Value::Object(plain)) = secret.as_object_mut().and_then(|secret| secret.remove("stringData")) {
        default(secret, "data", Value::Object(Map::new()));
        for (name, value) in plain {
            secret["data"][name] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
        }
    }
    default(secret, "type", json!("Opaque"));
}

fn new_crd(crd: &mut Value, now: WallTime) {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": object::timestamp(now),
        })
    };
    let versions = crd["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let stored: Vec<Value> =
        versions.iter().filter(|version| version["storage"] == true).map(|version| version["name"].clone()).collect();
    let names = &mut crd["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    default(names, "singular", json!(kind.to_lowercase()));
    default(names, "listKind", json!(format!("{kind}List")));
    crd["status"] = json!({
        "acceptedNames": crd["spec"]["names"],
        "storedVersions": stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
}

fn check_crd(crd: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let (group, plural) = (object::text(crd, "/spec/group"), object::text(crd, "/spec/names/plural"));
    for (pointer, value) in [
        ("spec.group", group),
        ("spec.names.plural", plural),
        ("spec.names.kind", object::text(crd, "/spec/names/kind")),
    ] {
        if value.is_empty() {
            causes.push(Cause::new(pointer, CauseReason::Required, ""));
        }
    }
    if causes.is_empty() && object::name(crd) != format!("{plural}.{group}") {
        let detail = format!("\"{}\": must be spec.names.plural+\".\"+spec.group", object::name(crd));
        causes.push(Cause::new("metadata.name", CauseReason::Invalid, detail));
    }
    let scope = object::text(crd, "/spec/scope");
    if !matches!(scope, "Cluster" | "Namespaced") {
        let detail = format!("\"{scope}\": supported values: \"Cluster\", \"Namespaced\"");
        causes.push(Cause::new("spec.scope", CauseReason::NotSupported, detail));
    }
    let versions = crd["spec"]["versions"].as_array().map_or(&[][..], Vec::as_slice);
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        causes.push(Cause::new("spec.versions", CauseReason::Invalid, detail));
    }
    causes
}

// -- JSON ----------------------------------------------------------------------------------------------------------------

/// Sets a field that is missing or null.
fn default(object: &mut Value, field: &str, value: Value) {
    if let Some(object) = object.as_object_mut()
        && object.get(field).is_none_or(Value::is_null)
    {
        object.insert(field.to_owned(), value);
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}
