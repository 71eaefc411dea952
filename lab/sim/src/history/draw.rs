//! Histories from seeds.
//!
//! What a history has of each kind is drawn first (how many pods, how busy, which features), then its acts one after another.

use std::collections::BTreeSet;

use lab_cloud::{CloudFault, ErrorWhen};
use vpc_model::{Ipv4Net, instance_limits};

use super::settings::Ec2;
use super::{Act, Blind, Buckets, Feature, History, Kill, NodePlan, Outsider, Pace, Settings, Timed, Warm};
use crate::dice::Dice;
use crate::world::NodeAt;

/// Types of instances that differ in what matters: ENIs, positions, prefixes or none.
const TYPES: [&str; 8] =
    ["t3.small", "t3.medium", "m5.large", "c5.xlarge", "c5.4xlarge", "m4.large", "t3.nano", "m5.xlarge"];
/// Actions that daemons use.
const ACTIONS: [&str; 11] = [
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "DetachNetworkInterface",
    "DeleteNetworkInterface",
    "DescribeNetworkInterfaces",
    "DescribeSubnets",
    "CreateTags",
    "ModifyNetworkInterfaceAttribute",
    "*",
];
/// Of these, the ones that change something.
const CHANGING: [&str; 8] =
    [ACTIONS[0], ACTIONS[1], ACTIONS[2], ACTIONS[3], ACTIONS[4], ACTIONS[5], ACTIONS[8], ACTIONS[9]];
/// Of a hundred acts, so many are not about pods, if there is a feature that has any.
const TROUBLE_PERCENT: u64 = 6;
/// Of a hundred acts about pods, so many are STATUS, CHECK, GC or plugins that fail, where there are any.
const VERB_PERCENT: u64 = 8;
/// Of a hundred acts about pods, so many are tides where there are any.
const TIDE_PERCENT: u64 = 2;

impl History {
    /// The history of a seed, of about so many acts. The same for the same arguments, always.
    #[must_use]
    pub fn draw(seed: u64, acts: u32) -> Self {
        Self::draw_of(seed, acts, &Feature::ALL.into())
    }

    /// The same, of these kinds of trouble only.
    #[must_use]
    pub fn draw_of(seed: u64, acts: u32, kinds: &BTreeSet<Feature>) -> Self {
        // Files keep signed numbers.
        let seed = seed & (u64::MAX >> 1);
        let mut dice = Dice::new(seed ^ 0x4849_5354_4f52_5953);
        let features: BTreeSet<Feature> = {
            // Seldom none, seldom all.
            let most = 1 + dice.roll(99);
            let mut has = |feature: &Feature| match feature {
                // By a die of its own, for half of the histories: calls to EC2 are rare without them.
                Feature::Tides => Dice::new(seed).chance(50),
                // So that histories without it stay what they were.
                Feature::Verbs => Dice::new(seed ^ 0x5645_5242_5300).chance(50),
                _ => dice.roll(100) < most,
            };
            Feature::ALL.into_iter().filter(|feature| has(feature) && kinds.contains(feature)).collect()
        };
        let has = |feature| features.contains(&feature);
        let count = if has(Feature::ManyNodes) { 2 + dice.roll(3) } else { 1 };
        let custom = has(Feature::CustomNetworking);
        let nodes: Vec<NodePlan> = (0..count)
            .map(|_| NodePlan {
                instance_type: (*dice.pick(&TYPES)).to_owned(),
                start_ms: dice.roll(3_000),
                settings: Settings::draw(&mut dice, custom),
            })
            .collect();
        let pace = *dice.pick(&[Pace::Instant, Pace::Aws, Pace::Aws, Pace::Slow]);
        let pace = if pace == Pace::Slow && !has(Feature::Latency) { Pace::Aws } else { pace };
        let buckets = match has(Feature::Throttling) {
            true => *dice.pick(&[Buckets::Aws, Buckets::Tight]),
            false => Buckets::Off,
        };
        let mut history = Self {
            seed,
            pace,
            lagging: has(Feature::Lagging),
            buckets,
            subnet: subnet(&mut dice, has(Feature::SubnetPressure)),
            disk_ms: if has(Feature::DiskTrouble) { *dice.pick(&[1, 20, 300, 2_000]) } else { 1 },
            calm_ms: 0,
            features,
            nodes,
            acts: Vec::new(),
        };
        Drawing::new(&mut dice, &mut history).acts(acts);
        history
    }
}

impl Settings {
    /// Settings somebody may have.
    fn draw(dice: &mut Dice, custom_networking: bool) -> Self {
        let warm = match dice.roll(10) {
            0..3 => Warm::Enis(dice.small(3)),
            3..5 => Warm::Prefixes(dice.small(4)),
            5..9 => Warm::Addresses { warm: dice.small(30), minimum: dice.small(60) },
            _ => Warm::Enis(1),
        };
        let some = |dice: &mut Dice, least: u64, more: u64| u32::try_from(least + dice.roll(more)).unwrap_or(u32::MAX);
        Self {
            prefixes: dice.chance(40),
            warm,
            max_enis: dice.chance(25).then(|| some(dice, 1, 6)),
            max_pods: dice.chance(40).then(|| some(dice, 4, 110)),
            cool_down_ms: *dice.pick(&[0, 2_000, 30_000, 30_000, 90_000]),
            add_wait_ms: *dice.pick(&[0, 2_000, 15_000, 15_000, 45_000]),
            min_eni_age_ms: *dice.pick(&[0, 5_000, 60_000, 60_000]),
            release_every_ms: *dice.pick(&[0, 1_000, 30_000, 30_000]),
            audit_every_ms: *dice.pick(&[10_000, 60_000, 60_000, 300_000]),
            ec2: match dice.roll(20) {
                0 => Ec2::Off,
                1 => Ec2::ReadOnly,
                2 => Ec2::NoRelease,
                _ => Ec2::Full,
            },
            custom_networking: custom_networking && dice.chance(80),
            look_ahead: dice.chance(60),
            manage_untagged: dice.chance(80),
        }
    }
}

/// Usually roomy; under pressure a subnet that a few nodes fill.
fn subnet(dice: &mut Dice, tight: bool) -> Ipv4Net {
    let length = if tight { *dice.pick(&[28, 27, 26, 25, 24]) } else { 20 };
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 20, 128, 0), length)
}

/// How many pods a node has, about: at times half as many again as it can serve. More would only ask again and again.
fn level(dice: &mut Dice, plan: &NodePlan) -> u64 {
    let own = instance_limits(&plan.instance_type);
    let (enis, slots) = own.map_or((1, 1), |own| (own.max_enis, own.slots_per_eni()));
    let unit = if plan.settings.prefixes { 16 } else { 1 };
    let room = enis.min(plan.settings.max_enis.unwrap_or(enis)) * slots * unit;
    u64::from(dice.small(80).min(room + room / 2)) + 1
}

/// A history that is being drawn.
struct Drawing<'a> {
    dice: &'a mut Dice,
    history: &'a mut History,
    /// Features that have acts of their own.
    troubles: Vec<Feature>,
    /// Pods that are there, by node.
    pods: Vec<Vec<String>>,
    /// Pods each node has, about.
    most: Vec<u64>,
    /// Pods made so far.
    made: u64,
    at_ms: u64,
    /// Mean time between two acts, in milliseconds.
    gap_ms: u64,
}

impl<'a> Drawing<'a> {
    fn new(dice: &'a mut Dice, history: &'a mut History) -> Self {
        let acting = |feature: &Feature| {
            !matches!(
                feature,
                Feature::Bursts
                    | Feature::OddSandboxes
                    | Feature::Throttling
                    | Feature::Lagging
                    | Feature::ManyNodes
                    | Feature::CustomNetworking
                    | Feature::Tides
                    | Feature::Verbs
            )
        };
        let troubles = history.features.iter().copied().filter(acting).collect();
        let count = history.nodes.len();
        Self {
            troubles,
            pods: vec![Vec::new(); count],
            most: history.nodes.iter().map(|plan| level(dice, plan)).collect(),
            made: 0,
            at_ms: 0,
            gap_ms: *dice.pick(&[20, 60, 200, 200, 700, 3_000]),
            dice,
            history,
        }
    }

    fn acts(mut self, count: u32) {
        for _ in 0..count {
            self.at_ms += self.dice.roll(2 * self.gap_ms);
            if !self.troubles.is_empty() && self.dice.chance(TROUBLE_PERCENT) {
                let feature = *self.dice.pick(&self.troubles);
                self.trouble(feature);
            } else {
                self.pod();
            }
        }
        self.history.calm_ms = self.at_ms + 1_000;
    }

    fn push(&mut self, act: Act) {
        self.history.acts.push(Timed { at_ms: self.at_ms, act });
    }

    fn node(&mut self) -> NodeAt {
        NodeAt(usize::try_from(self.dice.roll(self.history.nodes.len() as u64)).unwrap_or_default())
    }

    fn has(&self, feature: Feature) -> bool {
        self.history.features.contains(&feature)
    }

    // -- pods ----------------------------------------------------------------------------------------------------------

    fn pod(&mut self) {
        let node = self.node();
        let there = self.pods[node.0].len() as u64;
        if self.has(Feature::Tides) && self.dice.chance(TIDE_PERCENT) {
            return self.tide(node);
        }
        if self.has(Feature::Verbs) && self.dice.chance(VERB_PERCENT) {
            return self.verb(node);
        }
        if there > 0 && self.has(Feature::OddSandboxes) && self.dice.chance(15) {
            return self.odd_sandbox(node);
        }
        // Around the number that is wanted, half of the acts end a pod.
        let come = there == 0 || self.dice.roll(2 * self.most[node.0]) >= there;
        if come {
            let many = if self.has(Feature::Bursts) && self.dice.chance(3) { 5 + self.dice.roll(30) } else { 1 };
            (0..many).for_each(|_| self.add(node));
        } else {
            let pod = self.leave(node);
            self.push(Act::Delete { node, pod });
        }
    }

    fn add(&mut self, node: NodeAt) {
        self.made += 1;
        let pod = format!("p{}", self.made);
        self.pods[node.0].push(pod.clone());
        self.push(Act::Add { node, pod });
    }

    fn leave(&mut self, node: NodeAt) -> String {
        let index = self.dice.roll(self.pods[node.0].len() as u64);
        self.pods[node.0].swap_remove(usize::try_from(index).unwrap_or_default())
    }

    /// Most pods go; after a while, in which the node may give back what they had, others come, up to another level.
    fn tide(&mut self, node: NodeAt) {
        self.trouble_now();
        let stay = self.dice.small(u32::try_from(self.pods[node.0].len()).unwrap_or(u32::MAX)) as usize;
        while self.pods[node.0].len() > stay {
            let pod = self.leave(node);
            self.push(Act::Delete { node, pod });
        }
        self.most[node.0] = level(self.dice, &self.history.nodes[node.0]);
        self.at_ms += *self.dice.pick(&[0, 3_000, 40_000, 150_000]);
        self.trouble_now();
        if self.dice.chance(50) {
            (0..self.dice.roll(self.most[node.0])).for_each(|_| self.add(node));
        }
    }

    /// Something goes wrong just when there is most to do, often.
    fn trouble_now(&mut self) {
        if !self.troubles.is_empty() && self.dice.chance(50) {
            let feature = *self.dice.pick(&self.troubles);
            self.trouble(feature);
        }
    }

    fn verb(&mut self, node: NodeAt) {
        let act = match self.dice.roll(3) {
            0 => Act::Collect { node, late_ms: *self.dice.pick(&[0, 5, 50, 500, 3_000]) },
            1 if !self.pods[node.0].is_empty() => {
                Act::Inquire { node, pod: self.dice.pick(&self.pods[node.0]).clone() }
            }
            _ => Act::FailWiring { node, times: 1 + self.dice.small(3) },
        };
        self.push(act);
    }

    fn odd_sandbox(&mut self, node: NodeAt) {
        let pod = self.dice.pick(&self.pods[node.0]).clone();
        let act = match self.dice.roll(4) {
            0 => Act::LoseSandbox { node, pod },
            1 => Act::AddAgain { node, pod },
            2 => Act::DeleteOld { node, pod },
            _ => Act::DeleteGone { node, pick: self.dice.small(50) },
        };
        self.push(act);
    }

    // -- trouble -------------------------------------------------------------------------------------------------------

    /// Seconds, mostly; minutes at times.
    fn span_ms(&mut self) -> u64 {
        match self.dice.roll(10) {
            0..6 => 500 + self.dice.roll(10_000),
            6..9 => self.dice.roll(60_000),
            _ => self.dice.roll(300_000),
        }
    }

    fn name(&mut self) -> String {
        let node = self.node();
        History::node_name(node)
    }

    fn fault(&mut self, fault: CloudFault) {
        let for_ms = self.span_ms();
        self.push(Act::Fault { fault, for_ms });
    }

    /// It ends when so many calls have failed: calls are far between at times.
    fn failing(&mut self, when: ErrorWhen) {
        // Carried out or not: that differs only for calls that change something.
        let actions = if when == ErrorWhen::After { &CHANGING[..] } else { &ACTIONS[..] };
        // Who is throttled is not served.
        let codes = ["InternalError", "ServerInternal", "Unavailable", "RequestLimitExceeded"];
        let code = *self.dice.pick(if when == ErrorWhen::After { &codes[..3] } else { &codes[..] });
        let fault = CloudFault::Error {
            action: (*self.dice.pick(actions)).to_owned(),
            node: None,
            code: code.to_owned(),
            message: None,
            status: None,
            when,
            skip: self.dice.small(4),
            // The client itself asks three times.
            times: Some(*self.dice.pick(&[1, 2, 3, 6, 20])),
        };
        let for_ms = 10_000 + self.dice.roll(300_000);
        self.push(Act::Fault { fault, for_ms });
    }

    fn trouble(&mut self, feature: Feature) {
        let node = self.node();
        match feature {
            Feature::Latency => {
                let (add_ms, jitter_ms) = (self.dice.roll(3_000), self.dice.roll(15_000));
                let action = (*self.dice.pick(&ACTIONS)).to_owned();
                self.fault(CloudFault::Latency { action, node: None, add_ms, jitter_ms });
            }
            Feature::ErrorsBefore => self.failing(ErrorWhen::Before),
            Feature::ErrorsAfter => self.failing(ErrorWhen::After),
            Feature::LostAnswers => self.failing(ErrorWhen::Lost),
            Feature::Denials => {
                let action = (*self.dice.pick(&ACTIONS)).to_owned();
                // Somebody has to find out.
                let for_ms = 5_000 + self.dice.roll(150_000);
                self.push(Act::Fault { fault: CloudFault::Deny { action, node: None }, for_ms });
            }
            Feature::StaleMetadata if self.has(Feature::Kills) && self.dice.chance(50) => self.start_in_the_past(node),
            Feature::StaleMetadata => {
                let node = self.name();
                self.fault(CloudFault::ImdsStale { node });
            }
            Feature::PartialMetadata => {
                let name = self.name();
                let fault = match self.dice.roll(3) {
                    0 => CloudFault::ImdsPartial { node: name },
                    1 => CloudFault::ImdsHollow { node: name },
                    _ => CloudFault::ImdsMissing { node: name, device: self.dice.chance(50).then_some(1) },
                };
                self.fault(fault);
            }
            Feature::ReorderedMetadata => {
                let node = self.name();
                self.fault(CloudFault::ImdsReordered { node });
            }
            Feature::MetadataAway => {
                let name = self.name();
                let fault = match self.dice.roll(3) {
                    0 => CloudFault::ImdsUnauthorized { node: name },
                    1 => CloudFault::ImdsError { node: name, status: *self.dice.pick(&[403, 500, 503]) },
                    _ => CloudFault::ImdsSlow { node: name, by_ms: self.dice.roll(4_000) },
                };
                self.fault(fault);
            }
            Feature::SlowDevices => {
                let fault = match self.dice.chance(50) {
                    true => CloudFault::AttachStuck { node: None },
                    false => CloudFault::DetachSlow { node: None, by_ms: self.dice.roll(60_000) },
                };
                self.fault(fault);
            }
            Feature::SubnetPressure => {
                let (subnet, leave) = ("history".to_owned(), self.dice.small(6));
                let fault = match self.dice.chance(50) {
                    true => CloudFault::SubnetExhausted { subnet, leave },
                    false => CloudFault::SubnetFragmented { subnet, leave },
                };
                self.fault(fault);
            }
            Feature::Kills => self.kill(node),
            Feature::Reboots if self.dice.chance(20) => self.push(Act::Reboot { node }),
            Feature::Reboots => {}
            Feature::ClockJumps => {
                let far = i64::try_from(self.dice.roll(7_200_000)).unwrap_or_default();
                let by_ms = if self.dice.chance(50) { far } else { -far };
                self.push(Act::Clock { by_ms });
            }
            Feature::Outsiders => {
                let what = *self.dice.pick(&[
                    Outsider::TakeAddress,
                    Outsider::TakeAddress,
                    Outsider::TakeEni,
                    Outsider::TakeTags,
                    Outsider::GiveAddress,
                    Outsider::ChangeGroups,
                    Outsider::ChangeGroups,
                ]);
                let pick = self.dice.small(100);
                self.push(Act::Outside { node, what, pick });
            }
            Feature::Settings => {
                let custom = self.history.nodes[node.0].settings.custom_networking;
                let prefixes = self.history.nodes[node.0].settings.prefixes;
                let settings = Settings { prefixes, custom_networking: custom, ..Settings::draw(self.dice, custom) };
                self.push(Act::Settings { node, settings: Box::new(settings) });
            }
            Feature::ModeSwitches => {
                let settings = &mut self.history.nodes[node.0].settings.clone();
                settings.prefixes = self.dice.chance(50);
                self.push(Act::Settings { node, settings: Box::new(settings.clone()) });
            }
            Feature::ApiAway => {
                let answers = self.dice.chance(50);
                self.push(Act::Api { answers });
            }
            Feature::NodeNews => {
                let unschedulable = self.dice.chance(30);
                let max_pods = self.dice.chance(50).then(|| 4 + self.dice.small(110));
                self.push(Act::NodeObject { node, unschedulable, max_pods });
            }
            Feature::DiskTrouble if self.dice.chance(5) => self.push(Act::DiskLost { node }),
            Feature::DiskTrouble => {
                let for_ms = self.span_ms();
                self.push(Act::DiskFull { node, for_ms });
            }
            Feature::HostTrouble => {
                let act = match self.dice.chance(50) {
                    true => {
                        let how = *self.dice.pick(&[Blind::Whole, Blind::Changes]);
                        Act::HostFails { node, how, for_ms: self.span_ms() }
                    }
                    false => Act::RulesLost { node, every: 1 + self.dice.small(6) },
                };
                self.push(act);
            }
            Feature::Bursts
            | Feature::OddSandboxes
            | Feature::Throttling
            | Feature::Lagging
            | Feature::ManyNodes
            | Feature::CustomNetworking
            | Feature::Tides
            | Feature::Verbs => {}
        }
    }

    /// The metadata stay what they are while the node gives things back; the daemon that starts then sees what was, and EC2 takes its
    /// time to say what is.
    fn start_in_the_past(&mut self, node: NodeAt) {
        let name = History::node_name(node);
        self.push(Act::Fault { fault: CloudFault::ImdsStale { node: name }, for_ms: 400_000 });
        self.tide(node);
        self.at_ms += self.dice.roll(90_000);
        if self.dice.chance(70) {
            let describe = "DescribeNetworkInterfaces".to_owned();
            let (add_ms, jitter_ms) = (1_000, self.dice.roll(8_000));
            let slow = CloudFault::Latency { action: describe, node: None, add_ms, jitter_ms };
            self.push(Act::Fault { fault: slow, for_ms: 60_000 });
        }
        self.push(Act::Kill { node, after: 0, when: Kill::Before, away_ms: 100 });
        self.at_ms += 1_000;
        let come = 1 + self.dice.roll(20);
        (0..come).for_each(|_| self.add(node));
    }

    fn kill(&mut self, node: NodeAt) {
        let away_ms = *self.dice.pick(&[0, 100, 1_000, 10_000, 60_000]);
        if self.dice.chance(20) {
            // Who asks may ask twice.
            let times = if self.dice.chance(20) { 2 } else { 1 };
            return (0..times).for_each(|_| self.push(Act::Terminate { node, away_ms }));
        }
        let when = *self.dice.pick(&[Kill::Before, Kill::Begun, Kill::Done]);
        let after = self.dice.small(20);
        self.push(Act::Kill { node, after, when, away_ms });
    }
}
