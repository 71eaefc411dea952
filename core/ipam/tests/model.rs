//! The pool against a naive model of it ([`naive`]) on random histories: ENIs and positions come, go and are marked, sandboxes take,
//! release and are restored, rests end or not, what the planner asks for is begun and then done, refused or done by half, settings
//! change, time passes. After every step all that can be asked of the pool is asked, and is what the model says; where the pool is free
//! to choose, its choice is one of the model's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "model/naive.rs"]
mod naive;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use naive::{Naive, Next, No, addresses_of, unit_of};
use proptest::prelude::*;
use vpc_ipam::{
    Action, Allocation, Demand, EniFacts, EniRole, EniUse, Held, Pending, Pool, PoolEni, PoolError, Position, Retired,
    SlotState, Taken, Target, Unit, Use, Violation, WarmTarget, plan,
};
use vpc_model::{
    AttachmentId, CardIndex, DeviceIndex, EniId, Ipv4Net, Mac, Millis, PodRef, Prefix28, SandboxKey, Slot, Subnet, Time,
};

/// ENIs that may be on the node.
const ENIS: u8 = 4;
/// Sandboxes that may be there.
const KEYS: u8 = 24;
const SLOTS_PER_ENI: u32 = 5;
const UNITS: [Unit; 2] = [Unit::Address, Unit::Prefix];
const STATES: [SlotState; 4] = [SlotState::Held, SlotState::Unconfirmed, SlotState::Missing, SlotState::Leaving];

#[derive(Clone, Debug)]
enum Step {
    Adopt {
        eni: u8,
        usage: EniUse,
        role: EniRole,
        keep: bool,
        slots: Vec<(u8, SlotState)>,
    },
    Admit {
        eni: u8,
        slots: Vec<u8>,
    },
    Mark {
        eni: u8,
        slots: Vec<u8>,
        state: SlotState,
    },
    Use(u8, EniUse),
    Role(u8, EniRole, bool),
    Renew(u8),
    Attached(u8, u8),
    Forget(u8, u8),
    MakeWay {
        eni: u8,
        slots: Vec<u8>,
        sure: bool,
    },
    Remove(u8),
    Take {
        key: u8,
        barred: Vec<u8>,
    },
    Release(u8),
    Restore(u8, u8),
    RestoreCooling(u8, u64),
    EndRest(u8),
    EndRests,
    Pass(u64),
    /// Plans with so many waiting pods, and begins what the planner wants.
    Plan {
        waiting: u32,
        grows: bool,
        gives_back: bool,
    },
    /// One of the things begun is answered.
    Answer(u8, Fate),
    Settings {
        unit: Unit,
        warm: WarmTarget,
        max_enis: u32,
        max_pods: Option<u32>,
        cool_down: u64,
    },
    Changes,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Done,
    Half,
    Refused,
}

// -- drawing ---------------------------------------------------------------------------------------------------------------

fn slot_state() -> impl Strategy<Value = SlotState> {
    prop_oneof![
        5 => Just(SlotState::Held), 1 => Just(SlotState::Unconfirmed), 1 => Just(SlotState::Missing), 1 => Just(SlotState::Leaving)
    ]
}

fn usage() -> impl Strategy<Value = EniUse> {
    prop_oneof![
        5 => Just(EniUse::Ready), 1 => Just(EniUse::SettingUp), 1 => Just(EniUse::Doubtful), 1 => Just(EniUse::Leaving)
    ]
}

fn role() -> impl Strategy<Value = EniRole> {
    prop_oneof![
        4 => Just(EniRole::Pods),
        1 => Just(EniRole::Retired(Retired::SubnetExcluded)),
        1 => Just(EniRole::Retired(Retired::NotOurs)),
    ]
}

fn warm() -> impl Strategy<Value = WarmTarget> {
    prop_oneof![
        (0u32..3).prop_map(WarmTarget::Enis),
        (0u32..4).prop_map(WarmTarget::Prefixes),
        (0u32..12, 1u32..20).prop_map(|(warm, minimum)| WarmTarget::Addresses { warm, minimum }),
        (1u32..12).prop_map(|warm| WarmTarget::Addresses { warm, minimum: 0 }),
    ]
}

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof![Just(Unit::Address), Just(Unit::Prefix)]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![4 => Just(Fate::Done), 1 => Just(Fate::Half), 2 => Just(Fate::Refused)]
}

fn step() -> impl Strategy<Value = Step> {
    use proptest::collection::vec;
    let (slots, addresses) = (universe().len() as u8, all_addresses().len() as u8);
    prop_oneof![
        4 => (0..ENIS, usage(), role(), any::<bool>(), vec((0..slots, slot_state()), 0..5))
            .prop_map(|(eni, usage, role, keep, slots)| Step::Adopt { eni, usage, role, keep, slots }),
        6 => (0..ENIS, vec(0..slots, 1..4)).prop_map(|(eni, slots)| Step::Admit { eni, slots }),
        3 => (0..ENIS, vec(0..slots, 1..4), slot_state())
            .prop_map(|(eni, slots, state)| Step::Mark { eni, slots, state }),
        3 => (0..ENIS, usage()).prop_map(|(eni, usage)| Step::Use(eni, usage)),
        2 => (0..ENIS, role(), any::<bool>()).prop_map(|(eni, role, keep)| Step::Role(eni, role, keep)),
        1 => (0..ENIS).prop_map(Step::Renew),
        1 => (0..ENIS, 0u8..3).prop_map(|(eni, tie)| Step::Attached(eni, tie)),
        2 => (0..ENIS, 0..slots).prop_map(|(eni, slot)| Step::Forget(eni, slot)),
        2 => (0..ENIS, vec(0..slots, 1..4), any::<bool>())
            .prop_map(|(eni, slots, sure)| Step::MakeWay { eni, slots, sure }),
        2 => (0..ENIS).prop_map(Step::Remove),
        20 => (0..KEYS, vec(0..addresses, 0..3)).prop_map(|(key, barred)| Step::Take { key, barred }),
        10 => (0..KEYS).prop_map(Step::Release),
        3 => (0..KEYS, 0..addresses).prop_map(|(key, address)| Step::Restore(key, address)),
        2 => (0..addresses, 0u64..60_000).prop_map(|(address, until)| Step::RestoreCooling(address, until)),
        1 => (0..addresses).prop_map(Step::EndRest),
        4 => Just(Step::EndRests),
        5 => (0u64..40_000).prop_map(Step::Pass),
        8 => (0u32..4, any::<bool>(), any::<bool>()).prop_map(|(waiting, grows, gives_back)| Step::Plan {
            waiting: waiting.saturating_sub(1), grows, gives_back
        }),
        8 => (any::<u8>(), fate()).prop_map(|(which, fate)| Step::Answer(which, fate)),
        2 => (unit(), warm(), 1u32..5, proptest::option::of(1u32..40), 0u64..3).prop_map(|(unit, warm, max_enis, max_pods, rests)| {
            Step::Settings { unit, warm, max_enis, max_pods, cool_down: rests * 20_000 }
        }),
        2 => Just(Step::Changes),
    ]
}

// -- the small world it happens in -------------------------------------------------------------------------------------------

fn id(eni: u8) -> EniId {
    format!("eni-{eni}").parse().unwrap()
}

fn key(n: u8) -> SandboxKey {
    SandboxKey { network: "aws-cni".into(), container: format!("c{n}"), interface: "eth0".into() }
}

fn pod(n: u8) -> PodRef {
    PodRef { namespace: "default".into(), name: format!("p{n}") }
}

fn facts(eni: u8) -> EniFacts {
    EniFacts {
        id: id(eni),
        mac: Mac([2, 0, 0, 0, 0, eni]),
        card: CardIndex(0),
        device: DeviceIndex(eni),
        subnet: Subnet::try_from("10.0.0.0/16".parse::<Ipv4Net>().unwrap()).unwrap(),
        subnet_id: None,
        primary: Ipv4Addr::new(10, 0, eni, 4),
    }
}

/// Five single addresses for each ENI, two prefixes, and an address inside the first of them, as odd metadata could show it.
fn slots_of(eni: u8) -> Vec<Slot> {
    let singles = (5..10).map(|last| Slot::Address(Ipv4Addr::new(10, 0, eni, last)));
    let prefixes = [0, 16].map(|first| Slot::Prefix(Prefix28::containing(Ipv4Addr::new(10, 1, eni, first))));
    singles.chain(prefixes).chain([Slot::Address(Ipv4Addr::new(10, 1, eni, 3))]).collect()
}

/// Every position there is, and the ENIs' own addresses, which are none.
fn universe() -> Vec<Slot> {
    let own = (0..ENIS).map(|eni| Slot::Address(facts(eni).primary));
    (0..ENIS).flat_map(slots_of).chain(own).collect()
}

fn all_addresses() -> Vec<Ipv4Addr> {
    let own: BTreeSet<Ipv4Addr> = (0..ENIS).map(|eni| facts(eni).primary).collect();
    let all: BTreeSet<Ipv4Addr> = universe().into_iter().flat_map(addresses_of).collect();
    all.difference(&own).copied().collect()
}

fn nth(slots: &[u8]) -> Vec<Slot> {
    let all = universe();
    slots.iter().map(|n| all[*n as usize]).collect()
}

// -- one history -----------------------------------------------------------------------------------------------------------

/// Begun and not answered.
#[derive(Clone, Debug)]
enum Begun {
    Assign { eni: EniId, unit: Unit, count: u32 },
    NewEni { unit: Unit, count: u32 },
    Release { eni: EniId, slots: Vec<Slot> },
    Exit { eni: EniId },
}

struct Run {
    pool: Pool,
    naive: Naive,
    now: Time,
    target: Target,
    begun: Vec<Begun>,
}

/// What the books said, in the model's words.
fn no(error: &PoolError) -> No {
    match error {
        PoolError::DuplicateEni(_) => No::DuplicateEni,
        PoolError::UnknownEni(_) => No::UnknownEni,
        PoolError::SlotTaken { slot, eni } => No::SlotTaken(*slot, eni.clone()),
        PoolError::InUse { held, cooling, .. } => No::InUse(*held, *cooling),
        PoolError::TwoOwners { owner, .. } => No::TwoOwners((**owner).clone()),
        PoolError::TwoAddresses { address, .. } => No::TwoAddresses(*address),
    }
}

fn same<T>(said: Result<T, PoolError>, no_of_model: &[No]) -> Result<(), TestCaseError> {
    match said {
        Ok(_) => prop_assert!(no_of_model.is_empty(), "accepted; the model says {:?}", no_of_model),
        Err(error) => {
            prop_assert!(no_of_model.contains(&no(&error)), "refused: {}; the model says {:?}", error, no_of_model);
        }
    }
    Ok(())
}

impl Run {
    fn new() -> Self {
        let target = Target {
            unit: Unit::Address,
            warm: WarmTarget::Enis(1),
            max_enis: 3,
            slots_per_eni: SLOTS_PER_ENI,
            max_pods: None,
            cool_down: Millis::seconds(30),
            min_eni_age: Millis::seconds(60),
            release_every: Millis::seconds(30),
        };
        let mut run =
            Self { pool: Pool::default(), naive: Naive::default(), now: Time(1_000), target, begun: Vec::new() };
        let first = PoolEni {
            facts: facts(0),
            attachment: None,
            since: run.now,
            usage: EniUse::Ready,
            role: EniRole::Pods,
            keep: false,
            slots: BTreeMap::new(),
        };
        run.pool.adopt(first.clone()).unwrap();
        assert_eq!(run.naive.adopt(first), []);
        run
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let now = self.now;
        match step {
            Step::Adopt { eni, usage, role, keep, slots } => {
                let slots = slots.into_iter().map(|(slot, state)| (universe()[slot as usize], state)).collect();
                let eni = PoolEni { facts: facts(eni), attachment: None, since: now, usage, role, keep, slots };
                self.adopt(eni)?;
            }
            Step::Admit { eni, slots } => self.admit(&id(eni), &nth(&slots))?,
            Step::Mark { eni, slots, state } => self.mark(&id(eni), &nth(&slots), state)?,
            Step::Use(eni, usage) => self.set_use(&id(eni), usage)?,
            Step::Role(eni, role, keep) => {
                let known = self.naive.eni_mut(&id(eni)).map(|own| (own.role, own.keep) = (role, keep));
                same(self.pool.set_role(&id(eni), role, keep), &missing(known))?;
            }
            Step::Renew(eni) => {
                self.pool.renew(&id(eni), now);
                self.naive.eni_mut(&id(eni)).into_iter().for_each(|own| own.since = now);
            }
            Step::Attached(eni, tie) => {
                let tie: AttachmentId = format!("eni-attach-{tie}").parse().unwrap();
                let known = self.naive.eni_mut(&id(eni)).map(|own| own.attachment = Some(tie.clone()));
                same(self.pool.set_attachment(&id(eni), tie), &missing(known))?;
            }
            Step::Forget(eni, slot) => self.forget(&id(eni), universe()[slot as usize])?,
            Step::MakeWay { eni, slots, sure } => {
                let (mut gone, blocked) = self.pool.make_way(&id(eni), &nth(&slots), sure);
                let (mut other, still) = self.naive.make_way(&id(eni), &nth(&slots), sure);
                gone.sort();
                other.sort();
                prop_assert_eq!((gone, blocked), (other, still));
            }
            Step::Remove(eni) => self.remove(&id(eni))?,
            Step::Take { key: n, barred } => {
                let all = all_addresses();
                self.take(n, &barred.iter().map(|n| all[*n as usize]).collect())?;
            }
            Step::Release(n) => {
                let rest = self.target.cool_down;
                prop_assert_eq!(self.pool.release(&key(n), now, rest), self.naive.release(&key(n), now, rest));
            }
            Step::Restore(n, address) => {
                let address = all_addresses()[address as usize];
                let allocation = Allocation { address, device: facts(0).device, table: facts(0).table() };
                let held = Held { key: key(n), pod: pod(n), allocation, since: now };
                same(self.pool.restore(held.clone()), &self.naive.restore(held))?;
            }
            Step::RestoreCooling(address, rest) => {
                let address = all_addresses()[address as usize];
                self.pool.restore_cooling(address, now, now + Millis(rest));
                self.naive.restore_cooling(address, now, now + Millis(rest));
            }
            Step::EndRest(address) => {
                let address = all_addresses()[address as usize];
                prop_assert_eq!(self.pool.end_rest(address, now), self.naive.end_rests(Some(address), now));
            }
            Step::EndRests => prop_assert_eq!(self.pool.end_rests(now), self.naive.end_rests(None, now)),
            Step::Pass(span) => self.now = now + Millis(span),
            Step::Plan { waiting, grows, gives_back } => self.plan(waiting, grows, gives_back)?,
            Step::Answer(which, fate) => self.answer(which, fate)?,
            Step::Settings { unit, warm, max_enis, max_pods, cool_down } => {
                let cool_down = Millis(cool_down);
                self.target = Target { unit, warm, max_enis, max_pods, cool_down, ..self.target };
            }
            Step::Changes => {
                let touched = std::mem::take(&mut self.naive.touched);
                prop_assert_eq!(self.pool.take_changes().addresses, touched);
            }
        }
        Ok(())
    }

    fn adopt(&mut self, eni: PoolEni) -> Result<(), TestCaseError> {
        same(self.pool.adopt(eni.clone()), &self.naive.adopt(eni))
    }

    fn admit(&mut self, eni: &EniId, slots: &[Slot]) -> Result<(), TestCaseError> {
        same(self.pool.admit(eni, slots.iter().copied()), &self.naive.admit(eni, slots))
    }

    fn mark(&mut self, eni: &EniId, slots: &[Slot], state: SlotState) -> Result<(), TestCaseError> {
        let no: Vec<No> = slots.iter().flat_map(|slot| self.naive.mark(eni, *slot, state)).collect();
        same(self.pool.set_slots(eni, slots.iter().copied(), state), &no)
    }

    fn set_use(&mut self, eni: &EniId, usage: EniUse) -> Result<(), TestCaseError> {
        let known = self.naive.eni_mut(eni).map(|own| own.usage = usage);
        same(self.pool.set_use(eni, usage), &missing(known))
    }

    fn forget(&mut self, eni: &EniId, slot: Slot) -> Result<(), TestCaseError> {
        same(self.pool.forget_slot(eni, slot), &self.naive.forget(eni, slot))
    }

    fn remove(&mut self, eni: &EniId) -> Result<(), TestCaseError> {
        let gone = self.pool.remove(eni).map_err(|error| no(&error));
        prop_assert_eq!(gone, self.naive.remove(eni));
        Ok(())
    }

    fn take(&mut self, n: u8, barred: &BTreeSet<Ipv4Addr>) -> Result<(), TestCaseError> {
        let next = self.naive.take(&key(n), self.target.unit, barred);
        match (self.pool.take(&key(n), &pod(n), self.now, self.target.unit, barred), next) {
            (Taken::Already(at), Next::Already(has)) => prop_assert_eq!(at, has),
            (Taken::Fresh(at), Next::Fresh(choice)) => {
                prop_assert!(choice.contains(&at), "{:?} was given, {:?} may be", at, choice);
                self.naive.given(&key(n), &pod(n), at, self.now);
            }
            (Taken::None, Next::None) => {}
            (taken, next) => prop_assert!(false, "{:?}; the model says {:?}", taken, next),
        }
        Ok(())
    }

    // -- what the planner wants ------------------------------------------------------------------------------------------

    fn pending(&self, grows: bool, gives_back: bool) -> Pending {
        let mut pending = Pending {
            new_eni: Some(self.target.unit),
            no_growth: !grows,
            no_release: !gives_back,
            ..Pending::default()
        };
        for begun in &self.begun {
            match begun {
                Begun::Assign { eni, unit, count } => pending.assigning.push((eni.clone(), *unit, *count)),
                Begun::NewEni { unit, count } => pending.new_enis.push((*unit, *count)),
                Begun::Release { .. } | Begun::Exit { .. } => {}
            }
        }
        pending
    }

    fn plan(&mut self, waiting: u32, grows: bool, gives_back: bool) -> Result<(), TestCaseError> {
        let pending = self.pending(grows, gives_back);
        let plan = plan(&self.target, &self.pool, &pending, Demand { waiting, ..Demand::default() }, self.now);
        self.may_be_wanted(&plan.actions, &pending, waiting)?;
        self.is_wanted(&plan.actions, &pending, waiting)?;
        for action in plan.actions {
            self.begin(action)?;
        }
        Ok(())
    }

    /// Nothing is asked for that must not be: no limit is passed, nothing somebody has or that rests is given back, and the pool keeps what
    /// its target asks for.
    fn may_be_wanted(&self, actions: &[Action], pending: &Pending, waiting: u32) -> Result<(), TestCaseError> {
        let leaving = self.naive.enis.iter().filter(|eni| eni.usage == EniUse::Leaving).count();
        let mut attached = self.naive.enis.len() + pending.new_enis.len();
        let within = attached - leaving <= self.target.max_enis as usize;
        let (mut free, mut all) = self.naive.level(self.target.unit);
        let (mut lost, mut exits) = (0, leaving);
        let mut gone = BTreeSet::new();
        for action in actions {
            match action {
                Action::Assign { eni, count, .. } => {
                    let own = self.naive.eni(eni).unwrap();
                    let usable = matches!(own.usage, EniUse::Ready | EniUse::SettingUp) && own.role == EniRole::Pods;
                    prop_assert!(*count > 0 && usable && !pending.no_growth, "{:?}", action);
                    prop_assert!(self.used(eni, pending) + count <= SLOTS_PER_ENI, "no place: {:?}", action);
                }
                Action::NewEni { count, .. } => {
                    attached += 1;
                    prop_assert!(*count > 0 && *count <= SLOTS_PER_ENI && !pending.no_growth, "{:?}", action);
                    prop_assert!(attached <= self.target.max_enis as usize, "{} ENIs", attached);
                }
                Action::Release { eni, slots } => {
                    prop_assert!(!slots.is_empty() && !pending.no_release, "{:?}", action);
                    for slot in slots {
                        prop_assert!(self.naive.is_idle(*slot), "in use or not there: {}", slot);
                        prop_assert!(self.naive.place(*slot).unwrap().eni == *eni && gone.insert(*slot));
                        prop_assert_eq!(unit_of(*slot), unit_of(slots[0]), "two units in one call");
                        lost += self.worth(*slot);
                    }
                }
                Action::ReleaseEni { eni } => {
                    exits += 1;
                    let assigning = pending.assigning.iter().any(|(to, ..)| to == eni);
                    let may = self.naive.may_leave(eni, &self.target, self.now);
                    prop_assert!(may && !assigning && !pending.no_release, "{:?}", action);
                    for place in self.naive.places_of(eni) {
                        prop_assert!(gone.insert(place.slot), "twice: {}", place.slot);
                        lost += self.worth(place.slot);
                    }
                }
            }
        }
        prop_assert!(exits <= 1 || leaving == exits, "one ENI at a time");
        (free, all) = (free - lost, all - lost);
        if lost > 0 && within {
            prop_assert_eq!(waiting, 0, "given back while pods wait: {:?}", actions);
            prop_assert!(
                Naive::is_enough(&self.target, (free, all)),
                "too low after {:?}: {} of {}",
                actions,
                free,
                all
            );
        }
        Ok(())
    }

    /// What is missing is asked for, if it can be had on an ENI there is; and nothing if nothing is missing.
    fn is_wanted(&self, actions: &[Action], pending: &Pending, waiting: u32) -> Result<(), TestCaseError> {
        if !self.begun.is_empty() || pending.no_growth {
            return Ok(());
        }
        let (free, all) = self.naive.level(self.target.unit);
        let usable =
            |eni: &PoolEni| matches!(eni.usage, EniUse::Ready | EniUse::SettingUp) && eni.role == EniRole::Pods;
        let coming = self
            .naive
            .count(|at, eni| usable(eni) && at.state == SlotState::Unconfirmed && unit_of(at.slot) == self.target.unit);
        let (free, all) = (free + coming.addresses - coming.held - coming.cooling, all + coming.addresses);
        let pods = self.naive.held().len() as u32;
        let all_served = self.target.max_pods.is_some_and(|max| pods + free >= max);
        let ahead = free >= waiting && Naive::is_enough(&self.target, (free - waiting, all));
        let missing = free < waiting || !(all_served || ahead);
        let grows = actions.iter().any(|action| matches!(action, Action::Assign { .. } | Action::NewEni { .. }));
        let place = self.naive.enis.iter().any(|eni| usable(eni) && self.used(&eni.facts.id, pending) < SLOTS_PER_ENI);
        // Ahead of demand it may make room on a lower ENI first, or wait for room being made; a pod that waits does not wait for that.
        let leftovers = self.naive.count(|at, eni| usable(eni) && unit_of(at.slot) != self.target.unit).positions > 0;
        if missing && place {
            prop_assert!(
                grows || (leftovers && free >= waiting),
                "{} of {} free, {} wait: nothing is asked for",
                free,
                all,
                waiting
            );
        }
        if !missing {
            prop_assert!(!grows, "{} of {} free, {} wait: {:?}", free, all, waiting, actions);
        }
        Ok(())
    }

    /// Positions of an ENI that EC2 counts, and those on their way.
    fn used(&self, eni: &EniId, pending: &Pending) -> u32 {
        let there = self.naive.places_of(eni).filter(|place| place.state != SlotState::Missing).count() as u32;
        there + pending.assigning.iter().filter(|(to, ..)| to == eni).map(|(.., count)| count).sum::<u32>()
    }

    /// Addresses the pool counts on in a position.
    fn worth(&self, slot: Slot) -> u32 {
        let place = self.naive.place(slot).unwrap();
        let eni = self.naive.eni(&place.eni).unwrap();
        let usable = matches!(eni.usage, EniUse::Ready | EniUse::SettingUp) && eni.role == EniRole::Pods;
        let counts = usable && place.state == SlotState::Held && unit_of(slot) == self.target.unit;
        if counts { addresses_of(slot).len() as u32 } else { 0 }
    }

    fn begin(&mut self, action: Action) -> Result<(), TestCaseError> {
        match action {
            Action::Assign { eni, unit, count } => self.begun.push(Begun::Assign { eni, unit, count }),
            Action::NewEni { unit, count } => self.begun.push(Begun::NewEni { unit, count }),
            Action::Release { eni, slots } => {
                self.mark(&eni, &slots, SlotState::Leaving)?;
                self.begun.push(Begun::Release { eni, slots });
            }
            Action::ReleaseEni { eni } => {
                self.set_use(&eni, EniUse::Leaving)?;
                self.begun.push(Begun::Exit { eni });
            }
        }
        Ok(())
    }

    fn answer(&mut self, which: u8, fate: Fate) -> Result<(), TestCaseError> {
        if self.begun.is_empty() {
            return Ok(());
        }
        let begun = self.begun.remove(which as usize % self.begun.len());
        let part = |count: usize| match fate {
            Fate::Done => count,
            Fate::Half => count.div_ceil(2),
            Fate::Refused => 0,
        };
        match begun {
            Begun::Assign { eni, unit, count } => {
                let device = (0..ENIS).find(|n| id(*n) == eni).unwrap();
                let fresh = self.fresh(device, unit);
                self.admit(&eni, &fresh[..part(count as usize).min(fresh.len())])
            }
            Begun::NewEni { unit, count } => {
                let Some(device) = (1..ENIS).find(|n| self.naive.eni(&id(*n)).is_none()) else { return Ok(()) };
                let fresh = self.fresh(device, unit).into_iter().take(part(count as usize));
                let slots = fresh.map(|slot| (slot, SlotState::Held)).collect();
                let (usage, role) = (EniUse::SettingUp, EniRole::Pods);
                let since = self.now;
                self.adopt(PoolEni { facts: facts(device), attachment: None, since, usage, role, keep: false, slots })
            }
            Begun::Release { eni, slots } => {
                let gone = part(slots.len());
                slots[..gone].iter().try_for_each(|slot| self.forget(&eni, *slot))?;
                self.mark(&eni, &slots[gone..], SlotState::Held)
            }
            Begun::Exit { eni } if matches!(fate, Fate::Done) => self.remove(&eni),
            Begun::Exit { eni } => self.set_use(&eni, EniUse::Ready),
        }
    }

    /// Positions EC2 could give an ENI.
    fn fresh(&self, device: u8, unit: Unit) -> Vec<Slot> {
        let free = |slot: &Slot| unit_of(*slot) == unit && self.naive.place(*slot).is_none();
        slots_of(device).into_iter().take(7).filter(free).collect()
    }

    // -- all that can be asked ---------------------------------------------------------------------------------------------

    fn compare(&self) -> Result<(), TestCaseError> {
        let (pool, naive) = (&self.pool, &self.naive);
        // Only a lease that is put back can have the own address of an ENI that was there before; the books say so then, and nothing else.
        let has_pod = |eni: &PoolEni| {
            naive.held().iter().any(|held| held.allocation.address == eni.facts.primary && held.since > eni.since)
        };
        let here = naive.enis.iter().filter(|eni| eni.usage != EniUse::Doubtful);
        let mut given: Vec<EniId> = here.filter(|eni| has_pod(eni)).map(|eni| eni.facts.id.clone()).collect();
        given.sort();
        let said = pool.audit().into_iter().map(|violation| match violation {
            Violation::PrimaryGiven { eni, .. } => Ok(eni),
            other => Err(other),
        });
        prop_assert_eq!(said.collect::<Result<Vec<_>, _>>(), Ok(given));
        prop_assert_eq!(pool.stats(), naive.stats());
        let stats = pool.stats();
        prop_assert_eq!(stats.total, stats.held + stats.cooling + stats.ready + stats.setting_up);

        let ids: BTreeSet<EniId> = naive.enis.iter().map(|eni| eni.facts.id.clone()).collect();
        prop_assert_eq!(pool.enis().map(|eni| eni.facts.id.clone()).collect::<Vec<_>>(), Vec::from_iter(ids));
        for eni in (0..ENIS).map(id) {
            prop_assert_eq!(pool.eni(&eni).cloned(), naive.shown(&eni));
            prop_assert_eq!(pool.on(&eni), naive.eni(&eni).map(|_| naive.on(&eni)));
            let mut positions: Vec<Position> = naive.places_of(&eni).map(|place| self.position(place.slot)).collect();
            positions.sort_by_key(|at| at.slot);
            prop_assert_eq!(pool.positions(&eni).collect::<Vec<_>>(), positions);
            for (unit, state) in UNITS.iter().flat_map(|unit| STATES.map(|state| (*unit, state))) {
                let count = naive.count(|at, own| own.facts.id == eni && unit_of(at.slot) == unit && at.state == state);
                prop_assert_eq!(pool.count(&eni, unit, state), count);
            }
        }
        for slot in universe() {
            prop_assert_eq!(pool.position(slot), naive.place(slot).map(|_| self.position(slot)));
            prop_assert_eq!(pool.on_slot(slot), naive.on_slot(slot));
        }

        for address in all_addresses() {
            prop_assert_eq!(pool.use_of(address), naive.use_of(address));
            let at = pool.locate(address).map(|(eni, slot)| (&eni.facts.id, slot));
            prop_assert_eq!(at, naive.locate(address).map(|place| (&place.eni, place.slot)));
        }
        let mut held = naive.held();
        held.sort_by_key(|held| held.allocation.address);
        prop_assert_eq!(pool.held().collect::<Vec<_>>(), held);
        prop_assert_eq!(pool.cooling().collect::<Vec<_>>(), naive.cooling());
        prop_assert_eq!(pool.next_rest_end(), naive.cooling().first().map(|(.., until)| *until));
        for n in 0..KEYS {
            prop_assert_eq!(pool.of(&key(n)), naive.of(&key(n)));
        }
        for unit in UNITS {
            // Somebody new, on a copy: what the next address could be.
            let next = naive.take(&key(KEYS), unit, &BTreeSet::new());
            match (pool.clone().take(&key(KEYS), &pod(KEYS), self.now, unit, &BTreeSet::new()), next) {
                (Taken::Fresh(at), Next::Fresh(choice)) => prop_assert!(choice.contains(&at)),
                (taken, next) => prop_assert!(taken == Taken::None && next == Next::None, "{:?} {:?}", taken, next),
            }
        }
        Ok(())
    }

    fn position(&self, slot: Slot) -> Position {
        let (held, cooling) = self.naive.on_slot(slot);
        Position { slot, state: self.naive.place(slot).unwrap().state, held, cooling }
    }

    /// Whether somebody who writes the pool down must write its ENIs anew.
    fn enis_of_record(&self) -> Vec<(EniId, EniUse, EniRole, BTreeMap<Slot, SlotState>)> {
        let mut enis: Vec<_> = self.naive.enis.iter().map(|eni| eni.facts.id.clone()).collect();
        enis.sort();
        let shown = enis.iter().filter_map(|eni| self.naive.shown(eni));
        shown.map(|eni| (eni.facts.id.clone(), eni.usage, eni.role, eni.slots)).collect()
    }
}

fn missing(known: Option<()>) -> Vec<No> {
    if known.is_some() { vec![] } else { vec![No::UnknownEni] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_pool_is_what_a_naive_model_says(steps in proptest::collection::vec(step(), 1..160)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step)?;
            run.compare()?;
        }
    }

    /// A record that is only written anew when the pool says so is never out of date.
    #[test]
    fn what_changes_is_said(steps in proptest::collection::vec(step(), 1..160)) {
        let mut run = Run::new();
        run.pool.take_changes();
        let mut record = run.enis_of_record();
        for step in steps.into_iter().filter(|step| !matches!(step, Step::Changes)) {
            run.step(step)?;
            let changes = run.pool.take_changes();
            let now = run.enis_of_record();
            prop_assert!(changes.enis || now == record, "{:?} became {:?}, and nothing was said", record, now);
            prop_assert_eq!(&changes.addresses, &run.naive.touched);
            run.naive.touched.clear();
            record = now;
        }
    }
}

/// Every line of a history's end is told apart: held, resting and free, by what the pool itself says of it.
#[test]
fn a_fixed_history() {
    let mut run = Run::new();
    let steps = [
        Step::Admit { eni: 0, slots: vec![0, 5] },
        Step::Take { key: 0, barred: vec![] },
        Step::Take { key: 1, barred: vec![] },
        Step::Release(0),
        Step::Take { key: 2, barred: vec![] },
        Step::Pass(40_000),
        Step::EndRests,
    ];
    for step in steps {
        run.step(step).unwrap();
        run.compare().unwrap();
    }
    let held: Vec<Ipv4Addr> = run.pool.held().map(|held| held.allocation.address).collect();
    assert_eq!(held, [Ipv4Addr::new(10, 1, 0, 0), Ipv4Addr::new(10, 1, 0, 1)]);
    assert!(!matches!(run.pool.use_of(Ipv4Addr::new(10, 0, 0, 5)), Some(Use::Cooling { .. })));
}

/// An address was taken off an ENI behind the node's back, and EC2 made it the own address of the next one.
#[test]
fn the_own_address_of_an_eni_is_never_given() {
    let mut run = Run::new();
    let own_of_second = universe().iter().position(|slot| *slot == Slot::Address(facts(2).primary)).unwrap() as u8;
    let second = Step::Adopt { eni: 2, usage: EniUse::Ready, role: EniRole::Pods, keep: false, slots: vec![] };
    for step in [Step::Admit { eni: 0, slots: vec![own_of_second] }, second, Step::Take { key: 0, barred: vec![] }] {
        run.step(step).unwrap();
        run.compare().unwrap();
    }
    assert_eq!(run.pool.held().count(), 0);
}

/// EC2 does not show an ENI any more, and has put the address that was its own on another one: that is a free address like any other.
#[test]
fn the_own_address_of_an_eni_that_is_lost_is_given() {
    let mut run = Run::new();
    let own_of_second = universe().iter().position(|slot| *slot == Slot::Address(facts(2).primary)).unwrap() as u8;
    let lost = Step::Adopt { eni: 2, usage: EniUse::Doubtful, role: EniRole::Pods, keep: false, slots: vec![] };
    for step in [lost, Step::Admit { eni: 0, slots: vec![own_of_second] }, Step::Take { key: 0, barred: vec![] }] {
        run.step(step).unwrap();
        run.compare().unwrap();
    }
    assert_eq!(run.pool.held().count(), 1);
}
