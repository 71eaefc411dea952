//! The Kubernetes API in a lab, as a program on a node sees it: in-cluster configuration, its own node, pods that are started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{SMALL, start, topology, with_toys};
use serde_json::{Value, json};
use vpc_lab::Lab;
use vpc_lab::control::Place;
use vpc_lab::fault::{Fault, NodeFault};
use vpc_lab::kubelet::PodName;

/// One request from a node, with what in-cluster configuration finds there and nothing else. Prints status and body.
const ASK: &str = r#"
import json, os, ssl, sys, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
server = "https://%s:%s" % (os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"])
method, path, body, token = sys.argv[1:5]
request = urllib.request.Request(server + path, method=method, data=body.encode() or None)
request.add_header("Authorization", "Bearer " + (token or open(folder + "token").read()))
request.add_header("Content-Type", "application/json")
try:
    answer = urllib.request.urlopen(request, context=ssl.create_default_context(cafile=folder + "ca.crt"), timeout=10)
except urllib.error.HTTPError as refusal:
    answer = refusal
print(json.dumps([answer.status, json.loads(answer.read())]))
"#;

/// As people do, from a node: the account that lies there may do only what the daemon needs.
fn ask(lab: &Lab, node: &str, method: &str, path: &str, body: &Value) -> (u64, Value) {
    let config: Value = serde_json::from_slice(&std::fs::read(lab.place().kubeconfig()).unwrap()).unwrap();
    ask_with(lab, node, method, path, body, config["users"][0]["user"]["token"].as_str().unwrap())
}

/// As the node's daemon does.
fn ask_as_daemon(lab: &Lab, node: &str, method: &str, path: &str, body: &Value) -> (u64, Value) {
    ask_with(lab, node, method, path, body, "")
}

/// An empty token is the one that lies on the node.
fn ask_with(lab: &Lab, node: &str, method: &str, path: &str, body: &Value, token: &str) -> (u64, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let place = Place::Node(node.to_owned());
    let output = lab.run(&place, &["python3", "-c", ASK, method, path, &body, token]).unwrap();
    assert_eq!(output.code, 0, "{method} {path}: {output:?}");
    let answer: Value = serde_json::from_str(&output.stdout).unwrap();
    (answer[0].as_u64().unwrap(), answer[1].clone())
}

fn get(lab: &Lab, path: &str) -> Value {
    let (status, body) = ask(lab, "a", "GET", path, &Value::Null);
    assert_eq!(status, 200, "{path}: {body:#}");
    body
}

fn wait_for(what: &str, mut look: impl FnMut() -> Option<Value>) -> Value {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} has not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": {"who": "me"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    pod
}

const PODS: &str = "/api/v1/namespaces/default/pods";

fn create(lab: &Lab, pod: &Value) {
    let (status, body) = ask(lab, "a", "POST", PODS, pod);
    assert_eq!(status, 201, "{body:#}");
}

fn phase(lab: &Lab, name: &str, wanted: &str) -> Value {
    wait_for(&format!("{name} {wanted}"), || {
        let pod = get(lab, &format!("{PODS}/{name}"));
        (pod["status"]["phase"] == wanted).then_some(pod)
    })
}

#[test]
fn a_node_finds_itself_and_whatever_the_topology_says_is_there() {
    let objects = r#"
[[objects]]
apiVersion = "crd.k8s.amazonaws.com/v1alpha1"
kind = "ENIConfig"
metadata = { name = "zone-a" }
spec = { subnet = "${subnet.private-a}", securityGroups = ["${group.default}"] }
"#;
    let lab = start(&topology(&format!("{SMALL}{objects}")));
    let own = get(&lab, "/api/v1/nodes/a");
    assert_eq!(own["status"]["conditions"][0]["status"], "True", "{own:#}");
    assert_eq!(own["status"]["addresses"][0]["address"], "10.20.8.10");
    assert_eq!(own["metadata"]["labels"]["topology.kubernetes.io/zone"], "ap-northeast-2a");
    assert_eq!(own["metadata"]["labels"]["topology.k8s.aws/zone-id"], "apne2-az1");
    assert!(own["spec"]["providerID"].as_str().unwrap().starts_with("aws:///ap-northeast-2a/i-"), "{own:#}");
    // As EKS has it for an m5.large: 3 ENIs of 9 addresses, and 2.
    assert_eq!(own["status"]["capacity"]["pods"], "29");
    let config = get(&lab, "/apis/crd.k8s.amazonaws.com/v1alpha1/eniconfigs/zone-a");
    assert!(config["spec"]["subnet"].as_str().unwrap().starts_with("subnet-"), "{config:#}");
}

#[test]
fn pods_of_the_api_are_placed_started_and_ended_by_the_labs_kubelet() {
    let mut topology = with_toys();
    topology.nodes.iter_mut().for_each(|node| node.max_pods = 1);
    let lab = start(&topology);
    create(&lab, &pod("one", json!({"nodeSelector": {"kubernetes.io/hostname": "b"}})));
    let one = phase(&lab, "one", "Running");
    assert_eq!((&one["spec"]["nodeName"], &one["status"]["podIP"]), (&json!("b"), &json!("10.20.8.99")), "{one:#}");
    let name: PodName = "default/one".parse().unwrap();
    let known = |lab: &Lab| lab.status().unwrap().nodes.iter().any(|node| node.pods.iter().any(|own| own.pod == name));
    assert!(known(&lab));
    // Its annotations go to the plugins.
    let given = lab.run(&Place::Node("b".into()), &["sh", "-c", "cat /var/lib/toy/*.ADD.stdin"]).unwrap().stdout;
    assert!(given.contains(r#""who":"me""#), "{given}");

    // The node is full now: the next pod with the same wish stays where it is, and one that is put there is refused.
    create(&lab, &pod("two", json!({"nodeSelector": {"kubernetes.io/hostname": "b"}})));
    let two = wait_for("the reason", || {
        let two = get(&lab, &format!("{PODS}/two"));
        (two["status"]["conditions"][0]["reason"] == "Unschedulable").then_some(two)
    });
    assert_eq!(two["status"]["phase"], "Pending", "{two:#}");
    create(&lab, &pod("three", json!({"nodeName": "b"})));
    assert_eq!(phase(&lab, "three", "Failed")["status"]["reason"], "OutOfpods");

    let (status, _) = ask(&lab, "a", "DELETE", &format!("{PODS}/one"), &Value::Null);
    assert_eq!(status, 200);
    wait_for("the end of one", || {
        (ask(&lab, "a", "GET", &format!("{PODS}/one"), &Value::Null).0 == 404).then_some(Value::Null)
    });
    assert!(!known(&lab));
    phase(&lab, "two", "Running");
}

#[test]
fn a_pod_whose_plugin_fails_is_tried_again_and_says_why() {
    let lab = start(&with_toys());
    let node = Place::Node("a".into());
    lab.run(&node, &["sh", "-c", "touch /var/lib/fail-ADD"]).unwrap();
    create(&lab, &pod("late", json!({"nodeName": "a"})));
    wait_for("the event", || {
        let events = get(&lab, "/api/v1/namespaces/default/events");
        let mut events = events["items"].as_array().unwrap().clone();
        events.retain(|event| event["reason"] == "FailedCreatePodSandBox");
        events.first().filter(|event| event["message"].as_str().unwrap().contains("no address for a toy")).cloned()
    });
    lab.run(&node, &["rm", "/var/lib/fail-ADD"]).unwrap();
    phase(&lab, "late", "Running");
}

#[test]
fn pods_of_commands_and_pods_of_the_api_are_the_same_pods() {
    let lab = start(&with_toys());
    let name: PodName = "shop/web".parse().unwrap();
    lab.pod_add("a", &name, 1).unwrap();
    let shown = get(&lab, "/api/v1/namespaces/shop/pods/web");
    assert_eq!(shown["status"]["phase"], "Running", "{shown:#}");
    assert_eq!(shown["status"]["podIP"], "10.20.8.99");
    lab.pod_del("a", &name).unwrap();
    assert_eq!(ask(&lab, "a", "GET", "/api/v1/namespaces/shop/pods/web", &Value::Null).0, 404);
    // Without power the node is silent, and its pods stay what they were.
    lab.pod_add("a2", &name, 1).unwrap();
    lab.power("a2", false).unwrap();
    wait_for("silence", || {
        let node = get(&lab, "/api/v1/nodes/a2");
        (node["status"]["conditions"][0]["status"] == "Unknown").then_some(node)
    });
    lab.power("a2", true).unwrap();
    phase_in(&lab, "shop", "web");
}

fn phase_in(lab: &Lab, namespace: &str, name: &str) {
    let pod = get(lab, &format!("/api/v1/namespaces/{namespace}/pods/{name}"));
    assert_eq!(pod["status"]["phase"], "Running", "{pod:#}");
}

#[test]
fn a_verb_is_denied_until_the_fault_is_lifted() {
    let lab = start(&topology(SMALL));
    let nodes = |lab: &Lab| ask_as_daemon(lab, "a", "GET", "/api/v1/nodes", &Value::Null);
    assert_eq!(nodes(&lab).0, 200);
    // What the chart's ClusterRole does not allow is not allowed.
    assert_eq!(ask_as_daemon(&lab, "a", "POST", PODS, &pod("mine", json!({}))).0, 403);
    assert_eq!(ask_as_daemon(&lab, "a", "GET", "/api/v1/secrets", &Value::Null).0, 403);
    let user = Some("system:serviceaccount:kube-system:aws-node".to_owned());
    let deny = |user| NodeFault::ApiDeny { verb: "list".to_owned(), resource: "nodes".to_owned(), user };
    for fault in [deny(None), deny(user)] {
        let report = lab.fault(&Fault::Node(fault), None).unwrap();
        let (status, refusal) = nodes(&lab);
        assert_eq!((status, &refusal["reason"]), (403, &json!("Forbidden")), "{refusal:#}");
        // Only that verb.
        assert_eq!(ask_as_daemon(&lab, "a", "GET", "/api/v1/nodes/a", &Value::Null).0, 200);
        lab.lift(report.id).unwrap();
        assert_eq!(nodes(&lab).0, 200);
    }
    lab.fault(&Fault::Node(deny(Some("somebody-else".to_owned()))), None).unwrap();
    assert_eq!(nodes(&lab).0, 200);
}

#[test]
fn a_pod_deleted_without_time_to_end_loses_its_network_too() {
    let lab = start(&with_toys());
    create(&lab, &pod("gone", json!({"nodeName": "a"})));
    phase(&lab, "gone", "Running");
    let at_once = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
    assert_eq!(ask(&lab, "a", "DELETE", &format!("{PODS}/gone"), &at_once).0, 200);
    wait_for("the end of its network", || {
        let pods: usize = lab.status().unwrap().nodes.iter().map(|node| node.pods.len()).sum();
        (pods == 0).then_some(Value::Null)
    });
    let ended = lab.run(&Place::Node("a".into()), &["sh", "-c", "ls /var/lib/toy/*.DEL.stdin"]).unwrap();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_node_takes_in_as_many_pods_as_it_may_however_many_come_at_once() {
    let mut topology = with_toys();
    topology.nodes.iter_mut().for_each(|node| node.max_pods = 3);
    let lab = start(&topology);
    for number in 0..8 {
        create(&lab, &pod(&format!("burst-{number}"), json!({"nodeName": "b"})));
    }
    let phases = wait_for("every pod's fate", || {
        let pods = get(&lab, PODS);
        let phases: Vec<_> =
            pods["items"].as_array().unwrap().iter().map(|pod| pod["status"]["phase"].clone()).collect();
        phases.iter().all(|phase| phase == "Running" || phase == "Failed").then_some(json!(phases))
    });
    let running = phases.as_array().unwrap().iter().filter(|phase| **phase == "Running").count();
    assert_eq!(running, 3, "{phases}");
}
