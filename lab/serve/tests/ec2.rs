//! EC2 over HTTP: our own client against the lab, signatures, refusals, the record, the fabric's events.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Plain, client, client_with, default_world, imds_settings, serve, serve_with_fabric, url};
use lab_cloud::{ACCESS_KEY, Caller, FabricEvent, Profile, SECRET_KEY, WorldSpec, id_for};
use lab_serve::{CallFilter, Service};
use vpc_aws::ec2::shapes::{
    AssignIpv6Addresses, AssignPrivateIpAddresses, AttachNetworkInterface, CreateNetworkInterface, CreateTags,
    DeleteNetworkInterface, DescribeInstanceTypes, DescribeInstances, DescribeNetworkInterfaces, DescribeSubnets,
    DescribeVpcs, DetachNetworkInterface, ErrorAnswer, Filter, Tag, UnassignPrivateIpAddresses,
};
use vpc_aws::{Ec2Settings, ec2, imds};
use vpc_model::{DeviceIndex, InstanceId};

#[tokio::test]
async fn our_client_walks_an_eni_through_its_life() {
    let lab = default_world();
    let ec2 = client(&url(&lab.ec2), ACCESS_KEY, SECRET_KEY);
    let mut create = CreateNetworkInterface::new(id_for("private-a"));
    create.secondary_private_ip_address_count = Some(2);
    create.description = Some("a <b> & \"c\"".into());
    create.client_token = Some("once".into());
    let eni = ec2.call(&create).await.unwrap().network_interface;
    let id = eni.network_interface_id;
    assert_eq!(ec2.call(&create).await.unwrap().network_interface.network_interface_id, id, "idempotent");

    let node: InstanceId = id_for("node-1");
    let attach = AttachNetworkInterface {
        network_interface_id: id.clone(),
        instance_id: node.clone(),
        device_index: DeviceIndex(1),
        network_card_index: None,
        dry_run: None,
    };
    let attachment_id = ec2.call(&attach).await.unwrap().attachment_id;
    let assigned = ec2.call(&AssignPrivateIpAddresses::addresses(id.clone(), 3)).await.unwrap();
    assert_eq!(assigned.assigned_private_ip_addresses.len(), 3);
    ec2.call(&AssignPrivateIpAddresses::prefixes(id.clone(), 1)).await.unwrap();
    let tags = vec![Tag::new("owner", "me")];
    ec2.call(&CreateTags { resources: vec![id.to_string()], tags: tags.clone(), dry_run: None }).await.unwrap();

    let ids = vec![id.clone()];
    let describe = DescribeNetworkInterfaces { network_interface_ids: ids, ..DescribeNetworkInterfaces::default() };
    let shown = ec2.call(&describe).await.unwrap().network_interfaces.remove(0);
    assert_eq!((shown.private_ip_addresses.len(), shown.ipv4_prefixes.len()), (6, 1));
    assert_eq!((shown.description.as_deref(), shown.tags), (Some("a <b> & \"c\""), tags));

    let addresses = assigned.assigned_private_ip_addresses.iter().map(|a| a.private_ip_address).collect();
    let unassign = UnassignPrivateIpAddresses {
        network_interface_id: id.clone(),
        private_ip_addresses: addresses,
        ipv4_prefixes: Vec::new(),
    };
    ec2.call(&unassign).await.unwrap();
    let no_ipv6 = ec2.call(&AssignIpv6Addresses::prefixes(id.clone(), 1)).await.unwrap_err().to_string();
    assert!(no_ipv6.contains("InvalidParameterValue") && no_ipv6.contains("has no IPv6 CIDR block"), "{no_ipv6}");
    ec2.call(&DetachNetworkInterface { attachment_id, force: None, dry_run: None }).await.unwrap();
    ec2.call(&DeleteNetworkInterface { network_interface_id: id, dry_run: None }).await.unwrap();
    let gone = ec2.call(&describe).await.unwrap_err();
    assert!(gone.is_not_found(), "{gone}");
}

#[tokio::test]
async fn every_describe_is_read_by_our_client() {
    let lab = default_world();
    let ec2 = client(&url(&lab.ec2), ACCESS_KEY, SECRET_KEY);
    let instances = ec2.call(&DescribeInstances::default()).await.unwrap();
    assert_eq!(instances.reservations.len(), 3);
    let filters = vec![Filter::new("availability-zone", ["us-west-2b"])];
    let subnets = ec2.call(&DescribeSubnets { filters, ..DescribeSubnets::default() }).await.unwrap();
    assert_eq!(subnets.subnets.len(), 3);
    assert_eq!(ec2.call(&DescribeVpcs::default()).await.unwrap().vpcs[0].cidr_block_associations.len(), 2);
    let types = ec2.all_pages(&DescribeInstanceTypes::default()).await.unwrap();
    assert_eq!(types.len(), vpc_model::all_instance_limits().len());
}

#[tokio::test]
async fn a_node_calls_with_the_credentials_of_its_role() {
    let lab = default_world();
    let imds = imds_settings(&url(&lab.imds));
    let settings = Ec2Settings { endpoint: Some(url(&lab.ec2)), ..Ec2Settings::default() };
    let credentials = ec2::default_chain(&settings, &imds, "us-west-2").await.unwrap();
    let own = imds::Client::new(imds, None).node().await.unwrap();
    assert_eq!((own.instance_id, own.region.as_str()), (id_for("node-1"), "us-west-2"));
    client_with(&url(&lab.ec2), credentials).call(&DescribeVpcs::default()).await.unwrap();
    let calls = lab.cloud.calls(&CallFilter::ec2());
    assert_eq!(calls[0].caller, Some(Caller::Instance(id_for("node-1"))));
    assert_eq!((calls[0].caller_name.as_deref(), calls[0].status), (Some("node-1"), 200));
    let imds = lab.cloud.calls(&CallFilter { service: Some(Service::Imds), ..CallFilter::default() });
    let of_keys: Vec<_> = imds.iter().filter(|call| call.action.contains("security-credentials/node-role")).collect();
    assert_eq!((of_keys.len(), of_keys[0].answer.as_str()), (1, "(credentials)"), "secrets are not recorded");
}

#[tokio::test]
async fn strangers_are_turned_away() {
    let lab = default_world();
    for (key, secret, code) in
        [("AKIANOBODY", SECRET_KEY, "AuthFailure"), (ACCESS_KEY, "another secret", "AuthFailure")]
    {
        let error = client(&url(&lab.ec2), key, secret).call(&DescribeVpcs::default()).await.unwrap_err();
        assert!(error.to_string().contains(code), "{error}");
    }
    let mut plain = Plain::connect(lab.ec2.address()).await;
    let got = plain.ask("POST /", &[], "Action=DescribeVpcs&Version=2016-11-15").await.unwrap();
    let error = ErrorAnswer::from_xml(&got.body).unwrap();
    assert_eq!((got.status, error.code.as_str()), (403, "MissingAuthenticationToken"));
    assert_eq!(common::header(&got.head, "x-amzn-requestid"), Some(error.request_id));
    let calls = lab.cloud.calls(&CallFilter { errors_only: true, ..CallFilter::ec2() });
    let recorded = calls.last().unwrap();
    assert_eq!((recorded.caller.as_ref(), recorded.action.as_str()), (None, "DescribeVpcs"));
}

/// Signs a form as a client would and gives the code of the refusal.
async fn refusal(lab: &common::Served, form: &str) -> (u16, String) {
    let credentials = ec2::Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test");
    let url = format!("{}/", url(&lab.ec2));
    let signed =
        ec2::signature::sign(&url, &[], form.as_bytes(), "us-west-2", &credentials, std::time::SystemTime::now());
    let address = lab.ec2.address().to_string();
    let mut stream = Plain::connect(lab.ec2.address()).await;
    let signed = signed.unwrap();
    // `Plain` sends its own host header; the signature is over the real one.
    let headers: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let got = stream.ask_as(&address, "POST /", &headers, form).await.unwrap();
    let error = ErrorAnswer::from_xml(&got.body).unwrap();
    (got.status, format!("{}: {}", error.code, error.message))
}

#[tokio::test]
async fn malformed_requests_are_named() {
    let lab = default_world();
    let v = "Version=2016-11-15";
    for (form, status, code, part) in [
        (format!("Action=DescribeVpc&{v}"), 400, "InvalidAction", "DescribeVpc"),
        (format!("Action=DescribeVpcs&{v}&VpcIds.1=vpc-1"), 400, "UnknownParameter", "VpcIds.1"),
        (format!("Action=CreateNetworkInterface&{v}"), 400, "MissingParameter", "SubnetId"),
        (format!("Action=CreateNetworkInterface&{v}&SubnetId=sub-1"), 400, "InvalidSubnetID.Malformed", "sub-1"),
        (format!("Action=CreateNetworkInterface&{v}&SubnetId=subnet-1"), 400, "InvalidSubnetID.NotFound", "subnet-1"),
        (
            format!("Action=AssignIpv6Addresses&{v}&NetworkInterfaceId=eni-1&Ipv6PrefixCount=1&DryRun=true"),
            400,
            "UnknownParameter",
            "DryRun",
        ),
        (
            format!("Action=UnassignIpv6Addresses&{v}&NetworkInterfaceId=eni-1&Ipv6Prefix.1=fd00::"),
            400,
            "InvalidParameterValue",
            "Ipv6Prefix.1",
        ),
        (format!("Action=DescribeVpcs&{v}&DryRun=maybe"), 400, "InvalidParameterValue", "DryRun"),
        (format!("Action=DescribeVpcs&{v}&DryRun=true"), 412, "DryRunOperation", "DryRun flag"),
        ("Action=DescribeVpcs".to_owned(), 400, "MissingParameter", "Version"),
        ("Action=DescribeVpcs&Version=2010-01-01".to_owned(), 400, "NoSuchVersion", "2010-01-01"),
        (String::new(), 400, "MissingParameter", "Action"),
    ] {
        let (got, text) = refusal(&lab, &form).await;
        assert_eq!(got, status, "{form}: {text}");
        assert!(text.starts_with(code) && text.contains(part), "{form}: {text}");
    }
    let mut plain = Plain::connect(lab.ec2.address()).await;
    assert_eq!(plain.ask("POST /other", &[], "").await.unwrap().status, 404);
    assert_eq!(plain.ask("DELETE /", &[], "").await.unwrap().status, 405);
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(plain.ask("POST /", &[], &large).await.unwrap().status, 413);
}

#[tokio::test]
async fn calls_are_recorded_with_parameters_and_answers() {
    let lab = default_world();
    let ec2 = client(&url(&lab.ec2), ACCESS_KEY, SECRET_KEY);
    let _ =
        ec2.call(&DeleteNetworkInterface { network_interface_id: "eni-0none".parse().unwrap(), dry_run: None }).await;
    ec2.call(&DescribeVpcs::default()).await.unwrap();
    let calls = lab.cloud.calls(&CallFilter::ec2());
    assert_eq!(calls.iter().map(|call| call.number).collect::<Vec<_>>(), [1, 2]);
    let refused = &calls[0];
    assert_eq!(refused.parameters, [("NetworkInterfaceId".to_owned(), "eni-0none".to_owned())]);
    assert_eq!(refused.error.as_deref(), Some("InvalidNetworkInterfaceID.NotFound"));
    assert!(calls[1].answer.contains("<vpcId>") && calls[1].caller == Some(Caller::Account));
    assert_ne!(refused.request_id, calls[1].request_id);
    assert!(serde_json::to_string(&calls).unwrap().contains(r#""action":"DescribeVpcs""#));
}

#[tokio::test]
async fn an_answer_waits_until_the_fabric_has_followed() {
    let (lab, mut deliveries) = serve_with_fabric(WorldSpec::default_topology(), Profile::instant());
    let first = deliveries.recv().await.unwrap();
    assert_eq!(first.events.len(), 4);
    first.done();
    let ec2 = client(&url(&lab.ec2), ACCESS_KEY, SECRET_KEY);
    let made = Arc::new(AtomicBool::new(false));
    let fabric = tokio::spawn({
        let made = made.clone();
        async move {
            let delivery = deliveries.recv().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            made.store(true, Ordering::SeqCst);
            let events = delivery.events.clone();
            delivery.done();
            events
        }
    });
    let eni = lab.cloud.snapshot().instances[0].enis[0].clone();
    ec2.call(&AssignPrivateIpAddresses::addresses(eni.clone(), 1)).await.unwrap();
    assert!(made.load(Ordering::SeqCst), "the address is usable when EC2 answers");
    let events = fabric.await.unwrap();
    assert!(matches!(&events[..], [FabricEvent::EniChanged { eni: changed, .. }] if changed.id == eni), "{events:?}");
}

#[tokio::test]
async fn power_is_heard_by_the_fabric_and_seen_in_the_snapshot() {
    let (lab, mut deliveries) = serve_with_fabric(WorldSpec::default_topology(), Profile::instant());
    deliveries.recv().await.unwrap().done();
    let node: InstanceId = id_for("node-2");
    let cloud = lab.cloud.clone();
    let off = tokio::spawn({
        let node = node.clone();
        async move { cloud.power(&node, false).await }
    });
    let delivery = deliveries.recv().await.unwrap();
    assert_eq!(delivery.events, [FabricEvent::InstanceStopped { instance: node.clone() }]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!off.is_finished(), "it waits for the fabric");
    delivery.done();
    off.await.unwrap().unwrap();
    let state = |id: &InstanceId| lab.cloud.snapshot().instances.iter().find(|i| i.id == *id).unwrap().state.clone();
    assert_eq!(state(&node), "stopped");
    let ghost: InstanceId = "i-0ghost".parse().unwrap();
    assert_eq!(lab.cloud.power(&ghost, false).await.unwrap_err().code, "InvalidInstanceID.NotFound");
}

#[tokio::test]
async fn in_the_profile_of_aws_calls_take_their_time() {
    let lab = serve(WorldSpec::default_topology(), Profile::aws());
    let ec2 = client(&url(&lab.ec2), ACCESS_KEY, SECRET_KEY);
    let begun = Instant::now();
    ec2.call(&CreateNetworkInterface::new(id_for("private-a"))).await.unwrap();
    assert!((390..1500).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}
