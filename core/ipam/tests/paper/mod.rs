//! A node on paper, written down as text, and what the planner says about it as text.
//!
//! ```text
//!   settings   m5.large WARM_ENI=1 max_pods=18 foreign=1        also: PD WARM_PREFIX= WARM_IP= MIN_IP= MAX_ENI= waiting= expected= …
//!   state      E0 9/3; E1 [16,4,0] young; E2 9/9 [2]            9 single addresses, 3 with a pod; prefixes with so many pods each
//!   actions    E0 +9, E1 -2, new 3, E2 gone                     positions; those of the other unit say so: `E0 -2 singles`
//! ```
#![allow(dead_code)]

pub(crate) mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use vpc_ipam::{
    Action, Allocation, Demand, EniFacts, EniRole, EniUse, Held, Pending, Plan, Pool, PoolEni, Retired, SlotState,
    Taken, Target, Unit, WarmTarget, plan,
};
use vpc_model::{
    CardIndex, DeviceIndex, EniId, Ipv4Net, Mac, Millis, PodRef, Prefix28, SandboxKey, Slot, Subnet, Time,
    instance_limits,
};

pub(crate) const NONE: BTreeSet<Ipv4Addr> = BTreeSet::new();
/// How far apart two ticks are: the reference's least time between two rounds of giving back.
pub(crate) const TICK: Millis = Millis::seconds(30);

#[derive(Clone, Debug)]
pub(crate) struct Paper {
    pub(crate) target: Target,
    pub(crate) pool: Pool,
    pub(crate) pending: Pending,
    pub(crate) demand: Demand,
    pub(crate) now: Time,
    /// Fresh positions handed out, so that none comes twice.
    fresh: u32,
    pods: u32,
}

pub(crate) fn id(device: u8) -> EniId {
    format!("eni-{device}").parse().unwrap()
}

pub(crate) fn key(name: &str) -> SandboxKey {
    SandboxKey { network: "aws-cni".into(), container: name.into(), interface: "eth0".into() }
}

pub(crate) fn eni(device: u8, since: Time, slots: BTreeMap<Slot, SlotState>) -> PoolEni {
    let facts = EniFacts {
        id: id(device),
        mac: Mac([2, 0, 0, 0, 0, device]),
        card: CardIndex(0),
        device: DeviceIndex(device),
        subnet: Subnet::try_from("10.0.0.0/16".parse::<Ipv4Net>().unwrap()).unwrap(),
        subnet_id: Some("subnet-1".parse().unwrap()),
        primary: Ipv4Addr::new(10, device, 0, 5),
    };
    let (usage, role) = (EniUse::Ready, EniRole::Pods);
    PoolEni { facts, attachment: None, since, usage, role, keep: false, slots }
}

impl Paper {
    /// A node as settings and state say.
    pub(crate) fn read(settings: &str, state: &str) -> Self {
        let mut words = settings.split_whitespace();
        let instance_type = words.next().expect("an instance type");
        let limits = instance_limits(instance_type).unwrap_or_else(|| panic!("no type {instance_type}"));
        let mut target = Target {
            unit: Unit::Address,
            warm: WarmTarget::Enis(1),
            max_enis: limits.max_enis,
            slots_per_eni: limits.slots_per_eni(),
            max_pods: Some(110),
            cool_down: Millis::seconds(30),
            min_eni_age: Millis::seconds(60),
            release_every: Millis::seconds(30),
        };
        let now = Time(1_000_000);
        let mut pending = Pending::default();
        let mut demand = Demand::default();
        let (mut ips, mut no_eni) = ((0, 0), false);
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, "0"));
            let value: u32 = value.parse().unwrap_or_else(|_| panic!("`{word}`: a number"));
            match name {
                "PD" => target.unit = Unit::Prefix,
                "WARM_ENI" => target.warm = WarmTarget::Enis(value),
                "WARM_PREFIX" => target.warm = WarmTarget::Prefixes(value),
                "WARM_IP" => ips.0 = value,
                "MIN_IP" => ips.1 = value,
                "MAX_ENI" => target.max_enis = value,
                "max_pods" => target.max_pods = Some(value),
                "foreign" => pending.foreign_enis = value,
                "waiting" => demand.waiting = value,
                "returning" => demand.returning = value,
                "expected" => demand.expected = value,
                "at_most" => pending.at_most = Some(value),
                "released_ago" => pending.last_release = Some(now - Millis::seconds(value.into())),
                "no_growth" => pending.no_growth = true,
                "no_release" => pending.no_release = true,
                "no_eni" => no_eni = true,
                "eni_of_singles" => pending.new_eni = Some(Unit::Address),
                other => panic!("no setting `{other}`"),
            }
        }
        if ips != (0, 0) {
            target.warm = WarmTarget::Addresses { warm: ips.0, minimum: ips.1 };
        }
        if !no_eni && pending.new_eni.is_none() {
            pending.new_eni = Some(target.unit);
        }
        let mut paper = Self { target, pool: Pool::default(), pending, demand, now, fresh: 0, pods: 0 };
        state.split(';').filter(|eni| !eni.trim().is_empty()).for_each(|eni| paper.read_eni(eni.trim()));
        paper
    }

    /// `E1 9/3 [16,4,0] young rest=2 retired keep leaving setting_up single_only doubtful crowded refused missing=1 unconfirmed=1`
    fn read_eni(&mut self, text: &str) {
        let mut words = text.split_whitespace();
        let device: u8 = words.next().and_then(|name| name.strip_prefix('E')).expect("E0").parse().unwrap();
        let mut joins = eni(device, Time(0), BTreeMap::new());
        let (mut rests, mut marks) = (0, Vec::new());
        let mut pods: Vec<(Slot, u32)> = Vec::new();
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, "0"));
            match name {
                "young" => joins.since = self.now - Millis::seconds(30),
                "keep" => joins.keep = true,
                "leaving" => joins.usage = EniUse::Leaving,
                "setting_up" => joins.usage = EniUse::SettingUp,
                "retired" => joins.role = EniRole::Retired(Retired::SubnetExcluded),
                "not_ours" => joins.role = EniRole::Retired(Retired::NotOurs),
                "single_only" => drop(self.pending.single_only.insert(id(device))),
                "crowded" => drop(self.pending.crowded.insert(id(device))),
                "doubtful" => drop(self.pending.doubtful.insert((id(device), self.target.unit))),
                "refused" => drop(self.pending.refused.insert(id(device))),
                "assigning" => self.pending.assigning.push((id(device), self.target.unit, value.parse().unwrap())),
                "rest" => rests = value.parse().unwrap(),
                "missing" => marks.push((SlotState::Missing, value.parse::<usize>().unwrap())),
                "unconfirmed" => marks.push((SlotState::Unconfirmed, value.parse().unwrap())),
                "going" => marks.push((SlotState::Leaving, value.parse().unwrap())),
                _ => match word.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
                    Some(list) => {
                        let counts = list.split(',').filter(|count| !count.is_empty()).map(|c| c.parse().unwrap());
                        pods.extend(counts.map(|count| (self.fresh_slot(device, Unit::Prefix), count)));
                    }
                    None => {
                        let (all, held) = word.split_once('/').unwrap_or_else(|| panic!("no word `{word}`"));
                        let (all, held): (u32, u32) = (all.parse().unwrap(), held.parse().unwrap());
                        let slots = (0..all).map(|i| (self.fresh_slot(device, Unit::Address), u32::from(i < held)));
                        pods.extend(slots.collect::<Vec<_>>());
                    }
                },
            }
        }
        joins.slots = pods.iter().map(|(slot, _)| (*slot, SlotState::Held)).collect();
        for (state, count) in marks {
            joins.slots.values_mut().rev().take(count).for_each(|known| *known = state);
        }
        let table = joins.facts.table();
        self.pool.adopt(joins).unwrap();
        for (slot, count) in pods {
            for address in slot.addresses().take(count as usize) {
                self.pods += 1;
                let allocation = Allocation { address, device: DeviceIndex(device), table };
                let key = key(&format!("first-{}", self.pods));
                self.pool.restore(Held { key, pod: PodRef::default(), allocation, since: Time(0) }).unwrap();
            }
        }
        let free: Vec<Ipv4Addr> = self.pool.positions(&id(device)).flat_map(|at| at.slot.addresses()).collect();
        let free = free.into_iter().rev().filter(|address| self.pool.use_of(*address).is_none());
        for address in free.take(rests).collect::<Vec<_>>() {
            self.pool.restore_cooling(address, self.now, self.now + self.target.cool_down);
        }
    }

    pub(crate) fn fresh_slot(&mut self, device: u8, unit: Unit) -> Slot {
        self.fresh += 1;
        match unit {
            Unit::Address => {
                Slot::Address(Ipv4Addr::from_bits(0x0a00_0010 + u32::from(device) * 0x1_0000 + self.fresh))
            }
            Unit::Prefix => {
                let first = Ipv4Addr::from_bits(0x6440_0000 + u32::from(device) * 0x2_0000 + self.fresh * 16);
                Slot::Prefix(Prefix28::containing(first))
            }
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.target, &self.pool, &self.pending, self.demand, self.now)
    }

    /// What the planner says, as text.
    pub(crate) fn says(&self) -> String {
        self.text(&self.plan().actions)
    }

    pub(crate) fn text(&self, actions: &[Action]) -> String {
        let name = |id: &EniId| format!("E{}", self.pool.eni(id).unwrap().facts.device);
        let unit = |unit: Unit| match unit {
            _ if unit == self.target.unit => "",
            Unit::Address => " singles",
            Unit::Prefix => " prefixes",
        };
        let mut words: Vec<String> = actions
            .iter()
            .map(|action| match action {
                Action::Assign { eni, unit: of, count } => format!("{} +{count}{}", name(eni), unit(*of)),
                Action::NewEni { unit: of, count } => format!("new {count}{}", unit(*of)),
                Action::Release { eni, slots } => {
                    format!("{} -{}{}", name(eni), slots.len(), unit(Unit::of(slots[0])))
                }
                Action::ReleaseEni { eni } => format!("{} gone", name(eni)),
            })
            .collect();
        words.sort();
        if words.is_empty() { "-".into() } else { words.join(", ") }
    }

    /// Does at once what the planner asked for, and checks that it may be done.
    pub(crate) fn carry_out(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Assign { eni, unit, count } => {
                    // All are of one subnet: it gives something again.
                    self.pending.doubtful.retain(|(_, of)| *unit == Unit::Address && *of == Unit::Prefix);
                    let device = self.pool.eni(eni).unwrap().facts.device.0;
                    let slots: Vec<Slot> = (0..*count).map(|_| self.fresh_slot(device, *unit)).collect();
                    self.pool.admit(eni, slots).unwrap();
                    self.check_limits(eni);
                }
                Action::NewEni { unit, count } => {
                    let device = (1..).find(|device| self.pool.eni(&id(*device)).is_none()).unwrap();
                    let slots = (0..*count).map(|_| (self.fresh_slot(device, *unit), SlotState::Held)).collect();
                    self.pool.adopt(eni(device, self.now, slots)).unwrap();
                    self.check_limits(&id(device));
                }
                Action::Release { eni, slots } => {
                    assert!(!slots.is_empty(), "a release of nothing");
                    assert!(slots.iter().all(|slot| Unit::of(*slot) == Unit::of(slots[0])), "two units in one call");
                    for slot in slots {
                        assert_eq!(self.pool.position(*slot).map(|at| at.state), Some(SlotState::Held));
                        self.pool.forget_slot(eni, *slot).unwrap();
                    }
                    self.pending.last_release = Some(self.now);
                }
                Action::ReleaseEni { eni } => {
                    let gone = self.pool.remove(eni).unwrap();
                    assert!(!gone.facts.is_primary() && !gone.keep);
                    assert!(self.now.since(gone.since) >= self.target.min_eni_age);
                }
            }
        }
        let attached = self.pool.enis().len() as u32 + self.pending.foreign_enis;
        let grew = actions.iter().any(|action| matches!(action, Action::NewEni { .. }));
        assert!(!grew || attached <= self.target.max_enis, "{attached} ENIs");
    }

    fn check_limits(&self, eni: &EniId) {
        let used = self.pool.eni(eni).unwrap().slots.values().filter(|state| **state != SlotState::Missing).count();
        assert!(used as u32 <= self.target.slots_per_eni, "{eni} has {used} positions");
    }

    /// Gives waiting pods what is free.
    pub(crate) fn serve(&mut self) {
        while self.demand.waiting > 0 && self.start_pod() {
            self.demand.waiting -= 1;
        }
    }

    pub(crate) fn start_pod(&mut self) -> bool {
        self.pods += 1;
        let key = key(&format!("pod-{}", self.pods));
        matches!(self.pool.take(&key, &PodRef::default(), self.now, self.target.unit, &NONE), Taken::Fresh(_))
    }

    pub(crate) fn pass(&mut self, time: Millis) {
        self.now = self.now + time;
        self.pool.end_rests(self.now);
    }

    /// Plans, does it and serves until the planner wants nothing more now or ever; the answer is what it did, round by round.
    pub(crate) fn settle(&mut self) -> Vec<Vec<Action>> {
        let mut rounds = Vec::new();
        loop {
            let plan = self.plan();
            match plan.again_at {
                _ if !plan.actions.is_empty() => {}
                Some(at) => {
                    assert!(at > self.now, "again at once");
                    self.pass(at.since(self.now));
                    continue;
                }
                None => return rounds,
            }
            self.carry_out(&plan.actions);
            rounds.push(plan.actions);
            self.serve();
            assert!(rounds.len() < 100, "it does not come to rest: {rounds:?}");
        }
    }

    /// `3,2 unused 22 free 1`: positions of each ENI by place, free addresses, prefixes nothing is on.
    pub(crate) fn holdings(&self) -> String {
        let mut enis: Vec<&PoolEni> = self.pool.enis().collect();
        enis.sort_by_key(|eni| eni.facts.device);
        let positions: Vec<String> = enis.iter().map(|eni| eni.slots.len().to_string()).collect();
        let stats = self.pool.stats();
        let prefixes = match self.target.unit {
            Unit::Address => String::new(),
            Unit::Prefix => format!(" free {}", stats.prefixes.empty),
        };
        format!("{} unused {}{prefixes}", positions.join(","), stats.ready)
    }
}
