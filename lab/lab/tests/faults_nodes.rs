//! What goes wrong with nodes, their daemons and their kernels reaches real processes, and ends when it is lifted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::ec2::{attachment, call, create, links, wait_until};
use common::faults::{add, fault, lift, refused, report};
use common::nobody::skip;
use common::{SMALL, options, start, topology, with_toys};
use vpc_lab::control::Place;
use vpc_lab::fault::FaultState;
use vpc_lab::tools::{HttpOptions, PingOptions};
use vpc_lab::topology::{CommandFile, TopologyFile};
use vpc_lab::{Lab, LabError};

/// A daemon with a child: each writes down that it lives, about a hundred times a second.
const BEATING: &str = "echo '{}' > /etc/cni/net.d/10-x.conf
(while :; do echo x >> /var/lib/child; sleep 0.01; done) &
while :; do echo x >> /var/lib/parent; sleep 0.01; done";

fn place(node: &str) -> Place {
    Place::Node(node.to_owned())
}

/// What a node's program prints.
#[track_caller]
fn sh(lab: &Lab, node: &str, script: &str) -> String {
    let output = lab.run(&place(node), &["sh", "-c", script]).unwrap();
    assert_eq!(output.code, 0, "{script}: {output:?}");
    output.stdout
}

fn has(program: &str) -> bool {
    Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|run| run.status.success())
}

/// One node whose daemon beats.
fn beating() -> Lab {
    let mut file = TopologyFile::parse(SMALL).unwrap();
    file.nodes.truncate(1);
    let command = ["/bin/sh", "-c", BEATING].map(str::to_owned).to_vec();
    file.node_defaults.daemon = Some(CommandFile { command, cwd: None });
    Lab::start(&file.resolve().unwrap(), &options()).unwrap().0
}

/// Lines that daemon and child have written.
fn beats(lab: &Lab) -> (usize, usize) {
    let lines = |name| sh(lab, "a", &format!("cat /var/lib/{name}")).lines().count();
    (lines("parent"), lines("child"))
}

/// Whether both go on.
#[track_caller]
fn goes_on(lab: &Lab) {
    let before = beats(lab);
    wait_until(|| beats(lab), |now| now.0 > before.0 + 2 && now.1 > before.1 + 2);
}

#[test]
fn a_daemon_stands_still_starves_and_dies_with_all_it_has_started() {
    let lab = beating();
    goes_on(&lab);
    let daemon = || lab.status().unwrap().nodes[0].daemon.clone().unwrap();

    let stop = add(&lab, "stop node=a");
    let still = beats(&lab);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(beats(&lab), still);
    let error = refused(&lab, "starve node=a run_ms=1 stop_ms=1");
    assert!(error.contains(&format!("fault {stop} (stop node=a)")) && error.contains("lift"), "{error}");
    assert!(lift(&lab, stop).hits.unwrap() >= 1);
    goes_on(&lab);

    let starve = add(&lab, "starve node=a run_ms=20 stop_ms=60");
    let states = || sh(&lab, "a", "cat /proc/[0-9]*/stat | grep '(sh)' | cut -d' ' -f3");
    wait_until(states, |states| states.lines().filter(|state| *state == "T").count() >= 2);
    goes_on(&lab);
    wait_until(|| report(&lab, starve).hits.unwrap(), |stops| *stops >= 3);
    lift(&lab, starve);
    goes_on(&lab);
    assert!(!states().contains('T'));

    // Killed, it stays dead; its child is dead too.
    add(&lab, "kill node=a");
    assert!(daemon().ended.unwrap().contains("signal: 9"));
    let dead = beats(&lab);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((beats(&lab), states().contains('T')), (dead, false));
    assert!(refused(&lab, "stop node=a").contains("does not run"));
    lab.daemon("a", vpc_lab::control::DaemonAction::Start).unwrap();
    add(&lab, "kill node=a restart_ms=50");
    wait_until(daemon, |daemon| daemon.pid.is_some() && daemon.starts == 3);
    goes_on(&lab);

    // A daemon that stands still can be killed, and the next one stands still as well.
    let stop = add(&lab, "stop node=a");
    add(&lab, "kill node=a restart_ms=1");
    wait_until(daemon, |daemon| daemon.starts == 4);
    wait_until(states, |states| states.contains('T'));
    lift(&lab, stop);
    goes_on(&lab);
    assert!(refused(&lab, "starve node=a run_ms=0 stop_ms=5").contains("1 or more"));
}

#[test]
fn a_node_without_power_and_one_that_reboots() {
    let lab = start(&with_toys());
    lab.pod_add("a", &"default/web-0".parse().unwrap(), 1).unwrap();
    sh(&lab, "a", "touch /var/lib/on-disk /run/in-memory");
    let boots = || sh(&lab, "a", "cat /proc/1/stat | cut -d' ' -f22");
    let first = boots();
    let before = lab.status().unwrap().nodes[0].pods[0].sandbox.clone().unwrap();
    add(&lab, "reboot node=a");
    assert_ne!(boots(), first);
    assert_eq!(sh(&lab, "a", "ls /var/lib/on-disk; ls /run/in-memory 2>/dev/null; true"), "/var/lib/on-disk\n");
    let after = lab.status().unwrap().nodes[0].pods[0].sandbox.clone().unwrap();
    assert_ne!(before.netns, after.netns, "its pod has a new sandbox");

    let dark = add(&lab, "power-cut node=a");
    assert!(matches!(lab.run(&place("a"), &["true"]), Err(LabError::Refused(_))));
    assert!(unreachable(&lab, "b", "10.20.8.10"));
    assert!(refused(&lab, "reboot node=a").contains("no power"));
    lift(&lab, dark);
    assert!(lab.ping(&place("b"), "10.20.8.10".parse().unwrap(), &PingOptions::count(1)).unwrap().all_answered());
}

fn unreachable(lab: &Lab, from: &str, to: &str) -> bool {
    let options = PingOptions { timeout: Duration::from_millis(100), ..PingOptions::count(1) };
    lab.ping(&place(from), to.parse().unwrap(), &options).unwrap().answered() == 0
}

/// Status of an answer of EC2 (a request without a signature is refused) or IMDS; 0: there was none.
fn answer(lab: &Lab, from: &Place, host: &str, patience_ms: u64) -> (u16, String) {
    let timeout = Duration::from_millis(patience_ms);
    let options = HttpOptions { method: "GET".to_owned(), headers: Vec::new(), timeout };
    let reply = lab.http(from, &format!("http://{host}/"), &options).unwrap();
    (reply.status, reply.error.unwrap_or_default())
}

const EC2: &str = "169.254.169.200";
const IMDS: &str = "169.254.169.254";

#[test]
fn a_node_is_cut_from_what_the_lab_serves() {
    let lab = start(&topology(SMALL));
    let (a, b) = (place("a"), place("b"));
    let reaches = |from: &Place, host: &str| answer(&lab, from, host, 5000).0 > 0;
    assert!(reaches(&a, EC2) && reaches(&a, IMDS));

    let cut = add(&lab, "cut node=a from=ec2");
    assert_eq!(answer(&lab, &a, EC2, 300).0, 0);
    assert!(reaches(&a, IMDS) && reaches(&b, EC2), "nothing else is cut");
    assert!(lab.ping(&a, "10.20.16.10".parse().unwrap(), &PingOptions::count(1)).unwrap().all_answered());
    assert!(report(&lab, cut).hits.unwrap() > 0);
    // A second cut does not forget what the first has counted.
    let hits = report(&lab, cut).hits;
    let other = add(&lab, "cut node=b from=imds how=reject");
    assert!(report(&lab, cut).hits >= hits);
    let begun = Instant::now();
    let (status, error) = answer(&lab, &b, IMDS, 20_000);
    assert!(status == 0 && error.contains("refused") && begun.elapsed() < Duration::from_secs(20), "{error}");
    lift(&lab, other);
    assert!(reaches(&b, IMDS) && answer(&lab, &a, EC2, 300).0 == 0);
    assert!(lift(&lab, cut).hits >= hits);
    assert!(reaches(&a, EC2));

    // An ENI that comes later is cut too, and so is everything else.
    let eni = create(&lab, "private-a", 0).network_interface_id;
    let all = add(&lab, "cut node=a");
    call(&lab, "b", &attachment(&lab, &eni, "a")).unwrap();
    wait_until(|| links(&lab, "a"), |links| links.contains(&"eth1".to_owned()));
    let link = lab.status().unwrap().fabric.ports.iter().find(|port| port.eni == eni).unwrap().link.clone();
    let table = if has("nft") {
        lab.run(&Place::Fabric, &["nft", "list", "table", "ip", "vpc-lab-faults"]).unwrap().stdout
    } else {
        link.clone()
    };
    assert!(table.contains(&link), "{table}");
    for host in [EC2, IMDS] {
        assert_eq!(answer(&lab, &a, host, 300).0, 0);
    }
    lift(&lab, all);
    assert!(reaches(&a, EC2) && reaches(&a, IMDS));
    if has("nft") {
        let left = lab.run(&Place::Fabric, &["nft", "list", "tables"]).unwrap().stdout;
        assert!(!left.contains("vpc-lab-faults"), "{left}");
    }
    assert!(refused(&lab, "cut node=zz").contains("there are: a, a2, b, p"));
}

#[test]
fn faults_end_by_themselves_all_together_or_with_their_node() {
    let lab = start(&topology(SMALL));
    let short = lab.fault(&fault("cut node=a from=ec2"), Some(Duration::from_millis(150))).unwrap();
    assert_eq!(answer(&lab, &place("a"), EC2, 50).0, 0);
    wait_until(|| report(&lab, short.id).state, |state| *state == FaultState::Lifted);
    assert!(answer(&lab, &place("a"), EC2, 5000).0 > 0);
    assert!(lab.fault(&fault("kill node=a"), Some(Duration::ZERO)).unwrap_err().to_string().contains("happens once"));

    let [one, two, three] = ["cut node=a", "deny action=Describe*", "cut node=b from=imds"].map(|text| add(&lab, text));
    assert!(one < two && two < three, "one row of numbers");
    lab.node_remove("b").unwrap();
    let gone = report(&lab, three);
    assert_eq!((gone.state, gone.note.as_deref()), (FaultState::Lifted, Some("its node is gone")));
    assert_eq!(lab.lift_all().unwrap().iter().map(|fault| fault.id).collect::<Vec<_>>(), [one, two]);
    assert!(lab.faults().unwrap().iter().all(|fault| fault.state == FaultState::Lifted));
    assert!(lab.lift(one).unwrap_err().to_string().contains("those that hold: none"));
}

#[test]
fn kernel_objects_are_flushed_and_changed() {
    const TEST: &str = "kernel_objects_are_flushed_and_changed";
    if !has("ip") || !has("nft") {
        return skip(TEST, "there is no ip(8) or no nft(8)");
    }
    let lab = start(&topology(SMALL));
    let a = |script: &str| sh(&lab, "a", script);
    let once = |text: &str| report(&lab, add(&lab, text)).hits.unwrap();
    a("ip link add pod0 type veth peer name pod1
       ip link set pod0 up
       ip route add 10.9.9.9/32 dev pod0 && ip route add 10.9.9.0/24 via 10.20.8.1 dev eth0 table 77
       ip rule add from 10.9.9.9 lookup 77 pref 512 && ip rule add to 10.9.9.9 lookup main pref 512
       ip neigh add 10.9.9.9 lladdr 02:00:00:00:00:09 dev pod0
       nft add table inet daemons; nft add table ip nat; nft add table ip own");

    // One rule of a preference, then the rest.
    assert_eq!(once("rule-delete node=a priority=512 from=10.9.9.9"), 1);
    assert_eq!(a("ip rule list pref 512").lines().count(), 1);
    assert_eq!(once("rule-delete node=a priority=512"), 1);
    assert_eq!(a("ip rule list pref 512"), "");
    assert!(refused(&lab, "rule-delete node=a priority=512").contains("there are rules of: 0, 32766, 32767"));

    // A route that leads into nothing, by a wrong link, and not at all.
    once("route-replace node=a to=10.9.9.0/24 table=77");
    assert!(a("ip route show table 77").starts_with("blackhole 10.9.9.0/24"));
    once("route-replace node=a to=10.9.9.9 link=eth0 via=10.20.8.1");
    assert!(a("ip route show 10.9.9.9").starts_with("10.9.9.9 via 10.20.8.1 dev eth0"));
    assert_eq!(once("route-delete node=a to=10.9.9.9"), 1);
    assert_eq!(a("ip route show 10.9.9.9"), "");
    assert!(refused(&lab, "route-delete node=a to=10.9.9.9").contains("it has routes to: 0.0.0.0/0"));

    // What iptables keeps in nf_tables, and everything else there.
    assert_eq!(once("kernel-flush node=a what=iptables"), 1);
    assert!(!a("nft list tables").contains("nat"));
    assert_eq!(once("kernel-flush node=a what=nft"), 2);
    assert_eq!(a("nft list tables"), "");

    assert!(once("kernel-flush node=a what=neighbours") >= 1);
    assert!(!a("ip neigh show 10.9.9.9").contains("02:00:00:00:00:09"));
    a("ip rule add from 10.9.9.9 lookup 77 pref 512");
    assert_eq!(once("kernel-flush node=a what=rules"), 1);
    assert_eq!(a("ip rule").lines().count(), 3);
    assert!(lab.ping(&place("a"), "10.20.16.10".parse().unwrap(), &PingOptions::count(1)).unwrap().all_answered());
    assert!(once("kernel-flush node=a what=routes") >= 2);
    assert_eq!(a("ip route show default; ip route show table 77"), "");
    assert!(unreachable(&lab, "a", "10.20.16.10"));
    assert_eq!(once("kernel-flush node=a what=pod-links"), 1 + 1, "both ends are in the node");
    assert_eq!(a("ip -o link").lines().count(), 2, "lo and eth0");
    assert_eq!(once("kernel-flush node=a what=addresses"), 1);
    assert_eq!(a("ip -4 -o address show dev eth0"), "");
}

#[test]
fn links_go_down_and_switches_turn_until_they_are_lifted() {
    let lab = start(&topology(SMALL));
    let up = |lab: &Lab| sh(lab, "a", "cat /sys/class/net/eth0/flags").trim().ends_with('3');
    assert!(up(&lab));
    let down = add(&lab, "link-down node=a link=eth0");
    assert!(!up(&lab));
    assert!(unreachable(&lab, "b", "10.20.8.10"));
    lift(&lab, down);
    assert!(up(&lab));
    // Its DHCP client has put back what the kernel forgot with the carrier.
    assert!(!unreachable(&lab, "b", "10.20.8.10"));
    assert!(refused(&lab, "link-down node=a link=eth9").contains("eth9"));
    // What two faults hold ends with the second, whichever that is.
    let both = [add(&lab, "link-down node=a link=eth0"), add(&lab, "link-down node=a link=eth0")];
    lift(&lab, both[1]);
    assert!(!up(&lab));
    lift(&lab, both[0]);
    assert!(up(&lab) && !unreachable(&lab, "b", "10.20.8.10"));

    let switch = || sh(&lab, "a", "cat /proc/sys/net/ipv4/ip_forward").trim().to_owned();
    assert_eq!(switch(), "1");
    let turned = add(&lab, "sysctl node=a key=net.ipv4.ip_forward value=0");
    assert_eq!(switch(), "0");
    lift(&lab, turned);
    assert_eq!(switch(), "1");
    let turn = |value: u8| add(&lab, &format!("sysctl node=a key=net.ipv4.ip_forward value={value}"));
    for first in [0, 1] {
        let both = [turn(0), turn(0)];
        lift(&lab, both[first]);
        assert_eq!(switch(), "0");
        lift(&lab, both[1 - first]);
        assert_eq!(switch(), "1");
    }
    assert!(refused(&lab, "sysctl node=a key=kernel.panic value=1").contains("below net"));
    assert!(refused(&lab, "sysctl node=a key=net.no.such value=1").contains("no"));
    // One that lost its power meanwhile has a kernel as new.
    let turned = add(&lab, "sysctl node=a key=net.ipv4.ip_forward value=0");
    add(&lab, "reboot node=a");
    assert_eq!(switch(), "1");
    lift(&lab, turned);
    assert_eq!(switch(), "1");
}

#[test]
fn the_kubernetes_api_is_away_for_all_or_cut_from_one() {
    if !has("curl") {
        return skip("the_kubernetes_api_is_away_for_all_or_cut_from_one", "there is no curl");
    }
    let lab = start(&topology(SMALL));
    // Any answer will do: who has no token is told so.
    let ask = "curl -sk --max-time 2 https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/version";
    let answers = |node: &str| lab.run(&place(node), &["sh", "-c", ask]).unwrap().code == 0;
    assert!(answers("a") && answers("b"));
    let away = add(&lab, "api-away");
    assert!(!answers("a") && !answers("b"));
    assert!(answer(&lab, &place("a"), EC2, 5000).0 > 0);
    lift(&lab, away);
    assert!(answers("a") && answers("b"));
    let cut = add(&lab, "cut node=a from=kube how=reject");
    assert!(!answers("a") && answers("b"));
    assert!(lift(&lab, cut).hits.unwrap() > 0);
    assert!(answers("a"));
}

#[test]
fn a_node_is_cut_from_the_resolver() {
    let lab = start(&topology(SMALL));
    let asks = "exec 3<>/dev/tcp/169.254.169.253/53";
    let reaches = |node: &str| lab.run(&place(node), &["timeout", "1", "bash", "-c", asks]).unwrap().code == 0;
    assert!(reaches("a"));
    let cut = add(&lab, "cut node=a from=dns");
    assert!(!reaches("a") && reaches("b"));
    assert!(lift(&lab, cut).hits.unwrap() > 0);
    assert!(reaches("a"));
}
