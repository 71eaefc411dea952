//! The log file under many processes at once, while others put it aside, empty and copy it: every line is whole, and none is lost that
//! nobody threw away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

const PROCESSES: usize = 50;
/// Calls each of them makes, one after the other.
const CALLS: usize = 8;
/// Lines of one call that fails for want of a namespace: it came, its configuration, its end.
const LINES: usize = 3;

/// One call that speaks to nobody: its namespace is not there.
fn call(log: &Path, level: &str, pod: &str) {
    let input = json!({
        "cniVersion": "0.4.0", "name": "aws-cni", "pluginLogFile": log, "pluginLogLevel": level,
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"token": "hunter2"}}, "password": "hunter2",
    });
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};TOKEN=hunter2");
    let mut child = Command::new(env!("CARGO_BIN_EXE_aws-cni"))
        .env_clear()
        .envs([("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c-1"), ("CNI_NETNS", "/nowhere"), ("CNI_IFNAME", "eth0")])
        .envs([("CNI_PATH", "/x"), ("CNI_ARGS", &args)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(1), &b""[..]), "{output:?}");
}

/// All processes at once, while `meanwhile` is repeated.
fn storm(log: &Path, mut meanwhile: impl FnMut(usize) + Send) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        scope.spawn(move || {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                meanwhile(round);
                round += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let processes: Vec<_> = (0..PROCESSES)
            .map(|process| {
                // Lines of very different lengths, some longer than a page.
                let pod = format!("pod-{process}-{}", "x".repeat(process * 4));
                scope.spawn(move || (0..CALLS).for_each(|_| call(log, "debug", &pod)))
            })
            .collect();
        let ended: Vec<_> = processes.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        assert!(ended.into_iter().all(|process| process.is_ok()));
    });
}

/// The lines of all files of the folder, each one whole object.
fn lines(folder: &Path) -> Vec<Value> {
    let files = fs::read_dir(folder).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let text = files.collect::<Vec<_>>().concat();
    text.lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: `{line}`"));
            assert!(line["level"].is_string() && line["ts"].is_string() && line["msg"].is_string(), "{line}");
            assert_eq!((&line["caller"], &line["verb"]), (&json!("aws-cni"), &json!("ADD")));
            line
        })
        .collect()
}

#[test]
fn no_line_is_torn_or_lost_while_the_file_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("plugin.log");
    storm(&log, |round| {
        // It may not be there yet.
        let _ = fs::rename(&log, folder.path().join(format!("plugin.log.{round}")));
    });
    assert_eq!(lines(folder.path()).len(), PROCESSES * CALLS * LINES);
    assert!(fs::read_dir(folder.path()).unwrap().count() > 3);
}

/// As `copytruncate` of logrotate: what is written between the two steps is lost to everybody, but nothing is torn, and no file has a
/// hole where the old end was.
#[test]
fn no_line_is_torn_while_the_file_is_copied_and_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("plugin.log");
    storm(&log, |_| {
        if let Ok(file) = File::options().write(true).open(&log) {
            file.set_len(0).unwrap();
        }
    });
    let kept = lines(folder.path()).len();
    assert!(kept < PROCESSES * CALLS * LINES, "it was emptied in between");
}

/// The plugin's own rotation: one of the fifty puts the full file aside.
#[test]
fn a_full_file_is_put_aside_once_among_many_and_no_line_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("plugin.log");
    // Some calls before it is full; sparse, and what stands in front of the lines is no line.
    const FULL: u64 = 100 << 20;
    File::create(&log).unwrap().set_len(FULL - 20_000).unwrap();
    storm(&log, |_| {});
    let aside = folder.path().join("plugin.log.1");
    assert!(fs::metadata(&aside).unwrap().len() >= FULL);
    assert!(!folder.path().join("plugin.log.2").exists(), "only once");
    let bytes = fs::read(&aside).unwrap();
    let begin = bytes.iter().position(|byte| *byte != 0).unwrap();
    fs::write(&aside, &bytes[begin..]).unwrap();
    assert_eq!(lines(folder.path()).len(), PROCESSES * CALLS * LINES);
}

#[test]
fn each_level_keeps_its_lines_and_none_a_secret() {
    // One that is none keeps all, and one line more says so.
    for (level, expected) in [("debug", 3), ("INFO", 2), ("Warn", 1), ("error", 1), ("fatal", 0), ("", 3), ("loud", 4)]
    {
        let folder = tempfile::tempdir().unwrap();
        call(&folder.path().join("plugin.log"), level, "web-1");
        let lines = lines(folder.path());
        assert_eq!(lines.len(), expected, "{level}: {lines:?}");
        assert!(!format!("{lines:?}").contains("hunter2"), "{lines:?}");
    }
}
