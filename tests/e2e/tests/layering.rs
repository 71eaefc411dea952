//! Who may lean on whom. The folder a crate lives in is its layer; `cargo metadata` says what it leans on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Core,
    Edge,
    Bin,
    Lab,
    Tests,
    Xtask,
}

/// The rule. A test-only dependency obeys it too.
fn may_lean(from: Layer, on: Layer) -> bool {
    match (from, on) {
        // Decisions know nothing of what carries them out; an edge never knows another edge.
        (Layer::Core | Layer::Edge, on) => on == Layer::Core,
        (Layer::Bin, on) => matches!(on, Layer::Core | Layer::Edge),
        (Layer::Lab | Layer::Tests, on) => matches!(on, Layer::Core | Layer::Edge | Layer::Lab),
        (Layer::Xtask, _) => false,
    }
}

/// Our crates that must not come near one another, over any number of steps: what, whom, why.
const APART: &[(&str, &str, &str)] = &[
    ("aws-cni", "vpc-aws", "no cloud on the path of a pod's start"),
    ("aws-cni", "vpc-ipam", "addresses are decided by the daemon alone"),
    ("aws-cni", "vpc-agent", "addresses are decided by the daemon alone"),
    ("aws-cni", "clap", "the plugin has no command line, and starts once for every pod"),
    ("aws-cni", "tracing-subscriber", "the plugin starts once for every pod"),
    ("egress-cni", "vpc-linux", "off, it touches nothing"),
    ("aws-cni", "hyper-rustls", "the plugin speaks to a unix socket"),
];

/// Crates that bring a clock, randomness, a socket, a runtime or the system with them: not in any core crate.
const NOT_IN_CORE: &[&str] =
    &["tokio", "mio", "async-trait", "futures", "hyper", "tonic", "nix", "rand", "getrandom", "chrono", "socket2"];

/// Crates nobody here may use, with what is used in their place. `deny.toml` bans them as well; this test needs no other tool.
const NOWHERE: &[(&str, &str)] = &[
    ("openssl", "rustls with ring"),
    ("openssl-sys", "rustls with ring"),
    ("aws-lc-sys", "ring: one TLS library, and no C build of half a minute"),
    ("aws-sdk-ec2", "the types of edge/aws: the SDK's crate costs minutes and gigabytes to build"),
];

#[test]
fn layers_lean_inward_only() {
    let metadata = metadata();
    let layers = layers(&metadata);
    assert!(layers.len() >= 14, "the workspace has lost crates, or this test cannot see them: {layers:?}");

    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let from = layers[package.name.as_str()];
        for dependency in &package.dependencies {
            let Some(on) = layers.get(dependency.name.as_str()) else { continue };
            if !may_lean(from, *on) {
                wrong.push(format!("{} ({from:?}) leans on {} ({on:?})", package.name, dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "against the layering of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn core_crates_bring_no_outside_with_them() {
    let metadata = metadata();
    let mut wrong = Vec::new();
    for (name, _) in layers(&metadata).into_iter().filter(|(_, layer)| *layer == Layer::Core) {
        let reached = reached(&metadata, &name);
        wrong.extend(
            NOT_IN_CORE.iter().filter(|bad| reached.contains(**bad)).map(|bad| format!("{name} reaches {bad}")),
        );
        // libc itself comes along with innocent crates on some machines (processor features); leaning on it does not.
        wrong.extend(
            leans(&metadata, &name).into_iter().filter(|on| on == "libc").map(|on| format!("{name} leans on {on}")),
        );
    }
    assert!(
        wrong.is_empty(),
        "core crates decide; they have no clock, chance, socket or system:\n{}",
        wrong.join("\n")
    );
}

/// The lab's cloud speaks in the types of `edge/aws`, which bring a runtime along; it uses none itself: a simulator runs the cloud
/// with made-up time. (Its chances come from a seed it is given, so `rand` is fine.) So does that simulator.
#[test]
fn the_labs_cloud_is_a_model() {
    for model in ["lab-cloud", "lab-sim"] {
        let leans = leans(&metadata(), model);
        let wrong: Vec<&str> =
            NOT_IN_CORE.iter().copied().filter(|bad| *bad != "rand" && leans.contains(*bad)).collect();
        assert!(wrong.is_empty(), "{model} leans on {wrong:?}");
    }
}

#[test]
fn what_must_stay_apart_is_apart() {
    let metadata = metadata();
    let broken = APART.iter().filter(|(who, whom, _)| reached(&metadata, who).contains(*whom));
    let broken: Vec<String> = broken.map(|(who, whom, why)| format!("{who} reaches {whom}: {why}")).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn nobody_brings_what_is_banned() {
    let metadata = metadata();
    let used = NOWHERE.iter().filter(|(bad, _)| metadata.packages.iter().any(|package| package.name.as_str() == *bad));
    let used: Vec<String> = used.map(|(bad, instead)| format!("{bad} is in Cargo.lock; use {instead}")).collect();
    assert!(used.is_empty(), "{}", used.join("\n"));
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(e2e::root().join("Cargo.toml"))
        // Only what is built here: other systems' crates are nobody's concern.
        .other_options(["--filter-platform".to_owned(), format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .exec()
        .unwrap()
}

/// Every crate of the workspace with the layer its folder says.
fn layers(metadata: &Metadata) -> BTreeMap<String, Layer> {
    let layer = |manifest: &str| match manifest.split('/').next() {
        Some("core") => Layer::Core,
        Some("edge") => Layer::Edge,
        Some("bin") => Layer::Bin,
        Some("lab") => Layer::Lab,
        Some("tests") => Layer::Tests,
        Some("xtask") => Layer::Xtask,
        other => panic!("{other:?} is not a layer: see ARCHITECTURE.md"),
    };
    let packages = metadata.workspace_packages().into_iter();
    packages
        .map(|package| {
            let manifest = package.manifest_path.strip_prefix(&metadata.workspace_root).unwrap();
            (package.name.to_string(), layer(manifest.as_str()))
        })
        .collect()
}

/// Names of the crates a crate names itself, but for its tests.
fn leans(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let package = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name).unwrap();
    package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal).map(|d| d.name.clone()).collect()
}

/// Names of all crates a crate is built with, over any number of steps; not those of its tests and build scripts.
fn reached(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let graph = metadata.resolve.as_ref().unwrap();
    let names: BTreeMap<&PackageId, &str> =
        metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let start = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name);
    let mut to_see = vec![start.unwrap_or_else(|| panic!("no crate {name} in the workspace")).id.clone()];
    let mut seen = BTreeSet::new();
    while let Some(id) = to_see.pop() {
        let node = graph.nodes.iter().find(|node| node.id == id).unwrap();
        for dependency in &node.deps {
            let linked = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if linked && seen.insert(names[&dependency.pkg].to_owned()) {
                to_see.push(dependency.pkg.clone());
            }
        }
    }
    seen
}
