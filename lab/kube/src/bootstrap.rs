//! What a cluster has from the start: its namespaces, and the custom resources of Amazon's CNI.

use serde_json::{Value, json};
use vpc_model::WallTime;

use crate::error::KubeError;
use crate::resource::Resource;
use crate::store::Store;

pub(crate) fn first_objects(store: &mut Store, now: WallTime) -> Result<(), KubeError> {
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        store.create(now, &Resource::NAMESPACES, "", json!({"metadata": {"name": name}}))?;
    }
    for crd in [eni_config(), cni_node(), policy_endpoint()] {
        store.create(now, &Resource::CRDS, "", crd)?;
    }
    Ok(())
}

/// Which subnet and groups a node's further ENIs get.
fn eni_config() -> Value {
    let spec = json!({
        "type": "object",
        "required": ["subnet"],
        "properties": {
            "subnet": {"type": "string"},
            "securityGroups": {"type": "array", "items": {"type": "string"}},
        },
        "x-kubernetes-preserve-unknown-fields": true,
    });
    let schema = json!({
        "type": "object",
        "properties": {"spec": spec, "status": {"type": "object"}},
        "x-kubernetes-preserve-unknown-fields": true,
    });
    let names = json!({"kind": "ENIConfig", "plural": "eniconfigs", "singular": "eniconfig"});
    crd(&Resource::ENI_CONFIGS, "Cluster", names, version(schema))
}

/// What a node's CNI asks the VPC resource controller for.
fn cni_node() -> Value {
    let feature = json!({"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "string"}}});
    let spec = json!({
        "type": "object",
        "properties": {
            "features": {"type": "array", "items": feature},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    });
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": {"type": "object"}}});
    let names = json!({"kind": "CNINode", "plural": "cninodes", "singular": "cninode", "shortNames": ["cnd"]});
    let mut version = version(schema);
    version["subresources"] = json!({"status": {}});
    version["additionalPrinterColumns"] = json!([{
        "name": "Features", "type": "string", "jsonPath": ".spec.features",
        "description": "The features delegated to VPC resource controller",
    }]);
    crd(&Resource::CNI_NODES, "Cluster", names, version)
}

/// What the network policy controller tells the agents of the nodes.
fn policy_endpoint() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {"type": "object", "required": ["podSelector", "policyRef"], "x-kubernetes-preserve-unknown-fields": true},
            "status": {"type": "object"},
        },
    });
    let names = json!({"kind": "PolicyEndpoint", "plural": "policyendpoints", "singular": "policyendpoint"});
    let mut version = version(schema);
    version["subresources"] = json!({"status": {}});
    crd(&Resource::POLICY_ENDPOINTS, "Namespaced", names, version)
}

fn version(schema: Value) -> Value {
    json!({"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}})
}

fn crd(resource: &Resource, scope: &str, names: Value, version: Value) -> Value {
    json!({
        "metadata": {"name": resource.to_string()},
        "spec": {"group": resource.group(), "scope": scope, "names": names, "versions": [version]},
    })
}
