//! What a call finds that an earlier one left, and whose it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each suite uses its part of it.
#[allow(dead_code)]
mod node;

use std::process::Command;

use node::{Node, config, on_a_node, skip, wait_until};
use vpc_linux::{Rtnl, VethPeer, VethSpec};
use vpc_model::SandboxKey;
use vpc_wire::rpc::Refusal;

fn holds_no_lease(node: &Node) {
    let key = SandboxKey { network: "aws-cni".into(), container: "c-web-1".into(), interface: "eth0".into() };
    node.script().del = Some(Err(Refusal::unknown_pod(&key).into_status()));
}

/// The lease ended without the pod (a GC, an audit, other hands), or a DEL was killed after the daemon had answered it.
#[test]
fn a_del_without_a_lease_removes_what_bears_its_sandbox_s_name() {
    on_a_node("a_del_without_a_lease_removes_what_bears_its_sandbox_s_name", |node| {
        node.daemon();
        for remembers in [false, true] {
            node.gives("10.20.9.201", 1, 2);
            let mut pod = node.pod("web-1");
            let add = pod.call("ADD");
            add.assert_ok();
            holds_no_lease(node);
            let mut other = node.pod("next");
            other.name = "web-1".into();
            for (verb, container) in [("DEL", &other), ("DEL", &pod)] {
                assert!(!node.state().is_empty(), "another sandbox of the pod takes nothing away");
                container.call_with(verb, &config(remembers.then(|| add.json())), &[]).assert_ok();
            }
            assert!(node.state().is_empty(), "{:?}", node.state());
            assert!(!pod.state().iter().any(|line| line.contains("eth0")), "{:?}", pod.state());
            pod.call("DEL").assert_ok();
            pod.gone();
            other.gone();
        }
    });
}

/// The host's end is named after the pod alone: a second one would take the first one's.
#[test]
fn a_second_interface_of_one_container_is_refused_and_the_first_stays() {
    on_a_node("a_second_interface_of_one_container_is_refused_and_the_first_stays", |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let mut pod = node.pod("web-1");
        let first = pod.call("ADD");
        first.assert_ok();
        let (host, inside) = (node.state(), pod.state());
        node.gives("10.20.9.202", 1, 2);
        let second = [("CNI_IFNAME", Some("net1"))];
        let words = ["eni0761ccbeace", "interface eth0 of the same container in network aws-cni", "one interface"];
        pod.call_with("ADD", &config(None), &second).assert_error(999, &words);
        assert_eq!((node.state(), pod.state()), (host.clone(), inside.clone()));
        assert_eq!(node.script().deleted.pop().unwrap().if_name, "net1", "its address is given back");
        // Nor does its DEL take away what is the first one's, with a lease or without.
        pod.call_with("DEL", &config(None), &second).assert_ok();
        holds_no_lease(node);
        pod.call_with("DEL", &config(None), &second).assert_ok();
        assert_eq!((node.state(), pod.state()), (host, inside));
        // A network of another name is another interface, too.
        node.gives("10.20.9.202", 1, 2);
        let elsewhere = config(None).replace(r#""name":"aws-cni""#, r#""name":"other""#);
        pod.call_with("ADD", &elsewhere, &second).assert_error(999, &["interface eth0 of the same container"]);
        node.gives("10.20.9.201", 1, 2);
        pod.del_after(&first).assert_ok();
        pod.gone();
        wait_until(|| node.state().is_empty());
    });
}

/// The kernel finds a link by any of its names.
#[test]
fn a_link_with_our_name_as_an_alternative_one_is_left_alone() {
    const NAME: &str = "a_link_with_our_name_as_an_alternative_one_is_left_alone";
    on_a_node(NAME, |node| {
        node.daemon();
        node.gives("10.20.9.201", 1, 2);
        let pod = node.pod("web-1");
        let far = vpc_linux::Netns::create().unwrap();
        Rtnl::open()
            .unwrap()
            .add_veth(&VethSpec {
                name: "storage0".parse().unwrap(),
                index: None,
                mac: None,
                mtu: None,
                up: true,
                alias: None,
                link_local: true,
                peer: VethPeer { name: "far".parse().unwrap(), mac: None, mtu: None, netns: Some(&far) },
            })
            .unwrap();
        let named = Command::new("ip")
            .args(["link", "property", "add", "dev", "storage0", "altname", "eni0761ccbeace"])
            .status();
        match named {
            Ok(status) => assert!(status.success()),
            Err(error) => return skip(NAME, &format!("no program `ip`: {error}")),
        }
        let before = node.state();
        pod.call("ADD").assert_error(999, &["eni0761ccbeace", "link storage0, which has it as an alternative name"]);
        assert_eq!(node.state(), before);
        pod.call("DEL").assert_ok();
        assert_eq!(node.state(), before);
    });
}
