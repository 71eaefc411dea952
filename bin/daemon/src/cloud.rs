//! The hand that speaks to EC2: the agent's calls in EC2's words, EC2's answers in the agent's.
//!
//! ```text
//!   CloudCall --Ec2Hand--> CreateNetworkInterface … --EC2--> answer or error --> CloudAnswer | CloudFailure --> door
//! ```
//!
//! Calls run side by side; the agent decides what may. Retries of one HTTP request are the client's, retries of a call the agent's.

mod lists;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vpc_agent::{CloudAnswer, CloudCall, CloudFailure, EniKind, EniTruth, FailureClass, Metadata};
use vpc_aws::ec2::shapes::{
    AssignPrivateIpAddresses, AttachNetworkInterface, AttachmentStatus, CreateNetworkInterface, DeleteNetworkInterface,
    DescribeNetworkInterfaces, DetachNetworkInterface, Filter, InterfaceType, ModifyNetworkInterfaceAttribute,
    NetworkInterface, NetworkInterfaceAttachmentChanges, NetworkInterfaceStatus, ResourceType, Tag, TagSpecification,
};
use vpc_aws::ec2::{Client, Ec2Error, ErrorClass, Outcome, Shortage};
use vpc_aws::imds;
use vpc_ipam::Unit;
use vpc_model::{AttachmentId, CardIndex, DeviceIndex, EniId, InstanceId, Ipv4Net, Mac, Slot, VpcId};

use crate::clock;
use crate::node::Cloud;
use crate::settings::EniTags;

/// Tag that says whose ENI it is; every node of a cluster looks for it when it clears up after lost instances.
pub const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
const CREATED_AT_TAG: &str = "node.k8s.amazonaws.com/createdAt";
const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";
const OWNER_TAG: (&str, &str) = ("eks:eni:owner", "amazon-vpc-cni");

/// What the hand knows of the node, and how new ENIs are called.
#[derive(Clone, Debug)]
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
pub fn tags(instance: &InstanceId, settings: &EniTags) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([(INSTANCE_TAG.to_owned(), instance.to_string())]);
    if let Some(cluster) = &settings.cluster {
        tags.insert(CLUSTER_TAG.to_owned(), cluster.clone());
        tags.insert(OWNER_TAG.0.to_owned(), OWNER_TAG.1.to_owned());
    }
    tags.extend(settings.more.clone());
    tags
}

impl Place {
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
            description: Some(format!("aws-K8S-{}", self.instance)),
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

/// The hand.
pub struct Ec2Hand {
    client: Client,
    imds: imds::Client,
    place: Place,
    /// When ENIs under way were first asked for, by token: a repeated request must be the same request.
    asked_at: Mutex<HashMap<String, String>>,
}

impl Ec2Hand {
    /// A hand that makes ENIs at `place`.
    #[must_use]
    pub fn new(client: Client, imds: imds::Client, place: Place) -> Self {
        Self { client, imds, place, asked_at: Mutex::default() }
    }

    async fn create(
        &self,
        token: String,
        place: vpc_agent::Place,
        unit: Unit,
        count: u32,
    ) -> Result<CloudAnswer, Ec2Error> {
        let created_at = self.asked_at().entry(token.clone()).or_insert_with(clock::utc_seconds).clone();
        let request = self.place.new_eni(token.clone(), &place, unit, count, created_at);
        let answer = self.client.call(&request).await?.network_interface;
        self.asked_at().remove(&token);
        let id = answer.network_interface_id.clone();
        self.place.truth(answer).map(CloudAnswer::Created).ok_or_else(|| nameless(&id))
    }

    async fn describe(&self, eni: EniId) -> Result<CloudAnswer, Ec2Error> {
        let request = DescribeNetworkInterfaces { network_interface_ids: vec![eni.clone()], ..Default::default() };
        match self.client.call(&request).await {
            Ok(answer) => {
                let found = answer.network_interfaces.into_iter().find(|found| found.network_interface_id == eni);
                Ok(CloudAnswer::Described(found.and_then(|found| self.place.truth(found))))
            }
            Err(error) if error.is_not_found() => Ok(CloudAnswer::Described(None)),
            Err(error) => Err(error),
        }
    }

    async fn assign(&self, eni: EniId, unit: Unit, count: u32) -> Result<CloudAnswer, Ec2Error> {
        let request = match unit {
            Unit::Address => AssignPrivateIpAddresses::addresses(eni, count),
            Unit::Prefix => AssignPrivateIpAddresses::prefixes(eni, count),
        };
        let answer = self.client.call(&request).await?;
        let addresses =
            answer.assigned_private_ip_addresses.iter().map(|entry| Slot::Address(entry.private_ip_address));
        let prefixes = answer.assigned_ipv4_prefixes.iter().map(|entry| Slot::Prefix(entry.ipv4_prefix));
        Ok(CloudAnswer::Assigned(addresses.chain(prefixes).collect()))
    }

    async fn carry_out(&self, call: CloudCall) -> Result<CloudAnswer, Ec2Error> {
        match call {
            CloudCall::CreateEni { token, place, unit, count } => self.create(token, place, unit, count).await,
            CloudCall::AttachEni { eni, card, device } => {
                let request = AttachNetworkInterface {
                    network_interface_id: eni,
                    instance_id: self.place.instance.clone(),
                    device_index: device,
                    network_card_index: Some(card),
                    dry_run: None,
                };
                Ok(CloudAnswer::Attached(self.client.call(&request).await?.attachment_id))
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
                self.client.call(&request).await.map(|_| CloudAnswer::Done)
            }
            CloudCall::Assign { eni, unit, count } => self.assign(eni, unit, count).await,
            CloudCall::Unassign { eni, slots } => self.unassign(eni, slots).await,
            CloudCall::Describe { eni } => self.describe(eni).await,
            CloudCall::DescribeNode => {
                let found = enis_of(&self.client, &self.place.instance).await?;
                Ok(CloudAnswer::Node(found.into_iter().filter_map(|eni| self.place.truth(eni)).collect()))
            }
            CloudCall::SetGroups { eni, groups } => {
                let request = ModifyNetworkInterfaceAttribute { groups, ..ModifyNetworkInterfaceAttribute::new(eni) };
                self.client.call(&request).await.map(|_| CloudAnswer::Done)
            }
            CloudCall::Tag { enis, tags } => self.tag(enis, tags).await,
            CloudCall::Subnets { also } => self.subnets(also).await,
            CloudCall::FindLeaked => self.leaked().await,
            CloudCall::Limits => self.limits().await,
            CloudCall::Detach { attachment, .. } => {
                let request = DetachNetworkInterface { attachment_id: attachment, force: None, dry_run: None };
                self.client.call(&request).await.map(|_| CloudAnswer::Done)
            }
            CloudCall::Delete { eni } => {
                let request = DeleteNetworkInterface { network_interface_id: eni, dry_run: None };
                self.client.call(&request).await.map(|_| CloudAnswer::Done)
            }
            CloudCall::FindStrays => self.strays().await,
        }
    }

    /// ENIs with this instance's tag and our description that nothing uses.
    async fn strays(&self) -> Result<CloudAnswer, Ec2Error> {
        let filters = vec![
            Filter::new(format!("tag:{INSTANCE_TAG}"), [self.place.instance.as_str()]),
            Filter::new("status", ["available"]),
        ];
        let request = DescribeNetworkInterfaces { filters, ..Default::default() };
        let own = format!("aws-K8S-{}", self.place.instance);
        let found = self.client.all_pages(&request).await?.into_iter();
        let strays = found.filter(|eni| eni.description.as_deref() == Some(&own)).map(|eni| eni.network_interface_id);
        Ok(CloudAnswer::Strays(strays.collect()))
    }

    fn asked_at(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // The map is whole at every step: a panic elsewhere does not make it worse.
        self.asked_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All ENIs of an instance, with their tags and attachments.
///
/// # Errors
/// EC2 could not be asked, or refused.
pub async fn enis_of(client: &Client, instance: &InstanceId) -> Result<Vec<NetworkInterface>, Ec2Error> {
    let of_instance = Filter::new("attachment.instance-id", [instance.as_str()]);
    client.all_pages(&DescribeNetworkInterfaces { filters: vec![of_instance], ..Default::default() }).await
}

impl Cloud for Ec2Hand {
    async fn call(&self, call: CloudCall) -> Result<CloudAnswer, CloudFailure> {
        self.carry_out(call).await.map_err(|error| failure(&error))
    }

    async fn metadata(&self) -> Result<Metadata, String> {
        let walk = self.imds.walk().await.map_err(|error| error.to_string())?;
        let groups = self.imds.security_groups(self.place.mac).await.map_err(|error| error.to_string())?;
        crate::facts::metadata(&walk, groups).map_err(|error| error.to_string())
    }

    async fn vpc_cidrs(&self) -> Option<Vec<Ipv4Net>> {
        match self.imds.vpc_ipv4_cidrs(self.place.mac).await {
            Ok(cidrs) => Some(cidrs),
            Err(error) => {
                tracing::warn!("the VPC's CIDRs are not known anew: {error}");
                None
            }
        }
    }
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
    CloudFailure { class: class_of(error), action: error.action.to_owned(), code: error.code.clone(), message }
}

fn class_of(error: &Ec2Error) -> FailureClass {
    if error.outcome == Outcome::Unknown {
        return FailureClass::Lost;
    }
    match error.class {
        ErrorClass::Throttled => FailureClass::Throttled,
        ErrorClass::Unauthorized | ErrorClass::Credentials => FailureClass::Unauthorized,
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
#[must_use]
pub fn primary_of(eni: &NetworkInterface) -> Option<std::net::Ipv4Addr> {
    let marked = eni.private_ip_addresses.iter().find(|entry| entry.primary == Some(true));
    marked.map(|entry| entry.private_ip_address).or(eni.private_ip_address)
}

/// What is on the ENI besides its own address.
#[must_use]
pub fn slots_of(eni: &NetworkInterface) -> Vec<Slot> {
    let primary = primary_of(eni);
    let addresses =
        eni.private_ip_addresses.iter().map(|entry| entry.private_ip_address).filter(|a| Some(*a) != primary);
    let prefixes = eni.ipv4_prefixes.iter().map(|entry| Slot::Prefix(entry.ipv4_prefix));
    addresses.map(Slot::Address).chain(prefixes).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use vpc_aws::ec2::shapes::{Action, ErrorAnswer};

    use super::*;

    fn place() -> Place {
        let instance = "i-1".parse().unwrap();
        let more = BTreeMap::from([("team".to_owned(), "net".to_owned()), (OWNER_TAG.0.to_owned(), "mine".to_owned())]);
        Place {
            tags: tags(&instance, &EniTags { cluster: Some("c1".to_owned()), more }),
            instance,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            vpc: "vpc-1".parse().unwrap(),
            zone: "us-west-2a".to_owned(),
            instance_type: "m5.large".to_owned(),
            cluster: Some("c1".to_owned()),
        }
    }

    fn spot() -> vpc_agent::Place {
        vpc_agent::Place { subnet: "subnet-1".parse().unwrap(), groups: vec!["sg-1".parse().unwrap()] }
    }

    #[test]
    fn a_new_eni_says_whose_it_is() {
        let made = |unit, count| place().new_eni("t-1".into(), &spot(), unit, count, "2026-02-03T04:05:06Z".into());
        let request = made(Unit::Address, 9);
        assert_eq!(request.query(), made(Unit::Address, 9).query());
        let prefixes = made(Unit::Prefix, 2);
        assert_eq!((prefixes.ipv4_prefix_count, prefixes.secondary_private_ip_address_count), (Some(2), None));
        assert_eq!(request.description.as_deref(), Some("aws-K8S-i-1"));
        assert_eq!(request.secondary_private_ip_address_count, Some(9));
        assert_eq!(request.client_token.as_deref(), Some("t-1"));
        let tags: Vec<_> =
            request.tag_specifications[0].tags.iter().map(|t| (t.key.as_str(), t.value.as_str())).collect();
        assert_eq!(
            tags,
            [
                (CLUSTER_TAG, "c1"),
                ("eks:eni:owner", "mine"),
                (CREATED_AT_TAG, "2026-02-03T04:05:06Z"),
                (INSTANCE_TAG, "i-1"),
                ("team", "net"),
            ]
        );
        assert_eq!(made(Unit::Address, 0).secondary_private_ip_address_count, None);
    }

    #[test]
    fn errors_are_weighed_by_their_class() {
        let cases = [
            (503, "RequestLimitExceeded", FailureClass::Throttled),
            (403, "UnauthorizedOperation", FailureClass::Unauthorized),
            (401, "AuthFailure", FailureClass::Unauthorized),
            (400, "InvalidNetworkInterfaceID.NotFound", FailureClass::NotFound),
            (400, "InsufficientFreeAddressesInSubnet", FailureClass::SubnetExhausted),
            (400, "InsufficientCidrBlocks", FailureClass::Fragmented),
            (400, "PrivateIpAddressLimitExceeded", FailureClass::AddressLimit),
            (400, "AttachmentLimitExceeded", FailureClass::EniLimit),
            (400, "NetworkInterfaceLimitExceeded", FailureClass::EniLimit),
            (400, "IncorrectState", FailureClass::WrongState),
            (400, "InvalidNetworkInterface.InUse", FailureClass::WrongState),
            (400, "InvalidParameterValue", FailureClass::Other),
            // A server that failed may have failed after the deed.
            (500, "InternalError", FailureClass::Lost),
        ];
        for (status, code, class) in cases {
            let answer = ErrorAnswer { code: code.into(), message: "m".into(), request_id: "r".into() };
            let mut error = Ec2Error::refused("CreateNetworkInterface", status, answer);
            error.resource = Some("subnet-1".into());
            let failure = failure(&error);
            assert_eq!((failure.class, failure.code.as_str()), (class, code));
            assert_eq!(failure.message, "m (subnet-1)");
        }
    }
}
