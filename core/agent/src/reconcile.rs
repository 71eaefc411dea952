//! What is true of the node's ENIs: metadata, EC2, kernel and checkpoint laid side by side.
//!
//! ```text
//!   start: metadata + checkpoint ----> what was ours is ours; what the checkpoint recorded may be given at once
//!   EC2 (DescribeNode) --------------> whose the other ENIs are; what is on ours; tags and security groups put right
//!   metadata, read from time to time -> agree: nothing.  Differ: EC2 is asked, and its word holds
//! ```
//!
//! The metadata are cheap to read and lag behind; EC2 is asked only where they differ from the books. One odd answer removes
//! nothing: what EC2 does not mention any more is marked (nobody new gets it), and leaves the books only when a later answer still
//! lacks it and no pod uses it.

use std::collections::{BTreeMap, BTreeSet};

use vpc_ipam::{EniFacts, EniRole, EniUse, PoolEni, Position, Retired, SlotState, bug};
use vpc_model::{EniId, Millis, SecurityGroupId, Slot, Time};

use crate::agent::{Agent, Other};
use crate::checkpoint::{Checkpoint, CheckpointEni};
use crate::cloud::{EniKind, EniTruth, OpId};
use crate::config::{Metadata, SeenEni};
use crate::jobs::Job;
use crate::message::{Effect, Notice, Wake};

/// `true` takes an ENI away from us, anything else gives it to us.
pub(crate) const NO_MANAGE_TAG: &str = "node.k8s.amazonaws.com/no_manage";
/// Names the instance whose daemon made an ENI.
const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";

/// What is known of the node's ENIs beside the pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recon {
    /// The reading of the metadata under way.
    reading: Option<OpId>,
    next_reading: Option<Time>,
    /// EC2 has described the node at least once.
    heard_ec2: bool,
    /// Positions EC2 gave us lately: another answer of its may not show them yet.
    fresh: BTreeMap<(EniId, Slot), Time>,
    /// Positions an answer of EC2 lacked, and since when.
    lacking: BTreeMap<(EniId, Slot), Time>,
    /// ENIs an answer of EC2 lacked, and since when.
    absent: BTreeMap<EniId, Time>,
    /// When EC2 is asked again about what it lacked and nobody uses.
    second_look: Option<Time>,
    /// Differences between metadata and books that EC2 has been asked about: when it is asked again if they stay the same.
    doubts: Option<Doubts>,
    /// Security groups of ENIs, as EC2 last said.
    groups: BTreeMap<EniId, Vec<SecurityGroupId>>,
    /// Positions the checkpoint recorded and the metadata did not show at the start: recorded until EC2 has been heard.
    remembered: BTreeSet<(EniId, Slot)>,
    /// ENIs that have been asked to go with their instance.
    tied: BTreeSet<EniId>,
    /// ENIs that a daemon made for this instance: only their security groups follow the primary's.
    made_by_us: BTreeSet<EniId>,
}

#[derive(Clone, Debug)]
struct Doubts {
    odd: BTreeSet<Odd>,
    ask_again: Time,
    times: u32,
}

/// One difference between the metadata and the books.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Odd {
    UnknownEni(EniId),
    EniNotShown(EniId),
    UnknownSlot(EniId, Slot),
    SlotNotShown(EniId, Slot),
    EniInDoubt(EniId),
}

impl Recon {
    /// Whether EC2 has said what the node's ENIs are since the start.
    pub(crate) fn heard_ec2(&self) -> bool {
        self.heard_ec2
    }

    /// Whether a position is the checkpoint's word alone.
    pub(crate) fn remembers(&self, eni: &EniId, slot: Slot) -> bool {
        self.remembered.contains(&(eni.clone(), slot))
    }

    /// EC2 has given these positions just now.
    pub(crate) fn given(&mut self, now: Time, eni: &EniId, slots: &[Slot]) {
        self.fresh.extend(slots.iter().map(|slot| ((eni.clone(), *slot), now)));
    }

    /// An ENI has left.
    pub(crate) fn forget(&mut self, eni: &EniId) {
        self.fresh.retain(|(id, _), _| id != eni);
        self.lacking.retain(|(id, _), _| id != eni);
        self.absent.remove(eni);
        self.groups.remove(eni);
        self.made_by_us.remove(eni);
        self.tied.remove(eni);
        self.remembered.retain(|(id, _)| id != eni);
    }

    pub(crate) fn deadlines(&self) -> impl Iterator<Item = (Time, Wake)> + '_ {
        let reading = self.next_reading.filter(|_| self.reading.is_none());
        [reading, self.second_look].into_iter().flatten().map(|at| (at, Wake::Audit))
    }

    fn is_fresh(&self, eni: &EniId, slot: Slot) -> bool {
        self.fresh.contains_key(&(eni.clone(), slot))
    }
}

impl Agent {
    /// The node as the metadata show it at start. Without EC2's word only the primary ENI and those that were ours before are ours:
    /// one that somebody keeps for himself must not get pods because EC2 is away.
    /// One that carries pods of the checkpoint was ours, also where the checkpoint lists no ENIs (the reference's).
    pub(crate) fn take_in_metadata(&mut self, now: Time, seen: Vec<SeenEni>, checkpoint: &Checkpoint) {
        let known = &checkpoint.enis;
        // An address that the checkpoint has on another ENI shows nothing: metadata that lag show it where it was.
        let elsewhere = |address, eni: &EniId| {
            let others = known.iter().filter(|other| other.facts.id != *eni);
            others.flat_map(|other| &other.slots).any(|slot| slot.contains(address))
        };
        let has_pods = |eni: &SeenEni| {
            let of_a_pod = |slot: &Slot| {
                let mut leases = checkpoint.leases.iter().filter(|lease| slot.contains(lease.address));
                leases.any(|lease| !elsewhere(lease.address, &eni.facts.id))
            };
            eni.slots.iter().any(of_a_pod)
        };
        let believed = !self.config.cloud.may_ask() || bug!(MetadataBelievedAtStart);
        for eni in seen {
            let recorded = known.iter().find(|other| other.facts.id == eni.facts.id);
            if eni.facts.is_primary() || (eni.usable && (believed || recorded.is_some() || has_pods(&eni))) {
                let recorded: &[Slot] = recorded.map_or(&[], |eni| &eni.slots);
                let state = |slot: &Slot| {
                    if believed || recorded.contains(slot) { SlotState::Held } else { SlotState::Unconfirmed }
                };
                let slots = eni.slots.iter().map(|slot| (*slot, state(slot))).collect();
                self.adopt_seen(now, eni, slots);
            } else {
                let device = eni.facts.device;
                let other =
                    Other { device, foreign: false, shown: true, told: None, since: now, seen: Some(eni.clone()) };
                self.others.insert(eni.facts.id, other);
            }
        }
    }

    /// ENIs the checkpoint knows and the metadata did not show are kept, without new pods, until EC2 has been asked.
    pub(crate) fn recall_enis(&mut self, now: Time, enis: &[CheckpointEni]) {
        for eni in enis {
            let id = &eni.facts.id;
            let displaced = || self.others.values().any(|other| other.device == eni.facts.device);
            let stays = self.pool.eni(id).is_some() || !displaced();
            // Metadata that lag show positions where they were. Nothing recorded is on two ENIs, so it is only they that give way, and
            // not where they are all there is to go by.
            let recorded: &[Slot] = if stays && self.config.cloud.may_ask() { &eni.slots } else { &[] };
            for (from, slot) in self.pool.make_way(id, recorded, true).0 {
                let what = format!(
                    "the metadata show {slot} on {from}, the checkpoint an address of it on {id}; EC2 is asked"
                );
                self.say(Notice::Disagreement { what });
            }
            match self.pool.eni(id) {
                Some(known) => {
                    let lacking = |slot: &Slot| !known.slots.contains_key(slot);
                    let lacking: Vec<Slot> = eni.slots.iter().copied().filter(lacking).collect();
                    if !lacking.is_empty() {
                        // The metadata lag: what the checkpoint recorded stays, without new pods until EC2 has been asked.
                        let count = lacking.len();
                        if let Err(error) = self.pool.admit(id, lacking.iter().copied()) {
                            self.say(Notice::Disagreement { what: error.to_string() });
                        }
                        for slot in lacking {
                            self.set_slot(id, slot, SlotState::Unconfirmed);
                            self.recon.remembered.insert((id.clone(), slot));
                        }
                        self.say(Notice::Disagreement {
                            what: format!("the checkpoint has {count} positions of {id} that the metadata do not list; EC2 is asked"),
                        });
                    }
                }
                None if self.others.values().any(|other| other.device == eni.facts.device) => {}
                None => {
                    let doubtful = PoolEni {
                        facts: eni.facts.clone(),
                        attachment: eni.attachment.clone(),
                        since: now,
                        usage: EniUse::Doubtful,
                        role: EniRole::Pods,
                        keep: false,
                        slots: eni.slots.iter().map(|slot| (*slot, SlotState::Unconfirmed)).collect(),
                    };
                    let what =
                        format!("{id} is in the checkpoint but not in the metadata; its pods stay, EC2 is asked");
                    if self.pool.adopt(doubtful).is_ok() {
                        self.recon.remembered.extend(eni.slots.iter().map(|slot| (id.clone(), *slot)));
                        self.say(Notice::Disagreement { what });
                    }
                }
            }
        }
    }

    /// What has been said at the start need not be said again when the metadata still show the same.
    pub(crate) fn start_doubts(&mut self, now: Time) {
        let shown = |id: &EniId| self.pool.eni(id).is_some_and(|eni| eni.usage != EniUse::Doubtful);
        let lacking = self.recon.remembered.iter().filter(|(id, _)| shown(id));
        let odd: BTreeSet<Odd> = lacking.map(|(id, slot)| Odd::SlotNotShown(id.clone(), *slot)).collect();
        if !odd.is_empty() {
            self.recon.doubts = Some(Doubts { odd, ask_again: now + self.config.audit_every, times: 1 });
        }
    }

    /// EC2 has said what the node's ENIs are.
    pub(crate) fn node_described(&mut self, now: Time, truths: Vec<EniTruth>) {
        let first = !self.recon.heard_ec2;
        self.recon.heard_ec2 = true;
        self.recon.fresh.retain(|_, since| now.since(*since) < Self::FRESH);
        for truth in &truths {
            if self.pool.eni(&truth.id).is_some() {
                self.refreshed(now, &truth.id, Some(truth.clone()));
            } else if truth.attachment.is_some() {
                match self.idle_build(&truth.id) {
                    // Its attach was carried out, and whatever would have told waits.
                    Some(number) => self.attachment_found(now, number, Some(truth.clone())),
                    None if self.is_building(&truth.id) => {}
                    None => self.judge_stranger(now, truth, first),
                }
            }
        }
        let not_told = |id: &EniId| truths.iter().all(|truth| truth.id != *id);
        let absent: Vec<EniId> = self.pool.enis().map(|eni| eni.facts.id.clone()).filter(not_told).collect();
        for id in absent {
            self.refreshed(now, &id, None);
        }
        for (id, other) in &mut self.others {
            other.told = Some(!not_told(id));
        }
        self.forget_others(now);
        self.put_tags(&truths);
        self.follow_groups();
        self.host.is_dirty();
    }

    /// ENIs that are not in the pool and have left the node take no position any more.
    fn forget_others(&mut self, now: Time) {
        let may_ask = self.config.cloud.may_ask();
        self.others.retain(|_, other| !other.has_gone(now, may_ask));
    }

    /// EC2 has said what an ENI of the pool is; `None` = it knows no such ENI, or does not list it here.
    pub(crate) fn refreshed(&mut self, now: Time, eni: &EniId, truth: Option<EniTruth>) {
        if self.cloud.back.leaving.contains_key(eni) {
            // Who gives it back asks by himself.
            return;
        }
        match truth {
            Some(truth) if truth.attachment.is_some() => self.confirmed(now, &truth),
            other => self.not_here(now, eni, other.as_ref()),
        }
    }

    /// Whether fetching more would be rash: what is on the node is not known before EC2 has said it (or could not).
    pub(crate) fn must_hear_first(&self) -> bool {
        let unsure = |eni: &PoolEni| {
            eni.usage == EniUse::Doubtful || eni.slots.values().any(|state| *state == SlotState::Unconfirmed)
        };
        let open = self.config.cloud.may_ask() && !self.recon.heard_ec2 && !self.cloud.describing_failed();
        // A new node asks one thing after the other: where thousands of them start together, it keeps its place from one bucket to the
        // next, and does not have to find it in each.
        let new = !self.said_ready && self.waiters.is_empty();
        open && (new || self.others.values().any(|other| !other.foreign) || self.pool.enis().any(unsure))
    }

    /// Asks for the metadata when their time has come.
    pub(crate) fn read_metadata(&mut self, now: Time) {
        let due = self.recon.next_reading.is_none_or(|at| at <= now);
        if due && self.recon.reading.is_none() && !self.terminating {
            let op = self.cloud.next_op();
            self.recon.reading = Some(op);
            self.out.push(Effect::ReadMetadata { op });
        }
    }

    /// Something has changed that the metadata may explain (a link came or went).
    pub(crate) fn read_metadata_soon(&mut self, now: Time) {
        let soon = now + Self::SOON;
        self.recon.next_reading = Some(self.recon.next_reading.map_or(soon, |at| at.min(soon)));
    }

    /// The first reading is the one the agent was started with.
    pub(crate) fn metadata_were_read(&mut self, now: Time) {
        self.recon.next_reading = Some(now + self.config.audit_every);
    }

    pub(crate) fn metadata_read(&mut self, now: Time, op: OpId, result: Result<Metadata, String>) {
        if self.recon.reading != Some(op) {
            return;
        }
        self.recon.reading = None;
        self.metadata_were_read(now);
        match result {
            // Half a picture is compared like a whole one: what it lacks only makes EC2 be asked.
            Ok(metadata) => self.compare(now, metadata),
            Err(error) => self.say(Notice::MetadataUnread { error }),
        }
    }

    fn compare(&mut self, now: Time, metadata: Metadata) {
        if !metadata.groups.is_empty() && metadata.groups != self.groups {
            self.groups.clone_from(&metadata.groups);
            self.places.groups(metadata.groups.clone());
            self.follow_groups();
        }
        if self.cloud.back.has_ghosts() {
            let positions =
                |seen: &SeenEni| seen.slots.iter().map(|slot| (seen.facts.id.clone(), *slot)).collect::<Vec<_>>();
            self.cloud.back.ghosts_are_among(&metadata.enis.iter().flat_map(positions).collect());
        }
        self.recon.fresh.retain(|_, since| now.since(*since) < Self::FRESH);
        if !self.config.cloud.may_ask() {
            return self.believe(now, metadata);
        }
        #[cfg(feature = "deliberate-bugs")]
        self.end_leases_not_shown(now, &metadata);
        self.others.values_mut().for_each(|other| other.shown = false);
        for seen in &metadata.enis {
            if let Some(other) = self.others.get_mut(&seen.facts.id) {
                (other.seen, other.shown) = (Some(seen.clone()), true);
            }
        }
        self.forget_others(now);
        let odd = self.differences(now, &metadata);
        if odd.is_empty() {
            self.recon.doubts = None;
            return;
        }
        let known = self.recon.doubts.as_ref().filter(|doubts| doubts.odd == odd);
        let (due, times) = known.map_or((true, 0), |doubts| (doubts.ask_again <= now, doubts.times));
        if due {
            // The same difference again: EC2 has been heard on it. It is asked ever more rarely.
            let pause = self.config.audit_every.0.saturating_mul(1 << times.min(5));
            if times == 0 {
                self.say(Notice::Disagreement { what: in_words(&odd) });
            }
            self.recon.doubts = Some(Doubts { odd, ask_again: now + Millis(pause), times: times + 1 });
            self.ask_about_node();
        }
    }

    fn differences(&self, now: Time, metadata: &Metadata) -> BTreeSet<Odd> {
        let mut odd = BTreeSet::new();
        for seen in &metadata.enis {
            let id = &seen.facts.id;
            let Some(known) = self.pool.eni(id) else {
                let undecided = self.others.get(id).is_none_or(|other| !other.foreign);
                let underway = self.is_building(id) && self.idle_build(id).is_none();
                if seen.usable && undecided && !underway {
                    odd.insert(Odd::UnknownEni(id.clone()));
                }
                continue;
            };
            match known.usage {
                EniUse::Leaving => continue,
                // The metadata show it again, and EC2 has not said so yet.
                EniUse::Doubtful => drop(odd.insert(Odd::EniInDoubt(id.clone()))),
                EniUse::SettingUp | EniUse::Ready => {}
            }
            let shown: BTreeSet<Slot> = seen.slots.iter().copied().collect();
            for slot in shown.iter().filter(|slot| !known.slots.contains_key(slot) && !self.was_released(id, **slot)) {
                odd.insert(Odd::UnknownSlot(id.clone(), *slot));
            }
            for (slot, state) in &known.slots {
                let settled = *state != SlotState::Leaving && !self.recon.is_fresh(id, *slot);
                if settled && (*state != SlotState::Held || !shown.contains(slot)) {
                    odd.insert(Odd::SlotNotShown(id.clone(), *slot));
                }
            }
        }
        let shown = |id: &EniId| metadata.enis.iter().any(|seen| seen.facts.id == *id);
        let settled =
            self.pool.enis().filter(|eni| eni.usage != EniUse::Leaving && now.since(eni.since) >= Self::FRESH);
        odd.extend(settled.map(|eni| eni.facts.id.clone()).filter(|id| !shown(id)).map(Odd::EniNotShown));
        odd
    }

    /// The metadata are all there is (EC2 may not be asked): what they show is there. What they do not show gets no new pods, and
    /// leaves the books when they have not shown it for a while and no pod uses it.
    fn believe(&mut self, now: Time, metadata: Metadata) {
        for (id, other) in &mut self.others {
            other.shown = metadata.enis.iter().any(|seen| seen.facts.id == *id);
        }
        self.forget_others(now);
        let shown = |id: &EniId| metadata.enis.iter().any(|seen| seen.facts.id == *id);
        let absent: Vec<EniId> = self.pool.enis().map(|eni| eni.facts.id.clone()).filter(|id| !shown(id)).collect();
        for id in absent {
            self.refreshed(now, &id, None);
        }
        for seen in metadata.enis {
            let id = seen.facts.id.clone();
            match self.pool.eni(&id) {
                Some(known) => {
                    let positions: Vec<Slot> = known.positions().collect();
                    if known.usage == EniUse::Doubtful {
                        self.recon.absent.remove(&id);
                        self.set_use(&id, EniUse::SettingUp);
                        self.host.is_dirty();
                    }
                    let is_there = |slot: &Slot| !self.cloud.back.is_ghost(&id, *slot);
                    let shown: Vec<Slot> = seen.slots.iter().copied().filter(is_there).collect();
                    self.admit(now, &id, &shown);
                    self.weigh(now, &id, &positions, &shown);
                }
                None if seen.usable => {
                    let slots = seen.slots.iter().map(|slot| (*slot, SlotState::Held)).collect();
                    self.adopt_seen(now, seen, slots);
                }
                None => {}
            }
        }
    }

    /// An attached ENI that is not in the pool.
    fn judge_stranger(&mut self, now: Time, truth: &EniTruth, first: bool) {
        let Some((attachment, card, device)) = truth.attachment.clone() else { return };
        if card.0 != 0 {
            return;
        }
        let ours = self.is_ours(truth);
        let tagged = truth.tags.contains_key(INSTANCE_TAG) || truth.tags.contains_key(NO_MANAGE_TAG);
        let known = self.others.get(&truth.id);
        let since = known.map_or(now, |other| other.since);
        // One that somebody has just attached may get its `no_manage` tag a moment later.
        let ripe = tagged || first || now.since(since) >= Self::UNTAGGED_GRACE;
        let shown = known.is_some_and(|other| other.shown);
        let subnet = self.pool.enis().find(|eni| eni.facts.subnet_id.as_ref() == Some(&truth.subnet));
        let subnet = subnet.map(|eni| eni.facts.subnet);
        let seen = known.and_then(|other| other.seen.clone()).filter(|seen| seen.usable);
        let facts = seen.map(|seen| seen.facts).or_else(|| {
            Some(EniFacts {
                id: truth.id.clone(),
                mac: truth.mac,
                card,
                device,
                subnet: subnet?,
                subnet_id: Some(truth.subnet.clone()),
                primary: truth.primary,
            })
        });
        match facts.filter(|_| ours && ripe) {
            Some(facts) => {
                if !bug!(EniAdoptedTwice) {
                    self.others.remove(&truth.id);
                }
                let slots = truth.slots.iter().map(|slot| (*slot, SlotState::Held)).collect();
                self.adopt_seen(now, SeenEni { facts, slots: truth.slots.clone(), usable: true }, slots);
                if self.pool.set_attachment(&truth.id, attachment).is_ok() {
                    self.confirmed(now, truth);
                }
            }
            None => {
                let seen = self.others.remove(&truth.id).and_then(|other| other.seen);
                let other = Other { device, seen, foreign: !ours, shown, told: Some(true), since };
                self.others.insert(truth.id.clone(), other);
                if ours {
                    self.read_metadata_soon(now);
                }
            }
        }
    }

    fn confirmed(&mut self, now: Time, truth: &EniTruth) {
        let id = &truth.id;
        let Some(known) = self.pool.eni(id) else { return };
        let (usage, primary) = (known.usage, known.facts.is_primary());
        let positions: Vec<Slot> = known.positions().collect();
        self.recon.absent.remove(id);
        self.recon.remembered.retain(|(eni, _)| eni != id);
        self.tie(truth);
        self.recon.groups.insert(id.clone(), truth.groups.clone());
        if truth.tags.get(INSTANCE_TAG).is_some_and(|owner| owner == self.instance.as_str()) {
            self.recon.made_by_us.insert(id.clone());
        }
        if let Some((attachment, ..)) = &truth.attachment
            && let Err(error) = self.pool.set_attachment(id, attachment.clone())
        {
            return self.say(Notice::Disagreement { what: error.to_string() });
        }
        self.admit(now, id, &truth.slots);
        self.weigh(now, id, &positions, &truth.slots);
        if usage == EniUse::Doubtful {
            self.set_use(id, EniUse::SettingUp);
            self.host.is_dirty();
        }
        if !primary && !self.is_ours(truth) {
            return self.hand_over(id, truth);
        }
        let role = self.role_of(id);
        self.set_role(id, role, truth.kind == EniKind::Efa);
    }

    /// An earlier life of this daemon may have ended between attaching an ENI and tying it to its instance.
    fn tie(&mut self, truth: &EniTruth) {
        let ours = truth.tags.get(INSTANCE_TAG).is_some_and(|owner| owner == self.instance.as_str());
        let loose = truth.delete_on_termination == Some(false) && ours && self.is_ours(truth);
        if let Some((attachment, _, device)) = &truth.attachment
            && loose
            && device.0 != 0
            && self.config.cloud.may_change()
            && self.recon.tied.insert(truth.id.clone())
        {
            self.set_termination(truth.id.clone(), attachment.clone());
        }
    }

    /// Somebody keeps an ENI of ours for himself now: its pods stay, it gets no new ones, and it is never given back.
    fn hand_over(&mut self, id: &EniId, truth: &EniTruth) {
        self.set_role(id, EniRole::Retired(Retired::NotOurs), true);
        if self.busy(id) {
            return;
        }
        if let Some((_, _, device)) = truth.attachment
            && let Ok(eni) = self.pool.remove(id)
        {
            self.recon.forget(id);
            self.touch_disk();
            let other = Other { device, seen: None, foreign: true, shown: true, told: Some(true), since: eni.since };
            self.others.insert(id.clone(), other);
        }
    }

    /// Positions of the books that the answer lacks.
    fn weigh(&mut self, now: Time, eni: &EniId, known: &[Slot], told: &[Slot]) {
        for slot in known {
            let entry = (eni.clone(), *slot);
            let state = self.pool.eni(eni).and_then(|eni| eni.slots.get(slot)).copied();
            let Some(state) = state.filter(|state| *state != SlotState::Leaving) else { continue };
            if told.contains(slot) {
                self.recon.lacking.remove(&entry);
                self.set_slot(eni, *slot, SlotState::Held);
                continue;
            }
            if self.recon.is_fresh(eni, *slot) {
                continue;
            }
            let since = *self.recon.lacking.entry(entry.clone()).or_insert(now);
            let (held, cooling) = self.pool.on_slot(*slot);
            // What only the metadata showed has EC2 against it; what was ours must be lacking twice.
            let sure = state == SlotState::Unconfirmed || now.since(since) >= Self::SETTLED;
            if held + cooling == 0 && sure {
                self.recon.lacking.remove(&entry);
                match self.pool.forget_slot(eni, *slot) {
                    Ok(()) => drop(self.touch_disk()),
                    Err(error) => self.say(Notice::Disagreement { what: error.to_string() }),
                }
            } else if state != SlotState::Missing {
                self.set_slot(eni, *slot, SlotState::Missing);
                let pods = if held > 0 { "its pods stay" } else { "nobody new gets it" };
                self.say(Notice::Disagreement { what: format!("EC2 does not list {slot} on {eni} any more; {pods}") });
            }
        }
    }

    /// EC2 does not show an ENI of the pool attached here.
    fn not_here(&mut self, now: Time, eni: &EniId, truth: Option<&EniTruth>) {
        let Some(known) = self.pool.eni(eni) else { return };
        // Its tie is being cut, and EC2 says so of this very ENI. An answer that lags shows it available, or nowhere.
        let leaves = truth.is_some_and(|truth| !truth.available);
        let doubtful = known.usage == EniUse::Doubtful;
        let fresh = now.since(known.since) < Self::FRESH && !doubtful && !leaves;
        if known.facts.is_primary() || fresh {
            return;
        }
        if truth.and_then(|truth| truth.tags.get(INSTANCE_TAG)).is_some_and(|owner| owner == self.instance.as_str()) {
            self.recon.made_by_us.insert(eni.clone());
        }
        let first = !self.recon.absent.contains_key(eni);
        let since = *self.recon.absent.entry(eni.clone()).or_insert(now);
        // Doubtful at start: the metadata did not show it either.
        let sure = if first { doubtful } else { now.since(since) >= Self::SETTLED };
        if (sure || leaves) && !self.busy(eni) {
            let available = truth.is_some_and(|truth| truth.available);
            let made_by_us = self.recon.made_by_us.contains(eni);
            // An earlier life of this daemon detached it, and did not live to delete it.
            match self.config.cloud.may_release() && (made_by_us || (available && doubtful)) {
                true if available => return self.leave(eni, Job::Delete(eni.clone())),
                true if leaves => return self.leave(eni, Job::AwaitDetached(eni.clone())),
                // It is not among the node's: it may have been cut loose since the last answer.
                true => {
                    self.gone(eni);
                    return self.start_job(Job::Discard(eni.clone()), 0);
                }
                false if !leaves => return self.gone(eni),
                false => {}
            }
        }
        if !doubtful {
            self.set_use(eni, EniUse::Doubtful);
        }
        if first {
            let what = format!("EC2 does not say that {eni} is attached here; what is on it is kept as it is");
            self.say(Notice::Disagreement { what });
        }
    }

    /// What EC2 lacked and nobody uses leaves the books with EC2's next word: that is asked for, and not left to the metadata, which
    /// may have said all they had to say. What pods use stays until they have gone; then it is asked about in its turn.
    pub(crate) fn look_again(&mut self, now: Time) {
        if !self.config.cloud.may_ask() || !self.lacks_what_nobody_uses() {
            self.recon.second_look = None;
            return;
        }
        let at = *self.recon.second_look.get_or_insert(now + Self::SETTLED);
        if at <= now {
            self.recon.second_look = Some(now + Self::SETTLED);
            self.ask_about_node();
        }
    }

    fn lacks_what_nobody_uses(&self) -> bool {
        let unused = |position: Position| position.state == SlotState::Missing && position.held + position.cooling == 0;
        self.recon.lacking.keys().any(|(_, slot)| self.pool.position(*slot).is_some_and(unused))
            || self
                .recon
                .absent
                .keys()
                .any(|id| self.pool.eni(id).is_some_and(|eni| eni.usage == EniUse::Doubtful) && !self.busy(id))
    }

    /// Positions that EC2 says are on an ENI now leave where the books had them before; `sure`: it has just put them there, and does not
    /// merely list them. Gives back those that can be entered: what is merely listed can not, while the books have it elsewhere as held,
    /// on an ENI that is not in doubt itself.
    pub(crate) fn make_way(&mut self, now: Time, eni: &EniId, slots: &[Slot], sure: bool) -> Vec<Slot> {
        let (gone, blocked) = self.pool.make_way(eni, slots, sure);
        for (from, slot) in gone {
            self.recon.lacking.remove(&(from.clone(), slot));
            self.cloud.back.gone.insert((from.clone(), slot), now);
            self.touch_disk();
            self.host.is_dirty();
            let what = format!("{slot} has left {from}: EC2 has given an address of it to {eni}");
            self.say(Notice::Disagreement { what });
        }
        for slot in &blocked {
            let what = format!("EC2 says that {slot} is on {eni}; the books have an address of it elsewhere");
            self.say(Notice::Disagreement { what });
        }
        slots.iter().copied().filter(|slot| !blocked.contains(slot)).collect()
    }

    /// New positions of an ENI. Those that are known stay what they are.
    pub(crate) fn admit(&mut self, now: Time, eni: &EniId, slots: &[Slot]) {
        let Some(known) = self.pool.eni(eni) else { return };
        let new: Vec<Slot> = slots
            .iter()
            .copied()
            .filter(|slot| !known.slots.contains_key(slot) && *slot != Slot::Address(known.facts.primary))
            .filter(|slot| !self.was_released(eni, *slot))
            .collect();
        let new = self.make_way(now, eni, &new, false);
        if new.is_empty() {
            return;
        }
        self.recon.given(now, eni, &new);
        match self.pool.admit(eni, new.iter().copied()) {
            Ok(()) => {
                self.touch_disk();
                self.say(Notice::Grown { eni: eni.clone(), count: new.len() });
            }
            Err(error) => self.say(Notice::Disagreement { what: error.to_string() }),
        }
    }

    /// One call puts all our tags on all ENIs of ours that lack one.
    fn put_tags(&mut self, truths: &[EniTruth]) {
        if !self.config.cloud.may_change() || self.config.tags.is_empty() {
            return;
        }
        let ours = |truth: &&EniTruth| self.pool.eni(&truth.id).is_some_and(|eni| eni.usage != EniUse::Leaving);
        let mut tags = BTreeMap::new();
        let mut enis = Vec::new();
        for truth in truths.iter().filter(ours).filter(|truth| truth.kind != EniKind::Trunk && self.is_ours(truth)) {
            let lacking: Vec<_> =
                self.config.tags.iter().filter(|(key, value)| truth.tags.get(*key) != Some(value)).collect();
            if !lacking.is_empty() {
                enis.push(truth.id.clone());
                tags.extend(lacking.into_iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        if !enis.is_empty() {
            self.tag_enis(enis, tags);
        }
    }

    /// ENIs of ours have the primary one's security groups. With custom networking the ENIConfig says which, and nobody else.
    pub(crate) fn follow_groups(&mut self) {
        if !self.config.cloud.may_change() || self.config.placing.custom.is_some() || self.groups.is_empty() {
            return;
        }
        let mut wanted = self.groups.clone();
        wanted.sort();
        let differs = |id: &EniId| {
            self.recon.groups.get(id).is_some_and(|groups| {
                let mut has = groups.clone();
                has.sort();
                has != wanted
            })
        };
        let followers: Vec<EniId> = self
            .pool
            .enis()
            .filter(|eni| !eni.facts.is_primary() && eni.usage != EniUse::Leaving)
            .map(|eni| eni.facts.id.clone())
            .filter(|id| self.recon.made_by_us.contains(id) && differs(id))
            .collect();
        for eni in followers {
            self.recon.groups.insert(eni.clone(), wanted.clone());
            self.set_groups(eni, wanted.clone());
        }
    }

    /// An ENI was made and attached by this agent just now.
    pub(crate) fn made(&mut self, now: Time, truth: &EniTruth) {
        self.recon.tied.insert(truth.id.clone());
        self.recon.made_by_us.insert(truth.id.clone());
        self.recon.groups.insert(truth.id.clone(), truth.groups.clone());
        self.recon.given(now, &truth.id, &truth.slots);
    }

    pub(crate) fn set_role(&mut self, eni: &EniId, role: EniRole, keep: bool) {
        let was = self.pool.eni(eni).map(|eni| (eni.role, eni.keep));
        if was == Some((role, keep)) {
            return;
        }
        if let Err(error) = self.pool.set_role(eni, role, keep) {
            return self.say(Notice::Disagreement { what: error.to_string() });
        }
        if was.map(|(role, _)| role) != Some(role) {
            self.say(Notice::RoleChanged { eni: eni.clone(), role });
        }
    }

    fn set_slot(&mut self, eni: &EniId, slot: Slot, state: SlotState) {
        if let Err(error) = self.pool.set_slot(eni, slot, state) {
            self.say(Notice::Disagreement { what: error.to_string() });
        }
    }

    /// An ENI has come: whatever the books have in its place can not be there any more. Its pods stay, nobody new gets it.
    pub(crate) fn takes_its_place(&mut self, now: Time, id: &EniId) {
        let Some(facts) = self.pool.eni(id).map(|eni| eni.facts.clone()) else { return };
        let settled = |usage| matches!(usage, EniUse::SettingUp | EniUse::Ready);
        let others: Vec<EniId> =
            self.in_place_of(&facts).filter(|eni| settled(eni.usage)).map(|eni| eni.facts.id.clone()).collect();
        for other in others {
            self.recon.absent.entry(other.clone()).or_insert(now);
            self.set_use(&other, EniUse::Doubtful);
            self.say(Notice::Disagreement { what: format!("{id} is attached in the place of {other}; EC2 is asked") });
        }
    }

    /// Other ENIs of the pool that the books have in the same place.
    pub(crate) fn in_place_of(&self, facts: &EniFacts) -> impl Iterator<Item = &PoolEni> {
        let (id, place) = (facts.id.clone(), (facts.card, facts.device));
        self.pool.enis().filter(move |eni| eni.facts.id != id && (eni.facts.card, eni.facts.device) == place)
    }

    fn adopt_seen(&mut self, now: Time, eni: SeenEni, slots: BTreeMap<Slot, SlotState>) {
        let id = eni.facts.id.clone();
        let adopted = PoolEni {
            facts: eni.facts,
            attachment: None,
            since: now,
            usage: EniUse::SettingUp,
            role: EniRole::Pods,
            keep: false,
            slots,
        };
        match self.pool.adopt(adopted) {
            Ok(()) => {
                self.takes_its_place(now, &id);
                let role = self.role_of(&id);
                self.set_role(&id, role, false);
                self.touch_disk();
                self.host.is_dirty();
            }
            Err(error) => self.say(Notice::Disagreement { what: error.to_string() }),
        }
    }

    /// The rules of the tags.
    pub(crate) fn is_ours(&self, truth: &EniTruth) -> bool {
        let tag = |key: &str| truth.tags.get(key).map(String::as_str);
        let ours = match (tag(NO_MANAGE_TAG), tag(INSTANCE_TAG)) {
            (Some(value), _) => value != "true",
            (None, Some(owner)) if owner == self.instance.as_str() => true,
            (None, _) => self.config.manage_untagged,
        };
        ours && matches!(truth.kind, EniKind::Ordinary | EniKind::Efa)
    }

    /// How long EC2's own answers may lack what it has just given (its reads lag behind its writes).
    pub(crate) const FRESH: Millis = Millis::seconds(60);
    /// Two answers of EC2 that lack something count as two only with so much time between.
    const SETTLED: Millis = Millis::seconds(30);
    /// How long an ENI that somebody attached to the running node stays undecided while it has no tag of ours.
    const UNTAGGED_GRACE: Millis = Millis::seconds(60);
    /// Reading ahead of time: links come in groups.
    const SOON: Millis = Millis::seconds(5);
}

fn in_words(odd: &BTreeSet<Odd>) -> String {
    let mut words: Vec<String> = odd
        .iter()
        .take(4)
        .map(|odd| match odd {
            Odd::UnknownEni(eni) => format!("they show {eni}, which is not in the books"),
            Odd::EniNotShown(eni) => format!("they do not show {eni}"),
            Odd::UnknownSlot(eni, slot) => format!("they show {slot} on {eni}"),
            Odd::SlotNotShown(eni, slot) => format!("they do not show {slot} on {eni}"),
            Odd::EniInDoubt(eni) => format!("they show {eni}, which EC2 did not"),
        })
        .collect();
    if odd.len() > words.len() {
        words.push(format!("and {} more", odd.len() - words.len()));
    }
    format!("the metadata and the books differ: {}; EC2 is asked", words.join(", "))
}
