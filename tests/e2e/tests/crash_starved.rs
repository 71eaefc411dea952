//! A node that lacks something: a disk with room, a folder that can be written, EC2, the metadata. Pods that are there talk; new ones get
//! an address or the cause; when it is back, everything is, without anybody's help but kubelet's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::crash::audit::settles;
use e2e::crash::bed::{Bed, NODE, Setup, pod_name};
use e2e::crash::programs::{Program, Programs};

const QUIET: Duration = Duration::from_secs(60);
/// A checkpoint in a folder of its own, which holds nothing else that the daemon needs.
const BOOKS: &str = "/run/books/ipam.json";

/// Runs a test on a bed with two pods, unless it can not be made.
fn on_a_bed(test: &str, setup: &Setup, play: impl FnOnce(&Bed) -> Result<()>) {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(reason) => return e2e::skip(test, &reason),
    };
    let bed = Bed::start(&programs, setup).unwrap();
    let played = ["kept-0", "kept-1"]
        .iter()
        .try_for_each(|name| bed.add(name).map(drop))
        .and_then(|()| settles(&bed, QUIET).map(drop).context("before anything"))
        .and_then(|()| play(&bed));
    if let Err(error) = played {
        panic!("{error:#}\n{}", bed.last_words());
    }
}

/// One sandbox, no second try: why it failed.
fn refusal(bed: &Bed, name: &str) -> Result<String> {
    match bed.lab.pod_add(NODE, &pod_name(name)?, 1) {
        Ok(pod) => bail!("{name} was given {:?}", pod.address),
        Err(error) => Ok(error.to_string()),
    }
}

/// Pods are refused until the pool gives none any more; the last word. Those that came stay.
fn until_refused(bed: &Bed, prefix: &str) -> Result<String> {
    for number in 0..20 {
        if let Err(error) = bed.lab.pod_add(NODE, &pod_name(&format!("{prefix}-{number}"))?, 1) {
            return Ok(error.to_string());
        }
    }
    bail!("twenty pods came all the same")
}

fn heals(bed: &Bed) -> Result<()> {
    let added = bed.add("healed")?;
    ensure!(bed.talks(&added.pod)?, "the new pod does not reach the peer");
    bed.all_talk()?;
    let quiet = settles(bed, QUIET)?;
    println!("healed: ADD after {:.1} s, quiet after {:.1} s", added.took.as_secs_f64(), quiet.as_secs_f64());
    Ok(())
}

fn pid(bed: &Bed) -> Result<Option<u32>> {
    Ok(bed.node()?.daemon.and_then(|daemon| daemon.pid))
}

#[test]
fn a_full_disk_costs_new_pods_only() {
    let setup = Setup {
        init: Some("mkdir -p /run/books; mount -t tmpfs -o size=64k books /run/books"),
        ..Setup::small().with("AWS_VPC_K8S_CNI_BACKING_STORE", BOOKS)
    };
    on_a_bed("a_full_disk_costs_new_pods_only", &setup, |bed| {
        let before = pid(bed)?;
        bed.sh("dd if=/dev/zero of=/run/books/rubbish bs=1k 2>/dev/null || true")?;
        let why = refusal(bed, "new")?;
        ensure!(why.contains("checkpoint") && why.contains("No space left"), "the cause is not named: {why}");
        bed.all_talk()?;
        // A pod may go all the same.
        bed.delete("kept-1")?;
        // And the daemon may start anew.
        bed.stop()?;
        bed.revive()?;
        ensure!(pid(bed)? != before, "it was not started anew");
        bed.all_talk()?;
        let why = refusal(bed, "new")?;
        ensure!(why.contains("checkpoint") && why.contains("No space left"), "the cause is not named: {why}");
        bed.sh("rm /run/books/rubbish")?;
        heals(bed)
    });
}

#[test]
fn a_folder_that_can_not_be_written_costs_new_pods_only() {
    let setup =
        Setup { init: Some("mkdir -p /run/books"), ..Setup::small().with("AWS_VPC_K8S_CNI_BACKING_STORE", BOOKS) };
    on_a_bed("a_folder_that_can_not_be_written_costs_new_pods_only", &setup, |bed| {
        // A mount above the folder: what is open stays open, what is looked up is read-only.
        bed.sh("mount --bind /run/books /run/books && mount -o remount,bind,ro /run/books")?;
        let before = pid(bed)?;
        let why = refusal(bed, "new")?;
        ensure!(why.contains("checkpoint") && why.contains("Read-only"), "the cause is not named: {why}");
        bed.all_talk()?;
        ensure!(pid(bed)? == before, "the daemon has died of it");
        // One that starts now can promise nothing: pods are told that it is not there.
        bed.stop()?;
        let started = bed.lab.daemon(NODE, vpc_lab::control::DaemonAction::Start);
        ensure!(started.is_err(), "a daemon that can write nothing is ready");
        let why = refusal(bed, "new")?;
        ensure!(why.contains("the node daemon is not running"), "the cause is not named: {why}");
        bed.all_talk()?;
        bed.sh("umount /run/books")?;
        bed.revive()?;
        heals(bed)
    });
}

#[test]
fn a_checkpoint_that_fails_at_any_step_is_no_promise() {
    let setup = Setup::small();
    on_a_bed("a_checkpoint_that_fails_at_any_step_is_no_promise", &setup, |bed| {
        let before = pid(bed)?;
        for (step, error, said) in [
            ("make", "EROFS", "Read-only"),
            ("write", "ENOSPC", "No space left"),
            ("sync", "EIO", "Input/output error"),
            ("rename", "EACCES", "Permission denied"),
            ("sync-folder", "EIO", "Input/output error"),
        ] {
            let point = format!("checkpoint-before-{step}");
            bed.arm(Program::Daemon, &point, &format!("1+=error:{error}"))?;
            let why = refusal(bed, "new")?;
            ensure!(why.contains("checkpoint") && why.contains(said), "{point}: the cause is not named: {why}");
            bed.all_talk()?;
            bed.disarm()?;
            ensure!(pid(bed)? == before, "{point}: the daemon has died of it");
            heals(bed).context(point)?;
            bed.delete("healed")?;
        }
        Ok(())
    });
}

#[test]
fn without_ec2_pods_get_what_the_pool_has_and_then_the_cause() {
    let setup = Setup::small().with("VPC_CNI_ADD_WAIT", "2");
    on_a_bed("without_ec2_pods_get_what_the_pool_has_and_then_the_cause", &setup, |bed| {
        let denied = bed.fault("deny action=* node=a")?;
        let why = until_refused(bed, "new")?;
        ensure!(why.contains("UnauthorizedOperation"), "the cause is not named: {why}");
        bed.all_talk()?;
        bed.lab.lift(denied)?;
        heals(bed)
    });
}

#[test]
fn a_minute_without_metadata_is_noticed_by_nobody_but_a_daemon_that_starts() {
    const MINUTE: Duration = Duration::from_secs(60);
    let setup = Setup::small();
    on_a_bed("a_minute_without_metadata_is_noticed_by_nobody_but_a_daemon_that_starts", &setup, |bed| {
        let cut = bed.fault("cut node=a from=imds")?;
        let begin = Instant::now();
        let before = pid(bed)?;
        // New pods too: what EC2 gives needs no metadata.
        for number in 0..3 {
            let added = bed.add(&format!("new-{number}"))?;
            ensure!(added.failures.is_empty() && bed.talks(&added.pod)?, "{:?}", added.failures);
        }
        while begin.elapsed() < MINUTE / 2 {
            bed.all_talk()?;
            std::thread::sleep(Duration::from_secs(2));
        }
        ensure!(pid(bed)? == before, "the daemon has died of it");
        bed.lab.daemon(NODE, vpc_lab::control::DaemonAction::Kill)?;
        let started = std::thread::scope(|scope| {
            let starting = scope.spawn(|| bed.revive());
            let why = refusal(bed, "later")?;
            ensure!(why.contains("the node daemon is not running"), "the cause is not named: {why}");
            while begin.elapsed() < MINUTE {
                bed.all_talk()?;
                std::thread::sleep(Duration::from_secs(2));
            }
            bed.lab.lift(cut)?;
            starting.join().unwrap_or_else(|_| bail!("the thread that starts it died"))
        });
        started?;
        heals(bed)
    });
}

#[test]
fn a_calendar_set_to_another_time_ends_no_rest_and_no_pod() {
    // The rest is longer than a restart takes, and shorter than the calendar's jump.
    let setup = Setup::small().with("IP_COOLDOWN_PERIOD", "15").with("VPC_CNI_ORPHAN_AGE", "60");
    on_a_bed("a_calendar_set_to_another_time_ends_no_rest_and_no_pod", &setup, |bed| {
        for (way, seconds) in [("back", "-7200"), ("forward", "7200")] {
            let gone = bed.add("gone")?.pod.address;
            bed.delete("gone")?;
            let deleted = Instant::now();
            bed.stop()?;
            bed.disarm()?;
            bed.arm(Program::Daemon, "clock", &format!("1+=clock:{seconds}"))?;
            bed.revive()?;
            let mut fresh = Vec::new();
            for number in 0..4 {
                let added = bed.add(&format!("fresh-{number}"))?;
                ensure!(added.failures.is_empty(), "set {way}: {:?}", added.failures);
                let rested = deleted.elapsed();
                let again = added.pod.address == gone && rested < Duration::from_secs(14);
                ensure!(!again, "set {way}: {gone:?} was given to a pod after {rested:?}");
                fresh.push(added.pod.pod.name);
            }
            bed.all_talk()?;
            for name in fresh {
                bed.delete(&name)?;
            }
            settles(bed, QUIET).context(way)?;
        }
        Ok(())
    });
}
