//! ADD and DEL as a container runtime calls them, on a kernel of our own, with a daemon that follows a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each suite uses its part of it.
#[allow(dead_code)]
mod node;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use node::{Node, config, on_a_node, wait_until};
use serde_json::{Value, json};
use tonic::Status;
use vpc_model::{Millis, SandboxKey};
use vpc_wire::rpc::node::Matter;
use vpc_wire::rpc::pb::{AddNetworkReply, DelNetworkReply, IpAllocationMetadata};
use vpc_wire::rpc::{Cause, Refusal};

fn set<const N: usize>(lines: [&str; N]) -> BTreeSet<String> {
    lines.map(str::to_owned).into()
}

/// The host with pod default/web-1 (suffix 0761ccbeace) on an address of the second ENI.
fn wired_host() -> BTreeSet<String> {
    set([
        "link eni0761ccbeace mtu 9001 up alias vpc-cni/1 aws-cni c-web-1 default/web-1",
        "neighbour 10.20.9.201 dev eni0761ccbeace",
        "route 10.20.9.201/32 dev eni0761ccbeace table main",
        "rule 512: to 10.20.9.201/32 lookup main",
        "rule 1536: from 10.20.9.201/32 lookup 2",
    ])
}

fn refused(cause: Cause, msg: &str) -> Result<AddNetworkReply, Status> {
    Err(Refusal::new(cause, msg)
        .number("enis", 3)
        .number("addresses", 27)
        .retry_after(Millis::seconds(5))
        .into_status())
}

#[test]
fn add_wires_the_pod_and_del_leaves_the_host_as_before() {
    on_a_node("add_wires_the_pod_and_del_leaves_the_host_as_before", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let mut pod = node.pod("web-1");
        let before = node.state();
        assert_eq!(before, set([]));

        let add = pod.call("ADD");
        add.assert_ok();
        assert_eq!(
            add.json(),
            json!({
                "cniVersion": "0.4.0",
                "interfaces": [
                    {"name": "eni0761ccbeace"},
                    {"name": "eth0", "mac": "2", "sandbox": "/var/run/netns/cni-web-1"},
                    {"name": "dummy0761ccbeace", "mac": "0", "sandbox": "1"},
                ],
                "ips": [{"version": "4", "interface": 1, "address": "10.20.9.201/32"}],
                "dns": {},
            })
        );
        assert_eq!(add.stderr, "");
        assert_eq!(node.state(), wired_host());
        assert_eq!(
            pod.state(),
            set([
                "link lo up",
                "link eth0 up mtu 9001",
                "address 127.0.0.1/8 dev lo",
                "address 10.20.9.201/32 dev eth0",
                "route 0.0.0.0/0 via 169.254.1.1 dev eth0",
                "route 169.254.1.1/32 dev eth0",
                "neighbour 169.254.1.1 dev eth0",
            ])
        );
        let request = node.script().added.pop().unwrap();
        assert_eq!((request.k8s_pod_name.as_str(), request.k8s_pod_namespace.as_str()), ("web-1", "default"));
        assert_eq!((request.container_id.as_str(), request.if_name.as_str()), ("c-web-1", "eth0"));
        assert_eq!((request.network_name.as_str(), request.netns.as_str()), ("aws-cni", "/var/run/netns/cni-web-1"));
        assert_eq!((request.client_version.as_str(), request.requires_multi_nic), ("", false));

        pod.del_after(&add).assert_ok();
        assert_eq!(
            node.state(),
            set([
                "link eni0761ccbeace mtu 9001 up alias vpc-cni/1 aws-cni c-web-1 default/web-1",
                "neighbour 10.20.9.201 dev eni0761ccbeace"
            ])
        );
        let request = node.script().deleted.pop().unwrap();
        assert_eq!((request.reason.as_str(), request.k8s_pod_uid.as_str()), ("PodDeleted", "u-1"));
        pod.gone();
        wait_until(|| node.state() == before);
        pod.del_after(&add).assert_ok();
    });
}

#[test]
fn a_tool_that_is_not_ours_sees_the_same() {
    on_a_node("a_tool_that_is_not_ours_sees_the_same", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        pod.call("ADD").assert_ok();
        let Some(ip) = ip_json(&["-4", "rule"]) else { return };
        let rules: Vec<_> = ip
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| rule["priority"] != 0 && rule["priority"].as_u64() < Some(32766))
            .collect();
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert_eq!(
            (&rules[0]["priority"], &rules[0]["dst"], &rules[0]["table"]),
            (&json!(512), &json!("10.20.9.201"), &json!("main"))
        );
        assert_eq!(
            (&rules[1]["priority"], &rules[1]["src"], &rules[1]["table"]),
            (&json!(1536), &json!("10.20.9.201"), &json!("2"))
        );
        let route = &ip_json(&["-4", "route", "show", "10.20.9.201"]).unwrap()[0];
        assert_eq!((&route["dev"], &route["scope"]), (&json!("eni0761ccbeace"), &json!("link")));
        let link = &ip_json(&["link", "show", "eni0761ccbeace"]).unwrap()[0];
        assert_eq!((&link["mtu"], &link["operstate"]), (&json!(9001), &json!("UP")));
        let neighbour = &ip_json(&["neigh", "show", "dev", "eni0761ccbeace"]).unwrap()[0];
        assert_eq!((&neighbour["dst"], &neighbour["state"]), (&json!("10.20.9.201"), &json!(["PERMANENT"])));
    });
}

/// What `ip -j` prints; `None` (and the test is counted as skipped) where there is no such program.
fn ip_json(arguments: &[&str]) -> Option<Value> {
    match Command::new("ip").arg("-j").args(arguments).output() {
        Ok(output) => Some(serde_json::from_slice(&output.stdout).unwrap()),
        Err(error) => {
            node::skip("a_tool_that_is_not_ours_sees_the_same", &format!("no program `ip`: {error}"));
            None
        }
    }
}

#[test]
fn a_pod_of_the_primary_eni_has_one_rule() {
    on_a_node("a_pod_of_the_primary_eni_has_one_rule", |node| {
        node.daemon();
        node.gives("10.20.8.77", 0, 254);
        let pod = node.pod("web-0");
        let add = pod.call("ADD");
        assert_eq!(add.assert_ok().json()["interfaces"][1]["mac"], "254");
        let rules: Vec<_> = node.state().into_iter().filter(|line| line.starts_with("rule")).collect();
        assert_eq!(rules, ["rule 512: to 10.20.8.77/32 lookup main"]);
        pod.del_after(&add).assert_ok();
        assert!(!node.state().iter().any(|line| line.starts_with("rule") || line.starts_with("route")));
    });
}

#[test]
fn an_add_repeated_gives_the_same_again() {
    on_a_node("an_add_repeated_gives_the_same_again", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let first = pod.call("ADD");
        let second = pod.call("ADD");
        assert_eq!(second.assert_ok().json(), first.assert_ok().json());
        assert_eq!(node.state(), wired_host());
    });
}

#[test]
fn every_version_gets_its_own_form() {
    on_a_node("every_version_gets_its_own_form", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let input = config(None).replace("\"0.4.0\"", &format!("\"{version}\""));
            let json = pod.call_with("ADD", &input, &[]).assert_ok().json();
            assert_eq!(json["cniVersion"], version);
            if version < "0.3.0" {
                assert_eq!(json["ip4"], json!({"ip": "10.20.9.201/32"}), "{version}");
            } else {
                assert_eq!(json["ips"][0]["address"], "10.20.9.201/32", "{version}");
                assert_eq!(
                    json["ips"][0]["version"],
                    if version < "1.0.0" { json!("4") } else { Value::Null },
                    "{version}"
                );
            }
            pod.call_with("DEL", &input, &[]).assert_ok();
        }
    });
}

#[test]
fn an_interface_of_the_name_asked_for_is_not_taken_over() {
    on_a_node("an_interface_of_the_name_asked_for_is_not_taken_over", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        pod.call("ADD").assert_ok();
        // Another pod's name with the same namespace: the pod end's name is taken there.
        let second = node.pod("web-2");
        node.gives("10.20.9.202", 1, 2);
        let words = ["web-2", "eth0 is in the pod's network namespace already", "another CNI_IFNAME"];
        second.call_with("ADD", &config(None), &[("CNI_NETNS", Some(&pod.path))]).assert_error(999, &words);
        assert_eq!(node.script().deleted.pop().unwrap().reason, "SetupNSFailed");
        assert_eq!(node.state(), wired_host());
    });
}

#[test]
fn refusals_are_told_with_their_numbers_and_leave_nothing() {
    on_a_node("refusals_are_told_with_their_numbers_and_leave_nothing", |node| {
        node.daemon();
        let pod = node.pod("web-1");
        let no_address = "no address is free on this node";
        for (answer, code, words) in [
            (
                refused(Cause::EniLimit, no_address),
                11,
                &["pod default/web-1", no_address, "enis 3, addresses 27", "try again in 5 s"][..],
            ),
            (refused(Cause::Cooling, no_address), 11, &["cooling"]),
            (refused(Cause::Unauthorized, "EC2 denies AssignPrivateIpAddresses"), 999, &["EC2 denies", "unauthorized"]),
            (refused(Cause::Unsupported, "no"), 999, &["unsupported"]),
            (Err(Status::failed_precondition("wrong client version")), 999, &["wrong client version"]),
            (Err(Status::unavailable("not yet")), 11, &["not yet"]),
            (Ok(AddNetworkReply::default()), 11, &["pod default/web-1", "does not say why"]),
        ] {
            node.script().add = Some(answer);
            pod.call("ADD").assert_error(code, words);
        }
        assert_eq!(node.state(), set([]));
        assert_eq!(pod.state(), set(["link lo down"]));
        assert!(node.script().deleted.is_empty(), "nothing was given, so nothing is given back");
    });
}

#[test]
fn answers_this_plugin_can_not_wire_are_given_back() {
    on_a_node("answers_this_plugin_can_not_wire_are_given_back", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let entry = |ipv4: &str, ipv6: &str| IpAllocationMetadata {
            ipv4: ipv4.into(),
            ipv6: ipv6.into(),
            device_number: 1,
            route_table_id: 2,
        };
        let with = |allocations: Vec<_>| AddNetworkReply { success: true, allocations, ..Default::default() };
        for (reply, code, words) in [
            (
                AddNetworkReply {
                    pod_vlan_id: 5,
                    pod_eni_mac: "02:00:00:00:00:05".into(),
                    ..with(vec![entry("10.0.0.1", "")])
                },
                100,
                &["branch ENI", "VLAN 5"][..],
            ),
            (with(vec![]), 999, &["gives no address"]),
            (with(vec![entry("10.0.0.1", ""), entry("10.0.0.2", "")]), 100, &["2 addresses"]),
            (with(vec![entry("", "2600::5")]), 100, &["2600::5", "IPv4 only"]),
            (with(vec![entry("10.0.0", "")]), 999, &["`10.0.0`"]),
            (with(vec![entry("", "")]), 999, &["expected one IPv4 address"]),
        ] {
            node.script().add = Some(Ok(reply));
            pod.call("ADD").assert_error(code, words);
            let back = node.script().deleted.pop().unwrap();
            assert_eq!(
                (back.reason.as_str(), back.container_id.as_str(), back.k8s_pod_uid.as_str()),
                ("SetupNSFailed", "c-web-1", "u-1")
            );
        }
        assert_eq!(node.state(), set([]));
    });
}

#[test]
fn a_policy_mode_asks_the_agent_and_its_refusal_undoes_everything() {
    on_a_node("a_policy_mode_asks_the_agent_and_its_refusal_undoes_everything", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        policy_mode(node, "strict");
        let pod = node.pod("web-1");
        // No agent at all.
        pod.call("ADD").assert_error(11, &["network policy agent", "strict", "npa.sock"]);
        assert_eq!(node.script().deleted.pop().unwrap().reason, "SetupNSFailed");
        assert_eq!(node.state(), set([]));
        assert_eq!(pod.state().into_iter().filter(|line| line.starts_with("link")).collect::<Vec<_>>(), ["link lo up"]);
        // One that refuses.
        node.policy_agent(false);
        pod.call("ADD").assert_error(999, &["network policy agent"]);
        assert_eq!(node.state(), set([]));
        // One that takes the pod.
        node.script().policy = true;
        let add = pod.call("ADD");
        add.assert_ok();
        assert_eq!(node.state(), wired_host());
        let asked = node.script().enforced.pop().unwrap();
        assert_eq!(
            (asked.k8s_pod_name.as_str(), asked.network_policy_mode.as_str(), asked.interface_count),
            ("web-1", "strict", 1)
        );
        // Its refusal to forget is only logged.
        node.script().policy = false;
        pod.del_after(&add).assert_ok();
        assert_eq!(node.script().forgotten.pop().unwrap().k8s_pod_namespace, "default");
        // Without an agent there is nothing to forget.
        fs::remove_file(vpc_wire::rpc::POLICY_AGENT_SOCKET).unwrap();
        pod.del_after(&add).assert_ok();
        assert!(!node.state().iter().any(|line| line.starts_with("rule")));
    });
}

fn policy_mode(node: &mut Node, mode: &str) {
    let mut script = node.script();
    let Some(Ok(add)) = &mut script.add else { panic!() };
    add.network_policy_mode = mode.into();
    let Some(Ok(del)) = &mut script.del else { panic!() };
    del.network_policy_mode = mode.into();
}

/// Pods may start before their policies are in force: then an agent that is not there keeps none from starting. One that hangs or
/// refuses is there.
#[test]
fn without_a_policy_agent_a_pod_starts_in_every_mode_but_strict() {
    on_a_node("without_a_policy_agent_a_pod_starts_in_every_mode_but_strict", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        for mode in ["standard", "none", "Standard"] {
            policy_mode(node, mode);
            let add = pod.call("ADD");
            add.assert_ok();
            let log = fs::read_to_string(node::LOG).unwrap();
            let warned: Vec<_> = log.lines().filter(|line| line.contains("starts without network policies")).collect();
            assert_eq!(warned.len(), 1, "{log}");
            assert!(warned[0].contains(r#""level":"warn""#) && warned[0].contains(mode), "{}", warned[0]);
            pod.del_after(&add).assert_ok();
            fs::remove_file(node::LOG).unwrap();
            // People are told where policies were asked for and are not enforced.
            let told = std::mem::take(&mut node.script().reported);
            let told: Vec<_> = told.iter().map(|report| (report.matter(), report.pod_name.as_str())).collect();
            let expected = if mode == "none" { vec![] } else { vec![(Matter::NoPolicyAgent, "web-1")] };
            assert_eq!(told, expected, "{mode}");
        }
        node.script().takes_no_reports = true;
        policy_mode(node, "standard");
        let add = pod.call("ADD");
        add.assert_ok();
        pod.del_after(&add).assert_ok();
        node.script().takes_no_reports = false;
        // What nobody knows is taken for the careful mode.
        for mode in ["strict", "Strict", "paranoid"] {
            policy_mode(node, mode);
            pod.call("ADD")
                .assert_error(11, &["network policy agent", mode, "npa.sock", "start the agent", "to standard"]);
            assert_eq!(node.state().iter().filter(|line| line.starts_with("rule")).count(), 0);
        }
        node.policy_agent(false);
        policy_mode(node, "standard");
        pod.call("ADD").assert_error(999, &["network policy agent", "it refused"]);
        assert_eq!(node.script().reported, [], "strict refuses, and an agent that refuses is there");
    });
}

#[test]
fn r48_del_without_a_daemon_goes_by_the_previous_result() {
    on_a_node("r48_del_without_a_daemon_goes_by_the_previous_result", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let mut pod = node.pod("web-1");
        let add = pod.call("ADD");
        fs::remove_file(vpc_wire::rpc::DAEMON_SOCKET).unwrap();
        pod.del_after(add.assert_ok()).assert_ok();
        let notes = vpc_wire::tombstone::read(vpc_wire::tombstone::TOMBSTONES.as_ref()).unwrap().notes;
        assert_eq!(notes.len(), 1, "the daemon will be told: {notes:?}");
        assert!(
            !node.state().iter().any(|line| line.starts_with("rule") || line.starts_with("route")),
            "{:?}",
            node.state()
        );
        pod.gone();
        wait_until(|| node.state().is_empty());
        pod.del_after(&add).assert_ok();
        // And without anything to go by it still succeeds.
        pod.call("DEL").assert_ok();
        pod.call_with("DEL", &config(None), &[("CNI_NETNS", None)]).assert_ok();
    });
}

#[test]
fn del_without_a_previous_result_goes_by_the_daemon() {
    on_a_node("del_without_a_previous_result_goes_by_the_daemon", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let mut pod = node.pod("web-1");
        pod.call("ADD").assert_ok();
        pod.call("DEL").assert_ok();
        assert!(!node.state().iter().any(|line| line.starts_with("rule") || line.starts_with("route")));
        pod.call("ADD").assert_ok();
        // The namespace first, as after a crash of the runtime.
        pod.gone();
        pod.call("DEL").assert_ok();
        wait_until(|| node.state().is_empty());
        // A previous result nobody can read is no reason to keep the pod.
        let mut broken: Value = serde_json::from_str(&config(None)).unwrap();
        broken["prevResult"] = json!({"ips": "x"});
        pod.call_with("DEL", &broken.to_string(), &[]).assert_ok();
    });
}

/// A plugin placed before ours made a link of its own: the runtime hears of both, and a DEL by the whole result unwires ours.
#[test]
fn what_plugins_before_it_did_is_passed_on() {
    on_a_node("what_plugins_before_it_did_is_passed_on", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let earlier = json!({
            "cniVersion": "0.4.0",
            "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:01", "sandbox": "/var/run/netns/other"}],
            "ips": [{"version": "4", "interface": 0, "address": "192.168.7.2/24", "gateway": "192.168.7.1"}],
            "routes": [{"dst": "192.168.0.0/16", "gw": "192.168.7.1"}],
            "dns": {"nameservers": ["192.168.7.53"]},
        });
        let add = pod.call_with("ADD", &config(Some(earlier)), &[]);
        let result = add.assert_ok().json();
        let names: Vec<&str> =
            result["interfaces"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
        assert_eq!((names.len(), names[1], names[3]), (4, "eth0", "net1"));
        assert_eq!(result["ips"][0]["interface"], 1);
        assert_eq!(
            result["ips"][1],
            json!({"version": "4", "interface": 3, "address": "192.168.7.2/24", "gateway": "192.168.7.1"})
        );
        assert_eq!(result["routes"], json!([{"dst": "192.168.0.0/16", "gw": "192.168.7.1"}]));
        assert_eq!(result["dns"], json!({"nameservers": ["192.168.7.53"]}));
        // The daemon is down: the DEL goes by what ADD said.
        fs::remove_file(vpc_wire::rpc::DAEMON_SOCKET).unwrap();
        pod.del_after(&add).assert_ok();
        assert!(!node.state().iter().any(|line| line.starts_with("rule")), "{:?}", node.state());
    });
}

#[test]
fn a_broken_previous_result_stops_an_add_before_an_address_is_asked_for() {
    on_a_node("a_broken_previous_result_stops_an_add_before_an_address_is_asked_for", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        for broken in [
            json!({"ips": "x"}),
            json!([]),
            json!("x"),
            json!({"ips": [{"version": "4", "interface": 9, "address": "10.0.0.1/32"}]}),
        ] {
            pod.call_with("ADD", &config(Some(broken)), &[]).assert_error(6, &["`prevResult` is not usable"]);
        }
        assert!(node.state().is_empty(), "{:?}", node.state());
        assert!(node.script().added.is_empty(), "no address was asked for");
        // A version that knows no previous results ignores it.
        let old = config(Some(json!({"ips": "x"}))).replace("\"0.4.0\"", "\"0.2.0\"");
        pod.call_with("ADD", &old, &[]).assert_ok();
    });
}

#[test]
fn r49_a_second_del_is_no_error_from_either_make_of_daemon() {
    on_a_node("r49_a_second_del_is_no_error_from_either_make_of_daemon", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let add = pod.call("ADD");
        pod.del_after(add.assert_ok()).assert_ok();
        let key = SandboxKey { network: "aws-cni".into(), container: "c-web-1".into(), interface: "eth0".into() };
        for answer in [
            Err(Refusal::unknown_pod(&key).into_status()),
            Err(Status::unknown("1 error occurred:\n\t* datastore: unknown pod\n\n")),
        ] {
            node.script().del = Some(answer);
            pod.del_after(&add).assert_ok();
            pod.call("DEL").assert_ok();
        }
        node.script().del = Some(Ok(DelNetworkReply::default()));
        pod.call("DEL").assert_error(999, &["did not take back"]);
    });
}

#[test]
fn r33_a_late_del_does_not_touch_the_address_s_next_owner() {
    on_a_node("r33_a_late_del_does_not_touch_the_address_s_next_owner", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let mut first = node.pod("web-0");
        let add = first.call("ADD");
        first.del_after(add.assert_ok()).assert_ok();
        first.gone();
        wait_until(|| node.state().is_empty());
        node.pod("web-1").call("ADD").assert_ok();
        assert_eq!(node.state(), wired_host());
        // The daemon is down and the runtime repeats itself.
        fs::remove_file(vpc_wire::rpc::DAEMON_SOCKET).unwrap();
        first.del_after(&add).assert_ok();
        assert_eq!(node.state(), wired_host());
    });
}

#[test]
fn r33_a_late_del_of_an_old_sandbox_does_not_touch_the_new_one_of_the_same_pod() {
    on_a_node("r33_a_late_del_of_an_old_sandbox_does_not_touch_the_new_one_of_the_same_pod", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let mut old = node.pod("web-1");
        old.container = "c-old".into();
        let add = old.call("ADD");
        add.assert_ok();
        let mut new = node.pod("new");
        new.name = "web-1".into();
        new.container = "c-web-1".into();
        new.call("ADD").assert_ok();
        assert_eq!(node.state(), wired_host());
        let key = SandboxKey { network: "aws-cni".into(), container: "c-old".into(), interface: "eth0".into() };
        node.script().del = Some(Err(Refusal::unknown_pod(&key).into_status()));
        old.del_after(&add).assert_ok();
        assert_eq!(node.state(), wired_host());
    });
}

#[test]
fn a_pod_the_reference_wired_is_unwired() {
    on_a_node("a_pod_the_reference_wired_is_unwired", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let add = pod.call("ADD");
        // Its plugin sets no alias, and old versions left a rule for each CIDR of the VPC.
        let mut host = vpc_linux::Rtnl::open().unwrap();
        let link: vpc_model::LinkName = "eni0761ccbeace".parse().unwrap();
        host.set_link(&link, &vpc_linux::LinkChange { alias: Some("".into()), ..Default::default() }).unwrap();
        for to in ["10.20.0.0/16", "100.64.0.0/16"] {
            let mut rule = vpc_linux::RuleSpec::lookup(1536, vpc_model::RouteTable(2));
            rule.from = Some("10.20.9.201/32".parse().unwrap());
            rule.to = Some(to.parse().unwrap());
            host.add_rule(&rule).unwrap();
        }
        fs::remove_file(vpc_wire::rpc::DAEMON_SOCKET).unwrap();
        pod.del_after(&add).assert_ok();
        assert!(
            !node.state().iter().any(|line| line.starts_with("rule") || line.starts_with("route")),
            "{:?}",
            node.state()
        );
    });
}

#[test]
fn a_previous_result_that_tells_no_table_is_enough() {
    on_a_node("a_previous_result_that_tells_no_table_is_enough", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let mut previous = pod.call("ADD").assert_ok().json();
        // Another plugin wrote the hardware address over the table, and left the dummy entry out.
        previous["interfaces"][1]["mac"] = json!("0a:00:00:00:00:01");
        previous["interfaces"].as_array_mut().unwrap().truncate(2);
        fs::remove_file(vpc_wire::rpc::DAEMON_SOCKET).unwrap();
        pod.call_with("DEL", &config(Some(previous)), &[]).assert_ok();
        assert!(
            !node.state().iter().any(|line| line.starts_with("rule") || line.starts_with("route")),
            "{:?}",
            node.state()
        );
    });
}

#[test]
fn a_branch_eni_pod_of_the_reference_is_unwired_from_its_previous_result() {
    on_a_node("a_branch_eni_pod_of_the_reference_is_unwired_from_its_previous_result", |node| {
        let pod = node.pod("sg-web-0");
        let mut host = vpc_linux::Rtnl::open().unwrap();
        host.add_bridge(&"vlan.eth.5".parse().unwrap()).unwrap();
        for iif in ["vlan.eth.5", "vlan9e018d76bb3"] {
            let mut rule = vpc_linux::RuleSpec::lookup(10, vpc_model::RouteTable(105));
            rule.iif = Some(iif.parse().unwrap());
            host.add_rule(&rule).unwrap();
        }
        assert_eq!(node.state().len(), 3, "{:?}", node.state());
        let previous = json!({
            "interfaces": [{"name": "vlan9e018d76bb3"}, {"name": "eth0", "mac": "0", "sandbox": pod.path}, {"name": "dummy9e018d76bb3", "mac": "5"}],
            "ips": [{"version": "4", "interface": 1, "address": "10.20.11.77/32", "gateway": "10.20.8.1"}],
        });
        pod.call_with("DEL", &config(Some(previous.clone())), &[("CNI_NETNS", None)]).assert_ok();
        assert_eq!(node.state().len(), 3, "without a namespace an earlier DEL has been here");
        pod.call_with("DEL", &config(Some(previous)), &[]).assert_ok();
        assert_eq!(node.state(), set([]));
    });
}

#[test]
fn the_log_has_a_line_of_json_for_each_thing_and_no_annotation() {
    on_a_node("the_log_has_a_line_of_json_for_each_thing_and_no_annotation", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        pod.call_with("ADD", &config(None).replace("\"9001\"", "\"a lot\""), &[]).assert_ok();
        let log = fs::read_to_string(node::LOG).unwrap();
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.iter().all(|line| line["pod"] == "default/web-1" && line["container"] == "c-web-1"), "{log}");
        assert!(
            lines
                .iter()
                .any(|line| line["level"] == "error" && line["msg"].as_str().unwrap().contains("`mtu` is `a lot`")),
            "{log}"
        );
        assert_eq!(lines.last().unwrap()["msg"], "done");
        assert!(!log.contains("hunter2"), "{log}");
        // A level above silences what is below, and a file that can not be written is no reason to fail.
        fs::remove_file(node::LOG).unwrap();
        let quiet = config(None).replace("DEBUG", "error");
        pod.call_with("ADD", &quiet, &[]).assert_ok();
        assert_eq!(fs::read_to_string(node::LOG).unwrap(), "");
        let nowhere = quiet.replace(node::LOG, "/proc/none/plugin.log");
        let outcome = pod.call_with("ADD", &nowhere, &[]);
        assert_eq!(outcome.assert_ok().stderr.lines().count(), 1, "{outcome:?}");
        // `stdout` would make the result unreadable.
        let outcome = pod.call_with("ADD", &quiet.replace(node::LOG, "stdout"), &[]);
        assert_eq!(outcome.assert_ok().json()["cniVersion"], "0.4.0");
        assert!(outcome.stderr.contains("`pluginLogFile` is `stdout`"), "{outcome:?}");
    });
}

/// The sandbox was killed with its namespace: the runtime has no path to give, or one that leads nowhere.
#[test]
fn r14_del_without_a_namespace_gives_the_address_back_and_leaves_nothing() {
    on_a_node("r14_del_without_a_namespace_gives_the_address_back_and_leaves_nothing", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        for (path, remembers) in [(Some(""), true), (Some(""), false), (None, true), (None, false)] {
            let mut pod = node.pod("web-1");
            let add = pod.call("ADD");
            add.assert_ok();
            pod.gone();
            let input = config(remembers.then(|| add.json()));
            pod.call_with("DEL", &input, &[("CNI_NETNS", path)]).assert_ok();
            let request = node.script().deleted.pop().unwrap();
            assert_eq!((request.container_id.as_str(), request.k8s_pod_name.as_str()), ("c-web-1", "web-1"));
            wait_until(|| node.state().is_empty());
        }
        let pod = node.pod("web-1");
        let add = pod.call("ADD");
        let dead = [("CNI_NETNS", Some("/var/run/netns/cni-never-was"))];
        pod.call_with("DEL", &config(Some(add.assert_ok().json())), &dead).assert_ok();
        assert_eq!(node.script().deleted.len(), 1);
    });
}

/// The address went to the next pod while the old one's link was still there: the route leads to the new link, also when the old
/// namespace dies after it.
#[test]
fn r34_the_route_leads_to_the_new_link_after_the_old_namespace_has_died() {
    on_a_node("r34_the_route_leads_to_the_new_link_after_the_old_namespace_has_died", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let mut old = node.pod("web-0");
        let add = old.call("ADD");
        add.assert_ok();
        // Its rules and route are still there: the plugin was killed on its way to them.
        let new = node.pod("web-1");
        new.call("ADD").assert_ok();
        old.gone();
        let alias = "alias vpc-cni/1 aws-cni c-web-0 default/web-0";
        wait_until(|| !node.state().iter().any(|line| line.contains(alias)));
        assert_eq!(node.state(), wired_host());
        old.del_after(&add).assert_ok();
        assert_eq!(node.state(), wired_host(), "and its late DEL does not touch it");
    });
}
