//! A topology that can not be built is refused with the field and what is accepted; nothing half-made is left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use e2e::lab::User;

const GOOD: &str = r#"
[vpc]
cidrs = ["10.20.0.0/16"]

[[subnets]]
name = "private-a"
zone = "ap-northeast-2a"
cidr = "10.20.8.0/22"

[[subnets]]
name = "private-b"
zone = "ap-northeast-2b"
cidr = "10.20.16.0/22"

[[nodes]]
name = "node-a"
subnet = "private-a"
"#;

/// What is wrong, the text it is done to, what it becomes, and what the message must speak of.
const BAD: &[(&str, &str, &str, &[&str])] = &[
    ("overlapping subnets", "10.20.16.0/22", "10.20.10.0/23", &["overlap", "private-a", "private-b"]),
    ("a subnet outside the VPC", "10.20.16.0/22", "10.21.16.0/22", &["10.21.16.0/22", "10.20.0.0/16"]),
    ("host bits in a network", "10.20.16.0/22", "10.20.16.1/22", &["10.20.16.1/22", "10.20.16.0/22"]),
    ("two subnets of one name", "\"private-b\"", "\"private-a\"", &["private-a", "unique"]),
    (
        "an unknown instance type",
        "subnet = \"private-a\"",
        "subnet = \"private-a\"\ninstance_type = \"m5.huge\"",
        &["m5.huge", "instance_type", "m5.large"],
    ),
    ("a misspelt key", "cidrs =", "cidr =", &["cidr", "cidrs"]),
    ("a misspelt key of a node", "subnet = \"private-a\"", "subent = \"private-a\"", &["subent", "subnet"]),
    (
        "a subnet nobody knows",
        "subnet = \"private-a\"",
        "subnet = \"private-c\"",
        &["private-c", "private-a", "private-b"],
    ),
    ("a zone nobody knows", "ap-northeast-2b", "eu-west-1a", &["eu-west-1a", "ap-northeast-2b"]),
    ("a node name a command uses", "\"node-a\"", "\"world\"", &["world"]),
    ("not TOML", "[vpc]", "[vpc", &["vpc"]),
    ("a VPC range that is too large", "10.20.0.0/16", "10.0.0.0/8", &["10.0.0.0/8", "/16"]),
];

#[test]
fn a_bad_topology_is_refused_by_name() {
    let user = match User::myself() {
        Ok(user) => user,
        Err(reason) => return e2e::skip("a_bad_topology_is_refused_by_name", &reason),
    };
    let folder = tempfile::tempdir().unwrap();
    for (number, (what, from, to, spoken_of)) in BAD.iter().enumerate() {
        assert!(GOOD.contains(from), "{what}: the good topology has no {from}");
        let file = folder.path().join(format!("{number}.toml"));
        fs::write(&file, GOOD.replacen(from, to, 1)).unwrap();
        let lab = format!("bad-{}-{number}", std::process::id());

        let up = user.vpc_lab(&["up", file.to_str().unwrap(), "--lab", &lab]).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&up.stdout), String::from_utf8_lossy(&up.stderr));
        if up.status.success() {
            let _ = user.vpc_lab(&["down", "--lab", &lab]).output();
            panic!("{what}: accepted\n{said}");
        }
        for word in *spoken_of {
            assert!(said.contains(word), "{what}: the message does not speak of `{word}`:\n{said}");
        }
        assert!(!said.contains("panicked"), "{what}: a message, not a crash:\n{said}");

        let status = user.vpc_lab(&["status", "--lab", &lab]).output().unwrap();
        assert!(!status.status.success(), "{what}: a lab is there nevertheless");
    }
}

#[test]
fn a_topology_that_is_not_there_is_named() {
    let user = match User::myself() {
        Ok(user) => user,
        Err(reason) => return e2e::skip("a_topology_that_is_not_there_is_named", &reason),
    };
    let up = user.vpc_lab(&["up", "/nowhere/at-all.toml", "--lab", "bad-nowhere"]).output().unwrap();
    let said = String::from_utf8_lossy(&up.stderr);
    assert!(!up.status.success() && said.contains("/nowhere/at-all.toml"), "{said}");
}
