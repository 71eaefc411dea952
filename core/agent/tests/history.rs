//! Seeded histories: first trouble, then calm. The judge compares what callers were told with what the host and the cloud hold,
//! never with the agent's own books alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_agent::{FailureClass, Input, Outcome, Ticket};
use vpc_model::{Millis, Time};
use world::{Fault, World, config, key};

/// splitmix64: enough to choose from a list, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

#[derive(Default)]
struct Story {
    /// ADDs that have not been answered: pod by ticket.
    asked: BTreeMap<Ticket, String>,
    /// Pods that are wired, with their addresses.
    live: BTreeMap<String, Ipv4Addr>,
    /// When each address lost its pod.
    ended: BTreeMap<Ipv4Addr, Time>,
    next_pod: u32,
    served: u32,
}

const KINDS: [&str; 7] = ["Create", "Attach", "Modify", "Assign", "Describe", "Detach", "Delete"];
const CLASSES: [FailureClass; 8] = [
    FailureClass::Throttled,
    FailureClass::Unauthorized,
    FailureClass::SubnetExhausted,
    FailureClass::EniLimit,
    FailureClass::WrongState,
    FailureClass::Lost,
    FailureClass::Unreachable,
    FailureClass::Other,
];

impl Story {
    fn step(&mut self, world: &mut World, dice: &mut Dice, trouble: bool) {
        match dice.roll(if trouble { 16 } else { 12 }) {
            0..=4 => {
                let name = format!("p{}", self.next_pod);
                self.next_pod += 1;
                self.asked.insert(world.add(&name), name);
            }
            5..=7 => {
                if let Some((name, address)) = self.live.pop_first() {
                    world.stop_pod(&name);
                    self.ended.insert(address, world.now);
                }
            }
            8..=11 => world.run_for(Millis(dice.roll(20_000))),
            12 | 13 => {
                let kind = KINDS[dice.roll(7) as usize];
                let class = CLASSES[dice.roll(8) as usize];
                let fault = if dice.roll(3) == 0 { Fault::LoseAnswer } else { Fault::Refuse(class, "Injected") };
                world.faults.push_back((kind, fault));
            }
            14 => {
                // Callers of a dead daemon hear nothing; the runtime asks again with another sandbox.
                self.asked.clear();
                world.restart(Millis(dice.roll(90_000)));
            }
            _ => world.tell(Input::HostChanged),
        }
        self.hear(world);
        self.judge(world);
    }

    /// Plugins wire what they are given, at once.
    fn hear(&mut self, world: &mut World) {
        let answered: Vec<Ticket> = self.asked.keys().copied().filter(|t| world.answers.contains_key(t)).collect();
        for ticket in answered {
            let name = self.asked.remove(&ticket).unwrap();
            let (at, outcome) = world.answers[&ticket].clone();
            let Outcome::Added(reply) = outcome else { continue };
            let address = reply.allocation.address;
            let owner = self.live.iter().find(|(_, other)| **other == address);
            assert_eq!(owner, None, "{address} was given to {name} too");
            let rested = self.ended.get(&address).is_none_or(|ended| at.since(*ended) >= Millis::seconds(29));
            assert!(rested, "{address} was given to {name} before it had rested");
            world.wire(&name, &reply);
            self.live.insert(name, address);
            self.served += 1;
        }
    }

    fn judge(&self, world: &World) {
        let on_enis: BTreeSet<Ipv4Addr> = world
            .enis
            .values()
            .filter(|eni| eni.truth.attachment.is_some())
            .flat_map(|eni| eni.truth.slots.iter().flat_map(|slot| slot.addresses()))
            .collect();
        for (name, address) in &self.live {
            assert!(on_enis.contains(address), "{name}'s address {address} is on no attached ENI");
            let held = world.agent.pool().of(&key(name)).map(|held| held.allocation.address);
            assert_eq!(held, Some(*address), "{name} is not what the agent thinks");
        }
    }

    fn calm(&mut self, world: &mut World) {
        world.faults.clear();
        // A plugin does not wait longer, and a lease nobody has wired by then is nobody's.
        world.run_for(Millis::seconds(30));
        self.hear(world);
        world.run_for(Millis::seconds(870));
        self.judge(world);
        assert!(self.asked.is_empty(), "ADDs were never answered: {:?}", self.asked);
        for (name, address) in &self.live {
            let link = if world.leaves_by(name, "10.20.30.40") == "eth0" { "eth0" } else { "some" };
            assert!(world.leaves_by(name, "10.20.30.40").starts_with("eth"), "{name} sends nowhere ({link})");
            assert!(
                world.reaches("eth0", name, *address)
                    || world.reaches("eth1", name, *address)
                    || world.reaches("eth2", name, *address),
                "{name} is not reached"
            );
        }
        let quiet = world.calls.len();
        world.run_for(Millis::seconds(3600));
        let later = &world.calls[quiet..];
        assert_eq!(later, [], "a node at rest keeps calling");
        // A create that was cut off by a kill may come to light after the next start's look: the one after finds it.
        world.restart(Millis::seconds(1));
        world.run_for(Millis::seconds(300));
        let unattached: Vec<_> = world.enis.values().filter(|eni| eni.truth.attachment.is_none()).collect();
        assert!(unattached.is_empty(), "ENIs that belong to nobody: {unattached:?}");
        self.judge(world);
    }
}

fn play(seed: u64) -> u32 {
    let mut dice = Dice(seed);
    let mut world = World::new(config(u32::try_from(dice.roll(3)).unwrap(), 1 + u32::try_from(dice.roll(3)).unwrap()));
    let mut story = Story::default();
    for _ in 0..150 {
        story.step(&mut world, &mut dice, true);
    }
    story.calm(&mut world);
    story.served
}

#[test]
fn a_hundred_histories_of_trouble_end_well() {
    let served: u32 = (0..100).map(play).sum();
    assert!(served > 1_000, "only {served} pods were served: the histories try too little");
}
