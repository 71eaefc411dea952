//! STATUS and GC as a container runtime calls them, and CHECK's question for the lease, against a daemon made up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each suite uses its part of it.
#[allow(dead_code)]
mod node;

use std::fs;
use std::os::unix::net::UnixListener;

use node::{Node, config, config_1_1, network_call, on_a_node};
use serde_json::json;
use vpc_wire::rpc::node::{Attachment, CollectReply, FindReply, Lease, StatusReply};
use vpc_wire::rpc::{Cause, DAEMON_SOCKET, Refusal};

fn status() -> node::Outcome {
    network_call("STATUS", &config_1_1(json!({})))
}

fn gc(valid: &serde_json::Value) -> node::Outcome {
    network_call("GC", &config_1_1(json!({"cni.dev/valid-attachments": valid})))
}

#[test]
fn status_says_nothing_when_pods_can_be_added() {
    on_a_node("status_says_nothing_when_pods_can_be_added", |node| {
        node.daemon();
        let said = status();
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""), "{said:?}");
        // Asked every few seconds: nothing goes to the log.
        assert!(!fs::exists(node::LOG).unwrap() || fs::read_to_string(node::LOG).unwrap().is_empty());
        // The list's version decides which verbs there are.
        network_call("STATUS", &config(None)).assert_error(1, &["STATUS exists since CNI 1.1.0", "0.4.0"]);
        network_call("GC", &config(None)).assert_error(1, &["GC exists since CNI 1.1.0", "0.4.0"]);
    });
}

#[test]
fn status_names_what_keeps_pods_from_being_added() {
    on_a_node("status_names_what_keeps_pods_from_being_added", |node| {
        status().assert_error(50, &["no pod can be added", "the node daemon is not running", "ipamd.sock"]);
        node.daemon();
        let refuses = |node: &Node, cause, message: &str| {
            node.script().status = Some(Err(Refusal::new(cause, message).number("held", 9).into_status()));
        };
        refuses(node, Cause::SubnetExhausted, "no address: no free addresses in subnet-1");
        status().assert_error(50, &["no pod can be added", "subnet-1", "subnet_exhausted", "held 9"]);
        refuses(node, Cause::Starting, "the node daemon has not finished its start");
        status().assert_error(50, &["has not finished its start", "starting"]);
        refuses(node, Cause::HostError, "the host's network is not set up: EPERM");
        status().assert_error(51, &["host's network is not set up: EPERM"]);
        assert!(fs::read_to_string(node::LOG).unwrap().contains("failed with code 51"));
    });
}

/// Where policies must be in force before a pod starts, its agent belongs to what ADD needs.
#[test]
fn status_asks_for_the_policy_agent_in_mode_strict_only() {
    on_a_node("status_asks_for_the_policy_agent_in_mode_strict_only", |node| {
        node.daemon();
        let mode = |node: &Node, mode: &str| {
            node.script().status = Some(Ok(StatusReply { network_policy_mode: mode.to_owned() }));
        };
        for harmless in ["", "standard", "none"] {
            mode(node, harmless);
            status().assert_ok();
        }
        mode(node, "strict");
        status().assert_error(50, &["strict", "network policy agent is not there", "npa.sock"]);
        node.policy_agent(true);
        status().assert_ok();
    });
}

#[test]
fn a_daemon_that_hangs_is_waited_for_a_moment_only() {
    on_a_node("a_daemon_that_hangs_is_waited_for_a_moment_only", |_| {
        fs::create_dir_all("/var/run/aws-node").unwrap();
        let _deaf = UnixListener::bind(DAEMON_SOCKET).unwrap();
        status().assert_error(50, &["the node daemon hangs", "2s"]);
    });
}

/// A node with two pods, of which the daemon ends the first.
fn two_pods(node: &mut Node) -> [node::Pod; 2] {
    node.daemon();
    let pods = [("web-1", "10.20.9.201"), ("web-2", "10.20.9.202")].map(|(name, address)| {
        node.gives(address, 1, 2);
        let pod = node.pod(name);
        pod.call("ADD").assert_ok();
        pod
    });
    let lease = Lease {
        attachment: Some(Attachment { container_id: "c-web-1".into(), interface: "eth0".into() }),
        pod_namespace: "default".into(),
        pod_name: "web-1".into(),
        ipv4: "10.20.9.201".into(),
        route_table: 2,
    };
    node.script().collect = Some(Ok(CollectReply { ended: vec![lease] }));
    pods
}

#[test]
fn gc_removes_rules_and_routes_of_what_has_ended_and_of_nothing_else() {
    on_a_node("gc_removes_rules_and_routes_of_what_has_ended_and_of_nothing_else", |node| {
        let _pods = two_pods(node);
        let before = vpc_linux::monotonic_nanos().unwrap();
        let said = gc(&json!([{"containerID": "c-web-2", "ifname": "eth0"}]));
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""), "{said:?}");
        let asked = node.script().collected.pop().unwrap();
        assert_eq!(asked.network, "aws-cni");
        assert_eq!(asked.valid, [Attachment { container_id: "c-web-2".into(), interface: "eth0".into() }]);
        let now = vpc_linux::monotonic_nanos().unwrap();
        assert!((before..now).contains(&asked.called_at_ns), "{before} {} {now}", asked.called_at_ns);
        let left = node.state();
        assert!(!left.iter().any(|line| line.contains("10.20.9.201") && !line.starts_with("neighbour")), "{left:#?}");
        let kept = left.iter().filter(|line| line.contains("10.20.9.202") && !line.starts_with("neighbour")).count();
        assert_eq!(kept, 3, "a route and two rules: {left:#?}");
        // Once more: the daemon tells the same, and there is nothing left to do.
        gc(&json!([])).assert_ok();
        assert_eq!(node.state(), left);
        assert_eq!(node.script().collected.pop().unwrap().valid, []);
    });
}

/// The address has gone to another pod before the rules could be removed: they are the other's now.
#[test]
fn gc_leaves_what_belongs_to_a_successor() {
    on_a_node("gc_leaves_what_belongs_to_a_successor", |node| {
        let [mut old, _other] = two_pods(node);
        old.gone();
        node.gives("10.20.9.201", 1, 2);
        let successor = node.pod("web-3");
        successor.call("ADD").assert_ok();
        let before = node.state();
        gc(&json!([])).assert_ok();
        assert_eq!(node.state(), before);
    });
}

#[test]
fn gc_without_a_list_releases_nothing() {
    on_a_node("gc_without_a_list_releases_nothing", |node| {
        let _pods = two_pods(node);
        let before = node.state();
        network_call("GC", &config_1_1(json!({})))
            .assert_error(7, &["`cni.dev/valid-attachments` is missing", "nothing is released"]);
        gc(&json!(null)).assert_error(7, &["`cni.dev/valid-attachments` is null", "nothing is released"]);
        gc(&json!([{"containerID": "c-web-2"}])).assert_error(7, &["entry 0 has no `ifname`"]);
        assert_eq!(node.script().collected, []);
        assert_eq!(node.state(), before);
        fs::remove_file(DAEMON_SOCKET).unwrap();
        gc(&json!([])).assert_error(11, &["stale attachments are not cleaned up", "the node daemon is not running"]);
        assert_eq!(node.state(), before);
    });
}

#[test]
fn gc_goes_on_after_a_failure_and_tells_all_of_them() {
    on_a_node("gc_goes_on_after_a_failure_and_tells_all_of_them", |node| {
        let _pods = two_pods(node);
        if let Some(Ok(reply)) = &mut node.script().collect {
            let mut odd = reply.ended[0].clone();
            (odd.ipv4, odd.pod_name) = ("fd00::1".into(), "odd".into());
            reply.ended.insert(0, odd.clone());
            reply.ended.push(Lease { ipv4: String::new(), ..odd });
        }
        gc(&json!([])).assert_error(999, &["2 of 3 stale attachments", "default/odd", "`fd00::1`", "``"]);
        assert!(!node.state().iter().any(|line| line.starts_with("rule") && line.contains("10.20.9.201")));
    });
}

#[test]
fn check_compares_the_daemon_s_lease_with_what_add_promised() {
    on_a_node("check_compares_the_daemon_s_lease_with_what_add_promised", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let add = pod.call("ADD");
        let check = || pod.call_with("CHECK", &config(Some(add.json())), &[]);
        check().assert_ok();
        let asked = node.script().sought.pop().unwrap();
        assert_eq!(asked.network, "aws-cni");
        assert_eq!(asked.attachment, Some(Attachment { container_id: "c-web-1".into(), interface: "eth0".into() }));
        node.script().find =
            Some(Ok(FindReply { lease: Some(Lease { ipv4: "10.20.9.99".into(), ..Lease::default() }) }));
        check().assert_error(999, &["not as ADD left it", "lease for the sandbox is 10.20.9.99, not 10.20.9.201"]);
        node.script().find = Some(Err(tonic::Status::not_found("none")));
        check().assert_error(999, &["has no lease of 10.20.9.201"]);
        fs::remove_file(DAEMON_SOCKET).unwrap();
        check().assert_error(999, &["can not be asked for the lease", "ipamd.sock"]);
    });
}

/// The reference's daemon, or one of ours from before: what it can not be asked is left out, or said.
#[test]
fn a_daemon_without_our_service_serves_all_the_same() {
    on_a_node("a_daemon_without_our_service_serves_all_the_same", |node| {
        node.reference_daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let add = pod.call("ADD");
        add.assert_ok();
        pod.call_with("CHECK", &config(Some(add.json())), &[]).assert_ok();
        status().assert_ok();
        gc(&json!([])).assert_error(100, &["nothing is released", "does not offer GC"]);
        assert_eq!(node.script().sought, []);
        pod.del_after(&add).assert_ok();
    });
}
