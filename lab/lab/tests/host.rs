//! The lab as programs of the host see it, and what its nodes do not get from the host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Command, Output};
use std::time::Duration;

use common::ec2::wait_until;
use common::nobody::skip;
use common::{SMALL, options, start, topology, unique, vpc_lab, with_toys};
use vpc_lab::control::Place;
use vpc_lab::tools::{HttpOptions, PingOptions};
use vpc_lab::topology::{Restart, TopologyFile};
use vpc_lab::{Lab, StartOptions};

/// What somebody gets who pastes the lab's environment into a shell and goes on there.
fn in_a_shell(lab: &Lab, script: &str) -> Output {
    let line = format!("eval \"$('{}' env --lab '{}')\"\n{script}", vpc_lab().display(), lab.place().name);
    let mut command = Command::new("sh");
    // Another account's session and a proxy, as people have them.
    command.env("AWS_SESSION_TOKEN", "another account's").env("HTTP_PROXY", "http://127.0.0.1:1").args(["-c", &line]);
    command.output().unwrap()
}

#[test]
fn boto3_on_the_host_sees_the_lab_s_instances() {
    if !Command::new("python3").args(["-c", "import boto3"]).output().is_ok_and(|run| run.status.success()) {
        return skip("boto3_on_the_host_sees_the_lab_s_instances", "python3 has no boto3");
    }
    let lab = start(&topology(SMALL));
    let script = r#"python3 -c '
import boto3
for reservation in boto3.client("ec2").describe_instances()["Reservations"]:
    for instance in reservation["Instances"]:
        print(instance["InstanceId"], instance["PrivateIpAddress"])
'"#;
    let output = in_a_shell(&lab, script);
    let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let instances = lab.status().unwrap().nodes;
    assert_eq!((said.lines().count(), instances.len()), (4, 4), "{said}{errors}");
    for node in instances {
        assert!(said.contains(&format!("{} {}\n", node.instance, node.enis[0].primary)), "{said}");
    }
}

#[test]
fn a_host_without_a_loopback_has_a_lab_all_the_same() {
    if !Command::new("unshare")
        .args(["--user", "--net", "--map-current-user", "true"])
        .status()
        .is_ok_and(|run| run.success())
    {
        return skip(
            "a_host_without_a_loopback_has_a_lab_all_the_same",
            "there is no unshare(1) that can --map-current-user",
        );
    }
    let name = unique("dark");
    let run = |arguments: &[&str]| {
        // In a network of its own, a process finds its loopback down.
        let mut command = Command::new("unshare");
        command.args(["--user", "--net", "--map-current-user"]).arg(vpc_lab()).args(["--lab", &name]).args(arguments);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.toml");
    std::fs::write(&file, SMALL).unwrap();
    let (up, picture, errors) = run(&["up", file.to_str().unwrap()]);
    let lab = Lab::open(&name).unwrap();
    let status = lab.status().unwrap();
    let environment = lab.host_environment();
    let ping = lab.run(&Place::Node("a".to_owned()), &["vpc-lab", "tool", "ping", "10.20.16.10"]);
    lab.down().unwrap();
    assert!(up, "{errors}");
    assert!(picture.contains("can not reach the lab"), "{picture}");
    assert!(status.host.ec2.is_none());
    assert!(environment.unwrap_err().to_string().contains("127.0.0.1"));
    assert!(ping.unwrap().stdout.contains("\"error\": null"));
}

#[test]
fn nodes_get_nothing_from_the_host_s_environment() {
    let name = unique("clean");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.toml");
    std::fs::write(&file, SMALL).unwrap();
    let mut up = Command::new(vpc_lab());
    up.args(["up", "--lab", &name]).arg(&file);
    for variable in ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "AWS_PROFILE", "LD_PRELOAD_OF_SOMEBODY"] {
        up.env(variable, "http://127.0.0.1:1");
    }
    assert!(up.output().unwrap().status.success());
    let lab = Lab::open(&name).unwrap();
    let seen = ["a", "world"].map(|place| lab.run(&place.parse().unwrap(), &["env"]).unwrap().stdout);
    let first = lab.run(&"a".parse().unwrap(), &["cat", "/proc/1/environ"]).unwrap().stdout;
    lab.down().unwrap();
    let names = |text: &str| text.lines().filter_map(|l| Some(l.split_once('=')?.0.to_owned())).collect::<Vec<_>>();
    let cluster = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "MY_NODE_NAME", "MY_POD_NAME"];
    let own: Vec<_> = names(&seen[0]).into_iter().filter(|name| !cluster.contains(&name.as_str())).collect();
    assert_eq!(own, ["AWS_ENDPOINT_URL_EC2", "HOME", "HOSTNAME", "PATH"]);
    assert_eq!(names(&seen[1]), ["HOME", "PATH"]);
    assert_eq!(first, "");
}

#[test]
fn a_removed_node_takes_everything_with_it() {
    let (lab, _) = Lab::start(&topology(SMALL), &options()).unwrap();
    let b = Place::Node("b".to_owned());
    lab.run(&b, &["sh", "-c", "touch /var/lib/mine; sleep 4242 >/dev/null 2>&1 &"]).unwrap();
    lab.node_remove("b").unwrap();
    let status = lab.status().unwrap();
    assert_eq!(status.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "a2", "p"]);
    assert_eq!(status.fabric.ports.len(), 3);
    let refused = lab.run(&b, &["true"]).unwrap_err().to_string();
    assert_eq!(refused, "there is no node `b`; there are: a, a2, p");
    let rest = lab.run(&Place::Fabric, &["sh", "-c", "ps -e -o args | grep '[s]leep 4242'"]).unwrap();
    assert_eq!(rest.stdout, "");
    let disk = lab.place().mount_point().join("disks");
    let disks = lab.run(&Place::Fabric, &["ls", disk.to_str().unwrap()]).unwrap().stdout;
    assert_eq!(disks.split_whitespace().collect::<Vec<_>>(), ["a", "a2", "p"]);
}

#[test]
fn a_node_is_added_while_the_lab_runs() {
    let lab = start(&with_toys());
    assert_eq!(lab.node_add(Some("late"), "private-b", Some("t3.small")).unwrap(), "late");
    let status = lab.status().unwrap();
    let late = status.nodes.last().unwrap();
    assert_eq!((late.name.as_str(), late.instance_type.as_str(), late.on), ("late", "t3.small", true));
    assert_eq!(late.zone, "ap-northeast-2b");
    let (from, to) = (Place::Node("a".to_owned()), late.enis[0].primary);
    assert!(lab.ping(&from, to, &PingOptions::count(1)).unwrap().all_answered());
    // It has what the topology gives to all nodes, EC2's metadata and its own name.
    let inside = Place::Node("late".to_owned());
    assert_eq!(
        lab.run(&inside, &["sh", "-c", "hostname; ls /opt/cni/bin/toy"]).unwrap().stdout,
        "late\n/opt/cni/bin/toy\n"
    );
    let pod = "default/web-0".parse().unwrap();
    lab.pod_add("late", &pod, 1).unwrap();
    assert!(lab.http(&inside, "http://169.254.169.254/latest/api/token", &token()).unwrap().status == 200);
    let own = lab.http(&inside, "http://169.254.169.254/latest/api/token", &token()).unwrap().body;
    let with_token =
        HttpOptions { headers: vec![("x-aws-ec2-metadata-token".to_owned(), own)], ..HttpOptions::default() };
    let role =
        lab.http(&inside, "http://169.254.169.254/latest/meta-data/iam/security-credentials/", &with_token).unwrap();
    assert_eq!(role.body, "node-role", "its programs find credentials: {role:?}");
    // Off and on it keeps its disk, and its pods come back.
    lab.power("late", false).unwrap();
    lab.power("late", true).unwrap();
    assert!(lab.run(&inside, &["ls", "/var/lib/toy"]).unwrap().stdout.lines().count() >= 4);
    assert_eq!(lab.status().unwrap().nodes.last().unwrap().pods.len(), 1);
    lab.node_remove("late").unwrap();
    assert_eq!(lab.status().unwrap().nodes.len(), 4);
    // The name is free again, and what had it before has left nothing.
    lab.node_add(Some("late"), "private-a", None).unwrap();
    assert_eq!(lab.run(&inside, &["sh", "-c", "ls /var/lib/toy 2>/dev/null | wc -l"]).unwrap().stdout.trim(), "0");
    for (name, subnet, instance_type, wanted) in [
        ("late", "private-a", None, "already"),
        ("world", "private-a", None, "something else"),
        ("x", "nowhere", None, "there are: private-a, private-b, public"),
        ("x", "private-a", Some("m5.gigantic"), "m5.gigantic"),
    ] {
        let error = lab.node_add(Some(name), subnet, instance_type).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

fn token() -> HttpOptions {
    let headers = vec![("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), "60".to_owned())];
    HttpOptions { method: "PUT".to_owned(), headers, timeout: Duration::from_secs(5) }
}

#[test]
fn boto3_launches_reboots_and_terminates_nodes() {
    if !Command::new("python3").args(["-c", "import boto3"]).output().is_ok_and(|run| run.status.success()) {
        return skip("boto3_launches_reboots_and_terminates_nodes", "python3 has no boto3");
    }
    let lab = start(&with_toys());
    let python = |script: &str| {
        let script = format!("python3 -c 'import boto3\nec2 = boto3.client(\"ec2\")\n{script}'");
        let output = in_a_shell(&lab, &script);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let subnet: vpc_model::SubnetId = lab_cloud::id_for("private-a");
    let names =
        "TagSpecifications=[{\"ResourceType\": \"instance\", \"Tags\": [{\"Key\": \"Name\", \"Value\": \"a\"}]}]";
    let ids = python(&format!(
        "for i in ec2.run_instances(ImageId=\"ami-0123456789abcdef0\", MinCount=2, MaxCount=2, InstanceType=\"m5.large\", \
         SubnetId=\"{subnet}\", {names})[\"Instances\"]: print(i[\"InstanceId\"])"
    ));
    let ids: Vec<_> = ids.lines().map(str::to_owned).collect();
    assert_eq!(ids.len(), 2);
    // There is a node a already: they go by their ids.
    let nodes = || lab.status().unwrap().nodes;
    let on =
        |nodes: &Vec<vpc_lab::control::NodeStatus>| nodes.iter().filter(|n| n.on && ids.contains(&n.name)).count() == 2;
    wait_until(nodes, on);
    let pod = "default/web-0".parse().unwrap();
    lab.pod_add(&ids[0], &pod, 1).unwrap();
    let place = Place::Node(ids[0].clone());
    let boot =
        || lab.run(&place, &["sh", "-c", "cut -d\" \" -f22 /proc/1/stat"]).map(|run| run.stdout).unwrap_or_default();
    let first = boot();
    python(&format!("ec2.reboot_instances(InstanceIds=[\"{}\"])", ids[0]));
    wait_until(boot, |now| !now.is_empty() && *now != first);
    let pods = || nodes().iter().find(|node| node.name == ids[0]).map(|node| node.pods.clone()).unwrap();
    wait_until(pods, |pods| pods.len() == 1 && pods[0].phase == vpc_lab::kubelet::Phase::Running);
    python(&format!("ec2.terminate_instances(InstanceIds={ids:?})"));
    wait_until(nodes, |nodes| nodes.len() == 4);
}

#[test]
fn a_file_of_the_topology_stands_in_for_a_program_of_the_lab() {
    let mut file = TopologyFile::parse(SMALL).unwrap();
    file.nodes.truncate(1);
    file.nodes[0].files = vec![vpc_lab::topology::FileFile {
        path: "/app/vpc-lab".into(),
        source: None,
        content: Some("#!/bin/sh\necho another\n".to_owned()),
        mode: Some(0o755),
    }];
    let lab = start(&file.resolve().unwrap());
    assert_eq!(lab.run(&Place::Node("a".to_owned()), &["/app/vpc-lab"]).unwrap().stdout, "another\n");
}

#[test]
fn what_a_daemon_has_started_ends_with_it_as_in_a_container() {
    use vpc_lab::control::DaemonAction;
    let mut file = TopologyFile::parse(SMALL).unwrap();
    file.nodes.truncate(1);
    // The shell does not pass SIGTERM on to its child.
    let script = "sleep 4242 & echo $! > /var/lib/child; echo '{}' > /etc/cni/net.d/10-x.conf; wait";
    file.node_defaults.daemon = Some(vpc_lab::topology::CommandFile {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: None,
    });
    let lab = Lab::start(&file.resolve().unwrap(), &StartOptions { wait_for_daemons: true, ..options() }).unwrap().0;
    let a = Place::Node("a".to_owned());
    let lives = || lab.run(&a, &["sh", "-c", "kill -0 $(cat /var/lib/child)"]).unwrap().code == 0;
    assert!(lives());
    lab.daemon("a", DaemonAction::Stop).unwrap();
    // It is buried by the first process of its node.
    wait_until(lives, |lives| !lives);
}

/// A daemon that writes its network configuration and waits.
const PATIENT: &str = "echo '{}' > /etc/cni/net.d/10-x.conf; echo started >> /var/lib/starts; exec sleep 4242";

fn with_daemon(restart: Restart) -> Lab {
    let mut file = TopologyFile::parse(SMALL).unwrap();
    file.nodes.truncate(1);
    file.node_defaults.daemon = Some(vpc_lab::topology::CommandFile {
        command: ["/bin/sh", "-c", PATIENT].map(str::to_owned).to_vec(),
        cwd: None,
    });
    file.node_defaults.restart = Some(restart);
    Lab::start(&file.resolve().unwrap(), &StartOptions { wait_for_daemons: true, ..options() }).unwrap().0
}

#[test]
fn a_daemon_that_ended_starts_again_if_the_topology_says_so() {
    use vpc_lab::control::DaemonAction;
    let lab = with_daemon(Restart::Always);
    let daemon = || lab.status().unwrap().nodes[0].daemon.clone().unwrap();
    let first = daemon().pid.unwrap();
    lab.daemon("a", DaemonAction::Kill).unwrap();
    let again = wait_until(daemon, |daemon| daemon.pid.is_some_and(|pid| pid != first));
    assert_eq!(again.starts, 2);
    // The second time kubelet waits; who does not want to, starts it.
    lab.daemon("a", DaemonAction::Kill).unwrap();
    assert_eq!(daemon().pid, None);
    lab.daemon("a", DaemonAction::Start).unwrap();
    assert_eq!(daemon().starts, 3);
    // Stopped is stopped, and so is a node without power.
    lab.daemon("a", DaemonAction::Stop).unwrap();
    lab.power("a", false).unwrap();
    lab.power("a", true).unwrap();
    assert_eq!(daemon().starts, 4);
    let said = lab.run(&Place::Node("a".to_owned()), &["cat", "/var/lib/starts"]).unwrap().stdout;
    assert_eq!(said.lines().count(), 4, "{said}");
}

#[test]
fn a_daemon_that_ended_stays_so_if_nothing_is_said() {
    use vpc_lab::control::DaemonAction;
    let lab = with_daemon(Restart::Never);
    lab.daemon("a", DaemonAction::Kill).unwrap();
    let daemon = lab.status().unwrap().nodes[0].daemon.clone().unwrap();
    assert_eq!((daemon.pid, daemon.starts), (None, 1));
    assert!(daemon.ended.unwrap().contains("signal: 9"));
}
