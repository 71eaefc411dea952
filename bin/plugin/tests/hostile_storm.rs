//! R09: one pod's sandbox made anew a thousand times, deleted in every way runtimes delete. In the end nothing is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each suite uses its part of it.
#[allow(dead_code)]
mod node;

use node::{config, on_a_node, wait_until};

const SANDBOXES: u32 = 1_000;
/// Each sandbox has an address of its own, as the one before may rest; after so many they come again.
const ADDRESSES: u32 = 200;

#[test]
fn r09_a_thousand_sandboxes_of_one_pod_leave_nothing() {
    on_a_node("r09_a_thousand_sandboxes_of_one_pod_leave_nothing", |node| {
        node.daemon();
        let mut late = Vec::new();
        for round in 0..SANDBOXES {
            node.gives(&format!("10.20.9.{}", 20 + round % ADDRESSES), 1, 2);
            let mut pod = node.pod(&format!("sandbox-{round}"));
            pod.name = "web-1".into();
            let add = pod.call("ADD");
            add.assert_ok();
            match round % 5 {
                // As it should be; and said twice.
                0 => {
                    pod.del_after(&add).assert_ok();
                    pod.del_after(&add).assert_ok();
                    pod.gone();
                }
                // The sandbox died first.
                1 => {
                    pod.gone();
                    pod.call_with("DEL", &config(Some(add.json())), &[("CNI_NETNS", None)]).assert_ok();
                }
                // The runtime has forgotten what ADD said.
                2 => {
                    pod.call("DEL").assert_ok();
                    pod.gone();
                }
                // The next sandbox comes while this one's link is still there.
                3 => {
                    pod.del_after(&add).assert_ok();
                    late.push((pod, add));
                }
                // The DEL comes when the next is there.
                _ => late.push((pod, add)),
            }
            if round % 5 == 0 {
                for (mut pod, add) in late.drain(..) {
                    let others = node.state();
                    pod.del_after(&add).assert_ok();
                    pod.gone();
                    let kept: Vec<_> = others.iter().filter(|line| line.starts_with("link")).collect();
                    assert!(kept.len() <= 1, "{kept:?}");
                }
            }
        }
        for (mut pod, add) in late {
            pod.del_after(&add).assert_ok();
            pod.gone();
        }
        wait_until(|| node.state().is_empty());
        assert_eq!(node.script().added.len(), SANDBOXES as usize);
        assert!(node.script().leases.is_empty(), "{:?}", node.script().leases);
    });
}
