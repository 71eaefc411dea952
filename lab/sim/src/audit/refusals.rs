//! Refusals: whether the cause that a caller was told is true, by what EC2 holds and said, by host, disk and settings.
//!
//! What the daemon can not know is not held against it: EC2's answers on their way, what others changed a moment ago, what happened
//! to its memory. Where EC2 has lately failed calls, limits it taught may be lower than the settings'.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use lab_cloud::{AttachedEni, TiedEni};
use vpc_agent::{CloudFailure, CloudUse, FailureClass, NoPlace, Refusal, Refused};
use vpc_model::{InstanceLimits, Millis, SandboxKey, SubnetId, Time, instance_limits};

use crate::audit::{Ended, Fault};
use crate::kubelet::Errand;
use crate::node::Node;
use crate::world::{NodeAt, World};

/// What a caller is told in the same moment may be some milliseconds off: ticks are 5 ms apart.
const MOMENT: Millis = Millis(10);
/// A refusal of EC2 explains why nothing has come for 60 s after it could have been asked again, which is two minutes later at most.
const EXPLAINS: Millis = Millis::seconds(180);
/// How long an answer that asks for fewer calls may hold them up: three laps of a thousand nodes by the slowest bucket (180 s each, where
/// nobody waits), and one more for the place in the next bucket.
const TURNS: Millis = Millis::seconds(720);
/// A failed pass over the host is repeated after 64 s at the latest.
const HOST_PAUSE: Millis = Millis::seconds(70);
/// What others change is noticed with the next comparison, or at the latest when EC2's reads have settled; sooner where EC2 is asked.
const NOTICED: Millis = Millis::seconds(400);
/// An ENI that was attached is set up by then.
const SET_UP: Millis = Millis::seconds(150);
/// EC2 has said by then that an ENI that is given back is detached: it is asked every second.
const GOES: Millis = Millis::seconds(30);
/// EC2 is asked a second time what is on the node, so long after the first.
const LOOKS_AGAIN: Millis = Millis::seconds(30);
/// It has answered by then, if it answers at once.
const LOOKED_TWICE: Millis = Millis::seconds(40);
/// An address that has rested is free at the latest after so long: the kernel is to forget its connections first.
const FLUSH: Millis = Millis::seconds(11);

impl World {
    /// A pod's ADD was refused.
    pub(crate) fn refused(&mut self, node: NodeAt, key: &SandboxKey, since: Time, wait: Millis, refusal: &Refusal) {
        let Some(own) = self.nodes.get(node.0) else { return };
        let judge = Judge { world: self, node, own, now: self.now, wait };
        if let Err(why) = judge.wait(refusal, self.now.since(since), wait).and_then(|()| judge.cause(key, refusal)) {
            let refusal = Box::new(refusal.clone());
            self.faults.push(Fault::FalseCause { node, key: key.clone(), refusal, why });
        }
    }
}

struct Judge<'a> {
    world: &'a World,
    node: NodeAt,
    own: &'a Node,
    now: Time,
    /// How long the pod might wait.
    wait: Millis,
}

type Verdict = Result<(), String>;

/// Whether EC2's action brings addresses, or tells what others need.
fn fetches(action: &str) -> bool {
    matches!(
        action,
        "CreateNetworkInterface"
            | "AttachNetworkInterface"
            | "AssignPrivateIpAddresses"
            | "DescribeNetworkInterfaces"
            | "DescribeSubnets"
    )
}

fn must(truth: bool, why: impl FnOnce() -> String) -> Verdict {
    if truth { Ok(()) } else { Err(why()) }
}

impl Judge<'_> {
    /// Nobody is refused for want of an address before his time, and what is said of his wait is true.
    fn wait(&self, refusal: &Refusal, waited: Millis, may: Millis) -> Verdict {
        let Some(said) = waited_of(refusal) else { return Ok(()) };
        must(waited.0 + MOMENT.0 >= may.0, || format!("it was refused after {waited}, and may wait {may}"))?;
        must(said.0.abs_diff(waited.0) <= MOMENT.0, || format!("it waited {waited}"))
    }

    fn cause(&self, key: &SandboxKey, refusal: &Refusal) -> Verdict {
        let record = &self.own.audit;
        match refusal {
            Refusal::ShuttingDown => must(record.ending, || "the daemon was not asked to end".to_owned()),
            Refusal::Cancelled => {
                must(self.is_asked_otherwise(key), || "no DEL and no other ADD came for the sandbox".to_owned())
            }
            Refusal::Host { error } => must(
                record.host_failed.as_ref().is_some_and(|(at, said)| said == error && self.within(*at, HOST_PAUSE)),
                || format!("the host said {:?}", record.host_failed),
            ),
            Refusal::Checkpoint { error } => must(
                record.disk_failed.as_ref().is_some_and(|(at, said)| said == error && self.within(*at, MOMENT)),
                || format!("the disk said {:?}", record.disk_failed),
            ),
            Refusal::Unconfirmed { failure, .. } => self.unconfirmed(failure.as_ref()),
            Refusal::CloudOff { allowed, total, held, cooling, .. } => {
                must(*allowed == self.own.config.cloud && *allowed < CloudUse::NoRelease, || {
                    format!("the settings say {:?}", self.own.config.cloud)
                })?;
                self.counted(*total, *held, *cooling)
            }
            Refusal::Throttled { failure, .. } => self.failed(failure, |class| class == FailureClass::Throttled),
            Refusal::Denied { failure, action, .. } => {
                must(*action == format!("ec2:{}", failure.action), || "another action was denied".to_owned())?;
                self.failed(failure, |class| class == FailureClass::Unauthorized)
            }
            Refusal::Cloud { failure, .. } => {
                self.failed(failure, |class| !matches!(class, FailureClass::Throttled | FailureClass::Unauthorized))
            }
            Refusal::SubnetExhausted { subnets, .. } => self.subnets(subnets, FailureClass::SubnetExhausted),
            Refusal::Fragmented { subnets, .. } => self.subnets(subnets, FailureClass::Fragmented),
            Refusal::NoPlace { why, .. } => self.no_place(why),
            Refusal::NotSchedulable { coming, .. } => {
                let cordoned = record.view.as_ref().is_some_and(|view| view.unschedulable);
                must(cordoned && !self.own.config.manage_non_schedulable, || "the node takes pods".to_owned())?;
                self.coming(*coming)
            }
            Refusal::Warming { coming, .. } => self.coming(*coming),
            Refusal::Cooling { total, held, cooling, next_free_in, .. } => {
                self.cooling(*next_free_in)?;
                self.no_room()?;
                self.counted(*total, *held, *cooling)
            }
            Refusal::Full { enis, max_enis, total, held, .. } => {
                self.full(*enis, *max_enis)?;
                self.counted(*total, *held, 0)
            }
        }
    }

    /// Whether another caller has a DEL or an ADD for the sandbox.
    fn is_asked_otherwise(&self, key: &SandboxKey) -> bool {
        self.own.errands.values().any(|errand| match errand {
            Errand::Add { key: other, .. }
            | Errand::Del { key: other, .. }
            | Errand::Idle { key: other, .. }
            | Errand::Undo { key: other, .. } => other == key,
            Errand::Collect { .. } | Errand::Find { .. } | Errand::Status => false,
        })
    }

    fn within(&self, at: Time, span: Millis) -> bool {
        self.now.since(at) <= span
    }

    fn recently(&self, at: Option<Time>, span: Millis) -> bool {
        at.is_some_and(|at| self.within(at, span))
    }

    /// Whether others have changed something of the node's that its daemon can not know yet.
    fn is_stirred(&self) -> bool {
        let record = &self.own.audit;
        self.recently(record.stirred, NOTICED) && !record.heard.was_told_twice(record.stirred.max(record.begun))
    }

    /// Whether the daemon goes by what the metadata showed at its start and EC2 has said once: the second time takes as long as EC2 does.
    fn has_looked_once(&self) -> bool {
        let record = &self.own.audit;
        let looked_again = |begun: Time| record.heard.was_told_since(begun + LOOKS_AGAIN);
        self.recently(record.begun, LOOKED_TWICE)
            || (self.recently(record.begun, NOTICED) && !record.begun.is_some_and(looked_again))
    }

    /// Whether EC2 has lately refused or failed such a call.
    fn failed_lately(&self, such: impl Fn(&CloudFailure) -> bool) -> bool {
        self.own.audit.heard.failures(self.now, EXPLAINS).any(such)
    }

    fn unconfirmed(&self, failure: Option<&CloudFailure>) -> Verdict {
        let heard = &self.own.audit.heard;
        must(!heard.node && self.own.config.cloud.may_ask(), || "EC2 has said what is on the node".to_owned())?;
        must(failure.is_none_or(|failure| self.own.audit.was_told(failure).is_some()), || {
            "EC2 did not say that".to_owned()
        })
    }

    /// EC2 said it, not long ago, and nothing has come since.
    fn failed(&self, failure: &CloudFailure, fits: impl Fn(FailureClass) -> bool) -> Verdict {
        must(fits(failure.class), || format!("that is {:?}", failure.class))?;
        // Buckets are filled one after the other, so that any may hold up the others; a refusal concerns its own call alone.
        must(failure.class == FailureClass::Throttled || fetches(&failure.action), || {
            format!("{} brings no addresses", failure.action)
        })?;
        let told = self.own.audit.was_told(failure).ok_or("EC2 did not say that")?;
        let explains = if failure.class == FailureClass::Throttled { TURNS } else { EXPLAINS };
        must(self.within(told, explains), || format!("EC2 said that {} ago", self.now.since(told)))
    }

    fn subnets(&self, subnets: &[SubnetId], class: FailureClass) -> Verdict {
        must(!subnets.is_empty(), || "it names no subnet".to_owned())?;
        for subnet in subnets {
            let heard = &self.own.audit.heard;
            let of = if class == FailureClass::Fragmented { &heard.prefixes } else { &heard.subnets };
            let last = of.get(subnet);
            // Too few for a prefix, and maybe enough for single addresses.
            let few = class == FailureClass::Fragmented;
            let says = |last| last == Some(class) || (few && last == Some(FailureClass::SubnetExhausted));
            must(last.is_some_and(|(at, last)| says(*last) && self.within(*at, EXPLAINS)), || {
                format!("what came of the last call for addresses of {subnet}: {last:?}")
            })?;
        }
        Ok(())
    }

    fn no_place(&self, why: &NoPlace) -> Verdict {
        let record = &self.own.audit;
        let custom = self.own.config.placing.custom.is_some();
        match why {
            NoPlace::NodeUnread => must(custom && record.view.is_none(), || "the node object was told".to_owned()),
            NoPlace::EniConfigsUnread => must(custom && !record.eni_configs, || "ENIConfigs were told".to_owned()),
            NoPlace::AllRefused { refused, .. } => refused.iter().try_for_each(|(subnet, why)| match why {
                Refused::Exhausted => self.subnets(std::slice::from_ref(subnet), FailureClass::SubnetExhausted),
                Refused::Unknown => Err(format!("{subnet} is there")),
            }),
            // The ENIConfig of a history is right, and no subnet is tagged.
            _ => Err("nothing is wrong with the place".to_owned()),
        }
    }

    /// Something is on its way: a call, an ENI that is being set up, an address that is being taken off the host, or the first look at
    /// everything.
    fn coming(&self, coming: u32) -> Verdict {
        let record = &self.own.audit;
        let begins = !record.host_set || self.recently(record.begun, SET_UP);
        let fetching = record.heard.is_fetching() || self.failed_lately(|failure| fetches(&failure.action));
        let set_up = self.recently(record.heard.brought, SET_UP) || self.is_stirred();
        // EC2 has attached it, and the guest has no device yet.
        let unseen = self.tied().any(|eni| !self.own.enis.contains_key(eni.id));
        // When it has gone, another one can come.
        let leaves = self.recently(record.moved, GOES) || self.tied().any(|eni| eni.leaves);
        // The same goes for a position, also while a call that failed is made again or looked into.
        let clears = |failure: &CloudFailure| failure.action == "UnassignPrivateIpAddresses";
        let leaves = leaves || record.heard.failures(self.now, GOES).any(clears);
        // What a pod that may not wait lacks is asked for in the moment in which it is refused.
        let asked_now = self.wait.0 == 0 && coming > 0;
        let free = || self.addresses().any(|address| self.is_free(address));
        must(
            begins || fetching || set_up || unseen || leaves || asked_now || record.host_failed.is_some() || free(),
            || format!("nothing is on its way (it says {coming})"),
        )
    }

    /// What EC2 counts as the node's ENIs.
    fn tied(&self) -> impl Iterator<Item = TiedEni<'_>> {
        self.world.cloud.tied(&self.own.instance)
    }

    /// Whether an address of the node is nobody's and rests no more. Where the disk is slow, it may have rested before the DEL of its last
    /// pod is answered: until then that one's wires are there.
    fn is_free(&self, address: Ipv4Addr) -> bool {
        let rests = |ended: &Ended| ended.node == self.node && self.now < ended.at + ended.rest;
        match self.world.owners.get(&address) {
            Some(owner) => owner.ending.as_ref().is_some_and(|ended| !rests(ended)),
            None => !self.world.ended.get(&address).is_some_and(rests),
        }
    }

    /// Addresses of the node that rest, each with the time until it is free, and whether all of that is known.
    fn cooling(&self, next_free_in: Millis) -> Verdict {
        let record = &self.own.audit;
        let longest = self.own.config.target.cool_down.0.max(90_000);
        let unseen = self.recently(record.ended_unseen, Millis(longest + FLUSH.0));
        // A DEL that has not been answered yet has begun the rest.
        let ended = |address: Ipv4Addr| match self.world.owners.get(&address) {
            Some(owner) => owner.ending.as_ref(),
            None => self.world.ended.get(&address),
        };
        let resting: Vec<&Ended> = self
            .addresses()
            .filter_map(ended)
            // What came to rest in an earlier life rests by the settings of this one.
            .filter(|ended| record.begun.is_none_or(|begun| ended.at >= begun))
            .filter(|ended| self.now < ended.at + Millis(ended.rest.0 + FLUSH.0))
            .collect();
        // What rests on an ENI that others have just taken is not on the node any more.
        let robbed = self.is_stirred();
        must(unseen || robbed || !resting.is_empty(), || "no address of the node rests".to_owned())?;
        // One that has rested may be promised already, to somebody who is not told before it is on disk; the rest of one whose sandbox
        // ended without a DEL begins when that is noticed.
        let sure = resting.iter().filter(|ended| !ended.unseen).map(|ended| ended.at + ended.rest);
        match sure.filter(|until| *until > self.now).min().map(|until| until.since(self.now)).filter(|_| !unseen) {
            Some(first) => must(next_free_in.0 <= first.0 + 1_000, || format!("the first has rested in {first}")),
            None => Ok(()),
        }
    }

    fn full(&self, enis: u32, max_enis: u32) -> Verdict {
        let record = &self.own.audit;
        let target = &self.own.config.target;
        must(max_enis <= target.max_enis, || format!("the settings and the type say {}", target.max_enis))?;
        // What came of a call for an ENI it may not know, nor what EC2 would have said.
        let unheard = |failure: &CloudFailure| {
            let moves = matches!(failure.action.as_str(), "AttachNetworkInterface" | "DetachNetworkInterface");
            failure.action == "DescribeNetworkInterfaces" || (moves && failure.class == FailureClass::Lost)
        };
        let unsure = self.is_stirred() || self.failed_lately(unheard);
        let here = u32::try_from(self.tied().count()).unwrap_or(u32::MAX);
        // One that leaves counts until EC2 has said that it is detached; one that only the metadata show at the start, until EC2 has
        // twice not shown it.
        let gone = (self.recently(record.moved, GOES) || self.has_looked_once()) && enis > here;
        must(unsure || ((enis == here || gone) && enis >= max_enis), || {
            format!("the node has {here} of {max_enis} ENIs")
        })?;
        match self.room().filter(|_| !unsure) {
            Some(eni) => Err(format!("{} has room for more", eni.id)),
            None => Ok(()),
        }
    }

    /// An ENI that could carry more. With custom networking that depends on its subnet: none is named.
    fn room(&self) -> Option<&AttachedEni> {
        // What EC2 knows of the type, where the settings suppose more.
        let type_has = instance_limits(&self.own.instance_type).map_or(u32::MAX, InstanceLimits::slots_per_eni);
        let most = self.own.config.target.slots_per_eni.min(type_has) as usize;
        let custom = self.own.config.placing.custom.is_some();
        let carries = |eni: &AttachedEni| eni.addresses.secondary.len() + eni.addresses.prefixes.len();
        // One without tags (somebody took them) is not ours, where the settings say so.
        let ours = |eni: &AttachedEni| {
            let tagged = || self.tied().any(|tied| *tied.id == eni.id && !tied.tags.is_empty());
            eni.device.0 == 0 || self.own.config.manage_untagged || tagged()
        };
        let vacant = |eni: &&AttachedEni| eni.interface_type == "interface" && carries(eni) < most && ours(eni);
        self.own.guest_enis().find(vacant).filter(|_| !custom)
    }

    /// That addresses rest is no reason where more could be had: whoever waits is worth a call.
    fn no_room(&self) -> Verdict {
        let record = &self.own.audit;
        let heard = &record.heard;
        let unsure = self.is_stirred()
            || self.has_looked_once()
            || self.recently(record.moved, GOES)
            || self.failed_lately(|failure| fetches(&failure.action))
            || heard.was_refused(FailureClass::AddressLimit)
            || !heard.open.is_empty();
        match self.room().filter(|_| !unsure) {
            Some(eni) => Err(format!("{} has room for more", eni.id)),
            None => Ok(()),
        }
    }

    /// The numbers of a refusal: no more than the node can have, and every pod's address counted.
    fn counted(&self, total: u32, held: u32, cooling: u32) -> Verdict {
        must(held + cooling <= total, || "more are taken than there are".to_owned())?;
        let record = &self.own.audit;
        let heard = self.own.config.cloud.may_ask() && record.heard.node;
        let new = if heard { self.has_looked_once() } else { self.recently(record.begun, NOTICED) };
        let unsure = self.is_stirred() || new;
        let all = u32::try_from(self.addresses().count()).unwrap_or(u32::MAX);
        must(unsure || total <= all, || format!("EC2 has {all} on the node"))?;
        let pods = self.world.owners.iter().filter(|(_, owner)| owner.node == self.node && !owner.taken).count();
        // Promises on their way to the disk, and sandboxes that ended without a DEL, are counted by the daemon alone.
        let asking = self.own.errands.len() + self.own.pods.len() + self.own.tombstones.len();
        let silent = self.world.ended.values().filter(|ended| ended.node == self.node && ended.unseen);
        let silent = silent.filter(|ended| self.within(ended.at, NOTICED)).count();
        let most = u32::try_from(pods + asking + silent).unwrap_or(u32::MAX);
        must(unsure || held <= most, || format!("{pods} pods have one, {asking} ask, {silent} ended without a DEL"))
    }

    /// Addresses of the node that pods could have, as EC2 has them.
    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let mut all = BTreeSet::new();
        for eni in self.own.guest_enis() {
            all.extend(eni.addresses.secondary.iter().copied());
            all.extend(eni.addresses.prefixes.iter().flat_map(|prefix| prefix.addresses()));
        }
        all.into_iter()
    }
}

fn waited_of(refusal: &Refusal) -> Option<Millis> {
    match refusal {
        Refusal::Warming { waited, .. }
        | Refusal::NotSchedulable { waited, .. }
        | Refusal::Full { waited, .. }
        | Refusal::Cooling { waited, .. }
        | Refusal::SubnetExhausted { waited, .. }
        | Refusal::Fragmented { waited, .. }
        | Refusal::Throttled { waited, .. }
        | Refusal::Denied { waited, .. }
        | Refusal::Cloud { waited, .. }
        | Refusal::NoPlace { waited, .. }
        | Refusal::Unconfirmed { waited, .. }
        | Refusal::CloudOff { waited, .. } => Some(*waited),
        Refusal::Host { .. } | Refusal::Checkpoint { .. } | Refusal::ShuttingDown | Refusal::Cancelled => None,
    }
}
