//! The demo: nine scenes that tell what this CNI does, on real packets, and fail when it is not true.
//!
//! Every scene starts a lab of its own (the same binaries, the same kernel as `vpc-lab up`), looks at packets captured by AF_PACKET
//! at the ENI and in the fabric, and at the kernel's state, and says what it saw. A statement that does not hold is counted; the exit
//! code says whether all held.

mod burst;
mod custom;
mod lost;
mod none;
mod pods;
mod second_eni;
mod snat;
mod stage;
mod thirst;

use std::process::ExitCode;

use stage::{SceneError, Stage};

/// One scene.
struct Scene {
    name: &'static str,
    title: &'static str,
    story: &'static str,
    play: fn(&mut Stage) -> Result<(), SceneError>,
}

const SCENES: [Scene; 9] = [
    Scene {
        name: "boot",
        title: "Boot",
        story: "Three nodes start; each daemon asks EC2 for addresses and tells the runtime when it can serve.",
        play: pods::boot,
    },
    Scene {
        name: "pods",
        title: "Pods",
        story: "Two pods on one node, one on each other. Every pod has an address of the VPC, and that is what is on the wire.",
        play: pods::pods,
    },
    Scene {
        name: "second-eni",
        title: "More pods than one ENI holds",
        story: "WARM_ENI_TARGET=0: the ninth pod empties the pool, eth1 is fetched, the tenth pod lives and sends there.",
        play: second_eni::play,
    },
    Scene {
        name: "snat",
        title: "To the internet",
        story: "Source NAT by the node, by the NAT gateway, and by nobody.",
        play: snat::play,
    },
    Scene {
        name: "nobody-lost",
        title: "Nobody is lost",
        story: "The daemon is killed with SIGKILL; pods keep talking, and it remembers.",
        play: lost::play,
    },
    Scene {
        name: "no-address",
        title: "No address",
        story: "The node is full: a pod is refused with a cause, or waits for the address another one gives back.",
        play: none::play,
    },
    Scene {
        name: "custom-networking",
        title: "Custom networking with prefixes",
        story: "Nodes in 10.20.0.0/16, pods in 100.64.0.0/16: an ENIConfig for each of three zones, /28 prefixes, no source NAT.",
        play: custom::play,
    },
    Scene {
        name: "burst",
        title: "A hundred pods, and none again",
        story: "WARM_IP_TARGET=5, MINIMUM_IP_TARGET=10 on a c5.4xlarge: the pool follows the pods up and down.",
        play: burst::play,
    },
    Scene {
        name: "thirst",
        title: "Thirst",
        story: "The subnet has no address left, and there are three ways out.",
        play: thirst::play,
    },
];

/// Plays one scene (by name or number) or all of them.
#[must_use]
pub fn run(scene: Option<&str>) -> ExitCode {
    let chosen: Vec<(usize, &Scene)> = SCENES
        .iter()
        .enumerate()
        .map(|(at, scene)| (at + 1, scene))
        .filter(|(number, candidate)| scene.is_none_or(|name| name == candidate.name || name == number.to_string()))
        .collect();
    if chosen.is_empty() {
        let names: Vec<String> =
            SCENES.iter().enumerate().map(|(at, scene)| format!("{} ({})", scene.name, at + 1)).collect();
        eprintln!("error: there is no scene `{}`: expected one of {}", scene.unwrap_or_default(), names.join(", "));
        return ExitCode::from(2);
    }
    let mut stage = Stage::new();
    for (number, scene) in chosen {
        stage.begin(number, scene.title, scene.story);
        if let Err(error) = (scene.play)(&mut stage) {
            stage.broke(&error);
        }
    }
    if stage.end() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
