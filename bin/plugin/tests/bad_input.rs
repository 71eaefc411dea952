//! What nobody should send: each has its code and its message, and nothing half-made is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each suite uses its part of it.
#[allow(dead_code)]
mod node;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use node::{Node, Pod, config, on_a_node, plugin, wait_until};
use vpc_wire::rpc::DAEMON_SOCKET;

fn assert_untouched(node: &Node, pod: &Pod) {
    assert!(node.state().is_empty(), "{:?}", node.state());
    assert_eq!(pod.state().into_iter().collect::<Vec<_>>(), ["link lo down"]);
    assert!(node.script().added.is_empty(), "no address was asked for");
}

#[test]
fn by_hand_it_says_what_it_is() {
    let outcome = plugin("", &[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""));
    assert!(outcome.stderr.starts_with("AWS CNI "), "{outcome:?}");
    assert!(outcome.stderr.contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{outcome:?}");
}

#[test]
fn version_needs_nothing_and_reads_nothing() {
    for input in ["", "rubbish", r#"{"cniVersion":"9.9.9"}"#] {
        let outcome = plugin(input, &[("CNI_COMMAND", Some("VERSION"))]);
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (
                0,
                "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"
            )
        );
    }
}

#[test]
fn wrong_configurations_are_refused_before_anything_is_done() {
    on_a_node("wrong_configurations_are_refused_before_anything_is_done", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        for verb in ["ADD", "DEL"] {
            for (input, code, words) in [
                ("", 6, &["standard input is empty"][..]),
                ("{\"name\":", 6, &["not JSON"]),
                ("[1]", 6, &["expected a JSON object"]),
                ("\u{0}\u{0}\u{0}", 6, &["not JSON"]),
                ("{}", 7, &["`name` is missing"]),
                (r#"{"name":"aws-cni","cniVersion":"2.0.0"}"#, 1, &["`2.0.0`", "1.1.0"]),
                (
                    r#"{"name":"aws-cni","cniVersion":"0.4.0","vethPrefix":"toolong"}"#,
                    7,
                    &["`vethPrefix`", "at most 4 bytes"],
                ),
            ] {
                pod.call_with(verb, input, &[]).assert_error(code, words);
            }
        }
        assert_untouched(node, &pod);
        assert!(node.script().deleted.is_empty());
    });
}

/// What no DEL needs keeps no pod from being deleted.
#[test]
fn a_value_of_the_wrong_type_refuses_an_add_and_is_said_by_a_del() {
    on_a_node("a_value_of_the_wrong_type_refuses_an_add_and_is_said_by_a_del", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let wrong = |add: Option<serde_json::Value>| config(add).replace(r#""mtu":"9001""#, r#""mtu":9001"#);
        let words = ["`mtu` is a number: expected a decimal number from 576 to 9001 in quotes"];
        pod.call_with("ADD", &wrong(None), &[]).assert_error(6, &words);
        pod.call_with("CHECK", &wrong(None), &[]).assert_error(6, &words);
        assert_untouched(node, &pod);
        let add = pod.call("ADD");
        pod.call_with("DEL", &wrong(Some(add.assert_ok().json())), &[]).assert_ok();
        assert_eq!(node.script().deleted.len(), 1);
        let log = std::fs::read_to_string(node::LOG).unwrap();
        let told = |line: &&str| line.contains(words[0]);
        assert_eq!(log.lines().filter(told).count(), 3, "{log}");
        assert!(log.lines().rfind(told).unwrap().contains("the default is used, since the pod is to be deleted"));
    });
}

#[test]
fn what_falls_back_and_what_is_refused_early_is_in_the_log() {
    on_a_node("what_falls_back_and_what_is_refused_early_is_in_the_log", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let odd = config(None)
            .replace(r#""podSGEnforcingMode":"strict""#, r#""podSGEnforcingMode":"lax""#)
            .replace("DEBUG", "loud")
            .replace("9001", "70000");
        let add = pod.call_with("ADD", &odd, &[]);
        add.assert_ok();
        pod.call_with("ADD", &config(None), &[("CNI_ARGS", Some("X"))]).assert_error(4, &["CNI_ARGS"]);
        let old = config(None).replace("0.4.0", "0.3.1");
        pod.call_with("CHECK", &old, &[]).assert_error(1, &["CHECK"]);
        let log = std::fs::read_to_string(node::LOG).unwrap();
        let errors: Vec<&str> = log.lines().filter(|line| line.contains(r#""level":"error""#)).collect();
        for (words, line) in [
            ("`pluginLogLevel` is `loud`: expected", 0),
            ("`mtu` is `70000`: expected a decimal number from 576 to 9001; using 9001", 1),
            ("`podSGEnforcingMode` is `lax`: expected", 2),
            ("failed with code 4: CNI_ARGS has the pair `X`", 3),
            ("failed with code 1: ", 4),
        ] {
            assert!(errors[line].contains(words), "{line}: {errors:#?}");
        }
        assert_eq!(errors.len(), 5, "{errors:#?}");
    });
}

/// With its standard output closed a program written in Rust writes to the null device instead, and that never fails.
#[test]
fn an_add_with_its_output_closed_is_refused_before_an_address_is_asked_for() {
    on_a_node("an_add_with_its_output_closed_is_refused_before_an_address_is_asked_for", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let shell = |redirection: &str| {
            let plugin = pod.command("ADD", &[]);
            let mut command = std::process::Command::new("/bin/sh");
            command.args(["-c", &format!("exec {} {redirection}", plugin.get_program().to_str().unwrap())]);
            command.env_clear().envs(plugin.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
            node::run(command, &config(None))
        };
        assert_eq!(shell(">&-").code, 1);
        assert_untouched(node, &pod);
        let log = std::fs::read_to_string(node::LOG).unwrap();
        assert!(log.contains("failed with code 5: standard output is closed"), "{log}");
        assert_eq!(shell("1</dev/null").code, 1);
        assert_untouched(node, &pod);
        let log = std::fs::read_to_string(node::LOG).unwrap();
        assert!(log.contains("failed with code 5: standard output is open for reading only"), "{log}");
        // By hand, on purpose.
        assert_eq!(shell(">/dev/null").code, 0);
        assert!(!node.state().is_empty());
    });
}

#[test]
fn wrong_environments_are_refused_before_anything_is_done() {
    on_a_node("wrong_environments_are_refused_before_anything_is_done", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let long = format!("IgnoreUnknown=1;K8S_POD_NAME={}", "a".repeat(100_000));
        for (changes, words) in [
            (
                &[("CNI_CONTAINERID", None), ("CNI_NETNS", None), ("CNI_IFNAME", None), ("CNI_PATH", None)][..],
                &["CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"][..],
            ),
            (&[("CNI_COMMAND", Some("ADDD"))], &["CNI_COMMAND `ADDD`"]),
            (&[("CNI_CONTAINERID", Some("../../x"))], &["CNI_CONTAINERID"]),
            (&[("CNI_IFNAME", Some("a/b"))], &["CNI_IFNAME"]),
            (&[("CNI_ARGS", Some("K8S_POD_NAME"))], &["CNI_ARGS", "exactly one `=`"]),
            (&[("CNI_ARGS", Some("X=1"))], &["CNI_ARGS", "unknown keys X"]),
            (&[("CNI_ARGS", Some("IgnoreUnknown=1;K8S_POD_NAME=a\nb"))], &["control characters"]),
            (&[("CNI_ARGS", Some(&long))], &["at most 253"]),
            (&[("CNI_NETNS", Some("/var/run/netns/gone"))], &["CNI_NETNS", "/var/run/netns/gone"]),
            (&[("CNI_NETNS", Some("/etc/hostname"))], &["CNI_NETNS", "not a network namespace"]),
            (&[("CNI_NETNS", Some("/"))], &["CNI_NETNS"]),
        ] {
            pod.call_with("ADD", &config(None), changes).assert_error(4, words);
        }
        assert_untouched(node, &pod);
    });
}

#[test]
fn the_plugin_s_own_namespace_is_no_pod_s() {
    on_a_node("the_plugin_s_own_namespace_is_no_pod_s", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let own = [("CNI_NETNS", Some("/proc/self/ns/net"))];
        let refused = |pod: &Pod, verb: &str, input: &str| {
            pod.call_with(verb, input, &own).assert_error(8, &["/proc/self/ns/net", "own network namespace"]);
        };
        refused(&pod, "ADD", &config(None));
        assert_untouched(node, &pod);
        // A process whose number named the pod's namespace has ended, and the host has one of that number: DEL says so, and everything
        // is given back.
        let mut ended = node.pod("web-2");
        let add = ended.call("ADD");
        refused(&ended, "DEL", &config(Some(add.assert_ok().json())));
        assert!(node.script().leases.is_empty(), "{:?}", node.script().leases);
        assert!(!node.state().iter().any(|line| line.starts_with("rule")), "{:?}", node.state());
        ended.gone();
        wait_until(|| node.state().is_empty());
        // Whoever insists gets it: here the link's name is taken, and everything is undone.
        let insisting = [own[0], ("CNI_NETNS_OVERRIDE", Some("true"))];
        pod.call_with("ADD", &config(None), &insisting).assert_error(999, &["eth0"]);
        assert!(node.state().is_empty(), "{:?}", node.state());
        assert_eq!(node.script().deleted.pop().unwrap().reason, "SetupNSFailed");
    });
}

#[test]
fn without_a_daemon_add_asks_to_be_tried_again() {
    on_a_node("without_a_daemon_add_asks_to_be_tried_again", |node| {
        let pod = node.pod("web-1");
        pod.call("ADD").assert_error(11, &["default/web-1", "not running", DAEMON_SOCKET]);
        // A socket of a process that died.
        std::fs::create_dir_all("/var/run/aws-node").unwrap();
        drop(UnixListener::bind(DAEMON_SOCKET).unwrap());
        pod.call("ADD").assert_error(11, &["not running"]);
        pod.call("DEL").assert_ok();
        assert_untouched(node, &pod);
    });
}

#[test]
fn rubbish_from_the_daemon_s_socket_is_called_by_its_name() {
    on_a_node("rubbish_from_the_daemon_s_socket_is_called_by_its_name", |node| {
        let pod = node.pod("web-1");
        std::fs::create_dir_all("/var/run/aws-node").unwrap();
        let listener = UnixListener::bind(DAEMON_SOCKET).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        });
        pod.call("ADD").assert_error(999, &["default/web-1", "not the node daemon", "is not usable"]);
        pod.call("DEL").assert_ok();
        assert_untouched(node, &pod);
    });
}

#[test]
fn a_daemon_that_hangs_does_not_hang_del() {
    on_a_node("a_daemon_that_hangs_does_not_hang_del", |node| {
        let pod = node.pod("web-1");
        std::fs::create_dir_all("/var/run/aws-node").unwrap();
        let _deaf = UnixListener::bind(DAEMON_SOCKET).unwrap();
        let begin = Instant::now();
        pod.call("DEL").assert_ok();
        let took = begin.elapsed();
        assert!(took >= Duration::from_secs(9) && took < Duration::from_secs(15), "{took:?}");
        assert_untouched(node, &pod);
    });
}

#[test]
fn an_add_whose_result_nobody_reads_is_undone() {
    on_a_node("an_add_whose_result_nobody_reads_is_undone", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_aws-cni"))
            .env_clear()
            .envs([
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", pod.container.as_str()),
                ("CNI_NETNS", pod.path.as_str()),
            ])
            .envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", "/x"), ("CNI_ARGS", "")])
            .stdin(std::process::Stdio::piped())
            .stdout(full)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(config(None).as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert!(node.state().is_empty(), "{:?}", node.state());
        assert_eq!(node.script().deleted.pop().unwrap().reason, "SetupNSFailed");
    });
}
