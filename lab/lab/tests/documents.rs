//! `docs/lab-faults.md` says what the table of faults says; run with `UPDATE_DOCS=1` to write it anew. `docs/lab.md` lists what EC2
//! answers here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::{env, fs};

use vpc_lab::fault::{Form, Group, KINDS, Key, READY_SCENARIOS, Scenario};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab-faults.md");

const HEAD: &str = "\
# Faults of the lab

Written by `UPDATE_DOCS=1 cargo test -p vpc-lab --test documents` from the table that the lab itself uses; do not edit.

`vpc-lab fault add KIND KEY=VALUE...` begins a fault, `--for TIME` lifts it after a while. In a scenario file the same keys stand in
a step, with `fault = \"KIND\"`. Keys in *italics* may be left out.
";

fn document() -> String {
    let mut text = HEAD.to_owned();
    for (group, title) in [
        (Group::Ec2, "EC2"),
        (Group::Imds, "The metadata service"),
        (Group::Node, "Nodes and what they depend on"),
        (Group::Kernel, "A node's kernel"),
        (Group::Event, "From outside"),
    ] {
        write!(text, "\n## {title}\n\n| Kind | What goes wrong | Keys |\n|---|---|---|\n").unwrap();
        for kind in KINDS.iter().filter(|kind| kind.group == group) {
            let once = if kind.once { "; happens once" } else { "" };
            let keys = kind.keys.iter().map(key).collect::<Vec<_>>().join("<br>");
            writeln!(text, "| `{}` | {}{once} | {keys} |", kind.name, kind.about).unwrap();
        }
    }
    text += "\n## Ready scenarios\n\n| `vpc-lab fault run` | What happens |\n|---|---|\n";
    for ready in READY_SCENARIOS {
        writeln!(text, "| `{}` | {} |", ready.name, Scenario::parse(ready.text).unwrap().about).unwrap();
    }
    text
}

fn key(key: &Key) -> String {
    let name = if key.needed { format!("`{}`", key.name) } else { format!("*`{}`*", key.name) };
    let values = match key.form {
        Form::OneOf(words) => {
            format!(" ({})", words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    };
    format!("{name}{values}: {}", key.about.replace('|', "\\|"))
}

#[test]
fn the_document_of_faults_is_the_table() {
    let document = document();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(FILE, &document).unwrap();
    }
    let written = fs::read_to_string(FILE).unwrap_or_default();
    assert!(written == document, "docs/lab-faults.md is out of date: run this test with UPDATE_DOCS=1");
}

#[test]
fn every_kind_stands_in_the_document_once() {
    let document = document();
    for kind in KINDS {
        assert_eq!(document.matches(&format!("\n| `{}` |", kind.name)).count(), 1, "{}", kind.name);
    }
}

#[test]
fn every_action_of_ec2_is_listed_and_no_other() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab.md")).unwrap();
    let list = text.split("The actions that are served:").nth(1).unwrap().split("\n\n").nth(1).unwrap();
    let listed: Vec<_> =
        list.split([',', '\n', ' ']).map(|word| word.trim_end_matches('.')).filter(|word| !word.is_empty()).collect();
    let served: Vec<_> = vpc_aws::ec2::shapes::catalogue().iter().map(|shape| shape.name).collect();
    let sorted = |mut names: Vec<&'static str>| {
        names.sort_unstable();
        names
    };
    assert_eq!(listed, sorted(served));
}
