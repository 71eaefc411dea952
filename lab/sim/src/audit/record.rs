//! What the auditor knows of a node: what its daemon was told and what it asked for, never what it thinks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use vpc_agent::{CloudAnswer, CloudCall, CloudFailure, ClusterNews, FailureClass, Input, NodeView, Notice, OpId};
use vpc_ipam::Unit;
use vpc_model::{EniId, Millis, Slot, SubnetId, Time};

use crate::audit::Fault;
use crate::world::{NodeAt, World, keep_newest};

/// So many of EC2's last failures are remembered.
const FAILURES: usize = 64;
/// So many of the times at which EC2 was asked what is on the node are remembered.
const NODE_ANSWERS: usize = 64;
/// EC2's answers are behind by less.
const LAG: Millis = Millis::seconds(6);
/// Two answers that lack something count as two only with so much time between (the agent's rule).
const TWICE: Millis = Millis::seconds(30);
/// What EC2 has just given may be missing from its answers for so long (the agent's rule).
const FRESH: Millis = Millis::seconds(65);
/// A call whose answer was lost is repeated by then: the longest pause is a minute, and EC2's tokens may be short meanwhile.
const ASKED_AGAIN: Millis = Millis::seconds(180);

/// The record of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    // -- of the daemon's present life
    /// When it began.
    pub(crate) begun: Option<Time>,
    /// It was asked to end.
    pub(super) ending: bool,
    /// What the host said last that was a failure, if nothing was done since.
    pub(super) host_failed: Option<(Time, String)>,
    /// The host was set as the daemon wished at least once.
    pub(super) host_set: bool,
    /// What the disk said last that was a failure.
    pub(super) disk_failed: Option<(Time, String)>,
    /// The node object as it was last told.
    pub(super) view: Option<NodeView>,
    /// ENIConfigs were told.
    pub(super) eni_configs: bool,
    pub(super) heard: Heard,
    // -- over all lives
    /// Since when somebody has broken the host, if the daemon has not set it right since.
    pub(super) hurt: Option<Time>,
    /// When the host was last looked at with success.
    pub(super) looked: Option<Time>,
    /// The checkpoint's file is gone; the daemon that wrote it still has it in memory, and writes it anew with its next change.
    pub(crate) disk_lost: bool,
    /// When the machine last went down.
    pub(crate) rebooted: Option<Time>,
    /// When the checkpoint was last lost while no daemon ran, or a daemon last began without it.
    pub(crate) lost_memory: Option<Time>,
    /// When an address last came to rest without a DEL that was answered: nobody was told it, or its sandbox was found gone.
    pub(super) ended_unseen: Option<Time>,
    /// When others last changed devices, or what is on them.
    pub(super) stirred: Option<Time>,
    /// When a device last came or went.
    pub(crate) moved: Option<Time>,
    pub(crate) spent: Spent,
    /// Positions it gave back itself, also in earlier lives whose checkpoint it has.
    pub(super) gave_back: BTreeSet<(EniId, Slot)>,
}

/// EC2 was asked what is on the node, and has answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    at: Time,
    answered: Time,
}

/// What EC2 told the daemon in its present life.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Calls that are not answered yet.
    pub(super) open: BTreeMap<OpId, CloudCall>,
    /// Failures, the newest last.
    pub(super) failures: VecDeque<(Time, CloudFailure)>,
    /// When something last came: an ENI, addresses.
    pub(super) brought: Option<Time>,
    /// What came of the last call that takes addresses of a subnet and tells whether there are any: something, or none.
    pub(super) subnets: BTreeMap<SubnetId, (Time, Option<FailureClass>)>,
    /// Addresses that this node gave back to a subnet: that they can be had again says nothing of its room.
    own: BTreeMap<SubnetId, u32>,
    /// The same of the last call that takes prefixes.
    pub(super) prefixes: BTreeMap<SubnetId, (Time, Option<FailureClass>)>,
    /// ENIs that may have been given more than the daemon knows: an answer was lost, and EC2 has not been heard on them since.
    pub(super) unclear: BTreeSet<EniId>,
    /// Tokens under which an ENI may have been made: since when the answer is lost, and it was not asked for again.
    pub(super) may_be_made: BTreeMap<String, Time>,
    /// ENIs that may have been attached, in the same way.
    pub(super) may_be_tied: BTreeSet<EniId>,
    /// It was told what the node's ENIs are.
    pub(super) node: bool,
    /// When it asked that, as far as it was answered.
    pub(super) asked_node: Vec<Asked>,
    /// When each call was made.
    asked: BTreeMap<OpId, Time>,
    /// It was told of the subnets.
    pub(super) listed: bool,
}

/// What a node's calls to EC2 are held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Requests.
    pub(crate) calls: u64,
    /// ADDs and DELs.
    pub(crate) pods: u64,
    /// Lives of the daemon.
    pub(crate) lives: u64,
    /// Answers that were failures, or none.
    pub(crate) failures: u64,
    /// News: settings, node objects, devices and addresses that others changed.
    pub(crate) stirs: u64,
}

impl Record {
    /// Whether the daemon can not know of a rest that began then: its checkpoint was lost after that.
    pub(super) fn forgot_rests(&self, began: Time) -> bool {
        self.lost_memory.is_some_and(|lost| lost >= began)
    }

    /// The daemon's life begins.
    pub(crate) fn begin(&mut self, now: Time, without_memory: bool) {
        *self = Self {
            begun: Some(now),
            hurt: self.hurt,
            looked: self.looked,
            disk_lost: false,
            lost_memory: if without_memory { Some(now) } else { self.lost_memory },
            ended_unseen: Some(now),
            stirred: self.stirred,
            moved: self.moved,
            rebooted: self.rebooted,
            spent: Spent { lives: self.spent.lives + 1, ..self.spent.clone() },
            gave_back: if without_memory { BTreeSet::new() } else { std::mem::take(&mut self.gave_back) },
            ..Self::default()
        };
    }

    /// The daemon said something of which nobody else hears: a lease without a sandbox came to rest.
    pub(crate) fn hear(&mut self, now: Time, notice: &Notice) {
        if matches!(notice, Notice::LeasePruned { .. } | Notice::LeaseAdopted { .. }) {
            self.ended_unseen = Some(now);
        }
    }

    /// A failure the daemon was told.
    pub(super) fn was_told(&self, failure: &CloudFailure) -> Option<Time> {
        self.heard.failures.iter().rev().find(|(_, told)| told == failure).map(|(at, _)| *at)
    }
}

impl World {
    /// The daemon is about to be told something.
    pub(crate) fn take_note(&mut self, node: NodeAt, input: &Input) {
        let now = self.now;
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let record = &mut own.audit;
        match input {
            Input::Add { .. } | Input::Del { .. } | Input::Undo { .. } => record.spent.pods += 1,
            // What it may have been given comes back without anybody having heard of it.
            Input::AddAbandoned { .. } => record.ended_unseen = Some(now),
            Input::HostObserved { result, .. } => match result {
                Ok(_) => record.looked = Some(now),
                Err(error) => record.host_failed = Some((now, error.clone())),
            },
            Input::HostApplied { result, .. } => match result {
                Ok(()) => {
                    (record.host_failed, record.host_set) = (None, true);
                    record.hurt = record.hurt.filter(|hurt| record.looked.is_none_or(|looked| looked < *hurt));
                }
                Err(error) => record.host_failed = Some((now, error.clone())),
            },
            Input::CheckpointWritten { result: Err(error), .. } => {
                record.disk_failed = Some((now, error.clone()));
                record.ended_unseen = Some(now);
            }
            Input::Terminate => record.ending = true,
            Input::Cluster(ClusterNews::Node(view)) => {
                record.spent.stirs += 1;
                record.view = Some(view.clone());
            }
            Input::Cluster(ClusterNews::EniConfigs(_)) => record.eni_configs = true,
            Input::Settings(_) => record.spent.stirs += 1,
            Input::CloudDone { op, result } => {
                let Some(call) = record.heard.open.remove(op) else { return };
                let asked = record.heard.asked.remove(op).unwrap_or(now);
                if call == CloudCall::DescribeNode && result.is_ok() {
                    record.heard.asked_node.push(Asked { at: asked, answered: now });
                    keep_newest(&mut record.heard.asked_node, NODE_ANSWERS);
                }
                let subnet = match &call {
                    CloudCall::CreateEni { place, .. } => Some(place.subnet.clone()),
                    CloudCall::Assign { eni, .. } | CloudCall::Unassign { eni, .. } => {
                        let mut tied = self.cloud.tied(&own.instance);
                        tied.find(|tied| tied.id == eni).map(|tied| tied.subnet.clone())
                    }
                    _ => None,
                };
                if let (CloudCall::Unassign { eni, slots }, Ok(_)) = (&call, result) {
                    record.gave_back.extend(slots.iter().map(|slot| (eni.clone(), *slot)));
                }
                record.heard.take(now, &call, subnet, result);
            }
            _ => {}
        }
    }

    /// The daemon asks EC2.
    pub(crate) fn note_call(&mut self, node: NodeAt, op: OpId, call: &CloudCall) {
        let Some(own) = self.nodes.get_mut(node.0) else { return };
        let heard = &mut own.audit.heard;
        heard.open.insert(op, call.clone());
        heard.asked.insert(op, self.now);
        match call {
            CloudCall::Assign { eni, .. } if heard.unclear.contains(eni) => {
                self.faults.push(Fault::AskedTwice { node, eni: eni.clone() });
            }
            CloudCall::Delete { eni } if heard.may_be_tied.contains(eni) => {
                self.faults.push(Fault::ThrownAway { node, eni: eni.clone() });
            }
            CloudCall::CreateEni { token, .. } => drop(heard.may_be_made.remove(token)),
            _ => {}
        }
    }

    /// Creates whose answer was lost and that were not asked for again although there was time for it.
    pub(super) fn abandoned(&self, node: NodeAt) -> Vec<Fault> {
        let Some(own) = self.nodes.get(node.0).filter(|own| own.agent.is_some()) else { return Vec::new() };
        if own.audit.ending || !own.config.cloud.may_change() {
            return Vec::new();
        }
        let lost = own.audit.heard.may_be_made.iter().filter(|(_, since)| self.now.since(**since) > ASKED_AGAIN);
        lost.map(|(token, since)| Fault::Abandoned { node, token: token.clone(), since: *since }).collect()
    }

    /// Somebody else has changed something of the node's.
    pub(crate) fn note_stir(&mut self, node: NodeAt) {
        let now = self.now;
        if let Some(own) = self.nodes.get_mut(node.0) {
            own.audit.stirred = Some(now);
            own.audit.spent.stirs += 1;
        }
    }

    /// A DEL comes for a sandbox that is gone. If that had ended without one, or was about to be told an address (`asking`), this is
    /// where that begins to rest.
    pub(crate) fn note_late_end(&mut self, node: NodeAt, asking: bool) {
        let now = self.now;
        let silent = asking || self.ended.values().any(|ended| ended.node == node && ended.unseen);
        if let Some(own) = self.nodes.get_mut(node.0).filter(|_| silent) {
            own.audit.ended_unseen = Some(now);
        }
    }

    /// A lease has ended of which no DEL was heard: its address begins to rest now.
    pub(crate) fn note_unseen_end(&mut self, node: NodeAt) {
        let now = self.now;
        if let Some(own) = self.nodes.get_mut(node.0) {
            own.audit.ended_unseen = Some(now);
        }
    }

    /// A device has come.
    pub(crate) fn note_moved(&mut self, node: NodeAt) {
        let now = self.now;
        if let Some(own) = self.nodes.get_mut(node.0) {
            own.audit.moved = Some(now);
        }
    }

    /// Somebody has broken the host.
    pub(crate) fn note_hurt(&mut self, node: NodeAt) {
        let now = self.now;
        if let Some(own) = self.nodes.get_mut(node.0) {
            own.audit.hurt = Some(now);
            own.audit.spent.stirs += 1;
        }
    }
}

impl Heard {
    fn take(
        &mut self,
        now: Time,
        call: &CloudCall,
        subnet: Option<SubnetId>,
        result: &Result<CloudAnswer, CloudFailure>,
    ) {
        if let (Some(subnet), CloudCall::Unassign { slots, .. }) = (&subnet, call) {
            // However it ended: what failed may have been carried out, and the daemon then learns so.
            *self.own.entry(subnet.clone()).or_default() += addresses(slots);
        } else if let Some(subnet) = subnet.filter(|subnet| !self.is_own_again(subnet, result)) {
            let came = (now, result.as_ref().err().map(|failure| failure.class));
            let prefixes = matches!(
                call,
                CloudCall::CreateEni { unit: Unit::Prefix, .. } | CloudCall::Assign { unit: Unit::Prefix, .. }
            );
            // A call that fails for another reason says nothing of the subnet.
            if matches!(came.1, None | Some(FailureClass::SubnetExhausted | FailureClass::Fragmented)) {
                if prefixes {
                    self.prefixes.insert(subnet.clone(), came);
                }
                self.subnets.insert(subnet, came);
            }
        }
        match (result, call) {
            (Err(failure), CloudCall::Assign { eni, .. }) if failure.class == FailureClass::Lost => {
                self.unclear.insert(eni.clone());
            }
            (Err(failure), CloudCall::CreateEni { token, .. }) if failure.class == FailureClass::Lost => {
                self.may_be_made.insert(token.clone(), now);
            }
            (Err(failure), CloudCall::AttachEni { eni, .. }) if failure.class == FailureClass::Lost => {
                self.may_be_tied.insert(eni.clone());
            }
            (Ok(_), CloudCall::Describe { eni }) => {
                self.unclear.remove(eni);
                self.may_be_tied.remove(eni);
            }
            (Ok(_), CloudCall::DescribeNode) => {
                self.unclear.clear();
                self.may_be_tied.clear();
            }
            // It would be among them.
            (Ok(_), CloudCall::FindStrays) => self.may_be_tied.clear(),
            _ => {}
        }
        match (result, call) {
            (Err(failure), _) => {
                self.failures.push_back((now, failure.clone()));
                if self.failures.len() > FAILURES {
                    self.failures.pop_front();
                }
            }
            (Ok(_), CloudCall::AttachEni { .. } | CloudCall::Assign { .. }) => self.brought = Some(now),
            (Ok(_), CloudCall::DescribeNode) => self.node = true,
            (Ok(_), CloudCall::Subnets { .. }) => self.listed = true,
            (Ok(_), _) => {}
        }
    }

    /// Whether what a call brought is no more than what the node itself had given back.
    fn is_own_again(&mut self, subnet: &SubnetId, result: &Result<CloudAnswer, CloudFailure>) -> bool {
        let came = match result {
            Ok(CloudAnswer::Assigned(slots)) => addresses(slots),
            Ok(CloudAnswer::Created(truth)) => 1 + addresses(&truth.slots),
            _ => return false,
        };
        let Some(own) = self.own.get_mut(subnet) else { return false };
        let of_these = came.min(*own);
        *own -= of_these;
        of_these > 0 && of_these == came
    }

    /// Whether a call that brings addresses, or prepares one, is not answered yet.
    pub(super) fn is_fetching(&self) -> bool {
        self.open.values().any(|call| {
            matches!(
                call,
                CloudCall::CreateEni { .. }
                    | CloudCall::AttachEni { .. }
                    | CloudCall::Assign { .. }
                    | CloudCall::Describe { .. }
                    | CloudCall::DescribeNode
                    // What leaves makes room.
                    | CloudCall::Unassign { .. }
                    | CloudCall::Detach { .. }
                    | CloudCall::Subnets { .. }
            )
        })
    }

    /// Whether a subnet had none when it was last asked for addresses or prefixes.
    pub(super) fn lacks_addresses(&self) -> bool {
        let none = |(_, came): &(Time, Option<FailureClass>)| {
            matches!(came, Some(FailureClass::SubnetExhausted | FailureClass::Fragmented))
        };
        self.subnets.values().chain(self.prefixes.values()).any(none)
    }

    /// Whether a subnet had no prefix when it was last asked for some.
    pub(super) fn lacks_prefixes(&self) -> bool {
        let none = |came: &Option<FailureClass>| {
            matches!(came, Some(FailureClass::SubnetExhausted | FailureClass::Fragmented))
        };
        self.prefixes.values().any(|(_, came)| none(came))
    }

    /// Whether one of the failures remembered is of this kind.
    pub(super) fn was_refused(&self, class: FailureClass) -> bool {
        self.failures.iter().any(|(_, failure)| failure.class == class)
    }

    /// What EC2 has refused or failed lately, the last first.
    pub(super) fn failures(&self, now: Time, span: Millis) -> impl Iterator<Item = &CloudFailure> {
        let lately = self.failures.iter().rev().take_while(move |(at, _)| now.since(*at) <= span);
        lately.map(|(_, failure)| failure)
    }

    /// Whether EC2 has said what is on the node, asked at that time or later.
    pub(super) fn was_told_since(&self, since: Time) -> bool {
        self.asked_node.iter().any(|asked| asked.at >= since)
    }

    /// Whether EC2 has said twice what is on the node, since what others did then could be seen: the second time when the daemon
    /// no longer takes what lacks for something too new to be listed.
    pub(super) fn was_told_twice(&self, stirred: Option<Time>) -> bool {
        let Some(stirred) = stirred else { return true };
        let first = self.asked_node.iter().find(|asked| asked.at >= stirred + LAG);
        let Some(first) = first else { return false };
        self.asked_node.iter().any(|asked| asked.answered >= first.answered + TWICE && asked.at >= stirred + FRESH)
    }
}

/// How many addresses these positions have.
fn addresses(slots: &[Slot]) -> u32 {
    slots.iter().map(|slot| Unit::of(*slot).size()).sum()
}
