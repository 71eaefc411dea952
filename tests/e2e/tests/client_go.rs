//! Programs as they are commonly written with client-go, against the lab's Kubernetes API. What each does stands in
//! `tests/strangers/kube/clients`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::process::Command;

use e2e::kube::{Api, said};
use e2e::{skip, strangers};
use lab_kube::{DeleteOptions, KubeCallFilter, KubeSettings, Resource, StoreSettings};
use serde_json::json;

fn api(test: &str) -> Option<Api> {
    let tools = strangers::go_tools("kube").map_err(|reason| skip(test, &reason)).ok()?;
    Some(Api::start(tools, KubeSettings { store: StoreSettings::default(), ..KubeSettings::default() }))
}

/// A play as a command, with an administrator's kubeconfig.
fn play(api: &Api, name: &str) -> Command {
    let mut command = api.command("clients");
    command.arg(name).env("KUBECONFIG", api.folder.path().join("kubeconfig"));
    command
}

fn plays(api: &Api, name: &str) {
    let said = said(play(api, name).spawn().unwrap());
    assert!(said.ok, "{name}: {}{}", said.out, said.err);
}

#[test]
fn informers_follow_pods_of_a_node_nodes_and_custom_resources() {
    let Some(api) = api("informers_follow_pods_of_a_node_nodes_and_custom_resources") else { return };
    plays(&api, "informers");
    let watches =
        KubeCallFilter { verb: Some("watch".into()), resource: Some("pods".into()), ..KubeCallFilter::default() };
    let calls = api.handle.calls(&watches);
    assert!(calls.iter().all(|call| call.path.contains("fieldSelector=spec.nodeName%3Dn1")), "{calls:?}");
}

#[test]
fn a_watch_alone_gives_the_state_and_pages_are_of_one_version() {
    let Some(api) = api("a_watch_alone_gives_the_state_and_pages_are_of_one_version") else { return };
    plays(&api, "watchlist");
}

#[test]
fn a_reflector_that_missed_too_much_lists_again() {
    let Some(api) = api("a_reflector_that_missed_too_much_lists_again") else { return };
    let map = |name: &str| json!({"metadata": {"name": name}});
    api.handle.create(&Resource::CONFIG_MAPS, "default", map("old")).unwrap();
    let mut child = play(&api, "expiry").spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "synced\n");
    api.handle.set_away(true);
    api.handle.delete(&Resource::CONFIG_MAPS, "default", "old", &DeleteOptions::default()).unwrap();
    api.handle.create(&Resource::CONFIG_MAPS, "default", map("missed")).unwrap();
    api.handle.expire_versions();
    api.handle.set_away(false);
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let said = said(child);
    assert!(said.ok, "{}{}", said.out, said.err);
}

#[test]
fn writers_meet_conflicts_locks_and_preconditions() {
    let Some(api) = api("writers_meet_conflicts_locks_and_preconditions") else { return };
    plays(&api, "writes");
}

#[test]
fn a_leader_is_elected_by_a_lease() {
    let Some(api) = api("a_leader_is_elected_by_a_lease") else { return };
    plays(&api, "leader");
}

#[test]
fn clients_that_prefer_protobuf_get_along() {
    let Some(api) = api("clients_that_prefer_protobuf_get_along") else { return };
    plays(&api, "protobuf");
}

/// The files lie where they lie in a pod: in a mount namespace of the program's own.
#[test]
fn a_pods_files_are_all_the_configuration_there_is() {
    const TEST: &str = "a_pods_files_are_all_the_configuration_there_is";
    let Some(api) = api(TEST) else { return };
    let private = Command::new("unshare").args(["-Urm", "mount", "-t", "tmpfs", "none", "/run"]).output();
    if !private.is_ok_and(|output| output.status.success()) {
        return skip(TEST, "`unshare -Urm` cannot mount: no user namespaces, or no util-linux");
    }
    let files = api.in_cluster("kube-system", "aws-node");
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p {dir} && cp \"$FILES\"/* {dir} && exec \"$PROGRAM\" incluster",
        dir = lab_kube::SERVICE_ACCOUNT_DIR
    );
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", &script]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("FILES", files).env("PROGRAM", api.command("clients").get_program());
    command.env("KUBERNETES_SERVICE_HOST", api.address.ip().to_string());
    command.env("KUBERNETES_SERVICE_PORT", api.address.port().to_string());
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let filter = KubeCallFilter { resource: Some("events.events.k8s.io".into()), ..KubeCallFilter::default() };
    let calls = api.handle.calls(&filter);
    let user = Some("system:serviceaccount:kube-system:aws-node".to_owned());
    assert!(!calls.is_empty() && calls.iter().all(|call| call.user == user), "{calls:?}");
}
