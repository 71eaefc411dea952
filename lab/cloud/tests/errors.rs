//! What EC2 refuses: code and words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Lab, instance, small_subnet, subnet, with_instance};
use lab_cloud::{ApiError, Profile, WorldSpec};
use vpc_aws::ec2::shapes::{
    AnyRequest, AssignIpv6Addresses, AssignPrivateIpAddresses, AttachNetworkInterface, CreateNetworkInterface,
    CreateTags, DeleteNetworkInterface, DescribeInstances, DescribeNetworkInterfaces, DescribeSubnets,
    DetachNetworkInterface, Filter, ModifyNetworkInterfaceAttribute, NetworkInterfaceAttachmentChanges, Tag,
    TagSpecification, UnassignIpv6Addresses, UnassignPrivateIpAddresses,
};
use vpc_model::{CardIndex, DeviceIndex, EniId};

/// Asserts a refusal's code, and that its text has a part.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, code: &str, text: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(text), "`{}` lacks `{text}`", error.message);
    assert_eq!(error.status, 400);
}

fn eni(id: &str) -> EniId {
    id.parse().unwrap()
}

fn attach(eni: &EniId, node: &str, device: u8) -> AttachNetworkInterface {
    AttachNetworkInterface {
        network_interface_id: eni.clone(),
        instance_id: instance(node),
        device_index: DeviceIndex(device),
        network_card_index: None,
        dry_run: None,
    }
}

fn new(place: &str) -> CreateNetworkInterface {
    CreateNetworkInterface::new(subnet(place))
}

fn by_id(ids: &[&str]) -> DescribeNetworkInterfaces {
    let network_interface_ids = ids.iter().map(|id| eni(id)).collect();
    DescribeNetworkInterfaces { network_interface_ids, ..DescribeNetworkInterfaces::default() }
}

#[test]
fn the_first_missing_eni_is_named() {
    let mut lab = Lab::instant();
    let there = lab.primary("node-1");
    let result = lab.call(by_id(&[there.as_str(), "eni-0aaaaaaaaaaaaaaaa", "eni-0bbbbbbbbbbbbbbbb"]));
    refused(
        result,
        "InvalidNetworkInterfaceID.NotFound",
        "The networkInterface ID 'eni-0aaaaaaaaaaaaaaaa' does not exist",
    );
}

#[test]
fn objects_that_are_not_there_are_named() {
    let mut lab = Lab::instant();
    let (ghost, own) = (eni("eni-0ghost"), lab.primary("node-1"));
    let mut group = ModifyNetworkInterfaceAttribute::new(own.clone());
    group.groups = vec!["sg-0ghost".parse().unwrap()];
    let mut other_group = new("private-a");
    other_group.groups = vec!["sg-0ghost".parse().unwrap()];
    let no_instance = AttachNetworkInterface { instance_id: "i-0ghost".parse().unwrap(), ..attach(&own, "node-1", 1) };
    let detach =
        DetachNetworkInterface { attachment_id: "eni-attach-0ghost".parse().unwrap(), force: None, dry_run: None };
    let instances = DescribeInstances {
        instance_ids: vec!["i-00000000000000bad".parse().unwrap()],
        ..DescribeInstances::default()
    };
    let subnets =
        DescribeSubnets { subnet_ids: vec!["subnet-00000000000000bad".parse().unwrap()], ..DescribeSubnets::default() };
    let tags = |id: &str| CreateTags { resources: vec![id.into()], tags: vec![Tag::new("a", "b")], dry_run: None };
    let cases: Vec<(AnyRequest, &str)> = vec![
        (AssignPrivateIpAddresses::addresses(ghost.clone(), 1).into(), "InvalidNetworkInterfaceID.NotFound"),
        (
            DeleteNetworkInterface { network_interface_id: ghost.clone(), dry_run: None }.into(),
            "InvalidNetworkInterfaceID.NotFound",
        ),
        (attach(&ghost, "node-1", 1).into(), "InvalidNetworkInterfaceID.NotFound"),
        (no_instance.into(), "InvalidInstanceID.NotFound"),
        (detach.into(), "InvalidAttachmentID.NotFound"),
        (CreateNetworkInterface::new("subnet-0ghost".parse().unwrap()).into(), "InvalidSubnetID.NotFound"),
        (group.into(), "InvalidGroup.NotFound"),
        (other_group.into(), "InvalidGroup.NotFound"),
        (instances.into(), "InvalidInstanceID.NotFound"),
        (subnets.into(), "InvalidSubnetID.NotFound"),
        (tags("eni-0ghost").into(), "InvalidNetworkInterfaceID.NotFound"),
        (tags("rubbish").into(), "InvalidID"),
    ];
    for (request, code) in cases {
        let name = request.name();
        assert_eq!(lab.call(request).unwrap_err().code, code, "{name}");
    }
}

#[test]
fn an_instance_takes_as_many_enis_as_its_type_allows() {
    let mut lab = Lab::instant();
    lab.attached(1);
    lab.attached(2);
    let third = lab.create(new("private-a")).unwrap().network_interface_id;
    refused(
        lab.attach(&third, "node-1", 3),
        "AttachmentLimitExceeded",
        "Interface count 4 exceeds the limit for m5.large",
    );
}

#[test]
fn an_eni_takes_as_many_addresses_and_prefixes_as_its_type_allows() {
    let mut lab = Lab::instant();
    let eni = lab.primary("node-1");
    lab.assign(AssignPrivateIpAddresses::addresses(eni.clone(), 5)).unwrap();
    lab.assign(AssignPrivateIpAddresses::prefixes(eni.clone(), 4)).unwrap();
    for request in [AssignPrivateIpAddresses::addresses(eni.clone(), 1), AssignPrivateIpAddresses::prefixes(eni, 1)] {
        refused(lab.assign(request), "PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.");
    }
}

#[test]
fn an_eni_with_too_much_for_the_type_is_not_attached() {
    let mut lab = Lab::instant();
    let mut request = new("private-a");
    request.secondary_private_ip_address_count = Some(10);
    let eni = lab.create(request).unwrap().network_interface_id;
    refused(lab.attach(&eni, "node-1", 1), "PrivateIpAddressLimitExceeded", "Number of private addresses");
    let mut request = new("private-a");
    request.secondary_private_ip_address_count = Some(64);
    refused(lab.create(request), "PrivateIpAddressLimitExceeded", "Number of private addresses");
}

#[test]
fn a_subnet_can_run_out_in_three_ways() {
    // 64 addresses: 5 reserved, one the node's. Two blocks can be prefixes, 16..31 and 32..47, if the node is not in one.
    let mut lab = Lab::new(small_subnet("10.20.8.0/26"), Profile::instant(), 1);
    let own = lab.primary("node-1");
    assert_eq!(lab.free("private-a"), 58);
    let mut request = new("private-a");
    request.secondary_private_ip_address_count = Some(58);
    refused(lab.create(request), "InsufficientFreeAddressesInSubnet", "does not have enough free addresses");
    let mut request = new("private-a");
    request.ipv4_prefix_count = Some(3);
    refused(lab.create(request), "InsufficientCidrBlocks", "does not have enough free cidr blocks");
    let result = lab.assign(AssignPrivateIpAddresses::prefixes(own.clone(), 4));
    refused(result, "InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes");
    assert_eq!(lab.free("private-a"), 58, "nothing was taken by what was refused");
    assert_eq!(lab.show(&own).ipv4_prefixes, []);
}

#[test]
fn an_attached_eni_is_neither_attached_again_nor_deleted() {
    let mut lab = Lab::instant();
    let (eni, _) = lab.attached(1);
    refused(lab.attach(&eni, "node-1", 2), "InvalidNetworkInterface.InUse", eni.as_str());
    let delete = DeleteNetworkInterface { network_interface_id: eni.clone(), dry_run: None };
    let text = format!("Network interface '{eni}' is currently in use.");
    refused(lab.call(delete), "InvalidParameterValue", &text);
}

#[test]
fn the_place_of_an_eni_must_be_free_and_exist() {
    let mut lab = Lab::instant();
    lab.attached(1);
    let second = lab.create(new("private-a")).unwrap().network_interface_id;
    refused(
        lab.attach(&second, "node-1", 1),
        "InvalidParameterValue",
        "already has an interface attached at device index '1'",
    );
    refused(lab.attach(&second, "node-2", 1), "InvalidParameterValue", "same availability zone");
    let card = AttachNetworkInterface { network_card_index: Some(CardIndex(1)), ..attach(&second, "node-1", 2) };
    refused(lab.call(card), "InvalidParameterValue", "Network card index 1");
    lab.cloud.terminate(lab.now, &instance("node-1")).unwrap();
    refused(lab.attach(&second, "node-1", 2), "IncorrectState", "not 'running' or 'stopped'");
}

#[test]
fn the_primary_eni_stays() {
    let mut lab = Lab::instant();
    let primary = lab.primary("node-1");
    let attachment_id = lab.show(&primary).attachment.unwrap().attachment_id.own().unwrap().clone();
    let detach = DetachNetworkInterface { attachment_id, force: Some(true), dry_run: None };
    let text = "The network interface at device index 0 and networkCard index 0 cannot be detached.";
    refused(lab.call(detach), "OperationNotPermitted", text);
}

#[test]
fn what_is_detaching_is_not_detached_twice() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 1);
    let (eni, attachment_id) = lab.attached(1);
    lab.settle();
    let detach = DetachNetworkInterface { attachment_id, force: None, dry_run: None };
    lab.call(detach.clone()).unwrap();
    refused(lab.call(detach), "IncorrectState", "already being detached");
    let delete = DeleteNetworkInterface { network_interface_id: eni, dry_run: None };
    refused(lab.call(delete.clone()), "InvalidParameterValue", "is currently in use.");
    lab.settle();
    lab.call(delete).unwrap();
}

#[test]
fn addresses_are_unassigned_only_where_they_are() {
    let mut lab = Lab::instant();
    let (own, other) = (lab.primary("node-1"), lab.primary("node-2"));
    let primary = lab.show(&own).private_ip_address.unwrap();
    let secondary =
        lab.assign(AssignPrivateIpAddresses::addresses(own.clone(), 1)).unwrap().assigned_private_ip_addresses[0];
    let of = |eni: &EniId, addresses: Vec<std::net::Ipv4Addr>| UnassignPrivateIpAddresses {
        network_interface_id: eni.clone(),
        private_ip_addresses: addresses,
        ipv4_prefixes: Vec::new(),
    };
    refused(lab.call(of(&own, vec![primary])), "InvalidParameterValue", "primary address");
    refused(lab.call(of(&other, vec![secondary.private_ip_address])), "InvalidParameterValue", "is not assigned");
    let half = vec![secondary.private_ip_address, "10.20.8.99".parse().unwrap()];
    refused(lab.call(of(&own, half)), "InvalidParameterValue", "[10.20.8.99] is not assigned");
    assert_eq!(lab.show(&own).private_ip_addresses.len(), 2, "all or nothing");
    refused(lab.call(of(&own, Vec::new())), "MissingParameter", "PrivateIpAddress or Ipv4Prefix");
}

#[test]
fn there_is_no_ipv6_in_this_cloud() {
    let mut lab = Lab::instant();
    let (own, ghost) = (lab.primary("node-1"), eni("eni-0ghost"));
    let before = lab.show(&own);
    let none = format!("The subnet {} has no IPv6 CIDR block", subnet("private-a"));
    let mut certain = AssignIpv6Addresses::addresses(own.clone(), 1);
    (certain.ipv6_address_count, certain.ipv6_addresses) = (None, vec!["fd00::1".parse().unwrap()]);
    for request in
        [AssignIpv6Addresses::addresses(own.clone(), 1), AssignIpv6Addresses::prefixes(own.clone(), 1), certain.clone()]
    {
        refused(lab.call(request), "InvalidParameterValue", &none);
    }
    refused(
        lab.call(AssignIpv6Addresses::prefixes(ghost.clone(), 1)),
        "InvalidNetworkInterfaceID.NotFound",
        "'eni-0ghost' does not exist",
    );
    let mut two_kinds = certain.clone();
    two_kinds.ipv6_prefix_count = Some(1);
    refused(lab.call(two_kinds), "InvalidParameterCombination", "Ipv6Addresses and Ipv6PrefixCount");
    certain.ipv6_addresses.clear();
    refused(lab.call(certain), "MissingParameter", "Ipv6AddressCount or Ipv6Addresses or Ipv6PrefixCount");

    let unassign = |eni: &EniId, addresses: &[&str], prefixes: &[&str]| UnassignIpv6Addresses {
        network_interface_id: eni.clone(),
        ipv6_addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ipv6_prefixes: prefixes.iter().map(|text| text.parse().unwrap()).collect(),
    };
    let absent = "[fd00::1] is not assigned";
    refused(lab.call(unassign(&own, &["fd00::1"], &[])), "InvalidParameterValue", absent);
    refused(lab.call(unassign(&own, &[], &["fd00::/80"])), "InvalidParameterValue", "[fd00::/80] is not assigned");
    refused(lab.call(unassign(&ghost, &["fd00::1"], &[])), "InvalidNetworkInterfaceID.NotFound", "eni-0ghost");
    refused(lab.call(unassign(&own, &[], &[])), "MissingParameter", "Ipv6Addresses or Ipv6Prefix");
    refused(lab.call(unassign(&own, &["fd00::1"], &["fd00::/80"])), "InvalidParameterCombination", "together");
    assert_eq!(lab.show(&own), before);
}

#[test]
fn certain_addresses_must_be_free_and_in_the_subnet() {
    let mut lab = Lab::instant();
    let own = lab.primary("node-1");
    let taken = lab.show(&own).private_ip_address.unwrap();
    let these = |addresses: &[std::net::Ipv4Addr]| {
        let mut request = AssignPrivateIpAddresses::addresses(own.clone(), 0);
        request.secondary_private_ip_address_count = None;
        request.private_ip_addresses = addresses.to_vec();
        request
    };
    refused(lab.assign(these(&[taken])), "InvalidIPAddress.InUse", "is in use");
    for outside in ["10.20.12.9", "10.20.8.3", "10.20.11.255"] {
        refused(lab.assign(these(&[outside.parse().unwrap()])), "InvalidParameterValue", "address range");
    }
    lab.assign(these(&["10.20.8.77".parse().unwrap()])).unwrap();
}

#[test]
fn one_kind_of_thing_at_a_time() {
    let mut lab = Lab::instant();
    let own = lab.primary("node-1");
    let mut both = AssignPrivateIpAddresses::addresses(own.clone(), 1);
    both.ipv4_prefix_count = Some(1);
    refused(lab.assign(both), "InvalidParameterCombination", "SecondaryPrivateIpAddressCount and Ipv4PrefixCount");
    let mut create = new("private-a");
    (create.secondary_private_ip_address_count, create.ipv4_prefix_count) = (Some(1), Some(1));
    refused(lab.create(create), "InvalidParameterCombination", "may not be given together");
    refused(
        lab.call(ModifyNetworkInterfaceAttribute::new(own.clone())),
        "InvalidParameterCombination",
        "No attributes",
    );
    let mut modify = ModifyNetworkInterfaceAttribute::new(own.clone());
    modify.attachment =
        Some(NetworkInterfaceAttachmentChanges { attachment_id: None, delete_on_termination: Some(true) });
    refused(lab.call(modify.clone()), "MissingParameter", "Attachment.AttachmentId");
    modify.attachment = Some(NetworkInterfaceAttachmentChanges {
        attachment_id: Some("eni-attach-0other".parse().unwrap()),
        delete_on_termination: Some(true),
    });
    refused(lab.call(modify), "InvalidAttachmentID.NotFound", "eni-attach-0other");
    refused(lab.assign(AssignPrivateIpAddresses::addresses(own, 0)), "InvalidParameterValue", "at least 1");
}

#[test]
fn a_client_token_stands_for_one_request() {
    let mut lab = Lab::instant();
    let mut request = new("private-a");
    request.client_token = Some("token".into());
    let first = lab.create(request.clone()).unwrap();
    assert_eq!(lab.create(request.clone()).unwrap().network_interface_id, first.network_interface_id);
    request.description = Some("another".into());
    refused(lab.create(request), "IdempotentParameterMismatch", "inconsistent");
}

#[test]
fn prefixes_need_nitro() {
    let mut lab = Lab::new(with_instance("old", "m4.large", "private-a"), Profile::instant(), 1);
    let eni = lab.primary("old");
    refused(lab.assign(AssignPrivateIpAddresses::prefixes(eni, 1)), "UnsupportedOperation", "m4.large");
}

#[test]
fn tags_have_limits() {
    let mut lab = Lab::instant();
    let eni = lab.primary("node-1");
    let mut tag = |tags: Vec<Tag>| lab.call(CreateTags { resources: vec![eni.to_string()], tags, dry_run: None });
    refused(tag(vec![Tag::new("aws:x", "1")]), "InvalidParameterValue", "reserved");
    refused(tag(vec![Tag::new("k".repeat(129), "1")]), "InvalidParameterValue", "128");
    refused(tag(vec![Tag::new("k", "v".repeat(257))]), "InvalidParameterValue", "256");
    refused(tag(Vec::new()), "MissingParameter", "Tag");
    tag((0..50).map(|n| Tag::new(format!("k{n}"), "v")).collect()).unwrap();
    tag(vec![Tag::new("k1", "other")]).unwrap();
    refused(tag(vec![Tag::new("one more", "v")]), "TagLimitExceeded", "50");
    let mut create = new("private-a");
    create.tag_specifications = vec![TagSpecification {
        resource_type: vpc_aws::ec2::shapes::ResourceType::Instance,
        tags: vec![Tag::new("a", "b")],
    }];
    refused(lab.create(create), "InvalidParameterValue", "taggable resource type");
}

#[test]
fn pages_and_filters_are_checked() {
    let mut lab = Lab::instant();
    let own = lab.primary("node-1");
    let plain = DescribeNetworkInterfaces::default;
    let mut both = by_id(&[own.as_str()]);
    both.max_results = Some(5);
    refused(lab.describe(both), "InvalidParameterCombination", "networkInterfaceIds");
    for (size, said) in [(4, "greater than 5"), (1001, "between 5 and 1000")] {
        let request = DescribeNetworkInterfaces { max_results: Some(size), ..plain() };
        refused(lab.describe(request), "InvalidParameterValue", said);
    }
    let request = DescribeNetworkInterfaces { next_token: Some("rubbish".into()), ..plain() };
    refused(lab.describe(request), "InvalidNextToken", "not valid");
    let filter = |name: &str, values: &[&str]| DescribeNetworkInterfaces {
        filters: vec![Filter::new(name, values.iter().copied())],
        ..plain()
    };
    refused(lab.describe(filter("no-such-thing", &["x"])), "InvalidParameterValue", "'no-such-thing' is invalid");
    refused(lab.describe(filter("status", &[])), "InvalidParameterValue", "no values");
    refused(lab.describe(filter("tag:", &["x"])), "InvalidParameterValue", "'tag:' is invalid");
    refused(lab.describe(filter("operator.managed", &["x"])), "UnsupportedOperation", "'operator.managed'");
    refused(lab.describe(filter("status", &["x"; 201])), "FilterLimitExceeded", "200");
    refused(lab.describe(filter("status", &["x".repeat(256).as_str()])), "InvalidParameterValue", "255 characters");
    let filters = vec![Filter::new("status", ["x"]); 51];
    refused(lab.describe(DescribeNetworkInterfaces { filters, ..plain() }), "FilterLimitExceeded", "50");
}

#[test]
fn a_dry_run_says_what_would_be_and_does_nothing() {
    let mut lab = Lab::instant();
    let before = lab.cloud.snapshot(lab.now);
    let mut request = new("private-a");
    request.dry_run = Some(true);
    let error = lab.create(request.clone()).unwrap_err();
    assert_eq!((error.code.as_ref(), error.status), ("DryRunOperation", 412));
    request.secondary_private_ip_address_count = Some(2000);
    refused(lab.create(request), "PrivateIpAddressLimitExceeded", "");
    assert_eq!(lab.cloud.snapshot(lab.now), before);
}

#[test]
fn ipv6_is_refused_by_name() {
    let mut lab = Lab::instant();
    let mut request = new("private-a");
    request.ipv6_address_count = Some(1);
    refused(lab.create(request), "InvalidParameterValue", "no IPv6 CIDR block");
}
