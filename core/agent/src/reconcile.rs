//! What is true of the node's ENIs: metadata, EC2, kernel and checkpoint laid side by side.
//!
//! ```text
//!   start: metadata + checkpoint --> what was ours is ours; what the checkpoint recorded may be given at once
//!   EC2 (DescribeNode) ----------> whose the other ENIs are; what else is on ours
//! ```
//!
//! One odd answer removes nothing: what a source does not mention is marked, said and kept as long as a pod uses it.

use std::collections::BTreeMap;

use vpc_ipam::{EniRole, EniUse, PoolEni, SlotState};
use vpc_model::{EniId, Slot, Time};

use crate::agent::{Agent, Other};
use crate::checkpoint::CheckpointEni;
use crate::cloud::{EniKind, EniTruth};
use crate::config::SeenEni;
use crate::message::Notice;

/// `true` takes an ENI away from us, anything else gives it to us.
const NO_MANAGE_TAG: &str = "node.k8s.amazonaws.com/no_manage";
/// Names the instance whose daemon made an ENI.
const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";

impl Agent {
    /// The node as the metadata show it at start. Without EC2's word only the primary ENI and those that were ours before are ours:
    /// one that somebody keeps for himself must not get pods because EC2 is away.
    pub(crate) fn take_in_metadata(&mut self, now: Time, seen: Vec<SeenEni>, known: &[CheckpointEni]) {
        let believed = !self.config.cloud.may_ask();
        for eni in seen {
            let recorded = known.iter().find(|other| other.facts.id == eni.facts.id);
            if eni.facts.is_primary() || (eni.usable && (believed || recorded.is_some())) {
                let recorded: &[Slot] = recorded.map_or(&[], |eni| &eni.slots);
                let state = |slot: &Slot| {
                    if believed || recorded.contains(slot) { SlotState::Held } else { SlotState::Unconfirmed }
                };
                let slots = eni.slots.iter().map(|slot| (*slot, state(slot))).collect();
                self.adopt_seen(now, eni, slots);
            } else {
                let other = Other { device: eni.facts.device, foreign: false, seen: Some(eni.clone()) };
                self.others.insert(eni.facts.id, other);
            }
        }
    }

    /// ENIs the checkpoint knows and the metadata did not show are kept, without new pods, until EC2 has been asked.
    pub(crate) fn recall_enis(&mut self, now: Time, enis: &[CheckpointEni]) {
        for eni in enis {
            let id = &eni.facts.id;
            match self.pool.eni(id) {
                Some(known) => {
                    let lacking = |slot: &Slot| !known.slots.contains_key(slot);
                    let lacking: Vec<Slot> = eni.slots.iter().copied().filter(lacking).collect();
                    if !lacking.is_empty() {
                        // The metadata lag: what the checkpoint recorded stays, without new pods until EC2 has been asked.
                        self.admit_as(id, &lacking, SlotState::Unconfirmed);
                        let count = lacking.len();
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
                        self.say(Notice::Disagreement { what });
                    }
                }
            }
        }
    }

    /// EC2 has said what the node's ENIs are.
    pub(crate) fn node_described(&mut self, now: Time, truths: Vec<EniTruth>) {
        for truth in &truths {
            if self.pool.eni(&truth.id).is_some() {
                self.refreshed(&truth.id, Some(truth.clone()));
            } else if let Some((attachment, _, device)) = truth.attachment.clone() {
                let seen = self.others.get(&truth.id).and_then(|other| other.seen.clone());
                match seen.filter(|seen| seen.usable && self.is_ours(truth)) {
                    Some(seen) => {
                        self.others.remove(&truth.id);
                        let slots = truth.slots.iter().map(|slot| (*slot, SlotState::Held)).collect();
                        self.adopt_seen(now, seen, slots);
                        if let Err(error) = self.pool.set_attachment(&truth.id, attachment) {
                            self.say(Notice::Disagreement { what: error.to_string() });
                        }
                    }
                    None => {
                        let seen = self.others.remove(&truth.id).and_then(|other| other.seen);
                        let foreign = !self.is_ours(truth);
                        self.others.insert(truth.id.clone(), Other { device, seen, foreign });
                    }
                }
            }
        }
        let unknown: Vec<EniId> = self
            .pool
            .enis()
            .filter(|eni| eni.usage != EniUse::Leaving)
            .map(|eni| eni.facts.id.clone())
            .filter(|id| truths.iter().all(|truth| truth.id != *id))
            .collect();
        for id in unknown {
            self.refreshed(&id, None);
        }
        self.host.is_dirty();
    }

    fn adopt_seen(&mut self, now: Time, eni: SeenEni, slots: BTreeMap<Slot, SlotState>) {
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
                self.touch_disk();
                self.host.is_dirty();
            }
            Err(error) => self.say(Notice::Disagreement { what: error.to_string() }),
        }
    }

    /// The rules of the tags.
    fn is_ours(&self, truth: &EniTruth) -> bool {
        let tag = |key: &str| truth.tags.get(key).map(String::as_str);
        let ours = match (tag(NO_MANAGE_TAG), tag(INSTANCE_TAG)) {
            (Some(value), _) => value != "true",
            (None, Some(owner)) if owner == self.instance.as_str() => true,
            (None, _) => self.config.manage_untagged,
        };
        ours && matches!(truth.kind, EniKind::Ordinary | EniKind::Efa)
    }
}
