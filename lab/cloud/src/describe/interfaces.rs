//! DescribeNetworkInterfaces.

use std::collections::BTreeSet;

use vpc_aws::ec2::shapes::{
    AttachmentStatus, DescribeNetworkInterfaces, DescribeNetworkInterfacesResponse, InterfaceType, Ipv4PrefixEntry,
    NetworkInterface, NetworkInterfaceAssociation, NetworkInterfaceAttachment, NetworkInterfaceStatus,
    PrivateIpAddressOfInterface, ServiceOr,
};

use vpc_model::{AllocationId, CardIndex, DeviceIndex, EniId, InstanceId, Time};

use super::filter::{Row, all, by_tag, held, keys, not_held, one};
use super::page::{PageRequest, Pages};
use super::{Listing, look_up, show_tags};
use crate::cloud::Cloud;
use crate::error::ApiError;
use crate::ids::checked;
use crate::spec::id_text;
use crate::world::{self, Eni, Service, Tie};

/// The provider's account that makes ENIs for endpoints and NAT gateways.
const REQUESTER: &str = "727180483921";

pub(super) const INTERFACES: Listing<NetworkInterface> = Listing {
    action: "DescribeNetworkInterfaces",
    filters: FILTERS,
    pages: Some(Pages::THOUSAND.not_with("networkInterfaceIds")),
};

const FILTERS: &[Row<NetworkInterface>] = &[
    held("association.allocation-id", |eni| all(mapping(eni).and_then(|own| own.allocation_id.as_ref()))),
    held("association.association-id", |eni| all(mapping(eni).and_then(|own| own.association_id.as_ref()))),
    held("addresses.association.owner-id", |eni| all(mappings(eni).filter_map(|own| own.ip_owner_id.as_ref()))),
    held("addresses.association.public-ip", |eni| all(mappings(eni).map(|own| own.public_ip))),
    held("addresses.primary", |eni| all(eni.private_ip_addresses.iter().filter_map(|address| address.primary))),
    held("addresses.private-ip-address", |eni| all(eni.private_ip_addresses.iter().map(|own| own.private_ip_address))),
    held("association.ip-owner-id", |eni| all(mapping(eni).and_then(|own| own.ip_owner_id.as_ref()))),
    held("association.public-ip", |eni| all(mapping(eni).map(|own| own.public_ip))),
    held("association.public-dns-name", |eni| all(mapping(eni).and_then(|own| own.public_dns_name.as_ref()))),
    held("attachment.attach-time", |eni| all(tie(eni).and_then(|tie| tie.attach_time))),
    held("attachment.attachment-id", |eni| all(tie(eni).map(|tie| &tie.attachment_id))),
    held("attachment.delete-on-termination", |eni| all(tie(eni).and_then(|tie| tie.delete_on_termination))),
    held("attachment.device-index", |eni| all(tie(eni).and_then(|tie| tie.device_index))),
    held("attachment.instance-id", |eni| all(tie(eni).and_then(|tie| tie.instance_id.as_ref()))),
    held("attachment.instance-owner-id", |eni| all(tie(eni).and_then(|tie| tie.instance_owner_id.as_ref()))),
    held("attachment.status", |eni| all(tie(eni).map(|tie| tie.status.as_str()))),
    held("availability-zone", |eni| all(&eni.availability_zone)),
    held("availability-zone-id", |eni| all(&eni.availability_zone_id)),
    held("description", |eni| all(&eni.description)),
    held("group-id", |eni| all(eni.groups.iter().map(|group| &group.group_id))),
    not_held("ipv6-addresses.ipv6-address"),
    held("interface-type", |eni| one(eni.interface_type.as_str())),
    held("mac-address", |eni| one(eni.mac_address)),
    held("network-interface-id", |eni| one(&eni.network_interface_id)),
    not_held("operator.managed"),
    not_held("operator.principal"),
    held("owner-id", |eni| all(&eni.owner_id)),
    held("private-dns-name", |eni| all(&eni.private_dns_name)),
    held("private-ip-address", |eni| all(eni.private_ip_addresses.iter().map(|own| own.private_ip_address))),
    held("requester-id", |eni| all(&eni.requester_id)),
    held("requester-managed", |eni| all(eni.requester_managed)),
    held("source-dest-check", |eni| all(eni.source_dest_check)),
    held("status", |eni| one(eni.status.as_str())),
    held("subnet-id", |eni| one(&eni.subnet_id)),
    by_tag(|eni| &eni.tags),
    held("tag-key", |eni| keys(&eni.tags)),
    held("vpc-id", |eni| one(&eni.vpc_id)),
];

fn tie(eni: &NetworkInterface) -> Option<&NetworkInterfaceAttachment> {
    eni.attachment.as_ref()
}

/// The public address in front of the primary private one.
fn mapping(eni: &NetworkInterface) -> Option<&NetworkInterfaceAssociation> {
    eni.association.as_ref()
}

/// The public addresses in front of all private ones.
fn mappings(eni: &NetworkInterface) -> impl Iterator<Item = &NetworkInterfaceAssociation> {
    eni.private_ip_addresses.iter().filter_map(|address| address.association.as_ref())
}

impl Cloud {
    pub(crate) fn describe_enis(
        &self,
        request: &DescribeNetworkInterfaces,
    ) -> Result<DescribeNetworkInterfacesResponse, ApiError> {
        let ids = &request.network_interface_ids;
        let page = PageRequest {
            max_results: request.max_results,
            next_token: request.next_token.as_deref(),
            by_id: !ids.is_empty(),
        };
        let question = INTERFACES.ask(self, &request.filters, page)?;
        let form = (EniId::PREFIX, "InvalidNetworkInterfaceId.Malformed");
        look_up(ids, form, |id| self.world.enis.contains_key(id), ApiError::no_eni)?;
        let asked = self.enis_in_question(request);
        let (network_interfaces, next_token) =
            question.answer(asked.into_iter().map(|eni| (eni.id.to_string(), self.show_eni(eni))));
        Ok(DescribeNetworkInterfacesResponse { network_interfaces, next_token })
    }

    /// All ENIs that may pass the filters, by id, found without a look at each where ids or filters allow that.
    fn enis_in_question(&self, request: &DescribeNetworkInterfaces) -> Vec<&Eni> {
        let enis = &self.world.enis;
        let exact = |name: &str| {
            let filter = request.filters.iter().find(|filter| filter.name == name)?;
            let plain = |value: &String| !value.contains(['*', '?', '\\']);
            filter.values.iter().all(plain).then_some(&filter.values)
        };
        let ids: BTreeSet<&EniId> = request.network_interface_ids.iter().collect();
        if !ids.is_empty() {
            return ids.into_iter().filter_map(|id| enis.get(id)).collect();
        }
        if let Some(instances) = exact("attachment.instance-id") {
            let instances: BTreeSet<InstanceId> = instances.iter().filter_map(|id| id.parse().ok()).collect();
            return instances.iter().flat_map(|instance| enis.of(instance)).collect();
        }
        match exact("status") {
            Some(values) if values.iter().all(|value| value == "available") => enis.loose().collect(),
            _ => enis.values().collect(),
        }
    }

    /// An ENI as EC2 shows it.
    pub(crate) fn show_eni(&self, eni: &Eni) -> NetworkInterface {
        let association =
            |private: &std::net::Ipv4Addr| eni.public.get(private).map(|public| self.show_association(eni, *public));
        let address = |address: &std::net::Ipv4Addr| PrivateIpAddressOfInterface {
            private_ip_address: *address,
            primary: Some(*address == eni.primary),
            private_dns_name: Some(self.world.private_dns_name(*address)),
            association: association(address),
        };
        let zone = self.zone_of(eni);
        let zone_id = zone.as_ref().and_then(|zone| self.zone_id(zone));
        NetworkInterface {
            network_interface_id: eni.id.clone(),
            subnet_id: eni.subnet.clone(),
            vpc_id: self.world.spec.vpc.id.clone(),
            availability_zone: zone,
            availability_zone_id: zone_id,
            description: Some(eni.description.clone()),
            owner_id: Some(self.world.spec.account_id.clone()),
            requester_id: eni.service.as_ref().map(|_| REQUESTER.to_owned()),
            requester_managed: Some(eni.service.is_some()),
            status: match eni.attachment.as_ref().map(|attachment| attachment.tie) {
                None if eni.service.is_some() => NetworkInterfaceStatus::InUse,
                None => NetworkInterfaceStatus::Available,
                Some(Tie::Detaching) => NetworkInterfaceStatus::Detaching,
                Some(Tie::Attaching | Tie::Attached) => NetworkInterfaceStatus::InUse,
            },
            mac_address: eni.mac,
            private_ip_address: Some(eni.primary),
            private_dns_name: Some(self.world.private_dns_name(eni.primary)),
            source_dest_check: Some(eni.source_dest_check),
            groups: self.groups(&eni.groups),
            attachment: eni
                .attachment
                .as_ref()
                .map(|attachment| self.show_attachment(attachment))
                .or_else(|| eni.service.as_ref().map(|service| self.show_service_attachment(service))),
            association: association(&eni.primary),
            tags: show_tags(&eni.tags),
            private_ip_addresses: [eni.primary].iter().chain(&eni.secondary).map(address).collect(),
            ipv4_prefixes: eni.prefixes.iter().map(|prefix| Ipv4PrefixEntry { ipv4_prefix: *prefix }).collect(),
            ipv6_addresses: Vec::new(),
            ipv6_prefixes: Vec::new(),
            interface_type: interface_type(&eni.interface_type),
            connection_tracking: eni.connection_tracking,
        }
    }

    /// A public address in front of a private one: a NAT gateway's is an elastic one, all others come from Amazon's pool.
    fn show_association(&self, eni: &Eni, public: std::net::Ipv4Addr) -> NetworkInterfaceAssociation {
        let gateway = match &eni.service {
            Some(Service::NatGateway(id)) => Some(id),
            _ => None,
        };
        let owner = if gateway.is_some() { self.world.spec.account_id.as_str() } else { "amazon" };
        NetworkInterfaceAssociation {
            public_ip: public,
            public_dns_name: Some(self.world.public_dns_name(public)),
            ip_owner_id: Some(owner.to_owned()),
            allocation_id: gateway.map(|id| checked(&id_text(AllocationId::PREFIX, id))),
            association_id: gateway.map(|id| id_text("eipassoc-", id)),
        }
    }

    /// How the ENI of a service is tied to it, since the world began: to an instance of the provider that nobody sees.
    fn show_service_attachment(&self, service: &Service) -> NetworkInterfaceAttachment {
        NetworkInterfaceAttachment {
            attachment_id: ServiceOr::Service(id_text("ela-attach-", service.id())),
            instance_id: None,
            instance_owner_id: Some("amazon-aws".to_owned()),
            device_index: Some(DeviceIndex(1)),
            network_card_index: Some(CardIndex(0)),
            status: AttachmentStatus::Attached,
            attach_time: Some(self.timestamp(Time(0))),
            delete_on_termination: Some(false),
        }
    }

    fn show_attachment(&self, attachment: &world::Attachment) -> NetworkInterfaceAttachment {
        NetworkInterfaceAttachment {
            attachment_id: attachment.id.clone().into(),
            instance_id: Some(attachment.instance.clone()),
            instance_owner_id: Some(self.world.spec.account_id.clone()),
            device_index: Some(attachment.device),
            network_card_index: Some(attachment.card),
            status: attachment_status(attachment.tie),
            attach_time: Some(self.timestamp(attachment.since)),
            delete_on_termination: Some(attachment.delete_on_termination),
        }
    }
}

pub(super) fn attachment_status(tie: Tie) -> AttachmentStatus {
    match tie {
        Tie::Attaching => AttachmentStatus::Attaching,
        Tie::Attached => AttachmentStatus::Attached,
        Tie::Detaching => AttachmentStatus::Detaching,
    }
}

fn interface_type(text: &str) -> InterfaceType {
    match text {
        "efa" => InterfaceType::Efa,
        "trunk" => InterfaceType::Trunk,
        "vpc_endpoint" => InterfaceType::VpcEndpoint,
        "nat_gateway" => InterfaceType::NatGateway,
        _ => InterfaceType::Interface,
    }
}
