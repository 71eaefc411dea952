//! Long random histories: whatever is asked in whatever order, the books must balance.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use common::small_subnet;
use lab_cloud::{
    AttachedEni, Caller, Cloud, FabricEvent, NetworkPlan, Output, Profile, RouteTarget, Setup, Snapshot, WorldSpec,
};
use proptest::prelude::*;
use vpc_aws::ec2::shapes::{
    AnyRequest, AssignPrivateIpAddresses, AssociateRouteTable, AssociateVpcCidrBlock, AttachNetworkInterface,
    AttributeBooleanValue, AuthorizeSecurityGroupIngress, CreateNetworkInterface, CreateRoute, CreateRouteTable,
    CreateSecurityGroup, CreateSubnet, CreateSubnetCidrReservation, DeleteNetworkInterface, DeleteRoute,
    DeleteRouteTable, DeleteSecurityGroup, DeleteSubnet, DeleteSubnetCidrReservation, DescribeNetworkInterfaces,
    DetachNetworkInterface, DisassociateVpcCidrBlock, InstanceNetworkInterfaceSpecification, IpPermission,
    ModifyNetworkInterfaceAttribute, RebootInstances, RevokeSecurityGroupIngress, RouteDestination, RouteVia,
    RuleParameters, RunInstances, StartInstances, StopInstances, SubnetCidrReservationType, TerminateInstances,
    UnassignPrivateIpAddresses, UserIdGroupPair,
};
use vpc_model::{DeviceIndex, EniId, InstanceId, Millis, Time};

/// What somebody may do; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Create { subnet: usize, secondary: u32, prefixes: u32 },
    Attach { eni: usize, instance: usize, device: u8 },
    Detach { eni: usize },
    Delete { eni: usize },
    Assign { eni: usize, addresses: u32, prefixes: u32 },
    Unassign { eni: usize, slot: usize },
    Power { instance: usize, on: bool },
    Terminate { instance: usize },
    Describe,
    Pass { millis: u64 },
    Around(Around),
}

/// What somebody may do to the network around the ENIs, and to instances through the API.
#[derive(Clone, Copy, Debug)]
enum Around {
    Run { place: usize, count: u32, secondary: u32 },
    Terminate { instance: usize },
    Stop { instance: usize },
    Start { instance: usize },
    Reboot { instance: usize },
    CreateSubnet { n: u8 },
    DeleteSubnet { subnet: usize },
    Reserve { subnet: usize, n: u8, explicit: bool },
    Unreserve { subnet: usize },
    AddCidr { n: u8 },
    RemoveCidr { n: usize },
    CreateGroup { n: u8 },
    DeleteGroup { n: usize },
    Allow { group: usize, peer: usize },
    Forbid { group: usize },
    SetGroups { eni: usize, group: usize },
    SetCheck { eni: usize, on: bool },
    CreateTable,
    DeleteTable { table: usize },
    CreateRoute { table: usize, n: u8, eni: usize },
    DeleteRoute { table: usize, n: u8 },
    UseTable { subnet: usize, table: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let eni = 0..12_usize;
    let instance = 0..4_usize;
    prop_oneof![
        4 => (prop::sample::select(vec![0, 0, 0, 1, 2_usize]), 0..6_u32, 0..2_u32).prop_map(|(subnet, secondary, prefixes)| Step::Create {
            subnet,
            secondary: if prefixes > 0 { 0 } else { secondary },
            prefixes,
        }),
        5 => (eni.clone(), instance.clone(), 0..6_u8).prop_map(|(eni, instance, device)| Step::Attach { eni, instance, device }),
        2 => eni.clone().prop_map(|eni| Step::Detach { eni }),
        2 => eni.clone().prop_map(|eni| Step::Delete { eni }),
        4 => (eni.clone(), 0..6_u32, 0..3_u32).prop_map(|(eni, addresses, prefixes)| Step::Assign { eni, addresses, prefixes }),
        3 => (eni, 0..20_usize).prop_map(|(eni, slot)| Step::Unassign { eni, slot }),
        1 => (instance.clone(), any::<bool>()).prop_map(|(instance, on)| Step::Power { instance, on }),
        1 => instance.prop_map(|instance| Step::Terminate { instance }),
        1 => Just(Step::Describe),
        4 => (0..5000_u64).prop_map(|millis| Step::Pass { millis }),
        12 => around().prop_map(Step::Around),
    ]
}

fn around() -> impl Strategy<Value = Around> {
    use Around as A;
    let some = 0..40_usize;
    prop_oneof![
        (0..3_usize, 1..3_u32, 0..3_u32).prop_map(|(place, count, secondary)| A::Run { place, count, secondary }),
        some.clone().prop_map(|instance| A::Terminate { instance }),
        some.clone().prop_map(|instance| A::Stop { instance }),
        some.clone().prop_map(|instance| A::Start { instance }),
        some.clone().prop_map(|instance| A::Reboot { instance }),
        any::<u8>().prop_map(|n| A::CreateSubnet { n }),
        some.clone().prop_map(|subnet| A::DeleteSubnet { subnet }),
        (some.clone(), any::<u8>(), any::<bool>()).prop_map(|(subnet, n, explicit)| A::Reserve { subnet, n, explicit }),
        some.clone().prop_map(|subnet| A::Unreserve { subnet }),
        (0..6_u8).prop_map(|n| A::AddCidr { n }),
        some.clone().prop_map(|n| A::RemoveCidr { n }),
        (0..4_u8).prop_map(|n| A::CreateGroup { n }),
        some.clone().prop_map(|n| A::DeleteGroup { n }),
        (some.clone(), some.clone()).prop_map(|(group, peer)| A::Allow { group, peer }),
        some.clone().prop_map(|group| A::Forbid { group }),
        (some.clone(), some.clone()).prop_map(|(eni, group)| A::SetGroups { eni, group }),
        (some.clone(), any::<bool>()).prop_map(|(eni, on)| A::SetCheck { eni, on }),
        Just(A::CreateTable),
        some.clone().prop_map(|table| A::DeleteTable { table }),
        (some.clone(), 0..4_u8, some.clone()).prop_map(|(table, n, eni)| A::CreateRoute { table, n, eni }),
        (some.clone(), 0..4_u8).prop_map(|(table, n)| A::DeleteRoute { table, n }),
        (some.clone(), some).prop_map(|(subnet, table)| A::UseTable { subnet, table }),
    ]
}

/// A small world, so that it runs out: /26 and /27 beside a /22.
fn world() -> WorldSpec {
    let mut spec = small_subnet("10.20.8.0/26");
    let net: ipnet::Ipv4Net = "10.20.12.0/27".parse().unwrap();
    spec.subnets.iter_mut().find(|subnet| subnet.name == "private-b").unwrap().cidr = net.try_into().unwrap();
    spec.instances.push(lab_cloud::InstanceSpec::new("small", "t3.small", lab_cloud::id_for("private-a")));
    spec
}

fn cloud(profile: Profile, seed: u64) -> Cloud {
    Cloud::new(world(), Setup { profile, seed, ..Setup::default() }).unwrap()
}

/// What one of them would ask for now.
fn request(step: &Step, snapshot: &Snapshot, plan: &NetworkPlan) -> Option<AnyRequest> {
    let eni = |n: usize| snapshot.enis.get(n % snapshot.enis.len().max(1));
    Some(match step {
        Step::Create { subnet, secondary, prefixes } => {
            let place = ["private-a", "private-b", "private-c"][*subnet];
            let mut new = CreateNetworkInterface::new(lab_cloud::id_for(place));
            new.secondary_private_ip_address_count = (*secondary > 0).then_some(*secondary);
            new.ipv4_prefix_count = (*prefixes > 0).then_some(*prefixes);
            new.into()
        }
        Step::Attach { eni: n, instance: i, device } => {
            // Mostly what could work: an ENI that is free, an instance in its zone.
            let free: Vec<_> = snapshot.enis.iter().filter(|eni| n % 4 == 0 || eni.status == "available").collect();
            let eni = free.get(n % free.len().max(1))?;
            let zone = &snapshot.subnets.iter().find(|subnet| subnet.id == eni.subnet)?.zone;
            let near: Vec<_> = snapshot.instances.iter().filter(|near| i % 4 == 0 || near.zone == *zone).collect();
            AttachNetworkInterface {
                network_interface_id: eni.id.clone(),
                instance_id: near.get(i % near.len().max(1))?.id.clone(),
                device_index: DeviceIndex(*device),
                network_card_index: None,
                dry_run: None,
            }
            .into()
        }
        Step::Detach { eni: n } => {
            let attachment_id = eni(*n)?.attachment.as_ref()?.id.clone();
            DetachNetworkInterface { attachment_id, force: None, dry_run: None }.into()
        }
        Step::Delete { eni: n } => {
            DeleteNetworkInterface { network_interface_id: eni(*n)?.id.clone(), dry_run: None }.into()
        }
        Step::Assign { eni: n, addresses, prefixes } => {
            let id = eni(*n)?.id.clone();
            match prefixes {
                0 => AssignPrivateIpAddresses::addresses(id, *addresses).into(),
                _ => AssignPrivateIpAddresses::prefixes(id, *prefixes).into(),
            }
        }
        Step::Unassign { eni: n, slot } => {
            let eni = eni(*n)?;
            let (addresses, prefixes) = (&eni.addresses.secondary, &eni.addresses.prefixes);
            UnassignPrivateIpAddresses {
                network_interface_id: eni.id.clone(),
                private_ip_addresses: addresses.iter().skip(*slot).take(2).copied().collect(),
                ipv4_prefixes: if addresses.len() > *slot {
                    Vec::new()
                } else {
                    prefixes.iter().take(1).copied().collect()
                },
            }
            .into()
        }
        Step::Describe => DescribeNetworkInterfaces::default().into(),
        Step::Around(around) => return around_request(*around, snapshot, plan),
        Step::Power { .. } | Step::Terminate { .. } | Step::Pass { .. } => return None,
    })
}

fn around_request(step: Around, snapshot: &Snapshot, plan: &NetworkPlan) -> Option<AnyRequest> {
    let instance = |n: usize| Some(vec![snapshot.instances.get(n % snapshot.instances.len().max(1))?.id.clone()]);
    let eni = |n: usize| Some(snapshot.enis.get(n % snapshot.enis.len().max(1))?.id.clone());
    let subnet = |n: usize| snapshot.subnets.get(n % snapshot.subnets.len().max(1));
    let group = |n: usize| plan.groups.keys().nth(n % plan.groups.len()).cloned();
    let table = |n: usize| plan.route_tables.keys().nth(n % plan.route_tables.len()).cloned();
    let destination = |n: u8| RouteDestination {
        cidr_block: Some(format!("172.{}.0.0/16", 20 + n).parse().unwrap()),
        ipv6_cidr_block: None,
    };
    Some(match step {
        Around::Run { place, count, secondary } => {
            let eni = InstanceNetworkInterfaceSpecification {
                device_index: Some(DeviceIndex(0)),
                subnet_id: Some(lab_cloud::id_for(["private-a", "private-b", "public-c"][place])),
                secondary_private_ip_address_count: (secondary > 0).then_some(secondary),
                ..InstanceNetworkInterfaceSpecification::default()
            };
            let image_id = Some("ami-0123456789abcdef0".to_owned());
            let kind = Some("t3.small".to_owned());
            let network_interfaces = vec![eni];
            RunInstances { image_id, instance_type: kind, network_interfaces, ..RunInstances::new(1, count) }.into()
        }
        Around::Terminate { instance: n } => {
            TerminateInstances { instance_ids: instance(n)?, ..TerminateInstances::default() }.into()
        }
        Around::Stop { instance: n } => StopInstances { instance_ids: instance(n)?, ..StopInstances::default() }.into(),
        Around::Start { instance: n } => StartInstances { instance_ids: instance(n)?, dry_run: None }.into(),
        Around::Reboot { instance: n } => RebootInstances { instance_ids: instance(n)?, dry_run: None }.into(),
        Around::CreateSubnet { n } => CreateSubnet {
            vpc_id: snapshot.vpc.clone(),
            cidr_block: Some(format!("10.{}.{}.0/26", 20 + n % 5, n).parse().unwrap()),
            ipv6_cidr_block: None,
            ipv6_native: None,
            availability_zone: None,
            availability_zone_id: None,
            tag_specifications: Vec::new(),
            dry_run: None,
        }
        .into(),
        Around::DeleteSubnet { subnet: n } => DeleteSubnet { subnet_id: subnet(n)?.id.clone(), dry_run: None }.into(),
        Around::Reserve { subnet: n, n: part, explicit } => {
            let own = subnet(n)?;
            let first =
                own.cidr.net().network().to_bits() + u32::from(part) * 16 % (1 << (32 - own.cidr.net().prefix_len()));
            CreateSubnetCidrReservation {
                subnet_id: own.id.clone(),
                cidr: ipnet::Ipv4Net::new(Ipv4Addr::from_bits(first), if part % 2 == 0 { 28 } else { 27 })
                    .unwrap()
                    .trunc()
                    .into(),
                reservation_type: match explicit {
                    true => SubnetCidrReservationType::Explicit,
                    false => SubnetCidrReservationType::Prefix,
                },
                description: None,
                tag_specifications: Vec::new(),
                dry_run: None,
            }
            .into()
        }
        Around::Unreserve { subnet: n } => {
            let id = subnet(n)?.reservations.first()?.id.clone();
            DeleteSubnetCidrReservation { subnet_cidr_reservation_id: id, dry_run: None }.into()
        }
        Around::AddCidr { n } => AssociateVpcCidrBlock {
            vpc_id: snapshot.vpc.clone(),
            cidr_block: Some(format!("10.{}.0.0/16", 20 + n).parse().unwrap()),
            amazon_provided_ipv6_cidr_block: None,
        }
        .into(),
        Around::RemoveCidr { n } => {
            let id = snapshot.cidr_blocks.get(n % snapshot.cidr_blocks.len())?.id.clone();
            DisassociateVpcCidrBlock { association_id: id }.into()
        }
        Around::CreateGroup { n } => CreateSecurityGroup {
            group_name: format!("group {n}"),
            description: "random".into(),
            vpc_id: Some(snapshot.vpc.clone()),
            tag_specifications: Vec::new(),
            dry_run: None,
        }
        .into(),
        Around::DeleteGroup { n } => {
            DeleteSecurityGroup { group_id: Some(group(n)?), ..DeleteSecurityGroup::default() }.into()
        }
        Around::Allow { group: n, peer } => AuthorizeSecurityGroupIngress {
            group_id: Some(group(n)?),
            rules: RuleParameters::of(vec![IpPermission {
                ip_protocol: "-1".into(),
                groups: vec![UserIdGroupPair::new(group(peer)?)],
                ..IpPermission::default()
            }]),
            ..AuthorizeSecurityGroupIngress::default()
        }
        .into(),
        Around::Forbid { group: n } => RevokeSecurityGroupIngress {
            group_id: Some(group(n)?),
            rules: RuleParameters::of(vec![IpPermission {
                ip_protocol: "-1".into(),
                groups: vec![UserIdGroupPair::new(group(n)?)],
                ..IpPermission::default()
            }]),
            ..RevokeSecurityGroupIngress::default()
        }
        .into(),
        Around::SetGroups { eni: n, group: of } => ModifyNetworkInterfaceAttribute {
            groups: vec![group(of)?],
            ..ModifyNetworkInterfaceAttribute::new(eni(n)?)
        }
        .into(),
        Around::SetCheck { eni: n, on } => ModifyNetworkInterfaceAttribute {
            source_dest_check: Some(AttributeBooleanValue { value: Some(on) }),
            ..ModifyNetworkInterfaceAttribute::new(eni(n)?)
        }
        .into(),
        Around::CreateTable => CreateRouteTable {
            vpc_id: snapshot.vpc.clone(),
            tag_specifications: Vec::new(),
            client_token: None,
            dry_run: None,
        }
        .into(),
        Around::DeleteTable { table: n } => DeleteRouteTable { route_table_id: table(n)?, dry_run: None }.into(),
        Around::CreateRoute { table: n, n: to, eni: by } => CreateRoute {
            route_table_id: table(n)?,
            destination: destination(to),
            via: RouteVia { network_interface_id: Some(eni(by)?), ..RouteVia::default() },
            dry_run: None,
        }
        .into(),
        Around::DeleteRoute { table: n, n: to } => {
            DeleteRoute { route_table_id: table(n)?, destination: destination(to), dry_run: None }.into()
        }
        Around::UseTable { subnet: n, table: of } => AssociateRouteTable {
            route_table_id: table(of)?,
            subnet_id: Some(subnet(n)?.id.clone()),
            gateway_id: None,
            dry_run: None,
        }
        .into(),
    })
}

/// A history: steps, with everything that came out of them. `polls` is how often one looks while time passes; 0: not
/// before the end.
fn run(
    cloud: &mut Cloud,
    steps: &[Step],
    polls: u64,
    mut check: impl FnMut(&Snapshot, &NetworkPlan, &[Output]),
) -> Vec<Output> {
    let (mut now, mut all) = (Time(0), Vec::new());
    for step in steps {
        // Of a copy: looking must not bring the cloud up to date.
        let mut copy = cloud.clone();
        let (snapshot, plan) = (copy.snapshot(now), copy.network());
        let power = |n: usize| snapshot.instances[n % snapshot.instances.len()].id.clone();
        match step {
            Step::Power { instance, on } => _ = cloud.power(now, &power(*instance), *on),
            Step::Terminate { instance } => _ = cloud.terminate(now, &power(*instance)),
            Step::Pass { millis } => {
                for part in 1..polls {
                    all.extend(cloud.advance(now + Millis(millis * part / polls)));
                }
                now = now + Millis(*millis);
            }
            other => {
                if let Some(request) = request(other, &snapshot, &plan) {
                    cloud.submit(now, &Caller::Account, request);
                }
            }
        }
        if polls > 0 {
            all.extend(cloud.advance(now));
            check(&cloud.snapshot(now), &cloud.network(), &all);
        }
    }
    while let Some(due) = cloud.next_due() {
        now = now.max(due);
        all.extend(cloud.advance(now));
        check(&cloud.snapshot(now), &cloud.network(), &all);
    }
    all
}

fn books_balance(snapshot: &Snapshot) {
    let mut owners: BTreeMap<Ipv4Addr, &EniId> = BTreeMap::new();
    let mut macs = BTreeSet::new();
    for eni in &snapshot.enis {
        assert!(macs.insert(eni.mac), "{} is worn twice", eni.mac);
        let own = &eni.addresses;
        let singles = own.secondary.iter().copied().chain([own.primary]);
        for address in singles.chain(own.prefixes.iter().flat_map(|prefix| prefix.addresses())) {
            if let Some(other) = owners.insert(address, &eni.id) {
                panic!("{address} belongs to {other} and to {}", eni.id);
            }
            let subnet = snapshot.subnets.iter().find(|subnet| subnet.id == eni.subnet).unwrap();
            assert!(
                subnet.cidr.net().contains(&address) && !subnet.cidr.reserves(address),
                "{address} is not to be given"
            );
        }
    }
    for subnet in snapshot.subnets.iter().filter(|subnet| subnet.name != "public-a") {
        // Nobody's, outside of all reservations; in `public-a` stands a NAT gateway, too.
        let reserved = |address: &Ipv4Addr| subnet.reservations.iter().any(|own| own.cidr.contains(address));
        let last = u32::from(subnet.cidr.net().broadcast());
        let used = owners.range(subnet.cidr.net().network()..=Ipv4Addr::from(last));
        let used = used.filter(|(address, _)| !reserved(address)).count();
        let kept: usize = subnet
            .reservations
            .iter()
            .map(|own| own.cidr.network().to_bits()..=own.cidr.broadcast().to_bits())
            .map(|all| all.filter(|bits| !subnet.cidr.reserves(Ipv4Addr::from(*bits))).count())
            .sum();
        assert_eq!(subnet.free as usize, subnet.usable as usize - used - kept, "{}", subnet.name);
        let inside = |cidr: &ipnet::Ipv4Net| cidr.contains(&subnet.cidr.net());
        assert!(snapshot.cidrs.iter().any(inside), "{} lies outside", subnet.name);
    }
    for instance in &snapshot.instances {
        assert!(
            instance.enis.len() <= instance.max_enis as usize,
            "{} has {} ENIs",
            instance.name,
            instance.enis.len()
        );
        assert!(instance.state != "terminated" || instance.enis.is_empty());
        let mut devices = BTreeSet::new();
        for id in &instance.enis {
            let eni = snapshot.enis.iter().find(|eni| eni.id == *id).unwrap();
            let slots = 1 + eni.addresses.secondary.len() + eni.addresses.prefixes.len();
            assert!(slots <= instance.ipv4_per_eni as usize, "{id} of {} holds {slots}", instance.name);
            assert!(devices.insert(eni.attachment.as_ref().unwrap().device));
        }
    }
}

/// A fabric that believes every event.
struct Fabric {
    /// Outputs heard so far.
    heard: usize,
    plan: NetworkPlan,
    /// Instances that are there, with or without power.
    known: BTreeSet<InstanceId>,
    /// Those with power, and the ENIs they have.
    on: BTreeMap<InstanceId, BTreeMap<EniId, AttachedEni>>,
}

impl Fabric {
    fn new() -> Self {
        let known = world().instances.into_iter().map(|instance| instance.id).collect();
        Self { heard: 0, plan: NetworkPlan::default(), known, on: BTreeMap::new() }
    }

    /// Hears what is new: nothing of an ENI before its subnet and groups, nothing of an instance before it is launched.
    fn hear(&mut self, outputs: &[Output]) {
        for output in &outputs[self.heard..] {
            if let Output::Fabric(event) = output {
                self.believe(event.clone());
            }
        }
        self.heard = outputs.len();
    }

    fn believe(&mut self, event: FabricEvent) {
        match event {
            FabricEvent::Network(plan) => self.plan = *plan,
            FabricEvent::InstanceLaunched(new) => {
                assert!(self.plan.subnets.contains_key(&new.subnet), "{} is launched nowhere", new.id);
                assert!(self.known.insert(new.id), "launched twice");
            }
            FabricEvent::InstanceStarted { instance, enis } => {
                assert!(self.known.contains(&instance), "{instance} started before it was launched");
                enis.iter().for_each(|eni| self.must_fit(eni));
                let enis = enis.into_iter().map(|eni| (eni.id.clone(), eni)).collect();
                assert!(self.on.insert(instance, enis).is_none(), "started twice");
            }
            FabricEvent::InstanceStopped { instance } => assert!(self.on.remove(&instance).is_some(), "stopped twice"),
            FabricEvent::InstanceTerminated { instance } => {
                assert!(self.known.remove(&instance) && !self.on.contains_key(&instance), "ended with power, or twice");
            }
            FabricEvent::EniAttached { instance, eni } => {
                self.must_fit(&eni);
                let before = self.on.get_mut(&instance).expect("it runs").insert(eni.id.clone(), eni);
                assert_eq!(before, None, "attached twice");
            }
            FabricEvent::EniDetached { instance, eni, .. } => {
                assert!(self.on.get_mut(&instance).expect("it runs").remove(&eni).is_some(), "detached twice");
            }
            FabricEvent::EniChanged { instance, eni } => {
                self.must_fit(&eni);
                let id = eni.id.clone();
                *self.on.get_mut(&instance).expect("it runs").get_mut(&id).expect("it is there") = eni;
            }
            FabricEvent::PublicMappingChanged { .. } => {}
        }
    }

    fn must_fit(&self, eni: &AttachedEni) {
        assert!(self.plan.subnets.contains_key(&eni.subnet), "{}: its subnet is not planned", eni.id);
        assert!(eni.groups.iter().all(|group| self.plan.groups.contains_key(group)), "{}: no such group", eni.id);
    }

    /// Whether what it believes is so.
    fn is_right(&self, snapshot: &Snapshot, plan: &NetworkPlan, settled: bool) {
        assert!(self.plan == *plan, "the fabric does not know the plan");
        for instance in &snapshot.instances {
            let there = self.on.get(&instance.id);
            let on = ["running", "stopping", "shutting-down"].contains(&instance.state.as_str());
            // One that was told to end before it was up goes down without ever having had power.
            let going = instance.state == "shutting-down";
            assert!(there.is_some() == on || going, "{} is {}", instance.name, instance.state);
            let Some(there) = there else { continue };
            for eni in &snapshot.enis {
                let tie = eni.attachment.as_ref().filter(|tie| tie.instance == instance.id);
                let expected = tie.is_some_and(|tie| settled || tie.status == "attached");
                match there.get(&eni.id) {
                    Some(seen) => assert_eq!(
                        (seen.mac, &seen.addresses, &seen.groups, seen.source_dest_check),
                        (eni.mac, &eni.addresses, &eni.groups, eni.source_dest_check)
                    ),
                    None => assert!(!expected, "{} lacks {}", instance.name, eni.id),
                }
            }
        }
    }
}

/// The plan is that of the subnets, and holds together with the ENIs.
fn plan_holds_together(snapshot: &Snapshot, plan: &NetworkPlan) {
    assert_eq!(plan.cidrs, snapshot.cidrs);
    for subnet in &snapshot.subnets {
        let planned = &plan.subnets[&subnet.id];
        assert_eq!((planned.cidr, &planned.route_table), (subnet.cidr, &subnet.route_table));
        assert!(plan.route_tables.contains_key(&planned.route_table), "{}", planned.route_table);
    }
    assert_eq!(plan.subnets.len(), snapshot.subnets.len());
    for group in snapshot.enis.iter().flat_map(|eni| &eni.groups) {
        assert!(plan.groups.contains_key(group), "{group} is an ENI's and not there");
    }
    for route in plan.route_tables.values().flatten() {
        if let RouteTarget::NetworkInterface(eni) = &route.target {
            assert!(snapshot.enis.iter().any(|own| own.id == *eni), "a route to {eni}, which is gone");
        }
    }
}

fn imds_is_right(cloud: &mut Cloud) {
    let now = Time(u64::MAX / 2);
    let snapshot = cloud.snapshot(now);
    for instance in snapshot.instances.iter().filter(|instance| instance.state == "running") {
        let list = cloud.metadata(now, &instance.id, "meta-data/network/interfaces/macs").unwrap();
        let listed: BTreeSet<String> = list.lines().map(|mac| mac.trim_end_matches('/').to_owned()).collect();
        let enis: Vec<_> = snapshot.enis.iter().filter(|eni| instance.enis.contains(&eni.id)).collect();
        assert_eq!(listed, enis.iter().map(|eni| eni.mac.to_string()).collect());
        for eni in enis {
            let path = format!("meta-data/network/interfaces/macs/{}/local-ipv4s", eni.mac);
            let addresses: BTreeSet<Ipv4Addr> =
                cloud.metadata(now, &instance.id, &path).unwrap().lines().map(|line| line.parse().unwrap()).collect();
            let mut expected = eni.addresses.secondary.clone();
            expected.insert(eni.addresses.primary);
            assert_eq!(addresses, expected);
        }
    }
}

/// Found at random: the fabric heard of a device's end that it had never heard of.
#[test]
fn an_instance_that_goes_on_after_all_has_no_device_before_its_time() {
    let steps = [
        Step::Create { subnet: 0, secondary: 0, prefixes: 0 },
        Step::Create { subnet: 0, secondary: 0, prefixes: 0 },
        Step::Attach { eni: 0, instance: 0, device: 0 },
        Step::Pass { millis: 495 },
        Step::Attach { eni: 1, instance: 2, device: 1 },
        Step::Pass { millis: 504 },
        Step::Detach { eni: 1 },
        Step::Around(Around::Stop { instance: 22 }),
        Step::Pass { millis: 285 },
        Step::Power { instance: 2, on: true },
    ];
    for seed in 0..1000 {
        let (mut cloud, mut fabric) = (cloud(Profile::aws(), seed), Fabric::new());
        run(&mut cloud, &steps, 1, |snapshot, plan, all| {
            fabric.hear(all);
            fabric.is_right(snapshot, plan, false);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_after_every_step(steps in prop::collection::vec(step(), 1..100), seed in 0..1000_u64) {
        let (mut cloud, mut fabric) = (cloud(Profile::instant(), seed), Fabric::new());
        let all = run(&mut cloud, &steps, 1, |snapshot, plan, all| {
            books_balance(snapshot);
            plan_holds_together(snapshot, plan);
            fabric.hear(all);
            fabric.is_right(snapshot, plan, true);
        });
        let asked = all.iter().filter(|output| matches!(output, Output::Answer { .. })).count();
        prop_assert!(asked <= steps.len());
        imds_is_right(&mut cloud);
    }

    #[test]
    fn the_books_balance_also_when_everything_takes_time(steps in prop::collection::vec(step(), 1..100), seed in 0..1000_u64) {
        let (mut cloud, mut fabric) = (cloud(Profile::aws(), seed), Fabric::new());
        run(&mut cloud, &steps, 1, |snapshot, plan, all| {
            books_balance(snapshot);
            plan_holds_together(snapshot, plan);
            fabric.hear(all);
            fabric.is_right(snapshot, plan, false);
        });
        imds_is_right(&mut cloud);
    }

    #[test]
    fn one_seed_gives_one_history(steps in prop::collection::vec(step(), 1..40), seed in 0..1000_u64, polls in 2..7_u64) {
        let once = run(&mut cloud(Profile::aws(), seed), &steps, 1, |_, _, _| ());
        let again = run(&mut cloud(Profile::aws(), seed), &steps, 1, |_, _, _| ());
        let polled = run(&mut cloud(Profile::aws(), seed), &steps, polls, |_, _, _| ());
        let unseen = run(&mut cloud(Profile::aws(), seed), &steps, 0, |_, _, _| ());
        prop_assert_eq!(&once, &again);
        prop_assert_eq!(&once, &unseen, "looking only at the end changes nothing");
        prop_assert_eq!(&once, &polled, "looking more often changes nothing");
    }
}

#[test]
fn another_seed_gives_another_history() {
    let steps = vec![Step::Create { subnet: 2, secondary: 3, prefixes: 0 }, Step::Pass { millis: 3000 }];
    let of = |seed| run(&mut cloud(Profile::aws(), seed), &steps, 1, |_, _, _| ());
    assert_ne!(of(1), of(2));
}
