//! The life of ENIs, instances and addresses; what the fabric and IMDS hear of it, and when.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Lab, instance, subnet, with_instance};
use lab_cloud::{ACCESS_KEY, Caller, ExtraEniSpec, FabricEvent, InstanceSpec, Profile, SECRET_KEY, WorldSpec};
use vpc_aws::ec2::shapes::{
    AnyResponse, AssignPrivateIpAddresses, AttachmentStatus, CreateNetworkInterface, DeleteNetworkInterface,
    DescribeInstanceTypes, DescribeInstances, DescribeNetworkInterfaces, DescribeRouteTables, DescribeSubnets,
    DescribeVpcs, DetachNetworkInterface, Filter, InstanceStateName, ModifyNetworkInterfaceAttribute,
    NetworkInterfaceAttachmentChanges, NetworkInterfaceStatus, Tag, TagSpecification, UnassignPrivateIpAddresses,
};
use vpc_model::{CardIndex, DeviceIndex, EniId, Millis, Time};

fn macs(lab: &mut Lab, node: &str) -> Vec<String> {
    let list = lab.imds(node, "meta-data/network/interfaces/macs/").unwrap();
    list.lines().map(|line| line.trim_end_matches('/').to_owned()).collect()
}

fn addresses_in_imds(lab: &mut Lab, node: &str, mac: &str) -> usize {
    lab.imds(node, &format!("meta-data/network/interfaces/macs/{mac}/local-ipv4s")).unwrap().lines().count()
}

fn detach(lab: &mut Lab, attachment_id: vpc_model::AttachmentId) {
    lab.call(DetachNetworkInterface { attachment_id, force: None, dry_run: None }).unwrap();
}

#[test]
fn a_world_begins_with_its_network_and_the_start_of_its_instances() {
    let lab = Lab::instant();
    assert!(matches!(lab.events[0], FabricEvent::Network(_)), "{:?}", lab.events[0]);
    let started: Vec<_> = lab
        .events
        .iter()
        .skip(1)
        .map(|event| match event {
            FabricEvent::InstanceStarted { instance, enis } => (instance.clone(), enis.len(), enis[0].device),
            other => panic!("{other:?}"),
        })
        .collect();
    let mut expected: Vec<_> = ["node-1", "node-2", "node-3"].map(|n| (instance(n), 1, DeviceIndex(0))).to_vec();
    expected.sort();
    assert_eq!(started, expected);
}

#[test]
fn an_eni_lives_from_available_to_gone() {
    let mut lab = Lab::instant();
    let before = lab.free("private-a");
    let mut request = CreateNetworkInterface::new(subnet("private-a"));
    request.secondary_private_ip_address_count = Some(3);
    request.description = Some("aws-K8S-i-1".into());
    let created = lab.create(request).unwrap();
    assert_eq!(created.status, NetworkInterfaceStatus::Pending);
    let id = created.network_interface_id;
    assert_eq!((lab.show(&id).status, lab.free("private-a")), (NetworkInterfaceStatus::Available, before - 4));

    let attachment = lab.attach(&id, "node-1", 1).unwrap();
    let shown = lab.show(&id);
    let tie = shown.attachment.unwrap();
    assert_eq!((shown.status, tie.status), (NetworkInterfaceStatus::InUse, AttachmentStatus::Attached));
    assert_eq!(tie.delete_on_termination, Some(false), "an ENI attached later stays when the instance goes");
    let Some(FabricEvent::EniAttached { instance: whose, eni }) = lab.events.last() else { panic!("{:?}", lab.events) };
    assert_eq!((whose, &eni.id, eni.addresses.secondary.len()), (&instance("node-1"), &id, 3));

    detach(&mut lab, attachment);
    assert_eq!(lab.show(&id).status, NetworkInterfaceStatus::Available);
    let mac = shown.mac_address;
    assert_eq!(
        lab.events.last().unwrap(),
        &FabricEvent::EniDetached { instance: instance("node-1"), eni: id.clone(), mac }
    );
    lab.call(DeleteNetworkInterface { network_interface_id: id, dry_run: None }).unwrap();
    assert_eq!(lab.free("private-a"), before);
}

#[test]
fn the_fabric_follows_every_change_of_addresses() {
    let mut lab = Lab::instant();
    let id = lab.primary("node-1");
    let got = lab.assign(AssignPrivateIpAddresses::addresses(id.clone(), 2)).unwrap().assigned_private_ip_addresses;
    lab.assign(AssignPrivateIpAddresses::prefixes(id.clone(), 1)).unwrap();
    let unassign = UnassignPrivateIpAddresses {
        network_interface_id: id,
        private_ip_addresses: vec![got[0].private_ip_address],
        ipv4_prefixes: Vec::new(),
    };
    lab.call(unassign).unwrap();
    let seen: Vec<_> = lab
        .events
        .iter()
        .filter_map(|event| match event {
            FabricEvent::EniChanged { eni, .. } => Some((eni.addresses.secondary.len(), eni.addresses.prefixes.len())),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [(2, 0), (2, 1), (1, 1)]);
    assert_eq!(lab.cloud.instance_at(got[1].private_ip_address), Some(instance("node-1")));
    assert_eq!(lab.cloud.instance_at(got[0].private_ip_address), None);
}

#[test]
fn on_aws_the_guest_and_imds_learn_later() {
    for seed in 0..20 {
        let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), seed);
        let mut request = CreateNetworkInterface::new(subnet("private-a"));
        request.secondary_private_ip_address_count = Some(4);
        let created = lab.create(request).unwrap();
        assert!((400..=600).contains(&lab.now.0), "{:?}", lab.now);
        let (before, mac) = (lab.now, created.mac_address.to_string());
        lab.attach(&created.network_interface_id, "node-1", 1).unwrap();
        let answered = lab.now;
        assert!((500..=1200).contains(&answered.since(before).0));
        let tie = lab.show(&created.network_interface_id).attachment.unwrap();
        assert_eq!(tie.status, AttachmentStatus::Attaching, "seed {seed}");
        assert_eq!(macs(&mut lab, "node-1").len(), 1, "IMDS lags");

        let since = |lab: &Lab| lab.now.since(answered).0;
        while !lab.events.iter().any(|event| matches!(event, FabricEvent::EniAttached { .. })) {
            lab.pass(50);
        }
        assert!((500..=3050).contains(&since(&lab)), "guest sees it after {} ms", since(&lab));
        while macs(&mut lab, "node-1").len() == 1 {
            lab.pass(50);
        }
        assert!((1000..=3200).contains(&since(&lab)), "IMDS lists it after {} ms", since(&lab));
        assert_eq!(addresses_in_imds(&mut lab, "node-1", &mac), 1, "first the primary address alone");
        lab.settle();
        assert_eq!(addresses_in_imds(&mut lab, "node-1", &mac), 5);
    }
}

#[test]
fn imds_keeps_a_detached_mac_for_a_while() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 3);
    let (_, attachment) = lab.attached(1);
    lab.settle();
    detach(&mut lab, attachment);
    while !lab.events.iter().any(|event| matches!(event, FabricEvent::EniDetached { .. })) {
        lab.pass(50);
    }
    assert_eq!(macs(&mut lab, "node-1").len(), 2);
    lab.settle();
    assert_eq!(macs(&mut lab, "node-1").len(), 1);
}

#[test]
fn an_eni_detached_before_the_guest_saw_it_is_never_announced() {
    let mut lab = Lab::new(
        WorldSpec::default_topology(),
        Profile { guest_sees: Profile::aws().imds_drop, ..Profile::instant() },
        1,
    );
    let (id, attachment) = lab.attached(1);
    assert_eq!(lab.show(&id).attachment.unwrap().status, AttachmentStatus::Attaching);
    detach(&mut lab, attachment);
    lab.settle();
    let about_it = lab.events.iter().skip(1).filter(|e| !matches!(e, FabricEvent::InstanceStarted { .. })).count();
    assert_eq!((about_it, lab.show(&id).status), (0, NetworkInterfaceStatus::Available));
}

#[test]
fn power_takes_devices_away_and_brings_them_back() {
    let mut lab = Lab::instant();
    let (id, _) = lab.attached(1);
    lab.events.clear();
    lab.cloud.power(lab.now, &instance("node-1"), false).unwrap();
    lab.pass(0);
    assert_eq!(lab.imds("node-1", "meta-data/mac"), None, "no power, no IMDS");
    lab.assign(AssignPrivateIpAddresses::addresses(id, 1)).unwrap();
    lab.attached(2);
    lab.cloud.power(lab.now, &instance("node-1"), false).unwrap();
    lab.cloud.power(lab.now, &instance("node-1"), true).unwrap();
    lab.pass(0);
    let [FabricEvent::InstanceStopped { .. }, FabricEvent::InstanceStarted { enis, .. }] = &lab.events[..] else {
        panic!("{:?}", lab.events)
    };
    let seen: Vec<_> = enis.iter().map(|eni| (eni.device.0, eni.addresses.secondary.len())).collect();
    assert_eq!(seen, [(0, 0), (1, 1), (2, 0)]);
}

#[test]
fn a_terminated_instance_takes_along_what_is_marked_so() {
    let mut lab = Lab::instant();
    let (stays, _) = lab.attached(1);
    let (goes, attachment) = lab.attached(2);
    let mut modify = ModifyNetworkInterfaceAttribute::new(goes.clone());
    modify.attachment =
        Some(NetworkInterfaceAttachmentChanges { attachment_id: Some(attachment), delete_on_termination: Some(true) });
    lab.call(modify).unwrap();
    let free = lab.free("private-a");
    lab.cloud.terminate(lab.now, &instance("node-1")).unwrap();
    lab.pass(0);
    assert_eq!(lab.show(&stays).status, NetworkInterfaceStatus::Available);
    let all: Vec<EniId> = lab
        .describe(DescribeNetworkInterfaces::default())
        .unwrap()
        .into_iter()
        .map(|e| e.network_interface_id)
        .collect();
    assert!(!all.contains(&goes) && all.len() == 4);
    assert_eq!(lab.free("private-a"), free + 2);
    let AnyResponse::DescribeInstances(answer) = lab.call(DescribeInstances::default()).unwrap() else { panic!() };
    let states: Vec<_> = answer.reservations.into_iter().flat_map(|r| r.instances).map(|i| i.state.name).collect();
    assert_eq!(states.iter().filter(|state| **state == InstanceStateName::Terminated).count(), 1);
    assert!(lab.cloud.power(lab.now, &instance("node-1"), true).is_err());
}

#[test]
fn public_addresses_come_and_go() {
    let mut lab = Lab::new(with_instance("edge", "m5.large", "public-a"), Profile::instant(), 1);
    let public = lab.imds("edge", "meta-data/public-ipv4").expect("the subnet maps public addresses");
    assert!(public.starts_with("198.51.100."));
    assert_eq!(lab.imds("node-1", "meta-data/public-ipv4"), None);
    let private = lab.imds("edge", "meta-data/local-ipv4").unwrap().parse().unwrap();
    lab.cloud.map_public(lab.now, private, None).unwrap();
    lab.pass(0);
    assert_eq!(lab.events.last().unwrap(), &FabricEvent::PublicMappingChanged { private, public: None });
    assert_eq!(lab.imds("edge", "meta-data/public-ipv4"), None);
    let taken = "203.0.113.10".parse().unwrap();
    assert!(lab.cloud.map_public(lab.now, private, Some(taken)).is_err(), "that is the NAT gateway's");
    lab.cloud.map_public(lab.now, private, Some("198.51.100.77".parse().unwrap())).unwrap();
    assert_eq!(lab.imds("edge", "meta-data/public-ipv4").unwrap(), "198.51.100.77");
}

#[test]
fn imds_has_every_path_the_daemon_reads() {
    let mut lab = Lab::instant();
    let eni = lab.primary("node-1");
    lab.assign(AssignPrivateIpAddresses::addresses(eni.clone(), 2)).unwrap();
    lab.assign(AssignPrivateIpAddresses::prefixes(eni.clone(), 1)).unwrap();
    let shown = lab.show(&eni);
    let (mac, primary) = (shown.mac_address.to_string(), shown.private_ip_address.unwrap().to_string());
    let at = format!("meta-data/network/interfaces/macs/{mac}");
    let id = instance("node-1").to_string();
    let dns = format!("ip-{}.us-west-2.compute.internal", primary.replace('.', "-"));
    let expected = [
        ("meta-data/placement/availability-zone".to_owned(), "us-west-2a".to_owned()),
        ("meta-data/placement/region".to_owned(), "us-west-2".to_owned()),
        ("meta-data/local-ipv4".to_owned(), primary.clone()),
        ("meta-data/instance-id".to_owned(), id.clone()),
        ("meta-data/instance-type".to_owned(), "m5.large".to_owned()),
        ("meta-data/mac".to_owned(), mac.clone()),
        ("meta-data/hostname".to_owned(), dns.clone()),
        ("meta-data/local-hostname".to_owned(), dns),
        ("meta-data/network/interfaces/macs".to_owned(), format!("{mac}/")),
        ("/meta-data/network/interfaces/macs/".to_owned(), format!("{mac}/")),
        (format!("{at}/interface-id"), eni.to_string()),
        (format!("{at}/interface-id/"), eni.to_string()),
        (format!("{at}/subnet-id"), subnet("private-a").to_string()),
        (format!("{at}/vpc-id"), lab.cloud.spec().vpc.id.to_string()),
        (format!("{at}/device-number"), "0".to_owned()),
        (format!("{at}/subnet-ipv4-cidr-block"), "10.20.8.0/22".to_owned()),
        (format!("{at}/vpc-ipv4-cidr-block"), "10.20.0.0/16".to_owned()),
        (format!("{at}/vpc-ipv4-cidr-blocks"), "10.20.0.0/16\n100.64.0.0/16".to_owned()),
        (format!("{at}/ipv4-prefix"), shown.ipv4_prefixes[0].ipv4_prefix.to_string()),
        (format!("{at}/security-group-ids"), lab.cloud.spec().security_groups[0].id.to_string()),
        ("meta-data/iam/security-credentials/".to_owned(), "node-role".to_owned()),
    ];
    for (path, value) in expected {
        assert_eq!(lab.imds("node-1", &path).as_ref(), Some(&value), "{path}");
    }
    let addresses = lab.imds("node-1", &format!("{at}/local-ipv4s")).unwrap();
    assert_eq!((addresses.lines().next(), addresses.lines().count()), (Some(primary.as_str()), 3));
    let fields = lab.imds("node-1", &at).unwrap();
    assert!(!fields.lines().any(|field| field == "network-card" || field == "ipv6s"), "{fields}");
    let document = lab.imds("node-1", "dynamic/instance-identity/document").unwrap();
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!((document["region"].as_str(), document["instanceId"].as_str()), (Some("us-west-2"), Some(id.as_str())));
    for nothing in ["meta-data/ipv6", "meta-data/nonsense", "meta-data/mac/x", &format!("{at}/network-card")] {
        assert_eq!(lab.imds("node-1", nothing), None, "{nothing}");
    }
}

#[test]
fn role_credentials_tell_instances_apart_and_die() {
    let mut lab = Lab::instant();
    let json = lab.imds("node-2", "meta-data/iam/security-credentials/node-role").unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let key = json["AccessKeyId"].as_str().unwrap();
    assert_eq!(json["Expiration"], "2026-01-01T06:30:00Z");
    let identity = lab.cloud.identify(lab.now, key).unwrap();
    assert_eq!(identity.caller, Caller::Instance(instance("node-2")));
    assert_eq!(json["SecretAccessKey"].as_str().unwrap(), identity.secret_key);
    assert_eq!(json["Token"].as_str().map(str::to_owned), identity.session_token);
    let hours = |n: u64, minutes: u64| Time(0) + Millis::seconds(n * 3600 + minutes * 60);
    assert!(!lab.cloud.identify(hours(6, 29), key).unwrap().expired);
    assert!(lab.cloud.identify(hours(6, 30), key).unwrap().expired);
    lab.now = hours(6, 0);
    let later = lab.imds("node-2", "meta-data/iam/security-credentials/node-role").unwrap();
    assert!(!later.contains(key), "new ones are there before the old ones die");
    let account = lab.cloud.identify(lab.now, ACCESS_KEY).unwrap();
    assert_eq!((account.caller, account.secret_key.as_str()), (Caller::Account, SECRET_KEY));
    assert!(lab.cloud.identify(lab.now, "AKIANOBODY").is_none());
}

#[test]
fn instances_may_have_more_enis_from_the_start() {
    let mut spec = WorldSpec::default_topology();
    let extra = ExtraEniSpec {
        subnet: subnet("pods-a"),
        device: DeviceIndex(1),
        card: CardIndex(1),
        secondary_ips: 2,
        prefixes: 1,
        interface_type: "interface".into(),
        security_groups: Vec::new(),
        tags: [("node.k8s.amazonaws.com/no_manage".to_owned(), "true".to_owned())].into(),
    };
    let large =
        InstanceSpec { extra_enis: vec![extra], ..InstanceSpec::new("big", "p5.48xlarge", subnet("private-a")) };
    spec.instances.push(large);
    let mut lab = Lab::new(spec, Profile::instant(), 1);
    let cards: Vec<_> = macs(&mut lab, "big")
        .into_iter()
        .map(|mac| lab.imds("big", &format!("meta-data/network/interfaces/macs/{mac}/network-card")).unwrap())
        .collect();
    assert!(cards.contains(&"0".to_owned()) && cards.contains(&"1".to_owned()), "{cards:?}");
}

#[test]
fn enis_are_found_by_what_they_are() {
    let mut lab = Lab::instant();
    let mut request = CreateNetworkInterface::new(subnet("private-a"));
    request.description = Some("aws-K8S-i-x".into());
    request.tag_specifications = vec![TagSpecification {
        resource_type: vpc_aws::ec2::shapes::ResourceType::NetworkInterface,
        tags: vec![Tag::new("node.k8s.amazonaws.com/instance_id", "i-x")],
    }];
    let leaked = lab.create(request).unwrap().network_interface_id;
    let vpc = lab.cloud.spec().vpc.id.to_string();
    let mut find = |filters: &[(&str, &str)]| {
        let filters = filters.iter().map(|(name, value)| Filter::new(*name, [*value])).collect();
        let request =
            DescribeNetworkInterfaces { filters, max_results: Some(1000), ..DescribeNetworkInterfaces::default() };
        lab.describe(request).unwrap().into_iter().map(|eni| eni.network_interface_id).collect::<Vec<_>>()
    };
    let tag_key = ("tag-key", "node.k8s.amazonaws.com/instance_id");
    assert_eq!(find(&[tag_key, ("status", "available"), ("vpc-id", &vpc)]), std::slice::from_ref(&leaked));
    assert_eq!(find(&[tag_key, ("status", "in-use")]), []);
    assert_eq!(find(&[("description", "aws-K8S-*")]), std::slice::from_ref(&leaked));
    assert_eq!(find(&[("tag:node.k8s.amazonaws.com/instance_id", "i-?")]), [leaked]);
    assert_eq!(find(&[("attachment.device-index", "0")]).len(), 3);
    assert_eq!(find(&[("availability-zone", "us-west-2b"), ("subnet-id", "subnet-*")]).len(), 1);
}

#[test]
fn long_lists_come_in_pages() {
    let mut lab = Lab::instant();
    for _ in 0..9 {
        lab.create(CreateNetworkInterface::new(subnet("private-a"))).unwrap();
    }
    let (mut seen, mut sizes, mut next_token) = (Vec::new(), Vec::new(), None);
    loop {
        let request =
            DescribeNetworkInterfaces { max_results: Some(5), next_token, ..DescribeNetworkInterfaces::default() };
        let AnyResponse::DescribeNetworkInterfaces(page) = lab.call(request).unwrap() else { panic!() };
        sizes.push(page.network_interfaces.len());
        seen.extend(page.network_interfaces.into_iter().map(|eni| eni.network_interface_id));
        next_token = page.next_token;
        if next_token.is_none() {
            break;
        }
    }
    seen.dedup();
    assert_eq!((sizes, seen.len()), (vec![5, 5, 3], 13));
}

#[test]
fn the_vpc_is_described_as_it_is() {
    let mut lab = Lab::instant();
    let AnyResponse::DescribeVpcs(vpcs) = lab.call(DescribeVpcs::default()).unwrap() else { panic!() };
    assert_eq!(vpcs.vpcs[0].cidr_block_associations.len(), 2);
    let filters = vec![Filter::new("availability-zone", ["us-west-2a"]), Filter::new("tag:Name", ["private-*"])];
    let request = DescribeSubnets { filters, ..DescribeSubnets::default() };
    let AnyResponse::DescribeSubnets(subnets) = lab.call(request).unwrap() else { panic!() };
    let found: Vec<_> = subnets.subnets.iter().map(|s| (s.subnet_id.clone(), s.available_ip_address_count)).collect();
    assert_eq!(found, [(subnet("private-a"), 1024 - 5 - 1)]);
    let filters = vec![Filter::new("association.subnet-id", [subnet("public-a").as_str()])];
    let request = DescribeRouteTables { filters, ..DescribeRouteTables::default() };
    let AnyResponse::DescribeRouteTables(tables) = lab.call(request).unwrap() else { panic!() };
    let gateways: Vec<_> = tables.route_tables[0].routes.iter().filter_map(|r| r.gateway_id.as_deref()).collect();
    assert_eq!(&gateways[..2], ["local", "local"]);
    assert!(gateways[2].starts_with("igw-"));
    let request = DescribeInstanceTypes { instance_types: vec!["m5.large".into()], ..DescribeInstanceTypes::default() };
    let AnyResponse::DescribeInstanceTypes(types) = lab.call(request).unwrap() else { panic!() };
    let network = types.instance_types[0].network_info.as_ref().unwrap();
    assert_eq!((network.maximum_network_interfaces, network.ipv4_addresses_per_interface), (Some(3), Some(10)));
}
