//! The cells of each kind, in the order and with the words of Kubernetes' own tables.

use serde_json::{Value, json};

use crate::api::table::{Cell, age};
use crate::object::{self, text};
use crate::resource::{Definition, Resource};

/// What stands where there is nothing.
const NONE: &str = "<none>";

/// The cells of an object, or, of no object at all, the columns.
pub(crate) fn cells(definition: &Definition, of: &Value, now: i64) -> Vec<Cell> {
    let resource = &definition.resource;
    let own = match resource {
        _ if definition.custom => return custom(definition, of, now),
        r if *r == Resource::EVENTS || *r == Resource::NEW_EVENTS => return event(of, *r == Resource::NEW_EVENTS, now),
        r if *r == Resource::PODS => return pod(of, now),
        r if *r == Resource::NODES => return node(of, now),
        r if *r == Resource::SERVICES => return service(of, now),
        r if *r == Resource::NAMESPACES => vec![cell("Status", text(of, "/status/phase"))],
        r if *r == Resource::CONFIG_MAPS => vec![cell("Data", count(of, "/data") + count(of, "/binaryData"))],
        r if *r == Resource::SECRETS => vec![cell("Type", text(of, "/type")), cell("Data", count(of, "/data"))],
        r if *r == Resource::SERVICE_ACCOUNTS => vec![cell("Secrets", count(of, "/secrets"))],
        r if *r == Resource::LEASES => vec![cell("Holder", text(of, "/spec/holderIdentity"))],
        r if *r == Resource::ENDPOINTS => vec![cell("Endpoints", endpoints(of))],
        r if *r == Resource::ENDPOINT_SLICES => vec![
            cell("AddressType", text(of, "/addressType")),
            cell("Ports", or_none(&join(of, "/ports", |port| port["port"].to_string()))),
            cell("Endpoints", or_none(&join(of, "/endpoints", |one| text(one, "/addresses/0").to_owned()))),
        ],
        r if *r == Resource::DAEMON_SETS => daemon_set(of),
        r if *r == Resource::CRDS => {
            let created = text(of, "/metadata/creationTimestamp");
            return vec![name(of), cell("Created At", created)];
        }
        _ => Vec::new(),
    };
    std::iter::once(name(of)).chain(own).chain([since_creation(of, now)]).collect()
}

fn cell(column: &str, value: impl Into<Value>) -> Cell {
    Cell { column: column.to_owned(), value: value.into(), wide: false }
}

fn wide(column: &str, value: impl Into<Value>) -> Cell {
    Cell { wide: true, ..cell(column, value) }
}

fn name(of: &Value) -> Cell {
    cell("Name", object::name(of))
}

fn since_creation(of: &Value, now: i64) -> Cell {
    cell("Age", age(text(of, "/metadata/creationTimestamp"), now))
}

// -- pods ----------------------------------------------------------------------------------------------------------------

fn pod(pod: &Value, now: i64) -> Vec<Cell> {
    let statuses = list(pod, "/status/containerStatuses");
    let ready = statuses.iter().filter(|status| status["ready"] == true).count();
    let restarts: u64 = statuses.iter().filter_map(|status| status["restartCount"].as_u64()).sum();
    let gates = list(pod, "/spec/readinessGates").len();
    vec![
        name(pod),
        cell("Ready", format!("{ready}/{}", list(pod, "/spec/containers").len())),
        cell("Status", pod_status(pod, statuses)),
        cell("Restarts", restarts.to_string()),
        since_creation(pod, now),
        wide("IP", or_none(text(pod, "/status/podIP"))),
        wide("Node", or_none(text(pod, "/spec/nodeName"))),
        wide("Nominated Node", or_none(text(pod, "/status/nominatedNodeName"))),
        wide("Readiness Gates", if gates == 0 { NONE.to_owned() } else { format!("0/{gates}") }),
    ]
}

/// The most telling word: that it is going, why a container does not run, or the phase.
fn pod_status(pod: &Value, statuses: &[Value]) -> String {
    if object::deleting(pod) {
        return "Terminating".to_owned();
    }
    let of_container = |status: &Value| {
        let reason = |state: &str| text(status, &format!("/state/{state}/reason")).to_owned();
        [reason("waiting"), reason("terminated")].into_iter().find(|reason| !reason.is_empty())
    };
    let own = Some(text(pod, "/status/reason").to_owned()).filter(|reason| !reason.is_empty());
    let phase = || text(pod, "/status/phase").to_owned();
    statuses.iter().find_map(of_container).or(own).unwrap_or_else(phase)
}

// -- nodes ---------------------------------------------------------------------------------------------------------------

fn node(node: &Value, now: i64) -> Vec<Cell> {
    let address = |kind: &str| {
        let found = list(node, "/status/addresses").iter().find(|address| address["type"] == kind);
        or_none(found.map_or("", |address| text(address, "/address")))
    };
    let info = |field: &str| text(node, &format!("/status/nodeInfo/{field}")).to_owned();
    let unknown = |text: String| if text.is_empty() { "<unknown>".to_owned() } else { text };
    vec![
        name(node),
        cell("Status", node_status(node)),
        cell("Roles", roles(node)),
        since_creation(node, now),
        cell("Version", info("kubeletVersion")),
        wide("Internal-IP", address("InternalIP")),
        wide("External-IP", address("ExternalIP")),
        wide("OS-Image", unknown(info("osImage"))),
        wide("Kernel-Version", unknown(info("kernelVersion"))),
        wide("Container-Runtime", unknown(info("containerRuntimeVersion"))),
    ]
}

fn node_status(node: &Value) -> String {
    let ready = list(node, "/status/conditions").iter().find(|condition| condition["type"] == "Ready");
    let status = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if node.pointer("/spec/unschedulable").is_some_and(|flag| *flag == true) {
        format!("{status},SchedulingDisabled")
    } else {
        status.to_owned()
    }
}

fn roles(node: &Value) -> String {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let roles = labels.into_iter().flatten().filter_map(|(label, _)| label.strip_prefix("node-role.kubernetes.io/"));
    or_none(&roles.collect::<Vec<_>>().join(","))
}

// -- services ------------------------------------------------------------------------------------------------------------

fn service(service: &Value, now: i64) -> Vec<Cell> {
    let port = |port: &Value| {
        let protocol = match text(port, "/protocol") {
            "" => "TCP",
            protocol => protocol,
        };
        match port["nodePort"].as_u64() {
            Some(node) => format!("{}:{node}/{protocol}", port["port"]),
            None => format!("{}/{protocol}", port["port"]),
        }
    };
    let external = join(service, "/spec/externalIPs", |ip| ip.as_str().unwrap_or_default().to_owned());
    let selector = service.pointer("/spec/selector").and_then(Value::as_object);
    let selector =
        selector.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    vec![
        name(service),
        cell("Type", text(service, "/spec/type")),
        cell("Cluster-IP", or_none(text(service, "/spec/clusterIP"))),
        cell("External-IP", or_none(&external)),
        cell("Port(s)", or_none(&join(service, "/spec/ports", port))),
        since_creation(service, now),
        wide("Selector", or_none(&selector.collect::<Vec<_>>().join(","))),
    ]
}

fn endpoints(of: &Value) -> String {
    let mut all = Vec::new();
    for subset in list(of, "/subsets") {
        let ports = list(subset, "/ports");
        for address in list(subset, "/addresses") {
            let ip = text(address, "/ip");
            all.extend(ports.iter().map(|port| format!("{ip}:{}", port["port"])));
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
        }
    }
    or_none(&all.join(","))
}

// -- the rest ------------------------------------------------------------------------------------------------------------

fn daemon_set(set: &Value) -> Vec<Cell> {
    let number = |field: &str| set.pointer(&format!("/status/{field}")).and_then(Value::as_u64).unwrap_or(0);
    let selector = set.pointer("/spec/template/spec/nodeSelector").and_then(Value::as_object);
    let selector =
        selector.into_iter().flatten().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    vec![
        cell("Desired", number("desiredNumberScheduled")),
        cell("Current", number("currentNumberScheduled")),
        cell("Ready", number("numberReady")),
        cell("Up-to-date", number("updatedNumberScheduled")),
        cell("Available", number("numberAvailable")),
        cell("Node Selector", or_none(&selector.collect::<Vec<_>>().join(","))),
    ]
}

fn event(event: &Value, new: bool, now: i64) -> Vec<Cell> {
    let (object, message, count, first, last) = if new {
        ("/regarding", "/note", "/deprecatedCount", "/deprecatedFirstTimestamp", "/deprecatedLastTimestamp")
    } else {
        ("/involvedObject", "/message", "/count", "/firstTimestamp", "/lastTimestamp")
    };
    let series = event.pointer("/series/lastObservedTime").and_then(Value::as_str).unwrap_or_default();
    let times = [series, text(event, last), text(event, "/eventTime"), text(event, first)];
    let seen = times.into_iter().find(|time| !time.is_empty()).unwrap_or_default();
    let about =
        format!("{}/{}", text(event, &format!("{object}/kind")).to_lowercase(), text(event, &format!("{object}/name")));
    let source =
        [text(event, "/source/component"), text(event, "/reportingComponent"), text(event, "/reportingController")];
    let first = [text(event, first), text(event, "/eventTime")].into_iter().find(|time| !time.is_empty());
    vec![
        cell("Last Seen", age(seen, now)),
        cell("Type", text(event, "/type")),
        cell("Reason", text(event, "/reason")),
        cell("Object", about),
        wide("Subobject", text(event, &format!("{object}/fieldPath"))),
        wide("Source", source.into_iter().find(|source| !source.is_empty()).unwrap_or_default()),
        cell("Message", text(event, message).trim()),
        wide("First Seen", age(first.unwrap_or_default(), now)),
        wide("Count", event.pointer(count).and_then(Value::as_u64).unwrap_or(1).to_string()),
        wide("Name", object::name(event)),
    ]
}

/// Name, and the columns of the definition; if it has none, the age.
fn custom(definition: &Definition, of: &Value, now: i64) -> Vec<Cell> {
    let mut cells = vec![name(of)];
    if definition.columns.is_empty() {
        cells.push(since_creation(of, now));
    }
    for column in &definition.columns {
        let pointer = text(column, "/jsonPath").replace('.', "/");
        let value = match of.pointer(&pointer) {
            Some(Value::String(time)) if column["type"] == "date" => json!(age(time, now)),
            Some(Value::String(text)) => json!(text),
            Some(value) => json!(value.to_string()),
            None => json!(""),
        };
        let wide = column["priority"].as_u64().unwrap_or(0) > 0;
        cells.push(Cell { column: text(column, "/name").to_owned(), value, wide });
    }
    cells
}

fn list<'a>(of: &'a Value, pointer: &str) -> &'a [Value] {
    of.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn count(of: &Value, pointer: &str) -> usize {
    match of.pointer(pointer) {
        Some(Value::Array(list)) => list.len(),
        Some(Value::Object(map)) => map.len(),
        Some(_) | None => 0,
    }
}

fn join(of: &Value, pointer: &str, one: impl Fn(&Value) -> String) -> String {
    list(of, pointer).iter().map(one).collect::<Vec<_>>().join(",")
}

fn or_none(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { text.to_owned() }
}
