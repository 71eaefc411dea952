//! The program as people use it: what it shows, what it says when something is wrong, and what their shells get.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::nobody::skip;
use common::{SMALL, options, start, topology, unique, vpc_lab};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vpc_lab::Lab;

fn command(lab: &str, words: &[&str]) -> Command {
    let mut command = Command::new(vpc_lab());
    command.args(words).env("VPC_LAB", lab).env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

fn run(lab: &str, words: &[&str]) -> (bool, String, String) {
    let Output { status, stdout, stderr } = command(lab, words).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A terminal of 40 lines: our side, and the program's.
fn terminal() -> (File, OwnedFd) {
    let size = nix::pty::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = nix::pty::openpty(&size, None).unwrap();
    (File::from(pair.master), pair.slave)
}

/// Reads until the text is there, or says what came instead.
#[track_caller]
fn read_until(from: &mut File, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if wanted(&text) {
            return text;
        }
        assert!(Instant::now() < deadline, "still not there: {text:?}");
        let mut poll = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure, of which the kernel writes one field.
        if unsafe { libc::poll(&raw mut poll, 1, 200) } > 0 {
            match from.read(&mut buffer) {
                // Nobody holds the other side any longer.
                Ok(0) | Err(_) => assert!(wanted(&text), "it ended with: {text:?}"),
                Ok(count) => all.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

fn ended(mut child: Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().ok();
    panic!("it has not ended")
}

fn watch_on_a_terminal(lab: &Lab) -> (File, Child) {
    let (ours, theirs) = terminal();
    let child = command(&lab.place().name, &["status", "--watch", "0.1"])
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs)
        .spawn()
        .unwrap();
    (ours, child)
}

#[test]
fn watch_draws_in_place_and_gives_the_terminal_back() {
    let lab = start(&topology(SMALL));
    let (mut screen, child) = watch_on_a_terminal(&lab);
    let text = read_until(&mut screen, |text| text.matches("\x1b[H").count() >= 3);
    assert!(text.starts_with("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H"), "{text:?}");
    assert!(text.contains("VPC 10.20.0.0/16") && text.contains("\x1b[K\r\n"), "{text:?}");
    // Nothing is ever wiped before it is written anew.
    assert!(!text.contains("\x1b[2J"), "{text:?}");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let text = read_until(&mut screen, |text| text.contains("\x1b[?1049l"));
    assert!(text.ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"), "{text:?}");
    assert!(ended(child));
}

#[test]
fn watch_ends_with_the_lab_and_says_so() {
    let lab = start(&topology(SMALL));
    let name = lab.place().name.clone();
    let (mut screen, child) = watch_on_a_terminal(&lab);
    read_until(&mut screen, |text| text.contains("\x1b[J"));
    drop(lab);
    let text = read_until(&mut screen, |text| text.contains(" is down"));
    assert!(text.contains(&format!("\x1b[?1049llab {name} is down\r\n")), "{text:?}");
    assert!(ended(child));
}

#[test]
fn watch_into_a_pipe_is_one_plain_picture_after_another() {
    let lab = start(&topology(SMALL));
    let (ours, theirs) = std::io::pipe().unwrap();
    let mut ours = File::from(OwnedFd::from(ours));
    let child = command(&lab.place().name, &["status", "--watch", "0.1"]).stdout(theirs).spawn().unwrap();
    let text = read_until(&mut ours, |text| text.matches("VPC 10.20.0.0/16").count() >= 2);
    assert!(!text.contains('\x1b'), "{text:?}");
    // Whoever stops reading ends it.
    drop(ours);
    assert!(ended(child));
}

#[test]
fn up_tells_each_step_and_what_may_come_next() {
    let name = unique("steps");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.toml");
    std::fs::write(&file, SMALL).unwrap();
    let (up, picture, steps) = run(&name, &["up", file.to_str().unwrap()]);
    let again = run(&name, &["up", file.to_str().unwrap()]);
    let (down, ..) = run(&name, &["down"]);
    assert!(up && down, "{steps}");
    for wanted in [" ms  fabric\n", " ms  EC2 and IMDS\n", " ms  Kubernetes API\n", " ms  a: power", " ms  a: ready"] {
        assert!(steps.contains(wanted), "{wanted}: {steps}");
    }
    assert!(!steps.contains('\x1b') && !picture.contains('\x1b'));
    assert!(picture.contains(&format!("vpc-lab down --lab {name}")), "{picture}");
    assert!(!again.0 && again.2.contains("is up already: `vpc-lab down --lab"), "{}", again.2);
}

#[test]
fn up_on_a_terminal_writes_its_table_over_itself() {
    let name = unique("table");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.toml");
    std::fs::write(&file, SMALL).unwrap();
    let (mut screen, theirs) = terminal();
    let child = command(&name, &["up", file.to_str().unwrap()])
        .env("TERM", "xterm")
        .stdout(Stdio::null())
        .stderr(theirs)
        .spawn()
        .unwrap();
    let text = read_until(&mut screen, |text| text.matches("ready, without a daemon").count() > 4);
    assert!(ended(child));
    run(&name, &["down"]);
    assert!(text.contains("✓ fabric") && text.contains("\x1b[3A\r"), "{text:?}");
}

#[test]
fn what_is_wrong_is_said_with_a_way_out() {
    let lab = start(&topology(SMALL));
    let name = lab.place().name.clone();
    let nobody = unique("nobody");
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.toml");
    std::fs::write(&bad, "[vpc]\ncidr = [\"10.20.0.0/16\"]\n").unwrap();
    let bad = bad.to_str().unwrap();
    for (lab, words, wanted) in [
        (&nobody, vec!["status"], vec!["is not up", "vpc-lab up --lab"]),
        (&nobody, vec!["status", "--watch"], vec!["is not up"]),
        (&nobody, vec!["logs", "a"], vec!["is not up"]),
        (&nobody, vec!["kubeconfig"], vec!["is not up"]),
        (&name, vec!["status", "--watch", "0"], vec!["seconds from 0.1"]),
        (&name, vec!["logs", "moon"], vec!["no node `moon`; there are: a, "]),
        (&name, vec!["pod", "list", "moon"], vec!["no node `moon`; there are: a, "]),
        (&name, vec!["pod", "add", "moon", "default/web"], vec!["no node `moon`"]),
        (&name, vec!["pod", "add", "a", "web"], vec!["NAMESPACE/NAME"]),
        (&name, vec!["calls", "--node", "moon"], vec!["no node `moon`", "a, "]),
        (&name, vec!["calls", "--node", "a", "--kubernetes"], vec!["cannot be used with"]),
        (&name, vec!["exec", "a/default/web", "--", "true"], vec!["no running pod default/web on a", "vpc-lab status"]),
        (&name, vec!["exec", "here:x", "--", "true"], vec!["not a place", "endpoint:SERVICE"]),
        (&name, vec!["exec", "fabric/moon", "--", "true"], vec!["no gateway `moon`", "igw"]),
        (&name, vec!["capture", "a", "moon0"], vec!["no link `moon0`", "eth0"]),
        (&name, vec!["fault", "add", "flood"], vec!["`flood`", "imds-stale"]),
        (&name, vec!["fault", "add", "stop", "node=moon"], vec!["no node `moon`"]),
        (&name, vec!["fault", "lift", "77"], vec!["no fault 77", "those that hold: none"]),
        (&name, vec!["fault", "run", "moon"], vec!["no ready scenario `moon`", "lost-answers"]),
        (&name, vec!["node", "add", "new", "--subnet", "moon"], vec!["moon", "private"]),
        (&name, vec!["daemon", "kill", "moon"], vec!["no node `moon`"]),
        (&nobody, vec!["up", "moon"], vec!["no ready topology `moon`", "three-zones"]),
        (&nobody, vec!["up", "/moon.toml"], vec!["/moon.toml", "No such file"]),
        (&nobody, vec!["up", bad], vec!["bad.toml", "cidr", "cidrs"]),
        (&nobody, vec!["topology", "moon"], vec!["no ready topology `moon`", "vpc-lab topology"]),
        (&nobody, vec!["demo", "moon"], vec!["moon", "snat"]),
        (&nobody, vec!["completion", "csh"], vec!["csh", "bash", "zsh", "fish"]),
        (&nobody, vec!["cloud", "--listen", "moon"], vec!["moon", "ADDRESS:PORT"]),
        (&nobody, vec!["cloud", "--listen", "127.0.0.1:0", "--instance", "moon"], vec!["moon", "node-a"]),
    ] {
        let (fine, said, errors) = run(lab, &words);
        assert!(!fine, "{words:?} went well: {said}");
        for piece in wanted {
            assert!(errors.contains(piece), "{words:?}: `{piece}` is not in: {errors}");
        }
    }
}

#[test]
fn logs_of_the_daemon_and_the_kubeconfig_are_printed() {
    let mut daemon = topology(SMALL);
    let script = "mkdir -p /var/log/aws-routed-eni; echo to the screen; echo to the file > /var/log/aws-routed-eni/ipamd.log; echo by the plugin > /var/log/aws-routed-eni/plugin.log; exec sleep 1000";
    for node in &mut daemon.nodes {
        let command = ["sh", "-c", script].map(str::to_owned).into();
        node.daemon = Some(vpc_lab::topology::Command { command, cwd: "/".into() });
    }
    let options = vpc_lab::StartOptions { wait_for_daemons: false, ..options() };
    let (lab, _) = Lab::start(&daemon, &options).unwrap();
    let name = lab.place().name.clone();
    let seen = |words: &[&str], wanted: &[&str]| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (fine, said, errors) = run(&name, words);
            assert!(fine, "{errors}");
            if wanted.iter().all(|line| said.contains(line)) {
                return;
            }
            assert!(Instant::now() < deadline, "{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    seen(&["logs", "a"], &["to the screen\n", "to the file\n"]);
    seen(&["logs", "a", "--plugin"], &["by the plugin\n"]);
    seen(&["kubeconfig"], &["clusters", "https://127.0.0.1:"]);
}

#[test]
fn bash_completes_names_of_the_lab() {
    if !Command::new("bash").arg("--version").output().is_ok_and(|run| run.status.success()) {
        return skip("bash_completes_names_of_the_lab", "there is no bash");
    }
    let lab = start(&topology(SMALL));
    let name = &lab.place().name;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("completion.bash");
    let (fine, text, errors) = run(name, &["completion", "bash"]);
    assert!(fine, "{errors}");
    File::create(&script).unwrap().write_all(text.as_bytes()).unwrap();
    let syntax = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(syntax.status.success(), "{}", String::from_utf8_lossy(&syntax.stderr));
    // What bash does when somebody presses the tabulator.
    let press = |line: &str| {
        let ask = format!(
            "source '{}'; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; \
             words=$(complete -p vpc-lab); words=${{words#*-F }}; \"${{words%% *}}\" vpc-lab \"${{COMP_WORDS[$COMP_CWORD]}}\" x; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let path = format!("{}:{}", vpc_lab().parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
        let output = Command::new("bash").args(["-c", &ask]).env("PATH", path).env("VPC_LAB", name).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    for (line, wanted) in [
        ("vpc-lab sta", "status"),
        ("vpc-lab logs ''", "a"),
        ("vpc-lab exec fabric/i", "fabric/igw"),
        ("vpc-lab fault add imds-st", "imds-stale"),
        ("vpc-lab up ten", "ten-nodes"),
        ("vpc-lab completion f", "fish"),
    ] {
        let offered = press(line);
        let wanted = format!("{wanted}\n");
        assert!(offered.lines().any(|own| own.trim() == wanted.trim()), "{line}: {offered}");
    }
}

#[test]
fn other_shells_read_their_scripts() {
    for (shell, arguments) in [("zsh", vec!["-n"]), ("fish", vec!["--no-execute"])] {
        if !Command::new(shell).arg("--version").output().is_ok_and(|run| run.status.success()) {
            skip("other_shells_read_their_scripts", &format!("there is no {shell}"));
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("completion");
        let (_, text, _) = run("nobody", &["completion", shell]);
        std::fs::write(&script, text).unwrap();
        let read = Command::new(shell).args(&arguments).arg(&script).output().unwrap();
        assert!(read.status.success(), "{shell}: {}", String::from_utf8_lossy(&read.stderr));
    }
}
