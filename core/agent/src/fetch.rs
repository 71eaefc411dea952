//! Growth: addresses and prefixes for the ENIs there are, and more ENIs.
//!
//! ```text
//!   Assign ----------------------------------------------------> positions join the pool
//!   Create (with all it carries) -> Attach -> ENI joins the pool, its link is set up  + DeleteOnTermination
//! ```
//!
//! Calls for different ENIs run side by side. What EC2 refuses teaches: a full ENI is described, and what is on it counts; where
//! that leaves room that EC2 does not grant, the room was too large, and the next request is half as large until the true limit is
//! found. A subnet without addresses, or without a free /28, is left alone for a while, and others are used.

use std::collections::{BTreeMap, BTreeSet};

use vpc_ipam::{EniFacts, EniRole, EniUse, PoolEni, SlotState, Target, Unit, bug};
use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, Millis, Slot, Subnet, SubnetId, Time};

use crate::agent::{Agent, Other};
use crate::cloud::{CloudCall, CloudFailure, EniTruth, FailureClass, Place};
use crate::jobs::{CALL_LIMIT, Cloud, Job};
use crate::message::Notice;
use crate::places::pause_after;

/// An ENI on its way to the node.
#[derive(Clone, Debug)]
pub(crate) struct Build {
    token: String,
    pub(crate) unit: Unit,
    pub(crate) count: u32,
    pub(crate) device: DeviceIndex,
    place: Place,
    /// Network of the place's subnet; where nobody could list it, the metadata show it once the ENI is attached.
    net: Option<Subnet>,
    /// An answer to its creation was lost: EC2 may have made it.
    may_exist: bool,
    /// Set once it exists.
    truth: Option<EniTruth>,
}

impl Build {
    pub(crate) fn create_call(&self) -> CloudCall {
        let (token, place) = (self.token.clone(), self.place.clone());
        CloudCall::CreateEni { token, place, unit: self.unit, count: self.count }
    }

    /// The ENI, once it exists.
    pub(crate) fn eni(&self) -> Option<EniId> {
        self.truth.as_ref().map(|truth| truth.id.clone())
    }
}

/// Why nothing is asked for now.
#[derive(Clone, Debug)]
pub(crate) struct Pause {
    pub(crate) until: Time,
    pub(crate) failure: CloudFailure,
    streak: u32,
}

/// What EC2's refusals, or its list of instance types, have taught of this instance's limits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Learned {
    pub(crate) max_enis: Option<u32>,
    pub(crate) slots_per_eni: Option<u32>,
    pub(crate) no_prefixes: bool,
    /// Until when `slots_per_eni` is believed against the table's figure, and how often it was learned.
    doubted: Option<(Time, u32)>,
}

impl Learned {
    pub(crate) fn applied_to(self, mut target: Target) -> Target {
        target.max_enis = self.max_enis.map_or(target.max_enis, |most| target.max_enis.min(most));
        target.slots_per_eni = self.slots_per_eni.map_or(target.slots_per_eni, |most| target.slots_per_eni.min(most));
        if self.no_prefixes {
            target.unit = Unit::Address;
        }
        target
    }

    fn at_most_slots(&mut self, most: u32) {
        self.slots_per_eni = Some(self.slots_per_eni.map_or(most, |known| known.min(most)));
    }

    /// The type's figure is known, and EC2 gave less: that may pass (an address somebody else put there for a moment, an odd answer),
    /// so it is tried again when a pod waits after a growing while.
    fn doubt(&mut self, now: Time) {
        let times = self.doubted.map_or(0, |(_, times)| times);
        let pause = Millis(FailureClass::LONGEST.0 << times.min(5));
        self.doubted = Some((now + pause, times + 1));
    }

    /// Believes the table's figure again when its time has come.
    pub(crate) fn reconsider(&mut self, now: Time) {
        if self.slots_per_eni.is_some() && self.doubted.is_some_and(|(until, _)| until <= now) {
            self.slots_per_eni = None;
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.doubted.map(|(until, _)| until).filter(|_| self.slots_per_eni.is_some())
    }
}

/// What is on its way to the node, and what keeps more from coming.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetch {
    builds: BTreeMap<u64, Build>,
    next_build: u64,
    assign_pause: Option<Pause>,
    create_pause: Option<Pause>,
    /// EC2's last refusal of something that would have brought addresses, until something has come.
    refusal: Option<(CloudFailure, Time)>,
    /// Subnets in which ENIs were to be made since something has come.
    tried: BTreeSet<SubnetId>,
    /// The subnet, or the ENI, refused more than so many positions at once.
    pub(crate) at_most: Option<u32>,
    /// How many more positions EC2 refused to put on an ENI, until it has said what is on it.
    too_many: BTreeMap<EniId, u32>,
    /// ENIs to which an answer may have added positions that was lost, and when.
    may_have_more: BTreeMap<EniId, Time>,
    /// ENIs that EC2 will not fill though the books have room on them: until when they are left alone, and what is on them is asked then.
    full: BTreeMap<EniId, Time>,
    pub(crate) learned: Learned,
}

impl Fetch {
    /// How long after it could have been asked again EC2's last refusal still explains why nothing has come.
    const RECENT: Millis = Millis::seconds(60);

    pub(crate) fn build(&self, number: u64) -> Option<&Build> {
        self.builds.get(&number)
    }

    pub(crate) fn builds(&self) -> impl Iterator<Item = &Build> {
        self.builds.values()
    }

    pub(crate) fn is_building_in(&self, subnet: &SubnetId) -> bool {
        self.builds().any(|build| build.place.subnet == *subnet)
    }

    pub(crate) fn may_assign(&self, now: Time) -> bool {
        self.assign_pause.as_ref().is_none_or(|pause| pause.until <= now)
    }

    pub(crate) fn may_create(&self, now: Time) -> bool {
        self.create_pause.as_ref().is_none_or(|pause| pause.until <= now)
    }

    /// Why nothing has come lately, and until when nothing is asked for.
    pub(crate) fn refused(&self, now: Time) -> Option<(&CloudFailure, Time)> {
        let pauses = [&self.create_pause, &self.assign_pause].into_iter().flatten();
        let pause = pauses.filter(|pause| pause.until > now).max_by_key(|pause| pause.until);
        let pause = pause.map(|pause| (&pause.failure, pause.until));
        let recent = self.refusal.as_ref().filter(|(_, until)| now.since(*until) < Self::RECENT);
        pause.or_else(|| recent.map(|(failure, until)| (failure, (*until).max(now))))
    }

    /// Subnets in which ENIs were to be made since something has come.
    pub(crate) fn tried(&self) -> impl Iterator<Item = &SubnetId> {
        self.tried.iter()
    }

    /// ENIs that are left alone because EC2 will not fill them, whatever the books have on them.
    pub(crate) fn full(&self) -> impl Iterator<Item = &EniId> {
        self.full.keys()
    }

    fn something_came(&mut self) {
        (self.at_most, self.refusal) = (None, None);
        self.tried.clear();
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = Time> + '_ {
        let pauses = [&self.create_pause, &self.assign_pause].into_iter().flatten().map(|pause| pause.until);
        pauses.chain(self.learned.deadline()).chain(self.full.values().copied())
    }
}

impl Cloud {
    /// Addresses asked for and not yet in the pool.
    pub(crate) fn coming(&self) -> u32 {
        let assigning: u32 = self.assigning().map(|(_, unit, count)| unit.size() * count).sum();
        assigning + self.fetch.builds().map(|build| build.unit.size() * build.count).sum::<u32>()
    }

    /// Whether anything that brings addresses is under way.
    pub(crate) fn is_fetching(&self) -> bool {
        self.coming() > 0
    }

    pub(crate) fn assigning(&self) -> impl Iterator<Item = (&EniId, Unit, u32)> {
        self.jobs().filter_map(|job| match job {
            Job::Assign { eni, unit, count } => Some((eni, *unit, *count)),
            _ => None,
        })
    }

    /// ENIs of which is being asked what is on them: asking for more before would ask twice.
    pub(crate) fn refreshing(&self) -> BTreeSet<EniId> {
        self.jobs().filter_map(|job| if let Job::Refresh(eni) = job { Some(eni.clone()) } else { None }).collect()
    }

    /// An answer was lost a moment ago, and EC2 is being asked what it did: first hear that. Only once: new ENIs do not wait for a
    /// question that keeps failing.
    pub(crate) fn is_hearing(&self) -> bool {
        let asked = self.jobs().any(|job| matches!(job, Job::Refresh(_)));
        asked && !self.is_repeating(|job| matches!(job, Job::Refresh(_)))
    }
}

/// What a refusal says of a subnet. One that has not enough addresses for a prefix may have single ones all the same.
fn lacks(unit: Unit, class: FailureClass) -> FailureClass {
    match (unit, class) {
        (Unit::Prefix, FailureClass::SubnetExhausted) => FailureClass::Fragmented,
        (Unit::Address | Unit::Prefix, class) => class,
    }
}

impl Agent {
    /// Asks EC2 what the node's ENIs are, and what is on them.
    pub(crate) fn ask_about_node(&mut self) {
        if self.config.cloud.may_ask() {
            self.start_job(Job::DescribeNode, 0);
        }
    }

    /// Asks EC2 once for the limits of the instance type, if they are not known.
    pub(crate) fn ask_for_limits(&mut self) {
        if !self.config.limits_known && self.config.cloud.may_ask() {
            self.start_job(Job::Limits, 0);
        }
    }

    pub(crate) fn limits_learned(&mut self, max_enis: u32, slots_per_eni: u32, prefixes: bool) {
        self.cloud.fetch.learned = Learned {
            max_enis: Some(max_enis),
            slots_per_eni: Some(slots_per_eni),
            no_prefixes: !prefixes,
            doubted: None,
        };
        self.say(Notice::LimitsLearned { max_enis, slots_per_eni, prefixes });
        if !prefixes && self.config.target.unit == Unit::Prefix {
            let why = "EC2 says that this instance type takes no prefixes; it holds secondary addresses".to_owned();
            self.say(Notice::WithoutPrefixes { why });
        }
    }

    /// Starts to put more on an ENI.
    pub(crate) fn start_assign(&mut self, eni: EniId, unit: Unit, count: u32) {
        let what = CloudCall::Assign { eni: eni.clone(), unit, count }.to_string();
        self.say(Notice::Growing { what, waiting: self.waiters.len() });
        self.start_job(Job::Assign { eni, unit, count }, 0);
    }

    /// Starts to make an ENI.
    pub(crate) fn start_build(&mut self, unit: Unit, count: u32, place: Place, net: Option<Subnet>) {
        let Some(device) = self.free_device() else { return };
        self.cloud.fetch.next_build += 1;
        let number = self.cloud.fetch.next_build;
        let token = format!("{}-{:016x}-{number}", self.instance.as_str(), self.config.nonce);
        let build = Build { token, unit, count, device, place, net, may_exist: false, truth: None };
        let what = format!("{} for position {device}", build.create_call());
        self.say(Notice::Growing { what, waiting: self.waiters.len() });
        self.cloud.fetch.builds.insert(number, build);
        self.start_job(Job::Create(number), 0);
    }

    fn free_device(&self) -> Option<DeviceIndex> {
        let taken = |device: &DeviceIndex| {
            self.pool.enis().any(|eni| eni.facts.card.0 == 0 && eni.facts.device == *device)
                || self.others.values().any(|other| other.device == *device)
                || self.cloud.fetch.builds().any(|build| build.device == *device)
        };
        (1..=u8::MAX).map(DeviceIndex).find(|device| !taken(device))
    }

    /// Whether an ENI is on its way to the node.
    pub(crate) fn is_building(&self, id: &EniId) -> bool {
        self.cloud.fetch.builds().any(|build| build.truth.as_ref().is_some_and(|truth| truth.id == *id))
    }

    /// The number of an ENI on its way of which nothing is being asked: it waits, or the settings forbid the call.
    pub(crate) fn idle_build(&self, id: &EniId) -> Option<u64> {
        let is = |build: &Build| build.truth.as_ref().is_some_and(|truth| truth.id == *id);
        let (number, _) = self.cloud.fetch.builds.iter().find(|(_, build)| is(build))?;
        let asking = |job: &Job| matches!(job, Job::Attach(other) | Job::FindAttachment(other) if other == number);
        Some(*number).filter(|_| !self.cloud.is_asking(asking))
    }

    pub(crate) fn created(&mut self, now: Time, number: u64, truth: EniTruth) {
        // Refusals in a row are counted until one is attached: what is made and can not be attached is deleted again.
        if let Some(pause) = &mut self.cloud.fetch.create_pause {
            pause.until = pause.until.min(now);
        }
        // What was refused before does not explain why this one is not here yet.
        self.cloud.fetch.refusal = None;
        if let Some(build) = self.cloud.fetch.builds.get_mut(&number) {
            let addresses = 1 + truth.slots.iter().map(|slot| Unit::of(*slot).size()).sum::<u32>();
            self.places.worked(&build.place.subnet, build.unit, addresses);
            build.truth = Some(truth);
            self.start_job(Job::Attach(number), 0);
        }
    }

    pub(crate) fn attached(&mut self, now: Time, number: u64, attachment: AttachmentId) {
        let Some(Build { device, net, truth: Some(truth), .. }) = self.cloud.fetch.builds.remove(&number) else {
            return;
        };
        self.cloud.fetch.something_came();
        self.cloud.fetch.create_pause = None;
        self.made(now, &truth);
        let (id, count) = (truth.id.clone(), truth.slots.len());
        // The answer was lost, and the metadata showed it before EC2 could be asked.
        if self.pool.set_attachment(&id, attachment.clone()).is_ok() {
            self.touch_disk();
            return self.start_job(Job::DeleteOnTermination { eni: id, attachment }, 0);
        }
        let Some(net) = net else { return self.attached_unseen(now, device, id, attachment) };
        let mut slots = self.make_way(now, &id, &truth.slots, true);
        // Its own address is none of its positions, and nobody else's either.
        self.make_way(now, &id, &[Slot::Address(truth.primary)], true);
        slots.retain(|slot| *slot != Slot::Address(truth.primary));
        let facts = EniFacts {
            id: truth.id,
            mac: truth.mac,
            card: CardIndex(0),
            device,
            subnet: net,
            subnet_id: Some(truth.subnet),
            primary: truth.primary,
        };
        let eni = PoolEni {
            facts,
            attachment: Some(attachment.clone()),
            since: now,
            usage: EniUse::SettingUp,
            role: EniRole::Pods,
            keep: false,
            slots: slots.into_iter().map(|slot| (slot, SlotState::Held)).collect(),
        };
        match self.pool.adopt(eni) {
            Ok(()) => {
                self.takes_its_place(now, &id);
                self.follow_places();
                self.touch_disk();
                self.host.is_dirty();
                self.say(Notice::Grown { eni: id.clone(), count });
                self.start_job(Job::DeleteOnTermination { eni: id, attachment }, 0);
            }
            Err(error) => {
                self.say(Notice::Disagreement { what: format!("attached {id}: {error}") });
                // The books have something else in its place. It goes with the instance all the same.
                self.attached_unseen(now, device, id, attachment);
            }
        }
    }

    /// An ENI of ours is attached and can not be in the pool yet, because the network of its subnet is not known or the books have to be
    /// put right first: it waits beside the pool until EC2 or the metadata show it again.
    fn attached_unseen(&mut self, now: Time, device: DeviceIndex, eni: EniId, attachment: AttachmentId) {
        let other = Other { device, seen: None, foreign: false, shown: false, told: None, left: false, since: now };
        self.others.insert(eni.clone(), other);
        self.start_job(Job::DeleteOnTermination { eni, attachment }, 0);
        self.read_metadata_soon(now);
    }

    pub(crate) fn attachment_found(&mut self, now: Time, number: u64, truth: Option<EniTruth>) {
        match truth.and_then(|truth| truth.attachment) {
            Some((attachment, _, device)) => {
                if let Some(build) = self.cloud.fetch.builds.get_mut(&number) {
                    build.device = device;
                }
                self.attached(now, number, attachment);
            }
            None => self.start_job(Job::Attach(number), 1),
        }
    }

    pub(crate) fn assigned(&mut self, now: Time, eni: &EniId, unit: Unit, slots: &[Slot]) {
        if let Some(subnet) = self.subnet_of(eni) {
            self.places.worked(&subnet, unit, slots.iter().map(|slot| Unit::of(*slot).size()).sum());
        }
        self.cloud.fetch.assign_pause = None;
        self.cloud.fetch.something_came();
        self.cloud.back.given_again(eni, slots);
        let slots = self.make_way(now, eni, slots, true);
        self.admit(now, eni, &slots);
    }

    pub(crate) fn assign_failed(&mut self, now: Time, eni: EniId, unit: Unit, count: u32, failure: CloudFailure) {
        self.cloud.fetch.refusal = Some((failure.clone(), now + pause_after(failure.class, 1)));
        match lacks(unit, failure.class) {
            FailureClass::SubnetExhausted | FailureClass::Fragmented if count > 1 => {
                self.cloud.fetch.at_most = Some(count / 2);
            }
            class @ (FailureClass::SubnetExhausted | FailureClass::Fragmented) => {
                self.cloud.fetch.at_most = None;
                if let Some(subnet) = self.subnet_of(&eni) {
                    self.places.refused(now, &subnet, class);
                }
            }
            FailureClass::Lost if bug!(LostAssignTakenForFailure) => self.pause_assign(now, failure),
            // EC2 says the ENI is full, or may have done what was asked: learn what is on it.
            FailureClass::AddressLimit | FailureClass::Lost => {
                if failure.class == FailureClass::AddressLimit {
                    self.cloud.fetch.too_many.insert(eni.clone(), count);
                } else {
                    self.cloud.fetch.may_have_more.insert(eni.clone(), now);
                }
                self.start_job(Job::Refresh(eni), 0);
            }
            _ => self.pause_assign(now, failure),
        }
    }

    fn pause_assign(&mut self, now: Time, failure: CloudFailure) {
        self.cloud.fetch.at_most = None;
        let streak = self.cloud.fetch.assign_pause.as_ref().map_or(0, |pause| pause.streak) + 1;
        let until = Self::again_at(now, failure.class, streak);
        self.cloud.fetch.assign_pause = Some(Pause { until, failure, streak });
    }

    /// EC2 has said what is on an ENI that it would not fill, and the books have followed: if that left room, the limit is lower than was
    /// thought. Not where its answer may be behind: what was given back, or what a lost answer gave, may be there and not be known. Then
    /// this ENI alone is left, until EC2's word on it is sure.
    pub(crate) fn learn_room(&mut self, now: Time, eni: &EniId, truth: Option<&EniTruth>) {
        let (Some(refused), Some(truth)) = (self.cloud.fetch.too_many.remove(eni), truth) else { return };
        let Some(known) = self.pool.eni(eni) else { return };
        let listed = known.slots.iter().filter(|(_, state)| **state != SlotState::Missing).map(|(slot, _)| *slot);
        let shown = truth.slots.iter().copied().filter(|slot| *slot != Slot::Address(known.facts.primary));
        let stranger = shown.clone().any(|slot| !known.slots.contains_key(&slot));
        let there: BTreeSet<Slot> = listed.chain(shown).collect();
        let most = u32::try_from(there.len()).unwrap_or(u32::MAX).saturating_add(refused).saturating_sub(1);
        let slots = self.target().slots_per_eni;
        if most >= slots && !stranger {
            return;
        }
        let sure_at = self.sure_of_eni_at(eni).filter(|at| *at > now);
        if most < slots && sure_at.is_none() {
            self.learn_slots(now, most);
        }
        self.cloud.fetch.at_most = (refused > 1).then_some(refused / 2);
        if refused == 1 && (sure_at.is_some() || stranger) {
            self.cloud.fetch.full.insert(eni.clone(), sure_at.unwrap_or(now + FailureClass::LONGEST));
        }
    }

    /// From when on EC2's answers say surely what is on an ENI, as far as that was ever unsure.
    fn sure_of_eni_at(&self, eni: &EniId) -> Option<Time> {
        let lost = self.cloud.fetch.may_have_more.get(eni).map(|at| *at + Self::FRESH);
        lost.max(self.cloud.back.last_gone_from(eni).map(|at| at + Self::GONE))
    }

    /// What is on ENIs that EC2 would not fill is asked again when its answer is sure.
    pub(crate) fn look_at_full_enis(&mut self, now: Time) {
        self.cloud.fetch.may_have_more.retain(|_, since| now.since(*since) < Self::FRESH);
        let due: Vec<EniId> =
            self.cloud.fetch.full.iter().filter(|(_, at)| **at <= now).map(|(eni, _)| eni.clone()).collect();
        for eni in due {
            self.cloud.fetch.full.remove(&eni);
            if self.config.cloud.may_ask() && self.pool.eni(&eni).is_some() {
                self.start_job(Job::Refresh(eni), 0);
            }
        }
    }

    fn learn_slots(&mut self, now: Time, most: u32) {
        self.cloud.fetch.learned.at_most_slots(most);
        if self.config.limits_known {
            self.cloud.fetch.learned.doubt(now);
        }
    }

    pub(crate) fn create_failed(&mut self, now: Time, number: u64, tries: u32, failure: CloudFailure) {
        let class = failure.class;
        self.cloud.fetch.refusal = Some((failure.clone(), now + pause_after(class, tries)));
        if failure.may_be_done()
            && let Some(build) = self.cloud.fetch.builds.get_mut(&number)
        {
            build.may_exist = true;
        }
        if matches!(class, FailureClass::Lost | FailureClass::Unreachable | FailureClass::Throttled) {
            if bug!(RetryWithoutToken)
                && let Some(build) = self.cloud.fetch.builds.get_mut(&number)
            {
                build.token = format!("{}-{tries}", build.token);
            }
            // The same token can not make a second ENI.
            self.pause_create(now, failure, tries);
            return self.queue_job(Self::again_at(now, class, tries), Job::Create(number), tries);
        }
        let Some(build) = self.cloud.fetch.builds.remove(&number) else { return };
        if build.may_exist {
            // Its token is not used again: what an earlier call with it made is nobody's.
            self.look_for_strays_at(now + CALL_LIMIT);
        }
        self.cloud.fetch.tried.insert(build.place.subnet.clone());
        self.cloud.fetch.at_most = None;
        match lacks(build.unit, class) {
            class @ (FailureClass::SubnetExhausted | FailureClass::Fragmented) => {
                self.place_gave_none(now, &build, class);
            }
            FailureClass::NotFound => self.places.refused(now, &build.place.subnet, class),
            _ => self.pause_create(now, failure, tries),
        }
    }

    /// A subnet had not enough for a new ENI: another one may have; if none does, this one may have for a smaller one.
    fn place_gave_none(&mut self, now: Time, build: &Build, class: FailureClass) {
        let mut without = self.places.clone();
        without.refused(now, &build.place.subnet, class);
        let elsewhere = without.choose(now, build.unit).is_ok_and(|choice| choice.unit == build.unit);
        if elsewhere || build.count <= 1 {
            self.places = without;
        } else {
            self.cloud.fetch.at_most = Some(build.count / 2);
        }
    }

    pub(crate) fn subnet_of(&self, eni: &EniId) -> Option<SubnetId> {
        self.pool.eni(eni).and_then(|eni| eni.facts.subnet_id.clone())
    }

    pub(crate) fn attach_failed(&mut self, now: Time, number: u64, tries: u32, failure: CloudFailure) {
        let again = now + pause_after(failure.class, tries);
        self.cloud.fetch.refusal = Some((failure.clone(), again));
        match failure.class {
            FailureClass::Lost | FailureClass::WrongState if !bug!(LostAttachTakenForFailure) => {
                return self.queue_job(again, Job::FindAttachment(number), tries);
            }
            class @ (FailureClass::Unreachable | FailureClass::Throttled) => {
                return self.queue_job(Self::again_at(now, class, tries), Job::Attach(number), tries);
            }
            _ => {}
        }
        let Some(build) = self.cloud.fetch.builds.remove(&number) else { return };
        match failure.class {
            // It holds more than an ENI of this type may.
            FailureClass::AddressLimit if build.count > 0 => {
                self.learn_slots(now, build.count - 1);
                self.cloud.fetch.at_most = (build.count > 1).then_some(build.count / 2);
            }
            FailureClass::EniLimit if !self.config.limits_known => {
                self.cloud.fetch.learned.max_enis = Some(self.enis_here());
            }
            _ => self.pause_create(now, failure, tries),
        }
        // Something else may be where it was to go.
        self.ask_about_node();
        if let Some(eni) = build.eni() {
            self.start_job(Job::Discard(eni), 0);
        }
    }

    fn pause_create(&mut self, now: Time, failure: CloudFailure, tries: u32) {
        let before = self.cloud.fetch.create_pause.as_ref().map_or(0, |pause| pause.streak);
        let streak = before.max(tries.saturating_sub(1)) + 1;
        let until = now + pause_after(failure.class, streak);
        self.cloud.fetch.create_pause = Some(Pause { until, failure, streak });
    }
}
