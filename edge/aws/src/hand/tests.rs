//! The hand, held against EC2's words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::result_large_err)]

use std::collections::BTreeMap;

use super::*;
use crate::ec2::shapes::{Action, DescribeSubnetsResponse, ErrorAnswer};

fn place() -> Place {
    let instance = "i-1".parse().unwrap();
    let more = BTreeMap::from([("team".to_owned(), "net".to_owned()), (OWNER_TAG.0.to_owned(), "mine".to_owned())]);
    Place {
        tags: tags(&instance, Some("c1"), &more),
        instance,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        vpc: "vpc-1".parse().unwrap(),
        zone: "us-west-2a".to_owned(),
        instance_type: "m5.large".to_owned(),
        cluster: Some("c1".to_owned()),
    }
}

fn spot() -> vpc_agent::Place {
    vpc_agent::Place { subnet: "subnet-1".parse().unwrap(), groups: vec!["sg-1".parse().unwrap()] }
}

#[test]
fn a_new_eni_says_whose_it_is() {
    let made = |unit, count| place().new_eni("t-1".into(), &spot(), unit, count, "2026-02-03T04:05:06Z".into());
    let request = made(Unit::Address, 9);
    assert_eq!(request.query(), made(Unit::Address, 9).query());
    let prefixes = made(Unit::Prefix, 2);
    assert_eq!((prefixes.ipv4_prefix_count, prefixes.secondary_private_ip_address_count), (Some(2), None));
    assert_eq!(request.description.as_deref(), Some("aws-K8S-i-1"));
    assert_eq!(request.secondary_private_ip_address_count, Some(9));
    assert_eq!(request.client_token.as_deref(), Some("t-1"));
    let tags: Vec<_> = request.tag_specifications[0].tags.iter().map(|t| (t.key.as_str(), t.value.as_str())).collect();
    assert_eq!(
        tags,
        [
            (CLUSTER_TAG, "c1"),
            ("eks:eni:owner", "mine"),
            (CREATED_AT_TAG, "2026-02-03T04:05:06Z"),
            (INSTANCE_TAG, "i-1"),
            ("team", "net"),
        ]
    );
    assert_eq!(made(Unit::Address, 0).secondary_private_ip_address_count, None);
}

#[test]
fn errors_are_weighed_by_their_class() {
    let cases = [
        (503, "RequestLimitExceeded", FailureClass::Throttled),
        (403, "UnauthorizedOperation", FailureClass::Unauthorized),
        (401, "AuthFailure", FailureClass::Unauthorized),
        (400, "InvalidNetworkInterfaceID.NotFound", FailureClass::NotFound),
        (400, "InsufficientFreeAddressesInSubnet", FailureClass::SubnetExhausted),
        (400, "InsufficientCidrBlocks", FailureClass::Fragmented),
        (400, "PrivateIpAddressLimitExceeded", FailureClass::AddressLimit),
        (400, "AttachmentLimitExceeded", FailureClass::EniLimit),
        (400, "NetworkInterfaceLimitExceeded", FailureClass::EniLimit),
        (400, "IncorrectState", FailureClass::WrongState),
        (400, "InvalidNetworkInterface.InUse", FailureClass::WrongState),
        (400, "InvalidParameterValue", FailureClass::Other),
        // A server that failed may have failed after the deed.
        (500, "InternalError", FailureClass::Lost),
        (500, "ServerInternal", FailureClass::Lost),
        (503, "Unavailable", FailureClass::Lost),
        (503, "ServiceUnavailable", FailureClass::Lost),
    ];
    for (status, code, class) in cases {
        let answer = ErrorAnswer { code: code.into(), message: "m".into(), request_id: "r".into() };
        let mut error = Ec2Error::refused("CreateNetworkInterface", status, answer);
        error.resource = Some("subnet-1".into());
        let failure = failure(&error);
        assert_eq!((failure.class, failure.code.as_str()), (class, code));
        assert_eq!(failure.message, "m (subnet-1)");
    }
}

#[test]
fn a_security_group_that_does_not_exist_is_no_missing_subnet() {
    for (message, class) in [
        ("The security group 'sg-0deadbeef' does not exist", FailureClass::GroupNotFound),
        ("The subnet ID 'subnet-0deadbeef' does not exist", FailureClass::NotFound),
    ] {
        let code = if class == FailureClass::NotFound { "InvalidSubnetID.NotFound" } else { "InvalidGroup.NotFound" };
        let answer = ErrorAnswer { code: code.into(), message: message.into(), request_id: "r".into() };
        assert_eq!(failure(&Ec2Error::refused("CreateNetworkInterface", 400, answer)).class, class, "{message}");
    }
}

#[test]
fn the_calendar_is_read_with_its_offset() {
    let utc = read_calendar("2026-02-03T04:05:06Z");
    assert_eq!(utc, Some(WallTime(1_770_091_506_000_000_000)));
    assert_eq!(read_calendar("2026-02-03T06:05:06+02:00"), utc);
    for rubbish in ["", "yesterday", "2026-02-03", "1770091506"] {
        assert_eq!(read_calendar(rubbish), None, "{rubbish}");
    }
}

/// Plays a call to its end: each request is answered by `ec2`.
fn play(
    call: CloudCall,
    mut ec2: impl FnMut(&Request) -> Result<Answer, Ec2Error>,
) -> Result<CloudAnswer, CloudFailure> {
    let mut hand = Hand::new(place());
    let mut step = hand.begin(WallTime(0), call);
    loop {
        match step {
            Step::Done(result) => return result,
            Step::Ask(work, request) => step = hand.answered(work, ec2(&request)),
        }
    }
}

fn refused(request: &Request, code: &str) -> Ec2Error {
    request.refused(400, ErrorAnswer { code: code.into(), message: "m".into(), request_id: "r".into() })
}

#[test]
fn addresses_and_prefixes_are_taken_off_in_two_requests() {
    let slots = vec![
        Slot::Prefix("10.0.0.16/28".parse::<vpc_model::Ipv4Net>().unwrap().try_into().unwrap()),
        Slot::Address("10.0.0.5".parse().unwrap()),
    ];
    let eni: EniId = "eni-1".parse().unwrap();
    let mut sent = Vec::new();
    let unassign = CloudCall::Unassign { eni: eni.clone(), slots };
    let result = play(unassign.clone(), |request| {
        sent.push(request.query().encode());
        Ok(Answer::UnassignPrivateIpAddresses(Default::default()))
    });
    assert_eq!(result, Ok(CloudAnswer::Done));
    assert!(sent.len() == 2 && sent[0].contains("10.0.0.5") && sent[1].contains("10.0.0.16"), "{sent:?}");
    let mut requests = 0;
    let result = play(unassign, |request| {
        requests += 1;
        Err(refused(request, "InvalidParameterValue"))
    });
    let failed = result.unwrap_err();
    assert_eq!((failed.class, failed.message.as_str(), requests), (FailureClass::Other, "m (eni-1)", 1));
}

#[test]
fn a_list_is_asked_for_until_its_last_page() {
    let page = |token: Option<&str>| DescribeSubnetsResponse { next_token: token.map(str::to_owned), subnets: vec![] };
    let mut asked = Vec::new();
    let also = vec!["subnet-9".parse().unwrap()];
    let result = play(CloudCall::Subnets { also: also.clone() }, |request| {
        let query = request.query();
        let token = query.get("NextToken").map(str::to_owned);
        let looked_up = query.get("SubnetId.1").is_some();
        asked.push((token.clone(), looked_up));
        match (looked_up, token) {
            (true, _) => Err(refused(request, "InvalidSubnetID.NotFound")),
            (false, None) => Ok(Answer::DescribeSubnets(page(Some("2")))),
            (false, Some(_)) => Ok(Answer::DescribeSubnets(page(None))),
        }
    });
    assert_eq!(result, Ok(CloudAnswer::Subnets(vec![])));
    assert_eq!(asked, [(None, false), (Some("2".to_owned()), false), (None, true)]);
    let endless = play(CloudCall::Subnets { also }, |_| Ok(Answer::DescribeSubnets(page(Some("again")))));
    assert_eq!(endless.unwrap_err().class, FailureClass::Other);
}

#[test]
fn that_an_attempt_was_lost_comes_through() {
    let call = CloudCall::CreateEni { token: "t".into(), place: spot(), unit: Unit::Address, count: 1 };
    for lost_before in [false, true] {
        let code = "InsufficientFreeAddressesInSubnet";
        let failed = play(call.clone(), |request| Err(Ec2Error { lost_before, ..refused(request, code) })).unwrap_err();
        assert_eq!((failed.class, failed.may_be_done()), (FailureClass::SubnetExhausted, lost_before));
    }
}

#[test]
fn what_does_not_exist_is_described_as_nothing() {
    let describe = CloudCall::Describe { eni: "eni-1".parse().unwrap() };
    let result = play(describe, |request| Err(refused(request, "InvalidNetworkInterfaceID.NotFound")));
    assert_eq!(result, Ok(CloudAnswer::Described(None)));
}

#[test]
fn a_repeated_create_is_the_same_request_at_any_time() {
    let mut hand = Hand::new(place());
    let call = CloudCall::CreateEni { token: "t".into(), place: spot(), unit: Unit::Address, count: 1 };
    let sent = |step| match step {
        Step::Ask(work, request) => (work, request.query().encode()),
        Step::Done(done) => panic!("{done:?}"),
    };
    let (work, first) = sent(hand.begin(WallTime(1_770_091_506_000_000_000), call.clone()));
    assert!(first.contains("2026-02-03T04%3A05%3A06Z"), "{first}");
    let lost = Ec2Error::lost("CreateNetworkInterface", "gone");
    assert!(matches!(hand.answered(work, Err(lost)), Step::Done(Err(CloudFailure { class: FailureClass::Lost, .. }))));
    let (_, second) = sent(hand.begin(WallTime(1_770_099_999_000_000_000), call));
    assert_eq!(first, second);
}
