//! A pod as the API shows it: what is read from its object, and what the kubelet reports.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use lab_kube::object;
use serde_json::{Value, json};

use crate::kubelet::PodName;

/// Name and namespace; `None`: it is called as no pod of the lab can be called.
pub(crate) fn name(pod: &Value) -> Option<PodName> {
    format!("{}/{}", object::namespace(pod), object::name(pod)).parse().ok()
}

/// The node it is on; empty: none yet.
pub(crate) fn node(pod: &Value) -> &str {
    object::text(pod, "/spec/nodeName")
}

/// Whether it has ended by itself: nobody starts it again.
pub(crate) fn ended(pod: &Value) -> bool {
    matches!(object::text(pod, "/status/phase"), "Failed" | "Succeeded")
}

/// Whether it uses its node's network.
pub(crate) fn on_host_network(pod: &Value) -> bool {
    pod.pointer("/spec/hostNetwork").and_then(Value::as_bool).unwrap_or_default()
}

/// Its annotations.
pub(crate) fn annotations(pod: &Value) -> BTreeMap<String, String> {
    strings(pod, "/metadata/annotations")
}

/// The labels a node must have.
pub(crate) fn node_selector(pod: &Value) -> BTreeMap<String, String> {
    strings(pod, "/spec/nodeSelector")
}

/// A map of strings somewhere in an object.
pub(crate) fn strings(object: &Value, pointer: &str) -> BTreeMap<String, String> {
    let map = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// A pod that a command of the lab makes: nothing runs in it.
pub(crate) fn of_command(pod: &PodName, node: &str, annotations: &BTreeMap<String, String>) -> Value {
    json!({
        "metadata": {"name": pod.name, "namespace": pod.namespace, "annotations": annotations},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "sandbox", "image": "sandbox"}],
        },
    })
}

/// A pod that runs.
pub(crate) fn running(pod: &Value, address: Option<Ipv4Addr>, host: Option<Ipv4Addr>, now: &str) -> Value {
    let since = match object::text(pod, "/status/startTime") {
        "" => now,
        since => since,
    };
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let container = |container: &Value| {
        let (name, image) = (object::text(container, "/name"), object::text(container, "/image"));
        json!({
            "name": name, "image": image, "imageID": image, "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": since}},
        })
    };
    let conditions = ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"];
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": since});
    let list = |address: Option<Ipv4Addr>| address.iter().map(|own| json!({"ip": own.to_string()})).collect::<Vec<_>>();
    json!({
        "phase": "Running", "startTime": since,
        "hostIP": host.map(|own| own.to_string()), "hostIPs": list(host),
        "podIP": address.map(|own| own.to_string()), "podIPs": list(address),
        "conditions": conditions.map(condition),
        "containerStatuses": containers.map(container).collect::<Vec<_>>(),
    })
}

/// A pod whose sandbox could not be made yet.
pub(crate) fn waiting(pod: &Value, host: Option<Ipv4Addr>, now: &str) -> Value {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let container = |container: &Value| {
        let (name, image) = (object::text(container, "/name"), object::text(container, "/image"));
        json!({
            "name": name, "image": image, "imageID": "", "ready": false, "started": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ContainerCreating"}},
        })
    };
    json!({
        "phase": "Pending", "startTime": now, "hostIP": host.map(|own| own.to_string()),
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": now},
        ],
        "containerStatuses": containers.map(container).collect::<Vec<_>>(),
    })
}

/// A pod that no node has room for.
pub(crate) fn unschedulable(message: &str, now: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
        "lastTransitionTime": now,
    }]})
}

/// A pod that its node refuses for good.
pub(crate) fn refused(reason: &str, message: &str, now: &str) -> Value {
    json!({"phase": "Failed", "reason": reason, "message": message, "startTime": now})
}

/// An event about a pod.
pub(crate) fn event(pod: &Value, source: &str, kind: &str, reason: &str, message: &str, now: &str) -> Value {
    json!({
        "metadata": {"generateName": format!("{}.", object::name(pod))},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "name": object::name(pod), "namespace": object::namespace(pod),
            "uid": object::text(pod, "/metadata/uid"),
        },
        "type": kind, "reason": reason, "message": message, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now, "source": {"component": source},
        "reportingComponent": source,
    })
}
