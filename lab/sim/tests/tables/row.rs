//! A row of `cases.txt` as a whole node understands it.

use vpc_agent::Config;
use vpc_ipam::{Unit, WarmTarget};

/// One line of the file.
pub(crate) struct Row<'a> {
    pub(crate) id: &'a str,
    pub(crate) settings: Settings,
    pub(crate) state: State,
    /// What may be done, each as its ticks one after the other, or how it may be at rest.
    pub(crate) ways: Vec<&'a str>,
    pub(crate) verdict: Verdict<'a>,
}

pub(crate) enum Verdict<'a> {
    Equal,
    Different(&'a str),
    /// Checked elsewhere, and why.
    Elsewhere(&'a str),
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) kind: String,
    pub(crate) prefixes: bool,
    pub(crate) warm: WarmTarget,
    pub(crate) max_enis: Option<u32>,
    pub(crate) max_pods: u32,
    pub(crate) foreign: bool,
    pub(crate) waiting: u32,
    pub(crate) idle: bool,
    pub(crate) released_ago: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    /// From an empty node, at rest with so many pods.
    Pods(u32),
    Enis(Vec<Eni>),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Eni {
    pub(crate) device: u8,
    /// Pods on each position.
    pub(crate) pods: Vec<u32>,
    pub(crate) rest: u32,
    pub(crate) young: bool,
    pub(crate) retired: bool,
}

impl<'a> Row<'a> {
    pub(crate) fn read(line: &'a str) -> Self {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let &[id, settings, state, reference, ours, verdict] = columns.as_slice() else {
            panic!("six columns: {line}")
        };
        let (kind, why) = verdict.split_once(": ").unwrap_or((verdict, ""));
        let verdict = match kind.split_once(' ') {
            None if kind == "equal" => Verdict::Equal,
            Some(("different", _)) => Verdict::Different(why),
            _ => Verdict::Elsewhere(why),
        };
        let ways = if ours == "=" { reference } else { ours }.split(" or ").collect();
        let (settings, state) = match verdict {
            Verdict::Elsewhere(_) => (Settings::read("m5.large"), State::Pods(0)),
            _ => (Settings::read(settings), State::read(state)),
        };
        Self { id, settings, state, ways, verdict }
    }
}

impl Settings {
    fn read(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let mut read = Self {
            kind: words.next().unwrap().to_owned(),
            prefixes: false,
            warm: WarmTarget::Enis(1),
            max_enis: None,
            max_pods: 110,
            foreign: false,
            waiting: 0,
            idle: false,
            released_ago: false,
        };
        let (mut warm_ip, mut min_ip) = (0, 0);
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, "0"));
            let value: u32 = value.parse().unwrap();
            match name {
                "PD" => read.prefixes = true,
                "WARM_ENI" => read.warm = WarmTarget::Enis(value),
                "WARM_PREFIX" => read.warm = WarmTarget::Prefixes(value),
                "WARM_IP" => warm_ip = value,
                "MIN_IP" => min_ip = value,
                "MAX_ENI" => read.max_enis = Some(value),
                "max_pods" => read.max_pods = value,
                "foreign" => read.foreign = true,
                "waiting" => read.waiting = value,
                "no_growth" | "no_release" => read.idle = true,
                "released_ago" => read.released_ago = true,
                other => panic!("no setting `{other}`"),
            }
        }
        if warm_ip + min_ip > 0 {
            read.warm = WarmTarget::Addresses { warm: warm_ip, minimum: min_ip };
        }
        read
    }

    pub(crate) fn unit(&self) -> Unit {
        if self.prefixes { Unit::Prefix } else { Unit::Address }
    }

    pub(crate) fn apply(&self, config: &mut Config) {
        config.target.unit = self.unit();
        config.target.warm = self.warm;
        config.target.max_enis = self.max_enis.unwrap_or(config.target.max_enis);
        config.target.max_pods = Some(self.max_pods);
    }
}

impl State {
    fn read(text: &str) -> Self {
        match text.strip_suffix(" pods") {
            Some(pods) => Self::Pods(pods.parse().unwrap()),
            None => Self::Enis(text.split(';').map(|eni| Eni::read(eni.trim())).collect()),
        }
    }
}

impl Eni {
    fn read(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let device = words.next().unwrap().strip_prefix('E').unwrap().parse().unwrap();
        let mut eni = Self { device, ..Self::default() };
        for word in words {
            if let Some(list) = word.strip_prefix('[') {
                let counts = list.trim_end_matches(']').split(',').filter(|count| !count.is_empty());
                eni.pods = counts.map(|count| count.parse().unwrap()).collect();
            } else if let Some((all, held)) = word.split_once('/') {
                let (all, held): (usize, usize) = (all.parse().unwrap(), held.parse().unwrap());
                eni.pods = (0..all).map(|n| u32::from(n < held)).collect();
            } else if let Some(rest) = word.strip_prefix("rest=") {
                eni.rest = rest.parse().unwrap();
            } else {
                match word {
                    "young" => eni.young = true,
                    "retired" => eni.retired = true,
                    other => panic!("no word `{other}`"),
                }
            }
        }
        eni
    }
}

/// What a way leads to: positions of each ENI by place, and how many calls of each kind are made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) positions: Vec<(u8, usize)>,
    /// Assign, create, unassign, delete.
    pub(crate) calls: [usize; 4],
}

/// Does on paper what a way says.
pub(crate) fn follow(enis: &[Eni], foreign: Option<u8>, way: &str) -> Outcome {
    let mut positions: Vec<(u8, usize)> = enis.iter().map(|eni| (eni.device, eni.pods.len())).collect();
    let mut calls = [0; 4];
    let actions = way.split(" / ").flat_map(|tick| tick.split(", ")).filter(|action| *action != "-");
    for action in actions {
        let (what, how) = action.split_once(' ').unwrap();
        let count = |text: &str| text.parse::<usize>().unwrap();
        if what == "new" {
            let taken = |device: &u8| positions.iter().any(|(at, _)| at == device) || foreign == Some(*device);
            let device = (1..).find(|device| !taken(device)).unwrap();
            positions.push((device, count(how)));
            calls[1] += 1;
            continue;
        }
        let device: u8 = what.strip_prefix('E').unwrap().parse().unwrap();
        let at = positions.iter().position(|(at, _)| *at == device).unwrap();
        match how.split_at(1) {
            ("+", n) => {
                positions[at].1 += count(n);
                calls[0] += 1;
            }
            ("-", n) => {
                positions[at].1 -= count(n);
                calls[2] += 1;
            }
            _ => {
                positions.remove(at);
                calls[3] += 1;
            }
        }
    }
    positions.sort_unstable();
    Outcome { positions, calls }
}
