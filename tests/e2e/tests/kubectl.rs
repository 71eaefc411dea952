//! kubectl, built from Kubernetes' own Go module, against the lab's Kubernetes API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::time::Duration;

use e2e::kube::{Api, Said};
use e2e::{skip, strangers};
use lab_kube::{DeleteOptions, Denial, KubeCallFilter, KubeSettings, Part, Resource, User};
use serde_json::{Value, json};

/// An API with two nodes and a pod on the first; `None`: the reason for the skip has been said.
fn api(test: &str) -> Option<Api> {
    let tools = strangers::go_tools("kube").map_err(|reason| skip(test, &reason)).ok()?;
    let api = Api::start(tools, KubeSettings::default());
    for (name, address) in [("n1", "10.0.0.11"), ("n2", "10.0.0.12")] {
        let node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": "a"}},
            "status": {
                "capacity": {"cpu": "2", "memory": "4Gi", "pods": "29"}, "allocatable": {"cpu": "2", "pods": "29"},
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is ready"}],
                "addresses": [{"type": "InternalIP", "address": address}],
                "nodeInfo": {"kubeletVersion": "v1.34.4", "osImage": "Lab", "kernelVersion": "6.1", "containerRuntimeVersion": "lab://1"},
            },
        });
        api.handle.create(&Resource::NODES, "", node).unwrap();
    }
    let pod = json!({
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "pause:3"}]},
    });
    api.handle.create(&Resource::PODS, "default", pod).unwrap();
    run(&api, "web", "10.0.1.5");
    Some(api)
}

/// Says what a kubelet says of a pod that runs.
fn run(api: &Api, name: &str, ip: &str) {
    let mut pod = api.object(&Resource::PODS, "default", name);
    pod["status"] = json!({
        "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "qosClass": "BestEffort",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{
            "name": "main", "image": "pause:3", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }],
    });
    api.handle.update(&Resource::PODS, "default", name, pod, Part::Status).unwrap();
}

fn ok(api: &Api, arguments: &[&str], input: &str) -> String {
    let Said { ok, out, err } = api.kubectl(arguments, input);
    assert!(ok, "kubectl {}\n{out}{err}", arguments.join(" "));
    out
}

fn until(what: &str, so: impl FnMut() -> bool) {
    e2e::wait_until(what, Duration::from_secs(60), so, |so| *so);
}

/// The lines of a table, cell by cell; columns that grow older are not in it.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn kubectl_get_prints_what_it_prints_elsewhere() {
    let Some(api) = api("kubectl_get_prints_what_it_prints_elsewhere") else { return };
    let table = ok(&api, &["get", "nodes"], "");
    let rows_of = rows(&table);
    assert_eq!(rows_of[0], ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]);
    assert_eq!((rows_of[1][0], rows_of[1][1], rows_of[1][4]), ("n1", "Ready", "v1.34.4"));
    assert_eq!(rows_of.len(), 3);

    let table = ok(&api, &["get", "pods", "-o", "wide"], "");
    let rows_of = rows(&table);
    assert_eq!(rows_of[0][..7], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]);
    let row = &rows_of[1];
    assert_eq!((&row[..4], &row[5..7]), (&["web", "1/1", "Running", "0"][..], &["10.0.1.5", "n1"][..]));

    let yaml = ok(&api, &["get", "pod", "web", "-o", "yaml"], "");
    assert!(yaml.starts_with("apiVersion: v1\nkind: Pod\n") && yaml.contains("  nodeName: n1\n"), "{yaml}");
    assert_eq!(ok(&api, &["get", "pods", "-A", "-o", "name"], ""), "pod/web\n");
    assert_eq!(ok(&api, &["get", "po", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"], ""), "web");
    assert_eq!(ok(&api, &["get", "po", "-l", "app=db", "-o", "name"], ""), "");
    assert_eq!(ok(&api, &["get", "po", "--field-selector", "spec.nodeName=n1", "-o", "name"], ""), "pod/web\n");
    assert_eq!(ok(&api, &["get", "po", "--field-selector", "spec.nodeName=n2", "-o", "name"], ""), "");
    assert_eq!(
        ok(&api, &["get", "ns", "--no-headers", "-o", "custom-columns=N:.metadata.name"], "").lines().count(),
        4
    );
    for kind in [
        "cm",
        "ds",
        "crd",
        "sa",
        "secrets",
        "svc",
        "ep",
        "endpointslices",
        "leases",
        "events",
        "eniconfigs",
        "cnd",
        "all",
    ] {
        let said = api.kubectl(&["get", kind, "-A"], "");
        assert!(said.ok, "{kind}: {}", said.err);
    }

    let missing = api.kubectl(&["get", "pod", "nobody"], "");
    assert_eq!(missing.err, "Error from server (NotFound): pods \"nobody\" not found\n");
    let unknown = api.kubectl(&["get", "unicorns"], "");
    assert_eq!(unknown.err, "error: the server doesn't have a resource type \"unicorns\"\n");
    let selector = api.kubectl(&["get", "nodes", "--field-selector", "spec.nodeName=n1"], "");
    assert!(selector.err.contains("field label not supported: spec.nodeName"), "{}", selector.err);
}

#[test]
fn kubectl_describe_finds_everything_it_looks_for() {
    let Some(api) = api("kubectl_describe_finds_everything_it_looks_for") else { return };
    let uid = api.object(&Resource::PODS, "default", "web")["metadata"]["uid"].clone();
    let event = json!({
        "metadata": {"name": "web.1"}, "type": "Warning", "reason": "FailedCreatePodSandBox", "message": "no address",
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "web", "uid": uid}, "source": {"component": "kubelet"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1,
    });
    api.handle.create(&Resource::EVENTS, "default", event).unwrap();
    let pod = ok(&api, &["describe", "pod", "web"], "");
    for line in
        ["Name:             web", "Node:             n1", "IP:               10.0.1.5", "FailedCreatePodSandBox"]
    {
        assert!(pod.contains(line), "`{line}` is missing:\n{pod}");
    }
    let node = ok(&api, &["describe", "node", "n1"], "");
    assert!(
        node.contains("Non-terminated Pods:          (1 in total)") && node.contains("InternalIP:  10.0.0.11"),
        "{node}"
    );
    let config = json!({"metadata": {"name": "zone-a"}, "spec": {"subnet": "subnet-1"}});
    api.handle.create(&Resource::ENI_CONFIGS, "", config).unwrap();
    assert!(ok(&api, &["describe", "eniconfig", "zone-a"], "").contains("Subnet:  subnet-1"));
    let events = ok(&api, &["get", "events"], "");
    assert!(events.contains("Warning") && events.contains("pod/web") && events.contains("no address"), "{events}");
    assert!(ok(&api, &["events", "--for", "pod/web"], "").contains("no address"));
}

#[test]
fn kubectl_creates_applies_and_deletes() {
    let Some(api) = api("kubectl_creates_applies_and_deletes") else { return };
    let manifest = |label: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: db\n  labels: {{app: {label}}}\nspec:\n  nodeName: n2\n  containers:\n  - name: main\n    image: pause:3\n"
        )
    };
    assert_eq!(ok(&api, &["create", "-f", "-"], &manifest("db")), "pod/db created\n");
    let pod = api.object(&Resource::PODS, "default", "db");
    assert_eq!((&pod["status"]["phase"], &pod["spec"]["serviceAccountName"]), (&json!("Pending"), &json!("default")));
    let again = api.kubectl(&["create", "-f", "-"], &manifest("db"));
    assert_eq!(
        again.err,
        "Error from server (AlreadyExists): error when creating \"STDIN\": pods \"db\" already exists\n"
    );

    assert_eq!(ok(&api, &["apply", "-f", "-"], &manifest("database")), "pod/db configured\n");
    assert_eq!(api.object(&Resource::PODS, "default", "db")["metadata"]["labels"], json!({"app": "database"}));
    assert_eq!(ok(&api, &["apply", "-f", "-"], &manifest("database")), "pod/db unchanged\n");
    let config = "apiVersion: crd.k8s.amazonaws.com/v1alpha1\nkind: ENIConfig\nmetadata: {name: zone-a}\nspec: {subnet: subnet-1, securityGroups: [sg-1]}\n";
    assert_eq!(ok(&api, &["apply", "-f", "-"], config), "eniconfig.crd.k8s.amazonaws.com/zone-a created\n");
    let changed = config.replace("sg-1", "sg-2");
    assert_eq!(ok(&api, &["apply", "-f", "-"], &changed), "eniconfig.crd.k8s.amazonaws.com/zone-a configured\n");
    assert_eq!(api.object(&Resource::ENI_CONFIGS, "", "zone-a")["spec"]["securityGroups"], json!(["sg-2"]));
    let faulty = api.kubectl(&["create", "-f", "-"], &config.replace("subnet: subnet-1, ", "").replace("zone-a", "b"));
    assert!(faulty.err.contains("The ENIConfig \"b\" is invalid: spec.subnet: Required value"), "{}", faulty.err);
    assert!(
        ok(&api, &["apply", "--dry-run=server", "-f", "-"], &config.replace("zone-a", "c"))
            .contains("created (server dry run)")
    );
    assert!(api.handle.get(&Resource::ENI_CONFIGS, "", "c").is_err());

    ok(&api, &["create", "namespace", "team"], "");
    ok(&api, &["create", "configmap", "settings", "--from-literal", "a=b", "-n", "team"], "");
    ok(&api, &["create", "serviceaccount", "robot", "-n", "team"], "");
    assert_eq!(ok(&api, &["create", "token", "robot", "-n", "team"], "").matches('.').count(), 2);
    assert_eq!(ok(&api, &["delete", "namespace", "team"], ""), "namespace \"team\" deleted\n");
    assert!(api.handle.get(&Resource::CONFIG_MAPS, "team", "settings").is_err());

    // A pod on a node ends when its kubelet says so: kubectl waits for that.
    let deleting = api.begin_kubectl(&["delete", "pod", "db"]);
    until("the deletion begins", || lab_kube::object::deleting(&api.object(&Resource::PODS, "default", "db")));
    assert_eq!(api.object(&Resource::PODS, "default", "db")["metadata"]["deletionGracePeriodSeconds"], 30);
    let now = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    assert!(api.handle.delete(&Resource::PODS, "default", "db", &now).unwrap().gone);
    let said = e2e::kube::said(deleting);
    assert_eq!((said.ok, said.out.as_str()), (true, "pod \"db\" deleted from default namespace\n"), "{}", said.err);
    ok(&api, &["delete", "pod", "web", "--grace-period=0", "--force"], "");
    assert!(api.handle.get(&Resource::PODS, "default", "web").is_err());
}

#[test]
fn kubectl_changes_objects_in_all_its_ways() {
    let Some(api) = api("kubectl_changes_objects_in_all_its_ways") else { return };
    let node = |api: &Api| api.object(&Resource::NODES, "", "n1");
    for (kind, patch, label) in [
        ("merge", r#"{"metadata":{"labels":{"way":"merge"}}}"#, "merge"),
        ("json", r#"[{"op":"replace","path":"/metadata/labels/way","value":"json"}]"#, "json"),
        ("strategic", r#"{"metadata":{"labels":{"way":"strategic"}}}"#, "strategic"),
    ] {
        ok(&api, &["patch", "node", "n1", "--type", kind, "-p", patch], "");
        assert_eq!(node(&api)["metadata"]["labels"]["way"], label);
    }
    let condition = r#"{"status":{"conditions":[{"type":"NetworkUnavailable","status":"False"}]}}"#;
    ok(&api, &["patch", "node", "n1", "--subresource", "status", "-p", condition], "");
    assert_eq!(node(&api)["status"]["conditions"].as_array().unwrap().len(), 2);
    ok(&api, &["label", "node", "n1", "vpc.amazonaws.com/externalEniConfig=zone-a", "way-"], "");
    ok(&api, &["annotate", "node", "n1", "k8s.amazonaws.com/eniConfig=zone-b"], "");
    assert_eq!(node(&api)["metadata"]["labels"]["vpc.amazonaws.com/externalEniConfig"], "zone-a");
    assert_eq!(node(&api)["metadata"]["labels"].get("way"), None);
    assert_eq!(node(&api)["metadata"]["annotations"]["k8s.amazonaws.com/eniConfig"], "zone-b");
    ok(&api, &["cordon", "n1"], "");
    assert!(ok(&api, &["get", "node", "n1"], "").contains("Ready,SchedulingDisabled"));
    ok(&api, &["taint", "node", "n1", "a=b:NoSchedule"], "");
    assert_eq!(node(&api)["spec"]["taints"][0]["key"], "a");
    ok(&api, &["taint", "node", "n1", "a-"], "");
    assert_eq!(node(&api)["spec"].get("taints").and_then(Value::as_array).map_or(0, Vec::len), 0);

    let feature = r#"{"spec":{"features":[{"name":"SecurityGroupsForPods"}]}}"#;
    api.handle.create(&Resource::CNI_NODES, "", json!({"metadata": {"name": "n1"}})).unwrap();
    let strategic = api.kubectl(&["patch", "cninode", "n1", "--type", "strategic", "-p", feature], "");
    assert!(!strategic.ok);
    ok(&api, &["patch", "cninode", "n1", "--type", "merge", "-p", feature], "");
    assert!(ok(&api, &["get", "cnd"], "").contains("SecurityGroupsForPods"));

    let set = json!({
        "metadata": {"name": "aws-node"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
            "containers": [{"name": "aws-node", "image": "x", "env": [{"name": "A", "value": "1"}]}, {"name": "agent", "image": "y"}]}}},
    });
    api.handle.create(&Resource::DAEMON_SETS, "kube-system", set).unwrap();
    ok(
        &api,
        &["set", "env", "daemonset", "aws-node", "-n", "kube-system", "-c", "aws-node", "WARM_IP_TARGET=3", "A-"],
        "",
    );
    let containers =
        api.object(&Resource::DAEMON_SETS, "kube-system", "aws-node")["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!(containers[0]["env"], json!([{"name": "WARM_IP_TARGET", "value": "3"}]));
    assert_eq!(containers[1]["name"], "agent");
}

#[test]
fn what_clients_send_in_protobuf_is_read_as_kubernetes_own_types_say() {
    const TEST: &str = "what_clients_send_in_protobuf_is_read_as_kubernetes_own_types_say";
    let tools = match strangers::go_tools("kube") {
        Ok(tools) => tools,
        Err(reason) => return skip(TEST, &reason),
    };
    let said = std::process::Command::new(tools.join("clients")).arg("fields").output().unwrap();
    let known = std::fs::read_to_string(e2e::root().join("lab/kube/src/fields.tsv")).unwrap();
    assert!(
        known == String::from_utf8_lossy(&said.stdout),
        "lab/kube/src/fields.tsv is not what `clients fields` prints"
    );
}

#[test]
fn kubectl_watches() {
    let Some(api) = api("kubectl_watches") else { return };
    let mut watching = api.begin_kubectl(&["get", "pods", "-w", "-o", "wide", "--field-selector", "spec.nodeName=n2"]);
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (said, heard) = std::sync::mpsc::channel();
    let reading = std::thread::spawn(move || lines.for_each(|line| said.send(line).unwrap_or(())));
    until("kubectl watches", || {
        !api.handle.calls(&KubeCallFilter { verb: Some("watch".into()), ..KubeCallFilter::default() }).is_empty()
    });
    let pod = json!({"metadata": {"name": "late"}, "spec": {"nodeName": "n2", "containers": [{"name": "main", "image": "pause:3"}]}});
    api.handle.create(&Resource::PODS, "default", pod).unwrap();
    run(&api, "late", "10.0.1.9");
    let wait = Duration::from_secs(60);
    let header = heard.recv_timeout(wait).unwrap();
    assert!(header.starts_with("NAME") && header.contains("NODE"), "{header}");
    let (first, second) = (heard.recv_timeout(wait).unwrap(), heard.recv_timeout(wait).unwrap());
    assert!(first.starts_with("late") && first.contains("Pending"), "{first}");
    assert!(second.contains("Running") && second.contains("10.0.1.9"), "{second}");
    watching.kill().unwrap();
    watching.wait().unwrap();
    reading.join().unwrap();

    let waiting = api.begin_kubectl(&["wait", "--for=condition=Ready", "pod/late", "--timeout=60s"]);
    assert!(e2e::kube::said(waiting).ok);
}

#[test]
fn kubectl_is_told_what_there_is_and_what_is_allowed() {
    let Some(api) = api("kubectl_is_told_what_there_is_and_what_is_allowed") else { return };
    let resources = ok(&api, &["api-resources"], "");
    for line in
        [["pods", "po", "v1", "true", "Pod"], ["cninodes", "cnd", "vpcresources.k8s.aws/v1alpha1", "false", "CNINode"]]
    {
        assert!(rows(&resources).iter().any(|row| row == &line), "{line:?} is missing:\n{resources}");
    }
    assert!(ok(&api, &["api-versions"], "").contains("coordination.k8s.io/v1\n"));
    assert!(ok(&api, &["get", "--raw", "/version"], "").contains("v1.34.4"));
    assert_eq!(ok(&api, &["get", "--raw", "/readyz"], ""), "ok");
    assert_eq!(ok(&api, &["auth", "can-i", "create", "pods"], ""), "yes\n");
    assert!(ok(&api, &["auth", "whoami"], "").contains("kubernetes-admin"));

    let denial = Denial::new("list", "nodes").to(User::admin().name);
    api.handle.deny(denial.clone());
    assert_eq!(api.kubectl(&["auth", "can-i", "list", "nodes"], "").out, "no\n");
    let refused = api.kubectl(&["get", "nodes"], "");
    let words = "Error from server (Forbidden): nodes is forbidden: User \"kubernetes-admin\" cannot list resource \"nodes\" in API group \"\" at the cluster scope\n";
    assert_eq!(refused.err, words);
    assert!(api.handle.allow(&denial));
    ok(&api, &["get", "nodes"], "");

    let stranger = api.kubectl(&["get", "nodes", "--token", "nobody"], "");
    assert!(!stranger.ok && stranger.err.contains("Unauthorized"), "{}", stranger.err);
    let refusals = api.handle.calls(&KubeCallFilter { errors_only: true, ..KubeCallFilter::default() });
    let seen: Vec<(u16, Option<&str>)> = refusals.iter().map(|call| (call.status, call.user.as_deref())).collect();
    assert!(seen.contains(&(403, Some("kubernetes-admin"))) && seen.contains(&(401, None)), "{seen:?}");
    let listed = api.handle.calls(&KubeCallFilter {
        verb: Some("list".into()),
        resource: Some("nodes".into()),
        ..KubeCallFilter::default()
    });
    assert!(listed.iter().all(|call| call.user_agent.starts_with("kubectl/")), "{listed:?}");

    // A definition of somebody else's makes its resource.
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "pools.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced", "names": {"kind": "Pool", "plural": "pools"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]},
    });
    ok(&api, &["create", "-f", "-"], &crd.to_string());
    ok(&api, &["wait", "--for=condition=Established", "crd/pools.example.org", "--timeout=60s"], "");
    ok(
        &api,
        &["create", "-f", "-"],
        r#"{"apiVersion": "example.org/v1", "kind": "Pool", "metadata": {"name": "big"}, "spec": {"size": 3}}"#,
    );
    assert!(ok(&api, &["get", "pools"], "").contains("big"));
    ok(&api, &["delete", "crd", "pools.example.org"], "");
    assert!(!api.kubectl(&["get", "pools"], "").ok);
}

#[test]
fn kubectl_finds_nobody_while_the_api_server_is_away() {
    let Some(api) = api("kubectl_finds_nobody_while_the_api_server_is_away") else { return };
    let mut watching = api.begin_kubectl(&["get", "pods", "-w"]);
    until("kubectl watches", || {
        !api.handle.calls(&KubeCallFilter { verb: Some("watch".into()), ..KubeCallFilter::default() }).is_empty()
    });
    api.handle.set_away(true);
    // Its connection is cut: the watch ends.
    watching.stdin.take();
    assert!(!e2e::kube::said(watching).out.is_empty());
    until("connections are refused", || {
        std::net::TcpStream::connect(api.address)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    let refused = api.kubectl(&["get", "pods"], "");
    assert!(!refused.ok && refused.err.contains("was refused"), "{}", refused.err);
    api.handle.set_away(false);
    until("connections are taken", || std::net::TcpStream::connect(api.address).is_ok());
    ok(&api, &["get", "pods"], "");
}
