//! What stands between a call and its deed: buckets, policies, lag, faults.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;

use common::{Lab, instance, subnet};
use lab_cloud::{
    ApiError, Bucket, Caller, Cloud, CloudFault, Consistency, ErrorWhen, FaultError, ImdsQuirks, Output, OutsideEvent,
    Profile, RoleSpec, Setup, Span, Throttle, VPC_CNI_POLICY, WorldError, WorldSpec,
};
use serde_json::json;
use vpc_aws::ec2::shapes::{
    AnyRequest, AnyResponse, AssignPrivateIpAddresses, CreateNetworkInterface, CreateTags, DeleteNetworkInterface,
    DescribeNetworkInterfaces, DescribeSubnets, DescribeVpcs, DetachNetworkInterface, Filter, ResourceType, Tag,
    TagSpecification,
};
use vpc_model::{EniId, Millis, Slot, Time};

fn lab(setup: Setup) -> Lab {
    lab_of(WorldSpec::default_topology(), setup)
}

fn lab_of(spec: WorldSpec, setup: Setup) -> Lab {
    let mut lab = Lab { cloud: Cloud::new(spec, setup).unwrap(), now: Time(0), events: Vec::new() };
    lab.pass(0);
    lab
}

/// Calls as an instance does.
fn call_as(lab: &mut Lab, node: &str, request: impl Into<AnyRequest>) -> Result<AnyResponse, ApiError> {
    let call = lab.cloud.submit(lab.now, &Caller::Instance(instance(node)), request.into());
    lab.pass(0)
        .into_iter()
        .find_map(|output| match output {
            Output::Answer { call: answered, result, .. } if answered == call => Some(result.map(|answer| *answer)),
            _ => None,
        })
        .expect("an instant answer")
}

fn code<T: std::fmt::Debug>(result: Result<T, ApiError>) -> (String, u16) {
    let error = result.unwrap_err();
    (error.code.into_owned(), error.status)
}

fn create() -> CreateNetworkInterface {
    CreateNetworkInterface::new(subnet("private-a"))
}

// -- throttling --------------------------------------------------------------------------------------------------------

#[test]
fn two_hundred_nodes_want_an_eni_at_once() {
    let mut lab = lab(Setup { throttle: Throttle::aws(), ..Setup::default() });
    let (mut left, mut seconds, mut attached) = (200_u32, 0_u64, Vec::new());
    while left > 0 {
        let mut failed = 0;
        for _ in 0..left {
            match lab.create(create()) {
                Ok(eni) => attached.push(eni.network_interface_id),
                Err(error) => {
                    assert_eq!((error.code.as_ref(), error.status), ("RequestLimitExceeded", 503));
                    assert_eq!(error.message, "Request limit exceeded.");
                    failed += 1;
                }
            }
        }
        match seconds {
            0 => assert_eq!(failed, 100, "the bucket holds a hundred"),
            _ => assert_eq!(left - failed, 5, "five more a second"),
        }
        left = failed;
        seconds += u64::from(left > 0);
        lab.pass(1000);
    }
    assert_eq!((seconds, attached.len()), (20, 200));
    // Attaching has a bucket of fifty, whoever attaches: 150 of 200 remain for thirty seconds.
    lab.pass(60_000);
    let answers = |lab: &mut Lab| {
        let all = attached.iter().map(|eni| lab.attach(eni, "node-1", 99));
        all.filter(|answer| answer.as_ref().err().is_none_or(|error| error.code != "RequestLimitExceeded")).count()
    };
    assert_eq!(answers(&mut lab), 50);
    lab.pass(1000);
    assert_eq!(answers(&mut lab), 5);
}

#[test]
fn reading_everything_is_dearer_than_reading_something() {
    let mut lab = lab(Setup { throttle: Throttle::aws(), ..Setup::default() });
    let served =
        |lab: &mut Lab, request: DescribeSubnets| (0..200).filter(|_| lab.call(request.clone()).is_ok()).count();
    let filters = vec![Filter::new("vpc-id", ["*"])];
    assert_eq!(served(&mut lab, DescribeSubnets::default()), 50);
    assert_eq!(served(&mut lab, DescribeSubnets { filters, ..DescribeSubnets::default() }), 100);
    assert!(lab.call(DescribeVpcs::default()).is_ok(), "each action has a bucket of its own");
}

#[test]
fn buckets_can_be_set_one_by_one_and_are_shared_by_all_nodes() {
    let actions = BTreeMap::from([("CreateTags".to_owned(), Bucket { capacity: 2, refill_per_second: 1 })]);
    let mut lab = lab(Setup { throttle: Throttle { actions, ..Throttle::off() }, ..Setup::default() });
    let eni = lab.primary("node-1");
    let tag = CreateTags { resources: vec![eni.to_string()], tags: vec![Tag::new("a", "b")], dry_run: None };
    assert!(call_as(&mut lab, "node-1", tag.clone()).is_ok() && call_as(&mut lab, "node-2", tag.clone()).is_ok());
    assert_eq!(code(call_as(&mut lab, "node-3", tag.clone())).0, "RequestLimitExceeded");
    lab.pass(999);
    assert_eq!(code(call_as(&mut lab, "node-3", tag.clone())).1, 503);
    lab.pass(1);
    assert!(call_as(&mut lab, "node-3", tag).is_ok());
    assert!((0..500).all(|_| lab.call(DescribeVpcs::default()).is_ok()), "the others have none");
}

// -- policies ----------------------------------------------------------------------------------------------------------

fn with_policy(policy: &str) -> Lab {
    let mut spec = WorldSpec::default_topology();
    spec.roles.push(RoleSpec { name: "node-role".to_owned(), policy: Some(policy.to_owned()) });
    lab_of(spec, Setup::default())
}

#[test]
fn a_role_does_what_its_policy_allows_and_the_account_everything() {
    let mut lab = with_policy(VPC_CNI_POLICY);
    assert!(call_as(&mut lab, "node-1", create()).is_ok());
    let error = call_as(&mut lab, "node-1", DescribeVpcs::default()).unwrap_err();
    assert_eq!((error.code.as_ref(), error.status), ("UnauthorizedOperation", 403));
    let who = format!("arn:aws:sts::111122223333:assumed-role/node-role/{}", instance("node-1"));
    assert!(
        error.message.starts_with("You are not authorized to perform this operation. User: arn:aws:sts"),
        "{error}"
    );
    assert!(error.message.contains(&who) && error.message.contains("ec2:DescribeVpcs"), "{error}");
    assert!(error.message.contains("because no identity-based policy allows"), "{error}");
    assert!(lab.call(DescribeVpcs::default()).is_ok());

    let eni = lab.primary("node-1").to_string();
    let tags = vec![Tag::new("a", "b")];
    let tag = |resource: String| CreateTags { resources: vec![resource], tags: tags.clone(), dry_run: None };
    assert!(call_as(&mut lab, "node-1", tag(eni)).is_ok());
    assert_eq!(code(call_as(&mut lab, "node-1", tag(subnet("private-a").to_string()))).0, "UnauthorizedOperation");
}

#[test]
fn a_dry_run_says_whether_one_might() {
    let mut lab = with_policy(VPC_CNI_POLICY);
    let dry = |request: CreateNetworkInterface| CreateNetworkInterface { dry_run: Some(true), ..request };
    assert_eq!(code(call_as(&mut lab, "node-1", dry(create()))), ("DryRunOperation".to_owned(), 412));
    let vpcs = DescribeVpcs { dry_run: Some(true), ..DescribeVpcs::default() };
    assert_eq!(code(call_as(&mut lab, "node-1", vpcs)), ("UnauthorizedOperation".to_owned(), 403));
}

/// The pattern of the reference's documentation: only ENIs that bear the cluster's name.
const SCOPED: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "ec2:CreateNetworkInterface", "Resource": "arn:aws:ec2:*:*:network-interface/*",
     "Condition": {"StringEquals": {"aws:RequestTag/cluster.k8s.amazonaws.com/name": "blue"}}},
    {"Effect": "Allow", "Action": "ec2:CreateNetworkInterface",
     "Resource": ["arn:aws:ec2:*:*:subnet/*", "arn:aws:ec2:*:*:security-group/*"]},
    {"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "arn:aws:ec2:*:*:network-interface/*",
     "Condition": {"StringEquals": {"ec2:CreateAction": "CreateNetworkInterface"}}},
    {"Effect": "Allow", "Action": ["ec2:DeleteNetworkInterface", "ec2:AssignPrivateIpAddresses"], "Resource": "*",
     "Condition": {"StringEquals": {"aws:ResourceTag/cluster.k8s.amazonaws.com/name": "blue"}}}]}"#;

#[test]
fn a_scoped_policy_looks_at_tags() {
    let mut lab = with_policy(SCOPED);
    let tagged = |value: &str| {
        let mut request = create();
        let tags = vec![Tag::new("cluster.k8s.amazonaws.com/name", value)];
        request.tag_specifications = vec![TagSpecification { resource_type: ResourceType::NetworkInterface, tags }];
        request
    };
    assert_eq!(code(call_as(&mut lab, "node-1", create())).0, "UnauthorizedOperation");
    assert_eq!(code(call_as(&mut lab, "node-1", tagged("red"))).0, "UnauthorizedOperation");
    let Ok(AnyResponse::CreateNetworkInterface(made)) = call_as(&mut lab, "node-1", tagged("blue")) else { panic!() };
    let own = made.network_interface.network_interface_id;
    let other = lab.create(tagged("red")).unwrap().network_interface_id;
    let tags = CreateTags { resources: vec![own.to_string()], tags: vec![Tag::new("a", "b")], dry_run: None };
    assert_eq!(code(call_as(&mut lab, "node-1", tags)).0, "UnauthorizedOperation", "tags only with the creation");
    for (eni, allowed) in [(own, true), (other, false)] {
        let assigned = call_as(&mut lab, "node-1", AssignPrivateIpAddresses::addresses(eni.clone(), 1));
        let deleted = call_as(&mut lab, "node-1", DeleteNetworkInterface { network_interface_id: eni, dry_run: None });
        assert_eq!((assigned.is_ok(), deleted.is_ok()), (allowed, allowed));
    }
}

#[test]
fn a_policy_that_cannot_be_used_is_no_world() {
    let mut spec = WorldSpec::default_topology();
    spec.roles.push(RoleSpec { name: "odd".to_owned(), policy: Some(r#"{"Version": "2012-10-17"}"#.to_owned()) });
    let error = Cloud::new(spec, Setup::default()).unwrap_err();
    assert!(matches!(&error, WorldError::Policy { role, .. } if role == "odd"), "{error}");
    assert!(error.to_string().contains("Statement"), "{error}");
}

// -- lag ---------------------------------------------------------------------------------------------------------------

fn lagging(consistency: Consistency) -> Lab {
    let mut lab = lab(Setup { consistency, ..Setup::default() });
    lab.pass(10_000);
    lab
}

#[test]
fn a_fresh_id_is_not_found_for_a_moment() {
    let mut lab = lagging(Consistency { fresh_ids: Span::between(1000, 1000), ..Consistency::off() });
    let eni = lab.create(create()).unwrap().network_interface_id;
    assert!(lab.describe(DescribeNetworkInterfaces::default()).unwrap().iter().any(|e| e.network_interface_id == eni));
    assert_eq!(lab.attach(&eni, "node-1", 1).unwrap_err().code, "InvalidNetworkInterfaceID.NotFound");
    lab.pass(1000);
    let attachment_id = lab.attach(&eni, "node-1", 1).unwrap();
    let detach = DetachNetworkInterface { attachment_id, force: None, dry_run: None };
    assert_eq!(code(lab.call(detach.clone())).0, "InvalidAttachmentID.NotFound");
    lab.pass(1000);
    lab.call(detach).unwrap();
}

#[test]
fn attributes_and_tags_lag_each_by_their_own_time() {
    let consistency =
        Consistency { attributes: Span::between(1000, 1000), tags: Span::between(3000, 3000), ..Consistency::off() };
    let mut lab = lagging(consistency);
    let eni = lab.primary("node-1");
    lab.assign(AssignPrivateIpAddresses::addresses(eni.clone(), 1)).unwrap();
    let tags = vec![Tag::new("colour", "blue")];
    lab.call(CreateTags { resources: vec![eni.to_string()], tags, dry_run: None }).unwrap();
    let by_tag = |lab: &mut Lab| {
        let filters = vec![Filter::new("tag:colour", ["blue"])];
        lab.describe(DescribeNetworkInterfaces { filters, ..DescribeNetworkInterfaces::default() }).unwrap().len()
    };
    assert_eq!((lab.show(&eni).private_ip_addresses.len(), by_tag(&mut lab)), (1, 0));
    lab.pass(1000);
    assert_eq!((lab.show(&eni).private_ip_addresses.len(), by_tag(&mut lab)), (2, 0));
    lab.pass(2000);
    assert_eq!(by_tag(&mut lab), 1);
    lab.call(DeleteNetworkInterface { network_interface_id: eni, dry_run: None }).unwrap_err();
    let gone = lab.create(create()).unwrap().network_interface_id;
    lab.pass(5000);
    lab.call(DeleteNetworkInterface { network_interface_id: gone.clone(), dry_run: None }).unwrap();
    assert_eq!(lab.show(&gone).network_interface_id, gone, "what is gone is still shown for a moment");
}

#[test]
fn imds_can_list_macs_with_nothing_below() {
    let quirks = ImdsQuirks { hollow_when_new: true, hollow_when_gone: true };
    let profile = Profile {
        imds_secondaries: Span::between(1000, 1000),
        imds_drop: Span::between(1000, 1000),
        ..Profile::instant()
    };
    let mut lab = lab(Setup { profile, imds: quirks, ..Setup::default() });
    let (eni, attachment_id) = lab.attached(1);
    lab.pass(0);
    let below = format!("meta-data/network/interfaces/macs/{}", lab.show(&eni).mac_address);
    let looks = |lab: &mut Lab| {
        let listed = lab.imds("node-1", "meta-data/network/interfaces/macs").unwrap().lines().count();
        (listed, lab.imds("node-1", &format!("{below}/interface-id")))
    };
    assert_eq!(looks(&mut lab), (2, None));
    lab.pass(1000);
    assert_eq!(looks(&mut lab), (2, Some(eni.to_string())));
    lab.call(DetachNetworkInterface { attachment_id, force: None, dry_run: None }).unwrap();
    lab.pass(0);
    assert_eq!(looks(&mut lab), (2, None));
    lab.pass(1000);
    assert_eq!(looks(&mut lab), (1, None));
}

// -- faults ------------------------------------------------------------------------------------------------------------

fn fault(toml_like: serde_json::Value) -> CloudFault {
    serde_json::from_value(toml_like).unwrap()
}

#[test]
fn a_fault_that_cannot_be_is_refused_by_its_field() {
    let mut lab = Lab::instant();
    for (value, parts) in [
        (serde_json::json!({"fault": "imds-stale", "node": "node-9"}), ["node", "node-9", "node-1, node-2, node-3"]),
        (serde_json::json!({"fault": "subnet-exhausted", "subnet": "s"}), ["subnet", "`s`", "private-a"]),
        (serde_json::json!({"fault": "deny", "action": "CreateTag"}), ["action", "`CreateTag`", "CreateTags"]),
        (serde_json::json!({"fault": "error", "action": "*", "status": 200}), ["status", "200", "400 to 599"]),
        (serde_json::json!({"fault": "error", "action": "*", "times": 0}), ["times", "`0`", "from 1"]),
        (serde_json::json!({"fault": "error", "action": "*", "code": ""}), ["code", "``", "InternalError"]),
        (serde_json::json!({"fault": "imds-error", "node": "node-1", "status": 99}), ["status", "99", "400 to 599"]),
    ] {
        let error = lab.cloud.inject(lab.now, fault(value)).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let unknown = serde_json::from_value::<CloudFault>(serde_json::json!({"fault": "clock-skew", "by_ms": 1, "x": 1}));
    assert!(unknown.unwrap_err().to_string().contains('x'));
    let lifted = lab.cloud.lift(lab.now, lab_cloud::FaultId(7)).unwrap_err();
    assert!(matches!(lifted, FaultError::Unknown { .. }), "{lifted}");
    assert!(lab.cloud.faults().is_empty());
}

#[test]
fn a_crowded_subnet_gives_all_three_shortages_and_is_free_again() {
    let mut lab = Lab::instant();
    let before = lab.free("private-a");
    let eni = lab.create(create()).unwrap().network_interface_id;
    let prefix = |lab: &mut Lab| code(lab.assign(AssignPrivateIpAddresses::prefixes(eni.clone(), 1)).map(|_| ())).0;
    let fragmented =
        lab.cloud.inject(lab.now, CloudFault::SubnetFragmented { subnet: "private-a".into(), leave: 0 }).unwrap();
    assert_eq!(prefix(&mut lab), "InsufficientCidrBlocks");
    assert!(lab.assign(AssignPrivateIpAddresses::addresses(eni.clone(), 1)).is_ok());
    let full = CloudFault::SubnetExhausted { subnet: subnet("private-a").to_string(), leave: 3 };
    let exhausted = lab.cloud.inject(lab.now, full).unwrap();
    assert_eq!(lab.free("private-a"), 3);
    assert_eq!(prefix(&mut lab), "InvalidParameterValue");
    let four = lab.assign(AssignPrivateIpAddresses::addresses(eni.clone(), 4)).map(|_| ());
    assert_eq!(code(four).0, "InsufficientFreeAddressesInSubnet");
    let hits: Vec<_> = lab.cloud.faults().iter().map(|fault| (fault.id, fault.hits)).collect();
    assert_eq!(hits, [(fragmented, 4), (exhausted, 2)], "calls that ask for addresses there");
    lab.cloud.lift(lab.now, fragmented).unwrap();
    lab.cloud.lift(lab.now, exhausted).unwrap();
    assert_eq!(lab.free("private-a"), before - 2);
    assert!(lab.assign(AssignPrivateIpAddresses::prefixes(eni, 1)).is_ok());
}

#[test]
fn faults_of_imds_can_be_about_all_nodes() {
    let mut lab = Lab::instant();
    let stale = lab.cloud.inject(lab.now, fault(json!({ "fault": "imds-stale", "node": "*" }))).unwrap();
    let (eni, _) = lab.attached(1);
    let mac = lab.show(&eni).mac_address.to_string();
    let macs = |lab: &mut Lab| lab.imds("node-1", "meta-data/network/interfaces/macs").unwrap();
    assert!(!macs(&mut lab).contains(&mac));
    lab.cloud.lift(lab.now, stale).unwrap();
    assert!(macs(&mut lab).contains(&mac));
    for kind in ["imds-partial", "imds-reordered", "imds-missing", "imds-hollow"] {
        let fault = lab.cloud.inject(lab.now, fault(json!({ "fault": kind, "node": "*" }))).unwrap();
        lab.cloud.lift(lab.now, fault).unwrap();
    }
    lab.cloud.inject(lab.now, fault(json!({ "fault": "imds-error", "node": "*", "status": 503 }))).unwrap();
    for node in ["node-1", "node-2", "node-3"] {
        assert_eq!(lab.cloud.imds_arrival(lab.now, &instance(node), false).refusal, Some(503), "{node}");
    }
}

#[test]
fn imds_takes_its_time_in_the_profile_aws() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 1);
    let id = instance("node-1");
    let delays: Vec<_> = (0..200).map(|_| lab.cloud.imds_arrival(lab.now, &id, false).delay.0).collect();
    assert!(delays.iter().all(|delay| (1..=30).contains(delay)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay != delays[0]));
    let mut instant = Lab::instant();
    assert_eq!(instant.cloud.imds_arrival(instant.now, &id, false).delay, Millis(0));
}

#[test]
fn an_attachment_is_stuck_until_the_fault_is_lifted() {
    let mut lab = Lab::new(WorldSpec::default_topology(), Profile::aws(), 3);
    let stuck = lab.cloud.inject(lab.now, CloudFault::AttachStuck { node: Some("node-1".into()) }).unwrap();
    let (eni, _) = lab.attached(1);
    lab.pass(600_000);
    let status = |lab: &mut Lab| lab.show(&eni).attachment.unwrap().status.to_string();
    let macs = |lab: &mut Lab| lab.imds("node-1", "meta-data/network/interfaces/macs").unwrap().lines().count();
    assert_eq!((status(&mut lab).as_str(), macs(&mut lab)), ("attaching", 1));
    assert_eq!(lab.cloud.faults()[0].hits, 1);
    lab.cloud.lift(lab.now, stuck).unwrap();
    lab.pass(60_000);
    assert_eq!((status(&mut lab).as_str(), macs(&mut lab)), ("attached", 2));
}

#[test]
fn a_slow_detachment_takes_longer_by_so_much() {
    let mut lab = Lab::instant();
    let slow = CloudFault::DetachSlow { node: None, by_ms: 20_000 };
    let (eni, attachment_id) = lab.attached(1);
    let id = lab.cloud.inject(lab.now, slow).unwrap();
    lab.call(DetachNetworkInterface { attachment_id, force: None, dry_run: None }).unwrap();
    lab.pass(19_999);
    assert!(lab.show(&eni).attachment.is_some());
    lab.pass(1);
    assert!(lab.show(&eni).attachment.is_none());
    assert_eq!(lab.cloud.faults()[0].hits, 1);
    lab.cloud.lift(lab.now, id).unwrap();
}

#[test]
fn errors_follow_their_script() {
    let mut lab = Lab::instant();
    let script = CloudFault::Error {
        action: "Create*Interface".into(),
        node: None,
        code: "InternalError".into(),
        message: None,
        status: None,
        when: ErrorWhen::After,
        skip: 1,
        times: Some(2),
    };
    lab.cloud.inject(lab.now, script).unwrap();
    let codes: Vec<_> = (0..4).map(|_| lab.create(create()).err().map(|error| error.status)).collect();
    assert_eq!(codes, [None, Some(500), Some(500), None]);
    assert_eq!(lab.cloud.snapshot(lab.now).enis.len(), 4 + 4, "what failed was done all the same");
    assert_eq!(lab.cloud.faults()[0].hits, 2);
}

#[test]
fn somebody_outside_takes_enis_addresses_and_tags() {
    let mut lab = Lab::instant();
    let (eni, _) = lab.attached(1);
    lab.assign(AssignPrivateIpAddresses::addresses(eni.clone(), 1)).unwrap();
    let own = lab.show(&eni).private_ip_addresses[1].private_ip_address;
    let tags = vec![Tag::new("a", "1"), Tag::new("b", "2")];
    lab.call(CreateTags { resources: vec![eni.to_string()], tags, dry_run: None }).unwrap();
    lab.events.clear();

    let removed = serde_json::json!({"event": "address-removed", "address": own.to_string()});
    let removed: OutsideEvent = serde_json::from_value(removed).unwrap();
    assert_eq!(removed, OutsideEvent::AddressRemoved { address: Slot::Address(own) });
    lab.cloud.outside(lab.now, removed.clone()).unwrap();
    lab.pass(0);
    assert_eq!(lab.show(&eni).private_ip_addresses.len(), 1);
    assert_eq!(lab.events.len(), 1, "the fabric hears of it");
    assert!(lab.cloud.outside(lab.now, removed).unwrap_err().to_string().contains(&own.to_string()));

    let keys = |keys: &[&str]| OutsideEvent::TagsRemoved {
        eni: eni.clone(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    lab.cloud.outside(lab.now, keys(&["a"])).unwrap();
    assert_eq!(lab.show(&eni).tags, [Tag::new("b", "2")]);
    assert!(lab.cloud.outside(lab.now, keys(&["a"])).unwrap_err().to_string().contains("one of b"));
    lab.cloud.outside(lab.now, keys(&[])).unwrap();
    assert!(lab.show(&eni).tags.is_empty());

    let primary = lab.primary("node-1");
    let refused = lab.cloud.outside(lab.now, OutsideEvent::EniRemoved { eni: primary }).unwrap_err();
    assert!(refused.to_string().contains("not the primary one"), "{refused}");
    lab.cloud.outside(lab.now, OutsideEvent::EniRemoved { eni: eni.clone() }).unwrap();
    lab.settle();
    assert!(matches!(lab.events.last(), Some(lab_cloud::FabricEvent::EniDetached { eni: gone, .. }) if *gone == eni));
    assert_eq!(lab.imds("node-1", "meta-data/network/interfaces/macs").unwrap().lines().count(), 1);
    let ghost: EniId = "eni-0ghost".parse().unwrap();
    assert!(lab.cloud.outside(lab.now, OutsideEvent::EniRemoved { eni: ghost }).is_err());
}
