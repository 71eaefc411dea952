//! Every fault on the wire: what a client meets while it holds, that it is counted and shown, and that lifting it mends all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Instant;

use common::{Plain, Served, client, client_with, default_world, header, imds_settings, post_signed, url};
use lab_cloud::{ACCESS_KEY, CloudFault, FaultId, OutsideEvent, SECRET_KEY, id_for};
use lab_serve::{CallFilter, Service};
use vpc_aws::ec2::shapes::{
    AssignPrivateIpAddresses, AttachNetworkInterface, CreateNetworkInterface, DescribeNetworkInterfaces,
    DetachNetworkInterface, ErrorAnswer,
};
use vpc_aws::ec2::{self, Client};
use vpc_aws::{Ec2Settings, imds};
use vpc_model::{AttachmentId, DeviceIndex, EniId};

const V: &str = "Version=2016-11-15";
const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
const MACS: &str = "/latest/meta-data/network/interfaces/macs/";

async fn inject(lab: &Served, fault: serde_json::Value) -> FaultId {
    let fault: CloudFault = serde_json::from_value(fault).unwrap();
    lab.cloud.inject(fault).await.unwrap()
}

fn hits(lab: &Served, id: FaultId) -> u64 {
    lab.cloud.faults().into_iter().find(|fault| fault.id == id).unwrap().hits
}

/// Lifts a fault that has struck, and sees that the record names it.
async fn lift(lab: &Served, id: FaultId) {
    assert!(hits(lab, id) > 0, "nobody was hit");
    let recorded = lab.cloud.calls(&CallFilter { fault: Some(id), ..CallFilter::default() });
    assert!(!recorded.is_empty(), "no call names the fault");
    lab.cloud.lift(id).await.unwrap();
    assert!(lab.cloud.faults().iter().all(|fault| fault.id != id));
}

async fn code_of(lab: &Served, form: &str) -> (u16, String) {
    let got = post_signed(&lab.ec2, form).await.expect("an answer");
    (got.status, ErrorAnswer::from_xml(&got.body).map(|error| error.code).unwrap_or_default())
}

fn ok() -> (u16, String) {
    (200, String::new())
}

/// A client with the credentials of `node-1`.
async fn node(lab: &Served) -> Client {
    let settings = Ec2Settings { endpoint: Some(url(&lab.ec2)), ..Ec2Settings::default() };
    let chain = ec2::default_chain(&settings, &imds_settings(&url(&lab.imds)), "us-west-2").await.unwrap();
    client_with(&url(&lab.ec2), chain)
}

fn account(lab: &Served) -> Client {
    client(&url(&lab.ec2), ACCESS_KEY, SECRET_KEY)
}

/// An ENI with secondary addresses, on `node-1`.
async fn second_eni(lab: &Served) -> (EniId, AttachmentId) {
    let ec2 = account(lab);
    let mut create = CreateNetworkInterface::new(id_for("private-a"));
    create.secondary_private_ip_address_count = Some(5);
    let id = ec2.call(&create).await.unwrap().network_interface.network_interface_id;
    let attach = AttachNetworkInterface {
        network_interface_id: id.clone(),
        instance_id: id_for("node-1"),
        device_index: DeviceIndex(1),
        network_card_index: None,
        dry_run: None,
    };
    let attachment = ec2.call(&attach).await.unwrap().attachment_id;
    lab.cloud.settle().await;
    (id, attachment)
}

/// A session with IMDS.
struct Session {
    plain: Plain,
    token: String,
}

impl Session {
    async fn begin(lab: &Served) -> Self {
        let mut plain = Plain::connect(lab.imds.address()).await;
        let token = plain.ask("PUT /latest/api/token", &[(TTL, "600")], "").await.unwrap().body;
        Self { plain, token }
    }

    async fn get(&mut self, path: &str) -> (u16, String) {
        let got = self.plain.ask(&format!("GET {path}"), &[(TOKEN, &self.token)], "").await.unwrap();
        (got.status, got.body)
    }

    /// The paths of all MACs, the primary one first.
    async fn macs(&mut self) -> Vec<String> {
        let primary = self.get("/latest/meta-data/mac").await.1;
        let mut macs: Vec<_> = self.get(MACS).await.1.lines().map(|mac| format!("{MACS}{mac}")).collect();
        macs.sort_by_key(|mac| !mac.contains(&primary));
        macs
    }
}

// -- EC2 ---------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn calls_take_longer() {
    let lab = default_world();
    let node = node(&lab).await;
    let fault = serde_json::json!({"fault": "latency", "action": "Describe*", "node": "node-1", "add_ms": 300, "jitter_ms": 50});
    let id = inject(&lab, fault).await;
    let begun = Instant::now();
    node.call(&DescribeNetworkInterfaces::default()).await.unwrap();
    assert!(begun.elapsed().as_millis() >= 300, "{:?}", begun.elapsed());
    account(&lab).call(&DescribeNetworkInterfaces::default()).await.unwrap();
    assert_eq!(hits(&lab, id), 1, "the account's calls are nobody's node");
    lift(&lab, id).await;
    node.call(&DescribeNetworkInterfaces::default()).await.unwrap();
    let last = lab.cloud.calls(&CallFilter::ec2()).pop().unwrap();
    assert!(last.faults.is_empty(), "{last:?}");
}

#[tokio::test]
async fn buckets_are_smaller() {
    let lab = default_world();
    let describe = format!("Action=DescribeVpcs&{V}");
    let fault = serde_json::json!({"fault": "throttle", "action": "Describe*", "capacity": 1, "refill_per_second": 0});
    let id = inject(&lab, fault).await;
    assert_eq!(code_of(&lab, &describe).await, ok());
    assert_eq!(code_of(&lab, &describe).await, (503, "RequestLimitExceeded".to_owned()));
    assert_eq!(code_of(&lab, &format!("Action=DescribeSubnets&{V}")).await, ok(), "a bucket for each action");
    assert_eq!(hits(&lab, id), 1);
    lift(&lab, id).await;
    assert_eq!(code_of(&lab, &describe).await, ok());
}

#[tokio::test]
async fn an_action_is_denied_to_a_node() {
    let lab = default_world();
    let node = node(&lab).await;
    let id = inject(&lab, serde_json::json!({"fault": "deny", "action": "Create*", "node": "node-1"})).await;
    let create = CreateNetworkInterface::new(id_for("private-a"));
    let error = node.call(&create).await.unwrap_err().to_string();
    assert!(error.contains("UnauthorizedOperation") && error.contains("explicit deny"), "{error}");
    account(&lab).call(&create).await.unwrap();
    node.call(&DescribeNetworkInterfaces::default()).await.unwrap();
    lift(&lab, id).await;
    node.call(&create).await.unwrap();
}

#[tokio::test]
async fn errors_come_before_or_after_the_deed_or_not_at_all() {
    let lab = default_world();
    let create = format!("Action=CreateNetworkInterface&{V}&SubnetId={}", id_for::<vpc_model::SubnetId>("private-a"));
    let count = || lab.cloud.snapshot().enis.len();
    for (when, answer, made) in
        [("before", Some((500, "InternalError")), 0), ("after", Some((500, "InternalError")), 1), ("lost", None, 1)]
    {
        let before = count();
        let id =
            inject(&lab, serde_json::json!({"fault": "error", "action": "CreateNetworkInterface", "when": when})).await;
        let got = post_signed(&lab.ec2, &create).await;
        let got = got.map(|got| (got.status, ErrorAnswer::from_xml(&got.body).unwrap().code));
        assert_eq!(got, answer.map(|(status, code)| (status, code.to_owned())), "{when}");
        assert_eq!(count() - before, made, "{when}");
        lift(&lab, id).await;
        assert_eq!(code_of(&lab, &create).await, ok());
    }
    let lost = lab.cloud.calls(&CallFilter::ec2()).into_iter().find(|call| call.status == 0).unwrap();
    assert_eq!((lost.action.as_str(), lost.error.as_deref(), lost.faults.len()), ("CreateNetworkInterface", None, 1));
}

#[tokio::test]
async fn an_error_may_have_any_code_text_and_status() {
    let lab = default_world();
    let fault = serde_json::json!({"fault": "error", "action": "DescribeVpcs", "code": "Odd.Code", "message": "<why>",
        "status": 418, "skip": 1, "times": 1});
    let id = inject(&lab, fault).await;
    let describe = format!("Action=DescribeVpcs&{V}");
    assert_eq!(code_of(&lab, &describe).await, ok());
    let got = post_signed(&lab.ec2, &describe).await.unwrap();
    let error = ErrorAnswer::from_xml(&got.body).unwrap();
    assert_eq!((got.status, error.code.as_str(), error.message.as_str()), (418, "Odd.Code", "<why>"));
    assert_eq!(code_of(&lab, &describe).await, ok());
    lift(&lab, id).await;
}

#[tokio::test]
async fn a_lost_answer_makes_our_client_try_again() {
    let lab = default_world();
    let id = inject(&lab, serde_json::json!({"fault": "error", "action": "Assign*", "when": "lost", "times": 1})).await;
    let eni = lab.cloud.snapshot().instances.iter().find(|i| i.name == "node-1").unwrap().enis[0].clone();
    // Assigning is not idempotent: whatever our client makes of the closed connection, the first deed is done.
    let _ = account(&lab).call(&AssignPrivateIpAddresses::addresses(eni.clone(), 1)).await;
    let own = lab.cloud.snapshot().enis.into_iter().find(|own| own.id == eni).unwrap();
    assert!(!own.addresses.secondary.is_empty(), "what was lost was done");
    lift(&lab, id).await;
}

#[tokio::test]
async fn subnets_are_crowded() {
    let lab = default_world();
    let subnet: vpc_model::SubnetId = id_for("private-a");
    let create = |more: &str| format!("Action=CreateNetworkInterface&{V}&SubnetId={subnet}{more}");
    let id = inject(&lab, serde_json::json!({"fault": "subnet-fragmented", "subnet": "private-a"})).await;
    assert_eq!(code_of(&lab, &create("&Ipv4PrefixCount=1")).await, (400, "InsufficientCidrBlocks".to_owned()));
    lift(&lab, id).await;
    let id = inject(&lab, serde_json::json!({"fault": "subnet-exhausted", "subnet": "private-a", "leave": 1})).await;
    assert_eq!(code_of(&lab, &create("&Ipv4PrefixCount=1")).await, (400, "InvalidParameterValue".to_owned()));
    assert_eq!(code_of(&lab, &create("")).await, ok());
    assert_eq!(code_of(&lab, &create("")).await, (400, "InsufficientFreeAddressesInSubnet".to_owned()));
    lift(&lab, id).await;
    assert_eq!(code_of(&lab, &create("&Ipv4PrefixCount=1")).await, ok());
}

#[tokio::test]
async fn attachments_hang_and_detachments_drag() {
    let lab = default_world();
    let ec2 = account(&lab);
    let stuck = inject(&lab, serde_json::json!({"fault": "attach-stuck"})).await;
    let (eni, attachment_id) = second_eni(&lab).await;
    let ids = vec![eni.clone()];
    let describe = DescribeNetworkInterfaces { network_interface_ids: ids, ..DescribeNetworkInterfaces::default() };
    let status = async || {
        let eni = ec2.call(&describe).await.unwrap().network_interfaces.remove(0);
        eni.attachment.map(|attachment| attachment.status.to_string())
    };
    assert_eq!(status().await.as_deref(), Some("attaching"));
    lift(&lab, stuck).await;
    assert_eq!(status().await.as_deref(), Some("attached"));

    let slow = inject(&lab, serde_json::json!({"fault": "detach-slow", "node": "node-1", "by_ms": 400})).await;
    let begun = Instant::now();
    ec2.call(&DetachNetworkInterface { attachment_id, force: None, dry_run: None }).await.unwrap();
    assert_eq!(status().await.as_deref(), Some("detaching"));
    while status().await.is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed().as_millis() >= 400, "{:?}", begun.elapsed());
    lift(&lab, slow).await;
}

#[tokio::test]
async fn the_clouds_clock_is_off() {
    let lab = default_world();
    let describe = format!("Action=DescribeVpcs&{V}");
    let document = "/latest/dynamic/instance-identity/document";
    let mut session = Session::begin(&lab).await;
    let before = session.get(document).await.1;
    for (by_ms, answer) in [
        (120_000_i64, ok()),
        (600_000, (401, "AuthFailure".to_owned())),
        (-3_600_000, (400, "RequestExpired".to_owned())),
    ] {
        let id = inject(&lab, serde_json::json!({"fault": "clock-skew", "by_ms": by_ms})).await;
        assert_eq!(code_of(&lab, &describe).await, answer, "{by_ms} ms");
        assert_ne!(session.get(document).await.1, before, "pendingTime is another");
        lift(&lab, id).await;
    }
    assert_eq!((code_of(&lab, &describe).await, session.get(document).await.1), (ok(), before));
}

#[tokio::test]
async fn a_skewed_cloud_dates_its_answers_so() {
    let lab = default_world();
    lab.cloud.inject(CloudFault::ClockSkew { by_ms: -800_000_000_000 }).await.unwrap();
    let got = post_signed(&lab.ec2, &format!("Action=DescribeVpcs&{V}")).await.unwrap();
    let date = header(&got.head, "date").unwrap();
    assert!(date.ends_with(" gmt") && !date.contains(" 2026 "), "{date}");
}

// -- IMDS --------------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn imds_goes_stale() {
    let lab = default_world();
    let mut session = Session::begin(&lab).await;
    let id = inject(&lab, serde_json::json!({"fault": "imds-stale", "node": "node-1"})).await;
    second_eni(&lab).await;
    assert_eq!(session.macs().await.len(), 1);
    assert_eq!(session.get("/latest/meta-data/instance-type").await.1, "m5.large");
    assert_eq!(hits(&lab, id), 1, "only what is wrong because of it counts");
    lift(&lab, id).await;
    assert_eq!(session.macs().await.len(), 2);
}

#[tokio::test]
async fn imds_knows_only_a_part() {
    let lab = default_world();
    second_eni(&lab).await;
    let mut session = Session::begin(&lab).await;
    let path = format!("{}local-ipv4s", session.macs().await[1]);
    let whole = session.get(&path).await.1;
    let id = inject(&lab, serde_json::json!({"fault": "imds-partial", "node": "node-1"})).await;
    assert_eq!(session.get(&path).await.1, whole.lines().next().unwrap());
    lift(&lab, id).await;
    assert_eq!((session.get(&path).await.1, whole.lines().count()), (whole.clone(), 6));
}

#[tokio::test]
async fn imds_changes_its_order() {
    let lab = default_world();
    second_eni(&lab).await;
    let mut session = Session::begin(&lab).await;
    let path = format!("{}local-ipv4s", session.macs().await[1]);
    let whole = session.get(&path).await.1;
    let id = inject(&lab, serde_json::json!({"fault": "imds-reordered", "node": "node-1"})).await;
    let sorted = |list: &str| list.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let mut orders = std::collections::BTreeSet::new();
    let mut macs = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let list = session.get(&path).await.1;
        assert_eq!(
            (sorted(&list), list.lines().next()),
            (sorted(&whole), whole.lines().next()),
            "the primary is first"
        );
        orders.insert(list);
        macs.insert(session.get(MACS).await.1);
    }
    assert!(orders.len() > 5 && macs.len() == 2, "{orders:?} {macs:?}");
    lift(&lab, id).await;
    assert_eq!(session.get(&path).await.1, whole);
}

#[tokio::test]
async fn imds_omits_an_eni_or_what_lies_below_it() {
    let lab = default_world();
    second_eni(&lab).await;
    let mut session = Session::begin(&lab).await;
    let macs = session.macs().await;
    for fault in [
        serde_json::json!({"fault": "imds-missing", "node": "node-1"}),
        serde_json::json!({"fault": "imds-missing", "node": "node-1", "device": 1}),
    ] {
        let id = inject(&lab, fault).await;
        assert_eq!(session.macs().await, macs[..1]);
        assert_eq!(session.get(&macs[1]).await.0, 404);
        lift(&lab, id).await;
    }
    let id = inject(&lab, serde_json::json!({"fault": "imds-hollow", "node": "node-1"})).await;
    assert_eq!(session.macs().await, macs);
    for below in ["", "interface-id", "device-number", "local-ipv4s"] {
        assert_eq!(session.get(&format!("{}{below}", macs[1])).await.0, 404, "{below}");
        assert_eq!(session.get(&format!("{}{below}", macs[0])).await.0, 200, "{below}");
    }
    let walk = imds::Client::new(imds_settings(&url(&lab.imds)), None).walk().await.unwrap();
    assert_eq!((walk.enis.len(), walk.sick.len()), (1, 1), "our client sees one that it cannot read");
    lift(&lab, id).await;
    assert_eq!(session.get(&format!("{}device-number", macs[1])).await, (200, "1".to_owned()));
}

#[tokio::test]
async fn imds_refuses_and_dawdles() {
    let lab = default_world();
    let mut session = Session::begin(&lab).await;
    let mac = "/latest/meta-data/mac";
    let id = inject(&lab, serde_json::json!({"fault": "imds-unauthorized", "node": "node-1"})).await;
    let got = session.plain.ask("PUT /latest/api/token", &[(TTL, "60")], "").await.unwrap();
    assert_eq!((got.status, session.get(mac).await.0), (200, 401), "tokens are given, but not taken");
    lift(&lab, id).await;
    for status in [403_u16, 500, 503] {
        let id = inject(&lab, serde_json::json!({"fault": "imds-error", "node": "node-1", "status": status})).await;
        let got = session.plain.ask("PUT /latest/api/token", &[(TTL, "60")], "").await.unwrap();
        assert_eq!((got.status, session.get(mac).await.0), (status, status));
        lift(&lab, id).await;
    }
    let id = inject(&lab, serde_json::json!({"fault": "imds-slow", "node": "node-1", "by_ms": 300})).await;
    let begun = Instant::now();
    assert_eq!(session.get(mac).await.0, 200);
    assert!(begun.elapsed().as_millis() >= 300, "{:?}", begun.elapsed());
    lift(&lab, id).await;
    assert_eq!(session.get(mac).await.0, 200);
    let imds = CallFilter { service: Some(Service::Imds), ..CallFilter::default() };
    assert!(lab.cloud.calls(&imds).last().unwrap().faults.is_empty());
}

#[tokio::test]
async fn another_nodes_fault_is_no_concern() {
    let lab = default_world();
    let mut session = Session::begin(&lab).await;
    inject(&lab, serde_json::json!({"fault": "imds-error", "node": "node-2"})).await;
    assert_eq!(session.get("/latest/meta-data/mac").await.0, 200);
}

// -- from outside ------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_eni_vanishes() {
    let lab = default_world();
    let (eni, _) = second_eni(&lab).await;
    lab.cloud.outside(OutsideEvent::EniRemoved { eni: eni.clone() }).await.unwrap();
    let ids = vec![eni];
    let describe = DescribeNetworkInterfaces { network_interface_ids: ids, ..DescribeNetworkInterfaces::default() };
    assert!(account(&lab).call(&describe).await.unwrap_err().is_not_found());
    assert_eq!(Session::begin(&lab).await.macs().await.len(), 1);
}
