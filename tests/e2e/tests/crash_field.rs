//! What happened in the field, by its number, with real processes held or killed at the moment that matters. (R06 is the storm of
//! `crash_random.rs`, R19 are the calls of EC2 in `crash_points.rs`.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::crash::audit::{Wrong, look, settles};
use e2e::crash::bed::{Bed, NODE, PAUSE, Setup, plugin_died, pod_name};
use e2e::crash::programs::{Program, Programs};
use vpc_lab::control::Place;
use vpc_lab::kubelet::conflist::NetworkList;

const QUIET: Duration = Duration::from_secs(60);

fn on_a_bed(test: &str, setup: &Setup, play: impl FnOnce(&Bed) -> Result<()>) {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(reason) => return e2e::skip(test, &reason),
    };
    let bed = Bed::start(&programs, setup).unwrap();
    if let Err(error) = play(&bed) {
        panic!("{error:#}\n{}", bed.last_words());
    }
}

/// Waits until a program has come to a failpoint and carries its order out.
fn reached(bed: &Bed, program: Program, point: &str) -> Result<()> {
    let end = Instant::now() + QUIET;
    while bed.is_armed(program, point)? {
        ensure!(Instant::now() < end, "nobody came to {point}");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The runtime's DEL of a sandbox whose ADD is under way: there is no result yet.
fn cleanup_del(bed: &Bed, name: &str) -> Result<()> {
    let pod = pod_name(name)?;
    let sandbox = bed.pods()?.into_iter().find(|status| status.pod == pod).and_then(|status| status.sandbox);
    let sandbox = sandbox.context("the pod has no sandbox yet")?;
    let file = "/etc/cni/net.d/10-aws.conflist";
    let list = NetworkList::parse(file, &bed.sh(&format!("cat {file}"))?)?;
    let plugin = list.plugins.first().context("a plugin")?;
    let stdin = list.stdin(plugin, &serde_json::Map::new(), None);
    let (container, netns) = (format!("CNI_CONTAINERID={}", sandbox.container), format!("CNI_NETNS={}", sandbox.netns));
    let arguments = format!("CNI_ARGS=K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}");
    let command = [
        "env",
        "CNI_COMMAND=DEL",
        "CNI_IFNAME=eth0",
        "CNI_PATH=/opt/cni/bin",
        &container,
        &netns,
        &arguments,
        "/opt/cni/bin/aws-cni",
    ];
    let ran = bed.lab.run_with_input(&Place::Node(NODE.to_owned()), &command, stdin.as_bytes())?;
    ensure!(ran.code == 0, "{ran:?}");
    Ok(())
}

/// Leases that the disk has for a pod.
fn leases(bed: &Bed, name: &str) -> Result<usize> {
    let text = bed.sh(&format!("cat {}", bed.checkpoint))?;
    let file: serde_json::Value = serde_json::from_str(&text)?;
    let all = file["allocations"].as_array().into_iter().flatten();
    Ok(all.filter(|lease| lease["metadata"]["k8sPodName"] == name).count())
}

#[test]
fn r08_a_cleanup_del_at_every_moment_of_its_add() {
    // The rest is longer than a look at the host is away: what such an ADD has wired is seen before its address is given again.
    let setup = Setup::small().with("IP_COOLDOWN_PERIOD", "4").with("VPC_CNI_AUDIT_INTERVAL", "1");
    on_a_bed("r08_a_cleanup_del_at_every_moment_of_its_add", &setup, |bed| {
        for (program, point) in [
            (Program::Plugin, "add-before-ask"),
            (Program::Daemon, "add-received"),
            (Program::Daemon, "checkpoint-before-make"),
            (Program::Daemon, "checkpoint-before-rename"),
            (Program::Daemon, "checkpoint-done"),
            (Program::Daemon, "add-before-reply"),
            (Program::Plugin, "add-after-ask"),
            (Program::Plugin, "wire-before-configure-host"),
            (Program::Plugin, "wire-done"),
        ] {
            let interleaved = interleaved(bed, program, point);
            interleaved.with_context(|| format!("DEL while {} stands at {point}", program.name()))?;
        }
        Ok(())
    });
}

fn interleaved(bed: &Bed, program: Program, point: &str) -> Result<()> {
    bed.arm(program, point, "wait:400")?;
    let pod = pod_name("held")?;
    let added = std::thread::scope(|scope| {
        let adding = scope.spawn(|| bed.lab.pod_add(NODE, &pod, 1));
        reached(bed, program, point)?;
        cleanup_del(bed, "held")?;
        adding.join().map_err(|_| anyhow::anyhow!("the ADD's thread died"))
    })?;
    // Whatever came of the ADD: its address is nobody else's as long as its sandbox is there.
    let mut others = Vec::new();
    for number in 0..3 {
        others.push(bed.add(&format!("other-{number}"))?.pod);
        std::thread::sleep(Duration::from_millis(1500));
        let twice: Vec<Wrong> = look(bed)?.into_iter().filter(|wrong| matches!(wrong, Wrong::Twice(_))).collect();
        ensure!(twice.is_empty(), "{twice:?}; the ADD: {added:?}");
    }
    if added.is_ok() {
        bed.delete("held")?;
    }
    for other in others {
        ensure!(bed.talks(&other)?, "{} does not reach the peer", other.pod);
        bed.delete(&other.pod.name)?;
    }
    settles(bed, QUIET).map(drop)
}

#[test]
fn r09_a_storm_of_sandboxes_of_one_pod_holds_one_address() {
    // No lease ends by its age while it lasts: what a newer sandbox of the pod proves has to do.
    let setup = Setup::small().with("VPC_CNI_ORPHAN_AGE", "600");
    on_a_bed("r09_a_storm_of_sandboxes_of_one_pod_holds_one_address", &setup, |bed| {
        bed.add("neighbour")?;
        // More than twice what the node has addresses for.
        for round in 0..25 {
            // The plugin dies when all is wired; so does the runtime's DEL before it tells anybody. The sandbox goes.
            bed.arm(Program::Plugin, "wire-done", "kill")?;
            bed.arm(Program::Plugin, "del-before-ask", "kill")?;
            match bed.lab.pod_add(NODE, &pod_name("crashing")?, 1) {
                Ok(_) => bail!("round {round}: the plugin was not killed"),
                Err(error) => ensure!(plugin_died(&error), "round {round}: {error}"),
            }
            bed.disarm()?;
            std::thread::sleep(PAUSE);
        }
        let added = bed.add("crashing")?;
        ensure!(added.failures.is_empty() && bed.talks(&added.pod)?, "{:?}", added.failures);
        settles(bed, QUIET)?;
        ensure!(leases(bed, "crashing")? == 1, "one address for one pod");
        bed.all_talk()
    });
}

#[test]
fn r11_adds_at_the_instant_at_which_addresses_are_given_back() {
    on_a_bed("r11_adds_at_the_instant_at_which_addresses_are_given_back", &Setup::small(), |bed| {
        for name in ["kept-0", "kept-1", "kept-2"] {
            bed.add(name)?;
        }
        let pods = ["new-0", "new-1", "new-2"];
        for point in ["ec2-before-unassign", "ec2-after-unassign", "ec2-before-detach"] {
            settles(bed, QUIET)?;
            for name in ["surplus-0", "surplus-1", "surplus-2", "surplus-3"] {
                bed.add(name)?;
            }
            bed.arm(Program::Daemon, point, "wait:200")?;
            for name in ["surplus-0", "surplus-1", "surplus-2", "surplus-3"] {
                bed.delete(name)?;
            }
            reached(bed, Program::Daemon, point).with_context(|| format!("{:#?}", bed.node().map(|node| node.enis)))?;
            let added = std::thread::scope(|scope| {
                let adding = pods.map(|name| scope.spawn(move || bed.add(name)));
                adding.map(|adding| adding.join().unwrap_or_else(|_| bail!("a thread died")))
            });
            for added in added {
                let added = added?;
                ensure!(added.failures.is_empty(), "{point}: {:#?}", added.failures);
                ensure!(bed.talks(&added.pod)?, "{point}: {} is in a black hole", added.pod.pod);
            }
            settles(bed, QUIET).context(point)?;
            bed.all_talk()?;
            for name in pods {
                bed.delete(name)?;
            }
        }
        Ok(())
    });
}

#[test]
fn r18_an_eni_attached_just_before_the_kill_serves_with_all_its_addresses() {
    on_a_bed("r18_an_eni_attached_just_before_the_kill_serves_with_all_its_addresses", &Setup::small(), |bed| {
        bed.arm(Program::Daemon, "ec2-after-attach", "kill")?;
        // A t3.small has three ENIs with three addresses for pods each.
        for number in 0..9 {
            bed.add(&format!("pod-{number}"))?;
        }
        ensure!(!bed.is_armed(Program::Daemon, "ec2-after-attach")?, "it was not killed there");
        settles(bed, QUIET)?;
        let enis = bed.node()?.enis;
        ensure!(enis.len() == 3 && enis.iter().all(|eni| eni.secondary.len() == 3), "{enis:#?}");
        bed.all_talk()
    });
}
