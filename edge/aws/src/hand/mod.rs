//! The hand that speaks to EC2, without its voice: the agent's calls in EC2's words, EC2's answers in the agent's. Pure: whoever holds
//! it carries the requests (the daemon over HTTP, the simulator to a model).
//!
//! ```text
//!   CloudCall --Hand::begin--> (Work, Request) --EC2--> answer or error --Hand::answered--> Ask(the next Request)
//!                                                                                     \--> Done(CloudAnswer | CloudFailure)
//! ```
//!
//! Most calls are one request; a list may come in pages, and EC2 takes addresses and prefixes off an ENI only in two requests.
//! Retries of one HTTP request are the carrier's, retries of a call the agent's. [`facts`] does the same for the metadata.

mod ask;
mod calls;
pub mod facts;
mod lists;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use vpc_agent::{CloudAnswer, CloudCall, CloudFailure, EniKind, EniTruth, FailureClass};
use vpc_ipam::Unit;
use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Mac, SecurityGroupId, Slot, VpcId, WallTime};

pub use ask::{Answer, Request};
pub use calls::Work;

use crate::ec2::shapes::{
    AttachmentStatus, CreateNetworkInterface, InterfaceType, NetworkInterface, NetworkInterfaceStatus, ResourceType,
    Tag, TagSpecification,
};
use crate::ec2::{Ec2Error, ErrorClass, Outcome, Shortage};

/// Tag that says whose ENI it is; every node of a cluster looks for it when it clears up after lost instances.
pub const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
const CREATED_AT_TAG: &str = "node.k8s.amazonaws.com/createdAt";
const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";
/// How descriptions of our ENIs begin; the instance follows.
const DESCRIPTION: &str = "aws-K8S-";
const OWNER_TAG: (&str, &str) = ("eks:eni:owner", "amazon-vpc-cni");

/// What the hand knows of the node, and how new ENIs are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// This instance.
    pub instance: InstanceId,
    /// Hardware address of its primary ENI.
    pub mac: Mac,
    /// Its VPC.
    pub vpc: VpcId,
    /// Its availability zone.
    pub zone: String,
    /// Its type.
    pub instance_type: String,
    /// The cluster's name (`CLUSTER_NAME`), where it is set.
    pub cluster: Option<String>,
    /// Tags every ENI of ours gets.
    pub tags: BTreeMap<String, String>,
}

/// The tags every ENI of ours gets besides the time of its creation. The user's own come last, and win.
#[must_use]
pub fn tags(instance: &InstanceId, cluster: Option<&str>, more: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([(INSTANCE_TAG.to_owned(), instance.to_string())]);
    if let Some(cluster) = cluster {
        tags.insert(CLUSTER_TAG.to_owned(), cluster.to_owned());
        tags.insert(OWNER_TAG.0.to_owned(), OWNER_TAG.1.to_owned());
    }
    tags.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    tags
}

impl Place {
    /// How ENIs made for this instance are described.
    fn description(&self) -> String {
        format!("{DESCRIPTION}{}", self.instance)
    }

    /// The request for a new ENI. The same token and time give the same request: EC2 refuses a token that comes with another.
    fn new_eni(
        &self,
        token: String,
        place: &vpc_agent::Place,
        unit: Unit,
        count: u32,
        created_at: String,
    ) -> CreateNetworkInterface {
        let of = |wanted: Unit| (unit == wanted && count > 0).then_some(count);
        let mut tags = self.tags.clone();
        tags.insert(CREATED_AT_TAG.to_owned(), created_at);
        CreateNetworkInterface {
            description: Some(self.description()),
            groups: place.groups.clone(),
            secondary_private_ip_address_count: of(Unit::Address),
            ipv4_prefix_count: of(Unit::Prefix),
            tag_specifications: vec![TagSpecification {
                resource_type: ResourceType::NetworkInterface,
                tags: tags.into_iter().map(|(key, value)| Tag { key, value }).collect(),
            }],
            client_token: Some(token),
            ..CreateNetworkInterface::new(place.subnet.clone())
        }
    }

    /// What EC2 says an ENI is. The tie counts while it holds, not while it is being cut.
    fn truth(&self, eni: NetworkInterface) -> Option<EniTruth> {
        let primary = primary_of(&eni)?;
        Some(EniTruth {
            attachment: self.tie(&eni),
            slots: slots_of(&eni),
            available: eni.status == NetworkInterfaceStatus::Available,
            kind: kind_of(&eni.interface_type),
            delete_on_termination: eni.attachment.as_ref().and_then(|tie| tie.delete_on_termination),
            tags: texts(&eni.tags),
            groups: eni.groups.iter().map(|group| group.group_id.clone()).collect(),
            subnet: eni.subnet_id,
            id: eni.network_interface_id,
            mac: eni.mac_address,
            primary,
        })
    }

    fn tie(&self, eni: &NetworkInterface) -> Option<(AttachmentId, CardIndex, DeviceIndex)> {
        let tie = eni.attachment.as_ref().filter(|tie| tie.instance_id.as_ref() == Some(&self.instance))?;
        let holds = matches!(tie.status, AttachmentStatus::Attaching | AttachmentStatus::Attached);
        let place = (tie.attachment_id.own()?.clone(), tie.network_card_index.unwrap_or_default(), tie.device_index?);
        holds.then_some(place)
    }
}

/// What to do next about a call.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "made once for each answer and taken apart at once")]
pub enum Step {
    /// Send this, and tell [`Hand::answered`] what comes back.
    Ask(Work, Request),
    /// The call is over.
    Done(Result<CloudAnswer, CloudFailure>),
}

/// The hand.
#[derive(Clone, Debug)]
pub struct Hand {
    place: Place,
    /// When ENIs under way were first asked for, by token: a repeated request must be the same request.
    asked_at: BTreeMap<String, String>,
}

impl Hand {
    /// A hand that makes ENIs at `place`.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { place, asked_at: BTreeMap::new() }
    }

    /// What it knows of the node.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Begins a call. `wall` is the calendar now: new ENIs are tagged with it.
    pub fn begin(&mut self, wall: WallTime, call: CloudCall) -> Step {
        if let CloudCall::CreateEni { token, .. } = &call {
            self.asked_at.entry(token.clone()).or_insert_with(|| written(wall));
        }
        calls::begin(self, call)
    }

    /// Takes the answer to the last request of a call.
    pub fn answered(&mut self, work: Work, result: Result<Answer, Ec2Error>) -> Step {
        calls::answered(self, work, result).unwrap_or_else(|error| Step::Done(Err(failure(&error))))
    }
}

/// The calendar to the second, as tags carry it: `2026-02-03T04:05:06Z`.
fn written(wall: WallTime) -> String {
    let seconds = wall.0.div_euclid(1_000_000_000);
    DateTime::from_secs(seconds).fmt(Format::DateTime).unwrap_or_default()
}

/// A calendar time as AWS's tools and the reference write it (RFC 3339, any offset).
fn read_calendar(text: &str) -> Option<WallTime> {
    let read = DateTime::from_str(text, Format::DateTimeWithOffset).ok()?;
    i64::try_from(read.as_nanos()).ok().map(WallTime)
}

/// An ENI without an IPv4 address is of no use here. It exists all the same: its answer counts as lost, and is asked for again.
fn nameless(id: &EniId) -> Ec2Error {
    nonsense("CreateNetworkInterface", id.as_str(), "the new ENI has no IPv4 address of its own")
}

/// An answer that lacks what it was asked for.
fn nonsense(action: &'static str, resource: &str, message: &str) -> Ec2Error {
    Ec2Error {
        action,
        resource: Some(resource.to_owned()),
        class: ErrorClass::BadAnswer,
        code: "BadAnswer".to_owned(),
        message: message.to_owned(),
        request_id: None,
        status: None,
        outcome: Outcome::Unknown,
        lost_before: false,
        attempts: 1,
        retry_after: None,
    }
}

/// An error as the agent weighs it.
fn failure(error: &Ec2Error) -> CloudFailure {
    let message = match &error.resource {
        Some(resource) => format!("{} ({resource})", error.message),
        None => error.message.clone(),
    };
    let (action, code) = (error.action.to_owned(), error.code.clone());
    CloudFailure { class: class_of(error), action, code, message, lost_before: error.lost_before }
}

fn class_of(error: &Ec2Error) -> FailureClass {
    if error.outcome == Outcome::Unknown {
        return FailureClass::Lost;
    }
    match &error.class {
        ErrorClass::Throttled => FailureClass::Throttled,
        ErrorClass::Unauthorized | ErrorClass::Credentials => FailureClass::Unauthorized,
        ErrorClass::NotFound { id: Some(id) } if id.parse::<SecurityGroupId>().is_ok() => FailureClass::GroupNotFound,
        ErrorClass::NotFound { .. } => FailureClass::NotFound,
        ErrorClass::SubnetExhausted(Shortage::Blocks) => FailureClass::Fragmented,
        ErrorClass::SubnetExhausted(Shortage::Addresses | Shortage::Total) => FailureClass::SubnetExhausted,
        ErrorClass::AddressLimit => FailureClass::AddressLimit,
        ErrorClass::AttachmentLimit => FailureClass::EniLimit,
        // The account's quota that a new ENI can meet is the one of ENIs.
        ErrorClass::Quota if error.action == "CreateNetworkInterface" => FailureClass::EniLimit,
        ErrorClass::InUse | ErrorClass::IncorrectState => FailureClass::WrongState,
        ErrorClass::Transport | ErrorClass::Timeout => FailureClass::Unreachable,
        ErrorClass::Quota
        | ErrorClass::NotPermitted
        | ErrorClass::IdempotencyMismatch
        | ErrorClass::DryRun
        | ErrorClass::Invalid
        | ErrorClass::ServerSide
        | ErrorClass::BadAnswer
        | ErrorClass::Other => FailureClass::Other,
    }
}

fn kind_of(kind: &InterfaceType) -> EniKind {
    match kind {
        InterfaceType::Interface => EniKind::Ordinary,
        InterfaceType::Efa => EniKind::Efa,
        InterfaceType::EfaOnly => EniKind::EfaOnly,
        InterfaceType::Trunk => EniKind::Trunk,
        _ => EniKind::Other,
    }
}

fn texts(tags: &[Tag]) -> BTreeMap<String, String> {
    tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
}

/// The ENI's own address.
fn primary_of(eni: &NetworkInterface) -> Option<Ipv4Addr> {
    let marked = eni.private_ip_addresses.iter().find(|entry| entry.primary == Some(true));
    marked.map(|entry| entry.private_ip_address).or(eni.private_ip_address)
}

/// What is on the ENI besides its own address.
fn slots_of(eni: &NetworkInterface) -> Vec<Slot> {
    let primary = primary_of(eni);
    let addresses =
        eni.private_ip_addresses.iter().map(|entry| entry.private_ip_address).filter(|a| Some(*a) != primary);
    let prefixes = eni.ipv4_prefixes.iter().map(|entry| Slot::Prefix(entry.ipv4_prefix));
    addresses.map(Slot::Address).chain(prefixes).collect()
}
