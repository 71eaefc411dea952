//! What is true of the node's ENIs: metadata, EC2, kernel and checkpoint laid side by side.
//!
//! ```text
//!   start: metadata + checkpoint ----> what was ours is ours; what the checkpoint recorded may be given at once
//!   EC2 (DescribeNode) --------------> whose the other ENIs are; what is on ours; tags and security groups put right
//!   metadata, read from time to time -> agree: nothing.  Differ: EC2 is asked, and its word holds
//! ```
//!
//! What the metadata show is in [`metadata`]; here is what EC2 says.
//!
//! The metadata are cheap to read and lag behind; EC2 is asked only where they differ from the books. One odd answer removes
//! nothing: what EC2 does not mention any more is marked (nobody new gets it), and leaves the books only when a later answer still
//! lacks it and no pod uses it.

use std::collections::{BTreeMap, BTreeSet};

use vpc_ipam::{EniFacts, EniRole, EniUse, PoolEni, Position, Retired, SlotState, bug};
use vpc_model::{EniId, Millis, SecurityGroupId, Slot, Time};

use crate::agent::{Agent, Other};
use crate::cloud::{EniKind, EniTruth, OpId};
use crate::config::SeenEni;
use crate::jobs::Job;
use crate::message::{Notice, Wake};

mod metadata;

use metadata::Doubts;

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
    absent: BTreeMap<EniId, Absence>,
    /// When EC2 is asked again about what it lacked and nobody uses.
    second_look: Option<Time>,
    /// What the metadata last showed.
    shown: BTreeMap<EniId, Vec<Slot>>,
    /// Differences between metadata and books that EC2 has been asked about: when it is asked again if they stay the same.
    doubts: Option<Doubts>,
    /// Security groups of ENIs, as EC2 last said.
    groups: BTreeMap<EniId, Vec<SecurityGroupId>>,
    /// Positions the checkpoint recorded and the metadata did not show at the start: recorded until EC2 has been heard.
    remembered: BTreeSet<(EniId, Slot)>,
    /// ENIs that have been asked to go with their instance.
    tied: BTreeSet<EniId>,
    /// ENIs that EC2 last showed without a tag that says whose they are: the settings do.
    untagged: BTreeSet<EniId>,
    /// ENIs that have left, and that the metadata have shown ever since: where nobody else may be asked they are not believed.
    ghosts: BTreeSet<EniId>,
    /// ENIs that a daemon made for this instance: only their security groups follow the primary's.
    made_by_us: BTreeSet<EniId>,
}

/// EC2 does not show an ENI of the pool on this instance.
#[derive(Clone, Copy, Debug)]
struct Absence {
    since: Time,
    /// It has said so twice, or what the metadata showed at the start lacked it too.
    sure: bool,
}

impl Absence {
    fn new(since: Time) -> Self {
        Self { since, sure: false }
    }
}

impl Recon {
    /// Whether EC2 has said what the node's ENIs are since the start.
    pub(crate) fn heard_ec2(&self) -> bool {
        self.heard_ec2
    }

    /// Whether EC2 has said beyond doubt that an ENI of the pool is not on this instance.
    pub(crate) fn is_surely_absent(&self, eni: &EniId) -> bool {
        self.absent.get(eni).is_some_and(|absence| absence.sure)
    }

    /// Whether a position is the checkpoint's word alone.
    pub(crate) fn remembers(&self, eni: &EniId, slot: Slot) -> bool {
        self.remembered.contains(&(eni.clone(), slot))
    }

    /// EC2 has given these positions just now.
    pub(crate) fn given(&mut self, now: Time, eni: &EniId, slots: &[Slot]) {
        self.fresh.extend(slots.iter().map(|slot| ((eni.clone(), *slot), now)));
    }

    /// An ENI could not be asked to go with its instance.
    pub(crate) fn untie(&mut self, eni: &EniId) {
        self.tied.remove(eni);
    }

    /// An ENI has left.
    pub(crate) fn forget(&mut self, eni: &EniId) {
        if self.shown.contains_key(eni) {
            self.ghosts.insert(eni.clone());
        }
        self.fresh.retain(|(id, _), _| id != eni);
        self.lacking.retain(|(id, _), _| id != eni);
        self.absent.remove(eni);
        self.groups.remove(eni);
        self.made_by_us.remove(eni);
        self.untagged.remove(eni);
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
    /// EC2 has said what the node's ENIs are.
    pub(crate) fn node_described(&mut self, now: Time, truths: Vec<EniTruth>) {
        let first = !self.recon.heard_ec2;
        self.recon.heard_ec2 = true;
        self.recon.fresh.retain(|_, since| now.since(*since) < Self::FRESH);
        for truth in &truths {
            self.hear_whose_it_is(truth);
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
            let told = !not_told(id);
            (other.told, other.left) = (Some(told), !told && now.since(other.since) >= Self::SETTLED);
        }
        self.forget_others(now);
        self.put_tags(&truths);
        self.follow_groups();
        self.host.is_dirty();
    }

    /// ENIs that are not in the pool and have left the node take no position any more.
    fn forget_others(&mut self, now: Time) {
        let may_ask = self.config.cloud.may_ask();
        let recon = &mut self.recon;
        self.others.retain(|id, other| {
            let gone = other.has_gone(now, may_ask);
            if gone {
                recon.forget(id);
            }
            !gone
        });
        let (others, pool) = (&self.others, &self.pool);
        self.recon.untagged.retain(|id| others.contains_key(id) || pool.eni(id).is_some());
    }

    /// EC2 has said what an ENI of the pool is; `None` = it knows no such ENI, or does not list it here.
    pub(crate) fn refreshed(&mut self, now: Time, eni: &EniId, truth: Option<EniTruth>) {
        if self.cloud.back.leaving.contains_key(eni) {
            // Who gives it back asks by himself.
            return;
        }
        match truth {
            Some(truth) if truth.attachment.is_some() => {
                self.hear_whose_it_is(&truth);
                self.confirmed(now, &truth);
            }
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
                let slots = truth.slots.iter().map(|slot| (*slot, SlotState::Held)).collect();
                self.adopt_seen(now, SeenEni { facts, slots: truth.slots.clone(), usable: true }, slots);
                if self.pool.set_attachment(&truth.id, attachment).is_ok() {
                    self.confirmed(now, truth);
                }
            }
            None => {
                let seen = self.others.remove(&truth.id).and_then(|other| other.seen);
                let other = Other { device, seen, foreign: !ours, shown, told: Some(true), left: false, since };
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
        self.hear_of_ghosts(truth);
        self.admit(now, id, &truth.slots);
        self.weigh(now, id, &positions, &truth.slots);
        if usage == EniUse::Doubtful {
            self.set_use(id, EniUse::SettingUp);
            // Metadata that lag may have shown another one there.
            self.takes_its_place(now, id);
            self.host.is_dirty();
        }
        if !primary && !self.is_ours(truth) {
            return self.hand_over(id, truth);
        }
        let role = self.role_of(id);
        self.set_role(id, role, truth.kind == EniKind::Efa);
    }

    /// The metadata show positions that EC2 does not list: they are behind the times. Should EC2 be forbidden meanwhile, and the metadata
    /// be all there is, they do not count for more than before.
    fn hear_of_ghosts(&mut self, truth: &EniTruth) {
        let shown = self.recon.shown.get(&truth.id).map_or(&[][..], Vec::as_slice);
        let denied = |slot: &&Slot| !truth.slots.contains(slot) && !self.recon.is_fresh(&truth.id, **slot);
        let denied: Vec<Slot> = shown.iter().filter(denied).copied().collect();
        self.cloud.back.ec2_denies(&truth.id, denied);
    }

    /// An earlier life of this daemon may have ended between attaching an ENI and tying it to its instance. One without a tag that is
    /// ours by the settings gets ours with this same answer (`put_tags`): it is no different.
    fn tie(&mut self, truth: &EniTruth) {
        let loose = truth.delete_on_termination == Some(false) && self.is_ours(truth);
        if let Some((attachment, _, device)) = &truth.attachment
            && loose
            && device.0 != 0
            && self.config.cloud.may_change()
            && self.recon.tied.insert(truth.id.clone())
        {
            self.set_termination(truth.id.clone(), attachment.clone());
        }
    }

    fn hear_whose_it_is(&mut self, truth: &EniTruth) {
        let says = |tag: &str| truth.tags.contains_key(tag);
        if truth.kind == EniKind::Ordinary && !says(INSTANCE_TAG) && !says(NO_MANAGE_TAG) {
            self.recon.untagged.insert(truth.id.clone());
        } else {
            self.recon.untagged.remove(&truth.id);
        }
    }

    /// The settings say now that ENIs without a tag are ours. EC2 says so too where it may be asked; where it may not, what it last said
    /// of their tags holds.
    pub(crate) fn take_untagged(&mut self) {
        for id in self.recon.untagged.clone() {
            if let Some(other) = self.others.get_mut(&id) {
                other.foreign = false;
            }
            if self.pool.eni(&id).is_some_and(|eni| eni.role == EniRole::Retired(Retired::NotOurs)) {
                let role = self.role_of(&id);
                self.set_role(&id, role, false);
            }
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
            self.hear_whose_it_is(truth);
            self.touch_disk();
            let told = Some(true);
            let other = Other { device, seen: None, foreign: true, shown: true, told, left: false, since: eni.since };
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
    pub(crate) fn not_here(&mut self, now: Time, eni: &EniId, truth: Option<&EniTruth>) {
        let Some(known) = self.pool.eni(eni) else { return };
        // Its tie is being cut, and EC2 says so of this very ENI. An answer that lags shows it available, or nowhere.
        let leaves = truth.is_some_and(|truth| !truth.available);
        let doubtful = known.usage == EniUse::Doubtful;
        let fresh = now.since(known.since) < Self::FRESH && !doubtful && !leaves;
        if known.facts.is_primary() {
            return;
        }
        let first = !self.recon.absent.contains_key(eni);
        let absence = self.recon.absent.entry(eni.clone()).or_insert(Absence::new(now));
        if fresh {
            // EC2 is asked again soon.
            return;
        }
        // Doubtful at start: the metadata did not show it either.
        absence.sure |= if first { doubtful } else { now.since(absence.since) >= Self::SETTLED };
        let sure = absence.sure;
        if truth.and_then(|truth| truth.tags.get(INSTANCE_TAG)).is_some_and(|owner| owner == self.instance.as_str()) {
            self.recon.made_by_us.insert(eni.clone());
        }
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
        if first || !doubtful {
            let what = format!("EC2 does not say that {eni} is attached here; what is on it is kept as it is");
            self.say(Notice::Disagreement { what });
        }
    }

    /// What EC2 lacked and nobody uses leaves the books with EC2's next word: that is asked for, and not left to the metadata, which
    /// may have said all they had to say. What pods use stays until they have gone; then it is asked about in its turn. An ENI that EC2
    /// lacked is asked about once more all the same: if it has left, another can have its place. So is one that only the metadata show.
    pub(crate) fn look_again(&mut self, now: Time) {
        if !self.config.cloud.may_ask() || !self.is_unsettled() {
            self.recon.second_look = None;
            return;
        }
        let at = *self.recon.second_look.get_or_insert(now + Self::SETTLED);
        if at <= now {
            self.recon.second_look = Some(now + Self::SETTLED);
            self.ask_about_node();
        }
    }

    fn has_questions(&self, id: &EniId, absence: Absence) -> bool {
        match self.pool.eni(id).map(|eni| eni.usage) {
            Some(EniUse::Doubtful) => !absence.sure || !self.busy(id),
            Some(EniUse::SettingUp | EniUse::Ready) => true,
            Some(EniUse::Leaving) | None => false,
        }
    }

    fn is_unsettled(&self) -> bool {
        if self.others.values().any(|other| other.told == Some(false)) {
            return true;
        }
        let unused = |position: Position| position.state == SlotState::Missing && position.held + position.cooling == 0;
        self.recon.lacking.keys().any(|(_, slot)| self.pool.position(*slot).is_some_and(unused))
            || self.recon.absent.iter().any(|(id, absence)| self.has_questions(id, *absence))
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

    /// An ENI of the pool has come: it is none of the others any more, whoever showed it first, and whatever the books have in its place
    /// can not be there any more. The pods of that stay, nobody new gets it.
    pub(crate) fn takes_its_place(&mut self, now: Time, id: &EniId) {
        if !bug!(EniAdoptedTwice) {
            self.others.remove(id);
        }
        self.recon.ghosts.remove(id);
        let Some(facts) = self.pool.eni(id).map(|eni| eni.facts.clone()) else { return };
        let settled = |usage| matches!(usage, EniUse::SettingUp | EniUse::Ready);
        let others: Vec<EniId> =
            self.in_place_of(&facts).filter(|eni| settled(eni.usage)).map(|eni| eni.facts.id.clone()).collect();
        for other in others {
            self.recon.absent.entry(other.clone()).or_insert(Absence::new(now));
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
    pub(crate) const SETTLED: Millis = Millis::seconds(30);
    /// How long an ENI that somebody attached to the running node stays undecided while it has no tag of ours.
    const UNTAGGED_GRACE: Millis = Millis::seconds(60);
}
