//! A lab in use is changed through the EC2 API, as a program on a node would: each change shows in packets, and so does its end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use common::ec2::{attach, attempt, call, detach, wait_until};
use common::{SMALL, start, topology};
use lab_cloud::id_for;
use vpc_aws::ec2::shapes::{
    Action, AssociateRouteTable, AssociateVpcCidrBlock, AttributeBooleanValue, AuthorizeSecurityGroupEgress,
    AuthorizeSecurityGroupIngress, CreateNetworkInterface, CreateRoute, CreateRouteTable, CreateSecurityGroup,
    CreateSubnet, DeleteNetworkInterface, DeleteRoute, DeleteSubnet, DescribeNetworkInterfaces, DescribeRouteTables,
    DescribeVpcs, DisassociateRouteTable, DisassociateVpcCidrBlock, Filter, IpPermission, IpRange,
    ModifyNetworkInterfaceAttribute, NetworkInterface, ReplaceRoute, RevokeSecurityGroupEgress,
    RevokeSecurityGroupIngress, RouteDestination, RouteVia, RuleParameters,
};
use vpc_lab::Lab;
use vpc_lab::capture::Packet;
use vpc_lab::control::Place;
use vpc_lab::tools::{HttpOptions, PingOptions};
use vpc_model::{EniId, SecurityGroupId, VpcId};

const A: Ipv4Addr = Ipv4Addr::new(10, 20, 8, 10);
const B: Ipv4Addr = Ipv4Addr::new(10, 20, 16, 10);
const HOST: Ipv4Addr = Ipv4Addr::new(52, 78, 83, 169);

fn node(name: &str) -> Place {
    Place::Node(name.to_owned())
}

/// Asks EC2 for something that it does.
#[track_caller]
fn done<A: Action>(lab: &Lab, request: &A) -> A::Response {
    call(lab, "a", request).unwrap_or_else(|error| panic!("{error:?}"))
}

/// One try, given up soon.
fn answers(lab: &Lab, from: &str, to: Ipv4Addr) -> bool {
    let brief = PingOptions { timeout: Duration::from_millis(200), ..PingOptions::default() };
    lab.ping(&node(from), to, &brief).unwrap().all_answered()
}

/// The fabric hears of a change a moment after the caller does.
#[track_caller]
fn becomes(lab: &Lab, from: &str, to: Ipv4Addr, reachable: bool) {
    wait_until(|| answers(lab, from, to), |now| *now == reachable);
}

/// The ENI with that address.
fn eni_at(lab: &Lab, address: Ipv4Addr) -> NetworkInterface {
    let filters = vec![Filter::new("addresses.private-ip-address", [address.to_string()])];
    let request = DescribeNetworkInterfaces { filters, ..DescribeNetworkInterfaces::default() };
    done(lab, &request).network_interfaces.into_iter().next().unwrap()
}

fn vpc(lab: &Lab) -> VpcId {
    done(lab, &DescribeVpcs::default()).vpcs.into_iter().next().unwrap().vpc_id
}

/// The table that a subnet of the topology uses by a tie of its own, or else the main one.
fn table_of(lab: &Lab, subnet: &str) -> String {
    let id = id_for(subnet);
    let tables = done(lab, &DescribeRouteTables::default()).route_tables;
    let uses = |wanted: Option<&vpc_model::SubnetId>| {
        let of = |table: &&vpc_aws::ec2::shapes::RouteTableDescription| {
            table.associations.iter().any(|tie| tie.subnet_id.as_ref() == wanted)
        };
        tables.iter().find(of).map(|table| table.route_table_id.clone())
    };
    uses(Some(&id)).or_else(|| uses(None)).unwrap()
}

fn to(network: &str) -> RouteDestination {
    RouteDestination { cidr_block: Some(network.parse().unwrap()), ipv6_cidr_block: None }
}

fn via_eni(eni: &EniId) -> RouteVia {
    RouteVia { network_interface_id: Some(eni.clone()), ..RouteVia::default() }
}

fn icmp(network: &str) -> RuleParameters {
    everything("icmp", network)
}

fn everything(protocol: &str, network: &str) -> RuleParameters {
    RuleParameters::of(vec![IpPermission {
        ip_protocol: protocol.to_owned(),
        from_port: (protocol != "-1").then_some(-1),
        to_port: (protocol != "-1").then_some(-1),
        ip_ranges: vec![IpRange { cidr_ip: network.parse().unwrap(), description: None }],
        ..IpPermission::default()
    }])
}

fn new_group(lab: &Lab, name: &str) -> SecurityGroupId {
    let request = CreateSecurityGroup {
        group_name: name.to_owned(),
        description: name.to_owned(),
        vpc_id: Some(vpc(lab)),
        tag_specifications: Vec::new(),
        dry_run: None,
    };
    done(lab, &request).group_id
}

fn set_groups(lab: &Lab, eni: &EniId, groups: &[&SecurityGroupId]) {
    let groups = groups.iter().map(|group| (*group).clone()).collect();
    done(lab, &ModifyNetworkInterfaceAttribute { groups, ..ModifyNetworkInterfaceAttribute::new(eni.clone()) });
}

fn set_check(lab: &Lab, eni: &EniId, on: bool) {
    let check = Some(AttributeBooleanValue { value: Some(on) });
    let request = ModifyNetworkInterfaceAttribute::new(eni.clone());
    done(lab, &ModifyNetworkInterfaceAttribute { source_dest_check: check, ..request });
}

#[test]
fn groups_and_their_rules() {
    let lab = start(&topology(SMALL));
    let b = eni_at(&lab, B);
    let default = b.groups.first().unwrap().group_id.clone();
    becomes(&lab, "a", B, true);
    // Out of the group that a is in: nothing comes in, and the node has kept its way out.
    let closed = new_group(&lab, "closed");
    set_groups(&lab, &b.network_interface_id, &[&closed]);
    becomes(&lab, "a", B, false);
    assert!(answers(&lab, "b", HOST));
    // A rule comes and goes.
    let ingress = |network| AuthorizeSecurityGroupIngress {
        group_id: Some(closed.clone()),
        rules: icmp(network),
        ..AuthorizeSecurityGroupIngress::default()
    };
    done(&lab, &ingress("10.20.8.10/32"));
    becomes(&lab, "a", B, true);
    assert!(!answers(&lab, "a2", B), "the rule is for one address");
    let rule = done(&lab, &ingress("10.20.8.20/32")).rules.remove(0);
    becomes(&lab, "a2", B, true);
    let by_id = RevokeSecurityGroupIngress {
        group_id: Some(closed.clone()),
        security_group_rule_ids: vec![rule.security_group_rule_id],
        ..RevokeSecurityGroupIngress::default()
    };
    done(&lab, &by_id);
    becomes(&lab, "a2", B, false);
    let described = RevokeSecurityGroupIngress {
        group_id: Some(closed.clone()),
        rules: icmp("10.20.8.10/32"),
        ..RevokeSecurityGroupIngress::default()
    };
    done(&lab, &described);
    becomes(&lab, "a", B, false);
    // The way out.
    let no_way_out = RevokeSecurityGroupEgress {
        group_id: closed.clone(),
        security_group_rule_ids: Vec::new(),
        rules: everything("-1", "0.0.0.0/0"),
        dry_run: None,
    };
    done(&lab, &no_way_out);
    becomes(&lab, "b", HOST, false);
    let again = AuthorizeSecurityGroupEgress {
        group_id: closed.clone(),
        rules: icmp("52.0.0.0/8"),
        tag_specifications: Vec::new(),
        dry_run: None,
    };
    done(&lab, &again);
    becomes(&lab, "b", HOST, true);
    assert!(!answers(&lab, "b", A));
    // Both groups at once, then the one from the beginning.
    set_groups(&lab, &b.network_interface_id, &[&closed, &default]);
    becomes(&lab, "a", B, true);
    set_groups(&lab, &b.network_interface_id, &[&closed]);
    becomes(&lab, "a", B, false);
    set_groups(&lab, &b.network_interface_id, &[&default]);
    becomes(&lab, "b", A, true);
}

#[test]
fn routes_and_tables_of_a_subnet() {
    let lab = start(&topology(SMALL));
    let own = table_of(&lab, "private-b");
    becomes(&lab, "b", HOST, true);
    let route = |table: &str, network, via| CreateRoute {
        route_table_id: table.to_owned(),
        destination: to(network),
        via,
        dry_run: None,
    };
    let nat = done(&lab, &DescribeRouteTables::default()).route_tables.into_iter().find(|t| t.route_table_id == own);
    let nat = nat.unwrap().routes.into_iter().find_map(|route| route.nat_gateway_id).unwrap();
    let by_nat = || RouteVia { nat_gateway_id: Some(nat.clone()), ..RouteVia::default() };

    // A route that leads to a's ENI, where the check drops what is not for a: it wins by its length, until it goes.
    let a = eni_at(&lab, A).network_interface_id;
    done(&lab, &route(&own, "52.78.0.0/16", via_eni(&a)));
    becomes(&lab, "b", HOST, false);
    let replaced = |via| ReplaceRoute {
        route_table_id: own.clone(),
        destination: to("52.78.0.0/16"),
        via,
        local_target: None,
        dry_run: None,
    };
    done(&lab, &replaced(by_nat()));
    becomes(&lab, "b", HOST, true);
    done(&lab, &replaced(via_eni(&a)));
    becomes(&lab, "b", HOST, false);
    done(&lab, &DeleteRoute { route_table_id: own.clone(), destination: to("52.78.0.0/16"), dry_run: None });
    becomes(&lab, "b", HOST, true);

    // Another table for the subnet: empty, then with a way out, then the one from before. a's subnet does not notice.
    let empty = CreateRouteTable { vpc_id: vpc(&lab), tag_specifications: vec![], client_token: None, dry_run: None };
    let empty = done(&lab, &empty).route_table.route_table_id;
    let associate = |table: &str| AssociateRouteTable {
        route_table_id: table.to_owned(),
        subnet_id: Some(id_for("private-b")),
        gateway_id: None,
        dry_run: None,
    };
    let association = done(&lab, &DescribeRouteTables::default());
    let ties = association.route_tables.into_iter().flat_map(|table| table.associations);
    for tie in ties.filter(|tie| tie.subnet_id == Some(id_for("private-b"))) {
        done(&lab, &DisassociateRouteTable { association_id: tie.route_table_association_id, dry_run: None });
    }
    let tie = done(&lab, &associate(&empty)).association_id;
    becomes(&lab, "b", HOST, false);
    assert!(answers(&lab, "a", HOST) && answers(&lab, "b", A));
    done(&lab, &route(&empty, "0.0.0.0/0", by_nat()));
    becomes(&lab, "b", HOST, true);
    done(&lab, &DeleteRoute { route_table_id: empty, destination: to("0.0.0.0/0"), dry_run: None });
    becomes(&lab, "b", HOST, false);
    done(&lab, &DisassociateRouteTable { association_id: tie, dry_run: None });
    done(&lab, &associate(&own));
    becomes(&lab, "b", HOST, true);
}

#[test]
fn the_check_of_source_and_destination() {
    let lab = start(&topology(SMALL));
    let (a, b) = (eni_at(&lab, A).network_interface_id, eni_at(&lab, B));
    let open = new_group(&lab, "open");
    done(
        &lab,
        &AuthorizeSecurityGroupIngress {
            group_id: Some(open.clone()),
            rules: icmp("0.0.0.0/0"),
            ..AuthorizeSecurityGroupIngress::default()
        },
    );
    set_groups(&lab, &b.network_interface_id, &[&open]);
    set_groups(&lab, &a, &[&open]);
    let stranger = Ipv4Addr::new(192, 0, 2, 7);
    let arrivals = lab.capture(&node("b"), "eth0").unwrap();
    let lie = PingOptions { source: Some(stranger), timeout: Duration::from_millis(50), ..PingOptions::default() };
    let spoofs = || {
        arrivals.clear();
        lab.ping(&node("a"), B, &lie).unwrap();
        arrivals.wait_for(Duration::from_millis(200), |p| p.is_between(stranger, B)).is_some()
    };
    // From a foreign address.
    assert!(!spoofs());
    set_check(&lab, &a, false);
    wait_until(spoofs, |passed| *passed);
    set_check(&lab, &a, true);
    wait_until(spoofs, |passed| !*passed);
    // For a foreign address: a route leads there.
    let far = Ipv4Addr::new(198, 51, 100, 7);
    let table = table_of(&lab, "private-a");
    let route = |destination| CreateRoute {
        route_table_id: table.clone(),
        destination,
        via: via_eni(&b.network_interface_id),
        dry_run: None,
    };
    done(&lab, &route(to("198.51.100.0/24")));
    let comes = || {
        arrivals.clear();
        answers(&lab, "a", far);
        arrivals.wait_for(Duration::from_millis(100), |p: &Packet| p.is_between(A, far)).is_some()
    };
    assert!(!comes());
    set_check(&lab, &b.network_interface_id, false);
    wait_until(comes, |came| *came);
    set_check(&lab, &b.network_interface_id, true);
    wait_until(comes, |came| !*came);
}

#[test]
fn a_cidr_with_a_subnet_and_a_node_in_it() {
    let lab = start(&topology(SMALL));
    let associate = AssociateVpcCidrBlock {
        vpc_id: vpc(&lab),
        cidr_block: Some("100.64.0.0/16".parse().unwrap()),
        amazon_provided_ipv6_cidr_block: None,
    };
    let cidr = done(&lab, &associate).cidr_block_association.unwrap();
    wait_until(|| done(&lab, &DescribeVpcs::default()).vpcs[0].cidr_block_associations.len(), |count| *count == 2);
    let request = CreateSubnet {
        vpc_id: vpc(&lab),
        cidr_block: Some("100.64.8.0/24".parse().unwrap()),
        ipv6_cidr_block: None,
        ipv6_native: None,
        availability_zone: Some("ap-northeast-2a".to_owned()),
        availability_zone_id: None,
        tag_specifications: Vec::new(),
        dry_run: None,
    };
    let subnet = done(&lab, &request).subnet.subnet_id;
    let table = table_of(&lab, "private-a");
    let tie =
        AssociateRouteTable { route_table_id: table, subnet_id: Some(subnet.clone()), gateway_id: None, dry_run: None };
    done(&lab, &tie);
    lab.node_add(Some("far"), subnet.as_str(), None).unwrap();
    let status = lab.status().unwrap();
    let far = status.nodes.iter().find(|node| node.name == "far").unwrap();
    let far: Ipv4Addr = far.enis[0].primary.to_string().parse().unwrap();
    assert_eq!(far.octets()[..3], [100, 64, 8]);
    for (from, to) in [("a", far), ("b", far), ("far", A), ("far", B), ("far", HOST)] {
        becomes(&lab, from, to, true);
    }
    // An ENI there for a node elsewhere in the zone.
    let eni = done(&lab, &CreateNetworkInterface::new(subnet.clone())).network_interface;
    let attachment = attach(&lab, &eni.network_interface_id, "a2");
    detach(&lab, attachment, "a2");

    // While it is used, it stays.
    let disassociate = DisassociateVpcCidrBlock { association_id: cidr.association_id.unwrap() };
    let delete = DeleteSubnet { subnet_id: subnet, dry_run: None };
    assert_eq!(call(&lab, "a", &delete).unwrap_err().code, "DependencyViolation");
    assert!(call(&lab, "a", &disassociate).is_err());
    lab.node_remove("far").unwrap();
    done(&lab, &DeleteNetworkInterface { network_interface_id: eni.network_interface_id, dry_run: None });
    wait_until(|| attempt(&lab, "a", &delete).unwrap(), Result::is_ok).unwrap();
    done(&lab, &disassociate);
    wait_until(|| done(&lab, &DescribeVpcs::default()).vpcs[0].cidr_block_associations.len(), |count| *count == 1);
    // Nothing of the VPC is there any more: packets take the default route out.
    let gateway = lab.capture(&Place::Gateway("nat".to_owned()), "eth0").unwrap();
    wait_until(
        || {
            answers(&lab, "a", far);
            gateway.packets().iter().any(|p| p.is_between(A, far))
        },
        |left| *left,
    );
}

#[test]
fn an_automatic_public_address_goes_with_the_power() {
    let lab = start(&topology(SMALL));
    lab.node_add(Some("q"), "public", None).unwrap();
    let seen_as =
        || lab.http(&node("q"), &format!("http://{HOST}/who"), &HttpOptions::default()).map(|reply| reply.body);
    let public = || {
        let status = lab.status().unwrap();
        status.nodes.iter().find(|node| node.name == "q").unwrap().enis[0].public
    };
    let first = public().expect("the subnet gives public addresses");
    assert!(seen_as().unwrap().starts_with(&format!("hello {first},")));
    lab.power("q", false).unwrap();
    assert_eq!(public(), None);
    // Another one takes its address, and is heard under it.
    lab.node_add(Some("r"), "public", None).unwrap();
    let reply = lab.http(&node("r"), &format!("http://{HOST}/who"), &HttpOptions::default()).unwrap();
    assert!(reply.body.starts_with(&format!("hello {first},")), "{}", reply.body);
    lab.power("q", true).unwrap();
    let second = public().unwrap();
    assert_ne!(second, first);
    assert!(seen_as().unwrap().starts_with(&format!("hello {second},")));
    lab.node_remove("r").unwrap();
    assert!(seen_as().unwrap().starts_with(&format!("hello {second},")), "the end of the other changes nothing");
}
