//! What a careless or hostile neighbour can put in the plugin's way: names, links, paths, limits, streams and disks. Each is survived
//! or refused with its cause, and nothing is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each suite uses its part of it.
#[allow(dead_code)]
mod node;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;

use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use node::{LOG, Node, Outcome, Pod, config, on_a_node, run, wait_until};
use serde_json::json;
use vpc_hostnet::LinkAlias;
use vpc_linux::{Rtnl, VethPeer, VethSpec};
use vpc_model::{PodRef, SandboxKey};
use vpc_wire::rpc::{DAEMON_SOCKET, Refusal};

/// ADD, DEL, the namespace's end: nothing is left on the host, and nobody holds an address.
fn lives_and_dies(node: &Node, mut pod: Pod) {
    let add = pod.call("ADD");
    add.assert_ok();
    pod.del_after(&add).assert_ok();
    pod.gone();
    leaves_nothing(node);
}

fn leaves_nothing(node: &Node) {
    wait_until(|| node.state().is_empty());
    assert!(node.script().leases.is_empty(), "{:?}", node.script().leases);
}

#[test]
fn names_of_every_legal_character_and_length_are_wired_and_told_apart() {
    on_a_node("names_of_every_legal_character_and_length_are_wired_and_told_apart", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
        let subdomain = format!("{alphabet}.a-b.{alphabet}-0.{}", "z".repeat(253 - 80));
        let ids = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
        let long = "Z".repeat(234);
        let cases = [
            ("default", subdomain.as_str(), "0"),
            ("a-label-of-a-namespace-as-long-as-labels-get-with-63-characters", subdomain.as_str(), ids),
            ("0-9", "a.b.c", "a_.-"),
            ("n", "long-id", &long),
        ];
        for (number, (namespace, name, container)) in cases.into_iter().enumerate() {
            let mut pod = node.pod(&format!("case-{number}"));
            (pod.namespace, pod.name) = (namespace.into(), name.into());
            pod.container = container.into();
            let add = pod.call("ADD");
            add.assert_ok();
            let request = node.script().added.pop().unwrap();
            let told = (request.k8s_pod_namespace, request.k8s_pod_name, request.container_id);
            assert_eq!(told, (pod.namespace.clone(), pod.name.clone(), pod.container.clone()));
            let owner = PodRef { namespace: pod.namespace.clone(), name: pod.name.clone() };
            let (network, interface) = ("aws-cni".to_owned(), "eth0".to_owned());
            let key = SandboxKey { network, container: pod.container.clone(), interface };
            let alias = LinkAlias::of(&key, &owner).to_string();
            assert!(node.state().iter().any(|line| line.ends_with(&format!("alias {alias}"))), "{:?}", node.state());
            pod.call_with("CHECK", &config(Some(add.json())), &[]).assert_ok();
            pod.del_after(&add).assert_ok();
            pod.gone();
            leaves_nothing(node);
        }
        // With the daemon away the note for it takes any id, too.
        fs::remove_file(DAEMON_SOCKET).unwrap();
        for container in [ids, &long] {
            let mut pod = node.pod("away");
            pod.container = container.into();
            pod.call_with("DEL", &config(None), &[("CNI_IFNAME", Some("fifteen-bytes-x"))]).assert_ok();
            pod.gone();
        }
        let notes = vpc_wire::tombstone::read(vpc_wire::tombstone::TOMBSTONES.as_ref()).unwrap().notes;
        assert_eq!(notes.len(), 2, "{}", fs::read_to_string(LOG).unwrap().lines().last().unwrap());
    });
}

/// Names of interfaces are whatever the kernel takes: bytes without `/`, `:` and white space. Of `%` it makes a pattern.
#[test]
fn odd_names_of_interfaces_are_the_kernel_s_affair() {
    on_a_node("odd_names_of_interfaces_are_the_kernel_s_affair", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        for name in ["%s", "eth0.1@x", "a\"b\\c", "äöü", "-rf", "*"] {
            let mut pod = node.pod("web-1");
            let add = pod.call_with("ADD", &config(None), &[("CNI_IFNAME", Some(name))]);
            if name.contains('%') {
                add.assert_error(4, &["CNI_IFNAME `%s`", "without `/`, `:`, `%`"]);
                assert!(node.script().added.is_empty(), "no address was asked for");
            } else {
                assert_eq!(add.assert_ok().json()["interfaces"][1]["name"], name);
                pod.call_with("DEL", &config(Some(add.json())), &[("CNI_IFNAME", Some(name))]).assert_ok();
            }
            pod.gone();
            leaves_nothing(node);
        }
    });
}

/// The SHA-1 of `default.pod-221f58` and of `default.pod-439643` begin with the same 44 bits: e8f0682d081.
#[test]
fn two_pods_of_one_link_name_do_not_harm_each_other() {
    on_a_node("two_pods_of_one_link_name_do_not_harm_each_other", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let first = node.pod("pod-221f58");
        let add = first.call("ADD");
        assert_eq!(add.assert_ok().json()["interfaces"][0]["name"], "enie8f0682d081");
        let (host, inside) = (node.state(), first.state());

        let second = node.pod("pod-439643");
        node.gives("10.20.9.202", 1, 2);
        let refused = second.call("ADD");
        refused.assert_error(999, &["pod default/pod-439643", "enie8f0682d081", "pod default/pod-221f58"]);
        assert_eq!(node.script().deleted.pop().unwrap().reason, "SetupNSFailed");
        let key = SandboxKey { network: "aws-cni".into(), container: "c-pod-439643".into(), interface: "eth0".into() };
        node.script().del = Some(Err(Refusal::unknown_pod(&key).into_status()));
        second.call("DEL").assert_ok();
        assert_eq!((node.state(), first.state()), (host, inside), "the first is untouched");
        first.call_with("CHECK", &config(Some(add.json())), &[]).assert_ok();

        // The way out: the first goes.
        node.gives("10.20.9.201", 1, 2);
        let mut first = first;
        first.del_after(&add).assert_ok();
        first.gone();
        leaves_nothing(node);
        node.gives("10.20.9.202", 1, 2);
        lives_and_dies(node, second);
    });
}

/// Callers that are no kubelet name no pod, so all their containers hash to one name; a container keeps what it has.
#[test]
fn a_second_container_without_a_pod_s_name_does_not_harm_the_first() {
    on_a_node("a_second_container_without_a_pod_s_name_does_not_harm_the_first", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let (first, second) = (node.pod("one"), node.pod("two"));
        let nameless = [("CNI_ARGS", Some(""))];
        first.call_with("ADD", &config(None), &nameless).assert_ok();
        let host = node.state();
        node.gives("10.20.9.202", 1, 2);
        second.call_with("ADD", &config(None), &nameless).assert_error(999, &["eni3a52ce78095", "container c-one"]);
        assert_eq!(node.state(), host);
        // The same container again is the same container.
        node.gives("10.20.9.201", 1, 2);
        first.call_with("ADD", &config(None), &nameless).assert_ok();
        assert_eq!(node.state(), host);
    });
}

#[test]
fn a_foreign_link_of_our_name_is_left_alone() {
    on_a_node("a_foreign_link_of_our_name_is_left_alone", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let name: vpc_model::LinkName = "eni0761ccbeace".parse().unwrap();
        let mut host = Rtnl::open().unwrap();
        let veth = |alias: Option<&str>| VethSpec {
            name: name.clone(),
            index: None,
            mac: None,
            mtu: None,
            up: true,
            alias: alias.map(str::to_owned),
            link_local: true,
            peer: VethPeer { name: "wire9".parse().unwrap(), mac: None, mtu: None, netns: None },
        };
        let refused = |node: &Node, words: &[&str]| {
            let before = node.state();
            pod.call("ADD").assert_error(999, &[&["pod default/web-1", "eni0761ccbeace"], words].concat());
            assert_eq!(node.state(), before);
            assert_eq!(node.script().deleted.pop().unwrap().reason, "SetupNSFailed");
        };
        host.add_bridge(&name).unwrap();
        refused(node, &["is a bridge"]);
        host.delete_link(&name).unwrap();
        host.add_veth(&veth(None)).unwrap();
        refused(node, &["both ends on the host"]);
        host.delete_link(&name).unwrap();
        host.add_veth(&veth(Some("uplink of the storage network"))).unwrap();
        refused(node, &["uplink of the storage network"]);
        // As the reference's plugin leaves a pod of this name: a pair that leads away and says nothing.
        host.delete_link(&name).unwrap();
        let mut old = node.pod("old");
        {
            let namespace = vpc_linux::Netns::open(&old.path).unwrap();
            let mut left = veth(None);
            left.peer.netns = Some(&namespace);
            host.add_veth(&left).unwrap();
        }
        pod.call("ADD").assert_ok();
        old.gone();
        assert!(node.state().contains("link eni0761ccbeace mtu 9001 up alias vpc-cni/1 aws-cni c-web-1 default/web-1"));
    });
}

#[test]
fn a_netns_that_is_something_else_is_refused_at_once_and_deleted_without_a_word() {
    on_a_node("a_netns_that_is_something_else_is_refused_at_once_and_deleted_without_a_word", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let run = "/var/run/";
        let at = |name: &str| format!("{run}{name}");
        fs::write(at("file"), "").unwrap();
        fs::create_dir(at("folder")).unwrap();
        mkfifo(at("fifo").as_str(), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        symlink(at("fifo"), at("link-to-fifo")).unwrap();
        let long = at(&"x".repeat(5000));
        let mut wrong: Vec<String> =
            ["file", "folder", "fifo", "socket", "loop", "dangling", "link-to-fifo"].map(at).into();
        wrong.extend(
            ["/dev/null", "/dev/tty", "/proc/self/ns/mnt", "/proc/self/ns/pid", "relative", "  "].map(String::from),
        );
        wrong.push(long);
        for path in &wrong {
            let netns = [("CNI_NETNS", Some(path.as_str()))];
            pod.call_with("ADD", &config(None), &netns).assert_error(4, &["CNI_NETNS", "pod default/web-1", path]);
            pod.call_with("CHECK", &config(Some(json!({"ips": [{"address": "10.20.9.201/32", "interface": 0}], "interfaces": [{"name": "eth0", "sandbox": path}]}))), &netns)
                .assert_error(4, &["CNI_NETNS", path]);
            assert!(node.script().added.is_empty(), "no address was asked for");
            pod.call_with("DEL", &config(None), &netns).assert_ok();
        }
        assert!(node.state().is_empty(), "{:?}", node.state());
        // A way round to the namespace is a way to it.
        symlink(&pod.path, at("link")).unwrap();
        let link = at("link");
        let add = pod.call_with("ADD", &config(None), &[("CNI_NETNS", Some(&link))]);
        assert_eq!(add.assert_ok().json()["interfaces"][1]["sandbox"], link);
        pod.call_with("DEL", &config(Some(add.json())), &[("CNI_NETNS", Some(&link))]).assert_ok();
    });
}

fn limited(pod: &Pod, verb: &str, input: &str, resource: Resource, bytes: u64) -> Outcome {
    let mut command = pod.command(verb, &[]);
    // SAFETY: one system call.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || Ok(setrlimit(resource, bytes, bytes)?));
    }
    run(command, input)
}

#[test]
fn eight_megabytes_are_enough() {
    on_a_node("eight_megabytes_are_enough", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        // As much as Kubernetes lets a pod say of itself.
        let crowded = config(None).replace("hunter2", &"x".repeat(250 << 10));
        // The same as Go's JSON writes it, six bytes for one.
        let escaped = config(None).replace("hunter2", &"\\u003c".repeat(250 << 10));
        for input in [config(None), crowded, escaped] {
            let mut pod = node.pod("web-1");
            limited(&pod, "ADD", &input, Resource::RLIMIT_DATA, 8 << 20).assert_ok();
            limited(&pod, "DEL", &input, Resource::RLIMIT_DATA, 8 << 20).assert_ok();
            pod.gone();
            leaves_nothing(node);
        }
        // What does not fit ends the plugin before it has done anything.
        let pod = node.pod("web-2");
        let rubbish = format!("[{}0]", "0,".repeat(1 << 19));
        let outcome = limited(&pod, "ADD", &rubbish, Resource::RLIMIT_DATA, 8 << 20);
        outcome.assert_error(999, &["no memory is left to read the configuration", "8 MiB are enough"]);
        let huge = format!("[{}0]", "0,".repeat(1 << 20));
        let outcome = limited(&pod, "ADD", &huge, Resource::RLIMIT_DATA, 8 << 20);
        outcome.assert_error(6, &["more than 2 MiB"]);
        leaves_nothing(node);
    });
}

/// Wherever memory ends, it ends before an address is asked for, or not at all.
#[test]
fn memory_that_does_not_suffice_ends_a_call_before_anything_is_done() {
    on_a_node("memory_that_does_not_suffice_ends_a_call_before_anything_is_done", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let annotations: Vec<String> = (0..250).map(|at| format!(r#""{at}":"{}""#, "x".repeat(1000))).collect();
        let input = config(None).replace(r#""secret":"hunter2""#, &annotations.join(","));
        let (mut refused, mut last) = (0, 0);
        // From where the program does not even start to where all is well.
        for bytes in (4 << 20..10 << 20).step_by(16 << 10) {
            let mut pod = node.pod("web-1");
            let outcome = limited(&pod, "ADD", &input, Resource::RLIMIT_AS, bytes);
            if outcome.code != 0 {
                assert!(node.script().added.is_empty(), "{bytes}: {outcome:?}");
                (refused, last) = (refused + 1, bytes);
            }
            node.script().added.clear();
            pod.gone();
        }
        assert!(refused > 10 && last < 8 << 20, "{refused} refused, the last with {last} bytes");
    });
}

#[test]
fn an_input_that_is_never_closed_is_taken_when_it_is_whole_and_else_refused() {
    on_a_node("an_input_that_is_never_closed_is_taken_when_it_is_whole_and_else_refused", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let call = |pod: &Pod, input: &str| {
            let mut child = pod.command("ADD", &[]).spawn().unwrap();
            let mut open = child.stdin.take().unwrap();
            open.write_all(input.as_bytes()).unwrap();
            let outcome = Outcome::from(child.wait_with_output().unwrap());
            drop(open);
            outcome
        };
        let pod = node.pod("web-1");
        let outcome = call(&pod, &config(None)[..40]);
        outcome.assert_error(5, &["standard input is still open after 10 s", "its 40 bytes"]);
        assert!(node.state().is_empty() && node.script().added.is_empty());
        call(&pod, &config(None)).assert_ok();
    });
}

#[test]
fn a_log_that_can_not_be_written_keeps_no_pod() {
    on_a_node("a_log_that_can_not_be_written_keeps_no_pod", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        fs::create_dir("/var/run/full").unwrap();
        mount(Some("tmpfs"), "/var/run/full", Some("tmpfs"), MsFlags::empty(), Some("size=8k")).unwrap();
        let mut filler = fs::File::create("/var/run/full/filler").unwrap();
        filler.write_all(&[b'x'; 4096]).unwrap();
        // One page is left: the log's first lines fit, one is torn, then nothing fits.
        let log = "/var/run/full/plugin.log";
        for round in 0..4 {
            let mut pod = node.pod("web-1");
            let input = config(None).replace(LOG, log);
            let add = pod.call_with("ADD", &input, &[]);
            assert_eq!(add.assert_ok().stderr, "");
            let del = pod.call_with("DEL", &config(Some(add.json())).replace(LOG, log), &[]);
            assert_eq!(del.assert_ok().stderr, "");
            pod.gone();
            leaves_nothing(node);
            assert!(fs::metadata(log).unwrap().size() <= 4096, "round {round}");
        }
        assert_eq!(fs::metadata(log).unwrap().size(), 4096, "the disk is full");
        // No room for a new file either, and things that are no files.
        mkfifo("/var/run/fifo", Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind("/var/run/socket").unwrap();
        fs::create_dir("/var/run/folder").unwrap();
        for (path, lines) in [
            ("/dev/full", 0),
            ("/var/run/fifo", 1),
            ("/var/run/socket", 1),
            ("/var/run/folder", 1),
            ("/dev/stdout", 1),
            ("/proc/self/fd/1", 1),
            ("STDOUT", 1),
        ] {
            let mut pod = node.pod("web-1");
            let quiet = config(None).replace(LOG, path).replace("DEBUG", "error");
            let add = pod.call_with("ADD", &quiet, &[]);
            assert_eq!(add.assert_ok().json()["cniVersion"], "0.4.0", "{path}");
            assert_eq!(add.stderr.lines().count(), lines, "{path}: {add:?}");
            pod.del_after(&add).assert_ok();
            pod.gone();
            leaves_nothing(node);
        }
    });
}

/// A limit of file sizes (`ulimit -f`) sends a signal that ends the program unless it is kept away.
#[test]
fn a_limit_of_file_sizes_keeps_no_pod() {
    on_a_node("a_limit_of_file_sizes_keeps_no_pod", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        for bytes in [0, 100, 700] {
            let mut pod = node.pod("web-1");
            let _ = fs::remove_file(LOG);
            limited(&pod, "ADD", &config(None), Resource::RLIMIT_FSIZE, bytes).assert_ok();
            assert!(fs::metadata(LOG).unwrap().size() <= bytes);
            limited(&pod, "DEL", &config(None), Resource::RLIMIT_FSIZE, bytes).assert_ok();
            pod.gone();
            leaves_nothing(node);
        }
    });
}
