//! What goes wrong with EC2 and IMDS reaches programs on nodes over the wire, and ends when it is lifted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::ec2::{attach, attachment, attempt, call, create, links, one_more, wait_until};
use common::faults::{add, lift, refused, report};
use common::{SMALL, start, topology};
use lab_serve::CallRecord;
use vpc_aws::ec2::shapes::{
    AssignPrivateIpAddresses, CreateNetworkInterface, CreateTags, DescribeNetworkInterfaces, DescribeSubnets,
    DetachNetworkInterface, Tag,
};
use vpc_lab::Lab;
use vpc_lab::control::Place;
use vpc_lab::tools::{HttpOptions, HttpReply};
use vpc_model::EniId;

const IMDS: &str = "http://169.254.169.254/latest";

/// What EC2 says to a node's program: nothing, or the code of its refusal.
fn listing(lab: &Lab) -> Result<usize, String> {
    match attempt(lab, "a", &DescribeSubnets::default()) {
        None => Err("no answer".to_owned()),
        Some(answer) => answer.map(|answer| answer.subnets.len()).map_err(|refusal| refusal.code),
    }
}

fn last_call(lab: &Lab) -> CallRecord {
    lab.calls().unwrap().into_iter().rfind(|call| call.action == "DescribeSubnets").unwrap()
}

fn tags(lab: &Lab, eni: &EniId) -> Vec<Tag> {
    let request = DescribeNetworkInterfaces { network_interface_ids: vec![eni.clone()], ..Default::default() };
    call(lab, "a", &request).unwrap().network_interfaces[0].tags.clone()
}

fn tag(lab: &Lab, eni: &EniId, key: &str) -> Option<Result<(), String>> {
    let tags = vec![Tag { key: key.into(), value: "x".into() }];
    let request = CreateTags { resources: vec![eni.to_string()], tags, dry_run: None };
    attempt(lab, "a", &request).map(|answer| answer.map(drop).map_err(|refusal| refusal.code))
}

#[test]
fn ec2_is_slow_throttled_denied_and_wrong() {
    let lab = start(&topology(SMALL));
    assert_eq!(listing(&lab), Ok(3));
    assert_eq!(last_call(&lab).faults, []);

    let latency = add(&lab, "latency action=Describe* add_ms=120");
    assert_eq!(listing(&lab), Ok(3));
    let slow = last_call(&lab);
    assert!(slow.took_us >= 120_000 && slow.faults.iter().map(|f| f.0).eq([latency]), "{slow:?}");
    assert_eq!(report(&lab, latency).hits, Some(1));
    assert_eq!(lift(&lab, latency).hits, Some(1));
    assert_eq!(listing(&lab), Ok(3));
    assert_eq!(last_call(&lab).faults, []);

    let throttle = add(&lab, "throttle action=DescribeSubnets capacity=1 refill_per_second=1");
    let throttled = wait_until(|| listing(&lab), Result::is_err);
    assert_eq!(throttled, Err("RequestLimitExceeded".to_owned()));
    lift(&lab, throttle);
    (0..5).for_each(|_| assert_eq!(listing(&lab), Ok(3)));

    let deny = add(&lab, "deny action=DescribeSubnets");
    assert_eq!(listing(&lab), Err("UnauthorizedOperation".to_owned()));
    lift(&lab, deny);
    assert_eq!(listing(&lab), Ok(3));

    // The second and third of all that come, then no more.
    let error = add(&lab, "error action=DescribeSubnets code=ServiceUnavailable status=503 skip=1 times=2");
    let codes: Vec<_> = (0..4).map(|_| listing(&lab).err().unwrap_or_default()).collect();
    assert_eq!(codes, ["", "ServiceUnavailable", "ServiceUnavailable", ""]);
    assert_eq!(last_call(&lab).status, 200);
    lift(&lab, error);

    // The cloud's clock has gone an hour ahead: what a node signs now is an hour old.
    let skew = add(&lab, "clock-skew by_ms=3600000");
    let code = listing(&lab).unwrap_err();
    assert!(["RequestExpired", "SignatureDoesNotMatch", "AuthFailure"].contains(&code.as_str()), "{code}");
    lift(&lab, skew);
    assert_eq!(listing(&lab), Ok(3));
    assert!(refused(&lab, "latency add_ms=1 node=zz").contains("`zz`"));
}

#[test]
fn an_error_strikes_before_or_after_the_deed_or_instead_of_the_answer() {
    let lab = start(&topology(SMALL));
    let eni = create(&lab, "private-a", 0).network_interface_id;
    let error = |when: &str| add(&lab, &format!("error action=CreateTags when={when} times=1"));
    let keys = || tags(&lab, &eni).iter().map(|tag| tag.key.to_string()).collect::<BTreeSet<_>>();
    let refusal = Some(Err("InternalError".to_owned()));

    let before = error("before");
    assert_eq!(tag(&lab, &eni, "one"), refusal);
    assert!(!keys().contains("one"));
    assert_eq!(tag(&lab, &eni, "one"), Some(Ok(())));
    let after = error("after");
    assert_eq!(tag(&lab, &eni, "two"), refusal);
    assert!(keys().contains("two"));
    let lost = error("lost");
    assert_eq!(tag(&lab, &eni, "three"), None);
    assert!(keys().contains("three"));
    for id in [before, after, lost] {
        assert_eq!(lift(&lab, id).hits, Some(1));
    }
}

#[test]
fn subnets_run_full_and_fall_to_pieces() {
    let lab = start(&topology(SMALL));
    let make = || attempt(&lab, "a", &CreateNetworkInterface::new(lab_cloud::id_for("private-b"))).unwrap();
    let full = add(&lab, "subnet-exhausted subnet=private-b leave=1");
    assert!(make().is_ok());
    assert_eq!(make().unwrap_err().code, "InsufficientFreeAddressesInSubnet");
    lift(&lab, full);
    let eni = make().unwrap().network_interface.network_interface_id;

    let prefix = || attempt(&lab, "a", &AssignPrivateIpAddresses::prefixes(eni.clone(), 1)).unwrap();
    let pieces = add(&lab, "subnet-fragmented subnet=private-b");
    assert_eq!(prefix().unwrap_err().code, "InsufficientCidrBlocks");
    one_more(&lab, &eni);
    lift(&lab, pieces);
    assert!(prefix().is_ok());
    assert!(refused(&lab, "subnet-exhausted subnet=nowhere").contains("private-b"));
}

#[test]
fn attachments_get_stuck_and_detachments_take_their_time() {
    let lab = start(&topology(SMALL));
    let eni = create(&lab, "private-a", 0).network_interface_id;
    let stuck = add(&lab, "attach-stuck node=a");
    let attachment_id = call(&lab, "a", &attachment(&lab, &eni, "a")).unwrap().attachment_id;
    let status = |lab: &Lab| {
        let request = DescribeNetworkInterfaces { network_interface_ids: vec![eni.clone()], ..Default::default() };
        let seen = call(lab, "a", &request).unwrap().network_interfaces[0].clone();
        seen.attachment.map(|attachment| format!("{:?}", attachment.status)).unwrap_or_default()
    };
    assert_eq!(status(&lab), "Attaching");
    assert!(!links(&lab, "a").contains(&"eth1".to_owned()));
    lift(&lab, stuck);
    wait_until(|| links(&lab, "a"), |links| links.contains(&"eth1".to_owned()));

    let slow = add(&lab, "detach-slow node=a by_ms=400");
    call(&lab, "a", &DetachNetworkInterface { attachment_id, force: None, dry_run: None }).unwrap();
    assert!(links(&lab, "a").contains(&"eth1".to_owned()), "it takes its time");
    wait_until(|| links(&lab, "a"), |links| !links.contains(&"eth1".to_owned()));
    lift(&lab, slow);
}

#[test]
fn the_clouds_objects_vanish_without_anybody_asking() {
    let lab = start(&topology(SMALL));
    let eni = create(&lab, "private-a", 2).network_interface_id;
    attach(&lab, &eni, "a");
    let address = one_more(&lab, &eni);
    tag(&lab, &eni, "mine").unwrap().unwrap();
    let secondary = || {
        let status = lab.status().unwrap();
        status.nodes[0].enis.iter().find(|own| own.id == eni.to_string()).unwrap().secondary.clone()
    };
    assert!(secondary().contains(&address));
    add(&lab, &format!("address-removed address={address}"));
    assert!(!secondary().contains(&address));
    add(&lab, "address-removed node=a");
    assert_eq!(secondary().len(), 1);
    assert!(refused(&lab, "address-removed node=a in_use=true").contains("that a pod has"));

    add(&lab, "tags-removed node=a keys=mine");
    assert!(tags(&lab, &eni).iter().all(|tag| tag.key != "mine"));

    let gone = add(&lab, "eni-removed node=a device=1");
    wait_until(|| links(&lab, "a"), |links| !links.contains(&"eth1".to_owned()));
    assert_eq!(lab.status().unwrap().nodes[0].enis.len(), 1);
    let error = refused(&lab, "eni-removed node=a");
    assert!(error.contains("device number 1") && error.contains("it has: 0"), "{error}");
    // What happened can not be lifted.
    assert!(lab.lift(gone).unwrap_err().to_string().contains("no fault"));
}

/// A node's program asks IMDS with a token of its own.
fn imds(lab: &Lab, path: &str) -> HttpReply {
    let place = Place::Node("a".to_owned());
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let ask = |method: &str, url: &str, headers| {
        let options = HttpOptions { method: method.to_owned(), headers, timeout: Duration::from_secs(5) };
        lab.http(&place, url, &options).unwrap()
    };
    let token = ask("PUT", &format!("{IMDS}/api/token"), header("x-aws-ec2-metadata-token-ttl-seconds", "60"));
    if token.status != 200 {
        return token;
    }
    ask("GET", &format!("{IMDS}/meta-data/{path}"), header("x-aws-ec2-metadata-token", token.body.trim()))
}

#[test]
fn imds_is_stale_partial_out_of_order_incomplete_and_closed() {
    let lab = start(&topology(SMALL));
    let eni = create(&lab, "private-a", 4);
    attach(&lab, &eni.network_interface_id, "a");
    let mac = eni.mac_address.to_string();
    let own = format!("network/interfaces/macs/{mac}");
    let addresses = || imds(&lab, &format!("{own}/local-ipv4s")).body.lines().map(str::to_owned).collect::<Vec<_>>();
    let all = wait_until(addresses, |seen| seen.len() == 5);

    let stale = add(&lab, "imds-stale node=a");
    one_more(&lab, &eni.network_interface_id);
    assert_eq!(addresses(), all);
    assert!(report(&lab, stale).hits.unwrap() > 0);
    lift(&lab, stale);
    let all = wait_until(addresses, |seen| seen.len() == 6);

    let partial = add(&lab, "imds-partial node=a");
    assert_eq!(addresses(), all[..1]);
    lift(&lab, partial);
    assert_eq!(addresses(), all);

    let reordered = add(&lab, "imds-reordered node=a");
    let orders: BTreeSet<_> = (0..20).map(|_| addresses()).collect();
    assert!(orders.len() > 1 && orders.iter().all(|order| order[0] == all[0] && order.len() == 6), "{orders:?}");
    lift(&lab, reordered);
    assert_eq!(addresses(), all);

    let macs = || imds(&lab, "network/interfaces/macs/").body;
    let missing = add(&lab, "imds-missing node=a device=1");
    assert!(!macs().contains(&mac));
    lift(&lab, missing);
    assert!(macs().contains(&mac));

    let hollow = add(&lab, "imds-hollow node=a");
    assert!(macs().contains(&mac));
    assert_eq!(imds(&lab, &format!("{own}/device-number")).status, 404);
    lift(&lab, hollow);
    assert_eq!(imds(&lab, &format!("{own}/device-number")).body, "1");

    for (text, status) in [
        ("imds-unauthorized node=a", 401),
        ("imds-error node=a", 500),
        ("imds-error node=a status=503", 503),
        ("imds-error node=* status=503", 503),
    ] {
        let closed = add(&lab, text);
        assert_eq!(imds(&lab, "instance-id").status, status, "{text}");
        lift(&lab, closed);
        assert_eq!(imds(&lab, "instance-id").status, 200);
    }

    let slow = add(&lab, "imds-slow node=a by_ms=150");
    assert_eq!(imds(&lab, "instance-id").status, 200);
    let last = lab.calls().unwrap().into_iter().rfind(|call| call.action.contains("instance-id")).unwrap();
    assert!(last.took_us >= 150_000 && last.faults.iter().any(|fault| fault.0 == slow), "{last:?}");
    lift(&lab, slow);
    assert_eq!(imds(&lab, "instance-id").status, 200);
}
