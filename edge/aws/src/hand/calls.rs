//! Each call as the requests it takes.

use std::collections::BTreeMap;

use vpc_agent::{CloudAnswer, CloudCall};
use vpc_ipam::Unit;
use vpc_model::{EniId, Slot, SubnetId};

use super::ask::{Answer, Request};
use super::lists::{self, Sought};
use super::{Ec2Error, Hand, Place, Step, nameless, nonsense};
use crate::ec2::shapes::{
    AssignPrivateIpAddresses, AssignPrivateIpAddressesResponse, AttachNetworkInterface, CreateTags,
    DeleteNetworkInterface, DescribeInstanceTypes, DescribeNetworkInterfaces, DescribeSubnets, DetachNetworkInterface,
    ModifyNetworkInterfaceAttribute, NetworkInterfaceAttachmentChanges, SubnetDescription, Tag,
    UnassignPrivateIpAddresses,
};
use crate::ec2::{Page, Pages};

/// A call that waits for the answer to its last request.
#[derive(Clone, Debug)]
pub struct Work {
    stage: Stage,
    /// Of the last request.
    action: &'static str,
}

/// What the next answer means.
#[derive(Clone, Debug)]
enum Stage {
    Creating {
        token: String,
    },
    Attaching,
    Assigning,
    Describing(EniId),
    /// Taking things off an ENI; what is still to be sent.
    Unassigning(Option<Request>),
    /// Nothing in the answer is worth keeping.
    Doing,
    Enis(Sought, Pages<DescribeNetworkInterfaces>),
    Subnets {
        also: Vec<SubnetId>,
        pages: Pages<DescribeSubnets>,
    },
    MoreSubnets(Vec<SubnetDescription>),
    Limits,
}

/// The first request of a call.
pub(super) fn begin(hand: &Hand, call: CloudCall) -> Step {
    let place = &hand.place;
    match call {
        CloudCall::CreateEni { token, place: spot, unit, count } => {
            let created_at = hand.asked_at.get(&token).cloned().unwrap_or_default();
            let request = place.new_eni(token.clone(), &spot, unit, count, created_at);
            ask(Stage::Creating { token }, request)
        }
        CloudCall::AttachEni { eni, card, device } => {
            let request = AttachNetworkInterface {
                network_interface_id: eni,
                instance_id: place.instance.clone(),
                device_index: device,
                network_card_index: Some(card),
                dry_run: None,
            };
            ask(Stage::Attaching, request)
        }
        CloudCall::DeleteOnTermination { eni, attachment } => {
            let change = NetworkInterfaceAttachmentChanges {
                attachment_id: Some(attachment),
                delete_on_termination: Some(true),
            };
            let request = ModifyNetworkInterfaceAttribute {
                attachment: Some(change),
                ..ModifyNetworkInterfaceAttribute::new(eni)
            };
            ask(Stage::Doing, request)
        }
        CloudCall::Assign { eni, unit: Unit::Address, count } => {
            ask(Stage::Assigning, AssignPrivateIpAddresses::addresses(eni, count))
        }
        CloudCall::Assign { eni, unit: Unit::Prefix, count } => {
            ask(Stage::Assigning, AssignPrivateIpAddresses::prefixes(eni, count))
        }
        CloudCall::Unassign { eni, slots } => unassign(&eni, slots),
        CloudCall::Describe { eni } => {
            let request = DescribeNetworkInterfaces { network_interface_ids: vec![eni.clone()], ..Default::default() };
            ask(Stage::Describing(eni), request)
        }
        CloudCall::DescribeNode => list(place, Sought::OfNode),
        CloudCall::FindStrays => list(place, Sought::Strays),
        CloudCall::FindLeaked => list(place, Sought::Leaked),
        CloudCall::SetGroups { eni, groups } => {
            ask(Stage::Doing, ModifyNetworkInterfaceAttribute { groups, ..ModifyNetworkInterfaceAttribute::new(eni) })
        }
        CloudCall::Tag { enis, tags } => ask(Stage::Doing, tag(&enis, tags)),
        CloudCall::Subnets { also } => {
            let pages = Pages::new(lists::subnets_of(place));
            let request = pages.request().clone();
            ask(Stage::Subnets { also, pages }, request)
        }
        CloudCall::Limits => {
            let instance_types = vec![place.instance_type.clone()];
            ask(Stage::Limits, DescribeInstanceTypes { instance_types, ..Default::default() })
        }
        CloudCall::Detach { attachment, .. } => {
            ask(Stage::Doing, DetachNetworkInterface { attachment_id: attachment, force: None, dry_run: None })
        }
        CloudCall::Delete { eni } => {
            ask(Stage::Doing, DeleteNetworkInterface { network_interface_id: eni, dry_run: None })
        }
    }
}

/// What follows from an answer.
pub(super) fn answered(hand: &mut Hand, work: Work, result: Result<Answer, Ec2Error>) -> Result<Step, Box<Ec2Error>> {
    let place = &hand.place;
    let answer = match (&work.stage, result) {
        (_, Ok(answer)) => answer,
        // What does not exist is an answer to whoever asked for it.
        (Stage::Describing(_), Err(error)) if error.is_not_found() => return Ok(done(CloudAnswer::Described(None))),
        (Stage::MoreSubnets(_), Err(error)) if error.is_not_found() => {
            let Stage::MoreSubnets(found) = work.stage else { return Err(Box::new(error)) };
            return Ok(subnets(found));
        }
        (_, Err(error)) => return Err(Box::new(error)),
    };
    Ok(match (work.stage, answer) {
        (Stage::Creating { token }, Answer::CreateNetworkInterface(answer)) => {
            let id = answer.network_interface.network_interface_id.clone();
            let made = place.truth(answer.network_interface).ok_or_else(|| nameless(&id))?;
            hand.asked_at.remove(&token);
            done(CloudAnswer::Created(made))
        }
        (Stage::Attaching, Answer::AttachNetworkInterface(answer)) => done(CloudAnswer::Attached(answer.attachment_id)),
        (Stage::Assigning, Answer::AssignPrivateIpAddresses(answer)) => done(CloudAnswer::Assigned(assigned(&answer))),
        (Stage::Describing(eni), Answer::DescribeNetworkInterfaces(answer)) => {
            let found = answer.network_interfaces.into_iter().find(|found| found.network_interface_id == eni);
            done(CloudAnswer::Described(found.and_then(|found| place.truth(found))))
        }
        (Stage::Unassigning(Some(rest)), Answer::UnassignPrivateIpAddresses(_)) => ask(Stage::Unassigning(None), rest),
        (Stage::Unassigning(None) | Stage::Doing, _) => done(CloudAnswer::Done),
        (Stage::Enis(sought, pages), Answer::DescribeNetworkInterfaces(answer)) => match pages.take(answer)? {
            Page::More(pages) => {
                let request = pages.request().clone();
                ask(Stage::Enis(sought, pages), request)
            }
            Page::Whole(found) => done(sought.found(place, found)),
        },
        (Stage::Subnets { also, pages }, Answer::DescribeSubnets(answer)) => match pages.take(answer)? {
            Page::More(pages) => {
                let request = pages.request().clone();
                ask(Stage::Subnets { also, pages }, request)
            }
            Page::Whole(found) => more_subnets(also, found),
        },
        (Stage::MoreSubnets(mut found), Answer::DescribeSubnets(answer)) => {
            found.extend(answer.subnets);
            subnets(found)
        }
        (Stage::Limits, Answer::DescribeInstanceTypes(answer)) => {
            let limits = answer.instance_types.into_iter().find_map(lists::limits).ok_or_else(|| {
                nonsense(work.action, &place.instance_type, "EC2 does not say how many ENIs it may have")
            })?;
            done(limits)
        }
        (_, _) => return Err(Box::new(nonsense(work.action, "", "the answer is one to another request"))),
    })
}

fn ask(stage: Stage, request: impl Into<Request>) -> Step {
    let request = request.into();
    Step::Ask(Work { stage, action: request.name() }, request)
}

fn done(answer: CloudAnswer) -> Step {
    Step::Done(Ok(answer))
}

fn list(place: &Place, sought: Sought) -> Step {
    let pages = Pages::new(sought.request(place));
    let request = pages.request().clone();
    ask(Stage::Enis(sought, pages), request)
}

/// Takes addresses, then prefixes, off an ENI: EC2 takes only one kind in a request.
fn unassign(eni: &EniId, slots: Vec<Slot>) -> Step {
    let (prefixes, addresses): (Vec<Slot>, Vec<Slot>) =
        slots.into_iter().partition(|slot| Unit::of(*slot) == Unit::Prefix);
    let request = |some: Vec<Slot>| {
        let request = UnassignPrivateIpAddresses {
            network_interface_id: eni.clone(),
            private_ip_addresses: some.iter().filter_map(|slot| slot.address()).collect(),
            ipv4_prefixes: some.iter().filter_map(|slot| slot.prefix()).collect(),
        };
        (!some.is_empty()).then(|| Request::from(request))
    };
    match (request(addresses), request(prefixes)) {
        (Some(first), rest) => ask(Stage::Unassigning(rest), first),
        (None, Some(only)) => ask(Stage::Unassigning(None), only),
        (None, None) => done(CloudAnswer::Done),
    }
}

fn tag(enis: &[EniId], tags: BTreeMap<String, String>) -> CreateTags {
    CreateTags {
        resources: enis.iter().map(ToString::to_string).collect(),
        tags: tags.into_iter().map(|(key, value)| Tag { key, value }).collect(),
        dry_run: None,
    }
}

fn assigned(answer: &AssignPrivateIpAddressesResponse) -> Vec<Slot> {
    let addresses = answer.assigned_private_ip_addresses.iter().map(|entry| Slot::Address(entry.private_ip_address));
    let prefixes = answer.assigned_ipv4_prefixes.iter().map(|entry| Slot::Prefix(entry.ipv4_prefix));
    addresses.chain(prefixes).collect()
}

/// The zone's subnets have come; others are looked up by a second request.
fn more_subnets(also: Vec<SubnetId>, found: Vec<SubnetDescription>) -> Step {
    let lacking: Vec<SubnetId> =
        also.into_iter().filter(|id| found.iter().all(|subnet| subnet.subnet_id != *id)).collect();
    if lacking.is_empty() {
        return subnets(found);
    }
    ask(Stage::MoreSubnets(found), DescribeSubnets { subnet_ids: lacking, ..Default::default() })
}

fn subnets(found: Vec<SubnetDescription>) -> Step {
    done(CloudAnswer::Subnets(found.into_iter().filter_map(lists::subnet).collect()))
}
