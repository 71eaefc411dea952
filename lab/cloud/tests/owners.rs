//! What belongs to whom: tags, endpoints of services, addresses that move.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Lab, subnet};
use lab_cloud::{
    ApiError, EndpointSpec, FabricEvent, NamedId, PeeringSpec, Profile, ReservationKind, ReservationSpec, RouteSpec,
    RouteTarget, Setup, VirtualGatewaySpec, WorldSpec, id_text,
};
use vpc_aws::ec2::shapes::{
    AnyRequest, AnyResponse, AssignPrivateIpAddresses, AttachNetworkInterface, AttachmentStatus,
    CreateNetworkInterface, CreateSecurityGroup, CreateTags, DeleteNetworkInterface, DeleteTags,
    DescribeNetworkInterfaces, DescribeTags, Filter, ModifyNetworkInterfaceAttribute, Query, ResourceType, ServiceOr,
    Tag, TagSpecification, TagToDelete, VERSION,
};
use vpc_model::DeviceIndex;

fn code(result: Result<AnyResponse, ApiError>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.code.into_owned(),
    }
}

fn tags_of(lab: &mut Lab, id: &str) -> Vec<(String, String)> {
    let request = DescribeTags { filters: vec![Filter::new("resource-id", [id])], ..DescribeTags::default() };
    let AnyResponse::DescribeTags(answer) = lab.call(request).unwrap() else { panic!() };
    answer.tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

#[test]
fn everything_has_tags() {
    let mut lab = Lab::instant();
    let spec = lab.cloud.spec().clone();
    let mut ids = vec![
        lab.primary("node-1").to_string(),
        common::instance("node-1").to_string(),
        subnet("private-a").to_string(),
        spec.vpc.id.to_string(),
        spec.security_groups[0].id.to_string(),
        id_text("rtb-", "private"),
        id_text("sgr-", &format!("{} egress 0", spec.security_groups[0].id)),
    ];
    let create = |ids: &[String]| CreateTags {
        resources: ids.to_vec(),
        tags: vec![Tag::new("team", "red"), Tag::new("size", "")],
        dry_run: None,
    };
    let delete = |ids: &[String], key: &str, value: Option<&str>| DeleteTags {
        resources: ids.to_vec(),
        tags: vec![TagToDelete { key: key.to_owned(), value: value.map(str::to_owned) }],
        dry_run: None,
    };
    lab.call(create(&ids)).unwrap();
    // Another value: stays. The empty value is a value. A key that is not there is no error.
    lab.call(delete(&ids, "team", Some("blue"))).unwrap();
    lab.call(delete(&ids, "size", Some(""))).unwrap();
    lab.call(delete(&ids, "nothing", None)).unwrap();
    // Rules show their tags in DescribeSecurityGroupRules; the others in DescribeTags, too.
    for id in &ids[..6] {
        let tags = tags_of(&mut lab, id);
        assert!(tags.contains(&("team".into(), "red".into())), "{id}: {tags:?}");
        assert!(!tags.iter().any(|(key, _)| key == "size"), "{id}: {tags:?}");
    }
    ids.push("subnet-0123456789abcdef0".into());
    assert_eq!(code(lab.call(delete(&ids, "team", None))), "InvalidSubnetID.NotFound");
    assert_eq!(tags_of(&mut lab, &ids[0]).len(), 1, "all or none");
    assert_eq!(code(lab.call(delete(&ids, "aws:own", None))), "InvalidParameterValue");
    let all = DeleteTags { resources: vec![ids[0].clone()], ..DeleteTags::default() };
    lab.call(all).unwrap();
    assert_eq!(tags_of(&mut lab, &ids[0]), []);
}

#[test]
fn what_is_created_is_born_with_its_tags() {
    let mut lab = Lab::instant();
    let group = |kind: ResourceType, tags: Vec<Tag>| CreateSecurityGroup {
        group_name: "tagged".into(),
        description: "a test".into(),
        vpc_id: Some(vpc_model::VpcId::of_name("vpc")),
        tag_specifications: vec![TagSpecification { resource_type: kind, tags }],
        dry_run: None,
    };
    assert_eq!(code(lab.call(group(ResourceType::Subnet, vec![Tag::new("a", "b")]))), "InvalidParameterValue");
    assert_eq!(code(lab.call(group(ResourceType::SecurityGroup, vec![]))), "InvalidParameterValue");
    let request = group(ResourceType::SecurityGroup, vec![Tag::new("a", "b")]);
    let AnyResponse::CreateSecurityGroup(answer) = lab.call(request).unwrap() else { panic!() };
    assert_eq!(answer.tags, [Tag::new("a", "b")]);
    assert_eq!(tags_of(&mut lab, answer.group_id.as_str()), [("a".to_owned(), "b".to_owned())]);
}

#[test]
fn an_endpoint_has_an_eni_that_is_nobodys_to_change() {
    let mut spec = WorldSpec::default_topology();
    spec.endpoints.push(EndpointSpec {
        id: "vpce-0123456789abcdef0".into(),
        service: "com.amazonaws.us-west-2.sts".into(),
        subnet: subnet("private-a"),
        private_ip: Some("10.20.8.77".parse().unwrap()),
        security_groups: Vec::new(),
    });
    let mut lab = Lab::new(spec, Profile::instant(), 1);
    let plan = lab.cloud.network();
    let [endpoint] = &plan.endpoints[..] else { panic!("{:?}", plan.endpoints) };
    assert_eq!((endpoint.address.to_string().as_str(), endpoint.groups.len()), ("10.20.8.77", 1));
    let Some(FabricEvent::Network(first)) = lab.events.first() else { panic!() };
    assert_eq!(**first, plan);
    let id = endpoint.eni.clone();
    let shown = lab.show(&id);
    assert_eq!((shown.status.as_str(), shown.requester_managed), ("in-use", Some(true)));
    assert_eq!((shown.mac_address, shown.interface_type.as_str()), (endpoint.mac, "vpc_endpoint"));
    let modify = ModifyNetworkInterfaceAttribute {
        groups: vec![lab.cloud.spec().security_groups[1].id.clone()],
        ..ModifyNetworkInterfaceAttribute::new(id.clone())
    };
    let attach = AttachNetworkInterface {
        network_interface_id: id.clone(),
        instance_id: common::instance("node-1"),
        device_index: DeviceIndex(1),
        network_card_index: None,
        dry_run: None,
    };
    let requests: Vec<AnyRequest> = vec![
        DeleteNetworkInterface { network_interface_id: id.clone(), dry_run: None }.into(),
        AssignPrivateIpAddresses::addresses(id, 1).into(),
        attach.into(),
        modify.into(),
    ];
    for request in requests {
        assert_eq!(code(lab.call(request.clone())), "OperationNotPermitted", "{request:?}");
    }
    let tie = shown.attachment.unwrap();
    let ServiceOr::Service(attachment) = tie.attachment_id else { panic!("{:?}", tie.attachment_id) };
    assert!(attachment.starts_with("ela-attach-0") && attachment.len() == 28, "{attachment}");
    assert_eq!((tie.instance_id, tie.instance_owner_id.as_deref()), (None, Some("amazon-aws")));
    assert_eq!((tie.status, tie.delete_on_termination), (AttachmentStatus::Attached, Some(false)));
    assert_eq!(shown.requester_id.unwrap().len(), 12);
    assert_eq!(detach_by_text(&mut lab, &attachment), "OperationNotPermitted");
    assert_eq!(detach_by_text(&mut lab, "attach-1"), "InvalidNetworkInterfaceAttachmentId.Malformed");
}

/// What EC2 says to the detachment of anything.
fn detach_by_text(lab: &mut Lab, attachment: &str) -> String {
    let mut query = Query::default();
    for (name, value) in [("Action", "DetachNetworkInterface"), ("Version", VERSION), ("AttachmentId", attachment)] {
        query.push(name, value);
    }
    code(AnyRequest::from_query(&query).map_err(ApiError::from).and_then(|request| lab.call(request)))
}

#[test]
fn a_nat_gateway_has_an_eni_that_counts_in_its_subnet() {
    let mut lab = Lab::instant();
    let gateway = lab.cloud.spec().nat_gateways[0].clone();
    let filters = vec![Filter::new("interface-type", ["nat_gateway"])];
    let request = DescribeNetworkInterfaces { filters, ..DescribeNetworkInterfaces::default() };
    let [eni] = &lab.describe(request).unwrap()[..] else { panic!() };
    assert_eq!((eni.private_ip_address, &eni.subnet_id), (Some(gateway.private_ip), &gateway.subnet));
    assert_eq!(eni.description, Some(format!("Interface for NAT Gateway {}", gateway.id)));
    assert_eq!(
        (eni.requester_managed, eni.source_dest_check, eni.status.as_str()),
        (Some(true), Some(false), "in-use")
    );
    assert_eq!((eni.groups.len(), eni.association.as_ref().unwrap().public_ip), (0, gateway.public_ip));
    assert!(eni.association.as_ref().unwrap().allocation_id.is_some(), "an elastic address");
    let attachment = eni.attachment.as_ref().unwrap().attachment_id.to_string();
    assert_eq!(detach_by_text(&mut lab, &attachment), "OperationNotPermitted");
    let delete = DeleteNetworkInterface { network_interface_id: eni.network_interface_id.clone(), dry_run: None };
    assert_eq!(code(lab.call(delete)), "OperationNotPermitted");
    // It is the only one in its subnet beside an instance's.
    let snapshot = lab.cloud.snapshot(lab.now);
    let own = snapshot.subnets.iter().find(|own| own.id == gateway.subnet).unwrap();
    let enis = snapshot.enis.iter().filter(|eni| eni.subnet == gateway.subnet).count();
    assert_eq!(own.usable - own.free, u32::try_from(enis).unwrap());
    assert_eq!(lab.cloud.instance_at(gateway.private_ip), None);
}

#[test]
fn an_address_moves_when_that_is_allowed() {
    let mut lab = Lab::instant();
    let (from, _) = lab.attached(1);
    let to = lab.create(CreateNetworkInterface::new(subnet("private-a"))).unwrap().network_interface_id;
    let got = lab.assign(AssignPrivateIpAddresses::addresses(from.clone(), 2)).unwrap();
    let moving = got.assigned_private_ip_addresses[0].private_ip_address;
    let mut request = AssignPrivateIpAddresses::addresses(to.clone(), 1);
    request.secondary_private_ip_address_count = None;
    request.private_ip_addresses = vec![moving];
    assert_eq!(code(lab.call(request.clone())), "InvalidIPAddress.InUse");
    request.allow_reassignment = Some(true);
    let events = lab.events.len();
    lab.assign(request.clone()).unwrap();
    let [FabricEvent::EniChanged { eni, .. }] = &lab.events[events..] else { panic!("{:?}", &lab.events[events..]) };
    assert!(eni.id == from && !eni.addresses.holds(moving), "only the one that is attached is the fabric's: {eni:?}");
    assert_eq!(lab.show(&to).private_ip_addresses.len(), 2);
    // A primary address never moves, and then nothing does.
    let primary = lab.show(&from).private_ip_address.unwrap();
    let other = got.assigned_private_ip_addresses[1].private_ip_address;
    request.private_ip_addresses = vec![other, primary];
    assert_eq!(code(lab.call(request)), "InvalidIPAddress.InUse");
    assert_eq!((lab.show(&from).private_ip_addresses.len(), lab.show(&to).private_ip_addresses.len()), (2, 2));
}

#[test]
fn what_does_not_fit_around_the_vpc_is_named() {
    fn complaint(spoil: impl FnOnce(&mut WorldSpec)) -> String {
        let mut spec = WorldSpec::default_topology();
        spoil(&mut spec);
        lab_cloud::Cloud::new(spec, Setup::default()).unwrap_err().to_string()
    }
    let peering = |cidr: &str| PeeringSpec {
        id: "pcx-0123456789abcdef0".into(),
        name: "tools".into(),
        cidrs: vec![cidr.parse().unwrap()],
    };
    let route = |target| RouteSpec { destination: "172.20.0.0/16".parse().unwrap(), target };
    let reserve = |w: &mut WorldSpec, cidr: &str, kind| {
        w.subnets[3].reservations.push(ReservationSpec { cidr: cidr.parse().unwrap(), kind });
    };
    let cases: Vec<(String, &[&str])> = vec![
        (
            complaint(|w| w.peerings.push(peering("10.20.0.0/20"))),
            &["peering tools", "VPC CIDR 10.20.0.0/16", "overlap"],
        ),
        (
            complaint(|w| {
                w.peerings.push(peering("172.20.0.0/16"));
                let cidrs = vec!["172.20.9.0/24".parse().unwrap()];
                w.virtual_gateway = Some(VirtualGatewaySpec { id: "vgw-0123456789abcdef0".into(), cidrs });
            }),
            &["vgw-0123456789abcdef0", "peering tools", "overlap"],
        ),
        (
            complaint(|w| w.route_tables[0].routes.push(route(RouteTarget::Peering("pcx-1".into())))),
            &["peering `pcx-1`"],
        ),
        (
            complaint(|w| w.route_tables[0].routes.push(route(RouteTarget::VirtualGateway("vgw-1".into())))),
            &["virtual gateway `vgw-1`"],
        ),
        (
            complaint(|w| {
                let eni = "eni-0123456789abcdef0".parse().unwrap();
                w.route_tables[0].routes.push(route(RouteTarget::NetworkInterface(eni)));
            }),
            &["eni-0123456789abcdef0", "CreateRoute"],
        ),
        (
            complaint(|w| reserve(w, "10.20.12.0/28", ReservationKind::Prefix)),
            &["private-a, reservations", "10.20.8.0/22"],
        ),
        (
            complaint(|w| reserve(w, "10.20.8.16/29", ReservationKind::Prefix)),
            &["private-a, reservations", "/28 or larger"],
        ),
        (
            complaint(|w| {
                reserve(w, "10.20.9.0/24", ReservationKind::Prefix);
                reserve(w, "10.20.9.16/28", ReservationKind::Explicit);
            }),
            &["10.20.9.0/24", "10.20.9.16/28", "overlap"],
        ),
        (complaint(|w| w.security_groups[1].name = "default".into()), &["two security groups", "default"]),
    ];
    for (text, parts) in cases {
        for part in parts {
            assert!(text.contains(part), "`{text}` lacks `{part}`");
        }
    }
}
