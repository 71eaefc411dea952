//! Where credentials come from. AWS's chain reads the environment of the process, so each test runs itself again as a child
//! with the environment it needs, against a stub that the parent serves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::process::Command;

use aws_credential_types::provider::ProvideCredentials;
use support::{Arrived, Step, Stub};
use vpc_aws::ec2::{Credentials, default_chain};
use vpc_aws::{Ec2Settings, ImdsSettings};

const CHILD: &str = "VPC_AWS_TEST_CHILD";

/// In the child: the credentials the chain finds, or why there are none.
async fn found() -> Result<Credentials, String> {
    let lookup = |name: &str| std::env::var(name).ok();
    let mut fallbacks = Vec::new();
    let ec2 = Ec2Settings::read(&lookup, &mut fallbacks).unwrap();
    let imds = ImdsSettings::read(&lookup, &mut fallbacks).unwrap();
    let chain = default_chain(&ec2, &imds, "eu-central-1").await.unwrap();
    chain.provide_credentials().await.map_err(|e| format!("{:?}", e))
}

/// Runs the test `name` again with the environment that `env` makes of the stub's URL; `check` runs in the child.
fn in_child(
    name: &str,
    stub: &Stub,
    env: impl Fn(&str) -> Vec<(&'static str, String)>,
    check: impl Fn(Result<Credentials, String>),
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if std::env::var(CHILD).as_deref() == Ok(name) {
        return check(runtime.block_on(found()));
    }
    let url = runtime.block_on(stub.listen());
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env_clear()
        .env("HOME", home.path())
        .env(CHILD, name)
        .envs(env(&url))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn no_imds() -> (&'static str, String) {
    ("AWS_EC2_METADATA_DISABLED", "true".into())
}

#[test]
fn keys_from_the_environment() {
    let stub = Stub::new(|request| panic!("{request:?}"));
    let env = |_: &str| vec![("AWS_ACCESS_KEY_ID", "AKIAENV".into()), ("AWS_SECRET_ACCESS_KEY", "s".into()), no_imds()];
    in_child("keys_from_the_environment", &stub, env, |found| {
        assert_eq!(found.unwrap().access_key_id(), "AKIAENV");
    });
}

#[test]
fn a_role_by_web_identity() {
    let answer = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
        <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAWEB</AccessKeyId>\
        <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
        <Expiration>2036-11-21T07:05:09Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
        <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>";
    let stub = Stub::new(move |request| {
        let asked = ["Action=AssumeRoleWithWebIdentity", "WebIdentityToken=jwt", "RoleArn=arn%3Aaws%3Aiam"];
        assert!(asked.iter().all(|part| request.body.contains(part)), "{request:?}");
        Step::answer(200, answer).with("content-type", "text/xml")
    });
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "jwt").unwrap();
    let env = |url: &str| {
        vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().display().to_string()),
            ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cni".into()),
            ("AWS_REGION", "eu-central-1".into()),
            ("AWS_ENDPOINT_URL_STS", url.into()),
            no_imds(),
        ]
    };
    in_child("a_role_by_web_identity", &stub, env, |found| {
        let found = found.unwrap();
        assert_eq!((found.access_key_id(), found.session_token()), ("ASIAWEB", Some("t")));
        assert!(found.expiry().is_some());
    });
    if std::env::var(CHILD).is_err() {
        assert_eq!(stub.arrived().len(), 1);
    }
}

const ROLE: &str = r#"{"Code":"Success","LastUpdated":"2026-11-21T07:05:09Z","Type":"AWS-HMAC","AccessKeyId":"ASIAROLE",
    "SecretAccessKey":"s","Token":"t","Expiration":"2036-11-21T07:05:09Z","RoleArn":"arn:aws:iam::1:role/x"}"#;

#[test]
fn a_role_from_the_container_endpoint() {
    let stub = Stub::new(|request| {
        assert_eq!((request.path.as_str(), request.header("authorization")), ("/v1/credentials", Some("pod token")));
        Step::answer(200, ROLE)
    });
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "pod token").unwrap();
    let env = |url: &str| {
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/v1/credentials")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.path().display().to_string()),
            no_imds(),
        ]
    };
    in_child("a_role_from_the_container_endpoint", &stub, env, |found| {
        assert_eq!(found.unwrap().access_key_id(), "ASIAROLE");
    });
}

#[test]
fn the_role_of_the_instance() {
    let answer = |request: &Arrived| match request.path.trim_end_matches('/') {
        "/latest/api/token" => Step::answer(200, "t").with("x-aws-ec2-metadata-token-ttl-seconds", "300"),
        "/latest/meta-data/iam/security-credentials" => Step::answer(200, "node-role"),
        "/latest/meta-data/iam/security-credentials/node-role" => Step::answer(200, ROLE),
        _ => Step::answer(404, ""),
    };
    let stub = Stub::new(answer);
    let env = |url: &str| vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.to_owned())];
    in_child("the_role_of_the_instance", &stub, env, |found| {
        assert_eq!(found.unwrap().access_key_id(), "ASIAROLE");
    });
}

#[test]
fn nowhere() {
    let stub = Stub::new(|_| Step::answer(404, ""));
    in_child("nowhere", &stub, |_| vec![no_imds()], |found| assert!(found.is_err()));
    if std::env::var(CHILD).is_err() {
        assert!(stub.arrived().is_empty());
    }
}
