//! Labs for tests: small, without the real daemon unless asked, and gone with the test however that ends.
#![allow(dead_code)]

pub(crate) mod ec2;
pub(crate) mod faults;
pub(crate) mod nobody;
pub(crate) mod sandbox;
pub(crate) mod traces;
pub(crate) mod vpc;
pub(crate) mod wire;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use vpc_lab::topology::{Topology, TopologyFile};
use vpc_lab::{Lab, StartOptions};

/// A plugin that writes down how it was called, and fails as long as there is a file that says so.
pub(crate) const TOY_PLUGIN: &str = r#"#!/bin/sh
mkdir -p /var/lib/toy
n=$(ls /var/lib/toy | wc -l)
cat > /var/lib/toy/$n.$CNI_COMMAND.stdin
env > /var/lib/toy/$n.$CNI_COMMAND.env
if [ -f /var/lib/fail-$CNI_COMMAND ]; then
    echo '{"code":11,"msg":"no address for a toy","details":"0 of 9 free"}'
    exit 1
fi
if [ "$CNI_COMMAND" = ADD ]; then
    echo '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.20.8.99/32"}]}'
fi
"#;

/// A chain of two toys.
pub(crate) const TOY_LIST: &str = r#"{"cniVersion":"0.4.0","name":"toys","plugins":[
    {"type":"toy","capabilities":{"io.kubernetes.cri.pod-annotations":true}},{"type":"toy","second":true}]}"#;

/// Two nodes in private subnets of two zones, one in a public one; no daemons, toys for plugins.
pub(crate) const SMALL: &str = r#"
[vpc]
cidrs = ["10.20.0.0/16"]
[[subnets]]
name = "public"
zone = "ap-northeast-2a"
cidr = "10.20.0.0/24"
public = true
[[subnets]]
name = "private-a"
zone = "ap-northeast-2a"
cidr = "10.20.8.0/22"
[[subnets]]
name = "private-b"
zone = "ap-northeast-2b"
cidr = "10.20.16.0/22"
[[nat_gateways]]
name = "nat"
subnet = "public"
[node_defaults]
daemon = { command = [] }
[[nodes]]
name = "a"
subnet = "private-a"
private_ip = "10.20.8.10"
[[nodes]]
name = "a2"
subnet = "private-a"
private_ip = "10.20.8.20"
[[nodes]]
name = "b"
subnet = "private-b"
private_ip = "10.20.16.10"
[[nodes]]
name = "p"
subnet = "public"
private_ip = "10.20.0.10"
public_ip = "203.0.113.10"
"#;

pub(crate) fn vpc_lab() -> PathBuf {
    nobody::programs().join("vpc-lab")
}

pub(crate) fn topology(text: &str) -> Topology {
    TopologyFile::parse(text).unwrap().resolve().unwrap()
}

/// [`SMALL`] with toys on every node.
pub(crate) fn with_toys() -> Topology {
    let mut file = TopologyFile::parse(SMALL).unwrap();
    let placed = |path: &str, text: &str, mode| vpc_lab::topology::FileFile {
        path: path.into(),
        source: None,
        content: Some(text.to_owned()),
        mode: Some(mode),
    };
    file.node_defaults.files =
        vec![placed("/opt/cni/bin/toy", TOY_PLUGIN, 0o755), placed("/etc/cni/net.d/10-toy.conflist", TOY_LIST, 0o644)];
    file.resolve().unwrap()
}

/// A name no other test of this run has.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn options() -> StartOptions {
    StartOptions { name: unique("t"), vpc_lab: Some(vpc_lab()), dies_with_me: true, ..StartOptions::default() }
}

/// A lab that is as it should be.
#[track_caller]
pub(crate) fn start(topology: &Topology) -> Lab {
    let (lab, warnings) = Lab::start(topology, &options()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings, Vec::<String>::new());
    lab
}

/// `vpc-lab` where anybody may run it: the build directory may be closed to others.
pub(crate) fn public_copy(dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let copy = dir.join("vpc-lab");
    std::fs::copy(vpc_lab(), &copy).unwrap();
    for path in [dir, &copy] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    copy
}
