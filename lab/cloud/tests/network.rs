//! What lies around the ENIs, changed at run time: what is answered, refused, and told to the fabric.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Lab, small_subnet, subnet};
use lab_cloud::{ApiError, FabricEvent, NetworkPlan, Profile, RouteTarget, RulePeer, Traffic, WorldSpec, id_text};
use vpc_aws::ec2::shapes::{
    AnyRequest, AnyResponse, AssociateRouteTable, AssociateVpcCidrBlock, AttributeBooleanValue,
    AuthorizeSecurityGroupEgress, AuthorizeSecurityGroupIngress, CreateNetworkInterface, CreateRoute, CreateRouteTable,
    CreateSecurityGroup, CreateSubnet, CreateSubnetCidrReservation, DeleteNetworkInterface, DeleteRoute,
    DeleteRouteTable, DeleteSecurityGroup, DeleteSubnet, DeleteSubnetCidrReservation, DisassociateRouteTable,
    DisassociateVpcCidrBlock, IpPermission, IpRange, ModifyNetworkInterfaceAttribute, ModifySubnetAttribute,
    ReplaceRoute, ReplaceRouteTableAssociation, RevokeSecurityGroupIngress, RouteDestination, RouteVia, RuleParameters,
    SubnetCidrReservationType, UserIdGroupPair,
};
use vpc_model::{SecurityGroupId, SubnetId};

fn code(result: Result<AnyResponse, ApiError>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.code.into_owned(),
    }
}

fn vpc(lab: &Lab) -> vpc_model::VpcId {
    lab.cloud.spec().vpc.id.clone()
}

/// Calls one after another; each must be answered with its code.
fn table(lab: &mut Lab, cases: Vec<(AnyRequest, &str)>) {
    for (request, expected) in cases {
        let text = format!("{request:?}");
        assert_eq!(code(lab.call(request)), expected, "{text}");
    }
}

/// The plan, which must be what the fabric heard last.
fn plan(lab: &mut Lab) -> NetworkPlan {
    let told = lab.events.iter().rev().find_map(|event| match event {
        FabricEvent::Network(plan) => Some((**plan).clone()),
        _ => None,
    });
    let plan = lab.cloud.network();
    assert_eq!(Some(&plan), told.as_ref(), "the fabric knows the plan");
    plan
}

// -- subnets -----------------------------------------------------------------------------------------------------------

fn new_subnet(lab: &Lab, cidr: &str) -> CreateSubnet {
    CreateSubnet {
        vpc_id: vpc(lab),
        cidr_block: Some(cidr.parse().unwrap()),
        ipv6_cidr_block: None,
        ipv6_native: None,
        availability_zone: Some("us-west-2b".into()),
        availability_zone_id: None,
        tag_specifications: Vec::new(),
        dry_run: None,
    }
}

#[test]
fn subnets_are_created_where_there_is_room() {
    let mut lab = Lab::instant();
    let there = new_subnet(&lab, "10.20.64.0/24");
    let zone = |name: Option<&str>, id: Option<&str>| CreateSubnet {
        availability_zone: name.map(str::to_owned),
        availability_zone_id: id.map(str::to_owned),
        ..new_subnet(&lab, "10.20.65.0/24")
    };
    let stranger = CreateSubnet { vpc_id: "vpc-0123456789abcdef0".parse().unwrap(), ..there.clone() };
    let cases = vec![
        (stranger.into(), "InvalidVpcID.NotFound"),
        (CreateSubnet { cidr_block: None, ..there.clone() }.into(), "MissingParameter"),
        (CreateSubnet { ipv6_native: Some(true), ..there.clone() }.into(), "UnsupportedOperation"),
        (new_subnet(&lab, "10.20.64.0/29").into(), "InvalidSubnet.Range"),
        (new_subnet(&lab, "10.20.0.0/15").into(), "InvalidSubnet.Range"),
        (new_subnet(&lab, "10.21.0.0/24").into(), "InvalidSubnet.Range"),
        (new_subnet(&lab, "10.20.8.0/24").into(), "InvalidSubnet.Conflict"),
        (new_subnet(&lab, "10.20.0.0/16").into(), "InvalidSubnet.Conflict"),
        (zone(Some("us-west-2z"), None).into(), "InvalidParameterValue"),
        (zone(None, Some("usw2-az9")).into(), "InvalidParameterValue"),
        (zone(Some("us-west-2a"), Some("usw2-az1")).into(), "InvalidParameterCombination"),
        (there.clone().into(), "ok"),
        (there.into(), "InvalidSubnet.Conflict"),
        (zone(None, Some("usw2-az3")).into(), "ok"),
    ];
    table(&mut lab, cases);
    let nets: Vec<_> = plan(&mut lab).subnets.values().map(|own| own.cidr.to_string()).collect();
    assert!(nets.contains(&"10.20.64.0/24".to_owned()) && nets.contains(&"10.20.65.0/24".to_owned()), "{nets:?}");
}

#[test]
fn a_created_subnet_uses_the_main_table_gives_addresses_and_ends_when_it_is_empty() {
    let mut lab = Lab::instant();
    // Host bits are cleared, as EC2 does.
    let request = new_subnet(&lab, "10.20.64.9/24");
    let AnyResponse::CreateSubnet(answer) = lab.call(request).unwrap() else { panic!() };
    let shown = answer.subnet;
    assert_eq!((shown.cidr_block.unwrap().to_string().as_str(), shown.tags.len()), ("10.20.64.0/24", 0));
    let id = shown.subnet_id;
    let main = id_text("rtb-", "private");
    assert_eq!(plan(&mut lab).subnets[&id].route_table, main);
    let eni = lab.create(CreateNetworkInterface::new(id.clone())).unwrap();
    let delete = DeleteSubnet { subnet_id: id.clone(), dry_run: None };
    table(&mut lab, vec![(delete.clone().into(), "DependencyViolation")]);
    let eni = DeleteNetworkInterface { network_interface_id: eni.network_interface_id, dry_run: None };
    table(
        &mut lab,
        vec![(eni.into(), "ok"), (delete.clone().into(), "ok"), (delete.into(), "InvalidSubnetID.NotFound")],
    );
    assert!(!plan(&mut lab).subnets.contains_key(&id));
    // One with a gateway in it, too, has a dependency.
    let public = DeleteSubnet { subnet_id: subnet("public-a"), dry_run: None };
    table(&mut lab, vec![(public.into(), "DependencyViolation")]);
}

#[test]
fn a_subnet_maps_public_addresses_when_it_is_told_to() {
    let mut lab = Lab::instant();
    let modify = |maps: Option<bool>, ipv6: Option<bool>| ModifySubnetAttribute {
        subnet_id: subnet("private-a"),
        map_public_ip_on_launch: maps.map(|value| AttributeBooleanValue { value: Some(value) }),
        assign_ipv6_address_on_creation: ipv6.map(|value| AttributeBooleanValue { value: Some(value) }),
    };
    let nowhere = ModifySubnetAttribute { subnet_id: subnet("nowhere"), ..modify(Some(true), None) };
    let cases = vec![
        (modify(None, None).into(), "InvalidParameterCombination"),
        (modify(Some(true), Some(false)).into(), "InvalidParameterCombination"),
        (modify(None, Some(true)).into(), "InvalidParameterValue"),
        (nowhere.into(), "InvalidSubnetID.NotFound"),
        (modify(Some(true), None).into(), "ok"),
    ];
    table(&mut lab, cases);
    let request = vpc_aws::ec2::shapes::DescribeSubnets { subnet_ids: vec![subnet("private-a")], ..Default::default() };
    let AnyResponse::DescribeSubnets(answer) = lab.call(request).unwrap() else { panic!() };
    assert_eq!(answer.subnets[0].map_public_ip_on_launch, Some(true));
}

// -- reservations ------------------------------------------------------------------------------------------------------

fn reservation(place: &str, cidr: &str, kind: SubnetCidrReservationType) -> CreateSubnetCidrReservation {
    CreateSubnetCidrReservation {
        subnet_id: subnet(place),
        cidr: cidr.parse().unwrap(),
        reservation_type: kind,
        description: None,
        tag_specifications: Vec::new(),
        dry_run: None,
    }
}

#[test]
fn reservations_lie_in_their_subnet_and_beside_each_other() {
    use SubnetCidrReservationType::{Explicit, Prefix};
    let mut lab = Lab::instant();
    let cases = vec![
        (reservation("nowhere", "10.20.8.0/24", Prefix).into(), "InvalidSubnetID.NotFound"),
        (reservation("private-a", "10.20.12.0/24", Prefix).into(), "InvalidParameterValue"),
        (reservation("private-a", "10.20.8.0/21", Prefix).into(), "InvalidParameterValue"),
        (reservation("private-a", "10.20.8.1/24", Prefix).into(), "InvalidParameterValue"),
        (reservation("private-a", "10.20.8.16/29", Prefix).into(), "InvalidParameterValue"),
        (reservation("private-a", "2001:db8::/64", Prefix).into(), "InvalidParameterValue"),
        (reservation("private-a", "10.20.9.0/24", Prefix).into(), "ok"),
        (reservation("private-a", "10.20.9.128/25", Explicit).into(), "InvalidParameterValue"),
        (reservation("private-a", "10.20.8.0/23", Explicit).into(), "InvalidParameterValue"),
        (reservation("private-a", "10.20.8.16/32", Explicit).into(), "ok"),
    ];
    table(&mut lab, cases);
    let delete = |id: &str| DeleteSubnetCidrReservation { subnet_cidr_reservation_id: id.to_owned(), dry_run: None };
    table(&mut lab, vec![(delete("scr-0123456789abcdef0").into(), "InvalidSubnetCidrReservationID.NotFound")]);
}

#[test]
fn prefixes_come_out_of_their_reservation_first_and_single_addresses_never() {
    let mut lab = Lab::new(small_subnet("10.20.8.0/25"), Profile::instant(), 3);
    let before = lab.free("private-a");
    let request = reservation("private-a", "10.20.8.64/27", SubnetCidrReservationType::Prefix);
    // What is in use there stays in use: the subnet is small enough that the node may be.
    let AnyResponse::CreateSubnetCidrReservation(made) = lab.call(request).unwrap() else { panic!() };
    let primary = lab.primary("node-1");
    let node = lab.show(&primary).private_ip_address.unwrap();
    let kept: ipnet::Ipv4Net = "10.20.8.64/27".parse().unwrap();
    assert_eq!(lab.free("private-a"), before - 32 + u32::from(kept.contains(&node)));
    let eni = lab.create(CreateNetworkInterface::new(subnet("private-a"))).unwrap().network_interface_id;
    let blocks = if kept.contains(&node) { 1 } else { 2 };
    let free = lab.free("private-a");
    let answer = lab.assign(vpc_aws::ec2::shapes::AssignPrivateIpAddresses::prefixes(eni.clone(), blocks)).unwrap();
    for entry in &answer.assigned_ipv4_prefixes {
        assert!(kept.contains(&entry.ipv4_prefix.first()), "{}", entry.ipv4_prefix);
    }
    assert_eq!(lab.free("private-a"), free, "a prefix of a reservation takes nothing from the others");
    let singles = lab.assign(vpc_aws::ec2::shapes::AssignPrivateIpAddresses::addresses(eni, 40)).unwrap();
    for single in singles.assigned_private_ip_addresses {
        assert!(!kept.contains(&single.private_ip_address), "{}", single.private_ip_address);
    }
    let id = made.reservation.subnet_cidr_reservation_id;
    let delete = DeleteSubnetCidrReservation { subnet_cidr_reservation_id: id, dry_run: None };
    table(&mut lab, vec![(delete.clone().into(), "ok"), (delete.into(), "InvalidSubnetCidrReservationID.NotFound")]);
}

#[test]
fn a_subnet_that_is_reserved_whole_shows_no_free_address_and_still_gives_prefixes() {
    let mut lab = Lab::instant();
    let request = reservation("private-b", "10.20.12.0/22", SubnetCidrReservationType::Prefix);
    lab.call(request).unwrap();
    assert_eq!(lab.free("private-b"), 0);
    let single = CreateNetworkInterface::new(subnet("private-b"));
    assert_eq!(lab.create(single).unwrap_err().code, "InsufficientFreeAddressesInSubnet");
    let primary = lab.primary("node-2");
    let prefixes = |n| vpc_aws::ec2::shapes::AssignPrivateIpAddresses::prefixes(primary.clone(), n);
    assert_eq!(lab.assign(prefixes(2)).unwrap().assigned_ipv4_prefixes.len(), 2);
}

// -- CIDRs of the VPC --------------------------------------------------------------------------------------------------

fn associate(lab: &Lab, cidr: &str) -> AssociateVpcCidrBlock {
    AssociateVpcCidrBlock {
        vpc_id: vpc(lab),
        cidr_block: Some(cidr.parse().unwrap()),
        amazon_provided_ipv6_cidr_block: None,
    }
}

#[test]
fn a_vpc_takes_five_cidrs_that_fit_together() {
    let mut lab = Lab::instant();
    let cases = [
        ("10.0.0.0/15", "InvalidVpc.Range"),
        ("10.30.0.0/29", "InvalidVpc.Range"),
        ("10.20.128.0/17", "InvalidVpc.Range"),
        ("172.16.0.0/16", "InvalidVpc.Range"),
        ("192.168.0.0/16", "InvalidVpc.Range"),
        ("198.19.0.0/16", "InvalidVpc.Range"),
        ("0.0.0.0/16", "InvalidVpc.Range"),
        ("127.0.0.0/16", "InvalidVpc.Range"),
        ("169.254.0.0/16", "InvalidVpc.Range"),
        ("224.0.0.0/16", "InvalidVpc.Range"),
        ("240.0.0.0/16", "InvalidVpc.Range"),
        ("198.18.0.0/16", "ok"),
        ("10.1.0.0/16", "ok"),
        ("10.0.0.0/16", "InvalidVpc.Range"),
        ("100.65.0.0/16", "ok"),
        ("10.2.0.0/16", "CidrLimitExceeded"),
    ];
    for (cidr, expected) in cases {
        let request = associate(&lab, cidr);
        assert_eq!(code(lab.call(request)), expected, "{cidr}");
    }
    assert_eq!(plan(&mut lab).cidrs.len(), 5);
}

#[test]
fn a_cidr_comes_and_goes_in_its_own_time() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 1);
    let request = associate(&lab, "10.30.0.0/16");
    let AnyResponse::AssociateVpcCidrBlock(answer) = lab.call(request).unwrap() else { panic!() };
    let block = answer.cidr_block_association.unwrap();
    assert_eq!(block.cidr_block_state.unwrap().state.as_str(), "associating");
    assert_eq!(plan(&mut lab).cidrs.len(), 2);
    let early = new_subnet(&lab, "10.30.0.0/24");
    assert_eq!(code(lab.call(early.clone())), "InvalidSubnet.Range", "not before it is associated");
    let primary = lab.primary("node-1");
    let mac = lab.show(&primary).mac_address;
    let cidrs = format!("meta-data/network/interfaces/macs/{mac}/vpc-ipv4-cidr-blocks");
    while plan(&mut lab).cidrs.len() == 2 {
        lab.pass(1);
    }
    assert_eq!(plan(&mut lab).cidrs.last().unwrap().to_string(), "10.30.0.0/16");
    assert_eq!(lab.imds("node-1", &cidrs).unwrap().lines().count(), 2, "IMDS is late");
    lab.settle();
    assert_eq!(lab.imds("node-1", &cidrs).unwrap().lines().last(), Some("10.30.0.0/16"));
    let AnyResponse::CreateSubnet(made) = lab.call(early).unwrap() else { panic!() };

    let id = block.association_id.unwrap();
    let remove = |id: &str| DisassociateVpcCidrBlock { association_id: id.to_owned() };
    let first = id_text("vpc-cidr-assoc-", "10.20.0.0/16");
    let delete = DeleteSubnet { subnet_id: made.subnet.subnet_id, dry_run: None };
    let cases = vec![
        (remove(&first).into(), "OperationNotPermitted"),
        (remove("vpc-cidr-assoc-0123456789abcdef0").into(), "InvalidVpcCidrBlockAssociationID.NotFound"),
        (remove(&id).into(), "InvalidCidrBlock.InUse"),
        (delete.into(), "ok"),
        (remove(&id).into(), "ok"),
    ];
    table(&mut lab, cases);
    assert_eq!(plan(&mut lab).cidrs.len(), 3, "it is still going");
    lab.settle();
    assert_eq!(plan(&mut lab).cidrs.len(), 2);
    assert_eq!(lab.imds("node-1", &cidrs).unwrap().lines().count(), 2);
}

#[test]
fn a_cidr_that_goes_before_it_was_there_was_never_there() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 1);
    let request = associate(&lab, "10.30.0.0/16");
    let AnyResponse::AssociateVpcCidrBlock(answer) = lab.call(request).unwrap() else { panic!() };
    let id = answer.cidr_block_association.unwrap().association_id.unwrap();
    let events = lab.events.len();
    let AnyResponse::DisassociateVpcCidrBlock(answer) =
        lab.call(DisassociateVpcCidrBlock { association_id: id }).unwrap()
    else {
        panic!()
    };
    assert_eq!(answer.cidr_block_association.unwrap().cidr_block_state.unwrap().state.as_str(), "disassociating");
    lab.settle();
    assert_eq!((lab.events.len(), plan(&mut lab).cidrs.len()), (events, 2));
}

// -- route tables ------------------------------------------------------------------------------------------------------

fn to(cidr: &str) -> RouteDestination {
    RouteDestination { cidr_block: Some(cidr.parse().unwrap()), ipv6_cidr_block: None }
}

fn route(table: &str, cidr: &str, via: RouteVia) -> CreateRoute {
    CreateRoute { route_table_id: table.to_owned(), destination: to(cidr), via, dry_run: None }
}

fn by_gateway(id: &str) -> RouteVia {
    RouteVia { gateway_id: Some(id.to_owned()), ..RouteVia::default() }
}

fn new_table(lab: &mut Lab) -> String {
    let request =
        CreateRouteTable { vpc_id: vpc(lab), tag_specifications: Vec::new(), client_token: None, dry_run: None };
    let AnyResponse::CreateRouteTable(answer) = lab.call(request).unwrap() else { panic!() };
    answer.route_table.route_table_id
}

#[test]
fn routes_lead_to_what_is_there() {
    let mut lab = Lab::instant();
    let id = new_table(&mut lab);
    let igw = id_text("igw-", "igw");
    let nat = |nat: &str| RouteVia { nat_gateway_id: Some(nat.to_owned()), ..RouteVia::default() };
    let (known, primary) = (id_text("nat-", "nat"), lab.primary("node-1"));
    let by_eni = RouteVia { network_interface_id: Some(primary.clone()), ..RouteVia::default() };
    let by_node = RouteVia { instance_id: Some(common::instance("node-1")), ..RouteVia::default() };
    let by_peer = RouteVia { vpc_peering_connection_id: Some("pcx-0123456789abcdef0".into()), ..RouteVia::default() };
    let both = RouteVia { nat_gateway_id: Some(known.clone()), ..by_gateway(&igw) };
    let replace = |cidr: &str, via: RouteVia| ReplaceRoute {
        route_table_id: id.clone(),
        destination: to(cidr),
        via,
        local_target: None,
        dry_run: None,
    };
    let delete = |cidr: &str| DeleteRoute { route_table_id: id.clone(), destination: to(cidr), dry_run: None };
    let cases = vec![
        (route("rtb-0123456789abcdef0", "0.0.0.0/0", by_gateway(&igw)).into(), "InvalidRouteTableID.NotFound"),
        (route(&id, "0.0.0.0/0", RouteVia::default()).into(), "InvalidParameterCombination"),
        (route(&id, "0.0.0.0/0", both).into(), "InvalidParameterCombination"),
        (route(&id, "0.0.0.0/0", by_gateway("igw-0123456789abcdef0")).into(), "InvalidInternetGatewayID.NotFound"),
        (route(&id, "0.0.0.0/0", by_gateway("vgw-0123456789abcdef0")).into(), "InvalidVpnGatewayID.NotFound"),
        (route(&id, "0.0.0.0/0", nat("nat-0123456789abcdef0")).into(), "InvalidNatGatewayID.NotFound"),
        (route(&id, "172.20.0.0/16", by_peer).into(), "InvalidVpcPeeringConnectionID.NotFound"),
        (route(&id, "10.20.0.0/16", by_gateway(&igw)).into(), "RouteAlreadyExists"),
        (route(&id, "0.0.0.0/0", by_gateway(&igw)).into(), "ok"),
        (route(&id, "0.0.0.0/0", nat(&known)).into(), "RouteAlreadyExists"),
        (replace("0.0.0.0/0", nat(&known)).into(), "ok"),
        (replace("9.0.0.0/8", nat(&known)).into(), "InvalidParameterValue"),
        (route(&id, "172.20.0.5/16", by_eni).into(), "ok"),
        (route(&id, "172.21.0.0/16", by_node).into(), "ok"),
        (delete("172.21.0.0/16").into(), "ok"),
        (delete("172.21.0.0/16").into(), "InvalidRoute.NotFound"),
        (delete("10.20.0.0/16").into(), "InvalidParameterValue"),
    ];
    table(&mut lab, cases);
    let routes: Vec<_> =
        plan(&mut lab).route_tables[&id].iter().map(|r| (r.destination.to_string(), r.target.clone())).collect();
    let expected = [
        ("0.0.0.0/0".to_owned(), RouteTarget::NatGateway(known)),
        ("172.20.0.0/16".to_owned(), RouteTarget::NetworkInterface(primary)),
    ];
    assert_eq!(routes, expected);
}

#[test]
fn a_route_to_an_eni_that_is_gone_leads_nowhere() {
    let mut lab = Lab::instant();
    let id = new_table(&mut lab);
    let eni = lab.create(CreateNetworkInterface::new(subnet("private-a"))).unwrap().network_interface_id;
    let via = RouteVia { network_interface_id: Some(eni.clone()), ..RouteVia::default() };
    lab.call(route(&id, "172.20.0.0/16", via)).unwrap();
    lab.call(DeleteNetworkInterface { network_interface_id: eni, dry_run: None }).unwrap();
    assert_eq!(plan(&mut lab).route_tables[&id][0].target, RouteTarget::Blackhole);
}

#[test]
fn subnets_change_their_route_tables() {
    let mut lab = Lab::instant();
    let (id, private, public) = (new_table(&mut lab), subnet("private-a"), subnet("public-a"));
    let associate = |table: &str, subnet: &SubnetId| AssociateRouteTable {
        route_table_id: table.to_owned(),
        subnet_id: Some(subnet.clone()),
        gateway_id: None,
        dry_run: None,
    };
    let delete = |id: &str| DeleteRouteTable { route_table_id: id.to_owned(), dry_run: None };
    let main = id_text("rtb-", "private");
    let no_subnet = AssociateRouteTable { subnet_id: None, ..associate(&id, &private) };
    let cases = vec![
        (associate("rtb-0123456789abcdef0", &private).into(), "InvalidRouteTableID.NotFound"),
        (associate(&id, &subnet("nowhere")).into(), "InvalidSubnetID.NotFound"),
        (no_subnet.into(), "MissingParameter"),
        (associate(&id, &public).into(), "Resource.AlreadyAssociated"),
        (delete(&main).into(), "DependencyViolation"),
        (delete("rtb-0123456789abcdef0").into(), "InvalidRouteTableID.NotFound"),
    ];
    table(&mut lab, cases);
    let AnyResponse::AssociateRouteTable(tie) = lab.call(associate(&id, &private)).unwrap() else { panic!() };
    let AnyResponse::AssociateRouteTable(again) = lab.call(associate(&id, &private)).unwrap() else { panic!() };
    assert_eq!(tie.association_id, again.association_id, "the same tie is no second one");
    assert_eq!(plan(&mut lab).subnets[&private].route_table, id);
    assert_eq!(code(lab.call(delete(&id))), "DependencyViolation");
    let replace = |tie: &str, table: &str| ReplaceRouteTableAssociation {
        association_id: tie.to_owned(),
        route_table_id: table.to_owned(),
        dry_run: None,
    };
    let answer = lab.call(replace(&tie.association_id, &id_text("rtb-", "public"))).unwrap();
    let AnyResponse::ReplaceRouteTableAssociation(moved) = answer else { panic!() };
    assert_eq!(plan(&mut lab).subnets[&private].route_table, id_text("rtb-", "public"));
    let untie = |tie: &str| DisassociateRouteTable { association_id: tie.to_owned(), dry_run: None };
    let main_tie = id_text("rtbassoc-", &format!("{main} main"));
    let cases = vec![
        (untie(&tie.association_id).into(), "InvalidAssociationID.NotFound"),
        (untie(&main_tie).into(), "InvalidParameterValue"),
        (untie(&moved.new_association_id).into(), "ok"),
    ];
    table(&mut lab, cases);
    assert_eq!(plan(&mut lab).subnets[&private].route_table, main);
    // Another main table: everybody without a tie follows.
    table(&mut lab, vec![(replace(&main_tie, &id).into(), "ok"), (delete(&main).into(), "ok")]);
    assert_eq!(plan(&mut lab).subnets[&private].route_table, id);
}

// -- security groups ---------------------------------------------------------------------------------------------------

fn new_group(lab: &Lab, name: &str) -> CreateSecurityGroup {
    CreateSecurityGroup {
        group_name: name.to_owned(),
        description: "a test".into(),
        vpc_id: Some(vpc(lab)),
        tag_specifications: Vec::new(),
        dry_run: None,
    }
}

fn created_group(lab: &mut Lab, name: &str) -> SecurityGroupId {
    let request = new_group(lab, name);
    let AnyResponse::CreateSecurityGroup(answer) = lab.call(request).unwrap() else { panic!() };
    answer.group_id
}

fn delete_group(id: &SecurityGroupId) -> DeleteSecurityGroup {
    DeleteSecurityGroup { group_id: Some(id.clone()), ..DeleteSecurityGroup::default() }
}

fn from_network(protocol: &str, ports: (i32, i32), cidr: &str) -> IpPermission {
    IpPermission {
        ip_protocol: protocol.into(),
        from_port: Some(ports.0),
        to_port: Some(ports.1),
        ip_ranges: vec![IpRange { cidr_ip: cidr.parse().unwrap(), description: None }],
        ..IpPermission::default()
    }
}

fn ingress(id: &SecurityGroupId, permissions: Vec<IpPermission>) -> AuthorizeSecurityGroupIngress {
    AuthorizeSecurityGroupIngress {
        group_id: Some(id.clone()),
        rules: RuleParameters::of(permissions),
        ..AuthorizeSecurityGroupIngress::default()
    }
}

fn revoke(id: &SecurityGroupId, permissions: Vec<IpPermission>) -> RevokeSecurityGroupIngress {
    RevokeSecurityGroupIngress {
        group_id: Some(id.clone()),
        rules: RuleParameters::of(permissions),
        ..RevokeSecurityGroupIngress::default()
    }
}

#[test]
fn ids_of_another_form_are_malformed() {
    let mut lab = Lab::instant();
    let group = lab.cloud.spec().security_groups[1].id.clone();
    let cases: Vec<(AnyRequest, &str)> = vec![
        (route("rtb-xyz", "10.9.0.0/16", by_gateway("igw-0")).into(), "InvalidRouteTableId.Malformed"),
        (DeleteRouteTable { route_table_id: "table".into(), dry_run: None }.into(), "InvalidRouteTableId.Malformed"),
        (
            DisassociateRouteTable { association_id: "rtb-0123456789abcdef0".into(), dry_run: None }.into(),
            "InvalidAssociationID.Malformed",
        ),
        (
            DisassociateVpcCidrBlock { association_id: "vpc-cidr-0".into() }.into(),
            "InvalidVpcCidrBlockAssociationID.Malformed",
        ),
        (
            DeleteSubnetCidrReservation { subnet_cidr_reservation_id: "scr-1".into(), dry_run: None }.into(),
            "InvalidSubnetCidrReservationID.Malformed",
        ),
        (
            RevokeSecurityGroupIngress {
                group_id: Some(group),
                security_group_rule_ids: vec!["sgr-zz".into()],
                ..RevokeSecurityGroupIngress::default()
            }
            .into(),
            "InvalidSecurityGroupRuleId.Malformed",
        ),
    ];
    table(&mut lab, cases);
}

#[test]
fn groups_have_names_of_their_own_and_go_when_nobody_needs_them() {
    let mut lab = Lab::instant();
    let stranger =
        CreateSecurityGroup { vpc_id: Some("vpc-0123456789abcdef0".parse().unwrap()), ..new_group(&lab, "x") };
    let cases = vec![
        (CreateSecurityGroup { vpc_id: None, ..new_group(&lab, "x") }.into(), "VPCIdNotSpecified"),
        (stranger.into(), "InvalidVpcID.NotFound"),
        (new_group(&lab, "sg-mine").into(), "InvalidParameterValue"),
        (new_group(&lab, "default").into(), "InvalidParameterValue"),
        (new_group(&lab, "grün").into(), "InvalidParameterValue"),
        (new_group(&lab, &"x".repeat(256)).into(), "InvalidParameterValue"),
        (new_group(&lab, "nodes").into(), "InvalidGroup.Duplicate"),
    ];
    table(&mut lab, cases);
    let (web, other) = (created_group(&mut lab, "web"), created_group(&mut lab, "other"));
    let rules = &plan(&mut lab).groups[&web];
    assert_eq!((rules.ingress.len(), rules.egress.len()), (0, 1), "nothing in, everything out");

    let default = lab.cloud.spec().security_groups[0].id.clone();
    let pair = IpPermission {
        ip_ranges: Vec::new(),
        groups: vec![UserIdGroupPair::new(web.clone())],
        ..from_network("-1", (-1, -1), "0.0.0.0/0")
    };
    let mut request = CreateNetworkInterface::new(subnet("private-a"));
    request.groups = vec![web.clone()];
    let eni = lab.create(request).unwrap().network_interface_id;
    let cases = vec![
        (delete_group(&default).into(), "CannotDelete"),
        (delete_group(&"sg-0123456789abcdef0".parse().unwrap()).into(), "InvalidGroup.NotFound"),
        (DeleteSecurityGroup::default().into(), "MissingParameter"),
        (delete_group(&web).into(), "DependencyViolation"),
        (DeleteNetworkInterface { network_interface_id: eni, dry_run: None }.into(), "ok"),
        (ingress(&other, vec![pair.clone()]).into(), "ok"),
        (delete_group(&web).into(), "DependencyViolation"),
        (revoke(&other, vec![pair]).into(), "ok"),
        (delete_group(&web).into(), "ok"),
        (delete_group(&web).into(), "InvalidGroup.NotFound"),
    ];
    table(&mut lab, cases);
    assert!(!plan(&mut lab).groups.contains_key(&web));
}

#[test]
fn rules_come_and_go() {
    let mut lab = Lab::instant();
    let web = created_group(&mut lab, "web");
    let everywhere = "0.0.0.0/0";
    let ssh = || from_network("tcp", (22, 22), everywhere);
    let stranger = IpPermission {
        ip_ranges: Vec::new(),
        groups: vec![UserIdGroupPair::new("sg-0123456789abcdef0".parse().unwrap())],
        ..ssh()
    };
    let nobody = IpPermission { ip_ranges: Vec::new(), ..ssh() };
    let many = |n: i32| (0..n).map(|port| from_network("udp", (port, port), everywhere)).collect::<Vec<_>>();
    let described = IpPermission {
        ip_ranges: vec![IpRange { cidr_ip: everywhere.parse().unwrap(), description: Some("for people".into()) }],
        ..ssh()
    };
    let cases = vec![
        (ingress(&web, Vec::new()).into(), "MissingParameter"),
        (ingress(&"sg-0123456789abcdef0".parse().unwrap(), vec![ssh()]).into(), "InvalidGroup.NotFound"),
        (ingress(&web, vec![stranger]).into(), "InvalidGroup.NotFound"),
        (ingress(&web, vec![nobody]).into(), "MissingParameter"),
        (ingress(&web, vec![from_network("sctpx", (1, 1), everywhere)]).into(), "InvalidParameterValue"),
        (ingress(&web, vec![from_network("tcp", (2, 1), everywhere)]).into(), "InvalidParameterValue"),
        (ingress(&web, vec![from_network("tcp", (1, 70_000), everywhere)]).into(), "InvalidParameterValue"),
        (ingress(&web, vec![from_network("icmp", (-1, 3), everywhere)]).into(), "InvalidParameterValue"),
        (ingress(&web, vec![ssh(), ssh()]).into(), "InvalidParameterValue"),
        (ingress(&web, vec![ssh()]).into(), "ok"),
        (ingress(&web, vec![described.clone()]).into(), "InvalidPermission.Duplicate"),
        (ingress(&web, vec![from_network("udp", (9, 9), everywhere), ssh()]).into(), "InvalidPermission.Duplicate"),
        (ingress(&web, many(60)).into(), "RulesPerSecurityGroupLimitExceeded"),
        (ingress(&web, many(59)).into(), "ok"),
        (ingress(&web, vec![from_network("-1", (-1, -1), everywhere)]).into(), "RulesPerSecurityGroupLimitExceeded"),
        (revoke(&web, many(60)).into(), "InvalidPermission.NotFound"),
        (revoke(&web, many(59)).into(), "ok"),
        (revoke(&web, vec![from_network("tcp", (22, 23), everywhere)]).into(), "InvalidPermission.NotFound"),
        (revoke(&web, Vec::new()).into(), "MissingParameter"),
    ];
    table(&mut lab, cases);
    let rules = plan(&mut lab).groups[&web].ingress.clone();
    assert_eq!(rules.len(), 1, "{rules:?}");
    assert_eq!(
        (rules[0].traffic, &rules[0].peer),
        (Traffic::Tcp(22, 22), &RulePeer::Cidr(everywhere.parse().unwrap()))
    );
    assert_eq!(code(lab.call(revoke(&web, vec![described]))), "ok", "descriptions are not compared");
    assert_eq!(plan(&mut lab).groups[&web].ingress, []);
}

#[test]
fn rules_are_named_and_revoked_by_id() {
    let mut lab = Lab::instant();
    let web = created_group(&mut lab, "web");
    let egress = AuthorizeSecurityGroupEgress {
        group_id: web.clone(),
        rules: RuleParameters::of(vec![from_network("icmp", (8, -1), "10.20.0.0/16")]),
        tag_specifications: Vec::new(),
        dry_run: None,
    };
    let AnyResponse::AuthorizeSecurityGroupEgress(answer) = lab.call(egress).unwrap() else { panic!() };
    let [rule] = &answer.rules[..] else { panic!("{answer:?}") };
    assert!(rule.is_egress && rule.security_group_rule_id.starts_with("sgr-"), "{rule:?}");
    assert_eq!(plan(&mut lab).groups[&web].egress[1].traffic, Traffic::Icmp(Some(8), None));
    let by_id = |ids: &[&str]| vpc_aws::ec2::shapes::RevokeSecurityGroupEgress {
        group_id: web.clone(),
        security_group_rule_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        rules: RuleParameters::default(),
        dry_run: None,
    };
    let id = rule.security_group_rule_id.as_str();
    let cases = vec![
        (by_id(&[id, "sgr-0123456789abcdef0"]).into(), "InvalidSecurityGroupRuleId.NotFound"),
        (by_id(&[id]).into(), "ok"),
        (by_id(&[id]).into(), "InvalidSecurityGroupRuleId.NotFound"),
    ];
    table(&mut lab, cases);
    assert_eq!(plan(&mut lab).groups[&web].egress.len(), 1);
}

#[test]
fn the_fabric_hears_of_an_enis_groups_and_source_check() {
    let mut lab = Lab::instant();
    let web = created_group(&mut lab, "web");
    let eni = lab.primary("node-1");
    let before = lab.events.len();
    let groups = |groups: Vec<SecurityGroupId>| ModifyNetworkInterfaceAttribute {
        groups,
        ..ModifyNetworkInterfaceAttribute::new(eni.clone())
    };
    let check = ModifyNetworkInterfaceAttribute {
        source_dest_check: Some(AttributeBooleanValue { value: Some(false) }),
        ..ModifyNetworkInterfaceAttribute::new(eni.clone())
    };
    let six = groups((0..6).map(|_| web.clone()).collect());
    let cases = vec![
        (six.into(), "SecurityGroupsPerInterfaceLimitExceeded"),
        (groups(vec!["sg-0123456789abcdef0".parse().unwrap()]).into(), "InvalidGroup.NotFound"),
        (groups(vec![web.clone()]).into(), "ok"),
        (groups(vec![web.clone()]).into(), "ok"),
        (check.into(), "ok"),
    ];
    table(&mut lab, cases);
    let changes: Vec<_> = lab.events[before..]
        .iter()
        .map(|event| match event {
            FabricEvent::EniChanged { eni, .. } => (eni.groups.clone(), eni.source_dest_check),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(changes, [(vec![web.clone()], true), (vec![web], false)], "once for each change");
}
