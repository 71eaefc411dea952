//! The daemon and the plugin are killed at each of their failpoints. Afterwards: pods that were there talk, the retried ADD succeeds,
//! nothing is lost, nothing is given twice, and nothing stays leaked.
//!
//! `VPC_CNI_CRASH_POINTS=a,b` tries only these.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::crash::audit::settles;
use e2e::crash::bed::{Added, Bed, NODE, Setup};
use e2e::crash::programs::{Program, Programs};
use vpc_aws::ec2::shapes::{AttachNetworkInterface, CreateNetworkInterface};
use vpc_model::DeviceIndex;

/// How long something may be left over.
const QUIET: Duration = Duration::from_secs(60);
/// Pods that are there all the time: as many as the first ENI has addresses, so that the pool has a second one.
const KEPT: [&str; 3] = ["kept-0", "kept-1", "kept-2"];
/// Pods that come and go: enough for a third ENI.
const COMING: [&str; 4] = ["coming-0", "coming-1", "coming-2", "coming-3"];

/// What brings the daemon to a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// It ends and starts, with a DEL in between.
    Restart,
    /// Pods come and go.
    Churn,
    /// EC2 is called: pods come, more than one ENI can hold, and go.
    Cloud,
    /// An ENI without tags is found at start.
    Stranger,
    /// Nothing is killed there.
    None,
}

fn script(point: &str) -> Script {
    match point {
        "clock" => Script::None,
        "ec2-before-tag" | "ec2-after-tag" => Script::Stranger,
        _ if point.starts_with("ec2-") => Script::Cloud,
        _ if ["start-", "end-", "note-", "conflist-"].iter().any(|begin| point.starts_with(begin)) => Script::Restart,
        _ if ["checkpoint-", "add-", "del-", "host-", "metadata-"].iter().any(|begin| point.starts_with(begin)) => {
            Script::Churn
        }
        _ => panic!("{point} is new: which script brings the daemon there?"),
    }
}

fn wanted(point: &str) -> bool {
    let only = std::env::var("VPC_CNI_CRASH_POINTS").unwrap_or_default();
    only.is_empty() || only.split(',').any(|name| name == point)
}

/// All of the daemon's failpoints of a kind, in one lab, one after the other.
fn daemon_dies_at(test: &str, part: impl Fn(usize, Script) -> bool) {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(reason) => return e2e::skip(test, &reason),
    };
    let all: Vec<String> = programs.failpoints(Program::Daemon).unwrap().into_iter().collect();
    let mut numbers = std::collections::BTreeMap::<u8, usize>::new();
    let points: Vec<&String> = all
        .iter()
        .filter(|point| {
            let script = script(point);
            let number = numbers.entry(script as u8).or_default();
            *number += 1;
            part(*number, script) && wanted(point)
        })
        .collect();
    assert!(!points.is_empty() || std::env::var_os("VPC_CNI_CRASH_POINTS").is_some());
    let bed = Bed::start(&programs, &Setup::small()).unwrap();
    for name in KEPT {
        bed.add(name).unwrap();
    }
    settles(&bed, QUIET).unwrap();
    for point in points {
        let crashed = crash(&bed, point).and_then(|()| afterwards(&bed, point));
        if let Err(error) = crashed {
            panic!("killed at {point}: {error:#}\n{}", bed.last_words());
        }
    }
}

/// Lets it come to the failpoint, until it has been killed there.
fn crash(bed: &Bed, point: &str) -> Result<()> {
    if matches!(script(point), Script::Cloud | Script::Stranger) {
        at_rest(bed)?;
    }
    bed.arm(Program::Daemon, point, "kill")?;
    match script(point) {
        Script::Restart => restart(bed)?,
        Script::Churn | Script::Cloud => churn(bed, point)?,
        Script::Stranger => stranger(bed)?,
        Script::None => {}
    }
    let end = std::time::Instant::now() + QUIET;
    while bed.is_armed(Program::Daemon, point)? {
        ensure!(std::time::Instant::now() < end, "nothing brought the daemon there");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The pool has shrunk to the pods that stay: two ENIs, so that there is room for a third.
fn at_rest(bed: &Bed) -> Result<()> {
    let end = std::time::Instant::now() + QUIET;
    loop {
        let enis = bed.node()?.enis;
        if enis.len() <= 2 {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < end, "the pool does not shrink: {enis:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn restart(bed: &Bed) -> Result<()> {
    bed.add("gone")?;
    bed.stop()?;
    bed.delete("gone")?;
    // It may be killed on its way up, and is started again.
    bed.revive().map(drop)
}

fn churn(bed: &Bed, point: &str) -> Result<()> {
    let mut there = Vec::new();
    for name in COMING {
        if bed.is_armed(Program::Daemon, point)? {
            bed.add(name)?;
            there.push(name);
        }
    }
    for name in there {
        bed.delete(name)?;
        bed.revive()?;
    }
    Ok(())
}

/// Somebody attaches an ENI while the daemon is away.
fn stranger(bed: &Bed) -> Result<()> {
    let node = bed.node()?;
    bed.stop()?;
    let subnet = lab_cloud::id_for("private-a");
    let eni = bed.ec2(&CreateNetworkInterface::new(subnet))?.network_interface.network_interface_id;
    let taken: BTreeSet<u8> = node.enis.iter().map(|eni| eni.device).collect();
    let free = (1..).find(|device| !taken.contains(device)).context("a free device number")?;
    bed.ec2(&AttachNetworkInterface {
        network_interface_id: eni,
        instance_id: node.instance.parse()?,
        device_index: DeviceIndex(free),
        network_card_index: None,
        dry_run: None,
    })?;
    bed.revive().map(drop)
}

fn afterwards(bed: &Bed, point: &str) -> Result<()> {
    bed.revive()?;
    bed.all_talk()?;
    let added = bed.add("after")?;
    serves(&added)?;
    ensure!(bed.talks(&added.pod)?, "the new pod does not reach the peer");
    bed.delete("after")?;
    let quiet = settles(bed, QUIET)?;
    println!("{point}: ADD {:.2} s, quiet after {:.2} s", added.took.as_secs_f64(), quiet.as_secs_f64());
    Ok(())
}

/// With the daemon there an ADD needs one sandbox.
fn serves(added: &Added) -> Result<()> {
    ensure!(
        added.since_start == 1,
        "the daemon is there, and {} took {} sandboxes: {:#?}",
        added.pod.pod,
        added.since_start,
        added.failures
    );
    Ok(())
}

#[test]
fn the_daemon_dies_while_it_starts_and_ends() {
    daemon_dies_at("the_daemon_dies_while_it_starts_and_ends", |_, script| script == Script::Restart);
}

#[test]
fn the_daemon_dies_while_pods_come_and_go() {
    daemon_dies_at("the_daemon_dies_while_pods_come_and_go", |_, script| script == Script::Churn);
}

#[test]
fn r19_the_daemon_dies_around_a_call_of_ec2() {
    daemon_dies_at("r19_the_daemon_dies_around_a_call_of_ec2", |number, script| {
        script == Script::Cloud && number % 2 == 0
    });
}

#[test]
fn r19_the_daemon_dies_around_another_call_of_ec2() {
    daemon_dies_at("r19_the_daemon_dies_around_another_call_of_ec2", |number, script| {
        script == Script::Stranger || script == Script::Cloud && number % 2 == 1
    });
}

/// What a plugin is killed at, and what else has to happen for it to come there.
fn plugin_dies_at(bed: &Bed, point: &str) -> Result<()> {
    if let Some(("undo", _)) = point.split_once('-') {
        bed.arm(Program::Plugin, "add-before-result", "error:EPIPE")?;
    }
    if point == "del-before-untie-told" {
        // The runtime's DEL of a failed ADD has no result to go by.
        bed.arm(Program::Plugin, "wire-done", "kill")?;
    }
    if point.starts_with("note-") {
        bed.add("gone")?;
        bed.stop()?;
        bed.arm(Program::Plugin, point, "kill")?;
        bed.delete("gone")?;
        return bed.revive().map(drop);
    }
    let del = point.starts_with("del-") && point != "del-before-untie-told";
    if !del {
        bed.arm(Program::Plugin, point, "kill")?;
    }
    let added = bed.add("coming")?;
    if !del {
        // One sandbox died with its plugin; the next one must not fail.
        ensure!(added.failures.len() <= 1 && !bed.is_armed(Program::Plugin, point)?, "{:#?}", added.failures);
    } else {
        bed.arm(Program::Plugin, point, "kill")?;
    }
    ensure!(bed.talks(&added.pod)?, "the pod does not reach the peer");
    bed.delete("coming")
}

#[test]
fn the_plugin_dies_at_every_step_of_an_add_and_a_del() {
    const TEST: &str = "the_plugin_dies_at_every_step_of_an_add_and_a_del";
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(reason) => return e2e::skip(TEST, &reason),
    };
    let bed = Bed::start(&programs, &Setup::small()).unwrap();
    for name in KEPT {
        bed.add(name).unwrap();
    }
    for point in programs.failpoints(Program::Plugin).unwrap().iter().filter(|point| wanted(point)) {
        let crashed = plugin_dies_at(&bed, point)
            .and_then(|()| {
                ensure!(!bed.is_armed(Program::Plugin, point)?, "nothing brought a plugin there");
                ensure!(bed.node()?.daemon.is_some_and(|daemon| daemon.pid.is_some()), "the daemon of {NODE} died too");
                Ok(())
            })
            .and_then(|()| afterwards(&bed, point));
        if let Err(error) = crashed {
            panic!("a plugin killed at {point}: {error:#}\n{}", bed.last_words());
        }
    }
}
