//! What the documents say about the programs is what the programs say about themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use e2e::{program, root, skip};

#[test]
fn every_setting_is_documented_with_its_default() {
    let daemon = match program("aws-k8s-agent") {
        Ok(daemon) => daemon,
        Err(reason) => return skip("every_setting_is_documented_with_its_default", &reason),
    };
    let output = Command::new(daemon).arg("--check-config").env_clear().stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "an empty environment is a good one: {output:?}");
    // NAME    value  (default)
    let printed = String::from_utf8(output.stdout).unwrap();
    let honoured: BTreeMap<&str, &str> = printed
        .lines()
        .filter_map(|line| line.strip_suffix("(default)")?.trim().split_once(' '))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    assert!(honoured.len() > 40, "{printed}");

    let text = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let documented: BTreeMap<&str, &str> = text.lines().filter_map(row).collect();
    let default = |cell: &str| match cell.strip_prefix("as ") {
        Some(other) => honoured[other.trim_matches('`')].to_owned(),
        None if cell == "not set" => "-".to_owned(),
        None => cell.trim_matches('`').to_owned(),
    };
    let mut documented: BTreeMap<&str, String> =
        documented.into_iter().map(|(name, cell)| (name, default(cell))).collect();
    // What holds where these are not set depends on others; the page says so in words, beside its tables.
    for (name, written, words, holds) in [
        ("ENABLE_IPv4", "false", "`ENABLE_IPv4` is `true` by default where `ENABLE_IPv6` is not set either", "true"),
        ("POD_MTU", "-", "not set: that of the ENIs", "9001"),
    ] {
        assert!(text.contains(words), "{name}: {words}");
        assert_eq!(documented.insert(name, holds.to_owned()).as_deref(), Some(written), "{name}");
    }
    let honoured: BTreeMap<&str, String> = honoured.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
    assert_eq!(documented, honoured, "docs/configuration.md (left) and --check-config (right)");
}

/// Name and default of a line of a table of settings.
fn row(line: &str) -> Option<(&str, &str)> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let name = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
    let setting = cells.len() == 9 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    setting.then(|| (name, cells[2]))
}

#[test]
fn every_command_of_the_lab_is_documented() {
    const TEST: &str = "every_command_of_the_lab_is_documented";
    let lab = match program("vpc-lab") {
        Ok(lab) => lab,
        Err(reason) => return skip(TEST, &reason),
    };
    let output = Command::new(lab).arg("--help").stdin(Stdio::null()).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().next()).filter(|c| *c != "help").collect();
    assert!(commands.len() >= 10, "{help}");

    let text = fs::read_to_string(root().join("docs/lab.md")).unwrap();
    let silent: Vec<&str> =
        commands.iter().copied().filter(|command| !text.contains(&format!("| `vpc-lab {command}"))).collect();
    assert!(silent.is_empty(), "docs/lab.md says nothing of: {silent:?}");
    let invented = text.lines().filter_map(|line| line.strip_prefix("| `vpc-lab ")?.split([' ', '`']).next());
    let invented: Vec<&str> = invented.filter(|command| !commands.contains(command)).collect();
    assert!(invented.is_empty(), "docs/lab.md speaks of commands that are not there: {invented:?}");
}
