//! What daemons are told and want, in words.

use std::net::Ipv4Addr;

use vpc_agent::{
    AddReply, CloudAnswer, CloudCall, CloudFailure, DelReply, Effect, Generation, Input, Level, Metadata, Notice, OpId,
    Outcome, Update,
};
use vpc_hostnet::HostOp;
use vpc_model::{EniId, SandboxKey, Slot, Time};

use super::{Line, Story, Thing, Weight};
use crate::kubelet::pod_name;
use crate::world::NodeAt;

/// Of a list so many are named.
const NAMED: usize = 6;

type Said = (Weight, Vec<Thing>, String);

impl Story {
    pub(super) fn input(&mut self, at: Time, node: NodeAt, input: &Input) {
        let said = match input {
            Input::Add { ticket, request } => {
                self.callers.insert(*ticket, request.key.clone());
                Some((Weight::Event, vec![pod(&request.key)], format!("ADD {}", request.key.container)))
            }
            Input::Del { ticket, key } | Input::Undo { ticket, key } => {
                self.callers.insert(*ticket, key.clone());
                Some((Weight::Event, vec![pod(key)], format!("DEL {}", key.container)))
            }
            Input::AddAbandoned { ticket } => self
                .callers
                .remove(ticket)
                .map(|key| (Weight::Event, vec![pod(&key)], format!("the caller of ADD {} has gone", key.container))),
            Input::CloudDone { op, result } => self.answered(at, node, *op, result),
            Input::CheckpointWritten { generation, result } => self.written(node, *generation, result),
            Input::MetadataRead { result: Ok(metadata), .. } => Some(metadata_read(metadata)),
            Input::MetadataRead { result: Err(error), .. } => {
                Some((Weight::Event, Vec::new(), format!("the metadata can not be read: {error}")))
            }
            Input::HostObserved { result: Err(error), .. } => {
                Some((Weight::Event, Vec::new(), format!("the host can not be looked at: {error}")))
            }
            Input::HostApplied { result: Err(error), .. } => {
                Some((Weight::Event, Vec::new(), format!("the host was not changed: {error}")))
            }
            Input::FlowsFlushed { result: Err(error), .. } => {
                Some((Weight::Event, Vec::new(), format!("flows were not forgotten: {error}")))
            }
            Input::Terminate => Some((Weight::Turn, Vec::new(), "the daemon is asked to end".to_owned())),
            Input::HostObserved { .. }
            | Input::HostApplied { .. }
            | Input::LinksRemoved { .. }
            | Input::FlowsFlushed { .. }
            | Input::Status { .. }
            | Input::Find { .. }
            | Input::Reported { .. }
            | Input::Collect { .. }
            | Input::HostChanged
            | Input::VpcCidrs(_)
            | Input::Cluster(_)
            | Input::Settings(_)
            | Input::Tick => None,
        };
        self.push(at, node, said);
    }

    pub(super) fn effect(&mut self, at: Time, node: NodeAt, effect: &Effect) {
        let said = match effect {
            Effect::Reply { ticket, outcome } => self.callers.remove(ticket).map(|key| replied(&key, outcome)),
            Effect::Cloud { op, call } => {
                let (words, about) = (call.to_string(), things_of(call));
                self.asked.insert((node, *op), (at, words.clone(), about.clone()));
                Some((weight_of(call), about, format!("asks EC2: {words}")))
            }
            Effect::ApplyHost { ops, .. } => Some(host_changed(ops)),
            Effect::WriteCheckpoint { generation, update } => {
                self.writing.insert((node, *generation), new_in(update));
                None
            }
            Effect::FlushFlows { addresses, .. } => {
                let about = addresses.iter().map(|address| slot(*address)).collect();
                Some((Weight::Detail, about, format!("has flows of {} forgotten", list(addresses))))
            }
            Effect::RemoveLinks { links, .. } => {
                let names: Vec<&str> = links.iter().map(|doomed| doomed.link.as_str()).collect();
                Some((Weight::Detail, Vec::new(), format!("has links removed: {}", list(&names))))
            }
            Effect::Ready => Some((Weight::Turn, Vec::new(), "says that the node is ready".to_owned())),
            // The answer says it too.
            Effect::Say(Notice::Refused { .. }) => None,
            Effect::Say(notice) => Some(said(notice)),
            Effect::ObserveHost { .. } | Effect::ReadMetadata { .. } => None,
        };
        self.push(at, node, said);
    }

    fn push(&mut self, at: Time, node: NodeAt, said: Option<Said>) {
        let line = said.map(|(weight, about, words)| Line { at, node: Some(node), weight, about, words });
        self.lines.extend(line);
    }

    fn answered(
        &mut self,
        at: Time,
        node: NodeAt,
        op: OpId,
        result: &Result<CloudAnswer, CloudFailure>,
    ) -> Option<Said> {
        let (since, what, mut about) = self.asked.remove(&(node, op))?;
        let took = at.since(since);
        match result {
            Ok(answer) => {
                let (words, more) = answer_words(answer);
                about.extend(more);
                Some((Weight::Detail, about, format!("{what}: {words} (after {took})")))
            }
            Err(failure) => {
                let words = format!("{what}: {:?}, {} (after {took})", failure.class, failure.code);
                Some((Weight::Event, about, words))
            }
        }
    }

    fn written(&mut self, node: NodeAt, generation: Generation, result: &Result<(), String>) -> Option<Said> {
        let (words, about) = self.writing.remove(&(node, generation))?;
        let number = generation.0;
        match result {
            Ok(()) => Some((Weight::Detail, about, format!("checkpoint {number} is on disk: {words}"))),
            Err(error) => {
                Some((Weight::Event, about, format!("checkpoint {number} is not on disk ({error}): {words}")))
            }
        }
    }
}

fn pod(key: &SandboxKey) -> Thing {
    Thing::Pod(pod_name(key).to_owned())
}

fn slot(address: Ipv4Addr) -> Thing {
    Thing::Slot(Slot::Address(address))
}

fn list<T: ToString>(things: &[T]) -> String {
    let named: Vec<String> = things.iter().take(NAMED).map(ToString::to_string).collect();
    let rest = things.len().saturating_sub(NAMED);
    match (things.is_empty(), rest) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => named.join(", "),
        (false, rest) => format!("{} and {rest} more", named.join(", ")),
    }
}

fn replied(key: &SandboxKey, outcome: &Outcome) -> Said {
    let container = &key.container;
    match outcome {
        Outcome::Added(AddReply { allocation, .. }) => {
            let (address, device) = (allocation.address, allocation.device);
            let words = format!("answers ADD {container}: {address}, device {device}");
            (Weight::Event, vec![pod(key), slot(address)], words)
        }
        Outcome::Deleted(DelReply::Released(allocation)) => {
            let address = allocation.address;
            (Weight::Event, vec![pod(key), slot(address)], format!("answers DEL {container}: {address} rests now"))
        }
        Outcome::Deleted(DelReply::Kept(allocation)) => {
            let address = allocation.address;
            (Weight::Event, vec![pod(key), slot(address)], format!("answers DEL {container}: it keeps {address}"))
        }
        Outcome::Deleted(DelReply::UnknownPod) => {
            (Weight::Event, vec![pod(key)], format!("answers DEL {container}: it knows no such sandbox"))
        }
        Outcome::Status(_) | Outcome::Found(_) | Outcome::Collected(_) => {
            (Weight::Detail, vec![pod(key)], format!("answers a question about {container}"))
        }
        Outcome::Refused(refusal) => (Weight::Event, vec![pod(key)], format!("refuses ADD {container}: {refusal}")),
    }
}

fn weight_of(call: &CloudCall) -> Weight {
    match call {
        CloudCall::Describe { .. }
        | CloudCall::DescribeNode
        | CloudCall::Subnets { .. }
        | CloudCall::FindStrays
        | CloudCall::FindLeaked
        | CloudCall::Limits => Weight::Detail,
        _ => Weight::Event,
    }
}

fn things_of(call: &CloudCall) -> Vec<Thing> {
    match call {
        CloudCall::AttachEni { eni, .. }
        | CloudCall::DeleteOnTermination { eni, .. }
        | CloudCall::Assign { eni, .. }
        | CloudCall::Describe { eni }
        | CloudCall::SetGroups { eni, .. }
        | CloudCall::Detach { eni, .. }
        | CloudCall::Delete { eni } => vec![Thing::Eni(eni.clone())],
        CloudCall::Unassign { eni, slots } => {
            std::iter::once(Thing::Eni(eni.clone())).chain(slots.iter().copied().map(Thing::Slot)).collect()
        }
        CloudCall::Tag { enis, .. } => enis.iter().cloned().map(Thing::Eni).collect(),
        CloudCall::CreateEni { .. }
        | CloudCall::DescribeNode
        | CloudCall::Subnets { .. }
        | CloudCall::FindStrays
        | CloudCall::FindLeaked
        | CloudCall::Limits => Vec::new(),
    }
}

fn answer_words(answer: &CloudAnswer) -> (String, Vec<Thing>) {
    let about = |slots: &[Slot]| slots.iter().copied().map(Thing::Slot).collect::<Vec<_>>();
    match answer {
        CloudAnswer::Created(eni) => {
            let mut things = about(&eni.slots);
            things.push(Thing::Eni(eni.id.clone()));
            (format!("{} with {}", eni.id, list(&eni.slots)), things)
        }
        CloudAnswer::Attached(attachment) => (format!("by {attachment}"), Vec::new()),
        CloudAnswer::Assigned(slots) => (list(slots), about(slots)),
        CloudAnswer::Described(Some(eni)) => (format!("it has {}", list(&eni.slots)), about(&eni.slots)),
        CloudAnswer::Described(None) => ("there is no such ENI".to_owned(), Vec::new()),
        CloudAnswer::Node(enis) => {
            let words: Vec<String> = enis.iter().map(|eni| format!("{} has {}", eni.id, eni.slots.len())).collect();
            (list(&words), enis.iter().map(|eni| Thing::Eni(eni.id.clone())).collect())
        }
        CloudAnswer::Subnets(subnets) => {
            let words: Vec<String> = subnets.iter().map(|own| format!("{} has {} free", own.id, own.free)).collect();
            (list(&words), Vec::new())
        }
        CloudAnswer::Strays(enis) => (list(enis), enis.iter().cloned().map(Thing::Eni).collect()),
        CloudAnswer::Leaked(enis) => {
            let ids: Vec<EniId> = enis.iter().map(|eni| eni.id.clone()).collect();
            (list(&ids), ids.into_iter().map(Thing::Eni).collect())
        }
        CloudAnswer::Limits { max_enis, slots_per_eni, .. } => {
            (format!("{max_enis} ENIs of {slots_per_eni}"), Vec::new())
        }
        CloudAnswer::Done => ("done".to_owned(), Vec::new()),
    }
}

fn new_in(update: &Update) -> (String, Vec<Thing>) {
    let (leases, rests, free) = match update {
        Update::Whole(whole) => (&whole.leases, &whole.rests, &Vec::new()),
        Update::Changed { leases, rests, free } => (leases, rests, free),
    };
    let mut about: Vec<Thing> = leases.iter().flat_map(|lease| [pod(&lease.key), slot(lease.address)]).collect();
    about.extend(rests.iter().map(|rest| slot(rest.address)).chain(free.iter().copied().map(slot)));
    let held: Vec<String> =
        leases.iter().map(|lease| format!("{} of {}", lease.address, lease.key.container)).collect();
    let resting: Vec<Ipv4Addr> = rests.iter().map(|rest| rest.address).collect();
    let how = if matches!(update, Update::Whole(_)) { "all of it: " } else { "" };
    let mut parts = vec![format!("{how}held {}", list(&held))];
    if !resting.is_empty() {
        parts.push(format!("resting {}", list(&resting)));
    }
    if !free.is_empty() {
        parts.push(format!("free {}", list(free)));
    }
    (parts.join("; "), about)
}

fn metadata_read(metadata: &Metadata) -> Said {
    let enis: Vec<String> =
        metadata.enis.iter().map(|eni| format!("{} with {}", eni.facts.id, eni.slots.len())).collect();
    let mut about: Vec<Thing> = metadata.enis.iter().map(|eni| Thing::Eni(eni.facts.id.clone())).collect();
    about.extend(metadata.enis.iter().flat_map(|eni| eni.slots.iter().copied().map(Thing::Slot)));
    let unreadable = match metadata.unreadable.is_empty() {
        true => String::new(),
        false => format!(", not readable {}", list(&metadata.unreadable)),
    };
    // What they show of a pod's address is no news of it.
    about.clear();
    (Weight::Detail, about, format!("the metadata show {}{unreadable}", list(&enis)))
}

fn host_changed(ops: &[HostOp]) -> Said {
    let nets = ops.iter().filter_map(|op| match op {
        HostOp::AddRule(rule) | HostOp::RemoveRule(rule) => rule.to.or(rule.from),
        HostOp::AddAddress { address, .. } | HostOp::RemoveAddress { address, .. } => Some(*address),
        HostOp::ReplaceRoute(route) | HostOp::RemoveRoute(route) => Some(route.to),
        _ => None,
    });
    let single = nets.filter(|net| net.prefix_len() == 32).map(|net| slot(net.addr()));
    let words: Vec<String> = ops.iter().map(op_words).collect();
    (Weight::Detail, single.collect(), format!("changes the host: {}", list(&words)))
}

fn op_words(op: &HostOp) -> String {
    match op {
        HostOp::AddRule(rule) => format!("rule of priority {} set", rule.priority),
        HostOp::RemoveRule(rule) => match rule.to.or(rule.from) {
            Some(net) => format!("rule of priority {} for {net} removed", rule.priority),
            None => format!("rule of priority {} removed", rule.priority),
        },
        HostOp::ReplaceRoute(route) => format!("route by {} set", route.link),
        HostOp::RemoveRoute(route) => format!("route by {} removed", route.link),
        HostOp::SetLink { link, .. } => format!("link {link} set"),
        HostOp::AddAddress { link, address, .. } => format!("{address} put on {link}"),
        HostOp::RemoveAddress { link, address } => format!("{address} taken off {link}"),
        HostOp::DeleteLink { link } => format!("link {link} deleted"),
        HostOp::ReplaceFilter(_) => "filter replaced".to_owned(),
        HostOp::PinNeighbour(_) | HostOp::RemoveNeighbour(_) => "a neighbour".to_owned(),
        HostOp::SetRpFilter { link, .. } => format!("rp_filter of {link}"),
        HostOp::SetSysctl { key, .. } => key.clone(),
    }
}

fn said(notice: &Notice) -> Said {
    let eni = |eni: &EniId| vec![Thing::Eni(eni.clone())];
    let about = match notice {
        Notice::Grown { eni: own, .. }
        | Notice::EniReady { eni: own, .. }
        | Notice::EniReleased { eni: own }
        | Notice::SlotsKept { eni: own, .. }
        | Notice::EniKept { eni: own, .. }
        | Notice::LeakedDeleted { eni: own }
        | Notice::StrayFound { eni: own }
        | Notice::RoleChanged { eni: own, .. } => eni(own),
        Notice::SlotsReleased { eni: own, slots } => {
            eni(own).into_iter().chain(slots.iter().copied().map(Thing::Slot)).collect()
        }
        Notice::LeasePruned { key, address, .. }
        | Notice::LeaseAdopted { key, address, .. }
        | Notice::Unbacked { key, address } => vec![pod(key), slot(*address)],
        Notice::TiesOfNobody { address, .. } => vec![slot(*address)],
        Notice::LinkOfNobody { routed, .. } => routed.iter().map(|address| slot(*address)).collect(),
        Notice::FlowsRemain { addresses, .. } => addresses.iter().map(|address| slot(*address)).collect(),
        _ => Vec::new(),
    };
    let weight = if notice.level() >= Level::Warn { Weight::Event } else { Weight::Detail };
    (weight, about, format!("says: {notice}"))
}
