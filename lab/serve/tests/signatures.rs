//! Who calls EC2: presigned requests, expired credentials, and a lab that checks no signatures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Plain, client, default_world, post_signed_by, serve_setup, url};
use lab_cloud::{Caller, CloudFault, Setup, WorldSpec, id_for};
use lab_serve::CallFilter;
use vpc_aws::ec2::Credentials;
use vpc_aws::ec2::shapes::{DescribeVpcs, ErrorAnswer};

const DESCRIBE: &str = "Action=DescribeVpcs&Version=2016-11-15";

#[tokio::test]
async fn unchecked_callers_are_whoever_they_say_they_are() {
    let (lab, _) = serve_setup(WorldSpec::default_topology(), Setup { check_signatures: false, ..Setup::default() });
    // A key of its own, a wrong secret.
    let json = lab.cloud.metadata(&id_for("node-2"), "meta-data/iam/security-credentials/node-role").unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let key = json["AccessKeyId"].as_str().unwrap();
    client(&url(&lab.ec2), key, "wrong").call(&DescribeVpcs::default()).await.unwrap();
    // Nobody's key, and none at all.
    client(&url(&lab.ec2), "AKIANOBODY", "wrong").call(&DescribeVpcs::default()).await.unwrap();
    let mut plain = Plain::connect(lab.ec2.address()).await;
    assert_eq!(plain.ask("POST /", &[], DESCRIBE).await.unwrap().status, 200);
    let callers: Vec<_> = lab.cloud.calls(&CallFilter::ec2()).into_iter().map(|call| call.caller.unwrap()).collect();
    assert_eq!(callers, [Caller::Instance(id_for("node-2")), Caller::Account, Caller::Account]);
}

#[tokio::test]
async fn a_session_token_must_be_the_keys_own() {
    let lab = default_world();
    let json = lab.cloud.metadata(&id_for("node-1"), "meta-data/iam/security-credentials/node-role").unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    for (token, status) in [(Some(text("Token")), 200), (Some("another".to_owned()), 401), (None, 401)] {
        let own = Credentials::new(text("AccessKeyId"), text("SecretAccessKey"), token, None, "test");
        assert_eq!(post_signed_by(&lab.ec2, DESCRIBE, &own).await.unwrap().status, status);
    }
}

/// A request presigned for one minute of 2026 is refused as over, not as unknown: it was read.
#[tokio::test]
async fn a_presigned_request_of_long_ago_has_expired() {
    // Presigned by botocore 1.44.5 at 2026-11-21T07:05:09Z for 60 s, host `127.0.0.1:8080`, region us-west-2.
    const QUERY: &str = "Action=DescribeVpcs&Version=2016-11-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIALABEXAMPLE00000A%2F20261121%2Fus-west-2%2Fec2%2Faws4_request\
        &X-Amz-Date=20261121T070509Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=ba867a5af22c7395e2da6524901ff8b183ee83fce40b4d989a4fc89823b6372c";
    let lab = default_world();
    // The cloud's clock is set to the moment of the signature, or a day later.
    let signed_s = 1_795_244_709_i64;
    let now_s = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    for (later_s, status, code) in [(10, 200, ""), (86_400, 400, "RequestExpired")] {
        let skew = CloudFault::ClockSkew { by_ms: (signed_s + later_s - now_s) * 1000 };
        let skew = lab.cloud.inject(skew).await.unwrap();
        let mut plain = Plain::connect(lab.ec2.address()).await;
        let got = plain.ask_as("127.0.0.1:8080", &format!("GET /?{QUERY}"), &[], "").await.unwrap();
        let error = ErrorAnswer::from_xml(&got.body).map(|error| error.code).unwrap_or_default();
        assert_eq!((got.status, error.as_str()), (status, code));
        lab.cloud.lift(skew).await.unwrap();
    }
    let call = lab.cloud.calls(&CallFilter::ec2()).remove(0);
    assert_eq!((call.action.as_str(), call.caller), ("DescribeVpcs", Some(Caller::Account)));
    assert!(call.parameters.is_empty(), "the signature is no parameter: {:?}", call.parameters);
}
