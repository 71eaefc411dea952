//! Nodes and pods: what a daemon and a plugin find there, what survives, and what is said when something fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::{SMALL, options, start, topology, with_toys};
use serde_json::{Value, json};
use vpc_lab::control::{DaemonAction, Failure, Place, Request};
use vpc_lab::kubelet::{CallError, Phase, PodError, PodName};
use vpc_lab::{Lab, LabError};

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

fn pod(name: &str) -> PodName {
    format!("default/{name}").parse().unwrap()
}

fn sh(lab: &Lab, place: &Place, script: &str) -> String {
    let output = lab.run(place, &["sh", "-c", script]).unwrap();
    assert_eq!(output.code, 0, "{script}: {output:?}");
    output.stdout
}

/// What a toy plugin was given: its environment and its stdin, call by call.
fn toy_calls(lab: &Lab, name: &str) -> Vec<(BTreeMap<String, String>, Value)> {
    let names = sh(lab, &node(name), "cd /var/lib/toy && ls *.stdin 2>/dev/null | sort -n");
    let call = |stem: &str| {
        let env = sh(lab, &node(name), &format!("cat /var/lib/toy/{stem}.env"));
        let env =
            env.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        (env, serde_json::from_str(&sh(lab, &node(name), &format!("cat /var/lib/toy/{stem}.stdin"))).unwrap())
    };
    names.lines().map(|file| call(file.trim_end_matches(".stdin"))).collect()
}

#[test]
fn a_node_looks_like_a_node() {
    let lab = start(&topology(SMALL));
    let a = node("a");
    assert_eq!(sh(&lab, &a, "hostname").trim(), "a");
    assert_eq!(sh(&lab, &a, "cat /etc/hostname").trim(), "a");
    // Its own directories can be written to, the host's can not.
    for own in ["/run", "/var/run", "/var/log", "/var/lib", "/tmp", "/etc/cni/net.d", "/opt/cni/bin", "/host", "/app"] {
        sh(&lab, &a, &format!("echo x > {own}/test-of-mine && rm {own}/test-of-mine"));
    }
    for host in ["/usr", "/etc/ssl", "/usr/bin"] {
        assert_ne!(lab.run(&a, &["sh", "-c", &format!("echo x > {host}/test-of-mine")]).unwrap().code, 0, "{host}");
    }
    // What the daemon's pod sees below /host is what the node has.
    sh(&lab, &a, "echo 1 > /host/etc/cni/net.d/n && echo 2 > /host/opt/cni/bin/b && mkdir /host/var/log/l");
    assert_eq!(sh(&lab, &a, "cat /etc/cni/net.d/n /opt/cni/bin/b; ls /var/log | grep -c '^l$'"), "1\n2\n1\n");
    // What it writes outside its disk is bounded: 2 GiB in pages of 4 KiB (or fewer, larger ones).
    let size = sh(&lab, &a, "stat -f -c '%b %S' /");
    let size: Vec<u64> = size.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(size.iter().product::<u64>(), 2 << 30);
    // Processes: its own only; sh itself is one of them.
    assert_eq!(sh(&lab, &a, "cat /proc/1/comm").trim(), "init");
    assert!(sh(&lab, &a, "ls -d /proc/[0-9]* | wc -l").trim().parse::<u32>().unwrap() < 10);
    // Links: its own; the kernel's view of them through sysfs too.
    assert_eq!(sh(&lab, &a, "ls /sys/class/net | sort | xargs"), "eth0 lo\n");
    assert_eq!(sh(&lab, &a, "cat /sys/class/net/eth0/mtu /proc/sys/net/ipv4/ip_forward"), "9001\n1\n");
    assert_eq!(sh(&lab, &a, "echo $AWS_ENDPOINT_URL_EC2 $HOSTNAME"), "http://169.254.169.200 a\n");
    // The daemon's and the kernel's view agree.
    let state = lab.kernel_state(&a).unwrap();
    let eth0 = state.links.iter().find(|link| link.name.as_str() == "eth0").unwrap();
    assert!(eth0.up && eth0.mtu == 9001);
    assert_eq!(eth0.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.20.8.10/22"]);
    let default = state.routes.iter().find(|route| route.to.prefix_len() == 0).unwrap();
    assert_eq!((default.via.unwrap().to_string(), default.link.as_str()), ("10.20.8.1".to_owned(), "eth0"));
}

#[test]
fn exec_passes_streams_and_exit_codes_through() {
    let lab = start(&topology(SMALL));
    let output = lab.run_with_input(&node("a"), &["sh", "-c", "cat; echo err >&2; exit 7"], b"hello").unwrap();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (7, "hello", "err\n"));
    assert_eq!(lab.run(&node("a"), &["sh", "-c", "kill -9 $$"]).unwrap().code, 137);
    // More than a pipe holds, in both directions at once.
    let big = vec![b'x'; 300_000];
    assert_eq!(lab.run_with_input(&node("a"), &["cat"], &big).unwrap().stdout.len(), big.len());
    for (place, command, wanted) in [
        (node("a"), "/no/such", "No such file"),
        (node("zz"), "true", "there is no node `zz`; there are: a, a2, b, p"),
        (Place::Pod("a".to_owned(), pod("none")), "true", "no running pod default/none on a"),
        (Place::Gateway("x".to_owned()), "true", "no gateway `x`; there are: igw, nat"),
    ] {
        let error = lab.run(&place, &[command]).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    let error = lab.capture(&node("a"), "eth7").unwrap_err().to_string();
    assert!(error.contains("no link `eth7` in a; there are: lo, eth0"), "{error}");
}

#[test]
fn who_stops_waiting_ends_what_he_started() {
    let lab = start(&topology(SMALL));
    let place = lab.place().clone();
    let mut client = std::process::Command::new(common::vpc_lab())
        .args(["exec", "--lab", &place.name, "a", "--", "sh", "-c", "exec sleep 4242"])
        .spawn()
        .unwrap();
    let running = || lab.run(&node("a"), &["sh", "-c", "grep -l [s]leep /proc/[0-9]*/cmdline | wc -l"]).unwrap().stdout;
    wait_until(running, |count| count.trim() == "1");
    client.kill().unwrap();
    client.wait().unwrap();
    wait_until(running, |count| count.trim() == "0");
}

#[test]
fn a_plugin_is_called_as_containerd_calls_it() {
    let lab = start(&with_toys());
    let status = lab.pod_add("a", &pod("web-0"), 1).unwrap();
    assert_eq!((status.phase, status.attempts), (Phase::Running, 1));
    assert_eq!(status.address.unwrap().to_string(), "10.20.8.99");
    let sandbox = status.sandbox.unwrap();
    assert!(sandbox.container.len() == 64 && sandbox.container.bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(sandbox.netns.starts_with("/var/run/netns/cni-"));
    // The namespace is there under its name, with lo up, and it is the pod's.
    sh(&lab, &node("a"), &format!("test -e {}", sandbox.netns));
    let inside = Place::Pod("a".to_owned(), pod("web-0"));
    assert_eq!(sh(&lab, &inside, "ls /sys/class/net | wc -l; cat /proc/self/net/dev | grep -c eth0 || true"), "2\n0\n");
    let state = lab.kernel_state(&inside).unwrap();
    assert_eq!(state.links.iter().map(|l| (l.name.as_str(), l.up)).collect::<Vec<_>>(), [("lo", true)]);

    lab.pod_del("a", &pod("web-0")).unwrap();
    assert_eq!(sh(&lab, &node("a"), "ls /var/run/netns"), "");
    let calls = toy_calls(&lab, "a");
    let verbs: Vec<_> =
        calls.iter().map(|(env, stdin)| (env["CNI_COMMAND"].as_str(), stdin.get("second").is_some())).collect();
    assert_eq!(verbs, [("ADD", false), ("ADD", true), ("DEL", true), ("DEL", false)], "DEL goes backwards");
    for (env, stdin) in &calls {
        assert_eq!(env["CNI_CONTAINERID"], sandbox.container);
        assert_eq!(env["CNI_NETNS"], sandbox.netns);
        assert_eq!((env["CNI_IFNAME"].as_str(), env["CNI_PATH"].as_str()), ("eth0", "/opt/cni/bin"));
        let args = format!(
            "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={};IgnoreUnknown=1",
            sandbox.container, sandbox.uid
        );
        assert_eq!(env["CNI_ARGS"], args);
        assert_eq!(
            (&stdin["name"], &stdin["cniVersion"], stdin.get("capabilities")),
            (&json!("toys"), &json!("0.4.0"), None)
        );
    }
    assert_eq!(calls[0].1["runtimeConfig"], json!({"io.kubernetes.cri.pod-annotations": {}}));
    assert_eq!(calls[1].1.get("runtimeConfig"), None, "it declares nothing");
    assert_eq!(calls[0].1.get("prevResult"), None, "it is the first");
    for (_, stdin) in calls.iter().skip(1) {
        assert_eq!(stdin["prevResult"]["ips"][0]["address"], "10.20.8.99/32");
    }
}

#[test]
fn a_failed_pod_leaves_nothing_and_says_why() {
    let lab = start(&with_toys());
    sh(&lab, &node("a"), "touch /var/lib/fail-ADD");
    let before = Instant::now();
    let LabError::Refused(Failure::Pod(PodError::Failed { attempts, cause, .. })) =
        lab.pod_add("a", &pod("w"), 2).unwrap_err()
    else {
        panic!("another error was expected")
    };
    assert_eq!(attempts, 2);
    assert!(before.elapsed() >= Duration::from_millis(500), "there is a pause between attempts");
    let CallError::Refused { plugin, verb, code, message, details } = *cause else { panic!("{cause}") };
    assert_eq!((plugin.as_str(), verb.as_str(), code), ("toy", "ADD", 11));
    assert_eq!((message.as_str(), details.as_str()), ("no address for a toy", "0 of 9 free"));
    assert_eq!(sh(&lab, &node("a"), "ls /var/run/netns"), "");
    assert!(lab.status().unwrap().nodes.iter().all(|n| n.pods.is_empty()));
    // Each attempt had a container of its own, and each was cleaned up by DEL.
    let calls = toy_calls(&lab, "a");
    let verbs: Vec<_> = calls.iter().map(|(env, _)| env["CNI_COMMAND"].clone()).collect();
    assert_eq!(verbs, ["ADD", "DEL", "DEL", "ADD", "DEL", "DEL"]);
    assert_ne!(calls[0].0["CNI_CONTAINERID"], calls[3].0["CNI_CONTAINERID"]);
    sh(&lab, &node("a"), "rm /var/lib/fail-ADD");
    assert_eq!(lab.pod_add("a", &pod("w"), 1).unwrap().attempts, 1);
    let error = lab.pod_add("a", &pod("w"), 1).unwrap_err().to_string();
    assert!(error.contains("there already"), "{error}");
}

#[test]
fn a_node_without_configuration_says_what_is_missing() {
    let lab = start(&topology(SMALL));
    let error = lab.pod_add("a", &pod("w"), 1).unwrap_err().to_string();
    assert!(error.contains("no network configuration") && error.contains("/etc/cni/net.d"), "{error}");
    sh(&lab, &node("a"), "echo '{' > /etc/cni/net.d/10-x.conflist");
    let error = lab.pod_add("a", &pod("w"), 1).unwrap_err().to_string();
    assert!(error.contains("10-x.conflist") && error.contains("JSON"), "{error}");
    sh(&lab, &node("a"), r#"echo '{"name":"n","type":"ghost"}' > /etc/cni/net.d/10-x.conflist"#);
    let error = lab.pod_add("a", &pod("w"), 1).unwrap_err().to_string();
    assert!(error.contains("/opt/cni/bin/ghost") && error.contains("No such file"), "{error}");
    assert_eq!(sh(&lab, &node("a"), "ls /var/run/netns"), "");
}

#[test]
fn scaling_makes_and_deletes_until_the_number_is_right() {
    let lab = start(&with_toys());
    let up = lab.pod_scale("b", 12, 1).unwrap();
    assert_eq!((up.added.len(), up.deleted.len(), up.failed.len()), (12, 0, 0));
    assert_eq!(sh(&lab, &node("b"), "ls /var/run/netns | wc -l").trim(), "12");
    let down = lab.pod_scale("b", 5, 1).unwrap();
    assert_eq!((down.added.len(), down.deleted.len(), down.failed.len()), (0, 7, 0));
    let b = lab.status().unwrap().nodes.into_iter().find(|n| n.name == "b").unwrap();
    let names: Vec<_> = b.pods.iter().map(|p| p.pod.name.as_str()).collect();
    assert_eq!(names, ["b-1", "b-2", "b-3", "b-4", "b-5"]);
    assert_eq!(lab.pod_scale("b", 0, 1).unwrap().deleted.len(), 5);
}

#[test]
fn more_pods_than_the_type_can_hold_are_refused_with_the_number() {
    let lab = start(&with_toys());
    // An m5.large has 3 ENIs of 9 secondary positions; a prefix has 16 addresses.
    let refusal = lab.pod_scale("a", 433, 1).unwrap_err();
    assert!(matches!(&refusal, LabError::Refused(Failure::TooMany { count: 433, most: 432, .. })), "{refusal}");
    assert!(refusal.to_string().contains("m5.large") && refusal.to_string().contains("432"), "{refusal}");
    assert_ne!(lab.run(&node("a"), &["ls", "/var/lib/toy"]).unwrap().code, 0, "no plugin was called");
}

#[test]
fn who_stops_waiting_for_pods_gets_no_more_of_them() {
    /// As many as are made at the same time.
    const BEGUN: usize = 30;
    let lab = start(&with_toys());
    let waits = "#!/bin/sh\nwhile [ \"$CNI_COMMAND\" = ADD ] && [ ! -f /var/lib/go ]; do sleep 0.2; done\n\
                 echo '{\"cniVersion\":\"0.4.0\"}'\n";
    sh(
        &lab,
        &node("a"),
        &format!(
            "cat > /opt/cni/bin/new <<'END'\n{waits}END\nchmod 755 /opt/cni/bin/new && mv /opt/cni/bin/new /opt/cni/bin/toy"
        ),
    );
    let phases = || {
        let pods = lab.status().unwrap().nodes.iter().find(|n| n.name == "a").unwrap().pods.clone();
        pods.iter().map(|pod| pod.phase).collect::<Vec<_>>()
    };
    let asker = UnixStream::connect(lab.place().socket()).unwrap();
    let request = Request::PodScale { node: "a".to_owned(), count: 60, attempts: 1 };
    writeln!(&asker, "{}", serde_json::to_string(&request).unwrap()).unwrap();
    wait_until(phases, |pods| pods.len() == BEGUN);
    drop(asker);
    sh(&lab, &node("a"), "touch /var/lib/go");
    wait_until(phases, |pods| pods.iter().all(|phase| *phase == Phase::Running));
    assert_eq!(phases().len(), BEGUN);
}

#[test]
fn power_takes_everything_but_the_disk() {
    let lab = start(&with_toys());
    lab.pod_add("a", &pod("web-0"), 1).unwrap();
    sh(&lab, &node("a"), "touch /tmp/gone /run/gone; touch /var/lib/stays; sleep 4242 >/dev/null 2>&1 &");
    lab.power("a", false).unwrap();
    assert!(matches!(lab.run(&node("a"), &["true"]).unwrap_err(), LabError::Refused(Failure::Off { .. })));
    let status = lab.status().unwrap();
    let a = status.nodes.iter().find(|n| n.name == "a").unwrap();
    assert!(!a.on && a.pods[0].phase == Phase::Lost && a.enis[0].link.is_none());
    assert!(status.fabric.ports.iter().all(|port| port.eni.to_string() != a.enis[0].id), "its port is gone");

    lab.power("a", true).unwrap();
    assert_eq!(
        sh(
            &lab,
            &node("a"),
            "ls /tmp /run | grep gone || true; ls /var/lib/stays; grep -l [s]leep /proc/[0-9]*/cmdline || true"
        ),
        "/var/lib/stays\n"
    );
    let status = lab.status().unwrap();
    let a = status.nodes.iter().find(|n| n.name == "a").unwrap();
    assert!(a.on && a.pods[0].phase == Phase::Running);
    // The pod's old sandbox was torn down without a namespace, then it got a new one.
    let calls = toy_calls(&lab, "a");
    let calls: Vec<_> =
        calls.iter().map(|(env, _)| (env["CNI_COMMAND"].as_str(), env["CNI_NETNS"].is_empty())).collect();
    assert_eq!(calls, [("ADD", false), ("ADD", false), ("DEL", true), ("DEL", true), ("ADD", false), ("ADD", false)]);
    assert!(lab.ping(&node("b"), "10.20.8.10".parse().unwrap(), &Default::default()).unwrap().all_answered());
}

#[test]
fn a_daemon_that_fails_is_named_with_its_last_words() {
    let text = SMALL.replace(
        "daemon = { command = [] }",
        "daemon = { command = [\"/bin/sh\", \"-c\", \"echo this is the reason >&2; exit 3\"] }",
    );
    let (lab, warnings) = Lab::start(&topology(&text), &options()).unwrap();
    assert_eq!(warnings.len(), 4);
    assert!(
        warnings[0].contains("a is not ready")
            && warnings[0].contains("exit status: 3")
            && warnings[0].contains("this is the reason"),
        "{}",
        warnings[0]
    );
    assert!(sh(&lab, &node("a"), "cat /var/log/lab/daemon.log").contains("this is the reason"));
    let missing = SMALL.replace("daemon = { command = [] }", "daemon = { command = [\"/app/nothing\"] }");
    let (_lab, warnings) = Lab::start(&topology(&missing), &options()).unwrap();
    assert!(warnings[0].contains("/app/nothing") && warnings[0].contains("No such file"), "{}", warnings[0]);
}

#[test]
fn a_daemon_is_stopped_started_and_killed() {
    // A daemon that ends in good order when told to, and says so.
    let daemon = r#"echo '{\"name\":\"n\",\"type\":\"toy\"}' > /etc/cni/net.d/10-x.conflist; trap 'echo bye > /var/lib/bye; exit 0' TERM; while :; do sleep 0.02; done"#;
    let text = SMALL.replace(
        "daemon = { command = [] }",
        &format!("daemon = {{ command = [\"/bin/sh\", \"-c\", \"{daemon}\"] }}\ninit = {{ command = [\"/bin/sh\", \"-c\", \"echo $WHO > /var/lib/init\"] }}\nenv = {{ WHO = \"me\" }}"),
    );
    let lab = start(&topology(&text));
    assert_eq!(sh(&lab, &node("a"), "cat /var/lib/init"), "me\n");
    let daemon = |lab: &Lab| lab.status().unwrap().nodes[0].daemon.clone().unwrap();
    let first = daemon(&lab);
    assert!(first.pid.is_some() && first.ready && first.starts == 1);
    lab.daemon("a", DaemonAction::Stop).unwrap();
    assert_eq!(sh(&lab, &node("a"), "cat /var/lib/bye"), "bye\n");
    assert_eq!((daemon(&lab).pid, daemon(&lab).ended.as_deref()), (None, Some("exit status: 0")));
    lab.daemon("a", DaemonAction::Start).unwrap();
    assert_eq!(daemon(&lab).starts, 2);
    lab.daemon("a", DaemonAction::Kill).unwrap();
    assert_eq!(daemon(&lab).ended.as_deref(), Some("signal: 9 (SIGKILL)"));
    let error = lab.daemon("a", DaemonAction::Kill).unwrap_err().to_string();
    assert!(error.contains("does not run"), "{error}");
}

/// Asks until the answer is right; shows the last one if it never is.
#[track_caller]
fn wait_until<T: std::fmt::Debug>(mut read: impl FnMut() -> T, done: impl Fn(&T) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let last = read();
        if done(&last) {
            return;
        }
        assert!(Instant::now() < deadline, "still not so; last seen: {last:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn files_are_placed_in_the_node_and_never_through_a_link_into_the_host() {
    let mark = format!("vpc-lab-test-{}", std::process::id());
    let files = format!(
        r#"daemon = {{ command = [] }}
files = [{{ path = "/var/run/{mark}/x", content = "placed" }}, {{ path = "/var/lock/{mark}", content = "placed" }}]"#
    );
    let lab = start(&topology(&SMALL.replace("daemon = { command = [] }", &files)));
    assert_eq!(sh(&lab, &node("a"), &format!("cat /run/{mark}/x /var/lock/{mark}")), "placedplaced");
    for host in ["/run", "/var/run", "/var/lock"] {
        assert!(!std::path::Path::new(host).join(&mark).exists(), "{host} of the host has the node's file");
    }
}
