//! CHECK as a container runtime calls it, on a kernel of our own: nothing to say of what ADD left, every difference by its name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Each suite uses its part of it.
#[allow(dead_code)]
mod node;

use node::{Node, Outcome, Pod, config, on_a_node};
use serde_json::{Value, json};
use vpc_linux::{Address, LinkChange, NeighSpec, Netns, RouteSpec, Rtnl, RuleSpec};
use vpc_model::{LinkName, RouteTable};

const HOST: &str = "eni0761ccbeace";

fn link(name: &str) -> LinkName {
    name.parse().unwrap()
}

fn inside(pod: &Pod) -> Rtnl {
    Rtnl::open_in(&Netns::open(&pod.path).unwrap()).unwrap()
}

/// A pod wired by ADD, and what ADD answered.
fn added(node: &mut Node) -> (Pod, Outcome) {
    node.daemon();
    node.gives("10.20.9.201", 1, 2);
    let pod = node.pod("web-1");
    let add = pod.call("ADD");
    add.assert_ok();
    (pod, add)
}

fn check(pod: &Pod, result: &Value) -> Outcome {
    pod.call_with("CHECK", &config(Some(result.clone())), &[])
}

#[test]
fn what_add_left_is_as_it_should_be_and_nothing_is_changed() {
    on_a_node("what_add_left_is_as_it_should_be_and_nothing_is_changed", |node| {
        let (pod, add) = added(node);
        let before = (node.state(), pod.state());
        let outcome = check(&pod, &add.json());
        outcome.assert_ok();
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
        assert_eq!((node.state(), pod.state()), before);
        // A pod on the primary ENI has no rule of its own.
        node.gives("10.20.8.77", 0, 254);
        let second = node.pod("web-2");
        let add = second.call("ADD");
        check(&second, &add.assert_ok().json()).assert_ok();
    });
}

#[test]
fn what_later_plugins_add_is_left_to_them() {
    on_a_node("what_later_plugins_add_is_left_to_them", |node| {
        let (pod, add) = added(node);
        let mut rtnl = inside(&pod);
        let eth0 = rtnl.link(&link("eth0")).unwrap().index;
        rtnl.add_address(&Address::new(eth0, "192.168.7.2/24".parse().unwrap())).unwrap();
        rtnl.set_link(&link("eth0"), &LinkChange { mtu: Some(1400), ..LinkChange::default() }).unwrap();
        let other =
            RouteSpec::through(RouteTable::MAIN, "0.0.0.0/0".parse().unwrap(), "192.168.7.1".parse().unwrap(), eth0);
        rtnl.replace_route(&other).unwrap();
        let mut result = add.json();
        result["interfaces"].as_array_mut().unwrap().push(json!({"name": "v6if0", "sandbox": "/x"}));
        // Another plugin writes true hardware addresses over what ours keeps there: the device still tells the table.
        result["interfaces"][1]["mac"] = json!("02:00:00:00:00:07");
        check(&pod, &result).assert_ok();
    });
}

#[test]
fn each_difference_is_named() {
    on_a_node("each_difference_is_named", |node| {
        let (pod, add) = added(node);
        let result = add.json();
        let (mut host, mut within) = (Rtnl::open().unwrap(), inside(&pod));
        let address = "10.20.9.201/32".parse().unwrap();
        let gateway = "169.254.1.1".parse().unwrap();
        let outer = host.link(&link(HOST)).unwrap();
        let inner = within.link(&link("eth0")).unwrap();

        let to = RuleSpec { to: Some(address), ..RuleSpec::lookup(512, RouteTable::MAIN) };
        host.delete_rule(&to).unwrap();
        check(&pod, &result).assert_error(
            999,
            &["pod default/web-1 is not as ADD left it", "no rule 512: to 10.20.9.201/32 to table 254"],
        );
        host.add_rule(&to).unwrap();

        let from = |table| RuleSpec { from: Some(address), ..RuleSpec::lookup(1536, RouteTable(table)) };
        host.delete_rule(&from(2)).unwrap();
        host.add_rule(&from(3)).unwrap();
        check(&pod, &result).assert_error(999, &["on the host, there is no rule 1536: from 10.20.9.201/32 to table 2"]);
        host.delete_rule(&from(3)).unwrap();
        host.add_rule(&from(2)).unwrap();

        let route = RouteSpec::on_link(RouteTable::MAIN, address, outer.index);
        host.delete_route(&route).unwrap();
        check(&pod, &result).assert_error(999, &["on the host, there is no route to 10.20.9.201/32 by eni0761ccbeace"]);
        host.add_route(&route).unwrap();

        let pinned = NeighSpec::pinned(outer.index, address.addr(), inner.mac.unwrap());
        host.delete_neighbour(&pinned).unwrap();
        check(&pod, &result).assert_error(999, &["on the host, 10.20.9.201 is not pinned to"]);
        host.pin_neighbour(&pinned).unwrap();

        within.delete_address(&Address::new(inner.index, address)).unwrap();
        check(&pod, &result).assert_error(999, &["in the pod, eth0 has not the address 10.20.9.201"]);
        within.add_address(&Address::new(inner.index, address)).unwrap();
        // With its last address a link loses its routes.
        let (main, all) = (RouteTable::MAIN, "0.0.0.0/0".parse().unwrap());
        within.add_route(&RouteSpec::on_link(main, "169.254.1.1/32".parse().unwrap(), inner.index)).unwrap();
        within.add_route(&RouteSpec::through(main, all, gateway, inner.index)).unwrap();

        let wrong = NeighSpec::pinned(inner.index, gateway, "02:00:00:00:00:09".parse().unwrap());
        within.pin_neighbour(&wrong).unwrap();
        check(&pod, &result).assert_error(999, &["in the pod, 169.254.1.1 is not pinned to"]);
        within.pin_neighbour(&NeighSpec::pinned(inner.index, gateway, outer.mac.unwrap())).unwrap();
        check(&pod, &result).assert_ok();

        let down = LinkChange { up: Some(false), ..LinkChange::default() };
        within.set_link(&link("eth0"), &down).unwrap();
        let words = [
            "in the pod, link eth0 is down",
            "in the pod, there is no route to 169.254.1.1/32",
            "there is no default route",
        ];
        check(&pod, &result).assert_error(999, &words);
        host.delete_link(outer.index).unwrap();
        check(&pod, &result)
            .assert_error(999, &["in the pod, there is no link eth0", "on the host, there is no link eni0761ccbeace"]);
    });
}

/// A link of that name may have come to belong to somebody else.
#[test]
fn another_sandbox_s_link_is_told_from_its_own() {
    on_a_node("another_sandbox_s_link_is_told_from_its_own", |node| {
        let (pod, add) = added(node);
        let mut host = Rtnl::open().unwrap();
        let alias = Some("vpc-cni/1 aws-cni c-other default/web-1".to_owned());
        host.set_link(&link(HOST), &LinkChange { alias, ..LinkChange::default() }).unwrap();
        check(&pod, &add.json()).assert_error(999, &["link eni0761ccbeace is another sandbox's"]);
    });
}

#[test]
fn a_check_that_can_not_be_made_says_why() {
    on_a_node("a_check_that_can_not_be_made_says_why", |node| {
        let (mut pod, add) = added(node);
        pod.call("CHECK").assert_error(7, &["pod default/web-1 can not be checked", "`prevResult` is missing"]);
        pod.call_with("CHECK", &config(Some(json!({"ips": "x"}))), &[])
            .assert_error(6, &["`prevResult` is not usable"]);
        check(&pod, &json!({"interfaces": [], "ips": []})).assert_error(7, &["no IPv4 address of interface eth0"]);
        let old = config(Some(add.json())).replace("\"0.4.0\"", "\"0.3.1\"");
        pod.call_with("CHECK", &old, &[]).assert_error(1, &["CHECK exists since CNI 0.4.0", "0.3.1"]);
        pod.gone();
        check(&pod, &add.json()).assert_error(4, &["CNI_NETNS"]);
    });
}
