//! The binary as whoever starts it meets it: arguments, bad settings, a second instance.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The daemon with these variables and no others.
fn daemon(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aws-k8s-agent"));
    command.args(arguments).env_clear().envs(env.iter().copied());
    command.output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn it_says_its_version_and_its_arguments() {
    let version = daemon(&["--version"], &[]);
    assert!(version.status.success());
    assert_eq!(stdout(&version), format!("aws-k8s-agent {}\n", env!("CARGO_PKG_VERSION")));
    let help = daemon(&["--help"], &[]);
    assert!(help.status.success());
    for word in ["--check-config", "--list-settings", "--socket", "/var/run/aws-node/ipamd.sock"] {
        assert!(stdout(&help).contains(word), "{word}: {}", stdout(&help));
    }
    let wrong = daemon(&["--chekc-config"], &[]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("--check-config"), "{}", stderr(&wrong));
}

#[test]
fn a_check_of_good_settings_succeeds_and_lists_them() {
    let output = daemon(&["--check-config"], &[("ENABLE_IPv4", "true"), ("WARM_ENI_TARGET", "0")]);
    assert!(output.status.success(), "{}", stdout(&output));
    let text = stdout(&output);
    let line = text.lines().find(|line| line.starts_with("WARM_ENI_TARGET")).unwrap();
    assert!(line.ends_with("  0  (set)"), "{line}");
    assert!(text.lines().any(|line| line.starts_with("VPC_CNI_ADD_WAIT") && line.ends_with("15  (default)")), "{text}");
}

#[test]
fn a_check_of_a_value_that_falls_back_fails_and_names_it() {
    let output = daemon(&["--check-config"], &[("ENABLE_IPv4", "true"), ("WARM_ENI_TARGET", "lots")]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(
        text.contains("default taken: WARM_ENI_TARGET=`lots`: expected an integer of 0 or more; using `1`"),
        "{text}"
    );
}

#[test]
fn every_refused_setting_is_named_at_once_and_nothing_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log/ipamd.log");
    let socket = folder.path().join("run/ipamd.sock");
    let env = [
        ("ENABLE_IPv4", "true"),
        ("ENABLE_PREFIX_DELEGATION", "true"),
        ("ENABLE_POD_ENI", "true"),
        ("VPC_CNI_HOST_LAYOUT", "flat"),
        ("AWS_VPC_ENI_MTU", "12000"),
        ("AWS_VPC_K8S_CNI_LOG_FILE", log.to_str().unwrap()),
    ];
    let output = daemon(&["--socket", socket.to_str().unwrap()], &env);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    for want in [
        "ENABLE_PREFIX_DELEGATION=`true`: expected one of WARM_PREFIX_TARGET",
        "ENABLE_POD_ENI=`true`: security groups for pods is not in this release",
        "VPC_CNI_HOST_LAYOUT=`flat`: expected `classic`",
        "AWS_VPC_ENI_MTU=`12000`: expected an integer from 576",
    ] {
        assert!(said.contains(want), "{want}: {said}");
        assert!(std::fs::read_to_string(&log).unwrap().contains(want), "in the log too: {want}");
    }
    assert!(!folder.path().join("run").exists());
}

#[test]
fn an_unwritable_log_file_is_said_on_standard_error() {
    let env = [("ENABLE_IPv4", "true"), ("POD_MTU", "1"), ("AWS_VPC_K8S_CNI_LOG_FILE", "/proc/nowhere/ipamd.log")];
    let output = daemon(&[], &env);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the log file can not be written, logging to stderr"), "{}", stderr(&output));
}

#[test]
fn a_second_daemon_is_refused_before_it_touches_anything() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("ipamd.sock");
    let _first = UnixListener::bind(&socket).unwrap();
    let conf_dir = folder.path().join("net.d");
    let env = [
        ("ENABLE_IPv4", "true"),
        ("AWS_VPC_K8S_CNI_LOG_FILE", "stderr"),
        ("HOST_CNI_CONFDIR_PATH", conf_dir.to_str().unwrap()),
        // Nobody answers there: had it not been refused, it would have said so.
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9"),
    ];
    let output = daemon(&["--socket", socket.to_str().unwrap()], &env);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("another daemon listens on") && said.contains("stop it first"), "{said}");
    assert!(!conf_dir.exists() && socket.exists());
}

/// Settings of a daemon that gets as far as the metadata service, and logs to standard error. A checkpoint stands there, so that
/// it need not look at the host, for which it may lack the right here.
fn up_to_metadata(folder: &std::path::Path) -> Vec<(&'static str, String)> {
    let checkpoint = folder.join("ipam.json");
    std::fs::write(&checkpoint, "{\"version\":\"vpc-cni-ipam/1\",\"allocations\":[]}\n").unwrap();
    vec![
        ("ENABLE_IPv4", "true".to_owned()),
        ("AWS_VPC_K8S_CNI_LOG_FILE", "stderr".to_owned()),
        ("AWS_VPC_K8S_CNI_BACKING_STORE", checkpoint.to_str().unwrap().to_owned()),
        ("HOST_CNI_CONFDIR_PATH", folder.join("net.d").to_str().unwrap().to_owned()),
    ]
}

#[test]
fn without_metadata_there_is_no_node_and_no_conflist() {
    let folder = tempfile::tempdir().unwrap();
    let mut env = up_to_metadata(folder.path());
    env.push(("AWS_EC2_METADATA_DISABLED", "true".to_owned()));
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = daemon(&["--socket", folder.path().join("ipamd.sock").to_str().unwrap()], &env);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("the instance metadata") && said.contains("AWS_EC2_METADATA_DISABLED; unset it"), "{said}");
    assert!(!folder.path().join("net.d").exists());
}

#[test]
fn a_daemon_that_still_waits_for_its_metadata_ends_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aws-k8s-agent"));
    command.arg("--socket").arg(folder.path().join("ipamd.sock")).env_clear().envs(up_to_metadata(folder.path()));
    // Port 9 discards, or nobody is there.
    command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9").stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("asked again")));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let asked = Instant::now();
    assert!(child.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_table_for_the_documentation_names_every_setting() {
    let output = daemon(&["--list-settings"], &[]);
    assert!(output.status.success());
    let text = stdout(&output);
    assert!(text.contains("| `VPC_CNI_EC2` | `full` |"), "{text}");
    assert!(text.starts_with("| Variable |") && text.contains("| `WARM_ENI_TARGET` | `1` |"), "{text}");
}
