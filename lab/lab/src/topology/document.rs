//! `docs/lab-topology.md` says what the types that read topology files say. Run with `UPDATE_DOCS=1` to write it anew.
//!
//! ```text
//!   doc comments, serde's attributes --schemars--> JSON schema --here--> a table for each kind of table
//!   SAMPLES: one topology in pieces, which the test reads and checks like any other
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::borrow::Cow;
use std::fmt::Write as _;
use std::{env, fs};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde_json::{Map, Value};

use super::outside::Addresses;
use super::{Cidr, TopologyFile};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab-topology.md");

const HEAD: &str = "\
# Topology files

Written by `UPDATE_DOCS=1 cargo test -p vpc-lab --lib topology::document` from the types that read such files; do not edit.

TOML. A key that is not listed here is refused, and the message says which are accepted. Relative host paths start from the
file's folder. `vpc-lab topology` lists the ready ones, `vpc-lab topology NAME` prints one to start your own from. The samples of
this page are one topology in pieces.
";

/// The tables in the order of the page: type, heading, sample.
const SAMPLES: [(&str, &str, &str); 23] = [
    (
        "TopologyFile",
        "The file itself",
        "region = \"ap-northeast-2\"\nprofile = \"aws\"\nseed = 7\nlink_local_pps = 1024\nlatency = { attach = [500, 1200] }\nnames = { \"db.example.com\" = \"10.40.0.10\" }\n",
    ),
    ("VpcFile", "[vpc]", "[vpc]\ncidrs = [\"10.20.0.0/16\", \"100.64.0.0/16\"]\n"),
    (
        "SubnetFile",
        "[[subnets]]",
        "[[subnets]]\nname = \"public-a\"\nzone = \"ap-northeast-2a\"\ncidr = \"10.20.0.0/24\"\npublic = true\n\n[[subnets]]\nname = \"private-a\"\nzone = \"ap-northeast-2a\"\ncidr = \"10.20.8.0/22\"\nroute_table = \"office\"\nreservations = [{ cidr = \"10.20.8.64/26\", kind = \"prefix\" }]\ntags = { tier = \"nodes\" }\n\n[[subnets]]\nname = \"pods-a\"\nzone = \"ap-northeast-2a\"\ncidr = \"100.64.0.0/18\"\n",
    ),
    ("ReservationFile", "A reservation of a subnet", "{ cidr = \"10.20.8.64/26\", kind = \"prefix\" }"),
    (
        "RouteTableFile",
        "[[route_tables]]",
        "[[route_tables]]\nname = \"office\"\nroutes = [\n  { to = \"0.0.0.0/0\", via = \"nat-a\" },\n  { to = \"10.40.0.0/16\", via = \"data\" },\n  { to = \"192.168.0.0/16\", via = \"on-premises\" },\n]\n",
    ),
    ("RouteFile", "A route", "{ to = \"0.0.0.0/0\", via = \"nat-a\" }"),
    ("NatGatewayFile", "[[nat_gateways]]", "[[nat_gateways]]\nname = \"nat-a\"\nsubnet = \"public-a\"\n"),
    (
        "SecurityGroupFile",
        "[[security_groups]]",
        "[[security_groups]]\nname = \"nodes\"\ningress = [\n  { from = \"nodes\" },\n  { protocol = \"tcp\", ports = \"8000-8080\", from = \"10.20.0.0/16\" },\n]\negress = [{ protocol = \"all\", to = \"0.0.0.0/0\" }]\n",
    ),
    ("IngressFile", "A rule of ingress", "{ protocol = \"tcp\", ports = \"8000-8080\", from = \"10.20.0.0/16\" }"),
    ("EgressFile", "A rule of egress", "{ protocol = \"all\", to = \"0.0.0.0/0\" }"),
    (
        "PeeringFile",
        "[[peerings]]",
        "[[peerings]]\nname = \"data\"\ncidrs = [\"10.40.0.0/16\"]\nhosts = [\"10.40.0.10\"]\n",
    ),
    ("OnPremisesFile", "[on_premises]", "[on_premises]\ncidrs = [\"192.168.0.0/16\"]\n"),
    ("ServiceFile", "[[services]]", "[[services]]\nname = \"sts\"\n"),
    (
        "EndpointFile",
        "[[endpoints]]",
        "[[endpoints]]\nservice = \"sts\"\nsubnets = [\"private-a\"]\nsecurity_groups = [\"default\"]\n",
    ),
    (
        "Ec2File",
        "[ec2]",
        "[ec2]\nthrottle = \"aws\"\nbuckets = { CreateNetworkInterface = { capacity = 5, refill_per_second = 1 } }\nlags = { tags = [0, 2000] }\n",
    ),
    ("BucketFile", "A bucket of [ec2]", "{ capacity = 5, refill_per_second = 1 }"),
    ("ImdsFile", "[imds]", "[imds]\nhollow_when_new = true\n"),
    ("RoleFile", "[[roles]]", "[[roles]]\nname = \"node-role\"\npolicy = \"vpc-cni\"\n"),
    (
        "NodeDefaults",
        "[node_defaults]",
        "[node_defaults]\ninstance_type = \"m5.large\"\nsecurity_groups = [\"nodes\", \"default\"]\nenv = { WARM_ENI_TARGET = \"1\" }\ninit = { command = [\"/app/prepare\", \"--once\"], cwd = \"/app\" }\nfiles = [{ path = \"/app/prepare\", content = \"#!/bin/sh\\n\", mode = 0o755 }]\n",
    ),
    (
        "NodeFile",
        "[[nodes]]",
        "[[nodes]]\nname = \"node-a\"\nsubnet = \"private-a\"\nprivate_ip = \"10.20.8.10\"\nmax_pods = 29\nbandwidth_mbps = 750\n",
    ),
    ("CommandFile", "A command", "{ command = [\"/app/prepare\", \"--once\"], cwd = \"/app\" }"),
    ("FileFile", "A file", "{ path = \"/app/prepare\", content = \"#!/bin/sh\\n\", mode = 0o755 }"),
    (
        "objects",
        "[[objects]]",
        "[[objects]]\napiVersion = \"crd.k8s.amazonaws.com/v1alpha1\"\nkind = \"ENIConfig\"\nmetadata = { name = \"ap-northeast-2a\" }\nspec = { subnet = \"${subnet.pods-a}\", securityGroups = [\"${group.nodes}\"] }\n",
    ),
];

/// `{ capacity = 5, refill_per_second = 1 }`
#[derive(JsonSchema)]
#[allow(
    dead_code,
    reason = "only its schema is used: it has the keys of lab_cloud::Bucket, which the sample is read by"
)]
pub(super) struct BucketFile {
    /// Requests that can be made at once.
    capacity: u32,
    /// Requests a second after that.
    refill_per_second: u32,
}

/// As lab_cloud::ReservationKind.
#[derive(JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(super) enum KindFile {
    Prefix,
    Explicit,
}

impl JsonSchema for Cidr {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "IPv4 network"})
    }
}

impl JsonSchema for Addresses {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Addresses".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "IPv4 address, or a list of them"})
    }
}

/// Whether a piece stands in a line of another piece.
fn is_inline(sample: &str) -> bool {
    sample.starts_with('{')
}

fn page() -> String {
    let schema = schema_for!(TopologyFile).to_value();
    let definitions = schema["$defs"].as_object().unwrap();
    let mut text = HEAD.to_owned();
    for (name, heading, sample) in SAMPLES {
        let heading = if heading.starts_with('[') { format!("`{heading}`") } else { heading.to_owned() };
        write!(text, "\n## {heading}\n\n```toml\n{}\n```\n\n", sample.trim_end()).unwrap();
        match name {
            "TopologyFile" => text += &table(&schema, definitions),
            "objects" => writeln!(text, "{}", prose(&schema["properties"]["objects"])).unwrap(),
            _ => text += &table(definitions.get(name).unwrap_or_else(|| panic!("no {name}")), definitions),
        }
    }
    text
}

/// Keys that must be there first, then the others, each by name.
fn table(schema: &Value, definitions: &Map<String, Value>) -> String {
    let required: Vec<&str> =
        schema["required"].as_array().map(|all| all.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
    let properties = schema["properties"].as_object().unwrap();
    let mut keys: Vec<_> = properties.iter().collect();
    keys.sort_by_key(|(key, _)| (!required.contains(&key.as_str()), key.as_str()));
    let mut out = "| Key | Value | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    for (key, property) in keys {
        let default = if required.contains(&key.as_str()) { "must be there".to_owned() } else { default(property) };
        writeln!(out, "| `{key}` | {} | {default} | {} |", values(property, definitions), prose(property)).unwrap();
    }
    out
}

fn prose(schema: &Value) -> String {
    schema["description"].as_str().expect("every key has a doc comment").replace('\n', " ").replace('|', "\\|")
}

/// What stands for a value that is not there; nothing where the text says it, or there is none.
fn default(schema: &Value) -> String {
    match &schema["default"] {
        Value::Null | Value::Object(_) => String::new(),
        Value::Array(list) if list.is_empty() => String::new(),
        other => format!("`{other}`"),
    }
}

/// What values a key takes, for people who write TOML.
fn values(schema: &Value, definitions: &Map<String, Value>) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return match SAMPLES.iter().find(|(own, ..)| *own == name) {
            Some((_, heading, _)) => format!("[{}](#{})", named(heading), anchor(heading)),
            None => values(&definitions[name], definitions),
        };
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let texts = choices.iter().filter(|choice| choice["type"] != "null").map(|choice| match &choice["const"] {
            Value::Null => values(choice, definitions),
            word => match choice["description"].as_str() {
                Some(about) => format!("`{word}`: {}", about.replace('\n', " ")),
                None => format!("`{word}`"),
            },
        });
        return texts.collect::<Vec<_>>().join("<br>");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap(),
        kind => kind.as_str().unwrap_or("anything"),
    };
    match (kind, schema["format"].as_str()) {
        ("string", Some("ipv4")) => "IPv4 address".to_owned(),
        ("string", Some(format)) => format.to_owned(),
        ("string", None) => "text".to_owned(),
        ("integer", _) => "whole number".to_owned(),
        ("boolean", _) => "`true`, `false`".to_owned(),
        ("array", _) => match values(&schema["items"], definitions) {
            items if items.starts_with("[") => items,
            items => format!("list: {items}"),
        },
        ("object", _) => format!("table: name = {}", values(&schema["additionalProperties"], definitions)),
        (other, _) => other.to_owned(),
    }
}

fn named(heading: &str) -> String {
    if heading.starts_with('[') { format!("`{heading}`") } else { heading.to_lowercase() }
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || "_- ".contains(*c)).collect::<String>();
    kept.replace(' ', "-")
}

#[test]
fn the_reference_of_topologies_says_what_the_types_say() {
    let page = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(FILE, &page).unwrap();
    }
    let written = fs::read_to_string(FILE).unwrap_or_default();
    assert!(written == page, "docs/lab-topology.md is out of date: run this test with UPDATE_DOCS=1");
}

#[test]
fn the_samples_are_one_topology_that_can_be_built() {
    let whole: Vec<_> = SAMPLES.iter().map(|(.., sample)| *sample).filter(|sample| !is_inline(sample)).collect();
    let whole = whole.join("\n");
    for (name, _, sample) in SAMPLES {
        assert!(whole.contains(sample), "{name} is in no other sample");
    }
    let topology = TopologyFile::parse(&whole).unwrap_or_else(|e| panic!("{e}")).resolve();
    let topology = topology.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(topology.nodes.len(), 1);
}

#[test]
fn every_kind_of_table_has_its_heading() {
    let schema = schema_for!(TopologyFile).to_value();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        let has = SAMPLES.iter().any(|(own, ..)| own == name);
        assert!(has || definition["properties"].is_null(), "{name}");
    }
}
